"""Record: one abstract, report or question with what is known about it."""

from dataclasses import dataclass

LABELS = ("yes", "no", "maybe")


@dataclass(frozen=True, kw_only=True)
class Record:
    """One item of a source, already cleaned.

    `sections` are (LABEL, text) pairs in reading order. `long_answer` is the conclusion in prose and
    `decision` one of LABELS; either may be unknown.
    """

    id: str
    question: str
    sections: tuple[tuple[str, str], ...]
    long_answer: str | None = None
    decision: str | None = None
    keywords: tuple[str, ...] = ()
