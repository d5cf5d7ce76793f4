"""What a model must beat: labels from word counts, and summaries that are copied from the record.

Not models for use. BagOfWords follows scikit-learn's TfidfVectorizer and LogisticRegression
closely enough for the same figures (tests/evaluation/test_baselines.py holds it to that), so that
evaluation needs no scikit-learn."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from clingpt.base.errors import DataError
from clingpt.text.records import LABELS, Record
from clingpt.text.sentences import split_sentences

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WORD = re.compile(r"\b\w\w+\b")  # scikit-learn's token_pattern: two characters or more
FUNCTION_WORDS = frozenset(
    "an the of in on for to and or is are was were be with by at from as that this do does did can"
    " not".split()
)
MIN_DOCUMENTS = 2
MAX_STEPS = 2000
LARGEST_GRADIENT = 1e-6  # of the mean loss; scikit-learn stops at 1e-4


def majority_label(train_labels: Sequence[str]) -> str:
    """The most frequent label, the first in LABELS among equals."""
    if not train_labels:
        raise DataError("no training labels to find the commonest of; choose data with decisions")
    counts = Counter(train_labels)
    return max(LABELS, key=lambda label: counts[label])


@dataclass(frozen=True, kw_only=True)
class Sparse:
    """A matrix by its entries: values[i] stands at (rows[i], columns[i])."""

    rows: Ints
    columns: Ints
    values: Floats
    shape: tuple[int, int]

    def times(self, dense: Floats) -> Floats:
        """self @ dense."""
        return np.stack([self._times(column) for column in dense.T], axis=1)

    def transposed(self) -> "Sparse":
        """The same entries, mirrored."""
        return Sparse(
            rows=self.columns, columns=self.rows, values=self.values, shape=self.shape[::-1]
        )

    def _times(self, vector: Floats) -> Floats:
        products = self.values * vector[self.columns]
        return np.bincount(self.rows, products, minlength=self.shape[0]).astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class Tfidf:
    """Words and word pairs of the training texts: log tf × smooth idf, rows of length 1."""

    column_of: dict[str, int]
    idf: Floats

    @classmethod
    def learn(cls, texts: Sequence[str]) -> Self:
        """Keep what occurs in at least MIN_DOCUMENTS texts."""
        documents = Counter(term for text in texts for term in set(terms(text)))
        kept = sorted(term for term, n in documents.items() if n >= MIN_DOCUMENTS)
        counts = np.array([documents[term] for term in kept], dtype=np.float64)
        return cls(
            column_of={term: i for i, term in enumerate(kept)},
            idf=np.log((1 + len(texts)) / (1 + counts)) + 1,
        )

    def transform(self, texts: Sequence[str]) -> Sparse:
        """One row a text; unknown terms are left out."""
        columns: list[int] = []
        frequencies: list[int] = []
        lengths: list[int] = []
        for text in texts:
            counts = Counter(
                c for term in terms(text) if (c := self.column_of.get(term)) is not None
            )
            columns.extend(counts.keys())
            frequencies.extend(counts.values())
            lengths.append(len(counts))
        return self._weigh(
            rows=np.repeat(np.arange(len(texts)), lengths),
            columns=np.array(columns, dtype=np.int64),
            frequencies=np.array(frequencies, dtype=np.float64),
            n_texts=len(texts),
        )

    def _weigh(self, *, rows: Ints, columns: Ints, frequencies: Floats, n_texts: int) -> Sparse:
        values = (1 + np.log(frequencies)) * self.idf[columns]
        norms = np.sqrt(np.bincount(rows, weights=values**2, minlength=n_texts))
        return Sparse(
            rows=rows,
            columns=columns,
            values=values / norms[rows],
            shape=(n_texts, len(self.column_of)),
        )


@dataclass(frozen=True, kw_only=True)
class BagOfWords:
    """Logistic regression on the words and word pairs of a text.

    Meant for up to some 20,000 texts: fitting holds 24 bytes for each distinct term of each text
    and, for a while, every distinct word pair of them all. 450 abstracts take a third of a second,
    20,000 take minutes and about 1 GB (one CPU core).
    """

    tfidf: Tfidf
    labels: tuple[str, ...]
    weights: Floats  # a row a term, then a row of intercepts; a column a label

    @classmethod
    def fit(
        cls, texts: Sequence[str], labels: Sequence[str], *, c: float = 1.0, balanced: bool = False
    ) -> Self:
        """Learn from labelled texts; `balanced` gives every label the same total weight.

        `c` is scikit-learn's C. Deterministic: no random numbers, one fixed order of sums.
        """
        if not texts or len(texts) != len(labels):
            raise DataError(f"{len(texts)} texts with {len(labels)} labels; give one label a text")
        known = tuple(sorted(set(labels)))
        target = np.array([[label == name for name in known] for label in labels], dtype=np.float64)
        share = target.mean(axis=0)
        row_weight = target @ (1 / (len(known) * share)) if balanced else np.ones(len(texts))
        tfidf = Tfidf.learn(texts)
        weights = fit_softmax(tfidf.transform(texts), target, row_weight=row_weight, c=c)
        return cls(tfidf=tfidf, labels=known, weights=weights)

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The likeliest label of each text."""
        scores = margins(self.tfidf.transform(texts), self.weights)
        return [self.labels[i] for i in scores.argmax(axis=1)]


def terms(text: str) -> list[str]:
    """Lower-cased words, and pairs of neighbours joined by a blank."""
    words = WORD.findall(text.lower())
    return words + [f"{first} {second}" for first, second in pairwise(words)]


def margins(features: Sparse, weights: Floats) -> Floats:
    """Log-odds of each row and label, up to a constant a row."""
    scores: Floats = features.times(weights[:-1]) + weights[-1]
    return scores


def fit_softmax(features: Sparse, target: Floats, *, row_weight: Floats, c: float) -> Floats:
    """Weights that minimise scikit-learn's objective: c · Σ row losses + ½‖W‖², intercepts free.

    Accelerated gradient descent with restarts (O'Donoghue and Candès 2015, section 3.2). The step
    is 1/L: half the largest eigenvalue of the mean of x·xᵀ (Böhning 1992) is at most 1 for rows of
    length 1 with an intercept of 1, and the penalty adds its own curvature.
    """
    total, n_labels = float(row_weight.sum()), target.shape[1]
    # With two labels scikit-learn penalises the difference of the columns, half of what we'd sum.
    penalty = (2 if n_labels == 2 else 1) / (c * total)
    weights = np.zeros((features.shape[1] + 1, n_labels))
    ahead: Floats = weights
    momentum = 1.0
    for _ in range(MAX_STEPS):
        errors = (softmax(margins(features, ahead)) - target) * (row_weight / total)[:, None]
        pull = features.transposed().times(errors) + penalty * ahead[:-1]
        slope = np.vstack([pull, errors.sum(axis=0)])
        if np.abs(slope).max() <= LARGEST_GRADIENT:
            break
        moved = ahead - slope / (1 + penalty)
        momentum = 1.0 if np.sum(slope * (moved - weights)) > 0 else momentum
        next_momentum = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = moved + (momentum - 1) / next_momentum * (moved - weights)
        weights, momentum = moved, next_momentum
    return ahead


def softmax(scores: Floats) -> Floats:
    """Probabilities of each row."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def question_and_results(record: Record) -> str:
    """The input of the strongest BagOfWords: the question and the sections that report findings."""
    findings = (text for label, text in record.sections if re.search("RESULT|FINDING", label))
    return " ".join([record.question, *findings])


def context_sentences(record: Record) -> list[str]:
    """All sentences of the sections; a section's end always ends one."""
    return [sentence for _, text in record.sections for sentence in split_sentences(text)]


def lead(record: Record, *, sentences: int = 3) -> str:
    """The first sentences of the context."""
    return " ".join(context_sentences(record)[:sentences])


def question_plus_last_sentence(record: Record) -> str:
    """The question, then what the context says last."""
    return " ".join([record.question, *context_sentences(record)[-1:]])


def closest_sentence(record: Record) -> str:
    """The context sentence that shares most words with the question, the first among equals.

    Words that any question has are not counted.
    """
    asked = set(WORD.findall(record.question.lower())) - FUNCTION_WORDS
    return max(
        context_sentences(record),
        key=lambda sentence: len(asked.intersection(WORD.findall(sentence.lower()))),
        default="",
    )


SUMMARIES: dict[str, Callable[[Record], str]] = {
    "lead-1": partial(lead, sentences=1),
    "lead-3": lead,
    "question": lambda record: record.question,
    "question + last sentence": question_plus_last_sentence,
    "closest sentence": closest_sentence,
}
