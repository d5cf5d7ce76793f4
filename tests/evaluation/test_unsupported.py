"""Flags: planted errors are found, and supported text is not flagged in any spelling."""

import random
import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clingpt.data.synthetic import iter_records
from clingpt.evaluation.unsupported import find_flags
from clingpt.text.records import Record
from clingpt.text.sentences import split_sentences
from tests.helpers.patience import PATIENCE

# As in abstracts: odd spaces, codes, exponents, ranges, and several spellings of most things.
TEXT = """Does bed rest not help patients with COVID-19 and IL-6 > 7 pg/ml?
BACKGROUND: Whether H1N1 worsens CD4 counts is unknown. No trial has enrolled more than 50 women.
PATIENTS AND METHODS: Sixty-three patients (aged 18-65 years, BMI 24.5 kg/m(2)
(22.5-27.2\u00a0kg/m2)) had 12·5\u2009mg/kg of 5-FU or no more than 2 L of fluid per day; 1,234 of
45\u2009079 did not. T2, n = 40.
RESULTS: HbA(1c) fell by −0.8% (95% CI -1.2 to .3; P\u2009<\u20090.05), PaO(2)/FIO(2) did not
(p=0.6). Platelets were <150 x 10(9)/l in 4/42 (10%)  vs. 3 (7%), creatinine ≥ 2 mg/dl in one
hundred and five. MIC\u2009>\u20092 µg/mL was seen in 1:2, without deaths; they couldn't walk 6 min
at 37.5 °C or 60 bpm. Dr. Ek (no. 5) denies it. Pain did fall by 5 mm. In men, pain did not fall by
5 mm, i.e. it rose. 2. Rest was nonsignificant: 3.2 ± 1.1 [<or= 40 mm Hg], at least 3 or 4 days, up
to 90 d. Neither group lacked of it"""


@settings(deadline=None, max_examples=200)  # a deadline would depend on how busy the machine is
@given(st.data())
def test_spans_of_the_source_are_not_flagged(data: st.DataObject) -> None:
    edges = [0, *(match.end() for match in re.finditer(r"\s+", TEXT)), len(TEXT)]
    start, end = sorted(data.draw(st.lists(st.sampled_from(edges), min_size=2, max_size=2)))
    assert find_flags(TEXT[start:end], TEXT) == []
    assert find_flags(" ".join(TEXT[start:end].split()), TEXT) == []


def test_spans_of_words_and_marks_are_not_flagged() -> None:
    places = [match.span() for match in re.finditer(r"\d[\d.,·]*\d|\w+|[^\w\s]", TEXT)]
    rng = random.Random(1)
    for _ in range(400):
        first, last = sorted(rng.choices(places, k=2))
        assert find_flags(TEXT[first[0] : last[1]], TEXT) == []


def test_shuffled_sentences_of_the_source_are_not_flagged() -> None:
    rng = random.Random(2)
    for record in iter_records("train", count=40, seed=2):
        sentences = split_sentences(source_of(record))
        rng.shuffle(sentences)
        assert find_flags(" ".join(sentences), source_of(record)) == []


def test_only_numbers_are_flagged_without_a_source() -> None:
    assert find_flags(TEXT, TEXT) == []
    assert {flag.kind for flag in find_flags(TEXT, "")} == {"number"}
    assert find_flags("", TEXT) == find_flags("", "") == []


PLANTED = [  # kind, what is flagged, what the source says, what the output says
    ("number", "50", "He took 5 mg daily.", "He took 50 mg daily."),
    ("number", "0.5", "He took 5 mg daily.", "He took 0.5 mg daily."),
    ("number", "5", "He took 0.5 mg daily.", "5 mg daily."),
    ("number", ".5", "He took .05 mg daily.", "He took .5 mg daily."),
    ("number", "1,500", "He took 1,050 mg daily.", "He took 1,500 mg daily."),
    ("number", "0·781", "It was 0·718 in all.", "It was 0·781 in all."),
    ("number", "37.2", "It was 22.5-27.2 kg/m2.", "It was 22.5-37.2 kg/m2."),
    ("number", "3", "It was 1:2 in men.", "It was 1:3 in men."),
    ("number", "13", "Of them 3/10 died.", "Of them 3/13 died."),
    ("number", "45", "Pain fell by 54% then.", "Pain fell by 45% then."),
    ("number", "2014", "Seen in 2004 at last.", "Seen in 2014 at last."),
    ("number", "-0.8", "It fell by 0.8 units.", "It rose by -0.8 units."),
    ("number", "6", "IL-6 rose in all men.", "IL-6 rose by 6 in all men."),
    ("number", "4", "CD4 cells were low.", "CD4 cells were 4 times lower."),
    ("number", "2", "It was 30 kg/m(2) then.", "It was 2 kg/m(2) then."),
    ("number", "four", "She stayed three weeks.", "She stayed four weeks."),
    ("number", "Twelve", "Twenty patients died.", "Twelve patients died."),
    ("number", "thirty-five", "Then 25 women died.", "Then thirty-five women died."),
    ("number", "14", "After three to 12 days.", "After three to 14 days."),
    ("unit", "5 g", "He took 5 mg daily.", "He took 5 g of it."),
    ("unit", "5 mg", "He took 5 mg/kg in all.", "He took 5 mg in all."),
    ("unit", "5 mg/kg", "He took 5 mg in all.", "He took 5 mg/kg in all."),
    ("unit", "5 mg per week", "He took 5 mg per day.", "He took 5 mg per week."),
    ("unit", "5 mg weekly", "He took 5 mg daily.", "He took 5 mg weekly."),
    ("unit", "5mg", "He took 5µg at once.", "He took 5mg at once."),
    ("unit", "20 ml", "He got 20 μl of it.", "He got 20 ml of it."),
    ("unit", "40 U", "He got 40 IU of it.", "He got 40 U of it."),
    ("unit", "30%", "There were 30 patients.", "There were 30% patients."),
    ("unit", "three months", "After three weeks only.", "After three months only."),
    ("unit", "3-day", "After a 3-month wait.", "After a 3-day wait."),
    ("unit", "65 cm", "It was 65 mm in men.", "It was 65 cm in men."),
    ("unit", "7 mmol/l", "It was 7 mg/dl in men.", "It was 7 mmol/l in men."),
    ("unit", "10 g", "From 5 to 10 mg of it.", "From 5 to 10 g of it."),
    ("unit", "90 mm", "It was 90 mm Hg in men.", "It was 90 mm in men."),
    ("comparator", "> 0.05", "It fell (P < 0.05) then.", "It fell (P > 0.05) then."),
    ("comparator", "= 0.05", "It fell (P < 0.05) then.", "It fell (P = 0.05) then."),
    ("comparator", "< 0.05", "It fell (P = 0.05) then.", "It fell (P < 0.05) then."),
    ("comparator", "0.05", "It fell (P < 0.05) then.", "It fell (P 0.05) then."),
    ("comparator", "≥65", "In men ≤65 kg only.", "In men ≥65 kg only."),
    ("comparator", "<65", "In men <or=65 kg only.", "In men <65 kg only."),
    ("comparator", ">=65", "In men <=65 kg only.", "In men >=65 kg only."),
    ("comparator", "at most 3", "Give at least 3 doses.", "Give at most 3 doses."),
    ("comparator", "more than 3", "At most 3 doses are due.", "She took more than 3 of them."),
    ("comparator", "fewer than 3", "Give up to 3 doses now.", "Give fewer than 3 doses now."),
    ("comparator", "under 65", "Men over 65 kg only.", "Men under 65 kg only."),
    ("comparator", "over 65", "Men under 65 years only.", "Men over 65 years only."),
    ("comparator", "65", "Men of 65 or older came.", "Men of 65 or younger came."),
    ("comparator", "higher than 7", "It was 7 in all of them.", "It was higher than 7 in all."),
    ("negation", "did improve", "It did not improve at all.", "It did improve at all."),
    ("negation", "not", "It did improve quite a lot.", "It did not improve quite a lot."),
    ("negation", "Pain", "No pain was felt by him.", "Pain was felt by him."),
    ("negation", "No", "Some pain was felt by him.", "No pain was felt by him."),
    ("negation", "Reports chest", "Denies chest pain today.", "Reports chest pain today."),
    ("negation", "is able", "She is not able to walk.", "She is able to walk."),
    ("negation", "is able to", "She is unable to walk far.", "She is able to walk far."),
    ("negation", "cannot", "He can walk a mile alone.", "He cannot walk a mile alone."),
    ("negation", "didn't", "He did walk a mile alone.", "He didn't walk a mile alone."),
    ("negation", "was benefit", "There was no benefit seen.", "There was benefit seen."),
    ("negation", "was benefit", "There was lack of benefit.", "There was benefit."),
    (
        "negation",
        "drug improved pain",
        "The drug failed to improve pain.",
        "The drug improved pain.",
    ),
    ("negation", "was positive for", "He was negative for HIV.", "He was positive for HIV."),
    ("negation", "came with fever", "He came without any fever.", "He came with fever."),
    ("negation", "a significant", "It was a non-significant loss.", "It was a significant loss."),
    ("negation", "nonsmokers", "All of the smokers coughed.", "All of the nonsmokers coughed."),
    ("negation", "did.", "He said that it did not.", "He said that it did."),
]


@pytest.mark.parametrize(("kind", "text", "source", "output"), PLANTED)
def test_planted_errors_are_found(kind: str, text: str, source: str, output: str) -> None:
    before, after = "The ward was calm (P = 0.9). ", " All went home after 77 hours."
    flags = find_flags(before + output + after, before + source + after)
    assert [(flag.kind, flag.text) for flag in flags] == [(kind, text)]
    assert flags[0].text == (before + output + after)[flags[0].start : flags[0].end]


UNFLAGGED = [  # what the source says, what the output says
    ("He took 5 mg daily.", "Then 5 mg/day was given."),
    ("He took 5 mg/day.", "Then 5 mg was given."),
    ("He took 5 mg.", "A dose of 5 is given."),
    ("He took 5 µg, 7 μg, 9 mcg.", "Given 5 μg or 7 micrograms or 9 µg."),
    ("He got 5 ml and 2 L.", "Given 5 mL or 2 liters."),
    ("It fell by 5 percent.", "A fall of 5%."),
    ("It fell by 5 per cent.", "A fall of 5 percent."),
    ("It was 30 kg/m(2), 60 mmHg.", "Values were 30 kg/m2 or 60 mm Hg."),
    ("He had 60 bpm at 38 °C.", "Values: 60 beats per minute, 38°C."),
    ("After 3 yr, 5 h and 6 min.", "Took 3 years, 5 hours, 6 minutes."),
    ("A 3-month wait of 64-year-olds.", "After 3 months, aged 64 years."),
    ("From 5 to 10 mg, then 2, 3 and 4 g.", "Given 5 mg or 10 mg or 2 g."),
    ("Children aged 6 or older came.", "Those of 6 years or more."),
    ("Twenty-five women, one hundred and five men.", "Of 25 and 105 people."),
    ("We saw 12 men for 3 weeks.", "Twelve men, three weeks."),
    ("We saw some men.", "No one of two groups or one to six of four methods helped."),
    (
        "We saw 10.",
        "IL-6, CD4, T2, kg/m2, H1N1, O(2), kg/m(2), 5-HT, 6-MWT, 18F, 1990s, x 10(9) m(-2).",
    ),
    ("We saw 10 men.", "(1) Men came, (2) they left, and (3) 10 of them came back."),
    ("We saw men.", "1. Men came."),
    ("On day-7 he took 5-FU.", "By day 7, 5 in all."),
    ("There were 45 079 of them.", "A total of 45,079 in all."),
    ("It was 0.050, 1,000 and 0·7.", "Values .05, 1000 and 0.70."),
    ("It changed by -0.8.", "A fall of 0.8 in all."),
    ("P < 0.05 and P = 0.2.", "0.05 was the limit, P of 0.2."),
    ("In those <or=40, ≥65 and >/=70.", "For ≤ 40, at least 65 and >= 70."),
    ("Not more than 5, at most 6.", "For ≤5 and <= 6."),
    ("More than 5, greater than 6.", "For >5 and over 6."),
    ("Women 65 or older, men 40 or less.", "For ≥65 and ≤40."),
    ("There were 15 men for 5 years.", "A group (n = 15), followed over 5 years."),
    ("Less than 5 km at more than 6 km/h.", "About 5 km at 6 km/h."),
    ("Does the drug not relieve pain in women?", "The drug does relieve pain in women."),
    ("Does the drug relieve pain in women?", "The drug does not relieve pain in women."),
    ("To test whether the drug relieves pain.", "The drug never relieves pain."),
    ("Pain fell in women but not in men.", "Pain fell in women."),
    ("Pain fell in women, not men, by far.", "Pain fell in women by far."),
    ("The drug that was not taken by most men helped.", "The drug helped."),
    ("Pain was not felt by men.", "Pain was felt by newborn babies and nurses, too, in Oslo."),
    ("Fever (none before) rose in men.", "Fever rose in men."),
    ("He did not walk at all.", "He didn't walk at all."),
    ("He cannot walk a mile alone.", "He can not walk a mile alone."),
    ("A nonsignificant loss was seen.", "A non-significant loss was seen."),
    ("Pain was not felt by the men.", "Women in the other arm slept well."),
    ("It is not known why the sea is blue.", "Why the grass is green, the sky grey is known."),
]


@pytest.mark.parametrize(("source", "output"), UNFLAGGED)
def test_other_spellings_and_abridgements_are_not_flagged(source: str, output: str) -> None:
    assert find_flags(output, source) == []


def test_negation_is_compared_with_the_nearest_sentence() -> None:
    source = "Pain did not fall in men with gout. Pain did fall in women with gout."
    assert find_flags("Pain did fall in women with gout, too.", source) == []
    flags = find_flags("Pain did fall in men with gout, too.", source)
    assert [(flag.kind, flag.text) for flag in flags] == [("negation", "did fall")]


def test_nearest_sentence_has_the_words_in_order() -> None:
    source = "Men did fall in pain. Pain did not fall in men."
    assert [flag.text for flag in find_flags("Pain did fall in men.", source)] == ["did fall"]


def test_nearest_sentence_shares_rare_words() -> None:
    source = "North of the men it did hurt in. " * 3 + "Gout did not hurt men in there."
    flags = find_flags("Gout did hurt men in the north.", source)
    assert [flag.text for flag in flags] == ["did hurt"]


def test_long_sentence_is_checked_at_every_place() -> None:
    words = [f"word{i}" for i in range(400)]
    for place in (1, 74, 75, 76, 149, 150, 151, 225, 300, 399):
        source = " ".join([*words[:place], "not", *words[place:]])
        flags = find_flags(" ".join(words), source)
        expected = " ".join(words[place - 1 : place + 1])
        assert [(flag.kind, flag.text) for flag in flags] == [("negation", expected)]


def test_repeated_error_is_flagged_at_each_place() -> None:
    flags = find_flags("He took 6 mg. He took 6 mg.", "He took 5 mg.")
    assert [flag.start for flag in flags] == [8, 22]


def test_comparator_without_its_no_is_flagged_twice() -> None:
    flags = find_flags("Give more than 3 doses now.", "Give no more than 3 doses now.")
    assert [(flag.kind, flag.text) for flag in flags] == [
        ("negation", "Give more"),
        ("comparator", "more than 3"),
    ]


def test_flags_are_ordered_and_unique() -> None:
    source = "He took 5 mg for 3 days and did not sleep."
    output = "He took 6 mg for 3 weeks and did sleep. He took <5 mg for 4 days and did not sleep."
    flags = find_flags(output, source)
    assert [(flag.kind, flag.text) for flag in flags] == [
        ("number", "6"),
        ("unit", "3 weeks"),
        ("negation", "did sleep"),
        ("comparator", "<5"),
        ("number", "4"),
    ]
    assert [flag.start for flag in flags] == sorted({flag.start for flag in flags})


def source_of(record: Record) -> str:
    lines = [f"{label}: {text}" for label, text in record.sections]
    return "\n".join([f"Question: {record.question}", *lines])


def plant(source: str, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Yield the kind and the false sentence of each error that can be planted in a sentence."""
    for sentence in split_sentences(source.partition("\n")[2]):
        for number in re.finditer(r"(?<![\d.,-])\d[\d.,]*\d", sentence):
            other = f"{rng.randrange(10_000, 99_999) / rng.choice((10, 100, 1000)):g}"
            if other not in source:
                yield "number", sentence[: number.start()] + other + sentence[number.end() :]
        for right, wrong in (
            ("%", " mg"),
            ("weeks", "hours"),
            ("months", "days"),
            ("year", "week"),
        ):
            if right in sentence:
                yield "unit", sentence.replace(right, wrong, 1)
        for right, wrong in (("p < ", "p > "), ("p < ", "p = "), ("p < ", "p "), ("p = ", "p < ")):
            if right in sentence and (value := sentence.partition(right)[2].split(")")[0]):
                if f"{wrong}{value}" not in source:
                    yield "comparator", sentence.replace(right, wrong, 1)
        for negator in re.finditer(r"\b(?:not|no) ", sentence):
            yield "negation", sentence[: negator.start()] + sentence[negator.end() :]
        words = re.sub("^[A-Z ]+: ", "", sentence).split()
        place = rng.randrange(1, len(words))
        yield "negation", " ".join([*words[:place], "not", *words[place:]])


def test_errors_planted_in_synthetic_records_are_all_found() -> None:
    rng = random.Random(3)
    tried = dict.fromkeys(("number", "unit", "comparator", "negation"), 0)
    for record in iter_records("test", count=60, seed=3):
        source = source_of(record)
        for kind, false in plant(source, rng):
            tried[kind] += 1
            output = f"{record.long_answer} {false}" if rng.random() < 0.5 else false
            kinds = {flag.kind for flag in find_flags(output, source)}
            assert kind in kinds, (source, output)
    assert min(tried.values()) >= 100


def test_long_source_is_searched_quickly() -> None:
    records = iter_records("train", count=500, seed=4)
    source = "\n".join(map(source_of, records))[:100_000]
    assert len(source) == 100_000
    started_at = time.perf_counter()
    flags = find_flags("Attendance fell to 12.3456%. It was not what we gave.", source)
    assert time.perf_counter() - started_at < 3 * PATIENCE  # 0.2 s on an idle machine
    assert [flag.text for flag in flags] == ["12.3456"]


PIECES: tuple[str, ...] = (
    "1",
    "1,111",
    "1,",
    "5 ",
    "5-",
    "1.2.",
    "5 mg/",
    "one hundred and ",
    "no more than ",
)
PIECES += ("<or= ", " ", "not ", "n't ", "a b c d e f g ", "word not other not ")


@pytest.mark.parametrize("piece", PIECES)
def test_repetitive_text_does_not_take_excessive_time(piece: str) -> None:
    text = piece * (20_000 // len(piece))
    started_at = time.perf_counter()
    find_flags(f"{text} 7 x", text)
    assert time.perf_counter() - started_at < 10 * PATIENCE  # 0.1 to 1 s on an idle machine
