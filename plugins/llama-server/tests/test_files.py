"""GGUF files: headers that lie, where files are looked for, and which may be named."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from paddock_llama_server import stub
from paddock_llama_server.files import ModelFiles, parts
from paddock_llama_server.gguf import NotGguf, probe
from paddock_llama_server.tools import ModelFileMissing

from paddock.errors import BadRequest, ModelNotFound


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def header(body: bytes = b"", *, tensors: int = 0, entries: int = 0, version: int = 3, magic: bytes = b"GGUF") -> bytes:
    return magic + struct.pack("<IQQ", version, tensors, entries) + body


def array(kind: int, count: int, body: bytes = b"") -> bytes:
    return text(b"k") + struct.pack("<IIQ", 9, kind, count) + body


LIES: dict[str, bytes] = {
    "empty": b"", "cut magic": b"GG", "other magic": header(magic=b"GGML"), "cut header": header()[:20],
    "version": header(version=77), "entries": header(entries=2**63), "tensors": header(tensors=2**63),
    "entry missing": header(entries=1), "name length": header(struct.pack("<Q", 2**63), entries=1),
    "text length": header(text(b"k") + struct.pack("<IQ", 8, 2**40), entries=1),
    "unknown type": header(text(b"k") + struct.pack("<I", 99), entries=1),
    "array of numbers": header(array(5, 2**62), entries=1), "array of texts": header(array(8, 2**40), entries=1),
    "array of arrays": header(array(9, 2**40), entries=1), "array of nothing": header(array(77, 1), entries=1),
    "deep array": header(array(9, 1, struct.pack("<IQ", 9, 1) * 1000), entries=1),
    "dimensions": header(text(b"t") + struct.pack("<I", 2**31), tensors=1),
    "tensor beyond": header(text(b"t") + struct.pack("<IQIQ", 1, 5, 0, 2**62), tensors=1),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_header_is_refused(tmp_path: Path, lie: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(LIES[lie])
    with pytest.raises(NotGguf):
        probe(path)
    with pytest.raises(ModelFileMissing, match=r"x\.gguf"):
        ModelFiles([tmp_path]).check({"model": str(path)}, (), closed=False)


@pytest.mark.parametrize("cut", range(0, 90, 7))
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, cut: int) -> None:
    whole = stub.write_model(tmp_path / "x.gguf", a=1).read_bytes()
    (tmp_path / "y.gguf").write_bytes(whole[:cut])
    with pytest.raises(NotGguf):
        probe(tmp_path / "y.gguf")


def test_a_sound_header_is_read(tmp_path: Path) -> None:
    body = text(b"general.architecture") + struct.pack("<I", 8) + text(b"llama")
    body += text(b"llama.context_length") + struct.pack("<II", 4, 4096)
    body += array(8, 2, text(b"a") + text(b"b")) + array(9, 1, struct.pack("<IQI", 4, 1, 7))
    body += text(b"t") + struct.pack("<IQIQ", 1, 5, 0, 0)
    path = tmp_path / "x.gguf"
    path.write_bytes(header(body, entries=4, tensors=1) + bytes(64))
    found = probe(path)
    assert (found.architecture, found.context_length, found.tensors) == ("llama", 4096, 1)


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a model file under the folder."""
    return lambda name: stub.write_model(tmp_path / name)


SNAPSHOT = "hub/models--Org--Some-Model-GGUF/snapshots/abc"


class TestNames:
    def test_files_of_the_hub_cache_are_named_by_repo_and_quant(
        self, tmp_path: Path, put: Callable[[str], Path]
    ) -> None:
        put(f"{SNAPSHOT}/Some-Model-Q4_K_M.gguf")
        put(f"{SNAPSHOT}/sub/Some-Model-Q8_0.gguf")
        put(f"{SNAPSHOT}/mmproj-F16.gguf")
        put("plain.gguf")
        ids = [one.id for one in ModelFiles([tmp_path]).all()]
        assert ids == ["Org/Some-Model-GGUF:Q4_K_M", "Org/Some-Model-GGUF:Q8_0", "plain.gguf"]

    def test_a_model_in_parts_is_one_with_the_size_of_all(self, tmp_path: Path, put: Callable[[str], Path]) -> None:
        files = [put(f"{SNAPSHOT}/M-Q4_0-0000{number}-of-00002.gguf") for number in (1, 2)]
        (found,) = ModelFiles([tmp_path]).all()
        assert found.path == files[0]
        assert found.size == sum(path.stat().st_size for path in files)
        assert parts(files[1]) == files

    @pytest.mark.parametrize("name", ["Org/Some-Model-GGUF:Q4_K_M", "Org/Some-Model-GGUF", "M-Q4_K_M.gguf", "M-Q4_K_M"])
    def test_a_model_is_found_by_any_of_its_names(self, tmp_path: Path, put: Callable[[str], Path], name: str) -> None:
        wanted = put(f"{SNAPSHOT}/M-Q4_K_M.gguf")
        put(f"{SNAPSHOT}/M-F16.gguf")
        assert ModelFiles([tmp_path]).find(name, closed=True) == wanted

    def test_an_unknown_one_is_not_found_and_near_names_are_told(
        self, tmp_path: Path, put: Callable[[str], Path]
    ) -> None:
        put(f"{SNAPSHOT}/M-Q4_K_M.gguf")
        with pytest.raises(ModelNotFound, match="Org/Some-Model-GGUF:Q4_K_M"):
            ModelFiles([tmp_path]).find("Org/Some-Model:Q4_K_M", closed=False)

    def test_a_link_of_the_cache_is_followed(self, tmp_path: Path, put: Callable[[str], Path]) -> None:
        blob = put("hub/models--Org--Some-Model-GGUF/blobs/0123")
        link = tmp_path / SNAPSHOT / "M-Q4_0.gguf"
        link.parent.mkdir(parents=True)
        link.symlink_to(blob)
        found = ModelFiles([tmp_path / "hub"])
        assert found.find("Org/Some-Model-GGUF:Q4_0", closed=True) == link
        found.check({"model": str(link)}, (), closed=True)


class TestChecks:
    def test_a_link_that_leads_out_of_the_folders_is_refused_with_keys(
        self, tmp_path: Path, put: Callable[[str], Path]
    ) -> None:
        outside = put("elsewhere/x.gguf")
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / "x.gguf").symlink_to(outside)
        files = ModelFiles([tmp_path / "models"])
        with pytest.raises(BadRequest, match=r"llama_server\.model_dirs"):
            files.check({"model": str(tmp_path / "models" / "x.gguf")}, (), closed=True)
        files.check({"model": str(tmp_path / "models" / "x.gguf")}, (), closed=False)

    @pytest.mark.parametrize("option", ["mmproj", "model_draft", "lora", "control_vector"])
    def test_every_file_that_is_named_must_be_there(
        self, tmp_path: Path, put: Callable[[str], Path], option: str
    ) -> None:
        value: object = ["/nowhere/x.gguf"] if option in ("lora", "control_vector") else "/nowhere/x.gguf"
        with pytest.raises(ModelFileMissing, match=option):
            ModelFiles([tmp_path]).check({"model": str(put("m.gguf")), option: value}, (), closed=False)

    def test_every_part_must_be_there(self, tmp_path: Path, put: Callable[[str], Path]) -> None:
        first = put("m-00001-of-00003.gguf")
        put("m-00002-of-00003.gguf")
        with pytest.raises(ModelFileMissing, match="00003-of-00003"):
            ModelFiles([tmp_path]).check({"model": str(first)}, (), closed=False)

    def test_files_of_the_extra_arguments_are_held_to_the_same_rule(self, tmp_path: Path) -> None:
        with pytest.raises(ModelFileMissing):
            ModelFiles([tmp_path]).check({}, ("-m", "/nowhere/x.gguf"), closed=False)
