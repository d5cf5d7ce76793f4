"""A record's scores for yes, no and maybe, and the label that follows from them.

Needs no torch: the ONNX runner, the server, sample.py and the reports share this type.
"""

from dataclasses import dataclass

import numpy as np

from clingpt.decoding.replies import Judgement
from clingpt.evaluation.calibration import Calibration
from clingpt.text.records import LABELS


@dataclass(frozen=True)
class LabelScores:
    """Log-probabilities of the three labels as the next token after `Answer:`."""

    id: str  # of the record
    gold: str | None  # the annotated label, if there is one
    log_probs: tuple[float, ...]  # nats, in the order of LABELS, normalised over the three
    trimmed_tokens: int  # context tokens that did not fit into the prompt

    @property
    def label(self) -> str:
        """The most probable label; calibration never changes it."""
        return LABELS[int(np.argmax(self.log_probs))]

    @property
    def probabilities(self) -> dict[str, float]:
        """Uncalibrated probabilities, which add up to one."""
        powers = np.exp(np.array(self.log_probs) - max(self.log_probs))
        return dict(zip(LABELS, (powers / powers.sum()).tolist(), strict=True))

    def judge(self, calibration: Calibration | None) -> Judgement:
        """The label with calibrated probabilities, or raw ones if the checkpoint has no fit."""
        probabilities, abstained = self.probabilities, None
        if calibration is not None:
            probabilities, abstained = calibration.judge(self.log_probs)
        return {"label": self.label, "probabilities": probabilities, "abstained": abstained}
