"""The decoding engine with fake decoders and with a small GPT: cached, batched and streamed."""

import math
import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from clingpt.base.errors import CheckpointError, DataError
from clingpt.decoding.decoders import make_decoder
from clingpt.decoding.engine import (
    PIECE,
    PREFILL_TOKENS,
    Completion,
    Engine,
    Labels,
    Reply,
    generate,
    label_log_probs,
    longest_first,
)
from clingpt.decoding.sampling import Sampling
from clingpt.nn import runtime
from clingpt.text.tokenizer import EOT, Tokenizer
from model import ATTENDED, GPT, GPTConfig
from tests.helpers.vocabularies import saved, trained, write_json

TOKENIZER = Tokenizer.load()


class Rows(dict[int, list[int]]):
    """A cache for fake decoders: the tokens of each row."""

    def clear(self, row: int) -> None:  # type: ignore[override]
        del self[row]


class Counting:
    """Predicts the last token + 1, and the end of text from `stop_after` on."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.stop_after, self.steps = stop_after, list[Mapping[int, Sequence[int]]]()

    def new_cache(self, *, rows: int, capacity: int) -> Rows:
        self.capacity = capacity
        return Rows()

    def step(self, ids: Mapping[int, Sequence[int]], cache: Rows, among: Any = None) -> Tensor:
        self.steps.append(dict(ids))
        for row, tokens in ids.items():
            cache.setdefault(row, []).extend(tokens)
            assert tokens and len(cache[row]) <= self.capacity
        following = [
            EOT if r[-1] >= self.stop_after else r[-1] + 1 for r in map(cache.__getitem__, ids)
        ]
        return torch.nn.functional.one_hot(torch.tensor(following), EOT + 1).float()


def replies(decoder: Any, prompts: list[list[int]], sampling: Sampling, **more: Any) -> list[Any]:
    return generate(decoder, TOKENIZER, prompts, sampling, **{"context": 64} | more)


# ------------------------------------------------------------------------------------------------
# Endings


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_replies_in_one_batch_end_independently(rows: int) -> None:
    found = replies(
        Counting(stop_after=12), [[1, 2, 10], [7], [12]], Sampling(max_new_tokens=4), rows=rows
    )
    assert [(reply.ids, reply.finish_reason) for reply in found] == [
        ([11, 12], "stop"),
        ([8, 9, 10, 11], "length"),
        ([], "stop"),
    ]
    assert [reply.text for reply in found] == [TOKENIZER.decode(reply.ids) for reply in found]


def test_a_reply_of_max_new_tokens_ends_with_the_reason_length() -> None:
    [reply] = replies(Counting(stop_after=3), [[1]], Sampling(max_new_tokens=2))
    assert reply == Completion([2, 3], TOKENIZER.decode([2, 3]), "length")


def test_ignore_end_continues_after_an_end_of_text() -> None:
    sampling = Sampling(max_new_tokens=2, ignore_end=True)
    [reply] = replies(Counting(stop_after=3), [[3]], sampling)
    assert reply.ids[0] == EOT and reply.finish_reason == "length"


class Reciting:
    """Predicts a fixed text token by token, whatever the prompt (of one token)."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids

    def new_cache(self, *, rows: int, capacity: int) -> Rows:
        return Rows()

    def step(self, ids: Mapping[int, Sequence[int]], cache: Rows, among: Any = None) -> Tensor:
        for row, tokens in ids.items():
            cache.setdefault(row, []).extend(tokens)
        following = torch.tensor([self.ids[len(cache[row]) - 1] for row in ids])
        return torch.nn.functional.one_hot(following, EOT + 1).float() * 9


@pytest.mark.parametrize(
    ("limit", "stop", "text", "reason", "by"),
    [
        (20, (), " It helped.\nDid it? ± 2", "stop", None),
        (20, ("\nDid",), " It helped.", "stop", "\nDid"),
        (4, ("\nDid",), " It helped.\n", "length", None),  # withheld, then released
        (5, ("\nDid",), " It helped.", "stop", "\nDid"),  # found in the last token allowed
        (3, ("never",), " It helped.", "length", None),
    ],
)
def test_generation_ends_at_stop_strings_limits_and_end_of_text(
    limit: int, stop: tuple[str, ...], text: str, reason: str, by: str | None
) -> None:
    ids = [*TOKENIZER.encode(" It helped.\nDid it? ± 2"), EOT]
    pieces: list[str] = []
    [reply] = replies(
        Reciting(ids), [[1]], Sampling(max_new_tokens=limit, stop=stop),
        on_reply=lambda _, reply: pieces.append(reply.new_text),
    )  # fmt: skip
    assert (reply.text, reply.finish_reason, reply.stopped_by) == (text, reason, by)
    assert "".join(pieces) == text


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([[1], [1] * 6], "6 tokens and 3 new ones exceed the context of 8"),
        ([[1], []], "a prompt is empty"),
        ([[50257]], r"not in the vocabulary of GPT-2's tokenizer \(0 to 50256\)"),
        ([[-1]], "not in the vocabulary of GPT-2's tokenizer"),
    ],
)
def test_a_bad_prompt_is_rejected_before_the_first_step(
    prompts: list[list[int]], message: str
) -> None:
    fake = Counting()
    with pytest.raises(DataError, match=message):
        replies(fake, prompts, Sampling(max_new_tokens=3), context=8)
    assert not fake.steps
    assert replies(fake, [[1] * 5], Sampling(max_new_tokens=3), context=8)[0].ids == [2, 3, 4]


def test_nan_logits_are_an_error() -> None:
    class Broken(Counting):
        def step(self, ids: Mapping[int, Sequence[int]], cache: Rows, among: Any = None) -> Tensor:
            return super().step(ids, cache) * math.nan

    with pytest.raises(CheckpointError, match="not finite numbers"):
        replies(Broken(), [[1]], Sampling(max_new_tokens=3))


# ------------------------------------------------------------------------------------------------
# Requests that join and leave


def test_a_free_row_is_reused_in_the_next_step() -> None:
    fake = Counting(stop_after=100)
    replies(fake, [[99], [50], [1]], Sampling(max_new_tokens=5), rows=2)
    assert fake.steps[0] == {0: [99], 1: [50]} and fake.steps[2] == {0: [1], 1: [52]}
    assert len(fake.steps) == 7  # the third joins in the third step, and ends alone


def test_long_prompts_are_prefilled_in_pieces_while_other_rows_generate() -> None:
    fake = Counting()
    engine = Engine(fake, TOKENIZER, rows=3, context=1000, prefill_tokens=2 * PIECE + 5)
    first = engine.submit([7], Sampling(max_new_tokens=9))
    engine.step()
    others = [engine.submit([n] * (3 * PIECE), Sampling(max_new_tokens=2)) for n in (1, 2)]
    while engine.n_at_work:
        engine.step()
    sizes = [[len(tokens) for tokens in step.values()] for step in fake.steps]
    assert sizes[:5] == [[1], [1, 2 * PIECE], [1, PIECE, PIECE], [1, 1, 2 * PIECE], [1, 1]]
    assert first.ids == list(range(8, 17)) and [r.ids for r in others] == [[2, 3], [3, 4]]
    assert PIECE % ATTENDED == 0 and PREFILL_TOKENS % PIECE == 0


def test_an_engine_without_rows_raises_instead_of_looping() -> None:
    engine = Engine(Counting(), TOKENIZER, rows=0, context=9)
    assert engine.step() == []
    engine.submit([1], Sampling(max_new_tokens=2))
    with pytest.raises(RuntimeError, match="1 requests wait for a row"):
        engine.step()


def test_a_cancelled_reply_keeps_its_text_and_frees_its_row() -> None:
    fake = Counting()
    engine = Engine(fake, TOKENIZER, rows=1, context=64)
    sampling = Sampling(max_new_tokens=3)
    working, waiting, last = (engine.submit([n], sampling) for n in (1, 30, 40))
    engine.step()
    for reply in (waiting, working, working):
        engine.cancel(reply)
    assert working.completion().ids == [2] and working.finish_reason == "cancelled"
    assert waiting.completion() == Completion([], "", "cancelled")
    assert engine.step() == [last] and (engine.n_waiting, engine.n_at_work) == (0, 1)
    assert fake.steps[-1] == {0: [40]}


def test_a_failed_step_cancels_only_replies_with_a_row() -> None:
    class Failing(Counting):
        def step(self, ids: Mapping[int, Sequence[int]], cache: Rows, among: Any = None) -> Tensor:
            logits_RV = super().step(ids, cache)
            if len(self.steps) == 2:
                raise RuntimeError("out of memory")
            return logits_RV

    engine = Engine(Failing(), TOKENIZER, rows=1, context=64)
    first, second = (engine.submit([n], Sampling(max_new_tokens=3)) for n in (1, 30))
    engine.step()
    with pytest.raises(RuntimeError, match="out of memory"):
        engine.step()
    assert first.completion() == Completion([2], TOKENIZER.decode([2]), "cancelled")
    while engine.n_waiting or engine.n_at_work:
        engine.step()
    assert second.completion().ids == [31, 32, 33]


def test_nan_logits_of_one_row_end_only_its_reply() -> None:
    class Sick(Counting):
        def step(self, ids: Mapping[int, Sequence[int]], cache: Rows, among: Any = None) -> Tensor:
            return torch.stack([x * (math.nan if x[6] else 1) for x in super().step(ids, cache)])

    engine = Engine(Sick(), TOKENIZER, rows=2, context=64)
    sick, well = (engine.submit([n], Sampling(max_new_tokens=3)) for n in (4, 30))
    while engine.n_waiting or engine.n_at_work:
        engine.step()
    assert sick.finish_reason == "error" and isinstance(sick.error, CheckpointError)
    assert well.completion().ids == [31, 32, 33]


def test_prompts_admitted_first_are_prefilled_first() -> None:
    """Even if later ones take rows with lower numbers."""
    engine = Engine(Counting(), TOKENIZER, rows=3, context=1000, prefill_tokens=4 * PIECE)
    sampling = Sampling(max_new_tokens=1)
    early = [engine.submit([1] * (4 * PIECE), sampling) for _ in range(3)]
    for step in range(4):
        engine.submit([2] * (4 * PIECE), sampling)
        engine.step()
        assert [reply.finish_reason for reply in early[: step + 1]] == ["length"] * min(step + 1, 3)


# ------------------------------------------------------------------------------------------------
# A small GPT: cached = uncached = batched = streamed = one by one

CONTEXT, NEW, VOCAB = 1024, 8, 1000
NEAR = 1e-4  # logits this close may swap between two ways to compute them


def make_model(seed: int = 0, **shape: Any) -> GPT:
    """A small model with predictions far enough from uniform that greedy text varies."""
    torch.manual_seed(seed)
    sizes = {"vocab_size": VOCAB, "n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": CONTEXT}
    model = GPT(GPTConfig(**sizes | shape)).eval()
    for parameter in model.parameters():
        parameter.data *= 3
    return model


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    """Two hundred prompts of 1 to 1,000 tokens."""
    draw = random.Random(4)
    lengths = [1, 2, PIECE, PIECE + 1, 1000, *(draw.randint(1, 1000) for _ in range(195))]
    return [[draw.randrange(VOCAB) for _ in range(n)] for n in lengths]


@pytest.fixture(scope="module")
def decoder() -> Any:
    return make_decoder(make_model(), runtime.start(device="cpu"))


GREEDY = Sampling(max_new_tokens=NEW, log_probs=2)
SAMPLED = replace(GREEDY, temperature=0.9, top_p=0.95, top_k=200, repetition_penalty=1.1, seed=7)


@torch.no_grad()
def uncached(model: GPT, prompt: list[int], expected: list[int]) -> list[tuple[int, float]]:
    """The greedy token at each position by a forward of all tokens before it, and its margin."""
    row_1P = torch.tensor([prompt + expected])
    kept_M = torch.arange(len(prompt) - 1, len(prompt) + len(expected) - 1)
    found = []
    for n in kept_M.tolist():
        inputs = row_1P[:, : n + 1]
        positions_1P = torch.arange(n + 1)[None]
        x_MC = model.hidden(inputs, positions_1P, plain_attention, torch.tensor([n]))
        top = model.logits(x_MC)[0].topk(2)
        found.append((int(top.indices[0]), float(top.values[0] - top.values[1])))
    return found


def plain_attention(_: int, qkv_BT3NH: Tensor) -> Tensor:
    q, k, v = qkv_BT3NH.permute(2, 0, 3, 1, 4)
    attend = torch.nn.functional.scaled_dot_product_attention
    return attend(q, k, v, is_causal=True).transpose(1, 2)


def test_cached_equals_uncached_token_for_token(decoder: Any, prompts: list[list[int]]) -> None:
    """200 prompts of 1 to 1,000 tokens; a near tie gives a warning, and none is expected."""
    model, swapped = make_model(), 0
    for prompt, reply in zip(
        prompts, replies(decoder, prompts, GREEDY, context=CONTEXT), strict=True
    ):
        for place, (token, margin) in enumerate(uncached(model, prompt, reply.ids)):
            if token != reply.ids[place]:
                assert margin < NEAR, f"token {place} after a prompt of {len(prompt)} differs"
                swapped += 1
        assert len(reply.ids) == NEW
    if swapped:
        warnings.warn(f"{swapped} near ties were swapped", stacklevel=1)


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_batched_equals_one_by_one_and_streamed_bit_for_bit(
    decoder: Any, prompts: list[list[int]], sampling: Sampling
) -> None:
    """Including log-probabilities, which reveal smaller differences than tokens do."""
    pieces: dict[int, str] = dict.fromkeys(range(len(prompts)), "")

    def show(n: int, reply: Reply) -> None:
        pieces[n] += reply.new_text

    together = replies(decoder, prompts, sampling, context=CONTEXT, on_reply=show)
    alone = [
        replies(decoder, [prompt], sampling, context=CONTEXT, seeds=[sampling.seed + n])[0]
        for n, prompt in enumerate(prompts)
    ]
    for batched, single in zip(
        together, alone, strict=True
    ):  # one at a time, for a short failure message
        assert batched == single
    assert [reply.text for reply in together] == list(pieces.values())
    assert len({tuple(reply.ids) for reply in together}) > 190


def test_a_reply_is_the_same_in_any_row_and_any_batch(
    decoder: Any, prompts: list[list[int]]
) -> None:
    """Requests arrive in any order, at any step, whole or in pieces, and some are cancelled."""
    some = prompts[:40]
    expected = replies(decoder, some, SAMPLED, context=CONTEXT)
    for seed, rows in enumerate((2, 5, 13)):
        draw = random.Random(seed)
        engine = Engine(decoder, TOKENIZER, rows=rows, context=CONTEXT, prefill_tokens=3 * PIECE)
        order = draw.sample(range(len(some)), len(some))
        found: dict[int, Reply] = {}
        strangers: list[Reply] = []
        while len(found) < len(some) or engine.n_at_work or engine.n_waiting:
            if len(found) < len(some) and draw.random() < 0.7:
                n = order[len(found)]
                found[n] = engine.submit(some[n], replace(SAMPLED, seed=SAMPLED.seed + n))
                strangers.append(engine.submit(some[n][:50] + [5], replace(SAMPLED, seed=n)))
            engine.step()
            if strangers and draw.random() < 0.5:
                engine.cancel(draw.choice(strangers))
        assert [found[n].completion() for n in range(len(some))] == expected


def test_a_released_row_is_zeroed(decoder: Any) -> None:
    """No keys or values of an earlier request stay in memory."""
    engine = Engine(decoder, TOKENIZER, rows=1, context=300)
    engine.submit([3] * 250, replace(GREEDY, max_new_tokens=40))
    while engine.n_at_work or engine.n_waiting:
        engine.step()
    cache = engine._cache
    assert cache.lengths == [0]
    assert not any(tensor.any() for tensor in cache.layers)


# ------------------------------------------------------------------------------------------------
# Vocabularies other than GPT-2's


@pytest.fixture(scope="module")
def holed(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A tokenizer of 300 tokens and an added one at 303; 301 and 302 have no token."""
    folder = saved(tmp_path_factory.mktemp("holed"), trained(301, ("<s>", "</s>")))
    write_json(folder / "added_tokens.json", {"<|chat|>": 303})
    write_json(folder / "config.json", {"eos_token_id": [0, 1]})
    return Tokenizer.load(folder)


class Preferring:
    """Predicts the ids of its list, most probable first, with 320 rows."""

    def __init__(self, *ids: int) -> None:
        self.ids = ids

    def new_cache(self, *, rows: int, capacity: int) -> Rows:
        return Rows()

    def step(self, ids: Mapping[int, Sequence[int]], cache: Rows, among: Any = None) -> Tensor:
        logits_V = torch.zeros(320)
        for rank, token in enumerate(self.ids):
            logits_V[token] = 9 - rank
        for row in ids:
            cache[row] = []
        return logits_V.repeat(len(ids), 1)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.01), Sampling(top_k=2)])
def test_ids_without_a_token_are_never_chosen(holed: Tokenizer, sampling: Sampling) -> None:
    sampling = replace(sampling, max_new_tokens=3, log_probs=3)
    decoder = Preferring(310, 319, 301, 302, 303)
    [reply] = generate(decoder, holed, [[5]], sampling, context=64)
    assert reply.ids == [303] * 3 and reply.text == "<|chat|>" * 3
    reported = {token for each in reply.log_probs for token, value in each.top if value > -1e9}
    assert not reported & {301, 302, 310, 319}


@pytest.mark.parametrize("end", [0, 1])
def test_any_of_several_ids_ends_a_reply(holed: Tokenizer, end: int) -> None:
    [reply] = generate(Preferring(end), holed, [[5]], Sampling(max_new_tokens=3), context=64)
    assert (reply.ids, reply.finish_reason) == ([], "stop")


@pytest.mark.parametrize("wrong", [301, 304, 320])
def test_prompts_with_ids_without_a_token_are_refused(holed: Tokenizer, wrong: int) -> None:
    message = r"not in the vocabulary of a byte-level BPE of 302 tokens \(0 to 303\)"
    with pytest.raises(DataError, match=message):
        generate(Preferring(), holed, [[wrong]], Sampling(max_new_tokens=3), context=64)


# ------------------------------------------------------------------------------------------------
# Labels

ONE_TOKEN = ((376,), (645,), (386,))
SEVERAL_TOKENS = ((376, 12), (645,), (386, 9, 100))


@pytest.mark.parametrize("labels", [ONE_TOKEN, SEVERAL_TOKENS])
def test_label_log_probs_equal_those_of_plain_forwards(
    decoder: Any, prompts: list[list[int]], labels: Labels
) -> None:
    model, counted = make_model(), list[int]()
    found = label_log_probs(decoder, prompts[:60], labels, rows=7, on_batch=counted.append)
    assert sum(counted) == 60 and max(counted) <= 7

    @torch.no_grad()
    def naive(prompt: list[int], label: Sequence[int]) -> float:
        log_probs_TV = model(torch.tensor([[*prompt, *label]]))[0].log_softmax(-1)
        places = range(len(prompt) - 1, len(prompt) + len(label) - 1)
        return sum(float(log_probs_TV[p, t]) for p, t in zip(places, label, strict=True))

    sums = torch.tensor([[naive(prompt, label) for label in labels] for prompt in prompts[:60]])
    torch.testing.assert_close(torch.tensor(found), sums.log_softmax(-1), atol=1e-5, rtol=0)
    assert found == [label_log_probs(decoder, [p], labels)[0] for p in prompts[:60]]
    assert label_log_probs(decoder, [], labels) == []


def test_prompts_are_sorted_longest_first() -> None:
    assert longest_first([[1], [1, 2, 3], [2], [1, 2]]) == [1, 3, 0, 2]


@pytest.mark.parametrize("labels", [ONE_TOKEN, SEVERAL_TOKENS])
def test_a_reply_that_begins_with_a_label_has_the_log_probs_of_all_labels(
    decoder: Any, prompts: list[list[int]], labels: Labels
) -> None:
    """The same bits as label_log_probs, in a batch with replies that begin with any token."""
    some = prompts[:12]
    sampling = Sampling(max_new_tokens=6, ignore_end=True, temperature=0.9, seed=4)
    engine = Engine(decoder, Tokenizer.load(), rows=5, context=CONTEXT, prefill_tokens=PIECE)
    replies = [engine.submit(p, sampling, labels if n % 2 else ()) for n, p in enumerate(some)]
    while engine.n_waiting or engine.n_at_work:
        engine.step()
    for n, reply in enumerate(replies):
        if n % 2:
            assert reply.first_log_probs == label_log_probs(decoder, [some[n]], labels)[0]
            best = reply.first_log_probs.index(max(reply.first_log_probs))
            assert reply.ids[: len(labels[best])] == list(labels[best]) and len(reply.ids) == 6
        else:
            alone = generate(decoder, Tokenizer.load(), [some[n]], sampling, context=CONTEXT)[0]
            assert reply.completion() == alone and not reply.first_log_probs


def test_after_a_label_of_several_tokens_the_reply_goes_on_as_after_a_prompt_with_it(
    decoder: Any, prompts: list[list[int]]
) -> None:
    engine = Engine(decoder, TOKENIZER, rows=4, context=CONTEXT)
    label = (386, 9, 100)
    sampling = Sampling(max_new_tokens=8, ignore_end=True)
    found = [engine.submit(prompt, sampling, (label,)) for prompt in prompts[:8]]
    while engine.n_waiting or engine.n_at_work:
        engine.step()
    longer = [[*prompt, *label] for prompt in prompts[:8]]
    expected = generate(
        decoder, TOKENIZER, longer, replace(sampling, max_new_tokens=5), context=CONTEXT
    )
    assert [reply.ids[3:] for reply in found] == [reply.ids for reply in expected]
    assert all(reply.first_log_probs == [0.0] for reply in found)


def test_a_label_is_whole_even_if_it_exceeds_the_longest_reply() -> None:
    engine = Engine(make_model(), TOKENIZER, rows=1, context=12)
    reply = engine.submit([5] * 9, Sampling(max_new_tokens=1), SEVERAL_TOKENS)
    while reply.finish_reason is None:
        engine.step()
    assert tuple(reply.ids) in SEVERAL_TOKENS and reply.finish_reason == "length"
    with pytest.raises(DataError, match="10 tokens and 3 new ones exceed the context of 12"):
        engine.submit([5] * 10, Sampling(max_new_tokens=1), SEVERAL_TOKENS)


def test_scored_labels_leave_nothing_in_the_cache() -> None:
    model = make_model()
    engine = Engine(model, TOKENIZER, rows=1, context=32)
    engine.submit([5] * 9, Sampling(max_new_tokens=1), SEVERAL_TOKENS)
    engine.step()
    assert not any(layer.any() for layer in engine._cache.layers)
