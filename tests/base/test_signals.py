"""The first signal lets the current step finish, or ends setup at once; a second is immediate."""

import os
import signal
from collections.abc import Iterator

import pytest

from clingpt.base.signals import StopSignals


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Restore Python's handler of SIGINT, which a shell disables in background processes."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_the_first_signal_requests_a_stop_and_the_second_forces_it() -> None:
    before = signal.getsignal(signal.SIGINT)
    with StopSignals() as stop:
        stop.wait_for_steps()
        assert not stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop() and stop.exit_status == 130
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_exits_at_once_before_any_step(
    number: signal.Signals, status: int
) -> None:
    with pytest.raises(SystemExit) as end, StopSignals():
        os.kill(os.getpid(), number)
    assert end.value.code == status


def test_a_process_stopped_by_another_rank_exits_like_it() -> None:
    assert StopSignals().exit_status == 143
