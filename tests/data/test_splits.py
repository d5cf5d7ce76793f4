"""Splits: PubMedQA's official lists by id; others by group, id or text, never by place."""

import hashlib
import json
import random
from collections import Counter
from dataclasses import replace
from functools import partial

import pytest

from clingpt.data.prepared import official_test_ids
from clingpt.data.sources import split_of
from clingpt.text.records import N_FOLDS, Record
from tests.helpers.shared import (
    PUBMEDQA,
    PUBMEDQA_FIXTURE,
    PUBMEDQA_TRUTH,
    read_records,
    shared_file,
)

TEST_SHA256 = "406e3b89eff577ed38571eca5a5819734a6f49ac0437d171b6c64e5c3cd195f8"
# sha256 of a fold's ids, sorted as texts, a line each; and how many of them say yes, no and maybe.
FOLDS = [
    ("b33014bdb038c412915da18a8280fe21ef685fab02119b4849b2917a6a27fbe3", (27, 17, 6)),
    ("fbb36a253569cc609a0c193c538566e0481bf877d864361c836ff9a28d9feec8", (27, 17, 6)),
    ("ea1f14a79d41fbf8a122d582b55343e4cd0880336dfcd35cb241009c98d4c4db", (28, 17, 5)),
    ("19cd0c73d744972c1cd40165d5b2374df5294bd57a112018143c2477d601d8a9", (27, 17, 6)),
    ("95f5c54475ddad93c5e2ba3cfbddb98b40125d483bc4453c54ce6d01fd234a72", (28, 16, 6)),
    ("e8af69fbf4eb832eae0fa159bea28d503d0d98235cb14b61cfa994b45b3fb3e7", (28, 16, 6)),
    ("3a4b8146cf1ef88bb54cbb51075743f5d9b14f631d82aa441500fb583fa3d13d", (28, 16, 6)),
    ("c1fe393e75fc8dc29edf029f64471c988ac7beccec0bd73f5fe4062ecc07d34c", (27, 17, 6)),
    ("ec1e86ef8f70711a99cc056949fe14a0af5b46f339638f252945543d2064c0ba", (27, 17, 6)),
    ("a0042734237998cc64d8b4b6641e87e56f2c413c29f7e6e1902e30378b69d907", (29, 19, 2)),
]


def with_id(record_id: str) -> Record:
    return Record(id=record_id, question="Does it help?", sections=(("RESULTS", "It helps."),))


def split(record: Record, *, fold: int = 0, val: float = 0.05, test: float = 0.05) -> str:
    return split_of(record, fold=fold, val_share=val, test_share=test)


def sha256(ids: set[str]) -> str:
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


@pytest.fixture(scope="module")
def official() -> list[Record]:
    return read_records(shared_file(PUBMEDQA))


def test_the_official_test_ids_have_the_known_hash() -> None:
    ids = official_test_ids()
    assert (len(ids), sha256(ids)) == (500, TEST_SHA256)
    assert {split(with_id(record_id), fold=fold) for record_id in ids for fold in (0, 9)} == {
        "test"
    }


def test_the_official_test_ids_equal_the_published_list() -> None:
    truth = json.loads(shared_file(PUBMEDQA_TRUTH).read_text("utf-8"))
    assert official_test_ids() == truth.keys()


def test_the_official_folds_are_reproduced(official: list[Record]) -> None:
    everything = {record.id for record in official}
    assert len(everything) == len(official) == 1000
    validated: Counter[str] = Counter()
    for fold, (digest, labels) in enumerate(FOLDS):
        splits: dict[str, list[Record]] = {"train": [], "val": [], "test": []}
        for record in official:
            splits[split(record, fold=fold)].append(record)
        assert {name: len(found) for name, found in splits.items()} == {
            "train": 450,
            "val": 50,
            "test": 500,
        }
        assert {record.id for record in splits["test"]} == official_test_ids()
        ids = {record.id for record in splits["val"]}
        assert sha256(ids) == digest
        validated.update(ids)
        counts = Counter(record.decision for record in splits["val"])
        assert (counts["yes"], counts["no"], counts["maybe"]) == labels
    assert len(FOLDS) == N_FOLDS
    assert set(validated.values()) == {1}
    assert validated.keys() == everything - official_test_ids()
    pool = Counter(record.decision for record in official if record.id in validated)
    held_out = Counter(record.decision for record in official if record.id not in validated)
    assert pool == held_out == {"yes": 276, "no": 169, "maybe": 55}


def test_the_official_lists_split_the_fixture() -> None:
    counts = Counter(split(record) for record in read_records(PUBMEDQA_FIXTURE))
    assert counts == {"test": 6, "val": 4, "train": 10}


def test_the_official_lists_depend_only_on_the_ids() -> None:
    test_id = min(official_test_ids())
    assert {split(with_id(test_id), val=val, test=0) for val in (0, 0.5)} == {"test"}
    assert split(with_id(test_id.zfill(12)), test=0, val=0) == "train"


def synthetic(n: int) -> list[Record]:
    rng = random.Random(5)
    words = [" ".join(str(rng.random()) for _ in range(3)) for _ in range(n)]
    return [
        Record(id=f"case-{i}", question="Why?", sections=(("TEXT", text),))
        for i, text in enumerate(words)
    ]


@pytest.mark.parametrize(("val", "test"), [(0.05, 0.05), (0.3, 0.1), (0.5, 0.5), (0, 0.2), (0, 0)])
def test_split_sizes_match_the_requested_shares(val: float, test: float) -> None:
    n = 4000
    counts = Counter(split(record, val=val, test=test) for record in synthetic(n))
    for name, share in (("train", 1 - val - test), ("val", val), ("test", test)):
        deviation = (n * share * (1 - share)) ** 0.5
        assert abs(counts[name] - n * share) <= 4 * deviation + 1e-6


def test_the_group_decides_the_split_else_a_shared_id_else_the_text() -> None:
    place = partial(split_of, fold=0, val_share=0.3, test_share=0.3)
    for record in synthetic(50):
        other = replace(record, question="Who?", sections=(("TEXT", record.id * 2),))
        assert place(replace(record, id="17")) == place(record)
        assert place(other, by_id=True) == place(record, by_id=True)
        wanted = place(replace(record, id="", group=record.id))
        for each in (record, other, replace(other, id="17"), replace(other, id="")):
            for by_id in (False, True):
                grouped = replace(each, group=record.id)
                assert place(grouped, by_id=by_id) == wanted
