"""What arrives on the wire: broken HTTP, smuggling, slow clients, values that want to become headers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re

import pytest

from tests.security.conftest import Target, TargetMaker

HEAD = b"Host: localhost\r\nConnection: close\r\n"
POST = b"POST /v1/projects/n HTTP/1.1\r\n" + HEAD
CHAT = "/v1/projects/n/p/chat/completions"
ASK = {"messages": [{"role": "user", "content": "x"}]}


def statuses(reply: bytes) -> list[int]:
    """The statuses of all replies in what came back."""
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", reply)]


@pytest.mark.parametrize(
    "request_",
    [
        b"\x00" * 2000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n",
        POST + b"Content-Length: 6\r\nContent-Length: 7\r\n\r\n{}    x",
        POST + b"Content-Length: -6\r\n\r\n",
        POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
        POST + "Content-Length: ²\r\n\r\n".encode("latin-1"),
        POST + b"Transfer-Encoding: xchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"GET /info HTTP/1.1\r\n" + HEAD + b"X-A: b\r\n c\r\n\r\n",
        b"GET /info HTTP/1.1\r\n" + HEAD + b"X-A: b\x00c\r\n\r\n",
        b"GET /info HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET /v1/projects/\xff\xfe HTTP/1.1\r\n" + HEAD + b"\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x04\x08\x00\xff\xff\xff\xff" * 3,
    ],
)
async def test_what_is_not_http_is_refused(target: Target, request_: bytes) -> None:
    assert statuses(await target.raw(request_)) in ([400], [])
    assert (await target.ask("GET", "/health/liveness")).status == 200


async def test_a_body_with_length_and_chunks_is_read_by_its_chunks_and_nothing_is_smuggled(target: Target) -> None:
    reply = await target.raw(
        POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\nGET /info HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    assert statuses(reply) == [422]


async def test_a_length_inside_a_chunked_body_hides_no_second_request(target: Target) -> None:
    hidden = b"GET /info HTTP/1.1\r\nHost: localhost\r\n\r\n"
    reply = await target.raw(POST + b"Content-Length: %d\r\n\r\n" % len(hidden) + hidden)
    assert statuses(reply) == [422]


async def test_two_hosts_are_refused(target: Target) -> None:
    for pair in ((b"localhost", b"rebound.example"), (b"rebound.example", b"localhost"), (b"localhost", b"localhost")):
        reply = await target.raw(b"GET /info HTTP/1.1\r\nHost: %b\r\nHost: %b\r\nConnection: close\r\n\r\n" % pair)
        assert statuses(reply) == [400]


@pytest.mark.parametrize(
    "host", [b"", b"Host:\r\n", b"Host: localhost@rebound.example\r\n", b"Host: 127.0.0.1.example\r\n"]
)
async def test_a_host_that_is_none_or_only_looks_like_ours_is_refused(target: Target, host: bytes) -> None:
    reply = await target.raw(b"GET /info HTTP/1.1\r\nConnection: close\r\n" + host + b"\r\n")
    assert statuses(reply) in ([403], [400])


async def test_pipelined_requests_get_their_replies_in_order(target: Target) -> None:
    one = b"GET /health/liveness HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"GET /nothing HTTP/1.1\r\n" + HEAD + b"\r\n"
    assert statuses(await target.raw(one * 30 + last)) == [200] * 30 + [404]


@pytest.mark.parametrize(
    "query", [b"a=b&" * 15_000, b"&" * 60_000, b"%ff=%00&limit=%ed%a0%80", b"=" * 9000, b"a[]=1;b=2&limit=1&limit=%zz"]
)
async def test_an_odd_query_string_does_no_harm(target: Target, query: bytes) -> None:
    reply = await target.raw(b"GET /v1/projects/n?" + query + b" HTTP/1.1\r\n" + HEAD + b"\r\n")
    assert statuses(reply) in ([200], [400], [422], [431])


async def test_a_query_or_header_beyond_every_measure_is_refused(target: Target) -> None:
    for request in (
        b"GET /v1/projects/n?" + b"a" * 1_000_000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n",
        b"GET /info HTTP/1.1\r\n" + HEAD + b"a: " + b"x" * 1_000_000 + b"\r\n\r\n",
        b"GET /info HTTP/1.1\r\n" + HEAD + b"".join(b"a%d: b\r\n" % n for n in range(2000)) + b"\r\n",
    ):
        assert statuses(await target.raw(request)) in ([431], [414], [400], [])
    assert (await target.ask("GET", "/health/liveness")).status == 200


async def test_changed_bytes_of_a_good_request_never_break_the_server(target: Target) -> None:
    good = POST + b"Content-Length: 2\r\nX-API-Key: k\r\n\r\n{}"
    noise = os.urandom(300)
    for place in range(0, len(good) - 8, 3):
        changed = bytearray(good)
        changed[place] = noise[place]
        assert 500 not in statuses(await target.raw(bytes(changed), end=True))


async def test_a_body_that_ends_early_is_answered_by_nobody_and_leaves_nothing(target: Target) -> None:
    await target.project()
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhalf of it'
    for kind, length in ((b"application/json", b"600"), (b"multipart/form-data; boundary=b", b"6000")):
        await target.raw(
            b"POST /v1/projects/n/p/datasets/d/data HTTP/1.1\r\n" + HEAD + b"Content-Type: " + kind
            + b"\r\nContent-Length: " + length + b"\r\n\r\n" + part,
            end=True,
        )  # fmt: skip
    assert (await target.ask("GET", "/health/liveness")).status == 200
    incoming = target.server.app.settings.data_dir / "blobs" / "incoming"
    while list(incoming.iterdir()):  # noqa: ASYNC110  the server learns of it a moment later
        await asyncio.sleep(0)


@pytest.mark.parametrize("drop", [b"", b" "], ids=["silent", "a byte now and then"])
async def test_a_client_that_sends_its_body_too_slowly_is_cut(open_target: TargetMaker, drop: bytes) -> None:
    """Slowloris: neither a body nor an upload may hold a connection for ever."""
    async with open_target({"server": {"body_timeout": 0.3}}) as target:
        await target.project()
        upload = (
            b"POST /v1/projects/n/p/datasets/d/data HTTP/1.1\r\n" + HEAD + b"Content-Length: 99999\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        )
        for request in (POST + b"Content-Length: 99999\r\n\r\n{", upload):
            reader, writer = await asyncio.open_connection(target.host, target.port)
            writer.write(request)
            reading = asyncio.ensure_future(reader.read())
            while not reading.done():
                if drop and not writer.is_closing():
                    writer.write(drop)
                await asyncio.wait((reading,), timeout=0.05)
            assert statuses(reading.result()) == [408]
            assert b"server.body_timeout" in reading.result()
            writer.close()
        assert list((target.server.app.settings.data_dir / "blobs" / "incoming").iterdir()) == []


async def test_a_body_without_end_is_cut_at_the_limit(open_target: TargetMaker) -> None:
    async with open_target({"server": {"max_body_bytes": 100_000}}) as target:
        reader, writer = await asyncio.open_connection(target.host, target.port)
        writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        reading = asyncio.ensure_future(reader.read())
        while not reading.done():  # the server reads on for a moment, so that the refusal arrives
            try:
                writer.write(b"8000\r\n" + b" " * 0x8000 + b"\r\n")
                await writer.drain()
            except ConnectionError:
                break
            await asyncio.sleep(0)
        with contextlib.suppress(ConnectionError):  # cut while it was still sending: the reply may be lost
            assert statuses(await reading) == [413]
        writer.close()


@pytest.mark.parametrize("session", ["a%0d%0aSet-Cookie: x", "a\xe9", "../x", "a" * 65, "a b", "%00", "\tb\tc"])
async def test_a_session_id_that_is_no_name_is_400_and_never_becomes_a_header(target: Target, session: str) -> None:
    await target.project()
    body = b'{"messages":[{"role":"user","content":"hi"}]}'
    reply = await target.raw(
        b"POST " + CHAT.encode() + b" HTTP/1.1\r\n" + HEAD + b"X-Session-ID: " + session.encode("latin-1")
        + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )  # fmt: skip
    assert statuses(reply) == [400]
    assert b"set-cookie" not in reply.partition(b"\r\n\r\n")[0].lower()


async def test_a_variable_or_model_name_with_line_breaks_never_becomes_a_header(target: Target) -> None:
    await target.project()
    for field in ("model", "database", "rag_retrieval_strategy", "user"):
        reply = await target.ask("POST", CHAT, {**ASK, field: "x\r\nSet-Cookie: a=b"})
        assert "Set-Cookie" not in reply.headers


async def test_bytes_that_are_no_text_in_a_key_are_a_wrong_key(open_target: TargetMaker) -> None:
    async with open_target({"auth": {"management_keys": ["k"]}}) as target:
        for header in (b"Authorization: Bearer \xff\xfe", b"X-API-Key: \xe4"):
            reply = await target.raw(b"GET /info HTTP/1.1\r\n" + HEAD + header + b"\r\n\r\n")
            assert statuses(reply) == [401], header
        for query in (b"%ed%a0%80", b"%ff", b"%00", b"k%00"):
            reply = await target.raw(b"GET /info?api_key=" + query + b" HTTP/1.1\r\n" + HEAD + b"\r\n")
            assert statuses(reply) == [401], query
