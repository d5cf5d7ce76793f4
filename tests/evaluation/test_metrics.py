"""Metrics against scikit-learn, rouge-score, values worked by hand and published intervals."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from clingpt.base.errors import DataError
from clingpt.evaluation.metrics import (
    Interval,
    classification,
    novel_bigrams,
    one_sentence_a_line,
    perplexity,
    rouge,
    structure,
    wilson_interval,
)
from clingpt.text.documents import HEADINGS
from clingpt.text.records import LABELS
from tests.helpers.reports import corpus_bleu

CAT = "The cat sat on the mat today."
DOG = "A dog lay under the table all night."


@settings(deadline=None)  # hypothesis' deadline depends on how busy the machine is
@given(
    st.lists(
        st.tuples(st.sampled_from(LABELS), st.sampled_from([*LABELS, "", "Yes", "failed"])),
        min_size=1,
        max_size=40,
    )
)
def test_classification_equals_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    gold, predicted = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    ours = classification(gold, predicted)
    precision, recall, f1, support = precision_recall_fscore_support(
        gold, predicted, labels=list(LABELS), zero_division=0
    )
    assert ours.n == len(pairs)
    assert ours.accuracy == pytest.approx(accuracy_score(gold, predicted))
    assert ours.macro_f1 == pytest.approx(f1.mean())
    assert list(ours.per_label) == list(LABELS)
    for i, score in enumerate(ours.per_label.values()):
        assert score.precision == pytest.approx(precision[i])
        assert score.recall == pytest.approx(recall[i])
        assert score.f1 == pytest.approx(f1[i])
        assert score.support == support[i]
    kept = [*LABELS, "", "Yes", "failed"]
    table = confusion_matrix(gold, predicted, labels=kept)[:3]
    assert [list(row) for row in ours.confusion] == table[:, :3].tolist()
    assert ours.unparseable == table[:, 3:].sum()


def test_stray_predictions_add_no_class() -> None:
    # The official script's union of labels would average over four classes and give 0.75 here.
    ours = classification(["yes", "no", "maybe", "yes"], ["yes", "no", "maybe", "failed"])
    assert ours.macro_f1 == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert ours.unparseable == 1


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [  # scipy.stats.binomtest(hits, n).proportion_ci(method="wilson")
        (276, 500, 50.8, 59.5),
        (300, 500, 55.6, 64.2),
        (390, 500, 74.2, 81.4),
        (30, 50, 46.2, 72.4),
        (0, 10, 0.0, 27.8),
        (10, 10, 72.2, 100.0),
    ],
)
def test_wilson_interval_matches_published_values(
    hits: int, n: int, low: float, high: float
) -> None:
    interval = wilson_interval(hits=hits, n=n)
    assert (100 * interval.low, 100 * interval.high) == pytest.approx((low, high), abs=0.06)


def test_classification_includes_its_wilson_interval() -> None:
    ours = classification(["yes"] * 10, ["yes"] * 9 + ["no"])
    assert ours.accuracy_interval == wilson_interval(hits=9, n=10)
    assert isinstance(ours.accuracy_interval, Interval)


@pytest.mark.parametrize(
    ("gold", "predicted", "phrase"),
    [
        (["yes"], [], "0 predictions for 1 references"),
        ([], [], "no predictions to score"),
        (["yes", "perhaps"], ["yes", "yes"], "'perhaps' is not one of yes, no, maybe"),
    ],
)
def test_classification_refuses_unpaired_and_unknown_labels(
    gold: list[str], predicted: list[str], phrase: str
) -> None:
    with pytest.raises(DataError, match=phrase):
        classification(gold, predicted)


def test_rouge_refuses_unpaired_and_empty_lists() -> None:
    with pytest.raises(DataError, match="1 hypotheses for 2 references"):
        rouge(["a"], ["a", "b"])
    with pytest.raises(DataError, match="no hypotheses to score"):
        rouge([], [])


def test_bleu_is_100_for_copies_and_0_for_empty_texts() -> None:
    same = corpus_bleu([CAT, DOG], [CAT, DOG])
    assert same.score == pytest.approx(100)
    assert same.nltk_score == pytest.approx(100)
    assert (same.brevity_penalty, same.hypothesis_tokens, same.reference_tokens) == (1.0, 17, 17)
    empty = corpus_bleu(["", ""], [CAT, DOG])
    assert (empty.score, empty.nltk_score, empty.hypothesis_tokens) == (0.0, 0.0, 0)


def test_unsmoothed_bleu_is_0_without_a_matching_4_gram() -> None:
    scores = corpus_bleu(["The cat sat by a mat."], [CAT])
    assert scores.nltk_score == 0.0
    assert 0 < scores.score < 50  # sacrebleu smooths


def test_bleu_is_case_sensitive_and_penalises_brevity() -> None:
    assert corpus_bleu([CAT.lower()], [CAT]).nltk_score < 90
    half = corpus_bleu([CAT, ""], [CAT, DOG])  # 8 of 17 tokens, all of them right
    assert half.brevity_penalty == pytest.approx(math.exp(1 - 17 / 8))
    assert half.score == pytest.approx(100 * math.exp(1 - 17 / 8))
    # nltk: 8/9 · 7/8 · 6/7 · 5/6 of the n-grams, as the empty hypothesis counts for one of each.
    assert half.nltk_score == pytest.approx(half.score * (5 / 9) ** 0.25)


def test_bleu_names_its_settings() -> None:
    scores = corpus_bleu([CAT], [CAT])
    assert scores.signature == "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"
    assert scores.nltk_signature.endswith("|tok:NLTKWordTokenizer|case:mixed|smooth:none")


def test_rouge_matches_values_worked_by_hand() -> None:
    # Stemmed: treat a patient / the patient wa treat. 2 of 3 and of 4 words; no pair; longest 1.
    scores = rouge(["treating a patient"], ["The patients were treated"])
    assert scores.rouge1 == pytest.approx(100 * 4 / 7)
    assert scores.rouge2 == 0
    assert scores.rougeL == pytest.approx(100 * 2 / 7)


def test_rouge_lsum_compares_sentence_by_sentence() -> None:
    swapped = rouge([f"{DOG} {CAT}"], [f"{CAT} {DOG}"])
    assert swapped.rougeLsum == pytest.approx(100)
    assert swapped.rougeL < 60


def test_rouge_averages_over_examples_and_counts_empty_ones() -> None:
    scores = rouge([CAT, ""], [CAT, DOG])
    assert (scores.rouge1, scores.rouge2) == pytest.approx((50, 50))
    assert (scores.rougeL, scores.rougeLsum) == pytest.approx((50, 50))
    assert scores.signature.startswith("rouge-score:0.1.2|f1|stemmer:porter")


def test_one_sentence_a_line_keeps_line_breaks() -> None:
    assert one_sentence_a_line("One. Two\nthree. Four.") == "One.\nTwo\nthree.\nFour."


def test_perplexity_of_a_uniform_guess_is_the_vocabulary_size() -> None:
    scores = perplexity(nats=10 * math.log(50257), tokens=10, words=5, utf8_bytes=40)
    assert scores.token_perplexity == pytest.approx(50257)
    assert scores.nats_per_token == pytest.approx(math.log(50257))
    assert scores.bits_per_byte == pytest.approx(math.log2(50257) / 4)


def test_perplexity_never_overflows() -> None:
    scores = perplexity(nats=1e6, tokens=1, words=1, utf8_bytes=1)
    assert scores.token_perplexity == math.inf
    assert scores.bits_per_byte == pytest.approx(1e6 / math.log(2))


@pytest.mark.parametrize(("tokens", "utf8_bytes"), [(0, 5), (5, 0)])
def test_perplexity_refuses_an_empty_text(tokens: int, utf8_bytes: int) -> None:
    with pytest.raises(DataError, match="cannot compute a perplexity without text"):
        perplexity(nats=1.0, tokens=tokens, words=tokens, utf8_bytes=utf8_bytes)


@pytest.mark.parametrize(
    ("hypothesis", "source", "share"),
    [
        ("the cat sat", "Well, the CAT sat down", 0.0),
        ("the cat ran", "the cat sat", 0.5),
        ("sat cat the", "the cat sat", 1.0),
        ("word", "other words", 0.0),
        ("", "the cat", 0.0),
    ],
)
def test_novel_bigrams_counts_word_pairs_that_the_source_lacks(
    hypothesis: str, source: str, share: float
) -> None:
    assert novel_bigrams(hypothesis, source) == share


# Structure of documents

FULL = "\n".join(
    (
        "BACKGROUND: Pain is common.",
        "METHODS: We gave 5 mg to 40 adults.",
        "RESULTS: Pain fell.",
        "DISCUSSION: The trial was small.",
        "CONCLUSION: The drug relieves pain.",
    )
)


def test_copied_documents_have_a_perfect_structure() -> None:
    score = structure([FULL, FULL], [FULL, f" {FULL}\n"])
    assert (score.documents, score.present, score.spurious) == (2, 1.0, 0.0)
    assert (score.in_order, score.complete) == (1.0, 1.0)
    assert score.section_rougeL == dict.fromkeys(HEADINGS, pytest.approx(100))


@pytest.mark.parametrize(
    ("output", "present", "spurious", "in_order", "complete"),
    [  # against METHODS, RESULTS, CONCLUSION
        ("METHODS: a\nRESULTS: b\nCONCLUSION: c", 1, 0, 1, 1),
        ("METHODS: a\nRESULTS: b", 2 / 3, 0, 1, 0),
        ("METHODS: a\nRESULTS: b\nDISCUSSION: d\nCONCLUSION: c", 1, 1 / 4, 1, 0),
        ("RESULTS: b\nMETHODS: a\nCONCLUSION: c", 1, 0, 0, 0),
        ("METHODS: a\nRESULTS: b\nRESULTS: b\nCONCLUSION: c", 1, 0, 0, 0),
        ("BACKGROUND: a\nBACKGROUND: b", 0, 1, 0, 0),
        ("Nothing of the kind.", 0, 0, 0, 0),
        ("", 0, 0, 0, 0),
    ],
)
def test_structure_shares_match_values_worked_by_hand(
    output: str, present: float, spurious: float, in_order: float, complete: float
) -> None:
    score = structure([output], ["METHODS: a\nRESULTS: b\nCONCLUSION: c"])
    assert (score.present, score.spurious) == pytest.approx((present, spurious))
    assert (score.in_order, score.complete) == (in_order, complete)


def test_heading_shares_pool_all_documents() -> None:
    references = ["METHODS: a\nRESULTS: b\nCONCLUSION: c", "RESULTS: b"]
    score = structure(["DISCUSSION: d", "BACKGROUND: a\nMETHODS: a\nRESULTS: b"], references)
    assert score.present == pytest.approx(1 / 4)  # the mean of documents would be 1/2
    assert score.spurious == pytest.approx(3 / 4)
    assert (score.in_order, score.complete) == (1.0, 0.0)


def test_document_without_headings_is_never_complete() -> None:
    score = structure(["Pain fell."], ["Pain fell."])
    assert (score.present, score.spurious, score.in_order, score.complete) == (0, 0, 0, 0)
    assert score.section_rougeL == {}


def test_section_rouge_matches_values_worked_by_hand() -> None:
    # treat a patient / the patient were treat: 1 of 3 and of 4 words in order.
    references = ["METHODS: The patients were treated.\nRESULTS: Pain fell.", "RESULTS: Pain fell."]
    outputs = ["RESULTS: Nausea.\nMETHODS: treating a patient", "CONCLUSION: Pain fell."]
    score = structure(outputs, references)
    assert score.section_rougeL == {"METHODS": pytest.approx(100 * 2 / 7), "RESULTS": 0}
    assert score.signature == (
        "rouge-score:0.1.2|rougeL|f1|stemmer:porter|mean of documents where both have the section"
    )


def test_section_rouge_averages_over_documents_where_both_have_the_section() -> None:
    outputs = ["RESULTS: Pain fell.", "RESULTS: Nausea.", "METHODS: x", "x"]
    score = structure(outputs, ["RESULTS: Pain fell."] * 3 + ["x"])
    assert score.section_rougeL == {"RESULTS": pytest.approx(50)}
    assert (score.in_references, score.in_both) == ({"RESULTS": 3}, {"RESULTS": 2})
    assert (score.documents, score.unheaded) == (3, 1)
    assert score.present == pytest.approx(2 / 3)


OWN = ("opening", "HPI", "Assessment and Plan")


def test_structure_is_scored_by_the_headings_of_the_data() -> None:
    reference = "A cough.\nHPI\n\nA cough for 3 days.\n\nASSESSMENT & PLAN\n1. Rest."
    right = "HPI: A cough for 3 days.\nAssessment and Plan: Rest."
    wrong = "## Assessment and plan\nDrink.\nBP: 120/80"
    score = structure([right, wrong, "", "HPI: x"], [reference] * 3 + ["BACKGROUND: y"], OWN)
    assert (score.documents, score.unheaded) == (3, 1)
    assert (score.present, score.spurious) == pytest.approx((3 / 6, 0))
    assert (score.in_order, score.complete) == pytest.approx((2 / 3, 1 / 3))
    assert score.in_references == {"HPI": 3, "Assessment and Plan": 3}
    assert score.in_both == {"HPI": 1, "Assessment and Plan": 2}
    assert score.section_rougeL["HPI"] == 100 > score.section_rougeL["Assessment and Plan"]
    assert score.headings == OWN


@pytest.mark.parametrize(
    ("output", "in_order"),
    [
        ("HPI: a\nPLAN: b", 1),
        ("PLAN: b\nHPI: a", 0),
        ("HPI: a\nROS: c\nPLAN: b", 1),  # where a heading of its own stands does not matter
        ("HPI: a\nPLAN: b\nHPI: c", 0),
    ],
)
def test_order_is_that_of_the_reference(output: str, in_order: int) -> None:
    headings = ("ROS", "PLAN", "HPI")  # not the usual order, but the reference's decides
    score = structure([output], ["HPI: a\nPLAN: b"], headings)
    assert score.in_order == in_order


def test_a_section_that_was_asked_for_is_scored_under_its_heading() -> None:
    score = structure(
        ["Pain fell.", "HPI: x", "Rest."],
        ["Pain fell.", "HPI: x", "Sleep."],
        ["HPI", "PLAN"],
        ["hpi", None, "RARE"],
    )
    assert (score.documents, score.asked, score.present) == (1, 2, 1)
    assert score.section_rougeL == {"HPI": pytest.approx(100), "RARE": 0}
    assert score.in_references == score.in_both == {"HPI": 2, "RARE": 1}


def test_repeated_section_is_scored_as_one_text() -> None:
    output = "RESULTS: Pain fell.\nMETHODS: x\nRESULTS: Nausea rose."
    reference = "RESULTS: Pain fell.\nNausea rose slightly."
    expected = RougeScorer(["rougeL"], use_stemmer=True).score(
        "Pain fell. Nausea rose slightly.", "Pain fell. Nausea rose."
    )
    score = structure([output], [reference])
    assert score.section_rougeL == {"RESULTS": pytest.approx(100 * expected["rougeL"].fmeasure)}


def test_references_without_known_headings_are_only_counted() -> None:
    letter = "DIAGNOSIS: Pain.\nPLAN: 5 mg."
    score = structure([FULL, letter, FULL], [FULL, letter, letter])
    assert (score.documents, score.unheaded) == (1, 2)
    assert (score.present, score.spurious, score.complete) == (1, 0, 1)
    nothing = structure([letter, ""], [letter, letter])
    assert (nothing.documents, nothing.unheaded) == (0, 2)
    assert (nothing.present, nothing.spurious, nothing.in_order, nothing.complete) == (0, 0, 0, 0)
    assert nothing.section_rougeL == {}


@pytest.mark.parametrize(
    ("outputs", "references", "phrase"),
    [(["a"], ["a", "b"], "1 outputs for 2 references"), ([], [], "no outputs to score")],
)
def test_structure_refuses_unpaired_documents(
    outputs: list[str], references: list[str], phrase: str
) -> None:
    with pytest.raises(DataError, match=phrase):
        structure(outputs, references)
