"""Label scores: how probable each of a few tokens is as the next one, without writing anything."""

from collections.abc import Callable, Iterable, Sequence

import torch

from clingpt.decoding.engine import PREFILL_TOKENS, Decoder, by_length


@torch.no_grad()
def label_log_probs(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    label_ids: Sequence[int],
    *,
    rows: int = 16,
    on_batch: Callable[[int], object] | None = None,
) -> list[list[float]]:
    """Log-probability of each label among the labels, as the next token of each prompt.

    One prefill a prompt, many prompts at once, and of the vocabulary the labels' rows alone.
    """
    found: dict[int, list[float]] = {}
    longest = max(map(len, prompts), default=0)
    cache = decoder.new_cache(rows=max(1, min(rows, len(prompts))), capacity=max(1, longest))
    order = by_length(prompts)
    while order:
        batch = _filling(order, prompts, rows)
        order = order[len(batch) :]
        logits_RL = decoder.step(
            {row: prompts[n] for row, n in enumerate(batch)}, cache, label_ids
        ).float()
        found |= zip(batch, logits_RL.log_softmax(dim=-1).tolist(), strict=True)
        for row in range(len(batch)):
            cache.clear(row)
        if on_batch:
            on_batch(len(batch))
    return [found[n] for n in range(len(prompts))]


def _filling(order: Iterable[int], prompts: Sequence[Sequence[int]], rows: int) -> list[int]:
    """The next prompts, at most `rows`, that a step's tokens have room for; at least one."""
    batch: list[int] = []
    tokens = 0
    for n in order:
        tokens += len(prompts[n])
        if batch and (len(batch) == rows or tokens > PREFILL_TOKENS):
            break
        batch.append(n)
    return batch
