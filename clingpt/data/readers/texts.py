"""Plain text: a file of a folder is one record; a single file is cut into passages."""

from collections.abc import Iterator
from pathlib import Path

from clingpt.base.errors import DataError
from clingpt.data.readers.reading import Reading
from clingpt.data.readers.text_file import LONGEST_RECORD_CHARS, UNDECODED, Placed, open_text

PASSAGE_CHARS = 2000  # about 500 tokens: long enough to learn from, short enough for many of them


def read_text(path: Path, reading: Reading) -> Iterator[Placed]:
    """Yield the whole text of a file, without an id."""
    with open_text(path, reading.options.encoding) as file:
        text = file.read(LONGEST_RECORD_CHARS)
        if file.read(1):
            raise DataError(f"{path}: more than {LONGEST_RECORD_CHARS:,} characters; split it")
    yield str(path), {"text": text}


def read_passages(path: Path, reading: Reading) -> Iterator[Placed]:
    """Yield a file in passages of whole paragraphs, so that it can be split and streamed.

    A passage ends at the first empty line after PASSAGE_CHARS characters; in a text without empty
    lines, at the first line end after twice as many.
    """
    reading.shape.facts.append(
        f"cut at empty lines into passages of about {PASSAGE_CHARS:,} characters, which are the "
        "records"
    )
    with open_text(path, reading.options.encoding) as file:
        passage: list[str] = []
        first, n_chars = 1, 0
        for line, text in file.lines():
            if UNDECODED in text:
                raise file.undecoded(line)
            blank = text.isspace()
            if (blank and n_chars >= PASSAGE_CHARS) or n_chars >= 2 * PASSAGE_CHARS:
                yield f"{path}:{first}", {"text": "".join(passage)}
                passage, n_chars = [], 0
            if not passage and blank:
                continue
            if not passage:
                first = line
            passage.append(text)
            n_chars += len(text)
        if passage:
            yield f"{path}:{first}", {"text": "".join(passage)}
