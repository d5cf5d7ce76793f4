"""Comparisons of several checkpoints."""

import math
from dataclasses import replace

import pytest

from clingpt.reports.comparison import Labels, comparison, comparison_report
from clingpt.reports.report import LabelSection, Report, label_figures
from tests.helpers.reports import bare_report, typed

FIRST = {"a": ("yes", "yes"), "b": ("no", "yes"), "c": ("maybe", "maybe")}


def reported(labels: Labels) -> tuple[Report, Labels]:
    figures = label_figures([gold for gold, _ in labels.values()], [x for _, x in labels.values()])
    section = LabelSection(systems={"model": figures}, differences={}, notes=())
    return replace(typed(bare_report()), labels=section), labels


def test_folds_are_pooled() -> None:
    other = {"d": ("yes", "no"), "e": ("no", "no"), "f": ("maybe", "yes")}
    folds = comparison({"one": reported(FIRST), "two": reported(other)})
    assert folds.pooled and (folds.pooled.n, folds.pooled.accuracy) == (6, 0.5)
    assert not folds.same_records and folds.paired is None


def test_two_checkpoints_are_paired_on_the_same_records() -> None:
    better = FIRST | {"b": ("no", "no")}
    pair = comparison({"one": reported(FIRST), "two": reported(better)})
    assert pair.same_records and pair.pooled is None
    assert pair.paired and pair.paired.accuracy == pytest.approx(1 / 3)
    assert (pair.paired.wins, pair.paired.losses) == (1, 0)
    assert (pair.paired.first, pair.paired.second) == ("one", "two")
    assert pair.spread["accuracy"].mean == pytest.approx(5 / 6)
    assert pair.spread["accuracy"].sd == pytest.approx(math.sqrt(2) / 6)


def test_three_checkpoints_are_not_paired() -> None:
    three = comparison({name: reported(FIRST) for name in ("one", "two", "three")})
    assert three.paired is None and three.spread["macro_f1"].sd == 0


def test_a_comparison_report_contains_only_the_comparison() -> None:
    one, two = reported(FIRST), reported(FIRST)
    two = replace(two[0], data=replace(two[0].data, fingerprint="another")), two[1]
    report = comparison_report({"one": one, "two": two})
    assert (report.checkpoint, report.step, report.look) == ("2 checkpoints", None, None)
    assert report.data.name == "records of several folders"
    assert not (report.labels or report.perplexity or report.texts or report.examples)
    assert Report.from_json(report.to_json(), source="x") == report


def test_without_labels_the_data_decide_whether_the_records_are_the_same() -> None:
    """Checkpoints of another task have no labels, and two folders may hold other records."""
    one, other = typed(bare_report()), typed(bare_report())
    other = replace(other, data=replace(other.data, fingerprint="another"))
    assert comparison({"one": (one, {}), "two": (one, {})}).same_records
    assert not comparison({"one": (one, {}), "two": (other, {})}).same_records


def test_every_figure_of_a_comparison_names_its_records() -> None:
    found = comparison({"one": reported(FIRST), "two": reported(FIRST)})
    assert found.records == {
        "accuracy": (3, 3),
        "macro_f1": (3, 3),
        "context bits per byte": (500, 500),
    }
    assert found.paired and found.paired.records == 3
