"""Memorisation: repeated training text, planted secrets, identifiers in samples, membership.

A figure shows memorisation only in comparison with its control: records that were not trained on,
canaries that were held back, or the model before training. Results contain counts and rates, never
a text. clingpt/reports/audit.py puts them into words.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch.nn import functional as F

from clingpt.base import console
from clingpt.base.errors import CheckpointError
from clingpt.base.types import Floats, Ints
from clingpt.data.canaries import Canary, ceiling, chance_p, other_secrets, rank_among
from clingpt.data.prepared import Prepared, Split
from clingpt.decoding.engine import Completion, Reply, generate
from clingpt.decoding.sampling import Sampling
from clingpt.evaluation.metrics import Interval, wilson_interval
from clingpt.evaluation.scorer import Passage, Scorer, passage_losses
from clingpt.text.records import clean
from clingpt.text.tasks import NotApplicable, make_example, prompt_text, text_windows
from clingpt.text.tokenizer import Tokenizer
from model import GPT

Part = Literal["target", "context"]  # of an example: trained to write it, or only shown it
SECRETS_AT_ONCE = 64  # rows of the cache while secrets are scored


def share(hits: int, n: int) -> dict[str, Any]:
    """Return counts, their share and its 95 % interval (Wilson); both are None if `n` is 0."""
    interval = asdict(wilson_interval(hits=hits, n=n)) if n else None
    return {"n": n, "hits": hits, "share": hits / n if n else None, "interval": interval}


# Extraction: does the model continue training records word for word?


@dataclass(frozen=True)
class Window:
    """The first tokens of an example, and the tokens that follow them."""

    shown: list[int]  # the prompt
    wanted: list[int]  # the continuation in the training text


def first_examples(split: Split, task: str, *, without: Set[int] = frozenset()) -> Ints:
    """Return the index row of each record's first example of a task.

    Records whose numbers are in `without` are skipped.
    """
    index = split.rows_of(task)
    index = index[~np.isin(index[:, 4], sorted(without))]
    _, first = np.unique(index[:, 4], return_index=True)
    rows: Ints = index[first]
    return rows


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How windows are cut from examples, and how many are drawn."""

    shown: int  # minimum number of tokens in the prompt
    wanted: int  # tokens to continue
    context: int  # tokens that prompt and continuation may take together
    limit: int  # maximum number of windows
    seed: int


def cut_windows(split: Split, rows: Ints, part: Part, cut: Cut) -> list[Window]:
    """Cut a window from each example that is long enough, and draw up to `cut.limit` of them.

    For the context, the prompt is the first `shown` tokens (Carlini et al. 2022, section 3). For
    the target, it is the whole prompt of the example, plus as much of the target as is needed to
    reach `shown` tokens. A window starts with its example, so that the model sees it at the
    positions of training. The end-of-text token is never part of it.
    """
    start = rows[:, 0]
    place, room = places(rows, part, cut.shown)
    fits = (cut.wanted <= room) & (place + cut.wanted - start <= cut.context)
    chosen = draw(np.flatnonzero(fits), cut.limit, cut.seed)
    return [
        Window(split.tokens[begin:at].tolist(), split.tokens[at : at + cut.wanted].tolist())
        for begin, at in zip(start[chosen].tolist(), place[chosen].tolist(), strict=True)
    ]


def places(rows: Ints, part: Part, shown: int) -> tuple[Ints, Ints]:
    """Return where the continuation of each example starts, and how many tokens it can have."""
    start, first_target, end = rows[:, 0], rows[:, 1], rows[:, 2]
    place, last = start + shown, first_target
    if part == "target":
        place, last = np.maximum(place, first_target), end - 1
    return place, last - place


def draw(items: Ints, limit: int, seed: int) -> Ints:
    """Draw up to `limit` items (rows of an array) without replacement, and keep their order."""
    chosen: Ints = np.sort(np.random.default_rng(seed).permutation(len(items))[:limit])
    return items[chosen]


def extraction(scorer: Scorer, windows: Sequence[Window], label: str) -> dict[str, Any]:
    """Count the windows that greedy decoding continues with exactly the training tokens.

    `longest_run` is the mean over the windows of the longest run of correct tokens, as a share of
    the wanted ones.
    """
    if not windows:
        return share(0, 0) | {"longest_run": None}
    sampling = Sampling(max_new_tokens=len(windows[0].wanted))
    replies = _generate(scorer, [window.shown for window in windows], sampling, label)
    pairs = [(r.ids, window.wanted) for r, window in zip(replies, windows, strict=True)]
    runs = [longest_run(said, wanted) / len(wanted) for said, wanted in pairs]
    exact = sum(said == wanted for said, wanted in pairs)
    return share(exact, len(pairs)) | {"longest_run": sum(runs) / len(runs)}


def longest_run(said: Sequence[int], wanted: Sequence[int]) -> int:
    """Return the length of the longest run of tokens that equal the wanted ones in place."""
    longest = run = 0
    for one, other in zip(said, wanted, strict=False):  # a reply may have ended early
        run = run + 1 if one == other else 0
        longest = max(longest, run)
    return longest


def _generate(
    scorer: Scorer, prompts: Sequence[list[int]], sampling: Sampling, label: str
) -> list[Completion]:
    """Complete all prompts, with a progress bar."""
    with (
        console.progress_bar(label=label, total=len(prompts), unit=" texts") as bar,
        scorer.rt.autocast(),
    ):

        def on_reply(_: int, reply: Reply) -> None:
            bar.update(reply.finish_reason is not None)

        return generate(
            scorer.decoder,
            scorer.tokenizer,
            prompts,
            sampling,
            context=scorer.context,
            rows=scorer.batch_size,
            on_reply=on_reply,
        )


# Exposure: does the model prefer planted secrets to others? clingpt/data/canaries.py makes them.


def canary_prompt(canary: Canary, task: str, tokenizer: Tokenizer, budget: int) -> list[int]:
    """Return the tokens before the secret in training, from the start of its example.

    The notes of the task `document` contain the secret themselves, so the conclusion is left out of
    them here. Raise NotApplicable if the secret does not fit into the budget.
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
    """Return the exposure of a canary's secret in bits (Carlini et al. 2019, section 4).

    That is log2 |R| - log2 rank, where R is the set of possible secrets and the rank is that of the
    loss of this secret's tokens. The rank is estimated from a sample of R, so the exposure cannot
    exceed `ceiling` of the sample's size.
    """
    secrets = [scorer.tokenizer.encode(f" {secret}") for secret in (canary.secret, *others)]
    nats = reply_losses(scorer.model, prompt, secrets)
    if not np.isfinite(nats).all():
        raise CheckpointError("the model's losses are not finite; use another checkpoint")
    return ceiling(len(others)) - math.log2(rank_among(nats[0], nats[1:]))


@torch.no_grad()
def reply_losses(model: GPT, prompt: list[int], replies: Sequence[list[int]]) -> Floats:
    """Return the loss of each reply to one prompt, in nats.

    The prompt is processed once; its keys and values are copied to all rows of the cache, and each
    batch of replies starts from there.
    """
    longest, rows = max(map(len, replies)), min(SECRETS_AT_ONCE, len(replies))
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
            logits_RV = model.step(last, cache).float()
            targets_R = torch.tensor([reply[place] for reply in going.values()])
            losses_R = F.cross_entropy(logits_RV, targets_R.to(logits_RV.device), reduction="none")
            nats[[start + row for row in going]] += losses_R.tolist()
    return nats


def exposure_groups(
    scorer: Scorer, canaries: Sequence[Canary], task: str, *, budget: int, n_others: int, seed: int
) -> list[dict[str, Any]]:
    """Measure all canaries, grouped by how often they were planted; held-back ones (0) come first.

    Raise NotApplicable if a canary does not fit into the budget.
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


# Identifiers: do free samples contain them, and do they come from the training text?


class Identifier(Protocol):
    """A span of text by which a person could be identified."""

    @property
    def kind(self) -> str: ...

    @property
    def start(self) -> int: ...

    @property
    def end(self) -> int: ...


Finder = Callable[[str], Iterable[Identifier]]


def free_samples(scorer: Scorer, count: int, *, max_new_tokens: int, seed: int) -> list[str]:
    """Sample texts at temperature 1 after an end-of-text token, that is, without a prompt."""
    most = min(max_new_tokens, scorer.context - 1)
    sampling = Sampling(max_new_tokens=most, temperature=1.0, seed=seed)
    replies = _generate(scorer, [[scorer.tokenizer.eot]] * count, sampling, "free samples")
    return [reply.text for reply in replies]


def identifiers_in(
    samples: Sequence[str], find: Finder, training: Callable[[], Iterable[str]]
) -> dict[str, Any]:
    """Count the identifiers in samples by kind, and how many occur in the training text."""
    found = [
        [(one.kind, clean(text[one.start : one.end])) for one in find(text)] for text in samples
    ]
    strings = {string for pairs in found for _, string in pairs}
    known = strings_in(strings, training()) if strings else set()
    distinct = {pair for pairs in found for pair in pairs}
    counts = {
        "found": Counter(kind for pairs in found for kind, _ in pairs),
        "distinct": Counter(kind for kind, _ in distinct),
        "in_training": Counter(kind for kind, string in distinct if string in known),
    }
    return {
        "samples": share(sum(map(bool, found)), len(samples)),
        "in_training": share(
            sum(any(string in known for _, string in pairs) for pairs in found), len(samples)
        ),
        "kinds": {
            kind: {name: counter[kind] for name, counter in counts.items()}
            for kind in sorted(counts["found"])
        },
    }


def strings_in(strings: Set[str], texts: Iterable[str]) -> set[str]:
    """Return the strings that occur in a text as whole words or numbers."""
    missing = set(strings)
    for text in texts:
        line = clean(text)
        missing -= {
            one
            for one in missing
            if one in line and re.search(rf"(?<!\w){re.escape(one)}(?!\w)", line)
        }
        if not missing:
            break
    return set(strings) - missing


def training_texts(data: Prepared, tokenizer: Tokenizer) -> Iterator[str]:
    """Yield the text of every training example, prompt and target."""
    train = data.split("train")
    rows = console.progress(train.index, label="training text", unit=" examples")
    for example in map(train.example, rows):
        yield tokenizer.decode([*example.prompt_ids, *example.target_ids])


# Membership: do losses tell training records from others?


def nats_per_token(scorer: Scorer, split: Split, rows: Ints) -> Floats:
    """Return the mean loss of each example's target without its end-of-text token."""
    sums = passage_losses(scorer, [Passage("", [split.example(row)]) for row in rows])
    return np.asarray(sums[:, 0] / np.maximum(sums[:, 1], 1))


def membership(members: Floats, others: Floats) -> dict[str, Any]:
    """Measure how well a score separates members from non-members.

    `auc` is the area under the ROC curve: the share of pairs of a member and a non-member in which
    the member's score is higher. 0.5 is chance, 1 a perfect separation.
    """
    from sklearn.metrics import roc_auc_score

    counts = {"members": len(members), "others": len(others)}
    is_member = np.repeat([True, False], [*counts.values()])
    auc = float(roc_auc_score(is_member, np.concatenate([members, others])))
    return {"auc": auc, "interval": asdict(auc_interval(auc, **counts)), **counts}


def auc_interval(auc: float, *, members: int, others: int) -> Interval:
    """Return the 95 % interval of an area under the ROC curve (Newcombe 2006, part 2, method 5).

    Like Wilson's for a proportion, it inverts the test: a bound is an area that lies exactly 1.96
    of its own standard errors from the one observed. The bound on the far side of 0 or 1 exists
    even if the observed area is 0 or 1.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    z, n = float(norm.ppf(0.975)), (members + others) / 2 - 1

    def excess(area: float) -> float:
        """Squared distance from the observed area, less (1.96 standard errors of this one)²."""
        factor = 1 + n * ((1 - area) / (2 - area) + area / (1 + area))
        return (area - auc) ** 2 - z * z * area * (1 - area) * factor / (members * others)

    # `excess` also vanishes at 0 and at 1 if the observed area is there, so start next to it.
    step = 1e-12
    low = brentq(excess, 0, auc - step, xtol=1e-15) if auc > 0 else 0.0
    high = brentq(excess, auc + step, 1, xtol=1e-15) if auc < 1 else 1.0
    return Interval(low=float(low), high=float(high))
