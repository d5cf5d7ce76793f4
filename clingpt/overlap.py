"""Which texts share a run of 13 words: the usual test for test data in training data.

Brown et al. 2020 (GPT-3), appendix C: 13-grams of lower-cased words without punctuation. They are
hashed to 64 bits: eight bytes for each 13-gram of the indexed texts, nothing for the others.
"""

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from clingpt.records import Record

N_WORDS = 13
_WORD = re.compile(r"\w+")
# Any fixed odd 64-bit numbers do; one a place in the run, so that order counts.
_WEIGHTS = np.random.default_rng(13).integers(1, 2**63, N_WORDS, dtype=np.uint64) * 2 + 1


@lru_cache(maxsize=1 << 17)
def _hash_word(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")


def ngram_hashes(text: str) -> NDArray[np.uint64]:
    """One hash for each run of 13 words; none for a shorter text."""
    words = [_hash_word(word) for word in _WORD.findall(text.lower())]
    if len(words) < N_WORDS:
        return np.empty(0, dtype=np.uint64)
    runs = np.lib.stride_tricks.sliding_window_view(np.array(words, dtype=np.uint64), N_WORDS)
    hashes: NDArray[np.uint64] = (runs * _WEIGHTS).sum(axis=1, dtype=np.uint64)
    return hashes


def record_text(record: Record) -> str:
    """All of a record that a model could have read."""
    told = [record.question, *(text for _, text in record.sections)]
    return " ".join(part for part in (*told, record.long_answer, record.document) if part)


class NgramIndex:
    """The 13-grams of some texts, to ask other texts whether they share one."""

    def __init__(self, texts: Iterable[str]) -> None:
        hashes = [ngram_hashes(text) for text in texts]
        empty = np.empty(0, dtype=np.uint64)
        self._sorted: NDArray[np.uint64] = np.unique(np.concatenate([empty, *hashes]))

    def shares(self, text: str) -> bool:
        """Whether `text` has a 13-gram of the indexed texts."""
        hashes = ngram_hashes(text)
        if not len(hashes) or not len(self._sorted):
            return False
        places = np.searchsorted(self._sorted, hashes).clip(max=len(self._sorted) - 1)
        return bool((self._sorted[places] == hashes).any())
