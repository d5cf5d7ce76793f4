"""What prepare.py says of its work, as tables and examples for people to read."""

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from clingpt.base import console
from clingpt.data import hygiene
from clingpt.data.examples import Tally
from clingpt.data.inspection import Findings, Survey
from clingpt.data.mixture import Part
from clingpt.data.prepared import HELD_OUT, Piece, Prepared
from clingpt.text.records import LABELS, SPLITS
from clingpt.text.tasks import TASKS
from clingpt.text.tokenizer import Tokenizer

Rows = list[Sequence[console.Cell]]
MOST_REASONS = 20  # why records could not be used

Shown = tuple[int, Sequence[int], Sequence[int]]  # number of the task, prompt, target


def records_table(
    parts: Sequence[Part], survey: Survey, counts: Mapping[str, Any] | None = None
) -> str:
    """Records and labels of each split, of each source where there are several."""
    rows: Rows = []
    several = len(parts) > 1
    for number, part in enumerate(parts):
        for split in SPLITS:
            row: list[console.Cell] = [part.name, part.weight] if several else []
            row += [split, survey.records[number, split]]
            row += [survey.labels[number, split, label] for label in (*LABELS, None)]
            rows.append(row if several else [*row, counts[split]["tokens"] if counts else None])
    columns = ["split", "records", *LABELS, "no label"]
    if several:
        return console.table("Records", ["source", "weight", *columns], rows)
    return console.table(f"Records of {parts[0].name}", [*columns, "tokens"], rows)


def examples_table(counts: Mapping[str, Any], tally: Tally, tasks: Iterable[str]) -> str:
    """How many examples of each task, how long, and what was cut."""
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
    """What is not there, and why; None where all is."""
    rows: Rows = [[*key, n] for key, n in sorted(tally.dropped.items())]
    rows += [["record", reason, n] for reason, n in survey.bad.most_common(MOST_REASONS)]
    if len(survey.bad) > MOST_REASONS:
        others = sum(n for _, n in survey.bad.most_common()[MOST_REASONS:])
        rows.append(["record", "others that could not be used", others])
    return console.table("Dropped", ["task", "reason", "count"], rows) if rows else None


def remarks(parts: Sequence[Part], survey: Survey, tally: Tally) -> str:
    """What else there is to know of the records, a line each."""
    lines = []
    for part in parts:
        if part.columns:
            roles = {role: name for role, name in asdict(part.columns).items() if name is not None}
            read = ", ".join(f"{name!r} as {role}" for role, name in roles.items())
            lines.append(f"Of {part.name} was read: {read}.")
    for number, n in survey.renamed.items():
        if n:
            lines.append(
                f"{console.count(n)} records of {parts[number].name} have an id that stood before: "
                "they have #2, #3 … behind it, and are in the split of the first."
            )
    if n := tally.windowed["text"]:
        lines.append(f"{console.count(n)} texts exceed the context and became several examples.")
    return "\n".join(lines)


def receipt_tables(findings: Findings) -> list[str]:
    """What the hygiene receipt says."""
    return [console.table(*table) for table in hygiene.tables(findings.receipt)]


def overlap_table(tally: Tally, findings: Findings, *, templated: bool) -> str:
    """Training records that stand in val or test as well, or share text with them."""
    title = "Overlap, in training records"
    if templated:
        title += " (templates repeat by nature; test combinations, names and numbers do not)"
    rows: Rows = [
        [f"train and {split}", len(findings.copies[split]), tally.sharing[split]]
        for split in HELD_OUT
    ]
    return console.table(title, ["splits", "nearly the same text", "a run of 13 words"], rows)


def next_line(folder: Path, source: str, tasks: Sequence[str]) -> str:
    """What was written, and the command that trains on it; a subset of the Hub is a source."""
    if source == "pqa_artificial":
        preset, usual = "pubmedqa_artificial", "pqa_artificial"
    elif source == "synthetic":
        preset = usual = "quickstart"
    else:
        preset = usual = "domain" if list(tasks) == ["text"] else "pubmedqa"
    flag = "" if folder == Path("data") / usual else f" --data={folder}"
    return f"\nWrote {folder}. Next:  python train.py config/{preset}.py{flag}"


def written_examples(prepared: Prepared, n: int) -> list[Shown]:
    """The first training example of each task, from the files."""
    train = prepared.split("train")
    _, first = np.unique(train.index[:, 3], return_index=True)
    examples = [(int(row[3]), train.example(row)) for row in train.index[first][:n]]
    return [(task, example.prompt_ids, example.target_ids) for task, example in examples]


def made_examples(pieces: Iterable[Piece], n: int) -> list[Shown]:
    """The same from pieces that nobody has written."""
    found: dict[int, Shown] = {}
    for piece in pieces:
        for tokens, (start, target, _, task, _) in zip(piece.tokens, piece.rows, strict=True):
            ids = array("H", tokens).tolist()
            found.setdefault(task, (task, ids[: target - start], ids[target - start :]))
    return [found[task] for task in sorted(found)][:n]


def example_text(shown: Shown, tokenizer: Tokenizer, *, colour: bool) -> str:
    """An example, trained tokens marked off; already safe for a terminal."""
    task, *sides = shown
    how = "green" if colour else "in [[brackets]]"
    prompt, target = (
        console.mark(tokenizer.decode(ids), trained=trained, colour=colour)
        for ids, trained in zip(sides, (False, True), strict=True)
    )
    head = f"\nAn example of {TASKS[task]}; what the model is trained to write is {how}:\n"
    return head + prompt + target
