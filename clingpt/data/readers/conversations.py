"""Instruction data: conversations (`messages`, ShareGPT), SQuAD and BioASQ, as rows of a table.

The last turn of the assistant is the target. The turns before it are returned in two forms, of
which clingpt/data/columns.py chooses by task: `input` is the whole conversation; `question` is the
last turn before the target, and `earlier_turns` are those before the question. `system` contains
the system messages.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from clingpt.base.errors import DataError
from clingpt.data.cells import NotText, parse, texts_in
from clingpt.data.readers.text_file import OnBad, Placed, Row, shown_name
from clingpt.text.records import PASTED, clean

TURNS = ("messages", "conversations", "conversation")  # columns with the turns of a conversation
TRL = ("prompt", "completion")  # two lists of turns that follow one another
CONVERSATION_COLUMNS = frozenset((*TURNS, *TRL))
ROLES = {
    name: role
    for role, names in {
        "system": "system developer",
        "user": "user human prompter",
        "assistant": "assistant gpt chatgpt bot model ai",
        "tool": "tool function observation function_response",
    }.items()
    for name in names.split()
}


class Turn(NamedTuple):
    """One message of a conversation."""

    role: str  # one of the values of ROLES
    text: str


# Conversations


def is_conversation(row: Row) -> bool:
    """Return whether a row has a conversation: a list of turns with roles, or an empty one."""
    return bool(_turns_of(row)) or any(row.get(name) == [] for name in TURNS)


def iter_conversations(rows: Iterable[Placed], on_bad: OnBad) -> Iterator[Placed]:
    """Yield a row for each conversation; its other columns stay as they are."""
    for place, row in rows:
        try:
            turns = [_turn(each) for each in _turns_of(row)]
            parts = _parts([turn for turn in turns if turn])
        except DataError as error:
            on_bad(DataError(f"{place}: {error}"))
        else:
            others = {name: row[name] for name in row if name not in CONVERSATION_COLUMNS}
            yield place, others | parts


def _turns_of(row: Row) -> Sequence[Mapping[str, Any]]:
    """Return the turns of a row as they are in the file; none if it has no conversation."""
    for name in TURNS:
        if turns := _listed(row.get(name)):
            return turns
    prompt, completion = (_listed(row.get(name)) for name in TRL)
    return [*prompt, *completion] if prompt and completion else []


def _listed(cell: object) -> Sequence[Mapping[str, Any]]:
    """Return a cell, or the structure printed in it, if it is a list of turns."""
    try:
        value = parse(cell) if isinstance(cell, str) else cell
    except NotText:
        return []
    if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
        return []
    named = all({"role", "from"} & each.keys() for each in value)
    return value if value and named else []


def _turn(message: Mapping[str, Any]) -> Turn | None:
    """Read one message; None if it has no text, such as a call of a tool."""
    name = str(message.get("role", message.get("from", "")))
    role = ROLES.get(clean(name).lower())
    if role is None:
        raise DataError(
            f"a turn has the unknown role {shown_name(name)!r}; known roles are {', '.join(ROLES)}"
        )
    content = message.get("content", message.get("value"))
    parts = content if isinstance(content, list) else [content]
    for part in parts:
        kind = part.get("type", "text") if isinstance(part, Mapping) else "text"
        if kind not in ("text", "input_text", "output_text"):
            raise DataError(
                f"a turn has a part of type {shown_name(str(kind))!r}, which is not text"
            )
    text = "\n".join(texts_in(parts))
    return Turn(role, text) if clean(text) else None


def _parts(turns: Sequence[Turn]) -> dict[str, object]:
    """Divide a conversation into its last answer and the turns before it.

    Raises DataError if there is no answer, or nothing before it.
    """
    answers = [n for n, turn in enumerate(turns) if turn.role == "assistant"]
    if not answers:
        raise DataError("the conversation has no turn of the assistant, so there is no target")
    asked = [turn for turn in turns[: answers[-1]] if turn.role != "system"]
    if not asked:
        raise DataError("the conversation begins with the assistant, so there is nothing to read")
    instructions = [turn.text for turn in turns[: answers[-1]] if turn.role == "system"]
    return {
        "system": "\n".join(instructions) or None,
        "earlier_turns": _sections(asked[:-1]),
        "question": asked[-1].text,
        "input": _sections(asked),
        "target": turns[answers[-1]].text,
    }


def _sections(turns: Sequence[Turn]) -> list[list[str]] | None:
    """Label each turn with its role; a single turn of the user is a text without a label."""
    if len(turns) == 1 and turns[0].role == "user":
        return [[PASTED, turns[0].text]]
    return [[turn.role.upper(), turn.text] for turn in turns] or None


# SQuAD


def is_squad(row: Row) -> bool:
    """Return whether a row is an article of SQuAD: paragraphs, each with questions."""
    return isinstance(row.get("paragraphs"), list)


def iter_squad(rows: Iterable[Placed], on_bad: OnBad) -> Iterator[Placed]:
    """Yield a row for each question; all questions about an article have the same `article_id`.

    The target is the first of several answers. A question without an answer has no target.
    """
    for place, article in rows:
        try:
            yield from [(place, row) for row in _squad_rows(article)]
        except (KeyError, TypeError, AttributeError):
            what = "paragraphs with `context` and `qas`, a list of `question` and `answers`"
            on_bad(DataError(f"{place}: not an article of SQuAD, which has {what}"))


def _squad_rows(article: Mapping[str, Any]) -> Iterator[Row]:
    for paragraph in article["paragraphs"]:
        context = paragraph["context"]
        about = paragraph.get("document_id") or article.get("title")
        if about is None:  # the same passage must not be in two splits
            about = hashlib.sha256(context.encode()).hexdigest()[:16]
        for asked in paragraph["qas"]:
            answers = [] if asked.get("is_impossible") else asked.get("answers") or []
            yield {
                "id": asked.get("id"),
                "article_id": about,
                "question": asked["question"],
                "input": context,
                "target": next(iter(texts_in(answers)), None),
            }


# BioASQ


def is_bioasq(row: Row) -> bool:
    """Return whether a row is a question of BioASQ."""
    return "body" in row and bool({"ideal_answer", "exact_answer", "snippets"} & row.keys())


def iter_bioasq(rows: Iterable[Placed], on_bad: OnBad) -> Iterator[Placed]:
    """Yield a row for each question: its snippets, the ideal answer, and yes or no if it has one.

    Without an ideal answer, the exact one is the target, by its first synonym.
    """
    for place, row in rows:
        exact = row.get("exact_answer")
        try:
            snippets = list(dict.fromkeys(texts_in(row.get("snippets"))))
            ideal = texts_in(row.get("ideal_answer"))
            names = exact if isinstance(exact, list) else [exact]
            others = [text for name in names for text in texts_in(name)[:1]]
        except NotText as error:
            on_bad(DataError(f"{place}: an answer or a snippet is {error}"))
            continue
        is_decision = row.get("type") == "yesno" and len(others) == 1
        yield (
            place,
            {
                "id": row.get("id"),
                "question": row["body"],
                "input": " ".join(snippets) or None,
                "target": ideal[0] if ideal else None if is_decision else "; ".join(others) or None,
                "decision": others[0] if is_decision else None,
            },
        )
