"""Find the headings of structured documents, and parse and join their sections.

Headings are found in two steps: in a single document by the form of a line (`find_headings`), and
over a training split by the number of documents that have them (`HeadingCounts`). What recurs is a
heading; what occurs once may be anything, even a name. prepare.py writes the headings into
the manifest, and training into the checkpoint's card, as a `DocumentForm`.

Documents derived from structured abstracts have HEADINGS, and need none of this.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from clingpt.text.tasks import DOCUMENT_ORDER, Prompt

HEADINGS = (*DOCUMENT_ORDER, "CONCLUSION")
# Name of the text before the first heading, in requests for one section. GPs' notes often begin
# with the history and give it no heading.
OPENING = "opening"

SECTION = "\nSection: "  # before the heading that a prompt asks for (tasks.prompt_text)
# Target for a section about which a window says nothing. Not "None", which is a finding, for
# example in the section of allergies in MTS-Dialog.
NOTHING = "(not mentioned)"

Sections = list[tuple[str, str]]

# Patients whose documents must have a heading: one that fewer have may identify somebody.
MIN_DOCUMENTS = 5
MIN_SHARE = 0.01  # of the documents
MOST_HEADINGS = 64
MOST_REPEATS = 2  # in one document; a label that recurs more often is one of a list, or a speaker

_NAME = re.compile(r"[^\W\d_][\w&/,'’()+ -]{0,59}")
_MARKDOWN = re.compile(r"#{1,6}\s+")
# MTSamples as published: all in one line, ",PLAN:, 1. Rest." for a new section.
_RUN_ON = re.compile(r",\s*(?=[A-Z][A-Z &/()-]{1,59}:\s*,)")
_LIST_NUMBER = re.compile(r"\d{1,2}[.)]\s")
# 120/80, 36.6 C, 98% RA, < 5 mg
_MEASUREMENT = re.compile(r"[<>~≈]?\s*\d[\d.,/%×°-]*(\s?[^\W\d][\w/%²]*)?[.,;]?")
# Words that begin a sentence and not a heading: "This morning: …".
_STARTERS = frozenset(
    "a an the this that these those he she it they we i you his her their our no not if when there"
    " please note".split()
)
_SMALL = frozenset("a an and for from in of on or the to with &".split())
# Labels of single findings, and of fields about persons. They look like headings, but are items
# inside a section or a form. A name that consists of such words is never a heading.
_ITEMS = frozenset(
    # vital signs
    "bp hr rr t tmax temp temperature pulse spo2 sao2 o2 sat sats saturation oxygen weight wt "
    "height ht bmi blood pressure rate respirations body "
    # an examination, or a review of systems, organ by organ
    "general appearance constitutional heent hent ent head eyes ears nose mouth throat neck chest "
    "lungs lung heart cardiac cardiovascular cv cvs resp respiratory pulmonary abdomen abdominal "
    "abd gi gu gastrointestinal genitourinary genitalia msk musculoskeletal extremities extremity "
    "ext skin integumentary neuro neurological neurologic psych psychiatric psychological lymph "
    "lymphatic lymphatics hematologic hematological endocrine immunologic allergic back spine "
    "breast breasts rectal pelvic vascular gait "
    # persons, and the turns of a dialogue
    "patient pt doctor dr physician clinician nurse provider surgeon surgeons assistant "
    "anesthesiologist attending name age sex gender race dob mrn date time signed interviewer "
    "speaker guest_family".split()
)
_FIELD_ENDINGS = frozenset("name number no id mrn dob birth date time phone fax email by".split())


# One document


def find_headings(text: str) -> list[str]:
    """List the headings of a document in order, each once, judging only by the form of its lines.

    A heading begins a line: a few words in capitals or title case before a colon, alone on the line
    or before the section's text; such words alone on their line, without a colon, if text follows;
    or a heading of Markdown. Items of lists, measurements (BP: 120/80), organs of an examination
    and fields such as a patient's name are not headings, nor is a label used again and again.
    """
    lines = _lines(text)
    shouting = sum(map(str.isupper, text)) > 4 * sum(map(str.islower, text))
    found = [_by_form(lines, number, shouting) for number in range(len(lines))]
    counts = Counter(heading_key(name) for name in found if name)
    names = {heading_key(name): name for name in reversed(found) if name}
    return [names[each] for each, n in counts.items() if n <= MOST_REPEATS]


def _lines(text: str) -> list[str]:
    return _RUN_ON.sub("\n", text).split("\n")


def _by_form(lines: Sequence[str], number: int, shouting: bool) -> str | None:
    """Return the heading that a line has by its form, if it has one."""
    parts = _split(lines[number])
    if parts is None or not _is_heading(*parts, shouting):
        return None
    name, _, has_colon, marked = parts
    if has_colon or marked:
        return name
    # Without a colon, a heading needs text after it: not NKDA between two labelled lines.
    after = next((line for line in lines[number + 1 :] if line.strip()), None)
    if after is None:
        return None
    follows_space = number == 0 or not lines[number - 1].strip()
    following = _split(after)
    is_followed = following is None or not _is_heading(*following, shouting)
    return name if follows_space or is_followed else None


def _split(line: str) -> tuple[str, str, bool, bool] | None:
    """Split a line at the end of what could be its heading.

    Returns the name, the rest of the line, whether a colon is between them, and whether Markdown
    marks the name; None if the line cannot have a heading.
    """
    line = line.strip()
    if mark := _MARKDOWN.match(line):
        line = line[mark.end() :].rstrip("# ")
    name, colon, rest = line.partition(":")
    marked = mark is not None
    if name.startswith("**"):  # **Plan**, **Plan:** and **Plan**:
        if not (name.endswith("**") or rest.startswith("**")):
            return None
        name, rest, marked = name.strip("*"), rest.removeprefix("**"), True
    if rest and not (rest[0].isspace() or rest[0] == ","):  # 4:30, http://
        return None
    name, rest = name.strip(), rest.lstrip(" \t,")
    if not _NAME.fullmatch(name) or name.count("(") != name.count(")"):
        return None
    if _MEASUREMENT.fullmatch(rest) and not _LIST_NUMBER.match(f"{rest} "):
        return None
    return name, rest, bool(colon), marked


def _is_heading(name: str, rest: str, has_colon: bool, marked: bool, shouting: bool) -> bool:
    """Whether a name has the form of a heading and is not the label of an item."""
    words = name.split()
    lower = [word.lower() for word in re.findall(r"[^\W_]+", name)]
    if all(word in _ITEMS or word in _SMALL for word in lower):
        return False
    if lower[0] == "date" or lower[-1] in _FIELD_ENDINGS:
        return False
    if marked:
        return len(words) <= 10
    if name.isupper():
        # In a text that is all in capitals, they do not mark a heading.
        return len(words) <= 8 and (has_colon or (len(name) > 1 and not shouting))
    if not name[0].isupper() or any(map(str.isdigit, name)) or lower[0] in _STARTERS:
        return False
    if has_colon:
        return len(words) <= 5
    return len(words) <= 6 and "," not in name and all(w[0].isupper() or w in _SMALL for w in words)


def heading_key(heading: str) -> str:
    """Return a key that is the same for Assessment & Plan and ASSESSMENT AND PLAN."""
    return " ".join(heading.casefold().replace("&", " and ").split())


# The documents of a training split


@dataclass
class HeadingCounts:
    """How many documents have which headings, and where."""

    documents: int = 0
    spellings: dict[str, Counter[str]] = field(default_factory=dict)  # by key
    places: dict[str, float] = field(default_factory=dict)  # key -> sum of 0 (first) to 1 (last)
    owners: dict[str, set[int]] = field(default_factory=dict)  # hashes, MIN_DOCUMENTS at most

    def see(self, headings: Sequence[str], owner: str) -> None:
        """Count a document; `owner` is its patient, or the document itself if none is known."""
        self.documents += 1
        for place, name in enumerate(headings):
            each, share = heading_key(name), place / max(1, len(headings) - 1)
            self.spellings.setdefault(each, Counter())[name] += 1
            self.places[each] = self.places.get(each, 0) + share
            owners = self.owners.setdefault(each, set())
            if len(owners) < MIN_DOCUMENTS:
                owners.add(hash(owner))

    def common(self) -> dict[str, int]:
        """Map the headings of enough documents, in their usual order, to the number of documents.

        At most MOST_HEADINGS are kept, each in its most frequent spelling.
        """
        n_with = {each: names.total() for each, names in self.spellings.items()}
        enough = [
            each
            for each, n in n_with.items()
            if len(self.owners[each]) >= MIN_DOCUMENTS and n >= MIN_SHARE * self.documents
        ]
        kept = sorted(enough, key=lambda each: (-n_with[each], each))[:MOST_HEADINGS]
        kept.sort(key=lambda each: (self.places[each] / n_with[each], each))
        return {
            min(self.spellings[each].items(), key=lambda item: (-item[1], item[0]))[0]: n_with[each]
            for each in kept
        }


def headings_and_opening(text: str) -> list[str]:
    """Return the headings of a document, after OPENING if it begins with other text."""
    headings = find_headings(text)
    first = next((line for line in _lines(text) if line.strip()), "")
    parts = _split(first)
    begins = (
        parts is not None and bool(headings) and heading_key(parts[0]) == heading_key(headings[0])
    )
    return headings if begins or not headings else [OPENING, *headings]


@dataclass(frozen=True)
class DocumentForm:
    """How the documents of a data set are structured, and how a model writes them."""

    headings: tuple[str, ...] = HEADINGS  # in their usual order
    # Longest prompt, in tokens, if each asks for one section of one window of the notes; None if a
    # prompt asks for the whole document.
    window: int | None = None

    @property
    def is_own(self) -> bool:
        """Whether the headings come from the data, and not from structured abstracts."""
        return self.headings != HEADINGS

    def to_json(self) -> dict[str, Any]:
        """Return the form as it is in a manifest and in a card."""
        return {"headings": list(self.headings), "window": self.window}

    @staticmethod
    def from_json(fields: Mapping[str, Any]) -> "DocumentForm":
        """Read what `to_json` returned."""
        return DocumentForm(tuple(fields["headings"]), fields["window"])


# Sections


def parse_document(text: str, headings: Collection[str] = HEADINGS) -> Sections:
    """Return the (heading, text) pairs of a document in order, including repeated headings.

    Only `headings` count, in any spelling; other lines continue the section above them. Text before
    the first heading is omitted unless OPENING is one of them.
    """
    names = {heading_key(name): name for name in headings}
    sections: list[tuple[str, list[str]]] = [(OPENING, [])] if OPENING in names else []
    for line in _lines(text):
        parts = _split(line)
        if parts and (name := names.get(heading_key(parts[0]))):
            sections.append((name, [parts[1]]))
        elif sections:
            sections[-1][1].append(line)
    joined = [(name, "\n".join(lines).strip()) for name, lines in sections]
    return [pair for pair in joined if pair != (OPENING, "")]


def write_document(sections: Iterable[tuple[str, str]]) -> str:
    """Write sections as lines of `HEADING: text`; the text of OPENING has no heading."""
    return "\n".join(text if name == OPENING else f"{name}: {text}" for name, text in sections)


def join_documents(texts: Sequence[str], headings: Sequence[str] = HEADINGS) -> str:
    """Merge the documents of consecutive windows, heading by heading in the order of `headings`.

    Text before the first heading of a window goes to the end, so that nothing is lost.
    """
    if len(texts) == 1:
        return texts[0].strip()
    headings = [name for name in headings if name != OPENING]
    parts: dict[str, list[str]] = {name: [] for name in headings}
    loose = []
    for text in texts:
        for name, part in parse_document(text, headings):
            parts[name].append(part)
        unheaded = takewhile(lambda line: not parse_document(line, headings), _lines(text))
        loose.append("\n".join(unheaded).strip())
    lines = [f"{name}: {' '.join(filter(None, found))}" for name, found in parts.items() if found]
    return "\n".join([*lines, *filter(None, loose)])


# Replies of several prompts


@dataclass(frozen=True)
class Draft:
    """The prompts of one reply: a single one, or one for each section and window of a document."""

    prompts: tuple[Prompt, ...]
    longest: int  # new tokens of the reply to each prompt
    headings: tuple[str, ...] = ()  # the sections asked for; none: the reply is in one piece
    is_section: bool = False  # one section was asked for, so its text needs no heading

    @property
    def windows(self) -> int:
        """Return the number of windows, each of which is asked for every section."""
        return len(self.prompts) // max(1, len(self.headings))

    def heading(self, number: int) -> str | None:
        """Return the section that a prompt asks for."""
        return self.headings[number // self.windows] if self.headings else None

    def join(self, texts: Sequence[str]) -> str:
        """Join the replies to the prompts for sections, given in their order."""
        n = self.windows
        replies = [texts[start : start + n] for start in range(0, len(texts), n)]
        if self.is_section:
            return join_windows(replies[0])
        return join_sections(zip(self.headings, replies, strict=True))


def join_windows(texts: Iterable[str]) -> str:
    """Join the texts of consecutive windows for one section, leaving out empty ones."""
    return "\n".join(text for text in map(str.strip, texts) if text and text != NOTHING)


def join_sections(sections: Iterable[tuple[str, Iterable[str]]]) -> str:
    """Write a document of the sections for which any window has text."""
    joined = ((name, join_windows(texts)) for name, texts in sections)
    return write_document((name, text) for name, text in joined if text)
