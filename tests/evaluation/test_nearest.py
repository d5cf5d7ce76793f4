"""Looking up the nearest training question: found by likeness, and shown in a report of explain."""

from dataclasses import replace
from pathlib import Path

import pytest

from clingpt.data.prepared import Prepared, open_prepared
from clingpt.evaluation.baselines import SUMMARIES
from clingpt.evaluation.nearest import NEAREST, Nearest, question_in
from clingpt.evaluation.scorer import Output
from clingpt.reports import aggregate
from clingpt.text.records import Record
from clingpt.text.tasks import prompt_text
from clingpt.text.tokenizer import Tokenizer
from tests.commands.test_prepare import prepared, write_lines

GPT2 = Tokenizer.load()
KINDS = ("symptoms", "causes", "treatments")
NAMES = ("asthma", "gout", "measles", "scurvy", "rickets")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("nearest")
    rows = (
        {"id": f"{kind} {name}", "question": f"What are the {kind} of {name}?"}
        | {"long_answer": f"{kind.title()} of {name} are told here."}
        for kind in KINDS
        for name in NAMES
    )
    path = write_lines(folder / "faq.jsonl", rows)
    flags = [f"--source={path}", "--tasks", "explain", "text", f"--out={folder / 'data'}"]
    prepared(*flags, "--val_share=0", "--test_share=0", "--show=0")
    return open_prepared(folder / "data", GPT2)


def asked(question: str) -> Record:
    return Record(id="x", question=question, sections=())


def test_the_answer_to_the_likest_question_is_given(data: Prepared) -> None:
    nearest = Nearest(data, GPT2)
    assert len(nearest) == len(KINDS) * len(NAMES)  # examples of other tasks are none of it
    for kind in KINDS:
        for name in NAMES:
            said = nearest.answer(asked(f"Which {kind} of {name}, and what are they?"))
            assert said == f"{kind.title()} of {name} are told here."
    # Nothing in common: the first, not an error.
    assert nearest.answer(asked("Wherefore?")) == "Symptoms of asthma are told here."


def test_a_folder_without_such_examples_has_nothing_to_look_up(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [{"id": "a", "text": "A text."}])
    flags = ["--task=text", "--val_share=0", "--test_share=0", "--show=0"]
    prepared(f"--source={path}", f"--out={tmp_path / 'data'}", *flags)
    assert len(Nearest(open_prepared(tmp_path / "data", GPT2), GPT2)) == 0


@pytest.mark.parametrize("sections", [(), (("RESULTS", "Question: it fell."),)])
def test_the_question_is_read_off_a_prompt(sections: tuple[tuple[str, str], ...]) -> None:
    record = replace(asked("Does it fall?"), sections=sections)
    assert question_in(prompt_text("explain", record)) == "Does it fall?"


def test_a_report_shows_it_where_there_is_no_text_to_copy(data: Prepared) -> None:
    found = aggregate.Texts("explain", SUMMARIES | {NEAREST: Nearest(data, GPT2).answer})
    record = asked("What are the causes of gout?")
    wanted = "Causes of gout are told here."
    found.add(Output("x", "explain", "Gout is.", wanted, "stop", 0), record, None)
    systems = found.entry()["systems"]
    assert list(systems) == ["reference", "question", NEAREST, "model"]
    score = {
        name: system["rouge"]["rougeL"] for name, system in systems.items() if name != "reference"
    }
    assert score[NEAREST] == 100 > score["question"] > score["model"]
