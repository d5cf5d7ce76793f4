"""Sources of records: PubMedQA from the Hub or its official JSON file, tables, and texts.

`Source.read` yields cleaned records one by one, each with its split and what it is known by, and
starts again at every call, so that memory does not grow with a source. Malformed input raises a
DataError that names the file and the line. clingpt/data/readers/ reads the rows of a file;
clingpt/data/columns.py decides what its columns mean.
"""

import difflib
import hashlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from clingpt.base import console
from clingpt.base.errors import ConfigError, DataError, hub_reason
from clingpt.data.cells import CellError, Counts, refuse_printed, sampled
from clingpt.data.columns import Columns, guess_columns, guess_table, identifier, record_of
from clingpt.data.prepared import official_places
from clingpt.data.readers.contents import ENDINGS
from clingpt.data.readers.folders import find_files, iter_folder
from clingpt.data.readers.formats import (
    BY_ENDING,
    FORMATS,
    READABLE,
    ending_of,
    format_of,
    iter_file,
)
from clingpt.data.readers.reading import AS_IT_IS, Reading, ReadOptions, Shape
from clingpt.data.readers.text_file import AUTO, LeftOut, OnBad, Placed, Row, shown_name
from clingpt.data.title_labels import label_record
from clingpt.text.records import (
    FIELDS,
    PASTED,
    SPLITS,
    Record,
    RecordError,
    article_numbers,
    clean,
    from_json,
    make_record,
    refuse_annotations,
)

HUB_NAME = "qiaojin/PubMedQA"
HUB_TIMEOUT_S = 5.0
NEAR = 0.75  # similarity of two names above which one may be a typing error for the other
SAMPLED_ROWS = 200

# How data sets spell the names of their splits, besides numbers as in test1 and test2.
SPELLINGS = {
    "train": "train training",
    "val": "val valid validation dev devel development",
    "test": "test testing",
}
_SPLIT_OF = {name: split for split, names in SPELLINGS.items() for name in names.split()}


class Read(NamedTuple):
    """A record as a source yields it."""

    split: str  # train, val or test; any other text that the source's split column has
    record: Record
    key: str  # identifies the record wherever it is in the source: its id, or a hash of its text
    own_id: bool  # the source gave the id; otherwise it is the record's number and text
    official: bool  # the source or PubMedQA's lists gave the split; otherwise a hash did


# Hexadecimal digits as letters: a name with many digits would be taken for a chart number.
_LETTERS = str.maketrans("0123456789", "ghijklmnop")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One source of records, and how to read it."""

    name: str  # pubmedqa, synthetic, a Hub data set or its local copy, a file or a folder
    state: "State | None" = None  # of its files when it was opened; see check_unchanged
    weight: float = 1.0  # how often each training record is written, on average
    subset: str = "pqa_labeled"  # of a data set on the Hub
    options: ReadOptions = AS_IT_IS  # of a file or folder
    columns: Columns | None = None  # None: a known layout, or no rows at all
    columns_table: str = ""  # the choice of columns, for the user to confirm
    published: bool = False  # open to anyone: names in it are not a reason to refuse it
    fold: int = 0  # of PubMedQA's ten official ones, to validate on
    val_share: float = 0.05  # of records outside the official lists
    test_share: float = 0.05
    synthetic_counts: Mapping[str, int] = field(default_factory=dict)  # split -> records
    seed: int = 1337  # of synthetic records
    shared_ids: set[str] = field(default_factory=set)  # of several records; see count_records
    shape: Shape = field(default_factory=Shape)  # what the last reading took it for
    # Split of each file of a folder, if their names say it; see `splits_by_file`.
    split_files: Mapping[Path, str] = field(default_factory=dict)
    cell_counts: Counts = field(default_factory=Counts)  # of the last whole reading; see record_of
    make_labels: bool = False  # from titles; see title_labels.py
    # What the last whole reading made of the titles: yes, no, or why none -> records.
    title_labels: Counter[str] = field(default_factory=Counter)

    def read(self, on_bad: OnBad) -> Iterator[Read]:
        """Yield every record; `on_bad` gets the error of each unusable one.

        A record without an id is named after its number in the source and its text. The number is
        for readers only: it decides nothing, so rows in another order are the same records.
        """
        if self.name == "synthetic":  # the generator keeps its splits apart by itself
            from clingpt.data import synthetic  # builds its tables on import

            for split in SPLITS:
                count = self.synthetic_counts[split]
                for record in synthetic.iter_records(split, count=count, seed=self.seed):
                    yield Read(split, record, record.id, own_id=True, official=True)
            return
        for number, (record, published) in enumerate(self._records(on_bad), start=1):
            given = official_split(record.id, self.fold) or published
            official = given is not None
            split = given or split_of(
                record,
                fold=self.fold,
                val_share=self.val_share,
                test_share=self.test_share,
                by_id=record.id in self.shared_ids,
            )
            if record.id:
                yield Read(split, record, record.id, own_id=True, official=official)
            else:
                key = hashlib.sha256(record.full_text().lower().encode()).hexdigest()
                named = replace(record, id=f"{number}-{key[:10].translate(_LETTERS)}")
                yield Read(split, named, key, own_id=False, official=official)

    def read_late_html(self) -> bool:
        """Have the next reading turn HTML into text in columns that had none in the first rows.

        Returns whether the last reading found any.
        """
        rules = self.columns.rules if self.columns else {}
        late = [name for (what, name), n in self.cell_counts.items() if what == "html left" and n]
        for name in late:
            rules[name] = replace(rules[name], html=1)
        return bool(late)

    def _records(self, on_bad: OnBad) -> Iterator[tuple[Record, str | None]]:
        """Yield the records, and the split of each if a column gives it."""
        if is_on_hub(self.name):
            name = HUB_NAME if self.name == "pubmedqa" else self.name
            yield from ((record, None) for record in read_hub(name, self.subset, on_bad))
        else:
            # Kept only if the reading is complete: some readers stop when they have seen enough.
            cell_counts, title_labels = Counts(), Counter[str]()
            column = self.columns.split if self.columns else None
            reading = Reading(on_bad, self.options, self.shape)
            for place, row in iter_rows(Path(self.name), reading):
                try:
                    if self.columns is None:
                        record = from_known_row(row)
                        refuse_printed(record)
                    elif self.shape.known:
                        record = from_known_fields(row, self.columns, pmids=self.published)
                    else:
                        record = record_of(row, self.columns, cell_counts)
                    refuse_annotations(record)
                except CellError as error:
                    on_bad(error.at(place))
                except RecordError as error:
                    name = error.record_id if self.published else shown_name(error.record_id)
                    who = f"record {name}: " if name else ""
                    on_bad(DataError(f"{place}: {who}{error.problem}"))
                except DataError as error:
                    on_bad(DataError(f"{place}: {error}"))
                else:
                    if self.make_labels:
                        record, outcome = label_record(record, row)
                        title_labels[outcome] += 1
                    by_file = self.split_files.get(reading.file) if reading.file else None
                    yield record, published_split(row, column) if column else by_file
            self.cell_counts.clear()
            self.cell_counts.update(cell_counts)
            self.title_labels.clear()
            self.title_labels.update(title_labels)


def iter_rows(path: Path, reading: Reading) -> Iterator[Placed]:
    """Yield the rows of a file or a folder, each with its place; note what it was taken for."""
    reading.shape.facts.clear()
    if path.is_dir():
        yield from iter_folder(path, reading)
    else:
        kind = format_of(path, reading.options.encoding)
        reading.shape.facts.append(kind.name)
        yield from iter_file(path, kind, reading)


State = list[tuple[Path, int, int]]


def state_of(name: str) -> State:
    """Return the size and modification time of each file of a source, to detect changes."""
    if name == "synthetic" or is_on_hub(name):
        return []
    path = Path(name)
    stats = [(each, each.stat()) for each in (find_files(path).files if path.is_dir() else [path])]
    return [(each, found.st_size, found.st_mtime_ns) for each, found in stats]


def check_unchanged(source: Source) -> None:
    """Raise DataError if a source has changed since it was opened.

    It is read several times, and text that was not inspected must not be written.
    """
    if source.state is not None and source.state != state_of(source.name):
        raise DataError(
            f"{source.name} was changed while it was read; run the same command again when no "
            "other program writes to it"
        )


def is_on_hub(name: str) -> bool:
    """Return whether a source is read through `datasets`: from the Hub, or PubMedQA's local copy.

    OWNER/NAME can also be a path. It is one if it has the ending of a file, or if OWNER, or a name
    similar to it, is a folder here.
    """
    path = Path(name)
    if name == "pubmedqa":
        return True
    if path.exists() and name:
        return path.is_dir() and any(path.glob("pqa_*/*.parquet"))
    if not re.fullmatch(r"\w[\w.-]*/[\w.-]+", name) or ending_of(path) in {*BY_ENDING, *ENDINGS}:
        return False
    return not path.parent.is_dir() and not _near_names(path.parent)


def check_source(name: str, encoding: str = AUTO) -> None:
    """Raise DataError unless a source is one that `Source` can read."""
    path = Path(name)
    if name == "synthetic" or is_on_hub(name):
        return
    if name and path.is_dir():  # Path("") is the current folder
        find_files(path)
    elif name and path.exists():
        format_of(path, encoding)
    else:
        raise _missing(name)


def _missing(name: str) -> DataError:
    """Build the error for a source that does not exist."""
    near = _near_names(Path(name)) if name else []
    if "/" in name or ending_of(Path(name)) in {*BY_ENDING, *ENDINGS}:
        advice = f"did you mean {' or '.join(near)}?" if near else "check the path"
        return DataError(f"{name}: no such file or folder; {advice}")
    hint = f"did you mean {' or '.join(near)}? Otherwise use" if near else "use"
    return DataError(
        f"unknown source {name!r}; {hint} pubmedqa, synthetic, OWNER/NAME of a data set on the "
        f"Hub, or a file or folder; {READABLE}"
    )


def _near_names(path: Path) -> list[str]:
    """List the files in the folder of a missing file whose names are similar to its name."""
    names = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=2, cutoff=NEAR)
    return [str(path.with_name(each)) for each in near if shown_name(each) == each]


def check_options(names: Sequence[str], options: ReadOptions) -> None:
    """Raise ConfigError for an option that is for a format which none of the sources has."""
    flags = set[str]()
    for name in names:
        path = Path(name)
        if name != "synthetic" and not is_on_hub(name):
            kind = find_files(path).format if path.is_dir() else format_of(path, options.encoding)
            flags |= {*kind.flags} if kind else set()
    for flag in {"quoting", "sheet", "records"} - flags:
        if getattr(options, flag) != getattr(AS_IT_IS, flag):
            usable = " and ".join(each.name for each in FORMATS if flag in each.flags)
            raise ConfigError(
                f"--{flag} is for {usable}, and {' and '.join(names)} is not; omit it"
            )


def parse_mix(texts: Sequence[str]) -> list[tuple[str, float]]:
    """Parse `a.csv=1 b.jsonl.gz=0.3` into names and weights; a missing weight is 1."""
    mix: list[tuple[str, float]] = []
    for text in texts:
        name, equals, number = text.rpartition("=")
        if not equals:
            name, number = text, "1"
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not name or not 0 < weight <= 100:
            raise ConfigError(
                f"mix takes sources with weights above 0 and at most 100, as in a.csv=1 "
                f"b.jsonl.gz=0.3, got {text!r}"
            )
        if name == "synthetic":
            raise ConfigError("synthetic cannot be mixed: its texts repeat; prepare it by itself")
        if name in (other for other, _ in mix):
            raise ConfigError(f"mix names {name} twice; keep one")
        mix.append((name, weight))
    return mix


def refuse(error: DataError) -> None:
    """Raise the first error: an `on_bad` for callers that cannot skip unusable records."""
    raise error


# Columns


def choose_columns(
    source: str, task: str, *, given: Columns | None = None, options: ReadOptions = AS_IT_IS
) -> tuple[Columns, str] | None:
    """Choose the columns of a table for a task; also returns the choice as a table to print.

    Returns None if rows describe their own content (the Hub, PubMedQA's official file, our
    own JSON form, texts in a folder), unless the user names columns.
    """
    wanted = given or Columns()
    named = any(astuple(wanted))  # an empty name switches a guess off, and needs no column
    if source == "synthetic" or is_on_hub(source):
        rows, shape = list[Row](), Shape(plain=True)
    else:
        rows, shape = _sample(source, options)
    if shape.plain:
        if named:
            raise ConfigError(
                f"{source} has no columns to choose from; omit --input and the other flags that "
                "name columns"
            )
        return None
    if shape.known:
        if named:
            raise ConfigError(
                f"{source} is {shape.known}, which says itself what its parts are; do not name "
                "columns (only --group= without a name, to split record by record)"
            )
        columns = known_fields(rows, grouped=wanted.group != "")
        return columns, guess_table(list(rows[0]), rows, columns)
    first = rows[0]
    is_known = first and (first.keys() <= FIELDS or _is_official(first) or _is_hubs(first))
    if is_known and not named and not shape.flat:
        return None
    names = list(dict.fromkeys(itertools.chain.from_iterable(rows)))

    def every() -> Iterator[Row]:
        return (row for _, row in iter_rows(Path(source), Reading(lambda _: None, options)))

    columns = guess_columns(names, rows, task, wanted, every=every)
    return columns, guess_table(names, rows, columns)


def known_fields(rows: Sequence[Row], *, grouped: bool) -> Columns:
    """Describe the fields of a known format as columns: their names are their roles."""
    roles = {
        role: next((name for name in names if any(row.get(name) for row in rows)), None)
        for role, names in {
            "id": ["id"],
            "group": ["group"] if grouped else [],
            "question": ["question"],
            "input": ["sections", "text"],
            "target": ["target"],
            "keywords": ["keywords"],
        }.items()
    }
    return Columns.of(roles)


def is_published(source: str, columns: Columns | None, options: ReadOptions = AS_IT_IS) -> bool:
    """Return whether a source is PubMed or PubMedQA, by its format or layout: open to anyone.

    A table whose columns were chosen is the user's own, whatever their names.
    """
    if source == "synthetic" or is_on_hub(source):  # the Hub's are read in PubMedQA's layout
        return True
    rows, shape = _sample(source, options)
    return shape.published or not columns and (_is_official(rows[0]) or _is_hubs(rows[0]))


def _sample(source: str, options: ReadOptions) -> tuple[list[Row], Shape]:
    """Read the first rows, with long texts cut. Bad rows are reported later, by count_records."""
    bad: list[DataError] = []
    rows: list[Row] = []
    reading = Reading(bad.append, options)
    for _, row in itertools.islice(iter_rows(Path(source), reading), SAMPLED_ROWS):
        rows.append({name: sampled(cell) for name, cell in row.items()})
    if rows:
        return rows, reading.shape
    if not bad:
        raise DataError(f"{source} contains no record; is it the right file?")
    if isinstance(bad[0], LeftOut):
        raise DataError(f"{source} contains no record that can be read: {bad[0]}")
    raise bad[0]


# Rows that describe their own content


def _is_official(row: Row) -> bool:
    return {"QUESTION", "CONTEXTS"} <= row.keys()


def _is_hubs(row: Row) -> bool:
    context = row.get("context")
    return "pubid" in row and isinstance(context, Mapping) and "contexts" in context


def from_known_row(row: Row) -> Record:
    """Read a row in PubMedQA's official layout, in the Hub's, or in the form of records.to_json."""
    if "QUESTION" in row or "CONTEXTS" in row:  # our own form has no such field
        return from_official_item((row.get("id"), row))
    if _is_hubs(row):
        return from_hub_row(row)
    return from_json(row, default_id=None)


def from_known_fields(row: Mapping[str, Any], columns: Columns, *, pmids: bool) -> Record:
    """Read a row of a known format, whose names are those of a record's fields.

    `pmids`: its ids are those of PubMed.
    """
    return make_record(
        record_id=row.get("id"),
        group=row.get("group") if columns.group else None,
        question=row.get("question") or "",
        sections=row.get("sections") or [(PASTED, row.get("text") or "")],
        long_answer=row.get("target"),
        keywords=row.get("keywords") or (),
        articles=article_numbers([row.get("id")], pmids=pmids),
    )


def from_official_item(pair: tuple[object, Any]) -> Record:
    """Read one PMID and its entry in PubMedQA's official file.

    The file is one object, PMID → QUESTION, CONTEXTS, LABELS, LONG_ANSWER, final_decision, MESHES.
    """
    pmid, item = pair
    if not isinstance(item, Mapping) or not {"QUESTION", "CONTEXTS"} <= item.keys():
        raise DataError(f"record {pmid}: no QUESTION and CONTEXTS; is this PubMedQA's format?")
    return _from_lists(
        record_id=pmid,
        question=item["QUESTION"],
        texts=item["CONTEXTS"],
        labels=item.get("LABELS"),
        long_answer=item.get("LONG_ANSWER"),
        decision=item.get("final_decision"),
        keywords=item.get("MESHES"),
    )


def from_hub_row(row: Mapping[str, Any]) -> Record:
    """Read one row of the Hub's layout, whose context is one dict of parallel lists.

    Its reasoning_*_pred fields are annotators' opinions, not labels, and are ignored. They contain
    lists of characters (["y", "e", "s"]); a decision that arrives in that form is joined.
    """
    context = row.get("context")
    if not isinstance(context, Mapping) or "contexts" not in context:
        raise DataError(
            f"record {row.get('pubid')}: no context.contexts; is this PubMedQA's layout?"
        )
    decision = row.get("final_decision")
    if isinstance(decision, list):
        decision = "".join(map(str, decision))
    return _from_lists(
        record_id=row.get("pubid"),
        question=row.get("question"),
        texts=context["contexts"],
        labels=context.get("labels"),
        long_answer=row.get("long_answer"),
        decision=decision,
        keywords=context.get("meshes"),
    )


def _from_lists(
    *, record_id: object, texts: Any, labels: Any, keywords: Any, **rest: Any
) -> Record:
    """Build a record from PubMedQA's parallel lists of section texts and labels."""
    if record_id is None:  # unlike other records: without it, the official lists cannot apply
        raise DataError("a record's id must be a string or an integer, not NoneType")
    labels, keywords = labels or [], keywords or []
    for name, value in (("contexts", texts), ("labels", labels), ("keywords", keywords)):
        if not isinstance(value, list):  # a text would pass as a list of letters
            kind = type(value).__name__
            raise DataError(f"record {record_id}: {name} must be a list, not {kind}")
    labels = labels or ["CONTEXT"] * len(texts)
    if len(labels) != len(texts):
        found = f"{console.count(len(texts), 'context')} but {console.count(len(labels), 'label')}"
        raise DataError(f"record {record_id}: {found}")
    sections = zip(labels, texts, strict=True)
    return make_record(
        record_id=record_id,
        sections=sections,
        keywords=keywords,
        articles=article_numbers([record_id], pmids=True),
        **rest,
    )


# The Hub


def read_hub(name: str, subset: str, on_bad: OnBad = refuse) -> Iterator[Record]:
    """Read a data set in PubMedQA's Hub layout through `datasets`, which keeps its rows on disk."""
    import datasets

    datasets.disable_progress_bars()
    unreachable = None if Path(name).is_dir() else _ask_hub(name)
    try:
        rows = datasets.load_dataset(name, subset, split="train")
    except Exception as error:  # no common base class: connection, parquet, config …
        reason = hub_reason(unreachable or error)
        raise DataError(
            f"cannot load {name} ({subset}) from the Hub or its cache: {reason}; with no network, "
            "download ori_pqal.json on another machine and pass --source=ori_pqal.json"
        ) from error
    for row in rows:
        try:
            record = from_hub_row(row)
        except DataError as error:
            on_bad(error)
        else:
            yield record


def _ask_hub(name: str) -> Exception | None:
    """Return why the Hub cannot serve a data set, or None; then `datasets` uses only its cache.

    Otherwise `datasets` would retry for half a minute and warn each time.
    """
    import datasets
    from huggingface_hub import HfApi, constants

    try:
        HfApi().dataset_info(name, timeout=HUB_TIMEOUT_S)
    except Exception as error:  # no common base class here either: connection, name, permission …
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
        return error
    return None


# Splits


def official_split(record_id: str, fold: int) -> str | None:
    """Return the split of a PubMedQA-L record by its PMID; None for any other."""
    found = official_places().get(record_id)
    return None if found is None else "test" if found == -1 else "val" if found == fold else "train"


def published_split(row: Row, column: str) -> str:
    """Return train, val or test, as a column spells it; any other cell as a text for a message."""
    value = identifier(row, column)
    name = "" if value is None else clean(str(value))
    return split_in(name) or shown_name(name) or "(empty)"


def split_in(name: str) -> str | None:
    """Return the split that a name contains as a word, as in test1, phase_II_valid, TestSet-1."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    found = {_SPLIT_OF[word.lower()] for word in words if word.lower() in _SPLIT_OF}
    return found.pop() if len(found) == 1 else None


def splits_by_file(source: str) -> dict[Path, str]:
    """Return the split of each file of a folder if all their names, or their folders', say it.

    As in train.csv, valid.csv and MTS-Dialog-TestSet-1.csv, or train/ and test/.
    """
    path = Path(source)
    if is_on_hub(source) or not path.is_dir():
        return {}
    found: dict[Path, str] = {}
    for file in find_files(path).files:
        name = file.relative_to(path).as_posix().rpartition(".")[0]
        if (split := split_in(name)) is None:
            return {}
        found[file] = split
    return found if len({*found.values()}) > 1 and "train" in found.values() else {}


def split_of(
    record: Record, *, fold: int, val_share: float, test_share: float, by_id: bool = False
) -> str:
    """Return the official split of a PubMedQA-L record; for others a hash decides.

    The hash is that of the group if the record has one, else of its id if several records have that
    (`by_id`), else of what a model reads. So a patient's notes stay together, and a text that
    recurs under another id cannot cross into another split. Order plays no part: the same rows in
    another order or format are split the same.
    """
    if official := official_split(record.id, fold):
        return official
    text = "\n".join([record.question, *(body for _, body in record.sections)]).lower()
    decisive = record.group or (record.id if by_id else text)
    digest = hashlib.sha256(decisive.encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    if position < test_share:
        return "test"
    return "val" if position < test_share + val_share else "train"
