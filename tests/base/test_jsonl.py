"""JSON Lines files: appended, read after a crash, rewritten and repaired."""

from pathlib import Path

import pytest

from clingpt.base import jsonl

TORN = ['{"step": 3, "lo', "{", '{"step": 3}']  # what a killed process may leave: no newline
MALFORMED = ["{}}\n", "[3]\n", "\x00\x00\x00\n", "[" * 10_000 + "\n"]


def write_rows(path: Path, n: int) -> None:
    for step in range(1, n + 1):
        jsonl.append(path, {"step": step})


def steps(path: Path) -> list[int]:
    return [row["step"] for row in jsonl.read(path)]


def test_a_missing_file_has_no_rows(tmp_path: Path) -> None:
    assert jsonl.read(tmp_path / "rows.jsonl") == []


def test_rows_are_read_in_the_order_they_were_appended(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, 2)
    jsonl.append(path, {"step": 3, "text": "µ\n\u2028"}, {"step": 4}, sync=True)
    assert steps(path) == [1, 2, 3, 4]
    assert jsonl.read(path)[2]["text"] == "µ\n\u2028"
    assert path.read_bytes().count(b"\n") == 4


@pytest.mark.parametrize("torn", TORN)
def test_a_torn_line_is_skipped_and_does_not_swallow_the_next_row(
    torn: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, 2)
    with path.open("a") as file:
        file.write(torn)
    assert steps(path) == [1, 2]
    jsonl.append(path, {"step": 4})
    assert steps(path)[-1] == 4 and steps(path)[:2] == [1, 2]


@pytest.mark.parametrize("torn", ["", *TORN])
def test_truncating_removes_only_the_torn_line(torn: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, 2)
    whole = path.read_bytes()
    with path.open("a") as file:
        file.write(torn)
    jsonl.truncate_torn_line(path)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("line", MALFORMED)
def test_malformed_lines_are_skipped(line: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, 2)
    with path.open("a") as file:
        file.write(line)
    jsonl.append(path, {"step": 3})
    assert steps(path) == [1, 2, 3]


def test_scan_yields_the_offset_of_each_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"step": 1}\nnot JSON µ\n{"step": 2}\n')
    content = path.read_bytes()
    for start, row in jsonl.scan(path):
        assert content[start:].startswith(f'{{"step": {row["step"]}}}\n'.encode())
    assert steps(path) == [1, 2]


def test_keep_rewrites_the_file_with_the_wanted_rows(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write_rows(path, 4)
    path.write_text(path.read_text() + '{"step": 5, "tra')
    jsonl.keep(path, lambda row: row["step"] <= 3)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 3}\n'
    assert [each.name for each in tmp_path.iterdir()] == ["metrics.jsonl"]
