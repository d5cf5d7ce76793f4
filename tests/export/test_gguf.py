"""export.py --format=gguf: the file as llama.cpp and the package gguf read it, and Modelfiles.

llama.cpp is the judge, in the package xllamacpp. Without it, the tests that need it are skipped.
"""

import math
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch

import model as model_module
from clingpt.base.errors import CheckpointError
from clingpt.base.files import SUMS
from clingpt.decoding.engine import generate
from clingpt.decoding.sampling import Sampling
from clingpt.export import gguf_file, gguf_folder, llama_cpp, ollama, plain
from clingpt.text.records import Record
from clingpt.text.tasks import PROMPTED, TASK_TABLE, Example, make_example, prompt_text
from clingpt.text.tokenizer import EOT_TEXT, Tokenizer
from model import GPT, GPTConfig, attend_rows
from tests.helpers.commands import ROOT
from tests.helpers.exports import export, make_checkpoint
from tests.helpers.models import make_tiny_model
from tests.helpers.shared import PUBMEDQA_FIXTURE, read_records
from tests.helpers.vocabularies import saved, with_prefix_space
from tests.helpers.vocabularies import trained as trained_vocabulary

Capture = pytest.CaptureFixture[str]
GPT2 = Tokenizer.load()
needs_llama_cpp = pytest.mark.skipif(
    not llama_cpp.is_installed(), reason=f"needs pip install -r {llama_cpp.REQUIREMENTS}"
)
ROUNDING = {"F32": 0.001, "F16": 0.003, "Q8_0": 0.01}  # of the perplexity, in relative terms
HARD_TEXTS = (
    "",
    " ",
    "  two  and   three\t\ttabs \n\n\nlines\r\n\r\n end ",
    "It's we'll I'M they've DON'T 'tis rock'n'roll",
    "0 00 1234567890 3.14159 1e-7 ½ ² ٣ Ⅷ 1,000.00",
    "µg ≤ ± β-blocker naïve Ærø ﬁ ß Ω İ ǆ",
    "心電図は正常。 患者는 두통을 호소했다 Жалобы на боль ا לא",
    "🫀🧬 👩‍⚕️ \U0001f1e9\U0001f1f0 e\u0301 \u200b \ufeff \u2028 \xa0 \u3000x",
    "<|endoftext|> <pad> [PAD] </s> <|im_start|>",
    "{}[]()<>@#$%^&*~`|\\/_-+=:;\"'!?.,…—“”",
)


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    """Prompts and targets of the 20 records of the fixture."""
    records = read_records(PUBMEDQA_FIXTURE)
    return [make_example("answer", record, GPT2, budget=256) for record in records]


@pytest.fixture(scope="module")
def trained(examples: list[Example]) -> GPT:
    """A small model that has seen the targets often enough to prefer some tokens clearly."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(n_layer=2, n_head=2, n_embd=64, block_size=320))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(20):
        for example in examples:
            ids = torch.tensor([[*example.prompt_ids, *example.target_ids]])
            start = len(example.prompt_ids)
            positions = torch.arange(ids.shape[1])[None]
            x = model.hidden(ids, positions, lambda _layer, qkv: attend_rows(qkv))
            logits = model.logits(x[0, start - 1 : -1])
            loss = torch.nn.functional.cross_entropy(logits, ids[0, start:])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model.eval()


def write(model: GPT, path: Path, dtype: str = "float32", tokenizer: Tokenizer = GPT2) -> Path:
    """Write a GGUF file without verifying it."""
    gguf_file.write(model, tokenizer, path, kind=gguf_file.KINDS[dtype], facts={})
    return path


@torch.no_grad()
def losses(model: GPT, examples: Sequence[Example]) -> list[float]:
    """Return the loss of every target token."""
    found = []
    for example in examples:
        ids = [*example.prompt_ids, *example.target_ids]
        logits_TV = model(torch.tensor([ids]))[0, len(example.prompt_ids) - 1 : -1]
        found += (-logits_TV.log_softmax(-1)[range(len(logits_TV)), example.target_ids]).tolist()
    return found


def losses_in_llama_cpp(path: Path, examples: Sequence[Example]) -> list[float]:
    requests = []
    for example in examples:
        ids = [*example.prompt_ids, *example.target_ids]
        requests += [
            ("next_token", ids[:n], ids[n]) for n in range(len(example.prompt_ids), len(ids))
        ]
    return [-log_prob for log_prob, _ in llama_cpp.call(path, requests)]


def perplexity(token_losses: Sequence[float]) -> float:
    return math.exp(sum(token_losses) / len(token_losses))


# llama.cpp


@needs_llama_cpp
@pytest.mark.slow
def test_llama_cpp_writes_the_same_greedy_text(
    trained: GPT, examples: list[Example], tmp_path: Path
) -> None:
    path = write(trained, tmp_path / "model.gguf")
    prompts = [example.prompt_ids for example in examples]
    ours = generate(trained, GPT2, prompts, Sampling(max_new_tokens=32), context=320)
    assert len(ours) == 20 and len({reply.text for reply in ours}) > 3
    assert any(reply.finish_reason == "stop" for reply in ours)
    theirs = llama_cpp.call(path, [("reply", prompt, 32) for prompt in prompts])
    assert [GPT2.decode(ids) for ids in theirs] == [reply.text for reply in ours]


@needs_llama_cpp
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float16", "q8_0"])
def test_llama_cpp_has_the_same_perplexity(
    dtype: str, trained: GPT, examples: list[Example], tmp_path: Path
) -> None:
    path = write(trained, tmp_path / "model.gguf", dtype)
    ours = perplexity(losses(trained, examples[:6]))
    theirs = perplexity(losses_in_llama_cpp(path, examples[:6]))
    assert ours > 1.5
    assert theirs == pytest.approx(ours, rel=ROUNDING[gguf_file.KINDS[dtype]])


@needs_llama_cpp
@pytest.mark.parametrize("is_gpt2", [True, False])
def test_llama_cpp_encodes_text_identically(is_gpt2: bool, tmp_path: Path) -> None:
    tokenizer = GPT2
    if not is_gpt2:
        tokenizer = Tokenizer.load(saved(tmp_path, trained_vocabulary(500, (EOT_TEXT, "<pad>"))))
    model = make_tiny_model(vocab_size=tokenizer.size, n_embd=32)
    path = write(model, tmp_path / "model.gguf", tokenizer=tokenizer)
    found = llama_cpp.call(path, [("tokenize", text) for text in HARD_TEXTS])
    assert found == [tokenizer.encode(text) for text in HARD_TEXTS]


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "padded": {"vocab_size": 50304},
    "narrow": {"n_inner": 96},
    "by_layer": {"scale_attn_by_inverse_layer_idx": True, "n_layer": 4},
    "unscaled": {"scale_attn_weights": False},
    "epsilon": {"layer_norm_epsilon": 1e-2},
    "exact": {"activation_function": "gelu"},
    "upcast": {"reorder_and_upcast_attn": True},
}


def variant(name: str) -> GPT:
    shape = {"vocab_size": 50257, "block_size": 48, "n_embd": 32} | VARIANTS[name]
    return make_tiny_model(**shape).eval()


@needs_llama_cpp
@pytest.mark.parametrize("name", VARIANTS)
def test_every_switch_is_exported_and_verified(name: str, tmp_path: Path, capsys: Capture) -> None:
    checkpoint, out = make_checkpoint(tmp_path / "run" / "best", variant(name)), tmp_path / "out"
    assert export(f"--checkpoint={checkpoint}", "--format=gguf", f"--out={out}") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "read again: equal to the model's weights" in said
    assert "llama.cpp: the same tokens; log-probabilities differ by " in said
    assert (
        "llama.cpp computes the tanh form of GELU, but the model has the exact GELU" in said
    ) is (name == "exact")


@needs_llama_cpp
@pytest.mark.parametrize("name", ["by_layer", "unscaled", "narrow", "epsilon"])
def test_a_switch_that_the_file_leaves_out_is_detected(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Write the file of another model: with the switch's default, where shapes allow it."""
    model, path = variant(name), tmp_path / "model.gguf"
    if name in ("by_layer", "unscaled"):
        other = variant(name)
        for module in other.modules():
            if isinstance(module, model_module.Attention):
                module.query_scale = 1.0
        write(other, path)
    elif name == "epsilon":
        other = variant(name)
        other.config = replace(other.config, layer_norm_epsilon=1e-5)
        write(other, path)
    else:
        shapes = gguf.GGUFWriter.add_feed_forward_length
        wrong = lambda self, _: shapes(self, 4 * 32)  # noqa: E731  as llama.cpp's converter does
        monkeypatch.setattr(gguf.GGUFWriter, "add_feed_forward_length", wrong)
        write(model, path)
    with pytest.raises(CheckpointError, match=r"llama\.cpp (differs from|cannot use)"):
        gguf_file.compare_with_llama_cpp(model, GPT2, path, "F32")


@needs_llama_cpp
def test_a_row_without_a_token_is_not_chosen_and_special_text_is_not_special(
    tmp_path: Path,
) -> None:
    model = variant("padded")
    text = "[PAD50300] <|endoftext|>"
    path = write(model, tmp_path / "model.gguf")
    assert llama_cpp.call(path, [("tokenize", text)]) == [GPT2.encode(text)]


@needs_llama_cpp
def test_a_proxy_is_not_asked_for_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    path = write(variant("plain"), tmp_path / "model.gguf")
    assert llama_cpp.ask(path, [1, 2, 3], ["a"]).tokens == [GPT2.encode("a")]


def with_ends(folder: Path, ends: Sequence[str]) -> Tokenizer:
    """Return a tokenizer whose texts may end with several tokens."""
    made = trained_vocabulary(320, ("<pad>", *ends))
    saved(folder, made, eos_token_id=[made.token_to_id(end) for end in ends])
    (folder / "tokenizer_config.json").write_text('{"pad_token": "<pad>"}')
    return Tokenizer.load(folder)


@needs_llama_cpp
def test_three_ends_of_text_have_room_and_others_are_named(tmp_path: Path) -> None:
    ends = ("<a>", "<b>", "<c>", "<d>", "<é>")
    tokenizer = with_ends(tmp_path, ends)
    model = make_tiny_model(vocab_size=320, n_embd=32).eval()
    found = dict(gguf_folder.write(model, tokenizer, tmp_path, kind="F32", tasks=[], facts={}))
    assert found["ends of text"].startswith("GGUF has room for 3, so <d>, <é> will not end a reply")
    text = (tmp_path / "Modelfile").read_text("utf-8")
    assert re.findall(r'PARAMETER stop "(.*)"', text) == [*ends]
    reader = gguf.GGUFReader(tmp_path / "model-F32.gguf")
    keys = [f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom", "padding")]
    assert [value(reader, key) for key in keys] == [*tokenizer.ends[:3], 0]
    assert gguf_file.ends_note(with_ends(tmp_path / "three", ends[:3])) is None


def test_a_space_before_texts_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: Capture
) -> None:
    make_tiny_model(vocab_size=300, n_embd=32).save_pretrained(tmp_path / "model", ends=[0])
    with_prefix_space(tmp_path / "own").save(tmp_path / "model")
    assert (
        export(f"--checkpoint={tmp_path / 'model'}", "--format=gguf", f"--out={tmp_path / 'out'}")
        == 1
    )
    line = "(add_prefix_space), which llama.cpp does not; use --format=hf or --format=onnx"
    assert line in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@needs_llama_cpp
def test_llama_cpp_puts_no_space_before_texts_even_if_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why such tokenizers are refused; once this fails, they can be exported."""
    tokenizer = with_prefix_space(tmp_path)
    add = gguf.GGUFWriter.add_add_bos_token
    told = lambda self, bos: (add(self, bos), self.add_add_space_prefix(True))  # noqa: E731
    monkeypatch.setattr(gguf.GGUFWriter, "add_add_bos_token", told)
    model = make_tiny_model(vocab_size=300, n_embd=32)
    path = write(model, tmp_path / "model.gguf", tokenizer=tokenizer)
    [found] = llama_cpp.ask(path, [1, 2, 3], ["abc"]).tokens
    assert found == tokenizer.encode("abc", inside=True) != tokenizer.encode("abc")


@needs_llama_cpp
def test_wrong_merges_are_detected(tmp_path: Path) -> None:
    model, path = variant("plain"), tmp_path / "model.gguf"
    other = Tokenizer.load()
    wrong = Tokenizer(
        other.merges[:-40000], other.ids, other.added, [other.eot], {}, prefix_space=False
    )
    write(model, path, tokenizer=wrong)
    with pytest.raises(CheckpointError, match="encodes .* in other tokens than the model's"):
        gguf_file.compare_with_llama_cpp(model, GPT2, path, "F32")


@needs_llama_cpp
def test_a_file_that_llama_cpp_refuses_is_one_line(tmp_path: Path) -> None:
    path = write(variant("plain"), tmp_path / "model.gguf")
    path.write_bytes(path.read_bytes()[:-100_000])
    with pytest.raises(CheckpointError, match="llama.cpp cannot use the file: ") as caught:
        gguf_file.compare_with_llama_cpp(variant("plain"), GPT2, path, "F32")
    assert "\n" not in str(caught.value)


def test_without_llama_cpp_the_export_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(llama_cpp, "is_installed", lambda: False)
    checkpoint, out = make_checkpoint(tmp_path / "run" / "best", variant("plain")), tmp_path / "out"
    assert export(f"--checkpoint={checkpoint}", "--format=gguf", f"--out={out}") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "not compared here: pip install -r requirements-verify.txt, and export again" in said
    assert (Path(gguf_file.__file__).parents[2] / llama_cpp.REQUIREMENTS).is_file()


# The file, read with the package gguf


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Exports of one checkpoint in every type."""
    run = tmp_path_factory.mktemp("exports")
    checkpoint = make_checkpoint(run / "trial-1" / "step_000013", variant("padded"))
    (checkpoint / "README.md").write_text("---\nlicense: mit\n---\n# A model\n\n## Use\n\nOurs.\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(llama_cpp, "is_installed", lambda: False)
        for dtype in gguf_file.KINDS:
            flags = ["--format=gguf", f"--dtype={dtype}", f"--out={run / dtype}"]
            assert export(f"--checkpoint={checkpoint}", *flags) == 0
    return {dtype: run / dtype for dtype in gguf_file.KINDS}


def value(reader: gguf.GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    assert field is not None, key
    return field.contents()


def test_metadata_describe_the_model(folders: dict[str, Path]) -> None:
    reader = gguf.GGUFReader(folders["q8_0"] / "model-Q8_0.gguf")
    expected = {
        "general.architecture": "gpt2",
        "general.name": "trial-1",
        "general.license": "mit",
        "general.file_type": gguf.LlamaFileType.MOSTLY_Q8_0,
        "gpt2.block_count": 2,
        "gpt2.context_length": 48,
        "gpt2.embedding_length": 32,
        "gpt2.feed_forward_length": 128,
        "gpt2.attention.head_count": 2,
        "gpt2.vocab_size": 50304,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.eos_token_id": 50256,
        "tokenizer.ggml.bos_token_id": 50256,
        "tokenizer.ggml.padding_token_id": 50256,
        "tokenizer.ggml.add_bos_token": False,
    }
    assert {key: value(reader, key) for key in expected} == expected
    assert value(reader, "gpt2.attention.layer_norm_epsilon") == pytest.approx(1e-5)
    assert "Not intended to inform diagnosis" in value(reader, "general.description")
    assert re.fullmatch("[0-9a-f]{64}", value(reader, "clingpt.checkpoint"))


def test_metadata_name_the_base_model_on_the_hub(tmp_path: Path) -> None:
    model, path = variant("plain"), tmp_path / "model.gguf"
    facts = {"base_model": "openai-community/gpt2", "base_model_revision": "5eed"}
    gguf_file.write(model, GPT2, path, kind="F32", facts=facts)
    base = gguf.GGUFReader(path)
    expected = {"count": 1, "0.name": "gpt2", "0.organization": "openai-community"}
    expected |= {"0.version": "5eed", "0.repo_url": "https://huggingface.co/openai-community/gpt2"}
    assert {k: value(base, f"general.base_model.{k}") for k in expected} == expected


def test_vocabulary_has_a_token_for_every_row(folders: dict[str, Path]) -> None:
    reader = gguf.GGUFReader(folders["float32"] / "model-F32.gguf")
    tokens, kinds = (value(reader, f"tokenizer.ggml.{x}") for x in ("tokens", "token_type"))
    assert len(tokens) == len(kinds) == 50304 == len(set(tokens))
    assert tokens[:50256] == sorted(GPT2.ids, key=GPT2.ids.__getitem__)
    assert tokens[50256:50258] == [EOT_TEXT, "[PAD50257]"]
    kind = gguf.TokenType
    assert set(kinds[:50256]) == {kind.NORMAL} and kinds[50256] == kind.CONTROL
    assert set(kinds[50257:]) == {kind.UNUSED}
    assert tuple(value(reader, "tokenizer.ggml.merges")) == GPT2.merges


def test_folder_contains_what_ollama_and_llama_cpp_need(folders: dict[str, Path]) -> None:
    for dtype, kind in gguf_file.KINDS.items():
        names = {path.name for path in folders[dtype].iterdir()}
        assert names == {f"model-{kind}.gguf", "Modelfile", "README.md", SUMS}
        assert f"model-{kind}.gguf" in (folders[dtype] / SUMS).read_text()
        card = (folders[dtype] / "README.md").read_text()
        assert card.startswith("---\nlicense: mit\n---\n# A model\n")
        assert "Ours." not in card and f"llama-server -m model-{kind}.gguf" in card
    sizes = [path.stat().st_size for folder in folders.values() for path in folder.glob("*.gguf")]
    assert sizes[0] > 1.4 * sizes[1] > 1.6 * sizes[2]


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0"])
@pytest.mark.parametrize("wrong", ["one weight", "a tensor less", "another type"])
def test_damage_to_a_tensor_is_detected(
    kind: Any, wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = Tokenizer.load(saved(tmp_path, trained_vocabulary()))
    model = make_tiny_model(vocab_size=tokenizer.size, n_embd=32, n_inner=96)
    path = tmp_path / "model.gguf"
    gguf_file.write(model, tokenizer, path, kind=kind, facts={})
    assert gguf_file.verify(model, path, kind) <= gguf_file.ROUNDING[kind]
    if wrong == "one weight":
        weight = model.get_parameter("h.1.mlp.c_proj.weight").data
        place = int(weight[7, :32].abs().argmax())
        weight[7, place] *= 1 + 2 * max(gguf_file.ROUNDING[kind], 1e-6)
    elif wrong == "a tensor less":
        names = gguf_file.gguf_name
        other = {"wpe.weight": "positions"}
        monkeypatch.setattr(gguf_file, "gguf_name", lambda name: other.get(name) or names(name))
    else:
        monkeypatch.setattr(gguf_file, "stored_as", lambda *_: "F32" if kind != "F32" else "F16")
    with pytest.raises(CheckpointError, match=r"nothing was written"):
        gguf_file.verify(model, path, kind)


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0"])
@pytest.mark.parametrize("size", [1e-3, 1e-5, 1e-8, 0.0])
def test_weights_too_small_for_16_bits_are_rounded_more(
    kind: Any, size: float, tmp_path: Path
) -> None:
    """In deep models, weights before a residual branch are small: a step of Q8_0 is subnormal."""
    tokenizer = Tokenizer.load(saved(tmp_path, trained_vocabulary()))
    model = make_tiny_model(vocab_size=tokenizer.size, n_embd=32)
    model.get_parameter("h.1.attn.c_proj.weight").data *= size
    path = tmp_path / "model.gguf"
    gguf_file.write(model, tokenizer, path, kind=kind, facts={})
    assert gguf_file.verify(model, path, kind) < 0.07


def test_weights_beyond_float16_are_refused(tmp_path: Path) -> None:
    model = variant("plain")
    model.h[0].mlp.c_fc.weight.data[3, 3] = 1e5  # type: ignore[union-attr, operator]
    with pytest.raises(
        CheckpointError, match="beyond the range of float16; choose another --dtype"
    ):
        write(model, tmp_path / "model.gguf", "float16")


@pytest.mark.parametrize(
    ("shape", "dtype", "phrase"),
    [
        ({"activation_function": "relu"}, "float32", "activation is relu, but llama.cpp computes"),
        ({"n_embd": 48}, "q8_0", "q8_0 stores 32 weights at a time, and n_embd is 48"),
        (
            {"n_embd": 32, "n_inner": 40},
            "q8_0",
            "at a time, and n_inner is 40; use --dtype=float16",
        ),
    ],
)
def test_what_gguf_cannot_represent_is_refused_by_name(
    shape: dict[str, Any], dtype: str, phrase: str, tmp_path: Path, capsys: Capture
) -> None:
    model = make_tiny_model(vocab_size=50257, **shape)
    checkpoint = make_checkpoint(tmp_path / "run" / "best", model)
    flags = ["--format=gguf", f"--dtype={dtype}", f"--out={tmp_path / 'out'}"]
    assert export(f"--checkpoint={checkpoint}", *flags) == 1
    assert phrase in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


MEMORY = """
import sys
from pathlib import Path
from clingpt.export import gguf_file
from clingpt.nn.checkpoint import load_model
from tests.helpers.memory import forget_peak, peak_mb, resident_mb
import gguf, torch

source, kind, path = sys.argv[1:]
before = resident_mb()
loaded = load_model(source)
weights = sum(p.nbytes for p in loaded.model.parameters()) / 1e6
forget_peak()  # of loading
gguf_file.write(loaded.model, loaded.tokenizer, Path(path), kind=kind, facts={})
gguf_file.verify(loaded.model, Path(path), kind)
print((peak_mb() - before - OWN) / weights)
""".replace("OWN", "120")  # the vocabulary as the package gguf reads it, whatever the model's size


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0"])
def test_memory_does_not_double(kind: str, tmp_path: Path) -> None:
    GPT(GPTConfig(scale_attn_by_inverse_layer_idx=True)).save_pretrained(tmp_path / "large")
    command = [sys.executable, "-c", MEMORY, tmp_path / "large", kind, tmp_path / "model.gguf"]
    done = subprocess.run(
        [*map(str, command)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 1.3, f"{done.stdout} times the weights"


# Scales and activations


@torch.no_grad()
@pytest.mark.parametrize("name", ["by_layer", "unscaled"])
def test_scales_are_folded_into_the_queries(name: str) -> None:
    scaled = variant(name)
    plain_config = replace(
        scaled.config, scale_attn_by_inverse_layer_idx=False, scale_attn_weights=True
    )
    folded = GPT(plain_config).eval()
    weights = dict(plain.iter_weights(scaled))
    padding = folded.config.padded_vocab_size - folded.config.vocab_size
    weights["wte.weight"] = torch.nn.functional.pad(weights["wte.weight"], (0, 0, 0, padding))
    folded.load_state_dict(weights)
    ids = torch.randint(50257, (2, 40), generator=torch.Generator().manual_seed(2))
    expected = scaled(ids)
    assert (folded(ids) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_only_one_tensor_is_copied_at_a_time() -> None:
    model = variant("by_layer")
    own = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}
    copies = [n for n, t in plain.iter_weights(model) if t.untyped_storage().data_ptr() not in own]
    expected = [f"h.{n}.attn.c_attn.{role}" for n in (1, 2, 3) for role in ("weight", "bias")]
    assert copies == expected


@torch.no_grad()
def test_the_note_measures_the_other_gelu_and_restores_the_model() -> None:
    model, ids = variant("exact"), torch.arange(40)[None]
    before = model(ids)
    note = plain.gelu_note(model, "llama.cpp", "gelu_new")
    assert note is not None and torch.equal(model(ids), before)
    found = re.search(
        r"by up to (\S+) of the largest, with the same best tokens at (\d+) of 12", note
    )
    assert found is not None
    other = make_tiny_model(**vars(replace(model.config, activation_function="gelu_new"))).eval()
    seen = float((other(ids) - before).abs().max() / before.abs().max())
    assert 0.1 * seen < float(found[1]) < 10 * seen
    assert plain.gelu_note(variant("plain"), "llama.cpp", "gelu_new") is None


# Modelfiles


def rendered(modelfile: str, prompt: str) -> str:
    [template] = re.findall(r'TEMPLATE """(.*?)"""', modelfile, re.DOTALL)
    assert isinstance(template, str) and template.count("{{") == 1
    return template.replace("{{ .Prompt }}", prompt)


@pytest.mark.parametrize("task", PROMPTED)
def test_a_task_sees_the_prompt_that_it_was_trained_on(task: str) -> None:
    shape = GPTConfig(block_size=512)
    text = ollama.modelfile(task, "model.gguf", shape, [EOT_TEXT], ["Notice."])
    sections = () if TASK_TABLE[task].context == "optional" else (ollama.SECTION,)
    record = Record(id="", question=ollama.QUESTION, sections=sections)
    typed = [line.removeprefix("#     ") for line in text.splitlines() if line.startswith("#     ")]
    assert rendered(text, "\n".join(typed)) == prompt_text(task, record)
    assert f"PARAMETER num_predict {TASK_TABLE[task].longest_reply}\n" in text


def test_a_modelfile_decodes_greedily_and_names_the_file_beside_it() -> None:
    text = ollama.modelfile(
        None, "model-F16.gguf", GPTConfig(), ['<"énd">', "</s>"], ["One.", "Two."]
    )
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines[0] == "FROM ./model-F16.gguf" and rendered(text, "x") == "x"
    assert "PARAMETER temperature 0" in lines and "PARAMETER repeat_penalty 1" in lines
    assert "PARAMETER num_ctx 1024" in lines
    # Ollama strips the outer quotes and reads the rest as it is (parser/parser.go, unquote).
    stops = [line for line in lines if line.startswith("PARAMETER stop ")]
    assert stops == ['PARAMETER stop "<"énd">"', 'PARAMETER stop "</s>"']
    assert text.endswith('LICENSE """\nOne.\n\nTwo.\n"""\n')


def test_each_of_several_tasks_has_its_modelfile(tmp_path: Path) -> None:
    assert ollama.file_names([]) == {"Modelfile": None}
    assert ollama.file_names(["answer"]) == {"Modelfile": "answer"}
    names = ollama.file_names(["answer", "summarize"])
    assert names == {"Modelfile.answer": "answer", "Modelfile.summarize": "summarize"}
    section = gguf_folder.readme_section("F16", ["answer", "summarize"])
    assert "-f Modelfile.answer" in section and "other tasks: Modelfile.summarize" in section
