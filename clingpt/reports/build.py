"""A checkpoint's measured items put together: the report, the model card, the files beside them.

Reads records and items side by side, in the order of the split; holds ids, labels and numbers, and
of the texts only those that are shown.
"""

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from clingpt.base import console, jsonl
from clingpt.base.files import write_whole
from clingpt.data.augmentation import origin
from clingpt.data.prepared import Prepared
from clingpt.data.splits import N_FOLDS, official_folds, official_test_ids
from clingpt.evaluation.baselines import NEAREST, SUMMARIES, Nearest
from clingpt.evaluation.calibration import Calibration
from clingpt.evaluation.faithfulness import find_flags
from clingpt.evaluation.label_scores import LabelScores
from clingpt.evaluation.measure import passages_of
from clingpt.evaluation.results_store import Parts
from clingpt.evaluation.scorer import Output
from clingpt.nn.checkpoint import Loaded
from clingpt.reports import aggregate
from clingpt.reports.model_card import model_card, with_audit
from clingpt.reports.page import page
from clingpt.reports.tables import as_markdown, tables
from clingpt.text.records import Record
from clingpt.text.tasks import TASKS, parse_answer, prompt_text, source_text

BASELINE_RECORDS = 5_000  # enough to fit a bag of words on, within seconds
BAG_SETTINGS = (
    "Bag of words: logistic regression (C = 1) on TF-IDF of words and word pairs that at least 2 "
    "training texts hold, log tf, fitted on {what}; classes weighted equally for question and "
    "results."
)
OUTPUT = ("record_id", "task", "text", "reference", "finish_reason", "trimmed_tokens")


class Assembly:
    """All that was measured of a checkpoint on a split."""

    def __init__(
        self,
        loaded: Loaded,
        data: Prepared,
        parts: Parts,
        split: str,
        *,
        reasoning_free: bool = False,
    ) -> None:
        self._loaded, self._data, self._parts, self._split = loaded, data, parts, split
        self._setting = "reasoning-free" if reasoning_free else "reasoning-required"
        self._scored = self._scores("labels")
        self._calibration: Calibration | None = None

    @property
    def labels(self) -> dict[str, tuple[str, str]]:
        """Truth and label of each record whose truth is known."""
        return {name: (s.gold, s.label) for name, s in self._scored.items() if s.gold}

    def report(
        self,
        *,
        coverage: float,
        parameters: int,
        settings: Mapping[str, Any],
        look: int | None = None,
        int8: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The whole report (docs/formats.md)."""
        self._calibrate(coverage)
        texts, agreeing = self._texts()
        ids = self._data.record_ids(self._split)
        return {
            "format": aggregate.FORMAT,
            "checkpoint": str(self._loaded.folder),
            "step": self._loaded.card.get("step"),
            "parameters": parameters,
            "data": {
                "folder": str(self._data.folder),
                "fingerprint": self._data.fingerprint,
                "name": data_name(ids, self._split),
            },
            "split": self._split,
            "look": look,
            "setting": self._setting,
            "settings": dict(settings),
            "versions": versions(),
            "labels": self._label_section(),
            "calibration": self._calibration_section(),
            "perplexity": self._perplexity_section(),
            "texts": texts,
            "label_agreement": aggregate.mean(agreeing) if agreeing else None,
            "int8": dict(int8 or {}),
            "curve": self._curve(),
            "examples": self._examples(list(texts)),
        }

    def write(self, folder: Path, content: Mapping[str, Any]) -> None:
        """The report in three forms, what the model said, its calibration and its card."""
        folder.mkdir(parents=True, exist_ok=True)
        aggregate.write_json(folder / "report.json", content)
        write_whole(folder / "report.md", as_markdown(tables(content)))
        write_whole(folder / "report.html", page(content))
        said = {name: scored.label for name, scored in self._scored.items()}
        aggregate.write_json(folder / "predictions.json", said)
        shares = {name: scored.probabilities for name, scored in self._scored.items()}
        aggregate.write_json(folder / "probabilities.json", shares)
        tasks = [task for task in TASKS if task in content["texts"]]
        lines = ({k: o[k] for k in OUTPUT} for task in tasks for o in self._outputs(task))
        aggregate.write_jsonl(folder / "outputs.jsonl", lines)
        if self._describes_the_weights(content):
            self._write_beside_weights(content)

    def _describes_the_weights(self, content: Mapping[str, Any]) -> bool:
        """Whether these figures are of the checkpoint as it is, on the data it was trained for."""
        trained_on = self._loaded.card.get("data", {}).get("fingerprint")
        as_it_is = content["settings"]["quantize"] == "none"
        return (
            trained_on == self._data.fingerprint
            and as_it_is
            and (self._setting == "reasoning-required")
        )

    def _write_beside_weights(self, content: Mapping[str, Any]) -> None:
        """calibration.json and the card; a card that shows test figures stays."""
        folder = self._loaded.folder
        if self._calibration is not None:
            self._calibration.save(folder)
        if self._split == "test" or not (folder / "README.md").exists():
            trained = self._loaded.card["settings"]
            told = {"base": trained["init_from"], "lora_rank": trained.get("lora_rank", 0)}
            receipts = self._loaded.card.get("receipts", [])
            card = model_card(content, tasks=self._data.tasks, receipts=receipts, **told)
            write_whole(folder / "README.md", with_audit(card, folder))

    # Labels

    def _scores(self, name: str) -> dict[str, LabelScores]:
        return {
            item["id"]: LabelScores(
                item["id"], item["gold"], tuple(item["log_probs"]), item["trimmed_tokens"]
            )
            for item in self._parts.items(name)
            if "id" in item
        }

    def _label_section(self) -> dict[str, Any]:
        """The model's labels beside the majority's and two bags of words, on labelled records."""
        known = self.labels
        records = [r for r in self._data.records(self._split) if r.id in known]
        train = list(islice(training_answers(self._data, self._loaded), BASELINE_RECORDS))
        if not records or not train:
            return {}
        sets = self._training_sets(train)
        said = [known[record.id][1] for record in records]
        what = (
            f"the {console.count(len(train))} labelled training records"
            if len(sets) == 1
            else "nine of PubMedQA's ten folds, mean of the ten ways"
        )
        notes = [BAG_SETTINGS.format(what=what)]
        if trimmed := sum(scored.trimmed_tokens > 0 for scored in self._scored.values()):
            notes.append(f"{trimmed} of {len(self._scored)} contexts were trimmed to fit.")
        return {"systems": aggregate.label_systems(sets, records, said), "notes": notes}

    def _training_sets(self, train: list[Record]) -> list[list[Record]]:
        """What baselines learn from: the training records, or nine of the ten official folds each.

        450 records are so few that one fold's bag of words is 3 points above another's.
        """
        held_out = [r for r in self._data.records("val") if r.question and r.decision]
        folds = official_folds(record.id for record in train + held_out)
        if self._split != "test" or folds is None or set(folds) != set(range(N_FOLDS)):
            return [train]
        labelled = list(zip(train + held_out, folds, strict=True))
        return [[record for record, fold in labelled if fold != k] for k in range(N_FOLDS)]

    # Calibration

    def _calibrate(self, coverage: float) -> None:
        """Fit on the validation records, or take what was fitted on them before."""
        if self._setting == "reasoning-free":
            return
        fitting = self._scored if self._split == "val" else self._scores("val_labels")
        known = [scored for scored in fitting.values() if scored.gold]
        if self._split != "val" and not known:
            self._calibration = Calibration.load(self._loaded.folder)
        elif known:
            self._calibration = Calibration.fit(
                [scored.log_probs for scored in known],
                [scored.gold or "" for scored in known],
                coverage=coverage,
                fitted_on={
                    "split": "val",
                    "records": len(known),
                    "fingerprint": self._data.fingerprint,
                },
            )

    def _calibration_section(self) -> dict[str, Any]:
        known = [scored for scored in self._scored.values() if scored.gold]
        if self._calibration is None or not known:
            return {}
        gold = [scored.gold or "" for scored in known]
        return aggregate.calibration_entry(self._calibration, [s.log_probs for s in known], gold)

    # Perplexity

    def _perplexity_section(self) -> dict[str, Any]:
        """Of contexts, of explanations and prose given all before them, of the texts asked for."""
        names = {name: name for name in passages_of(TASKS)}
        names |= {n: n.removeprefix("text ") for n in self._parts.names() if n.startswith("text ")}
        entries = {
            shown: aggregate.perplexity_entry(self._parts.items(name))
            for name, shown in names.items()
        }
        return {name: entry for name, entry in entries.items() if entry}

    # Texts

    def _outputs(self, task: str) -> Iterator[dict[str, Any]]:
        return (item for item in self._parts.items(task) if "text" in item)

    def _with_records(self, task: str) -> Iterator[tuple[Output, Record]]:
        records = enumerate(self._data.records(self._split))
        for item in self._outputs(task):
            record = next(record for n, record in records if n == item["n"])
            yield Output(**{key: item[key] for key in OUTPUT}), record

    def _texts(self) -> tuple[dict[str, Any], list[bool]]:
        """Each task's outputs against their references, and how often labels said are scored."""
        section, agreeing = {}, []
        for task in self._data.tasks:
            found = aggregate.Texts(task, self._copies(task))
            pairs = self._with_records(task)
            for output, record in console.progress(pairs, label=f"scoring: {task}", unit=" texts"):
                scored = self._scored.get(record.id)
                found.add(output, record, scored.label if scored else None)
            if entry := found.entry():
                section[task] = entry
            agreeing += found.agreeing
        return section, agreeing

    def _copies(self, task: str) -> dict[str, Callable[[Record], str]]:
        """What anyone gets by copying, and for a question by looking it up in the training set."""
        if task != "explain":
            return SUMMARIES
        nearest = Nearest(self._data, self._loaded.tokenizer)
        return SUMMARIES | ({NEAREST: nearest.answer} if len(nearest) else {})

    def _examples(self, tasks: Sequence[str]) -> list[dict[str, Any]]:
        """Some outputs with their prompts, chosen by a hash of the id."""
        examples = []
        for task in tasks:
            ids = (output["record_id"] for output in self._outputs(task))
            chosen = aggregate.chosen_examples(ids, aggregate.EXAMPLES // len(tasks))
            for output, record in self._with_records(task):
                if output.record_id in chosen:
                    examples.append(self._example(output, record))
        return examples

    def _example(self, output: Output, record: Record) -> dict[str, Any]:
        scored = self._scored.get(record.id) if output.task == "answer" else None
        judgement = scored.judge(self._calibration) if scored else None
        source = source_text(record, output.task)
        flags = [] if source is None else find_flags(output.text, source)
        return {
            "id": output.record_id,
            "task": output.task,
            "prompt": prompt_text(output.task, record),
            "reference": output.reference,
            "output": output.text,
            "finish_reason": output.finish_reason,
            "trimmed_tokens": output.trimmed_tokens,
            "compared": source is not None,
            "flags": [
                {"kind": f.kind, "start": f.start, "end": f.end, "text": f.text} for f in flags
            ],
            "gold": scored.gold if scored else None,
            "label": judgement["label"] if judgement else None,
            "probabilities": judgement["probabilities"] if judgement else {},
            "abstained": judgement["abstained"] if judgement else None,
        }

    def _curve(self) -> list[dict[str, Any]]:
        """The run's losses up to this checkpoint."""
        last = self._loaded.card.get("step")
        if last is None:
            return []
        rows = jsonl.read(self._loaded.folder.parent / "metrics.jsonl")
        keys = ("step", "train_loss", "val_loss")
        kept = (row for row in rows if row.get("step", last + 1) <= last)
        return [{key: row[key] for key in keys if key in row} for row in kept]


def training_answers(data: Prepared, loaded: Loaded) -> Iterator[Record]:
    """The records behind the answers that were trained on, views of them aside, by their tokens."""
    train, decode = data.split("train"), loaded.tokenizer.decode
    ids = data.record_ids("train")
    for row in train.rows_of("answer"):
        name = ids[row[4]]
        if origin(name) == name:
            example = train.example(row)
            record = parse_answer(decode(example.prompt_ids), decode(example.target_ids[:-1]))
            yield replace(record, id=name)


def data_name(ids: Sequence[str], split: str) -> str:
    """What the records are, for a heading."""
    if split == "test" and set(ids) == official_test_ids():
        return "PubMedQA, the official 500 test records"
    return f"{console.count(len(ids))} {split} records"


def versions() -> dict[str, str]:
    """What computed the figures."""
    names = ("torch", "numpy", "nltk", "rouge-score", "sacrebleu")
    return {"python": platform.python_version()} | {name: version(name) for name in names}
