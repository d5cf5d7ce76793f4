"""Which checkpoint of a run is the best, and when waiting for a better one is over."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from clingpt.base.errors import ConfigError
from clingpt.nn.checkpoint import score


def check_measurable(select: str, *, tasks: Sequence[str], held_out: bool) -> None:
    """Refuse to select by what the data cannot show."""
    reason = ""
    if select in ("accuracy", "macro_f1") and "answer" not in tasks:
        reason = "the data was not prepared for the task answer"
    elif select == "rougeL" and list(tasks) == ["text"]:
        reason = "the data was prepared for text alone, which has no references"
    elif select != "loss" and not held_out:
        reason = "the data holds no validation record"
    if reason:
        raise ConfigError(f"select={select} cannot be measured: {reason}; give --select=loss")


def is_settled(rows: Iterable[Mapping[str, Any]], select: str, patience: int | None) -> bool:
    """Whether `patience` validations have passed without a better one; None waits for ever.

    The first of equals is the best.
    """
    scores = [found for row in rows if (found := score(row, select)) is not None]
    if patience is None or not scores:
        return False
    return len(scores) - 1 - scores.index(max(scores)) >= patience
