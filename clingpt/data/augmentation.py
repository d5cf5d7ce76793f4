"""Views of a training record: the same question asked with less of its context.

A view belongs to the split of its record: views are made once that is decided, and of training
records alone. Its id is the record's with a suffix, so it stands in no official list by itself.
Not when views are made, nor for which task: only an answer can be asked with less, since notes cut
short under the same summary or document would teach a model to invent the difference.
"""

import hashlib
from collections.abc import Collection
from dataclasses import replace

from clingpt.text.records import Record
from clingpt.text.tasks import heading

KINDS = ("results", "question")
SUFFIXES = tuple(f"#{kind}" for kind in (*KINDS, "dropout"))

Sections = tuple[tuple[str, str], ...]


def views(record: Record, kinds: Collection[str], *, dropout: float, key: str) -> list[Record]:
    """The record itself, then the views of it that differ from it and from each other.

    `results` keeps the sections that hold results. `dropout` is the probability at which another
    view leaves out each section, never all; the hash of `key` and the id decides. `question` keeps
    no section, and no conclusion either, which nobody could draw from a question: yes, no or maybe
    is all that it asks for.
    """
    found = {record.sections: record}
    results = tuple(pair for pair in record.sections if heading(pair[0]) == "RESULTS")
    if "results" in kinds and results:
        found.setdefault(results, replace(record, id=f"{record.id}#results", sections=results))
    drawn = drawn_sections(record, dropout=dropout, key=key)
    found.setdefault(drawn, replace(record, id=f"{record.id}#dropout", sections=drawn))
    if "question" in kinds and record.sections and record.question and record.decision:
        found[()] = replace(record, id=f"{record.id}#question", sections=(), long_answer=None)
    return list(found.values())


def drawn_sections(record: Record, *, dropout: float, key: str) -> Sections:
    """The sections that are not left out; where all would be, the one that came nearest to stay."""
    numbers = [unit_hash(f"{key}\n{record.id}\n{place}") for place in range(len(record.sections))]
    limit = min(dropout, max(numbers, default=1))
    kept = zip(record.sections, numbers, strict=True)
    return tuple(section for section, number in kept if number >= limit)


def unit_hash(text: str) -> float:
    """A number in [0, 1) that the text alone decides."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def origin(record_id: str) -> str:
    """The id of the record behind a view; any other id as it is."""
    suffix = next((each for each in SUFFIXES if record_id.endswith(each)), "")
    return record_id.removesuffix(suffix)
