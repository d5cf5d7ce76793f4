"""Prompts, trimmed to the model's context, and the JSON form of a reply.

Does not import torch: the ONNX runner, which works without it, writes the same format as
`sample.py`.
"""

from dataclasses import dataclass
from typing import Any, TypedDict

from clingpt.base.errors import DataError
from clingpt.text.documents import DocumentForm, Draft
from clingpt.text.records import UNNAMED, Record
from clingpt.text.tasks import NO_ROOM, TASK_TABLE, NotApplicable, Prompt, make_prompt
from clingpt.text.tokenizer import Tokenizer
from clingpt.text.windows import draft_sections


@dataclass(frozen=True)
class Question:
    """Prompts short enough to leave room for their replies, and where they came from."""

    id: str
    plan: Draft  # one prompt, or those of a document that is written section by section
    task: str | None = None  # None: a text to continue
    record: Record | None = None

    @property
    def prompt(self) -> Prompt:
        """The prompt, or the first of several."""
        return self.plan.prompts[0]


def ask_to_continue(
    text: str, tokenizer: Tokenizer, *, context: int, longest: int, name: str
) -> Question:
    """Make a prompt of a text to continue: its last tokens, with room for `longest` new ones."""
    budget = context - longest
    # GPT-2 was trained with an end of text between documents, so an end of text makes it start a
    # new text.
    ids = tokenizer.encode(text) or [tokenizer.eot]
    prompt = Prompt(ids=ids[-budget:], trimmed_tokens=max(0, len(ids) - budget))
    return Question(name, Draft((prompt,), longest))


def ask_task(
    task: str,
    record: Record,
    tokenizer: Tokenizer,
    *,
    context: int,
    longest: int,
    form: DocumentForm = DocumentForm(),  # noqa: B008 -- frozen
) -> Question:
    """Apply a task to a record, with room for `longest` new tokens in the context.

    `form` is the one in which the model writes documents. Raises DataError if the record lacks a
    field that the task needs.
    """
    try:
        if task == "document" and form.window:
            plan = draft_sections(record, tokenizer, form, context=context, longest=longest)
        else:
            prompt = make_prompt(task, record, tokenizer, budget=context - longest)
            plan = Draft((prompt,), longest)
    except NotApplicable as reason:
        name = "the record" if record.id == UNNAMED else f"record {record.id}"
        raise DataError(f"{name} {what_is_wrong(task, str(reason))}") from None
    return Question(record.id, plan, task, record)


def what_is_wrong(task: str, reason: str) -> str:
    """Say why a record has no prompt, as a predicate; `reason` is that of NotApplicable."""
    if reason == NO_ROOM:
        if TASK_TABLE[task].asks:
            return (
                "has a question that alone fills the context; shorten it, or lower max_new_tokens"
            )
        return "has no sentence that fits into the context; lower max_new_tokens"
    return f"has {reason}, which the task {task} needs"


class Judgement(TypedDict):
    """A label and how sure the model is of it."""

    label: str  # yes, no or maybe
    probabilities: dict[str, float]  # of each label, after the temperature if one was fitted
    calibration_note: str | None  # why they are not calibrated; None: they are
    unlike_training: bool | None  # the input; None: eval.py has not fitted this
    abstained: bool | None  # below the threshold; None: eval.py has not fitted one


class ReplyJson(Judgement, total=False):
    """A reply as a JSON object, one line of `sample.py --json` and of the ONNX runner.

    This is the only definition of the format; docs/formats.md describes it for users. The fields
    of Judgement are present only for the task answer. The server puts the same Judgement into the
    responses of its OpenAPI schema.
    """

    id: str  # of the record, or file:line
    task: str | None  # None: a text was continued
    text: str  # without stop string and end of text
    finish_reason: str  # stop or length
    stopped_by: str | None  # the stop string that ended the text (sample.py)
    seed: int  # of this reply, counted up from --seed (sample.py)
    prompt_tokens: int
    trimmed_tokens: int  # of the context, left out because they did not fit
    new_tokens: int
    log_probs: list[dict[str, Any]]  # one entry per new token (sample.py --logprobs)
    warnings: list[dict[str, Any]] | None  # unsupported numbers, terms etc.; None: no source


def reply_json(
    question: Question,
    *,
    text: str,
    finish_reason: str,
    new_tokens: int,
    judgement: Judgement | None = None,
    seed: int | None = None,
    stopped_by: str | None = None,
) -> ReplyJson:
    """Build the JSON form of a reply.

    Without a seed, `seed` and `stopped_by` are left out: the ONNX runner samples nothing and
    has no stop strings.
    """
    fields: Any = {"id": question.id, "task": question.task, **(judgement or {})}
    fields |= {"text": text, "finish_reason": finish_reason}
    if seed is not None:
        fields |= {"stopped_by": stopped_by, "seed": seed}
    fields |= {
        "prompt_tokens": sum(len(prompt.ids) for prompt in question.plan.prompts),
        "trimmed_tokens": sum(prompt.trimmed_tokens for prompt in question.plan.prompts),
        "new_tokens": new_tokens,
    }
    reply: ReplyJson = fields
    return reply
