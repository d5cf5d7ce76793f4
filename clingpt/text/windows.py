"""A text longer than a model's context, taken in pieces, and what was written from them joined.

No word is left out and no sentence cut that fits a piece; pieces don't overlap.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from clingpt.text.records import Record
from clingpt.text.tasks import NO_ROOM, NotApplicable, Prompt, prompt_text, text_pieces
from clingpt.text.tokenizer import Tokenizer


class Piece(NamedTuple):
    """A part of a section."""

    section: int
    text: str  # with the blank before it; without one inside a word
    n_tokens: int


def split_windows(
    task: str, record: Record, tokenizer: Tokenizer, *, budget: int, most: int | None = None
) -> list[Prompt]:
    """The prompts of a task for consecutive pieces of a record, each at most `budget` tokens.

    Where they are more than `most`, only one more: they will not be used, and take time to make.
    A sentence that is too long for a prompt of its own is halved between words, a word inside.
    NotApplicable where the record has no text, or the budget no room beside the prompt's own words.
    """

    def prompt(pieces: Sequence[Piece]) -> list[int]:
        return tokenizer.encode(prompt_text(task, _record(record, pieces)))

    ids = tokenizer.encode(prompt_text(task, record))
    if len(ids) <= budget:
        return [Prompt(ids=ids, trimmed_tokens=0)]
    rest = deque(
        _sized(section, f" {piece}", tokenizer)
        for section, (_, text) in enumerate(record.sections)
        for piece in text_pieces(text)
    )
    prompts: list[Prompt] = []
    while rest and (most is None or len(prompts) <= most):
        taken, room = [rest.popleft()], budget
        while rest and (room := room - taken[-1].n_tokens) > 0:
            taken.append(rest.popleft())
        # Far fewer than were taken, where every piece brings the name of a section.
        n = bisect_right(range(1, len(taken) + 1), budget, key=lambda n: len(prompt(taken[:n])))
        rest.extendleft(reversed(taken[n:]))
        if n:
            prompts.append(Prompt(ids=prompt(taken[:n]), trimmed_tokens=0))
        else:
            rest.extendleft(reversed(_halves(rest.popleft(), tokenizer)))
    return prompts


def _sized(section: int, text: str, tokenizer: Tokenizer) -> Piece:
    return Piece(section, text, len(tokenizer.encode(text)))


def _halves(piece: Piece, tokenizer: Tokenizer) -> list[Piece]:
    """The first half of a piece and the second one."""
    words = piece.text.split()
    # Between two words, or inside the only one.
    middle = len(" ".join(["", *words[: len(words) // 2]])) or (len(piece.text) + 1) // 2
    first, second = piece.text[:middle], piece.text[middle:]
    if not (first.strip() and second):
        raise NotApplicable(NO_ROOM)
    return [_sized(piece.section, text, tokenizer) for text in (first, second)]


def _record(record: Record, pieces: Sequence[Piece]) -> Record:
    texts: dict[int, str] = {}
    for piece in pieces:
        texts[piece.section] = texts.get(piece.section, "") + piece.text
    labels = [label for label, _ in record.sections]
    sections = tuple((labels[section], text.strip()) for section, text in texts.items())
    return replace(record, sections=sections)


def join_summaries(texts: Sequence[str]) -> str:
    """Summaries of consecutive pieces, one after another."""
    return " ".join(text.strip() for text in texts if text.strip())
