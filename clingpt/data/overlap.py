"""Find text that records share: training records that copy held-out ones, and duplicates.

From words to the verdict on a training record:

    runs        every 13 words in a row, lower-cased and without punctuation (Brown et al. 2020,
                GPT-3, appendix C), hashed to 64 bits: `text_runs`
    holders     how many records contain a run. Headings, templates and instructions recur in many
                records, so a run counts one over its holders; the training record itself is left
                out, because a copy must not make the text that it copies look common
    share       the part of a held-out record's runs, or of its target's, that a training record
                repeats, each run counted by its worth
    copy        a share of more than a fifth of the record or half of its target, or a
                whole text that is nearly the same: `SharedRuns.copies`, `Duplicates.like`; also,
                whatever its text, a record of the same published article (PMCID, PMID or DOI)

Equal weights for all runs, a limit on the holders, and runs of other lengths were tried on real
reports, dialogues, abstracts and answers (docs/journal.md).

`Duplicates` groups whole records that are equal or nearly so: models memorise such texts, and test
sets leak through them (Lee et al. 2022, "Deduplicating training data makes language models better",
arXiv 2107.06499). Near means a Jaccard similarity of at least 0.8 between the sets of five-word
runs, estimated by MinHash (Broder 1997, "On the resemblance and containment of documents").
Candidate pairs share one of 16 bands of four hashes: a pair does so with a probability of 0.9998 at
a similarity of 0.8, and of 0.64 at a similarity of 0.5. A record takes 272 bytes, three references
and its id.
"""

import hashlib
import itertools
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clingpt.base.remember import remember_words
from clingpt.text.records import Record

Hashes = NDArray[np.uint64]
Signature = NDArray[np.uint32]  # (N_HASHES,)
Places = NDArray[np.intp]
Positions = NDArray[np.uint32]  # in a RunIndex

_WORD = re.compile(r"\w+")

# Why a training record is a copy of a held-out one, the plainest reason first. The last is given
# only if the texts show nothing.
Measure = Literal["near", "target", "whole", "article"]
MEASURES: tuple[Measure, ...] = ("near", "target", "whole", "article")
WHOLE_SHARE = 0.2  # of a held-out record's own text
TARGET_SHARE = 0.5  # of its target: less than that is a phrase that two summaries can share

# Runs. Any fixed odd 64-bit weights will do, one for each place so that order counts.
RUN_WORDS = 13
COMMON = 50  # a run in more records than this counts for nothing, which bounds memory and time
TEMPLATE = 10  # records that must contain a run before it is shown as boilerplate
HITS_AT_ONCE = 1 << 16
_WEIGHTS = np.random.default_rng(13).integers(1, 2**63, RUN_WORDS, dtype=np.uint64) * 2 + 1

# MinHash.
NEAR = 0.8  # minimum similarity of near-duplicates
SHINGLE_WORDS = 5
N_HASHES, N_BANDS = 64, 16
BAND_HASHES = N_HASHES // N_BANDS
BAND_STARTS = range(0, N_HASHES, BAND_HASHES)
PAIRS_AT_ONCE = 1 << 14  # signatures to compare
SHINGLES_AT_ONCE = 2048  # to hash, so that a text of 10 MB needs no more memory than others
NEIGHBOURS = 4  # texts of a bucket that each is compared with; chains of pairs join the rest
_RNG = np.random.default_rng(1997)
_SHINGLE_WEIGHTS = _RNG.integers(1, 2**63, SHINGLE_WORDS, dtype=np.uint64) * 2 + 1
# Multiply-shift hashing (Dietzfelbinger et al. 1997): h → the upper half of a·h + b modulo 2**64.
_FACTORS = _RNG.integers(1, 2**63, (N_HASHES, 1), dtype=np.uint64) * 2 + 1
_SUMMANDS = _RNG.integers(0, 2**63, (N_HASHES, 1), dtype=np.uint64)
_BAND_WEIGHTS = _RNG.integers(1, 2**63, BAND_HASHES, dtype=np.uint64) * 2 + 1
_NO_WORDS = np.uint32(2**32 - 1)  # fills the signature of a text without words


# Hashing


@remember_words(1 << 17)
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


def text_runs(text: str) -> Hashes:
    """Hash each run of 13 words of a text; a shorter text has none."""
    words = word_hashes(text)
    return run_hashes(words, _WEIGHTS) if len(words) >= RUN_WORDS else words[:0]


def target_text(record: Record) -> str:
    """Return the end of a record's full text that a model learns to write."""
    return " ".join([record.long_answer or "", record.document or ""])


def text_hash(text: str) -> int:
    """Hash the lower-cased words of a text to 64 bits; 0 for a text without words."""
    words = " ".join(_WORD.findall(text.lower()))
    digest = hashlib.blake2b(words.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") if words else 0


def signature(text: str) -> Signature:
    """Take the minimum of each of 64 hashes over a text's shingles, its runs of five words.

    The share of places where two signatures agree estimates the similarity of the texts. A text
    shorter than five words is a single run.
    """
    least = np.full(N_HASHES, _NO_WORDS, dtype=np.uint32)
    words = word_hashes(text)
    if not len(words):
        return least
    hashes = run_hashes(np.pad(words, (0, max(0, SHINGLE_WORDS - len(words)))), _SHINGLE_WEIGHTS)
    for start in range(0, len(hashes), SHINGLES_AT_ONCE):
        mixed = (_FACTORS * hashes[start : start + SHINGLES_AT_ONCE] + _SUMMANDS) >> np.uint64(32)
        np.minimum(least, mixed.min(axis=1).astype(np.uint32), out=least)
    return least


# Shared runs of words


class RunIndex:
    """The runs of the held-out records, eight bytes each, sorted for binary search."""

    def __init__(self, hashes: Hashes) -> None:
        """Take over sorted, distinct hashes."""
        self.hashes = hashes

    def save(self, path: Path) -> None:
        """Write the index to a file for `open`."""
        with path.open("wb") as file:  # not tofile: its OSError does not give the reason
            file.write(self.hashes.data)

    @staticmethod
    def open(path: Path) -> "RunIndex":
        """Map a saved index into memory, so that many processes share one copy."""
        if not path.stat().st_size:  # an empty file cannot be mapped
            return RunIndex(np.empty(0, dtype=np.uint64))
        return RunIndex(np.memmap(path, dtype=np.uint64, mode="r"))

    def find(self, runs: Hashes) -> Positions:
        """Return the distinct positions in the index of those runs that it contains."""
        if not len(runs) or not len(self.hashes):
            return np.empty(0, dtype=np.uint32)
        runs = np.unique(runs)
        places = np.searchsorted(self.hashes, runs).clip(max=len(self.hashes) - 1)
        found: Positions = places[self.hashes[places] == runs].astype(np.uint32)
        return found


class HeldOut:
    """The runs of the held-out records, as they are collected in the first pass.

    Also the splits in which each whole text (`text_hash`) and each published article is held out.
    """

    def __init__(self) -> None:
        self.splits: list[str] = []  # of each record
        self.texts: dict[int, set[str]] = {}
        self.articles: dict[str, set[str]] = {}
        self._runs: list[Hashes] = []  # of each record, distinct
        self._in_target: list[NDArray[np.bool_]] = []  # of each run

    def add(self, split: str, record: Record) -> None:
        """Add a record. Runs across the start of the target do not count as the target's."""
        runs = text_runs(record.full_text())
        n_target = max(0, len(_WORD.findall(target_text(record))) - RUN_WORDS + 1)
        # Reversed, so that a run is found at its last place: the target ends the text.
        distinct, from_end = np.unique(runs[::-1], return_index=True)
        self.splits.append(split)
        self._runs.append(distinct)
        self._in_target.append(from_end < n_target)
        # Runs find no copy of a text that is shorter than one of them.
        if text := text_hash(record.full_text()):
            self.texts.setdefault(text, set()).add(split)
        self.add_articles(split, record.articles)

    def add_articles(self, split: str, numbers: Iterable[str]) -> None:
        """Hold out published articles, whatever is known of their texts."""
        for number in numbers:
            self.articles.setdefault(number, set()).add(split)

    def postings(self) -> "Postings":
        """List the records that contain each run; the collected runs are freed to save memory."""
        owners = np.repeat(np.arange(len(self._runs), dtype=np.uint32), list(map(len, self._runs)))
        runs = np.concatenate([np.empty(0, dtype=np.uint64), *self._runs])
        in_target = np.concatenate([np.empty(0, dtype=np.bool_), *self._in_target])
        self._runs, self._in_target = [], []
        order = np.argsort(runs, kind="stable")
        runs = runs[order]
        first = np.flatnonzero(np.diff(runs, prepend=~runs[:1]))  # of each distinct run
        starts = np.append(first, len(runs)).astype(np.int64)
        return Postings(
            runs[first],
            starts,
            owners[order],
            in_target[order],
            self.splits,
            self.texts,
            self.articles,
        )


class Postings(NamedTuple):
    """Which held-out records contain each run: for run r, owners[starts[r] : starts[r + 1]].

    The splits of whole texts and articles are those of `HeldOut`.
    """

    runs: Hashes  # sorted and distinct
    starts: Places
    owners: Positions  # numbers of held-out records, in the order in which they were added
    in_target: NDArray[np.bool_]  # whether the run is in that owner's target
    splits: list[str]  # of each held-out record
    texts: dict[int, set[str]]
    articles: dict[str, set[str]]


class SharedRuns:
    """Which runs of held-out records the training records repeat, and how common each run is.

    Only hits are stored, four bytes each, and only while their run is not common. Text that is in
    no held-out record takes no memory.
    """

    def __init__(self, postings: Postings) -> None:
        self._postings = postings
        self.holders = np.diff(postings.starts).astype(np.uint32)  # records with each run
        self._places = array("Q")  # of the training records with hits, in order of arrival
        self._n_hits = array("Q")
        self._hits = array("I")

    def see(self, place: int, hits: Positions) -> None:
        """Count the hits (`RunIndex.find`) of one training record; `place` names it in `copies`."""
        self.holders[hits] += 1
        if len(rare := hits[self.holders[hits] <= COMMON]):
            self._places.append(place)
            self._n_hits.append(len(rare))
            self._hits.frombytes(rare.tobytes())

    def commonest(self, n: int) -> list[tuple[int, int]]:
        """Return the n runs with the most holders, at least TEMPLATE, as (hash, holders)."""
        places = np.argsort(-self.holders.astype(np.int64), kind="stable")[:n]
        found = zip(
            self._postings.runs[places].tolist(), self.holders[places].tolist(), strict=True
        )
        return [(run, holders) for run, holders in found if holders >= TEMPLATE]

    def copies(self) -> dict[str, dict[int, Measure]]:
        """Return, by held-out split, the places of the training records that copy a record of it.

        A run is worth one over its holders other than the training record, and nothing if it is in
        more than COMMON records. A share is the worth of the repeated runs over that of all runs of
        one held-out record. One run is added to the denominator, so that a very short text does not
        count as copied.
        """
        lists, holders = self._postings, self.holders
        alone = np.where(holders <= COMMON, 1 / np.maximum(holders, 1), 0.0)
        beside = np.where(holders <= COMMON, 1 / np.maximum(holders - 1.0, 1), 0.0)
        n_held_out = len(lists.splits)
        every = np.repeat(alone, np.diff(lists.starts))
        totals = [
            np.bincount(lists.owners, every * which, n_held_out) for which in (1, lists.in_target)
        ]
        found: dict[str, dict[int, Measure]] = {}
        for rows, hits in self._blocks():
            rare = holders[hits] <= COMMON  # it was when the hit was stored
            rows, hits = rows[rare], hits[rare]
            # Each hit, once for each held-out record that contains the run.
            counts = lists.starts[hits + 1] - lists.starts[hits]
            at = np.repeat(lists.starts[hits] + counts - np.cumsum(counts), counts)
            at += np.arange(len(at))
            # The pairs of a training record and a held-out one, and the pair of each such hit.
            pairs, pair = np.unique(
                np.repeat(rows, counts) * n_held_out + lists.owners[at], return_inverse=True
            )
            least: tuple[tuple[Measure, float], ...] = (
                ("whole", WHOLE_SHARE),
                ("target", TARGET_SHARE),  # the plainer reason if there are both
            )
            for (measure, enough), total, which in zip(
                least, totals, (1, lists.in_target[at]), strict=True
            ):
                shared, counted = (
                    np.bincount(pair, np.repeat(worth[hits], counts) * which, len(pairs))
                    for worth in (beside, alone)
                )
                share = shared / (total[pairs % n_held_out] - counted + shared + 1)
                share = share.round(9)  # of sums of fractions
                for row, owner in zip(*np.divmod(pairs[share > enough], n_held_out), strict=True):
                    found.setdefault(lists.splits[owner], {})[self._places[row]] = measure
        return found

    def _blocks(self) -> Iterator[tuple[Places, Positions]]:
        """Yield hits, with the row in `_places` of each, a bounded number at a time."""
        hits = np.array(self._hits, dtype=np.uint32)
        ends = np.cumsum(np.array(self._n_hits, dtype=np.int64))
        first, start = 0, 0
        while first < len(ends):
            last = max(first + 1, int(np.searchsorted(ends, start + HITS_AT_ONCE, side="right")))
            rows = np.repeat(np.arange(first, last), np.diff(ends[first:last], prepend=start))
            yield rows, hits[start : ends[last - 1]]
            first, start = last, int(ends[last - 1])


def phrases(text: str, holders: dict[int, int]) -> Iterator[tuple[int, int, int]]:
    """Yield (holders, start, end) of each stretch of a text whose runs are in `holders`.

    A stretch ends where a run has less than half or more than twice the holders of the first. Its
    runs are removed from `holders`, so that each is found once.
    """
    words = list(_WORD.finditer(text))
    hashes = np.array([_hash_word(word[0].lower()) for word in words], dtype=np.uint64)
    runs = run_hashes(hashes, _WEIGHTS).tolist() if len(words) >= RUN_WORDS else []
    at = 0
    while at < len(runs):
        first, n = at, holders.get(runs[at], 0)
        while at < len(runs) and n / 2 <= holders.get(runs[at], 0) <= 2 * n and n:
            at += 1
        for run in runs[first:at]:
            holders.pop(run, None)
        if n:
            yield n, words[first].start(), words[at - 1 + RUN_WORDS - 1].end()
        else:
            at += 1


# Equal and nearly equal texts


class Fingerprint(NamedTuple):
    """Values that records are compared by: hashes of text and answer, and a MinHash signature."""

    text: int
    answer: int  # 0 if the record has none
    signature: Signature


def fingerprint(text: str, answer: str | None) -> Fingerprint:
    """Compute the values by which a record is compared with others."""
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

    def like(self, held_out: str, other: str) -> list[int]:
        """Return the places of a split's records that are near-duplicates of a held-out record."""
        return sorted(
            place
            for group in self.near_text()
            if held_out in (self.splits[place] for place in group)
            for place in group
            if self.splits[place] == other
        )

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
