"""Which split a record belongs to, as a pure function of the record: order never decides.

PubMedQA's official lists are kept as numbers in pubmedqa_ids.json (Jin et al. 2019, section 3.4:
500 test ids and ten folds of 50 for validation) because they depend on the key order of the
official file; they apply by id, whatever road the records came by.
"""

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from clingpt.text.records import Record

N_FOLDS = 10


@cache
def _official() -> dict[str, int]:
    """PMID -> its validation fold, or -1 for the test set."""
    lists = json.loads(Path(__file__).with_name("pubmedqa_ids.json").read_text("utf-8"))
    folds = {str(pmid): fold for fold, pmids in enumerate(lists["folds"]) for pmid in pmids}
    return folds | {str(pmid): -1 for pmid in lists["test"]}


def official_test_ids() -> set[str]:
    """The 500 PMIDs that PubMedQA's leaderboard scores."""
    return {pmid for pmid, fold in _official().items() if fold == -1}


def official_folds(ids: Iterable[str]) -> list[int] | None:
    """The validation fold of each id, -1 of a test id; None where not all are PubMedQA-L's."""
    folds = [_official().get(name) for name in ids]
    return None if None in folds else [fold for fold in folds if fold is not None]


def split_of(record: Record, *, fold: int, val_share: float, test_share: float) -> str:
    """The official split of a PubMedQA-L record; elsewhere by a hash of the text.

    The text decides, not the id, so that a copy under another id cannot cross into another split.
    """
    official = _official().get(record.id)
    if official is not None:
        return "test" if official == -1 else "val" if official == fold else "train"
    text = "\n".join([record.question, *(body for _, body in record.sections)]).lower()
    digest = hashlib.sha256(text.encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    if position < test_share:
        return "test"
    return "val" if position < test_share + val_share else "train"
