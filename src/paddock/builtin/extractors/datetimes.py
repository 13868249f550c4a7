"""DateTimeExtractor: dates, times and durations that a chunk names, in one form."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from paddock.builtin.extractors.common import TextExtractor, distinct
from paddock.contracts.base import Json
from paddock.contracts.providers import Chunk, Document, TypeName
from paddock.errors import FieldError, ValidationFailed

if TYPE_CHECKING:
    from paddock.builtin.extractors.dates import Found

_NAMED_FORMATS = {"ISO": "", "US": "%m/%d/%Y", "EU": "%d/%m/%Y"}
_FORMAT = re.compile(r"(?:[^%]|%[YmdHMSyBbAajZzIp%])+")
_DATED_BY = ("date", "sent_at", "modified_at", "created_at")  # what parsers call the day of a document


class DateTimeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of DateTimeExtractor.

    `date_format`: ISO, US (``12/31/2026``, and 03/04/2026 is the fourth of March), EU (``31/12/2026``), or a pattern of
    ``%Y %m %d %H %M %S %y %B %b %A %a %j %Z %z %I %p``.
    """

    fuzzy_parsing: bool = True
    extract_relative: bool = True
    extract_times: bool = True
    extract_durations: bool = True
    default_timezone: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] = "UTC"
    date_format: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] = "ISO"
    prefer_dates_from: Literal["past", "future", "current"] = "current"


class DateTimeExtractor(TextExtractor):
    """``dates`` in the order of the text, ``date_count``, ``earliest_date`` and ``latest_date``.

    The last two are always ISO days, so that filters can compare them. A date with a time of day is a whole timestamp
    with its zone. Fuzzy parsing adds dates without a year, months ("March 2026": its first day) and short years.
    ``relative_dates`` with the ``relative_expressions`` that they stand for count from the document's own date where its
    metadata has one, else from today. ``times`` are ``14:30``; ``durations`` are ISO 8601 (``PT90M``).
    """

    types = (TypeName("DateTimeExtractor", DateTimeConfig),)
    limit = 200_000

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now

    def find(self, text: str, chunk: Chunk, document: Document, config: Any) -> dict[str, Json]:  # noqa: ARG002  the base's signature
        from paddock.builtin.extractors.dates import Reader, durations, times  # noqa: PLC0415  20 ms of patterns

        now = _document_date(document) or self._now()
        if now.tzinfo is None:
            now = now.replace(tzinfo=zone(config.default_timezone))
        now = now.astimezone(zone(config.default_timezone))
        reader = Reader(now, config.fuzzy_parsing, config.date_format == "US", config.prefer_dates_from)
        dates = reader.dates(text)
        relative = reader.relative(text)
        found = _dates(dates, config.date_format)
        if config.extract_relative and relative:
            pairs = dict.fromkeys(
                (_written(item.value, config.date_format), " ".join(item.text.split())) for item in relative
            )
            first = list(pairs)[:50]
            found |= {
                "relative_dates": [day for day, _ in first],
                "relative_expressions": [words for _, words in first],
            }
        if config.extract_times and (clocks := distinct(str(item.value) for item in times(text, dates))):
            found["times"] = clocks
        # "in three days" is a date and not a length, whether relative dates are wanted or not.
        if config.extract_durations and (
            spans := distinct(str(item.value) for item in durations(text, dates + relative))
        ):
            found["durations"] = spans
        return found

    def warn(self, type_name: str, config: Any) -> Iterable[str]:  # noqa: ARG002  the contract's signature
        zone(config.default_timezone)
        if config.date_format not in _NAMED_FORMATS and not (
            _FORMAT.fullmatch(config.date_format) and "%" in config.date_format
        ):
            reason = "use ISO, US, EU, or a pattern of %Y %m %d %H %M %S %y %B %b %A %a %j %Z %z %I %p"
            raise ValidationFailed.of([FieldError("date_format", reason)])
        if config.prefer_dates_from != "current" and not config.fuzzy_parsing:
            yield "prefer_dates_from: has an effect only with fuzzy_parsing, which reads dates without a year"


@lru_cache(maxsize=64)
def zone(name: str) -> tzinfo:
    """The time zone of that IANA name. Raises ValidationFailed for an unknown one."""
    if name.upper() in ("UTC", "Z"):
        return UTC
    from zoneinfo import ZoneInfo  # noqa: PLC0415  rarely needed

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        reason = f"unknown time zone {name[:64]!r}: use a name like UTC or Europe/Berlin"
        raise ValidationFailed.of([FieldError("default_timezone", reason)]) from error


def _dates(finds: list[Found], pattern: str) -> dict[str, Json]:
    if not finds:
        return {}
    values = [item.value for item in finds if not isinstance(item.value, str)]
    days = [value.date() if isinstance(value, datetime) else value for value in values]
    return {
        "dates": distinct(_written(value, pattern) for value in values),
        "date_count": len(values),
        "earliest_date": min(days).isoformat(),
        "latest_date": max(days).isoformat(),
    }


def _written(value: date | datetime | str, pattern: str) -> str:
    if isinstance(value, str):
        return value
    layout = _NAMED_FORMATS.get(pattern, pattern)
    return value.strftime(layout) if layout else value.isoformat()


def _document_date(document: Document) -> datetime | None:
    for key in _DATED_BY:
        value = document.metadata.get(key)
        if isinstance(value, str):
            try:
                return datetime.fromisoformat(value)
            except ValueError:
                continue  # in words or in another form: the next key may do
    return None
