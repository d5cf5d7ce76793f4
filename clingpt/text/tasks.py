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
    document   the sections as prose, then "Document:"     the same text under headings, or the
                                                           record's own document
    explain    context if any, question, "Explanation:"    the conclusion
    text       the end-of-text token                       the whole record, in windows

A document can also be asked for section by section (clingpt/text/windows.py).

A prompt never ends with a space and a target always starts with one. GPT-2's tokenizer attaches a
space to the word after it (" yes" is one token), so the tokens of prompt and target, concatenated,
are exactly the tokens of the whole text, and at inference the model sees the same prompt tokens as
in training.

To add a task, append it to TASK_TABLE. Preparing, training, sampling and evaluation read everything
they need to know about it from there.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from clingpt.text.records import LABELS, Record
from clingpt.text.sentences import split_sentences
from clingpt.text.tokenizer import Tokenizer

NO_ROOM = "prompt too long without any context"
# Baselines of clingpt/evaluation/baselines.py that copy a sentence or two from the record.
COPIES = ("lead-1", "lead-3", "question", "question + last sentence", "closest sentence")
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
class Task:
    """Everything that the rest of the project needs to know about a task.

    A prompt consists of `opening`, the context, the question if `asks`, and `cue`. The prompt of a
    document may ask for one section: `Section: HEADING` is then in the place of the question. The
    task `text` alone has no cue, and therefore no prompt, target or reply.
    """

    # What the model reads.
    opening: str = ""  # line above the context
    # If a record has no text, a required context makes it not applicable, an expected one leaves
    # only the opening, and an optional one leaves out the opening too.
    context: Literal["required", "expected", "optional"] = "required"
    asks: bool = False  # the prompt contains the record's question, which it cannot do without
    cue: str = ""  # last line, after which the reply begins

    # What the model writes.
    target: Callable[[Record], str] | None = None  # text of the target; raises NotApplicable
    # The target restates the whole context: the prompt shows it as prose without labels, and is
    # never trimmed in training.
    restates: bool = False
    writes_question: bool = False  # the target is the question, so it is not a source of the reply
    longest_reply: int = 160  # new tokens to generate unless the caller asks for a different number
    limit_flag: str = "max_new_tokens"  # the flag of eval.py that limits its replies
    skill: str  # what the model does, for its card: "summarises a report"
    verb: str = ""  # the same in short, after "trained to"; empty: the task's name
    # Baselines that copy from the record. Leave out those that copy what the target is made of.
    # Answers of the training split are baselines of every task.
    baselines: tuple[str, ...] = COPIES

    # Roles of a table's columns (clingpt/data/columns.py), in the order of assignment.
    needed: tuple[str, ...] = ()  # prepare.py stops if one of these is not found
    welcome: tuple[str, ...] = ()  # used if present

    @property
    def concludes(self) -> bool:
        """Whether the target contains the record's conclusion, which tables call the target."""
        return "target" in (*self.needed, *self.welcome)


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


def answer_target(record: Record) -> str:
    """Write the label, and the conclusion if there is one."""
    if record.decision is None:
        raise NotApplicable("no yes/no/maybe")
    explanation = f"\nExplanation: {record.long_answer}" if record.long_answer else ""
    return f" {record.decision}{explanation}"


def conclusion(record: Record) -> str:
    """Write the conclusion."""
    if record.long_answer is None:
        raise NotApplicable("no conclusion")
    return f" {record.long_answer}"


def document_target(record: Record) -> str:
    """Write the record's document, or derive one from a structured abstract.

    A derived document arranges the sections under the headings of DOCUMENT_ORDER and ends with the
    conclusion.
    """
    if record.document is not None:
        return f" {record.document}"
    end = f"CONCLUSION:{conclusion(record)}"
    texts: dict[str, list[str]] = {}
    for label, text in record.sections:
        if (name := heading(label)) is None:
            raise NotApplicable("a section of unknown kind")
        texts.setdefault(name, []).append(text)
    if len(texts) < 2:
        raise NotApplicable("fewer than two kinds of section")
    lines = [f"{name}: {' '.join(texts[name])}" for name in DOCUMENT_ORDER if name in texts]
    return " " + "\n".join([*lines, end])


def heading(label: str) -> str | None:
    """Return the document heading that a section label stands for."""
    return next((name for name, labels in LABEL_PATTERNS if re.search(labels, label.upper())), None)


# A prepared folder stores a task as its position in this table: append, never reorder.
TASK_TABLE = {
    "answer": Task(
        opening="Context:",
        context="expected",  # so that a prompt whose context was trimmed away looks like the others
        asks=True,
        cue="Answer:",
        target=answer_target,
        skill="answers a question about an abstract with yes, no or maybe and an explanation",
        needed=("question", "decision"),
        welcome=("target", "input"),
    ),
    "summarize": Task(
        opening="Report:",
        cue="Summary:",
        target=conclusion,
        skill="summarises a report",
        needed=("target", "input"),
    ),
    "document": Task(
        opening="Notes:",
        cue="Document:",
        target=document_target,
        restates=True,  # finding the headings is the task
        longest_reply=448,
        limit_flag="max_document_tokens",
        skill="drafts a structured document from notes",
        verb="draft documents",
        baselines=(),  # copying a document from its own sections would be the task itself
        needed=("document", "input"),
        welcome=("heading",),
    ),
    "text": Task(skill="continues text", welcome=("question", "target", "input")),
    "explain": Task(
        opening="Context:",
        context="optional",
        asks=True,
        cue="Explanation:",
        target=conclusion,
        longest_reply=256,
        limit_flag="max_prose_tokens",
        skill="answers a question in prose, with or without a text to answer from",
        needed=("question", "target"),
        welcome=("input",),
    ),
}
TASKS = tuple(TASK_TABLE)
PROMPTED = tuple(name for name, task in TASK_TABLE.items() if task.cue)  # all except `text`


def prompt_text(task: str, record: Record) -> str:
    """Write the prompt of a task; raise NotApplicable, naming what the record lacks."""
    facts = TASK_TABLE[task]
    if not facts.cue:
        raise ValueError(f"the task {task} has no prompt")
    if facts.asks and not record.question:
        raise NotApplicable("no question")
    if facts.context == "required" and not record.sections:
        raise NotApplicable("no text")
    if facts.restates:
        lines = " ".join(_notes(record)) + "\n"
    else:
        lines = "".join(f"{label}: {text}\n" for label, text in record.sections)
    opening = f"{facts.opening}\n" if lines or facts.context != "optional" else ""
    question = f"Question: {record.question}\n" if facts.asks else ""
    if facts.restates and record.heading:
        question = f"Section: {record.heading}\n"
    return f"{opening}{lines}{question}{facts.cue}"


def target_text(task: str, record: Record) -> str:
    """Write the target of a task, without end of text; raise NotApplicable if it is missing."""
    target = TASK_TABLE[task].target
    if target is None:
        raise ValueError(f"the task {task} has no target")
    return target(record)


def whole_text(record: Record) -> str:
    """Write everything in a record, for the task `text`; raise NotApplicable if it is empty."""
    lines = [f"{label}: {text}" for label, text in record.sections]
    parts = (record.question, *lines, record.long_answer, record.document)
    whole = "\n".join(part for part in parts if part)
    if not whole:
        raise NotApplicable("no text")
    return whole


def example_text(task: str, record: Record) -> str:
    """Write the text of a record's example of any task, untrimmed and without end of text."""
    if not TASK_TABLE[task].cue:
        return whole_text(record)
    return prompt_text(task, record) + target_text(task, record)


def _notes(record: Record) -> list[str]:
    """List the texts that a document is written from.

    A derived document ends with the conclusion, so its notes must contain it: a model must not
    learn to invent one. A record that comes with a document needs no such addition.
    """
    texts = [text for _, text in record.sections]
    return [*texts, record.long_answer] if record.long_answer and not record.document else texts


# From text to tokens within a budget


def make_example(task: str, record: Record, tokenizer: Tokenizer, *, budget: int) -> Example:
    """Encode prompt and target in at most `budget` tokens together; the target is never cut."""
    target_ids = [*tokenizer.encode(target_text(task, record)), tokenizer.eot]
    if len(target_ids) >= budget:
        raise NotApplicable("target too long")
    prompt = make_prompt(task, record, tokenizer, budget=budget - len(target_ids))
    if TASK_TABLE[task].restates and prompt.trimmed_tokens:
        # From trimmed notes and the full document, the model would learn to invent the difference.
        # It is the target that left too little room for the notes, hence the same reason.
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
        if not record.sections and TASK_TABLE[task].context == "required":
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
                excess -= len(tokenizer.encode(f"{labels[i]}:\n", inside=True))
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

    Not to be confused with clingpt/text/windows.py, which splits a prompt for the server.

    Every token is a target exactly once. A window's prompt is the single token before it (end of
    text for the first window), because a model needs one token of input to predict the next.
    """
    ids = [tokenizer.eot, *tokenizer.encode(whole_text(record)), tokenizer.eot]
    for start in range(0, len(ids) - 1, budget - 1):  # windows overlap by that one prompt token
        window = ids[start : start + budget]
        yield Example(prompt_ids=window[:1], target_ids=window[1:], trimmed_tokens=0)


# Parsing text


def label_ids(tokenizer: Tokenizer) -> tuple[tuple[int, ...], ...]:
    """Return the tokens of " yes", " no" and " maybe", as targets contain them after `Answer:`.

    In GPT-2's vocabulary each is one token, in others they may be several.
    """
    return tuple(tuple(tokenizer.encode(f" {label}")) for label in LABELS)


def parse_answer(prompt: str, target: str) -> Record:
    """Recover the record from the text of an `answer` example, without its id."""
    prompt = prompt.removeprefix(" ")  # some tokenizers put one before every text
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
    facts = TASK_TABLE[task]
    texts = _notes(record) if facts.restates else [record.context()]
    question = "" if facts.writes_question else record.question
    return " ".join(part for part in (question, *texts) if part)
