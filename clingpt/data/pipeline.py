"""prepare.py's three passes over its sources: count records, inspect them, make examples from them.

Every pass reads the sources again from the start, so that memory does not grow with them:

    count_records     reads and cleans everything once; a malformed last line is reported in seconds
    inspect_records   searches each record for identifiers, duplicates and overlap between splits
    write_examples    turns each record into prompt and target tokens and writes them

With --train_tokenizer, `train_vocabulary` reads the training records once more before the last.
The second and the third pass work in other processes, one chunk of records at a time. Results come
back in the order of the records, so the number of processes never changes a byte of the output.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from clingpt.base import console
from clingpt.base.errors import DataError
from clingpt.base.workers import map_chunks, split_chunks
from clingpt.data.cells import CellError
from clingpt.data.hygiene import Inspection, Receipt, inspect
from clingpt.data.overlap import (
    HeldOut,
    Measure,
    Positions,
    RunIndex,
    phrases,
    text_runs,
)
from clingpt.data.prepared import HELD_OUT, FolderWriter, Piece, Prepared
from clingpt.data.readers.text_file import LeftOut, OnBad, shown_name
from clingpt.data.sources import SPELLINGS, Source, check_unchanged
from clingpt.privacy.detectors import for_record
from clingpt.privacy.identifiers import Detector
from clingpt.privacy.redaction import Redactor, masked_text
from clingpt.text.documents import DocumentForm, HeadingCounts, headings_and_opening
from clingpt.text.records import LABELS, SPLITS, Record
from clingpt.text.tasks import (
    Example,
    NotApplicable,
    example_text,
    heading,
    make_example,
    text_windows,
)
from clingpt.text.tokenizer import Tokenizer, train_tokenizer
from clingpt.text.windows import section_examples, section_window

Long = Literal["window", "sections", "trim", "drop"]
TOO_LONG = "longer than the context"
COPIED = "copies a val or test record"
UNWEIGHTED = "left out by its source's weight"
SHOWN_IDS = 3
MOST_LOOKS, SHOWN_LOOKS = 200, 10  # different values of a column with cells that cannot be read
OTHERS = "other values"
SHOWN_PHRASES = 10  # of boilerplate
MOST_RUNS = 2000  # to look for among the records, for these phrases

# What differs between two messages of the same kind: the place, the id, quoted text, numbers.
_PARTICULARS = re.compile(
    r"^.*?:\d+: |(?<=duplicate record ).+(?= in )|(?<=record ).+?(?=: )|'[^']*'|\d+"
)


# Reading


class Item(NamedTuple):
    """A record on its way through a pass."""

    source: int  # number of the source that it comes from
    split: str
    record: Record
    key: str  # identifies the record (sources.Read); every draw is a hash of it
    official: bool  # the source or PubMedQA's lists gave the split; otherwise a hash did
    renamed: bool = False  # another record had its id before
    planted: bool = False  # a canary: neither inspected nor redacted, and never dropped


def read_sources(sources: Sequence[Source], on_bad: OnBad) -> Iterator[Item]:
    """Yield all records of all sources, each under a unique id; every call yields the same.

    Ids stay as they are, so that PubMedQA's official lists apply. If an id recurs with a different
    text, the later record is renamed to `id#2`; after `count_records`, both are in the same split.
    Exact duplicates of a record with an id count as bad records. Without ids, equal records may
    belong to different patients, so all are kept.
    """
    names = set[str]()
    seen = set[int]()  # hashes of whole records, ids included: 8 bytes each, not their texts
    repeats = Counter[str]()
    for number, source in enumerate(sources):
        for split, record, key, own_id, official in source.read(on_bad):
            if own_id and hash(record) in seen:
                name = record.id if source.published else shown_name(record.id)
                on_bad(DataError(f"duplicate record {name} in {source.name}"))
                continue
            if own_id:
                seen.add(hash(record))
            item = Item(number, split, record, key, official)
            if record.id in names:
                repeats[record.id] += 1
                new_id = f"{record.id}#{repeats[record.id] + 1}"
                while new_id in names:  # the source itself has a record of this name
                    new_id += "#2"
                item = item._replace(record=replace(record, id=new_id), renamed=own_id)
            names.add(item.record.id)
            yield item


def reread(sources: Sequence[Source]) -> Iterator[Item]:
    """Read the sources again after `count_records`, which has reported or counted bad records."""
    return read_sources(sources, lambda _: None)


def in_chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Group items into chunks of similar size for `map_chunks`."""
    return split_chunks(items, lambda item: len(item.record.full_text()))


def names_of(sources: Sequence[Source]) -> str:
    """Join the names of all sources for a message."""
    return " and ".join(source.name for source in sources)


# First pass: count


@dataclass
class Survey:
    """The counts of the first pass."""

    records: Counter[tuple[int, str]] = field(default_factory=Counter)  # (source, split)
    labels: Counter[tuple[int, str, str | None]] = field(default_factory=Counter)
    renamed: Counter[int] = field(default_factory=Counter)  # source
    shared_ids: set[str] = field(default_factory=set)  # of several records
    hashed: Counter[str] = field(default_factory=Counter)  # split -> records that a hash put there
    groups: Counter[tuple[int, int, str]] = field(default_factory=Counter)  # see `note_group`
    ungrouped: Counter[int] = field(default_factory=Counter)  # source -> records without a group
    bad: Counter[str] = field(default_factory=Counter)  # first message of its kind -> records
    kinds: dict[str, str] = field(default_factory=dict)  # kind of message -> the first one
    # (column, what its cells must be) -> what they look like instead -> records; see `refuse_cells`
    cells: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    first_cells: dict[tuple[str, str], str] = field(default_factory=dict)  # the first one's place
    held_out: HeldOut = field(default_factory=HeldOut)  # the runs of val and test records

    def see(self, item: Item) -> None:
        """Count a record."""
        self.records[item.source, item.split] += 1
        self.labels[item.source, item.split, item.record.decision] += 1
        self.renamed[item.source] += item.renamed
        if item.renamed:
            self.shared_ids.add(item.key)
        self.hashed[item.split] += not item.official
        self.note_group(item)
        if item.split in HELD_OUT:
            self.held_out.add(item.split, item.record)

    def note_bad(self, error: DataError) -> None:
        """Count an unusable record together with others that failed for the same reason."""
        kind = _PARTICULARS.sub("", str(error))
        self.bad[self.kinds.setdefault(kind, str(error))] += 1

    def note_cell(self, error: CellError) -> None:
        """Count a cell that cannot be read together with others of its column."""
        key = error.column, error.wanted
        looks = self.cells.setdefault(key, Counter())
        looks[error.looks if error.looks in looks or len(looks) < MOST_LOOKS else OTHERS] += 1
        self.first_cells.setdefault(key, error.place)

    def note_group(self, item: Item) -> None:
        """Count a record under (hash of its group, source, split): the group itself is private."""
        if item.record.group is None:
            self.ungrouped[item.source] += 1
        else:
            self.groups[hash(item.record.group), item.source, item.split] += 1

    def count_groups(self, source: int, split: str) -> int:
        """Count the groups with records in a split of a source."""
        return sum((number, name) == (source, split) for _, number, name in self.groups)

    def divided_groups(self) -> Counter[tuple[str, ...]]:
        """Count the groups with records in several splits, by these splits."""
        places: dict[int, set[str]] = {}
        for group, _, split in self.groups:
            places.setdefault(group, set()).add(split)
        divided = (tuple(s for s in SPLITS if s in found) for found in places.values())
        return Counter(splits for splits in divided if len(splits) > 1)


class Unusable(DataError):
    """A record that stops the run."""


def count_records(sources: Sequence[Source], *, skip_bad: bool) -> Survey:
    """Read everything and count it.

    Records that share an id must share a split, so their id decides it instead of their texts. Only
    this pass finds such ids, and HTML in columns whose first rows have none: it stores them in the
    sources, and reads these again if there are any.
    Raises DataError at the first unusable record unless `skip_bad`, and if nothing is left to
    train on.
    """

    def on_bad(error: DataError) -> None:
        if isinstance(error, Unusable):  # a folder's reader caught what the file's reader got
            raise error
        if not skip_bad and isinstance(error, CellError):
            survey.note_cell(error)  # refused after the last row, with all their counts
            return
        if not skip_bad and not isinstance(error, LeftOut):
            raise Unusable(f"{error} (--skip_bad=True drops and counts such records)")
        survey.note_bad(error)

    while True:
        survey = Survey()
        items = read_sources(sources, on_bad)
        for item in console.progress(items, label="reading", unit=" records"):
            survey.see(item)
        late = [source.read_late_html() for source in sources]
        if not any(late) and all(survey.shared_ids <= source.shared_ids for source in sources):
            break
        for source in sources:
            source.shared_ids.update(survey.shared_ids)
    refuse_cells(survey)
    check_spellings(survey, sources)
    if not any(n for (_, split), n in survey.records.items() if split == "train"):
        raise DataError(
            f"{names_of(sources)} contains no record to train on; {_why_none_to_train_on(survey)}"
        )
    return survey


def _why_none_to_train_on(survey: Survey) -> str:
    """Say where the records are if none is for training, and what to do."""
    held_out = Counter[str]()
    for (_, split), n in survey.records.items():
        held_out[split] += n
    if not held_out.total():
        return "is it the right file?"
    counts = " and ".join(f"{console.count(held_out[split])} in {split}" for split in HELD_OUT)
    if survey.hashed.total() < held_out.total():
        return f"the official splits have {counts}; pass --split= to split by a hash instead"
    return f"a hash put {counts}; pass smaller shares, or --group= to divide large groups"


def refuse_cells(survey: Survey) -> None:
    """Raise DataError if a column has cells that cannot be read: what they are, and how many."""
    if not survey.cells:
        return
    key, looks = max(survey.cells.items(), key=lambda item: item[1].total())
    column, wanted = shown_name(key[0]), key[1]
    n, total = looks.total(), survey.records.total() + looks.total()
    shown = [f"{each} ({console.count(times)})" for each, times in looks.most_common(SHOWN_LOOKS)]
    more = f" and {len(looks) - SHOWN_LOOKS} more" if len(looks) > SHOWN_LOOKS else ""
    found = (
        f"the column {column!r} must be {wanted}, but in {console.count(n)} of "
        f"{console.count(total, 'record')} it is {', '.join(shown)}{more}, first at "
        f"{survey.first_cells[key]}"
    )
    if wanted == "yes, no or maybe":
        flags = " ".join(f'"{each[1:-1]}=…"' for each in list(looks)[:SHOWN_IDS] if each[0] == "'")
        advice = f"map the values to yes, no or maybe: --labels {flags or 'VALUE=yes'}"
    else:
        advice = "write it as plain text, or name another column"
    raise DataError(f"{found}; {advice} (--skip_bad=True drops and counts such records)")


def check_spellings(survey: Survey, sources: Sequence[Source]) -> None:
    """Raise DataError if a source's own splits have names other than train, val and test."""
    for number, source in enumerate(sources):
        unknown = {
            split: n
            for (each, split), n in survey.records.items()
            if each == number and split not in SPLITS
        }
        if unknown:
            assert source.columns and source.columns.split
            shown = [
                f"{name} ({console.count(n, 'record')})" for name, n in sorted(unknown.items())
            ]
            more = f" and {len(shown) - SHOWN_IDS} more" if len(shown) > SHOWN_IDS else ""
            known = ", ".join(f"{name} ({spelt})" for name, spelt in SPELLINGS.items())
            raise DataError(
                f"column {shown_name(source.columns.split)!r} of {source.name} has "
                f"unknown splits: {', '.join(shown[:SHOWN_IDS])}{more}; rename them to {known}, "
                "or pass --split= to split by a hash instead"
            )


def share_of_yes_to_keep(
    survey: Survey, sources: Sequence[Source], yes_share: float | None
) -> float:
    """Return the share of yes records to keep for a share of `yes_share` among all answers."""
    yes, others = 0.0, 0.0
    for number, source in enumerate(sources):
        for label in LABELS:
            n = source.weight * survey.labels[number, "train", label]
            if label == "yes":
                yes += n
            else:
                others += n
    if yes_share is None or not yes:
        return 1.0
    return min(1.0, others * yes_share / (1 - yes_share) / yes)


# Second pass: inspect


@dataclass
class Findings:
    """What the second pass found."""

    receipt: dict[str, Any]  # the content of receipt.json
    identifiers: int  # that are a reason to refuse the sources
    # Held-out split -> ids, not redacted, of the training records that copy its records, and why.
    copies: dict[str, dict[str, Measure]]
    boilerplate: list[tuple[int, str]]  # the commonest phrases, masked, and how many records share
    # Headings of the training documents that recur, in their order, with how many have them. Empty
    # if no record comes with a document.
    headings: dict[str, int] = field(default_factory=dict)
    asks_headings: bool = False  # every document is one section, whose heading a column names
    # Held-out split -> the published articles of its records; see `articles_to_keep`.
    articles: dict[str, list[str]] = field(default_factory=dict)
    # Folders of --against whose held-out records name no article, if training records do.
    compared_by_text: tuple[str, ...] = ()


class Seen(NamedTuple):
    """What was found in one record, in the form in which it will be written."""

    record_id: str
    inspection: Inspection
    replaced: dict[str, int]  # kind of identifier -> how many redaction replaced
    hits: Positions | None  # the held-out runs that it repeats, if it is a training record
    headings: Sequence[str] | None  # of its document; None: it has none, or is held out


def inspect_chunk(
    redactor: Redactor | None, detect: Detector, held_out: Path, chunk: Sequence[Item]
) -> list[Seen]:
    """Inspect a chunk of records; runs in a worker process. `held_out` is a saved RunIndex."""
    index = RunIndex.open(held_out)
    seen = []
    for item in chunk:
        record, before = item.record, None
        if redactor:
            before = inspect(item.record, redactor.detect)
            record = redactor.record(item.record)
        inspection = inspect(record, detect)
        if before and as_compared(redactor, item.record, record) is item.record:
            inspection = replace(inspection, fingerprint=before.fingerprint)
        hits = headings = None
        if item.split == "train":
            # Held-out runs are those of the sources, unredacted, and those of `--against` folders,
            # which may contain tags.
            runs = text_runs(item.record.full_text())
            if redactor and redactor.how == "tags":
                runs = np.append(runs, text_runs(record.full_text()))
            hits = index.find(runs)
            headings = own_headings(record)
            if headings and record.known:  # a patient's name may head the lines about them
                headings = [name for name in headings if not for_record(detect, record)(name)]
        replaced = before.counts if before else {}
        seen.append(Seen(record.id, inspection, replaced, hits, headings))
    return seen


def own_headings(record: Record) -> Sequence[str] | None:
    """Return the headings of a record's own document; None if it has no document."""
    if record.document is None:
        return None
    return [record.heading] if record.heading else headings_and_opening(record.document)


def as_compared(redactor: Redactor | None, before: Record, after: Record) -> Record:
    """Return the form of a record, before or after redaction, that others are compared with.

    Surrogates differ from run to run. Compared by them, two notes would be copies in one run and
    not in the next, and a dry run could not tell what the real run will find.
    """
    return before if redactor and redactor.how == "surrogates" else after


def inspect_records(
    sources: Sequence[Source],
    survey: Survey,
    redactor: Redactor | None,
    detect: Detector,
    *,
    detectors: Mapping[str, Any],
    allow_phi: bool,
    others: Iterable[Prepared],
    scratch: Path,
    workers: int,
) -> Findings:
    """Inspect every record in the form in which it will be written; see `as_compared` for copies.

    What `detect` finds is counted, and may be a reason to refuse a source; `detectors` describes it
    in the receipt. The held-out records of `others`, folders prepared earlier, count as held out
    here too. The path `scratch` is for a temporary file.
    """
    articles = articles_to_keep(survey.held_out, redactor)
    without_articles = hold_out(others, survey.held_out)
    postings = survey.held_out.postings()
    # Through a file, which processes map into memory: pickled, each would hold its own copy.
    RunIndex(postings.runs).save(scratch)
    receipt = Receipt(redactor.how if redactor else "none", postings, detectors)
    masking = redactor.detect if redactor else detect
    id_before = dict[str, str]()  # of records whose id was redacted
    headings, n_asking, n_published = HeadingCounts(), 0, 0
    total = survey.records.total()
    inspecting = map_chunks(
        partial(inspect_chunk, redactor, detect, scratch),
        in_chunks(reread(sources)),
        workers=workers,
    )
    with (
        closing(inspecting) as results,
        console.progress_bar(label="inspecting", total=total, unit=" records") as bar,
    ):
        for chunk, seen in results:
            for item, one in zip(chunk, seen, strict=True):
                receipt.see(
                    item.split,
                    sources[item.source].name,
                    one.record_id,
                    one.inspection,
                    replaced=one.replaced,
                    hits=one.hits,
                    articles=item.record.articles,
                )
                n_published += item.split == "train" and bool(item.record.articles)
                if one.record_id != item.record.id:
                    id_before[one.record_id] = item.record.id
                if one.headings is not None:
                    headings.see(one.headings, item.record.group or item.key)
                    n_asking += item.record.heading is not None
            bar.update(len(chunk))
    private = [source.name for source in sources if not source.published]
    identifiers = 0 if redactor else receipt.refusable(private)
    if receipt.done == "none":
        receipt.done = "allowed" if allow_phi else "none"
        if not identifiers and len(private) < len(sources):
            receipt.done = "published"
    # The manifest and the card are in clear text: what recurs may still be a doctor's name.
    recurring = headings.common() if headings.documents else {}
    named = {name: n for name, n in recurring.items() if not masking(name)}
    return Findings(
        receipt=receipt.to_json(),
        identifiers=identifiers,
        copies={
            split: {id_before.get(name, name): why for name, why in receipt.copies(split).items()}
            for split in HELD_OUT
        },
        boilerplate=boilerplate(sources, dict(receipt.shared_runs.commonest(MOST_RUNS)), masking),
        headings=named,
        asks_headings=0 < n_asking == headings.documents,
        articles=articles,
        compared_by_text=tuple(without_articles) if n_published else (),
    )


def hold_out(others: Iterable[Prepared], held_out: HeldOut) -> list[str]:
    """Add the held-out records of other folders; return the folders that name no article."""
    without_articles = list[str]()
    for prepared in others:
        n_articles = 0
        for split in HELD_OUT:
            numbers = prepared.articles(split)
            held_out.add_articles(split, numbers)
            n_articles += len(numbers)
            for record in prepared.records(split):
                held_out.add(split, record)
                n_articles += len(record.articles)  # if its id is a PMCID
        if not n_articles:
            without_articles.append(str(prepared.folder))
    return without_articles


def articles_to_keep(held_out: HeldOut, redactor: Redactor | None) -> dict[str, list[str]]:
    """List the held-out articles of each split, sorted, so that their order tells no record.

    PMIDs are left out if the data are redacted: only the name of their column says what they are,
    and a hospital may call its patients' numbers that.
    """
    return {
        split: sorted(
            number
            for number, splits in held_out.articles.items()
            if split in splits and not (redactor and number.startswith("PMID:"))
        )
        for split in HELD_OUT
    }


def boilerplate(
    sources: Sequence[Source], holders: dict[int, int], detect: Detector
) -> list[tuple[int, str]]:
    """Spell out the commonest phrases, given the runs of 13 words that many records hold.

    Only hashes of runs are known, so the records are read again until enough of them are found,
    which is early, since they are common. Neighbouring runs are joined into a phrase. What `detect`
    finds to be an identifier is masked.
    """
    found: list[tuple[int, str, Record]] = []
    for item in reread(sources) if holders else ():
        text = item.record.full_text()
        for n, start, end in phrases(text, holders):
            found.append((n, " ".join(text[start:end].split()), item.record))
        found = sorted(found, key=lambda one: -one[0])[:SHOWN_PHRASES]
        enough = len(found) == SHOWN_PHRASES
        if not holders or (enough and max(holders.values()) <= found[-1][0]):
            break
    return [(n, masked_text(phrase, [record], detect)) for n, phrase, record in found]


# Third pass: make examples


@dataclass
class Tally:
    """Counts of what the third pass wrote and dropped."""

    lengths: dict[str, Counter[int]] = field(default_factory=dict)  # task -> tokens -> examples
    trimmed: Counter[str] = field(default_factory=Counter)  # task -> examples
    trimmed_tokens: Counter[str] = field(default_factory=Counter)
    windowed: Counter[str] = field(default_factory=Counter)  # task -> records of several examples
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)  # (task or record, reason)

    def add(self, other: "Tally") -> None:
        """Add the counts of the next chunk."""
        for task, lengths in other.lengths.items():
            self.lengths.setdefault(task, Counter()).update(lengths)
        for name in ("trimmed", "trimmed_tokens", "windowed", "dropped"):
            getattr(self, name).update(getattr(other, name))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings that determine how records become examples."""

    tasks: tuple[str, ...]
    tokenizer: Tokenizer
    budget: int  # tokens of an example
    long: Long
    form: DocumentForm = DocumentForm()  # of the documents
    weights: tuple[float, ...]  # of the sources
    keep_yes: float  # share of the training answers yes
    views: tuple[str, ...]
    section_dropout: float
    key: str  # seeds the draws of section dropout
    redactor: Redactor | None
    dropped: Set[str]  # ids of training records that copy a held-out one, if these are dropped


def train_vocabulary(
    sources: Sequence[Source], survey: Survey, recipe: Recipe, size: int, *, workers: int
) -> Tokenizer:
    """Train a tokenizer on the training records, redacted and without those that are dropped."""
    with (
        closing(
            map_chunks(partial(training_texts, recipe), in_chunks(reread(sources)), workers=workers)
        ) as results,
        console.progress_bar(
            label="training a tokenizer", total=survey.records.total(), unit=" records"
        ) as bar,
    ):

        def texts() -> Iterator[str]:
            for chunk, found in results:
                yield from found
                bar.update(len(chunk))

        return train_tokenizer(texts(), size)


def training_texts(recipe: Recipe, chunk: Sequence[Item]) -> list[str]:
    """Return the texts of a chunk's training examples; runs in a worker process."""
    texts = list[str]()
    for item in chunk:
        if item.split != "train" or item.record.id in recipe.dropped:
            continue
        copies = count_copies(item.key, recipe.weights[item.source])
        record = recipe.redactor.record(item.record) if recipe.redactor else item.record
        for task in recipe.tasks:
            with suppress(NotApplicable):
                texts += [example_text(task, record)] * copies
    return texts


def write_examples(
    sources: Sequence[Source],
    survey: Survey,
    recipe: Recipe,
    writer: FolderWriter,
    *,
    planted: Iterable[Record],
    workers: int,
) -> Tally:
    """Make the examples of all records, then of the `planted` ones, and write them in order."""
    canaries = (Item(0, "train", r, r.id, official=True, planted=True) for r in planted)
    chunks = in_chunks(chain(reread(sources), canaries))
    tally = Tally()
    total = survey.records.total()
    with (
        closing(map_chunks(partial(make_examples, recipe), chunks, workers=workers)) as results,
        console.progress_bar(label="tokenising", total=total, unit=" records") as bar,
    ):
        for chunk, (pieces, chunk_tally) in results:
            for piece in pieces:
                writer.append(piece)
            tally.add(chunk_tally)
            bar.update(len(chunk))
    for source in sources:
        check_unchanged(source)
    return tally


def make_examples(recipe: Recipe, chunk: Sequence[Item]) -> tuple[list[Piece], Tally]:
    """Turn a chunk of records into one Piece per split; runs in a worker process."""
    tokenizer = recipe.tokenizer
    pieces, tally = {split: Piece(split) for split in SPLITS}, Tally()
    for item in chunk:
        record, tasks, copies, extra_views = item.record, recipe.tasks, 1, list[Record]()
        if recipe.redactor and not item.planted:
            record = recipe.redactor.record(record)

        # Only training records are dropped, repeated or varied. Val and test stay complete.
        if item.split == "train" and not item.planted:
            if item.record.id in recipe.dropped:
                tally.dropped["record", COPIED] += 1
                continue
            copies = count_copies(item.key, recipe.weights[item.source])
            if not copies:
                tally.dropped["record", UNWEIGHTED] += 1
                continue
            surplus = item.record.decision == "yes" and (
                unit_hash(f"surplus {item.key}") > recipe.keep_yes
            )
            if "answer" in tasks and surplus:
                tally.dropped["answer", "surplus yes"] += 1
                tasks = tuple(task for task in tasks if task != "answer")
            if "answer" in tasks:
                extra_views = views(
                    record,
                    recipe.views,
                    dropout=recipe.section_dropout,
                    key=f"{recipe.key}\n{item.key}",
                )[1:]

        piece = pieces[item.split]
        add_examples(piece, record, tasks, copies, recipe, tokenizer, tally)
        for view in extra_views:
            add_examples(piece, view, ("answer",), copies, recipe, tokenizer, tally)
    return list(pieces.values()), tally


def add_examples(
    piece: Piece,
    record: Record,
    tasks: Sequence[str],
    copies: int,
    recipe: Recipe,
    tokenizer: Tokenizer,
    tally: Tally,
) -> None:
    """Append a record and, `copies` times, its examples for each task that its fields allow."""
    made: list[tuple[str, Example]] = []
    for task in tasks:
        try:
            examples = fitting_examples(task, record, recipe, tokenizer, tally)
        except NotApplicable as reason:
            tally.dropped[task, str(reason)] += 1
            continue
        tally.windowed[task] += len(examples) > 1
        lengths = tally.lengths.setdefault(task, Counter())
        for example in examples:
            lengths[len(example.prompt_ids) + len(example.target_ids)] += copies
            tally.trimmed[task] += copies * (example.trimmed_tokens > 0)
            tally.trimmed_tokens[task] += copies * example.trimmed_tokens
            made.append((task, example))
    piece.add(record, made * copies)


def document_form(findings: Findings, *, long: Long, block_size: int) -> DocumentForm:
    """Return the form of the documents that the second pass found."""
    if not findings.headings:
        return DocumentForm()
    by_section = long == "sections" or findings.asks_headings
    return DocumentForm(
        tuple(findings.headings), section_window(block_size) if by_section else None
    )


def fitting_examples(
    task: str, record: Record, recipe: Recipe, tokenizer: Tokenizer, tally: Tally
) -> list[Example]:
    """Make a record's examples of one task, each within the budget.

    The task `text` cuts a long text into windows, and so does `document` by sections. Other tasks
    cannot: no window of a report has the whole report's summary or answer, so their prompts lose
    sentences or are dropped.
    """
    if task == "text":
        examples = list(text_windows(record, tokenizer, budget=recipe.budget))
        if len(examples) > 1 and recipe.long == "trim":
            cut = sum(len(example.target_ids) for example in examples[1:])
            examples = [replace(examples[0], trimmed_tokens=cut)]
    elif task == "document" and record.document and recipe.form.window:
        examples, n_too_long = section_examples(
            record, tokenizer, recipe.form, budget=recipe.budget
        )
        if n_too_long:
            tally.dropped[task, "a section too long"] += n_too_long
        if not examples:
            raise NotApplicable("target too long")
    else:
        if task == "document" and record.document and recipe.long == "sections":
            raise NotApplicable("no heading that recurs in the data")
        examples = [make_example(task, record, tokenizer, budget=recipe.budget)]
    if recipe.long == "drop" and (len(examples) > 1 or examples[0].trimmed_tokens):
        raise NotApplicable(TOO_LONG)
    return examples


def count_copies(key: str, weight: float) -> int:
    """Return how often to write a training record: weight 0.3 keeps 30 %, 2 writes all twice.

    A hash of the record's key decides the fractional part, so every run keeps the same records.
    """
    whole = math.floor(weight)
    return whole + (unit_hash(f"weight {key}") < weight - whole)


# Views


def views(record: Record, kinds: Collection[str], *, dropout: float, key: str) -> list[Record]:
    """Return the record, then its views: the same question with less context, all of them distinct.

    `results` keeps only the sections that report results. `dropout` adds a view that omits each
    section with that probability, never all of them. `question` keeps no section, and drops the
    conclusion too, because it cannot be drawn from a question. Only answers are varied: shortened
    notes with an unchanged summary would teach a model to invent the difference.
    """
    found = {record.sections: record}
    results = tuple(pair for pair in record.sections if heading(pair[0]) == "RESULTS")
    if "results" in kinds and results:
        found.setdefault(results, replace(record, id=f"{record.id}#results", sections=results))
    kept = undropped_sections(record, dropout=dropout, key=key)
    found.setdefault(kept, replace(record, id=f"{record.id}#dropout", sections=kept))
    if "question" in kinds and record.sections and record.question and record.decision:
        found[()] = replace(record, id=f"{record.id}#question", sections=(), long_answer=None)
    return list(found.values())


def undropped_sections(record: Record, *, dropout: float, key: str) -> tuple[tuple[str, str], ...]:
    """Drop each section with probability `dropout`; if all would go, keep the highest draw.

    A section's draw is a hash of `key`, which names the record, and its place in the record.
    """
    draws = [unit_hash(f"{key}\n{place}") for place in range(len(record.sections))]
    limit = min(dropout, max(draws, default=1))
    pairs = zip(record.sections, draws, strict=True)
    return tuple(section for section, draw in pairs if draw >= limit)


def unit_hash(text: str) -> float:
    """Map a text to a number in [0, 1), uniformly and always to the same one."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
