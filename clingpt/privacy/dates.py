"""Find dates in the spellings that people use, and shift them by days in the same spelling.

A date with a day is a `date` ("3/4/1931", "05-MAY-19", "May 3", "3rd of May 2019", "2019-05-03
14:30"). A month with its year is a `month_year`. A year alone is neither, because HIPAA's Safe
Harbor (45 CFR 164.514(b)(2)(i)(C)) permits years. Months alone ("in May") are not searched for.
"""

import calendar
import datetime
import re
from collections.abc import Iterable, Iterator

MONTHS = tuple(calendar.month_name)[1:]
MONTH_WORDS = {name.lower() for name in MONTHS} | {name[:3].lower() for name in MONTHS} | {"sept"}
# Months that are also other words: without a year, they need a capital to count as months.
AMBIGUOUS = {"mar", "march", "may", "sep", "dec", "jan", "jun", "oct", "nov"}
ANY_YEAR = 2001  # the year assumed for dates without one
OLDEST_SHORT_YEAR = 1931  # "31" means 1931, "30" means 2030
LONGEST_BEFORE = 32  # characters before a month's name that may belong to its date

_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)(?![^\W\d_])"
)
_YEAR = r"(?P<year>(?:18[89]|19\d|20\d)\d)(?!\d)"
_SHORT_YEAR = r"['’]?(?P<short_year>\d\d)(?![\w%]|[./,]\d)"
_DAY = r"(?P<day>0[1-9]|[12]\d|3[01]|[1-9])(?!\d)(?P<nth>\s?(?:st|nd|rd|th)\b)?"
_OTHER = _DAY.replace("day", "other").replace("nth", "other_nth")  # the 3 of "3-5 May"
_TO = r"\s?(?:[-–—&]|to|through|and)\s?"
_OF = r"(?:[\s.-]|\s(?:day\s)?of\s)?"
_TIME = r"(?:(?:T|,?\s(?:at\s)?)\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?:\s?[ap]\.?m\b)?Z?)?"
_END = r"(?![\d/%]|[.,-]\d)"
_NO_UNIT = r"(?!\s?(?:%|(?:[mkµμ]?g|m[lgm]|cm|units?|times|days?|weeks?|months?|years?)\b))"


# The digit comes before its lookbehind, so that the search can skip ahead to digits.
_NUMBERS = re.compile(  # 5/3/2019, 03.05.2019, 5-3-19
    r"(?P<one>\d(?<![\w./-].)\d?)(?P<mark>[-/.])(?P<two>\d\d?)(?P=mark)(?P<year>\d{4}|\d\d)"
    rf"(?!\w){_TIME}{_END}",
    re.IGNORECASE,
)
_NUMERIC = [
    _NUMBERS,
    re.compile(  # 2019-05-03T14:30, 2019/5/3
        r"(?P<year>[12](?<![\w./-].)\d{3})(?P<mark>[-/.])(?P<month>\d\d?)(?P=mark)(?P<day>\d\d?)"
        rf"{_TIME}{_END}",
        re.IGNORECASE,
    ),
    re.compile(
        r"(?P<year>[12](?<![\w./-].)\d{3})(?P<month>[01]\d)(?P<day>[0-3]\d)(?![\w-])", re.IGNORECASE
    ),
    re.compile(rf"(?P<month>\d(?<![\w./-].)\d?)/{_YEAR}{_END}", re.IGNORECASE),  # 05/2019
]
# The 3/8 of "seen on 3/8", and the 3/4 of "3/4-3/8/2019".
_PARTIAL = re.compile(
    r"(?P<one>\d(?<![\w./-].)\d?)(?P<mark>/)(?P<two>\d\d?)(?![\w/%]|\.\d)", re.IGNORECASE
)
_BEFORE_PARTIAL = re.compile(
    r"\b(?:on|dated?:?|since|until|till|thru|DOS:?|admitted|discharged|seen)\s\Z",
    re.IGNORECASE,
)
_AFTER_PARTIAL = re.compile(rf"{_TO}\d\d?/\d\d?/\d\d", re.IGNORECASE)

_BEFORE_MONTH = re.compile(
    rf"(?<![\w./-])(?:\d{{4}}[\s-]|(?:{_OTHER}{_TO})?{_DAY}{_OF})\Z", re.IGNORECASE
)
_YEAR_MONTH_DAY = re.compile(rf"{_YEAR}[\s-]{_MONTH}\.?[\s-]{_DAY}", re.IGNORECASE)
_DAY_MONTH = re.compile(
    rf"(?:{_OTHER}{_TO})?{_DAY}{_OF}{_MONTH}"
    rf"(?:\.?(?:,?\s(?:of\s)?|[./-])?(?:{_YEAR}|{_SHORT_YEAR}){_TIME})?",
    re.IGNORECASE,
)
_MONTH_DAY = re.compile(
    rf"{_MONTH}(?:\.?[\s-]|\.)(?:the\s)?{_DAY}(?:{_TO}{_OTHER})?"
    rf"(?:,?\s?(?:of\s)?{_YEAR}{_TIME}|[-/]{_SHORT_YEAR}|{_END}{_NO_UNIT})",
    re.IGNORECASE,
)
_MONTH_YEAR = re.compile(
    rf"{_MONTH}\.?(?:(?:,?\s|-)?(?:of\s)?{_YEAR}|\s?(?=['’]){_SHORT_YEAR})", re.IGNORECASE
)
_SPELLINGS = [*_NUMERIC, _YEAR_MONTH_DAY, _DAY_MONTH, _MONTH_DAY, _MONTH_YEAR, _PARTIAL]


def find_dates(text: str, month_places: Iterable[int]) -> Iterator[tuple[str, int, int]]:
    """Yield (kind, start, end) of dates, possibly overlapping.

    `month_places` are the positions where words of MONTH_WORDS start.
    """
    for start in month_places:
        if match := _at_month(text, start):
            yield _kind(match), *match.span()
    for pattern in _NUMERIC:
        for match in pattern.finditer(text):
            if _read(match):
                yield _kind(match), *match.span()
    for match in _PARTIAL.finditer(text) if "/" in text else ():
        start, end = match.span()
        introduced = _BEFORE_PARTIAL.search(text, max(0, start - 12), start)
        if (introduced or _AFTER_PARTIAL.match(text, end)) and _read(match):
            yield _kind(match), start, end


def is_day_first(dates: Iterable[str]) -> bool:
    """Whether one of a text's dates can only be day/month/year, so that all of them are."""
    return any((match := _NUMBERS.fullmatch(date)) and int(match["one"]) > 12 for date in dates)


def shifted(written: str, days: int, *, day_first: bool = False) -> str | None:
    """Return the date that many days later, in the same spelling; None if the text is not one date.

    A month without a day counts as its fifteenth. Two entangled dates ("May 3/4/2019") are not
    one date.
    """
    match, date = _parsed(written, day_first=day_first)
    if match is None or date is None:
        return None
    return _respelled(match, date + datetime.timedelta(days), day_first=day_first)


def day_of(written: str, *, day_first: bool = False) -> datetime.date | None:
    """Return the day that a date means, in ANY_YEAR if it has no year."""
    return _parsed(written, day_first=day_first)[1]


def _parsed(
    written: str, *, day_first: bool
) -> tuple[re.Match[str], datetime.date] | tuple[None, None]:
    for pattern in _SPELLINGS:
        if (match := pattern.fullmatch(written)) and (date := _read(match, day_first=day_first)):
            return match, date
    return None, None


def _kind(match: re.Match[str]) -> str:
    return "date" if {"day", "one"} & match.groupdict().keys() else "month_year"


def _at_month(text: str, start: int) -> re.Match[str] | None:
    """Match the date around a month's name."""
    before = _BEFORE_MONTH.search(text, max(0, start - LONGEST_BEFORE), start)
    places = [(_YEAR_MONTH_DAY, before), (_DAY_MONTH, before)] if before else []
    for pattern, first in [*places, (_MONTH_DAY, None), (_MONTH_YEAR, None)]:
        match = pattern.match(text, first.start() if first else start)
        if match and _is_meant(match):
            return match
    return None


def _is_meant(match: re.Match[str]) -> bool:
    """Whether a number next to a month's name is a date: not in "may 10 patients"."""
    named, month = match.groupdict(), match["month"]
    if named.get("year") or named.get("short_year"):
        return True
    return month[0].isupper() or month.lower() not in AMBIGUOUS


def _read(match: re.Match[str], *, day_first: bool = False) -> datetime.date | None:
    """Return the date that a match spells, or None if its numbers are out of range."""
    found = match.groupdict()
    year = _read_year(found.get("year") or found.get("short_year"))
    if "one" in found:
        month, day = int(found["one"]), int(found["two"])
        if _is_swapped(month, day, day_first=day_first):
            month, day = day, month
        # "1.2.03" and "1-2-03" are just as often sections, scores or versions.
        if found["mark"] != "/" and len(match[0]) < len("05-03-19"):
            return None
    else:
        name = found["month"].lower()
        full = [each.lower()[: len(name)] for each in MONTHS]
        month = int(name) if name.isdigit() else full.index(name) + 1
        day = int(found.get("day") or 15)
    if not (1 <= month <= 12 and 1 <= day <= 31 and 1880 <= year <= 2099):
        return None
    # 31 April is a slip of the pen and identifies as much as 30 April.
    return datetime.date(year, month, min(day, calendar.monthrange(year, month)[1]))


def _is_swapped(one: int, two: int, *, day_first: bool) -> bool:
    return one > 12 or (day_first and two <= 12)


def _read_year(written: str | None) -> int:
    if written is None:
        return ANY_YEAR
    if len(written) == 4:
        return int(written)
    year = OLDEST_SHORT_YEAR // 100 * 100 + int(written)
    return year if year >= OLDEST_SHORT_YEAR else year + 100


def _respelled(match: re.Match[str], date: datetime.date, *, day_first: bool) -> str:
    """Rewrite a match with the parts of another date."""
    named = {name: part for name, part in match.groupdict().items() if part}
    month = named.get("month", "")
    parts = {"day": str(date.day), "month": str(date.month)}
    parts |= {"one": str(date.month), "two": str(date.day)}
    if "one" in named and _is_swapped(int(named["one"]), int(named["two"]), day_first=day_first):
        parts |= {"one": str(date.day), "two": str(date.month)}
    for name in ("year", "short_year"):
        parts[name] = str(date.year)[-len(named.get(name, "")) :]
    if month and not month.isdigit():
        parts["month"] = _month_like(month, date.month)
    if "other" in named:  # "3-5 May": two days apart, even if a month ends between them
        other = date + datetime.timedelta(int(named["other"]) - int(named["day"]))
        parts["other"] = str(other.day)
        if other.month != date.month:
            both = [parts["other"], _month_like(month, other.month)]
            before = match.start("other") < match.start("month")
            parts["other"] = " ".join(both if before else reversed(both))
    parts["nth"] = _ordinal_like(named.get("nth", ""), date.day)
    parts["other_nth"] = ""
    return _replaced(match, {name: parts[name] for name in named.keys() & parts.keys()})


def _replaced(match: re.Match[str], parts: dict[str, str]) -> str:
    """Replace groups of a match, zero-padded to the old width where the old text was padded."""
    text, end = "", match.end()
    month = match.groupdict().get("month")
    padded = month is None or month.isdigit()
    for name in sorted(parts, key=match.start, reverse=True):
        old, new = match[name], parts[name]
        new = new.zfill(len(old)) if padded or old[0] == "0" else new
        text, end = new + match.string[match.end(name) : end] + text, match.start(name)
    return match.string[match.start() : end] + text


def _month_like(old: str, month: int) -> str:
    """Return the name of a month, abbreviated and capitalised in the same way as a given one."""
    is_short = len(old) == 3 or old.lower() == "sept"
    new = MONTHS[month - 1][: 3 if is_short else None]
    return new.upper() if old.isupper() else new.lower() if old.islower() else new


def _ordinal_like(old: str, day: int) -> str:
    """Return the ordinal ending of a new day, capitalised in the same way as the old ending."""
    endings = {1: "st", 2: "nd", 3: "rd"}
    new = "th" if 10 < day < 14 else endings.get(day % 10, "th")
    return old[:-2] + (new.upper() if old.isupper() else new)
