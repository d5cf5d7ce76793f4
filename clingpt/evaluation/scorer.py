"""Score a model on records: label probabilities, generated texts and losses of passages.

This module only measures: baselines are in clingpt/evaluation/baselines.py, the report in
clingpt/reports. Prompts are trimmed by the rule of their task, and the number of trimmed tokens is
counted.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from clingpt.base.types import Ints
from clingpt.data.packing import IGNORE, build_rows
from clingpt.data.prepared import Split
from clingpt.decoding.engine import Completion, Decoder, OnReply, generate, label_log_probs
from clingpt.decoding.sampling import Sampling
from clingpt.evaluation.calibration import LabelScores
from clingpt.nn.runtime import Runtime
from clingpt.text.documents import DocumentForm, Draft
from clingpt.text.records import Record
from clingpt.text.tasks import (
    Example,
    NotApplicable,
    Prompt,
    label_ids,
    make_example,
    make_prompt,
    target_text,
)
from clingpt.text.tokenizer import Tokenizer
from clingpt.text.windows import draft_sections
from model import GPT, Batch


@dataclass(frozen=True)
class Scorer:
    """A model with everything needed to generate and to measure."""

    model: GPT  # computes losses
    decoder: Decoder  # generates replies and scores labels; see decoders.make_decoder
    tokenizer: Tokenizer
    rt: Runtime
    batch_size: int  # rows per forward
    form: DocumentForm = DocumentForm()  # in which the model writes documents

    @property
    def context(self) -> int:
        """Tokens of a prompt and its reply together."""
        return self.model.config.block_size


def score_labels(
    scorer: Scorer,
    records: Iterable[Record],
    *,
    reasoning_free: bool = False,
    on_batch: Callable[[int], object] | None = None,
) -> list[LabelScores]:
    """Compare the probabilities of " yes", " no" and " maybe" after `Answer:`.

    Nothing is generated or parsed, so every record with a question gets a label; records without
    one are left out. `reasoning_free` shows the conclusion in place of the context (Jin et al.
    2019, section 3.3). `on_batch` gets the size of each batch.
    """
    kept = [record for record in records if record.question]
    shown = [given_conclusion(record) if reasoning_free else record for record in kept]
    prompts = [label_prompt(scorer, record) for record in shown]
    with scorer.rt.autocast():
        log_probs = label_log_probs(
            scorer.decoder,
            [prompt.ids for prompt in prompts],
            label_ids(scorer.tokenizer),
            rows=scorer.batch_size,
            on_batch=on_batch,
        )
    return [
        LabelScores(record.id, record.decision, tuple(row), prompt.trimmed_tokens)
        for record, row, prompt in zip(kept, log_probs, prompts, strict=True)
    ]


def label_prompt(scorer: Scorer, record: Record) -> Prompt:
    """Return the prompt for a label, as long as the context allows with room for the label."""
    longest = max(map(len, label_ids(scorer.tokenizer)))
    return make_prompt("answer", record, scorer.tokenizer, budget=scorer.context - longest)


def given_conclusion(record: Record) -> Record:
    """Return the record with its conclusion as the only section."""
    conclusion = record.long_answer or ""
    return replace(record, sections=(("CONCLUSION", conclusion),) if conclusion else ())


@dataclass(frozen=True)
class Output:
    """A generated reply and its reference, both without the end of text."""

    record_id: str
    task: str
    text: str
    reference: str
    finish_reason: str
    trimmed_tokens: int


def ask(scorer: Scorer, task: str, record: Record, sampling: Sampling) -> tuple[Draft, str]:
    """Return the prompts of a task and its reference; raise NotApplicable if there is none."""
    reference = target_text(task, record).strip()
    longest = sampling.max_new_tokens
    # A document derived from an abstract is always written whole.
    if task == "document" and scorer.form.window and record.document is not None:
        plan = draft_sections(
            record, scorer.tokenizer, scorer.form, context=scorer.context, longest=longest
        )
        return plan, reference
    prompt = make_prompt(task, record, scorer.tokenizer, budget=scorer.context - longest)
    return Draft((prompt,), longest), reference


def write_outputs(
    scorer: Scorer,
    task: str,
    records: Iterable[Record],
    sampling: Sampling,
    *,
    on_reply: OnReply | None = None,
) -> list[Output]:
    """Generate a reply to every record that has a reference for the task."""
    items: list[tuple[Record, Draft, str]] = []
    for record in records:
        with contextlib.suppress(NotApplicable):
            items.append((record, *ask(scorer, task, record, sampling)))
    longest = min((plan.longest for _, plan, _ in items), default=sampling.max_new_tokens)
    with scorer.rt.autocast():
        replies = iter(
            generate(
                scorer.decoder,
                scorer.tokenizer,
                [prompt.ids for _, plan, _ in items for prompt in plan.prompts],
                replace(sampling, max_new_tokens=longest),
                context=scorer.context,
                rows=scorer.batch_size,
                on_reply=on_reply,
            )
        )
    return [
        output_of(record.id, task, plan, reference, list(islice(replies, len(plan.prompts))))
        for record, plan, reference in items
    ]


def output_of(
    record_id: str, task: str, plan: Draft, reference: str, replies: Sequence[Completion]
) -> Output:
    """Combine the replies to a record with its reference in the form that the metrics expect."""
    is_cut = any(reply.finish_reason == "length" for reply in replies)
    texts = [reply.text for reply in replies]
    return Output(
        record_id,
        task,
        text=(plan.join(texts) if plan.headings else texts[0]).strip(),
        reference=reference,
        finish_reason="length" if is_cut else "stop",
        trimmed_tokens=sum(prompt.trimmed_tokens for prompt in plan.prompts),
    )


@dataclass(frozen=True)
class Passage:
    """A text to be scored, each token once, as one or more examples that fit the context."""

    text: str
    examples: list[Example]


def context_passage(scorer: Scorer, text: str) -> Passage:
    """Score every token of a text without a prompt; a long text is cut into windows.

    The first token is predicted from an end of text, the first of a later window from the single
    token before it: windows do not overlap, so each token is scored once.
    """
    ids = scorer.tokenizer.encode(text)
    examples = []
    for start in range(0, len(ids), scorer.context - 1):
        window = ids[start : start + scorer.context - 1]
        before = [scorer.tokenizer.eot] if start == 0 else [ids[start - 1]]
        examples.append(Example(prompt_ids=before, target_ids=window, trimmed_tokens=0))
    return Passage(text, examples)


def prose_passage(scorer: Scorer, record: Record) -> Passage:
    """Score the long answer after the prompt of the task `explain`.

    Raises NotApplicable if the record has no question or long answer, or does not fit.
    """
    example = make_example("explain", record, scorer.tokenizer, budget=scorer.context)
    return Passage(target_text("explain", record), [example])


def explanation_passage(scorer: Scorer, record: Record) -> Passage:
    """Score the long answer after context, question and the true label.

    Raises NotApplicable if the record lacks one of these or does not fit.
    """
    if record.long_answer is None or record.decision is None:
        raise NotApplicable("no explained answer")
    text = f" {record.long_answer}"
    answer = scorer.tokenizer.encode(text)
    lead = scorer.tokenizer.encode(f" {record.decision}\nExplanation:")
    budget = scorer.context - len(answer) - len(lead) - 1
    prompt = make_prompt("answer", record, scorer.tokenizer, budget=budget)
    example = Example(
        prompt_ids=prompt.ids + lead,
        target_ids=[*answer, scorer.tokenizer.eot],
        trimmed_tokens=prompt.trimmed_tokens,
    )
    return Passage(text, [example])


def iter_batches(scorer: Scorer, examples: Sequence[Example]) -> Iterator[tuple[Ints, Batch]]:
    """Pack examples into rows and yield batches, each with the example number of every target."""
    rows = build_rows(
        split_of_examples(examples, scorer.tokenizer.eot), scorer.context, pack=True, seed=0
    )
    n_targets = np.array([len(example.target_ids) for example in examples])
    for start in range(0, len(rows), scorer.batch_size):
        numbers = np.arange(start, min(start + scorer.batch_size, len(rows)))
        # Without padding on the CPU; other devices are faster with shapes that do not change.
        tight = scorer.rt.device.type == "cpu"
        owners = rows.records(numbers)
        batch = Batch(*map(scorer.rt.put, rows.assemble(numbers, tight=tight)))
        yield np.repeat(owners, n_targets[owners]), batch


@torch.no_grad()
def passage_losses(scorer: Scorer, passages: Sequence[Passage]) -> NDArray[np.float64]:
    """Sum the losses of each passage; return an array (n passages, 4).

    The columns are the nats and number of tokens of the text, then those of its ends of text.
    Losses are fp32, summed in double precision. Examples packed into one row do not see each other.
    """
    examples = [example for passage in passages for example in passage.examples]
    passage_of = np.repeat(np.arange(len(passages)), [len(p.examples) for p in passages])
    sums = np.zeros((len(passages), 4))
    for owners, batch in iter_batches(scorer, examples) if examples else ():
        targets = batch.targets_KM.flatten().cpu().numpy()
        losses = scorer.model.token_losses(batch).double().flatten().cpu().numpy()
        real = targets != IGNORE
        column = np.where(targets[real] == scorer.tokenizer.eot, 2, 0)
        np.add.at(sums, (passage_of[owners], column), losses[real])
        np.add.at(sums, (passage_of[owners], column + 1), 1)
    return sums


def split_of_examples(examples: Sequence[Example], eot: int) -> Split:
    """Arrange examples, which end with `eot`, in memory like a split of a prepared folder."""
    ids = [[*example.prompt_ids, *example.target_ids] for example in examples]
    ends = np.cumsum([len(row) for row in ids])
    starts = ends - [len(row) for row in ids]
    first = starts + [len(example.prompt_ids) for example in examples]
    columns = [starts, first, ends, np.zeros_like(ends), np.arange(len(ids))]
    tokens = np.fromiter((token for row in ids for token in row), dtype=np.uint16)
    return Split("text", tokens, np.stack(columns, axis=1).astype(np.int64), eot)
