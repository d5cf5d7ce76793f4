"""Scores for labels and texts, as pure functions; not what is scored, nor how it is printed.

Every setting that moves a figure is fixed here and named in the result: the last sentences of the
PubMedQA test abstracts score BLEU 1.9 to 9.3 and ROUGE-L 14.0 to 16.2 under settings in common use.
BLEU and ROUGE are on the scale 0 to 100; accuracy, precision, recall and F1 on 0 to 1.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from itertools import pairwise
from statistics import fmean
from typing import Any

from clingpt.base.errors import DataError
from clingpt.text.records import LABELS
from clingpt.text.sentences import split_sentences

WORD = re.compile(r"\w+")
ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
N_BLEU_COUNTS = 20  # matches and n-grams of orders 1 to 4, both lengths; by sacrebleu, by nltk


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A 95 % confidence interval."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class LabelScore:
    """How well one label was found; a ratio without a denominator is 0."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, kw_only=True)
class Classification:
    """Scores of predicted labels; `confusion` has a row a gold label, in the order of LABELS."""

    n: int
    accuracy: float
    accuracy_interval: Interval
    macro_f1: float
    per_label: dict[str, LabelScore]
    confusion: tuple[tuple[int, ...], ...]
    unparseable: int


@dataclass(frozen=True, kw_only=True)
class Bleu:
    """Corpus BLEU in two usual forms; lengths are in sacrebleu's 13a tokens."""

    score: float
    signature: str
    precisions: tuple[float, ...]
    brevity_penalty: float
    hypothesis_tokens: int
    reference_tokens: int
    nltk_score: float
    nltk_signature: str


@dataclass(frozen=True, kw_only=True)
class Rouge:
    """F1 averaged over the examples."""

    rouge1: float
    rouge2: float
    rougeL: float
    rougeLsum: float
    signature: str


@dataclass(frozen=True, kw_only=True)
class Perplexity:
    """How well a text was predicted; only bits per byte compare across vocabularies."""

    nats_per_token: float
    token_perplexity: float
    word_perplexity: float
    bits_per_byte: float
    tokens: int
    words: int
    utf8_bytes: int


def classification(gold: Sequence[str], predicted: Sequence[str]) -> Classification:
    """Score labels; a prediction that is no label is wrong, counted, and adds no class.

    scikit-learn's default macro F1 averages over every string it meets, as the official PubMedQA
    script does: ten stray outputs in 500 cost the human annotator 18 points there.
    """
    check_pairs(gold, predicted, of="predictions")
    if unknown := set(gold).difference(LABELS):
        raise DataError(f"gold label {min(unknown)!r} is not one of {', '.join(LABELS)}")
    pairs = Counter(zip(gold, predicted, strict=True))
    supports, calls = Counter(gold), Counter(predicted)
    confusion = tuple(tuple(pairs[row, column] for column in LABELS) for row in LABELS)
    per_label = {
        label: score_label(
            hits=pairs[label, label], predicted=calls[label], support=supports[label]
        )
        for label in LABELS
    }
    n, hits = len(gold), sum(pairs[label, label] for label in LABELS)
    return Classification(
        n=n,
        accuracy=hits / n,
        accuracy_interval=wilson_interval(hits=hits, n=n),
        macro_f1=fmean(score.f1 for score in per_label.values()),
        per_label=per_label,
        confusion=confusion,
        unparseable=n - sum(calls[label] for label in LABELS),
    )


def score_label(*, hits: int, predicted: int, support: int) -> LabelScore:
    """Precision, recall and F1 from counts."""
    return LabelScore(
        precision=hits / predicted if predicted else 0.0,
        recall=hits / support if support else 0.0,
        f1=2 * hits / (predicted + support) if predicted + support else 0.0,
        support=support,
    )


def wilson_interval(*, hits: int, n: int) -> Interval:
    """Return the 95 % interval of a proportion (Wilson 1927), which always lies within [0, 1]."""
    from scipy.stats import binomtest  # 0.8 s to import

    found = binomtest(hits, n).proportion_ci(method="wilson")
    return Interval(low=float(found.low), high=float(found.high))


def bleu_counts(hypothesis: str, reference: str) -> list[int]:
    """What one text adds to corpus BLEU: matches and n-grams of orders 1 to 4, and lengths, by
    sacrebleu, then by nltk.

    nltk counts one missed n-gram of each order for a hypothesis too short to have any, an empty one
    included: a little below BLEU's definition, kept because that is the figure others print.
    """
    sacre = _sacrebleu().sentence_score(hypothesis, [reference])
    return [*sacre.counts, *sacre.totals, sacre.sys_len, sacre.ref_len] + _nltk_counts(
        hypothesis, reference
    )


@cache
def _sacrebleu() -> Any:
    from sacrebleu.metrics.bleu import BLEU  # 0.1 s to import

    # force: no advice about tokenised input in the log; effective_order: none about short texts.
    return BLEU(tokenize="13a", force=True, effective_order=True)


def _nltk_counts(hypothesis: str, reference: str) -> list[int]:
    from nltk.tokenize import NLTKWordTokenizer  # 1.5 s to import; word_tokenize needs a download
    from nltk.translate.bleu_score import modified_precision

    tokenize = NLTKWordTokenizer().tokenize
    said, wanted = tokenize(hypothesis), tokenize(reference)
    found = [modified_precision([wanted], said, n) for n in range(1, 5)]
    counts = [x.numerator for x in found] + [x.denominator for x in found]
    return [*counts, len(said), len(wanted)]


def bleu_of(counts: Sequence[int]) -> Bleu:
    """Corpus BLEU-4 with one reference each, from the texts' summed bleu_counts."""
    from nltk import __version__ as nltk_version
    from sacrebleu import __version__ as sacrebleu_version
    from sacrebleu.metrics.bleu import BLEU

    correct, total, (said, wanted) = counts[:4], counts[4:8], counts[8:10]
    result = BLEU.compute_bleu(list(correct), list(total), said, wanted, smooth_method="exp")
    return Bleu(
        score=result.score,
        signature=f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{sacrebleu_version}",
        precisions=tuple(result.precisions),
        brevity_penalty=result.bp,
        hypothesis_tokens=said,
        reference_tokens=wanted,
        nltk_score=_unsmoothed(counts[10:14], counts[14:18], *counts[18:20]),
        nltk_signature=f"nltk:{nltk_version}|tok:NLTKWordTokenizer|case:mixed|smooth:none",
    )


def _unsmoothed(correct: Sequence[int], total: Sequence[int], said: int, wanted: int) -> float:
    """BLEU by its definition (Papineni et al. 2002, section 2.3); 0 without a common 4-gram."""
    if not all(correct) or not said:
        return 0.0
    penalty = min(1.0, math.exp(1 - wanted / said))
    logs = [math.log(c / t) for c, t in zip(correct, total, strict=True)]
    return 100 * penalty * math.exp(fmean(logs))


def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> Bleu:
    """Corpus BLEU-4 with one reference each; an empty hypothesis counts by its length of 0."""
    check_pairs(references, hypotheses, of="hypotheses")
    rows = zip(*map(bleu_counts, hypotheses, references), strict=True)
    return bleu_of([sum(column) for column in rows])


def rouge_scores(hypothesis: str, reference: str) -> list[float]:
    """F1 × 100 of each of ROUGE_TYPES; rougeLsum sees one sentence a line, or would be rougeL."""
    # The other three see a line break as a blank, so that one pass serves all four.
    scored = _rouge_scorer().score(one_sentence_a_line(reference), one_sentence_a_line(hypothesis))
    return [100 * scored[kind].fmeasure for kind in ROUGE_TYPES]


@cache
def _rouge_scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # 1.3 s to import

    return RougeScorer(ROUGE_TYPES, use_stemmer=True)


def rouge_of(means: Sequence[float]) -> Rouge:
    """From the texts' mean rouge_scores."""
    settings = "f1|stemmer:porter|lsum:clingpt.sentences|mean of examples"
    named = dict(zip(ROUGE_TYPES, means, strict=True))
    return Rouge(**named, signature=f"rouge-score:{version('rouge-score')}|{settings}")


def rouge(hypotheses: Sequence[str], references: Sequence[str]) -> Rouge:
    """Mean ROUGE F1."""
    check_pairs(references, hypotheses, of="hypotheses")
    columns = zip(*map(rouge_scores, hypotheses, references), strict=True)
    return rouge_of([fmean(column) for column in columns])


def one_sentence_a_line(text: str) -> str:
    """`text` with a line break after each sentence; its own line breaks stay."""
    return "\n".join(sentence for line in text.split("\n") for sentence in split_sentences(line))


def perplexity(*, nats: float, tokens: int, words: int, utf8_bytes: int) -> Perplexity:
    """Perplexity of a text from the sum of its tokens' losses; words stand between blanks."""
    if tokens <= 0 or words <= 0 or utf8_bytes <= 0:
        raise DataError(f"no text to measure perplexity on: {tokens} tokens, {utf8_bytes} bytes")
    return Perplexity(
        nats_per_token=nats / tokens,
        token_perplexity=exp(nats / tokens),
        word_perplexity=exp(nats / words),
        bits_per_byte=nats / (math.log(2) * utf8_bytes),
        tokens=tokens,
        words=words,
        utf8_bytes=utf8_bytes,
    )


def exp(nats: float) -> float:
    """e to a power; inf where it would overflow."""
    return math.inf if nats > 700 else math.exp(nats)


def novel_bigrams(hypothesis: str, source: str) -> float:
    """Share of the hypothesis' word pairs that the source lacks, 0 to 1; copied text has none."""
    known = set(pairwise(WORD.findall(source.lower())))
    pairs = list(pairwise(WORD.findall(hypothesis.lower())))
    return sum(pair not in known for pair in pairs) / len(pairs) if pairs else 0.0


def check_pairs(gold: Sequence[str], candidates: Sequence[str], *, of: str) -> None:
    """Refuse to score nothing, or lists that do not belong together."""
    if len(gold) != len(candidates):
        raise DataError(f"{len(candidates)} {of} for {len(gold)} references; give one for each")
    if not gold:
        raise DataError(f"no {of} to score; choose a split that has examples of this task")
