"""Duplicates: those that are planted are found, in any order, and texts that differ are not."""

import random
from itertools import combinations

import numpy as np
import pytest

from clingpt.data.near_duplicates import (
    BLOCK,
    N_WORDS,
    NEAR,
    Duplicates,
    exact_hash,
    fingerprint,
    signature,
)

VOCABULARY = [f"word{number}" for number in range(5000)]


def make_text(rng: random.Random, n: int = 200) -> list[str]:
    return rng.choices(VOCABULARY, k=n)


def similarity(one: list[str], other: list[str]) -> float:
    """Jaccard's, of the sets of five-word runs, counted."""
    sets = [{tuple(text[i : i + N_WORDS]) for i in range(len(text) - 4)} for text in (one, other)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def collect(texts: list[str], splits: str = "") -> Duplicates:
    found = Duplicates()
    for number, text in enumerate(texts):
        split = {"t": "train", "v": "val", "e": "test"}[splits[number]] if splits else "train"
        source = "a.csv" if number % 2 else "b.csv"
        found.add(fingerprint(text, None), split=split, source=source, record_id=str(number))
    return found


def test_signatures_estimate_similarity() -> None:
    rng = random.Random(1)
    errors = []
    for changed in (0, 1, 2, 4, 8, 20, 60, 200):
        for _ in range(6):
            one = make_text(rng)
            other = list(one)
            for place in rng.sample(range(len(one)), changed):
                other[place] = rng.choice(VOCABULARY)
            agree = (signature(" ".join(one)) == signature(" ".join(other))).mean()
            errors.append(agree - similarity(one, other))
    # A share of 64 has a standard deviation of at most 1/16.
    assert np.abs(errors).max() < 0.25
    assert abs(np.mean(errors)) < 0.03


@pytest.mark.parametrize("text", ["THE pain, (fell).", "the pain fell", "The Pain\nFELL!"])
def test_case_and_punctuation_do_not_count(text: str) -> None:
    assert exact_hash(text) == exact_hash("the pain fell") != exact_hash("the pain rose")
    assert (signature(text) == signature("the pain fell")).all()


def test_long_texts_are_hashed_block_by_block() -> None:
    words = make_text(random.Random(2), 3 * BLOCK)
    whole = signature(" ".join(words))
    step = BLOCK // 2
    parts = [
        signature(" ".join(words[start : start + step + N_WORDS - 1]))
        for start in range(0, len(words) - N_WORDS + 1, step)
    ]
    assert (whole == np.min(parts, axis=0)).all()


def test_planted_duplicates_are_found_and_no_others() -> None:
    rng = random.Random(3)
    texts = [" ".join(make_text(rng)) for _ in range(300)]
    same, near = [], []
    for number in range(40):
        texts.append(texts[number].upper())
        same.append([number, len(texts) - 1])
    for number in range(100, 140):
        words = texts[number].split()
        words[rng.randrange(100)] = "changed"
        texts.append(" ".join(words))
        near.append([number, len(texts) - 1])
    for number in range(200, 240):  # a third of it elsewhere: similar, but not nearly the same
        words = texts[number].split()
        texts.append(" ".join(words[:140] + make_text(rng, 60)))
    found = collect(texts)
    assert found.same_text() == same
    assert found.near_text() == sorted(same + near)
    assert found.same_answer() == []


def test_groups_are_those_of_comparing_all_pairs_and_order_does_not_count() -> None:
    rng = random.Random(4)
    texts = []
    for _ in range(12):
        words = make_text(rng, 120)
        for _ in range(rng.randrange(1, 12)):
            copy = list(words)
            for _ in range(rng.randrange(4)):
                copy[rng.randrange(len(copy))] = rng.choice(VOCABULARY)
            texts.append(" ".join(copy))
    signed = [signature(text) for text in texts]
    groups = [{number} for number in range(len(texts))]
    for one, other in combinations(range(len(texts)), 2):
        if (signed[one] == signed[other]).mean() >= NEAR:
            first, second = (next(g for g in groups if each in g) for each in (one, other))
            if first is not second:
                groups.remove(second)
                first |= second
    wanted = sorted(sorted(group) for group in groups if len(group) > 1)
    assert len(wanted) > 5
    assert collect(texts).near_text() == wanted
    shuffled = list(range(len(texts)))
    rng.shuffle(shuffled)
    again = collect([texts[place] for place in shuffled]).near_text()
    assert sorted(sorted(shuffled[place] for place in group) for group in again) == wanted


def test_a_text_without_words_or_an_answer_is_like_none() -> None:
    found = collect(["", "±", "…", "", "a b", "A b"])
    assert found.same_text() == found.near_text() == [[4, 5]]
    assert collect([]).near_text() == collect([]).same_text() == []


def test_answers_are_compared_whatever_was_asked() -> None:
    found = Duplicates()
    for number, (text, answer) in enumerate([("q1", "Rest."), ("q2", "rest"), ("q3", None)]):
        found.add(fingerprint(text, answer), split="train", source="x", record_id=str(number))
    assert found.same_answer() == [[0, 1]]
    assert found.same_text() == []


def test_counts_by_split_and_source() -> None:
    found = collect(["a b", "a b", "a b", "c d", "c d", "e f"], splits="ttevet")
    assert found.summary(found.same_text()) == {
        "groups": 2,
        "records": 5,
        "surplus": {"train": 1},
        "shared_by_splits": {
            "test in train": 1,
            "test in val": 1,
            "train in test": 2,
            "val in test": 1,
        },
        "shared_by_sources": {"a.csv in b.csv": 2, "b.csv in a.csv": 3},
    }


def test_a_record_takes_some_hundred_bytes() -> None:
    found = collect([str(number) for number in range(50)])
    kept = (found._signatures, found._texts, found._answers)
    assert sum(len(memoryview(each).tobytes()) for each in kept) / 50 == 272
