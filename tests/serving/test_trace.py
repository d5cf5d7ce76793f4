"""How many of our files a request passes through: few enough to read in one sitting."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.types import Message

from clingpt.decoding.decoders import make_decoder
from clingpt.evaluation.scorer import Scorer
from clingpt.nn import runtime
from clingpt.serving.app import Site, make_app
from clingpt.serving.service import Limits, Service
from clingpt.serving.worker import Served
from clingpt.text.tokenizer import Tokenizer
from model import GPT
from tests.helpers.trace import Tracer

MOST_FILES = 14


@pytest.fixture
def tracer() -> Iterator[Tracer]:
    """A tracer of this thread and of all threads that start during the test."""
    found = Tracer()
    threading.setprofile(found._on_event)
    with found:
        yield found
    threading.setprofile(None)


@pytest.mark.parametrize("stream", [False, True])
def test_completion_passes_through_at_most_14_files(
    stream: bool, checkpoint: Path, tracer: Tracer
) -> None:
    rt = runtime.start(device="cpu")
    model = GPT.from_pretrained(checkpoint).eval()
    scorer = Scorer(model, make_decoder(model, rt), Tokenizer.load(), rt, batch_size=1)
    served = Served("tiny", scorer, None, "fingerprint", "float32")
    limits = Limits(
        rows=1,
        queue=1,
        prefill_tokens=128,
        request_timeout_s=600,
        max_body_bytes=2000,
        max_windows=1,
    )
    body = {"prompt": "Pain fell", "max_tokens": 4, "stream": stream}
    sent = list[Message]()

    async def ask() -> None:
        service = Service(lambda: served, limits)
        app = make_app(service, Site(keys=("key",)))
        service.worker.start()
        while service.state == "loading":
            await asyncio.sleep(0.01)
        messages = iter([json.dumps(body).encode()])

        async def receive() -> Message:
            for content in messages:
                return {"type": "http.request", "body": content, "more_body": False}
            return await asyncio.Future()  # the client stays connected

        async def send(message: Message) -> None:
            sent.append(message)

        headers = [(b"content-type", b"application/json"), (b"authorization", b"Bearer key")]
        scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": headers}
        tracer.files.clear()  # what follows is the request
        tracer._seen.clear()
        await app({**scope, "query_string": b"", "root_path": ""}, receive, send)
        service.worker.stop(60)

    asyncio.run(ask())
    assert sent[0]["status"] == 200
    listed = "\n".join([f"{len(tracer.files)} files:", *sorted(tracer.files)])
    assert "model.py" in tracer.files and len(tracer.files) <= MOST_FILES, listed
