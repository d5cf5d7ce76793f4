"""Told to stop, a run ends at once while it prepares, and at a step's end while it trains."""

import signal
from collections.abc import Callable
from types import FrameType


class StopSignals:
    """Turns the first SIGINT or SIGTERM into a wish to stop; a second one stops at once.

    Until `wait_for_steps` says that there are steps to finish, the first one stops at once as well.
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
        """From here on there is something to save first."""
        self._patient = True

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.received is not None

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self._restore()
        if not self._patient:
            raise SystemExit(self.exit_status)

    def _restore(self) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def __exit__(self, *_: object) -> None:
        self._restore()

    @property
    def exit_status(self) -> int:
        """128 + the signal's number, SIGTERM's where another process had it."""
        return 128 + (self.received or signal.SIGTERM)
