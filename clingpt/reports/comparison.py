"""Several checkpoints side by side: folds pooled, seeds as mean and spread, two of them paired.

A validation fold of 50 records cannot rank models, and neither can one run: PubMedQA's authors pool
ten folds and average runs (Jin et al. 2019, section 4).
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clingpt.base import console
from clingpt.base.files import write_whole
from clingpt.evaluation.bootstrap import paired_difference, spread
from clingpt.reports.aggregate import FORMAT, label_entry, write_json
from clingpt.reports.page import page
from clingpt.reports.tables import as_markdown, as_text, tables

Labels = Mapping[str, tuple[str, str]]  # record -> truth, label
Report = Mapping[str, Any]


def compare(folder: Path, found: Mapping[str, tuple[Report, Labels]]) -> dict[str, Any]:
    """Write and print what the checkpoints' reports say together; the dictionary written."""
    reports = [report for report, _ in found.values()]
    first = reports[0]
    same = len({report["data"]["fingerprint"] for report in reports}) == 1
    content = {
        "format": FORMAT,
        "checkpoint": f"{len(found)} checkpoints",
        "step": None,
        "parameters": first["parameters"],
        "data": first["data"] if same else {**first["data"], "name": "several folders' records"},
        "split": first["split"],
        "look": None,
        "setting": first["setting"],
        "settings": first["settings"],
        "versions": first["versions"],
        **dict.fromkeys(("labels", "calibration", "perplexity", "texts", "int8"), {}),
        "label_agreement": None,
        "curve": [],
        "examples": [],
        "comparison": comparison(found),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "report.json", content)
    write_whole(folder / "report.md", as_markdown(tables(content)))
    write_whole(folder / "report.html", page(content))
    console.say(as_text(tables(content)))
    return content


def comparison(found: Mapping[str, tuple[Report, Labels]]) -> dict[str, Any]:
    """Pooled where no record was seen twice, a spread of each figure, a pair's difference."""
    labels = [each for _, each in found.values()]
    n_records = len({name for each in labels for name in each})
    disjoint = n_records == sum(map(len, labels))
    same = all(each.keys() == labels[0].keys() for each in labels)
    entry: dict[str, Any] = {
        "checkpoints": list(found),
        "same_records": same,
        "pooled": _pooled(labels) if disjoint and n_records else {},
        "spread": _spreads([dict(figures(report)) for report, _ in found.values()]),
        "paired": {},
    }
    if len(found) == 2 and same and labels[0]:
        entry["paired"] = _paired(list(found), *labels)
    return entry


def figures(report: Report) -> Iterator[tuple[str, float]]:
    """The headline figures of a report, by name; shares on 0 to 1."""
    if report["labels"]:
        model = report["labels"]["systems"]["model"]
        yield "accuracy", model["accuracy"]
        yield "macro_f1", model["macro_f1"]
    for name, entry in report["perplexity"].items():
        yield f"{name} bits per byte", entry["text"]["bits_per_byte"]
    for task, entry in report["texts"].items():
        model = entry["systems"]["model"]
        yield f"{task} rougeL", model["rouge"]["rougeL"]
        yield f"{task} BLEU", model["bleu"]["score"]
        if faithful := model["faithfulness"]:
            yield f"{task} flagged", faithful["flagged"]


def _spreads(all_figures: list[dict[str, float]]) -> dict[str, Any]:
    names = [name for name in all_figures[0] if all(name in each for each in all_figures)]
    return {name: asdict(spread([each[name] for each in all_figures])) for name in names}


def _pooled(labels: list[Labels]) -> dict[str, Any]:
    pairs = [pair for each in labels for pair in each.values()]
    return label_entry([gold for gold, _ in pairs], [said for _, said in pairs])


def _paired(names: list[str], first: Labels, second: Labels) -> dict[str, Any]:
    ids = list(first)
    difference = paired_difference(
        [first[name][0] for name in ids],
        [first[name][1] for name in ids],
        [second[name][1] for name in ids],
    )
    return {"first": names[0], "second": names[1], **asdict(difference)}
