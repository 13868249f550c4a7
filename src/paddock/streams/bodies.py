"""Reading a request's body: whole, as it arrives, or away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping

from paddock.errors import TooLarge
from paddock.streams.asgi import Message, Receive
from paddock.streams.leaving import ClientGone

LINGER = 2.0  # seconds that the rest of a refused body is read away


async def read_body(receive: Receive, headers: Mapping[str, str], limit: int | None, setting: str = "") -> bytes:
    """The whole body. Raises TooLarge before reading when Content-Length tells, else as soon as the limit is passed; it names the
    `setting` that the limit is from, if any."""
    pieces = [piece async for piece in body_pieces(receive, headers, limit, setting)]
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def body_pieces(
    receive: Receive, headers: Mapping[str, str], limit: int | None, setting: str = ""
) -> AsyncGenerator[bytes, None]:
    """The body as it arrives, at most `limit` bytes."""
    source = f" (the setting {setting})" if setting else ""
    announced = headers.get("content-length", "")
    if limit is not None and announced.isdigit() and int(announced) > limit:
        raise TooLarge(f"the body has {announced} bytes; at most {limit} are taken here{source}")
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece = message.get("body", b"")
        size += len(piece)
        if limit is not None and size > limit:
            raise TooLarge(f"the body is larger than {limit} bytes, all that is taken here{source}")
        if piece:
            yield piece
        if not message.get("more_body", False):
            return


class BodyWatch:
    """An ASGI `receive` that knows whether the body was read to its end, and can read the rest of it away.

    When an error is answered before the body has arrived, the connection must stay until the client has read the reply:
    a connection that is closed over unread bytes is reset, and the reply is lost with it.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = False

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._ended = True
        return message

    async def drain(self) -> None:
        """Read what still comes, for at most `LINGER` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while not self._ended:
                    await self()
