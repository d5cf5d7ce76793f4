"""Where a run's figures go: always metrics.jsonl, optionally TensorBoard, W&B or MLflow.

Nothing is sent anywhere by default: W&B runs offline and MLflow writes a local database, unless the
environment says otherwise (WANDB_API_KEY or WANDB_MODE, MLFLOW_TRACKING_URI).
"""

import json
import logging
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from clingpt.base import jsonl
from clingpt.base.errors import ConfigError
from clingpt.base.files import check_still_owned, write_json
from clingpt.reports.plots import save_training_curve

PROJECT = "clingpt"  # the project at W&B, the experiment at MLflow


class Board(Protocol):
    """An external tracker that shows figures over steps."""

    def log(self, step: int, figures: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class Tracker:
    """Writes a run's figures, each step once, however often the run was resumed.

    Only one process of a run writes; with `active` False all methods but `read` do nothing.
    """

    def __init__(
        self, run: Path, *, board: str, step: int, active: bool, settings: Mapping[str, Any]
    ) -> None:
        self.path = run / "metrics.jsonl"
        self._active = active
        self._board: Board | None = None
        if active:
            # A resumed run repeats the steps after its checkpoint; drop their rows.
            jsonl.keep(self.path, lambda row: row["step"] <= step)
            self._board = _open(board, run, step, settings)

    def write(self, row: Mapping[str, Any]) -> None:
        """Write one event: its step and what was measured there."""
        if not self._active:
            return
        check_still_owned(self.path.parent)
        jsonl.append(self.path, row)
        if self._board is not None:
            figures = {name: value for name, value in row.items() if value is not None}
            self._board.log(figures.pop("step"), figures)

    def draw(self) -> None:
        """Draw curves.png next to metrics.jsonl, once there is something to draw."""
        if self._active and self.path.stat().st_size:
            save_training_curve(self.read(), self.path.with_name("curves.png"))

    def read(self) -> list[dict[str, Any]]:
        """Return all events so far."""
        return jsonl.read(self.path)

    def close(self) -> None:
        """Flush and close the external tracker, if there is one."""
        if self._board is not None:
            self._board.close()


def _open(name: str, run: Path, step: int, settings: Mapping[str, Any]) -> Board | None:
    """Open a board; raise ConfigError, naming the package to install, if it is missing."""
    try:
        match name:
            case "tensorboard":
                return TensorBoard(run, step)
            case "wandb":
                return Wandb(run, settings)
            case "mlflow":
                return Mlflow(run, settings)
    except ImportError as error:
        raise ConfigError(
            f"--tracker={name} needs a package that cannot be imported ({error}); run: "
            f"pip install {name}"
        ) from None
    return None


class TensorBoard:
    """Event files in tensorboard/ in the run folder."""

    def __init__(self, run: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Hides the events of steps that a resumed run repeats.
        self._writer: Any = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class Ledger:
    """The id of a run at an external tracker, and the last step of each figure logged there.

    Neither W&B nor MLflow can take back a step. A resumed run repeats the steps after its
    checkpoint bit for bit, so it suffices to skip what has been logged already. Kept in the run
    folder, since metrics.jsonl forgets those steps.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.run_id: str | None = None
        self._last_steps: dict[str, int] = {}
        if path.exists():
            saved = json.loads(path.read_text("utf-8"))
            self.run_id, self._last_steps = saved["run_id"], saved["last_steps"]

    def not_yet_logged(self, step: int, figures: Mapping[str, float]) -> dict[str, float]:
        return {k: value for k, value in figures.items() if step > self._last_steps.get(k, 0)}

    def record(self, step: int, figures: Mapping[str, float]) -> None:
        self._last_steps |= dict.fromkeys(figures, step)
        write_json(self._path, {"run_id": self.run_id, "last_steps": self._last_steps})


class Wandb:
    """A Weights & Biases run; offline files in wandb/ in the run folder, for `wandb sync`."""

    def __init__(self, run: Path, settings: Mapping[str, Any]) -> None:
        # W&B reports its crashes to its developers, even offline.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self._ledger = Ledger(run / "wandb.json")
        resumed = self._ledger.run_id is not None
        self._ledger.run_id = self._ledger.run_id or uuid.uuid4().hex[:8]
        online = {"WANDB_API_KEY", "WANDB_MODE"} & os.environ.keys()
        self._run = wandb.init(
            project=PROJECT,
            name=run.name,
            id=self._ledger.run_id,
            resume="allow" if resumed and online else None,  # offline, `wandb sync` joins them
            dir=run,
            mode=None if online else "offline",
            config=dict(settings),
            # Figures and settings only: the console shows held-out records, and code, host name and
            # git remote may be confidential.
            settings=wandb.Settings(
                console="off",
                silent=True,
                save_code=False,
                disable_git=True,
                x_disable_meta=True,
                x_disable_stats=True,
            ),
        )

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        if new := self._ledger.not_yet_logged(step, figures):
            self._run.log(new, step=step)
            self._ledger.record(step, new)

    def close(self) -> None:
        import wandb

        self._run.finish()
        wandb.teardown()  # waits for W&B's own process, which writes the file after finish returns


class Mlflow:
    """An MLflow run, in mlflow.db in the run folder unless MLFLOW_TRACKING_URI is set."""

    def __init__(self, run: Path, settings: Mapping[str, Any]) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        self._metric = Metric
        local = f"sqlite:///{(run / 'mlflow.db').resolve()}"
        self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", local))
        self._ledger = Ledger(run / "mlflow.json")
        if self._ledger.run_id is None:
            experiment = self._client.get_experiment_by_name(PROJECT)
            number = (
                experiment.experiment_id if experiment else self._client.create_experiment(PROJECT)
            )
            started = self._client.create_run(number, run_name=run.name)
            self._ledger.run_id = started.info.run_id
            params = [Param(name, str(value)) for name, value in settings.items()]
            self._client.log_batch(self._ledger.run_id, params=params)
            self._ledger.record(0, {})
        else:
            self._client.update_run(self._ledger.run_id, status="RUNNING")

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        if new := self._ledger.not_yet_logged(step, figures):
            now_ms = int(time.time() * 1000)
            metrics = [self._metric(name, value, now_ms, step) for name, value in new.items()]
            self._client.log_batch(self._ledger.run_id, metrics=metrics)
            self._ledger.record(step, new)

    def close(self) -> None:
        self._client.set_terminated(self._ledger.run_id)
