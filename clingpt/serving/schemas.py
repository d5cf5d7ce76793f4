"""What the server's routes take and give, as pydantic has it; the OpenAPI description follows.

Requests are strict: no field that is not known, no text for a number, no NaN. What can't be said in
a type (too long for the context, not supported) is refused where it is used.
"""

import secrets
from collections.abc import Sequence
from typing import Annotated, ClassVar, Generic, Literal, TypeVar, get_args

from annotated_types import Ge, Gt, Le, Len
from pydantic import BaseModel, ConfigDict, Field

from clingpt.decoding.sampling import Sampling
from clingpt.text.tasks import LONGEST_REPLY

MAX_PROMPTS, MAX_CHOICES = 16, 8
MAX_STOPS, LONGEST_STOP = 4, 64
MAX_SECTIONS = 1000
MILDEST = 0.01  # a repetition penalty below it makes logits overflow
Stop = Annotated[str, Len(1, LONGEST_STOP)]
Ids = Annotated[list[int], Field(min_length=1, fail_fast=True)]  # a body has room for many errors


class Strict(BaseModel):
    """What clients send."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(Strict):
    include_usage: bool = False


class CompletionRequest(Strict):
    """OpenAI's fields, with its defaults."""

    prompt: (
        str
        | Annotated[list[str], Len(1, MAX_PROMPTS)]
        | Ids
        | Annotated[list[Ids], Len(1, MAX_PROMPTS)]
    ) = Field(description="A text or token ids, or up to 16 of them.")
    model: str | None = Field(None, description="The name that /v1/models gives.")
    max_tokens: Annotated[int, Ge(1)] | None = Field(16, description="Longest reply.")
    temperature: Annotated[float, Ge(0), Le(100)] | None = Field(1.0, description="0: greedy.")
    top_p: Annotated[float, Gt(0), Le(1)] | None = 1.0
    top_k: Annotated[int, Ge(1)] | None = None
    min_p: Annotated[float, Ge(0), Le(1)] = 0.0
    repetition_penalty: Annotated[float, Ge(MILDEST), Le(10)] = 1.0
    n: Annotated[int, Ge(1), Le(MAX_CHOICES)] | None = 1
    stop: Stop | Annotated[list[Stop], Len(0, MAX_STOPS)] | None = None
    seed: Annotated[int, Ge(0), Le(2**63 - 1 - MAX_CHOICES * MAX_PROMPTS)] | None = None
    logprobs: Annotated[int, Ge(0), Le(5)] | None = None
    echo: bool | None = False
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    user: str | None = Field(None, description="Taken and forgotten.")
    best_of: int | None = Field(None, description="Not supported, unless it equals n.")
    suffix: str | None = Field(None, description="Not supported.")
    presence_penalty: float | None = Field(0.0, description="Not supported, unless 0.")
    frequency_penalty: float | None = Field(0.0, description="Not supported, unless 0.")
    logit_bias: dict[str, float] | None = Field(None, description="Not supported, unless empty.")

    @property
    def n_choices(self) -> int:
        """Of each prompt."""
        return self.n or 1

    @property
    def prompts(self) -> Sequence[str | list[int]]:
        """One or many, each a text or ids."""
        prompt = self.prompt
        if isinstance(prompt, str):
            return [prompt]
        ids = [each for each in prompt if isinstance(each, int)]
        return [ids] if ids else [each for each in prompt if not isinstance(each, int)]

    def sampling(self, n: int) -> Sampling:
        """The settings of the n-th choice, each with random numbers of its own."""
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return Sampling(
            max_new_tokens=16 if self.max_tokens is None else self.max_tokens,
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
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class LogProbsOut(BaseModel):
    """Of each token; lists of one length."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class ChoiceOut(BaseModel):
    """One reply."""

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
    """A model of /v1/models."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["clingpt"] = "clingpt"
    context: int = Field(description="Tokens of a prompt and its reply together.")
    precision: str
    threshold: float | None = Field(
        description="Below this probability a label is withheld; null: not calibrated."
    )


class ModelList(BaseModel):
    """What is served."""

    object: Literal["list"] = "list"
    data: list[Model]


class Error(BaseModel):
    """What went wrong, without a word of the request."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """Every response of 400 and above."""

    error: Error


Task = Literal["answer", "summarize", "document", "explain"]
TASKS: tuple[Task, ...] = get_args(Task)
Section = Annotated[list[str], Len(2, 2)]


class RecordIn(Strict):
    """A report: its text in one piece, or in sections with their headings."""

    id: Annotated[str, Len(0, 200)] | None = Field(None, description="Given back as it is.")
    question: str | None = None
    text: str | None = None
    sections: Annotated[list[Section], Len(0, MAX_SECTIONS)] | None = Field(
        None, description='[["RESULTS", "…"], …]'
    )


class TaskRequest(RecordIn):
    """A record, or `records`; and how to write."""

    task: ClassVar[Task]
    model: str | None = None
    records: Annotated[list[RecordIn], Len(1, MAX_PROMPTS)] | None = Field(
        None, description="A batch, in place of the one record."
    )
    max_new_tokens: Annotated[int, Ge(1)] | None = Field(None, description="Longest reply.")
    temperature: Annotated[float, Ge(0), Le(100)] = Field(0.0, description="0: greedy.")
    top_p: Annotated[float, Gt(0), Le(1)] = 1.0
    top_k: Annotated[int, Ge(1)] | None = None
    min_p: Annotated[float, Ge(0), Le(1)] = 0.0
    repetition_penalty: Annotated[float, Ge(MILDEST), Le(10)] = 1.0
    no_repeat_ngram: Annotated[int, Ge(1)] | None = None
    stop: Annotated[list[Stop], Len(0, MAX_STOPS)] = Field(default_factory=list)
    seed: Annotated[int, Ge(0), Le(2**62)] | None = None
    stream: bool = False

    @property
    def given(self) -> Sequence[RecordIn]:
        """The records, one or many."""
        return self.records if self.records is not None else [self]

    def sampling(self, context: int) -> Sampling:
        """The settings; a reply of the usual length, in a small context of half of it."""
        names = "temperature top_p top_k min_p repetition_penalty no_repeat_ngram".split()
        return Sampling(
            max_new_tokens=self.max_new_tokens or min(LONGEST_REPLY[self.task], context // 2),
            stop=tuple(self.stop),
            seed=secrets.randbits(62) if self.seed is None else self.seed,
            **{name: getattr(self, name) for name in names},
        )


class AnswerRequest(TaskRequest):
    """A yes/no/maybe question about a report."""

    task = "answer"
    explain: bool = Field(True, description="false: the label and its probabilities alone.")


class SummarizeRequest(TaskRequest):
    """A report to summarise; a long one is taken in pieces."""

    task = "summarize"


class DocumentRequest(TaskRequest):
    """Notes to bring into the form of a structured report; long ones are taken in pieces."""

    task = "document"


class ExplainRequest(TaskRequest):
    """A question to be answered in prose, about a report or, without one, from memory."""

    task = "explain"


class Warning(BaseModel):  # noqa: A001 -- the word of the API
    """A place in the reply that the text does not bear out; in characters."""

    kind: Literal["number", "unit", "comparator", "negation"]
    start: int
    end: int
    text: str
    message: str


class Result(BaseModel):
    """What every task tells."""

    id: str | None
    model: str
    finish_reason: Literal["stop", "length"] | None
    warnings: list[Warning] | None = Field(
        description="null: only a question was sent, so there is no source to compare with."
    )
    trimmed_tokens: int = Field(description="Of the text, left out because they did not fit.")
    seed: int
    usage: Usage
    notice: str


ResultT = TypeVar("ResultT", bound=Result)


class Answer(Result):
    """An answer; where it is `abstained` the model is not sure enough to be believed."""

    label: Literal["yes", "no", "maybe"]
    probabilities: dict[str, float]
    abstained: bool | None = Field(description="null: this checkpoint was not calibrated.")
    threshold: float | None
    explanation: str | None


class Summary(Result):
    """A summary."""

    summary: str
    windows: int = Field(description="Pieces that the text was taken in.")


class Explanation(Result):
    """An answer in prose."""

    explanation: str


class SectionOut(BaseModel):
    """A part of a document."""

    heading: str
    text: str


class Document(Result):
    """A structured report."""

    document: str
    sections: list[SectionOut]
    windows: int


class Batch(BaseModel, Generic[ResultT]):
    """Of several records each one's result, in their order."""

    results: list[ResultT]
    usage: Usage
