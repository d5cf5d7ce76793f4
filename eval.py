"""Score a checkpoint: labels, perplexity and generated text, beside what anyone gets for free.

    python eval.py --checkpoint=out/pubmedqa/best --split=test
    python eval.py --checkpoint=gpt2 --data=data/pubmedqa --texts=100

Labels are read off three log-probabilities, so that nothing is left unparsed; text is decoded
greedily. PubMedQA is asked reasoning-required: question and context, never the conclusion. The
folder gets report.json, predictions.json (the official evaluation script takes it) and
outputs.jsonl.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from clingpt import config, console, report, runtime
from clingpt.baselines import SUMMARIES, BagOfWords, majority_label, question_and_results
from clingpt.checkpoint import Loaded, load_model
from clingpt.errors import ConfigError, DataError
from clingpt.inference import Quantize, make_decoder
from clingpt.metrics import classification
from clingpt.prepared import Prepared, open_prepared
from clingpt.records import Record
from clingpt.rounding import compare_labels, compare_texts
from clingpt.sampling import Sampling
from clingpt.scoring import (
    LabelScores,
    Output,
    Scorer,
    context_examples,
    explained,
    explanation_examples,
    score_labels,
    score_text,
    write_outputs,
)
from clingpt.tasks import TASKS, parse_answer
from clingpt.tokenizer import Tokenizer

BASELINE_RECORDS = 5_000  # enough to fit a bag of words on, within seconds


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    checkpoint: str = ""  # folder, gpt2 … gpt2-xl or a Hub id
    data: Path | None = None  # prepared folder; None: the one that the checkpoint was trained on
    split: Literal["val", "test"] = "val"  # tune on val; look at test once
    out: Path | None = None  # folder to write; None: eval_<split> in the run's folder
    texts: int | None = None  # records to generate text for, the first ones; None: all
    max_new_tokens: int = 160  # longest generated answer or summary, in tokens
    max_document_tokens: int = 448  # longest generated document, in tokens
    batch_size: int = 16  # rows at once
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"  # of matrix products
    quantize: Quantize = (
        "none"  # int8: weights in 8 bits, on the CPU; what that costs is scored too
    )

    def __post_init__(self) -> None:
        config.check(bool(self.checkpoint), "give --checkpoint, for example out/pubmedqa/best")
        config.check_range(self, "texts", at_least=0)
        config.check_range(self, "max_new_tokens", "max_document_tokens", at_least=1)
        config.check_range(self, "batch_size", at_least=1)


def main() -> None:
    cfg = config.parse(EvalConfig, sys.argv[1:], prog="eval.py", description=__doc__ or "")
    rt = runtime.start(device=cfg.device, dtype=cfg.dtype)
    loaded = load_model(cfg.checkpoint)
    data = open_data(cfg, loaded)
    model = loaded.model.to(rt.device).eval()
    decoder = make_decoder(model, rt, quantize=cfg.quantize)
    scorer = Scorer(model, decoder, loaded.tokenizer, rt, cfg.batch_size)
    records = list(data.records(cfg.split))
    if not records:
        raise DataError(f"{data.folder} holds no {cfg.split} record; prepare it with more records")
    labels = score_labels(scorer, records) if "answer" in data.tasks else []
    outputs = write_texts(scorer, records, data, cfg)
    result = {
        "format": report.FORMAT,
        "checkpoint": str(loaded.folder),
        "step": loaded.card.get("step"),
        "data": {"folder": str(data.folder), "fingerprint": data.fingerprint},
        "split": cfg.split,
        "setting": "reasoning-required",
        "settings": config.to_json(cfg),
        "labels": label_section(labels, data, loaded.tokenizer),
        "perplexity": perplexity_section(scorer, records),
        "texts": text_section(outputs, records),
        "label_agreement": agreement(labels, outputs.get("answer", [])),
        "int8": rounding_section(scorer, records, labels, cfg),
    }
    write_folder(report_folder(cfg, loaded), result, labels, outputs)
    console.say(report.tables(result))
    print_end(cfg, loaded, result, labels)


def open_data(cfg: EvalConfig, loaded: Loaded) -> Prepared:
    """The prepared folder, and a word where it is not the one that the model was trained on."""
    trained_on = loaded.card.get("data", {})
    folder = cfg.data or trained_on.get("folder")
    if folder is None:
        raise ConfigError(f"{cfg.checkpoint} does not name its data; give --data=data/pubmedqa")
    data = open_prepared(Path(folder), loaded.tokenizer)
    if trained_on and trained_on["fingerprint"] != data.fingerprint:
        console.note(f"{cfg.checkpoint} was trained on other data than {folder} now holds")
    return data


def write_texts(
    scorer: Scorer, records: Sequence[Record], data: Prepared, cfg: EvalConfig
) -> dict[str, list[Output]]:
    """Outputs of every generating task, greedy; the limit shrinks in a short context."""
    outputs = {}
    for task in data.tasks:
        if task == "text" or cfg.texts == 0:
            continue
        limit = cfg.max_document_tokens if task == "document" else cfg.max_new_tokens
        sampling = Sampling(max_new_tokens=min(limit, scorer.context // 2))
        outputs[task] = write_outputs(scorer, task, records[: cfg.texts], sampling)
    return {task: written for task, written in outputs.items() if written}


def label_section(
    scores: Sequence[LabelScores], data: Prepared, tokenizer: Tokenizer
) -> dict[str, Any]:
    """The model's labels beside the majority's and two bags of words, on labelled records."""
    scores = [score for score in scores if score.record.decision]
    train = training_answers(data, tokenizer)
    if not scores or not train:
        return {}
    records = [score.record for score in scores]
    gold = [record.decision or "" for record in records]
    train_gold = [record.decision or "" for record in train]
    question = BagOfWords.fit([record.question for record in train], train_gold)
    results = BagOfWords.fit([question_and_results(r) for r in train], train_gold, balanced=True)
    systems = {
        "majority": [majority_label(train_gold)] * len(gold),
        "question only (bag of words)": question.predict([r.question for r in records]),
        "question and results (bag of words)": results.predict(
            [question_and_results(record) for record in records]
        ),
        "model": [score.label for score in scores],
    }
    return {name: report.label_entry(classification(gold, said)) for name, said in systems.items()}


def training_answers(data: Prepared, tokenizer: Tokenizer) -> list[Record]:
    """The records behind the answers that were trained on, read back from their tokens."""
    train = data.split("train")
    answers = train.index[train.index[:, 3] == TASKS.index("answer")][:BASELINE_RECORDS]
    return [
        parse_answer(
            tokenizer.decode(train.tokens[start:first_target].tolist()),
            tokenizer.decode(train.tokens[first_target : end - 1].tolist()),
        )
        for start, first_target, end, _, _ in answers.tolist()
    ]


def perplexity_section(scorer: Scorer, records: Sequence[Record]) -> dict[str, Any]:
    """Of the contexts alone, and of the explanations given question, context and true label."""
    scores = {
        "context": score_text(scorer, context_examples(scorer, records), "context"),
        "explanation": score_text(scorer, explanation_examples(scorer, records), "explanation"),
    }
    return {name: report.perplexity_entry(score) for name, score in scores.items() if score}


def rounding_section(
    scorer: Scorer, records: Sequence[Record], labels: Sequence[LabelScores], cfg: EvalConfig
) -> dict[str, Any]:
    """What 8-bit weights change, beside the same checkpoint in fp32."""
    if cfg.quantize == "none":
        return {}
    model = load_model(cfg.checkpoint, verified=True).model.to(scorer.rt.device).eval()
    exact = replace(scorer, model=model, decoder=make_decoder(model, scorer.rt))
    texts = {
        "context": context_examples(scorer, records),
        "explanation": explanation_examples(scorer, records),
    }
    in_fp32 = score_labels(exact, [score.record for score in labels])
    return {
        "texts": compare_texts(exact, scorer, texts),
        "labels": compare_labels(in_fp32, labels),
    }


def text_section(
    outputs: dict[str, list[Output]], records: Sequence[Record]
) -> dict[str, dict[str, Any]]:
    """Each task's outputs against their references; copying baselines where they make sense."""
    by_id = {record.id: record for record in records}
    section: dict[str, dict[str, Any]] = {}
    for task, written in outputs.items():
        kept = [output for output in written if task != "answer" or explained(output.reference)]
        if not kept:
            continue
        sources = [by_id[output.record_id] for output in kept]
        strip = explained if task == "answer" else str
        references = [strip(output.reference) for output in kept]
        systems = {"model": [strip(output.text) for output in kept]}
        if task != "document":
            systems |= {name: [copy(r) for r in sources] for name, copy in SUMMARIES.items()}
        texts = [report.source_text(record) for record in sources]
        section[task] = {
            name: report.text_entry(hypotheses, references, texts)
            for name, hypotheses in systems.items()
        }
        section[task]["model"] |= report.output_entry(written)
    return section


def agreement(scores: Sequence[LabelScores], answers: Sequence[Output]) -> float | None:
    """How often the label that the model writes is the one that it scores highest."""
    if not answers:
        return None
    scored = {score.record.id: score.label for score in scores}
    return report.mean(
        [output.text.split("\n")[0].strip() == scored.get(output.record_id) for output in answers]
    )


def report_folder(cfg: EvalConfig, loaded: Loaded) -> Path:
    """Beside the checkpoint in its run; under out/ for a model from elsewhere."""
    if cfg.out is not None:
        return cfg.out
    run = loaded.folder.parent if loaded.card else Path("out") / loaded.folder.name
    return run / f"eval_{cfg.split}"


def write_folder(
    folder: Path,
    result: dict[str, Any],
    labels: Sequence[LabelScores],
    outputs: dict[str, list[Output]],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    report.write_json(folder / "report.json", result)
    report.write_json(
        folder / "predictions.json", {score.record.id: score.label for score in labels}
    )
    report.write_json(
        folder / "probabilities.json", {score.record.id: score.probabilities for score in labels}
    )
    lines = [json.dumps(asdict(o), ensure_ascii=False) for each in outputs.values() for o in each]
    (folder / "outputs.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def print_end(
    cfg: EvalConfig, loaded: Loaded, result: dict[str, Any], labels: Sequence[LabelScores]
) -> None:
    trimmed = sum(score.trimmed_tokens > 0 for score in labels)
    if trimmed:
        console.say(f"\n{trimmed} of {len(labels)} contexts were trimmed to fit.")
    if result["label_agreement"] is not None:
        console.say(
            f"\nThe label that the model writes is the one it scores highest in "
            f"{result['label_agreement']:.1%} of its answers."
        )
    folder = report_folder(cfg, loaded)
    console.say(f"\nWrote {folder}: report.json, predictions.json, outputs.jsonl.")
    console.say(
        f"Next:  python sample.py --checkpoint={cfg.checkpoint} --task=answer "
        f"--input={result['data']['folder']}/{cfg.split}.jsonl"
    )


if __name__ == "__main__":
    console.run(main)
