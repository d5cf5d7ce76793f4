"""The answer to the training question most like the one that is asked: what looking up gives.

A strong baseline where questions repeat ("What are the symptoms of …?"), and a plain one where they
do not; a model that has learned its training text by heart does no better. After Cover and Hart
1967, "Nearest neighbor pattern classification", with the cosine of TF-IDF as likeness.
"""

from typing import TYPE_CHECKING

import numpy as np

from clingpt.data.prepared import Prepared
from clingpt.evaluation.baselines import Tfidf
from clingpt.text.tasks import CUES, TASKS
from clingpt.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from clingpt.text.records import Record

NEAREST = "nearest training question"
MOST_QUESTIONS = 20_000  # to look among: about 100 MB


class Nearest:
    """Looks answers up among a prepared folder's training examples of explain."""

    def __init__(self, data: Prepared, tokenizer: Tokenizer) -> None:
        self._tokens, index = data.split("train").tokens, data.split("train").index
        self._decode = tokenizer.decode
        self._rows = index[index[:, 3] == TASKS.index("explain")][:MOST_QUESTIONS]
        asked = [
            question_in(self._text(start, target)) for start, target, *_ in self._rows.tolist()
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
        _, target, end, *_ = self._rows[place].tolist()
        return self._text(target, end - 1).strip()  # its last token ends the text

    def _text(self, start: int, end: int) -> str:
        return self._decode(self._tokens[start:end].tolist())


def question_in(prompt: str) -> str:
    """The question of a prompt of explain: prompt_text undone."""
    return prompt.removesuffix(f"\n{CUES['explain']}").rpartition("Question: ")[2]
