"""Records made into examples, chunk by chunk, in whatever process: what is left out, how often a
record counts, which views of it there are, what becomes of long ones; and all of that counted.

What a task asks is clingpt/tasks.py's; what is written where, clingpt/prepared.py's.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from clingpt.mixture import CANARY, Item, count_copies, unit_hash
from clingpt.overlap import NgramIndex, ngram_hashes, record_text
from clingpt.prepared import HELD_OUT, Piece
from clingpt.records import Record
from clingpt.redaction import Redactor
from clingpt.tasks import Example, NotApplicable, make_example, text_windows
from clingpt.tokenizer import Tokenizer
from clingpt.views import views

Long = Literal["window", "trim", "drop"]
TOO_LONG = "longer than the context"
SHOWN_IDS = 3  # of records that share text with those held out


@dataclass
class Tally:
    """What became of records."""

    lengths: dict[str, Counter[int]] = field(default_factory=dict)  # task -> tokens -> examples
    trimmed: Counter[str] = field(default_factory=Counter)  # examples
    trimmed_tokens: Counter[str] = field(default_factory=Counter)
    windowed: Counter[str] = field(default_factory=Counter)  # records in more than one example
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)  # (task, reason)
    shared_ids: Counter[str] = field(default_factory=Counter)  # of train with val, with test
    sharing: Counter[str] = field(default_factory=Counter)  # 13-grams of train with val, with test
    first_sharing: dict[str, list[str]] = field(default_factory=dict)  # ids

    def add(self, other: "Tally") -> None:
        """Count what came later as well."""
        for task, lengths in other.lengths.items():
            self.lengths.setdefault(task, Counter()).update(lengths)
        for name in ("trimmed", "trimmed_tokens", "windowed", "dropped", "shared_ids", "sharing"):
            getattr(self, name).update(getattr(other, name))
        for split, ids in other.first_sharing.items():
            known = self.first_sharing.setdefault(split, [])
            known += ids[: SHOWN_IDS - len(known)]
