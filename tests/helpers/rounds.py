"""Start a command twice at nearly the same time, and stop both at random; for test_two_writers.py.

    python tests/helpers/rounds.py KIND ROUNDS SEED FOLDER

KIND is train, sample, prepare or eval. Each process is a fork of this one, so that no time is spent
on imports. Prints a line of JSON for each round, and raises AssertionError if a promise is broken:
there is one writer at a time, nothing is written twice or lost, and the other says why it stops.
"""

import importlib
import json
import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

import prepare
import sample
import train
from clingpt.base import console, files, jsonl
from clingpt.data.prepared import open_prepared
from clingpt.nn.checkpoint import RunFolder, verify
from clingpt.text.tokenizer import Tokenizer
from tests.helpers.commands import TINY_RUN, fingerprint, train_losses
from tests.helpers.exports import make_checkpoint
from tests.helpers.kills import prepare_caches
from tests.helpers.models import make_tiny_model

evaluate = importlib.import_module("eval").main  # a builtin's name

N_STEPS, N_QUESTIONS = 40, 60
APART_S, MOST_S = 0.5, 1.5  # between the two starts; from a start to its signal
SIGNALS = (None, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STOPPING = {signal.SIGTERM, signal.SIGINT}
REFUSAL = re.compile(
    r"error: (\S+) is being written by rounds\.py, process (\d+) on \S+, since [-\d]+ [:\d]+; wait "
    r"until it ends, stop it \(kill \2\), or choose another (--out|--output)\n"
)
PREPARED = ["--source=synthetic", "--block_size=256", "--workers=1", "--show=0"]


@dataclass(frozen=True)
class Kind:
    """A command that two processes are started with, and how to judge what they leave."""

    main: Callable[[], None]
    flags: list[str]
    target: Path
    check: Callable[[], object]  # after every round: what is there so far is right
    result: Callable[[], object]  # of a finished command: equal to that of an uninterrupted one


@dataclass
class Child:
    """A process, and when it held the lock."""

    said: Path  # its standard error
    held: Path  # times at which it entered and left
    pid: int = 0
    ended_at: float = float("inf")
    status: int | None = None

    def poll(self) -> bool:
        """Return whether it has ended."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status, self.ended_at = os.waitstatus_to_exitcode(status), time.monotonic()
        return self.status is not None

    def interval(self) -> tuple[float, float] | None:
        """Return from when until when it held the lock, or None if it never did."""
        times = [float(line) for line in self.held.read_text().split()]
        return (times[0], times[1] if len(times) > 1 else self.ended_at) if times else None


def start(kind: Kind, child: Child) -> None:
    """Fork a process that runs a command."""
    child.held.touch()
    child.said.touch()  # it may be killed before it does anything
    # Signals wait until the command runs, so that it is never this function that they interrupt.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    child.pid = os.fork()
    if child.pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(child.said, os.O_WRONLY | os.O_CREAT), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
    plain = files.one_writer

    @contextmanager
    def witnessed(target: Path, **flags: object) -> Iterator[None]:
        with plain(target, **flags):  # type: ignore[arg-type]
            note(child.held)
            try:
                yield
            finally:
                note(child.held)

    modules = [sys.modules[name] for name in ("train", "sample", "prepare", "eval")]
    for module in modules:
        mock.patch.object(module, "one_writer", witnessed).start()
    mock.patch("clingpt.training.tracker.save_training_curve").start()  # slow
    sys.argv = ["rounds.py", *kind.flags]

    def run() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        kind.main()
        raise SystemExit(0)

    try:
        console.run(run)
    except SystemExit as end:
        os._exit(int(end.code or 0))
    except BaseException:
        sys.excepthook(*sys.exc_info())
    os._exit(99)


def note(path: Path) -> None:
    with path.open("a") as file:
        file.write(f"{time.monotonic()}\n")


def play(kind: Kind, scratch: Path, moments: random.Random) -> dict[str, object]:
    """Play one round: two starts, a signal or none for each, and the verdict."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    children = [Child(scratch / f"said{n}", scratch / f"held{n}") for n in range(2)]
    began_at = time.monotonic()
    starts = [began_at, began_at + moments.uniform(0, APART_S)]
    signals = [moments.choice(SIGNALS) for _ in children]
    strikes = [begin + moments.uniform(0, MOST_S) for begin in starts]
    for child, begin in zip(children, starts, strict=True):
        while time.monotonic() < begin:
            strike(children, signals, strikes)
            time.sleep(0.002)
        start(kind, child)
    while sum(child.poll() for child in children) < len(children):
        strike(children, signals, strikes)
        time.sleep(0.002)
        assert time.monotonic() < began_at + 120, "a process does not end"
    judge(kind, children)
    kind.check()
    return {"statuses": [child.status for child in children]}


def strike(
    children: list[Child], signals: list[signal.Signals | None], strikes: list[float]
) -> None:
    """Send each process its signal once its time has come."""
    for n, child in enumerate(children):
        number = signals[n]
        if number and child.pid and not child.poll() and time.monotonic() >= strikes[n]:
            if number == signal.SIGKILL:
                child.ended_at = time.monotonic()  # it holds its lock no longer than this
            os.kill(child.pid, number)
            signals[n] = None


def judge(kind: Kind, children: list[Child]) -> None:
    """Check how the processes ended, what they said, and that only one wrote at a time."""
    for child, other in (children, children[::-1]):
        said = child.said.read_text()
        # An interrupt that meets a library's __del__ is lost, and Python prints it there.
        assert "Traceback" not in said or "Exception ignored in" in said, said
        errors = [line for line in said.splitlines(keepends=True) if line.startswith("error")]
        if child.status == 1:
            assert child.interval() is None, said
            [error] = errors
            found = REFUSAL.fullmatch(error)
            assert found and found[1] == str(kind.target) and found[2] == str(other.pid), error
        else:
            assert not errors and child.status in (0, -9, -15, 130, 143), (child.status, said)
    spans = sorted(span for child in children if (span := child.interval()))
    assert all(one[1] <= next_[0] for one, next_ in zip(spans, spans[1:], strict=False)), spans


def finish(kind: Kind, scratch: Path) -> None:
    """Run the command to its end, undisturbed."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    child = Child(scratch / "said", scratch / "held")
    start(kind, child)
    while not child.poll():
        time.sleep(0.002)
    assert child.status == 0, child.said.read_text()


# ------------------------------------------------------------------------------------------------
# The commands


def training(folder: Path) -> Kind:
    data, run = make_data(folder), folder / "run"
    flags = [*TINY_RUN, "--n_layer=1", "--n_embd=16", "--dropout=0.1", f"--steps={N_STEPS}"]
    flags += ["--eval_every=4", "--log_every=1", "--sample=False", f"--data={data}"]

    def check() -> None:
        rows = [row["step"] for row in jsonl.read(run / "metrics.jsonl") if "train_loss" in row]
        assert rows == list(range(1, len(rows) + 1)), rows
        for checkpoint in RunFolder(run).steps().values():
            verify(checkpoint)

    def result() -> object:
        return fingerprint(run / "last"), train_losses(run)

    last = {flag.partition("=")[0]: flag for flag in flags}
    return Kind(train.main, [*last.values(), f"--out={run}"], run, check, result)


def sampling(folder: Path) -> Kind:
    checkpoint = make_checkpoint(
        folder / "run" / "step_000013", make_tiny_model(vocab_size=50257, block_size=64)
    )
    source, target = folder / "questions.jsonl", folder / "replies.jsonl"
    ids = [f"q{n}" for n in range(N_QUESTIONS)]
    source.write_text("".join(json.dumps({"id": name, "prompt": name}) + "\n" for name in ids))
    flags = [f"--checkpoint={checkpoint}", f"--input={source}", f"--output={target}"]

    def check() -> None:
        found = [row["id"] for row in jsonl.read(target)]
        assert found == ids[: len(found)], found

    more = ["--max_new_tokens=20", "--batch_size=1", "--device=cpu"]
    return Kind(sample.main, [*flags, *more], target, check, target.read_bytes)


def preparing(folder: Path) -> Kind:
    target = folder / "data"
    flags = [*PREPARED, "--synthetic_records=1500", "--synthetic_held_out=20", f"--out={target}"]

    def result() -> object:
        return open_prepared(target, Tokenizer.load()).fingerprint

    return Kind(prepare.main, flags, target, lambda: target.exists() and result(), result)


def evaluating(folder: Path) -> Kind:
    data, target = make_data(folder), folder / "eval"
    model = make_tiny_model(vocab_size=50257, block_size=256)
    checkpoint = make_checkpoint(folder / "run" / "step_000013", model)
    flags = [f"--checkpoint={checkpoint}", f"--data={data}", f"--out={target}", "--device=cpu"]

    def check() -> None:
        for path in (target / "parts").glob("*.jsonl"):
            numbers = [row["n"] for row in jsonl.read(path)]
            assert len(numbers) == len(set(numbers)), (path, numbers)

    def result() -> object:
        names = ("predictions.json", "probabilities.json", "outputs.jsonl")
        return [(target / name).read_bytes() for name in names]

    return Kind(evaluate, [*flags, "--max_new_tokens=24"], target, check, result)


def make_data(folder: Path) -> Path:
    flags = [*PREPARED, "--synthetic_records=40", "--synthetic_held_out=24", "--task=answer"]
    with mock.patch.object(sys, "argv", ["prepare.py", *flags, f"--out={folder / 'data'}"]):
        prepare.main()
    return folder / "data"


KINDS = {"train": training, "sample": sampling, "prepare": preparing, "eval": evaluating}


def main() -> None:
    name, n_rounds, seed, place = sys.argv[1:]
    folder, moments = Path(place), random.Random(int(seed))
    folder.mkdir(parents=True, exist_ok=True)
    prepare_caches()
    stdout = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    kind, scratch = KINDS[name](folder), folder / "scratch"
    finish(kind, scratch)
    wanted, n_finished = kind.result(), 0
    remove(kind.target)
    for _ in range(int(n_rounds)):
        played = play(kind, scratch, moments)
        os.write(stdout, f"{json.dumps(played)}\n".encode())
        if 0 in played["statuses"]:  # type: ignore[operator]
            assert kind.result() == wanted
            n_finished += 1
            remove(kind.target)
    finish(kind, scratch)
    assert kind.result() == wanted
    left = sorted(path.name for path in folder.rglob(".*"))
    os.write(stdout, f"{json.dumps({'finished': n_finished, 'left': left})}\n".encode())


def remove(target: Path) -> None:
    """Remove what a finished command wrote, so that the next one starts anew."""
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()


if __name__ == "__main__":
    main()
