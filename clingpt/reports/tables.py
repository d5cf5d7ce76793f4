"""A report's figures as tables, for the terminal, for Markdown and for clingpt/reports/page.py.

Chooses what stands beside what and with how many digits; measures nothing. What a report does not
hold has no table. Shares are shown in percent, ROUGE and BLEU on their scale of 0 to 100.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clingpt.base import console
from clingpt.evaluation.faithfulness import KINDS
from clingpt.text.documents import HEADINGS
from clingpt.text.records import LABELS

SCORES = ("system", "accuracy", "95 %", "macro-F1", "95 %")
NOTHING_TO_COMPARE_WITH = (
    "Texts that answer a question alone, without a context: {}. With no source to compare them "
    "with, they are left out of new bigrams and of what is flagged."
)
OTHER_HEADINGS = (
    f"Structure is scored by the headings {', '.join(HEADINGS)}. References that have none of "
    "them, and are left out: {}."
)

# What ends in a character that Markdown, or GitHub's autolinks in it, would take for markup:
# anywhere, at the start of a line, in addresses.
MARKUP = re.compile(
    r"[\\`*_\[\]<>|~$&]|^[#+=-](?=[#+=\s-]|$)|^\d+[.)](?=\s|$)|(?<=:)/(?=/)|(?<=www)\.",
    re.IGNORECASE,
)

Row = list[console.Cell]


@dataclass(frozen=True)
class Table:
    """A title, a head, rows of cells, and sentences to stand below."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[console.Cell]]
    notes: Sequence[str] = ()

    def texts(self) -> list[list[str]]:
        """The cells as they are shown, each on one line."""
        return [[console.cell_text(cell) for cell in row] for row in self.rows]

    def numeric(self) -> list[bool]:
        """Which columns hold numbers alone, and stand right."""
        columns = zip(*(self.texts() or [list(self.columns)]), strict=True)
        return [all(map(console.NUMERIC.fullmatch, column)) for column in columns]


def tables(report: Mapping[str, Any]) -> list[Table]:
    """All tables of a report, labels first."""
    parts = (_labels, _calibration, _texts, _faithfulness, _structure, _perplexity, _int8)
    return [table for part in (*parts, _comparison) for table in part(report)]


def fixed(value: float | None, digits: int = 1, scale: float = 1) -> str:
    """A number times `scale` with so many decimals; a dash for what is not known."""
    return "–" if value is None else f"{scale * value:,.{digits}f}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share of 0 to 1 in percent, without the sign."""
    return fixed(share, digits, 100)


def between(interval: Mapping[str, float] | None, scale: float = 1, digits: int = 1) -> str:
    """An interval: 50.8–59.5, or where it reaches below 0: -1.2 to +3.4."""
    if interval is None:
        return "–"
    low, high = scale * interval["low"], scale * interval["high"]
    joined = f"{low:+.{digits}f} to {high:+.{digits}f}"
    return joined if low < 0 else f"{low:,.{digits}f}–{high:,.{digits}f}"


def _labels(report: Mapping[str, Any]) -> Iterator[Table]:
    if not (labels := report.get("labels")):
        return
    systems, model = labels["systems"], labels["systems"]["model"]
    notes = ["Intervals of 95 %: Wilson's for accuracy, bootstrap for macro-F1."]
    if lost := [f"{name} {s['unparseable']}" for name, s in systems.items() if s["unparseable"]]:
        notes.append(f"Outputs without a label, which count as wrong: {', '.join(lost)}.")
    title = f"yes / no / maybe: {console.count(model['n'])} records, in percent"
    rows = [_label_row(name, scores) for name, scores in systems.items()]
    yield Table(title, SCORES, rows, [*notes, *labels.get("notes", [])])
    rows = []
    for label, said in zip(LABELS, model["confusion"], strict=True):
        scores = model["per_label"][label]
        shares = [percent(scores[key]) for key in ("precision", "recall", "f1")]
        rows.append([label, *shares, scores["support"], *said])
    columns = ["truth", "precision", "recall", "F1", "records", *(f"said {x}" for x in LABELS)]
    yield Table("The model by class, in percent, and its confusion matrix", columns, rows)


def _label_row(name: str, scores: Mapping[str, Any]) -> Row:
    row: Row = [name]
    for key in ("accuracy", "macro_f1"):
        row += [percent(scores[key]), between(scores.get(f"{key}_interval"), 100)]
    return row


def _calibration(report: Mapping[str, Any]) -> Iterator[Table]:
    if not (found := report.get("calibration")):
        return
    rows = [
        [name, *(fixed(found[key][score], 3) for score in ("ece", "nll", "brier"))]
        for name, key in (("as scored", "raw"), ("calibrated", "calibrated"))
    ]
    fit, right = found["fitted_on"], percent(found["accuracy_kept"])
    notes = [
        f"Temperature {found['temperature']:.3f} and threshold {found['threshold']:.3f}, for "
        f"answers to {percent(found['coverage'], 0)} %, fitted on {console.count(fit['records'])} "
        f"records of {fit['split']} ({fit['fingerprint'][:12]}).",
        f"Below the threshold, and unanswered: {percent(found['abstained'])} %; accuracy of the "
        f"rest: {right}. Area under the risk-coverage curve: {found['aurc']:.3f}.",
    ]
    columns = ["probabilities", "ECE", "NLL (nats)", "Brier"]
    yield Table("Calibration of the label probabilities", columns, rows, notes)


def _texts(report: Mapping[str, Any]) -> Iterator[Table]:
    for task, entry in (report.get("texts") or {}).items():
        model = entry["systems"]["model"]
        bleu, prompts = model["bleu"], entry["trimmed_prompts"]
        notes = [f"ROUGE {model['rouge']['signature']}", f"BLEU {bleu['signature']}"]
        notes.append(f"BLEU by nltk {fixed(bleu['nltk_score'])}: {bleu['nltk_signature']}")
        if prompts or model["empty"]:
            cut, empty = map(console.count, (entry["trimmed_tokens"], model["empty"]))
            notes.append(f"Prompts trimmed: {prompts}, by {cut} tokens. Empty texts: {empty}.")
        if task == "answer" and report.get("label_agreement") is not None:
            share = percent(report["label_agreement"])
            notes.append(f"In {share} % of answers the label written is the one scored highest.")
        if alone := model["texts"] - _compared(model):
            notes.append(NOTHING_TO_COMPARE_WITH.format(console.count(alone)))
        limit = f"{percent(entry['hit_the_limit'])} % hit the limit"
        title = f"{task}: {console.count(model['texts'])} texts against one reference each, {limit}"
        columns = ["system", "R1", "R2", "RL", "95 %", "RLsum", "BLEU", "BP", "words"]
        rows = [_text_row(name, scores) for name, scores in entry["systems"].items()]
        yield Table(title, [*columns, "% new bigrams", "% flagged"], rows, notes)


def _compared(scores: Mapping[str, Any]) -> int:
    """How many of a system's texts had a source to be compared with."""
    faithful = scores.get("faithfulness") or {"texts": 0}
    return int(faithful["texts"])


def _text_row(name: str, scores: Mapping[str, Any]) -> Row:
    rouge, bleu, faithful = (scores.get(key) or {} for key in ("rouge", "bleu", "faithfulness"))
    row: Row = [name, *(fixed(rouge.get(kind)) for kind in ("rouge1", "rouge2", "rougeL"))]
    row += [between(scores.get("rougeL_interval")), fixed(rouge.get("rougeLsum"))]
    row += [fixed(bleu.get("score")), fixed(bleu.get("brevity_penalty"), 2)]
    row += [fixed(scores.get("mean_words"), 0), percent(scores.get("novel_bigrams"), 0)]
    return [*row, percent(faithful.get("flagged"))]


def _faithfulness(report: Mapping[str, Any]) -> Iterator[Table]:
    rows: list[Row] = []
    for task, entry in (report.get("texts") or {}).items():
        for name, scores in entry["systems"].items():
            if found := scores.get("faithfulness"):
                shares = [found["flagged"], *(found["per_kind"].get(kind) for kind in KINDS)]
                rates = [fixed(found["flags_per_text"], 2), percent(found["unsupported_numbers"])]
                rows.append([task, name, found["texts"], *map(percent, shares), *rates])
    columns = ["task", "system", "texts", "flagged", *KINDS, "flags a text", "of numbers"]
    title = "Faithfulness: texts that say what their source does not hold, in percent"
    note = "The references' own rate is what the rules flag in text that people wrote."
    if rows:
        yield Table(title, columns, rows, [note])


def _structure(report: Mapping[str, Any]) -> Iterator[Table]:
    for task, entry in (report.get("texts") or {}).items():
        if found := entry.get("structure"):
            names, sections = (
                ("present", "spurious", "in_order", "complete"),
                found["section_rougeL"],
            )
            columns = [name.replace("_", " ") for name in names] + [f"RL {x}" for x in sections]
            shares = [found[name] if found["documents"] else None for name in names]
            row = [*map(percent, shares), *map(fixed, sections.values())]
            documents = console.count(found["documents"])
            title = f"{task}: headings of {documents} texts in percent, ROUGE-L by section"
            notes = [str(found["signature"])]
            if others := found["unheaded"]:
                notes.append(OTHER_HEADINGS.format(console.count(others)))
            yield Table(title, columns, [row], notes)


def _perplexity(report: Mapping[str, Any]) -> Iterator[Table]:
    rows: list[Row] = []
    for name, found in (report.get("perplexity") or {}).items():
        text, with_end = found["text"], found.get("with_end") or {}
        interval = between(text.get("token_perplexity_interval"), digits=2)
        row = [name, text["tokens"], text["words"], text["token_perplexity"], interval]
        row += [text["word_perplexity"], fixed(text["bits_per_byte"], 4)]
        rows.append([*row, with_end.get("token_perplexity")])
    columns = ["text", "tokens", "words", "a token", "95 %", "a word", "bits per byte"]
    note = "Only bits per byte compare across vocabularies."
    if rows:
        yield Table("Perplexity, corpus-level", [*columns, "with end of text"], rows, [note])


def _int8(report: Mapping[str, Any]) -> Iterator[Table]:
    if not (found := report.get("int8")):
        return
    rows, notes = [], []
    for name, text in found["texts"].items():
        both = [text["perplexity_fp32"], text["perplexity_int8"]]
        change, other = f"{both[1] / both[0] - 1:+.2%}", f"{text['decisions_changed']:.2%}"
        rows.append([name, text["tokens"], *both, change, other])
    if found["labels"]:
        notes.append(
            "{changed} of {records} labels differ; of {labelled} known ones {right_fp32} are right "
            "in fp32, {right_int8} in int8.".format(**found["labels"])
        )
    columns = ["text", "tokens", "perplexity, fp32", "int8", "change", "other decisions"]
    yield Table("8-bit weights beside fp32, on the same tokens", columns, rows, notes)


def _comparison(report: Mapping[str, Any]) -> Iterator[Table]:
    found = report.get("comparison") or {}
    rows: list[Row] = []
    if found.get("spread"):
        for name, values in found["spread"].items():
            is_share = name in ("accuracy", "macro_f1") or name.endswith("flagged")
            scale, digits = (100, 1) if is_share else (1, 4 if name.endswith("byte") else 1)
            row = [fixed(values[key], digits, scale) for key in ("mean", "sd", "low", "high")]
            rows.append([name, *row, values["n"]])
        records = "the same records" if found["same_records"] else "each its own records"
        columns = ["metric", "mean", "sd", "lowest", "highest", "checkpoints"]
        yield Table(f"Checkpoints, on {records}", columns, rows, found["checkpoints"])
    if pooled := found.get("pooled"):
        title = f"All folds' {console.count(pooled['n'])} records, in percent"
        yield Table(title, SCORES, [_label_row("the folds' models", pooled)])
    if paired := found.get("paired"):
        rows = [_label_row(f"{paired['second']} less {paired['first']}", paired)]
        p_value, alone = f"{paired['mcnemar_p']:.3g}", (paired["wins"], paired["losses"])
        note = f"Right by the second alone {alone[0]}, by the first alone {alone[1]}; McNemar's p "
        yield Table("Difference, in points of percent", SCORES, rows, [f"{note}{p_value}."])


def as_text(found: Sequence[Table]) -> str:
    """For the terminal."""
    notes = ["".join(f"\n{console.safe_line(note)}" for note in table.notes) for table in found]
    shown = [console.table(table.title, table.columns, table.rows) for table in found]
    return "\n\n".join(map("".join, zip(shown, notes, strict=True)))


def as_markdown(found: Sequence[Table]) -> str:
    """For Markdown with tables, as GitHub and the Hub show it; nothing in the data is markup."""
    parts = []
    for table in found:
        rule = ["---:" if right else "---" for right in table.numeric()]
        head, *body = ([*map(plain, row)] for row in (table.columns, *table.texts()))
        lines = [f"| {' | '.join(row)} |" for row in (head, rule, *body)]
        notes = [f"\n{plain(note)}" for note in table.notes]
        parts.append("\n".join([f"**{plain(table.title)}**\n", *lines, *notes]))
    return "\n\n".join(parts)


def plain(text: str) -> str:
    """`text` on one line of Markdown, nothing in it markup."""
    return MARKUP.sub(lambda found: f"{found[0][:-1]}\\{found[0][-1]}", console.safe_line(text))
