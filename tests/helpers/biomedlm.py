"""Write a checkpoint of BioMedLM's shape with random weights, to measure memory and time with.

    python -m tests.helpers.biomedlm /tmp/biomedlm  # 10.7 GB, a layer at a time

The shape is that of stanford-crfm/BioMedLM: 2.7 billion parameters, 28,896 tokens. Without
vocabulary files in the folder, 50,257 rows fit GPT-2's tokenizer: --gpt2_vocabulary.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from model import GPT, GPTConfig

BIOMEDLM = {
    "vocab_size": 28896,
    "block_size": 1024,
    "n_layer": 32,
    "n_head": 20,
    "n_embd": 2560,
    "scale_attn_by_inverse_layer_idx": True,
    "reorder_and_upcast_attn": True,
}


def write(folder: Path, config: GPTConfig) -> None:
    """Write config.json and one shard of random weights per layer."""
    model = GPT.without_weights(config)
    model.save_pretrained(folder, weights=False)
    shards: dict[str, list[str]] = {}
    for name in model.hub_state():
        parts = name.split(".")
        layer = f"{int(parts[2]):02}" if parts[1] == "h" else parts[1]
        shards.setdefault(f"model-{layer}.safetensors", []).append(name)
    torch.manual_seed(1)
    for shard, names in shards.items():
        tensors = {}
        for name in names:
            shape = model.hub_state()[name].shape
            norm = "ln_" in name and name.endswith("weight")
            tensors[name] = torch.empty(shape).normal_(float(norm), 0.02)
        save_file(tensors, folder / shard, metadata={"format": "pt"})
    weight_map = {name: shard for shard, names in shards.items() for name in names}
    index = json.dumps({"metadata": {}, "weight_map": weight_map})
    (folder / "model.safetensors.index.json").write_text(index)


if __name__ == "__main__":
    changed = {"vocab_size": 50257} if "--gpt2_vocabulary" in sys.argv else {}
    write(Path(sys.argv[1]), GPTConfig(**BIOMEDLM | changed))  # type: ignore[arg-type]
