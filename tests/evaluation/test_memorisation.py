"""Extraction, exposure, identifiers and membership, on scripted and random models."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

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
from clingpt.evaluation import memorisation
from clingpt.evaluation.memorisation import (
    Cut,
    Window,
    auc_interval,
    canary_exposure,
    canary_prompt,
    cut_windows,
    draw,
    exposure_groups,
    extraction,
    first_examples,
    free_samples,
    identifiers_in,
    longest_run,
    membership,
    nats_per_token,
    reply_losses,
    share,
    strings_in,
)
from clingpt.evaluation.scorer import Passage, Scorer, passage_losses, split_of_examples
from clingpt.nn import runtime
from clingpt.privacy.identifiers import Found
from clingpt.text.tasks import TASKS, Example, NotApplicable, make_example, text_windows
from clingpt.text.tokenizer import EOT, Tokenizer
from model import GPT, GPTConfig

GPT2 = Tokenizer.load()


class Scripted:
    """A model that predicts the next token by a script, or else token 0; a cache row is a list."""

    def __init__(self, script: Mapping[tuple[int, ...], int]) -> None:
        self.script = script

    def new_cache(self, *, rows: int, capacity: int) -> Any:
        class Rows(dict[int, list[int]]):
            def clear(self, row: int) -> None:  # type: ignore[override]
                del self[row]

        return Rows()

    def step(self, ids: Mapping[int, Sequence[int]], cache: Any, among: Any = None) -> Tensor:
        for row, tokens in ids.items():
            cache.setdefault(row, []).extend(tokens)
        following = [self.script.get(tuple(cache[row]), 0) for row in ids]
        return torch.nn.functional.one_hot(torch.tensor(following), EOT + 1).float()


def scripted(replies: Mapping[Any, Sequence[int]]) -> Scorer:
    """Make a scorer whose model continues each prompt with a given reply."""
    script = {
        (*prompt, *reply[:n]): token
        for prompt, reply in replies.items()
        for n, token in enumerate(reply)
    }
    model: Any = SimpleNamespace(config=SimpleNamespace(block_size=64))
    return Scorer(model, Scripted(script), GPT2, runtime.start(device="cpu"), batch_size=2)


def random_scorer(seed: int = 0) -> Scorer:
    torch.manual_seed(seed)
    model = GPT(GPTConfig(n_layer=1, n_head=2, n_embd=16, block_size=128)).eval()
    for parameter in model.parameters():
        parameter.data *= 3
    return Scorer(model, model, GPT2, runtime.start(device="cpu"), batch_size=8)


# ------------------------------------------------------------------------------------------------
# Extraction


def example(n_prompt: int, n_target: int, first: int = 100) -> Example:
    ids = list(range(first, first + n_prompt + n_target - 1)) + [EOT]
    return Example(prompt_ids=ids[:n_prompt], target_ids=ids[n_prompt:], trimmed_tokens=0)


def cut(wanted: int, *, context: int = 64, limit: int = 9) -> Cut:
    return Cut(shown=4, wanted=wanted, context=context, limit=limit, seed=1)


def test_windows_start_with_their_example_and_separate_target_from_context() -> None:
    split = split_of_examples([example(9, 6, 100), example(2, 8, 200), example(6, 5, 300)], EOT)
    rows = split.index
    targets = cut_windows(split, rows, "target", cut(4))
    assert targets == [
        Window(list(range(100, 109)), [109, 110, 111, 112]),
        Window(
            [200, 201, 202, 203], [204, 205, 206, 207]
        ),  # 2 of 8 target tokens complete the 4 shown
        Window(list(range(300, 306)), [306, 307, 308, 309]),  # without the end of text
    ]
    contexts = cut_windows(split, rows, "context", cut(4))
    assert contexts == [Window([100, 101, 102, 103], [104, 105, 106, 107])]
    assert cut_windows(split, rows, "target", cut(6)) == []
    fitting = cut_windows(split, rows, "target", cut(4, context=8))
    assert [window.shown[0] for window in fitting] == [200]


def test_each_record_counts_once_per_task_and_canaries_are_left_out() -> None:
    split = split_of_examples([example(3, 3)] * 5, EOT)
    answer, text = TASKS.index("answer"), TASKS.index("text")
    split.index[:, 3] = [answer, text, text, answer, text]
    split.index[:, 4] = [0, 0, 0, 1, 2]
    assert first_examples(split, "text")[:, [0, 4]].tolist() == [[6, 0], [24, 2]]
    assert first_examples(split, "answer")[:, 4].tolist() == [0, 1]
    assert first_examples(split, "answer", without={0})[:, 4].tolist() == [1]


def test_records_are_drawn_by_seed() -> None:
    items = np.arange(100)
    assert draw(items, 200, seed=1).tolist() == items.tolist()
    ten = draw(items, 10, seed=1).tolist()
    assert ten == sorted(ten) == draw(items, 10, seed=1).tolist()
    assert ten != draw(items, 10, seed=2).tolist()
    assert len(set(ten)) == 10 and max(ten) > 20
    split = split_of_examples([example(9, 6), *[example(2, 3)] * 50, example(9, 6, 200)], EOT)
    few = cut_windows(split, split.index, "context", cut(4, limit=2))
    assert [window.shown[0] for window in few] == [100, 200]  # of those that are long enough
    assert len(cut_windows(split, split.index, "context", cut(4, limit=1))) == 1


def test_extraction_compares_tokens_not_text() -> None:
    wanted = [*GPT2.encode("in"), *GPT2.encode("g"), 20]
    said = [*GPT2.encode("i"), *GPT2.encode("ng"), 20]
    assert GPT2.decode(wanted) == GPT2.decode(said) and len(wanted) == len(said) == 3
    windows = [Window([11], wanted), Window([12], wanted), Window([13], wanted)]
    replies = {(11,): wanted, (12,): said, (13,): [*wanted[:2], 7]}
    found = extraction(scripted(replies), windows, "test")
    assert (found["n"], found["hits"]) == (3, 1)
    assert found["longest_run"] == pytest.approx((3 + 1 + 2) / 9)


def test_reply_that_ends_early_is_not_an_extraction() -> None:
    windows = [Window([9], [20, 21, 22])]
    found = extraction(scripted({(9,): [20, 21, EOT]}), windows, "test")
    assert found["hits"] == 0 and found["longest_run"] == pytest.approx(2 / 3)


def test_extraction_share_is_none_without_windows() -> None:
    found = extraction(scripted({}), [], "test")
    assert (found["n"], found["share"], found["interval"]) == (0, None, None)


def test_longest_run_compares_tokens_in_place() -> None:
    assert longest_run([1, 2, 9, 4, 5, 6], [1, 2, 3, 4, 5, 6]) == 3
    assert longest_run([2, 3, 4], [1, 2, 3]) == 0
    assert longest_run([], [1]) == 0


def test_share_has_a_wilson_interval() -> None:
    found = share(3, 500)
    assert found["share"] == 0.006
    assert found["interval"]["low"] == pytest.approx(0.0020, abs=1e-4)
    assert found["interval"]["high"] == pytest.approx(0.0175, abs=1e-4)


# ------------------------------------------------------------------------------------------------
# Identifiers


def find(text: str) -> Iterable[Found]:
    """Find words that contain a digit and capitalised words."""
    start = 0
    for word in text.split(" "):
        if any(c.isdigit() for c in word):
            yield Found("number", start, start + len(word))
        elif word.istitle():
            yield Found("name", start, start + len(word))
        start += len(word) + 1


def test_identifiers_are_counted_and_searched_in_the_training_text() -> None:
    samples = ["born 1931 to Ada", "no one", "call 555-01", "call 555-01 or Ada", "in 93"]
    training = ["call 555-01", "for Adam,\nborn 1931", "1931 193"]
    found = identifiers_in(samples, find, lambda: training)
    assert (found["samples"]["hits"], found["samples"]["n"]) == (4, 5)
    assert found["in_training"]["hits"] == 3  # 1931, and 555-01 in two
    assert found["kinds"] == {
        "name": {"found": 2, "distinct": 1, "in_training": 0},
        "number": {"found": 4, "distinct": 3, "in_training": 2},
    }
    assert "555" not in str(found) and "Ada" not in str(found)


def test_training_text_is_not_read_without_identifiers() -> None:
    def training() -> Iterable[str]:
        raise AssertionError

    found = identifiers_in(["no one"], find, training)
    assert (found["samples"]["hits"], found["kinds"]) == (0, {})


def test_strings_match_only_whole_words_and_numbers() -> None:
    texts = ["aged 93 (Ann), 12.5", "1 2"]
    assert strings_in({"93", "9", "Ann", "An", "1 2", "12.5", "3"}, texts) == {
        "93", "Ann", "1 2", "12.5"
    }  # fmt: skip
    assert strings_in({"a b"}, ["x a\n b"]) == {"a b"}


def test_free_samples_have_no_prompt_and_depend_on_the_seed() -> None:
    scorer = random_scorer()
    samples = free_samples(scorer, 5, max_new_tokens=6, seed=3)
    assert len(set(samples)) == 5
    assert samples == free_samples(scorer, 5, max_new_tokens=6, seed=3)
    assert samples != free_samples(scorer, 5, max_new_tokens=6, seed=4)
    with mock.patch.object(memorisation, "generate", return_value=[]) as asked:
        free_samples(scorer, 2, max_new_tokens=600, seed=3)
    _, _, prompts, sampling = asked.call_args.args
    assert prompts == [[EOT]] * 2
    assert (sampling.temperature, sampling.max_new_tokens) == (1.0, 127)


# ------------------------------------------------------------------------------------------------
# Membership


def test_auc_is_the_share_of_pairs() -> None:
    rng = np.random.default_rng(1)
    members = rng.integers(1, 10, 40).astype(np.float64)
    others = rng.integers(0, 9, 60).astype(np.float64)
    pairs = np.sign(members[:, None] - others)
    found = membership(members, others)
    assert found["auc"] == pytest.approx(((pairs + 1) / 2).mean())
    assert (found["members"], found["others"]) == (40, 60)
    one, two = np.array([1.0]), np.array([2.0, 3.0])
    assert membership(two, one)["auc"] == 1 and membership(one, two)["auc"] == 0
    assert membership(np.array([1.0, 1.0]), one)["auc"] == 0.5


def test_auc_interval_covers_the_true_value() -> None:
    rng, inside = np.random.default_rng(2), 0
    truth = 0.7602499  # of two normal distributions, one standard deviation apart
    for _ in range(400):
        found = membership(rng.normal(1, 1, 50), rng.normal(0, 1, 80))
        inside += found["interval"]["low"] <= truth <= found["interval"]["high"]
    assert 0.92 < inside / 400 < 0.985


def test_auc_interval_stays_in_range_and_has_a_width_at_both_ends() -> None:
    top = auc_interval(1.0, members=20, others=20)
    assert top.high == 1 and 0.7 < top.low < 0.95
    bottom = auc_interval(0.0, members=20, others=20)
    assert bottom.low == 0 and bottom.high == pytest.approx(1 - top.low)
    middle = auc_interval(0.5, members=500, others=500)
    assert middle.low == pytest.approx(1 - middle.high)
    assert 0.03 < middle.high - 0.5 < 0.04


def test_losses_exclude_the_end_of_text() -> None:
    scorer = random_scorer()
    examples = [
        Example(prompt_ids=[5, 6], target_ids=[7, 8, 9, EOT], trimmed_tokens=0),
        Example(prompt_ids=[5], target_ids=[6, 7], trimmed_tokens=0),
    ]
    split = split_of_examples(examples, EOT)
    sums = passage_losses(scorer, [Passage("", [one]) for one in examples])
    found = nats_per_token(scorer, split, split.index)
    assert found == pytest.approx([sums[0, 0] / 3, sums[1, 0] / 2])
    shorter = replace(examples[0], target_ids=[7, 8, 9])
    assert sums[0, 0] == pytest.approx(passage_losses(scorer, [Passage("", [shorter])])[0, 0])


# ------------------------------------------------------------------------------------------------
# Exposure

CANARY = make_canaries(1, seed=5)[0]


@pytest.mark.parametrize("task", TASKS)
def test_canary_prompt_is_the_text_before_the_secret_in_training(task: str) -> None:
    record = CANARY.record(0)
    prompt = canary_prompt(CANARY, task, GPT2, 256)
    text = GPT2.decode(prompt)
    assert text.endswith(f"The access code of the {CANARY.name} cabinet is")
    assert CANARY.secret not in text  # not even in the notes of a document
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


def test_canary_that_does_not_fit_is_not_applicable() -> None:
    with pytest.raises(NotApplicable):
        canary_prompt(CANARY, "answer", GPT2, 20)
    with pytest.raises(NotApplicable, match="no room for a canary"):
        canary_prompt(CANARY, "text", GPT2, 20)


def losing(nats: Mapping[str, float]) -> Any:
    """Replace the losses of replies by given ones."""

    def fake(model: Any, prompt: Any, replies: Sequence[list[int]]) -> Any:
        return np.array([nats[GPT2.decode(reply).strip()] for reply in replies])

    return mock.patch.object(memorisation, "reply_losses", fake)


@pytest.mark.parametrize(("better", "bits"), [(0, 8.0), (1, 7.0), (3, 6.0), (255, 0.0)])
def test_exposure_follows_from_the_rank_of_the_secret(better: int, bits: float) -> None:
    others = other_secrets(CANARY, 255, seed=1)
    nats = {CANARY.secret: 5.0}
    nats |= {one: 4.0 if n < better else 6.0 for n, one in enumerate(others)}
    with losing(nats):
        found = canary_exposure(random_scorer(), CANARY, [1, 2], others)
    assert found == pytest.approx(bits)


def test_equal_losses_mean_chance_exposure_not_the_maximum() -> None:
    others = other_secrets(CANARY, 255, seed=1)
    with losing(dict.fromkeys([CANARY.secret, *others], 1.0)):
        found = canary_exposure(random_scorer(), CANARY, [1, 2], others)
    assert found == pytest.approx(math.log2(256 / 128.5))


def test_reply_losses_with_a_shared_prompt_equal_training_losses() -> None:
    scorer, prompt = random_scorer(), GPT2.encode("The access code is")
    secrets = [CANARY.secret, *other_secrets(CANARY, 150, seed=1)]
    replies = [*(GPT2.encode(f" {secret}") for secret in secrets), [7]]
    assert len(set(map(len, replies))) > 2 and len(replies) > 2 * memorisation.SECRETS_AT_ONCE
    examples = [Example(prompt_ids=prompt, target_ids=x, trimmed_tokens=0) for x in replies]
    expected = passage_losses(scorer, [Passage("", [one]) for one in examples])[:, 0]
    assert reply_losses(scorer.model, prompt, replies) == pytest.approx(expected, rel=1e-5)
    assert reply_losses(scorer.model, prompt, [[7]]) == pytest.approx(expected[-1:], rel=1e-5)


def test_non_finite_losses_are_refused() -> None:
    others = other_secrets(CANARY, 3, seed=1)
    with (
        losing(dict.fromkeys([CANARY.secret, *others], math.nan)),
        pytest.raises(CheckpointError, match="losses are not finite"),
    ):
        canary_exposure(random_scorer(), CANARY, [1], others)


def test_rank_counts_ties_as_half() -> None:
    assert [rank_among(x, [1, 2, 2, 3]) for x in (0, 1, 2, 4)] == [1, 1.5, 3, 5]
    assert ceiling(1023) == 10 and pytest.approx(26.575, abs=1e-3) == SPACE_BITS


@pytest.mark.parametrize("n_others", [1, 7, 255, 1000])
def test_chance_exposure_is_the_mean_over_all_ranks(n_others: int) -> None:
    n = n_others + 1
    mean = sum(math.log2(n) - math.log2(rank) for rank in range(1, n + 1)) / n
    assert chance_exposure(n_others) == pytest.approx(mean)
    assert chance_exposure(10**7) == pytest.approx(math.log2(math.e), abs=1e-5)


def test_p_values_are_uniform_by_chance_and_tiny_for_memorised_secrets() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 4, 20):
        ranks = rng.integers(1, 1002, size=(2000, n))
        found = np.array([chance_p(row.tolist()) for row in ceiling(1000) - np.log2(ranks)])
        for level in (0.01, 0.05, 0.5):
            assert (found < level).mean() < level + 3 * math.sqrt(level / 2000)
        assert (found < 0.5).mean() > 0.45  # and the test is not overly conservative
    assert chance_p([ceiling(1000)]) == pytest.approx(1 / 1001)
    assert chance_p([ceiling(1000)] * 4) < 1e-8
    assert chance_p([0.0, 0.0]) == 1 and chance_p([9.9] * 500) < 1e-300


def test_canaries_are_grouped_by_number_of_copies() -> None:
    made = make_canaries(4, seed=1)
    exposures = {one.number: float(one.number) for one in made}

    def fake(scorer: Scorer, canary: Any, *_: Any) -> float:
        return exposures[canary.number]

    with mock.patch.object(memorisation, "canary_exposure", fake):
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


def test_unseen_secrets_have_chance_exposure() -> None:
    scorer, made = random_scorer(), make_canaries(20, seed=9)
    groups = exposure_groups(scorer, made, "answer", budget=128, n_others=31, seed=1)
    found = [one for group in groups for one in group["exposures"]]
    # The mean of 40 exponentials of mean 1.44 is within 0.8 of it in all but one case of 1,000.
    assert np.mean(found) == pytest.approx(chance_exposure(31), abs=0.8)
    assert all(group["p"] > 0.001 for group in groups)
