"""Run a GGUF file in llama.cpp, which the package xllamacpp contains.

    python -m clingpt.export.llama_cpp FILE CONTEXT

reads calls of LlamaCpp's methods as JSON from standard input, and prints what they return.
export.py runs it in a process of its own, because llama.cpp aborts the process if a file does not
fit. Everything stays on this machine: llama.cpp listens on a free port of the loopback interface.
"""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
REQUIREMENTS = "requirements-verify.txt"
# A bias that makes llama.cpp choose a token whatever its logit. Log-probabilities are computed
# before it is added.
CERTAIN = 1e9
# A proxy of the environment must not receive what is meant for this machine.
LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Answers:
    """What llama.cpp computes for some ids and texts."""

    log_probs: list[float]  # of each id after the first, given those before it
    best: list[int]  # the most probable id at each of these positions
    tokens: list[list[int]]  # of each text
    version: str  # of xllamacpp


def is_installed() -> bool:
    """Return whether the package that contains llama.cpp is installed."""
    return find_spec("xllamacpp") is not None


class LlamaCpp:
    """A GGUF file opened in llama.cpp on the CPU."""

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 1,
        context: int = 0,
        rows: int = 1,
        exact: bool = True,
    ) -> None:
        """Open a file for `rows` prompts at once, each with a context of so many tokens.

        A context of 0 is the model's, for one row. With `exact`, keys and values are kept in fp32
        and the weights once, to compare figures; without, all is as llama.cpp chooses for speed.
        """
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx, params.n_parallel = context * rows, rows
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.n_gpu_layers = 0
        params.fit_params = False  # take the settings as they are
        if exact:
            params.no_extra_bufts = True  # no second copy of the weights in another layout
            params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
            params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.verbosity = 0
        params.warmup = params.ui = False
        params.port = 0
        self._server = xllamacpp.Server(params)

    def _post(self, route: str, **body: Any) -> Any:
        request = urllib.request.Request(
            f"{self._server.listening_address}/{route}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with LOCAL.open(request) as answer:
            return json.load(answer)

    def reply(self, ids: Sequence[int], new_tokens: int, *, ignore_end: bool = False) -> list[int]:
        """Return the greedy continuation of a prompt, without the end of text that ends it."""
        found = self._post(
            "completion",
            prompt=list(ids),
            n_predict=new_tokens,
            temperature=0,
            ignore_eos=ignore_end,
            return_tokens=True,
            cache_prompt=False,
        )
        ended = found["stop_type"] == "eos"
        return list(found["tokens"][:-1] if ended else found["tokens"])

    def next_token(self, ids: Sequence[int], wanted: int) -> tuple[float, int]:
        """Return the log-probability of a token after others, and the most probable token."""
        found = self._post(
            "completion",
            prompt=list(ids),
            n_predict=1,
            temperature=0,
            n_probs=1,
            logit_bias=[[wanted, CERTAIN]],
            cache_prompt=True,  # a prefix of the last prompt is not computed again
        )["completion_probabilities"][0]
        if found["id"] != wanted:
            raise RuntimeError(f"llama.cpp chose {found['id']} instead of {wanted}")
        return float(found["logprob"]), int(found["top_logprobs"][0]["id"])

    def version(self) -> str:
        """Return the version of xllamacpp."""
        import xllamacpp

        return str(xllamacpp.__version__)

    def tokenize(self, text: str) -> list[int]:
        """Return the token ids of a text."""
        body = {"content": text, "add_special": True, "parse_special": False}
        return list(self._post("tokenize", **body)["tokens"])


def call(path: Path, requests: Sequence[Sequence[Any]], *, context: int = 0) -> list[Any]:
    """Open a file in another process, and return what methods of LlamaCpp return there.

    A request is a method's name and its arguments. Raises RuntimeError if llama.cpp cannot open the
    file.
    """
    done = subprocess.run(
        [sys.executable, "-m", "clingpt.export.llama_cpp", str(path.absolute()), str(context)],
        cwd=ROOT,
        input=json.dumps(list(map(list, requests))),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"it ended with {done.returncode}"]
        raise RuntimeError(last[0])
    return list(json.loads(done.stdout.splitlines()[-1]))


def ask(path: Path, ids: Sequence[int], texts: Sequence[str]) -> Answers:
    """Let llama.cpp rate ids and encode texts; raise RuntimeError if it cannot open the file."""
    rated = [("next_token", list(ids[:n]), ids[n]) for n in range(1, len(ids))]
    requests = [*rated, *(("tokenize", text) for text in texts), ("version",)]
    *found, version = call(path, requests, context=len(ids) + 1)
    log_probs, best = zip(*found[: len(rated)], strict=True) if rated else ((), ())
    return Answers(list(log_probs), list(best), found[len(rated) :], version)


def main() -> None:
    engine = LlamaCpp(Path(sys.argv[1]), context=int(sys.argv[2]))
    found = [getattr(engine, name)(*args) for name, *args in json.load(sys.stdin)]
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    os._exit(0)  # xllamacpp's server was seen to wait for ever when it is destroyed


if __name__ == "__main__":
    main()
