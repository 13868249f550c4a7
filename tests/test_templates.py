"""Templates in folders."""

from pathlib import Path

import pytest

from paddock.builtin.templates import MAX_BYTES, FolderTemplates, template_folders
from paddock.errors import ValidationFailed
from paddock.settings import Projects, Settings


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    own, shipped = tmp_path / "own", tmp_path / "shipped"
    own.mkdir()
    shipped.mkdir()
    (own / "mine.yaml").write_text("mine")
    (own / "both.yaml").write_text("own")
    (shipped / "both.yaml").write_text("shipped")
    (shipped / "notes.txt").write_text("no template")
    (shipped / ".hidden.yaml").write_text("no template")
    return own, shipped


async def test_the_templates_of_all_folders_are_listed(folders: tuple[Path, Path]) -> None:
    assert await FolderTemplates(folders).names() == ["both", "mine"]


async def test_of_two_with_one_name_the_earlier_folder_counts(folders: tuple[Path, Path]) -> None:
    assert await FolderTemplates(folders).read("both") == "own"
    assert await FolderTemplates(folders[::-1]).read("both") == "shipped"


@pytest.mark.parametrize("name", ["none", "../own/mine", "mine.yaml", "", "..", ".hidden", "a" * 100])
async def test_anything_but_a_known_name_is_no_template(folders: tuple[Path, Path], name: str) -> None:
    assert await FolderTemplates(folders).read(name) is None


async def test_a_template_that_is_added_is_found_at_once(folders: tuple[Path, Path]) -> None:
    source = FolderTemplates(folders)
    assert await source.read("new") is None
    (folders[0] / "new.yaml").write_text("new")
    assert await source.read("new") == "new"


async def test_a_missing_folder_has_no_templates(tmp_path: Path) -> None:
    assert await FolderTemplates([tmp_path / "none"]).names() == []


async def test_an_unusable_template_says_why(folders: tuple[Path, Path]) -> None:
    source = FolderTemplates(folders)
    (folders[0] / "mine.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ValidationFailed, match="not UTF-8"):
        await source.read("mine")
    (folders[0] / "mine.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(ValidationFailed, match="larger than"):
        await source.read("mine")


async def test_the_shipped_templates_come_after_the_users(folders: tuple[Path, Path]) -> None:
    settings = Settings(projects=Projects(template_dirs=(str(folders[0]),)))
    source = FolderTemplates(template_folders(settings))
    assert await source.names() == ["both", "default", "mine", "rag", "server"]
    assert "version: v1" in (await source.read("default") or "")
