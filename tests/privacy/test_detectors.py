"""Detectors add to each other, in worker processes too, and an outside one cannot do harm."""

import pickle
from pathlib import Path

import pytest

from clingpt.base.errors import ConfigError, DataError
from clingpt.base.workers import map_chunks
from clingpt.data.hygiene import inspect
from clingpt.privacy.annotated import read_notes, score
from clingpt.privacy.detectors import (
    WithEngine,
    WithRoster,
    chosen,
    detectors_used,
    for_record,
    load_engine,
    merged,
    parse_engine,
    with_engine,
)
from clingpt.privacy.identifiers import Found, find_identifiers
from clingpt.privacy.redaction import Redactor
from clingpt.privacy.roster import Roster
from clingpt.text.records import Record

ENGINE = """
def find(text):
    at = text.find("Zorblax")
    return [("PERSON", at, at + 7)] if at >= 0 else []

def everything(text):
    return [("name", 0, len(text))]

def broken(text):
    raise ValueError("a secret: " + text)

def unknown(text):
    return [("Zorblax the patient", 0, 1)]

def outside(text):
    return [("name", 0, 10_000_000)]

def shapeless(text):
    return [1]
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of the user's in the current folder."""
    (tmp_path / "hospital_engine.py").write_text(ENGINE, "utf-8")
    monkeypatch.chdir(tmp_path)
    load_engine.cache_clear()
    return "hospital_engine"


def test_findings_of_another_detector_extend_those_of_their_kind() -> None:
    text = "Mary Ann Smith-Jones, 3/4/1931 X12."
    found = [Found("name", 9, 14), Found("date", 22, 30)]
    more = [Found("name", 0, 20), Found("record_number", 26, 34), Found("name", 20, 21)]
    assert merged(text, found, more) == [
        Found("name", 0, 20),
        Found("date", 22, 30),
        Found("record_number", 31, 34),
    ]
    assert merged(text, found, []) == found
    assert merged(text, [], [Found("name", 4, 9), Found("name", 0, 4)]) == [Found("name", 0, 8)]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("rules", (False, None)),
        ("rules+tagger", (True, None)),
        ("rules+a.b:c", (False, "a.b:c")),
        ("rules+tagger+a:b", (True, "a:b")),
    ],
)
def test_the_choice_of_detectors_is_read(written: str, read: tuple[bool, str | None]) -> None:
    assert parse_engine(written) == read


@pytest.mark.parametrize(
    "bad", ["", "tagger", "rules+", "rules+a", "rules+a:b+c:d", "a:b", "rules,tagger"]
)
def test_any_other_choice_is_refused(bad: str) -> None:
    with pytest.raises(ConfigError, match=r"phi_engine must be rules, .*MODULE:function"):
        parse_engine(bad)


def test_an_outside_function_adds_its_findings(engine: str) -> None:
    detect = with_engine(f"rules+{engine}:find", find_identifiers)
    assert detect("Dr. Brown saw Zorblax.") == [Found("name", 4, 9), Found("name", 14, 21)]
    assert Redactor("tags", detect=detect).text("Zorblax, Zorblax") == "[NAME], [NAME]"
    # It cannot take tags for identifiers over and over.
    everything = with_engine(f"rules+{engine}:everything", find_identifiers)
    assert Redactor("tags", detect=everything).text("Zorblax [NAME] left") == "[NAME]"


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("broken", "failed with ValueError on a text of 7 characters"),
        ("unknown", "returned a kind that is not a word; choose from"),
        ("outside", "a span outside a text of 7 characters"),
        ("shapeless", "failed with TypeError"),
    ],
)
def test_an_outside_function_fails_in_one_line_without_text(
    function: str, reason: str, engine: str
) -> None:
    detect = with_engine(f"rules+{engine}:{function}", find_identifiers)
    with pytest.raises(DataError, match=reason) as failed:
        detect("Zorblax")
    assert "Zorblax" not in str(failed.value) and "\n" not in str(failed.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("no_such_module:f", "cannot import no_such_module"), ("json:no_such", "no function no_such")],
)
def test_a_missing_outside_function_is_refused_before_the_start(name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        with_engine(f"rules+{name}", find_identifiers)


class Names:
    """Work for a process: what a detector finds in texts."""

    def __init__(self, detect: WithEngine) -> None:
        self.detect = detect

    def __call__(self, chunk: object) -> list[list[Found]]:
        assert isinstance(chunk, list)
        return [self.detect(text) for text in chunk]


def test_an_outside_function_works_in_other_processes(engine: str) -> None:
    detect = with_engine(f"rules+{engine}:find", find_identifiers)
    assert isinstance(detect, WithEngine)
    chunks = [["Zorblax"]] * 20
    for _, found in map_chunks(Names(detect), chunks, workers=2):
        assert found == [[Found("name", 0, 7)]]


def test_a_roster_adds_its_entries() -> None:
    roster = Roster()
    roster.add("Okonkwo, Adaeze")
    detect = chosen("rules", roster)
    assert isinstance(pickle.loads(pickle.dumps(detect)), WithRoster)
    assert detect("saw okonkwo") == [Found("name", 4, 11)]
    assert Redactor("tags", detect=detect).text("okonkwo and Adaeze") == "[NAME] and [NAME]"


def test_a_records_other_columns_are_looked_for_in_its_texts() -> None:
    known = (("patient_name", "Okonkwo, Adaeze"), ("mrn", "4471920"), ("dob", "1931-03-04"))
    record = Record(
        id="1",
        question="",
        sections=(("NOTE", "okonkwo (4471920, 4.3.31) is well"),),
        long_answer="adaeze left",
        known=known,
    )
    detect = for_record(find_identifiers, record)
    assert {"name", "record_number", "date"} == {one.kind for one in detect(record.context())}
    assert inspect(record).counts == {"name": 2, "record_number": 1, "date": 1}
    redacted = Redactor("tags").record(record)
    assert redacted.context() == "[NAME] ([RECORD_NUMBER], [DATE]) is well"
    assert redacted.long_answer == "[NAME] left"


def test_the_receipt_names_the_detectors() -> None:
    roster = Roster()
    roster.add("Okonkwo")
    used = detectors_used("rules+tagger+a:b", roster)
    assert used["roster"] is True and used["engine"] == "a:b"
    assert used["rules"] and used["tagger"]
    assert detectors_used("rules", None) == used | {"tagger": None, "roster": False, "engine": None}


def test_any_signs_and_digits_can_be_read() -> None:
    """Python takes some signs for digits that int() refuses: superscripts, circled numbers."""
    note = "Patient: Mary Novak MRN: 4412009 DOB: 3/4/1931. Pt c/o pain, BP 120/80, s/p CABG. "
    roster = Roster()
    roster.add_row({"name": "Mary Novak", "dob": "1931-03-04"})
    detect = chosen("rules+tagger", roster)
    for sign in "³¹②❷٣૩፩½Ⅷ一\ud800\0\ufeff🙂":
        for text in (sign, sign * 2, sign * 4, sign * 8, f"12{sign}", f"{sign}/{sign}/19{sign}1"):
            spans = [(one.start, one.end) for one in detect(f"{note}{text} {note}")]
            assert all(0 <= start < end for start, end in spans)


def test_most_identifiers_are_found_in_notes_that_nothing_was_fitted_to() -> None:
    """Sixty terse notes by a writer who knew no rule. Never mend a rule with them: write others."""
    notes = read_notes(Path(__file__).with_name("unseen_notes.txt"))
    counts = score(notes, chosen())
    assert counts.marks.total() - counts.marks["org"] == 739
    assert sum(counts.found.values()) >= 0.85 * 739  # 0.87 when it was written
    assert counts.alarms_per_1000_words() <= 5  # 4.3
    rules = score(notes, chosen("rules"))
    assert 0.82 * 739 <= sum(rules.found.values()) < sum(counts.found.values())
