"""Scores of a model on the records of a split: labels, generated text and perplexity.

Measures; what the figures are compared with is clingpt/baselines.py, how they are written down is
clingpt/report.py. Prompts are trimmed by their task's rule, and by how much is counted.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from clingpt import console
from clingpt.dataset import IGNORE, build_rows
from clingpt.generate import Decoder, OnReply, Reply, generate, label_log_probs
from clingpt.metrics import Perplexity, perplexity
from clingpt.prepared import Split
from clingpt.records import LABELS, Record
from clingpt.runtime import Runtime
from clingpt.sampling import Sampling
from clingpt.tasks import (
    LABEL_IDS,
    Example,
    NotApplicable,
    Prompt,
    make_prompt,
    target_text,
)
from clingpt.tokenizer import EOT, Tokenizer
from model import GPT, Batch


@dataclass(frozen=True)
class Scorer:
    """A model ready to be measured."""

    model: GPT  # its losses
    decoder: Decoder  # its replies and label scores
    tokenizer: Tokenizer
    rt: Runtime
    batch_size: int  # rows at once

    @property
    def context(self) -> int:
        return self.model.config.block_size


@dataclass(frozen=True)
class LabelScores:
    """What the model says of each record: a distribution over LABELS, and the tokens it lost."""

    record: Record
    log_probs: tuple[float, ...]  # among the three
    trimmed_tokens: int

    @property
    def label(self) -> str:
        return LABELS[int(np.argmax(self.log_probs))]

    @property
    def probabilities(self) -> dict[str, float]:
        """Of the three labels alone, adding up to one."""
        shares = np.exp(np.array(self.log_probs) - max(self.log_probs))
        return dict(zip(LABELS, (shares / shares.sum()).tolist(), strict=True))


def score_labels(scorer: Scorer, records: Iterable[Record]) -> list[LabelScores]:
    """Compare " yes", " no" and " maybe" behind `Answer:`; nothing is generated or parsed."""
    kept = [record for record in records if record.question]
    prompts = [
        make_prompt("answer", record, scorer.tokenizer, budget=scorer.context) for record in kept
    ]
    with (
        console.progress_bar(label="scoring labels", total=len(kept), unit=" records") as bar,
        scorer.rt.autocast(),
    ):
        log_probs = label_log_probs(
            scorer.decoder,
            [prompt.ids for prompt in prompts],
            LABEL_IDS,
            rows=scorer.batch_size,
            on_batch=bar.update,
        )
    return [
        LabelScores(record, tuple(row), prompt.trimmed_tokens)
        for record, row, prompt in zip(kept, log_probs, prompts, strict=True)
    ]


@dataclass(frozen=True)
class Output:
    """A generated reply beside its reference, both without the end of text."""

    record_id: str
    task: str
    text: str
    reference: str
    finish_reason: str
    trimmed_tokens: int


def write_outputs(
    scorer: Scorer,
    task: str,
    records: Iterable[Record],
    sampling: Sampling,
    *,
    on_reply: OnReply | None = None,
) -> list[Output]:
    """Let the model answer every record that has a reference for the task."""
    budget = scorer.context - sampling.max_new_tokens
    items: list[tuple[Record, Prompt, str]] = []
    for record in records:
        try:
            reference = target_text(task, record)
            prompt = make_prompt(task, record, scorer.tokenizer, budget=budget)
        except NotApplicable:
            continue
        items.append((record, prompt, reference.strip()))
    with (
        console.progress_bar(label=f"writing: {task}", total=len(items), unit=" texts") as bar,
        scorer.rt.autocast(),
    ):

        def show(n: int, reply: Reply) -> None:
            bar.update(reply.finish_reason is not None)
            if on_reply:
                on_reply(n, reply)

        replies = generate(
            scorer.decoder,
            scorer.tokenizer,
            [prompt.ids for _, prompt, _ in items],
            sampling,
            context=scorer.context,
            rows=scorer.batch_size,
            on_reply=show,
        )
    return [
        Output(
            record.id,
            task,
            reply.text.strip(),
            reference,
            reply.finish_reason,
            prompt.trimmed_tokens,
        )
        for (record, prompt, reference), reply in zip(items, replies, strict=True)
    ]


@dataclass(frozen=True)
class TextScore:
    """Perplexity without the end of text, which is a habit and not a word, and with it."""

    text: Perplexity
    with_end: Perplexity


def context_examples(scorer: Scorer, records: Iterable[Record]) -> list[Example]:
    """Each record's context alone, from its start: every token is scored, in windows if long."""
    examples = []
    for record in records:
        ids = scorer.tokenizer.encode(" ".join(text for _, text in record.sections))
        for start in range(0, len(ids), scorer.context - 1):
            window = ids[start : start + scorer.context - 1]
            before = [EOT] if start == 0 else [ids[start - 1]]
            examples.append(Example(prompt_ids=before, target_ids=window, trimmed_tokens=0))
    return examples


def explanation_examples(scorer: Scorer, records: Iterable[Record]) -> list[Example]:
    """The long answer alone is scored, behind the question, the context and the true label."""
    examples = []
    for record in records:
        if record.long_answer is None or record.decision is None:
            continue
        answer = scorer.tokenizer.encode(f" {record.long_answer}")
        lead = scorer.tokenizer.encode(f" {record.decision}\nExplanation:")
        budget = scorer.context - len(answer) - len(lead) - 1
        try:
            prompt = make_prompt("answer", record, scorer.tokenizer, budget=budget)
        except NotApplicable:
            continue
        examples.append(
            Example(
                prompt_ids=prompt.ids + lead,
                target_ids=[*answer, EOT],
                trimmed_tokens=prompt.trimmed_tokens,
            )
        )
    return examples


def iter_batches(scorer: Scorer, examples: Sequence[Example], *, label: str) -> Iterator[Batch]:
    """The examples' packed rows, under a progress bar."""
    rows = build_rows(split_of_examples(examples), scorer.context, pack=True, seed=0)
    starts = range(0, len(rows), scorer.batch_size)
    for start in console.progress(starts, label=label, unit=" batches"):
        numbers = np.arange(start, min(start + scorer.batch_size, len(rows)))
        tight = scorer.rt.device.type == "cpu"
        yield Batch(*map(scorer.rt.put, rows.assemble(numbers, tight=tight)))


@torch.no_grad()
def score_text(scorer: Scorer, examples: Sequence[Example], label: str) -> TextScore | None:
    """Corpus perplexity of the examples' targets, each scored on its own, in fp32."""
    if not examples:
        return None
    nats = {True: 0.0, False: 0.0}  # of ends of text, of everything else
    tokens = {True: 0, False: 0}
    for batch in iter_batches(scorer, examples, label=f"perplexity: {label}"):
        losses, targets_KM = scorer.model.token_losses(batch).cpu().double(), batch.targets_KM.cpu()
        for is_end, chosen in ((True, targets_KM == EOT), (False, targets_KM != EOT)):
            chosen = chosen & (targets_KM != IGNORE)
            nats[is_end] += float(losses[chosen].sum())
            tokens[is_end] += int(chosen.sum())
    content = [token for example in examples for token in example.target_ids if token != EOT]
    n_bytes = len(scorer.tokenizer.decode_bytes(content))
    return TextScore(
        text=perplexity(nats=nats[False], tokens=tokens[False], utf8_bytes=n_bytes),
        with_end=perplexity(
            nats=nats[True] + nats[False], tokens=tokens[True] + tokens[False], utf8_bytes=n_bytes
        ),
    )


def split_of_examples(examples: Sequence[Example]) -> Split:
    """Examples in memory, as if they were a prepared split."""
    ids = [[*example.prompt_ids, *example.target_ids] for example in examples]
    ends = np.cumsum([len(row) for row in ids])
    starts = ends - [len(row) for row in ids]
    first = starts + [len(example.prompt_ids) for example in examples]
    columns = [starts, first, ends, np.zeros_like(ends), np.arange(len(ids))]
    tokens = np.fromiter((token for row in ids for token in row), dtype=np.uint16)
    return Split("text", tokens, np.stack(columns, axis=1).astype(np.int64))


def explained(text: str) -> str:
    """The explanation of an answer, without its label line."""
    _, _, explanation = text.partition("Explanation:")
    return explanation.strip()
