"""The curl lines of the document's vision part and of the Universal Runtime's files and OCR."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from paddock_ocr.samples import LETTER, drawn, encoded, many

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
