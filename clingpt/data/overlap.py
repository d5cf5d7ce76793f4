"""Text that several records share: runs of 13 words, equal texts and near-duplicates.

`NgramIndex` tells whether a training record repeats part of a held-out
one: the usual contamination test, 13-grams of lower-cased words without punctuation (Brown et al.
2020, GPT-3, appendix C). `Duplicates` groups whole records that are equal or nearly so: models
memorise such texts, and test sets leak through them (Lee et al. 2022, "Deduplicating training data
makes language models better", arXiv 2107.06499).

Near means a Jaccard similarity of at least 0.8 between the sets of five-word runs, estimated by
MinHash (Broder 1997, "On the resemblance and containment of documents"). Candidate pairs share one
of 16 bands of four hashes: a pair does so with a probability of 0.9998 at a similarity of 0.8, and
of 0.64 at a similarity of 0.5. A record takes 272 bytes, three references and its id.
"""

import hashlib
import itertools
import re
from array import array
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Signature = NDArray[np.uint32]  # (N_HASHES,)
Places = NDArray[np.intp]

_WORD = re.compile(r"\w+")

# Hashes of runs: any fixed odd 64-bit weights will do, one for each place so that order counts.
NGRAM_WORDS = 13
_NGRAM_WEIGHTS = np.random.default_rng(13).integers(1, 2**63, NGRAM_WORDS, dtype=np.uint64) * 2 + 1

# MinHash.
NEAR = 0.8  # minimum similarity of near-duplicates
RUN_WORDS = 5
N_HASHES, N_BANDS = 64, 16
BAND_HASHES = N_HASHES // N_BANDS
BAND_STARTS = range(0, N_HASHES, BAND_HASHES)
PAIRS_AT_ONCE = 1 << 14  # signatures to compare
RUNS_AT_ONCE = 2048  # to hash, so that a text of 10 MB needs no more memory than others
NEIGHBOURS = 4  # texts of a bucket that each is compared with; chains of pairs join the rest
_RNG = np.random.default_rng(1997)
_RUN_WEIGHTS = _RNG.integers(1, 2**63, RUN_WORDS, dtype=np.uint64) * 2 + 1
# Multiply-shift hashing (Dietzfelbinger et al. 1997): h → the upper half of a·h + b modulo 2**64.
_FACTORS = _RNG.integers(1, 2**63, (N_HASHES, 1), dtype=np.uint64) * 2 + 1
_SUMMANDS = _RNG.integers(0, 2**63, (N_HASHES, 1), dtype=np.uint64)
_BAND_WEIGHTS = _RNG.integers(1, 2**63, BAND_HASHES, dtype=np.uint64) * 2 + 1
_NO_WORDS = np.uint32(2**32 - 1)  # fills the signature of a text without words


# Hashing


@lru_cache(maxsize=1 << 17)
def _hash_word(word: str) -> int:
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def word_hashes(text: str) -> Hashes:
    """Hash each word, in lower case and without punctuation."""
    return np.array([_hash_word(word) for word in _WORD.findall(text.lower())], dtype=np.uint64)


def run_hashes(words: Hashes, weights: Hashes) -> Hashes:
    """Hash each run of len(weights) words; the weights are odd numbers, one for each place."""
    runs = np.lib.stride_tricks.sliding_window_view(words, len(weights))
    hashes: Hashes = (runs * weights).sum(axis=1, dtype=np.uint64)
    return hashes


def ngram_hashes(text: str) -> Hashes:
    """Hash each run of 13 words of a text; a shorter text has none."""
    words = word_hashes(text)
    return run_hashes(words, _NGRAM_WEIGHTS) if len(words) >= NGRAM_WORDS else words[:0]


def text_hash(text: str) -> int:
    """Hash the lower-cased words of a text to 64 bits; 0 for a text without words."""
    words = " ".join(_WORD.findall(text.lower()))
    digest = hashlib.blake2b(words.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") if words else 0


def signature(text: str) -> Signature:
    """Take the minimum of each of 64 hashes over a text's runs of five words.

    The share of places where two signatures agree estimates the similarity of the texts. A text
    shorter than five words is a single run.
    """
    least = np.full(N_HASHES, _NO_WORDS, dtype=np.uint32)
    words = word_hashes(text)
    if not len(words):
        return least
    hashes = run_hashes(np.pad(words, (0, max(0, RUN_WORDS - len(words)))), _RUN_WEIGHTS)
    for start in range(0, len(hashes), RUNS_AT_ONCE):
        mixed = (_FACTORS * hashes[start : start + RUNS_AT_ONCE] + _SUMMANDS) >> np.uint64(32)
        np.minimum(least, mixed.min(axis=1).astype(np.uint32), out=least)
    return least


# Shared runs of words


class NgramIndex:
    """The 13-grams of some texts, eight bytes each, sorted for binary search."""

    def __init__(self, hashes: Iterable[Hashes]) -> None:
        """Build an index from the `ngram_hashes` of each text."""
        empty = np.empty(0, dtype=np.uint64)
        self._sorted: Hashes = np.unique(np.concatenate([empty, *hashes]))

    def save(self, path: Path) -> None:
        """Write the index to a file for `open`."""
        with path.open("wb") as file:  # not tofile: its OSError does not give the reason
            file.write(self._sorted.data)

    @staticmethod
    def open(path: Path) -> "NgramIndex":
        """Map a saved index into memory, so that many processes share one copy."""
        index = NgramIndex([])
        if path.stat().st_size:  # an empty file cannot be mapped
            index._sorted = np.memmap(path, dtype=np.uint64, mode="r")
        return index

    def shares(self, hashes: Hashes) -> bool:
        """Return whether any of a text's `ngram_hashes` is in the index."""
        if not len(hashes) or not len(self._sorted):
            return False
        places = np.searchsorted(self._sorted, hashes).clip(max=len(self._sorted) - 1)
        return bool((self._sorted[places] == hashes).any())


# Equal and nearly equal texts


class Fingerprint(NamedTuple):
    """Values that records are compared by: hashes of text and answer, and a MinHash signature."""

    text: int
    answer: int  # 0 if the record has none
    signature: Signature


def fingerprint(text: str, answer: str | None) -> Fingerprint:
    return Fingerprint(text_hash(text), text_hash(answer or ""), signature(text))


class Duplicates:
    """The fingerprints of all records, in order of arrival, and the groups of equal ones.

    A group is a list of places: 0 is the first record that was added.
    """

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.splits: list[str] = []  # references to a few strings, like the sources
        self.sources: list[str] = []
        self._texts, self._answers = array("Q"), array("Q")
        self._signatures = bytearray()  # grows in place, unlike a list of arrays
        self._near: tuple[int, list[list[int]]] = 0, []  # cached, with the number of records

    def add(self, record: Fingerprint, *, split: str, source: str, record_id: str) -> None:
        self.ids.append(record_id)
        self.splits.append(split)
        self.sources.append(source)
        self._texts.append(record.text)
        self._answers.append(record.answer)
        self._signatures += record.signature.tobytes()

    def same_text(self) -> list[list[int]]:
        """Group records with the same words, ignoring case and punctuation."""
        return _groups(_roots(self._texts))

    def same_answer(self) -> list[list[int]]:
        """Group records with the same answer, whatever the question."""
        return _groups(_roots(self._answers))

    def near_text(self) -> list[list[int]]:
        """Group records connected by chains of near-duplicate pairs, equal ones included."""
        if self._near[0] != len(self.ids):
            self._near = len(self.ids), self._find_near()
        return self._near[1]

    def _find_near(self) -> list[list[int]]:
        signed = np.frombuffer(self._signatures, dtype=np.uint32).reshape(-1, N_HASHES)
        roots = np.arange(len(signed))
        bands = [
            (signed[:, start : start + BAND_HASHES] * _BAND_WEIGHTS).sum(axis=1)
            for start in BAND_STARTS
        ]
        for number, keys in enumerate(bands):
            # Sorted by two bands: texts of a bucket that share the next band too become neighbours,
            # so that comparing each with only a few neighbours finds nearly all pairs.
            order = np.lexsort((bands[number - 1], keys))
            order = order[signed[order, 0] != _NO_WORDS]
            for step in range(1, NEIGHBOURS + 1):
                left, right = order[:-step], order[step:]
                maybe = (keys[left] == keys[right]) & (roots[left] != roots[right])
                left, right = left[maybe], right[maybe]
                near = _agree(signed, left, right)
                roots = _joined(roots, left[near], right[near])
        return _groups(roots)

    def like(self, held_out: str, other: str) -> list[str]:
        """Return the ids of a split's records that are near-duplicates of a held-out record."""
        return [
            self.ids[place]
            for group in self.near_text()
            if held_out in (self.splits[place] for place in group)
            for place in group
            if self.splits[place] == other
        ]

    def summary(self, groups: list[list[int]]) -> dict[str, Any]:
        """Count groups, the records in them, and both by split and by source.

        `surplus`: records of a split that repeat an earlier one of the same split. `shared_by_*`:
        records of one split or source with a duplicate in another, counted in both directions.
        """
        surplus, splits, sources = Counter[str](), Counter[str](), Counter[str]()
        for group in groups:
            in_splits = Counter(self.splits[place] for place in group)
            in_sources = Counter(self.sources[place] for place in group)
            surplus.update({split: n - 1 for split, n in in_splits.items() if n > 1})
            for counts, shared in ((in_splits, splits), (in_sources, sources)):
                for one, other in itertools.permutations(counts, 2):
                    shared[f"{one} in {other}"] += counts[one]
        return {
            "groups": len(groups),
            "records": sum(map(len, groups)),
            "surplus": dict(sorted(surplus.items())),
            "shared_by_splits": dict(sorted(splits.items())),
            "shared_by_sources": dict(sorted(sources.items())),
        }


def _roots(hashes: "array[int]") -> Places:
    """Number the distinct hashes; each text without words (hash 0) gets its own number."""
    values, roots = np.unique(np.array(hashes, dtype=np.uint64), return_inverse=True)
    return np.where(np.array(hashes) == 0, len(values) + np.arange(len(hashes)), roots)


def _agree(signed: NDArray[np.uint32], left: Places, right: Places) -> NDArray[np.bool_]:
    """Return which pairs of signatures are near, comparing a few thousand pairs at a time."""
    near = [
        (signed[left[at : at + PAIRS_AT_ONCE]] == signed[right[at : at + PAIRS_AT_ONCE]]).mean(
            axis=1
        )
        >= NEAR
        for at in range(0, len(left), PAIRS_AT_ONCE)
    ]
    return np.concatenate([np.empty(0, dtype=np.bool_), *near])


def _joined(roots: Places, left: Places, right: Places) -> Places:
    """Join the groups of each pair (union-find); a group is named by its first place."""
    while (roots[left] != roots[right]).any():
        lower = np.minimum(roots[left], roots[right])
        np.minimum.at(roots, np.maximum(roots[left], roots[right]), lower)
        while (roots[roots] != roots).any():
            roots = roots[roots]
    return roots


def _groups(roots: Places) -> list[list[int]]:
    """List the places that share a root, in order; groups of one are left out."""
    order = np.argsort(roots, kind="stable")
    edges = np.flatnonzero(np.diff(roots[order])) + 1
    groups = [group.tolist() for group in np.split(order, edges) if len(group) > 1]
    return sorted(groups)
