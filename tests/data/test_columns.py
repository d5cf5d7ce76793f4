"""Columns: guesses from names and cells, ambiguous cases, and rows as records."""

import re
from typing import Any

import pytest

from clingpt.base.errors import ConfigError, DataError
from clingpt.data.columns import Columns, guess_columns, guess_table, record_of
from clingpt.text.records import Record

PROSE = "The patient was seen today for a cough that began a week ago."
SHORT = "Cough."
CELLS: dict[str, list[Any]] = {"yes": ["yes", "No", " maybe "], "prose": [PROSE] * 3}
CELLS |= {"short": [SHORT] * 3, "number": ["1", "2", "3"], "int": [1, 2, 3], "none": [None] * 3}
CELLS |= {"true": [True, False, True], "list": [["a"], [], ["b"]], "float": [1.0, 2.0, 3.0]}


def table(columns: str) -> tuple[list[str], list[dict[str, Any]]]:
    """Return names and rows from "name kind, name kind"."""
    kinds = dict(each.rsplit(" ", 1) for each in columns.split(", "))
    rows = [{name: CELLS[kind][n] for name, kind in kinds.items()} for n in range(3)]
    return list(kinds), rows


def guess(task: str, columns: str, given: Columns | None = None) -> set[str]:
    """Return the guess as role=name."""
    found = guess_columns(*table(columns), task, given).roles()
    return {f"{role}={name}" for role, name in found.items()}


GUESSES: list[tuple[str, str, str]] = [
    (  # MedQuAD
        "explain",
        "id short, source short, focus short, type short, question prose, answer prose",
        "id=id, question=question, target=answer",
    ),
    (  # MTSamples
        "summarize",
        "column 1 number, description prose, medical_specialty short, sample_name short, "
        "transcription prose, keywords short",
        "input=transcription, target=description, keywords=keywords",
    ),
    (  # radiology
        "summarize",
        "Study ID number, subject_id number, FINDINGS prose, Impression short",
        "id=Study ID, group=subject_id, input=FINDINGS, target=Impression",
    ),
    (  # a record of ours as CSV
        "answer",
        "id int, question prose, text prose, long_answer prose, decision yes",
        "id=id, question=question, input=text, target=long_answer, decision=decision",
    ),
    ("answer", "q prose, answer yes", "question=q, decision=answer"),
    (
        "answer",
        "question prose, answer prose, label yes, abstract prose",
        "question=question, target=answer, decision=label, input=abstract",
    ),
    ("answer", "question prose, urteil yes", "question=question, decision=urteil"),
    (
        "explain",
        "prompt prose, completion prose",
        "question=prompt, target=completion",
    ),
    (  # Alpaca
        "explain",
        "instruction prose, input prose, output prose",
        "question=instruction, input=input, target=output",
    ),
    (  # the decision is not the answer in prose
        "explain",
        "question prose, answer yes, response prose",
        "question=question, target=response",
    ),
    (
        "document",
        "dictation prose, report prose",
        "input=dictation, document=report",
    ),
    ("document", "note prose, document prose", "input=note, document=document"),
    (
        "summarize",
        "document prose, summary prose",
        "input=document, target=summary",
    ),
    ("summarize", "befund prose, summary short", "input=befund, target=summary"),
    (
        "summarize",
        "note number, text prose, summary none",
        "input=text, target=summary",
    ),
    (
        "summarize",
        "note none, text prose, summary short",
        "input=text, target=summary",
    ),
    ("text", "mrn number, befund prose, ward short", "group=mrn, input=befund"),
    ("text", "question prose, answer prose", "question=question, target=answer"),
    ("text", "note prose, summary short", "input=note, target=summary"),
    # An id is never chosen by its values; which of several by the order of their names.
    ("text", "row_id int, pmid int, text prose", "id=pmid, input=text"),
    ("text", "note_id float, text prose", "id=note_id, input=text"),
    ("text", "id list, text prose", "input=text"),
    # A group is the widest: patient before encounter before article.
    ("text", "hadm_id int, mrn int, subject_id int, text prose", "group=subject_id, input=text"),
    ("text", "Encounter ID int, pmcid short, text prose", "group=Encounter ID, input=text"),
    ("text", "pmid int, PMCID short, text prose", "id=pmid, group=PMCID, input=text"),
    ("text", "patient_id list, text prose", "input=text"),
    ("text", "split short, subset short, text prose", "split=split, input=text"),
]


@pytest.mark.parametrize(("task", "columns", "wanted"), GUESSES, ids=str)
def test_columns_are_guessed_by_name_and_values(task: str, columns: str, wanted: str) -> None:
    assert guess(task, columns) == set(wanted.split(", "))


def test_given_columns_are_kept_and_the_others_are_guessed() -> None:
    columns = "mrn int, note prose, report prose, summary short"
    given = Columns(input="report", id="mrn")
    assert guess("summarize", columns, given) == {"id=mrn", "input=report", "target=summary"}


def test_a_column_that_is_given_as_the_group_may_have_another_role() -> None:
    given, names = Columns(group="question"), "question prose, answer prose"
    assert guess("explain", names, given) == {
        "group=question",
        "question=question",
        "target=answer",
    }
    columns = Columns(id="id", group="question", question="question")
    shown = guess_table(["id", "question"], [], columns)
    assert "question, group" in shown


def test_a_target_column_of_yes_no_and_maybe_is_the_decision() -> None:
    told = Columns(target="urteil")
    wanted = {"question=question", "decision=urteil"}
    assert guess("answer", "question prose, urteil yes, label yes", told) == wanted
    wanted = {"question=question", "decision=label", "target=urteil"}
    assert guess("answer", "question prose, urteil prose, label yes", told) == wanted


def test_the_target_column_of_the_task_document_is_the_document() -> None:
    wanted = {"input=note", "document=letter"}
    assert guess("document", "note prose, letter prose, b prose") == wanted
    wanted = {"input=note", "document=b"}
    assert guess("document", "note prose, letter prose, b prose", Columns(target="b")) == wanted


OPEN: list[tuple[str, Columns, str, str]] = [
    (
        "summarize",
        Columns(),
        "note prose, report prose, summary short",
        "which column is the input of the task summarize? note, report all fit; name it "
        "with --input=… (flags: --input --target --question --id); the columns are note, "
        "report, summary",
    ),
    (
        "summarize",
        Columns(),
        "note prose, brief short",
        "which column is the target of the task summarize? no column has a known name; name",
    ),
    (
        "summarize",
        Columns(),
        "a prose, b prose, summary short",
        "input of the task summar",
    ),
    ("explain", Columns(), "q prose, query prose, answer prose", "q, query all fit"),
    ("explain", Columns(), "question prose, answer yes", "the target of the task explain"),
    (
        "answer",
        Columns(),
        "question prose, answer prose",
        "which column is the yes/no/maybe of the task answer? no column has a known name; name "
        "it with --target=…",
    ),
    ("answer", Columns(), "question prose, a yes, b yes", "a, b all fit"),
    ("answer", Columns(), "label yes, text prose", "the question of the task answer"),
    (
        "document",
        Columns(),
        "note prose, b prose",
        "which column is the document of the task document? no column has a known name; name it "
        "with "
        "--target=…",
    ),
    (
        "text",
        Columns(),
        "id int, ward short",
        "the input of the task text? no column has a known name",
    ),
    ("text", Columns(), "note prose, report prose", "note, report all fit"),
    (
        "summarize",
        Columns(target="Sumary"),
        "note prose, summary short",
        "no column 'Sumary'; did you mean 'summary'? the columns are note, summary",
    ),
    (
        "summarize",
        Columns(input="NOTE"),
        "Note prose, summary short",
        "no column 'NOTE'; did you mean 'Note'?",
    ),
    (
        "summarize",
        Columns(input="xyz"),
        "note prose, summary short",
        "no column 'xyz'; the columns are note, summary",
    ),
    (
        "summarize",
        Columns(input="note", target="note"),
        "note prose, summary short",
        "--input and --target both name the column 'note'",
    ),
    (
        "summarize",
        Columns(),
        ", ".join(f"column {n} prose" for n in range(22)),
        "column 18, column 19 and 2 more",
    ),
]


@pytest.mark.parametrize(("task", "given", "columns", "message"), OPEN, ids=str)
def test_ambiguous_columns_are_left_to_the_user(
    task: str, given: Columns, columns: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as refused:
        guess(task, columns, given)
    assert "\n" not in str(refused.value)


def test_column_names_are_escaped_and_shortened_in_messages() -> None:
    with pytest.raises(ConfigError) as refused:
        guess("summarize", f"a\x1b[2J prose, {'x' * 99} prose")
    assert "a\\x1b[2J, " + "x" * 40 in str(refused.value)
    assert "x" * 41 not in str(refused.value)


def test_the_table_shows_roles_and_masked_cells() -> None:
    names = ["note_id", "text", "label", "tags", "empty"]
    rows = [
        {"note_id": 7, "text": "John Smith, born 12.3.1950, has a cough", "label": "yes"},
        {"note_id": 8, "text": "Anna\x07 \x1b[2J", "label": "no", "tags": ["a", "b"], "empty": ""},
        {"note_id": 9, "text": "third"},
    ]
    columns = Columns(id="note_id", input="text", decision="label")
    shown = guess_table(names, rows, columns)
    assert not re.search("Smith|John|1950|Anna|third|\x1b", shown)
    lines = [re.split(" {2,}", line) for line in shown.splitlines()[3:]]
    assert lines == [
        ["note_id", "id", "int", "int"],
        ["text", "input", "J… S… b… # (7 words)", "A… #"],
        ["label", "decision", "yes", "no"],
        ["tags", "not used", "a list of 2", "–"],
        ["empty", "not used", "–", "–"],
    ]


# Rows as records

ALL = Columns(
    id="i",
    group="g",
    question="q",
    input="t",
    target="a",
    document="w",
    decision="d",
    keywords="k",
)


def test_a_row_with_every_column_becomes_a_record() -> None:
    row = {"i": 7, "q": " Why? ", "t": "A\n note", "a": "So.", "w": "PLAN:  rest\n\nDr X"}
    row |= {"d": "YES", "k": "x; y,|z ", "z": 1}
    wanted = Record(
        id="7",
        question="Why?",
        sections=(("TEXT", "A note"),),
        long_answer="So.",
        decision="yes",
        document="PLAN: rest\n\nDr X",
        keywords=("x", "y", "z"),
    )
    assert record_of(row, ALL) == wanted
    assert record_of(row | {"k": ["x", "y", "z"]}, ALL) == wanted


@pytest.mark.parametrize("blank", [None, "", " \u2003\n", "\0", "\0" * 99])
def test_blank_and_missing_cells_become_none(blank: str | None) -> None:
    full: dict[str, object] = dict.fromkeys("igqawdk", blank)
    for row in (full | {"t": "x"}, {"t": "x"}):
        assert record_of(row, ALL) == Record(id="", question="", sections=(("TEXT", "x"),))
    assert record_of({"q": "Why?", "t": blank}, ALL).sections == ()
    assert record_of({"q": "\0" * 99 + "Why?"}, ALL).question == "Why?"
    with pytest.raises(DataError, match="^it has neither a question nor text"):
        record_of({"a": "an answer", "t": blank}, ALL)


@pytest.mark.parametrize(("value", "name"), [(17, "17"), (17.0, "17"), ("017", "017"), (0, "0")])
def test_ids_and_groups_may_be_numbers(value: object, name: str) -> None:
    record = record_of({"i": value, "g": value, "t": "x"}, ALL)
    assert (record.id, record.group) == (name, name)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"t": 5}, "column 't' must be text, not int"),
        ({"q": 1.5}, "column 'q' must be text, not float"),
        ({"a": True}, "column 'a' must be text, not bool"),
        ({"d": True}, "column 'd' must be yes, no or maybe, not 'true'"),
        ({"a": ["x"]}, "column 'a' must be text, not a list of texts"),
        ({"t": {"x": 1}}, "column 't' must be text, not an object with 'x'"),
        ({"k": 5}, "column 'k' must be keywords, not int"),
        ({"k": [5]}, "column 'k' must be keywords, not a list of numbers"),
        ({"d": "perhaps"}, "column 'd' must be yes, no or maybe, not 'perhaps'"),
        ({"i": 1.5}, "a record's id must be a string or an integer, not float"),
        ({"g": 1.5}, "a record's group must be a string or an integer, not float"),
        ({"i": True}, "a record's id must be a string or an integer, not bool"),
        ({"i": ["1"]}, "a record's id must be a string or an integer, not list"),
    ],
)
def test_cells_of_the_wrong_type_are_refused(cells: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        record_of({"i": "1", "t": "x"} | cells, ALL)
