"""Train, be killed at a random moment, train on: for tests/training/test_kill.py.

    python tests/helpers/kills.py KILLS SEED [arguments of train.py]

Not a test itself. Each run is a fork of this process, so that no time is spent importing; prints a
line of JSON for each: whether it was killed, what was whole, and what was there at the least.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

import train
from clingpt.base import console
from clingpt.nn.checkpoint import RunFolder, verify
from clingpt.text.tokenizer import Tokenizer


def start_training(flags: list[str]) -> int:
    """A process that trains; gives its id."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        torch.set_num_threads(1)  # a fork has no threads of OpenMP's
        with (
            mock.patch.object(sys, "argv", ["train.py", *flags]),
            mock.patch(
                "clingpt.training.tracker.save_training_curve"
            ),  # the one slow thing that is not at stake
        ):
            try:
                console.run(train.main)
            except SystemExit as end:
                os._exit(int(end.code or 0))
        os._exit(0)
    return child


def generations(run: RunFolder) -> int:
    """How many checkpoints stand under their names right now."""
    return len(run.steps())


def time_to_the_second_save(flags: list[str], run: RunFolder) -> float:
    """Seconds; the process that shows it is the first to be killed."""
    child, started_at = start_training(flags), time.monotonic()
    while generations(run) < 2:
        if os.waitpid(child, os.WNOHANG)[0]:
            raise SystemExit("the run ended before its second checkpoint")
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return time.monotonic() - started_at


def watch(child: int, run: RunFolder, seconds: float) -> tuple[bool, int]:
    """Kill the process after some time, unless it ends first; the fewest generations meanwhile."""
    fewest, deadline = generations(run), time.monotonic() + seconds
    while time.monotonic() < deadline:
        fewest = min(fewest, generations(run))
        if os.waitpid(child, os.WNOHANG)[0]:
            return False, fewest
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True, fewest


def get_ready() -> None:
    """What a run would spend its first second on."""
    Tokenizer.load().save(Path(tempfile.mkdtemp()))
    torch.optim.AdamW([torch.zeros(1)], fused=True)  # imports half of torch.compile


def main() -> None:
    get_ready()
    kills, seed, *flags = sys.argv[1:]
    out = next(flag for flag in flags if flag.startswith("--out=")).removeprefix("--out=")
    moments, run = random.Random(int(seed)), RunFolder(Path(out))
    typical = time_to_the_second_save(flags, run) if int(kills) else 0
    for _ in range(int(kills)):
        seconds = typical * moments.uniform(0.2, 1.6)
        killed, fewest = watch(start_training(flags), run, seconds)
        for checkpoint in run.steps().values():
            verify(checkpoint)  # raises where one is not whole
        steps = list(run.steps())
        sys.stdout.write(json.dumps({"killed": killed, "steps": steps, "fewest": fewest}) + "\n")
        sys.stdout.flush()  # before the next fork, which would write it again
    _, status = os.waitpid(start_training(flags), 0)
    sys.stdout.write(json.dumps({"status": os.waitstatus_to_exitcode(status)}) + "\n")


if __name__ == "__main__":
    main()
