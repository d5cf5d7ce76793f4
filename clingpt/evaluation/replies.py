"""What a model is asked, made to fit its context, and its replies as JSON.

For a terminal, a file of records or a server: nothing here prints.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from clingpt.base.errors import ConfigError, DataError
from clingpt.decoding.engine import Completion, Reply, generate
from clingpt.decoding.sampling import Sampling
from clingpt.evaluation.calibration import Calibration
from clingpt.evaluation.scorer import LabelScores, Scorer
from clingpt.text.records import Record
from clingpt.text.tasks import NotApplicable, Prompt, make_prompt
from clingpt.text.tokenizer import EOT, Tokenizer


@dataclass(frozen=True)
class Question:
    """A prompt that leaves room for its reply, and where it came from."""

    id: str
    prompt: Prompt
    task: str | None = None  # None: a text to continue
    record: Record | None = None


def prompt_budget(scorer: Scorer, sampling: Sampling) -> int:
    """Tokens that a prompt may take, so that the longest reply still fits."""
    budget = scorer.context - sampling.max_new_tokens
    if budget < 1:
        raise ConfigError(
            f"max_new_tokens {sampling.max_new_tokens} leaves no room for a prompt in a context of "
            f"{scorer.context}; lower it"
        )
    return budget


def ask_to_continue(text: str, scorer: Scorer, sampling: Sampling, *, name: str) -> Question:
    """Continue a text, of which the newest part is kept where it is too long."""
    budget = prompt_budget(scorer, sampling)
    ids = scorer.tokenizer.encode(text) or [EOT]
    return Question(name, Prompt(ids=ids[-budget:], trimmed_tokens=max(0, len(ids) - budget)))


def ask_task(task: str, record: Record, scorer: Scorer, sampling: Sampling) -> Question:
    """Do a task with a record, trimmed by the task's rule; DataError where it lacks something."""
    budget = prompt_budget(scorer, sampling)
    try:
        prompt = make_prompt(task, record, scorer.tokenizer, budget=budget)
    except NotApplicable as reason:
        raise DataError(f"record {record.id} cannot be used for {task}: {reason}") from None
    return Question(record.id, prompt, task, record)


def answer(
    scorer: Scorer,
    question: Question,
    sampling: Sampling,
    on_reply: Callable[[Reply], None] | None = None,
) -> Completion:
    """One reply, whose text is handed over as it grows."""
    with scorer.rt.autocast():
        [completion] = generate(
            scorer.decoder,
            scorer.tokenizer,
            [question.prompt.ids],
            sampling,
            context=scorer.context,
            on_reply=on_reply and (lambda _, reply: on_reply(reply)),
        )
    return completion


def numbered(sampling: Sampling, n: int) -> Sampling:
    """The settings of the n-th reply, which has random numbers of its own."""
    return replace(sampling, seed=sampling.seed + n)


def to_json(
    question: Question,
    completion: Completion,
    sampling: Sampling,
    tokenizer: Tokenizer,
    scores: LabelScores | None = None,
    calibration: Calibration | None = None,
) -> dict[str, Any]:
    """A reply as one JSON object (docs/formats.md)."""
    fields: dict[str, Any] = {"id": question.id, "task": question.task}
    if scores is not None:
        probabilities, abstained = scores.judged(calibration)
        fields |= {"label": scores.label, "probabilities": probabilities, "abstained": abstained}
    fields |= {
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "stopped_by": completion.stopped_by,
        "seed": sampling.seed,
        "prompt_tokens": len(question.prompt.ids),
        "trimmed_tokens": question.prompt.trimmed_tokens,
        "new_tokens": len(completion.ids),
    }
    if sampling.log_probs is not None:
        fields["log_probs"] = [
            {
                "token": tokenizer.decode([one.token]),
                "log_prob": round(one.log_prob, 4),
                "top": {tokenizer.decode([token]): round(value, 4) for token, value in one.top},
            }
            for one in completion.log_probs
        ]
    return fields
