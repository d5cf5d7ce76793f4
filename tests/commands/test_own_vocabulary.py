"""All phases with a vocabulary that is not GPT-2's: prepare, train, eval, sample, serve, export."""

import contextlib
import io
import json
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from tokenizers import pre_tokenizers

import audit
import export
import prepare
import sample
from clingpt.data.prepared import open_prepared
from clingpt.decoding.decoders import make_decoder
from clingpt.evaluation.scorer import Scorer, score_labels
from clingpt.export.onnx_runner import Runner
from clingpt.nn import runtime
from clingpt.nn.checkpoint import load_model
from clingpt.text.records import LABELS, from_json
from clingpt.text.tasks import label_ids, prompt_text
from clingpt.text.tokenizer import EOT_TEXT, Tokenizer
from model import GPT, GPTConfig
from tests.helpers.commands import here, run, train_here
from tests.helpers.servers import serving
from tests.helpers.shared import PUBMEDQA_FIXTURE, read_records
from tests.helpers.vocabularies import CORPUS, saved, trained

BIOMEDLM_SIZE = 28_896
RECORD = {"question": "Does metformin help?", "text": "HbA1c fell by 1.2% (P < 0.001)."}


def python_sources() -> Iterator[str]:
    """Text enough for 28,896 tokens: a part of the standard library, and the words of labels."""
    yield from [*CORPUS, "yes no maybe Answer: yes Answer: no Answer: maybe " * 1000]
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:130]:
        yield path.read_text("utf-8", errors="replace")


@dataclass(frozen=True)
class Trained:
    """A base with its own tokenizer, data prepared for it, and a run that fine-tuned it."""

    base: Path
    data: Path
    run: Path
    tokenizer: Tokenizer


def fine_tune(
    folder: Path,
    *,
    n_tokens: int,
    n_rows: int,
    special: tuple[str, ...],
    prefix_space: bool = False,
) -> Trained:
    """Prepare twenty records of PubMedQA's layout for a random model, and fine-tune it."""
    corpus = python_sources() if n_tokens == BIOMEDLM_SIZE else CORPUS * 3
    made = trained(n_tokens, special, corpus)
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    assert made.get_vocab_size() == n_tokens
    base, data, out = folder / "base", folder / "data", folder / "run"
    torch.manual_seed(3)
    shape: dict[str, Any] = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 512}
    eot = special.index(EOT_TEXT)
    GPT(GPTConfig(vocab_size=n_rows, **shape)).save_pretrained(base, ends=[eot])
    config = json.loads((base / "config.json").read_text())
    saved(base, made, **config | {"vocab_size": n_rows})
    flags = [f"--source={PUBMEDQA_FIXTURE}", f"--out={data}", "--tasks", "answer", "summarize"]
    flags += [f"--tokenizer={base}", "--allow_overlap=True", "--workers=0", "--block_size=512"]
    assert here(prepare.main, *flags).returncode == 0
    flags = [f"--init_from={base}", f"--data={data}", f"--out={out}", "--steps=3"]
    flags += ["--eval_every=3", "--block_size=512", "--eval_records=2", "--select=accuracy"]
    assert train_here(*flags) == 0
    return Trained(base, data, out, Tokenizer.load(base))


@pytest.fixture(scope="module")
def biomedlm(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """28,896 tokens, an end of text with the id 0, and 28,928 rows."""
    folder = tmp_path_factory.mktemp("biomedlm")
    return fine_tune(folder, n_tokens=BIOMEDLM_SIZE, n_rows=28_928, special=(EOT_TEXT,))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """300 tokens, of which labels need several; the end of text has the id 1.

    A space is put before every text.
    """
    folder = tmp_path_factory.mktemp("small")
    return fine_tune(
        folder, n_tokens=300, n_rows=320, special=("<pad>", EOT_TEXT), prefix_space=True
    )


@pytest.fixture(params=["biomedlm", "small"])
def checkpoint(request: pytest.FixtureRequest) -> Trained:
    found: Trained = request.getfixturevalue(request.param)
    return found


def test_labels_are_one_token_or_several(biomedlm: Trained, small: Trained) -> None:
    assert {len(ids) for ids in label_ids(biomedlm.tokenizer)} == {1}
    assert max(len(ids) for ids in label_ids(small.tokenizer)) > 1


def test_prepared_data_are_in_the_checkpoints_ids(checkpoint: Trained) -> None:
    tokenizer = checkpoint.tokenizer
    data = open_prepared(checkpoint.data, tokenizer)
    assert data.manifest["tokenizer_name"] == tokenizer.name
    assert data.manifest["settings"]["tokenizer"] == str(checkpoint.base)
    train = data.split("train")
    assert train.eot == tokenizer.eot and int(train.tokens.max()) < tokenizer.size
    example = train.example(train.index[0])
    start = " Context:\n" if tokenizer.prefix_space else "Context:\n"
    assert tokenizer.decode(example.prompt_ids).startswith(start)
    assert example.target_ids[-1] == tokenizer.eot
    assert tokenizer.eot not in example.prompt_ids + example.target_ids[:-1]


def test_a_fine_tuned_checkpoint_opens_in_transformers(checkpoint: Trained) -> None:
    folder = checkpoint.run / "best"
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    tokenizer = checkpoint.tokenizer
    text = prompt_text("answer", from_json(RECORD, default_id="x"))
    assert theirs.encode(text) == tokenizer.encode(text)
    assert theirs.eos_token_id == model.config.eos_token_id == tokenizer.eot
    assert model.generation_config.eos_token_id == tokenizer.eot
    assert Tokenizer.load(folder) is tokenizer
    # Rows without a token are as they were: no token used them.
    weights = [load_file(each / "model.safetensors") for each in (checkpoint.base, folder)]
    rows = [each["transformer.wte.weight"][tokenizer.size :] for each in weights]
    assert len(rows[0]) > 0 and rows[0].shape == rows[1].shape


def test_the_official_protocol_is_unchanged(checkpoint: Trained) -> None:
    """Predictions of the official test records, by the log-probabilities that transformers has."""
    best = checkpoint.run / "best"
    flags = [f"--checkpoint={best}", "--split=test", "--texts=1", "--max_new_tokens=8"]
    run("eval.py", *flags, "--device=cpu")
    folder = checkpoint.run / "eval_test"
    predictions = json.loads((folder / "predictions.json").read_text())
    shares = json.loads((folder / "probabilities.json").read_text())
    ids = open_prepared(checkpoint.data, checkpoint.tokenizer).record_ids("test")
    assert sorted(predictions) == sorted(ids) and len(ids) == 6
    model = transformers.GPT2LMHeadModel.from_pretrained(best).eval()
    records = {r.id: r for r in open_prepared(checkpoint.data).records("test")}
    for name in ids:
        prompt = checkpoint.tokenizer.encode(prompt_text("answer", records[name]))
        sums = []
        for label in label_ids(checkpoint.tokenizer):
            with torch.no_grad():
                logits_TV = model(torch.tensor([[*prompt, *label]])).logits[0]
            places = torch.arange(len(prompt) - 1, len(prompt) + len(label) - 1)
            sums.append(float(logits_TV.log_softmax(-1)[places, list(label)].sum()))
        expected = torch.tensor(sums).softmax(0).tolist()
        assert [shares[name][label] for label in LABELS] == pytest.approx(expected, abs=1e-4)
        assert predictions[name] == LABELS[int(np.argmax(sums))]


def test_sample_serve_and_the_onnx_runner_answer_alike(checkpoint: Trained, tmp_path: Path) -> None:
    best, text = checkpoint.run / "best", json.dumps(RECORD)
    flags = ["--task=answer", "--json=True", "--max_new_tokens=12", f"--checkpoint={best}"]
    sampled = json.loads(here(sample.main, *flags, "--device=cpu", stdin=text).stdout)
    with serving(best) as server:
        answer = server.ask("/v1/answer", {**RECORD, "max_new_tokens": 12}).json
        wrong = checkpoint.tokenizer.size
        refused = server.ask("/v1/completions", {"prompt": [wrong], "max_tokens": 1})
        done = server.ask("/v1/completions", {"prompt": "Pain", "max_tokens": 9, "echo": True})
        shorter = server.ask("/v1/answer", {**RECORD, "max_new_tokens": 1}).json
    assert refused.status == 400 and "not in the vocabulary of a byte-level" in str(refused.json)
    assert done.json["choices"][0]["text"].lstrip().startswith("Pain")
    out = tmp_path / "onnx"
    flags = ["--format=onnx", f"--checkpoint={best}", f"--out={out}"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert here(export.main, *flags).returncode == 0
    runner = Runner(out)
    assert runner.tokenizer is checkpoint.tokenizer
    [exported] = runner.do("answer", [from_json(RECORD, default_id="x")], max_new_tokens=12)
    for found in (answer, exported, shorter):
        assert found["label"] == sampled["label"]
        assert found["probabilities"] == pytest.approx(sampled["probabilities"], abs=1e-4)
    assert exported["text"] == sampled["text"]


def test_batched_labels_equal_single_ones(checkpoint: Trained) -> None:
    loaded, rt = load_model(checkpoint.run / "best"), runtime.start(device="cpu")
    model = loaded.model.eval()
    records = read_records(PUBMEDQA_FIXTURE)
    scorer = Scorer(model, make_decoder(model, rt), loaded.tokenizer, rt, batch_size=7)
    together = score_labels(scorer, records)
    assert together == [score_labels(scorer, [record])[0] for record in records]


def test_the_audit_samples_only_tokens(checkpoint: Trained, tmp_path: Path) -> None:
    flags = [f"--checkpoint={checkpoint.run / 'best'}", f"--data={checkpoint.data}", "--samples=4"]
    assert here(audit.main, *flags, "--device=cpu").returncode == 0


def test_training_from_scratch_takes_the_datas_tokenizer(small: Trained, tmp_path: Path) -> None:
    flags = [f"--data={small.data}", f"--out={tmp_path}", "--steps=1", "--block_size=512"]
    assert train_here(*flags) == 0
    config = json.loads((tmp_path / "last/config.json").read_text())
    assert (config["vocab_size"], config["eos_token_id"]) == (300, 1)
    assert Tokenizer.load(tmp_path / "last") is small.tokenizer


@pytest.mark.parametrize("command", ["train.py", "eval.py"])
def test_data_of_another_tokenizer_are_refused_with_the_command_to_prepare_them(
    command: str, small: Trained, thirteen: Path, tmp_path: Path
) -> None:
    best = small.run / "best"
    flags = {
        "train.py": [f"--init_from={best}", f"--out={tmp_path}", "--block_size=512"],
        "eval.py": [f"--checkpoint={best}"],
    }
    done = run(command, *flags[command], f"--data={thirteen}", "--device=cpu", check=False)
    assert done.returncode == 1
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(
        f"error: {thirteen} was prepared with GPT-2's tokenizer (a05c98a9), but "
    )
    assert f"{best} has a byte-level BPE of 300 tokens (" in line
    assert f"prepare.py --source=synthetic --out={thirteen} --tokenizer={best} and the" in line


def test_an_unknown_tokenizer_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    for name, reason in (
        ("nowhere", "nowhere is not a folder; pass a checkpoint's folder, gpt2 or a Hub id"),
        ("no/where", "the tokenizer of no/where is not in the cache and cannot be downloaded ("),
    ):
        flags = ["--source=synthetic", f"--out={tmp_path / 'data'}", f"--tokenizer={name}"]
        done = run("prepare.py", *flags, check=False)
        assert done.returncode == 1 and f"error: {reason}" in done.stderr
        assert len(done.stderr.splitlines()) == 1
