"""Find dates as people write them, and shift them by some days without changing the spelling.

A date with a day is a `date` ("3/4/1931", "05-MAY-19", "May 3", "3rd of May 2019", "2019-05-03
14:30"). A month with its year is a `month_year`. A year alone is neither, because HIPAA's Safe
Harbor (45 CFR 164.514(b)(2)(i)(C)) permits years.

Notes abbreviate dates in ways that in an abstract would be fractions, ratios and scores: "6/23",
"5/92", "6-14-91", "the 19th", "since May". `find_short_dates` finds these; call it only on notes.
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
_OF = r"(?:[\s./-]|\s(?:day\s)?of\s)?"
_TIME = (
    r"(?:(?:T|@|,?\s(?:at\s)?)\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?:\s?[ap]\.?m\b)?Z?|-\d{4})?"
)
_END = r"(?![\d/%]|[.,-]\d)"
_NO_UNIT = r"(?!\s?(?:%|(?:[mkµμ]?g|m[lgm]|cm|units?|times|days?|weeks?|months?|years?)\b))"


# The digit comes before its lookbehind, so that the search can skip ahead to digits.
_NUMBERS = re.compile(  # 5/3/2019, 03.05.2019, 5-3-19
    r"(?P<one>\d(?<![\w./-].)\d?)(?P<mark>[-/.])(?P<two>\d\d?)(?P=mark)['’]?(?P<year>\d{4}|\d\d)"
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
    rf"{_MONTH}(?:\.?[\s/-]|\.)(?:the\s)?{_DAY}(?:{_TO}{_OTHER})?"
    rf"(?:,?\s?(?:of\s)?{_YEAR}{_TIME}|(?:[-/]|,?\s(?=['’])){_SHORT_YEAR}|{_END}{_NO_UNIT})",
    re.IGNORECASE,
)
_MONTH_YEAR = re.compile(
    rf"{_MONTH}\.?(?:(?:,?\s|-)?(?:of\s)?{_YEAR}|\s?(?=['’]){_SHORT_YEAR})", re.IGNORECASE
)

# The dates that only notes have: 6/23, 11-07, 26.04., 5/92, the 19th, November, Christmas.
_SHORT = re.compile(
    r"(?P<one>\d(?<![\w./+].)\d?)(?:(?P<mark>[/-])(?P<two>\d\d?)(?![\w/%]|[.,]\d)"
    r"|\.(?P<dotted>\d\d?)\.(?!\w))"
)
_SHORT_DAY = re.compile(r"(?P<one>\d\d?)(?P<mark>[-/.])(?P<two>\d\d?)\.?")
_SHORT_MONTH = re.compile(r"(?P<month>\d\d?)/(?P<short_year>\d\d)")
# 10/12/22-12/10/22
_SPAN = re.compile(
    r"(?<![\w./-])(?P<from>\d\d?[/.-]\d\d?[/.-](?:\d{4}|\d\d))\s?[-–]\s?"
    r"(?P<to>\d\d?[/.-]\d\d?[/.-](?:\d{4}|\d\d))(?![\w/])"
)
_ORDINAL = re.compile(
    r"(?:the\s)?(?P<day>0[1-9]|[12]\d|3[01]|[1-9])(?P<nth>st|nd|rd|th)", re.IGNORECASE
)
_ORDINAL_AFTER_ON = re.compile(  # "on the 7th better", but not "on the 4th digit"
    r"\b(?:on|until|till?|by|since)\sthe\s(?P<date>\d{1,2}(?:st|nd|rd|th))\b"
    r"(?!\s(?:and\s\d|to\s\d|day|dose|week|visit|rib|toe|finger|digit|mt|mc|metatarsal|metacarpal|nerve|floor"
    r"|cycle|ward|attempt|try|time|postop\w*|hospital|intercostal|ics|ray|web|cranial|percentile|of|trimester))",
    re.IGNORECASE,
)
_ORDINAL_PLACE = re.compile(
    r"\b(?:on|since|until|till?|by|for|from|before|after|around|due|dated|the|(?:mon|tue|tues"
    r"|wed|thu|thur|thurs|fri|sat|sun|\w{3,6}day))\s"
    rf"(?P<date>{_ORDINAL.pattern})"
    r"(?=\Z|[.,;:)/\]\n–-]|\s(?!and\s\d)(?:at|and|but|for|to|w|with|or|if|when|as|after|before"
    r"|in|by|from|so|then|per|he|she|they|we|pt|who|which|because|due|daughter|son|wife|husband"
    r"|will"
    r"|\d{1,2}[:ap]|(?-i:[A-Z]{2})))",
    re.IGNORECASE,
)
_MONTH_ALONE = re.compile(rf"{_MONTH}\.?", re.IGNORECASE)
_STAMP = re.compile(  # 202103141030-0600, of HL7
    r"(?P<year>(?:19|20)\d\d)(?P<month>[01]\d)(?P<day>[0-3]\d)\d{0,6}(?:[+-]\d{4})?"
)
_COMPACT = re.compile(  # 081401, 4 12 2020
    r"(?P<one>\d\d?)(?P<mark> ?)(?P<two>\d\d)(?P=mark)(?P<year>\d{4}|\d\d)"
)
_HOLIDAYS = {  # a movable one has a day in the middle of its range, which only shifting uses
    "christmas eve": (12, 24),
    "christmas day": (12, 25),
    "christmas": (12, 25),
    "xmas day": (12, 25),
    "xmas eve": (12, 24),
    "decoration day": (5, 30),
    "xmas": (12, 25),
    "boxing day": (12, 26),
    "new year's eve": (12, 31),
    "new years eve": (12, 31),
    "new year's day": (1, 1),
    "new year's": (1, 1),
    "thanksgiving": (11, 25),
    "halloween": (10, 31),
    "labor day": (9, 4),
    "labour day": (9, 4),
    "memorial day": (5, 28),
    "independence day": (7, 4),
    "fourth of july": (7, 4),
    "canada day": (7, 1),
    "anzac day": (4, 25),
    "australia day": (1, 26),
    "valentine's day": (2, 14),
    "valentine's": (2, 14),
    "st patrick's day": (3, 17),
    "paddy's day": (3, 17),
    "mother's day": (5, 12),
    "father's day": (6, 16),
    "good friday": (4, 10),
    "easter": (4, 12),
    "easter sunday": (4, 12),
    "easter monday": (4, 13),
    "ash wednesday": (2, 25),
    "palm sunday": (4, 5),
    "diwali": (10, 30),
    "holi": (3, 15),
    "ramadan": (4, 1),
    "passover": (4, 12),
    "purim": (3, 12),
    "rosh hashanah": (9, 20),
    "yom kippur": (9, 28),
    "sukkot": (10, 5),
    "hanukkah": (12, 15),
    "chinese new year": (2, 5),
    "lunar new year": (2, 5),
    "cny": (2, 5),
    "new year": (1, 1),
    "st. patrick's day": (3, 17),
    "sukkos": (10, 5),
    "paddy's": (3, 17),
    "hogmanay": (12, 31),
    "eid": (5, 1),
    "vesak": (5, 15),
    "songkran": (4, 14),
    "guy fawkes": (11, 5),
    "bonfire night": (11, 5),
    "veterans day": (11, 11),
    "remembrance day": (11, 11),
    "waitangi day": (2, 6),
    "bank holiday": (5, 25),
}
_HOLIDAY = re.compile(
    rf"\b(?P<name>{'|'.join(sorted(_HOLIDAYS, key=len, reverse=True))})(?!\w)"
    r"(?!\s(?:disease|factor|tree|egg|eggs|seals?)\b)(?:,?\s(?P<year>(?:19|20)\d\d)\b)?".replace(
        "'", "['’]"
    ),
    re.IGNORECASE,
)
# Words before a day and month without a year, or a month alone.
_CUES = frozenset(
    "on since from until till til thru through by before after around circa dated date last next"
    " seen admitted admit adm discharged started start starting stopped begun began placed removed"
    " inserted repeat repeated extubated intubated proned transferred arrived returned return due"
    " expires collected drawn received filled refilled issued signed typed faxed reviewed updated"
    " note visit appt appointment f/u r/v rv review echo tte tee ecg ekg cxr ct mri us uss xr pet"
    " dexa eeg emg cath holter colonoscopy egd biopsy bx labs lab lp pfts pft mammogram mammo pap"
    " smear tetanus tdap td flu vaccine vaccinated booster lmp edd edc dos doa dod doi dob tcu"
    " surgery op booked scheduled re-scheduled rescheduled cert mon tue tues wed thu thur thurs fri"
    " sat sun monday tuesday wednesday thursday friday saturday sunday beginning ending effective"
    " approx born changed done f2f dictated slip court mtg meeting conf shot ppd tb covid h/v"
    " hv".split()
)
# Participles with these beginnings introduce fractions: "improved 3/5", "rated 7/10".
_NO_CUES = ("incre", "decre", "improv", "reduc", "grad", "rat", "scor", "worsen", "measur", "need")
_CUES_OF_DURATIONS = _CUES - frozenset(
    "from last next by after before repeat review r/v f/u".split()
)
_CUES_OF_MONTHS = frozenset(
    "in since from until till til by of last next this early late mid end before after during"
    " through thru to around circa every each past begin beginning starting nung for".split()
)
_CLEAR_CUES_OF_MONTHS = frozenset("since until till last next early late mid".split())
_SCORES = re.compile(  # "strength 5/5", "Apgars 8 / 9", "VA 6/9"
    r"\b(?:strength|motor|power|grade|gr|gcs|scores?|scored|pain|nrs|vas|nprs|apgars?|murmur"
    r"|reflex\w*|dtrs?|pulses?|mmse|moca|phq\S*|gad\S*|bishop|mallampati|va|vision|visual|acuity"
    r"|snellen|mrc|ef|ratio|x|q|for|over|every|times|bp|hr|pd|k|moderate|severe|worst|best"
    r"|intensity|rated|rates|pg|page|bims|today|recall|ps|psv|cpap|bipap|rr|allred|kps|ecog|max|min"
    r"|missed|size|foley|epworth|obs|curb|wells|heart|aldrete"
    r"|braden|morse|qol|worse|currently|level)"
    r"\W{0,3}(?:is|was|of|at|re|le|od|os|r|l)?\W{0,3}\Z",
    re.IGNORECASE,
)
_NO_DATE_AFTER = re.compile(
    r"\s?(?:strength|power|mm\s?hg|port|groups|objects|proximally|distally|motor|pain|murmur|SEM|[hp]sm|systolic|diastolic|grade|pulses|reflex|DTR"
    r"|bilat|throughout|tabs?|hrly|hourly|mg|mcg|ml|cups?|oz|inch|cm|mm|hpf|lpf|of|weeks?|wks?"
    r"|months?|mos?|years?|yrs?|days?|pos|points?|words?|items?|criteria|history|hx|h/o|ago|old"
    r"|vicryl|prolene|nylon|monocryl|silk|pds|recall|correct|intensity|severity|in\s(?:all|both)"
    r"|[lr][ue]e?\b|x\s?\d)"
    r"(?!\w)|\s?[×x]\s?\d|\s?@\s?[a-z]{3}",
    re.IGNORECASE,
)
_TIME_AFTER = re.compile(
    r"\s?(?::(?!\d)|@|at\s\d|\d\d?:\d\d|\d{4}\s?h|(?:HD|POD|[ap]m)\b|\d{4}(?!\w|\s?m[lg]))",
    re.IGNORECASE,
)
_JOINED_AFTER = re.compile(
    r"\s?(?:-|–|to|&|and|thru|through|until|then|,\sand)\s?(?:again\s)?(?:on\s)?\d{1,2}[/.]\d"
)
_JOINED_BEFORE = re.compile(
    r"\d[/.]\d{1,2}\.?\s?(?:-|–|to|&|and|thru|through|until|then|,\sand)\s?(?:again\s)?(?:on\s)?\Z"
)
_LAST_WORD = re.compile(r"(?P<word>[A-Za-z][A-Za-z/]*)['’]?d?[\s:.,(~=@#-]{1,3}\Z")
_LEAST_FRACTION = 13  # denominators from here on are days, unless a score precedes
_TOTALS = frozenset((14, 15, 16, 20, 21, 22, 24, 25, 27, 28, 30))  # of scores: MMSE 24/30, 9/27
_FIRST_CLEAR_YEAR = 61  # "6/60" is an acuity, "5/42" a stroke score; "5/92" is a month

_SPELLINGS = [
    *(*_NUMERIC, _YEAR_MONTH_DAY, _DAY_MONTH, _MONTH_DAY, _MONTH_YEAR, _PARTIAL),
    *(_SHORT_DAY, _SHORT_MONTH, _ORDINAL, _MONTH_ALONE, _STAMP, _COMPACT),
]


def find_dates(text: str, month_places: Iterable[int]) -> Iterator[tuple[str, int, int]]:
    """Yield (kind, start, end) of dates, possibly overlapping.

    `month_places` are the positions where words of MONTH_WORDS start.
    """
    for start in month_places:
        if match := _at_month(text, start):
            yield _kind(match), *match.span()
    for pattern in _NUMERIC:
        for match in pattern.finditer(text):
            if _read(match) and not _is_terse(match):
                yield _kind(match), *match.span()
    for match in _PARTIAL.finditer(text) if "/" in text else ():
        start, end = match.span()
        introduced = _BEFORE_PARTIAL.search(text, max(0, start - 12), start)
        if (introduced or _AFTER_PARTIAL.match(text, end)) and _read(match):
            yield _kind(match), start, end


def _is_terse(match: re.Match[str]) -> bool:
    """Whether a date is so short that it may be a section, a score or a version: "1.2.03"."""
    return match.groupdict().get("mark", "/") in ".-" and len(match[0]) < len("05-03-19")


def find_short_dates(text: str, month_places: Iterable[int]) -> Iterator[tuple[str, int, int]]:
    """Yield (kind, start, end) of dates as only notes abbreviate them, possibly overlapping."""
    for match in _NUMBERS.finditer(text):  # 6-14-91, 9.7.20
        if _is_terse(match) and _read(match):
            yield "date", *match.span()
    for match in _SPAN.finditer(text):
        yield "date", *match.span("from")
        yield "date", *match.span("to")
    yield from _days_and_months(text)
    for pattern in (_ORDINAL_PLACE, _ORDINAL_AFTER_ON):
        for match in pattern.finditer(text):
            yield "date", *match.span("date")
    for match in _HOLIDAY.finditer(text):
        yield "date", *match.span()
    for start in month_places:
        alone = _MONTH_ALONE.match(text, start)
        if alone and _is_month_alone(text, alone):
            # Without the full stop: it may end the sentence.
            yield "month_year", start, alone.end("month")


def _days_and_months(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield (kind, start, end) of dates like 6/23 and 5/92.

    A doubtful one is a date if a clear date of the text is in the same or an adjacent month.
    """
    months, doubtful = _months_of(text), []
    for match in _SHORT.finditer(text):
        if kind := _short_kind(text, match):
            months.add(int(match["one"]))
            yield kind, *match.span()
        else:
            doubtful.append(match)
    for match in doubtful if months else ():
        if _is_in_months(text, match, months):
            yield "date", *match.span()


def _months_of(text: str) -> set[int]:
    """Return the months of a text's full numeric dates."""
    pairs = [(int(match["one"]), int(match["two"])) for match in _NUMBERS.finditer(text)]
    return {one if one <= 12 else two for one, two in pairs if _is_day_and_month(one, two)}


def _is_day_and_month(one: int, two: int) -> bool:
    return 0 < min(one, two) <= 12 and max(one, two) <= 31


def _is_in_months(text: str, match: re.Match[str], months: set[int]) -> bool:
    """Whether 6/15 or 6-15 is a day because the note has other dates in June or next to it."""
    start, end = match.span()
    one, two = int(match["one"]), int(match["two"] or 0)
    before, after = text[max(0, start - 24) : start], text[end : end + 24]
    if not two or not _is_day_and_month(one, two) or one > 12:
        return False
    if _SCORES.search(before) or _NO_DATE_AFTER.match(after) or two in (5, 6, 10, 12):
        return False
    if not {one - 1, one, one + 1} & months or (match["mark"] == "-" and one <= two < 8):
        return False
    # "3-4 wks", "1-2 cm"
    ratio = re.match(
        r"\s?(?:(?:w|d|mo|m|h|min|y|cm|mm|kg|lb|x|times|pm|am|per|in)[a-z]{0,3}\b|[-–:/]\d)", after
    )
    return (two > 8 or (one > 5 and two < 7)) and not (match["mark"] == "-" and ratio and one < two)


def _short_kind(text: str, match: re.Match[str]) -> str | None:
    """Return the kind of a date without a year, or of 5/92; None for a fraction or a score."""
    start, end = match.span()
    before, after = text[max(0, start - 24) : start], text[end : end + 24]
    last = _LAST_WORD.search(before)
    cue = last["word"].lower() if last else ""
    one, two = int(match["one"]), int(match["two"] or match["dotted"])
    if _SCORES.search(before) or _NO_DATE_AFTER.match(after):
        return None
    joined = bool(_JOINED_BEFORE.search(before) or _JOINED_AFTER.match(after))
    if match["mark"] == "/" and 1 <= one <= 12 and two > 31:  # 5/92
        if two == 52:  # weeks of a duration
            return "month_year" if cue in ("since", "dated") else None
        return "month_year" if two >= _FIRST_CLEAR_YEAR or cue in (_CUES | {"in"}) else None
    if not (0 < min(one, two) <= 12 and max(one, two) <= 31):
        return None
    past = cue.endswith("ed") and not cue.startswith(_NO_CUES)  # "changed 2/9"
    introduced = cue in _CUES or joined or past
    if match["dotted"]:  # "from 26.04. to", but not "a pH of 7.2. Then"
        padded = "0" in (match["one"][0], match["dotted"][0])
        goes_on = re.match(r"\s[a-z]|[,;)]|\s?[-–]|\n|\Z", after)
        sure = cue.endswith("day") or (goes_on and (introduced or padded) and cue != "last")
        return "date" if sure else None
    if match["mark"] == "-":  # "admitted on 11-07 with", but not "for 3-4 days"
        sure = cue in _CUES_OF_DURATIONS and not re.match(r"\s?[a-z]{1,3}\b", after)
        return "date" if sure else None
    return "date" if _is_slashed_date(match, one, two, cue, introduced, before, after) else None


def _is_slashed_date(
    match: re.Match[str],
    one: int,
    two: int,
    cue: str,
    introduced: bool,
    before: str,
    after: str,
) -> bool:
    """Whether a match such as "6/23" is a date, and not a fraction ("5/5", "3/10") or a duration.

    In British notes, "5/7" is five days and "6/12" six months.
    """
    if (two == 7 and one in (*range(1, 15), 21, 28)) or (two == 12 and one <= 18):
        return cue in _CUES_OF_DURATIONS or bool(_TIME_AFTER.match(after)) or "0" in match["one"]
    padded = "0" in (match["one"][0], match["two"][0])
    if padded or (max(one, two) >= _LEAST_FRACTION and two not in _TOTALS):
        return True
    begins = not before.strip(" \t") or before.rstrip(" \t").endswith(("\n", "|", "\0"))
    begins = begins and two in _TOTALS
    more = one > two and one > 5 and two != 10  # not "strength 5/3" or "30/10"
    return introduced or begins or more or bool(_TIME_AFTER.match(after)) or before.endswith("(")


def _is_month_alone(text: str, match: re.Match[str]) -> bool:
    """Whether a month's name means a month: "since May", "in october", but not "may be"."""
    start, end = match.span()
    word = match["month"]
    last = _LAST_WORD.search(text, max(0, start - 12), start)
    cue = last["word"].lower() if last else ""
    if word == "march" and cue == "in":
        return True
    if word.islower():
        cues = _CLEAR_CUES_OF_MONTHS if word in AMBIGUOUS else _CUES_OF_MONTHS
        return cue in cues and len(word) > 3
    short = len(word) <= 4 and word.lower() not in ("june", "july")
    if word.isupper() and short and word.lower() in ("oct", "dec", "mar", "sep", "jan", "may"):
        return cue in _CLEAR_CUES_OF_MONTHS
    ends = bool(re.match(r"\.?[,;)\n/]|\.?\Z", text[end : end + 2]))  # "Oct)", "TT1 Jan, TT2 Feb."
    if short and word.lower() not in ("mar", "may", "dec"):
        return cue in _CUES_OF_MONTHS or cue == "done" or ends
    if word.lower() in AMBIGUOUS or word.lower() in ("april", "june", "august"):
        return cue in _CUES_OF_MONTHS or cue == "done"
    return not re.match(r"\s?\d", text[end : end + 2])


def is_day_first(dates: Iterable[str]) -> bool:
    """Whether one of a text's dates can only be day/month/year, so that all of them are."""
    return any(
        (match := _NUMBERS.fullmatch(date) or _SHORT_DAY.fullmatch(date)) and int(match["one"]) > 12
        for date in dates
    )


def shifted(written: str, days: int, *, day_first: bool = False) -> str | None:
    """Return a written date `days` later, in the same spelling; None if it is not one date.

    A month without a day counts as its fifteenth. Two overlapping dates ("May 3/4/2019") are not
    one date.
    """
    if holiday := _HOLIDAY.fullmatch(written):
        name, year = holiday["name"].lower().replace("’", "'"), holiday["year"]
        month, day = _HOLIDAYS[name]
        later = datetime.date(int(year or ANY_YEAR), month, day) + datetime.timedelta(days)
        return f"{MONTHS[later.month - 1]} {later.day}" + (f", {later.year}" if year else "")
    match, date = _parsed(written, day_first=day_first)
    if match is None or date is None:
        return None
    return _respelled(match, date + datetime.timedelta(days), day_first=day_first)


def day_of(written: str, *, day_first: bool = False) -> datetime.date | None:
    """Return the day of a written date, in ANY_YEAR if it has no year; None if it is not a date."""
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
    else:
        name = (found.get("month") or "1").lower()  # the 19th, of any month
        full = [each.lower()[: len(name)] for each in MONTHS]
        month = int(name) if name.isdigit() else full.index(name) + 1
        day = int(found.get("day") or 15)
    if not (1 <= month <= 12 and 1 <= day <= 31 and 1880 <= year <= 2099):
        return None
    # 31 April is a typing error, and identifies as much as 30 April.
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
    padded = (month is None or month.isdigit()) and "nth" not in parts
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
