"""serve.py whose model writes what it is told to, and which writes down what the model is given.

    SCRIPTED=FOLDER python tests/helpers/scripted_server.py [arguments of serve.py]

Not a test itself. FOLDER/script.json is [[part of a prompt, reply as text or as ids], …]: the first
part that a prompt holds counts, and its reply ends in an end of text; other prompts are answered by
the model. FOLDER/asked.jsonl gets a line for each reply that is begun. A reply with "Fault:" in it
cannot be checked against its source.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

import serve
from clingpt.base import console
from clingpt.decoding import engine
from clingpt.evaluation import faithfulness
from clingpt.serving import tasks
from clingpt.text.tokenizer import EOT

FOLDER = Path(os.environ.get("SCRIPTED", "."))


class ScriptedReply(engine.Reply):
    """A reply whose every next token is by far the most probable; a label is still the model's."""

    def __init__(self, prompt: Any, sampling: Any, tokenizer: Any, first_among: Any = ()) -> None:
        super().__init__(prompt, sampling, tokenizer, first_among)
        with (FOLDER / "asked.jsonl").open("a") as file:
            file.write(json.dumps({"prompt": list(prompt), "among": list(first_among)}) + "\n")
        path, text = FOLDER / "script.json", tokenizer.decode(prompt)
        lines = json.loads(path.read_text("utf-8")) if path.exists() else []
        said = next((reply for part, reply in lines if part in text), None)
        self._script = tokenizer.encode(said) if isinstance(said, str) else said

    def take(self, logits_V: torch.Tensor, highest: float, best: int) -> None:
        if self._script is not None and self.next_among is None:
            place = len(self.ids) - bool(self.first_among)
            best, highest = [*self._script, EOT][place], 1000.0
            logits_V = torch.zeros_like(logits_V).index_fill(0, torch.tensor(best), highest)
        super().take(logits_V, highest, best)


def find_flags(output: str, source: str) -> list[faithfulness.Flag]:
    if "Fault:" in output:
        raise RuntimeError(f"bad text: {output}")
    return faithfulness.find_flags(output, source)


def main() -> None:
    mock.patch.object(tasks, "find_flags", find_flags).start()
    mock.patch.object(engine, "Reply", ScriptedReply).start()
    serve.main()


if __name__ == "__main__":
    console.run(main)
