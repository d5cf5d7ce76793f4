"""Shared runs of 13 words: found where they are, and only there."""

import random
import re
from pathlib import Path

import numpy as np
import pytest

from clingpt.data.ngrams import N_WORDS, NgramIndex, ngram_hashes

RUN = "the mean pain score fell by 31 points in group (P = 0.002)"  # 0 and 002 are two words


def shares(indexed: str, text: str) -> bool:
    return NgramIndex([ngram_hashes(indexed)]).shares(ngram_hashes(text))


def test_a_planted_run_is_found_and_a_shorter_one_is_not() -> None:
    run = "a b c d e f g h i j k l m".split()
    assert len(run) == N_WORDS
    for before, after in (("", ""), ("x y", "z"), ("x " * 500, " z" * 500)):
        text = f"{before} {' '.join(run)} {after}"
        assert shares(" ".join(run), text)
        assert shares(text, f"other words {' '.join(run)} and others")
        for missing in (0, N_WORDS - 1):
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
def test_case_and_punctuation_do_not_count(text: str) -> None:
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
def test_order_and_words_count(text: str) -> None:
    assert not shares(RUN, text)
    assert not shares(text, RUN)


def test_an_empty_index_shares_nothing(tmp_path: Path) -> None:
    for index in (NgramIndex([]), NgramIndex([ngram_hashes("too short")])):
        assert not index.shares(ngram_hashes(RUN))
        index.save(tmp_path / "grams")
        assert not NgramIndex.open(tmp_path / "grams").shares(ngram_hashes(RUN))
    assert ngram_hashes("too short").shape == (0,)


def slow_runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + N_WORDS]) for i in range(len(words) - N_WORDS + 1)}


def test_equal_to_plain_sets_on_random_texts(tmp_path: Path) -> None:
    rng = random.Random(13)
    alphabet = ["pain", "Pain,", "β", "µg", "0.05", "no", "(no)", "患者"]
    verdicts = []
    for _ in range(300):
        # Few words in use make runs repeat within a text and between two; many hardly ever.
        letters = rng.sample(alphabet, rng.choice([1, 1, 2, 3, 8]))
        texts = [" ".join(rng.choices(letters, k=rng.randrange(60))) for _ in range(4)]
        index = NgramIndex(map(ngram_hashes, texts[:3]))
        index.save(tmp_path / "grams")
        wanted = bool(slow_runs(texts[3]) & set().union(*map(slow_runs, texts[:3])))
        assert index.shares(ngram_hashes(texts[3])) == wanted, texts
        assert NgramIndex.open(tmp_path / "grams").shares(ngram_hashes(texts[3])) == wanted
        assert len(np.unique(ngram_hashes(texts[3]))) == len(slow_runs(texts[3]))
        verdicts.append(wanted)
    assert 0.2 < np.mean(verdicts) < 0.8
