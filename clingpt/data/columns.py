"""Which column of a table is what, told by the user or guessed; and a row as a Record.

A guess goes by the names that such exports have; values only rule candidates out, and tell a
yes/no/maybe from prose. Where two columns would do equally well, the user is asked.
"""

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clingpt.base import console
from clingpt.base.errors import ConfigError, DataError
from clingpt.text.records import LABELS, Record, clean, make_record

Row = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The names of the columns that hold a record's parts; None where there is none."""

    id: str | None = None
    question: str | None = None
    input: str | None = None  # what is read: a note, a report, a context
    target: str | None = None  # what is to be written: a summary, an answer in prose
    document: str | None = None  # what notes are to be made into, in its own lines
    decision: str | None = None  # yes, no or maybe
    keywords: str | None = None


# Names by role, the surest first: a later line counts only where none before it is found. An mrn or
# a subject_id names a patient and not a record, and ids stand in the clear in what is prepared, so
# they are ids only when told.
NAMES = {
    "id": (
        "id",
        "note_id record_id report_id document_id doc_id text_id sample_id question_id",
        "pmid pubid pubmed_id accession_number study_id",
        "uid uuid row_id qid",
    ),
    "question": ("question questions question_text", "query instruction prompt q"),
    "decision": ("decision final_decision", "label answer verdict yes_no outcome"),
    "input": (
        "input",
        "text full_text note notes note_text clinical_note clinical_notes report report_text"
        " findings transcription transcript dictation narrative",
        "context abstract article document passage body content history",
    ),
    "target": (
        "target output",
        "summary impression impressions conclusion conclusions long_answer highlights",
        "description answer response completion assessment",
    ),
    "document": (
        "target output",
        "document structured_report structured_note discharge_summary letter",
        "report summary",
    ),
    "keywords": ("keywords keyword meshes mesh mesh_terms tags",),
}
REPLIES = (
    "target output",
    "long_answer answer answer_text response completion explanation",
    "summary conclusion conclusions description",
)
TARGETS = {"answer": REPLIES, "explain": REPLIES}

# What a task needs, and what it takes where it is there; in the order in which columns are taken.
NEEDED: dict[str, tuple[str, ...]] = {
    "answer": ("question", "decision"),
    "explain": ("question", "target"),
    "summarize": ("target", "input"),
    "document": ("document", "input"),
    "text": (),
}
WELCOME: dict[str, tuple[str, ...]] = {
    "answer": ("target", "input"),
    "explain": ("input",),
    "text": ("question", "target", "input"),
}
PROSE_WORDS = 8  # in half of a column's cells, for it to be taken as a note whatever its name
MOST_LISTED = 20  # columns that a message names
FLAG = {"decision": "--target", "document": "--target"}  # of a role that has none of its own


# Guessing


def guess_columns(
    names: Sequence[str], rows: Sequence[Row], task: str, given: Columns | None = None
) -> Columns:
    """The columns that a task needs, those `given` as they are; ConfigError where it stays open."""
    chosen = _given(given or Columns(), names, rows, task)
    roles = (*NEEDED[task], *WELCOME.get(task, ()), "id", "keywords")
    for role in (role for role in roles if chosen[role] is None):
        free = [name for name in names if name not in chosen.values()]
        found = _candidates(role, task, free, rows)
        if len(found) > 1 and (role in NEEDED[task] or task == "text" and role != "id"):
            raise _open_question(f"{_listed(found)} could each be it", role, task, names)
        chosen[role] = found[0] if len(found) == 1 or (found and role == "id") else None
    for role in NEEDED[task]:
        if chosen[role] is None:
            raise _open_question("none is known by its name", role, task, names)
    if not any(chosen[role] for role in ("question", "input", "target")):
        raise _open_question("none is known by its name", "input", task, names)
    return Columns(**chosen)


def _given(
    given: Columns, names: Sequence[str], rows: Sequence[Row], task: str
) -> dict[str, str | None]:
    """What the user named, by role; the target may be an answer's decision, or a document."""
    chosen: dict[str, str | None] = dataclasses.asdict(given)
    roles: dict[str, str] = {}
    for role, name in chosen.items():
        if name is None:
            continue
        if name not in names:
            raise ConfigError(f"there is no column {name!r}{_nearest(name, names)}")
        if name in roles:
            raise ConfigError(f"--{roles[name]} and --{role} both name the column {name!r}")
        roles[name] = role
    told = given.target
    is_decision = task == "answer" and not given.decision and told and _decides(_values(told, rows))
    if told and (is_decision or task == "document"):
        chosen |= {"decision" if is_decision else "document": told, "target": None}
    return chosen


def _candidates(role: str, task: str, names: Iterable[str], rows: Sequence[Row]) -> list[str]:
    """The columns of the surest kind that could have a role."""
    cells = {name: _values(name, rows) for name in names}
    fit = [name for name in cells if _may_be(role, cells[name])]
    for known in TARGETS.get(task, NAMES["target"]) if role == "target" else NAMES[role]:
        plain = [_plain(each) for each in known.split()]
        if found := [name for name in fit if _plain(name) in plain]:
            if role == "id":
                found.sort(key=lambda name: plain.index(_plain(name)))
            return [name for name in found if cells[name]] or found  # an empty one gives way
    if role == "decision":
        return [name for name in fit if cells[name]]
    if role == "input" and task not in ("answer", "explain"):
        return [name for name in fit if _is_prose(cells[name])]
    return []


def _values(name: str, rows: Iterable[Row]) -> list[object]:
    """The cells of a column that hold anything."""
    return [value for row in rows if (value := row.get(name)) is not None and value != ""]


def _may_be(role: str, values: Sequence[object]) -> bool:
    """Whether values do not speak against a role; no values say nothing."""
    if not values or role == "keywords":
        return True
    if role == "id":
        return all(isinstance(value, str | int | float) for value in values)
    if role == "decision":
        return _decides(values)
    lettered = [v for v in values if isinstance(v, str) and any(map(str.isalpha, v))]
    return 2 * len(lettered) > len(values) and not _decides(values)


def _decides(values: Sequence[object]) -> bool:
    return bool(values) and all(isinstance(v, str) and clean(v).lower() in LABELS for v in values)


def _is_prose(values: Sequence[object]) -> bool:
    long = [v for v in values if isinstance(v, str) and len(v.split()) >= PROSE_WORDS]
    return bool(values) and 2 * len(long) >= len(values)


def _plain(name: str) -> str:
    """A name without case, blanks and signs: "Note Text", "noteText" and "note_text" are one."""
    return re.sub(r"[\W_]+", "", name.lower())


def _open_question(why: str, role: str, task: str, names: Sequence[str]) -> ConfigError:
    flag = FLAG.get(role, f"--{role}")
    what = "yes/no/maybe" if role == "decision" else role
    return ConfigError(
        f"which column is the {what} of the task {task}? {why}; name it by {flag}=… (there are "
        f"--input --target --question --id); the columns are {_listed(names)}"
    )


def _nearest(wrong: str, names: Sequence[str]) -> str:
    by_lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(wrong.lower(), by_lower, n=1)
    hint = f"; did you mean {by_lower[near[0]]!r}?" if near else ";"
    return f"{hint} the columns are {_listed(names)}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(console.safe_line(name)[:40] for name in names[:MOST_LISTED]) + more


def guess_table(names: Sequence[str], rows: Sequence[Row], columns: Columns) -> str:
    """Each column, its role and two of its cells, masked: enough to see what kind of text it is."""
    roles = {name: role for role, name in dataclasses.asdict(columns).items()}
    body = []
    for name in names:
        shown = [_masked(value) for value in _values(name, rows)[:2]]
        body.append([name[:40], roles.get(name, "not used"), *shown, *[None] * (2 - len(shown))])
    return console.table("Columns", ["column", "used as", "first cells", "(masked)"], body)


def _masked(value: object) -> str:
    """The first letters of a few words, # for figures; yes, no and maybe as they are."""
    if not isinstance(value, str):
        return f"a list of {len(value)}" if isinstance(value, list) else type(value).__name__
    words = clean(value[:10_000]).split()
    if len(words) == 1 and words[0].lower() in LABELS:
        return words[0]
    shown = " ".join("#" if any(map(str.isdigit, word)) else f"{word[0]}…" for word in words[:4])
    return f"{shown} ({len(words)} words)" if len(words) > 4 else shown


# Reading


def record_of(row: Row, columns: Columns, place: str) -> Record:
    """A row as a Record; without an id of its own it goes by file and line.

    A cell that is absent, null or blank is not there. Numbers are ids, never texts: a number where
    a text should be is refused. Keywords in one text stand between ; | or commas.
    """

    def text(name: str | None) -> str | None:
        value = None if name is None else row.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            kind = type(value).__name__
            raise DataError(f"the column {name!r} holds no text here but {kind}; correct it")
        is_blank = not clean(value[:64]) and not clean(value)
        return None if is_blank else value

    told = text(columns.input)
    return make_record(
        record_id=_record_id(row, columns, place),
        question=text(columns.question) or "",
        sections=[] if told is None else [("TEXT", told)],
        long_answer=text(columns.target),
        decision=text(columns.decision),
        document=text(columns.document),
        keywords=_keywords(row, columns),
    )


def _record_id(row: Row, columns: Columns, place: str) -> object:
    value = None if columns.id is None else row.get(columns.id)
    if isinstance(value, float) and value.is_integer():
        return int(value)  # what pandas makes of whole numbers in a column with gaps
    missing = value is None or (isinstance(value, str) and not clean(value))
    return Path(place).name if missing else value


def _keywords(row: Row, columns: Columns) -> Sequence[object]:
    value = None if columns.keywords is None else row.get(columns.keywords)
    if isinstance(value, str):
        return [word for word in map(clean, re.split("[;,|]", value)) if word]
    if value is None or isinstance(value, list):
        return value or ()
    kind = type(value).__name__
    raise DataError(
        f"the column {columns.keywords!r} holds no keywords here but {kind}; correct it"
    )
