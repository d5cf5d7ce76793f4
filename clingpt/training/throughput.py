"""How fast a run trains: tokens per second and model FLOP/s utilisation between two readings."""

import time
from dataclasses import dataclass, field

import numpy as np

from clingpt.data.packing import Ints, Rows
from clingpt.nn.flops import training_flops
from model import GPTConfig


@dataclass
class Meter:
    """Counts a step's work; padding is no work."""

    data: Rows
    config: GPTConfig
    peak_flops: float | None  # of one device; None where it is not known
    n_devices: int = 1
    tokens: int = 0
    flops: float = 0.0
    started_at: float = field(default_factory=time.perf_counter)

    def count(self, rows: Ints) -> int:
        """Add the work of a step on these rows; gives their tokens."""
        examples = np.concatenate([self.data.examples(row) for row in rows])
        lengths = self.data.split.lengths[examples]
        tokens = int(lengths.sum())
        self.tokens += tokens
        self.flops += training_flops(
            self.config,
            tokens=tokens,
            targets=self.data.n_targets(rows),
            attended_pairs=float((lengths * (lengths + 1)).sum()) / 2,
        )
        return tokens

    def read(self) -> dict[str, float | None]:
        """Speeds since the last reading, which ends here."""
        elapsed_s = time.perf_counter() - self.started_at
        speeds = {
            "tokens_per_s": self.tokens / elapsed_s,
            "mfu": self.flops / elapsed_s / (self.peak_flops * self.n_devices)
            if self.peak_flops
            else None,
        }
        self.restart()
        return speeds

    def restart(self) -> None:
        """Begin to measure anew, for example behind a validation."""
        self.tokens, self.flops, self.started_at = 0, 0.0, time.perf_counter()
