"""Windows over a long text contain every word once, in order, and as few splits as possible."""

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clingpt.text.documents import NOTHING, OPENING, DocumentForm, Draft
from clingpt.text.records import Record, clean
from clingpt.text.tasks import (
    NO_ROOM,
    NotApplicable,
    Prompt,
    make_example,
    prompt_text,
    text_pieces,
)
from clingpt.text.tokenizer import Tokenizer
from clingpt.text.windows import (
    draft_sections,
    join_summaries,
    section_examples,
    share_out,
    split_windows,
)

TOKENIZER = Tokenizer.load()
FRAMES = {"summarize": ("Report:\n", "\nSummary:"), "document": ("Notes:\n", "\nDocument:")}
LABELS = ("METHODS", "RESULTS", "LONG NAME OF A PART", "TEXT")
# Sentences of any length, numbers, multi-byte characters, and very long words.
WORDS = st.sampled_from(
    "Pain fell by 31.5 % (P = 0.002). No. of naïve µg/dl ≥ 漢字 😀😀 Then".split()
)
LONG = st.integers(1, 400).map(lambda n: "ab9≥"[n % 4] * n)
KINDS = st.sampled_from([WORDS, WORDS | LONG])
TEXTS = KINDS.flatmap(lambda kind: st.lists(kind, min_size=1, max_size=80)).map(" ".join).map(clean)
SENTENCES = [f"Patient {n} had a fall of {n}.5 mmHg after dose {n}." for n in range(90)]


def record(*texts: str) -> Record:
    return Record(id="1", question="", sections=tuple(zip(LABELS, texts, strict=False)))


def shown(task: str, prompt: Prompt) -> list[tuple[str, str]]:
    """Return the (label, text) lines of a prompt; labels are empty for the task document."""
    head, foot = FRAMES[task]
    text = TOKENIZER.decode(prompt.ids)
    assert text.startswith(head) and text.endswith(foot)
    lines = text[len(head) : -len(foot)].split("\n")
    if task == "document":
        return [("", line) for line in lines]
    return [(label, said) for label, _, said in (line.partition(": ") for line in lines)]


def fits(task: str, text: str, budget: int) -> bool:
    """Whether a text fits into a window alone, in a section with the longest label."""
    alone = Record(id="1", question="", sections=((LABELS[2], text),))
    return len(TOKENIZER.encode(prompt_text(task, alone))) <= budget


@settings(deadline=None, max_examples=150)
@given(
    texts=st.lists(TEXTS, min_size=1, max_size=4),
    task=st.sampled_from(sorted(FRAMES)),
    budget=st.integers(20, 200),
)
def test_windows_contain_every_word_in_order_within_the_budget(
    texts: list[str], task: str, budget: int
) -> None:
    prompts = split_windows(task, record(*texts), TOKENIZER, budget=budget)
    assert all(len(prompt.ids) <= budget and not prompt.trimmed_tokens for prompt in prompts)
    windows = [text for prompt in prompts for _, text in shown(task, prompt)]
    words = " ".join(texts).split()
    assert "".join("".join(windows).split()) == "".join(words)
    if all(fits(task, word, budget) for word in words):  # then no word is split
        assert " ".join(windows).split() == words
    for sentence in (piece for text in texts for piece in text_pieces(text)):
        if fits(task, sentence, budget):
            assert any(sentence in window for window in windows)
    if task == "summarize":  # and every text is under the label of its section
        found: dict[str, str] = defaultdict(str)
        for label, text in (pair for prompt in prompts for pair in shown(task, prompt)):
            found[label] += text.replace(" ", "")
        assert found == {
            label: text.replace(" ", "") for label, text in zip(LABELS, texts, strict=False)
        }


def test_a_text_that_fits_is_one_unchanged_prompt() -> None:
    short = record("Ten patients.", "Pain fell.")
    for task in FRAMES:
        ids = TOKENIZER.encode(prompt_text(task, short))
        for budget in (len(ids), 500):
            [prompt] = split_windows(task, short, TOKENIZER, budget=budget)
            assert (prompt.ids, prompt.trimmed_tokens) == (ids, 0)
        assert len(split_windows(task, short, TOKENIZER, budget=len(ids) - 1)) == 2


@pytest.mark.parametrize("task", FRAMES)
def test_windows_contain_as_many_whole_sentences_as_fit(task: str) -> None:
    prompts = split_windows(task, record(" ".join(SENTENCES)), TOKENIZER, budget=100)
    windows = [shown(task, prompt)[0][1] for prompt in prompts]
    assert " ".join(windows) == " ".join(SENTENCES)
    assert all(window.endswith(".") for window in windows) and len(windows) > 10
    for window, following in pairwise(windows):
        one_more = f"{window} {following.partition('. ')[0]}."
        whole = Record(id="1", question="", sections=((LABELS[0], one_more),))
        assert len(TOKENIZER.encode(prompt_text(task, whole))) > 100


def test_a_sentence_longer_than_a_window_is_split_between_words() -> None:
    # Lists in reports can be longer than the context of a small model.
    text = "; ".join(f"{n}.125 mmol/l at {n} h" for n in range(100, 130))
    prompts = split_windows("summarize", record(text), TOKENIZER, budget=64)
    windows = [shown("summarize", prompt)[0][1] for prompt in prompts]
    assert " ".join(windows) == text and len(windows) > 3


@pytest.mark.parametrize(
    "word",
    # One half of the second word takes more tokens than a window, the other half only a few.
    [
        "".join(chr(0x4E00 + n) for n in range(300)),
        "".join(map(chr, range(0x4E00, 0x4E28))) + "a" * 40,
    ],
)
def test_a_word_longer_than_a_window_is_split_without_adding_spaces(word: str) -> None:
    prompts = split_windows("document", record(f"Before {word} after."), TOKENIZER, budget=64)
    windows = [shown("document", prompt)[0][1] for prompt in prompts]
    assert "".join(windows).replace(" ", "") == f"Before{word}after." and len(windows) > 1
    inside = [window.removeprefix("Before ").removesuffix(" after.") for window in windows]
    assert not any(" " in window for window in inside)


@pytest.mark.parametrize("budget", [1, 5])
@pytest.mark.parametrize("task", FRAMES)
def test_a_budget_without_room_for_any_text_is_refused(task: str, budget: int) -> None:
    with pytest.raises(NotApplicable, match=NO_ROOM):
        split_windows(task, record("Pain fell. " * 50), TOKENIZER, budget=budget)


def test_a_record_without_text_is_refused() -> None:
    with pytest.raises(NotApplicable, match="no text"):
        split_windows(
            "summarize", Record(id="1", question="Why?", sections=()), TOKENIZER, budget=9
        )


@pytest.mark.parametrize("text", [" ".join(SENTENCES), "a" * 4000])
def test_splitting_stops_one_window_after_the_limit(text: str) -> None:
    whole = split_windows("document", record(text), TOKENIZER, budget=100)
    for most in (0, 1, 5, len(whole) - 1, len(whole), 99):
        found = split_windows("document", record(text), TOKENIZER, budget=100, most=most)
        assert found == whole[: most + 1]


@pytest.mark.parametrize("unit", ["a", "Pain fell. ", "pain fell, "])
def test_encoding_work_is_linear_in_the_text(unit: str) -> None:
    text = unit * (60_000 // len(unit))
    with mock.patch.object(TOKENIZER, "encode", wraps=TOKENIZER.encode) as encode:
        split_windows("document", record(text), TOKENIZER, budget=200)
    assert sum(len(call.args[0]) for call in encode.call_args_list) < 30 * len(text)


@pytest.mark.parametrize(
    ("texts", "joined"),
    [
        ([], ""),
        ([" One. ", "", "  ", "Two.\n"], "One. Two."),
    ],
)
def test_summaries_are_joined_by_spaces(texts: list[str], joined: str) -> None:
    assert join_summaries(texts) == joined


# Documents, section by section

FORM = DocumentForm((OPENING, "HPI", "EXAM", "PLAN"), window=100)
NOTE = (
    "Seen with her sister.\nHPI\n\nA fall of 1.5 mmHg after dose 1. A fall of 30.5 mmHg.\n\n"
    "PLAN: Stop dose 2.\nStart dose 20.\nRest well."
)


def plan_of(notes: Record, headings: tuple[str, ...] = ()) -> Draft:
    return draft_sections(notes, TOKENIZER, FORM, context=160, longest=99, headings=headings)


def test_each_section_is_asked_of_each_window_of_the_notes() -> None:
    notes = record(" ".join(SENTENCES[:31]))
    plan = plan_of(notes)
    assert plan.headings == FORM.headings and plan.windows > 3
    assert (plan.longest, max(len(prompt.ids) for prompt in plan.prompts) <= 100) == (60, True)
    shown = [TOKENIZER.decode(prompt.ids) for prompt in plan.prompts]
    for number, (heading, start) in enumerate(
        (heading, start) for heading in FORM.headings for start in range(plan.windows)
    ):
        text, _, end = shown[number].partition("\nSection: ")
        assert end == f"{heading}\nDocument:" and plan.heading(number) == heading
        assert text == shown[start].partition("\nSection: ")[0]
    windows = [text.removeprefix("Notes:\n").partition("\nSection: ")[0] for text in shown]
    assert " ".join(windows[: plan.windows]) == " ".join(SENTENCES[:31])
    # A record that names one section is asked for that one, and a request for those of its own.
    one = plan_of(replace(notes, heading="ROS"))
    assert one.headings == ("ROS",) and one.join([" a", f" {NOTHING}", "None", ""]) == "a\nNone"
    assert plan_of(notes, ("X", "PLAN")).headings == ("X", "PLAN")


def test_sections_are_joined_under_their_headings() -> None:
    prompts = tuple(Prompt(ids=[n], trimmed_tokens=0) for n in range(8))
    plan = Draft(prompts, 9, FORM.headings)
    texts = [" Seen.", f" {NOTHING}", f" {NOTHING}", " ", " a.", " - b", f"{NOTHING}\n", " Rest."]
    assert plan.join(texts) == "Seen.\nEXAM: a.\n- b\nPLAN: Rest."
    assert plan.join([NOTHING] * 8) == ""


def test_examples_of_sections_have_the_prompts_of_inference_and_the_whole_document() -> None:
    notes = replace(record(" ".join(SENTENCES[:31])), document=NOTE)
    examples, n_too_long = section_examples(notes, TOKENIZER, FORM, budget=160)
    plan = plan_of(notes)
    numbers = {tuple(prompt.ids): n for n, prompt in enumerate(plan.prompts)}
    assert len({tuple(one.prompt_ids) for one in examples}) == len(examples) and not n_too_long
    texts = [NOTHING] * len(plan.prompts)
    for one in examples:
        text = TOKENIZER.decode(one.target_ids)
        assert text.startswith(" ") and text.endswith("<|endoftext|>")
        texts[numbers[tuple(one.prompt_ids)]] = text.removesuffix("<|endoftext|>")
    # Every sentence is in the window that it is about.
    assert plan.join(texts) == (
        "Seen with her sister.\nHPI: A fall of 1.5 mmHg after dose 1.\nA fall of 30.5 mmHg.\n"
        "PLAN: Stop dose 2.\nStart dose 20.\nRest well."
    )
    for said, shown in (("dose 20", "dose 20"), ("30.5", "30.5"), ("1.5 mmHg", "dose 1.")):
        [prompt] = [
            TOKENIZER.decode(plan.prompts[n].ids) for n, text in enumerate(texts) if said in text
        ]
        assert shown in prompt
    empty = [one for one in examples if TOKENIZER.decode(one.target_ids[:-1]) == f" {NOTHING}"]
    assert 0 < len(empty) == len(examples) - len(empty) < len(plan.prompts) / 2
    assert section_examples(notes, TOKENIZER, FORM, budget=160)[0] == examples


def test_an_example_of_a_section_is_never_longer_than_the_budget() -> None:
    long = "HPI: " + "A fall after dose 1 and pain. " * 40 + "\nPLAN: Rest."
    notes = replace(record(" ".join(SENTENCES[:31])), document=long)
    examples, n_too_long = section_examples(notes, TOKENIZER, FORM, budget=160)
    assert n_too_long == 1 and examples
    assert all(len(one.prompt_ids) + len(one.target_ids) <= 160 for one in examples)
    with pytest.raises(NotApplicable, match="no heading that recurs"):
        section_examples(replace(notes, document="Rest."), TOKENIZER, FORM, budget=160)


def test_an_example_of_one_section_asks_for_it() -> None:
    notes = replace(record("A fall."), document="She fell.", heading="HPI")
    [example], _ = section_examples(notes, TOKENIZER, FORM, budget=160)
    assert TOKENIZER.decode(example.prompt_ids) == "Notes:\nA fall.\nSection: HPI\nDocument:"
    assert TOKENIZER.decode(example.target_ids) == " She fell.<|endoftext|>"
    assert example == make_example("document", notes, TOKENIZER, budget=160)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Aspirin daily. Fever since 2011.", ["Aspirin daily.", "Fever since 2011."]),
        ("Fever. None of it. Aspirin.", ["Aspirin.", "Fever. None of it."]),
        ("Both aspirin and fever.", ["Both aspirin and fever.", ""]),  # the first of two
        ("Unknown.\n- aspirin\n- fever", ["Unknown.\n- aspirin", "- fever"]),
        ("", ["", ""]),
    ],
)
def test_sentences_go_to_the_window_with_most_of_their_words(text: str, parts: list[str]) -> None:
    assert share_out(text, [{"aspirin"}, {"fever", "2011"}]) == parts
