"""Record: one abstract, report or question with what is known about it, cleaned; and its JSON form.

Where records come from is clingpt/sources.py, what they are asked is clingpt/tasks.py.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from clingpt.errors import DataError

LABELS = ("yes", "no", "maybe")

# Left by the corpus' parser where a label was itself cut at a slash: "…controls.QUESTIONS/".
_LABEL_DEBRIS = re.compile(r"(?<=[.?!])\s*[A-Z]{3}[A-Z &]*/$")
_BLANKS = re.compile(r"\s+")  # Unicode: thin, no-break and paragraph spaces as well


@dataclass(frozen=True, kw_only=True)
class Record:
    """One item of a source, already cleaned.

    `sections` are (LABEL, text) pairs in reading order. `long_answer` is the conclusion in prose,
    `decision` one of LABELS; either may be unknown.
    """

    id: str
    question: str
    sections: tuple[tuple[str, str], ...]
    long_answer: str | None = None
    decision: str | None = None
    keywords: tuple[str, ...] = ()


def clean(text: str) -> str:
    """One blank for any run of Unicode white space; no control characters, no lone surrogates.

    Symbols (± ≥ µ β) stay as they are: they carry meaning, and GPT-2 spells any of them.
    """
    text = _BLANKS.sub(" ", text).strip()
    if text.isascii() and text.isprintable():
        return text
    return "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cs"))


def make_record(
    *,
    record_id: object,
    question: object,
    sections: Iterable[tuple[object, object]],
    long_answer: object = None,
    decision: object = None,
    keywords: Iterable[object] = (),
) -> Record:
    """Clean raw fields into a Record; DataError names the id and the field that cannot be used."""
    name = clean(str(record_id))
    if not name:
        raise DataError("a record has an empty id; give every record an id of its own")

    def text(field: str, value: object) -> str:
        if not isinstance(value, str):
            kind = type(value).__name__
            raise DataError(f"record {name}: {field} is not a text but {kind}; correct it")
        return clean(value)

    cleaned = [
        (text("a section's label", label), _LABEL_DEBRIS.sub("", text("a section", body)))
        for label, body in sections
    ]
    verdict = None if decision is None else text("the decision", decision).lower()
    if verdict is not None and verdict not in LABELS:
        raise DataError(f"record {name}: the decision is {verdict!r}, not one of {LABELS}")
    answer = None if long_answer is None else text("the long answer", long_answer)
    if answer == "":
        raise DataError(f"record {name}: the long answer is empty; fill it in or leave it out")
    return Record(
        id=name,
        question=text("the question", question),
        sections=tuple((label, body) for label, body in cleaned if body),
        long_answer=answer,
        decision=verdict,
        keywords=tuple(text("a keyword", keyword) for keyword in keywords),
    )


def to_json(record: Record) -> dict[str, Any]:
    """The record as one JSON object, the form of a line in val.jsonl and test.jsonl."""
    return asdict(record)


def from_json(fields: object) -> Record:
    """A Record from such an object; sections may also be one text, or the key `text` may hold it.

    Only a question or some text is required, so that a note can be typed by hand.
    """
    if not isinstance(fields, Mapping):
        raise DataError(f"a record must be a JSON object, not {type(fields).__name__}")
    known = {"id", "question", "sections", "text", "long_answer", "decision", "keywords"}
    if unknown := fields.keys() - known:
        names = ", ".join(sorted(map(str, unknown)))
        raise DataError(f"unknown field {names}; a record's fields are {', '.join(sorted(known))}")
    sections = fields.get("sections", fields.get("text", []))
    if isinstance(sections, str):
        sections = [("TEXT", sections)]
    elif isinstance(sections, Mapping):
        sections = sections.items()
    if not fields.get("question") and not sections:
        raise DataError("a record needs a question or a text")
    if not all(isinstance(pair, Iterable) and len(tuple(pair)) == 2 for pair in sections):
        raise DataError('sections must be pairs: [["RESULTS", "…"], …]')
    return make_record(
        record_id=fields.get("id", "input"),
        question=fields.get("question") or "",
        sections=sections,
        long_answer=fields.get("long_answer"),
        decision=fields.get("decision"),
        keywords=fields.get("keywords", ()),
    )
