"""Decoding over a five-line fake and over a small GPT: lengths, endings, seeds, streams."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from clingpt.errors import ConfigError, DataError
from clingpt.generate import (
    Completion,
    Sampling,
    TextStream,
    batches_by_length,
    choose,
    generate,
    label_log_probs,
)
from clingpt.tokenizer import EOT, Tokenizer
from model import GPT, GPTConfig


@dataclass
class Counting:
    """Says last token + 1, and the end of text behind `stop_after`."""

    stop_after: int = 10**9

    def new_cache(self, *, rows: int, capacity: int) -> Tensor:
        return torch.zeros(rows, dtype=torch.long)

    def step(self, ids_BT: Tensor, counts_B: Tensor, cache: Tensor) -> Tensor:
        last_B = ids_BT.gather(1, (counts_B - 1).clamp(min=0)[:, None])[:, 0]
        cache[counts_B > 0] = last_B[counts_B > 0]
        following = torch.where(cache >= self.stop_after, EOT, cache + 1)
        return torch.nn.functional.one_hot(following, EOT + 1).float()


def test_rows_of_different_lengths_end_each_in_its_own_time() -> None:
    replies = generate(
        Counting(stop_after=12), [[1, 2, 10], [7], [12]], Sampling(max_new_tokens=4), context=64
    )
    assert replies == [
        Completion([11, 12], "stop"),
        Completion([8, 9, 10, 11], "length"),
        Completion([], "stop"),
    ]


def test_a_reply_that_ends_with_its_last_token_allowed_hit_the_limit() -> None:
    [reply] = generate(Counting(stop_after=3), [[1]], Sampling(max_new_tokens=2), context=8)
    assert reply == Completion([2, 3], "length")


def test_tokens_are_handed_over_as_they_are_chosen() -> None:
    seen: list[tuple[int, int]] = []
    generate(
        Counting(),
        [[1], [5]],
        Sampling(max_new_tokens=2),
        context=8,
        on_token=lambda row, token: seen.append((row, token)),
    )
    assert seen == [(0, 2), (1, 6), (0, 3), (1, 7)]


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([[1] * 6], "6 tokens and 3 new ones exceed the context of 8"),
        ([[1], []], "a prompt is empty"),
    ],
)
def test_what_does_not_fit_is_refused(prompts: list[list[int]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        generate(Counting(), prompts, Sampling(max_new_tokens=3), context=8)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, got 0"),
        ({"temperature": -1.0}, "temperature must be at least 0"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"top_p": 1.5}, "top_p must be above 0"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Sampling(**wrong)  # type: ignore[arg-type]


LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()


@pytest.mark.parametrize(
    ("sampling", "possible"),
    [
        (Sampling(temperature=0), {0}),
        (Sampling(temperature=1, top_k=2), {0, 1}),
        (Sampling(temperature=1, top_k=99), {0, 1, 2, 3}),
        (Sampling(temperature=1, top_p=0.5), {0}),
        (Sampling(temperature=1, top_p=0.6), {0, 1}),
        (Sampling(temperature=1, top_p=0.81), {0, 1, 2}),
        (Sampling(temperature=1, top_k=3, top_p=0.999), {0, 1, 2}),
        (Sampling(temperature=1e-4), {0}),
    ],
)
def test_choice_keeps_to_the_tokens_that_the_settings_leave(
    sampling: Sampling, possible: set[int]
) -> None:
    generator = torch.Generator().manual_seed(0)
    assert {choose(LOGITS, sampling, generator) for _ in range(400)} == possible


def test_sampled_shares_are_the_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.tensor([choose(LOGITS, Sampling(temperature=1), generator) for _ in range(4000)])
    shares = drawn.bincount(minlength=4) / 4000
    torch.testing.assert_close(shares, LOGITS.exp(), atol=0.03, rtol=0)  # four standard errors


@pytest.fixture(scope="module")
def small() -> GPT:
    torch.manual_seed(0)
    model = GPT(GPTConfig(n_layer=2, n_head=2, n_embd=32, block_size=64)).eval()
    for parameter in model.parameters():
        parameter.data *= 3  # away from uniform, so that greedy choices have no near ties
    return model


PROMPTS = [[464, 318, 13], [5962], list(range(1000, 1020)), [262, 262, 262, 262, 262]]


@torch.no_grad()
def without_cache(model: GPT, prompt: list[int], n: int) -> list[int]:
    ids = list(prompt)
    for _ in range(n):
        token = int(model(torch.tensor([ids]))[0, -1].argmax())
        if token == EOT:
            break
        ids.append(token)
    return ids[len(prompt) :]


def test_batched_and_cached_is_one_by_one_without_a_cache(small: GPT) -> None:
    together = generate(small, PROMPTS, Sampling(max_new_tokens=12), context=64)
    assert [reply.ids for reply in together] == [without_cache(small, p, 12) for p in PROMPTS]


def test_a_row_samples_with_its_own_seed_in_any_company(small: GPT) -> None:
    sampling = Sampling(max_new_tokens=8, temperature=1, seed=5)
    together = generate(small, PROMPTS, sampling, context=64)
    for row, prompt in enumerate(PROMPTS):
        alone = generate(
            small, [prompt], Sampling(max_new_tokens=8, temperature=1, seed=5 + row), context=64
        )
        assert alone == [together[row]]


def test_label_scores_are_those_of_naive_forwards(small: GPT) -> None:
    labels = (3763, 645, 3863)
    scores = label_log_probs(small, PROMPTS, labels)
    with torch.no_grad():
        naive = [small(torch.tensor([p]))[0, -1].log_softmax(0)[list(labels)] for p in PROMPTS]
    torch.testing.assert_close(scores, torch.stack(naive), atol=1e-5, rtol=0)


def test_batches_by_length_hold_every_prompt_once_longest_first() -> None:
    batches = list(batches_by_length(PROMPTS, 2))
    assert sorted(i for batch in batches for i in batch) == [0, 1, 2, 3]
    assert batches[0] == [2, 3]


@given(st.text())
def test_streamed_text_is_the_final_text(text: str) -> None:
    tokenizer = Tokenizer.load()
    stream = TextStream(tokenizer)
    pieces = [stream.push(token) for token in tokenizer.encode(text)] + [stream.end()]
    assert "".join(pieces) == text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def test_half_a_character_is_held_back() -> None:
    tokenizer = Tokenizer.load()
    ids = tokenizer.encode("😀")
    stream = TextStream(tokenizer)
    assert len(ids) > 1
    assert [stream.push(token) for token in ids][:-1] == [""] * (len(ids) - 1)
    assert TextStream(tokenizer).end() == ""
    cut = TextStream(tokenizer)
    cut.push(ids[0])
    assert cut.end() == "\ufffd"
