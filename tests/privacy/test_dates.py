"""Dates are found and shifted in every spelling; look-alikes are not found."""

import re

import pytest

from clingpt.privacy.dates import MONTH_WORDS, find_dates, is_day_first, shifted

WORD = re.compile(r"[^\W\d_]+")


def found(text: str) -> list[tuple[str, str]]:
    months = [word.start() for word in WORD.finditer(text) if word[0].lower() in MONTH_WORDS]
    return [(kind, text[start:end]) for kind, start, end in find_dates(text, months)]


@pytest.mark.parametrize(
    "text",
    [
        *("3/4/1931", "03/04/31", "31/12/2020", "12.05.2019", "12-05-14", "2019-05-03", "2019/5/3"),
        *("20190503", "2019-05-03T14:30:05Z", "2019-05-03 14:30", "1/1/00 at 3:45 pm"),
        *(
            "May 3",
            "MAY 3, 2019",
            "may 3, 2019",
            "Jan. 5, 2004",
            "sept 5th 2001",
            "Mar-05",
            "April 3",
        ),
        *("05-MAY-19", "5May2019", "3 May 19", "3rd of May 2019", "4th day of July, 1976"),
        *("3-5 May 2019", "28th-30th of June", "May 30-31, 2019", "2005 May 3", "2019-May-03"),
        *("2/30/2019", "12 December"),
    ],
)
def test_a_day_is_a_date(text: str) -> None:
    assert found(f"on {text}, he left") == [("date", text)]
    assert shifted(text, 7) not in (text, None)


@pytest.mark.parametrize(
    "text",
    ["January 2005", "Jan 2005", "05/2019", "June of 2009", "May '05", "may 2005"],
)
def test_a_month_with_a_year_is_a_separate_kind(text: str) -> None:
    assert found(f"since {text} he slept") == [("month_year", text)]
    assert shifted(text, 40) not in (text, None)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "may 10 patients",
            "5 mg May 20 mg",
            "on MAY 10 MG",
            "in May",
            "SEPT9 gene",
            "march 5 km",
        ),
        *(
            "strength 5/5",
            "120/80",
            "version 1.2.3",
            "2004-2005",
            "1.2.03",
            "10-50-20",
            "13/13/2019",
        ),
        *("13/13/2019", "0/4/1999", "99999999", "12345678", "3/4", "95% 1.12.10", "4/2500"),
    ],
)
def test_look_alikes_are_not_dates(text: str) -> None:
    assert found(text) == []


def test_a_date_without_year_needs_a_keyword_or_a_range() -> None:
    assert found("seen on 3/8.") == [("date", "3/8")]
    assert ("date", "3/4") in found("3/4-3/8/2019")


def test_one_unambiguous_day_first_date_makes_all_dates_day_first() -> None:
    assert is_day_first(["3/4/2019", "31/4/2019"])
    assert not is_day_first(["3/4/2019", "4/31/2019", "May 31"])
    assert shifted("03/04/2019", 1) == "03/05/2019"
    assert shifted("03/04/2019", 1, day_first=True) == "04/04/2019"
