"""What counts as remembered: tokens and not texts, the secret's own loss, its rank, its chance."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from clingpt import memorisation, runtime
from clingpt.canaries import (
    SPACE_BITS,
    ceiling,
    chance_exposure,
    chance_p,
    make_canaries,
    other_secrets,
    rank_among,
)
from clingpt.errors import CheckpointError
from clingpt.memorisation import (
    Window,
    auc_interval,
    canary_exposure,
    canary_prompt,
    cut_windows,
    drawn,
    exposure_groups,
    extraction,
    first_examples,
    free_samples,
    identifiers_in,
    longest_run,
    membership,
    nats_behind,
    nats_per_token,
    share,
    standing,
)
from clingpt.scoring import Passage, Scorer, passage_losses, split_of_examples
from clingpt.tasks import TASKS, Example, NotApplicable, make_example, text_windows
from clingpt.tokenizer import EOT, Tokenizer
from model import GPT, GPTConfig

GPT2 = Tokenizer.load()
CANARY, OTHER = make_canaries(1, seed=5)


class Scripted:
    """Says what its script holds for the tokens before, else token 0; a cache row is a list."""

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
    """A model that continues each prompt as told."""
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
# Text that is repeated


def example(n_prompt: int, n_target: int, first: int = 100) -> Example:
    ids = list(range(first, first + n_prompt + n_target - 1)) + [EOT]
    return Example(prompt_ids=ids[:n_prompt], target_ids=ids[n_prompt:], trimmed_tokens=0)


def test_windows_begin_with_the_example_and_keep_trained_and_shown_text_apart() -> None:
    split = split_of_examples([example(9, 6, 100), example(2, 8, 200), example(6, 5, 300)])
    rows = split.index
    targets = cut_windows(split, rows, "target", shown=4, wanted=4, context=64)
    assert targets == [
        Window(list(range(100, 109)), [109, 110, 111, 112]),
        Window([200, 201, 202, 203], [204, 205, 206, 207]),  # 2 of 8 are needed to be shown 4
        Window(list(range(300, 306)), [306, 307, 308, 309]),  # and the end of text is no text
    ]
    contexts = cut_windows(split, rows, "context", shown=4, wanted=4, context=64)
    assert contexts == [Window([100, 101, 102, 103], [104, 105, 106, 107])]
    assert cut_windows(split, rows, "target", shown=4, wanted=6, context=64) == []
    fitting = cut_windows(split, rows, "target", shown=4, wanted=4, context=8)
    assert [window.shown[0] for window in fitting] == [200]


def test_a_record_counts_once_for_a_task_and_canaries_do_not() -> None:
    split = split_of_examples([example(3, 3)] * 5)
    answer, text = TASKS.index("answer"), TASKS.index("text")
    split.index[:, 3] = [answer, text, text, answer, text]
    split.index[:, 4] = [0, 0, 0, 1, 2]
    assert first_examples(split, "text")[:, [0, 4]].tolist() == [[6, 0], [24, 2]]
    assert first_examples(split, "answer")[:, 4].tolist() == [0, 1]
    assert first_examples(split, "answer", without={0})[:, 4].tolist() == [1]


def test_records_are_drawn_by_the_seed() -> None:
    items = list(range(100))
    assert drawn(items, 200, seed=1) == items
    ten = drawn(items, 10, seed=1)
    assert ten == sorted(ten) == drawn(items, 10, seed=1) != drawn(items, 10, seed=2)
    assert len(set(ten)) == 10 and max(ten) > 20


def test_continued_means_the_same_tokens_not_the_same_text() -> None:
    wanted = [*GPT2.encode("in"), *GPT2.encode("g"), 20]
    said = [*GPT2.encode("i"), *GPT2.encode("ng"), 20]
    assert GPT2.decode(wanted) == GPT2.decode(said) and len(wanted) == len(said) == 3
    windows = [Window([11], wanted), Window([12], wanted), Window([13], wanted)]
    replies = {(11,): wanted, (12,): said, (13,): [*wanted[:2], 7]}
    found = extraction(scripted(replies), windows, "test")
    assert (found["n"], found["hits"]) == (3, 1)
    assert found["longest_run"] == pytest.approx((3 + 1 + 2) / 9)


def test_an_early_end_is_no_continuation() -> None:
    windows = [Window([9], [20, 21, 22])]
    found = extraction(scripted({(9,): [20, 21, EOT]}), windows, "test")
    assert found["hits"] == 0 and found["longest_run"] == pytest.approx(2 / 3)


def test_nothing_to_continue_is_said_as_such() -> None:
    found = extraction(scripted({}), [], "test")
    assert (found["n"], found["share"], found["interval"]) == (0, None, None)


def test_the_longest_run_is_of_tokens_in_their_places() -> None:
    assert longest_run([1, 2, 9, 4, 5, 6], [1, 2, 3, 4, 5, 6]) == 3
    assert longest_run([2, 3, 4], [1, 2, 3]) == 0
    assert longest_run([], [1]) == 0


def test_a_share_has_wilsons_interval() -> None:
    found = share(3, 500)
    assert found["share"] == 0.006
    assert found["interval"]["low"] == pytest.approx(0.0020, abs=1e-4)
    assert found["interval"]["high"] == pytest.approx(0.0175, abs=1e-4)


# ------------------------------------------------------------------------------------------------
# Canaries


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

    return mock.patch.object(memorisation, "nats_behind", fake)


@pytest.mark.parametrize(("better", "bits"), [(0, 8.0), (1, 7.0), (3, 6.0), (255, 0.0)])
def test_exposure_is_the_rank_of_the_secrets_own_loss(better: int, bits: float) -> None:
    others = other_secrets(CANARY, 255, seed=1)
    nats = {CANARY.secret: 5.0}
    nats |= {one: 4.0 if n < better else 6.0 for n, one in enumerate(others)}
    with losing(nats):
        found = canary_exposure(scripted({}), CANARY, [1, 2], others)
    assert found == pytest.approx(bits)


def test_a_model_that_prefers_nothing_shows_chance_and_not_the_maximum() -> None:
    others = other_secrets(CANARY, 255, seed=1)
    with losing(dict.fromkeys([CANARY.secret, *others], 1.0)):
        found = canary_exposure(scripted({}), CANARY, [1, 2], others)
    assert found == pytest.approx(math.log2(256 / 128.5))


def test_a_prompt_that_is_read_once_gives_each_reply_the_loss_that_training_sees() -> None:
    scorer, prompt = random_scorer(), GPT2.encode("The access code is")
    secrets = [CANARY.secret, *other_secrets(CANARY, 150, seed=1)]
    replies = [*(GPT2.encode(f" {secret}") for secret in secrets), [7]]
    assert len(set(map(len, replies))) > 2 and len(replies) > 2 * memorisation.ROWS
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
        canary_exposure(scripted({}), CANARY, [1], others)


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

    with mock.patch.object(memorisation, "canary_exposure", fake):
        groups = exposure_groups(scripted({}), made, "answer", budget=256, n_others=3, seed=1)
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


# ------------------------------------------------------------------------------------------------
# Identifiers


@dataclass(frozen=True)
class Found:
    kind: str
    start: int
    end: int


def find(text: str) -> Iterable[Found]:
    """Every word with a digit, and every Name."""
    start = 0
    for word in text.split(" "):
        if any(c.isdigit() for c in word):
            yield Found("number", start, start + len(word))
        elif word.istitle():
            yield Found("name", start, start + len(word))
        start += len(word) + 1


def test_identifiers_are_counted_and_looked_up_in_the_training_text() -> None:
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


def test_training_text_is_not_read_for_nothing() -> None:
    def training() -> Iterable[str]:
        raise AssertionError

    found = identifiers_in(["no one"], find, training)
    assert (found["samples"]["hits"], found["kinds"]) == (0, {})


def test_what_stands_is_whole() -> None:
    texts = ["aged 93 (Ann), 12.5", "1 2"]
    assert standing({"93", "9", "Ann", "An", "1 2", "12.5", "3"}, texts) == {
        "93", "Ann", "1 2", "12.5"
    }  # fmt: skip
    assert standing({"a b"}, ["x a\n b"]) == {"a b"}


def test_free_samples_come_from_nothing_and_from_the_seed() -> None:
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
    members, others = rng.integers(0, 9, 40) + 1, rng.integers(0, 9, 60)
    pairs = np.sign(members[:, None] - others)
    found = membership(members, others)
    assert found["auc"] == pytest.approx(((pairs + 1) / 2).mean())
    assert (found["members"], found["others"]) == (40, 60)
    assert membership([2, 3], [0, 1])["auc"] == 1 and membership([0], [1])["auc"] == 0
    assert membership([1, 1], [1])["auc"] == 0.5


def test_the_interval_of_an_auc_holds_the_truth() -> None:
    rng, inside = np.random.default_rng(2), 0
    truth = 0.7602499  # of two normal distributions, one standard deviation apart
    for _ in range(400):
        found = membership(rng.normal(1, 1, 50), rng.normal(0, 1, 80))
        inside += found["interval"]["low"] <= truth <= found["interval"]["high"]
    assert 0.92 < inside / 400 < 0.985


def test_the_interval_never_leaves_0_to_1_and_has_a_width_at_the_ends() -> None:
    top = auc_interval(1.0, members=20, others=20)
    assert top.high == 1 and 0.7 < top.low < 0.95
    bottom = auc_interval(0.0, members=20, others=20)
    assert bottom.low == 0 and bottom.high == pytest.approx(1 - top.low)
    middle = auc_interval(0.5, members=500, others=500)
    assert middle.low == pytest.approx(1 - middle.high)
    assert 0.03 < middle.high - 0.5 < 0.04


def test_losses_are_of_the_target_without_its_end() -> None:
    scorer = random_scorer()
    examples = [
        Example(prompt_ids=[5, 6], target_ids=[7, 8, 9, EOT], trimmed_tokens=0),
        Example(prompt_ids=[5], target_ids=[6, 7], trimmed_tokens=0),
    ]
    split = split_of_examples(examples)
    sums = passage_losses(scorer, [Passage("", [one]) for one in examples])
    found = nats_per_token(scorer, split, split.index)
    assert found == pytest.approx([sums[0, 0] / 3, sums[1, 0] / 2])
    shorter = replace(examples[0], target_ids=[7, 8, 9])
    assert sums[0, 0] == pytest.approx(passage_losses(scorer, [Passage("", [shorter])])[0, 0])
