"""Databases and queries at their edges: keys with nothing behind them, work that breaks off."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from paddock.contracts.base import hookimpl
from paddock.contracts.providers import Query, RetrievalStrategy, RetrievalTools, Retrieved, TypeName
from paddock.testing.server import RunningServer, running_server

ENTRY = {
    "name": "main",
    "type": "SqliteVecStore",
    "embedding_strategies": [{"name": "e", "type": "HashingEmbedder", "config": {}}],
}


class Breaking(RetrievalStrategy):
    """Has a bug."""

    types = (TypeName("BreakingStrategy"),)

    async def retrieve(self, query: Query, tools: RetrievalTools, config: Any) -> Retrieved:
        raise KeyError("our bug")


class Plugin:
    """A strategy with a bug."""

    @hookimpl
    def paddock_retrieval_strategies(self) -> list[Any]:
        return [Breaking()]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path, plugins={"parts": Plugin()}) as running:
        reply = await running.ask("POST", "/v1/projects/n", {"name": "p", "config_template": "server"})
        assert reply.status == 200, reply.body
        yield running


@pytest.mark.parametrize(
    "text", ["rag:\n", "rag:   # nothing yet\n", "rag:\n\n# the end\n", "rag:\n  databases:\n", "rag: {}\n"]
)
async def test_a_database_is_added_where_the_file_has_an_empty_key(
    server: RunningServer, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "projects" / "n" / "p" / "llamafarm.yaml"
    kept = [line for line in path.read_text().splitlines() if not line.startswith("rag")]
    path.write_text("\n".join([*kept, text]))
    reply = await server.ask("POST", "/v1/projects/n/p/rag/databases", ENTRY)
    assert reply.status == 201, reply.body
    listed = (await server.ask("GET", "/v1/projects/n/p/rag/databases")).json()
    assert [item["name"] for item in listed["databases"]] == ["main"]


async def test_a_query_that_breaks_by_a_bug_is_an_event_that_failed(server: RunningServer) -> None:
    await server.ask("POST", "/v1/projects/n/p/rag/databases", ENTRY)
    asked = {"query": "q", "retrieval_strategy": "BreakingStrategy"}
    reply = await server.ask("POST", "/v1/projects/n/p/rag/query", asked)
    assert reply.status == 500
    assert "our bug" not in reply.body.decode()
    events = (await server.ask("GET", "/v1/projects/n/p/event_logs?type=rag_query")).json()["events"]
    assert [event["status"] for event in events] == ["failed"]
