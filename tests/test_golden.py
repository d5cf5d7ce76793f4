"""Twenty losses that must not change by accident.

A commit that changes them on purpose rewrites them with `python tests/test_golden.py` and explains
why in CHANGELOG.md.
"""

import json
import sys
import tempfile
from pathlib import Path
from unittest import mock

import pytest

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden" / "tiny.json"


def losses_of_tiny(folder: Path) -> list[float]:
    """Train config/tiny.py in this process and return its losses."""
    import prepare
    import train

    data, out = folder / "data", folder / "run"
    flags = {prepare: ["tiny_data.py", f"--out={data}"]}
    flags[train] = ["tiny.py", f"--data={data}", f"--out={out}"]
    for module, (preset, *paths) in flags.items():
        argv = [f"{module.__name__}.py", str(ROOT / "config" / preset), *paths]
        with mock.patch.object(sys, "argv", argv):
            module.main()
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [row["train_loss"] for row in map(json.loads, lines) if "train_loss" in row]


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    return losses_of_tiny(tmp_path_factory.mktemp("golden"))


def test_losses_equal_the_golden_losses(losses: list[float]) -> None:
    """Within 1e-3: machines sum in different orders."""
    golden = json.loads(GOLDEN.read_text())
    assert losses == pytest.approx(golden["losses"], rel=1e-3)
    assert len(losses) == 20
    assert losses[-1] < losses[0] - 2  # so the tolerance is a thousandth of what is learnt


def test_a_second_run_is_bit_identical(losses: list[float], tmp_path: Path) -> None:
    assert losses_of_tiny(tmp_path) == losses


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as scratch:
        found = losses_of_tiny(Path(scratch))
    GOLDEN.parent.mkdir(exist_ok=True)
    text = {"command": "python tests/test_golden.py", "losses": found}
    GOLDEN.write_text(json.dumps(text, indent=1) + "\n")
