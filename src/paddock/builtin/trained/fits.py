"""Fits: one at a time, in the order in which they were accepted, each to its end also when nobody waits for it any more.

A fit is on disk before it begins, so that the next start does what the end of the server cut short.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import msgspec

from paddock.builtin.trained.files import ModelFiles
from paddock.builtin.trained.names import stored_name
from paddock.contracts.base import Json
from paddock.contracts.fits import Fitting
from paddock.contracts.providers import Host
from paddock.errors import PaddockError, ProviderUnavailable, RateLimited, ValidationFailed

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)
WAITING = 16  # fits that may wait for their turn; each holds its data in memory
ATTEMPTS = 3  # a fit that ends the server this often is given up
SLICE = 1000  # rows that are encoded at once: the interpreter is kept for some milliseconds
_NOTE, _REQUEST = "fit", "fit_request"  # kinds of records


class _Note(msgspec.Struct):
    """What is on disk beside a fit's request. `attempts` counts how often it was begun and neither ended nor stopped."""

    fitting: Fitting
    attempts: int = 0


class _Fit(Generic[R]):
    """An accepted fit; `name` is that of its records. One that an earlier run left reads its request when its turn comes."""

    def __init__(self, name: str, note: _Note, request: R | None) -> None:
        self.name = name
        self.note = note
        self.request = request
        self.resumed = request is None


class Fits(Generic[R, T]):
    """Runs fits of requests of one type. `run` is idempotent: it may be called again after a crash. `about` describes a
    request."""

    def __init__(
        self, host: Host, request: type[R], run: Callable[[R], Awaitable[T]], about: Callable[[R], Fitting]
    ) -> None:
        self._host = host
        self._request = request
        self._run = run
        self._about = about
        self._works: dict[asyncio.Task[T], _Fit[R]] = {}

    def under_way(self) -> list[Fitting]:
        """The fits that are not done, in their order."""
        return [fit.note.fitting for fit in self._works.values()]

    async def name_for(self, name: str, files: ModelFiles, *, overwrite: bool) -> str:
        """The name that a fit under ``/v1/ml`` stores: unless it overwrites a version that no model has or will get.
        Raises BadName."""
        coming = self._names()
        taken = {key[0] for key in await asyncio.to_thread(files.keys, name)}
        return stored_name(name, coming | taken | self._names(), overwrite=overwrite)

    def _names(self) -> set[str]:
        return {fitting.model for fitting in self.under_way()}

    async def run(self, request: R) -> T:
        """Fit and return the outcome; accepted before the first wait. Raises what `run` raises, RateLimited when many wait
        already, and ProviderUnavailable (the server stops, the disk is full)."""
        if len(self._works) >= WAITING:
            raise RateLimited(f"{WAITING} fits are waiting already: fit again when some are done", retry_after=10)
        fitting = self._about(request)
        fitting.since = time.time()
        fit = _Fit(secrets.token_hex(8), _Note(fitting), request)
        return await asyncio.shield(self._accept(fit))

    def _accept(self, fit: _Fit[R]) -> asyncio.Task[T]:
        before = next(reversed(self._works), None)
        task = asyncio.ensure_future(self._work(fit, before))
        self._works[task] = fit
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[T]) -> None:
        del self._works[task]
        if not task.cancelled():
            task.exception()  # looked at: its client may have left

    async def _work(self, fit: _Fit[R], before: asyncio.Task[T] | None) -> T:
        """The fit in its turn; its note goes unless the server ends in between."""
        try:
            if fit.request is not None:
                await self._keep(fit, fit.request)
            if before is not None:
                await asyncio.wait((before,))
            outcome = await self._in_turn(fit)
        except Exception as error:
            if self._host.stopping.is_set() and isinstance(error, ProviderUnavailable):
                raise await self._stopped(fit) from error
            await self._done(fit, error)
            raise
        await self._done(fit)
        return outcome

    async def _in_turn(self, fit: _Fit[R]) -> T:
        if self._host.stopping.is_set():
            raise ProviderUnavailable("the server is stopping")
        fit.note.attempts += 1
        fit.note.fitting.state = "running"
        await self._put_note(fit)
        return await self._run(await self._kept(fit) if fit.request is None else fit.request)

    async def _kept(self, fit: _Fit[R]) -> R:
        """The request of a fit that an earlier run left. Raises ValidationFailed when it is not there whole."""
        try:
            return msgspec.convert(await self._host.records.get(_REQUEST, fit.name), self._request)
        except msgspec.ValidationError as error:
            lost = ValidationFailed(
                "the server ended before the fit was noted whole, or was another version: fit again"
            )
            self._host.record("fit_given_up", error=lost, model=fit.note.fitting.model)
            raise lost from error

    async def _put_note(self, fit: _Fit[R]) -> None:
        await self._host.records.put(_NOTE, fit.name, msgspec.to_builtins(fit.note))

    async def _keep(self, fit: _Fit[R], request: R) -> None:
        """Write the note and then the request: a note without a request is of a fit that was not accepted yet."""
        await self._put_note(fit)
        await self._host.records.put(_REQUEST, fit.name, await asyncio.to_thread(encoded, request))
        self._host.log("fit_noted", model=fit.note.fitting.model)

    async def _stopped(self, fit: _Fit[R]) -> ProviderUnavailable:
        """The server is stopping, which is no fault of the fit."""
        if fit.note.fitting.state == "running":
            fit.note.attempts -= 1
            await self._put_note(fit)
        return ProviderUnavailable("the server is stopping: the fit is noted, and is done when it is back")

    async def _done(self, fit: _Fit[R], error: Exception | None = None) -> None:
        await self._forget(fit.name)
        model, attempts = fit.note.fitting.model, fit.note.attempts
        if fit.resumed and error is None:
            self._host.log("fit_resumed", model=model, attempts=attempts)
        elif fit.resumed:
            shown = error.message if isinstance(error, PaddockError) else repr(error)
            self._host.log("fit_not_resumed", "error", model=model, error=shown)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While open, do what an earlier run left, before what is asked for now."""
        for name, body in (await self._host.records.all(_NOTE)).items():
            await self._take_up(name, body)
        try:
            yield
        finally:
            if not self._host.stopping.is_set():  # the start failed: nobody tells the fits to stop
                for work in self._works:
                    work.cancel()
            await self.settled()

    async def _take_up(self, name: str, body: Json) -> None:
        try:
            note = msgspec.convert(body, _Note)
        except msgspec.ValidationError:
            note = _Note(Fitting(model="", samples=0), ATTEMPTS)  # another version's
        if note.attempts < ATTEMPTS:
            note.fitting.state = "waiting"
            self._accept(_Fit(name, note, None))
            return
        why = f"the server ended {note.attempts} times during this fit: look at its log and memory, fit fewer examples"
        self._host.log("fit_given_up", "error", model=note.fitting.model, attempts=note.attempts)
        self._host.record("fit_given_up", error=why, model=note.fitting.model)
        await self._forget(name)

    async def _forget(self, name: str) -> None:
        await self._host.records.delete(_REQUEST, name)
        await self._host.records.delete(_NOTE, name)

    async def settled(self) -> None:
        """Wait until the fits that were accepted are done."""
        if self._works:
            await asyncio.wait(list(self._works))


def encoded(request: msgspec.Struct) -> msgspec.Raw:
    """The request as JSON, its lists a slice at a time: a thread that encodes lets others run in between."""
    encode = msgspec.json.encode
    parts = []
    for field in msgspec.structs.fields(request):
        value = getattr(request, field.name)
        if isinstance(value, list):
            slices = [encode(value[at : at + SLICE])[1:-1] for at in range(0, len(value), SLICE)]
            value = msgspec.Raw(b"[%b]" % b",".join(slices))
        parts.append(b"%b:%b" % (encode(field.encode_name), encode(value)))
    return msgspec.Raw(b"{%b}" % b",".join(parts))
