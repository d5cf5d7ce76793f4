"""Compare several checkpoints: pool folds, average seeds, and compare two on the same records.

A validation fold of 50 records cannot rank models, and neither can a single run: PubMedQA's authors
pool ten folds and average several runs (Jin et al. 2019, section 4).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from clingpt.evaluation.bootstrap import paired_difference, spread
from clingpt.reports.report import Comparison, NamedDifference, Report, label_figures

# Names of shares of texts.
UNSUPPORTED, UNSUPPORTED_TERMS = "unsupported numbers etc.", "unsupported terms"
Labels = Mapping[str, tuple[str, str]]  # record id -> gold label, predicted label


def comparison_report(found: Mapping[str, tuple[Report, Labels]]) -> Report:
    """Return a report that contains only a comparison of these checkpoints."""
    reports = [report for report, _ in found.values()]
    first = reports[0]
    same_data = len({report.data.fingerprint for report in reports}) == 1
    return replace(
        first,
        checkpoint=f"{len(found)} checkpoints",
        step=None,
        data=first.data if same_data else replace(first.data, name="records of several folders"),
        look=None,
        labels=None,
        calibration=None,
        perplexity={},
        texts={},
        task_notes={},
        label_agreement=None,
        int8=None,
        curve=(),
        examples=(),
        comparison=comparison(found),
    )


def comparison(found: Mapping[str, tuple[Report, Labels]]) -> Comparison:
    """Compare checkpoints by their reports and by the labels of each record.

    Labels are pooled only if no record was scored by two checkpoints, as with folds. A pair is
    compared only if both scored the same records.
    """
    labels = [each for _, each in found.values()]
    n_records = len({name for each in labels for name in each})
    is_disjoint = n_records == sum(map(len, labels))
    reports = [report for report, _ in found.values()]
    if n_records:
        same_records = all(each.keys() == labels[0].keys() for each in labels)
    else:
        same_records = len({report.data.fingerprint for report in reports}) == 1
    pooled = [pair for each in labels for pair in each.values()] if is_disjoint else []
    figures_of = [figures(report) for report in reports]
    shared = [name for name in figures_of[0] if all(name in each for each in figures_of)]
    is_pair = len(found) == 2 and same_records and bool(labels[0])
    return Comparison(
        checkpoints=tuple(found),
        same_records=same_records,
        pooled=label_figures([gold for gold, _ in pooled], [said for _, said in pooled])
        if pooled
        else None,
        spread={name: spread([each[name].value for each in figures_of]) for name in shared},
        records={
            name: tuple(each[name].records or 0 for each in figures_of)
            for name in shared
            if figures_of[0][name].records is not None
        },
        paired=_paired(list(found), *labels) if is_pair else None,
    )


class Figure(NamedTuple):
    """A headline figure, from 0 to 1 for shares, and the records it was measured on."""

    value: float
    records: int | None  # None for a text file


def figures(report: Report) -> dict[str, Figure]:
    """Return the headline figures of a report by name."""
    found = {}
    if report.labels:
        model = report.labels.model
        found["accuracy"] = Figure(model.accuracy, model.n)
        found["macro_f1"] = Figure(model.macro_f1, model.n)
    for name, entry in report.perplexity.items():
        shown = f"{name} bits per byte" + (", not trained on" if entry.trained is False else "")
        found[shown] = Figure(entry.text.bits_per_byte, entry.records)
    for task, section in report.texts.items():
        text = section.model
        if text.rouge and text.bleu:
            found[f"{task} rougeL"] = Figure(text.rouge.rougeL, text.texts)
            found[f"{task} BLEU"] = Figure(text.bleu.score, text.texts)
        if unsupported := text.unsupported:
            found[f"{task} {UNSUPPORTED}"] = Figure(unsupported.flagged, unsupported.texts)
        if terms := text.unsupported_terms:
            found[f"{task} {UNSUPPORTED_TERMS}"] = Figure(terms.flagged, terms.texts)
    return found


def _paired(names: Sequence[str], first: Labels, second: Labels) -> NamedDifference:
    difference = paired_difference(
        [first[name][0] for name in first],
        [first[name][1] for name in first],
        [second[name][1] for name in first],
    )
    first_name, second_name = names
    return NamedDifference(
        first=first_name, second=second_name, records=len(first), **vars(difference)
    )
