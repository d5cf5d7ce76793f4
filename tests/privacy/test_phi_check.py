"""A user's annotated notes are measured, and nothing of them is shown unless asked."""

import json
from pathlib import Path

import pytest

from clingpt.base.errors import DataError
from clingpt.privacy.detectors import detector_steps
from clingpt.privacy.phi_check import read_annotated, report
from clingpt.privacy.roster import Roster

NOTES = (
    "Seen by Dr. [[name|Brown]] on [[date|3/4/2019]] with [[name|zorblaxa]], MRN [[id|00412345]].",
    "No fever, [[org|Elm Clinic]]. Took the [[place|quuxtown]] bus.",
)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    path = tmp_path / "notes.jsonl"
    path.write_text("\n".join(json.dumps({"text": note}) for note in NOTES), "utf-8")
    return path


def test_both_forms_of_notes_are_read(notes: Path, tmp_path: Path) -> None:
    plain = tmp_path / "notes.txt"
    plain.write_text("\n=====\n".join(f"# style: a\n{note}" for note in NOTES), "utf-8")
    assert read_annotated(plain) == read_annotated(notes)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", '{"text": "Dr. [[name|Secret]]"}\n{"text": "[[name|Secret"}', ":2: line 1 of"),
        ("a.jsonl", '{"text": "[[Secret|Ann]]"}', ":1: line 1 of a note has an unknown kind"),
        ("a.txt", "# style: a\nfine\n=====\nDr. [[name|Secret]", "note 2: line 1 of a note"),
        ("a.jsonl", "Secret", ":1: not JSON"),
        ("a.jsonl", '{"note": "Secret"}', ':1: the line has no "text"'),
        ("a.txt", "Secret", "has no marks"),
        ("missing.txt", None, "No such file"),
    ],
)
def test_notes_that_cannot_be_used_are_refused_in_one_line(
    name: str, content: str | None, reason: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(DataError, match=reason) as refused:
        read_annotated(tmp_path / name)
    assert "\n" not in str(refused.value)
    assert "Secret" not in str(refused.value)


def test_recall_alarms_and_advice_are_shown_masked(notes: Path) -> None:
    text = report(read_annotated(notes), detector_steps("rules", None), show=False)
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.split()}
    assert rows["name"][1:3] == ["2", "1"]
    assert rows["all"][1:3] == ["5", "3"]
    assert rows["rules"][1] == "0.60"
    assert "z…" in text and "q…" in text
    assert "zorblaxa" not in text and "quuxtown" not in text and "Brown" not in text
    assert (
        "--phi_known" in text and "--redact=surrogates" in text and "annotate notes until" in text
    )


def test_what_was_missed_is_shown_if_asked(notes: Path) -> None:
    text = report(read_annotated(notes), detector_steps("rules", None), show=True)
    assert "⟦zorblaxa⟧" in text and "⟦quuxtown⟧" in text


def test_each_detector_is_measured_with_those_before_it(notes: Path) -> None:
    roster = Roster()
    roster.add("Zorblaxa")
    text = report(read_annotated(notes), detector_steps("rules", roster), show=False)
    rows = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert rows["rules"][1] == "0.60"
    assert rows["+ roster"][2] == "0.80"
