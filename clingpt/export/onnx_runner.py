"""Answer, summarise, draft and explain with an exported ONNX model in onnxruntime,
without torch.

    python -m clingpt.export.onnx_runner --model=exported/onnx \\
        --task=answer --input=note.json
    python -m clingpt.export.onnx_runner --model=exported/onnx \\
        --task=summarize --input=notes.jsonl --int8
    python -m clingpt.export.onnx_runner --model=exported/onnx \\
        --prompt="Metformin is"

On a machine without torch, install the packages in requirements-runner.txt. A record is a JSON
object with `question` and `text` (or `sections`), and a .jsonl file has one per line. Decoding is
greedy and produces the same texts as sample.py does by default. Prompts of a batch are padded on
the left.

Not intended to inform diagnosis, treatment or patient management.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from clingpt.base import console, settings

REQUIREMENTS = "requirements-runner.txt"  # the few packages that this file needs


@dataclass(frozen=True, kw_only=True)
class RunnerConfig:
    # --- model ---
    model: Path  # folder written by export.py --format=onnx
    int8: bool = False  # use the 8-bit weights, model_int8.onnx
    threads: int = 0  # CPU threads; 0 uses all cores

    # --- input ---
    # What to do with each record: answer, summarize, document or explain.
    task: str | None = None
    input: Path | None = None  # file with a record (.json) or one per line (.jsonl)
    prompt: str | None = None  # text to continue, instead of --task and --input

    # --- reply ---
    # Maximum length of a reply, in tokens; None is the task's, or 200 for a prompt.
    max_new_tokens: int | None = None
    batch_size: int = 8  # records that are decoded together

    def __post_init__(self) -> None:
        from clingpt.text.tasks import PROMPTED  # not above: --help must be quick

        settings.check(
            self.task is None or self.task in PROMPTED,
            f"unknown task {self.task!r}; choose from {', '.join(sorted(PROMPTED))}",
        )
        settings.check(
            (self.prompt is None) != (self.input is None),
            "set either --prompt, or --task and --input",
        )
        settings.check(
            (self.input is None) == (self.task is None),
            "--task and --input belong together: set both, or only --prompt",
        )
        settings.check_range(self, "batch_size", "max_new_tokens", at_least=1)
        settings.check_range(self, "threads", at_least=0)


def parse_flags() -> RunnerConfig:
    prog = "python -m clingpt.export.onnx_runner"
    return settings.parse(RunnerConfig, sys.argv[1:], prog=prog, description=__doc__ or "")


if __name__ == "__main__":
    # Answer --help and refuse mistaken flags before the imports below.
    console.run(parse_flags, requirements=REQUIREMENTS)

import numpy as np
from numpy.typing import NDArray

from clingpt.base.errors import CheckpointError, DataError
from clingpt.base.files import verify_sums
from clingpt.data.prepared import trained_tasks
from clingpt.decoding.batch_files import iter_lines
from clingpt.decoding.replies import Question, ReplyJson, ask_task, reply_json
from clingpt.evaluation.calibration import Calibration, LabelScores
from clingpt.evaluation.terms import learned_terms, warnings_json
from clingpt.text.documents import DocumentForm
from clingpt.text.records import Record, from_json
from clingpt.text.tasks import TASK_TABLE, label_ids
from clingpt.text.tokenizer import TextStream, Tokenizer

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
OnText = Callable[[int, str], None]  # receives a prompt's index and new text of its reply


class Text(NamedTuple):
    """A reply: text, tokens without the end of text, and the finish reason, stop or length."""

    text: str
    ids: list[int]
    finish_reason: str


class Runner:
    """An exported model in onnxruntime, with its tokenizer and calibration."""

    def __init__(self, folder: Path, *, int8: bool = False, threads: int = 0) -> None:
        """Open an export; raise CheckpointError if missing or damaged. 0 threads: all cores."""
        name = "model_int8.onnx" if int8 else "model.onnx"
        if not (folder / name).exists():
            raise CheckpointError(
                f"{folder / name} is missing; run: python export.py --format=onnx"
            )
        verify_sums(folder, required={name, "config.json"})
        self.calibration = Calibration.load(folder)
        card = folder / "clingpt.json"
        facts = json.loads(card.read_text("utf-8")) if card.exists() else {}
        self.tasks = trained_tasks(facts, str(folder))
        self.terms = learned_terms(folder)
        config = json.loads((folder / "config.json").read_text("utf-8"))
        self.tokenizer = Tokenizer.load(folder).fitting(int(config["vocab_size"]), folder)
        self.context = int(config["n_positions"])
        self._empty = (config["n_head"], 0, config["n_embd"] // config["n_head"])
        self._session = open_session(folder / name, threads)
        self._inputs = [each.name for each in self._session.get_inputs()]

    def step(self, *arrays: Any) -> tuple[Floats, list[Floats]]:
        """Run the model; return logits (B, T, V), and the keys and values of all tokens so far."""
        logits, *past = self._session.run(None, dict(zip(self._inputs, arrays, strict=True)))
        return logits, past

    def prefill(self, prompts: Sequence[Sequence[int]]) -> tuple[Floats, Ints, list[Floats]]:
        """Run the prompts, padded on the left: logits (B, T, V), mask (B, T), keys and values."""
        eot, longest = self.tokenizer.eot, max(map(len, prompts))
        ids_BT = np.array([[eot] * (longest - len(p)) + list(p) for p in prompts], dtype=np.int64)
        mask_BT = np.array([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        position_BT = np.maximum(mask_BT.cumsum(1) - 1, 0)
        empty = np.zeros((len(prompts), *self._empty), dtype=np.float32)
        past = [empty] * (len(self._inputs) - 3)
        logits_BTV, past = self.step(ids_BT, mask_BT, position_BT, *past)
        return logits_BTV, mask_BT, past

    def check_room(self, prompt: Sequence[int], max_new_tokens: int) -> None:
        """Raise DataError if a prompt is empty or leaves its reply too little of the context."""
        if not prompt:
            raise DataError("a prompt is empty; pass at least one token")
        if len(prompt) + max_new_tokens > self.context:
            raise DataError(
                f"a prompt of {len(prompt)} tokens and {max_new_tokens} new ones exceed the "
                f"context of {self.context}; shorten the prompt or lower max_new_tokens"
            )

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        on_text: OnText = lambda n, text: None,
    ) -> list[Text]:
        """Decode a greedy reply to each prompt; raise DataError if one leaves no room for it."""
        for prompt in prompts:
            self.check_room(prompt, max_new_tokens)
        logits_BTV, mask_BS, past = self.prefill(prompts)
        streams = [TextStream(self.tokenizer) for _ in prompts]
        ids: list[list[int]] = [[] for _ in prompts]
        ends = ["length"] * len(prompts)
        rows = list(range(len(prompts)))  # the prompt of each row; finished rows are dropped
        for n_new in range(1, max_new_tokens + 1):
            # Rows above the highest id, and some others, may have no token: never choose those.
            logits_BV = logits_BTV[:, -1, : self.tokenizer.size]
            logits_BV[:, list(self.tokenizer.unused)] = -np.inf
            token_B = logits_BV.argmax(-1)
            kept = []
            for place, (row, token) in enumerate(zip(rows, token_B.tolist(), strict=True)):
                if token in self.tokenizer.ends:
                    ends[row] = "stop"
                    continue
                ids[row].append(token)
                on_text(row, streams[row].push(token))
                kept.append(place)
            if not kept or n_new == max_new_tokens:
                break
            rows = [rows[place] for place in kept]
            mask_BS = np.pad(mask_BS[kept], ((0, 0), (0, 1)), constant_values=1)
            position_B1 = mask_BS.sum(1, keepdims=True) - 1
            past = [each[kept] for each in past]
            logits_BTV, past = self.step(token_B[kept, None], mask_BS, position_B1, *past)
        for row, stream in enumerate(streams):
            on_text(row, stream.end())
        texts = (stream.text for stream in streams)
        return [Text(*parts) for parts in zip(texts, ids, ends, strict=True)]

    def label_log_probs(self, prompt: Sequence[int]) -> list[float]:
        """Return the log-probabilities of yes, no and maybe, normalised over these three."""
        logits_1TV, mask_1T, past = self.prefill([prompt])
        labels, scores = label_ids(self.tokenizer), []
        for label in labels:
            # A log-probability but for a constant that all labels share and that drops out below.
            score = float(logits_1TV[0, -1, label[0]])
            if len(label) > 1:  # a label of several tokens: append all but its last
                ids_1S = np.array([label[:-1]], dtype=np.int64)
                mask_1S = np.pad(mask_1T, ((0, 0), (0, ids_1S.shape[1])), constant_values=1)
                position_1S = np.arange(len(prompt), mask_1S.shape[1])[None]
                logits_1SV, _ = self.step(ids_1S, mask_1S, position_1S, *past)
                logits_SV = logits_1SV[0].astype(np.float64)
                chosen_S = logits_SV[np.arange(len(logits_SV)), label[1:]]
                score += float((chosen_S - np.logaddexp.reduce(logits_SV, axis=-1)).sum())
            scores.append(score)
        return (scores - np.logaddexp.reduce(scores)).tolist()  # type: ignore[no-any-return]

    def label_scores(self, record: Record) -> LabelScores:
        """Score yes, no and maybe; the prompt may fill the context except for the label."""
        longest = max(map(len, label_ids(self.tokenizer)))
        prompt = self._ask("answer", record, longest=longest).prompt
        log_probs = tuple(self.label_log_probs(prompt.ids))
        return LabelScores(record.id, record.decision, log_probs, prompt.trimmed_tokens)

    def _ask(self, task: str, record: Record, *, longest: int) -> Question:
        form = self.tasks.form if self.tasks else DocumentForm()
        return ask_task(
            task, record, self.tokenizer, context=self.context, longest=longest, form=form
        )

    def do(
        self,
        task: str,
        records: Sequence[Record],
        *,
        max_new_tokens: int | None = None,
        on_text: OnText = lambda n, text: None,
    ) -> list[ReplyJson]:
        """Apply a task to several records at once; return a reply to each, with its warnings."""
        longest = max_new_tokens or min(TASK_TABLE[task].longest_reply, self.context // 2)
        questions = [self._ask(task, record, longest=longest) for record in records]
        for question in questions:
            if len(question.plan.prompts) > 1:
                raise DataError(
                    "this model writes documents section by section, from several prompts; name "
                    'one section in the record, such as "heading": '
                    f"{json.dumps(question.plan.headings[0])}, and shorten a text that does not "
                    "fit, or use sample.py, which writes all sections of long texts"
                )
        prompts = [question.prompt.ids for question in questions]
        judgements = [
            self.label_scores(record).judge(self.calibration, ids) if task == "answer" else None
            for record, ids in zip(records, prompts, strict=True)
        ]
        texts = self.generate(
            prompts,
            max_new_tokens=min((one.plan.longest for one in questions), default=longest),
            on_text=on_text,
        )
        replies = []
        for record, question, judgement, text in zip(
            records, questions, judgements, texts, strict=True
        ):
            reply = reply_json(
                question,
                text=text.text,
                finish_reason=text.finish_reason,
                new_tokens=len(text.ids),
                judgement=judgement,
            )
            reply["warnings"] = warnings_json(text.text, record, task, self.terms)
            replies.append(reply)
        return replies


def open_session(path: Path, threads: int = 0) -> Any:
    """Open an onnxruntime session on the CPU; raise CheckpointError if the file is unreadable."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base class
        raise CheckpointError(f"{path} cannot be opened: {error}") from error


# The command


def main() -> None:
    cfg = parse_flags()
    runner = Runner(cfg.model, int8=cfg.int8, threads=cfg.threads)
    if cfg.prompt is not None:
        ids = runner.tokenizer.encode(cfg.prompt) or [runner.tokenizer.eot]
        longest = cfg.max_new_tokens or 200
        runner.check_room(ids, longest)
        console.say(cfg.prompt, end="")
        runner.generate(
            [ids], max_new_tokens=longest, on_text=lambda _, text: console.say(text, end="")
        )
        console.say("")
        return
    assert cfg.task is not None and cfg.input is not None, "RunnerConfig checks this"
    if note := runner.tasks and runner.tasks.note(cfg.task):
        console.note(note)
    records = list(iter_records(cfg.input))
    for start in range(0, len(records), cfg.batch_size):
        batch = records[start : start + cfg.batch_size]
        for reply in runner.do(cfg.task, batch, max_new_tokens=cfg.max_new_tokens):
            console.say(json.dumps(reply, ensure_ascii=False))


def iter_records(path: Path) -> Iterator[Record]:
    """Yield the records of a .json or .jsonl file; raise DataError naming a malformed line."""
    is_many = path.suffix == ".jsonl"
    for number, line in iter_lines(path, None) if is_many else [(1, path.read_bytes())]:
        try:
            fields = json.loads(line.decode("utf-8-sig"))
            yield from_json(fields, default_id=f"{path.name}:{number}")
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path.name}:{number}: {error}") from None


if __name__ == "__main__":
    console.run(main, requirements=REQUIREMENTS)
