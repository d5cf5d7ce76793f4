"""Find personal identifiers in text by rules: those in HIPAA's Safe Harbor that text can contain.

    find_identifiers("Pt: DOE, JOHN seen 3/4/2019")  →  [Found("name", 4, 13), Found("date", …)]

The kinds are those of 45 CFR 164.514(b)(2)(i). Published studies contain none, but their study
periods look like dates ("January 2005"); therefore a month with its year is a separate kind,
`month_year`, which is reported and redacted but never a reason to refuse a text. Rules miss what
they do not know, above all names that are on no list and that no title, label or relation
introduces: a text without findings may still contain identifiers. tests/privacy/test_identifiers.py
and test_notes.py measure recall and false alarms.

There are two levels. The strict rules run on every text, and are all that published abstracts get.
In a clinical note, which note_structure.is_note recognises, further rules find what would too often
be something else in prose: "6/23", bare codes, single names after a role or a relation. In a note,
overlapping findings are joined; among the strict rules, the kind that comes first in KINDS wins.

Why rules: on 699 identifiers in notes by other authors, presidio with spaCy's small model found as
many as the strict rules (73 %) with 200 times the false alarms and 40 to 120 times the time, and
philter found 87 % with 90 times the false alarms; no combination of them reached 98 %.

All patterns take time linear in the length of the text, even for hostile text: repetitions are
bounded, and what must not precede a match is checked after its first character, so that the search
can skip to that character.
"""

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from clingpt.privacy import note_structure
from clingpt.privacy.dates import MONTH_WORDS, find_dates, find_short_dates
from clingpt.privacy.keyword_rules import CITY, PUBLIC, STATE, find_by_keyword
from clingpt.privacy.name_rules import find_names
from clingpt.privacy.note_names import find_note_names

# Where two findings overlap, the kind listed first wins.
KINDS = (
    *("email", "url", "ip", "ssn", "address", "vehicle", "licence", "device", "record_number"),
    *("phone", "date", "age", "month_year", "name"),
)
REPORTED_ONLY = frozenset({"month_year"})  # redacted, but no reason to refuse a text

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_EMAIL = re.compile(
    r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){0,7}\.[\w-]{0,62}[^\W\d_][\w-]{0,62}"
)
_URL = re.compile(r"(?:\b[a-z]{3,6}://|\bwww\.)[^\s\0<>\"')\]]{2,2000}", re.IGNORECASE)
_IPV4 = re.compile(r"\d(?<![\w.].)\d{0,2}(?:\.\d{1,3}){3}(?![\w]|\.\d)")
_VERSION = re.compile(r"\b(?:EC|v|version|section|release)\.?\s\Z", re.IGNORECASE)
_IPV6 = re.compile(r"(?<![\w:])(?:[0-9a-f]{0,4}:){3,7}[0-9a-f]{1,4}(?![\w:])", re.IGNORECASE)
_MAC = re.compile(r"\b(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}\b", re.IGNORECASE)
_DIGIT = re.compile(r"\d")
_SSN = re.compile(r"\d(?<![\w.-].)\d\d-\d\d-\d{4}(?![\w-])")
_EXTENSION = r"(?!\w)(?:,?\s?(?:x|ext\.?)\s?\d{1,6})?"
_PHONES = [
    re.compile(pattern + _EXTENSION)
    for pattern in (
        r"[(2-9](?<![\w./+-].)(?:(?<=\()\d)?\d\d\)?[\s./-]{1,2}\d{3}[\s.-]\d{4}",
        r"1(?<![\w./+-].)[\s.-]{1,2}\(?[2-9]\d\d\)?[\s./-]{1,2}\d{3}[\s.-]\d{4}",
        r"\+(?<!\w.)\d{1,3}(?:[\s./-]{0,2}\(?\d{1,5}\)?){2,6}",
        r"[(0](?<![\w./+-].)(?:(?<=\()0)?(?:\d{2,4}\)?[\s-]\d{3,4}[\s-]?\d{3,4}|\d(?:[ .]\d\d){4})",
    )
]
_AGE = re.compile(
    r"(?P<value>9(?<![\w.,/–-].)\d|1(?<![\w.,/–-].)[0-2]\d)"
    r"(?:[\s-]{0,2}(?:years?|yrs?)[\s-]{0,2}(?:old|of\sage)\b(?!\s(?:or|and)\s(?:older|over|above))"
    r"|[\s-]?y\.?\s?/?o[FM]?\b|\s?y\s?[FM]\b|[FM](?=,|\s(?:with|who|w/|c/o|h/o|s/p|p/w|present"
    r"|admitted)))",
    re.IGNORECASE,
)
_BEYOND = re.compile(r"(?:[≥>≤<=~]|\b(?:over|above|under|below|than|least|most|to|or|and))\s?\Z")
# Numbers of charts, specimens and devices whose shape is enough to recognise them.
_SHAPES = [
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("record_number", r"\d(?<![\w.,/+-].)\d(?:\d-\d\d-\d\d|-\d{6})(?![\w-]|\.\d)"),
        ("record_number", r"0(?<![\w.,/+-].)\d{6,8}(?![\w%-]|[.,]\d)"),
        ("record_number", r"[A-Z](?<!\w.)[A-Z]?\d\d-\d{5}(?![\w-]|\.\d)"),
        ("record_number", r"[A-Z](?<!\w.)[A-Z]{1,2}\d{7}(?![\w-]|\.\d)"),
        ("device", r"[A-Z](?<!\w.)[A-Z]{1,3}\d{5,8}[A-Z](?![\w-])"),
    )
]
_NUMBER_AFTER_NAME = re.compile(r"(?:\s\|)?\s\(?(?P<value>\d{6,9})(?![\w%-]|[.,]\d)")
# In a note, a shorter chart number or an age of 90 or more after a name: "Wei 11204", "Wei (92)".
_NUMBER_OF_A_NAME = re.compile(
    r"(?:\s?\|)?,?\s(?:(?P<open>\()?(?P<value>(?:9\d|10\d)(?=\)|[,.;/]\s|\s?[MFmf]\b)"
    r"|[A-Z]?\d{5,9}[A-Z]{0,2}|[A-Z]\d{4}))(?![\w%:-]|[.,/]\d|\s?(?:mg|ml|units))"
)
_AGE_IN_A_NOTE = re.compile(
    r"\b(?:he|she|who|pt|patient|mother|father|mom|mum|dad|wife|husband|age|age/sex|turns"
    r"|turning|turned|aged)"
    r"(?:'s|’s|\sis|\swas|\s?:)?\s(?P<value>9\d|10\d)\b(?!\s?(?:%|kg|lbs?|/|cm|bpm|on\s|[.]\d))"
    r"|\b[MF]\s?/\s?(?P<sexed>9\d|10\d)\b|\b(?P<slashed>9\d"
    r"|10\d)\s?(?:[yY](?:rs?)?)?\s?/\s?[MFmf]\b",
    re.IGNORECASE,
)
_AGE_AFTER_NAME = re.compile(r",\s(?P<value>9\d|1[0-2]\d)(?=[,.;]\s)")
_PAGERS = re.compile(r"(?:[,;(]|\b(?:at|on))\s?(?P<value>x\d{4,5})(?!\w)")
_STREETS = (
    "street avenue road boulevard lane drive court place terrace circle parkway highway square "
    "trail crescent close st ave rd blvd ln dr ct pl ter cir pkwy hwy sq trl"
).split()
_UNIT = r"(?:\.?,?\s(?i:apt|apartment|unit|suite|ste|flat|floor|#)\.?\s?#?\w{1,6}\b)?"
_STREET = re.compile(
    r"\d(?<![\w.,:/-].)\d{0,5}[A-Z]?(?:-\d{1,4})?\s(?:[NSEW]{1,2}\.?\s)?"
    r"(?:[A-Z0-9][\w'’.-]{0,20}\s){1,4}?"
    rf"(?:{'|'.join(word.capitalize() for word in _STREETS)}|{'|'.join(_STREETS).upper()})\b{_UNIT}"
)
_SMALL_STREET = re.compile(
    r"\d(?<![\w.,/-].)\d{0,5}\s(?:[a-z][a-z'’-]{2,20}\s){1,2}"
    rf"(?:street|avenue|boulevard|road|lane|ave|blvd|rd)\b{_UNIT}"
)
# Words no street name contains: "2 weeks on the road", "CHEST CT", "10 Mr. Smith saw Dr".
_NO_STREET = re.compile(
    r"\s(?:on|in|of|the|to|at|by|per|and|with|for|off|from|their|his|her|weeks?|days?|months?"
    r"|years?|miles?|patients|Mrs?\.|Ms\.|CT|(?:Jan|Febr)uary|March|April|May|June|July|August"
    r"|(?:Sept|Nov|Dec)ember|October|Post|PM|AM|TO|OF|IN|AT|AND|MM|CM|MG|ML|BID|TID|QD|PO|IV|EKG"
    r"|ECG|Attending|Pre|With|In|On|Of|The|To|At|And|For|By|Was|Is)\b"
)
_ZIP = re.compile(r"\d(?<=[A-Za-z]\s.)\d{4}(?:-\d{4})?(?![\w-])")
_POSTCODE = re.compile(  # British and Canadian
    r"\b(?:[A-Z]{1,2}\d[A-Z\d]?\s\d[ABD-HJLNP-UW-Z]{2}|[ABCEGHJ-NPR-TVXY]\d[A-Z]\s\d[A-Z]\d)\b"
)
_BEFORE_ZIP = re.compile(rf"(?<![\w'’-])(?:{CITY},?\s)?{STATE},?\s\Z")
_BEFORE_POSTCODE = re.compile(r"(?<![\w'’-])(?:[A-Z][\w'’-]{1,20},?\s){1,2}\Z")
_BETWEEN = (", ", " ", "; ", ",", "\n", "., ")  # between a street and its town


class Found(NamedTuple):
    """An identifier: its kind, one of KINDS, and its position in the text."""

    kind: str
    start: int
    end: int


class Search(NamedTuple):
    """What the rules find in a text, together and by level."""

    found: list[Found]  # by all rules, in order and without overlaps
    sure: list[Found]  # by the strict rules, which run on any text
    likely: list[Found]  # by the rules for notes; these findings may overlap
    is_note: bool  # whether the text is a clinical note rather than published prose
    text: str  # with NUL characters in place of placeholders


class Detector(Protocol):
    """A function that finds identifiers in a text, as `find_identifiers` does with rules."""

    def __call__(self, text: str, /) -> list[Found]: ...


def find_identifiers(text: str) -> list[Found]:
    """Find all identifiers, in order and without overlaps."""
    return search(text).found


def search(text: str) -> Search:
    """Find all identifiers as `find_identifiers` does, and return the findings by level too."""
    text = without_placeholders(text)
    words = list(_WORD.finditer(text))
    small = [word[0].lower() for word in words]
    candidates = list(_strict_candidates(text, words, small))
    sure = _joined(text, _without_overlaps(candidates, len(text)))
    if not note_structure.is_note(small, text, {one.kind for one in sure}):
        return Search(sure, sure, [], is_note=False, text=text)
    likely = list(_note_candidates(text, words, small))
    return Search(_joined(text, _merged(sure, likely)), sure, likely, is_note=True, text=text)


def _without_overlaps(candidates: list[Found], length: int) -> list[Found]:
    """Return candidates in order, without those that overlap one of a higher rank."""
    taken, kept = bytearray(length), []
    for one in sorted(candidates, key=lambda c: (_RANK[c.kind], c.start - c.end, c.start)):
        mark = _RANK[one.kind] + 1
        # Overlapping findings of one kind are kept and joined later: "Baker Street" and
        # "Street, London NW1 6XE". Any other overlap drops the candidate of lower rank.
        if not set(taken[one.start : one.end]) - {0, mark}:
            taken[one.start : one.end] = bytes([mark]) * (one.end - one.start)
            kept.append(one)
    return sorted(kept, key=lambda one: one.start)


def _merged(strict: list[Found], others: Iterable[Found]) -> list[Found]:
    """Join findings that overlap. The kind is that of a strict finding, or else of the longest.

    In a note, everything that any rule finds is covered: "(802) 555-0119" is one number, although
    "555-0119" alone looks like a code.
    """
    merged: list[Found] = []
    best = (False, 0)
    ranked = [(one, (True, one.end - one.start)) for one in strict]
    ranked += [(one, (False, one.end - one.start)) for one in others]
    for one, weight in sorted(ranked, key=lambda each: (each[0].start, each[0].end)):
        last = merged[-1] if merged else None
        if last is None or one.start >= last.end:
            merged.append(one)
            best = weight
            continue
        kind = one.kind if weight > best else last.kind
        merged[-1] = Found(kind, last.start, max(last.end, one.end))
        best = max(best, weight)
    return merged


def masked(text: str, found: Found) -> str:
    """Show the shape of an identifier without revealing it: "J… S…", "#/#/####"."""

    def hidden(match: re.Match[str]) -> str:
        word = match[0]
        if word.isalpha():
            return word[0] + "…" if len(word) > 2 else "…"
        return re.sub(r"[^\W\d_]", "X", re.sub(r"\d", "#", word))

    return re.sub(r"\w+", hidden, text[found.start : found.end])


_RANK = {kind: rank for rank, kind in enumerate(KINDS)}


# Placeholders in text that was de-identified before, by a sign that each of them contains.
_PLACEHOLDERS = {
    sign: re.compile(pattern)
    for sign, pattern in (
        ("**", r"\[\*\*[^\]\n]{0,80}\*\*\]|\*\*[A-Z][A-Z-]{1,20}(?:\[[^\]\n]{0,60}\])?"),
        ("***", r"\*{3}(?<!\w...)(?!-\*\*-\d)\*{0,99}(?!\w)"),
        ("XXX", r"X(?<![^\W_Xx].)(?!XX-XX-\d)XXX*(?:[-/.]XXXX*){0,3}(?![^\W_])"),
        ("xxx", r"x(?<![^\W_Xx].)(?!xx-xx-\d)xxx*(?:[-/.]xxxx*){0,3}(?![^\W_])"),
        ("___", r"___+"),
        ("[", r"\[[A-Z][A-Z_ -]{1,30}\d{0,3}\]"),
        ("<", r"<[A-Z][A-Z_ -]{1,30}\d{0,3}>"),
    )
}


def without_placeholders(text: str) -> str:
    """Put NUL characters, which no identifier contains, in place of placeholders like "XXXX"."""
    for sign, pattern in _PLACEHOLDERS.items():
        if sign in text:
            text = pattern.sub(lambda match: "\0" * len(match[0]), text)
    return text


def _note_candidates(
    text: str, words: Sequence[re.Match[str]], small: Sequence[str]
) -> Iterator[Found]:
    """Yield findings of the rules for notes, which would be something else in published prose."""
    labels = list(note_structure.labels(text))
    months = [words[at].start() for at, word in enumerate(small) if word in MONTH_WORDS]
    yield from (Found(*found) for found in find_short_dates(text, months))
    for kind, spans in (
        ("record_number", note_structure.labelled_codes(text, labels)),
        ("record_number", note_structure.codes_after_words(text, words, small)),
        ("date", note_structure.labelled_dates(text, labels)),
        ("phone", note_structure.labelled_phones(text, labels)),
        ("phone", note_structure.find_phones(text)),
        ("name", find_note_names(text, words, small, labels)),
        ("address", note_structure.find_places(text, words, labels)),
    ):
        for start, end in spans:
            yield Found(kind, start, end)
            if kind == "name" and (number := _NUMBER_OF_A_NAME.match(text, end)):
                age = number["value"].isdigit() and len(number["value"]) < 4
                yield Found("age" if age else "record_number", *number.span("value"))
    for match in _AGE_IN_A_NOTE.finditer(text):
        yield Found("age", *match.span(match.lastgroup or 0))
    yield from (Found(*found) for found in note_structure.bare_codes(text))
    yield from (Found(*found) for found in note_structure.footers(text))
    yield from (Found(*found) for found in note_structure.hl7_fields(text))
    yield from (Found(*found) for found in note_structure.table_values(text))


def _strict_candidates(
    text: str, words: Sequence[re.Match[str]], small: Sequence[str]
) -> Iterator[Found]:
    for start, end in find_names(text, words, small):
        yield Found("name", start, end)
        # A chart number and an age of 90 or more often follow a name without a label.
        if number := _NUMBER_AFTER_NAME.match(text, end):
            yield Found("record_number", *number.span("value"))
        if age := _AGE_AFTER_NAME.match(text, end):
            yield Found("age", *age.span("value"))
    yield from (Found(*found) for found in find_by_keyword(text, words, small))
    yield from _web_addresses(text)
    if _DIGIT.search(text):
        months = [words[at].start() for at, word in enumerate(small) if word in MONTH_WORDS]
        yield from (Found(*found) for found in find_dates(text, months))
        yield from _numbers(text)
        yield from _shapes(text)
        yield from _places(text)


def _web_addresses(text: str) -> Iterator[Found]:
    if "@" in text:
        yield from (Found("email", *match.span()) for match in _EMAIL.finditer(text))
    if "://" in text or "www." in text.lower():
        for match in _URL.finditer(text):
            yield Found("url", match.start(), match.start() + len(match[0].rstrip(".,;:!?")))
    if text.count(".") >= 3:
        for match in _IPV4.finditer(text):
            # "EC 3.1.1.11" is an enzyme, "version 1.2.3.4" software.
            if _is_ip(match[0]) and not _VERSION.search(
                text, max(0, match.start() - 9), match.start()
            ):
                yield Found("ip", *match.span())
    if text.count(":") >= 3:
        yield from (Found("device", *match.span()) for match in _MAC.finditer(text))
        for match in _IPV6.finditer(text):
            if _is_ip(match[0]):
                yield Found("ip", *match.span())


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def _numbers(text: str) -> Iterator[Found]:
    """Yield social security and telephone numbers and ages that need no keyword."""
    for match in _SSN.finditer(text):
        if match[0][:3] not in ("000", "666") and match[0][0] != "9":
            yield Found("ssn", *match.span())
    for pattern in _PHONES:
        for match in pattern.finditer(text):
            if 10 <= sum(map(str.isdigit, match[0])) <= 21:
                yield Found("phone", *match.span())
    for match in _PAGERS.finditer(text):
        yield Found("phone", *match.span("value"))
    for match in _AGE.finditer(text):
        # "65 to 94 years old" and "over 90 years of age" are the limits of a study.
        if not _BEYOND.search(text, max(0, match.start() - 8), match.start()):
            yield Found("age", *match.span("value"))


def _shapes(text: str) -> Iterator[Found]:
    """Yield numbers of charts, specimens and devices that need no keyword."""
    for kind, pattern in _SHAPES:
        for match in pattern.finditer(text):
            if not match[0].startswith(PUBLIC):
                yield Found(kind, *match.span())


def _places(text: str) -> Iterator[Found]:
    """Yield streets, and postal codes with the town before them."""
    for pattern in (_STREET, _SMALL_STREET):
        for match in pattern.finditer(text):
            if not _NO_STREET.search(match[0]):
                yield Found("address", *match.span())
    for code, pattern in ((_ZIP, _BEFORE_ZIP), (_POSTCODE, _BEFORE_POSTCODE)):
        for match in code.finditer(text):
            before = pattern.search(text, max(0, match.start() - 80), match.start())
            if before or code is _POSTCODE:
                start = before.start() if before else match.start()
                yield Found("address", start, match.end())


def _joined(text: str, found: list[Found]) -> list[Found]:
    """Join findings that overlap, and a street with the town after it."""
    joined: list[Found] = []
    for one in found:
        last = joined[-1] if joined else None
        between = text[last.end : one.start] if last else ""
        near = last and last.kind == one.kind == "address" and between in _BETWEEN
        if last and (near or one.start < last.end):
            joined[-1] = Found(last.kind, last.start, max(last.end, one.end))
        else:
            joined.append(one)
    return joined
