"""Find names in clinical notes by cues that published prose does not have.

Notes name people by role ("RN K. Nowak"), by relation ("grandma Inez", "Thuy (wife)"), by label
("Attending: Tran"), in lists ("bed 7 Abdul") and by initials ("(A.R.)"). A capitalised word after
such a cue is taken for a name, unless it is in [not_names] of note_words.txt or is an ordinary
word. As in name_rules.py, each rule gets the place of its cue (an index into the words of the
text) and returns the words of a name as a Span, or None.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from functools import cache

from clingpt.privacy.name_rules import repeated
from clingpt.privacy.names import (
    POSSESSIVE,
    Reader,
    Span,
    Standing,
    common_first_names,
    cues,
    first_names,
    is_initial,
    is_title,
    last_names,
    plain,
    standing,
)
from clingpt.privacy.note_structure import Label

Rule = Callable[[Reader, int], Span | None]

LONGEST = 4  # words of a name
DIALOGUE = 4  # a label that occurs this often names the speaker in a transcript
_JOINTS = (" ", ". ", ".", "-", " -")


def find_note_names(
    text: str,
    words: Sequence[re.Match[str]],
    small: Sequence[str],
    found_labels: Sequence[Label],
) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of names in a note, possibly overlapping.

    `words` are the matches of the text's words, `small` the same words in lower case.
    """
    reader, rules = Reader(text, words), _rules()
    found: list[Span] = []
    for place, word in enumerate(small):
        for rule in rules.get(word, ()):
            if span := rule(reader, place):
                found.append(span)
        if words[place][0][0].isupper() or len(word) == 1:
            found += [span for rule in _ANYWHERE if (span := rule(reader, place))]
        if word in cues("relatives"):
            found += listed_relatives(reader, place)
    found += list(_after_labels(reader, found_labels))
    for span in [*found, *repeated(reader, found)]:
        last = reader.word(span[1] - 1)
        if text[reader.end(span) : reader.end(span) + 1].isdigit():
            continue  # "ICD T15", "HLA-B27"
        yield words[span[0]].start(), reader.end(span) - 2 * last.endswith(POSSESSIVE)
    yield from _by_shape(text)


# Reading a name


def is_namelike(word: str, *, weak: bool = False) -> bool:
    """Whether a word may start a name; with `weak`, it may be an ordinary word with a capital."""
    name = plain(word)
    if not word[0].isupper() or name in _not_names() or _MIXED.match(word):
        return False
    return weak or standing(name) is not Standing.NONE


def continues_name(word: str) -> bool:
    """Whether a word may follow the first word of a name; a listed name may also be a cue."""
    name = plain(word)
    if not word[0].isupper() or standing(name) is Standing.NONE:
        return False
    listed = name in first_names() or name in last_names()
    return name not in _not_names() or (listed and name not in cues("never", "degrees_small"))


_MIXED = re.compile(r"[A-Z]{2,}[a-z]|[A-Z][a-z][A-Z]{2}|[A-Z][a-z]+[A-Z]\Z")  # MRx, AgNO, UNa


@cache
def _not_names() -> frozenset[str]:
    """Return words that are next to names and may be capitalised, but are not names themselves."""
    cue_words = cues("labels", "parts_of_names", "called", "paged", "met", "before_by", "staff")
    cue_words |= cues("never", "not_names", "degrees_small", "note_titles", "titles")
    return cue_words - {"amma", "amin", "chi", "tan", "ate", "pan", "rose"}  # names too


def read_name(
    reader: Reader, place: int, *, weak: bool = False, most: int = LONGEST
) -> Span | None:
    """Read the capitalised words that start at a place and may be a name: "K. Nowak", "de la Cruz".

    `weak`: the cue is so strong that the first word may be an ordinary one: "Attending: House".
    """
    end = at = place
    while at < len(reader.words) and at - place < most + 2:
        word = reader.word(at)
        if at > place and reader.gap(at) not in _JOINTS:
            break
        if at > place and reader.gap(at) == ". " and not is_initial(reader.word(at - 1)):
            break
        if (
            reader.text[reader.words[at].end() : reader.words[at].end() + 1] in (":", "#")
            and at > place
        ):
            break  # the next label
        if is_initial(word) or (plain(word) in cues("particles") and at > place):
            at += 1
            continue
        first = end == place
        if not _goes_on(reader, place, at, weak=weak and first):
            break
        at += 1
        end = at
        if end - place >= most:
            break
    if end == place:
        return None
    return place, reader.after_initials(end)


def _goes_on(reader: Reader, place: int, at: int, *, weak: bool) -> bool:
    """Whether the name that starts at `place` includes the word `at`, which may be the first."""
    word = reader.word(at)
    if at > place and not continues_name(word) or at == place and not is_namelike(word, weak=weak):
        # "Ní Bhriain", "Li Wei": short first words need a name after them.
        short = (
            len(word) == 2 and word.istitle() and plain(word) not in cues("never", "degrees_small")
        )
        after = reader.word(at + 1) if reader.gap(at + 1) in (" ", "-") else ""
        return short and bool(after) and is_namelike(after)
    if at == place:
        return True
    # "SMITH PRESENTED": in capitals only listed or unknown words go on.
    if word.isupper():
        return reader.word(place).isupper() and standing(plain(word)) is not Standing.NONE
    return not reader.word(at - 1).isupper() or is_initial(reader.word(at - 1))


def _is_sure(reader: Reader, span: Span | None, *, single: Standing = Standing.CLEAR) -> bool:
    """Whether a name has two words or an initial, or is a single word of at least this standing."""
    if span is None or not reader.is_person(span):
        return False
    names = reader.names(span)
    if len(names) > 1 or (names and is_initial(reader.word(span[0]))):
        return any(standing(name) is not Standing.NONE for name in names)
    if not names or (reader.word(span[0]).isupper() and len(names[0]) < 6):
        # "RN: NOK", "DR OU": a short word in capitals is an abbreviation, unless it is listed.
        single = Standing.CLEAR
        if not names or len(names[0]) < 3:
            return False
    if "-" in names[0] and not reader.word(span[0]).isupper():
        # "Delacroix-Hunt": one half is a word
        parts = [standing(part) for part in names[0].split("-")]
        return max(parts) != Standing.WORD and Standing.NONE not in parts
    return Standing.WORD is not standing(names[0]) >= single


# After a cue


def after_staff(reader: Reader, place: int) -> Span | None:
    """Match "RN K. Nowak", "RN: Nowak", "reg R. Nair" and "(RN Sims)", but not "RN Assessment"."""
    gap = reader.gap(place + 1)
    if gap not in (" ", ": ", ":", " - ", "-", " (", ". ", ", ", "/", " / "):
        return None
    span = read_name(reader, place + 1)
    if gap == ", " and span and span[1] - span[0] < 2:
        first = plain(reader.word(span[0]))
        return span if first in first_names() and _is_sure(reader, span) else None
    # "RT AXILLA" in capitals, but "RN: SIMS"
    capitals = (
        gap == " " and span and reader.word(place).isupper() and reader.word(span[0]).isupper()
    )
    single = Standing.CLEAR if capitals else Standing.UNLISTED
    return span if _is_sure(reader, span, single=single) else None


def after_note_title(reader: Reader, place: int) -> Span | None:
    """Match "Smt. Sunita Rani", "Sr Nomvula" and "Aling Nena", but not "16 Fr Foley"."""
    gap = reader.gap(place + 1)
    title = reader.word(place)
    start = reader.words[place].start()
    before = reader.text[max(0, start - 2) : start].strip()
    if gap not in (" ", ". ", ".") or before[-1:].isdigit():
        return None
    span = read_name(reader, place + 1, weak=gap != " " and len(title) > 2)
    if not span:
        return None
    if not reader.is_person(span):
        return None
    doubtful = title[0].islower() or title.isupper()
    return span if not doubtful or _is_sure(reader, span, single=Standing.UNLISTED) else None


def after_title(reader: Reader, place: int) -> Span | None:
    """Match any capitalised words after a title: "Dr. Wei", "Mrs. House", "MRS. OJO"."""
    gap = reader.gap(place + 1)
    if gap not in (" ", ". ", ".", ".  "):
        return None
    title = reader.word(place)
    if title[0].islower() or (len(title) > 4 and gap != " "):
        return None
    capitals = place + 1 < len(reader.words) and reader.word(place + 1).isupper()
    strong = title in ("Dr", "Mr", "Mrs", "Ms", "Prof") or (
        title.isupper() and "." in gap and capitals  # not "severe MR. Speech"
    )
    if title.isupper() and not capitals and title not in ("DR", "PROF"):
        return None
    span = read_name(reader, place + 1, weak=strong)
    if span and reader.word(span[0]).isupper() and not _is_sure(reader, span):
        return None
    if span or title not in ("Dr", "Mr", "Mrs", "Ms"):
        return span if span and reader.is_person(span) else None
    # "Mrs K.", but not the "Dr. X" of de-identified corpora.
    initial = place + 1 < len(reader.words) and is_initial(reader.word(place + 1))
    return (place + 1, place + 2) if initial and reader.word(place + 1) not in "ABCDEFXYZ" else None


def after_small_title(reader: Reader, place: int) -> Span | None:
    """Match "mrs hargreaves" and "dr p kowalczyk" in lower case."""
    if reader.gap(place + 1) not in (" ", ". ") or not reader.word(place).islower():
        return None
    at = place + 1
    while at < len(reader.words) and len(reader.word(at)) == 1 and at < place + 3:
        at += 1
    if at >= len(reader.words) or (at > place + 1 and reader.gap(at) not in (" ", ". ")):
        return None
    word = reader.word(at)
    good = standing(plain(word)) in (Standing.CLEAR, Standing.UNLISTED)
    good = good and plain(word) not in cues("never", "not_names", "relations", "note_relations")
    return (place + 1, at + 1) if good else None


def after_note_relation(reader: Reader, place: int) -> Span | None:
    """Match "grandma Inez", "FOB Miguel", "Baby Alvarez", "(wife: Thuy)", "daughter noor"."""
    gap = reader.gap(place + 1)
    if gap not in (" ", " (", ": ", ":", ", ", " - ", " = ", ") ", ' "', " “", ". "):
        return None
    if gap == ". " and len(reader.word(place)) > 4:
        return None  # "Husb. Ignatius", but not "with her daughter. Foley"
    first = place + 1
    span = read_name(reader, first)
    if span:
        single = Standing.UNLISTED if gap in (" ", " (", ' "', " “") else Standing.CLEAR
        if _is_sure(reader, span, single=single) or _is_first(reader, span):
            return span
        # "her husband Reg": after a small letter, even a first name that is a word
        listed = gap == " " and reader.word(place).islower() and is_title(reader.word(span[0]))
        return span if listed and plain(reader.word(span[0])) in first_names() else None
    word = reader.word(first) if first < len(reader.words) else ""
    known = word.islower() and plain(word) in first_names() and len(word) > 2
    clear = known and standing(plain(word)) is Standing.CLEAR
    clear = clear and plain(word) not in cues("never", "relations", "note_relations")
    return (first, first + 1) if clear and gap in (" ", " (") else None


def _is_first(reader: Reader, span: Span) -> bool:
    return plain(reader.word(span[0])) in common_first_names()


def before_note_relation(reader: Reader, place: int) -> Span | None:
    """Match "Thuy (wife)", "Tran, daughter," and "Inez - grandma"."""
    first = place
    while place - first < 2 and reader.gap(first) == " ":
        first -= 1  # "(the eldest daughter", "(her son"
    gap = reader.gap(first)
    if gap not in (" (", ", ", " - ", "/") or first == 0:
        return None
    ends = reader.text[reader.words[place].end() : reader.words[place].end() + 1] in (
        ")",
        ",",
        ".",
        ";",
        "",
        " ",
        "/",
        "\n",
    )
    span = _name_before(reader, first)
    if not span or not ends or (gap != " (" and first != place):
        return None
    single = Standing.UNLISTED if gap == " (" else Standing.CLEAR
    return span if _is_sure(reader, span, single=single) else None


def _name_before(reader: Reader, place: int) -> Span | None:
    """Return the capitalised name that ends before a place."""
    first = place
    while first > 0 and place - first < 3:
        word = reader.word(first - 1)
        if not (is_initial(word) or is_namelike(word)) or (
            first < place and reader.gap(first) not in _JOINTS
        ):
            break
        first -= 1
    return (first, place) if first < place else None


def after_preposition(reader: Reader, place: int) -> Span | None:
    """Match "report from keisha", "per Hannah", "d/w Tran", "with T. Ruiz"."""
    if reader.gap(place + 1) != " ":
        return None
    word = reader.word(place + 1)
    if word.islower():
        name = plain(word)
        clear = standing(name) is Standing.CLEAR and name in first_names() and len(word) > 3
        reported = reader.word(place) == "per" or (
            reader.word(place).lower() in ("per", "from", "to", "by")
            and reader.before(place) in cues("called", "before_by", "met", "told")
        )
        good = clear and reported and name not in cues("not_names")
        return (place + 1, place + 2) if good else None
    span = read_name(reader, place + 1)
    if not span or not is_title(reader.word(span[0])) and not is_initial(reader.word(span[0])):
        return None
    if span[1] - span[0] > 1:
        return span if _is_sure(reader, span) and _has_listed(reader, span) else None
    name = plain(reader.word(span[0]))
    reported = reader.word(place).lower() in ("by", "per", "from")
    known = name in first_names() or (reported and name in last_names())
    return span if known and standing(name) is Standing.CLEAR else None


def _has_listed(reader: Reader, span: Span) -> bool:
    names = reader.names(span)
    return any(name in first_names() or name in last_names() for name in names)


def after_told(reader: Reader, place: int) -> Span | None:
    """Match "called to RN", "paged Tran", "spoke to Osei", "reviewed by Osei", "notified Nowak"."""
    at = place + 1
    single = Standing.UNLISTED
    joint = reader.word(at).lower() if at < len(reader.words) else ""
    if joint in ("to", "with", "by", "from"):
        at += 1
        # "treated with Macrobid", "switched from Cytoxan"
        reported = reader.word(place).lower() in cues("called", "told")
        if joint in ("with", "from"):
            single = Standing.CLEAR
        if joint != "by" and not reported:
            return None
    elif reader.word(place).lower() in ("call", "reached", "ask", "attn", "cc"):
        single = Standing.CLEAR
    elif reader.word(place).lower() not in cues("paged"):
        return None
    span = read_name(reader, at) if reader.gap(at) == " " else None
    return span if _is_sure(reader, span, single=single) else None


def after_bed(reader: Reader, place: int) -> Span | None:
    """Match "bed 7 Abdul", "Rm 12: Kowalski" and "bed 3 abdulrahman" in a list of patients."""
    match = _BED.match(reader.text, reader.words[place].end())
    if not match:
        return None
    first = bisect_left([word.start() for word in reader.words[place + 1 : place + 5]], match.end())
    first += place + 1
    if first >= len(reader.words) or reader.words[first].start() != match.end():
        return None
    if reader.word(first).islower():
        name = plain(reader.word(first))
        known = standing(name) in (Standing.CLEAR, Standing.UNLISTED) and len(name) > 3
        known = known and name not in cues("never", "not_names")
        return (first, first + 1) if known and name in first_names() | last_names() else None
    span = read_name(reader, first)
    return span if _is_sure(reader, span, single=Standing.UNLISTED) else None


_BED = re.compile(r"\s?#?\d{1,4}\s?-?[A-Ca-c]?\s?[:.,–|-]?\s{0,2}")


def after_alias(reader: Reader, place: int) -> Span | None:
    """Match "goes by Bunny", "aka Jo", 'prefers "Mo"', "née Kim", "known as Vern"."""
    at = place + 1
    if at < len(reader.words) and reader.word(at).lower() in ("as", "by", "called"):
        at += 1
    elif reader.word(place).lower() in ("known", "goes"):
        return None
    gap = reader.gap(at)
    if gap.strip(" \"'“‘:(") or at >= len(reader.words):
        return None
    quoted = bool(gap.strip(" :("))
    span = read_name(reader, at, weak=True)
    sure = quoted or reader.word(place).lower() not in ("prefers", "likes")
    return span if span and sure else None


# Before a cue


def before_degree(reader: Reader, place: int) -> Span | None:
    """Match "Tran RN", "p.quill rn" and "Osei, PA-C", but not "Hospital RN" or "by RN"."""
    gap, degree = reader.gap(place), reader.word(place)
    if gap not in (" ", ", ", ","):
        return None
    if degree.islower():
        name = reader.word(place - 1)
        if not name.islower():
            return None
        # "report to oluwaseun rn", "by kyle rn"
        known = standing(plain(name)) in (Standing.CLEAR, Standing.UNLISTED) and len(name) > 3
        if known and reader.before(place - 1) in ("to", "from", "by", "with", "per"):
            return place - 1, place
        # "p.quill rn"
        dotted = place > 1 and reader.gap(place - 1) == "." and len(reader.word(place - 2)) == 1
        return (place - 2, place) if dotted and degree in ("rn", "lpn", "np", "md") else None
    span = _name_before(reader, place)
    return span if _is_sure(reader, span, single=Standing.UNLISTED) else None


def before_speaking(reader: Reader, place: int) -> Span | None:
    """Match "heme Onwudiwe aware" and "Stavros will", but not "Foley says"."""
    span = _name_before(reader, place) if reader.gap(place) == " " else None
    if not span or not is_title(reader.word(span[0])):
        return None
    # At the start of a sentence, a capital proves nothing.
    single = Standing.CLEAR if reader.begins(span[0]) else Standing.UNLISTED
    return span if _is_sure(reader, span, single=single) else None


def before_contact(reader: Reader, place: int) -> Span | None:
    """Match "Yetunde Salako, pgr 61-0733" and "R. Nair bleep 2213"."""
    span = _name_before(reader, place) if reader.gap(place) in (" ", ", ", " (") else None
    if not span or not is_title(reader.word(span[1] - 1)):
        return None
    single = Standing.UNLISTED if span[1] - span[0] > 1 else Standing.CLEAR
    return span if _is_sure(reader, span, single=single) else None


# Anywhere


def bracketed(reader: Reader, place: int) -> Span | None:
    """Match "ortho (Moskowitz)" and "Marquis (9)", but not "(Foley)"."""
    word = reader.word(place)
    name = plain(word)
    if not is_title(word) or standing(name) is not Standing.CLEAR or name in _not_names():
        return None
    after = reader.text[reader.words[place].end() : reader.words[place].end() + 6]
    alone = reader.gap(place).endswith("(") and after.startswith(")")
    aged = name in first_names() and re.match(r" \(\d{1,2}\)", after)
    return (place, place + 1) if alone or aged else None


def before_sex(reader: Reader, place: int) -> Span | None:
    """Match "Siphokazi M, 27 F" and "Ximena F-R, 33 y"."""
    word = reader.word(place)
    if not is_title(word) or len(word) < 3 or plain(word) in _not_names():
        return None
    end = reader.words[place].end()
    match = _AGE_AND_SEX.match(reader.text, end)
    good = standing(plain(word)) in (Standing.CLEAR, Standing.UNLISTED)
    if not match or not good:
        return None
    last = place + 1
    while last < len(reader.words) and reader.words[last].end() <= match.end("initial"):
        last += 1
    return place, last


_AGE_AND_SEX = re.compile(
    r"(?P<initial>(?:\s[A-Z](?:-[A-Z])?\.?)?),\s\d{1,3}\s?(?:[MF]\b|y/?o?\b|yrs?\b)"
)


def initial_and_surname(reader: Reader, place: int) -> Span | None:
    """Match "K. Nowak", "A.B. Osei" and "R Thiagarajan", but not "E. Coli" or "T. Telma"."""
    word = reader.word(place)
    if len(word) != 1 or not word.isupper():
        return None
    if place > 0 and len(reader.word(place - 1)) == 1 and reader.gap(place) in (".", ". "):
        return None  # read from the first initial on
    at = place
    while (
        at + 1 < len(reader.words)
        and is_initial(reader.word(at + 1))
        and reader.gap(at + 1) in (".", ". ", " ")
    ):
        at += 1
    gap = reader.gap(at + 1)
    if gap not in (". ", ".", " ") or at - place > 2:
        return None
    surname = reader.word(at + 1)
    name = plain(surname)
    before = plain(reader.word(place - 1)) if place and reader.gap(place) == " " else ""
    if before in cues("not_names") or not reader.is_person((place, at + 2)):
        return None  # "Weber B. Talar shift"
    if len(surname) < 3 or name in cues("never", "not_names") or not is_title(surname):
        return None
    clear, listed = standing(name) is Standing.CLEAR, name in last_names()
    after = reader.words[at + 1].end()
    measured = reader.text[after : after + 2].strip()[:1].isdigit()  # "T. Telma 40"
    if gap == " ":
        return (
            (place, at + 2)
            if clear and listed and word not in "AILRTCDEVKN" and not measured
            else None
        )
    if measured or (
        word in "TC" and not listed and standing(name) is Standing.UNLISTED and at == place
    ):
        return None
    good = clear or standing(name) is Standing.UNLISTED or (listed and at > place)
    return (place, at + 2) if good else None


def first_name_and_initial(reader: Reader, place: int) -> Span | None:
    """Match "Vern K, seen" and "Siphokazi M., 27 F"."""
    word = reader.word(place)
    if not is_title(word) or place + 1 >= len(reader.words) or reader.gap(place + 1) != " ":
        return None
    initial = reader.word(place + 1)
    after = reader.text[reader.words[place + 1].end() : reader.words[place + 1].end() + 1]
    if plain(word) in last_names() and initial in "ABCD":
        return None  # "Dukes B", "Child A"
    if not is_initial(initial) or after not in (",", ".", ";", ")", "", "'", "’"):
        return None
    name = plain(word)
    known = name in first_names() and standing(name) is Standing.CLEAR
    # "Ayaan W. gr 6": the full stop does not end a sentence
    goes_on = reader.text[reader.words[place + 1].end() : reader.words[place + 1].end() + 3]
    small = goes_on[:1] == "." and (goes_on[1:2] == ")" or goes_on[2:3].islower())
    known = known or (small and standing(name) is Standing.UNLISTED and len(name) > 3)
    return (place, place + 2) if known and name not in cues("not_names", "never") else None


def common_first_name(reader: Reader, place: int) -> Span | None:
    """Match a first name that is not also a word, with its surname: "Kenneth", "Teresa Quill"."""
    word = reader.word(place)
    name = plain(word)
    if not is_title(word) or name not in first_names() or standing(name) is not Standing.CLEAR:
        return None
    if name in cues("never", "not_names", "eponyms"):
        return None
    span = read_name(reader, place) or (place, place + 1)
    if not reader.is_person(span) or (place and reader.gap(place) == "-"):
        return None
    if span[1] - span[0] > 1:
        return span
    return span if name in common_first_names() or name not in last_names() else None


def double_name(reader: Reader, place: int) -> Span | None:
    """Match "Nowak/Osei" and "Nowak / Osei", two names that are not also words."""
    if place + 1 >= len(reader.words) or reader.gap(place + 1) not in ("/", " / "):
        return None
    pair = [reader.word(place), reader.word(place + 1)]
    good = all(is_title(word) and len(word) > 3 and is_namelike(word) for word in pair)
    listed = [plain(word) in last_names() or plain(word) in first_names() for word in pair]
    clear = all(standing(plain(word)) in (Standing.CLEAR, Standing.UNLISTED) for word in pair)
    return (place, place + 2) if good and clear and any(listed) else None


def full_name(reader: Reader, place: int) -> Span | None:
    """Match capitalised words of which one is a listed name and one is not an ordinary word."""
    word = reader.word(place)
    if not is_title(word) or len(word) < 3 or standing(plain(word)) is Standing.NONE:
        return None
    if reader.before(place) in cues("places"):
        return None
    span = read_name(reader, place)
    if not span or not reader.is_person(span):
        return None
    names = [plain(reader.word(at)) for at in range(*span) if len(reader.word(at)) > 1]
    if (
        len(names) < 2
        or standing(names[0]) is Standing.WORD
        and standing(names[1]) is Standing.WORD
    ):
        return None
    listed = [name in first_names() or name in last_names() for name in names]
    return span if any(listed) and Standing.CLEAR in map(standing, names) else None


def nickname(reader: Reader, place: int) -> Span | None:
    """Match a name around a nickname: 'Tui "T" Vainikolo', "Gurpreet (Gary) Dhaliwal"."""
    if place + 2 >= len(reader.words) or reader.gap(place + 1) not in (' "', " (", " “", " '"):
        return None
    at = place + 2
    if reader.gap(at) == " ":
        at += 1  # "Dai Bread"
    if at >= len(reader.words) or reader.gap(at) not in ('" ', ") ", "” ", "' "):
        return None
    around = [reader.word(place), reader.word(at)]
    good = all(is_title(word) and is_namelike(word) for word in around)
    return (place, at + 1) if good and is_title(reader.word(place + 1)[:1] + "a") else None


def after_time(reader: Reader, place: int) -> Span | None:
    """Match an entry of a schedule: "8:15 Abruzzo, Philomena", "11:31 Jaxon", "[18:02] Wei:"."""
    start = reader.words[place].start()
    if not _CLOCK.search(reader.text, max(0, start - 9), start):
        return None
    span = read_name(reader, place)
    if not span:
        return None
    if reader.gap(span[1]) in (", ", ",") and (more := _reversed_end(reader, span)):
        return more
    name = plain(reader.word(place))
    listed = name in first_names() or name in last_names()
    speaks = reader.text[reader.end(span) : reader.end(span) + 1] == ":" and len(name) > 3
    return span if (listed or speaks) and _is_sure(reader, span, single=Standing.UNLISTED) else None


_CLOCK = re.compile(r"\d:\d\d(?::\d\d)?\]?\s{1,2}\Z")


def capital_surname(reader: Reader, place: int) -> Span | None:
    """Match "KAVANAGH, Dean Patrick" and "BANERJEE SMITH, Iona", but not "HEENT, Neck"."""
    word = reader.word(place)
    if len(word) < 3 or not word.isupper() or standing(plain(word)) is Standing.NONE:
        return None
    end = place + 1
    while end < len(reader.words) and end - place < 3 and reader.gap(end) == " ":
        if not reader.word(end).isupper() or len(reader.word(end)) < 2:
            break
        end += 1
    if end >= len(reader.words) or reader.gap(end) != ", " or not is_title(reader.word(end)):
        return None
    first = plain(reader.word(end))
    known = first in first_names() or standing(first) is Standing.UNLISTED
    known = known and (first in first_names() or standing(plain(word)) >= Standing.WORD)
    if not known or {first, plain(word)} & _not_names() or not is_namelike(reader.word(end)):
        return None
    span = read_name(reader, end, most=2)
    return (place, span[1]) if span else None


def after_closing(reader: Reader, place: int) -> Span | None:
    """Match the signature of a letter: "Kind regards, M. Concannon", "Thank you. Nur Hidayah"."""
    gap = reader.gap(place + 1)
    if gap.strip(" \n\t.,!-–") or not gap or place + 1 >= len(reader.words):
        return None
    cue = reader.word(place).lower()
    if not (
        gap.startswith((",", ".", "!"))
        or "\n" in gap
        or cue.startswith(("greet", "regard", "sinc"))
    ):
        return None
    word = reader.word(place + 1)
    if not word[0].isupper() or plain(word) in _not_names():
        return None
    span = read_name(reader, place + 1, weak=True)
    if not span:
        return None
    ends = span[1] >= len(reader.words) - 6 or reader.word(place).lower() in (
        "regards",
        "sincerely",
        "faithfully",
    )
    named = span[1] - span[0] > 1 or standing(plain(word)) in (Standing.CLEAR, Standing.UNLISTED)
    return span if ends and named else None


def listed_relatives(reader: Reader, place: int) -> Iterator[Span]:
    """Yield the names of several relatives: "3 dtrs (Tali, Noa, Shir)", "sons Wei and Jun"."""
    at = place + 1
    if reader.gap(at) not in (" ", " (", ": "):
        return
    while at < len(reader.words) and at - place < 12:
        word = reader.word(at)
        if not is_title(word) or plain(word) in _not_names():
            return
        if standing(plain(word)) is Standing.NONE and at == place + 1:
            return
        span = (at, at + 1)
        if at > place + 1 or reader.gap(at + 1).strip() in (",", "&") or reader.gap(at) == " (":
            yield span
        at += 1
        joint = reader.gap(at)
        if joint == " " and at + 1 < len(reader.words) and reader.word(at) == "and":
            at, joint = at + 1, ", "
        if joint not in (", ", " & ", "/", ",", " / "):
            return


_ANYWHERE: tuple[Rule, ...] = (
    bracketed,
    before_sex,
    nickname,
    after_time,
    capital_surname,
    initial_and_surname,
    first_name_and_initial,
    common_first_name,
    double_name,
    full_name,
)


# After a label, and by shape


def _after_labels(reader: Reader, found: Sequence[Label]) -> Iterator[Span]:
    """Yield names after labels: "Attending: Tran", "PAT: NOWICKA,HALINA", "COSIGNER: SATO,R"."""
    starts = [word.start() for word in reader.words]
    times = Counter(label.words.split()[-1] for label in found)
    for label in found:
        if "name" not in label.kinds or "org" in label.kinds:
            continue
        if times[label.words.split()[-1]] >= DIALOGUE:
            continue  # "Doctor: Well, I think. Patient: Oh, good."
        first = bisect_left(starts, label.value)
        if first >= len(starts) or reader.text[label.value : starts[first]].strip(" \t\"'("):
            continue
        while reader.word(first).lower() in cues("titles", "note_titles", "staff") and (
            first + 1 < len(starts) and reader.gap(first + 1) in (" ", ". ", ".", ": ")
        ):
            first += 1
        span = read_name(reader, first)
        if not span:
            if span := _small_name(reader, first):
                yield span
            continue
        # "Mother: Melanoma" is an answer, "Attending: Okonkwo" a name.
        doubtful = label.words.split()[-1] in cues("relations", "note_relations", "doubtful_labels")
        single = Standing.CLEAR if doubtful else Standing.UNLISTED
        sure = _is_sure(reader, span, single=single)
        if reader.gap(span[1]) in (",", ", ") and (more := _reversed_end(reader, span)):
            yield more
        elif sure or _ends_field(reader, span):
            yield span


def _reversed_end(reader: Reader, span: Span) -> Span | None:
    """Extend a surname by the forenames after its comma: "Nowicka, Halina B"; None without any."""
    first = span[1]
    word = reader.word(first)
    if is_initial(word):  # "SATO,R", but not "Well, I think"
        return None if word == "I" else (span[0], first + 1)
    if not is_namelike(word) or word.isupper() != reader.word(span[0]).isupper():
        return None
    end = first + 1
    while end < len(reader.words) and end - first < 3 and reader.gap(end) == " ":
        more = reader.word(end)
        same = more.isupper() == word.isupper() and continues_name(more)
        if not (same or more.lower() in ("jr", "sr", "ii", "iii")):
            break
        end += 1
    return span[0], reader.after_initials(end)


def _ends_field(reader: Reader, span: Span) -> bool:
    """Whether a label, a line break, a number or the end follows a single word that is a name."""
    name = plain(reader.word(span[0]))
    listed = name in first_names() or name in last_names()
    after = reader.text[reader.end(span) : reader.end(span) + 3]
    return listed and (not after.strip() or after[0] in ";|\n(/" or after.strip()[0].isdigit())


def _small_name(reader: Reader, first: int) -> Span | None:
    """Return a name in lower case after a label: "pcp: dr tran", "nurse: keisha"."""
    word = reader.word(first)
    good = word.islower() and len(word) > 2 and standing(plain(word)) is Standing.CLEAR
    return (first, first + 1) if good and plain(word) in first_names() else None


_UPPER = r"[^\W\d_a-zß-ÿ](?:[^\W\d_a-zß-ÿ]|['’-]){1,20}"
_BEFORE_NUMBER = re.compile(  # TRAN, QUOC BAO 54 M; Castellanos, J 3310482; |Kim, Soon-ja|
    rf"(?<![\w,'’-])(?P<value>(?P<last>[^\W\d_a-z](?:[^\W\d_]|['’-]){{1,20}}),\s?"
    rf"(?P<first>{_UPPER}(?:\s{_UPPER})?"
    r"|[A-Z][a-z'’-]{1,15}(?:-?[A-Z]?[a-z]{1,12})?(?:\s[A-Z]\b(?!:))?|[A-Z]\b))"
    r"(?=\.?\s?(?:[|(/]|\d|[A-Z]{1,4}\d))"
)
_SHAPES = (
    # NOWICKA,HALINA B
    re.compile(
        rf"(?<![\w,])(?P<value>(?P<last>{_UPPER}),(?P<first>{_UPPER})(?:\s[A-Z]\b(?!:))?)(?![\w,])"
    ),
    # NOWICKA SMITH, HALINA
    re.compile(
        rf"(?<![\w,'’-])(?P<value>(?:{_UPPER}\s)?(?P<last>{_UPPER}),\s(?P<first>{_UPPER})(?:\s[A-Z]\b(?!:))?)"
        r"(?![\w,'’-])"
    ),
    _BEFORE_NUMBER,
    # LOWENTHAL,A
    re.compile(rf"(?<![\w,'’-])(?P<value>(?P<last>{_UPPER}),(?P<first>[A-Z]))(?![\w,])"),
    # ROE^JANE^L
    re.compile(rf"(?<!\w)(?P<value>(?P<last>{_UPPER})\^(?P<first>{_UPPER})(?:\^[A-Z]\w{{0,15}})?)"),
)
_INITIALS = re.compile(
    r"\((?P<value>[A-Z]\.\s?(?:[A-Z]\.\s?){1,2})\)"
    r"|\b(?:[Ii]nitials|INITIALS|[Tt]yped(?:\sby)?|[Tt]ypist|[Tt]ranscribed\sby)\s?:?\s"
    r"(?P<typed>[A-Z]-?[A-Z]{1,2}|[a-z]{2,12}(?=\s*\Z|\s*\n))(?![\w-])"
)
_E_SIGNED = re.compile(  # /es/ JANE Q ROE
    r"/e?s/\s{1,2}(?P<value>[A-Z][\w'’-]{1,20}(?:\s[A-Z][\w'’.-]{0,20}){0,3}?)(?=,|\s{2}|\n|\Z|\s(?:MD|DO|RN|NP|PA|LCSW|PharmD|PhD)\b)"
)
_SPELLED = re.compile(
    r"(?<![\w-])(?:[A-Z](?:-[A-Z]){3,15}|[a-z](?:-[a-z]){3,15}|[A-Z](?: [A-Z]){5,15})(?![\w-])"
)
_SIGNED = re.compile(
    r"(?:(?<=\s)|(?<=\A))(?:--?|–|/s/|/es/|~)\s?(?P<value>[a-z]\.\s?[a-z]{3,20}|[A-Z]\.?[A-Z]\.?"
    r"|[A-Z]\.\s?[A-Z][a-z]+)"
    r"(?=\s?(?:,|\s|\Z)(?:rn|RN|md|MD|np|NP|pa|PA|lpn|DO)\b|\s*\Z|\s*\n)"
)


def _by_shape(text: str) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of names that are recognised only by their spelling and punctuation."""
    for pattern in _SHAPES:
        for match in pattern.finditer(text):
            if _are_names(match, before_number=pattern is _BEFORE_NUMBER):
                yield match.span("value")
    for pattern in (_INITIALS, _SIGNED, _SPELLED):
        for match in pattern.finditer(text):
            yield match.span(match.lastgroup or 0)
    for match in _E_SIGNED.finditer(text):
        yield match.span("value")


def _are_names(match: re.Match[str], *, before_number: bool) -> bool:
    """Whether the words in the shape of a surname and a forename are names."""
    words = [plain(match["last"]), plain(match["first"])]
    last, first = (word.split()[0].strip(".") for word in words)
    if {last, first} & cues("never", "degrees_small") or len(last) < 3:
        return False
    if len(first) < 2:  # only a surname and an initial
        return standing(last) >= Standing.UNLISTED and last not in _not_names()
    known = [name in first_names() or name in last_names() for name in (last, first)]
    ratings = [standing(name) for name in (last, first)]
    if Standing.NONE in ratings or (before_number and match["last"].isupper() and not known[0]):
        return False  # "NSTEMI, TIMI 3"
    if ", " in match[0] and not before_number:
        # Two diagnoses in a list are seldom listed names: "OSTEOPENIA, KYPHOSIS".
        return Standing.CLEAR in ratings and all(known)
    return any(known)


@cache
def _rules() -> dict[str, tuple[Rule, ...]]:
    """Return the rules to try at each cue word, in order."""
    relations = cues("relations", "note_relations")
    table: tuple[tuple[Set[str], Rule], ...] = (
        (cues("staff"), after_staff),
        (cues("note_titles"), after_note_title),
        (cues("titles"), after_title),
        ({"dr", "mr", "mrs", "ms", "miss", "prof"}, after_small_title),
        (relations, after_note_relation),
        (relations, before_note_relation),
        ({"per", "from", "by", "with", "w", "to", "via", "see", "for"}, after_preposition),
        (
            cues("called", "met", "before_by", "paged", "told") | {"reached", "ask", "attn"},
            after_told,
        ),
        (cues("speaking"), before_speaking),
        (cues("contacts"), before_contact),
        ({"bed", "bd", "rm", "room", "bay", "sr", "chair"}, after_bed),
        (
            {"aka", "goes", "known", "née", "nee", "nickname", "nicknamed", "prefers", "alias"},
            after_alias,
        ),
        (cues("degrees_small"), before_degree),
        (cues("note_closings"), after_closing),
    )
    rules: dict[str, tuple[Rule, ...]] = {}
    for words, rule in table:
        for word in words:
            rules[word] = (*rules.get(word, ()), rule)
    return rules
