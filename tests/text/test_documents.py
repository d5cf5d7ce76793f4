"""Structured documents: parsed by their headings, and several joined into one."""

import pytest

from clingpt.text.documents import (
    HEADINGS,
    MIN_DOCUMENTS,
    MOST_HEADINGS,
    OPENING,
    DocumentForm,
    HeadingCounts,
    find_headings,
    headings_and_opening,
    join_documents,
    parse_document,
    write_document,
)
from clingpt.text.records import Record
from clingpt.text.tasks import target_text


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("", []),
        ("No heading at all.", []),
        ("RESULTS: Pain fell.", [("RESULTS", "Pain fell.")]),
        (" RESULTS: Pain fell.\n", [("RESULTS", "Pain fell.")]),
        ("RESULTS:", [("RESULTS", "")]),
        ("RESULTS: One.\n\nTwo.\nThree.", [("RESULTS", "One.\n\nTwo.\nThree.")]),
        ("Report\nRESULTS: One.", [("RESULTS", "One.")]),
        ("RESULTS: One.\u2028METHODS: Two.", [("RESULTS", "One.\u2028METHODS: Two.")]),
        (
            "METHODS: a\nRESULTS: b\nMETHODS: c",
            [("METHODS", "a"), ("RESULTS", "b"), ("METHODS", "c")],
        ),
        ("RESULTS: Of 2: 1.\nECG: normal.", [("RESULTS", "Of 2: 1.\nECG: normal.")]),
        ("RESULTS: a\nSee METHODS: above.", [("RESULTS", "a\nSee METHODS: above.")]),
        ("Results: One.\nRESULTS : Two.", [("RESULTS", "One."), ("RESULTS", "Two.")]),
        ("RESULTSX: Three.\n- RESULTS: Four.", []),
    ],
)
def test_documents_are_parsed_by_their_headings(text: str, sections: list[tuple[str, str]]) -> None:
    assert parse_document(text) == sections


def test_parse_document_reads_targets_of_the_task_document() -> None:
    sections = (("AIM", "To heal."), ("PATIENTS", "Ten."), ("FINDINGS", "Nine: healed."))
    record = Record(
        id="1",
        question="",
        sections=(*sections, ("DISCUSSION", "Fine.")),
        long_answer="It heals.",
        decision=None,
    )
    assert parse_document(target_text("document", record)) == [
        ("BACKGROUND", "To heal."),
        ("METHODS", "Ten."),
        ("RESULTS", "Nine: healed."),
        ("DISCUSSION", "Fine."),
        ("CONCLUSION", "It heals."),
    ]


FIRST = " BACKGROUND: Pain is common.\nRESULTS: It fell by 31 %."
SECOND = " RESULTS: It fell by 8 % with placebo.\nNausea was rare.\nCONCLUSION: It works."


@pytest.mark.parametrize(
    ("texts", "joined"),
    [
        ([FIRST], FIRST.strip()),
        ([" no heading at all "], "no heading at all"),
        (
            [FIRST, SECOND],
            "BACKGROUND: Pain is common.\n"
            "RESULTS: It fell by 31 %. It fell by 8 % with placebo.\nNausea was rare.\n"
            "CONCLUSION: It works.",
        ),
        # Sections follow the order of HEADINGS; text without a heading goes to the end.
        (
            ["CONCLUSION: So.", "  Loose words.", "METHODS: Ten patients.", "\n", "CONCLUSION:"],
            "METHODS: Ten patients.\nCONCLUSION: So.\nLoose words.",
        ),
        (["", " "], ""),
    ],
)
def test_documents_are_joined_by_their_headings(texts: list[str], joined: str) -> None:
    assert join_documents(texts) == joined
    names = [name for name, _ in parse_document(joined)]
    assert len(names) == len(set(names)), "duplicate heading"


# Finding headings, in one document


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("CHIEF COMPLAINT: Cough.", "CHIEF COMPLAINT"),
        ("CHIEF COMPLAINT:", "CHIEF COMPLAINT"),
        ("HISTORY OF PRESENT ILLNESS", "HISTORY OF PRESENT ILLNESS"),
        ("HPI", "HPI"),
        ("HPI: 3 weeks of cough.", "HPI"),
        ("Assessment and Plan:", "Assessment and Plan"),
        ("Assessment and Plan", "Assessment and Plan"),
        ("Assessment & Plan: Rest.", "Assessment & Plan"),
        ("SUBJECTIVE", "SUBJECTIVE"),
        ("S: Cough.", "S"),
        ("P: 1. Rest.", "P"),
        ("  Past medical history: none", "Past medical history"),
        ("## Plan", "Plan"),
        ("# Plan for the next visit: #", "Plan for the next visit"),
        ("**Plan**", "Plan"),
        ("**Plan:** Rest.", "Plan"),
        ("**Plan**: Rest.", "Plan"),
        ("PLAN:, Rest.", "PLAN"),
        ("PLAN: , Rest.", "PLAN"),
        ("MEDICATIONS (CURRENT): none", "MEDICATIONS (CURRENT)"),
        ("Imp: migraine", "Imp"),
        # Not headings: measurements, organs, fields, items of lists, sentences.
        ("BP: 120/80", None),
        ("P: 72 bpm", None),
        ("GLUCOSE: 98 mg/dL", None),
        ("Weight: stable", None),
        ("HEENT: clear", None),
        ("Eyes, ears and nose: clear", None),
        ("Patient: Cora Vance", None),
        ("Name: Cora Vance", None),
        ("Date of birth: unknown", None),
        ("Doctor: How are you?", None),
        ("She is a Patient: Cora Vance", None),
        ("The patient was told: rest and drink", None),
        ("- Plan: rest", None),
        ("• Plan: rest", None),
        ("1. Plan: rest", None),
        ("1) PLAN", None),
        ("She came at 4:30", None),
        ("Hypertension.", None),
        ("He coughs", None),
        ("No fever: none measured", None),
        ("plan: rest", None),
        ("See https://example.org", None),
        ("A sentence of many words that ends with a colon: so", None),
    ],
)
def test_headings_are_found_by_the_form_of_their_line(line: str, name: str | None) -> None:
    document = f"Seen today.\n\n{line}\n\nThe text of a section."
    assert find_headings(document) == ([name] if name else [])


def test_headings_within_a_line_are_found_in_the_published_form_of_mtsamples() -> None:
    text = "SUBJECTIVE:,  A cough, and PLAN of rest.,MEDICATIONS: , None.,PLAN:,1. Rest."
    names = ["SUBJECTIVE", "MEDICATIONS", "PLAN"]
    assert find_headings(text) == names
    assert parse_document(text, names) == [
        ("SUBJECTIVE", "A cough, and PLAN of rest."),
        ("MEDICATIONS", "None."),
        ("PLAN", "1. Rest."),
    ]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        # Words in capitals that no text follows are a statement.
        ("PMH: nil\nNKDA\nSH: lives alone", ["PMH", "SH"]),
        ("PMH: nil\nNKDA\n\nSH: lives alone", ["PMH", "SH"]),
        ("PMH: nil\n\nFULL CODE", ["PMH"]),
        ("PMH: nil\nPLAN\nRest.", ["PMH", "PLAN"]),
        ("EXAM\n\nVITALS\n\nStable.", ["EXAM", "VITALS"]),
        # The turns of a dialogue, and the labels of a list.
        ("Mum: a\nSam: b\n" * 3, []),
        ("PLAN: a\n" + "Reasoning: b\nTreatment: c\n" * 3, ["PLAN"]),
        ("PLAN: a\nPLAN: b", ["PLAN"]),
        # A document in capitals.
        ("SHE HAS A COUGH\n\nAND A FEVER\n\nPLAN: REST", ["PLAN"]),
        ("", []),
    ],
)
def test_headings_are_told_from_other_lines_of_a_document(text: str, names: list[str]) -> None:
    assert find_headings(text) == names


# … and in many


def count(*documents: str, owners: int = 1000) -> HeadingCounts:
    counts = HeadingCounts()
    for number, text in enumerate(documents):
        counts.see(headings_and_opening(text), str(number % owners))
    return counts


def test_headings_recur_over_documents_of_several_patients() -> None:
    note = "PLAN: rest\nSIGNATURE LINE: x"
    assert count(*[note] * MIN_DOCUMENTS).common() == {"PLAN": 5, "SIGNATURE LINE": 5}
    assert count(*[note] * (MIN_DOCUMENTS - 1)).common() == {}
    # A name in all notes of one patient is in many documents, but it is one patient's.
    assert count(*[note] * 50, owners=MIN_DOCUMENTS - 1).common() == {}
    rare = [note] * MIN_DOCUMENTS + ["PLAN: rest"] * 600
    assert count(*rare).common() == {"PLAN": 605}


def test_headings_have_their_commonest_spelling_and_usual_order() -> None:
    notes = ["HPI: a\nAssessment & Plan: b"] * 3 + ["HPI: a\nASSESSMENT AND PLAN: b"] * 4
    notes += ["Assessment and plan: b\nHPI: a"]
    assert count(*notes).common() == {"HPI": 8, "ASSESSMENT AND PLAN": 8}
    many = "\n".join(f"PART {chr(65 + n // 26)}{chr(65 + n % 26)}: x" for n in range(90))
    assert len(count(*[many] * 5).common()) == MOST_HEADINGS


def test_text_before_the_first_heading_is_the_opening() -> None:
    note = "A cough.\nPLAN: rest"
    assert count(*[note] * 5).common() == {OPENING: 5, "PLAN": 5}
    assert headings_and_opening("A cough.") == [] and headings_and_opening("\nPLAN: rest") == [
        "PLAN"
    ]
    assert parse_document(note, ["PLAN"]) == [("PLAN", "rest")]
    sections = parse_document(note, [OPENING, "PLAN"])
    assert sections == [(OPENING, "A cough."), ("PLAN", "rest")]
    assert write_document(sections) == note
    assert parse_document("PLAN: rest", [OPENING, "PLAN"]) == [("PLAN", "rest")]


def test_documents_are_parsed_and_joined_by_their_own_headings() -> None:
    names = ["HPI", "Assessment and Plan"]
    first = "HPI\n\nA cough.\nBP: 120/80\n\nASSESSMENT & PLAN\n\n1. Rest.\n- HPI: as above"
    second = "## Assessment and plan\nDrink.\nResults: pending"
    assert parse_document(first, names) == [
        ("HPI", "A cough.\nBP: 120/80"),
        ("Assessment and Plan", "1. Rest.\n- HPI: as above"),
    ]
    assert join_documents([first, second], [OPENING, *names]) == (
        "HPI: A cough.\nBP: 120/80\n"
        "Assessment and Plan: 1. Rest.\n- HPI: as above Drink.\nResults: pending"
    )


def test_a_form_survives_json_and_older_folders_have_the_abstracts_form() -> None:
    form = DocumentForm(("HPI", "PLAN"), 768)
    assert DocumentForm.from_json(form.to_json()) == form
    assert form.is_own and not DocumentForm().is_own
    assert DocumentForm() == DocumentForm(HEADINGS, None)
