"""The log: one line for each event, nothing from outside breaks it, a stuck reader does not stop the server."""

import io
import json
import logging
import os
import threading

import pytest

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
        out.close()
        drain.join()  # before its end of the pipe is closed


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


class Stubborn:
    """Can't be shown."""

    def __str__(self) -> str:
        raise KeyError("no text")


@pytest.mark.parametrize("format_", ["json", "human"])
@pytest.mark.parametrize("odd", ["\ud800", 1 << 80, float("nan"), Stubborn(), {"a": Stubborn()}, b"\xff"])
def test_a_value_that_can_not_be_written_does_not_silence_the_log(format_: str, odd: object) -> None:
    out = io.StringIO()
    log = Log(LogSettings(format=format_), out)  # type: ignore[arg-type]  # one of its values
    log.event("odd", value=odd)
    log.event("next")
    log.close()
    assert ["odd" in out.getvalue(), "next" in out.getvalue()] == [True, True]


def test_a_terminal_of_another_encoding_gets_every_line() -> None:
    written_bytes = io.BytesIO()
    out = io.TextIOWrapper(written_bytes, encoding="ascii")
    log = Log(LogSettings(format="human"), out)
    log.event("first", name="é")
    log.event("second")
    log.close()
    assert b"first" in written_bytes.getvalue()
    assert b"second" in written_bytes.getvalue()


def test_a_log_that_wrote_nothing_started_no_thread() -> None:
    before = threading.active_count()
    log = Log(LogSettings(), io.StringIO())
    assert threading.active_count() == before
    log.close()


def test_warnings_of_libraries_come_as_events() -> None:
    out = io.StringIO()
    log = Log(LogSettings(format="json"), out)
    with log.taking_over():
        logging.getLogger("some.library").warning("odd %s", "thing")
    log.close()
    line = json.loads(out.getvalue())
    assert (line["event"], line["level"], line["message"]) == ("some.library", "warning", "odd thing")
