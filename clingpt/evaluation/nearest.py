"""The answer to the training question most like the one that is asked: what looking up gives.

A strong baseline where questions repeat ("What are the symptoms of …?"), and a plain one where they
do not; a model that has learned its training text by heart does no better. After Cover and Hart
1967, "Nearest neighbor pattern classification", with the cosine of TF-IDF as likeness.
"""

from typing import TYPE_CHECKING

import numpy as np

from clingpt.data.prepared import Prepared
from clingpt.evaluation.baselines import Tfidf
from clingpt.text.tasks import CUES
from clingpt.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from clingpt.text.records import Record

NEAREST = "nearest training question"
MOST_QUESTIONS = 20_000  # to look among: about 100 MB


class Nearest:
    """Looks answers up among a prepared folder's training examples of explain."""

    def __init__(self, data: Prepared, tokenizer: Tokenizer) -> None:
        self._train, self._decode = data.split("train"), tokenizer.decode
        self._rows = self._train.rows_of("explain")[:MOST_QUESTIONS]
        asked = [
            question_in(self._decode(self._train.example(row).prompt_ids)) for row in self._rows
        ]
        self._tfidf = Tfidf.learn(asked)
        self._likeness = self._tfidf.transform(asked)

    def __len__(self) -> int:
        return len(self._rows)

    def answer(self, record: "Record") -> str:
        """What the training set answers to the question most like this record's, the first of
        several."""
        asked = self._tfidf.transform([record.question])
        column = np.zeros((len(self._tfidf.column_of), 1))
        column[asked.columns, 0] = asked.values
        place = int(self._likeness.times(column).argmax())
        target_ids = self._train.example(self._rows[place]).target_ids
        return self._decode(target_ids[:-1]).strip()  # without the end of text


def question_in(prompt: str) -> str:
    """The question of a prompt of explain: prompt_text undone."""
    return prompt.removesuffix(f"\n{CUES['explain']}").rpartition("Question: ")[2]
