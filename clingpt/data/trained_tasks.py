"""The tasks that a model was trained on: recorded in its card, and told to whoever asks another.

The card (clingpt.json) names the tasks of the last phase of training, which the model knows best,
and those that only earlier phases trained. A phase on plain text (--tasks=text) teaches no task.
A model answers any task nevertheless: these functions inform and never refuse.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clingpt.base.errors import DataError
from clingpt.data.prepared import Prepared, read_manifest
from clingpt.text.tasks import PROMPTED, TASK_TABLE

RELEASED = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")  # OpenAI's models


@dataclass(frozen=True)
class TrainedTasks:
    """The tasks that a model was trained on."""

    latest: tuple[str, ...]  # by the last phase
    earlier: tuple[str, ...] = ()  # only by earlier phases
    generated: bool = False  # the last phase's data were prepare.py's --source=synthetic
    released: bool = False  # one of OpenAI's models, not fine-tuned
    plain_text: bool = False  # a phase used --tasks=text, so the model learned to write contexts

    def to_card(self) -> dict[str, Any]:
        """Return the entries of a card."""
        tasks, earlier = list(self.latest), list(self.earlier)
        known = {"tasks": tasks, "earlier_tasks": earlier, "generated_data": self.generated}
        return known | {"plain_text": self.plain_text}

    def wrote(self, passage: str) -> bool | None:
        """Whether a phase trained the model to write passages of this name, not just to read them.

        Names are those of clingpt/evaluation/measure.passages_of. None of a released model, whose
        training text is not known.
        """
        if self.released:
            return None
        tasks = {*self.latest, *self.earlier}
        if passage == "context":  # a document restates the context
            return self.plain_text or "document" in tasks
        return {"explanation": "answer", "prose": "explain"}[passage] in tasks

    def note(self, task: str) -> str | None:
        """Return a sentence for a user who asks for a task, or None if the last phase trained it.

        The sentence contains only names of tasks, never anything that a user typed.
        """
        if task in self.latest:
            return None
        asked = listed([task])
        if task in self.earlier:
            last = f"trained it to {listed(self.latest)}" if self.latest else "used plain text"
            return (
                f"This model was trained to {asked} only in an earlier phase, and the last one "
                f"{last}: it may have forgotten much."
            )
        model = "GPT-2 as released" if self.released else "This model"
        if known := (*self.latest, *self.earlier):
            what = f"was not trained to {asked}, only to {listed(known)}"
        else:
            what = f"was not trained to {asked} or for any other task: it only continues text"
        return f"{model} {what}. Do not expect a useful reply."

    def notes(self, tasks: Iterable[str]) -> dict[str, str]:
        """Return the notes on those of the tasks that have one, by task."""
        found = {task: self.note(task) for task in tasks if task in PROMPTED}
        return {task: note for task, note in found.items() if note is not None}


def listed(tasks: Sequence[str]) -> str:
    """Name tasks after "trained to": answer, summarize and draft documents."""
    # A card of another version may name a task that this one does not have.
    verbs = {name: task.verb or name for name, task in TASK_TABLE.items()}
    *others, last = [verbs.get(task, task) for task in tasks]
    return f"{', '.join(others)} and {last}" if others else last


def after_training(before: TrainedTasks | None, data: Prepared) -> TrainedTasks:
    """Return the tasks of a model that had those of `before`, and was then trained on `data`."""
    rows_of = data.split("train").rows_of
    latest = tuple(task for task in PROMPTED if len(rows_of(task)))
    known = {*before.latest, *before.earlier} if before else {}
    earlier = tuple(task for task in PROMPTED if task in known and task not in latest)
    plain_text = len(rows_of("text")) > 0 or (before is not None and before.plain_text)
    return TrainedTasks(latest, earlier, generated=is_generated(data), plain_text=plain_text)


def trained_tasks(card: Mapping[str, Any], source: str) -> TrainedTasks | None:
    """Return the tasks of the model that a user named `source`, or None if nothing is known.

    A card written before cards named tasks is completed from its training data, if that folder is
    still there. A model without a card has no known tasks, unless it is OpenAI's GPT-2.
    """
    if "tasks" in card:
        latest, earlier = (tuple(card.get(name, ())) for name in ("tasks", "earlier_tasks"))
        flags = {"generated": "generated_data", "plain_text": "plain_text"}
        known = {field: card.get(name, False) for field, name in flags.items()}
        return TrainedTasks(latest, earlier, **known)
    if not card:
        is_copy = Path(source).name in RELEASED and Path(source).is_dir()
        name = source.removeprefix("openai-community/")
        return TrainedTasks((), released=True) if name in RELEASED or is_copy else None
    trained_on = card.get("data", {})
    try:
        folder = Path(trained_on["folder"])
        data = Prepared(folder, read_manifest(folder))
        if data.fingerprint == trained_on["fingerprint"]:
            latest = tuple(task for task in data.tasks if task in PROMPTED)
            plain_text = "text" in data.tasks
            return TrainedTasks(latest, generated=is_generated(data), plain_text=plain_text)
    except (DataError, OSError, KeyError, TypeError):
        pass  # the data are elsewhere, or another tool wrote the card
    return None


def is_generated(data: Prepared) -> bool:
    """Whether all records of a prepared folder were invented by clingpt/data/synthetic.py."""
    settings = data.manifest["settings"]
    return settings.get("source") == "synthetic" and not settings.get("mix")
