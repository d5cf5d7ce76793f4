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
        from clingpt.data.canaries import MOST
        from clingpt.data.prepared import VIEWS
        from clingpt.data.sources import N_FOLDS, parse_mix
        from clingpt.data.tabular import check_encoding
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
            config.check(kind in VIEWS, f"unknown view {kind!r}; there are {', '.join(VIEWS)}")
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

from clingpt.data import canaries, prepare_report, receipt
from clingpt.data.columns import Columns
from clingpt.data.pipeline import (
    Findings,
    Recipe,
    Survey,
    Tally,
    count_records,
    inspect_records,
    make_examples,
    names_of,
    reread,
    share_of_yes_to_keep,
    write_examples,
)
from clingpt.data.prepared import FolderWriter, Prepared, open_prepared
from clingpt.data.sources import Source, check_source, choose_columns, is_published, parse_mix
from clingpt.privacy.redaction import Redactor
from clingpt.text.tokenizer import Tokenizer

DRY_RUN_RECORDS = 20  # of which a dry run makes examples


def main() -> None:
    cfg = parse_flags()
    cfg = replace(cfg, tasks=cfg.chosen_tasks, task=None)
    tokenizer, workers = Tokenizer.load(), count_workers(cfg.workers)
    redactor = Redactor(cfg.redact) if cfg.redact else None
    writer = FolderWriter(cfg.folder, tokenizer)  # refuses a folder that prepare.py did not write
    others = [open_prepared(Path(name), tokenizer) for name in cfg.against]
    sources = open_sources(cfg)

    # Two passes over the sources before anything is written.
    survey = count_records(sources, skip_bad=cfg.skip_bad)
    findings = inspect_records(
        sources, survey, redactor, allow_phi=cfg.allow_phi, others=others, workers=workers
    )
    recipe = Recipe(
        tasks=cfg.tasks,
        budget=cfg.block_size,
        long=cfg.long,
        weights=tuple(source.weight for source in sources),
        keep_yes=share_of_yes_to_keep(survey, sources, cfg.yes_share),
        views=cfg.views,
        section_dropout=cfg.section_dropout,
        key=str(cfg.seed),
        redactor=redactor,
        drop_overlap=cfg.drop_overlap,
        copies=frozenset(chain.from_iterable(findings.copies.values())),
    )
    if cfg.dry_run:
        print_dry_run(sources, survey, findings, recipe, cfg)
        return
    if found := objections(findings, cfg):
        console.say("\n\n".join(prepare_report.receipt_tables(findings.receipt)))
        raise DataError("; ".join(found))

    # The third pass writes. An error before `finish` removes the unfinished folder.
    with writer:
        planted = canaries.make_canaries(cfg.canaries, cfg.seed) if cfg.canaries else []
        if planted:  # audit.py looks for them later
            writer.add_json(canaries.FILE, canaries.to_json(planted))
        records = canaries.planted_records(planted)
        tally = write_examples(
            sources, survey, findings, recipe, writer, planted=records, workers=workers
        )
        check_overlap(tally, cfg)
        if not writer.n_tokens["train"]:
            reasons = ", ".join(f"{task}: {why} ({n})" for (task, why), n in tally.dropped.items())
            raise DataError(
                f"{names_of(sources)} yields no training example ({reasons}); choose other --tasks "
                "or records"
            )
        writer.add_json(receipt.FILE, findings.receipt)
        writer.finish(settings_to_keep(cfg))

    prepared = open_prepared(cfg.folder, tokenizer)  # read back and verified
    print_tables(prepared, sources, survey, findings, tally, cfg)
    print_examples(prepare_report.written_examples(prepared, cfg.show))
    source = cfg.subset if cfg.source == "pubmedqa" else cfg.source
    console.say(prepare_report.next_line(cfg.folder, source, cfg.tasks))


def open_sources(cfg: PrepareConfig) -> list[Source]:
    """Describe each source: its weight, its columns, and how its records are split."""
    sources = []
    for name, weight in parse_mix(cfg.mix) if cfg.mix else [(cfg.source, 1.0)]:
        columns, table, published = None, "", True
        if name != "synthetic":
            choice = choose_columns(name, cfg.tasks[0], given=cfg.columns, encoding=cfg.encoding)
            check_source(name)
            columns, table = choice or (None, "")
            published = columns is None and is_published(name, cfg.encoding)
        sources.append(
            Source(
                name=name,
                weight=weight,
                subset=cfg.subset,
                encoding=cfg.encoding,
                columns=columns,
                columns_table=table,
                published=published,
                fold=cfg.fold,
                val_share=cfg.val_share,
                test_share=cfg.test_share,
                synthetic_counts={
                    "train": cfg.synthetic_records,
                    "val": cfg.synthetic_held_out,
                    "test": cfg.synthetic_held_out,
                },
                seed=cfg.seed,
            )
        )
    return sources


def objections(findings: Findings, cfg: PrepareConfig) -> list[str]:
    """List the reasons not to prepare these records, each with what to do about it."""
    found = []
    if findings.identifiers and not cfg.allow_phi:
        found.append(
            f"found {console.count(findings.identifiers)} likely identifiers (PHI); pass "
            "--redact=tags or --redact=surrogates to replace them, or --allow_phi=True"
        )
    copies = findings.copies["test"]
    if copies and not allows_overlap(cfg):
        found.append(
            f"{console.count(len(copies))} training records are near-duplicates of test records, "
            f"first {copies[0]}; pass --drop_overlap=True to drop training records whose text is "
            "in val or test, or --allow_overlap=True"
        )
    return found


def check_overlap(tally: Tally, cfg: PrepareConfig) -> None:
    """Refuse training text that is in the test split, before anything is moved into place."""
    sharing = tally.sharing["test"]
    if sharing and not allows_overlap(cfg):
        raise DataError(
            f"{sharing} training records share a run of 13 words with the test split, first "
            f"{', '.join(tally.first_sharing['test'])}; pass --drop_overlap=True to drop training "
            "records whose text is in val or test, or --allow_overlap=True and report it with "
            "every score"
        )


def allows_overlap(cfg: PrepareConfig) -> bool:
    """Return whether shared text is no reason to stop.

    Synthetic records share their templates by design. Their splits are kept apart by combinations,
    names and numbers that training never sees.
    """
    return cfg.allow_overlap or cfg.drop_overlap or cfg.source == "synthetic"


def settings_to_keep(cfg: PrepareConfig) -> dict[str, Any]:
    """Return the settings for the manifest, except those that do not change a byte of the data."""
    settings = config.to_json(cfg)
    del settings["workers"], settings["dry_run"], settings["task"]
    return settings


# Output


def print_dry_run(
    sources: list[Source], survey: Survey, findings: Findings, recipe: Recipe, cfg: PrepareConfig
) -> None:
    """Print columns, counts, receipt, the first examples, and what would stop a real run."""
    tables = [source.columns_table for source in sources if source.columns_table]
    tables += [
        prepare_report.records_table(sources, survey),
        *prepare_report.receipt_tables(findings.receipt),
    ]
    console.say("\n\n".join(tables))
    training = (item for item in reread(sources) if item.split == "train")
    pieces, _ = make_examples(recipe, list(islice(training, DRY_RUN_RECORDS)))
    print_examples(prepare_report.unwritten_examples(pieces, cfg.show))
    console.say("\nA dry run: nothing was written.")
    for objection in objections(findings, cfg):
        console.say(f"A real run would stop: {objection}.")


def print_tables(
    prepared: Prepared,
    sources: list[Source],
    survey: Survey,
    findings: Findings,
    tally: Tally,
    cfg: PrepareConfig,
) -> None:
    """Print what was written, what was dropped and what was found."""
    counts = prepared.manifest["counts"]
    tables = [
        prepare_report.records_table(sources, survey, counts),
        prepare_report.examples_table(counts, tally, cfg.tasks),
        prepare_report.dropped_table(survey, tally),
        prepare_report.overlap_table(tally, findings, templated=cfg.source == "synthetic"),
        *prepare_report.receipt_tables(findings.receipt),
        prepare_report.remarks(sources, survey, tally),
    ]
    console.say("\n\n".join(table for table in tables if table))


def print_examples(examples: list[prepare_report.Shown]) -> None:
    """Print examples, their target tokens in green or in brackets."""
    tokenizer, colour = Tokenizer.load(), console.colour_enabled(sys.stdout)
    for example in examples:
        console.say(prepare_report.example_text(example, tokenizer, colour=colour), styled=True)


if __name__ == "__main__":
    console.run(main)
