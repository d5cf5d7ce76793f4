"""Redaction removes identifiers, keeps the text readable, and depends on nothing but the key."""

import copy
import datetime
import random
import re
from dataclasses import replace

import pytest

from clingpt.privacy.dates import day_of, shifted
from clingpt.privacy.identifiers import Found, find_identifiers
from clingpt.privacy.redaction import Redactor, joined_text, may_identify
from clingpt.text.records import Record
from clingpt.text.sentences import split_sentences
from tests.helpers import phi_corpus

KEY = b"a key of some thirty-two letters"
NOTES = phi_corpus.make_notes(phi_corpus.DEVELOPED + phi_corpus.HELD_OUT, each=2, seed=11)
RECORD = Record(
    id="00412345",
    question="How is Mr. Okonkwo (MRN 00123456)?",
    sections=(("NOTE OF 3/4/2019", "Okonkwo, aged 93, slept. Dr. Smith called 617-555-0134."),),
    long_answer="Okonkwo is well since 3/1/2019.",
    decision="yes",
    keywords=("Okonkwo", "sleep"),
)


def test_tags_leave_no_detectable_identifier() -> None:
    redactor = Redactor("tags")
    for note in NOTES:
        text = redactor.text(note.text)
        assert find_identifiers(text) == []
        assert len(re.findall(r"\[[A-Z_]+\]", text)) > 2


def test_surrogates_leave_no_original_identifier() -> None:
    redactor = Redactor("surrogates", KEY)
    gone = 0
    for number, note in enumerate(NOTES):
        text = redactor.text(note.text, owner=str(number))
        for one in find_identifiers(note.text):
            if one.kind != "age":  # two digits can occur anywhere
                assert note.text[one.start : one.end] not in text
                gone += 1
    assert gone >= 200


def test_surrogates_leave_the_text_readable() -> None:
    redactor = Redactor("surrogates", KEY)
    for number, note in enumerate(NOTES):
        text = redactor.text(note.text, owner=str(number))
        assert len(split_sentences(text)) == len(split_sentences(note.text))
        doubled = [len(re.findall(r"\b([^\W\d]{2,}) \1\b", each)) for each in (text, note.text)]
        assert doubled[0] <= doubled[1]  # "Walla Walla"
        for pair in ("()", "[]"):
            assert [text.count(each) for each in pair] == [note.text.count(each) for each in pair]
        # Everything between identifiers is unchanged.
        everything = find_identifiers(note.text)
        edges = [0, *(edge for one in everything for edge in (one.start, one.end)), len(note.text)]
        place = 0
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            place = text.index(note.text[start:end], place)


def test_a_name_has_one_surrogate_in_the_capitalisation_of_the_original() -> None:
    redactor = Redactor("surrogates", KEY)
    first = redactor.text("Pt: SMITH, MARY. Mrs. Smith came.", owner="1")
    other = redactor.text("Dr. Smith; daughter Mary", owner="2")
    last, given = re.findall(r"[A-Z]{2,}", first)
    assert first == f"Pt: {last}, {given}. Mrs. {last.capitalize()} came."
    assert other == f"Dr. {last.capitalize()}; daughter {given.capitalize()}"
    assert "smith" not in first.lower() and last != given


def test_surrogate_numbers_keep_their_shape() -> None:
    text = "SSN 123-45-6789, call (617) 555-0134 x12, MRN XK-004512, VIN 1HGCM82633A004352."
    new = Redactor("surrogates", KEY).text(text)
    shape = [re.sub(r"\d", "9", re.sub(r"[A-Z]", "A", each)) for each in (text, new)]
    assert shape[0] == shape[1]
    assert new != text
    text = "call 617-555-0134 or (617) 555-0134"
    assert (
        re.sub(r"\D", "", Redactor("surrogates", KEY).text(text))[:10]
        in re.sub(r"\D", "", Redactor("surrogates", KEY).text(text))[10:]
    )


def test_ages_above_89_become_the_safe_harbor_category() -> None:
    new = Redactor("surrogates", KEY).text("A 93-year-old man and his ninety-two year old wife")
    assert new == "A 90+-year-old man and his 90+ year old wife"


@pytest.mark.parametrize(
    ("written", "later"),
    [
        ("3/4/1931", "4/3/1931"),
        ("03/04/31", "04/03/31"),
        ("05-MAY-19", "04-JUN-19"),
        ("3rd of May 2019", "2nd of Jun 2019"),
        ("December 5, 2019", "January 4, 2020"),
        ("May 30-31, 2019", "Jun 29-30, 2019"),
        ("30-31 January 2019", "1-2 March 2019"),
        ("2019-05-03T14:30", "2019-06-02T14:30"),
        ("20191203", "20200102"),
        ("January 2005", "February 2005"),
        ("12/2005", "01/2006"),
        ("1/1/00 at 3:45 pm", "1/31/00 at 3:45 pm"),
        ("2/30/2019", "3/30/2019"),  # counts as the last day of the month
        ("Feb 28", "Mar 30"),
        ("May 3/4/2019", None),
    ],
)
def test_dates_shift_and_keep_their_spelling(written: str, later: str | None) -> None:
    assert shifted(written, 30) == later


def test_intervals_within_a_record_are_kept() -> None:
    rng = random.Random(3)
    redactor = Redactor("surrogates", KEY)
    moves = set()
    for number in range(40):
        days = [phi_corpus.day(rng) for _ in range(3)]
        text = " then ".join(f"{day:%d/%m/%Y}" for day in days) + " then 25/12/2001"
        new = redactor.text(text, owner=str(number)).split(" then ")
        moved = [datetime.datetime.strptime(each, "%d/%m/%Y").date() for each in new]
        gaps = {(after - day).days for day, after in zip(days, moved, strict=False)}
        assert len(gaps) == 1
        moves |= gaps
    assert len(moves) > 20
    assert 0 not in moves


def test_dates_of_one_patient_move_together() -> None:
    def moved(group: str | None, record_id: str, day: str) -> int:
        record = replace(RECORD, id=record_id, group=group, question=f"Seen on {day}.", sections=())
        new = Redactor("surrogates", KEY).record(replace(record, long_answer=None, keywords=()))
        later = datetime.datetime.strptime(new.question, "Seen on %m/%d/%Y.")
        return (later - datetime.datetime.strptime(day, "%m/%d/%Y")).days

    days = [f"{month}/{month + 7}/2019" for month in range(1, 13)]
    for group in ("patient a", "patient b"):
        moves = {moved(group, f"note {number}", day) for number, day in enumerate(days)}
        assert len(moves) == 1
    assert moved("patient a", "note 1", days[0]) != moved("patient b", "note 1", days[0])
    # Even where that moves one date of a note onto another.
    days_moved = moved("patient a", "note 1", "3/4/2019")
    other = datetime.date(2019, 3, 4) + datetime.timedelta(days_moved)
    record = replace(RECORD, group="patient a", question=f"3/4/2019, {other:%m/%d/%Y}", sections=())
    new = Redactor("surrogates", KEY).record(record).question
    assert day_of(new.split(",")[0]) == other
    # Without groups, every record is a patient.
    assert len({moved(None, f"note {number}", day) for number, day in enumerate(days)}) > 6


SHORT = ["6/23", "5/92", "11-07", "26.04.", "9.7.20", "the 19th", "November", "Christmas Eve"]
SHORT += ["202103141030-0600", "081401", "Mar 14, '22", "08-02-'16", "Thanksgiving 2019"]


@pytest.mark.parametrize("written", SHORT)
def test_short_dates_shift_to_dates(written: str) -> None:
    later = shifted(written, 200)
    assert later not in (written, None)
    assert shifted(later or "", -200) is not None  # readable again


NOTE = "Pt c/o SOB, hx DM, NKDA. "


@pytest.mark.parametrize(
    "written",
    [
        *("ACC-RAD-508214", "KNH/2021/004417", "22-40-71", "AB123/45678", "scan_0117.jpg"),
        *("p27614", "(614)555-0171", "07700 900 245", "7-3345", "@roe_moon42"),
        *("NOWICKA,HALINA", "JQR:smith", "W-H-I-S-K", "(A.R.)"),
    ],
)
def test_surrogates_of_new_forms_keep_their_shape(written: str) -> None:
    def shape(text: str) -> str:
        return re.sub(r"\d", "9", re.sub("[a-z]+", "a", re.sub("[A-Z]+", "A", text)))

    text = f"{NOTE}Signed, M.D. {written} D:3/4/2019"
    assert len(find_identifiers(text)) > 1
    new = Redactor("surrogates", KEY).text(text).removeprefix(f"{NOTE}Signed, M.D. ")
    new = new.partition(" D:")[0]
    assert new != written
    assert shape(new) == shape(written).replace("@a_a99", "@a_a")


def test_the_initials_of_a_typist_become_initials() -> None:
    new = Redactor("surrogates", KEY).text(f"{NOTE}Signed, M.D. JQR:smith D:3/4/2019")
    assert re.search(r" [A-Z]{3}:[a-z]+ D:", new) and "JQR" not in new


def test_no_date_moves_onto_another_in_any_spelling() -> None:
    redactor = Redactor("surrogates", KEY)
    days = [datetime.date(1960, 6, 18) + datetime.timedelta(9 * n) for n in range(30)]
    spelled = [
        f"{day:%m/%d/%Y}" if n % 2 else f"{day.day} {day:%B} {day.year}"
        for n, day in enumerate(days)
    ]
    bare = f"{days[7]:%B} {days[7].day}"
    for number in range(60):
        text = redactor.text(" then ".join([*spelled, bare]), owner=str(number))
        moved = [day_of(each) for each in text.split(" then ")[:-1]]
        assert None not in moved
        assert not {*moved} & {*days}
        assert bare not in text


@pytest.mark.parametrize("spelling", ["%m/%d/%Y", "%B %Y"])
def test_many_dates_take_linear_time(spelling: str) -> None:
    # The dates cover a century, so every shift hits one of them.
    days = (datetime.date(1940, 1, 1) + datetime.timedelta(5 * n) for n in range(8000))
    text = " then ".join(f"{day:{spelling}}" for day in days)
    with phi_corpus.linear_time():
        Redactor("surrogates", KEY).text(text)


def test_all_texts_of_a_record_are_redacted_as_one() -> None:
    tags = Redactor("tags").record(RECORD)
    assert tags.question == "How is Mr. [NAME] (MRN [RECORD_NUMBER])?"
    assert tags.sections == (
        ("NOTE OF [DATE]", "[NAME], aged [AGE], slept. Dr. [NAME] called [PHONE]."),
    )
    assert tags.long_answer == "[NAME] is well since [DATE]."
    assert tags.keywords == ("[NAME]", "sleep")
    assert tags.decision == "yes"
    new = Redactor("surrogates", KEY).record(RECORD)
    assert not re.search("okonkwo|smith|412345", f"{new}".lower())
    assert new.keywords[0] in new.question and new.keywords[0] in (new.long_answer or "")


def test_missing_and_empty_parts_of_a_record_are_unchanged() -> None:
    bare = Record(id="a", question="", sections=(), long_answer=None)
    for how in ("tags", "surrogates"):
        assert Redactor(how).record(bare) == bare
    assert RECORD.with_texts(RECORD.texts()) == RECORD
    strange = replace(RECORD, question="http://x\0y Dr.\0Smith", keywords=("http://z",))
    assert joined_text(strange).count("\0") == len(strange.texts()) - 1
    assert len(Redactor("tags").record(strange).keywords) == 1


@pytest.mark.parametrize("name", ["00412345", "doe_john_smith", "scan-2019-05-03", "123-45-6789"])
def test_identifying_ids_become_letters(name: str) -> None:
    assert may_identify(name)
    redactor = Redactor("tags", KEY)
    new = redactor.record(replace(RECORD, id=name)).id
    assert re.fullmatch("record-[a-p]{16}", new)
    assert new == redactor.record(replace(RECORD, id=name)).id
    assert new != Redactor("tags", b"another key").record(replace(RECORD, id=name)).id


@pytest.mark.parametrize("name", ["Quimby", "roe_jane_2019", "JaneRoe", "Smith.J.note", "Li-3"])
def test_ids_with_words_that_may_be_names_become_letters(name: str) -> None:
    """Files are named after patients, and `.txt` folders take ids from their files."""
    new = Redactor("tags", KEY).record(replace(RECORD, id=name)).id
    assert re.fullmatch("record-[a-p]{16}", new)


@pytest.mark.parametrize("name", ["row-17", "a", "report 3", "radiologyReport7", "CXR1_2"])
def test_other_ids_are_kept(name: str) -> None:
    assert not may_identify(name)
    assert Redactor("tags").record(replace(RECORD, id=name)).id == name


def test_the_key_determines_surrogates_and_is_not_shown() -> None:
    text = "Dr. Smith, 3/4/2019, MRN 00123456"
    new = Redactor("surrogates", KEY).text(text)
    assert Redactor("surrogates", KEY).text(text) == new
    assert Redactor("surrogates", b"x" * 32).text(text) != new
    assert len({Redactor("surrogates").text(text) for _ in range(4)}) > 1
    # A copy, as a worker process receives it.
    assert copy.deepcopy(Redactor("surrogates", KEY)).text(text) == new
    assert KEY.decode() not in repr(Redactor("surrogates", KEY))


def test_any_text_can_be_redacted() -> None:
    rng = random.Random(7)
    pieces = [
        "Dr. ",
        "Smith",
        " [NAME] ",
        "http://x",
        "3/4/2019",
        " May 3",
        "\0",
        "[",
        "](",
        "MRN ",
    ]
    pieces += ["00123456", "@", "a.b@c.de", " age ", "93", ", ", " Mary", "-", "é", "'s", "\n"]
    pieces += ["12 Oak St"]
    for _ in range(300):
        text = "".join(rng.choices(pieces, k=rng.randrange(12)))
        assert find_identifiers(Redactor("tags").text(text)) == []
        Redactor("surrogates", KEY).text(text)


def test_another_detector_can_be_plugged_in() -> None:
    def detect(text: str) -> list[Found]:
        return [Found("name", 0, 3)] if text.startswith("Pat") else []

    assert Redactor("tags", detect=detect).text("Patrick, 3/4/2019") == "[NAME]rick, 3/4/2019"
