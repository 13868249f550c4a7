"""Projects on disk: what is read, kept, written and removed."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddock.errors import BadName, BadRequest, Conflict, DatasetNotFound, ProjectNotFound, ValidationFailed
from paddock.services.core import Core
from paddock.services.project_files import LoadedProject, ProjectFiles
from paddock.services.project_yaml import parse

TEMPLATE = """\
# A template
version: v1
name: x        # replaced
namespace: y
runtime:
  models:
    - name: a  # the only one
      provider: openai
      model: gpt
      api_key: sk-1
datasets: []
"""


@pytest.fixture
def files(make_core: Callable[..., Core]) -> ProjectFiles:
    return ProjectFiles(make_core())


@pytest.fixture
async def project(files: ProjectFiles) -> LoadedProject:
    return await files.create("ns", "p", TEMPLATE)


def file_of(project: LoadedProject) -> Path:
    return project.folder / "llamafarm.yaml"


async def test_a_created_project_is_its_template_with_its_own_name(project: LoadedProject) -> None:
    assert file_of(project).read_text() == TEMPLATE.replace("name: x  ", "name: p  ").replace(
        "namespace: y", "namespace: ns"
    )
    assert (project.config is not None, project.validation_error, project.warnings) == (True, None, [])
    assert project.last_modified.endswith("Z")


async def test_the_same_file_is_read_once(files: ProjectFiles, project: LoadedProject) -> None:
    assert await files.load("ns", "p") is await files.load("ns", "p")


async def test_an_edit_by_hand_is_seen_with_the_next_request(files: ProjectFiles, project: LoadedProject) -> None:
    file_of(project).write_text(TEMPLATE.replace("gpt", "other"))
    found = await files.load("ns", "p")
    assert found.config is not None
    assert found.config.model().model == "other"
    assert found.revision != project.revision


async def test_an_invalid_file_is_loaded_with_the_reason_and_has_no_config(
    files: ProjectFiles, project: LoadedProject
) -> None:
    file_of(project).write_text(TEMPLATE.replace("openai", "nobody"))
    found = await files.load("ns", "p")
    assert found.raw["runtime"]["models"][0]["provider"] == "nobody"
    assert (found.validation_error or "").startswith("runtime.models[0].provider: ")
    with pytest.raises(ValidationFailed, match="project ns/p has an invalid llamafarm"):
        await files.config("ns", "p")


async def test_a_file_that_is_not_yaml_is_loaded_with_the_reason(files: ProjectFiles, project: LoadedProject) -> None:
    file_of(project).write_bytes(b"a: [\xff")
    found = await files.load("ns", "p")
    assert found.raw == {}
    assert "not UTF-8" in (found.validation_error or "")


async def test_a_huge_file_is_not_read_into_memory(files: ProjectFiles, project: LoadedProject) -> None:
    with file_of(project).open("wb") as out:
        out.truncate(10**12)  # sparse
    assert "larger than" in ((await files.load("ns", "p")).validation_error or "")


async def test_a_deleted_folder_is_gone_with_the_next_request(files: ProjectFiles, project: LoadedProject) -> None:
    file_of(project).unlink()
    with pytest.raises(ProjectNotFound, match="POST /v1/projects/ns"):
        await files.load("ns", "p")


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "a\\b", "a\x00", "é", "x" * 65, "%2e%2e", "/etc"])
async def test_names_that_walk_the_tree_are_refused_everywhere(files: ProjectFiles, name: str) -> None:
    for pair in ((name, "p"), ("ns", name)):
        with pytest.raises(BadName):
            await files.load(*pair)
        with pytest.raises(BadName):
            await files.create(*pair, TEMPLATE)
        with pytest.raises(BadName):
            await files.save(*pair, {})
        with pytest.raises(BadName):
            await files.edit(*pair, lambda raw: None)
        with pytest.raises(BadName):
            await files.delete(*pair)
    with pytest.raises(BadName):
        await files.list(name)


async def test_links_out_of_the_data_folder_are_refused(
    files: ProjectFiles, project: LoadedProject, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "llamafarm.yaml").write_text(TEMPLATE)
    (project.folder.parent / "link").symlink_to(outside)
    (project.folder.parent / "filelink").mkdir()
    (project.folder.parent / "filelink" / "llamafarm.yaml").symlink_to(outside / "llamafarm.yaml")
    for name in ("link", "filelink"):
        with pytest.raises(BadName, match="symbolic link"):
            await files.load("ns", name)
    assert [one.name for one in await files.list("ns")] == ["p"]


async def test_yml_is_read_and_yaml_is_written(files: ProjectFiles, project: LoadedProject) -> None:
    file_of(project).rename(project.folder / "llamafarm.yml")
    assert (await files.load("ns", "p")).config is not None
    await files.edit("ns", "p", lambda raw: raw.update(datasets=None))
    assert sorted(path.name for path in project.folder.iterdir()) == ["llamafarm.yaml", "llamafarm.yaml.bak"]


async def test_the_list_has_every_project_and_skips_what_is_none(files: ProjectFiles, project: LoadedProject) -> None:
    await files.create("ns", "b", TEMPLATE)
    (project.folder.parent / "b" / "llamafarm.yaml").write_text("broken: [")
    (project.folder.parent / ".hidden").mkdir()
    (project.folder.parent / "empty").mkdir()
    (project.folder.parent / "file").touch()
    assert [(one.name, one.validation_error is None) for one in await files.list("ns")] == [("b", False), ("p", True)]


async def test_an_unknown_namespace_is_empty(files: ProjectFiles) -> None:
    assert await files.list("nobody") == []


async def test_creating_what_exists_is_a_conflict_even_when_it_is_invalid(
    files: ProjectFiles, project: LoadedProject
) -> None:
    file_of(project).write_text("broken: [")
    with pytest.raises(Conflict, match="exists already"):
        await files.create("ns", "p", TEMPLATE)


async def test_of_two_that_create_the_same_project_one_wins(files: ProjectFiles) -> None:
    outcomes = await asyncio.gather(*(files.create("ns", "q", TEMPLATE) for _ in range(5)), return_exceptions=True)
    assert sorted(type(one).__name__ for one in outcomes) == ["Conflict"] * 4 + ["LoadedProject"]


async def test_the_reserved_namespace_is_refused(files: ProjectFiles) -> None:
    with pytest.raises(BadRequest, match="reserved"):
        await files.create("llamafarm", "p", TEMPLATE)


async def test_nothing_is_left_of_a_project_whose_template_is_invalid(files: ProjectFiles, tmp_path: Path) -> None:
    with pytest.raises(ValidationFailed):
        await files.create("ns", "q", TEMPLATE.replace("openai", "nobody"))
    assert not (tmp_path / "projects").exists()


async def test_saving_keeps_comments_and_the_former_file(files: ProjectFiles, project: LoadedProject) -> None:
    before = file_of(project).read_text()
    raw = {**project.raw, "datasets": None, "prompts": [{"content": "Hi"}]}
    saved = await files.save("ns", "p", raw)
    text = file_of(project).read_text()
    assert text.startswith("# A template\n")
    assert "    - name: a  # the only one\n" in text
    assert saved.raw == raw
    assert (project.folder / "llamafarm.yaml.bak").read_text() == before


async def test_saving_puts_name_and_namespace_in(files: ProjectFiles, project: LoadedProject) -> None:
    saved = await files.save("ns", "p", {"runtime": {"provider": "openai", "model": "m"}})
    assert saved.raw == {"runtime": {"provider": "openai", "model": "m"}, "name": "p", "namespace": "ns"}


async def test_an_invalid_configuration_is_not_written(files: ProjectFiles, project: LoadedProject) -> None:
    before = file_of(project).read_bytes()
    with pytest.raises(ValidationFailed) as caught:
        await files.save("ns", "p", {**project.raw, "datasets": [{"name": "d", "database": "q"}]})
    assert [error.field for error in caught.value.errors] == ["datasets[0].database"]
    assert file_of(project).read_bytes() == before


async def test_masked_secrets_keep_their_value_on_disk(files: ProjectFiles, project: LoadedProject) -> None:
    model = {**project.raw["runtime"]["models"][0], "api_key": "********", "model": "new"}
    saved = await files.save("ns", "p", {**project.raw, "runtime": {"models": [model]}})
    assert saved.raw["runtime"]["models"][0] == {**model, "api_key": "sk-1"}


async def test_a_broken_file_can_be_replaced_but_not_edited(files: ProjectFiles, project: LoadedProject) -> None:
    file_of(project).write_text("broken: [")
    with pytest.raises(ValidationFailed, match="can't be changed"):
        await files.edit("ns", "p", lambda raw: None)
    assert (await files.save("ns", "p", project.raw)).config is not None


async def test_a_file_that_only_its_owner_may_read_stays_so(files: ProjectFiles, project: LoadedProject) -> None:
    file_of(project).chmod(0o600)
    await files.edit("ns", "p", lambda raw: raw.pop("datasets"))
    modes = {path.name: path.stat().st_mode & 0o777 for path in project.folder.iterdir()}
    assert modes == {"llamafarm.yaml": 0o600, "llamafarm.yaml.bak": 0o600}


async def test_an_edit_returns_what_the_change_returned(files: ProjectFiles, project: LoadedProject) -> None:
    def add(raw: dict[str, Any]) -> int:
        raw["prompts"] = [{"name": "a", "messages": []}]
        return len(raw["prompts"])

    assert await files.edit("ns", "p", add) == 1
    assert [one.name for one in (await files.config("ns", "p")).prompts] == ["a"]


async def test_an_edit_that_puts_a_mask_in_keeps_the_secret(files: ProjectFiles, project: LoadedProject) -> None:
    await files.edit("ns", "p", lambda raw: raw["runtime"]["models"][0].update(api_key="********", model="new"))
    assert (await files.config("ns", "p")).model().api_key == "sk-1"


async def test_an_edit_that_raises_or_ends_invalid_changes_nothing(files: ProjectFiles, project: LoadedProject) -> None:
    def fail(raw: dict[str, Any]) -> None:
        raw.clear()
        raise DatasetNotFound("none")

    before = file_of(project).read_bytes()
    with pytest.raises(DatasetNotFound):
        await files.edit("ns", "p", fail)
    with pytest.raises(ValidationFailed):
        await files.edit("ns", "p", lambda raw: raw.update(datasets=5))
    assert file_of(project).read_bytes() == before
    assert not (project.folder / "llamafarm.yaml.bak").exists()


async def test_edits_at_the_same_time_are_all_kept(files: ProjectFiles, project: LoadedProject) -> None:
    def add(number: int) -> Callable[[dict[str, Any]], None]:
        return lambda raw: raw.setdefault("prompts", []).append({"name": f"n{number}", "messages": []})

    await asyncio.gather(*(files.edit("ns", "p", add(number)) for number in range(20)))
    assert len((await files.config("ns", "p")).prompts) == 20


async def test_an_edit_that_changes_nothing_does_not_touch_the_file(
    files: ProjectFiles, project: LoadedProject
) -> None:
    before = file_of(project).stat()
    await files.edit("ns", "p", lambda raw: None)
    await files.save("ns", "p", project.raw)
    assert file_of(project).stat().st_mtime_ns == before.st_mtime_ns


async def test_deleting_removes_the_folder_and_an_empty_namespace(files: ProjectFiles, project: LoadedProject) -> None:
    (project.folder / "data").mkdir()
    (project.folder / "data" / "vectors.db").write_bytes(b"x")
    assert (await files.delete("ns", "p")).name == "p"
    assert not project.folder.parent.exists()
    with pytest.raises(ProjectNotFound):
        await files.load("ns", "p")
    with pytest.raises(ProjectNotFound):
        await files.delete("ns", "p")


async def test_an_invalid_project_is_deleted_too(files: ProjectFiles, project: LoadedProject) -> None:
    file_of(project).write_text("broken: [")
    assert (await files.delete("ns", "p")).validation_error
    assert not project.folder.exists()


async def test_a_failing_clean_up_leaves_the_project(files: ProjectFiles, project: LoadedProject) -> None:
    async def fail(_: LoadedProject) -> None:
        raise Conflict("still busy")

    with pytest.raises(Conflict):
        await files.delete("ns", "p", fail)
    assert (await files.load("ns", "p")).config is not None


async def test_what_a_crash_left_of_a_deletion_is_removed_at_start(files: ProjectFiles, project: LoadedProject) -> None:
    left = project.folder.parent / ".deleted-1"
    (left / "data").mkdir(parents=True)
    await files.prepare()
    assert not left.exists()
    assert project.folder.exists()


async def test_every_write_is_whole_for_a_reader(files: ProjectFiles, project: LoadedProject) -> None:
    path = file_of(project)
    seen: set[int] = set()

    async def read(until: asyncio.Event) -> None:
        while not until.is_set():
            seen.add(len(parse(path.read_bytes()).raw["datasets"] or []))
            await asyncio.sleep(0)

    done = asyncio.Event()
    reader = asyncio.create_task(read(done))
    text = "rag: {databases: [{name: m, type: ChromaStore}]}\n"
    path.write_text(path.read_text() + text)
    for number in range(10):
        await files.edit("ns", "p", lambda raw, n=number: raw["datasets"].append({"name": f"d{n}", "database": "m"}))  # type: ignore[misc]  # mypy infers no type for a default
    done.set()
    await reader
    assert seen <= set(range(11))
    assert not [path for path in project.folder.iterdir() if path.suffix == ".tmp"]
