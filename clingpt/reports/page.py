"""A report as one HTML file: no script, nothing from outside, and all data is text.

What a record or a model says may look like markup, so that every string passes _text(). A browser
is told the same by the Content-Security-Policy. What the tables and plots hold is
clingpt/reports/tables.py and clingpt/reports/plots.py."""

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clingpt.base import console
from clingpt.reports import plots
from clingpt.reports.tables import Table, between, fixed, percent, tables

DISCLAIMER = "Not intended to inform diagnosis, treatment or patient management."
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
EXAMPLES = 20
PLOTS = (
    (plots.reliability, "How often labels are right, by their calibrated probability."),
    (plots.risk_coverage, "What is wrong among the surest records; the rest is left unanswered."),
    (plots.confusion, "What the model said of each true label: records, and percent of the row."),
    (plots.curve, "Losses of the run up to this checkpoint; training smoothed."),
)

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1b1f24; --soft: #57606a;
  --line: #d0d7de; --panel: #f6f8fa; --mark: #ffe08a; --bar: #2f7ed8; }
@media screen and (prefers-color-scheme: dark) { :root { --ground: #14171a; --ink: #e6e8ea;
  --soft: #a3acb5; --line: #3a4048; --panel: #1d2125; --mark: #6b4e00; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 76rem; background: var(--ground);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 1rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 0; }
h4, dt, caption small, .note { color: var(--soft); font-size: .85rem; font-weight: normal; }
h4, dl, dd, figure { margin: 0; }
.note { margin: .2rem 0 0; }
.warning { border-left: .3rem solid #d9730d; padding: .5rem 1rem; background: var(--panel);
  font-weight: 600; }
.facts, .tiles { display: grid; gap: .75rem 1.5rem;
  grid-template-columns: repeat(auto-fill, minmax(min(14rem, 100%), 1fr)); }
.tiles > div { background: var(--panel); border: 1px solid var(--line); border-radius: .4rem;
  padding: .6rem .9rem; }
.tiles dd strong { font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.tiles small { display: block; color: var(--soft); }
.plots { display: grid; gap: 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); }
.plots svg { display: block; width: 100%; max-width: 36rem; height: auto; }
.wide { overflow-x: auto; margin-top: 1.75rem; }
table { border-collapse: collapse; font-size: .9rem; overflow-wrap: normal; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { padding: .3rem .7rem; text-align: left; font-weight: normal; vertical-align: top;
  border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; }
thead th { color: var(--soft); vertical-align: bottom; border-bottom-width: 2px; }
.right { text-align: right; }
td.right { white-space: nowrap; }
article { border: 1px solid var(--line); border-radius: .4rem; padding: .9rem; margin: 1rem 0; }
.sides { display: grid; gap: 1rem; margin-top: .6rem;
  grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); }
.said { white-space: pre-wrap; margin: 0; font: inherit; }
details { margin-top: .6rem; }
summary { cursor: pointer; color: var(--soft); font-size: .85rem; }
mark { background: var(--mark); color: inherit; border-bottom: 2px solid #d9730d; }
.bars { display: grid; grid-template-columns: auto minmax(4rem, 14rem) auto; gap: .1rem .6rem;
  align-items: center; justify-content: start; margin-top: .6rem; font-size: .85rem; }
.bars i { display: block; height: .6rem; background: var(--bar); }
.bars i, mark { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.bars span:nth-child(3n + 2) { background: var(--line); }
@media print { :root { color-scheme: light; font-size: 9pt; } body { max-width: none; padding: 0; }
  .wide { overflow: visible; break-after: avoid; }
  table { font-size: 7.5pt; overflow-wrap: anywhere; }
  th, td { padding: .15rem .4rem; } .plots, .sides { grid-template-columns: 1fr 1fr; }
  article, figure, .wide, .tiles > div, .warning { break-inside: avoid; }
  h2, h3, caption, thead { break-after: avoid; } }
"""


def page(report: Mapping[str, Any]) -> str:
    """The whole file; the same report gives the same bytes."""
    title = _text(f"Evaluation of {report['checkpoint']}")
    drawn = [(draw(report), caption) for draw, caption in PLOTS]
    figures = [
        f'<figure>{svg}<figcaption class="note">{caption}</figcaption></figure>'
        for svg, caption in drawn
        if svg
    ]
    sections = {
        "At a glance": _list("tiles", map(_tile, _headline(report))),
        "Plots": f'<div class="plots">{"".join(figures)}</div>' if figures else "",
        "Tables": "".join(map(_table, tables(report))),
        "Examples": "".join(map(_example, (report.get("examples") or [])[:EXAMPLES])),
        "Settings and versions": "".join(map(_table, _settings(report))),
    }
    body = "".join(
        f"<section><h2>{name}</h2>{inside}</section>\n"
        for name, inside in sections.items()
        if inside
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p class="warning">{DISCLAIMER}</p>
{_list("facts", map(_fact, _facts(report)))}
</header>
<main>
{body}</main>
</body>
</html>
"""


def _text(value: object) -> str:
    """Any value as text of the page, in an element or a quoted attribute."""
    return html.escape(console.visible(str(value)))


def _note(sentence: str) -> str:
    return f'<p class="note">{_text(sentence)}</p>' if sentence else ""


def _facts(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    data, look = report["data"], report.get("look")
    if report.get("step") is not None:
        yield "Step", console.count(report["step"])
    yield "Parameters", console.count(report["parameters"])
    yield "Data", data["name"]
    yield "Folder", f"{data['folder']}, fingerprint {data['fingerprint'][:12]}"
    yield "Split", report["split"]
    yield "Setting", report["setting"]
    if look is not None:
        yield "Looks at the test split", f"{look}, counted for this run"


def _fact(pair: tuple[str, str]) -> str:
    return f"<div><dt>{_text(pair[0])}</dt><dd>{_text(pair[1])}</dd></div>"


def _headline(report: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, figure, and what to read it beside."""
    if labels := report.get("labels"):
        *others, model = labels["systems"].values()
        for key, name in (("accuracy", "Accuracy"), ("macro_f1", "Macro-F1")):
            best = max((other[key] for other in others), default=None)
            around = between(model.get(f"{key}_interval"), 100)
            yield (
                name,
                f"{percent(model[key])} %",
                f"95 %: {around}; best baseline: {percent(best)}",
            )
    if found := report.get("calibration"):
        raw, after = (fixed(found[key]["ece"], 3) for key in ("raw", "calibrated"))
        yield "Calibration error (ECE)", after, f"before calibration: {raw}"
        answered, right = percent(1 - found["abstained"]), percent(found["accuracy_kept"])
        yield "Answered at the threshold", f"{answered} %", f"accuracy of these: {right} %"
    for task, entry in (report.get("texts") or {}).items():
        *others, model = (one for one in entry["systems"].values() if "rouge" in one)
        best = max((other["rouge"]["rougeL"] for other in others), default=None)
        around = f"95 %: {between(model.get('rougeL_interval'))}"
        around += f"; best copy: {fixed(best)}" if others else ""
        yield f"{task}: ROUGE-L", fixed(model["rouge"]["rougeL"]), around
        people = (entry["systems"].get("reference") or {}).get("faithfulness") or {}
        if faithful := model.get("faithfulness"):
            beside = f"of the references: {percent(people.get('flagged'))} %"
            yield f"{task}: flagged", f"{percent(faithful['flagged'])} %", beside
    for name, entry in (report.get("perplexity") or {}).items():
        nats = f"perplexity {fixed(entry['text']['token_perplexity'], 2)} a token"
        yield f"{name}: bits per byte", fixed(entry["text"]["bits_per_byte"], 4), nats


def _tile(figure: tuple[str, str, str]) -> str:
    name, value, beside = map(_text, figure)
    return f"<div><dt>{name}</dt><dd><strong>{value}</strong><small>{beside}</small></dd></div>"


def _list(kind: str, items: Iterator[str]) -> str:
    inside = "".join(items)
    return f'<dl class="{kind}">{inside}</dl>' if inside else ""


def _settings(report: Mapping[str, Any]) -> Iterator[Table]:
    for name in ("settings", "versions"):
        if values := report.get(name):
            shown = {key: _setting(value) for key, value in values.items()}
            yield Table(name.title(), ["name", "value"], list(shown.items()))


def _setting(value: object) -> str:
    listed = value if isinstance(value, list) else [value]
    return ", ".join("–" if one is None else str(one) for one in listed)


def _table(table: Table) -> str:
    """A table that scrolls inside itself; its first column names the rows where it is words."""
    numeric = table.numeric()
    classes = [' class="right"' if right else "" for right in numeric]
    head = "".join(
        f'<th scope="col"{kind}>{_text(name)}</th>'
        for name, kind in zip(table.columns, classes, strict=True)
    )
    rows = []
    for texts in table.texts():
        cells = [f"<td{kind}>{_text(x)}</td>" for x, kind in zip(texts, classes, strict=True)]
        if not numeric[0]:
            cells[0] = f'<th scope="row">{_text(texts[0])}</th>'
        rows.append(f"<tr>{''.join(cells)}</tr>\n")
    notes = "".join(map(_note, table.notes))
    title = _text(table.title)
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{title}"><table>'
        f"<caption>{title}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{''.join(rows)}</tbody></table></div>{notes}\n"
    )


def _example(example: Mapping[str, Any]) -> str:
    flags = example.get("flags") or []
    flagged = "; ".join(f"{flag['kind']} “{flag['text']}”" for flag in flags)
    sides = [
        ("Reference", _text(example["reference"]), ""),
        ("Output", _marked(example["output"], flags), f"Flagged: {flagged}" if flagged else ""),
    ]
    shown = "".join(
        f'<div><h4>{name}</h4><p class="said">{said}</p>{_note(note)}</div>'
        for name, said, note in sides
    )
    prompt = f'<pre class="said">{_text(example["prompt"])}</pre>'
    return (
        f"<article><h3>{_text(example['task'])}, {_text(example['id'])}</h3>"
        f"{_note('; '.join(_status(example)))}"
        f"<details><summary>Prompt</summary>{prompt}</details>"
        f'<div class="sides">{shown}</div>{_bars(example)}</article>\n'
    )


def _status(example: Mapping[str, Any]) -> Iterator[str]:
    label, gold = example.get("label"), example.get("gold")
    if label is not None:
        verdict = "" if gold is None else ", right" if label == gold else f", wrong: it is {gold}"
        yield f"label scored highest: {label}{verdict}"
    if example.get("abstained"):
        yield "below the threshold, so withheld"
    if example["finish_reason"] == "length":
        yield "stopped at the limit"
    if not example.get("compared", True):
        yield "no context, so nothing to compare the output with"
    if example["trimmed_tokens"]:
        yield f"prompt trimmed by {console.count(example['trimmed_tokens'])} tokens"


def _marked(output: str, flags: Sequence[Mapping[str, Any]]) -> str:
    """The output with what is flagged marked; a piece under several flags carries all kinds."""
    borders = sorted({0, len(output), *(flag[key] for flag in flags for key in ("start", "end"))})
    pieces = []
    for start, end in zip(borders, borders[1:], strict=False):
        kinds = [flag["kind"] for flag in flags if flag["start"] <= start and end <= flag["end"]]
        piece = _text(output[start:end])
        title = _text(", ".join(kinds))
        pieces.append(f'<mark title="{title}">{piece}</mark>' if kinds else piece)
    return "".join(pieces)


def _bars(example: Mapping[str, Any]) -> str:
    """A label's name, its probability as a bar, and as a number."""
    shares = example.get("probabilities") or {}
    rows = [
        f"<span>{_text(label)}</span>"
        f'<span><i style="width:{100 * share:.1f}%"></i></span><span>{percent(share)} %</span>'
        for label, share in shares.items()
    ]
    return f'<div class="bars">{"".join(rows)}</div>' if rows else ""
