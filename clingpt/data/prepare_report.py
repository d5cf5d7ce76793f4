"""The tables and examples that prepare.py prints."""

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clingpt.base import console
from clingpt.data.columns import Columns
from clingpt.data.overlap import MEASURES, WHOLE_SHARE, Measure
from clingpt.data.pipeline import Findings, Survey, Tally
from clingpt.data.prepared import DONE, HELD_OUT, Piece, Prepared
from clingpt.data.readers.text_file import shown_name
from clingpt.data.sources import Source
from clingpt.text.documents import DocumentForm
from clingpt.text.records import LABELS, SPLITS
from clingpt.text.tasks import TASKS
from clingpt.text.tokenizer import RELEASED, Tokenizer

Rows = list[Sequence[console.Cell]]
FAR = 4  # standard deviations of a split's size
MOST_REASONS = 20  # rows of the table of dropped records
LIKENESS = {
    "same_text": "the same text",
    "near_text": "nearly the same text",
    "same_answer": "the same answer",
}

COPIED_BY: dict[Measure, str] = {
    "near": "nearly the same text",
    "target": "most of its target",
    "whole": f"more than {WHOLE_SHARE:.0%} of its own text",
    "article": "the same published article",
}
SHOWN_CHARS = 200  # of a phrase

Shown = tuple[int, Sequence[int], Sequence[int]]  # number of the task, prompt, target


def records_table(
    sources: Sequence[Source], survey: Survey, counts: Mapping[str, Any] | None = None
) -> str:
    """Count the records and labels of each split, and of each source if there are several."""
    rows: Rows = []
    several = len(sources) > 1
    grouped = bool(survey.groups)
    for number, source in enumerate(sources):
        for split in SPLITS:
            row: list[console.Cell] = [source.name, source.weight] if several else []
            row += [split, survey.records[number, split]]
            row += [survey.count_groups(number, split)] if grouped else []
            row += [survey.labels[number, split, label] for label in (*LABELS, None)]
            rows.append(row if several else [*row, counts[split]["tokens"] if counts else None])
    columns = ["split", "records", *["groups"] * grouped, *LABELS, "no label"]
    if several:
        return console.table("Records", ["source", "weight", *columns], rows)
    return console.table(f"Records of {sources[0].name}", [*columns, "tokens"], rows)


def labels_table(sources: Sequence[Source]) -> str:
    """Count what --make_labels=titles made of the titles: yes, no, and why others got no label."""
    found = sum((source.title_labels for source in sources), Counter[str]())
    rows: Rows = [[label, found.pop(label, 0)] for label in ("yes", "no")]
    rows += [[f"none: {reason}", n] for reason, n in found.most_common()]
    return console.table("Labels from titles (noisy)", ["label", "records"], rows)


def examples_table(counts: Mapping[str, Any], tally: Tally, tasks: Iterable[str]) -> str:
    """Count the examples of each task, their lengths in tokens, and what was trimmed."""
    columns = ["task", *SPLITS, "tokens, mean", "max", "> 512", "> 1024", "trimmed", "tokens cut"]
    rows: Rows = []
    for task in tasks:
        lengths = tally.lengths.get(task, Counter())
        n = lengths.total()
        rows.append(
            [task]
            + [counts[split]["examples"][task] for split in SPLITS]
            + [sum(length * times for length, times in lengths.items()) / max(n, 1)]
            + [max(lengths, default=0)]
            + [sum(t for length, t in lengths.items() if length > limit) for limit in (512, 1024)]
            + [tally.trimmed[task], tally.trimmed_tokens[task]]
        )
    return console.table("Examples", columns, rows)


def dropped_table(survey: Survey, tally: Tally) -> str | None:
    """Count the records and examples that were dropped, by reason; None if none were."""
    rows: Rows = [[*key, n] for key, n in sorted(tally.dropped.items())]
    rows += [["record", reason, n] for reason, n in survey.bad.most_common(MOST_REASONS)]
    if len(survey.bad) > MOST_REASONS:
        others = sum(n for _, n in survey.bad.most_common()[MOST_REASONS:])
        rows.append(["record", "other unusable records", others])
    return console.table("Dropped", ["task", "reason", "count"], rows) if rows else None


def headings_table(findings: Findings, form: DocumentForm) -> str | None:
    """List the headings of the training documents; None if no record comes with a document."""
    if not findings.headings:
        return None
    title = "Headings of the training documents"
    if form.window:
        title += f", asked for one by one in prompts of up to {form.window} tokens"
    rows: Rows = [[name, n] for name, n in findings.headings.items()]
    return console.table(title, ["heading", "documents"], rows)


def remarks(sources: Sequence[Source], survey: Survey, tally: Tally) -> str:
    """Describe the columns that were read and the records that were renamed or windowed."""
    lines = []
    for source in sources:
        lines += what_was_read(source)
    for number, n in survey.ungrouped.items():
        columns = sources[number].columns
        if n and columns and columns.group:
            lines.append(
                f"{console.count(n, 'record')} of {sources[number].name} without "
                f"{shown_name(columns.group)!r}: each counts as a separate group."
            )
    for number, n in survey.renamed.items():
        if n:
            lines.append(
                f"{console.count(n, 'record')} of {sources[number].name} with the id of an earlier "
                "record: renamed to id#2, id#3 and so on. Records that share an id share a split, "
                "unless a group or the source's own split says otherwise."
            )
    lines += far_from_share(sources, survey)
    if n := tally.windowed["text"]:
        lines.append(
            f"{console.count(n, 'text exceeds', 'texts exceed')} the context: split into several "
            "examples."
        )
    if n := tally.dropped["document", "target too long"]:
        lines.append(
            f"{console.count(n, 'document does', 'documents do')} not fit into one example with "
            "the notes; --long=sections writes examples section by section."
        )
    return "\n".join(lines)


def what_was_read(source: Source) -> list[str]:
    """Say what a source was taken for: its format, its columns, and what decides its splits."""
    lines = []
    if source.shape.facts:
        lines.append(f"Read {source.name} as {', '.join(source.shape.facts)}.")
    if source.columns:
        roles = source.columns.roles()
        read = ", ".join(f"{shown_name(name)!r} as {role}" for role, name in roles.items())
        lines.append(f"Columns of {source.name}: {read}.")
        lines += source.columns.notes
        lines += inputs_read(source)
        lines += html_notes(source)
        if articles := source.columns.articles:
            names = " and ".join(repr(shown_name(name)) for name in articles)
            lines.append(f"Records of one published article are recognised by their {names}.")
        if people := source.columns.people:
            names = ", ".join(repr(shown_name(name)) for name in people)
            lines.append(f"Looked for in each record's text, as identifiers: its {names}.")
        lines += split_rules(source.columns)
    if source.split_files:
        files = Counter(source.split_files.values())
        counts = ", ".join(f"{split} ({files[split]})" for split in SPLITS if files[split])
        lines.append(
            f"The splits are those in the files' names: {counts}; --split= splits by a hash."
        )
    return lines


def inputs_read(source: Source) -> list[str]:
    """Say how many records' text came from each of several columns, and how many have none."""
    assert source.columns
    lines, inputs = [], [repr(shown_name(name)) for name in source.columns.inputs]
    if source.columns.or_input:
        read = (source.cell_counts["read", name] for name in source.columns.inputs)
        counts = [f"{name} in {console.count(n)}" for name, n in zip(inputs, read, strict=True)]
        lines.append(f"Read as input, the first that is not empty: {', '.join(counts)}.")
    if n := source.cell_counts["read", ""]:
        advice = "" if source.columns.or_input else " --or_input names a column to read instead."
        lines.append(
            f"{console.count(n, 'record has', 'records have')} no text in {' or '.join(inputs)}: "
            f"questions alone.{advice}"
        )
    return lines


def html_notes(source: Source) -> list[str]:
    """Say in how many cells HTML became text."""
    return [
        f"HTML became text in {console.count(n, 'cell')} of {shown_name(column)!r}."
        for (what, column), n in source.cell_counts.items()
        if what == "html" and n
    ]


def split_rules(columns: Columns) -> list[str]:
    """Say which columns decide the splits, and how to choose otherwise."""
    lines = []
    if columns.group:
        lines.append(
            f"Records with the same {shown_name(columns.group)!r} stay in one split; --group= "
            "splits record by record."
        )
    if columns.split:
        lines.append(
            f"The splits are those of the column {shown_name(columns.split)!r}; --split= splits by "
            "a hash."
        )
    return lines


def among_groups(survey: Survey) -> str:
    """Describe the groups of the records, which explain the size of a split; "" without groups."""
    sizes = Counter[int]()
    for (group, _, _), n in survey.groups.items():
        sizes[group] += n
    if not sizes:
        return ""
    largest = console.count(max(sizes.values()))
    if len(sizes) == 1:
        return " (all in one group)"
    return f" (in {console.count(len(sizes))} groups, the largest of {largest})"


def far_from_share(sources: Sequence[Source], survey: Survey) -> list[str]:
    """Note each held-out split that is much larger or smaller than the requested share.

    A hash of single records would be this far off once in 15,000 times (four standard deviations).
    Groups make it likelier: whole patients move, not single notes.
    """
    n = survey.hashed.total()
    lines = []
    for split, share in (("val", sources[0].val_share), ("test", sources[0].test_share)):
        found = survey.hashed[split]
        if found and abs(found - n * share) > FAR * math.sqrt(n * share * (1 - share)):
            lines.append(
                f"The {split} split has {found / n:.1%} of {console.count(n, 'record')}"
                f"{among_groups(survey)} instead of {share:.1%}: groups and records that share an "
                "id or a text are never divided."
            )
    return lines


def receipt_tables(receipt: Mapping[str, Any]) -> list[str]:
    """Return the tables of a hygiene receipt: identifiers replaced and found, and duplicates."""
    splits, kinds = list(receipt["records"]), receipt["identifiers"]
    tables: list[str] = []
    if replaced := receipt["identifiers_replaced"]:
        rows: Rows = [[kind.replace("_", " "), n] for kind, n in replaced.items()]
        tables.append(console.table("Identifiers replaced", ["kind", "count"], rows))
    rows = [
        [kind.replace("_", " "), row["count"], row["records"]]
        + [row["by_split"].get(split, 0) for split in splits]
        + ["; ".join(example["masked"] for example in row["examples"])]
        for kind, row in kinds.items()
    ]
    columns = ["kind", "found", "records", *splits, "masked examples"]
    title = f"Identifiers found ({DONE[receipt['done']]})"
    tables.append(console.table(title, columns, rows))
    sources = sorted({source for row in kinds.values() for source in row["by_source"]})
    if len(sources) > 1:
        rows = [
            [kind.replace("_", " "), *(row["by_source"].get(source, 0) for source in sources)]
            for kind, row in kinds.items()
        ]
        tables.append(console.table("Identifiers by source", ["kind", *sources], rows))
    pairs = [f"train in {split}" for split in splits if split != "train"]
    rows = [
        [LIKENESS[name], row["groups"], row["records"], sum(row["surplus"].values())]
        + [row["shared_by_splits"].get(pair, 0) for pair in pairs]
        for name, row in receipt["duplicates"].items()
    ]
    columns = ["records with", "groups", "records", "repeats in a split", *pairs]
    return [*tables, console.table("Duplicates", columns, rows)]


def overlap_table(findings: Findings, *, templated: bool) -> str:
    """Count the training records that copy a held-out record, by the reason."""
    title = "Training records that copy a held-out record"
    if templated:
        title += " (templates repeat by design; test combinations, names and numbers do not)"
    rows: Rows = []
    for split in HELD_OUT:
        counts = Counter(findings.copies[split].values())
        rows.append([split, counts.total(), *(counts[measure] for measure in MEASURES)])
    table = console.table(title, ["of", "records", *(COPIED_BY[each] for each in MEASURES)], rows)
    if findings.compared_by_text:
        table += (
            f"\nCompared only by text: {', '.join(findings.compared_by_text)}. The held-out "
            "records there name no article, or an earlier version of prepare.py wrote the folder."
        )
    return table


def reasons_for_copies(copies: Mapping[str, Measure]) -> str:
    """Count copies by their reason, for a message."""
    counts = Counter(copies.values())
    return ", ".join(
        f"{console.count(counts[each])} with {COPIED_BY[each]}" for each in MEASURES if counts[each]
    )


def boilerplate_table(findings: Findings) -> str | None:
    """Show the commonest shared phrases, which count for little as overlap; None without any."""
    rows: Rows = [
        [n, text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS].rsplit(" ", 1)[0] + " …"]
        for n, text in findings.boilerplate
    ]
    title = "Boilerplate: phrases that many records share are not taken for copies"
    return console.table(title, ["records", "phrase"], rows) if rows else None


def vocabulary_line(tokenizer: Tokenizer, wanted: int) -> str:
    """Return the line that says what was trained by --train_tokenizer."""
    fewer = ""
    if tokenizer.size < wanted:
        fewer = f", fewer than {console.count(wanted)}, because no other pair of them occurs twice"
    return f"Trained a tokenizer of {console.count(tokenizer.size)} tokens on train{fewer}."


def next_line(folder: Path, source: str, tasks: Sequence[str], init_from: str) -> str:
    """Return the line that names the folder and the command that trains on it."""
    if source == "pqa_artificial":
        preset, usual = "pubmedqa_artificial", "pqa_artificial"
    elif source == "synthetic":
        preset = usual = "quickstart"
    else:
        preset = usual = "domain" if list(tasks) == ["text"] else "pubmedqa"
    # The preset's own run folder is for the preset's own data.
    is_usual = folder == Path("data") / usual
    flags = [] if is_usual else [f"--data={folder}", f"--out={Path('out') / folder.name}"]
    if init_from not in RELEASED and preset != "quickstart":  # the other presets start from GPT-2
        flags.append(f"--init_from={init_from}")
    command = console.command("train.py", f"config/{preset}.py", *flags)
    return f"\nWrote {folder}. Next:  {command}"


def written_examples(prepared: Prepared, n: int) -> list[Shown]:
    """Read the first training example of each task from the prepared folder."""
    train = prepared.split("train")
    _, first = np.unique(train.index[:, 3], return_index=True)
    examples = [(int(row[3]), train.example(row)) for row in train.index[first][:n]]
    return [(task, example.prompt_ids, example.target_ids) for task, example in examples]


def unwritten_examples(pieces: Iterable[Piece], n: int) -> list[Shown]:
    """Return the first example of each task from pieces that were not written."""
    found: dict[int, Shown] = {}
    for piece in pieces:
        for tokens, (start, target, _, task, _) in zip(piece.tokens, piece.rows, strict=True):
            ids = array("H", tokens).tolist()
            found.setdefault(task, (task, ids[: target - start], ids[target - start :]))
    return [found[task] for task in sorted(found)][:n]


def example_text(shown: Shown, tokenizer: Tokenizer, *, colour: bool, masked: bool) -> str:
    """Render an example with its target tokens marked, safe for a terminal."""
    task, *sides = shown
    how = "green" if colour else "in [[brackets]]"
    prompt, target = (
        console.mark(tokenizer.decode(ids), trained=trained, colour=colour)
        for ids, trained in zip(sides, (False, True), strict=True)
    )
    privacy = "the identifiers that were found are masked, " if masked else ""
    return f"\nAn example of {TASKS[task]}; {privacy}its target is {how}:\n{prompt}{target}"
