"""Read table cells that are not plain text: lists and objects, HTML, and marks of missing values.

Parquet and JSON have lists and objects in their cells. If such a table is saved as CSV, each cell
contains what Python prints for them: {'contexts': array(['…', '…'], dtype=object)}. Both forms are
read in the same way if their meaning is unambiguous, and refused otherwise, because a model trained
on them would learn to write brackets, and because such objects may contain annotators' answers.

How a column is read is decided once, from a sample of its cells (`rule_for`), and is the same for
all rows: a cell that does not fit is an error, never a guess.
"""

import ast
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clingpt.base import console
from clingpt.base.errors import DataError
from clingpt.data.readers.text_file import shown_name
from clingpt.text.records import PASTED, Record, clean, is_annotation

MOST_CHARS = 200_000  # of printed structure; longer cells are not parsed
SAMPLED_CHARS = 10_000  # of a text whose column is being guessed
MOST_DEPTH = 8  # of lists within lists
MOST_KEYS = 3  # of an object that a message names
PROSE_WORDS = 8  # a text this long is prose, for deciding what a column contains

# Marks of a gap, as pandas and databases write them. The first never mean anything else; the others
# are words, and count only where all other cells are prose.
GAPS = frozenset(("nan", "NaN", "NaT", "<NA>", "\\N", "#N/A", "#NA"))
WORDS_FOR_GAPS = frozenset(("None", "NONE", "null", "NULL", "NA", "N/A", "n/a"))

# Keys of an object whose value is its text, and of one whose value labels that text.
TEXT_KEYS = ("text", "texts", "contexts", "context", "content", "value", "sentence", "passage")
LABEL_KEYS = ("label", "heading", "section", "title", "role", "from")
# An object with one of these keys is an answer or an example, and not a text in labelled sections.
NOT_LABELS = frozenset(
    "id label labels answer answers decision final_decision verdict target output score "
    "question class".split()
)
LABEL_WORDS = 8  # the longest label of a section

Section = tuple[str, str]
Counts = Counter[tuple[str, str]]  # (what was done, column or value) -> cells


class NotText(DataError):
    """A cell that cannot be read; `looks` says what it looks like, without quoting it."""

    def __init__(self, looks: str) -> None:
        super().__init__(f"not text but {looks}")
        self.looks = looks


class CellError(DataError):
    """A cell of a column that cannot be read."""

    def __init__(self, column: str, looks: str, wanted: str = "text", place: str = "") -> None:
        message = f"column {shown_name(column)!r} must be {wanted}, not {looks}"
        super().__init__(f"{place}: {message}" if place else message)
        self.column, self.looks, self.wanted, self.place = column, looks, wanted, place

    def at(self, place: str) -> "CellError":
        return CellError(self.column, self.looks, self.wanted, place)


# Printed structure

_MAYBE = re.compile(r"\s*(?:[\[{(<]|b['\"]|[A-Za-z_][\w.]*\()")  # quick: the start of most prose
_TOKEN = re.compile(
    r"\s*(?:(?P<string>[bu]?(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"))"
    r"|(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))"
    r"|(?P<name>[-+]?[A-Za-z_][\w.]*|<NA>)"
    r"|(?P<mark>[\[\]{}(),:=]))",
    re.DOTALL,
)
_NAMES: dict[str, bool | None] = {"True": True, "False": False, "true": True, "false": False}
_NAMES |= dict.fromkeys(("None", "null", "nan", "NaN", "NaT", "NA", "<NA>", "inf", "-inf"))
_CALLS = frozenset(  # each prints its one argument, which is the value
    "array np.array numpy.array list tuple set frozenset deque Index OrderedDict dict "
    "np.str_ np.float64 np.float32 np.int64 np.int32 np.bool_ Decimal Timestamp UUID".split()
)
# Structure that cannot be parsed, by how it begins and ends. A text that merely begins with a
# bracket ("[Patient] …", "{name} came in", "(1) First …") matches none of these.
_LOOKS = (
    ("a truncated array", r"(?:array\()?\[.*['\"\]],?\s+\.\.\.,?\s+['\"\[].*\].*"),
    ("a deeply nested list", rf"[\[(]{{{MOST_DEPTH}}}.*"),
    ("a tensor", r"(?:tf\.|torch\.)?[Tt]ensor\(.*\)"),
    ("a printed array", r"array\(.*\)"),
    ("a database row", r"<?Row\b ?\(.*\)>?"),
    ("a printed object", r"<Row\b.*>|<[\w.]+(?: [\w.']+)* at 0x[0-9A-Fa-f]+>"),
    ("a pandas Series", r".*(?:^|\n|, )(?:Name: .*, )?(?:Length: \d+, )?dtype: \w+\)?"),
    ("a pandas table", r".*\n\[\d+ rows x \d+ columns\]"),
    ("a printed object", r"(?:defaultdict|Counter|namedtuple|[A-Z]\w+)\((?:<class|\w+=|\{).*\)"),
    ("a printed object", r"\{\s*(?:'[^'\n]{1,60}'|\"[^\"\n]{1,60}\")\s*:.*"),
    ("a printed list", r"[\[(]\s*\{\s*['\"].*"),
    ("a printed list", r"[\[(]+\s*(['\"])(?:.*?)\1(?:\s*,\s*|\s+)(['\"]).*"),
    ("a printed list", r"\[+\s*(['\"]).*\1\s*,?\s*\]+|\(\s*(['\"]).*\2\s*,\s*\)"),
)
_LOOKS_LIKE = tuple((name, re.compile(pattern, re.DOTALL)) for name, pattern in _LOOKS)


def looks_printed(text: str) -> str | None:
    """Say what a text looks like if it is printed structure and not prose; otherwise None."""
    if not _may_be_printed(text):
        return None
    text = text.strip()
    if len(text) <= MOST_CHARS:
        parsed = _parsed(text)
        if not isinstance(parsed, str):
            return describe(parsed)
        if parsed != text:
            return "bytes"
    return next((name for name, pattern in _LOOKS_LIKE if pattern.fullmatch(text)), None)


def parse(text: str) -> object:
    """Return the structure that a text prints, or the text itself if it is prose.

    Raises NotText for structure that cannot be read. Never evaluates anything: strings go through
    ast.literal_eval one by one.
    """
    if not _may_be_printed(text):
        return text
    if len(text) <= MOST_CHARS:
        bare = text.strip()
        parsed = _parsed(bare)
        if not isinstance(parsed, str) or parsed != bare:  # another text: it was printed bytes
            return parsed
    if looks := looks_printed(text):
        raise NotText(looks if len(text) <= MOST_CHARS else f"{looks}, too long to parse")
    return text


def _may_be_printed(text: str) -> bool:
    """Return False, quickly, for most prose."""
    return bool(_MAYBE.match(text) or "dtype: " in text[-80:] or "columns]" in text[-20:])


def _parsed(text: str) -> object:
    """Parse a whole text as JSON or as Python prints it; return the text if it is neither."""
    if text[:1] in "[{":
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            pass
        else:
            return found if _depth(found) <= MOST_DEPTH else text
    try:
        return _Printed(text).whole()
    except (ValueError, SyntaxError):  # literal_eval raises either, on a bad escape
        return text


def _depth(value: object) -> int:
    if isinstance(value, Mapping):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


class _Printed:
    """Parser of what Python, NumPy and pandas print for lists, dicts, arrays and their items.

    NumPy separates items only by white space, as in ['a' 'b'], which ast.literal_eval would read as
    one string; hence a parser of our own.
    """

    def __init__(self, text: str) -> None:
        self.tokens = self._split(text)
        self.at = 0

    @staticmethod
    def _split(text: str) -> list[tuple[str, str]]:
        tokens, end = [], 0
        while end < len(text):
            found = _TOKEN.match(text, end)
            if not found:
                raise ValueError("not printed structure")
            tokens.append((str(found.lastgroup), found[0].strip()))
            end = found.end()
        return tokens

    def whole(self) -> object:
        kind, token = self.tokens[0] if self.tokens else ("", "")
        if kind == "string" and token[0] != "b" or kind in ("number", ""):
            raise ValueError("a quoted text or a number is what it says")
        if kind == "name" and self._next(1) != "(":
            raise ValueError("a word")
        found = self._value(0)
        if self.at < len(self.tokens) or isinstance(found, float | bool):
            raise ValueError("more after the structure, or (4)")
        if isinstance(found, str) and token == "(":
            raise ValueError("a quoted text in parentheses")
        return found

    def _next(self, ahead: int = 0) -> str:
        place = self.at + ahead
        return self.tokens[place][1] if place < len(self.tokens) else ""

    def _take(self, *marks: str) -> bool:
        if self._next() in marks and self.tokens[self.at][0] == "mark":
            self.at += 1
            return True
        return False

    def _value(self, depth: int) -> object:
        if depth > MOST_DEPTH or self.at >= len(self.tokens):
            raise ValueError("too deep, or cut off")
        kind, token = self.tokens[self.at]
        self.at += 1
        if kind == "string":
            literal = ast.literal_eval(token)
            return literal.decode() if isinstance(literal, bytes) else literal
        if kind == "number":
            return float(token)
        if kind == "name" and self._take("("):
            return self._call(token, depth)
        if kind == "name" and token in _NAMES:
            return _NAMES[token]
        if token == "{":
            return self._braces(depth)
        if token == "[":
            return self._items("]", depth)
        if token == "(":
            items = self._items(")", depth)
            is_tuple = len(items) != 1 or self.tokens[self.at - 2][1] == ","
            return items if is_tuple else items[0]
        raise ValueError("not printed structure")

    def _items(self, closing: str, depth: int) -> list[object]:
        found = []
        while not self._take(closing):
            found.append(self._value(depth + 1))
            self._take(",")
        return found

    def _braces(self, depth: int) -> object:
        """Read a dict, or a set as a list."""
        pairs, items = {}, []
        while not self._take("}"):
            item = self._value(depth + 1)
            if self._take(":"):
                pairs[str(item)] = self._value(depth + 1)
            else:
                items.append(item)
            self._take(",")
        if pairs and items:
            raise ValueError("neither a dict nor a set")
        return items or pairs

    def _call(self, name: str, depth: int) -> object:
        if name not in _CALLS:
            raise ValueError("an unknown object")
        found: list[object] = []
        while not self._take(")"):
            if self._next(1) == "=":  # dtype=object
                self.at += 3
                if self._take("("):
                    raise ValueError("a structured dtype")
            else:
                found.append(self._value(depth + 1))
            self._take(",")
        if len(found) > 1:
            raise ValueError("an unknown object")
        return found[0] if found else []


# What a value means


def describe(value: object) -> str:
    """Describe a value for a message, without quoting a text."""
    if isinstance(value, Mapping):
        keys = [shown_name(str(key)) for key in value][:MOST_KEYS]
        more = ", …" if len(value) > MOST_KEYS else ""
        return f"an object with {', '.join(map(repr, keys))}{more}" if keys else "an empty object"
    if isinstance(value, list | tuple):
        kinds = {_kind(item) for item in value if item is not None}
        what = kinds.pop() if len(kinds) == 1 else "values of several kinds" if kinds else "nothing"
        return f"a list of {what}"
    return type(value).__name__


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return "objects"
    if isinstance(value, list | tuple):
        return "lists"
    return "texts" if isinstance(value, str) else "numbers"


def is_gap(value: object) -> bool:
    """Return whether a cell is empty in any column: null, NaN, or how pandas prints them."""
    if isinstance(value, str):
        return value.strip() in GAPS
    return value is None or isinstance(value, float) and math.isnan(value)


def is_blank(text: str) -> bool:
    """Return whether nothing of a text is left after cleaning; fast for long texts."""
    return not clean(text[:64]) and not clean(text)


def texts_in(value: object) -> list[str]:
    """List the texts of a value; raises NotText if its meaning is ambiguous.

    Accepted are a text, a list of texts, and objects that have a text under one known key, like an
    answer in SQuAD or a snippet in BioASQ.
    """
    if is_gap(value):
        return []
    if isinstance(value, str):
        return [] if is_blank(value) else [value]
    if isinstance(value, bytes):
        try:
            return texts_in(value.decode())
        except UnicodeDecodeError:
            raise NotText("bytes") from None
    if isinstance(value, list | tuple):
        if any(isinstance(item, list | tuple) for item in value):
            raise NotText("a list of lists")
        if any(isinstance(item, bool | int | float) and not is_gap(item) for item in value):
            raise NotText(describe(value))
        return [text for item in value for text in _texts_within(item)]
    if isinstance(value, Mapping):
        keys = [key for key in TEXT_KEYS if key in value]
        if len(keys) == 1:
            return _texts_within(value[keys[0]])
    raise NotText(describe(value))


def _texts_within(item: object) -> list[str]:
    """List the texts of an item of a list or an object, which may not be printed structure."""
    if isinstance(item, str) and (looks := looks_printed(item)):
        raise NotText(f"{looks} within a list or an object")
    return texts_in(item)


def sections_in(value: object) -> list[Section]:
    """List the labelled sections of a value; a text without labels is one section, joined.

    Labels come with PubMedQA's parallel lists (`contexts`, `labels`), with pairs of label and text,
    with objects that have both, and with an object of texts. Annotators' fields are left out.
    """
    found = _labelled(value)
    if found is None:
        texts = texts_in(value)
        return [(PASTED, joined(texts))] if texts else []
    return [
        (label, joined(texts))
        for label, body in found
        if not is_annotation(label) and (texts := _texts_within(body))
    ]


def _labelled(value: object) -> list[tuple[str, object]] | None:
    """Return pairs of a label and a body, or None if a value has no labels."""
    if isinstance(value, Mapping):
        texts, labels = value.get("contexts"), value.get("labels")
        if isinstance(texts, list) and isinstance(labels, list) and labels:
            if len(texts) != len(labels) or not all(isinstance(each, str) for each in labels):
                found = console.count(len(texts), "context")
                raise NotText(f"{found} with {console.count(len(labels), 'label')}")
            return list(zip(labels, texts, strict=True))
        if any(key in value for key in TEXT_KEYS):
            return None
        if value and not NOT_LABELS & {str(key).lower() for key in value}:
            return [(str(key), body) for key, body in value.items() if _is_label(key)]
        return None
    if not isinstance(value, list | tuple) or not value:
        return None
    pairs = [_pair(item) for item in value if not is_gap(item)]
    return [pair for pair in pairs if pair] if pairs and all(pairs) else None


def _pair(item: object) -> tuple[str, object] | None:
    if isinstance(item, list | tuple) and len(item) == 2 and _is_label(item[0]):
        return item[0], item[1]
    if isinstance(item, Mapping):
        label = next((item[key] for key in LABEL_KEYS if key in item), None)
        text = next((item[key] for key in TEXT_KEYS if key in item), None)
        if _is_label(label) and text is not None:
            return str(label), text
    return None


def _is_label(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value.split()) <= LABEL_WORDS


def joined(texts: Sequence[str], *, lines: bool = False) -> str:
    """Join texts into one: one per line, or separated by semicolons unless they are sentences."""
    if lines:
        return "\n".join(texts)
    parts = [text.strip() for text in texts]
    ended = [
        part if part.endswith((".", "?", "!", ":", ";", ",")) else f"{part};" for part in parts
    ]
    return " ".join([*ended[:-1], *parts[-1:]])


# How the cells of a column are read


@dataclass(frozen=True, kw_only=True)
class CellRule:
    """How the cells of one column are read."""

    column: str = ""
    structured: bool = False  # lists and objects, real or printed, are read; otherwise refused
    first: bool = False  # several texts are alternatives, of which the first is taken
    words_for_gaps: bool = False  # a cell that is "None" or "N/A" is empty
    html: int = 0  # how often HTML is turned into text: twice if its tags are escaped themselves
    says: str = ""  # the rule in a few words, for the table of columns

    def text(self, cell: object, counts: Counts, *, lines: bool = False) -> str | None:
        """Return a cell's text, or None if it is empty; raises NotText."""
        texts = self._texts(texts_in(self._value(cell)), counts)
        if not texts:
            return None
        return texts[0] if self.first else joined(texts, lines=lines)

    def sections(self, cell: object, counts: Counts) -> list[Section]:
        """Return a cell's sections with their labels; raises NotText."""
        found = sections_in(self._value(cell))
        bodies = self._texts([body for _, body in found], counts)
        return list(zip([label for label, _ in found], bodies, strict=True))

    def words(self, cell: object, counts: Counts) -> list[str]:
        """Return a cell's keywords: a list, or a text with semicolons, bars or commas."""
        value = self._value(cell)
        texts = self._texts(texts_in(value), counts)
        if isinstance(value, str):
            texts = re.split("[;,|]", texts[0]) if texts else []
        return [word for word in map(clean, texts) if word]

    def _value(self, cell: object) -> object:
        if is_gap(cell):
            return None
        if isinstance(cell, str):
            if self.words_for_gaps and cell.strip() in WORDS_FOR_GAPS:
                return None
            if self.structured:
                return parse(cell)
            if looks := looks_printed(cell):
                raise NotText(looks)
            return cell
        if self.structured and isinstance(cell, list | tuple | Mapping | bytes):
            return cell
        raise NotText(describe(cell))

    def _texts(self, texts: list[str], counts: Counts) -> list[str]:
        """Turn the HTML of a cell's texts into text."""
        if not any("<" in text or "&" in text for text in texts):
            return texts
        from clingpt.data import markup  # few texts need it

        if not self.html:
            counts["html left", self.column] += any(map(markup.has_html, texts))
            return texts
        found = [markup.html_to_text(text, times=self.html) for text in texts]
        counts["html", self.column] += found != texts
        return found


def rule_for(role: str, name: str, cells: Sequence[object]) -> CellRule:
    """Decide by a sample of a column's cells, none of them empty, how its cells are read."""
    values = [value for cell in cells if not is_gap(value := _unprinted(cell))]
    structures = [each for each in values if isinstance(each, list | tuple | Mapping)]
    is_bytes = any(isinstance(cell, bytes) or _is_printed_bytes(cell) for cell in cells)
    structured = role == "keywords" or is_bytes or 2 * len(structures) >= max(len(values), 1)
    found = [texts for value in values if (texts := _known_texts(value))]
    texts = [text for each in found for text in each]
    long = [text for text in texts if len(text.split()) >= PROSE_WORDS]
    first = role == "target" and structured and _are_alternatives(name, structures)
    html = 0
    if any("<" in text or "&" in text for text in texts):
        from clingpt.data.markup import html_passes

        html = html_passes(texts)
    facts = []
    if role == "keywords":
        facts += ["lists"] if structures else []
    elif is_bytes:
        facts.append("bytes, decoded")
    elif structured and found:
        if role == "input" and any(_labels_of(value) for value in structures):
            facts.append("labelled sections")
        else:
            sizes = sorted(map(len, found))
            n = f"{sizes[0]} to {sizes[-1]}" if sizes[0] < sizes[-1] else f"{sizes[0]}"
            plural = "text" if n == "1" else "texts"
            how = "" if n == "1" else ", the first taken" if first else ", joined"
            facts.append(f"lists of {n} {plural}{how}")
    if html:
        facts.append("HTML, as text")
    return CellRule(
        column=name,
        structured=structured,
        first=first,
        words_for_gaps=2 * len(long) >= len(texts) > 0,
        html=html,
        says="; ".join(facts),
    )


def _unprinted(cell: object) -> object:
    """Return the structure that a cell prints, or the cell itself."""
    try:
        return parse(cell) if isinstance(cell, str) else cell
    except NotText:
        return cell


def _is_printed_bytes(cell: object) -> bool:
    return isinstance(cell, str) and cell[:1] == "b" and _unprinted(cell) != cell


def _known_texts(value: object) -> list[str]:
    """List the texts within a value, or none if its meaning is ambiguous."""
    try:
        labelled = _labelled(value)
        return texts_in(value) if labelled is None else [text for _, text in sections_in(value)]
    except NotText:
        return []


def _labels_of(value: object) -> list[Section]:
    try:
        return [each for each in sections_in(value) if each[0] != PASTED]
    except NotText:
        return []


def _are_alternatives(name: str, structures: Sequence[object]) -> bool:
    """Return whether several texts in a cell answer the same question, each by itself.

    Columns with a plural name contain the answers of several annotators, as in SQuAD. So do objects
    that give the position of an answer in the passage.
    """
    last = re.split(r"[\W_]+", name.lower())[-1]
    if last in ("answers", "references", "summaries", "targets", "outputs", "responses"):
        return True
    items = [item for each in structures if isinstance(each, list) for item in each]
    return any(
        isinstance(each, Mapping) and "answer_start" in each for each in [*structures, *items]
    )


def sampled(cell: object) -> object:
    """Cut a long cell for a sample; structure is kept, because a part of it cannot be parsed."""
    if not isinstance(cell, str) or len(cell) <= SAMPLED_CHARS:
        return cell
    return cell[: MOST_CHARS + 1 if _may_be_printed(cell) else SAMPLED_CHARS]


def text_of(cell: object) -> object:
    """Return the text of a sampled cell for guessing what its column is; the cell if unreadable."""
    value = _unprinted(cell)
    if isinstance(value, str):
        return value
    return joined(texts) if (texts := _known_texts(value)) else cell


# Annotators' fields within texts


def refuse_printed(record: Record) -> None:
    """Raise DataError if a text of a record is printed structure.

    For rows in a known layout, whose cells are not read by a CellRule.
    """
    labelled = [("question", record.question), ("long answer", record.long_answer or "")]
    for label, text in [*labelled, *record.sections]:
        if looks := looks_printed(text):
            raise DataError(f"the {label.lower()} must be text, not {looks}")
