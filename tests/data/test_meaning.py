"""What columns mean together: annotators' fields, constant columns, labels, copies."""

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clingpt.base.errors import ClingptError, ConfigError, DataError
from clingpt.data.columns import Columns, guess_columns, guess_table, parse_labels, record_of
from clingpt.data.pipeline import count_records
from clingpt.data.sources import Source, choose_columns, refuse
from clingpt.text.records import from_json, has_annotation, is_annotation, refuse_annotations
from clingpt.text.tasks import TASK_TABLE, NotApplicable, prompt_text
from tests.helpers.preparing import in_process, refused, write_lines

N = 12
LABELS = ("yes", "no", "maybe")


def prose(n: int) -> str:
    return f"Pain fell by {n} points in the arm that was given the drug in week {n}."


def guess(task: str, rows: list[dict[str, Any]], **given: Any) -> Columns:
    return guess_columns(list(rows[0]), rows, task, Columns(**given))


# Annotators' fields

OPINIONS = (
    "reasoning_required_pred reasoning_free_pred reasoning_required Reasoning_Free_Pred pred "
    "y_pred modelPrediction prediction predictions predicted_label context.reasoning_free_pred"
).split() + ["Predicted label", "model prediction"]
SOURCE_TEXTS = (
    "reasoning rationale explanation text context predisposing predose spread long_answer "
    "preds_on expression".split()
)


def test_annotators_fields_are_known_by_their_names() -> None:
    assert [name for name in OPINIONS if not is_annotation(name)] == []
    assert [name for name in SOURCE_TEXTS if is_annotation(name)] == ["preds_on"]


SECRET = "zebrafinch"  # an opinion: it must not be in any prompt


def roads(rng: random.Random, name: str) -> Iterable[tuple[dict[str, Any], dict[str, str]]]:
    """Yield rows that bring an annotator's field, each by another road, and the user's columns."""
    opinion = rng.choice([SECRET, [SECRET], f"{SECRET} because {prose(1)}", {"text": SECRET}])
    flat = {"id": "1", "question": "Does it help?", "text": prose(2), "decision": "yes"}
    struct = {"contexts": [prose(3), prose(4)], "labels": ["AIM", "RESULTS"], name: opinion}
    array = {key: np.array([value], dtype=object) for key, value in struct.items()}
    pairs = [["AIM", prose(5)], [name, str(opinion)]]
    objects = [{"label": "AIM", "text": prose(5)}, {"label": name, "text": str(opinion)}]
    yield flat | {name: str(opinion)}, {}
    yield {"question": "Does it help?", name: str(opinion), "decision": "yes"}, {}
    for role in ("input", "question", "target", "document", "keywords"):
        yield flat | {name: str(opinion)}, {role: name}
    for cell in (
        struct,
        array,
        {"context": [prose(3)], name: opinion},
        {"AIM": prose(3), name: opinion},
    ):
        cell = {key: v.tolist() if isinstance(v, np.ndarray) else v for key, v in cell.items()}
        for form in (cell, str(cell), json.dumps(cell), [cell], [str(cell)], f"Context: {cell}"):
            yield flat | {"text": form}, {}
            yield flat | {"text": form}, {"input": "text", "question": "question"}
            yield flat | {"text": form, "long_answer": form}, {}
    yield flat | {"text": str(array)}, {}
    for cells in (pairs, objects, dict(pairs)):
        yield {"question": "Why?", "sections": cells, "decision": "yes"}, {}
        yield {"question": "Why?", "input": cells, "decision": "yes"}, {}
        yield {"question": "Why?", "input": str(cells), "decision": "yes"}, {}
    yield {"pubid": 9, "question": "Why?", "context": struct, "final_decision": "yes"}, {}
    content = [prose(6), f"{struct}", f"{prose(6)} {struct}"][rng.randrange(3)]
    turns = [{"role": "user", "content": content}, {"role": "assistant", "content": "So."}]
    yield {"messages": turns, name: opinion}, {}
    yield {"instruction": prose(7), "input": str(struct), "output": prose(8)}, {}
    yield {"body": "Why?", "ideal_answer": ["So."], "snippets": [struct], name: opinion}, {}


def prompts(path: Path, given: dict[str, str]) -> list[str]:
    """Return all prompts that any task makes of a file; none where it is refused."""
    found = []
    for name, task in TASK_TABLE.items():
        try:
            choice = choose_columns(str(path), name, given=Columns(**given))  # type: ignore[arg-type]
            source = Source(name=str(path), columns=choice[0] if choice else None)
            records = [each.record for each in source.read(lambda _: None)]
        except ClingptError:
            continue
        for record in records:
            try:
                found.append(prompt_text(name, record) if task.cue else " ".join(record.texts()))
            except NotApplicable:
                continue
    return found


@pytest.mark.parametrize("name", OPINIONS[::4])
def test_no_annotators_field_reaches_a_prompt_by_any_road(name: str, tmp_path: Path) -> None:
    rng = random.Random(name)
    n_prompts = 0
    for number, (row, given) in enumerate(roads(rng, name)):
        rows = [row | ({"id": f"r{n}"} if "id" in row else {}) for n in range(3)]
        path = write_lines(tmp_path / f"{number}.jsonl", rows)
        made = prompts(path, given)
        n_prompts += len(made)
        assert not [each for each in made if SECRET in each or "_pred" in each], (row, given)
    assert n_prompts > 50  # most roads lead to a prompt, without the field


def test_an_annotators_field_is_refused_by_name() -> None:
    rows = [{"question": prose(n), "y_pred": prose(n), "label": LABELS[n % 3]} for n in range(N)]
    with pytest.raises(
        ConfigError, match="--input=y_pred: by its name, the column is an annotator's"
    ):
        guess("answer", rows, input="y_pred")
    columns = guess("answer", rows)
    assert columns.roles() == {"question": "question", "decision": "label"}
    assert "not used: an opinion" in guess_table(list(rows[0]), rows, columns)
    for fields, message in (
        (
            {"sections": [["reasoning_free_pred", "yes"]], "question": "q"},
            "a section is an annotator",
        ),
        (
            {"text": "Context: {'reasoning_free_pred': ['y', 'e', 's']}"},
            "a text contains an annotator",
        ),
    ):
        with pytest.raises(DataError, match=message):
            refuse_annotations(from_json(fields))
    refuse_annotations(from_json({"sections": [["RISK PREDICTION", "x"], ["PREDICTION", "y"]]}))


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("{'contexts': ['a'], 'reasoning_free_pred': ['y']}", True),
        ('Context: {"prediction": "yes"}', True),
        ("y_pred=yes", True),
        ("reasoning_required: yes", True),
        ("Prediction: the drug helps. Predicted FEV1: 80 %", False),
        ("prednisone 'predose': 5 mg", False),
    ],
)
def test_annotators_fields_are_found_within_texts(text: str, has: bool) -> None:
    assert has_annotation(text) is has


def test_a_rationale_with_the_label_is_no_input() -> None:
    rows = [
        {"question": prose(n), "rationale": f"{prose(n)} So the answer is {label}.", "label": label}
        for n, label in zip(range(3 * N), LABELS * N, strict=True)
    ]
    with pytest.raises(ConfigError, match="'rationale' contains the label, and no other, in 36"):
        guess("answer", rows, input="rationale")
    for row in rows:
        row["rationale"] = prose(1)
    assert guess("answer", rows[:9], input="rationale").input == "rationale"


# Constant columns


def alpaca(n: int, instruction: str = "Summarise this.") -> dict[str, str]:
    return {"instruction": instruction, "input": prose(n), "output": f"Pain fell by {n}."}


def test_a_constant_instruction_is_not_the_question() -> None:
    rows = [alpaca(n) for n in range(N)]
    columns = guess("summarize", rows)
    assert columns.roles() == {"input": "input", "target": "output"}
    columns = guess("explain", rows)
    assert columns.roles() == {"question": "input", "target": "output"}
    assert columns.notes == (
        "The column 'instruction' has one value in nearly every row and is not used.",
        "The question is the column 'input'.",
    )
    rows = [alpaca(n, prose(n + N)) for n in range(N)]
    wanted = {"question": "instruction", "input": "input", "target": "output"}
    assert guess("explain", rows).roles() == wanted
    for row in rows:
        row["input"] = ""
    [record, *_] = [record_of(row, guess("explain", rows)) for row in rows]
    assert (record.question, record.sections) == (prose(N), ())


def test_a_column_is_constant_only_if_all_rows_say_so() -> None:
    rows = [alpaca(n) for n in range(N)]
    names = list(rows[0])
    later = [*rows, *(alpaca(n, prose(n)) for n in range(3 * N))]  # sorted by instruction
    columns = guess_columns(names, rows, "explain", every=lambda: later)
    assert columns.question == "instruction"
    assert guess("explain", rows[:9]).question == "instruction"  # too few to tell


def test_a_user_may_name_a_constant_question_but_no_constant_target() -> None:
    rows = [alpaca(n) for n in range(N)]
    columns = guess("explain", rows, question="instruction")
    assert columns.roles() == {"question": "instruction", "input": "input", "target": "output"}
    assert "as the question of all records" in columns.notes[0]
    message = "'instruction' has one value in nearly every row, so it cannot be the"
    for role in ("target", "input"):
        with pytest.raises(ConfigError, match=message):
            guess("summarize", [row | {"x": prose(3)} for row in rows], **{role: "instruction"})


def test_equal_targets_are_refused() -> None:
    rows = [{"note": prose(n), "summary": "Normal."} for n in range(N)]
    message = "target of the task summarize. 'summary' is the same in every row, and no other"
    with pytest.raises(ConfigError, match=message):
        guess("summarize", rows)
    labels = [{"question": prose(n), "label": "yes"} for n in range(N)]
    with pytest.raises(
        ConfigError, match="'label' has one value in nearly every row, so it cannot"
    ):
        guess("answer", labels)
    explained = [
        row | {"context": prose(n), "long_answer": f"So {n}."} for n, row in enumerate(labels)
    ]
    assert "as the decision of all records" in guess("answer", explained).notes[0]


def test_copies_between_columns_are_refused_or_noted() -> None:
    rows = [{"note": prose(n), "summary": prose(n)} for n in range(N)]
    with pytest.raises(
        ConfigError, match="'summary' equals the input 'note' in 12 of the first 12"
    ):
        guess("summarize", rows)
    passages = [row | {"summary": f"fell by {n}"} for n, row in enumerate(rows)]
    [note] = guess("summarize", passages).notes
    assert note == (
        "The target 'summary' occurs word for word in the input 'note' in 12 of the first 12 rows."
    )
    asked = [{"question": prose(n), "text": prose(n), "answer": f"So {n}!"} for n in range(N)]
    columns = guess("explain", asked)
    assert columns.roles() == {"question": "question", "target": "answer"}
    assert columns.notes == (
        "The columns 'question' and 'text' are equal; the second is not used.",
    )


# Labels


def labelled(values: Sequence[object]) -> list[dict[str, Any]]:
    return [{"question": prose(n), "label": value} for n, value in enumerate(values)]


@pytest.mark.parametrize(
    ("value", "label"),
    [("Yes", "yes"), ("NO.", "no"), (" maybe ", "maybe"), (["y", "e", "s"], "yes"), ("nan", None)],
    ids=str,
)
def test_yes_no_and_maybe_are_taken_in_any_spelling(value: object, label: str | None) -> None:
    rows = labelled([value, "no", "yes"] * 5)
    assert record_of(rows[0], guess("answer", rows)).decision == label


OTHER_LABELS: list[tuple[list[object], list[str]]] = [
    ([0, 1, 2], ["0=no", "1=yes", "2=maybe"]),
    (["0.0", "1.0", "2.0"], ["0=no", "1=yes", "2=maybe"]),
    ([False, True, None], ["false=no", "TRUE=yes"]),
    (["N", "Y", "unknown"], ["n=no", "y=yes", "unknown=maybe"]),
    (["REFUTES", "SUPPORTS", "Not enough"], ["refutes=no", "supports=yes", "not enough=maybe"]),
]


@pytest.mark.parametrize(("values", "flags"), OTHER_LABELS, ids=str)
def test_other_labels_are_listed_with_counts_and_mapped(
    values: list[object], flags: list[str], tmp_path: Path
) -> None:
    path = write_lines(tmp_path / "a.jsonl", labelled(values * 10))
    error = refused(f"--source={path}", f"--out={tmp_path}/d", "--task=answer", "--dry_run")
    n = 10 * len(flags)
    assert f"the column 'label' must be yes, no or maybe, but in {n} of 30 records it is" in (
        error.replace("20 of 20", "20 of 30")
    )
    for flag in flags:
        assert f"'{flag.rpartition('=')[0].lower()}' (10)" in error
    assert "--labels " in error

    labels = parse_labels(flags)
    columns = guess("answer", labelled(values * 10), labels=labels)
    found = [record_of(row, columns).decision for row in labelled(values)]
    assert found == ["no", "yes", "maybe" if values[2] is not None else None]


def test_labels_that_hit_nothing_or_not_all_are_errors(tmp_path: Path, wide: None) -> None:
    path = write_lines(tmp_path / "a.jsonl", labelled(["a", "b", "yes"] * 20))
    flags = [f"--source={path}", f"--out={tmp_path}/d", "--task=answer", "--dry_run"]
    flags += ["--val_share=0.3", "--test_share=0.3", "--allow_overlap"]
    error = refused(*flags, "--labels", "a=yes", "b=no", "c=maybe")
    assert error.startswith("--labels maps 'c', a value that no record of ")
    error = refused(*flags, "--labels", "a=no")
    assert "in 20 of 60 records it is 'b' (20), first at" in error
    shown = in_process(*flags, "--labels", "a=no", "--skip_bad=True")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "must be yes, no or maybe, not 'b'" in shown.stdout
    for wrong in (["a"], ["a=perhaps"], ["=yes"], ["a=yes", "A.=no"]):
        with pytest.raises(ConfigError, match="labels"):
            parse_labels(wrong)


def test_values_of_labels_are_masked(tmp_path: Path) -> None:
    values = ["John Smith 12.3.1950", "positive"] * 10
    path = write_lines(tmp_path / "a.jsonl", labelled(values))
    error = refused(f"--source={path}", f"--out={tmp_path}/d", "--task=answer", "--dry_run")
    assert "'positive' (10)" in error
    assert "Smith" not in error and "smith" not in error and "1950" not in error


# Cells that cannot be read


def test_cells_are_refused_by_column_with_counts_over_all_rows(tmp_path: Path, wide: None) -> None:
    rows = [{"note": prose(n), "summary": f"Pain fell by {n}."} for n in range(300)]
    for n in range(200, 300, 10):  # after the sample
        rows[n]["note"] = str([prose(n), prose(n)])
    rows[250]["note"] = "tensor(1)"
    path = write_lines(tmp_path / "a.jsonl", rows)
    flags = [f"--source={path}", f"--out={tmp_path}/d", "--task=summarize", "--dry_run"]
    error = refused(*flags, "--allow_overlap")
    assert error.startswith(
        "the column 'note' must be text, but in 10 of 300 records it is a list of texts (9), a "
        f"tensor (1), first at {path}:201; write it as plain text, or name another column"
    )
    shown = in_process(*flags, "--skip_bad=True", "--allow_overlap")
    assert shown.returncode == 0, shown.stderr
    assert "must be text, not a list of texts" in shown.stdout


def test_known_rows_with_printed_structure_are_refused(tmp_path: Path) -> None:
    rows = [{"id": str(n), "text": str([prose(n), prose(n)])} for n in range(N)]
    path = write_lines(tmp_path / "a.jsonl", rows)
    error = refused(f"--source={path}", f"--out={tmp_path}/d", "--task=text", "--dry_run")
    assert "must be text, not a list of texts" in error


def test_html_after_the_sample_becomes_text_too(tmp_path: Path) -> None:
    rows = [{"note": prose(n), "summary": f"Pain fell by {n}."} for n in range(300)]
    rows[299]["note"] = f"<p>{prose(1)}</p><p>p &lt; 0.05</p>"
    path = write_lines(tmp_path / "a.jsonl", rows)
    choice = choose_columns(str(path), "summarize")
    assert choice
    source = Source(name=str(path), columns=choice[0])
    count_records([source], skip_bad=False)
    assert source.cell_counts["html", "note"] == 1
    *_, last = source.read(refuse)
    assert last.record.context() == f"{prose(1)} p < 0.05"
