"""prepare.py on user data: tables, mixtures, long texts, canaries, views, processes."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clingpt.base import workers as pool
from clingpt.data import canaries
from clingpt.data.prepared import Prepared, identifiers_found, open_prepared
from clingpt.privacy.redaction import Redactor
from clingpt.text.records import Record
from clingpt.text.tasks import TASKS
from tests.helpers.commands import ROOT
from tests.helpers.folded import write_official
from tests.helpers.preparing import (
    GPT2,
    WORDS,
    cells,
    contents,
    in_process,
    made_records,
    prepared,
    random_text,
    refused,
    write_lines,
)

NONE_HELD_OUT = ("--val_share=0", "--test_share=0", "--show=0")


def examples(data: Prepared, task: str, split: str = "train") -> list[tuple[str, str]]:
    """List the record id and the whole text of each example of a task."""
    found, ids = data.split(split), data.record_ids(split)
    rows = found.index[found.index[:, 3] == TASKS.index(task)].tolist()
    return [(ids[row[4]], GPT2.decode(found.tokens[row[0] : row[2]].tolist())) for row in rows]


@pytest.fixture
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shrink chunks so that a hundred records are enough to start other processes."""
    monkeypatch.setattr(pool, "FEW_CHUNKS", 2)
    monkeypatch.setattr(pool, "CHUNK_ITEMS", 8)


# Processes


def test_the_number_of_processes_does_not_change_the_bytes(
    tmp_path: Path, few_are_many: None
) -> None:
    records = made_records(150)
    for n in (40, 90):  # long ones: trimmed, and windows of text
        records[n]["sections"].append(["METHODS", random_text(random.Random(n), 300)])
    path = write_lines(tmp_path / "a.jsonl", records)
    other = write_lines(tmp_path / "b.jsonl", made_records(60, seed=4))
    flags = ["--mix", f"{path}=1.5", f"{other}=0.5", "--tasks", "answer", "text", "--canaries=4"]
    flags += ["--views=results", "--section_dropout=0.3", "--yes_share=0.4", "--val_share=0.2"]
    said, folders = [], []
    for workers in (0, 1, 2, 3):
        folder = tmp_path / "data"
        said.append(prepared(*flags, f"--out={folder}", f"--workers={workers}"))
        folders.append(contents(folder))
    assert all(one == said[0] for one in said)
    assert all(one == folders[0] for one in folders)
    assert len(open_prepared(folder, GPT2).record_ids("val")) > 20


def die(chunk: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_ends_the_run_in_one_line(tmp_path: Path, few_are_many: None) -> None:
    """Kill a worker, as the system does if memory runs out; the old folder stays."""
    path = write_lines(tmp_path / "a.jsonl", made_records(100))
    flags = (f"--source={path}", f"--out={tmp_path / 'data'}", "--show=0", "--workers=2")
    prepared(*flags)
    before = contents(tmp_path / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "_work_here", die)
        said = refused(*flags)
    assert said.startswith("a worker process was killed, most likely because memory or the number")
    assert contents(tmp_path / "data") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "data"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_keeps_the_old_folder(number: signal.Signals, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", made_records(60))
    flags = (f"--out={tmp_path / 'data'}", "--show=0", "--tasks=answer")
    prepared(f"--source={path}", *flags)
    before = contents(tmp_path / "data")
    rng = random.Random(1)
    texts = (" ".join(rng.choices(WORDS, k=20)) + f" {i} {rng.random()}" for i in range(12_000))
    lines = ({"id": f"n{i}", "question": text, "decision": "no"} for i, text in enumerate(texts))
    long = write_lines(tmp_path / "long.jsonl", lines)
    command = [sys.executable, "prepare.py", f"--source={long}", *flags, "--workers=2"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    partial = tmp_path / ".data.partial/train.bin"
    while not (partial.exists() and partial.stat().st_size) and process.poll() is None:
        time.sleep(0.02)
    if number == signal.SIGINT:  # Ctrl-C goes to all processes of a terminal's group
        os.killpg(process.pid, number)
    else:
        process.kill()
    _, said = process.communicate(timeout=60)
    assert contents(tmp_path / "data") == before
    if number == signal.SIGINT:
        assert (process.returncode, said) == (130, "interrupted: nothing was written\n")
        assert not partial.parent.exists()
    prepared(f"--source={path}", *flags)  # starts cleanly
    assert contents(tmp_path / "data") == before
    assert not partial.parent.exists()


# Tables


def notes_csv(path: Path, n: int = 30) -> Path:
    rows = [f'{i},"{random_text(random.Random(i))}","Summary {i}, short."' for i in range(n)]
    path.write_text("\n".join(["note_id,transcription,description", *rows]), encoding="utf-8")
    return path


def test_columns_named_on_the_command_line_are_used(tmp_path: Path) -> None:
    path = notes_csv(tmp_path / "notes.csv")
    flags = [f"--source={path}", f"--out={tmp_path / 'data'}", "--task=summarize"]
    flags += ["--input=transcription", "--target=description", "--val_share=0.2", "--test_share=0"]
    printed = prepared(*flags)
    data = open_prepared(tmp_path / "data", GPT2)
    assert data.tasks == ["summarize"]
    made = dict(examples(data, "summarize"))
    number = data.record_ids("train")[0]
    note = random_text(random.Random(int(number)))
    assert made[number] == f"Report:\nTEXT: {note}\nSummary: Summary {number}, short.<|endoftext|>"
    remark = "'note_id' as id, 'transcription' as input, 'description' as target."
    assert f"Columns of {path}: {remark}" in printed
    assert {f"n{i}" for i in range(30)} != set(data.record_ids("train"))


def test_a_dry_run_shows_everything_and_writes_nothing(tmp_path: Path) -> None:
    path = notes_csv(tmp_path / "notes.csv.gz".removesuffix(".gz"))
    flags = (f"--source={path}", f"--out={tmp_path / 'data'}", "--task=summarize")
    printed = prepared(*flags, "--dry_run=True", "--val_share=0", "--test_share=0")
    assert cells(printed, "Columns")["transcription"][0] == "input"
    assert cells(printed, "Columns")["note_id"][0] == "id"
    records = cells(printed, f"Records of {path}")
    assert sum(int(row[0]) for row in records.values()) == 30
    assert "Report:\nTEXT: " in printed and "[[ Summary " in printed
    assert printed.endswith("A dry run: nothing was written.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.csv"]


def test_a_document_column_keeps_its_line_breaks(tmp_path: Path) -> None:
    letters = [
        {"notes": random_text(random.Random(i)), "letter": f"DIAGNOSIS: no. {i}\nPLAN: rest"}
        for i in range(20)
    ]
    path = write_lines(tmp_path / "letters.jsonl", letters)
    flags = (f"--source={path}", f"--out={tmp_path / 'data'}", "--task=document", *NONE_HELD_OUT)
    prepared(*flags, "--input=notes", "--target=letter")
    made = examples(open_prepared(tmp_path / "data", GPT2), "document")
    assert made[7][1].endswith("\nDocument: DIAGNOSIS: no. 7\nPLAN: rest<|endoftext|>")


# Mixtures and ids


def test_weights_apply_only_to_training_records(tmp_path: Path) -> None:
    a = write_lines(tmp_path / "a.jsonl", made_records(200))
    others = [record | {"id": f"b-{n}"} for n, record in enumerate(made_records(200, seed=2))]
    b = write_lines(tmp_path / "b.jsonl", others)
    flags = ["--mix", f"{a}=2", f"{b}=0.3", f"--out={tmp_path / 'data'}", "--tasks=answer"]
    flags += ["--val_share=0.2", "--show=0"]
    printed = prepared(*flags)
    data = open_prepared(tmp_path / "data", GPT2)
    times = Counter(name for name, _ in examples(data, "answer"))
    assert set(times.values()) == {1, 2}
    assert {name for name, n in times.items() if n == 2} == {n for n in times if n[0] == "c"}
    kept = sum(name.startswith("b-") for name in times)
    held_out = {split: data.record_ids(split) for split in ("val", "test")}
    all_b = 200 - sum(name.startswith("b-") for ids in held_out.values() for name in ids)
    assert abs(kept / all_b - 0.3) < 0.1
    assert len(data.record_ids("train")) == len(set(data.record_ids("train"))) == len(times)
    for split, names in held_out.items():
        assert Counter(n for n, _ in examples(data, "answer", split)) == Counter(names)
    alone = tmp_path / "alone"
    prepared(f"--source={a}", f"--out={alone}", "--val_share=0.2", "--tasks=answer", "--show=0")
    of_a = {name for name in held_out["val"] if name.startswith("case")}
    assert of_a == set(open_prepared(alone, GPT2).record_ids("val"))  # a mix moves no record
    dropped = cells(printed, "Dropped")["record"]
    assert dropped == ["left out by its source's weight", str(all_b - kept)]


def test_records_that_share_an_id_are_kept_and_stay_in_one_split(tmp_path: Path) -> None:
    """With patient numbers as ids, every note is kept and no patient is in two splits."""
    rows = [{"id": f"p{n % 25}", "text": random_text(random.Random(n))} for n in range(200)]
    path = write_lines(tmp_path / "a.jsonl", rows)
    flags = (f"--source={path}", f"--out={tmp_path / 'data'}", "--task=text", "--val_share=0.3")
    printed = prepared(*flags, "--test_share=0.3", "--show=0")
    data = open_prepared(tmp_path / "data", GPT2)
    ids = {split: data.record_ids(split) for split in ("train", "val", "test")}
    assert sum(map(len, ids.values())) == len(set().union(*ids.values())) == 200
    patients = {split: {name.partition("#")[0] for name in names} for split, names in ids.items()}
    assert sum(map(len, patients.values())) == 25
    assert all(patients.values())
    assert f"\n175 records of {path} with the id of an earlier record" in printed


# Long texts


def test_long_texts_are_windowed_trimmed_or_dropped(tmp_path: Path) -> None:
    notes = [{"id": f"n{i}", "text": random_text(random.Random(i), 10 + 10 * i)} for i in range(12)]
    path = write_lines(tmp_path / "notes.jsonl", notes)
    flags = (f"--source={path}", "--task=text", "--block_size=128", *NONE_HELD_OUT)
    whole = {note["id"]: [220, *GPT2.encode(f"TEXT: {note['text']}")] for note in notes}
    fits = {name for name, ids in whole.items() if len(ids) <= 127}
    assert 0 < len(fits) < 12
    said, made, total = {}, {}, {}
    for how in ("window", "trim", "drop"):
        said[how] = prepared(*flags, f"--out={tmp_path / how}", f"--long={how}")
        data = open_prepared(tmp_path / how, GPT2)
        made[how] = Counter(name for name, _ in examples(data, "text"))
        total[how] = int(data.split("train").lengths.sum())
        assert data.split("train").lengths.max() <= 128
    assert set(made["window"]) == set(made["trim"]) == set(whole)
    assert {name for name, n in made["window"].items() if n == 1} == fits
    assert set(made["trim"].values()) == {1}
    assert set(made["drop"]) == fits
    n_long = 12 - len(fits)
    assert f"\n{n_long} texts exceed the context: split" in said["window"]
    row = cells(said["trim"], "Examples")["text"]
    n_windows = made["window"].total()
    cut = total["window"] - total["trim"] - (n_windows - 12)  # each has a token before it
    assert row[7:] == [str(n_long), f"{cut:,}"]
    dropped = cells(said["drop"], "Dropped")["text"]
    assert dropped == ["longer than the context", str(n_long)]


def test_long_contexts_are_trimmed_or_dropped_but_never_windowed(tmp_path: Path) -> None:
    records = made_records(10)
    records[3]["sections"].append(["METHODS", "It was long. " * 300])
    path = write_lines(tmp_path / "a.jsonl", records)
    flags = (f"--source={path}", "--tasks", "answer", "summarize", *NONE_HELD_OUT)
    for how, wanted in (("window", 10), ("trim", 10), ("drop", 9)):
        printed = prepared(*flags, f"--out={tmp_path / how}", f"--long={how}")
        for task in ("answer", "summarize"):
            made = Counter(n for n, _ in examples(open_prepared(tmp_path / how, GPT2), task))
            assert set(made.values()) == {1} and len(made) == wanted
            assert ("case-3" in made) == (how != "drop")
            assert cells(printed, "Examples")[task][7] == ("0" if how == "drop" else "1")


# Canaries and views


def test_canaries_are_planted_only_in_training(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", made_records(80))
    flags = (f"--source={path}", "--tasks", "answer", "text", "--val_share=0.2", "--show=0")
    without = prepared(*flags, f"--out={tmp_path / 'without'}")
    printed = prepared(*flags, f"--out={tmp_path / 'data'}", "--canaries=5")
    data, bare = (open_prepared(tmp_path / name, GPT2) for name in ("data", "without"))
    made = canaries.read(tmp_path / "data")
    assert made == canaries.make_canaries(5, 1337)
    texts = [text for _, text in examples(data, "answer")]
    for canary in made:
        assert sum(canary.secret in text for text in texts) == canary.copies
    planted = [record.id for record in canaries.planted_records(made)]
    assert data.record_ids("train") == bare.record_ids("train") + planted
    for name in ("val.bin", "test.bin", "val.jsonl", "test.jsonl", "receipt.json"):
        assert (data.folder / name).read_bytes() == (bare.folder / name).read_bytes()
    assert cells(printed, COPIES) == cells(without, COPIES)
    assert "canaries.json" in data.manifest["files"]
    assert not (bare.folder / "canaries.json").exists()
    prepared(*flags, f"--out={tmp_path / 'data'}", "--canaries=5", "--redact=tags")
    redacted = open_prepared(tmp_path / "data", GPT2)
    assert examples(redacted, "answer")[-1] == examples(data, "answer")[-1]  # nobody's secret
    prepared(*flags, f"--out={tmp_path / 'data'}")  # a folder with canaries is ours to replace
    assert contents(tmp_path / "data").keys() == contents(tmp_path / "without").keys()


def test_views_are_made_only_of_training_answers(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", made_records(60))
    flags = (f"--source={path}", "--tasks", "answer", "summarize", "--val_share=0.2", "--show=0")
    prepared(*flags, f"--out={tmp_path / 'plain'}")
    printed = prepared(*flags, f"--out={tmp_path / 'data'}", "--views", "results", "question")
    plain, data = (open_prepared(tmp_path / name, GPT2) for name in ("plain", "data"))
    names = plain.record_ids("train")
    made = dict(examples(data, "answer"))
    assert set(made) == {
        f"{name}{view}" for name in names for view in ("", "#results", "#question")
    }
    assert made[f"{names[0]}#results"].startswith("Context:\nRESULTS: ")
    assert re.match(
        r"Context:\nQuestion: .*\nAnswer: (yes|no|maybe)<", made[f"{names[0]}#question"]
    )
    assert set(dict(examples(data, "summarize"))) == set(names)
    for name in ("val.bin", "test.bin", "val.ids"):
        assert (data.folder / name).read_bytes() == (plain.folder / name).read_bytes()
    assert cells(printed, "Examples")["answer"][0] == str(3 * len(names))


# Identifiers


PEOPLE = ("Mr. Harold Quimby", "Mrs. Edith Lambrose", "Dr. Orville Tandy")


def notes_of_people(n: int = 60) -> list[dict[str, Any]]:
    """Make notes with a name, a date, a phone number and an e-mail address, under chart numbers."""
    notes = []
    for i in range(n):
        name = PEOPLE[i % 3]
        # Without its numbers: in a note, most numbers of six digits are taken for codes.
        words = " ".join(filter(str.isalpha, random_text(random.Random(i), 8).split()))
        told = f"{name} was seen on 03/{i % 28 + 1:02}/2019. Call 617-555-{i:04}. {words}."
        mail = f"Letter sent to h.{i}@mail.example.com"
        note = {"id": f"MRN-{48151600 + i}", "text": told, "long_answer": f"{name} is better."}
        notes.append(note | ({"document": f"TO: {name}\n{mail}"} if i % 2 else {"question": mail}))
    return notes


def secrets_in(folder: Path) -> set[str]:
    """Return the planted identifiers that can be found anywhere in a folder."""
    data = open_prepared(folder, GPT2)
    said = "".join(GPT2.decode(data.split(name).tokens.tolist()) for name in ("train", "test"))
    said += "".join(path.read_text("utf-8") for path in folder.iterdir() if path.suffix in TEXTS)
    # Whole numbers, as they were planted: a surrogate's digits are drawn and may begin like them.
    found = re.findall(r"Quimby|Lambrose|Tandy|/2019|617-555-00|h\.\d+@|MRN-481516", said)
    return {re.sub(r"h\.\d+", "h", one) for one in found}


TEXTS = {".json", ".jsonl", ".ids"}


def people_flags(tmp_path: Path) -> list[str]:
    path = write_lines(tmp_path / "notes.jsonl", notes_of_people())
    flags = [f"--source={path}", "--tasks", "text", "summarize", "document", "--show=0"]
    return [*flags, "--val_share=0.2", "--test_share=0.2", "--allow_overlap=True"]


def test_identifiers_are_refused_unless_allowed(tmp_path: Path) -> None:
    flags = people_flags(tmp_path)
    folder = tmp_path / "data"
    done = in_process(*flags, f"--out={folder}")
    assert done.returncode == 1
    assert re.fullmatch(
        r"error: found \d+ likely identifiers \(PHI\); pass --redact=surrogates to replace "
        r"identifiers \(what was missed is then hard to tell from the surrogates\), --redact=tags, "
        r"or --allow_phi=True to keep them\n", done.stderr
    )  # fmt: skip
    kinds = cells(done.stdout, "Identifiers found (no identifiers were allowed)")
    for kind, n in (("name", 60), ("date", 60), ("phone", 60), ("email", 60)):
        assert int(kinds[kind][0]) >= n and int(kinds[kind][1]) == 60
    for secret in ("Quimby", "Lambrose", "2019", "617", "h.1@"):
        assert secret not in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["notes.jsonl"]
    printed = prepared(*flags, f"--out={folder}", "--allow_phi=True")
    assert "Identifiers found (identifiers were allowed to stay)" in printed
    data = open_prepared(folder, GPT2)
    assert data.receipt is not None and data.receipt["done"] == "allowed"
    assert len(secrets_in(folder)) >= 6  # so the search of the next test can find them


@pytest.mark.parametrize("how", ["tags", "surrogates"])
@pytest.mark.parametrize("workers", [0, 2])
def test_redaction_leaves_no_planted_identifier(
    how: str, workers: int, tmp_path: Path, few_are_many: None
) -> None:
    """Check tokens, held-out records, ids and the receipt; splits must not change."""
    flags = people_flags(tmp_path)
    whole, folder = tmp_path / "whole", tmp_path / "data"
    prepared(*flags, f"--out={whole}", "--allow_phi=True")
    printed = prepared(*flags, f"--out={folder}", f"--redact={how}", f"--workers={workers}")
    # Another day may be of the same year: that no day stays is tests/privacy/test_redaction.py's.
    assert secrets_in(folder) - ({"/2019"} if how == "surrogates" else set()) == set()
    before, after = (open_prepared(each, GPT2) for each in (whole, folder))
    for split in ("train", "val", "test"):
        n = len(before.record_ids(split))
        assert n == len(after.record_ids(split)) == len(set(after.record_ids(split))) > 3
    receipt = after.receipt
    assert receipt is not None and receipt["done"] == how
    assert receipt["identifiers_replaced"]["phone"] == 60
    assert cells(printed, "Identifiers replaced")["phone"] == ["60"]
    pairs = list(zip(before.records("test"), after.records("test"), strict=True))
    for old, new in pairs:
        assert old.sections[0][1].split()[-2:] == new.sections[0][1].split()[-2:]  # the words stay
    if how == "tags":
        assert receipt["identifiers"] == {}
        assert "[NAME]" in pairs[0][1].sections[0][1] and "[DATE]" in pairs[0][1].sections[0][1]
    else:  # one name for a person, throughout
        named = {(a.long_answer, b.long_answer) for a, b in pairs}
        assert len(named) == len({a for a, _ in named}) == len({b for _, b in named})


def test_names_in_published_texts_are_reported_but_not_refused(tmp_path: Path) -> None:
    path = write_official(tmp_path / "ori_pqal.json")
    items = json.loads(path.read_text())
    for item in items.values():
        item["LONG_ANSWER"] = f"Dr. Quimby said so. {item['LONG_ANSWER']}"
    path.write_text(json.dumps(items))
    out = tmp_path / "data"
    flags = ["--task=answer", "--show=0", "--phi_engine=rules"]  # the tagger knows no such words
    prepared(f"--source={path}", f"--out={out}", *flags)
    receipt = open_prepared(out, GPT2).receipt
    assert receipt is not None and receipt["done"] == "published"
    assert receipt["identifiers"]["name"]["count"] == len(items) and not identifiers_found(receipt)
    # Mixed with unpublished text, the same names are a reason to refuse.
    own = write_lines(tmp_path / "own.jsonl", notes_of_people(6))
    flags = ["--mix", str(path), str(own), f"--out={out}", "--tasks", "answer", "text", "--show=0"]
    assert "likely identifiers (PHI)" in in_process(*flags).stderr
    prepared(*flags, "--allow_phi=True", "--allow_overlap=True")
    receipt = open_prepared(out, GPT2).receipt
    assert receipt is not None and receipt["done"] == "allowed" and identifiers_found(receipt) > 6


def test_canaries_are_never_redacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_left(_: Redactor, record: Record) -> Record:
        return replace(record, question="Gone?", long_answer="Gone.", sections=())

    monkeypatch.setattr(Redactor, "record", nothing_left)
    path = write_lines(tmp_path / "a.jsonl", made_records(20))
    flags = ["--task=explain", "--redact=tags", "--canaries=3", "--workers=0", *NONE_HELD_OUT]
    prepared(f"--source={path}", f"--out={tmp_path / 'data'}", *flags)
    data = open_prepared(tmp_path / "data", GPT2)
    said = GPT2.decode(data.split("train").tokens.tolist())
    planted = [one for one in canaries.make_canaries(3, 1337) if one.copies]
    assert [said.count(one.secret) for one in planted] == [1, 4, 16]
    assert "Gone." in said


# Overlap

COPIES = "Training records that copy"


def test_drop_overlap_drops_training_records_that_repeat_held_out_text(tmp_path: Path) -> None:
    records = made_records(120)
    path = write_lines(tmp_path / "a.jsonl", records)
    flags = [f"--source={path}", "--val_share=0.2", "--test_share=0.2", "--show=0"]
    flags += [f"--out={tmp_path / 'data'}", "--tasks=answer"]
    prepared(*flags)
    ids = {
        s: open_prepared(tmp_path / "data", GPT2).record_ids(s) for s in ("train", "val", "test")
    }
    by_id = {record["id"]: record for record in records}
    # A near copy of a test record, and training records with a section of val's and of test's.
    copy = json.loads(json.dumps(by_id[ids["test"][0]]))
    copy["sections"][0][1] = "Anew. " + copy["sections"][0][1]
    while True:  # … under an id and a text that belong to train
        copy["id"] = "copy"
        copy["sections"][0][1] = "And " + copy["sections"][0][1]
        write_lines(path, [*records, copy])
        done = in_process(*flags)
        if done.returncode:
            break
    assert done.stderr.startswith(
        "error: 1 training record copies a test record (1 with nearly the same text), first copy; "
        "pass --drop_overlap=True to drop training records that copy val or test records, or "
        "--allow_overlap=True and report it with every score\n"
    )
    for victim, split in ((ids["train"][3], "val"), (ids["train"][5], "test")):
        by_id[victim]["long_answer"] += " " + by_id[ids[split][1]]["sections"][1][1]
    write_lines(path, [*records, copy])
    printed = prepared(*flags, "--drop_overlap=True")
    gone = {"copy", ids["train"][3], ids["train"][5]}
    data = open_prepared(tmp_path / "data", GPT2)
    assert data.record_ids("train") == [name for name in ids["train"] if name not in gone]
    assert data.record_ids("val") == ids["val"] and data.record_ids("test") == ids["test"]
    assert cells(printed, "Dropped")["record"] == ["copies a val or test record", "3"]
    assert cells(printed, COPIES)["test"] == ["2", "1", "0", "1", "0"]
    assert cells(printed, COPIES)["val"] == ["1", "0", "0", "1", "0"]
    printed = prepared(*flags, "--allow_overlap=True")
    assert open_prepared(tmp_path / "data", GPT2).record_ids("train") == [*ids["train"], "copy"]


def test_drop_overlap_drops_copies_shorter_than_13_words(tmp_path: Path) -> None:
    rows = [{"id": f"n{i}", "text": random_text(random.Random(i), 4)} for i in range(60)]
    path = write_lines(tmp_path / "a.jsonl", rows)
    flags = [f"--source={path}", f"--out={tmp_path / 'data'}", "--task=text", "--show=0"]
    flags += ["--val_share=0.2", "--test_share=0.2"]
    prepared(*flags)
    data = open_prepared(tmp_path / "data", GPT2)
    names = data.record_ids("train")
    text = next(row["text"] for row in rows if row["id"] == data.record_ids("test")[0])
    copies = [{"id": f"copy{n}", "text": text + "!" * n} for n in range(1, 6)]  # of the same words
    write_lines(path, [*rows, *copies])
    prepared(*flags, "--allow_overlap=True")
    with_copies = open_prepared(tmp_path / "data", GPT2).record_ids("train")
    assert set(with_copies) > set(names)
    n = len(set(with_copies) - set(names))
    assert cells(prepared(*flags, "--drop_overlap=True"), COPIES)["test"] == [
        f"{n}",
        f"{n}",
        "0",
        "0",
        "0",
    ]
    assert open_prepared(tmp_path / "data", GPT2).record_ids("train") == names


def test_against_counts_the_held_out_text_of_other_folders(tmp_path: Path) -> None:
    """An earlier phase must not train on what a later phase is evaluated on."""
    final = write_lines(tmp_path / "final.jsonl", made_records(80))
    held_out = ["--val_share=0.2", "--test_share=0.2", "--show=0", "--tasks=answer"]
    prepared(f"--source={final}", f"--out={tmp_path / 'final'}", *held_out)
    names = {s: open_prepared(tmp_path / "final", GPT2).record_ids(s) for s in ("val", "test")}
    by_id = {record["id"]: record for record in made_records(80)}
    texts = [random_text(random.Random(1000 + n), 30) for n in range(20)]
    for n, split in ((3, "val"), (5, "test")):
        texts[n] += " " + by_id[names[split][1]]["sections"][1][1]
    first = write_lines(
        tmp_path / "first.jsonl", ({"id": f"t{n}", "text": text} for n, text in enumerate(texts))
    )
    flags = [f"--source={first}", "--task=text", f"--out={tmp_path / 'first'}", "--show=0"]
    flags += ["--val_share=0", "--test_share=0"]
    prepared(*flags)  # alone, the folder has no overlap
    flags += ["--against", str(tmp_path / "final")]
    assert "copies a test record (1 with more than 20% of its own text), first t5; pass" in refused(
        *flags
    )
    printed = prepared(*flags, "--drop_overlap=True")
    kept = open_prepared(tmp_path / "first", GPT2).record_ids("train")
    assert kept == [f"t{n}" for n in range(20) if n not in (3, 5)]
    assert cells(printed, COPIES)["test"] == ["1", "0", "0", "1", "0"]
    assert "is not prepared data" in refused(*flags[:-1], str(tmp_path / "none"))


def published(n: int) -> dict[str, Any]:
    """Invent the columns of a record of the nth article; the texts of two such records differ."""
    return {
        "question": f"Does {random_text(random.Random(n), 3)}?",
        "input": random_text(random.Random(n + 1)),
        "label": "yes" if n % 20 else "no",
        "pmcid": f"PMC{70000 + n}",
        "pmid": [20000 + n],
    }


@pytest.mark.parametrize("redact", [[], ["--redact=tags"]], ids=["as it is", "redacted"])
def test_against_finds_records_of_the_same_published_article(
    tmp_path: Path, redact: list[str]
) -> None:
    """A report of a held-out trial is a copy of its question, although the texts differ."""
    rows = [published(10 * n) | {"id": str(n), "split": "train"} for n in range(20)]
    rows[3]["split"], rows[5]["split"], rows[7]["split"] = "val", "test", "test"
    rows[7]["pmcid"] = "https://doi.org/10.1000/A(7)"
    labels = write_lines(tmp_path / "labels.jsonl", rows)
    prepared(f"--source={labels}", "--task=answer", f"--out={tmp_path / 'labels'}", *redact)
    # A redacted folder keeps no number that only the name of a column declares to be public.
    assert json.loads((tmp_path / "labels/articles.json").read_text()) == {
        "format": 1,
        "val": ["PMC70030", *([] if redact else ["PMID:20030"])],
        "test": ["PMC70050", *([] if redact else ["PMID:20050", "PMID:20070"]), "doi:10.1000/a(7)"],
    }
    reports: list[dict[str, Any]] = [
        {"id": str(n), "note": random_text(random.Random(100 + n))} for n in range(20)
    ]
    reports[1]["id"] = "PMC70030"  # of the validation record
    reports[2]["pmid"] = 20050  # of a test record, unless PMIDs are left out
    reports[4]["doi"] = "10.1000/a(7)"
    reports[6]["patient"] = "20050"
    source = write_lines(tmp_path / "reports.jsonl", reports)
    flags = [f"--source={source}", "--task=text", f"--out={tmp_path / 'reports'}", *NONE_HELD_OUT]
    prepared(*flags)
    flags += ["--against", str(tmp_path / "labels")]
    n_test = 1 if redact else 2
    assert f"({n_test} with the same published article)" in refused(*flags)
    printed = prepared(*flags, "--drop_overlap=True")
    assert cells(printed, COPIES)["val"] == ["1", "0", "0", "0", "1"]
    assert cells(printed, COPIES)["test"] == [str(n_test), "0", "0", "0", str(n_test)]
    assert "recognised by their 'pmid' and 'doi'" in printed
    dropped = {"PMC70030", "4"} | ({"2"} if not redact else set())
    ids = open_prepared(tmp_path / "reports", GPT2).record_ids("train")
    assert ids == [each["id"] for each in reports if each["id"] not in dropped]
    assert not (tmp_path / "reports/articles.json").exists()  # nothing is held out


def test_a_folder_without_articles_is_named_and_compared_by_text(tmp_path: Path) -> None:
    """Short texts are compared as wholes, since they have no run of 13 words."""
    notes = [{"id": str(n), "text": f"Seen on ward {n * 'A'}."} for n in range(1, 21)]
    rows = [row | {"split": "val" if n < 2 else "train"} for n, row in enumerate(notes)]
    older = write_lines(tmp_path / "older.jsonl", rows)
    prepared(f"--source={older}", "--task=text", f"--out={tmp_path / 'older'}", *NONE_HELD_OUT)
    assert not (tmp_path / "older/articles.json").exists()
    rows = [published(10 * n) | {"id": str(n)} for n in range(20)]
    rows[4]["question"], rows[4]["input"] = "Seen", "on ward AA"
    source = write_lines(tmp_path / "new.jsonl", rows)
    flags = [f"--source={source}", "--task=answer", f"--out={tmp_path / 'new'}", *NONE_HELD_OUT]
    printed = prepared(*flags, "--drop_overlap=True", "--against", str(tmp_path / "older"))
    assert f"Compared only by text: {tmp_path / 'older'}." in " ".join(printed.split())
    assert cells(printed, COPIES)["val"] == ["1", "1", "0", "0", "0"]
    assert "4" not in open_prepared(tmp_path / "new", GPT2).record_ids("train")


def test_splits_that_divide_an_article_overlap(tmp_path: Path) -> None:
    """Without groups, the source's own splits may hold out a part of an article."""
    rows = [published(10 * n) | {"id": str(n), "split": "train"} for n in range(20)]
    rows[3] |= {"split": "test", "pmcid": rows[8]["pmcid"], "doi": "10.5281/zenodo.1"}
    rows = [{"doi": "10.5281/zenodo.1"} | row for row in rows]  # the data set's, not an article's
    source = write_lines(tmp_path / "rows.jsonl", rows)
    flags = [f"--source={source}", "--task=answer", "--group=", f"--out={tmp_path / 'data'}"]
    flags += NONE_HELD_OUT
    assert "(1 with the same published article), first 8; pass" in refused(*flags)
    prepared(*flags, "--drop_overlap=True")
    ids = open_prepared(tmp_path / "data", GPT2).record_ids("train")
    assert ids == [str(n) for n in range(20) if n not in (3, 8)]


# Several columns to read


def test_another_column_is_read_where_the_first_is_empty(tmp_path: Path) -> None:
    rows = [published(10 * n) | {"id": str(n), "a|b=c": f"Abstract {n}."} for n in range(20)]
    rows[4]["input"], rows[5]["input"], rows[6]["input"] = None, " ", "nan"
    rows[7]["input"], rows[7]["a|b=c"] = None, ""
    source = write_lines(tmp_path / "rows.jsonl", rows)
    flags = [f"--source={source}", "--task=answer", f"--out={tmp_path / 'data'}", *NONE_HELD_OUT]
    printed = " ".join(prepared(*flags).split())
    assert "4 records have no text in 'input': questions alone. --or_input names a" in printed
    printed = " ".join(prepared(*flags, "--input=input", "--or_input", "a|b=c").split())
    assert "Read as input, the first that is not empty: 'input' in 16, 'a|b=c' in 3." in printed
    assert "1 record has no text in 'input' or 'a|b=c': questions alone. " in printed
    texts = dict(examples(open_prepared(tmp_path / "data", GPT2), "answer"))
    assert all(f"Abstract {n}." in texts[str(n)] for n in (4, 5, 6))
    assert "Abstract" not in texts["3"] + texts["7"]


# What travels with the data


def test_a_folder_without_a_receipt_opens_with_the_same_fingerprint(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", made_records(30))
    prepared(f"--source={path}", f"--out={tmp_path / 'data'}", *NONE_HELD_OUT)
    data = open_prepared(tmp_path / "data", GPT2)
    assert data.receipt is not None
    names = {path.name for path in data.folder.iterdir()}
    assert names == {"manifest.json", *data.manifest["files"]} >= {"receipt.json"}
    manifest = json.loads((tmp_path / "data/manifest.json").read_text())
    (tmp_path / "data/receipt.json").unlink()
    del manifest["files"]["receipt.json"]
    (tmp_path / "data/manifest.json").write_text(json.dumps(manifest))
    older = open_prepared(tmp_path / "data", GPT2)
    assert older.receipt is None
    assert older.fingerprint == data.fingerprint
    prepared(f"--source={path}", f"--out={tmp_path / 'data'}", *NONE_HELD_OUT)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--task=text", "--tasks=answer"], "pass one of --task and --tasks"),
        (
            ["--task=sing"],
            "unknown task 'sing'; choose from answer, summarize, document, text, expl",
        ),
        (["--source=a.csv", "--mix=b.csv"], "pass one of --source and --mix"),
        (["--mix=b.csv=many"], "mix takes sources with weights above 0 and at most 100"),
        (["--views=titles"], "unknown view 'titles'; choose from results, question"),
        (["--views=results", "--task=text"], "views and section_dropout need the task answer"),
        (["--heading=part", "--task=summarize"], "--heading needs the task document; add it or"),
        (["--labels", "up=yes", "--task=summarize"], "--labels needs the task answer; add it or"),
        (["--make_labels=titles", "--task=text"], "--make_labels needs the task answer; add it"),
        (["--section_dropout=1"], "section_dropout must be at least 0 and below 1, got 1.0"),
        (["--canaries=-1"], "canaries must be at least 0 and at most"),
        (["--workers=-1"], "workers must be at least 0, got -1"),
        (["--long=cut"], "--long must be window, sections, trim or drop, got 'cut'"),
        (["--redact=blur"], "--redact must be tags, surrogates or None, got 'blur'"),
        (["--encoding=latin-99"], "unknown encoding 'latin-99'"),
        (["--source=synthetic", "--input=note"], "--source=synthetic has no columns to choose"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_flags_are_usage_errors(flags: list[str], message: str) -> None:
    done = in_process(*flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("tasks", [("document", "text"), ("text", "document")])
def test_the_order_of_tasks_does_not_decide_what_columns_are(
    tasks: tuple[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "notes.csv"
    rows = [
        f"{random_text(random.Random(n))},PLAN: {random_text(random.Random(-n))}" for n in range(40)
    ]
    path.write_text("\n".join(["notes,document", *rows]))
    out = f"--out={tmp_path / 'data'}"
    prepared(f"--source={path}", out, "--tasks", *tasks, *NONE_HELD_OUT)
    counts = open_prepared(tmp_path / "data", GPT2).manifest["counts"]["train"]["examples"]
    assert (counts["document"], counts["text"]) == (40, 40)
