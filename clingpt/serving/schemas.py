"""Requests and responses of all routes as pydantic models, from which FastAPI derives OpenAPI.

Requests are strict: unknown fields, strings for numbers and NaN are refused. Limits that a type
cannot express, such as the length of the context, are checked by the code that uses the field.
"""

import secrets
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

from annotated_types import Ge, Gt, Le, Len
from pydantic import BaseModel, ConfigDict, Field, model_validator

from clingpt.decoding.sampling import Sampling
from clingpt.serving.errors import unsupported_field
from clingpt.text.tasks import TASK_TABLE

MAX_PROMPTS, MAX_CHOICES = 16, 8
MAX_STOPS, MAX_STOP_LENGTH = 4, 64
MAX_SECTIONS = 1000
MAX_HEADINGS, MAX_HEADING_LENGTH = 64, 100
MIN_PENALTY = 0.01  # a smaller repetition penalty makes logits overflow
Stop = Annotated[str, Len(1, MAX_STOP_LENGTH)]
Ids = Annotated[list[int], Field(min_length=1, fail_fast=True)]  # else one error per element


class Strict(BaseModel):
    """Base class of requests."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def refuse_unknown_fields(cls, given: Any) -> Any:
        """Raise ApiError for an unknown field; pydantic could not say which one does its job."""
        for name in given if isinstance(given, dict) else ():
            if name not in cls.model_fields:
                raise unsupported_field(name, cls.model_fields)
        return given


class StreamOptions(Strict):
    include_usage: bool | None = False
    include_obfuscation: bool | None = Field(False, description="Not supported unless false.")


class CompletionRequest(Strict):
    """A completion request with OpenAI's fields and defaults."""

    prompt: (
        str
        | Annotated[list[str], Len(1, MAX_PROMPTS)]
        | Ids
        | Annotated[list[Ids], Len(1, MAX_PROMPTS)]
    ) = Field(description="A string or a list of token ids, or a list of up to 16 of either.")
    model: str | None = Field(None, description="The name that /v1/models returns.")
    max_tokens: Annotated[int, Ge(0)] | None = Field(
        16,
        description="Maximum length of the reply, in tokens. 0 only with `echo`: to get the "
        "prompt's log-probabilities.",
    )
    temperature: Annotated[float, Ge(0), Le(100)] | None = Field(
        1.0, description="0 selects greedy decoding."
    )
    top_p: Annotated[float, Gt(0), Le(1)] | None = 1.0
    top_k: Annotated[int, Ge(1)] | None = None
    min_p: Annotated[float, Ge(0), Le(1)] = 0.0
    repetition_penalty: Annotated[float, Ge(MIN_PENALTY), Le(10)] = 1.0
    n: Annotated[int, Ge(1), Le(MAX_CHOICES)] | None = 1
    stop: Stop | Annotated[list[Stop], Len(0, MAX_STOPS)] | None = None
    seed: Annotated[int, Ge(0), Le(2**63 - 1 - MAX_CHOICES * MAX_PROMPTS)] | None = None
    logprobs: Annotated[int, Ge(0), Le(5)] | None = None
    echo: bool | None = False
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    user: str | None = Field(None, description="Accepted and ignored.")
    best_of: int | None = Field(None, description="Not supported unless it equals n.")
    suffix: str | None = Field(None, description="Not supported unless empty.")
    presence_penalty: float | None = Field(0.0, description="Not supported unless 0.")
    frequency_penalty: float | None = Field(0.0, description="Not supported unless 0.")
    logit_bias: dict[str, float] | None = Field(None, description="Not supported unless empty.")

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the token counts."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def longest_reply(self) -> int:
        """Maximum length of a reply, in tokens; 0 returns only the prompt."""
        return 16 if self.max_tokens is None else self.max_tokens

    @property
    def n_choices(self) -> int:
        """Number of replies to each prompt."""
        return self.n or 1

    @property
    def prompts(self) -> Sequence[str | list[int]]:
        """The prompts as a list, each a string or token ids."""
        prompt = self.prompt
        if isinstance(prompt, str):
            return [prompt]
        ids = [each for each in prompt if isinstance(each, int)]
        return [ids] if ids else [each for each in prompt if not isinstance(each, int)]

    def sampling(self, n: int) -> Sampling:
        """Return the sampling settings of the n-th choice; each choice has a different seed."""
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return Sampling(
            max_new_tokens=max(1, self.longest_reply),
            temperature=1.0 if self.temperature is None else self.temperature,
            top_k=self.top_k,
            top_p=1.0 if self.top_p is None else self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            stop=stops,
            seed=secrets.randbits(62) if self.seed is None else self.seed + n,
            log_probs=self.logprobs,
        )


class Usage(BaseModel):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """Return OpenAI's usage object."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


class LogProbsOut(BaseModel):
    """Log-probabilities of each token, as lists of equal length."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class ChoiceOut(BaseModel):
    """One reply of a completion."""

    text: str
    index: int
    logprobs: LogProbsOut | None
    finish_reason: Literal["stop", "length"] | None


class Completion(BaseModel):
    """OpenAI's completion object."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChoiceOut]
    usage: Usage


class Model(BaseModel):
    """The model that /v1/models describes."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["clingpt"] = "clingpt"
    context: int = Field(
        description="Maximum length of a prompt and its reply together, in tokens."
    )
    precision: str
    threshold: float | None = Field(
        description="Labels with a lower probability are withheld; null if eval.py has not "
        "chosen one."
    )
    tasks: list[str] | None = Field(
        description="Tasks that the last phase of training taught; null if that is not known."
    )
    task_notes: dict[str, str] = Field(
        description="A sentence for each task that the model was not trained on."
    )
    generated_data: bool = Field(
        description="Whether it was trained on the invented abstracts of --source=synthetic."
    )


class ModelList(BaseModel):
    """The models that this server offers: exactly one."""

    object: Literal["list"] = "list"
    data: list[Model]


class Error(BaseModel):
    """What went wrong. Never quotes the request."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every response with a status of 400 or above."""

    error: Error


Section = Annotated[list[str], Len(2, 2)]
Heading = Annotated[str, Len(1, MAX_HEADING_LENGTH)]


class RecordIn(Strict):
    """A report: either its text, or its sections with their headings."""

    id: Annotated[str, Len(0, 200)] | None = Field(None, description="Returned unchanged.")
    question: str | None = None
    text: str | None = None
    sections: Annotated[list[Section], Len(0, MAX_SECTIONS)] | None = Field(
        None, description='[["RESULTS", "…"], …]'
    )


class TaskRequest(RecordIn):
    """One record or a list of `records`, and the sampling settings."""

    task: ClassVar[str]
    model: str | None = None
    records: Annotated[list[RecordIn], Len(1, MAX_PROMPTS)] | None = Field(
        None, description="A batch of records, instead of a single one."
    )
    max_new_tokens: Annotated[int, Ge(1)] | None = Field(
        None, description="Maximum length of the reply, in tokens."
    )
    temperature: Annotated[float, Ge(0), Le(100)] = Field(
        0.0, description="0 selects greedy decoding."
    )
    top_p: Annotated[float, Gt(0), Le(1)] = 1.0
    top_k: Annotated[int, Ge(1)] | None = None
    min_p: Annotated[float, Ge(0), Le(1)] = 0.0
    repetition_penalty: Annotated[float, Ge(MIN_PENALTY), Le(10)] = 1.0
    no_repeat_ngram: Annotated[int, Ge(1)] | None = None
    stop: Annotated[list[Stop], Len(0, MAX_STOPS)] = Field(default_factory=list)
    seed: Annotated[int, Ge(0), Le(2**62)] | None = None
    stream: bool = False

    @property
    def given(self) -> Sequence[RecordIn]:
        """The records as a list."""
        return self.records if self.records is not None else [self]

    def sampling(self, context: int) -> Sampling:
        """Return the sampling settings; a reply is at most the task's usual length by default.

        In a small context it is at most half of it, so that the report has the other half.
        """
        return Sampling(
            max_new_tokens=self.max_new_tokens
            or min(TASK_TABLE[self.task].longest_reply, context // 2),
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            no_repeat_ngram=self.no_repeat_ngram,
            stop=tuple(self.stop),
            seed=secrets.randbits(62) if self.seed is None else self.seed,
        )


class AnswerRequest(TaskRequest):
    """A yes/no/maybe question about a report."""

    task = "answer"
    explain: bool = Field(True, description="false returns only the label and its probabilities.")


class SummarizeRequest(TaskRequest):
    """A report to summarise; a long one is split into windows."""

    task = "summarize"


class DocumentRequest(TaskRequest):
    """Notes to turn into a structured report; long ones are split into windows."""

    task = "document"
    headings: Annotated[list[Heading], Len(1, MAX_HEADINGS)] | None = Field(
        None,
        description="Sections to write, each asked for separately and in this order, such as "
        '["HISTORY OF PRESENT ILLNESS", "PLAN"]. null: the whole document at once or, if the model '
        "was trained to write sections, all those of its training documents.",
    )


class ExplainRequest(TaskRequest):
    """A question to answer in prose, from a report or, without one, from the model's memory."""

    task = "explain"


class Warning(BaseModel):  # noqa: A001 -- its name in the API
    """A number, unit, comparator, negation or term that the source does not support.

    Offsets are in characters of the reply.
    """

    kind: Literal["number", "unit", "comparator", "negation", "term"]
    start: int
    end: int
    text: str
    message: str


class Result(BaseModel):
    """Fields common to the results of all tasks."""

    id: str | None
    model: str
    finish_reason: Literal["stop", "length"] | None
    warnings: list[Warning] | None = Field(
        description="Unsupported numbers, units, comparators and negations of the reply, and terms "
        "(such as diseases and drugs) that neither the text nor the question has. An empty list "
        "does not mean that the reply is correct: the check misses terms that it does not know and "
        "terms of the text that are used in the wrong place. null if only a question was sent, "
        "because a reply can only be compared with a text."
    )
    trimmed_tokens: int = Field(
        description="Tokens of the report that were left out because they did not fit."
    )
    task_note: str | None = Field(
        description="A sentence if the model was not trained on this task; null if it was, or if "
        "that is not known. Also in the header X-ClinGPT-Task-Note."
    )
    seed: int
    usage: Usage
    notice: str


ResultT = TypeVar("ResultT", bound=Result)


class Answer(Result):
    """A yes/no/maybe answer; `abstained` means that its probability is below the threshold."""

    label: Literal["yes", "no", "maybe"]
    probabilities: dict[str, float]
    calibration_note: str | None = Field(
        description="Why the probabilities are not calibrated; null if they are."
    )
    unlike_training: bool | None = Field(
        description="Whether the question and the report are unlike the training data, so that "
        "accuracy on such inputs was not measured; null if eval.py has not fitted this."
    )
    abstained: bool | None = Field(description="null if eval.py has not chosen a threshold.")
    threshold: float | None
    explanation: str | None


class Summary(Result):
    """A summary."""

    summary: str
    windows: int = Field(description="Number of windows that the report was split into.")


class Explanation(Result):
    """An answer in prose."""

    explanation: str


class SectionOut(BaseModel):
    """A section of a document."""

    heading: str
    text: str


class Document(Result):
    """A structured report."""

    document: str
    sections: list[SectionOut]
    windows: int = Field(description="Number of windows that the notes were split into.")


class Batch(BaseModel, Generic[ResultT]):
    """The results of a batch, in the order of its records."""

    results: list[ResultT]
    usage: Usage
