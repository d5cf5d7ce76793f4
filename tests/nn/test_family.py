"""Every kind of GPT-2 that people have: it loads and equals transformers, or is refused by name.

The checkpoints are made here with transformers, tiny and from a seed.
"""

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    GPT2DoubleHeadsModel,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    GPT2Model,
    GPT2Tokenizer,
)

from clingpt.base import files
from clingpt.base.errors import CheckpointError
from clingpt.decoding.engine import generate
from clingpt.decoding.sampling import Sampling
from clingpt.nn.checkpoint import identity, load_model, run_name
from clingpt.text.tokenizer import Tokenizer
from model import transposed
from tests.helpers import vocabularies
from tests.helpers.parity import build_theirs, largest_difference

Make = Callable[[Path], Any]
SHAPE = {"vocab_size": 50257, "n_positions": 64, "n_layer": 2, "n_head": 2, "n_embd": 32}


def saved(folder: Path, *, tokenizer: bool = True, **changes: Any) -> Any:
    """Save a GPT-2 of transformers with its tokenizer; return the model."""
    theirs = build_theirs(**SHAPE | changes).eval()
    theirs.save_pretrained(folder)
    if tokenizer:
        Tokenizer.load().save(folder)
    return theirs


def edit_config(folder: Path, **changes: Any) -> None:
    """Change keys of config.json; `...` removes one."""
    config = json.loads((folder / "config.json").read_text()) | changes
    kept = {key: value for key, value in config.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(kept))


def edit_weights(folder: Path, edit: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    tensors = edit(load_file(folder / "model.safetensors"))
    save_file(
        {name: tensor.clone() for name, tensor in tensors.items()}, folder / "model.safetensors"
    )


def of_shape(**changes: Any) -> Make:
    return lambda folder: saved(folder, **changes)


def with_config(**changes: Any) -> Make:
    def make(folder: Path) -> Any:
        theirs = saved(folder)
        edit_config(folder, **changes)
        return theirs

    return make


def with_weights(edit: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Make:
    def make(folder: Path) -> Any:
        theirs = saved(folder)
        edit_weights(folder, edit)
        return theirs

    return make


def prefixed(prefix: str) -> Make:
    return with_weights(lambda tensors: {prefix + name: t for name, t in tensors.items()})


def in_shards(folder: Path) -> Any:
    theirs = saved(folder)
    (folder / "model.safetensors").unlink()
    theirs.save_pretrained(folder, max_shard_size="1MB")
    assert len([*folder.glob("model-*.safetensors")]) > 1
    return theirs


def as_pickle(folder: Path, *, shards: int = 1, masks: bool = False, archive: bool = True) -> Any:
    """Write pytorch_model.bin as old versions of transformers did."""
    theirs = saved(folder)
    (folder / "model.safetensors").unlink()
    tensors = dict(theirs.state_dict())
    if masks:
        for layer in range(2):
            mask = torch.ones(64, 64, dtype=torch.uint8).tril()
            tensors[f"transformer.h.{layer}.attn.bias"] = mask.view(1, 1, 64, 64)
            tensors[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    if shards == 1:
        path = folder / "pytorch_model.bin"
        torch.save(tensors, path, _use_new_zipfile_serialization=archive)
        return theirs
    weight_map = {
        name: f"pytorch_model-{n % shards + 1:05}-of-{shards:05}.bin"
        for n, name in enumerate(tensors)
    }
    for shard in set(weight_map.values()):
        torch.save({n: t for n, t in tensors.items() if weight_map[n] == shard}, folder / shard)
    index = json.dumps({"metadata": {}, "weight_map": weight_map})
    (folder / "pytorch_model.bin.index.json").write_text(index)
    return theirs


def with_head_of(kind: Any) -> Make:
    """Save a model of another class of transformers; return the language model inside."""

    def make(folder: Path) -> Any:
        torch.manual_seed(3)
        config = GPT2Config(**SHAPE, initializer_range=0.15, num_labels=3, pad_token_id=0)
        kind(config).save_pretrained(folder)
        Tokenizer.load().save(folder)
        return GPT2LMHeadModel.from_pretrained(folder).eval()

    return make


def kept_in(dtype: torch.dtype) -> Make:
    def make(folder: Path) -> Any:
        theirs = saved(folder)
        theirs.to(dtype).save_pretrained(folder)
        return theirs.float()

    return make


def with_added_token(folder: Path, *, resized: bool) -> Any:
    """Add a padding token, with or without a row of the embedding for it."""
    theirs = saved(folder)
    tokenizer = GPT2Tokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "<|pad|>"})
    tokenizer.save_pretrained(folder)
    if resized:
        theirs.resize_token_embeddings(50258, mean_resizing=False)
        theirs.save_pretrained(folder)
    return theirs


def of_own_vocabulary(size: int, rows: int) -> Make:
    """Save a model with as many rows, and a byte-level BPE of another size than GPT-2's."""

    def make(folder: Path) -> Any:
        ends = {"bos_token_id": 0, "eos_token_id": 0}
        theirs = saved(folder, tokenizer=False, vocab_size=rows, **ends)
        vocabularies.trained(size).save(str(folder / "tokenizer.json"))
        return theirs

    return make


def of_bert(folder: Path) -> None:
    saved(folder, tokenizer=False, vocab_size=300, bos_token_id=0, eos_token_id=0)
    (folder / "vocab.txt").write_text("\n".join(map(str, range(300))))


def with_explicit_head(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return tensors | {"lm_head.weight": tensors["transformer.wte.weight"]}


def of_trainer(folder: Path) -> Any:
    """Write three checkpoints of a Trainer, the newest of which is not the last by name."""
    for step in (500, 900, 1000):
        theirs = saved(folder / f"checkpoint-{step}", layer_norm_epsilon=step * 1e-6)
        (folder / f"checkpoint-{step}" / "optimizer.pt").write_bytes(b"")
    (folder / "runs").mkdir()
    return theirs


def of_nanogpt(
    folder: Path, *, bias: bool | None = True, prefix: str = "", vocab_size: int = 50304
) -> Any:
    """Write nanoGPT's ckpt.pt; without `bias` as before January 2023."""
    activation = "gelu_new" if bias is None else "gelu"
    shape: dict[str, Any] = {"vocab_size": vocab_size, "activation_function": activation}
    theirs = build_theirs(**SHAPE | shape)
    if bias is False:
        for name, parameter in theirs.named_parameters():
            if name.endswith(".bias"):
                parameter.data.zero_()
    tensors = {}
    for name, tensor in theirs.state_dict().items():
        if bias is not False or not name.endswith(".bias"):
            plain = name.removeprefix("transformer.")
            tensors[prefix + name] = transposed(plain, tensor).contiguous()
    tensors[prefix + "lm_head.weight"] = tensors[prefix + "transformer.wte.weight"]
    args = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 64, "vocab_size": vocab_size}
    args |= {} if bias is None else {"bias": bias}
    moments = {"state": {0: {"exp_avg": torch.ones(4), "step": torch.tensor(1.0)}}}
    checkpoint = {"model": tensors, "optimizer": moments, "model_args": args, "iter_num": 5}
    checkpoint |= {"best_val_loss": torch.tensor(1.5), "config": {"out_dir": "out", "bias": bias}}
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint, folder / "ckpt.pt")
    return theirs.eval()


def with_text(name: str, change: Callable[[str], str]) -> Make:
    """Change a text file; without tokenizer.json, so that vocab.json and merges.txt count."""

    def make(folder: Path) -> Any:
        theirs = saved(folder)
        (folder / "tokenizer.json").unlink()
        text = (folder / name).read_text("utf-8")
        (folder / name).write_bytes(change(text).encode())
        return theirs

    return make


def as_links(folder: Path) -> Any:
    """Lay a folder out as in the cache of the Hub: links to files that are named by their hash."""
    theirs = saved(folder.parent / "blobs")
    folder.mkdir()
    for path in (folder.parent / "blobs").iterdir():
        (folder / path.name).symlink_to(path)
    return theirs


def of_interrupted_trainer(folder: Path) -> Any:
    theirs = of_trainer(folder)
    (folder / "checkpoint-2000").mkdir()
    (folder / "checkpoint-2000" / "optimizer.pt").touch()
    return theirs


ACCEPTED: dict[str, Make] = {
    "a BOM in config.json": with_text("config.json", lambda text: "\ufeff" + text),
    "a BOM in vocab.json": with_text("vocab.json", lambda text: "\ufeff" + text),
    "a BOM in merges.txt": with_text("merges.txt", lambda text: "\ufeff" + text),
    "merges.txt from Windows": with_text("merges.txt", lambda text: text.replace("\n", "\r\n")),
    "merges.txt with blanks": with_text("merges.txt", lambda text: text.replace("\n", " \t\n")),
    "merges.txt without a version": with_text("merges.txt", lambda text: text.split("\n", 1)[1]),
    "links to a cache": as_links,
    "a Trainer that was interrupted": of_interrupted_trainer,
    "float64": kept_in(torch.float64),
    "as transformers saves it": of_shape(),
    "without a tokenizer": of_shape(tokenizer=False),
    "2,048 positions": of_shape(n_positions=2048),
    "gelu": of_shape(activation_function="gelu"),
    "gelu_pytorch_tanh": of_shape(activation_function="gelu_pytorch_tanh"),
    "relu": of_shape(activation_function="relu"),
    "a narrow MLP": of_shape(n_inner=48),
    "BioMedLM's attention": of_shape(
        scale_attn_by_inverse_layer_idx=True, reorder_and_upcast_attn=True
    ),
    "Cerebras-GPT": of_shape(activation_function="gelu", n_inner=128, n_positions=2048),
    "unscaled attention": of_shape(scale_attn_weights=False),
    "another epsilon": of_shape(layer_norm_epsilon=1e-3),
    "a vocabulary padded to 50,304": of_shape(vocab_size=50304),
    "a padding token with a row": lambda folder: with_added_token(folder, resized=True),
    "a padding token without a row": lambda folder: with_added_token(folder, resized=False),
    "a vocabulary of its own": of_own_vocabulary(400, rows=400),
    "a vocabulary of its own, padded": of_own_vocabulary(400, rows=448),
    "in shards": in_shards,
    "float16": kept_in(torch.float16),
    "bfloat16": kept_in(torch.bfloat16),
    "an explicit output head": with_weights(with_explicit_head),
    "the Hub's names of 2019": with_weights(
        lambda tensors: {name.removeprefix("transformer."): t for name, t in tensors.items()}
    ),
    "a pickle with masks": lambda folder: as_pickle(folder, masks=True),
    "a pickle of torch before 1.6": lambda folder: as_pickle(folder, archive=False),
    "pickles in shards": lambda folder: as_pickle(folder, shards=3),
    "wrapped by DistributedDataParallel": prefixed("module."),
    "compiled": prefixed("_orig_mod."),
    "compiled, and wrapped twice": prefixed("module._orig_mod.module."),
    "n_ctx for n_positions": with_config(n_positions=..., n_ctx=64),
    "general names of sizes": with_config(
        n_embd=..., hidden_size=32, n_layer=..., num_hidden_layers=2,
        n_head=..., num_attention_heads=2, n_positions=..., max_position_embeddings=64,
    ),
    "no model_type": with_config(model_type=...),
    "no switches": with_config(
        **dict.fromkeys(
            "activation_function scale_attn_weights scale_attn_by_inverse_layer_idx n_inner "
            "reorder_and_upcast_attn layer_norm_epsilon architectures tie_word_embeddings "
            "add_cross_attention".split(),
            ...,
        )
    ),
    "GPT2Model": with_head_of(GPT2Model),
    "GPT2DoubleHeadsModel": with_head_of(GPT2DoubleHeadsModel),
    "a Trainer's output": of_trainer,
    "nanoGPT": of_nanogpt,
    "nanoGPT without biases": lambda folder: of_nanogpt(folder, bias=False),
    "nanoGPT before January 2023": lambda folder: of_nanogpt(folder, bias=None, vocab_size=50257),
    "nanoGPT, compiled": lambda folder: of_nanogpt(folder, prefix="_orig_mod."),
}  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("kind", ACCEPTED)
def test_a_checkpoint_gives_the_logits_and_the_greedy_text_of_transformers(
    kind: str, tmp_path: Path
) -> None:
    theirs = ACCEPTED[kind](tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    vocab = loaded.model.config.vocab_size
    n_tokens = min(vocab, loaded.tokenizer.size)
    ids_BT = torch.randint(n_tokens, (2, 40), generator=torch.Generator().manual_seed(4))
    assert vocab == theirs.config.vocab_size
    logits = loaded.model.eval()(ids_BT)
    assert largest_difference(logits, theirs(ids_BT).logits) <= 1e-5
    prompts = [ids_BT[0, :9].tolist(), ids_BT[1, :3].tolist()]
    sampling = Sampling(max_new_tokens=32, ignore_end=True)
    replies = generate(loaded.model, loaded.tokenizer, prompts, sampling, context=64)
    for prompt, reply in zip(prompts, replies, strict=True):
        expected = theirs.generate(
            torch.tensor([prompt]), max_new_tokens=32, do_sample=False, eos_token_id=None,
            # Ids without a token, which transformers would choose like any other.
            suppress_tokens=[*range(n_tokens, vocab)] or None,
        )[0, len(prompt) :]  # fmt: skip
        assert reply.ids == expected.tolist()


# ------------------------------------------------------------------------------------------------
# Refused

ONLY = "and only GPT-2's architecture can be loaded"


def of_type(model_type: str, **shape: Any) -> Make:
    """Save a model of another architecture."""

    def make(folder: Path) -> None:
        config = AutoConfig.for_model(model_type, vocab_size=300, **shape)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)

    return make


def only_file(name: str, *, config: bool = True) -> Make:
    """Write a folder whose weights another tool would have to read."""

    def make(folder: Path) -> None:
        saved(folder)
        (folder / "model.safetensors").rename(folder / name)
        if not config:
            (folder / "config.json").unlink()

    return make


def only_files(*names: str) -> Make:
    def make(folder: Path) -> None:
        folder.mkdir()
        for name in names:
            (folder / name).write_text("x")

    return make


def with_nan(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    tensors["transformer.h.1.attn.c_attn.weight"][5, 3] = torch.nan
    return tensors


def another_head(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return tensors | {"lm_head.weight": tensors["transformer.wte.weight"] * 1.01}


def pointer(folder: Path) -> None:
    saved(folder)
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
    (folder / "model.safetensors").write_text(text)


def run_folder(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text('{"format": 1, "settings": {}}')


def another_ckpt(folder: Path) -> None:
    folder.mkdir()
    torch.save({"state_dict": {}}, folder / "ckpt.pt")


def broken_config(folder: Path) -> None:
    saved(folder)
    (folder / "config.json").write_text("{")


def with_index(change: Callable[[Path, str], object]) -> Make:
    """Change the index of a model in shards, or its second shard."""

    def make(folder: Path) -> None:
        in_shards(folder)
        shard = sorted(folder.glob("model-*.safetensors"))[1]
        index = folder / "model.safetensors.index.json"
        if isinstance(written := change(shard, index.read_text()), str):
            index.write_text(written)

    return make


def shard_moved_up(shard: Path, index: str) -> str:
    shard.rename(shard.parent.parent / "stolen.safetensors")
    return index.replace(shard.name, "../stolen.safetensors")


def emptied(name: str) -> Make:
    def make(folder: Path) -> None:
        if name == "ckpt.pt":
            of_nanogpt(folder)
        elif name.endswith("bin"):
            as_pickle(folder)
        else:
            saved(folder)
        (folder / name).write_bytes(b"")

    return make


def dangling(folder: Path) -> None:
    saved(folder)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(folder / "blobs" / "0")


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def malicious(name: str, *, archive: bool = True) -> Make:
    def make(folder: Path) -> None:
        saved(folder)
        (folder / "model.safetensors").unlink()
        content: Any = {"transformer.wte.weight": Malicious(folder.parent / "executed")}
        if name == "ckpt.pt":
            (folder / "config.json").unlink()
            content = {"model": content, "model_args": {}}
        torch.save(content, folder / name, _use_new_zipfile_serialization=archive)

    return make


def of_letters(folder: Path) -> None:
    """nanoGPT's model of Shakespeare's letters, whose names are in a pickle."""
    of_nanogpt(folder, vocab_size=65)
    (folder / "meta.pkl").write_bytes(pickle.dumps({"stoi": Malicious(folder.parent / "executed")}))


def cut_short(folder: Path) -> None:
    saved(folder)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def absurd_header(folder: Path) -> None:
    saved(folder)
    path = folder / "model.safetensors"
    path.write_bytes((2**60).to_bytes(8, "little") + path.read_bytes()[8:])


AGAIN = "download or copy the model again"
NO_INDEX = (
    "{}/model.safetensors.index.json does not map tensors to files beside it; use another "
    "checkpoint"
)
CODE = (
    "cannot load {}: it is damaged or contains more than tensors, which can be code and was not "
    "executed"
)
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
REFUSED: dict[str, tuple[Make, str]] = {
    "LLaMA": (
        of_type("llama", **SMALL, intermediate_size=64),
        f"{{}} is a LLaMA model, {ONLY}",
    ),
    "BioGPT": (
        of_type("biogpt", **SMALL, intermediate_size=64),
        f"{{}} is a BioGPT model, {ONLY}",
    ),
    "GPT-Neo": (
        of_type("gpt_neo", hidden_size=32, num_layers=2, num_heads=2,
                attention_types=[[["global", "local"], 1]]),
        f"{{}} is a GPT-Neo model, {ONLY}",
    ),
    "OPT": (
        of_type("opt", **SMALL, ffn_dim=64, word_embed_proj_dim=32),
        f"{{}} is an OPT model, {ONLY}",
    ),
    "GPT-1": (
        of_type("openai-gpt", n_embd=32, n_layer=2, n_head=2),
        f"{{}} is a GPT-1 model, {ONLY}",
    ),
    "an unknown type": (with_config(model_type="zebra"), f"{{}} is a zebra model, {ONLY}"),
    "an unknown class": (
        with_config(model_type=..., architectures=["FalconForCausalLM"]),
        f"{{}} is a Falcon model, {ONLY}",
    ),
    "cross-attention": (
        of_shape(add_cross_attention=True),
        "{} is a GPT-2 with cross-attention, half of an encoder-decoder; use a GPT-2 without it",
    ),
    "an untied head": (
        of_shape(tie_word_embeddings=False),
        "cannot load {}: {}/config.json: tie_word_embeddings is False; only True is supported",
    ),
    "another head": (
        with_weights(another_head),
        "cannot load {}: lm_head.weight differs from wte.weight: GPT-2's output head is tied",
    ),
    "a classifier": (
        with_head_of(GPT2ForSequenceClassification),
        "{} is a classifier (GPT2ForSequenceClassification), which was not trained to write text; "
        "use the language model that it was made from",
    ),
    "a quantised model": (
        with_config(quantization_config={"quant_method": "gptq", "bits": 4}),
        "{} is a GPT-2 quantised by gptq; use the checkpoint that it was made from",
    ),
    "an unknown activation": (
        with_config(activation_function="quick_gelu"),
        "cannot load {}: activation_function is 'quick_gelu'; supported are gelu_new, "
        "gelu_pytorch_tanh, gelu_python_tanh, gelu_fast, gelu_accurate, gelu, gelu_python, relu, "
        "silu, swish, tanh",
    ),
    "NaN": (
        with_weights(with_nan),
        "cannot load {}: transformer.h.1.attn.c_attn.weight contains values that are not finite "
        "floating-point numbers",
    ),
    "a layer too many": (
        with_config(n_layer=1),
        "cannot load {}: a GPT-2 with 1 layers has no tensor transformer.h.1.mlp.c_proj.weight",
    ),
    "other tensors": (
        with_weights(lambda tensors: {"model.embed_tokens.weight": [*tensors.values()][0]}),
        "cannot load {}: a GPT-2 with 2 layers has no tensor model.embed_tokens.weight",
    ),
    "BERT's tokenizer": (
        of_bert,
        "{}/vocab.txt cannot be used: it is a BERT tokenizer of 300 tokens; use a checkpoint with "
        "GPT-2's tokenizer or another byte-level BPE",
    ),
    "more tokens than rows": (
        of_own_vocabulary(400, rows=300),
        "the model in {} has 300 token embeddings, but its tokenizer, a byte-level BPE of 400 "
        "tokens, has ids up to 399; restore the tokenizer files that belong to this model",
    ),
    "TensorFlow": (
        only_file("tf_model.h5"),
        "{} is a TensorFlow checkpoint; convert it with transformers 4 (from_tf=True)",
    ),
    "OpenAI's files": (
        only_files("checkpoint", "hparams.json", "model.ckpt.index", "encoder.json", "vocab.bpe"),
        "{} is a TensorFlow checkpoint; use its conversion on the Hub, such as gpt2",
    ),
    "Flax": (
        only_file("flax_model.msgpack"),
        "{} is a Flax checkpoint; convert it with transformers 4 (from_flax=True)",
    ),
    "ONNX": (
        only_file("model.onnx"),
        "{} is an ONNX export; use the checkpoint that it was made from",
    ),
    "GGUF": (
        only_file("gpt2-Q8_0.gguf", config=False),
        "{} is a GGUF model for llama.cpp; use the checkpoint that it was made from",
    ),
    "TorchScript": (
        only_file("model.ts", config=False),
        "{} is a TorchScript export; use the checkpoint that it was made from",
    ),
    "nanochat": (
        only_files("model_000500.pt", "meta_000500.json"),
        "{} is a nanochat model, whose architecture is not GPT-2's",
    ),
    "a prepared folder": (
        only_files("manifest.json", "train.bin"),
        "{} is a prepared data folder; pass it as --data",
    ),
    "a pointer of Git LFS": (
        pointer,
        "{}/model.safetensors is a pointer of Git LFS, not the weights; run git lfs pull in {}",
    ),
    "no config.json": (
        only_files("model.safetensors"),
        "{} has weights but no config.json, which gives the model's shape; copy it from where the "
        "weights are from",
    ),
    "no weights": (
        only_file("other.bin"),
        "{} has a config.json but no weights; specify a folder with config.json and "
        "model.safetensors",
    ),
    "an empty folder": (
        only_files(),
        "{} has no model; specify a folder with config.json and model.safetensors",
    ),
    "a run that saved nothing": (
        run_folder,
        "{} is a run folder without a checkpoint; train it further",
    ),
    "another ckpt.pt": (
        another_ckpt,
        "{}/ckpt.pt is not a checkpoint of nanoGPT; specify a folder with config.json and "
        "model.safetensors",
    ),
    "a shard outside the folder": (with_index(shard_moved_up), NO_INDEX),
    "an absolute path of a shard": (
        with_index(lambda shard, index: index.replace(shard.name, str(shard))), NO_INDEX
    ),
    "an index that is a list": (with_index(lambda _shard, _index: "[]"), NO_INDEX),
    "an index of numbers": (with_index(lambda *_: '{"weight_map": {"a": 3}}'), NO_INDEX),
    "an index cut short": (with_index(lambda _shard, index: index[:-40]), NO_INDEX),
    "a missing shard": (
        with_index(lambda shard, _index: shard.unlink()),
        f"{{}}/model-00002-of-00002.safetensors is missing or not a file; {AGAIN}",
    ),
    "an empty model.safetensors": (
        emptied("model.safetensors"), f"{{}}/model.safetensors is empty; {AGAIN}"
    ),
    "an empty pytorch_model.bin": (
        emptied("pytorch_model.bin"), f"{{}}/pytorch_model.bin is empty; {AGAIN}"
    ),
    "an empty ckpt.pt": (emptied("ckpt.pt"), f"{{}}/ckpt.pt is empty; {AGAIN}"),
    "a link to nothing": (
        dangling, f"{{}}/model.safetensors is a link to a file that is missing; {AGAIN}"
    ),
    "weights cut short": (
        cut_short,
        "cannot load {}: Error while deserializing header: incomplete metadata, file not fully "
        "covered",
    ),
    "an absurd header": (
        absurd_header, "cannot load {}: Error while deserializing header: header too large"
    ),
    "code in a pickle": (malicious("pytorch_model.bin"), CODE),
    "code in an old pickle": (malicious("pytorch_model.bin", archive=False), CODE),
    "code in ckpt.pt": (malicious("ckpt.pt"), CODE),
    "nanoGPT of letters": (
        of_letters,
        "{}/ckpt.pt has a vocabulary of 65 tokens of its own, such as letters. nanoGPT keeps them "
        "in meta.pkl, which can contain code and is not opened; use a checkpoint with GPT-2's "
        "tokenizer",
    ),
    "a config.json without a number": (
        with_config(n_head=None),
        "cannot load {}: {}/config.json: n_head is None, not a whole number",
    ),
    "a config.json with a number in quotes": (
        with_config(layer_norm_epsilon="1e-5"),
        "cannot load {}: {}/config.json: layer_norm_epsilon is '1e-5', not a float",
    ),
    "a config.json with a list of activations": (
        with_config(activation_function=["gelu"]),
        "cannot load {}: {}/config.json: activation_function is ['gelu'], not a str",
    ),
    "a config.json that is a list": (
        lambda folder: (saved(folder), (folder / "config.json").write_text("[1]")),
        "{}/config.json does not describe a model; use another checkpoint",
    ),
    "heads that do not divide the width": (
        with_config(n_head=3), "cannot load {}: n_embd 32 is not a multiple of n_head 3"
    ),
    "fewer rows than weights": (
        with_config(vocab_size=50000),
        "cannot load {}: transformer.wte.weight has the shape (50257, 32), but config.json means "
        "(50000, 32)",
    ),
    "a quantised model of old": (
        with_config(quantization_config={"load_in_8bit": True}),
        "{} is a GPT-2 quantised by bitsandbytes or another tool; use the checkpoint that it was "
        "made from",
    ),
    "a quantised model without settings": (
        with_config(quantization_config="fp8"),
        "{} is a GPT-2 quantised by fp8; use the checkpoint that it was made from",
    ),
    "a class that is not in a list": (
        with_config(architectures="GPT2ForSequenceClassification"),
        "{} is a classifier (GPT2ForSequenceClassification), which was not trained to write text; "
        "use the language model that it was made from",
    ),
    "a broken config.json": (
        broken_config,
        "{}/config.json does not describe a model; use another checkpoint",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_fit_is_refused_in_one_line_that_says_what_it_is(
    kind: str, tmp_path: Path
) -> None:
    make, expected = REFUSED[kind]
    folder = tmp_path / "model"
    make(folder)
    with pytest.raises(CheckpointError) as error:
        load_model(folder)
    assert str(error.value) == expected.replace("{}", str(folder))
    assert not (tmp_path / "executed").exists()


# ------------------------------------------------------------------------------------------------
# Details


def test_a_nanogpt_checkpoint_can_be_given_as_a_file(tmp_path: Path) -> None:
    theirs = of_nanogpt(tmp_path)
    path = (tmp_path / "ckpt.pt").rename(tmp_path / "ckpt_best.pt")
    loaded = load_model(path, block_size=32)
    ids_BT = torch.arange(40, 60).view(1, 20)
    assert largest_difference(loaded.model.eval()(ids_BT), theirs(ids_BT).logits) <= 1e-5
    assert loaded.model.config.block_size == 32
    assert loaded.folder == tmp_path
    assert len(identity(loaded.folder)) == 64
    assert run_name(str(tmp_path / "shakespeare" / "ckpt.pt")) == "shakespeare"
    with pytest.raises(CheckpointError, match="block_size 65 exceeds the checkpoint's 64"):
        load_model(path, block_size=65)
    with pytest.raises(CheckpointError, match=r"x.gguf is a file; specify a checkpoint's folder"):
        (tmp_path / "x.gguf").touch()
        load_model(tmp_path / "x.gguf")


def test_the_newest_checkpoint_of_a_trainer_is_used_with_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files.note_once.cache_clear()
    of_trainer(tmp_path / "trained")
    capsys.readouterr()
    assert load_model(tmp_path / "trained").folder.name == "checkpoint-1000"
    note = "contains checkpoints of a Trainer: using checkpoint-1000, the newest of 3"
    assert note in capsys.readouterr().err
    assert load_model(tmp_path / "trained/checkpoint-500").folder.name == "checkpoint-500"
    assert run_name(str(tmp_path / "trained/checkpoint-500")) == "trained"
    saved(tmp_path / "trained")  # what Trainer writes at the end
    assert load_model(tmp_path / "trained").folder.name == "trained"


def test_a_second_head_is_ignored_with_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files.note_once.cache_clear()
    with_head_of(GPT2DoubleHeadsModel)(tmp_path)
    capsys.readouterr()
    load_model(tmp_path)
    line = "only the language model of this GPT2DoubleHeadsModel is used"
    assert line in capsys.readouterr().err


PICKLED: dict[str, Make] = {
    "pytorch_model.bin": as_pickle,
    "pytorch_model-00001-of-00002.bin": lambda folder: as_pickle(folder, shards=2),
    "ckpt.pt": of_nanogpt,
}


@pytest.mark.parametrize("name", PICKLED)
def test_without_pickles_none_is_opened(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another safetensors file beside it does not make a pickle safe."""
    PICKLED[name](tmp_path)
    load_model(tmp_path)
    (tmp_path / "other.safetensors").touch()
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("opened a pickle"))
    with pytest.raises(CheckpointError) as error:
        load_model(tmp_path, pickles=False)
    advice = re.escape(f"export.py --checkpoint={tmp_path} --format=hf")
    assert re.search(
        f"has no model.safetensors but {re.escape(name)}, .*{advice}$", str(error.value)
    )


def test_an_index_of_safetensors_that_names_a_pickle_is_not_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_pickle(tmp_path)
    weight_map = {"transformer.wte.weight": "pytorch_model.bin"}
    index = json.dumps({"weight_map": weight_map})
    (tmp_path / "model.safetensors.index.json").write_text(index)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("opened a pickle"))
    with pytest.raises(CheckpointError, match="pytorch_model.bin, and such files can contain code"):
        load_model(tmp_path, pickles=False)
