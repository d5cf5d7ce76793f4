"""Split a text longer than a model's context into several prompts, and join the replies.

Windows do not overlap, no word is left out, and no sentence that fits into a window is split.
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
    """A sentence, or part of one, waiting to be put into a window."""

    section: int
    text: str  # starts with a space, unless it continues a word that was split
    n_tokens: int


def split_windows(
    task: str, record: Record, tokenizer: Tokenizer, *, budget: int, most: int | None = None
) -> list[Prompt]:
    """Make prompts of at most `budget` tokens for consecutive parts of a record.

    Stops after `most` + 1 prompts, which is enough for the caller to see that there are too many. A
    sentence too long for one prompt is halved between words, and a single word in the middle.
    Raises NotApplicable if the record has no text or the budget leaves no room for any.
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
        # Take as many pieces as could possibly fit, judging by their separate token counts, then
        # bisect for how many really do: labels and merges across pieces show up only in the whole
        # prompt.
        taken, room = [rest.popleft()], budget
        while rest and (room := room - taken[-1].n_tokens) > 0:
            taken.append(rest.popleft())
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
    """Split a piece in two, between words or within its only word."""
    words = piece.text.split()
    middle = len(" ".join(["", *words[: len(words) // 2]])) or (len(piece.text) + 1) // 2
    first, second = piece.text[:middle], piece.text[middle:]
    if not (first.strip() and second):
        raise NotApplicable(NO_ROOM)
    return [_sized(piece.section, text, tokenizer) for text in (first, second)]


def _record(record: Record, pieces: Sequence[Piece]) -> Record:
    """Return the record with only these pieces, under their own labels."""
    texts: dict[int, str] = {}
    for piece in pieces:
        texts[piece.section] = texts.get(piece.section, "") + piece.text
    labels = [label for label, _ in record.sections]
    sections = tuple((labels[section], text.strip()) for section, text in texts.items())
    return replace(record, sections=sections)


def join_summaries(texts: Sequence[str]) -> str:
    """Join the summaries of consecutive windows."""
    return " ".join(text.strip() for text in texts if text.strip())
