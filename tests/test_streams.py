"""Replies that arrive piece by piece, over plain ASGI."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from paddock.access import Gatekeeper, StoredKey, digest_of
from paddock.contracts.base import Reply
from paddock.errors import Unauthenticated
from paddock.meter import Meter
from paddock.settings import Auth
from paddock.streams import ClientGone, Hold, Message, Streaming, start_stream, while_client_stays

HOLD = Hold(Streaming(Meter()))


class Client:
    """The other end of an ASGI request; like Granian it takes a second `receive` after a cancelled one for a goodbye."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.begun = asyncio.Event()
        self.sent: list[Message] = []
        self._cancelled = False

    async def receive(self) -> Message:
        """Wait until the client leaves."""
        if not self._cancelled:
            try:
                await self.left.wait()
            except asyncio.CancelledError:
                self._cancelled = True
                raise
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Note the message."""
        self.sent.append(message)
        if message["type"] == "http.response.body":
            self.begun.set()


async def pieces(closed: asyncio.Event, more: asyncio.Event) -> AsyncIterator[bytes]:
    """One piece, and after `more` another."""
    try:
        yield b"one"
        await more.wait()
        yield b"two"
    finally:
        closed.set()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_one_watcher_follows_a_stream_from_its_first_piece_to_its_end(method: str) -> None:
    client, closed, more = Client(), asyncio.Event(), asyncio.Event()
    stream = start_stream(Reply(body=pieces(closed, more)), HOLD)
    answer = await while_client_stays(stream, client.receive, HOLD)
    serving = asyncio.ensure_future(answer({"type": "http", "method": method}, client.receive, client.send))
    await client.begun.wait()
    more.set()
    await serving
    assert closed.is_set()
    assert [message.get("body") for message in client.sent] == (
        [None, b"one", b"two", b""] if method == "GET" else [None, b""]
    )
    assert client.sent[-1]["more_body"] is False


async def test_a_client_that_leaves_ends_the_stream_and_closes_it() -> None:
    client, closed = Client(), asyncio.Event()
    answer = await while_client_stays(
        start_stream(Reply(body=pieces(closed, asyncio.Event())), HOLD), client.receive, HOLD
    )
    serving = asyncio.ensure_future(answer({"type": "http", "method": "GET"}, client.receive, client.send))
    await client.begun.wait()
    client.left.set()
    await serving
    assert closed.is_set()
    assert client.sent[-1]["more_body"] is True


def held(ring: Gatekeeper) -> tuple[Hold, StoredKey]:
    """A hold of the caller with the key ``k``."""
    key = StoredKey(id="k", digest=digest_of("k"), prefix="k", name="k", kind="management", created=1.0)
    ring.keys.add(key)
    return Hold(Streaming(Meter()), ring, key.caller()), key


async def test_a_body_on_its_way_ends_with_the_key_and_the_task_goes_on() -> None:
    ring = Gatekeeper(Auth())
    hold, key = held(ring)
    told = []

    async def reading() -> str:
        try:
            await hold.receiver(asyncio.Event().wait)()  # type: ignore[arg-type]  # nothing is received
        except Unauthenticated as error:
            told.append(error.message)
        await asyncio.sleep(0)  # the cancellation is used up
        return "went on"

    task = asyncio.ensure_future(reading())
    await asyncio.sleep(0)
    assert ring.running("k")
    ring.keys.add(msgspec.structs.replace(key, revoked=2.0))
    ring.end("k")
    assert await task == "went on"
    assert "revoked" in told[0]
    with pytest.raises(Unauthenticated):
        await hold.receiver(asyncio.Event().wait)()  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize("revoked", [False, True])
async def test_a_cancellation_from_elsewhere_stays_one(revoked: bool) -> None:
    ring = Gatekeeper(Auth())
    hold, key = held(ring)
    task = asyncio.ensure_future(hold.receiver(asyncio.Event().wait)())  # type: ignore[arg-type]  # as above
    await asyncio.sleep(0)
    assert ring.running("k")
    if revoked:
        ring.keys.add(msgspec.structs.replace(key, revoked=2.0))
        ring.end("k")
    task.cancel()
    await asyncio.wait((task,))
    assert task.cancelled()


async def test_a_client_that_leaves_before_the_first_piece_cancels_the_work() -> None:
    client, started, cancelled = Client(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    waiting = asyncio.ensure_future(while_client_stays(work(), client.receive, HOLD))
    await started.wait()
    client.left.set()
    with pytest.raises(ClientGone):
        await waiting
    assert cancelled.is_set()
