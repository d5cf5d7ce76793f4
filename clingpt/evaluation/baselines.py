"""Baselines that a model must beat: labels from word counts, answers copied from records.

scikit-learn does the arithmetic. It is imported inside the functions that fit something, because
importing it takes half a second that a command without baselines should not spend. This module must
not import torch.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from clingpt.base.errors import DataError
from clingpt.data.prepared import Prepared
from clingpt.text.records import LABELS, Record
from clingpt.text.sentences import split_sentences
from clingpt.text.tasks import TASK_TABLE

if TYPE_CHECKING:
    from clingpt.text.tokenizer import Tokenizer

WORD = re.compile(r"\b\w\w+\b")  # two characters or more, as scikit-learn's default token_pattern
FUNCTION_WORDS = frozenset(
    "an the of in on for to and or is are was were be with by at from as that this do does did can"
    " not".split()
)
NEAREST = "nearest training question"
MAX_QUESTIONS = 20_000  # that Nearest searches: about 100 MB


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


class Nearest:
    """Answer a question with the reference answer of the most similar training question.

    A strong baseline if questions repeat ("What are the symptoms of …?") and a weak one if they do
    not. A model that has only memorised its training text does no better. After Cover and Hart
    1967, "Nearest neighbor pattern classification", with the cosine of TF-IDF as similarity.
    """

    def __init__(self, data: Prepared, tokenizer: "Tokenizer") -> None:
        self._train, self._tokenizer = data.split("train"), tokenizer
        self._rows = self._train.rows_of("explain")[:MAX_QUESTIONS]
        prompts = (tokenizer.decode(self._train.example(row).prompt_ids) for row in self._rows)
        self._fitted = fit_tfidf([question_in(prompt) for prompt in prompts])

    def __len__(self) -> int:
        return len(self._rows)

    def answer(self, record: Record) -> str:
        """Return the answer to the training question most similar to the record's.

        The first of equally similar questions wins.
        """
        nearest = 0
        if self._fitted is not None:
            vectorizer, questions = self._fitted
            similarity = questions @ vectorizer.transform([record.question]).T  # rows have length 1
            nearest = int(similarity.toarray().argmax())
        target_ids = self._train.example(self._rows[nearest]).target_ids
        return self._tokenizer.decode(target_ids[:-1]).strip()  # without the end-of-text token


def question_in(prompt: str) -> str:
    """Return the question of an `explain` prompt: the inverse of `prompt_text`."""
    return prompt.removesuffix(f"\n{TASK_TABLE['explain'].cue}").rpartition("Question: ")[2]


def question_and_results(record: Record) -> str:
    """Return the best input for BagOfWords: the question and the sections that report findings."""
    findings = (text for label, text in record.sections if re.search("RESULT|FINDING", label))
    return " ".join([record.question, *findings])


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
