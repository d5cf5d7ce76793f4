"""Prompt a checkpoint in the terminal.

    python sample.py                                          newest run's best checkpoint, asking
    python sample.py --prompt="Aspirin in the elderly" --temperature=0.8 --samples=3
    python sample.py --task=answer --input=note.json          a record: question and text
    echo "Metformin is" | python sample.py --checkpoint=gpt2

A record is a JSON object with `question` and `text` (or `sections`, [["RESULTS", "…"], …]); a
.jsonl file holds one a line. Replies go to standard output, everything else to standard error.
Not intended to inform diagnosis, treatment or patient management.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from clingpt import config, console, runtime
from clingpt.checkpoint import Loaded, RunFolder, load_model
from clingpt.errors import CheckpointError, ConfigError, DataError
from clingpt.generate import Sampling, TextStream, generate
from clingpt.records import LABELS, Record, from_json
from clingpt.runtime import Runtime
from clingpt.scoring import Scorer, score_labels
from clingpt.sources import read_jsonl
from clingpt.tasks import NotApplicable, make_prompt
from clingpt.tokenizer import EOT


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    checkpoint: str | None = None  # folder, gpt2 … gpt2-xl or a Hub id; None: newest run's best
    prompt: str | None = None  # text to continue
    prompt_file: Path | None = None  # file with the text to continue
    task: Literal["answer", "summarize", "document"] | None = None  # what to do with a record
    input: Path | None = None  # .json record or .jsonl of records, for --task
    limit: int = 1  # records of a .jsonl, the first ones
    samples: int = 1  # replies to each prompt, with seeds seed, seed + 1, …
    max_new_tokens: int = 200  # longest reply
    temperature: float = 0.0  # 0 is greedy: always the most probable token
    top_k: int | None = None  # choose among the k most probable tokens; None: among all
    top_p: float = 1.0  # choose among the fewest tokens this probable together; 1: among all
    seed: int = 1337  # of the choice at a temperature above 0
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # of matrix products

    def __post_init__(self) -> None:
        config.check_range(self, "limit", "samples", at_least=1)
        given = [name for name in ("prompt", "prompt_file", "input") if getattr(self, name)]
        config.check(len(given) < 2, f"give one of --{' and --'.join(given)}, not both")
        config.check(
            self.task is not None or self.input is None,
            "--input holds a record and needs --task=answer, summarize or document",
        )
        config.check(
            self.task is None or not (self.prompt or self.prompt_file),
            "--task takes a record: give --input=record.json instead of a prompt",
        )
        self.sampling()

    def sampling(self, n: int = 0) -> Sampling:
        """The settings of the n-th reply."""
        return Sampling(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            seed=self.seed + n,
        )


@dataclass(frozen=True)
class Session:
    """A model that answers."""

    cfg: SampleConfig
    rt: Runtime
    loaded: Loaded

    @property
    def budget(self) -> int:
        """Tokens that a prompt may take, so that the longest reply still fits."""
        budget = self.loaded.model.config.block_size - self.cfg.max_new_tokens
        if budget < 1:
            raise ConfigError(
                f"max_new_tokens {self.cfg.max_new_tokens} leaves no room for a prompt in a "
                f"context of {self.loaded.model.config.block_size}; lower it"
            )
        return budget


def main() -> None:
    cfg = config.parse(SampleConfig, sys.argv[1:], prog="sample.py", description=__doc__ or "")
    rt = runtime.start(device=cfg.device, dtype=cfg.dtype)
    checkpoint = cfg.checkpoint or newest_best(Path("out"))
    loaded = load_model(checkpoint)
    loaded.model.to(rt.device).eval()
    console.note(f"model: {checkpoint} on {rt.name()}")
    session = Session(cfg, rt, loaded)
    if cfg.task is not None:
        for record in iter_records(cfg):
            reply_to_record(session, record)
    else:
        for prompt in iter_prompts(cfg):
            reply_to_text(session, prompt)


def newest_best(runs: Path) -> str:
    """The best checkpoint of the run that was saved to last."""
    found = [path for path in runs.glob("*/best") if (path / "config.json").exists()]
    if not found:
        raise CheckpointError(
            f"no trained run under {runs}/; train one (make quickstart), or give --checkpoint=gpt2"
        )
    newest = max(found, key=lambda path: (RunFolder(path.parent).newest() or path).stat().st_mtime)
    return str(newest)


def iter_prompts(cfg: SampleConfig) -> Iterator[str]:
    """The prompt of the flags, of standard input, or as many as a person types."""
    if cfg.prompt is not None:
        yield cfg.prompt
    elif cfg.prompt_file is not None:
        yield read_text(cfg.prompt_file)
    elif not sys.stdin.isatty():
        yield sys.stdin.read().rstrip("\n")
    else:
        yield from iter(lambda: ask("prompt> "), "")


def read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8").rstrip("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}); convert it first") from None


def ask(question: str) -> str:
    """A line from a person; empty at the end of input."""
    try:
        return input(question)
    except EOFError:
        console.say("")
        return ""


def iter_records(cfg: SampleConfig) -> Iterator[Record]:
    """The records of --input, of standard input, or as a person types them."""
    if cfg.input is not None and cfg.input.suffix == ".jsonl":
        for _, record in zip(range(cfg.limit), read_jsonl(cfg.input), strict=False):
            yield record
    elif cfg.input is not None:
        yield parse_record(read_text(cfg.input), str(cfg.input))
    elif not sys.stdin.isatty():
        yield parse_record(sys.stdin.read(), "standard input")
    else:
        console.note("An empty line ends.")
        while text := ask("text> "):
            question = ask("question> ") if cfg.task == "answer" else ""
            yield from_json({"text": text, "question": question})


def parse_record(text: str, source: str) -> Record:
    try:
        return from_json(json.loads(text))
    except ValueError as error:
        raise DataError(f"{source} is not a record: {error}") from None


def reply_to_text(session: Session, prompt: str) -> None:
    """Continue a text; the newest part of one that is too long."""
    ids = session.loaded.tokenizer.encode(prompt) or [EOT]
    if len(ids) > session.budget:
        console.note(f"the prompt's first {len(ids) - session.budget} tokens do not fit; left out")
        ids = ids[-session.budget :]
    stream_replies(session, ids, shown=prompt)


def reply_to_record(session: Session, record: Record) -> None:
    """Do the task; for an answer, the three labels' probabilities first."""
    task = session.cfg.task or "answer"
    try:
        prompt = make_prompt(task, record, session.loaded.tokenizer, budget=session.budget)
        console.note(f"\n{record.id}: {record.question}" if record.question else f"\n{record.id}")
        if prompt.trimmed_tokens:
            console.note(f"{prompt.trimmed_tokens} tokens of context do not fit; left out")
        if task == "answer":
            show_probabilities(session, record)
    except NotApplicable as reason:
        raise DataError(f"record {record.id} cannot be used for {task}: {reason}") from None
    stream_replies(session, prompt.ids, shown="")
    if record.long_answer and task != "document":
        said = f"{record.decision}: " if record.decision and task == "answer" else ""
        console.note(f"(reference: {said}{record.long_answer})")


def show_probabilities(session: Session, record: Record) -> None:
    loaded = session.loaded
    scorer = Scorer(loaded.model, loaded.tokenizer, session.rt, batch_size=1)
    [score] = score_labels(scorer, [record])
    shares = ", ".join(f"{label} {score.probabilities[label]:.1%}" for label in LABELS)
    console.note(f"probabilities: {shares}")


def stream_replies(session: Session, ids: list[int], *, shown: str) -> None:
    """Print the replies as they are written; `shown` is repeated before each."""
    cfg = session.cfg
    for n in range(cfg.samples):
        stream = TextStream(session.loaded.tokenizer)
        console.say(shown, end="")

        def show(_: int, token: int, stream: TextStream = stream) -> None:
            console.say(stream.push(token), end="")

        with session.rt.autocast(), torch.no_grad():
            [reply] = generate(
                session.loaded.model,
                [ids],
                cfg.sampling(n),
                context=session.loaded.model.config.block_size,
                device=session.rt.device,
                on_token=show,
            )
        console.say(stream.end())
        if reply.finish_reason == "length":
            console.note(f"(stopped after {cfg.max_new_tokens} tokens: max_new_tokens)")


if __name__ == "__main__":
    console.run(main)
