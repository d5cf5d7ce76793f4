"""Where a run's figures go: metrics.jsonl, and TensorBoard where asked; nothing is sent."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clingpt.base import jsonl
from clingpt.base.errors import ConfigError
from clingpt.reports.plots import save_training_curve


class Tracker:
    """Writes a run's figures; each step stands once, however often the run was resumed.

    Where it is not `active` it does nothing: one process of a run writes.
    """

    def __init__(self, run: Path, *, board: str, step: int, active: bool) -> None:
        self.path = run / "metrics.jsonl"
        self._active, self._board = active, None
        if active:
            # A resumed run repeats the steps after its checkpoint; drop their rows.
            jsonl.keep(self.path, lambda row: row["step"] <= step)
            self._board = _tensorboard(run / "tensorboard", step) if board != "none" else None

    def write(self, row: Mapping[str, Any]) -> None:
        """One event: its step, and what was measured there."""
        if not self._active:
            return
        jsonl.append(self.path, row)
        if self._board is not None:
            for name, value in row.items():
                if name != "step" and value is not None:
                    self._board.add_scalar(name, value, row["step"])
            self._board.flush()

    def draw(self) -> None:
        """curves.png beside metrics.jsonl, once there is something to draw."""
        if self._active and self.path.stat().st_size:
            save_training_curve(self.read(), self.path.with_name("curves.png"))

    def read(self) -> list[dict[str, Any]]:
        """All events so far."""
        return jsonl.read(self.path)


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError(
            "--tracker=tensorboard needs its package: pip install tensorboard"
        ) from None
    # Events of steps that are done again are hidden, as metrics.jsonl forgets them.
    return SummaryWriter(str(folder), purge_step=step + 1)
