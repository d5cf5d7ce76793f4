"""Split a text longer than a model's context into several prompts, and join the replies.

Windows do not overlap, no word is left out, and no sentence that fits into a window is split.

A document can be written section by section (`prepare.py --long=sections`): each prompt shows one
window of the notes and asks for one section, and the model writes what that window says about it,
or NOTHING. In this way it reads all of a dialogue that is longer than its context, in training and
at inference:

    Notes:
    {one window of the dialogue}
    Section: {HEADING}
    Document: {what this window says under that heading}<|endoftext|>
"""

import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from random import Random
from typing import NamedTuple

from clingpt.text.documents import NOTHING, OPENING, DocumentForm, Draft, parse_document
from clingpt.text.records import Record
from clingpt.text.sentences import split_sentences
from clingpt.text.tasks import (
    NO_ROOM,
    Example,
    NotApplicable,
    Prompt,
    prompt_text,
    text_pieces,
)
from clingpt.text.tokenizer import Tokenizer

_WORD = re.compile(r"\w+")


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

    windows = _windows(task, record, tokenizer, budget)
    found = windows if most is None else islice(windows, most + 1)
    return [Prompt(ids=ids, trimmed_tokens=0) for _, ids in found]


def _windows(
    task: str, record: Record, tokenizer: Tokenizer, budget: int
) -> Iterator[tuple[Record, list[int]]]:
    """Yield the record with only the text of each window, and the prompt made of it."""

    def prompt(pieces: Sequence[Piece]) -> list[int]:
        return tokenizer.encode(prompt_text(task, _record(record, pieces)))

    ids = tokenizer.encode(prompt_text(task, record))
    if len(ids) <= budget:
        yield record, ids
        return
    rest = deque(
        _sized(section, f" {piece}", tokenizer)
        for section, (_, text) in enumerate(record.sections)
        for piece in text_pieces(text)
    )
    while rest:
        # Take as many pieces as could possibly fit, judging by their separate token counts, then
        # bisect for how many really do: labels and merges across pieces show up only in the whole
        # prompt.
        taken, room = [rest.popleft()], budget
        while rest and (room := room - taken[-1].n_tokens) > 0:
            taken.append(rest.popleft())
        n = bisect_right(range(1, len(taken) + 1), budget, key=lambda n: len(prompt(taken[:n])))
        rest.extendleft(reversed(taken[n:]))
        if n:
            yield _record(record, taken[:n]), prompt(taken[:n])
        else:
            rest.extendleft(reversed(_halves(rest.popleft(), tokenizer)))


def _sized(section: int, text: str, tokenizer: Tokenizer) -> Piece:
    return Piece(section, text, len(tokenizer.encode(text, inside=True)))


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


# Documents, section by section


def section_window(block_size: int) -> int:
    """Return how many tokens a prompt for one section may have; the rest is for the section.

    In ACI-Bench, 5/8 of 1,024 tokens leave room for all but a few of the sections.
    """
    return block_size * 5 // 8


def draft_sections(
    record: Record,
    tokenizer: Tokenizer,
    form: DocumentForm,
    *,
    context: int,
    longest: int,
    headings: Sequence[str] = (),
    most: int | None = None,
) -> Draft:
    """Make the prompts of a document, with room for sections of up to `longest` tokens each.

    The sections asked for are `headings` or, without any, the one of the record or all of the form.
    Stops after `most` + 1 windows. Raises NotApplicable if the record has no text.
    """
    is_section = bool(record.heading) and not headings
    asked = (*headings,) or ((record.heading,) if record.heading else form.headings)
    window = min(form.window or context, section_window(context))
    windows = section_windows(record, asked, tokenizer, window)
    parts = list(windows if most is None else islice(windows, most + 1))
    prompts = (
        tokenizer.encode(prompt_text("document", replace(part, heading=name)))
        for name in asked
        for part in parts
    )
    return Draft(
        tuple(Prompt(ids=ids, trimmed_tokens=0) for ids in prompts),
        min(longest, context - window),
        asked,
        is_section,
    )


def section_windows(
    record: Record, headings: Sequence[str], tokenizer: Tokenizer, budget: int
) -> Iterator[Record]:
    """Yield the record with only the text of each window, whichever section is asked for."""
    longest = max(headings, key=lambda name: len(tokenizer.encode(name, inside=True)))
    asked = replace(record, heading=longest)
    return (part for part, _ in _windows("document", asked, tokenizer, budget))


def section_examples(
    record: Record, tokenizer: Tokenizer, form: DocumentForm, *, budget: int
) -> tuple[list[Example], int]:
    """Make the examples of a document section by section, and count those that are too long.

    Each sentence of a section belongs to the window that has most of its words. At inference every
    window is asked for every section, those that the document lacks included. Most of these prompts
    have the target NOTHING. As many of them are kept as there are other examples, drawn by the text
    itself: with all of them, NOTHING would be the best guess whatever the prompt.
    """
    assert record.document is not None and form.window is not None
    if record.heading:
        sections = [(record.heading, record.document)]
    else:
        sections = parse_document(record.document, form.headings)
        if not any(name != OPENING for name, _ in sections):
            raise NotApplicable("no heading that recurs in the data")
    texts: dict[str, str] = {}
    for name, text in sections:
        texts[name] = f"{texts[name]}\n{text}" if name in texts else text
    headings = (record.heading,) if record.heading else form.headings
    windows = list(section_windows(record, headings, tokenizer, form.window))
    vocabularies = [_words(" ".join(text for _, text in each.sections)) for each in windows]
    written, empty, n_too_long = list[Example](), list[Example](), 0
    for name in headings:
        parts = share_out(texts.get(name, ""), vocabularies)
        for window, part in zip(windows, parts, strict=True):
            prompt = tokenizer.encode(prompt_text("document", replace(window, heading=name)))
            target = [*tokenizer.encode(f" {part or NOTHING}"), tokenizer.eot]
            if len(prompt) + len(target) > budget:
                n_too_long += 1
                continue
            example = Example(prompt_ids=prompt, target_ids=target, trimmed_tokens=0)
            (written if part else empty).append(example)
    n_empty = min(len(written), len(empty))
    return written + Random(record.document).sample(empty, n_empty), n_too_long


def share_out(text: str, vocabularies: Sequence[set[str]]) -> list[str]:
    """Divide the sentences of a text among windows, given the words of each.

    A sentence goes to the first of the windows that have most of its words, and one whose words no
    window has goes where the sentence before it went. Line breaks are kept.
    """
    parts: list[list[str]] = [[] for _ in vocabularies]
    place = 0
    for line in filter(None, map(str.strip, text.split("\n"))):
        starts = set[int]()  # windows that have the beginning of this line already
        for sentence in split_sentences(line):
            words = _words(sentence)
            overlaps = [len(words & vocabulary) for vocabulary in vocabularies]
            place = overlaps.index(max(overlaps)) if max(overlaps) else place
            if place in starts:
                parts[place][-1] += f" {sentence}"
            else:
                parts[place].append(sentence)
            starts.add(place)
    return ["\n".join(lines) for lines in parts]


def _words(text: str) -> set[str]:
    """Return the words that show what a text is about: with digits, or of four letters or more."""
    words = _WORD.findall(text.casefold())
    return {word for word in words if len(word) > 3 or any(map(str.isdigit, word))}
