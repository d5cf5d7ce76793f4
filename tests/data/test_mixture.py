"""Several sources read as one: weights, ids of their own, splits that no id crosses."""

from collections.abc import Iterator

import pytest

from clingpt.base.errors import ConfigError, DataError
from clingpt.data.mixture import Item, Part, count_copies, iter_items, names_of, parse_mix
from clingpt.data.sources import OnBad, refuse
from clingpt.data.splits import split_of
from clingpt.text.records import Record, make_record


def record(name: str, text: str = "Pain fell.") -> Record:
    return make_record(record_id=name, question="", sections=[("TEXT", text)])


def part(name: str, *records: Record) -> Part:
    def read(on_bad: OnBad) -> Iterator[tuple[str, Record]]:
        for each in records:
            yield split_of(each, fold=0, val_share=0.3, test_share=0.3), each

    return Part(name=name, weight=1, read=read)


def ids(items: list[Item]) -> list[str]:
    return [item.record.id for item in items]


def test_a_mix_is_sources_with_weights() -> None:
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
def test_weights_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="mix wants sources with weights above 0") as told:
        parse_mix([text])
    assert repr(text) in str(told.value)


def test_a_source_stands_in_a_mix_once_and_is_not_generated() -> None:
    with pytest.raises(ConfigError, match=r"mix names a\.csv twice; keep one"):
        parse_mix(["a.csv", "a.csv=2"])
    with pytest.raises(ConfigError, match="synthetic is never mixed"):
        parse_mix(["a.csv", "synthetic=2"])


def test_sources_come_one_behind_another_under_their_own_ids() -> None:
    parts = [part("a", record("1"), record("2")), part("b", record("x"))]
    items = list(iter_items(parts, refuse))
    assert ids(items) == ["1", "2", "x"]
    assert [item.source for item in items] == [0, 0, 1]
    assert not any(item.renamed for item in items)
    assert items == list(iter_items(parts, refuse))
    assert names_of(parts) == "a and b"


def test_an_id_that_stands_again_gets_a_number_and_the_first_ones_split() -> None:
    """Notes of one patient: no split may hold some of them and another split the rest."""
    texts = [f"Note {n} of a patient." for n in range(40)]
    alone = {split_of(record("7", t), fold=0, val_share=0.3, test_share=0.3) for t in texts}
    assert alone == {"train", "val", "test"}  # by their texts they would go anywhere
    notes = [record("7", text) for text in texts]
    items = list(iter_items([part("a", *notes[:20]), part("b", *notes[20:])], refuse))
    assert ids(items) == ["7", *(f"7#{n}" for n in range(2, 41))]
    assert {item.split for item in items} == {items[0].split}
    assert [item.renamed for item in items] == [False] + [True] * 39
    assert [item.record.sections[0][1] for item in items] == texts


def test_a_given_number_is_never_somebodys_id() -> None:
    records = [record("7", "a"), record("7#2", "b"), record("7", "c"), record("7#2", "d")]
    names = ids(list(iter_items([part("a", *records)], refuse)))
    assert len(set(names)) == 4
    assert names[:2] == ["7", "7#2"]
    late = [record("7", "a"), record("7", "b"), record("7#2", "c")]
    names = ids(list(iter_items([part("a", *late)], refuse)))
    assert names[:2] == ["7", "7#2"] and len(set(names)) == 3


def test_the_same_record_twice_is_a_bad_one() -> None:
    bad: list[DataError] = []
    parts = [part("a.csv", record("7"), record("8"), record("7")), part("b.csv", record("8"))]
    assert ids(list(iter_items(parts, bad.append))) == ["7", "8"]
    said = ["record 7 stands twice in a.csv", "record 8 stands twice in b.csv"]
    assert list(map(str, bad)) == said


def test_weights_decide_by_hash_how_often() -> None:
    names = [f"case-{n}" for n in range(4000)]
    for weight, low, high in ((0.3, 0, 1), (1, 1, 1), (2, 2, 2), (2.25, 2, 3)):
        counts = [count_copies(name, weight) for name in names]
        assert set(counts) == {low, high}
        assert abs(sum(counts) / len(names) - weight) < 0.03
        assert counts == [count_copies(name, weight) for name in names]
    kept = {name for name in names if count_copies(name, 0.3)}
    assert kept < {name for name in names if count_copies(name, 0.5)}  # a subset of more
