"""The log: one line for each event, nothing from outside breaks it, a stuck reader does not stop the server."""

import io
import json
import os
import threading

from paddock.logs import QUEUE, Log
from paddock.settings import Log as LogSettings


def written(format_: str, **fields: object) -> str:
    """What one event looks like."""
    out = io.StringIO()
    log = Log(LogSettings(format=format_), out)  # type: ignore[arg-type]  # one of its values
    log.event("thing_done", **fields)  # type: ignore[arg-type]  # fields only
    log.close()
    return out.getvalue()


def test_json_lines_are_json() -> None:
    line = json.loads(written("json", path="/x", status=200))
    assert (line["event"], line["path"], line["status"], line["level"]) == ("thing_done", "/x", 200, "info")


def test_a_line_break_or_terminal_escape_from_outside_stays_one_harmless_line() -> None:
    hostile = "a\nb\x1b[31mc\r\u202ed"
    for format_ in ("json", "human"):
        text = written(format_, name=hostile)
        assert text.count("\n") == 1
        assert "\x1b" not in text


def test_an_event_below_the_level_is_left_out() -> None:
    out = io.StringIO()
    log = Log(LogSettings(format="json", level="warning"), out)
    log.event("quiet")
    log.event("loud", "warning")
    log.close()
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["loud"]


def test_a_reader_that_never_reads_does_not_stop_the_writer() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w") as out:
        log = Log(LogSettings(format="json"), out)
        for _ in range(3 * QUEUE):
            log.event("x", data="y" * 100)
        # All calls came back although nobody read; now the reader catches up and the writer can end.
        drain = threading.Thread(target=lambda: [None for _ in iter(lambda: reader.read(65536), b"")], daemon=True)
        drain.start()
        log.close()


def test_a_crash_is_written_with_its_traceback_under_the_requests_id() -> None:
    out = io.StringIO()
    log = Log(LogSettings(format="json"), out)
    try:
        raise KeyError("lost")
    except KeyError as error:
        log.crash("req_1", error)
    log.close()
    line = json.loads(out.getvalue())
    assert line["request_id"] == "req_1"
    assert "KeyError" in line["traceback"]
