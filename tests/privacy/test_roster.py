"""A roster finds what it lists in any spelling, and nothing in ordinary words."""

import datetime
import pickle
import random
from pathlib import Path

import pytest

from clingpt.base.errors import DataError
from clingpt.privacy.names import census
from clingpt.privacy.roster import Roster, kind_of_column, parse_dates
from tests.helpers.phi_corpus import assert_linear, linear_time

ENTRIES = (
    *("Okonkwo, Adaeze N.", "John Long", "Müller, Zoë", "Mark Young-Smith", "Dr. Wei Chen, MD"),
    *("00412345", "QB-61234", "943 476 5919", "1931-03-04"),
)


@pytest.fixture(scope="module")
def roster() -> Roster:
    made = Roster()
    for entry in ENTRIES:
        made.add(entry)
    made.add("12 Oak Street", "place")
    return made


def found(roster: Roster, text: str) -> list[str]:
    return [text[one.start : one.end] for one in roster.find(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("okonkwo, adaeze was seen", ["okonkwo, adaeze"]),
        ("ADAEZE OKONKWO", ["ADAEZE OKONKWO"]),
        ("OKONKWO^ADAEZE^N", ["OKONKWO^ADAEZE^N"]),
        ("adaeze came", ["adaeze"]),
        ("Muller and zoë muller", ["Muller", "zoë muller"]),
        ("Ann Long left; Dr. Long too", ["Long", "Long"]),
        ("long, John", ["long, John"]),
        ("a long leg. Long hair. Mark the site", []),
        ("chart 412345, mrn 0041-2345", ["412345", "0041-2345"]),
        ("qb 61234 and QB61234", ["qb 61234", "QB61234"]),
        ("9434765919 or 943-476-5919", ["9434765919", "943-476-5919"]),
        ("1412345 4123456 A412345 412345B", []),
        ("lives at 12 oak street", ["12 oak street"]),
        ("Wei Chen's", ["Wei Chen"]),
    ],
)
def test_entries_are_found_in_any_spelling(roster: Roster, text: str, expected: list[str]) -> None:
    assert found(roster, text) == expected


@pytest.mark.parametrize(
    "date",
    [
        *("3/4/1931", "4.3.31", "04-03-1931", "1931-03-04", "1931/3/4", "19310304", "04031931"),
        *("4 March 1931", "March 4th, 1931", "4th of March 1931", "MAR 04, 1931", "4-Mar-31"),
    ],
)
def test_a_birth_date_is_found_in_any_spelling(roster: Roster, date: str) -> None:
    assert found(roster, f"born {date}.") == [date]
    assert found(roster, "born 5/4/1931; in 1931 or on 3/4") == []


def test_dates_are_read_as_either_order_where_both_fit() -> None:
    assert parse_dates("3/4/1931") == {datetime.date(1931, 3, 4), datetime.date(1931, 4, 3)}
    assert parse_dates("1931-03-04T00:00:00") == {datetime.date(1931, 3, 4)}
    assert parse_dates("25 Dec 1999") == {datetime.date(1999, 12, 25)}
    assert parse_dates("31/31/1931") == parse_dates("John Long") == set()


def test_a_table_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text(
        "First Name,Last Name,MRN,DOB,ward\nAdaeze,Okonkwo,00412345,4/3/1931,Elm\n", "utf-8"
    )
    roster = Roster.read(path)
    text = "Okonkwo, Adaeze (412345), 1931-03-04, Elm ward"
    assert found(roster, text) == ["Okonkwo, Adaeze", "412345", "1931-03-04"]
    assert kind_of_column("Patient Name") == "name"
    assert kind_of_column("note_text") is None


def test_short_entries_are_counted_and_not_looked_for() -> None:
    roster = Roster()
    for entry in ("12", "2019", "00012", "J.", ""):
        roster.add(entry)
    assert roster.too_short == 4 and not roster
    assert found(roster, "in 2019, 12 of 00012 J.") == []


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", b"\n12\n", "has no entry"),
        ("a.csv", b"ward,bed\nSecretward,2\n", "no column with a known name"),
        ("a.txt", b"\xff\xfe\x00Secretname", "not UTF-8"),
        ("missing.txt", None, "No such file"),
    ],
)
def test_a_roster_that_cannot_be_used_is_refused_without_showing_it(
    name: str, content: bytes | None, reason: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=reason) as refused:
        Roster.read(tmp_path / name)
    assert "Secret" not in str(refused.value) and "\n" not in str(refused.value)


def test_a_text_is_searched_in_linear_time() -> None:
    rng, roster = random.Random(5), Roster()
    last, first = census("all.last"), census("female.first")
    for _ in range(3000):
        roster.add(f"{rng.choice(last)}, {rng.choice(first)}")
        roster.add(str(rng.randrange(10**6, 10**7)))
    text = "Mary " * 40_000 + "1234567 " * 20_000 + "1 " * 20_000 + "A1" * 20_000
    with linear_time():
        roster.find(text)


def test_a_roster_can_be_sent_to_workers_and_never_shows_its_entries(roster: Roster) -> None:
    assert found(pickle.loads(pickle.dumps(roster)), "okonkwo") == ["okonkwo"]
    assert "okonkwo" not in repr(roster).lower() and "1931" not in repr(roster)


@pytest.mark.parametrize(
    "piece", ["4471920 ", "44-71-920 ", "44 71 920 3/4/1931 ", "1 ", "4471920"]
)
def test_many_numbers_are_searched_in_linear_time(roster: Roster, piece: str) -> None:
    roster.numbers |= {str(n) for n in range(4_471_000, 4_472_000)}
    roster.dates.add(datetime.date(1931, 3, 4))
    if piece != "4471920":
        assert len(piece) < 3 or roster.find(piece)
    assert_linear(roster.find, "", piece)
