"""Instruction data: conversations, SQuAD, BioASQ, alpaca, and prompts with completions."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from clingpt.base.errors import ConfigError, DataError
from clingpt.data.sources import Source, choose_columns
from clingpt.text.records import Record
from clingpt.text.tasks import prompt_text, target_text

N = 12


def read(path: Path, task: str, bad: list[str] | None = None) -> tuple[list[Record], Source]:
    """Read a file as prepare.py does for a task."""
    choice = choose_columns(str(path), task)
    assert choice is not None
    source = Source(name=str(path), columns=choice[0], columns_table=choice[1])

    def on_bad(error: DataError) -> None:
        assert bad is not None, error
        bad.append(str(error))

    return [each.record for each in source.read(on_bad)], source


def write(path: Path, rows: list[Any]) -> Path:
    lines = path.suffix == ".jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows))
    return path


def note(n: int) -> str:
    return f"Chest film number {n} shows clear lungs and a heart of normal size."


def messages(n: int) -> list[dict[str, Any]]:
    return [
        {"role": "system", "content": "You summarise reports."},
        {"role": "user", "content": note(n)},
        {"role": "assistant", "content": f" Normal film {n}."},
    ]


def sharegpt(n: int) -> list[dict[str, Any]]:
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    return [{"from": names[each["role"]], "value": each["content"]} for each in messages(n)]


SHAPES: dict[str, list[Any]] = {
    "messages.jsonl": [{"messages": messages(n)} for n in range(N)],
    "sharegpt.json": [{"id": f"c{n}", "conversations": sharegpt(n)} for n in range(N)],
    "developer.json": [
        {"messages": [{"role": "developer", "content": "Be brief."}, *messages(n)[1:]]}
        for n in range(N)
    ],
    "parts.jsonl": [
        {
            "messages": [
                {**each, "content": [{"type": "text", "text": each["content"]}]}
                for each in messages(n)
            ]
        }
        for n in range(N)
    ],
    "trl.jsonl": [{"prompt": messages(n)[:2], "completion": messages(n)[2:]} for n in range(N)],
    "prompts.jsonl": [{"prompt": note(n), "completion": f" Normal film {n}."} for n in range(N)],
    "alpaca.json": [
        {"instruction": "Summarise this.", "input": note(n), "output": f"Normal film {n}."}
        for n in range(N)
    ],
    "printed.csv": [{"messages": str(messages(n))} for n in range(N)],
    "orca.jsonl": [
        {"system_prompt": "Be brief.", "question": note(n), "response": f"Normal film {n}."}
        for n in range(N)
    ],
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_of_instruction_data_gives_the_same_texts(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, SHAPES[name][0].keys())
            table.writeheader()
            table.writerows(SHAPES[name])
    else:
        write(path, SHAPES[name])
    records, source = read(path, "explain")
    assert [prompt_text("explain", each) for each in records] == [
        f"Question: {note(n)}\nExplanation:" for n in range(N)
    ]
    assert [target_text("explain", each) for each in records] == [
        f" Normal film {n}." for n in range(N)
    ]
    if name != "orca.jsonl":
        records, _ = read(path, "summarize")
        assert prompt_text("summarize", records[3]) == f"Report:\nTEXT: {note(3)}\nSummary:"
    if name.startswith(("messages", "share", "alpaca")):
        assert source.columns
        [said, *_] = source.columns.notes
        assert "has one value in nearly every row and is not used" in said


def test_turns_keep_their_roles_and_the_last_answer_is_the_target(tmp_path: Path) -> None:
    rows = [
        {
            "messages": [
                {"role": "system", "content": f"Ward {n}."},
                {"role": "user", "content": f"First {n}?"},
                {"role": "assistant", "content": "So."},
                {"role": "tool", "content": "3.2"},
                {"role": "assistant", "content": None, "tool_calls": [{"id": 1}]},
                {"role": "user", "content": f"And then {n}?"},
                {"role": "assistant", "content": f"Then {n}."},
                {"role": "user", "content": "Thanks!"},
            ],
            "patient_id": f"p{n // 2}",
        }
        for n in range(N)
    ]
    path = write(tmp_path / "m.jsonl", rows)
    [record, *_], _ = read(path, "explain")
    turns = "SYSTEM: Ward 0.\nUSER: First 0?\nASSISTANT: So.\nTOOL: 3.2\n"
    assert prompt_text("explain", record) == (
        f"Context:\n{turns}Question: And then 0?\nExplanation:"
    )
    assert (target_text("explain", record), record.group) == (" Then 0.", "p0")
    [record, *_], _ = read(path, "summarize")
    assert prompt_text("summarize", record) == f"Report:\n{turns}USER: And then 0?\nSummary:"
    [record, *_], _ = read(path, "text")
    assert record.question == ""  # it is in the conversation already


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([], "has no turn of the assistant"),
        ([{"role": "user", "content": "x"}], "has no turn of the assistant"),
        ([{"role": "assistant", "content": "x"}], "begins with the assistant"),
        ([{"role": "narrator", "content": "x"}], "unknown role 'narrator'"),
        (
            [{"role": "user", "content": [{"type": "image_url"}]}],
            "a part of type 'image_url', which is not text",
        ),
    ],
    ids=str,
)
def test_conversations_that_cannot_be_used_are_counted_with_the_reason(
    turns: list[Any], reason: str, tmp_path: Path
) -> None:
    rows = [{"messages": messages(n)} for n in range(N)] + [{"messages": turns}]
    bad: list[str] = []
    records, _ = read(write(tmp_path / "m.jsonl", rows), "explain", bad)
    assert len(records) == N
    [error] = bad
    assert reason in error and error.startswith(f"{tmp_path}/m.jsonl:{N + 1}: ")
    if not turns:  # in the first row too
        assert len(read(write(tmp_path / "n.jsonl", rows[::-1]), "explain", bad)[0]) == N


def test_the_error_for_another_task_proposes_those_that_fit(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", SHAPES["messages.jsonl"])
    with pytest.raises(ConfigError, match="they fit --task=summarize or .*--task=explain$"):
        choose_columns(str(path), "answer")


def test_squad_is_read_question_by_question(tmp_path: Path) -> None:
    articles: list[dict[str, Any]] = [
        {
            "title": f"t{n}",
            "paragraphs": [
                {
                    "context": note(n),
                    "qas": [
                        {
                            "id": f"{n}a",
                            "question": f"Which film {n}?",
                            "answers": [{"text": f"number {n}", "answer_start": 11}, {"text": "x"}],
                        },
                        {
                            "id": f"{n}b",
                            "question": f"Who took film {n}?",
                            "is_impossible": True,
                            "answers": [{"text": "lungs", "answer_start": 3}] * (n % 2),
                            "plausible_answers": [{"text": "lungs", "answer_start": 3}],
                        },
                        {
                            "id": f"{n}c",
                            "question": f"Where was film {n} taken?",
                            "answers": [],
                            "plausible_answers": [{"text": "lungs", "answer_start": 3}],
                        },
                    ],
                }
            ],
        }
        for n in range(N)
    ]
    path = tmp_path / "squad.json"
    path.write_text(json.dumps({"version": "v2.0", "data": articles}))
    records, _ = read(path, "explain")
    assert len(records) == 3 * N
    assert records[9] == Record(
        id="3a",
        group="t3",
        question="Which film 3?",
        sections=(("TEXT", note(3)),),
        long_answer="number 3",
    )
    assert [each.long_answer for each in records[10:12]] == [None, None]

    flat = [
        {
            "question": f"Which {n}?",
            "context": note(n),
            "answers": {"text": [f"{n}", "x"], "answer_start": [1, 2]},
        }
        for n in range(N)
    ]
    records, _ = read(write(tmp_path / "flat.jsonl", flat), "explain")
    assert (records[3].long_answer, records[3].context()) == ("3", note(3))

    untitled: dict[str, Any] = {"paragraphs": articles[0]["paragraphs"] + articles[1]["paragraphs"]}
    path.write_text(json.dumps({"data": [untitled, *articles[2:]]}))
    records, _ = read(path, "explain")
    first, second, third = (each.group for each in records[:9:3])
    assert first and second and first != second  # by the passage
    assert third == "t2"

    articles[2]["paragraphs"][0]["document_id"] = 7  # COVID-QA's, whose articles have no title
    path.write_text(json.dumps({"data": articles}))
    records, _ = read(path, "explain")
    assert [each.group for each in records[:9:3]] == ["t0", "t1", "7"]

    articles[0]["paragraphs"] = [{"text": "x"}]
    path.write_text(json.dumps({"data": articles}))
    bad: list[str] = []
    assert len(read(path, "explain", bad)[0]) == 3 * N - 3
    assert "not an article of SQuAD, which has paragraphs with `context`" in bad[0]


def test_bioasq_gives_snippets_answers_and_decisions(tmp_path: Path) -> None:
    def question(n: int, **fields: Any) -> dict[str, Any]:
        snippets = [{"text": note(n), "document": "x"}, {"text": note(n)}, {"text": "Also."}]
        return {"id": f"q{n}", "body": f"Is film {n} normal?", "snippets": snippets, **fields}

    kinds: list[dict[str, Any]] = [
        {"type": "yesno", "exact_answer": "Yes", "ideal_answer": ["It is.", "Normal."]},
        {"type": "yesno", "exact_answer": "no"},
        {"type": "list", "exact_answer": [["a", "A."], ["b"]]},
        {"type": "factoid", "exact_answer": ["c"], "ideal_answer": "It is c."},
        {"type": "summary", "ideal_answer": ["So."]},
    ]
    path = tmp_path / "bioasq.json"
    rows = [question(n, **kinds[n % 5]) for n in range(15)]
    path.write_text(json.dumps({"questions": rows}))
    records, _ = read(path, "answer")
    found = [(each.decision, each.long_answer) for each in records[:5]]
    assert found == [
        ("yes", "It is."),
        ("no", None),
        (None, "a; b"),
        (None, "It is c."),
        (None, "So."),
    ]
    assert records[0].sections == (("TEXT", f"{note(0)} Also."),)
