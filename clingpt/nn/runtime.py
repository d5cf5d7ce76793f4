"""Where a run computes: device, precision, ranks. All that differs by machine, and nothing else.

The only place that knows of torch.distributed: one process and many look the same to its callers,
with one process each method being the identity. Ranks that compute meet over NCCL on CUDA and over
gloo on the CPU; their hosts agree over gloo, so that no agreement waits for a GPU.
"""

import ctypes
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from clingpt.base import console
from clingpt.base.errors import ConfigError, TrainingError

T = TypeVar("T")
S = TypeVar("S", "Ints", list[Any])
Ints = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Options of mallopt(3), as <malloc.h> numbers them, and their values in bytes.
MALLOC_MMAP_THRESHOLD, MALLOC_TRIM_THRESHOLD = (-3, 2**31 - 1), (-1, 2**31 - 1)
MALLOC_TOP_PAD = (-2, 2**28)
BFLOAT16_CAPABILITY = (8, 0)  # compute capability (Ampere) from which the hardware has bfloat16
BUCKET_MB = 100  # of gradients reduced at once; the tied embedding alone is 154 MB at 124M


@dataclass(frozen=True)
class Runtime:
    """The machine as the training loop sees it."""

    device: torch.device
    dtype: torch.dtype  # of matrix products; weights and optimizer stay in fp32
    rank: int = 0
    n_ranks: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes what the run leaves behind."""
        return self.rank == 0

    def autocast(self) -> AbstractContextManager[object]:
        """Matrix products in `dtype`; the rest as PyTorch's autocast decides."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling, which fp16 needs and which is the identity elsewhere."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)

    def put(self, array: Ints) -> Tensor:
        """A host array on the device; the copy does not wait for the kernels before it."""
        tensor = torch.from_numpy(array)
        if self.device.type != "cuda":
            return tensor.to(self.device)
        with torch.cuda.device(self.device):  # each thread has a current device of its own
            return tensor.pin_memory().to(self.device, non_blocking=True)

    def later(self, tensor: Tensor) -> Callable[[], Tensor]:
        """Start copying a tensor to the host; what is given waits for that copy alone."""
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
        """Wait for all kernels, so that a clock can be read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def launcher(self) -> str:
        """How a command like this process' is started."""
        return "python" if self.n_ranks == 1 else f"torchrun --nproc_per_node={self.n_ranks}"

    def name(self) -> str:
        """The device for people."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"{self.device.type}, {torch.get_num_threads()} threads"

    # Random numbers

    def rng_state(self) -> dict[str, Tensor]:
        """The generators that dropout draws from."""
        states = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        return states

    def set_rng_state(self, states: dict[str, Tensor]) -> None:
        """Continue those generators; a state of another kind of device is left out."""
        torch.set_rng_state(states["cpu"].cpu())
        if self.device.type == "cuda" and "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"].cpu(), self.device)

    def seed_rank(self, *seeds: int) -> None:
        """Begin random numbers that are this rank's own."""
        entropy = np.random.SeedSequence([*seeds, self.rank])
        torch.manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> 1))

    # Many ranks

    def share(self, items: S) -> S:
        """This rank's share of a step's rows, or of a list: every n-th."""
        mine: S = items[self.rank :: self.n_ranks]
        return mine

    def largest_share(self, n_items: int) -> int:
        """How many items the rank has that has most."""
        return -(-n_items // self.n_ranks)

    def replicate(self, model: nn.Module, *, blocks: nn.ModuleList, shard: bool) -> nn.Module:
        """What to call for a loss whose gradients are averaged over the ranks.

        DistributedDataParallel, or with `shard` FSDP2 (`fully_shard`), which changes the model in
        place; the tied embedding and head belong to its root.
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
        """For one forward and backward: average gradients over the ranks now, or with a later one.

        Shards are averaged at once: whole gradients are what sharding has no room for.
        """
        if isinstance(replica, nn.parallel.DistributedDataParallel) and not now:
            return replica.no_sync()
        return nullcontext()

    def is_sharded(self, replica: nn.Module) -> bool:
        """Whether its weights are spread over the ranks."""
        return any(is_spread(parameter) for parameter in replica.parameters())

    def reshard(self, replica: nn.Module) -> None:
        """Spread again what forwards without a backward put together of sharded weights."""
        if self.is_sharded(replica):
            fsdp: Any = replica
            fsdp.reshard()

    def clip_gradients(self, parameters: Iterable[Tensor], limit: float) -> Tensor:
        """Scale averaged gradients down to a norm of `limit`; their norm before, on the device."""
        return whole(nn.utils.clip_grad_norm_(parameters, limit))

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over the ranks, on each."""
        if self.n_ranks > 1:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor

    def gathered(self, value: T) -> list[T]:
        """Every rank's value, on each."""
        values: list[Any] = [value] * self.n_ranks
        if self.n_ranks > 1:
            dist.all_gather_object(values, value)
        return values

    def agreed(self, flag: bool) -> bool:
        """Whether the flag is up on any rank: the hosts ask one another, no GPU is waited for."""
        if self.n_ranks == 1:
            return flag
        up = torch.tensor(float(flag))
        dist.all_reduce(up, op=dist.ReduceOp.MAX)
        return bool(up)

    def on_main(self, work: Callable[[], T]) -> T:
        """Work of one rank that all wait for: its result on each, or the end of each."""
        result: Any = None
        failure: Exception | None = None
        if self.is_main:
            try:
                result = work()
            except Exception as error:  # raised again below, once the others know
                failure = error
        result, failed = self.gathered((result, failure is not None))[0]
        if failure is not None:
            raise failure
        if failed:
            raise SystemExit(1)  # the main rank says why
        return result  # type: ignore[no-any-return]


def is_spread(tensor: Tensor) -> bool:
    """Return whether a tensor is a DTensor, of which each rank holds a part.

    Asked by attribute: to import DTensor takes a second, and only --shard makes one.
    """
    return hasattr(tensor, "full_tensor")


def whole(tensor: Any) -> Tensor:
    """Gather a tensor that is spread over the ranks; return others unchanged."""
    gathered: Tensor = tensor.full_tensor() if is_spread(tensor) else tensor
    return gathered


def spread_like(tensor: Tensor, example: Tensor) -> Tensor:
    """Spread a whole tensor over the ranks in the way `example` is; if it is not, return it."""
    if not is_spread(example) or tensor.dim() == 0:
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor  # only --shard needs it

    assert isinstance(example, DTensor)
    return distribute_tensor(tensor.to(example.device), example.device_mesh, example.placements)


@contextmanager
def joined(*, device: str, dtype: str = "auto", seed: int = 0) -> Iterator[Runtime]:
    """This process' place among the ranks that torchrun started; without torchrun, alone."""
    if not _among_many():
        yield start(device=device, dtype=dtype, seed=seed)
        return
    try:
        rank, n_ranks, local = (int(os.environ[x]) for x in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    except KeyError as missing:
        raise ConfigError(f"WORLD_SIZE is set, {missing} is not; start with torchrun") from None
    console.mute(unless=rank == 0)
    chosen = _device_of_rank(device, local)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    _warn_of_restarts()
    dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
    alone = _begin(chosen, dtype, seed)
    try:
        yield replace(alone, rank=rank, n_ranks=n_ranks)
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise TrainingError(
            f"process {rank} lost contact with another one, whose own message says why; the same "
            f"command goes on from the last checkpoint ({str(error).splitlines()[0]})"
        ) from error
    dist.destroy_process_group()


def _device_of_rank(name: str, local_rank: int) -> torch.device:
    device = _device(name)
    if device.type != "cuda":
        return device
    if device.index is not None:
        raise ConfigError(f"torchrun gives each process a GPU of its own; drop --device={name}")
    if local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"torchrun started more processes than this machine's {torch.cuda.device_count()} "
            f"GPUs; lower --nproc_per_node"
        )
    return torch.device("cuda", local_rank)


def _warn_of_restarts() -> None:
    """A restarted group would read the addresses of the dead one (pytorch/pytorch#135712)."""
    restarts = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"))
    if restarts and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        console.note(
            "torchrun will not manage to restart this job after a crash: start it with "
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in the environment"
        )


def start(*, device: str, dtype: str = "auto", seed: int = 0) -> Runtime:
    """Choose device and precision, seed the generators; for what runs in one process.

    ConfigError where the machine lacks the device, or torchrun started many processes.
    """
    if _among_many():
        raise ConfigError(
            "only train.py and eval.py run in many processes; start this one without torchrun"
        )
    return _begin(_device(device), dtype, seed)


def _among_many() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _begin(device: torch.device, dtype: str, seed: int) -> Runtime:
    if device.type == "cpu":
        keep_freed_memory()
    torch.manual_seed(seed)
    return Runtime(device, choose_dtype(dtype, device))


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next step instead of giving it back to the kernel.

    Logits are freed and asked for again at each step, and the kernel clears their pages each time:
    +30 % tokens/s in the quickstart (docs/results.md). Other C libraries are left as they are.
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
        raise ConfigError(f"unknown device {name!r}; give auto, cpu, cuda, cuda:1 or mps") from None
    if not found.get(device.type, device.type == "cpu"):
        raise ConfigError(f"this machine has no {device.type} device; give --device=cpu or auto")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Of matrix products: as named, or the fastest that the device has and training survives."""
    bfloat16 = (
        device.type == "cuda" and torch.cuda.get_device_capability(device) >= BFLOAT16_CAPABILITY
    )
    if name != "auto":
        if name == "float16" and device.type != "cuda":
            raise ConfigError(f"float16 needs a CUDA device, this is {device}; give float32")
        return DTYPES[name]
    if device.type != "cuda":
        return torch.float32  # bfloat16 is emulated, nine times slower, without AMX or AVX512-BF16
    return torch.bfloat16 if bfloat16 else torch.float16
