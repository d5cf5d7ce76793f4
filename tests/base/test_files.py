"""Files: read as text, locked, replaced atomically."""

import errno
import io
from pathlib import Path

import pytest

from clingpt.base import files
from clingpt.base.errors import DataError


def test_read_text_removes_the_byte_order_mark_and_trailing_newlines(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_bytes("\ufeffPain fell.\n by 31 %\n\n".encode())
    assert files.read_text(path) == "Pain fell.\n by 31 %"


def test_read_text_reads_standard_input_without_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Pain fell.\n"))
    assert files.read_text(None) == "Pain fell."


def test_read_text_names_a_file_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_bytes(b"a\xff")
    with pytest.raises(DataError, match=r"note\.txt is not UTF-8 \(byte 1\); convert it first"):
        files.read_text(path)


def test_a_lock_is_held_until_its_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with path.open("w") as mine, path.open("w") as other:
        assert files.try_lock(mine)
        assert not files.try_lock(other)
        mine.close()
        assert files.try_lock(other)


def test_a_file_system_without_locks_lets_every_writer_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    with (tmp_path / ".lock").open("w") as file:
        assert files.try_lock(file)


def test_write_json_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    files.write_json(path, {"name": "µ"})
    assert path.read_text("utf-8") == '{\n "name": "µ"\n}\n'
    assert [each.name for each in tmp_path.iterdir()] == ["report.json"]
