"""Write a model and its tokenizer as one GGUF file, which llama.cpp and Ollama run.

Tensors are converted, written and compared one at a time. The layout is that of llama.cpp's own
converter, with three differences: a width of the MLP other than 4 * n_embd is written, other
scales of the attention are folded into the queries' weights (plain.py), and rows of the embedding
without a token get a placeholder.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from clingpt.base.errors import CheckpointError
from clingpt.export import llama_cpp
from clingpt.export.plain import iter_weights
from clingpt.text.tokenizer import Tokenizer
from model import GPT

Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]
Kind = Literal["F32", "F16", "Q8_0"]  # GGUF's names; Q8_0 has blocks of BLOCK 8-bit weights
KINDS: dict[str, Kind] = {"float32": "F32", "float16": "F16", "q8_0": "Q8_0"}  # by --dtype
BLOCK = 32
CHUNK = 2**20  # weights converted or compared at a time
# F16 keeps 11 bits of a weight. Q8_0 rounds to 1/127 of a block's largest weight, and this step
# itself to 11 bits.
ROUNDING = {"F32": 0.0, "F16": 2.0**-11, "Q8_0": 0.57 / 127}
SMALLEST = 2.0**-14  # 16-bit floats below this are equally spaced, and so are the steps of Q8_0
SPACING = {"F32": 0.0, "F16": 2.0**-25, "Q8_0": 127 * 2.0**-25}  # rounding of the smallest
# Largest mean difference of a token's log-probability between the model and llama.cpp, in nats.
# llama.cpp rounds activations too: GELU to 11 bits, and to 8 bits all that Q8_0 weights multiply.
LIMITS = {"F32": 0.02, "F16": 0.05, "Q8_0": 0.25}
TEXTS = (  # to compare tokens: what splits words in an unusual way
    "RESULTS: Pain fell by 31% with the drug and by 8% with placebo (P = 0.002).\nIt's won't I'LL",
    "5 µg ± 0.3\u2009% (P≤0.05)\n\n  β-blocker, naïve 心 🫀",
    "\tx  y \r\n\n   1234567 3.14e-5 ½ ٣ <|endoftext|> ____ ",
)
# Tokens that end a text: of the text, of a turn and of a message.
END_KEYS = tuple(f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom"))
TOPS = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm"}
PARTS = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def file_name(kind: Kind) -> str:
    """Return the file's name; llama.cpp and the Hub read the type of the weights from its end."""
    return f"model-{kind}.gguf"


def check_blocks(model: GPT) -> None:
    """Raise CheckpointError if Q8_0 cannot store the model."""
    for name in ("n_embd", "mlp_size"):
        if (width := getattr(model.config, name)) % BLOCK:
            what = "n_inner" if name == "mlp_size" else name
            raise CheckpointError(
                f"q8_0 stores {BLOCK} weights at a time, and {what} is {width}; use --dtype=float16"
            )


def check_tokenizer(tokenizer: Tokenizer) -> None:
    """Raise CheckpointError if llama.cpp cannot encode text as the tokenizer does."""
    if tokenizer.prefix_space:  # its setting add_space_prefix has no effect on a byte-level BPE
        raise CheckpointError(
            "the model's tokenizer puts a space before every text (add_prefix_space), which "
            "llama.cpp does not; use --format=hf or --format=onnx"
        )


def ends_note(tokenizer: Tokenizer) -> str | None:
    """Return a sentence about tokens that end a text and have no room in the file, or None."""
    if len(tokenizer.ends) <= len(END_KEYS):
        return None
    left_out = ", ".join(tokenizer.decode([end]) for end in tokenizer.ends[len(END_KEYS) :])
    return (
        f"GGUF has room for {len(END_KEYS)}, so {left_out} will not end a reply in llama.cpp; the "
        "Modelfile names all of them"
    )


def write(
    model: GPT, tokenizer: Tokenizer, path: Path, *, kind: Kind, facts: Mapping[str, str]
) -> None:
    """Write the file. Metadata are `facts` whose names have a dot, and a base model on the Hub.

    Raises CheckpointError if a weight is beyond the range of 16-bit floats.
    """
    import gguf

    writer = gguf.GGUFWriter(path, "gpt2")
    _add_metadata(writer, model, kind, facts)
    _add_vocabulary(writer, tokenizer, model.config.vocab_size)
    for name, tensor in model.state_dict().items():
        shape = (
            (model.config.vocab_size, *tensor.shape[1:]) if name == "wte.weight" else tensor.shape
        )
        stored = gguf.GGMLQuantizationType[stored_as(name, kind)]
        block, n_bytes = gguf.GGML_QUANT_SIZES[stored]
        size = int(np.prod(shape)) // block * n_bytes
        writer.add_tensor_info(gguf_name(name), shape, np.dtype(np.float32), size, stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    # Not by the writer: its error does not say that the disk is full.
    with path.open("ab") as file:
        for name, tensor in iter_weights(model):
            file.write(bytes(-file.tell() % gguf.GGUF_DEFAULT_ALIGNMENT))
            stored = gguf.GGMLQuantizationType[stored_as(name, kind)]
            for part in _split(tensor.numpy()):
                with np.errstate(over="ignore"):
                    data = gguf.quantize(part, stored)
                if data.dtype == np.float16 and not np.isfinite(data).all():
                    raise CheckpointError(
                        f"{name} contains values beyond the range of float16; choose another "
                        "--dtype"
                    )
                file.write(np.ascontiguousarray(data).data)
        file.write(bytes(-file.tell() % gguf.GGUF_DEFAULT_ALIGNMENT))


def _split(weights: Floats) -> list[Floats]:
    """Split a tensor into runs of rows of about CHUNK numbers, to save memory."""
    return np.array_split(weights, max(1, min(len(weights), weights.size // CHUNK)))


def gguf_name(name: str) -> str:
    """Return llama.cpp's name of a tensor."""
    stem, _, role = name.rpartition(".")
    if stem in TOPS:
        return f"{TOPS[stem]}.{role}"
    _, layer, part = stem.split(".", 2)
    return f"blk.{layer}.{PARTS[part]}.{role}"


def stored_as(name: str, kind: Kind) -> Kind:
    """Return a tensor's type: matrices are rounded, vectors and positions stay in fp32."""
    is_matrix = name.endswith("weight") and "ln_" not in name and name != "wpe.weight"
    return kind if is_matrix else "F32"


def _add_metadata(writer: Any, model: GPT, kind: Kind, facts: Mapping[str, str]) -> None:
    import gguf

    config = model.config
    ftype = {"F32": "ALL_F32", "F16": "MOSTLY_F16", "Q8_0": "MOSTLY_Q8_0"}
    writer.add_type("model")
    writer.add_file_type(gguf.LlamaFileType[ftype[kind]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(config.n_layer)
    writer.add_context_length(config.block_size)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(config.mlp_size)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_vocab_size(config.vocab_size)
    for key, value in facts.items():
        if "." in key:
            writer.add_string(key, value)
    if base := facts.get("base_model"):
        maker, _, name = base.rpartition("/")
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, name)
        writer.add_base_model_organization(0, maker)
        writer.add_base_model_repo_url(0, f"https://huggingface.co/{base}")
        if revision := facts.get("base_model_revision"):
            writer.add_base_model_version(0, revision)


def _add_vocabulary(writer: Any, tokenizer: Tokenizer, n_rows: int) -> None:
    """Add as many tokens as the embedding has rows.

    Rows without a token are marked unused, and added tokens as control tokens, which llama.cpp
    does not recognise in typed text unless it is asked to.
    """
    import gguf

    kinds = gguf.TokenType
    tokens = {id_: (text, kinds.NORMAL) for text, id_ in tokenizer.ids.items()}
    tokens |= {id_: (text, kinds.CONTROL) for text, id_ in tokenizer.added.items()}
    rows = [tokens.get(id_, (f"[PAD{id_}]", kinds.UNUSED)) for id_ in range(n_rows)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([text for text, _ in rows])
    writer.add_token_types([kind for _, kind in rows])
    writer.add_token_merges(list(tokenizer.merges))
    writer.add_bos_token_id(tokenizer.eot)
    for key, end in zip(END_KEYS, tokenizer.ends, strict=False):
        writer.add_uint32(key, end)
    pad = tokenizer.roles.get("pad_token", tokenizer.eot_text)
    writer.add_pad_token_id((tokenizer.ids | tokenizer.added)[pad])
    writer.add_add_bos_token(False)  # prompts do not start with the end of a text


def verify(model: GPT, path: Path, kind: Kind) -> float:
    """Read a file again; return the largest rounding, relative to the largest weight near it.

    Near is within a block of Q8_0; in the other types each weight is rounded alone. Raises
    CheckpointError if a tensor is missing or differs by more than its type rounds.
    """
    import gguf

    # Its memory map only shows where the tensors are: pages read through it would count as ours.
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    largest = 0.0
    for name, weights in iter_weights(model):
        stored, entry = stored_as(name, kind), found.pop(gguf_name(name), None)
        shape = None if entry is None else tuple(int(n) for n in reversed(entry.shape))
        if entry is None or shape != tuple(weights.shape) or entry.tensor_type.name != stored:
            raise CheckpointError(
                f"{gguf_name(name)} is missing from {path.name} or has another shape or type; "
                "nothing was written"
            )
        with path.open("rb") as file:
            file.seek(entry.data_offset)
            for ours in _split(weights.numpy()):
                n_bytes = entry.n_bytes * ours.size // weights.numel()
                raw = np.frombuffer(file.read(n_bytes), np.uint8)
                theirs = gguf.dequantize(raw, entry.tensor_type).reshape(ours.shape)
                largest = max(largest, _rounding(ours, theirs, stored, f"{path.name}: {name}"))
    if found:
        raise CheckpointError(f"{path.name} contains {min(found)}; nothing was written")
    return largest


def _rounding(ours: Floats, theirs: Floats, stored: Kind, where: str) -> float:
    """Return the largest difference, relative to the weight or to the largest of its block."""
    near = np.abs(ours).reshape(-1, BLOCK if stored == "Q8_0" else 1).max(1, keepdims=True)
    difference = np.abs(theirs - ours).reshape(len(near), -1)
    if not (difference <= ROUNDING[stored] * near + SPACING[stored]).all():
        raise CheckpointError(
            f"{where} differs from the model's by more than {stored} rounds; nothing was written"
        )
    return float((difference / np.maximum(near, SMALLEST)).max(initial=0))


def compare_with_llama_cpp(model: GPT, tokenizer: Tokenizer, path: Path, kind: Kind) -> str:
    """Open a file in llama.cpp; return a sentence about how far it is from the model.

    Raises CheckpointError if llama.cpp refuses the file, encodes text differently, or computes
    other log-probabilities than rounding explains.
    """
    ids = tokenizer.encode(TEXTS[0])[: model.config.block_size]
    log_probs, best = _log_probs(model, ids)
    try:
        found = llama_cpp.ask(path, ids, TEXTS)
    except RuntimeError as error:
        raise CheckpointError(f"llama.cpp cannot use the file: {error}") from None
    for text, tokens in zip(TEXTS, found.tokens, strict=True):
        if tokens != tokenizer.encode(text):
            raise CheckpointError(
                f"llama.cpp encodes {text!r} in other tokens than the model's tokenizer; nothing "
                "was written: use --format=hf or --format=onnx"
            )
    differences = [abs(a - b) for a, b in zip(log_probs, found.log_probs, strict=True)]
    mean, n = sum(differences) / len(differences), len(differences)
    same = sum(a == b for a, b in zip(best, found.best, strict=True))
    if not mean <= LIMITS[kind]:
        raise CheckpointError(
            f"llama.cpp differs from the model by {mean:.2g} nats per token, and {kind} explains "
            f"at most {LIMITS[kind]}; nothing was written"
        )
    return (
        f"the same tokens; log-probabilities differ by {mean:.1e} nats per token, with the same "
        f"best token at {same} of {n} positions (xllamacpp {found.version})"
    )


@torch.no_grad()
def _log_probs(model: GPT, ids: Sequence[int]) -> tuple[list[float], list[int]]:
    """Return the log-probability of each id after the first, and the best id at its position."""
    log_probs_TV = model(torch.tensor([ids]))[0, :-1].float().log_softmax(-1)
    chosen_T = log_probs_TV[range(len(ids) - 1), ids[1:]]
    return chosen_T.tolist(), log_probs_TV.argmax(-1).tolist()
