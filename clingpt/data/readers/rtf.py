"""Read Rich Text Format, one record per file.

The package `striprtf` does the parsing. This module adds the checks that it lacks: whether the
bytes are RTF at all, which encoding they declare, and whether the document is complete.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from clingpt.base.errors import DataError
from clingpt.data.readers.reading import Reading
from clingpt.data.readers.text_file import AUTO, Placed, read_bytes

_CODE_PAGE = re.compile(rb"\\ansicpg(\d{1,5})")
_CHARACTER_SETS = {b"\\mac": "mac_roman", b"\\pca": "cp850", b"\\pc": "cp437"}
_LONE_HALVES = re.compile("[\ud800-\udfff]+")


def read_rtf(path: Path, reading: Reading) -> Iterator[Placed]:
    """Yield the text of a file, whose name without the ending is the id."""
    try:
        text = rtf_to_text(read_bytes(path), reading.options.encoding)
    except DataError as error:
        reading.on_bad(DataError(f"{path}: {error}"))
    else:
        yield str(path), {"id": path.name.partition(".")[0], "text": text}


def rtf_to_text(data: bytes, encoding: str = AUTO) -> str:
    """Return the text of an RTF document; raise DataError if it is not one or is truncated.

    Bytes beyond ASCII are read in the code page that the document declares, or in `encoding` if the
    user gave one. Page headers, footers and pictures are left out.
    """
    from striprtf import striprtf

    data = data.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not data.startswith(b"{\\rtf"):
        raise DataError("not RTF: it does not start with {\\rtf; give it the right ending")
    declared = _encoding(data[:4096]) if encoding == AUTO else encoding
    try:
        source = data.decode(declared)
    except (UnicodeDecodeError, LookupError):
        raise DataError(
            f"its bytes are not {declared} text, the encoding that it declares; pass --encoding"
        ) from None
    if not _is_closed(source):
        raise DataError("the RTF is truncated: its last brace is missing; copy it again")
    if "\\bin" not in source:
        # striprtf looks for links from each field to the end of its line, which takes minutes in
        # one long line, and adds their addresses to the text. RTF ignores line breaks.
        source = re.sub(r"(?=\{\\field\b|HYPERLINK)", "\n", source)
    try:
        text: str = striprtf.rtf_to_text(source, declared, errors="replace")
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        # What striprtf raises at a malformed control word, such as \uc without its number.
        raise DataError(f"damaged RTF ({type(error).__name__}); save it again") from None
    # RTF writes characters beyond U+FFFF as the two halves of a surrogate pair.
    return _LONE_HALVES.sub(_join_halves, text)


def _encoding(head: bytes) -> str:
    """Return the encoding that an RTF header declares; Windows-1252 is the default of RTF."""
    if found := _CODE_PAGE.search(head):
        return "utf-8" if found[1] == b"65001" else f"cp{found[1].decode()}"
    return next((name for word, name in _CHARACTER_SETS.items() if word in head[:64]), "cp1252")


def _is_closed(source: str) -> bool:
    """Return whether the outermost group ends; some databases append padding."""
    if "\\bin" in source:  # binary data may contain any brace
        return True
    depth = 0
    for mark in re.finditer(r"\\.|[{}]", source, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(mark[0], 0)
        if depth == 0 and mark[0] == "}":
            return True
    return False


def _join_halves(halves: re.Match[str]) -> str:
    return halves[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
