"""Baselines: the rules by hand, BagOfWords against scikit-learn, and PubMedQA's known figures."""

import json
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from clingpt.base.errors import DataError
from clingpt.evaluation.baselines import (
    SUMMARIES,
    BagOfWords,
    Tfidf,
    closest_sentence,
    lead,
    majority_label,
    question_and_results,
    question_plus_last_sentence,
)
from clingpt.evaluation.metrics import classification, rouge
from clingpt.text.records import Record

PUBMEDQA = Path(__file__).parents[3] / "shared" / "data" / "pubmedqa"

RECORD = Record(
    id="1",
    question="Does rest help a sore knee?",
    sections=(
        ("AIM", "Knees hurt. We asked why"),
        ("KEY RESULTS", "Rest did help 9 of 10. A sore knee needs rest."),
        ("FINDINGS", "None."),
    ),
)
BARE = Record(id="2", question="Why?", sections=())


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["no", "no", "yes"], "no"),
        (["maybe", "no", "no", "maybe"], "no"),
        (["maybe", "yes"], "yes"),
        (["maybe"], "maybe"),
    ],
)
def test_majority_label(labels: list[str], expected: str) -> None:
    assert majority_label(labels) == expected


def test_no_labels_are_refused() -> None:
    with pytest.raises(DataError, match="no training labels"):
        majority_label([])


def test_copied_summaries() -> None:
    assert lead(RECORD) == "Knees hurt. We asked why Rest did help 9 of 10."
    assert lead(RECORD, sentences=1) == "Knees hurt."
    assert question_plus_last_sentence(RECORD) == "Does rest help a sore knee? None."
    assert closest_sentence(RECORD) == "A sore knee needs rest."
    assert question_and_results(RECORD) == (
        "Does rest help a sore knee? Rest did help 9 of 10. A sore knee needs rest. None."
    )


def test_copied_summaries_of_a_bare_record() -> None:
    assert {name: copy(BARE) for name, copy in SUMMARIES.items()} == {
        "lead-1": "",
        "lead-3": "",
        "question": "Why?",
        "question + last sentence": "Why?",
        "closest sentence": "",
    }


def toy_texts(n: int, *, seed: int, labels: list[str]) -> tuple[list[str], list[str]]:
    """Sentences of common words, one in ten of which leans to the label."""
    rng = Random(seed)
    common = [f"word{i}" for i in range(60)]
    texts, answers = [], []
    for _ in range(n):
        label = rng.choice(labels)
        leaning = [f"{label}{i}" for i in range(5)]
        words = [rng.choice(leaning if rng.random() < 0.1 else common) for _ in range(15)]
        texts.append(" ".join(words).title() + ".")
        answers.append(label)
    return texts, answers


def vectorizer() -> TfidfVectorizer:
    return TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)


def scikit_learn_predictions(
    texts: list[str], labels: list[str], new: list[str], *, c: float, balanced: bool
) -> list[str]:
    features = vectorizer()
    model = LogisticRegression(C=c, class_weight="balanced" if balanced else None, tol=1e-6)
    model.max_iter = 5000
    model.fit(features.fit_transform(texts), labels)
    return [str(label) for label in model.predict(features.transform(new))]


def test_tfidf_equals_scikit_learn() -> None:
    texts, _ = toy_texts(40, seed=0, labels=["a", "b"])
    new = [*texts[:3], "word1 word1 word2 unseen", "unseen", ""]
    theirs = vectorizer()
    theirs.fit(texts)
    ours = Tfidf.learn(texts)
    assert list(ours.column_of) == list(theirs.get_feature_names_out())
    sparse = ours.transform(new)
    dense = np.zeros(sparse.shape)
    dense[sparse.rows, sparse.columns] = sparse.values
    np.testing.assert_allclose(dense, theirs.transform(new).toarray(), atol=1e-12)


@pytest.mark.parametrize("labels", [["yes", "no", "maybe"], ["yes", "no"]])
@pytest.mark.parametrize(("c", "balanced"), [(1.0, False), (10.0, False), (1.0, True)])
def test_bag_of_words_equals_scikit_learn(labels: list[str], c: float, balanced: bool) -> None:
    texts, answers = toy_texts(300, seed=1, labels=[labels[0], *labels])
    new, truth = toy_texts(300, seed=2, labels=labels)
    ours = BagOfWords.fit(texts, answers, c=c, balanced=balanced).predict(new)
    theirs = scikit_learn_predictions(texts, answers, new, c=c, balanced=balanced)
    assert agreement(ours, theirs) >= 0.97
    assert agreement(ours, truth) > 1.2 / len(labels)  # it learns, and not one label only
    assert set(ours) == set(labels)


def test_two_fits_are_equal_to_the_bit() -> None:
    texts, answers = toy_texts(50, seed=3, labels=["yes", "no"])
    first, second = BagOfWords.fit(texts, answers), BagOfWords.fit(texts, answers)
    assert first.weights.tobytes() == second.weights.tobytes()


def test_without_shared_words_the_commonest_label_wins() -> None:
    model = BagOfWords.fit(["alpha", "beta", "gamma"], ["no", "no", "yes"])
    assert model.predict(["delta", ""]) == ["no", "no"]


def test_a_single_label_is_always_predicted() -> None:
    assert BagOfWords.fit(["one two", "one"], ["yes", "yes"]).predict(["two"]) == ["yes"]


@pytest.mark.parametrize(("texts", "labels"), [([], []), (["a"], ["yes", "no"])])
def test_bag_of_words_refuses(texts: list[str], labels: list[str]) -> None:
    with pytest.raises(DataError, match="give one label a text"):
        BagOfWords.fit(texts, labels)


def agreement(first: list[str], second: list[str]) -> float:
    return sum(a == b for a, b in zip(first, second, strict=True)) / len(first)


@cache
def pubmedqa() -> tuple[list[Record], list[Record]]:
    """The official test, and the other 500; skips where the data are not at hand."""
    if not (PUBMEDQA / "ori_pqal.json").exists():
        pytest.skip(f"no PubMedQA in {PUBMEDQA}")
    items = json.loads((PUBMEDQA / "ori_pqal.json").read_text())
    test_ids = json.loads((PUBMEDQA / "test_ground_truth.json").read_text())
    records = {name: pubmedqa_record(name, item) for name, item in items.items()}
    rest = [record for name, record in records.items() if name not in test_ids]
    return [records[name] for name in test_ids], rest


def pubmedqa_record(name: str, item: dict[str, list[str] | str]) -> Record:
    sections = zip(item["LABELS"], (" ".join(t.split()) for t in item["CONTEXTS"]), strict=True)
    return Record(
        id=name,
        question=" ".join(str(item["QUESTION"]).split()),
        sections=tuple(sections),
        long_answer=" ".join(str(item["LONG_ANSWER"]).split()),
        decision=str(item["final_decision"]),
    )


@pytest.mark.parametrize(
    ("name", "r1", "r2", "rl"),
    [  # measured with another splitter, which shifts them by some tenths
        ("lead-1", 27.5, 8.6, 20.1),
        ("lead-3", 31.2, 10.3, 20.0),
        ("closest sentence", 31.4, 11.2, 22.7),
        ("question", 27.9, 11.9, 22.1),
        ("question + last sentence", 31.5, 11.3, 21.5),
    ],
)
def test_rouge_of_copied_summaries(name: str, r1: float, r2: float, rl: float) -> None:
    test, _ = pubmedqa()
    copies = [SUMMARIES[name](record) for record in test]
    scores = rouge(copies, [record.long_answer or "" for record in test])
    assert (scores.rouge1, scores.rouge2, scores.rougeL) == pytest.approx((r1, r2, rl), abs=0.3)


@pytest.mark.parametrize(
    ("only_question", "balanced", "accuracy", "macro_f1"),
    [(True, False, 54.6, 32.2), (False, True, 58.3, 42.6)],
)
def test_bag_of_words_on_pubmedqa(
    only_question: bool, balanced: bool, accuracy: float, macro_f1: float
) -> None:
    test, rest = pubmedqa()
    train = Random(0).sample(rest, 450)  # as many as an official fold trains on

    def source(record: Record) -> str:
        return record.question if only_question else question_and_results(record)

    texts, answers = [source(r) for r in train], [r.decision or "" for r in train]
    new, gold = [source(r) for r in test], [r.decision or "" for r in test]
    ours = BagOfWords.fit(texts, answers, balanced=balanced).predict(new)
    theirs = scikit_learn_predictions(texts, answers, new, c=1.0, balanced=balanced)
    scores = classification(gold, ours)
    assert agreement(ours, theirs) >= 0.97
    assert (100 * scores.accuracy, 100 * scores.macro_f1) == pytest.approx(
        (accuracy, macro_f1), abs=3.0
    )


def test_majority_label_on_pubmedqa() -> None:
    test, rest = pubmedqa()
    label = majority_label([record.decision or "" for record in rest])
    scores = classification([record.decision or "" for record in test], [label] * len(test))
    assert scores.accuracy == 0.552
    assert 100 * scores.macro_f1 == pytest.approx(23.71, abs=0.005)
