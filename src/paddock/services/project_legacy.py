"""Older and shorter forms of llamafarm.yaml, brought into the form of `paddock.contracts.config`.

The user's file is never touched by this; `Normal.written` leads errors back to where the user wrote the value. Values of
an unexpected type pass through: the check that follows names them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from paddock.contracts.base import Json
from paddock.errors import FieldError

_LEGACY_RUNTIME = ("provider", "model")
_COMPONENTS = {"embedding": "embedding_strategies", "retrieval": "retrieval_strategies"}


class Normal(msgspec.Struct, kw_only=True):
    """A file in the current form. `moved` pairs places of `values` with the places of the file that they came from."""

    values: dict[str, Json]
    moved: list[tuple[str, str]] = []
    errors: list[FieldError] = []
    warnings: list[str] = []

    def written(self, path: str) -> str:
        """Where the user wrote what stands at `path` of `values`."""
        fitting = [pair for pair in self.moved if path == pair[0] or path.startswith((f"{pair[0]}.", f"{pair[0]}["))]
        if not fitting:
            return path
        new, old = max(fitting, key=lambda pair: len(pair[0]))
        rest = path[len(new) :]
        return f"{old}{rest}" if old else rest.removeprefix(".")


def normalise(raw: dict[str, Json]) -> Normal:
    """Bring a file into the current form. Never raises."""
    normal = Normal(values=dict(raw))
    _runtime(normal)
    _prompts(normal)
    _rag(normal)
    return normal


def _runtime(normal: Normal) -> None:
    runtime = normal.values.get("runtime")
    if not isinstance(runtime, dict):
        return
    models = runtime.get("models")
    if isinstance(models, dict):
        named = [{"name": name, **item} if isinstance(item, dict) else item for name, item in models.items()]
        normal.values["runtime"] = {**runtime, "models": named}
        normal.moved += [(f"runtime.models[{at}]", f"runtime.models.{name}") for at, name in enumerate(models)]
    elif not models and any(key in runtime for key in _LEGACY_RUNTIME):
        only = {key: value for key, value in runtime.items() if key not in ("models", "default_model")}
        normal.values["runtime"] = {"models": [{"name": "default", **only}]}
        normal.moved.append(("runtime.models[0]", "runtime"))


def _prompts(normal: Normal) -> None:
    """A flat list of messages becomes the set ``default``; sets beside them stay."""
    prompts = normal.values.get("prompts")
    if not isinstance(prompts, list) or not any(_is_message(item) for item in prompts):
        return
    messages: list[Json] = []
    sets: list[Json] = []
    for at, item in enumerate(prompts):
        if not _is_message(item):
            normal.moved.append((f"prompts[{len(sets) + 1}]", f"prompts[{at}]"))
            sets.append(item)
            continue
        known = {key: item[key] for key in ("role", "content", "tool_call_id") if key in item}
        normal.warnings += [
            f"prompts[{at}].{key}: kept, without effect on a single message" for key in item.keys() - known
        ]
        normal.moved.append((f"prompts[0].messages[{len(messages)}]", f"prompts[{at}]"))
        messages.append({"role": "system", **known})
    normal.values["prompts"] = [{"name": "default", "messages": messages}, *sets]


def _is_message(item: Json) -> bool:
    return isinstance(item, dict) and "content" in item and "messages" not in item


def _rag(normal: Normal) -> None:
    shared = normal.values.pop("components", None)
    rag = normal.values.get("rag")
    if not isinstance(rag, dict):
        return
    rag = dict(rag)
    own = rag.pop("components", None)
    components = _Components(normal, [("rag.components", own), ("components", shared)])
    if isinstance(rag.get("databases"), list):
        rag["databases"] = [components.database(item, at) for at, item in enumerate(rag["databases"])]
    if isinstance(rag.get("data_processing_strategies"), list):
        rag["data_processing_strategies"] = [
            components.processing(item, at) for at, item in enumerate(rag["data_processing_strategies"])
        ]
    normal.values["rag"] = rag
    components.report_unused()


class _Components:
    """The named, reusable parts, and the places that refer to them."""

    def __init__(self, normal: Normal, sources: list[tuple[str, Json]]) -> None:
        self._normal = normal
        self._parts: dict[tuple[str, str], tuple[str, dict[str, Json]]] = {}
        self._used: set[tuple[str, str]] = set()
        self._defaults: dict[str, tuple[str, Json]] = {}
        for where, value in sources:
            if isinstance(value, dict):
                self._collect(where, value)
            elif value is not None:
                normal.errors.append(FieldError(where, "not a mapping"))

    def _collect(self, where: str, value: dict[str, Json]) -> None:
        for key, items in value.items():
            if key == "defaults" and isinstance(items, dict):
                for kind, name in items.items():
                    self._defaults.setdefault(kind, (f"{where}.defaults.{kind}", name))
            elif key not in ("embedding_strategies", "retrieval_strategies", "parsers", "defaults"):
                self._fail(
                    f"{where}.{key}",
                    "unknown key; known: defaults, embedding_strategies, parsers, retrieval_strategies",
                )
            elif not isinstance(items, list):
                self._fail(f"{where}.{key}", "not a list" if key != "defaults" else "not a mapping")
            else:
                for at, item in enumerate(items):
                    self._add(key, f"{where}.{key}[{at}]", item)

    def _add(self, kind: str, path: str, item: Json) -> None:
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            self._fail(path, "needs a name to be referred to")
        elif (kind, item["name"]) in self._parts:
            self._fail(f"{path}.name", f"{item['name'][:64]!r} is defined twice")
        else:
            self._parts[kind, item["name"]] = (path, item)

    def _fail(self, path: str, reason: str) -> None:
        self._normal.errors.append(FieldError(path, reason))

    def database(self, item: Json, at: int) -> Json:
        """A database with its references replaced by what they name."""
        if not isinstance(item, dict):
            return item
        database = dict(item)
        for kind, key in _COMPONENTS.items():
            self._strategies(database, kind, key, f"rag.databases[{at}]")
        return database

    def _strategies(self, database: dict[str, Any], kind: str, key: str, path: str) -> None:
        reference = database.pop(f"{kind}_strategy", None)
        origin = f"{path}.{kind}_strategy"
        listed = database.get(key)
        if reference is None and not listed and f"{kind}_strategy" in self._defaults:
            origin, reference = self._defaults[f"{kind}_strategy"]
        if listed is not None and not isinstance(listed, list):
            return
        items = [
            self._resolve(key, one, f"{path}.{key}[{at}]", f"{path}.{key}[{at}]") if isinstance(one, str) else one
            for at, one in enumerate(listed or [])
        ]
        if reference is not None:
            part = self._resolve(key, reference, f"{path}.{key}[{len(items)}]", origin)
            if part is not None:
                items.append(part)
                database.setdefault(f"default_{kind}_strategy", reference)
        if items:
            database[key] = [one for one in items if one is not None]

    def processing(self, item: Json, at: int) -> Json:
        """A processing strategy with parsers in full."""
        if not isinstance(item, dict):
            return item
        path = f"rag.data_processing_strategies[{at}].parsers"
        parsers = item.get("parsers")
        if not parsers and "parser" in self._defaults:
            origin, name = self._defaults["parser"]
            parser = self._parser(name, f"{path}[0]", origin)
            return {**item, "parsers": [parser]} if parser is not None else item
        if not isinstance(parsers, list):
            return item
        found = [self._parser(one, f"{path}[{index}]", f"{path}[{index}]") for index, one in enumerate(parsers)]
        return {**item, "parsers": [one for one in found if one is not None]}

    def _parser(self, item: Json, path: str, origin: str) -> Json:
        if isinstance(item, str):
            if ("parsers", item) not in self._parts and (item == "auto" or "Parser" in item):
                item = {"type": item}
            else:
                part = self._resolve("parsers", item, path, origin)
                item = {key: value for key, value in part.items() if key != "name"} if isinstance(part, dict) else None
        if isinstance(item, dict) and "file_exclude_patterns" in item:
            self._normal.warnings.append(f"{origin}.file_exclude_patterns: has no effect: use file_include_patterns")
            item = {key: value for key, value in item.items() if key != "file_exclude_patterns"}
        return item

    def _resolve(self, kind: str, name: Json, path: str, origin: str) -> dict[str, Json] | None:
        known = [one for group, one in self._parts if group == kind]
        if not isinstance(name, str) or (kind, name) not in self._parts:
            self._fail(
                origin, f"{str(name)[:64]!r} is not one of the components' {kind}; known: {', '.join(known) or 'none'}"
            )
            return None
        self._used.add((kind, name))
        where, part = self._parts[kind, name]
        self._normal.moved.append((path, where))
        return dict(part)

    def report_unused(self) -> None:
        """Name the components that nothing refers to: nothing checks them either."""
        for key, (path, _) in self._parts.items():
            if key not in self._used:
                self._normal.warnings.append(f"{path}: nothing refers to it")
