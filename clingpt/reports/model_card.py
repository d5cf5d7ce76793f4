"""The README.md of a checkpoint's folder, as the Hugging Face Hub reads it: what the model is, what
was measured, and how to use it.

The head follows modelcard.md of huggingface/hub-docs. Folders go in by name, without the path that
leads to them. What the tables hold is clingpt/reports/tables.py.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clingpt.base import console
from clingpt.data.receipt import DONE, identifiers_found
from clingpt.reports.page import DISCLAIMER
from clingpt.reports.tables import as_markdown, plain, tables
from clingpt.text.records import Record
from clingpt.text.tasks import prompt_text
from model import SIZES

SKILLS = {
    "answer": "answers a question on an abstract with yes, no or maybe and an explanation",
    "summarize": "summarises a report",
    "document": "drafts a structured document from notes",
    "text": "continues text",
    "explain": "answers a question in prose, with a text to answer from or without",
}
PARTS = ("labels", "calibration", "perplexity", "texts", "int8")
RECORD = Record(id="", question="QUESTION", sections=(("RESULTS", "TEXT"),))
LINKS = re.compile(r"best|last|step_\d+|[./]*")  # folders that do not name a run
HUB_ID = re.compile(r"(?!out/)\w[\w.-]*/\w[\w.-]*")
AUDIT = "audit.md"  # beside the weights: the card's section on what audit.py found
OLD_AUDIT = re.compile(r"^## What it memorised\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
NOT_YAML = re.compile("[\ufeff\ufffe\uffff]")  # neither JSON nor console.safe_line minds these

Figure = tuple[str, float, str]  # the Hub's name of a metric, its value, our name


def model_card(
    report: Mapping[str, Any],
    *,
    base: str | None,
    tasks: Sequence[str],
    receipts: Sequence[Mapping[str, Any]] = (),
    lora_rank: int = 0,
    license: str | None = None,  # noqa: A002  the Hub's word
) -> str:
    """The whole file, of a report and of what the model was trained for.

    `base` is what training began from: gpt2, a Hub id or another run; scratch or None for random
    weights. No task is plain text. `receipts` are of all data it was trained on. `lora_rank` is 0
    where all weights were trained. `license` is a Hub identifier, such as mit; None leaves it open.
    """
    name, data, tasks = _name(report["checkpoint"]), report["data"], tasks or ["text"]
    hub_id = f"openai-community/{base}" if base in SIZES else base or ""
    head: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    head |= {"language": "en", "tags": ["clingpt", "gpt2", "medical"]}
    head |= {"license": license} if license else {}
    start = "random weights" if base in (None, "scratch") else f"the run {_name(hub_id)}"
    if HUB_ID.fullmatch(hub_id):
        head["base_model"] = start = hub_id
    start += f", by LoRA of rank {lora_rank}, merged into the weights" if lora_rank else ""
    if results := list(_results(report)):
        head["model-index"] = [{"name": name, "results": results}]
    size, skills = console.count(report["parameters"]), "; ".join(SKILLS[task] for task in tasks)
    parts = [
        f"---\n{_yaml(head)}---\n\n# {plain(name)}",
        f"A GPT-2 of {size} parameters, trained with clinGPT from {plain(start)}. It {skills}.",
        "## Intended use\n\nResearch on language models for clinical text, in English.",
        f"**{DISCLAIMER}**",
        f"## Data\n\nTraining and held-out records: {plain(Path(data['folder']).name)}, prepared, "
        f"fingerprint {plain(data['fingerprint'])}. Measured on: {plain(data['name'])}; split "
        f"{plain(report['split'])}, {plain(report['setting'])}.",
        *_people(receipts),
        f"## Results\n\n{as_markdown(tables({**report, 'comparison': {}}))}",
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in _limits(report)),
        f"## Use\n\n{_use(tasks)}",
    ]
    return "\n\n".join(parts)


def _people(receipts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What training text says of people, by its hygiene receipts; nothing without any."""
    if receipts:
        found = f"{sum(map(identifiers_found, receipts)):,}"
        done = "; ".join(dict.fromkeys(DONE[each["done"]] for each in receipts))
        yield f"Names, dates and numbers of people left in training text: {found} ({done})."


def with_audit(card: str, folder: Path) -> str:
    """The card with what audit.py left beside the weights, in place of what it said before."""
    if not (folder / AUDIT).exists():
        return card
    section = (folder / AUDIT).read_text("utf-8").strip()
    before, limits, after = OLD_AUDIT.sub("", card).partition("## Limits\n")
    return f"{before.rstrip()}\n\n{section}\n\n{limits}{after}"


def _name(checkpoint: str) -> str:
    """The run of a checkpoint: the last folder of its path that says more than which one it is."""
    names = (part for part in reversed(Path(checkpoint).parts) if not LINKS.fullmatch(part))
    return next(names, "clingpt")


def _results(report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What was measured, a result a task, each figure on the scale that its name says."""
    data = report["data"]
    dataset = {
        "name": data["name"],
        "type": re.sub(r"[^\w.-]+", "-", Path(data["folder"]).name) or "data",
        "split": report["split"],
        "args": {"fingerprint": data["fingerprint"], "setting": report["setting"]},
    }
    for kind, name, figures in _figures(report):
        finite = (figure for figure in figures if math.isfinite(figure[1]))
        if metrics := [dict(zip(("type", "value", "name"), one, strict=True)) for one in finite]:
            yield {"task": {"type": kind, "name": name}, "dataset": dataset, "metrics": metrics}


def _figures(report: Mapping[str, Any]) -> Iterator[tuple[str, str, list[Figure]]]:
    """A task by the Hub's name and by ours, and what was measured of it."""
    if labels := report.get("labels"):
        model = labels["systems"]["model"]
        scores = [("accuracy", model["accuracy"], "accuracy, 0 to 1")]
        scores.append(("f1", model["macro_f1"], "macro-F1, 0 to 1"))
        if found := report.get("calibration"):
            scores.append(("ece", found["calibrated"]["ece"], "calibration error, 0 to 1"))
        yield "question-answering", "yes / no / maybe", scores
    for task, entry in (report.get("texts") or {}).items():
        model = entry["systems"]["model"]
        rouge = [(f"rouge{kind}", f"ROUGE-{kind} F1, 0 to 100") for kind in ("1", "2", "L", "Lsum")]
        scores = [("rouge", model["rouge"][key], shown) for key, shown in rouge]
        scores.append(("bleu", model["bleu"]["score"], "BLEU (sacrebleu), 0 to 100"))
        yield ("summarization" if task == "summarize" else "text-generation"), task, scores
    for name in ("context", "explanation", "prose"):  # other texts are not of this data
        if entry := (report.get("perplexity") or {}).get(name):
            scores = [("perplexity", entry["text"]["token_perplexity"], "perplexity a token")]
            scores.append(("bits_per_byte", entry["text"]["bits_per_byte"], "bits per byte"))
            yield "text-generation", f"perplexity: {name}", scores


def _yaml(values: Mapping[str, Any], indent: str = "") -> str:
    """A mapping as YAML; every text in JSON's quotes, every number without an exponent."""
    deeper, lines = indent + "  ", []
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines.append(f"{indent}{key}:\n{_yaml(value, deeper)}")
        elif isinstance(value, list):
            lines.append(f"{indent}{key}:\n")
            for item in value:
                is_map = isinstance(item, Mapping)
                shown = _yaml(item, deeper).removeprefix(deeper) if is_map else _scalar(item)
                lines.append(f"{indent}- {shown}")
        else:
            lines.append(f"{indent}{key}: {_scalar(value)}")
    return "".join(lines)


def _scalar(value: str | float) -> str:
    if not isinstance(value, str):
        return f"{value:.4f}\n"
    quoted = json.dumps(console.safe_line(value), ensure_ascii=False)
    return NOT_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted) + "\n"


def _limits(report: Mapping[str, Any]) -> Iterator[str]:
    if missing := [part for part in PARTS if not report.get(part)]:
        yield f"Not measured: {', '.join(missing)}."
    if report["split"] == "val":
        yield "Measured on validation records, which may have chosen this checkpoint."
    if (report.get("look") or 0) > 1:
        yield f"This run has looked at the test split {report['look']} times."
    yield "Other kinds of text, other languages and groups of patients were not examined."
    yield "What it writes can be wrong, also where no rule flags it: read it beside its source."


def _use(tasks: Sequence[str]) -> str:
    task = next((one for one in tasks if one != "text"), None)
    prompt = prompt_text(task, RECORD) if task else "TEXT"
    asked = f"--task={task} --input=record.json" if task else '--prompt="TEXT"'
    record = ' `record.json`: `{"question": "QUESTION", "text": "TEXT"}`.' if task else ""
    return f"""```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # where this file lies
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
prompt = {json.dumps(prompt)}
ids = tokenizer(prompt, return_tensors="pt")
reply = model.generate(**ids, max_new_tokens=160, do_sample=False)
print(tokenizer.decode(reply[0, ids.input_ids.shape[1] :], skip_special_tokens=True))
```

With clinGPT: `python sample.py --checkpoint=FOLDER {asked}`.{record}
"""
