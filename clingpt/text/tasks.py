"""Tasks: turn a record into the prompt a model is given and the target it should write.

Five tasks turn one kind of record into different training examples. A prompt carries no loss; the
model learns to write the target, up to and including the end-of-text token. An example of `answer`,
whose prompt ends after "Answer:" and whose target is the rest:

    Context:
    RESULTS: Pain fell by 31% with the drug and by 8% with placebo (P = 0.002).
    Question: Does the drug relieve pain?
    Answer: yes
    Explanation: The drug relieved pain.<|endoftext|>

    task       prompt                                      target
    answer     context and question, then "Answer:"        yes, no or maybe, and the conclusion
    summarize  the labelled sections, then "Summary:"      the conclusion
    document   the sections as prose, then "Document:"     the same text under headings
    explain    context if any, question, "Explanation:"    the conclusion
    text       the end-of-text token                       the whole record, in windows

A prompt never ends in a space and a target always starts with one. GPT-2's tokenizer attaches a
space to the word after it (" yes" is one token), so the tokens of prompt and target, concatenated,
are exactly the tokens of the whole text, and at inference the model sees the same prompt tokens as
in training.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from clingpt.text.records import Record
from clingpt.text.sentences import split_sentences
from clingpt.text.tokenizer import EOT, Tokenizer

# A prepared folder stores a task as its position in this tuple: append, never reorder.
TASKS = ("answer", "summarize", "document", "text", "explain")
CUES = {"answer": "Answer:", "explain": "Explanation:"}  # tasks that need a question but no text
LABEL_IDS = (3763, 645, 3863)  # " yes", " no", " maybe": one GPT-2 token each, in LABELS' order
NO_ROOM = "prompt too long without any context"
# New tokens to generate unless the caller asks for a different number.
LONGEST_REPLY = {"answer": 160, "summarize": 160, "document": 448, "explain": 256}
LONGEST_SENTENCE_WORDS = 64  # tables and lists without full stops are cut into pieces this long

# Headings of a structured document, and the section labels that each stands for. Labels of real
# abstracts vary widely ("PATIENTS AND METHODS", "STUDY DESIGN"); the first pattern to match wins.
LABEL_PATTERNS = (
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
    """Raised if a record lacks what a task needs or does not fit; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """The tokens a model is given, and how many tokens of context were cut to fit the budget."""

    ids: list[int]
    trimmed_tokens: int


@dataclass(frozen=True, kw_only=True)
class Example:
    """Prompt tokens, which carry no loss, and target tokens, which do and end with end of text."""

    prompt_ids: list[int]
    target_ids: list[int]
    trimmed_tokens: int


# From a record to text


def prompt_text(task: str, record: Record) -> str:
    """Write the prompt of a task; raise NotApplicable, naming what the record lacks."""
    lines = "".join(f"{label}: {text}\n" for label, text in record.sections)
    if task in CUES:
        if not record.question:
            raise NotApplicable("no question")
        # `answer` always shows the word Context, so that a prompt whose context was trimmed away
        # still looks like the others. `explain` may be a question alone.
        context = f"Context:\n{lines}" if lines or task == "answer" else ""
        return f"{context}Question: {record.question}\n{CUES[task]}"
    if not record.sections:
        raise NotApplicable("no text")
    if task == "summarize":
        return f"Report:\n{lines}Summary:"
    if task == "document":
        # Plain prose, without labels: finding the headings is the task.
        return f"Notes:\n{' '.join(_notes(record))}\nDocument:"
    raise ValueError(f"the task {task} has no prompt")


def target_text(task: str, record: Record) -> str:
    """Write the target of a task, without end of text; raise NotApplicable if it is missing."""
    if task == "answer":
        if record.decision is None:
            raise NotApplicable("no yes/no/maybe")
        explanation = f"\nExplanation: {record.long_answer}" if record.long_answer else ""
        return f" {record.decision}{explanation}"
    if task == "document" and record.document is not None:
        return f" {record.document}"
    if record.long_answer is None:
        raise NotApplicable("no conclusion")
    return _derived_document(record) if task == "document" else f" {record.long_answer}"


def _notes(record: Record) -> list[str]:
    """List the texts that a document is written from.

    A derived document ends in the conclusion, so its notes must contain it: a model must not learn
    to invent one. A record that comes with a document needs no such addition.
    """
    texts = [text for _, text in record.sections]
    return [*texts, record.long_answer] if record.long_answer and not record.document else texts


def _derived_document(record: Record) -> str:
    """Arrange the sections of a structured abstract under the headings of a document."""
    texts: dict[str, list[str]] = {}
    for label, text in record.sections:
        if (name := heading(label)) is None:
            raise NotApplicable("a section of unknown kind")
        texts.setdefault(name, []).append(text)
    if len(texts) < 2:
        raise NotApplicable("fewer than two kinds of section")
    lines = [f"{name}: {' '.join(texts[name])}" for name in DOCUMENT_ORDER if name in texts]
    return " " + "\n".join([*lines, f"CONCLUSION: {record.long_answer}"])


def heading(label: str) -> str | None:
    """Return the document heading that a section label stands for."""
    return next((name for name, labels in LABEL_PATTERNS if re.search(labels, label.upper())), None)


# From text to tokens within a budget


def make_example(task: str, record: Record, tokenizer: Tokenizer, *, budget: int) -> Example:
    """Encode prompt and target in at most `budget` tokens together; the target is never cut."""
    target_ids = [*tokenizer.encode(target_text(task, record)), EOT]
    if len(target_ids) >= budget:
        raise NotApplicable("target too long")
    prompt = make_prompt(task, record, tokenizer, budget=budget - len(target_ids))
    if task == "document" and prompt.trimmed_tokens:
        # With trimmed notes but the full document, the model would learn to invent the difference.
        raise NotApplicable("target too long")
    return Example(
        prompt_ids=prompt.ids, target_ids=target_ids, trimmed_tokens=prompt.trimmed_tokens
    )


def make_prompt(task: str, record: Record, tokenizer: Tokenizer, *, budget: int) -> Prompt:
    """Encode a prompt in at most `budget` tokens, dropping whole sentences of the context.

    The question and the cue are never cut. Raises NotApplicable if they alone exceed the budget.
    """
    ids = tokenizer.encode(prompt_text(task, record))
    full = len(ids)
    # The number of tokens saved is an estimate, because text is encoded differently next to other
    # text: repeat until the prompt fits.
    while len(ids) > budget:
        record = _without_sentences(record, tokenizer, excess=len(ids) - budget)
        if not record.sections and task not in CUES:
            raise NotApplicable(NO_ROOM)
        ids = tokenizer.encode(prompt_text(task, record))
    return Prompt(ids=ids, trimmed_tokens=full - len(ids))


def _without_sentences(record: Record, tokenizer: Tokenizer, *, excess: int) -> Record:
    """Drop sentences from the end of sections until about `excess` tokens are saved.

    Later sections are trimmed first, and RESULTS last of all: they hold the evidence from which an
    answer follows.
    """
    texts = [text_pieces(text) for _, text in record.sections]
    if not any(texts):
        raise NotApplicable(NO_ROOM)
    labels = [label for label, _ in record.sections]
    for i in sorted(range(len(texts)), key=lambda i: (heading(labels[i]) == "RESULTS", -i)):
        while texts[i] and excess > 0:
            excess -= len(tokenizer.encode(" " + texts[i].pop()))
            if not texts[i]:  # the label goes with the last sentence
                excess -= len(tokenizer.encode(f"{labels[i]}:\n"))
    kept = zip(labels, texts, strict=True)
    return replace(record, sections=tuple((label, " ".join(t)) for label, t in kept if t))


def text_pieces(text: str) -> list[str]:
    """Split a text into sentences, and very long sentences into pieces."""
    return [
        " ".join(words[i : i + LONGEST_SENTENCE_WORDS])
        for words in map(str.split, split_sentences(text))
        for i in range(0, len(words), LONGEST_SENTENCE_WORDS)
    ]


def text_windows(record: Record, tokenizer: Tokenizer, *, budget: int) -> Iterator[Example]:
    """Yield the examples of the task `text`: the whole record in windows of `budget` tokens.

    Every token is a target exactly once. A window's prompt is the single token before it (end of
    text for the first window), because a model needs one token of input to predict the next.
    """
    lines = [f"{label}: {text}" for label, text in record.sections]
    parts = (record.question, *lines, record.long_answer, record.document)
    whole = "\n".join(part for part in parts if part)
    if not whole:
        raise NotApplicable("no text")
    ids = [EOT, *tokenizer.encode(whole), EOT]
    for start in range(0, len(ids) - 1, budget - 1):  # windows overlap by that one prompt token
        window = ids[start : start + budget]
        yield Example(prompt_ids=window[:1], target_ids=window[1:], trimmed_tokens=0)


# Parsing text


def parse_answer(prompt: str, target: str) -> Record:
    """Recover the record from the text of an `answer` example, without its id."""
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
    """Return the explanation in a reply to `answer`, without the label before it."""
    _, _, explanation = text.partition("Explanation:")
    return explanation.strip()


def source_text(record: Record, task: str) -> str | None:
    """Return everything that a reply may draw on: the whole prompt, before any trimming.

    Returns None for a question alone, because a reply from memory has no source to compare with.
    """
    if not record.sections:
        return None
    texts = _notes(record) if task == "document" else [record.context()]
    return " ".join(part for part in (record.question, *texts) if part)
