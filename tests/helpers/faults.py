"""train.py with a fault that strikes once: what machines do to a run, for the tests.

    python tests/helpers/faults.py FAULT [arguments of train.py]

Not a test itself. FAULT is one of the functions below and what it takes, as in crash:1:10.
"""

import os
import sys
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[2]))

import train
from clingpt.base import console
from clingpt.training.batches import Work
from clingpt.training.step import StepResult


def crash(rank: str, step: str) -> None:
    """The process of this rank dies in this step, unless torchrun has started it again."""
    plain = train.train_step

    def dying(run: train.Run, work: Work) -> StepResult:
        first_time = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
        if first_time and run.rt.rank == int(rank) and run.state.step == int(step) - 1:
            os._exit(17)
        return plain(run, work)

    mock.patch.object(train, "train_step", dying).start()


def witness(folder: str) -> None:
    """Each rank writes down at which step it saves."""
    plain = train.save

    def saving(run: train.Run, figures: dict[str, float]) -> Path:
        (Path(folder) / f"stopped_{run.rt.rank}").write_text(str(run.state.step))
        return plain(run, figures)

    mock.patch.object(train, "save", saving).start()


def main() -> None:
    name, *values = sys.argv.pop(1).split(":")
    globals()[name](*values)
    console.run(train.main)


if __name__ == "__main__":
    main()
