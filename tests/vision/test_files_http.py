"""/v1/files: whole or absent, gone in time, and nobody else's business."""

from __future__ import annotations

import asyncio
import base64
import time
from pathlib import Path
from typing import Any

import pytest
from paddock_documents.samples import encrypted_pdf, pdf
from paddock_ocr.samples import drawn, encoded

from paddock.testing.server import running_server

FIELDS = {
    "id", "object", "filename", "content_type", "size", "bytes", "created_at", "expires_at", "purpose", "status", "has_images",
    "page_count",
}  # fmt: skip


def blobs(server: Any) -> list[str]:
    return list(server.app.core.blobs.hashes())


async def test_a_file_is_stored_listed_read_and_deleted(desk: Any) -> None:
    given = await desk.upload(desk.page, "../../page one.png", purpose="ocr")
    assert set(given) == FIELDS
    assert (given["filename"], given["content_type"], given["purpose"]) == ("page one.png", "image/png", "ocr")
    assert (given["object"], given["has_images"], given["page_count"]) == ("file", True, 1)
    assert given["size"] == given["bytes"] == len(desk.page)
    assert given["expires_at"] - given["created_at"] == 3600
    listed = (await desk.ask("GET", "/v1/files")).json()
    assert (listed["object"], listed["data"], listed["has_more"]) == ("list", [given], False)
    assert (await desk.ask("GET", f"/v1/files/{given['id']}")).json() == given
    content = await desk.ask("GET", f"/v1/files/{given['id']}/content")
    assert content.body == desk.page
    assert content.headers.getall("X-Content-Type-Options") == ["nosniff"]
    assert content.headers["Content-Disposition"].startswith("attachment")
    gone = await desk.ask("DELETE", f"/v1/files/{given['id']}")
    assert gone.json() == {"id": given["id"], "object": "file", "deleted": True}
    assert blobs(desk.server) == []
    for path in ("", "/content", "/images"):
        assert (await desk.ask("GET", f"/v1/files/{given['id']}{path}")).status == 404
    assert (await desk.ask("DELETE", f"/v1/files/{given['id']}")).status == 404


async def test_bytes_that_two_files_share_go_with_the_last(desk: Any) -> None:
    one, two = await desk.upload(desk.page), await desk.upload(desk.page)
    await desk.ask("DELETE", f"/v1/files/{one['id']}")
    assert (await desk.ask("GET", f"/v1/files/{two['id']}/content")).body == desk.page
    await desk.ask("DELETE", f"/v1/files/{two['id']}")
    assert blobs(desk.server) == []


async def test_bytes_of_a_dataset_stay_when_the_file_goes(desk: Any) -> None:
    await desk.server.project("n/p")
    path = "/v1/projects/n/p/datasets"
    strategies = (await desk.ask("GET", f"{path}/strategies")).json()
    body = {"name": "d", "database": strategies["databases"][0]}
    body["data_processing_strategy"] = strategies["data_processing_strategies"][0]
    assert (await desk.ask("POST", path, body)).status == 200
    kept = await desk.form(f"{path}/d/data", b"words", "a.txt")
    given = await desk.upload(b"words", "a.txt")
    await desk.ask("DELETE", f"/v1/files/{given['id']}")
    assert blobs(desk.server) == [kept.json()["hash"]]
    given = await desk.upload(b"words", "a.txt")
    await desk.ask("DELETE", f"{path}/d/data/{kept.json()['hash']}?remove_from_disk=true")
    assert (await desk.ask("GET", f"/v1/files/{given['id']}/content")).body == b"words"


async def test_pages_come_as_pictures_in_the_resolution_that_was_asked_for(desk: Any) -> None:
    sizes = []
    for dpi in ("72", "144"):
        given = await desk.upload(pdf([["one"], ["two"]]), "a.pdf", pdf_dpi=dpi)
        assert (given["page_count"], given["has_images"]) == (2, True)
        images = (await desk.ask("GET", f"/v1/files/{given['id']}/images")).json()
        assert (images["object"], images["file_id"]) == ("list", given["id"])
        assert [image["index"] for image in images["data"]] == [0, 1]
        data = [base64.b64decode(image["base64"]) for image in images["data"]]
        assert all(one.startswith(b"\x89PNG") for one in data)
        sizes.append([int.from_bytes(one[16:20], "big") for one in data])
    assert sizes[1] == [2 * width for width in sizes[0]]


async def test_query_and_form_say_the_same(desk: Any) -> None:
    given = (await desk.form("/v1/files?convert_pdf=false", pdf([["one"]]), "a.pdf")).json()
    assert (given["has_images"], given["page_count"]) == (False, 1)
    reply = await desk.ask("GET", f"/v1/files/{given['id']}/images")
    assert (reply.status, "convert_pdf" in reply.json()["detail"]) == (400, True)
    given = (await desk.form("/v1/files?convert_pdf=false", pdf([["one"]]), "a.pdf", convert_pdf="true")).json()
    assert given["has_images"] is True


async def test_what_has_no_pages_is_stored_too(desk: Any) -> None:
    given = await desk.upload(b'{"a": 1}\n', "batch.jsonl", purpose="batch")
    assert (given["has_images"], given["page_count"]) == (False, None)
    assert (await desk.ask("GET", f"/v1/files/{given['id']}/images")).status == 400


@pytest.mark.parametrize(
    ("data", "mime", "pages"),
    [
        (encoded(drawn()), "image/png", 1),
        (b"\n" + pdf([["one"], ["two"]]), "application/pdf", 2),
        (b"BM is no picture", "application/octet-stream", None),
        (b"RIFF\0\0\0\0WAVE", "application/octet-stream", None),
    ],
)
async def test_a_file_without_a_name_is_told_by_its_bytes(desk: Any, data: bytes, mime: str, pages: int | None) -> None:
    given = await desk.upload(data, "upload")
    assert (given["content_type"], given["page_count"], given["has_images"]) == (mime, pages, pages is not None)


@pytest.mark.parametrize(
    ("name", "data"), [("a.png", b"no picture"), ("a.pdf", b"%PDF-rubbish"), ("a.pdf", encrypted_pdf()), ("a.jpg", b"")]
)
async def test_a_file_that_only_calls_itself_a_picture_is_refused_and_nothing_stays(
    desk: Any, name: str, data: bytes
) -> None:
    reply = await desk.form("/v1/files", data, name)
    assert (reply.status, set(reply.json())) == (400, {"detail", "error"})
    assert blobs(desk.server) == []
    assert (await desk.ask("GET", "/v1/files")).json()["data"] == []


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"pdf_dpi": "601"}, "pdf_dpi"),
        ({"pdf_dpi": "many"}, "pdf_dpi"),
        ({"convert_pdf": "perhaps"}, "convert_pdf"),
        ({"purpose": "x" * 65}, "purpose"),
        ({"expires_after[anchor]": "last_active_at"}, "anchor"),
        ({"expires_after[seconds]": "0"}, "seconds"),
        ({"expires_after[seconds]": "99999999"}, "seconds"),
    ],
)
async def test_a_wrong_field_is_400_and_named(desk: Any, fields: dict[str, str], word: str) -> None:
    reply = await desk.form("/v1/files", desk.page, **fields)
    assert (reply.status, word in reply.json()["detail"]) == (400, True)
    assert blobs(desk.server) == []


async def test_a_body_without_exactly_one_file_is_400(desk: Any) -> None:
    assert (await desk.form("/v1/files", purpose="ocr")).status == 400
    edge = b'--e\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n' * 2 + b"--e--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=e"}
    assert (await desk.ask("POST", "/v1/files", data=edge, headers=headers)).status == 400
    assert blobs(desk.server) == []


async def test_files_are_listed_page_by_page_in_both_orders(desk: Any) -> None:
    ids = [(await desk.upload(f"{at}".encode(), "a.txt", purpose="ab"[at % 2]))["id"] for at in range(5)]

    async def listed(query: str) -> tuple[list[str], bool]:
        reply = (await desk.ask("GET", f"/v1/files?{query}")).json()
        assert (reply["first_id"], reply["last_id"]) == (reply["data"][0]["id"], reply["data"][-1]["id"])
        return [item["id"] for item in reply["data"]], reply["has_more"]

    assert await listed("limit=2") == (ids[:2:-1], True)
    assert await listed(f"limit=2&after={ids[3]}") == ([ids[2], ids[1]], True)
    assert await listed(f"order=asc&after={ids[2]}") == (ids[3:], False)
    assert await listed("purpose=a&order=asc") == (ids[::2], False)
    assert (await desk.ask("GET", "/v1/files?after=file_none")).status == 400
    assert (await desk.ask("GET", "/v1/files?limit=0")).status == 422


async def test_a_list_goes_on_behind_a_file_that_is_gone(desk: Any) -> None:
    ids = [(await desk.upload(f"{at}".encode(), "a.txt"))["id"] for at in range(5)]
    import openai

    async with openai.AsyncOpenAI(base_url=f"{desk.server.base_url}/v1", api_key="none") as client:
        seen = []
        async for one in client.files.list(limit=2):  # asks for the next two when these are gone
            await client.files.delete(one.id)
            seen.append(one.id)
    assert seen == ids[::-1]
    assert blobs(desk.server) == []


async def test_errors_have_both_shapes_also_before_an_endpoint_is_known(desk: Any) -> None:
    reply = await desk.ask("PUT", "/v1/files/file_x")
    assert (reply.status, set(reply.json())) == (405, {"detail", "error"})
    assert reply.json()["error"]["type"] == "invalid_request_error"


async def test_the_official_client_works(desk: Any) -> None:
    import openai

    async with openai.AsyncOpenAI(base_url=f"{desk.server.base_url}/v1", api_key="none") as client:
        given = await client.files.create(file=("a.jsonl", b"{}\n"), purpose="batch")
        assert (given.object, given.bytes, given.filename, given.purpose) == ("file", 3, "a.jsonl", "batch")
        assert [one.id async for one in await client.files.list()] == [given.id]
        assert (await client.files.retrieve(given.id)).id == given.id
        assert (await client.files.content(given.id)).content == b"{}\n"
        assert (await client.files.delete(given.id)).deleted
        with pytest.raises(openai.NotFoundError, match="File not found"):
            await client.files.retrieve(given.id)


async def test_an_expired_file_is_gone_with_its_bytes(desk: Any) -> None:
    given = await desk.upload(desk.page, **{"expires_after[seconds]": "1"})
    kept = await desk.upload(b"x", "a.txt")
    assert given["expires_at"] - given["created_at"] <= 1
    files = desk.server.app.services.uploaded
    files._clock = lambda: time.time() + 2
    assert (await desk.ask("GET", f"/v1/files/{given['id']}")).status == 404
    assert [item["id"] for item in (await desk.ask("GET", "/v1/files")).json()["data"]] == [kept["id"]]
    assert await files.sweep() == 1
    assert len(blobs(desk.server)) == 1


async def test_files_outlive_a_restart_and_orphans_do_not(tmp_path: Path) -> None:
    import io

    import aiohttp

    async with running_server(tmp_path / "data") as server:
        form = aiohttp.FormData({"file": io.BytesIO(b"words")})
        given = (await server.ask("POST", "/v1/files", data=form)).json()
        orphan = server.app.core.blobs.path("0" * 64)
        orphan.parent.mkdir(exist_ok=True)
        orphan.write_bytes(b"left behind")
    async with running_server(tmp_path / "data") as server:
        assert (await server.ask("GET", f"/v1/files/{given['id']}/content")).body == b"words"
        assert not orphan.exists()


class TestLimits:
    """Small limits, each named by the refusal."""

    @pytest.fixture
    def settings(self) -> dict[str, Any]:
        return {"files": {"max_bytes": 3000, "max_total_bytes": 4000, "max_count": 3, "max_pages": 2}}

    async def test_a_large_file_is_413(self, desk: Any) -> None:
        for name in ("a.txt", "a.png"):
            reply = await desk.form("/v1/files", b"x" * 3001, name)
            assert (reply.status, "files.max_bytes" in reply.json()["detail"]) == (413, True)
        assert blobs(desk.server) == []

    async def test_a_body_that_announces_too_much_is_413_before_it_is_read(self, desk: Any) -> None:
        reply = await desk.form("/v1/files", b"x" * 2_000_000, "a.txt")
        assert (reply.status, "files.max_bytes" in reply.json()["detail"]) == (413, True)

    async def test_too_many_files_or_bytes_are_413(self, desk: Any) -> None:
        await desk.upload(b"x" * 3000, "a.txt")
        reply = await desk.form("/v1/files", b"y" * 1001, "a.txt")
        assert (reply.status, "files.max_total_bytes" in reply.json()["detail"]) == (413, True)
        for at in range(2):
            await desk.upload(f"{at}".encode(), "a.txt")
        reply = await desk.form("/v1/files", b"z", "a.txt")
        assert (reply.status, "files.max_count" in reply.json()["detail"]) == (413, True)
        assert len(blobs(desk.server)) == 3

    async def test_more_pages_than_one_reply_may_hold_are_413(self, desk: Any) -> None:
        given = await desk.upload(pdf([["x"]] * 3), "a.pdf")
        for reply in (await desk.ask("GET", f"/v1/files/{given['id']}/images"), await desk.ocr(file_id=given["id"])):
            assert (reply.status, "files.max_pages" in reply.json()["detail"]) == (413, True)


class TestWork:
    """Limits of what a request's pages hold and cost together."""

    @pytest.fixture
    def settings(self) -> dict[str, Any]:
        return {"files": {"max_pixels": 3_000_000}}

    async def test_more_pixels_than_one_request_may_hold_are_413(self, desk: Any) -> None:
        given = await desk.upload(pdf([["x"]] * 2), "a.pdf", pdf_dpi="72")
        assert (await desk.ask("GET", f"/v1/files/{given['id']}/images")).status == 200
        given = await desk.upload(pdf([["x"]] * 2), "a.pdf")
        for reply in (await desk.ask("GET", f"/v1/files/{given['id']}/images"), await desk.ocr(file_id=given["id"])):
            assert (reply.status, "files.max_pixels" in reply.json()["detail"]) == (413, True)


class TestTime:
    """As little time as no page is made in."""

    @pytest.fixture
    def settings(self) -> dict[str, Any]:
        return {"files": {"max_seconds": 0}}

    async def test_pages_that_take_too_long_together_are_413(self, desk: Any) -> None:
        given = await desk.upload(pdf([["x"]]), "a.pdf")
        reply = await desk.ask("GET", f"/v1/files/{given['id']}/images")
        assert (reply.status, "files.max_seconds" in reply.json()["detail"]) == (413, True)


class TestKeys:
    """Two inference keys do not see each other's files; a management key sees all."""

    @pytest.fixture
    def settings(self) -> dict[str, Any]:
        return {"auth": {"management_keys": ["boss"], "inference_keys": ["one", "two"]}}

    async def test_a_file_belongs_to_its_key(self, desk: Any) -> None:
        given = await desk.upload(desk.page, key="one")
        for path in ("", "/content", "/images"):
            for key, status in (("one", 200), ("two", 404), ("boss", 200)):
                reply = await desk.ask("GET", f"/v1/files/{given['id']}{path}", headers={"X-API-Key": key})
                assert reply.status == status, (path, key)
        assert (await desk.ask("GET", "/v1/files", headers={"X-API-Key": "two"})).json()["data"] == []
        body = {"model": "written", "file_id": given["id"]}
        assert (await desk.ask("POST", "/v1/ocr", body, headers={"X-API-Key": "two"})).status == 404
        assert (await desk.ask("DELETE", f"/v1/files/{given['id']}", headers={"X-API-Key": "two"})).status == 404
        assert (await desk.ask("DELETE", f"/v1/files/{given['id']}", headers={"X-API-Key": "one"})).status == 200


async def test_uploads_and_deletions_of_the_same_bytes_race_to_a_whole_end(desk: Any) -> None:
    async def one() -> None:
        given = await desk.upload(b"the same", "a.txt")
        reply = await desk.ask("GET", f"/v1/files/{given['id']}/content")
        assert (reply.status, reply.body) == (200, b"the same")
        assert (await desk.ask("DELETE", f"/v1/files/{given['id']}")).status == 200

    await asyncio.gather(*(one() for _ in range(20)))
    assert blobs(desk.server) == []
