"""The report: its figures, and its form as JSON."""

import json
import math
import re
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from clingpt.base.errors import DataError
from clingpt.data.prepared import (
    FolderWriter,
    Piece,
    Prepared,
    official_folds,
    official_test_ids,
    open_prepared,
)
from clingpt.data.sources import from_official_item
from clingpt.data.synthetic import iter_records
from clingpt.evaluation import metrics
from clingpt.evaluation.baselines import (
    COMMONEST,
    NEAREST,
    SUMMARIES,
    CommonAnswers,
    TrainingExamples,
    answer_key,
)
from clingpt.evaluation.bootstrap import bootstrap_mean
from clingpt.evaluation.calibration import LabelScores
from clingpt.evaluation.metrics import ROUGE_TYPES
from clingpt.evaluation.scorer import Output
from clingpt.reports import report as report_module
from clingpt.reports.comparison import figures
from clingpt.reports.report import (
    PredictedLabels,
    Report,
    TextScores,
    TextSection,
    Unsupported,
    calibration_section,
    chosen_ids,
    fit_calibration,
    label_figures,
    label_systems,
    mean_figures,
    nearest_labels,
    pasted_prompts,
    perplexity_section,
    predict_labels,
    read_scores,
    source_counts,
    text_figures,
    training_answers,
)
from clingpt.reports.tables import as_text, tables
from clingpt.text.records import LABELS, Record
from clingpt.text.tasks import TASK_TABLE, make_example, prompt_text
from clingpt.text.tokenizer import Tokenizer
from tests.helpers.reports import bare_report, corpus_bleu, full_report, typed
from tests.helpers.shared import PUBMEDQA, official_items, shared_file


@pytest.mark.parametrize("content", [full_report(), bare_report()])
def test_a_report_survives_a_round_trip_to_disk(content: dict[str, Any]) -> None:
    report = typed(content)
    assert report.to_json() == content
    assert Report.from_json(json.loads(json.dumps(report.to_json())), source="x") == report


@pytest.mark.parametrize(
    "content", [[], {}, {"format": 2}, bare_report() | {"new": 1}, bare_report() | {"data": {}}]
)
def test_a_file_that_is_not_a_report_is_refused(content: Any) -> None:
    with pytest.raises(DataError, match="old.json is not a report of this version; run eval.py"):
        Report.from_json(content, source="old.json")


def section_of(found: TextScores) -> TextSection:
    section = found.section()
    assert section is not None
    return section


def with_texts(**texts: TextSection) -> Report:
    return replace(typed(bare_report()), perplexity={}, texts=texts)


RECORD = Record(
    id="1",
    question="Does pain fall?",
    sections=(("RESULTS", "Pain fell by 31% (P < 0.05)."), ("METHODS", "A trial.")),
    long_answer="Pain fell.",
    decision="yes",
)


def test_texts_are_scored_as_a_corpus_with_copying_baselines_and_references() -> None:
    found = TextScores("summarize")
    said, wanted = ["Pain fell by 13%.", "", "Pain fell — ± µ."], ["Pain fell.", "No. Effect.", "x"]
    for text, reference in zip(said, wanted, strict=True):
        output = Output("1", "summarize", text, reference, "stop" if text else "length", 9)
        found.add(output, RECORD, None)
    section = section_of(found)
    model, copied = section.model, section.systems["lead-1"]
    assert model.bleu == corpus_bleu(said, wanted)
    assert model.rouge and model.rougeL_interval
    assert asdict(model.rouge) == pytest.approx(asdict(metrics.rouge(said, wanted)))
    assert list(section.systems)[0] == "reference" and list(section.systems)[-1] == "model"
    assert set(SUMMARIES) < set(section.systems)
    assert section.hit_the_limit == pytest.approx(1 / 3) and section.trimmed_tokens == 27
    assert model.empty == 1
    assert model.unsupported and copied.unsupported and copied.unsupported.flagged == 0
    assert model.unsupported.per_kind["number"] == pytest.approx(1 / 3)
    assert model.rougeL_interval.low <= model.rouge.rougeL <= model.rougeL_interval.high
    assert section.structure is None
    assert TextScores("answer").section() is None


def test_texts_are_compared_with_each_baseline_on_the_same_records() -> None:
    found = TextScores("summarize", {"lead-1": SUMMARIES["lead-1"]})
    wanted = ["Pain fell.", "Pain fell by 31% here.", "No effect was seen.", "Fell by 31%."]
    said = ["Pain fell.", "Pain fell.", "No effect.", "Pain fell by 31%"]
    for n, (text, reference) in enumerate(zip(said, wanted, strict=True)):
        found.add(
            Output("1", "summarize", text, reference, "stop", 0), replace(RECORD, id=f"{n}"), None
        )
    section, copied = section_of(found), "Pain fell by 31% (P < 0.05)."
    assert list(section.differences) == ["lead-1"]
    between = section.differences["lead-1"]
    own, theirs = (
        [metrics.rouge_scores(t, r) for t, r in zip(texts, wanted, strict=True)]
        for texts in (said, [copied] * 4)
    )
    gaps = np.array(own) - np.array(theirs)
    for place, kind in enumerate(ROUGE_TYPES):
        assert between[kind].value == pytest.approx(gaps[:, place].mean())
        interval = bootstrap_mean(gaps[:, place])
        ours = between[kind].interval
        assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), abs=3)
    bleu = corpus_bleu(said, wanted).score - corpus_bleu([copied] * 4, wanted).score
    assert between["bleu"].value == pytest.approx(bleu)
    rows = list(found.by_record())
    assert [row["record_id"] for row in rows] == ["0", "1", "2", "3"]
    assert rows[1] == {
        "record_id": "1",
        "task": "summarize",
        "reference": "rare",
        "rouge": {
            "lead-1": dict(zip(ROUGE_TYPES, theirs[1], strict=True)),
            "model": dict(zip(ROUGE_TYPES, own[1], strict=True)),
        },
    }


def test_labels_are_compared_with_each_fit_of_a_baseline() -> None:
    records = [replace(RECORD, id=str(n), decision=label) for n, label in enumerate(LABELS * 2)]
    gold = [record.decision or "" for record in records]
    fits = [["yes"] * 6, gold[:3] + ["yes"] * 3]
    labels = PredictedLabels(records, {"bag": fits, "model": [gold]}, ())
    section = labels.section()
    bag = section.systems["bag"]
    assert bag.accuracy == pytest.approx((2 / 6 + 4 / 6) / 2) and bag.confusion is None
    assert list(section.differences) == ["bag"]
    found = section.differences["bag"]["accuracy"]
    assert found.value == pytest.approx(1 - bag.accuracy)
    assert 0 <= found.interval.low < found.value < found.interval.high <= 1
    rows = list(labels.by_record())
    assert rows[4] == {
        "record_id": "4",
        "gold": "no",
        "labels": {"bag": ["yes", "yes"], "model": ["no"]},
    }


def common_answers(*answers: str) -> CommonAnswers:
    keys = frozenset(map(answer_key, answers))
    return CommonAnswers(commonest=answers[0], counts=(7, 3), total=30, keys=keys)


def unigram_f1(text: str, reference: str) -> float:
    """ROUGE-1 by its definition, of texts whose words have no endings to strip."""
    said, wanted = Counter(text.lower().split()), Counter(reference.lower().split())
    shared = (said & wanted).total()
    return 200 * shared / (said.total() + wanted.total())


def test_scores_are_split_by_how_common_the_reference_is() -> None:
    common = common_answers("no acute disease", "stable")
    baselines = {"lead-1": SUMMARIES["lead-1"], COMMONEST: lambda record: common.commonest}
    found = TextScores("summarize", baselines, common)
    wanted = ["No acute disease.", "small left mass", "Stable", "no old bone pain", "big left lung"]
    said = ["no acute disease", "no acute disease", "no acute disease", "no mass", "left lung big"]
    for text, reference in zip(said, wanted, strict=True):
        found.add(Output("1", "summarize", text, reference, "stop", 0), RECORD, None)
    section = section_of(found)
    assert list(section.by_reference) == ["common", "rare"]
    for kind, chosen in (("common", (0, 2)), ("rare", (1, 3, 4))):
        group = section.by_reference[kind]
        assert group.records == len(chosen)
        assert list(group.rouge) == ["lead-1", COMMONEST, "model"]
        own = [unigram_f1(said[i], wanted[i].strip(".")) for i in chosen]
        constant = [unigram_f1(common.commonest, wanted[i].strip(".")) for i in chosen]
        assert group.rouge["model"].rouge1 == pytest.approx(sum(own) / len(own))
        assert group.rouge[COMMONEST].rouge1 == pytest.approx(sum(constant) / len(constant))
    assert section.notes[1] == "commonest training answer: that of 7 of 30 training records."


@pytest.mark.parametrize(("n_common", "n_rare"), [(0, 5), (1, 10), (5, 0)])
def test_few_common_references_are_not_shown_apart(n_common: int, n_rare: int) -> None:
    found = TextScores("summarize", {}, common_answers("stable"))
    for reference in ["stable"] * n_common + ["a mass"] * n_rare:
        found.add(Output("1", "summarize", "x", reference, "stop", 0), RECORD, None)
    assert section_of(found).by_reference == {}


def test_notes_say_where_the_training_answers_come_from() -> None:
    found = TextScores("summarize", {}, replace(common_answers("a"), counts=(1, 1)))
    found.add(Output("1", "summarize", "x", "y", "stop", 0), RECORD, None)
    assert section_of(found).notes == (
        "nearest training record: the answer of the training record, among 30, whose prompt is "
        "most similar to the record's, by the TF-IDF of words and word pairs.",
        "commonest training answer: no answer occurs twice in the training split; one is shown.",
    )
    found = TextScores("summarize")
    found.add(Output("1", "summarize", "x", "y", "stop", 0), RECORD, None)
    assert section_of(found).notes == (
        "The data have no training answers for this task, so no baseline comes from them.",
    )


def test_an_answer_is_scored_without_its_label() -> None:
    found = TextScores("answer")
    reference = "yes\nExplanation: Pain fell."
    for text in ("yes\nExplanation: Pain fell.", "no\nExplanation: Pain fell."):
        found.add(Output("1", "answer", text, reference, "stop", 0), RECORD, "yes")
    assert found.agreeing == [True, False]
    model = section_of(found).model
    assert model.rouge and model.rouge.rouge1 == 100
    found.add(Output("1", "answer", "yes", "yes", "length", 9), RECORD, "yes")
    # The third reference has no explanation, so nothing of it is among figures on 2 texts.
    section = section_of(found)
    assert section.model.texts == 2 and len(found.agreeing) == 3
    assert (section.hit_the_limit, section.trimmed_prompts, section.trimmed_tokens) == (0, 0, 0)


def test_structure_of_documents_is_scored() -> None:
    copies = {name: SUMMARIES[name] for name in TASK_TABLE["document"].baselines}
    found = TextScores("document", copies)
    text = "BACKGROUND: It is.\nRESULTS: Pain fell.\nCONCLUSION: So."
    found.add(Output("1", "document", text, text, "stop", 0), RECORD, None)
    section = section_of(found)
    assert section.structure and section.structure.complete == 1
    assert list(section.systems) == ["reference", "model"]


def test_documents_with_other_headings_have_no_structure_scores() -> None:
    found, letter = TextScores("document"), "DIAGNOSIS: Pain.\n\nPLAN: 5 mg."
    own = replace(RECORD, document=letter)
    found.add(Output("1", "document", "PLAN: 9 mg.", letter, "stop", 0), own, None)
    section = section_of(found)
    assert section.structure
    assert (section.structure.documents, section.structure.unheaded) == (0, 1)
    assert section.model.rouge and 0 < section.model.rouge.rougeL < 100
    assert section.model.unsupported and section.model.unsupported.flagged == 1
    shown = as_text(tables(with_texts(document=section)))
    notes = " ".join(shown.split())
    assert "Only references with one of the headings BACKGROUND, METHODS, RESULTS" in notes
    assert "are scored. Left out: 1." in notes
    assert re.search("\n *– +– +– +–\n", shown), "a share of no documents is shown as a dash"


ALONE, TITLE = "Questions without a context", "unsupported numbers, units, comparators"


def explanations(*records: Record) -> TextSection:
    from_training = {name: lambda record: "Fell." for name in (COMMONEST, NEAREST)}
    found = TextScores("explain", SUMMARIES | from_training)
    for record in records:
        found.add(
            Output("1", "explain", "Explanation: 9 mg, by day 3.", "Fell.", "stop", 0), record, None
        )
    return section_of(found)


def test_explanation_without_a_context_is_not_compared_with_a_source() -> None:
    alone = replace(RECORD, sections=())
    section = explanations(alone, alone)
    # Without a context there is nothing for the other baselines to copy.
    assert list(section.systems) == ["reference", "question", COMMONEST, NEAREST, "model"]
    for system in section.systems.values():
        assert system.unsupported is None and system.novel_bigrams is None
    model = section.model
    assert (model.texts, model.mean_words, model.empty) == (2, 6, 0)  # no label line is cut off
    report = with_texts(explain=section)
    assert dict(figures(report)).keys() == {"explain rougeL", "explain BLEU"}
    shown = as_text(tables(report))
    assert f"{ALONE}: 2." in shown and TITLE not in shown


def test_explanations_with_and_without_a_context_are_counted_separately() -> None:
    section = explanations(RECORD, replace(RECORD, sections=()), replace(RECORD, sections=()))
    assert set(SUMMARIES) < set(section.systems)
    model = section.model
    assert model.unsupported and (model.texts, model.unsupported.texts) == (3, 1)
    assert model.unsupported.flagged == 1 and model.unsupported.flags_per_text >= 1
    assert model.novel_bigrams == 1
    shown = as_text(tables(with_texts(explain=section)))
    assert f"{ALONE}: 2." in shown and TITLE in shown
    assert ALONE not in as_text(tables(with_texts(explain=explanations(RECORD))))


def test_a_statement_without_support_in_the_source_is_counted_by_kind() -> None:
    source = "We gave 5 mg to 40 men and pain did not fall."
    outputs = [
        source,  # 2 numbers
        "We gave 6 mg to 41 men and pain did fall.",  # 2 numbers that are not in the source
        "We gave 5 g to 40 men.",  # 2 numbers, one of them with another unit
        "We gave it.",
    ]
    rows = np.array([source_counts(output, source) for output in outputs])
    assert text_figures(rows).unsupported == Unsupported(
        texts=4,
        flagged=2 / 4,
        per_kind={"number": 1 / 4, "unit": 1 / 4, "comparator": 0, "negation": 1 / 4},
        flags_per_text=4 / 4,
        unsupported_numbers=2 / 6,
    )
    unflagged = text_figures(rows[3:]).unsupported
    assert unflagged and unflagged.unsupported_numbers == 0


def test_perplexity_is_weighted_by_tokens() -> None:
    items = [
        {"nats": 20.0, "tokens": 10, "end_nats": 1.0, "ends": 1, "words": 8, "bytes": 40},
        {"nats": 60.0, "tokens": 20, "end_nats": 3.0, "ends": 1, "words": 16, "bytes": 90},
        {},
    ]
    section = perplexity_section(items)
    assert section and section.with_end and section.text.token_perplexity_interval
    assert section.text.token_perplexity == pytest.approx(math.exp(80 / 30))
    assert section.text.word_perplexity == pytest.approx(math.exp(80 / 24))
    assert section.text.bits_per_byte == pytest.approx(80 / 130 / math.log(2))
    assert section.with_end.token_perplexity == pytest.approx(math.exp(84 / 32))
    around = section.text.token_perplexity_interval
    assert (around.low, around.high) == pytest.approx((math.exp(2), math.exp(3)))
    assert perplexity_section([{}]) is None


def test_examples_are_chosen_by_their_ids_only() -> None:
    ids = [str(n) for n in range(50)]
    chosen = chosen_ids(ids, 5)
    assert len(chosen) == 5 and chosen == chosen_ids(ids[::-1], 5)
    assert chosen != set(ids[:5]) and chosen_ids(["a"], 5) == {"a"}


# Figures published for PubMedQA, checked if its data are available


@pytest.fixture(scope="module")
def official() -> dict[str, Any]:
    return official_items(shared_file(PUBMEDQA))


@pytest.mark.parametrize(
    ("key", "accuracy", "macro_f1"),
    [("reasoning_required_pred", 78.0, 72.19), ("reasoning_free_pred", 90.4, 84.18)],
)
def test_human_annotators_get_their_published_scores(
    key: str, accuracy: float, macro_f1: float, official: dict[str, Any]
) -> None:
    """The figures also agree with scikit-learn, which the official script uses."""
    from sklearn.metrics import accuracy_score, f1_score

    test = [official[name] for name in sorted(official_test_ids())]
    gold, said = [item["final_decision"] for item in test], [item[key] for item in test]
    figures = label_figures(gold, said)
    assert 100 * figures.accuracy == pytest.approx(accuracy, abs=0.05)
    assert 100 * figures.macro_f1 == pytest.approx(macro_f1, abs=0.05)
    assert figures.accuracy == pytest.approx(accuracy_score(gold, said))
    assert figures.macro_f1 == pytest.approx(f1_score(gold, said, average="macro"))


def test_baselines_get_their_known_scores(official: dict[str, Any]) -> None:
    """Majority 55.2 / 23.7; bags of words averaged over the ten official folds."""
    records = [from_official_item(pair) for pair in official.items()]
    folds = official_folds(record.id for record in records)
    assert folds is not None and official_folds(["not one"]) is None
    test = [record for record, fold in zip(records, folds, strict=True) if fold == -1]
    sets = [
        [record for record, fold in zip(records, folds, strict=True) if fold not in (-1, k)]
        for k in range(10)
    ]
    prompts = [prompt_text("answer", record) for record in test]
    looked_up = [nearest_labels(each, prompts) for each in sets]
    gold = [record.decision or "" for record in test]
    labels = label_systems(sets, test, looked_up)
    systems = {name: mean_figures(gold, fits) for name, fits in labels.items()}
    assert {name: len(fits) for name, fits in labels.items()}["majority"] == 1
    expected = {
        "majority": (55.2, 23.7, 0.05),
        "nearest training record": (47.0, 37.9, 0.3),  # accuracy 47.5 without hashing
        "question only (bag of words)": (54.6, 32.2, 1.5),
        "question and results (bag of words)": (58.3, 42.6, 1.5),
    }
    assert list(systems) == list(expected)
    for name, (accuracy, macro_f1, tolerance) in expected.items():
        found = 100 * systems[name].accuracy, 100 * systems[name].macro_f1
        assert found == pytest.approx((accuracy, macro_f1), abs=tolerance), name


def test_baselines_of_labels_learn_from_all_of_the_training_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sources, or sorted records, follow one another: the first ones can all be of one kind."""
    monkeypatch.setattr(report_module, "BASELINE_RECORDS", 10)
    tokenizer = Tokenizer.load()
    training = sorted(iter_records("train", count=60, seed=3), key=lambda r: r.decision or "")
    with FolderWriter(tmp_path / "data", tokenizer) as writer:
        for split, records in (("train", training), ("val", training[:6])):
            piece = Piece(split)
            for record in records:
                example = make_example("answer", record, tokenizer, budget=512)
                piece.add(record, [("answer", example)])
            writer.append(piece)
        writer.finish({"tasks": ["answer"]})
    data = open_prepared(tmp_path / "data", tokenizer)
    examples = TrainingExamples.read(data, tokenizer, "answer")
    found = training_answers(examples, data.record_ids("train"), at_most=10)
    assert {record.decision for record in found} == set(LABELS)
    assert {record.id for record in found} < {record.id for record in training}
    scores = {
        r.id: LabelScores(r.id, r.decision, (-1.0, -1.0, -1.0), 0) for r in data.records("val")
    }
    labels = predict_labels(data, tokenizer, "val", scores)
    assert labels is not None
    section = labels.section()
    assert "fitted on 10 of the 60 labelled training records, evenly spaced." in section.notes[0]


# Calibration


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Generated records; every fourth test record asks about a budget meeting instead."""
    folder, tokenizer = tmp_path_factory.mktemp("prepared") / "data", Tokenizer.load()
    meeting = (("", "The committee met on Tuesday and postponed the budget for new chairs."),)
    with FolderWriter(folder, tokenizer) as writer:
        for split, count in (("train", 200), ("val", 40), ("test", 40)):
            piece = Piece(split)
            for n, record in enumerate(iter_records(split, count=count, seed=3)):
                if split == "test" and n % 4 == 0:
                    record = replace(record, question="Is the moon cheese?", sections=meeting)
                example = make_example("answer", record, tokenizer, budget=512)
                piece.add(record, [("answer", example)])
            writer.append(piece)
        writer.finish({"tasks": ["answer"]})
    return open_prepared(folder, tokenizer)


def scored(data: Prepared, split: str, *, n_wrong: int) -> list[dict[str, Any]]:
    """Return what a result store has of sure labels, so many of them wrong."""
    items = []
    for n, record in enumerate(data.records(split)):
        wrong = LABELS[(LABELS.index(record.decision or "") + 1) % 3]
        label = wrong if n < n_wrong else record.decision
        log_probs = [-1e-4 if each == label else -9.9 for each in LABELS]
        items.append({"id": record.id, "gold": record.decision, "log_probs": log_probs})
    return [item | {"trimmed_tokens": 0} for item in items]


def test_calibration_of_records_without_mistakes(prepared: Prepared, tmp_path: Path) -> None:
    stored = {"labels": scored(prepared, "test", n_wrong=4)}
    stored["val_labels"] = scored(prepared, "val", n_wrong=0)
    parts = mock.Mock(items=stored.__getitem__)
    card: dict[str, Any] = {"data": {"fingerprint": prepared.fingerprint}}
    model = {"model.config.block_size": 512}
    loaded = mock.Mock(card=card, folder=tmp_path, tokenizer=Tokenizer.load(), **model)
    fitted = fit_calibration(loaded, prepared, parts, "test", coverage=0.8)
    assert fitted is not None
    assert fitted.note == "not calibrated: 0 mistakes in 40 validation records"
    section = calibration_section(fitted, read_scores(parts), prepared, "test")
    assert section is not None
    assert (section.note, section.temperature, section.threshold) == (fitted.note, 1.0, 0.999)
    assert section.calibrated == section.raw and section.raw.ece == pytest.approx(0.1, abs=1e-3)
    assert (section.abstained, section.accuracy_kept) == (0.0, 0.9)
    assert section.prompts == 40
    assert section.unlike_training == pytest.approx(0.25, abs=0.051)
    on_val = calibration_section(fitted, read_scores(parts, "val_labels"), prepared, "val")
    assert on_val is not None and on_val.unlike_training == 0.0
    # An abstract is not unlike because it is pasted, with its headings inside the text.
    pasted = [fitted.is_unlike(ids) for ids in pasted_prompts(loaded, prepared)]
    assert pasted.count(True) == 1 and len(pasted) == 40
    # Records of other data cannot say what is familiar to the model, but the checkpoint can.
    card["data"]["fingerprint"] = "other"
    other = fit_calibration(loaded, prepared, parts, "test", coverage=0.8)
    assert other is not None and other.familiarity is None
    fitted.save(tmp_path)
    other = fit_calibration(loaded, prepared, parts, "test", coverage=0.8)
    assert other is not None and other.familiarity == fitted.familiarity
