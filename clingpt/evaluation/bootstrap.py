"""Uncertainty of scores: how far they could move with different records or a different seed.

Intervals are 95 % percentile intervals of the bootstrap over records (Efron 1979; Efron and
Tibshirani 1993, chapter 13). They depend on the seed, but not on the order of the records: labels
are resampled as a table of counts, other values are sorted first. Accuracy and macro-F1 range from
0 to 1, as in metrics.py.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
from numpy.typing import ArrayLike

from clingpt.base.errors import DataError
from clingpt.base.types import Floats, Ints
from clingpt.evaluation.metrics import Interval, classification
from clingpt.text.records import LABELS

STRAY = len(LABELS)  # the column of predictions outside LABELS
TAILS = (2.5, 97.5)  # percentiles
DRAWS_AT_ONCE = 2**20  # records drawn in one block: 16 MB, whatever the number of resamples


@dataclass(frozen=True, kw_only=True)
class LabelIntervals:
    """Bootstrap intervals of accuracy and macro-F1."""

    accuracy: Interval
    macro_f1: Interval
    resamples: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class LabelDifference:
    """The second scores minus the first, on the same records."""

    accuracy: float
    accuracy_interval: Interval
    macro_f1: float
    macro_f1_interval: Interval


@dataclass(frozen=True, kw_only=True)
class PairedDifference(LabelDifference):
    """The second system's scores minus the first's, on the same records.

    `wins` counts the records that only the second system gets right, `losses` those that only the
    first does. `mcnemar_p` is the two-sided p-value of the exact McNemar test on these counts.
    """

    wins: int
    losses: int
    mcnemar_p: float


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Repeated measurements of a figure; `sd` divides by n - 1 and is None for a single one."""

    mean: float
    sd: float | None
    low: float
    high: float
    n: int


def bootstrap_labels(
    gold: Sequence[str], *systems: Sequence[str], seed: int = 0, resamples: int = 2000
) -> LabelIntervals:
    """Compute intervals of the accuracy and macro-F1 of metrics.classification.

    They are those of the mean over `systems`, such as a model's seeds, if there are several. With
    few records, many resamples lack the rare label, and the interval of macro-F1 is too narrow:
    with 11 % maybe, it covered the true value in 94 % of 400 samples of 500 records, but only in
    80 % of samples of 50 records. Raise DataError as metrics.classification does, or if there are
    no resamples.
    """
    tables = draw_tables(gold, *systems, seed=seed, resamples=resamples)
    return LabelIntervals(
        accuracy=percentile_interval(accuracies(tables).mean(axis=0)),
        macro_f1=percentile_interval(macro_f1s(tables).mean(axis=0)),
        resamples=resamples,
        seed=seed,
    )


def mean_difference(
    gold: Sequence[str],
    first: Sequence[Sequence[str]],
    second: Sequence[Sequence[str]],
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> LabelDifference:
    """Compare the mean figures of two groups of systems, such as fits on ten folds.

    All systems are scored on the same records, and the same resamples are drawn for all. Raise
    DataError as metrics.classification does, or if there are no resamples.
    """
    tables = draw_tables(gold, *first, *second, seed=seed, resamples=resamples)
    before, after = tables[: len(first)], tables[len(first) :]

    def change(figures: Callable[[Ints], Floats]) -> Floats:
        return np.asarray(figures(after).mean(axis=0) - figures(before).mean(axis=0))

    scores = [[classification(gold, said) for said in group] for group in (first, second)]
    old, new = ([(one.accuracy, one.macro_f1) for one in group] for group in scores)
    accuracy, macro_f1 = (np.mean(new, axis=0) - np.mean(old, axis=0)).tolist()
    return LabelDifference(
        accuracy=accuracy,
        accuracy_interval=percentile_interval(change(accuracies)),
        macro_f1=macro_f1,
        macro_f1_interval=percentile_interval(change(macro_f1s)),
    )


def paired_difference(
    gold: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> PairedDifference:
    """Compare two systems on the same records, as `mean_difference` does, and count the changes."""
    difference = mean_difference(gold, [first], [second], seed=seed, resamples=resamples)
    rows = list(zip(gold, first, second, strict=True))
    wins = sum(old != true == new for true, old, new in rows)
    losses = sum(old == true != new for true, old, new in rows)
    return PairedDifference(
        **vars(difference),
        wins=wins,
        losses=losses,
        mcnemar_p=mcnemar_p(wins=wins, losses=losses),
    )


def bootstrap_sums(
    rows: ArrayLike,
    figure: Callable[[Floats], Floats],
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> Interval:
    """Compute the interval of a figure that follows from sums over records, such as corpus BLEU.

    `rows` has one row of numbers per record. `figure` maps their sums, shape (resamples, columns),
    to one figure per resample. Raise DataError if there are no rows or no resamples, or if a number
    is not finite.
    """
    return percentile_interval(
        figure(resampled_sums(finite(rows, ndim=2, of="rows"), seed=seed, resamples=resamples))
    )


def bootstrap_mean(values: ArrayLike, *, seed: int = 0, resamples: int = 2000) -> Interval:
    """Compute the interval of a mean of one value per record.

    To compare two systems, pass the differences of their values. Raise DataError as
    `bootstrap_sums` does.
    """
    column = finite(values, ndim=1, of="values")
    n = len(column)
    return bootstrap_sums(
        column[:, None], lambda sums: sums[:, 0] / n, seed=seed, resamples=resamples
    )


def bootstrap_ratio(
    numerators: ArrayLike, denominators: ArrayLike, *, seed: int = 0, resamples: int = 2000
) -> Interval:
    """Compute the interval of sum(numerators) / sum(denominators), such as nats per token.

    Raise DataError as `bootstrap_sums` does, if the lists have different lengths, or if a
    denominator is not above 0.
    """
    above = finite(numerators, ndim=1, of="numerators")
    below = finite(denominators, ndim=1, of="denominators")
    if len(above) != len(below):
        raise DataError(
            f"{len(above)} numerators for {len(below)} denominators; pass one of each per record"
        )
    if below.min() <= 0:
        raise DataError(f"a denominator is {below.min():g}; leave out records without any tokens")
    rows = np.stack([above, below], axis=1)
    return bootstrap_sums(
        rows, lambda sums: sums[:, 0] / sums[:, 1], seed=seed, resamples=resamples
    )


def spread(values: Sequence[float]) -> Spread:
    """Compute mean, standard deviation and extremes of a figure over seeds or folds.

    Raise DataError if there are no values, or if one is not finite.
    """
    numbers = finite(values, ndim=1, of="values").tolist()
    return Spread(
        mean=fmean(numbers),
        sd=stdev(numbers) if len(numbers) > 1 else None,
        low=min(numbers),
        high=max(numbers),
        n=len(numbers),
    )


def mcnemar_p(*, wins: int, losses: int) -> float:
    """Return the two-sided p-value of the exact McNemar test (McNemar 1947).

    Under the null hypothesis, wins follow Binomial(wins + losses, 1/2). Two systems that never
    differ have p = 1.
    """
    from scipy.stats import binomtest

    n = wins + losses
    return float(binomtest(wins, n).pvalue) if n else 1.0


def draw_tables(gold: Sequence[str], *systems: Sequence[str], seed: int, resamples: int) -> Ints:
    """Resample the records, the same for all systems, and count labels by system and resample.

    Returns (systems, resamples, 3, 4): a row per gold label, a column per prediction. Records with
    the same labels are interchangeable, so a multinomial draw of their numbers is the bootstrap
    over records, at a cost that does not grow with how often they occur.
    """
    check_resamples(resamples)
    for said in systems:
        classification(gold, said)  # raises DataError for labels that cannot be scored
    counts = Counter(
        tuple(LABELS.index(name) if name in LABELS else STRAY for name in names)
        for names in zip(gold, *systems, strict=True)
    )
    # The last of all combinations is drawn even if no record has it: whether it is decides how many
    # random numbers a draw uses, and so every published interval.
    counts[len(LABELS) - 1, *[STRAY] * len(systems)] += 0
    cells = np.array(sorted(counts))
    shares = np.array([counts[tuple(cell)] for cell in cells.tolist()]) / len(gold)
    drawn = np.random.default_rng(seed).multinomial(len(gold), shares, size=resamples)
    tables = np.zeros((len(systems), resamples, len(LABELS), len(LABELS) + 1), dtype=np.int64)
    for table, said in zip(tables, cells[:, 1:].T, strict=True):
        places = cells[:, 0] * (len(LABELS) + 1) + said
        table.reshape(resamples, -1)[:] = drawn @ np.eye(table[0].size, dtype=np.int64)[places]
    return tables


def accuracies(tables: Ints) -> Floats:
    """Return the share of correct labels in each table of gold labels by predictions."""
    hits = np.trace(tables, axis1=-2, axis2=-1)
    return np.asarray(hits / tables.sum(axis=(-2, -1)))


def macro_f1s(tables: Ints) -> Floats:
    """Return macro-F1 in each table; a label that is neither gold nor predicted counts as 0."""
    hits = np.diagonal(tables, axis1=-2, axis2=-1)
    total = tables.sum(axis=-1) + tables.sum(axis=-2)[..., :STRAY]
    return np.asarray((2 * hits / np.maximum(total, 1)).mean(axis=-1))


def resampled_sums(rows: Floats, *, seed: int, resamples: int) -> Floats:
    """Return the sums (resamples, columns) of as many rows as given, drawn with replacement."""
    check_resamples(resamples)
    rng = np.random.default_rng(seed)
    # Not scipy.stats.bootstrap: it draws in a different order, which would change every published
    # interval, and it holds all resamples of all records in memory.
    # Rows are sorted so that the order of the records does not matter. Columns are summed one after
    # another: drawing whole rows and summing them takes seven times as long.
    columns = np.ascontiguousarray(rows[np.lexsort(rows.T)].T)
    n = len(rows)
    at_once = max(1, DRAWS_AT_ONCE // n)
    sums = np.empty((resamples, len(columns)))
    for start in range(0, resamples, at_once):
        drawn = rng.integers(n, size=(min(at_once, resamples - start), n))
        for place, column in enumerate(columns):
            sums[start : start + at_once, place] = column[drawn].sum(axis=1)
    return sums


def percentile_interval(figures: Floats) -> Interval:
    """Return the interval that contains the middle 95 % of the figures."""
    low, high = np.percentile(figures, TAILS).tolist()
    return Interval(low=low, high=high)


def finite(values: ArrayLike, *, ndim: int, of: str) -> Floats:
    """Convert numbers, or rows of numbers, to an array of finite values; raise DataError if not."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != ndim or not array.size:
        wanted = "number" if ndim == 1 else "row of numbers"
        raise DataError(f"{of} have the shape {array.shape}; pass one {wanted} per record")
    if not np.isfinite(array).all():
        raise DataError(f"{of} contain nan or infinity; leave these records out and count them")
    return array


def check_resamples(resamples: int) -> None:
    """Raise DataError if there are no resamples."""
    if resamples < 1:
        raise DataError(
            f"an interval needs at least 1 resample, not {resamples}; 1000 to 2000 are usual"
        )
