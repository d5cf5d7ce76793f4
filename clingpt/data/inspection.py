"""What sources hold, found out before anything is written: how many records in which split, what
cannot be used, and the hygiene receipt.

A first reading counts, so that a mistake in the last line is told within seconds; a second one does
the slow work, in other processes. What is refused on these grounds is prepare.py's to say.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clingpt.base import console
from clingpt.base.errors import DataError
from clingpt.base.workers import map_chunks
from clingpt.data.hygiene import Inspection, Receipt, inspect
from clingpt.data.mixture import Item, Part, chunks_of, iter_items, names_of
from clingpt.data.ngrams import NgramIndex, ngram_hashes
from clingpt.data.prepared import HELD_OUT, Prepared
from clingpt.privacy.redaction import Redactor
from clingpt.text.records import LABELS

if TYPE_CHECKING:
    from tqdm import tqdm

# What differs between two messages of the same kind.
_PARTICULARS = re.compile(r"^.*?:\d+: |(?<=record ).+?(?=: | stands)|'[^']*'|\d+")


@dataclass
class Survey:
    """What the first reading found."""

    records: Counter[tuple[int, str]] = field(default_factory=Counter)  # (source, split)
    labels: Counter[tuple[int, str, str | None]] = field(default_factory=Counter)
    renamed: Counter[int] = field(default_factory=Counter)  # source
    bad: Counter[str] = field(default_factory=Counter)  # first message of its kind -> records
    kinds: dict[str, str] = field(default_factory=dict)  # kind of message -> the first one

    def note_bad(self, error: DataError) -> None:
        """Count a record that cannot be used with others of the kind."""
        kind = _PARTICULARS.sub("", str(error))
        self.bad[self.kinds.setdefault(kind, str(error))] += 1

    def share_of_yes_to_keep(self, parts: Sequence[Part], yes_share: float | None) -> float:
        """Which share of the training set's yes leaves `yes_share` of its answers yes."""

        def written(labels: Iterable[str]) -> float:
            return sum(
                part.weight * self.labels[number, "train", label]
                for number, part in enumerate(parts)
                for label in labels
            )

        yes, others = written(LABELS[:1]), written(LABELS[1:])
        if yes_share is None or not yes:
            return 1.0
        return min(1.0, others * yes_share / (1 - yes_share) / yes)

    def progress(self, label: str) -> "tqdm[None]":
        """A bar of another reading, whose length is known."""
        total = self.records.total()
        return console.progress_bar(label=label, total=total, unit=" records")


def take_survey(parts: Sequence[Part], *, skip_bad: bool) -> Survey:
    """Read once and count; DataError names what cannot be used, unless it is to be skipped."""
    survey = Survey()

    def on_bad(error: DataError) -> None:
        if not skip_bad:
            raise DataError(f"{error} (--skip_bad=True drops and counts such records)")
        survey.note_bad(error)

    for item in console.progress(iter_items(parts, on_bad), label="reading", unit=" records"):
        survey.records[item.source, item.split] += 1
        survey.labels[item.source, item.split, item.record.decision] += 1
        survey.renamed[item.source] += item.renamed
    if not any(n for (_, split), n in survey.records.items() if split == "train"):
        raise DataError(f"{names_of(parts)} gives no record to train on; is it the right file?")
    return survey


@dataclass
class Findings:
    """What the second reading found."""

    receipt: dict[str, Any]  # as in receipt.json
    identifiers: int  # that are a reason to refuse the sources
    copies: dict[str, list[str]]  # held-out split -> training records of nearly the same text
    grams: dict[str, NgramIndex]  # held-out split -> its 13-grams


class Seen(NamedTuple):
    """What is found in a record as it will be written."""

    record_id: str
    inspection: Inspection
    replaced: dict[str, int]  # kind of identifier -> how many there were before
    hashes: NDArray[np.uint64] | None  # 13-grams, of one held out


@dataclass(frozen=True)
class Inspecting:
    """What is done with a chunk, in whatever process."""

    redactor: Redactor | None

    def __call__(self, chunk: Sequence[Item]) -> list[Seen]:
        return [self._inspect(item) for item in chunk]

    def _inspect(self, item: Item) -> Seen:
        record, replaced = item.record, {}
        if self.redactor:
            record = self.redactor.record(record)
            replaced = inspect(item.record).counts
        held_out = item.split in HELD_OUT
        hashes = ngram_hashes(record.full_text()) if held_out else None
        return Seen(record.id, inspect(record), replaced, hashes)


def find_out(
    parts: Sequence[Part],
    survey: Survey,
    redactor: Redactor | None,
    *,
    allow_phi: bool,
    others: Iterable[Prepared],
    workers: int,
) -> Findings:
    """Read again and inspect every record as it will be written.

    `others`: whose records held out count as held out here, when it comes to runs of 13 words.
    """
    receipt = Receipt(done=redactor.how if redactor else "none")
    hashes: dict[str, list[NDArray[np.uint64]]] = {split: [] for split in HELD_OUT}
    chunks = chunks_of(iter_items(parts, lambda _: None))
    with (
        closing(map_chunks(Inspecting(redactor), chunks, workers=workers)) as results,
        survey.progress("inspecting") as bar,
    ):
        for chunk, seen in results:
            for item, each in zip(chunk, seen, strict=True):
                name = parts[item.source].name
                receipt.see(
                    item.split, name, each.record_id, each.inspection, replaced=each.replaced
                )
                if each.hashes is not None:
                    hashes[item.split].append(each.hashes)
            bar.update(len(chunk))
    for prepared, split in product(others, HELD_OUT):
        hashes[split] += [ngram_hashes(record.full_text()) for record in prepared.records(split)]
    own = [part.name for part in parts if not part.published]
    identifiers = 0 if redactor else receipt.refusable(own)
    if receipt.done == "none":
        receipt.done = "allowed" if allow_phi else "none"
        if not identifiers and len(own) < len(parts):
            receipt.done = "published"
    return Findings(
        receipt=receipt.to_json(),
        identifiers=identifiers,
        copies={split: receipt.copies(split) for split in HELD_OUT},
        grams={split: NgramIndex(kept) for split, kept in hashes.items()},
    )
