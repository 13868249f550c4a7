"""Names to model servers, in the order that holds everywhere: an alias of the settings, a name that a server claims (an
instance, an alias of an upstream), ``provider/model``, a name that exactly one catalogue knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import msgspec

from paddock.builtin.model_names import parse_model
from paddock.contracts.base import Caller
from paddock.contracts.providers import ModelServer, Operation
from paddock.errors import BadName, BadRequest, FieldError, Forbidden, ModelNotFound, ValidationFailed
from paddock.services.gateway.catalogue import Catalogue, Listing

NEAR = 5  # names that an error suggests
MOST_COMPARED = 2000
LONGEST = 1024  # characters of a model's name


class Route(msgspec.Struct, frozen=True):
    """Where a request goes: the server, and its own name of the model. `qualified` names both."""

    server: ModelServer
    model: str
    qualified: str


class Directory:
    """All servers by name. `aliases` and `fallbacks` are the settings'; with `fetching` a name that is nobody's goes to a
    server that fetches it."""

    def __init__(
        self,
        servers: Sequence[ModelServer],
        catalogue: Catalogue,
        aliases: dict[str, str],
        fallbacks: dict[str, tuple[str, ...]],
        *,
        fetching: bool = False,
    ) -> None:
        """Raises ValidationFailed for aliases that lead in a circle."""
        self.servers = {one.name: one for one in servers}
        self.catalogue = catalogue
        self.aliases = {name: _end_of(name, aliases) for name in aliases}
        self._fallbacks = fallbacks
        self._fetching = fetching
        self._claiming = [one for one in servers if type(one).claims is not ModelServer.claims]

    async def routes(self, asked: str, caller: Caller, operation: Operation) -> list[Route]:
        """Where a request for `asked` goes, first what it names, then its fallbacks that the caller may use too.

        Raises Forbidden, ModelNotFound with near matches, BadRequest when several servers have a model of that name.
        """
        first = await self.find(asked, caller, operation)
        further = self._further(asked, first) if self._fallbacks else ()
        if not further:
            return [first]
        found = [first]
        for name in further:
            try:
                found.append(await self.find(name, caller))
            except (ModelNotFound, BadRequest):
                continue
        return found

    def _further(self, asked: str, first: Route) -> tuple[str, ...]:
        """The settings may call the model as the request does, or by any other of its names."""
        names = (asked, self.aliases.get(asked, asked), first.qualified, first.model)
        return next((found for name in names if (found := self._fallbacks.get(name))), ())

    async def find(self, asked: str, caller: Caller, operation: Operation | None = None) -> Route:
        """Where one name leads; with an `operation` also one that is not here yet. Raises as `routes`."""
        _check_kind(caller)
        name = self.aliases.get(asked, asked)
        route = self._named(name)
        if route is None:
            route = self._listed(name, asked, caller)
        if route is None:
            await self.catalogue.fresh(missed=True)
            route = self._listed(name, asked, caller)
        if route is None and self._unserved(name, asked, caller):
            raise ModelNotFound(
                f"the model {asked[:100]!r} is in the cache, but no server here answers with it: it does something else, or "
                "has no file that can be run"
            )
        if route is None and operation is not None and self._fetching:
            takers = (one for one in self.servers.values() if one.fetches(name, operation))
            route = next((Route(one, name, f"{one.name}/{name}") for one in takers), None)
        if route is None or not may_use(caller, asked, route.qualified):
            raise ModelNotFound(self._unknown(asked, caller))
        return route

    async def known(self, asked: str, caller: Caller) -> Route | None:
        """Where the name of a model leads that is there; None for one in the cache that no server answers with. Unlike `find`
        it does not trust ``provider/model``: raises ModelNotFound when that provider lists no such model either."""
        await self.catalogue.fresh(missed=True)
        name = self.aliases.get(asked, asked)
        route = self._named(name) or self._listed(name, asked, caller)
        if route is not None and self._has(route):
            return route
        if not self._unserved(name.removeprefix(f"{route.server.name}/") if route else name, asked, caller):
            raise ModelNotFound(self._unknown(asked, caller))
        return None

    def _has(self, route: Route) -> bool:
        """Whether a server knows the model that a name leads to, as far as it can be asked."""
        listed = (one for one in self.catalogue.listings if one.name == route.server.name)
        known = any(route.model in one.names or one.error is not None for one in listed)
        return known or route.model in route.server.loaded()

    def _named(self, name: str) -> Route | None:
        """A name that says itself where it leads."""
        for server in self._claiming:
            own = server.claims(name)
            if own is not None:
                return Route(server, own, f"{server.name}/{own}")
        prefix, slash, rest = name.partition("/")
        found = self.servers.get(prefix) if slash and rest else None
        if found is None or len(rest) > LONGEST:
            return None
        own = found.claims(rest) or rest
        return Route(found, own, f"{prefix}/{own}")

    def _listed(self, name: str, asked: str, caller: Caller) -> Route | None:
        """A name that a catalogue knows."""
        self.catalogue.refresh()
        holders = [
            (server, own)
            for server, own in self.catalogue.holders(name)
            if server in self.servers and may_use(caller, asked, f"{server}/{own}")
        ]
        if len(holders) > 1:
            names = ", ".join(f"{server}/{own}" for server, own in holders)
            raise BadRequest(f"several providers have a model {name[:100]!r}: name one of {names}")
        for server, own in holders:
            return Route(self.servers[server], own, f"{server}/{own}")
        return None

    def _unserved(self, name: str, asked: str, caller: Caller) -> bool:
        """Whether a model is only kept."""
        kept = [one for one in self.catalogue.listings if not one.serves and name in one.names]
        return any(may_use(caller, asked, f"{one.name}/{one.names[name]}") for one in kept)

    def names(self, caller: Caller) -> list[str]:
        """Every name that the caller may use: aliases, and each listed model by its shortest name."""
        aliases = [name for name in self.aliases if may_use(caller, name, name)]
        return aliases + [name for name, _, _ in self.listed(caller)]

    def listed(self, caller: Caller) -> list[tuple[str, Listing, int]]:
        """The listed models that the caller may use: the shortest name that leads to it, its listing, its place there."""
        count: dict[str, int] = {}
        for one in self.catalogue.listings:
            if one.serves:
                for info in one.models:
                    count[info.id] = count.get(info.id, 0) + 1
        found = []
        for one in self.catalogue.listings:
            for place, info in enumerate(one.models):
                qualified = f"{one.name}/{info.id}"
                name = qualified if count.get(info.id, 0) > 1 or self._hidden(one.name, info.id) else info.id
                if may_use(caller, name, qualified):
                    found.append((name, one, place))
        return found

    def served_files(self) -> set[str]:
        """The ids of cached files that a server lists as its models."""
        listings = [one for one in self.catalogue.listings if one.serves]
        return {info.details["model_id"] for one in listings for info in one.models if "model_id" in info.details}

    def _hidden(self, server: str, model: str) -> bool:
        """Whether the bare name leads elsewhere."""
        route = self._named(self.aliases.get(model, model))
        return route is not None and (route.server.name, route.model) != (server, model)

    def _unknown(self, asked: str, caller: Caller) -> str:
        known = (name for name in self.names(caller)[:MOST_COMPARED] if name != asked)  # listed, not served
        near = nearest(asked[:100], known)
        hint = f"near matches: {', '.join(near)}" if near else "GET /v1/models lists what there is"
        text = f"there is no model {asked[:100]!r}; {hint}"
        if caller.scope is not None:
            return text
        if wanted := _of_a_hub(asked):
            text += f"; a hub may have it: fetch it with `paddock models download {wanted}`"
        silent = [one.name for one in self.catalogue.unavailable]
        return f"{text}. Not reached: {', '.join(silent)}" if silent else text


def nearest(asked: str, known: Iterable[str]) -> list[str]:
    """The names most like `asked`, each once; large and small letters are alike, and ``org/`` may be left out."""
    forms: dict[str, str] = {}
    for name in known:
        whole = name.lower()
        for form in (whole.rpartition("/")[2], whole):
            forms.setdefault(form, name)
    found = difflib.get_close_matches(asked.lower(), forms, 2 * NEAR, 0.5)
    return list(dict.fromkeys(forms[form] for form in found))[:NEAR]


def _of_a_hub(name: str) -> str | None:
    """What a hub calls the model, short names of sentence-transformers completed; None for what is no name of a hub's."""
    try:
        wanted = parse_model(name).completed()
    except BadName:
        return None
    return str(wanted) if "/" in wanted.repo else None


def may_use(caller: Caller, asked: str, qualified: str) -> bool:
    """Whether a caller may use a model, which its key may name as requests do or as ``provider/model``."""
    return caller.scope is None or caller.may_use(asked) or caller.may_use(qualified)


def _check_kind(caller: Caller) -> None:
    scope = caller.scope
    if scope is not None and scope.models is None and scope.projects is not None:
        raise Forbidden("this key is for projects; the gateway needs a key without limits, or one for models")


def _end_of(name: str, aliases: dict[str, str]) -> str:
    seen = [name]
    while (target := aliases.get(seen[-1])) is not None:
        if target in seen:
            reason = f"they lead in a circle: {' -> '.join([*seen, target])}"
            raise ValidationFailed.of([FieldError("gateway.aliases", reason)])
        seen.append(target)
    return seen[-1]
