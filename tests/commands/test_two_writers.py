"""Two processes on one target, killed at random, fifty times: one writes, and nothing is lost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.commands import ROOT
from tests.helpers.patience import PATIENCE

ROUNDS = 50
REFUSED = 1  # exit status


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["train", "sample", "prepare", "eval"])
def test_two_processes_started_together_and_killed_at_random(kind: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "tests/helpers/rounds.py", kind, str(ROUNDS), "7", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=900 * PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *rounds, end = map(json.loads, done.stdout.splitlines())
    assert len(rounds) == ROUNDS
    statuses = [status for each in rounds for status in each["statuses"]]
    assert statuses.count(REFUSED) >= ROUNDS / 5  # the rounds were a contest
    assert sum(status not in (0, REFUSED) for status in statuses) >= ROUNDS / 2
    assert end["left"] == []
