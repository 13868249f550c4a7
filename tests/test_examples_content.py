"""The example projects and templates that ship with paddock: whole, valid, and able to answer what they promise."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from ruamel.yaml import YAML

from paddock.contracts.base import Json
from paddock.resources import conf_folder
from paddock.testing.server import RunningServer, running_server

EXAMPLES = sorted(path.parent for path in conf_folder().glob("examples/*/manifest.yaml"))
TEMPLATES = sorted(conf_folder().glob("templates/*.yaml"))

QUESTIONS = [
    ("meadow_handbook", "How many litres of water does a dairy cow need a day?", "90 litres", "dairy-herd.md"),
    ("meadow_handbook", "What does one share cost?", "250 euros", "membership.html"),
    ("meadow_handbook", "How many eggs does a hen lay in her first year?", "270 eggs", "poultry.txt"),
    ("meadow_handbook", "How deep is the house well?", "31 metres", "water-and-irrigation.pdf"),
    ("meadow_handbook", "When was the cooperative founded?", "14 April 1987", "welcome.md"),
    ("meadow_handbook", "How many days after sowing is the early potato harvested?", "75", "planting-calendar.csv"),
    ("harbour_museum", "When is the museum open on Sundays in winter?", "11:00 to 16:00", "opening-hours.md"),
    ("harbour_museum", "How much is a family ticket?", "£21.00", "tickets.md"),
    ("harbour_museum", "Who made the tide clock?", "Thomas Peat", "exhibits.csv"),
    ("harbour_museum", "What does a school visit cost for each child?", "£3.50", "school-visits.eml"),
    ("harbour_museum", "How long is the west mole?", "310 metres", "history.md"),
]


def loaded(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


def ids(path: Path) -> str:
    return path.name


def files_of(example: Path) -> list[Path]:
    return sorted(path for path in (example / "files").rglob("*") if path.is_file())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningServer]:
    """A server into which all examples have been imported and processed."""
    async with running_server(tmp_path_factory.mktemp("data")) as running:
        for example in EXAMPLES:
            body = {"namespace": "shown", "name": example.name, "process": True}
            reply = await running.ask("POST", f"/v1/examples/{example.name}/import-project", body)
            assert reply.status == 200, reply.body
            for task in reply.json()["task_ids"]:
                await running.ask("GET", f"/v1/projects/shown/{example.name}/tasks/{task}/events")  # ends with the task
        yield running


def test_the_documented_templates_are_there() -> None:
    assert {path.stem for path in TEMPLATES} >= {"default", "server", "rag"}


def test_there_are_two_examples() -> None:
    assert [path.name for path in EXAMPLES] == ["harbour_museum", "meadow_handbook"]


@pytest.mark.parametrize("example", EXAMPLES, ids=ids)
def test_a_manifest_names_what_the_project_file_has(example: Path) -> None:
    manifest, config = loaded(example / "manifest.yaml"), loaded(example / "llamafarm.yaml")
    assert manifest["id"] == manifest["slug"] == config["name"] == example.name
    assert manifest["config"] == {"yaml_path": "llamafarm.yaml"}
    assert manifest["primaryModel"] in [model["model"] for model in config["runtime"]["models"]]
    declared = {(one["name"], one["data_processing_strategy"], one["database"]) for one in config["datasets"]}
    assert {(one["name"], one["strategy"], one["database"]) for one in manifest["datasets"]} == declared


@pytest.mark.parametrize("example", EXAMPLES, ids=ids)
def test_each_file_belongs_to_exactly_one_dataset(example: Path) -> None:
    taken = [
        path
        for one in loaded(example / "manifest.yaml")["datasets"]
        for glob in one["ingest"]
        for path in example.glob(glob)
    ]
    assert sorted(taken) == files_of(example)


@pytest.mark.parametrize("example", EXAMPLES, ids=ids)
def test_files_are_small_and_free_of_blanks_at_line_ends(example: Path) -> None:
    for path in files_of(example):
        data = path.read_bytes()
        assert 1000 <= len(data) <= 8000, path.name
        if path.suffix != ".pdf":
            text = data.decode("utf-8")
            assert not re.search(r"[ \t]\r?$", text, re.MULTILINE), path.name
            assert text.endswith("\n"), path.name


def test_the_handbook_has_every_common_kind_of_file() -> None:
    kinds = {path.suffix for path in files_of(conf_folder() / "examples" / "meadow_handbook")}
    assert kinds == {".md", ".txt", ".csv", ".html", ".json", ".pdf"}


def test_the_pdf_s_table_of_objects_points_at_its_objects() -> None:
    data = (conf_folder() / "examples/meadow_handbook/files/handbook/water-and-irrigation.pdf").read_bytes()
    start = int(data.rsplit(b"startxref\n", 1)[1].split(b"\n", 1)[0])
    assert data[start : start + 4] == b"xref"
    rows = re.findall(rb"(\d{10}) 00000 n", data[start:])
    assert len(rows) > 6
    for number, row in enumerate(rows, 1):
        assert data[int(row) :].startswith(b"%d 0 obj" % number)
    assert data.count(b"/Type /Page ") == 3


@pytest.mark.parametrize("template", TEMPLATES, ids=ids)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_project_of_a_shipped_template_has_no_warning(server: RunningServer, template: Path) -> None:
    body = {"name": f"from_{template.stem}", "config_template": template.stem}
    assert (await server.ask("POST", "/v1/projects/shown", body)).status == 200
    project = (await server.ask("GET", f"/v1/projects/shown/from_{template.stem}")).json()["project"]
    assert project.get("validation_error") is None
    assert not project.get("warnings")


@pytest.mark.parametrize("example", EXAMPLES, ids=ids)
@pytest.mark.asyncio(loop_scope="module")
async def test_an_imported_example_has_no_warning(server: RunningServer, example: Path) -> None:
    project = (await server.ask("GET", f"/v1/projects/shown/{example.name}")).json()["project"]
    assert project.get("validation_error") is None
    assert not project.get("warnings")


@pytest.mark.parametrize(("example", "question", "answer", "file"), QUESTIONS, ids=[one[1] for one in QUESTIONS])
@pytest.mark.asyncio(loop_scope="module")
async def test_a_question_is_answered_from_the_right_file(
    server: RunningServer, example: str, question: str, answer: str, file: str
) -> None:
    found = await server.ask("POST", f"/v1/projects/shown/{example}/rag/query", {"query": question, "top_k": 3})
    results: list[dict[str, Json]] = found.json()["results"]
    assert any(
        answer in " ".join(str(hit["content"]).split()) for hit in results if hit["metadata"]["filename"] == file
    )
    body = {"messages": [{"role": "user", "content": question}]}
    reply = await server.ask("POST", f"/v1/projects/shown/{example}/chat/completions", body)
    assert answer in reply.json()["choices"][0]["message"]["content"]
