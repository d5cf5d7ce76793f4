"""Texts that stand more than once: to the letter, or nearly, within and across splits and sources.

Exact: the same words, whatever their case and punctuation. Near: a Jaccard similarity of at least
0.8 between the sets of five-word runs, estimated by MinHash (Broder 1997, "On the resemblance and
containment of documents"); that models memorise such texts and test sets leak by them is Lee et al.
2022 ("Deduplicating training data makes language models better", arXiv 2107.06499). Candidates
share one of 16 bands of four hashes: two texts at 0.8 do with a chance of 0.9998, at 0.5 of 0.64.

A record takes 272 bytes, three references and its id.
"""

import hashlib
import itertools
import re
from array import array
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clingpt.data.ngrams import run_hashes, word_hashes

N_HASHES, N_BANDS = 64, 16
N_WORDS = 5  # of a run
NEAR = 0.8  # similarity of near-duplicates, at least
ROWS = N_HASHES // N_BANDS
BAND_STARTS = range(0, N_HASHES, ROWS)
PAIRS = 1 << 14  # signatures compared at once
BLOCK = 2048  # runs hashed at once: a text of 10 MB needs no more memory than others
NEIGHBOURS = 4  # texts of a bucket that each is compared with; chains of pairs join the rest

_WORD = re.compile(r"\w+")
_RNG = np.random.default_rng(1997)
_PLACES = _RNG.integers(1, 2**63, N_WORDS, dtype=np.uint64) * 2 + 1
# h -> the upper half of a·h + b modulo 2**64: Dietzfelbinger's multiply-shift.
_FACTORS = _RNG.integers(1, 2**63, (N_HASHES, 1), dtype=np.uint64) * 2 + 1
_SUMMANDS = _RNG.integers(0, 2**63, (N_HASHES, 1), dtype=np.uint64)
_BAND = _RNG.integers(1, 2**63, ROWS, dtype=np.uint64) * 2 + 1
_NOTHING = np.uint32(2**32 - 1)

Signature = NDArray[np.uint32]  # (64,)
Places = NDArray[np.intp]


def exact_hash(text: str) -> int:
    """64 bits that the words of a text decide, in lower case; 0 where it has none."""
    words = " ".join(_WORD.findall(text.lower()))
    return (
        int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest(), "big")
        if words
        else 0
    )


def signature(text: str) -> Signature:
    """The least of each of 64 hashes over a text's runs of five words; a shorter text is one run.

    Two signatures agree in about that share of their places that is the texts' similarity.
    """
    least = np.full(N_HASHES, _NOTHING, dtype=np.uint32)
    words = word_hashes(text)
    if not len(words):
        return least
    hashes = run_hashes(np.pad(words, (0, max(0, N_WORDS - len(words)))), _PLACES)
    for start in range(0, len(hashes), BLOCK):
        mixed = (_FACTORS * hashes[start : start + BLOCK] + _SUMMANDS) >> np.uint64(32)
        np.minimum(least, mixed.min(axis=1).astype(np.uint32), out=least)
    return least


class Fingerprint(NamedTuple):
    """What a record is compared by: hashes of all its text and of its answer, and a signature."""

    text: int
    answer: int  # 0 of a record that has none
    signature: Signature


def fingerprint(text: str, answer: str | None) -> Fingerprint:
    return Fingerprint(exact_hash(text), exact_hash(answer or ""), signature(text))


class Duplicates:
    """The fingerprints of records in the order in which they came, and which of them are alike."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.splits: list[str] = []  # references to a few strings, as are the sources
        self.sources: list[str] = []
        self._texts, self._answers = array("Q"), array("Q")
        self._signatures = bytearray()  # grows in place, as a list of arrays would not
        self._near: tuple[int, list[list[int]]] = 0, []  # of so many records

    def add(self, record: Fingerprint, *, split: str, source: str, record_id: str) -> None:
        self.ids.append(record_id)
        self.splits.append(split)
        self.sources.append(source)
        self._texts.append(record.text)
        self._answers.append(record.answer)
        self._signatures += record.signature.tobytes()

    def same_text(self) -> list[list[int]]:
        """Places of records whose texts have the same words; each group in order, none of one."""
        return _groups(_roots(self._texts))

    def same_answer(self) -> list[list[int]]:
        """The same of their answers alone, whatever was asked."""
        return _groups(_roots(self._answers))

    def near_text(self) -> list[list[int]]:
        """The same of texts that are nearly alike, by chains of pairs; equal ones among them."""
        if self._near[0] != len(self.ids):
            self._near = len(self.ids), self._find_near()
        return self._near[1]

    def _find_near(self) -> list[list[int]]:
        signed = np.frombuffer(self._signatures, dtype=np.uint32).reshape(-1, N_HASHES)
        roots = np.arange(len(signed))
        bands = [(signed[:, start : start + ROWS] * _BAND).sum(axis=1) for start in BAND_STARTS]
        for number, keys in enumerate(bands):
            # Within a bucket, those that share another band as well come to stand together.
            order = np.lexsort((bands[number - 1], keys))
            order = order[signed[order, 0] != _NOTHING]
            for step in range(1, NEIGHBOURS + 1):
                left, right = order[:-step], order[step:]
                maybe = (keys[left] == keys[right]) & (roots[left] != roots[right])
                left, right = left[maybe], right[maybe]
                near = _agree(signed, left, right)
                roots = _joined(roots, left[near], right[near])
        return _groups(roots)

    def like(self, one: str, other: str) -> list[str]:
        """Ids of the records of a split that are nearly like any of the one split."""
        return [
            self.ids[place]
            for group in self.near_text()
            if one in (self.splits[place] for place in group)
            for place in group
            if self.splits[place] == other
        ]

    def summary(self, groups: list[list[int]]) -> dict[str, Any]:
        """Counts: groups; records in them; and by split, by pair of splits and by pair of sources.

        `surplus`: a split's records that an earlier one of the same split says as well. `shared`:
        records of the one split or source that have their like in the other, both ways.
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
    """A number for each hash, the same for the same; texts without words are each alone."""
    values, roots = np.unique(np.array(hashes, dtype=np.uint64), return_inverse=True)
    return np.where(np.array(hashes) == 0, len(values) + np.arange(len(hashes)), roots)


def _agree(signed: NDArray[np.uint32], left: Places, right: Places) -> NDArray[np.bool_]:
    """Whether pairs of signatures are near, some thousand pairs at a time."""
    near = [
        (signed[left[at : at + PAIRS]] == signed[right[at : at + PAIRS]]).mean(axis=1) >= NEAR
        for at in range(0, len(left), PAIRS)
    ]
    return np.concatenate([np.empty(0, dtype=np.bool_), *near])


def _joined(roots: Places, left: Places, right: Places) -> Places:
    """Each place's group, named by its first place, after the pairs have been joined."""
    while (roots[left] != roots[right]).any():
        lower = np.minimum(roots[left], roots[right])
        np.minimum.at(roots, np.maximum(roots[left], roots[right]), lower)
        while (roots[roots] != roots).any():
            roots = roots[roots]
    return roots


def _groups(roots: Places) -> list[list[int]]:
    """Places that have the same root, in order, where there are at least two."""
    order = np.argsort(roots, kind="stable")
    edges = np.flatnonzero(np.diff(roots[order])) + 1
    groups = [group.tolist() for group in np.split(order, edges) if len(group) > 1]
    return sorted(groups)
