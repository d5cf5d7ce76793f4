"""What a card says about the tasks of its model, and the notes that users see."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from clingpt.data.prepared import (
    Prepared,
    TrainedTasks,
    after_training,
    open_prepared,
    trained_tasks,
)
from clingpt.text.tasks import TASKS
from clingpt.text.tokenizer import RELEASED, Tokenizer
from model import SIZES

NO_REPLY = "Do not expect a useful reply."


def test_a_later_phase_is_known_best_and_earlier_tasks_are_kept(thirteen: Path, data: Path) -> None:
    one, two = (open_prepared(folder, Tokenizer.load()) for folder in (thirteen, data))
    first = after_training(None, two)
    assert first == TrainedTasks(("answer", "summarize"), generated=True)
    second = after_training(first, one)
    assert second == TrainedTasks(("answer",), ("summarize",), generated=True)
    assert after_training(second, one) == second, "resuming changes nothing"
    assert after_training(second, two).earlier == ()


def test_plain_text_is_not_a_task_and_replaces_none(thirteen: Path) -> None:
    domain = open_prepared(thirteen, Tokenizer.load())
    domain.manifest["settings"]["source"] = "notes.csv"
    train = domain.split("train")
    train.index[:, 3] = TASKS.index("text")
    with mock.patch.object(Prepared, "split", return_value=train):
        text = TrainedTasks((), plain_text=True)
        assert after_training(None, domain) == text
        later = after_training(TrainedTasks(("answer",)), domain)
        assert later == replace(text, earlier=("answer",))
    after = after_training(text, open_prepared(thirteen, Tokenizer.load()))
    assert after.plain_text, "a later phase on answers does not undo the one on text"


def test_a_model_writes_only_the_passages_that_carried_a_loss() -> None:
    answer = TrainedTasks(("answer",))
    assert answer.trained_to_write("explanation") and not answer.trained_to_write("context")
    assert not answer.trained_to_write("prose") and TrainedTasks(("explain",)).trained_to_write(
        "prose"
    )
    assert replace(answer, plain_text=True).trained_to_write("context")
    assert TrainedTasks(("document",)).trained_to_write("context"), "a document restates it"
    assert TrainedTasks((), ("explain",)).trained_to_write("prose"), "in an earlier phase"
    assert TrainedTasks((), released=True).trained_to_write("context") is None, "nobody knows"


@pytest.mark.parametrize(
    ("known", "task", "note"),
    [
        (TrainedTasks(("answer",)), "answer", None),
        (
            TrainedTasks(("answer", "explain")),
            "summarize",
            f"This model was not trained to summarize, only to answer and explain. {NO_REPLY}",
        ),
        (
            TrainedTasks(("summarize", "document")),
            "answer",
            "This model was not trained to answer, only to summarize and draft documents. "
            f"{NO_REPLY}",
        ),
        (
            TrainedTasks(("answer",)),
            "document",
            f"This model was not trained to draft documents, only to answer. {NO_REPLY}",
        ),
        (
            TrainedTasks(("answer",), ("summarize",)),
            "summarize",
            "This model was trained to summarize only in an earlier phase. The last phase "
            "trained it to answer, so it may have forgotten much.",
        ),
        (
            TrainedTasks((), ("answer",)),
            "answer",
            "This model was trained to answer only in an earlier phase. The last phase used "
            "plain text, so it may have forgotten much.",
        ),
        (
            TrainedTasks((), released=True),
            "answer",
            "GPT-2 as released was not trained to answer or for any other task: it only continues "
            f"text. {NO_REPLY}",
        ),
    ],
)
def test_the_note_names_what_the_model_was_trained_to_do(
    known: TrainedTasks, task: str, note: str | None
) -> None:
    assert known.note(task) == note


def test_a_card_without_tasks_is_completed_from_its_data(thirteen: Path, tmp_path: Path) -> None:
    data = open_prepared(thirteen, Tokenizer.load())
    card: dict[str, Any] = {"format": 1, "data": {"folder": str(thirteen)}}
    assert trained_tasks(card, "x") is None, "the data may have changed since"
    card["data"]["fingerprint"] = data.fingerprint
    known = trained_tasks(card, "x")
    assert known == TrainedTasks(("answer",), generated=True)
    assert trained_tasks(json.loads(json.dumps(known.to_card())), "x") == known
    card["data"]["folder"] = str(tmp_path)
    assert trained_tasks(card, "x") is None
    assert trained_tasks({"format": 1}, "x") is None


def test_only_gpt2_is_known_without_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(RELEASED) == set(SIZES)
    (tmp_path / "gpt2-xl").mkdir()
    for name in ("gpt2", "openai-community/gpt2-large", f"{tmp_path}/gpt2-xl"):
        assert trained_tasks({}, name) == TrainedTasks((), released=True)
    for name in ("out/gpt2", "somebody/gpt2", "distilgpt2", os.fspath(tmp_path)):
        assert trained_tasks({}, name) is None
