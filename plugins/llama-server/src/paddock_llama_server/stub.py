"""A llama-server for tests: the same options, paths and log lines, no model, and knobs for what the real one won't do.

Run as a script with the standard library alone; ``write_command`` makes it a command. Knobs are a JSON object, in the
environment variable ``STUB`` and in the model file (`write_model`), whose values win:

- ``load_delay`` seconds until it is ready; ``never_ready``; ``state``: a file to which each start appends a line
- ``exit_after`` seconds, ``exit_code``; ``fail_starts``: the first so many starts exit at once (needs ``state``)
- ``say``: lines for the log (an allocator's words, a bad flag); ``long_line``: bytes of one line
- ``ignore_sigterm``; ``fork``: a child that ignores SIGTERM too; ``fork_away``: one that leaves the process group
- ``tokens`` of an answer, ``delay`` seconds between them, ``die_after`` tokens, ``hold``: wait for ``POST /stub/go``
  behind the first token; ``hog``: bytes of memory

``GET /stub/state`` tells argv, environment, and counts of requests and of those whose client went away; ``POST /stub/exit``
ends the process.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

KNOBS = b"stub.knobs"
MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def write_model(path: Path, **knobs: Any) -> Path:
    """A GGUF file without tensors that carries knobs. Returns its path."""
    entries = ((b"general.architecture", b"stub"), (KNOBS, json.dumps(knobs).encode()))
    body = b"".join(
        struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(text)) + text for key, text in entries
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(entries)) + body)
    return path


def write_command(path: Path) -> Path:
    """An executable that runs the stub with this Python. Returns its path."""
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{Path(__file__).resolve()}" "$@"\n')
    path.chmod(0o755)
    return path


def read_knobs(model: str | None) -> dict[str, Any]:
    """The knobs of the environment and of the model file."""
    knobs: dict[str, Any] = json.loads(os.environ.get("STUB", "{}"))
    content = Path(model).read_bytes() if model and Path(model).is_file() else b""
    at = content.find(KNOBS)
    if at >= 0:
        at += len(KNOBS) + 4
        size = struct.unpack("<Q", content[at : at + 8])[0]
        knobs |= json.loads(content[at + 8 : at + 8 + size])
    return knobs


def log(level: str, text: str) -> None:
    """A line as llama-server writes it."""
    sys.stderr.write(f"0.00.001.000 {level} srv  stub: {text}\n")
    sys.stderr.flush()


class Stub:
    """The server's state."""

    def __init__(self, options: dict[str, str], knobs: dict[str, Any]) -> None:
        self.options = options
        self.knobs = knobs
        self.hog = bytearray()
        self.go = threading.Event()
        self.ready = threading.Event()
        self.keys = [
            key for key in f"{os.environ.get('LLAMA_API_KEY', '')},{options.get('api-key', '')}".split(",") if key
        ]
        self.counts = {"requests": 0, "gone": 0}

    def prepare(self) -> None:
        """What the knobs say about the start."""
        knobs = self.knobs
        for line in knobs.get("say", []):
            log("E", line)
        if knobs.get("long_line"):
            sys.stderr.write("x" * knobs["long_line"] + "\n")
        if "state" in knobs and self._begun() <= knobs.get("fail_starts", 0):
            sys.exit(knobs.get("exit_code", 1))
        if knobs.get("ignore_sigterm"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for knob in ("fork", "fork_away"):
            if knobs.get(knob):
                code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
                subprocess.Popen([sys.executable, "-I", "-S", "-c", code], start_new_session=knob == "fork_away")  # noqa: S603  its own words
        if "exit_after" in knobs:
            threading.Timer(knobs["exit_after"], lambda: os._exit(knobs.get("exit_code", 1))).start()

    def _begun(self) -> int:
        path = Path(self.knobs["state"])
        with path.open("a") as file:
            file.write(f"{os.getpid()} {self.options.get('port')}\n")
        return len(path.read_text().splitlines())

    def serve(self) -> None:
        """Listen, load, answer until a signal."""
        host, port = self.options.get("host", "127.0.0.1"), int(self.options.get("port", "8080"))
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            log("E", f"couldn't bind HTTP server socket, hostname: {host}, port: {port}")
            sys.exit(1)
        listener.listen(128)
        threading.Thread(target=self.load, daemon=True).start()
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=Connection(self, connection).run, daemon=True).start()

    def load(self) -> None:
        """Become ready."""
        log("I", f"loading model '{self.options.get('model')}'")
        self.hog = bytearray(b"x") * self.knobs.get("hog", 0)
        time.sleep(self.knobs.get("load_delay", 0))
        if not self.knobs.get("never_ready"):
            log("I", f"model loaded, listening; {len(self.hog)} bytes held")
            self.ready.set()


class Gone(Exception):
    """The client went away."""


class Connection:
    """One connection; requests follow one another on it."""

    def __init__(self, stub: Stub, connection: socket.socket) -> None:
        self.stub = stub
        self.socket = connection
        self.file = connection.makefile("rb")

    def run(self) -> None:
        """Answer until the client leaves."""
        try:
            while self._one():
                pass
        except (Gone, OSError):
            self.stub.counts["gone"] += 1
        finally:
            self.socket.close()

    def _one(self) -> bool:
        line = self.file.readline().split()
        if len(line) < 3:
            return False
        headers: dict[str, str] = {}
        while (header := self.file.readline().strip()) != b"":
            name, _, value = header.partition(b":")
            headers[name.decode().lower()] = value.strip().decode()
        body = self.file.read(int(headers.get("content-length", 0)))
        self.answer(line[1].decode().partition("?")[0], headers, body)
        return headers.get("upgrade") != "websocket"

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> None:
        """One request."""
        stub = self.stub
        if path in ("/health", "/v1/models") or path.startswith("/stub/"):
            self.public(path)
        elif stub.keys and headers.get("authorization") not in [f"Bearer {key}" for key in stub.keys]:
            self.json({"error": {"message": "Invalid API Key", "type": "authentication_error", "code": 401}}, 401)
        elif not stub.ready.is_set():
            self.json({"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}, 503)
        elif path == "/props":
            self.json({"model_path": stub.options.get("model"), "headers": headers})
        elif headers.get("upgrade") == "websocket":
            self.websocket(headers)
        else:
            stub.counts["requests"] += 1
            self.generate(path, json.loads(body or b"{}"), headers)

    def public(self, path: str) -> None:
        """What needs no key."""
        stub = self.stub
        if path == "/health" and not stub.ready.is_set():
            self.json({"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}, 503)
        elif path == "/v1/models":
            self.json({"object": "list", "data": [{"id": stub.options.get("alias", "stub"), "object": "model"}]})
        elif path == "/stub/state":
            self.json({"argv": sys.argv[1:], "environ": dict(os.environ), "pid": os.getpid(), **stub.counts})
        elif path == "/stub/go":
            stub.go.set()
            self.json({})
        elif path == "/stub/exit":
            self.json({})
            os._exit(stub.knobs.get("exit_code", 1))
        else:
            self.json({"status": "ok"})

    def generate(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> None:
        """An answer of tokens, streamed or whole."""
        if path in ("/v1/embeddings", "/v1/rerank"):
            results = [{"index": 0, "relevance_score": 0.5}]
            self.json({"data": [{"index": 0, "embedding": [0.0, 1.0]}], "results": results, "model": body.get("model")})
            return
        if body.get("stream"):
            self.socket.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
        texts = []
        for number in range(self.stub.knobs.get("tokens", 3)):
            self.pause(number)
            texts.append(f"t{number} ")
            if body.get("stream"):
                self.event({"choices": [{"index": 0, "delta": {"content": texts[-1]}, "finish_reason": None}]}, body)
        message = {"role": "assistant", "content": "".join(texts)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": len(texts), "total_tokens": 1 + len(texts)}
        whole = {
            "id": "stub",
            "object": "chat.completion",
            "created": 0,
            "model": body.get("model"),
            "choices": [choice],
        }
        if body.get("stream"):
            self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage}, body)
            self.chunk(b"data: [DONE]\n\n")
            self.chunk(b"")
        else:
            self.json({**whole, "usage": usage, "got": {"headers": headers, "body": body}})

    def pause(self, number: int) -> None:
        """What the knobs say about the time before a token."""
        knobs = self.stub.knobs
        if number == knobs.get("die_after"):
            os._exit(knobs.get("exit_code", 1))
        if number == 1 and knobs.get("hold"):
            while not self.stub.go.is_set():
                self.look(0.01)
        elif knobs.get("delay"):
            self.look(knobs["delay"])

    def look(self, seconds: float) -> None:
        """Wait, and see whether the client goes away."""
        readable, _, _ = select.select([self.socket], [], [], seconds)
        if readable and not self.socket.recv(1, socket.MSG_PEEK):
            raise Gone

    def event(self, value: dict[str, Any], body: dict[str, Any]) -> None:
        """One event of a stream."""
        value = {"id": "stub", "object": "chat.completion.chunk", "created": 0, "model": body.get("model"), **value}
        self.chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    def chunk(self, data: bytes) -> None:
        """One piece of a chunked body; the empty one ends it."""
        self.socket.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def json(self, value: object, status: int = 200) -> None:
        """A whole reply."""
        body = json.dumps(value).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.socket.sendall(head.encode() + body)

    def websocket(self, headers: dict[str, str]) -> None:
        """Echo messages until a close frame comes, which is echoed too."""
        digest = hashlib.sha1((headers["sec-websocket-key"] + MAGIC).encode()).digest()  # noqa: S324  the protocol's
        offered = headers.get("sec-websocket-protocol", "").split(",")[0].strip()
        chosen = f"Sec-WebSocket-Protocol: {offered}\r\n" if offered else ""
        accept = f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}\r\n"
        head = f"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{accept}{chosen}\r\n"
        self.socket.sendall(head.encode())
        while True:
            first, second = self.file.read(2)
            size = second & 0x7F
            if size > 125:
                size = int.from_bytes(self.file.read(2 if size == 126 else 8), "big")
            mask = self.file.read(4) if second & 0x80 else bytes(4)
            payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(self.file.read(size)))
            extended = b"" if size < 126 else size.to_bytes(2 if size < 65536 else 8, "big")
            length = size if size < 126 else 126 if size < 65536 else 127
            self.socket.sendall(bytes([first, length]) + extended + payload)
            if first & 0x0F == 8:
                return


def read_options(arguments: list[str]) -> dict[str, str]:
    """``--name value`` pairs and bare flags, by name without the dashes."""
    found: dict[str, str] = {}
    for at, argument in enumerate(arguments):
        if argument.startswith("--"):
            following = arguments[at + 1] if at + 1 < len(arguments) else ""
            found[argument[2:]] = "" if following.startswith("--") else following
    return found


def main(arguments: list[str]) -> None:
    """Run."""
    options = read_options(arguments)
    if {"help", "version", "list-devices"} & set(options):
        sys.stdout.write("stub\n")
        return
    if "no-such-flag" in options:
        sys.stderr.write("error: invalid argument: --no-such-flag\n")
        sys.exit(1)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    stub = Stub(options, read_knobs(options.get("model")))
    stub.prepare()
    stub.serve()


if __name__ == "__main__":
    main(sys.argv[1:])
