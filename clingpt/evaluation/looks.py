"""How often a run was scored on its test records: a choice made by looking is no longer a test."""

from datetime import UTC, datetime
from pathlib import Path

from clingpt.base import jsonl

FILE = "test_looks.jsonl"


def count_look(run: Path, checkpoint: str, fingerprint: str, *, is_new: bool) -> int:
    """Note a look at the test records in the run's folder, unless it goes on with the last one;
    how many there were at these data, this one included."""
    path = run / FILE
    if is_new:
        run.mkdir(parents=True, exist_ok=True)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        jsonl.append(path, {"time": now, "checkpoint": checkpoint, "data": fingerprint})
    looks = [look for look in jsonl.read(path) if look["data"] == fingerprint]
    return max(1, len(looks))
