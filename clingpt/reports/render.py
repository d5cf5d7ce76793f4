"""report.html and the model card (a checkpoint's README.md), rendered from templates/ by Jinja2.

Records and model outputs can contain anything, so no string reaches a file as markup: one
environment escapes every value for HTML, the other for Markdown. report.html has no script and
loads nothing, and its Content-Security-Policy makes the browser enforce this. The metadata of the
card follows modelcard.md of huggingface/hub-docs. Folders appear in the card by name, without a
path.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from clingpt.base import console
from clingpt.base.files import write_json, write_whole
from clingpt.data.prepared import DONE, identifiers_found, searched_with
from clingpt.evaluation import calibration
from clingpt.nn.checkpoint import HUB_ID, run_name
from clingpt.reports import DISCLAIMER, audit, plots
from clingpt.reports.report import (
    MODEL,
    N_EXAMPLES,
    RARE,
    DataSource,
    Report,
    ShownExample,
    TextSection,
)
from clingpt.reports.tables import (
    LABEL_FIGURES,
    ROUGE_FIGURES,
    TEXT_FIGURES,
    System,
    Table,
    as_markdown,
    below_best,
    best_baseline,
    between,
    fixed,
    percent,
    plain,
    sentence,
    tables,
)
from clingpt.text.records import Record
from clingpt.text.tasks import TASK_TABLE, prompt_text
from model import SIZES

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

PLOTS = (
    (plots.reliability, "Accuracy of the labels by their probability."),
    (
        plots.risk_coverage,
        "Error rate among the most confident records, if the others are left unanswered.",
    ),
    (plots.confusion, "Predictions for each gold label: records, and percent of the row."),
    (plots.curve, "Losses of the run up to this checkpoint; the training loss is smoothed."),
)
SECTIONS = ("labels", "calibration", "perplexity", "texts", "int8")
AUDIT = "audit.md"  # next to the weights: the section of the card that audit.py writes
AUDIT_SECTION = re.compile(
    rf"^{re.escape(audit.HEADING)}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE
)


def write_report(folder: Path, report: Report) -> None:
    """Write a report as report.json, report.md and report.html."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "report.json", report.to_json())
    write_whole(folder / "report.md", as_markdown(tables(report)))
    write_whole(folder / "report.html", page(report))


@cache
def _environment(*, html: bool) -> Environment:
    """Return templates in which every value is escaped, except values that are already Markup."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=html,
        # Applied to every value before it is printed. HTML escaping, by autoescape, comes after.
        finalize=lambda value: (
            value if isinstance(value, Markup) else (console.visible if html else plain)(str(value))
        ),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )


# report.html


class Tile(NamedTuple):
    """One headline figure, and what to compare it with."""

    name: str
    value: str
    note: str


def page(report: Report) -> str:
    """Render report.html; the same report always produces the same bytes."""
    drawn = [(draw(report), caption) for draw, caption in PLOTS]
    settings = [
        Table(title, ["name", "value"], [[key, _setting(one)] for key, one in values.items()])
        for title, values in (("Settings", report.settings), ("Versions", report.versions))
        if values
    ]
    return (
        _environment(html=True)
        .get_template("report.html")
        .render(
            report=report,
            disclaimer=DISCLAIMER,
            facts=list(_facts(report)),
            tiles=list(_tiles(report)),
            plots=[(Markup(svg), caption) for svg, caption in drawn if svg],
            tables=tables(report),
            examples=[_example(example) for example in report.examples[:N_EXAMPLES]],
            settings=settings,
            percent=calibration.shown_probability,
        )
    )


def _setting(value: object) -> str:
    listed = value if isinstance(value, list) else [value]
    return ", ".join("–" if one is None else str(one) for one in listed)


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    """Yield what was evaluated, for the head of the page."""
    if report.step is not None:
        yield "Step", console.count(report.step)
    yield "Parameters", console.count(report.parameters)
    yield "Data", report.data.name
    yield "Folder", f"{report.data.folder}, fingerprint {report.data.fingerprint[:12]}"
    yield "Split", report.split
    yield "Setting", report.setting
    if report.look is not None:
        yield "Evaluations on the test split", f"{report.look} so far in this run"


def _tiles(report: Report) -> Iterator[Tile]:
    """Yield the headline figures."""
    if report.labels:
        systems, model = report.labels.systems, report.labels.model
        on = f"on {report.data.some(model.n)}"
        intervals = (model.accuracy_interval, model.macro_f1_interval)
        for (name, figure), interval in zip(LABEL_FIGURES.items(), intervals, strict=True):
            note = f"{on}; 95 % CI {between(interval, 100)}"
            note += compared(systems, figure, 100)
            yield Tile(sentence(name), f"{percent(figure(model))} %", note)
    if found := report.calibration:
        on = f"on {report.data.some(found.records)}"
        raw = fixed(found.raw.ece, 3)
        before = f"{on}; {found.note or f'before calibration {raw}'}"
        if found.note and found.temperature > 1:
            before += f", so only flattened; before that {raw}"
        yield Tile("Calibration error (ECE)", fixed(found.calibrated.ece, 3), before)
        right = f"{on}; accuracy of these answers {percent(found.accuracy_kept)} %"
        yield Tile("Answered at the threshold", f"{percent(1 - found.abstained)} %", right)
    for task, section in report.texts.items():
        yield from _text_tiles(task, section, report.data)
    for name, entry in report.perplexity.items():
        note = "" if entry.records is None else f"on {report.data.some(entry.records)}; "
        note += f"perplexity {fixed(entry.text.token_perplexity, 2)} per token"
        if entry.trained is False:
            note += "; the model was not trained to write such text"
        yield Tile(f"{name}: bits per byte", fixed(entry.text.bits_per_byte, 4), note)


def compared(
    systems: Mapping[str, System], figure: Callable[[System], float | None], scale: float = 1
) -> str:
    """Name the best baseline at the end of a tile's note."""
    if (best := best_baseline(systems, figure)) is None:
        return ""
    name, value = best
    unit = " %" if scale == 100 else ""
    below = "below the " if below_best(systems, {"": figure}, scale) else ""
    return f"; {below}best baseline {fixed(value, 1, scale)}{unit} ({name})"


def _text_tiles(task: str, section: TextSection, data: DataSource) -> Iterator[Tile]:
    on = f"on {data.some(section.model.texts)}"
    rouge_l = TEXT_FIGURES["RL"]
    if (own := rouge_l(section.model)) is not None:
        note = f"{on}; 95 % CI {between(section.model.rougeL_interval)}"
        yield Tile(f"{task}: ROUGE-L", fixed(own), note + compared(section.systems, rouge_l))
    if rare := section.by_reference.get(RARE):
        note = f"on {data.some(rare.records)}" + compared(rare.rouge, ROUGE_FIGURES["RL"])
        yield Tile(f"{task}: ROUGE-L, rare references", fixed(rare.rouge[MODEL].rougeL), note)
    reference = next(iter(section.systems.values()))
    for name, model, other in (
        (
            "unsupported numbers, units, comparators or negations",
            section.model.unsupported,
            reference.unsupported,
        ),
        ("unsupported terms", section.model.unsupported_terms, reference.unsupported_terms),
    ):
        if model:
            note = f"of {console.count(model.texts, 'text')}; of the references "
            note += f"{percent(other.flagged if other else None)} %"
            yield Tile(f"{task}: {name}", f"{percent(model.flagged)} %", note)


def _example(example: ShownExample) -> dict[str, Any]:
    return {
        "task": example.task,
        "id": example.id,
        "status": "; ".join(_status(example)),
        "prompt": example.prompt,
        "reference": example.reference,
        "pieces": marked_pieces(example),
        "flagged": "; ".join(f"{flag.kind} “{flag.text}”" for flag in example.flags),
        "probabilities": example.probabilities,
    }


def _status(example: ShownExample) -> Iterator[str]:
    """Yield the remarks on an example: its label, and how its text ended."""
    if example.label is not None:
        verdict = "correct" if example.label == example.gold else f"wrong, gold is {example.gold}"
        yield f"predicted {example.label}" + (f" ({verdict})" if example.gold is not None else "")
    if example.abstained:
        yield "below the threshold, so the label is withheld"
    if example.unlike_training:
        yield "unlike the training data"
    if example.finish_reason == "length":
        yield "stopped at the length limit"
    if not example.compared:
        yield "no context to compare the output with"
    if example.trimmed_tokens:
        yield f"prompt trimmed by {console.count(example.trimmed_tokens, 'token')}"


def marked_pieces(example: ShownExample) -> list[tuple[str, str]]:
    """Cut an output at the borders of its flags; return each piece with the flags that cover it.

    Flags can overlap, so that a piece may carry several kinds; they are joined by commas.
    """
    output, flags = example.output, example.flags
    borders = sorted({0, len(output), *(place for f in flags for place in (f.start, f.end))})
    return [
        (output[a:b], ", ".join(flag.kind for flag in flags if flag.start <= a and b <= flag.end))
        for a, b in zip(borders, borders[1:], strict=False)
    ]


# The model card


def model_card(
    report: Report,
    *,
    base: str | None,
    tasks: Sequence[str],
    receipts: Sequence[Mapping[str, Any]] = (),
    lora_rank: int = 0,
    license: str | None = None,  # noqa: A002  the Hub's word
) -> str:
    """Render the README.md of a checkpoint from a report and the facts of its training.

    `base` is what training started from: gpt2, a Hub id or another run; scratch or None means
    random weights. No task means plain text. `receipts` are the hygiene receipts of all data that
    the model was trained on. `lora_rank` is 0 if all weights were trained. `license` is a Hub
    identifier such as mit; None leaves it out.
    """
    from huggingface_hub import ModelCardData

    tasks = tasks or ["text"]
    hub_id = f"openai-community/{base}" if base in SIZES else base or ""
    is_hub = HUB_ID.fullmatch(hub_id) is not None
    start = "random weights" if base in (None, "scratch") else f"the run {run_name(hub_id)}"
    start = hub_id if is_hub else start
    start += f", with LoRA of rank {lora_rank} merged into the weights" if lora_rank else ""
    name = console.safe_line(run_name(report.checkpoint))
    results = list(_results(report))
    metadata = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        language="en",
        tags=["clingpt", "gpt2", "medical"],
        license=console.safe_line(license) if license else None,
        base_model=hub_id if is_hub else None,
        model_name=name if results else None,
        eval_results=results or None,
    )
    task = next((one for one in tasks if one != "text"), None)
    record = Record(id="", question="QUESTION", sections=(("RESULTS", "TEXT"),))
    flags = f"--task={task} --input=record.json" if task else '--prompt="TEXT"'
    return (
        _environment(html=False)
        .get_template("model_card.md")
        .render(
            metadata=Markup(metadata.to_yaml().strip()),
            name=name,
            parameters=console.count(report.parameters),
            start=start,
            skills="; it ".join(TASK_TABLE[one].skill for one in tasks),
            disclaimer=DISCLAIMER,
            report=report,
            folder=Path(report.data.folder).name,
            receipts=receipts,
            identifiers=console.count(sum(map(identifiers_found, receipts))),
            done="; ".join(dict.fromkeys(DONE[each["done"]] for each in receipts)),
            searched="; ".join(dict.fromkeys(map(searched_with, receipts))),
            # A comparison with other checkpoints does not describe this one.
            tables=Markup(as_markdown(tables(replace(report, comparison=None)))),
            limits=list(_limits(report)),
            prompt=Markup(json.dumps(prompt_text(task, record) if task else "TEXT")),
            flags=Markup(flags),
            is_task=task is not None,
        )
    )


def with_audit(card: str, folder: Path) -> str:
    """Insert the section that audit.py left next to the weights, replacing an older one."""
    if not (folder / AUDIT).exists():
        return card
    section = (folder / AUDIT).read_text("utf-8").strip()
    before, limits, after = AUDIT_SECTION.sub("", card).partition("## Limits\n")
    return f"{before.rstrip()}\n\n{section}\n\n{limits}{after}"


def _results(report: Report) -> Iterator["EvalResult"]:
    """Yield each finite figure in the form of the Hub's metadata."""
    from huggingface_hub import EvalResult

    for (kind, task, records), metric, value, name in _figures(report):
        if math.isfinite(value):
            yield EvalResult(
                task_type=kind,
                task_name=task,
                dataset_name=console.safe_line(report.data.some(records)),
                dataset_type=re.sub(r"[^\w.-]+", "-", Path(report.data.folder).name) or "data",
                # The Hub merges results of the same type, configuration and split into one task.
                dataset_config=console.safe_line(task),
                dataset_split=console.safe_line(report.split),
                dataset_args={
                    "fingerprint": console.safe_line(report.data.fingerprint),
                    "setting": console.safe_line(report.setting),
                },
                metric_type=metric,
                metric_name=name,
                metric_value=round(value, 4),
            )


def _figures(report: Report) -> Iterator[tuple[tuple[str, str, int], str, float, str]]:
    """Yield what was measured on how many records, the Hub's metric, its value, and our name.

    What was measured: the Hub's task name and ours.
    """
    if report.labels:
        model = report.labels.model
        about = "question-answering", "yes / no / maybe", model.n
        yield about, "accuracy", model.accuracy, "accuracy, 0 to 1"
        yield about, "f1", model.macro_f1, "macro-F1, 0 to 1"
        if found := report.calibration:
            of = " of uncalibrated probabilities" if found.note else ""
            if found.note and found.temperature > 1:
                of = " of flattened, uncalibrated probabilities"
            yield about, "ece", found.calibrated.ece, f"calibration error{of}, 0 to 1"
    for task, section in report.texts.items():
        kind = "summarization" if task == "summarize" else "text-generation"
        about = kind, task, section.model.texts
        if rouge := section.model.rouge:
            yield about, "rouge", rouge.rouge1, "ROUGE-1 F1, 0 to 100"
            yield about, "rouge", rouge.rouge2, "ROUGE-2 F1, 0 to 100"
            yield about, "rouge", rouge.rougeL, "ROUGE-L F1, 0 to 100"
            yield about, "rouge", rouge.rougeLsum, "ROUGE-Lsum F1, 0 to 100"
        if bleu := section.model.bleu:
            yield about, "bleu", bleu.score, "BLEU (sacrebleu), 0 to 100"
    for name, entry in report.perplexity.items():
        # Text files are not part of this data. A text that the model was not trained to write has
        # a perplexity that describes nothing.
        if entry.records is not None and entry.trained is not False:
            about = "text-generation", f"perplexity: {name}", entry.records
            text = entry.text
            yield about, "perplexity", text.token_perplexity, "perplexity per token"
            yield about, "bits_per_byte", text.bits_per_byte, "bits per byte"


def _limits(report: Report) -> Iterator[str]:
    """Yield what a reader of the figures should keep in mind."""
    if missing := [name for name in SECTIONS if not getattr(report, name)]:
        yield f"Not measured: {', '.join(missing)}."
    if report.calibration and report.calibration.note:
        yield f"Label probabilities are {report.calibration.note}."
    if report.labels:
        systems = report.labels.systems
        differences = report.labels.differences
        if worse := below_best(systems, LABEL_FIGURES, 100, differences=differences):
            yield worse
    for task, section in report.texts.items():
        about = f"For {task}, the model"
        texts = section.systems
        if worse := below_best(texts, TEXT_FIGURES, subject=about, differences=section.differences):
            yield worse
    if report.split == "val":
        yield "Evaluated on validation records, which may have been used to choose this checkpoint."
    if (report.look or 0) > 1:
        yield f"This run has been evaluated on the test split {report.look} times."
    yield "Other kinds of text, other languages and patient groups were not examined."
    yield (
        "Its output can name the wrong disease, drug or patient group even if no check flags it. "
        "Check every output against its source."
    )
