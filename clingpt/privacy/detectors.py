"""Choose which detectors search a text for identifiers, and join what they find.

    detect = chosen("rules+tagger")
    detect("report from keisha, chart 4471920")  →  [Found("name", 12, 18), …]

Rules search every text. In notes, the tagger adds what no rule finds; it skips published abstracts,
which do not need its time. A roster adds known names and numbers, and an engine is a function of
the user's that adds whatever it finds. Each adds to the findings before it and never removes any.
All can be pickled for worker processes.
"""

import hashlib
import importlib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from clingpt.base.errors import ConfigError, DataError
from clingpt.privacy.identifiers import (
    KINDS,
    Detector,
    Found,
    Search,
    find_identifiers,
    search,
    without_placeholders,
)
from clingpt.privacy.roster import Roster
from clingpt.privacy.tagger import MODEL, THRESHOLD, Tagger, trimmed
from clingpt.text.records import Record

RULES, TAGGER = "rules", "tagger"
DEFAULT = f"{RULES}+{TAGGER}"

# Kinds of other detectors, by their usual names.
_ALIASES = {
    "name": "person per patient doctor username staff hcw names",
    "date": "date_time datetime dates dob",
    "record_number": "id mrn medicalrecord idnum number account us_bank_number us_itin bioid other",
    "ssn": "us_ssn",
    "licence": "license us_driver_license us_passport medical_license",
    "address": "place location loc gpe street city zip hospital organization org address_line",
    "phone": "phone_number fax telephone pager contact",
    "email": "email_address",
    "url": "uri website",
    "ip": "ip_address",
}
_KIND_OF = {kind: kind for kind in KINDS}
_KIND_OF |= {alias: kind for kind, names in _ALIASES.items() for alias in names.split()}
_ENGINE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_WORD = re.compile(r"\w{1,30}")
_FREE = re.compile(rb"\0+")

Engine = Callable[[str], Iterable[tuple[str, int, int]]]


# Choosing


def parse_engine(text: str) -> tuple[bool, str | None]:
    """Read --phi_engine: whether the tagger is used, and the MODULE:function that is, if any."""
    first, *others = text.split("+")
    engines = [name for name in others if name != TAGGER]
    good = first == RULES and len(engines) <= 1 and others.count(TAGGER) <= 1
    if not good or not all(map(_ENGINE.fullmatch, engines)):
        raise ConfigError(
            f"phi_engine must be {RULES}, {DEFAULT}, {RULES}+MODULE:function or "
            f"{DEFAULT}+MODULE:function, got {text!r}"
        )
    return TAGGER in others, engines[0] if engines else None


def chosen(engine: str = DEFAULT, roster: Roster | None = None) -> Detector:
    """Return the project's own detectors: what they find may be a reason to refuse a text."""
    with_tagger, _ = parse_engine(engine)
    detect: Detector = RulesAndTagger() if with_tagger else find_identifiers
    return WithRoster(detect, roster) if roster else detect


def with_engine(engine: str, detect: Detector) -> Detector:
    """Return a detector that also calls the function that --phi_engine names, for redaction only.

    Raises ConfigError if there is no such function.
    """
    _, name = parse_engine(engine)
    if name is None:
        return detect
    load_engine(name)
    return WithEngine(detect, name)


def detector_steps(engine: str, roster: Roster | None) -> list[tuple[str, Detector]]:
    """List the detectors in use, each with those before it, for a report on what each adds."""
    with_tagger, name = parse_engine(engine)
    steps: list[tuple[str, Detector]] = [(RULES, find_identifiers)]
    if with_tagger:
        steps.append((f"+ {TAGGER}", chosen(engine)))
    if roster:
        steps.append(("+ roster", chosen(engine, roster)))
    if name:
        steps.append((f"+ {name}", with_engine(engine, chosen(engine, roster))))
    return steps


def detectors_used(engine: str, roster: Roster | None) -> dict[str, object]:
    """Return which detectors a data set was searched by, for its receipt."""
    with_tagger, name = parse_engine(engine)
    folder = Path(__file__).parent
    rules = [*folder.glob("*.py"), *folder.glob("*.txt")]
    return {
        RULES: _fingerprint(rules),
        TAGGER: _fingerprint([MODEL]) if with_tagger else None,
        "roster": roster is not None,
        "engine": name,
    }


def _fingerprint(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def for_record(detect: Detector, record: Record) -> Detector:
    """Return a detector that also finds the values of a record's other columns, such as a name."""
    return WithRoster(detect, _own_roster(record.known)) if record.known else detect


@lru_cache(maxsize=4)
def _own_roster(known: tuple[tuple[str, str], ...]) -> Roster:
    roster = Roster()
    roster.add_row(dict(known))
    return roster


# Detectors


@dataclass(frozen=True)
class RulesAndTagger:
    """The rules and, in notes, the tagger."""

    def __call__(self, text: str, /) -> list[Found]:
        return list(_found(text))


@lru_cache(maxsize=4)  # prepare.py counts what it then replaces
def _found(text: str) -> tuple[Found, ...]:
    rules = search(text)
    return tuple(with_tagged(rules, Tagger.load()) if rules.is_note else rules.found)


def with_tagged(rules: Search, tagger: Tagger, *, threshold: float = THRESHOLD) -> list[Found]:
    """Return what the rules and the tagger find."""
    reading = tagger.read(rules.text, rules.sure, rules.likely)
    return merged(rules.text, rules.found, reading.find(threshold))


@dataclass(frozen=True)
class WithRoster:
    """A detector, and known names and numbers."""

    detect: Detector
    roster: Roster

    def __call__(self, text: str, /) -> list[Found]:
        bare = without_placeholders(text)
        return merged(bare, self.detect(text), self.roster.find(bare))


@dataclass(frozen=True)
class WithEngine:
    """A detector, and a function of the user's: text → (kind, start, end) of each identifier."""

    detect: Detector
    engine: str  # MODULE:function

    def __call__(self, text: str, /) -> list[Found]:
        bare = without_placeholders(text)
        return merged(bare, self.detect(text), self._found(bare))

    def _found(self, text: str) -> list[Found]:
        """Call the function; raise DataError, without showing any text, if it misbehaves."""
        try:
            found = sorted(self._checked(one, len(text)) for one in load_engine(self.engine)(text))
        except DataError:
            raise
        except Exception as error:  # whatever a function of the user's may raise
            # Not the error's own words: they may quote the text.
            raise DataError(
                f"--phi_engine: {self.engine} failed with {type(error).__name__} on a text of "
                f"{len(text)} characters; it must take a text and return (kind, start, end) of "
                "each identifier"
            ) from None
        found.sort(key=lambda one: (one.start, -one.end))
        return found

    def _checked(self, one: Any, length: int) -> Found:
        kind, start, end = one
        name = str(kind).lower()
        if name not in _KIND_OF:
            is_word = _WORD.fullmatch(str(kind))  # anything else may quote the text
            shown = f"the unknown kind {str(kind)!r}" if is_word else "a kind that is not a word"
            raise DataError(
                f"--phi_engine: {self.engine} returned {shown}; choose from {', '.join(KINDS)}"
            )
        if not (isinstance(start, int) and isinstance(end, int) and 0 <= start <= end <= length):
            raise DataError(
                f"--phi_engine: {self.engine} returned a span outside a text of {length} "
                "characters; return (kind, start, end) with 0 <= start <= end <= the length"
            )
        return Found(_KIND_OF[name], start, end)


@cache
def load_engine(name: str) -> Engine:
    """Import MODULE:function, also from the current folder; raise ConfigError if that fails."""
    module, _, function = name.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        found = getattr(importlib.import_module(module), function, None)
    except Exception as error:  # a module of the user's may raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ConfigError(f"--phi_engine: cannot import {module} ({reason})") from None
    if not callable(found):
        raise ConfigError(f"--phi_engine: the module {module} has no function {function}")
    engine: Engine = found
    return engine


# Joining


def merged(text: str, found: Sequence[Found], more: Iterable[Found]) -> list[Found]:
    """Add findings of another detector to those that are already found, which keep their kinds.

    What overlaps a finding of the same kind extends it; of any other, the rest becomes a separate
    finding. Findings without a letter or a digit are dropped.
    """
    covered, bridged = bytearray(len(text)), bytearray(len(text))
    for one in found:
        covered[one.start : one.end] = b"\1" * (one.end - one.start)
    pieces = list(found)
    for one in more:
        bridged[one.start : one.end] = b"\1" * (one.end - one.start)
        for match in _FREE.finditer(covered[one.start : one.end]):
            rest = Found(one.kind, one.start + match.start(), one.start + match.end())
            if piece := trimmed(text, rest):
                covered[piece.start : piece.end] = b"\1" * (piece.end - piece.start)
                pieces.append(piece)
    joined: list[Found] = []
    for one in sorted(pieces, key=lambda piece: piece.start):
        last = joined[-1] if joined else None
        if last and last.kind == one.kind and all(bridged[last.end : one.start]):
            joined[-1] = last._replace(end=one.end)
        else:
            joined.append(one)
    return joined
