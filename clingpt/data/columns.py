"""Assign the columns of a table to the parts of a record, and turn rows into records.

Users can name columns. The others are guessed from the names that common exports use. Values
only rule out candidates and distinguish yes/no/maybe from prose. If two columns fit equally well,
the user must choose.
"""

import dataclasses
import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from clingpt.base import console
from clingpt.base.errors import ConfigError, DataError
from clingpt.data.readers.text_file import shown_name
from clingpt.text.records import LABELS, PASTED, Record, clean, make_record
from clingpt.text.tasks import TASK_TABLE

Row = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The names of the columns with a record's parts; None for parts without a column."""

    id: str | None = None
    group: str | None = None  # the patient, encounter or article; "": none, and do not guess
    split: str | None = None  # train, val or test, as the source publishes it; "": as for group
    question: str | None = None
    input: str | None = None  # what the model reads: a note, a report, a context
    target: str | None = None  # what the model writes: a summary, an answer in prose
    document: str | None = None  # a structured document written from notes; keeps its lines
    heading: str | None = None  # of the one section that the document is; "": as for group
    decision: str | None = None  # yes, no or maybe
    keywords: str | None = None


# Names by role, the most reliable first: a line counts only if no earlier one matches. An mrn or a
# subject_id names a patient and not a record, and prepared folders contain ids in clear text, so
# such columns are ids only if the user says so.
NAMES = {
    "id": (
        "id",
        "note_id record_id report_id document_id doc_id text_id sample_id question_id",
        "pmid pubid pubmed_id accession_number study_id",
        "uid uuid row_id qid idx",
    ),
    # The widest first: a patient has several encounters, and an encounter several notes.
    "group": (
        "subject_id patient_id person_id mrn medical_record_number pat_id patient_sk patient_key",
        "hadm_id encounter_id visit_id visit_occurrence_id stay_id icustay_id csn admission_id",
        "pmcid pmid pubmed_id doi article_id paper_id",
    ),
    "split": ("split splits data_split dataset_split partition",),
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
    "heading": (
        "section_header section_heading section_title section_name",
        "section heading header",
    ),
    "keywords": ("keywords keyword meshes mesh mesh_terms tags",),
}
# Names of the target of a task that asks a question: a column `answer` may hold prose.
REPLIES = (
    "target output",
    "long_answer answer answer_text response completion explanation",
    "summary conclusion conclusions description",
)
PROSE_WORDS = 8  # a column may be a note, whatever its name, if half of its cells are this long
MOST_LISTED = 20  # columns that a message names
UNASKED = ("id", "group", "split")  # where several names fit, the first of NAMES is taken
FLAG = {"decision": "--target", "document": "--target"}  # for roles without a separate flag


# Guessing


def guess_columns(
    names: Sequence[str], rows: Sequence[Row], task: str, given: Columns | None = None
) -> Columns:
    """Choose a task's columns, keeping those `given`; raise ConfigError if that is ambiguous."""
    given = given or Columns()
    chosen = _given(given, names, rows, task)
    needed = TASK_TABLE[task].needed
    roles = [*needed, *TASK_TABLE[task].welcome, *UNASKED, "keywords"]
    roles = [role for role in roles if getattr(given, role) != ""]
    for role in (role for role in roles if chosen[role] is None):
        # A column that the user names as the group may be read as well: --group=question.
        taken = {name for other, name in chosen.items() if not (other == "group" and given.group)}
        free = [name for name in names if name not in taken]
        found = _candidates(role, task, free, rows)
        if len(found) > 1 and (role in needed or task == "text" and role not in UNASKED):
            raise _open_question(f"{_listed(found)} all fit", role, task, names)
        chosen[role] = found[0] if len(found) == 1 or (found and role in UNASKED) else None
    for role in needed:
        if chosen[role] is None:
            raise _open_question("no column has a known name", role, task, names)
    if not any(chosen[role] for role in ("question", "input", "target")):
        raise _open_question("no column has a known name", "input", task, names)
    return Columns(**chosen)


def _given(
    given: Columns, names: Sequence[str], rows: Sequence[Row], task: str
) -> dict[str, str | None]:
    """Map roles to the user's columns; --target may name a decision or a document."""
    chosen: dict[str, str | None] = {
        role: name or None for role, name in dataclasses.asdict(given).items()
    }
    roles: dict[str, str] = {}
    for role, name in chosen.items():
        if name is None:
            continue
        if name not in names:
            raise ConfigError(f"no column {name!r}{_nearest(name, names)}")
        if role == "group":
            continue
        if name in roles:
            raise ConfigError(f"--{roles[name]} and --{role} both name the column {name!r}")
        roles[name] = role
    target, needed = given.target, TASK_TABLE[task].needed
    is_decision = (
        "decision" in needed and not given.decision and target and _decides(_values(target, rows))
    )
    if target and (is_decision or "document" in needed):
        chosen |= {"decision" if is_decision else "document": target, "target": None}
    return chosen


def _candidates(role: str, task: str, names: Iterable[str], rows: Sequence[Row]) -> list[str]:
    """List the columns that could have a role, using the most reliable names that match."""
    cells = {name: _values(name, rows) for name in names}
    fit = [name for name in cells if _may_be(role, cells[name])]
    asks = TASK_TABLE[task].asks
    for known in REPLIES if role == "target" and asks else NAMES[role]:
        plain = [_plain(each) for each in known.split()]
        if found := [name for name in fit if _plain(name) in plain]:
            if role in UNASKED:
                found.sort(key=lambda name: plain.index(_plain(name)))
            return [
                name for name in found if cells[name]
            ] or found  # prefer columns that are not empty
    if role == "decision":
        return [name for name in fit if cells[name]]
    if role == "input" and not asks:
        return [name for name in fit if _is_prose(cells[name])]
    return []


def _values(name: str, rows: Iterable[Row]) -> list[object]:
    """List the cells of a column that are not empty."""
    return [value for row in rows if (value := row.get(name)) is not None and value != ""]


def _may_be(role: str, values: Sequence[object]) -> bool:
    """Return whether a column's values are compatible with a role; an empty list is."""
    if not values or role == "keywords":
        return True
    if role in UNASKED:
        return all(isinstance(value, str | int | float) for value in values)
    if role == "decision":
        return _decides(values)
    if role == "heading" and _is_prose(values):
        return False
    lettered = [v for v in values if isinstance(v, str) and any(map(str.isalpha, v))]
    return 2 * len(lettered) > len(values) and not _decides(values)


def _decides(values: Sequence[object]) -> bool:
    return bool(values) and all(isinstance(v, str) and clean(v).lower() in LABELS for v in values)


def _is_prose(values: Sequence[object]) -> bool:
    long = [v for v in values if isinstance(v, str) and len(v.split()) >= PROSE_WORDS]
    return bool(values) and 2 * len(long) >= len(values)


def _plain(name: str) -> str:
    """Normalise a name: "Note Text", "noteText" and "note_text" are the same."""
    return re.sub(r"[\W_]+", "", name.lower())


def _open_question(why: str, role: str, task: str, names: Sequence[str]) -> ConfigError:
    flag = FLAG.get(role, f"--{role}")
    what = "yes/no/maybe" if role == "decision" else role
    return ConfigError(
        f"which column is the {what} of the task {task}? {why}; name it with {flag}=… (flags: "
        f"--input --target --question --id); the columns are {_listed(names)}"
    )


def _nearest(wrong: str, names: Sequence[str]) -> str:
    by_lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(wrong.lower(), by_lower, n=1)
    hint = f"; did you mean {by_lower[near[0]]!r}?" if near else ";"
    return f"{hint} the columns are {_listed(names)}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(shown_name(name) for name in names[:MOST_LISTED]) + more


def guess_table(names: Sequence[str], rows: Sequence[Row], columns: Columns) -> str:
    """Format a table of columns: each one's role and two cells, masked to the kind of text."""
    roles = dict[str, str]()
    for role, column in dataclasses.asdict(columns).items():
        if column is not None:
            roles[column] = f"{role}, {roles[column]}" if column in roles else role
    body = []
    for name in names:
        shown = [_masked(value) for value in _values(name, rows)[:2]]
        body.append(
            [shown_name(name), roles.get(name, "not used"), *shown, *[None] * (2 - len(shown))]
        )
    return console.table("Columns", ["column", "used as", "first cells", "(masked)"], body)


def _masked(value: object) -> str:
    """Keep the first letters of a few words, # for numbers; yes, no and maybe stay unmasked."""
    if not isinstance(value, str):
        return f"a list of {len(value)}" if isinstance(value, list) else type(value).__name__
    words = clean(value[:10_000]).split()
    if len(words) == 1 and words[0].lower() in LABELS:
        return words[0]
    shown = " ".join("#" if any(map(str.isdigit, word)) else f"{word[0]}…" for word in words[:4])
    return f"{shown} ({len(words)} words)" if len(words) > 4 else shown


# Reading


def record_of(row: Row, columns: Columns) -> Record:
    """Turn a row into a Record, whose id is empty if the row has none.

    A blank cell counts as missing. Only ids and groups may be numbers: a number in place of a text
    is an error. Keywords in one text are separated by semicolons, bars or commas.
    """

    def text(name: str | None) -> str | None:
        if name is None or (value := row.get(name)) is None:
            return None
        if not isinstance(value, str):
            kind = type(value).__name__
            raise DataError(f"column {shown_name(name)!r} must be text, not {kind}")
        is_blank = not clean(value[:64]) and not clean(value)
        return None if is_blank else value

    note = text(columns.input)
    return make_record(
        record_id=identifier(row, columns.id),
        group=identifier(row, columns.group),
        question=text(columns.question) or "",
        sections=[] if note is None else [(PASTED, note)],
        long_answer=text(columns.target),
        decision=text(columns.decision),
        document=text(columns.document),
        heading=text(columns.heading),
        keywords=_keywords(row, columns),
    )


def identifier(row: Row, name: str | None) -> object:
    """Return a row's id, group or split; None if the cell is missing or blank."""
    value = None if name is None else row.get(name)
    if isinstance(value, float) and value.is_integer():
        return int(value)  # pandas turns whole numbers into floats in a column with gaps
    is_gap = isinstance(value, float) and math.isnan(value)
    is_blank = isinstance(value, str) and not clean(value)
    return None if is_gap or is_blank else value


def _keywords(row: Row, columns: Columns) -> Sequence[object]:
    value = None if columns.keywords is None else row.get(columns.keywords)
    if isinstance(value, str):
        return [word for word in map(clean, re.split("[;,|]", value)) if word]
    if value is None or isinstance(value, list):
        return value or ()
    kind = type(value).__name__
    raise DataError(f"column {columns.keywords!r} must be keywords, not {kind}")
