"""What counts as remembered: tokens and not texts, whole identifiers, losses of the target."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from clingpt.evaluation import memorisation
from clingpt.evaluation.memorisation import (
    Cut,
    Window,
    auc_interval,
    cut_windows,
    drawn,
    extraction,
    first_examples,
    free_samples,
    identifiers_in,
    longest_run,
    membership,
    nats_per_token,
    share,
    standing,
)
from clingpt.evaluation.scorer import Passage, Scorer, passage_losses, split_of_examples
from clingpt.nn import runtime
from clingpt.privacy.identifiers import Found
from clingpt.text.tasks import TASKS, Example
from clingpt.text.tokenizer import EOT, Tokenizer
from model import GPT, GPTConfig

GPT2 = Tokenizer.load()


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


def cut(wanted: int, *, context: int = 64, limit: int = 9) -> Cut:
    return Cut(shown=4, wanted=wanted, context=context, limit=limit, seed=1)


def test_windows_begin_with_the_example_and_keep_trained_and_shown_text_apart() -> None:
    split = split_of_examples([example(9, 6, 100), example(2, 8, 200), example(6, 5, 300)])
    rows = split.index
    targets = cut_windows(split, rows, "target", cut(4))
    assert targets == [
        Window(list(range(100, 109)), [109, 110, 111, 112]),
        Window([200, 201, 202, 203], [204, 205, 206, 207]),  # 2 of 8 are needed to be shown 4
        Window(list(range(300, 306)), [306, 307, 308, 309]),  # and the end of text is no text
    ]
    contexts = cut_windows(split, rows, "context", cut(4))
    assert contexts == [Window([100, 101, 102, 103], [104, 105, 106, 107])]
    assert cut_windows(split, rows, "target", cut(6)) == []
    fitting = cut_windows(split, rows, "target", cut(4, context=8))
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
    items = np.arange(100)
    assert drawn(items, 200, seed=1).tolist() == items.tolist()
    ten = drawn(items, 10, seed=1).tolist()
    assert ten == sorted(ten) == drawn(items, 10, seed=1).tolist()
    assert ten != drawn(items, 10, seed=2).tolist()
    assert len(set(ten)) == 10 and max(ten) > 20
    split = split_of_examples([example(9, 6), *[example(2, 3)] * 50, example(9, 6, 200)])
    few = cut_windows(split, split.index, "context", cut(4, limit=2))
    assert [window.shown[0] for window in few] == [100, 200]  # of those that are long enough
    assert len(cut_windows(split, split.index, "context", cut(4, limit=1))) == 1


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
# Identifiers


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
    members = rng.integers(1, 10, 40).astype(np.float64)
    others = rng.integers(0, 9, 60).astype(np.float64)
    pairs = np.sign(members[:, None] - others)
    found = membership(members, others)
    assert found["auc"] == pytest.approx(((pairs + 1) / 2).mean())
    assert (found["members"], found["others"]) == (40, 60)
    one, two = np.array([1.0]), np.array([2.0, 3.0])
    assert membership(two, one)["auc"] == 1 and membership(one, two)["auc"] == 0
    assert membership(np.array([1.0, 1.0]), one)["auc"] == 0.5


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
