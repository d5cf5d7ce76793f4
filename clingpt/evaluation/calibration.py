"""How far a label can be relied on: calibration, abstention, and inputs unlike the training data.

A temperature and a threshold are fitted on validation records and stored as calibration.json in
the checkpoint. They must not be fitted on the records that a result is reported on. Columns are the
labels in the order of LABELS; shares, risks and errors range from 0 to 1, losses are in nats per
record. The order of the records does not change any figure.

Probabilities were only measured on records like the training data, but a model answers a question
about anything. So inputs that are unlike them are pointed out, judged by their tokens without the
model (`Familiarity`). That shows an unusual subject or kind of text, but not whether a
familiar-looking text answers the question. docs/journal.md lists the other signals that were tried.

Does not import torch, because the ONNX runner uses this module.
"""

import base64
import json
import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clingpt.base import console
from clingpt.base.errors import CheckpointError, DataError
from clingpt.base.files import write_whole
from clingpt.base.settings import check, check_range, read_json
from clingpt.base.types import Floats, Ints
from clingpt.decoding.replies import Judgement
from clingpt.text.records import LABELS

FORMAT = 2
FILE = "calibration.json"
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0
# With fewer wrong labels than this, a temperature below 1 rests on next to nothing. With none at
# all the loss falls for ever as T goes to 0, and every answer would get a probability of 1.
MISTAKES_TO_SHARPEN = 10
HIGHEST_THRESHOLD = 0.999  # the highest that `shown_probability` shows; no threshold is "100 %"
NOT_FITTED = "not calibrated: eval.py has not fitted a temperature"
ROUNDING = 1e-5  # tolerance for sums of float32 probabilities
VOCABULARY = 2**16  # token ids fit uint16
BACKGROUND_TOKENS = 500  # weight of the background in the counts, in tokens
UNLIKE_SHARE = 0.025  # share of validation prompts that may be further away than the limit
FEWEST_PROMPTS = 20  # with fewer validation prompts the limit would flag over 5 % of new ones


@dataclass(frozen=True, kw_only=True)
class Familiarity:
    """The token counts of the training prompts, and how far from them a prompt may be.

    The distance is the mean over a prompt's tokens of ln(background / training), in nats: how much
    more likely its tokens are in general than in a training prompt. The training distribution is
    smoothed by the background (Dirichlet smoothing; Zhai and Lafferty 2001). The background is
    Zipf's law over the token ids, since byte-pair vocabularies are numbered from frequent to rare.
    """

    counts: str  # base64 of zlib-compressed uint64 numbers, one per token id up to the last seen
    limit: float

    def __post_init__(self) -> None:
        try:
            readable = len(self._counts) > 0
        except (ValueError, zlib.error):
            readable = False
        check(readable, "counts must be compressed token counts as eval.py writes them")

    @classmethod
    def fit(cls, train: Iterable[ArrayLike], val: Iterable[ArrayLike]) -> Self | None:
        """Count the tokens of training prompts and set the limit on validation prompts.

        At most UNLIKE_SHARE of the validation prompts are beyond the limit. Returns None if there
        are too few validation prompts or no training prompts. Memory does not grow with them.
        """
        counts = np.zeros(VOCABULARY, dtype=np.int64)
        for ids in train:
            np.add.at(counts, np.asarray(ids, dtype=np.int64), 1)
        if not counts.any():
            return None
        packed = np.trim_zeros(counts, "b").astype("<u8").tobytes()
        unlimited = cls(counts=base64.b64encode(zlib.compress(packed)).decode(), limit=0.0)
        distances = np.sort([unlimited.distance(ids) for ids in val])
        if len(distances) < FEWEST_PROMPTS:
            return None
        limit = float(distances[-1 - int(UNLIKE_SHARE * len(distances))])
        return cls(counts=unlimited.counts, limit=limit)

    def distance(self, ids: ArrayLike) -> float:
        """Return the distance of a prompt in nats per token; the prompt must not be empty."""
        return float(self._log_ratios[np.asarray(ids, dtype=np.int64)].mean())

    def is_unlike(self, ids: ArrayLike) -> bool:
        """Return whether a prompt is further from the training prompts than the limit."""
        return self.distance(ids) > self.limit

    @cached_property
    def _counts(self) -> Ints:
        stream = zlib.decompressobj()
        packed = stream.decompress(base64.b64decode(self.counts, validate=True), 8 * VOCABULARY)
        if not stream.eof:  # a damaged file must not fill the memory
            raise ValueError
        return np.frombuffer(packed, dtype="<u8").astype(np.int64)

    @cached_property
    def _log_ratios(self) -> Floats:
        """ln(background / training) for each token id."""
        counts = np.zeros(VOCABULARY)
        counts[: len(self._counts)] = self._counts
        background = 1 / (np.arange(VOCABULARY) + 10.0)  # Zipf's law; 10 flattens its first ranks
        background /= background.sum()
        smoothed = counts + BACKGROUND_TOKENS * background
        return np.asarray(np.log(background * smoothed.sum() / smoothed))


@dataclass(frozen=True, kw_only=True)
class FittedOn:
    """The records that a calibration was fitted on."""

    split: str
    records: int
    mistakes: int  # records whose most probable label is wrong
    fingerprint: str  # of the prepared folder

    def __post_init__(self) -> None:
        check_range(self, "records", at_least=1)
        check_range(self, "mistakes", at_least=0, at_most=self.records)


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Records whose confidence is above `low` and at most `high`."""

    low: float
    high: float
    n: int
    confidence: float  # mean
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Point:
    """Coverage and risk of answering only records with a confidence of at least `threshold`."""

    coverage: float
    risk: float
    threshold: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A temperature for the probabilities, and the confidence below which a label is withheld.

    If the fitting records do not determine the temperature, `calibrated` is false and the
    temperature is at least 1: too few mistakes may flatten the probabilities but never sharpen
    them. The threshold is a multiple of 0.001, so that what is shown is what is compared.
    `coverage` is the share of records to answer for which it was chosen. Errors and losses were
    measured on the fitting records themselves, so those after fitting are slightly optimistic.
    """

    temperature: float
    calibrated: bool
    threshold: float
    coverage: float
    fitted_on: FittedOn
    ece_before: float
    ece_after: float
    nll_before: float
    nll_after: float
    familiarity: Familiarity | None  # of inputs with the training data, if that is known

    def __post_init__(self) -> None:
        lowest, highest = LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE
        check_range(self, "temperature", at_least=lowest, at_most=highest)
        check(
            self.calibrated or self.temperature >= 1,
            "temperature must be at least 1 where calibrated is false",
        )
        check_range(self, "threshold", at_least=0, at_most=HIGHEST_THRESHOLD)
        check_range(self, "ece_before", "ece_after", at_least=0, at_most=1)
        check_range(self, "coverage", above=0, at_most=1)
        check_range(self, "nll_before", "nll_after", at_least=0)

    @classmethod
    def fit(
        cls,
        log_probs: ArrayLike,
        gold: Sequence[str],
        *,
        coverage: float = 0.8,
        fingerprint: str,
        familiarity: Familiarity | None = None,
    ) -> Self:
        """Fit on the validation records of the prepared folder with this fingerprint.

        Raise DataError if there are no records, a row is not three finite numbers, the gold labels
        are not one of LABELS per row, or the coverage is outside (0, 1].
        """
        best = fit_temperature(log_probs, gold)
        before = calibrated(log_probs, 1.0)
        mistakes = int((before.argmax(axis=1) != label_numbers(gold, n=len(before))).sum())
        # At a bound the loss has no minimum, and at exactly 1 every row is uniform.
        is_determined = best not in (LOWEST_TEMPERATURE, 1.0, HIGHEST_TEMPERATURE)
        is_calibrated = is_determined and mistakes >= MISTAKES_TO_SHARPEN
        temperature = best if is_calibrated else max(1.0, best)
        after = calibrated(log_probs, temperature)
        return cls(
            temperature=temperature,
            calibrated=is_calibrated,
            threshold=abstention_threshold(after, coverage=coverage),
            coverage=coverage,
            fitted_on=FittedOn(
                split="val", records=len(gold), mistakes=mistakes, fingerprint=fingerprint
            ),
            ece_before=expected_calibration_error(before, gold),
            ece_after=expected_calibration_error(after, gold),
            nll_before=negative_log_likelihood(log_probs, gold),
            nll_after=negative_log_likelihood(log_probs, gold, temperature=temperature),
            familiarity=familiarity,
        )

    @property
    def note(self) -> str | None:
        """Why the probabilities count as not calibrated, or None if they are calibrated."""
        if self.calibrated:
            return None
        found = self.fitted_on
        mistakes = console.count(found.mistakes, "mistake")
        records = console.count(found.records, "validation record")
        return f"not calibrated: {mistakes} in {records}"

    def apply(self, log_probs: ArrayLike) -> Floats:
        """Return calibrated probabilities; raise DataError for malformed rows."""
        return calibrated(log_probs, self.temperature)

    def judge(self, log_probs: Sequence[float]) -> tuple[dict[str, float], bool]:
        """Return a record's calibrated probabilities, and whether to withhold its label."""
        [shares] = self.apply([log_probs])
        return dict(zip(LABELS, shares.tolist(), strict=True)), self.abstains(shares)

    def abstains(self, probabilities: ArrayLike) -> bool:
        """Return whether to withhold a record's label, given its calibrated probabilities."""
        return bool(np.max(probabilities) < self.threshold)

    def is_unlike(self, prompt_ids: Sequence[int]) -> bool | None:
        """Return whether a prompt is unlike the training data; None if that is not known."""
        return self.familiarity.is_unlike(prompt_ids) if self.familiarity else None

    def save(self, folder: Path) -> None:
        """Write calibration.json atomically."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=1, allow_nan=False)
        write_whole(folder / FILE, text + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Read what `save` wrote; return None, with a note, for a file in an older format.

        An older fit is not used because it could be one on records without mistakes, which made
        every answer certain. Returns None if there is no file either, and raises CheckpointError
        for any other content.
        """
        path = folder / FILE
        if not path.exists():
            return None
        advice = "fit it again by running eval.py, or remove it"
        if is_older(path):
            console.note(f"{path} has an older format and is not used; {advice}")
            return None
        return read_json(cls, path, version=FORMAT, error=CheckpointError, advice=advice)


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
        [shares] = calibrated([self.log_probs], 1.0)
        return dict(zip(LABELS, shares.tolist(), strict=True))

    def judge(self, calibration: Calibration | None, prompt_ids: Sequence[int]) -> Judgement:
        """Return the label, and how far its probabilities can be relied on after this prompt.

        The probabilities are calibrated, or raw ones if the checkpoint has no fit.
        """
        probabilities, abstained = self.probabilities, None
        if calibration is not None:
            probabilities, abstained = calibration.judge(self.log_probs)
        return {
            "label": self.label,
            "probabilities": probabilities,
            "calibration_note": calibration.note if calibration else NOT_FITTED,
            "unlike_training": calibration.is_unlike(prompt_ids) if calibration else None,
            "abstained": abstained,
        }


def is_older(path: Path) -> bool:
    """Return whether a calibration file has a format number below FORMAT."""
    try:
        version = json.loads(path.read_bytes())["format"]
    except (ValueError, RecursionError, TypeError, KeyError):
        return False
    return type(version) is int and 0 < version < FORMAT


def shown_probability(share: float) -> str:
    """Format a probability for display, such as 52.0 %, rounded down to a tenth of a percent.

    Rounding down keeps labels and thresholds comparable: a label is shown below the threshold
    exactly if it is below it. Near 0 and 1 it says <0.1 % and >99.9 %, because no estimate is
    certain.
    """
    if share < 0.001:
        return "<0.1 %"
    return ">99.9 %" if share > HIGHEST_THRESHOLD else f"{100 * rounded_down(share):.1f} %"


def shown_threshold(threshold: float) -> str:
    """Format a threshold for the middle of a sentence; at 0 no label is withheld."""
    return f"threshold {shown_probability(threshold)}" if threshold else "no threshold"


def rounded_down(share: float) -> float:
    """Return the largest multiple of 0.001 that is not above `share`."""
    nearest = round(share, 3)
    return nearest if nearest <= share else round(nearest - 0.001, 3)


def fit_temperature(log_probs: ArrayLike, gold: Sequence[str]) -> float:
    """Return the T that minimises the mean negative log-likelihood of softmax(log_probs / T).

    Guo et al. 2017, section 4.2. The loss is convex in 1 / T, so its slope has a single root. If
    every label is right, a sharper distribution is always better and T is LOWEST_TEMPERATURE; if no
    T is flat enough, it is HIGHEST_TEMPERATURE. At these bounds the records do not determine T. If
    every row is uniform they do not either, and T is 1.
    """
    from scipy.optimize import brentq

    gaps = gaps_to_gold(log_probs, gold)
    if not gaps.any():
        return 1.0
    low, high = 1 / HIGHEST_TEMPERATURE, 1 / LOWEST_TEMPERATURE
    if slope(gaps, high) <= 0:
        return LOWEST_TEMPERATURE
    if slope(gaps, low) >= 0:
        return HIGHEST_TEMPERATURE
    return 1 / float(brentq(lambda sharpness: slope(gaps, sharpness), low, high, xtol=1e-15))


def slope(gaps: Floats, sharpness: float) -> float:
    """Return the derivative of the mean loss with respect to 1 / T."""
    return float((softmax(sharpness * gaps) * gaps).sum(axis=1).mean())


def gaps_to_gold(log_probs: ArrayLike, gold: Sequence[str]) -> Floats:
    """Return each label's score minus the gold label's; rows are sorted so that sums are too."""
    rows = finite_rows(log_probs, of="log-probabilities")
    gaps = rows - np.take_along_axis(rows, label_numbers(gold, n=len(rows))[:, None], axis=1)
    return np.asarray(gaps[np.lexsort(gaps.T)])


def calibrated(log_probs: ArrayLike, temperature: float) -> Floats:
    """Return softmax(log_probs / T), one row per record; the most probable label stays the same."""
    return softmax(finite_rows(log_probs, of="log-probabilities") / temperature)


def softmax(scores: Floats) -> Floats:
    """Return the probabilities of each row of scores."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def negative_log_likelihood(
    log_probs: ArrayLike, gold: Sequence[str], *, temperature: float = 1.0
) -> float:
    """Return the mean of -ln softmax(log_probs / T)[gold] in nats; it never overflows."""
    gaps = gaps_to_gold(log_probs, gold) / temperature
    top = gaps.max(axis=1)
    return float((top + np.log(np.exp(gaps - top[:, None]).sum(axis=1))).mean())


def brier_score(probabilities: ArrayLike, gold: Sequence[str]) -> float:
    """Return the mean squared distance from certainty in the gold label, 0 to 2 (Brier 1950)."""
    rows = probability_rows(probabilities)
    certain = np.eye(len(LABELS))[label_numbers(gold, n=len(rows))]
    return float(np.sort(((rows - certain) ** 2).sum(axis=1)).mean())


def expected_calibration_error(
    probabilities: ArrayLike, gold: Sequence[str], bins: int = 10
) -> float:
    """Return the mean distance between confidence and accuracy over bins weighted by records.

    Guo et al. 2017, equation 3. It depends on the number of bins, and is above 0 even for a
    perfectly calibrated model, by chance.
    """
    filled = reliability(probabilities, gold, bins)
    return sum(b.n * abs(b.accuracy - b.confidence) for b in filled) / sum(b.n for b in filled)


def reliability(probabilities: ArrayLike, gold: Sequence[str], bins: int = 10) -> list[Bin]:
    """Return the non-empty bins of equal width over the highest probability, in ascending order.

    Guo et al. 2017, section 2: bin m of M is ((m - 1) / M, m / M].
    """
    if bins < 1:
        raise DataError(f"the number of bins must be at least 1, not {bins}")
    confidence, right = ranked(probabilities, gold)
    edges = np.arange(bins + 1) / bins
    starts = np.searchsorted(confidence, edges[:-1], side="right")
    ends = [*starts[1:], len(confidence)]  # the last bin takes what rounding lifts above 1
    return [
        Bin(
            low=float(edges[m]),
            high=float(edges[m + 1]),
            n=int(end - start),
            confidence=float(confidence[start:end].mean()),
            accuracy=float(right[start:end].mean()),
        )
        for m, (start, end) in enumerate(zip(starts, ends, strict=True))
        if end > start
    ]


def risk_coverage(probabilities: ArrayLike, gold: Sequence[str]) -> list[Point]:
    """Return the error rate among the most confident records, for every coverage, ascending.

    El-Yaniv and Wiener 2010; Geifman and El-Yaniv 2017, whose softmax response is the confidence
    here. Records of equal confidence are answered together.
    """
    confidence, right = ranked(probabilities, gold)
    n = len(confidence)
    firsts = np.unique(confidence, return_index=True)[1][
        ::-1
    ]  # of each confidence, most confident first
    answered = n - firsts
    wrong = np.cumsum(~right[::-1])[answered - 1]
    return [
        Point(coverage=a / n, risk=w / a, threshold=c)
        for a, w, c in zip(
            answered.tolist(), wrong.tolist(), confidence[firsts].tolist(), strict=True
        )
    ]


def area_under_risk_coverage(curve: Sequence[Point]) -> float:
    """Return the mean over records of the risk at their confidence, 0 to 1; lower is better.

    AURC of Geifman, Uziel and El-Yaniv 2019 (arXiv 1805.08206). Compare only models of similar
    accuracy: even a perfect ranking scores above 0 if many labels are wrong.
    """
    before = [0.0, *(point.coverage for point in curve)]
    return math.fsum(
        (point.coverage - last) * point.risk for point, last in zip(curve, before[:-1], strict=True)
    )


def abstention_threshold(probabilities: ArrayLike, *, coverage: float) -> float:
    """Return the confidence that a share of at least `coverage` of the records reaches.

    It is rounded down to a multiple of 0.001 and at most HIGHEST_THRESHOLD, so it is never above
    the highest confidence of the records. Rounding and ties can raise the share. The threshold is
    0 for a coverage of 1, so that no label is ever withheld.
    """
    if not 0 < coverage <= 1:
        raise DataError(f"the coverage must be above 0 and at most 1, not {coverage:g}")
    confidence = np.sort(probability_rows(probabilities).max(axis=1))
    # 0.07 · 100 is a little above 7 in doubles, and would keep 8.
    kept = max(1, math.ceil(coverage * len(confidence) - 1e-9))
    if coverage == 1:
        return 0.0
    return min(rounded_down(float(confidence[-kept])), HIGHEST_THRESHOLD)


def ranked(probabilities: ArrayLike, gold: Sequence[str]) -> tuple[Floats, NDArray[np.bool_]]:
    """Return each record's highest probability and whether it is right, least confident first."""
    rows = probability_rows(probabilities)
    confidence = rows.max(axis=1)
    right = rows.argmax(axis=1) == label_numbers(gold, n=len(rows))
    order = np.argsort(confidence)  # ties share a bin and a point, so their order does not matter
    return confidence[order], right[order]


def finite_rows(values: ArrayLike, *, of: str) -> Floats:
    """Convert to an array of three finite numbers per record; raise DataError if it is not one."""
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != len(LABELS) or not len(rows):
        raise DataError(
            f"{of} have the shape {rows.shape}; pass a row per record with a number for "
            f"each of {', '.join(LABELS)}"
        )
    if not np.isfinite(rows).all():
        raise DataError(f"{of} contain nan or infinity; score the records again in float32")
    return rows


def probability_rows(values: ArrayLike) -> Floats:
    """Convert to an array of three probabilities per record; raise DataError if it is not one."""
    rows = finite_rows(values, of="probabilities")
    if rows.min() < 0 or np.abs(rows.sum(axis=1) - 1).max() > ROUNDING:
        raise DataError(
            "the probabilities of a record do not add up to 1; exponentiate log-probabilities first"
        )
    return rows


def label_numbers(gold: Sequence[str], *, n: int) -> Ints:
    """Return the indices of the gold labels in LABELS; raise DataError for unknown labels."""
    if len(gold) != n:
        raise DataError(f"{n} rows for {len(gold)} gold labels; pass one row per label")
    if unknown := set(gold).difference(LABELS):
        raise DataError(f"gold label {min(unknown)!r} is not one of {', '.join(LABELS)}")
    return np.array([LABELS.index(label) for label in gold], dtype=np.int64)
