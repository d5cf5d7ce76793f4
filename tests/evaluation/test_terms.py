"""Unsupported terms: wrong ones are found, and other spellings of right ones are not flagged."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from clingpt.base.errors import CheckpointError
from clingpt.data import synthetic
from clingpt.data.prepared import official_test_ids
from clingpt.data.sources import from_official_item
from clingpt.evaluation.terms import FILE, Terms, find_terms, find_warnings, learn_terms
from clingpt.text.records import Record
from tests.helpers.shared import PUBMEDQA, official_items, shared_file


def terms(output: str, source: str, *learned: str) -> list[str]:
    flags = find_terms(output, source, learned)
    assert all(output[flag.start : flag.end] == flag.text for flag in flags)
    return [flag.text for flag in flags]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("It helps in nephropathy.", ["nephropathy"]),
        ("It helps after appendectomy.", ["appendectomy"]),
        ("Prednisolone helps.", ["Prednisolone"]),  # the source has prednisone
        ("Losartan helps, and so do statins.", ["Losartan"]),  # and valsartan and a statin
        ("Patients had COPD.", ["COPD"]),
        ("They had bacterial peritonitis.", ["peritonitis"]),
        ("Septic peritonitis-hypotension was rare.", ["peritonitis-hypotension"]),
        ("The diagnosis and prognosis did not differ in the RCT.", []),
        ("CONCLUSION: SURGERY HELPS IN THE US.\nPLAN: Rest.", []),
        ("Patients improved in part II of XXXX.", []),
    ],
)
def test_term_that_the_source_lacks_is_flagged(output: str, expected: list[str]) -> None:
    assert terms(output, "Prednisone, valsartan and a statin in asthma.") == expected


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("anaemia and tumours", "anemia and a tumor"),
        ("oesophageal oedema was randomised", "esophageal edema was randomized"),
        ("leukemia", "Leukaemias"),
        ("chronic obstructive pulmonary disease", "COPD"),
        ("quality of life", "QoL"),
        ("patients with COPD", "patients with chronic obstructive pulmonary disease"),
        ("two SNPs", "one SNP"),
        ("cirrhosis", "cirrhotic livers"),
        ("epileptic seizures", "epilepsy"),
        ("obese adults", "obesity"),
        ("diabetic men", "men with diabetes"),
        ("low birth-weight", "birthweight"),
        ("birthweight", "birth weight"),
        ("adjuvant", "neoadjuvant"),
        ("metastases", "metastasis"),
        ("a stenosis", "stenotic"),
        ("arthroscopic repair", "arthroscopies"),
        ("PCI", "PCI's"),
    ],
)
def test_other_forms_of_a_term_are_supported(source: str, output: str) -> None:
    learned = "epilepsy obesity diabete cirrhotic birthweight birth".split()
    assert terms(output, source, *learned) == []


def test_learned_words_are_terms_in_every_form() -> None:
    assert terms("Adults with epilepsy improved.", "adults with diabetes") == []
    assert terms("Adults with epilepsy improved.", "with diabetes", "epilepsy") == ["epilepsy"]
    assert terms("Two Cancers grew.", "It grew.", "cancer") == ["Cancers"]
    assert terms("Lung cancer grew.", "It grew.", "lung", "cancer") == ["Lung cancer"]


def test_words_that_texts_repeat_and_references_never_add_are_learned() -> None:
    texts = [
        (f"{name} hurts. We gave {name} tea. Tea is warm.", f"Tea relieves {name} quickly.")
        for name in ("angina", "eczema", "malaria") * 10
    ]
    found = learn_terms(texts, fingerprint="x")
    assert found.words == ("angina", "eczema", "malaria")  # not tea: all texts have it
    assert found.texts == 30
    assert learn_terms([], fingerprint="x").words == ()


def test_terms_may_come_from_the_question_and_other_flags_are_kept() -> None:
    record = Record(id="1", question="Does it help in COPD?", sections=(("A", "We gave 5 mg."),))
    flags = find_warnings("We gave 6 mg in COPD and nephropathy.", record, "explain", ()) or []
    assert [(flag.kind, flag.text) for flag in flags] == [("number", "6"), ("term", "nephropathy")]
    alone = Record(id="1", question="Why?", sections=())
    assert find_warnings("COPD", alone, "explain", ()) is None


def test_terms_are_stored_next_to_the_weights(tmp_path: Path) -> None:
    assert Terms.load(tmp_path) is None
    found = Terms(texts=2, fingerprint="x", words=("asthma",))
    found.save(tmp_path)
    assert Terms.load(tmp_path) == found
    (tmp_path / FILE).write_text(json.dumps({"format": 9}))
    with pytest.raises(CheckpointError, match="this version reads 1; write it again by running"):
        Terms.load(tmp_path)


def test_check_needs_neither_torch_nor_numpy_nor_nltk() -> None:
    code = "import sys, clingpt.evaluation.terms as t; t.find_terms('COPD', 'x'); "
    code += "sys.exit(any(name in sys.modules for name in ('torch', 'sklearn', 'nltk')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def text_of(record: Record) -> str:
    return f"{record.question}\n{record.context()}"


def test_wrong_disease_is_found_in_generated_abstracts() -> None:
    """Diseases of the quickstart's records, exchanged; the checker has no list of them."""
    train = synthetic.iter_records("train", count=2_500, seed=1)
    pairs = [(text_of(one), one.long_answer) for one in train if one.long_answer]
    learned = learn_terms(pairs, fingerprint="x").words
    names = "diabetes asthma stroke epilepsy arthritis cancer obesity".split()
    rng, n_found, n_wrong = random.Random(1), 0, 0
    for record in synthetic.iter_records("test", count=200, seed=1):
        source, reference = text_of(record), record.long_answer or ""
        assert terms(reference, source, *learned) == []
        for right in (name for name in names if name in reference):
            wrong = rng.choice([name for name in names if name not in source])
            n_wrong += 1
            n_found += wrong in terms(reference.replace(right, wrong), source, *learned)
    assert n_wrong > 100 and n_found == n_wrong


def test_rates_on_pubmedqa() -> None:
    """Figures of docs/results.md: terms learned on the 500 training and validation records."""
    records = [from_official_item(pair) for pair in official_items(shared_file(PUBMEDQA)).items()]
    test_ids = official_test_ids()
    train = [record for record in records if record.id not in test_ids]
    test = [record for record in records if record.id in test_ids]
    learned = learn_terms(((text_of(r), r.long_answer or "") for r in train), fingerprint="x")
    sources = [text_of(record) for record in test]
    for words, lowest in (((), 270), (learned.words, 300)):
        own, others = (
            sum(
                bool(find_terms(record.long_answer or "", source, words))
                for record, source in zip(test, shown, strict=True)
            )
            for shown in (sources, sources[7:] + sources[:7])
        )
        assert own <= 25 and others >= lowest, (own, others)
