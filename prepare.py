"""Turn a source of records into tokens to train on.

    python prepare.py --source=synthetic --out=data/quickstart
    python prepare.py --source=pubmedqa --out=data/pubmedqa
    python prepare.py --source=ori_pqal.json --out=data/pubmedqa
    python prepare.py --source=pubmedqa --subset=pqa_artificial --yes_share=0.5

Records are cleaned, split, written out as prompt and target for each task, and tokenised into a
folder of memory-mapped uint16 files (docs/formats.md). The source is read twice and never held in
memory. Needs no GPU and no PyTorch.
"""

import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from clingpt import config, console, synthetic
from clingpt.errors import DataError
from clingpt.overlap import NgramIndex, record_text
from clingpt.prepared import FolderWriter, Prepared, open_prepared
from clingpt.records import LABELS, Record
from clingpt.sources import OnBad, open_source
from clingpt.splits import N_FOLDS, SPLITS, split_of
from clingpt.tasks import TASKS, Example, NotApplicable, make_example, text_windows
from clingpt.tokenizer import Tokenizer

Items = Callable[[OnBad], Iterator[tuple[str, Record]]]  # (split, record), read anew at each call


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    source: str = "pubmedqa"  # pubmedqa (from the Hub), synthetic, a Hub folder, .json or .jsonl
    subset: Literal["pqa_labeled", "pqa_artificial", "pqa_unlabeled"] = "pqa_labeled"  # of the Hub
    out: Path | None = None  # folder to write; None: data/ and the source's or subset's name
    tasks: tuple[str, ...] = ("answer", "summarize", "document")  # any of these and text
    block_size: int = 1024  # longest example in tokens, prompt and target together
    fold: int = 0  # which of PubMedQA's ten official folds validates
    val_share: float = 0.05  # of records outside the official lists
    test_share: float = 0.05  # of records outside the official lists
    yes_share: float | None = None  # of training answers: drops surplus yes; None keeps all
    synthetic_records: int = 8000  # to train on
    synthetic_held_out: int = 300  # to validate on, and as many to test on
    seed: int = 1337  # of the synthetic source
    skip_bad: bool = False  # drop and count records that cannot be used, instead of stopping
    allow_overlap: bool = False  # go on although training text shares 13 words with the test set
    show: int = 3  # examples to print, trained tokens marked

    def __post_init__(self) -> None:
        config.check_range(self, "block_size", at_least=16, at_most=1024)
        config.check_range(self, "fold", at_least=0, below=N_FOLDS)
        config.check_range(self, "val_share", "test_share", at_least=0, at_most=0.5)
        config.check_range(self, "yes_share", above=0, below=1)
        config.check_range(self, "synthetic_records", "synthetic_held_out", at_least=1)
        config.check_range(self, "seed", "show", at_least=0)
        config.check(bool(self.tasks), "tasks is empty; give some of " + ", ".join(TASKS))
        for task in self.tasks:
            config.check(task in TASKS, f"unknown task {task!r}; there are {', '.join(TASKS)}")
            config.check(self.tasks.count(task) == 1, f"tasks names {task} twice; keep one")

    @property
    def folder(self) -> Path:
        if self.out is not None:
            return self.out
        hub = self.source == "pubmedqa" and self.subset != "pqa_labeled"
        return Path("data") / (self.subset if hub else Path(self.source).stem)


@dataclass
class Survey:
    """What the first reading of a source found."""

    records: Counter[str] = field(default_factory=Counter)
    labels: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    ids: dict[str, set[str]] = field(default_factory=lambda: {"val": set(), "test": set()})
    bad: list[str] = field(default_factory=list)
    grams: dict[str, NgramIndex] = field(default_factory=dict)


@dataclass
class Tally:
    """What became of the records in the second reading."""

    lengths: dict[str, Counter[int]]  # task -> tokens of an example -> examples
    trimmed: Counter[str] = field(default_factory=Counter)  # examples
    trimmed_tokens: Counter[str] = field(default_factory=Counter)
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)  # (task, reason)
    shared_ids: Counter[str] = field(default_factory=Counter)  # of train with val, with test
    sharing: dict[str, list[str]] = field(default_factory=lambda: {"val": [], "test": []})


def main() -> None:
    cfg = config.parse(
        PrepareConfig, sys.argv[1:], prog="prepare.py", description=__doc__ or "", preset=True
    )
    tokenizer = Tokenizer.load()
    items = iter_synthetic(cfg) if cfg.source == "synthetic" else iter_source(cfg)
    survey = take_survey(items, cfg)
    with FolderWriter(cfg.folder, tokenizer) as writer:
        tally = write_examples(items, writer, survey, cfg)
        check_overlap(tally, cfg)
        check_examples(writer, tally, cfg)
        writer.finish(config.to_json(cfg))
    prepared = open_prepared(cfg.folder, tokenizer)
    print_tables(prepared, survey, tally, cfg)
    show_examples(prepared, tokenizer, cfg.show)
    print_next(cfg)


def iter_synthetic(cfg: PrepareConfig) -> Items:
    """The generator decides the split before it writes a record."""
    held_out = cfg.synthetic_held_out
    counts = {"train": cfg.synthetic_records, "val": held_out, "test": held_out}
    return lambda _: (
        (split, record)
        for split in SPLITS
        for record in synthetic.iter_records(split, count=counts[split], seed=cfg.seed)
    )


def iter_source(cfg: PrepareConfig) -> Items:
    """Records of a real source, each with its split; a repeated id is a bad record."""
    source = open_source(cfg.source, subset=cfg.subset)

    def items(on_bad: OnBad) -> Iterator[tuple[str, Record]]:
        seen = set[str]()
        for record in source(on_bad):
            if record.id in seen:
                on_bad(DataError(f"record {record.id} stands twice in {cfg.source}"))
                continue
            seen.add(record.id)
            yield (
                split_of(record, fold=cfg.fold, val_share=cfg.val_share, test_share=cfg.test_share),
                record,
            )

    return items


def take_survey(items: Items, cfg: PrepareConfig) -> Survey:
    """Read once: count, look for bad records, and remember the held-out text."""
    survey = Survey()

    def on_bad(error: DataError) -> None:
        if not cfg.skip_bad:
            raise DataError(f"{error} (--skip_bad=True drops and counts such records)")
        survey.bad.append(str(error))

    texts: dict[str, list[str]] = {"val": [], "test": []}
    for split, record in console.progress(items(on_bad), label="reading", unit=" records"):
        survey.records[split] += 1
        survey.labels[split, record.decision] += 1
        if split in texts:
            survey.ids[split].add(record.id)
            texts[split].append(record_text(record))
    if not survey.records["train"]:
        raise DataError(f"{cfg.source} gives no record to train on; is it the right file?")
    survey.grams = {split: NgramIndex(kept) for split, kept in texts.items()}
    return survey


def write_examples(items: Items, writer: FolderWriter, survey: Survey, cfg: PrepareConfig) -> Tally:
    """Read again: write every example and count what was trimmed, dropped or shared."""
    tally = Tally({task: Counter() for task in cfg.tasks})
    keep_yes = share_of_yes_to_keep(survey, cfg.yes_share)
    total = sum(survey.records.values())
    reading = console.progress(
        items(lambda _: None), label="tokenising", total=total, unit=" records"
    )
    for split, record in reading:
        if split == "train":
            note_overlap(record, survey, tally)
        examples = []
        for task in cfg.tasks:
            surplus = split == "train" and record.decision == "yes" and unit_hash(record) > keep_yes
            if task == "answer" and surplus:
                tally.dropped[task, "surplus yes"] += 1
                continue
            examples += [(task, e) for e in make_examples(task, record, writer, tally, cfg)]
        writer.add(split, record, examples)
    return tally


def make_examples(
    task: str, record: Record, writer: FolderWriter, tally: Tally, cfg: PrepareConfig
) -> list[Example]:
    """A record's examples of one task, none where it lacks what the task needs."""
    try:
        if task == "text":
            examples = list(text_windows(record, writer.tokenizer, budget=cfg.block_size))
        else:
            examples = [make_example(task, record, writer.tokenizer, budget=cfg.block_size)]
    except NotApplicable as reason:
        tally.dropped[task, str(reason)] += 1
        return []
    for example in examples:
        tally.lengths[task][len(example.prompt_ids) + len(example.target_ids)] += 1
        tally.trimmed[task] += example.trimmed_tokens > 0
        tally.trimmed_tokens[task] += example.trimmed_tokens
    return examples


def share_of_yes_to_keep(survey: Survey, yes_share: float | None) -> float:
    """Which share of the training set's yes leaves `yes_share` of its answers yes."""
    yes, others = (
        sum(survey.labels["train", label] for label in labels)
        for labels in (LABELS[:1], LABELS[1:])
    )
    if yes_share is None or not yes:
        return 1.0
    return min(1.0, others * yes_share / (1 - yes_share) / yes)


def unit_hash(record: Record) -> float:
    """A number in [0, 1) that the id alone decides."""
    digest = hashlib.sha256(b"surplus " + record.id.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def note_overlap(record: Record, survey: Survey, tally: Tally) -> None:
    text = record_text(record)
    for split, grams in survey.grams.items():
        tally.shared_ids[split] += record.id in survey.ids[split]
        if grams.shares(text):
            tally.sharing[split].append(record.id)


def check_overlap(tally: Tally, cfg: PrepareConfig) -> None:
    """Refuse training text that stands in the test set, before anything is moved into place.

    The synthetic source is templated by nature: it is judged by combinations held out of training.
    """
    sharing = tally.sharing["test"]
    if sharing and not cfg.allow_overlap and cfg.source != "synthetic":
        raise DataError(
            f"{len(sharing)} training records share a run of 13 words with the test set, first "
            f"{', '.join(sharing[:3])}; remove them, or pass --allow_overlap=True and say so "
            "beside every score"
        )


def check_examples(writer: FolderWriter, tally: Tally, cfg: PrepareConfig) -> None:
    """Refuse a training set without any example."""
    if not writer.n_tokens["train"]:
        reasons = ", ".join(f"{task}: {why} ({n})" for (task, why), n in tally.dropped.items())
        raise DataError(
            f"{cfg.source} gives no training example ({reasons}); choose other --tasks or records"
        )


def print_tables(prepared: Prepared, survey: Survey, tally: Tally, cfg: PrepareConfig) -> None:
    counts = prepared.manifest["counts"]
    console.say(
        console.table(
            f"Records of {cfg.source}",
            ["split", "records", *LABELS, "no label", "tokens"],
            [
                [
                    split,
                    survey.records[split],
                    *(survey.labels[split, label] for label in (*LABELS, None)),
                    counts[split]["tokens"],
                ]
                for split in SPLITS
            ],
        )
    )
    console.say("\n" + console.table("Examples", *examples_table(counts, tally)))
    dropped: list[Sequence[console.Cell]] = [[*key, n] for key, n in sorted(tally.dropped.items())]
    dropped += [["record", text, 1] for text in survey.bad[:20]]
    if len(survey.bad) > 20:
        dropped.append(["record", "others that could not be used", len(survey.bad) - 20])
    if dropped:
        console.say("\n" + console.table("Dropped", ["task", "reason", "count"], dropped))
    rows: list[Sequence[console.Cell]] = [
        [f"train and {split}", tally.shared_ids[split], len(tally.sharing[split])]
        for split in ("val", "test")
    ]
    title = "Overlap, in training records"
    if cfg.source == "synthetic":
        title += " (templates repeat by nature; test combinations, names and numbers do not)"
    console.say("\n" + console.table(title, ["splits", "same id", "a run of 13 words"], rows))


def examples_table(
    counts: dict[str, dict[str, dict[str, int]]], tally: Tally
) -> tuple[list[str], list[Sequence[console.Cell]]]:
    columns = ["task", *SPLITS, "tokens, mean", "max", "> 512", "> 1024", "trimmed", "tokens cut"]
    rows: list[Sequence[console.Cell]] = []
    for task, lengths in tally.lengths.items():
        n = lengths.total()
        rows.append(
            [task]
            + [counts[split]["examples"][task] for split in SPLITS]
            + [sum(length * times for length, times in lengths.items()) / max(n, 1)]
            + [max(lengths, default=0)]
            + [sum(t for length, t in lengths.items() if length > limit) for limit in (512, 1024)]
            + [tally.trimmed[task], tally.trimmed_tokens[task]]
        )
    return columns, rows


def show_examples(prepared: Prepared, tokenizer: Tokenizer, n: int) -> None:
    """Print the first training example of each task from the files, trained tokens marked off."""
    train = prepared.split("train")
    _, first = np.unique(train.index[:, 3], return_index=True)
    colour = console.colour_enabled(sys.stdout)
    how = "green" if colour else "in [[brackets]]"
    for start, first_target, end, task, _ in train.index[first][:n].tolist():
        console.say(f"\nAn example of {TASKS[task]}; what the model is trained to write is {how}:")
        prompt = tokenizer.decode(train.tokens[start:first_target].tolist())
        target = tokenizer.decode(train.tokens[first_target:end].tolist())
        marked = console.mark(prompt, trained=False, colour=colour)
        marked += console.mark(target, trained=True, colour=colour)
        console.say(marked, styled=True)


def print_next(cfg: PrepareConfig) -> None:
    preset = "quickstart" if cfg.source == "synthetic" else "pubmedqa"
    flag = "" if cfg.folder == Path("data") / preset else f" --data={cfg.folder}"
    console.say(f"\nWrote {cfg.folder}. Next:  python train.py config/{preset}.py{flag}")


if __name__ == "__main__":
    console.run(main)
