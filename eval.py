"""Score checkpoints: labels, perplexity and generated text, beside what anyone gets for free.

    python eval.py --checkpoint=out/pubmedqa/best --split=test
    python eval.py --checkpoint=gpt2 --data=data/pubmedqa --texts=100 --text=news.txt
    python eval.py --checkpoint out/fold*/best --split=val          folds pooled, seeds compared
    torchrun --standalone --nproc_per_node=8 eval.py --checkpoint=out/pubmedqa/best

Labels are read off three log-probabilities, so that nothing is left unparsed; text is decoded
greedily. PubMedQA is asked reasoning-required: question and context, never the conclusion. What
was stopped goes on with the same command. The folder gets report.html, report.md, report.json,
predictions.json (the official evaluation script takes it) and outputs.jsonl.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from clingpt.base import console
from clingpt.base import settings as config
from clingpt.base.errors import ConfigError
from clingpt.base.files import sha256


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    checkpoint: tuple[str, ...] = ()  # folders, gpt2 … gpt2-xl or Hub ids; several are compared
    data: Path | None = None  # prepared folder; None: the one that the checkpoint was trained on
    split: Literal["val", "test"] = "val"  # tune on val; looks at test are counted
    out: Path | None = None  # folder to write; None: eval_<split> in the run's folder
    reasoning_free: bool = False  # show the conclusion instead of the context, for labels alone
    texts: int | None = None  # records to generate text for, the first ones; None: all
    text: tuple[Path, ...] = ()  # text files whose perplexity shows what was forgotten
    max_new_tokens: int = 160  # longest generated answer or summary, in tokens
    max_document_tokens: int = 448  # longest generated document, in tokens
    max_prose_tokens: int = 256  # longest generated answer in prose alone, in tokens
    coverage: float = 0.8  # of validation records, the share to answer with a label
    batch_size: int = 16  # rows at once
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"  # of matrix products
    quantize: Literal["none", "int8"] = (
        "none"  # int8: weights in 8 bits, on the CPU; what that costs is scored too
    )

    def __post_init__(self) -> None:
        config.check(bool(self.checkpoint), "give --checkpoint, for example out/pubmedqa/best")
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

from clingpt.data.prepared import Prepared
from clingpt.decoding.decoders import make_decoder
from clingpt.decoding.sampling import Sampling
from clingpt.evaluation.calibration import Calibration
from clingpt.evaluation.looks import count_look
from clingpt.evaluation.measure import Evaluation, open_data, passages_of
from clingpt.evaluation.quantization_cost import quantization_section
from clingpt.evaluation.results_store import Parts
from clingpt.evaluation.scorer import Scorer
from clingpt.nn import runtime
from clingpt.nn.checkpoint import Loaded, identity, load_to_use
from clingpt.nn.runtime import Runtime
from clingpt.reports.build import Assembly
from clingpt.reports.comparison import compare
from clingpt.reports.tables import as_text, tables


@dataclass(frozen=True)
class Evaluated:
    """One checkpoint's measurements, put together by the main process alone."""

    name: str
    parts: Parts
    report: dict[str, Any]  # empty elsewhere
    labels: Mapping[str, tuple[str, str]]  # record -> truth, label


def main() -> None:
    cfg = parse_flags()
    with runtime.joined(device=cfg.device, dtype=cfg.dtype) as rt:
        done = [evaluate(cfg, source, rt) for source in cfg.checkpoint]
        rt.on_main(lambda: finish(cfg, done))


def evaluate(cfg: EvalConfig, source: str, rt: Runtime) -> Evaluated:
    """Measure one checkpoint, or go on with it, and write its report."""
    if rt.n_ranks > 1 and cfg.quantize != "none":
        raise ConfigError("--quantize=int8 is measured by one process; start without torchrun")
    loaded = load_to_use(source)
    data = open_data(loaded, source, cfg.data, split=cfg.split)
    model = loaded.model.to(rt.device).eval()
    n_parameters = sum(p.numel() for p in model.parameters())  # decoding changes the layers
    decoder = make_decoder(model, rt, quantize=cfg.quantize)
    scorer = Scorer(model, decoder, loaded.tokenizer, rt, cfg.batch_size)
    folder = report_folder(cfg, loaded)
    parts = Parts(folder / "parts", measured_with(cfg, loaded, data), rt)
    if n_done := parts.n_done():
        console.note(f"{folder} holds {console.count(n_done)} results already; going on")
    look = rt.on_main(
        lambda: (
            count_look(run_folder(loaded), source, data.fingerprint, is_new=parts.is_new)
            if cfg.split == "test"
            else None
        )
    )
    fitted = Calibration.load(loaded.folder)
    wanted = (cfg.coverage, data.fingerprint)
    is_fitted = fitted and (fitted.coverage, fitted.fitted_on["fingerprint"]) == wanted
    measure(cfg, Evaluation(scorer, data, parts), is_fitted=bool(is_fitted))
    parts.gather()
    if not rt.is_main:
        return Evaluated(source, parts, {}, {})
    int8 = {} if cfg.quantize == "none" else quantization_section(source, scorer, data, cfg.split)
    assembly = Assembly(loaded, data, parts, cfg.split, reasoning_free=cfg.reasoning_free)
    report = assembly.report(
        coverage=cfg.coverage,
        parameters=n_parameters,
        settings=config.to_json(cfg),
        look=look,
        int8=int8,
    )
    assembly.write(folder, report)
    console.say(as_text(tables(report)))
    console.say(
        f"\nWrote {folder}: report.html, report.md, report.json, predictions.json, outputs.jsonl."
    )
    return Evaluated(source, parts, report, assembly.labels)


def measured_with(cfg: EvalConfig, loaded: Loaded, data: Prepared) -> dict[str, Any]:
    """All that a result depends on: what was measured otherwise is measured again."""
    settings = config.to_json(cfg)
    free = ("checkpoint", "data", "out", "batch_size", "device", "coverage", "text")
    return {key: value for key, value in settings.items() if key not in free} | {
        "checkpoint": identity(loaded.folder),
        "data": data.fingerprint,
        "text": {path.name: sha256(path) for path in cfg.text},
    }


def report_folder(cfg: EvalConfig, loaded: Loaded) -> Path:
    """In the checkpoint's run; of several, which may be of one run, each in a folder of its own."""
    name = f"eval_{cfg.split}" + ("_reasoning_free" if cfg.reasoning_free else "")
    if len(cfg.checkpoint) > 1:
        return run_folder(loaded) / name / loaded.folder.resolve().name
    return cfg.out or run_folder(loaded) / name


def run_folder(loaded: Loaded) -> Path:
    """Where the checkpoint stands; under out/ for a model from elsewhere."""
    return loaded.folder.parent if loaded.card else Path("out") / loaded.folder.name


def measure(cfg: EvalConfig, evaluation: Evaluation, *, is_fitted: bool) -> None:
    """Everything that is asked for and not there yet."""
    tasks, split = evaluation.data.tasks, cfg.split
    if "answer" in tasks:
        evaluation.labels("labels", split, reasoning_free=cfg.reasoning_free)
        if split != "val" and not (is_fitted or cfg.reasoning_free):
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
        own = {"document": cfg.max_document_tokens, "explain": cfg.max_prose_tokens}
        limit = own.get(task, cfg.max_new_tokens)
        # In a short context half of it is the prompt's.
        sampling = Sampling(max_new_tokens=min(limit, evaluation.scorer.context // 2))
        evaluation.texts(task, split, sampling, cfg.texts)


def finish(cfg: EvalConfig, done: list[Evaluated]) -> None:
    """Compare several, say what to do next, and forget what was kept for going on."""
    if len(done) > 1:
        folder = cfg.out or Path("out") / f"compare_{cfg.split}"
        compare(folder, {each.name: (each.report, each.labels) for each in done})
        console.say(f"\nWrote {folder}: report.html, report.md, report.json.")
    for each in done:
        each.parts.remove()
    first = done[0]
    task = next(iter(first.report["texts"]), None)
    if task is not None:
        console.say(
            f"Next:  python sample.py --checkpoint={first.name} --task={task} "
            f"--input={first.report['data']['folder']}/{cfg.split}.jsonl"
        )


if __name__ == "__main__":
    console.run(main)
