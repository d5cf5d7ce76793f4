"""The figures of a report as tables, for the terminal, for Markdown and for report.html.

This module only chooses the columns, their order and the number of digits. Shares are shown in
percent, ROUGE and BLEU on their scale of 0 to 100. What was not measured has no table.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from clingpt.base import console
from clingpt.evaluation.baselines import N_COMMON
from clingpt.evaluation.bootstrap import PairedDifference
from clingpt.evaluation.calibration import (
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    MISTAKES_TO_SHARPEN,
    UNLIKE_SHARE,
    shown_threshold,
)
from clingpt.evaluation.metrics import Interval, Rouge
from clingpt.evaluation.unsupported import KINDS
from clingpt.reports.comparison import UNSUPPORTED, UNSUPPORTED_TERMS
from clingpt.reports.report import (
    COMMON,
    MODEL,
    RARE,
    REFERENCE,
    CalibrationSection,
    Comparison,
    DataSource,
    Differences,
    Int8Section,
    LabelFigures,
    LabelSection,
    PerplexitySection,
    Report,
    TextFigures,
    TextSection,
)
from clingpt.text.documents import HEADINGS
from clingpt.text.records import LABELS

LABEL_COLUMNS = ("system", "accuracy", "95 % CI", "macro-F1", "95 % CI")

# Patterns that end in a character that Markdown or GitHub's autolinks would take for markup:
# anywhere, at the start of a line, in addresses.
MARKUP = re.compile(
    r"[\\`*_\[\]<>|~$&]|^[#+=-](?=[#+=\s-]|$)|^\d+[.)](?=\s|$)|(?<=:)/(?=/)|(?<=www)\.",
    re.IGNORECASE,
)

BLIND_SPOTS = (
    "This check cannot see a wrong disease, drug, outcome or patient group, a claim that is "
    "reversed in other words, or an omission."
)
TERM_BLIND_SPOTS = (
    "This check cannot see a term of the source in the wrong place (drug and comparator swapped, "
    "the wrong one of two groups), a wrong word that is not one of these terms, or an omission."
)
OPTIMISTIC = "Measured on the same records, the errors after fitting are somewhat too low."

Row = list[console.Cell]
System = TypeVar("System")  # the figures of a system


@dataclass(frozen=True)
class Table:
    """A title, column names, rows of cells, and sentences shown below the rows."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[console.Cell]]
    notes: Sequence[str] = ()

    def texts(self) -> list[list[str]]:
        """Return the cells as they are shown, each on one line."""
        return [[console.cell_text(cell) for cell in row] for row in self.rows]

    def numeric(self) -> list[bool]:
        """Return which columns contain only numbers; they are aligned to the right."""
        columns = zip(*(self.texts() or [list(self.columns)]), strict=True)
        return [all(map(console.NUMERIC.fullmatch, column)) for column in columns]


def tables(report: Report) -> list[Table]:
    """Return all tables of a report, labels first."""
    found: list[Table] = []
    if report.labels:
        labels = label_tables(report.labels, report.data)
        found += with_note(report.task_notes.get("answer"), labels)
    if report.calibration:
        found.append(calibration_table(report.calibration, report.data, report.split))
    for task, section in report.texts.items():
        agreeing = list(agreement_notes(report)) if task == "answer" else []
        table = text_table(task, section, report.data, agreeing)
        found += with_note(report.task_notes.get(task), [table])
        found += difference_tables(task, section.differences, TEXT_DIFFERENCES)
        found += reference_tables(task, section)
    found += unsupported_tables(report.texts)
    found += term_tables(report)
    for task, section in report.texts.items():
        found += structure_tables(task, section, report.data)
    if report.perplexity:
        found.append(perplexity_table(report.perplexity))
    if report.int8:
        found.append(int8_table(report.int8))
    if report.comparison:
        found += comparison_tables(report.comparison)
    return found


def with_note(note: str | None, found: Iterable[Table]) -> list[Table]:
    """Put a sentence, if there is one, above the other notes on the first of some tables."""
    first, *others = found
    return [replace(first, notes=[note, *first.notes]) if note else first, *others]


def fixed(value: float | None, digits: int = 1, scale: float = 1) -> str:
    """Format a number times `scale` with a fixed number of decimals; None becomes a dash."""
    return "–" if value is None else f"{scale * value:,.{digits}f}"


def percent(share: float | None, digits: int = 1) -> str:
    """Format a share of 0 to 1 in percent, without the sign."""
    return fixed(share, digits, 100)


def between(interval: Interval | None, scale: float = 1, digits: int = 1) -> str:
    """Format an interval: 50.8–59.5, or -1.2 to +3.4 if its lower end is negative."""
    if interval is None:
        return "–"
    low, high = scale * interval.low, scale * interval.high
    joined = f"{low:+.{digits}f} to {high:+.{digits}f}"
    return joined if low < 0 else f"{low:,.{digits}f}–{high:,.{digits}f}"


def best_baseline(
    systems: Mapping[str, System], figure: Callable[[System], float | None]
) -> tuple[str, float] | None:
    """Return the best baseline's name and figure; None if nothing was compared."""
    known = {name: figure(each) for name, each in systems.items() if name not in (MODEL, REFERENCE)}
    found = [(name, value) for name, value in known.items() if value is not None]
    return max(found, key=lambda item: item[1], default=None)


def below_best(
    systems: Mapping[str, System],
    figures: Mapping[str, Callable[[System], float | None]],
    scale: float = 1,
    *,
    subject: str = "The model",
    differences: Differences | None = None,
) -> str | None:
    """Say by which figures the model is worse than the best baseline, or return None.

    Figures are compared as they are shown, with one decimal. If the interval of a difference
    contains 0, the note says so.
    """
    worse: dict[str, list[str]] = {}  # pairs of figures, by baseline
    perhaps = []
    for name, figure in figures.items():
        own, best = figure(systems[MODEL]), best_baseline(systems, figure)
        if own is None or best is None or round(scale * own, 1) >= round(scale * best[1], 1):
            continue
        baseline, theirs = best
        pair = f"{name} {fixed(own, 1, scale)} against {fixed(theirs, 1, scale)}"
        worse.setdefault(baseline, []).append(pair)
        if differences and differences[baseline][KEYS[name]].interval.high >= 0:
            perhaps.append(name)
    if not worse:
        return None
    pairs = [f"{', '.join(each)} ({baseline})" for baseline, each in worse.items()]
    note = f"{subject} is below the best baseline: {'; '.join(pairs)}."
    if perhaps:
        note += (
            " Perhaps by chance, because the 95 % interval of the difference contains 0: "
            f"{', '.join(perhaps)}."
        )
    return note


LABEL_FIGURES: Mapping[str, Callable[[LabelFigures], float | None]] = {
    "accuracy": lambda figures: figures.accuracy,
    "macro-F1": lambda figures: figures.macro_f1,
}
ROUGE_FIGURES: Mapping[str, Callable[[Rouge], float | None]] = {
    "R1": lambda rouge: rouge.rouge1,
    "R2": lambda rouge: rouge.rouge2,
    "RL": lambda rouge: rouge.rougeL,
}
TEXT_FIGURES: Mapping[str, Callable[[TextFigures], float | None]] = {
    "R1": lambda figures: figures.rouge.rouge1 if figures.rouge else None,
    "R2": lambda figures: figures.rouge.rouge2 if figures.rouge else None,
    "RL": lambda figures: figures.rouge.rougeL if figures.rouge else None,
    "RLsum": lambda figures: figures.rouge.rougeLsum if figures.rouge else None,
    "BLEU": lambda figures: figures.bleu.score if figures.bleu else None,
}
TEXT_DIFFERENCES = ("R1", "R2", "RL", "BLEU")  # in the table; the report has RLsum as well
KEYS = {  # of a report's differences, by the name of the figure
    "accuracy": "accuracy",
    "macro-F1": "macro_f1",
    "R1": "rouge1",
    "R2": "rouge2",
    "RL": "rougeL",
    "RLsum": "rougeLsum",
    "BLEU": "bleu",
}


def label_tables(labels: LabelSection, data: DataSource) -> Iterator[Table]:
    """Accuracy and macro-F1 of every system, then the model's confusion matrix."""
    notes = []
    if worse := below_best(labels.systems, LABEL_FIGURES, 100, differences=labels.differences):
        notes.append(worse)
    notes.append("95 % confidence intervals: Wilson for accuracy, bootstrap for macro-F1.")
    lost = [f"{name} {s.unparseable}" for name, s in labels.systems.items() if s.unparseable]
    if lost:
        notes.append(f"Outputs without a label, counted as wrong: {', '.join(lost)}.")
    model = labels.model
    title = f"yes / no / maybe: {data.some(model.n)}, in percent"
    rows = [label_row(name, figures) for name, figures in labels.systems.items()]
    yield Table(title, LABEL_COLUMNS, rows, [*notes, *labels.notes])
    yield from difference_tables("yes / no / maybe", labels.differences, LABEL_FIGURES, 100)
    if model.per_label and model.confusion:
        rows = []
        for label, said in zip(LABELS, model.confusion, strict=True):
            scores = model.per_label[label]
            shares = map(percent, (scores.precision, scores.recall, scores.f1))
            rows.append([label, *shares, scores.support, *said])
        columns = ["gold label", "precision", "recall", "F1", "records"]
        columns += [f"predicted {label}" for label in LABELS]
        yield Table("The model by gold label, in percent, and its confusion matrix", columns, rows)


def difference_tables(
    of: str, differences: Differences, figures: Iterable[str], scale: float = 1
) -> Iterator[Table]:
    """The model minus each baseline; no table if there was no baseline."""
    rows: list[Row] = []
    for baseline, found in differences.items():
        row: Row = [baseline]
        for name in figures:
            row += [
                f"{scale * found[KEYS[name]].value:+.1f}",
                between(found[KEYS[name]].interval, scale),
            ]
        rows.append(row)
    if rows:
        columns = ["the model minus", *(each for name in figures for each in (name, "95 % CI"))]
        note = "95 % confidence intervals: bootstrap of the same records for both systems."
        yield Table(f"{of}: difference on the same records, in points", columns, rows, [note])


def label_row(name: str, figures: LabelFigures | PairedDifference) -> Row:
    """One row under LABEL_COLUMNS."""
    accuracy, macro_f1 = figures.accuracy_interval, figures.macro_f1_interval
    return [
        name,
        percent(figures.accuracy),
        between(accuracy, 100),
        percent(figures.macro_f1),
        between(macro_f1, 100),
    ]


def calibration_table(found: CalibrationSection, data: DataSource, split: str) -> Table:
    systems = {"before": found.raw, "calibrated": found.calibrated}
    if found.note:
        systems = {"not calibrated": found.raw}
        if found.temperature > 1:
            systems["flattened"] = found.calibrated
    rows = [
        [name, *(fixed(error, 3) for error in (errors.ece, errors.nll, errors.brier))]
        for name, errors in systems.items()
    ]
    fit = found.fitted_on
    notes = []
    if found.note and fit.mistakes < MISTAKES_TO_SHARPEN:
        notes.append(
            f"{sentence(found.note)}. A temperature below 1 needs at least {MISTAKES_TO_SHARPEN} "
            "mistakes, because without mistakes every probability would become 1."
        )
    elif found.note:
        lowest, highest = LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE
        notes.append(
            f"{sentence(found.note)}. These do not determine a temperature between {lowest:g} and "
            f"{highest:g}."
        )
    notes += [
        f"Temperature {found.temperature:.3f} and {shown_threshold(found.threshold)}, "
        f"chosen to answer {percent(found.coverage, 0)} % of "
        f"{console.count(fit.records, 'record')} of the {fit.split} split ({fit.fingerprint[:12]})."
        + (f" {OPTIMISTIC}" if (fit.split, fit.fingerprint) == (split, data.fingerprint) else ""),
        f"Unanswered because below the threshold: {percent(found.abstained)} %. Accuracy of the "
        f"answered rest: {percent(found.accuracy_kept)} %. Area under the risk-coverage curve: "
        f"{found.aurc:.3f}.",
    ]
    if found.unlike_training is not None:
        notes.append(
            f"Unlike the training data: {percent(found.unlike_training)} % of "
            f"{console.count(found.prompts, 'prompt')}. The limit was set so that at most "
            f"{percent(UNLIKE_SHARE)} % of the validation prompts are, each with its text pasted "
            "in one piece."
        )
    columns = ["probabilities", "ECE", "NLL (nats)", "Brier"]
    title = f"Calibration of the label probabilities: {data.some(found.records)}"
    return Table(title, columns, rows, notes)


def sentence(note: str) -> str:
    """Capitalise the first letter."""
    return note[:1].upper() + note[1:]


def agreement_notes(report: Report) -> Iterator[str]:
    """Say how often the label in a generated answer is the one that is scored highest."""
    if report.label_agreement is not None:
        yield (
            f"In {percent(report.label_agreement)} % of "
            f"{console.count(report.labels_compared, 'answer')}, the label in the text is the "
            "one that is scored highest."
        )


def text_table(
    task: str, section: TextSection, data: DataSource, more_notes: Sequence[str]
) -> Table:
    """ROUGE, BLEU and length of every system's texts for one task."""
    model = section.model
    notes = []
    if worse := below_best(section.systems, TEXT_FIGURES, differences=section.differences):
        notes.append(worse)
    notes += section.notes
    if model.rouge and model.bleu:
        notes += [f"ROUGE: {model.rouge.signature}", f"BLEU: {model.bleu.signature}"]
        notes.append(f"BLEU (NLTK): {fixed(model.bleu.nltk_score)} ({model.bleu.nltk_signature})")
    if section.trimmed_prompts or model.empty:
        notes.append(
            f"Trimmed prompts: {section.trimmed_prompts}, by "
            f"{console.count(section.trimmed_tokens, 'token')} in all. Empty outputs: "
            f"{console.count(model.empty)}."
        )
    notes += more_notes
    compared = model.unsupported.texts if model.unsupported else 0
    if alone := model.texts - compared:
        notes.append(
            f"Questions without a context: {console.count(alone)}. Their texts have no source to "
            "be compared with, so new bigrams and unsupported claims leave them out."
        )
    title = (
        f"{task}: ROUGE and BLEU on {data.some(model.texts)} against one reference each, "
        f"{percent(section.hit_the_limit)} % stopped at the length limit"
    )
    columns = ["system", "R1", "R2", "RL", "95 % CI", "RLsum", "BLEU", "BP", "words"]
    rows = [text_row(name, figures) for name, figures in section.systems.items()]
    return Table(title, [*columns, "% new bigrams"], rows, notes)


def reference_tables(task: str, section: TextSection) -> Iterator[Table]:
    """ROUGE on the records with a common and with a rare reference; none if few are common.

    Averages hide a model that writes the same sentence for everything.
    """
    if not section.by_reference:
        return
    names = list(section.by_reference[RARE].rouge)
    rows: list[Row] = [
        [
            name,
            *(
                fixed(figure(group.rouge[name]))
                for group in section.by_reference.values()
                for figure in ROUGE_FIGURES.values()
            ),
        ]
        for name in names
    ]
    columns = ["system"]
    columns += [f"{figure}, {kind}" for kind in section.by_reference for figure in ROUGE_FIGURES]
    counts = {kind: group.records for kind, group in section.by_reference.items()}
    title = (
        f"{task}: ROUGE on {console.count(counts[COMMON], 'record')} with a common reference and "
        f"{console.count(counts[RARE])} with a rare one"
    )
    notes = [
        f"Common references: those that are one of the {N_COMMON} commonest training answers, "
        "except for case and punctuation."
    ]
    for kind, group in section.by_reference.items():
        subject = f"On {kind} references, the model"
        if worse := below_best(group.rouge, ROUGE_FIGURES, subject=subject):
            notes.append(worse)
    yield Table(title, columns, rows, notes)


def text_row(name: str, figures: TextFigures) -> Row:
    rouge, bleu = figures.rouge, figures.bleu
    return [
        name,
        fixed(rouge.rouge1 if rouge else None),
        fixed(rouge.rouge2 if rouge else None),
        fixed(rouge.rougeL if rouge else None),
        between(figures.rougeL_interval),
        fixed(rouge.rougeLsum if rouge else None),
        fixed(bleu.score if bleu else None),
        fixed(bleu.brevity_penalty if bleu else None, 2),
        fixed(figures.mean_words, 0),
        percent(figures.novel_bigrams, 0),
    ]


def unsupported_tables(texts: Mapping[str, TextSection]) -> Iterator[Table]:
    """One table over all tasks; none if no text has a source."""
    rows: list[Row] = []
    for task, section in texts.items():
        for name, figures in section.systems.items():
            if found := figures.unsupported:
                shares = [found.flagged, *(found.per_kind.get(kind) for kind in KINDS)]
                rates = [fixed(found.flags_per_text, 2), percent(found.unsupported_numbers)]
                rows.append([task, name, found.texts, *map(percent, shares), *rates])
    columns = ["task", "system", "texts", "any", *KINDS, "flags per text", "of all numbers"]
    title = "Texts with unsupported numbers, units, comparators or negations, in percent"
    notes = [
        "Unsupported: the text that the model was given does not have it. The reference rows show "
        "what the rules flag in human-written texts.",
        BLIND_SPOTS,
    ]
    if rows:
        yield Table(title, columns, rows, notes)


def term_tables(report: Report) -> Iterator[Table]:
    """One table over all tasks; none if no text has a source."""
    rows: list[Row] = [
        [task, name, found.texts, percent(found.flagged), fixed(found.terms_per_text, 2)]
        for task, section in report.texts.items()
        for name, figures in section.systems.items()
        if (found := figures.unsupported_terms)
    ]
    known = "Terms are abbreviations and words with endings such as -itis, -ectomy or -statin"
    if learned := report.learned_terms:
        known += (
            f", and {console.count(learned.terms, 'word')} learned from "
            f"{console.count(learned.training_texts, 'training text')}"
        )
    notes = [
        f"{known}. Unsupported: neither the source nor the question has the term, in any spelling. "
        "The reference rows show how often human-written texts are flagged.",
        TERM_BLIND_SPOTS,
    ]
    columns = ["task", "system", "texts", "any", "terms per text"]
    if rows:
        yield Table("Texts with unsupported terms, in percent", columns, rows, notes)


def structure_tables(task: str, section: TextSection, data: DataSource) -> Iterator[Table]:
    """The headings of generated documents, and their sections; none for other tasks."""
    if (found := section.structure) is None:
        return
    by_heading = found.headings != HEADINGS
    columns = ["present", "spurious", "in order", "complete"]
    shares = (found.present, found.spurious, found.in_order, found.complete)
    row = [percent(share if found.documents else None) for share in shares]
    notes, title = [], f"{task}: headings in percent, on {data.some(found.documents)}"
    if not by_heading:
        columns += [f"RL {heading}" for heading in found.section_rougeL]
        row += map(fixed, found.section_rougeL.values())
        title += ", and ROUGE-L by section"
        notes.append(found.signature)
    if found.unheaded:
        what = "headings listed below" if by_heading else f"headings {', '.join(HEADINGS)}"
        notes.append(
            f"Only references with one of the {what} are scored. Left out: "
            f"{console.count(found.unheaded)}."
        )
    if found.documents or not found.asked:
        yield Table(title, columns, [row], notes)
    if by_heading and found.in_references:
        rows: list[Row] = [
            [name, n, found.in_both.get(name, 0), fixed(found.section_rougeL.get(name))]
            for name, n in found.in_references.items()
        ]
        notes = [found.signature]
        if found.documents:
            notes.insert(0, "The headings are those that recur in the training documents.")
        if found.asked:
            notes.append(
                f"{console.count(found.asked, 'prompt')} asked for the section by its heading."
            )
        columns = ["heading", "references", "outputs too", "RL"]
        yield Table(f"{task}: sections by heading", columns, rows, notes)


def perplexity_table(perplexity: Mapping[str, PerplexitySection]) -> Table:
    rows: list[Row] = [
        [
            name + (" (not trained on)" if found.trained is False else ""),
            found.records,
            found.text.tokens,
            found.text.words,
            found.text.token_perplexity,
            between(found.text.token_perplexity_interval, digits=2),
            found.text.word_perplexity,
            fixed(found.text.bits_per_byte, 4),
            found.with_end.token_perplexity if found.with_end else None,
        ]
        for name, found in perplexity.items()
    ]
    columns = [
        "text",
        "records",
        "tokens",
        "words",
        "per token",
        "95 % CI",
        "per word",
        "bits per byte",
    ]
    columns.append("per token, with end of text")
    notes = ["Only bits per byte can be compared between models with different vocabularies."]
    if unknown := [name for name, found in perplexity.items() if found.trained is False]:
        notes.append(
            f"Not trained on: {', '.join(unknown)}. Prompts carry no loss, so training taught the "
            "model to read such text, not to write it. These perplexities can be arbitrarily high "
            "and say nothing about the quality of its replies."
        )
    return Table("Corpus perplexity", columns, rows, notes)


def int8_table(found: Int8Section) -> Table:
    rows: list[Row] = [
        [
            name,
            text.tokens,
            text.perplexity_fp32,
            text.perplexity_int8,
            f"{text.perplexity_int8 / text.perplexity_fp32 - 1:+.2%}",
            f"{text.decisions_changed:.2%}",
        ]
        for name, text in found.texts.items()
    ]
    notes = ["Only the change is of interest: the model may not be trained to write these texts."]
    if labels := found.labels:
        notes.append(
            f"{labels.changed} of {console.count(labels.records, 'predicted label')} differ. Of "
            f"{console.count(labels.labelled, 'record')} with a known label, fp32 is right on "
            f"{labels.right_fp32} and int8 on {labels.right_int8}."
        )
    columns = ["text", "tokens", "perplexity, fp32", "int8", "change", "changed top tokens"]
    return Table("8-bit weights compared with fp32, on the same tokens", columns, rows, notes)


def comparison_tables(found: Comparison) -> Iterator[Table]:
    """The spread over several checkpoints, their pooled labels, and the difference of a pair."""
    if found.spread:
        rows: list[Row] = []
        for name, values in found.spread.items():
            is_share = name.endswith(("accuracy", "macro_f1", UNSUPPORTED, UNSUPPORTED_TERMS))
            scale, digits = (100, 1) if is_share else (1, 4 if "bits per byte" in name else 1)
            shown = (values.mean, values.sd, values.low, values.high)
            rows.append([name, *(fixed(value, digits, scale) for value in shown), values.n])
            few, many = (limit(found.records.get(name, [0])) for limit in (min, max))
            rows[-1].append(f"{few} to {many}" if few < many else few or None)
        columns = ["metric", "mean", "SD", "lowest", "highest", "checkpoints", "records of each"]
        records = "on the same records" if found.same_records else "each on its own records"
        yield Table(f"Checkpoints, {records}", columns, rows, found.checkpoints)
    if found.pooled:
        title = f"All {console.count(found.pooled.n)} records of the folds, in percent"
        yield Table(title, LABEL_COLUMNS, [label_row("the models of the folds", found.pooled)])
    if pair := found.paired:
        note = (
            f"Right only in the second: {pair.wins}; right only in the first: {pair.losses}. "
            f"McNemar's exact p = {pair.mcnemar_p:.3g}."
        )
        rows = [label_row(f"{pair.second} minus {pair.first}", pair)]
        title = f"Difference on {console.count(pair.records, 'record')}, in percentage points"
        yield Table(title, LABEL_COLUMNS, rows, [note])


def as_text(found: Sequence[Table]) -> str:
    """Format tables for the terminal."""
    notes = ["".join(f"\n{console.paragraph(note)}" for note in table.notes) for table in found]
    shown = [console.table(table.title, table.columns, table.rows) for table in found]
    return "\n\n".join(map("".join, zip(shown, notes, strict=True)))


def as_markdown(found: Sequence[Table]) -> str:
    """Format tables as GitHub-flavoured Markdown, with every markup character in them escaped."""
    parts = []
    for table in found:
        rule = ["---:" if right else "---" for right in table.numeric()]
        head, *body = ([*map(plain, row)] for row in (table.columns, *table.texts()))
        lines = [f"| {' | '.join(row)} |" for row in (head, rule, *body)]
        notes = [f"\n{plain(note)}" for note in table.notes]
        parts.append("\n".join([f"**{plain(table.title)}**\n", *lines, *notes]))
    return "\n\n".join(parts)


def plain(text: str) -> str:
    """Escape `text` so that Markdown shows it as it is, on one line."""
    return MARKUP.sub(lambda found: f"{found[0][:-1]}\\{found[0][-1]}", console.safe_line(text))
