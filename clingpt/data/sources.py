"""Where records come from: the Hub, PubMedQA's official JSON, tables and texts of your own.

Each reader yields cleaned Records one by one, so that memory does not grow with the source, and may
be iterated more than once. Malformed input raises DataError naming the file and the place. How rows
are read is clingpt/data/tabular.py's, and which column is what clingpt/data/columns.py's to know.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from clingpt.base.errors import ConfigError, DataError
from clingpt.data import tabular
from clingpt.data.columns import Columns, guess_columns, guess_table, record_of
from clingpt.data.tabular import Row, format_of, iter_rows
from clingpt.data.text_files import AUTO
from clingpt.text.records import FIELDS, Record, from_json, make_record

HUB_NAME = "qiaojin/PubMedQA"

HUB_TIMEOUT_S = 5.0
SAMPLED_ROWS = 200
SAMPLED_CHARS = 10_000  # of a cell

OnBad = tabular.OnBad
Source = Callable[[OnBad], Iterator[Record]]


def open_source(
    source: str, *, subset: str, columns: Columns | None = None, encoding: str = AUTO
) -> Source:
    """A re-iterable source: `pubmedqa`, a Hub data set or its local copy, a file or a folder.

    `columns` are those of `choose_columns`; None reads rows that say themselves what they hold.
    """
    path = Path(source)
    if source == "pubmedqa":
        return lambda on_bad: read_hub(HUB_NAME, subset, on_bad)
    if source and format_of(path) is not None:  # Path("") is the current folder
        convert = _from_known if columns is None else _by_columns(columns)
        return lambda on_bad: _read_rows(path, convert, on_bad, encoding)
    on_hub = re.fullmatch(r"[\w.-]+/[\w.-]+", source) and not path.is_file()
    if source and (path.is_dir() or on_hub):
        return lambda on_bad: read_hub(source, subset, on_bad)
    raise DataError(
        f"unknown source {source!r}; give pubmedqa, synthetic, a Hub data set or its local copy, a "
        ".csv, .tsv, .jsonl, .json or .parquet (also as .gz), or a folder of .txt; a spreadsheet "
        "can be saved as .csv"
    )


def refuse(error: DataError) -> None:
    """Stop at the first bad record."""
    raise error


# Columns


def choose_columns(
    source: str, task: str, *, given: Columns | None = None, encoding: str = AUTO
) -> tuple[Columns, str] | None:
    """The columns of a table for a task, and the choice as a table for people to confirm.

    None where rows say themselves what they hold (the Hub, PubMedQA's official file, records in our
    own form, texts in a folder), unless the user names columns all the same.
    """
    path = Path(source)
    wanted = given or Columns()
    kind = format_of(path) if source else None
    if kind in (None, "txt"):
        if wanted != Columns():
            raise ConfigError(f"{source} has no columns to choose from; leave the names out")
        return None
    rows = _sample(path, encoding)
    if kind not in ("csv", "tsv") and wanted == Columns() and _is_known(rows[0]):
        return None
    names = list(dict.fromkeys(itertools.chain.from_iterable(rows)))
    columns = guess_columns(names, rows, task, wanted)
    return columns, guess_table(names, rows, columns)


def is_published(source: str, encoding: str = AUTO) -> bool:
    """Whether a source is PubMedQA, by its name or its layouts: abstracts that anyone may read."""
    path = Path(source)
    kind = format_of(path)
    if kind in (None, "txt"):
        return kind is None  # the Hub's layout is PubMedQA's
    row = _sample(path, encoding)[0]
    return _is_official(row) or _is_hubs(row)


def _sample(path: Path, encoding: str) -> list[Row]:
    """The first rows, long texts cut; what is wrong with others is said when all are read."""
    bad: list[DataError] = []
    rows: list[Row] = []
    for _, row in itertools.islice(iter_rows(path, bad.append, encoding=encoding), SAMPLED_ROWS):
        cut = {k: v[:SAMPLED_CHARS] if isinstance(v, str) else v for k, v in row.items()}
        rows.append(cut)
    if not rows:
        raise bad[0] if bad else DataError(f"{path} holds no record; is it the right file?")
    return rows


def _is_known(row: Row) -> bool:
    return bool(row) and (row.keys() <= FIELDS or _is_official(row) or _is_hubs(row))


def _is_official(row: Row) -> bool:
    return {"QUESTION", "CONTEXTS"} <= row.keys()


def _is_hubs(row: Row) -> bool:
    return isinstance(row.get("context"), Mapping)


# Rows


def _read_rows(
    path: Path, convert: Callable[[Row, str], Record], on_bad: OnBad, encoding: str = AUTO
) -> Iterator[Record]:
    for place, row in iter_rows(path, on_bad, encoding=encoding):
        try:
            record = convert(row, place)
        except DataError as error:
            on_bad(DataError(f"{place}: {error}"))
        else:
            yield record


def _by_columns(columns: Columns) -> Callable[[Row, str], Record]:
    return lambda row, place: record_of(row, columns, place)


def _from_known(row: Row, place: str) -> Record:
    """A row in PubMedQA's official form, in the Hub's, or in that of records.to_json."""
    if _is_official(row):
        return from_official_item((row.get("id"), row))
    return from_hub_row(row) if _is_hubs(row) else _from_plain(row, place)


def _from_plain(row: Row, place: str) -> Record:
    return from_json(row, default_id=Path(place).name)


def read_jsonl(path: Path, on_bad: OnBad = refuse) -> Iterator[Record]:
    """Records one a line, in the form of clingpt.text.records.to_json."""
    return _read_rows(path, _from_plain, on_bad)


def read_official(path: Path, on_bad: OnBad = refuse) -> Iterator[Record]:
    """PubMedQA's own format: one object, PMID -> QUESTION, CONTEXTS, LABELS, LONG_ANSWER, …"""
    return _read_rows(path, lambda row, _: from_official_item((row.get("id"), row)), on_bad)


def from_official_item(pair: tuple[object, Any]) -> Record:
    """One PMID and what the official file keeps under it."""
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


# The Hub


def read_hub(name: str, subset: str, on_bad: OnBad = refuse) -> Iterator[Record]:
    """A data set in PubMedQA's Hub layout, through `datasets`; its rows stay on disk."""
    import datasets

    datasets.disable_progress_bars()
    silence = None if Path(name).is_dir() else _ask_hub(name)
    try:
        rows = datasets.load_dataset(name, subset, split="train")
    except Exception as error:  # its failures share no base class: connection, parquet, config …
        reason = " ".join(str(silence or error).split())[:200]
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
    """Why the Hub does not give a data set, if so; `datasets` then looks in its cache alone.

    By itself it repeats its request for half a minute and complains about each.
    """
    import datasets
    from huggingface_hub import HfApi, constants

    try:
        HfApi().dataset_info(name, timeout=HUB_TIMEOUT_S)
    except Exception as error:  # no base class here either: connection, name, permission …
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
        return error
    return None


def from_hub_row(row: Mapping[str, Any]) -> Record:
    """One row of the Hub's layout, whose context is one dict of parallel lists.

    There, reasoning_*_pred are lists of characters (["y", "e", "s"]): opinions of annotators, not
    labels, so they are not read; a decision that arrives that way is joined.
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
    labels, keywords = labels or [], keywords or []
    for name, value in (("contexts", texts), ("labels", labels), ("keywords", keywords)):
        if not isinstance(value, list):  # a text would pass as a list of letters
            kind = type(value).__name__
            raise DataError(f"record {record_id}: {name} are not a list but {kind}; correct it")
    labels = labels or ["CONTEXT"] * len(texts)
    if len(labels) != len(texts):
        raise DataError(f"record {record_id}: {len(texts)} contexts but {len(labels)} labels")
    sections = zip(labels, texts, strict=True)
    return make_record(record_id=record_id, sections=sections, keywords=keywords, **rest)
