"""How many of our files a record or a figure passes through, so that paths stay short to read.

tests/serving has the same for a request to the server.
"""

import subprocess
import sys
from pathlib import Path

from tests.helpers.commands import ROOT, TINY_RUN, run


def files_of(*command: object) -> set[str]:
    """Return our files whose functions run in a command, found by tests/helpers/trace.py."""
    done = subprocess.run(
        [sys.executable, "tests/helpers/trace.py", *map(str, command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stderr.splitlines()
    start = max(i for i, line in enumerate(lines) if line.isdigit())
    files = set(lines[start + 1 :])
    assert len(files) == int(lines[start])
    return files


def write_notes(path: Path) -> Path:
    """Twenty-four short notes with names, dates and numbers, as a CSV."""
    rows = ["note_id,findings,impression"]
    for i in range(24):
        rows.append(
            f'N{i},"Patient: Mary Novak, MRN 44120{i:02}, seen on 3/{i + 1}/2019 with a cough for '
            f'{i + 2} days. Dr. Patel advised {i + 1} puffs a day.","Cough; {i + 1} puffs a day."'
        )
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_record_reaches_its_loss_through_at_most_47_files(tmp_path: Path) -> None:
    notes, data = write_notes(tmp_path / "notes.csv"), tmp_path / "data"
    flags = ["--task=summarize", "--input=findings", "--target=impression", "--redact=tags"]
    flags += ["--drop_overlap=True", "--workers=1", "--test_share=0.2"]
    flags += [f"--source={notes}", f"--out={data}"]
    prepared = files_of("prepare.py", *flags)
    run_flags = [*TINY_RUN, f"--data={data}", f"--out={tmp_path / 'run'}", "--steps=2"]
    trained = files_of("train.py", *run_flags, "--sample=False")
    assert {"clingpt/text/tasks.py", "clingpt/privacy/identifiers.py"} <= prepared
    assert {"model.py", "clingpt/data/packing.py", "clingpt/training/step.py"} <= trained
    assert not [name for name in trained if name.startswith("clingpt/privacy")]
    assert len(prepared | trained) <= 47, "\n".join(sorted(prepared | trained))


def test_a_checkpoint_becomes_a_report_through_at_most_30_files(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "run"
    run("train.py", *TINY_RUN, f"--data={data}", f"--out={out}", "--steps=2", "--sample=False")
    flags = [f"--checkpoint={out}/best", f"--data={data}", "--split=test", "--texts=4"]
    measured = files_of("eval.py", *flags, "--device=cpu")
    assert (out / "eval_test" / "report.html").exists()
    assert {"clingpt/decoding/engine.py", "clingpt/evaluation/metrics.py"} <= measured
    assert len(measured) <= 30, "\n".join(sorted(measured))
