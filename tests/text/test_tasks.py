"""Tasks: exact templates, tokens of prompt and target that add up, and trimming by sentences."""

import gzip
import itertools
import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clingpt.text.records import LABELS, Record, clean, make_record
from clingpt.text.sentences import split_sentences
from clingpt.text.tasks import (
    LONGEST_SENTENCE_WORDS,
    NO_ROOM,
    PROMPTED,
    TASK_TABLE,
    TASKS,
    NotApplicable,
    heading,
    label_ids,
    make_example,
    make_prompt,
    parse_answer,
    prompt_text,
    source_text,
    target_text,
    text_windows,
)
from clingpt.text.tokenizer import EOT, Tokenizer
from tests.helpers.shared import (
    MEDQUAD,
    PUBMEDQA,
    PUBMEDQA_FIXTURE,
    official_items,
    read_records,
    shared_file,
)
from tests.helpers.vocabularies import with_prefix_space

GPT2 = Tokenizer.load()

RECORD = Record(
    id="1",
    question="Does the drug relieve pain?",
    sections=(
        ("PURPOSE", "We studied pain."),
        ("PATIENTS AND METHODS", "We gave 40 adults the drug."),
        ("SETTING", "One ward."),
        ("RESULTS", "Pain fell by 31% (P = 0.002)."),
        ("LIMITATIONS", "It was short."),
    ),
    long_answer="The drug relieved pain.",
    decision="yes",
)
SECTIONS = """\
PURPOSE: We studied pain.
PATIENTS AND METHODS: We gave 40 adults the drug.
SETTING: One ward.
RESULTS: Pain fell by 31% (P = 0.002).
LIMITATIONS: It was short.
"""
GOLDEN = {
    "answer": (
        f"Context:\n{SECTIONS}Question: Does the drug relieve pain?\nAnswer:",
        " yes\nExplanation: The drug relieved pain.",
    ),
    "summarize": (f"Report:\n{SECTIONS}Summary:", " The drug relieved pain."),
    "document": (
        "Notes:\nWe studied pain. We gave 40 adults the drug. One ward. Pain fell by 31% "
        "(P = 0.002). It was short. The drug relieved pain.\nDocument:",
        " BACKGROUND: We studied pain.\nMETHODS: We gave 40 adults the drug. One ward.\n"
        "RESULTS: Pain fell by 31% (P = 0.002).\nDISCUSSION: It was short.\n"
        "CONCLUSION: The drug relieved pain.",
    ),
    "explain": (
        f"Context:\n{SECTIONS}Question: Does the drug relieve pain?\nExplanation:",
        " The drug relieved pain.",
    ),
}
LETTER = "Dear colleague,\n\nDIAGNOSIS: Pain (M79.6).\nPLAN: 5 mg, twice daily.\nRESULTS follow."


@pytest.fixture(scope="module")
def official() -> list[Record]:
    return read_records(shared_file(PUBMEDQA))


# Templates


@pytest.mark.parametrize("task", PROMPTED)
def test_prompt_and_target_follow_the_template(task: str) -> None:
    prompt, target = GOLDEN[task]
    assert prompt_text(task, RECORD) == prompt
    assert target_text(task, RECORD) == target
    example = make_example(task, RECORD, GPT2, budget=1024)
    assert example.prompt_ids == GPT2.encode(prompt)
    assert example.target_ids == [*GPT2.encode(target), EOT]
    assert example.trimmed_tokens == 0


def test_templates_omit_missing_parts() -> None:
    bare = replace(RECORD, sections=(), long_answer=None)
    assert prompt_text("answer", bare) == "Context:\nQuestion: Does the drug relieve pain?\nAnswer:"
    assert target_text("answer", bare) == " yes"
    notes = prompt_text("document", replace(RECORD, long_answer=None))
    assert notes.endswith("It was short.\nDocument:")
    # Without a context, explain does not write the word, as when training on questions alone.
    alone = "Question: Does the drug relieve pain?\nExplanation:"
    assert prompt_text("explain", bare) == alone
    unlabelled = replace(RECORD, sections=(), decision=None)
    assert prompt_text("explain", unlabelled) == alone
    assert target_text("explain", unlabelled) == " The drug relieved pain."


def test_task_numbers_never_change() -> None:
    """The index of every prepared folder stores them."""
    assert TASKS == ("answer", "summarize", "document", "text", "explain")


def test_every_task_except_text_has_a_prompt_and_a_target() -> None:
    assert {*PROMPTED} == {*TASKS} - {"text"}
    for name, task in TASK_TABLE.items():
        assert (task.target is not None) == (name in PROMPTED)


def test_a_given_document_is_the_unchanged_target() -> None:
    own = replace(RECORD, document=LETTER)
    assert target_text("document", own) == f" {LETTER}"
    notes = "We studied pain. We gave 40 adults the drug. One ward. Pain fell by 31% (P = 0.002)."
    assert prompt_text("document", own) == f"Notes:\n{notes} It was short.\nDocument:"
    assert check_joint("document", own)
    # It needs neither sections of a known kind nor a conclusion.
    free = replace(own, sections=(("TEXT", "Pain, 5 mg."),), long_answer=None, question="")
    assert prompt_text("document", free) == "Notes:\nPain, 5 mg.\nDocument:"
    assert make_example("document", free, GPT2, budget=99).target_ids[-1] == EOT
    with pytest.raises(NotApplicable, match="target too long"):  # its notes are never trimmed
        make_example(
            "document", replace(free, sections=(("A", "It hurts. " * 40),)), GPT2, budget=99
        )
    # Other tasks ignore it, and the task text contains it.
    for task in ("answer", "summarize", "explain"):
        assert target_text(task, own) == GOLDEN[task][1]
        assert prompt_text(task, own) == GOLDEN[task][0]
    [window] = text_windows(own, GPT2, budget=1024)
    assert GPT2.decode(window.target_ids[:-1]).endswith(f"\nThe drug relieved pain.\n{LETTER}")


def test_source_text_is_everything_the_prompt_could_show() -> None:
    texts = "We studied pain. We gave 40 adults the drug. One ward. Pain fell by 31% (P = 0.002)."
    shown = f"{RECORD.question} {texts} It was short."
    for task in ("answer", "summarize", "explain"):
        assert source_text(RECORD, task) == shown
    assert source_text(RECORD, "document") == f"{shown} The drug relieved pain."
    assert source_text(replace(RECORD, document=LETTER), "document") == shown
    for task in ("answer", "explain"):  # a question is not a source
        assert source_text(replace(RECORD, sections=()), task) is None


@pytest.mark.parametrize(
    ("task", "changes", "reason"),
    [
        ("answer", {"question": ""}, "no question"),
        ("answer", {"decision": None}, "no yes/no/maybe"),
        ("explain", {"question": ""}, "no question"),
        ("explain", {"long_answer": None}, "no conclusion"),
        ("explain", {"question": "", "sections": ()}, "no question"),
        ("explain", {"long_answer": "pain " * 2000}, "target too long"),
        ("explain", {"question": "pain " * 1020}, NO_ROOM),
        ("explain", {"question": "pain " * 1020, "sections": ()}, NO_ROOM),
        ("summarize", {"long_answer": None}, "no conclusion"),
        ("summarize", {"sections": ()}, "no text"),
        ("document", {"long_answer": None}, "no conclusion"),
        ("document", {"sections": ()}, "fewer than two kinds of section"),
        ("document", {"sections": RECORD.sections[1:3]}, "fewer than two kinds of section"),
        ("document", {"sections": (*RECORD.sections, ("ICU LOS", "x"))}, "a section of unknown"),
        ("answer", {"long_answer": "pain " * 2000}, "target too long"),
        ("summarize", {"long_answer": "pain " * 2000}, "target too long"),
        ("document", {"sections": (*RECORD.sections, ("AIM", "pain " * 600))}, "target too long"),
        ("answer", {"question": "pain " * 1020}, NO_ROOM),
        ("summarize", {"long_answer": "pain" + " pain" * 1018}, NO_ROOM),
        ("text", {"question": "", "sections": (), "long_answer": None}, "no text"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_not_applicable_names_the_reason(task: str, changes: dict[str, Any], reason: str) -> None:
    record = replace(RECORD, **changes)
    with pytest.raises(NotApplicable, match=reason):
        if task == "text":
            list(text_windows(record, GPT2, budget=1024))
        else:
            make_example(task, record, GPT2, budget=1024)


@pytest.mark.parametrize("task", ["document", "summarize"])
def test_prompts_need_text_but_no_conclusion(task: str) -> None:
    assert make_prompt(task, replace(RECORD, long_answer=None), GPT2, budget=1024).ids
    with pytest.raises(NotApplicable, match="no text"):
        make_prompt(task, replace(RECORD, sections=()), GPT2, budget=1024)


def test_the_task_text_has_no_prompt() -> None:
    with pytest.raises(ValueError, match="the task text has no prompt"):
        prompt_text("text", RECORD)


# Tokens


def test_each_label_is_one_token() -> None:
    assert label_ids(GPT2) == ((3763,), (645,), (3863,))
    for label, each in zip(LABELS, (3763, 645, 3863), strict=True):
        example = make_example("answer", replace(RECORD, decision=label), GPT2, budget=1024)
        assert example.target_ids[0] == each
        assert GPT2.decode(example.prompt_ids).endswith("\nAnswer:")


def check_joint(task: str, record: Record) -> bool:
    """Return whether the task applies; check that its tokens are those of the joined text."""
    try:
        example = make_example(task, record, GPT2, budget=10**6)
    except NotApplicable:
        return False
    prompt, target = prompt_text(task, record), target_text(task, record)
    assert not prompt[-1].isspace()
    assert target[0] == " "
    assert not target[1].isspace()
    assert [*example.prompt_ids, *example.target_ids] == [*GPT2.encode(prompt + target), EOT]
    return True


def test_token_counts_add_up_on_the_official_file(official: list[Record]) -> None:
    applied = Counter(task for task in PROMPTED for record in official if check_joint(task, record))
    assert applied == {"answer": 1000, "summarize": 1000, "document": 990, "explain": 1000}


def test_token_counts_add_up_on_the_fixture() -> None:
    records = read_records(PUBMEDQA_FIXTURE)
    applied = Counter(task for task in PROMPTED for record in records if check_joint(task, record))
    assert applied == dict.fromkeys(PROMPTED, 20)


def test_token_counts_add_up_on_questions_without_context() -> None:
    with gzip.open(shared_file(MEDQUAD), "rt", encoding="utf-8") as file:
        items = [json.loads(line) for line in itertools.islice(file, 0, None, 41)]
    for item in items:
        record = make_record(
            record_id=item["id"], question=item["question"], sections=(), long_answer=item["answer"]
        )
        assert check_joint("explain", record)
        assert not check_joint("answer", record) and not check_joint("summarize", record)
        asked = GPT2.decode(make_example("explain", record, GPT2, budget=10**6).prompt_ids)
        assert asked == f"Question: {record.question}\nExplanation:"
    assert len(items) > 390


WORDS = st.text(st.characters(exclude_categories=[])).filter(lambda text: bool(clean(text)))


@settings(deadline=None)
@given(
    question=WORDS,
    sections=st.lists(
        st.tuples(st.sampled_from(["AIM", "METHODS", "RESULTS"]) | WORDS, WORDS),
        max_size=4,
    ),
    long_answer=WORDS,
    document=st.none() | WORDS,
    decision=st.sampled_from(LABELS),
)
def test_token_counts_add_up_on_any_text(**fields: Any) -> None:
    record = make_record(record_id="1", **fields)
    assert check_joint("answer", record)
    assert check_joint("explain", record)
    assert check_joint("summarize", record) == bool(record.sections)
    applied = check_joint("document", record)
    assert applied or record.document is None or not record.sections


# Trimming

VOCABULARY = (
    "pain fell by 31% ± β-blocker (95% CI 1.2-3.4) in the treated group placebo 患者".split()
)
NAMES = ("PURPOSE", "METHODS", "RESULTS", "MAIN RESULTS", "UNLABELLED", "DISCUSSION")


def random_record(rng: random.Random) -> Record:
    """Make a record of up to about 3,000 tokens, with some very long sentences."""

    def sentence() -> str:
        n = rng.choice([1, 4, 12, 30, 90])
        return " ".join(["We", *rng.choices(VOCABULARY, k=n)]) + "."

    sections = [
        (rng.choice(NAMES), " ".join(sentence() for _ in range(rng.randrange(1, 12))))
        for _ in range(rng.randrange(7))
    ]
    return make_record(
        record_id="1",
        question="Does " + " ".join(rng.choices(VOCABULARY, k=rng.randrange(20))) + "?",
        sections=sections or [("AIM", "x")],
        long_answer=sentence(),
        decision="yes",
    )


def pieces(text: str) -> list[str]:
    """Split a text into what trimming drops at a time: a sentence, or part of a very long one."""
    words = [sentence.split() for sentence in split_sentences(text)]
    step = LONGEST_SENTENCE_WORDS
    return [" ".join(w[i : i + step]) for w in words for i in range(0, len(w), step)]


def kept_pieces(record: Record, prompt: str) -> list[int]:
    """Count the pieces that a prompt keeps of each section; fail if it contains anything else."""
    head, _, rest = prompt.partition("\n")
    body = rest[: rest.rindex("Question: " if head == "Context:" else "Summary:")]
    lines, kept = body.splitlines(), []
    for label, text in record.sections:
        prefixes = [f"{label}: {' '.join(pieces(text)[:n])}" for n in range(len(pieces(text)) + 1)]
        found = [n for n, prefix in enumerate(prefixes) if n and lines and lines[0] == prefix]
        kept.append(max(found, default=0))
        del lines[: bool(found)]
    assert lines == []
    return kept


@pytest.mark.parametrize("seed", range(150))
def test_trimming_drops_as_few_sentences_as_possible_in_order(seed: int) -> None:
    rng = random.Random(seed)
    record = random_record(rng)
    task = rng.choice(["answer", "summarize", "explain"])
    full = GPT2.encode(prompt_text(task, record))
    budget = rng.randrange(1, len(full) + 10)
    try:
        prompt = make_prompt(task, record, GPT2, budget=budget)
    except NotApplicable as reason:
        assert str(reason) == NO_ROOM
        # Even the shortest possible prompt is too long: the cue, the question, one sentence.
        label, text = min(record.sections, key=lambda s: len(GPT2.encode(pieces(s[1])[0])))
        least = ((label, pieces(text)[0]),) if task == "summarize" else ()
        slack = 200 if task == "summarize" else 0
        smallest = prompt_text(task, replace(record, sections=least))
        assert budget < len(GPT2.encode(smallest)) + slack
        return
    text = GPT2.decode(prompt.ids)
    assert len(prompt.ids) <= budget
    assert prompt.trimmed_tokens == len(full) - len(prompt.ids)
    assert (prompt.trimmed_tokens == 0) == (len(full) <= budget)
    cue = {
        "answer": f"Question: {record.question}\nAnswer:",
        "summarize": "Summary:",
        "explain": f"Question: {record.question}\nExplanation:",
    }[task]
    if task == "explain" and text == cue:  # the whole context was trimmed, and its heading with it
        text = f"Context:\n{text}"
    assert text.endswith("\n" + cue)
    kept = kept_pieces(record, text)
    whole = [len(pieces(text)) for _, text in record.sections]
    # Trimming order: from the last section that is not RESULTS to the first, then RESULTS.
    last_to_first = reversed(range(len(whole)))
    order = sorted(last_to_first, key=lambda i: heading(record.sections[i][0]) == "RESULTS")
    untouched = False
    for i in order:
        assert kept[i] == whole[i] or not untouched
        untouched = untouched or kept[i] > 0
    if prompt.trimmed_tokens:  # with the last piece put back, it would not fit
        last = [i for i in order if kept[i] < whole[i]][-1]
        kept[last] += 1
        parts = [(label, pieces(text)) for label, text in record.sections]
        with_last = tuple(
            (label, " ".join(part[:n])) for (label, part), n in zip(parts, kept, strict=True) if n
        )
        larger = prompt_text(task, replace(record, sections=with_last))
        assert len(GPT2.encode(larger)) > budget


@pytest.mark.parametrize("task", ["answer", "summarize", "explain"])
def test_targets_are_never_cut(task: str) -> None:
    rng = random.Random(3)
    for _ in range(60):
        record = random_record(rng)
        target = [*GPT2.encode(target_text(task, record)), EOT]
        budget = rng.randrange(len(target), 900)
        try:
            example = make_example(task, record, GPT2, budget=budget)
        except NotApplicable:
            continue
        assert example.target_ids == target
        room = budget - len(target)
        prompt = make_prompt(task, record, GPT2, budget=room)
        assert (example.prompt_ids, example.trimmed_tokens) == (prompt.ids, prompt.trimmed_tokens)
        assert len(example.prompt_ids) <= room


def test_documents_are_dropped_rather_than_trimmed() -> None:
    prompt, target = (GPT2.encode(text) for text in GOLDEN["document"])
    length = len(prompt) + len(target) + 1
    assert make_example("document", RECORD, GPT2, budget=length).trimmed_tokens == 0
    with pytest.raises(NotApplicable, match="target too long"):
        make_example("document", RECORD, GPT2, budget=length - 1)
    # A prompt without a target is trimmed all the same.
    trimmed = make_prompt("document", RECORD, GPT2, budget=len(prompt) - 1)
    assert 0 < trimmed.trimmed_tokens < len(prompt)


def test_results_are_trimmed_last() -> None:
    results = f"RESULTS: {RECORD.sections[3][1]}\n"
    for budget in range(1, len(GPT2.encode(GOLDEN["answer"][0]))):
        try:
            text = GPT2.decode(make_prompt("answer", RECORD, GPT2, budget=budget).ids)
        except NotApplicable:
            continue
        assert results in text or text.startswith("Context:\nQuestion:")


def test_a_very_long_text_is_trimmed() -> None:
    long = replace(RECORD, sections=(("METHODS", "pain " * 200_000), ("RESULTS", "It helped.")))
    prompt = make_prompt("answer", long, GPT2, budget=1000)
    assert 900 < len(prompt.ids) <= 1000
    assert "RESULTS: It helped.\n" in GPT2.decode(prompt.ids)


# Windows of text


@pytest.mark.parametrize("budget", [2, 3, 16, 64, 1024])
def test_windows_score_each_token_once(budget: int) -> None:
    rng = random.Random(budget)
    for _ in range(20):
        record = random_record(rng)
        lines = [f"{label}: {text}" for label, text in record.sections]
        whole = "\n".join([record.question, *lines, record.long_answer or ""])
        windows = list(text_windows(record, GPT2, budget=budget))
        scored = [each for window in windows for each in window.target_ids]
        assert scored == [*GPT2.encode(whole), EOT]
        before = EOT
        for window in windows:
            assert window.prompt_ids == [before]
            assert 1 <= len(window.target_ids) < budget
            assert window.trimmed_tokens == 0
            before = window.target_ids[-1]
        assert all(len(window.target_ids) == budget - 1 for window in windows[:-1])


# Section labels


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("RESULTS", "RESULTS"),
        ("Findings", "RESULTS"),
        ("RESULTS AND DISCUSSION", "RESULTS"),
        ("DATA SYNTHESIS", "RESULTS"),
        ("DATA SOURCES", "METHODS"),
        ("KEY LIMITATIONS", "DISCUSSION"),
        ("SUMMARY", "DISCUSSION"),
        ("SUMMARY OF BACKGROUND DATA", "BACKGROUND"),
        ("AIM AND METHODS", "BACKGROUND"),
        ("OBJECTIVES", "BACKGROUND"),
        ("STUDY DESIGN", "METHODS"),
        ("MAIN OUTCOME MEASURES", "METHODS"),
        ("UNLABELLED", None),
        ("ICU LOS", None),
        ("", None),
    ],
)
def test_labels_map_to_their_headings(label: str, name: str | None) -> None:
    assert heading(label) == name


def test_official_labels_map_to_the_expected_headings() -> None:
    items = official_items(shared_file(PUBMEDQA)).values()
    labels = Counter(label for item in items for label in item["LABELS"])
    assert (len(labels), labels.total()) == (140, 3358)
    found: Counter[str | None] = Counter()
    for label, n in labels.items():
        found[heading(label)] += n
    assert found == {
        "BACKGROUND": 1048,
        "METHODS": 1296,
        "RESULTS": 985,
        "DISCUSSION": 19,
        None: 10,
    }
    unknown = {label: n for label, n in labels.items() if heading(label) is None}
    assert unknown == {"UNLABELLED": 6, "MAIN BODY": 1, "ICU LOS": 1, ", FSAII": 1, ", SCCVII": 1}


def test_a_tokenizer_that_puts_a_space_before_texts_puts_none_inside_them(tmp_path: Path) -> None:
    tokenizer = with_prefix_space(tmp_path)
    for record in read_records(PUBMEDQA_FIXTURE)[:4]:
        for task in PROMPTED:
            example = make_example(task, record, tokenizer, budget=10_000)
            joint = f" {prompt_text(task, record)}{target_text(task, record)}"
            assert tokenizer.decode([*example.prompt_ids, *example.target_ids[:-1]]) == joint
        example = make_example("answer", record, tokenizer, budget=10_000)
        prompt, target = map(tokenizer.decode, (example.prompt_ids, example.target_ids[:-1]))
        found = parse_answer(prompt, target)
        assert found == parse_answer(prompt.removeprefix(" "), target)
        assert (found.sections, found.question) == (record.sections, record.question)
        [window] = text_windows(record, tokenizer, budget=10_000)
        assert tokenizer.decode(window.target_ids[:-1]).startswith(" ")
