"""Sampling: the settings, and how each of them changes one row of logits.

Each step follows its paper and matches the one in `transformers`, in the same order:
repetition penalty, n-gram blocking, temperature, top-k, top-p, min-p. V is the vocabulary, K the
tokens that are kept.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clingpt.base.errors import CheckpointError, ConfigError

LOWEST_TEMPERATURE = 1e-5  # dividing logits by less would overflow; use 0 (greedy) instead
MAX_LOG_PROBS = 20
MAX_STOP_STRINGS = 16


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to choose the next token and when to end a reply."""

    max_new_tokens: int = 160
    temperature: float = 0.0  # 0: greedy, always the most probable token
    top_k: int | None = None  # keep the k most probable tokens; None: all
    top_p: float = 1.0  # keep the fewest tokens whose probabilities add up to this; 1: all
    min_p: float = 0.0  # keep tokens with at least this share of the highest probability; 0: all
    repetition_penalty: float = 1.0  # above 1 penalises tokens of the prompt and reply; 1: off
    no_repeat_ngram: int | None = None  # never repeat a run of this many tokens; None: off
    seed: int = 0  # seed of this reply's random numbers
    stop: tuple[str, ...] = ()  # end the text before the first of these strings
    ignore_end: bool = False  # continue after an end of text
    log_probs: int | None = None  # report log-probabilities and this many top tokens; None: off

    def __post_init__(self) -> None:
        for name, holds in (
            ("max_new_tokens must be at least 1", self.max_new_tokens >= 1),
            (
                f"temperature must be 0, or at least {LOWEST_TEMPERATURE} and finite",
                self.temperature == 0 or LOWEST_TEMPERATURE <= self.temperature < math.inf,
            ),
            ("top_k must be at least 1", self.top_k is None or self.top_k >= 1),
            ("top_p must be above 0 and at most 1", 0 < self.top_p <= 1),
            ("min_p must be at least 0 and at most 1", 0 <= self.min_p <= 1),
            (
                "repetition_penalty must be above 0 and finite",
                0 < self.repetition_penalty < math.inf,
            ),
            (
                "no_repeat_ngram must be at least 1",
                self.no_repeat_ngram is None or self.no_repeat_ngram >= 1,
            ),
            ("seed must be at least 0 and below 2^63", 0 <= self.seed < 2**63),
            (
                f"stop must be at most {MAX_STOP_STRINGS} strings",
                len(self.stop) <= MAX_STOP_STRINGS,
            ),
            ("stop must not contain an empty string", all(self.stop)),
            ("stop must be a tuple of strings", isinstance(self.stop, tuple)),
            (
                f"log_probs must be 0 to {MAX_LOG_PROBS}",
                self.log_probs is None or 0 <= self.log_probs <= MAX_LOG_PROBS,
            ),
        ):
            if not holds:
                raise ConfigError(f"{name}, got {getattr(self, name.split()[0])}")

    @property
    def is_greedy(self) -> bool:
        """Whether the next token is simply the one with the highest logit."""
        return self.temperature == 0 and not self.looks_back

    @property
    def looks_back(self) -> bool:
        """Whether earlier tokens change the logits."""
        return self.repetition_penalty != 1 or self.no_repeat_ngram is not None


@dataclass(frozen=True)
class TokenLogProb:
    """Log-probabilities, in nats, of a chosen token and of the most probable ones.

    They are the model's own: at temperature 1, before any token is excluded.
    """

    token: int
    log_prob: float
    top: tuple[tuple[int, float], ...]


class Chooser:
    """Chooses the tokens of one reply; keeps its random numbers and the tokens seen so far."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int]) -> None:
        self.sampling = sampling
        self._generator = torch.Generator().manual_seed(sampling.seed)
        self._ids = list(prompt) if sampling.looks_back else []
        self._seen = set(self._ids)
        self._ngrams = NGrams(sampling.no_repeat_ngram, self._ids)

    def choose(self, logits_V: Tensor) -> int:
        """Choose the next token and remember it for repetition penalty and n-gram blocking."""
        scores_V = self.scores(logits_V)
        if self.sampling.temperature == 0:
            highest, best = scores_V.max(0)
            token = require_finite(float(highest), int(best))
        else:
            token = draw(scores_V, self._generator)
        if self.sampling.looks_back:
            self._ids.append(token)
            self._seen.add(token)
            self._ngrams.push(self._ids)
        return token

    def scores(self, logits_V: Tensor) -> Tensor:
        """Apply the settings to the logits (V,); an excluded token gets -inf."""
        sampling = self.sampling
        # On the CPU, so that a seed gives the same text on every device; MPS lacks the float64 that
        # `draw` needs.
        logits_V = logits_V.float().cpu()
        logits_V = penalise(logits_V, self._seen, sampling.repetition_penalty)
        if banned := self._ngrams.banned(self._ids):
            logits_V = logits_V.index_fill(0, _index(banned, logits_V), -torch.inf)
        if sampling.temperature == 0:
            return logits_V
        logits_V = keep_top_k(logits_V / sampling.temperature, sampling.top_k)
        return keep_min_p(keep_top_p(logits_V, sampling.top_p), sampling.min_p)


def require_finite(highest: float, token: int) -> int:
    """Return the token with the highest logit; raise CheckpointError if that is not finite.

    One check covers the row, because torch.max ranks NaN above everything else.
    """
    if not math.isfinite(highest):
        raise CheckpointError(
            "the model's logits are not finite numbers; use another checkpoint or --dtype=float32"
        )
    return token


def penalise(logits_V: Tensor, seen: Iterable[int], penalty: float) -> Tensor:
    """Scale the logits of seen tokens down (Keskar et al. 2019, "CTRL", section 4.1)."""
    if penalty == 1:
        return logits_V
    index_K = _index(seen, logits_V)
    logits_K = logits_V[index_K]
    # Dividing a negative logit would raise it, so it is multiplied, as in the paper's code.
    logits_K = torch.where(logits_K < 0, logits_K * penalty, logits_K / penalty)
    return logits_V.index_copy(0, index_K, logits_K)


class NGrams:
    """Finds the tokens that would repeat a run of n tokens (Paulus et al. 2017, section 2.5).

    A dictionary of runs makes each step independent of the length of the reply.
    """

    def __init__(self, n: int | None, ids: Sequence[int]) -> None:
        self._n = n
        self._followers: dict[tuple[int, ...], set[int]] = {}
        for end in range(len(ids) if n else 0):
            self.push(ids[: end + 1][-(n or 0) :])

    def push(self, ids: Sequence[int]) -> None:
        """Record the run that ends with the last token."""
        if self._n and len(ids) >= self._n:
            *before, last = ids[-self._n :]
            self._followers.setdefault(tuple(before), set()).add(last)

    def banned(self, ids: Sequence[int]) -> set[int]:
        """Return the tokens that have followed the last n - 1 tokens before."""
        if not self._n or len(ids) < self._n - 1:
            return set()
        return self._followers.get(tuple(ids[len(ids) - self._n + 1 :]), set())


def keep_top_k(logits_V: Tensor, k: int | None) -> Tensor:
    """Keep the k highest logits and any equal to the lowest of them (Fan et al. 2018, 5.4)."""
    if k is None or k >= len(logits_V):
        return logits_V
    return logits_V.masked_fill(logits_V < logits_V.topk(k).values[-1], -torch.inf)


def keep_top_p(logits_V: Tensor, p: float) -> Tensor:
    """Keep the nucleus: the fewest tokens with a joint probability of p (Holtzman et al. 2020)."""
    if p == 1:
        return logits_V
    probability_V = logits_V.softmax(0)
    # All tokens below (1 - p) / V add up to less than 1 - p, so the nucleus needs none of them.
    # Sorting only the others is 10 times as fast.
    likely_K = (probability_V >= (1 - p) / len(logits_V)).nonzero()[:, 0]
    sorted_K, order_K = probability_V[likely_K].sort(descending=True, stable=True)
    before_K = sorted_K.double().cumsum(0) - sorted_K
    kept_K = likely_K[order_K[before_K < p]]
    return torch.full_like(logits_V, -torch.inf).index_copy(0, kept_K, logits_V[kept_K])


def keep_min_p(logits_V: Tensor, p: float) -> Tensor:
    """Keep tokens at least p times as probable as the most probable (Nguyen et al. 2024, 3)."""
    if p == 0:
        return logits_V
    probability_V = logits_V.softmax(0)
    return logits_V.masked_fill(probability_V < p * probability_V.max(), -torch.inf)


def draw(logits_V: Tensor, generator: torch.Generator) -> int:
    """Sample a token by inverting the cumulative distribution at one random number.

    In float64, because a sum of 50,000 float32 probabilities is not exact enough. One random number
    per token (torch.multinomial draws one per vocabulary entry) keeps a row's stream simple.
    """
    require_finite(float(logits_V.max()), 0)
    sums_V = logits_V.cpu().double().softmax(0).cumsum(0)
    place = torch.rand(1, generator=generator, dtype=torch.float64) * sums_V[-1]
    return int(torch.searchsorted(sums_V, place, right=True).clamp(max=len(sums_V) - 1))


def log_prob_of(logits_V: Tensor, token: int, n_top: int) -> TokenLogProb:
    """Return the log-probability of a token, and the `n_top` most probable tokens with theirs."""
    log_probs_V = logits_V.float().log_softmax(0)
    top = log_probs_V.topk(n_top)
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return TokenLogProb(token, float(log_probs_V[token]), tuple(pairs))


def _index(tokens: Iterable[int], like: Tensor) -> Tensor:
    return torch.tensor(sorted(tokens), dtype=torch.long, device=like.device)
