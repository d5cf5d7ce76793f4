"""The Record (a cleaned abstract, report or question with annotations) and its JSON form.

Records are read from sources in clingpt/data/sources.py and turned into prompts in
clingpt/text/tasks.py.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from clingpt.base.errors import DataError

PASTED = "TEXT"  # label of a text that comes in one piece
UNNAMED = "input"  # id of a single record without one, typed or from a file
LABELS = ("yes", "no", "maybe")
SPLITS = ("train", "val", "test")
N_FOLDS = 10  # of PubMedQA's labelled records (Jin et al. 2019, section 3.4)
# Keys that a record's JSON object may have.
FIELDS = frozenset(
    "id group question sections text long_answer decision keywords document heading".split()
)

# Debris of PubMedQA's own parsing, where a label was cut at a slash: "…controls.QUESTIONS/".
_LABEL_DEBRIS = re.compile(r"(?<=[.?!])\s*[A-Z]{3}[A-Z &]*/$")
_EMPTY_LINES = re.compile(r"\n{3,}")
# Control characters except white space, and lone surrogates (Unicode categories Cc, Cs).
_DROPPED = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff]+")


# Fields in which data sets publish opinions and predictions about a record: PubMedQA's
# reasoning_required_pred equals the label in 916 of 1,000 records.
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
ANNOTATIONS = frozenset("pred preds prediction predictions predicted".split())
# Such a field within a text: {'contexts': …, 'reasoning_free_pred': ['y', 'e', 's']}.
_PRINTED_FIELD = re.compile(
    r"""(?:['"]([A-Za-z_ .]{4,40})['"]|\b([A-Za-z]+(?:_[A-Za-z]+)+))\s*[:=]"""
)


class RecordError(DataError):
    """A record that cannot be used. Its id may be a patient's; prepare.py masks it."""

    def __init__(self, record_id: str, problem: str) -> None:
        super().__init__(f"record {record_id}: {problem}" if record_id else problem)
        self.record_id, self.problem = record_id, problem


# Numbers that name the same published article in every data set. A bare number may be a row's or a
# patient's, so it counts as a PMID only where its source says so. Short numbers never count.
_PMCID = re.compile(r"(?:\S*/)?(PMC\d{5,8})(?:\.\w+)*", re.IGNORECASE)  # also a file's name
_DOI = re.compile(r"(?:https?://(?:dx\.)?doi\.org/|doi:)?(10\.\d{4,9}/\S+)", re.IGNORECASE)
_PMID = re.compile(r"(?:PMID:?)?([1-9]\d{4,7})", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Record:
    """One cleaned item of a source.

    `sections` are (LABEL, text) pairs in reading order. `long_answer` is the conclusion in prose,
    `decision` one of LABELS; both may be unknown. `document` is a structured document that somebody
    wrote from the sections, line breaks included. Without one, the task `document` derives it from
    the sections and the conclusion. `heading` names the one section that is asked for; `document`
    is then its text.

    `id` is the source's own, and empty if the source gives none; clingpt/data/sources.py then names
    the record after its number and text. `group` is the patient, encounter or article that the
    record belongs to. It keeps a group in one split, and is never written or printed. Nor are
    `known`, the cells of other columns that identify people, as (column, cell): they are looked for
    in the record's texts. `articles` are the published articles that the record comes from, as
    returned by `article_numbers`.
    """

    id: str
    question: str
    sections: tuple[tuple[str, str], ...]
    long_answer: str | None = None
    decision: str | None = None
    keywords: tuple[str, ...] = ()
    document: str | None = None
    group: str | None = None
    heading: str | None = None
    known: tuple[tuple[str, str], ...] = ()
    articles: tuple[str, ...] = ()

    def context(self) -> str:
        """Return the text of all sections, without their labels, joined with spaces."""
        return " ".join(text for _, text in self.sections)

    def full_text(self) -> str:
        """Return everything a model could have read: question, context, conclusion, document."""
        sections = (text for _, text in self.sections)
        return " ".join([self.question, *sections, self.long_answer or "", self.document or ""])

    def texts(self) -> list[str]:
        """List every text of the record except its id, including labels and keywords.

        A missing conclusion or document is an empty string, so that `with_texts` can put edited
        texts back by position.
        """
        section_parts = [part for section in self.sections for part in section]
        whole = [self.question, self.long_answer or "", self.document or ""]
        heading = [] if self.heading is None else [self.heading]
        return [*whole, *section_parts, *self.keywords, *heading]

    def with_texts(self, texts: Sequence[str]) -> "Record":
        """Return a copy with edited texts, given in the order of `texts`.

        A conclusion or document that was missing stays missing.
        """
        first_keyword = 3 + 2 * len(self.sections)
        section_parts = texts[3:first_keyword]
        after_keywords = first_keyword + len(self.keywords)
        return replace(
            self,
            question=texts[0],
            long_answer=None if self.long_answer is None else texts[1],
            document=None if self.document is None else texts[2],
            sections=tuple(zip(section_parts[::2], section_parts[1::2], strict=True)),
            keywords=tuple(texts[first_keyword:after_keywords]),
            heading=None if self.heading is None else texts[after_keywords],
        )


def is_annotation(name: str) -> bool:
    """Return whether a column, key or label is an annotator's or a model's opinion on a record.

    "reasoning_free_pred", "modelPrediction" and "Predicted label" are; "reasoning" alone may be a
    text that somebody wrote.
    """
    words = [word.lower() for word in _WORDS.findall(name)]
    return not ANNOTATIONS.isdisjoint(words) or len(words) > 1 and words[0] == "reasoning"


def has_annotation(text: str) -> bool:
    """Return whether a text contains an annotator's field as printed or serialised structure."""
    lower = text.lower()
    if "pred" not in lower and "reasoning_" not in lower:  # quick, for nearly all texts
        return False
    return any(is_annotation(quoted or bare) for quoted, bare in _PRINTED_FIELD.findall(text))


def clean(text: str) -> str:
    """Collapse white space into single spaces; drop control characters and lone surrogates.

    Symbols (± ≥ µ β) are kept: they carry meaning, and byte-level BPE can encode all of them.
    """
    text = " ".join(text.split())  # splits at all Unicode white space: thin, no-break and so on
    # Dropping a control character can leave two spaces around it, so split once more.
    return text if text.isprintable() else " ".join(_DROPPED.sub("", text).split())


def clean_lines(text: str) -> str:
    """Clean each line of a text whose line breaks matter; collapse runs of empty lines into one."""
    lines = "\n".join(map(clean, text.splitlines()))
    return _EMPTY_LINES.sub("\n\n", lines).strip()


def article_numbers(value: object, *, pmids: bool = False) -> list[str]:
    """Return the numbers of published articles in a cell: PMC7654321, doi:10.1000/x, PMID:12345678.

    The cell is one number, a text with several, or a list. Digits are a PMID if `pmids`.
    """
    found = []
    items = re.split(r"[\s,;|]+", value) if isinstance(value, str) else [value]
    for item in value if isinstance(value, list | tuple) else items:
        # pandas turns whole numbers into floats in a column with gaps.
        whole = int(item) if isinstance(item, float) and item.is_integer() else item
        text = str(whole).strip("[]'\"")
        if number := _PMCID.fullmatch(text):
            found.append(number[1].upper())
        elif number := _DOI.fullmatch(text):
            found.append(f"doi:{number[1].lower()}")
        elif pmids and (number := _PMID.fullmatch(text)):
            found.append(f"PMID:{number[1]}")
    return found


def make_record(
    *,
    record_id: object,
    question: object,
    sections: Iterable[tuple[object, object]],
    long_answer: object = None,
    decision: object = None,
    keywords: Iterable[object] = (),
    document: object = None,
    group: object = None,
    known: tuple[tuple[str, str], ...] = (),
    heading: object = None,
    articles: Iterable[str] = (),
) -> Record:
    """Clean raw fields into a Record; raise DataError if it is unusable.

    A `record_id` or `group` of None means that the source gives none. If they are PMCIDs or DOIs,
    the record comes from that article, besides any of `articles`.
    """

    def identifier(field: str, value: object) -> str:
        if not isinstance(value, str | int) or isinstance(value, bool):
            kind = type(value).__name__
            raise DataError(f"a record's {field} must be a string or an integer, not {kind}")
        return clean(str(value))

    name = "" if record_id is None else identifier("id", record_id)
    if not name and record_id is not None:
        raise DataError("a record's id is empty; give every record a unique id")

    def text(field: str, value: object, cleaned: Callable[[str], str] = clean) -> str:
        if not isinstance(value, str):
            kind = type(value).__name__
            raise RecordError(name, f"{field} must be a string, not {kind}")
        return cleaned(value)

    def optional(field: str, value: object, cleaned: Callable[[str], str] = clean) -> str | None:
        found = None if value is None else text(field, value, cleaned)
        if found == "":
            raise RecordError(name, f"{field} is empty; fill it in or omit it")
        return found

    cleaned = [
        (text("a section's label", label), _without_debris(text("a section", body)))
        for label, body in sections
    ]
    verdict = None if decision is None else text("the decision", decision).lower().rstrip(".")
    if verdict is not None and verdict not in LABELS:
        # Not quoted: a wrong column may contain anything that a note contains.
        problem = (
            f"the decision must be yes, no or maybe, not another text ({len(verdict)} characters)"
        )
        raise RecordError(name, problem)
    asked, given = text("the question", question), tuple(pair for pair in cleaned if pair[1])
    if not asked and not given:
        raise RecordError(name, "it has neither a question nor text; add one of them")
    return Record(
        id=name,
        question=asked,
        sections=given,
        long_answer=optional("the long answer", long_answer),
        decision=verdict,
        keywords=tuple(text("a keyword", keyword) for keyword in keywords),
        document=optional("the document", document, clean_lines),
        group=(None if group is None else identifier("group", group)) or None,
        known=known,
        heading=optional("the heading", heading),
        articles=tuple(sorted({*articles, *article_numbers([record_id, group])})),
    )


def refuse_annotations(record: Record) -> None:
    """Raise RecordError if a section is an annotator's field, or a text contains one, printed.

    The conclusion and the document count too: the task `document` shows them in its prompts.
    """
    # "RISK PREDICTION" is a heading of an abstract, "reasoning_required_pred" is a name.
    names = (label for label, _ in record.sections if " " not in label and not label.isupper())
    if any(map(is_annotation, names)):
        problem = "a section is an annotator's field; leave it out of the sections"
        raise RecordError(record.id, problem)
    if any(map(has_annotation, record.texts())):
        problem = "a text contains an annotator's field in printed form; remove it from the text"
        raise RecordError(record.id, problem)


def _without_debris(text: str) -> str:
    # Look for the slash first: searching every text with the pattern is slow.
    return _LABEL_DEBRIS.sub("", text) if text.endswith("/") else text


def to_json(record: Record) -> dict[str, Any]:
    """Return a record as a JSON object, the form of a line in val.jsonl and test.jsonl.

    Its group is left out, because it identifies a patient, and so are its articles, which are in a
    file of their own. `document` and `heading` are omitted if
    the record has none, so that other files keep the bytes they had before the fields were added.
    """
    fields = asdict(record)
    del fields["group"], fields["known"], fields["articles"]
    for name in ("document", "heading"):
        if fields[name] is None:
            del fields[name]
    return fields


def from_json(fields: object, *, default_id: str | None = UNNAMED) -> Record:
    """Read a record from a JSON object.

    Accepts more than `to_json` writes, so that a note can be typed by hand: only a question or some
    text is required, and the text may be one string, under `sections` or `text`.
    """
    if not isinstance(fields, Mapping):
        raise DataError(f"a record must be a JSON object, not {type(fields).__name__}")
    if unknown := fields.keys() - FIELDS:
        names = ", ".join(sorted(map(str, unknown)))
        raise DataError(f"unknown field {names}; a record's fields are {', '.join(sorted(FIELDS))}")
    if {"sections", "text"} <= fields.keys():
        raise DataError("a record has both sections and text; make the text one of the sections")
    question, keywords = fields.get("question"), fields.get("keywords") or ()
    record_id = fields.get("id")
    if not isinstance(keywords, list | tuple):
        raise DataError('keywords must be a list of strings: ["pain", …]')
    return make_record(
        record_id=default_id if record_id is None else record_id,
        question="" if question is None else question,
        sections=_section_pairs(fields.get("sections", fields.get("text"))),
        long_answer=fields.get("long_answer"),
        decision=fields.get("decision"),
        keywords=keywords,
        document=fields.get("document"),
        group=fields.get("group"),
        heading=fields.get("heading"),
    )


def in_one_piece(record: Record) -> Record:
    """Return the record as if its text had been pasted, with the labels of its sections inside."""
    if not record.sections or record.sections[0][0] == PASTED:
        return record
    text = " ".join(f"{label}: {body}" for label, body in record.sections)
    return replace(record, sections=((PASTED, text),))


def _section_pairs(sections: object) -> Iterable[tuple[object, object]]:
    if sections is None:
        return ()
    if isinstance(sections, str):
        return [(PASTED, sections)]
    if isinstance(sections, Mapping):
        return sections.items()
    # Check types, not just lengths: the string "ab" and {"label": …, "text": …} also unpack in two.
    if not isinstance(sections, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in sections
    ):
        raise DataError('sections must be pairs: [["RESULTS", "…"], …]')
    return sections
