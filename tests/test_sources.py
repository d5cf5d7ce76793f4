"""Readers: the same records by every road, malformed input by file and place, memory kept flat."""

import io
import json
import os
import re
import socket
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clingpt.errors import DataError
from clingpt.records import to_json
from clingpt.sources import (
    from_hub_row,
    from_official_item,
    iter_json_object,
    open_source,
    read_jsonl,
    read_official,
    refuse,
)

ROOT = Path(__file__).parents[1]
OFFICIAL = ROOT.parent / "shared/data/pubmedqa/ori_pqal.json"
OUR_PATH = Path("some.json")

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
    """An item as the Hub has it: a struct of lists, opinions as lists of characters."""
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
    """A local copy of the Hub's data set: its card and a parquet file a subset."""
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
    """Run code with a cache of its own, for `datasets` reads where its cache is when imported."""
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
        "import json; from clingpt.records import to_json; from clingpt.sources import *\n"
        f"for record in open_source({str(source)!r}, subset={subset!r})(refuse):\n"
        "    print(json.dumps(to_json(record)))\n"
    )
    done = in_subprocess(code, folder)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_hub_and_the_official_file_give_the_same_records(tmp_path: Path) -> None:
    items = json.loads(OFFICIAL.read_text("utf-8")) if OFFICIAL.exists() else ITEMS
    (tmp_path / "official.json").write_text(json.dumps(items), encoding="utf-8")
    copy = write_hub_copy(tmp_path / "copy", items)
    wanted = [
        json.loads(json.dumps(to_json(record)))
        for record in read_official(tmp_path / "official.json")
    ]
    assert len(wanted) == len(items)
    assert read_in_subprocess(copy, "pqa_labeled", tmp_path) == wanted
    unlabeled = read_in_subprocess(copy, "pqa_unlabeled", tmp_path)
    assert unlabeled == [record | {"decision": None} for record in wanted]


READ_HUB = (
    "from clingpt import console, sources\n"
    "sources.HUB_TIMEOUT_S = 1.0\n"
    "console.run(lambda: print(list(sources.read_hub(sources.HUB_NAME, 'pqa_labeled'))))\n"
)


def test_without_a_network_the_hub_is_given_up_soon_and_in_one_line(tmp_path: Path) -> None:
    silent = socket.create_server(("127.0.0.1", 0))  # takes calls and never answers
    port = silent.getsockname()[1]
    cases = [
        ({"HF_HUB_OFFLINE": "1"}, "offline mode"),
        ({"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}, "refused"),
        ({"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": f"http://127.0.0.1:{port}"}, "timed out"),
    ]
    with silent:
        for environ, reason in cases:
            started_at = time.perf_counter()
            done = in_subprocess(READ_HUB, tmp_path, **environ)
            assert time.perf_counter() - started_at < 10, environ
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
        ({"context": {"contexts": "ab"}}, "record 100: contexts are not a list but str"),
        ({"context": {"contexts": None}}, "record 100: contexts are not a list but NoneType"),
        ({"context": {"contexts": ["a"], "labels": "A"}}, "labels are not a list but str"),
        ({"context": {"contexts": ["a"], "labels": ["A", "B"]}}, "1 contexts but 2 labels"),
        ({"context": {"contexts": ["a"], "meshes": "Pain"}}, "keywords are not a list but str"),
        ({"pubid": None}, "a record's id is not a text or a number but NoneType"),
        ({"final_decision": [1, None]}, "record 100: the decision is '1none', not one of"),
        ({"question": None}, "record 100: the question is not a text but NoneType"),
        ({"long_answer": ""}, "record 100: the long answer is empty"),
    ],
)
def test_hub_rows_that_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        from_hub_row(ROW | changes)


def test_hub_rows_with_less() -> None:
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
        ({"QUESTION": "Why?", "CONTEXTS": "ab"}, "record 5: contexts are not a list but str"),
        ({"QUESTION": "Why?", "CONTEXTS": ["a"], "MESHES": "x"}, "keywords are not a list"),
        ({"QUESTION": "Why?", "CONTEXTS": [["a"]]}, "record 5: a section is not a text but list"),
    ],
)
def test_official_items_that_are_refused(item: object, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        from_official_item(("5", item))


def test_open_source_knows_a_source_by_its_name(tmp_path: Path) -> None:
    for name in ("notes.csv", "a/b/c", "", "some where"):
        with pytest.raises(DataError, match=re.escape(f"unknown source {name!r}; give pubmedqa")):
            open_source(name, subset="pqa_labeled")
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n')
    (tmp_path / "a.json").write_text(json.dumps(ITEMS))
    for name, count in (("a.jsonl", 1), ("a.json", len(ITEMS))):
        source = open_source(str(tmp_path / name), subset="pqa_labeled")
        assert len(list(source(refuse))) == len(list(source(refuse))) == count


# One big JSON object


def pairs_of(text: str, *, chunk_chars: int = 1 << 20) -> list[tuple[str, Any]]:
    return list(iter_json_object(io.StringIO(text), OUR_PATH, chunk_chars=chunk_chars))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(
    wanted=st.dictionaries(st.text(), JSON_VALUES, max_size=4),
    indent=st.sampled_from([None, 0, 1]),
    ascii_only=st.booleans(),
    around=st.sampled_from(["", " ", "\r\n\t", " " * 9]),
    chunk_chars=st.sampled_from([1, 2, 3, 7, 64, 1 << 20]),
)
def test_pairs_are_those_of_json_loads(
    wanted: dict[str, Any], indent: int | None, ascii_only: bool, around: str, chunk_chars: int
) -> None:
    text = around + json.dumps(wanted, indent=indent, ensure_ascii=ascii_only) + around
    assert pairs_of(text, chunk_chars=chunk_chars) == list(json.loads(text).items())


@pytest.mark.parametrize("chunk_chars", [1, 2, 5, 1 << 20])
@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ('{"a":1.5e3,"a":-0.25}', [("a", 1500.0), ("a", -0.25)]),  # both, for readers to refuse
        ('{"a"\n:\ntrue\n,\n"":null\n}', [("a", True), ("", None)]),
        ('{"\\ud83d\\ude00":"\\\\\\""}', [("😀", '\\"')]),
        ('{"a":"},{"}', [("a", "},{")]),
        ("{ }", []),
    ],
)
def test_pairs_of(text: str, pairs: list[tuple[str, Any]], chunk_chars: int) -> None:
    assert pairs_of(text, chunk_chars=chunk_chars) == pairs


MALFORMED = [
    ("", 1),
    ("\n\n", 1),
    ("[]", 1),
    ("null", 1),
    ("{", 1),
    ("{,}", 1),
    ('{"a"', 1),
    ('{"a":', 1),
    ('{"a":1', 1),
    ('{"a":1,', 1),
    ('{"a":1,}', 1),
    ('{"a":1 "b":2}', 1),
    ('{"a" 1}', 1),
    ("{1:2}", 1),
    ("{null:2}", 1),
    ("{'a':1}", 1),
    ('{"a":tru}', 1),
    ('{"a":01}', 1),
    ('{"a":1]', 1),
    ('{"a":\xa01}', 1),
    ('{"a":"\x01"}', 1),
    ('{\n"a":1,\n"b":2,\n"c":oops\n}\n', 4),
    ('{\n"a":{"x":[1,\n2,\n}}}', 4),
    ('{\n"a":"one",\n"b":"two\n"}', 3),
    ('{"a":1,\n\n\n\n}', 5),
]
TOO_DEEP = '{"a":\n' + "[" * 100_000 + "}"


@pytest.mark.parametrize("chunk_chars", [1, 3, 1 << 20])
@pytest.mark.parametrize(("text", "line"), MALFORMED, ids=lambda value: ascii(value)[:20])
def test_malformed_objects_are_refused_by_line(text: str, line: int, chunk_chars: int) -> None:
    with pytest.raises(DataError) as refused:
        pairs_of(text, chunk_chars=chunk_chars)
    assert str(refused.value) == f"some.json is not a valid JSON object near line {line}"


def test_objects_nested_too_deep_are_refused() -> None:
    with pytest.raises(DataError, match="some.json is not a valid JSON object near line 1"):
        pairs_of(TOO_DEEP)


@pytest.mark.parametrize("chunk_chars", [1, 3, 1 << 20])
@pytest.mark.parametrize("rest", ["}", '{"b":2}', "\n\n,", "x", "\0"])
def test_what_follows_the_object_is_not_ignored(rest: str, chunk_chars: int) -> None:
    with pytest.raises(DataError) as refused:
        pairs_of('{"a":1,\n"b":2}\n' + rest, chunk_chars=chunk_chars)
    wanted = "some.json goes on behind its JSON object, which ends in line 2"
    assert str(refused.value) == wanted


class Endless(io.TextIOBase):
    """A JSON object of n items, made while it is read."""

    def __init__(self, n: int, value: str) -> None:
        self.parts = self.make(n, value)

    @staticmethod
    def make(n: int, value: str) -> Iterator[str]:
        for number in range(n):
            yield f'{"," if number else "{"}"{number}": ["{value}"]\n'
        yield "}"

    def read(self, size: int | None = -1) -> str:
        assert size is not None
        parts: list[str] = []
        while sum(map(len, parts)) < size and (part := next(self.parts, "")):
            parts.append(part)
        return "".join(parts)


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_file() -> None:
    def count(n: int) -> None:
        pairs = iter_json_object(Endless(n, "x" * 99_000), OUR_PATH)  # type: ignore[arg-type]
        assert sum(1 for _ in pairs) == n

    assert peak_bytes(lambda: count(300)) < 8 << 20  # of 30 MB


def test_a_file_that_never_becomes_json_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clingpt.sources.LONGEST_RECORD_CHARS", 3 << 20)
    endless = Endless(10**9, "x" * 99_000)
    next(endless.parts)  # what follows begins with a comma
    with pytest.raises(DataError, match="some.json is not a valid JSON object near line 1"):
        list(iter_json_object(endless, OUR_PATH))  # type: ignore[arg-type]


# Files


def test_bad_items_are_skipped_and_counted(tmp_path: Path) -> None:
    bad = {"7": {"QUESTION": "Why?"}, "8": ITEMS["100"] | {"final_decision": "perhaps"}}
    path = tmp_path / "some.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({**bad, **ITEMS}).encode())
    errors: list[str] = []
    records = list(read_official(path, lambda error: errors.append(str(error))))
    assert [record.id for record in records] == list(ITEMS)
    assert [error[:9] for error in errors] == ["record 7:", "record 8:"]
    with pytest.raises(DataError, match="record 7: no QUESTION"):
        list(read_official(path))


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_bytes('{"1": {"QUESTION": "5 µg?"'.encode("latin-1"))
    with pytest.raises(DataError, match=r"some\.json is not UTF-8 text \(.*0xb5.*\); convert it"):
        list(read_official(path))


def test_missing_files_are_the_systems_to_name(tmp_path: Path) -> None:
    for read in (read_official, read_jsonl):
        with pytest.raises(FileNotFoundError):
            list(read(tmp_path / "none"))


LINES: list[tuple[bytes, str | None]] = [
    (b'\xef\xbb\xbf{"id": "a", "text": "x"}', None),
    (b"   ", None),
    (b"{oops", "it is not JSON (Expecting property name enclosed in double quotes at column 2)"),
    (b"[1]", "a record must be a JSON object, not list"),
    (b'{"id": "b", "text": "\xb5g"}', "'utf-8' codec can't decode byte 0xb5"),
    (b'{"id": "c", "decision": "yes"}', "record c: it has neither a question nor a text"),
    (b'{"id": "d", "text": "x", "decision": "perhaps"}', "record d: the decision is 'perhaps'"),
    (b'{"text": ' + b"[" * 100_000, "maximum recursion depth exceeded"),
    (b'{"text": "no id"}', None),
    (b'{"id": "e", "text": "x"} {"id": "f", "text": "y"}', "it is not JSON (Extra data"),
    (b'{"id": "g", "text": "last, no newline"}', None),
]


def test_jsonl_errors_name_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_bytes(b"\r\n".join(line for line, _ in LINES))
    errors: list[str] = []
    records = list(read_jsonl(path, lambda error: errors.append(str(error))))
    assert [record.id for record in records] == ["a", "notes.jsonl:9", "g"]
    wanted = [f"{path}:{n}: {said}" for n, (_, said) in enumerate(LINES, start=1) if said]
    assert len(errors) == len(wanted)
    for error, start in zip(errors, wanted, strict=True):
        assert error.startswith(start)
        assert "\n" not in error
    with pytest.raises(DataError, match=re.escape(f"{path}:3: it is not JSON")):
        list(read_jsonl(path))
