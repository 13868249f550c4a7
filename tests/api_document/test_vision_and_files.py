"""The curl lines of the document's vision part and of the Universal Runtime's files and OCR."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from paddock_ocr.samples import LETTER, drawn, encoded, many

from paddock.testing.hub_cache import cache_model
from paddock.testing.server import RunningServer, running_server
from tests.api_document.conftest import fits

OCR = {
    "object": "list",
    "data": [{"index": 0, "text": "Extracted text from the document...", "confidence": 0.95}],
    "model": "surya",
    "usage": {"images_processed": 1},
}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path / "data") as running:
        yield running


async def form(server: RunningServer, path: str, file: bytes | None = None, name: str = "", **fields: str) -> Any:
    """curl -F … ; the decoded reply of a request that must succeed."""
    data = aiohttp.FormData(default_to_multipart=True)
    if file is not None:
        data.add_field("file", file, filename=name)
    for field, value in fields.items():
        data.add_field(field, value)
    reply = await server.ask("POST", path, data=data)
    assert reply.status == 200, reply.body
    return reply.json()


async def test_ocr_of_an_uploaded_pdf(server: RunningServer) -> None:
    # curl -X POST http://localhost:8000/v1/vision/ocr -F "file=@document.pdf" -F "model=easyocr" -F "languages=en"
    document = many([drawn()], "PDF", resolution=100)
    reply = await form(server, "/v1/vision/ocr", document, "document.pdf", model="easyocr", languages="en")
    fits(reply, OCR)
    assert (reply["model"], " ".join(reply["data"][0]["text"].split())) == ("easyocr", " ".join(LETTER))


async def test_ocr_of_pictures_in_base64(server: RunningServer) -> None:
    # curl -X POST http://localhost:8000/v1/vision/ocr -F 'images=["..."]' -F "model=surya" -F "languages=en"
    picture = base64.b64encode(encoded(drawn())).decode()
    reply = await form(
        server, "/v1/vision/ocr", images=f'["data:image/png;base64,{picture}"]', model="surya", languages="en"
    )
    fits(reply, OCR)


async def test_extraction_without_the_model_says_how_to_get_it(server: RunningServer) -> None:
    # curl -X POST http://localhost:8000/v1/vision/documents/extract -F "file=@receipt.pdf"
    #   -F "model=naver-clova-ix/donut-base-finetuned-docvqa" -F "prompts=What is the store name?,What is the total amount?"
    #   -F "task=vqa"
    model = "naver-clova-ix/donut-base-finetuned-docvqa"
    data = aiohttp.FormData(
        {"model": model, "prompts": "What is the store name?,What is the total amount?", "task": "vqa"}
    )
    data.add_field("file", many([drawn()], "PDF"), filename="receipt.pdf")
    reply = await server.ask("POST", "/v1/vision/documents/extract", data=data)
    assert (reply.status, f"paddock models import FOLDER --name {model}" in reply.json()["detail"]) == (404, True)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/vision/ocr", {}),
        ("/v1/vision/documents/extract", {"model": "naver-clova-ix/donut-base-finetuned-docvqa"}),
        ("/v1/files", {}),
    ],
)
async def test_a_form_field_that_nothing_looks_at_is_refused(
    server: RunningServer, path: str, fields: dict[str, str]
) -> None:
    data = aiohttp.FormData({**fields, "parse_by_page": "true"})
    data.add_field("file", encoded(drawn()), filename="page.png")
    reply = await server.ask("POST", path, data=data)
    assert (reply.status, reply.json()["detail"].partition(":")[0]) == (400, "parse_by_page")


async def test_extraction_with_a_name_that_walks_or_a_model_of_another_kind_is_400(
    server: RunningServer, tmp_path: Path
) -> None:
    cache_model(tmp_path / "data" / "models" / "hub", "org/other", {"config.json": b"{}"})
    picture = base64.b64encode(encoded(drawn())).decode()
    for model, said in (("../../x", "no model of a hub"), ("org/other", "no document model")):
        reply = await server.ask("POST", "/v1/documents/extract", {"model": model, "images": [picture]})
        assert (reply.status, said in reply.json()["detail"]) == (400, True)
    reply = await server.ask("POST", "/v1/embeddings", {"model": "org/other", "input": "a"})
    assert (reply.status, "is in the cache" in reply.json()["error"]["message"]) == (404, True)


async def test_a_key_for_some_models_is_not_told_of_other_document_models(tmp_path: Path) -> None:
    cache_model(tmp_path / "data" / "models" / "hub", "org/secret", {"config.json": b"{}"})
    async with running_server(tmp_path / "data", settings={"auth": {"management_keys": ["manage"]}}) as server:
        body: Any = {"name": "some", "kind": "inference", "scopes": {"models": ["org/mine"]}}
        made = await server.ask("POST", "/api/v1/auth/keys", body, headers={"X-API-Key": "manage"})
        picture = base64.b64encode(encoded(drawn())).decode()
        asked = {"model": "org/secret", "images": [picture]}
        for key, status in ((made.json()["key"], 404), ("manage", 400)):
            reply = await server.ask("POST", "/v1/documents/extract", asked, headers={"X-API-Key": key})
            assert reply.status == status, reply.body


async def test_ocr_of_the_runtime(server: RunningServer) -> None:
    # curl -X POST http://localhost:11540/v1/ocr -H "Content-Type: application/json"
    #   -d '{"model": "surya", "images": ["base64..."], "languages": ["en"]}'
    picture = base64.b64encode(encoded(drawn())).decode()
    reply = await server.ask("POST", "/v1/ocr", {"model": "surya", "images": [picture], "languages": ["en"]})
    assert reply.status == 200
    fits(reply.json(), OCR)


async def test_files_of_the_runtime(server: RunningServer) -> None:
    given = await form(server, "/v1/files", many([drawn()] * 2, "PDF"), "document.pdf")
    assert given["id"].startswith("file_")
    assert (given["object"], given["filename"], given["page_count"], given["has_images"]) == (
        "file",
        "document.pdf",
        2,
        True,
    )
    listed = (await server.ask("GET", "/v1/files")).json()
    assert (listed["object"], listed["data"]) == ("list", [given])
    assert (await server.ask("GET", f"/v1/files/{given['id']}")).json() == given
    images = (await server.ask("GET", f"/v1/files/{given['id']}/images")).json()
    assert [sorted(image) for image in images["data"]] == [["base64", "index"]] * 2
    read = await server.ask("POST", "/v1/ocr", {"file_id": given["id"]})
    assert read.json()["usage"] == {"images_processed": 2}
    deleted = (await server.ask("DELETE", f"/v1/files/{given['id']}")).json()
    assert (deleted["deleted"], deleted["id"]) == (True, given["id"])
    gone = await server.ask("GET", f"/v1/files/{given['id']}")
    assert (gone.status, gone.json()["detail"].startswith(f"File not found: {given['id']}")) == (404, True)
