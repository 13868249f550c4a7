"""A Donut that Optimum exported, against what transformers did with it (tiny_donut/make.py), step by step and through HTTP."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import PIL.Image
import pytest
from paddock_extraction.donut import Decoder
from paddock_extraction.facts import Preprocessor, graphs, read_json
from paddock_extraction.images import donut_pixels
from paddock_extraction.session import Session

from paddock.cli import main
from paddock.testing.server import running_server

HERE = Path(__file__).parent / "tiny_donut"
CASES: list[dict[str, Any]] = json.loads((HERE / "expected.json").read_text())["cases"]
LAYOUTS = {
    "merged": ["decoder_model.onnx", "decoder_with_past_model.onnx"],
    "two files": ["decoder_model_merged.onnx"],
    "no cache": ["decoder_model_merged.onnx", "decoder_with_past_model.onnx"],
}
MODEL = "naver-clova-ix/donut-base-finetuned-cord-v2"
PATHS = ("/v1/documents/extract", "/v1/vision/documents/extract")


def picture(name: str) -> PIL.Image.Image:
    with PIL.Image.open(HERE / f"{name}.png") as image:
        return image.copy()


def named(case: dict[str, Any]) -> str:
    return f"{case['picture']} {case['prompt']}"


def flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of what transformers' token2json gives, under the names of paddock's fields."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flat(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from flat(inner, f"{path}[{at}]")
    else:
        yield path, value


@pytest.mark.parametrize("name", ["receipt", "invoice"])
def test_the_pixels_are_those_of_transformers(name: str) -> None:
    pixels = donut_pixels(picture(name), read_json(HERE / "model" / "preprocessor_config.json", Preprocessor))
    levels = (pixels[0].transpose(1, 2, 0) * 0.5 + 0.5) * 255
    assert np.abs(levels - np.asarray(picture(f"{name}.pixels"))).max() < 1e-3


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES, ids=named)
def test_every_step_is_that_of_transformers(tmp_path: Path, layout: str, case: dict[str, Any]) -> None:
    folder = shutil.copytree(HERE / "model", tmp_path / "model")
    for file in LAYOUTS[layout]:
        (folder / file).unlink()
    files = graphs(folder)
    pixels = donut_pixels(picture(case["picture"]), read_json(folder / "preprocessor_config.json", Preprocessor))
    encoded = Session(files["encoder"], 1, "tiny").run({"pixel_values": pixels})["last_hidden_state"]
    steps = Decoder(files, 1, "tiny").steps(encoded, case["prompt_ids"])
    found = [next(steps), *(steps.send(token) for token in case["tokens"][:-1])]
    assert [int(logits.argmax()) for logits in found] == case["tokens"]
    expected = np.asarray(case["logits"])
    assert np.abs(np.stack(found[: len(expected)]) - expected).max() < 1e-4


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_both_pages_become_the_fields_that_transformers_reads(desk: Any, tiny: Path, layout: str) -> None:
    for file in LAYOUTS[layout]:
        (tiny / file).unlink()
    desk.take(tiny)
    documents = await desk.ask("extraction", desk.picture("receipt"), desk.picture("invoice"))
    cases = [case for case in CASES if case["prompt"] == "<s_cord-v2>"]
    assert [document.text for document in documents] == [case["text"] for case in cases]
    fields = [[(field.key, field.value) for field in document.fields] for document in documents]
    assert fields == [list(flat(case["fields"])) for case in cases]
    assert fields[0] != fields[1]
    assert all(0.9 < field.confidence <= 1 for document in documents for field in document.fields)


def brighter(image: PIL.Image.Image) -> bytes:
    """The picture as PNG, one pixel of it a little brighter."""
    image.putpixel((20, 40), min(255, int(image.getpixel((20, 40))) + 40))  # type: ignore[arg-type]  # grey: one number
    return encoded(image, "PNG")


def encoded(image: PIL.Image.Image, kind: str) -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def spellings(name: str) -> list[bytes]:
    """The picture in its own bytes, and others that people would call the same."""
    return [(HERE / f"{name}.png").read_bytes(), brighter(picture(name)), encoded(picture(name), "JPEG")]


async def test_through_http_each_page_says_what_the_model_was_taught(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    command = ["models", "import", str(HERE / "model"), "--name", MODEL, "--data-dir", str(data)]
    assert await asyncio.to_thread(main, command) == 0
    assert MODEL in capsys.readouterr().out
    async with running_server(data, settings={"extraction": {"threads": 1}}) as server:
        for case in CASES:
            body = asked(case)
            files = spellings(case["picture"])
            json_body = {**body, "images": [base64.b64encode(file).decode() for file in files]}
            reply = await server.ask("POST", PATHS[0], json_body)
            assert reply.status == 200, reply.body
            for item in reply.json()["data"]:
                told(item, case)
            form = aiohttp.FormData({**body, "prompts": json.dumps(body["prompts"])} if "prompts" in body else body)
            form.add_field("file", files[0], filename="page.png")
            reply = await server.ask("POST", PATHS[1], data=form)
            assert reply.status == 200, reply.body
            assert reply.json()["data"] == [told(item, case) for item in reply.json()["data"]]


def asked(case: dict[str, Any]) -> dict[str, Any]:
    """What a client sends for a case, without the picture."""
    fields = case["fields"]
    if "question" in fields:
        return {"model": MODEL, "task": "vqa", "prompts": [fields["question"]]}
    return {"model": MODEL, "task": "classification" if "class" in fields else "extraction"}


def told(item: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
    """The item, which must say what transformers says."""
    fields = case["fields"]
    if "question" in fields:
        assert [(one["question"], one["answer"]) for one in item["answers"]] == [(fields["question"], fields["answer"])]
    elif "class" in fields:
        assert item["classification"]["label"] == fields["class"]
    else:
        assert [(one["key"], one["value"]) for one in item["fields"]] == list(flat(fields))
        assert item["text"] == case["text"]
    return item


def test_the_tiny_model_is_tiny_and_says_nothing_of_where_it_was_made() -> None:
    files = [path for path in HERE.rglob("*") if path.suffix in (".json", ".onnx", ".png")]
    assert sum(path.stat().st_size for path in files) < 1_000_000
    for path in files:
        for word in (b"site-packages", b"/home/", b"/root/", b"/tmp/", b"/Users/", b"http://", b"https://"):
            assert word not in path.read_bytes(), path
