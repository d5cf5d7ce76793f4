"""Which texts share a run of 13 words: the usual test for test data in training data.

Brown et al. 2020 (GPT-3), appendix C: 13-grams of lower-cased words without punctuation. They are
hashed to 64 bits: eight bytes for each 13-gram of the indexed texts, nothing for the others.
"""

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

N_WORDS = 13
_WORD = re.compile(r"\w+")
# Any fixed odd 64-bit numbers do; one a place in the run, so that order counts.
_WEIGHTS = np.random.default_rng(13).integers(1, 2**63, N_WORDS, dtype=np.uint64) * 2 + 1


@lru_cache(maxsize=1 << 17)
def _hash_word(word: str) -> int:
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def word_hashes(text: str) -> Hashes:
    """One hash for each word, in lower case and without punctuation."""
    return np.array([_hash_word(word) for word in _WORD.findall(text.lower())], dtype=np.uint64)


def run_hashes(words: Hashes, weights: Hashes) -> Hashes:
    """One hash for each run of as many words as there are weights, odd numbers, one a place."""
    runs = np.lib.stride_tricks.sliding_window_view(words, len(weights))
    hashes: Hashes = (runs * weights).sum(axis=1, dtype=np.uint64)
    return hashes


def ngram_hashes(text: str) -> Hashes:
    """One hash for each run of 13 words; none for a shorter text."""
    words = word_hashes(text)
    return run_hashes(words, _WEIGHTS) if len(words) >= N_WORDS else words[:0]


class NgramIndex:
    """The 13-grams of some texts, to ask other texts whether they share one."""

    def __init__(self, hashes: Iterable[Hashes]) -> None:
        """From the `ngram_hashes` of each text."""
        empty = np.empty(0, dtype=np.uint64)
        self._sorted: Hashes = np.unique(np.concatenate([empty, *hashes]))

    def save(self, path: Path) -> None:
        """Write it for `open`."""
        self._sorted.tofile(path)

    @staticmethod
    def open(path: Path) -> "NgramIndex":
        """One that stays on disk, so that many processes hold it in memory once."""
        index = NgramIndex([])
        if path.stat().st_size:  # an empty file cannot be mapped
            index._sorted = np.memmap(path, dtype=np.uint64, mode="r")
        return index

    def shares(self, hashes: Hashes) -> bool:
        """Whether a text with these `ngram_hashes` has a 13-gram of the indexed texts."""
        if not len(hashes) or not len(self._sorted):
            return False
        places = np.searchsorted(self._sorted, hashes).clip(max=len(self._sorted) - 1)
        return bool((self._sorted[places] == hashes).any())
