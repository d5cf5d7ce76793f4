"""Tasks: what a record is asked and what the right reply is, as text and as tokens within a budget.

A prompt never ends in a blank and a target starts with one, so that their GPT-2 tokens put together
are the tokens of the whole text. For example, for `answer`:

    Context:                                                                  (prompt, no loss)
    RESULTS: Pain fell by 31% with the drug and by 8% with placebo (P = 0.002).
    Question: Does the drug relieve pain?
    Answer: yes                                                      (target, from " yes" on)
    Explanation: The drug relieved pain.<|endoftext|>

`explain` asks for the explanation alone, by the same cue, with or without a context:

    Question: What are the symptoms of asthma?
    Explanation: Wheezing, cough and breathlessness.<|endoftext|>         (target, from " Wh" on)
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from clingpt.text.records import Record
from clingpt.text.sentences import split_sentences
from clingpt.text.tokenizer import EOT, Tokenizer

TASKS = ("answer", "summarize", "document", "text", "explain")  # in prepared folders by their place
CUES = {"answer": "Answer:", "explain": "Explanation:"}  # of tasks that need a question, no text
LABEL_IDS = (3763, 645, 3863)  # " yes", " no", " maybe": one GPT-2 token each, in LABELS' order
NO_ROOM = "prompt too long without any context"
# Tokens, where nothing else is asked.
LONGEST_REPLY = {"answer": 160, "summarize": 160, "document": 448, "explain": 256}
LONGEST_SENTENCE_WORDS = 64  # a table or a list without full stops is cut in pieces of so many

# Section names onto the headings of a structured report; the first match wins.
HEADINGS = (
    ("RESULTS", r"RESULT|FINDING|OBSERVATION|DATA SYNTHESIS"),
    ("DISCUSSION", r"DISCUSSION|LIMITATION|^SUMMARY$"),
    ("BACKGROUND", r"BACKGROUND|OBJECT|PURPOSE|INTRODUCTION|AIM|CONTEXT|HYPOTHES|RATIONALE|GOAL"),
    (
        "METHODS",
        r"METHOD|DESIGN|SETTING|PATIENT|PARTICIPANT|SUBJECT|PROBAND|MATERIAL|INTERVENTION|MEASURE"
        r"|OUTCOME|END POINT|POPULATION|SAMPLE|DATA|COLLECTION|EXTRACTION|LOCATION|STUDY|TRIAL"
        r"|VARIABLES|CASE|DESCRIPTION|PRESENTATION",
    ),
)
DOCUMENT_ORDER = ("BACKGROUND", "METHODS", "RESULTS", "DISCUSSION")


class NotApplicable(Exception):
    """The record lacks what the task needs, or does not fit; the message is the reason to count."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What the model is given, and how many tokens of context had to go to fit the budget."""

    ids: list[int]
    trimmed_tokens: int


@dataclass(frozen=True, kw_only=True)
class Example:
    """Prompt tokens without loss, then target tokens with it, end of text included."""

    prompt_ids: list[int]
    target_ids: list[int]
    trimmed_tokens: int


def heading(label: str) -> str | None:
    """The heading of a structured report that a section's name stands for."""
    return next((name for name, names in HEADINGS if re.search(names, label.upper())), None)


def prompt_text(task: str, record: Record) -> str:
    """The prompt of a task; NotApplicable says what the record lacks."""
    lines = "".join(f"{label}: {text}\n" for label, text in record.sections)
    if task in CUES:
        if not record.question:
            raise NotApplicable("no question")
        context = f"Context:\n{lines}" if lines or task == "answer" else ""
        return f"{context}Question: {record.question}\n{CUES[task]}"
    if not record.sections:
        raise NotApplicable("no text")
    if task == "summarize":
        return f"Report:\n{lines}Summary:"
    if task == "document":
        notes = " ".join(_notes(record))
        return f"Notes:\n{notes}\nDocument:"
    raise ValueError(f"the task {task} has no prompt")


def target_text(task: str, record: Record) -> str:
    """The reply that a task wants, without the end of text; NotApplicable says what is missing."""
    if task == "answer":
        if record.decision is None:
            raise NotApplicable("no yes/no/maybe")
        explanation = f"\nExplanation: {record.long_answer}" if record.long_answer else ""
        return f" {record.decision}{explanation}"
    if task == "document" and record.document is not None:
        return f" {record.document}"
    if record.long_answer is None:
        raise NotApplicable("no conclusion")
    return _document(record) if task == "document" else f" {record.long_answer}"


def _notes(record: Record) -> list[str]:
    """What a document is made of. Ours ends in the conclusion; one of its own needs none."""
    parts = [text for _, text in record.sections]
    return [*parts, record.long_answer] if record.long_answer and not record.document else parts


def _document(record: Record) -> str:
    texts: dict[str, list[str]] = {}
    for label, text in record.sections:
        if (name := heading(label)) is None:
            raise NotApplicable("a section of unknown kind")
        texts.setdefault(name, []).append(text)
    if len(texts) < 2:
        raise NotApplicable("fewer than two kinds of section")
    lines = [f"{name}: {' '.join(texts[name])}" for name in DOCUMENT_ORDER if name in texts]
    return " " + "\n".join([*lines, f"CONCLUSION: {record.long_answer}"])


def parse_answer(prompt: str, target: str) -> Record:
    """The record behind an answer example's text: prompt_text and target_text, undone."""
    context, _, question = prompt.removesuffix("\nAnswer:").rpartition("Question: ")
    lines = context.removeprefix("Context:\n").splitlines()
    pairs = (line.partition(": ") for line in lines)
    label, _, explanation = target.strip().partition("\nExplanation: ")
    return Record(
        id="",
        question=question,
        sections=tuple((label, text) for label, _, text in pairs),
        long_answer=explanation or None,
        decision=label,
    )


def explained(text: str) -> str:
    """The explanation of an answer, without its label line; not for `explain`, which has none."""
    _, _, explanation = text.partition("Explanation:")
    return explanation.strip()


def make_prompt(task: str, record: Record, tokenizer: Tokenizer, *, budget: int) -> Prompt:
    """The prompt in at most `budget` tokens: whole sentences of context go, never the question."""
    ids = tokenizer.encode(prompt_text(task, record))
    full = len(ids)
    while len(ids) > budget:
        record = _without_sentences(record, tokenizer, excess=len(ids) - budget)
        if not record.sections and task not in CUES:
            raise NotApplicable(NO_ROOM)
        ids = tokenizer.encode(prompt_text(task, record))
    return Prompt(ids=ids, trimmed_tokens=full - len(ids))


def make_example(task: str, record: Record, tokenizer: Tokenizer, *, budget: int) -> Example:
    """Prompt and target in at most `budget` tokens together; the target is never cut."""
    target_ids = [*tokenizer.encode(target_text(task, record)), EOT]
    if len(target_ids) >= budget:
        raise NotApplicable("target too long")
    prompt = make_prompt(task, record, tokenizer, budget=budget - len(target_ids))
    if task == "document" and prompt.trimmed_tokens:
        # Shorter notes under the same document would teach the model to invent the difference.
        raise NotApplicable("target too long")
    return Example(
        prompt_ids=prompt.ids, target_ids=target_ids, trimmed_tokens=prompt.trimmed_tokens
    )


def _without_sentences(record: Record, tokenizer: Tokenizer, *, excess: int) -> Record:
    """The record less enough sentences from the end of its sections, RESULTS last, to save tokens.

    RESULTS hold the evidence that an answer follows from.
    """
    texts = [text_pieces(text) for _, text in record.sections]
    order = sorted(
        range(len(texts)), key=lambda i: (heading(record.sections[i][0]) == "RESULTS", -i)
    )
    if not any(texts):
        raise NotApplicable(NO_ROOM)
    for i in order:
        while texts[i] and excess > 0:
            excess -= len(tokenizer.encode(" " + texts[i].pop()))
            if not texts[i]:  # the section's name goes with its last sentence
                excess -= len(tokenizer.encode(f"{record.sections[i][0]}:\n"))
    labels = (label for label, _ in record.sections)
    kept = zip(labels, texts, strict=True)
    return replace(record, sections=tuple((label, " ".join(t)) for label, t in kept if t))


def text_pieces(text: str) -> list[str]:
    """The sentences of a text, very long ones in parts."""
    return [
        " ".join(words[i : i + LONGEST_SENTENCE_WORDS])
        for words in map(str.split, split_sentences(text))
        for i in range(0, len(words), LONGEST_SENTENCE_WORDS)
    ]


def text_windows(record: Record, tokenizer: Tokenizer, *, budget: int) -> Iterator[Example]:
    """The record's whole text after an end of text, in windows that score each token once.

    A window starts with the token before it (the end of text before the first one), unscored.
    """
    lines = [f"{label}: {text}" for label, text in record.sections]
    parts = (record.question, *lines, record.long_answer, record.document)
    whole = "\n".join(part for part in parts if part)
    if not whole:
        raise NotApplicable("no text")
    ids = [EOT, *tokenizer.encode(whole), EOT]
    for start in range(0, len(ids) - 1, budget - 1):
        window = ids[start : start + budget]
        yield Example(prompt_ids=window[:1], target_ids=window[1:], trimmed_tokens=0)


def source_text(record: Record, task: str) -> str | None:
    """What an output may say: all that its prompt showed before it was trimmed.

    None where it showed a question alone: a reply from memory has no source to be compared with.
    """
    if not record.sections:
        return None
    told = _notes(record) if task == "document" else [record.context()]
    return " ".join(part for part in (record.question, *told) if part)
