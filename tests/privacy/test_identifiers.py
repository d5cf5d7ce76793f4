"""Identifiers are found where they are planted, look-alikes are not, and time stays linear."""

import re
from collections import Counter

import pytest

from clingpt.privacy.identifiers import KINDS, REPORTED_ONLY, find_identifiers, masked
from tests.helpers import phi_corpus
from tests.helpers.shared import PUBMEDQA, official_items, shared_file


def found(text: str) -> list[tuple[str, str]]:
    return [(one.kind, text[one.start : one.end]) for one in find_identifiers(text)]


# Expected findings are marked as <kind|identifier>.
FOUND = [
    "Pt: <name|DOE, JOHN Q>. DOB <date|3/4/1931>",
    "MRN# <record_number|00123456>",
    "seen by Dr. <name|O'Neill-Ramirez> today",
    "Dr. <name|Brown> agreed. <name|Brown> was late. Brown rice.",
    "dr. <name|smith> saw mr <name|jones>",
    "her son <name|Bob>, wife (<name|Oluwaseun>)",
    "<name|Mary K. Jones> called",
    "<name|Adaeze Okonkwo>, MD",
    "Drs. <name|Patel> and <name|Gupta>",
    "Mr. <name|Smith>'s leg; <name|Smith> slept",
    "on <date|05-MAY-19> and <date|3rd of May 2019>",
    "<date|2019-05-03T14:30>, <date|May 3>",
    "<date|31/12/2019>, <date|03.05.2019>, <date|20190503>",
    "seen on <date|3/8>, strength 5/5",
    "from <month_year|January 2005>",
    "call <phone|617-555-0134> or <phone|(617) 555-0199 x12>",
    "fax: <phone|6175550100>; <phone|+44 20 7946 0958>",
    "home phone <phone|555-0123>, pager <phone|4456>",
    "<email|j.doe@mail.example.org>",
    "see <url|https://example.org/p?id=3>.",
    "from <ip|192.168.1.20> and <ip|2001:db8::ff00:42:8329>",
    "lives at <address|12 Oak Street, Apt 4B, Springfield, IL 62704> since",
    "<address|221B Baker Street, London NW1 6XE>",
    "<address|P.O. Box 1234, Boston, MA 02115>",
    "at <address|12 old mill road>, ames",
    "SSN <ssn|123-45-6789>, ssn ending in <ssn|1234>",
    "a <age|92>-year-old, aged <age|95>, <age|94>F with CHF",
    "<age|ninety-two> years old",
    "accession <record_number|S19-04821>, policy no. <record_number|XJ-882211>",
    "NHS number <record_number|943 476 5919>",
    "plate <vehicle|ABC-1234>, VIN <vehicle|1HGCM82633A004352>",
    "driver's license <licence|D123-4567-8901>",
    "pacemaker, serial number <device|PJN123456S>",
    "MAC <device|00:1A:2B:3C:4D:5E>",
    # Found by the words after them.
    "Today <name|Oluwaseun Adeyemi> (neighbour) came; <name|Adaeze Okonkwo>, son.",
    "<name|Oluwaseun>'s mother rang",
    "<name|Adaeze Okonkwo>, 54 y/o; <name|Okonkwo, Adaeze> (54M)",
    "<name|Adaeze Okonkwo>, MS, CGC and <name|Bjørn Kjærgaard>, Consultant Paediatrician",
    "ED VISIT. <name|Robert> is a 3 y.o. girl. <name|Adaeze> denies pain.",
    "| <name|ANN LEE> | <record_number|5642486> | and <name|Adaeze Okonkwo> (<date|8/7/2005>)",
    "PROGRESS NOTE. <name|King, Angela>. Visit 7",
    "HMP. <name|OKONKWO>, prison number <record_number|125-62-20>",
    "<name|Schmidt, Anna>, <age|93>, retired",
    # Found by the words before them.
    "Physician(s): <name|Adaeze Okonkwo>. His dentist, <name|Ann Lee>, agreed.",
    "Pt name <name|Adaeze Okonkwo>, med rec",
    "Surname <name|BELL> Forename <name|Peter> NHS No <record_number|943 476 5919>",
    "d/w <name|Okonkwo>, no change; f/u <name|Adaeze Okonkwo> 2 wks",
    "Called to <name|Brown>, read back. Paged <name|McDonald> at <phone|58124>",
    "I met with <name|Oluwaseun Adeyemi> today. GI (<name|Chen>) wants EGD",
    "pt is <name|adaeze okonkwo>, 19 m; mr <name|brown> 58m; Client <name|Okonkwo>, 54 yrs",
    "discharge instructions for <name|Adaeze Okonkwo>. Married to <name|Wei>. Thanks a lot, "
    "<name|Wei>",
    "seen by <name|Ann Lee>, <name|Adaeze Okonkwo> and <name|Bjørn Kjærgaard>",
    # Found by their shape.
    "chart <record_number|123-45-67>, <record_number|S19-04821>, <record_number|00123456>",
    "pump <device|PJN047762S>, ID <record_number|7449769>, back at <phone|x58763>",
    "turned <age|ninety-four>; a woman from <address|Ames>; <age|98> Y F",
]

NOTHING = [
    "Crohn's disease, Bell's palsy, Parkinson disease, Hodgkin lymphoma and Down syndrome",
    "Cox regression, the Mann-Whitney test, Kaplan-Meier curves, Fisher's exact test",
    "evaluated by Kruskal-Wallis; treated by Billroth's operation; Student's t test",
    "Young Brown long hill, will may mark grace",
    "MS patients with severe MR. Left atrium. 20 ms after. Miss a dose.",
    "When to see your doctor. Hearing loss",
    "Johns Hopkins University, St. John Hospital, Mary Washington Hospital",
    "Patient: White Female. Attending: Internal Medicine. Mother: Melanoma.",
    "Bethesda, MD and Baltimore, MD",
    "95% CI 1.2-3.4, P = 0.001, 120/80 mm Hg, 3+4, 10-12 weeks, 1.5 x 10",
    "over 90 years of age; aged 90 or older; 65-94 years old; 92%; ages 90-95",
    "patients may 10 mg; in May; SEPT9; 5 mg; MAY 10 MG",
    "2 weeks on the road, a 10 mile road, 1 in 5 live in Denmark",
    "NCT00123456, ID: NCT00123456, ISRCTN12345678, case: 2003, case 12 of 14",
    "EC 3.1.1.11, version 1.2.3.4",
    "medical records of 220 patients, accounts of 1234 visits",
    "In 2004-2005, 1998 to 2003",
    "Son lives abroad. Son is a 34-year-old. Client is a 54-year-old. Parkinson's brother",
    "Child-Pugh A. Old fracture. Weber B. Talar shift. Pell and Gregory IIB",
    "no Sister Mary Joseph nodule, Charles Bonnet hallucinations",
    "Setting: Boston, Massachusetts. Setting: Reno, Nevada. (Vicryl; Ethicon, Edinburgh, UK)",
    "results for Urethral Cancer, living with Colorectal Cancer today",
    "by Transcranial Doppler, from Buenos Aires, with Los Angeles grade C",
    "w/ Ativan, then; skin tag 90%; CD45-1234; AF123456; PMC1234567; 500-100000 cells",
]


@pytest.mark.parametrize("marked", FOUND, ids=lambda marked: marked[:30])
def test_identifiers_are_found_whole_and_nothing_else(marked: str) -> None:
    text = re.sub(r"<\w+\|(.*?)>", r"\1", marked)
    assert found(text) == re.findall(r"<(\w+)\|(.*?)>", marked)


@pytest.mark.parametrize("text", NOTHING, ids=lambda text: text[:30])
def test_look_alikes_are_not_found(text: str) -> None:
    assert found(text) == []


def recall(templates: tuple[str, ...], seed: int) -> tuple[Counter[str], Counter[str], int, int]:
    """Count planted and found identifiers by kind, false alarms, and words that were not planted.

    A planted identifier counts as found if findings cover all its letters and digits.
    """
    planted, hit, false, words = Counter[str](), Counter[str](), 0, 0
    for note in phi_corpus.make_notes(templates, each=4, seed=seed):
        everything = find_identifiers(note.text)
        covered = {place for one in everything for place in range(one.start, one.end)}
        planted_at = {place for _, start, end in note.planted for place in range(start, end)}
        false += sum(not planted_at & set(range(one.start, one.end)) for one in everything)
        words += sum(match.start() not in planted_at for match in re.finditer(r"\w+", note.text))
        for kind, start, end in note.planted:
            planted[kind] += 1
            letters = {place for place in range(start, end) if note.text[place].isalnum()}
            hit[kind] += letters <= covered
    return planted, hit, false, words


def test_recall_on_the_development_notes() -> None:
    planted, hit, false, words = recall(phi_corpus.DEVELOPED, seed=1)
    assert planted.total() >= 4000
    assert len(planted) >= 10
    assert hit.total() / planted.total() >= 0.98, {
        kind: (hit[kind], planted[kind]) for kind in planted
    }
    for kind, n in planted.items():  # a town without its state is often missed
        assert hit[kind] / n >= (0.85 if kind == "address" else 0.95), kind
    assert false / words <= 0.001, f"{false} among {words} words"


def test_recall_on_notes_that_no_rule_was_written_for() -> None:
    planted, hit, false, words = recall(phi_corpus.HELD_OUT, seed=606)
    assert planted.total() >= 900
    assert hit.total() / planted.total() >= 0.97
    assert hit["name"] / planted["name"] >= 0.93
    assert false / words <= 0.002, f"{false} among {words} words"


def test_published_abstracts_raise_few_alarms() -> None:
    alarms, records = Counter[str](), official_items(shared_file(PUBMEDQA)).values()
    for record in records:
        text = " ".join([record["QUESTION"], *record["CONTEXTS"], record["LONG_ANSWER"]])
        alarms.update(one.kind for one in find_identifiers(text))
    # Study periods ("from July 1, 2007") are real dates, so finding them is not a mistake.
    assert alarms["date"] <= 50
    others = {kind: n for kind, n in alarms.items() if kind not in ("date", "month_year")}
    assert sum(others.values()) <= 10, others


def test_findings_are_sorted_disjoint_and_of_known_kinds() -> None:
    for note in phi_corpus.make_notes(phi_corpus.DEVELOPED, each=1, seed=3):
        everything = find_identifiers(note.text)
        assert all(one.kind in KINDS and one.start < one.end for one in everything)
        edges = [edge for one in everything for edge in (one.start, one.end)]
        assert edges == sorted(edges)
    assert set(KINDS) > REPORTED_ONLY


def test_masks_hide_the_identifier() -> None:
    for note in phi_corpus.make_notes(phi_corpus.DEVELOPED + phi_corpus.HELD_OUT, each=1, seed=4):
        for one in find_identifiers(note.text):
            whole, hidden = note.text[one.start : one.end], masked(note.text, one)
            assert not re.search(r"\d", hidden)
            # At most the first letter of a word is shown.
            assert not re.search(r"[^\W\d_X]{2}", hidden), hidden
            assert whole != hidden
    text = "John Smith, 3/4/1931, AB12"
    assert [masked(text, one) for one in find_identifiers(text)] == ["J… S…", "#/#/####"]


HOSTILE = [
    *("a.a.a.", "1-1-1-", "((((", "1 ", "Dr. ", "id ", "John ", "John Smith, ", "1/1/", "a@a."),
    *("http://", "::", "1:", "0", "A", "12 Oak ", "May 3 ", "3-3 ", "Patient: ", "MD, ", "J. "),
    *("mrn 1-", "+1 ", "(1) ", "O'", "IA 12345 ", "Ames, IA ", "\0", "é", "of the ", "van de "),
    *(
        "d/w Lee, ",
        "with Ann Lee ",
        "Lee, Ann. ",
        "a 54 y ",
        "Ann Lee, 54 y, ",
        "- Lee, ",
        "no. 12 ",
    ),
    *(
        "Ann Lee (son) ",
        "Ann Lee 123456 ",
        "ninety-one, ",
        "called to ",
        "by ",
        "12-",
        "AB12",
        "x1",
    ),
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_text_takes_linear_time(piece: str) -> None:
    with phi_corpus.linear_time():
        find_identifiers(piece * (100_000 // len(piece)))
