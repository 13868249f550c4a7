"""The patterns that PatternExtractor knows by name. Each gives spans, and each is linear in the text."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from paddock.builtin.extractors.links import email_spans, url_spans
from paddock.builtin.extractors.paths import file_path_spans

Spans = Iterator[tuple[int, int]]

_PHONE = re.compile(
    r"(?<![\w.,/+-])(?:\+\d{1,3}[ .-]?)?(?:\(\d{1,5}\)[ .-]?)?\d{2,6}(?:[ .-]\d{2,7}){1,5}(?![\w/]|[.,:-]\d)"
    r"|(?<![\w.,/+-])\+\d{7,15}(?!\w)"
)
_IP = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})(?![\w:]|\.\d)")
_SSN = re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])")
_CARD = re.compile(r"(?<![\w-])\d(?:[ -]?\d){12,18}(?![\w-])")
_ZIP = re.compile(r"(?<![\w.,-])\d{5}(?:-\d{4})?(?![\w-]|[.,]\d)")
_VERSION = re.compile(
    r"(?<![\w.])(?:v\d{1,6}(?:\.\d{1,6}){0,4}|\d{1,6}(?:\.\d{1,6}){2,4})(?:[-+][0-9A-Za-z.-]{1,40})?(?![\w]|\.\d)",
    re.IGNORECASE,
)
_NUMERIC_DATE = re.compile(r"\d{1,4}([./-])\d{1,2}\1\d{1,4}")


def _phones(text: str) -> Spans:
    for match in _PHONE.finditer(text):
        digits = sum(char.isdigit() for char in match[0])
        if 7 <= digits <= 15 and not _NUMERIC_DATE.fullmatch(match[0]) and not _SSN.fullmatch(match[0]):
            yield match.span()


def _addresses(text: str) -> Spans:
    for match in _IP.finditer(text):
        if len(match[0]) > 2 and _is_address(match[0]):
            yield match.span()


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _cards(text: str) -> Spans:
    for match in _CARD.finditer(text):
        if _luhn([int(char) for char in match[0] if char.isdigit()]):
            yield match.span()


def _luhn(digits: list[int]) -> bool:
    doubled = [digit * 2 - 9 if digit > 4 else digit * 2 for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0 and any(digits)


def _versions(text: str) -> Spans:
    for match in _VERSION.finditer(text):
        if not _is_address(match[0]):
            yield match.span()


def _dates(text: str) -> Spans:
    from paddock.builtin.extractors.dates import Reader  # noqa: PLC0415  20 ms of patterns

    # Only whole dates are looked for, so what "now" is does not matter.
    reader = Reader(datetime(2000, 1, 1, tzinfo=UTC), fuzzy=False, month_first=False, prefer="current")
    return ((found.start, found.end) for found in reader.dates(text))


def _spans(pattern: re.Pattern[str]) -> Callable[[str], Spans]:
    return lambda text: (match.span() for match in pattern.finditer(text))


PREDEFINED: dict[str, Callable[[str], Spans]] = {
    "email": email_spans,
    "phone": _phones,
    "url": url_spans,
    "ip": _addresses,
    "ip_address": _addresses,
    "ssn": _spans(_SSN),
    "credit_card": _cards,
    "zip_code": _spans(_ZIP),
    "file_path": file_path_spans,
    "version": _versions,
    "date": _dates,
}
