"""Overlap: planted copies and shared runs of words are found, different texts are not."""

import errno
import gzip
import json
import random
import re
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from clingpt.data.overlap import (
    COMMON,
    NEAR,
    RUN_WORDS,
    SHINGLE_WORDS,
    SHINGLES_AT_ONCE,
    Duplicates,
    HeldOut,
    Measure,
    RunIndex,
    SharedRuns,
    fingerprint,
    phrases,
    signature,
    text_hash,
    text_runs,
)
from clingpt.text.records import Record
from tests.helpers.shared import ACI_BENCH, INDIANA, shared_file

# Runs of 13 words

RUN = "the mean pain score fell by 31 points in group (P = 0.002)"  # 0 and 002 are two words


def shares(indexed: str, text: str) -> bool:
    return len(RunIndex(np.unique(text_runs(indexed))).find(text_runs(text))) > 0


def test_a_shared_run_of_13_words_is_found_and_one_of_12_is_not() -> None:
    run = "a b c d e f g h i j k l m".split()
    assert len(run) == RUN_WORDS
    for before, after in (("", ""), ("x y", "z"), ("x " * 500, " z" * 500)):
        text = f"{before} {' '.join(run)} {after}"
        assert shares(" ".join(run), text)
        assert shares(text, f"other words {' '.join(run)} and others")
        for missing in (0, RUN_WORDS - 1):
            twelve = " ".join(run[:missing] + run[missing + 1 :])
            assert not shares(f"1 2 {twelve} 3 4", f"5 6 {twelve} 7 8")


@pytest.mark.parametrize(
    "text",
    [
        RUN.upper(),
        RUN.replace(" ", "\n"),
        RUN.replace(" ", ", "),
        "“" + RUN.replace(" ", " – ") + "”!",
        RUN.replace("0.002", "0·002"),
    ],
)
def test_shared_runs_ignore_case_and_punctuation(text: str) -> None:
    assert shares(RUN, text)


@pytest.mark.parametrize(
    "text",
    [
        " ".join(reversed(RUN.split())),
        " ".join([*RUN.split()[1:], "the"]),
        RUN.replace("mean", "median"),
        RUN.replace("31", "32"),
        "",
        "...",
    ],
)
def test_shared_runs_need_the_same_words_in_order(text: str) -> None:
    assert not shares(RUN, text)
    assert not shares(text, RUN)


def test_an_empty_index_matches_no_text(tmp_path: Path) -> None:
    for held_out in ([], ["too short"]):
        index = RunIndex(held([("test", text, "") for text in held_out]).postings().runs)
        assert not len(index.find(text_runs(RUN)))
        index.save(tmp_path / "runs")
        assert not len(RunIndex.open(tmp_path / "runs").find(text_runs(RUN)))
    assert text_runs("too short").shape == (0,)


def slow_runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + RUN_WORDS]) for i in range(len(words) - RUN_WORDS + 1)}


def test_the_index_agrees_with_sets_of_words_on_random_texts(tmp_path: Path) -> None:
    rng = random.Random(13)
    alphabet = ["pain", "Pain,", "β", "µg", "0.05", "no", "(no)", "患者"]
    found = []
    for _ in range(300):
        # Few words in use make runs repeat within a text and between two; many hardly ever.
        letters = rng.sample(alphabet, rng.choice([1, 1, 2, 3, 8]))
        texts = [" ".join(rng.choices(letters, k=rng.randrange(60))) for _ in range(4)]
        index = RunIndex(held([("val", text, "") for text in texts[:3]]).postings().runs)
        index.save(tmp_path / "runs")
        wanted = len(slow_runs(texts[3]) & set().union(*map(slow_runs, texts[:3])))
        assert len(index.find(text_runs(texts[3]))) == wanted, texts
        assert len(RunIndex.open(tmp_path / "runs").find(text_runs(texts[3]))) == wanted
        assert len(np.unique(text_runs(texts[3]))) == len(slow_runs(texts[3]))
        found.append(wanted > 0)
    assert 0.2 < np.mean(found) < 0.8


# Copies


def held(records: list[tuple[str, str, str]]) -> HeldOut:
    """Collect held-out records, given as (split, context, target)."""
    found = HeldOut()
    for split, context, target in records:
        found.add(split, as_record(context, target))
    return found


def as_record(context: str, target: str) -> Record:
    sections = (("TEXT", context),)
    return Record(id="r", question="", sections=sections, long_answer=target or None)


def copies(
    held_out: list[tuple[str, str, str]], training: list[tuple[str, str]]
) -> dict[str, dict[int, Measure]]:
    postings = held(held_out).postings()
    index, found = RunIndex(postings.runs), SharedRuns(postings)
    for place, (context, target) in enumerate(training):
        found.see(place, index.find(text_runs(as_record(context, target).full_text())))
    return found.copies()


def slow_copies(
    held_out: list[tuple[str, str, str]], training: list[tuple[str, str]]
) -> dict[str, dict[int, Measure]]:
    """The same by sets of words, one pair of records at a time."""
    train = [slow_runs(f"{context} {target}") for context, target in training]
    theirs = [(split, slow_runs(f"{a} {b}"), slow_runs(b)) for split, a, b in held_out]
    holders = Counter(run for runs in [*train, *(runs for _, runs, _ in theirs)] for run in runs)
    found: dict[str, dict[int, Measure]] = {}
    for place, own in enumerate(train):
        worth = {
            run: 1 / max(n - (run in own), 1) if n <= COMMON else 0.0 for run, n in holders.items()
        }
        for split, whole, target in theirs:
            parts: list[tuple[Measure, set[tuple[str, ...]], float]]
            parts = [("whole", whole, 0.2), ("target", target, 0.5)]
            for measure, part, enough in parts:
                shared = sum(worth[run] for run in part & own)
                if shared / (sum(worth[run] for run in part) + 1) > enough + 1e-9:
                    best = found.setdefault(split, {})
                    best[place] = "target" if best.get(place) == "target" else measure
    return found


def words(rng: random.Random, n: int) -> str:
    return " ".join(make_text(rng, n))


TEMPLATE = " ".join(f"template{number}" for number in range(40))


def test_copies_are_found_and_templates_are_not() -> None:
    rng = random.Random(20)
    notes = [(f"{TEMPLATE} {words(rng, 60)}", words(rng, 25)) for _ in range(40)]
    held_out = [("test", *notes[0]), ("val", *notes[1])]
    context, target = notes[0]
    middle = context.split()[70:80]
    half = " ".join(context.split()[:70])
    planted: dict[str, tuple[str, str]] = {
        "whole": notes[0],
        "one sentence changed": (context.replace(" ".join(middle), words(rng, 10)), target),
        "another header": (f"{words(rng, 30)} {context.removeprefix(TEMPLATE)}", target),
        "only the target": (words(rng, 200), target),
        "only the context": (context, words(rng, 25)),
        "truncated": (half, ""),
    }
    training = [*notes[2:], *planted.values()]
    found = copies(held_out, training)
    assert found.keys() == {"test"}
    wanted = dict(zip(planted, ["target"] * 4 + ["whole"] * 2, strict=True))
    assert {name: found["test"].get(38 + n) for n, name in enumerate(planted)} == wanted
    assert found["test"].keys() == set(range(38, 44))  # no other record, though all share 40 words


@pytest.mark.slow
@pytest.mark.parametrize(("name", "one_changed"), [(INDIANA, 0.85), (ACI_BENCH, 1.0)])
def test_copies_planted_into_real_records_are_found(name: str, one_changed: float) -> None:
    with gzip.open(shared_file(name), "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    rng = random.Random(24)
    rng.shuffle(rows)
    pairs = [(row["input"], row["target"]) for row in rows]
    n = len(pairs) // 10
    held_out = [("test", *pair) for pair in pairs[:n]]
    training = pairs[n:]

    def one_sentence_changed(text: str) -> str:
        sentences = re.split(r"(?<=[.?!])\s|\n", text)
        sentences[rng.randrange(len(sentences))] = rng.choice(training)[0][:60]
        return " ".join(sentences)

    victims = rng.sample(pairs[:n], min(n, 60))
    kinds = {
        "whole": victims,
        "header": [(f"ST MARY HOSPITAL {words(rng, 20)}\n{a}", b) for a, b in victims],
        "sentence": [(one_sentence_changed(a), b) for a, b in victims],
    }
    found = {}
    for kind, planted in {"none": [], **kinds}.items():
        all_training = [*training, *planted]
        texts = [f"{a} {b}" for a, b in [*pairs[:n], *all_training]]
        near = collect(texts, "e" * n + "t" * len(all_training)).like("test", "train")
        shared = copies(held_out, all_training).get("test", {})
        found[kind] = {*shared, *(place - n for place in near)}
    assert len(found["none"]) <= 0.05 * len(training)
    shares = {
        kind: sum(len(training) + i in found[kind] for i in range(len(victims))) / len(victims)
        for kind in kinds
    }
    assert shares["whole"] == shares["header"] == 1
    assert shares["sentence"] >= one_changed, shares


def test_many_copies_of_one_text_do_not_make_it_common() -> None:
    rng = random.Random(21)
    own = words(rng, 100)
    training = [(f"{words(rng, 20)} {own}", "") for _ in range(50)]
    assert len(copies([("test", own, "")], training[:49])["test"]) == 49
    assert copies([("test", own, "")], training) == {}  # 51 holders in all, from the first on


def test_what_more_than_50_records_hold_is_no_part_of_a_records_own_text() -> None:
    rng = random.Random(25)
    form, own = words(rng, 3000), words(rng, 20)
    training = [(f"{form} {words(rng, 20)}", "") for _ in range(50)] + [(own, "")]
    found = copies([("test", f"{form} {own}", "")], training)
    assert found == {"test": {50: "whole"}}


def test_a_short_target_alone_is_not_a_copy() -> None:
    rng = random.Random(22)
    for n, wanted in ((5, False), (RUN_WORDS, False), (RUN_WORDS + 1, True)):
        target = words(rng, n)
        found = copies([("test", words(rng, 80), target)], [(words(rng, 80), target)])
        assert bool(found) == wanted, n


def test_verdicts_agree_with_sets_of_words_on_random_records() -> None:
    rng = random.Random(23)
    reasons = Counter[str]()
    for _ in range(60):
        passages = [words(rng, rng.choice([5, 20, 40])) for _ in range(8)]

        def text(passages: list[str] = passages) -> str:
            some = [*rng.choices(passages, k=rng.randrange(4)), words(rng, rng.randrange(20))]
            return " ".join(rng.sample(some, len(some)))

        held_out = [(rng.choice(["val", "test"]), text(), text()) for _ in range(rng.randrange(9))]
        training = [(text(), text()) for _ in range(rng.choice([3, 20, 80]))]
        wanted = slow_copies(held_out, training)
        assert copies(held_out, training) == wanted
        reasons.update(reason for found in wanted.values() for reason in found.values())
    assert min(reasons["target"], reasons["whole"]) > 30, reasons


def test_phrases_join_neighbouring_runs_that_many_records_hold() -> None:
    runs = text_runs("A heading: " + TEMPLATE).tolist()
    holders = dict.fromkeys(runs, 50) | dict.fromkeys(text_runs(RUN).tolist(), 5)
    text = f"New. {TEMPLATE}, and 1 2 3 4 5 6 7 8 9 10 11 12 13. {RUN}"
    assert [(n, text[a:b]) for n, a, b in phrases(text, holders)] == [(50, TEMPLATE), (5, RUN[:-1])]
    assert holders == dict.fromkeys(runs[:2], 50)
    assert not list(phrases(text, holders)) and not list(phrases("short", holders))


# Equal and nearly equal texts

VOCABULARY = [f"word{number}" for number in range(5000)]


def make_text(rng: random.Random, n: int = 200) -> list[str]:
    return rng.choices(VOCABULARY, k=n)


def similarity(one: list[str], other: list[str]) -> float:
    """Return the exact Jaccard similarity of the sets of five-word runs."""
    sets = [
        {tuple(text[i : i + SHINGLE_WORDS]) for i in range(len(text) - 4)} for text in (one, other)
    ]
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
    # The mean of 64 draws has a standard deviation of at most 1/16.
    assert np.abs(errors).max() < 0.25
    assert abs(np.mean(errors)) < 0.03


@pytest.mark.parametrize("text", ["THE pain, (fell).", "the pain fell", "The Pain\nFELL!"])
def test_hashes_ignore_case_and_punctuation(text: str) -> None:
    assert text_hash(text) == text_hash("the pain fell") != text_hash("the pain rose")
    assert (signature(text) == signature("the pain fell")).all()


def test_long_texts_are_hashed_in_blocks() -> None:
    words = make_text(random.Random(2), 3 * SHINGLES_AT_ONCE)
    whole = signature(" ".join(words))
    step = SHINGLES_AT_ONCE // 2
    parts = [
        signature(" ".join(words[start : start + step + SHINGLE_WORDS - 1]))
        for start in range(0, len(words) - SHINGLE_WORDS + 1, step)
    ]
    assert (whole == np.min(parts, axis=0)).all()


def test_planted_duplicates_are_found_and_nothing_else() -> None:
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
    for number in range(200, 240):  # a third replaced: similar, but not near-duplicates
        words = texts[number].split()
        texts.append(" ".join(words[:140] + make_text(rng, 60)))
    found = collect(texts)
    assert found.same_text() == same
    assert found.near_text() == sorted(same + near)
    assert found.same_answer() == []


def test_groups_equal_a_comparison_of_all_pairs_in_any_order() -> None:
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


def test_texts_without_words_are_never_duplicates() -> None:
    found = collect(["", "±", "…", "", "a b", "A b"])
    assert found.same_text() == found.near_text() == [[4, 5]]
    assert collect([]).near_text() == collect([]).same_text() == []


def test_equal_answers_to_different_questions_are_grouped() -> None:
    found = Duplicates()
    for number, (text, answer) in enumerate([("q1", "Rest."), ("q2", "rest"), ("q3", None)]):
        found.add(fingerprint(text, answer), split="train", source="x", record_id=str(number))
    assert found.same_answer() == [[0, 1]]
    assert found.same_text() == []


def test_summary_counts_by_split_and_source() -> None:
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


def test_a_record_takes_272_bytes() -> None:
    found = collect([str(number) for number in range(50)])
    kept = (found._signatures, found._texts, found._answers)
    assert sum(len(memoryview(each).tobytes()) for each in kept) / 50 == 272


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_an_index_on_a_full_disk_gives_the_reason() -> None:
    index = RunIndex(np.arange(10_000, dtype=np.uint64))
    with pytest.raises(OSError, match="No space left on device") as error:
        index.save(Path("/dev/full"))
    assert error.value.errno == errno.ENOSPC
