"""Turn records into tokens to train on.

    python prepare.py --source=synthetic --out=data/quickstart
    python prepare.py --source=pubmedqa --out=data/pubmedqa
    python prepare.py --source=pubmedqa --subset=pqa_artificial --yes_share=0.5
    python prepare.py --source=notes.csv --task=summarize --dry_run
    python prepare.py --mix notes.csv=1 letters.jsonl.gz=0.3 --task=text

Records are cleaned, split, searched for identifiers and duplicates, written as
prompt and target for each task, and tokenized into a folder of memory-mapped
uint16 files (docs/formats.md). Sources are streamed, so memory does not grow
with their size. No GPU and no PyTorch are needed.
"""

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from clingpt.base import console
from clingpt.base import settings as config
from clingpt.base.errors import ConfigError, DataError
from clingpt.base.files import one_writer
from clingpt.base.signals import cleanup_on_sigterm
from clingpt.base.workers import count_workers


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    # --- source ---
    # pubmedqa (from the Hugging Face Hub), synthetic, or a file or folder: .csv, .tsv, .xlsx,
    # .json, .jsonl, .parquet, .txt and others; see docs/recipes.md.
    source: str = "pubmedqa"
    mix: tuple[str, ...] = ()  # several weighted sources instead: a.csv=1 b.jsonl.gz=0.3
    # Subset of PubMedQA on the Hub.
    subset: Literal["pqa_labeled", "pqa_artificial", "pqa_unlabeled"] = "pqa_labeled"
    # Encoding of text files: auto (UTF-8, or as the byte-order mark says), cp1252, latin-1, …
    encoding: str = "auto"
    # How quotes inside the cells of a CSV or TSV are written: doubled, or with a backslash if the
    # first lines show it (auto); with a backslash, as \" (backslash); or unchanged, in cells that
    # are never quoted (none).
    quoting: Literal["auto", "none", "backslash"] = "auto"
    sheet: str | None = None  # name of the sheet in a spreadsheet; None takes the only one
    # Key that leads to the records in a JSON file, such as data or data.train; None finds it, and
    # --records= reads the whole file as one record.
    records: str | None = None
    # Column with the text that the model reads, such as a note or a report; None guesses from the
    # columns' names.
    input: str | None = None
    # Columns to read where the column of --input is empty: the first of them with text is taken.
    or_input: tuple[str, ...] = ()
    # Column with the text that the model learns to write: a summary, an answer or a document; None
    # guesses from the columns' names.
    target: str | None = None
    question: str | None = None  # column with the question; None guesses from the columns' names
    # For the task document, if each target is a single section: column with its heading. None
    # takes a column named section, section_header, heading, …; --heading= uses none.
    heading: str | None = None
    # Meaning of the labels in a column that does not say yes, no or maybe:
    # "significantly increased=yes" "no significant difference=maybe".
    labels: tuple[str, ...] = ()
    # Column with the records' ids; None takes a column named id, note_id, pmid, …, and without
    # any, a record is identified by its number and its text.
    id: str | None = None
    skip_bad: bool = False  # drop and count unusable records instead of stopping at the first
    synthetic_records: int = 8000  # training records of --source=synthetic
    synthetic_held_out: int = 300  # validation records of --source=synthetic, and as many for test

    # --- examples ---
    # Tasks to write examples for: answer, summarize, document, explain and text.
    tasks: tuple[str, ...] = ("answer", "summarize", "document")
    task: str | None = None  # a single task, instead of --tasks
    # Whose tokenizer encodes the texts: that of gpt2, of a checkpoint's folder or of a Hub id. It
    # must be the tokenizer of the model that is to be trained.
    tokenizer: str = "gpt2"
    # Instead, train a tokenizer of this many tokens on the training split, for a model from
    # scratch: the smaller the model, the fewer it should have.
    train_tokenizer: int | None = None
    block_size: int = 1024  # longest example in tokens, prompt and target together
    # What to do with texts that do not fit into block_size. For the task text: split them into
    # windows (window), keep the first window (trim), or drop them (drop). For the task document,
    # sections writes an example for each section and each window of the notes, so that dialogues
    # of any length can be used; otherwise a document that does not fit is dropped. Prompts of all
    # other tasks are shortened by whole sentences.
    long: Literal["window", "sections", "trim", "drop"] = "window"
    # titles: make questions and noisy yes/no labels for the task answer from titles that are
    # statements, in PubMed XML or in a column title: "X reduces Y" becomes "Does X reduce Y?" with
    # the answer yes.
    make_labels: Literal["titles"] | None = None
    # Share of yes among training answers, reached by dropping some; None keeps all.
    yes_share: float | None = None
    # More training examples for the task answer, each showing part of the context: results and/or
    # question.
    views: tuple[str, ...] = ()
    # Probability of leaving out each section in one more training example for the task answer.
    section_dropout: float = 0.0

    # --- splits ---
    # Column with the patient, encounter or article, all of whose records go to one split; None
    # takes a column named subject_id, patient_id, mrn, hadm_id, pmcid, …; --group= uses none.
    group: str | None = None
    # Column with the source's splits: train, validation, test; None takes a column named split, and
    # --split= ignores the source's splits.
    split: str | None = None
    fold: int = 0  # which of PubMedQA's ten official folds is the validation split, 0 to 9
    val_share: float = 0.05  # share of records for validation, outside the official splits
    test_share: float = 0.05  # share of records for the test split, outside the official splits

    # --- hygiene ---
    # Replace identifiers: with tags such as [NAME], or with surrogates, which are other names,
    # numbers and dates in the same form.
    redact: Literal["tags", "surrogates"] | None = None
    allow_phi: bool = False  # continue even if likely identifiers (PHI) are found
    # File of known names, chart numbers and birth dates to look for: one per line, or a .csv with
    # columns such as name, mrn and dob.
    phi_known: Path | None = None
    # Detectors of identifiers: rules, rules+tagger, or either with +MODULE:function, your own
    # function from a text to (kind, start, end) of each identifier. What only your function finds
    # is redacted, but never a reason to refuse a source.
    phi_engine: str = "rules+tagger"
    # Instead of preparing data, measure the detectors on your own notes, whose identifiers you have
    # marked as [[name|Ann Lee]]: a .txt with lines of ===== between the notes, or a .jsonl with one
    # {"text": …} per line.
    phi_check: Path | None = None
    phi_show: bool = False  # print what --phi_check missed without masking it
    # Drop training records that copy a validation or test record, or come from the same published
    # article (equal PMCID, PMID or DOI).
    drop_overlap: bool = False
    allow_overlap: bool = False  # continue even if training records copy test records
    # Other prepared folders, whose validation and test records this training split must not copy
    # either.
    against: tuple[str, ...] = ()
    # Made-up secrets to plant in the training split, for audit.py to look for.
    canaries: int = 0

    # --- run ---
    out: Path | None = None  # folder to write; None is data/ plus the name of the source
    # Do everything but write the folder: print the same tables, and fail where a real run would.
    dry_run: bool = False
    workers: int | None = None  # processes; None is one per CPU, 0 or 1 starts none
    show: int = 3  # examples to print, with the trained tokens marked
    seed: int = 1337  # seed of the synthetic source, canaries and views

    def __post_init__(self) -> None:
        # Imported here because these checks run before the imports below the class.
        from clingpt.data.canaries import MOST
        from clingpt.data.columns import parse_labels
        from clingpt.data.prepared import VIEWS
        from clingpt.data.readers.text_file import check_encoding
        from clingpt.data.sources import parse_mix
        from clingpt.text.records import N_FOLDS
        from clingpt.text.tasks import TASKS

        config.check_range(self, "block_size", at_least=16, at_most=1024)
        config.check_range(self, "fold", at_least=0, below=N_FOLDS)
        config.check_range(self, "val_share", "test_share", at_least=0, at_most=0.5)
        config.check_range(self, "yes_share", above=0, below=1)
        config.check_range(self, "section_dropout", at_least=0, below=1)
        config.check_range(self, "synthetic_records", "synthetic_held_out", at_least=1)
        config.check_range(self, "seed", "show", "workers", at_least=0)
        config.check_range(self, "canaries", at_least=0, at_most=MOST)
        both = self.task is not None and self.tasks != type(self).tasks
        config.check(not both, "pass one of --task and --tasks")
        config.check(bool(self.tasks), "tasks is empty; choose from " + ", ".join(TASKS))
        for task in self.chosen_tasks:
            config.check(task in TASKS, f"unknown task {task!r}; choose from {', '.join(TASKS)}")
            config.check(self.tasks.count(task) <= 1, f"tasks names {task} twice; keep one")
        for kind in self.views:
            config.check(kind in VIEWS, f"unknown view {kind!r}; choose from {', '.join(VIEWS)}")
        varied = bool(self.views or self.section_dropout)
        reason = "views and section_dropout need the task answer; add it or leave them out"
        config.check("answer" in self.chosen_tasks or not varied, reason)
        reason = "--long=sections needs the task document; add it or leave --long out"
        config.check("document" in self.chosen_tasks or self.long != "sections", reason)
        used_by = {"heading": "document", "labels": "answer", "make_labels": "answer"}
        for name, task in used_by.items():
            reason = f"--{name} needs the task {task}; add it or leave --{name} out"
            config.check(task in self.chosen_tasks or not getattr(self, name), reason)
        both = bool(self.mix) and self.source != type(self).source
        config.check(not both, "pass one of --source and --mix")
        names = "input or_input target question heading id group split labels".split()
        passed = [f"--{name}" for name in names if getattr(self, name)]
        reason = f"--source=synthetic has no columns to choose from; omit {' '.join(passed)}"
        config.check(self.source != "synthetic" or not passed, reason)
        self._check_tokenizer()
        self._check_detectors()
        parse_labels(self.labels)
        parse_mix(self.mix)
        check_encoding(self.encoding)

    def _check_tokenizer(self) -> None:
        from clingpt.text.tokenizer import HIGHEST_ID

        config.check_range(self, "train_tokenizer", at_least=257, at_most=HIGHEST_ID + 1)
        both = self.train_tokenizer is not None and self.tokenizer != type(self).tokenizer
        config.check(not both, "pass one of --tokenizer and --train_tokenizer")

    def _check_detectors(self) -> None:
        from clingpt.privacy.detectors import parse_engine

        _, engine = parse_engine(self.phi_engine)
        reason = (
            f"--phi_engine={self.phi_engine} adds a function whose findings are only redacted; add "
            "--redact=surrogates or --redact=tags"
        )
        config.check(not engine or bool(self.redact or self.phi_check), reason)
        reason = "--phi_show only affects --phi_check=FILE; add that or omit --phi_show"
        config.check(not self.phi_show or self.phi_check is not None, reason)

    @property
    def chosen_tasks(self) -> tuple[str, ...]:
        return self.tasks if self.task is None else (self.task,)

    @property
    def init_from(self) -> str:
        """What train.py can start from: a model whose tokenizer is that of the data."""
        return "scratch" if self.train_tokenizer else self.tokenizer

    @property
    def columns(self) -> "Columns":
        """The columns that the user named."""
        return Columns(
            id=self.id,
            group=self.group,
            split=self.split,
            question=self.question,
            input=self.input,
            or_input=self.or_input,
            target=self.target,
            heading=self.heading,
            labels=parse_labels(self.labels),
        )

    @property
    def options(self) -> "ReadOptions":
        return ReadOptions(
            encoding=self.encoding, quoting=self.quoting, sheet=self.sheet, records=self.records
        )

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

from clingpt.data import canaries, prepare_report
from clingpt.data.columns import Columns, parse_labels
from clingpt.data.pipeline import (
    SHOWN_IDS,
    Findings,
    Recipe,
    Survey,
    Tally,
    count_records,
    document_form,
    inspect_records,
    make_examples,
    names_of,
    reread,
    share_of_yes_to_keep,
    train_vocabulary,
    write_examples,
)
from clingpt.data.prepared import MANIFEST, FolderWriter, open_prepared, read_manifest
from clingpt.data.readers.reading import ReadOptions
from clingpt.data.readers.text_file import shown_name
from clingpt.data.sources import (
    Source,
    check_options,
    check_source,
    choose_columns,
    is_published,
    parse_mix,
    splits_by_file,
    state_of,
)
from clingpt.privacy.detectors import chosen, detector_steps, detectors_used, with_engine
from clingpt.privacy.identifiers import Detector
from clingpt.privacy.phi_check import read_annotated
from clingpt.privacy.phi_check import report as phi_report
from clingpt.privacy.redaction import Redactor
from clingpt.privacy.roster import Roster
from clingpt.text.tasks import TASK_TABLE
from clingpt.text.tokenizer import Tokenizer, named_tokenizer

FIRST_RECORDS = 20  # training records from which examples are shown if none were written


def main() -> None:
    cfg = parse_flags()
    if cfg.phi_check:
        check_detectors(cfg, cfg.phi_check)
        return
    cfg = replace(cfg, tasks=cfg.chosen_tasks, task=None)
    with one_writer(cfg.folder), cleanup_on_sigterm():
        check_same_source(cfg)
        # Refuses a folder that prepare.py did not write.
        writer = FolderWriter(cfg.folder, named_tokenizer(cfg.tokenizer), dry=cfg.dry_run)
        with console.on_interrupt(
            lambda: f"{cfg.folder} is complete" if writer.finished else "nothing was written"
        ):
            prepare(cfg, writer)


def prepare(cfg: PrepareConfig, writer: FolderWriter) -> None:
    """Read the sources three times: to count the records, to inspect them, and to write them."""
    workers = count_workers(cfg.workers)
    detect, redactor, detectors = choose_detectors(cfg)
    others = [open_prepared(Path(name)) for name in cfg.against]
    sources = open_sources(cfg)

    # The first pass counts the records; nothing is on disk before it has read all of them.
    survey = count_records(sources, skip_bad=cfg.skip_bad)
    check_labels(cfg, sources)
    reasons = reasons_to_refuse_splits(survey, sources, cfg)
    tally = None
    with writer:  # unless `finish` is called, no folder is left
        # The second pass inspects the records and reaches the verdict on them, dry run or not.
        findings = inspect_records(
            sources,
            survey,
            redactor,
            detect,
            detectors=detectors,
            allow_phi=cfg.allow_phi,
            others=others,
            scratch=writer.scratch("held_out.runs"),
            workers=workers,
        )
        reasons += reasons_to_refuse_records(findings, sources, cfg)
        reasons += reasons_to_refuse_labels(sources, cfg)
        recipe = recipe_for(cfg, sources, survey, findings, redactor, writer.tokenizer)
        # The third pass makes the examples and writes them; a dry run only counts them.
        if not reasons:
            recipe = with_own_tokenizer(cfg, sources, survey, recipe, writer, workers=workers)
            planted = canaries.make_canaries(cfg.canaries, cfg.seed) if cfg.canaries else []
            if planted:  # audit.py looks for them later
                writer.add_json(canaries.FILE, canaries.to_json(planted))
            tally = write_examples(
                sources,
                survey,
                recipe,
                writer,
                planted=canaries.planted_records(planted) if planted else (),
                workers=workers,
            )
            reasons = reasons_to_refuse_examples(tally, writer.n_tokens["train"], sources, cfg)
            if not (reasons or cfg.dry_run):
                writer.add_receipt(findings.receipt, findings.articles)
                own_form = recipe.form if "document" in cfg.tasks and findings.headings else None
                writer.finish(settings_to_keep(cfg), own_form)

    finished = not (reasons or cfg.dry_run)
    if finished:
        prepared = open_prepared(cfg.folder, writer.tokenizer)  # read back and verified
    print_tables(sources, survey, findings, tally, writer, cfg, finished=finished)
    if finished and not findings.identifiers:
        print_examples(prepare_report.written_examples(prepared, cfg.show), writer.tokenizer)
    elif finished or cfg.dry_run:
        print_first_examples(sources, findings, recipe, detect, cfg.show)
    if cfg.dry_run:
        console.say("\nA dry run: nothing was written.")
    if reasons:
        raise DataError("; ".join(reasons))
    if finished:
        source = cfg.subset if cfg.source == "pubmedqa" else cfg.source
        console.say(prepare_report.next_line(cfg.folder, source, cfg.tasks, cfg.init_from))


def recipe_for(
    cfg: PrepareConfig,
    sources: list[Source],
    survey: Survey,
    findings: Findings,
    redactor: Redactor | None,
    tokenizer: Tokenizer,
) -> Recipe:
    """Collect the settings for making examples, and what the first two passes found."""
    copies = frozenset(chain.from_iterable(findings.copies.values()))
    return Recipe(
        tasks=cfg.tasks,
        tokenizer=tokenizer,
        budget=cfg.block_size,
        long=cfg.long,
        form=document_form(findings, long=cfg.long, block_size=cfg.block_size),
        weights=tuple(source.weight for source in sources),
        keep_yes=share_of_yes_to_keep(survey, sources, cfg.yes_share),
        views=cfg.views,
        section_dropout=cfg.section_dropout,
        key=str(cfg.seed),
        redactor=redactor,
        dropped=copies if cfg.drop_overlap else frozenset(),
    )


def with_own_tokenizer(
    cfg: PrepareConfig,
    sources: list[Source],
    survey: Survey,
    recipe: Recipe,
    writer: FolderWriter,
    *,
    workers: int,
) -> Recipe:
    """Train the tokenizer of --train_tokenizer, if that was asked for."""
    if cfg.train_tokenizer:
        size = cfg.train_tokenizer
        writer.tokenizer = train_vocabulary(sources, survey, recipe, size, workers=workers)
    return replace(recipe, tokenizer=writer.tokenizer)


def choose_detectors(cfg: PrepareConfig) -> tuple[Detector, Redactor | None, Mapping[str, Any]]:
    """Return what finds identifiers, what replaces them, and a description for the receipt.

    An outside function only redacts: what it finds is never a reason to refuse a source.
    """
    roster = Roster.read(cfg.phi_known) if cfg.phi_known else None
    if roster and roster.too_short:
        console.say(
            f"Too short to be looked for: {console.count(roster.too_short, 'entry', 'entries')} of "
            f"{cfg.phi_known}."
        )
    detect = chosen(cfg.phi_engine, roster)
    redacting = with_engine(cfg.phi_engine, detect)
    redactor = Redactor(cfg.redact, detect=redacting) if cfg.redact else None
    return detect, redactor, detectors_used(cfg.phi_engine, roster)


def check_detectors(cfg: PrepareConfig, path: Path) -> None:
    """Print how well the detectors do on annotated notes; write nothing."""
    notes = read_annotated(path)
    roster = Roster.read(cfg.phi_known) if cfg.phi_known else None
    steps = detector_steps(cfg.phi_engine, roster)
    console.say(phi_report(notes, steps, show=cfg.phi_show))


def check_same_source(cfg: PrepareConfig) -> None:
    """Raise ConfigError if the default folder has the data of a different source of that name."""
    if cfg.out is not None or not (cfg.folder / MANIFEST).exists():
        return
    settings = read_manifest(cfg.folder)["settings"]
    was, was_mixed = settings.get("source"), settings.get("mix", [])  # both absent if very old
    before, now = (
        [Path(name).resolve() for name, _ in parse_mix(mix)] or Path(str(source)).resolve()
        for source, mix in ((was, was_mixed), (cfg.source, cfg.mix))
    )
    if before != now:
        raise ConfigError(
            f"{cfg.folder} was prepared from {' '.join(was_mixed) or was or 'another source'}; "
            f"choose another folder with --out, or pass --out={cfg.folder} to replace it"
        )


def check_outside(folder: Path, source: str) -> None:
    """Raise ConfigError if the output folder is inside a source: the next run would read it."""
    place = Path(source)
    if (
        source != "synthetic"
        and place.is_dir()
        and folder.resolve().is_relative_to(place.resolve())
    ):
        raise ConfigError(
            f"--out={folder} is inside the source {source}, so the next run would read it as well; "
            "choose another --out"
        )


def open_sources(cfg: PrepareConfig) -> list[Source]:
    """Describe each source: its weight, its columns, and how its records are split."""
    sources = []
    weights = parse_mix(cfg.mix) if cfg.mix else [(cfg.source, 1.0)]
    for name, _ in weights:
        check_source(name, cfg.encoding)
        check_outside(cfg.folder, name)
    check_options([name for name, _ in weights], cfg.options)
    for name, weight in weights:
        columns, table, published = None, "", True
        if name != "synthetic":
            # Labels made from titles need the same columns as a summary, and no column of answers.
            # Whatever the order of the tasks, the one that needs most columns chooses them.
            needy = max(cfg.tasks, key=lambda task: len(TASK_TABLE[task].needed))
            task = "summarize" if cfg.make_labels else needy
            choice = choose_columns(name, task, given=cfg.columns, options=cfg.options)
            columns, table = choice or (None, "")
            published = is_published(name, columns, cfg.options)
        has_split_column = columns is not None and columns.split is not None
        sources.append(
            Source(
                name=name,
                state=state_of(name),
                weight=weight,
                subset=cfg.subset,
                options=cfg.options,
                split_files={} if has_split_column or cfg.split == "" else splits_by_file(name),
                columns=columns,
                columns_table=table,
                published=published,
                make_labels=cfg.make_labels == "titles",
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


def check_labels(cfg: PrepareConfig, sources: list[Source]) -> None:
    """Raise DataError if --labels maps a value that no record has."""
    for value in cfg.columns.labels:
        if not any(source.cell_counts["label", value] for source in sources):
            raise DataError(
                f"--labels maps {shown_name(value)!r}, a value that no record of "
                f"{names_of(sources)} has; without --labels, prepare.py lists the values"
            )


def reasons_to_refuse_splits(
    survey: Survey, sources: list[Source], cfg: PrepareConfig
) -> list[str]:
    """List what is wrong with the splits: a divided group, or a held-out split without records."""
    found = []
    columns = [source.columns for source in sources if source.columns]
    has_splits = any(each.split for each in columns) or any(s.split_files for s in sources)
    if divided := survey.divided_groups():
        names = sorted({shown_name(each.group) for each in columns if each.group}) or ["group"]
        advice = "pass --split= to keep groups together, or" if has_splits else "pass"
        counts = [f"{' and '.join(splits)} ({n})" for splits, n in sorted(divided.items())]
        found.append(
            f"the official splits divide {console.count(divided.total(), 'group')} of "
            f"{' and '.join(map(repr, names))}, whose records are in {', '.join(counts)}; {advice} "
            "--group= to keep the official splits"
        )
    n_hashed, n_all = survey.hashed.total(), survey.records.total()
    for split, share in {"val": cfg.val_share, "test": cfg.test_share}.items():
        if not share or any(survey.records[number, split] for number in range(len(sources))):
            continue
        if n_hashed:
            among = prepare_report.among_groups(survey)
            records = console.count(n_hashed, "record")
            why = f"none of {records}{among} fell into a share of {share:.1%}"
            advice = f"pass a larger --{split}_share"
            advice += ", --group= to divide groups" if survey.groups else ""
        else:
            why = f"none of {console.count(n_all, 'record')} is in it by the source's own splits"
            advice = "pass --split= to split by a hash" if has_splits else ""
        advice = f"{advice}, or" if advice else "pass"
        found.append(
            f"the {split} split is empty: {why}; {advice} --{split}_share=0 to do without it"
        )
    return found


def reasons_to_refuse_records(
    findings: Findings, sources: list[Source], cfg: PrepareConfig
) -> list[str]:
    """List the reasons not to prepare these records, each with what to do about it."""
    found = []
    if findings.identifiers and not cfg.allow_phi:
        found.append(
            f"found {console.count(findings.identifiers, 'likely identifier')} (PHI); pass "
            "--redact=surrogates to replace identifiers (what was missed is then hard to tell from "
            "the surrogates), --redact=tags, or --allow_phi=True to keep them"
        )
    copies = findings.copies["test"]
    if copies and not allows_overlap(cfg):
        why = prepare_report.reasons_for_copies(copies)
        first = shown_ids(list(copies)[:SHOWN_IDS], sources)
        n_copies = console.count(
            len(copies),
            "training record copies a test record",
            "training records copy test records",
        )
        found.append(
            f"{n_copies} ({why}), first {first}; pass --drop_overlap=True to drop training "
            "records that copy val or test records, or --allow_overlap=True and report it "
            "with every score"
        )
    return found


def reasons_to_refuse_examples(
    tally: Tally, n_tokens: int, sources: list[Source], cfg: PrepareConfig
) -> list[str]:
    """List the reasons not to keep the examples that were made; `n_tokens` are to train on."""
    found = []
    if not n_tokens:
        why = ", ".join(f"{task}: {reason} ({n})" for (task, reason), n in tally.dropped.items())
        advice = "choose other --tasks or records"
        if tally.dropped["document", "target too long"] and cfg.long != "sections":
            advice = "pass --long=sections to write documents section by section, or " + advice
        found.append(f"{names_of(sources)} yields no training example ({why}); {advice}")
    return found


def reasons_to_refuse_labels(sources: list[Source], cfg: PrepareConfig) -> list[str]:
    """List the reason not to go on if no title became a question with a label."""
    found = sum((source.title_labels for source in sources), Counter[str]())
    if not cfg.make_labels or found["yes"] + found["no"]:
        return []
    why = ", ".join(f"{reason}: {console.count(n)}" for reason, n in found.most_common())
    return [
        f"make_labels: no title of {names_of(sources)} became a question ({why or 'no titles'}); "
        "titles come from PubMed XML, .nbib or a column title, beside a text and its conclusion"
    ]


def shown_ids(record_ids: list[str], sources: list[Source]) -> str:
    """List ids for a message; those that may identify somebody are masked."""
    if any(not source.published for source in sources):
        record_ids = list(map(shown_name, record_ids))
    return ", ".join(record_ids)


def allows_overlap(cfg: PrepareConfig) -> bool:
    """Return whether shared text is acceptable.

    Synthetic records share their templates by design. Their splits are kept apart by combinations,
    names and numbers that training never sees.
    """
    return cfg.allow_overlap or cfg.drop_overlap or cfg.source == "synthetic"


def settings_to_keep(cfg: PrepareConfig) -> dict[str, Any]:
    """Return the settings for the manifest, except those that do not change a byte of the data."""
    settings = config.to_json(cfg)
    del settings["workers"], settings["dry_run"], settings["task"]
    # Measuring prepares nothing, and a roster's file may be named after people.
    del settings["phi_check"], settings["phi_show"], settings["phi_known"]
    return settings


# Output


def print_tables(
    sources: list[Source],
    survey: Survey,
    findings: Findings,
    tally: Tally | None,
    writer: FolderWriter,
    cfg: PrepareConfig,
    *,
    finished: bool,
) -> None:
    """Print what was found, dropped and made; `tally` is None if no examples were made."""
    counts = writer.counts()
    tables: list[str | None] = [] if finished else [source.columns_table for source in sources]
    tables.append(prepare_report.records_table(sources, survey, counts if tally else None))
    if cfg.make_labels:
        tables.append(prepare_report.labels_table(sources))
    if tally:
        tables.append(prepare_report.examples_table(counts, tally, cfg.tasks))
        if cfg.train_tokenizer:
            tables.append(prepare_report.vocabulary_line(writer.tokenizer, cfg.train_tokenizer))
    tables.append(prepare_report.dropped_table(survey, tally or Tally()))
    if "document" in cfg.tasks:
        form = document_form(findings, long=cfg.long, block_size=cfg.block_size)
        tables.append(prepare_report.headings_table(findings, form))
    templated = cfg.source == "synthetic"
    tables.append(prepare_report.overlap_table(findings, templated=templated))
    tables.append(prepare_report.boilerplate_table(findings))
    tables += prepare_report.receipt_tables(findings.receipt)
    tables.append(prepare_report.remarks(sources, survey, tally or Tally()))
    console.say("\n\n".join(table for table in tables if table))


def print_first_examples(
    sources: list[Source], findings: Findings, recipe: Recipe, detect: Detector, n: int
) -> None:
    """Print examples of the first training records, with the identifiers in them masked."""
    if masked := findings.identifiers > 0:
        recipe = replace(recipe, redactor=Redactor("tags", detect=detect))
    training = (item for item in reread(sources) if item.split == "train")
    pieces, _ = make_examples(recipe, list(islice(training, FIRST_RECORDS)))
    print_examples(prepare_report.unwritten_examples(pieces, n), recipe.tokenizer, masked=masked)


def print_examples(
    examples: list[prepare_report.Shown], tokenizer: Tokenizer, *, masked: bool = False
) -> None:
    """Print examples, their target tokens in green or in brackets."""
    colour = console.colour_enabled(sys.stdout)
    for example in examples:
        text = prepare_report.example_text(example, tokenizer, colour=colour, masked=masked)
        console.say(text, styled=True)


if __name__ == "__main__":
    console.run(main)
