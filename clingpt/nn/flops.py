"""How fast a device could be and how much work a training step is, for model FLOP/s utilisation."""

import torch

from model import GPTConfig

# Dense peak FLOP/s of 16-bit matrix products with fp32 accumulation, by part of the device's name;
# the first that matches counts. Vendor's figures without sparsity.
PEAK_FLOPS = {
    "H200": 989e12,  # NVIDIA H200 data sheet (1,979 with sparsity)
    "H100 PCIe": 756e12,  # NVIDIA H100 data sheet (1,513 with sparsity)
    "H100": 989e12,  # NVIDIA H100 data sheet, SXM5 (1,979 with sparsity)
    "A100": 312e12,  # NVIDIA A100 data sheet
    "L40S": 362e12,  # NVIDIA L40S data sheet
    "L4": 121e12,  # NVIDIA L4 data sheet (242 with sparsity)
    "A10G": 70e12,  # NVIDIA A10G data sheet (140 with sparsity)
    "A10": 125e12,  # NVIDIA A10 data sheet
    "V100": 125e12,  # NVIDIA V100 data sheet, SXM2, fp16
    "T4": 65e12,  # NVIDIA T4 data sheet, fp16
    "RTX 4090": 165e12,  # NVIDIA Ada GPU architecture white paper, appendix A
    "RTX 3090": 71e12,  # NVIDIA Ampere GA102 white paper, appendix A
}


def peak_flops(device_name: str, dtype: torch.dtype) -> float | None:
    """Peak FLOP/s of a known GPU in a 16-bit type; None where no figure is known."""
    if dtype == torch.float32:
        return None
    return next((flops for name, flops in PEAK_FLOPS.items() if name in device_name), None)


def training_flops(config: GPTConfig, *, tokens: int, targets: int, attended_pairs: float) -> float:
    """FLOPs of a forward and backward pass: what the model needs, recomputation not counted.

    2 FLOPs a weight and token forward, twice that backward (Kaplan et al. 2020, section 2.1); the
    head, and what stands behind the last block's attention (9 C^2 weights), count at target
    positions alone; attention is 4 C FLOPs a visible pair and layer forward.
    """
    channels = config.n_embd
    blocks = channels**2 * ((12 * config.n_layer - 9) * tokens + 9 * targets)
    head = channels * config.vocab_size * targets
    attention = 2 * config.n_layer * channels * attended_pairs
    return 6.0 * (blocks + head + attention)
