"""Sections of generated documents: shares by hand, ROUGE by its library."""

import pytest
from rouge_score.rouge_scorer import RougeScorer

from clingpt.base.errors import DataError
from clingpt.evaluation.document_structure import structure
from clingpt.text.documents import HEADINGS

FULL = "\n".join(
    (
        "BACKGROUND: Pain is common.",
        "METHODS: We gave 5 mg to 40 adults.",
        "RESULTS: Pain fell.",
        "DISCUSSION: The trial was small.",
        "CONCLUSION: The drug relieves pain.",
    )
)


def test_copies_are_perfect() -> None:
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
def test_shares(
    output: str, present: float, spurious: float, in_order: float, complete: float
) -> None:
    score = structure([output], ["METHODS: a\nRESULTS: b\nCONCLUSION: c"])
    assert (score.present, score.spurious) == pytest.approx((present, spurious))
    assert (score.in_order, score.complete) == (in_order, complete)


def test_headings_are_pooled_and_documents_are_counted() -> None:
    references = ["METHODS: a\nRESULTS: b\nCONCLUSION: c", "RESULTS: b"]
    score = structure(["DISCUSSION: d", "BACKGROUND: a\nMETHODS: a\nRESULTS: b"], references)
    assert score.present == pytest.approx(1 / 4)  # the mean of documents would be 1/2
    assert score.spurious == pytest.approx(3 / 4)
    assert (score.in_order, score.complete) == (1.0, 0.0)


def test_a_document_as_bare_as_its_reference_is_not_complete() -> None:
    score = structure(["Pain fell."], ["Pain fell."])
    assert (score.present, score.spurious, score.in_order, score.complete) == (0, 0, 0, 0)
    assert score.section_rougeL == {}


def test_section_scores_by_hand() -> None:
    # treat a patient / the patient were treat: 1 of 3 and of 4 words in order.
    references = ["METHODS: The patients were treated.\nRESULTS: Pain fell.", "RESULTS: Pain fell."]
    outputs = ["RESULTS: Nausea.\nMETHODS: treating a patient", "CONCLUSION: Pain fell."]
    score = structure(outputs, references)
    assert score.section_rougeL == {"METHODS": pytest.approx(100 * 2 / 7), "RESULTS": 0}
    assert score.signature == "rouge-score:0.1.2|rougeL|f1|stemmer:porter|mean of documents"


def test_sections_are_averaged_over_the_references_that_have_them() -> None:
    score = structure(
        ["RESULTS: Pain fell.", "METHODS: x", "x"], ["RESULTS: Pain fell."] * 2 + ["x"]
    )
    assert score.section_rougeL == {"RESULTS": pytest.approx(50)}


def test_a_repeated_section_is_scored_as_one_text() -> None:
    output = "RESULTS: Pain fell.\nMETHODS: x\nRESULTS: Nausea rose."
    reference = "RESULTS: Pain fell.\nNausea rose slightly."
    expected = RougeScorer(["rougeL"], use_stemmer=True).score(
        "Pain fell. Nausea rose slightly.", "Pain fell. Nausea rose."
    )
    score = structure([output], [reference])
    assert score.section_rougeL == {"RESULTS": pytest.approx(100 * expected["rougeL"].fmeasure)}


def test_documents_under_other_headings_are_counted_and_left_out() -> None:
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
def test_documents_must_pair_up(outputs: list[str], references: list[str], phrase: str) -> None:
    with pytest.raises(DataError, match=phrase):
        structure(outputs, references)
