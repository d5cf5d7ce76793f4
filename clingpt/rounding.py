"""What 8-bit weights change: perplexity, greedy decisions and labels beside those of fp32.

Measured on the same tokens by both models, each token behind the true ones before it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from clingpt import console
from clingpt.checkpoint import load_model
from clingpt.dataset import IGNORE
from clingpt.evaluation import passages_of
from clingpt.inference import make_decoder
from clingpt.prepared import Prepared
from clingpt.records import Record
from clingpt.scoring import LabelScores, Passage, Scorer, iter_batches, score_labels
from clingpt.tasks import Example, NotApplicable
from model import Batch


@torch.no_grad()
def compare_texts(
    exact: Scorer, rounded: Scorer, texts: Mapping[str, Sequence[Example]]
) -> dict[str, dict[str, Any]]:
    """For each text: tokens, both perplexities, and the share of other greedy decisions."""
    found = {}
    for name, examples in texts.items():
        if not examples:
            continue
        nats, changed, n_tokens = [0.0, 0.0], 0, 0
        batches = iter_batches(exact, examples)
        for _, batch in console.progress(
            batches, label=f"int8 beside fp32: {name}", unit=" batches"
        ):
            one, other = (decisions(scorer, batch) for scorer in (exact, rounded))
            nats = [nats[0] + one[1], nats[1] + other[1]]
            changed += int((one[0] != other[0]).sum())
            n_tokens += len(one[0])
        found[name] = {
            "tokens": n_tokens,
            "perplexity_fp32": math.exp(nats[0] / n_tokens),
            "perplexity_int8": math.exp(nats[1] / n_tokens),
            "decisions_changed": changed / n_tokens,
        }
    return found


def rounding_section(source: str, scorer: Scorer, data: Prepared, split: str) -> dict[str, Any]:
    """A rounded checkpoint beside itself in fp32, on all records of a split."""
    model = load_model(source, verified=True).model.to(scorer.rt.device).eval()
    exact = replace(scorer, model=model, decoder=make_decoder(model, scorer.rt))
    records = list(data.records(split))
    texts = {
        name: [example for record in records for example in examples_of(scorer, record, passage)]
        for name, passage in passages_of(data.tasks).items()
    }
    labels = (
        [score_labels(one, records) for one in (exact, scorer)] if "answer" in data.tasks else []
    )
    return {
        "texts": compare_texts(exact, scorer, texts),
        "labels": compare_labels(*labels) if labels else {},
    }


def examples_of(
    scorer: Scorer, record: Record, passage_of: Callable[[Scorer, Record], Passage]
) -> list[Example]:
    """What is measured of a record; nothing where it lacks it."""
    try:
        return passage_of(scorer, record).examples
    except NotApplicable:
        return []


def decisions(scorer: Scorer, batch: Batch) -> tuple[Tensor, float]:
    """The most probable token at each target, and all targets' loss in nats."""
    real = batch.targets_KM != IGNORE
    best = scorer.model.logits(scorer.model.hidden_at_targets(batch)).argmax(-1)
    return best[real], float(scorer.model.token_losses(batch).double().sum())


def compare_labels(exact: Sequence[LabelScores], rounded: Sequence[LabelScores]) -> dict[str, Any]:
    """How many of the labels differ, and how many are right, by either."""
    pairs = list(zip(exact, rounded, strict=True))
    known = [pair for pair in pairs if pair[0].record.decision]
    return {
        "records": len(pairs),
        "changed": sum(one.label != other.label for one, other in pairs),
        "labelled": len(known),
        "right_fp32": sum(one.label == one.record.decision for one, _ in known),
        "right_int8": sum(other.label == other.record.decision for _, other in known),
    }
