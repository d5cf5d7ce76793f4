"""One source of records or several with weights, read as one: each record with its split and an id
of its own.

Ids stay as they are, so that PubMedQA's official lists apply. Where an id stands again with another
text, within a source or in the next one, the later record is called `id#2` and goes where the first
one went: notes of one patient under the patient's number are never in training and test at once.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from clingpt.base.errors import ConfigError, DataError
from clingpt.base.workers import split_chunks
from clingpt.data.augmentation import unit_hash
from clingpt.data.columns import Columns
from clingpt.data.sources import OnBad
from clingpt.text.records import Record

Reader = Callable[[OnBad], Iterator[tuple[str, Record]]]  # (split, record), read anew at each call


@dataclass(frozen=True, kw_only=True)
class Part:
    """A source of a mixture; `weight` is how often its training records are written, on average."""

    name: str
    weight: float
    read: Reader
    published: bool = False  # anyone may read it: what it says of people is no reason to refuse it
    columns: Columns | None = None  # of a table
    columns_table: str = ""


class Item(NamedTuple):
    """A record, the number of the source that it comes from, and where it goes."""

    source: int
    split: str
    record: Record
    renamed: bool = False  # its id stood before
    planted: bool = False  # a canary: neither inspected nor redacted, and there whatever happens


def parse_mix(texts: Sequence[str]) -> list[tuple[str, float]]:
    """Sources and weights of `a.csv=1 b.jsonl.gz=0.3`; a weight that is not given is 1."""
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
                f"mix wants sources with weights above 0 and at most 100, as in a.csv=1 "
                f"b.jsonl.gz=0.3, got {text!r}"
            )
        if name == "synthetic":
            raise ConfigError("synthetic is never mixed: its texts repeat; prepare it by itself")
        if name in (other for other, _ in mix):
            raise ConfigError(f"mix names {name} twice; keep one")
        mix.append((name, weight))
    return mix


def names_of(parts: Sequence[Part]) -> str:
    """The sources in one word for messages."""
    return " and ".join(part.name for part in parts)


def iter_items(parts: Sequence[Part], on_bad: OnBad) -> Iterator[Item]:
    """All records of all sources, each under an id of its own; the same ones at each call."""
    items = (
        Item(number, split, record)
        for number, part in enumerate(parts)
        for split, record in part.read(on_bad)
    )
    return _with_own_ids(items, [part.name for part in parts], on_bad)


def _with_own_ids(items: Iterable[Item], names: Sequence[str], on_bad: OnBad) -> Iterator[Item]:
    split_of_id: dict[str, str] = {}
    seen = set[int]()  # hashes of whole records, their ids included
    times = Counter[str]()  # how often an id stood before, where it did
    for item in items:
        record = item.record
        if (fingerprint := hash(record)) in seen:
            on_bad(DataError(f"record {record.id} stands twice in {names[item.source]}"))
            continue
        seen.add(fingerprint)
        split = split_of_id.get(record.id)
        if split is None:
            split_of_id[record.id] = item.split
            yield item
            continue
        times[record.id] += 1
        again = f"{record.id}#{times[record.id] + 1}"
        while again in split_of_id:  # somebody's own id
            again += "#2"
        split_of_id[again] = split
        yield Item(item.source, split, replace(record, id=again), renamed=True)


def chunks_of(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Items in groups of bounded size, for map_chunks."""
    return split_chunks(items, lambda item: len(item.record.full_text()))


def count_copies(record_id: str, weight: float) -> int:
    """How often a training record is written: 0.3 keeps a hash-decided 30 %, 2 writes all twice."""
    whole = math.floor(weight)
    return whole + (unit_hash(f"weight {record_id}") < weight - whole)
