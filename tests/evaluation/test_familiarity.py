"""Inputs unlike the training data: the signal, its limit and damaged files."""

import base64
import json
import math
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clingpt.base.errors import CheckpointError
from clingpt.data.synthetic import iter_records
from clingpt.evaluation.calibration import (
    BACKGROUND_TOKENS,
    FEWEST_PROMPTS,
    FILE,
    UNLIKE_SHARE,
    VOCABULARY,
    Calibration,
    Familiarity,
)
from clingpt.text.records import Record, from_json
from clingpt.text.tasks import make_prompt
from clingpt.text.tokenizer import Tokenizer
from tests.helpers.commands import make_calibration

TOKENIZER = Tokenizer.load()
MOON = (
    "The finance committee met on Tuesday to review the budget for the coming year. Members asked "
    "for a smaller travel allowance, and the chair will send a revised plan by Friday."
)


def prompt(record: Record) -> list[int]:
    return make_prompt("answer", record, TOKENIZER, budget=1000).ids


def asked(question: str, text: str) -> list[int]:
    return prompt(from_json({"question": question, "text": text}))


def prompts(split: str, count: int) -> list[list[int]]:
    return [prompt(record) for record in iter_records(split, count=count, seed=3)]


@pytest.fixture(scope="module")
def trained() -> Familiarity:
    """Fitted on records like those of the quickstart."""
    found = Familiarity.fit(prompts("train", 1000), prompts("val", 100))
    assert found is not None
    return found


def test_a_budget_meeting_is_unlike_medical_records(trained: Familiarity) -> None:
    assert trained.is_unlike(asked("Is the moon made of cheese?", MOON))
    question = "Does pembrolizumab improve survival in adults with lung cancer?"
    assert trained.is_unlike(asked(question, "We do not know. No data were collected."))


def test_records_of_the_same_kind_are_not_unlike(trained: Familiarity) -> None:
    assert np.mean([trained.is_unlike(ids) for ids in prompts("val", 100)]) == 0.02
    assert np.mean([trained.is_unlike(ids) for ids in prompts("test", 100)]) <= 0.1


def test_the_distance_is_the_mean_log_ratio_of_two_token_distributions() -> None:
    train = [[5, 5, 7], [7, 90, 5]]
    found = Familiarity.fit(train, [[5]] * FEWEST_PROMPTS)
    assert found is not None
    ranks = [1 / (n + 10) for n in range(VOCABULARY)]
    counts, total = Counter(sum(train, [])), math.fsum(ranks)

    def log_ratio(token: int) -> float:
        background = ranks[token] / total
        smoothed = counts[token] + BACKGROUND_TOKENS * background
        return math.log(background / (smoothed / (6 + BACKGROUND_TOKENS)))

    for ids in ([5], [90, 90, 5], [8], [VOCABULARY - 1, 5]):
        expected = math.fsum(map(log_ratio, ids)) / len(ids)
        assert found.distance(ids) == pytest.approx(expected, rel=1e-9)
    assert found.limit == found.distance([5]) < 0 < found.distance([8])
    assert not found.is_unlike([5]) and found.is_unlike([5, 8])


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.lists(st.integers(0, 60), min_size=1, max_size=8), min_size=FEWEST_PROMPTS, max_size=90
    )
)
def test_few_validation_prompts_are_unlike(val: list[list[int]]) -> None:
    found = Familiarity.fit([[1, 2, 3, 4, 4, 4]], val)
    assert found is not None
    assert np.mean([found.is_unlike(ids) for ids in val]) <= UNLIKE_SHARE < 0.05


def test_nothing_is_said_from_too_little_data() -> None:
    assert Familiarity.fit([[1, 2]], [[1]] * (FEWEST_PROMPTS - 1)) is None
    assert Familiarity.fit([], [[1]] * 100) is None


def test_signal_is_stored_with_the_calibration(trained: Familiarity, tmp_path: Path) -> None:
    ours = make_calibration(familiarity=trained)
    ours.save(tmp_path)
    stored = Calibration.load(tmp_path)
    assert stored == ours and (tmp_path / FILE).stat().st_size < 20_000
    moon = asked("Is the moon made of cheese?", MOON)
    assert stored.is_unlike(moon) is True
    assert stored.is_unlike(prompts("val", 1)[0]) is False
    assert make_calibration().is_unlike(moon) is None


BOMB = base64.b64encode(zlib.compress(bytes(100 * VOCABULARY))).decode()


@pytest.mark.parametrize("counts", ["", "é", "eJw", "AAAA", BOMB, BOMB[:40]])
def test_damaged_counts_are_refused(counts: str, trained: Familiarity, tmp_path: Path) -> None:
    make_calibration(familiarity=trained).save(tmp_path)
    path = tmp_path / FILE
    content = json.loads(path.read_text())
    content["familiarity"]["counts"] = counts
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="counts must be .* eval.py writes them; fit it"):
        Calibration.load(tmp_path)
