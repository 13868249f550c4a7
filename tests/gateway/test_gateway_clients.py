"""The official openai client as the caller, with its strict response validation on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest

from paddock.testing.upstream import Plan
from tests.gateway.conftest import Gate

SAID: Any = [{"role": "user", "content": "Hello?"}]
TOOL: Any = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"model": {"type": "string"}}}},
}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"model": "x"}'}}


@pytest.fixture
async def client(gate: Gate) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{gate.server.base_url}/v1", api_key="none", max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


@pytest.fixture
async def lax_client(gate: Gate) -> AsyncIterator[openai.AsyncOpenAI]:
    """Without the validation, where the client's own types do not fit what its API sends."""
    async with openai.AsyncOpenAI(base_url=f"{gate.server.base_url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def sync_client(gate: Gate) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{gate.server.base_url}/v1", api_key="none", max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


async def test_whole(client: openai.AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(model="one/m", messages=SAID)
    assert reply.choices[0].message.content == "Hello from upstream"
    assert reply.usage is not None
    assert reply.usage.total_tokens == 10


async def test_streamed(client: openai.AsyncOpenAI) -> None:
    options: Any = {"include_usage": True}
    chunks = [
        chunk
        async for chunk in await client.chat.completions.create(
            model="m", messages=SAID, stream=True, stream_options=options
        )
    ]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello from upstream"
    assert chunks[-1].usage is not None


async def test_tools(client: openai.AsyncOpenAI, gate: Gate) -> None:
    gate.one.plan = Plan(texts=[], tool_calls=[CALL])
    reply = await client.chat.completions.create(model="one/m", messages=SAID, tools=[TOOL])
    calls: Any = reply.choices[0].message.tool_calls
    assert calls[0].function.arguments == '{"model": "x"}'
    assert gate.one.requests[-1].body["tools"] == [TOOL]
    pieces = []
    async for chunk in await client.chat.completions.create(model="one/m", messages=SAID, tools=[TOOL], stream=True):
        for part in chunk.choices[0].delta.tool_calls or ():
            assert part.function is not None
            pieces.append(part.function.arguments or "")
    assert "".join(pieces) == '{"model": "x"}'


async def test_raw(client: openai.AsyncOpenAI) -> None:
    raw = await client.chat.completions.with_raw_response.create(model="one/m", messages=SAID)
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.parse().choices[0].finish_reason == "stop"


async def test_without_async(sync_client: openai.OpenAI) -> None:
    def ask() -> str:
        assert sync_client.chat.completions.create(model="one/m", messages=SAID).choices
        chunks = sync_client.chat.completions.create(model="one/m", messages=SAID, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    assert await asyncio.to_thread(ask) == "Hello from upstream"


async def test_completions_and_responses(client: openai.AsyncOpenAI, lax_client: openai.AsyncOpenAI) -> None:
    assert (await client.completions.create(model="one/m", prompt="x")).choices[0].text == "Hello from upstream"
    # The client's own type of a completion does not know the null that its API sends before the end.
    stream = await lax_client.completions.create(model="one/m", prompt="x", stream=True)
    texts = [chunk.choices[0].text async for chunk in stream]
    assert "".join(texts) == "Hello from upstream"
    assert (await client.responses.create(model="one/m", input="x")).output_text == "Hello from upstream"
    kinds = [event.type async for event in await client.responses.create(model="one/m", input="x", stream=True)]
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")


async def test_embeddings(client: openai.AsyncOpenAI, lax_client: openai.AsyncOpenAI) -> None:
    # By itself the client asks for base64, which its strict validation takes for a fault.
    reply = await lax_client.embeddings.create(model="core/hashing", input=["a b", "c d"], dimensions=64)
    assert [len(one.embedding) for one in reply.data] == [64, 64]
    floats = await client.embeddings.create(model="hashing", input="a b", dimensions=64, encoding_format="float")
    assert floats.data[0].embedding == pytest.approx(reply.data[0].embedding)
    assert len((await lax_client.embeddings.create(model="one/m", input="x")).data[0].embedding) == 8


async def test_models(client: openai.AsyncOpenAI) -> None:
    names = [model.id async for model in client.models.list()]
    assert {"m", "org/deep", "hashing"} <= set(names)
    assert (await client.models.retrieve("org/deep")).id == "org/deep"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("nothing")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
async def test_errors(client: openai.AsyncOpenAI, gate: Gate, status: int, kind: type[openai.APIStatusError]) -> None:
    gate.one.plan = Plan(status=status, error={"message": "told", "type": "t", "param": "p", "code": "c"})
    with pytest.raises(kind) as caught:
        await client.chat.completions.create(model="one/m", messages=SAID)
    assert (caught.value.message.endswith("told") or "told" in caught.value.message, caught.value.code) == (True, "c")
    with pytest.raises(openai.NotFoundError, match="near matches"):
        await client.chat.completions.create(model="shred", messages=SAID)


async def test_a_stream_that_breaks_raises(client: openai.AsyncOpenAI, gate: Gate) -> None:
    gate.one.plan = Plan(texts=["a", "b"], cut_after=1)
    stream = await client.chat.completions.create(model="one/m", messages=SAID, stream=True)
    assert (await anext(stream)).choices[0].delta.role == "assistant"
    assert (await anext(stream)).choices[0].delta.content == "a"
    with pytest.raises(openai.APIError, match="broke off"):
        await anext(stream)
