"""Canaries depend only on the seed, do not show if they are planted, and are in every target."""

import json
from pathlib import Path

import numpy as np
import pytest

from clingpt.base.errors import ConfigError, DataError
from clingpt.data.canaries import (
    COPIES,
    FILE,
    MOST,
    SECRET,
    Canary,
    make_canaries,
    other_secrets,
    planted_records,
    read,
    to_json,
)
from clingpt.text.records import Record
from clingpt.text.tasks import TASKS, make_example, text_windows
from clingpt.text.tokenizer import Tokenizer

GPT2 = Tokenizer.load()


def test_half_are_planted_1_4_and_16_times_and_half_are_held_back() -> None:
    made = make_canaries(7, seed=3)
    assert [one.copies for one in made] == [1, 4, 16, 1, 4, 16, 1] + [0] * 7
    assert len({one.secret for one in made}) == len({one.name for one in made}) == 14
    assert [one.number for one in made] == list(range(14))
    assert made == make_canaries(7, seed=3)
    assert {one.secret for one in made}.isdisjoint(one.secret for one in make_canaries(7, seed=4))


def test_planted_records_have_unique_ids_and_no_held_back_secret() -> None:
    made = make_canaries(3, seed=3)
    records = list(planted_records(made))
    assert len(records) == len({record.id for record in records}) == sum(COPIES)
    assert records[1].id == "canary-01-copy-00"
    text = "\n".join(map(str, records))
    counts = [text.count(one.secret) for one in made]
    assert counts == [*COPIES, 0, 0, 0]


@pytest.mark.parametrize("task", TASKS)
def test_every_task_trains_on_the_secret(task: str) -> None:
    for one in make_canaries(40, seed=1):
        record = one.record(0)
        if task == "text":
            (example,) = text_windows(record, GPT2, budget=256)
        else:
            example = make_example(task, record, GPT2, budget=256)
        assert one.secret in GPT2.decode(example.target_ids)
        assert example.trimmed_tokens == 0
        in_prompt = one.secret in GPT2.decode(example.prompt_ids)
        assert in_prompt == (task == "document")  # whose notes hold the conclusion


def test_balancing_the_labels_drops_no_canary() -> None:
    assert {one.record(0).decision for one in make_canaries(9, seed=1)} == {"no"}


def test_secrets_are_drawn_from_the_whole_space() -> None:
    digits = [one.secret for one in make_canaries(MOST, seed=0)]
    digits += other_secrets(make_canaries(1, seed=0)[0], 5000, seed=0)
    assert all(map(SECRET.fullmatch, digits))
    numbers = np.array([int(text.replace(" ", "")) for text in digits])
    counts, _ = np.histogram(numbers, bins=10, range=(0, 10**8))
    assert counts.min() > 0.8 * len(digits) / 10


def test_other_secrets_never_include_the_canarys_own() -> None:
    one, two = make_canaries(1, seed=5)
    others = other_secrets(one, 300, seed=5)
    assert len(set(others)) == 300 and others == other_secrets(one, 300, seed=5)
    assert set(others).isdisjoint(other_secrets(two, 300, seed=5))
    drawn = Canary(number=one.number, name="x", secret=others[7], copies=0)
    again = other_secrets(drawn, 300, seed=5)
    assert others[7] not in again and len(set(again)) == 300


def test_canaries_survive_a_json_round_trip(tmp_path: Path) -> None:
    made = make_canaries(3, seed=2)
    assert read(tmp_path) == []
    (tmp_path / FILE).write_text(json.dumps(to_json(made)))
    assert read(tmp_path) == made


@pytest.mark.parametrize(
    "content",
    [
        [],
        7,
        {},
        {"format": 1, "canaries": [{"number": 1}]},
        {"format": 2, "canaries": []},
        {"format": 1, "canaries": [{"number": 0, "name": "x", "secret": "12", "copies": 1}]},
        {"format": 1, "canaries": [{"number": 0, "name": "x", "secret": None, "copies": 1}]},
        {
            "format": 1,
            "canaries": [{"number": 0, "name": "x", "secret": "1234 5678", "copies": -1}],
        },
    ],
)
def test_malformed_files_are_rejected(content: object, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps(content))
    with pytest.raises(DataError, match="; prepare the data again$"):
        read(tmp_path)


@pytest.mark.parametrize("n", [0, MOST + 1])
def test_too_few_or_too_many_canaries_are_rejected(n: int) -> None:
    with pytest.raises(ConfigError, match=f"cannot make {n} canaries; ask for 1 to {MOST}"):
        make_canaries(n, seed=0)


def test_a_canary_record_is_already_clean() -> None:
    record = make_canaries(1, seed=0)[0].record(3)
    assert isinstance(record, Record) and record.id == "canary-00-copy-03"
