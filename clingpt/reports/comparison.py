"""Compare several checkpoints: pool folds, average seeds, and compare two on the same records.

A validation fold of 50 records cannot rank models, and neither can a single run: PubMedQA's authors
pool ten folds and average several runs (Jin et al. 2019, section 4).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from clingpt.evaluation.bootstrap import paired_difference, spread
from clingpt.reports.report import Comparison, NamedDifference, Report, label_figures

UNSUPPORTED = "unsupported numbers etc."  # share of texts with one
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
    same_records = all(each.keys() == labels[0].keys() for each in labels)
    pooled = [pair for each in labels for pair in each.values()] if is_disjoint else []
    figures_of = [dict(figures(report)) for report, _ in found.values()]
    shared = [name for name in figures_of[0] if all(name in each for each in figures_of)]
    is_pair = len(found) == 2 and same_records and bool(labels[0])
    return Comparison(
        checkpoints=tuple(found),
        same_records=same_records,
        pooled=label_figures([gold for gold, _ in pooled], [said for _, said in pooled])
        if pooled
        else None,
        spread={name: spread([each[name] for each in figures_of]) for name in shared},
        paired=_paired(list(found), *labels) if is_pair else None,
    )


def figures(report: Report) -> Iterator[tuple[str, float]]:
    """Yield the headline figures of a report by name; shares are from 0 to 1."""
    if report.labels:
        yield "accuracy", report.labels.model.accuracy
        yield "macro_f1", report.labels.model.macro_f1
    for name, entry in report.perplexity.items():
        yield f"{name} bits per byte", entry.text.bits_per_byte
    for task, section in report.texts.items():
        model = section.model
        if model.rouge and model.bleu:
            yield f"{task} rougeL", model.rouge.rougeL
            yield f"{task} BLEU", model.bleu.score
        if model.unsupported:
            yield f"{task} {UNSUPPORTED}", model.unsupported.flagged


def _paired(names: Sequence[str], first: Labels, second: Labels) -> NamedDifference:
    difference = paired_difference(
        [first[name][0] for name in first],
        [first[name][1] for name in first],
        [second[name][1] for name in first],
    )
    return NamedDifference(first=names[0], second=names[1], **vars(difference))
