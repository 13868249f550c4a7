"""What travels through the gateway: the caller's bytes up, the upstream's bytes down, and nothing else."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest

from paddock.builtin.openai_wire import Target
from paddock.services.gateway.bodies import renamed
from paddock.testing.chat import sse_events
from paddock.testing.upstream import Plan
from tests.gateway.conftest import BODIES, LONG, STREAMING, Gate

ODD = b'{ "n" : 12345678901234567890123, "x":1.10e2, "model": "m",\n "tools":[{"model":"inner"}], "a": "\\u00e9" }'


@pytest.fixture
def upstream_settings() -> Mapping[str, Any]:
    return {"api_key": "sk-of-the-upstream", "headers": {"X-Tenant": "tenant-secret"}, "aliases": {"mine": "m"}}


@pytest.mark.parametrize("operation", BODIES)
async def test_every_path_reaches_its_upstream_and_brings_back_its_bytes(gate: Gate, operation: str) -> None:
    gate.one.plan = gate.one.embedding_plan = Plan(body=b'{ "odd":  12345678901234567890 }')
    reply = await gate.post(operation)
    assert (reply.status, reply.body) == (200, b'{ "odd":  12345678901234567890 }')
    asked = gate.one.requests[-1]
    assert asked.path == "/v1/" + ("rerank" if operation == "reranking" else operation)
    assert asked.body == {**BODIES[operation], "model": "m"}


async def test_a_body_that_names_the_model_as_the_upstream_does_is_not_touched(gate: Gate) -> None:
    assert (await gate.post("chat/completions", data=io.BytesIO(ODD))).status == 200
    assert gate.one.requests[-1].raw == ODD


@pytest.mark.parametrize("asked", ["one/m", "mine"])
async def test_another_name_is_replaced_and_every_other_byte_stays(gate: Gate, asked: str) -> None:
    body = ODD.replace(b'"m"', json.dumps(asked).encode())
    assert (await gate.post("chat/completions", data=io.BytesIO(body))).status == 200
    assert gate.one.requests[-1].raw == ODD


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (b'{"model":"a"}', b'{"model":"b"}'),
        (b'{"x":{"model":"a"},"model" : "a","y":"model"}', b'{"x":{"model":"a"},"model" : "b","y":"model"}'),
        (b'{"model":"a","x":"\\"model\\":\\"a\\""}', b'{"model":"b","x":"\\"model\\":\\"a\\""}'),
        (b'{"y":["model",{"model":"a"}],"mod\\u0065l":"a"}', b'{"y":["model",{"model":"a"}],"mod\\u0065l":"b"}'),
        (b'{"m":"model","model":"a\\"}{"}', b'{"m":"model","model":"b"}'),
        (b' { "x" : [[], {"]": "}"}, -1.5e3] ,"model": "a" } ', b' { "x" : [[], {"]": "}"}, -1.5e3] ,"model": "b" } '),
        (b'{"x":"\\\\","y":null,"model":"a"}', b'{"x":"\\\\","y":null,"model":"b"}'),
    ],
)
def test_only_the_outermost_model_is_renamed(body: bytes, result: bytes) -> None:
    assert renamed(body, "b") == result


@pytest.mark.parametrize("second", [b'"model":"two/n"', b'"mod\\u0065l":"two/n"', b'"\\u006dodel" : "two/n"'])
async def test_a_body_that_names_two_models_is_refused(gate: Gate, second: bytes) -> None:
    body = b'{"messages":[],"model":"one/m",' + second + b"}"
    reply = await gate.post("chat/completions", data=io.BytesIO(body))
    assert reply.status == 400
    assert "twice" in reply.json()["error"]["message"]
    assert gate.one.requests == gate.two.requests == []


async def test_of_a_large_body_only_the_models_name_changes(gate: Gate) -> None:
    texts = b",".join([b'["\\u0061 text", {"model": 1}]'] * 100_000)  # escapes: the body is looked through
    body = b'{"input":[' + texts + b'],"model":"one/m"}'
    gate.one.embedding_plan = Plan(body=b"{}")
    assert (await gate.post("embeddings", data=io.BytesIO(body))).status == 200
    assert gate.one.requests[-1].raw == body.replace(b'"one/m"', b'"m"')
    twice = await gate.post("embeddings", data=io.BytesIO(body[:-1] + b',"m\\u006fdel":"m"}'))
    assert (twice.status, "twice" in twice.json()["error"]["message"]) == (400, True)


@pytest.mark.parametrize("operation", STREAMING)
async def test_a_stream_passes_byte_for_byte(gate: Gate, operation: str) -> None:
    body = {**BODIES[operation], "stream": True}
    direct = await gate.server.session.post(f"{gate.one.base_url}/{operation}", json={**body, "model": "m"})
    wanted = await direct.read()
    reply = await gate.post(operation, body)
    assert (reply.status, reply.body) == (200, wanted)
    assert reply.headers["Content-Type"] == "text/event-stream"
    assert reply.headers["X-Accel-Buffering"] == "no"


async def test_a_large_reply_passes_whole(gate: Gate) -> None:
    body = json.dumps({"data": ["x" * 1000] * 3000, "usage": {"prompt_tokens": 5, "total_tokens": 5}}).encode()
    gate.one.embedding_plan = Plan(body=body)
    reply = await gate.post("embeddings")
    assert reply.body == body
    assert (await gate.event())["summary"]["tokens"] == 5


# --- headers -----------------------------------------------------------------------------------------------------------


async def test_the_callers_credentials_and_headers_stay_here(gate: Gate) -> None:
    gate.headers = {
        "Authorization": "Bearer callers-own", "X-API-Key": "callers-own", "Cookie": "a=callers-own", "X-Odd": "1",
        "anthropic-version": "2023-06-01", "OpenAI-Beta": "x=1", "OpenAI-Organization": "callers-own",
        "X-Tenant": "callers-own",
    }  # fmt: skip
    assert (await gate.post("chat/completions?api_key=callers-own", BODIES["chat/completions"])).status == 200
    asked = gate.one.requests[-1]
    assert "callers-own" not in str(asked.headers) + asked.path
    assert asked.headers["Authorization"] == "Bearer sk-of-the-upstream"
    assert asked.headers["X-Tenant"] == "tenant-secret"
    assert asked.headers["anthropic-version"] == "2023-06-01"
    assert asked.headers["OpenAI-Beta"] == "x=1"
    assert "X-Odd" not in asked.headers


@pytest.mark.parametrize("stream", [False, True])
async def test_headers_of_the_upstream_that_are_for_nobody_here_are_dropped(gate: Gate, stream: bool) -> None:
    given = {
        "Set-Cookie": "a=b", "Server": "theirs", "Access-Control-Allow-Origin": "*", "Connection": "close, X-Hop",
        "X-Hop": "1", "Strict-Transport-Security": "max-age=1", "X-RateLimit-Remaining-Requests": "7", "Alt-Svc": "h3",
    }  # fmt: skip
    gate.one.plan = Plan(headers=given)
    reply = await gate.chat(stream=stream)
    assert reply.status == 200
    assert reply.headers["X-RateLimit-Remaining-Requests"] == "7"
    assert reply.headers["Server"] == "granian"
    for name in ("Set-Cookie", "Access-Control-Allow-Origin", "X-Hop", "Strict-Transport-Security", "Alt-Svc"):
        assert name not in reply.headers


# --- errors ------------------------------------------------------------------------------------------------------------


async def test_an_error_in_the_right_format_passes_with_its_status_and_headers(gate: Gate) -> None:
    body = b'{"error":{"message":"too long","type":"t","param":"messages","code":"context_length_exceeded","extra":1}}'
    gate.one.plan = Plan(status=418, body=body, headers={"X-Detail": "d"})
    reply = await gate.chat()
    assert (reply.status, reply.body, reply.headers["X-Detail"]) == (418, body, "d")
    event = await gate.event()
    assert (event["status"], event["error"], event["data"]["upstream_status"]) == ("failed", "too long", 418)


@pytest.mark.parametrize(
    "plan",
    [
        Plan(status=500, html="<html><title>Oops</title></html>"),
        Plan(status=500, body=b'{"error":"plain text"}'),
        Plan(status=500, body=b'{"detail":"plain text"}'),
        Plan(status=500, body=b""),
        Plan(status=500, body=b'{"error":{"code":5}}'),
        Plan(status=500, body=b"[" * 100_000),
    ],
    ids=["page", "text", "detail", "nothing", "code", "deep"],
)
@pytest.mark.parametrize("operation", ["chat/completions", "messages"])
async def test_any_other_error_is_told_in_the_format_of_the_path(gate: Gate, operation: str, plan: Plan) -> None:
    gate.one.plan = plan
    reply = await gate.post(operation)
    assert reply.status == 500
    body = reply.json()
    assert body["error"]["message"]
    assert body.get("type") == ("error" if operation == "messages" else None)


async def test_a_status_of_an_upstream_that_speaks_another_format_stays(gate: Gate) -> None:
    gate.one.plan = Plan(status=422, body=b'{"detail":"max_tokens is too large"}')
    reply = await gate.chat()
    assert (reply.status, reply.json()["error"]["message"]) == (422, "max_tokens is too large")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_upstream_that_can_not_be_reached_is_told_by_its_name(gate: Gate, stream: bool) -> None:
    await gate.one.stop()
    reply = await gate.chat(stream=stream)
    assert reply.status == 503
    assert "can't connect to one:" in reply.json()["error"]["message"]


async def test_so_is_one_that_breaks_off(gate: Gate) -> None:
    gate.one.plan = Plan(texts=["a", "b", "c"], cut_after=2)
    reply = await gate.chat(stream=True)
    assert b"one broke off" in reply.body
    assert str(gate.one.port).encode() not in reply.body


@pytest.mark.parametrize("status", [301, 307])
async def test_a_redirect_is_not_followed_nor_passed_on(gate: Gate, status: int) -> None:
    gate.one.plan = Plan(status=status, headers={"Location": f"{gate.two.base_url}/chat/completions"})
    reply = await gate.chat()
    assert reply.status == 502
    assert "Location" not in reply.headers
    assert gate.two.requests == []


async def test_a_web_page_is_no_answer(gate: Gate) -> None:
    gate.one.plan = Plan(html="<html>welcome</html>")
    reply = await gate.chat()
    assert reply.status == 502
    assert "check its base_url" in reply.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_credential_that_the_upstream_repeats_is_masked(gate: Gate, stream: bool) -> None:
    error = {"message": "bad key sk-of-the-upstream of tenant-secret"}
    gate.one.plan = Plan(error=error, status=401) if not stream else Plan(error=error, fail_after=1)
    reply = await gate.chat(stream=stream)
    assert reply.status == (200 if stream else 401)
    assert b"bad key *** of ***" in reply.body
    assert "sk-of" not in json.dumps(await gate.event())


def test_what_is_too_short_to_be_a_secret_garbles_no_error() -> None:
    target = Target(base_url="http://x", api_key="none", extra={"X-Team": "a", "X-Tenant": "tenant-secret"})
    assert target.secrets == (b"tenant-secret",)


@pytest.mark.parametrize("operation", STREAMING)
async def test_a_stream_that_breaks_ends_with_an_error_event_and_no_done(gate: Gate, operation: str) -> None:
    gate.one.plan = Plan(texts=["a", "b", "c"], cut_after=2)
    reply = await gate.post(operation, {**BODIES[operation], "stream": True})
    assert reply.status == 200
    text = reply.body.decode()
    assert "[DONE]" not in text
    last = json.loads(text.strip().rpartition("data: ")[2])
    if operation == "responses":
        assert (last["type"], bool(last["message"])) == ("error", True)
    else:
        assert last["error"]["message"]
        assert last.get("type") == ("error" if operation == "messages" else None)
    assert (await gate.event())["status"] == "failed"


async def test_a_chat_stream_that_just_stops_is_not_taken_for_a_whole_one(gate: Gate) -> None:
    gate.one.plan = Plan(body=b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":null}]}\n\n', headers={
        "Content-Type": "text/event-stream",
    })  # fmt: skip
    reply = await gate.chat(stream=True)
    assert b"broke off" in reply.body
    assert (await gate.event())["status"] == "failed"


async def test_a_large_reply_that_breaks_off_breaks_the_connection(gate: Gate) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9000000\r\n\r\n")
        writer.write(b"x" * 3_000_000)
        await writer.drain()
        writer.close()

    await gate.one.stop()
    async with await asyncio.start_server(answer, "127.0.0.1", gate.one.port), asyncio.timeout(LONG):
        with pytest.raises(aiohttp.ClientError):
            await gate.post("embeddings")
    assert (await gate.event())["status"] == "failed"


# --- usage -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", STREAMING)
@pytest.mark.parametrize("stream", [False, True])
async def test_usage_is_read_from_whole_replies_and_from_the_end_of_streams(
    gate: Gate, operation: str, stream: bool
) -> None:
    body = {**BODIES[operation], "stream": stream, "stream_options": {"include_usage": True}}
    assert (await gate.post(operation, body)).status == 200
    event = await gate.event()
    assert event["status"] == "completed"
    assert event["type"] == "gateway_" + operation.replace("/", "_")
    assert event["data"]["served_by"] == "one/m"
    assert event["data"]["tokens"]["completion"] == 3
    assert (event["time_to_first_token_ms"] is not None) is stream


async def test_llama_servers_timings_count_where_usage_was_not_asked_for(gate: Gate) -> None:
    last = {"choices": [{"finish_reason": "stop"}], "timings": {"prompt_n": 4, "predicted_n": 2, "predicted_ms": 0.5}}
    events = f"data: {json.dumps(last)}\n\ndata: [DONE]\n\n".encode()
    gate.one.plan = Plan(body=events, headers={"Content-Type": "text/event-stream"})
    assert sse_events((await gate.chat(stream=True)).body)[-1] == "[DONE]"
    assert (await gate.event())["data"]["tokens"] == {"prompt": 4, "completion": 2, "total": 6}


# --- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{}", "model"),
        (b"", "model"),
        (b'{"model": 5}', "model"),
        (b'{"model": ["one/m"]}', "model"),
        (b'{"model": "  "}', "model"),
        (b'{"model": null}', "model"),
        (b'{"model": "one/m", "stream": "yes"}', "stream"),
        (b'{"model": "one/m", "base_url": "http://10.0.0.1"}', "base_url"),
        (b'{"model": "one/m", "api_base": null}', "api_base"),
        (b'{"model": "one/m", "api_key": "x"}', "api_key"),
        (b'{"model": "one/m", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "body"),
        (b'{"model": "one/m"', "body"),
        (b'{"model": "one/m", "x": NaN}', "body"),
        (b'{"model": "\xff"}', "body"),
    ],
    ids=range(14),
)
@pytest.mark.parametrize("operation", ["chat/completions", "embeddings", "messages"])
async def test_a_wrong_body_is_400_names_the_field_and_reaches_no_upstream(
    gate: Gate, operation: str, body: bytes, param: str
) -> None:
    reply = await gate.post(operation, data=io.BytesIO(body))
    assert reply.status == 400, reply.body
    error = reply.json()["error"]
    assert error["type"] == "invalid_request_error"
    if operation != "messages":
        assert error["param"] == param
    assert gate.one.requests == []


@pytest.mark.parametrize("name", ["one/", "/m", "one/" + "x" * 5000, "\u202eevil", "..", "one\x00/m", "a" * 100_000])
async def test_an_odd_name_is_404(gate: Gate, name: str) -> None:
    reply = await gate.chat(name)
    assert reply.status == 404
    assert len(reply.body) < 1000
    assert all(one.path == "/v1/models" for one in gate.one.requests)


async def test_an_enormous_body_is_413_and_reaches_no_upstream(gate: Gate) -> None:
    body = b'{"model": "one/m", "x": "' + b"y" * (33 * 1024 * 1024) + b'"}'
    reply = await gate.post("chat/completions", data=io.BytesIO(body))
    assert reply.status == 413
    assert reply.json()["error"]["type"] == "invalid_request_error"
    assert gate.one.requests == []


async def test_nothing_that_was_said_is_in_the_event_log(gate: Gate) -> None:
    gate.one.plan = Plan(texts=["answer-text"])
    assert (await gate.chat(messages=[{"role": "user", "content": "question-text"}])).status == 200
    text = json.dumps(await gate.event())
    assert "question-text" not in text
    assert "answer-text" not in text
