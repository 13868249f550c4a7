"""The event log: what is kept, for how long, what is hidden, and how it is listed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from paddock.contracts import events as contracts
from paddock.contracts.base import Context, endpoints_of
from paddock.contracts.events import EventDetail, EventFilter, EventList, EventListPath, EventPath
from paddock.errors import BadName, EventNotFound, ModelNotFound, ProjectNotFound, ValidationFailed
from paddock.outgoing import OutgoingClient
from paddock.plugins import Plugins
from paddock.services.core import Core
from paddock.services.event_rows import parse_time, shares
from paddock.services.events import EventLog, EventService
from paddock.services.project_files import ProjectFiles
from paddock.services.redaction import redacted
from paddock.settings import Events, Server, Settings
from paddock.storage import Blobs, Database
from paddock.storage.schema import MIGRATIONS

PROJECT = "name: p\nnamespace: n\nversion: v1\nruntime:\n  models: []\n"


class Clock:
    """Seconds since 1970 that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_705_314_600.25  # 2024-01-15T10:30:00.250Z

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def logging(folder: Path, clock: Clock | None = None, **events: Any) -> AsyncIterator[EventLog]:
    """An event log over a real state database in `folder`."""
    settings = Settings(server=Server(data_dir=str(folder)), events=Events(**events))
    state = await Database.open(folder / "state.db", MIGRATIONS)
    core = Core(
        settings=settings,
        plugins=Plugins([], []),
        state=state,
        blobs=Blobs(folder / "blobs"),
        http=OutgoingClient(),
    )
    log = EventLog(core, clock=clock or Clock())
    await log.start()
    try:
        yield log
    finally:
        await log.close()
        await state.close()


async def listed(log: EventLog, **filters: Any) -> EventList:
    return await log.page("n", "p", EventFilter(**filters))


async def detail(log: EventLog, at: int = 0) -> EventDetail:
    found = await listed(log)
    return await log.one("n", "p", found.events[at].event_id)


async def test_an_event_is_listed_with_both_sets_of_names(tmp_path: Path) -> None:
    async with logging(tmp_path) as log:
        log.begin("n", "p", "inference", "req_1").finish(model="m", tokens={"prompt": 1, "completion": 2, "total": 3})
        found = msgspec.to_builtins(await listed(log))
    event = found["events"][0]
    assert found | {"events": []} == {"total": 1, "events": [], "limit": 10, "offset": 0}
    assert event["event_id"].startswith("evt_20240115_103000_inference_")
    assert event["type"] == event["event_type"] == "inference"
    assert event["timestamp"] == "2024-01-15T10:30:00.250Z"
    assert event["summary"] == {"model": "m", "tokens": 3, "duration_ms": event["duration_ms"]}
    assert (event["status"], event["request_id"], event["namespace"], event["project"]) == (
        "completed",
        "req_1",
        "n",
        "p",
    )


async def test_the_detail_holds_the_steps_under_both_names(tmp_path: Path) -> None:
    async with logging(tmp_path) as log:
        event = log.begin("n", "p", "inference", config_hash="abc")
        event.sub("request_received", message_length=5)
        event.first_token()
        event.finish(model="m")
        found = await detail(log)
    assert [step.event_name for step in found.events] == ["request_received", "llm_first_token"]
    assert found.sub_events == found.events
    assert found.events[0].data == {"message_length": 5}
    assert found.time_to_first_token_ms is not None
    assert found.config_hash == "abc"
    assert found.data["model"] == "m"
    assert found.data["duration_ms"] == found.duration_ms == found.total_elapsed_time_ms


async def test_a_failed_event_carries_its_error(tmp_path: Path) -> None:
    async with logging(tmp_path) as log:
        log.begin("n", "p", "inference").fail(ModelNotFound("no such model"))
        found = await detail(log)
    assert (found.status, found.error) == ("failed", "no such model")


async def test_of_a_foreign_error_only_the_class_is_kept(tmp_path: Path) -> None:
    async with logging(tmp_path) as log:
        log.record("n", "p", "inference", error=OSError("/etc/secret/path"))
        assert (await detail(log)).error == "OSError"


async def test_an_event_that_is_over_tells_how_long_it_took_and_began_so_long_ago(tmp_path: Path) -> None:
    async with logging(tmp_path) as log:
        log.record("n", "p", "fit", seconds=90.0)
        log.record("n", "p", "pull")
        short, long = (await listed(log)).events
    assert short.duration_ms < 1000
    assert long.duration_ms == pytest.approx(90_000, abs=1000)
    assert long.timestamp < short.timestamp


async def test_only_the_first_end_of_an_event_counts(tmp_path: Path) -> None:
    async with logging(tmp_path) as log:
        event = log.begin("n", "p", "inference")
        event.finish()
        event.fail("late")
        found = await listed(log)
    assert [item.status for item in found.events] == ["completed"]


async def test_the_event_that_ended_last_comes_first_and_pages_do_not_overlap(tmp_path: Path) -> None:
    async with logging(tmp_path) as log:
        for number in range(5):
            log.record("n", "p", f"t{number}")
        first = await listed(log, limit=2)
        second = await listed(log, limit=2, offset=2)
    assert [item.type for item in (*first.events, *second.events)] == ["t4", "t3", "t2", "t1"]
    assert first.total == second.total == 5


async def test_events_are_filtered_by_type_and_time(tmp_path: Path) -> None:
    clock = Clock()
    async with logging(tmp_path, clock) as log:
        for kind in ("a", "b", "a"):
            log.record("n", "p", kind)
            clock.now += 60
        assert (await listed(log, type="a")).total == 2
        assert (await listed(log, start_time="2024-01-15T10:31:00Z")).total == 2
        assert (await listed(log, end_time="2024-01-15T12:31:00+02:00")).total == 1
        assert (await listed(log, start_time="2024-01-15T10:31:00", end_time="2024-01-15T10:32:00Z")).total == 1


def test_a_plus_sign_that_became_a_space_is_understood() -> None:
    assert parse_time("start_time", "2024-01-15T12:30:00 02:00") == parse_time("start_time", "2024-01-15T10:30:00Z")


@pytest.mark.parametrize("text", ["yesterday", "", "2024-13-01", "1-1-1T0Z", "9" * 5000, "'; DROP TABLE events"])
async def test_a_time_that_is_none_is_refused_by_name(tmp_path: Path, text: str) -> None:
    async with logging(tmp_path) as log:
        with pytest.raises(ValidationFailed) as caught:
            await listed(log, end_time=text)
    assert caught.value.errors[0].field == "end_time"


async def test_the_oldest_events_beyond_the_count_are_dropped_for_each_project(tmp_path: Path) -> None:
    async with logging(tmp_path, keep_count=3) as log:
        log.record("n", "quiet", "a")
        for number in range(6):
            log.record("n", "p", f"t{number}")
        found = await listed(log)
        quiet = await log.page("n", "quiet", EventFilter())
    assert [item.type for item in found.events] == ["t5", "t4", "t3"]
    assert quiet.total == 1


async def test_few_events_of_a_type_outlive_many_of_another(tmp_path: Path) -> None:
    async with logging(tmp_path, keep_count=40) as log:
        for kind in ("instance", "model_download", "instance"):
            log.record("n", "p", kind)
        for number in range(200):
            log.record("n", "p", "inference", number=number)
            if number % 20 == 0:
                await log.flush()
        found = await listed(log, limit=1000)
        newest = await log.one("n", "p", found.events[0].event_id)
    kinds = [item.type for item in found.events]
    assert (kinds.count("instance"), kinds.count("model_download")) == (2, 1)
    assert 37 <= kinds.count("inference") <= 60
    assert newest.data["number"] == 199


@pytest.mark.parametrize(
    ("counts", "keep", "expected"),
    [
        ({"a": 100, "b": 2}, 10, {"a": 8, "b": 2}),
        ({"a": 100, "b": 80, "c": 1}, 11, {"a": 5, "b": 5, "c": 1}),
        ({"a": 3, "b": 2}, 10, {"a": 3, "b": 2}),
        ({"a": 1, "b": 1, "c": 1}, 2, {"a": 1, "b": 1, "c": 0}),
        ({"a": 5, "b": 5}, 5, {"a": 3, "b": 2}),
        ({}, 5, {}),
    ],
)
def test_types_share_the_room_that_there_is(counts: dict[str, int], keep: int, expected: dict[str, int]) -> None:
    assert shares(counts, keep) == expected


async def test_events_that_are_too_old_are_dropped(tmp_path: Path) -> None:
    clock = Clock()
    async with logging(tmp_path, clock, keep_days=1) as log:
        log.record("n", "p", "old")
        await log.flush()
        clock.now += 86_401
        log.record("n", "p", "new")
    async with logging(tmp_path, clock, keep_days=1) as log:
        assert [item.type for item in (await listed(log)).events] == ["new"]
        clock.now += 86_401
    async with logging(tmp_path, clock, keep_days=1) as log:
        assert (await listed(log)).total == 0


async def test_closing_writes_what_waits(tmp_path: Path) -> None:
    async with logging(tmp_path) as log:
        log.record("n", "p", "last")
    async with logging(tmp_path) as log:
        assert (await listed(log)).total == 1


async def test_a_log_that_is_switched_off_keeps_nothing(tmp_path: Path) -> None:
    async with logging(tmp_path, enabled=False) as log:
        log.record("n", "p", "a")
        assert (await listed(log)).total == 0


async def test_forgetting_a_project_leaves_the_others_and_drops_what_still_runs(tmp_path: Path) -> None:
    clock = Clock()
    async with logging(tmp_path, clock) as log:
        log.record("n", "other", "a")
        log.record("n", "p", "done")
        running = log.begin("n", "p", "running")
        clock.now += 1
        await log.forget("n", "p")
        running.finish()
        assert (await listed(log)).total == 0
        log.record("n", "p", "again")
        assert [item.type for item in (await listed(log)).events] == ["again"]
        assert (await log.page("n", "other", EventFilter())).total == 1


async def test_another_projects_event_is_not_found(tmp_path: Path) -> None:
    async with logging(tmp_path) as log:
        log.record("n", "p", "a")
        event_id = (await listed(log)).events[0].event_id
        for namespace, project in (("n", "q"), ("m", "p")):
            with pytest.raises(EventNotFound):
                await log.one(namespace, project, event_id)


async def test_ids_stay_unique_within_one_second(tmp_path: Path) -> None:
    async with logging(tmp_path) as log:
        for _ in range(5000):
            log.record("n", "p", "a")
        assert (await listed(log)).total == 5000


async def test_secrets_bytes_and_long_values_are_not_kept(tmp_path: Path) -> None:
    async with logging(tmp_path) as log:
        event = log.begin("n", "p", "inference")
        event.sub("step", api_key="abc", text="use sk-abcdefghijklmnopqrstuvwx please", blob=b"\x00" * 99)
        event.finish(
            headers={"Authorization": "Bearer xyz"}, long="x" * 5000, image="data:image/png;base64,AAAA", many=[1] * 99
        )
        found = await detail(log)
    assert found.events[0].data == {"api_key": "***", "text": "use *** please", "blob": "<99 bytes>"}
    assert found.data["headers"] == {"Authorization": "***"}
    assert found.data["long"] == "x" * 1000 + "… (4000 more characters)"
    assert found.data["image"] == "<data of 26 characters>"
    assert found.data["many"] == [*[1] * 30, "… 69 more"]


async def test_an_event_that_is_too_large_keeps_model_and_tokens(tmp_path: Path) -> None:
    async with logging(tmp_path) as log:
        log.record("n", "p", "inference", model="m", tokens={"total": 3}, rows=[["y" * 900] * 30] * 30)
        found = await detail(log)
    assert found.summary.tokens == 3
    assert found.summary.model == "m"
    assert "rows" not in found.data


async def test_values_that_are_no_json_do_not_disturb(tmp_path: Path) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    async with logging(tmp_path) as log:
        for value in (deep, {(1, 2): 3}, "half a pair \ud800", {1, 2}, float("nan"), object()):
            log.record("n", "p", "odd", value=value, model="m")
        log.record("n", "p", "odd", error="\ud800")
        found = await listed(log)
        assert found.total == 7
        for item in found.events:
            assert (await log.one("n", "p", item.event_id)).data


async def test_what_is_being_written_is_waited_for(tmp_path: Path) -> None:
    async with logging(tmp_path) as log:
        for number in range(200):
            log.record("n", "p", "a")
            writing = asyncio.ensure_future(log.flush())
            await asyncio.sleep(0)
            assert (await listed(log)).total == number + 1
            await writing


def test_redaction_survives_deep_and_odd_values() -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    assert msgspec.json.encode(redacted({"deep": deep, 5: float("nan"), "odd": object}))


async def test_the_service_refuses_unknown_projects_and_hostile_ids(tmp_path: Path) -> None:
    async with logging(tmp_path) as log:
        folder = tmp_path / "projects" / "n" / "p"
        folder.mkdir(parents=True)
        (folder / "llamafarm.yaml").write_text(PROJECT)
        service = EventService(log, ProjectFiles(log._core))
        ctx = Context(endpoints_of(contracts)[0], "r", "http://x", {})
        assert (await service.event_logs_list(ctx, EventListPath(namespace="n", project="p"))).total == 0
        with pytest.raises(ProjectNotFound):
            await service.event_logs_list(ctx, EventListPath(namespace="n", project="q"))
        with pytest.raises(EventNotFound):
            await service.event_log_get(ctx, EventPath(namespace="n", project="p", event_id="evt_x"))
        for hostile in ("..", "a/b", "a\x00", "x" * 10_000):
            with pytest.raises(BadName):
                await service.event_log_get(ctx, EventPath(namespace="n", project="p", event_id=hostile))
