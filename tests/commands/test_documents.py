"""Documents with their own headings, from prepare.py to a reply; the notes are invented."""

import json
from pathlib import Path

import pytest

from clingpt.data.prepared import open_prepared
from clingpt.text.documents import OPENING, DocumentForm
from clingpt.text.windows import section_window
from tests.helpers.commands import TINY_RUN, run
from tests.helpers.preparing import GPT2, in_process, prepared, refused, write_lines

COMPLAINTS = "cough fever headache rash nausea cramps fatigue thirst itching dizziness".split()
FLAGS: tuple[str, ...] = (
    "--task=document",
    "--val_share=0.2",
    "--test_share=0",
    "--show=0",
    "--workers=0",
)
FLAGS += ("--allow_phi=True", "--allow_overlap=True")
SIGNED = "ANN GREEN WAS HERE"  # found once, and not by the rules for identifiers


def write_visits(path: Path, n: int = 24, *, turns: int = 1) -> Path:
    """Dialogues with notes under headings; only the seventh has the line SIGNED."""
    rows = []
    for i in range(n):
        what, since = COMPLAINTS[i % 10], i + 2
        talk = (
            f"Doctor: What brings you? Patient: The {what} of visit {i}, for {since} days. " * turns
        )
        note = f"CHIEF COMPLAINT\n\nA {what}.\n\nHPI: Had {what} for {since} days in visit {i}.\n"
        note += f"BP: 120/{60 + i}\n" + (f"{SIGNED}\n\nOn call.\n" if i == 7 else "")
        note += f"## Plan\n1. Rest for {since} days.\n2. Return if the {what} persists."
        rows.append({"visit_id": f"v{i}", "dialogue": talk, "note": note})
    return write_lines(path, rows)


def columns(source: Path, *names: str) -> list[str]:
    return [f"--source={source}", "--input=dialogue", "--target=note", *names]


def test_headings_of_the_data_reach_the_manifest_and_rare_ones_do_not(tmp_path: Path) -> None:
    source = write_visits(tmp_path / "visits.jsonl")
    said = prepared(*columns(source), *FLAGS, f"--out={tmp_path / 'data'}")
    data = open_prepared(tmp_path / "data", GPT2)
    assert data.document_form == DocumentForm(("CHIEF COMPLAINT", "HPI", "Plan"))
    assert "Headings of the training documents" in said and SIGNED not in said
    assert SIGNED not in (data.folder / "manifest.json").read_text()
    # The documents themselves are as they were.
    [*records] = data.records("val")
    assert all(record.document and "CHIEF COMPLAINT\n\nA " in record.document for record in records)
    target = GPT2.decode(data.split("train").example(data.split("train").index[0]).target_ids)
    assert target.startswith(" CHIEF COMPLAINT\n\nA ")


def test_one_patients_heading_is_rare_however_often_it_occurs(tmp_path: Path) -> None:
    rows = [
        {
            "patient_id": f"q{max(0, i - 9)}",
            "dialogue": f"It is the {COMPLAINTS[i % 10]} number {i}, she said.",
            "note": f"HPI: The {COMPLAINTS[i % 10]} {i}.\n" + "ANN GREEN\nShe rests." * (i < 10),
        }
        for i in range(40)
    ]
    source = write_lines(tmp_path / "visits.jsonl", rows)
    prepared(*columns(source), *FLAGS, f"--out={tmp_path / 'data'}")
    data = open_prepared(tmp_path / "data", GPT2)
    assert GPT2.decode(data.split("train").tokens.tolist()).count("ANN GREEN") == 10
    assert data.document_form.headings == ("HPI",)


def test_dialogues_that_do_not_fit_give_examples_section_by_section(tmp_path: Path) -> None:
    source = write_visits(tmp_path / "visits.jsonl", turns=12)
    flags = [*columns(source), *FLAGS, "--block_size=128", f"--out={tmp_path / 'data'}"]
    assert "pass --long=sections to write documents section by section" in refused(*flags)
    prepared(*flags, "--long=sections")
    data = open_prepared(tmp_path / "data", GPT2)
    assert data.document_form.window == section_window(128) == 80
    split, ids = data.split("train"), data.record_ids("train")
    assert {ids[row] for row in split.index[:, 4]} == set(ids), "a visit gives no example"
    assert split.lengths.max() <= 128
    asked = set()
    for row in split.index:
        prompt = GPT2.decode(split.example(row).prompt_ids)
        notes, _, section = prompt.partition("\nSection: ")
        assert notes.startswith("Notes:\n")
        asked.add(section.removesuffix("\nDocument:"))
    assert asked == {"CHIEF COMPLAINT", "HPI", "Plan"}


def test_the_column_of_a_heading_says_which_section_the_prompt_asks_for(tmp_path: Path) -> None:
    rows = [
        {
            "id": i,
            "dialogue": f"Any {COMPLAINTS[i % 10]} in visit {i}?",
            "section": ("ROS", "HPI")[i % 2],
            "section_text": f"Has {COMPLAINTS[i % 10]}, visit {i}.",
        }
        for i in range(30)
    ]
    source = write_lines(tmp_path / "sections.jsonl", rows)
    flags = [f"--source={source}", "--input=dialogue", "--target=section_text", *FLAGS]
    said = prepared(*flags, f"--out={tmp_path / 'data'}")
    assert "'section' as heading" in said
    data = open_prepared(tmp_path / "data", GPT2)
    assert sorted(data.document_form.headings) == ["HPI", "ROS"]
    example = data.split("train").example(data.split("train").index[0])
    record = next(data.records("val"))
    assert record.heading in ("HPI", "ROS") and record.document
    assert "\nSection: " in GPT2.decode(example.prompt_ids)
    prepared(*flags, "--heading=", f"--out={tmp_path / 'data'}")
    assert next(open_prepared(tmp_path / "data", GPT2).records("val")).heading is None


def test_abstracts_keep_their_headings_and_their_manifest(data: Path) -> None:
    manifest = json.loads((data / "manifest.json").read_text())
    assert "document" not in manifest
    assert open_prepared(data, GPT2).document_form == DocumentForm()


@pytest.mark.parametrize("flag", ["--task=summarize", "--tasks=answer"])
def test_sections_need_the_task_document(flag: str) -> None:
    done = in_process(flag, "--long=sections")
    assert done.returncode == 2
    assert "--long=sections needs the task document" in done.stderr


@pytest.mark.slow
def test_a_model_of_sections_is_evaluated_on_whole_documents_and_drafts_one(tmp_path: Path) -> None:
    source = write_visits(tmp_path / "visits.jsonl", turns=12)
    data, out = tmp_path / "data", tmp_path / "run"
    flags = [*columns(source), *FLAGS, "--block_size=256", "--long=sections"]
    prepared(*flags, f"--out={data}")
    run("train.py", *TINY_RUN, f"--data={data}", f"--out={out}", "--steps=2", "--max_new_tokens=4")
    card = json.loads((out / "best" / "clingpt.json").read_text())
    form = {"headings": ["CHIEF COMPLAINT", "HPI", "Plan"], "window": 160}
    assert card["document"] == form
    run(
        "eval.py",
        f"--checkpoint={out}/best",
        "--texts=2",
        "--max_document_tokens=4",
        "--device=cpu",
    )
    report = json.loads((out / "eval_val" / "report.json").read_text())
    section = report["texts"]["document"]
    assert section["structure"]["headings"] == form["headings"]
    assert section["structure"]["documents"] == 2
    assert section["systems"]["nearest training record"]["mean_words"] > 20
    records = list(open_prepared(data, GPT2).records("val"))
    lines = (out / "eval_val" / "outputs.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    assert first["reference"] == records[0].document
    asked = ["--task=document", "--max_new_tokens=4", "--device=cpu", "--json"]
    asked += [f"--checkpoint={out}/best", f"--input={data}/val.jsonl"]
    drafted = json.loads(run("sample.py", *asked).stdout)
    assert drafted["text"].strip() == first["text"]  # the same prompts, joined in the same way
    assert drafted["prompt_tokens"] > 3 * 160
    one = tmp_path / "one.json"
    one.write_text(json.dumps({"text": "It itches.", "heading": OPENING}))
    reply = json.loads(run("sample.py", *asked[:-1], f"--input={one}").stdout)
    assert reply["prompt_tokens"] == len(
        GPT2.encode("Notes:\nIt itches.\nSection: opening\nDocument:")
    )
