"""A JSON text of any size, decoded value by value: equal to json.loads, and errors by line."""

import io
import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clingpt.base.errors import DataError
from clingpt.data.readers.json_text import JsonText
from clingpt.data.readers.text_file import TextFile
from tests.helpers.rows import peak_bytes


def text_file(text: io.TextIOBase | str, name: str = "some.json") -> TextFile:
    file: Any = io.StringIO(text) if isinstance(text, str) else text
    return TextFile(file, Path(name), "utf-8")


def items_of(text: str, *, chunk_chars: int = 1 << 20) -> list[tuple[int, str | None, Any]]:
    file = JsonText(text_file(text), chunk_chars=chunk_chars)
    items = [(line, key, file.value()) for line, key in file.items()]
    file.end()
    return items


def pairs_of(text: str, *, chunk_chars: int = 1 << 20) -> list[tuple[str | None, Any]]:
    return [(key, value) for _, key, value in items_of(text, chunk_chars=chunk_chars)]


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(
    wanted=st.dictionaries(st.text(), JSON_VALUES, max_size=4),
    as_list=st.booleans(),
    indent=st.sampled_from([None, 0, 1]),
    ascii_only=st.booleans(),
    around=st.sampled_from(["", " ", "\n\t", " " * 9]),
    chunk_chars=st.sampled_from([1, 2, 3, 7, 64, 1 << 20]),
)
def test_json_items_equal_those_of_json_loads(
    wanted: dict[str, Any],
    as_list: bool,
    indent: int | None,
    ascii_only: bool,
    around: str,
    chunk_chars: int,
) -> None:
    whole = list(wanted.values()) if as_list else wanted
    text = around + json.dumps(whole, indent=indent, ensure_ascii=ascii_only) + around
    pairs = [(None, value) for value in wanted.values()] if as_list else list(wanted.items())
    assert pairs_of(text, chunk_chars=chunk_chars) == pairs


@pytest.mark.parametrize("chunk_chars", [1, 2, 5, 1 << 20])
@pytest.mark.parametrize(
    ("text", "items"),
    [
        ('{"a":1.5e3,"a":-0.25}', [(1, "a", 1500.0), (1, "a", -0.25)]),  # both, to be refused
        ('{"a"\n:\ntrue\n,\n"":null\n}', [(1, "a", True), (5, "", None)]),
        ('{"\\ud83d\\ude00":"\\\\\\""}', [(1, "😀", '\\"')]),
        ('{"a":"},{"}', [(1, "a", "},{")]),
        ("{ }", []),
        ("\n[\n]\n", []),
        (
            '[1,\n"],["\n\n,\n{"a":\n[]} ,[2]]',
            [(1, None, 1), (2, None, "],["), (5, None, {"a": []}), (6, None, [2])],
        ),
    ],
)
def test_json_items_are_numbered_by_line(
    text: str, items: list[tuple[int, str | None, Any]], chunk_chars: int
) -> None:
    assert items_of(text, chunk_chars=chunk_chars) == items


MALFORMED = [
    ("", 1),
    ("\n\n", 3),
    ("null", 1),
    ("5", 1),
    ('"a"', 1),
    ("{", 1),
    ("{,}", 1),
    ("[", 1),
    ("[,]", 1),
    ("[1,]", 1),
    ("[1 2]", 1),
    ("[1}", 1),
    ('["a":1]', 1),
    ("[1,\n2,\n3", 3),
    ("]", 1),
    ('{"a"', 1),
    ('{"a":', 1),
    ('{"a":1', 1),
    ('{"a":1,', 1),
    ('{"a":1,}', 1),
    ('{"a":1 "b":2}', 1),
    ('{"a" 1}', 1),
    ("{1:2}", 1),
    ("{null:2}", 1),
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
def test_malformed_json_is_refused_with_its_line(text: str, line: int, chunk_chars: int) -> None:
    with pytest.raises(DataError) as refused:
        pairs_of(text, chunk_chars=chunk_chars)
    assert str(refused.value) == f"some.json:{line}: not valid JSON near here"


def test_objects_nested_too_deep_are_refused() -> None:
    with pytest.raises(DataError, match="some.json:2: not valid JSON near here"):
        pairs_of(TOO_DEEP)


@pytest.mark.parametrize("chunk_chars", [1, 3, 1 << 20])
@pytest.mark.parametrize("rest", ["}", '{"b":2}', "\n\n,", "x", "\0"])
def test_text_after_the_json_value_is_refused(rest: str, chunk_chars: int) -> None:
    for text in ('{"a":1,\n"b":2}\n', "[1,\n2]\n"):
        with pytest.raises(DataError, match="some.json:2: text after the end of the JSON value"):
            pairs_of(text + rest, chunk_chars=chunk_chars)


class Endless(io.TextIOBase):
    """A JSON object of n items, generated while it is read."""

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


def test_memory_does_not_grow_with_the_size_of_a_json_file() -> None:
    def count(n: int) -> None:
        text = JsonText(text_file(Endless(n, "x" * 99_000)))
        assert sum(len(text.value()) for _ in text.items()) == n

    assert peak_bytes(lambda: count(300)) < 8 << 20  # of 30 MB


def test_an_endless_json_record_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clingpt.data.readers.json_text.LONGEST_RECORD_CHARS", 3 << 20)
    endless = Endless(10**9, "x" * 99_000)
    endless.parts = chain(['{"a": '], endless.parts)
    with pytest.raises(DataError, match="some.json:1: a value of more than 3,145,728 characters"):
        text = JsonText(text_file(endless))
        for _ in text.items():
            text.value()
