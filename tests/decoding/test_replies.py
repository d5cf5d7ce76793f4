"""Questions trimmed to a context, and the JSON form of a reply."""

import subprocess
import sys
from dataclasses import replace

import pytest

from clingpt.base.errors import DataError
from clingpt.decoding.replies import Question, ask_task, ask_to_continue, reply_json
from clingpt.text.documents import Draft
from clingpt.text.records import Record
from clingpt.text.tasks import Prompt
from clingpt.text.tokenizer import EOT, Tokenizer
from tests.helpers.commands import ROOT

TOKENIZER = Tokenizer.load()


@pytest.mark.parametrize(("n_words", "left_out"), [(39, 0), (40, 0), (41, 1), (100, 60)])
def test_a_long_text_is_cut_at_its_start(n_words: int, left_out: int) -> None:
    text = " ".join(["old", *["word"] * (n_words - 2), "new"])
    question = ask_to_continue(text, TOKENIZER, context=64, longest=24, name="7")
    kept = TOKENIZER.encode(text)[left_out:]
    assert question == Question("7", Draft((Prompt(ids=kept, trimmed_tokens=left_out),), 24))


def test_an_empty_text_is_continued_from_an_end_of_text() -> None:
    question = ask_to_continue("", TOKENIZER, context=64, longest=24, name="input")
    assert question.prompt == Prompt(ids=[EOT], trimmed_tokens=0)


def test_a_long_record_loses_context_and_keeps_its_question() -> None:
    long = Record(id="1", question="Is it so?", sections=(("RESULTS", "It was so. " * 30),))
    question = ask_task("answer", long, TOKENIZER, context=64, longest=24)
    assert (question.id, question.task, question.record) == ("1", "answer", long)
    assert 30 < len(question.prompt.ids) <= 40 and question.prompt.trimmed_tokens > 60
    assert TOKENIZER.decode(question.prompt.ids).endswith("Question: Is it so?\nAnswer:")


@pytest.mark.parametrize(
    ("task", "asked", "text", "message"),
    [
        ("answer", "", "It was.", "record r9 has no question, which the task answer needs"),
        ("summarize", "Is it so?", "", "record r9 has no text, which the task summarize needs"),
        ("answer", "Is it so? " * 30, "It was.", "record r9 has a question that alone fills the "),
    ],
)
def test_an_error_names_the_record_and_the_missing_field(
    task: str, asked: str, text: str, message: str
) -> None:
    record = Record(id="r9", question=asked, sections=(("TEXT", text),) if text else ())
    with pytest.raises(DataError, match=message):
        ask_task(task, record, TOKENIZER, context=64, longest=24)
    with pytest.raises(DataError, match=message.replace("record r9", "the record")):
        ask_task(task, replace(record, id="input"), TOKENIZER, context=64, longest=24)


def test_a_reply_is_written_in_the_documented_order_of_fields() -> None:
    question = Question("r9", Draft((Prompt(ids=[1, 2, 3], trimmed_tokens=4),), 24), "answer")
    greedy = reply_json(question, text=" yes", finish_reason="stop", new_tokens=1)
    assert list(greedy.items()) == [
        ("id", "r9"), ("task", "answer"), ("text", " yes"), ("finish_reason", "stop"),
        ("prompt_tokens", 3), ("trimmed_tokens", 4), ("new_tokens", 1),
    ]  # fmt: skip
    judged = reply_json(
        question,
        text=" yes",
        finish_reason="stop",
        new_tokens=1,
        judgement={
            "label": "yes",
            "probabilities": {"yes": 1.0},
            "calibration_note": None,
            "unlike_training": None,
            "abstained": None,
        },
        seed=4,
        stopped_by="\n",
    )
    assert list(judged) == [
        "id", "task", "label", "probabilities", "calibration_note", "unlike_training",
        "abstained", "text", "finish_reason", "stopped_by", "seed",
        "prompt_tokens", "trimmed_tokens", "new_tokens",
    ]  # fmt: skip
    assert (judged["seed"], judged["stopped_by"]) == (4, "\n")


def test_replies_and_label_scores_need_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; "
        "import clingpt.decoding.replies, clingpt.evaluation.calibration"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
