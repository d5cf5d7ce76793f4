"""The training curve as a picture file; the other plots are tested with the page."""

from pathlib import Path

import pytest

from clingpt.reports.plots import save_training_curve


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
