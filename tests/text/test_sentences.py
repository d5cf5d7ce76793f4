"""Sentence splitting: the rule, its exceptions, and that no text is lost."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clingpt.text.sentences import split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        (" \n ", []),
        ("No end", ["No end"]),
        ("It hurts. It stops.", ["It hurts.", "It stops."]),
        ("Does it? Yes! Good.", ["Does it?", "Yes!", "Good."]),
        ("We saw 12 cases. 9 improved.", ["We saw 12 cases.", "9 improved."]),
        ("It fell to 0.5 mg. then rose.", ["It fell to 0.5 mg. then rose."]),
        ("P was 0.05. The rest 3.2.", ["P was 0.05.", "The rest 3.2."]),
        ('He said "stop." (They did.) Done.', ['He said "stop."', "(They did.)", "Done."]),
        ("Seen by Dr. Moss, e.g. Monday.", ["Seen by Dr. Moss, e.g. Monday."]),
        ("A vs. B (i.e. C), cf. Fig. 2.", ["A vs. B (i.e. C), cf. Fig. 2."]),
        ("Moss et al. 2001 took approx. 3 h.", ["Moss et al. 2001 took approx. 3 h."]),
        ("In general. Then more.", ["In general.", "Then more."]),
        ("Ward no. 5 said no. The end.", ["Ward no. 5 said no.", "The end."]),
        ("1. Rest. 2. Drink.", ["1. Rest.", "2. Drink."]),
        ("Hepatitis C. Patients left.", ["Hepatitis C.", "Patients left."]),
        ("Élan. Über alles.", ["Élan.", "Über alles."]),
        ("One.\n\nTwo.  Three.", ["One.", "Two.", "Three."]),
        ("Inner  blanks stay. So.", ["Inner  blanks stay.", "So."]),
    ],
)
def test_sentences_end_where_the_rule_says(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


words = st.sampled_from(
    ["A", "fall.", "No.", "5", "vs.", "et", "al.", "(Why?)", '"Yes."', "µg.", "0.5", "…"]
)


@settings(deadline=None)  # a busy machine must not fail the test
@given(st.lists(words | st.text(min_size=1, max_size=6), max_size=30))
def test_joining_sentences_restores_the_text(parts: list[str]) -> None:
    text = " ".join(" ".join(parts).split())
    assert " ".join(split_sentences(text)) == text


def test_a_long_text_without_an_end_takes_linear_time() -> None:
    started_at = time.process_time()
    assert len(split_sentences("Word " * 100_000)) == 1  # quadratic time would be minutes
    assert time.process_time() - started_at < 10
