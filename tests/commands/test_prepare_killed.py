"""prepare.py killed at every kind of moment: the old folder or the new one is whole, no litter."""

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from tests.helpers.commands import ROOT
from tests.helpers.patience import PATIENCE
from tests.helpers.preparing import made_records, prepared, random_text, write_lines

SHARES = ("--val_share=0.2", "--test_share=0.2", "--workers=0")


def spreadsheet(path: Path, n: int) -> Path:
    book, rng = openpyxl.Workbook(), random.Random(3)
    book.active.append(["note_id", "text", "summary"])
    for i in range(n):
        book.active.append([f"n{i}", f"Mrs. Jane Doe. {random_text(rng)}", random_text(rng, 5)])
    book.save(path)
    return path


def killed(n_points: int, tmp_path: Path, *flags: str) -> list[dict[str, Any]]:
    """Kill runs that replace an older folder at so many moments or more; return what happened."""
    (tmp_path / "out").mkdir()
    out = f"--out={tmp_path / 'out' / 'data'}"
    prepared("--source=synthetic", "--synthetic_records=20", "--synthetic_held_out=4", out)
    arguments = [str(n_points), str(tmp_path / "out"), *flags, *SHARES, out]
    done = subprocess.run(
        [sys.executable, "tests/helpers/prepare_kills.py", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300 * PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(kills: list[dict[str, Any]]) -> None:
    for kill in kills:
        assert kill["kept"] in ("old", "new"), kill
        assert kill["again"] == [0, "", True], kill
        assert kill["finally"] == ["data"], kill
    kept = Counter(kill["kept"] for kill in kills if kill["killed"])
    assert kept["old"] >= len(kills) / 2 and kept["new"] >= 1  # also after the last rename
    assert any(".data.partial" in kill["left"] for kill in kills)
    assert any(kill["left"] == [".data.lock", ".data.old", ".data.partial"] for kill in kills)


def test_a_killed_run_keeps_the_old_folder_or_the_new_one(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", made_records(30))
    check(killed(6, tmp_path, f"--source={path}"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mix", "folder"])
def test_a_run_killed_at_thirty_moments_keeps_one_of_the_two_folders(
    kind: str, tmp_path: Path
) -> None:
    table = spreadsheet(tmp_path / "a.xlsx", 40)
    if kind == "mix":
        other = write_lines(tmp_path / "b.jsonl", made_records(60))
        flags = ["--mix", f"{table}=1", f"{other}=0.5", "--redact=tags", "--canaries=3"]
    else:
        (tmp_path / "notes").mkdir()
        for i in range(40):
            (tmp_path / "notes" / f"{i}.txt").write_text(random_text(random.Random(i), 40))
        flags = [f"--source={tmp_path / 'notes'}", "--redact=tags"]
    kills = killed(30, tmp_path, *flags, "--task=text")
    assert len(kills) >= 30
    check(kills)
