"""Sampling: equal to transformers' logits processors, with separate random numbers per reply."""

import math

import pytest
import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from clingpt.base.errors import CheckpointError, ConfigError
from clingpt.decoding.sampling import Chooser, Sampling, log_prob_of


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, got 0"),
        ({"temperature": -1.0}, "temperature must be 0, or at least 1e-05"),
        ({"temperature": 1e-42}, "temperature must be 0, or at least 1e-05"),
        ({"temperature": math.nan}, "temperature"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"top_p": 1.5}, "top_p must be above 0"),
        ({"min_p": 1.5}, "min_p must be at least 0"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be above 0"),
        ({"repetition_penalty": math.inf}, "repetition_penalty"),
        ({"no_repeat_ngram": 0}, "no_repeat_ngram must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"stop": "ab"}, "stop must be a tuple of strings"),
        ({"stop": ("",)}, "stop must not contain an empty string"),
        ({"stop": ("a",) * 17}, "stop must be at most 16 strings"),
        ({"log_probs": 21}, "log_probs must be 0 to 20"),
    ],
)
def test_settings_out_of_range_are_rejected(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Sampling(**wrong)  # type: ignore[arg-type]


def theirs(sampling: Sampling, ids: list[int], logits_V: Tensor) -> Tensor:
    """The logits after transformers' processors, in its order (generation/utils.py)."""
    processors = LogitsProcessorList()
    if sampling.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(float(sampling.repetition_penalty)))
    if sampling.no_repeat_ngram:
        processors.append(NoRepeatNGramLogitsProcessor(sampling.no_repeat_ngram))
    if sampling.temperature:
        processors.append(TemperatureLogitsWarper(float(sampling.temperature)))
        processors.append(TopKLogitsWarper(sampling.top_k or len(logits_V)))
        if sampling.top_p < 1:
            processors.append(TopPLogitsWarper(sampling.top_p))
        processors.append(MinPLogitsWarper(sampling.min_p))
    scores_V: Tensor = processors(torch.tensor([ids]), logits_V[None].clone())[0]
    return scores_V


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(repetition_penalty=1.3),
        Sampling(repetition_penalty=0.7, temperature=1),
        Sampling(no_repeat_ngram=1),
        Sampling(no_repeat_ngram=2),
        Sampling(no_repeat_ngram=3, temperature=0.5),
        Sampling(temperature=0.3),
        Sampling(temperature=1.7, top_k=1),
        Sampling(temperature=1, top_k=7),
        Sampling(temperature=1, top_k=10**6),
        Sampling(temperature=1, top_p=0.05),
        Sampling(temperature=1, top_p=0.5),
        Sampling(temperature=0.8, top_p=0.999),
        Sampling(temperature=1, min_p=0.1),
        Sampling(temperature=2, min_p=1),
        Sampling(temperature=0.9, top_k=50, top_p=0.9, min_p=0.05, repetition_penalty=1.2),
        Sampling(temperature=1.2, top_k=3, top_p=0.7, no_repeat_ngram=2, repetition_penalty=2),
    ],
    ids=str,
)
def test_the_same_tokens_are_kept_as_in_transformers(sampling: Sampling) -> None:
    generator = torch.Generator().manual_seed(3)
    for trial in range(40):
        prompt = torch.randint(12, (1 + trial,), generator=generator).tolist()
        scale = 10.0 ** (trial % 4 - 1)  # from nearly uniform to a single likely token
        logits_V = torch.randn(300, generator=generator) * scale
        if trial % 5 == 0:
            logits_V = logits_V.round()  # many logits are equal
        chooser = Chooser(sampling, prompt)
        for _ in range(3):  # chosen tokens count as seen, too
            ours_V, theirs_V = chooser.scores(logits_V), theirs(sampling, prompt, logits_V)
            if trial % 5 == 0 and sampling.top_p < 1:
                # Among equal logits at the border of the nucleus any may be kept, and rounding may
                # move the border by one token.
                kept = [int(scores_V.isfinite().sum()) for scores_V in (ours_V, theirs_V)]
                assert abs(kept[0] - kept[1]) <= 1
            else:
                torch.testing.assert_close(ours_V, theirs_V)
            prompt.append(chooser.choose(logits_V))


LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()


@pytest.mark.parametrize(
    ("sampling", "possible"),
    [
        (Sampling(temperature=0), {0}),
        (Sampling(temperature=1), {0, 1, 2, 3}),
        (Sampling(temperature=1, top_k=2), {0, 1}),
        (Sampling(temperature=1, top_p=0.5), {0}),
        (Sampling(temperature=1, top_p=0.6), {0, 1}),
        (Sampling(temperature=1, top_k=3, top_p=0.999), {0, 1, 2}),
        (Sampling(temperature=1, min_p=0.25), {0, 1, 2}),
        (Sampling(temperature=1e-4), {0}),
    ],
)
def test_only_tokens_kept_by_the_settings_are_chosen(
    sampling: Sampling, possible: set[int]
) -> None:
    chooser = Chooser(sampling, [0])
    assert {chooser.choose(LOGITS) for _ in range(400)} == possible


def test_sampled_frequencies_match_the_probabilities() -> None:
    chooser = Chooser(Sampling(temperature=1), [0])
    drawn = torch.tensor([chooser.choose(LOGITS) for _ in range(4000)])
    shares = drawn.bincount(minlength=4) / 4000
    torch.testing.assert_close(shares, LOGITS.exp(), atol=0.03, rtol=0)  # four standard errors


def test_sampling_depends_only_on_the_seed_of_the_reply() -> None:
    def drawn(seed: int) -> list[int]:
        chooser = Chooser(Sampling(temperature=1, seed=seed), [0])
        torch.rand(1)  # global random numbers must not matter
        return [chooser.choose(LOGITS) for _ in range(30)]

    assert drawn(1) == drawn(1) != drawn(2)


def test_tokens_with_a_logit_of_minus_infinity_are_never_drawn() -> None:
    logits_V = torch.tensor([-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf])
    chooser = Chooser(Sampling(temperature=1), [0])
    assert {chooser.choose(logits_V) for _ in range(200)} == {1, 3}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("logits", [[0.0, math.nan], [-math.inf, -math.inf], [0.0, math.inf]])
def test_non_finite_logits_are_an_error(temperature: float, logits: list[float]) -> None:
    chooser = Chooser(Sampling(temperature=temperature, repetition_penalty=1.1), [0])
    with pytest.raises(CheckpointError, match="not finite numbers; use another checkpoint"):
        chooser.choose(torch.tensor(logits))


def test_log_probs_are_the_models_own() -> None:
    one = log_prob_of(LOGITS * 1, 2, 3)
    assert one.token == 2 and one.log_prob == pytest.approx(math.log(0.15))
    assert [token for token, _ in one.top] == [0, 1, 2]
    assert [math.exp(value) for _, value in one.top] == pytest.approx([0.5, 0.3, 0.15])
