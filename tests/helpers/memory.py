"""Measure the memory of the current process, for tests that run a script in a separate one."""

import re
from pathlib import Path


def resident_mb() -> float:
    """Return the resident memory, in MB."""
    return _of_status("VmRSS")


def peak_mb() -> float:
    """Return its peak since the start or since forget_peak, in MB."""
    return _of_status("VmHWM")


def forget_peak() -> None:
    """Let the peak begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def _of_status(name: str) -> float:
    found = re.search(name + r":\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024 / 1e6
