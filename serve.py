"""Serve a checkpoint over HTTP: OpenAI's completions API, answers, summaries,
documents, explanations, and a web page.

    python serve.py  # best checkpoint of the newest run, on 127.0.0.1:8000
    python serve.py --checkpoint=out/pubmedqa/best --quantize=int8 --rows=16
    python serve.py --host=0.0.0.0 --port=8080 --api_key_file=keys.txt
    curl 127.0.0.1:8000/v1/answer -H content-type:application/json \\
        -d '{"question": "Does the drug relieve pain?",
             "text": "Pain fell by 31 % with it."}'

/docs describes every route, /metrics is for Prometheus. Requests are neither stored nor logged.
Anyone who can reach the address can use the model: before you open it to others, set API keys
(--api_key_file, or the variable CLINGPT_API_KEYS) and put TLS in front. Ctrl-C lets running
requests finish; a second Ctrl-C stops at once.

Not intended to inform diagnosis, treatment or patient management.
"""

import ipaddress
import os
import re
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clingpt.base import console, settings
from clingpt.base.errors import ConfigError
from clingpt.base.files import read_text


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    # --- model ---
    # Checkpoint or run folder, gpt2 to gpt2-xl, or a Hugging Face Hub id; None is the best
    # checkpoint of the newest run in out/.
    checkpoint: str | None = None
    # PEFT adapter (LoRA) to merge into the checkpoint, a folder or a Hub id. An adapter that names
    # its base can also be passed as --checkpoint.
    adapter: str | None = None
    model_name: str | None = None  # name that clients use; None is the name of the run or folder

    # --- network ---
    host: str = "127.0.0.1"  # address to listen on; 0.0.0.0 or :: accept other machines
    # TCP port; 0 picks a free one, None is $AIP_HTTP_PORT, else $PORT, else 8000.
    port: int | None = None
    # Path under which a proxy publishes this server, such as /clingpt; needed only if the proxy
    # passes that path on.
    root_path: str = ""
    # File with one API key per line; every request must then carry one of them.
    api_key_file: Path | None = None
    # Web sites whose pages may call the API, such as https://example.org.
    cors_origins: tuple[str, ...] = ()
    frame_ancestors: tuple[str, ...] = ()  # web sites that may show the page in a frame
    log_requests: bool = True  # log method, route, status and time; never any text of a request

    # --- limits ---
    rows: int = 8  # replies decoded at once; each takes one context of keys and values
    queue: int = 64  # replies that may wait; further requests get status 429
    # Prompt tokens processed per step; fewer make other replies wait less.
    prefill_tokens: int = 256
    request_timeout: float = 120.0  # seconds for a whole reply, including the time in the queue
    shutdown_timeout: float = 25.0  # seconds that running requests get at shutdown
    max_body_kb: int = 1024  # largest request body, in units of 1024 bytes
    max_windows: int = 16  # most pieces that a long report may be split into

    # --- hardware ---
    device: str = "auto"  # auto, cpu, cuda, cuda:1 or mps
    # Precision of matrix products.
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    # Precision in which weights are kept. 16 bits halve their memory, and are then multiplied in
    # that precision, too.
    weights: Literal["float32", "bfloat16", "float16"] = "float32"
    # int8 stores weights in 8 bits: on a CPU, at least twice as fast.
    quantize: Literal["none", "int8"] = "none"

    def __post_init__(self) -> None:
        settings.check_range(self, "rows", "max_body_kb", "max_windows", at_least=1)
        settings.check_range(self, "queue", "shutdown_timeout", at_least=0)
        settings.check_range(self, "port", at_least=0, at_most=65535)
        settings.check_range(self, "prefill_tokens", at_least=128)
        settings.check_range(self, "request_timeout", above=0)
        settings.check(
            re.fullmatch(r"(/[\w.~-]+)*/?", self.root_path) is not None,
            f"root_path must be a path such as /clingpt, got {self.root_path!r}",
        )


def parse_flags() -> ServeConfig:
    return settings.parse(ServeConfig, sys.argv[1:], prog="serve.py", description=__doc__ or "")


if __name__ == "__main__":
    # Answer --help and refuse mistaken flags before the imports below, which take seconds.
    console.run(parse_flags, requirements="requirements-serve.txt")

import torch

from clingpt.data.prepared import trained_tasks
from clingpt.decoding.decoders import make_decoder
from clingpt.evaluation.calibration import Calibration
from clingpt.evaluation.scorer import Scorer
from clingpt.evaluation.terms import learned_terms
from clingpt.nn import runtime
from clingpt.nn.checkpoint import (
    check_servable,
    identity,
    load_to_use,
    locate,
    newest_best,
    run_name,
)
from clingpt.serving import server
from clingpt.serving.worker import Served
from clingpt.text.documents import DocumentForm

OLDEST_TORCH = (2, 10)  # earlier, weights_only could be circumvented (CVE-2026-24747)


def main() -> None:
    cfg = parse_flags()
    if (found := tuple(map(int, torch.__version__.split(".")[:2]))) < OLDEST_TORCH:
        raise ConfigError(f"torch {found} is too old to load weights safely; install 2.10 or later")
    source = cfg.checkpoint or newest_best(Path("out"))
    folder = locate(source)
    check_servable(folder)  # before the address is published
    keys = read_keys(cfg.api_key_file, os.environ.get("CLINGPT_API_KEYS", ""))
    listening = listen(cfg.host, port_of(cfg.port))
    name = cfg.model_name or run_name(source)
    address = address_of(listening)
    console.note(f"clinGPT serves {name} at {address}  (page: {address}/  API: {address}/docs)")
    if not (keys or is_loopback(cfg.host)):
        console.note("no API keys are set: anyone who can reach this address can use the model")
    server.run(
        lambda: load(cfg, folder, name),
        limits=server.Limits(
            rows=cfg.rows,
            queue=cfg.queue,
            prefill_tokens=cfg.prefill_tokens,
            request_timeout_s=cfg.request_timeout,
            max_body_bytes=cfg.max_body_kb * 1024,
            max_windows=cfg.max_windows,
        ),
        site=server.Site(
            root_path=cfg.root_path.rstrip("/"),
            keys=keys,
            cors_origins=cfg.cors_origins,
            frame_ancestors=cfg.frame_ancestors,
            health_routes=platform_routes("AIP_HEALTH_ROUTE"),
            predict_routes=platform_routes("AIP_PREDICT_ROUTE"),
            log=console.note if cfg.log_requests else lambda _: None,
            note=console.note,
        ),
        listening=listening,
        shutdown_timeout_s=cfg.shutdown_timeout,
    )


def load(cfg: ServeConfig, folder: Path, name: str) -> Served:
    """Load the model and prepare it for decoding."""
    rt = runtime.start(device=cfg.device, dtype=cfg.dtype, weights=cfg.weights)
    loaded = load_to_use(folder, pickles=False, adapter=cfg.adapter, dtype=rt.weights)
    model = loaded.model.to(rt.device).eval()
    decoder = make_decoder(model, rt, quantize=cfg.quantize)
    precision = cfg.quantize if cfg.quantize != "none" else str(rt.dtype).removeprefix("torch.")
    tasks, terms = trained_tasks(loaded.card, cfg.checkpoint or str(folder)), learned_terms(folder)
    form = tasks.form if tasks else DocumentForm()
    scorer = Scorer(model, decoder, loaded.tokenizer, rt, cfg.rows, form)
    calibration = Calibration.load(loaded.folder)
    console.note(f"ready: {folder} on {rt.name()}, {precision}, {console.count(cfg.rows, 'row')}")
    return Served(name, scorer, calibration, identity(loaded.folder), precision, tasks, terms)


def read_keys(path: Path | None, variable: str) -> tuple[str, ...]:
    """Return the keys in a file and in a comma-separated variable; an empty file is an error."""
    lines = read_text(path).splitlines() if path is not None else []
    found = [line.strip() for line in lines if line.strip()]
    if path is not None and not found:
        raise ConfigError(f"{path} contains no key; write one per line")
    return (*found, *(key.strip() for key in variable.split(",") if key.strip()))


def port_of(port: int | None) -> int:
    """Return the flag's port, or the one that Vertex AI or Cloud Run sets in the environment."""
    if port is not None:
        return port
    text = os.environ.get("AIP_HTTP_PORT") or os.environ.get("PORT") or "8000"
    if not (text.isdecimal() and int(text) < 65536):
        raise ConfigError(
            f"the port in the environment is {text!r}; it must be a number up to 65535"
        )
    return int(text)


def platform_routes(name: str) -> tuple[str, ...]:
    """Return the route that Vertex AI sets in this environment variable, if any."""
    route = os.environ.get(name)
    if route and not route.startswith("/"):
        raise ConfigError(f"{name} is {route!r}; a route must start with /")
    return (route,) if route else ()


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket, so that a port in use is reported before the model is loaded."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except socket.gaierror:
        raise ConfigError(
            f"{host} is not an address of this machine; use --host=127.0.0.1"
        ) from None
    except OSError as error:
        error.filename = f"{host}:{port}"
        raise


def address_of(listening: socket.socket) -> str:
    """Return the socket's URL."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    console.run(main, requirements="requirements-serve.txt")
