"""Records made into examples, chunk by chunk, in whatever process: what is left out, how often a
record counts, which views of it there are, what becomes of long ones; and all of that counted.

What a task asks is clingpt/text/tasks.py's to know, and what stands where on disk
clingpt/data/prepared.py's."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clingpt.base.workers import map_chunks
from clingpt.data.augmentation import unit_hash, views
from clingpt.data.mixture import Item, chunks_of, count_copies
from clingpt.data.ngrams import NgramIndex, ngram_hashes
from clingpt.data.prepared import FolderWriter, Piece
from clingpt.privacy.redaction import Redactor
from clingpt.text.records import SPLITS, Record
from clingpt.text.tasks import Example, NotApplicable, make_example, text_windows
from clingpt.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tqdm import tqdm

Long = Literal["window", "trim", "drop"]
TOO_LONG = "longer than the context"
OVERLAPPING = "its text stands in val or test"
UNWEIGHTED = "left out by its source's weight"
SHOWN_IDS = 3


@dataclass
class Tally:
    """What became of records."""

    lengths: dict[str, Counter[int]] = field(default_factory=dict)  # task -> tokens -> examples
    trimmed: Counter[str] = field(default_factory=Counter)  # task -> examples
    trimmed_tokens: Counter[str] = field(default_factory=Counter)
    windowed: Counter[str] = field(default_factory=Counter)  # task -> records of several examples
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)  # (task or record, reason)
    sharing: Counter[str] = field(default_factory=Counter)  # held-out split -> training records
    first_sharing: dict[str, list[str]] = field(default_factory=dict)  # their ids

    def add(self, other: "Tally") -> None:
        """Count what comes behind as well."""
        for task, lengths in other.lengths.items():
            self.lengths.setdefault(task, Counter()).update(lengths)
        for name in ("trimmed", "trimmed_tokens", "windowed", "dropped", "sharing"):
            getattr(self, name).update(getattr(other, name))
        for split, ids in other.first_sharing.items():
            known = self.first_sharing.setdefault(split, [])
            known += ids[: max(0, SHOWN_IDS - len(known))]


@dataclass(frozen=True)
class Made:
    """What a chunk gives: a piece of each split."""

    pieces: list[Piece]
    tally: Tally


@dataclass(frozen=True, kw_only=True)
class Making:
    """How records become examples."""

    tasks: tuple[str, ...]
    budget: int  # tokens of an example
    long: Long
    weights: tuple[float, ...]  # of the sources
    keep_yes: float  # share of the training answers yes
    views: tuple[str, ...]
    section_dropout: float
    key: str  # of what section dropout draws
    redactor: Redactor | None
    drop_overlap: bool
    copies: Set[str]  # ids of training records that say nearly what one held out does
    held_out: Mapping[str, Path] = field(default_factory=dict)  # val, test -> an NgramIndex

    # Not before a chunk comes, so that they are not sent to other processes.

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer.load()

    @cached_property
    def grams(self) -> dict[str, NgramIndex]:
        return {split: NgramIndex.open(path) for split, path in self.held_out.items()}

    def __call__(self, chunk: Sequence[Item]) -> Made:
        made = Made([Piece(split) for split in SPLITS], Tally())
        for item in chunk:
            self._add(item, made.pieces[SPLITS.index(item.split)], made.tally)
        return made

    def _add(self, item: Item, piece: Piece, tally: Tally) -> None:
        """Make a record's examples, unless it is left out, and append them."""
        record, copies, tasks = item.record, 1, self.tasks
        if self.redactor and not item.planted:
            record = self.redactor.record(record)
        if item.split == "train" and not item.planted:
            shares = self._shares(record, tally)
            if self.drop_overlap and (shares or record.id in self.copies):
                tally.dropped["record", OVERLAPPING] += 1
                return
            copies = count_copies(item.record.id, self.weights[item.source])
            if not copies:
                tally.dropped["record", UNWEIGHTED] += 1
                return
            if "answer" in tasks and self._is_surplus(item.record):
                tally.dropped["answer", "surplus yes"] += 1
                tasks = tuple(task for task in tasks if task != "answer")
        piece.add(record, self._examples(tasks, record, copies, tally))
        if item.split == "train" and not item.planted and "answer" in tasks:
            for view in views(record, self.views, dropout=self.section_dropout, key=self.key)[1:]:
                piece.add(view, self._examples(("answer",), view, copies, tally))

    def _shares(self, record: Record, tally: Tally) -> bool:
        """Whether a training record has a run of 13 words of one held out."""
        hashes = ngram_hashes(record.full_text())
        found = [split for split, grams in self.grams.items() if grams.shares(hashes)]
        tally.sharing.update(found)
        for split in found:
            tally.first_sharing.setdefault(split, []).append(record.id)
        return bool(found)

    def _is_surplus(self, record: Record) -> bool:
        return record.decision == "yes" and unit_hash(f"surplus {record.id}") > self.keep_yes

    def _examples(
        self, tasks: Sequence[str], record: Record, copies: int, tally: Tally
    ) -> list[tuple[str, Example]]:
        """A record's examples, each so many times; none of a task that it lacks something for."""
        found = []
        for task in tasks:
            try:
                examples = self._fitting(task, record, tally)
            except NotApplicable as reason:
                tally.dropped[task, str(reason)] += 1
                continue
            lengths = tally.lengths.setdefault(task, Counter())
            for example in examples:
                lengths[len(example.prompt_ids) + len(example.target_ids)] += copies
                tally.trimmed[task] += copies * (example.trimmed_tokens > 0)
                tally.trimmed_tokens[task] += copies * example.trimmed_tokens
            found += [(task, example) for example in examples]
        return found * copies

    def _fitting(self, task: str, record: Record, tally: Tally) -> list[Example]:
        """Examples within the budget.

        Of a long text all windows, or the first one. No piece of a report has the whole report's
        summary or answer, so what other tasks read can only lose sentences, or be dropped.
        """
        if task == "text":
            examples = list(text_windows(record, self.tokenizer, budget=self.budget))
            if len(examples) > 1 and self.long == "trim":
                cut = sum(len(example.target_ids) for example in examples[1:])
                examples = [replace(examples[0], trimmed_tokens=cut)]
        else:
            examples = [make_example(task, record, self.tokenizer, budget=self.budget)]
        if self.long == "drop" and (len(examples) > 1 or examples[0].trimmed_tokens):
            raise NotApplicable(TOO_LONG)
        tally.windowed[task] += len(examples) > 1
        return examples


def make_all(
    items: Iterable[Item],
    making: Making,
    writer: FolderWriter,
    *,
    workers: int,
    bar: "tqdm[None]",
) -> Tally:
    """Make the examples of all records and write them, in order."""
    tally = Tally()
    with closing(map_chunks(making, chunks_of(items), workers=workers)) as results:
        for chunk, made in results:
            for piece in made.pieces:
                writer.append(piece)
            tally.add(made.tally)
            bar.update(len(chunk))
    return tally
