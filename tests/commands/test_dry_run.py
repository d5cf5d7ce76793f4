"""prepare.py --dry_run: it ends as the real run does, writes nothing, and shows no identifier."""

import json
import os
import random
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clingpt.data.prepared import FolderWriter, official_test_ids
from tests.helpers.commands import Done
from tests.helpers.preparing import (
    in_process,
    made_records,
    prepared,
    random_text,
    write_lines,
)
from tests.helpers.shared import NOTES_FIXTURE, PUBMEDQA_FIXTURE, SHARED, official_items

DRY = "\nA dry run: nothing was written.\n"
PEOPLE = ("Mr. Harold Quimby", "Mrs. Edith Lambrose", "Dr. Orville Tandy")


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def ends_alike(folder: Path, *flags: object) -> Done:
    """Run prepare.py dry and for real; return the dry run, which must end in the same way."""
    before = snapshot(folder)
    dry = in_process(*flags, "--dry_run")
    assert snapshot(folder) == before
    real = in_process(*flags)
    assert (dry.returncode, dry.stderr) == (real.returncode, real.stderr)
    assert real.returncode or snapshot(folder) != before
    if "--redact=surrogates" in flags:  # drawn anew in each run, like the numbers of tokens
        return dry
    tables = real.stdout.partition("\nAn example")[0].partition("\nWrote")[0]
    assert {line for line in tables.splitlines() if ":" not in line} <= set(dry.stdout.splitlines())
    return dry


# The same verdict


def radiology(path: Path, n: int = 40) -> Path:
    """Write reports from a template: only the patient and the date differ."""
    reports = [
        {
            "findings": f"Patient {PEOPLE[i % 3]}, seen {i % 12 + 1:02}/{i % 28 + 1:02}/2019. The "
            "heart is normal in size and the lungs are clear, with no effusion seen today.",
            "impression": f"No acute disease in film {i}.",
        }
        for i in range(n)
    ]
    return write_lines(path, reports)


def leaking(path: Path) -> Path:
    """Write records of which one repeats a section of a record of the official test split."""
    records = made_records(40)
    records[7]["id"] = min(official_test_ids())
    leak = records[7]["sections"][0][1]
    records[20]["sections"] = [["RESULTS", f"Own {leak} {random_text(random.Random(1))}"]]
    return write_lines(path, records)


def copying(path: Path) -> Path:
    """Write official items of which one is a test item under another id."""
    items = official_items(PUBMEDQA_FIXTURE)
    items["planted"] = items[min(official_test_ids() & items.keys())]
    path.write_text(json.dumps(items))
    return path


SUMMARIES = ["--task=summarize", "--input=findings", "--target=impression", "--test_share=0.2"]
NONE_HELD_OUT = ["--val_share=0", "--test_share=0"]
REPORTS = ["--source={radiology}", *SUMMARIES]
LEAK = ["--source={leaking}", *NONE_HELD_OUT]
COPY = ["--source={copying}", "--tasks=answer", *NONE_HELD_OUT]
NOTES = [f"--source={NOTES_FIXTURE}", "--task=text", "--test_share=0.3"]

VERDICTS: dict[str, tuple[list[str], str | None]] = {
    "generated": (["--source=synthetic", "--synthetic_records=30", "--synthetic_held_out=5"], None),
    "official": ([f"--source={PUBMEDQA_FIXTURE}"], None),
    "canaries": ([f"--source={PUBMEDQA_FIXTURE}", "--canaries=4", "--views=results"], None),
    "reports": (REPORTS, r"found \d+ likely identifiers"),
    "reports, tags": ([*REPORTS, "--redact=tags"], r"copy test records \(\d+ with nearly"),
    "reports, surrogates": ([*REPORTS, "--redact=surrogates"], None),
    "reports, dropped": ([*REPORTS, "--redact=tags", "--drop_overlap"], "yields no training exam"),
    "reports, allowed": ([*REPORTS, "--redact=tags", "--allow_overlap"], None),
    "reports, as they are": ([*REPORTS, "--allow_phi", "--allow_overlap"], None),
    "leak": (LEAK, r"1 with more than 20% of its own text\), first case-20"),
    "leak, dropped": ([*LEAK, "--drop_overlap"], None),
    "leak, allowed": ([*LEAK, "--allow_overlap"], None),
    "leak, tags": ([*LEAK, "--redact=tags"], "1 training record copies a test record"),
    "copy": (COPY, r"1 with nearly the same text\), first planted"),
    "copy, dropped": ([*COPY, "--drop_overlap"], None),
    "notes": (NOTES, "likely identifiers"),
    "notes, surrogates": ([*NOTES, "--redact=surrogates", "--allow_overlap"], None),
    "against": (
        ["--source={copying}", *NONE_HELD_OUT, "--tasks=answer", "--against", "{earlier}"],
        "1 training record copies a test record",
    ),
    "no examples": ([f"--source={NOTES_FIXTURE}", "--task=text", "--long=drop", "--block_size=16",
                     "--redact=tags", *NONE_HELD_OUT], "yields no training example"),
    "bad record": (["--source={bad}"], r"bad.jsonl:2: not valid JSON"),
    "bad record, skipped": (["--source={bad}", "--skip_bad", *NONE_HELD_OUT], None),
    "missing": (["--source={missing}"], "no such file or folder"),
    "not a folder": ([f"--source={PUBMEDQA_FIXTURE}", "--out={bad}"], "is not a folder"),
    "a strange folder": ([f"--source={PUBMEDQA_FIXTURE}", "--out={strange}"], "is not prepared"),
}  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    texts = ({"id": f"t{n}", "text": random_text(random.Random(n))} for n in range(9))
    bad = write_lines(folder / "bad.jsonl", [made_records(1)[0], "{oops", *made_records(9)[1:]])
    mine = write_lines(folder / "texts.jsonl", texts)
    flags = ["--task=text", "--show=0", *NONE_HELD_OUT]
    prepared(f"--source={mine}", f"--out={folder / 'earlier'}", *flags)
    (folder / "strange").mkdir()
    (folder / "strange/letter.txt").write_text("Dear all")
    return {
        "radiology": radiology(folder / "radiology.jsonl"),
        "leaking": leaking(folder / "leaking.jsonl"),
        "copying": copying(folder / "copying.json"),
        "earlier": folder / "earlier",
        "bad": bad,
        "missing": folder / "missing.csv",
        "strange": folder / "strange",
    }


@pytest.mark.parametrize("name", VERDICTS)
def test_a_dry_run_ends_as_the_real_run_does(
    name: str, inputs: dict[str, Path], tmp_path: Path
) -> None:
    texts, error = VERDICTS[name]
    flags = [text.format_map(inputs) for text in texts]
    if not any(text.startswith("--out=") for text in flags):
        flags.append(f"--out={tmp_path / 'some/data'}")
    dry = ends_alike(tmp_path, *flags, "--workers=0")
    if error is None:
        assert dry.returncode == 0 and dry.stdout.endswith(DRY)
    else:
        assert dry.returncode == 1 and re.search(error, dry.stderr)
        assert dry.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "cases").exists(), reason="needs CLINGPT_SHARED's cases")
@pytest.mark.parametrize("how", [(), ("--redact=tags", "--drop_overlap", "--skip_bad")])
@pytest.mark.parametrize(
    "path", sorted(SHARED.glob("cases/*")), ids=lambda path: path.name.replace(" ", "_")
)
def test_a_dry_run_of_other_peoples_files_ends_as_the_real_run_does(
    path: Path, how: tuple[str, ...], tmp_path: Path
) -> None:
    for task in ("answer", "text"):
        ends_alike(tmp_path, f"--source={path}", f"--task={task}", f"--out={tmp_path / task}", *how)


@pytest.mark.parametrize("flags", [[], ["--dry_run"]])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_nothing_behind(
    flags: list[str],
    number: signal.Signals,
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def struck(*args: Any, **kwargs: Any) -> None:
        assert list(tmp_path.rglob("*.runs"))
        os.kill(os.getpid(), number)

    monkeypatch.setattr(FolderWriter, "append", struck)
    done = in_process(f"--source={PUBMEDQA_FIXTURE}", f"--out={tmp_path / 'new/data'}", *flags)
    assert (done.returncode, done.stdout) == (status, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flags", [[], ["--redact=tags"], ["--redact=surrogates"], ["--dry_run"]])
def test_tables_are_shown_after_every_refusal(
    flags: list[str], inputs: dict[str, Path], tmp_path: Path
) -> None:
    shown = in_process(f"--source={inputs['radiology']}", *SUMMARIES, *flags, f"--out={tmp_path}/d")
    redacted = "--redact=surrogates" in flags  # no two reports are nearly the same any more
    assert shown.returncode == (0 if redacted else 1)
    titles = [
        "Training records that copy",
        f"Records of {inputs['radiology']}",
        "Identifiers found",
        "Duplicates",
    ]
    titles += ["Examples", "Identifiers replaced"] if redacted else ["Columns"]
    for title in titles:
        assert re.search(rf"^{title}", shown.stdout, re.MULTILINE), title


# The same verdict on random sources


def random_notes(path: Path, rng: random.Random) -> Path:
    """Write notes of some patients: a template, identifiers, own text, and copies of all kinds."""
    template = f"Dictated by {PEOPLE[2]} and electronically signed. {random_text(rng, 10)}."
    rows = [
        {
            "patient_id": f"P{rng.randrange(25)}",
            "note": f"{rng.choice(['', template])} {rng.choice(PEOPLE)} on {n % 9 + 1}/9/2019: "
            f"{random_text(rng, rng.choice([3, 20]))}",
            "summary": rng.choice(["Stable, no acute distress.", random_text(rng, 9)]),
        }
        for n in range(48)
    ]
    for n, row in enumerate(rng.sample(rows, 24)):
        copy = dict(row, patient_id=f"P{rng.randrange(25)}")
        if n % 4 == 1:
            copy["note"] = f"FAXED. {random_text(rng, 5)} {copy['note']}"
        elif n % 4 == 2:
            copy["note"] = random_text(rng, 20)  # under the same summary
        elif n % 4 == 3:
            middle = copy["note"].split()[8:20]
            copy["note"] = copy["note"].replace(" ".join(middle), random_text(rng, 4))
        rows.append(copy)
    rng.shuffle(rows)
    return write_lines(path, rows)


@pytest.mark.parametrize("seed", range(5))
def test_a_dry_run_of_random_notes_counts_what_the_real_run_counts(
    seed: int, tmp_path: Path
) -> None:
    rng = random.Random(seed)
    flags = [f"--source={random_notes(tmp_path / 'notes.jsonl', rng)}", "--task=summarize"]
    flags += ["--val_share=0.2", "--test_share=0.2", "--workers=0", f"--out={tmp_path / 'data'}"]
    flags += rng.choice([["--group=patient_id"], ["--group="]])
    flags += rng.choice([["--redact=tags"], ["--redact=surrogates"], ["--allow_phi"]])
    verdicts = set()
    for more in ([], ["--drop_overlap"]):
        dry, real = in_process(*flags, *more, "--dry_run"), in_process(*flags, *more)
        assert (dry.returncode, dry.stderr) == (real.returncode, real.stderr)
        for title in ("Dropped", "Training records that copy", "Boilerplate", "Duplicates"):
            found = [re.search(rf"^{title}.*?(?=\n\n)", r.stdout, re.M | re.S) for r in (dry, real)]
            texts = [match and match[0] for match in found]
            assert texts[0] == texts[1] and (texts[0] or title == "Dropped"), title
        verdicts.add(real.stderr.partition(" (")[0])
        assert not GOLD.search(real.stderr)
    if "--group=" not in flags:  # without groups, a hash of the text keeps most copies together
        assert len(verdicts) == 2, verdicts


# No identifier


GOLD = re.compile(r"Quimby|Lambrose|Tandy|2019|617|555-|h\.\d|4815|Harold|Edith|Orville")


def identifying(i: int) -> dict[str, Any]:
    """Make a record with identifiers in its id and in all of its fields."""
    name = PEOPLE[i % 3]
    words = random_text(random.Random(i), 16).replace("4815", "").replace("2019", "")
    return {
        "id": f"MRN-{48151600 + i}",
        "question": f"Did {name} improve?",
        "sections": [
            [f"{name} SAID", f"Seen 03/{i % 28 + 1:02}/2019. Call 617-555-{i:04}. {words}"]
        ],
        "long_answer": f"{name} (MRN {48151600 + i}) wrote from h.{i}@mail.example.com: {words}",
        "decision": "yes",
        "document": f"PLAN: call {name}\nPHONE: 617-555-{i:04}",
        "keywords": [name],
    }


def as_jsonl(folder: Path, records: list[dict[str, Any]]) -> Path:
    return write_lines(folder / "notes.jsonl", records)


def as_csv(folder: Path, records: list[dict[str, Any]], header: str = "id,note,summary\n") -> Path:
    path = folder / "notes.csv"
    rows = [f'{r["id"]},"{r["sections"][0][1]}","{r["long_answer"]}"\n' for r in records]
    path.write_text(header + "".join(rows))
    return path


def as_csv_without_header(folder: Path, records: list[dict[str, Any]]) -> Path:
    return as_csv(folder, records, header="")


def as_texts(folder: Path, records: list[dict[str, Any]]) -> Path:
    (folder / "notes").mkdir()
    for record in records:
        name = f"{record['long_answer'].split(' (')[0]} {record['id']}.txt"
        (folder / "notes" / name).write_text(record["sections"][0][1])
    return folder / "notes"


def with_a_bad_record(folder: Path, records: list[dict[str, Any]]) -> Path:
    return as_jsonl(folder, [*records[:3], records[3] | {"decision": PEOPLE[0]}, *records[4:]])


def with_a_duplicate(folder: Path, records: list[dict[str, Any]]) -> Path:
    return as_jsonl(folder, [*records, records[3]])


def with_a_leak(folder: Path, records: list[dict[str, Any]]) -> Path:
    """Write records that all repeat a run of words, so that some share it with the test split."""
    run = random_text(random.Random(99), 10)
    return as_jsonl(folder, [r | {"long_answer": f"{r['long_answer']} {run}"} for r in records])


WRITERS = [as_csv, as_csv_without_header, as_texts, with_a_bad_record, with_a_duplicate]


@pytest.mark.parametrize(
    ("write", "how"),
    [(write, "") for write in WRITERS]
    + [(with_a_leak, how) for how in ("", "--redact=tags", "--redact=surrogates", "--allow_phi")],
)
def test_no_identifier_is_printed(
    write: Callable[[Path, list[dict[str, Any]]], Path], how: str, tmp_path: Path
) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    source = write(folder, [identifying(i) for i in range(18)])
    flags = [f"--source={source}", "--tasks", "text", "summarize", "answer", "--test_share=0.3"]
    flags += [f"--out={folder}/out", "--show=9", *([how] if how else [])]
    for more in ([], ["--skip_bad", "--allow_overlap"]):
        for dry in (["--dry_run"], []):
            done = in_process(*flags, *more, *dry)
            said = (done.stdout + done.stderr).replace(str(folder), "")
            found = set(GOLD.findall(said))
            # A surrogate's digits are drawn, and may begin as others do.
            assert not {each for each in found if how != "--redact=surrogates" or each.isalpha()}
