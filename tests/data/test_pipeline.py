"""Reading several sources as one: weights, unique ids, and ids that never cross splits."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from clingpt.base.errors import ConfigError, DataError
from clingpt.data.pipeline import Item, count_copies, count_records, names_of, read_sources
from clingpt.data.readers.text_file import OnBad
from clingpt.data.sources import Source, parse_mix, refuse, split_of
from clingpt.text.records import Record, make_record


def record(name: str, text: str = "Pain fell.") -> Record:
    return make_record(record_id=name, question="", sections=[("TEXT", text)])


@dataclass(frozen=True, kw_only=True)
class Listed(Source):
    """A source whose records are in memory."""

    listed: tuple[Record, ...]

    def _records(self, on_bad: OnBad) -> Iterator[tuple[Record, str | None]]:
        yield from ((record, None) for record in self.listed)


def source(name: str, *records: Record) -> Source:
    return Listed(name=name, val_share=0.3, test_share=0.3, listed=records)


def ids(items: list[Item]) -> list[str]:
    return [item.record.id for item in items]


def test_parse_mix_reads_names_and_weights() -> None:
    assert parse_mix(["a.csv=1", "b.jsonl.gz=0.3", "c.txt", "d=e.csv=2"]) == [
        ("a.csv", 1.0),
        ("b.jsonl.gz", 0.3),
        ("c.txt", 1.0),
        ("d=e.csv", 2.0),
    ]


@pytest.mark.parametrize(
    "text",
    ["a.csv=", "a.csv=often", "a.csv=0", "a.csv=-1", "a.csv=nan", "a.csv=inf", "=1", "a=101"],
)
def test_invalid_weights_are_rejected(text: str) -> None:
    with pytest.raises(ConfigError, match="mix takes sources with weights above 0") as error:
        parse_mix([text])
    assert repr(text) in str(error.value)


def test_a_mix_with_a_repeated_or_synthetic_source_is_rejected() -> None:
    with pytest.raises(ConfigError, match=r"mix names a\.csv twice; keep one"):
        parse_mix(["a.csv", "a.csv=2"])
    with pytest.raises(ConfigError, match="synthetic cannot be mixed"):
        parse_mix(["a.csv", "synthetic=2"])


def test_sources_are_read_in_order_and_keep_their_ids() -> None:
    both = [source("a", record("1"), record("2")), source("b", record("x"))]
    items = list(read_sources(both, refuse))
    assert ids(items) == ["1", "2", "x"]
    assert [item.source for item in items] == [0, 0, 1]
    assert not any(item.renamed for item in items)
    assert items == list(read_sources(both, refuse))
    assert names_of(both) == "a and b"


def test_records_that_share_an_id_are_numbered_and_share_a_split() -> None:
    """Notes of one patient must not be spread over several splits."""
    texts = [f"Note {n} of a patient." for n in range(40)]
    notes = [record("7", text) for text in texts]
    alone = {split_of(note, fold=0, val_share=0.3, test_share=0.3) for note in notes}
    assert alone == {"train", "val", "test"}  # their texts alone would spread them
    others = [record(f"case-{n}", f"Another note {n}.") for n in range(20)]
    both = [source("a", *notes[:20], *others), source("b", *notes[20:])]
    counted = count_records(both, skip_bad=False).records
    items = list(read_sources(both, refuse))
    assert counted == Counter((item.source, item.split) for item in items)
    items = [item for item in items if item.key == "7"]
    assert ids(items) == ["7", *(f"7#{n}" for n in range(2, 41))]
    assert {item.split for item in items} == {items[0].split}
    assert [item.renamed for item in items] == [False] + [True] * 39
    assert [item.record.sections[0][1] for item in items] == texts
    backwards = [source("b", *others, *reversed(notes))]
    count_records(backwards, skip_bad=False)
    later = [item for item in read_sources(backwards, refuse) if item.key == "7"]
    assert {item.split for item in later} == {items[0].split}


def test_a_text_that_recurs_under_another_id_stays_in_one_split() -> None:
    """Normal reports are the same for many patients."""
    normal = [record(f"case-{n}", f"Normal report {n % 10}.") for n in range(100)]
    found = [source("a", *normal)]
    count_records(found, skip_bad=False)
    items = list(read_sources(found, refuse))
    assert {item.split for item in items} == {"train", "val", "test"}
    assert len({(item.record.full_text(), item.split) for item in items}) == 10


def test_without_ids_equal_records_are_all_kept_under_different_names() -> None:
    twice = [replace(record("7"), id=""), replace(record("7"), id="")]
    both = [source("a.csv", *twice), source("b.csv", *twice)]
    items = list(read_sources(both, refuse))
    assert len(set(ids(items))) == len(items) == 4
    assert len({item.split for item in items}) == len({item.key for item in items}) == 1
    assert not any(item.renamed for item in items)


def test_a_group_in_two_sources_stays_in_one_split() -> None:
    notes = [replace(record(str(n), f"Note {n}."), group=f"p{n % 20}") for n in range(200)]
    items = list(read_sources([source("a", *notes[:100]), source("b", *notes[100:])], refuse))
    assert {item.split for item in items} == {"train", "val", "test"}
    assert len({(item.record.group, item.split) for item in items}) == 20


def test_a_numbered_id_never_collides_with_an_id_of_the_source() -> None:
    records = [record("7", "a"), record("7#2", "b"), record("7", "c"), record("7#2", "d")]
    names = ids(list(read_sources([source("a", *records)], refuse)))
    assert len(set(names)) == 4
    assert names[:2] == ["7", "7#2"]
    late = [record("7", "a"), record("7", "b"), record("7#2", "c")]
    names = ids(list(read_sources([source("a", *late)], refuse)))
    assert names[:2] == ["7", "7#2"] and len(set(names)) == 3


def test_exact_duplicate_records_are_bad() -> None:
    bad: list[DataError] = []
    both = [source("a.csv", record("7"), record("8"), record("7")), source("b.csv", record("8"))]
    assert ids(list(read_sources(both, bad.append))) == ["7", "8"]
    said = ["duplicate record 7 in a.csv", "duplicate record 8 in b.csv"]
    assert list(map(str, bad)) == said


def test_weights_set_how_often_a_record_is_written() -> None:
    names = [f"case-{n}" for n in range(4000)]
    for weight, low, high in ((0.3, 0, 1), (1, 1, 1), (2, 2, 2), (2.25, 2, 3)):
        counts = [count_copies(name, weight) for name in names]
        assert set(counts) == {low, high}
        assert abs(sum(counts) / len(names) - weight) < 0.03
        assert counts == [count_copies(name, weight) for name in names]
    kept = {name for name in names if count_copies(name, 0.3)}
    assert kept < {name for name in names if count_copies(name, 0.5)}  # a subset of more
