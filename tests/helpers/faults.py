"""Run train.py with a fault injected once, for tests of crashes and signals.

    python tests/helpers/faults.py FAULT [arguments of train.py]

FAULT names one of the functions below and its arguments, as in crash:1:10.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[2]))

import train
from clingpt.base import console
from clingpt.nn.runtime import Runtime
from clingpt.training.step import accumulate_gradients


def crash(rank: str, step: str) -> None:
    """Kill the process of a rank in the given step, unless torchrun has restarted it."""
    plain, steps = accumulate_gradients, 0

    def dying(*args: Any, rt: Runtime, **kwargs: Any) -> Any:
        nonlocal steps
        steps += 1
        first_time = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
        if first_time and rt.rank == int(rank) and steps == int(step):
            os._exit(17)
        return plain(*args, rt=rt, **kwargs)

    mock.patch("train.accumulate_gradients", dying).start()


def witness(folder: str) -> None:
    """Have each rank record at which step it saves."""
    plain = train.save

    def saving(run: train.Run, figures: Mapping[str, float] | None) -> None:
        (Path(folder) / f"stopped_{run.rt.rank}").write_text(str(run.state.step))
        plain(run, figures)

    mock.patch.object(train, "save", saving).start()


def main() -> None:
    name, *values = sys.argv.pop(1).split(":")
    globals()[name](*values)
    console.run(train.main)


if __name__ == "__main__":
    main()
