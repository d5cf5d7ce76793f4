"""The first signal lets the current step finish, or ends setup at once; a second is immediate."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clingpt.base.signals import StopSignals

WAITING = ("after this step (about 40 s)", "losing 3 steps since step_000500")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Restore Python's handler of SIGINT, which a shell disables in background processes."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_the_first_signal_requests_a_stop_and_the_second_forces_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("clingpt.base.console.note", Notes())
    before = signal.getsignal(signal.SIGINT)
    with StopSignals() as stop:
        stop.wait_for_steps(lambda: WAITING)
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


class Notes(list[tuple[float, str]]):
    """Takes the place of console.note, and records when each note was written."""

    def __call__(self, text: str) -> None:
        self.append((time.monotonic(), text))

    def first(self) -> tuple[float, str]:
        deadline = time.monotonic() + 10
        while not self and time.monotonic() < deadline:
            time.sleep(0.005)
        return self[0]


def stop_with(number: signal.Signals, notes: Notes) -> str:
    with StopSignals() as stop:
        stop.wait_for_steps(lambda: WAITING)
        os.kill(os.getpid(), number)
        return notes.first()[1]


@pytest.mark.usefixtures("interruptible")
def test_the_first_signal_says_what_it_waits_for_and_what_a_second_one_loses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notes = Notes()
    monkeypatch.setattr("clingpt.base.console.note", notes)
    assert stop_with(signal.SIGINT, notes) == (
        "stopping after this step (about 40 s); press Ctrl-C again to stop now, losing 3 steps "
        "since step_000500"
    )
    notes.clear()
    assert f"; kill {os.getpid()} to stop now, losing" in stop_with(signal.SIGTERM, notes)
    notes.clear()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as for `nohup … &` in a script
    assert f"; kill {os.getpid()} to stop now, losing" in stop_with(signal.SIGINT, notes)


@pytest.mark.usefixtures("interruptible")
def test_the_first_signal_is_answered_even_during_a_long_native_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notes = Notes()
    monkeypatch.setattr("clingpt.base.console.note", notes)
    with StopSignals() as stop:
        stop.wait_for_steps(lambda: WAITING)
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 1_500_000)  # releases the GIL, as torch does
        ended_at = time.monotonic()
        said_at, _ = notes.first()
    assert said_at < ended_at - 0.1


def test_a_second_signal_ends_a_process_that_does_not_return_to_python() -> None:
    code = (
        "import hashlib, signal; from clingpt.base import signals; signals.GRACE_S = 0.1\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with signals.StopSignals() as stop:\n"
        "    stop.wait_for_steps(lambda: ('later', 'losing nothing'))\n"
        "    print('ready', flush=True)\n"
        "    hashlib.pbkdf2_hmac('sha256', b'', b'', 200_000_000)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout and child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGINT)
    assert child.stderr and "stopping later; press Ctrl-C again" in child.stderr.readline()
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=20)
    assert child.returncode == 130


def test_the_thread_and_the_wakeup_descriptor_are_gone_afterwards() -> None:
    threads, wakeup = threading.active_count(), signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    with pytest.raises(SystemExit), StopSignals():
        os.kill(os.getpid(), signal.SIGTERM)
    deadline = time.monotonic() + 10
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.005)
    assert threading.active_count() == threads
    assert signal.set_wakeup_fd(wakeup) == wakeup
