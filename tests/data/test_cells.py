"""Cells: structure, real or printed, and what it means; prose that begins like it; gaps."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from clingpt.base.errors import DataError
from clingpt.data.cells import (
    MOST_CHARS,
    MOST_DEPTH,
    CellRule,
    NotText,
    looks_printed,
    parse,
    rule_for,
    sections_in,
    texts_in,
)
from clingpt.data.columns import Columns, record_of

LONG = "It was seen on both sides and did not change."
CONTEXT = {"contexts": ["A b.", "C d."], "labels": ["AIM", "RESULTS"], "reasoning_free_pred": "yes"}
ARRAYS = {key: np.array(list(value), dtype=object) for key, value in CONTEXT.items()}

# How structure is printed, and the sections that it means.
PLAIN: list[tuple[Any, list[tuple[str, str]]]] = [
    (str(["a b.", "it's"]), [("TEXT", "a b. it's")]),
    ('["a b.", "c"]', [("TEXT", "a b. c")]),
    (str(("x", "y")), [("TEXT", "x; y")]),
    (str(np.array(["a", "it's", "c"])), [("TEXT", "a; it's; c")]),
    (str(np.array([LONG, LONG])), [("TEXT", f"{LONG} {LONG}")]),  # broken into lines
    (repr(np.array(["a", "b"], dtype=object)), [("TEXT", "a; b")]),
    (repr(np.array([LONG] * 3)), [("TEXT", f"{LONG} {LONG} {LONG}")]),
    (repr([np.str_("a"), np.str_("b")]), [("TEXT", "a; b")]),
    ("OrderedDict([('AIM', 'x y'), ('RESULTS', 'z')])", [("AIM", "x y"), ("RESULTS", "z")]),
    (str(CONTEXT), [("AIM", "A b."), ("RESULTS", "C d.")]),
    (str(ARRAYS), [("AIM", "A b."), ("RESULTS", "C d.")]),
    (str({"contexts": ["A b."]}), [("TEXT", "A b.")]),
    (
        str({"AIM": "x", "y_pred": "yes", "RESULTS": ["z", "w"]}),
        [("AIM", "x"), ("RESULTS", "z; w")],
    ),
    ("[{'text': 'yes it', 'answer_start': 3}]", [("TEXT", "yes it")]),
    ("{'text': array(['a'], dtype=object), 'answer_start': array([1])}", [("TEXT", "a")]),
    ('[{"label": "AIM", "text": "x"}]', [("AIM", "x")]),
    ('[["AIM", "x"], ["y_pred", "yes"]]', [("AIM", "x")]),
    ("b'Chest film'", [("TEXT", "Chest film")]),
    ("[nan, 'a', None]", [("TEXT", "a")]),
    ("['']", []),
    ("[]", []),
]


@pytest.mark.parametrize(("cell", "sections"), PLAIN, ids=lambda value: str(value)[:40])
def test_printed_structure_of_plain_meaning_is_parsed(
    cell: str, sections: list[tuple[str, str]]
) -> None:
    assert sections_in(parse(cell)) == sections
    assert looks_printed(cell)
    with pytest.raises(NotText):  # in a column of prose
        CellRule(column="x").text(cell, Counter())


@pytest.mark.parametrize(
    "value",
    [["a b.", "c"], CONTEXT, {"contexts": ["a"]}, [["AIM", "x"], ["RESULTS", "y"]], ["", None]],
    ids=str,
)
def test_real_structure_means_what_it_means_when_it_is_printed(value: Any) -> None:
    assert sections_in(value) == sections_in(parse(str(value)))
    rule, printed = (rule_for("input", "x", [each] * 12) for each in (value, str(value)))
    assert rule == printed and rule.structured
    assert rule.sections(value, Counter()) == rule.sections(str(value), Counter())


UNREADABLE = {
    "array(['a', ..., 'b'], dtype=object)": "a truncated array",
    "['a' 'b' ... 'c' 'd']": "a truncated array",
    "tensor([1, 2])": "a tensor",
    "tensor(1)": "a tensor",
    "<Row text='a'>": "a printed object",
    "Row(text='a', label=1)": "a database row",
    "<__main__.X object at 0x7f00>": "a printed object",
    "0    a\n1    b\nName: text, dtype: object": "a pandas Series",
    "     a\n0    b\n\n[100 rows x 1 columns]": "a pandas table",
    "['a', 'b": "a printed list",  # cut off, as Excel does
    "{'a': <Foo>, 'b': 1}": "a printed object",
    "defaultdict(<class 'list'>, {'a': 1})": "a printed object",
    "[" * 30 + "1" + "]" * 30: "a deeply nested list",
    "[" * 5000 + "1" + "]" * 5000: "a deeply nested list",
    "[" * 9 + "'a'" + "]" * 9: "a deeply nested list",  # printed by Python, and not JSON
    "[" * 5000 + "'a'" + "]" * 5000: "a deeply nested list",
    str(["x" * 1000] * (MOST_CHARS // 1000)): "a printed list, too long to parse",
}


@pytest.mark.parametrize(("cell", "looks"), UNREADABLE.items(), ids=lambda text: text[:40])
def test_structure_that_cannot_be_read_is_refused_by_what_it_looks_like(
    cell: str, looks: str
) -> None:
    with pytest.raises(NotText) as refused:
        parse(cell)
    assert refused.value.looks == looks
    with pytest.raises(NotText):
        CellRule(column="x").text(cell, Counter())


@pytest.mark.parametrize("item", ['"a"', "'a'"])
def test_lists_are_parsed_up_to_a_depth(item: str) -> None:
    assert parse("[" * MOST_DEPTH + item + "]" * MOST_DEPTH) == [[[[[[[["a"]]]]]]]]
    with pytest.raises(NotText, match="a deeply nested list"):
        parse("[" * (MOST_DEPTH + 1) + item + "]" * (MOST_DEPTH + 1))


@pytest.mark.parametrize(
    "value",
    [[["a"], ["b"]], [1, 2], {"a": 1}, {"answer": "yes", "note": "x"}, [{"a": "b"}], [True]],
    ids=str,
)
def test_structure_without_a_plain_meaning_is_refused(value: Any) -> None:
    for each in (value, parse(str(value))):
        with pytest.raises(NotText):
            texts_in(each)
        with pytest.raises(NotText):
            sections_in(each)


@pytest.mark.parametrize(
    "prose",
    [
        "[doctor] hi , martha . [patient] i'm okay",
        "[Patient] was seen.",
        "[**Name**] was seen on [**2101-1-1**]",
        "{name} came in with {complaint}",
        "{note}",
        "(1) First … (2) Second",
        "(see below)",
        "(4)",
        "('a')",
        "[1] As shown by",
        "[XXXX]",
        "[3 x 4 cm]",
        "[Indication: 'r/o' fx]",
        '"Hello" he said',
        "'quoted'",
        '["I feel fine," he said]',
        "<patient> was seen",
        "<120 mmHg",
        "None.",
        "5",
        "MRI (3T)",
        "Normal(ish) lungs (clear)",
        "Exam(CT): x=3",
        "b.i.d. dosing",
        "array of findings",
    ],
)
def test_prose_that_begins_like_structure_is_prose(prose: str) -> None:
    assert parse(prose) == prose
    assert looks_printed(prose) is None
    rule = rule_for("input", "x", [prose, LONG] * 8)
    assert not rule.structured
    assert rule.text(prose, Counter()) == prose


def test_printed_structure_within_a_list_is_refused() -> None:
    for cell in ([LONG, str(CONTEXT)], {"AIM": str(CONTEXT)}, {"text": str(["a", "b"])}):
        rule = rule_for("input", "x", [str(cell)] * 12)
        with pytest.raises(NotText, match="within a list or an object"):
            rule.sections(str(cell), Counter())


def read(role: str, name: str, cells: list[Any]) -> list[str | None]:
    rule = rule_for(role, name, [cell for cell in cells if cell is not None])
    return [rule.text(cell, Counter()) for cell in cells]


def test_several_answers_are_alternatives_or_one_list() -> None:
    several = [str(["Rest.", "Sleep."])] * 12
    assert set(read("target", "answers", several)) == {"Rest."}
    assert set(read("target", "answer", several)) == {"Rest. Sleep."}
    spans = [[{"text": "Rest.", "answer_start": 1}, {"text": "Sleep.", "answer_start": 9}]] * 12
    assert set(read("target", "answer", spans)) == {"Rest."}
    assert rule_for("target", "answers", several).says == "lists of 2 texts, the first taken"
    sizes = [str(["Rest."] * n) for n in (1, 2, 5)] * 4
    assert rule_for("target", "answer", sizes).says == "lists of 1 to 5 texts, joined"


@pytest.mark.parametrize("gap", ["nan", "NaN", "NaT", "<NA>", "\\N", float("nan"), None])
def test_marks_of_gaps_are_empty_in_every_column(gap: Any) -> None:
    assert read("target", "x", [gap, "Cough."] * 8)[0] is None
    row = {"t": LONG, "i": gap, "g": gap}
    record = record_of(row, Columns(id="i", group="g", input="t"))
    assert (record.id, record.group) == ("", None)


@pytest.mark.parametrize("word", ["None", "null", "NULL", "NA", "N/A"])
def test_words_for_gaps_are_empty_only_among_prose(word: str) -> None:
    assert read("target", "x", [word, LONG, LONG])[0] is None
    assert read("target", "x", [word, "Cough.", "Fever."])[0] == word
    text = f"Comparison: {word}. {LONG}"
    assert read("input", "x", [text, LONG]) == [text, LONG]
    row = {"t": LONG, "g": word}
    assert record_of(row, Columns(group="g", input="t")).group is None


def test_a_text_that_is_cut_for_the_sample_is_not_taken_for_structure() -> None:
    with pytest.raises(DataError, match="must be text, not a list of texts"):
        record_of({"t": str(["a", "b"])}, Columns(input="t"))
