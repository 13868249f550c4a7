"""Whole-or-absent files, uploaded bytes, and names that become paths."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from paddock.errors import BadName, ProviderUnavailable, TooLarge
from paddock.storage import Blobs, check_name, inside, is_hash, replace_file

CONTENT = b"one two three"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    made = Blobs(tmp_path / "blobs")
    made.prepare()
    return made


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def broken(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    raise ConnectionError("the client left")


def left(blobs: Blobs, tmp_path: Path) -> list[Path]:
    """Every file below the folder."""
    return [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]


async def test_bytes_are_stored_under_their_hash(blobs: Blobs) -> None:
    stored = await blobs.store(pieces(b"one ", b"two ", b"three"), 100)
    assert (stored.sha256, stored.size, stored.existed) == (DIGEST, len(CONTENT), False)
    assert blobs.path(DIGEST).read_bytes() == CONTENT
    assert list(blobs.hashes()) == [DIGEST]


async def test_the_same_bytes_are_stored_once(blobs: Blobs, tmp_path: Path) -> None:
    await blobs.store(pieces(CONTENT), 100)
    assert (await blobs.store(pieces(CONTENT), 100)).existed is True
    assert len(left(blobs, tmp_path)) == 1


async def test_the_same_bytes_at_the_same_time_become_one_file(blobs: Blobs, tmp_path: Path) -> None:
    stored = await asyncio.gather(*(blobs.store(pieces(CONTENT), 100) for _ in range(10)))
    assert {one.sha256 for one in stored} == {DIGEST}
    assert len(left(blobs, tmp_path)) == 1


async def test_an_upload_that_breaks_or_is_too_large_leaves_nothing(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        await blobs.store(broken(CONTENT), 100)
    with pytest.raises(TooLarge, match=r"uploads\.max_bytes"):
        await blobs.store(pieces(CONTENT, CONTENT), len(CONTENT))
    assert left(blobs, tmp_path) == []


async def test_a_truncated_file_under_the_hash_is_replaced(blobs: Blobs) -> None:
    blobs.path(DIGEST).parent.mkdir(parents=True)
    blobs.path(DIGEST).write_bytes(b"one")
    assert (await blobs.store(pieces(CONTENT), 100)).existed is False
    assert blobs.path(DIGEST).read_bytes() == CONTENT


async def test_bytes_are_announced_before_they_take_their_place(blobs: Blobs) -> None:
    seen: list[tuple[str, bool]] = []
    await blobs.store(pieces(CONTENT), 100, lambda sha256: seen.append((sha256, blobs.exists(sha256))))
    assert seen == [(DIGEST, False)]


async def test_a_disk_that_fails_is_told_in_one_sentence(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "not-prepared")
    with pytest.raises(ProviderUnavailable, match="can't be stored"):
        await blobs.store(pieces(CONTENT), 100)


def test_prepare_drops_what_unfinished_uploads_left(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    blobs.prepare()
    (tmp_path / "incoming" / "half").write_bytes(b"half")
    blobs.prepare()
    assert list((tmp_path / "incoming").iterdir()) == []


def test_deleting_missing_bytes_is_done(blobs: Blobs) -> None:
    blobs.delete(DIGEST)
    assert not blobs.exists(DIGEST)


@pytest.mark.parametrize("name", ["", "..", "a" * 64, DIGEST.upper(), DIGEST[:63], f"../{DIGEST}", f"{DIGEST}\n"])
def test_only_a_hash_is_a_place_for_bytes(blobs: Blobs, name: str) -> None:
    if name == "a" * 64:
        assert is_hash(name)
    else:
        with pytest.raises(BadName):
            blobs.path(name)


def test_a_file_is_replaced_whole_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    replace_file(path, b"old")
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_can_not_be_replaced_stays(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="directory"):
        replace_file(tmp_path / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["a", "A.b-c_9", "x" * 64, "...", ".hidden"])
def test_a_good_name_is_returned(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "a\\b", "a\0", "a b", "é", "a\n", "x" * 65, "x" * 10_000, "%2e%2e", "/etc", "\u202ea"],
)
def test_a_bad_name_is_refused_in_a_short_printable_sentence(name: str) -> None:
    with pytest.raises(BadName) as caught:
        check_name(name)
    assert len(caught.value.message) < 500
    assert caught.value.message.isprintable()


def test_no_link_leads_out_of_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "inner").mkdir(parents=True)
    (root / "out").symlink_to(tmp_path)
    (root / "within").symlink_to(root / "inner")
    assert inside(root, "inner", "a") == root / "inner" / "a"
    assert inside(root, "within") == root / "within"
    with pytest.raises(BadName, match="symbolic link"):
        inside(root, "out", "a")
    with pytest.raises(BadName):
        inside(root, "..")
