"""Recognise clinical notes, and find identifiers in them by structure and shape.

In a note, most identifiers have a cue beside them: a label ("MRN: QB-61234", "HPCSA MP0788213"),
the header of a table, the number of an HL7 field, or the footer of a dictation ("JQR:smith
D:07/20/83"). A number that looks like a code is also an identifier, unless its label is a vital
sign, a test, a score or a measurement. So are streets, towns and telephone numbers of many
countries. The rules do not depend on line breaks, because most fields of a record are cleaned to
one line.

The labels are in note_words.txt, the patterns in note_patterns.py; note_names.py finds names.
"""

import re
from collections.abc import Iterator, Sequence, Set
from functools import cache, lru_cache
from typing import NamedTuple

import phonenumbers

from clingpt.base.errors import ConfigError
from clingpt.privacy import note_patterns as patterns
from clingpt.privacy.dates import day_of
from clingpt.privacy.keyword_rules import PUBLIC
from clingpt.privacy.names import Standing, cues, plain, standing
from clingpt.text.tokenizer import packaged_file


def is_note(words: Sequence[str], text: str, kinds: Set[str]) -> bool:
    """Whether a text is a clinical note rather than published prose.

    `words` are the text's words in lower case, `kinds` the kinds of identifiers that the strict
    rules found. Shorthand, headings and identifiers score points for a note, and words of research
    points against it.
    """
    points = min(4, len(cues("note_words").intersection(words)))
    points += sum(1 if kind == "date" else 2 for kind in kinds - {"month_year", "url"})
    points -= min(6, len(patterns.RESEARCH_WORDS.intersection(words)))
    if len(words) > patterns.TERSE_WORDS:
        share = sum(map(patterns.FUNCTION_WORDS.__contains__, words)) / len(words)
        points += 2 * (share < patterns.TERSE)
    if points <= -4:
        return False  # nearly all abstracts end here and skip the slower searches below
    if "/" in text:
        slashed = {text[m.start() - 1 : m.end()].lower() for m in patterns.SLASHED.finditer(text)}
        points += min(3, len(slashed))
    if ":" in text:
        headings = {part[-20:].rpartition(" ")[2].lower() for part in text.split(":")[:-1]}
        points += min(4, len(cues("note_headings") & headings))
    if not 0 <= points < patterns.FEWEST_POINTS:
        return points >= patterns.FEWEST_POINTS  # the last search adds at most three points
    return points + min(3, len(patterns.CLINICAL.findall(text))) >= patterns.FEWEST_POINTS


class Label(NamedTuple):
    """A label in a text: words before a colon or another sign, and where its value starts."""

    kinds: frozenset[str]  # of LABEL_KINDS; empty for an unknown label
    words: str  # at most three, in lower case
    value: int  # position in the text
    sign: str  # ": ", "#", " no. "


@cache
def _labels() -> dict[str, frozenset[str]]:
    table: dict[str, set[str]] = {}
    for kind in patterns.LABEL_KINDS:
        for label in cues(f"{kind}_labels"):
            table.setdefault(label, set()).add(kind)
    return {label: frozenset(kinds) for label, kinds in table.items()}


def kinds_of_label(label: str) -> frozenset[str]:
    """Return the kinds of a label's longest known ending: those of "ref" for "lab ref".

    A label may have several kinds; it has none if no ending of up to three words is known.
    """
    words = label.lower().replace("’", "'").split()[-3:]
    table = _labels()
    for first in range(len(words)):
        name = "_".join(word.strip(".,()") for word in words[first:])
        if kinds := table.get(name) or table.get(name.replace(".", "")):
            return kinds
    return frozenset()


def labels(text: str) -> Iterator[Label]:
    """Yield the labels of a text: words before a colon, "#", "|", "=" or "no."."""
    for sign in patterns.LABEL_SIGN.finditer(text):
        start = max(0, sign.start() - patterns.LONGEST_LABEL)
        before = re.split(r"[\n\t|:;,\0]|\s{2,}", text[start : sign.start()])[-1]
        words = patterns.LABEL_WORD.findall(before)
        if words and before.rstrip(" .)").endswith(words[-1].rstrip(".")):
            label = " ".join(words[-3:])
            numbered = "#" in sign[0] or sign[0].strip()[:1] in ("n", "N")
            kinds = kinds_of_label(label)
            if numbered and (more := _labels().get(f"{words[-1].lower()}_no")):
                kinds = more
            yield Label(kinds, label.lower(), sign.end(), sign[0])


def labelled_codes(text: str, found: Sequence[Label]) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of codes after a label that is not a vital sign, a test or a score."""
    for label in found:
        match = patterns.CODE_VALUE.match(text, label.value)
        if not match or "org" in label.kinds:
            continue
        value = match["value"]
        if _is_measured(text, value, match.end("value")):
            continue
        fewest = _fewest_digits(label, value)
        if fewest and fewest <= sum(map(str.isdigit, value)) <= patterns.MOST_DIGITS_OF_A_CODE:
            yield match.span("value")


def _fewest_digits(label: Label, value: str) -> int | None:
    """Return how many digits a value needs to be a code; None if its label rules that out."""
    if "code" in label.kinds:
        is_common = label.words.split()[-1] in patterns.COMMON_LABELS
        fewest = 4 if is_common and value.isdigit() else 3
        return fewest - ("#" in label.sign or not value.isdigit())
    if label.kinds and ("#" not in label.sign or "no" in label.kinds):
        return None
    # After an unknown label, only a value that can hardly be anything but a code counts.
    if "|" in label.sign or re.search(r"[./x ]", value):
        return None
    return 6 if value.isdigit() else 5


def _is_measured(text: str, value: str, end: int) -> bool:
    """Whether a value is a date, a time, an amount or the number of a trial or a publication."""
    if _is_date(value) or patterns.MEASURED.fullmatch(value) or value.upper().startswith(PUBLIC):
        return True
    return (
        value.isdigit()
        and len(value) < patterns.SURE_DIGITS
        and not patterns.NOT_MEASURED.match(text, end)
    )


def _is_date(value: str) -> bool:
    return bool(patterns.DATE_LIKE.fullmatch(value)) and (
        len(value) < 6 or day_of(value) is not None
    )


def codes_after_words(
    text: str, words: Sequence[re.Match[str]], small: Sequence[str]
) -> Iterator[tuple[int, int]]:
    """Yield codes after a label without a sign: "GMC 6098712", "Medicare 2FH7-QR8-LN41"."""
    table = _labels()
    for place, word in enumerate(small):
        if "code" not in table.get(word, ()):
            continue
        gap = patterns.AFTER_LABEL_WORD.match(text, words[place].end())
        match = (
            patterns.CODE_VALUE.match(text, gap.end())
            if gap and gap.end() > words[place].end()
            else None
        )
        if not match or _is_measured(text, match["value"], match.end("value")):
            continue
        value = match["value"]
        fewest = 4 if word not in patterns.WEAK_LABELS else 5 if word in ("id", "pin") else 6
        if value.upper() == value and sum(map(str.isdigit, value)) >= fewest:
            yield match.span("value")


def bare_codes(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield (kind, start, end) of codes, web names and birth dates that have no label."""
    for match in patterns.PLATE.finditer(text):
        yield "vehicle", *match.span("value")
    yield from _web_names(text)
    for match in patterns.LAST_FOUR.finditer(text):
        yield "record_number", *match.span(match.lastgroup or 0)
    for match in patterns.BORN_AFTER_WORD.finditer(text):
        yield "date", *match.span("value")
    for pattern in patterns.BARE_CODES:
        for match in pattern.finditer(text):
            if _is_code(text, match[0], *match.span()):
                yield "record_number", *match.span()


def _web_names(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield (kind, start, end) of pages without "www", user names, and file names with numbers."""
    for pattern in patterns.WEB:
        for match in pattern.finditer(text):
            named = match[0].islower() or any(map(str.isdigit, match[0]))
            if "_" in match[0] and (
                not named or re.match(r"\.\w", text[match.end() : match.end() + 2])
            ):
                continue  # a file name without a number (fax_cover.tif), a label (Guest_family)
            yield "url", *match.span("value" if "value" in pattern.groupindex else 0)
    for match in patterns.FILE.finditer(text):
        if sum(map(str.isdigit, match[0])) > 2:
            yield "record_number", *match.span()


def _is_code(text: str, value: str, start: int, end: int) -> bool:
    """Whether a match of BARE_CODES is a code, not an amount, a dose, a range or a date."""
    digits = sum(map(str.isdigit, value))
    if digits < (6 if value[0].isdigit() else 4) or patterns.KNOWN_CODES.fullmatch(value):
        return False
    if value.isdigit() and (
        value.endswith("000") or value.startswith(("19", "20")) and digits == 6
    ):
        return False
    if re.fullmatch(r"[\d.-]+", value) and not value.isdigit():
        groups = re.split(r"[-.]", value)
        # 10-20-30 is a taper, 2004-2005 a range, 12.5-25.0 a dose.
        ranges = len(groups) == 2 and (len(groups[0]) == len(groups[1]) or "." in value)
        ranges = ranges or (len(groups) == 2 and digits < 7)
        if ranges or _is_date(value) or min(map(len, groups[:2])) < 2:
            return False
        if "." in value and len(groups) < 3:
            return False
    if _is_measured(text, value, end):
        return False
    return not patterns.NO_CODE_BEFORE.search(text, max(0, start - 14), start)


def labelled_dates(text: str, found: Sequence[Label]) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of dates after their labels, also in shapes that are numbers elsewhere."""
    for label in found:
        match = patterns.DATE_VALUE.match(text, label.value) if "date" in label.kinds else None
        if match and "no" not in label.kinds:
            born = (
                label.words.replace(" ", "_") in patterns.BORN
                or label.words.split()[-1] in patterns.BORN
            )
            shaped = not match["value"].isdigit() and " " not in match["value"]
            if born or shaped or re.fullmatch(r"(?:19|20)\d{6,12}", match["value"]):
                yield match.span("value")


def labelled_phones(text: str, found: Sequence[Label]) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of labelled telephone numbers of any length: "ext. 4409"."""
    for label in found:
        match = patterns.PHONE_VALUE.match(text, label.value) if "phone" in label.kinds else None
        if match and (len(label.words) > 1 or sum(map(str.isdigit, match["value"])) >= 7):
            yield match.span("value")


def footers(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield (kind, start, end) of typists' initials ("JQR:smith") and codes in a footer."""
    for match in patterns.TYPIST.finditer(text):
        value = match["value"]
        before, after = text[max(0, match.start() - 60) : match.start()], text[match.end() :][:40]
        around = f"{before} {after}"
        last = len(text) - match.end() < 12
        if (
            value.lower() not in patterns.CLINICAL_PAIRS
            and not patterns.RATE.match(value)
            and (last or patterns.FOOTER.search(around))
        ):
            upper = value[0].isupper() or last
            if upper and len(re.split(r"[:/]", value)[1]) > 1:
                yield "name", *match.span("value")
    for match in patterns.FOOTER_CODE.finditer(text):
        yield "record_number", *match.span()


def hl7_fields(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield (kind, start, end) of identifiers in the fields of HL7 v2 segments."""
    starts = list(patterns.HL7_SEGMENT.finditer(text)) if "|" in text else []
    for number, segment in enumerate(starts):
        end = starts[number + 1].start() if number + 1 < len(starts) else len(text)
        line_end = text.find("\n", segment.start(), end)
        end = line_end if line_end >= 0 else end
        name = segment[0][:3]
        place = segment.end()
        for index, value in enumerate(text[place:end].split("|"), 1):
            if kind := patterns.HL7_FIELDS.get(name, {}).get(index):
                yield from _parts(kind, value, place)
            place += len(value) + 1


def _parts(kind: str, field: str, offset: int) -> Iterator[tuple[str, int, int]]:
    """Yield (kind, start, end) of the identifying components of one field."""
    if kind == "phone":
        if match := patterns.HL7_PART[kind].search(field):
            yield kind, offset + match.start(), offset + match.end()
        return
    place = offset
    for number, part in enumerate(re.split(r"[\^~&]", field)):
        if found := _part(kind, part, number):
            part_kind, match = found
            yield part_kind, place + match.start(), place + match.end()
        place += len(part) + 1


def _part(kind: str, part: str, number: int) -> tuple[str, re.Match[str]] | None:
    """Return the kind and the match of the identifier in a component; None if it has none."""
    if kind in ("person", "place") and part.strip().upper() in patterns.HL7_CODED:
        # Such codes name a type of identifier, but a letter in a name's third component is an
        # initial.
        initial = kind == "person" and number == 2 and len(part) == 1
        match = patterns.HL7_NAME.search(part) if initial else None
        return ("name", match) if match else None
    if kind == "person":
        code = patterns.HL7_PART["code"].fullmatch(part.strip())
        match = code or patterns.HL7_NAME.search(part)
        return ("record_number" if code else "name", match) if match else None
    match = (patterns.HL7_PLACE if kind == "place" else patterns.HL7_PART[kind]).search(part)
    names = {"code": "record_number", "place": "address"}
    return (names.get(kind, kind), match) if match else None


def table_values(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield (kind, start, end) of identifiers in the cells below a header with known labels."""
    for kinds, start, end in _table_cells(text):
        cell = text[start:end]
        digits = sum(map(str.isdigit, cell))
        if "no" in kinds or len(cell) > 80:
            continue
        if "name" in kinds and patterns.NAME_CELL.fullmatch(cell):
            yield "name", start, end
        elif "date" in kinds and patterns.DATE_VALUE.fullmatch(cell):
            yield "date", start, end
        elif "code" in kinds and digits > 2 and not _is_measured(text, cell, end):
            yield "record_number", start, end
        elif ("phone" in kinds and digits > 3) or "place" in kinds:
            yield "phone" if "phone" in kinds else "address", start, end


def _table_cells(text: str) -> Iterator[tuple[frozenset[str], int, int]]:
    """Yield (kinds of the column, start, end) of the cells below a header with known labels."""
    header: list[frozenset[str]] = []
    sign, place = "", 0
    for line in text.splitlines(keepends=True):
        if not header:
            sign = next((each for each in "|\t" if line.count(each) > 1), "")
        cells = line.rstrip("\r\n").split(sign) if sign else []
        if not header:
            kinds = [kinds_of_label(cell.strip()) for cell in cells]
            header = kinds if sum(bool(each - {"no", "org"}) for each in kinds) > 1 else []
        elif len(cells) < 2:
            header = []
        else:
            yield from _cells(header, cells, place)
        place += len(line)


def _cells(
    header: Sequence[frozenset[str]], cells: Sequence[str], place: int
) -> Iterator[tuple[frozenset[str], int, int]]:
    for kinds, cell in zip(header, cells, strict=False):
        if kinds and (bare := cell.strip()):
            start = place + cell.index(bare)
            yield kinds, start, start + len(bare)
        place += len(cell) + 1


# Addresses and towns


# Calling codes of the countries whose place names are known, and the most digits after each. Of
# Germany, Austria, France, Brazil and Japan, longer area codes are those of villages.
COUNTRIES = dict.fromkeys(
    "1 20 27 30 31 32 34 39 41 44 46 47 48 52 60 61 62 63 64 66 82 84 90 91 92 98 234 254 353 "
    "880 972".split(),
    9,
) | {"49": 3, "43": 3, "33": 3, "55": 2, "81": 3}
# A line of phonenumbers' place names: " '1201200':{'en': 'Jersey City, NJ'},".
PLACE_LINE = re.compile(
    rf"^ '({'|'.join(COUNTRIES)})(\d+)':\{{.*?'en': (?:u\()?"
    r"""(?:'((?:[^'\\\n]|\\.)+)'|"((?:[^"\\\n]|\\.)+)")""",
    re.M,
)
TOWNS_OF_AN_AREA = re.compile(r"/| - ")  # "Ballater/Aboyne", "Isle of Mull - Tobermory"
TOWN_NAME = re.compile(r"[^\W\d_]+(?:[ .'’-]{1,2}[^\W\d_]+)*")
COUNTRY_OR_STATE = frozenset(("england", "victoria", "washington"))  # although towns share the name


@cache
def towns() -> frozenset[str]:
    """Return the towns of some forty countries, lower-cased, without those that are common words.

    They are the English names in the data files of the package `phonenumbers`, which are read as
    text: importing them all takes several times as long.
    """
    index = packaged_file("phonenumbers", "phonenumbers/geodata/__init__.py")
    names, states = set[str](), set[str]()
    for path in sorted(index.parent.glob("data*.py") if index else ()):
        for country, area, single, double in PLACE_LINE.findall(path.read_text("utf-8")):
            if len(area) > COUNTRIES[country]:
                continue
            name = single or double
            if "\\" in name:
                name = name.encode("ascii", "backslashreplace").decode("unicode_escape")
            # An area code of North America whose name has no comma is that of a state or province.
            found = states if country == "1" and len(area) == 3 and "," not in name else names
            for part in TOWNS_OF_AN_AREA.split(name.partition(",")[0].lower()):
                found.add(part.partition("(")[0].strip())
    if not names:
        raise ConfigError(
            "the place names of the package phonenumbers are missing or in an unknown format; "
            "run: pip install -r requirements.txt"
        )
    return frozenset(filter(_is_town_name, names - states - COUNTRY_OR_STATE))


def _is_town_name(name: str) -> bool:
    """Whether a place name has at most four words and is not a common word (Reading, Mobile)."""
    if len(name) < 4 or not TOWN_NAME.fullmatch(name):
        return False
    words = name.split()
    if len(words) > 1 or "-" in name:
        return len(words) <= patterns.MOST_WORDS_OF_A_TOWN
    return standing(name) in (Standing.CLEAR, Standing.UNLISTED)


def find_places(
    text: str, words: Sequence[re.Match[str]], found_labels: Sequence[Label]
) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of streets, towns and post codes in a note, possibly overlapping."""
    yield from _streets(text)
    yield from _post_codes(text)
    yield from _towns_at(text, words)
    for pattern in (patterns.DISTRICT, patterns.COUNTY, patterns.AFTER_ORGANISATION):
        for match in pattern.finditer(text):
            words_of_place = {plain(word) for word in match["place"].replace(",", " ").split()}
            if not words_of_place & cues("never", "not_names", "degrees_small"):
                yield match.span("place")
    for match in patterns.TOWN_STATE.finditer(text):
        town = match["town"]
        listed = not town.isupper() or town.lower() in towns() or match[0][-1].isdigit()
        if listed and plain(town.split()[0]) not in cues("never", "not_names"):
            yield match.span()
    for label in found_labels:
        if "place" in label.kinds and "no" not in label.kinds:
            yield from _after_label(text, label.value)
    for match in patterns.ADDRESS_WORD.finditer(text):
        yield from _after_label(text, match.end())


def _streets(text: str) -> Iterator[tuple[int, int]]:
    for number, pattern in enumerate(patterns.STREETS):
        for match in pattern.finditer(text):
            # "3:51 PM. Attending Dr" and "1.5 Park" are not streets.
            if not patterns.NOT_A_STREET.search(match[0]):
                start = match.start()
                yield start, match.end()
                town = patterns.NEXT_TOWN.match(text, match.end())
                if town and number != patterns.CORNER:
                    yield start, town.end()


def _post_codes(text: str) -> Iterator[tuple[int, int]]:
    for pattern in patterns.POSTCODES:
        for match in pattern.finditer(text):
            before = patterns.BEFORE_CODE.search(text, max(0, match.start() - 60), match.start())
            yield (before or match).start(), match.end()
    for match in patterns.CODE_BEFORE_TOWN.finditer(text):
        if standing(plain(match["town"])) in (Standing.CLEAR, Standing.UNLISTED):
            yield match.span()


def _towns_at(text: str, words: Sequence[re.Match[str]]) -> Iterator[tuple[int, int]]:
    place = 0
    while place < len(words):
        end = _town_at(text, words, place)
        if end:
            yield words[place].start(), words[end - 1].end()
        place = max(place + 1, end)


def _town_at(text: str, words: Sequence[re.Match[str]], place: int) -> int:
    """Return the place after the town that starts at a place, or 0.

    A place is an index into `words`. A listed town needs a weak cue ("in", a comma, brackets); any
    other capitalised words need a phrase such as "lives in".
    """
    first = words[place]
    before = words[place - 1] if place else None
    gap = text[before.end() : first.start()] if before else ""
    cue = before[0].lower() if before and gap in (" ", ", ") else ""
    if first[0].islower():  # "came from rotherham"
        lives = cue == "in" and text.endswith("lives in ", 0, first.start())
        small = cue in ("from", "near") or lives
        name = first[0]
        known = small and len(name) > 4 and name in towns()
        return place + 1 if known and standing(name) in (Standing.CLEAR, Standing.UNLISTED) else 0
    before_town = max(0, first.start() - 48)
    sure = cue and patterns.SURE_BEFORE_TOWN.search(text, before_town, first.start())
    end = _town_end(text, words, place, towns())
    if end:
        after = text[words[end - 1].end() :][:1]
        bracketed = gap.endswith("(") and after == ")"
        # "Dr. Yellowhorse, Holbrook.", "transfer to Chowchilla?"
        ends = after in ("", *".,;)?") and (gap == ", " or cue in ("at", "to"))
        if not (cue in patterns.BEFORE_TOWN or end - place > 1 or bracketed or sure or ends):
            return 0
    elif sure:
        end = _unlisted_end(text, words, place)
        if cue == "from" and first[0].isupper() and standing(plain(first[0])) is Standing.WORD:
            return 0
    return 0 if end and patterns.ORG_AFTER.match(text, words[end - 1].end()) else end


def _town_end(text: str, words: Sequence[re.Match[str]], place: int, towns: frozenset[str]) -> int:
    """Return the place after the longest town that starts at a place, or 0."""
    for end in range(min(len(words), place + patterns.MOST_WORDS_OF_A_TOWN), place, -1):
        name = text[words[place].start() : words[end - 1].end()]
        if len(name) < 40 and name.lower() in towns and (end - place == 1 or name[0].isupper()):
            single = end - place == 1
            if single and plain(name) in cues("never", "not_names", "relations", "titles"):
                return 0
            return end
    return 0


def _unlisted_end(text: str, words: Sequence[re.Match[str]], place: int) -> int:
    """Return the place after capitalised words that may be a town on no list, or 0."""
    end = place
    while end < len(words) and end - place < 3:
        word = words[end][0]
        if end > place and text[words[end - 1].end() : words[end].start()] != " ":
            break
        if not word[0].isupper() or plain(word) in cues("never", "not_names"):
            break
        if word.isupper() and len(word) < 5:
            break  # "from ICU", "in SNF"
        end += 1
    names = [plain(word[0]) for word in words[place:end]]
    return end if any(standing(name) is not Standing.NONE for name in names) else 0


def _after_label(text: str, start: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of the address at a position: the rest of the line or of the field."""
    last = min(len(text), start + patterns.LONGEST_ADDRESS)
    stop = patterns.LABEL_END.search(text, start, last)
    value = text[start : stop.start() if stop else last].rstrip(" .,")
    if len(value) > 2 and any(char.isupper() or char.isdigit() for char in value):
        yield start, start + len(value)


# Telephone numbers


def find_phones(text: str) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of telephone numbers in a note, possibly overlapping."""
    for match in patterns.PHONE_CANDIDATE.finditer(text):
        number = match[0].rstrip()
        digits = sum(map(str.isdigit, re.split("[xe]", number, maxsplit=1)[0]))
        if not patterns.FEWEST_DIGITS <= digits <= patterns.MOST_DIGITS:
            continue
        if number.count("(") != number.count(")"):
            continue
        before = max(0, match.start() - 28)
        if patterns.PHONE_INTRODUCED.search(text, before, match.start()) or _is_valid(number):
            yield match.start(), match.end()
    for match in patterns.PHONE_LOCAL.finditer(text):
        yield match.span()
    for match in patterns.PHONE_SHORT.finditer(text):
        yield match.span("value" if match["value"] else "glued" if match["glued"] else "desk")


@lru_cache(maxsize=1 << 12)
def _is_valid(number: str) -> bool:
    """Whether a number is possible with its country code, or in a layout of one of REGIONS."""
    number = re.split(r"[,\s]*[xeo]", number, maxsplit=1)[0]  # without its extension
    if number.startswith("+"):
        regions: list[str | None] = [None]
    elif any(layout.fullmatch(number) for layout in patterns.PHONE_LAYOUTS):
        regions = [*patterns.REGIONS]
    else:
        return False
    return any(_parses(number, region) for region in regions)


def _parses(number: str, region: str | None) -> bool:
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.is_possible_number(parsed)
