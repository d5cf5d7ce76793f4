"""Titles become questions with yes or no, or are left out with a reason."""

import csv
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from clingpt.data import title_labels
from clingpt.data.prepared import open_prepared
from clingpt.data.title_labels import Unlabelled, label, label_record
from clingpt.text.records import Record
from tests.helpers.preparing import (
    GPT2,
    cells,
    made_records,
    prepared,
    random_text,
    refused,
    write_lines,
)
from tests.helpers.shared import PUBMEDQA, shared_file


@pytest.mark.parametrize(
    ("title", "question", "decision"),
    [
        # The two examples of Jin et al. 2019.
        (
            "Spontaneous electrocardiogram alterations predict ventricular fibrillation in Brugada "
            "syndrome.",
            "Do spontaneous electrocardiogram alterations predict ventricular fibrillation in "
            "Brugada syndrome?",
            "yes",
        ),
        (
            "Liver grafts from selected older donors do not have significantly more ischaemia "
            "reperfusion injury.",
            "Do liver grafts from selected older donors have significantly more ischaemia "
            "reperfusion injury?",
            "no",
        ),
        # be
        ("Fever is common in gout: a cohort study.", "Is fever common in gout?", "yes"),
        ("The drugs are not equally safe.", "Are the drugs equally safe?", "no"),
        ("Rest is no better than exercise", "Is rest any better than exercise?", "no"),
        ("The dose is of no importance", "Is the dose of any importance?", "no"),
        ("Fever is also not rare", "Is fever also rare?", "no"),
        # have
        ("The drug has no effect on pain", "Does the drug have any effect on pain?", "no"),
        ("Smokers have increased levels of CRP", "Do smokers have increased levels of CRP?", "yes"),
        ("Survival has improved in Norway", "Has survival improved in Norway?", "yes"),
        ("Mortality has not been reduced", "Has mortality been reduced?", "no"),
        # other verbs
        ("Yoga relieves back pain", "Does yoga relieve back pain?", "yes"),
        ("Yoga doesn't relieve pain", None, None),
        ("ACE inhibitors lower mortality", "Do ACE inhibitors lower mortality?", "yes"),
        ("Diet modifies risk and cuts pain", "Does diet modify risk and cut pain?", "yes"),
        ("Training shows no benefit in stroke", "Does training show any benefit in stroke?", "no"),
        ("Yoga does not relieve pain", "Does yoga relieve pain?", "no"),
        ("Pain passes", None, None),
        ("Weight loss results in pain", "Does weight loss result in pain?", "yes"),
        ("Long-term results in children with gout", None, None),
        ("Levels of CRP predict gout", "Do levels of CRP predict gout?", "yes"),
        ("High dose increases in CRP after exercise", None, None),
        ("Exercise increases strength", "Does exercise increase strength?", "yes"),
        ("Effects of dose increases on strength", None, None),
        ("Biomarkers to predict gout", None, None),
        ("Lung support formula for asthma", None, None),
        # capitals
        ("Aspirin Reduces Fever In Old Mice", "Does aspirin reduce fever in old mice?", "yes"),
        ("A rare gene causes gout", "Does a rare gene cause gout?", "yes"),
        ("DNA damage precedes cancer", "Does DNA damage precede cancer?", "yes"),
        ("Survival IS measured", None, None),
        # subtitles
        ("Yoga relieves pain - a trial", "Does yoga relieve pain?", "yes"),
        ("Yoga relieves pain\u2014a trial", "Does yoga relieve pain?", "yes"),
        ("Yoga relieves pain. Results of a trial", "Does yoga relieve pain?", "yes"),
        ("Yoga (It Relieves Pain) trial", None, None),
    ],
)  # fmt: skip
def test_titles(title: str, question: str | None, decision: str | None) -> None:
    if question is None:
        with pytest.raises(Unlabelled):
            label(title)
    else:
        assert label(title) == (question, decision)


@pytest.mark.parametrize(
    ("title", "reason"),
    [
        ("Does yoga relieve pain?", title_labels.ASKS),
        ("Does yoga relieve pain? A trial", title_labels.ASKS),
        ("YOGA RELIEVES PAIN", title_labels.IN_CAPITALS),
        ("How yoga relieves pain", title_labels.NOT_STATED),
        ("When pain is severe", title_labels.NOT_STATED),
        ("Is yoga safe", title_labels.NOT_STATED),
        ("Yoga for pain: a randomised trial", title_labels.NO_VERB),
        ("Yoga relieved pain", title_labels.NO_VERB),
        ("", title_labels.NO_VERB),
        (".", title_labels.NO_VERB),
        ("has", title_labels.NOT_STATED),
        ("Yoga has", title_labels.NO_VERB),
        ("Yoga is not", title_labels.NO_VERB),
        ("Yoga may relieve pain", title_labels.MODAL),
        ("Drugs cannot relieve pain", title_labels.MODAL),
        ("No drug relieves pain", title_labels.NEGATED_ELSEWHERE),
        ("Lack of sleep causes pain", title_labels.NEGATED_ELSEWHERE),
        ("Yoga relieves pain but not fever", title_labels.NEGATED_ELSEWHERE),
        ("Yoga is not only cheap", title_labels.NEGATED_ELSEWHERE),
        ("Yoga is no longer rare", title_labels.NEGATED_ELSEWHERE),
        ("Yoga is rarely harmful", title_labels.NEGATED_ELSEWHERE),
        ("A gene that regulates sleep causes pain", title_labels.CLAUSES),
        ("Yoga relieves pain and is cheap", title_labels.CLAUSES),
        ("Yoga is cheap and relieves pain", title_labels.CLAUSES),
        ("Yoga relieves pain: study protocol", title_labels.PROTOCOL),
    ],
)
def test_titles_that_are_left_out(title: str, reason: str) -> None:
    with pytest.raises(Unlabelled) as left_out:
        label(title)
    assert str(left_out.value) == reason


def test_pubmedqas_own_questions_are_left_as_they_are() -> None:
    items = json.loads(shared_file(PUBMEDQA).read_text("utf-8"))
    for item in items.values():
        with pytest.raises(Unlabelled, match=title_labels.ASKS):
            label(item["QUESTION"])


# Through prepare.py

FLAGS = ("--task=answer", "--make_labels=titles", "--val_share=0", "--test_share=0", "--show=0")


def abstracts(n: int) -> list[dict[str, str]]:
    """Make abstracts whose titles assert, deny, only name, or ask something."""
    titles = (
        "Drug {n} relieves pain",
        "Drug {n} does not relieve pain",
        "Drug {n} for pain",
        "Drug {n}?",
    )
    rng = random.Random(1)
    return [
        {
            "id": f"a{i}",
            "title": titles[i % 4].format(n=i),
            "abstract": random_text(rng),
            "conclusion": random_text(rng, 4),
        }
        for i in range(n)
    ]


def test_labels_are_counted_and_written(tmp_path: Path) -> None:
    path, out = tmp_path / "a.csv", tmp_path / "out"
    rows = [*abstracts(40), {"id": "x", "title": "", "abstract": "Text.", "conclusion": "So."}]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    printed = prepared(f"--source={path}", f"--out={out}", *FLAGS)
    counts = cells(printed, "Labels from titles")
    assert (counts["yes"], counts["no"]) == (["10"], ["10"])
    assert counts[f"none: {title_labels.NO_VERB}"] == ["10"]
    assert counts[f"none: {title_labels.ASKS}"] == ["10"]
    assert counts[f"none: {title_labels.NO_TITLE}"] == ["1"]
    assert cells(printed, "Records of")["train"][:3] == ["41", "10", "10"]
    data = open_prepared(out, GPT2)
    [text] = [
        GPT2.decode(data.split("train").example(row).prompt_ids)
        for row in data.split("train").index[1:2]
    ]
    assert "Question: Does drug 1 relieve pain?" in text
    assert data.manifest["settings"]["make_labels"] == "titles"


def test_without_titles_there_is_nothing_to_label(tmp_path: Path) -> None:
    rows = [{**row, "title": "Drugs for pain"} for row in abstracts(9)]
    path = write_lines(tmp_path / "a.jsonl", rows)
    told = refused(f"--source={path}", f"--out={tmp_path / 'out'}", *FLAGS)
    why = f"{title_labels.NO_VERB}: 9"
    assert told.startswith(f"make_labels: no title of {path} became a question ({why}); titles ")
    assert not (tmp_path / "out").exists()


def test_labels_and_questions_that_are_there_stay(tmp_path: Path) -> None:
    records = [{**row, "title": "Drugs relieve pain"} for row in made_records(6)]
    records[0]["decision"] = None
    path = write_lines(tmp_path / "a.jsonl", records)
    columns = ["--input=question", "--target=long_answer"]
    told = prepared(f"--source={path}", f"--out={tmp_path / 'out'}", *FLAGS, *columns)
    assert cells(told, "Labels from titles")["yes"] == ["6"]  # the chosen columns have no label
    record = Record(id="1", question="Why?", sections=(("TEXT", "a"),), long_answer="b")
    row = {"title": "Drugs relieve pain"}
    assert label_record(record, row) == (record, title_labels.HAS_QUESTION)
    labelled = replace(record, decision="no")
    assert label_record(labelled, row) == (labelled, title_labels.HAS_LABEL)
    bare = replace(record, question="", long_answer=None)
    assert label_record(bare, row) == (bare, title_labels.NO_CONCLUSION)
    assert label_record(replace(record, question=""), {"title": 7})[1] == title_labels.NO_TITLE


def test_pubmed_files_need_no_columns(tmp_path: Path) -> None:
    rng = random.Random(2)
    titles = ("Drug {n} relieves pain.", "[Drug {n} does not relieve pain].", "Does drug {n} work?")
    text = "\n".join(
        f"PMID- {n}\nTI  - {titles[n % 3].format(n=n)}\nAB  - METHODS: {random_text(rng)}. "
        f"CONCLUSIONS: {random_text(rng, 4)}.\n"
        for n in range(30)
    )
    path = tmp_path / "saved.txt"  # recognised by its first line
    path.write_text(text)
    counts = cells(
        prepared(f"--source={path}", f"--out={tmp_path / 'out'}", *FLAGS), "Labels from titles"
    )
    assert (counts["yes"], counts["no"]) == (["10"], ["10"])
    assert counts[f"none: {title_labels.HAS_QUESTION}"] == ["10"]
