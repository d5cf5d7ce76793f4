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
    """Headings and their texts in order, repeated ones too; what precedes the first is left out."""
    sections: list[tuple[str, list[str]]] = []
    for line in text.split("\n"):
        if headed := HEADED.fullmatch(line):
            sections.append((headed[1], [headed[2]]))
        elif sections:
            sections[-1][1].append(line)
    return [(name, "\n".join(lines).strip()) for name, lines in sections]


def join_documents(texts: Sequence[str]) -> str:
    """Documents of consecutive pieces as one: what they say under a heading, in their order.

    What stands before the first heading of a piece stands at the end.
    """
    if len(texts) == 1:
        return texts[0].strip()
    parts: dict[str, list[str]] = {name: [] for name in HEADINGS}
    loose = []
    for text in texts:
        for name, said in parse_document(text):
            parts[name].append(said)
        unheaded = takewhile(lambda line: not HEADED.fullmatch(line), text.split("\n"))
        loose.append("\n".join(unheaded).strip())
    lines = [f"{name}: {' '.join(filter(None, said))}" for name, said in parts.items() if said]
    return "\n".join([*lines, *filter(None, loose)])
