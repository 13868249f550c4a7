"""Word, Excel and PowerPoint files: the smallest packages that hold what tests look for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from paddock_documents.samples.zipped import XML, archive

_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_R = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
_RELATION = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml"
_WORD_PARTS = {
    "document": "document.main",
    "styles": "styles",
    "header1": "header",
    "footer1": "footer",
    "comments": "comments",
}
_TITLE = '<p:ph type="title"/>'


def _types(overrides: Mapping[str, str]) -> str:
    parts = "".join(f'<Override PartName="{name}" ContentType="{kind}"/>' for name, kind in overrides.items())
    return (
        f'{XML}<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-'
        f'package.relationships+xml"/><Default Extension="xml" ContentType="application/xml"/>{parts}</Types>'
    )


def _relations(targets: Sequence[tuple[str, str]]) -> str:
    parts = "".join(
        f'<Relationship Id="rId{at}" Type="{kind}" Target="{target}"/>' for at, (kind, target) in enumerate(targets, 1)
    )
    return f'{XML}<Relationships xmlns="{_PACKAGE}/relationships">{parts}</Relationships>'


def _core(title: str) -> str:
    return (
        f'{XML}<cp:coreProperties xmlns:cp="{_PACKAGE}/metadata/core-properties" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:title>{title}</dc:title><dc:creator>A. Author</dc:creator></cp:coreProperties>"
    )


def docx(
    paragraphs: Sequence[str] = ("# Heading", "A paragraph."),
    *,
    table: Sequence[Sequence[str]] = (),
    title: str = "A title",
    header: str = "",
    footer: str = "",
    comment: str = "",
    body: bytes | None = None,
) -> bytes:
    """Paragraphs (``# `` to ``### `` make headings), then a table. `body` replaces word/document.xml."""
    references = "".join(
        f'<w:{kind}Reference w:type="default" r:id="rId{number}"/>'
        for kind, number, given in (("header", 2, header), ("footer", 3, footer))
        if given
    )
    text = _word_body(paragraphs, table, commented=bool(comment))
    main = f"{XML}<w:document {_W} {_R}><w:body>{text}<w:sectPr>{references}</w:sectPr></w:body></w:document>"
    kinds = {f"/word/{name}.xml": f"{_WORD}.{kind}+xml" for name, kind in _WORD_PARTS.items()}
    package = [
        (f"{_RELATION}/officeDocument", "word/document.xml"),
        (f"{_PACKAGE}/relationships/metadata/core-properties", "docProps/core.xml"),
    ]
    parts = [("styles", "styles"), ("header", "header1"), ("footer", "footer1"), ("comments", "comments")]
    return archive(
        {
            "[Content_Types].xml": _types(kinds),
            "_rels/.rels": _relations(package),
            "docProps/core.xml": _core(title),
            "word/document.xml": body or main,
            "word/_rels/document.xml.rels": _relations(
                [(f"{_RELATION}/{kind}", f"{name}.xml") for kind, name in parts]
            ),
            "word/styles.xml": _word_styles(),
            "word/header1.xml": f"{XML}<w:hdr {_W}>{_word_paragraph(header)}</w:hdr>",
            "word/footer1.xml": f"{XML}<w:ftr {_W}>{_word_paragraph(footer)}</w:ftr>",
            "word/comments.xml": f'{XML}<w:comments {_W}><w:comment w:id="0" w:author="Reviewer">{_word_paragraph(comment)}'
            "</w:comment></w:comments>",
        }
    )


def _word_body(paragraphs: Sequence[str], table: Sequence[Sequence[str]], *, commented: bool) -> str:
    text = "".join(map(_word_paragraph, paragraphs))
    rows = "".join(f"<w:tr>{''.join(f'<w:tc>{_word_paragraph(cell)}</w:tc>' for cell in row)}</w:tr>" for row in table)
    text += f"<w:tbl>{rows}</w:tbl>" if table else ""
    if commented:
        text += (
            '<w:p><w:commentRangeStart w:id="0"/><w:r><w:t>Commented.</w:t></w:r><w:commentRangeEnd w:id="0"/>'
            '<w:r><w:commentReference w:id="0"/></w:r></w:p>'
        )
    return text


def _word_styles() -> str:
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="Heading{level}"><w:name w:val="heading {level}"/></w:style>'
        for level in (1, 2, 3)
    )
    return f"{XML}<w:styles {_W}>{styles}</w:styles>"


def _word_paragraph(text: str) -> str:
    marks, _, rest = text.partition(" ")
    style = f'<w:pPr><w:pStyle w:val="Heading{len(marks)}"/></w:pPr>' if marks and not marks.strip("#") else ""
    return f'<w:p>{style}<w:r><w:t xml:space="preserve">{rest if style else text}</w:t></w:r></w:p>'


Cell = str | int | float | tuple[str, str]


def xlsx(sheets: Mapping[str, Sequence[Sequence[Cell]]]) -> bytes:
    """Sheets of rows; a cell is text, a number, or (formula, its last value)."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    sheet = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    listed = "".join(f'<sheet name="{name}" sheetId="{at}" r:id="rId{at}"/>' for at, name in enumerate(sheets, 1))
    kinds = {f"/xl/worksheets/sheet{at}.xml": f"{sheet}.worksheet+xml" for at in range(1, len(sheets) + 1)}
    entries = {
        "[Content_Types].xml": _types({"/xl/workbook.xml": f"{sheet}.sheet.main+xml", **kinds}),
        "_rels/.rels": _relations(
            [
                (f"{_RELATION}/officeDocument", "xl/workbook.xml"),
                (f"{_PACKAGE}/relationships/metadata/core-properties", "docProps/core.xml"),
            ]
        ),
        "docProps/core.xml": _core("Numbers"),
        "xl/workbook.xml": f'{XML}<workbook xmlns="{main}" {_R}><sheets>{listed}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": _relations(
            [(f"{_RELATION}/worksheet", f"worksheets/sheet{at}.xml") for at in range(1, len(sheets) + 1)]
        ),
    }
    for at, rows in enumerate(sheets.values(), 1):
        data = "".join(
            f'<row r="{number}">{"".join(_cell(cell, column, number) for column, cell in enumerate(row))}</row>'
            for number, row in enumerate(rows, 1)
        )
        entries[f"xl/worksheets/sheet{at}.xml"] = (
            f'{XML}<worksheet xmlns="{main}"><sheetData>{data}</sheetData></worksheet>'
        )
    return archive(entries)


def _cell(cell: Cell, column: int, row: int) -> str:
    place = f'r="{chr(65 + column)}{row}"'
    if isinstance(cell, tuple):
        return f"<c {place}><f>{cell[0]}</f><v>{cell[1]}</v></c>"
    if isinstance(cell, str):
        return f'<c {place} t="inlineStr"><is><t>{cell}</t></is></c>' if cell else ""
    return f"<c {place}><v>{cell}</v></c>"


def pptx(slides: Sequence[Sequence[str]]) -> bytes:
    """Slides of lines; the first line is the title."""
    main, drawing = (
        "http://schemas.openxmlformats.org/presentationml/2006/main",
        "http://schemas.openxmlformats.org/drawingml/2006/main",
    )
    kind = "application/vnd.openxmlformats-officedocument.presentationml"
    count = range(1, len(slides) + 1)
    listed = "".join(f'<p:sldId id="{255 + at}" r:id="rId{at}"/>' for at in count)
    entries = {
        "[Content_Types].xml": _types(
            {
                "/ppt/presentation.xml": f"{kind}.presentation.main+xml",
                **{f"/ppt/slides/slide{at}.xml": f"{kind}.slide+xml" for at in count},
            }
        ),
        "_rels/.rels": _relations([(f"{_RELATION}/officeDocument", "ppt/presentation.xml")]),
        "ppt/presentation.xml": f'{XML}<p:presentation xmlns:p="{main}" {_R}><p:sldIdLst>{listed}</p:sldIdLst></p:presentation>',
        "ppt/_rels/presentation.xml.rels": _relations(
            [(f"{_RELATION}/slide", f"slides/slide{at}.xml") for at in count]
        ),
    }
    for at, lines in enumerate(slides, 1):
        shapes = "".join(
            f'<p:sp><p:nvSpPr><p:cNvPr id="{number}" name="x"/><p:cNvSpPr/><p:nvPr>{_TITLE if number == 1 else ""}'
            f"</p:nvPr></p:nvSpPr><p:spPr/><p:txBody><a:bodyPr/><a:p><a:r><a:t>{line}</a:t></a:r></a:p></p:txBody></p:sp>"
            for number, line in enumerate(lines, 1)
        )
        entries[f"ppt/slides/slide{at}.xml"] = (
            f'{XML}<p:sld xmlns:p="{main}" xmlns:a="{drawing}"><p:cSld><p:spTree><p:nvGrpSpPr><p:cNvPr id="0" name=""/>'
            f"<p:cNvGrpSpPr/><p:nvPr/></p:nvGrpSpPr><p:grpSpPr/>{shapes}</p:spTree></p:cSld></p:sld>"
        )
    return archive(entries)
