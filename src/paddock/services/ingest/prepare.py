"""A file to chunks: parse, cut, extract metadata. Runs in a worker thread, touches neither database nor event loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from paddock.builtin.parsers.auto import AutoParser
from paddock.contracts.base import Json
from paddock.contracts.providers import Chunk, ChunkOptions, Document, Source
from paddock.errors import (
    FieldError,
    ModelNotFound,
    PaddockError,
    ProviderUnavailable,
    RateLimited,
    UpstreamError,
    UpstreamTimeout,
    ValidationFailed,
)
from paddock.plugins import Plugins
from paddock.services.ingest.plan import ExtractorStep, ParserStep, Plan, names

MAX_TEXT = 64 * 1024 * 1024  # characters of one file: its chunks and vectors are held in memory until they are stored
MAX_CHUNKS = 200_000
MAX_WARNINGS = 20
_AWAY = (ModelNotFound, ProviderUnavailable, UpstreamError, UpstreamTimeout, RateLimited)  # whatever the text is


class Prepared(msgspec.Struct, kw_only=True):
    """A file that was cut. `parser` is the type that read it, `options` how it was cut."""

    document: Document
    chunks: list[Chunk]
    parser: str
    options: ChunkOptions
    extractors: list[str]
    warnings: list[str]


class ChunkChange(msgspec.Struct, frozen=True, kw_only=True):
    """What replaces a parser's own way of cutting; None keeps it."""

    size: int | None = None
    overlap: int | None = None
    strategy: str | None = None

    def applied(self, options: ChunkOptions) -> ChunkOptions:
        """The options with what is set here; the parser's own overlap is at most half of a new size. Raises
        ValidationFailed for an overlap that reaches the size."""
        size = self.size if self.size is not None else options.size
        overlap = self.overlap if self.overlap is not None else min(options.overlap, size // 2)
        if self.overlap is not None and overlap >= size:
            raise ValidationFailed.of([FieldError("chunk_overlap", f"must be smaller than the chunk size, {size}")])
        return msgspec.structs.replace(options, size=size, overlap=overlap, strategy=self.strategy or options.strategy)


def prepare(source: Source, plan: Plan, plugins: Plugins, change: ChunkChange | None = None) -> Prepared:
    """Try the plan's parsers in order until one gives text.

    Raises ValidationFailed with each parser's reason when none does, and ProviderUnavailable when one of them might have,
    had it been reachable.
    """
    reasons: list[str] = []
    unreachable: ProviderUnavailable | None = None
    for step in plan.parsers:
        try:
            prepared = _with(step, source, plugins, change)
        except ProviderUnavailable as error:
            unreachable = error
            reasons.append(f"{step.type}: {error.message}")
        except PaddockError as error:
            reasons.append(f"{step.type}: {error.message}")
        except Exception as error:  # noqa: BLE001  a parser may break in any way over a hostile file; the next one is tried
            reasons.append(f"{step.type}: could not read it ({type(error).__name__})")
        else:
            prepared.warnings = [*reasons, *prepared.warnings]
            _extract(prepared, plan.extractors)
            prepared.warnings = prepared.warnings[:MAX_WARNINGS]
            return prepared
    message = reasons[0].partition(": ")[2] if len(reasons) == 1 else "no parser could read it: " + "; ".join(reasons)
    if unreachable is not None:
        raise ProviderUnavailable(message) from unreachable
    raise ValidationFailed(message)


def _with(step: ParserStep, source: Source, plugins: Plugins, change: ChunkChange | None) -> Prepared:
    parser, name = step.parser, step.type
    if isinstance(parser, AutoParser):
        name = parser.chosen(source).name
    document = parser.parse(source, step.config)
    if len(document.text) > MAX_TEXT:
        raise ValidationFailed(
            f"it holds {len(document.text)} characters of text, at most {MAX_TEXT} are processed in one file: split it"
        )
    options = parser.chunking(source, step.config)
    if change is not None:
        options = change.applied(options)
    chunks = plugins.chunkers.find(options.strategy).chunk(document, options)
    chunks = [chunk for chunk in chunks if chunk.text.strip()]
    if not chunks:
        raise ValidationFailed("it holds no text: if its pages are images, they need OCR first")
    if len(chunks) > MAX_CHUNKS:
        raise ValidationFailed(
            f"it gives {len(chunks)} chunks, at most {MAX_CHUNKS} are taken from one file: choose a greater chunk_size"
        )
    return Prepared(
        document=document, chunks=chunks, parser=name, options=options, extractors=[], warnings=list(document.warnings)
    )


def _extract(prepared: Prepared, steps: Sequence[ExtractorStep]) -> None:
    """Run the extractors; one that fails on a chunk is named in a warning, and the chunk goes on without its metadata."""
    for step in steps:
        failures: list[str] = []
        count = step.extractor.together
        for at in range(0, len(prepared.chunks), count):
            batch = prepared.chunks[at : at + count]
            for chunk, found in zip(batch, _found(step, batch, prepared.document), strict=True):
                if isinstance(found, Exception):
                    failures.append(found.message if isinstance(found, PaddockError) else type(found).__name__)
                else:
                    chunk.metadata = {**chunk.metadata, **found}
        if failures:
            prepared.warnings.append(
                f"{step.type} failed on {len(failures)} of {len(prepared.chunks)} chunks: {failures[0]}"
            )
    prepared.extractors = names(steps)


def _found(step: ExtractorStep, batch: Sequence[Chunk], document: Document) -> Sequence[dict[str, Json] | Exception]:
    """The metadata of each chunk, or why there is none."""
    if len(batch) == 1:
        return [_one(step, batch[0], document)]
    try:
        return step.extractor.extract_several(batch, document, step.config)
    except _AWAY as error:
        return [error] * len(batch)
    except Exception:  # noqa: BLE001  asked one by one, those to blame say why
        return [_one(step, chunk, document) for chunk in batch]


def _one(step: ExtractorStep, chunk: Chunk, document: Document) -> dict[str, Json] | Exception:
    try:
        return step.extractor.extract(chunk, document, step.config)
    except Exception as error:  # noqa: BLE001  as for parsers: the text is a stranger's
        return error


def plain(value: Any) -> dict[str, Json]:
    """A document's metadata as plain JSON values; what is not JSON becomes text."""
    found: dict[str, Json] = msgspec.to_builtins(value, enc_hook=str, str_keys=True)
    return found
