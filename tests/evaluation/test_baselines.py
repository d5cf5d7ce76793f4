"""Baselines: rules by hand, BagOfWords against its formulas, and the documented figures."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray

import prepare
from clingpt.base.errors import DataError
from clingpt.data.prepared import Prepared, official_folds, open_prepared
from clingpt.data.synthetic import iter_records
from clingpt.evaluation import baselines
from clingpt.evaluation.baselines import (
    SUMMARIES,
    BagOfWords,
    CommonAnswers,
    TrainingExamples,
    answer_key,
    closest_sentence,
    evidence_of,
    fit_tfidf,
    lead,
    majority_label,
    nearest,
    question_and_results,
    question_plus_last_sentence,
)
from clingpt.evaluation.metrics import classification, rouge
from clingpt.text.records import N_FOLDS, SPLITS, Record
from clingpt.text.tasks import prompt_text
from clingpt.text.tokenizer import Tokenizer
from tests.helpers.commands import exit_status
from tests.helpers.shared import INDIANA, PUBMEDQA, PUBMEDQA_TRUTH, official_items, shared_file

GPT2 = Tokenizer.load()

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
def test_majority_label_breaks_ties_by_label_order(labels: list[str], expected: str) -> None:
    assert majority_label(labels) == expected


def test_majority_label_refuses_an_empty_list() -> None:
    with pytest.raises(DataError, match="the training records have no labels"):
        majority_label([])


def test_baseline_summaries_are_copied_from_the_record() -> None:
    assert lead(RECORD) == "Knees hurt. We asked why Rest did help 9 of 10."
    assert lead(RECORD, sentences=1) == "Knees hurt."
    assert question_plus_last_sentence(RECORD) == "Does rest help a sore knee? None."
    assert closest_sentence(RECORD) == "A sore knee needs rest."
    assert question_and_results(RECORD) == (
        "Does rest help a sore knee? Rest did help 9 of 10. A sore knee needs rest. None."
    )


def test_a_bag_of_words_sees_the_whole_context_unless_most_records_have_results() -> None:
    """With the question alone, the baseline would know less than the model beside it."""
    plain = replace(RECORD, sections=(("TEXT", "Doses fell."), ("", "Pain rose.")))
    both = f"{RECORD.question} Doses fell. Pain rose."
    assert evidence_of([plain, plain, RECORD])(plain) == both
    assert evidence_of([plain, RECORD, RECORD])(RECORD) == question_and_results(RECORD)


def test_a_record_without_context_has_no_baseline_summaries() -> None:
    assert {name: copy(BARE) for name, copy in SUMMARIES.items()} == {
        "lead-1": "",
        "lead-3": "",
        "question": "Why?",
        "question + last sentence": "Why?",
        "closest sentence": "",
    }


def toy_texts(n: int, *, seed: int, labels: list[str]) -> tuple[list[str], list[str]]:
    """Make sentences in which one word in ten depends on the label."""
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


def terms(text: str) -> list[str]:
    """Words of two characters or more, lower-cased, and pairs of neighbours."""
    words = re.findall(r"\w\w+", text.lower())
    return words + [" ".join(pair) for pair in pairwise(words)]


def slow_tfidf(train: list[str], texts: list[str]) -> NDArray[np.float64]:
    """TF-IDF by its definition: (1 + ln tf) · (1 + ln((1 + N) / (1 + df))), rows of length 1."""
    found = Counter(term for text in train for term in set(terms(text)))
    kept = sorted(term for term, n in found.items() if n >= 2)
    rows = np.zeros((len(texts), len(kept)))
    for row, text in zip(rows, texts, strict=True):
        counts = Counter(terms(text))
        for i, term in enumerate(kept):
            if counts[term]:
                idf = 1 + math.log((1 + len(train)) / (1 + found[term]))
                row[i] = (1 + math.log(counts[term])) * idf
        row /= np.linalg.norm(row) or 1
    return rows


def test_tfidf_is_computed_by_its_definition() -> None:
    texts, _ = toy_texts(40, seed=0, labels=["a", "b"])
    new = [*texts[:3], "word1 word1 word2 unseen", "unseen", ""]
    fitted = fit_tfidf(texts)
    assert fitted is not None
    vectorizer, matrix = fitted
    np.testing.assert_allclose(matrix.toarray(), slow_tfidf(texts, texts), atol=1e-12)
    ours = vectorizer.transform(new).toarray()
    np.testing.assert_allclose(ours, slow_tfidf(texts, new), atol=1e-12)


@pytest.mark.parametrize("texts", [[], ["one two"], ["one two", "three"], ["a", "a"]])
def test_texts_without_a_shared_term_have_no_tfidf(texts: list[str]) -> None:
    assert fit_tfidf(texts) is None


@pytest.mark.parametrize("labels", [["yes", "no", "maybe"], ["yes", "no"]])
@pytest.mark.parametrize(("c", "balanced"), [(1.0, False), (10.0, False), (1.0, True)])
def test_bag_of_words_minimises_its_objective(labels: list[str], c: float, balanced: bool) -> None:
    """c · Σ weighted log losses + ½‖W‖² has a gradient of 0, computed here from its formula."""
    texts, answers = toy_texts(300, seed=1, labels=[labels[0], *labels])
    new, truth = toy_texts(300, seed=2, labels=labels)
    model = BagOfWords.fit(texts, answers, c=c, balanced=balanced)
    features, known = slow_tfidf(texts, texts), sorted(labels)
    counts = Counter(answers)
    weights = np.array([300 / len(known) / counts[x] if balanced else 1.0 for x in answers])
    target = np.array([[x == label for label in known] for x in answers], dtype=float)
    scores = features @ model.classifier.coef_.T + model.classifier.intercept_
    if len(known) == 2:  # one column, of the second label against the first
        scores, target = np.hstack([np.zeros_like(scores), scores]), target
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    errors = ((shares - target) * weights[:, None])[:, -len(model.classifier.coef_) :]
    gradient = c * errors.T @ features + model.classifier.coef_
    assert np.abs(gradient).max() < 2e-6 * c * weights.sum()
    assert np.abs(errors.sum(axis=0)).max() < 2e-6 * weights.sum()  # the intercepts are free
    ours = model.predict(new)
    best = slow_tfidf(texts, new) @ model.classifier.coef_.T + model.classifier.intercept_
    if len(known) == 2:
        best = np.hstack([np.zeros_like(best), best])
    assert ours == [known[i] for i in best.argmax(axis=1)]
    assert agreement(ours, truth) > 1.2 / len(labels)  # it learns more than the majority
    assert set(ours) == set(labels)


def test_two_fits_are_equal_to_the_bit() -> None:
    texts, answers = toy_texts(50, seed=3, labels=["yes", "no"])
    first, second = BagOfWords.fit(texts, answers), BagOfWords.fit(texts, answers)
    assert first.classifier.coef_.tobytes() == second.classifier.coef_.tobytes()


def test_bag_of_words_without_shared_terms_predicts_the_majority() -> None:
    model = BagOfWords.fit(["alpha", "beta", "gamma"], ["no", "no", "yes"])
    assert model.predict(["delta", ""]) == ["no", "no"]


def test_bag_of_words_with_a_single_label_always_predicts_it() -> None:
    assert BagOfWords.fit(["one two", "one"], ["yes", "yes"]).predict(["two"]) == ["yes"]


@pytest.mark.parametrize(("texts", "labels"), [([], []), (["a"], ["yes", "no"])])
def test_bag_of_words_refuses_unpaired_labels(texts: list[str], labels: list[str]) -> None:
    with pytest.raises(DataError, match="pass one label per text"):
        BagOfWords.fit(texts, labels)


def agreement(first: list[str], second: list[str]) -> float:
    return sum(a == b for a, b in zip(first, second, strict=True)) / len(first)


@cache
def pubmedqa() -> tuple[list[Record], list[Record]]:
    """Return the official test records and the other 500; skip if the data are not available."""
    items = official_items(shared_file(PUBMEDQA))
    test_ids = json.loads(shared_file(PUBMEDQA_TRUTH).read_text())
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
    [  # measured with another sentence splitter, which shifts them by a few tenths
        ("lead-1", 27.5, 8.6, 20.1),
        ("lead-3", 31.2, 10.3, 20.0),
        ("closest sentence", 31.4, 11.2, 22.7),
        ("question", 27.9, 11.9, 22.1),
        ("question + last sentence", 31.5, 11.3, 21.5),
    ],
)
def test_copied_summaries_have_the_expected_rouge(
    name: str, r1: float, r2: float, rl: float
) -> None:
    test, _ = pubmedqa()
    copies = [SUMMARIES[name](record) for record in test]
    scores = rouge(copies, [record.long_answer or "" for record in test])
    assert (scores.rouge1, scores.rouge2, scores.rougeL) == pytest.approx((r1, r2, rl), abs=0.3)


@pytest.mark.parametrize(
    ("only_question", "balanced", "accuracy", "macro_f1"),
    [(True, False, 54.6, 32.2), (False, True, 58.3, 42.6)],
)
def test_bag_of_words_scores_as_expected_on_pubmedqa(
    only_question: bool, balanced: bool, accuracy: float, macro_f1: float
) -> None:
    test, rest = pubmedqa()
    train = Random(0).sample(rest, 450)  # as many as an official fold trains on

    def source(record: Record) -> str:
        return record.question if only_question else question_and_results(record)

    texts, answers = [source(r) for r in train], [r.decision or "" for r in train]
    new, gold = [source(r) for r in test], [r.decision or "" for r in test]
    scores = classification(gold, BagOfWords.fit(texts, answers, balanced=balanced).predict(new))
    assert (100 * scores.accuracy, 100 * scores.macro_f1) == pytest.approx(
        (accuracy, macro_f1), abs=3.0
    )


@pytest.mark.parametrize(
    ("only_question", "balanced", "accuracy", "macro_f1"),
    [(True, False, 54.6, 32.1), (False, True, 58.3, 42.8)],
)
def test_bag_of_words_scores_as_expected_over_the_ten_official_folds(
    only_question: bool, balanced: bool, accuracy: float, macro_f1: float
) -> None:
    """The means of docs/results.md, to the digit."""
    test, rest = pubmedqa()
    folds = official_folds([record.id for record in rest])
    assert folds is not None

    def source(record: Record) -> str:
        return record.question if only_question else question_and_results(record)

    found = []
    for k in range(N_FOLDS):
        train = [record for record, fold in zip(rest, folds, strict=True) if fold != k]
        labels = [record.decision or "" for record in train]
        model = BagOfWords.fit([source(record) for record in train], labels, balanced=balanced)
        said = model.predict([source(record) for record in test])
        scores = classification([record.decision or "" for record in test], said)
        found.append((100 * scores.accuracy, 100 * scores.macro_f1))
    assert [round(mean, 1) for mean in np.mean(found, axis=0)] == [accuracy, macro_f1]


@pytest.mark.parametrize(
    ("only_question", "balanced", "accuracy"), [(True, False, 39.3), (False, True, 89.0)]
)
def test_bag_of_words_scores_as_expected_on_the_quickstart(
    only_question: bool, balanced: bool, accuracy: float
) -> None:
    """The figures of docs/results.md, to the digit."""
    train = list(iter_records("train", count=24_000, seed=1337))
    train = [train[place * 24_000 // 5000] for place in range(5000)]
    test = list(iter_records("test", count=300, seed=1337))

    def source(record: Record) -> str:
        return record.question if only_question else question_and_results(record)

    labels = [record.decision or "" for record in train]
    model = BagOfWords.fit([source(record) for record in train], labels, balanced=balanced)
    said = model.predict([source(record) for record in test])
    scores = classification([record.decision or "" for record in test], said)
    assert round(100 * scores.accuracy, 1) == accuracy


def test_majority_label_scores_as_expected_on_pubmedqa() -> None:
    test, rest = pubmedqa()
    label = majority_label([record.decision or "" for record in rest])
    scores = classification([record.decision or "" for record in test], [label] * len(test))
    assert scores.accuracy == 0.552
    assert 100 * scores.macro_f1 == pytest.approx(23.71, abs=0.005)


# Answers of the training split

QUESTION_KINDS = ("symptoms", "causes", "treatments")
NAMES = ("asthma", "gout", "measles", "scurvy", "rickets")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("nearest")
    rows = (
        {"id": f"{kind} {name}", "question": f"What are the {kind} of {name}?"}
        | {"long_answer": f"{kind.title()} of {name} are listed here."}
        for kind in QUESTION_KINDS
        for name in NAMES
    )
    return prepare_rows(folder, rows, "--tasks", "explain", "text")


def prepare_rows(folder: Path, rows: Iterable[dict[str, str]], *flags: str) -> Prepared:
    """Prepare rows as training data only."""
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = [f"--source={path}", f"--out={folder / 'data'}", "--show=0"]
    common += ["--val_share=0", "--test_share=0"]
    assert exit_status(prepare.main, *common, *flags) == 0
    return open_prepared(folder / "data", GPT2)


def test_the_answer_of_the_nearest_training_record_is_found(data: Prepared) -> None:
    examples = TrainingExamples.read(data, GPT2, "explain")
    assert len(examples) == len(QUESTION_KINDS) * len(NAMES)  # examples of `text` do not count
    pairs = [(kind, name) for kind in QUESTION_KINDS for name in NAMES]
    asked = [f"Which {kind} of {name}, and what are they?" for kind, name in pairs]
    found = [examples.answer(n) for n in nearest(len(examples), examples.prompt, asked)]
    assert found == [f"{kind.title()} of {name} are listed here." for kind, name in pairs]
    # A question that shares no term gets the first answer, not an error.
    assert nearest(len(examples), examples.prompt, ["Wherefore?"]) == [0]
    assert nearest(len(examples), examples.prompt, []) == []


def test_a_task_without_training_examples_has_no_answers(tmp_path: Path) -> None:
    data = prepare_rows(tmp_path, [{"id": "a", "text": "A text."}], "--task=text")
    assert len(TrainingExamples.read(data, GPT2, "explain")) == 0


@pytest.mark.parametrize("at_once", [7, 2_000])
def test_nearest_is_the_nearest_by_brute_force(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TF-IDF by its definition, without hashes; chunks change nothing."""
    monkeypatch.setattr(baselines, "AT_ONCE", at_once)
    monkeypatch.setattr(baselines, "QUERIES_AT_ONCE", at_once)
    train, _ = toy_texts(60, seed=4, labels=["a", "b"])
    train[50] = train[20]  # the first of two equal texts wins
    new = [train[20], *toy_texts(30, seed=5, labels=["a", "b"])[0]]
    cosines = slow_tfidf(train, new) @ slow_tfidf(train, train).T
    expected = cosines.round(6).argmax(axis=1).tolist()
    assert nearest(len(train), train.__getitem__, new) == expected
    assert expected[0] == 20 and len(set(expected)) > 10


def examples_of(folder: Path, answers: Iterable[str]) -> TrainingExamples:
    rows = ({"id": f"{n}", "text": f"T{n}.", "long_answer": x} for n, x in enumerate(answers))
    data = prepare_rows(folder, rows, "--task=summarize", "--allow_overlap=True")
    return TrainingExamples.read(data, GPT2, "summarize")


def test_commonest_answers_are_counted_without_case_and_punctuation(tmp_path: Path) -> None:
    often = ["Clear.", "No acute disease.", "no acute disease", "Stable."]
    once = [f"Finding number {n} of this record." for n in range(20)]
    common = CommonAnswers.count(
        examples_of(tmp_path, [*once, *often, "Clear!", "NO ACUTE DISEASE"])
    )
    assert common.commonest == "No acute disease."  # as it is first written
    assert common.counts[:3] == (3, 2, 1) and len(common.counts) == 10
    assert common.total == 26
    assert "No acute, disease" in common and "Clear" in common
    assert "Stable." not in common and once[0] not in common  # occurs only once
    assert answer_key("A b") != answer_key("Ab")


def test_the_order_of_the_records_does_not_decide_which_answers_are_common(tmp_path: Path) -> None:
    answers = [f"Finding {n}." for n in range(15)] * 2  # the tenth is as common as five others
    (tmp_path / "turned").mkdir()
    found = CommonAnswers.count(examples_of(tmp_path, answers))
    turned = CommonAnswers.count(examples_of(tmp_path / "turned", answers[::-1]))
    assert found == turned and len(found.keys) == 10


def test_canaries_and_repeated_records_are_not_training_answers(tmp_path: Path) -> None:
    """Sixteen copies of a canary, or one source's weight, would decide what is commonest."""
    often = [{"id": f"{n}", "text": f"T{n}.", "long_answer": "Clear."} for n in range(3)]
    once = [{"id": "x", "text": "X.", "long_answer": "Rare."}]
    for name, rows in (("often", often), ("once", once)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(text)
    mix = ["--mix", f"{tmp_path}/often.jsonl=1", f"{tmp_path}/once.jsonl=5"]
    flags = [f"--out={tmp_path / 'data'}", "--val_share=0", "--test_share=0", "--show=0"]
    flags += ["--task=summarize", "--canaries=3", "--allow_overlap=True"]
    assert exit_status(prepare.main, *mix, *flags) == 0
    data = open_prepared(tmp_path / "data", GPT2)
    assert len(data.split("train").rows_of("summarize")) == 3 + 5 + (1 + 4 + 16)
    examples = TrainingExamples.read(data, GPT2, "summarize")
    found = [examples.answer(n) for n in range(len(examples))]
    assert found == ["Clear.", "Clear.", "Clear.", "Rare."]
    assert CommonAnswers.count(examples).counts == (3, 1)


def test_views_and_bare_labels_are_not_training_answers(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "question": "Is it?", "text": "It is.", "decision": "yes"},
        {"id": "b", "question": "Was it?", "text": "It was not.", "decision": "no"}
        | {"long_answer": "It was not."},
    ]
    flags = ("--task=answer", "--views", "results", "question", "--allow_overlap=True")
    data = prepare_rows(tmp_path, rows, *flags)
    assert len(data.split("train").rows_of("answer")) > 2
    examples = TrainingExamples.read(data, GPT2, "answer")
    assert [examples.label(n) for n in range(len(examples))] == ["yes", "no"]
    assert [examples.answer(n) for n in range(len(examples))] == ["", "It was not."]
    explained = examples.with_text()
    assert [explained.answer(n) for n in range(len(explained))] == ["It was not."]
    assert explained.prompt(0) == "Context:\nTEXT: It was not.\nQuestion: Was it?\nAnswer:"


@pytest.mark.slow
def test_radiology_reports_have_their_known_baselines(tmp_path: Path) -> None:
    """The figures of docs/results.md on the validation split: R1, R2, RL."""
    folder = tmp_path / "data"
    flags = [f"--source={shared_file(INDIANA)}", f"--out={folder}", "--show=0"]
    flags += ["--task=summarize", "--allow_overlap", "--allow_phi"]
    assert exit_status(prepare.main, *flags) == 0
    data = open_prepared(folder, GPT2)
    assert [len(data.record_ids(split)) for split in SPLITS] == [2971, 156, 140]
    records = list(data.records("val"))
    wanted = [record.long_answer or "" for record in records]
    examples = TrainingExamples.read(data, GPT2, "summarize")
    asked = [prompt_text("summarize", record) for record in records]
    closest = [examples.answer(n) for n in nearest(len(examples), examples.prompt, asked)]
    constant = [CommonAnswers.count(examples).commonest] * len(records)
    for said, expected in ((constant, (42.1, 31.8, 42.1)), (closest, (66.4, 60.1, 65.6))):
        scores = rouge(said, wanted)
        found = (scores.rouge1, scores.rouge2, scores.rougeL)
        assert found == pytest.approx(expected, abs=0.1)
