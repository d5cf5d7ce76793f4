"""Unsupported numbers, units, comparators and negations in a generated clinical text.

Comparing strings finds four errors that can harm a patient: a number that is not in the source, a
number with a different unit or comparator than in the source, and a sentence of the source with a
"not" added or dropped. Text copied word for word is never flagged. A wrong drug, a wrong group or a
rephrased claim goes unnoticed, so a text without flags can still be wrong.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import Match, SequenceMatcher
from heapq import nlargest
from typing import Literal, NamedTuple

from clingpt.text.sentences import split_sentences

FlagKind = Literal["number", "unit", "comparator", "negation", "term"]  # term: see terms.py
KINDS: tuple[FlagKind, ...] = ("number", "unit", "comparator", "negation")
MESSAGES: dict[FlagKind, str] = {
    "number": "the report does not contain this number",
    "unit": "the report has this number with a different unit",
    "comparator": "the report has this number with a different comparator",
    "negation": "the report and the reply differ in a negation",
    "term": "neither the report nor the question contains this term",
}
Place = tuple[int, int, FlagKind]

TOKEN = re.compile(r"[0-9]+(?:[.,·][0-9]+)*|\w+(?:['’]\w+)*|[^\w\s]")
LETTER, HYPHEN = r"[^\W\d_]", "[-‐‑–]"
NUMBER = re.compile(
    # Does not match the 2 of CD2, O(2), m(-2), 10(2) or 10^2, nor the 3 of 1.2.3.
    rf"(?<!\w)(?<!{LETTER}\()(?<!{LETTER}\(-)(?<!10\()(?<!10\(-)(?<!\^)(?<!\^-)(?<![0-9][.·])"
    r"(?:(?:[0-9]{1,3}(?:(?:,[0-9]{3})+|(?:\s[0-9]{3})+)(?!\w)|[0-9]+)(?:[.·][0-9]+)?|[.·][0-9]+)"
)
MINUS = re.compile(r"(?<=[\s(\[,:;=<>≤≥~][-−])")
NAME_BEFORE = re.compile(rf"(?<={LETTER}{HYPHEN})")  # IL-6
WORD_BEFORE = re.compile(rf"(?<=[a-z]{{3}}{HYPHEN})")  # day-7
NAME_AFTER = re.compile(rf"{LETTER}|{HYPHEN}(?:[A-Z]|{LETTER}{{1,2}}(?![^\W_]))")  # 18F, 5-HT
WORD_AFTER = re.compile(rf"{HYPHEN}{LETTER}")
LISTED = re.compile(r"(?:^|[,;:.]\s|\band\s)\(?(?=[1-9]\)\s)|^(?=[1-9]\.\s)")  # (1) and (2)
AGE = re.compile(r"\b(?:age[ds]?|younger\sthan|older\sthan)\s[^0-9.,;]{0,8}$")

ONES = "one two three four five six seven eight nine".split()
TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
SPELLED_VALUES = {word: n for n, word in enumerate(ONES + TEENS, 1)}
SPELLED_VALUES |= {word: 10 * n for n, word in enumerate(TENS, 2)}
BELOW_100 = rf"(?:(?:{'|'.join(TENS)})[-\s](?:{'|'.join(ONES)})|{'|'.join(SPELLED_VALUES)})\b"
HUNDREDS = rf"(?:{'|'.join(ONES)})\shundred\b(?:\s(?:and\s)?{BELOW_100})?"
SPELLED = re.compile(rf"\b(?:{HUNDREDS}|{BELOW_100})", re.IGNORECASE)
# Not "two groups" or "three methods": writers often count what the source only lists.
COUNTED = re.compile(r"\s(?:(?:patient|subject|case|death|dose|tablet)s|men|women|people)\b")

# Between bars: the name of a unit, then its other spellings; _ is an optional space.
UNITS = """
    % percent per_cent pct | pg | ng | µg μg ug mcg microg microgram micrograms
    | mg milligram milligrams | g gm gram grams | kg Kg kilogram kilograms | µl μl µL μL microl
    | ml mL milliliter milliliters millilitre millilitres cc | dl dL | l L liter liters litre litres
    | pmol | nmol | µmol μmol umol micromol | mmol | mol | mEq meq | IU | mIU | U unit units
    | ms msec | s sec secs seconds | min mins minute minutes | h hr hrs hour hours hourly
    | day days d daily | week weeks wk wks weekly | month months mo mos monthly
    | year years yr yrs y yearly | nm | µm μm | mm | cm | m | km
    | mm2 mm² mm(2) mm^2 | cm2 cm² cm(2) cm^2 | m2 m² m(2) m^2 | mm3 mm³ mm(3) mm^3
    | cm3 cm³ cm(3) cm^3 | mmHg mm_Hg | cmH2O cm_H2O cm_H(2)O | kPa | °C °_C ºC degrees_C
    | ° º degrees | beat/min bpm | beat beats | Hz | kHz | MHz | dB | kcal | Gy | cGy | mSv
"""
UNIT_NAMES = {
    one.replace("_", ""): names[0] for names in map(str.split, UNITS.split("|")) for one in names
}
TIMES = ("s", "min", "h", "day", "week", "month", "year")
SPELLINGS = "|".join(map(re.escape, sorted(UNITS.replace("|", " ").split(), reverse=True)))
ATOM = "(?:%|(?:" + SPELLINGS.replace("_", r"\s?") + r")(?![^\W_]))"
PER = r"(?:\s?/\s?|\s(?:per|an?|each|every)\s|\s(?=\w+ly\b))"
# An s right after the digits is a plural, as in 1990s, and "2 daily doses" are not 2 days.
UNIT = re.compile(rf"(?!s\b|\s\w+ly\b)(?:\s{{0,2}}|{HYPHEN})({ATOM}(?:{PER}{ATOM}){{0,3}})")
LINK = re.compile(r"(?:[-‐‑–−/,±:\s]|\+/-|to\b|and\b|or\b|vs?\b\.?|versus\b|through\b)+")

MORE = "(?:more|greater|higher|larger|longer|older|later)"
LESS = "(?:less|fewer|lower|smaller|shorter|younger|earlier)"
COMPARATOR = re.compile(
    rf"""(?=[<>=≤≥⩽⩾a-z])(?:(?P<le>[≤⩽]|<\s?/?\s?=|=\s?<|<\s?or\s?=|\b{LESS}\sthan\sor\sequal\sto
                |\bat\smost|\bnot?\s{MORE}\sthan|(?<![\w-])up\sto|\bas\s(?:many|much)\sas)
          |(?P<ge>[≥⩾]|>\s?/?\s?=|=\s?>|>\s?or\s?=|\b{MORE}\sthan\sor\sequal\sto
                |\bat\sleast|\bnot?\s{LESS}\sthan)
          |(?P<lt><|\b{LESS}\sthan|\bunder|\bbelow)
          |(?P<gt>>|\b{MORE}\sthan|\babove|\bexceed(?:s|ed|ing)?)
          |(?P<over>\bover)
          |(?P<eq>=))\s*[$£€]?$""",
    re.IGNORECASE | re.VERBOSE,
)
POSTFIX = re.compile(rf"\s(?:or|and)\s(?:(?P<ge>{MORE}|over|above)|(?P<le>{LESS}|under|below))\b")
# For each comparator in the output, those in the source that support it. "Over 5 years" may be a
# duration.
BORNE_OUT = {"lt": {"lt"}, "le": {"le"}, "gt": {"gt", "over"}, "ge": {"ge"}}
BORNE_OUT |= {"eq": {"eq", ""}, "over": {"over", "gt", ""}}

NEGATORS = "no not none never neither nor without cannot non absence unable".split()
NEGATORS += "deny denies denied denying".split()
NEGATING_PAIRS = {"lack": "of", "fail": "to", "fails": "to", "failed": "to", "negative": "for"}
NON = re.compile(r"non(?!e)\w{4}|\w+n['’]t$")  # nonsignificant, didn't
# A gap with more of these on one side is an added or dropped clause, not a negated sentence.
CLAUSE_MARKS = ", ; : ( ) [ ] – — but and or although though while whereas".split()
LABEL = re.compile(r"(?:[A-Z][A-Z &,/-]*|[A-Z][a-z]+):\s")
OPEN = set("? whether if hypothesis hypothesized hypothesised aim objective unknown".split())
LOST = 0.3  # share of an output sentence's words that may be missing from its source sentence
LOST_IF_OPEN = 0.05  # "Does it help?" may be answered by "It does not help."
LONGEST_GAP, LONGEST_START = 4, 1  # tokens between words in common, and before the first one
LONGEST_PIECE = 150  # tokens; longer sentences are split, as the comparison is quadratic
CANDIDATES = 3  # source sentences that are compared with a sentence of the output


@dataclass(frozen=True)
class Flag:
    """A span of the output that the source does not support."""

    kind: FlagKind
    start: int
    end: int
    text: str

    @property
    def message(self) -> str:
        return MESSAGES[self.kind]


class Use(NamedTuple):
    """The unit and comparator of a number, "" for none; `symbol`: it is one of < > ≤ ≥."""

    unit: str
    comparator: str
    symbol: bool


class Number(NamedTuple):
    """A number with its span, the start of its comparator and the end of its unit."""

    start: int
    end: int
    comparator_start: int
    unit_end: int
    value: str
    use: Use


class Source(NamedTuple):
    """A source text prepared for searching: tokens, number values, and sentences by word."""

    text: str
    uses: dict[str, set[Use]]
    sentences: list[list[str]]
    having: dict[str, list[int]]


def find_flags(output: str, source: str) -> list[Flag]:
    """Return the unsupported spans of `output`, in order."""
    known = read_source(source)
    found: set[Place] = set()
    position = 0
    for n, sentence in enumerate(split_sentences(output)):
        offset = output.index(sentence, position)
        position = offset + len(sentence)
        if join_tokens(sentence) not in known.text:
            places = [*check_numbers(sentence, known.uses, opens=n == 0)]
            places += check_negation(sentence, known)
            found |= {(offset + start, offset + end, kind) for start, end, kind in places}
    return [Flag(kind, start, end, output[start:end]) for start, end, kind in sorted(found)]


def read_source(text: str) -> Source:
    """Prepare a source text for searching."""
    pieces = [piece for sentence in split_sentences(text) for piece in split_pieces(sentence)]
    sentences = [[token[0].lower() for token in piece] for piece in pieces]
    having: dict[str, list[int]] = defaultdict(list)
    for i, sentence in enumerate(sentences):
        for word in set(sentence):
            having[word].append(i)
    return Source(join_tokens(text), find_uses(text), sentences, having)


def join_tokens(text: str) -> str:
    """Put single spaces around words and marks, so that a substring is a verbatim quotation."""
    return f" {' '.join(TOKEN.findall(text))} "


def find_numbers(text: str, *, loose: bool = False) -> list[Number]:
    """Find the numbers of a text; `loose` adds those that another text may spell differently."""
    numbers = []
    listed = set() if loose else {match.end() for match in LISTED.finditer(text)}
    for match in NUMBER.finditer(text):
        (start, end), number = match.span(), read_number(text, match, value_of(match[0]))
        before = NAME_BEFORE.match(text, start)
        after = not number.use.unit and NAME_AFTER.match(text, end)
        is_word = WORD_BEFORE.match(text, start) if before else WORD_AFTER.match(text, end)
        if not (before or after or start in listed) or (loose and is_word):
            numbers.append(number)
    for match in SPELLED.finditer(text):
        number = read_number(text, match, spelled_value(match[0]))
        if loose or number.use.unit or COUNTED.match(text, match.end()):
            numbers.append(number)
    return sorted(numbers)


def read_number(text: str, match: re.Match[str], value: str) -> Number:
    """Read the sign, comparator and unit of the number at a match."""
    start, end = match.span()
    if MINUS.match(text, start):
        start, value = start - 1, f"-{value}"
    unit = UNIT.match(text, end)
    atoms = ["".join(atom.split()) for atom in re.split(PER, unit[1])] if unit else []
    name, unit_end = "/".join(UNIT_NAMES[atom] for atom in atoms), unit.end() if unit else end
    before = COMPARATOR.search(
        text[max(0, start - 40) : start]
    )  # the longest comparator has 24 characters
    found = before or POSTFIX.match(text, unit_end)
    comparator = (found and found.lastgroup) or ""
    if comparator == "over" and name not in TIMES:
        comparator = "gt"
    symbol = before is not None and comparator != "eq" and not before[0][0].isalpha()
    from_start = start - len(before[0]) if before else start
    return Number(start, end, from_start, unit_end, value, Use(name, comparator, symbol))


def value_of(digits: str) -> str:
    """Normalise digits so that equal numbers are equal strings; some are too long for int()."""
    whole, _, fraction = re.sub(r"[,\s]", "", digits).replace("·", ".").partition(".")
    return f"{whole.lstrip('0') or '0'}.{fraction.rstrip('0')}".rstrip(".")


def spelled_value(words: str) -> str:
    """Convert a spelled-out number below a thousand to digits."""
    total = 0
    for word in re.split(r"[-\s]", words.lower()):
        total = 100 * total if word == "hundred" else total + SPELLED_VALUES.get(word, 0)
    return str(total)


def find_uses(source: str) -> dict[str, set[Use]]:
    """Map each value of the source to its uses.

    In "5 to 10 mg" both values are in mg, and the 6 of "aged 6" may be years.
    """
    uses: dict[str, set[Use]] = defaultdict(set)
    next_start, next_unit = len(source), ""
    for number in reversed(find_numbers(source, loose=True)):
        unit = number.use.unit
        if not unit and LINK.fullmatch(source, number.end, next_start):
            unit = next_unit
        age = AGE.search(source[max(0, number.start - 24) : number.start])
        units = {number.use.unit, unit, "year" if age and not unit else unit}
        for value in (number.value, number.value.removeprefix("-")):  # "fell by 2" can state -2
            uses[value] |= {number.use._replace(unit=unit) for unit in units}
        next_start, next_unit = number.start, unit
    return uses


def check_numbers(sentence: str, uses: dict[str, set[Use]], *, opens: bool) -> Iterator[Place]:
    """Yield numbers that are not in the source, or have a different unit or comparator there."""
    for number in find_numbers(sentence):
        known, (unit, comparator, _) = uses.get(number.value, set()), number.use
        if not known:
            yield number.start, number.end, "number"
            continue
        alike = {unit, *(f"{unit}/{time}" for time in TIMES)}  # "per day" may be omitted
        if unit and alike.isdisjoint(use.unit for use in known):
            yield number.start, number.unit_end, "unit"
        changed = comparator and BORNE_OUT[comparator].isdisjoint(use.comparator for use in known)
        dropped = not comparator and all(use.symbol for use in known)
        if changed or (dropped and not (opens and number.start == 0)):
            yield number.comparator_start, number.end, "comparator"


def check_negation(sentence: str, source: Source) -> Iterator[Place]:
    """Yield places where a sentence adds or drops a negation compared with its source sentence."""
    for n, piece in enumerate(split_pieces(sentence)):
        words = [token[0].lower() for token in piece]
        compared = [compare(known, words) for known in nearest_sentences(words, source)]
        lost, _, turns = min(compared, default=(1.0, 0, []))
        for first, last in turns if lost <= LOST else []:
            if (
                n == 0 or first > 0
            ):  # a later piece starts mid-sentence; the piece before it covers its start
                yield piece[first].start(), piece[last].end(), "negation"


def nearest_sentences(words: list[str], source: Source) -> list[list[str]]:
    """Return the source sentences that share the most words, weighted by rarity."""
    weights: dict[int, float] = defaultdict(float)
    for word in dict.fromkeys(words):  # a set would break ties differently in each run
        for i in source.having.get(word, ()):
            weights[i] += 1 / len(source.having[word])
    return [source.sentences[i] for i in nlargest(CANDIDATES, weights, key=weights.__getitem__)]


def compare(known: list[str], words: list[str]) -> tuple[float, int, list[tuple[int, int]]]:
    """Return the share of words that a known sentence lacks, and where negation differs.

    The result is (share, number of differences, first and last word of each).
    """
    blocks = SequenceMatcher(a=known, b=words, autojunk=False).get_matching_blocks()
    lost = lost_share(words, {block.b + k for block in blocks for k in range(block.size)})
    # An answer may deny what a question asks or supposes, unless it repeats all the rest of it.
    if known[0] == "to" or not OPEN.isdisjoint(known):
        more = lost_share(known, {block.a + k for block in blocks for k in range(block.size)})
        if max(lost, more) > LOST_IF_OPEN:
            return lost, 0, []
    turns = find_turns(blocks, known, words)
    return lost, len(turns), turns


def split_pieces(sentence: str) -> list[list[re.Match[str]]]:
    """Return the tokens after a section's label; a long sentence becomes overlapping pieces."""
    label = LABEL.match(sentence)
    tokens = list(TOKEN.finditer(sentence, label.end() if label else 0))
    starts = range(0, max(1, len(tokens) - LONGEST_PIECE // 2), LONGEST_PIECE // 2)
    return [tokens[start : start + LONGEST_PIECE] for start in starts]


def lost_share(words: list[str], matched: set[int]) -> float:
    """Return the share of words, other than negators, that are not matched."""
    lost = [j for j in range(len(words)) if j not in matched and not is_negator(words, j)]
    return len(lost) / max(1, len(matched) + len(lost))


def find_turns(blocks: list[Match], known: list[str], words: list[str]) -> list[tuple[int, int]]:
    """Return the first and last word of each place where only one of two sentences negates."""
    turns = []
    i = j = 0
    for block in blocks[:-1]:  # the last block is the empty one at the end
        dropped = [k for k in range(i, block.a) if is_negator(known, k)]
        added = [k for k in range(j, block.b) if is_negator(words, k)]
        gaps = known[i : block.a], words[j : block.b]
        marks = [sum(word in CLAUSE_MARKS for word in gap) for gap in gaps]
        longest = LONGEST_GAP if j else LONGEST_START
        alike = marks[0] == marks[1] and max(map(len, gaps)) <= longest
        if alike and bool(dropped) != bool(added):
            turns.append((added[0], added[-1]) if added else (max(j - 1, 0), block.b))
        i, j = block.a + block.size, block.b + block.size
    return turns


def is_negator(words: list[str], place: int) -> bool:
    """Return whether the word at a place negates what follows."""
    word, following = words[place], words[place + 1 : place + 2]
    return word in NEGATORS or bool(NON.match(word)) or following == [NEGATING_PAIRS.get(word)]
