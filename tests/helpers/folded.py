"""A little PubMedQA of made-up words: official ids, so that folds and test records are official.

Not a test itself.
"""

import json
import random
from pathlib import Path

from clingpt.text.records import LABELS
from tests.helpers.commands import ROOT

IDS = ROOT / "clingpt" / "data" / "pubmedqa_ids.json"
LETTERS = "bcdfglmnprstv"


def write_official(path: Path, *, test_seed: int = 0) -> Path:
    """Four records each of folds 0 and 1 and of the test set, and eight more to train on.

    `test_seed` changes the test records alone. No two records share a run of words.
    """
    lists = json.loads(IDS.read_text("utf-8"))
    ids = [str(pmid) for pmid in lists["folds"][0][:4] + lists["folds"][1][:4]]
    ids += [str(pmid) for pmid in lists["folds"][2][:8]]
    items = {pmid: made_up(pmid, seed=0) for pmid in ids}
    items |= {str(pmid): made_up(str(pmid), seed=test_seed) for pmid in lists["test"][:4]}
    path.write_text(json.dumps(items), encoding="utf-8")
    return path


def made_up(pmid: str, *, seed: int) -> dict[str, object]:
    """One item of the official file."""
    draw = random.Random(f"{pmid} {seed}")

    def words(n: int) -> str:
        return " ".join(
            "".join(draw.choice(LETTERS) + draw.choice("aeiou") for _ in range(2)) for _ in range(n)
        )

    return {
        "QUESTION": f"Does {words(3)}?",
        "CONTEXTS": [f"{words(8)}.", f"{words(8)}."],
        "LABELS": ["METHODS", "RESULTS"],
        "LONG_ANSWER": f"{words(6)}.",
        "final_decision": draw.choice(LABELS),
    }
