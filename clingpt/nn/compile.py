"""torch.compile without a graph break where this machine can, else eager and a word about it."""

import shutil

import torch
from torch._functorch import config as autograd

from clingpt.base import console
from clingpt.nn.runtime import Runtime
from model import GPT


def compile_in_place(model: GPT, rt: Runtime, *, wanted: bool | None) -> bool:
    """Compile `model` where `wanted`, or where not said on CUDA; whether it is compiled now.

    Whole on one process. On many, block by block: gradients are then ready, and averaged, while
    the backward pass goes on, and shards are gathered between blocks. Module.compile leaves
    parameter names alone, unlike torch.compile(model).
    """
    if not (rt.device.type == "cuda" if wanted is None else wanted):
        return False
    if reason := _why_not(rt):
        console.note(f"torch.compile is not available here, training eagerly: {reason}")
        return False
    # The next start then finds what this one compiled. Custom autograd functions keep it off by
    # default; ours are pure. The cache of torch 2.11 cannot tell float16 from bfloat16.
    autograd.autograd_cache_allow_custom_autograd_functions = rt.dtype != torch.float16
    if rt.n_ranks == 1:
        model.compile(fullgraph=True)
        return True
    for block in model.h:
        block.compile(fullgraph=True)
    model.summed_loss = torch.compile(model.summed_loss, fullgraph=True)
    return True


def _why_not(rt: Runtime) -> str | None:
    """What keeps this machine from compiling; tried on a line, before any work is begun."""
    if rt.device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
        return "no C++ compiler"
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(64, device=rt.device))
    except Exception as error:  # whatever the tool chain lacks: compiler, headers, Triton
        return (str(error).strip() or type(error).__name__).splitlines()[0][:120]
    return None
