"""Device, precision, ranks and compilation of a run.

Only this module uses torch.distributed. Callers are written for many ranks; in a single process
each collective operation is the identity. Tensors on a GPU are reduced by NCCL, tensors on the CPU
by gloo, so that the processes can agree on something without waiting for their GPUs.
"""

import ctypes
import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from clingpt.base import console
from clingpt.base.errors import ConfigError, TrainingError
from model import GPT

T = TypeVar("T")
S = TypeVar("S", "Ints", list[Any])
Ints = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Options of mallopt(3), by their numbers in <malloc.h>, with values in bytes.
MALLOC_MMAP_THRESHOLD, MALLOC_TRIM_THRESHOLD = (-3, 2**31 - 1), (-1, 2**31 - 1)
MALLOC_TOP_PAD = (-2, 2**28)
BFLOAT16_CAPABILITY = (8, 0)  # Ampere, the first compute capability with bfloat16 in hardware
BUCKET_MB = 100  # of gradients per all-reduce; the tied embedding alone is 154 MB at 124M


@dataclass(frozen=True)
class Runtime:
    """A process's device, precision and place among the ranks."""

    device: torch.device
    dtype: torch.dtype  # of matrix products; moments and trained weights stay in fp32
    rank: int = 0
    n_ranks: int = 1
    weights: torch.dtype = torch.float32  # in which a model is kept; 16 bits cannot be trained

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    def autocast(self) -> AbstractContextManager[object]:
        """Run matrix products in `dtype`, and other operations as PyTorch's autocast decides."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def scaler(self) -> torch.amp.GradScaler:
        """Return loss scaling for fp16, disabled for other types, whose range is wide enough."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)

    def put(self, array: NDArray[Any]) -> Tensor:
        """Copy a host array to the device, without waiting for kernels that are running there."""
        tensor = torch.from_numpy(array)
        if self.device.type != "cuda":
            return tensor.to(self.device)
        with torch.cuda.device(self.device):  # the current device is set per thread
            return tensor.pin_memory().to(self.device, non_blocking=True)

    def later(self, tensor: Tensor) -> Callable[[], Tensor]:
        """Start copying a tensor to the host; calling the result waits only for that copy."""
        if self.device.type != "cuda":
            copy = tensor.detach().to("cpu", copy=True)
            return lambda: copy
        host = torch.empty_like(tensor, device="cpu", pin_memory=True)
        host.copy_(tensor, non_blocking=True)
        copied = torch.cuda.current_stream(self.device).record_event()

        def read() -> Tensor:
            copied.synchronize()
            return host

        return read

    def synchronize(self) -> None:
        """Wait for all kernels, for example before reading a clock."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def n_ranks_here(self) -> int:
        """Return how many ranks share this machine's memory, by torchrun's count."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))

    def launcher(self) -> str:
        """Return the command prefix that starts as many processes as this run has."""
        python = shlex.quote(console.python())
        if self.n_ranks == 1:
            return python
        torchrun = "torchrun" if python == "python" else f"{python} -m torch.distributed.run"
        return f"{torchrun} --nproc_per_node={self.n_ranks}"

    def name(self) -> str:
        """Return the device's name for display."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        n_threads = torch.get_num_threads()
        return f"{self.device.type}, {n_threads} thread{'s' if n_threads > 1 else ''}"

    # Random numbers

    def rng_state(self) -> dict[str, Tensor]:
        """Return the states of the generators that dropout draws from."""
        states = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        return states

    def set_rng_state(self, states: dict[str, Tensor]) -> None:
        """Restore these generators; a state of a device that this process lacks is ignored."""
        torch.set_rng_state(states["cpu"].cpu())
        if self.device.type == "cuda" and "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"].cpu(), self.device)

    def seed_rank(self, *seeds: int) -> None:
        """Seed this rank's generators, differently from those of other ranks."""
        entropy = np.random.SeedSequence([*seeds, self.rank])
        torch.manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> 1))

    # Many ranks

    def share(self, items: S) -> S:
        """Return this rank's share of a step's rows, or of a list: every n-th."""
        mine: S = items[self.rank :: self.n_ranks]
        return mine

    def largest_share(self, n_items: int) -> int:
        """Return the size of the largest share of n items."""
        return -(-n_items // self.n_ranks)

    def replicate(self, model: nn.Module, *, blocks: nn.ModuleList, shard: bool) -> nn.Module:
        """Return a module to call in place of the model, which averages gradients over the ranks.

        DistributedDataParallel, or with `shard` FSDP2 (`fully_shard`), which changes the model in
        place. Each block is a unit of sharding; the rest, such as the tied embedding, belongs to
        the root.
        """
        if self.n_ranks == 1:
            return model
        if not shard:
            return nn.parallel.DistributedDataParallel(
                model,
                bucket_cap_mb=BUCKET_MB,
                gradient_as_bucket_view=True,
            )
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(self.device.type, (self.n_ranks,))
        for module in (*blocks, model):
            fully_shard(module, mesh=mesh)
        return model

    def gradients_averaged(
        self, replica: nn.Module, *, now: bool
    ) -> AbstractContextManager[object]:
        """Average gradients over the ranks after the backward pass in this context, if `now`.

        Otherwise DDP only accumulates them locally. FSDP always averages: a rank has no memory for
        the gradients of all weights.
        """
        if isinstance(replica, nn.parallel.DistributedDataParallel) and not now:
            return replica.no_sync()
        return nullcontext()

    def is_sharded(self, replica: nn.Module) -> bool:
        """Return whether a module's weights are sharded over the ranks."""
        return any(is_spread(parameter) for parameter in replica.parameters())

    def reshard(self, replica: nn.Module) -> None:
        """Free the weights that forward passes gathered under FSDP; backward would have done so."""
        if self.is_sharded(replica):
            fsdp: Any = replica
            fsdp.reshard()

    def clip_gradients(self, parameters: Iterable[Tensor], limit: float) -> Tensor:
        """Scale gradients down to a norm of `limit`; return their norm before, on the device."""
        return whole(nn.utils.clip_grad_norm_(parameters, limit))

    def total(self, tensor: Tensor) -> Tensor:
        """Return the sum over all ranks, on every rank."""
        if self.n_ranks > 1:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor

    def gathered(self, value: T) -> list[T]:
        """Return the values of all ranks, on every rank."""
        values: list[Any] = [value] * self.n_ranks
        if self.n_ranks > 1:
            dist.all_gather_object(values, value)
        return values

    def agreed(self, flag: bool) -> bool:
        """Return whether the flag is set on any rank, without waiting for a GPU."""
        if self.n_ranks == 1:
            return flag
        up = torch.tensor(float(flag))
        dist.all_reduce(up, op=dist.ReduceOp.MAX)
        return bool(up)

    def on_main(self, work: Callable[[], T]) -> T:
        """Do work on the main rank while the others wait; return its result on every rank.

        If it raises, the main rank raises the same and the others exit, since they would otherwise
        wait for it forever in the next collective operation.
        """
        result: Any = None
        failure: Exception | None = None
        if self.is_main:
            try:
                result = work()
            except Exception as error:  # raised below, after the others have been told
                failure = error
        result, failed = self.gathered((result, failure is not None))[0]
        if failure is not None:
            raise failure
        if failed:
            raise SystemExit(1)  # without a message: the main rank prints one
        return result  # type: ignore[no-any-return]

    @contextmanager
    def held_by_main(self, context: AbstractContextManager[None]) -> Iterator[None]:
        """Enter a context on the main rank only, such as a lock: all ranks are one owner."""
        with ExitStack() as stack:
            self.on_main(lambda: stack.enter_context(context))
            yield


def is_spread(tensor: Tensor) -> bool:
    """Return whether a tensor is a DTensor, of which each rank holds a shard.

    Checked by an attribute, because importing DTensor takes a second and only --shard needs it.
    """
    return hasattr(tensor, "full_tensor")


def whole(tensor: Any) -> Tensor:
    """Gather a sharded tensor on every rank; return others unchanged."""
    gathered: Tensor = tensor.full_tensor() if is_spread(tensor) else tensor
    return gathered


def spread_like(tensor: Tensor, example: Tensor) -> Tensor:
    """Shard a whole tensor like `example`; return it unchanged if `example` is not sharded."""
    if not is_spread(example) or tensor.dim() == 0:
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor  # only --shard needs it

    assert isinstance(example, DTensor)
    return distribute_tensor(tensor.to(example.device), example.device_mesh, example.placements)


@contextmanager
def joined(
    *, device: str, dtype: str = "auto", weights: str = "float32", seed: int = 0
) -> Iterator[Runtime]:
    """Join the ranks that torchrun started; without torchrun, yield the runtime of one process."""
    if not _among_many():
        yield start(device=device, dtype=dtype, weights=weights, seed=seed)
        return
    try:
        rank, n_ranks, local = (int(os.environ[x]) for x in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    except KeyError as missing:
        raise ConfigError(
            f"WORLD_SIZE is set but {missing} is not; start many processes with torchrun"
        ) from None
    console.mute(unless=rank == 0)
    chosen = _device_of_rank(device, local)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    _warn_of_restarts()
    dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
    alone = _begin(chosen, dtype, weights, seed)
    try:
        yield replace(alone, rank=rank, n_ranks=n_ranks)
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise TrainingError(
            f"process {rank} lost contact with another one, which reported the reason; run the "
            f"same command again to resume from the last checkpoint ({str(error).splitlines()[0]})"
        ) from error
    dist.destroy_process_group()


def _device_of_rank(name: str, local_rank: int) -> torch.device:
    device = _device(name)
    if device.type != "cuda":
        return device
    if device.index is not None:
        raise ConfigError(f"torchrun assigns each process its GPU; leave out --device={name}")
    if local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"torchrun started more processes than this machine has GPUs "
            f"({torch.cuda.device_count()}); lower --nproc_per_node"
        )
    return torch.device("cuda", local_rank)


def _warn_of_restarts() -> None:
    """Warn that a restarted group would read the dead one's addresses (pytorch/pytorch#135712)."""
    restarts = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"))
    if restarts and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        console.note(
            "torchrun cannot restart this job after a crash unless "
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 is set in the environment"
        )


def start(*, device: str, dtype: str = "auto", weights: str = "float32", seed: int = 0) -> Runtime:
    """Choose device and precision and seed the generators, for commands that run in one process.

    Weights in 16 bits are multiplied in their own type, whatever `dtype` is.
    Raises ConfigError if the machine lacks the device, or if torchrun started many processes.
    """
    if _among_many():
        raise ConfigError(
            "only train.py and eval.py run on many processes; start this command without torchrun"
        )
    return _begin(_device(device), dtype, weights, seed)


def _among_many() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _begin(device: torch.device, dtype: str, weights: str, seed: int) -> Runtime:
    if device.type == "cpu":
        keep_freed_memory()
    torch.manual_seed(seed)
    chosen = choose_dtype(dtype if weights == "float32" else weights, device)
    return Runtime(device, chosen, weights=DTYPES[weights])


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory for the next step instead of returning it to the kernel.

    Every step allocates the logits anew, and the kernel would clear their pages each time. Measured
    on a small model with GPT-2's vocabulary: 30 % more tokens/s (docs/results.md). Other C
    libraries are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for option, value in (MALLOC_MMAP_THRESHOLD, MALLOC_TRIM_THRESHOLD, MALLOC_TOP_PAD):
            mallopt(option, value)


def _device(name: str) -> torch.device:
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next((kind for kind, there in found.items() if there), "cpu"))
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"unknown device {name!r}; use auto, cpu, cuda, cuda:1 or mps") from None
    if not found.get(device.type, device.type == "cpu"):
        raise ConfigError(f"this machine has no {device.type} device; use --device=cpu or auto")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the named type of matrix products; for `auto`, the fastest that training tolerates."""
    bfloat16 = (
        device.type == "cuda" and torch.cuda.get_device_capability(device) >= BFLOAT16_CAPABILITY
    )
    if name != "auto":
        if name == "float16" and device.type != "cuda":
            raise ConfigError(f"float16 needs a CUDA device, not {device}; use --dtype=float32")
        return DTYPES[name]
    if device.type != "cuda":
        # Without AMX or AVX512-BF16 a CPU emulates bfloat16, nine times slower than fp32.
        return torch.float32
    return torch.bfloat16 if bfloat16 else torch.float16


# ------------------------------------------------------------------------------------------------
# Compilation


def compile_in_place(model: GPT, rt: Runtime, *, wanted: bool | None) -> bool:
    """Compile a model without graph breaks if the machine can; return whether it is compiled.

    `wanted` None means on CUDA only. If compilation fails, a note says why and the model stays
    eager. Module.compile keeps parameter names, unlike torch.compile(model).
    """
    if not (rt.device.type == "cuda" if wanted is None else wanted):
        return False
    if reason := _why_not_compiled(rt):
        console.note(f"torch.compile is not available, training eagerly: {reason}")
        return False
    from torch._functorch import config as autograd_config

    # Cache compiled graphs on disk for the next start. Custom autograd functions are excluded by
    # default because they might have side effects; ours have none. With float16 the cache stays
    # off: in torch 2.11 its key does not distinguish float16 from bfloat16.
    cacheable = rt.dtype != torch.float16
    autograd_config.autograd_cache_allow_custom_autograd_functions = cacheable
    if rt.n_ranks == 1:
        model.compile(fullgraph=True)
        return True
    # On several ranks block by block: DDP then averages the gradients of one block, and FSDP
    # gathers the next block's weights, while the backward pass is still running.
    for block in model.h:
        block.compile(fullgraph=True)
    model.summed_loss = torch.compile(model.summed_loss, fullgraph=True)
    return True


def _why_not_compiled(rt: Runtime) -> str | None:
    """Compile one line of code; return why that failed, or None."""
    if rt.device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
        return "no C++ compiler found"
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(64, device=rt.device))
    except Exception as error:  # a missing compiler, header or Triton: each has its own exception
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return textwrap.shorten(reason, 120, placeholder=" …")
    return None
