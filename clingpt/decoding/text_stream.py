"""Tokens to text as they come: never half a character, nothing of a stop string, nothing twice.

What is handed out, put together, is the final text; there is no other way to make it.
"""

import codecs
from collections.abc import Sequence

from clingpt.text.tokenizer import Tokenizer


class TextStream:
    """One text, growing."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stop = tuple(stop)
        self._held = ""  # characters that may be the beginning of a stop string
        self.text = ""  # all that was handed out
        self.stopped_by: str | None = None  # the stop string that was found

    def push(self, token: int) -> str:
        """The characters that this token makes certain; sets `stopped_by` at a stop string.

        The one that ends first counts, as if characters came one by one: where a token's borders
        lie changes nothing.
        """
        self._held += self._decoder.decode(self._tokenizer.decode_bytes([token]))
        found = [(self._held.find(stop), stop) for stop in self._stop]
        if complete := [(at + len(stop), at, stop) for at, stop in found if at >= 0]:
            _, at, self.stopped_by = min(complete)
            self._held = self._held[:at]
            return self.end()
        return self._hand_out(len(self._held) - self._unsure())

    def end(self) -> str:
        """What was held back; a character that never came to its end is left out."""
        return self._hand_out(len(self._held))

    def _unsure(self) -> int:
        """How many of the last characters may be the beginning of a stop string."""
        longest = max((len(stop) - 1 for stop in self._stop), default=0)
        for n in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-n:]) for stop in self._stop):
                return n
        return 0

    def _hand_out(self, n: int) -> str:
        piece, self._held = self._held[:n], self._held[n:]
        self.text += piece
        return piece
