"""serve.py with faults that a request's own text triggers.

In a prompt, @sleep20 makes each step 20 ms longer and @encode20 its tokenisation. @nan3 and @crash3
strike after three tokens: the reply's logits become NaN, or the engine raises. @stray0 raises in a
callback outside the request. In a report, @flags0 makes the search for warnings fail. The message
of every such exception contains the text of the request, which must not leak. Other faults are set
for the whole server: FAULTY_SETTINGS is a JSON object with the fields of Settings.
"""

import asyncio
import json
import os
import re
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, partialmethod
from typing import Any
from unittest import mock
from weakref import WeakKeyDictionary

from opentelemetry._logs import LoggerProvider, NoOpLogger, set_logger_provider
from torch import Tensor

import serve
from clingpt.base import console
from clingpt.decoding.engine import Engine, Labels, Reply
from clingpt.decoding.sampling import Sampling
from clingpt.evaluation import terms
from clingpt.evaluation.unsupported import Flag, find_flags
from clingpt.serving import responses
from clingpt.serving.service import Finished, Service
from clingpt.serving.worker import Served
from clingpt.text.tokenizer import EOT, Tokenizer

MARK = re.compile(r"@(sleep|encode|nan|crash|flags)(\d+)")
SEND_BUFFER_BYTES = 4096  # small, so that a client which reads nothing soon blocks the server


@dataclass(frozen=True)
class Settings:
    load_s: float = 0.0  # extra time for loading
    ping_s: float = responses.PING_S
    sending_s: float = responses.SENDING_S
    witness: str = ""  # a file that records audit events once the model is loaded


class Faults:
    """Faults that marks in the prompts trigger."""

    def __init__(self) -> None:
        self._of: WeakKeyDictionary[Reply, dict[str, int]] = WeakKeyDictionary()
        self._texts: WeakKeyDictionary[Reply, str] = WeakKeyDictionary()
        self._submit, self._step, self._take = Engine.submit, Engine.step, Reply.take

    def submit(
        self,
        engine: Engine,
        prompt: Sequence[int],
        sampling: Sampling,
        first_among: Labels = (),
    ) -> Reply:
        reply = self._submit(engine, prompt, sampling, first_among)
        if EOT in prompt:
            sys.audit("clingpt.end_of_text")
        self._texts[reply] = engine._tokenizer.decode(list(prompt))
        self._of[reply] = {name: int(n) for name, n in MARK.findall(self._texts[reply])}
        return reply

    def step(self, engine: Engine) -> list[Reply]:
        replies = [*engine._at_work.values(), *engine._waiting]
        time.sleep(max((self._of[reply].get("sleep", 0) for reply in replies), default=0) / 1000)
        for reply in replies:
            if self._of[reply].get("crash") == len(reply.ids):
                raise RuntimeError(f"cannot continue with {self._texts[reply]}")
        return self._step(engine)

    def take(self, reply: Reply, logits_V: Tensor, highest: float, best: int) -> None:
        if self._of[reply].get("nan") == len(reply.ids):
            logits_V, highest = logits_V * float("nan"), float("nan")
        self._take(reply, logits_V, highest, best)


def slow_encode(tokenizer: Tokenizer, plain: Any, text: str) -> Any:
    """Tokenise, as slowly as the text asks for."""
    for name, n in MARK.findall(text):
        time.sleep(int(n) / 1000 if name == "encode" else 0)
    return plain(tokenizer, text)


async def reply_with_stray(
    service: Service, plain: Any, prompt: Sequence[int], *args: Any, **options: Any
) -> Finished:
    """Reply, and if the text asks for it, raise in a callback of the event loop."""
    text = service.served().scorer.tokenizer.decode(prompt)

    def fail() -> None:
        raise ValueError(f"cannot continue with {text}")

    if "@stray" in text:
        asyncio.get_running_loop().call_soon(fail)
    finished: Finished = await plain(service, prompt, *args, **options)
    return finished


def failing_search(reply: str, source: str) -> list[Flag]:
    """Search for warnings, or fail if the report asks for it."""
    if "@flags" in source:
        raise ValueError(f"cannot read {source}")
    return find_flags(reply, source)


def listen_with_small_buffer(plain: Any, host: str, port: int) -> socket.socket:
    listening: socket.socket = plain(host, port)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    return listening


class Telemetry(LoggerProvider):
    """A machine-wide telemetry provider, to which FastAPI would export invalid requests."""

    def get_logger(self, name: str, *_: Any, **__: Any) -> NoOpLogger:
        sys.audit("clingpt.telemetry")
        return NoOpLogger(name)


def load_slowly(plain: Any, settings: Settings, *args: Any) -> Served:
    """Load the model after a delay; from then on, record audit events."""
    time.sleep(settings.load_s)
    served: Served = plain(*args)
    if settings.witness:
        notes = open(settings.witness, "w", encoding="utf-8", errors="replace")
        watched = ("open", "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.exec")

        def note(event: str, given: tuple[Any, ...]) -> None:
            if event in watched or event.startswith("clingpt."):
                notes.write(f"{event} {given[:2]}\n")
                notes.flush()

        sys.addaudithook(note)
    return served


def main() -> None:
    settings = Settings(**json.loads(os.environ.get("FAULTY_SETTINGS", "{}")))
    responses.PING_S, responses.SENDING_S = settings.ping_s, settings.sending_s
    set_logger_provider(Telemetry())
    faults = Faults()
    for owner, name, changed in (
        (Engine, "submit", lambda *args: faults.submit(*args)),
        (Engine, "step", lambda engine: faults.step(engine)),
        (Reply, "take", lambda *args: faults.take(*args)),
        (Tokenizer, "encode", partialmethod(slow_encode, Tokenizer.encode)),
        (terms, "find_flags", failing_search),
        (Service, "reply", partialmethod(reply_with_stray, Service.reply)),
        (serve, "listen", partial(listen_with_small_buffer, serve.listen)),
        (serve, "load", partial(load_slowly, serve.load, settings)),
    ):
        mock.patch.object(owner, name, changed).start()
    serve.main()


if __name__ == "__main__":
    console.run(main)
