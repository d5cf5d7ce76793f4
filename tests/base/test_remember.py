"""What is remembered for words does not grow with megabytes of text without a blank."""

import tracemalloc
from collections.abc import Callable

import pytest

from clingpt.base.remember import LONGEST, remember_words
from clingpt.data.overlap import word_hashes
from clingpt.privacy.names import standing
from clingpt.privacy.roster import fold


def test_short_words_are_computed_once_and_long_ones_each_time() -> None:
    calls = []

    @remember_words(2)
    def length(word: str) -> int:
        calls.append(len(word))
        return len(word)

    for n in (3, 3, LONGEST, LONGEST, LONGEST + 1, LONGEST + 1):
        assert length("a" * n) == n
    assert calls == [3, LONGEST, LONGEST + 1, LONGEST + 1]


@pytest.mark.parametrize("look_up", [fold, standing, word_hashes])
def test_long_words_leave_nothing_in_memory(look_up: Callable[[str], object]) -> None:
    look_up("word")
    tracemalloc.start()
    try:
        for number in range(20):
            look_up(f"{number:06}" + "ab" * 250_000)
        assert tracemalloc.get_traced_memory()[0] < 2_000_000  # ten million, if they were kept
    finally:
        tracemalloc.stop()
