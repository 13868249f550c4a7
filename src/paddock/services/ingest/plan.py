"""Which parsers and extractors a file gets, by the processing strategy of its dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

import msgspec

from paddock.builtin.parsers.auto import AutoParser
from paddock.contracts.base import Json
from paddock.contracts.config import ExtractorConfig, ParserConfig, ProcessingStrategyConfig
from paddock.contracts.providers import Extractor, Parser
from paddock.errors import FieldError, ValidationFailed
from paddock.plugins import Plugins

VERSION = 1  # raise it when the same options make other chunks: files are then processed anew
Overrides = Mapping[str, Mapping[str, Json]]


class ParserStep(msgspec.Struct, frozen=True):
    """A parser to try, under the type name that the strategy uses."""

    type: str
    parser: Parser
    config: Any


class ExtractorStep(msgspec.Struct, frozen=True):
    """An extractor to run."""

    type: str
    extractor: Extractor
    config: Any


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is done with a file: the parsers in the order in which they are tried, and the extractors."""

    strategy: str
    parsers: list[ParserStep]
    extractors: list[ExtractorStep]

    def fingerprint(self, embedder: str) -> str:
        """Names the way in which a file becomes chunks and vectors; 32 hexadecimal digits."""
        parsers = [(step.type, step.config) for step in self.parsers]
        extractors = [(step.type, step.config) for step in self.extractors]
        text = msgspec.json.encode((VERSION, self.strategy, parsers, extractors, embedder), order="deterministic")
        return hashlib.sha256(text).hexdigest()[:32]


class Planner:
    """Chooses among what the plugins provide."""

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins

    def plan(
        self,
        filename: str,
        mime: str,
        strategy: ProcessingStrategyConfig,
        database: str | None,
        overrides: Overrides | None = None,
    ) -> Plan:
        """The plan for a file. Raises ValidationFailed when no parser of the strategy is for it, saying what to add."""
        steps = self._chain(filename, mime, strategy, overrides or {})
        if not steps:
            known = ", ".join(item.type for item in strategy.parsers)
            raise ValidationFailed(
                f"no parser of the strategy {strategy.name} is for {filename!r} ({mime}): add one whose patterns fit, or the "
                f"parser 'auto'. Its parsers: {known}"
            )
        return Plan(strategy=strategy.name, parsers=steps, extractors=self._extractors(filename, strategy, database))

    def _chain(
        self, filename: str, mime: str, strategy: ProcessingStrategyConfig, overrides: Overrides
    ) -> list[ParserStep]:
        steps: dict[str, ParserStep] = {}
        for item in sorted(strategy.parsers, key=lambda item: item.priority):
            if not fits(item, filename, mime):
                continue
            for name in (item.type, item.fallback_parser):
                if name is not None:
                    config = item.config if name == item.type else _config_of(strategy, name)
                    step = self._step(name, {**config, **overrides.get(name, {})})
                    steps.setdefault(f"{name} {msgspec.json.encode(config).decode()}", step)
        return list(steps.values())

    def _step(self, name: str, config: Mapping[str, Json]) -> ParserStep:
        parser = self._plugins.parsers.find(name)
        settled = parser.configure(name, config).config
        if isinstance(parser, AutoParser):
            parser = parser.among(self._plugins.parsers.all)
        return ParserStep(name, parser, settled)

    def _extractors(
        self, filename: str, strategy: ProcessingStrategyConfig, database: str | None
    ) -> list[ExtractorStep]:
        chosen = [item for item in strategy.extractors if _wanted(item, filename, database)]
        steps = []
        for item in sorted(chosen, key=lambda item: item.priority):
            extractor = self._plugins.extractors.find(item.type)
            steps.append(ExtractorStep(item.type, extractor, extractor.configure(item.type, item.config).config))
        return steps

    def check_overrides(self, strategy: ProcessingStrategyConfig, overrides: Overrides) -> None:
        """Raise ValidationFailed for an override of a parser that the strategy does not have, or of a wrong option."""
        types = {item.type for item in strategy.parsers}
        types |= {item.fallback_parser for item in strategy.parsers if item.fallback_parser}
        for name, options in overrides.items():
            if name not in types:
                raise ValidationFailed.of(
                    [
                        FieldError(
                            f"parser_overrides.{name[:64]}",
                            f"not in the strategy; its parsers: {', '.join(sorted(types))}",
                        )
                    ]
                )
            try:
                self._step(name, {**_config_of(strategy, name), **options})
            except ValidationFailed as error:
                found = [FieldError(f"parser_overrides.{name}.{one.field}", one.reason) for one in error.errors]
                raise ValidationFailed.of(found) if found else error from error


def _config_of(strategy: ProcessingStrategyConfig, name: str) -> Mapping[str, Json]:
    """The options of the strategy's first parser of that type, else none."""
    return next((item.config for item in strategy.parsers if item.type == name), {})


def fits(parser: ParserConfig, filename: str, mime: str) -> bool:
    """Whether a parser of a strategy is for a file; without any condition it is for every one.

    `file_include_patterns` must fit the whole name, upper and lower case alike. Of `file_extensions` and `mime_types` one is
    enough, because browsers often call a file application/octet-stream.
    """
    if parser.file_include_patterns and not _matches(filename, parser.file_include_patterns):
        return False
    if not parser.file_extensions and not parser.mime_types:
        return True
    by_name = any(filename.lower().endswith(ending.lower()) for ending in parser.file_extensions or ())
    kind = mime.partition(";")[0].strip()
    return by_name or _matches(kind, parser.mime_types or ())


def _wanted(extractor: ExtractorConfig, filename: str, database: str | None) -> bool:
    if extractor.required_for is not None and database not in extractor.required_for:
        return False
    return not extractor.file_include_patterns or _matches(filename, extractor.file_include_patterns)


def _matches(text: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(text.lower(), pattern.lower()) for pattern in patterns)


def document_type(filename: str) -> str:
    """The ending of a file name without its dot, in lower case; "unknown" without one."""
    return PurePosixPath(filename).suffix.lower().lstrip(".")[:16] or "unknown"


def names(steps: Sequence[ExtractorStep]) -> list[str]:
    """The type names of extractors."""
    return [step.type for step in steps]
