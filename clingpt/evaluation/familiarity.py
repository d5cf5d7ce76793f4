"""Whether a prompt is unlike the prompts that a model was trained on, from its tokens alone.

A model answers a question about anything with probabilities that were only measured on records like
its training data, so an input that is unlike them is pointed out. The signal needs no model: it
compares the tokens of a prompt with those of the training prompts and with tokens in general. It
sees an unusual subject or kind of text, but not whether a familiar-looking text answers the
question. docs/journal.md tells which other signals were tried.

Does not import torch, because the ONNX runner uses this module.
"""

import base64
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from clingpt.base.settings import check
from clingpt.base.types import Floats, Ints

VOCABULARY = 2**16  # token ids fit uint16
BACKGROUND_TOKENS = 500  # weight of the background in the counts, in tokens
UNLIKE_SHARE = 0.025  # share of validation prompts that may be further away than the limit
FEWEST_PROMPTS = 20  # with fewer validation prompts the limit would flag over 5 % of new ones


@dataclass(frozen=True, kw_only=True)
class Familiarity:
    """The token counts of the training prompts, and how far from them a prompt may be.

    The distance is the mean over a prompt's tokens of ln(background / training), in nats: how much
    more likely its tokens are in general than in a training prompt. The training distribution is
    smoothed by the background (Dirichlet smoothing; Zhai and Lafferty 2001). The background is
    Zipf's law over the token ids, since byte-pair vocabularies are numbered from frequent to rare.
    """

    counts: str  # base64 of zlib-compressed uint64 numbers, one per token id up to the last seen
    limit: float

    def __post_init__(self) -> None:
        try:
            readable = len(self._counts) > 0
        except (ValueError, zlib.error):
            readable = False
        check(readable, "counts must be compressed token counts as eval.py writes them")

    @classmethod
    def fit(cls, train: Iterable[ArrayLike], val: Iterable[ArrayLike]) -> Self | None:
        """Count the tokens of training prompts and set the limit on validation prompts.

        At most UNLIKE_SHARE of the validation prompts are beyond the limit. Returns None if there
        are too few validation prompts or no training prompts. Memory does not grow with them.
        """
        counts = np.zeros(VOCABULARY, dtype=np.int64)
        for ids in train:
            np.add.at(counts, np.asarray(ids, dtype=np.int64), 1)
        if not counts.any():
            return None
        packed = np.trim_zeros(counts, "b").astype("<u8").tobytes()
        unlimited = cls(counts=base64.b64encode(zlib.compress(packed)).decode(), limit=0.0)
        distances = np.sort([unlimited.distance(ids) for ids in val])
        if len(distances) < FEWEST_PROMPTS:
            return None
        limit = float(distances[-1 - int(UNLIKE_SHARE * len(distances))])
        return cls(counts=unlimited.counts, limit=limit)

    def distance(self, ids: ArrayLike) -> float:
        """Return the distance of a prompt in nats per token; the prompt must not be empty."""
        return float(self._log_ratios[np.asarray(ids, dtype=np.int64)].mean())

    def is_unlike(self, ids: ArrayLike) -> bool:
        """Return whether a prompt is further from the training prompts than the limit."""
        return self.distance(ids) > self.limit

    @cached_property
    def _counts(self) -> Ints:
        stream = zlib.decompressobj()
        packed = stream.decompress(base64.b64decode(self.counts, validate=True), 8 * VOCABULARY)
        if not stream.eof:  # a damaged file must not fill the memory
            raise ValueError
        return np.frombuffer(packed, dtype="<u8").astype(np.int64)

    @cached_property
    def _log_ratios(self) -> Floats:
        """ln(background / training) for each token id."""
        counts = np.zeros(VOCABULARY)
        counts[: len(self._counts)] = self._counts
        background = 1 / (np.arange(VOCABULARY) + 10.0)  # Zipf's law; 10 flattens its first ranks
        background /= background.sum()
        smoothed = counts + BACKGROUND_TOKENS * background
        return np.asarray(np.log(background * smoothed.sum() / smoothed))
