"""Marks are read as written, and counted as found, missed or raised for nothing."""

from pathlib import Path

import pytest

import prepare
from clingpt.base.errors import DataError
from clingpt.privacy import annotated
from clingpt.privacy.annotated import read_marked, read_notes, score, table
from clingpt.privacy.identifiers import Found
from tests.helpers.commands import here

MARKED = "Dr. [[name|Amara Osei]] on [[date|Monday 6/23]], [[org|Elm Clinic]], B12 low."


def test_a_marked_note_is_read_and_written_back() -> None:
    note = read_marked(MARKED)
    assert note.text == "Dr. Amara Osei on Monday 6/23, Elm Clinic, B12 low."
    assert [note.text[start:end] for _, start, end in note.marks] == [
        "Amara Osei",
        "Monday 6/23",
        "Elm Clinic",
    ]
    assert note.marked() == MARKED
    assert read_marked("a\n\n[[id|7]]").on_one_line() == read_marked("a [[id|7]]")


@pytest.mark.parametrize("bad", ["[[nome|Ann]]", "[[name|Ann\nLee]]", "[[name]]", "[[name|Ann]"])
def test_a_malformed_mark_is_refused_without_showing_it(bad: str, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(f"# style: a\nfine\n=====\n# style: b\nwell\n{bad}\n")
    with pytest.raises(DataError, match="note 2: .*mark") as refused:
        read_notes(path)
    assert "Ann" not in str(refused.value)


@pytest.mark.parametrize("command", ["annotated", "phi_check.txt", "phi_check.jsonl"])
def test_notes_that_are_not_utf8_are_refused_in_one_line(command: str, tmp_path: Path) -> None:
    path = tmp_path / f"notes{Path(command).suffix or '.txt'}"
    path.write_bytes("seen by Dr. [[name|Müller]]\n".encode("latin-1"))
    if command == "annotated":
        done = here(annotated.main, path)
    else:
        done = here(prepare.main, f"--phi_check={path}")
    assert done.returncode == 1
    assert done.stderr == f"error: {path} is not UTF-8 (byte 20); convert it first\n"


def test_marks_and_alarms_are_counted_by_kind() -> None:
    note = read_marked(MARKED)
    at = note.text.index

    def detect(text: str) -> list[Found]:
        name, clinic, alarm = at("Amara"), at("Elm"), at("B12")
        # The whole name, the date without its weekday, an organisation, and a vitamin.
        return [
            Found("address", name, name + 10),
            Found("date", at("6/23"), at(",")),
            Found("name", clinic, clinic + 3),
            Found("record_number", alarm, alarm + 3),
        ]

    counts = score([note], detect)
    assert counts.marks == counts.found == {"name": 1, "date": 1}
    assert counts.alarms == {"record_number": 1}
    assert counts.words == len("Dr on B12 low".split())
    assert counts.alarms_per_1000_words() == 250
    assert "all" in table(counts) and "1.000 (0.342–1.000)" in table(counts)
    # Half of a name is not found.
    half = score([note], lambda text: [Found("name", at("Amara"), at("Osei"))])
    assert half.found["name"] == 0 and not half.alarms
