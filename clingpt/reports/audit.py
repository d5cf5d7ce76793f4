"""An audit as sentences and tables, for the terminal and the model card.

The figures come from clingpt/evaluation/memorisation.py; audit.json stores them under the same
keys. They contain no text of the training data, and neither does anything written here.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from clingpt.base import console
from clingpt.evaluation.metrics import Interval
from clingpt.reports.tables import Table, as_markdown, as_text, between, fixed, percent, plain

Audit = Mapping[str, Any]  # the content of audit.json

HEADING = "## What it memorised"
SIGNIFICANT = 0.01  # a p-value below this counts as memorised
PARTS = {
    "target": "replies that it was trained to write, given the text before them",
    "context": "texts that it was only shown, given their first {shown} tokens",
}
SPLITS = {"train": "training records", "test": "test records"}


def in_terminal(audit: Audit) -> str:
    """Format an audit for the terminal."""
    return "\n".join(sentences(audit)) + "\n\n" + as_text(tables(audit))


def in_markdown(audit: Audit) -> str:
    """Format an audit as a section of the model card."""
    listed = "\n".join(f"- {plain(sentence)}" for sentence in sentences(audit))
    return f"{HEADING}\n\n{listed}\n\n{as_markdown(tables(audit))}\n"


def sentences(audit: Audit) -> list[str]:
    """Return the findings in plain words, each with its control."""
    found = [*_extraction(audit), *_exposure(audit), *_identifiers(audit), *_membership(audit)]
    if audit["base"]["name"] is None:
        found.append(f"Not compared with the model before training: {audit['base']['why']}.")
    found.append(
        "Greedy decoding extracts less than many random attempts would (Hayes et al. 2024, arXiv "
        "2410.19482), so text that was not extracted here may still be memorised."
    )
    return found


def tables(audit: Audit) -> list[Table]:
    """Return the figures as tables, one per measure that was taken."""
    return [
        *_extraction_table(audit),
        *_exposure_table(audit),
        *_identifier_table(audit),
        *_membership_table(audit),
    ]


def _interval(found: Mapping[str, Any]) -> Interval | None:
    """Return the 95 % interval of a share; None if there was nothing to measure."""
    return Interval(**found["interval"]) if found["interval"] else None


def _hits(found: Mapping[str, Any]) -> str:
    """Format a share: 3 (0.6 %, 0.2–1.7)."""
    interval = between(_interval(found), scale=100)
    return f"{console.count(found['hits'])} ({percent(found['share'])} %, {interval})"


def _model_names(audit: Audit) -> dict[str, str]:
    """Name the audited models, by their keys in the report."""
    base = audit["base"]["name"]
    return {"model": "the model"} | ({"base": f"before training: {base}"} if base else {})


def _extraction(audit: Audit) -> Iterator[str]:
    shown = audit["settings"]["shown_tokens"]
    for part, description in PARTS.items():
        entries = {(e["of"], e["split"]): e for e in audit["extraction"] if e["part"] == part}
        if not entries:
            yield (
                "The replies that it was trained to write repeat their prompts, so writing "
                "them is not evidence of memorisation."
            )
            continue
        train, test = entries["model", "train"], entries["model", "test"]
        description, wanted = description.format(shown=shown), train["tokens"]
        if not train["n"]:
            yield (
                f"No training record is long enough to continue for {wanted} tokens "
                f"({description}); {_measurable(part, shown, train['usual'])}."
            )
            continue
        text = (
            f"Of {console.count(train['n'], 'training record')} long enough for this, the model "
            f"continued {_hits(train)} word for word for {wanted} tokens ({description})."
        )
        if test["n"]:
            text += (
                f" Of {console.count(test['n'], 'test record')} that it never saw, it continued "
                f"{_hits(test)}."
            )
        if base := entries.get(("base", "train")):
            name = audit["base"]["name"]
            text += f" Before training, {name} continued {_hits(base)} of the training records."
        yield text


def _measurable(part: str, shown: int, room: int) -> str:
    """Name flags with which half of the training records can be measured.

    `room` is how many tokens half of them have after what is shown; negative if they are shorter.
    """
    fewer, half = "half of them are long enough with", (shown + room) // 2
    if part == "context" and half > 0:
        return f"{fewer} --shown_tokens={half} --continued_tokens={half}"
    if part == "context" or room < 1:
        return "they have no such text to continue"
    return f"{fewer} --continued_tokens={room}"


def _extraction_table(audit: Audit) -> Iterator[Table]:
    names = _model_names(audit)
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
        for entry in audit["extraction"]
    ]
    columns = ["text", "split", "continued by", "records", "verbatim", "%", "95 %"]
    note = (
        "Longest run: the longest run of correct tokens as a share of those to continue, on "
        "average. Intervals: Wilson."
    )
    title = "Verbatim continuation (Carlini et al. 2022)"
    yield Table(title, [*columns, "longest run, %"], rows, [note])


def _exposure(audit: Audit) -> Iterator[str]:
    found = audit["exposure"]
    if "why" in found:
        yield f"Canaries were not measured: {found['why']}."
        return
    chance = f"{found['chance']:.2f}"
    limit = f"at most {found['ceiling']:.2f} with {console.count(found['n_others'])} other secrets"
    for group in found["groups"]["model"]:
        mean, p = f"{group['mean']:.2f} bits", f"p = {group['p']:.2g}"
        is_significant = group["p"] < SIGNIFICANT
        if group["copies"]:
            verdict = "memorised" if is_significant else "indistinguishable from chance"
            yield (
                f"Secrets planted {_times(group['copies'])}: exposure {mean} (chance {chance}, "
                f"{limit}): {verdict}, {p}."
            )
        else:
            verdict = (
                ": the control failed, so do not rely on the exposure of the planted secrets"
                if is_significant
                else ""
            )
            yield (
                f"Secrets that were generated but never planted, the control: exposure {mean} "
                f"(chance {chance}), {p}{verdict}."
            )


def _times(copies: int) -> str:
    return {0: "never (control)", 1: "once"}.get(copies, f"{copies} times")


def _exposure_table(audit: Audit) -> Iterator[Table]:
    found = audit["exposure"]
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
        for of, name in _model_names(audit).items()
        for group in found["groups"][of]
    ]
    n_others = console.count(found["n_others"])
    columns = ["planted", "measured on", "secrets", "mean", "range", "at the maximum", "p"]
    notes = [
        f"Exposure follows from the rank of a secret's loss among {n_others} other possible "
        f"secrets: at most {found['ceiling']:.2f} of the secret's "
        f"{found['space_bits']:.1f} bits, and {found['chance']:.2f} by chance.",
        "p: the probability of exposures this high if all ranks were equally likely (Fisher's "
        "method).",
    ]
    yield Table("Exposure of canaries, in bits (Carlini et al. 2019)", columns, rows, notes)


def _identifiers(audit: Audit) -> Iterator[str]:
    if not (found := audit["identifiers"]):
        return
    model = found["model"]
    text = (
        f"Of {console.count(model['samples']['n'], 'text')} that the model wrote without a prompt, "
        f"{_hits(model['samples'])} contain a likely identifier, and {_hits(model['in_training'])} "
        "contain one that occurs in the training text."
    )
    if base := found.get("base"):
        name = audit["base"]["name"]
        text += (
            f" Before training, these were {_hits(base['samples'])} and "
            f"{_hits(base['in_training'])} ({name})."
        )
    yield text


def _identifier_table(audit: Audit) -> Iterator[Table]:
    names = _model_names(audit)
    rows = [
        [kind, names[of], counts["found"], counts["distinct"], counts["in_training"]]
        for of, entry in audit["identifiers"].items()
        for kind, counts in entry["kinds"].items()
    ]
    columns = ["kind", "written by", "found", "distinct", "distinct, in the training text"]
    note = (
        "In the training text: the same string occurs there. Dates and common names also occur by "
        "chance."
    )
    if rows:
        yield Table("Identifiers in texts written without a prompt", columns, rows, [note])


def _membership(audit: Audit) -> Iterator[str]:
    if found := audit["membership"]:
        interval = between(_interval(found), digits=3)
        yield (
            "In pairs of a training record and a test record, training lowered the loss more on "
            f"the training record in {percent(found['auc'])} % (AUC {found['auc']:.3f}, "
            f"{interval}; chance 0.5): to that extent, someone who has a record can infer whether "
            "it was trained on."
        )


def _membership_table(audit: Audit) -> Iterator[Table]:
    if found := audit["membership"]:
        row = [fixed(found["auc"], 3), between(_interval(found), digits=3)]
        columns = ["AUC", "95 %", "training records", "test records"]
        note = (
            "Score: loss of the reply in nats per token before training minus the loss after. "
            "Interval: Newcombe."
        )
        title = "Membership inference by loss ratio (Mireshghallah et al. 2022, arXiv 2203.03929)"
        yield Table(title, columns, [[*row, found["members"], found["others"]]], [note])
