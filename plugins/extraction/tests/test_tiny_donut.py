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
from paddock_extraction.importer import DocumentModelImporter
from paddock_extraction.session import Session
from paddock_extraction.settings import ExtractionSettings

from paddock.builtin.hub_cache import HubCache
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


def spellings(name: str) -> list[bytes]:
    """The picture in its own bytes, and others that people would call the same."""
    page = picture(name)
    other = page.copy()
    other.putpixel((20, 40), 210)  # it is 250 there
    lying = PIL.Image.Exif()
    lying[0x112] = 6  # to be turned by 90 degrees, says its camera
    return [
        (HERE / f"{name}.png").read_bytes(),
        encoded(other, "PNG"),
        encoded(page, "JPEG"),
        encoded(page.transpose(PIL.Image.Transpose.ROTATE_90), "JPEG", exif=lying),
    ]


def encoded(image: PIL.Image.Image, kind: str, **given: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **given)
    return out.getvalue()


async def test_through_http_each_page_says_what_the_model_was_taught(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    command = ["models", "import", str(HERE / "model"), "--name", MODEL, "--data-dir", str(data)]
    assert await asyncio.to_thread(main, command) == 0
    assert MODEL in capsys.readouterr().out
    async with running_server(data, settings={"extraction": {"threads": 1}}) as server:
        for case in CASES:
            images = [base64.b64encode(file).decode() for file in spellings(case["picture"])]
            reply = await server.ask("POST", "/v1/documents/extract", {**asked(case), "images": images})
            assert reply.status == 200, reply.body
            assert [told(item) for item in reply.json()["data"]] == [taught(case)] * len(images)
            form = upload(case, spellings(case["picture"])[0], "page.png")
            reply = await server.ask("POST", "/v1/vision/documents/extract", data=form)
            assert [told(item) for item in reply.json()["data"]] == [taught(case)]


async def test_through_http_the_pages_of_a_file_are_read_one_by_one(tmp_path: Path) -> None:
    DocumentModelImporter(ExtractionSettings(), HubCache(tmp_path / "models" / "hub")).run(
        HERE / "model", MODEL, None, lambda progress: None
    )
    pages = encoded(picture("receipt"), "PDF", save_all=True, append_images=[picture("invoice")])
    cases = [case for case in CASES if case["prompt"] == "<s_cord-v2>"]
    async with running_server(tmp_path, settings={"extraction": {"threads": 1}}) as server:
        form = upload(cases[0], pages, "pages.pdf")
        reply = await server.ask("POST", "/v1/vision/documents/extract", data=form)
        assert [told(item) for item in reply.json()["data"]] == [taught(case) for case in cases]


def asked(case: dict[str, Any]) -> dict[str, Any]:
    """What a client sends for a case, without the picture."""
    fields = case["fields"]
    if "question" in fields:
        return {"model": MODEL, "task": "vqa", "prompts": [fields["question"]]}
    return {"model": MODEL, "task": "classification" if "class" in fields else "extraction"}


def upload(case: dict[str, Any], file: bytes, name: str) -> aiohttp.FormData:
    """The same as a form."""
    form = aiohttp.FormData(
        {key: value if isinstance(value, str) else json.dumps(value) for key, value in asked(case).items()}
    )
    form.add_field("file", file, filename=name)
    return form


def taught(case: dict[str, Any]) -> Any:
    """What transformers says of a page."""
    fields = case["fields"]
    return fields.get("answer") or fields.get("class") or [*flat(fields)]


def told(item: dict[str, Any]) -> Any:
    """What a reply says of it."""
    if item["answers"] is not None:
        return item["answers"][0]["answer"]
    if item["classification"] is not None:
        return item["classification"]["label"]
    return [(field["key"], field["value"]) for field in item["fields"]]


def test_the_tiny_model_is_tiny_and_says_nothing_of_where_it_was_made() -> None:
    files = [path for path in HERE.rglob("*") if path.suffix in (".json", ".onnx", ".png")]
    assert sum(path.stat().st_size for path in files) < 1_000_000
    for path in files:
        for word in (b"site-packages", b"/home/", b"/root/", b"/tmp/", b"/Users/", b"http://", b"https://"):
            assert word not in path.read_bytes(), path
