"""Trackers: offline by default, one run across resumes, each step once."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from clingpt.training.tracker import Tracker
from tests.helpers.commands import train_here, train_losses
from tests.helpers.wandb_files import history

BOARDS = ["wandb", "mlflow"]
Points = dict[str, list[tuple[int, float]]]

pytestmark = [
    # SQLAlchemy's, about MLflow's tables.
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def wandb_points(run: Path) -> Points:
    """Return the content of all offline files of a run; they must share one run id."""
    files = sorted((run / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len({path.name for path in files}) == 1
    points: Points = {}
    for row in (row for path in files for row in history(path)):
        for name in row.keys() - {"step", "_timestamp", "_runtime"}:
            points.setdefault(name, []).append((row["step"], row[name]))
    return points


def mlflow_points(run: Path) -> Points:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{run / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("clingpt")
    assert experiment is not None
    [found] = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED" and found.info.run_name == run.name
    points: Points = {}
    for name in found.data.metrics:
        logged = client.get_metric_history(found.info.run_id, name)
        points[name] = sorted((point.step, point.value) for point in logged)
    return points


READERS: dict[str, Callable[[Path], Points]] = {"wandb": wandb_points, "mlflow": mlflow_points}


@pytest.mark.parametrize("board", BOARDS)
def test_a_run_logs_its_figures_offline(board: str, thirteen: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = ["--steps=4", "--eval_every=2", "--log_every=1", "--n_layer=1", "--n_embd=16"]
    flags += ["--sample=False", f"--tracker={board}", f"--data={thirteen}", f"--out={out}"]
    assert train_here(*flags) == 0
    points = READERS[board](out)
    losses = train_losses(out)
    assert dict(points["train_loss"]) == pytest.approx(losses)
    assert [step for step, _ in points["train_loss"]] == [1, 2, 3, 4]
    assert [step for step, _ in points["val_loss"]] == [2, 4]


@pytest.mark.parametrize("board", BOARDS)
def test_a_resumed_run_keeps_its_id_and_logs_each_step_once(board: str, tmp_path: Path) -> None:
    for first, last in ((0, 6), (3, 5), (3, 9)):  # resumed twice from step 3
        tracker = Tracker(tmp_path, board=board, step=first, active=True, settings={"seed": 1})
        for step in range(first + 1, last + 1):
            tracker.write({"step": step, "train_loss": step / 4, "mfu": None})
            if step % 3 == 0:
                tracker.write({"step": step, "val_loss": step / 8})
        tracker.close()
    points = READERS[board](tmp_path)
    assert points["train_loss"] == [(step, step / 4) for step in range(1, 10)]
    assert points["val_loss"] == [(3, 3 / 8), (6, 6 / 8), (9, 9 / 8)]
    assert points.keys() == {"train_loss", "val_loss"}


@pytest.mark.parametrize("board", ["tensorboard", *BOARDS])
def test_only_the_main_rank_writes(board: str, tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, board=board, step=0, active=False, settings={})
    tracker.write({"step": 1, "train_loss": 1.0})
    tracker.draw()
    tracker.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("environment", "mode"),
    [({}, "offline"), ({"WANDB_API_KEY": "x"}, None), ({"WANDB_MODE": "offline"}, None)],
)
def test_wandb_is_offline_unless_the_environment_says_otherwise(
    environment: dict[str, str], mode: str | None, tmp_path: Path
) -> None:
    import wandb

    with mock.patch.dict(os.environ, environment), mock.patch.object(wandb, "init") as init:
        Tracker(tmp_path, board="wandb", step=0, active=True, settings={"seed": 1})
    given: Any = init.call_args.kwargs
    assert given["mode"] == mode and given["config"] == {"seed": 1}
    # The console shows held-out records, which must not leave the machine.
    assert given["settings"].console == "off" and not given["settings"].save_code


@pytest.mark.parametrize(
    ("board", "module"),
    [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb"), ("mlflow", "mlflow.tracking")],
)
def test_a_missing_package_is_named_in_one_line(
    board: str, module: str, thirteen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mock.patch.dict(sys.modules, {module: None}):
        flags = ["--steps=1", f"--tracker={board}", f"--data={thirteen}", f"--out={tmp_path}/run"]
        assert train_here(*flags) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"--tracker={board} needs a package" in last
    assert last.endswith(f"pip install {board}")


def test_tensorboard_shows_the_figures_of_metrics_jsonl(thirteen: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "run"
    flags = ["--steps=6", "--eval_every=3", "--log_every=1", "--n_layer=1", "--n_embd=16"]
    flags += ["--sample=False", "--tracker=tensorboard", f"--data={thirteen}", f"--out={out}"]
    assert train_here(*flags) == 0
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    found = {event.step: event.value for event in events.Scalars("train_loss")}
    assert found == {step: pytest.approx(loss) for step, loss in train_losses(out).items()}
    assert [event.step for event in events.Scalars("val_loss")] == [3, 6]


def test_the_run_id_and_last_steps_are_kept_in_the_run_folder(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, board="wandb", step=0, active=True, settings={})
    tracker.write({"step": 1, "train_loss": 1.0})
    tracker.close()
    saved = json.loads((tmp_path / "wandb.json").read_text())
    assert saved["last_steps"] == {"train_loss": 1} and len(saved["run_id"]) == 8
