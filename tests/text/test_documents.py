"""Structured documents: parsed by their headings, and several joined into one."""

import pytest

from clingpt.text.documents import join_documents, parse_document
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
        ("Results: One.\nRESULTS : Two.\nRESULTSX: Three.", []),
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
