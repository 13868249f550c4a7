"""Models that come, lie, break or are missing; and the whole through HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from paddock_extraction import plugin
from paddock_extraction.samples import RECEIPT, donut, layout
from paddock_extraction.settings import ExtractionSettings

from paddock.cli import main
from paddock.errors import BadRequest, ModelNotFound, ValidationFailed
from paddock.testing.ocr import LINES, sample_page
from paddock.testing.server import running_server


async def test_an_imported_model_is_listed_and_only_document_models_are(desk: Any, tmp_path: Path) -> None:
    found = desk.take(donut(tmp_path / "donut"), "naver-clova-ix/donut-base-finetuned-cord-v2")
    assert (found.task, found.size > 0) == ("extraction", True)
    assert "POST /v1/documents/extract" in found.hint
    other = desk.cache.folder("org/text") / "snapshots" / "1"
    other.mkdir(parents=True)
    (other / "config.json").write_text('{"model_type": "bert"}')
    broken = desk.cache.folder("org/broken") / "snapshots" / "1"
    broken.mkdir(parents=True)
    (broken / "config.json").write_text("{")
    assert await desk.extractor.models() == ["naver-clova-ix/donut-base-finetuned-cord-v2"]


async def test_the_same_import_again_replaces_itself(desk: Any, tmp_path: Path) -> None:
    first = desk.take(donut(tmp_path / "donut"))
    again = desk.take(tmp_path / "donut")
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
        ("encoder_model.onnx", "encoder_model.onnx"),
        ("decoder_model_merged.onnx", "decoder_model_merged.onnx"),
        ("preprocessor_config.json", "preprocessor_config.json"),
        ("config.json", "config.json"),
    ],
)
def test_a_folder_that_lacks_something_is_refused_by_its_name(
    desk: Any, tmp_path: Path, gone: str, reason: str
) -> None:
    folder = donut(tmp_path / "donut")
    (folder / gone).unlink()
    with pytest.raises(ValidationFailed, match=reason):
        desk.take(folder)
    assert desk.cache.models() == []
    assert not list((tmp_path / "hub").glob(".import-*"))


def test_folders_of_other_models_are_left_to_other_importers(desk: Any, tmp_path: Path) -> None:
    assert desk.importer.fits(donut(tmp_path / "donut"))
    assert desk.importer.fits(layout(tmp_path / "layout", "QuestionAnswering"))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert not desk.importer.fits(tmp_path)
    assert not desk.importer.fits(tmp_path / "none")


def test_links_in_a_folder_are_not_followed(desk: Any, tmp_path: Path) -> None:
    folder = donut(tmp_path / "donut")
    (tmp_path / "secret").write_text("secret")
    (folder / "extra.onnx_data").symlink_to(tmp_path / "secret")
    assert not (desk.take(folder).folder / "extra.onnx_data").exists()


def test_a_model_over_the_limit_is_refused(desk_with: Any, tmp_path: Path) -> None:
    desk = desk_with(max_model_mb=1)
    folder = donut(tmp_path / "donut")
    (folder / "encoder_model.onnx_data").write_bytes(bytes(2 * 1024 * 1024))
    with pytest.raises(ValidationFailed, match=r"extraction\.max_model_mb"):
        desk.take(folder)


@pytest.mark.parametrize("file", ["encoder_model.onnx", "decoder_model_merged.onnx", "tokenizer.json", "config.json"])
@pytest.mark.parametrize("damage", [b"", b"rubbish", b"\x08\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f"])
async def test_a_damaged_file_is_refused_and_the_next_page_is_served(
    desk: Any, tmp_path: Path, file: str, damage: bytes
) -> None:
    desk.take(donut(tmp_path / "good"), "org/good")
    found = desk.take(donut(tmp_path / "bad"), "org/bad")
    (found.folder / file).write_bytes(damage)
    with pytest.raises((BadRequest, ModelNotFound), match="org/bad"):
        await desk.ask(model="org/bad")
    assert (await desk.ask(model="org/good"))[0].text == f"<s_cord-v2>{RECEIPT}"


async def test_a_model_whose_inputs_nobody_can_give_is_refused(desk: Any, tmp_path: Path) -> None:
    folder = donut(tmp_path / "donut")
    (folder / "encoder_model.onnx").write_bytes((folder / "decoder_model_merged.onnx").read_bytes())
    desk.take(folder)
    with pytest.raises(BadRequest, match="nobody here can give"):
        await desk.ask()


async def test_a_helper_keeps_its_model_and_is_replaced_when_killed(desk: Any, tmp_path: Path) -> None:
    desk.take(donut(tmp_path / "donut"))
    await desk.ask()
    (idle,) = desk.extractor.pool._idle
    await desk.ask()
    assert desk.extractor.pool._idle == [idle]
    os.kill(idle._process.pid, signal.SIGKILL)
    assert len(await desk.ask()) == 1


async def test_a_caller_that_leaves_ends_the_work(desk: Any, tmp_path: Path) -> None:
    desk.take(donut(tmp_path / "donut"))
    asking = asyncio.ensure_future(desk.ask("extraction", *[desk.page()] * 50))
    async with asyncio.timeout(60):
        while not desk.extractor.pool._busy:  # noqa: ASYNC110  a thread takes it: there is no event
            await asyncio.sleep(0.001)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not desk.extractor.pool._busy


async def test_through_http_a_receipt_becomes_fields_and_a_page_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    for folder, name in (
        (donut(tmp_path / "donut", texts=(RECEIPT, RECEIPT)), "naver-clova-ix/donut-base-finetuned-cord-v2"),
        (layout(tmp_path / "qa", "QuestionAnswering", known={"Harbour": "both"}), "org/qa"),
    ):
        command = ["models", "import", str(folder), "--name", name, "--data-dir", str(data)]
        assert await asyncio.to_thread(main, command) == 0
        assert name in capsys.readouterr().out
    page = base64.b64encode(sample_page(tmp_path).path.read_bytes()).decode()
    async with running_server(data) as server:
        body: dict[str, Any] = {"model": "naver-clova-ix/donut-base-finetuned-cord-v2", "images": [page]}
        reply = await server.ask("POST", "/v1/documents/extract", body)
        assert reply.status == 200, reply.body
        fields = reply.json()["data"][0]["fields"]
        assert fields[-1] == {"key": "total", "value": "5.60", "confidence": fields[-1]["confidence"], "bbox": None}
        body = {"model": "org/qa", "images": [page], "task": "vqa", "prompts": ["What opens at nine?"]}
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


def test_the_tiny_models_are_tiny(tmp_path: Path) -> None:
    folder = donut(tmp_path / "donut")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000
    assert json.loads((folder / "config.json").read_text())["model_type"] == "vision-encoder-decoder"
