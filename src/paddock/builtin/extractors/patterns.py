"""PatternExtractor: what matches well-known patterns, or the project's own regular expressions.

The expressions of a project file are a stranger's. They run on RE2, whose time grows with the text and never explodes;
what RE2 can't do in such time (look-around, back references) is refused when the project is read. Length of the
expression, memory, text and number of matches are bounded as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec

from paddock.builtin.extractors.common import MAX_ITEMS, MAX_VALUE, TextExtractor, shorten
from paddock.contracts.base import Json
from paddock.contracts.providers import Chunk, Document, TypeName
from paddock.errors import FieldError, ValidationFailed

CUSTOM_TEXT = 50_000  # characters that a project's own expression sees of one chunk
CUSTOM_MEMORY = 2 * 1024 * 1024  # bytes of one compiled expression
CONTEXT = 40  # characters on each side
RAW_MATCHES = 10  # matches looked at for each one that may be kept: a thousand equal ones must end as well

PredefinedName = Literal[
    "email", "phone", "url", "ip", "ip_address", "ssn", "credit_card", "zip_code", "file_path", "version", "date"
]


class CustomPattern(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A regular expression of the project, in RE2's syntax; its name becomes part of the metadata's keys."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,39}\Z")]
    pattern: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
    description: Annotated[str, msgspec.Meta(max_length=MAX_VALUE)] | None = None


class PatternConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of PatternExtractor."""

    predefined_patterns: list[PredefinedName] = []
    custom_patterns: Annotated[list[CustomPattern], msgspec.Meta(max_length=30)] = []
    case_sensitive: bool = False
    return_positions: bool = False
    include_context: bool = False
    max_matches_per_pattern: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    deduplicate_matches: bool = True


class PatternExtractor(TextExtractor):
    """For each pattern that matches: ``pattern_{name}``, the matches in order, and ``pattern_{name}_count``.

    Of more than 50 matches the first 50 are listed and all are counted, up to `max_matches_per_pattern`. Positions:
    ``…_starts`` and ``…_ends`` in characters of the chunk. Context: ``…_contexts``, the text around each match. A custom
    pattern's description comes back as ``…_description``. Unless `case_sensitive`, custom patterns ignore case, and
    matches that differ in case alone are duplicates.
    """

    types = (TypeName("PatternExtractor", PatternConfig),)

    def find(self, text: str, chunk: Chunk, document: Document, config: Any) -> dict[str, Json]:  # noqa: ARG002  the base's signature
        from paddock.builtin.extractors.predefined import PREDEFINED  # noqa: PLC0415  its patterns take their time

        found: dict[str, Json] = {}
        for name in dict.fromkeys(config.predefined_patterns):
            found |= _matches(name, text, PREDEFINED[name](text), config)
        for own in config.custom_patterns:
            entries = _matches(own.name, text, _custom(own.pattern, text, config.case_sensitive), config)
            if entries and own.description:
                entries[f"pattern_{own.name}_description"] = own.description
            found |= entries
        return found

    def warn(self, type_name: str, config: Any) -> Iterable[str]:  # noqa: ARG002  the contract's signature
        names: set[str] = set(config.predefined_patterns)
        errors = []
        for index, own in enumerate(config.custom_patterns):
            if own.name in names:
                errors.append(FieldError(f"custom_patterns[{index}].name", f"{own.name} is there twice"))
            names.add(own.name)
            reason = refusal(own.pattern, config.case_sensitive)
            if reason:
                errors.append(FieldError(f"custom_patterns[{index}].pattern", reason))
        if errors:
            raise ValidationFailed.of(errors)
        if not names:
            yield "predefined_patterns, custom_patterns: without either nothing is extracted"


def refusal(pattern: str, case_sensitive: bool) -> str | None:
    """Why paddock does not run this expression; None when it does."""
    if "\x00" in pattern or not pattern.isprintable():
        return "holds a control character: write it as \\n, \\t or \\x07"
    import re2  # noqa: PLC0415  on first use

    try:
        compiled = _compile(pattern, case_sensitive)
    except re2.error as error:
        reason = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error)
        return f"not an expression of RE2 (which has no look-around and no back references): {reason}"
    return "matches the empty text: make it need at least one character" if compiled.fullmatch("") else None


@lru_cache(maxsize=256)
def _compile(pattern: str, case_sensitive: bool) -> Any:
    import re2  # noqa: PLC0415  on first use

    options = re2.Options()
    options.max_mem = CUSTOM_MEMORY
    options.log_errors = False
    options.case_sensitive = case_sensitive
    return re2.compile(pattern, options)


def _custom(pattern: str, text: str, case_sensitive: bool) -> Iterator[tuple[int, int]]:
    for match in _compile(pattern, case_sensitive).finditer(text[:CUSTOM_TEXT]):
        yield match.span()


def _matches(name: str, text: str, spans: Iterable[tuple[int, int]], config: Any) -> dict[str, Json]:
    kept: dict[object, tuple[int, int]] = {}
    most = config.max_matches_per_pattern
    for looked_at, (start, end) in enumerate(spans):
        if len(kept) == most or looked_at == most * RAW_MATCHES:
            break
        if 0 < end - start <= MAX_VALUE:
            match = text[start:end] if config.case_sensitive else text[start:end].casefold()
            kept.setdefault(match if config.deduplicate_matches else start, (start, end))
    if not kept:
        return {}
    key, shown = f"pattern_{name}", list(kept.values())[:MAX_ITEMS]
    found: dict[str, Json] = {key: [text[start:end] for start, end in shown], f"{key}_count": len(kept)}
    if config.return_positions:
        found |= {f"{key}_starts": [start for start, _ in shown], f"{key}_ends": [end for _, end in shown]}
    if config.include_context:
        found[f"{key}_contexts"] = [_context(text, start, end) for start, end in shown]
    return found


def _context(text: str, start: int, end: int) -> str:
    return shorten(re.sub(r"\s+", " ", text[max(0, start - CONTEXT) : end + CONTEXT]).strip())
