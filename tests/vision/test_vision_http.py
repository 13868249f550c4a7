"""OCR and extraction through HTTP: where pictures come from, which engine runs, what is refused."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from paddock_ocr.samples import drawn, encoded

from paddock.contracts.base import hookimpl
from paddock.contracts.providers import (
    DocumentCall,
    DocumentExtractor,
    FoundAnswer,
    FoundClass,
    FoundDocument,
    FoundField,
    OcrEngine,
    PageImage,
    PageText,
    TypeName,
)
from paddock.errors import BadRequest
from paddock.testing.ocr import WrittenEngine
from paddock.testing.server import running_server

OCR, FORM = "/v1/ocr", "/v1/vision/ocr"


async def test_pictures_in_base64_and_data_uris_are_read(desk: Any) -> None:
    reply = await desk.ocr(images=[desk.text, f"data:image/png;base64,{desk.text}"])
    assert reply.json() == {
        "object": "list",
        "data": [
            {
                "index": at,
                "text": "some words",
                "confidence": 1.0,
                "boxes": None,
                "width": 520,
                "height": 224,
                "rotation": 0,
                "engine": "written",
            }
            for at in (0, 1)
        ],
        "model": "written",
        "engine": "written",
        "languages": ["en"],
        "usage": {"images_processed": 2},
    }


async def test_boxes_come_when_they_are_asked_for(desk: Any) -> None:
    (item,) = (await desk.ocr(images=[desk.text], return_boxes=True)).json()["data"]
    box = {"x1": 0.0, "y1": 0.0, "x2": 520.0, "y2": 224.0, "text": "some words", "confidence": 1.0}
    assert item["boxes"] == [box]


async def test_an_uploaded_file_is_read_by_its_id(desk: Any) -> None:
    given = await desk.upload(desk.page)
    assert (await desk.ocr(file_id=given["id"])).json()["data"][0]["text"] == "some words"
    await desk.ask("DELETE", f"/v1/files/{given['id']}")
    assert (await desk.ocr(file_id=given["id"])).status == 404
    assert list(desk.server.app.core.blobs.hashes()) == []


async def test_a_form_takes_a_file_or_pictures(desk: Any) -> None:
    for given in (
        {"file": desk.page},
        {"images": json.dumps([desk.text])},
        {"images": desk.text},
        {"file": desk.page, "images": json.dumps([desk.text])},
    ):
        reply = await desk.form(FORM, model="written", return_boxes="true", **given)
        assert reply.status == 200, reply.body
        assert reply.json()["usage"] == {"images_processed": len(given)}
        assert reply.json()["data"][0]["boxes"] is not None


async def test_pictures_of_more_than_a_megabyte_fit_into_a_form(desk: Any) -> None:
    padded = base64.b64encode(desk.page + bytes(2_000_000))
    fields = {b"model": b"written", b"images": b'["' + padded + b'"]'}
    head = b'--e\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    body = b"".join(head % field for field in fields.items()) + b"--e--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=e"}
    reply = await desk.ask("POST", FORM, data=io.BytesIO(body), headers=headers)
    assert reply.status == 200


@pytest.mark.parametrize("languages", ["en,de", '["en", "de"]', " en , de "])
async def test_languages_are_a_comma_list_or_a_json_list(desk: Any, languages: str) -> None:
    reply = await desk.form(FORM, desk.page, model="written", languages=languages)
    assert reply.json()["languages"] == ["en", "de"]


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({}, 400, "images"),
        ({"images": []}, 400, "images is empty"),
        ({"images": [""]}, 400, r"images[0] is empty"),
        ({"images": ["?"]}, 400, "not base64"),
        ({"images": ["eA=="]}, 400, "neither a PDF nor a picture"),
        ({"images": ["data:image/png,x"]}, 400, "data URI"),
        ({"images": ["eA=="], "file_id": "file_x"}, 400, "file_id"),
        ({"images": ["eA=="] * 101}, 413, "files.max_pages"),
        ({"images": "eA=="}, 422, "images"),
        ({"images": ["eA=="], "langages": []}, 422, "langages"),
        ({"file_id": "../../etc"}, 400, "file id"),
        ({"file_id": "file_x"}, 404, "File not found"),
        ({"images": ["eA=="], "model": "teseract"}, 404, "did you mean 'tesseract'"),
        ({"images": ["eA=="], "languages": ["xx"]}, 400, "installed: de, en"),
    ],
)
async def test_what_is_wrong_with_a_body_is_told(desk: Any, body: Any, status: int, word: str) -> None:
    reply = await desk.ocr(**body)
    assert (reply.status, word in reply.json()["detail"]) == (status, True), reply.body


@pytest.mark.parametrize(
    ("fields", "name", "word"),
    [
        ({}, "a.docx", "supported: pdf, png, jpg, jpeg, gif, webp, bmp, tiff, tif"),
        ({"return_boxes": "perhaps"}, "a.png", "return_boxes"),
        ({"languages": "[1]"}, "a.png", "languages"),
        ({"languages": "[" * 100_000}, "a.png", "languages"),
        ({"images": "[1]"}, "a.png", "images"),
        ({"images": "[]"}, "a.png", "images"),
        ({"images": '["data:image/png'}, "a.png", "--form-string"),
    ],
)
async def test_what_is_wrong_with_a_form_is_told(desk: Any, fields: Any, name: str, word: str) -> None:
    reply = await desk.form(FORM, desk.page, name, **{"model": "written", **fields})
    assert (reply.status, word in reply.json()["detail"]) == (400, True), reply.body


async def test_a_body_that_is_too_large_names_the_setting(desk: Any) -> None:
    reply = await desk.ask("POST", OCR, data=io.BytesIO(bytes(32 * 1024 * 1024 + 1)))
    assert (reply.status, "server.max_body_bytes" in reply.json()["detail"]) == (413, True)


async def test_a_form_without_pictures_is_400(desk: Any) -> None:
    reply = await desk.form(FORM, model="written")
    assert (reply.status, "file" in reply.json()["detail"]) == (400, True)


async def test_stand_ins_are_echoed_and_the_engine_that_ran_is_named(desk: Any) -> None:
    for model in ("surya", "easyocr"):
        reply = (await desk.ask("POST", OCR, {"model": model, "images": [desk.text]})).json()
        assert (reply["model"], reply["engine"]) == (model, "paddleocr")
        assert "harbour museum" in reply["data"][0]["text"]
    assert (await desk.ask("POST", OCR, {"images": [desk.text]})).json()["model"] == "surya"


async def test_a_stand_in_is_an_engine_that_speaks_the_languages(desk: Any) -> None:
    desk.engine.known["tlh"] = "tlh"
    reply = (await desk.ask("POST", OCR, {"model": "surya", "images": [desk.text], "languages": ["tlh"]})).json()
    assert reply["engine"] == "written"
    reply = (await desk.ask("POST", OCR, {"images": [desk.text], "languages": ["en-US"]})).json()
    assert reply["languages"] == ["en"]
    reply = await desk.ask("POST", OCR, {"images": [desk.text], "languages": ["xx"]})
    assert (reply.status, "paddleocr has no language xx" in reply.json()["detail"]) == (400, True)


async def test_what_the_best_engine_finds_nothing_on_is_read_by_another(desk: Any) -> None:
    blank = base64.b64encode(encoded(drawn([]))).decode()
    for model in ("surya", "easyocr", "auto"):
        reply = (await desk.ask("POST", OCR, {"model": model, "images": [desk.text, blank]})).json()
        assert [item["engine"] for item in reply["data"]] == ["paddleocr", "written"]
        assert (reply["model"], reply["engine"], reply["data"][1]["text"]) == (
            model,
            "paddleocr, written",
            "some words",
        )
    reply = (await desk.ask("POST", OCR, {"model": "paddleocr", "images": [blank]})).json()
    assert (reply["engine"], reply["data"][0]["text"]) == ("paddleocr", "")
    desk.engine.text = ""
    reply = (await desk.ask("POST", OCR, {"images": [blank]})).json()
    assert (reply["engine"], reply["data"][0]["engine"], reply["data"][0]["text"]) == ("paddleocr", "paddleocr", "")


class Tired(WrittenEngine):
    """Fails at every page."""

    types = (TypeName("tired"),)

    async def read(self, pages: Sequence[PageImage], languages: Sequence[str]) -> list[PageText]:
        raise BadRequest("the file took too long")


class TwoEngines:
    """A plugin whose first engine fails."""

    def __init__(self) -> None:
        self.second = WrittenEngine(languages=("tlh",))

    @hookimpl
    def paddock_ocr_engines(self) -> Sequence[OcrEngine]:
        return [Tired(languages=("tlh",)), self.second]


async def test_an_engine_that_fails_is_replaced_unless_the_other_finds_nothing(tmp_path: Path, desk: Any) -> None:
    plugin = TwoEngines()
    async with running_server(tmp_path / "other", plugins={"two": plugin}) as server:
        body = {"images": [desk.text], "languages": ["tlh"]}
        assert (await server.ask("POST", OCR, body)).json()["engine"] == "written"
        plugin.second.text = ""
        reply = await server.ask("POST", OCR, body)
        assert (reply.status, reply.json()["detail"]) == (400, "the file took too long")


@pytest.mark.parametrize("way", ["json", "form"])
async def test_a_client_that_leaves_ends_the_work(desk: Any, way: str) -> None:
    desk.engine.waiting = asyncio.Event()
    async with aiohttp.ClientSession() as http:
        if way == "json":
            sending = http.post(desk.server.base_url + OCR, json={"model": "written", "images": [desk.text]})
        else:
            form = aiohttp.FormData({"model": "written", "images": desk.text})
            form.add_field("file", desk.page, filename="a.png")
            sending = http.post(desk.server.base_url + FORM, data=form)
        asking = asyncio.ensure_future(sending)
        await asyncio.wait_for(desk.engine.began.wait(), 30)
        asking.cancel()
        await asyncio.wait((asking,))
    async with asyncio.timeout(30):
        while not desk.engine.cancelled:  # noqa: ASYNC110  the server tells nobody
            await asyncio.sleep(0.01)


async def test_no_page_is_left_behind_also_by_a_server_that_was_killed(desk: Any, tmp_path: Path) -> None:
    pages = desk.server.app.settings.data_dir / "pages"
    given = await desk.upload(desk.page)
    assert (await desk.ocr(file_id=given["id"])).status == 200
    assert (await desk.ocr(images=[desk.text, "eA=="])).status == 400
    assert (await desk.ask("GET", f"/v1/files/{given['id']}/images")).status == 200
    assert list(pages.iterdir()) == []
    left = tmp_path / "other" / "pages" / "request-x"
    left.mkdir(parents=True)
    (left / "1.png").write_bytes(desk.page)
    async with running_server(tmp_path / "other"):
        assert not left.exists()


async def test_without_the_plugin_its_name_is_told(tmp_path: Path) -> None:
    async with running_server(tmp_path / "data", installed=False) as server:
        for path, body in ((OCR, {"images": ["eA=="]}), ("/v1/documents/extract", {"model": "m", "images": ["eA=="]})):
            reply = await server.ask("POST", path, body)
            assert (reply.status, "install paddock-" in reply.json()["detail"]) == (503, True)


# -- extraction


class Clerk(DocumentExtractor):
    """Finds what it is told to."""

    types = (TypeName("clerk"),)

    def __init__(self) -> None:
        self.calls: list[DocumentCall] = []
        self.words: list[str] = []

    async def models(self) -> list[str]:
        return ["org/receipts"]

    async def extract(self, call: DocumentCall) -> list[FoundDocument]:
        self.calls.append(call)
        self.words += [page.text for page in await call.words()] if call.task == "vqa" else []
        kinds: dict[str, FoundDocument] = {
            "extraction": FoundDocument(
                confidence=0.5, text="<s>", fields=[FoundField(key="total", value="9", confidence=0.5)]
            ),
            "vqa": FoundDocument(
                confidence=0.9, answers=[FoundAnswer(question=q, answer="9", confidence=0.9) for q in call.prompts]
            ),
            "classification": FoundDocument(
                confidence=0.7,
                classification=FoundClass(label="memo", score=0.7, all_scores={"memo": 0.7, "letter": 0.3}),
            ),
        }
        return [kinds[call.task] for _ in call.pages]


class ClerkPlugin:
    """The plugin of the clerk."""

    def __init__(self, clerk: Clerk) -> None:
        self.clerk = clerk

    @hookimpl
    def paddock_document_extractors(self) -> Sequence[DocumentExtractor]:
        return [self.clerk]


async def test_each_task_of_extraction_answers_in_its_own_field(tmp_path: Path, desk: Any) -> None:
    clerk = Clerk()
    async with running_server(tmp_path / "other", plugins={"clerk": ClerkPlugin(clerk)}) as server:
        ask = {"model": "org/receipts", "images": [desk.text]}
        reply = (await server.ask("POST", "/v1/documents/extract", ask)).json()
        field = {"key": "total", "value": "9", "confidence": 0.5, "bbox": None}
        nothing = {"answers": None, "classification": None}
        assert reply["data"] == [{"index": 0, "confidence": 0.5, "text": "<s>", "fields": [field], **nothing}]
        assert (reply["model"], reply["task"], reply["usage"]) == (
            "org/receipts",
            "extraction",
            {"documents_processed": 1},
        )
        form = aiohttp.FormData({"model": "org/receipts", "task": "vqa", "prompts": "What is it?,How much?"})
        form.add_field("file", desk.page, filename="a.png")
        reply = (await server.ask("POST", "/v1/vision/documents/extract", data=form)).json()
        assert [one["question"] for one in reply["data"][0]["answers"]] == ["What is it?", "How much?"]
        assert "harbour museum" in clerk.words[0]
        reply = (await server.ask("POST", "/v1/documents/extract", {**ask, "task": "classification"})).json()
        assert reply["data"][0]["classification"] == {
            "label": "memo",
            "score": 0.7,
            "all_scores": {"memo": 0.7, "letter": 0.3},
        }
        for wrong, status, word in (
            ({"task": "poetry"}, 400, "task"),
            ({"task": "vqa"}, 400, "prompts"),
            ({"prompts": ["What?"]}, 400, "prompts"),
            ({"task": "vqa", "prompts": ["?"] * 33}, 400, "prompts"),
            ({"model": "org/receipt"}, 404, "paddock models import FOLDER --name org/receipt"),
            ({"model": ""}, 400, "model"),
            ({"model": "x" * 10_000}, 400, "is no model of a hub"),
        ):
            bad = await server.ask("POST", "/v1/documents/extract", {**ask, **wrong})
            assert (bad.status, word in bad.json()["detail"]) == (status, True), bad.body
