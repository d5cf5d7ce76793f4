"""Short generated abstracts for the offline quickstart and the tests; none of it is real data.

The label depends only on the sentence in RESULTS about the outcome that the question asks about:
yes if it changed as asked, no if it did not differ or got worse, maybe if it changed only in part,
only for a while or just short of significance. A second sentence reports another outcome in the
same words, mostly with a different verdict. To let a small model learn this within minutes,
outcomes that are asked about are called a rate or a score and others never are, some training
records contain only the outcome asked about, and most are brief: RESULTS and a label. So pairs of
words in RESULTS predict the label; the question and the rest do not.

The content of test never occurs in train or val: each space is divided by a sha256 before anything
is drawn, so no seed can move an item. The spaces are full names (interventions, outcomes,
populations), combinations of templates (question x finding x distractor x conclusion) and measured
numbers (arm values, differences, interval bounds, sample sizes). Val shares only names and numbers
with train. All splits are made of words and digit groups that train contains too. p-values come
from one list for all splits: "03" is a single GPT-2 token, which would never be trained if it were
reserved for test.
"""

import functools
import hashlib
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from clingpt.text.records import SPLITS, Record

T = TypeVar("T")
Words = tuple[str, ...]
Zone = tuple[float, float, int]  # lowest z, highest z, +1 for the wanted direction or -1

# Percent of each space kept for (test, val); the rest is train's. At (n, 0) val shares with train.
KEPT = {"name": (20, 0), "combination": (20, 10), "number": (45, 0)}
BRIEF = {"train": 0.6, "val": 0.0, "test": 0.0}  # share of brief reports: RESULTS, no conclusion
ALONE = {"train": 0.25, "val": 0.0, "test": 0.0}  # share of records without a second outcome
CONTRARY = {"train": 0.0, "val": 0.75, "test": 0.75}  # how often a second equal verdict is redrawn


def iter_records(split: str, *, count: int, seed: int) -> Iterator[Record]:
    """Yield `count` records of one split; the same arguments always yield the same records."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    rng = random.Random(f"clingpt synthetic {split} {seed}")
    for number in range(1, count + 1):
        yield _build_record(f"syn-{split}-{number:06d}", split, rng)


def _lines(text: str) -> Words:
    return tuple(line.strip() for line in text.strip().splitlines())


def _table(text: str, mark: str = ", ") -> tuple[tuple[Words, ...], ...]:
    rows = " ".join(text.split()).split(" ; ")
    return tuple(tuple(tuple(cell.split(mark)) for cell in row.split(" | ")) for row in rows)


# A name is a first and a last part: one kept for test is made of parts that train pairs otherwise.
# A model copies a name word by word: it looks for the last word and goes on as the text does there.
# So a word that opens a part of a name occurs nowhere else: neither in another kind of name ("daily
# velpril", "daily swelling") nor in another last part ("wound healing", "wound infection"). If two
# populations opened with "adults with", and one pair were kept for test, train would always go on
# with the other, and the model would learn that instead of copying.
STEMS, SUFFIXES = _table("""
    vel, mira, dor, celo, luva, tapi | statin, pril, sartan, olol, gliptin, mab
""")[0]
DRUGS = tuple(stem + suffix for stem in STEMS for suffix in SUFFIXES)
INTERVENTIONS = _table(f"""
    oral, weekly, nightly, generic, adjunctive, intravenous, topical, inhaled | {", ".join(DRUGS)} ;
    supervised, weekend, remote, telephone, digital, nurse-led, online, brief | exercise training,
        breathing retraining, medication review, diet counselling, health education,
        lifestyle coaching, cognitive therapy, gait training, peer support, glucose monitoring,
        goal setting ;
    urgent, delayed, robotic, ambulatory, guided, staged | nerve block, catheter ablation,
        valve repair, abscess drainage, skin grafting, hip replacement, hernia repair
""")
POPULATIONS = _table("""
    older, frail, rural, urban, hospitalised, uninsured, sedentary, anxious | adults with diabetes,
        children with asthma, stroke survivors, nursing home residents, people with epilepsy,
        veterans with heart failure, women with arthritis, patients with cancer, men with obesity
""")
# The first cell: which direction is better, and what is measured.
OUTCOMES = _table("""
    lower, rate | early, late, recurrent, preventable, total, severe | infection, delirium,
        embolism, bleeding, pneumonia, kidney injury, readmission, relapse, sepsis, thrombosis ;
    lower, score | morning, evening, average, peak, daily, chronic | back pain, fatigue, headache,
        joint stiffness, breathlessness, anxiety, muscle soreness, insomnia, swelling, itching ;
    higher, score | morning, evening, average, peak, daily, total | walking ability, balance,
        grip strength, lung function, memory recall, mobility, sleep quality, appetite, mood ;
    higher, rate | early, late, lasting, complete, full, partial | wound healing, remission,
        smoking cessation, viral clearance, recovery, symptom control, bone union, tumour response
""")
SECONDARY = _table("""
    lower, share | mild, transient, reported, moderate | nausea, dizziness, drowsiness, rash ;
    lower, level | hospital, clinic, monthly, indirect | cost, paperwork, travel,
        workload, crowding ;
    higher, level | patient, staff, carer, family | satisfaction, confidence, trust, engagement
""")
TIMES = ("six weeks", "three months", "six months", "one year", "two years")
TRIALS = ("Randomised", "Multicentre", "Pragmatic", "Blinded", "Open-label")
SUBGROUPS = ("outpatients", "carriers", "younger participants", "smokers", "new cases")
QUESTIONS = _lines("""
    Does {x} {verb} {y} in {z}?
    Can {x} {verb} {y} in {z}?
    In {z}, does {x} {verb} {y}?
    Is {y} {better} with {x} in {z}?
    Among {z}, can {x} {verb} {y}?
    Should {z} receive {x} to {verb} {y}?
""")
CONTEXTS = _lines("""
    BACKGROUND: Evidence on {x} is limited.
    BACKGROUND: The value of {x} is unclear.
    OBJECTIVE: To compare {x} with {c}.
    PURPOSE: To find out whether {x} helps.
    AIM: To measure the effect of {x}.
""")
METHODS = _lines("""
    METHODS: {n} {z} were randomised and followed for {time}.
    METHODS: We followed {n} {z} for {time}.
    DESIGN: {trial} trial against {c} in {n} {z}.
    PATIENTS AND METHODS: {n} {z} took part. Follow-up lasted {time}.
""")
NEUTRAL = _lines("""
    Baseline characteristics did not differ between groups.
    Groups were similar at baseline.
    Follow-up reached {m}%.
    Adherence was {m}%, with no significant loss over time.
    Attendance fell to {m}%.
""")


@dataclass(frozen=True)
class Outcome:
    """A measured outcome. `rises`: higher values are better; `percent`: it is a percentage."""

    name: str
    rises: bool
    percent: bool


@dataclass(frozen=True)
class Kind:
    """One way a result can turn out: its frequency, its label, its numbers, and its wording."""

    weight: int
    label: str
    zones: tuple[Zone, ...]  # of the numbers at {a} and {b}
    findings: Words
    conclusions: Words


ZONES = {"clear": (2.05, 4.2, 1), "near": (1.68, 1.88, 1), "weak": (0.1, 1.3, 1)}
ZONES["reversed"] = (2.05, 4.2, -1)
NO = """{X} did not {verb} {y} in {z}. / In {z}, {x} did not {verb} {y}. /
        {Y} was not {better} with {x} in {z}."""
KINDS = tuple(
    Kind(int(weight), label, tuple(ZONES[zone] for zone in zones), findings, conclusions)
    for (weight, label, *zones), findings, conclusions in _table(
        """
    42 / yes / clear | {O} {went} with the intervention ({a}). / {O} {shifted} significantly ({a}).
        / {O} {went} clearly in the intervention group ({a}).
        / {O} improved with the intervention ({a}).
        | {X} {past} {y} in {z}. / In {z}, {x} {past} {y}. / {Y} {went} with {x} in {z}. ;
    27 / no / weak | {O} did not differ between groups ({a}).
        / {O} did not change significantly ({a}). / {O} stayed similar in both groups ({a}).
        / {O} remained similar with the intervention ({a}). | NO ;
    9 / no / reversed | {O} went {worse}, not {better}, with the intervention ({a}).
        / {O} worsened with the intervention ({a}). | NO ;
    7 / maybe / clear / weak | {O} partly {went}: in {sub} ({a}) but not overall ({b}).
        / {O} differed in {sub} ({a}) but not overall ({b}).
        | {X} may {verb} {y} in only some {z}. / In {z}, {x} {past} {y} only in a subgroup. ;
    7 / maybe / clear / weak | {O} briefly {went} ({a}) but not at {time} ({b}).
        / {O} initially {went} ({a}) but did not differ at {time} ({b}).
        | {X} may {verb} {y} in {z} only at first. / In {z}, {x} {past} {y} only at first. ;
    8 / maybe / near | {O} tended to be {better} with the intervention ({a}).
        / {O} possibly {went} with the intervention ({a}).
        | {X} may {verb} {y} in {z}. / In {z}, {x} may {verb} {y}.
        """.replace("NO", NO),
        mark=" / ",
    )
)


@functools.cache
def _owns(split: str, space: str, item: str) -> bool:
    digest = hashlib.sha256(f"clingpt {space} {item}".encode()).digest()
    bucket = int.from_bytes(digest[:4], "big") % 100
    test, val = KEPT[space]
    owner = "test" if bucket < test else "val" if bucket < test + val else "train"
    return owner == split or (owner == "train" and split == "val" and not val)


@functools.cache
def _names(split: str, firsts: Words, lasts: Words) -> Words:
    names = (f"{first} {last}" for first in firsts for last in lasts)
    return tuple(name for name in names if _owns(split, "name", name))


@functools.cache
def _tenths(split: str) -> frozenset[int]:
    """Return the one-decimal numbers of a split, as tenths: 473 stands for 47.3."""
    return frozenset(n for n in range(1, 1000) if _owns(split, "number", f"{n / 10:.1f}"))


@functools.cache
def _sizes(split: str) -> tuple[int, ...]:
    """Return sample sizes. All have a comma, so that a new one is made of known digit groups."""
    return tuple(n for n in range(1050, 10000, 50) if _owns(split, "number", f"{n:,}"))


def _pick(rng: random.Random, items: Sequence[T]) -> T:
    # Only random() is guaranteed to produce the same stream in every Python version.
    return items[int(rng.random() * len(items))]


def _pick_kinds(rng: random.Random, split: str) -> tuple[Kind, Kind]:
    asked, other = _pick_kind(rng), _pick_kind(rng)
    while other.label == asked.label and rng.random() < CONTRARY[split]:
        other = _pick_kind(rng)
    return asked, other


def _pick_kind(rng: random.Random) -> Kind:
    return _pick(rng, [kind for kind in KINDS for _ in range(kind.weight)])


def _pick_templates(
    rng: random.Random, split: str, asked: Kind, other: Kind
) -> tuple[str, str, str, str]:
    """Pick a question, finding, distractor and conclusion in a combination of this split."""
    while True:
        question, conclusion = _pick(rng, QUESTIONS), _pick(rng, asked.conclusions)
        finding, distractor = _pick(rng, asked.findings), _pick(rng, other.findings)
        combination = "|".join((question, finding, distractor, conclusion))
        if _owns(split, "combination", combination):
            return question, finding, distractor, conclusion


def _pick_outcome(rng: random.Random, split: str, asked: bool) -> Outcome:
    (better, measure), firsts, lasts = _pick(rng, OUTCOMES if asked else SECONDARY)
    name = _pick(rng, _names(split, firsts, lasts))
    percent = measure in ("rate", "share")
    return Outcome(f"{name} {measure}" if asked else name, better == "higher", percent)


def _measure(rng: random.Random, split: str, outcome: Outcome, zone: Zone, arm: float) -> str:
    """Draw the numbers of one comparison until all belong to the split and agree."""
    own = _tenths(split)
    interval = not outcome.percent and rng.random() < 0.5
    upward = zone[2] if outcome.rises else -zone[2]
    while True:
        control = 200 + int(rng.random() * 400)
        error = _standard_error(control, arm) if outcome.percent else 6 + 12 * rng.random()
        gap = round(error * (zone[0] + (zone[1] - zone[0]) * rng.random()))
        treated = control + upward * gap
        if outcome.percent:
            error = _standard_error((control + treated) / 2, arm)
        z = gap / error
        if gap < 1 or not zone[0] <= z <= zone[1]:
            continue
        p = _format_p(math.erfc(z / math.sqrt(2)))
        if not interval and {control, treated} <= own and 200 <= treated < 600:
            unit = "%" if outcome.percent else ""
            return f"{treated / 10:.1f}{unit} v {control / 10:.1f}{unit}, {p}"
        low, high = round(gap - 1.96 * error), round(gap + 1.96 * error)
        if interval and low * (z - 1.96) > 0 and {gap, abs(low), high} <= own and high < 100:
            told = f"difference {gap / 10:.1f}, 95% CI {low / 10:.1f} to {high / 10:.1f}"
            return f"{told}, {p}" if rng.random() < 0.5 else told


def _standard_error(tenths: float, arm: float) -> float:
    """Return the standard error of a difference between percentages near `tenths`, in tenths."""
    rate = tenths / 1000
    return 1000 * math.sqrt(2 * rate * (1 - rate) / arm)


def _format_p(p: float) -> str:
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.3f}" if p < 0.0095 else f"p = {p:.2f}"


def _neutral(rng: random.Random, split: str) -> str:
    share = 0
    while share not in _tenths(split):
        share = 800 + int(rng.random() * 190)
    return _pick(rng, NEUTRAL).format(m=f"{share / 10:.1f}")


def _build_record(identity: str, split: str, rng: random.Random) -> Record:
    asked, other = _pick_kinds(rng, split)
    question, finding, distractor, conclusion = _pick_templates(rng, split, asked, other)
    outcome = _pick_outcome(rng, split, asked=True)
    study = _describe_study(rng, split)
    facts = study | _words(outcome)
    results = [_tell(rng, split, asked, finding, outcome, study)]
    if rng.random() >= ALONE[split]:
        second = _pick_outcome(rng, split, asked=False)
        told = _tell(rng, split, other, distractor, second, study)
        results.insert(int(rng.random() * 2), told)
    if rng.random() < 0.4:
        results.insert(int(rng.random() * (len(results) + 1)), _neutral(rng, split))
    parts = [_pick(rng, group).format(**facts) for group in (CONTEXTS, METHODS)]
    brief = rng.random() < BRIEF[split]
    return Record(
        id=identity,
        question=question.format(**facts),
        sections=(*map(_section, parts[2 * brief :]), ("RESULTS", " ".join(results))),
        long_answer=None if brief else conclusion.format(**facts),
        decision=asked.label,
        keywords=(facts["x"], facts["y"], facts["z"]),
    )


def _section(text: str) -> tuple[str, str]:
    label, _, body = text.partition(": ")
    return label, body


def _describe_study(rng: random.Random, split: str) -> dict[str, str]:
    """Fill the templates' fields for a study, except its results."""
    family = _pick(rng, INTERVENTIONS)
    x = _pick(rng, _names(split, *family))
    return {
        "x": x,
        "X": _capital(x),
        "z": _pick(rng, _names(split, *POPULATIONS[0])),
        "c": "placebo" if DRUGS in family else "usual care",
        "n": f"{_pick(rng, _sizes(split)):,}",
        "time": _pick(rng, TIMES),
        "trial": _pick(rng, TRIALS),
        "sub": _pick(rng, SUBGROUPS),
    }


def _words(outcome: Outcome) -> dict[str, str]:
    """Fill the templates' fields for an outcome: its name, and its wanted direction."""
    up = {"verb": "increase", "past": "increased", "went": "rose", "shifted": "increased"}
    down = {"verb": "reduce", "past": "reduced", "went": "fell", "shifted": "decreased"}
    more = {"better": "higher", "worse": "lower"} | up
    less = {"better": "lower", "worse": "higher"} | down
    name = {"y": outcome.name, "Y": _capital(outcome.name), "O": _capital(outcome.name)}
    return name | (more if outcome.rises else less)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _tell(
    rng: random.Random, split: str, kind: Kind, text: str, outcome: Outcome, study: dict[str, str]
) -> str:
    """Write one sentence of RESULTS: how an outcome turned out, with its numbers."""
    arm = int(study["n"].replace(",", "")) / 2
    numbers = [_measure(rng, split, outcome, zone, arm) for zone in kind.zones]
    return text.format(a=numbers[0], b=numbers[-1], **study | _words(outcome))
