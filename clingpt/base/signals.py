"""Graceful shutdown: exit at once during setup, after the current step during training."""

import signal
from collections.abc import Callable
from types import FrameType


class StopSignals:
    """Record the first SIGINT or SIGTERM as a request to stop; a second one takes effect at once.

    Before `wait_for_steps` is called there is nothing to save, so the first one exits at once too.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._patient = False
        self._before: dict[signal.Signals, Callable[[int, FrameType | None], object] | int] = {}

    def __enter__(self) -> "StopSignals":
        for number in (signal.SIGINT, signal.SIGTERM):
            before = signal.signal(number, self._receive)
            self._before[number] = signal.SIG_DFL if before is None else before
        return self

    def wait_for_steps(self) -> None:
        """Let the current step finish, and be saved, before a signal ends the process."""
        self._patient = True

    def __call__(self) -> bool:
        """Return whether a signal has asked to stop."""
        return self.received is not None

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self._restore()  # so that a second signal is no longer caught
        if not self._patient:
            raise SystemExit(self.exit_status)

    def _restore(self) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def __exit__(self, *_: object) -> None:
        self._restore()

    @property
    def exit_status(self) -> int:
        """128 + the signal's number, as shells report it; SIGTERM if another rank received it."""
        return 128 + (self.received or signal.SIGTERM)
