"""Prepared folders stay the same, byte for byte, on every machine and with every version.

If a change alters them on purpose, run `python tests/data/test_golden_prepared.py` to write the
hashes anew, and give the reason in CHANGELOG.md.
"""

import contextlib
import hashlib
import json
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden/prepared.json"
FIXTURES = ROOT / "tests/fixtures"
FLAGS = {
    "synthetic": ["--source=synthetic", "--synthetic_records=40", "--synthetic_held_out=8"],
    "pubmedqa": [
        *("--source=pubmedqa.json", "--views=results", "--section_dropout=0.3", "--canaries=3"),
        *("--tasks", "answer", "summarize", "document", "text", "explain"),
    ],
    "csv_tags": [
        *("--source=notes.csv", "--task=summarize", "--input=note", "--target=summary"),
        *("--redact=tags", "--drop_overlap=True", "--val_share=0.2", "--test_share=0.2"),
    ],
}


def hashes_of(name: str, folder: Path) -> dict[str, str]:
    """Prepare fixed input in this process and return the sha256 of each file.

    Runs in the folder of fixtures, since receipts record the source's path. The manifest is hashed
    without its settings, which name a path of this machine and grow with prepare.py's flags.
    """
    import prepare
    from tests.helpers.commands import here

    with contextlib.chdir(FIXTURES):
        done = here(prepare.main, *FLAGS[name], f"--out={folder}", "--workers=1", "--show=0")
    assert done.returncode == 0, done.stderr
    # Receipts name the version of the detectors by a hash of their code, which any comment changes.
    receipt = json.loads((folder / "receipt.json").read_text("utf-8"))
    del receipt["detectors"]
    hashes = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    del manifest["settings"], manifest["files"]["receipt.json"]["sha256"]
    hashes["receipt.json"] = hashlib.sha256(json.dumps(receipt).encode()).hexdigest()
    hashes["manifest.json"] = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
    return hashes


@pytest.mark.parametrize("name", FLAGS)
def test_prepared_bytes_have_not_changed(name: str, tmp_path: Path) -> None:
    golden = json.loads(GOLDEN.read_text("utf-8"))
    assert hashes_of(name, tmp_path / "data") == golden[name]


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as scratch:
        found = {name: hashes_of(name, Path(scratch) / name) for name in FLAGS}
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
