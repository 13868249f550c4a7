"""The derived index of words: tantivy. Its BM25 is Lucene's, with English stems, so its scores are those of `texts`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from paddock_sqlite_vec.derived import Damaged, Derived, Manifest
from paddock_sqlite_vec.texts import MAX_QUERY, MAX_WORDS, Found

ANALYZER = "paddock"
HEAP = 48_000_000  # bytes of memory while documents are added
CHANGING = (".json", ".lock")  # files of tantivy that change in place
MAX_ID = 2**63 - 1


class Bm25(Derived):
    """The best chunks by words."""

    name = "texts"
    rows_sql = "SELECT id, text FROM chunks WHERE id BETWEEN ? AND ? ORDER BY id"

    def __init__(self, root: Path) -> None:
        super().__init__(root, "tantivy simple lowercase ascii_fold english")
        self._index: Any = None
        self._schema: Any = None
        self._analyzer: Any = None
        self._searcher: Any = None
        self._writer: Any = None

    def clear(self) -> None:
        """An empty index in the folder."""
        self._writer = None
        self._open()

    def _open(self) -> None:
        import tantivy  # noqa: PLC0415  heavy: on first use

        builder = tantivy.SchemaBuilder()
        builder.add_unsigned_field("id", stored=False, indexed=True, fast=True)
        builder.add_text_field("text", stored=False, tokenizer_name=ANALYZER, index_option="freq")
        self._schema = builder.build()
        steps = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
        for step in (tantivy.Filter.lowercase(), tantivy.Filter.ascii_fold(), tantivy.Filter.stemmer("english")):
            steps = steps.filter(step)
        self._analyzer = steps.build()
        self._index = tantivy.Index(self._schema, path=str(self.folder))
        self._index.register_tokenizer(ANALYZER, self._analyzer)
        self._searcher = self._index.searcher()

    def restore(self, manifest: Manifest) -> None:
        """Open the folder. It may be ahead of the manifest by a few commits: what is beyond is taken out again."""
        if not (self.folder / "meta.json").is_file():
            raise Damaged("meta.json is missing")
        self._writer = None
        self._open()
        self.search("a", 1)  # reads every segment once
        self._remove(manifest.position.top + 1, MAX_ID)
        self.finish()

    def _write(self) -> Any:
        if self._writer is None:
            self._writer = self._index.writer(heap_size=HEAP, num_threads=1)
        return self._writer

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add texts."""
        import tantivy  # noqa: PLC0415  heavy: on first use

        writer = self._write()
        self._remove(self.position.top + 1, MAX_ID)  # left by a step that failed half-way
        for row, text in rows:
            document = tantivy.Document()
            document.add_unsigned("id", row)
            document.add_text("text", text)
            writer.add_document(document)

    def remove(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Delete texts, so that they no longer count in the statistics."""
        for first, last in ranges:
            self._remove(first, last)

    def _remove(self, first: int, last: int) -> None:
        import tantivy  # noqa: PLC0415  heavy: on first use

        query = tantivy.Query.range_query(self._schema, "id", tantivy.FieldType.Unsigned, first, last)
        self._write().delete_documents_by_query(query)

    def finish(self) -> None:
        """Commit; searches that begin now see it."""
        try:
            self._write().commit()
        except BaseException:
            self._writer = None
            raise
        self._index.reload()
        self._searcher = self._index.searcher()

    def rest(self) -> None:
        """Give the writer's memory back until there is something to add."""
        if self._writer is not None:
            self._writer.wait_merging_threads()
            self._writer = None
            self._index.reload()
            self._searcher = self._index.searcher()

    def write(self) -> Iterable[str]:
        """Every commit is on disk already."""
        self.rest()
        return sorted(path.name for path in self.folder.iterdir() if not path.name.endswith(CHANGING))

    def wasteful(self, live: int) -> bool:  # noqa: ARG002  the base's signature
        """Never: tantivy merges what is deleted away."""
        return False

    def search(self, query: str, count: int) -> list[Found]:
        """About the `count` best; some may be of chunks that are gone."""
        import tantivy  # noqa: PLC0415  heavy: on first use

        clean = query[:MAX_QUERY].encode("utf-8", "replace").decode()
        stems = islice(dict.fromkeys(self._analyzer.analyze(clean)), MAX_WORDS)
        terms = [tantivy.Query.term_query(self._schema, "text", stem, index_option="freq") for stem in stems]
        if not terms:
            return []
        searcher = self._searcher
        either = tantivy.Query.boolean_query([(tantivy.Occur.Should, term) for term in terms])
        hits = searcher.search(either, limit=count, count=False).hits
        ids = searcher.fast_field_values("id", [address for _, address in hits])
        return [Found(score, row) for (score, _), row in zip(hits, ids, strict=True)]
