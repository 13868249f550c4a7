"""Steps that several commands share: following a task, printing sources, streaming an answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from paddock.cli.client import Client, project_path
from paddock.cli.show import Screen
from paddock.errors import PaddockError, UpstreamError
from paddock.logs import clean

FINAL = frozenset({"SUCCESS", "FAILURE"})


def follow_task(client: Client, screen: Screen, project: str, task_id: str) -> Any:
    """Show a task's progress until it ends; returns its last state."""
    task: Any = None
    with screen.progress() as bars:
        bar = bars.add_task("Waiting for the task", total=None)
        for task in client.events("GET", project_path(project, "tasks", task_id, "events")):
            meta = task.get("meta") or {}
            text = clean(meta.get("message") or task["state"])
            bars.update(bar, description=text, total=meta.get("total") or None, completed=meta.get("current", 0))
            if task["state"] in FINAL:
                break
    if task is None or task["state"] not in FINAL:
        task = client.ask("GET", project_path(project, "tasks", task_id))
    report_task(screen, task)
    return task


def report_task(screen: Screen, task: Any) -> None:
    """One sentence about a finished task, and one line for each file that failed."""
    result = task.get("result") or {}
    done, failed, skipped = (result.get(f"{name}_files", 0) for name in ("processed", "failed", "skipped"))
    screen.say(f"{task['state']}: {done} processed, {skipped} skipped, {failed} failed")
    for detail in result.get("details") or []:
        if detail.get("status") == "failed":
            screen.say(f"  {detail.get('filename')}: {detail.get('error')}")


def answer_pieces(events: Iterator[Any], found: dict[str, Any]) -> Iterator[str]:
    """The text of a streamed chat reply; `sources` are put into `found`. Raises UpstreamError for an error event."""
    for event in events:
        if "error" in event:
            raise UpstreamError(event["error"].get("message", "the answer broke off"), 502)
        if event.get("sources"):
            found["sources"] = event["sources"]
        for choice in event.get("choices") or []:
            if text := (choice.get("delta") or {}).get("content"):
                yield text


def show_sources(screen: Screen, sources: list[Any]) -> None:
    """The numbered sources under an answer."""
    if sources:
        screen.say("Sources:")
    for number, source in enumerate(sources, 1):
        page = f", page {source['page']}" if source.get("page") else ""
        name = source.get("filename") or (source.get("metadata") or {}).get("filename", "?")
        screen.say(f"  [{source.get('number', number)}] {name}{page} (score {source.get('score', 0):.2f})")


def exit_code(error: PaddockError) -> int:
    """2 for what the caller can mend, 1 for the rest."""
    return 2 if error.http_status in (400, 404, 409, 413, 422) else 1
