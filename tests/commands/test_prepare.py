"""prepare.py on the command line: figures of the official file, errors, shares, memory."""

import json
import random
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import prepare
from clingpt.base import settings
from clingpt.data.prepared import official_test_ids, open_prepared
from clingpt.text.tasks import TASKS
from tests.helpers.commands import ROOT
from tests.helpers.preparing import (
    GPT2,
    WORDS,
    cells,
    contents,
    in_process,
    in_subprocess,
    made_records,
    prepared,
    random_text,
    refused,
    write_lines,
)
from tests.helpers.shared import PUBMEDQA, PUBMEDQA_FIXTURE, official_items, shared_file

# The official file


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Prepare the official file; return the output and the folder."""
    source = shared_file(PUBMEDQA)
    folder = tmp_path_factory.mktemp("official") / "data"
    done = in_subprocess(f"--source={source}", f"--out={folder}")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout, folder


def test_the_official_file_yields_the_published_figures(official: tuple[str, Path]) -> None:
    printed, folder = official
    records = cells(printed, "Records of")
    # records, yes, no, maybe, no label
    assert records["train"][:5] == ["450", "249", "152", "49", "0"]
    assert records["val"][:5] == ["50", "27", "17", "6", "0"]
    assert records["test"][:5] == ["500", "276", "169", "55", "0"]
    # train, val, test, mean, longest, > 512, > 1024, trimmed, tokens cut
    answer = cells(printed, "Examples")["answer"]
    assert answer[:3] == ["450", "50", "500"]
    assert abs(float(answer[3]) / 394.9 - 1) < 0.01
    assert answer[4:] == ["776", "99", "0", "0", "0"]
    assert cells(printed, COPIES) == {"val": ["0"] * 5, "test": ["0"] * 5}
    data = open_prepared(folder, GPT2)
    assert set(data.record_ids("test")) == official_test_ids()
    index = np.concatenate([data.split(name).index for name in ("train", "val", "test")])
    lengths = (index[:, 2] - index[:, 0])[index[:, 3] == TASKS.index("answer")]
    assert (len(lengths), lengths.max(), (lengths > 512).sum()) == (1000, 776, 99)
    assert f"{lengths.mean():.2f}" == answer[3]
    counts = [record.decision for record in data.records("test")]
    assert [counts.count(label) for label in ("yes", "no", "maybe")] == [276, 169, 55]


def test_printed_examples_mark_target_tokens(official: tuple[str, Path]) -> None:
    printed, folder = official
    train = open_prepared(folder, GPT2).split("train")
    for task in ("answer", "summarize", "document"):
        row = train.index[train.index[:, 3] == TASKS.index(task)][0].tolist()
        start, first_target, end = row[:3]
        prompt = GPT2.decode(train.tokens[start:first_target].tolist())
        target = GPT2.decode(train.tokens[first_target:end].tolist())
        assert f":\n{prompt}[[{target}]]\n" in printed
        assert target.endswith("<|endoftext|>")
    assert printed.count("[[") == printed.count("]]") == 6  # three examples under three headings
    assert "\x1b" not in printed


def test_the_same_input_produces_the_same_bytes(tmp_path: Path, official: tuple[str, Path]) -> None:
    before = contents(official[1])
    assert prepared(f"--source={shared_file(PUBMEDQA)}", f"--out={official[1]}") == official[0]
    assert contents(official[1]) == before
    prepared(f"--source={shared_file(PUBMEDQA)}", f"--out={tmp_path / 'other'}", "--show=0")
    manifests = [
        json.loads((f / "manifest.json").read_text()) for f in (official[1], tmp_path / "other")
    ]
    settings = [manifest.pop("settings") for manifest in manifests]
    assert manifests[0] == manifests[1]
    assert {key for key in settings[0] if settings[0][key] != settings[1][key]} == {"out", "show"}


def test_another_fold_changes_only_the_validation_split(
    tmp_path: Path, official: tuple[str, Path]
) -> None:
    source = shared_file(PUBMEDQA)
    flags = (f"--source={source}", f"--out={tmp_path / 'data'}", "--tasks=answer", "--show=0")
    records = cells(prepared(*flags, "--fold=9"), "Records of")
    assert records["val"][:5] == ["50", "29", "19", "2", "0"]
    first, ninth = (open_prepared(f, GPT2) for f in (official[1], tmp_path / "data"))
    assert first.record_ids("test") == ninth.record_ids("test")
    assert not set(first.record_ids("val")) & set(ninth.record_ids("val"))
    assert set(first.record_ids("train") + first.record_ids("val")) == set(
        ninth.record_ids("train") + ninth.record_ids("val")
    )


# Overlap and duplicates

COPIES = "Training records that copy"


def test_training_text_from_the_test_split_is_refused_by_id(tmp_path: Path) -> None:
    held_out = min(official_test_ids())
    records = made_records(40)
    records[7]["id"] = held_out
    leak = random.Random(9).choice(records[7]["sections"])[1].split()
    own = ["Own", *random_text(random.Random(10), 20).split()]
    records[20]["sections"] = [["RESULTS", " ".join([*own, *leak, *own])]]
    path = write_lines(tmp_path / "a.jsonl", records)
    flags = (f"--source={path}", f"--out={tmp_path / 'data'}", "--val_share=0", "--test_share=0")
    said = refused(*flags)
    assert said == (
        "1 training record copies a test record (1 with more than 20% of its own text), first "
        "case-20; pass --drop_overlap=True to drop training records that copy val or test records, "
        "or --allow_overlap=True and report it with every score"
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl"]
    printed = prepared(*flags, "--allow_overlap=True")
    assert cells(printed, COPIES)["test"] == ["1", "0", "0", "1", "0"]
    assert open_prepared(tmp_path / "data", GPT2).record_ids("test") == [held_out]
    records[20]["sections"] = [["RESULTS", " ".join([*own, *leak[:13], *own])]]  # a phrase
    write_lines(path, records)
    assert cells(prepared(*flags), COPIES)["test"] == ["0"] * 5


def test_a_copy_of_an_official_test_abstract_is_refused(tmp_path: Path) -> None:
    """Under another id, a test record would be trained on."""
    items = official_items(PUBMEDQA_FIXTURE)
    items["planted"] = items[min(official_test_ids() & items.keys())]
    path = tmp_path / "planted.json"
    path.write_text(json.dumps(items))
    flags = (f"--source={path}", f"--out={tmp_path / 'data'}", "--tasks=answer", "--test_share=0")
    done = in_process(*flags, "--val_share=0")
    assert done.returncode == 1
    said = (
        "error: 1 training record copies a test record (1 with nearly the same text), first planted"
    )
    assert done.stderr.startswith(said) and done.stderr.count("\n") == 1
    assert cells(done.stdout, "Duplicates")["the same text"][:4] == ["1", "2", "0", "1"]
    assert not (tmp_path / "data").exists()


def test_bad_records_stop_the_run_or_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # short paths, which a table need not break
    records = made_records(30)
    lines: list[object] = [
        *records[:10],
        "{not json",
        records[3],
        {"id": "x", "text": "a", "decision": "perhaps"},
        {"id": "y", "text": 5},
        *records[10:],
    ]
    path = write_lines(Path("a.jsonl"), lines)
    flags = (f"--source={path}", "--out=data", "--show=0", "--val_share=0")
    advice = "(--skip_bad=True drops and counts such records)"
    said = refused(*flags)
    assert said.startswith(f"{path}:11: not valid JSON (")
    assert said.endswith(advice)
    printed = prepared(*flags, "--skip_bad=True")
    assert sum(int(row[0]) for row in cells(printed, "Records of").values()) == 30
    for place in (f"{path}:11:", "duplicate record case-3 in", f"{path}:13:", f"{path}:14:"):
        assert re.sub(r"\s", "", place) in re.sub(r"\s", "", printed.partition("Dropped")[2])
    del lines[10]
    write_lines(path, lines)
    assert refused(*flags) == f"duplicate record case-3 in {path} {advice}"
    many = write_lines(Path("many.jsonl"), [*records, *(["{"] * 25), *lines[11:12]])
    printed = prepared(f"--source={many}", *flags[1:], "--skip_bad=True")
    assert re.search(r"record +\S+ .* 25\n", printed)  # of one kind, with the first of them
    # A long path breaks its cell, whose first line the count stands in.
    assert "many.jsonl:31:" in re.sub(r"\s|\b25\b", "", printed)


# Settings


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_yes_share_balances_training_answers(share: float, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", made_records(900, seed=1))
    printed = prepared(
        f"--source={path}",
        f"--out={tmp_path / 'data'}",
        f"--yes_share={share}",
        "--tasks=answer",
        "--show=0",
        "--val_share=0.1",
    )
    data = open_prepared(tmp_path / "data", GPT2)
    heads = {"train": [], "val": []}  # type: dict[str, list[str]]
    for name, found in heads.items():
        split = data.split(name)
        found += [GPT2.decode([int(split.tokens[row[1]])]) for row in split.index]
    kept, yes = len(heads["train"]), heads["train"].count(" yes")
    assert abs(yes / kept - share) < 4 * (share * (1 - share) / kept) ** 0.5
    records = cells(printed, "Records of")
    assert kept - yes == int(records["train"][2]) + int(records["train"][3])
    dropped = re.search(r"answer +surplus yes +(\d+)", printed)
    assert dropped
    assert int(dropped[1]) + yes == int(records["train"][1])
    # Held-out splits are never balanced.
    assert heads["val"].count(" yes") == int(records["val"][1])


def test_plain_text_is_windowed_and_scored_once(tmp_path: Path) -> None:
    notes = [{"id": f"n{i}", "text": random_text(random.Random(i), 100)} for i in range(20)]
    path = write_lines(tmp_path / "notes.jsonl", notes)
    flags = (f"--source={path}", f"--out={tmp_path / 'data'}", "--block_size=64")
    said = refused(*flags)
    assert said.startswith(f"{path} yields no training example (answer: no yes/no/maybe (")
    assert said.endswith("; choose other --tasks or records")
    printed = prepared(*flags, "--tasks=text")
    assert "\n<|endoftext|>[[TEXT: " in printed
    data = open_prepared(tmp_path / "data", GPT2)
    train = data.split("train")
    assert train.lengths.max() == 64
    texts = {note["id"]: f"TEXT: {note['text']}" for note in notes}
    for number, record_id in enumerate(data.record_ids("train")):
        rows = train.index[train.index[:, 4] == number].tolist()
        scored = [each for row in rows for each in train.tokens[row[1] : row[2]].tolist()]
        assert GPT2.decode(scored) == texts[record_id] + "<|endoftext|>"


def test_the_default_folder_is_named_after_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lines(tmp_path / "ward.jsonl", made_records(5))
    monkeypatch.chdir(tmp_path)
    printed = prepared("--source=ward.jsonl", "--val_share=0", "--test_share=0")
    assert "\nWrote data/ward. Next:  " in printed
    assert printed.endswith(" train.py config/pubmedqa.py --data=data/ward --out=out/ward\n")
    assert open_prepared(tmp_path / "data" / "ward", GPT2).record_ids("train")
    printed = prepared("--source=ward.jsonl", "--val_share=0", "--test_share=0", "--task=text")
    assert printed.endswith(" train.py config/domain.py --data=data/ward --out=out/ward\n")


def test_help_lists_every_task() -> None:
    said = settings._documentation(prepare.PrepareConfig)["tasks"][1]
    assert set(re.findall(r"\w+", said.partition(": ")[2])) - {"and"} == {*TASKS}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sorce=x"], "unknown flag --sorce; did you mean --source?"),
        (
            ["--tasks=anwser"],
            "unknown task 'anwser'; choose from answer, summarize, document, text",
        ),
        (["--tasks="], "tasks is empty; choose from answer, summarize, document, text"),
        (["--tasks", "text", "text"], "tasks names text twice; keep one"),
        (["--fold=10"], "fold must be at least 0 and below 10, got 10"),
        (["--block_size=1025"], "block_size must be at least 16 and at most 1024, got 1025"),
        (["--yes_share=1"], "yes_share must be above 0 and below 1, got 1.0"),
        (["--val_share=0.6"], "val_share must be at least 0 and at most 0.5, got 0.6"),
        (["--test_share=nan"], "--test_share must be a finite number, got nan (float)"),
        (["--subset=pqa"], "--subset must be pqa_labeled, pqa_artificial or pqa_unlabeled"),
        (["--skip_bad=perhaps"], "--skip_bad must be True or False, got 'perhaps'"),
        (["--out="], "--out needs a value"),
        (["--synthetic_held_out=0"], "synthetic_held_out must be at least 1, got 0"),
        (["config/none.py"], "preset config/none.py does not exist"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_wrong_flags_are_usage_errors(flags: list[str], message: str) -> None:
    done = in_process(*flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1


def test_errors_set_the_exit_status_and_print_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{oops")
    cases = [
        ("--sorce=x", 2, "unknown flag --sorce; did you mean --source?"),
        (f"--source={tmp_path}/none.json", 1, f"{tmp_path}/none.json: no such file or folder"),
        (f"--source={tmp_path}/bad.json", 1, f"{tmp_path}/bad.json:1: not valid JSON near h"),
    ]
    for flag, status, message in cases:
        done = in_subprocess(flag, f"--out={tmp_path / 'data'}")
        assert (done.returncode, done.stdout) == (status, "")
        assert re.fullmatch(rf"error: {re.escape(message)}.*\n", done.stderr)
    assert not (tmp_path / "data").exists()


def test_unreadable_sources_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"1": {"QUESTION": "Why?",\n "CONTEXTS": ["a"]},\n oops}')
    (tmp_path / "empty.json").write_text("{}")
    (tmp_path / "notes.csv").write_text("a,b\n")
    cases = {
        "none.json": "none.json: no such file or folder; check the path",
        "nots.csv": "nots.csv: no such file or folder; did you mean ",
        "bad.json": "bad.json:3: not valid JSON near here",
        "empty.json": "empty.json is an empty object and contains no record; is it the right fi",
        "notes.csv": "notes.csv contains no record; is it the right file?",
    }
    for name, message in cases.items():
        assert message in refused(f"--source={tmp_path / name}", f"--out={tmp_path / 'data'}")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("most_bytes", [300, 5000, 20_000, 400_000])
def test_a_full_disk_is_reported_in_one_line(most_bytes: int, tmp_path: Path) -> None:
    """Whatever file is being written: the first, the index of runs, tokens, or the tokenizer's."""
    path = write_lines(tmp_path / "a.jsonl", made_records(60))
    flags = (f"--source={path}", "--test_share=0.3", "--show=0", "--workers=0")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, limits[1]))
    try:
        done = in_process(*flags, f"--out={tmp_path / 'data'}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = r"error: (/.*: )?File too large; choose a disk that allows larger files\n"
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(said, done.stderr), done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_place_that_cannot_be_written_is_named() -> None:
    said = refused("--source=synthetic", "--synthetic_records=5", "--out=/proc/clingpt/data")
    assert said.startswith("/proc/clingpt/data: ") and said.endswith("; check the path")


def test_a_folder_of_other_files_is_never_replaced(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", made_records(5))
    said = refused(f"--source={path}", f"--out={tmp_path}")
    wanted = "exists and is not prepared data; remove it or choose another --out"
    assert said == f"{tmp_path} {wanted}"
    assert path.exists()


def test_the_synthetic_source_is_reproducible(tmp_path: Path) -> None:
    sizes = ("--synthetic_records=60", "--synthetic_held_out=6")
    flags = ("--source=synthetic", *sizes, f"--out={tmp_path / 'data'}")
    records = cells(prepared(*flags), "Records of synthetic")
    assert [records[split][0] for split in ("train", "val", "test")] == ["60", "6", "6"]
    before = contents(tmp_path / "data")
    prepared(*flags)
    assert contents(tmp_path / "data") == before
    prepared(*flags, "--seed=1")
    assert contents(tmp_path / "data")["train.bin"] != before["train.bin"]


# Memory


PEAK = """\
import runpy, sys
sys.argv[0] = "prepare.py"
runpy.run_path("prepare.py", run_name="__main__")
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"): print(line.split()[1], file=sys.stderr)
"""


def peak_mib(*flags: object) -> float:
    """Return the peak resident memory of a run; ru_maxrss would include its parent's."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *map(str, flags)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stderr) / 2**10


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_does_not_grow_with_the_source(tmp_path: Path) -> None:
    """prepare.py keeps only the id and 272 bytes of a training record."""
    peaks = []
    for n in (1500, 4000):
        path = tmp_path / f"{n}.jsonl"
        rng = random.Random(n)
        texts = (" ".join(rng.choices(WORDS, k=300)) + f" {i}." for i in range(n))
        write_lines(path, ({"id": f"case-{i}", "text": text} for i, text in enumerate(texts)))
        shares = ("--val_share=0", "--test_share=0", "--tasks=text", "--show=0", "--workers=0")
        peaks.append(peak_mib(f"--source={path}", f"--out={tmp_path / str(n)}", *shares))
    assert path.stat().st_size > 6 * 2**20
    assert peaks[1] - peaks[0] < 5, peaks
