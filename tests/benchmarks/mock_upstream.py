"""A very fast OpenAI-compatible upstream for benchmarks: ready-made bytes, nothing is parsed but the frame.

    python tests/benchmarks/mock_upstream.py --port 9100 [--chunks 200] [--burst 4]

`POST …/chat/completions` answers a short completion, or a stream of `--chunks` chunks when the body asks for a stream.
`--burst` is the number of chunks in one write: a fast server's chunks share packets, and writing each on its own (1) makes
the mock the bottleneck, at about a quarter of the streams. `GET …/models` lists one
model. Prints ``ready PORT`` when it listens (port 0: any free one).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
from typing import cast

import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_STREAM = re.compile(rb'"stream"\s*:\s*true')
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n%s\r\n"
MODEL = {"id": "mock", "object": "model", "created": 1_700_000_000, "owned_by": "mock"}


def completion() -> bytes:
    """A whole reply, headers and all."""
    message = {"role": "assistant", "content": "Hello from the mock upstream."}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 10, "completion_tokens": 6, "total_tokens": 16}
    return _json({**_common("chat.completion"), "choices": [choice], "usage": usage})


def _common(kind: str) -> dict[str, object]:
    return {"id": "chatcmpl-mock", "object": kind, "created": 1_700_000_000, "model": "mock"}


def _json(value: object) -> bytes:
    body = json.dumps(value).encode()
    return HEAD % (b"application/json", b"Content-Length: %d\r\n" % len(body)) + body


def _chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    data = b"data: " + json.dumps({**_common("chat.completion.chunk"), "choices": [choice]}).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(data), data)


class Replies:
    """The bytes of every reply, made once."""

    def __init__(self, chunks: int, burst: int) -> None:
        self.completion = completion()
        self.models = _json({"object": "list", "data": [MODEL]})
        self.head = HEAD % (b"text/event-stream", b"Transfer-Encoding: chunked\r\n")
        pieces = [_chunk({"role": "assistant", "content": ""})]
        pieces += [_chunk({"content": f"token{number} "}) for number in range(chunks - 2)]
        pieces += [_chunk({}, "stop")]
        self.writes = [b"".join(pieces[at : at + burst]) for at in range(0, len(pieces), burst)]
        self.end = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


class Connection(asyncio.Protocol):
    """One kept-alive connection; requests are answered one after the other."""

    def __init__(self, replies: Replies) -> None:
        self._replies = replies
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its ancestry

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            found = _LENGTH.search(self._buffer, 0, end)
            size = end + 4 + (int(found[1]) if found else 0)
            if len(self._buffer) < size:
                return
            request, self._buffer = self._buffer[:size], self._buffer[size:]
            self._answer(request)

    def _answer(self, request: bytes) -> None:
        assert self._transport is not None
        if request.startswith(b"GET"):
            self._transport.write(self._replies.models)
        elif _STREAM.search(request):
            self._transport.write(self._replies.head)
            self._loop.call_soon(self._step, 0)
        else:
            self._transport.write(self._replies.completion)

    def _step(self, number: int) -> None:
        """Write a piece and let other streams write theirs, as if each token took its time."""
        if self._transport is None:
            return
        if number == len(self._replies.writes):
            self._transport.write(self._replies.end)
            return
        self._transport.write(self._replies.writes[number])
        self._loop.call_soon(self._step, number + 1)


async def serve(port: int, chunks: int, burst: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    replies = Replies(chunks, burst)
    server = await loop.create_server(lambda: Connection(replies), "127.0.0.1", port, backlog=1024)
    print(f"ready {server.sockets[0].getsockname()[1]}", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
    server.close()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--chunks", type=int, default=200, help="chunks of a stream")
    parser.add_argument("--burst", type=int, default=4, help="chunks in one write")
    given = parser.parse_args()
    uvloop.run(serve(given.port, max(2, given.chunks), max(1, given.burst)))


if __name__ == "__main__":
    main()
