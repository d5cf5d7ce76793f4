"""Synthetic records: labels depend only on RESULTS, and the content of test is new to train."""

import hashlib
import itertools
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from clingpt.data import synthetic
from clingpt.data.synthetic import iter_records
from clingpt.text.records import LABELS, SPLITS, Record

SEEDS = (0, 1, 7)
COUNT = 3000
P_VALUE = r"p ([<=]) (0\.\d+)"
ARMS = r"(\d+\.\d)%? v (\d+\.\d)%?"
INTERVAL = r"difference (\d+\.\d), 95% CI (-?\d+\.\d) to (\d+\.\d)"
COMPARISON = re.compile(rf"\((?:{ARMS}|{INTERVAL})(?:, {P_VALUE})?\)")
ALL = {
    (split, seed): list(iter_records(split, count=COUNT, seed=seed))
    for split in SPLITS
    for seed in SEEDS
}
TEST = [record for seed in SEEDS for record in ALL["test", seed]]
TRAIN = [record for seed in SEEDS for record in ALL["train", seed]]
VAL = [record for seed in SEEDS for record in ALL["val", seed]]
WHOLE_TRAIN = [record for record in TRAIN if record.long_answer]  # brief reports left out


def results(record: Record) -> str:
    return dict(record.sections)["RESULTS"]


def whole(record: Record) -> str:
    texts = [f"{label}: {text}" for label, text in record.sections]
    return "\n".join([*texts, record.question, record.long_answer or ""])


def asked_sentence(record: Record) -> str:
    outcome = record.keywords[1]
    (sentence,) = (s for s in sentences(record) if s.lower().startswith(outcome))
    return sentence


def sentences(record: Record) -> list[str]:
    return re.split(r"(?<=\.) (?=[A-Z])", results(record))


def digest(seed: int) -> str:
    records = [r for split in SPLITS for r in iter_records(split, count=50, seed=seed)]
    return hashlib.sha256(repr(records).encode()).hexdigest()


def test_equal_seeds_yield_equal_records_in_any_process() -> None:
    code = (
        "import hashlib; from clingpt.data.synthetic import iter_records; "
        "from clingpt.text.records import SPLITS; "
        "records = [r for s in SPLITS for r in iter_records(s, count=50, seed=3)]; "
        "print(hashlib.sha256(repr(records).encode()).hexdigest())"
    )
    root = Path(__file__).parents[2]
    for hash_seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, cwd=root)
        assert done.stdout.decode().strip() == digest(3), done.stderr.decode()


def test_different_seeds_and_splits_share_no_record() -> None:
    texts = [{whole(record) for record in records} for records in ALL.values()]
    assert all(len(group) == COUNT for group in texts)
    assert not any(a & b for a, b in itertools.combinations(texts, 2))


def test_a_smaller_count_yields_a_prefix_of_a_larger_one() -> None:
    assert list(iter_records("val", count=20, seed=0)) == ALL["val", 0][:20]


def test_records_are_generated_one_at_a_time() -> None:
    assert next(iter_records("train", count=10**12, seed=0)) == ALL["train", 0][0]


def test_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="train, val, test, got 'dev'"):
        next(iter_records("dev", count=1, seed=0))


def test_ids_are_unique() -> None:
    ids = [record.id for split in SPLITS for record in ALL[split, 0]]
    assert len(set(ids)) == len(ids)
    assert ids[0] == "syn-train-000001"


@pytest.mark.parametrize("split", SPLITS)
def test_labels_have_the_documented_shares(split: str) -> None:
    counts = Counter(record.decision for seed in SEEDS for record in ALL[split, seed])
    shares = {label: counts[label] / (COUNT * len(SEEDS)) for label in LABELS}
    assert shares == pytest.approx({"yes": 0.42, "no": 0.36, "maybe": 0.22}, abs=0.02)


def test_brief_reports_are_only_in_training_and_contain_only_results() -> None:
    brief = [record for record in TRAIN if record.long_answer is None]
    assert len(brief) / len(TRAIN) == pytest.approx(synthetic.BRIEF["train"], abs=0.02)
    assert all([label for label, _ in record.sections] == ["RESULTS"] for record in brief)
    assert all(len(record.sections) == 3 and record.long_answer for record in VAL + TEST)


# What is new in the test split


@pytest.mark.parametrize("which", [0, 1, 2], ids=["intervention", "outcome", "population"])
def test_names_in_test_are_not_in_train_or_val(which: int) -> None:
    test = {record.keywords[which] for record in TEST}
    assert len(test) > 10
    assert not test & {record.keywords[which] for record in TRAIN + VAL}
    assert all(record.keywords[which] in record.question for record in TEST)


OTHER_OUTCOMES = re.compile(
    "|".join(
        f"{first} {last}"
        for _, firsts, lasts in synthetic.SECONDARY
        for first, last in itertools.product(firsts, lasts)
    )
)


def other_outcomes(records: list[Record]) -> set[str]:
    return {name for r in records for name in OTHER_OUTCOMES.findall(results(r).lower())}


def test_second_outcomes_in_test_are_not_in_train_or_val() -> None:
    assert other_outcomes(TEST)
    assert not other_outcomes(TEST) & other_outcomes(TRAIN + VAL)


def measured(records: list[Record]) -> set[str]:
    texts = (whole(record).replace("95% CI", "CI") for record in records)
    return {n for text in texts for n in re.findall(r"\d[\d,]*\.?\d*", re.sub(P_VALUE, "", text))}


def test_measured_numbers_in_test_are_not_in_train_or_val() -> None:
    assert len(measured(TEST)) > 300
    assert not measured(TEST) & measured(TRAIN + VAL)


DETAILS = re.compile("|".join((*synthetic.TIMES, *sorted(synthetic.SUBGROUPS, reverse=True))))


def skeleton(record: Record) -> tuple[str, ...]:
    """Return a record's templates: its sentences without names, numbers and directions."""
    kept = [s for s in sentences(record) if COMPARISON.search(s)]
    asked = asked_sentence(record)
    others = [s for s in kept if s != asked]
    texts = [record.question, asked, *others, record.long_answer or ""]
    return tuple(bare(text, record) for text in texts)


def bare(text: str, record: Record) -> str:
    text = COMPARISON.sub("(N)", text).lower()
    for mark, name in zip("XYZ", record.keywords, strict=True):
        text = text.replace(name, mark)
    text = re.sub(r"\b(increase|reduce)", "V", text).replace("decreased", "Vd")
    text = re.sub(r"\b(higher|lower)\b", "D", re.sub(r"\b(rose|fell)\b", "W", text))
    return DETAILS.sub("_", OTHER_OUTCOMES.sub("O", text))


def test_template_combinations_in_test_are_not_in_train_or_val() -> None:
    train, val, test = ({skeleton(r) for r in group} for group in (WHOLE_TRAIN, VAL, TEST))
    parts = len(synthetic.QUESTIONS) * sum(len(kind.findings) for kind in synthetic.KINDS)
    assert len(train | val | test) > 5 * parts  # a skeleton still tells combinations apart
    full = {combination for combination in train if len(combination) == 4}
    assert len(full) > 500 and len(test) > 500
    assert not test & (full | val)
    assert not val & full


def test_every_word_in_test_is_also_in_train() -> None:
    """Cut words as GPT-2's tokenizer does, with leading spaces, so that no token is new either."""
    word = re.compile(r" ?[A-Za-z]+| ?\d+| ?[^\sA-Za-z\d]+|\s")
    known = {w for record in ALL["train", 0] for w in word.findall(whole(record))}
    assert {w for record in TEST + VAL for w in word.findall(whole(record))} <= known


def test_the_opening_words_of_the_parts_of_a_name_occur_nowhere_else() -> None:
    """So the word before tells a model that copies a name how it goes on; see INTERVENTIONS."""
    kinds = (
        synthetic.INTERVENTIONS,
        synthetic.POPULATIONS,
        tuple(parts for _, *parts in synthetic.OUTCOMES),
        tuple(parts for _, *parts in synthetic.SECONDARY),
    )
    first_words = [word for kind in kinds for word in {w for firsts, _ in kind for w in firsts}]
    lasts = [last for kind in kinds for _, group in kind for last in group]
    templates = [*synthetic.QUESTIONS, *synthetic.CONTEXTS, *synthetic.METHODS, *synthetic.NEUTRAL]
    templates += [text for kind in synthetic.KINDS for text in kind.findings + kind.conclusions]
    templates += [*synthetic.TIMES, *synthetic.SUBGROUPS]
    words = Counter(first_words)
    words.update(word for last in lasts for word in last.split())
    words.update(set(re.findall(r"[A-Za-z-]+", re.sub(r"{\w+}", "", " ".join(templates)))))
    openings = {*first_words, *(last.split()[0] for last in lasts)}
    assert len(openings) == len(first_words) + len(lasts)
    assert {word for word in openings if words[word] > 1} == set()


# How the label follows from the text


def verdicts(sentence: str) -> list[bool | None]:
    """Return, for every comparison in a sentence, whether it is significant; None for almost."""
    found = []
    for first, second, gap, low, high, sign, p in COMPARISON.findall(sentence):
        shown = [float(p) < 0.05 or sign == "<"] if p else []
        if gap:
            assert float(low) < float(gap) < float(high)
            assert float(gap) == pytest.approx((float(low) + float(high)) / 2, abs=0.11)
            shown.append(float(low) > 0)
            error = (float(high) - float(low)) / 3.92
            near = 1.6 < float(gap) / error < 1.96
        else:
            assert first != second
            near = 0.05 < float(p) < 0.10
        assert len(set(shown)) == 1
        found.append(None if near and not shown[0] else shown[0])
    return found


def test_numbers_agree_with_the_label() -> None:
    for record in TRAIN + VAL + TEST:
        sentence = asked_sentence(record)
        against = bool(re.search(r" not (higher|lower),|worsened", sentence))
        assert not against or record.decision == "no"
        plain = [[True]] if against or record.decision == "yes" else [[False]]
        mixed = [[True, False], [None]]
        assert verdicts(sentence) in (mixed if record.decision == "maybe" else plain), sentence


def test_arms_differ_in_the_reported_direction() -> None:
    for record in TRAIN + TEST:
        rises = bool(re.search(r"\bincrease\b|\bhigher\b", record.question))
        sentence = asked_sentence(record)
        wanted = rises != bool(re.search(r" not (higher|lower),|worsened", sentence))
        for first, second, *_ in COMPARISON.findall(sentence):
            assert not first or (float(first) > float(second)) == wanted, sentence


def test_p_values_follow_from_percentages_and_sample_size() -> None:
    for record in TEST:
        (size,) = re.findall(r"\d,\d{3}", dict([record.sections[1]]).popitem()[1])
        arm = int(size.replace(",", "")) / 2
        for a, b, *_, p in re.findall(rf"\((\d+\.\d)% v (\d+\.\d)%, {P_VALUE}\)", results(record)):
            mean = (float(a) + float(b)) / 200
            z = abs(float(a) - float(b)) / 100 / (2 * mean * (1 - mean) / arm) ** 0.5
            assert (z > 1.96) == (float(p) < 0.05)


def test_the_second_outcome_usually_has_a_different_verdict() -> None:
    differ = with_other = 0
    for record in TEST:
        asked = asked_sentence(record)
        for sentence in sentences(record):
            if sentence != asked and COMPARISON.search(sentence):
                with_other += 1
                differ += verdicts(sentence) != verdicts(asked)
    assert with_other == len(TEST)
    assert differ / with_other > 0.72


def test_long_answer_agrees_with_the_label() -> None:
    signs = {"maybe": r"\bmay\b|\bonly\b", "no": r"\bnot\b", "yes": r"reduced|increased|rose|fell"}
    for record in WHOLE_TRAIN + VAL + TEST:
        answer = record.long_answer or ""
        says = next(label for label, sign in signs.items() if re.search(sign, answer))
        assert says == record.decision, answer
        assert all(name in answer.lower() for name in record.keywords)
        assert answer[0].isupper() and answer.endswith(".")


@pytest.mark.parametrize("part", ["question", "all but RESULTS", "RESULTS"])
def test_a_bag_of_words_cannot_predict_the_label(part: str) -> None:
    def text(record: Record) -> str:
        others = [text for label, text in record.sections if label != "RESULTS"]
        return {
            "question": record.question,
            "all but RESULTS": " ".join([record.question, *others]),
            "RESULTS": results(record),
        }[part]

    train, test = ALL["train", 0], ALL["test", 0]
    model = make_pipeline(CountVectorizer(), LogisticRegression(max_iter=300))
    model.fit([text(record) for record in train], [record.decision for record in train])
    right = model.score([text(record) for record in test], [record.decision for record in test])
    assert right <= (0.75 if part == "RESULTS" else 0.60)
