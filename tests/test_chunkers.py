"""Chunkers of the core: the suite over each, what each strategy promises, and proofs that the suite can fail."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from paddock.builtin.chunkers import builtin_chunkers
from paddock.builtin.chunkers.running import TextChunker
from paddock.contracts.providers import (
    Chunk,
    Chunker,
    ChunkOptions,
    Document,
    Page,
    Record,
    Section,
    Table,
    TypeName,
)
from paddock.errors import ValidationFailed
from paddock.testing.parser import PROSE, ChunkerSuite

CHUNKERS = {chunker.name: chunker for chunker in builtin_chunkers()}


def cut(strategy: str, document: Document | str, size: int = 100, overlap: int = 0, **extra: object) -> list[Chunk]:
    document = Document(text=document) if isinstance(document, str) else document
    return CHUNKERS[strategy].chunk(document, ChunkOptions(strategy=strategy, size=size, overlap=overlap, extra=extra))


def texts(chunks: list[Chunk]) -> list[str]:
    return [chunk.text for chunk in chunks]


@pytest.mark.parametrize(
    "chunker", [item for name, item in CHUNKERS.items() if name not in ("full", "tokens")], ids=lambda item: item.name
)
class TestCharacterCountingChunkers(ChunkerSuite):
    @pytest.fixture
    def chunker(self, request: pytest.FixtureRequest) -> Chunker:
        return request.param  # type: ignore[no-any-return]  # a parameter has no type


@pytest.mark.parametrize("chunker", [CHUNKERS["full"], CHUNKERS["tokens"]], ids=lambda item: item.name)
class TestOtherChunkers(ChunkerSuite):
    counts_characters = False


def test_there_is_a_chunker_for_every_documented_strategy() -> None:
    assert set(CHUNKERS) == {
        "characters",
        "sentences",
        "paragraphs",
        "sections",
        "headings",
        "rows",
        "columns",
        "full",
        "pages",
        "tokens",
        "semantic",
        "code",
        "email_sections",
    }


def test_characters_fill_the_size_and_keep_words_whole() -> None:
    chunks = cut("characters", "abcd " * 100)
    assert all(90 <= len(chunk.text) <= 100 for chunk in chunks[:-1])
    assert all(set(chunk.text.split()) == {"abcd"} for chunk in chunks)


def test_characters_cut_a_word_that_is_longer_than_the_size() -> None:
    assert [len(text) for text in texts(cut("characters", "x" * 250))] == [100, 100, 50]


def test_sentences_are_never_cut_when_they_fit() -> None:
    chunks = cut("sentences", PROSE * 3, 140)
    assert all(chunk.text[-1] in ".!?" for chunk in chunks)
    assert all(chunk.text[0].isupper() for chunk in chunks)


def test_a_title_or_an_initial_ends_no_sentence() -> None:
    text = "It was told by Dr. Smith and by J. R. Jones of the place. " + "Then came more. " * 3
    assert texts(cut("sentences", text, 70))[0] == "It was told by Dr. Smith and by J. R. Jones of the place."


def test_chinese_sentences_end_without_a_blank() -> None:
    assert texts(cut("sentences", "今天天气很好。我们去公园。" * 10, 13))[0] == "今天天气很好。我们去公园。"


def test_paragraphs_are_never_cut_when_they_fit() -> None:
    paragraphs = [f"Paragraph {number}. It has two sentences." for number in range(10)]
    chunks = cut("paragraphs", "\n\n".join(paragraphs), 90)
    assert [part for text in texts(chunks) for part in text.split("\n\n")] == paragraphs


def test_a_paragraph_that_is_too_long_is_cut_between_sentences() -> None:
    assert all(text.endswith(".") for text in texts(cut("paragraphs", "Short one.\n\n" + "A sentence of it. " * 30)))


def test_overlap_repeats_whole_words_of_the_chunk_before() -> None:
    for strategy in ("characters", "sentences", "paragraphs", "semantic"):
        chunks = cut(strategy, PROSE * 10, 300, 60)
        shared = [
            before.end - after.start
            for before, after in pairwise(chunks)
            if before.end is not None and after.start is not None
        ]
        assert all(40 <= length <= 60 for length in shared[:3]), (strategy, shared)


def test_overlap_never_crosses_a_page() -> None:
    document = Document(text=PROSE * 4, pages=[Page(1, 0, 2 * len(PROSE)), Page(2, 2 * len(PROSE), 4 * len(PROSE))])
    chunks = cut("pages", document, 250, 50)
    assert {chunk.page for chunk in chunks} == {1, 2}
    assert all(document.page_at(chunk.start or 0) == document.page_at((chunk.end or 0) - 1) for chunk in chunks)


def outlined() -> Document:
    text = "# A\n\nalpha\n\n## A1\n\nbeta\n\n## A2\n\ngamma\n\n# B\n\ndelta\n"
    spots = [(1, "A", "# A"), (2, "A1", "## A1"), (2, "A2", "## A2"), (1, "B", "# B")]
    ends = [text.index("# B"), text.index("## A2"), text.index("# B"), len(text)]
    return Document(
        text=text,
        sections=[
            Section(level=level, title=title, start=text.index(mark), end=end)
            for (level, title, mark), end in zip(spots, ends, strict=True)
        ],
    )


def test_headings_cut_at_every_heading_and_name_it() -> None:
    chunks = cut("headings", outlined())
    assert [chunk.metadata["section_path"] for chunk in chunks] == ["A", "A > A1", "A > A2", "B"]
    assert texts(chunks)[1] == "## A1\n\nbeta"


def test_sections_keep_their_subsections_while_they_fit() -> None:
    assert [chunk.metadata["section"] for chunk in cut("sections", outlined(), 100)] == ["A", "B"]
    assert [chunk.metadata["section"] for chunk in cut("sections", outlined(), 30)] == ["A", "A1", "A2", "B"]


def test_a_heading_without_text_joins_the_next_one() -> None:
    text = "# A\n\n## B\n\nsome text that is long enough to stand alone"
    document = Document(
        text=text,
        sections=[
            Section(level=1, title="A", start=0, end=len(text)),
            Section(level=2, title="B", start=5, end=len(text)),
        ],
    )
    assert texts(cut("headings", document)) == [text]


def test_careless_sections_lose_nothing() -> None:
    text = PROSE * 3
    wild = [
        Section(level=1, title="x", start=start, end=end) for start, end in ((50, 20), (10, 10**9), (10, 5), (10**9, 1))
    ]
    for strategy in ("headings", "sections", "email_sections"):
        chunks = cut(strategy, Document(text=text, sections=wild), 100)
        assert sum(len(chunk.text.split()) for chunk in chunks) >= len(text.split())


def test_semantic_prefers_the_largest_unit() -> None:
    text = "\n\n".join(["One sentence. Two sentences. Three sentences."] * 2)
    assert texts(cut("semantic", text, 70)) == ["One sentence. Two sentences. Three sentences."] * 2
    assert texts(cut("sentences", text, 70))[0] == "One sentence. Two sentences. Three sentences.\n\nOne sentence."


def test_tokens_count_by_the_named_model() -> None:
    text = "Straßenbahnhaltestelle übermäßig. " * 200
    assert len(cut("tokens", text, 100)) > len(cut("tokens", text, 100, token_model="gpt-4o"))
    with pytest.raises(ValidationFailed, match="token_model"):
        cut("tokens", text, 100, token_model="nobody/knows")


def test_tokens_overlap() -> None:
    chunks = cut("tokens", PROSE * 40, 200, 40)
    assert all(
        after.start is not None and before.end is not None and after.start < before.end
        for before, after in pairwise(chunks)
    )


CODE = "import os\n\n\ndef first(x):\n    a = 1\n\n    return a\n\n\ndef second(y):\n    b = 2\n\n    return b\n"


def test_code_keeps_definitions_whole_and_indented() -> None:
    chunks = texts(cut("code", CODE, 60))
    assert chunks == [
        "import os\n\n\ndef first(x):\n    a = 1\n\n    return a",
        "def second(y):\n    b = 2\n\n    return b",
    ]
    assert texts(cut("code", CODE, 75, preserve_code_structure=False))[0].endswith("def second(y):")


def test_code_chunks_begin_at_a_line_with_its_indent() -> None:
    body = "def f():\n" + "".join(f"    value_{number} = {number}\n" for number in range(50))
    assert all(text.startswith("    value_") for text in texts(cut("code", body, 100, 20))[1:])


MAIL = (
    "From: a@example.org\nTo: b@example.org\nSubject: Hello\n\nDear B,\n\nthe body.\n\n-- \nA. Author\n\n"
    "On Monday B wrote:\n> quoted words\n"
)


def test_email_sections_are_told_apart_in_plain_text() -> None:
    chunks = cut("email_sections", MAIL)
    assert [chunk.metadata["section"] for chunk in chunks] == ["header", "body", "signature", "quoted"]


def table(rows: int = 5) -> Document:
    cells = [["fruit", "price"], *[[f"apple{number}", str(number)] for number in range(rows)]]
    records = [Record(text=f"fruit: {a}\nprice: {b}", metadata={"row": at}) for at, (a, b) in enumerate(cells[1:], 1)]
    return Document(text="x", records=records, tables=[Table(rows=cells)])


def test_rows_are_counted_and_overlap_in_rows() -> None:
    spans = [(chunk.metadata["row_start"], chunk.metadata["row_end"]) for chunk in cut("rows", table(5), 3, 1)]
    assert spans == [(1, 3), (3, 5)]


def test_rows_of_two_sheets_share_no_chunk() -> None:
    document = table(4)
    for at, record in enumerate(document.records):
        record.metadata["sheet"] = "one" if at < 2 else "two"
    assert [chunk.metadata["sheet"] for chunk in cut("rows", document, 3)] == ["one", "two"]


def test_columns_give_a_chunk_for_each_column() -> None:
    chunks = cut("columns", table(3), 10)
    assert texts(chunks) == ["fruit\napple0\napple1\napple2", "price\n0\n1\n2"]
    assert chunks[1].metadata == {"column": "price", "row_start": 1, "row_end": 3}


def test_semantic_rows_begin_anew_where_no_word_is_shared() -> None:
    values = ["red apple", "green apple", "blue whale", "grey whale"]
    records = [Record(text=f"thing: {value}", metadata={"row": at}) for at, value in enumerate(values, 1)]
    chunks = cut("semantic", Document(text="x", records=records), 100)
    assert [chunk.metadata["row_start"] for chunk in chunks] == [1, 3]


def test_full_is_one_chunk_of_any_length() -> None:
    assert texts(cut("full", PROSE * 50)) == [(PROSE * 50).strip()]
    assert cut("full", table(2))[0].metadata == {"row_start": 1, "row_end": 2}


def test_relations_name_the_neighbours() -> None:
    chunks = cut("semantic", PROSE * 3, 150, relations=True)
    assert chunks[0].metadata == {"next_chunk": 1}
    assert chunks[1].metadata == {"prev_chunk": 0, "next_chunk": 2}


# --- the suite can fail ------------------------------------------------------------------------------------------------


class Broken(Chunker):
    """Right but for one fault."""

    types = (TypeName("broken"),)

    def __init__(self, spoil: Callable[[list[Chunk]], list[Chunk]]) -> None:
        self._spoil = spoil

    def chunk(self, document: Document, options: ChunkOptions) -> list[Chunk]:
        return self._spoil(CHUNKERS["characters"].chunk(document, options))


def with_empty_chunk(chunks: list[Chunk]) -> list[Chunk]:
    return [*chunks, Chunk(text=" ", start=0, end=1)]


def with_byte_offsets(chunks: list[Chunk]) -> list[Chunk]:
    for chunk in chunks:
        chunk.start = (chunk.start or 0) + len(chunk.text.encode()) - len(chunk.text)
    return chunks


def without_pages(chunks: list[Chunk]) -> list[Chunk]:
    for chunk in chunks:
        chunk.page = 1
    return chunks


@pytest.mark.parametrize("spoil", [with_empty_chunk, with_byte_offsets, without_pages])
def test_the_suite_finds_wrong_chunks(spoil: Callable[[list[Chunk]], list[Chunk]]) -> None:
    with pytest.raises(AssertionError):
        ChunkerSuite().test_every_chunk_has_text_and_says_where_it_stands(Broken(spoil), 400, 50)


def test_the_suite_finds_lost_text() -> None:
    with pytest.raises(AssertionError):
        ChunkerSuite().test_nothing_of_the_text_is_lost(Broken(lambda chunks: chunks[:-1]), 100)
    with pytest.raises(AssertionError):
        ChunkerSuite().test_a_table_is_cut_into_chunks_with_text(Broken(lambda chunks: chunks[:2]))
    with pytest.raises(AssertionError):
        ChunkerSuite().test_odd_texts_are_cut(Broken(lambda chunks: chunks[1:]), "x" * 3000)
    with pytest.raises(AssertionError):
        ChunkerSuite().test_a_document_of_one_short_line_is_one_chunk(Broken(lambda chunks: []))


def test_the_suite_finds_chunks_of_blanks() -> None:
    with pytest.raises(AssertionError):
        ChunkerSuite().test_a_text_of_blanks_gives_no_chunk(Broken(with_empty_chunk))


def test_the_suite_finds_an_unchecked_overlap() -> None:
    class Unchecked(Broken):
        def chunk(self, document: Document, options: ChunkOptions) -> list[Chunk]:
            return []

    with pytest.raises(pytest.fail.Exception):
        ChunkerSuite().test_an_overlap_without_room_is_refused(Unchecked(list))


def test_text_chunker_is_a_base_for_others() -> None:
    class Lines(TextChunker):
        types = (TypeName("lines"),)

        def spans(self, text, region, options):  # type: ignore[no-untyped-def]  # as short as an author would write it
            at = region[0]
            for line in text[at : region[1]].splitlines(keepends=True):
                yield at, at + len(line)
                at += len(line)

    chunks = Lines().chunk(Document(text="one\n\ntwo\n" * 20), ChunkOptions(strategy="lines", size=10))
    assert texts(chunks) == ["one", "two"] * 20
