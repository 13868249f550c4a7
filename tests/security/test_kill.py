"""The whole server is killed again and again while it takes uploads, processes them and chats. What it acknowledged is there."""

from __future__ import annotations

import asyncio
import json
import random
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from paddock.testing.process import server_process
from tests.security.conftest import PROJECT

BASE = "/v1/projects/n/p"
TARGETS = [3, 9, 14, 25]  # acknowledgements after which it is killed


class Acknowledged:
    """What the server answered 200 for."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}  # name to sha256
        self.tasks: list[str] = []
        self.questions: list[str] = []
        self.projects: list[str] = []
        self.count = 0
        self.enough = asyncio.Event()
        self.target = 0

    def add(self, kind: list[str], value: str) -> None:
        kind.append(value)
        self.noted()

    def noted(self) -> None:
        self.count += 1
        if self.count >= self.target:
            self.enough.set()


class Driver:
    """A client of one life of the server."""

    def __init__(self, url: str, http: aiohttp.ClientSession, known: Acknowledged) -> None:
        self._url = url
        self._http = http
        self._known = known

    async def ask(self, method: str, path: str, body: Any = None, **given: Any) -> tuple[int, Any]:
        async with self._http.request(method, self._url + path, json=body, **given) as reply:
            return reply.status, await reply.json(content_type=None)

    async def upload(self, life: int) -> None:
        for number in range(1000):
            name = f"f{life}x{number}.txt"
            text = f"wombat{life}x{number} " + "Herons wait at the weir. " * 400
            form = aiohttp.FormData()
            form.add_field("file", text.encode(), filename=name)
            async with self._http.post(f"{self._url}{BASE}/datasets/d/data", data=form) as reply:
                assert reply.status == 200
                self._known.files[name] = (await reply.json())["hash"]
                self._known.noted()

    async def process(self) -> None:
        while True:
            status, found = await self.ask("POST", f"{BASE}/datasets/d/actions", {"action_type": "process"})
            if status == 200:
                self._known.add(self._known.tasks, found["task_id"])
                await self.final(found["task_id"])
            else:  # another run of it goes on
                assert status in (409, 422, 400), found
                await asyncio.sleep(0)

    async def chat(self, life: int) -> None:
        for number in range(1000):
            question = f"What of wombat{life}x{number}?"
            body = {"messages": [{"role": "user", "content": question}]}
            status, found = await self.ask("POST", f"{BASE}/chat/completions", body, headers={"X-Session-ID": "s"})
            assert status == 200, found
            self._known.add(self._known.questions, question)

    async def projects(self, life: int) -> None:
        for number in range(20):
            name = f"p{life}x{number}"
            status, found = await self.ask("POST", "/v1/projects/n", {"name": name, "config_template": "rag"})
            assert status == 200, found
            self._known.add(self._known.projects, name)

    async def final(self, task: str) -> Any:
        """The task once it is final."""
        last = b""
        async with self._http.get(f"{self._url}{BASE}/tasks/{task}/events") as reply:
            assert reply.status == 200
            async for line in reply.content:
                last = line if line.startswith((b"{", b"data: {")) else last
        return json.loads(last.removeprefix(b"data: "))

    async def all_is_there(self) -> None:
        """Everything that was ever acknowledged is."""
        known = self._known
        _, listed = await self.ask("GET", f"{BASE}/datasets")
        files = listed["datasets"][0]["details"]["file_details"]
        found = {item["original_filename"]: item["hash"] for item in files}
        assert known.files.items() <= found.items()
        for task in known.tasks:
            assert (await self.ask("GET", f"{BASE}/tasks/{task}"))[0] == 200
        if known.questions:
            status, history = await self.ask("GET", f"{BASE}/chat/sessions/s/history")
            assert status == 200
            roles = [message["role"] for message in history["messages"]]
            assert roles == ["user", "assistant"] * (len(roles) // 2)  # no half of a turn
            said = [message["content"] for message in history["messages"] if message["role"] == "user"]
            assert [text for text in said if text in known.questions] == known.questions
        _, projects = await self.ask("GET", "/v1/projects/n")
        names = {item["name"]: item for item in projects["projects"]}
        assert set(known.projects) <= set(names)
        assert all(item["validation_error"] is None for item in names.values())

    async def work(self, life: int) -> None:
        """Do everything at once until the server is gone."""
        jobs = [self.upload(life), self.process(), self.chat(life), self.projects(life)]
        results = await asyncio.gather(*jobs, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, aiohttp.ClientError | json.JSONDecodeError):
                raise result


async def kill_when_enough(process: Process, known: Acknowledged) -> None:
    await known.enough.wait()
    process.kill()


@pytest.mark.parametrize("seed", [1])
async def test_what_was_acknowledged_survives_every_kill_and_the_work_goes_on(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    known = Acknowledged()
    folder = tmp_path / "projects" / "n" / "p"
    folder.mkdir(parents=True)
    (folder / "llamafarm.yaml").write_text(json.dumps({**PROJECT, "name": "p", "namespace": "n"}))
    for life, more in enumerate(TARGETS):
        known.target, known.enough = known.count + more + chance.randrange(3), asyncio.Event()
        async with server_process(tmp_path) as server, aiohttp.ClientSession() as http:
            driver = Driver(server.url, http, known)
            await driver.all_is_there()
            killing = asyncio.ensure_future(kill_when_enough(server.process, known))
            await driver.work(life)
            await killing
    async with server_process(tmp_path) as server, aiohttp.ClientSession() as http:
        driver = Driver(server.url, http, known)
        await driver.all_is_there()
        for task in known.tasks:
            assert (await driver.final(task))["state"] == "SUCCESS"
        _, started = await driver.ask("POST", f"{BASE}/datasets/d/actions", {"action_type": "process"})
        assert (await driver.final(started["task_id"]))["state"] == "SUCCESS"
        await everything_is_searchable(driver, known)


async def everything_is_searchable(driver: Driver, known: Acknowledged) -> None:
    """Each file is in the database exactly once, with all its chunks, and nothing else is."""
    _, listed = await driver.ask("GET", f"{BASE}/datasets")
    files = {item["hash"]: item for item in listed["datasets"][0]["details"]["file_details"]}
    _, documents = await driver.ask("GET", f"{BASE}/rag/databases/main/documents?limit=1000")
    assert sorted(item["id"] for item in documents) == sorted(files)
    assert {item["id"]: item["chunk_count"] for item in documents} == {
        sha256: item["chunk_count"] for sha256, item in files.items()
    }
    _, stats = await driver.ask("GET", f"{BASE}/rag/stats")
    assert stats["chunk_count"] == sum(item["chunk_count"] for item in documents)
    for name, sha256 in known.files.items():
        word = "wombat" + name.removeprefix("f").removesuffix(".txt")
        _, found = await driver.ask("POST", f"{BASE}/rag/query", {"query": word, "retrieval_strategy": "bm25"})
        assert found["results"][0]["document_id"] == sha256
