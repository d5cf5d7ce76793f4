"""Scores of a model on the records of a split: labels, generated text and perplexity.

Measures; what the figures are compared with is clingpt/baselines.py, how they are written down is
clingpt/report.py. Prompts are trimmed by their task's rule, and by how much is counted.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from clingpt import console
from clingpt.dataset import IGNORE, build_rows
from clingpt.generate import OnToken, Sampling, batches_by_length, generate, label_log_probs
from clingpt.metrics import Perplexity, perplexity
from clingpt.prepared import Split
from clingpt.records import LABELS, Record
from clingpt.runtime import Runtime
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

    model: GPT
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
    log_probs: tuple[float, ...]  # over the whole vocabulary; only their order decides
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
    rows: dict[int, LabelScores] = {}
    with console.progress_bar(label="scoring labels", total=len(kept), unit=" records") as bar:
        for batch in batches_by_length([prompt.ids for prompt in prompts], scorer.batch_size):
            ids = [prompts[i].ids for i in batch]
            with scorer.rt.autocast():
                scores = label_log_probs(scorer.model, ids, LABEL_IDS, device=scorer.rt.device)
            for i, row in zip(batch, scores.tolist(), strict=True):
                rows[i] = LabelScores(kept[i], tuple(row), prompts[i].trimmed_tokens)
            bar.update(len(batch))
    return [rows[i] for i in range(len(kept))]


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
    on_token: OnToken | None = None,
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
    outputs: dict[int, Output] = {}
    with console.progress_bar(label=f"writing: {task}", total=len(items), unit=" texts") as bar:
        for batch in batches_by_length([prompt.ids for _, prompt, _ in items], scorer.batch_size):
            with scorer.rt.autocast():
                replies = generate(
                    scorer.model,
                    [items[i][1].ids for i in batch],
                    sampling,
                    context=scorer.context,
                    device=scorer.rt.device,
                    on_token=on_token,
                )
            for i, reply in zip(batch, replies, strict=True):
                record, prompt, reference = items[i]
                text = scorer.tokenizer.decode(reply.ids).strip()
                outputs[i] = Output(
                    record.id, task, text, reference, reply.finish_reason, prompt.trimmed_tokens
                )
            bar.update(len(batch))
    return [outputs[i] for i in range(len(items))]


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


@torch.no_grad()
def score_text(scorer: Scorer, examples: Sequence[Example], label: str) -> TextScore | None:
    """Corpus perplexity of the examples' targets, each scored on its own, in fp32."""
    if not examples:
        return None
    rows = build_rows(split_of_examples(examples), scorer.context, pack=True, seed=0)
    nats = {True: 0.0, False: 0.0}  # of ends of text, of everything else
    tokens = {True: 0, False: 0}
    starts = range(0, len(rows), scorer.batch_size)
    for start in console.progress(starts, label=f"perplexity: {label}", unit=" batches"):
        numbers = np.arange(start, min(start + scorer.batch_size, len(rows)))
        tight = scorer.rt.device.type == "cpu"
        batch = Batch(*map(scorer.rt.put, rows.assemble(numbers, tight=tight)))
        losses = scorer.model.token_losses(batch).double()
        for is_end, chosen in ((True, batch.targets_KM == EOT), (False, batch.targets_KM != EOT)):
            chosen = chosen & (batch.targets_KM != IGNORE)
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
