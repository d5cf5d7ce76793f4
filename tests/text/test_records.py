"""Records: what cleaning keeps and cuts, what is refused and in which words, and the JSON form."""

import json
import re
import sys
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clingpt.base.errors import DataError
from clingpt.text.records import (
    LABELS,
    Record,
    article_numbers,
    clean,
    clean_lines,
    from_json,
    make_record,
    to_json,
)
from tests.helpers.shared import PUBMEDQA, official_items, shared_file

BLANKS = [chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace()]
SYMBOLS = "± ≥ µ β e\u0301 👩‍⚕️ 🩺 0·718 °C × − ﬁ Ａ \ufeff \ufffd"
ANY_TEXT = st.text(st.characters(exclude_categories=[]))
HOSTILE_TEXT = st.text(st.sampled_from("a.Z/ \t\n\x00\x1f\x85\u2009\u2029\u200b\ud800\udfff±"))


@pytest.mark.parametrize("blank", BLANKS, ids=ascii)
def test_runs_of_unicode_white_space_become_one_space(blank: str) -> None:
    assert clean(f"{blank}P{blank}<{blank} {blank}0.05{blank}") == "P < 0.05"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("", ""),
        (" \t\n\u2029 ", ""),
        ("plain text", "plain text"),
        ("two  blanks", "two blanks"),
        ("a\x00b\x07c\x7fd\x9fe", "abcde"),
        ("half \ud83d a pair \ude00", "half a pair"),
        ("blanks \x00 around \ud800 what goes", "blanks around what goes"),
        ("at the end \x00", "at the end"),
        (SYMBOLS, SYMBOLS),
    ],
    ids=ascii,
)
def test_clean_collapses_white_space_and_drops_control_characters(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@settings(deadline=None)
@given(ANY_TEXT | HOSTILE_TEXT)
def test_clean_is_idempotent_and_drops_nothing_else(text: str) -> None:
    cleaned = clean(text)
    assert clean(cleaned) == cleaned == cleaned.strip()
    assert not re.search(r"\s\s|[^\S ]", cleaned)
    assert cleaned.encode().decode() == cleaned
    visible = [c for c in text if not c.isspace() and unicodedata.category(c) not in ("Cc", "Cs")]
    assert cleaned.replace(" ", "") == "".join(visible)


def build(**fields: Any) -> Record:
    usual: dict[str, Any] = {"question": "Does it?", "sections": [("RESULTS", "Yes.")]}
    return make_record(**{"record_id": 7} | usual | fields)


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ("None of the controls.QUESTIONS/", "None of the controls."),
        ("Five lesions.STUDY DESIGN/", "Five lesions."),
        ("Was it? SUBJECTS & METHODS/ ", "Was it?"),
        ("Given per kg.mg/", "Given per kg.mg/"),
        ("HER2/", "HER2/"),
        ("A ratio of AB/", "A ratio of AB/"),
        ("See METHODS/ above.", "See METHODS/ above."),
    ],
)
def test_label_debris_is_cut_only_from_the_end_of_sections(body: str, kept: str) -> None:
    record = build(question=body, sections=[(body, body)], long_answer=body, keywords=[body])
    assert record.sections == ((clean(body), kept),)
    assert (record.question, record.long_answer) == (clean(body), clean(body))
    assert record.keywords == (clean(body),)


def test_label_debris_is_cut_from_the_official_file() -> None:
    items = official_items(shared_file(PUBMEDQA))
    cut = 0
    for pmid, item in items.items():
        sections = list(zip(item["LABELS"], item["CONTEXTS"], strict=True))
        record = make_record(record_id=pmid, question=item["QUESTION"], sections=sections)
        assert len(record.sections) == len(sections)
        pairs = zip(sections, record.sections, strict=True)
        cut += sum(body != clean(raw) for (_, raw), (_, body) in pairs)
        assert not any(body.endswith("/") for _, body in record.sections)
    assert cut == 20


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ("One line.", "One line."),
        ("\ufeffA:\u2003x\r\nB:\ty \r\n", "\ufeffA: x\nB: y"),
        ("\n\n A\n\n\n \u2003\n\nB\x0cC\u2028D\n", "A\n\nB\nC\nD"),
        ("a \x00 b\ud800\n\x07\nc", "a b\n\nc"),
    ],
    ids=ascii,
)
def test_a_document_keeps_its_line_breaks(raw: str, kept: str) -> None:
    assert build(document=raw).document == kept == clean_lines(kept)


@given(ANY_TEXT | HOSTILE_TEXT)
def test_clean_lines_cleans_each_line(text: str) -> None:
    cleaned = clean_lines(text)
    assert clean_lines(cleaned) == cleaned == cleaned.strip()
    assert cleaned.split() == " ".join(map(clean, text.splitlines())).split()
    assert "\n\n\n" not in cleaned
    assert all(line == clean(line) for line in cleaned.split("\n"))


def test_json_of_a_record_without_a_document_never_changes() -> None:
    # Prepared folders contain such lines and their hashes.
    plain = build(long_answer="It does.", decision="yes", keywords=["pain"])
    assert json.dumps(to_json(plain)) == (
        '{"id": "7", "question": "Does it?", "sections": [["RESULTS", "Yes."]], '
        '"long_answer": "It does.", "decision": "yes", "keywords": ["pain"]}'
    )
    assert to_json(build(document="A\nB"))["document"] == "A\nB"
    assert to_json(build(document="A", heading=" HPI "))["heading"] == "HPI"
    assert from_json({"text": "a", "document": None}).document is None


@pytest.mark.parametrize(
    ("decision", "found"),
    [(" Maybe ", "maybe"), ("YES", "yes"), ("no\n", "no"), ("y\x00es", "yes"), (None, None)],
)
def test_decisions_are_cleaned(decision: str | None, found: str | None) -> None:
    assert build(decision=decision).decision == found


def test_blank_sections_are_dropped() -> None:
    sections = [("A", " \u2003\n"), ("B ", "kept"), ("C", "\x00"), ("D", "")]
    assert build(sections=sections).sections == (("B", "kept"),)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"record_id": " \t"}, "a record's id is empty"),
        ({"group": 1.5}, "a record's group must be a string or an integer, not float"),
        ({"record_id": True}, "a record's id must be a string or an integer, not bool"),
        ({"record_id": ["7"]}, "a record's id must be a string or an integer, not list"),
        ({"question": None}, "record 7: the question must be a string, not NoneType"),
        ({"question": 5}, "record 7: the question must be a string, not int"),
        ({"sections": [("A", 1.5)]}, "record 7: a section must be a string, not float"),
        ({"sections": [("A", ["x"])]}, "record 7: a section must be a string, not list"),
        ({"sections": [(None, "x")]}, "record 7: a section's label must be a string, not NoneType"),
        ({"long_answer": ""}, "record 7: the long answer is empty"),
        ({"long_answer": " \u2029"}, "record 7: the long answer is empty"),
        ({"long_answer": ["a"]}, "record 7: the long answer must be a string, not list"),
        ({"decision": "perhaps"}, "record 7: the decision must be yes, no or maybe"),
        ({"decision": ""}, "record 7: the decision must be yes, no or maybe"),
        ({"decision": True}, "record 7: the decision must be a string, not bool"),
        ({"keywords": [1]}, "record 7: a keyword must be a string, not int"),
        ({"document": "\n \u2003\n"}, "record 7: the document is empty"),
        ({"document": ["a"]}, "record 7: the document must be a string, not list"),
        ({"question": " ", "sections": [("A", " ")]}, "record 7: it has neither a question nor"),
    ],
)
def test_errors_name_the_record_and_the_field(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        build(**fields)


@pytest.mark.parametrize(
    ("fields", "sections"),
    [
        ({"text": "A note."}, (("TEXT", "A note."),)),
        ({"sections": "A note."}, (("TEXT", "A note."),)),
        ({"sections": {"AIM": "a", "END": "b"}}, (("AIM", "a"), ("END", "b"))),
        ({"sections": [["AIM", "a"], ("END", "b")]}, (("AIM", "a"), ("END", "b"))),
        ({"question": "Why?", "sections": None}, ()),
        ({"question": "Why?"}, ()),
        ({"question": None, "text": "A note.", "keywords": None}, (("TEXT", "A note."),)),
    ],
)
def test_from_json_accepts_records_typed_by_hand(
    fields: dict[str, Any], sections: tuple[tuple[str, str], ...]
) -> None:
    record = from_json(fields)
    assert record.sections == sections
    assert (record.id, record.question) == ("input", fields.get("question") or "")
    assert from_json({"id": 12, **fields}).id == "12"
    assert from_json(fields, default_id="notes.jsonl:3").id == "notes.jsonl:3"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([], "a record must be a JSON object, not list"),
        ("text", "a record must be a JSON object, not str"),
        (None, "a record must be a JSON object, not NoneType"),
        ({}, "has neither a question nor text"),
        ({"text": ""}, "has neither a question nor text"),
        ({"text": " ", "question": "\n"}, "has neither a question nor text"),
        ({"text": "a", "sections": "b"}, "a record has both sections and text"),
        ({"txt": "a", "Question": "b"}, "unknown field Question, txt; a record's fields are"),
        ({"id": [], "text": "a"}, "a record's id must be a string or an integer, not list"),
        ({"text": 5}, "sections must be pairs"),
        ({"question": 5}, "record input: the question must be a string, not int"),
        ({"question": 0, "text": "a"}, "the question must be a string, not int"),
        ({"question": False, "text": "a"}, "the question must be a string, not bool"),
        ({"question": [], "text": "a"}, "the question must be a string, not list"),
        ({"sections": 5, "question": "b"}, "sections must be pairs"),
        ({"sections": ["ab", "cd"]}, "sections must be pairs"),
        ({"sections": [["A"]]}, "sections must be pairs"),
        ({"sections": [["A", "b", "c"]]}, "sections must be pairs"),
        ({"sections": [["A", "b"], None]}, "sections must be pairs"),
        ({"sections": [{"label": "A", "text": "b"}]}, "sections must be pairs"),
        ({"sections": [[["A", "b"]], [["C", "d"]]]}, "sections must be pairs"),
        ({"sections": [["A", ["b"]]]}, "a section must be a string, not list"),
        ({"sections": [[1, "b"]]}, "a section's label must be a string, not int"),
        ({"sections": {"A": None}}, "a section must be a string, not NoneType"),
        ({"text": "a", "keywords": "pain"}, "keywords must be a list of strings"),
        ({"text": "a", "keywords": 5}, "keywords must be a list of strings"),
        ({"text": "a", "keywords": [["pain"]]}, "a keyword must be a string, not list"),
        ({"text": "a", "long_answer": 1}, "the long answer must be a string, not int"),
        ({"text": "a", "decision": ["yes"]}, "the decision must be a string, not list"),
        ({"text": "a", "document": 1}, "the document must be a string, not int"),
        ({"document": "a"}, "has neither a question nor text"),
    ],
    ids=repr,
)
def test_from_json_refuses_malformed_records(fields: object, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)) as refused:
        from_json(fields)
    assert "\n" not in str(refused.value)


TEXT = ANY_TEXT.filter(lambda text: bool(clean(text)))


@settings(deadline=None)
@given(
    record_id=TEXT,
    question=ANY_TEXT,
    sections=st.lists(st.tuples(ANY_TEXT, TEXT), min_size=1, max_size=3),
    long_answer=st.none() | TEXT,
    decision=st.none() | st.sampled_from(LABELS),
    keywords=st.lists(ANY_TEXT, max_size=2),
    document=st.none() | TEXT,
    heading=st.none() | TEXT,
)
def test_records_survive_a_round_trip_through_json(**fields: Any) -> None:
    record = make_record(**fields)
    assert record.with_texts(record.texts()) == record
    assert record.heading is None or record.heading in record.texts(), "not seen by redaction"
    line = json.dumps(to_json(record), ensure_ascii=False)
    assert from_json(json.loads(line)) == record == from_json(to_json(record))
    assert len(line.encode().splitlines()) == 1


def test_full_text_is_everything_a_model_could_have_read() -> None:
    record = Record(
        id="1",
        question="Does it?",
        sections=(("A", "first"), ("B", "second")),
        long_answer="It does.",
        decision="yes",
        keywords=("pain",),
        document="DIAGNOSIS: none",
    )
    assert record.full_text() == "Does it? first second It does. DIAGNOSIS: none"
    assert record.context() == "first second"
    assert Record(id="1", question="Why?", sections=()).full_text().strip() == "Why?"


@pytest.mark.parametrize(
    ("cell", "pmids", "numbers"),
    [
        ("PMC59610", False, ["PMC59610"]),
        ("txt/pmc59610.2.nxml", False, ["PMC59610"]),
        ("PMC17", False, []),  # as a hospital may call its seventeenth patient
        ("PMC59610-2", False, []),
        ("https://doi.org/10.1186/1471-2458-3-6", False, ["doi:10.1186/1471-2458-3-6"]),
        ("DOI: 10.1016/S0140-6736(05)6", False, ["doi:10.1016/s0140-6736(05)6"]),
        ("10.5", False, []),
        (11714421, True, ["PMID:11714421"]),
        (11714421.0, True, ["PMID:11714421"]),
        ("11714421", False, []),
        ("17", True, []),
        ("['11714421', '2000001']", True, ["PMID:11714421", "PMID:2000001"]),
        (["11714421", 2000001], True, ["PMID:11714421", "PMID:2000001"]),
        ("PMID: 11714421; PMC59610", True, ["PMID:11714421", "PMC59610"]),
        (None, True, []),
        (float("nan"), True, []),
    ],
)
def test_numbers_of_published_articles(cell: object, pmids: bool, numbers: list[str]) -> None:
    assert article_numbers(cell, pmids=pmids) == numbers


def test_articles_come_from_ids_and_groups_and_are_not_written() -> None:
    record = make_record(
        record_id="PMC59610",
        group="10.1000/x",
        question="Why?",
        sections=(),
        articles=["PMID:12345"],
    )
    assert record.articles == ("PMC59610", "PMID:12345", "doi:10.1000/x")
    assert "articles" not in to_json(record)
    assert from_json(to_json(record)).articles == ("PMC59610",)  # its id says so
    assert make_record(record_id="11714421", group=17, question="Why?", sections=()).articles == ()
