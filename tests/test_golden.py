"""Twenty losses that a change of code may not move unawares.

A change that moves them on purpose writes them anew, by `python tests/test_golden.py`, in the same
commit, and says why in CHANGELOG.md.
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
    """What config/tiny.py gives here, in this process."""
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


def test_the_golden_losses_have_not_moved(losses: list[float]) -> None:
    """Machines differ in the order of their sums: 1e-3."""
    golden = json.loads(GOLDEN.read_text())
    assert losses == pytest.approx(golden["losses"], rel=1e-3)
    assert len(losses) == 20
    assert losses[-1] < losses[0] - 2  # moved by 1e-3 of what it learns, the check would notice


def test_a_second_run_gives_the_same_bits(losses: list[float], tmp_path: Path) -> None:
    assert losses_of_tiny(tmp_path) == losses


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as scratch:
        found = losses_of_tiny(Path(scratch))
    GOLDEN.parent.mkdir(exist_ok=True)
    text = {"command": "python tests/test_golden.py", "losses": found}
    GOLDEN.write_text(json.dumps(text, indent=1) + "\n")
