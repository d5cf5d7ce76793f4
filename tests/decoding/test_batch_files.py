"""Batch files answered by a fake model: order, resuming and broken files."""

import json
import resource
import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from clingpt.base.errors import DataError
from clingpt.decoding.batch_files import Line, answer_file, json_line

SETTINGS = {"seed": 1, "top_p": 0.9, "stop": ["a"], "top_k": None}
INPUT = b"one\n\nbad\n  \r\ntwo\xc2\xb5\nthree"  # lines 1, 3, 5 and 6
WHOLE = '{"n": 1}\n{"n": 3, "error": "µ"}\n{"n": 5}\n{"n": 6}\n'.encode()
BEGUN = WHOLE[: WHOLE.index(b'{"n": 5}')]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "in.jsonl").write_bytes(INPUT)
    return tmp_path / "in.jsonl"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new" / "out.jsonl"


def answer(lines: Sequence[Line]) -> list[Mapping[str, Any]]:
    return [{"n": n} | ({"error": "µ"} if b"bad" in line else {}) for n, line in lines]


def run(source: Path, target: Path, answer: Any = answer, **other: Any) -> tuple[int, int]:
    how = {"settings": SETTINGS, "limit": None, "at_once": 3} | other
    return answer_file(source, target, answer, **how)


def test_every_line_that_is_not_blank_is_answered_in_order(source: Path, target: Path) -> None:
    assert run(source, target, limit=2) == (2, 1) and target.read_bytes() == BEGUN
    assert run(source, target) == (4, 1) and target.read_bytes() == WHOLE


def test_a_file_truncated_anywhere_is_resumed_to_the_same_bytes(source: Path, target: Path) -> None:
    run(source, target)
    for length in range(len(WHOLE) + 1):
        target.write_bytes(WHOLE[:length])
        seen: list[int] = []

        def noted(lines: Sequence[Line], seen: list[int] = seen) -> list[Mapping[str, Any]]:
            seen.extend(number for number, _ in lines)
            return answer(lines)

        assert run(source, target, noted, at_once=4) == (4, 1)
        assert target.read_bytes() == WHOLE
        assert seen == [1, 3, 5, 6][WHOLE[:length].count(b"\n") :]


@pytest.mark.parametrize("struck", [KeyboardInterrupt(), DataError("no"), MemoryError()])
def test_an_interrupted_run_keeps_the_replies_it_wrote(
    struck: BaseException, source: Path, target: Path
) -> None:
    def dying(lines: Sequence[Line]) -> list[Mapping[str, Any]]:
        if lines[0][0] == 5:
            assert target.read_bytes() == BEGUN  # already on disk: a killed process cannot clean up
            raise struck
        return answer(lines)

    with pytest.raises(type(struck)):
        run(source, target, dying, at_once=1)
    assert target.read_bytes() == BEGUN
    assert run(source, target) == (4, 1) and target.read_bytes() == WHOLE


def test_a_full_disk_loses_no_earlier_reply(source: Path, target: Path) -> None:
    run(source, target, limit=2)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(BEGUN) + 3, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            run(source, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    left = target.read_bytes()
    assert left.startswith(BEGUN) and WHOLE.startswith(left) and left != WHOLE
    assert run(source, target) == (4, 1) and target.read_bytes() == WHOLE


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"top_p": 0.8}, r"\(top_p\)"),
        ({"seed": 2, "stop": []}, r"\(seed, stop\)"),
        ({"top_k": 5}, r"\(top_k\)"),
        ({"quantize": "int8"}, r"\(quantize\)"),
    ],
)
def test_a_file_started_with_other_settings_is_rejected(
    other: dict[str, Any], named: str, source: Path, target: Path
) -> None:
    run(source, target, limit=2)
    with pytest.raises(DataError, match=rf"out.jsonl was started with different settings {named}"):
        run(source, target, settings=SETTINGS | other)
    assert target.read_bytes() == BEGUN


def test_a_file_of_another_program_is_left_untouched(source: Path, target: Path) -> None:
    target.parent.mkdir()
    target.write_text("precious")
    for path in (target, source):
        with pytest.raises(DataError, match=rf"exists and {path.name}.settings.json does not"):
            run(source, path)
    assert target.read_text() == "precious" and source.read_bytes() == INPUT


def test_more_replies_than_lines_are_rejected(source: Path, target: Path) -> None:
    run(source, target)
    with pytest.raises(DataError, match=r"out.jsonl has 4 replies, but .*in.jsonl has 3 lines"):
        run(source, target, limit=3)
    assert target.read_bytes() == WHOLE


def test_lines_that_were_moved_between_two_runs_are_refused(tmp_path: Path, target: Path) -> None:
    """Otherwise some records would be answered twice, and others never."""

    def reply(lines: Sequence[Line]) -> list[Mapping[str, Any]]:
        return [{"id": str(json.loads(line).get("id", f"in.jsonl:{n}"))} for n, line in lines]

    lines = [b'{"id": 7, "text": "a"}\n', b'{"text": "b"}\n', b'{"id": "c", "text": "c"}\n']
    source = tmp_path / "in.jsonl"
    source.write_bytes(b"".join(lines))
    assert run(source, target, reply, limit=2) == (2, 0)
    source.write_bytes(b"".join(reversed(lines)))
    before = target.read_bytes()
    with pytest.raises(DataError, match=r"in\.jsonl:1 is not the record that .*out\.jsonl answers"):
        run(source, target, reply)
    assert target.read_bytes() == before
    source.write_bytes(b"".join(lines))
    assert run(source, target, reply) == (3, 0)


@pytest.mark.parametrize("content", [b"}", b"[1]", b"\xff", b"[" * 100_000, b""])
def test_malformed_files_are_named_and_left_untouched(
    content: bytes, source: Path, target: Path
) -> None:
    run(source, target)
    malformed = BEGUN + content + b'\n{"n": 6}\n'
    target.write_bytes(malformed)
    with pytest.raises(DataError, match=r"out.jsonl:3 is not a JSON object"):
        run(source, target)
    target.with_name("out.jsonl.settings.json").write_bytes(content)
    with pytest.raises(DataError, match=r"out.jsonl.settings.json is not a JSON object"):
        run(source, target)
    assert target.read_bytes() == malformed


def test_memory_does_not_grow_with_file_size(tmp_path: Path) -> None:
    source, target, sizes = tmp_path / "in", tmp_path / "out", list[int]()
    with source.open("wb") as file:
        file.writelines(b"%d %s\n" % (n, b"x" * 10_000) for n in range(2000))

    def long(lines: Sequence[Line]) -> list[Mapping[str, Any]]:
        sizes.append(len(lines))
        return [{"text": line.decode()} for _, line in lines]

    tracemalloc.start()
    try:
        run(source, target, long, limit=1990, at_once=60)
        run(source, target, long, at_once=60)  # reads the existing replies
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sizes == [60] * 33 + [10, 10]
    assert peak < 5e6 < target.stat().st_size / 3


@pytest.mark.parametrize(
    "text", ["é µ 😀", "\x00\x1b[2J\n", "a\x7f\x85b", "\ud800", "\u202e\u2066"]
)
def test_json_line_is_one_printable_line_of_utf_8(text: str) -> None:
    line = json_line({"text": text})
    assert json.loads(line.encode()) == {"text": text}
    assert ("é" in text) == (not line.isascii()) and "\x7f" not in line and "\n" not in line


@pytest.mark.parametrize("lose", [Path.unlink, lambda path: path.rename(path.with_name("b.jsonl"))])
def test_a_file_that_is_removed_while_it_is_written_stops_the_run(
    source: Path, target: Path, lose: Any
) -> None:
    def losing(lines: Sequence[Line]) -> list[Mapping[str, Any]]:
        if lines[0][0] > 1:
            lose(target)
        return answer(lines)

    with pytest.raises(DataError, match="was removed or renamed while it was being written"):
        run(source, target, losing, at_once=1)
    assert not target.exists()
