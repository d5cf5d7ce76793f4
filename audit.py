"""Measure how much of its training text a checkpoint memorised.

    python audit.py --checkpoint=out/mine/best
    python audit.py --checkpoint=out/mine/best --base=gpt2 --shown_tokens=20

Repeated text, canaries and identifiers are counted, each with a control: test records, canaries
that were made but never planted, and the model before training. No text and no secret is written
anywhere, only counts. The output folder contains audit.json and audit.md, and the checkpoint's
model card shows the same figures. Plant canaries with prepare.py --canaries=12, but only in a model
that will be audited and never used.
"""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from clingpt.base import console, settings
from clingpt.base.errors import CheckpointError, ConfigError
from clingpt.base.files import one_writer, write_json, write_whole


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    # --- model ---
    # Checkpoint or run folder, gpt2 to gpt2-xl, or a Hugging Face Hub id; None is the best
    # checkpoint of the newest run in out/.
    checkpoint: str | None = None
    # The model before training, to compare with; None is what the checkpoint was trained from.
    base: str | None = None

    # --- data ---
    # Prepared folder; None is the one that the checkpoint was trained on.
    data: Path | None = None
    # Maximum number of records to examine per split (training and test); None: as many as fit into
    # five minutes, at most 500.
    records: int | None = None

    # --- probes ---
    # Minimum number of a record's tokens to show before the model continues it.
    shown_tokens: int = 50
    # Tokens that the model must reproduce exactly; None: 50 or, where most training records are
    # shorter, their median, but at least 10.
    continued_tokens: int | None = None
    secrets: int = 1000  # alternatives among which a canary's secret is ranked
    # Texts to generate without a prompt and search for identifiers; 0 generates none. None: as many
    # as fit into five minutes, at most 1000.
    samples: int | None = None
    sample_tokens: int = 128  # length of these texts, in tokens
    seed: int = 1337  # seed of the records, alternatives and texts that are drawn

    # --- output ---
    out: Path | None = None  # folder to write; None is audit in the run folder

    # --- hardware ---
    batch_size: int = 16  # rows per forward pass
    device: str = "auto"  # auto, cpu, cuda, cuda:1 or mps
    # Precision of matrix products.
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"

    def __post_init__(self) -> None:
        settings.check_range(self, "records", "shown_tokens", "continued_tokens", at_least=1)
        settings.check_range(self, "secrets", at_least=1, at_most=100_000)
        settings.check_range(self, "sample_tokens", "batch_size", at_least=1)
        settings.check_range(self, "samples", "seed", at_least=0)


def parse_flags() -> AuditConfig:
    return settings.parse(AuditConfig, sys.argv[1:], prog="audit.py", description=__doc__ or "")


if __name__ == "__main__":
    # Answer --help and refuse mistaken flags before the imports below, which take seconds.
    console.run(parse_flags)

import numpy as np

from clingpt.base.types import Ints
from clingpt.data import canaries
from clingpt.data.prepared import Prepared
from clingpt.decoding.decoders import make_decoder
from clingpt.evaluation import memorisation
from clingpt.evaluation.measure import open_data
from clingpt.evaluation.memorisation import cut_windows, draw, first_examples
from clingpt.evaluation.scorer import Scorer
from clingpt.nn import runtime
from clingpt.nn.checkpoint import (
    Loaded,
    load_model,
    load_to_use,
    locate,
    newest_best,
    results_folder,
    run_name,
)
from clingpt.nn.runtime import Runtime
from clingpt.privacy.identifiers import find_identifiers
from clingpt.reports import audit as findings
from clingpt.reports.render import AUDIT, with_audit
from clingpt.reports.report import versions
from clingpt.text.tasks import TASKS, NotApplicable

FORMAT = 1
# An audit should end within five minutes, some of which loading takes, unless flags ask for more.
TIME_S = 240.0
MOST = {"records": 500, "samples": 1000}
TOKENS_OF_SECRET = 8  # of a canary's, roughly
LEAST = 20  # records, and texts: fewer show nothing
LONGEST_CONTINUATION, SHORTEST_CONTINUATION = 50, 10  # tokens; 50 as in Carlini et al. 2022
COPIED = "document"  # its target repeats its prompt, so writing it is not evidence of memorisation


@dataclass(frozen=True)
class Audit:
    """What is audited: the models and the data. `base` is the model before training, if known."""

    cfg: AuditConfig
    data: Prepared
    scorers: dict[str, Scorer]  # by "model" and "base"

    @property
    def context(self) -> int:
        """Return the number of tokens that every model can read."""
        return min(scorer.context for scorer in self.scorers.values())


def main() -> None:
    cfg = parse_flags()
    source = cfg.checkpoint or newest_best(Path("out"))
    folder = cfg.out or results_folder(locate(source)) / "audit"
    with one_writer(folder, inside=True):
        with console.on_interrupt(
            lambda: "nothing was written; run the same command to start again"
        ):
            loaded, report = audit(cfg, source)
        write(folder, loaded, report)


def audit(cfg: AuditConfig, source: str) -> tuple[Loaded, dict[str, Any]]:
    """Measure a checkpoint; return it, and the report."""
    rt = runtime.start(device=cfg.device, dtype=cfg.dtype)
    loaded = load_to_use(source)
    data = open_data(loaded, source, cfg.data, split="test")
    base, why = open_base(cfg, loaded)
    scorers = {"model": make_scorer(cfg, loaded, rt)}
    scorers |= {"base": make_scorer(cfg, base, rt)} if base else {}
    planned = plan(Audit(cfg, data, scorers))
    return loaded, {
        "format": FORMAT,
        "checkpoint": str(loaded.folder),
        "step": loaded.card.get("step"),
        "base": {"name": base and run_name(cfg.base or loaded.card["settings"]["init_from"])}
        | {"why": why},
        "data": {"folder": str(data.folder), "fingerprint": data.fingerprint},
        "settings": settings.to_json(planned.cfg),
        "versions": versions(),
        **measure(planned),
    }


def open_base(cfg: AuditConfig, loaded: Loaded) -> tuple[Loaded | None, str | None]:
    """Load the model before training, or return the reason why there is none to compare with."""
    source = cfg.base or loaded.card.get("settings", {}).get("init_from")
    if source is None:
        return (
            None,
            "the checkpoint does not name its base model; specify it, for example --base=gpt2",
        )
    if source == "scratch":
        return None, "it was trained from random weights"
    try:
        base = load_model(source)
    except CheckpointError as error:
        if cfg.base:
            raise
        console.note(f"{error}; continuing without the model before training")
        return None, f"{source} is not available; specify --base=FOLDER"
    if base.tokenizer.fingerprint != loaded.tokenizer.fingerprint:
        raise ConfigError(f"{source} has a different tokenizer; specify another --base")
    return base, None


def make_scorer(cfg: AuditConfig, loaded: Loaded, rt: Runtime) -> Scorer:
    model = loaded.model.to(rt.device).eval()
    return Scorer(model, make_decoder(model, rt), loaded.tokenizer, rt, cfg.batch_size)


def plan(audit: Audit) -> Audit:
    """Choose how much to measure in TIME_S, unless the flags do; say how long it will take."""
    cfg, scorer, train = audit.cfg, audit.scorers["model"], audit.data.split("train")
    a_written, a_read = seconds_per_token(audit)
    planted, task = canaries.read(audit.data.folder), task_of(audit.data)
    wanted, compares = cfg.continued_tokens or LONGEST_CONTINUATION, len(audit.scorers) > 1
    # Two splits; targets and contexts are continued, and targets read again for the membership.
    a_record = 2 * (1 if task == COPIED else 2) * (wanted * a_written + cfg.shown_tokens * a_read)
    a_record += 2 * compares * float(np.mean(train.lengths)) * a_read
    a_sample = min(cfg.sample_tokens, scorer.context) * a_written
    a_canary = cfg.secrets * TOKENS_OF_SECRET * a_written

    def seconds(most: Mapping[str, int]) -> float:
        work = most["records"] * a_record + most["samples"] * a_sample
        return len(audit.scorers) * (work + len(planted) * a_canary)

    given = {name: getattr(cfg, name) for name in MOST if getattr(cfg, name) is not None}
    n_records = max(len(audit.data.record_ids(name)) for name in ("train", "test"))
    most = MOST | {"records": min(MOST["records"], n_records)} | given
    chosen, all_s = dict(most), seconds(most)
    while seconds(chosen) > TIME_S:
        smaller = {name: max(min(LEAST, n), int(0.9 * n)) for name, n in chosen.items()} | given
        if smaller == chosen:
            break
        chosen = smaller
    said = f"{console.count(chosen['records'], 'record')} per split and "
    said += console.count(chosen["samples"], "text")
    note = f"auditing {said}: about {console.duration(seconds(chosen))} on this machine"
    if chosen != most:
        flags = " ".join(f"--{name}={n}" for name, n in most.items() if name not in given)
        note += f"; {flags} would take about {console.duration(all_s)}"
    console.note(note)
    return replace(audit, cfg=replace(cfg, **chosen))


def seconds_per_token(audit: Audit) -> tuple[float, float]:
    """Measure how long the model takes to write and to read one token, in full batches."""
    cfg, scorer, train = audit.cfg, audit.scorers["model"], audit.data.split("train")
    tokens = 8
    for _ in range(2):  # the first one also warms up
        started_at = time.perf_counter()
        memorisation.free_samples(scorer, cfg.batch_size, max_new_tokens=tokens, seed=cfg.seed)
        a_written = (time.perf_counter() - started_at) / (cfg.batch_size * tokens)
    rows = train.index[: cfg.batch_size]
    rows = rows[rows[:, 2] - rows[:, 0] <= audit.context]
    if not len(rows):
        return a_written, a_written
    started_at = time.perf_counter()
    memorisation.nats_per_token(scorer, train, rows)
    n_read = int((rows[:, 2] - rows[:, 0]).sum())
    return a_written, (time.perf_counter() - started_at) / n_read


def measure(audit: Audit) -> dict[str, Any]:
    """Measure everything that the report contains."""
    planted = canaries.read(audit.data.folder)
    task = task_of(audit.data)
    return {
        "task": task,
        "extraction": measure_extraction(audit, task, planted),
        "exposure": measure_exposure(audit, task, planted),
        "identifiers": measure_identifiers(audit),
        "membership": measure_membership(audit, task, planted),
    }


def task_of(data: Prepared) -> str:
    """Return the first task of the training data whose target does not repeat its prompt."""
    trained = [TASKS[n] for n in np.unique(data.split("train").index[:, 3]).tolist()]
    return next((task for task in trained if task != COPIED), COPIED)


def examples_of(audit: Audit, split: str, task: str, planted: list[canaries.Canary]) -> Ints:
    """Return each record's first example; canaries are left out, as they are not real records."""
    copies = {one.id_of(copy) for one in planted for copy in range(one.copies)}
    ids = enumerate(audit.data.record_ids(split))
    without = {n for n, name in ids if name in copies}
    return first_examples(audit.data.split(split), task, without=without)


def measure_extraction(
    audit: Audit, task: str, planted: list[canaries.Canary]
) -> list[dict[str, Any]]:
    """Measure extraction of targets and contexts, from both splits, by both models."""
    cfg, found = audit.cfg, []
    assert cfg.records is not None, "chosen by plan"
    parts: tuple[memorisation.Part, ...] = ("context",) if task == COPIED else ("target", "context")
    for part in parts:
        _, room = memorisation.places(
            examples_of(audit, "train", task, planted), part, cfg.shown_tokens
        )
        # Half of the training records can be continued for at least this many tokens.
        usual = int(np.median(room)) if len(room) else 0
        cut = memorisation.Cut(
            shown=cfg.shown_tokens,
            wanted=cfg.continued_tokens
            or min(max(usual, SHORTEST_CONTINUATION), LONGEST_CONTINUATION),
            context=audit.context,
            limit=cfg.records,
            seed=cfg.seed,
        )
        for name in ("train", "test"):
            rows = examples_of(audit, name, task, planted)
            windows = cut_windows(audit.data.split(name), rows, part, cut)
            for of, scorer in audit.scorers.items():
                label = f"continuing {name} {part}s: {of}"
                entry = memorisation.extraction(scorer, windows, label)
                found.append(
                    {"part": part, "split": name, "of": of, "tokens": cut.wanted, "usual": usual}
                    | entry
                )
    return found


def measure_exposure(audit: Audit, task: str, planted: list[canaries.Canary]) -> dict[str, Any]:
    """Measure the exposure of each canary's secret, or return the reason why not."""
    cfg = audit.cfg
    if not planted:
        return {"why": "none were planted; prepare.py --canaries=12 plants some"}
    budget = min(audit.context, audit.data.manifest["settings"].get("block_size", audit.context))
    try:
        groups = {
            of: memorisation.exposure_groups(
                scorer, planted, task, budget=budget, n_others=cfg.secrets, seed=cfg.seed
            )
            for of, scorer in audit.scorers.items()
        }
    except NotApplicable as reason:
        return {"why": f"{reason} in {budget} tokens"}
    return {
        "n_others": cfg.secrets,
        "space_bits": canaries.SPACE_BITS,
        "ceiling": canaries.ceiling(cfg.secrets),
        "chance": canaries.chance_exposure(cfg.secrets),
        "groups": groups,
    }


def measure_identifiers(audit: Audit) -> dict[str, Any]:
    """Count identifiers in texts that each model writes without a prompt."""
    cfg, found = audit.cfg, {}
    for of, scorer in audit.scorers.items() if cfg.samples else ():
        samples = memorisation.free_samples(
            scorer, cfg.samples or 0, max_new_tokens=cfg.sample_tokens, seed=cfg.seed
        )
        found[of] = memorisation.identifiers_in(
            samples,
            find_identifiers,
            lambda: memorisation.training_texts(audit.data, audit.scorers["model"].tokenizer),
        )
    return found


def measure_membership(
    audit: Audit, task: str, planted: list[canaries.Canary]
) -> dict[str, Any] | None:
    """Measure how well the change of the loss separates training from test records."""
    if "base" not in audit.scorers:
        return None
    scores = []
    for name in ("train", "test"):
        split, rows = audit.data.split(name), examples_of(audit, name, task, planted)
        rows = rows[rows[:, 2] - rows[:, 0] <= audit.context]
        if not len(rows):
            return None
        rows = draw(rows, audit.cfg.records or len(rows), audit.cfg.seed)
        before, after = (
            memorisation.nats_per_token(audit.scorers[of], split, rows) for of in ("base", "model")
        )
        scores.append(before - after)
    return memorisation.membership(*scores)


def write(folder: Path, loaded: Loaded, report: dict[str, Any]) -> None:
    """Write the report; add it to the model card if it is about the card's training data."""
    folder.mkdir(parents=True, exist_ok=True)
    section = findings.in_markdown(report)
    write_json(folder / "audit.json", report)
    write_whole(folder / "audit.md", section)
    console.say(findings.in_terminal(report))
    console.say(f"\nWrote {folder}: audit.json, audit.md.")
    trained_on = loaded.card.get("data", {}).get("fingerprint")
    if trained_on != report["data"]["fingerprint"]:
        return
    if not loaded.folder.is_dir():  # the run is still training, and deletes old checkpoints
        console.note(f"{loaded.folder} was deleted during the audit; its card was not updated")
        return
    write_whole(loaded.folder / AUDIT, section)
    readme = loaded.folder / "README.md"
    if readme.exists():
        write_whole(readme, with_audit(readme.read_text("utf-8"), loaded.folder))
        console.say(f"Updated the model card {readme}.")
    else:
        console.say("eval.py will add it to the model card.")


if __name__ == "__main__":
    console.run(main)
