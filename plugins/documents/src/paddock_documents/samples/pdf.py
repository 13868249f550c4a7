"""PDFs: ordinary ones, and those that are scans, encrypted, circular or empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class PdfWriter:
    """Numbered objects, then the table of their offsets and the trailer."""

    def __init__(self) -> None:
        self.objects: list[bytes] = []

    def add(self, body: str | bytes) -> int:
        """Append an object; returns its number."""
        self.objects.append(body.encode("latin-1") if isinstance(body, str) else body)
        return len(self.objects)

    def stream(self, data: bytes, extra: str = "") -> int:
        """Append a stream object."""
        return self.add(f"<< /Length {len(data)} {extra} >>\nstream\n".encode("latin-1") + data + b"\nendstream")

    def reserve(self) -> int:
        """A number whose object is set later with `put`."""
        return self.add(b"null")

    def put(self, number: int, body: str) -> None:
        """Set a reserved object."""
        self.objects[number - 1] = body.encode("latin-1")

    def finish(self, root: int, extra: str = "") -> bytes:
        """The file."""
        out = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
        offsets = []
        for number, body in enumerate(self.objects, 1):
            offsets.append(len(out))
            out += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
        start = len(out)
        out += f"xref\n0 {len(self.objects) + 1}\n0000000000 65535 f \n".encode()
        out += b"".join(f"{offset:010} 00000 n \n".encode() for offset in offsets)
        out += f"trailer\n<< /Size {len(self.objects) + 1} /Root {root} 0 R {extra} >>\nstartxref\n{start}\n%%EOF\n".encode()
        return bytes(out)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")


def _content(lines: Sequence[str]) -> bytes:
    """Lines from the top of the page; ``# `` begins one in large type."""
    parts = []
    top = 740
    for line in lines:
        size = 24 if line.startswith("# ") else 11
        top -= size + 5
        parts.append(f"BT /F1 {size} Tf 72 {top} Td ({_escaped(line.removeprefix('# '))}) Tj ET")
    return "\n".join(parts).encode("cp1252")


def _table_content(rows: Sequence[Sequence[str]]) -> bytes:
    cells = [
        f"BT /F1 11 Tf {72 + 120 * column} {600 - 20 * number} Td ({_escaped(cell)}) Tj ET"
        for number, row in enumerate(rows)
        for column, cell in enumerate(row)
    ]
    return "\n".join(cells).encode("cp1252")


def pdf(
    pages: Sequence[Sequence[str]] = (("Hello page one.",),),
    *,
    title: str = "",
    link: str = "",
    note: str = "",
    outline: Sequence[str] = (),
    fields: Mapping[str, str] | None = None,
    xmp: str = "",
    attachment: bytes = b"",
    table: Sequence[Sequence[str]] = (),
) -> bytes:
    """Pages of lines, then one with the table if there is one.

    The first page may carry a link and a note, the file an outline, form fields, XMP and an attachment.
    """
    writer = PdfWriter()
    root, tree = writer.reserve(), writer.reserve()
    font = writer.add("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
    annotations = _annotations(writer, link, note)
    form = [
        writer.add(
            f"<< /Type /Annot /Subtype /Widget /FT /Tx /T ({_escaped(name)}) /V ({_escaped(value)}) /Rect [72 300 300 320] >>"
        )
        for name, value in (fields or {}).items()
    ]
    numbers = []
    contents = [_content(lines) for lines in pages] + ([_table_content(table)] if table else [])
    for index, data in enumerate(contents):
        content = writer.stream(data)
        marks = " ".join(f"{number} 0 R" for number in [*annotations, *form]) if index == 0 else ""
        numbers.append(
            writer.add(
                f"<< /Type /Page /Parent {tree} 0 R /MediaBox [0 0 612 792] /Contents {content} 0 R"
                f" /Resources << /Font << /F1 {font} 0 R >> >> /Annots [{marks}] >>"
            )
        )
    writer.put(
        tree, f"<< /Type /Pages /Kids [{' '.join(f'{number} 0 R' for number in numbers)}] /Count {len(numbers)} >>"
    )
    parts = [f"/Type /Catalog /Pages {tree} 0 R"]
    if form:
        parts.append(f"/AcroForm << /Fields [{' '.join(f'{number} 0 R' for number in form)}] >>")
    if outline:
        parts.append(f"/Outlines {_outline(writer, outline, numbers)} 0 R")
    if xmp:
        parts.append(f"/Metadata {writer.stream(xmp.encode(), '/Type /Metadata /Subtype /XML')} 0 R")
    if attachment:
        embedded = writer.stream(attachment, "/Type /EmbeddedFile")
        spec = writer.add(f"<< /Type /Filespec /F (note.txt) /EF << /F {embedded} 0 R >> >>")
        parts.append(f"/Names << /EmbeddedFiles << /Names [(note.txt) {spec} 0 R] >> >>")
    writer.put(root, f"<< {' '.join(parts)} >>")
    info = writer.add(f"<< /Title ({_escaped(title)}) /Author (A. Author) >>") if title else 0
    return writer.finish(root, f"/Info {info} 0 R" if info else "")


def _annotations(writer: PdfWriter, link: str, note: str) -> list[int]:
    found = []
    if link:
        found.append(
            writer.add(
                f"<< /Type /Annot /Subtype /Link /Rect [72 700 200 730] /A << /S /URI /URI ({_escaped(link)}) >> >>"
            )
        )
    if note:
        found.append(
            writer.add(f"<< /Type /Annot /Subtype /Text /Rect [72 600 90 620] /Contents ({_escaped(note)}) >>")
        )
    return found


def _outline(writer: PdfWriter, titles: Sequence[str], pages: Sequence[int]) -> int:
    root = writer.reserve()
    items = [writer.reserve() for _ in titles]
    for index, (number, title) in enumerate(zip(items, titles, strict=True)):
        near = f"/Prev {items[index - 1]} 0 R " if index else ""
        near += f"/Next {items[index + 1]} 0 R " if index + 1 < len(items) else ""
        page = pages[min(index, len(pages) - 1)]
        writer.put(number, f"<< /Title ({_escaped(title)}) /Parent {root} 0 R {near}/Dest [{page} 0 R /Fit] >>")
    writer.put(root, f"<< /Type /Outlines /First {items[0]} 0 R /Last {items[-1]} 0 R /Count {len(items)} >>")
    return root


def scanned_pdf() -> bytes:
    """One page that holds only a picture."""
    writer = PdfWriter()
    root, tree = writer.reserve(), writer.reserve()
    image = writer.stream(
        bytes(range(256)),
        "/Type /XObject /Subtype /Image /Width 16 /Height 16 /ColorSpace /DeviceGray /BitsPerComponent 8",
    )
    content = writer.stream(b"q 400 0 0 400 100 200 cm /I1 Do Q")
    page = writer.add(
        f"<< /Type /Page /Parent {tree} 0 R /MediaBox [0 0 612 792] /Contents {content} 0 R"
        f" /Resources << /XObject << /I1 {image} 0 R >> >> >>"
    )
    writer.put(tree, f"<< /Type /Pages /Kids [{page} 0 R] /Count 1 >>")
    writer.put(root, f"<< /Type /Catalog /Pages {tree} 0 R >>")
    return writer.finish(root)


def encrypted_pdf() -> bytes:
    """A PDF that wants a password (its key can't be right for any)."""
    data = pdf([("secret",)])
    entry = f"/Encrypt << /Filter /Standard /V 1 /R 2 /O <{'ab' * 32}> /U <{'cd' * 32}> /P -44 >> /ID [<00> <00>] >>\nstartxref"
    return data.replace(b">>\nstartxref", entry.encode())


def circular_pdf() -> bytes:
    """Page tree, contents, form and outline refer to themselves."""
    writer = PdfWriter()
    root, tree, page, form = (writer.reserve() for _ in range(4))
    writer.put(
        page,
        f"<< /Type /Page /Parent {tree} 0 R /MediaBox [0 0 612 792] /Contents {page} 0 R"
        f" /Resources << /XObject << /X {form} 0 R >> /Font {page} 0 R >> >>",
    )
    writer.put(tree, f"<< /Type /Pages /Kids [{tree} 0 R {page} 0 R {root} 0 R] /Count 3 /Parent {tree} 0 R >>")
    writer.put(
        form,
        f"<< /Type /XObject /Subtype /Form /BBox [0 0 1 1] /Resources << /XObject << /X {form} 0 R >> >> /Length 5 >>"
        "\nstream\n/X Do\nendstream",
    )
    writer.put(root, f"<< /Type /Catalog /Pages {tree} 0 R /Outlines {root} 0 R /First {root} 0 R /Next {root} 0 R >>")
    return writer.finish(root)


def empty_pdf() -> bytes:
    """One page without contents."""
    writer = PdfWriter()
    root, tree = writer.reserve(), writer.reserve()
    page = writer.add(f"<< /Type /Page /Parent {tree} 0 R /MediaBox [0 0 612 792] >>")
    writer.put(tree, f"<< /Type /Pages /Kids [{page} 0 R] /Count 1 >>")
    writer.put(root, f"<< /Type /Catalog /Pages {tree} 0 R >>")
    return writer.finish(root)
