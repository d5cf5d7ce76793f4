"""How far a model prefers a canary's secret to others that it could have been: exposure, in bits.

Carlini et al. 2019, "The Secret Sharer", section 4. What canaries are, and what chance gives, is
clingpt/data/canaries.py.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from clingpt.base import console
from clingpt.base.errors import CheckpointError
from clingpt.data.canaries import Canary, ceiling, chance_p, other_secrets, rank_among
from clingpt.evaluation.scorer import Scorer
from clingpt.text.tasks import NotApplicable, make_example, prompt_text, text_windows
from clingpt.text.tokenizer import Tokenizer
from model import GPT

ROWS = 64  # secrets read at once
Floats = NDArray[np.float64]


def canary_prompt(canary: Canary, task: str, tokenizer: Tokenizer, budget: int) -> list[int]:
    """What stood before the secret in training, from the example's start.

    But in the notes of a document, which show the secret themselves, the conclusion is left out.
    NotApplicable where an example in the budget does not hold the secret.
    """
    record = canary.record(0)
    if task == "text":
        example = next(text_windows(record, tokenizer, budget=budget))
    else:
        example = make_example(task, record, tokenizer, budget=budget)
    prompt, target = example.prompt_ids, example.target_ids
    if task == "document":
        prompt = tokenizer.encode(prompt_text(task, replace(record, long_answer=None)))
    secret = tokenizer.encode(f" {canary.secret}")
    for place in range(len(target)):
        if target[place : place + len(secret)] == secret:
            return [*prompt, *target[:place]]
    raise NotApplicable("no room for a canary")


def canary_exposure(scorer: Scorer, canary: Canary, prompt: list[int], others: list[str]) -> float:
    """Bits by which the model prefers the canary's secret to other ones behind its prompt.

    log2 |R| - log2 rank (Carlini et al. 2019, section 4), the rank by the loss of the secret's own
    tokens, estimated among a sample of R: it cannot exceed `ceiling` of their number.
    """
    secrets = [scorer.tokenizer.encode(f" {secret}") for secret in (canary.secret, *others)]
    nats = nats_behind(scorer.model, prompt, secrets)
    if not np.isfinite(nats).all():
        raise CheckpointError("the model's losses are not finite numbers; use another checkpoint")
    return ceiling(len(others)) - math.log2(rank_among(nats[0], nats[1:]))


@torch.no_grad()
def nats_behind(model: GPT, prompt: list[int], replies: Sequence[list[int]]) -> Floats:
    """The loss of each reply to one prompt, which is read once for all."""
    longest, rows = max(map(len, replies)), min(ROWS, len(replies))
    cache = model.new_cache(rows=rows, capacity=len(prompt) + longest)
    first_V = -model.step({0: prompt}, cache)[0].float().log_softmax(0)
    for layer in cache.layers:
        layer[:, 1:] = layer[:, :1]
    nats = first_V[[reply[0] for reply in replies]].double().cpu().numpy()
    for start in range(0, len(replies), rows):
        batch = replies[start : start + rows]
        cache.lengths = [len(prompt)] * rows
        for place in range(1, max(map(len, batch))):
            going = {row: reply for row, reply in enumerate(batch) if len(reply) > place}
            last = {row: reply[place - 1 : place] for row, reply in going.items()}
            found = _nats(model.step(last, cache), [reply[place] for reply in going.values()])
            nats[[start + row for row in going]] += found
    return nats


def _nats(logits_RV: Tensor, tokens_R: list[int]) -> list[float]:
    targets_R = torch.tensor(tokens_R, device=logits_RV.device)
    losses: list[float] = F.cross_entropy(logits_RV.float(), targets_R, reduction="none").tolist()
    return losses


def exposure_groups(
    scorer: Scorer, canaries: Sequence[Canary], task: str, *, budget: int, n_others: int, seed: int
) -> list[dict[str, Any]]:
    """Exposures of canaries that were planted equally often, the held-back ones (0) first.

    NotApplicable as canary_prompt.
    """
    groups: dict[int, list[float]] = {}
    for canary in console.progress(canaries, label="canaries", unit=" secrets"):
        prompt = canary_prompt(canary, task, scorer.tokenizer, budget)
        others = other_secrets(canary, n_others, seed)
        found = canary_exposure(scorer, canary, prompt, others)
        groups.setdefault(canary.copies, []).append(found)
    return [
        {
            "copies": copies,
            "exposures": found,
            "mean": sum(found) / len(found),
            "at_ceiling": sum(one >= ceiling(n_others) for one in found),
            "p": chance_p(found),
        }
        for copies, found in sorted(groups.items())
    ]
