"""Measure checkpoints on labels, perplexity and generated text, beside baselines.

    python eval.py --checkpoint=out/pubmedqa/best --split=test
    python eval.py --checkpoint=gpt2 --data=data/pubmedqa --text=news.txt
    python eval.py --checkpoint out/fold*/best  # pool folds, compare seeds
    torchrun --standalone --nproc_per_node=8 eval.py --checkpoint=out/run/best

Labels are chosen by log-probability, so every record gets one; text is decoded
greedily. PubMedQA is evaluated in its reasoning-required setting: the model
sees the question and the context, never the conclusion. The same command
resumes an interrupted evaluation. The output folder contains report.html,
report.md, report.json, predictions.json (for PubMedQA's official evaluation
script), probabilities.json, outputs.jsonl and scores.jsonl.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from clingpt.base import console, jsonl
from clingpt.base import settings as config
from clingpt.base.errors import ConfigError
from clingpt.base.files import one_writer, sha256, write_json, write_whole


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    # --- model ---
    # Checkpoint or run folders, gpt2 to gpt2-xl, or Hugging Face Hub ids; several are compared.
    checkpoint: tuple[str, ...] = ()
    # PEFT adapter (LoRA) to merge into the checkpoint, a folder or a Hub id. An adapter that names
    # its base can also be passed as --checkpoint.
    adapter: str | None = None

    # --- data ---
    # Prepared folder; None is the one that the checkpoint was trained on.
    data: Path | None = None
    # Split to measure on. Tune on val; evaluations on the test split are counted in the report.
    split: Literal["val", "test"] = "val"
    # Show the record's conclusion instead of its context, and measure labels only.
    reasoning_free: bool = False
    texts: int | None = None  # records to generate text for, from the start; None: all
    # Text files whose perplexity shows how much general language the model has forgotten.
    text: tuple[Path, ...] = ()

    # --- decoding ---
    max_new_tokens: int = 160  # longest answer or summary, in tokens
    max_document_tokens: int = 448  # longest document, in tokens
    max_prose_tokens: int = 256  # longest reply of the task explain, in tokens
    # Share of validation records that should get a label; the model abstains on the others.
    coverage: float = 0.8

    # --- output ---
    # Folder to write; None is eval_SPLIT in the run folder, or eval_SPLIT_NAME for other data.
    out: Path | None = None

    # --- hardware ---
    batch_size: int = 16  # rows per forward pass
    device: str = "auto"  # auto, cpu, cuda, cuda:1 or mps
    # Precision of matrix products.
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    # Precision in which weights are kept. 16 bits halve their memory, and are then multiplied in
    # that precision, too.
    weights: Literal["float32", "bfloat16", "float16"] = "float32"
    # int8 stores weights in 8 bits, on the CPU, and reports what that costs.
    quantize: Literal["none", "int8"] = "none"

    def __post_init__(self) -> None:
        config.check(bool(self.checkpoint), "pass --checkpoint, for example out/pubmedqa/best")
        config.check_range(self, "texts", at_least=0)
        limits = ("max_new_tokens", "max_document_tokens", "max_prose_tokens")
        config.check_range(self, *limits, "batch_size", at_least=1)
        config.check(0 < self.coverage <= 1, "coverage must be above 0 and at most 1")
        names = [path.name for path in self.text]
        config.check(len(set(names)) == len(names), "two --text files have the same name")


def parse_flags() -> EvalConfig:
    return config.parse(EvalConfig, sys.argv[1:], prog="eval.py", description=__doc__ or "")


if __name__ == "__main__":
    # Answer --help and refuse mistaken flags before the imports below, which take seconds.
    console.run(parse_flags)

from clingpt.data.prepared import Prepared, trained_tasks
from clingpt.decoding.decoders import make_decoder
from clingpt.decoding.sampling import Sampling
from clingpt.evaluation.calibration import Calibration
from clingpt.evaluation.measure import Evaluation, ResultStore, count_look, open_data, passages_of
from clingpt.evaluation.quantization_cost import quantization_section
from clingpt.evaluation.scorer import Scorer
from clingpt.evaluation.terms import Terms
from clingpt.nn import runtime
from clingpt.nn.checkpoint import Loaded, identity, load_to_use, locate, read_card, results_folder
from clingpt.nn.runtime import Runtime
from clingpt.reports.comparison import comparison_report
from clingpt.reports.render import model_card, with_audit, write_report
from clingpt.reports.report import (
    Report,
    Scores,
    build_report,
    fit_calibration,
    read_scores,
    stored_outputs,
    terms_of,
)
from clingpt.reports.tables import as_text, tables
from clingpt.text.tasks import TASK_TABLE, TASKS


@dataclass(frozen=True)
class Evaluated:
    """One evaluated checkpoint; only the main process builds it."""

    source: str
    parts: ResultStore
    report: Report
    labels: Mapping[str, tuple[str, str]]  # record id -> gold label, predicted label


def main() -> None:
    cfg = parse_flags()
    with (
        runtime.joined(device=cfg.device, dtype=cfg.dtype, weights=cfg.weights) as rt,
        ExitStack() as owned,
    ):
        # Before any checkpoint is measured: hours later, another process may write the last report.
        for folder in dict.fromkeys(folders_to_write(cfg)):
            owned.enter_context(rt.held_by_main(one_writer(folder, inside=True)))
        with console.on_interrupt(lambda: "run the same command to continue after the last result"):
            done = [evaluate(cfg, source, rt) for source in cfg.checkpoint]
        rt.on_main(lambda: finish(cfg, [each for each in done if each is not None]))


def evaluate(cfg: EvalConfig, source: str, rt: Runtime) -> Evaluated | None:
    """Evaluate one checkpoint and write its report; return None except on the main process."""
    if rt.n_ranks > 1 and cfg.quantize != "none":
        raise ConfigError("--quantize=int8 runs in a single process; start it without torchrun")

    # Load the checkpoint and its data.
    loaded = load_to_use(source, adapter=cfg.adapter, dtype=rt.weights)
    data = open_data(loaded, source, cfg.data, split=cfg.split)
    model = loaded.model.to(rt.device).eval()
    n_parameters = sum(p.numel() for p in model.parameters())  # before the decoder packs layers
    decoder = make_decoder(model, rt, quantize=cfg.quantize)
    scorer = Scorer(model, decoder, loaded.tokenizer, rt, cfg.batch_size, data.document_form)

    # Measure. Each result is stored at once, so an interrupted evaluation can continue, and several
    # processes share the records.
    folder = report_folder(cfg, loaded.folder)
    parts = ResultStore(folder / "parts", measured_with(cfg, loaded, data), rt)
    if n_done := parts.n_done():
        console.note(f"resuming: {folder} already contains {console.count(n_done, 'result')}")
    look = None
    if cfg.split == "test":
        run = results_folder(loaded.folder)
        look = rt.on_main(lambda: count_look(run, source, data.fingerprint, is_new=parts.is_new))
    measure(cfg, Evaluation(scorer, data, parts), needs_fit=needs_fit(cfg, loaded, data))
    parts.gather()
    if not rt.is_main:
        return None

    # Report.
    int8 = None if cfg.quantize == "none" else quantization_section(source, scorer, data, cfg.split)
    scores = read_scores(parts)
    calibration = None
    if not cfg.reasoning_free:
        calibration = fit_calibration(loaded, data, parts, cfg.split, coverage=cfg.coverage)
    terms = terms_of(data, loaded.tokenizer)
    report, by_record = build_report(
        loaded,
        data,
        parts,
        scores,
        calibration,
        terms,
        split=cfg.split,
        setting="reasoning-free" if cfg.reasoning_free else "reasoning-required",
        parameters=n_parameters,
        settings=config.to_json(cfg),
        trained=trained_tasks(loaded.card, source),
        look=look,
        int8=int8,
    )
    write_report(folder, report)
    write_by_record(folder, parts, report, scores, by_record)
    # The card and the calibration belong to the weights as they are, on the data they were trained
    # for. Figures of other data, of 8-bit weights or of another prompt do not go there.
    describes_weights = (
        loaded.card.get("data", {}).get("fingerprint") == data.fingerprint
        and cfg.quantize == "none"
        and not cfg.reasoning_free
    )
    if describes_weights:
        write_beside_weights(loaded, data, report, calibration, terms)
    console.say(as_text(tables(report)))
    console.say(
        f"\nWrote {folder}: report.html, report.md, report.json, predictions.json, outputs.jsonl."
    )
    known = {name: (one.gold, one.label) for name, one in scores.items() if one.gold}
    return Evaluated(source, parts, report, known)


def measured_with(cfg: EvalConfig, loaded: Loaded, data: Prepared) -> dict[str, Any]:
    """Return everything that a result depends on; results of different settings are discarded."""
    settings = config.to_json(cfg)
    free = ("checkpoint", "data", "out", "batch_size", "device", "coverage", "text")
    return {key: value for key, value in settings.items() if key not in free} | {
        "checkpoint": identity(loaded.folder),
        "data": data.fingerprint,
        "text": {path.name: sha256(path) for path in cfg.text},
    }


def folders_to_write(cfg: EvalConfig) -> list[Path]:
    """Return the folder of each checkpoint's report, and of their comparison."""
    reports = [report_folder(cfg, locate(source)) for source in cfg.checkpoint]
    return reports if len(reports) == 1 else [*reports, comparison_folder(cfg)]


def comparison_folder(cfg: EvalConfig) -> Path:
    return cfg.out or Path("out") / f"compare_{cfg.split}"


def report_folder(cfg: EvalConfig, checkpoint: Path) -> Path:
    """Return the folder of a checkpoint's report.

    Several checkpoints may belong to one run, so each then gets a subfolder of the run folder. Data
    other than those of the training get a folder of their own, so that no report is replaced.
    """
    name = f"eval_{cfg.split}" + ("_reasoning_free" if cfg.reasoning_free else "")
    trained_on = read_card(checkpoint).get("data", {}).get("folder")
    if cfg.data and trained_on and cfg.data.resolve() != Path(trained_on).resolve():
        name += f"_{cfg.data.resolve().name}"
    if len(cfg.checkpoint) > 1:
        return results_folder(checkpoint) / name / checkpoint.resolve().name
    return cfg.out or results_folder(checkpoint) / name


def needs_fit(cfg: EvalConfig, loaded: Loaded, data: Prepared) -> bool:
    """Whether validation records must be scored to calibrate the labels of another split."""
    if cfg.split == "val" or cfg.reasoning_free:
        return False
    fitted = Calibration.load(loaded.folder)
    wanted = (cfg.coverage, data.fingerprint)
    return fitted is None or (fitted.coverage, fitted.fitted_on.fingerprint) != wanted


def measure(cfg: EvalConfig, evaluation: Evaluation, *, needs_fit: bool) -> None:
    """Measure labels, perplexity and texts, skipping what is already stored."""
    tasks, split = evaluation.data.tasks, cfg.split
    if "answer" in tasks:
        evaluation.labels("labels", split, reasoning_free=cfg.reasoning_free)
        if needs_fit:
            evaluation.labels("val_labels", "val", reasoning_free=False)
    if cfg.reasoning_free:
        return
    for name, passage_of in passages_of(tasks).items():
        evaluation.losses(name, split, passage_of)
    for path in cfg.text:
        evaluation.text_losses(f"text {path.name}", path)
    for task in tasks:
        if task == "text" or cfg.texts == 0:
            continue
        # A short context keeps at least half of its tokens for the prompt.
        longest = min(getattr(cfg, TASK_TABLE[task].limit_flag), evaluation.scorer.context // 2)
        evaluation.texts(task, split, Sampling(max_new_tokens=longest), cfg.texts)


def write_by_record(
    folder: Path,
    parts: ResultStore,
    report: Report,
    scores: Scores,
    by_record: Iterable[Mapping[str, Any]],
) -> None:
    """Write what belongs to single records: labels, texts, and what each system scores on them."""
    write_json(folder / "predictions.json", {name: one.label for name, one in scores.items()})
    shares = {name: scored.probabilities for name, scored in scores.items()}
    write_json(folder / "probabilities.json", shares)
    tasks = [task for task in TASKS if task in report.texts]
    outputs = (asdict(output) for task in tasks for _, output in stored_outputs(parts, task))
    jsonl.write(folder / "outputs.jsonl", outputs)
    jsonl.write(folder / "scores.jsonl", by_record)


def write_beside_weights(
    loaded: Loaded,
    data: Prepared,
    report: Report,
    calibration: Calibration | None,
    terms: Terms,
) -> None:
    """Write calibration.json, terms.json and the model card into the checkpoint's folder.

    A card with test figures is not replaced by one with validation figures.
    """
    if not loaded.folder.is_dir():
        console.note(f"{loaded.folder} was deleted during the evaluation; its card was not written")
        return
    if calibration is not None:
        calibration.save(loaded.folder)
    terms.save(loaded.folder)
    readme = loaded.folder / "README.md"
    if report.split == "test" or not readme.exists():
        card = model_card(
            report,
            base=loaded.card["settings"]["init_from"],
            lora_rank=loaded.card["settings"].get("lora_rank", 0),
            tasks=data.tasks,
            receipts=loaded.card.get("receipts", []),
        )
        write_whole(readme, with_audit(card, loaded.folder))


def finish(cfg: EvalConfig, done: Sequence[Evaluated]) -> None:
    """Compare several checkpoints, remove the stored results, and say what to do next."""
    if len(done) > 1:
        folder = comparison_folder(cfg)
        compared = comparison_report({each.source: (each.report, each.labels) for each in done})
        write_report(folder, compared)
        console.say(as_text(tables(compared)))
        console.say(f"\nWrote {folder}: report.html, report.md, report.json.")
    for each in done:
        each.parts.remove()
    first = done[0]
    if first.report.texts:
        command = console.command(
            "sample.py",
            f"--checkpoint={first.source}",
            f"--task={next(iter(first.report.texts))}",
            f"--input={first.report.data.folder}/{cfg.split}.jsonl",
        )
        console.say(f"Next:  {command}")


if __name__ == "__main__":
    console.run(main)
