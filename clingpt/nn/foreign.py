"""Checkpoints of other tools: nanoGPT's are read, and what is not a GPT-2 is refused by name.

Folders in Hugging Face's layout are model.py's part; here they are only recognised, from their
names and config.json, before any weights are read.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clingpt.base import console
from clingpt.base.errors import CheckpointError
from clingpt.base.files import note_once
from clingpt.data.prepared import MANIFEST
from clingpt.text.tokenizer import VOCAB_SIZE
from model import GPT, GPTConfig, transposed, weight_files

CKPT = "ckpt.pt"  # nanoGPT's name for a checkpoint
TRAINER_FOLDER = re.compile(r"checkpoint-(\d+)")  # of transformers' Trainer
LFS = b"version https://git-lfs"
# How people write the names of config.json's model types; others are shown as they are.
NAMES = {
    "bart": "BART",
    "bert": "BERT",
    "biogpt": "BioGPT",
    "bloom": "BLOOM",
    "distilbert": "DistilBERT",
    "gemma": "Gemma",
    "gpt_bigcode": "GPT-BigCode",
    "gpt_neo": "GPT-Neo",
    "gpt_neox": "GPT-NeoX",
    "gptj": "GPT-J",
    "llama": "LLaMA",
    "mistral": "Mistral",
    "openai-gpt": "GPT-1",
    "opt": "OPT",
    "phi": "Phi",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "roberta": "RoBERTa",
    "t5": "T5",
}
# What a folder without weights that can be loaded is, by a file in it.
OTHER_WEIGHTS = (
    ("tf_model.h5", "a TensorFlow checkpoint", "convert it with transformers 4 (from_tf=True)"),
    ("*.ckpt.index", "a TensorFlow checkpoint", "use its conversion on the Hub, such as gpt2"),
    ("flax_model*", "a Flax checkpoint", "convert it with transformers 4 (from_flax=True)"),
    ("*.gguf", "a GGUF model for llama.cpp", "use the checkpoint that it was made from"),
    ("*.onnx", "an ONNX export", "use the checkpoint that it was made from"),
    ("*.ts", "a TorchScript export", "use the checkpoint that it was made from"),
    ("*.pt2", "a torch.export program", "use the checkpoint that it was made from"),
    (MANIFEST, "a prepared data folder", "pass it as --data"),
)


def check_loadable(path: Path) -> None:
    """Raise CheckpointError, which says what it is, if a folder or file cannot be loaded."""
    folder = path if path.is_dir() else path.parent
    if any(folder.glob("model_*.pt")) and any(folder.glob("meta_*.json")):
        raise CheckpointError(f"{path} is a nanochat model, whose architecture is not GPT-2's")
    if path.is_file():
        if path.suffix != ".pt":
            raise CheckpointError(
                f"{path} is a file; specify a checkpoint's folder, or nanoGPT's {CKPT}"
            )
        return
    if (folder / "config.json").exists():
        _check_config(folder)
    if nanogpt := nanogpt_file(folder):
        _check_files([nanogpt])
    else:
        _check_weights(folder)


def _check_files(files: Sequence[Path]) -> None:
    """Raise CheckpointError if a file of weights is missing, empty or only a pointer."""
    again = "download or copy the model again"
    for weights in files:
        if not weights.is_file():
            is_link = weights.is_symlink() and not weights.exists()
            what = "a link to a file that is missing" if is_link else "missing or not a file"
            raise CheckpointError(f"{weights} is {what}; {again}")
        if weights.stat().st_size == 0:
            raise CheckpointError(f"{weights} is empty; {again}")
        if weights.stat().st_size < 1024 and weights.read_bytes().startswith(LFS):
            raise CheckpointError(
                f"{weights} is a pointer of Git LFS, not the weights; run git lfs pull in "
                f"{weights.parent}"
            )


def _check_config(folder: Path) -> None:
    """Raise CheckpointError if config.json describes something else than a language model."""
    try:
        hub: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8-sig"))
        kind, named_classes = hub.get("model_type"), hub.get("architectures") or []
    except (OSError, ValueError, AttributeError, RecursionError):
        raise CheckpointError(
            f"{folder / 'config.json'} does not describe a model; use another checkpoint"
        ) from None
    if "settings" in hub and kind is None:
        raise CheckpointError(f"{folder} is a run folder without a checkpoint; train it further")
    listed = named_classes if isinstance(named_classes, list) else [named_classes]
    classes = [str(name) for name in listed]
    named = NAMES.get(str(kind), kind)
    if kind is None and classes and not classes[0].startswith("GPT2"):
        named = re.sub(r"(For\w+|LMHead)?(Model)?$", "", classes[0])
    if named not in (None, "gpt2"):
        article = "an" if str(named)[0] in "AEIOUaeiou" else "a"
        raise CheckpointError(
            f"{folder} is {article} {named} model, and only GPT-2's architecture can be loaded"
        )
    if hub.get("add_cross_attention"):
        raise CheckpointError(
            f"{folder} is a GPT-2 with cross-attention, half of an encoder-decoder; use a GPT-2 "
            "without it"
        )
    if quantized := hub.get("quantization_config"):
        named = quantized.get("quant_method") if isinstance(quantized, dict) else quantized
        # Old versions of transformers did not name bitsandbytes.
        method = named or "bitsandbytes or another tool"
        raise CheckpointError(
            f"{folder} is a GPT-2 quantised by {method}; use the checkpoint that it was made from"
        )
    for name in classes:
        if re.search(r"Classification|QuestionAnswering", name):
            raise CheckpointError(
                f"{folder} is a classifier ({name}), which was not trained to write text; use the "
                "language model that it was made from"
            )
        if "DoubleHeads" in name:
            note_once(f"{folder}: only the language model of this {name} is used")


def _check_weights(folder: Path) -> None:
    """Raise CheckpointError if a folder has no weights, or not all of them, or no config.json."""
    try:
        files = weight_files(folder)
    except FileNotFoundError:
        names = map(folder.joinpath, ("model.safetensors", "pytorch_model.bin"))
        files = [path for path in names if path.is_symlink()]  # whose target is missing
    except ValueError as error:
        raise CheckpointError(f"{error}; use another checkpoint") from None
    if files and not (folder / "config.json").exists():
        raise CheckpointError(
            f"{folder} has weights but no config.json, which gives the model's shape; copy it from "
            "where the weights are from"
        )
    if files:
        _check_files(files)
        return
    for pattern, what, advice in OTHER_WEIGHTS:
        if any(folder.glob(pattern)):
            raise CheckpointError(f"{folder} is {what}; {advice}")
    found = "a config.json but no weights" if (folder / "config.json").exists() else "no model"
    raise CheckpointError(
        f"{folder} has {found}; specify a folder with config.json and model.safetensors"
    )


def check_no_pickle(path: Path) -> None:
    """Raise CheckpointError if loading a folder or file would open a pickle, as servers never do.

    Pickles are opened with weights_only=True elsewhere. PyTorch has had to mend that promise more
    than once, so what faces a network does not rely on it.
    """
    files = [path] if path.is_file() else [nanogpt_file(path)]
    if files == [None]:
        files = [*weight_files(path)]
    if unsafe := [each for each in files if each and each.suffix != ".safetensors"]:
        convert = console.command("export.py", f"--checkpoint={path}", "--format=hf")
        raise CheckpointError(
            f"{path} has no model.safetensors but {unsafe[0].name}, and such files can contain "
            f"code; convert it, and serve the new folder: {convert}"
        )


def newest_of_trainer(folder: Path) -> Path | None:
    """Return the newest checkpoint in an output folder of transformers' Trainer, or None.

    The folder itself has no model; Trainer may write the final one there.
    """
    found = [(TRAINER_FOLDER.fullmatch(path.name), path) for path in folder.glob("checkpoint-*/")]
    steps = {int(match[1]): path for match, path in found if match}
    # One that was interrupted while it was saved may have no model.
    whole = {step: path for step, path in steps.items() if any(path.glob("*config.json"))}
    steps = whole or steps
    if not steps:
        return None
    newest = steps[max(steps)]
    note_once(
        f"{folder} contains checkpoints of a Trainer: using {newest.name}, the newest of "
        f"{len(steps)}; pass the folder of another one to use that"
    )
    return newest


# ------------------------------------------------------------------------------------------------
# nanoGPT (github.com/karpathy/nanoGPT)


def nanogpt_file(path: Path) -> Path | None:
    """Return a nanoGPT checkpoint, given as a file or as the folder of ckpt.pt, or None."""
    if path.is_file():
        return path
    return path / CKPT if (path / CKPT).exists() and not (path / "config.json").exists() else None


def read_nanogpt(
    source: Path, *, block_size: int | None, dropout: float
) -> tuple[GPTConfig, Iterator[tuple[str, Tensor]]]:
    """Read the shape and the tensors, with the Hub's names and layout, of a ckpt.pt or its folder.

    Its GELU is exact since May 2023 and was the tanh approximation before. Files do not say which;
    only those from before January 2023 are known, by the lack of the setting `bias`.
    """
    path = source if source.is_file() else source / CKPT
    # Mapped, so that the optimizer's moments, two thirds of the file, are never read.
    saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    try:
        args, tensors = saved["model_args"], saved["model"]
        shape = {name: args[name] for name in ("vocab_size", "n_layer", "n_head", "n_embd")}
        longest = args["block_size"]
    except (KeyError, TypeError):
        raise CheckpointError(
            f"{path} is not a checkpoint of nanoGPT; specify a folder with config.json and "
            "model.safetensors"
        ) from None
    if shape["vocab_size"] < VOCAB_SIZE and not any(path.parent.glob("*.json")):
        raise CheckpointError(
            f"{path} has a vocabulary of {shape['vocab_size']} tokens of its own, such as letters. "
            "nanoGPT keeps them in meta.pkl, which can contain code and is not opened; use a "
            "checkpoint with GPT-2's tokenizer"
        )
    if block_size is not None and block_size > longest:
        raise ValueError(f"block_size {block_size} exceeds the checkpoint's {longest}")
    config = GPTConfig(
        **shape,
        block_size=block_size or longest,
        dropout=dropout,
        activation_function="gelu" if "bias" in args else "gelu_new",
    )
    if not (isinstance(tensors, dict) and all(isinstance(t, Tensor) for t in tensors.values())):
        raise ValueError(f"{path.name} contains more than tensors")
    return config, _nanogpt_tensors(config, tensors, has_biases=args.get("bias", True))


def _nanogpt_tensors(
    config: GPTConfig, tensors: dict[str, Tensor], *, has_biases: bool
) -> Iterator[tuple[str, Tensor]]:
    """Yield a nanoGPT's tensors, with its linear weights transposed and zeros for absent biases."""
    for name, tensor in tensors.items():
        yield name, transposed(name, tensor)
    if not has_biases:
        for name, parameter in GPT.without_weights(config).named_parameters():
            if name.endswith(".bias"):
                yield name, torch.zeros(parameter.shape)
