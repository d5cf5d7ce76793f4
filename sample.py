"""Prompt a checkpoint in the terminal, or answer a file of questions.

    python sample.py  # prompt the best checkpoint of the newest run
    python sample.py --prompt="Aspirin in the elderly" --temperature=0.8
    python sample.py --task=answer --input=note.json  # question and text
    python sample.py --task=explain --input=question.json  # text is optional
    python sample.py --task=summarize --input=notes.jsonl --output=replies.jsonl
    echo "Metformin is" | python sample.py --checkpoint=gpt2 --logprobs

A record is a JSON object with "question" and "text"; "sections": [["RESULTS", "…"], …] can replace
"text", and "heading" asks for one section of a document. A .jsonl file contains one record per line
or, without --task, one {"prompt": "…"} per line. With --output, the lines of a file are answered in
order, and the same command resumes after an interruption. Replies go to standard output, everything
else to standard error.

Not intended to inform diagnosis, treatment or patient management.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from clingpt.base import console
from clingpt.base import settings as config
from clingpt.base.errors import ConfigError, DataError
from clingpt.base.files import one_writer, read_text


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    # --- model ---
    # Checkpoint or run folder, gpt2 to gpt2-xl, or a Hugging Face Hub id; None is the best
    # checkpoint of the newest run in out/.
    checkpoint: str | None = None
    # PEFT adapter (LoRA) to merge into the checkpoint, a folder or a Hub id. An adapter that names
    # its base can also be passed as --checkpoint.
    adapter: str | None = None

    # --- input ---
    prompt: str | None = None  # text to continue
    prompt_file: Path | None = None  # file with the text to continue
    # What to do with the record in --input, such as answer or summarize; None continues a prompt.
    task: str | None = None
    # With --task, a record (.json) or several (.jsonl); without, a .jsonl file of prompts.
    input: Path | None = None
    # Lines of a .jsonl file to read, from its start; None is one, or all with --output.
    limit: int | None = None

    # --- sampling ---
    samples: int = 1  # replies per prompt, with seeds counting up from --seed
    max_new_tokens: int = 200  # longest reply, in tokens
    temperature: float = 0.0  # 0 always takes the most probable token (greedy decoding)
    top_k: int | None = None  # sample among the k most probable tokens; None: among all
    # Sample among the fewest tokens whose probabilities add up to this; 1: among all.
    top_p: float = 1.0
    # Sample among tokens with at least this share of the highest probability; 0: among all.
    min_p: float = 0.0
    repetition_penalty: float = 1.0  # values above 1 penalise tokens that already occurred
    no_repeat_ngram: int | None = None  # never repeat a run of this many tokens; None: off
    stop: tuple[str, ...] = ()  # strings that end a reply; \n stands for a line break
    seed: int = 1337  # seed for sampling at temperatures above 0

    # --- output ---
    output: Path | None = None  # .jsonl file to write, with one reply per line of --input
    json: bool = False  # print replies as JSON, one per line
    # Mark uncertain words: red below a probability of 50%, yellow below 90%; [[…]] in files.
    logprobs: bool = False

    # --- hardware ---
    batch_size: int = 8  # replies decoded at once, with --output
    device: str = "auto"  # auto, cpu, cuda, cuda:1 or mps
    # Precision of matrix products.
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    # Precision in which weights are kept. 16 bits halve their memory, and are then multiplied in
    # that precision, too.
    weights: Literal["float32", "bfloat16", "float16"] = "float32"
    # int8 stores weights in 8 bits: on a CPU, at least twice as fast.
    quantize: Literal["none", "int8"] = "none"

    def __post_init__(self) -> None:
        # Imported here because these checks run before the imports below the class.
        from clingpt.text.tasks import PROMPTED

        config.check_range(self, "limit", "samples", "batch_size", at_least=1)
        names = ", ".join(PROMPTED)
        config.check(
            self.task is None or self.task in PROMPTED,
            f"unknown task {self.task!r}; choose from {names}",
        )
        config.check(len(self.given) < 2, f"pass one of --{' and --'.join(self.given)}, not both")
        is_file = self.input is not None and self.input.suffix == ".jsonl"
        config.check(
            self.task is not None or self.input is None or is_file,
            f"--input is a record and needs --task, one of {names}",
        )
        config.check(
            self.task is None or self.given in ([], ["input"]),
            "--task takes a record: pass --input=record.json instead of a prompt",
        )
        config.check(
            self.output is None or (is_file and self.samples == 1),
            "--output writes one reply per line of a .jsonl file: pass --input=FILE.jsonl",
        )

    @property
    def given(self) -> list[str]:
        """The flags that set a prompt or record; an empty --prompt= counts and starts a text."""
        names = ("prompt", "prompt_file", "input")
        return [name for name in names if getattr(self, name) is not None]

    def sampling(self) -> "Sampling":
        """Sampling settings of the first reply; later ones count up the seed."""
        return Sampling(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            no_repeat_ngram=self.no_repeat_ngram,
            stop=tuple(map(line_breaks, self.stop)),
            seed=self.seed,
            log_probs=0 if self.logprobs else None,
        )


def parse_flags() -> SampleConfig:
    return config.parse(SampleConfig, sys.argv[1:], prog="sample.py", description=__doc__ or "")


if __name__ == "__main__":
    # Answer --help and refuse mistaken flags before the imports below, which take seconds.
    console.run(parse_flags)

from clingpt.data.prepared import TrainedTasks, listed, trained_tasks
from clingpt.decoding.batch_files import Line, answer_file, iter_lines, json_line
from clingpt.decoding.decoders import make_decoder
from clingpt.decoding.engine import Completion, Reply, generate
from clingpt.decoding.repl import (
    Asked,
    Repl,
    line_breaks,
    parse_record,
    shortened,
    shortened_before_reply,
)
from clingpt.decoding.replies import Question, ReplyJson, ask_task, ask_to_continue, reply_json
from clingpt.decoding.sampling import Sampling
from clingpt.evaluation.calibration import Calibration, LabelScores, shown_probability
from clingpt.evaluation.scorer import Scorer, score_labels
from clingpt.evaluation.terms import find_warnings, learned_terms, warnings_json
from clingpt.nn import runtime
from clingpt.nn.checkpoint import load_to_use, newest_best
from clingpt.text.documents import DocumentForm
from clingpt.text.records import LABELS, UNNAMED, Record, from_json
from clingpt.text.tasks import TASK_TABLE

LINES_AT_ONCE = 4  # lines per row of a batch, so that short replies make room for others
NOT_A_SETTING = ("output", "limit", "batch_size", "device")  # do not change replies


@dataclass(frozen=True)
class Session:
    """The loaded model and the settings that it replies with."""

    cfg: SampleConfig
    scorer: Scorer
    calibration: Calibration | None  # fitted by eval.py; None if it has not been run
    terms: frozenset[str] = frozenset()  # learned from the training texts by eval.py
    is_interactive: bool = False  # an interactive session, which need not repeat long prompts


class TaskNotes:
    """Says once for each task if the model was not trained on it."""

    def __init__(self, known: TrainedTasks | None) -> None:
        self._known, self._noted = known, set[str | None]()

    def on_task(self, task: str | None) -> None:
        """Print the note on a task that is about to be used, or the model's tasks for None."""
        if self._known is None or task in self._noted:
            return
        self._noted.add(task)
        note = self._known.note(task) if task is not None else None
        if task is None and (tasks := self._known.latest):
            note = f"This model was trained to {listed(tasks)}; try /task {tasks[0]}"
        if note:
            console.note(note)


def main() -> None:
    cfg = parse_flags()
    cfg.sampling()  # reject impossible settings before the model is loaded
    with one_writer(cfg.output, flag="--output") if cfg.output else nullcontext():
        reply(cfg)


def reply(cfg: SampleConfig) -> None:
    """Load the model, and reply to a file, to a user at the terminal, or to the given prompts."""
    rt = runtime.start(device=cfg.device, dtype=cfg.dtype, weights=cfg.weights)
    checkpoint = cfg.checkpoint or newest_best(Path("out"))
    loaded = load_to_use(checkpoint, adapter=cfg.adapter, dtype=rt.weights)
    model = loaded.model.to(rt.device).eval()
    decoder = make_decoder(model, rt, quantize=cfg.quantize)
    precision = cfg.quantize if cfg.quantize != "none" else str(rt.dtype).removeprefix("torch.")
    console.note(f"model: {checkpoint} on {rt.name()}, {precision}")
    tasks = trained_tasks(loaded.card, checkpoint)
    form = tasks.form if tasks else DocumentForm()
    scorer = Scorer(model, decoder, loaded.tokenizer, rt, cfg.batch_size, form)
    # A file of questions, an interactive session, or the prompts given by flags or a pipe.
    is_interactive = cfg.output is None and not cfg.given and sys.stdin.isatty()
    calibration, terms = Calibration.load(loaded.folder), learned_terms(loaded.folder)
    session = Session(cfg, scorer, calibration, terms, is_interactive)
    task_notes = TaskNotes(tasks)
    check_room(scorer, cfg.sampling())  # fail before reading a prompt if none can fit

    if is_interactive:
        repl = Repl(
            lambda *asked: reply_to(session, *asked), cfg.sampling(), cfg.task, task_notes.on_task
        )
        repl.run()
        return
    if cfg.task is not None:
        task_notes.on_task(cfg.task)
    if cfg.output is not None:
        write_file(session, loaded.folder)
    else:
        for asked in iter_asked(cfg):
            reply_to(session, cfg.task, asked, cfg.sampling())


def iter_asked(cfg: SampleConfig) -> Iterator[Asked]:
    """Yield the prompts or records given by flags or on standard input."""
    if cfg.input is not None and cfg.input.suffix == ".jsonl":
        for number, line in iter_lines(cfg.input, cfg.limit or 1):
            yield parse_line(line, f"{cfg.input.name}:{number}", cfg)[1]
    elif cfg.prompt is not None:
        yield cfg.prompt
    else:
        path = cfg.prompt_file or cfg.input
        text = read_text(path)
        yield parse_record(text, str(path or "standard input")) if cfg.task else text


def parse_line(line: bytes, place: str, cfg: SampleConfig) -> tuple[str, Asked]:
    """Parse a line of a .jsonl file into an id and a record or, without a task, a prompt.

    The id is `place` (file:line) if the line has none. Raises DataError for a malformed line.
    """
    try:
        fields = json.loads(line.decode("utf-8-sig"))
        if cfg.task is not None:
            record = from_json(fields, default_id=place)
            return record.id, record
        if not isinstance(fields, dict) or not isinstance(fields.get("prompt"), str):
            raise DataError('without --task every line must be {"prompt": "…"}')
    except (ValueError, RecursionError) as error:  # a bad record, malformed JSON, deep nesting
        raise DataError(f"{place}: {error}") from None
    return str(fields.get("id", place)), fields["prompt"]


# ------------------------------------------------------------------------------------------------
# Generating a reply


def ask(
    scorer: Scorer, task: str | None, asked: Asked, sampling: Sampling, name: str = "input"
) -> Question:
    """Tokenize a prompt or a record, trimmed so that the longest reply still fits."""
    check_room(scorer, sampling)
    room: Any = {"context": scorer.context, "longest": sampling.max_new_tokens}
    if isinstance(asked, Record):
        return ask_task(task or "answer", asked, scorer.tokenizer, form=scorer.form, **room)
    return ask_to_continue(asked, scorer.tokenizer, name=name, **room)


def check_room(scorer: Scorer, sampling: Sampling) -> None:
    """Raise ConfigError if the longest reply leaves no room for a prompt before it."""
    if sampling.max_new_tokens >= scorer.context:
        raise ConfigError(
            f"max_new_tokens {sampling.max_new_tokens} leaves no room for a prompt in a context of "
            f"{scorer.context}; lower it"
        )


def label_scores(scorer: Scorer, questions: Sequence[Question]) -> list[LabelScores | None]:
    """Score yes, no and maybe for each question of the task answer; None for any other."""
    records = [q.record for q in questions if q.record is not None and q.task == "answer"]
    found = iter(score_labels(scorer, records) if records else ())
    return [next(found) if q.task == "answer" else None for q in questions]


def answer(
    scorer: Scorer,
    question: Question,
    sampling: Sampling,
    on_reply: Callable[[Reply], None] | None = None,
) -> Completion:
    """Generate one reply; `on_reply` is called after each of its tokens.

    A document in sections has many prompts, which are answered together; `on_reply` is not called.
    """
    plan = question.plan
    on_any = None
    if on_reply and not plan.headings:
        on_any = lambda _, reply: on_reply(reply)  # noqa: E731
    with scorer.rt.autocast():
        completions = generate(
            scorer.decoder,
            scorer.tokenizer,
            [prompt.ids for prompt in plan.prompts],
            replace(sampling, max_new_tokens=plan.longest),
            context=scorer.context,
            rows=scorer.batch_size,
            on_reply=on_any,
        )
    return joined(question, completions)


def joined(question: Question, completions: Sequence[Completion]) -> Completion:
    """Join the replies to the prompts of a question."""
    if not question.plan.headings:
        return completions[0]
    is_cut = any(one.finish_reason == "length" for one in completions)
    return Completion(
        ids=[token for one in completions for token in one.ids],
        text=question.plan.join([one.text for one in completions]),
        finish_reason="length" if is_cut else "stop",
        log_probs=[each for one in completions for each in one.log_probs],
    )


def to_json(
    session: Session,
    question: Question,
    completion: Completion,
    sampling: Sampling,
    scores: LabelScores | None,
) -> ReplyJson:
    """Return a reply as one JSON object (docs/formats.md)."""
    fields = reply_json(
        question,
        text=completion.text,
        finish_reason=completion.finish_reason,
        new_tokens=len(completion.ids),
        judgement=scores.judge(session.calibration, question.prompt.ids) if scores else None,
        seed=sampling.seed,
        stopped_by=completion.stopped_by,
    )
    if question.record is not None and question.task is not None:
        fields["warnings"] = warnings_json(
            completion.text, question.record, question.task, session.terms
        )
    if sampling.log_probs is not None:
        decode = session.scorer.tokenizer.decode
        fields["log_probs"] = [
            {
                "token": decode([one.token]),
                "log_prob": round(one.log_prob, 4),
                "top": {decode([token]): round(value, 4) for token, value in one.top},
            }
            for one in completion.log_probs
        ]
    return fields


# ------------------------------------------------------------------------------------------------
# Replies on the terminal


def reply_to(session: Session, task: str | None, asked: Asked, sampling: Sampling) -> None:
    """Print `samples` replies as they are generated, after the label probabilities of an answer."""
    cfg, scorer = session.cfg, session.scorer
    question = ask(scorer, task, asked, sampling)
    scores = label_scores(scorer, [question])[0]
    introduce(question, scores, session.calibration)
    repeated = asked if isinstance(asked, str) else ""
    if session.is_interactive and sys.stdout.isatty():
        repeated = shortened_before_reply(repeated)
    for n in range(cfg.samples):
        chosen = replace(sampling, seed=sampling.seed + n)
        if cfg.json:
            completion = answer(scorer, question, chosen)
            console.say(json_line(to_json(session, question, completion, chosen, scores)))
            continue
        console.say(repeated, end="")
        completion = answer(scorer, question, chosen, show_piece)
        console.say(completion.text if question.plan.headings else "")
        if completion.finish_reason == "length":
            what = "a section was " if question.plan.headings else ""
            console.note(f"({what}stopped after {question.plan.longest} tokens: max_new_tokens)")
        warn(session, question, completion.text)
    # The conclusion is the reference of the tasks that write it.
    record = question.record
    if record and record.long_answer and question.task and TASK_TABLE[question.task].concludes:
        label = f"{record.decision}: " if record.decision and task == "answer" else ""
        console.note(f"(reference: {label}{record.long_answer})")


def introduce(
    question: Question, scores: LabelScores | None, calibration: Calibration | None
) -> None:
    """Print the question, how many tokens were trimmed, and the probability of each label."""
    if question.record is not None:
        name = "" if question.id == UNNAMED else question.id
        asked = shortened(question.record.question, 200)
        console.note("\n" + ": ".join(filter(None, (name, asked))))
    if n_trimmed := question.prompt.trimmed_tokens:
        what = "of the context" if question.record is not None else "at the start of the prompt"
        console.note(f"{console.count(n_trimmed, 'token')} {what} did not fit and were left out")
    if scores is not None:
        judgement = scores.judge(calibration, question.prompt.ids)
        found = judgement["probabilities"]
        shares = ", ".join(f"{label} {shown_probability(found[label])}" for label in LABELS)
        console.note(f"probabilities: {shares}")
        if judgement["calibration_note"]:
            console.note(judgement["calibration_note"])
        if judgement["unlike_training"]:
            console.note("unlike the training data: accuracy on such inputs was not measured")
        if calibration is not None and judgement["abstained"]:
            console.note(
                "too unsure to answer: no label reaches "
                f"{shown_probability(calibration.threshold)}, the threshold that eval.py chose on "
                f"{console.count(calibration.fitted_on.records, 'validation record')}"
            )


def warn(session: Session, question: Question, text: str) -> None:
    """Print what the reply's source does not support, one line each; terms share a line."""
    if question.record is None or question.task is None:
        return
    flags = find_warnings(text, question.record, question.task, session.terms) or []
    for flag in flags:
        if flag.kind != "term":
            console.note(f"check the {flag.kind} “{flag.text}”: {flag.message}")
    if terms := dict.fromkeys(flag.text for flag in flags if flag.kind == "term"):
        console.note(f"terms that are not in the report or the question: {', '.join(terms)}")


def show_piece(reply: Reply) -> None:
    """Print the text that the latest token added, marked if the model was unsure of it."""
    if reply.log_probs and reply.new_text:
        shaded = console.shade(
            reply.new_text,
            log_prob=reply.log_probs[-1].log_prob,
            colour=console.colour_enabled(sys.stdout),
        )
        console.say(shaded, end="", styled=True)
    else:
        console.say(reply.new_text, end="")


# ------------------------------------------------------------------------------------------------
# Replies in a file


def write_file(session: Session, checkpoint: Path) -> None:
    """Answer the lines of --input into --output."""
    cfg = session.cfg
    source, target = cfg.input, cfg.output
    assert source is not None and target is not None, "checked by SampleConfig"
    settings = {k: v for k, v in config.to_json(cfg).items() if k not in NOT_A_SETTING}
    # Record what `best` and `auto` resolve to: either may change before the run is resumed.
    settings |= {"checkpoint": str(checkpoint.resolve()), "dtype": str(session.scorer.rt.dtype)[6:]}
    left = f"replies so far are in {target}; run the same command to continue"
    with console.on_interrupt(lambda: left):
        n_replies, n_failed = answer_file(
            source,
            target,
            lambda lines: answer_lines(session, lines),
            settings=settings,
            limit=cfg.limit,
            at_once=cfg.batch_size * LINES_AT_ONCE,
        )
    console.say(
        f"Wrote {target}: {console.count(n_replies, 'reply', 'replies')}, in the order of {source}."
    )
    if n_failed:
        console.note(
            f"lines without an answer: {n_failed}; the `error` field of each reply says why."
        )


def answer_lines(session: Session, lines: Sequence[Line]) -> list[Mapping[str, Any]]:
    """Return a reply to each line, or an object with the reason why there is none.

    The seed of a reply is --seed plus its line number, so that it does not depend on the batch
    that a resumed run starts with.
    """
    cfg, scorer = session.cfg, session.scorer
    sampling, found = cfg.sampling(), dict[int, Mapping[str, Any]]()
    questions: dict[int, Question] = {}
    for number, line in lines:
        place = f"{cfg.input.name if cfg.input else ''}:{number}"
        try:
            place, asked = parse_line(line, place, cfg)
            questions[number] = ask(scorer, cfg.task, asked, sampling, place)
        except DataError as error:
            found[number] = {"id": place, "error": str(error)}
    scores = label_scores(scorer, list(questions.values()))
    with scorer.rt.autocast():
        completions = generate(
            scorer.decoder,
            scorer.tokenizer,
            [prompt.ids for question in questions.values() for prompt in question.plan.prompts],
            # The same for all lines: they have the same task.
            replace(
                sampling,
                max_new_tokens=min((q.plan.longest for q in questions.values()), default=1),
            ),
            context=scorer.context,
            rows=cfg.batch_size,
            seeds=[
                sampling.seed + number
                for number, question in questions.items()
                for _ in question.plan.prompts
            ],
        )
    replies = iter(completions)
    for (number, question), score in zip(questions.items(), scores, strict=True):
        completion = joined(question, list(islice(replies, len(question.plan.prompts))))
        chosen = replace(sampling, seed=sampling.seed + number)
        found[number] = to_json(session, question, completion, chosen, score)
    return [found[number] for number, _ in lines]


if __name__ == "__main__":
    console.run(main)
