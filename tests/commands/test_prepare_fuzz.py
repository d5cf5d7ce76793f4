"""prepare.py on mutated inputs of every format: it ends well, in a line, and prints no identifier.

tests/helpers/fuzz.py makes the inputs from the table of formats, so a new format takes part as soon
as it is listed there.
"""

import json
import subprocess
import sys

import pytest

from clingpt.data.readers.formats import FORMATS
from tests.helpers.commands import ROOT
from tests.helpers.fuzz import BODIES, try_inputs
from tests.helpers.patience import PATIENCE

FEW, MANY = 60, 2000
MOST_MIB = 1500


def test_mutated_inputs_end_in_a_line() -> None:
    found = list(try_inputs(range(FEW), seed=1))
    faults = [(number, given.steps, fault) for number, given, _, fault in found if fault]
    assert not faults, faults
    statuses = [status for _, _, status, _ in found]
    assert statuses.count(0) >= FEW / 4  # many survive, so that every stage sees odd values


def test_every_format_has_a_layout_to_mutate() -> None:
    """Otherwise its inputs are those of other formats."""
    assert [each.name for each in FORMATS if not BODIES.keys() & {*each.endings}] == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_two_thousand_mutated_inputs_end_in_a_line_with_bounded_memory(seed: int) -> None:
    done = subprocess.run(
        [sys.executable, "tests/helpers/fuzz.py", str(MANY // 2), str(seed)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=1800 * PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *faults, end = map(json.loads, done.stdout.splitlines())
    assert not faults, faults[:3]
    assert sum(end["statuses"].values()) == MANY // 2
    assert end["peak_mib"] < MOST_MIB
