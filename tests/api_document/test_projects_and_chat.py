"""Projects, chat, sessions and models of the API document."""

import json
import urllib.request
from typing import Any

import pytest

from paddock.testing.chat import Say, sse_events

P = "http://localhost:8000/v1/projects/my-org/chatbot"
TYPED = '-H "Content-Type: application/json"'
PROJECT = {"project": {"namespace": "my-org", "name": "chatbot", "config": {"version": "v1", "name": "chatbot"}}}
COMPLETION = {
    "id": "chatcmpl-123",
    "object": "chat.completion",
    "created": 1677652288,
    "model": "llama3.2:3b",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "text"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 20, "completion_tokens": 100, "total_tokens": 120},
}


async def test_a_project_is_created_listed_read_changed_and_deleted(bare: Any) -> None:
    create = f"""curl -X POST http://localhost:8000/v1/projects/my-org \\
    {TYPED} \\
    -d '{{"name": "chatbot", "config_template": "server"}}'"""
    assert await bare.good("curl http://localhost:8000/v1/projects/my-org") == {"total": 0, "projects": []}
    bare.fits(await bare.good(create), PROJECT)
    assert (await bare.curl(create)).status == 409
    listed = await bare.good("curl http://localhost:8000/v1/projects/my-org")
    bare.fits(listed, {"total": 1, "projects": [{**PROJECT["project"], "config": {"runtime": {}}}]})
    body: dict[str, Any] = {"version": "v1", "name": "chatbot", "namespace": "my-org"}
    body["runtime"] = {"provider": "ollama", "model": "llama3.2:3b"}
    changed = await bare.good(f"curl -X PUT {P} {TYPED} -d '{json.dumps({'config': body})}'")
    assert changed["project"]["config"] == body
    assert await bare.get("") == changed
    bare.fits(await bare.good(f"curl -X DELETE {P}"), PROJECT)
    assert (await bare.curl(f"curl {P}")).status == 404


async def test_the_templates_that_the_document_names_are_there(bare: Any) -> None:
    for name in ("server", "rag"):
        reply = await bare.server.ask("POST", "/v1/projects/my-org", {"name": name, "config_template": name})
        assert reply.status == 200
        assert reply.json()["project"]["validation_error"] is None
    unknown = await bare.server.ask("POST", "/v1/projects/my-org", {"name": "x", "config_template": "nope"})
    assert (unknown.status, "rag, server" in unknown.json()["detail"]) == (404, True)


async def test_a_reply_has_the_printed_fields_and_names_its_session(client: Any) -> None:
    reply = await client.chat("Hello!")
    client.fits(reply.json(), COMPLETION)
    assert reply.json()["model"] == "llama3.2:3b"
    assert reply.json()["choices"][0]["message"]["content"] == "Hello!"
    assert reply.headers["X-Session-ID"]


async def test_the_whole_printed_request_is_understood(filled: Any) -> None:
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "What is LlamaFarm?"},
    ]
    sampling = {"temperature": 0.7, "max_tokens": 1000, "top_p": 0.9, "top_k": 40}
    rag = {"rag_enabled": True, "database": "main_db", "rag_top_k": 5, "rag_score_threshold": 0.7}
    reply = await filled.send("POST", "/chat/completions", {"messages": messages, "stream": False, **sampling, **rag})
    filled.fits(reply.json(), COMPLETION)
    sent = filled.echo.calls[0].body
    assert {key: sent[key] for key in sampling} == sampling
    assert not set(rag) & set(sent)


async def test_a_stream_consists_of_chunks_and_ends_with_done(client: Any) -> None:
    client.echo.script.append(Say(texts=["Llama", "Farm"]))
    reply = await client.chat("Hello!", stream=True)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["X-Session-ID"]
    *events, done = sse_events(reply.body)
    assert done == "[DONE]"
    head = {key: COMPLETION[key] for key in ("id", "object", "created", "model")}
    client.fits(events[0], {**head, "choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}]})
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == "LlamaFarm"
    assert [event["choices"][0]["finish_reason"] for event in events] == [None] * (len(events) - 1) + ["stop"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stateless_reply_names_no_session_and_keeps_none(client: Any, stream: bool) -> None:
    reply = await client.chat("Hello!", '-H "X-No-Session: true"', stream=stream)
    assert reply.status == 200
    assert "X-Session-ID" not in reply.headers
    deleted = await client.good(f"curl -X DELETE {P}/chat/sessions")
    assert deleted == {"message": "Deleted 0 session(s)", "count": 0}


async def test_retrieval_brings_passages_from_the_database_that_is_named(filled: Any) -> None:
    question = "What are the FDA regulations?"
    assert (await filled.chat(question, rag_enabled=True, database="main_db", rag_top_k=10)).status == 200
    assert (await filled.chat(question, rag_enabled=True, database="fda_db", rag_top_k=10)).status == 200
    full, empty = (json.dumps(call.body["messages"]) for call in filled.echo.calls)
    assert "Clinical trials must follow" in full
    assert "Clinical trials must follow" not in empty
    unknown = await filled.chat(question, rag_enabled=True, database="nope")
    assert unknown.status == 404
    assert "main_db" in unknown.json()["detail"]


async def test_thinking_is_told_beside_the_answer(client: Any) -> None:
    client.echo.script.append(Say(reasoning=["To find 15% of 85 …"], texts=["15% of 85 is **12.75**."]))
    reply = (await client.chat("What is 15% of 85?", think=True, thinking_budget=512, max_tokens=200)).json()
    client.fits(reply, {**COMPLETION, "thinking": {"content": "text", "tokens": None}})
    assert reply["thinking"] == {"content": "To find 15% of 85 …", "tokens": None}
    assert reply["choices"][0]["message"]["content"] == "15% of 85 is **12.75**."
    assert (client.echo.calls[0].think, client.echo.calls[0].thinking_budget) == (True, 512)


async def test_custom_queries_replace_the_message_and_are_merged(filled: Any) -> None:
    one = ["clinical trial results primary endpoints efficacy safety"]
    two = ["regulations of the agency", "protocol for cows"]
    for queries in (one, two):
        fields = {"rag_enabled": True, "database": "main_db", "rag_queries": queries, "rag_top_k": 10}
        reply = await filled.chat("Compare the two approaches", include_sources=True, **fields)
        contents = [source["content"] for source in reply.json()["sources"]]
        assert len(contents) == len(set(contents)) == 2
        scores = [source["score"] for source in reply.json()["sources"]]
        assert scores == sorted(scores, reverse=True)


async def test_a_session_has_a_history_and_can_be_deleted(client: Any) -> None:
    client.echo.script.append("Hi! How can I help you today?")
    reply = await client.chat("Hello!", '-H "X-Session-ID: abc-123"')
    assert reply.headers["X-Session-ID"] == "abc-123"
    client.names["session"] = "abc-123"
    history = await client.good(f"curl {P}/chat/sessions/abc-123/history")
    assert history == {
        "messages": [
            {"role": "user", "content": "Hello!"},
            {"role": "assistant", "content": "Hi! How can I help you today?"},
        ]
    }
    await client.chat("Again", '-H "X-Session-ID: abc-123"')
    said = [message["content"] for message in client.echo.calls[-1].body["messages"] if message["role"] != "system"]
    assert said == ["Hello!", "Hi! How can I help you today?", "Again"]
    deleted = await client.good(f"curl -X DELETE {P}/chat/sessions/abc-123")
    assert deleted == {"message": "Session abc-123 deleted"}
    assert (await client.curl(f"curl {P}/chat/sessions/abc-123/history")).status == 404
    assert (await client.curl(f"curl -X DELETE {P}/chat/sessions/abc-123")).status == 404


async def test_all_sessions_are_deleted_at_once(client: Any) -> None:
    for number in range(5):
        await client.chat("Hello!", f'-H "X-Session-ID: s{number}"')
    deleted = await client.good(f"curl -X DELETE {P}/chat/sessions")
    assert deleted == {"message": "Deleted 5 session(s)", "count": 5}


async def test_models_are_listed_and_chosen_by_name(client: Any) -> None:
    found = await client.get("/models")
    printed = {"name": "fast-model", "provider": "ollama", "model": "m", "base_url": "u", "default": True}
    client.fits(found, {"total": 2, "models": [{**printed, "description": "text"}]})
    assert [(item["name"], item["default"]) for item in found["models"]] == [
        ("fast-model", True),
        ("smart-model", False),
    ]
    reply = await client.chat("Explain quantum computing", model="smart-model")
    assert reply.json()["model"] == "llama3.2:70b"
    unknown = await client.chat("x", model="smart")
    assert (unknown.status, "smart-model" in unknown.json()["detail"]) == (404, True)


async def test_a_secret_of_a_model_is_never_shown(client: Any) -> None:
    runtime = {"models": [{"name": "m", "provider": "openai", "model": "gpt", "api_key": "sk-secret-value"}]}
    body = {"config": {"version": "v1", "name": "chatbot", "namespace": "my-org", "runtime": runtime}}
    replies = [await client.send("PUT", "", body), *[await client.curl(f"curl {P}{path}") for path in ("", "/models")]]
    for reply in replies:
        assert b"sk-secret-value" not in reply.body
        assert b"********" in reply.body


async def test_the_official_client_chats_streams_and_lists_models(client: Any) -> None:
    import openai

    url = client.server.base_url + "/v1/projects/my-org/chatbot"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as official:
        messages: Any = [{"role": "user", "content": "Hello there"}]
        reply = await official.chat.completions.create(model="fast-model", messages=messages)
        assert reply.choices[0].message.content == "Hello there"
        options: Any = {"include_usage": True}
        stream: Any = await official.chat.completions.create(
            model="smart-model", messages=messages, stream=True, stream_options=options
        )
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello there"
        assert chunks[-1].usage.total_tokens > 0
        assert [model.id async for model in official.models.list()] == ["fast-model", "smart-model"]
        with pytest.raises(openai.NotFoundError, match="fast-model"):
            await official.chat.completions.create(model="fast", messages=messages)
        with pytest.raises(openai.UnprocessableEntityError, match="temperature"):
            await official.chat.completions.create(model="fast-model", messages=messages, temperature=3)


class FarmClient:
    """What the document's Python client does, on the standard library."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    def post(self, path: str, body: Any, **headers: str) -> Any:
        """Send JSON, return JSON; an error status raises."""
        url = f"{self.base_url}/v1/projects/my-org/chatbot/{path}"
        request = urllib.request.Request(
            url, json.dumps(body).encode(), {"Content-Type": "application/json", **headers}
        )
        with urllib.request.urlopen(request) as reply:
            return json.load(reply)

    def chat(self, message: str, session_id: str | None = None) -> Any:
        """Ask, in a session if one is named."""
        headers = {"X-Session-ID": session_id} if session_id else {}
        return self.post("chat/completions", {"messages": [{"role": "user", "content": message}]}, **headers)

    def query_rag(self, query: str, database: str | None = None, top_k: int = 5) -> Any:
        """Search; an absent database is sent as null."""
        return self.post("rag/query", {"query": query, "database": database, "top_k": top_k})


async def test_a_client_written_after_the_document_works(filled: Any) -> None:
    import asyncio

    farm = FarmClient(filled.server.base_url)
    assert (await asyncio.to_thread(farm.chat, "Hello!"))["choices"][0]["message"]["content"] == "Hello!"
    await asyncio.to_thread(farm.chat, "Hello again!", "s-1")
    assert len((await filled.get("/chat/sessions/s-1/history"))["messages"]) == 2
    found = await asyncio.to_thread(farm.query_rag, "protocol")
    assert (found["database_used"], found["total_results"]) == ("main_db", 2)
    assert (await asyncio.to_thread(farm.query_rag, "protocol", "fda_db", 1))["results"] == []
