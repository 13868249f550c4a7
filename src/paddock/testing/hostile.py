"""Bodies that no client library would send, made of a good one: for tests that walk endpoints.

::

    for what, body in hostile_bodies({"model": "a", "texts": ["b"]}):
        reply = await server.ask("POST", "/v1/classify", data=io.BytesIO(body))
        check_refusal(reply, what)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from paddock.testing.server import Answered

LONGEST = 2000  # characters of an error's message
STEP = 4  # within a field's value only every fourth value stands in each place
# Written as JSON.
RAW = (
    b"1" + b"0" * 400, b"1e400", b"-0.0", b"-1", b"1.5", b"18446744073709551616", b"-9223372036854775809", b"NaN", b"Infinity",
    rb'"\u0000"', rb'"\ud800"', rb'"\udc00\ud800"', rb'"a\r\nX: y"', b'"' + b"x" * 70_000 + b'"', rb'"\u202e\u2066"',
    b'"../../etc/passwd"', b'"..%2f..%2fetc"', b'"/etc/passwd"', b'"{{7*7}}"', b'"\xff"', b"[" * 100_000,
    b"[" * 900 + b"]" * 900, b'{"a":' * 900 + b"1" + b"}" * 900, b"[]", b"[null]", b"[[]]", b"[{}]", b"{}", b"null", b"true",
    b'""', b'"*"', b'"file:///etc/passwd"', b'"http://169.254.169.254/"', b'"data:text/html;base64,PGI+"', b'{"gte": 1e308}',
    rb'"\u001b]0;x\u0007"', b'{"a": 1, "a": 2}', b"[" + b",".join([b'"a"'] * 100_000) + b"]", b"[[1,2],[1]]", b"[[1e308,-1e39]]",
)  # fmt: skip


def hostile_bodies(good: Any) -> Iterator[tuple[str, bytes]]:
    """What is wrong, and the body: other values in every place, fields missing, unknown, twice; text that is no JSON."""
    text = json.dumps(good).encode()
    for number, place in enumerate(places(good)):
        for raw in RAW if len(place) < 2 else RAW[number % STEP :: STEP]:
            yield f"{raw[:40]!r} in {place}", changed(good, place, raw)
        if place and isinstance(place[-1], str):
            yield f"{place} missing", changed(good, place, None)
    key = json.dumps(next(iter(good))).encode()
    yield "an unknown field", text[:-1] + b', "' + b"z" * 70_000 + b'": 1}'
    yield "a field twice", text[:-1] + b", " + key + b": 5}"
    yield "the end cut", text[:-3]
    yield "more behind the end", text + b"x"
    yield "UTF-16", json.dumps(good).encode("utf-16")
    yield "nothing", b""


def check_refusal(reply: Answered, what: str, *secret: str) -> None:
    """Fail unless it is a success or an error of the caller in the shape of an API of ours, bounded and without `secret`
    (folders of the server)."""
    assert reply.status < 500 or reply.status == 503, (what, reply.status, reply.body[:500])
    assert b"Traceback" not in reply.body, what
    if reply.status >= 400:
        found = reply.json()
        message = found["detail"] if "detail" in found else found["error"]["message"]
        assert isinstance(message, str), what
        assert len(message) <= LONGEST, (what, message[:200])
        assert not [one for one in secret if one in message], (what, message)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value within a value."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


def changed(body: Any, place: tuple[Any, ...], raw: bytes | None) -> bytes:
    """The body with the bytes in that place, or without that field."""
    copy = json.loads(json.dumps(body))
    node = copy
    for key in place[:-1]:
        node = node[key]
    if not place:
        return raw or b""
    if raw is None:
        del node[place[-1]]
        return json.dumps(copy).encode()
    node[place[-1]] = "@@"
    return json.dumps(copy).encode().replace(b'"@@"', raw)
