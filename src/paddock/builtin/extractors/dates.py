"""Finding dates, times, durations and words like "tomorrow" in prose, without a library.

Written dates are read in English, German, French, Spanish, Italian and Dutch; relative words and durations in English.
What is no date (30 February) is not found. Spans are in characters of the text.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Literal, NamedTuple

Prefer = Literal["past", "future", "current"]

MAX_FINDS = 500  # of one form in one chunk, and what only looks like one counts too

_MONTH_NAMES = (
    "january jan januar janvier enero ene gennaio januari",
    "february feb februar février fevrier febrero febbraio februari",
    "march mar märz maerz mars marzo maart",
    "april apr avril abril aprile",
    "may mai mayo maggio mei",
    "june jun juni juin junio giugno",
    "july jul juli juillet julio luglio",
    "august aug août aout agosto augustus",
    "september sep sept septembre septiembre settembre",
    "october oct oktober okt octobre octubre ottobre",
    "november nov novembre noviembre",
    "december dec dezember dez décembre decembre diciembre dicembre",
)
MONTHS = {name: number for number, names in enumerate(_MONTH_NAMES, 1) for name in names.split()}
_WEEKDAYS = {
    name: number
    for number, name in enumerate(("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"))
}
_NUMBERS = {
    name: number
    for number, name in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
    )
} | {"a": 1, "an": 1}
_UNITS = {"sec": "second", "min": "minute", "hr": "hour", "h": "hour"}

_COUNT = r"(?:\d{1,5}(?:[.,]\d{1,2})?|" + "|".join(_NUMBERS) + ")"
_UNIT = r"(?:second|sec|minute|min|hour|hr|h|day|week|month|year)"
_CLOCK = (
    r"(?:([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?(?:[ \u00a0]?([ap])\.?m\b\.?)?"
    r"|(1[0-2]|0?[1-9])[ \u00a0]?([ap])\.?m\b\.?)(?![\d:])"
)

_DIGIT = re.compile(r"\d")
_LETTERS = re.compile(r"[^\W\d_]{3,10}")
ISO = re.compile(
    r"(?<![\d-])(\d{4})-(\d{2})-(\d{2})"
    r"(?:[T ](\d{2}):(\d{2})(?::(\d{2})(?:[.,]\d{1,9})?)?[ ]?(Z|[+-]\d{2}:?\d{2})?)?(?![\d-])",
    re.IGNORECASE,
)
NUMERIC = re.compile(r"(?<![\w./-])(\d{1,2})([./-])(\d{1,2})\2(\d{4}|\d{2})(?![\w]|[./-]\d)")
DAY_MONTH = re.compile(
    r"(?<!\w)(\d{1,2})(?:st|nd|rd|th|er|º|\.)?\s{1,3}(?:of |de )?([^\W\d_]{3,10})\b\.?(?:,?\s{1,3}(?:de )?(\d{4})\b)?",
    re.IGNORECASE,
)
MONTH_DAY = re.compile(
    r"(?<!\w)([^\W\d_]{3,10})\.?\s{1,3}(\d{1,2})(?:st|nd|rd|th)?(?![\w:%]|[.,]\d)(?:,?\s{1,3}(\d{4})\b)?", re.IGNORECASE
)
MONTH_YEAR = re.compile(  # not behind a number: "31 February 2026" is no date at all
    r"(?<!\w)(?<!\d[ .])(?<!\d\. )([^\W\d_]{3,10})\.?,?\s{1,3}(?:de )?((?:1[5-9]|20|21)\d{2})\b", re.IGNORECASE
)
TIME = re.compile(r"(?<![\d:.,])" + _CLOCK, re.IGNORECASE)
NAMED_TIME = re.compile(r"\b(noon|midday|midnight)\b", re.IGNORECASE)
_TIME_AFTER = re.compile(r",?\s{1,3}(?:(?:at|um|à)\s{1,3})?" + _CLOCK, re.IGNORECASE)
DURATION = re.compile(rf"(?<![\w.,:])(half an|{_COUNT})[\s-]{{1,3}}({_UNIT})s?\b", re.IGNORECASE)
ISO_DURATION = re.compile(
    r"\bP(?=\d|T\d)(?:\d{1,4}Y)?(?:\d{1,4}M)?(?:\d{1,4}W)?(?:\d{1,4}D)?(?:T(?:\d{1,4}[HMS]){1,3})?\b"
)
RELATIVE = re.compile(
    r"\b(?:(the\s{1,3}day\s{1,3}before\s{1,3}yesterday|the\s{1,3}day\s{1,3}after\s{1,3}tomorrow|yesterday|today|tonight|tomorrow)"
    rf"|(last|this|next)\s{{1,3}}(week|month|year|{'|'.join(_WEEKDAYS)})"
    rf"|({_COUNT})\s{{1,3}}({_UNIT})s?\s{{1,3}}(ago|from\s{{1,3}}now)"
    rf"|in\s{{1,3}}({_COUNT})\s{{1,3}}({_UNIT})s?)\b(?!'s)",
    re.IGNORECASE,
)
_DAYS = {"yesterday": -1, "today": 0, "tonight": 0, "tomorrow": 1}


class Found(NamedTuple):
    """One find: its span, the text, and what it means: a date, a datetime, or text for times and durations."""

    start: int
    end: int
    text: str
    value: date | datetime | str


class Reader(NamedTuple):
    """How to read what is ambiguous.

    `now` is what "today" means. `month_first` decides 03/04/2026. `fuzzy` also takes what lacks its year, its day, or
    half of its year; `prefer` then says on which side of `now` to look.
    """

    now: datetime
    fuzzy: bool
    month_first: bool
    prefer: Prefer

    def dates(self, text: str) -> list[Found]:
        """The dates in order, without overlaps."""
        finds: list[Found] = []
        if not _DIGIT.search(text):
            return finds
        forms = [self._iso, self._numeric]
        if not MONTHS.keys().isdisjoint(_LETTERS.findall(text.lower())):  # the dear ones only where they can match
            forms += [self._day_month, self._month_day, self._month_year]
        for find in forms:
            finds += _free(finds, find(text))
        return sorted(finds)

    def relative(self, text: str) -> list[Found]:
        """Words and phrases that count from today."""
        finds = []
        for match in _some(RELATIVE, text):
            try:
                value = self._relative(match)
            except (ValueError, OverflowError):
                continue  # before the year 1 or after 9999
            finds.append(Found(match.start(), match.end(), match[0], value))
        return finds

    def _relative(self, match: re.Match[str]) -> date:
        day, which, period, past_count, past_unit, past, future_count, future_unit = match.groups()
        today = self.now.date()
        if day:
            words = day.lower().split()
            return today + timedelta(_DAYS[words[-1]] * (2 if len(words) > 1 else 1))
        if which and period:
            return _period(today, {"last": -1, "this": 0, "next": 1}[which.lower()], period.lower())
        amount = _number(past_count or future_count)
        ago = (past or "").lower() == "ago"
        return _moved(self.now, -amount if ago else amount, _unit(past_unit or future_unit)).date()

    def _iso(self, text: str) -> Iterator[Found]:
        for match in _some(ISO, text):
            year, month, day, hour, minute, second, zone = match.groups()
            base = _day(int(year), int(month), int(day))
            if base is None:
                continue
            value: date | datetime = base
            if hour and int(hour) < 24 and int(minute) < 60:
                clock = (int(hour), int(minute), min(int(second or 0), 59))
                value = datetime(*base.timetuple()[:3], *clock, tzinfo=_zone(zone, self.now.tzinfo))
            yield Found(match.start(), match.end(), match[0], value)

    def _numeric(self, text: str) -> Iterator[Found]:
        for match in _some(NUMERIC, text):
            first, separator, second, year = match.groups()
            if len(year) == 2 and (not self.fuzzy or separator == "."):
                continue
            a, b = int(first), int(second)
            month_first = separator != "." and (self.month_first or b > 12) and a <= 12
            day, month = (b, a) if month_first else (a, b)
            whole = int(year) if len(year) == 4 else self._century(int(year), month, day)
            yield from self._found(text, match, _day(whole, month, day))

    def _day_month(self, text: str) -> Iterator[Found]:
        for match in _some(DAY_MONTH, text):
            yield from self._named(text, match, match[1], match[2], match[3])

    def _month_day(self, text: str) -> Iterator[Found]:
        for match in _some(MONTH_DAY, text):
            yield from self._named(text, match, match[2], match[1], match[3])

    def _month_year(self, text: str) -> Iterator[Found]:
        if self.fuzzy:
            for match in _some(MONTH_YEAR, text):
                month = MONTHS.get(match[1].lower())
                if month:
                    yield Found(match.start(), match.end(), match[0], date(int(match[2]), month, 1))

    def _named(self, text: str, match: re.Match[str], day: str, month: str, year: str | None) -> Iterator[Found]:
        number = MONTHS.get(month.lower(), 0)
        if number and year:
            yield from self._found(text, match, _day(int(year), number, int(day)))
        elif number and self.fuzzy:
            yield from self._found(text, match, self._yearless(number, int(day)))

    def _found(self, text: str, match: re.Match[str], day: date | None) -> Iterator[Found]:
        """The day, with the time of day that may follow it."""
        if day is None:
            return
        after = _TIME_AFTER.match(text, match.end())
        clock = _clock(after) if after else None
        if after is None or clock is None:
            yield Found(match.start(), match.end(), match[0], day)
        else:
            value = datetime(day.year, day.month, day.day, *clock, tzinfo=self.now.tzinfo)
            yield Found(match.start(), after.end(), text[match.start() : after.end()], value)

    def _yearless(self, month: int, day: int) -> date | None:
        return self._nearest([_day(self.now.year + shift, month, day) for shift in range(-8, 9)], self.now.year)

    def _century(self, short: int, month: int, day: int) -> int:
        """The whole year of a short one: without a preference, from 80 years ago to 19 years ahead."""
        hundred = self.now.year // 100 * 100
        years = [hundred + shift + short for shift in (-100, 0, 100)]
        near = next(year for year in years if self.now.year - 80 <= year < self.now.year + 20)
        best = self._nearest([_day(year, month, day) for year in years], near)
        return near if best is None else best.year

    def _nearest(self, days: list[date | None], current: int) -> date | None:
        today = self.now.date()
        if self.prefer == "past":
            return max((day for day in days if day and day <= today), default=None)
        if self.prefer == "future":
            return min((day for day in days if day and day >= today), default=None)
        return next((day for day in days if day and day.year == current), None)


def times(text: str, taken: list[Found]) -> list[Found]:
    """Times of day as ``14:30`` or ``14:30:05``, outside the spans of `taken`."""
    clocks = ((match, _clock(match)) for match in _some(TIME, text))
    finds = [
        Found(
            match.start(),
            match.end(),
            match[0],
            f"{clock[0]:02}:{clock[1]:02}" + (f":{clock[2]:02}" if clock[2] else ""),
        )
        for match, clock in clocks
        if clock
    ]
    named = [
        Found(match.start(), match.end(), match[0], "00:00" if match[1].lower() == "midnight" else "12:00")
        for match in _some(NAMED_TIME, text)
    ]
    return sorted(_free(taken, iter(finds + named)))


def durations(text: str, taken: list[Found]) -> list[Found]:
    """Lengths of time as ISO 8601 durations (``PT90M``, ``P2W``), outside the spans of `taken`."""
    finds = [
        Found(match.start(), match.end(), match[0], _iso_duration(match[1].lower(), _unit(match[2])))
        for match in _some(DURATION, text)
    ]
    finds += [Found(match.start(), match.end(), match[0], match[0]) for match in _some(ISO_DURATION, text)]
    return sorted(_free(taken, iter(finds)))


def _some(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    for count, match in enumerate(pattern.finditer(text)):
        if count == MAX_FINDS:
            return
        yield match


def _free(taken: list[Found], finds: Iterator[Found]) -> list[Found]:
    return [find for find in finds if all(find.end <= other.start or find.start >= other.end for other in taken)]


def _day(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None


def _clock(match: re.Match[str]) -> tuple[int, int, int] | None:
    hour, minute, second, half, short_hour, short_half = match.groups()
    clock_hour, mark = int(hour or short_hour), (half or short_half or "").lower()
    if mark and not 1 <= clock_hour <= 12:
        return None
    if mark:
        clock_hour = clock_hour % 12 + (12 if mark == "p" else 0)
    return clock_hour, int(minute or 0), int(second or 0)


def _zone(written: str | None, default: tzinfo | None) -> tzinfo | None:
    if not written:
        return default
    if written in "Zz":
        return UTC
    hours, minutes = int(written[1:3]), int(written[-2:])
    if hours > 23 or minutes > 59:
        return default
    return timezone((-1 if written[0] == "-" else 1) * timedelta(hours=hours, minutes=minutes))


def _unit(word: str) -> str:
    return _UNITS.get(word.lower(), word.lower())


def _number(word: str) -> float:
    name = word.lower()
    return float(_NUMBERS[name]) if name in _NUMBERS else float(name.replace(",", "."))


def _iso_duration(count: str, unit: str) -> str:
    if count == "half an":
        return "PT30M" if unit == "hour" else f"P0.5{unit[0].upper()}"
    amount = f"{_number(count):g}"
    return f"PT{amount}{unit[0].upper()}" if unit in ("second", "minute", "hour") else f"P{amount}{unit[0].upper()}"


def _moved(now: datetime, amount: float, unit: str) -> datetime:
    if unit in ("month", "year"):
        months = now.year * 12 + now.month - 1 + round(amount * (12 if unit == "year" else 1))
        year, month = months // 12, months % 12 + 1
        return now.replace(year=year, month=month, day=min(now.day, monthrange(year, month)[1]))
    return now + timedelta(**{f"{unit}s": amount})


def _period(today: date, step: int, period: str) -> date:
    """A weekday, or the first day of a week, month or year, `step` periods from the one of today."""
    if period == "year":
        return date(today.year + step, 1, 1)
    if period == "month":
        months = today.year * 12 + today.month - 1 + step
        return date(months // 12, months % 12 + 1, 1)
    monday = today - timedelta(today.weekday())
    if period == "week":
        return monday + timedelta(7 * step)
    wanted = monday + timedelta(_WEEKDAYS[period])
    if step > 0:
        return wanted if wanted > today else wanted + timedelta(7)
    if step < 0:
        return wanted if wanted < today else wanted - timedelta(7)
    return wanted
