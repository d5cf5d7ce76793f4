"""Time contenders in turns, each in a separate process, so that drift affects all of them alike.

Turns are interleaved (A B C A B C …) after one warm-up each, and the median counts. A waiting
process uses no CPU. Memory is the peak that the operating system or the GPU's allocator measured.
"""

import multiprocessing
import resource
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import torch
from torch import Tensor

from benchmarks.training import Placed, Step
from clingpt.base.console import progress_bar
from clingpt.base.errors import BenchError, ClingptError

J = TypeVar("J", bound=Placed)
TICKS_PER_S = 100  # of times in /proc: sysconf(_SC_CLK_TCK) on every Linux


@dataclass
class Timing:
    """Measurements of one contender."""

    load_s: float  # until it was ready for a step
    first_step_s: float  # including compilation
    loss: float  # of the first step, or what else it returns
    built_bytes: int  # memory before the first step
    peak_bytes: int = 0  # peak memory
    steps_s: list[float] = field(default_factory=list)

    @property
    def median_s(self) -> float:
        return median(self.steps_s)

    def times_as_long(self, other: "Timing") -> list[float]:
        """Return the ratio of step times to the other's, turn by turn."""
        return [a / b for a, b in zip(self.steps_s, other.steps_s, strict=True)]


def race(
    builders: Mapping[str, Callable[[J], Step]], job: J, *, repeats: int, steps: int
) -> tuple[dict[str, Timing], float]:
    """Return seconds per step by name, and the share of the CPU that other processes used."""
    context = multiprocessing.get_context("spawn")
    processes: list[Any] = []
    lanes: dict[str, Connection] = {}
    timings: dict[str, Timing] = {}
    n_turns = len(builders) * (repeats + 1)
    try:
        with progress_bar(label="racing", total=n_turns, unit=" turns") as bar:
            for name, build in builders.items():
                lanes[name], theirs = context.Pipe()
                process = context.Process(target=_run, args=(build, job, theirs), daemon=True)
                process.start()
                processes.append(process)
                theirs.close()
                timings[name] = _ask(name, lanes[name])
                bar.update(1)
            others = OtherLoad([process.pid for process in processes])
            for name in list(builders) * repeats:
                elapsed_s, timings[name].peak_bytes = _ask(name, lanes[name], steps)
                timings[name].steps_s.append(elapsed_s / steps)
                bar.update(1)
            share = others.share()
    finally:
        for connection in lanes.values():
            connection.close()  # a contender that waits for a request exits
        for process in processes:
            process.join(timeout=10)
            process.kill()
    return timings, share


def _ask(name: str, connection: Connection, steps: int | None = None) -> Any:
    """Have a contender take steps and return its answer; raise BenchError if it failed or died."""
    try:
        if steps is not None:
            connection.send(steps)
        answer = connection.recv()
    except (EOFError, ConnectionError):
        raise BenchError(f"{name} died, perhaps out of memory; lower --rows or --size") from None
    if isinstance(answer, str):
        raise BenchError(f"{name}: {answer}")
    return answer


def _run(build: Callable[[J], Step], job: J, connection: Connection) -> None:
    """Take steps in a contender's process.

    Sends a Timing after the first step. Then each number of steps that it receives is answered by
    their time in seconds and the peak memory in bytes, and any failure by its message.
    """
    is_cuda = job.device.startswith("cuda")

    def take(n: int) -> tuple[float, Tensor | float]:
        started_at = time.perf_counter()
        for _ in range(n):
            loss = step()
        if is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - started_at, loss

    try:
        torch.manual_seed(0)
        started_at = time.perf_counter()
        step = build(job)
        load_s = time.perf_counter() - started_at
        built_bytes = torch.cuda.memory_allocated() if is_cuda else resident_memory()
        first_step_s, loss = take(1)
        connection.send(Timing(load_s, first_step_s, float(loss), built_bytes))
        while True:
            elapsed_s, _ = take(connection.recv())
            peak_bytes = torch.cuda.max_memory_allocated() if is_cuda else peak_memory()
            connection.send((elapsed_s, peak_bytes))
    except EOFError:  # the race is over
        return
    except (ClingptError, RuntimeError) as error:  # a user's mistake, or out of memory
        connection.send(textwrap.shorten(str(error), 300, placeholder=" …"))


def peak_memory() -> int:
    """Return the peak physical memory of this process in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def resident_memory() -> int:
    """Return the physical memory of this process in bytes; outside Linux, its peak."""
    if not Path("/proc/self/statm").exists():
        return peak_memory()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class OtherLoad:
    """CPU time of processes that do not belong to the benchmark; known only on Linux."""

    def __init__(self, ours: list[int]) -> None:
        self._ours = ours
        self._before = self._ticks()
        self._started_at = time.perf_counter()

    def share(self) -> float:
        """Return their share of all CPU time since the start, 0 to 1; 0 if it is unknown."""
        before, after = self._before, self._ticks()
        elapsed_s = (time.perf_counter() - self._started_at) * multiprocessing.cpu_count()
        return max(0.0, (after - before) / TICKS_PER_S / elapsed_s)

    def _ticks(self) -> int:
        if not Path("/proc/stat").exists():
            return 0
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
        user, nice, system, _idle, _wait, irq, softirq, steal = map(int, fields[:8])
        busy = user + nice + system + irq + softirq + steal
        return busy - sum(_ticks_of(str(process)) for process in [*self._ours, "self"])


def _ticks_of(process: str) -> int:
    """Return the user and system time of a process and its threads."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def rate(per_s: float, unit: str) -> str:
    """Format a rate, such as 12.3 GFLOP/s or 1.5 TB/s."""
    prefix, size = ("T", 1e12) if per_s >= 1e12 else ("G", 1e9)
    return f"{per_s / size:.3g} {prefix}{unit}"


def spread(values: Sequence[float]) -> str:
    """Format the median and the range."""
    return f"{median(values):.3g} ({min(values):.3g}–{max(values):.3g})"
