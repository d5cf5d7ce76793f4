"""Feed prepare.py mutated inputs of every format; for tests/commands/test_prepare_fuzz.py.

    python tests/helpers/fuzz.py COUNT SEED [FIRST]

Half of the inputs are of valid formats and have flags that suit them, so that most are prepared and
every stage sees odd values; the other half may be damaged in any way, and most are refused. Each
input is a function of the seed and its number, so a fault can be repeated: it is printed as a
line of JSON with the number. The last line is the peak resident memory in MiB.
"""

import base64
import contextlib
import gzip
import io
import json
import math
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

import prepare
from clingpt.data.prepared import MANIFEST
from clingpt.data.readers.formats import FORMATS, Format
from clingpt.text.records import SPLITS
from clingpt.text.tokenizer import Tokenizer
from tests.helpers.commands import here
from tests.helpers.patience import PATIENCE
from tests.helpers.preparing import random_text

NAME, NUMBER = "Mr. Quimbletharp", "839201745"  # in the texts; must never be printed
PLANTED = f"{NAME}, MRN {NUMBER}, was seen. "
LIMIT_S = 60.0 * PATIENCE  # for one input: a hang, not slowness
LONGEST_ERROR_CHARS = 1500

Row = dict[str, Any]


# Inputs before mutation


def rows_of(rng: random.Random, n: int) -> list[Row]:
    return [
        {
            "note_id": f"n{i}",
            "subject_id": f"s{i // 2}",
            "question": f"Does {random_text(rng, 3)}?",
            "text": (PLANTED if i % 3 == 0 else "") + random_text(rng, 12),
            "summary": random_text(rng, 5),
            "decision": rng.choice(["yes", "no", "maybe"]),
        }
        for i in range(n)
    ]


def table(rows: list[Row], delimiter: str, quote: str = '"') -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))

    def cell(value: object) -> str:
        text = "" if value is None else str(value)
        needs = any(each in text for each in (delimiter, "\n", "\r", quote))
        return f"{quote}{text.replace(quote, 2 * quote)}{quote}" if needs else text

    lines: list[list[Any]] = [[*names], *([row.get(name) for name in names] for row in rows)]
    return "".join(delimiter.join(map(cell, line)) + "\n" for line in lines)


def json_lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def chat(
    row: Row, roles: tuple[str, str, str, str] = ("role", "user", "assistant", "content")
) -> list[Row]:
    who, asks, replies, what = roles
    said = [(asks, row.get("text")), (replies, row.get("summary"))]
    return [{who: name, what: content} for name, content in said]


def fhir(row: Row) -> Row:
    text = str(row.get("text"))
    data = base64.b64encode(text.encode("utf-8", "replace")).decode()
    return {
        "resourceType": "DiagnosticReport",
        "id": row.get("note_id"),
        "subject": {"reference": f"Patient/{row.get('subject_id')}"},
        "conclusion": row.get("summary"),
        "presentedForm": [{"contentType": "text/plain", "data": data}],
    }


def squad(rows: list[Row]) -> Row:
    def entry(row: Row) -> Row:
        answers = [{"text": row.get("summary"), "answer_start": 0}]
        asked = {"id": row.get("note_id"), "question": row.get("question"), "answers": answers}
        return {"title": "t", "paragraphs": [{"context": row.get("text"), "qas": [asked]}]}

    return {"version": "1.1", "data": [entry(row) for row in rows]}


def bioasq(row: Row) -> Row:
    return {
        "id": row.get("note_id"),
        "body": row.get("question"),
        "snippets": [{"text": row.get("text")}],
        "ideal_answer": [row.get("summary")],
        "exact_answer": row.get("decision"),
        "type": "yesno",
    }


def official(row: Row) -> Row:
    return {
        "QUESTION": row.get("question"),
        "CONTEXTS": [row.get("text")],
        "LABELS": ["RESULTS"],
        "LONG_ANSWER": row.get("summary"),
        "final_decision": row.get("decision"),
    }


def columns_of(rows: list[Row]) -> Row:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: {str(i): row.get(name) for i, row in enumerate(rows)} for name in names}


def split_of(rows: list[Row]) -> Row:
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[row.get(name) for name in names] for row in rows]
    return {"columns": names, "index": list(range(len(rows))), "data": cells}


def parquet(rows: list[Row]) -> bytes:
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet as pq

    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = [[row.get(name) for row in rows] for name in names]
    try:
        made = pyarrow.table([pyarrow.array(column) for column in columns], names=names)
        file = io.BytesIO()
        pq.write_table(made, file)
    except (pyarrow.ArrowException, UnicodeError, OverflowError):
        texts = [pyarrow.array([ascii(cell) for cell in column]) for column in columns]
        file = io.BytesIO()
        pq.write_table(pyarrow.table(texts, names=[ascii(name) for name in names]), file)
    return file.getvalue()


def spreadsheet(rows: list[Row]) -> bytes:
    import openpyxl

    book = openpyxl.Workbook()
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines: list[list[Any]] = [[*names], *([row.get(name) for name in names] for row in rows)]
    for line in lines:
        # What Excel cannot hold: control characters, more than 32,767 characters, infinity.
        cells = [
            cell
            if isinstance(cell, (int, bool)) or cell is None
            else "".join(c for c in str(cell) if c.isprintable())[:32_000]
            for cell in line
        ]
        book.active.append(cells)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def rtf(rows: list[Row]) -> str:
    return "{\\rtf1\\ansi " + "\\par ".join(str(row.get("text")) for row in rows) + "}"


def hl7(rows: list[Row]) -> str:
    return "".join(
        f"MSH|^~\\&|LAB|H|||202001010000||ORU^R01|{row.get('note_id')}|P|2.5\r"
        f"PID|1||{row.get('subject_id')}^^^H||Quimbletharp^John\r"
        f"OBX|1|TX|1^FINDINGS||{row.get('text')}\rOBX|2|TX|2^IMPRESSION||{row.get('summary')}\r"
        for row in rows
    )


def pubmed(rows: list[Row]) -> str:
    articles = "".join(
        f"<PubmedArticle><MedlineCitation><PMID>{1000 + i}</PMID><Article><ArticleTitle>"
        f"{row.get('question')}</ArticleTitle><Abstract>"
        f'<AbstractText Label="RESULTS">{row.get("text")}</AbstractText>'
        f'<AbstractText Label="CONCLUSIONS">{row.get("summary")}</AbstractText>'
        "</Abstract></Article></MedlineCitation></PubmedArticle>\n"
        for i, row in enumerate(rows)
    )
    return f'<?xml version="1.0"?>\n<PubmedArticleSet>\n{articles}</PubmedArticleSet>\n'


def medline(rows: list[Row]) -> str:
    return "".join(
        f"PMID- {1000 + i}\nTI  - {row.get('question')}\nAB  - RESULTS: {row.get('text')}\n"
        f"      CONCLUSIONS: {row.get('summary')}\n\n"
        for i, row in enumerate(rows)
    )


def passages(rows: list[Row]) -> str:
    return "\n\n".join(str(row.get("text")) for row in rows) + "\n"


Body = Callable[[list[Row]], str | bytes]

# Ending -> the layouts in which such a file is found. Formats whose endings are not listed are fed
# the layouts of all others.
BODIES: dict[str, list[Body]] = {
    ".csv": [
        lambda rows: table(rows, ","),
        lambda rows: table(rows, ";"),
        lambda rows: "sep=;\n" + table(rows, ";"),
        lambda rows: table(rows, "|"),
    ],
    ".tsv": [lambda rows: table(rows, "\t")],
    ".jsonl": [
        json_lines,
        lambda rows: json_lines([{"messages": chat(row)} for row in rows]),
        lambda rows: json_lines(
            [{"conversations": chat(row, ("from", "human", "gpt", "value"))} for row in rows]
        ),
        lambda rows: json_lines(
            [{"prompt": row.get("text"), "completion": row.get("summary")} for row in rows]
        ),
        lambda rows: json_lines([fhir(row) for row in rows]),
    ],
    ".json": [
        json.dumps,
        lambda rows: json.dumps(rows, indent=1),
        lambda rows: json.dumps({"version": 1, "data": rows}),
        lambda rows: json.dumps(columns_of(rows)),
        lambda rows: json.dumps(split_of(rows)),
        lambda rows: json.dumps(squad(rows)),
        lambda rows: json.dumps({"questions": [bioasq(row) for row in rows]}),
        lambda rows: json.dumps({str(n): official(row) for n, row in enumerate(rows)}),
        lambda rows: json.dumps(
            [
                {
                    "instruction": "Summarize.",
                    "input": row.get("text"),
                    "output": row.get("summary"),
                }
                for row in rows
            ]
        ),
        lambda rows: json.dumps(
            {"resourceType": "Bundle", "entry": [{"resource": fhir(row)} for row in rows]}
        ),
    ],
    ".parquet": [parquet],
    ".xlsx": [spreadsheet],
    ".txt": [passages, lambda rows: table(rows, "\t")],
    ".rtf": [rtf],
    ".hl7": [hl7],
    ".xml": [pubmed],
    ".nbib": [medline],
}


# Mutations

STRANGE: tuple[Callable[[random.Random], Any], ...] = (
    lambda rng: "",
    lambda rng: None,
    lambda rng: " \t\n ",
    lambda rng: 5,
    lambda rng: -1e308,
    lambda rng: math.nan,
    lambda rng: math.inf,
    lambda rng: True,
    lambda rng: 10**400,
    lambda rng: [],
    lambda rng: {},
    lambda rng: ["a", ["b", {"c": None}]],
    lambda rng: {"contexts": ["a b"], "labels": ["X"]},
    lambda rng: "['a', 'b']",
    lambda rng: "{'contexts': ['a'], 'reasoning_free_pred': 'yes'}",
    lambda rng: "nan",
    lambda rng: "tensor([1, 2])",
    lambda rng: "x" * (1 << rng.randrange(10, 21)),
    lambda rng: "word " * (1 << rng.randrange(8, 17)),
    lambda rng: "\x00",
    lambda rng: "a\x00b\x1b[2J\x07",
    lambda rng: "\ud800",
    lambda rng: "\udfff",
    lambda rng: "\u202eabc\u2066",
    lambda rng: "مريض عمره ٤٥ سنة 👩🏽‍⚕️ e\u0301",
    lambda rng: "<p>a&nbsp;&#160;b<br/></p><script>",
    lambda rng: "=cmd|' /C calc'!A0",
    lambda rng: '"',
    lambda rng: "{{" * 50,
    lambda rng: PLANTED,
    lambda rng: PLANTED * 500,
)  # fmt: skip


def with_strange_cells(rng: random.Random, rows: list[Row]) -> list[Row]:
    """Replace one cell, a column or a row by something strange, or give a column such a name."""
    make, which = rng.choice(STRANGE), rng.randrange(4)
    names = list(rows[0])
    for row in rows if which == 1 else [rng.choice(rows)]:
        for name in names if which == 2 else [rng.choice(names)]:
            row[name] = make(rng)
    if which == 3:
        new = str(make(rng))
        for row in rows:
            row[new] = row.pop("text", None)
    return rows


def with_other_columns(rng: random.Random, rows: list[Row]) -> list[Row]:
    names = list(rows[0])
    which = rng.randrange(6)
    if which == 0:
        gone = rng.sample(names, rng.randrange(1, len(names)))
        return [{k: v for k, v in row.items() if k not in gone} for row in rows]
    if which == 1:
        rng.shuffle(names)
        return [{name: row[name] for name in names} for row in rows]
    if which == 2:  # names change places
        others = rng.sample(names, len(names))
        return [dict(zip(others, row.values(), strict=True)) for row in rows]
    if which == 3:
        odd = ["split", "label", "id", "mrn", "instruction", "output", "context", "Unnamed: 0", "a"]
        new = [rng.choice(odd) + str(i) * (i > 3) for i in range(len(names))]
        return [dict(zip(new, row.values(), strict=True)) for row in rows]
    if which == 4:
        more = rng.choice([50, 3000])
        return [{**row, **{f"c{i}": i for i in range(more)}} for row in rows]
    deep: Any = "a"
    for _ in range(rng.choice([5, 200, 900])):
        deep = [deep] if rng.random() < 0.5 else {"a": deep}
    rows[rng.randrange(len(rows))][rng.choice(names)] = deep
    return rows


def with_other_rows(rng: random.Random, rows: list[Row]) -> list[Row]:
    which = rng.randrange(5)
    if which == 0:
        return rows[: rng.randrange(3)]
    if which == 1:
        return rows * 3
    if which == 2:
        return rows + [dict(rng.choice(rows), note_id=f"copy {i}") for i in range(5)]
    if which == 3:
        return [dict(row, note_id="one") for row in rows]
    return [dict(row, split=rng.choice(["train", "test", "dev", "??", ""])) for row in rows]


# Odd cells that a record can have in any column. Those that are not text are refused by design.
ODD_TEXTS = tuple(make for make in STRANGE if isinstance(make(random.Random(0)), str | None))


def with_odd_values(rng: random.Random, rows: list[Row]) -> list[Row]:
    """Replace, empty or extend some texts, so that most rows stay usable."""
    for row in rng.sample(rows, min(len(rows), rng.choice([1, 5, len(rows) // 4]))):
        name = rng.choice(["question", "text", "text", "summary"])
        odd = rng.choice(ODD_TEXTS)(rng)
        row[name] = rng.choice([odd, None, f"{odd or ''} {row[name]}", f"{row[name]}\n{odd or ''}"])
    return rows


def in_other_order(rng: random.Random, rows: list[Row]) -> list[Row]:
    return rng.sample(rows, len(rows))


def with_duplicates(rng: random.Random, rows: list[Row]) -> list[Row]:
    """Repeat some rows: whole, with other ids, or with another summary."""
    which, copies = rng.randrange(3), [dict(rng.choice(rows)) for _ in range(len(rows) // 8)]
    for i, row in enumerate(copies):
        if which:
            row |= {"note_id": f"copy {i}"} if which == 1 else {"summary": random_text(rng, 5)}
    return rows + copies


def with_more_columns(rng: random.Random, rows: list[Row]) -> list[Row]:
    """Add a column that no role takes to some rows, and change the order of all columns."""
    for row in rng.sample(rows, len(rows) // 2 + 1):
        row["c1"] = rng.choice(["", "5", "é", PLANTED])
    names = rng.sample([*rows[0]], len(rows[0]))
    names += [name for row in rows for name in row if name not in rows[0]][:1]
    return [{name: row.get(name) for name in names} for row in rows]


def cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def flipped(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 3, 100])):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def with_gap(rng: random.Random, data: bytes) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + data[start + rng.randrange(200) :]


def with_repeat(rng: random.Random, data: bytes) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + data[max(0, start - rng.randrange(500)) :]


def with_insert(rng: random.Random, data: bytes) -> bytes:
    start = rng.randrange(len(data) + 1)
    odd = (
        b"\x00" * 20,
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\r",
        b"\x1a",
        b"[" * 3000,
        b'"',
        b"\x80",
        b"9" * 5000,
    )
    return data[:start] + rng.choice(odd) + data[start:]


def with_swapped_lines(rng: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    for _ in range(3):
        a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
        lines[a], lines[b] = lines[b], lines[a]
    return b"\n".join(lines)


def with_other_line_ends(rng: random.Random, data: bytes) -> bytes:
    ends = rng.choice([[b"\r"], [b"\r\n"], [b"\n\n"], [b"\n", b"\r", b"\r\n"]])
    first, *others = data.split(b"\n")
    return first + b"".join(rng.choice(ends) + line for line in others)


def encoded(rng: random.Random, data: bytes) -> bytes:
    text = data.decode("utf-8", "replace") + "é"
    name = rng.choice(["utf-16", "utf-16-le", "utf-32", "cp1252", "latin-1", "utf-8-sig", "utf-7"])
    other = text.encode(name, "replace")
    half = rng.randrange(len(data) + 1)
    return rng.choice([other, data[:half] + other[half:]])


def garbage(rng: random.Random, data: bytes) -> bytes:
    return rng.randbytes(rng.choice([0, 1, 10, 5000]))


OF_ROWS = (with_strange_cells, with_other_columns, with_other_rows)
KEEPING_FORMAT = (
    with_odd_values,
    with_odd_values,
    in_other_order,
    with_duplicates,
    with_more_columns,
)
OF_BYTES = (
    cut,
    flipped,
    with_gap,
    with_repeat,
    with_insert,
    with_swapped_lines,
    with_other_line_ends,
    encoded,
    garbage,
)


@dataclass
class Input:
    """A source in a folder, and the flags to prepare it with."""

    source: Path
    flags: list[str]
    steps: list[str] = field(default_factory=list)  # how it was made, to read in a report


def body(rng: random.Random, ending: str, steps: list[str]) -> bytes:
    """Make a file's content in a layout that its ending is for, and mutate it."""
    rows = rows_of(rng, rng.choice([1, 30, 60, 60]))
    for _ in range(rng.choice([0, 1, 1, 2])):
        mutate = rng.choice(OF_ROWS)
        rows = mutate(rng, rows) or rows_of(rng, 1)
        steps.append(mutate.__name__)
    layouts = BODIES.get(ending) or [each for known in BODIES.values() for each in known]
    number = rng.randrange(len(layouts))
    steps.append(f"{ending} {number}")
    try:
        made = layouts[number](rows)
    except (
        ValueError,
        TypeError,
        ArithmeticError,
        RecursionError,
    ):  # such values do not exist in this format
        made = repr(rows)
    data = made if isinstance(made, bytes) else made.encode("utf-8", "surrogatepass")
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        change = rng.choice(OF_BYTES)
        data = change(rng, data)
        steps.append(change.__name__)
    return data


def valid_body(rng: random.Random, ending: str, layout: Body, n: int, steps: list[str]) -> bytes:
    """Make a file's content in a layout that its ending is for, with odd values."""
    rows = rows_of(rng, n)
    for _ in range(rng.choice([1, 2, 3])):
        mutate = rng.choice(KEEPING_FORMAT)
        rows = mutate(rng, rows)
        steps.append(mutate.__name__)
    if ending == ".xml":
        rows = [{name: escape(str(cell)) for name, cell in row.items()} for row in rows]
    made = layout(rows)
    return made if isinstance(made, bytes) else made.encode("utf-8", "replace")


def make_valid_input(folder: Path, rng: random.Random, kind: Format) -> Input:
    """Write an input of a format, and choose flags that suit it."""
    ending = kind.endings[0]
    number = rng.randrange(len(BODIES[ending]))
    steps, layout = [f"{ending} {number}"], BODIES[ending][number]
    if ending == ".rtf" or rng.random() < 0.2:  # a file of RTF is one record
        source = folder / "source"
        n_files = 60 if ending == ".rtf" else rng.choice([2, 8])
        for i in range(n_files):
            path = source / rng.choice(["", "a"]) / f"{i}{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(valid_body(rng, ending, layout, 90 // n_files, steps))
    else:
        data = valid_body(rng, ending, layout, rng.choice([60, 60, 200]), steps)
        if rng.random() < 0.2:
            data, ending = gzip.compress(data, 1), f"{ending}.gz"
        source = folder / f"source{ending}"
        source.write_bytes(data)
    task = rng.choice(["text", "text", "text", "summarize", "summarize", "document", "answer"])
    flags = [f"--task={task}", "--show=0", "--workers=0", "--val_share=0.2", "--test_share=0.2"]
    flags += [rng.choice(["--redact=tags", "--redact=surrogates", "--allow_phi"]), "--skip_bad"]
    flags += [rng.choice(["--drop_overlap", "--allow_overlap"])]
    flags += rng.choice([[], [], ["--dry_run"]])
    flags += rng.choice([[], [], ["--canaries=2"]])
    return Input(source, flags, steps[:20])


def make_input(folder: Path, seed: int, number: int) -> Input:
    """Write the input of this number; the formats take turns."""
    rng = random.Random(f"{seed} {number}")
    kind = FORMATS[number % len(FORMATS)]
    if rng.random() < 0.5:
        return make_valid_input(folder, rng, kind)
    steps: list[str] = []
    ending = rng.choice(kind.endings) if rng.random() < 0.3 else kind.endings[0]
    if rng.random() < 0.12:
        source = folder / "source"
        for i in range(rng.choice([1, 4, 12])):
            other = ending if rng.random() < 0.8 else rng.choice(rng.choice(FORMATS).endings)
            path = source / rng.choice(["", "a", "a/.b", "train"]) / f"{i}{other}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body(rng, other, steps))
    else:
        data = body(rng, ending, steps)
        if rng.random() < 0.1:
            ending = rng.choice(rng.choice(FORMATS).endings)
            steps.append(f"as {ending}")
        if rng.random() < 0.1:
            data, ending = gzip.compress(data, 1), f"{ending}.gz"
            if rng.random() < 0.3:
                data = rng.choice(OF_BYTES)(rng, data)
            steps.append("gz")
        source = folder / f"source{ending}"
        source.write_bytes(data)
    task = rng.choice(["text", "text", "summarize", "answer", "document", "explain"])
    flags = [f"--task={task}", "--show=0", "--workers=0", "--val_share=0.2", "--test_share=0.2"]
    flags += rng.choice([[], ["--redact=tags"], ["--redact=tags"], ["--redact=surrogates"]])
    flags += rng.choice([[], ["--skip_bad"], ["--skip_bad"]])
    flags += rng.choice([[], ["--dry_run"]])
    flags += rng.choice([[], [], ["--drop_overlap"]])
    for chance, flag in (
        (0.2, "--input=text"),
        (0.05, "--target=summary"),
        (0.05, "--group=subject_id"),
        (0.05, "--group="),
        (0.05, "--split=split"),
        (0.05, "--id=note_id"),
        (0.05, "--encoding=cp1252"),
        (0.05, "--encoding=utf-16"),
        (0.03, "--canaries=2"),
    ):
        flags += [flag] if rng.random() < chance else []
    return Input(source, flags, steps)


# Judging


class TooSlow(BaseException):
    """The time for one input is over."""


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    def stop(_: int, __: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def fault_of(given: Input, out: Path) -> tuple[int | None, str | None]:
    """Prepare an input; return the exit status, and what is wrong with how that ended."""
    before = sorted(out.parent.iterdir())
    try:
        with time_limit():
            done = here(prepare.main, f"--source={given.source}", f"--out={out}", *given.flags)
    except BaseException as error:
        return None, "".join(traceback.format_exception(error)[-4:])
    status, printed = done.returncode, done.stdout + done.stderr
    if status not in (0, 1, 2):
        return status, f"exit status {status}"
    for each in (NAME, NUMBER):
        if each in printed:
            line = next(line for line in printed.splitlines() if each in line)
            return status, f"printed an identifier: {line[:500]}"
    if status == 0:
        if done.stderr:
            return status, f"on standard error: {done.stderr[:500]}"
        if "--dry_run" in given.flags:
            return status, None
        redacted = any(flag.startswith("--redact") for flag in given.flags)
        return status, empty_split(out) or (written_identifier(out) if redacted else None)
    if sorted(out.parent.iterdir()) != before:
        return status, f"left {[path.name for path in out.parent.iterdir()]}"
    return status, fault_of_error(done.stderr)


def fault_of_error(said: str) -> str | None:
    errors = said.splitlines()
    if len(errors) != 1 or not errors[0].startswith("error: "):
        return f"not one line: {said[:1000]}"
    if len(errors[0]) > LONGEST_ERROR_CHARS:
        return f"a line of {len(errors[0])} characters: {errors[0][:300]}"
    return f"the same advice twice: {errors[0]}" if errors[0].count("--skip_bad") > 1 else None


def empty_split(out: Path) -> str | None:
    counts = json.loads((out / MANIFEST).read_text("utf-8"))["counts"]
    empty = [name for name in SPLITS if not counts[name]["records"]]
    return f"no records in {empty}" if empty else None


def written_identifier(out: Path) -> str | None:
    """Look for the planted identifiers in the texts of a folder whose source was redacted."""
    for path in sorted(out.iterdir()):
        if path.suffix == ".bin":
            text = Tokenizer.load().decode(np.fromfile(path, np.uint16).tolist())
        else:
            text = path.read_text("utf-8") if path.suffix in (".jsonl", ".ids") else ""
        for each in (NAME, NUMBER):
            if (place := text.find(each)) >= 0:
                return (
                    f"{path.name} contains an identifier: {text[max(0, place - 80) : place + 80]}"
                )
    return None


def try_inputs(numbers: range, seed: int) -> Iterator[tuple[int, Input, int | None, str | None]]:
    """Yield the number of each input, how it was made, the exit status, and the fault if any."""
    for number in numbers:
        folder = Path(tempfile.mkdtemp(prefix="fuzz"))
        try:
            (folder / "in").mkdir()
            (folder / "out").mkdir()
            given = make_input(folder / "in", seed, number)
            yield (number, given, *fault_of(given, folder / "out" / "data"))
        finally:
            shutil.rmtree(folder)


def main() -> None:
    count, seed, first = (*map(int, sys.argv[1:]), 0)[:3]
    statuses: dict[str, int] = {}
    for number, given, status, fault in try_inputs(range(first, first + count), seed):
        statuses[str(status)] = statuses.get(str(status), 0) + 1
        if fault is not None:
            found = {"number": number, "steps": given.steps, "flags": given.flags, "fault": fault}
            sys.stdout.write(json.dumps(found) + "\n")
            sys.stdout.flush()
    status_file = Path("/proc/self/status").read_text()
    peak = next(line.split()[1] for line in status_file.splitlines() if line.startswith("VmHWM"))
    sys.stdout.write(json.dumps({"statuses": statuses, "peak_mib": int(peak) // 1024}) + "\n")


if __name__ == "__main__":
    main()
