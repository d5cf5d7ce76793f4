"""Labels and probabilities that follow from three log-probabilities."""

import math

import pytest

from clingpt.evaluation.calibration import Calibration
from clingpt.evaluation.label_scores import LabelScores

SCORES = LabelScores("r9", None, (math.log(0.5), math.log(0.25), math.log(0.25)), 0)


def test_uncalibrated_scores_abstain_from_nothing() -> None:
    judgement = SCORES.judge(None)
    assert list(judgement) == ["label", "probabilities", "abstained"]
    assert (judgement["label"], judgement["abstained"]) == ("yes", None)
    expected = {"yes": 0.5, "no": 0.25, "maybe": 0.25}
    assert judgement["probabilities"] == SCORES.probabilities == pytest.approx(expected)


@pytest.mark.parametrize(("threshold", "abstained"), [(0.39, False), (0.42, True)])
def test_a_calibrated_label_is_withheld_below_the_threshold(
    threshold: float, abstained: bool
) -> None:
    fitted = Calibration(
        temperature=2, threshold=threshold, coverage=0.8, ece_before=0, ece_after=0,
        nll_before=1, nll_after=1, fitted_on={"split": "val", "records": 9, "fingerprint": "f"},
    )  # fmt: skip
    judgement = SCORES.judge(fitted)
    assert (judgement["label"], judgement["abstained"]) == ("yes", abstained)
    flatter = 1 / (1 + 2 * 0.5**0.5)  # 0.5 and twice 0.25, each to the power of 1/2
    assert judgement["probabilities"]["yes"] == pytest.approx(flatter)
