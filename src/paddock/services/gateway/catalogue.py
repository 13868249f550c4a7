"""Which models there are: what each server listed last, asked again in the background.

A server that does not answer keeps what it listed before and is named as unavailable: down is not empty. No request waits
longer than ``gateway.catalogue_wait`` for an answer, and none twice for the same slow server.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from paddock.contracts.providers import ModelInfo
from paddock.errors import PaddockError
from paddock.logs import Log
from paddock.settings import Gateway

Ask = Callable[[], Awaitable[list[ModelInfo]]]
RECENT = 1.0  # seconds; younger answers are good enough to say that there is no such model
LATEST = ":latest"  # a tag that Ollama's users leave out


class Listing:
    """One server's (or source's) models. `error` tells why the last look failed. A source's are shown, but `serves` is
    false: no request leads to them by their bare names."""

    def __init__(self, name: str, ask: Ask, log: Log, *, local: bool = False, serves: bool = True) -> None:
        self.name = name
        self.local = local
        self.serves = serves
        self.models: Sequence[ModelInfo] = ()
        self.names: dict[str, str] = {}  # what requests may call a model, and its own name
        self.error: str | None = None
        self.slow = False
        self._ask = ask
        self._log = log
        self._asked = float("-inf")
        self._looking: asyncio.Task[None] | None = None

    def look(self, older_than: float) -> asyncio.Task[None] | None:
        """Ask again if the answer is older than so many seconds. Returns what runs, None when the answer is fresh."""
        if self._looking is None and time.monotonic() - self._asked >= older_than:
            self._looking = asyncio.create_task(self._look(), name=f"catalogue-{self.name}")
        return self._looking

    async def _look(self) -> None:
        try:
            self._take(await self._ask())
        except PaddockError as error:
            self.error = error.message
        except Exception as error:  # noqa: BLE001  a stranger's code may raise anything; it is reported by name
            self.error = f"its models can't be listed: {type(error).__name__}"
            self._log.crash("catalogue", error)
        finally:
            self._asked, self._looking, self.slow = time.monotonic(), None, False

    def _take(self, models: Sequence[ModelInfo]) -> None:
        self.models, self.error = models, None
        short = {info.id.removesuffix(LATEST): info.id for info in models}
        also = {name: info.id for info in models for name in info.also}
        self.names = {**also, **short, **{info.id: info.id for info in models}}

    async def close(self) -> None:
        """End a look that still runs."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait((self._looking,))


class Catalogue:
    """The listings of all servers."""

    def __init__(self, listings: Sequence[Listing], settings: Gateway) -> None:
        self.listings = listings
        self._settings = settings

    def refresh(self) -> None:
        """Ask those whose answer is old, in the background: nobody waits."""
        for one in self.listings:
            one.look(self._settings.catalogue_ttl)

    async def fresh(self, *, missed: bool = False) -> None:
        """Ask those whose answer is old, and wait for them as long as the settings allow. `missed`: a name was not found,
        and may be new."""
        age = min(self._settings.catalogue_ttl, RECENT) if missed else self._settings.catalogue_ttl
        looks = {}
        for one in self.listings:
            task = one.look(0 if one.local else age)
            if task is not None and not one.slow:
                looks[task] = one
        if looks:
            _, late = await asyncio.wait(looks, timeout=self._settings.catalogue_wait)
            for task in late:
                looks[task].slow = True

    def holders(self, model: str) -> list[tuple[str, str]]:
        """Who lists a model: the server's name and its own name of the model. ``:latest`` may be left out."""
        return [(one.name, one.names[model]) for one in self.listings if one.serves and model in one.names]

    @property
    def unavailable(self) -> list[Listing]:
        """Those that could not be asked, or have not answered yet."""
        return [one for one in self.listings if one.error is not None or one.slow]

    async def close(self) -> None:
        """End the looks that still run."""
        await asyncio.gather(*(one.close() for one in self.listings))
