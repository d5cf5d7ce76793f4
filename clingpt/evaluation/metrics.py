"""Metrics of labels and texts, as pure functions.

Every setting that changes a figure is fixed here and named in the result, because common settings
disagree widely: the last sentences of the PubMedQA test abstracts score between 1.9 and 9.3 BLEU
and between 14.0 and 16.2 ROUGE-L. BLEU and ROUGE range from 0 to 100; accuracy, precision, recall
and F1 from 0 to 1.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from itertools import pairwise, zip_longest
from statistics import fmean
from typing import Any

from clingpt.base.errors import DataError
from clingpt.text.documents import (
    HEADINGS,
    OPENING,
    Sections,
    heading_key,
    parse_document,
)
from clingpt.text.records import LABELS
from clingpt.text.sentences import split_sentences

WORD = re.compile(r"\w+")
ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A 95 % confidence interval."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class LabelScore:
    """Scores of one label; a ratio whose denominator is 0 is 0."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, kw_only=True)
class Classification:
    """Scores of predicted labels; `confusion` has a row per gold label, in the order of LABELS."""

    n: int
    accuracy: float
    accuracy_interval: Interval
    macro_f1: float
    per_label: dict[str, LabelScore]
    confusion: tuple[tuple[int, ...], ...]
    unparseable: int  # predictions that are not one of LABELS


@dataclass(frozen=True, kw_only=True)
class Bleu:
    """Corpus BLEU as computed by sacrebleu and by nltk; lengths are in sacrebleu's 13a tokens."""

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
    """ROUGE F1, averaged over the examples."""

    rouge1: float
    rouge2: float
    rougeL: float
    rougeLsum: float
    signature: str


@dataclass(frozen=True, kw_only=True)
class Perplexity:
    """Perplexity of a text; only bits per byte can be compared between vocabularies."""

    nats_per_token: float
    token_perplexity: float
    word_perplexity: float
    bits_per_byte: float
    tokens: int
    words: int
    utf8_bytes: int


def classification(gold: Sequence[str], predicted: Sequence[str]) -> Classification:
    """Score predicted labels; a prediction outside LABELS is wrong, but does not add a class.

    scikit-learn's default macro F1 averages over every string that occurs, and so does the official
    PubMedQA script: ten stray predictions in 500 cost the human annotator 18 points there.
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
    """Compute precision, recall and F1 from counts."""
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
    """Return the 20 counts that one text adds to corpus BLEU.

    For sacrebleu and then for nltk: matches of orders 1 to 4, n-grams of orders 1 to 4, the
    hypothesis' length and the reference's. nltk counts one missed n-gram of each order for a
    hypothesis that is too short to have any. That is a little below BLEU's definition, but it is
    what others report.
    """
    sacre = _sacrebleu().sentence_score(hypothesis, [reference])
    return [*sacre.counts, *sacre.totals, sacre.sys_len, sacre.ref_len] + _nltk_counts(
        hypothesis, reference
    )


@cache
def _sacrebleu() -> Any:
    from sacrebleu.metrics.bleu import BLEU  # 0.1 s to import

    # Both options only silence warnings, about tokenized input and about short texts.
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
    """Compute corpus BLEU-4 with one reference per text from the sum of the texts' bleu_counts."""
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
    """Compute BLEU without smoothing (Papineni et al. 2002, section 2.3)."""
    if not all(correct) or not said:
        return 0.0
    penalty = min(1.0, math.exp(1 - wanted / said))
    logs = [math.log(c / t) for c, t in zip(correct, total, strict=True)]
    return 100 * penalty * math.exp(fmean(logs))


def rouge_scores(hypothesis: str, reference: str) -> list[float]:
    """Return F1 × 100 for each of ROUGE_TYPES."""
    # rougeLsum compares line by line: without a line per sentence it would equal rougeL. The other
    # three treat a line break as a space, so that one pass computes all four.
    scored = _rouge_scorer().score(one_sentence_a_line(reference), one_sentence_a_line(hypothesis))
    return [100 * scored[kind].fmeasure for kind in ROUGE_TYPES]


@cache
def _rouge_scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # 1.3 s to import

    return RougeScorer(ROUGE_TYPES, use_stemmer=True)


def rouge_of(means: Sequence[float]) -> Rouge:
    """Name the means of the texts' rouge_scores."""
    settings = "f1|stemmer:porter|lsum:clingpt.sentences|mean of examples"
    named = dict(zip(ROUGE_TYPES, means, strict=True))
    return Rouge(**named, signature=f"rouge-score:{version('rouge-score')}|{settings}")


def rouge(hypotheses: Sequence[str], references: Sequence[str]) -> Rouge:
    """Compute mean ROUGE F1; raise DataError if the lists do not pair up or are empty."""
    check_pairs(references, hypotheses, of="hypotheses")
    columns = zip(*map(rouge_scores, hypotheses, references), strict=True)
    return rouge_of([fmean(column) for column in columns])


def one_sentence_a_line(text: str) -> str:
    """Insert a line break after each sentence and keep the line breaks of the text."""
    return "\n".join(sentence for line in text.split("\n") for sentence in split_sentences(line))


def perplexity(*, nats: float, tokens: int, words: int, utf8_bytes: int) -> Perplexity:
    """Compute the perplexity of a text from the summed loss of its tokens."""
    if tokens <= 0 or words <= 0 or utf8_bytes <= 0:
        raise DataError(
            f"cannot compute a perplexity without text: got {tokens} tokens in {utf8_bytes} bytes"
        )
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
    """Return e to the power of `nats`, or infinity if that would overflow."""
    return math.inf if nats > 700 else math.exp(nats)


def novel_bigrams(hypothesis: str, source: str) -> float:
    """Return the share of the hypothesis' word pairs that the source lacks; 0 for copied text."""
    known = set(pairwise(WORD.findall(source.lower())))
    pairs = list(pairwise(WORD.findall(hypothesis.lower())))
    return sum(pair not in known for pair in pairs) / len(pairs) if pairs else 0.0


def check_pairs(gold: Sequence[str], candidates: Sequence[str], *, of: str) -> None:
    """Raise DataError if two lists have different lengths or are empty."""
    if len(gold) != len(candidates):
        raise DataError(f"{len(candidates)} {of} for {len(gold)} references; pass one for each")
    if not gold:
        raise DataError(f"no {of} to score; choose a split that has examples of this task")


@dataclass(frozen=True, kw_only=True)
class Structure:
    """Agreement of generated documents with the headings and sections of their references.

    Covers documents whose reference has at least one of `headings`; the others are only counted, as
    `unheaded`. Shares are from 0 to 1, and 0 if there is nothing to divide by. A heading counts
    once per document in `present` and `spurious`. An output without headings is neither in order
    nor complete. Outputs that were asked for one section have no structure of their own, but their
    texts count under the heading that was asked for.
    """

    documents: int
    unheaded: int  # references without any of the headings, left out of all figures below
    present: float  # share of the references' headings that the outputs have (recall)
    spurious: float  # share of the outputs' headings that the references lack (1 - precision)
    # Share of outputs with each heading once, and those of the reference in the reference's order.
    in_order: float
    complete: float  # share of outputs with exactly the reference's headings, in the same order
    section_rougeL: dict[str, float]  # mean F1 × 100 by heading, where both have the section
    signature: str
    # Added later, hence the defaults: a report of an earlier version can still be read.
    headings: tuple[str, ...] = HEADINGS  # by which the documents were scored
    in_references: dict[str, int] = field(default_factory=dict)  # references, by heading
    in_both: dict[str, int] = field(default_factory=dict)  # references and their outputs
    asked: int = 0  # outputs that were asked for one section


def structure(
    outputs: Sequence[str],
    references: Sequence[str],
    headings: Sequence[str] = HEADINGS,
    asked: Sequence[str | None] = (),
) -> Structure:
    """Compare each document with its reference; raise DataError if the lists do not pair up.

    `asked` has the heading that the prompt asked for, if it asked for one section. This scores the
    form of a document; whether its statements are supported is the subject of unsupported.py.
    """
    check_pairs(references, outputs, of="outputs")
    by_key = {heading_key(name): name for name in headings}
    n_documents = n_unheaded = n_shared = n_output = n_reference = n_ordered = n_complete = 0
    scores, in_references = defaultdict[str, list[float]](list), Counter[str]()
    for output, reference, one in zip_longest(outputs, references, asked):
        if one is not None:
            name = by_key.get(heading_key(one), one)
            written, wanted = [(name, output)], [(name, reference)]
        else:
            written, wanted = (
                [pair for pair in parse_document(text, headings) if pair[0] != OPENING]
                for text in (output, reference)
            )
            if not wanted:
                n_unheaded += 1
                continue
            found, expected = [name for name, _ in written], [name for name, _ in wanted]
            shared = {*found} & {*expected}
            n_documents += 1
            n_shared += len(shared)
            n_output += len({*found})
            n_reference += len({*expected})
            ordered = [name for name in dict.fromkeys(expected) if name in shared]
            is_once = bool(found) and len(found) == len({*found})
            n_ordered += is_once and ordered == [name for name in found if name in shared]
            n_complete += found == expected
        texts = join_sections(written)
        for name, text in join_sections(wanted).items():
            in_references[name] += 1
            if name in texts:
                rouge_l = rouge_scores(texts[name], text)[ROUGE_TYPES.index("rougeL")]
                scores[name].append(rouge_l)
    names = [*headings, *sorted(in_references.keys() - {*headings})]
    settings = "rougeL|f1|stemmer:porter|mean of documents where both have the section"
    return Structure(
        documents=n_documents,
        unheaded=n_unheaded,
        present=n_shared / max(1, n_reference),
        spurious=(n_output - n_shared) / max(1, n_output),
        in_order=n_ordered / max(1, n_documents),
        complete=n_complete / max(1, n_documents),
        section_rougeL={name: fmean(scores[name]) for name in names if name in scores},
        signature=f"rouge-score:{version('rouge-score')}|{settings}",
        headings=tuple(headings),
        in_references={name: in_references[name] for name in names if in_references[name]},
        in_both={name: len(scores[name]) for name in names if name in scores},
        asked=sum(one is not None for one in asked),
    )


def join_sections(sections: Sections) -> dict[str, str]:
    """Map each heading to its text; the texts of a repeated heading are joined."""
    texts: dict[str, str] = {}
    for name, text in sections:
        texts[name] = f"{texts[name]}\n{text}" if name in texts else text
    return texts
