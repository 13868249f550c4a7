"""Scans and pictures in datasets: read by OCR when the strategy asks, refused with the way to ask otherwise."""

from __future__ import annotations

import io
from typing import Any

import aiohttp
import pytest
from paddock_documents.samples import pdf
from paddock_ocr.samples import LETTER, drawn, encoded, many

CONFIG: dict[str, Any] = {
    "version": "v1",
    "name": "p",
    "namespace": "n",
    "runtime": {"models": [{"name": "default", "provider": "extractive", "model": "extractive"}]},
    "rag": {
        "databases": [
            {
                "name": "main",
                "type": "SqliteVecStore",
                "embedding_strategies": [{"name": "h", "type": "HashingEmbedder"}],
                "retrieval_strategies": [{"name": "r", "type": "HybridRetriever"}],
            }
        ],
    },
}
MIXED = "a page whose letters are stored as letters"
CUT = {"chunk_size": 150, "chunk_overlap": 0}


def mixed() -> bytes:
    """A PDF of a page with a text layer and a scanned one."""
    import pypdfium2

    whole = pypdfium2.PdfDocument.new()
    for data in (pdf([[f"{MIXED}."] * 4]), many([drawn()], "PDF", resolution=100)):
        whole.import_pages(pypdfium2.PdfDocument(data))
    out = io.BytesIO()
    whole.save(out)
    return out.getvalue()


async def processed(desk: Any, parser: dict[str, Any], name: str, data: bytes) -> Any:
    """Process one file with one parser; what the reply says of it."""
    server = desk.server
    await server.project("n/p")
    strategy = {"name": "s", "parsers": [parser]}
    datasets = [{"name": "d", "database": "main", "data_processing_strategy": "s"}]
    config = {**CONFIG, "rag": {**CONFIG["rag"], "data_processing_strategies": [strategy]}, "datasets": datasets}
    reply = await server.ask("PUT", "/v1/projects/n/p", {"config": config})
    assert reply.status == 200, reply.body
    form = aiohttp.FormData()
    form.add_field("file", io.BytesIO(data), filename=name)
    assert (await server.ask("POST", "/v1/projects/n/p/datasets/d/data", data=form)).status == 200
    reply = await server.ask("POST", "/v1/projects/n/p/datasets/d/process")
    return reply.json()["details"][0]


async def found(desk: Any, query: str) -> list[Any]:
    reply = await desk.ask("POST", "/v1/projects/n/p/rag/query", {"query": query, "database": "main"})
    results: list[Any] = reply.json()["results"]
    return results


@pytest.mark.parametrize("kind", ["DocumentParser", "PDFParser_PyPDF2", "PDFParser_LlamaIndex"])
async def test_a_scanned_page_is_searchable_with_its_number(desk: Any, kind: str) -> None:
    detail = await processed(desk, {"type": kind, "config": {"ocr": "auto", **CUT}}, "a.pdf", mixed())
    assert detail["status"] == "processed", detail
    results = await found(desk, "When does the harbour museum open, and who goes free?")
    assert "harbour museum opens at nine" in " ".join(one["content"] for one in results)
    assert any("go free" in one["content"] and one["metadata"]["page"] == 2 for one in results)
    assert any(MIXED in one["content"] for one in await found(desk, MIXED))


async def test_without_asking_a_scan_is_refused_with_the_way_to_ask(desk: Any) -> None:
    detail = await processed(desk, {"type": "DocumentParser"}, "a.pdf", many([drawn()], "PDF", resolution=100))
    assert (detail["status"], "ocr: auto" in detail["error"]) == ("failed", True)


async def test_always_reads_pages_with_a_text_layer_too(desk: Any) -> None:
    desk.engine.text = "never asked: the best engine reads"
    detail = await processed(
        desk, {"type": "PDFParser_PyPDF2", "config": {"ocr": "always"}}, "a.pdf", pdf([["# A heading"]])
    )
    assert detail["status"] == "processed", detail
    assert "A heading" in (await found(desk, "heading"))[0]["content"]


async def test_pictures_are_read_by_the_parser_auto(desk: Any) -> None:
    detail = await processed(desk, {"type": "auto"}, "letter.tiff", many([drawn(), drawn(LETTER[:1])]))
    assert (detail["status"], detail["parser"]) == ("processed", "ImageParser"), detail
    assert (await found(desk, "harbour museum"))[0]["metadata"]["page"] in (1, 2)


async def test_the_engine_and_languages_of_a_picture_are_those_of_the_options(desk: Any) -> None:
    desk.engine.text = "what the other engine read"
    config = {"engine": "written", "languages": ["de"]}
    detail = await processed(desk, {"type": "ImageParser", "config": config}, "a.png", desk.page)
    assert detail["status"] == "processed", detail
    assert "other engine" in (await found(desk, "engine"))[0]["content"]


@pytest.mark.parametrize(
    ("config", "data", "reason"),
    [
        ({"languages": ["xx"]}, encoded(drawn()), "no language xx"),
        ({"engine": "magic"}, encoded(drawn()), "no OCR engine 'magic'"),
        ({}, b"no picture", "neither a PDF nor a picture"),
        ({}, encoded(drawn([])), "no text"),
    ],
)
async def test_a_picture_that_cannot_be_read_fails_with_its_reason(
    desk: Any, config: dict[str, Any], data: bytes, reason: str
) -> None:
    desk.engine.text = ""  # or it would read what the best engine can't
    detail = await processed(desk, {"type": "ImageParser", "config": config}, "a.png", data)
    assert (detail["status"], reason in detail["error"]) == ("failed", True), detail
