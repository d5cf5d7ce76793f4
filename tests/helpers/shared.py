"""Test data: small committed fixtures, and full data sets outside the repository.

Full data sets are looked for in the folder that CLINGPT_SHARED names, by default ../shared next to
the checkout. Tests that need one skip without it; `pytest -rs` says which file is missing.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clingpt.base.errors import DataError
from clingpt.data.sources import Source, refuse
from clingpt.text.records import Record

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests/fixtures"
PUBMEDQA_FIXTURE = FIXTURES / "pubmedqa.json"  # 20 invented records in the official layout
NOTES_FIXTURE = FIXTURES / "notes.csv"  # invented notes with invented identifiers
SHARED = Path(os.environ.get("CLINGPT_SHARED", ROOT.parent / "shared"))

PUBMEDQA = "pubmedqa/ori_pqal.json"
PUBMEDQA_TRUTH = "pubmedqa/test_ground_truth.json"
MEDQUAD = "medquad/medquad.jsonl.gz"
INDIANA = "clinical/indiana_cxr.jsonl.gz"
ACI_BENCH = "clinical/aci_bench.jsonl.gz"


def shared_file(name: str) -> Path:
    """Return the path of a full data set, or skip the test if it is missing."""
    path = SHARED / "data" / name
    if not path.exists():
        pytest.skip(f"needs {path}; set CLINGPT_SHARED to the folder that has data/{name}")
    return path


def official_items(path: Path = PUBMEDQA_FIXTURE) -> dict[str, dict[str, Any]]:
    """Return the entries of a file in PubMedQA's official layout by PMID."""
    items: dict[str, dict[str, Any]] = json.loads(path.read_text("utf-8"))
    return items


def read_records(path: Path, on_bad: Callable[[DataError], None] = refuse) -> list[Record]:
    """Read a file whose rows describe their own content, as prepare.py does."""
    return [read.record for read in Source(name=str(path)).read(on_bad)]
