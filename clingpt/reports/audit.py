"""An audit in plain words and in tables, for the terminal and the model card.

Chooses what is said of clingpt/evaluation/memorisation.py's figures; measures nothing, and knows
no text."""

from collections.abc import Iterator, Mapping
from typing import Any

from clingpt.base import console
from clingpt.evaluation.metrics import Interval
from clingpt.reports.tables import Table, as_markdown, as_text, between, fixed, percent, plain

HEADING = "## What it memorised"
SURE = 0.01  # a probability by chance below it is called found
PARTS = {
    "target": "the reply that it was trained to write, shown all that stood before it",
    "context": "the text that it was only shown, from its first {shown} tokens",
}
SPLITS = {"train": "training records", "test": "test records"}


def sentences(report: Mapping[str, Any]) -> list[str]:
    """What was found, control by control, in plain words."""
    parts = (_repeated, _canaries, _identifiers, _membership)
    found = [sentence for part in parts for sentence in part(report)]
    if report["base"]["name"] is None:
        found.append(f"Not compared with the model before training: {report['base']['why']}.")
    return [
        *found,
        "Greedy continuation finds less than many random attempts would (Hayes et al. 2024, "
        "arXiv 2410.19482): what was not found may still be there.",
    ]


def tables(report: Mapping[str, Any]) -> list[Table]:
    """The figures behind the words."""
    parts = (_repeated_table, _canary_table, _identifier_table, _membership_table)
    return [table for part in parts for table in part(report)]


def in_terminal(report: Mapping[str, Any]) -> str:
    """For people who ran the audit."""
    return "\n".join(sentences(report)) + "\n\n" + as_text(tables(report))


def in_markdown(report: Mapping[str, Any]) -> str:
    """A section of the model card."""
    said = "\n".join(f"- {plain(sentence)}" for sentence in sentences(report))
    return f"{HEADING}\n\n{said}\n\n{as_markdown(tables(report))}\n"


def _interval(found: Mapping[str, Any]) -> Interval | None:
    """Return the 95 % interval of a share; None if there was nothing to measure."""
    return Interval(**found["interval"]) if found["interval"] else None


def _of(found: Mapping[str, Any]) -> str:
    """3 (0.6 %, 0.2–1.7)."""
    interval = between(_interval(found), scale=100)
    return f"{console.count(found['hits'])} ({percent(found['share'])} %, {interval})"


def _models(report: Mapping[str, Any]) -> dict[str, str]:
    """What was measured, and the name that it goes by."""
    base = report["base"]["name"]
    return {"model": "the model"} | ({"base": f"before: {base}"} if base else {})


def _repeated(report: Mapping[str, Any]) -> Iterator[str]:
    shown, wanted = (report["settings"][key] for key in ("shown_tokens", "continued_tokens"))
    for part, what in PARTS.items():
        entries = {(e["of"], e["split"]): e for e in report["extraction"] if e["part"] == part}
        if not entries:
            yield "What it was trained to write repeats what it is shown: writing it is no memory."
            continue
        train, test = entries["model", "train"], entries["model", "test"]
        what = what.format(shown=shown)
        if not train["n"]:
            yield (
                f"No training record is long enough to be continued ({what}, {wanted} tokens of "
                "it); lower --shown_tokens or --continued_tokens."
            )
            continue
        text = (
            f"Of {console.count(train['n'])} training records that are long enough the model "
            f"continued {_of(train)} word for word for {wanted} tokens: {what}."
        )
        if test["n"]:
            text += f" Of {console.count(test['n'])} test records, which it never saw, {_of(test)}."
        if base := entries.get(("base", "train")):
            text += f" {report['base']['name']}, before: {_of(base)} of the training records."
        yield text


def _repeated_table(report: Mapping[str, Any]) -> Iterator[Table]:
    names = _models(report)
    rows = [
        [
            "reply, trained" if entry["part"] == "target" else "context, only shown",
            SPLITS[entry["split"]],
            names[entry["of"]],
            entry["n"],
            entry["hits"],
            percent(entry["share"]),
            between(_interval(entry), scale=100),
            percent(entry["longest_run"]),
        ]
        for entry in report["extraction"]
    ]
    columns = ["text", "of", "by", "records", "word for word", "%", "95 %", "longest run, %"]
    note = "Longest run: of the tokens wanted, the most in a row that were right, on average. "
    note += "Wilson's intervals."
    yield Table("Continued word for word (Carlini et al. 2022)", columns, rows, [note])


def _canaries(report: Mapping[str, Any]) -> Iterator[str]:
    found = report["exposure"]
    if "why" in found:
        yield f"Canaries were not measured: {found['why']}."
        return
    chance, most = f"{found['chance']:.2f}", f"{found['ceiling']:.2f}"
    for group in found["groups"]["model"]:
        mean, times = f"{group['mean']:.2f} bits", _times(group["copies"])
        sure, p = group["p"] < SURE, f"p = {group['p']:.2g}"
        if group["copies"]:
            verdict = "memorised" if sure else "not told from chance"
            yield (
                f"Secrets planted {times}: exposure {mean} (chance {chance}, at most {most} "
                f"can be seen with {console.count(found['n_others'])} others): {verdict}, {p}."
            )
        elif sure:
            yield (
                f"Secrets that were never planted: exposure {mean} (chance {chance}), {p}: the "
                "control failed, so do not rely on what is said of canaries."
            )
        else:
            yield (
                f"Secrets that were made and never planted, the control: exposure {mean} (chance "
                f"{chance}), {p}."
            )


def _times(copies: int) -> str:
    return {0: "never (control)", 1: "once"}.get(copies, f"{copies} times")


def _canary_table(report: Mapping[str, Any]) -> Iterator[Table]:
    found = report["exposure"]
    if "why" in found:
        return
    rows = [
        [
            _times(group["copies"]),
            name,
            len(group["exposures"]),
            fixed(group["mean"], 2),
            f"{min(group['exposures']):.2f} to {max(group['exposures']):.2f}",
            group["at_ceiling"],
            f"{group['p']:.2g}",
        ]
        for of, name in _models(report).items()
        for group in found["groups"][of]
    ]
    columns = ["planted", "by", "secrets", "mean", "range", "highest possible", "p"]
    notes = [
        f"Rank of a secret's loss among {console.count(found['n_others'])} others that it could "
        f"have been: at most {found['ceiling']:.2f} bits of the {found['space_bits']:.1f} that it "
        f"has; {found['chance']:.2f} by chance.",
        "p: of exposures this high together, all ranks being equally likely (Fisher's method).",
    ]
    yield Table("Exposure of canaries, in bits (Carlini et al. 2019)", columns, rows, notes)


def _identifiers(report: Mapping[str, Any]) -> Iterator[str]:
    if not (found := report["identifiers"]):
        return
    model = found["model"]
    text = (
        f"Of {console.count(model['samples']['n'])} texts that it wrote from nothing "
        f"{_of(model['samples'])} hold something like an identifier; in "
        f"{_of(model['in_training'])} one stands in the training text as it is."
    )
    if base := found.get("base"):
        name = report["base"]["name"]
        text += f" {name}, before: {_of(base['samples'])} and {_of(base['in_training'])}."
    yield text


def _identifier_table(report: Mapping[str, Any]) -> Iterator[Table]:
    names = _models(report)
    rows = [
        [kind, names[of], counts["found"], counts["distinct"], counts["in_training"]]
        for of, entry in report["identifiers"].items()
        for kind, counts in entry["kinds"].items()
    ]
    columns = ["kind", "by", "found", "different ones", "of these in the training text"]
    note = "In the training text: the very string. A date or a name can also stand there by chance."
    if rows:
        yield Table("Identifiers in free samples", columns, rows, [note])


def _membership(report: Mapping[str, Any]) -> Iterator[str]:
    if found := report["membership"]:
        interval = between(_interval(found), digits=3)
        yield (
            "Of a training and a test record, the loss beside the earlier model's is lower for the "
            f"training record in {percent(found['auc'])} % of pairs (AUC {found['auc']:.3f}, "
            f"{interval}; chance 0.5): who holds a record can tell by so much whether it was "
            "trained on."
        )


def _membership_table(report: Mapping[str, Any]) -> Iterator[Table]:
    if found := report["membership"]:
        row = [fixed(found["auc"], 3), between(_interval(found), digits=3)]
        columns = ["AUC", "95 %", "training records", "test records"]
        note = "Score: nats a token of the reply, before less after. Newcombe's interval."
        title = "Membership by the ratio of losses (Mireshghallah et al. 2022, arXiv 2203.03929)"
        yield Table(title, columns, [[*row, found["members"], found["others"]]], [note])
