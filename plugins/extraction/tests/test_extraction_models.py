"""Models that come, lie, break or are missing; and the whole through HTTP."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from paddock_extraction import plugin
from paddock_extraction.samples import layout
from paddock_extraction.settings import ExtractionSettings

from paddock.cli import main
from paddock.errors import BadRequest, ModelNotFound, ValidationFailed
from paddock.testing.hub_cache import cache_model
from paddock.testing.ocr import LINES, sample_page
from paddock.testing.server import running_server


async def test_an_imported_model_is_listed_and_only_document_models_are(desk: Any, tiny: Path) -> None:
    found = desk.take(tiny, "naver-clova-ix/donut-base-finetuned-cord-v2")
    assert (found.task, found.size > 0) == ("extraction", True)
    assert "POST /v1/documents/extract" in found.hint
    other = desk.cache.folder("org/text") / "snapshots" / "1"
    other.mkdir(parents=True)
    (other / "config.json").write_text('{"model_type": "bert"}')
    broken = desk.cache.folder("org/broken") / "snapshots" / "1"
    broken.mkdir(parents=True)
    (broken / "config.json").write_text("{")
    assert await desk.extractor.models() == ["naver-clova-ix/donut-base-finetuned-cord-v2"]


async def test_the_same_import_again_replaces_itself(desk: Any, tiny: Path) -> None:
    first = desk.take(tiny)
    again = desk.take(tiny)
    assert first.folder == again.folder
    assert len(await desk.ask()) == 1


async def test_a_model_that_is_not_there_is_named_with_its_command(desk: Any) -> None:
    with pytest.raises(ModelNotFound, match="org/none"):
        await desk.ask(model="org/none")
    with pytest.raises(ModelNotFound):
        await desk.ask(model="../../etc")


@pytest.mark.parametrize(
    ("gone", "reason"),
    [
        ("tokenizer.json", "tokenizer.json"),
        ("encoder_model.onnx", "encoder_model.onnx: export it with optimum-cli .* --task image-to-text-with-past"),
        ("decoder_*.onnx", "decoder_model_merged.onnx"),
        ("preprocessor_config.json", "preprocessor_config.json"),
        ("config.json", "config.json"),
    ],
)
def test_a_folder_that_lacks_something_is_refused_by_its_name(
    desk: Any, tmp_path: Path, tiny: Path, gone: str, reason: str
) -> None:
    for path in tiny.glob(gone):
        path.unlink()
    with pytest.raises(ValidationFailed, match=reason):
        desk.take(tiny)
    assert desk.cache.models() == []
    assert not list((tmp_path / "hub").glob(".import-*"))


def test_folders_of_other_models_are_left_to_other_importers(desk: Any, tmp_path: Path, tiny: Path) -> None:
    assert desk.importer.fits(tiny)
    assert desk.importer.fits(layout(tmp_path / "layout", "QuestionAnswering"))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert not desk.importer.fits(tmp_path)
    assert not desk.importer.fits(tmp_path / "none")


async def test_a_model_that_a_hub_stores_in_its_own_way_is_run_as_it_was_fetched(desk: Any, tiny: Path) -> None:
    files = {path.name: path.read_bytes() for path in tiny.iterdir()}  # noqa: ASYNC240  a folder of a test
    stored = {f"onnx/{name}" if name.endswith(".onnx") else name: data for name, data in files.items()}
    cache_model(desk.cache.root, "org/model", stored)
    assert await desk.extractor.models() == ["org/model"]
    assert (await desk.ask())[0].fields[-1].value == "5.60"


def test_only_what_is_run_is_taken(desk: Any, tiny: Path) -> None:
    (tiny / "encoder_model_fp16.onnx").write_bytes(b"another")
    (tiny / "decoder_model_merged.onnx_data").write_bytes(b"weights")
    taken = {path.name for path in desk.take(tiny).folder.glob("*.onnx*")}
    assert taken == {"encoder_model.onnx", "decoder_model_merged.onnx", "decoder_model_merged.onnx_data"}


@pytest.mark.parametrize("merged", [True, False])
async def test_what_optimum_quantised_is_run_under_its_names(desk: Any, tiny: Path, merged: bool) -> None:
    (tiny / "generation_config.json").unlink()  # it leaves this out then
    for path in list(tiny.glob("*.onnx")):  # noqa: ASYNC240  a folder of a test
        path.rename(path.with_stem(f"{path.stem}_quantized"))
    if not merged:
        (tiny / "decoder_model_merged_quantized.onnx").unlink()
    desk.take(tiny)
    assert (await desk.ask())[0].fields[-1].value == "5.60"


async def test_weights_beside_a_graph_come_with_it(desk: Any, tiny: Path) -> None:
    graph = onnx.load(tiny / "encoder_model.onnx")
    onnx.save(
        graph,
        tiny / "encoder_model.onnx",
        save_as_external_data=True,
        location="encoder_model.onnx_data",
        size_threshold=0,
    )
    assert (desk.take(tiny).folder / "encoder_model.onnx_data").stat().st_size > 10_000
    assert (await desk.ask())[0].fields[-1].value == "5.60"


def test_another_reader_of_pictures_is_no_donut(desk: Any, tiny: Path) -> None:
    desk.change(tiny / "config.json", ("donut-swin", "vit"))  # as TrOCR, whose pixels are others
    assert not desk.importer.fits(tiny)
    with pytest.raises(ValidationFailed, match="neither a Donut"):
        desk.take(tiny)


def test_links_in_a_folder_are_not_followed(desk: Any, tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tiny / "extra.onnx_data").symlink_to(tmp_path / "secret")
    assert not (desk.take(tiny).folder / "extra.onnx_data").exists()
    (tiny / "encoder_model.onnx_data").symlink_to(tmp_path / "secret")
    with pytest.raises(ValidationFailed, match="a link that leads out of the folder"):
        desk.take(tiny)


async def test_a_snapshot_of_another_cache_is_taken_through_its_links(desk: Any, tmp_path: Path, tiny: Path) -> None:
    snapshot, blobs = tmp_path / "models--org--model" / "snapshots" / "1", tmp_path / "models--org--model" / "blobs"
    shutil.copytree(tiny, blobs)
    shutil.copytree(tiny, snapshot, copy_function=lambda path, new: Path(new).symlink_to(blobs / Path(path).name))
    assert desk.take(snapshot, None).model == "org/model"
    assert (await desk.ask())[0].fields[-1].value == "5.60"


def test_a_model_over_the_limit_is_refused(desk_with: Any, tiny: Path) -> None:
    desk = desk_with(max_model_mb=1)
    (tiny / "encoder_model.onnx_data").write_bytes(bytes(2 * 1024 * 1024))
    with pytest.raises(ValidationFailed, match=r"extraction\.max_model_mb"):
        desk.take(tiny)


@pytest.mark.parametrize("file", ["encoder_model.onnx", "decoder_model_merged.onnx", "tokenizer.json", "config.json"])
@pytest.mark.parametrize("damage", [b"", b"rubbish", b"\x08\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f"])
async def test_a_damaged_file_is_refused_and_the_next_page_is_served(
    desk: Any, tiny: Path, file: str, damage: bytes
) -> None:
    desk.take(tiny, "org/good")
    found = desk.take(tiny, "org/bad")
    (found.folder / file).write_bytes(damage)
    with pytest.raises((BadRequest, ModelNotFound), match="org/bad"):
        await desk.ask(model="org/bad")
    assert (await desk.ask(model="org/good"))[0].fields[-1].value == "5.60"


async def test_a_model_whose_inputs_nobody_can_give_is_refused(desk: Any, tiny: Path) -> None:
    (tiny / "encoder_model.onnx").write_bytes((tiny / "decoder_model_merged.onnx").read_bytes())
    desk.take(tiny)
    with pytest.raises(BadRequest, match="nobody here can give"):
        await desk.ask()


async def test_a_helper_keeps_its_model_and_is_replaced_when_killed(desk: Any, tiny: Path) -> None:
    desk.take(tiny)
    await desk.ask()
    (idle,) = desk.extractor.pool._idle
    await desk.ask()
    assert desk.extractor.pool._idle == [idle]
    os.kill(idle._process.pid, signal.SIGKILL)
    assert len(await desk.ask()) == 1


async def test_a_caller_that_leaves_ends_the_work(desk: Any, tiny: Path) -> None:
    desk.take(tiny)
    asking = asyncio.ensure_future(desk.ask("extraction", *[desk.picture()] * 50))
    async with asyncio.timeout(60):
        while not desk.extractor.pool._busy:  # noqa: ASYNC110  a thread takes it: there is no event
            await asyncio.sleep(0.001)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not desk.extractor.pool._busy


async def test_through_http_a_page_answers_by_its_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    folder = layout(tmp_path / "qa", "QuestionAnswering", known={"Harbour": "both"})
    command = ["models", "import", str(folder), "--name", "org/qa", "--data-dir", str(data)]
    assert await asyncio.to_thread(main, command) == 0
    assert "org/qa" in capsys.readouterr().out
    page = base64.b64encode(sample_page(tmp_path).path.read_bytes()).decode()
    async with running_server(data) as server:
        body: dict[str, Any] = {"model": "org/qa", "images": [page], "task": "vqa", "prompts": ["What opens at nine?"]}
        reply = await server.ask("POST", "/v1/documents/extract", body)
        assert reply.status == 200, reply.body
        answer = reply.json()["data"][0]["answers"][0]["answer"]
        assert answer
        assert answer in " ".join(LINES)
        body |= {"task": "extraction", "prompts": None}
        assert (await server.ask("POST", "/v1/documents/extract", body)).status == 400


def test_importing_the_plugin_loads_nothing_heavy() -> None:
    code = (
        "import sys, paddock_extraction; found = {'PIL', 'numpy', 'tokenizers', 'onnxruntime', 'onnx'} & set(sys.modules);"
        "sys.exit(bool(found))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_plugin_declares_its_settings() -> None:
    assert plugin.paddock_settings() == ("extraction", ExtractionSettings)
