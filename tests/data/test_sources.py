"""Readers: equal records from every format, malformed input reported by line, constant memory."""

import gzip
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from clingpt.base.errors import ConfigError, DataError
from clingpt.data.columns import Columns
from clingpt.data.readers.reading import ReadOptions
from clingpt.data.sources import (
    Source,
    check_source,
    choose_columns,
    from_hub_row,
    from_official_item,
    refuse,
)
from clingpt.text.records import Record, to_json
from tests.helpers.patience import PATIENCE
from tests.helpers.shared import (
    MEDQUAD,
    PUBMEDQA,
    PUBMEDQA_FIXTURE,
    ROOT,
    official_items,
    read_records,
    shared_file,
)

ITEMS: dict[str, dict[str, Any]] = {
    str(100 + n): {
        "QUESTION": f"Does drug {n} relieve pain\u2009?",
        "CONTEXTS": [f"We gave drug {n} to {n} adults.SUBJECTS/", f"Pain fell by {n}\xa0% (±{n})."],
        "LABELS": ["METHODS", "RESULTS"],
        "MESHES": ["Pain", "Adult"],
        "YEAR": None if n % 2 else "2011",
        "reasoning_required_pred": "yes",
        "reasoning_free_pred": "no",
        "final_decision": ("yes", "no", "maybe")[n % 3],
        "LONG_ANSWER": f"Drug {n} relieved pain.",
    }
    for n in range(6)
}


# The Hub's layout


def hub_row(pubid: str, item: dict[str, Any]) -> dict[str, Any]:
    """Return an item in the Hub's layout: a struct of lists, opinions as lists of characters."""
    return {
        "pubid": int(pubid),
        "question": item["QUESTION"],
        "context": {
            "contexts": item["CONTEXTS"],
            "labels": item["LABELS"],
            "meshes": item["MESHES"],
            "reasoning_required_pred": list(item["reasoning_required_pred"]),
            "reasoning_free_pred": list(item["reasoning_free_pred"]),
        },
        "long_answer": item["LONG_ANSWER"],
        "final_decision": item["final_decision"],
    }


def write_hub_copy(folder: Path, items: dict[str, dict[str, Any]]) -> Path:
    """Write a local copy of the Hub's data set: its card and one parquet file per subset."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [hub_row(pubid, item) for pubid, item in items.items()]
    unlabeled = [{k: v for k, v in row.items() if k != "final_decision"} for row in rows]
    texts = pa.list_(pa.string())
    names = ["contexts", "labels", "meshes", "reasoning_required_pred", "reasoning_free_pred"]
    columns = {
        "pubid": pa.int32(),
        "question": pa.string(),
        "context": pa.struct([(name, texts) for name in names]),
        "long_answer": pa.string(),
        "final_decision": pa.string(),
    }
    card = "---\nlicense: mit\nconfigs:\n"
    for subset, subset_rows in (("pqa_labeled", rows), ("pqa_unlabeled", unlabeled)):
        (folder / subset).mkdir(parents=True)
        schema = pa.schema([each for each in columns.items() if each[0] in subset_rows[0]])
        table = pa.Table.from_pylist(subset_rows, schema=schema)
        pq.write_table(table, folder / subset / "train-00000-of-00001.parquet")
        card += f"- config_name: {subset}\n  data_files:\n  - split: train\n"
        card += f"    path: {subset}/train-*\n"
    (folder / "README.md").write_text(card + "---\n")
    return folder


def in_subprocess(code: str, folder: Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run code with a separate cache, because `datasets` reads its location when imported."""
    quiet = {"HF_HOME": str(folder / "hf"), "NO_PROXY": "*", "PYTHONWARNINGS": "error::UserWarning"}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **quiet, **environ},
        capture_output=True,
        text=True,
        timeout=120,
    )


def read_in_subprocess(source: Path, subset: str, folder: Path) -> list[dict[str, Any]]:
    code = (
        "import json; from clingpt.text.records import Record, to_json\n"
        "from clingpt.data.sources import *\n"
        f"for _, record, *_ in Source(name={str(source)!r}, subset={subset!r}).read(refuse):\n"
        "    print(json.dumps(to_json(record)))\n"
    )
    done = in_subprocess(code, folder)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("full", [False, True])
def test_the_hub_and_the_official_file_yield_the_same_records(full: bool, tmp_path: Path) -> None:
    items = official_items(shared_file(PUBMEDQA) if full else PUBMEDQA_FIXTURE)
    (tmp_path / "official.json").write_text(json.dumps(items), encoding="utf-8")
    copy = write_hub_copy(tmp_path / "copy", items)
    wanted = [
        json.loads(json.dumps(to_json(record)))
        for record in read_records(tmp_path / "official.json")
    ]
    assert len(wanted) == len(items)
    assert read_in_subprocess(copy, "pqa_labeled", tmp_path) == wanted
    unlabeled = read_in_subprocess(copy, "pqa_unlabeled", tmp_path)
    assert unlabeled == [record | {"decision": None} for record in wanted]


READ_HUB = (
    "from clingpt.base import console\nfrom clingpt.data import sources\n"
    "sources.HUB_TIMEOUT_S = 1.0\n"
    "console.run(lambda: print(list(sources.read_hub(sources.HUB_NAME, 'pqa_labeled'))))\n"
)


def test_without_a_network_the_hub_fails_quickly_in_one_line(tmp_path: Path) -> None:
    silent = socket.create_server(("127.0.0.1", 0))  # takes calls and never answers
    port = silent.getsockname()[1]
    cases = [
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        (
            {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"},
            "the Hub cannot be reached: Connection refused",
        ),
        (
            {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": f"http://127.0.0.1:{port}"},
            "the Hub did not answer in time",
        ),
    ]
    with silent:
        for environ, reason in cases:
            started_at = time.perf_counter()
            done = in_subprocess(READ_HUB, tmp_path, **environ)
            assert time.perf_counter() - started_at < 20 * PATIENCE, environ  # 3 s when idle
            assert (done.returncode, done.stdout) == (1, "")
            start = "error: cannot load qiaojin/PubMedQA (pqa_labeled) from the Hub or its cache: "
            advice = r"; with no network, download ori_pqal\.json .*\n"
            assert re.fullmatch(f"{re.escape(start)}.*{reason}.*{advice}", done.stderr)


def test_a_folder_in_another_layout_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    code = READ_HUB.replace("sources.HUB_NAME", repr(str(tmp_path / "odd")))
    done = in_subprocess(code, tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(f"error: cannot load {tmp_path / 'odd'} (pqa_labeled)")


ROW = hub_row("100", ITEMS["100"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context": None}, "record 100: no context.contexts; is this PubMedQA's layout?"),
        ({"context": {"labels": []}}, "record 100: no context.contexts"),
        ({"context": {"contexts": "ab"}}, "record 100: contexts must be a list, not str"),
        ({"context": {"contexts": None}}, "record 100: contexts must be a list, not NoneType"),
        ({"context": {"contexts": ["a"], "labels": "A"}}, "labels must be a list, not str"),
        ({"context": {"contexts": ["a"], "labels": ["A", "B"]}}, "1 context but 2 labels"),
        ({"context": {"contexts": ["a"], "meshes": "Pain"}}, "keywords must be a list, not str"),
        ({"pubid": None}, "a record's id must be a string or an integer, not NoneType"),
        ({"final_decision": [1, None]}, "record 100: the decision must be yes, no or maybe"),
        ({"question": None}, "record 100: the question must be a string, not NoneType"),
        ({"long_answer": ""}, "record 100: the long answer is empty"),
    ],
)
def test_malformed_hub_rows_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        from_hub_row(ROW | changes)


def test_hub_rows_may_lack_optional_fields() -> None:
    assert from_hub_row(ROW | {"final_decision": ["m", "a", "y", "b", "e"]}).decision == "maybe"
    assert from_hub_row(ROW | {"final_decision": None}).decision is None
    bare = from_hub_row(ROW | {"context": {"contexts": ["a", "b"], "labels": None, "meshes": None}})
    assert bare.sections == (("CONTEXT", "a"), ("CONTEXT", "b"))
    assert bare.keywords == ()


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (None, "record 5: no QUESTION and CONTEXTS; is this PubMedQA's format?"),
        ({"QUESTION": "Why?"}, "record 5: no QUESTION and CONTEXTS"),
        ({"QUESTION": "Why?", "CONTEXTS": "ab"}, "record 5: contexts must be a list, not str"),
        ({"QUESTION": "Why?", "CONTEXTS": ["a"], "MESHES": "x"}, "keywords must be a list"),
        (
            {"QUESTION": "Why?", "CONTEXTS": [["a"]]},
            "record 5: a section must be a string, not list",
        ),
    ],
)
def test_malformed_official_items_are_refused(item: object, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        from_official_item(("5", item))


def test_missing_sources_are_named_with_what_is_near(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/ward1.csv").write_text("note\nA note that nobody asked for.\n")
    (tmp_path / "notes/Mary Novak 1.csv").write_text("note\n")
    missing = {
        "ntes": "unknown source 'ntes'; did you mean notes? Otherwise use pubmedqa, synthetic, ",
        "": "unknown source ''; use pubmedqa, synthetic, OWNER/NAME of a data set on the Hub, or",
        "some where": "unknown source 'some where'; use pubmedqa",
        "notes/ward2.csv": "notes/ward2.csv: no such file or folder; did you mean notes/ward1.csv?",
        "nots/ward1": "nots/ward1: no such file or folder; check the path",  # not a data set's name
        "notes/beds": "notes/beds: no such file or folder; check the path",
        "notes/Mary Novak 2.csv": "notes/Mary Novak 2.csv: no such file or folder; check the path",
        "a/b/c": "a/b/c: no such file or folder; check the path",
        "notes.doc": "notes.doc: no such file or folder; check the path",
        "owner/notes.csv": "owner/notes.csv: no such file or folder; check the path",
    }
    for name, said in missing.items():
        with pytest.raises(DataError) as refused:
            check_source(name)
        assert str(refused.value).startswith(said)
        assert "PubMedQA" not in str(refused.value)
    check_source("owner/notes")  # a data set on the Hub, which reading will find or not


# Files


def test_bad_items_are_skipped_and_counted(tmp_path: Path) -> None:
    bad = {"7": {"QUESTION": "Why?"}, "8": ITEMS["100"] | {"final_decision": "perhaps"}}
    path = tmp_path / "some.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({**bad, **ITEMS}).encode())
    errors: list[str] = []
    records = read_records(path, lambda error: errors.append(str(error)))
    assert [record.id for record in records] == list(ITEMS)
    assert [error.partition(" the")[0] for error in errors] == [
        f"{path}:1: record 7: no QUESTION and CONTEXTS; is this PubMedQA's format?",
        f"{path}:1: record 8:",
    ]
    with pytest.raises(DataError, match="record 7: no QUESTION"):
        read_records(path)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_bytes('{"1": {"QUESTION": "5 µg?"'.encode("latin-1"))
    with pytest.raises(DataError, match=r"some\.json:1: not UTF-8 text; --encoding=cp1252"):
        read_records(path)


LINES: list[tuple[bytes, str | None]] = [
    (b'\xef\xbb\xbf{"id": "a", "text": "x"}', None),
    (b"   ", None),
    (b"{oops", "not valid JSON (Expecting property name enclosed in double quotes at column 2)"),
    (b"[1]", "a record must be a JSON object, not list"),
    (b'{"id": "b", "text": "\xb5g"}', "not UTF-8 text; --encoding=cp1252"),
    (b'{"id": "c", "decision": "yes"}', "record c: it has neither a question nor text"),
    (
        b'{"id": "d", "text": "x", "decision": "perhaps"}',
        "record d: the decision must be yes",
    ),
    (b'{"text": ' + b"[" * 100_000, "cannot be read as JSON (maximum rec"),
    (b'{"text": "no id"}', None),
    (b'{"id": "e", "text": "x"} {"id": "f", "text": "y"}', "not valid JSON (Extra data"),
    (b'{"id": "g", "text": "last, no newline"}', None),
]


def test_jsonl_errors_name_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_bytes(b"\r\n".join(line for line, _ in LINES))
    errors: list[str] = []
    records = read_records(path, lambda error: errors.append(str(error)))
    assert [record.id for record in records] == ["a", "2-fengmkompn", "g"]
    wanted = [f"{path}:{n}: {said}" for n, (_, said) in enumerate(LINES, start=1) if said]
    assert len(errors) == len(wanted)
    for error, start in zip(errors, wanted, strict=True):
        assert error.startswith(start)
        assert "\n" not in error
    with pytest.raises(DataError, match=re.escape(f"{path}:3: not valid JSON")):
        read_records(path)


# Tables


def records_of(
    path: Path, task: str, given: Columns | None = None, encoding: str = "auto"
) -> tuple[list[Record], list[str]]:
    """Return records and errors, with columns chosen as in prepare.py."""
    options = ReadOptions(encoding=encoding)
    chosen = choose_columns(str(path), task, given=given, options=options)
    columns = chosen[0] if chosen else None
    source = Source(name=str(path), columns=columns, options=options)
    bad: list[DataError] = []
    records = [read.record for read in source.read(bad.append)]
    again = [read.record for read in source.read(lambda _: None)]
    assert again == records  # from the start
    return records, [str(error) for error in bad]


def test_a_table_in_any_format_becomes_the_same_records(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

    rows = [{"note": f"Note {n}.", "impression": f"Brief {n}."} for n in range(3)]
    lines = [",".join(row.values()) for row in rows]
    (tmp_path / "a.csv").write_text("\n".join(["note,impression", *lines]))
    (tmp_path / "a.tsv.gz").write_bytes(
        gzip.compress("\n".join(["note,impression", *lines]).replace(",", "\t").encode("utf-16"))
    )
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=1))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    names = ["1-bmlnbepieh", "2-ddndhpjcof", "3-pofgiepnbj"]  # number and text
    for path in tmp_path.iterdir():
        records, bad = records_of(path, "summarize")
        wanted = [
            Record(
                id=name,
                question="",
                sections=(("TEXT", f"Note {n}."),),
                long_answer=f"Brief {n}.",
            )
            for n, name in enumerate(names)
        ]
        assert (records, bad) == (wanted, [])


BAD_ROWS: list[tuple[str, bytes, list[str], list[str]]] = [  # ids of records, what is said
    ("twice.csv", b"id,note\n7,a\n7,b\n", ["7", "7"], []),  # prepare.py's to refuse or to count
    ("empty.csv", b"id,note\n1,\n2,b\n", ["2"], ["empty.csv:2: record 1: it has neither"]),
    ("cells.csv", b"id,note\n1,a,b\n2,b\n", ["2"], ["cells.csv:2: 3 cells under a header of 2"]),
    ("blank.csv", b"id,note\n,a\n\0,b\n", ["1-eeidnolben", "2-eajninancb"], []),
    ("number.csv", b"id,note\n1,5\n2,b\n3,c\n", ["1", "2", "3"], []),
    (
        "number.jsonl",
        b'{"id": 1, "note": 5, "x": 1}\n{"id": 2, "note": "b"}\n{"id": true, "note": "c"}',
        ["2"],
        [
            "number.jsonl:1: column 'note' must be text, not int",
            "number.jsonl:3: a record's id must be a string or an integer, not bool",
        ],
    ),
]


@pytest.mark.parametrize(("name", "raw", "ids", "said"), BAD_ROWS, ids=lambda v: str(v)[:12])
def test_rows_that_cannot_become_a_record_are_reported(
    tmp_path: Path, name: str, raw: bytes, ids: list[str], said: list[str]
) -> None:
    (tmp_path / name).write_bytes(raw)
    records, bad = records_of(tmp_path / name, "text", Columns(input="note"))
    assert [record.id for record in records] == ids
    for error, start in zip(bad, said, strict=True):
        assert error.startswith(f"{tmp_path}/{start}")


def test_a_row_without_a_target_becomes_a_record_without_a_target(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("note,summary\na note,\n\nb note,brief\nc note,  \n")
    records, bad = records_of(tmp_path / "a.csv", "summarize")
    assert [record.long_answer for record in records] == [None, "brief", None]
    assert bad == []


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "json", "parquet"])
def test_records_in_our_json_form_need_no_columns(tmp_path: Path, ending: str) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

    (tmp_path / "official.json").write_text(json.dumps(ITEMS))
    wanted = read_records(tmp_path / "official.json")
    rows = [json.loads(json.dumps(to_json(record))) for record in wanted]
    path = tmp_path / f"mine.{ending}"
    text = "\n".join(map(json.dumps, rows)).encode()
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif ending == "json":
        path.write_text(json.dumps(rows))
    else:
        path.write_bytes(gzip.compress(text) if ending.endswith("gz") else text)
    assert choose_columns(str(path), "answer") is None
    assert records_of(path, "answer") == (wanted, [])


def test_known_layouts_need_no_columns(tmp_path: Path) -> None:
    (tmp_path / "official.json").write_text(json.dumps(ITEMS))
    wanted = read_records(tmp_path / "official.json")
    copy = write_hub_copy(tmp_path / "copy", ITEMS)
    [path] = copy.glob("pqa_labeled/*.parquet")
    assert records_of(tmp_path / "official.json", "answer") == (wanted, [])
    assert records_of(path, "answer") == (wanted, [])
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/a.txt").write_text("A note.")
    notes = [Record(id="a", question="", sections=(("TEXT", "A note."),))]
    assert records_of(tmp_path / "notes", "text") == (notes, [])
    for source in ("pubmedqa", "synthetic", str(copy)):
        assert choose_columns(source, "answer") is None
    for source in ("pubmedqa", str(tmp_path / "notes")):
        with pytest.raises(ConfigError, match="has no columns to choose from; omit --input"):
            choose_columns(source, "answer", given=Columns(input="text"))


def test_given_columns_override_a_known_layout(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1, "question": "Why?", "text": "Because of this."}')
    [record], bad = records_of(path, "explain", Columns(target="text"))
    assert (record.question, record.sections, record.long_answer, bad) == (
        "Why?",
        (),
        "Because of this.",
        [],
    )


def test_columns_cannot_be_chosen_from_a_malformed_sample(tmp_path: Path) -> None:
    for name, raw, message in [
        ("header.csv", "note,summary\n", "contains no record; is it the right file?"),
        ("cells.csv", "note,summary\na\n", "cells.csv:2: 1 cell under a header of 2"),
        ("empty.jsonl", "\n", "contains no record; is it the right file?"),
        ("empty.json", "[]", "contains no record; is it the right file?"),
    ]:
        (tmp_path / name).write_text(raw)
        with pytest.raises(DataError, match=re.escape(message)):
            choose_columns(str(tmp_path / name), "summarize")


def test_medquad_is_read_with_guessed_columns() -> None:
    path = shared_file(MEDQUAD)
    chosen = choose_columns(str(path), "explain")
    assert chosen is not None
    wanted = {"id": "id", "question": "question", "target": "answer"}
    assert chosen[0].roles() == wanted
    n_records = 0
    for _, record, *_ in Source(name=str(path), columns=chosen[0]).read(refuse):
        n_records += 1
        assert record.question and record.long_answer
        assert not re.search(r"\s\s|[^\S ]", record.question + record.long_answer)
    assert n_records == 16_407
