"""Which models are in memory: loaded on first use, once for everybody who waits; unloaded when nobody used them for a while,
or when another one needs the room. One that is in use is never unloaded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from paddock.builtin.hub_cache import HubCache
from paddock.errors import BadRequest, ModelNotFound, ProviderUnavailable, ValidationFailed
from paddock_onnx.cache import CachedGraph, Unready, find_graph, repo_of
from paddock_onnx.memory import give_back
from paddock_onnx.model import MIB, Loader, Model, measured
from paddock_onnx.settings import OnnxSettings
from paddock_onnx.trial import Builds, Trials, seen

Fetch = Callable[[str], Awaitable[None]]  # has a model in the cache, or raises ModelNotFound
PATIENCE = 120.0  # seconds that a model waits for room
TURN = 1.0  # seconds of them in which the others take further requests


class _Entry:
    """One model. `model` is set while it is loaded; `size` is reserved from before the loading on. One that is `leaving` takes
    no more requests, so that another one gets its room."""

    def __init__(self, found: CachedGraph) -> None:
        self.found = found
        self.users = 0
        self.last_used = time.monotonic()
        self.size = 0
        self.leaving = False
        self.model: Model | None = None
        self.loading: asyncio.Task[Model] | None = None
        self.timer: asyncio.TimerHandle | None = None


class Residency:
    """Hands out loaded models. For one event loop."""

    def __init__(
        self,
        cache: HubCache,
        settings: OnnxSettings,
        load: Loader = Model.load,
        fetch: Fetch | None = None,
        trials: Trials | None = None,
    ) -> None:
        """`trials` try each model before `load` may, and build those that lack a graph."""
        self.cache = cache
        self._settings = settings
        self._room = settings.memory_mb * MIB
        self._load_model = load
        self._fetch = fetch
        self._trials = trials
        self._builds = None if trials is None else Builds(trials, settings.max_model_mb * MIB)
        self._entries: dict[CachedGraph, _Entry] = {}
        self._changed = asyncio.Condition()
        self._wakers: set[asyncio.Task[None]] = set()
        self.loop: asyncio.AbstractEventLoop | None = None  # set while the server runs, for those who ask from a thread

    async def _find(self, model: str) -> CachedGraph:
        """A model's graph; what is not cached is fetched if the setting ``models.auto_download`` says so, what was fetched as
        weights is built."""
        try:
            return await self._built(model)
        except ModelNotFound:
            if self._fetch is None:
                raise
        await self._fetch(await asyncio.to_thread(repo_of, self.cache, model))
        return await self._built(model)

    async def _built(self, model: str) -> CachedGraph:
        try:
            return await asyncio.to_thread(find_graph, self.cache, model)
        except Unready as error:
            if self._builds is None:
                raise
            unready = error
        try:
            await self._builds.join(unready.folder)
        except ValidationFailed as error:
            raise BadRequest(f"the model {model} can't be run: {error.message}") from error
        return await asyncio.to_thread(find_graph, self.cache, model)

    @asynccontextmanager
    async def using(self, model: str) -> AsyncIterator[Model]:
        """A model for the length of the block, loaded if need be.

        Raises BadName, ModelNotFound, BadRequest (no ONNX file, or damaged ones), ProviderUnavailable (no room).
        """
        entry, loaded = await self._taken(model)
        try:
            yield loaded
        finally:
            self._give_back(entry)

    async def _taken(self, model: str) -> tuple[_Entry, Model]:
        """A model, and that somebody uses it. One that is deleted or imported anew while it is loaded is looked for again."""
        while True:
            found = await self._find(model)
            entry = self._entries.get(found)
            while entry is not None and entry.leaving:
                async with self._changed:
                    await self._changed.wait()
                entry = self._entries.get(found)
            if entry is None:
                entry = self._entries[found] = _Entry(found)
                entry.loading = asyncio.ensure_future(self._load(entry))
                entry.loading.add_done_callback(seen)
            entry.users += 1
            if entry.timer is not None:
                entry.timer.cancel()
            assert entry.loading is not None
            try:
                return entry, await asyncio.shield(entry.loading)
            except (BadRequest, ProviderUnavailable):
                self._give_back(entry)
                if await asyncio.to_thread(found.graph.is_file):
                    raise
            except BaseException:
                self._give_back(entry)
                raise

    async def _load(self, entry: _Entry) -> Model:
        """Make room and load; who waits for it is told what went wrong, and the next request tries again."""
        try:
            size = await asyncio.to_thread(measured, entry.found, self._settings)
            if self._trials is not None:
                await self._trials.need(entry.found, size)
            await self._make_room(entry, size)
            model = entry.model = await asyncio.to_thread(self._load_model, entry.found, self._settings)
        except ValidationFailed as error:
            self._forget(entry)
            raise BadRequest(f"the model {entry.found.id} can't be used: {error.message}") from error
        except OSError as error:
            self._forget(entry)
            raise ProviderUnavailable(f"the model {entry.found.id} can't be read: {error.strerror}") from error
        except BaseException:
            self._forget(entry)
            raise
        self._rest(entry)  # everybody who waited may have left
        return model

    async def _make_room(self, entry: _Entry, size: int) -> None:
        turn = asyncio.get_running_loop().time() + TURN
        try:
            async with asyncio.timeout(PATIENCE), self._changed:
                while sum(one.size for one in self._entries.values()) + size > self._room:
                    if not self._evict_one():
                        await self._wait_for_room(turn)
                entry.size = size
        except TimeoutError as error:
            raise ProviderUnavailable(
                f"no room for the model {entry.found.id} beside those in use: the setting onnx.memory_mb allows "
                f"{self._settings.memory_mb} MiB"
            ) from error
        finally:
            for one in self._entries.values():
                one.leaving = False
            self._wake()

    def _evict_one(self) -> bool:
        """Unload the least recently used model that nobody uses."""
        idle = [one for one in self._entries.values() if one.model is not None and not one.users]
        if idle:
            self._forget(min(idle, key=lambda one: one.last_used))
        return bool(idle)

    async def _wait_for_room(self, turn: float) -> None:
        """Until something changed. From the time `turn` on, models that are always in use take no more requests, one after
        another: those who come meanwhile wait until it is theirs again."""
        late = asyncio.get_running_loop().time() >= turn
        staying = [one for one in self._entries.values() if one.size and not one.leaving]
        if late and staying:
            min(staying, key=lambda one: one.last_used).leaving = True
        with suppress(TimeoutError):
            async with asyncio.timeout_at(None if late else turn):
                await self._changed.wait()

    def _give_back(self, entry: _Entry) -> None:
        entry.users -= 1
        entry.last_used = time.monotonic()
        self._rest(entry)

    def _rest(self, entry: _Entry) -> None:
        """What happens to a model that nobody uses any more."""
        if entry.users == 0 and entry.model is not None:
            newer = any(one.id == entry.found.id and one != entry.found for one in self._entries)
            if newer:  # the model was imported anew meanwhile
                self._forget(entry)
                return
            loop = asyncio.get_running_loop()
            if entry.timer is not None:
                entry.timer.cancel()
            entry.timer = loop.call_later(self._settings.idle_seconds, self._expire, entry)
            self._wake()

    def _expire(self, entry: _Entry) -> None:
        if not entry.users:
            self._forget(entry)

    def _forget(self, entry: _Entry) -> None:
        if self._entries.get(entry.found) is entry:
            del self._entries[entry.found]
        if entry.timer is not None:
            entry.timer.cancel()
        loaded = entry.model is not None
        entry.model, entry.size = None, 0
        self._wake(freed=loaded)

    def _wake(self, *, freed: bool = False) -> None:
        """Tell those who wait for room."""
        task = asyncio.ensure_future(self._tell(freed=freed))
        self._wakers.add(task)
        task.add_done_callback(self._wakers.discard)

    async def _tell(self, *, freed: bool) -> None:
        async with self._changed:
            self._changed.notify_all()
        if freed:
            await asyncio.to_thread(give_back)

    def loaded(self) -> list[Model]:
        """Those in memory."""
        return [one.model for one in self._entries.values() if one.model is not None]

    def unload(self, model: str | None = None) -> list[str]:
        """Unload a model by its id, or all; those in use stay. Returns which went."""
        gone = [
            one
            for one in self._entries.values()
            if one.model is not None and not one.users and model in (None, one.found.id)
        ]
        for entry in gone:
            self._forget(entry)
        return [entry.found.id for entry in gone]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The time in which other threads may ask."""
        self.loop = asyncio.get_running_loop()
        try:
            yield
        finally:
            self.loop = None

    async def close(self) -> None:
        """Unload all; what is being loaded ends first, and what is tried or built at once."""
        if self._trials is not None:
            await self._trials.close()
        loading = [one.loading for one in self._entries.values() if one.loading is not None]
        await asyncio.gather(*loading, return_exceptions=True)
        for entry in list(self._entries.values()):
            self._forget(entry)
        await asyncio.gather(*self._wakers, return_exceptions=True)
