"""Where records come from: the Hub, PubMedQA's official JSON, records as JSON lines, or generated.

Each reader yields cleaned Records one by one, so that memory does not grow with the source, and may
be iterated more than once. Malformed input raises DataError naming the file and the place.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO, TypeVar

from clingpt.errors import DataError
from clingpt.records import Record, from_json, make_record

HUB_NAME = "qiaojin/PubMedQA"

HUB_TIMEOUT_S = 5.0
LONGEST_RECORD_CHARS = 64 << 20
_DECODER = json.JSONDecoder()
_SEPARATOR = re.compile(r"[ \t\n\r]*([{,:}])[ \t\n\r]*")

OnBad = Callable[[DataError], None]  # raises, or counts and returns
Source = Callable[[OnBad], Iterator[Record]]
Raw = TypeVar("Raw")


def open_source(source: str, *, subset: str) -> Source:
    """A re-iterable source: `pubmedqa`, a Hub data set or its local copy, a .json or a .jsonl."""
    path = Path(source)
    if source == "pubmedqa":
        return lambda on_bad: read_hub(HUB_NAME, subset, on_bad)
    if path.suffix == ".json":
        return lambda on_bad: read_official(path, on_bad)
    if path.suffix == ".jsonl":
        return lambda on_bad: read_jsonl(path, on_bad)
    if source and (path.is_dir() or re.fullmatch(r"[\w.-]+/[\w.-]+", source)):
        return lambda on_bad: read_hub(source, subset, on_bad)
    raise DataError(
        f"unknown source {source!r}; give pubmedqa, synthetic, a Hub data set or its local copy, "
        "PubMedQA's official .json, or records as .jsonl"
    )


def refuse(error: DataError) -> None:
    """Stop at the first bad record."""
    raise error


def _convert(
    items: Iterable[Raw], convert: Callable[[Raw], Record], on_bad: OnBad
) -> Iterator[Record]:
    for item in items:
        try:
            record = convert(item)
        except DataError as error:
            on_bad(error)
        else:
            yield record


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
    yield from _convert(rows, from_hub_row, on_bad)


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


def read_official(path: Path, on_bad: OnBad = refuse) -> Iterator[Record]:
    """PubMedQA's own format: one object, PMID -> QUESTION, CONTEXTS, LABELS, LONG_ANSWER, …"""
    with path.open(encoding="utf-8-sig") as file:
        yield from _convert(iter_json_object(file, path), from_official_item, on_bad)


def from_official_item(pair: tuple[str, Any]) -> Record:
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


def iter_json_object(
    file: TextIO, path: Path, *, chunk_chars: int = 1 << 20
) -> Iterator[tuple[str, Any]]:
    """The pairs of one big JSON object, holding about one chunk of the file at a time."""
    buffer, start, line, opening = "", 0, 1, "{"
    while True:
        try:
            key, value, end = _next_pair(buffer, start, opening)
        except (ValueError, RecursionError) as error:  # malformed, or goes on in the next chunk
            more = _read_text(file, path, chunk_chars)
            if not more or len(buffer) - start > LONGEST_RECORD_CHARS:
                line += buffer.count("\n", start, getattr(error, "pos", start))
                raise DataError(f"{path} is not a valid JSON object near line {line}") from None
            buffer, start = buffer[start:] + more, 0
            continue
        line += buffer.count("\n", start, end)
        if key is None:
            break
        start, opening = end, ","
        yield key, value
    rest = buffer[end:]
    while rest or (rest := _read_text(file, path, chunk_chars)):
        if rest.strip():
            raise DataError(f"{path} goes on behind its JSON object, which ends in line {line}")
        rest = ""


def _read_text(file: TextIO, path: Path, n_chars: int) -> str:
    try:
        return file.read(n_chars)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error}); convert it") from None


def _next_pair(buffer: str, start: int, opening: str) -> tuple[str | None, Any, int]:
    """The pair at `start` and where it ends; None as the key at the object's end."""
    separator = _match(opening if opening == "{" else ",}", buffer, start)
    key_at = separator.end()
    if separator[1] == "}":
        return None, None, separator.end(1)
    if opening == "{" and buffer.startswith("}", key_at):
        return None, None, key_at + 1
    key, end = _DECODER.raw_decode(buffer, key_at)
    if not isinstance(key, str):
        raise json.JSONDecodeError("expected a key", buffer, key_at)
    value, end = _DECODER.raw_decode(buffer, _match(":", buffer, end).end())
    _match(",}", buffer, end)  # without it a number may go on in the next chunk
    return key, value, end


def _match(separators: str, buffer: str, start: int) -> re.Match[str]:
    found = _SEPARATOR.match(buffer, start)
    if not found or found[1] not in separators:
        raise json.JSONDecodeError(f"expected one of {separators}", buffer, start)
    return found


def read_jsonl(path: Path, on_bad: OnBad = refuse) -> Iterator[Record]:
    """Records one a line, in the form of clingpt.records.to_json."""

    def from_line(numbered: tuple[int, bytes]) -> Record:
        place = f"{path.name}:{numbered[0]}"
        try:
            return from_json(json.loads(numbered[1].decode("utf-8-sig")), default_id=place)
        except json.JSONDecodeError as error:
            reason = f"it is not JSON ({error.msg} at column {error.colno})"
        except (ValueError, RecursionError) as error:  # a bad record, not UTF-8, or nested too deep
            reason = str(error)
        raise DataError(f"{path}:{numbered[0]}: {reason}")

    with path.open("rb") as file:
        lines = ((number, line) for number, line in enumerate(file, start=1) if line.strip())
        yield from _convert(lines, from_line, on_bad)
