"""CSV and TSV: each row becomes a record of ``column: value`` lines; chunk sizes count rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

import msgspec

from paddock.builtin.parsers.reading import Encoding, check_encoding, read_text, refuse, value
from paddock.contracts.base import Json
from paddock.contracts.providers import Document, Parser, Record, Source, Table, TypeName
from paddock.errors import FieldError, ValidationFailed

MAX_FIELD = 16 * 1024 * 1024  # characters of one cell
TABLE_CELLS = 200_000  # a table beside the records only up to this size, unless its columns are wanted

RowSize = Annotated[int, msgspec.Meta(ge=100, le=1_000_000, description="rows of a chunk")]
OneCharacter = Annotated[str, msgspec.Meta(min_length=1, max_length=1)]
SkipRows = int | list[int] | None
NA_VALUES = ("", "NA", "N/A", "null", "None")


class CsvConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of CSVParser. `delimiter` auto: the one that the header line uses most."""

    chunk_size: Annotated[int, msgspec.Meta(ge=1, le=1_000_000, description="rows of a chunk")] = 20
    chunk_overlap: Annotated[int, msgspec.Meta(ge=0, le=1000, description="rows repeated from the chunk before")] = 0
    chunk_strategy: Literal["rows", "columns", "full", "semantic"] = "rows"
    encoding: Encoding = "auto"
    delimiter: Annotated[str, msgspec.Meta(min_length=1, max_length=4)] = "auto"
    quotechar: OneCharacter = '"'
    skiprows: SkipRows = None
    na_values: tuple[str, ...] = NA_VALUES
    field_mapping: dict[str, str] = {}
    combine_fields: bool = True
    extract_metadata: bool = True


class CsvPandasConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of CSVParser_Pandas."""

    chunk_size: RowSize = 1000
    chunk_strategy: Literal["rows", "columns", "full"] = "rows"
    extract_metadata: bool = True
    encoding: Encoding = "utf-8"
    delimiter: OneCharacter = ","
    na_values: tuple[str, ...] = NA_VALUES


class CsvPythonConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of CSVParser_Python."""

    chunk_size: RowSize = 1000
    encoding: Encoding = "utf-8"
    delimiter: OneCharacter = ","
    quotechar: OneCharacter = '"'


class CsvLlamaIndexConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of CSVParser_LlamaIndex."""

    chunk_size: RowSize = 1000
    chunk_strategy: Literal["rows", "semantic", "full"] = "rows"
    field_mapping: dict[str, str] = {}
    extract_metadata: bool = True
    combine_fields: bool = True
    skiprows: SkipRows = None
    na_values: tuple[str, ...] = NA_VALUES


class CSVParser(Parser):
    """Tables in text files. The first row that is not skipped names the columns.

    `na_values` are cells that say nothing: they leave no line in the record. `skiprows` is a number of rows, or a list of
    row numbers from 0, counted before the header. `combine_fields: false` gives the values alone, without column names.
    A ``.tsv`` file whose header holds tabs and no comma is read with tabs also when the delimiter says comma.
    """

    types = (
        TypeName("CSVParser", CsvConfig),
        TypeName("CSVParser_Pandas", CsvPandasConfig),
        TypeName("CSVParser_Python", CsvPythonConfig),
        TypeName("CSVParser_LlamaIndex", CsvLlamaIndexConfig),
    )
    extensions = frozenset({".csv", ".tsv", ".tab", ".psv"})
    mime_types = frozenset({"text/csv", "text/tab-separated-values", "application/csv"})
    usual_strategy = "rows"

    def parse(self, source: Source, config: Any) -> Document:
        text, encoding = read_text(source, getattr(config, "encoding", "auto"))
        rows = skip(_rows(text, source, config), getattr(config, "skiprows", None))
        header = next(rows, None)
        if header is None:
            raise refuse("has no row left after skiprows")
        names = column_names(header, getattr(config, "field_mapping", {}))
        na_values = frozenset(getattr(config, "na_values", NA_VALUES))
        named = getattr(config, "combine_fields", True)
        keep = getattr(config, "chunk_strategy", "rows") == "columns"
        document = tabulate(names, rows, na_values=na_values, named=named, table_cells=None if keep else TABLE_CELLS)
        if getattr(config, "extract_metadata", True):
            document.metadata = {"columns": value(names), "row_count": len(document.records), "encoding": encoding}
        return document

    def warn(self, type_name: str, config: Any) -> Iterable[str]:  # noqa: ARG002  the contract's signature
        check_encoding(getattr(config, "encoding", "auto"))
        check_skiprows(getattr(config, "skiprows", None))
        delimiter = getattr(config, "delimiter", "auto")
        errors = []
        if delimiter != "auto" and len(delimiter) != 1:
            errors.append(FieldError("delimiter", "one character, or auto"))
        if delimiter in ("\n", "\r", getattr(config, "quotechar", '"')):
            errors.append(FieldError("delimiter", "can't be a line end or the quotechar"))
        if getattr(config, "quotechar", '"') in ("\n", "\r"):
            errors.append(FieldError("quotechar", "can't be a line end"))
        if getattr(config, "chunk_overlap", 0) >= config.chunk_size:
            errors.append(FieldError("chunk_overlap", f"must be smaller than chunk_size ({config.chunk_size})"))
        if errors:
            raise ValidationFailed.of(errors)
        if getattr(config, "chunk_overlap", 0) and config.chunk_strategy not in ("rows", "columns"):
            return [f"chunk_overlap: has no effect with chunk_strategy {config.chunk_strategy}"]
        if config.chunk_size != type(config)().chunk_size and getattr(config, "chunk_strategy", "rows") == "full":
            return ["chunk_size: has no effect with chunk_strategy full"]
        return []


def check_skiprows(skiprows: SkipRows) -> None:
    """Raises ValidationFailed for negative row numbers."""
    numbers = skiprows if isinstance(skiprows, list) else [skiprows or 0]
    if any(number < 0 for number in numbers):
        raise ValidationFailed.of(
            [FieldError("skiprows", "rows count from 0: use a number of rows, or a list of them")]
        )


def skip(rows: Iterable[list[str]], skiprows: SkipRows) -> Iterator[list[str]]:
    """The rows that `skiprows` leaves; rows without any value are left out afterwards."""
    numbers = frozenset(skiprows if isinstance(skiprows, list) else range(skiprows or 0))
    return (row for index, row in enumerate(rows) if index not in numbers and any(cell.strip() for cell in row))


def column_names(header: list[str], mapping: dict[str, str]) -> list[str]:
    """A name for each column: renamed by `mapping`, ``column_3`` for an empty one."""
    bare = [cell.strip() or f"column_{at}" for at, cell in enumerate(header, 1)]
    return [mapping.get(name, name) for name in bare]


def tabulate(
    names: list[str],
    rows: Iterable[list[str]],
    *,
    na_values: frozenset[str],
    named: bool = True,
    table_cells: int | None = TABLE_CELLS,
    extra: dict[str, Json] | None = None,
) -> Document:
    """Rows to a document of records. The table itself is kept up to `table_cells` cells (None: always)."""
    records: list[Record] = []
    table: list[list[str]] = [names]
    cell_count = 0
    for number, row in enumerate(rows, 1):
        records.append(
            Record(text=record_text(names, row, na_values, named), metadata={"row": number, **(extra or {})})
        )
        cell_count += len(row)
        if table_cells is None or cell_count <= table_cells:
            table.append([cell.strip() for cell in row])
    if not records:  # a header alone still says which columns there are
        records = [Record(text=" | ".join(names), metadata={"row": 0, **(extra or {})})]
    tables = [Table(rows=table)] if table_cells is None or cell_count <= table_cells else []
    return Document(text="\n\n".join([record.text for record in records]), records=records, tables=tables)


def record_text(names: list[str], row: list[str], na_values: frozenset[str], named: bool) -> str:
    """One row as text, never empty; cells beyond the header get a number for a name."""
    pairs = [
        (names[at] if at < len(names) else f"column_{at + 1}", cell)
        for at, cell in enumerate(map(str.strip, row))
        if cell not in na_values
    ]
    if named:
        return "\n".join([f"{name}: {cell}" for name, cell in pairs]) or "(no value)"
    return "; ".join([cell for _, cell in pairs if cell]) or "(no value)"


def _rows(text: str, source: Source, config: Any) -> Iterator[list[str]]:
    header = text[:65_536].lstrip().partition("\n")[0]
    delimiter = getattr(config, "delimiter", "auto")
    tabbed = source.filename.lower().endswith((".tsv", ".tab")) and "\t" in header and "," not in header
    if delimiter == "auto":
        delimiter = max(",\t;|", key=header.count)
    elif delimiter == "," and tabbed:
        delimiter = "\t"
    # The limit is the csv module's own and only one for the process: raising it does no harm to others.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quotechar=getattr(config, "quotechar", '"'))
    try:
        yield from reader
    except csv.Error as error:
        reason = "one cell is over 16 MiB: check delimiter and quotechar" if "limit" in str(error) else str(error)
        raise refuse(f"is not readable as CSV at line {reader.line_num}: {reason}") from error
