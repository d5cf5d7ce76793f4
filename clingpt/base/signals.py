"""Graceful shutdown: exit at once during setup, after the current step during training."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from clingpt.base import console

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE_S = 2.0  # for Python to end by itself after a signal that takes effect at once

# What the first signal waits for, and what a second one would lose:
# ("after this step (about 40 s)", "losing 3 steps since step_000500").
Waiting = Callable[[], tuple[str, str]]


@contextmanager
def cleanup_on_sigterm() -> Iterator[None]:
    """Let SIGTERM raise SystemExit, so that unfinished files are removed as after Ctrl-C."""

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class StopSignals:
    """Record the first SIGINT or SIGTERM as a request to stop; a second one takes effect at once.

    Before `wait_for_steps` is called there is nothing to save, so the first one exits at once too.
    Python handles a signal only between two bytecodes, and the backward pass of a large batch is a
    single bytecode that can take a minute. So a thread that the signal wakes says at once what the
    process is waiting for, and ends it if it does not react to a signal that should end it.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._waiting: Waiting | None = None
        self._before: dict[signal.Signals, Callable[[int, FrameType | None], object] | int] = {}
        self._wakeup, self._wakeup_before = -1, -1
        self._left = threading.Event()

    def __enter__(self) -> "StopSignals":
        for number in SIGNALS:
            before = signal.signal(number, self._receive)
            self._before[number] = signal.SIG_DFL if before is None else before
        reader, self._wakeup = os.pipe()
        os.set_blocking(self._wakeup, False)
        self._wakeup_before = signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(reader,), daemon=True).start()
        return self

    def wait_for_steps(self, waiting: Waiting) -> None:
        """Let the current step finish, and be saved, before a signal ends the process."""
        self._waiting = waiting

    def __call__(self) -> bool:
        """Return whether a signal has asked to stop."""
        return self.received is not None

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self._restore()  # so that a second signal is no longer caught
        if self._waiting is None:
            raise SystemExit(self.exit_status)

    def _watch(self, reader: int) -> None:
        """React to each signal in a thread; ends when `__exit__` closes the pipe."""
        n_received = 0
        while arrived := os.read(reader, 1):  # the signal's number
            if arrived[0] not in SIGNALS:
                continue
            number, n_received = signal.Signals(arrived[0]), n_received + 1
            if n_received == 1 and self._waiting is not None:
                console.note(self._explain(number, *self._waiting()))
            else:
                if not self._left.wait(GRACE_S):
                    os._exit(128 + number)  # checkpoints are whole, and the kernel drops locks
                break
        os.close(reader)

    def _explain(self, number: signal.Signals, until: str, loss: str) -> str:
        """Say what the process is waiting for, and how to end it now."""
        ignored = self._before[signal.SIGINT] == signal.SIG_IGN  # as after `nohup … &` in a script
        by_key = number == signal.SIGINT and not ignored
        again = "press Ctrl-C again" if by_key else f"kill {os.getpid()}"
        return f"stopping {until}; {again} to stop now, {loss}"

    def _restore(self) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._restore()
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._wakeup)

    @property
    def exit_status(self) -> int:
        """128 + the signal's number, as shells report it; SIGTERM if another rank received it."""
        return 128 + (self.received or signal.SIGTERM)
