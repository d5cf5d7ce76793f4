"""Find people and numbers that are known beforehand: a list of names, a record's other columns.

    Roster.read(Path("staff.csv")).find("seen by okonkwo, dob 4.3.31")

A roster knows names ("Okonkwo, Adaeze" in either order, also each part alone), numbers (chart
numbers, telephones, with any separators) and birth dates (in any spelling). Case and accents do not
matter. A part of a name that is short or also a word ("Long", "Mark") counts only where it is
written like a name. A text is searched in time linear in its length, whatever the size of the
roster. A roster is never written, printed or logged.
"""

import csv
import datetime
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from clingpt.base.errors import DataError
from clingpt.base.remember import remember_words
from clingpt.privacy.dates import MONTHS
from clingpt.privacy.identifiers import Found
from clingpt.privacy.names import Standing, cues, standing

LONGEST = 6  # words of a name
SHORT = 3  # letters of a name that is too short to count in lower case
SHORTEST_NUMBER = 5  # letters and digits: fewer would be found in values and years
MOST_GROUPS = 5  # of a number: "943 476 59 19"
SUFFIXES = (".csv", ".tsv")

# Which columns identify people, by names that exports use (letters and digits only).
_COLUMNS = {
    "name": "name names patient patientname ptname fullname firstname lastname middlename surname"
    " forename givenname familyname maidenname alias nickname provider providername attending"
    " attendingname attendingphysician physician physicianname clinician doctor doctorname nurse"
    " nursename author authorname consultant surgeon pcp gp resident referringphysician"
    " referringprovider orderingprovider signedby dictatedby transcribedby cosigner nextofkin kin"
    " contact contactname emergencycontact guarantor mother father spouse staff staffname member",
    "number": "mrn medicalrecordnumber medrecno chart chartnumber chartno hospitalnumber hospno"
    " patientid patid patientnumber personid subjectid hadmid encounterid visitid csn fin account"
    " accountnumber acct accession accessionnumber specimen ssn socialsecuritynumber nhs nhsnumber"
    " nhsno chi policy policynumber memberid insuranceid licencenumber licensenumber npi"
    " phone phonenumber telephone tel mobile cell cellphone homephone workphone fax pager"
    " email emailaddress",
    "date": "dob birthdate dateofbirth birthday birth dod dateofdeath deathdate",
    "place": "address street streetaddress address1 address2 addressline1 city town zip zipcode"
    " postcode postalcode",
}
# Of these, some hold the name of a drug, a disease or a licence instead of a person's.
_VAGUE = frozenset("name names alias author authorname contact member resident staff".split())
KIND_OF_COLUMN = {name: kind for kind, names in _COLUMNS.items() for name in names.split()}
_FIRST = frozenset("firstname forename givenname".split())
_LAST = frozenset("lastname surname familyname".split())

_WORD = re.compile(r"[^\W\d_]+|\d+")
_SIGNS = r"[ \t.,'’^/_-]{0,3}"
_BETWEEN_WORDS = re.compile(_SIGNS)
_BETWEEN_GROUPS = re.compile(r"[ .()/-]{0,2}")
_BETWEEN_DATES = re.compile(r"[ .,/'’-]{0,3}")
_MONTH_NUMBER = {name.lower(): number for number, name in enumerate(MONTHS, 1)}
_MONTH_NUMBER |= {name[:3]: number for name, number in _MONTH_NUMBER.items()} | {"sept": 9}
_ORDINALS = frozenset(("st", "nd", "rd", "th", "of", "the"))
_TITLES = frozenset("dr mr mrs ms miss md rn np pa do phd prof jr sr ii iii".split())
_ISO = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})(?:[T ].*)?")
_DATE = re.compile(r"\d{1,4}[-/. ]\w{1,9}[-/. ,]{1,2}\d{2,4}(?:[T ].*)?|\d{8}")


@remember_words(1 << 16)
def fold(word: str) -> str:
    """Return a word without accents and in lower case: "Müller" as "muller", "ß" as "ss"."""
    small = word.casefold()
    if small.isascii():
        return small
    parts = unicodedata.normalize("NFKD", small.translate(_LETTERS))
    return "".join(char for char in parts if not unicodedata.combining(char))


_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe"})


@dataclass(eq=False)  # hashed by identity
class Roster:
    """Known names, numbers, birth dates and places, in forms that can be looked up."""

    names: set[tuple[str, ...]] = field(default_factory=set)  # folded words, of two or more
    places: set[tuple[str, ...]] = field(default_factory=set)
    parts: dict[str, str] = field(default_factory=dict)  # words that count alone -> their kinds
    starts: set[str] = field(default_factory=set)  # first words of `names` and `places`
    numbers: set[str] = field(default_factory=set)  # folded letters and digits
    dates: set[datetime.date] = field(default_factory=set)
    too_short: int = 0  # entries that would be found everywhere

    def __bool__(self) -> bool:
        return bool(self.names or self.places or self.parts or self.numbers or self.dates)

    def __repr__(self) -> str:  # the entries must not reach a message or a log
        return f"<Roster of {len(self.names) + len(self.parts) + len(self.numbers)} entries>"

    @classmethod
    def read(cls, path: Path) -> "Roster":
        """Read one name or number a line, or a .csv or .tsv whose header names its columns.

        Raises DataError if the file cannot be read, or has no entry that can be looked for.
        """
        roster = cls()
        try:
            text = path.read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise DataError(f"cannot read the names of --phi_known={path}: {reason}") from None
        if path.suffix.lower() in SUFFIXES:
            roster._read_table(path, text)
        else:
            for line in text.splitlines():
                roster.add(line)
        if not roster:
            raise DataError(
                f"--phi_known={path} has no entry to look for; write one name, number or birth "
                "date a line, or a .csv with columns such as name, mrn, dob"
            )
        return roster

    def _read_table(self, path: Path, text: str) -> None:
        mark = "\t" if path.suffix.lower() == ".tsv" else ","
        rows = csv.DictReader(text.splitlines(), delimiter=mark)
        known = {name: kind for name in rows.fieldnames or () if (kind := kind_of_column(name))}
        if not known:
            raise DataError(
                f"--phi_known={path} has no column with a known name; call its columns name, "
                "first_name, last_name, mrn, dob, phone, email or address"
            )
        for row in rows:
            self.add_row({name: row.get(name) for name in known})

    def add_row(self, row: Mapping[str, object]) -> None:
        """Add the cells of a row, by the names of their columns."""
        first = last = ""
        for name, value in row.items():
            kind = kind_of_column(name)
            if value is None or not kind:
                continue
            text = (
                str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
            )
            self.add(text, kind)
            first = text if plain(name) in _FIRST else first
            last = text if plain(name) in _LAST else last
        if first and last:
            self.add(f"{last}, {first}", "name")

    def add(self, entry: str, kind: str | None = None) -> None:
        """Add an entry; `kind` is name, number, date or place, and None infers it from the form."""
        entry = entry.strip()
        if not entry:
            return
        if kind in (None, "date") and (dates := parse_dates(entry)):
            self.dates |= dates
        elif kind == "place":
            self._add_place(entry)
        elif kind == "number" or (kind != "date" and any(map(str.isdigit, entry))):
            self._add_number(entry)
        elif kind != "date":
            self._add_name(entry)

    def _add_number(self, entry: str) -> None:
        if "@" in entry:
            return  # the rules find all e-mail addresses
        bare = fold("".join(filter(str.isalnum, entry))).lstrip("0")
        if len(bare) < SHORTEST_NUMBER or not any(map(str.isdigit, bare)):
            self.too_short += 1
        else:
            self.numbers.add(bare)

    def _add_place(self, entry: str) -> None:
        words = tuple(fold(word) for word in _WORD.findall(entry))
        if len(words) > 1:
            self.places.add(words)
            self.starts.add(words[0])
        elif words and words[0].isdigit():
            self._add_number(entry)
        elif words:
            self.parts.setdefault(words[0], "address")

    def _add_name(self, entry: str) -> None:
        last, comma, first = entry.partition(",")
        sides = [_words_of_name(side) for side in ((last, first) if comma else (entry,))]
        words = [word for side in sides for word in side]
        if not any(len(word) > 1 for word in words):
            self.too_short += 1
            return
        for size in range(2, min(len(words), LONGEST) + 1):
            orders = [words[:size], words[-size:]]
            if comma:
                orders.append([*sides[1], *sides[0]][:size])
            else:  # "Adaeze Okonkwo" as "Okonkwo, Adaeze" too
                orders.append([words[-1], *words[: size - 1]])
            for order in orders:
                if sum(len(word) > 1 for word in order) > 1 or len(order) > 2:
                    self.names.add(tuple(order))
                    self.starts.add(order[0])
        if comma and sides[0] and sides[1]:  # "Adaeze … Okonkwo" without the second forename
            self.names.add((sides[1][0], *sides[0]))
            self.starts.add(sides[1][0])
        if not comma and len(words) > 2:
            self.names.add((words[0], words[-1]))
        self.parts.update((word, "name") for word in words if len(word) > 1)

    def find(self, text: str) -> list[Found]:
        """Find the entries in a text, in order and without overlaps."""
        words = list(_WORD.finditer(text))
        folded = [fold(word[0]) for word in words]
        found: list[Found] = []
        at = 0
        while at < len(words):
            kind, end = self._at(text, words, folded, at)
            if kind:
                found.append(Found(kind, words[at].start(), words[end - 1].end()))
            at = max(end, at + 1)
        return found

    def _at(
        self, text: str, words: Sequence[re.Match[str]], folded: Sequence[str], at: int
    ) -> tuple[str, int]:
        """Return the kind of the entry that starts at a word, and the place after its last word."""
        if folded[at] in self.starts:
            end = _reach(text, words, at, LONGEST, _BETWEEN_WORDS)
            for stop in range(end, at + 1, -1):
                if tuple(folded[at:stop]) in self.names:
                    return "name", stop
            end = _reach(text, words, at, 2 * LONGEST, _BETWEEN_WORDS)
            for stop in range(end, at, -1):
                if tuple(folded[at:stop]) in self.places:
                    return "address", stop
        if (kind := self.parts.get(folded[at])) and _is_written_as_name(text, words, at):
            return kind, at + 1
        if self.dates and (end := self._date_at(text, words, folded, at)):
            return "date", end
        if self.numbers and (end := self._number_at(text, words, folded, at)):
            return "record_number", end
        return "", at

    def _number_at(
        self, text: str, words: Sequence[re.Match[str]], folded: Sequence[str], at: int
    ) -> int:
        """Return the place after a known number that starts at a word, or 0."""
        if not any(word[0].isdigit() for word in folded[at : at + 2]) or _is_inside(
            text, words, at
        ):
            return 0
        joined, best = "", 0
        for place in range(at, _reach(text, words, at, 2 * MOST_GROUPS, _BETWEEN_GROUPS)):
            joined += folded[place]
            whole = place + 1 == len(words) or not _is_inside(text, words, place + 1)
            if whole and joined.lstrip("0") in self.numbers:
                best = place + 1
        return best

    def _date_at(
        self, text: str, words: Sequence[re.Match[str]], folded: Sequence[str], at: int
    ) -> int:
        """Return the place after a known date that starts at a word, or 0."""
        if len(folded[at]) == 8 and folded[at].isdecimal():
            token = folded[at]
            for year, month, day in (
                (token[:4], token[4:6], token[6:]),
                (token[4:], token[2:4], token[:2]),
                (token[4:], token[:2], token[2:4]),
            ):
                if self._knows(year, month, day):
                    return at + 1
            return 0
        parts: list[str] = []
        for place in range(at, min(at + 6, len(words))):
            if place > at:
                gap = text[words[place - 1].end() : words[place].start()]
                if not _BETWEEN_DATES.fullmatch(gap):
                    return 0
            if folded[place] in _ORDINALS:
                continue
            parts.append(folded[place])
            if len(parts) == 3:
                one, two, three = parts
                orders = ((three, two, one), (three, one, two), (one, two, three))
                return place + 1 if any(self._knows(*order) for order in orders) else 0
        return 0

    def _knows(self, year: str, month: str, day: str) -> bool:
        number = _MONTH_NUMBER.get(month) or _number(month)
        if not (year.isdecimal() and _is_short(day) and len(year) in (2, 4)):
            return False
        years = [int(year)] if len(year) == 4 else [1900 + int(year), 2000 + int(year)]
        return any(_date(each, number, int(day)) in self.dates for each in years)


def _number(digits: str) -> int:
    return int(digits) if digits.isdecimal() else 0


def _is_short(digits: str) -> bool:
    return digits.isdecimal() and len(digits) <= 2


def _date(year: int, month: int, day: int) -> datetime.date | None:
    try:
        return datetime.date(year, month, day)
    except ValueError:
        return None


def plain(name: str) -> str:
    """Return a column's name in lower case without spaces and punctuation, as in _COLUMNS."""
    return re.sub(r"[\W_]+", "", name.lower())


@lru_cache(maxsize=1 << 12)
def kind_of_column(name: str) -> str | None:
    """Return what a column contains, by its name: name, number, date or place; else None."""
    return KIND_OF_COLUMN.get(plain(name))


def identifies(name: str, cells: Sequence[object]) -> bool:
    """Return whether a column identifies people, by its name and, if that is vague, its cells."""
    if plain(name) not in _VAGUE:
        return kind_of_column(name) is not None
    return 2 * sum(_is_name(str(cell)) for cell in cells) > len(cells)


def _is_name(text: str) -> bool:
    """Return whether a text is a person's name: "Lee, Ann M", but not "Parkinson disease"."""
    found = [standing(word.lower()) for word in _WORD.findall(text) if len(word) > 1]
    listed = Standing.CLEAR in found or Standing.WORD in found
    return listed and len(found) < LONGEST and Standing.NONE not in found


def parse_dates(text: str) -> set[datetime.date]:
    """Read a birth date: 1931-03-04, 4 March 1931, 3/4/1931 (which may be either of two days)."""
    if match := _ISO.fullmatch(text):
        one = _date(*map(int, match.groups()))
        return {one} if one else set()
    words = [fold(word) for word in _WORD.findall(text)[:3]]
    if not _DATE.fullmatch(text) or len(words) < 3:
        return set()
    first, second, year = (_MONTH_NUMBER.get(word) or _number(word) for word in words)
    if year < 100:
        year += 1900 if year > datetime.date.today().year % 100 else 2000
    readings = {_date(year, first, second), _date(year, second, first)}
    if words[0].isalpha():
        readings = {_date(year, first, second)}
    elif words[1].isalpha():
        readings = {_date(year, second, first)}
    return {day for day in readings if day}


def _words_of_name(text: str) -> list[str]:
    words = [fold(word) for word in _WORD.findall(text)]
    return [word for word in words if word not in _TITLES and not word.isdigit()]


def _reach(
    text: str, words: Sequence[re.Match[str]], at: int, most: int, between: re.Pattern[str]
) -> int:
    """Return the place after the last word that may belong to an entry starting at a word."""
    end = at + 1
    while end < len(words) and end - at < most:
        if not between.fullmatch(text, words[end - 1].end(), words[end].start()):
            break
        end += 1
    return end


def _is_inside(text: str, words: Sequence[re.Match[str]], at: int) -> bool:
    """Whether a word continues a longer run of letters and digits: the 12 of "A12"."""
    start = words[at].start()
    return start > 0 and text[start - 1].isalnum()


def _is_written_as_name(text: str, words: Sequence[re.Match[str]], at: int) -> bool:
    """Whether one word of a known name stands for the person: not "long", not "Mark the site"."""
    word = words[at][0]
    small = fold(word)
    rating = standing(word.lower())
    doubtful = len(word) <= SHORT or rating in (Standing.NONE, Standing.WORD)
    if not doubtful:
        eponym = small in cues("eponyms") or _follows(text, words, at, cues("not_persons"))
        return not eponym
    if not word[0].isupper() or _is_inside(text, words, at):
        return False
    start = words[at].start()
    before = text[max(0, start - 3) : start].rstrip(" ")[-1:] or ("" if start < 3 else " ")
    begins = before in ("", ".", "?", "!", "\n", "\0", ":")
    shouted = (
        word.isupper()
        and len(word) > 1
        and (
            (at > 0 and words[at - 1][0].isupper())
            or (at + 1 < len(words) and words[at + 1][0].isupper())
        )
    )
    titled = at > 0 and words[at - 1][0].lower() in cues("titles")
    return titled or not (begins or shouted or _follows(text, words, at, cues("not_persons")))


def _follows(text: str, words: Sequence[re.Match[str]], at: int, known: Collection[str]) -> bool:
    return at + 1 < len(words) and words[at + 1][0].lower() in known
