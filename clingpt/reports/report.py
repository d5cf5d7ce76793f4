"""The results of evaluating one checkpoint on one split, as a typed `Report`.

The first half of this module declares the report, which report.json stores field by field
(docs/formats.md). The second half computes it from the stored results of clingpt/evaluation, one
record at a time: each text is reduced to a row of numbers, so the texts of a split are never all in
memory. tables.py, plots.py and render.py decide how the figures are shown.
"""

import hashlib
import heapq
import itertools
import platform
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from importlib.metadata import version
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from clingpt.base import console, jsonl
from clingpt.base.errors import DataError
from clingpt.base.types import Ints
from clingpt.data.prepared import Prepared, TrainedTasks, official_folds, official_test_ids
from clingpt.evaluation import calibration as probabilities
from clingpt.evaluation import metrics
from clingpt.evaluation.baselines import (
    COMMONEST,
    NEAREST,
    SUMMARIES,
    BagOfWords,
    CommonAnswers,
    TrainingExamples,
    evidence_of,
    majority_label,
    nearest,
)
from clingpt.evaluation.bootstrap import (
    PairedDifference,
    Spread,
    bootstrap_labels,
    bootstrap_mean,
    bootstrap_ratio,
    bootstrap_sums,
    mean_difference,
    percentile_interval,
    resampled_sums,
)
from clingpt.evaluation.calibration import Bin, Calibration, Familiarity, FittedOn, LabelScores
from clingpt.evaluation.measure import ResultStore, passages_of
from clingpt.evaluation.metrics import (
    ROUGE_TYPES,
    Bleu,
    Interval,
    LabelScore,
    Perplexity,
    Rouge,
    Structure,
    novel_bigrams,
    structure,
)
from clingpt.evaluation.scorer import Output
from clingpt.evaluation.terms import Terms, find_terms, find_warnings, learn_terms
from clingpt.evaluation.unsupported import KINDS, Flag, find_flags, find_numbers
from clingpt.nn.checkpoint import Loaded
from clingpt.text.documents import HEADINGS
from clingpt.text.records import N_FOLDS, Record, in_one_piece
from clingpt.text.tasks import (
    TASK_TABLE,
    TASKS,
    explained,
    make_prompt,
    parse_answer,
    prompt_text,
    source_text,
)
from clingpt.text.tokenizer import Tokenizer

FORMAT = 4
N_EXAMPLES = 20
BASELINE_RECORDS = 5_000  # enough to fit a bag of words, and fitted within seconds
# Common references are shown apart from the others from this share of the references on. They are
# 34 % of radiology reports' validation records, 15 % of visit notes' and none of PubMedQA's
# (docs/results.md): below a tenth, they move an average by less than its interval is wide.
COMMON_SHARE = 0.1
COMMON, RARE = "common", "rare"  # kinds of reference in a section
TERM_EXAMPLES = 10_000  # from which terms are learned, within seconds
MODEL, REFERENCE = "model", "reference"  # names of systems in a section

# How a field that is None is written to JSON: left out if None is its default, {} if it is marked
# so, and null otherwise.
EMPTY: dict[str, Any] = {"when None": {}}


# The report


@dataclass(frozen=True, kw_only=True)
class LabelFigures:
    """How well a system predicts yes, no and maybe; shares are from 0 to 1.

    The mean over several fits of a baseline has only the four figures without a default.
    """

    n: int
    accuracy: float
    accuracy_interval: Interval | None = None
    macro_f1: float
    per_label: dict[str, LabelScore] | None = None
    confusion: tuple[tuple[int, ...], ...] | None = None  # one row per gold label, in LABELS' order
    unparseable: int
    macro_f1_interval: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The model's figure minus a baseline's, with a 95 % interval.

    The interval is of the paired bootstrap: each resample has the same records for both. Two
    intervals of the two figures would say less, because most records are hard or easy for both.
    """

    value: float
    interval: Interval


# By baseline and figure: accuracy and macro_f1 of labels, ROUGE_TYPES and bleu of texts.
Differences = dict[str, dict[str, Difference]]


@dataclass(frozen=True, kw_only=True)
class LabelSection:
    """The model's labels and those of the baselines, on the same records."""

    systems: dict[str, LabelFigures]  # the model last
    differences: Differences
    notes: tuple[str, ...]

    @property
    def model(self) -> LabelFigures:
        return self.systems[MODEL]


@dataclass(frozen=True, kw_only=True)
class ProbabilityErrors:
    """How far label probabilities are from the truth."""

    ece: float
    nll: float
    brier: float


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Share of wrong labels (`risk`) among the most confident `coverage` of the records."""

    coverage: float
    risk: float


@dataclass(frozen=True, kw_only=True)
class CalibrationSection:
    """Label probabilities before and after calibration, and the effect of withholding labels.

    `records` are those that the figures were measured on, not those of `fitted_on`.
    `calibrated` are the errors at the fitted temperature, which is 1 or flattens the
    probabilities if `note` says why they are not calibrated.
    """

    records: int
    temperature: float
    note: str | None
    threshold: float
    coverage: float
    fitted_on: FittedOn
    raw: ProbabilityErrors
    calibrated: ProbabilityErrors
    reliability: tuple[Bin, ...]
    risk_coverage: tuple[Coverage, ...]
    aurc: float
    abstained: float
    accuracy_kept: float | None
    prompts: int  # of the split's answer examples
    unlike_training: float | None  # share of these prompts


@dataclass(frozen=True, kw_only=True)
class PerplexityFigures(Perplexity):
    """Corpus perplexity with a 95 % interval."""

    token_perplexity_interval: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class PerplexitySection:
    """Perplexity of one kind of text, without and with the end-of-text token.

    `records` is None for a text file. `trained` says whether the model was trained to write such
    texts, or is None if that is not known.
    """

    records: int | None
    trained: bool | None
    text: PerplexityFigures
    with_end: PerplexityFigures | None


@dataclass(frozen=True, kw_only=True)
class Unsupported:
    """Numbers, units, comparators and negations that the source does not support.

    Counted in the texts that have a source; shares are from 0 to 1.
    """

    texts: int
    flagged: float  # share of the texts with at least one
    per_kind: dict[str, float]  # share of the texts with at least one of this kind
    flags_per_text: float
    unsupported_numbers: float  # share of all numbers


@dataclass(frozen=True, kw_only=True)
class UnsupportedTerms:
    """Terms that neither the source nor the question has, in the texts that have a source."""

    texts: int
    flagged: float  # share of the texts with at least one
    terms_per_text: float


@dataclass(frozen=True, kw_only=True)
class TextFigures:
    """What one system's texts score against the references; the reference itself has no scores."""

    texts: int
    mean_words: float
    empty: int
    novel_bigrams: float | None
    unsupported: Unsupported | None
    unsupported_terms: UnsupportedTerms | None
    rouge: Rouge | None = None
    rougeL_interval: Interval | None = None
    bleu: Bleu | None = None
    bleu_interval: Interval | None = None
    mean_reference_words: float | None = None


@dataclass(frozen=True, kw_only=True)
class ReferenceGroup:
    """ROUGE on the records whose reference is common, or on those whose reference is rare."""

    records: int
    rouge: dict[str, Rouge]  # of each system, the model last


@dataclass(frozen=True, kw_only=True)
class TextSection:
    """The generated texts of one task, with the references and the baselines."""

    systems: dict[str, TextFigures]  # the reference first, the model last
    differences: Differences
    by_reference: dict[str, ReferenceGroup]  # COMMON and RARE; empty if few references are common
    notes: tuple[str, ...]
    hit_the_limit: float
    trimmed_prompts: int
    trimmed_tokens: int
    structure: Structure | None

    @property
    def model(self) -> TextFigures:
        return self.systems[MODEL]


@dataclass(frozen=True, kw_only=True)
class LearnedTerms:
    """Where the learned terms come from (evaluation/terms.py)."""

    terms: int
    training_texts: int


@dataclass(frozen=True, kw_only=True)
class Int8Text:
    """One kind of text, scored with 8-bit and with fp32 weights."""

    tokens: int
    perplexity_fp32: float
    perplexity_int8: float
    decisions_changed: float  # share of positions where another token is the most probable


@dataclass(frozen=True, kw_only=True)
class Int8Labels:
    """Labels predicted with 8-bit and with fp32 weights."""

    records: int
    changed: int
    labelled: int
    right_fp32: int
    right_int8: int


@dataclass(frozen=True, kw_only=True)
class Int8Section:
    """What 8-bit weights change, compared with fp32."""

    texts: dict[str, Int8Text]
    labels: Int8Labels | None = field(metadata=EMPTY)


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """Losses of the training run at one step, in nats per target token."""

    step: int
    train_loss: float | None = None
    val_loss: float | None = None


@dataclass(frozen=True, kw_only=True)
class ShownExample:
    """One generated text with its prompt and its reference."""

    id: str
    task: str
    prompt: str
    reference: str
    output: str
    finish_reason: str
    trimmed_tokens: int
    compared: bool  # whether the record has a source to compare the output with
    flags: tuple[Flag, ...]
    gold: str | None
    label: str | None
    probabilities: dict[str, float]
    abstained: bool | None
    unlike_training: bool | None


@dataclass(frozen=True, kw_only=True)
class NamedDifference(PairedDifference):
    """The scores of the second checkpoint minus those of the first, on the same records."""

    records: int
    first: str
    second: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Several checkpoints together."""

    checkpoints: tuple[str, ...]
    same_records: bool
    pooled: LabelFigures | None = field(metadata=EMPTY)
    spread: dict[str, Spread]
    records: dict[str, tuple[int, ...]]  # that each figure was measured on, by checkpoint
    paired: NamedDifference | None = field(metadata=EMPTY)


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """The prepared folder that was evaluated, and a description of the split's records."""

    folder: str
    fingerprint: str
    name: str  # of all records of the split: "300 test records"
    records: int

    def some(self, n: int) -> str:
        """Name the records that a figure was measured on: "60 of 300 test records"."""
        return self.name if n == self.records else f"{console.count(n)} of {self.name}"


@dataclass(frozen=True, kw_only=True)
class Report:
    """The content of report.json."""

    format: int = FORMAT
    checkpoint: str
    step: int | None
    parameters: int
    data: DataSource
    split: str
    look: int | None  # how often this run has been evaluated on the test split
    setting: str
    settings: dict[str, Any]
    versions: dict[str, str]
    labels: LabelSection | None = field(metadata=EMPTY)
    calibration: CalibrationSection | None = field(metadata=EMPTY)
    perplexity: dict[str, PerplexitySection]
    texts: dict[str, TextSection]
    task_notes: dict[str, str]  # sentences about the tasks that the model was not trained on
    learned_terms: LearnedTerms | None = field(metadata=EMPTY)
    label_agreement: float | None  # share of the generated labels that are also scored highest
    labels_compared: int  # generated labels
    int8: Int8Section | None = field(metadata=EMPTY)
    curve: tuple[CurvePoint, ...]
    examples: tuple[ShownExample, ...]
    comparison: Comparison | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the content of report.json."""
        content: dict[str, Any] = to_json(self)
        return content

    @staticmethod
    def from_json(content: Any, *, source: object) -> "Report":
        """Read what `to_json` returned; raise DataError if `source` contains anything else."""
        try:
            if content["format"] == FORMAT:
                report: Report = from_json(Report, content)
                return report
        except (TypeError, KeyError, AttributeError):
            pass
        raise DataError(f"{source} is not a report of this version; run eval.py again")


def to_json(value: Any) -> Any:
    """Convert dataclasses, and containers of them, to JSON values; see EMPTY for None."""
    if is_dataclass(value):
        found = {}
        for each in fields(value):
            inner = getattr(value, each.name)
            if inner is not None:
                found[each.name] = to_json(inner)
            elif each.default is MISSING:
                found[each.name] = each.metadata.get("when None")
        return found
    if isinstance(value, dict):
        return {key: to_json(inner) for key, inner in value.items()}
    return [to_json(inner) for inner in value] if isinstance(value, list | tuple) else value


def from_json(kind: Any, value: Any) -> Any:
    """Undo `to_json` by the declared type; raise TypeError if a field is missing or unknown.

    base/settings.from_dict would refuse infinite numbers, but a perplexity can be infinite.
    """
    inner = get_args(kind)
    if get_origin(kind) in (Union, UnionType):  # always X | None here
        return None if value is None or value == {} else from_json(inner[0], value)
    if get_origin(kind) is dict:
        return {key: from_json(inner[1], one) for key, one in value.items()}
    if get_origin(kind) is tuple:
        return tuple(from_json(inner[0], one) for one in value)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        named = {key: from_json(hints.get(key, Any), one) for key, one in value.items()}
        return kind(**named)  # type: ignore[operator]
    return value


# From stored results to a report


Scores = Mapping[str, LabelScores]  # by record id


def read_scores(parts: ResultStore, name: str = "labels") -> dict[str, LabelScores]:
    """Return the stored label scores by record id."""
    return {
        item["id"]: LabelScores(
            item["id"], item["gold"], tuple(item["log_probs"]), item["trimmed_tokens"]
        )
        for item in parts.items(name)
        if "id" in item
    }


def fit_calibration(
    loaded: Loaded, data: Prepared, parts: ResultStore, split: str, *, coverage: float
) -> Calibration | None:
    """Fit a calibration on the validation records, or load the one that is next to the weights.

    Never fits on test records: a calibration chosen on them would flatter the test figures.
    """
    scores = read_scores(parts, "labels" if split == "val" else "val_labels")
    labelled = [(one.log_probs, one.gold) for one in scores.values() if one.gold]
    if not labelled:
        return None if split == "val" else Calibration.load(loaded.folder)
    # Only the data that the model was trained on can say what is familiar to it.
    if loaded.card.get("data", {}).get("fingerprint") == data.fingerprint:
        familiarity = Familiarity.fit(answer_prompts(data, "train"), pasted_prompts(loaded, data))
    else:
        stored = Calibration.load(loaded.folder)
        familiarity = stored.familiarity if stored else None
    return Calibration.fit(
        [log_probs for log_probs, _ in labelled],
        [gold for _, gold in labelled],
        coverage=coverage,
        fingerprint=data.fingerprint,
        familiarity=familiarity,
    )


def answer_prompts(data: Prepared, split: str) -> Iterator[Ints]:
    """Yield the token ids of each answer prompt of a split."""
    found = data.split(split)
    for start, first_target, *_ in found.rows_of("answer").tolist():
        yield found.tokens[start:first_target].astype(np.int64)


def pasted_prompts(loaded: Loaded, data: Prepared) -> Iterator[list[int]]:
    """Yield the prompts of the validation questions, each with its text pasted in one piece.

    A pasted text has its headings within one section. A model of labelled sections has not seen
    those tokens, but that alone must not make an abstract unlike the training data.
    """
    budget = loaded.model.config.block_size - 1  # one token for the label
    for record in data.records("val"):
        if record.question:
            yield make_prompt("answer", in_one_piece(record), loaded.tokenizer, budget=budget).ids


def build_report(
    loaded: Loaded,
    data: Prepared,
    parts: ResultStore,
    scores: Scores,
    calibration: Calibration | None,
    terms: Terms,
    *,
    split: str,
    setting: str,
    parameters: int,
    settings: dict[str, Any],
    trained: TrainedTasks | None = None,
    look: int | None = None,
    int8: Mapping[str, Any] | None = None,
) -> tuple[Report, Iterator[dict[str, Any]]]:
    """Compute the report of a checkpoint from its stored results, and the scores of each record.

    `setting` is reasoning-required or reasoning-free (Jin et al. 2019, section 3.3); `trained` are
    the tasks of the model's training, if they are known; `look` counts the evaluations of this run
    on the test split; `int8` is what quantization_cost measured.
    """
    passages = {name: perplexity_section(parts.items(name)) for name in passages_of(TASKS)}
    perplexity = {
        name: replace(passage, trained=trained.trained_to_write(name) if trained else None)
        for name, passage in passages.items()
        if passage
    }
    for name in parts.names():
        if name.startswith("text ") and (passage := perplexity_section(parts.items(name))):
            perplexity[name.removeprefix("text ")] = replace(passage, records=None)
    texts, agreeing = dict[str, TextSection](), list[bool]()
    by_record = list[Iterable[dict[str, Any]]]()  # the rows of scores.jsonl
    learned = frozenset(terms.words)
    for task in data.tasks:
        asked = (record for _, record in outputs_with_records(parts, data, split, task))
        baselines = text_baselines(task, data, loaded.tokenizer, asked)
        found = TextScores(task, *baselines, learned=learned, headings=data.document_form.headings)
        pairs = outputs_with_records(parts, data, split, task)
        for output, record in console.progress(pairs, label=f"scoring: {task}", unit=" texts"):
            scored = scores.get(record.id)
            found.add(output, record, scored.label if scored else None)
        if section := found.section():
            texts[task] = section
        agreeing += found.agreeing
        by_record.append(found.by_record())
    labelled = predict_labels(data, loaded.tokenizer, split, scores)
    if labelled:
        by_record.insert(0, labelled.by_record())
    ids = data.record_ids(split)
    is_official = split == "test" and set(ids) == official_test_ids()
    report = Report(
        checkpoint=str(loaded.folder),
        step=loaded.card.get("step"),
        parameters=parameters,
        data=DataSource(
            folder=str(data.folder),
            fingerprint=data.fingerprint,
            name=(
                "PubMedQA's official 500 test records"
                if is_official
                else console.count(len(ids), f"{split} record")
            ),
            records=len(ids),
        ),
        split=split,
        look=look,
        setting=setting,
        settings=settings,
        versions=versions(),
        labels=labelled.section() if labelled else None,
        calibration=calibration_section(calibration, scores, data, split) if calibration else None,
        perplexity=perplexity,
        texts=texts,
        task_notes=trained.notes(data.tasks) if trained else {},
        learned_terms=LearnedTerms(terms=len(terms.words), training_texts=terms.texts),
        label_agreement=mean(agreeing) if agreeing else None,
        labels_compared=len(agreeing),
        int8=from_json(Int8Section, int8) if int8 else None,
        curve=training_curve(loaded),
        examples=tuple(
            example
            for task in texts
            for example in shown_examples(
                parts,
                data,
                split,
                task,
                scores,
                calibration,
                loaded.tokenizer,
                learned,
                count=N_EXAMPLES // len(texts),
            )
        ),
    )
    return report, itertools.chain.from_iterable(by_record)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that compute the figures."""
    names = ("torch", "numpy", "nltk", "rouge-score", "sacrebleu")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def training_curve(loaded: Loaded) -> tuple[CurvePoint, ...]:
    """Return the losses of the checkpoint's run, up to its own step."""
    if (last := loaded.card.get("step")) is None:
        return ()
    rows = jsonl.read(loaded.folder.parent / "metrics.jsonl")
    return tuple(
        CurvePoint(step=row["step"], train_loss=row.get("train_loss"), val_loss=row.get("val_loss"))
        for row in rows
        if row.get("step", last + 1) <= last
    )


def terms_of(data: Prepared, tokenizer: Tokenizer) -> Terms:
    """Learn terms from the training examples that have a text to write, evenly spaced."""

    def texts() -> Iterator[tuple[str, str]]:
        for task in data.tasks:
            examples = TrainingExamples.read(data, tokenizer, task)
            step = max(1, len(data.tasks) * len(examples) // TERM_EXAMPLES)
            for number in range(0, len(examples) if task != "text" else 0, step):
                if text := examples.answer(number):
                    yield examples.prompt(number), text

    return learn_terms(texts(), fingerprint=data.fingerprint)


# Labels


@dataclass(frozen=True)
class PredictedLabels:
    """The labels that the baselines and the model predict for the labelled records of a split."""

    records: Sequence[Record]
    # By system, the model last: a list of labels for each fit. Equal fits are one, as the
    # majority's are.
    systems: Mapping[str, Sequence[Sequence[str]]]
    notes: tuple[str, ...]

    def section(self) -> LabelSection:
        """Score the labels; the figures of several fits are means."""
        gold = [record.decision or "" for record in self.records]
        systems = {name: mean_figures(gold, fits) for name, fits in self.systems.items()}
        found: Differences = {}
        for name, fits in self.systems.items():
            if name != MODEL:
                between = mean_difference(gold, fits, self.systems[MODEL])
                found[name] = {
                    "accuracy": Difference(
                        value=between.accuracy, interval=between.accuracy_interval
                    ),
                    "macro_f1": Difference(
                        value=between.macro_f1, interval=between.macro_f1_interval
                    ),
                }
        return LabelSection(systems=systems, differences=found, notes=self.notes)

    def by_record(self) -> Iterator[dict[str, Any]]:
        """Yield a row of scores.jsonl for each record."""
        for number, record in enumerate(self.records):
            labels = {name: [fit[number] for fit in fits] for name, fits in self.systems.items()}
            yield {"record_id": record.id, "gold": record.decision, "labels": labels}


def predict_labels(
    data: Prepared, tokenizer: Tokenizer, split: str, scores: Scores
) -> PredictedLabels | None:
    """Fit the baselines, and predict the labels of the records whose label is known.

    Returns None if no record has a known label, or if no training record can fit a baseline.
    """
    records = [r for r in data.records(split) if r.id in scores and scores[r.id].gold]
    examples = TrainingExamples.read(data, tokenizer, "answer")
    train = training_answers(examples, data.record_ids("train"), at_most=BASELINE_RECORDS)
    if not records or not train:
        return None
    # PubMedQA has ten official folds of 450 training records, so few that a bag of words fitted on
    # one fold scores 3 points above another's. The baselines are the mean over all ten.
    held_out = [r for r in data.records("val") if r.question and r.decision]
    folds = official_folds(record.id for record in train + held_out)
    fitted_on = f"the {console.count(len(examples), 'labelled training record')}"
    if len(train) < len(examples):
        fitted_on = f"{console.count(len(train))} of {fitted_on}, evenly spaced"
    sets = [train]
    asked = [prompt_text("answer", record) for record in records]
    if split == "test" and folds is not None and set(folds) == set(range(N_FOLDS)):
        labelled = list(zip(train + held_out, folds, strict=True))
        sets = [[record for record, fold in labelled if fold != k] for k in range(N_FOLDS)]
        fitted_on = "nine of PubMedQA's ten folds; figures are the mean over the ten choices"
        n_searched = "as many"
        looked_up = [nearest_labels(each, asked) for each in sets]
    else:
        n_searched = console.count(len(examples))
        looked_up = [
            [examples.label(number) for number in nearest(len(examples), examples.prompt, asked)]
        ]
    notes = [
        "Bag of words: logistic regression (C = 1) on the TF-IDF (log tf) of words and word pairs "
        f"that occur in at least 2 training texts, fitted on {fitted_on}. The question-and-results "
        "baseline gives all classes equal weight; unless most training records have a section "
        "RESULTS or FINDINGS, it sees the whole context.",
        f"{NEAREST}: the label of the training record, among {n_searched}, whose question and "
        "context are most similar, by the TF-IDF of words and word pairs.",
    ]
    if trimmed := sum(scored.trimmed_tokens > 0 for scored in scores.values()):
        notes.append(f"{trimmed} of {console.count(len(scores), 'context')} trimmed to fit.")
    said = [scores[record.id].label for record in records]
    systems = label_systems(sets, records, looked_up) | {MODEL: [said]}
    return PredictedLabels(records, systems, tuple(notes))


def nearest_labels(train: Sequence[Record], prompts: Sequence[str]) -> list[str]:
    """Return the label of the training record that is nearest to each prompt."""
    numbers = nearest(len(train), lambda number: prompt_text("answer", train[number]), prompts)
    return [train[number].decision or "" for number in numbers]


def training_answers(
    examples: TrainingExamples, ids: Sequence[str], *, at_most: int
) -> list[Record]:
    """Read labelled records back from the tokens of the training answers, evenly spaced.

    The first ones could all have the same label or come from the same source. `ids` are those of
    all training records.
    """
    count = min(at_most, len(examples))
    records = []
    for number in (place * len(examples) // count for place in range(count)):
        record = parse_answer(examples.prompt(number), examples.target(number))
        records.append(replace(record, id=ids[examples.rows[number, 4]]))
    return records


def label_systems(
    training_sets: Sequence[Sequence[Record]],
    records: Sequence[Record],
    looked_up: Sequence[Sequence[str]],
) -> dict[str, list[Sequence[str]]]:
    """Return the labels that each baseline predicts, once for every training set.

    `looked_up` has the labels of the nearest training records, for each training set. If all sets
    lead to the same labels, they are returned once.
    """
    found: dict[str, list[Sequence[str]]] = {}
    for train, labels_nearby in zip(training_sets, looked_up, strict=True):
        known = [record.decision or "" for record in train]
        question = BagOfWords.fit([record.question for record in train], known)
        evidence = evidence_of(train)
        results = BagOfWords.fit([evidence(r) for r in train], known, balanced=True)
        predicted = {
            "majority": [majority_label(known)] * len(records),
            NEAREST: labels_nearby,
            "question only (bag of words)": question.predict([r.question for r in records]),
            "question and results (bag of words)": results.predict(
                [evidence(record) for record in records]
            ),
        }
        for name, labels in predicted.items():
            found.setdefault(name, []).append(labels)
    return {
        name: fits[:1] if all(each == fits[0] for each in fits) else fits
        for name, fits in found.items()
    }


def mean_figures(gold: Sequence[str], fits: Sequence[Sequence[str]]) -> LabelFigures:
    """Return all figures of a single fit, or four means over several."""
    scored = [label_figures(gold, said) for said in fits]
    if len(scored) == 1:
        return scored[0]
    return LabelFigures(
        n=len(gold),
        accuracy=mean([each.accuracy for each in scored]),
        macro_f1=mean([each.macro_f1 for each in scored]),
        unparseable=round(mean([each.unparseable for each in scored])),
    )


def label_figures(gold: Sequence[str], said: Sequence[str]) -> LabelFigures:
    """Score predicted labels, with 95 % intervals of accuracy and macro-F1."""
    return LabelFigures(
        **vars(metrics.classification(gold, said)),
        macro_f1_interval=bootstrap_labels(gold, said).macro_f1,
    )


def calibration_section(
    fitted: Calibration, scores: Scores, data: Prepared, split: str
) -> CalibrationSection | None:
    """Measure label probabilities before and after calibration, and the cost of withholding."""
    known = [(scored.log_probs, scored.gold) for scored in scores.values() if scored.gold]
    if not known:
        return None
    log_probs, gold = [row for row, _ in known], [label for _, label in known]

    def errors(temperature: float) -> ProbabilityErrors:
        rows = probabilities.calibrated(log_probs, temperature)
        return ProbabilityErrors(
            ece=probabilities.expected_calibration_error(rows, gold),
            nll=probabilities.negative_log_likelihood(log_probs, gold, temperature=temperature),
            brier=probabilities.brier_score(rows, gold),
        )

    calibrated = fitted.apply(log_probs)
    curve = probabilities.risk_coverage(calibrated, gold)
    kept = [point for point in curve if point.threshold >= fitted.threshold]
    near = fitted.familiarity
    unlike = [near.is_unlike(ids) for ids in answer_prompts(data, split)] if near else []
    return CalibrationSection(
        records=len(known),
        temperature=fitted.temperature,
        note=fitted.note,
        threshold=fitted.threshold,
        coverage=fitted.coverage,
        fitted_on=fitted.fitted_on,
        raw=errors(1.0),
        calibrated=errors(fitted.temperature),
        reliability=tuple(probabilities.reliability(calibrated, gold)),
        risk_coverage=tuple(Coverage(coverage=p.coverage, risk=p.risk) for p in curve),
        aurc=probabilities.area_under_risk_coverage(curve),
        abstained=1 - kept[-1].coverage if kept else 1.0,
        accuracy_kept=1 - kept[-1].risk if kept else None,
        prompts=len(unlike),
        unlike_training=mean(unlike) if unlike else None,
    )


# Perplexity


def perplexity_section(items: Iterable[Mapping[str, Any]]) -> PerplexitySection | None:
    """Compute corpus perplexity from stored losses; return None if there are no tokens.

    The end-of-text token is left out of `text`: predicting it is a matter of format and says
    nothing about the words.
    """
    keys = ("nats", "tokens", "end_nats", "ends", "words", "bytes")
    rows = np.array([[item[key] for key in keys] for item in items if item.get("tokens")])
    if not len(rows):
        return None
    nats, tokens, end_nats, ends, words, n_bytes = rows.sum(axis=0).tolist()
    sizes = {"words": int(words), "utf8_bytes": int(n_bytes)}
    text = metrics.perplexity(nats=nats, tokens=int(tokens), **sizes)
    with_end = metrics.perplexity(nats=nats + end_nats, tokens=int(tokens + ends), **sizes)
    around = bootstrap_ratio(rows[:, 0], rows[:, 1])
    interval = Interval(low=metrics.exp(around.low), high=metrics.exp(around.high))
    return PerplexitySection(
        records=len(rows),
        trained=None,
        text=PerplexityFigures(**vars(text), token_perplexity_interval=interval),
        with_end=PerplexityFigures(**vars(with_end)) if ends else None,
    )


# Generated texts


# What is counted of one text against its source. `compared` is 1 if there is a source; without
# one, only the words are counted.
COUNTED = ("compared", *KINDS, "flags", "numbers", "numbers_flagged", "words", "novel", "terms")


@dataclass
class TextScores:
    """Scores of one task's outputs and of its baselines, kept as rows of numbers."""

    task: str
    baselines: Mapping[str, Callable[[Record], str]] = field(default_factory=lambda: SUMMARIES)
    common: CommonAnswers | None = None  # of the training split
    learned: Collection[str] = ()  # terms
    headings: Sequence[str] = HEADINGS  # of the data's documents
    scores: dict[str, list[list[float]]] = field(default_factory=dict)  # ROUGE, BLEU's counts
    counts: dict[str, list[list[float]]] = field(default_factory=dict)  # COUNTED
    # Output, reference, and the heading that the prompt asked for.
    documents: list[tuple[str, str, str | None]] = field(default_factory=list)
    endings: list[tuple[bool, int]] = field(default_factory=list)  # cut off, trimmed tokens
    agreeing: list[bool] = field(default_factory=list)  # label in the text scores highest
    is_common: list[bool] = field(default_factory=list)  # whether `common` has the reference
    ids: list[str] = field(default_factory=list)  # of the scored records

    def add(self, output: Output, record: Record, scored_label: str | None) -> None:
        """Score one output, and what each baseline returns for its record.

        An answer whose reference is only a label counts for the agreement of labels alone.
        """
        text, reference = output.text, output.reference
        if self.task == "answer":
            if scored_label:
                self.agreeing.append(text.split("\n")[0].strip() == scored_label)
            text, reference = explained(text), explained(reference)
            if not reference:
                return
        self.ids.append(record.id)
        self.endings.append((output.finish_reason == "length", output.trimmed_tokens))
        if self.task == "document":
            self.documents.append((output.text, output.reference, record.heading))
        self.is_common.append(self.common is not None and reference in self.common)
        systems = {name: copy(record) for name, copy in self.baselines.items()} | {MODEL: text}
        source = source_text(record, self.task)
        for name, hypothesis in {REFERENCE: reference, **systems}.items():
            self.counts.setdefault(name, []).append(
                source_counts(hypothesis, source, record.question, self.learned)
            )
        for name, hypothesis in systems.items():
            row = [*metrics.rouge_scores(hypothesis, reference), len(reference.split())]
            row += metrics.bleu_counts(hypothesis, reference)
            self.scores.setdefault(name, []).append(row)

    def section(self) -> TextSection | None:
        """Return the section of the report; None if no output has a reference."""
        if not self.scores:
            return None
        baselines = self._baselines()
        limits, trimmed = zip(*self.endings, strict=True)
        return TextSection(
            systems={name: self._figures(name) for name in (REFERENCE, *baselines, MODEL)},
            differences={name: self._differences(name) for name in baselines},
            by_reference=dict(self._by_reference((*baselines, MODEL))),
            notes=tuple(training_notes(self.common)),
            hit_the_limit=mean(limits),
            trimmed_prompts=sum(tokens > 0 for tokens in trimmed),
            trimmed_tokens=sum(trimmed),
            structure=self._structure() if self.documents else None,
        )

    def by_record(self) -> Iterator[dict[str, Any]]:
        """Yield a row of scores.jsonl for each scored record."""
        systems = (*self._baselines(), MODEL) if self.scores else ()
        for number, (record_id, is_common) in enumerate(zip(self.ids, self.is_common, strict=True)):
            rouge = {
                name: dict(zip(ROUGE_TYPES, self.scores[name][number], strict=False))
                for name in systems
            }
            yield {
                "record_id": record_id,
                "task": self.task,
                "reference": COMMON if is_common else RARE,
                "rouge": rouge,
            }

    def _baselines(self) -> list[str]:
        """Return the baselines that had something to copy from."""
        baselines = [name for name in self.scores if name != MODEL]
        if any(compared for compared, *_ in self.counts[MODEL]):
            return baselines
        return [name for name in baselines if name in ("question", COMMONEST, NEAREST)]

    def _differences(self, baseline: str) -> dict[str, Difference]:
        """Compare the model with a baseline on the same records."""
        n_rouge = len(ROUGE_TYPES)
        theirs, ours = (np.array(self.scores[name]) for name in (baseline, MODEL))
        gaps = ours[:, :n_rouge] - theirs[:, :n_rouge]
        means = gaps.mean(axis=0).tolist()
        resampled = resampled_sums(gaps, seed=0, resamples=2000) / len(gaps)
        found = {
            kind: Difference(value=value, interval=percentile_interval(figures))
            for kind, value, figures in zip(ROUGE_TYPES, means, resampled.T, strict=True)
        }
        counts = np.hstack([theirs[:, n_rouge + 1 :], ours[:, n_rouge + 1 :]])
        return found | {
            "bleu": Difference(
                value=float(_bleu_change(counts.sum(axis=0, keepdims=True))[0]),
                interval=bootstrap_sums(counts, _bleu_change),
            )
        }

    def _structure(self) -> Structure:
        outputs, references, asked = zip(*self.documents, strict=True)
        return structure(outputs, references, self.headings, asked)

    def _by_reference(self, systems: Sequence[str]) -> Iterator[tuple[str, ReferenceGroup]]:
        """Split the scores by kind of reference, if there are enough of both kinds."""
        is_common = np.array(self.is_common)
        if not COMMON_SHARE <= is_common.mean() < 1:
            return
        n_rouge = len(ROUGE_TYPES)
        scores = {name: np.array(self.scores[name])[:, :n_rouge] for name in systems}
        for kind, chosen in ((COMMON, is_common), (RARE, ~is_common)):
            means = {name: rows[chosen].mean(axis=0).tolist() for name, rows in scores.items()}
            rouge = {name: metrics.rouge_of(row) for name, row in means.items()}
            yield kind, ReferenceGroup(records=int(chosen.sum()), rouge=rouge)

    def _figures(self, name: str) -> TextFigures:
        figures = text_figures(np.array(self.counts[name]))
        if name == REFERENCE:
            return figures
        rows = np.array(self.scores[name])
        n_rouge = len(ROUGE_TYPES)
        bleu_counts = rows[:, n_rouge + 1 :]
        return replace(
            figures,
            rouge=metrics.rouge_of(rows[:, :n_rouge].mean(axis=0).tolist()),
            rougeL_interval=bootstrap_mean(rows[:, ROUGE_TYPES.index("rougeL")]),
            bleu=metrics.bleu_of(bleu_counts.sum(axis=0).astype(int).tolist()),
            bleu_interval=bootstrap_sums(bleu_counts, _bleu_scores),
            mean_reference_words=float(rows[:, n_rouge].mean()),
        )


def _bleu_scores(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the corpus BLEU of each row of summed counts."""
    return np.array([metrics.bleu_of(row).score for row in sums.astype(int).tolist()])


def _bleu_change(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the BLEU of each row's right half of summed counts minus that of its left half."""
    before, after = np.hsplit(sums, 2)
    return _bleu_scores(after) - _bleu_scores(before)


def text_baselines(
    task: str, data: Prepared, tokenizer: Tokenizer, records: Iterable[Record]
) -> tuple[dict[str, Callable[[Record], str]], CommonAnswers | None]:
    """Return a task's baselines for `records` by name, and the commonest training answers.

    They copy from the record or from the training split; without training answers, from the record.
    """
    names = TASK_TABLE[task].baselines
    found = {name: copy for name, copy in SUMMARIES.items() if name in names}
    asked = {record.id: prompt_text(task, record) for record in records}
    if not asked:
        return found, None
    examples = TrainingExamples.read(data, tokenizer, task).with_text()
    if task == "document" and data.document_form.window:
        examples = examples.by_section()
    if not len(examples):
        return found, None
    common = CommonAnswers.count(examples)
    numbers = nearest(len(examples), examples.prompt, list(asked.values()))
    closest = dict(zip(asked, numbers, strict=True))
    found[COMMONEST] = lambda record: common.commonest
    found[NEAREST] = lambda record: examples.answer(closest[record.id])
    return found, common


def training_notes(common: CommonAnswers | None) -> Iterator[str]:
    """Say how the baselines from the training split were found."""
    if common is None:
        yield "The data have no training answers for this task, so no baseline comes from them."
        return
    total = console.count(common.total)
    yield (
        f"{NEAREST}: the answer of the training record, among {total}, whose prompt is most "
        "similar to the record's, by the TF-IDF of words and word pairs."
    )
    if common.counts[0] == 1:
        yield f"{COMMONEST}: no answer occurs twice in the training split; one is shown."
    else:
        yield f"{COMMONEST}: that of {console.count(common.counts[0])} of {total} training records."


def source_counts(
    text: str, source: str | None, question: str = "", learned: Collection[str] = ()
) -> list[float]:
    """Count what one text says that its source does not; one number for each of COUNTED."""
    if source is None:
        return [len(text.split()) if name == "words" else 0 for name in COUNTED]
    kinds = [flag.kind for flag in find_flags(text, source)]
    return [
        1,
        *(kind in kinds for kind in KINDS),
        len(kinds),
        len(find_numbers(text)),
        kinds.count("number"),
        len(text.split()),
        novel_bigrams(text, source),
        len(find_terms(text, f"{question}\n{source}", learned)),
    ]


def text_figures(rows: NDArray[np.float64]) -> TextFigures:
    """Average rows of `source_counts`; shares are of the texts with a source, or of all numbers."""
    total = dict(zip(COUNTED, rows.sum(axis=0).tolist(), strict=True))
    compared = int(total["compared"])
    flagged = int((rows[:, COUNTED.index("flags")] > 0).sum())
    numbers = total["numbers"]
    return TextFigures(
        texts=len(rows),
        mean_words=total["words"] / len(rows),
        empty=int((rows[:, COUNTED.index("words")] == 0).sum()),
        novel_bigrams=total["novel"] / compared if compared else None,
        unsupported=Unsupported(
            texts=compared,
            flagged=flagged / compared,
            per_kind={kind: total[kind] / compared for kind in KINDS},
            flags_per_text=total["flags"] / compared,
            unsupported_numbers=total["numbers_flagged"] / numbers if numbers else 0.0,
        )
        if compared
        else None,
        unsupported_terms=UnsupportedTerms(
            texts=compared,
            flagged=int((rows[:, COUNTED.index("terms")] > 0).sum()) / compared,
            terms_per_text=total["terms"] / compared,
        )
        if compared
        else None,
    )


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean, or 0 for no values."""
    return sum(values) / len(values) if values else 0.0


OUTPUT = tuple(each.name for each in fields(Output))


def stored_outputs(parts: ResultStore, task: str) -> Iterator[tuple[int, Output]]:
    """Yield the stored outputs of a task, each with the number of its record in the split."""
    for item in parts.items(task):
        if "text" in item:
            yield item["n"], Output(**{name: item[name] for name in OUTPUT})


def outputs_with_records(
    parts: ResultStore, data: Prepared, split: str, task: str
) -> Iterator[tuple[Output, Record]]:
    """Yield each output with its record; both are read once, in the order of the split."""
    records = enumerate(data.records(split))
    for number, output in stored_outputs(parts, task):
        yield output, next(record for n, record in records if n == number)


def shown_examples(
    parts: ResultStore,
    data: Prepared,
    split: str,
    task: str,
    scores: Scores,
    calibration: Calibration | None,
    tokenizer: Tokenizer,
    learned: Collection[str],
    *,
    count: int,
) -> Iterator[ShownExample]:
    """Yield `count` outputs of a task with their prompts, labels and flags."""
    chosen = chosen_ids((output.record_id for _, output in stored_outputs(parts, task)), count)
    for output, record in outputs_with_records(parts, data, split, task):
        if output.record_id not in chosen:
            continue
        scored = scores.get(record.id) if task == "answer" else None
        prompt = prompt_text(task, record)
        judgement = scored.judge(calibration, tokenizer.encode(prompt)) if scored else None
        flags = find_warnings(output.text, record, task, learned)
        yield ShownExample(
            id=output.record_id,
            task=task,
            prompt=prompt,
            reference=output.reference,
            output=output.text,
            finish_reason=output.finish_reason,
            trimmed_tokens=output.trimmed_tokens,
            compared=flags is not None,
            flags=tuple(flags or ()),
            gold=scored.gold if scored else None,
            label=judgement["label"] if judgement else None,
            probabilities=judgement["probabilities"] if judgement else {},
            abstained=judgement["abstained"] if judgement else None,
            unlike_training=judgement["unlike_training"] if judgement else None,
        )


def chosen_ids(ids: Iterable[str], count: int) -> set[str]:
    """Choose record ids by their hash, so neither the order nor the quality of outputs matters."""
    ranked = ((hashlib.sha256(name.encode()).digest(), name) for name in ids)
    return {name for _, name in heapq.nsmallest(count, ranked)}
