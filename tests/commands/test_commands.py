"""The commands as users type them: a small run from records to a reply, and every mistake."""

import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import prepare
import sample
from clingpt.base import console, jsonl
from clingpt.data import synthetic
from clingpt.data.prepared import open_prepared
from clingpt.nn.checkpoint import CARD, FORMAT
from clingpt.text.records import to_json
from clingpt.text.tokenizer import Tokenizer
from tests.helpers.commands import ROOT, TINY_RUN, here, run, train_here, train_losses
from tests.helpers.shared import PUBMEDQA, PUBMEDQA_TRUTH, shared_file

eval_py = importlib.import_module("eval")  # a builtin's name
evaluate = eval_py.main


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """Train for four steps on the prepared data."""
    out = tmp_path_factory.mktemp("run") / "tiny"
    flags = ["--steps=4", "--eval_every=2", "--log_every=1", "--warmup_steps=0"]
    flags += ["--learning_rate=3e-3"]
    done = run("train.py", *TINY_RUN, *flags, f"--data={data}", f"--out={out}")
    printed = done.stdout
    assert "Trained at step 4 of 4" in printed
    assert "training: " not in done.stderr  # progress, without a terminal, is a line a minute
    assert f" eval.py --checkpoint={out}/best\n" in printed  # not on the test split
    return out


def test_a_run_writes_the_files_that_formats_md_describes(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert names >= {"step_000002", "step_000004", "best", "last", "metrics.jsonl", "curves.png"}
    rows = jsonl.read(trained / "metrics.jsonl")
    losses = [row["train_loss"] for row in rows if "train_loss" in row]
    assert [row["step"] for row in rows if "val_loss" in row] == [2, 4]
    assert len(losses) == 4 and losses[-1] < losses[0] - 0.05
    assert (trained / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_transformers_opens_a_checkpoint_without_conversion(trained: Path) -> None:
    """There are no missing or unexpected keys, and logits and greedy text are the same."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from clingpt.decoding.engine import generate
    from clingpt.decoding.sampling import Sampling
    from clingpt.nn.checkpoint import load_model

    theirs, loading = AutoModelForCausalLM.from_pretrained(
        trained / "best", output_loading_info=True
    )
    assert not any(loading.values()), loading
    tokenizer = AutoTokenizer.from_pretrained(trained / "best")
    ours = load_model(trained / "best")
    model = ours.model.eval()
    text = "Does miraolol reduce pain (p < 0.05, ± 3 µg)?"
    ids = ours.tokenizer.encode(text)
    assert tokenizer(text)["input_ids"] == ids
    with torch.no_grad():
        expected, found = theirs.eval()(torch.tensor([ids])).logits, model(torch.tensor([ids]))
    assert float((expected - found).abs().max() / expected.abs().max()) <= 1e-5
    args = ours.tokenizer, [ids], Sampling(max_new_tokens=20)
    [reply] = generate(model, *args, context=256)
    greedy = theirs.generate(torch.tensor([ids]), max_new_tokens=20, do_sample=False)[0, len(ids) :]
    assert greedy.tolist()[: len(reply.ids)] == reply.ids
    assert tokenizer.decode(reply.ids) == ours.tokenizer.decode(reply.ids)


def test_eval_writes_a_report_and_the_official_predictions(trained: Path, data: Path) -> None:
    printed = run(
        "eval.py", f"--checkpoint={trained}/best", "--split=test", "--texts=3",
        "--max_new_tokens=8",
    ).stdout  # fmt: skip
    for phrase in ("majority", "question only", "lead-3", "bits per byte", "macro-F1", "ECE"):
        assert phrase in printed, phrase
    folder = trained / "eval_test"
    report = json.loads((folder / "report.json").read_text())
    ids = open_prepared(data, Tokenizer.load()).record_ids("test")
    predictions = json.loads((folder / "predictions.json").read_text())
    assert sorted(predictions) == sorted(ids) and report["labels"]["systems"]["model"]["n"] == len(
        ids
    )
    assert set(predictions.values()) <= {"yes", "no", "maybe"}
    shares = json.loads((folder / "probabilities.json").read_text()).values()
    assert all(abs(sum(each.values()) - 1) < 1e-6 for each in shares)
    assert len((folder / "outputs.jsonl").read_text().splitlines()) == 6  # two tasks of three
    assert report["texts"]["summarize"]["systems"]["model"]["texts"] == 3
    scores = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    said = {row["record_id"]: row["labels"]["model"] for row in scores if "labels" in row}
    assert said == {name: [label] for name, label in predictions.items()}
    rouge = [row["rouge"]["model"]["rouge1"] for row in scores if row.get("task") == "summarize"]
    mean = report["texts"]["summarize"]["systems"]["model"]["rouge"]["rouge1"]
    assert len(rouge) == 3 and sum(rouge) / 3 == pytest.approx(mean)
    weights = load_file(trained / "best/model.safetensors")
    padding = 47 * weights["transformer.wte.weight"].shape[1]  # rows up to a multiple of 64
    assert report["parameters"] == sum(t.numel() for t in weights.values()) + padding
    assert report["look"] == 1 and not (folder / "parts").exists()
    assert len(report["examples"]) == 6 and len(report["curve"]) == 6
    disclaimer = "Not intended to inform diagnosis, treatment or patient management."
    for path in (folder / "report.html", trained / "best/README.md"):
        assert disclaimer in path.read_text(), path
    assert "| majority |" in (folder / "report.md").read_text()
    fitted = json.loads((trained / "best/calibration.json").read_text())
    assert fitted["fitted_on"]["split"] == "val"
    note = json.dumps({"question": "Does it help?", "text": "It helped (P = 0.01)."})
    flags = ["--task=answer", "--json=True", "--max_new_tokens=2", f"--checkpoint={trained}/best"]
    reply = json.loads(run("sample.py", *flags, stdin=note).stdout)
    assert reply["abstained"] == (max(reply["probabilities"].values()) < fitted["threshold"])


def test_questions_and_documents_from_a_file_are_trained_on_and_scored(
    trained: Path, tmp_path: Path
) -> None:
    """The file has no labels, and its documents' own headings are found and scored."""
    source, folder, out = tmp_path / "own.jsonl", tmp_path / "own", tmp_path / "eval"
    lines = []
    for n in range(60):
        fields: dict[str, Any] = {"id": n, "question": f"What is drug {n}?"}
        fields |= {"long_answer": f"Drug {n} is drug {n} of {n + 60}."}
        own = {"text": f"Had drug {n}.", "document": f"DRUG: number {n}.\n\nPLAN: go on."}
        lines.append(json.dumps(fields | (own if n % 2 else {})))
    source.write_text("\n".join(lines))
    flags = ["--test_share=0.3", "--val_share=0.1", "--block_size=256", f"--out={folder}"]
    shown = run("prepare.py", f"--source={source}", *flags, "--tasks", "explain", "document").stdout
    end = re.escape("<|endoftext|>]]")
    assert re.search(rf"Explanation:\[\[ Drug (\d+) is drug \1 of \d+\.{end}", shown)
    assert re.search(rf"Document:\[\[ DRUG: number \d+\.\n\nPLAN: go on\.{end}", shown)
    flags = [f"--data={folder}", "--split=test", "--max_prose_tokens=6", "--max_document_tokens=6"]
    printed = run("eval.py", f"--checkpoint={trained}/best", *flags, f"--out={out}").stdout
    report = json.loads((out / "report.json").read_text())
    n_test = len((folder / "test.ids").read_text().splitlines())
    n_notes = sum("document" in line for line in (folder / "test.jsonl").read_text().splitlines())
    model = report["texts"]["explain"]["systems"]["model"]
    assert model["texts"] == n_test > model["unsupported"]["texts"] == n_notes > 0
    structure = report["texts"]["document"]["structure"]
    assert (structure["documents"], structure["unheaded"]) == (n_notes, 0)
    assert report["perplexity"].keys() == {"context", "prose"} and report["labels"] == {}
    assert report["perplexity"]["prose"]["text"]["words"] == 7 * n_test  # Drug 7 is drug 7 of 67.
    explained = [one for one in report["examples"] if one["task"] == "explain"]
    assert {(one["compared"], "Context:" in one["prompt"]) for one in explained} == {
        (True, True), (False, False)
    }  # fmt: skip
    phrase = "Questions without a context"
    assert phrase in printed and phrase in (out / "report.html").read_text()


def test_a_calibration_is_kept_only_with_the_weights_and_data_it_describes(
    trained: Path, tmp_path: Path
) -> None:
    run_folder = tmp_path / "run"
    shutil.copytree(trained, run_folder, symlinks=True)
    kept = run_folder / "best/calibration.json"
    kept.unlink(missing_ok=True)
    flags = [f"--checkpoint={run_folder}/best", "--texts=0", f"--out={tmp_path / 'eval'}"]
    assert here(evaluate, *flags, "--quantize=int8").returncode == 0
    assert not kept.exists()
    kept.write_text('{"format": 1}')  # an older version's, which must be replaced
    for coverage in (0.5, 0.9):  # on test records: fitted again on validation records
        assert here(evaluate, *flags, "--split=test", f"--coverage={coverage}").returncode == 0
        fitted = json.loads(kept.read_text())
        assert (fitted["coverage"], fitted["fitted_on"]["split"]) == (coverage, "val")
    other = tmp_path / "other"
    made = ["--source=synthetic", "--synthetic_records=20", "--seed=7", "--synthetic_held_out=4"]
    here(prepare.main, *made, "--tasks=answer", "--block_size=256", f"--out={other}")
    before = kept.read_bytes()
    assert here(evaluate, *flags, f"--data={other}").returncode == 0
    assert kept.read_bytes() == before


def test_two_checkpoints_are_compared(trained: Path, tmp_path: Path) -> None:
    out, names = tmp_path / "both", [str(trained / f"step_{n:06}") for n in (2, 4)]
    flags = ["--split=val", "--texts=0", f"--out={out}", "--checkpoint", *names]
    assert "McNemar" in run("eval.py", *flags).stdout
    found = json.loads((out / "report.json").read_text())["comparison"]
    assert found["checkpoints"] == names and found["paired"]["second"] == names[1]
    assert found["spread"]["context bits per byte, not trained on"]["n"] == 2


def test_conclusions_are_shown_only_on_request(trained: Path, tmp_path: Path) -> None:
    flags = [f"--checkpoint={trained}/best", "--reasoning_free=True", f"--out={tmp_path / 'free'}"]
    run("eval.py", *flags)
    report = json.loads((tmp_path / "free/report.json").read_text())
    assert report["setting"] == "reasoning-free" and report["texts"] == {}
    assert "reasoning-free" in (tmp_path / "free/report.html").read_text()


@pytest.mark.parametrize(
    ("flags", "stdin"),
    [
        (["--prompt=The trial"], ""),
        ([], "The trial\n"),
        (["--task=answer"], '{"question": "Does it help?", "text": "It helped (P = 0.01)."}'),
        (["--task=summarize"], '{"text": "It helped."}'),
        (["--task=document"], '{"sections": {"RESULTS": "It helped.", "METHODS": "A trial."}}'),
        (["--task=explain"], '{"question": "Does it help?", "text": "It helped."}'),
        (["--task=explain"], '{"question": "Does it help?"}'),
    ],
)
def test_sample_replies_on_standard_output(trained: Path, flags: list[str], stdin: str) -> None:
    common = [f"--checkpoint={trained}/best", "--max_new_tokens=5", "--temperature=1"]
    first, again = (
        here(sample.main, *common, *flags, "--samples=2", stdin=stdin) for _ in range(2)
    )
    assert (first.returncode, first.stdout) == (0, again.stdout) and first.stdout.strip()
    assert ("probabilities: yes" in first.stderr) == ("--task=answer" in flags)


def test_a_long_prompt_loses_its_context_not_its_question(trained: Path, tmp_path: Path) -> None:
    note = {"question": "Does it help?", "text": "The patients did well. " * 200}
    (tmp_path / "note.json").write_text(json.dumps(note))
    flags = [f"--checkpoint={trained}/best", "--max_new_tokens=5", "--task=answer"]
    result = run("sample.py", *flags, f"--input={tmp_path / 'note.json'}")
    assert re.search(r"\d+ tokens of the context did not fit", result.stderr)


def test_repeating_a_command_resumes_the_run_and_then_ends_at_once(
    trained: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(trained, out, symlinks=True)
    flags = ["--eval_every=2", "--log_every=1", "--warmup_steps=0", f"--out={out}"]
    flags += ["--learning_rate=3e-3", f"--data={data}", "--steps=6"]
    assert train_here(*flags) == 0
    said = capsys.readouterr().err
    assert "resuming" in said and "steps 4 -> 6" in said
    assert list(train_losses(out)) == [1, 2, 3, 4, 5, 6]
    assert max(path.name for path in out.glob("step_*")) == "step_000006"
    assert train_here(*flags) == 0
    assert "Trained at step 6 of 6" in capsys.readouterr().out
    assert train_here(*flags, "--resume=never") == 2
    assert "already contains a run" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_a_checkpoint_and_prints_how_to_resume(
    data: Path, tmp_path: Path, number: int, status: int
) -> None:
    out = tmp_path / "run"
    flags = ["--steps=100000", "--eval_every=100000", "--log_every=1"]
    process = subprocess.Popen(
        [sys.executable, "train.py", *TINY_RUN, *flags, f"--data={data}", f"--out={out}"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not jsonl.read(out / "metrics.jsonl") and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == status, stderr
    assert "Saved. To resume:" in stdout
    last = jsonl.read(out / "metrics.jsonl")[-1]["step"]
    assert (out / "last").resolve().name == f"step_{last:06d}"


@pytest.mark.slow
def test_eight_examples_are_memorised(tmp_path: Path) -> None:
    """The loss is near zero, and the targets are reproduced word for word."""
    records = list(synthetic.iter_records("val", count=8, seed=5))
    source = tmp_path / "eight.jsonl"
    source.write_text("".join(json.dumps(to_json(record)) + "\n" for record in records))
    folder, out = tmp_path / "data", tmp_path / "run"
    none_held_out = ["--val_share=0", "--test_share=0", "--allow_overlap=True"]
    run("prepare.py", f"--source={source}", f"--out={folder}", "--tasks=answer", *none_held_out)
    run(
        "train.py", f"--data={folder}", f"--out={out}", "--init_from=scratch", "--n_layer=2",
        "--n_head=4", "--n_embd=128", "--block_size=256", "--batch_size=8", "--micro_batch_size=8",
        "--steps=150", "--eval_every=150", "--learning_rate=3e-3", "--min_lr=3e-4", "--dropout=0",
        "--compile=False", "--device=cpu",
    )  # fmt: skip
    losses = [r["train_loss"] for r in jsonl.read(out / "metrics.jsonl") if "train_loss" in r]
    assert losses[-1] < 0.02
    printed = run(
        "sample.py", f"--checkpoint={out}/best", "--task=answer", f"--input={source}", "--limit=8",
        "--max_new_tokens=80",
    ).stdout  # fmt: skip
    expected = [f" {r.decision}\nExplanation: {r.long_answer}\n" for r in records]
    assert printed == "".join(expected)


def test_pubmedqa_preset_trains_weights_from_another_tool(hub_gpt2: Path, tmp_path: Path) -> None:
    """A small GPT-2 written by transformers is trained with config/pubmedqa.py."""
    from transformers import GPT2Config, GPT2LMHeadModel

    theirs = tmp_path / "theirs"
    GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=16, n_positions=512)).save_pretrained(
        theirs
    )
    folder, out = tmp_path / "data", tmp_path / "run"
    run(
        "prepare.py",
        "--source=synthetic",
        "--synthetic_records=9",
        "--synthetic_held_out=2",
        f"--out={folder}",
    )
    flags = [f"--data={folder}", f"--out={out}", "--steps=1", "--compile=False", "--device=cpu"]
    flags += ["--block_size=512", "--batch_size=2"]
    run("train.py", "config/pubmedqa.py", f"--init_from={theirs}", *flags)
    assert json.loads((out / "last/config.json").read_text())["n_embd"] == 16


@pytest.mark.slow
def test_real_pubmedqa_trains_a_small_model_and_scores_it(tmp_path: Path) -> None:
    """The loss falls, the report includes the baselines, and all 500 records are predicted."""
    source, truth_file = shared_file(PUBMEDQA), shared_file(PUBMEDQA_TRUTH)
    folder, out = tmp_path / "data", tmp_path / "run"
    run("prepare.py", f"--source={source}", f"--out={folder}", "--tasks=answer")
    run(
        "train.py", f"--data={folder}", f"--out={out}", "--init_from=scratch", "--n_layer=2",
        "--n_head=2", "--n_embd=32", "--batch_size=4", "--micro_batch_size=4", "--steps=16",
        "--eval_every=8", "--log_every=1", "--learning_rate=3e-3", "--warmup_steps=2",
        "--compile=False", "--device=cpu",
    )  # fmt: skip
    rows = jsonl.read(out / "metrics.jsonl")
    losses = [row["train_loss"] for row in rows if "train_loss" in row]
    assert losses[-1] < losses[0] - 0.5
    printed = run("eval.py", f"--checkpoint={out}/best", "--split=test", "--texts=0").stdout
    assert re.search(r"majority +55\.2 +50\.8–59\.5 +23\.7", printed), printed
    truth = json.loads(truth_file.read_text())
    predictions = json.loads((out / "eval_test/predictions.json").read_text())
    assert predictions.keys() == truth.keys()


# ------------------------------------------------------------------------------------------------
# Mistakes: one line on standard error, the right exit status, no traceback.


def truncated(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:-2])


def other_tokenizer(folder: Path, name: str) -> None:
    manifest = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(manifest | {"tokenizer": "0" * 64}))


MISTAKES: list[tuple[str, list[str], int, str]] = [
    ("train", ["--learning_rte=1"], 2, "did you mean --learning_rate"),
    ("prepare", ["--xyzzy=3"], 2, "unknown flag --xyzzy; --help lists them all"),
    ("eval", ["--limit=10"], 2, "unknown flag --limit; did you mean --texts?"),
    ("train", ["--compile=maybe"], 2, "compile"),
    ("train", ["--batch_size=0"], 2, "batch_size must be at least 1"),
    ("train", ["--dropout=1"], 2, "dropout must be at least 0 and below 1"),
    ("train", ["--learning_rate=nan"], 2, "learning_rate"),
    ("train", ["--n_layer=3.5"], 2, "n_layer"),
    ("train", ["--keep=1"], 2, "keep must be at least 2"),
    ("train", ["config/nothing.py"], 2, "config/nothing.py does not exist"),
    ("train", ["--data={tmp}/none", *TINY_RUN], 1, "none is not prepared data"),
    ("train", ["--init_from=./none"], 1, "./none is not a folder"),
    ("train", ["--device=tpu9"], 2, "device"),
    ("train", ["--data={cut}", *TINY_RUN], 1, "truncated or changed; run prepare.py again"),
    ("train", ["--data={alien}", *TINY_RUN], 1, "was prepared with"),
    (
        "train",
        ["--data={data}", "--init_from=scratch", "--block_size=64"],
        1,
        "run prepare.py --block_size=64",
    ),
    ("prepare", ["--source={tmp}/none.json"], 1, "none.json"),
    ("prepare", ["--source={tmp}/bad.json"], 1, "bad.json:2: not valid JSON near here"),
    ("prepare", ["--source={tmp}/bad.jsonl"], 1, "bad.jsonl:2"),
    ("prepare", ["--source=nothing"], 1, "unknown source 'nothing'"),
    ("prepare", ["--tasks", "answer", "sing"], 2, "unknown task 'sing'"),
    ("prepare", ["--source=synthetic", "--out={tmp}"], 1, "is not prepared data"),
    ("prepare", ["--fold=10"], 2, "fold must be at least 0 and below 10"),
    ("eval", [], 2, "pass --checkpoint"),
    ("eval", ["--checkpoint=out/none/best"], 1, "out/none/best is not a folder"),
    ("eval", ["--checkpoint={broken}"], 1, "model.safetensors is damaged"),
    ("sample", ["--checkpoint={tmp}/none", "--prompt=x"], 1, "is not a folder"),
    ("sample", ["--prompt=a", "--prompt_file=b"], 2, "pass one of --prompt and --prompt_file"),
    ("sample", ["--prompt=a", "--task=answer"], 2, "--task takes a record"),
    ("sample", ["--input=a.json"], 2, "needs --task"),
    ("sample", ["--temperature=-1"], 2, "temperature must be 0, or at"),
    ("sample", ["--checkpoint={best}", "--prompt_file={tmp}/none"], 1, "none"),
    ("sample", ["--checkpoint={best}", "--prompt=x", "--max_new_tokens=999"], 2, "lower it"),
    ("sample", ["--checkpoint={best}", "--task=answer", "--input={tmp}/bad.json"], 1, "bad.json"),
]


@pytest.fixture(scope="session")
def places(
    tmp_path_factory: pytest.TempPathFactory, data: Path, trained: Path
) -> Callable[[str], str]:
    """Fills in the folders that the mistakes name."""
    tmp = tmp_path_factory.mktemp("mistakes")
    (tmp / "bad.json").write_text('{"1": {"QUESTION": "?", "CONTEXTS": []},\n "2": }')
    (tmp / "bad.jsonl").write_text('{"id": "1", "question": "?"}\n{"id": "2",\n')
    names = {"tmp": tmp, "data": data, "best": trained / "best"}
    for name, source, file, damage in (
        ("cut", data, "train.bin", truncated),
        ("alien", data, "manifest.json", other_tokenizer),
        ("broken", trained / "best", "model.safetensors", truncated),
    ):
        names[name] = tmp / name
        shutil.copytree(source, tmp / name)
        damage(tmp / name, file)
    return lambda text: text.format(**names)


@pytest.mark.parametrize(("command", "flags", "status", "phrase"), MISTAKES)
def test_a_users_mistake_prints_one_line_that_says_what_to_do(
    command: str,
    flags: list[str],
    status: int,
    phrase: str,
    places: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    flags = [places(flag) for flag in flags]
    if command in ("train", "prepare") and not any(flag.startswith("--out") for flag in flags):
        flags.append(f"--out={tmp_path / 'out'}")
    monkeypatch.setattr(sys, "argv", [f"{command}.py", *flags])
    with pytest.raises(SystemExit) as end:
        console.run(importlib.import_module(command).main)
    lines = capsys.readouterr().err.strip().splitlines()
    assert end.value.code == status, lines
    assert lines[-1].startswith("error: ") and phrase in lines[-1]
    assert not any("Traceback" in line for line in lines)


def test_pubmedqa_without_network_or_cache_stops_at_once(tmp_path: Path) -> None:
    """One line says what is missing and how to get it."""
    env: dict[str, Any] = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "train.py", "config/pubmedqa.py", f"--out={tmp_path / 'out'}"],
        cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert result.returncode == 1
    [line] = result.stderr.strip().splitlines()
    assert "the weights of gpt2 are not in the cache" in line
    assert "hf download openai-community/gpt2" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["prepare", "train", "eval", "sample"])
def test_help_lists_every_setting(command: str) -> None:
    settings = getattr(importlib.import_module(command), f"{command.title()}Config")
    printed = run(f"{command}.py", "--help").stdout
    for name in settings.__dataclass_fields__:
        assert f"--{name}" in printed
    assert "\x1b" not in printed


def test_an_evaluation_on_other_data_replaces_no_report(tmp_path: Path) -> None:
    best = tmp_path / "run" / "step_000002"
    best.mkdir(parents=True)
    own, other = tmp_path / "own", tmp_path / "other"
    card = {"format": FORMAT, "data": {"folder": str(own)}}
    (best / CARD).write_text(json.dumps(card), "utf-8")

    def folder(data: Path | None) -> Path:
        cfg = eval_py.EvalConfig(checkpoint=("run",), data=data)
        return Path(eval_py.report_folder(cfg, best))

    assert folder(None) == folder(own) == tmp_path / "run" / "eval_val"
    assert folder(other) == tmp_path / "run" / "eval_val_other"
