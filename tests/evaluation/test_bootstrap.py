"""Bootstrap intervals against plain resampling, theory and exact fractions."""

import math
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from clingpt.base.errors import DataError
from clingpt.evaluation import bootstrap
from clingpt.evaluation.bootstrap import (
    Spread,
    accuracies,
    bootstrap_labels,
    bootstrap_mean,
    bootstrap_ratio,
    bootstrap_sums,
    draw_tables,
    macro_f1s,
    mcnemar_p,
    mean_difference,
    paired_difference,
    spread,
)
from clingpt.evaluation.metrics import Interval, classification
from clingpt.text.records import LABELS

SAID = [*LABELS, "", "failed"]
LABEL_PAIRS = st.lists(
    st.tuples(st.sampled_from(LABELS), st.sampled_from(SAID)), min_size=1, max_size=30
)


def make_labels(n: int, *, seed: int = 0) -> tuple[list[str], list[str], list[str]]:
    """Make gold labels and two systems that are right on 60 to 70 % and often wrong together."""
    rng = np.random.default_rng(seed)
    gold = rng.choice(LABELS, n, p=[0.55, 0.34, 0.11])
    luck, guess = rng.random(n), rng.choice(SAID, n)
    first = np.where(luck < 0.5, gold, guess)
    second = np.where((luck < 0.45) | (luck > 0.85), gold, guess)
    return gold.tolist(), first.tolist(), second.tolist()


def plain_bootstrap(n: int, figure: Callable[[NDArray[np.int64]], float]) -> Interval:
    """Compute an interval by resampling one record at a time."""
    rng = np.random.default_rng(99)
    figures = [figure(rng.integers(n, size=n)) for _ in range(2000)]
    low, high = np.quantile(figures, [0.025, 0.975])
    return Interval(low=float(low), high=float(high))


def macro_f1(gold: list[str], said: list[str], records: NDArray[np.int64]) -> float:
    return classification([gold[i] for i in records], [said[i] for i in records]).macro_f1


def close(one: Interval, other: Interval, *, within: float) -> bool:
    return (one.low, one.high) == pytest.approx((other.low, other.high), abs=within)


@settings(deadline=None)
@given(LABEL_PAIRS)
def test_resampled_tables_score_like_their_records(pairs: list[tuple[str, str]]) -> None:
    golds, saids = ([pair[i] for pair in pairs] for i in (0, 1))
    both = draw_tables(golds, saids, golds, seed=3, resamples=4)
    tables = both[0]
    assert (both.sum(axis=(2, 3)) == len(pairs)).all()
    # A resample draws records whole: gold labels are the same for both systems.
    assert (both[0].sum(axis=2) == both[1].sum(axis=2)).all()
    known = {(LABELS.index(g), LABELS.index(s) if s in LABELS else 3) for g, s in pairs}
    assert {(g, s) for _, g, s in np.argwhere(tables).tolist()} <= known
    for drawn, accuracy, f1 in zip(tables, accuracies(tables), macro_f1s(tables), strict=True):
        cells = [(g, s, drawn[g, s]) for g in range(3) for s in range(4)]
        gold = [LABELS[g] for g, _, n in cells for _ in range(n)]
        said = [[*LABELS, "stray"][s] for _, s, n in cells for _ in range(n)]
        scores = classification(gold, said)
        assert (accuracy, f1) == pytest.approx((scores.accuracy, scores.macro_f1))
        yardstick = f1_score(gold, said, labels=list(LABELS), average="macro", zero_division=0)
        assert f1 == pytest.approx(yardstick)


def test_intervals_of_labels_keep_their_published_values() -> None:
    """A different order or number of random draws would move every interval in docs/results.md."""
    gold, *systems = make_labels(120)
    first, second = ([label if label in LABELS else "yes" for label in said] for said in systems)
    ours = bootstrap_labels(gold, first)
    change = paired_difference(gold, first, second).macro_f1_interval
    found = [ours.accuracy.low, ours.accuracy.high, ours.macro_f1.low, ours.macro_f1.high]
    assert [*found, change.low, change.high] == pytest.approx(
        [0.608333333, 0.775, 0.580280586, 0.758514058, 0.055936131, 0.196968078], abs=1e-8
    )


def test_accuracy_interval_matches_the_binomial() -> None:
    ours = bootstrap_labels(["yes"] * 500, ["yes"] * 276 + ["failed"] * 224, resamples=20_000)
    share = Fraction(276, 500)
    below, quantiles = Fraction(0), list[float]()
    for hits in range(501):
        below += math.comb(500, hits) * share**hits * (1 - share) ** (500 - hits)
        if len(quantiles) < 2 and below >= (Fraction(1, 40), Fraction(39, 40))[len(quantiles)]:
            quantiles.append(hits / 500)
    assert (ours.accuracy.low, ours.accuracy.high) == pytest.approx(quantiles, abs=0.0021)
    assert (ours.resamples, ours.seed) == (20_000, 0)


def test_macro_f1_interval_matches_plain_resampling() -> None:
    gold, said, _ = make_labels(150)
    plain = plain_bootstrap(150, lambda records: macro_f1(gold, said, records))
    assert close(bootstrap_labels(gold, said).macro_f1, plain, within=0.012)


def test_all_stray_predictions_count_the_same() -> None:
    gold, said, _ = make_labels(200)
    pooled = ["failed" if label == "" else label for label in said]
    assert "failed" in pooled
    assert bootstrap_labels(gold, said) == bootstrap_labels(gold, pooled)


def test_mean_interval_of_many_values_matches_the_normal_one() -> None:
    values = np.random.default_rng(1).gamma(2.0, 10.0, 900)
    half = 1.96 * values.std() / 30
    ours = bootstrap_mean(values, resamples=4000)
    assert ours.high - ours.low == pytest.approx(2 * half, rel=0.05)
    assert (ours.low + ours.high) / 2 == pytest.approx(values.mean(), abs=half / 10)


def test_mean_interval_of_skewed_values_is_skewed() -> None:
    # One value in five is 1: the sum of five draws is Binomial(5, 1/5), below 4 in 99.3 %.
    assert bootstrap_mean([0, 0, 0, 0, 1]) == Interval(low=0.0, high=0.6)


def test_ratio_interval_weights_records_by_denominator() -> None:
    rng = np.random.default_rng(2)
    tokens = rng.integers(5, 400, 200)
    nats = tokens * rng.normal(3, 0.5, 200) + 40
    plain = plain_bootstrap(200, lambda records: nats[records].sum() / tokens[records].sum())
    assert close(bootstrap_ratio(nats, tokens), plain, within=0.012)
    assert not close(bootstrap_mean(nats / tokens), plain, within=0.05)


def test_ratio_interval_resamples_pairs_of_numbers() -> None:
    tokens = np.random.default_rng(3).integers(1, 1000, 300)
    constant = bootstrap_ratio(3 * tokens, tokens)
    assert (constant.low, constant.high) == pytest.approx((3, 3))


def test_ratio_with_denominators_of_1_is_the_mean() -> None:
    values = np.random.default_rng(4).normal(size=50)
    assert bootstrap_ratio(values, np.ones(50)) == bootstrap_mean(values)


def test_intervals_work_for_a_figure_of_several_sums() -> None:
    # Standard deviations need squares as well: as any figure of sums does, row by row.
    values = np.random.default_rng(8).gamma(2.0, 1.0, 250)
    ours = bootstrap_sums(
        np.stack([values, values**2], axis=1),
        lambda sums: np.sqrt(sums[:, 1] / 250 - (sums[:, 0] / 250) ** 2),
    )
    assert close(ours, plain_bootstrap(250, lambda records: values[records].std()), within=0.02)


def test_interval_does_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(5).normal(size=33)
    whole = bootstrap_mean(values, resamples=100)
    for at_once in (1, 33 * 7):
        monkeypatch.setattr(bootstrap, "DRAWS_AT_ONCE", at_once)
        assert bootstrap_mean(values, resamples=100) == whole


def test_memory_does_not_grow_with_the_number_of_resamples() -> None:
    values = np.random.default_rng(6).normal(size=200_000)
    tracemalloc.start()
    try:
        bootstrap_ratio(values, np.ones(200_000), resamples=60)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6  # all at once would take 192 MB


def test_paired_difference_matches_values_worked_by_hand() -> None:
    gold = ["yes", "yes", "no", "maybe", "no"]
    first = ["yes", "no", "no", "", "yes"]
    second = ["yes", "yes", "yes", "maybe", "no"]
    ours = paired_difference(gold, first, second)
    assert (ours.wins, ours.losses) == (3, 1)
    assert ours.accuracy == pytest.approx(4 / 5 - 2 / 5)
    # F1 of yes, no, maybe: 1/2, 1/2, 0 against 4/5, 2/3, 1.
    assert ours.macro_f1 == pytest.approx((4 / 5 + 2 / 3 + 1) / 3 - 1 / 3)
    assert ours.mcnemar_p == pytest.approx(2 * 5 / 16)  # one loss or none in four
    turned = paired_difference(gold, second, first)
    assert (turned.wins, turned.losses, turned.mcnemar_p) == (1, 3, ours.mcnemar_p)
    assert (turned.accuracy, turned.macro_f1) == pytest.approx((-ours.accuracy, -ours.macro_f1))


def test_paired_intervals_resample_both_systems_together() -> None:
    gold, first, second = make_labels(400)
    ours = paired_difference(gold, first, second, resamples=4000)
    change = (ours.wins - ours.losses) / 400
    half = 1.96 * math.sqrt(((ours.wins + ours.losses) / 400 - change**2) / 400)
    assert close(
        ours.accuracy_interval, Interval(low=change - half, high=change + half), within=0.007
    )
    plain = plain_bootstrap(
        400, lambda records: macro_f1(gold, second, records) - macro_f1(gold, first, records)
    )
    assert close(ours.macro_f1_interval, plain, within=0.012)


def test_groups_of_systems_are_compared_by_their_means() -> None:
    gold, first, second = make_labels(200)
    third = [second[i] if i % 3 else first[i] for i in range(200)]
    ours = mean_difference(gold, [first, second], [third, gold], resamples=4000)

    def mean(figure: Callable[[list[str]], float], *group: list[str]) -> float:
        return sum(map(figure, group)) / len(group)

    def change(figure: Callable[[list[str]], float]) -> float:
        return mean(figure, third, gold) - mean(figure, first, second)

    assert ours.accuracy == pytest.approx(change(lambda s: classification(gold, s).accuracy))
    assert ours.macro_f1 == pytest.approx(change(lambda s: classification(gold, s).macro_f1))
    plain = plain_bootstrap(200, lambda records: change(lambda s: macro_f1(gold, s, records)))
    assert close(ours.macro_f1_interval, plain, within=0.012)
    mean_of_two = bootstrap_labels(gold, first, second, resamples=4000).macro_f1
    plain = plain_bootstrap(
        200, lambda records: mean(lambda s: macro_f1(gold, s, records), first, second)
    )
    assert close(mean_of_two, plain, within=0.012)
    # Systems that are wrong on different records vary less together.
    alone = bootstrap_labels(gold, first, resamples=4000).macro_f1
    assert mean_of_two.high - mean_of_two.low < alone.high - alone.low


def test_system_does_not_differ_from_itself() -> None:
    gold, said, _ = make_labels(50)
    nothing = Interval(low=0.0, high=0.0)
    ours = paired_difference(gold, said, said)
    assert (ours.accuracy_interval, ours.macro_f1_interval) == (nothing, nothing)
    assert (ours.wins, ours.losses, ours.mcnemar_p) == (0, 0, 1.0)


@settings(deadline=None)
@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_equals_the_exact_binomial(wins: int, losses: int) -> None:
    n = wins + losses
    tail = sum(math.comb(n, k) for k in range(min(wins, losses) + 1))
    exact = min(Fraction(1), Fraction(2 * tail, 2**n))
    assert mcnemar_p(wins=wins, losses=losses) == pytest.approx(float(exact), rel=1e-10)
    assert mcnemar_p(wins=losses, losses=wins) == mcnemar_p(wins=wins, losses=losses)


@pytest.mark.parametrize(
    ("wins", "losses", "p"),
    [
        (500_000, 500_000, 1.0),
        (1_000_000, 0, 0.0),
        (501_000, 499_000, math.erfc(1.999 / math.sqrt(2))),  # normal, corrected for continuity
        (502_000, 498_000, math.erfc(3.999 / math.sqrt(2))),
    ],
)
def test_mcnemar_handles_a_million_records(wins: int, losses: int, p: float) -> None:
    assert mcnemar_p(wins=wins, losses=losses) == pytest.approx(p, rel=1e-4)


def test_order_of_the_records_does_not_matter() -> None:
    gold, first, second = make_labels(300)
    rng = np.random.default_rng(7)
    nats, tokens = rng.normal(50, 9, 300), rng.integers(1, 6, 300)
    order = rng.permutation(300)
    mixed_gold, mixed_first, mixed_second = (
        [labels[i] for i in order] for labels in (gold, first, second)
    )
    assert bootstrap_labels(mixed_gold, mixed_first) == bootstrap_labels(gold, first)
    assert paired_difference(mixed_gold, mixed_first, mixed_second) == paired_difference(
        gold, first, second
    )
    assert bootstrap_mean(nats[order]) == bootstrap_mean(nats)
    assert bootstrap_ratio(nats[order], tokens[order]) == bootstrap_ratio(nats, tokens)
    # Equal numerators, so that the denominators alone decide the order.
    assert bootstrap_ratio(tokens[order] * 0, tokens[order]) == Interval(low=0.0, high=0.0)
    assert bootstrap_ratio(tokens[order] * 0 + 1, nats[order]) == bootstrap_ratio(
        tokens * 0 + 1, nats
    )
    assert spread([1e16, 1.0, -1e16]) == spread([1e16, -1e16, 1.0])


@pytest.mark.parametrize(
    "measure",
    [
        lambda seed: bootstrap_labels(*make_labels(200)[:2], seed=seed).macro_f1,
        lambda seed: paired_difference(*make_labels(200), seed=seed).macro_f1_interval,
        lambda seed: bootstrap_mean(np.arange(50.0) ** 2, seed=seed),
        lambda seed: bootstrap_ratio(np.arange(50.0) ** 2, np.arange(1, 51), seed=seed),
    ],
    ids=["labels", "paired", "mean", "ratio"],
)
def test_intervals_depend_only_on_the_seed(measure: Callable[[int], Interval]) -> None:
    assert measure(1) == measure(1)
    assert measure(1) != measure(2)


def test_spread_matches_values_worked_by_hand() -> None:
    ours = spread([0.6, 0.5, 0.7])
    assert (ours.mean, ours.sd) == pytest.approx((0.6, 0.1))
    assert (ours.low, ours.high, ours.n) == (0.5, 0.7, 3)
    assert spread([0.25]) == Spread(mean=0.25, sd=None, low=0.25, high=0.25, n=1)


@pytest.mark.parametrize(
    ("measure", "phrase"),
    [
        (lambda: bootstrap_labels(["yes"], []), "0 predictions for 1 references"),
        (lambda: bootstrap_labels([], []), "no predictions to score"),
        (lambda: bootstrap_labels(["Yes"], ["yes"]), "'Yes' is not one of yes, no, maybe"),
        (lambda: bootstrap_labels(["no"], ["no"], resamples=0), "at least 1 resample, not 0"),
        (lambda: paired_difference(["no"], ["no"], []), "0 predictions for 1 references"),
        (lambda: paired_difference(["no"], [], ["no"]), "0 predictions for 1 references"),
        (lambda: mean_difference(["no"], [["no"]], [["no"], []]), "0 predictions for 1 ref"),
        (lambda: bootstrap_mean([]), r"values have the shape \(0,\)"),
        (lambda: bootstrap_mean([[1.0]]), r"values have the shape \(1, 1\)"),
        (lambda: bootstrap_mean([1, math.nan]), "values contain nan or infinity"),
        (lambda: bootstrap_mean([1.0], resamples=-1), "at least 1 resample, not -1"),
        (
            lambda: bootstrap_sums([1.0], lambda s: s[0]),
            r"the shape \(1,\); pass one row",
        ),
        (lambda: bootstrap_sums([[math.nan]], lambda s: s[0]), "rows contain nan or infinity"),
        (lambda: bootstrap_ratio([1, 2], [1]), "2 numerators for 1 denominators"),
        (lambda: bootstrap_ratio([1, 2], [1, 0]), "a denominator is 0; leave out"),
        (lambda: bootstrap_ratio([1], [math.inf]), "denominators contain nan or infinity"),
        (lambda: spread([]), r"values have the shape \(0,\)"),
        (lambda: spread([math.inf]), "values contain nan or infinity"),
    ],
)
def test_unusable_input_is_refused(measure: Callable[[], Any], phrase: str) -> None:
    with pytest.raises(DataError, match=phrase):
        measure()
