"""Fits: one at a time, off the loop, the long ones noted on disk so that the next start does what a crash cut short."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import msgspec

from paddock.contracts.base import Json
from paddock.contracts.providers import Host
from paddock.errors import PaddockError, RateLimited

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)
WAITING = 16  # fits that may wait for their turn; each holds its data in memory
ATTEMPTS = 3  # a fit that ends the server this often is given up
_KIND = "fit"


class _Noted(msgspec.Struct):
    request: Json
    attempts: int = 0


class Fits(Generic[R, T]):
    """Runs fits of requests of one type. `run` is idempotent: it may be called again after a crash."""

    def __init__(self, host: Host, request: type[R], run: Callable[[R], Awaitable[T]]) -> None:
        self._host = host
        self._request = request
        self._run = run
        self._turn = asyncio.Semaphore(1)
        self._waiting = 0
        self._resuming: asyncio.Future[None] | None = None

    async def run(self, request: R, *, durable: bool) -> T:
        """Fit and return the outcome. A durable fit is on disk before it begins. Raises what `run` raises, and RateLimited
        when many wait already."""
        if self._waiting >= WAITING:
            raise RateLimited(f"{WAITING} fits are waiting already: fit again when some are done", retry_after=10)
        if not durable:
            return await self._in_turn(request)
        name = secrets.token_hex(8)
        await self._host.records.put(_KIND, name, msgspec.to_builtins(_Noted(msgspec.to_builtins(request))))
        self._host.log("fit_noted")
        return await self._noted(name, request)

    async def _in_turn(self, request: R) -> T:
        self._waiting += 1
        try:
            async with self._turn:
                return await self._run(request)
        finally:
            self._waiting -= 1

    async def _noted(self, name: str, request: R) -> T:
        """Run, and take the note back unless the server ends in between."""
        try:
            outcome = await self._in_turn(request)
        except Exception:
            if not self._host.stopping.is_set():
                await self._host.records.delete(_KIND, name)
            raise
        await self._host.records.delete(_KIND, name)
        return outcome

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While open, do what an earlier run left."""
        work = self._resuming = asyncio.ensure_future(self._resume())
        try:
            yield
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work

    async def settled(self) -> None:
        """Wait until what an earlier run left is done."""
        if self._resuming is not None:
            await asyncio.wait([self._resuming])

    async def _resume(self) -> None:
        for name, body in (await self._host.records.all(_KIND)).items():
            try:
                await self._again(name, msgspec.convert(body, _Noted))
            except (PaddockError, msgspec.ValidationError) as error:
                self._host.log("fit_not_resumed", "error", error=str(error))

    async def _again(self, name: str, noted: _Noted) -> None:
        if noted.attempts >= ATTEMPTS:
            await self._host.records.delete(_KIND, name)
            self._host.log("fit_given_up", "error", attempts=noted.attempts)
            return
        noted.attempts += 1
        await self._host.records.put(_KIND, name, msgspec.to_builtins(noted))
        try:
            request = msgspec.convert(noted.request, self._request)
        except msgspec.ValidationError:
            await self._host.records.delete(_KIND, name)
            raise
        await self._noted(name, request)
        self._host.log("fit_resumed", attempts=noted.attempts)
