"""A closed-loop load test over HTTP: each client sends its next request when the last one ends.

It uses real sockets, so it times what a user waits for. The servers, ours and `transformers serve`,
run in separate processes and stream the same /v1/completions.
"""

import asyncio
import itertools
import json
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.timing import OtherLoad, spread
from clingpt.base.console import Cell, progress
from clingpt.base.console import table as console_table
from clingpt.base.errors import BenchError
from clingpt.text.tokenizer import EOT, Tokenizer

ROOT = Path(__file__).parents[1]
START_S = 180.0
REQUEST_TIMEOUT_S = 3600  # many clients wait long for a server with one row
PEER = ("-c", "from transformers.cli.transformers import main; main()", "serve")


@dataclass(frozen=True)
class Contender:
    """A server to measure: ours, or transformers', with its flags."""

    arguments: tuple[str, ...]
    is_ours: bool = True

    def command(self, weights: Path, port: int) -> list[str]:
        """Return the command that starts the server."""
        if self.is_ours:
            own = [f"--checkpoint={weights}", f"--model_name={weights}", f"--port={port}"]
            own += [f"--request_timeout={REQUEST_TIMEOUT_S}", "--log_requests=False"]
            return [sys.executable, str(ROOT / "serve.py"), *own, *self.arguments]
        return [sys.executable, *PEER, str(weights), "--port", str(port), *self.arguments]


CONTENDERS = {
    "ours": Contender(("--rows=16",)),
    "ours-int8": Contender(("--rows=16", "--quantize=int8")),
    "ours-one": Contender(("--rows=1",)),
    "ours-int8-one": Contender(("--rows=1", "--quantize=int8")),
    "hf": Contender(("--device", "cpu", "--dtype", "float32"), is_ours=False),
}


@dataclass(frozen=True)
class Figures:
    """Results of one turn; times in seconds."""

    tokens_per_s: float
    first_token: tuple[float, float]  # 50th and 99th percentile
    between: tuple[float, float]
    health_p99: float


def make_prompts(n: int, tokens: Sequence[int], *, seed: int) -> list[str]:
    """Return texts with the given numbers of tokens, in turn, made of one-token words."""
    tokenizer, rng = Tokenizer.load(), random.Random(seed)
    texts = (tokenizer.decode([token]) for token in range(EOT))
    words = [t for t in texts if t[:1] == " " and t[1:].isalpha() and t.isascii() and len(t) > 3]
    return ["".join(rng.choices(words, k=k)) for k in itertools.islice(itertools.cycle(tokens), n)]


@contextmanager
def running(contender: Contender, weights: Path) -> Iterator[tuple[int, int]]:
    """Run a server; yields its process id and its port once it is ready."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    command = contender.command(weights, port)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end, path = time.monotonic() + START_S, "ready" if contender.is_ours else "health"
        while not answers(f"http://127.0.0.1:{port}/{path}"):
            if process.poll() is not None or time.monotonic() > end:
                raise BenchError(
                    f"the server did not start; run this by hand to see why: {' '.join(command)}"
                )
            time.sleep(0.1)
        yield process.pid, port
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    """Return whether a URL answers with 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def measure(
    contenders: dict[str, Contender],
    weights: Path,
    *,
    clients: Sequence[int],
    prompts: Sequence[str],
    new_tokens: int,
    repeats: int,
) -> tuple[dict[tuple[int, str], list[Figures]], float]:
    """Measure contenders in turns under the same requests, for each number of clients.

    Also returns the share of the CPU that other processes used.
    """
    found: dict[tuple[int, str], list[Figures]] = {}
    with ExitStack() as servers:
        processes = {
            name: servers.enter_context(running(one, weights)) for name, one in contenders.items()
        }
        ports = {name: port for name, (_, port) in processes.items()}
        for port in ports.values():  # warm up: the first request pays for lazy initialisation
            asyncio.run(drive(port, weights, prompts[:1], 1, new_tokens))
        others = OtherLoad([pid for pid, _ in processes.values()])
        turns = list(itertools.product(clients, range(repeats), ports.items()))
        for n, _, (name, port) in progress(turns, label="serving", total=len(turns), unit=" turns"):
            turn = asyncio.run(drive(port, weights, prompts[: max(2 * n, 4)], n, new_tokens))
            found.setdefault((n, name), []).append(turn)
        share = others.share()
    return found, share


def table(clients: int, figures: Mapping[str, Sequence[Figures]]) -> str:
    """Format one row per contender, with throughput relative to the first, turn by turn."""
    first = next(iter(figures.values()))
    rows: list[list[Cell]] = []
    for name, turns in figures.items():
        times = [a.tokens_per_s / b.tokens_per_s for a, b in zip(first, turns, strict=True)]
        waits = [(turn.first_token, turn.between) for turn in turns]
        rows.append([
            name, spread([turn.tokens_per_s for turn in turns]), spread(times),
            *(f"{median(w[what][at] for w in waits):.3f}" for what in (0, 1) for at in (0, 1)),
            f"{median(turn.health_p99 for turn in turns):.3f}",
        ])  # fmt: skip
    columns = ["server", "tokens/s", f"{next(iter(figures))} / it", "first token p50, s", "p99"]
    columns += ["next token p50, s", "p99", "/health p99, s"]
    return console_table(f"{clients} clients", columns, rows)


async def drive(
    port: int, weights: Path, prompts: Sequence[str], clients: int, new_tokens: int
) -> Figures:
    """Send all prompts, `clients` at a time, and ask /health meanwhile."""
    waiting, arrivals, beats = list(prompts)[::-1], list[list[float]](), list[float]()

    async def client() -> None:
        while waiting:
            arrivals.append(await complete(port, weights, waiting.pop(), new_tokens))

    started_at = time.monotonic()
    pulse = asyncio.ensure_future(keep_asking(port, beats))
    await asyncio.gather(*(client() for _ in range(clients)))
    seconds = time.monotonic() - started_at
    pulse.cancel()
    gaps = [b - a for _, *pieces in arrivals for a, b in itertools.pairwise(pieces)]
    return Figures(
        tokens_per_s=len(prompts) * new_tokens / seconds,
        first_token=percentiles([first - start for start, first, *_ in arrivals]),
        between=percentiles(gaps),
        health_p99=percentiles(beats)[1],
    )


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """Return the 50th and 99th percentile, or zeros for no values."""
    if not values:
        return 0.0, 0.0
    low, high = np.percentile(values, (50, 99)).tolist()
    return low, high


async def complete(port: int, weights: Path, prompt: str, new_tokens: int) -> list[float]:
    """Request one streamed, greedy completion; raise BenchError if it ends early.

    Returns the times of its start and of the arrival of each piece of text.
    """
    fields = {"model": str(weights), "prompt": prompt, "max_tokens": new_tokens}
    fields |= {"stream": True, "temperature": 0.0}
    times, ending = [time.monotonic()], None
    async for line in lines_of(port, "/v1/completions", fields):
        if not line.startswith(b"data: {"):
            continue
        chunk = json.loads(line[6:])
        choice = (chunk.get("choices") or [{}])[0]
        if choice.get("text"):
            times.append(time.monotonic())
        ending = choice.get("finish_reason") or ending
    if ending != "length":
        raise BenchError(f"a reply ended early ({ending}); choose another --seed")
    return times


async def keep_asking(port: int, beats: list[float]) -> None:
    """Ask /health ten times per second and record how long it takes."""
    while True:
        started_at = time.monotonic()
        async for _ in lines_of(port, "/health", None):
            pass
        beats.append(time.monotonic() - started_at)
        await asyncio.sleep(0.1)


async def lines_of(port: int, path: str, fields: object) -> AsyncIterator[bytes]:
    """Yield the lines of a response as they arrive; without `fields`, sends GET."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    content = b"" if fields is None else json.dumps(fields).encode()
    head = f"{'GET' if fields is None else 'POST'} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
    head += f"connection: close\r\ncontent-type: application/json\r\ncontent-length: {len(content)}"
    writer.write(head.encode() + b"\r\n\r\n" + content)
    try:
        while line := await reader.readline():
            yield line
    finally:
        writer.close()
