"""Find the records in a JSON file: exports wrap them in objects, and pandas has five layouts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from clingpt.base import console
from clingpt.base.errors import ConfigError, DataError
from clingpt.data.readers.json_text import JsonText
from clingpt.data.readers.text_file import shown_name

CONVINCING = 20  # objects at the start of an object, after which no other shape is likely
MOST_FIELDS = 1000  # of an object that is a record or wraps records
MOST_COLUMNS = 40  # of a record that has only texts
MOST_KEYS = 10  # named in a message
PROSE_WORDS = 8  # of a text that belongs to a record rather than to a wrapper of records


class Layout(NamedTuple):
    """Where the records of a file are, and in what form."""

    name: str  # one of LAYOUTS
    keys: tuple[str, ...] = ()  # that lead to the records


LAYOUTS = {
    "lines": "one object per line",
    "sequence": "one object after another",
    "list": "a list of objects",
    "objects": "an object of objects, whose keys are the ids",
    "positions": "an object of objects, whose keys are row numbers (pandas' index)",
    "record": "one object, a single record",
    "columns": "an object of columns (pandas' columns)",
    "lists": "an object of lists, one per column",
    "split": "rows in lists, beside the names of the columns (pandas' split)",
}


class Kind(NamedTuple):
    """What a JSON value is, as far as the choice of a layout needs it."""

    name: str  # "a text", "a list of objects" …
    inner: Mapping[str, "Kind"] = {}  # of an object: its first values


OBJECT, OBJECTS, TEXT, PROSE = "an object", "a list of objects", "a short text", "a text"
KINDS = {'"': "texts", "{": "objects", "[": "lists", "n": "nulls"}
# An object with one of these keys is a record, whatever lists of objects it has.
RECORD_KEYS = frozenset("messages conversations resourceType paragraphs qas".split())
# Keys of records in a wrapper that may describe itself in prose, while any other object with prose
# and a list of objects is a record with annotations.
WRAPPER_KEYS = frozenset("data records rows items results examples samples instances train".split())


def find_layout(text: JsonText, records: str | None = None) -> Layout:
    """Find the records of a JSON text; `records` is their dotted key, if the user named it.

    Reads the text up to where nothing can change the answer. Raises DataError for a shape that
    cannot be read, and ConfigError if the user has to name a key, or named one that is not there.
    """
    keys = _descend(text, records) if records else ()
    opens, line = text.peek(), text.line
    if opens == "[":
        kind = "an empty list"
        for _ in text.items():
            kind = f"a list of {KINDS.get(text.peek(), 'numbers')}"
            if kind == OBJECTS:
                return Layout("list", keys)
            if kind != "a list of nulls":  # which may precede objects
                break
            text.skip()
        raise _refusal(text, kind, keys)
    if opens != "{":
        what = "neither a list nor an object" if opens else "an empty file"
        raise _refusal(text, what, keys)
    if records == "":
        return Layout("record")
    kinds: dict[str, Kind] = {}
    for _, key in text.items():
        kinds[str(key)] = _kind_of(text, depth=1)
        if len(kinds) == MOST_FIELDS or len(kinds) == CONVINCING and _are_all(kinds, OBJECT):
            break
    else:
        is_line = text.line == line
        if not keys and text.peek() == "{":
            return Layout("lines" if is_line else "sequence")
    return _layout_of(text, kinds, keys)


def _descend(text: JsonText, dotted: str) -> tuple[str, ...]:
    """Go to the value under a dotted key; return the keys on the way, which may have dots."""
    keys: tuple[str, ...] = ()
    while dotted:
        if text.peek() != "{":
            raise ConfigError(
                f"--records={'.'.join([*keys, dotted])}: {_under(text, keys)} is not an object"
            )
        others = []
        for _, key in text.items():
            assert key is not None
            if dotted == key or dotted.startswith(f"{key}."):
                keys, dotted = (*keys, key), dotted[len(key) + 1 :]
                break
            others.append(key)
            text.skip()
        else:
            raise ConfigError(
                f"no key {dotted!r} in {_under(text, keys)}; its keys are {_listed(others)}"
            )
    return keys


def _kind_of(text: JsonText, depth: int = 0) -> Kind:
    """Read a value and return its kind; of an object, with those of its first values."""
    opens = text.peek()
    if opens == "[":
        found = ""
        for _ in text.items():
            found = found or KINDS.get(text.peek(), "numbers")
            text.skip()
        return Kind(f"a list of {found}" if found else "an empty list")
    if opens == "{":
        inner: dict[str, Kind] = {}
        for _, key in text.items():
            if depth and len(inner) < CONVINCING:
                inner[str(key)] = _kind_of(text, depth - 1)
            else:
                text.skip()
        return Kind(OBJECT, inner)
    value = text.value()
    if isinstance(value, str):
        return Kind(PROSE if len(value.split()) >= PROSE_WORDS else TEXT)
    return Kind("null" if value is None else "a number")


def _layout_of(text: JsonText, kinds: Mapping[str, Kind], keys: tuple[str, ...]) -> Layout:
    """Choose the layout of an object by the kinds of its values."""
    names = {key: kind.name for key, kind in kinds.items()}
    if names.get("entry") == OBJECTS and "resourceType" in names:  # a FHIR bundle
        return Layout("list", (*keys, "entry"))
    if names.keys() & RECORD_KEYS:
        return Layout("record", keys)
    if names.get("columns") == "a list of texts" and names.get("data") == "a list of lists":
        return Layout("split", keys)
    if _are_all(kinds, OBJECT) and (found := _layout_of_objects(kinds)):
        return Layout(found, keys)
    if candidates := _candidates(kinds):
        if len(candidates) == 1:
            return Layout(candidates[0].name, keys + candidates[0].keys)
        dotted = [".".join(keys + each.keys) for each in candidates]
        raise ConfigError(
            f"{text.path} has several lists of records: {_listed(dotted)}; choose one with "
            f"--records={_listed(dotted[:1])}"
        )
    if all(" list" in name for name in names.values()):
        if "a list of texts" in names.values():
            return Layout("lists", keys)
    elif not {TEXT, PROSE}.isdisjoint(names.values()) and not _are_texts_by_id(names):
        return Layout("record", keys)
    raise _refusal(text, _described(kinds), keys)


def _are_texts_by_id(names: Mapping[str, str]) -> bool:
    """Return whether an object has more texts, and nothing else, than a record has columns."""
    return len(names) > MOST_COLUMNS and {TEXT, PROSE}.issuperset(names.values())


def _candidates(kinds: Mapping[str, Kind]) -> list[Layout]:
    """List what may be the records within an object: lists of objects, or objects of objects."""
    lists = [Layout("list", (key,)) for key, kind in kinds.items() if kind.name == OBJECTS]
    if any(kind.name == PROSE for kind in kinds.values()):
        return [each for each in lists if WRAPPER_KEYS.intersection(each.keys)]
    if lists:
        return lists
    deeper = [(key, each, kind) for key, of in kinds.items() for each, kind in of.inner.items()]
    lists = [Layout("list", (key, each)) for key, each, kind in deeper if kind.name == OBJECTS]
    return lists or [
        Layout("positions" if are_positions(kind.inner) else "objects", (key,))
        for key, kind in kinds.items()
        if len(kind.inner) > 1 and _are_all(kind.inner, OBJECT)
    ]


def _layout_of_objects(kinds: Mapping[str, Kind]) -> str | None:
    """Choose the layout of an object of objects; None if they are unlike each other."""
    [first, *others] = (kind.inner for kind in kinds.values())
    if not first or any(not first.keys() & other.keys() for other in others):
        return None
    if len(kinds) == 1 and _are_all(first, OBJECT):
        return None
    if are_positions(kinds):
        return "positions"
    digits = all(key.isdigit() for key in first)
    if are_positions(first) or digits and not all(key.isdigit() for key in kinds):
        return "columns"
    return "objects"


def _are_all(kinds: Mapping[str, Kind], name: str) -> bool:
    return bool(kinds) and all(kind.name == name for kind in kinds.values())


def are_positions(keys: Iterable[str]) -> bool:
    """Return whether the keys are row numbers, as pandas counts them: "0", "1", …"""
    return bool(keys) and all(key == str(n) for n, key in enumerate(keys))


def _described(kinds: Mapping[str, Kind]) -> str:
    """Describe an object in which no records can be found."""
    if not kinds:
        return "an empty object"
    if _are_texts_by_id({key: kind.name for key, kind in kinds.items()}):
        n_texts = console.count(len(kinds), "text")
        return f'an object of {n_texts}, and each has to be {{"id": …, "text": …}}'
    if len(kinds) >= MOST_FIELDS:
        return f"an object of {MOST_FIELDS:,} or more values that are not objects"
    shown = [f"{shown_name(key)} ({kind.name})" for key, kind in kinds.items()]
    more = f" and {len(shown) - MOST_KEYS} more" if len(shown) > MOST_KEYS else ""
    return f"an object of {', '.join(shown[:MOST_KEYS])}{more}"


def _refusal(text: JsonText, what: str, keys: Sequence[str]) -> DataError:
    if what in ("an empty object", "an empty list", "an empty file"):
        return DataError(
            f"{_under(text, keys)} is {what} and contains no record; is it the right file?"
        )
    return DataError(
        f"{_under(text, keys)} is {what}; records are read from a list of objects, [{{…}}, …], or "
        "from one object per line (.jsonl), whose keys name the columns; --records=KEY names the "
        "key of such a list"
    )


def _under(text: JsonText, keys: Sequence[str]) -> str:
    return f"{text.path}: {'.'.join(map(shown_name, keys))}" if keys else str(text.path)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_KEYS} more" if len(names) > MOST_KEYS else ""
    return (", ".join(map(shown_name, names[:MOST_KEYS])) or "none") + more
