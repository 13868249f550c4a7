"""Documents that have something of everything: headings, tables, notes, fields, attachments, several pages or sheets."""

from paddock.testing.parser import PROSE
from paddock_documents.samples import docx, eml, pdf, xlsx

LINES = [
    f"Sentence number {at} of this page is long enough to be wrapped. And so is an-" if at % 2 else f"other one {at}."
    for at in range(30)
]
TABLE = [
    ["Town", "People", "Area", "Year"],
    ["Cologne", "1000000", "405", "1950"],
    ["Paris", "2100000", "105", "1851"],
    ["Rome", "2800000", "1285", "1900"],
    ["Bonn", "330000", "141", "1789"],
    ["Essen", "580000", "210", "1802"],
]
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag><rdf:li>told by XMP</rdf:li></rdf:Bag>'
    "</dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
)
RICH_PDF = pdf(
    [["# Größe", *LINES], ["# Second part", *LINES[:8], "trailing   ", "the end of page two"]],
    title="A title",
    link="https://example.org/x",
    note="a margin note",
    outline=["Chapter 1", "Chapter 2"],
    fields={"name": "Jo"},
    xmp=XMP,
    table=TABLE,
)
BLOCKS = [text for text in PROSE.replace("👩‍🚀", "").split("\n\n") if text]
RICH_DOCX = docx(
    ["# Heading one", *BLOCKS * 3, "## Heading two", *BLOCKS * 2, "# Heading three", *BLOCKS * 3],
    table=[["a", "b"], ["cell", "2"]],
    header="RUNNING HEAD",
    footer="RUNNING FOOT",
    comment="please check",
)
ROWS: list[list[str | int | float | tuple[str, str]]] = [["name", "town", "n"], ["Jo", "Köln", 1], ["Al", "Paris", 2.5]]
MANY: list[list[str | int | float | tuple[str, str]]] = [[f"n{at}", f"t{at}", at] for at in range(150)]
RICH_XLSX = xlsx(
    {
        "One": [*ROWS, ["sum", "Paris", ("SUM(C2:C3)", "3.5")], *MANY],
        "Two": [["skipped", "line"], ["k", "v"], ["x", "none here"]],
    }
)
BODY = (
    "Dear Bob,\n\nthis is a line of an e-mail that was broken by its margin\nand goes on here.  Two blanks. "
    + "A sentence. " * 40
)
RICH_MAIL = eml(BODY + "\n\n-- \nAnn", attachments={"note.txt": b"attached words"})
SPLIT = {"chunk_size": 350, "chunk_overlap": 0}
