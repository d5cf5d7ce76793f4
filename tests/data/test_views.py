"""Views of training records: what they leave out, what they keep, and that they never change."""

from dataclasses import replace

import pytest

from clingpt.data.pipeline import undropped_sections, views
from clingpt.data.prepared import VIEWS, official_test_ids, origin
from clingpt.text.records import LABELS, Record
from clingpt.text.tasks import NotApplicable, make_example
from clingpt.text.tokenizer import Tokenizer

SECTIONS = (
    ("BACKGROUND", "Pain is common."),
    ("METHODS", "We asked 40 people."),
    ("MAIN RESULTS", "Pain fell by 3."),
    ("FINDINGS", "Nobody died."),
)
RECORD = Record(
    id="17",
    question="Does it help?",
    sections=SECTIONS,
    long_answer="It helps.",
    decision="yes",
    keywords=("pain",),
)


def test_each_kind_of_view_keeps_its_sections() -> None:
    found = views(RECORD, ("results", "question"), dropout=0, key="k")
    assert [each.id for each in found] == ["17", "17#results", "17#question"]
    whole, results, question = found
    assert whole == RECORD
    assert results == replace(RECORD, id="17#results", sections=SECTIONS[2:])
    assert question == replace(RECORD, id="17#question", sections=(), long_answer=None)
    assert views(RECORD, (), dropout=0, key="k") == [RECORD]


@pytest.mark.parametrize(
    ("changes", "ids"),
    [
        ({"sections": SECTIONS[2:]}, ["17", "17#question"]),  # there are only results
        ({"sections": SECTIONS[:2]}, ["17", "17#question"]),  # there are none
        ({"decision": None}, ["17", "17#results"]),  # the question has no answer
        ({"question": ""}, ["17", "17#results"]),
        ({"sections": ()}, ["17"]),  # already a bare question
    ],
)
def test_duplicate_views_and_views_without_an_answer_are_omitted(
    changes: dict[str, object], ids: list[str]
) -> None:
    record = replace(RECORD, **changes)  # type: ignore[arg-type]
    found = views(record, ("results", "question"), dropout=0, key="k")
    assert [each.id for each in found] == ids


def test_dropout_omits_its_share_of_sections_and_never_all() -> None:
    keys = [str(number) for number in range(2000)]
    kept = [undropped_sections(RECORD, dropout=0.3, key=key) for key in keys]
    assert all(sections for sections in kept)
    assert {len(sections) for sections in kept} == {1, 2, 3, 4}
    left_out = sum(4 - len(sections) for sections in kept) / (4 * len(keys))
    assert abs(left_out - 0.3) < 0.02  # 0.2979 by arithmetic: all four would go in 0.8 %
    for place in range(4):  # every section is as likely to go
        share = sum(SECTIONS[place] not in sections for sections in kept) / len(keys)
        assert abs(share - 0.3) < 0.04
    nearly_all = [undropped_sections(RECORD, dropout=0.999, key=key) for key in keys]
    assert all(len(sections) >= 1 for sections in nearly_all)
    assert len(set(nearly_all)) > 3  # and which one stays varies


def test_dropout_adds_a_view_only_if_it_omits_something() -> None:
    for number in range(50):
        record, key = replace(RECORD, id=str(number)), str(number)
        kept = undropped_sections(record, dropout=0.3, key=key)
        found = views(record, (), dropout=0.3, key=key)
        view = replace(record, id=f"{number}#dropout", sections=kept)
        assert found == ([record] if kept == SECTIONS else [record, view])
        both = views(record, ("results",), dropout=0.3, key=key)
        assert len({each.sections for each in both}) == len(both)


def test_views_depend_only_on_the_key_and_the_id() -> None:
    def all_views(key: str) -> list[list[Record]]:
        records = [replace(RECORD, id=str(number)) for number in range(40)]
        return [views(record, VIEWS, dropout=0.5, key=key) for record in records]

    assert all_views("7") == all_views("7") != all_views("8")
    # Fixed values, so that a change between versions is noticed.
    drawn = [undropped_sections(RECORD, dropout=0.5, key=f"1337\n{name}") for name in "12"]
    assert drawn == [(SECTIONS[1], SECTIONS[3]), (SECTIONS[1],)]


def test_a_view_id_maps_to_its_record_and_is_not_an_official_id() -> None:
    pmid = min(official_test_ids())
    record = replace(RECORD, id=pmid)
    found = views(record, VIEWS, dropout=0.9, key="k")
    assert len(found) == 4 and {origin(each.id) for each in found} == {pmid}
    assert {each.id for each in found} & official_test_ids() == {pmid}
    assert origin("note #3") == "note #3"


def test_the_question_view_has_only_a_label_as_its_answer() -> None:
    tokenizer = Tokenizer.load()
    *_, view = views(RECORD, ("question",), dropout=0, key="k")
    example = make_example("answer", view, tokenizer, budget=128)
    assert tokenizer.decode(example.target_ids[:-1]).strip() in LABELS
    for task in ("summarize", "document"):
        with pytest.raises(NotApplicable):
            make_example(task, view, tokenizer, budget=128)
