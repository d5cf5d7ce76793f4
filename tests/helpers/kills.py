"""Train, kill the process at a random moment, train on; for tests/training/test_kill.py.

    python tests/helpers/kills.py KILLS SEED [arguments of train.py]

Each run is a fork of this process, so that no time is spent on imports. Prints a line of JSON for
each run: whether it was killed, which checkpoints it left, and the fewest there were meanwhile.
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
    """Start a process that trains; return its id."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
        with (
            mock.patch.object(sys, "argv", ["train.py", *flags]),
            # Slow, and not what is tested here.
            mock.patch("clingpt.training.tracker.save_training_curve"),
        ):
            try:
                console.run(train.main)
            except SystemExit as end:
                os._exit(int(end.code or 0))
        os._exit(0)
    return child


def newest_step(run: RunFolder) -> int:
    return max(run.steps(), default=0)


def kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def time_to_two_saves(flags: list[str], run: RunFolder) -> tuple[float, float]:
    """Kill a run after its second save; return the seconds to the first save and between both."""
    child, started_at, times = start_training(flags), time.monotonic(), [0.0]
    while len(times) <= 2:
        if len(run.steps()) >= len(times):
            times.append(time.monotonic() - started_at)
        if os.waitpid(child, os.WNOHANG)[0]:
            raise SystemExit("the run ended before its second checkpoint")
        time.sleep(0.002)
    kill(child)
    return times[1], times[2] - times[1]


def watch(child: int, run: RunFolder, *, saves: int, delay_s: float) -> tuple[bool, int]:
    """Kill a run some time after so many saves; return whether it was, and the fewest checkpoints.

    Counting saves instead of seconds makes the number of kills independent of the machine's load.
    """
    fewest, wanted, deadline = len(run.steps()), newest_step(run) + saves, None
    while deadline is None or time.monotonic() < deadline:
        fewest = min(fewest, len(run.steps()))
        if deadline is None and newest_step(run) >= wanted:
            deadline = time.monotonic() + delay_s
        if os.waitpid(child, os.WNOHANG)[0]:
            return False, fewest
        time.sleep(0.002)
    kill(child)
    return True, fewest


def prepare_caches() -> None:
    """Do once, before forking, what every run would spend its first second on."""
    Tokenizer.load().save(Path(tempfile.mkdtemp()))
    torch.optim.AdamW([torch.zeros(1)], fused=True)  # imports half of torch.compile


def main() -> None:
    prepare_caches()
    kills, seed, *flags = sys.argv[1:]
    out = next(flag for flag in flags if flag.startswith("--out=")).removeprefix("--out=")
    moments, run = random.Random(int(seed)), RunFolder(Path(out))
    start_s, save_s = time_to_two_saves(flags, run) if int(kills) else (0.0, 0.0)
    for _ in range(int(kills)):
        saves = moments.randrange(4)  # 0: while it starts
        delay_s = moments.uniform(0, 1.5 * save_s if saves else start_s)
        killed, fewest = watch(start_training(flags), run, saves=saves, delay_s=delay_s)
        for checkpoint in run.steps().values():
            verify(checkpoint)  # raises if it is not intact
        steps = list(run.steps())
        sys.stdout.write(json.dumps({"killed": killed, "steps": steps, "fewest": fewest}) + "\n")
        sys.stdout.flush()  # before the next fork, which would write it again
    _, status = os.waitpid(start_training(flags), 0)
    sys.stdout.write(json.dumps({"status": os.waitstatus_to_exitcode(status)}) + "\n")


if __name__ == "__main__":
    main()
