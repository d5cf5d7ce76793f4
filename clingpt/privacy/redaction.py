"""Replace identifiers with tags ("[NAME]") or with surrogates that read like the original.

Surrogates are derived from a key by HMAC, so that a name has the same surrogate throughout a data
set but nobody without the key can compute it. The key is passed in or drawn at random, and is never
written anywhere. The dates of one patient (of one record, if the source has no groups) all move by
the same number of days, so that intervals survive. Identifiers that the rules miss are then hard to
tell from the surrogates around them ("hiding in plain sight", Carrell et al. 2013,
doi:10.1136/amiajnl-2012-001034); next to tags, they would stand out.
"""

import datetime
import hashlib
import hmac
import itertools
import re
import secrets
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Literal

from clingpt.privacy.dates import ANY_YEAR, day_of, is_day_first, shifted
from clingpt.privacy.detectors import for_record
from clingpt.privacy.identifiers import (
    REPORTED_ONLY,
    Detector,
    Found,
    find_identifiers,
    masked,
)
from clingpt.privacy.keyword_rules import STATE, STATE_CODES
from clingpt.privacy.names import Standing, census, cues, first_names, standing
from clingpt.text.records import Record

How = Literal["tags", "surrogates"]

KEY_BYTES = 32
POOL = 1000  # the most common names of each census list, from which surrogates are chosen
FARTHEST_DAYS = 365  # dates move by at most this many days, back or forth
BETWEEN_FIELDS = "\0"  # not in any cleaned text, and no identifier extends across it
DIGITS_OF_A_CHART = 5  # a record's id with this many digits may be a chart number

# Words of ids that name no one. Files are often named after patients, whose names no detector
# knows for certain where they stand alone, so redaction keeps ids of these words and numbers only.
PLAIN_ID = frozenset(
    """abstract admission article case chart chunk clinic ct cxr discharge doc document ecg echo
    eeg emergency encounter exam example file finding findings history hospital icu id
    image inpatient item letter line mri no note notes outpatient page part pathology
    patient pmc pmid progress pt question radiology record report row rows sample section
    study subject summary surgery syn synthetic test text train triage txt ultrasound unit
    val validation visit ward xray""".split()
)

_FILE_ENDING = re.compile(r"(.*?)((?:\.[A-Za-z][A-Za-z0-9]{1,4})?)", re.DOTALL)
_NAME_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_ADDRESS_WORD = re.compile(
    rf"(?P<kept>\b(?:{STATE_CODES})\b|(?<=,\s){STATE}\b"
    r"|\b(?i:p\.?\s?o\.?\sbox|post\soffice\sbox|street|avenue|road|boulevard|lane|drive|court|place"
    r"|terrace|circle|parkway|highway|square|trail|crescent|close|apt|apartment|unit|suite|ste|flat"
    r"|floor|st|ave|rd|blvd|ln|dr|ct|pl|ter|cir|pkwy|hwy|sq|trl|[nsew])\b)"
    r"|(?P<coded>\w*\d\w*)|(?P<named>[^\W\d_]+(?:['’][^\W\d_]+)*)"
)


def joined_text(record: Record) -> str:
    """Join a record's texts, so that a name introduced in one is also found in the others."""
    return BETWEEN_FIELDS.join(text.replace(BETWEEN_FIELDS, " ") for text in record.texts())


def may_identify(record_id: str) -> bool:
    """Whether a record's id may be a chart number, or contains a name or a date."""
    if sum(map(str.isdigit, record_id)) >= DIGITS_OF_A_CHART:
        return True
    found = find_identifiers(re.sub(r"[_.-]+", " ", record_id))
    return any(one.kind not in REPORTED_ONLY for one in found)


def masked_name(name: str) -> str:
    """Return a record's id, or another short name, for a message: masked if it may identify."""
    return masked(name, Found("name", 0, len(name))) if may_identify(name) else name


def masked_text(text: str, records: Iterable[Record], detect: Detector = find_identifiers) -> str:
    """Return a text about some records for a message, with tags for what a detector finds.

    A name that a record introduces ("Mr. Harold Quimby") is then also found where it stands alone,
    and so is what a record's other columns contain.
    """
    texts = [text]
    for record in records:
        texts.insert(-1, joined_text(record))
        detect = for_record(detect, record)
    redactor = Redactor("tags", detect=detect)
    return redactor.text(BETWEEN_FIELDS.join(texts)).split(BETWEEN_FIELDS)[-1]


class Redactor:
    """Replaces identifiers, consistently for one key; can be pickled for worker processes."""

    def __init__(
        self, how: How, key: bytes | None = None, *, detect: Detector = find_identifiers
    ) -> None:
        self.how = how
        self.detect = detect
        self._key = key or secrets.token_bytes(KEY_BYTES)

    def text(self, text: str, *, owner: str = "", shared: bool = False) -> str:
        """Redact a text; `owner`, a record's group or id, determines how far its dates move.

        `shared`: the owner has other texts, whose dates move as far. Otherwise the move is chosen
        so that no date lands on another date of the text.
        """
        return self._text(text, self.detect, owner, shared=shared)

    def _text(self, text: str, detect: Detector, owner: str, *, shared: bool) -> str:
        if self.how == "surrogates":
            return _Surrogates(self._key, text, owner, detect(text), shared=shared).text
        # Replacing one identifier may uncover another, so repeat until nothing is found.
        while found := detect(text):
            text = _replaced(text, found, lambda one: f"[{one.kind.upper()}]")
        return text

    def record(self, record: Record) -> Record:
        """Redact a record's texts as one; replace an id that may identify with a keyed hash.

        That is also any id with a word that is not among PLAIN_ID.
        """
        group, detect = record.group, for_record(self.detect, record)
        owner = group or record.id
        text = self._text(joined_text(record), detect, owner, shared=group is not None)
        texts = text.split(BETWEEN_FIELDS)
        redacted = record.with_texts(texts)
        words = re.findall(r"[^\W\d_]{2,}", re.sub("(?<=[a-z])(?=[A-Z])", " ", record.id))
        if not may_identify(record.id) and PLAIN_ID.issuperset(map(str.lower, words)):
            return redacted
        # Letters only: digits would look like a chart number again.
        letters = _digest(self._key, f"id {record.id}").hex()[:16]
        as_letters = str.maketrans(string.digits, "ghijklmnop")
        return replace(redacted, id="record-" + letters.translate(as_letters))


def _replaced(text: str, found: Sequence[Found], replacement: Callable[[Found], str]) -> str:
    parts, end = [], 0
    for one in found:
        parts += [text[end : one.start], replacement(one)]
        end = one.end
    return "".join([*parts, text[end:]])


def _digest(key: bytes, message: str) -> bytes:
    return hmac.digest(key, message.encode("utf-8", "surrogatepass"), hashlib.sha256)


@cache
def _pools() -> dict[str, tuple[str, ...]]:
    """List surrogate names, leaving out words and last names that are also first names."""
    clear = {
        kind: [name for name in census(kind)[:POOL] if standing(name) is Standing.CLEAR]
        for kind in ("female.first", "male.first", "all.last")
    }
    clear["all.last"] = [name for name in clear["all.last"] if name not in first_names()]
    return {kind: tuple(names) for kind, names in clear.items()}


@cache
def _ranks(kind: str) -> dict[str, int]:
    return {name: rank for rank, name in enumerate(census(kind)[:POOL])}


class _Surrogates:
    """One text with every identifier replaced by another of its kind."""

    def __init__(
        self, key: bytes, text: str, owner: str, found: Sequence[Found], *, shared: bool
    ) -> None:
        self._key = key
        written = [(one.kind, text[one.start : one.end]) for one in found]
        self._names = {
            word.lower()
            for kind, name in written
            for word in _NAME_WORD.findall(name)
            if kind == "name" and len(word) > 2
        }
        self._originals = {name for _, name in written}
        dates = [date for kind, date in written if kind in ("date", "month_year")]
        self._day_first = is_day_first(dates)
        # A shared move depends on nothing but the owner, so that it is the same for all its texts.
        self._days = self._choose_days(owner, [] if shared else dates)
        self.text = _replaced(text, found, lambda one: self._surrogate(one, text))

    def _surrogate(self, one: Found, text: str) -> str:
        written = text[one.start : one.end]
        if one.kind == "name":
            return _NAME_WORD.sub(lambda match: self._name(match[0]), written)
        if one.kind in ("date", "month_year"):
            return shifted(written, self._days, day_first=self._day_first) or "[DATE]"
        if one.kind == "address":
            return _ADDRESS_WORD.sub(self._address_word, written)
        if one.kind == "age":
            return "90+"  # the category that Safe Harbor prescribes
        if one.kind in ("email", "url"):
            first, last = (self._pick(kind, written) for kind in ("female.first", "all.last"))
            if "@" in written[1:]:
                return f"{first}.{last}@example.org"
            if re.search(r"[/:]|www|\.\w{2,}\Z", written) and written[0] != "@":
                return f"https://example.org/{last}"
            return f"{written[0] if written[0] == '@' else ''}{first}_{last}"  # a user's name
        if one.kind == "ip":
            return "10." + ".".join(str(byte) for byte in _digest(self._key, written)[:3])
        return self._scrambled(written, letters=one.kind != "phone")  # keep the x of "x204"

    def _choose_days(self, owner: str, dates: Sequence[str]) -> int:
        """Choose how far dates move, so that none lands on another original date."""
        found = {day for date in dates if (day := day_of(date, day_first=self._day_first))}
        bare = {(day.month, day.day) for day in found if day.year == ANY_YEAR}
        for attempt in range(FARTHEST_DAYS):
            number = int.from_bytes(_digest(self._key, f"days {attempt} {owner}")[:8], "big")
            days = (1 + number // 2 % FARTHEST_DAYS) * (1 if number % 2 else -1)
            later = (day + datetime.timedelta(days) for day in found)
            if any(day in found or (day.month, day.day) in bare for day in later):
                continue  # would hit an original day, perhaps in another spelling
            moved = (shifted(date, days, day_first=self._day_first) for date in dates)
            if not any(date in self._originals for date in moved):
                break
        return days

    def _name(self, word: str) -> str:
        """Return the surrogate of one word of a name, in the same capitalisation.

        It depends only on the word and the key, so it is the same throughout a data set.
        """
        small = word.lower()
        if small in cues("particles"):
            return word
        if len(word) < 4 and standing(small) < Standing.WORD:
            return self._scrambled(word)  # a typist's initials
        if len(word) == 1:
            return string.ascii_uppercase[_digest(self._key, f"initial {small}")[0] % 26]
        women, men = (_ranks(kind).get(small, POOL) for kind in ("female.first", "male.first"))
        last = _ranks("all.last").get(small, POOL)
        kind = "female.first" if women <= men else "male.first"
        return self._like(word, self._pick("all.last" if last <= min(women, men) else kind, small))

    def _pick(self, kind: str, word: str) -> str:
        """Choose a name that does not contain any of the original names."""
        pool = _pools()[kind]
        start = int.from_bytes(_digest(self._key, f"{kind} {word}")[:8], "big")
        names = (pool[(start + step) % len(pool)] for step in range(len(pool)))
        hidden = {*self._names, word}
        return next(name for name in names if not any(each in name for each in hidden))

    @staticmethod
    def _like(word: str, name: str) -> str:
        return name.upper() if word.isupper() else name if word.islower() else name.capitalize()

    def _address_word(self, match: re.Match[str]) -> str:
        if match["kept"]:
            return match[0]
        if match["coded"]:
            return self._scrambled(match[0], letters=match[0].isupper())
        return self._like(match[0], self._pick("all.last", match[0].lower()))

    def _scrambled(self, written: str, *, letters: bool = True) -> str:
        """Replace digits and letters, keeping the shape; punctuation does not change the result."""
        written, ending = _FILE_ENDING.fullmatch(written).groups()  # type: ignore[union-attr]
        bare = "".join(filter(str.isalnum, written))
        for attempt in range(100):
            numbers, new = self._numbers(f"{attempt} {bare}"), ""
            for before, char in zip(" " + written, written, strict=False):
                if char.isdigit():
                    leads = char != "0" and not before.isdigit()
                    new += str(1 + next(numbers) % 9 if leads else next(numbers) % 10)
                elif char.isalpha() and letters:
                    letter = string.ascii_lowercase[next(numbers) % 26]
                    new += letter.upper() if char.isupper() else letter
                else:
                    new += char
            if new + ending not in self._originals:
                break
        return new + ending

    def _numbers(self, message: str) -> Iterator[int]:
        """Yield an endless stream of bytes determined by the key and a message."""
        for block in itertools.count():
            yield from _digest(self._key, f"{block} {message}")
