"""Turn records into tokens to train on.

    python prepare.py --source=synthetic --out=data/quickstart
    python prepare.py --source=pubmedqa --out=data/pubmedqa
    python prepare.py --source=pubmedqa --subset=pqa_artificial --yes_share=0.5
    python prepare.py --source=notes.csv --task=summarize --input=transcription --dry_run=True
    python prepare.py --mix notes.csv=1 letters.jsonl.gz=0.3 --task=text

Records are cleaned, split, searched for identifiers and duplicates, written out as prompt and
target for each task, and tokenised into a folder of memory-mapped uint16 files (docs/formats.md).
Sources are read three times and never held in memory. Needs no GPU and no PyTorch.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from clingpt.base import console
from clingpt.base import settings as config
from clingpt.base.errors import DataError
from clingpt.base.workers import count_workers


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    source: str = "pubmedqa"  # pubmedqa (the Hub's), synthetic, .csv .tsv .jsonl .json .parquet, …
    mix: tuple[str, ...] = ()  # several sources in its place, with weights: a.csv=1 b.jsonl.gz=0.3
    subset: Literal["pqa_labeled", "pqa_artificial", "pqa_unlabeled"] = "pqa_labeled"  # of the Hub
    encoding: str = "auto"  # of text files: auto is UTF-8 or what a byte-order mark says; cp1252, …
    input: str | None = None  # column that is read: a note, a report; None: guessed by its name
    target: str | None = None  # column that is to be written: a summary, an answer, a document
    question: str | None = None  # column
    id: str | None = None  # column; None: one called so, else file and line
    out: Path | None = None  # folder to write; None: data/ and the source's or subset's name
    dry_run: bool = False  # say what would be done and what is in the way; write nothing
    task: str | None = None  # one of the tasks, in their place
    tasks: tuple[str, ...] = ("answer", "summarize", "document")  # any of these, text and explain
    block_size: int = 1024  # longest example in tokens, prompt and target together
    # A text longer than block_size becomes several windows, its first window, or is dropped;
    # records of other tasks are trimmed sentence by sentence.
    long: Literal["window", "trim", "drop"] = "window"
    fold: int = 0  # which of PubMedQA's ten official folds validates
    val_share: float = 0.05  # of records outside the official lists
    test_share: float = 0.05  # of records outside the official lists
    yes_share: float | None = None  # of training answers: drops surplus yes; None keeps all
    views: tuple[str, ...] = ()  # of training answers, beside the whole: results, question
    section_dropout: float = 0.0  # chance of a section to be left out of one more view of these
    canaries: int = 0  # made-up secrets to plant in training, for audit.py to look for
    synthetic_records: int = 8000  # to train on
    synthetic_held_out: int = 300  # to validate on, and as many to test on
    seed: int = 1337  # of the synthetic source, canaries and views
    skip_bad: bool = False  # drop and count records that cannot be used, instead of stopping
    allow_phi: bool = False  # go on although names, dates or numbers of people seem to be there
    redact: Literal["tags", "surrogates"] | None = None  # put [NAME] or another name in their place
    allow_overlap: bool = False  # go on although training text stands in the test set
    drop_overlap: bool = False  # drop training records whose text stands in val or test
    against: tuple[str, ...] = ()  # prepared folders whose val and test text is overlap here too
    workers: int | None = None  # processes to work in; None: one for each CPU; 0 or 1: this one
    show: int = 3  # examples to print, trained tokens marked

    def __post_init__(self) -> None:
        # Imported here because these checks run before the imports below the class.
        from clingpt.data.augmentation import KINDS
        from clingpt.data.canaries import MOST
        from clingpt.data.mixture import parse_mix
        from clingpt.data.splits import N_FOLDS
        from clingpt.data.text_files import check_encoding
        from clingpt.text.tasks import TASKS

        config.check_range(self, "block_size", at_least=16, at_most=1024)
        config.check_range(self, "fold", at_least=0, below=N_FOLDS)
        config.check_range(self, "val_share", "test_share", at_least=0, at_most=0.5)
        config.check_range(self, "yes_share", above=0, below=1)
        config.check_range(self, "section_dropout", at_least=0, below=1)
        config.check_range(self, "synthetic_records", "synthetic_held_out", at_least=1)
        config.check_range(self, "seed", "show", "workers", at_least=0)
        config.check_range(self, "canaries", at_least=0, at_most=MOST)
        default = type(self).tasks
        both = self.task is not None and self.tasks != default
        config.check(not both, "give one of --task and --tasks")
        config.check(bool(self.tasks), "tasks is empty; give some of " + ", ".join(TASKS))
        for task in self.chosen_tasks:
            config.check(task in TASKS, f"unknown task {task!r}; there are {', '.join(TASKS)}")
            config.check(self.tasks.count(task) <= 1, f"tasks names {task} twice; keep one")
        for kind in self.views:
            config.check(kind in KINDS, f"unknown view {kind!r}; there are {', '.join(KINDS)}")
        varied = bool(self.views or self.section_dropout)
        reason = "views and section_dropout are of the task answer; add it or leave them out"
        config.check("answer" in self.chosen_tasks or not varied, reason)
        both = bool(self.mix) and self.source != type(self).source
        config.check(not both, "give one of --source and --mix")
        columns = (self.input, self.target, self.question, self.id)
        named = self.source == "synthetic" and any(name is not None for name in columns)
        config.check(not named, "synthetic has no columns to choose from; leave the names out")
        parse_mix(self.mix)
        check_encoding(self.encoding)

    @property
    def chosen_tasks(self) -> tuple[str, ...]:
        return self.tasks if self.task is None else (self.task,)

    @property
    def columns(self) -> "Columns":
        """Those that the user named."""
        named = {"input": self.input, "target": self.target, "question": self.question}
        return Columns(id=self.id, **named)

    @property
    def folder(self) -> Path:
        if self.out is not None:
            return self.out
        if self.mix:
            return Path("data/mix")
        hub = self.source == "pubmedqa" and self.subset != "pqa_labeled"
        name = self.source.removesuffix("/").removesuffix(".gz")
        return Path("data") / (self.subset if hub else Path(name).stem)


def parse_flags() -> PrepareConfig:
    return config.parse(
        PrepareConfig, sys.argv[1:], prog="prepare.py", description=__doc__ or "", preset=True
    )


if __name__ == "__main__":
    # Answer --help and refuse mistaken flags before the imports below, which take seconds.
    console.run(parse_flags)

from clingpt.data import canaries, prepare_report, receipt, synthetic
from clingpt.data.columns import Columns
from clingpt.data.examples import Making, Tally, make_all
from clingpt.data.inspection import Findings, Survey, find_out, take_survey
from clingpt.data.mixture import Item, Part, Reader, iter_items, names_of, parse_mix
from clingpt.data.prepared import HELD_OUT, FolderWriter, Prepared, open_prepared
from clingpt.data.sources import OnBad, choose_columns, is_published, open_source
from clingpt.data.splits import split_of
from clingpt.privacy.redaction import Redactor
from clingpt.text.records import SPLITS, Record
from clingpt.text.tokenizer import Tokenizer

LOOKED_AT = 20  # records of which a dry run makes examples


def main() -> None:
    cfg = parse_flags()
    cfg = replace(cfg, tasks=cfg.chosen_tasks, task=None)
    tokenizer = Tokenizer.load()
    writer = FolderWriter(cfg.folder, tokenizer)  # refuses a folder that is not its to replace
    others = [open_prepared(Path(name), tokenizer) for name in cfg.against]
    parts = open_parts(cfg)
    survey = take_survey(parts, skip_bad=cfg.skip_bad)
    redactor = Redactor(cfg.redact) if cfg.redact else None
    workers = count_workers(cfg.workers)
    findings = find_out(
        parts, survey, redactor, allow_phi=cfg.allow_phi, others=others, workers=workers
    )
    making = plan_making(parts, survey, findings, redactor, cfg)
    if cfg.dry_run:
        say_what_would_be(parts, survey, findings, making, cfg)
        return
    check_findings(findings, cfg)
    with writer:
        tally = write_examples(parts, survey, findings, making, writer, cfg)
        check_overlap(tally, cfg)
        check_examples(parts, writer, tally)
        writer.add_json(receipt.FILE, findings.receipt)
        writer.finish(settings_to_keep(cfg))
    prepared = open_prepared(cfg.folder, tokenizer)
    print_tables(prepared, parts, survey, findings, tally, cfg)
    show(prepare_report.written_examples(prepared, cfg.show))
    source = cfg.subset if cfg.source == "pubmedqa" else cfg.source
    console.say(prepare_report.next_line(cfg.folder, source, cfg.tasks))


def open_parts(cfg: PrepareConfig) -> list[Part]:
    """The sources, each with its weight."""
    mix = parse_mix(cfg.mix) if cfg.mix else [(cfg.source, 1.0)]
    return [open_part(name, weight, cfg) for name, weight in mix]


def open_part(name: str, weight: float, cfg: PrepareConfig) -> Part:
    if name == "synthetic":
        return Part(name=name, weight=weight, read=read_synthetic(cfg), published=True)
    choice = choose_columns(name, cfg.tasks[0], given=cfg.columns, encoding=cfg.encoding)
    columns, table = choice or (None, "")
    source = open_source(name, subset=cfg.subset, columns=columns, encoding=cfg.encoding)

    def read(on_bad: OnBad) -> Iterator[tuple[str, Record]]:
        shares = {"val_share": cfg.val_share, "test_share": cfg.test_share}
        return ((split_of(record, fold=cfg.fold, **shares), record) for record in source(on_bad))

    return Part(
        name=name,
        weight=weight,
        read=read,
        published=columns is None and is_published(name, cfg.encoding),
        columns=columns,
        columns_table=table,
    )


def read_synthetic(cfg: PrepareConfig) -> Reader:
    """The generator decides the split before it writes a record."""
    held_out = cfg.synthetic_held_out
    counts = {"train": cfg.synthetic_records, "val": held_out, "test": held_out}
    return lambda _: (
        (split, record)
        for split in SPLITS
        for record in synthetic.iter_records(split, count=counts[split], seed=cfg.seed)
    )


def plan_making(
    parts: list[Part],
    survey: Survey,
    findings: Findings,
    redactor: Redactor | None,
    cfg: PrepareConfig,
) -> Making:
    """How examples are to be made, as the settings and what was found have it."""
    return Making(
        tasks=cfg.tasks,
        budget=cfg.block_size,
        long=cfg.long,
        weights=tuple(part.weight for part in parts),
        keep_yes=survey.share_of_yes_to_keep(parts, cfg.yes_share),
        views=cfg.views,
        section_dropout=cfg.section_dropout,
        key=str(cfg.seed),
        redactor=redactor,
        drop_overlap=cfg.drop_overlap,
        copies=frozenset(chain.from_iterable(findings.copies.values())),
    )


def write_examples(
    parts: list[Part],
    survey: Survey,
    findings: Findings,
    making: Making,
    writer: FolderWriter,
    cfg: PrepareConfig,
) -> Tally:
    """Read again: write every example and count what was trimmed, dropped or shared."""
    held_out = {split: writer.scratch(f"{split}.grams") for split in HELD_OUT}
    for split, path in held_out.items():
        findings.grams[split].save(path)
    making = replace(making, held_out=held_out)
    items = chain(iter_items(parts, lambda _: None), planted_items(writer, cfg))
    with survey.progress("tokenising") as bar:
        return make_all(items, making, writer, workers=count_workers(cfg.workers), bar=bar)


def planted_items(writer: FolderWriter, cfg: PrepareConfig) -> Iterator[Item]:
    """Records of canaries, written down beside the data for audit.py."""
    if cfg.canaries:
        made = canaries.make_canaries(cfg.canaries, cfg.seed)
        writer.add_json(canaries.FILE, canaries.to_json(made))
        for record in canaries.planted_records(made):
            yield Item(0, "train", record, planted=True)


def objections(findings: Findings, cfg: PrepareConfig) -> list[str]:
    """What is in the way of preparing these records, each with what to do."""
    found = []
    if findings.identifiers and not cfg.allow_phi:
        found.append(
            f"{console.count(findings.identifiers)} identifiers of people seem to be there; pass "
            "--redact=tags or --redact=surrogates to replace them, or --allow_phi=True"
        )
    copies = findings.copies["test"]
    if copies and not (cfg.allow_overlap or cfg.drop_overlap) and cfg.source != "synthetic":
        found.append(
            f"{console.count(len(copies))} training records say nearly what one in the test set "
            f"does, first {copies[0]}; pass --drop_overlap=True to leave out what stands in val or "
            "test, or --allow_overlap=True"
        )
    return found


def check_findings(findings: Findings, cfg: PrepareConfig) -> None:
    """Refuse, before anything is written, what would spread or spoil; the tables say what it is."""
    if found := objections(findings, cfg):
        console.say("\n\n".join(prepare_report.receipt_tables(findings)))
        raise DataError("; ".join(found))


def check_overlap(tally: Tally, cfg: PrepareConfig) -> None:
    """Refuse training text that stands in the test set, before anything is moved into place.

    The synthetic source is templated by nature: it is judged by combinations held out of training.
    """
    sharing = tally.sharing["test"]
    if sharing and not (cfg.allow_overlap or cfg.drop_overlap) and cfg.source != "synthetic":
        raise DataError(
            f"{sharing} training records share a run of 13 words with a test set, first "
            f"{', '.join(tally.first_sharing['test'])}; pass --drop_overlap=True to leave out what "
            "stands in val or test, or --allow_overlap=True and say so beside every score"
        )


def check_examples(parts: list[Part], writer: FolderWriter, tally: Tally) -> None:
    """Refuse a training set without any example."""
    if not writer.n_tokens["train"]:
        reasons = ", ".join(f"{task}: {why} ({n})" for (task, why), n in tally.dropped.items())
        raise DataError(
            f"{names_of(parts)} gives no training example ({reasons}); choose other --tasks or "
            "records"
        )


def settings_to_keep(cfg: PrepareConfig) -> dict[str, Any]:
    """The settings, less what does not change a byte of the data."""
    settings = config.to_json(cfg)
    del settings["workers"], settings["dry_run"], settings["task"]
    return settings


def say_what_would_be(
    parts: list[Part], survey: Survey, findings: Findings, making: Making, cfg: PrepareConfig
) -> None:
    """Columns, counts, receipt and the first examples; and what a real run would stop at."""
    tables = [part.columns_table for part in parts if part.columns_table]
    tables += [
        prepare_report.records_table(parts, survey),
        *prepare_report.receipt_tables(findings),
    ]
    console.say("\n\n".join(tables))
    training = (item for item in iter_items(parts, lambda _: None) if item.split == "train")
    made = making(list(islice(training, LOOKED_AT)))
    show(prepare_report.made_examples(made.pieces, cfg.show))
    console.say("\nA dry run: nothing was written.")
    for objection in objections(findings, cfg):
        console.say(f"In the way: {objection}.")


def print_tables(
    prepared: Prepared,
    parts: list[Part],
    survey: Survey,
    findings: Findings,
    tally: Tally,
    cfg: PrepareConfig,
) -> None:
    counts = prepared.manifest["counts"]
    tables = [
        prepare_report.records_table(parts, survey, counts),
        prepare_report.examples_table(counts, tally, cfg.tasks),
        prepare_report.dropped_table(survey, tally),
        prepare_report.overlap_table(tally, findings, templated=cfg.source == "synthetic"),
        *prepare_report.receipt_tables(findings),
        prepare_report.remarks(parts, survey, tally),
    ]
    console.say("\n\n".join(table for table in tables if table))


def show(examples: list[prepare_report.Shown]) -> None:
    tokenizer, colour = Tokenizer.load(), console.colour_enabled(sys.stdout)
    for example in examples:
        console.say(prepare_report.example_text(example, tokenizer, colour=colour), styled=True)


if __name__ == "__main__":
    console.run(main)
