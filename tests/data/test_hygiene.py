"""The receipt: correct counts, equal in any process, and without readable identifiers."""

import json
import multiprocessing
import pickle
import re
from typing import Any

import pytest

from clingpt.base.errors import DataError
from clingpt.data.hygiene import Receipt, inspect
from clingpt.data.prepare_report import receipt_tables
from clingpt.data.prepared import Done, identifiers_found
from clingpt.privacy.identifiers import find_identifiers
from clingpt.privacy.redaction import Redactor
from clingpt.text.records import Record
from tests.helpers import phi_corpus

NOTES = phi_corpus.make_notes(phi_corpus.OWN[:30], each=2, seed=21)


def make_record(number: int) -> Record:
    note = NOTES[number % len(NOTES)].text
    return Record(
        id=f"n{number}", question="", sections=(("NOTE", note),), long_answer="As it was."
    )


RECORDS = [make_record(number) for number in range(len(NOTES) + 10)]
SPLITS = ["train", "train", "val", "train", "test"]


def make_receipt(done: Done = "allowed", records: list[Record] = RECORDS) -> dict[str, Any]:
    receipt = Receipt(done)
    for number, record in enumerate(records):
        split, source = SPLITS[number % 5], f"{number % 3}.csv"
        receipt.see(split, source, record.id, inspect(record))
    receipt_json = receipt.to_json()
    assert json.loads(json.dumps(receipt_json)) == receipt_json
    return receipt_json


def test_a_receipt_counts_the_identifiers_in_the_records() -> None:
    receipt = make_receipt()
    for kind, row in receipt["identifiers"].items():
        by_split = dict.fromkeys(("train", "val", "test"), 0)
        holders = 0
        for number, record in enumerate(RECORDS):
            found = [one for one in find_identifiers(record.sections[0][1]) if one.kind == kind]
            by_split[SPLITS[number % 5]] += len(found)
            holders += bool(found)
        assert row["by_split"] == {split: n for split, n in by_split.items() if n}
        assert row["count"] == sum(by_split.values()) == sum(row["by_source"].values())
        assert row["records"] == holders
        assert 1 <= len(row["examples"]) <= 3
    assert len(receipt["identifiers"]) >= 10
    assert receipt["records"] == {"test": 14, "train": 42, "val": 14}
    assert receipt["records_with_identifiers"] == receipt["records"]
    repeated = receipt["duplicates"]["same_text"]
    assert (repeated["groups"], repeated["records"]) == (10, 20)
    assert repeated["examples"][0] == ["n0", "n60"]
    assert receipt["duplicates"]["same_answer"]["records"] == len(RECORDS)


def test_a_receipt_contains_no_readable_identifier() -> None:
    text = json.dumps(make_receipt(), ensure_ascii=False)
    for note in NOTES:
        for one in find_identifiers(note.text):
            whole = note.text[one.start : one.end]
            if len(whole) > 3:  # an age's digits are anywhere
                assert whole not in text
            if one.kind == "name":
                for word in re.findall(r"\w{3,}", whole):
                    assert word not in text
    assert "dyspnea" not in text


def test_identifiers_found_counts_only_training_text() -> None:
    receipt = make_receipt()
    train = [r for n, r in enumerate(RECORDS) if SPLITS[n % 5] == "train"]
    found = [one for r in train for one in find_identifiers(r.sections[0][1])]
    assert identifiers_found(receipt) == sum(one.kind != "month_year" for one in found) > 200
    assert (
        identifiers_found(make_receipt("tags"))
        == identifiers_found(make_receipt("surrogates"))
        == 0
    )
    redacted = [Redactor("tags").record(record) for record in RECORDS]
    assert identifiers_found(make_receipt("none", redacted)) == 0


def test_months_are_reported_but_not_refused() -> None:
    receipt = Receipt("none")
    record = Record(id="1", question="", sections=(("A", "From January 2005 to May 2006."),))
    receipt.see("train", "a", "1", inspect(record))
    assert receipt.refusable({"a"}) == 0
    assert receipt.to_json()["identifiers"]["month_year"]["count"] == 2
    assert receipt.to_json()["records_with_identifiers"] == {"train": 0}
    record = Record(id="2", question="Dr. Smith?", sections=())
    receipt.see("test", "a", "2", inspect(record))
    assert receipt.refusable({"a"}) == 1
    assert receipt.refusable({"b"}) == 0
    assert identifiers_found(receipt.to_json()) == 0


def test_a_name_is_found_in_all_fields_of_its_record() -> None:
    record = Record(
        id="1",
        question="Ask Dr. Okonkwo?",
        sections=(("A", "Okonkwo left."),),
        keywords=("Okonkwo",),
    )
    assert inspect(record).counts == {"name": 3}


def test_identifying_ids_are_counted() -> None:
    receipt = Receipt("none")
    for name in ("00412345", "row-1"):
        receipt.see("train", "a", name, inspect(Record(id=name, question="Why?", sections=())))
    assert receipt.to_json()["ids_that_may_identify"] == 1


def test_another_process_finds_the_same() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        [there] = pool.map(inspect, RECORDS[:1])
    here = inspect(RECORDS[0])
    assert pickle.dumps(there) == pickle.dumps(here)


def test_the_tables_show_every_count_of_a_receipt() -> None:
    found, by_source, duplicates = receipt_tables(make_receipt())
    assert found.startswith("Identifiers found (identifiers were allowed to stay)\n")
    assert by_source.startswith("Identifiers by source\n")
    assert duplicates.startswith("Duplicates\n")
    assert re.search(r"train in test +train in val\n", duplicates)
    assert re.search(r"\nthe same text +10 +20 ", duplicates)
    empty = Receipt("none")
    empty.see("train", "a", "1", inspect(Record(id="1", question="Why?", sections=())))
    assert "none" in receipt_tables(empty.to_json())[0]


@pytest.mark.parametrize("receipt", [{}, {"format": 3, "done": "none"}, {"format": 1, "done": "x"}])
def test_a_receipt_of_another_format_is_refused(receipt: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"receipt.json is not a receipt of format 2; prepare"):
        identifiers_found(receipt)
