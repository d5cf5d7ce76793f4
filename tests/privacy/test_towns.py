"""Towns are read from the package phonenumbers, once, and only to search a note."""

from pathlib import Path

import pytest

from clingpt.base.errors import ConfigError
from clingpt.privacy import note_structure
from clingpt.privacy.identifiers import find_identifiers
from clingpt.privacy.note_structure import towns

ABSTRACT = "In 2019 we randomised 220 patients in Walla Walla. Mortality fell (P = 0.01)."
NOTE = "PROGRESS NOTE. MRN: 00123456. Pt lives in Walla Walla, d/c home. A/P: HTN, DM2."


@pytest.fixture
def geodata(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A data file that stands for those of the package."""
    index = tmp_path / "__init__.py"
    index.touch()
    monkeypatch.setattr(note_structure, "packaged_file", lambda distribution, name: index)
    return tmp_path / "data0.py"


def test_towns_of_many_countries_are_known() -> None:
    known = towns()
    assert len(known) > 15_000
    assert {"boston", "walla walla", "aboyne", "tobermory", "almería", "cox's bazar"} <= known
    assert {"nairobi", "chiang rai", "frankfurt am main", "niagara-on-the-lake"} <= known


def test_states_and_common_words_are_not_towns() -> None:
    no_towns = {"texas", "new york", "nova scotia", "england", "reading", "mobile", "bath", "hope"}
    assert not towns() & no_towns


def test_place_names_are_read_in_each_way_that_they_are_written(geodata: Path) -> None:
    geodata.write_text(
        "data = {\n"
        " '1307':{'en': 'Wyoming'},\n"
        " '1302':{'en': 'Quimble/Tharp County'},\n"
        " '1307200':{'en': 'Zell, WY'},\n"
        " '1307201':{'en': 'Wyoming, IL'},\n"
        " '4912':{'de': u('K\\xf6lnburg'), 'en': u('Aldenk\\u00f6ln')},\n"
        " '49123456':{'en': 'Hinterquim'},\n"
        " '4413397':{'en': 'Quimby (Dorp)/Isle of Q - Tharpness'},\n"
        " '4413398':{'en': \"Quim's End\"},\n"
        " '4413399':{'en': 'Quim\\'s Top'},\n"
        " '3591':{'en': 'Gradinquim'},\n"
        "}\n"
    )
    found = {"zell", "aldenköln", "quimby", "isle of q", "quim's end", "quim's top"}
    assert towns.__wrapped__() == found  # "Tharpness" ends like a medical word


@pytest.mark.parametrize("content", [None, "", "DATA = [('1201200', 'en', 'Jersey City')]\n"])
def test_missing_place_names_are_refused_with_advice(geodata: Path, content: str | None) -> None:
    if content is not None:
        geodata.write_text(content)
    with pytest.raises(ConfigError, match="phonenumbers are missing .*requirements.txt"):
        towns.__wrapped__()


def test_a_missing_package_is_refused_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(note_structure, "packaged_file", lambda distribution, name: None)
    with pytest.raises(ConfigError, match="phonenumbers are missing .*requirements.txt"):
        towns.__wrapped__()


def test_place_names_are_read_only_to_search_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def read() -> frozenset[str]:
        raise AssertionError("the place names were read")

    monkeypatch.setattr(note_structure, "towns", read)
    find_identifiers(ABSTRACT)
    with pytest.raises(AssertionError, match="were read"):
        find_identifiers(NOTE)


def test_place_names_are_read_once() -> None:
    assert towns() is towns()
