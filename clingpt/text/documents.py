"""Structured documents: lines of `HEADING: text`, the replies of the task `document`.

A line that does not start with one of HEADINGS continues the section above it.
"""

import re
from collections.abc import Sequence
from itertools import takewhile

from clingpt.text.tasks import DOCUMENT_ORDER

HEADINGS = (*DOCUMENT_ORDER, "CONCLUSION")
HEADED = re.compile(rf"\s*({'|'.join(HEADINGS)}):(.*)")

Sections = list[tuple[str, str]]


def parse_document(text: str) -> Sections:
    """Return (heading, text) pairs in order, including repeated headings.

    Text before the first heading is omitted.
    """
    sections: list[tuple[str, list[str]]] = []
    for line in text.split("\n"):
        if headed := HEADED.fullmatch(line):
            sections.append((headed[1], [headed[2]]))
        elif sections:
            sections[-1][1].append(line)
    return [(name, "\n".join(lines).strip()) for name, lines in sections]


def join_documents(texts: Sequence[str]) -> str:
    """Merge the documents of consecutive windows, heading by heading in the order of HEADINGS.

    Text before the first heading of a window goes to the end, so that nothing is lost.
    """
    if len(texts) == 1:
        return texts[0].strip()
    parts: dict[str, list[str]] = {name: [] for name in HEADINGS}
    loose = []
    for text in texts:
        for name, part in parse_document(text):
            parts[name].append(part)
        unheaded = takewhile(lambda line: not HEADED.fullmatch(line), text.split("\n"))
        loose.append("\n".join(unheaded).strip())
    lines = [f"{name}: {' '.join(filter(None, found))}" for name, found in parts.items() if found]
    return "\n".join([*lines, *filter(None, loose)])
