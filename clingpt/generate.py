"""Decoding: prompts in, tokens out, over any model that can append to a cache; and label scores.

It knows neither GPT nor the tokenizer: tokens in, tokens out. Prompts of different lengths share a
batch, each row samples from a generator of its own, and nothing here trims: a prompt that does not
fit is refused with both numbers.
"""

import codecs
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from clingpt.errors import ConfigError, DataError
from clingpt.tokenizer import EOT, Tokenizer


class Decoder(Protocol):
    """What decoding needs of a model; model.GPT is one, a five-line fake another."""

    def new_cache(self, *, rows: int, capacity: int) -> Any: ...

    def step(self, ids_BT: Tensor, counts_B: Tensor, cache: Any) -> Tensor:
        """Append counts_B[b] tokens to each row; logits (B, V) behind each row's last one."""
        ...


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen and when a text ends."""

    max_new_tokens: int = 160
    temperature: float = 0.0  # 0 takes the most probable token
    top_k: int | None = None  # of the k most probable tokens; None: of all
    top_p: float = 1.0  # of the fewest tokens that together are this probable; 1: of all
    seed: int = 0

    def __post_init__(self) -> None:
        for name, holds in (
            ("max_new_tokens must be at least 1", self.max_new_tokens >= 1),
            ("temperature must be at least 0 and finite", 0 <= self.temperature < float("inf")),
            ("top_k must be at least 1", self.top_k is None or self.top_k >= 1),
            ("top_p must be above 0 and at most 1", 0 < self.top_p <= 1),
        ):
            if not holds:
                raise ConfigError(f"{name}, got {getattr(self, name.split()[0])}")


@dataclass(frozen=True)
class Completion:
    """The tokens of one reply, without the end of text, and why it ended."""

    ids: list[int]
    finish_reason: Literal["stop", "length"]


OnToken = Callable[[int, int], None]  # (row, token), as soon as it is chosen


@torch.no_grad()
def generate(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    context: int,
    device: torch.device | str = "cpu",
    on_token: OnToken | None = None,
) -> list[Completion]:
    """One reply to each prompt, all in one batch; row r samples with the seed `seed + r`."""
    longest = max(map(len, prompts))
    if not all(prompts):
        raise DataError("a prompt is empty; give at least one token")
    if longest + sampling.max_new_tokens > context:
        raise DataError(
            f"a prompt of {longest} tokens and {sampling.max_new_tokens} new ones exceed the "
            f"context of {context}; shorten the prompt or lower max_new_tokens"
        )
    cache = model.new_cache(rows=len(prompts), capacity=longest + sampling.max_new_tokens)
    generators = [torch.Generator().manual_seed(sampling.seed + r) for r in range(len(prompts))]
    replies: list[list[int]] = [[] for _ in prompts]
    open_rows = set(range(len(prompts)))
    logits_BV = model.step(*_padded(prompts, device), cache)
    for remaining in reversed(range(sampling.max_new_tokens)):
        fed: list[list[int]] = [[] for _ in prompts]
        for row in sorted(open_rows):
            token = choose(logits_BV[row], sampling, generators[row])
            if token == EOT:
                open_rows.remove(row)
                continue
            replies[row].append(token)
            fed[row] = [token]
            if on_token:
                on_token(row, token)
        if not open_rows or not remaining:
            break
        logits_BV = model.step(*_padded(fed, device), cache)
    return [
        Completion(reply, "length" if row in open_rows else "stop")
        for row, reply in enumerate(replies)
    ]


def _padded(rows: Sequence[Sequence[int]], device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Ragged rows as (B, T) ids, padded on the right, and their lengths."""
    counts = [len(row) for row in rows]
    ids_BT = torch.full((len(rows), max(counts)), EOT)
    for b, row in enumerate(rows):
        ids_BT[b, : len(row)] = torch.tensor(row, dtype=torch.long)
    return ids_BT.to(device), torch.tensor(counts, device=device)


def choose(logits_V: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """The next token of one row.

    Top-k: Fan et al. 2018, section 5.4. Nucleus (top-p): Holtzman et al. 2020, section 3.1. As in
    `transformers`, temperature comes first and top-p looks at what top-k left.
    """
    if sampling.temperature == 0:
        return int(logits_V.argmax())
    logits_V = logits_V.float().cpu() / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < len(logits_V):
        kth = logits_V.topk(sampling.top_k).values[-1]
        logits_V = logits_V.masked_fill(logits_V < kth, -torch.inf)
    if sampling.top_p < 1:
        sorted_V, order_V = logits_V.sort(descending=True)
        before_V = sorted_V.softmax(0).cumsum(0) - sorted_V.softmax(0)
        logits_V = logits_V.index_fill(0, order_V[before_V >= sampling.top_p], -torch.inf)
    return int(logits_V.softmax(0).multinomial(1, generator=generator))


def batches_by_length(prompts: Sequence[Sequence[int]], batch_size: int) -> Iterator[list[int]]:
    """The numbers of the prompts, longest first: little padding, and memory peaks at once."""
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    return (order[i : i + batch_size] for i in range(0, len(order), batch_size))


@torch.no_grad()
def label_log_probs(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    label_ids: Sequence[int],
    *,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Log-probability of each label as the next token of each prompt, (B, labels), fp32."""
    cache = model.new_cache(rows=len(prompts), capacity=max(map(len, prompts)))
    logits_BV = model.step(*_padded(prompts, device), cache).float()
    return logits_BV.log_softmax(dim=-1)[:, list(label_ids)].cpu()


class TextStream:
    """Tokens to text as they come, never half a character."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """The characters that this token completes."""
        return self._decoder.decode(self._tokenizer.decode_bytes([token]))

    def end(self) -> str:
        """What is left: U+FFFD for a character that never came to its end."""
        return self._decoder.decode(b"", final=True)
