"""Read pipe-delimited HL7 v2 messages: one record per message, from its text observations.

The separators are those that the header of each message declares. The package `hl7` is not used: as
of 2026-12-01 its last release dates from March 2022, it reads 0.2 MB of observations per second,
and its unescaping drops all text after a lone backslash and prints it to stderr as a warning.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from clingpt.base.errors import DataError
from clingpt.data.readers.reading import Reading
from clingpt.data.readers.sections import is_conclusion, set_apart
from clingpt.data.readers.text_file import (
    UNDECODED,
    LeftOut,
    OnBad,
    Placed,
    Row,
    TextFile,
    open_text,
)

TEXT_TYPES = ("TX", "FT", "ST")  # of an OBX segment: text, formatted text, string
WITHDRAWN = ("D", "W", "X")  # status of an observation: deleted, wrong, cannot be obtained
# Suffixes of OBX-3 for the parts of a report (HL7 v2.3, section 7.1.3.3).
SUFFIXES = {"GDT": "FINDINGS", "IMP": "IMPRESSION", "REC": "RECOMMENDATION"}
PLAIN_LABEL = re.compile(r"[^\W\d_][^\W_]*(?:[ /&,-]{1,3}[^\W_]+){0,5}")  # words, not a code
MOST_LINES = 100_000  # of a message

_ENVELOPE = ("FHS", "BHS", "BTS", "FTS")  # segments around the messages of a batch file
_MLLP = "\x0b\x1c"  # the characters that frame a message on a network connection


class Message(NamedTuple):
    """One message: its segments as lists of fields, numbered as in the standard."""

    separators: str  # of fields, components, repetitions, the escape, sub-components: |^~\&
    segments: list[list[str]]

    def named(self, name: str) -> list[list[str]]:
        return [fields for fields in self.segments if fields[0] == name]

    def part(self, name: str, number: int, component: int = 1) -> str:
        """Return one component of a field of the first segment of a name; "" if it is missing."""
        first = next(iter(self.named(name)), [])
        return self.component(_field(first, number).split(self.separators[2])[0], component)

    def component(self, field: str, number: int) -> str:
        parts = field.split(self.separators[1])
        return unescape(parts[number - 1], self.separators).strip() if number <= len(parts) else ""


def read_hl7(path: Path, reading: Reading) -> Iterator[Placed]:
    """Read a file of messages; see `iter_hl7`."""
    with open_text(path, reading.options.encoding) as file:
        yield from iter_hl7(file, reading.on_bad)


def iter_hl7(file: TextFile, on_bad: OnBad) -> Iterator[Placed]:
    """Yield a row for each message with text: id, group, sections, and an impression as target."""
    for line, segments in _messages(file):
        place = f"{file.path}:{line}"
        if any(UNDECODED in segment for segment in segments):
            on_bad(file.undecoded(line))
            continue
        try:
            row = _row(_parse(segments))
        except DataError as error:
            on_bad(type(error)(f"{place}: {error}"))
        else:
            yield place, row


def _messages(file: TextFile) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line and the segments of each message.

    A line that does not start like a segment continues the one before it: some programs write line
    breaks into the text of a report.
    """
    start, segments = 0, list[str]()
    for line, raw in file.lines():
        text = raw.strip(_MLLP + "\ufeff\r\n")
        if text.startswith("MSH"):
            if segments:
                yield start, segments
            start, segments = line, [text]
        elif text.startswith(_ENVELOPE) or not text.strip():
            continue
        elif not segments or line - start > MOST_LINES:
            problem = f"more than {MOST_LINES:,} lines" if segments else "no message header"
            raise DataError(
                f"{file.path}:{start or line}: {problem}; an HL7 v2 message starts with MSH: is "
                "this the right file?"
            )
        elif re.match("[A-Z][A-Z0-9]{2}", text) and text[3:4] == segments[0][3:4]:
            segments.append(text)
        else:
            segments[-1] += f"\n{text}"
    if not segments:
        raise DataError(f"{file.path} has no HL7 message; a message starts with MSH")
    yield start, segments


def _parse(segments: list[str]) -> Message:
    header = segments[0]
    separators = header[3:4] + header[4:8].partition(header[3])[0] if header[3:] else ""
    plain = any(each.isalnum() or each.isspace() for each in separators)
    if len(separators) < 3 or len(set(separators)) < len(separators) or plain:
        raise DataError("the message header (MSH) does not declare its separators, as in MSH|^~\\&")
    separators += r"|^~\&"[len(separators) :]
    split = [segment.split(separators[0]) for segment in segments]
    split[0].insert(1, separators[0])  # MSH-1 is the separator itself, which shifts the numbers
    return Message(separators, split)


def _row(message: Message) -> Row:
    sections = _sections(message)
    if not sections:
        raise LeftOut(_why_no_text(message))
    return {
        "id": message.part("MSH", 10) or message.part("OBR", 3) or None,
        "group": _patient(message) or message.part("PV1", 19) or None,
        **set_apart(sections, [is_conclusion(label) for label, _ in sections]),
    }


def _sections(message: Message) -> list[tuple[str, str]]:
    """Join the text observations of a report part by part, under the part's name."""
    found: list[tuple[str, list[str]]] = []
    document = _label(message.part("TXA", 2, 2), message.part("TXA", 2))
    for fields in message.segments:
        if fields[0] == "OBR":
            service = _field(fields, 4)
            document = _label(message.component(service, 2), message.component(service, 1))
        if fields[0] != "OBX" or _field(fields, 2) not in TEXT_TYPES:
            continue
        text = unescape(_field(fields, 5).replace(message.separators[2], "\n"), message.separators)
        if not text.strip() or _field(fields, 11) in WITHDRAWN:
            continue
        observed = _field(fields, 3)
        suffix = message.component(observed, 1).rpartition(message.separators[4])[2]
        label = SUFFIXES.get(suffix) or _label(message.component(observed, 2)) or document
        if found and found[-1][0] == label:
            found[-1][1].append(text)
        else:
            found.append((label, [text]))
    return [(label or "TEXT", "\n".join(texts)) for label, texts in found]


def _label(*candidates: str) -> str:
    """Return the first name that reads as words, in capitals; "" for codes."""
    return next((name.upper() for name in candidates if PLAIN_LABEL.fullmatch(name)), "")


def _patient(message: Message) -> str:
    """Return the medical record number of PID-3, else its first identifier, else PID-2."""
    first = next(iter(message.named("PID")), [])
    ids = _field(first, 3).split(message.separators[2])
    kinds = [message.component(each, 5) for each in ids]
    chosen = ids[kinds.index("MR")] if "MR" in kinds else ids[0]
    return message.component(chosen, 1) or message.part("PID", 2)


def _why_no_text(message: Message) -> str:
    kind = "^".join(filter(None, (message.part("MSH", 9, n) for n in (1, 2))))
    kind = kind if re.fullmatch(r"[A-Z0-9]{3}(\^[A-Z0-9]{3})?", kind) else "unnamed"
    types = sorted({_field(fields, 2) for fields in message.named("OBX")} - {""})
    if not types:
        return f"no OBX segment in a message of type {kind}, so no text"
    shown = ", ".join(each for each in types if re.fullmatch("[A-Z]{2,3}", each)) or "unknown"
    return f"no text in the OBX segments of a message of type {kind} (their types: {shown})"


def _field(fields: list[str], number: int) -> str:
    return fields[number] if number < len(fields) else ""


# Escapes


def unescape(text: str, separators: str) -> str:
    r"""Replace escape sequences such as \T\ and \.br\; any other backslash stays as it is."""
    if separators[3] not in text:
        return text
    return _escapes(separators[3]).sub(lambda found: _unescaped(found[1], separators), text)


@cache
def _escapes(escape: str) -> re.Pattern[str]:
    mark = re.escape(escape)
    layout = r"\.(?:br|sp|fi|nf|in|ti|sk|ce)[+-]?\d*"
    return re.compile(f"{mark}([FSTREHN]|{layout}|X(?:[0-9A-Fa-f]{{2}})+){mark}")


def _unescaped(code: str, separators: str) -> str:
    if code in (named := dict(zip("FSRET", separators, strict=True))):
        return named[code]
    if code.startswith("X"):
        data = bytes.fromhex(code[1:])
        return data.decode("utf-8", "ignore") or data.decode("latin-1")
    if code.startswith((".br", ".sp", ".ce")):
        return "\n"
    return "" if code in "HN" else " "  # highlighting; indents and skips
