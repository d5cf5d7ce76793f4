"""Scale the time limits of tests for a busy machine: CLINGPT_TEST_PATIENCE=4 quadruples them."""

import os
import time
from collections.abc import Callable

PATIENCE = float(os.environ.get("CLINGPT_TEST_PATIENCE", "1"))


def wait_for(condition: Callable[[], bool], *, within_s: float = 60) -> None:
    """Poll a condition until it holds; fail after the limit, which is multiplied by PATIENCE."""
    deadline = time.monotonic() + within_s * PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
