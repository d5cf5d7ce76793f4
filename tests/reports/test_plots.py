"""Plots of a report, and the training curve as a picture file."""

from collections.abc import Callable
from pathlib import Path

import pytest

from clingpt.reports import plots
from clingpt.reports.plots import save_training_curve
from clingpt.reports.report import Report
from tests.helpers.html_page import Parsed
from tests.helpers.reports import bare_report, full_report, typed

DRAWN = (plots.reliability, plots.risk_coverage, plots.confusion, plots.curve)


@pytest.mark.parametrize("draw", DRAWN)
def test_a_plot_is_text_without_a_style_sheet_or_a_date(
    draw: Callable[[Report], str | None],
) -> None:
    svg = draw(typed(full_report()))
    assert svg is not None and svg.startswith("<svg ")
    parsed = Parsed(svg)
    tags = {tag for tag, _ in parsed.tags}
    assert "text" in tags and not tags & {"style", "metadata", "image", "script"}
    assert "currentColor" in svg and plots.INK not in svg
    assert svg == draw(typed(full_report()))
    assert draw(typed(bare_report())) is None


def test_plots_contain_their_figures() -> None:
    report = full_report()
    assert "threshold 52.1 %: 79 % answered, 27 % wrong" in (
        plots.risk_coverage(typed(report)) or ""
    )
    confusion = Parsed(plots.confusion(typed(report)) or "").text.split()
    assert [confusion.count(number) for number in ("218", "47", "100", "29")] == [1] * 4
    assert "validation, lowest 2.535" in (plots.curve(typed(report)) or "")
    report["calibration"]["reliability"] = []
    assert plots.reliability(typed(report)) is None
    report["curve"] = [{"step": 1, "val_loss": 2.0}]
    assert "training" not in Parsed(plots.curve(typed(report)) or "").text


@pytest.mark.parametrize("steps", [0, 1, 300])
@pytest.mark.parametrize("scores", [{}, {"val_accuracy": 0.5, "val_rougeL": 20.0}])
def test_training_curve_is_drawn_from_any_number_of_points(
    tmp_path: Path, steps: int, scores: dict[str, float]
) -> None:
    rows: list[dict[str, float]] = []
    for step in range(1, steps + 1):
        rows.append({"step": step, "train_loss": 5 / step})
        if step % 100 == 0:
            rows.append({"step": step, "val_loss": 6 / step} | scores)
    save_training_curve(rows, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
