"""The tagger finds what no rule knows, only in notes, and adds to the rules."""

from pathlib import Path

import pytest

from clingpt.privacy import detectors, train_tagger
from clingpt.privacy.annotated import MARKS, NEUTRAL, read_marked, read_notes
from clingpt.privacy.detectors import RulesAndTagger, merged, with_tagged
from clingpt.privacy.identifiers import KINDS, Found, find_identifiers, search
from clingpt.privacy.redaction import Redactor
from clingpt.privacy.tagger import KIND_OF, MODEL, Tagger, features, tokenize
from tests.helpers.phi_corpus import HELD_OUT, assert_linear, linear_time, make_notes

HANDOVER = (
    "0730 recd report from shanice. pt a&ox3, c/o pain 6/10 r hip, norco 5/325 x2 given. "
    "dtr marisol at bs, upset re: diet tray. charge tomasz aware. foley dc'd 0600, dtv by 1400."
)
ABSTRACT = (
    "We studied 120 patients with Crohn's disease. Methods: a randomized trial of two doses. "
    "Results were significantly better in the treated group (P = 0.03)."
)


def test_text_is_split_into_words_numbers_and_signs() -> None:
    text = "p2281, K.Ö-12\0é"
    assert [text[start:end] for start, end in tokenize(text)] == (
        ["p", "2281", ",", "K", ".", "Ö", "-", "12", "é"]
    )


def test_features_show_neighbours_labels_lists_and_the_rules() -> None:
    text = "MRN: 4471\nreport from Siobhan"
    rows = features(text, tokenize(text), [Found("name", 0, 3)], [Found("record_number", 5, 9)])
    assert {"Lmrn", "qrecord_number", "k", "-2mrn", "d4", "c-mrn:|99"} <= set(rows[2])
    assert {"kname", "q"} <= set(rows[0])
    assert {"list first_names", "title", "-1from"} <= set(rows[-1])
    assert not any(feature.startswith("L") for feature in rows[-1])  # the label's line has ended


def test_names_that_nothing_introduces_are_found_in_a_note() -> None:
    rules = {HANDOVER[one.start : one.end] for one in find_identifiers(HANDOVER)}
    both = {HANDOVER[one.start : one.end] for one in RulesAndTagger()(HANDOVER)}
    assert search(HANDOVER).is_note
    assert rules <= both
    assert {"shanice", "marisol"} <= both
    assert not {"norco", "foley", "6/10"} & both


def test_the_shipped_model_is_used_and_only_for_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    load = Tagger.load()

    def loaded() -> Tagger:
        used.append(MODEL.name)
        return load

    monkeypatch.setattr(Tagger, "load", loaded)
    detectors._found.cache_clear()
    assert not search(ABSTRACT).is_note
    assert RulesAndTagger()(ABSTRACT) == find_identifiers(ABSTRACT)
    assert used == []
    RulesAndTagger()(HANDOVER)
    assert used == ["tagger.crfsuite"]


def test_the_tagger_never_removes_a_finding_of_the_rules() -> None:
    for note in make_notes(HELD_OUT, each=1, seed=8):
        both = RulesAndTagger()(note.text)
        covered = {place for one in both for place in range(one.start, one.end)}
        for one in find_identifiers(note.text):
            assert covered.issuperset(range(one.start, one.end))
        edges = [edge for one in both for edge in (one.start, one.end)]
        assert edges == sorted(edges)
        assert {one.kind for one in both} <= set(KINDS)


def test_tags_leave_nothing_that_the_tagger_finds() -> None:
    detect = RulesAndTagger()
    for note in [HANDOVER, *(note.text for note in make_notes(HELD_OUT, each=1, seed=9)[:12])]:
        redacted = Redactor("tags", detect=detect).text(note)
        assert detect(redacted) == []
        assert "[NAME" in redacted


def test_the_labels_of_the_training_notes_are_kinds_of_identifiers() -> None:
    assert set(KIND_OF) == set(MARKS) - {NEUTRAL}
    assert set(KIND_OF.values()) <= set(KINDS)
    note = read_marked("Dr. [[name|Amara Osei]], [[org|Elm]] [[date|6/23]]")
    labels = train_tagger.labels_of(note, tokenize(note.text))
    assert labels == ["O", "O", "name", "name", "O", "O", "date", "date", "date"]


def test_a_variant_of_a_note_has_other_names_of_the_same_case_and_shape() -> None:
    import random

    note = read_marked("Dr. [[name|OSEI, amara]] on [[date|6/23]], [[id|QB-61234]] 5/5")
    seen = set()
    for seed in range(20):
        text = train_tagger.with_other_marks(note, random.Random(seed)).text
        seen.add(text)
        assert text.startswith("Dr. ") and text.endswith(" 5/5")
        name = text[4 : text.index(" on ")]
        assert name.split(", ")[0].isupper() and name.split(", ")[1].islower()
    assert len(seen) > 10


NOTE = "PROGRESS NOTE. Pt: Ann Lee, DOB 3/4/1931, BP 120/80. A/P: HTN. "


def test_a_long_text_takes_linear_time() -> None:
    tagger = Tagger.load()
    text = "report from keisha 3/4 1-1-1- : " * 1500
    with linear_time():
        tagger.read(text, [], []).find()


def test_the_shipped_model_is_small() -> None:
    assert MODEL.stat().st_size < 1_000_000


@pytest.mark.slow
def test_the_shipped_model_is_what_the_script_makes(tmp_path: Path) -> None:
    notes = [note for each in train_tagger.read_writers().values() for note in each]
    train_tagger.train(notes, tmp_path / "model")
    made, shipped = Tagger(tmp_path / "model"), Tagger(MODEL)
    # Likelihoods, not bytes: the last bits of a sum depend on the processor.
    for note in read_notes(Path(__file__).with_name("unseen_notes.txt"))[:20]:
        found = search(note.text)
        ours, theirs = (each.read(found.text, found.sure, found.likely) for each in (made, shipped))
        pairs = zip(ours.likelihoods, theirs.likelihoods, strict=True)
        assert all(abs(one - other) < 0.01 for one, other in pairs)


@pytest.mark.parametrize(
    "piece",
    [
        "Dr. Ann Lee 3/4/2019 MRN 00123456, ",
        "report from keisha 3/4, ",
        "Lee 4471920 ",
        "a@b.org 55-12 ",
    ],
)
def test_many_findings_are_joined_in_linear_time(piece: str) -> None:
    tagger = Tagger.load()

    def find(text: str) -> list[Found]:
        rules = search(text)
        assert rules.is_note
        return with_tagged(rules, tagger)

    assert len(find(NOTE + 100 * piece)) >= 80
    assert_linear(find, NOTE, piece)


def test_very_many_findings_are_merged_in_linear_time() -> None:
    def merge(text: str) -> list[Found]:
        starts = range(0, 5 * len(text), 8)
        rules = [Found("name", start, start + 2) for start in starts]
        return merged(5 * text, rules, [Found("date", start + 4, start + 6) for start in starts])

    assert len(merge("ab 12 cd")) == 10
    assert_linear(merge, "", "ab 12 cd")
