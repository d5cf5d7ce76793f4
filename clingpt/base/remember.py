"""A cache of what was computed for words."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

Result = TypeVar("Result")
LONGEST = 64  # characters of a word that is remembered


def remember_words(most: int) -> Callable[[Callable[[str], Result]], Callable[[str], Result]]:
    """Cache a function of a word for the `most` latest words.

    Long words are computed each time: a column of images in base64 has words of a megabyte, and
    a cache of them would hold the whole file.
    """

    def decorate(function: Callable[[str], Result]) -> Callable[[str], Result]:
        cached = lru_cache(maxsize=most)(function)

        @wraps(function)
        def look_up(word: str) -> Result:
            return cached(word) if len(word) <= LONGEST else function(word)

        return look_up

    return decorate
