"""How the next token is chosen: settings, and what each does to a row of logits.

Every step is defined by its paper and equal to that of `transformers`, in its order: repetition
penalty, n-gram block, temperature, top-k, top-p, min-p. V is the vocabulary, K what is kept of it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clingpt.base.errors import CheckpointError, ConfigError

COOLEST = 1e-5  # below it quotients overflow; 0 is what is meant
MAX_LOG_PROBS = 20  # top tokens told beside the chosen one
MAX_STOP_STRINGS = 16


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen and when a text ends."""

    max_new_tokens: int = 160
    temperature: float = 0.0  # 0 takes the most probable token
    top_k: int | None = None  # of the k most probable tokens; None: of all
    top_p: float = 1.0  # of the fewest tokens that together are this probable; 1: of all
    min_p: float = 0.0  # of those at least this probable beside the most probable one; 0: of all
    repetition_penalty: float = 1.0  # makes what stands in prompt or text less probable; 1: off
    no_repeat_ngram: int | None = None  # no run of so many tokens stands twice; None: off
    seed: int = 0  # of the row's own random numbers
    stop: tuple[str, ...] = ()  # the text ends before the first of these
    ignore_end: bool = False  # go on behind an end of text
    log_probs: int | None = None  # top tokens told beside the chosen one's log-probability

    def __post_init__(self) -> None:
        for name, holds in (
            ("max_new_tokens must be at least 1", self.max_new_tokens >= 1),
            (
                f"temperature must be 0, or at least {COOLEST} and finite",
                self.temperature == 0 or COOLEST <= self.temperature < math.inf,
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
            (f"stop must be at most {MAX_STOP_STRINGS} texts", len(self.stop) <= MAX_STOP_STRINGS),
            ("stop must hold no empty text", all(self.stop)),
            ("stop must be a tuple of texts", isinstance(self.stop, tuple)),
            (
                f"log_probs must be 0 to {MAX_LOG_PROBS}",
                self.log_probs is None or 0 <= self.log_probs <= MAX_LOG_PROBS,
            ),
        ):
            if not holds:
                raise ConfigError(f"{name}, got {getattr(self, name.split()[0])}")

    @property
    def is_plain(self) -> bool:
        """Whether the most probable token is taken as it is."""
        return self.temperature == 0 and not self.looks_back

    @property
    def looks_back(self) -> bool:
        """Whether the choice depends on the tokens before it."""
        return self.repetition_penalty != 1 or self.no_repeat_ngram is not None


@dataclass(frozen=True)
class TokenLogProb:
    """A chosen token's log-probability (nats, of the model itself: temperature 1, nothing kept
    back), and the most probable tokens with theirs."""

    token: int
    log_prob: float
    top: tuple[tuple[int, float], ...]


class Chooser:
    """Chooses a row's tokens: its settings, its random numbers, and what stands in it so far."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int]) -> None:
        self.sampling = sampling
        self._generator = torch.Generator().manual_seed(sampling.seed)
        self._ids = list(prompt) if sampling.looks_back else []
        self._seen = set(self._ids)
        self._ngrams = NGrams(sampling.no_repeat_ngram, self._ids)

    def choose(self, logits_V: Tensor) -> int:
        """The next token, which then stands in the row."""
        scores_V = self.scores(logits_V)
        if self.sampling.temperature == 0:
            highest, best = scores_V.max(0)
            token = checked(float(highest), int(best))
        else:
            token = draw(scores_V, self._generator)
        if self.sampling.looks_back:
            self._ids.append(token)
            self._seen.add(token)
            self._ngrams.push(self._ids)
        return token

    def scores(self, logits_V: Tensor) -> Tensor:
        """The logits as the settings change them, -inf where a token is kept back."""
        sampling = self.sampling
        # On the host, where random numbers are drawn, and in fp32; MPS has no float64 below.
        logits_V = logits_V.float().cpu()
        logits_V = penalise(logits_V, self._seen, sampling.repetition_penalty)
        if banned := self._ngrams.banned(self._ids):
            logits_V = logits_V.index_fill(0, _index(banned, logits_V), -torch.inf)
        if sampling.temperature == 0:
            return logits_V
        logits_V = keep_top_k(logits_V / sampling.temperature, sampling.top_k)
        return keep_min_p(keep_top_p(logits_V, sampling.top_p), sampling.min_p)


def checked(highest: float, token: int) -> int:
    """The token, unless its logit is no number: torch takes NaN for the highest of all.

    CheckpointError: the model gave no numbers.
    """
    if not math.isfinite(highest):
        raise CheckpointError(
            "the model's logits are not finite numbers; use another checkpoint or --dtype=float32"
        )
    return token


def penalise(logits_V: Tensor, seen: Iterable[int], penalty: float) -> Tensor:
    """Tokens that were seen, less probable by a factor of their logit.

    Keskar et al. 2019, "CTRL", section 4.1; as there, a negative logit is multiplied.
    """
    if penalty == 1:
        return logits_V
    index_K = _index(seen, logits_V)
    logits_K = logits_V[index_K]
    logits_K = torch.where(logits_K < 0, logits_K * penalty, logits_K / penalty)
    return logits_V.index_copy(0, index_K, logits_K)


class NGrams:
    """Which tokens would repeat a run of n tokens (Paulus et al. 2017, section 2.5)."""

    def __init__(self, n: int | None, ids: Sequence[int]) -> None:
        self._n = n
        self._followers: dict[tuple[int, ...], set[int]] = {}
        for end in range(len(ids) if n else 0):
            self.push(ids[: end + 1][-(n or 0) :])

    def push(self, ids: Sequence[int]) -> None:
        """Learn the run that ends with the last token."""
        if self._n and len(ids) >= self._n:
            *before, last = ids[-self._n :]
            self._followers.setdefault(tuple(before), set()).add(last)

    def banned(self, ids: Sequence[int]) -> set[int]:
        """Tokens that followed the last n - 1 tokens before."""
        if not self._n or len(ids) < self._n - 1:
            return set()
        return self._followers.get(tuple(ids[len(ids) - self._n + 1 :]), set())


def keep_top_k(logits_V: Tensor, k: int | None) -> Tensor:
    """The k highest, and what equals the last of them (Fan et al. 2018, section 5.4)."""
    if k is None or k >= len(logits_V):
        return logits_V
    return logits_V.masked_fill(logits_V < logits_V.topk(k).values[-1], -torch.inf)


def keep_top_p(logits_V: Tensor, p: float) -> Tensor:
    """The nucleus: the fewest tokens that together are p probable (Holtzman et al. 2020, 3.1)."""
    if p == 1:
        return logits_V
    probability_V = logits_V.softmax(0)
    # All that are less probable than (1 - p) / V are less than 1 - p together: none is needed, and
    # sorting the others alone is 10 times as fast.
    likely_K = (probability_V >= (1 - p) / len(logits_V)).nonzero()[:, 0]
    sorted_K, order_K = probability_V[likely_K].sort(descending=True, stable=True)
    before_K = sorted_K.double().cumsum(0) - sorted_K
    kept_K = likely_K[order_K[before_K < p]]
    return torch.full_like(logits_V, -torch.inf).index_copy(0, kept_K, logits_V[kept_K])


def keep_min_p(logits_V: Tensor, p: float) -> Tensor:
    """Those at least p times as probable as the most probable (Nguyen et al. 2024, section 3)."""
    if p == 0:
        return logits_V
    probability_V = logits_V.softmax(0)
    return logits_V.masked_fill(probability_V < p * probability_V.max(), -torch.inf)


def draw(logits_V: Tensor, generator: torch.Generator) -> int:
    """A token with its probability: one random number, placed among the summed probabilities."""
    checked(float(logits_V.max()), 0)
    sums_V = logits_V.cpu().double().softmax(0).cumsum(0)
    place = torch.rand(1, generator=generator, dtype=torch.float64) * sums_V[-1]
    return int(torch.searchsorted(sums_V, place, right=True).clamp(max=len(sums_V) - 1))


def log_prob_of(logits_V: Tensor, token: int, n_top: int) -> TokenLogProb:
    """What the model itself thinks of a token, and of the n most probable."""
    log_probs_V = logits_V.float().log_softmax(0)
    top = log_probs_V.topk(n_top)
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return TokenLogProb(token, float(log_probs_V[token]), tuple(pairs))


def _index(tokens: Iterable[int], like: Tensor) -> Tensor:
    return torch.tensor(sorted(tokens), dtype=torch.long, device=like.device)
