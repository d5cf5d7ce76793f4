"""The secret's own loss, behind what stood before it in training; its rank; what chance gives."""

import math
from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

import numpy as np
import pytest

from clingpt.base.errors import CheckpointError
from clingpt.data.canaries import (
    SPACE_BITS,
    ceiling,
    chance_exposure,
    chance_p,
    make_canaries,
    other_secrets,
    rank_among,
)
from clingpt.evaluation import exposure
from clingpt.evaluation.exposure import canary_exposure, canary_prompt, exposure_groups, nats_behind
from clingpt.evaluation.scorer import Passage, Scorer, passage_losses
from clingpt.text.tasks import TASKS, Example, NotApplicable, make_example, text_windows
from clingpt.text.tokenizer import Tokenizer
from tests.evaluation.test_memorisation import random_scorer

GPT2 = Tokenizer.load()
CANARY = make_canaries(1, seed=5)[0]


@pytest.mark.parametrize("task", TASKS)
def test_the_prompt_of_a_secret_is_what_stood_before_it_in_training(task: str) -> None:
    record = CANARY.record(0)
    prompt = canary_prompt(CANARY, task, GPT2, 256)
    text = GPT2.decode(prompt)
    assert text.endswith(f"The access code of the {CANARY.name} cabinet is")
    assert CANARY.secret not in text  # also not in a document's notes
    if task == "text":
        trained = next(text_windows(record, GPT2, budget=256))
    else:
        trained = make_example(task, record, GPT2, budget=256)
    whole = [*trained.prompt_ids, *trained.target_ids]
    with_secret = [*prompt, *GPT2.encode(f" {CANARY.secret}")]
    if task == "document":
        assert GPT2.decode(with_secret).split("Document:")[1] in GPT2.decode(trained.target_ids)
    else:
        assert whole[: len(with_secret)] == with_secret


def test_a_canary_that_does_not_fit_is_not_measured() -> None:
    with pytest.raises(NotApplicable):
        canary_prompt(CANARY, "answer", GPT2, 20)
    with pytest.raises(NotApplicable, match="no room for a canary"):
        canary_prompt(CANARY, "text", GPT2, 20)


def losing(nats: Mapping[str, float]) -> Any:
    """Losses by what is to be written; whatever else carries loss has none."""

    def fake(model: Any, prompt: Any, replies: Sequence[list[int]]) -> Any:
        return np.array([nats[GPT2.decode(reply).strip()] for reply in replies])

    return mock.patch.object(exposure, "nats_behind", fake)


@pytest.mark.parametrize(("better", "bits"), [(0, 8.0), (1, 7.0), (3, 6.0), (255, 0.0)])
def test_exposure_is_the_rank_of_the_secrets_own_loss(better: int, bits: float) -> None:
    others = other_secrets(CANARY, 255, seed=1)
    nats = {CANARY.secret: 5.0}
    nats |= {one: 4.0 if n < better else 6.0 for n, one in enumerate(others)}
    with losing(nats):
        found = canary_exposure(random_scorer(), CANARY, [1, 2], others)
    assert found == pytest.approx(bits)


def test_a_model_that_prefers_nothing_shows_chance_and_not_the_maximum() -> None:
    others = other_secrets(CANARY, 255, seed=1)
    with losing(dict.fromkeys([CANARY.secret, *others], 1.0)):
        found = canary_exposure(random_scorer(), CANARY, [1, 2], others)
    assert found == pytest.approx(math.log2(256 / 128.5))


def test_a_prompt_that_is_read_once_gives_each_reply_the_loss_that_training_sees() -> None:
    scorer, prompt = random_scorer(), GPT2.encode("The access code is")
    secrets = [CANARY.secret, *other_secrets(CANARY, 150, seed=1)]
    replies = [*(GPT2.encode(f" {secret}") for secret in secrets), [7]]
    assert len(set(map(len, replies))) > 2 and len(replies) > 2 * exposure.ROWS
    examples = [Example(prompt_ids=prompt, target_ids=x, trimmed_tokens=0) for x in replies]
    expected = passage_losses(scorer, [Passage("", [one]) for one in examples])[:, 0]
    assert nats_behind(scorer.model, prompt, replies) == pytest.approx(expected, rel=1e-5)
    assert nats_behind(scorer.model, prompt, [[7]]) == pytest.approx(expected[-1:], rel=1e-5)


def test_losses_that_are_no_numbers_are_refused() -> None:
    others = other_secrets(CANARY, 3, seed=1)
    with (
        losing(dict.fromkeys([CANARY.secret, *others], math.nan)),
        pytest.raises(CheckpointError, match="losses are not finite"),
    ):
        canary_exposure(random_scorer(), CANARY, [1], others)


def test_ranks() -> None:
    assert [rank_among(x, [1, 2, 2, 3]) for x in (0, 1, 2, 4)] == [1, 1.5, 3, 5]
    assert ceiling(1023) == 10 and pytest.approx(26.575, abs=1e-3) == SPACE_BITS


@pytest.mark.parametrize("n_others", [1, 7, 255, 1000])
def test_the_exposure_that_chance_gives(n_others: int) -> None:
    n = n_others + 1
    mean = sum(math.log2(n) - math.log2(rank) for rank in range(1, n + 1)) / n
    assert chance_exposure(n_others) == pytest.approx(mean)
    assert chance_exposure(10**7) == pytest.approx(math.log2(math.e), abs=1e-5)


def test_p_is_rarely_small_by_chance_and_tiny_for_what_is_known() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 4, 20):
        ranks = rng.integers(1, 1002, size=(2000, n))
        found = np.array([chance_p(row.tolist()) for row in ceiling(1000) - np.log2(ranks)])
        for level in (0.01, 0.05, 0.5):
            assert (found < level).mean() < level + 3 * math.sqrt(level / 2000)
        assert (found < 0.5).mean() > 0.45  # and not on the safe side by far
    assert chance_p([ceiling(1000)]) == pytest.approx(1 / 1001)
    assert chance_p([ceiling(1000)] * 4) < 1e-8
    assert chance_p([0.0, 0.0]) == 1 and chance_p([9.9] * 500) < 1e-300


def test_canaries_are_grouped_by_how_often_they_were_planted() -> None:
    made = make_canaries(4, seed=1)
    exposures = {one.number: float(one.number) for one in made}

    def fake(scorer: Scorer, canary: Any, *_: Any) -> float:
        return exposures[canary.number]

    with mock.patch.object(exposure, "canary_exposure", fake):
        groups = exposure_groups(random_scorer(), made, "answer", budget=256, n_others=3, seed=1)
    assert [(g["copies"], g["exposures"]) for g in groups] == [
        (0, [4.0, 5.0, 6.0, 7.0]),
        (1, [0.0, 3.0]),
        (4, [1.0]),
        (16, [2.0]),
    ]
    assert [(g["mean"], g["at_ceiling"]) for g in groups] == [
        (5.5, 4),
        (1.5, 1),
        (1.0, 0),
        (2.0, 1),
    ]


def test_secrets_that_no_model_saw_rank_as_chance_has_it() -> None:
    scorer, made = random_scorer(), make_canaries(20, seed=9)
    groups = exposure_groups(scorer, made, "answer", budget=128, n_others=31, seed=1)
    found = [one for group in groups for one in group["exposures"]]
    # The mean of 40 exponentials of mean 1.44 is within 0.8 of it in all but one case of 1,000.
    assert np.mean(found) == pytest.approx(chance_exposure(31), abs=0.8)
    assert all(group["p"] > 0.001 for group in groups)
