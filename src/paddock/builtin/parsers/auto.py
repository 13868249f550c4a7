"""The parser `auto`: chooses by what the file is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

import msgspec

from paddock.builtin.parsers.reading import check_overlap, refuse
from paddock.contracts.providers import ChunkOptions, Document, Parser, Source, TypeName

_ROWS = frozenset({"rows", "columns"})
_OCR = ("ocr", "ocr_languages")


class AutoConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of auto, in characters. Tabular files get the parser's own number of rows, scaled with chunk_size; no rows
    overlap. `ocr` and `ocr_languages` go to the parsers that have such options (those of PDFs): auto reads pages without a
    text layer by OCR, always reads all of them so."""

    chunk_size: Annotated[int, msgspec.Meta(ge=100, le=10_000)] = 1000
    chunk_overlap: Annotated[int, msgspec.Meta(ge=0, le=500)] = 200
    ocr: Literal["never", "auto", "always"] = "never"
    ocr_languages: tuple[str, ...] = ("en",)


def choose_parser(source: Source, parsers: Sequence[Parser]) -> Parser | None:
    """The first parser that names the file's ending, else the first that names its type, else TextParser for text.

    None when nothing fits: then the file is of a type that no installed parser reads.
    """
    ending = PurePosixPath(source.filename.replace("\\", "/")).suffix.lower()
    mime = source.mime.partition(";")[0].strip().lower()
    fits: tuple[Callable[[Parser], bool], ...] = (
        lambda parser: ending in parser.extensions,
        lambda parser: mime in parser.mime_types,
        lambda parser: parser.name == "TextParser" and _is_text(source),
    )
    return next((parser for fit in fits for parser in parsers if fit(parser)), None)


def _is_text(source: Source) -> bool:
    with source.path.open("rb") as file:
        head = file.read(4096)
    return bool(head) and (b"\x00" not in head or head[:2] in (b"\xff\xfe", b"\xfe\xff"))


class AutoParser(Parser):
    """Hands each file to the parser that `choose_parser` finds among those that `candidates` returns, with its defaults but for
    OCR."""

    types = (TypeName("auto", AutoConfig), TypeName("DirectoryParser", AutoConfig))

    def __init__(self, candidates: Callable[[], Sequence[Parser]]) -> None:
        self._candidates = candidates

    def among(self, candidates: Callable[[], Sequence[Parser]]) -> AutoParser:
        """The same over other parsers: all that the loaded plugins registered."""
        return AutoParser(candidates)

    def chosen(self, source: Source) -> Parser:
        """The parser for this file. Raises ValidationFailed when no registered parser reads it."""
        parser = choose_parser(source, [item for item in self._candidates() if not isinstance(item, AutoParser)])
        if parser is None:
            ending = PurePosixPath(source.filename).suffix.lower()[:20] or "no ending"
            raise refuse(
                f"is of a kind ({ending}) that no parser reads: name a parser for it in the data processing strategy, or"
                " install the plugin that reads it (`paddock plugins` lists what is there)"
            )
        return parser

    def parse(self, source: Source, config: Any) -> Document:
        parser = self.chosen(source)
        return parser.parse(source, _handed(parser, config))

    def chunking(self, source: Source, config: Any) -> ChunkOptions:
        parser = self.chosen(source)
        own = parser.chunking(source, _handed(parser, config))
        if own.strategy in _ROWS:
            # A thousand rows in one chunk would find everything and nothing: as many rows as the parser thinks right
            # for the usual chunk, more or fewer as the chunk is larger or smaller.
            rows = max(1, own.size * config.chunk_size // AutoConfig().chunk_size)
            return msgspec.structs.replace(own, size=rows, overlap=0)
        return msgspec.structs.replace(own, size=config.chunk_size, overlap=config.chunk_overlap)

    def warn(self, type_name: str, config: Any) -> Iterable[str]:  # noqa: ARG002  the contract's signature
        check_overlap(config)
        if config.ocr == "never" and config.ocr_languages != AutoConfig().ocr_languages:
            yield "ocr_languages: has no effect with ocr never"


def _handed(parser: Parser, config: AutoConfig) -> Any:
    """The config of a chosen parser: its defaults, and what is said of OCR where it has such options."""
    kind = parser.types[0].config
    asked = {name: getattr(config, name) for name in _OCR if name in kind.__struct_fields__}
    return kind(**asked)
