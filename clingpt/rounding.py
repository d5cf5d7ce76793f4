"""What 8-bit weights change: perplexity, greedy decisions and labels beside those of fp32.

Measured on the same tokens by both models, each token behind the true ones before it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from clingpt import console
from clingpt.dataset import IGNORE
from clingpt.scoring import LabelScores, Scorer, iter_batches
from clingpt.tasks import Example
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
        for batch in iter_batches(exact, examples, label=f"int8 beside fp32: {name}"):
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


def table(found: Mapping[str, Any]) -> str:
    """The comparison for people."""
    rows: list[Sequence[console.Cell]] = [
        [
            name,
            text["tokens"],
            text["perplexity_fp32"],
            text["perplexity_int8"],
            f"{text['perplexity_int8'] / text['perplexity_fp32'] - 1:+.2%}",
            f"{text['decisions_changed']:.2%}",
        ]
        for name, text in found["texts"].items()
    ]
    columns = ["text", "tokens", "perplexity, fp32", "int8", "change", "other decisions"]
    shown = console.table("8-bit weights beside fp32, on the same tokens", columns, rows)
    if labels := found["labels"]:
        shown += (
            f"\n{labels['changed']} of {labels['records']} labels differ; of "
            f"{labels['labelled']} known ones {labels['right_fp32']} are right in fp32, "
            f"{labels['right_int8']} in int8."
        )
    return shown
