"""Files made to do harm: each is read or refused with a reason, and the server lives on."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from paddock_documents import plugin
from paddock_documents.parsers import all_parsers
from paddock_documents.readers import Readers
from paddock_documents.samples import archive, circular_pdf, docx, empty_pdf, encrypted_pdf, epub, odt, pdf, pptx, xlsx
from paddock_documents.samples.pdf import PdfWriter
from paddock_documents.settings import DocumentSettings
from paddock_documents.wire import Request

from paddock.contracts.providers import Document, Parser
from paddock.errors import ProviderUnavailable, ValidationFailed
from paddock.testing.parser import Sample, store

Read = Callable[..., Document]
WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def body(inner: bytes) -> bytes:
    return b"<w:document %s><w:body>%s</w:body></w:document>" % (WORD.encode(), inner)


def changed(data: bytes, name: str, change: Callable[[bytes], bytes]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        entries = {item: file.read(item) for item in file.namelist()}
    return archive({**entries, name: change(entries[name])})


def deep(tag: str, inside: bytes = b"x") -> bytes:
    return f"<{tag}>".encode() * 100_000 + inside + f"</{tag}>".encode() * 100_000


def one_page(extra: str = "", kids: int = 1, content: bytes = b"", filter_: str = "") -> bytes:
    writer = PdfWriter()
    root, tree = writer.reserve(), writer.reserve()
    stream = writer.stream(content, filter_)
    page = writer.add(f"<< /Type /Page /Parent {tree} 0 R /MediaBox [0 0 9 9] /Contents {stream} 0 R {extra} >>")
    writer.put(tree, f"<< /Type /Pages /Kids [{f'{page} 0 R ' * kids}] /Count {kids} >>")
    writer.put(root, f"<< /Type /Catalog /Pages {tree} 0 R >>")
    return writer.finish(root)


def lying_pdf(old: bytes, new: bytes) -> bytes:
    return pdf([["some words"]]).replace(old, new)


REFUSED: Mapping[str, tuple[str, Callable[[], bytes], str]] = {
    "encrypted": ("a.pdf", encrypted_pdf, "is encrypted"),
    "circular": ("a.pdf", circular_pdf, "damaged|text layer"),
    "no contents": ("a.pdf", empty_pdf, "no text layer"),
    "head only": ("a.pdf", lambda: b"%PDF-1.7\n", "damaged"),
    "not a pdf": ("a.pdf", lambda: b"just words in a file", "damaged, or not .pdf"),
    "word file called pdf": ("a.pdf", docx, "damaged, or not .pdf"),
    "pdf called word": ("a.docx", pdf, "damaged, or not .docx"),
    "an archive of something else": ("a.docx", lambda: archive({"x.txt": "words"}), "damaged"),
    "an archive that was cut": ("a.docx", lambda: docx()[:900], "damaged"),
    "zip bomb": ("a.docx", lambda: docx(body=body(b"<w:p>" + b"a" * 110_000_000)), "archive bomb"),
    "sheet bomb": ("a.xlsx", lambda: xlsx({"S": [["x" * 100_000_000]]}), "archive bomb"),
    "many entries": ("a.docx", lambda: archive({str(at): b"" for at in range(20_000)}), "archive bomb"),
    "entities": (
        "a.docx",
        lambda: docx(body=b'<!DOCTYPE x [<!ENTITY a "aaaa">]>' + body(b"<w:p><w:r><w:t>&b;</w:t></w:r></w:p>")),
        "no text|damaged",
    ),
    "odt of 100,000 levels": (
        "a.odt",
        lambda: changed(
            odt(["x"]), "content.xml", lambda xml: xml.replace(b"<text:p>x</text:p>", deep("text:section"))
        ),
        "crashed|damaged|no text",
    ),
    "epub of 100,000 levels": ("a.epub", lambda: epub([("T", deep("div").decode())]), "crashed|damaged|no text"),
    "pptx of 100,000 levels": (
        "a.pptx",
        lambda: changed(
            pptx([["x"]]), "ppt/slides/slide1.xml", lambda xml: xml.replace(b"<p:sp>", deep("p:grpSp") + b"<p:sp>")
        ),
        "crashed|damaged|no text",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_harmful_file_is_refused_with_a_reason(read: Read, tmp_path: Path, name: str) -> None:
    filename, data, reason = REFUSED[name]
    with pytest.raises(ValidationFailed, match=reason) as caught:
        read("DocumentParser", filename, data())
    assert str(tmp_path) not in caught.value.message
    assert read("DocumentParser", "good.pdf", pdf([["good"]])).text == "good"


READABLE: Mapping[str, tuple[str, Callable[[], bytes]]] = {
    "arrays of 100,000 levels": ("a.pdf", lambda: one_page(f"/X {'[' * 100_000}{']' * 100_000}")),
    "a page count that lies": ("a.pdf", lambda: lying_pdf(b"/Count 1", b"/Count 999999999")),
    "a stream length that lies": ("a.pdf", lambda: lying_pdf(b"/Length ", b"/Length 99999")),
    "no cross-reference table": ("a.pdf", lambda: lying_pdf(b"xref", b"nope")),
    "a page of a billion points": ("a.pdf", lambda: lying_pdf(b"[0 0 612 792]", b"[0 0 1000000000 1000000000]")),
    "a cell at the far end": (
        "a.xlsx",
        lambda: changed(
            xlsx({"S": [["word"]]}),
            "xl/worksheets/sheet1.xml",
            lambda xml: xml.replace(b"</row>", b'</row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'),
        ),
    ),
    "word of 100,000 levels": (
        "a.docx",
        lambda: docx(body=body(b"<w:p><w:r><w:t>word</w:t></w:r></w:p>" + deep("w:sdt", b""))),
    ),
    "rich text of 100,000 levels": ("a.rtf", lambda: b"{\\rtf1 word" + b"{" * 100_000 + b"}" * 100_000 + b"}"),
    "10,000 nested parts": (
        "a.eml",
        lambda: (
            b"Subject: word\r\n"
            + b"".join(
                b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (at, at) for at in range(10_000)
            )
            + b"\r\nhi"
        ),
    ),
}


@pytest.mark.parametrize("name", READABLE)
def test_an_odd_file_is_read_or_refused(read: Read, name: str) -> None:
    filename, data = READABLE[name]
    with suppress(ValidationFailed):
        assert read("DocumentParser", filename, data()).text
    assert read("DocumentParser", "good.pdf", pdf([["good"]])).text == "good"


# --- helper processes --------------------------------------------------------------------------------------------------


@pytest.fixture
def narrow() -> Iterator[Readers]:
    """Helpers with little time."""
    readers = Readers(DocumentSettings(timeout_seconds=0.5))
    yield readers
    readers.close()


@pytest.fixture
def own() -> Iterator[Readers]:
    """Helpers of one test."""
    readers = Readers(DocumentSettings())
    yield readers
    readers.close()


def request(path: Path, data: bytes, mime: str = "application/pdf", timeout: float = 30) -> Request:
    path.write_bytes(data)
    return Request(path=str(path), mime=mime, timeout=timeout, max_bytes=10**9)


def test_a_file_without_end_is_given_up_after_the_timeout(narrow: Readers, tmp_path: Path) -> None:
    endless = one_page(content=zlib.compress(b"BT (x) Tj ET " * 30_000_000, 1), filter_="/Filter /FlateDecode")
    parser = all_parsers(narrow)[0]
    with pytest.raises(ValidationFailed, match=r"documents\.timeout_seconds"):
        parser.parse(store(tmp_path, Sample("a.pdf", endless)), parser.types[0].config())
    assert parser.parse(store(tmp_path, Sample("b.pdf", pdf([["good"]]))), parser.types[0].config()).text == "good"


def test_a_file_over_the_limit_is_refused(tmp_path: Path) -> None:
    readers = Readers(DocumentSettings(max_mb=1))
    try:
        parser = all_parsers(readers)[0]
        with pytest.raises(ValidationFailed, match=r"documents\.max_mb"):
            parser.parse(store(tmp_path, Sample("a.pdf", pdf() + b"x" * 2_000_000)), parser.types[0].config())
    finally:
        readers.close()


def test_one_helper_reads_many_files(own: Readers, tmp_path: Path) -> None:
    for at in range(20):
        assert own.read(request(tmp_path / "a", pdf([[f"page {at}"]]))).text == f"page {at}"
    assert own.count == 1


def test_threads_read_side_by_side(own: Readers, tmp_path: Path) -> None:
    found: dict[int, str] = {}

    def work(at: int) -> None:
        for _ in range(5):
            found[at] = own.read(request(tmp_path / str(at), pdf([[f"page {at}"]]))).text

    threads = [threading.Thread(target=work, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {at: f"page {at}" for at in range(4)}
    assert own.count <= 4


def test_a_helper_that_was_killed_while_idle_is_replaced(own: Readers, tmp_path: Path) -> None:
    own.read(request(tmp_path / "a", pdf([["one"]])))
    (idle,) = own._idle
    os.kill(idle._process.pid, signal.SIGKILL)
    idle._process.wait()
    assert own.read(request(tmp_path / "a", pdf([["two"]]))).text == "two"
    assert own.count == 1


def test_an_idle_helper_ends(tmp_path: Path) -> None:
    readers = Readers(DocumentSettings(idle_seconds=0.1))
    idle = readers._take()
    assert idle.ask(msgspec.json.encode(request(tmp_path / "a", pdf())), 30) is not None
    readers._give_back(idle, usable=True)
    assert idle._process.wait(timeout=30) == -signal.SIGKILL
    readers.close()


def test_after_close_nothing_is_left_and_nothing_is_read(own: Readers, tmp_path: Path) -> None:
    own.read(request(tmp_path / "a", pdf()))
    (idle,) = own._idle
    own.close()
    assert idle._process.returncode is not None
    assert own.count == 0
    with pytest.raises(ProviderUnavailable, match="stopping"):
        own.read(request(tmp_path / "a", pdf()))


def test_close_during_a_file_is_no_fault_of_the_file(own: Readers, tmp_path: Path) -> None:
    endless = one_page(content=zlib.compress(b"BT (x) Tj ET " * 30_000_000, 1), filter_="/Filter /FlateDecode")
    errors: list[Exception] = []

    def work() -> None:
        try:
            own.read(request(tmp_path / "a", endless))
        except (ValidationFailed, ProviderUnavailable) as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not own.count:
        thread.join(0.01)
    own.close()
    thread.join()
    assert [type(error) for error in errors] == [ProviderUnavailable]


def test_a_helper_that_cannot_start_is_no_fault_of_the_file(tmp_path: Path) -> None:
    readers = Readers(DocumentSettings(memory_mb=32))
    with pytest.raises(ProviderUnavailable, match=r"documents\.memory_mb"):
        readers.read(request(tmp_path / "a", pdf()))
    assert readers.count == 0


def test_an_error_of_our_own_is_not_hidden(own: Readers, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="FileNotFoundError"):
        own.read(Request(path=str(tmp_path / "gone"), mime="application/pdf", timeout=5, max_bytes=1000))


def test_the_environment_of_a_helper_is_small(own: Readers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADDOCK_AUTH__MANAGEMENT_KEYS", "secret")
    own.read(request(tmp_path / "a", pdf()))
    (idle,) = own._idle
    if sys.platform == "linux":
        assert b"secret" not in Path(f"/proc/{idle._process.pid}/environ").read_bytes()


def test_importing_the_plugin_loads_no_reader() -> None:
    code = "import sys, paddock_documents; sys.exit('kreuzberg' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_plugin_declares_its_settings_and_parsers(parsers: Mapping[str, Parser]) -> None:
    assert plugin.paddock_settings() == ("documents", DocumentSettings)
    assert {".pdf", ".docx", ".xlsx", ".pptx", ".odt", ".epub", ".rtf", ".eml", ".msg"} <= parsers[
        "DocumentParser"
    ].extensions
