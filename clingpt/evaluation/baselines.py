"""Baselines that a model must beat: labels and answers that cost no training.

Answers are copied from the record, or from the training split: the commonest training answer, and
the answer of the nearest training record. scikit-learn does the arithmetic. It is imported inside
the functions that fit something, because importing it takes half a second that a command without
baselines should not spend. This module must not import torch.
"""

import hashlib
import heapq
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from clingpt.base import console
from clingpt.base.errors import DataError
from clingpt.data import canaries
from clingpt.data.prepared import Prepared, Split, origin
from clingpt.text.documents import SECTION, join_sections, join_windows
from clingpt.text.records import LABELS, Record
from clingpt.text.sentences import split_sentences
from clingpt.text.tasks import Example, explained

if TYPE_CHECKING:
    from clingpt.text.tokenizer import Tokenizer

WORD = re.compile(r"\b\w\w+\b")  # two characters or more, as scikit-learn's default token_pattern
FUNCTION_WORDS = frozenset(
    "an the of in on for to and or is are was were be with by at from as that this do does did can"
    " not".split()
)
COMMONEST = "commonest training answer"
NEAREST = "nearest training record"
N_COMMON = 10  # training answers that count as common
# `nearest` hashes words and word pairs, so that the vocabulary cannot grow. Terms that share a
# column count as one: hashing changes the neighbour of one in twenty of PubMedQA's test records,
# and of one in nine with a quarter of the columns.
N_COLUMNS = 2**22
AT_ONCE = 2_000  # training texts that `nearest` holds in memory
QUERIES_AT_ONCE = 500  # similarities to AT_ONCE texts take 8 MB


def majority_label(train_labels: Sequence[str]) -> str:
    """Return the most frequent label; among equally frequent ones, the first in LABELS."""
    if not train_labels:
        raise DataError(
            "cannot compute the majority label: the training records have no labels; choose data "
            "with decisions"
        )
    counts = Counter(train_labels)
    return max(LABELS, key=lambda label: counts[label])


def fit_tfidf(texts: Sequence[str]) -> tuple[Any, Any] | None:
    """Fit TF-IDF on words and word pairs that occur in at least two texts.

    Weights are log tf times smoothed idf, rows have length 1. Return the vectorizer and the sparse
    matrix of the texts, or None if no term occurs in two texts.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    try:
        return vectorizer, vectorizer.fit_transform(texts)
    except ValueError:  # how scikit-learn reports an empty vocabulary
        return None


@dataclass(frozen=True)
class BagOfWords:
    """Logistic regression on the TF-IDF of words and word pairs.

    If the texts have no term in common or only one label, there is nothing to learn, and the
    most frequent label is always predicted.
    """

    vectorizer: Any  # scikit-learn's TfidfVectorizer; None if there was nothing to learn
    classifier: Any  # scikit-learn's LogisticRegression or DummyClassifier

    @classmethod
    def fit(
        cls, texts: Sequence[str], labels: Sequence[str], *, c: float = 1.0, balanced: bool = False
    ) -> Self:
        """Fit on labelled texts; `balanced` gives every label the same total weight.

        `c` is the inverse regularisation strength. The solver (L-BFGS) uses no random numbers, so
        that two fits produce the same model.
        """
        from sklearn.dummy import DummyClassifier
        from sklearn.linear_model import LogisticRegression

        if not texts or len(texts) != len(labels):
            raise DataError(f"{len(texts)} texts for {len(labels)} labels; pass one label per text")
        fitted = fit_tfidf(texts)
        if fitted is None or len(set(labels)) == 1:
            constant = DummyClassifier(strategy="most_frequent")
            return cls(None, constant.fit([[0]] * len(texts), labels))
        vectorizer, features = fitted
        # The default tolerance, 1e-4, stops short of the optimum: on PubMedQA and the quickstart's
        # data it changes 1 prediction in 700, while 1e-6 and 1e-8 agree on all of them.
        classifier = LogisticRegression(
            C=c, class_weight="balanced" if balanced else None, tol=1e-6, max_iter=5000
        )
        return cls(vectorizer, classifier.fit(features, labels))

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Return the most probable label of each text."""
        features = self.vectorizer.transform(texts) if self.vectorizer else [[0]] * len(texts)
        return [str(label) for label in self.classifier.predict(features)]


@dataclass(frozen=True)
class TrainingExamples:
    """The training examples of one task, each decoded from its tokens when it is asked for.

    A prepared folder keeps no training records. Each record counts once, whatever its source's
    weight. Augmented views and planted canaries are left out.
    """

    task: str
    split: Split
    rows: NDArray[np.int64]  # of the split's index
    tokenizer: "Tokenizer"

    @classmethod
    def read(cls, data: Prepared, tokenizer: "Tokenizer", task: str) -> Self:
        """Find the training examples of a task; there may be none."""
        split, ids = data.split("train"), data.record_ids("train")
        rows = split.rows_of(task)
        rows = rows[np.unique(rows[:, 4], return_index=True)[1]]  # weights repeat examples
        planted = set[str]()
        if (data.folder / canaries.FILE).exists():
            planted |= {r.id for r in canaries.planted_records(canaries.read(data.folder))}
        names = [ids[number] for number in rows[:, 4]]
        own = [origin(name) == name and name not in planted for name in names]
        return cls(task, split, rows[own], tokenizer)

    def __len__(self) -> int:
        return len(self.rows)

    def prompt(self, number: int) -> str:
        """Return what the model read."""
        return self.tokenizer.decode(self.split.example(self.rows[number]).prompt_ids)

    def target(self, number: int) -> str:
        """Return what the model had to write, without the end-of-text token."""
        target_ids = self.split.example(self.rows[number]).target_ids
        return self.tokenizer.decode(target_ids[:-1]).strip()

    def label(self, number: int) -> str:
        """Return the label of an example of `answer`."""
        return self.target(number).partition("\n")[0]

    def answer(self, number: int) -> str:
        """Return the text that is compared with a reference: of `answer`, the explanation."""
        target = self.target(number)
        return explained(target) if self.task == "answer" else target

    def by_section(self) -> "DocumentsBySection":
        """Return the whole documents, if the examples of the task ask for one section each."""
        rows = self.split.rows_of(self.task)
        return DocumentsBySection(self.task, self.split, self.rows, self.tokenizer, rows)

    def with_text(self) -> "TrainingExamples":
        """Leave out the examples whose answer is only a label."""
        if self.task != "answer":
            return self
        return replace(self, rows=self.rows[[bool(self.answer(i)) for i in range(len(self))]])


@dataclass(frozen=True)
class DocumentsBySection(TrainingExamples):
    """Training documents, put together from the examples that ask for their sections."""

    sections: NDArray[np.int64]  # rows of the index, of all sections and windows

    def _examples(self, number: int) -> Iterator[Example]:
        """Yield the examples of a document: section by section, and each window by window."""
        first, last = np.searchsorted(self.sections[:, 4], self.rows[number, 4] + np.array([0, 1]))
        return map(self.split.example, self.sections[first:last])

    def prompt(self, number: int) -> str:
        """Return the notes, whose windows every section repeats, and the heading if there is one.

        Texts under the same heading are then nearer than others.
        """
        prompts = [self.tokenizer.decode(one.prompt_ids) for one in self._examples(number)]
        notes, _, endings = zip(*(text.rpartition(SECTION) for text in prompts), strict=True)
        return " ".join([*dict.fromkeys(notes), *([endings[0]] if len({*endings}) == 1 else [])])

    def target(self, number: int) -> str:
        """Return the document, or the text of its only section."""
        parts: dict[str, dict[str, str]] = {}  # heading -> prompt -> what was to be written
        for one in self._examples(number):
            prompt, target = map(self.tokenizer.decode, (one.prompt_ids, one.target_ids[:-1]))
            heading = prompt.rpartition(SECTION)[2].partition("\n")[0]
            parts.setdefault(heading, {})[prompt] = target
        if len(parts) == 1:
            return join_windows(*map(dict.values, parts.values()))
        return join_sections((name, texts.values()) for name, texts in parts.items())


@dataclass(frozen=True)
class CommonAnswers:
    """The commonest answers of the training split; case and punctuation do not distinguish two."""

    commonest: str  # as it is first written in the split
    counts: tuple[int, ...]  # how often each of the N_COMMON commonest occurs, in falling order
    total: int  # training answers
    keys: frozenset[bytes]

    @classmethod
    def count(cls, examples: TrainingExamples) -> Self:
        """Count the answers of at least one example.

        Equally frequent answers are ranked by their hash, so that the order of the records does not
        decide which of them count as common.
        """
        counts, first = Counter[bytes](), dict[bytes, int]()
        for number in range(len(examples)):
            key = answer_key(examples.answer(number))
            counts[key] += 1
            first.setdefault(key, number)
        top = heapq.nsmallest(N_COMMON, counts.items(), key=lambda item: (-item[1], item[0]))
        return cls(
            commonest=examples.answer(first[top[0][0]]),
            counts=tuple(n for _, n in top),
            total=len(examples),
            keys=frozenset(key for key, n in top if n > 1),
        )

    def __contains__(self, answer: str) -> bool:
        """Whether an answer is one of the commonest; one that occurs only once never is."""
        return answer_key(answer) in self.keys


def answer_key(answer: str) -> bytes:
    """Hash the words of an answer, so that 200,000 long answers are counted in little memory."""
    words = " ".join(re.findall(r"\w+", answer.lower()))
    return hashlib.blake2b(words.encode(), digest_size=16).digest()


def nearest(n_texts: int, text_of: Callable[[int], str], queries: Sequence[str]) -> list[int]:
    """Return the number of the training text that is most similar to each query.

    Similarity is the cosine of TF-IDF as in `fit_tfidf`, but over words and word pairs that are
    hashed into N_COLUMNS columns. The first of equally similar texts wins. Texts are read twice, in
    chunks: first to count in how many of them each term occurs, then to compare them. So memory
    depends on the number of queries, and not on `n_texts` or the size of the vocabulary.
    """
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.preprocessing import normalize

    if not queries:
        return []
    count = HashingVectorizer(
        n_features=N_COLUMNS,
        ngram_range=(1, 2),
        norm=None,
        alternate_sign=False,
        dtype=np.float32,
    ).transform

    def chunks(label: str) -> Iterator[tuple[int, Any]]:
        starts = range(0, n_texts, AT_ONCE)
        for start in console.progress(starts, label=f"nearest records: {label}", unit=" chunks"):
            numbers = range(start, min(start + AT_ONCE, n_texts))
            yield start, count([text_of(number) for number in numbers])

    n_with_term = np.zeros(N_COLUMNS, dtype=np.int64)
    for _, chunk in chunks("counting"):
        n_with_term += np.bincount(chunk.indices, minlength=N_COLUMNS)
    idf = 1 + np.log((1 + n_texts) / (1 + n_with_term))
    idf[n_with_term < 2] = 0  # a term of a single text only makes that text harder to find
    idf = idf.astype(np.float32)

    def weighted(counts: Any) -> Any:
        counts.data = (1 + np.log(counts.data)) * idf[counts.indices]
        return normalize(counts, copy=False)

    asked = weighted(count(queries))
    best, found = np.full(len(queries), -1.0), np.zeros(len(queries), dtype=np.int64)
    for start, chunk in chunks("comparing"):
        texts = weighted(chunk).T.tocsr()
        for first in range(0, len(queries), QUERIES_AT_ONCE):
            some = slice(first, first + QUERIES_AT_ONCE)
            similarity = (asked[some] @ texts).toarray()  # rows have length 1
            places = similarity.argmax(axis=1)
            closest = similarity[np.arange(len(places)), places]
            better = closest > best[some]  # not >=: the first of equally similar texts wins
            best[some][better] = closest[better]
            found[some][better] = start + places[better]
    return [int(number) for number in found]


def question_and_results(record: Record) -> str:
    """Return the best input for BagOfWords: the question and the sections that report findings."""
    return " ".join([record.question, *findings(record)])


def question_and_context(record: Record) -> str:
    return " ".join([record.question, *(text for _, text in record.sections)])


def findings(record: Record) -> list[str]:
    return [text for label, text in record.sections if re.search("RESULT|FINDING", label)]


def evidence_of(train: Sequence[Record]) -> Callable[[Record], str]:
    """Choose what BagOfWords reads: the findings if most training records have some.

    Otherwise it would be the question alone, and the baseline would see less than the model.
    """
    n_with_findings = sum(bool(findings(record)) for record in train)
    return question_and_results if 2 * n_with_findings >= len(train) else question_and_context


def context_sentences(record: Record) -> list[str]:
    """Return the sentences of all sections; no sentence spans two sections."""
    return [sentence for _, text in record.sections for sentence in split_sentences(text)]


def lead(record: Record, *, sentences: int = 3) -> str:
    """Return the first sentences of the context."""
    return " ".join(context_sentences(record)[:sentences])


def question_plus_last_sentence(record: Record) -> str:
    """Return the question followed by the last sentence of the context."""
    return " ".join([record.question, *context_sentences(record)[-1:]])


def closest_sentence(record: Record) -> str:
    """Return the context sentence that shares the most words with the question.

    Function words do not count. The first of equally close sentences wins.
    """
    asked = set(WORD.findall(record.question.lower())) - FUNCTION_WORDS
    return max(
        context_sentences(record),
        key=lambda sentence: len(asked.intersection(WORD.findall(sentence.lower()))),
        default="",
    )


SUMMARIES: dict[str, Callable[[Record], str]] = {
    "lead-1": lambda record: lead(record, sentences=1),
    "lead-3": lead,
    "question": lambda record: record.question,
    "question + last sentence": question_plus_last_sentence,
    "closest sentence": closest_sentence,
}
