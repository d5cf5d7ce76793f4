"""Assign the columns of a table to the parts of a record, and turn rows into records.

Users can name columns. The others are guessed from the names that common exports use. Values
only rule out candidates and distinguish yes/no/maybe from prose. If two columns fit equally well,
the user must choose.
"""

import dataclasses
import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from clingpt.base import console
from clingpt.base.errors import ConfigError
from clingpt.data import cells
from clingpt.data.cells import CellError, CellRule, Counts, NotText
from clingpt.data.readers.text_file import shown_name
from clingpt.privacy.roster import identifies
from clingpt.text.records import (
    LABELS,
    Record,
    article_numbers,
    clean,
    is_annotation,
    make_record,
)
from clingpt.text.tasks import TASK_TABLE

Row = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The names of the columns with a record's parts; None for parts without a column."""

    id: str | None = None
    group: str | None = None  # the patient, encounter or article; "": none, and do not guess
    split: str | None = None  # train, val or test, as the source publishes it; "" as for group
    question: str | None = None
    input: str | None = None  # what the model reads: a note, a report, a context
    or_input: tuple[str, ...] = ()  # read instead where `input` is empty, the first that is not
    target: str | None = None  # what the model writes: a summary, an answer in prose
    document: str | None = None  # a structured document written from notes; keeps its lines
    heading: str | None = None  # if `document` is a single section, its heading; "" as for group
    decision: str | None = None  # yes, no or maybe
    keywords: str | None = None
    system: str | None = None  # instructions before a conversation, if they vary

    # How the columns are read.
    labels: Mapping[str, str] = field(default_factory=dict)  # value of `decision` -> one of LABELS
    rules: dict[str, CellRule] = field(default_factory=dict)  # column -> how to read its cells
    notes: tuple[str, ...] = ()  # sentences about the choice, for the user
    people: tuple[str, ...] = ()  # columns that identify people, to look for in the texts
    articles: tuple[str, ...] = ()  # columns with PMCIDs, PMIDs or DOIs

    @classmethod
    def of(cls, roles: Mapping[str, str | None]) -> "Columns":
        return cls(**roles)  # type: ignore[arg-type]  # the names of roles only

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns with what the model reads; the first that is not empty is read."""
        return (self.input, *self.or_input) if self.input else self.or_input

    def roles(self) -> dict[str, str]:
        """Return the column of each part that has one; "" where the user wants none."""
        found = {role: getattr(self, role) for role in ROLES}
        return {role: name for role, name in found.items() if name is not None}


# The parts of a record, as fields of Columns.
ROLES = "id group split question input target document heading decision keywords system".split()


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
    "system": ("system system_prompt",),
    "decision": ("decision final_decision", "label answer verdict yes_no outcome"),
    "input": (
        "input sections",
        "text full_text note notes note_text clinical_note clinical_notes report report_text"
        " findings transcription transcript dictation narrative dialogue dialog",
        "context contexts abstract article document passage body content history snippets",
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
# Columns with the numbers of published articles, besides any id and group of that form.
PMIDS = ("pmid", "pmids", "pubmedid", "pubmedids")
ARTICLES = (*PMIDS, "pmc", "pmcid", "pmcids", "doi", "dois")
# Names of the target of a task that asks a question: a column `answer` may hold prose.
REPLIES = (
    "target output",
    "long_answer answer answers answer_text response completion explanation ideal_answer",
    "summary conclusion conclusions description",
)
# Of conversations (readers/conversations.py): what was said before the question. A task that asks
# no question reads the whole conversation.
EARLIER_TURNS = "earlier_turns"
# Words in the names of columns that explain or comment on an answer. They may be a target, but as
# an input they must not give away the label.
RATIONALES = frozenset(
    "rationale rationales reasoning explanation explanations justification evidence comment "
    "comments annotation annotations remark remarks".split()
)

LOOKED_FOR = "looked for in the text"  # and reported or replaced like other identifiers
MOST_LISTED = 20  # columns that a message names
MOST_LABELS = 20  # different values of a column of labels
LABEL_WORDS = 6
WORDS_FOR_NO_LABEL = frozenset(word.lower() for word in cells.WORDS_FOR_GAPS)
CONSTANT_ROWS = 10  # fewer rows do not show that a column is constant
CONSTANT = 0.95  # share of the rows in which a column has its commonest value
MOST_OTHERS = 20  # rows with another value, after which the share decides without reading on
MOST_ROWS = 0.9  # share of the sampled rows that is called "nearly all"
UNASKED = ("id", "group", "split")  # where several names fit, the first of NAMES is taken
# Parts that a constant column cannot be: there is nothing to read in it, or to learn.
VARYING = ("question", "input", "target", "document", "system")
WRITTEN = ("target", "document", "decision")  # parts of which empty cells do not count as a value
FLAG = {"decision": "--target", "document": "--target"}  # for roles without a separate flag


# Guessing


@dataclass(frozen=True, kw_only=True)
class Table:
    """The sampled rows of a source, by column."""

    names: Sequence[str]
    rows: Sequence[Row]
    every: Callable[[], Iterable[Row]]  # reads all rows again
    labels: Mapping[str, str]  # value -> yes, no or maybe, as the user maps it
    cells: Mapping[str, list[object]]  # column -> its cells that are not empty, as text if possible
    set_aside: dict[str, str] = field(default_factory=dict)  # column -> why it is not guessed
    notes: list[str] = field(default_factory=list)

    @property
    def is_conversation(self) -> bool:
        return EARLIER_TURNS in self.names


class NoColumn(ConfigError):
    """No column is known to have a role that the task needs."""


def guess_columns(
    names: Sequence[str],
    rows: Sequence[Row],
    task: str,
    given: Columns | None = None,
    *,
    every: Callable[[], Iterable[Row]] | None = None,
) -> Columns:
    """Choose a task's columns, keeping those `given`; raise ConfigError if that is ambiguous.

    `rows` are the first ones; `every` yields all, to verify what they suggest.
    """
    given, every = given or Columns(), every or (lambda: rows)
    try:
        return _guess(names, rows, task, given, every)
    except NoColumn as error:
        others = [name for name in TASK_TABLE if name not in (task, "text")]
        fit = [name for name in others if _fits(names, rows, name, given)]
        fit = fit or [name for name in ["text"] if task != name and _fits(names, rows, name, given)]
        flags = " or ".join(f"--task={name}" for name in fit)
        raise ConfigError(f"{error}; they fit {flags}" if fit else str(error)) from None


def _fits(names: Sequence[str], rows: Sequence[Row], task: str, given: Columns) -> bool:
    try:
        _guess(names, rows, task, given, lambda: rows)
    except ConfigError:
        return False
    return True


def _guess(
    names: Sequence[str],
    rows: Sequence[Row],
    task: str,
    given: Columns,
    every: Callable[[], Iterable[Row]],
) -> Columns:
    readable = {name: list(map(cells.text_of, _values(name, rows))) for name in names}
    labels = {_label_key(value): label for value, label in given.labels.items()}
    table = Table(names=names, rows=rows, every=every, labels=labels, cells=readable)
    for name in names:
        if is_annotation(name):
            table.set_aside[name] = "an annotator's or a model's opinion"
    chosen = _given(given, table, task)
    needed = TASK_TABLE[task].needed
    roles = [*needed, *TASK_TABLE[task].welcome, *UNASKED, "keywords"]
    roles += ["system"] if TASK_TABLE[task].asks or table.is_conversation else []
    roles = [role for role in roles if getattr(given, role) != ""]
    for role in (role for role in roles if chosen[role] is None):
        # A column that the user names as the group may be read as well: --group=question.
        taken = {name for other, name in chosen.items() if not (other == "group" and given.group)}
        taken |= {*given.or_input}
        found = _candidates(role, task, table, [name for name in names if name not in taken])
        if len(found) > 1 and (role in needed or task == "text" and role not in UNASKED):
            raise _open_question(f"{_listed(found)} all fit", role, task, table)
        chosen[role] = found[0] if len(found) == 1 or (found and role in UNASKED) else None
    _ask_the_input(chosen, task, table)
    for role in needed:
        if chosen[role] is None:
            raise NoColumn(str(_open_question(_why_none(table), role, task, table)))
    if not any(chosen[role] for role in ("question", "input", "target")):
        raise NoColumn(str(_open_question(_why_none(table), "input", task, table)))
    columns = dataclasses.replace(Columns.of(chosen), or_input=given.or_input)
    columns = _with_rules(columns, table, task)
    people, articles = _people(table, columns), _article_columns(table)
    return dataclasses.replace(columns, people=people, articles=articles)


def _people(table: Table, columns: Columns) -> tuple[str, ...]:
    """List the columns that identify people and are not read as text."""
    read = {name for role, name in columns.roles().items() if role not in ("id", "group")}
    read |= {*columns.or_input}
    others = [name for name in table.names if name not in read]
    return tuple(name for name in others if identifies(name, table.cells[name]))


def _article_columns(table: Table) -> tuple[str, ...]:
    """List the columns with numbers of articles, by their names and cells.

    A constant one names the data set, not the article of a record.
    """
    return tuple(
        name
        for name in table.names
        if _plain(name) in ARTICLES
        and any(_articles_in(value, name) for value in _values(name, table.rows))
        and not _is_constant(name, table, skips_empty=False)
    )


def _articles_in(value: object, column: str) -> list[str]:
    return article_numbers(value, pmids=_plain(column) in PMIDS)


def _given(given: Columns, table: Table, task: str) -> dict[str, str | None]:
    """Map roles to the user's columns; --target may name a decision or a document."""
    chosen: dict[str, str | None] = {role: getattr(given, role) or None for role in ROLES}
    roles: dict[str, str] = {}
    named = [(role, name) for role, name in chosen.items() if name is not None]
    for role, name in [*named, *(("or_input", name) for name in given.or_input)]:
        if name not in table.names:
            raise ConfigError(f"no column {name!r}{_nearest(name, table.names)}")
        if role == "group":
            continue
        if name in roles:
            raise ConfigError(f"--{roles[name]} and --{role} both name the column {name!r}")
        if role not in UNASKED and name in table.set_aside:
            raise ConfigError(
                f"--{role}={name}: by its name, the column is {table.set_aside[name]}, which could "
                "tell a model the answer; name another, or rename it if it is the source's own text"
            )
        roles[name] = role
    target, needed = given.target, TASK_TABLE[task].needed
    is_decision = "decision" in needed and not given.decision and target and _labels(target, table)
    if target and (is_decision or "document" in needed):
        chosen |= {"decision" if is_decision else "document": target, "target": None}
    return chosen


def _candidates(role: str, task: str, table: Table, names: Iterable[str]) -> list[str]:
    """List the columns that could have a role, using the most reliable names that match."""
    names = [name for name in names if name not in table.set_aside]
    fit = [name for name in names if _may_be(role, table.cells[name], table)]
    for known in _known_names(role, task, table):
        plain = [_plain(each) for each in known.split()]
        if found := [name for name in fit if _plain(name) in plain]:
            if role in UNASKED:
                found.sort(key=lambda name: plain.index(_plain(name)))
            # Prefer columns that are not empty.
            filled = [name for name in found if table.cells[name]]
            found = filled or ([] if role == "system" else found)
            if found := [name for name in found if _varies(role, name, table)]:
                return found
    if role == "decision":
        found = [name for name in fit if table.cells[name]]
        return found or [name for name in names if _is_labelled(name, table)]
    if role == "input" and not TASK_TABLE[task].asks:
        return [n for n in fit if _is_prose(table.cells[n]) and _varies(role, n, table)]
    return []


def _known_names(role: str, task: str, table: Table) -> Sequence[str]:
    asks = TASK_TABLE[task].asks
    if role == "target" and asks:
        return REPLIES
    if table.is_conversation and role == "input":
        return [EARLIER_TURNS if asks else "input"]
    if table.is_conversation and role == "question" and not asks:
        return []  # the last turn is in the conversation
    return NAMES[role]


def _ask_the_input(chosen: dict[str, str | None], task: str, table: Table) -> None:
    """Use the input as the question if the column named like one is the same in every row.

    This is common in instruction data: "Answer this patient's question" is in all rows, and the
    question itself is the input.
    """
    named = [_plain(name) for line in NAMES["question"] for name in line.split()]
    is_constant = any(_plain(name) in named for name in table.set_aside)
    if task == "explain" and chosen["question"] is None and chosen["input"] and is_constant:
        table.notes.append(f"The question is the column {shown_name(chosen['input'])!r}.")
        chosen |= {"question": chosen["input"], "input": None}


def _values(name: str, rows: Iterable[Row]) -> list[object]:
    """List the cells of a column that are not empty."""
    values = (row.get(name) for row in rows)
    return [value for value in values if not cells.is_gap(value) and value != ""]


def _may_be(role: str, values: Sequence[object], table: Table) -> bool:
    """Return whether a column's values are compatible with a role; an empty list is."""
    if not values or role == "keywords":
        return True
    if role in UNASKED:
        if not all(isinstance(value, str | int | float) for value in values):
            return False
        repeats = len(values) >= CONSTANT_ROWS and 2 * len(set(values)) < len(values)
        return role != "id" or not repeats
    if role == "decision":
        return _decides(values, table.labels)
    if role == "heading" and _is_prose(values):
        return False
    lettered = [v for v in values if isinstance(v, list | dict) or _has_letters(v)]
    return 2 * len(lettered) > len(values) and not _decides(values, table.labels)


def _has_letters(value: object) -> bool:
    return isinstance(value, str) and any(map(str.isalpha, value))


def _decides(values: Sequence[object], labels: Mapping[str, str]) -> bool:
    """Return whether values are yes, no and maybe, or the user has mapped some of them."""
    keys = list(map(_label_key, values))
    return any(key in labels for key in keys) or bool(keys) and all(key in LABELS for key in keys)


def _label_key(value: object) -> str:
    """Normalise a label: "Yes." is yes, True is true, 1.0 is 1."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    key = clean(str(value)).lower().rstrip(".")
    return key[:-2] if re.fullmatch(r"\d+\.0", key) else key


def _labels(name: str, table: Table) -> bool:
    """Return whether a column contains decisions, or a few other values that could be mapped."""
    values = table.cells[name]
    different = {_label_key(value) for value in values}
    is_few = len(different) <= min(MOST_LABELS, max(4, len(values) // 4))
    is_short = all(len(key.split()) <= LABEL_WORDS for key in different)
    return _decides(values, table.labels) or bool(values) and is_few and is_short


def _is_labelled(name: str, table: Table) -> bool:
    """Return whether a column contains labels, which may be others than yes, no and maybe."""
    known = [_plain(each) for line in NAMES["decision"] for each in line.split()]
    return _plain(name) in known and _labels(name, table)


def _is_prose(values: Sequence[object]) -> bool:
    long = [v for v in values if isinstance(v, str) and len(v.split()) >= cells.PROSE_WORDS]
    return bool(values) and 2 * len(long) >= len(values)


def _plain(name: str) -> str:
    """Normalise a name: "Note Text", "noteText" and "note_text" are the same."""
    return re.sub(r"[\W_]+", "", name.lower())


# Columns that carry no information, or give away the answer


def _varies(role: str, name: str, table: Table) -> bool:
    """Return whether a column has different values; a constant one is set aside, with a note."""
    if role not in VARYING or name in table.set_aside:
        return name not in table.set_aside
    if _is_constant(name, table, skips_empty=role in WRITTEN):
        table.set_aside[name] = "the same in every row"
        table.notes.append(
            f"The column {shown_name(name)!r} has one value in nearly every row and is not used."
        )
    return name not in table.set_aside


def _is_constant(name: str, table: Table, *, skips_empty: bool) -> bool:
    """Return whether nearly all rows have one value, in the sample and then in the whole source.

    With `skips_empty`, only cells that are not empty count.
    """
    values = Counter(_cell_key(value) for value in _values(name, table.rows))
    [(usual, n)] = values.most_common(1) or [("", 0)]
    total = values.total() if skips_empty else len(table.rows)
    if total < CONSTANT_ROWS or n < CONSTANT * total:
        return False
    others = total = 0
    for row in table.every():
        [value] = _values(name, [row]) or [None]
        if value is not None or not skips_empty:
            total += 1
            others += value is None or _cell_key(value) != usual
        if others >= MOST_OTHERS and others > (1 - CONSTANT) * total:
            return False
    return others <= (1 - CONSTANT) * total


def _cell_key(value: object) -> str:
    return clean(value) if isinstance(value, str) else repr(value)


def _with_rules(columns: Columns, table: Table, task: str) -> Columns:
    """Decide how the cells of the chosen columns are read, and check the columns' contents."""
    roles = columns.roles()
    texts = {role: name for role, name in roles.items() if role not in ("decision", *UNASKED)}
    rules = {
        name: cells.rule_for(role, name, _values(name, table.rows))
        for role, name in [*texts.items(), *(("input", name) for name in columns.or_input)]
    }
    columns = dataclasses.replace(columns, rules=rules, labels=table.labels)
    read = [(role, roles[role]) for role in ("question", "input", *WRITTEN) if role in roles]
    read += [("input", name) for name in columns.or_input]
    for role, name in read:
        # An empty target has nothing to learn, and an empty input may have another column in its
        # place. Neither counts as a value; elsewhere an empty cell does.
        skips_empty = role in WRITTEN or role == "input" and len(columns.inputs) > 1
        if not _is_constant(name, table, skips_empty=skips_empty):
            continue
        fact = f"column {shown_name(name)!r} has one value in nearly every row"
        if role == "question" or role == "decision" and "target" in roles:
            table.notes.append(f"The {fact}, as the {role} of all records.")
        else:
            raise ConfigError(
                f"the {fact}, so it cannot be the {role} of the task {task}; name another"
            )
    return _compared(columns, table, task)


def _compared(columns: Columns, table: Table, task: str) -> Columns:
    """Compare the parts of the sampled rows, and note or refuse parts with the same text."""
    roles = columns.roles()
    sampled = [_sampled_texts(row, columns) for row in table.rows]
    for written in ("target", "document"):
        for read in ("input", "question"):
            _check_copies(written, read, roles, sampled, table)
    pairs = [(each.get("question"), each.get("input")) for each in sampled]
    same = sum(asked == read is not None for asked, read in pairs)
    if len(pairs) >= CONSTANT_ROWS and same >= MOST_ROWS * len(pairs):
        table.notes.append(
            f"The columns {shown_name(roles['question'])!r} and {shown_name(roles['input'])!r} are "
            "equal; the second is not used."
        )
        columns = dataclasses.replace(columns, input=None)
    else:
        _check_giveaways(columns, sampled)
    return dataclasses.replace(columns, notes=tuple(table.notes))


def _check_copies(
    written: str,
    read: str,
    roles: Mapping[str, str],
    sampled: Sequence[Mapping[str, str]],
    table: Table,
) -> None:
    """Refuse a target that is what the model reads; note one that is a passage of it."""
    pairs = [(each[written], each[read]) for each in sampled if {written, read} <= each.keys()]
    if len(pairs) < CONSTANT_ROWS:
        return
    names = (
        f"the {written} {shown_name(roles[written])!r}",
        f"the {read} {shown_name(roles[read])!r}",
    )
    same = sum(target == text for target, text in pairs)
    if 2 * same > len(pairs):
        raise ConfigError(
            f"{names[0]} equals {names[1]} in {same} of the first {len(pairs)} rows, so there is "
            "nothing to learn; name another column"
        )
    inside = sum(target in text for target, text in pairs)
    if inside >= MOST_ROWS * len(pairs):
        table.notes.append(
            f"{names[0].capitalize()} occurs word for word in {names[1]} in {inside} of the first "
            f"{len(pairs)} rows."
        )


def _sampled_texts(row: Row, columns: Columns) -> dict[str, str]:
    """Return the texts of a row's parts and its label, leaving out those that cannot be read."""
    found = {}
    parts = [(role, getattr(columns, role)) for role in ("question", "target", "document")]
    for role, name in [*parts, *(("input", name) for name in columns.inputs)]:
        try:
            text = columns.rules[name].text(row.get(name), Counter()) if name else None
        except NotText:
            continue
        if text and role not in found:
            found[role] = clean(text)
    if columns.decision and not cells.is_gap(label := row.get(columns.decision)):
        found["label"] = _label_key(label)
    return found


def _check_giveaways(columns: Columns, sampled: Sequence[Mapping[str, str]]) -> None:
    """Refuse a rationale that contains the row's label and no other."""
    labels = {each["label"] for each in sampled if "label" in each}
    for role in ("question", "input"):
        name = getattr(columns, role) or ""
        rows = [each for each in sampled if role in each and "label" in each]
        is_rationale = not RATIONALES.isdisjoint(re.split(r"[\W_]+", name.lower()))
        if not is_rationale or len(rows) < CONSTANT_ROWS or len(labels) < 2:
            continue
        own = other = 0
        for row in rows:
            words = f" {re.sub(r'[^a-z0-9]+', ' ', row[role].lower())} "
            own += f" {row['label']} " in words
            other += any(f" {each} " in words for each in labels - {row["label"]})
        if own >= MOST_ROWS * len(rows) and other <= (1 - MOST_ROWS) * len(rows):
            raise ConfigError(
                f"the {role} {shown_name(name)!r} contains the label, and no other, in {own} of "
                f"the first {len(rows)} rows: it would tell a model the answer; name another column"
            )


# Messages


def _why_none(table: Table) -> str:
    aside = [f"{shown_name(name)!r} is {why}" for name, why in table.set_aside.items()]
    if not aside:
        return "no column has a known name"
    return f"{', '.join(aside[:MOST_LISTED])}, and no other column has a known name"


def _open_question(why: str, role: str, task: str, table: Table) -> ConfigError:
    flag = FLAG.get(role, f"--{role}")
    what = "yes/no/maybe" if role == "decision" else role
    return ConfigError(
        f"which column is the {what} of the task {task}? {why}; name it with {flag}=… (flags: "
        f"--input --target --question --id); the columns are {_listed(table.names)}"
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
    for role, column in columns.roles().items():
        roles[column] = f"{role}, {roles[column]}" if column in roles else role
    body = []
    for column in columns.or_input:
        roles[column] = "input, if the one before is empty"
    for name in names:
        used = roles.get(name, "not used: an opinion" if is_annotation(name) else "not used")
        if name in columns.people:
            used = f"{roles[name]}, {LOOKED_FOR}" if name in roles else LOOKED_FOR
        if name in columns.rules and columns.rules[name].says:
            used += f": {columns.rules[name].says}"
        values = _values(name, rows)[:2]
        shown = [_masked(cells.text_of(v) if name in columns.rules else v) for v in values]
        body.append([shown_name(name), used, *shown, *[None] * (2 - len(shown))])
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


# Labels


def parse_labels(texts: Sequence[str]) -> dict[str, str]:
    """Parse `"no difference=maybe" SUPPORTS=yes` into value -> yes, no or maybe."""
    labels: dict[str, str] = {}
    for text in texts:
        value, _, label = text.rpartition("=")
        key, label = _label_key(value), label.strip().lower()
        if not key or label not in LABELS:
            raise ConfigError(
                f"labels takes VALUE=yes, VALUE=no or VALUE=maybe, as in SUPPORTS=yes "
                f'"not enough information=maybe", got {text!r}'
            )
        if key in labels:
            raise ConfigError(f"labels names the value {value.strip()!r} twice; keep one")
        labels[key] = label
    return labels


# Reading


def record_of(row: Row, columns: Columns, counts: Counts | None = None) -> Record:
    """Turn a row into a Record, whose id is empty if the row has none.

    A blank cell counts as missing. Only ids and groups may be numbers: a number in place of a text
    is an error, as is structure in a column that had none in the sample (CellError). `counts` gets
    the columns whose cells had HTML, the labels that were mapped, and the column that was read as
    input, "" if all of them were empty.
    """
    counts = Counter() if counts is None else counts

    def cell(role: str) -> tuple[CellRule, object]:
        name = getattr(columns, role)
        rule = columns.rules.get(name) or CellRule(column=name, structured=role == "keywords")
        return rule, row.get(name) if name else None

    def text(role: str, *, lines: bool = False) -> str | None:
        rule, value = cell(role)
        try:
            return rule.text(value, counts, lines=lines)
        except NotText as error:
            raise CellError(rule.column, error.looks) from None

    input_read, sections = _first_with_text(row, columns, counts)
    try:
        rule, value = cell("keywords")
        keywords = rule.words(value, counts)
    except NotText as error:
        raise CellError(rule.column, error.looks, "keywords") from None
    if system := text("system"):
        sections = [("SYSTEM", system), *sections]
    record = make_record(
        record_id=identifier(row, columns.id),
        group=identifier(row, columns.group),
        question=text("question") or "",
        sections=sections,
        long_answer=text("target"),
        decision=_label(row, columns, counts),
        document=text("document", lines=True),
        heading=text("heading"),
        keywords=keywords,
        known=tuple(
            (name, str(value)) for name in columns.people if (value := identifier(row, name))
        ),
        articles=[each for name in columns.articles for each in _articles_in(row.get(name), name)],
    )
    if columns.inputs:  # counted here, where the row has become a record
        counts["read", input_read] += 1
    return record


def _first_with_text(row: Row, columns: Columns, counts: Counts) -> tuple[str, list[cells.Section]]:
    """Return the sections of the first input column that has text, and its name; "" if none has."""
    for name in columns.inputs:
        rule = columns.rules.get(name) or CellRule(column=name)
        try:
            sections = rule.sections(row.get(name), counts)
        except NotText as error:
            raise CellError(name, error.looks) from None
        if any(clean(body) for _, body in sections):
            return name, sections
    return "", []


def identifier(row: Row, name: str | None) -> object:
    """Return a row's id, group or split; None if the cell is missing, blank or "nan"."""
    value = None if name is None else row.get(name)
    if isinstance(value, float) and value.is_integer():
        return int(value)  # pandas turns whole numbers into floats in a column with gaps
    is_blank = isinstance(value, str) and (
        value.strip() in cells.WORDS_FOR_GAPS or cells.is_blank(value)
    )
    return None if cells.is_gap(value) or is_blank else value


def _label(row: Row, columns: Columns, counts: Counts) -> str | None:
    """Return yes, no or maybe, as written or as the user maps it; None for an empty cell.

    Raises CellError for any other value.
    """
    value = None if columns.decision is None else row.get(columns.decision)
    if columns.decision is None or cells.is_gap(value):
        return None
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        value = "".join(value)  # ["y", "e", "s"], as the Hub has it
    key = _label_key(value)
    if not key or key in WORDS_FOR_NO_LABEL:
        return None
    if key in columns.labels:
        counts["label", key] += 1
        return columns.labels[key]
    if key not in LABELS:
        words = len(key.split())
        looks = repr(shown_name(key)) if words <= LABEL_WORDS else f"a text of {words} words"
        raise CellError(columns.decision, looks, "yes, no or maybe")
    return key
