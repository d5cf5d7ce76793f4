"""Run prepare.py, make records for it, and read what it prints."""

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import prepare
from clingpt.text.tokenizer import Tokenizer
from tests.helpers.commands import ROOT, Done, here

GPT2 = Tokenizer.load()
WORDS = (
    "pain fell by drug and the placebo arm group mean score adults weeks treated dose mg".split()
)


def in_process(*flags: object) -> Done:
    return here(prepare.main, *flags)


def in_subprocess(*flags: object) -> Done:
    return subprocess.run(
        [sys.executable, "prepare.py", *map(str, flags)],
        cwd=ROOT,
        # Without a COLUMNS that readline, once imported by pytest, hands on beside os.environ.
        env=os.environ.copy(),
        capture_output=True,
        text=True,
        timeout=120,
    )


def prepared(*flags: object) -> str:
    """Run prepare.py, which must succeed, and return its output."""
    done = in_process(*flags)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def refused(*flags: object) -> str:
    """Run prepare.py, which must fail, and return its one-line error."""
    done = in_process(*flags)
    assert done.returncode == 1
    assert re.fullmatch(r"error: .*\n", done.stderr), done.stderr
    return done.stderr.removeprefix("error: ").rstrip("\n")


def random_text(rng: random.Random, n: int = 30) -> str:
    return " ".join(f"{rng.choice(WORDS)} {rng.randrange(10**6)}" for _ in range(n))


def made_records(n: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [
        {
            "id": f"case-{i}",
            "question": f"Does {random_text(rng, 3)}?",
            "sections": [["AIM", random_text(rng)], ["RESULTS", random_text(rng)]],
            "long_answer": random_text(rng, 5),
            "decision": rng.choice(["yes", "yes", "yes", "no", "maybe"]),
        }
        for i in range(n)
    ]


def write_lines(path: Path, lines: Iterable[object]) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def cells(printed: str, table: str) -> dict[str, list[str]]:
    """Parse the rows of a printed table by their first cell; its title may be broken into lines."""
    body = re.search(re.escape(table).replace(r"\ ", r"\s") + r"(?s:.*?)\n-[- ]*\n", printed)
    assert body, f"no table {table!r} in {printed}"
    lines = printed[body.end() :].splitlines()
    rows: dict[str, list[str]] = {}
    for line in lines:
        if not line:
            break
        first, *others = re.split(r"  +", line.strip())
        rows[first] = others
    return rows


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
