"""Calibration against scikit-learn, closed forms and simulated records; damaged files."""

import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from clingpt.base.errors import CheckpointError, ConfigError, DataError
from clingpt.base.types import Floats
from clingpt.evaluation.calibration import (
    FILE,
    HIGHEST_TEMPERATURE,
    HIGHEST_THRESHOLD,
    LOWEST_TEMPERATURE,
    NOT_FITTED,
    Calibration,
    FittedOn,
    LabelScores,
    Point,
    abstention_threshold,
    area_under_risk_coverage,
    brier_score,
    calibrated,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability,
    risk_coverage,
    rounded_down,
    shown_probability,
)
from clingpt.text.records import LABELS

ROW = [[0.5, 0.25, 0.25]]
ALPHABETICAL = [2, 1, 0]  # scikit-learn's columns: maybe, no, yes


def make_records(n: int, *, seed: int = 0) -> tuple[Floats, list[str]]:
    """Make perfectly calibrated log-probabilities: gold labels are drawn from them."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 1.5, (n, 3))
    log_probs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    drawn = (rng.random(n)[:, None] > np.exp(log_probs).cumsum(axis=1)).sum(axis=1)
    return log_probs, [LABELS[min(i, 2)] for i in drawn]


def make_calibration() -> Calibration:
    log_probs, gold = make_records(300)
    return Calibration.fit(3 * log_probs, gold, fingerprint="5eed")


def sure(*confidences: float) -> Floats:
    """Make rows that predict yes with these probabilities."""
    return np.array([[c, (1 - c) / 2, (1 - c) / 2] for c in confidences])


def test_temperature_is_1_for_calibrated_and_2_for_doubled_scores() -> None:
    log_probs, gold = make_records(20_000)
    temperature = fit_temperature(log_probs, gold)
    assert temperature == pytest.approx(1, abs=0.03)
    assert fit_temperature(2 * log_probs, gold) == pytest.approx(2 * temperature, rel=1e-9)
    shifted = log_probs + np.arange(20_000)[:, None] % 7
    assert fit_temperature(shifted, gold) == pytest.approx(temperature, rel=1e-9)


@pytest.mark.parametrize(("right", "score"), [(90, 1.0), (60, 0.2), (35, 0.5), (99, 20.0)])
def test_temperature_matches_its_closed_form(right: int, score: float) -> None:
    # One row for all: softmax gives yes its share where exp(score / T) = 2 · share / (1 - share).
    gold = ["yes"] * right + ["no"] * (100 - right)
    best = score / math.log(2 * right / (100 - right))
    ours = fit_temperature([[score, 0.0, 0.0]] * 100, gold)
    assert ours == pytest.approx(best, rel=1e-9)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.floats(0.1, 30))
def test_fitted_temperature_has_the_lowest_loss(seed: int, n: int, scale: float) -> None:
    log_probs, gold = make_records(n, seed=seed)
    best = fit_temperature(scale * log_probs, gold)
    loss = negative_log_likelihood(scale * log_probs, gold, temperature=best)
    others = np.clip([0, 0.97 * best, 1, 1.03 * best, 99], LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE)
    for other in others.tolist():
        other_loss = negative_log_likelihood(scale * log_probs, gold, temperature=other)
        assert loss <= other_loss + 1e-12


@pytest.mark.parametrize(
    ("row", "temperature"),
    [
        ([0.0, -1.0, -2.0], LOWEST_TEMPERATURE),  # correct: sharper is better
        ([0.0, -1e5, -1e5], LOWEST_TEMPERATURE),  # too sure for a slope that is not 0
        ([-1.0, 0.0, -2.0], HIGHEST_TEMPERATURE),  # wrong: flatter is better
        ([-1e5, 0.0, -1e5], HIGHEST_TEMPERATURE),
        ([-1.1, -1.1, -1.1], 1.0),  # nothing to learn from
    ],
)
def test_temperature_is_1_if_the_records_do_not_determine_it(
    row: list[float], temperature: float
) -> None:
    assert fit_temperature([row], ["yes"]) == temperature


def with_mistakes(n_wrong: int, n: int, *, margin: float) -> tuple[Floats, list[str]]:
    """Make records that predict yes with this margin in nats; so many of them are wrong."""
    log_probs = calibrated([[margin, 0.0, 0.0]] * n, 1.0)
    return np.log(log_probs), ["no"] * n_wrong + ["yes"] * (n - n_wrong)


@pytest.mark.parametrize(
    ("n_wrong", "n", "margin", "temperature", "note"),
    [
        # The labels are better than their probabilities: sharper only with ten mistakes.
        (0, 300, 2.0, 1.0, "not calibrated: 0 mistakes in 300 validation records"),
        (1, 300, 2.0, 1.0, "not calibrated: 1 mistake in 300 validation records"),
        (9, 300, 2.0, 1.0, "not calibrated: 9 mistakes in 300 validation records"),
        (10, 300, 2.0, 2 / math.log(58), None),
        # Surer than right: flatter, however few mistakes.
        (9, 300, 9.0, 9 / math.log(2 * 291 / 9), "not calibrated: 9 mistakes in 300 validation"),
        (10, 300, 9.0, 9 / math.log(58), None),
        # All wrong, all right, a single record, and nothing to choose between labels.
        (300, 300, 2.0, HIGHEST_TEMPERATURE, "not calibrated: 300 mistakes in 300 validation"),
        (0, 1, 2.0, 1.0, "not calibrated: 0 mistakes in 1 validation record"),
        (100, 300, 0.0, 1.0, "not calibrated: 100 mistakes in 300 validation records"),
    ],
)
def test_few_mistakes_never_sharpen(
    n_wrong: int, n: int, margin: float, temperature: float, note: str | None
) -> None:
    log_probs, gold = with_mistakes(n_wrong, n, margin=margin)
    ours = Calibration.fit(log_probs, gold, fingerprint="5eed")
    assert ours.temperature == pytest.approx(temperature, rel=1e-9)
    assert (ours.note or "").startswith(note or "") and bool(ours.note) == bool(note)
    assert ours.fitted_on.mistakes == n_wrong
    judgement = LabelScores("r", None, tuple(log_probs[0]), 0).judge(ours, [1])
    assert judgement["calibration_note"] == ours.note


def test_mistakes_too_narrow_to_count_do_not_sharpen() -> None:
    # Ten mistakes by a hair among 3,000 sure records: the loss still falls at the lower bound.
    log_probs = [[-1e-9, 0.0, -9.0]] * 10 + [[0.0, -1.0, -9.0]] * 3000
    ours = Calibration.fit(log_probs, ["yes"] * 3010, fingerprint="5eed")
    assert fit_temperature(log_probs, ["yes"] * 3010) == LOWEST_TEMPERATURE
    assert (ours.temperature, ours.fitted_on.mistakes, ours.calibrated) == (1.0, 10, False)


def test_tied_labels_count_as_the_label_that_is_shown() -> None:
    tie = (-1.0, -1.0, -3.0)
    assert LabelScores("r", None, tie, 0).label == "yes"
    ours = Calibration.fit([tie] * 2, ["yes", "no"], fingerprint="5eed")
    assert ours.fitted_on.mistakes == 1


shares = st.floats(0, 1) | st.integers(0, 1000).map(lambda k: k / 1000)


@given(shares, shares)
def test_shown_probabilities_compare_like_the_exact_ones(share: float, other: float) -> None:
    threshold = min(rounded_down(other), HIGHEST_THRESHOLD)
    assert 0 <= other - rounded_down(other) < 0.001
    if 0.001 <= threshold:
        shown = shown_probability(threshold)
        assert shown == f"{100 * threshold:.1f} %"  # exact: the threshold is what is shown

        def number(text: str) -> float:
            return {"<0.1 %": 0.0, ">99.9 %": 100.0}.get(text) or float(text.strip("<> %"))

        assert (number(shown_probability(share)) >= number(shown)) == (share >= threshold)


def test_nothing_is_shown_as_certain() -> None:
    assert [shown_probability(share) for share in (0.0, 2.4e-87, 0.000999)] == ["<0.1 %"] * 3
    assert [shown_probability(share) for share in (0.99901, math.nextafter(1, 0), 1.0)] == [
        ">99.9 %"
    ] * 3
    assert [shown_probability(share) for share in (0.001, 0.2899999, 0.29, 0.999)] == [
        "0.1 %", "28.9 %", "29.0 %", "99.9 %",
    ]  # fmt: skip


@settings(deadline=None)
@given(
    st.lists(st.floats(1 / 3, 1), min_size=1, max_size=40),
    st.floats(0.01, 1),
    st.sampled_from([1.0, 40.0]),
)
def test_threshold_is_one_that_is_shown_and_some_record_reaches_it(
    confidences: list[float], coverage: float, sharpness: float
) -> None:
    rows = calibrated(sharpness * np.log(np.maximum(sure(*confidences), 1e-12)), 1.0)
    threshold = abstention_threshold(rows, coverage=coverage)
    assert threshold == round(threshold, 3) <= HIGHEST_THRESHOLD
    assert threshold <= rows.max()
    assert (rows.max(axis=1) >= threshold).mean() >= coverage - 1e-9
    assert (rows.max(axis=1) >= 0.999).all() <= (rows.max(axis=1) >= threshold).all()


def test_likelihood_and_brier_score_equal_scikit_learn() -> None:
    log_probs, gold = make_records(200)
    for temperature in (0.5, 1.0, 3.0):
        rows = calibrated(log_probs, temperature)
        columns = rows[:, ALPHABETICAL]
        nats = negative_log_likelihood(log_probs, gold, temperature=temperature)
        brier = brier_score_loss(gold, columns, labels=sorted(LABELS), scale_by_half=False)
        assert nats == pytest.approx(log_loss(gold, columns))
        assert brier_score(rows, gold) == pytest.approx(brier)


def test_loss_of_an_underflowing_probability_is_finite() -> None:
    nats = negative_log_likelihood([[-5000.0, 0.0, -1.0]], ["yes"], temperature=0.5)
    assert nats == pytest.approx(10_000 + math.log(1 + math.exp(-2)))


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE))
def test_temperature_does_not_change_the_label(seed: int, temperature: float) -> None:
    log_probs, _ = make_records(30, seed=seed)
    rows = calibrated(log_probs, temperature)
    assert rows.sum(axis=1) == pytest.approx(1)
    assert (rows.argmax(axis=1) == log_probs.argmax(axis=1)).all()
    assert calibrated(log_probs, 1.0) == pytest.approx(np.exp(log_probs))


def test_calibration_error_matches_values_worked_by_hand() -> None:
    perfect = ["yes", "yes", "yes", "no", "yes", "maybe", "no", "yes"]
    assert expected_calibration_error(sure(*[0.75] * 4, *[0.5] * 4), perfect) == 0
    # (0.5, 0.6]: 2 records, right 1/2, confidence 0.58; (0.9, 1]: 3, right 2/3, confidence 0.98.
    rows = sure(0.56, 0.6, 0.96, 1.0, 0.98)
    gold = ["no", "yes", "yes", "yes", "maybe"]
    assert [(b.low, b.high, b.n) for b in reliability(rows, gold)] == [(0.5, 0.6, 2), (0.9, 1, 3)]
    error = 2 / 5 * 0.08 + 3 / 5 * (0.98 - 2 / 3)
    assert expected_calibration_error(rows, gold) == pytest.approx(error)


@pytest.mark.parametrize(("confidence", "bins", "low"), [(0.55, 20, 0.5), (0.7, 10, 0.6)])
def test_confidence_on_an_edge_belongs_to_the_bin_below(
    confidence: float, bins: int, low: float
) -> None:
    (only,) = reliability(sure(confidence), ["yes"], bins)
    assert (only.low, only.high) == (low, confidence)
    (last,) = reliability([[1 + 1e-6, 0.0, 0.0]], ["yes"], bins)  # by float32's rounding
    assert (last.high, last.n) == (1.0, 1)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 25))
def test_reliability_equals_scikit_learn(seed: int, n: int, bins: int) -> None:
    log_probs, gold = make_records(n, seed=seed)
    rows = np.exp(log_probs)
    right = [LABELS[i] == label for i, label in zip(rows.argmax(axis=1), gold, strict=True)]
    accuracy, confidence = calibration_curve(right, rows.max(axis=1), n_bins=bins)
    ours = reliability(rows, gold, bins)
    assert [b.accuracy for b in ours] == pytest.approx(list(accuracy))
    assert [b.confidence for b in ours] == pytest.approx(list(confidence))
    assert sum(b.n for b in ours) == n


def test_tied_records_are_answered_together() -> None:
    # Surest first: right, then a right and a wrong one that tie, then a wrong one.
    curve = risk_coverage(sure(0.8, 0.6, 0.9, 0.8), ["no", "no", "yes", "yes"])
    assert curve[1] == Point(coverage=0.75, risk=1 / 3, threshold=0.8)
    assert area_under_risk_coverage(curve) == pytest.approx(0.5 / 3 + 0.25 * 0.5)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(34, 100), st.sampled_from(LABELS)), min_size=1, max_size=40))
def test_risk_coverage_points_match_their_thresholds(records: list[tuple[int, str]]) -> None:
    confidence = np.array([percent / 100 for percent, _ in records])
    wrong = np.array([label != "yes" for _, label in records])
    curve = risk_coverage(sure(*confidence), [label for _, label in records])
    for point in curve:
        answered = confidence >= point.threshold
        assert point.coverage == answered.mean()
        assert point.risk == pytest.approx(wrong[answered].mean())
    assert [p.threshold for p in curve] == sorted(set(confidence), reverse=True)


@pytest.mark.parametrize(
    ("gold", "area"), [("yyyy", 0), ("nnnn", 1), ("yyyn", 1 / 16), ("nyyy", 25 / 48)]
)
def test_area_under_risk_coverage_matches_values_worked_by_hand(gold: str, area: float) -> None:
    # Risks of the surest record, of the surest two …: of the last, (1 + 1/2 + 1/3 + 1/4) / 4.
    labels = [{"y": "yes", "n": "no"}[letter] for letter in gold]
    curve = risk_coverage(sure(0.9, 0.8, 0.7, 0.6), labels)
    assert area_under_risk_coverage(curve) == pytest.approx(area)


@settings(deadline=None)
@given(st.lists(st.integers(34, 100), min_size=1, max_size=60), st.floats(1e-6, 0.999))
def test_threshold_answers_no_more_records_than_the_coverage_needs(
    percents: list[int], coverage: float
) -> None:
    rows = sure(*[percent / 100 for percent in percents])
    threshold = abstention_threshold(rows, coverage=coverage)
    confidence = np.minimum(rows.max(axis=1), HIGHEST_THRESHOLD)
    assert (confidence >= threshold).mean() >= coverage - 1e-9
    assert (confidence > threshold).mean() < coverage  # less would do but for ties


def test_thresholds_are_defined_at_extreme_coverages() -> None:
    rows = sure(*np.linspace(0.5, 0.995, 100))
    assert (rows.max(axis=1) >= abstention_threshold(rows, coverage=0.07)).sum() == 7
    assert abstention_threshold(rows, coverage=1e-12) == 0.995
    assert abstention_threshold(rows, coverage=1.0) == 0.0


def test_calibration_generalises_to_new_records() -> None:
    log_probs, gold = make_records(4000, seed=1)
    ours = Calibration.fit(3 * log_probs, gold, coverage=0.6, fingerprint="5eed")
    assert ours.temperature == pytest.approx(3, abs=0.25)
    fitted = ours.apply(3 * log_probs)
    assert sum(not ours.abstains(row) for row in fitted) / 4000 == pytest.approx(0.6, abs=0.002)
    raw = calibrated(3 * log_probs, 1.0)
    eces, nlls = (ours.ece_before, ours.ece_after), (ours.nll_before, ours.nll_after)
    for rows, ece, nll in zip((raw, fitted), eces, nlls, strict=True):
        assert ece == expected_calibration_error(rows, gold)
        assert nll == pytest.approx(negative_log_likelihood(np.log(rows), gold))
    new_log_probs, new_gold = make_records(4000, seed=2)
    new = ours.apply(3 * new_log_probs)
    kept = np.array([not ours.abstains(row) for row in new])
    assert kept.mean() == pytest.approx(0.6, abs=0.03)
    assert expected_calibration_error(new, new_gold) < 0.03 < 0.1 < ours.ece_before
    right = new.argmax(axis=1) == [LABELS.index(label) for label in new_gold]
    assert right[kept].mean() > right.mean() + 0.08 > right[~kept].mean()


def test_record_at_the_threshold_is_answered() -> None:
    ours = replace(make_calibration(), threshold=0.75, temperature=2.0)
    assert not ours.abstains([0.125, 0.75, 0.125])
    assert ours.abstains([0.125, 0.125, math.nextafter(0.75, 0)])
    shares, withheld = ours.judge([2 * math.log(0.25), 2 * math.log(0.5), 2 * math.log(0.25)])
    assert shares == pytest.approx({"yes": 0.25, "no": 0.5, "maybe": 0.25})
    assert (withheld, ours.judge([0.0, -9.0, -9.0])[1]) == (True, False)


def test_order_of_the_records_does_not_matter() -> None:
    log_probs, gold = make_records(1000)
    log_probs *= 3  # apart enough for sums to show their order
    log_probs[::50] = log_probs[0]  # ties
    straight = Calibration.fit(log_probs, gold, fingerprint="5eed")
    for seed in range(6):
        order = np.random.default_rng(seed).permutation(1000)
        mixed, mixed_gold = log_probs[order], [gold[i] for i in order]
        assert Calibration.fit(mixed, mixed_gold, fingerprint="5eed") == straight
        rows, mixed_rows = straight.apply(log_probs), straight.apply(mixed)
        for measure in (brier_score, reliability, risk_coverage):
            assert measure(mixed_rows, mixed_gold) == measure(rows, gold)


def test_calibration_survives_a_round_trip_to_disk(tmp_path: Path) -> None:
    assert Calibration.load(tmp_path) is None
    ours = make_calibration()
    ours.save(tmp_path)
    assert Calibration.load(tmp_path) == ours
    assert json.loads((tmp_path / FILE).read_text())["format"] == 2
    certain = Calibration.fit([[0, -900, -900]], ["no"], coverage=1, fingerprint="5eed")
    certain.save(tmp_path)
    assert Calibration.load(tmp_path) == certain
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


OLD_FIT = {
    "format": 1, "temperature": 0.05, "threshold": 1.0, "coverage": 0.8,
    "fitted_on": {"split": "val", "records": 300, "fingerprint": "5eed"},
    "ece_before": 0.1, "ece_after": 0.0, "nll_before": 0.1, "nll_after": 0.0,
}  # fmt: skip


def test_calibration_of_an_older_version_is_left_out_with_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / FILE).write_text(json.dumps(OLD_FIT))
    assert Calibration.load(tmp_path) is None
    note = capsys.readouterr().err
    assert note.count("\n") == 1 and "fit it again by running eval.py" in note
    make_calibration().save(tmp_path)  # and eval.py can replace it
    assert Calibration.load(tmp_path) == make_calibration()


def test_unfitted_temperature_below_1_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1 where calibrated is false"):
        replace(make_calibration(), temperature=0.9, calibrated=False)


def test_failed_save_keeps_the_old_calibration(tmp_path: Path) -> None:
    ours = make_calibration()
    ours.save(tmp_path)
    full = mock.patch.object(os, "replace", side_effect=OSError("no space left"))
    with full, pytest.raises(OSError, match="no space left"):
        replace(ours, threshold=0.5).save(tmp_path)
    assert Calibration.load(tmp_path) == ours


BAD_VALUES: dict[str, list[Any]] = {
    "temperature": [0.0, 21, "1", True],
    "threshold": [1, 1.5, math.nan],
    "calibrated": [0, None],
    "coverage": [0],
    "ece_before": [-0.1],
    "ece_after": [2],
    "nll_before": [-1],
    "nll_after": [math.inf],
    "fitted_on": ["val"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD_VALUES.items() for value in values]
)
def test_calibration_file_with_an_invalid_value_is_refused(
    name: str, value: Any, tmp_path: Path
) -> None:
    make_calibration().save(tmp_path)
    path = tmp_path / FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    phrase = rf"{FILE}: {name} must be .*, got {re.escape(repr(value))}.*; fit it again"
    with pytest.raises(CheckpointError, match=phrase):
        Calibration.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"more": 1}, "unknown setting more"),
        ({"fitted_on": {}}, "fitted_on.split is missing"),
        (
            {"fitted_on": {"split": "val", "records": 0, "mistakes": 0, "fingerprint": ""}},
            "records must be at least 1, got 0",
        ),
        (
            {"fitted_on": {"split": "val", "records": 9, "mistakes": 10, "fingerprint": ""}},
            "mistakes must be at least 0 and at most 9, got 10",
        ),
        (
            {"fitted_on": {"split": "val", "records": "9", "mistakes": 0, "fingerprint": ""}},
            "fitted_on.records must be a whole number, got '9'",
        ),
    ],
)
def test_calibration_file_with_other_fields_is_refused(
    changes: dict[str, Any], phrase: str, tmp_path: Path
) -> None:
    make_calibration().save(tmp_path)
    path = tmp_path / FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(CheckpointError, match=rf"{FILE}: {phrase}.*; fit it again"):
        Calibration.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1]", "has no format number"),
        (b'{"format": null}', "has format None, this version reads 2"),
        (b'{"format": 3}', "has format 3, this version reads 2"),
        (b'{"format": 2}', "temperature is missing"),
    ],
)
def test_malformed_calibration_file_is_refused(content: bytes, phrase: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{phrase}; fit it again") as refused:
        Calibration.load(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("measure", "phrase"),
    [
        (lambda: fit_temperature([], []), r"log-probabilities have the shape \(0,\); pass a row"),
        (lambda: calibrated([[1.0, 2.0]], 1.0), r"log-probabilities have the shape \(1, 2\)"),
        (lambda: calibrated([[0, 0, -math.inf]], 1.0), "log-probabilities contain nan or infinity"),
        (lambda: fit_temperature(ROW, ["no", "no"]), "1 rows for 2 gold labels"),
        (lambda: brier_score(ROW, ["No"]), "gold label 'No' is not one of yes, no, maybe"),
        (lambda: brier_score([[0.5, 0.5, 0.5]], ["no"]), "do not add up to 1"),
        (lambda: brier_score([[1.5, -0.25, -0.25]], ["no"]), "do not add up"),
        (
            lambda: risk_coverage(np.log(ROW), ["no"]),
            "do not add up to 1; exponentiate log-probabilities",
        ),
        (lambda: reliability(ROW, ["no"], 0), "the number of bins must be at least 1, not 0"),
        (
            lambda: abstention_threshold(ROW, coverage=0.0),
            "the coverage must be above 0 and at most 1, not 0",
        ),
        (lambda: abstention_threshold(ROW, coverage=1.1), "at most 1, not 1.1"),
        (lambda: Calibration.fit(ROW, ["no"] * 2, fingerprint=""), "1 rows for 2 gold labels"),
    ],
)
def test_unusable_input_is_refused(measure: Callable[[], Any], phrase: str) -> None:
    with pytest.raises(DataError, match=phrase):
        measure()


# Label scores

SCORES = LabelScores("r9", None, (math.log(0.5), math.log(0.25), math.log(0.25)), 0)


def test_uncalibrated_scores_never_abstain() -> None:
    judgement = SCORES.judge(None, [1])
    assert list(judgement) == [
        "label",
        "probabilities",
        "calibration_note",
        "unlike_training",
        "abstained",
    ]
    assert judgement["unlike_training"] is None
    assert judgement["calibration_note"] == NOT_FITTED
    assert (judgement["label"], judgement["abstained"]) == ("yes", None)
    expected = {"yes": 0.5, "no": 0.25, "maybe": 0.25}
    assert judgement["probabilities"] == SCORES.probabilities == pytest.approx(expected)


@pytest.mark.parametrize(("threshold", "abstained"), [(0.39, False), (0.42, True)])
def test_calibrated_label_is_withheld_below_the_threshold(
    threshold: float, abstained: bool
) -> None:
    fitted = Calibration(
        temperature=2, calibrated=True, threshold=threshold, coverage=0.8,
        ece_before=0, ece_after=0, nll_before=1, nll_after=1,
        fitted_on=FittedOn(split="val", records=90, mistakes=10, fingerprint="f"), familiarity=None,
    )  # fmt: skip
    judgement = SCORES.judge(fitted, [1])
    assert (judgement["label"], judgement["abstained"]) == ("yes", abstained)
    flatter = 1 / (1 + 2 * 0.5**0.5)  # 0.5 and twice 0.25, each to the power of 1/2
    assert judgement["probabilities"]["yes"] == pytest.approx(flatter)
