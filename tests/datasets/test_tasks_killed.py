"""What is left when the server is killed in the middle of its work, and what the next start makes of it."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHILD = Path(__file__).with_name("killed.py")


class Run:
    """The child's output up to its end, or until it was killed."""

    def __init__(self, folder: Path, command: str, point: str = "none", kill_after: int = 0) -> None:
        self.lines: list[list[str]] = []
        self.report: Any = None
        stored = 0
        with subprocess.Popen(
            [sys.executable, str(CHILD), str(folder), command, point], stdout=subprocess.PIPE, text=True, bufsize=1
        ) as child:
            assert child.stdout is not None
            for line in child.stdout:
                self.lines.append(line.split())
                stored += line.startswith("STORED")
                if line.startswith("AT ") or (kill_after and stored == kill_after):
                    os.kill(child.pid, signal.SIGKILL)
                    break
                if line.startswith("REPORT "):
                    self.report = json.loads(line.removeprefix("REPORT "))
            child.stdout.close()
            self.status = child.wait()

    def said(self, word: str) -> list[list[str]]:
        """The rest of the lines that begin with a word."""
        return [line[1:] for line in self.lines if line[0] == word]


@pytest.mark.parametrize(
    ("point", "attempts"),
    # Killed before the chunks were in the store, the file is processed again; killed after, it is not.
    [("parse", 2), ("embed", 2), ("replace", 2), ("stored", 1)],
)
def test_a_killed_ingest_goes_on_at_the_next_start(tmp_path: Path, point: str, attempts: int) -> None:
    killed = Run(tmp_path, "fill", point)
    assert killed.status == -signal.SIGKILL
    assert killed.said("AT") == [[point]]
    acknowledged = dict(killed.said("ACK"))
    looked = Run(tmp_path, "look").report
    assert ("special.txt" in looked["stored"]) is (point == "stored")  # an unfinished file has no vectors
    assert {name for (name,) in killed.said("STORED")} <= set(looked["stored"])
    resumed = Run(tmp_path, "resume").report
    assert {name: file[0] for name, file in resumed["files"].items()} == acknowledged
    assert resumed["bytes"] == sorted(acknowledged.values())
    (task,) = resumed["tasks"]
    assert task["state"] == "SUCCESS"
    assert all(state == "success" for _, state, _ in task["files"])
    assert {name: count for name, _, count in task["files"]}["special.txt"] == attempts
    assert all(file[1] for file in resumed["files"].values())
    assert resumed["stored"] == {name: file[2] for name, file in resumed["files"].items()}


def test_finished_files_are_not_run_again_however_often_the_server_is_killed(tmp_path: Path) -> None:
    runs = [
        Run(tmp_path, "fill", kill_after=2),
        Run(tmp_path, "resume", kill_after=1),
        Run(tmp_path, "resume", kill_after=1),
    ]
    runs.append(Run(tmp_path, "resume"))
    report = runs[-1].report
    (task,) = report["tasks"]
    assert task["state"] == "SUCCESS"
    assert len(report["stored"]) == 7
    for run, later in itertools.pairwise(runs):
        done = {name for (name,) in run.said("STORED")}
        assert done.isdisjoint(name for (name,) in later.said("PARSE"))


def test_a_cancel_that_was_killed_is_finished_at_the_next_start(tmp_path: Path) -> None:
    killed = Run(tmp_path, "cancel", "parse+delete")
    assert killed.said("AT") == [["delete"]]
    report = Run(tmp_path, "resume").report
    (task,) = report["tasks"]
    assert (task["state"], task["cancelled"]) == ("FAILURE", True)
    assert {state for _, state, _ in task["files"]} <= {"cancelled", "reverted"}
    assert report["stored"] == {}
    assert not any(file[1] for file in report["files"].values())
    assert len(report["bytes"]) == 7


def test_a_file_that_kills_the_server_every_time_fails_in_the_end(tmp_path: Path) -> None:
    runs = [Run(tmp_path, "fill", "parse")]
    while runs[-1].report is None and len(runs) < 10:
        runs.append(Run(tmp_path, "resume", "parse"))
    (task,) = runs[-1].report["tasks"]
    assert task["state"] == "FAILURE"
    failed = [file for file in task["files"] if file[1] == "failure"]
    assert failed == [["special.txt", "failure", 4]]
    assert len(runs) == 5
