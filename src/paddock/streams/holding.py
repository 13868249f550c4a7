"""What ends work before its time: the shutdown, and the end of a credential."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

from paddock.access import Gatekeeper
from paddock.access.gatekeeper import OVER
from paddock.contracts.base import Caller
from paddock.errors import PaddockError, ProviderUnavailable, Unauthenticated
from paddock.meter import Meter
from paddock.settings import Auth
from paddock.streams.asgi import Message, Receive


class Streaming:
    """The streams that are open, so that a shutdown can end them: Granian waits for them for ever otherwise.

    `patience` is how many seconds a client may leave a piece unread; 0 is for ever.
    """

    def __init__(self, meter: Meter, patience: float = 0) -> None:
        self._meter = meter
        self.patience = patience
        self._open: set[asyncio.Future[None]] = set()
        self._stopping = False

    def stop(self) -> None:
        """End every open stream; each sends its closing piece."""
        self._stopping = True
        for task in self._open:
            task.cancel()

    @property
    def stopping(self) -> bool:
        """Whether the server is shutting down."""
        return self._stopping

    @contextlib.contextmanager
    def holding(self, task: asyncio.Future[None]) -> Iterator[None]:
        """Keep a stream's task on the list while it runs; one that comes when the server shuts down ends at once."""
        self._open.add(task)
        self._meter.open_streams += 1
        if self._stopping:
            task.cancel()
        try:
            yield
        finally:
            self._open.discard(task)
            self._meter.open_streams -= 1


class Hold:
    """What ends the work of one request before its time: the shutdown, and the end of the caller's key or token (of none
    without a keeper)."""

    __slots__ = ("_caller", "_keeper", "_streaming")

    def __init__(self, streaming: Streaming, keeper: Gatekeeper | None = None, caller: Caller = Caller()) -> None:  # noqa: B008  frozen
        self._streaming = streaming
        self._keeper = keeper or Gatekeeper(Auth())
        self._caller = caller

    @contextlib.contextmanager
    def holding(self, task: asyncio.Future[None]) -> Iterator[None]:
        """Cancel a stream's or conversation's task when either comes; `reason` tells which it was."""
        with self._streaming.holding(task), self._keeper.holding(self._caller, task):
            yield

    def credential(self, task: asyncio.Future[Any]) -> contextlib.AbstractContextManager[None]:
        """Cancel a task when the credential ends; whole replies may go on while the server shuts down."""
        return self._keeper.holding(self._caller, task)

    @property
    def patience(self) -> float:
        """How many seconds a client may leave a piece unread; 0 is for ever."""
        return self._streaming.patience

    @property
    def over(self) -> bool:
        """Whether the credential was revoked or has expired since the caller was admitted."""
        return not self._keeper.stands(self._caller)

    @property
    def stopping(self) -> bool:
        """Whether the server is shutting down."""
        return self._streaming.stopping

    @property
    def reason(self) -> PaddockError:
        """Why the task was cancelled."""
        return Unauthenticated(OVER) if self.over else ProviderUnavailable("the server is shutting down")

    def receiver(self, receive: Receive) -> Receive:
        """A `receive` that raises Unauthenticated when the credential ends while a body is on its way."""
        if self._caller.key_id is None:
            return receive

        async def receiving() -> Message:
            task = asyncio.current_task()
            assert task is not None
            if self.over:
                raise self.reason
            try:
                with self.credential(task):
                    return await receive()
            except asyncio.CancelledError:
                over = not self._keeper.stands(self._caller)
                if over and not task.uncancel():  # nobody else ends the task
                    raise self.reason from None
                raise

        return receiving
