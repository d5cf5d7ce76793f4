"""Selection of the best checkpoint, patience, and criteria that the data cannot measure."""

import math
from typing import Any
from unittest import mock

import pytest

from clingpt.base.errors import ConfigError
from clingpt.evaluation.calibration import LabelScores
from clingpt.evaluation.scorer import Output
from clingpt.nn.checkpoint import score
from clingpt.text.records import Record
from clingpt.training import validation
from clingpt.training.validation import Validator, check_measurable, lacks_improvement


def test_scores_are_higher_for_better_checkpoints() -> None:
    figures = {"val_loss": 2.0, "val_accuracy": 0.7, "val_rougeL": 0.0}
    assert score(figures, "loss") == -2.0
    assert score(figures, "accuracy") == 0.7
    assert score(figures, "rougeL") == 0.0
    assert score(figures, "macro_f1") is None
    assert score({"val_loss": math.nan}, "loss") is None  # NaN is not a score


@pytest.mark.parametrize(
    ("losses", "patience", "expected"),
    [
        ([], 1, False),
        ([3.0], 1, False),
        ([3.0, 3.0], 1, True),  # the first of equal scores is the best
        ([3.0, 2.0, 2.5], 2, False),
        ([3.0, 2.0, 2.5, 2.1], 2, True),
        ([3.0, 2.0, 2.5, 1.9], 2, False),
        ([3.0, 4.0, 5.0, 6.0], None, False),
        ([3.0, math.nan, 4.0], 2, False),  # NaN does not count as a validation
    ],
)
def test_patience_counts_the_validations_since_the_best_one(
    losses: list[float], patience: int | None, expected: bool
) -> None:
    rows = [{"step": 1, "train_loss": 0.1}, *({"val_loss": loss} for loss in losses)]
    assert lacks_improvement(rows, "loss", patience) == expected


@pytest.mark.parametrize(
    ("select", "tasks", "held_out", "message"),
    [
        ("accuracy", ["summarize"], True, "not prepared for the task answer"),
        ("macro_f1", ["text"], True, "not prepared for the task answer"),
        ("rougeL", ["text"], True, "only for the task text, which has no references"),
        ("rougeL", ["answer"], False, "the validation split is empty"),
    ],
)
def test_a_criterion_that_the_data_cannot_measure_is_refused(
    select: str, tasks: list[str], held_out: bool, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_measurable(select, tasks=tasks, held_out=held_out)


def test_the_loss_can_always_be_selected() -> None:
    check_measurable("loss", tasks=["text"], held_out=False)
    check_measurable("rougeL", tasks=["answer", "text"], held_out=True)


def test_the_scores_count_the_records_that_they_cover(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record without a label has no accuracy, and one without a reference has no ROUGE."""
    labels = {"a": "yes", "b": "no", "c": None}
    records = [
        Record(id=name, question="?", sections=(), decision=label) for name, label in labels.items()
    ]
    outputs = [Output("a", "summarize", "x", text, "stop", 0) for text in ("x", "")]
    rt = mock.Mock(share=list, gathered=lambda mine: [mine])
    whatever: Any = None
    validator = Validator(
        feed=None,
        records=records,
        tasks=["answer", "summarize"],
        tokenizer=whatever,
        rt=rt,
        max_new_tokens=1,
        answer=True,
        sample=False,
        mask=False,
        lora=False,
        stop=lambda: False,
    )
    monkeypatch.setattr(
        validation,
        "score_labels",
        lambda _, asked: [LabelScores(r.id, r.decision, (-0.1, -3.0, -4.0), 0) for r in asked],
    )
    monkeypatch.setattr(Validator, "_write", lambda *_: outputs)
    found = validator._score_answers(whatever)
    assert (found["val_accuracy"], found["scored_labels"]) == (0.5, 2)
    assert (found["val_rougeL"], found["scored_texts"]) == (100.0, 1)
