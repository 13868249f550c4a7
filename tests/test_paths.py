"""Names from outside become paths in one place, and never lead out of it."""

from pathlib import Path

import pytest

from paddock.errors import BadName
from paddock.storage import check_name, inside


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "real" / "a" / "b").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "real")  # the root itself may be a link
    return tmp_path / "root"


def test_a_name_becomes_a_path_below_the_root(root: Path) -> None:
    assert inside(root, "a", "b") == root / "a" / "b"
    assert inside(root, "not", "there", "yet") == root / "not" / "there" / "yet"
    assert inside(root) == root


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\\b", "a\x00", "é", "a" * 65, "a b", "a\n"])
def test_a_name_that_is_more_than_a_name_is_refused(root: Path, name: str) -> None:
    with pytest.raises(BadName):
        inside(root, "a", name)


@pytest.mark.parametrize(
    ("name", "shown"), [("ü\n", r"'\xfc\n' is"), ("a/b", "'a/b' is"), ("z" * 65, "z" * 64 + "'… is")]
)
def test_a_refused_name_is_shown_as_it_was_sent_and_cut_where_it_is_long(name: str, shown: str) -> None:
    with pytest.raises(BadName) as refused:
        check_name(name)
    assert shown in refused.value.message


@pytest.mark.parametrize("target", ["../elsewhere", "/", "..", "a/../../elsewhere"])
def test_a_link_that_leads_out_is_refused_wherever_it_stands(root: Path, target: str) -> None:
    (root / "out").symlink_to(target)
    for names in (("out",), ("out", "x"), ("out", "x", "y")):
        with pytest.raises(BadName, match="symbolic link"):
            inside(root, *names)


def test_a_link_behind_a_link_is_followed_too(root: Path) -> None:
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("../elsewhere")
    with pytest.raises(BadName, match="symbolic link"):
        inside(root, "one", "x")


def test_a_link_that_stays_inside_is_fine(root: Path) -> None:
    (root / "near").symlink_to("a")
    assert inside(root, "near", "b") == root / "near" / "b"
