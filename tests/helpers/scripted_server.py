"""serve.py with a model whose replies are given by a script, and which records its prompts.

The variable SCRIPTED names a folder. Its script.json is [[part of a prompt, reply as text or ids],
…]: the first entry whose part occurs in a prompt determines the reply, followed by an end of text.
The model answers all other prompts itself. Each reply adds a line to asked.jsonl in the folder. If
a reply contains "Fault:", the search for unsupported claims in it fails.
"""

import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import serve
from clingpt.decoding import engine
from clingpt.evaluation import terms, unsupported
from clingpt.text.tokenizer import EOT


class ScriptedReply(engine.Reply):
    """A reply whose scripted tokens are by far the most probable; the model chooses labels."""

    def __init__(self, prompt: Any, sampling: Any, tokenizer: Any, first_among: Any = ()) -> None:
        super().__init__(prompt, sampling, tokenizer, first_among)
        folder = Path(os.environ["SCRIPTED"])
        with (folder / "asked.jsonl").open("a") as file:
            file.write(json.dumps({"prompt": list(prompt), "among": list(first_among)}) + "\n")
        path, text = folder / "script.json", tokenizer.decode(prompt)
        lines = json.loads(path.read_text("utf-8")) if path.exists() else []
        script = next((reply for part, reply in lines if part in text), None)
        self._script = tokenizer.encode(script) if isinstance(script, str) else script

    def take(self, logits_V: torch.Tensor, highest: float, best: int) -> None:
        if self._script is not None and self.next_among is None:
            place = len(self.ids) - bool(self.first_among)
            best, highest = [*self._script, EOT][place], 1000.0
            logits_V = torch.zeros_like(logits_V).index_fill(0, torch.tensor(best), highest)
        super().take(logits_V, highest, best)


def find_flags(output: str, source: str) -> list[unsupported.Flag]:
    if "Fault:" in output:
        raise RuntimeError(f"bad text: {output}")
    return unsupported.find_flags(output, source)


def main() -> None:
    mock.patch.object(terms, "find_flags", find_flags).start()
    mock.patch.object(engine, "Reply", ScriptedReply).start()
    serve.main()
