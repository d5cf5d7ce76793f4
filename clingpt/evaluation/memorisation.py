"""What a model keeps of the text it was trained on: repeated text, identifiers, membership.

Each measure is of one model and one set of records; that a figure means memory shows only beside
its control (records that were not trained on, canaries that were held back, the model before).
Results hold counts and rates, never a text. Planted secrets are clingpt/evaluation/exposure.py;
how it is said is clingpt/reports/audit.py."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from clingpt.base import console
from clingpt.data.packing import Ints
from clingpt.data.prepared import Prepared, Split
from clingpt.decoding.engine import Completion, Reply, generate
from clingpt.decoding.sampling import Sampling
from clingpt.evaluation.metrics import Interval, wilson_interval
from clingpt.evaluation.scorer import Passage, Scorer, passage_losses
from clingpt.text.records import clean
from clingpt.text.tokenizer import EOT, Tokenizer

Part = Literal["target", "context"]  # of an example: what was trained on, what was only shown
Floats = NDArray[np.float64]


def share(hits: int, n: int) -> dict[str, Any]:
    """So many of so many, with Wilson's 95 % interval; of none, neither."""
    interval = asdict(wilson_interval(hits=hits, n=n)) if n else None
    return {"n": n, "hits": hits, "share": hits / n if n else None, "interval": interval}


# Text that is repeated


@dataclass(frozen=True)
class Window:
    """Tokens of an example from its start on, and those that followed."""

    shown: list[int]
    wanted: list[int]


def first_examples(split: Split, task: str, *, without: Set[int] = frozenset()) -> Ints:
    """Rows of the index: each record's first example of a task; `without` are record numbers."""
    index = split.rows_of(task)
    index = index[~np.isin(index[:, 4], sorted(without))]
    _, first = np.unique(index[:, 4], return_index=True)
    rows: Ints = index[first]
    return rows


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How windows are cut and how many are drawn."""

    shown: int  # tokens, at least
    wanted: int  # tokens
    context: int  # that both must fit in
    limit: int  # windows
    seed: int


def cut_windows(split: Split, rows: Ints, part: Part, cut: Cut) -> list[Window]:
    """Of examples that are long enough, tokens of a part and all that stood before.

    Of the context its first `shown` tokens and what follows them (Carlini et al. 2022, section 3:
    k tokens of prompt); of the target its first tokens, behind the whole prompt, or behind `shown`
    tokens where the prompt is shorter. From the example's start, so that the model sees it at the
    positions that it was trained at; the end of text is none of the text.
    """
    start, first_target, end = rows[:, 0], rows[:, 1], rows[:, 2]
    place, last = start + cut.shown, first_target
    if part == "target":
        place, last = np.maximum(place, first_target), end - 1
    fits = (place + cut.wanted <= last) & (place + cut.wanted - start <= cut.context)
    chosen = drawn(np.flatnonzero(fits), cut.limit, cut.seed)
    return [
        Window(split.tokens[begin:at].tolist(), split.tokens[at : at + cut.wanted].tolist())
        for begin, at in zip(start[chosen].tolist(), place[chosen].tolist(), strict=True)
    ]


def drawn(items: Ints, limit: int, seed: int) -> Ints:
    """Up to `limit` of some items (rows of an array) by chance, in their order."""
    chosen: Ints = np.sort(np.random.default_rng(seed).permutation(len(items))[:limit])
    return items[chosen]


def extraction(scorer: Scorer, windows: Sequence[Window], label: str) -> dict[str, Any]:
    """How many windows go on, greedily, with exactly the tokens that they went on with.

    `longest_run`: the longest run of tokens that are right, of those wanted, on average.
    """
    if not windows:
        return share(0, 0) | {"longest_run": None}
    sampling = Sampling(max_new_tokens=len(windows[0].wanted))
    replies = _continued(scorer, [window.shown for window in windows], sampling, label)
    pairs = [(r.ids, window.wanted) for r, window in zip(replies, windows, strict=True)]
    runs = [longest_run(said, wanted) / len(wanted) for said, wanted in pairs]
    exact = sum(said == wanted for said, wanted in pairs)
    return share(exact, len(pairs)) | {"longest_run": sum(runs) / len(runs)}


def longest_run(said: Sequence[int], wanted: Sequence[int]) -> int:
    """The most tokens in a row that are the wanted ones, in their places."""
    longest = run = 0
    for one, other in zip(said, wanted, strict=False):  # a reply may have ended early
        run = run + 1 if one == other else 0
        longest = max(longest, run)
    return longest


def _continued(
    scorer: Scorer, prompts: Sequence[list[int]], sampling: Sampling, label: str
) -> list[Completion]:
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


# Identifiers


class Identifier(Protocol):
    """A piece of a text by which somebody could be known."""

    @property
    def kind(self) -> str: ...

    @property
    def start(self) -> int: ...

    @property
    def end(self) -> int: ...


Finder = Callable[[str], Iterable[Identifier]]


def free_samples(scorer: Scorer, count: int, *, max_new_tokens: int, seed: int) -> list[str]:
    """Texts from nothing: behind an end of text, at temperature 1."""
    most = min(max_new_tokens, scorer.context - 1)
    sampling = Sampling(max_new_tokens=most, temperature=1.0, seed=seed)
    replies = _continued(scorer, [[EOT]] * count, sampling, "free samples")
    return [reply.text for reply in replies]


def identifiers_in(
    samples: Sequence[str], find: Finder, training: Callable[[], Iterable[str]]
) -> dict[str, Any]:
    """What the samples hold by kind, and how much of it stands in the training text as it is."""
    found = [
        [(one.kind, clean(text[one.start : one.end])) for one in find(text)] for text in samples
    ]
    strings = {string for pairs in found for _, string in pairs}
    known = standing(strings, training()) if strings else set()
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


def standing(strings: Set[str], texts: Iterable[str]) -> set[str]:
    """Those of the strings that stand in a text, not as part of a longer word or number."""
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
    """Every example that was trained on, prompt and target."""
    train = data.split("train")
    rows = console.progress(train.index, label="training text", unit=" examples")
    for example in map(train.example, rows):
        yield tokenizer.decode([*example.prompt_ids, *example.target_ids])


# Membership


def nats_per_token(scorer: Scorer, split: Split, rows: Ints) -> Floats:
    """Mean loss of each example's target, the end of text left out."""
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
    even where the observed area is 0 or 1.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    z, n = float(norm.ppf(0.975)), (members + others) / 2 - 1

    def excess(area: float) -> float:
        """Squared distance from the observed area, less (1.96 standard errors of this one)²."""
        factor = 1 + n * ((1 - area) / (2 - area) + area / (1 + area))
        return (area - auc) ** 2 - z * z * area * (1 - area) * factor / (members * others)

    # `excess` also vanishes at 0 and at 1 where the observed area is there: start beside it.
    step = 1e-12
    low = brentq(excess, 0, auc - step, xtol=1e-15) if auc > 0 else 0.0
    high = brentq(excess, auc + step, 1, xtol=1e-15) if auc < 1 else 1.0
    return Interval(low=float(low), high=float(high))
