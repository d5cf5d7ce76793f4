"""Write a checkpoint in the format of another engine, and verify it.

    python export.py --checkpoint=out/pubmedqa/best --format=onnx
    python export.py --data=data/pubmedqa  # measure what 8-bit weights cost
    python export.py --format=gguf --dtype=q8_0  # for llama.cpp and Ollama
    python export.py --format=hf --dtype=bfloat16  # for the Hub; half the size
    python export.py --format=nanogpt  # ckpt.pt
    python export.py --format=torch_export  # a .pt2 program
    python export.py --format=torchscript  # deprecated by PyTorch
    python export.py --format=adapter  # the LoRA weights without their base

The ONNX model takes and returns keys and values under optimum's names; a second
one has 8-bit weights. clingpt/export/onnx_runner.py runs them without torch.
The GGUF file includes the tokenizer, and Modelfiles for Ollama are beside it.
Every format is read again and compared with the model, on a grid of shapes or
tensor by tensor; if it differs by more than rounding, nothing is kept. A GGUF
file is also opened in llama.cpp, if requirements-verify.txt is installed. The
folder also contains the tokenizer, the model card, calibration.json, terms.json
and SHA256SUMS; with --format=gguf or nanogpt, only the card and the sums.

Not intended to inform diagnosis, treatment or patient management.
"""

import contextlib
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from clingpt.base import console, settings
from clingpt.base.errors import CheckpointError
from clingpt.base.files import one_writer, written_whole

OTHER_NAMES = {  # of formats, in other tools
    **dict.fromkeys(("hub", "huggingface", "transformers", "safetensors"), "hf"),
    **dict.fromkeys(("jit", "script"), "torchscript"),
    **dict.fromkeys(("pt2", "exported_program"), "torch_export"),
    **dict.fromkeys(("lora", "peft"), "adapter"),
    **dict.fromkeys(("llama.cpp", "llama_cpp", "llamacpp", "ollama", "ggml"), "gguf"),
    **dict.fromkeys(("nanoGPT", "ckpt", "ckpt.pt"), "nanogpt"),
}
PRECISIONS = {  # of the formats with --dtype
    "hf": ("float32", "float16", "bfloat16"),
    "gguf": ("float32", "float16", "q8_0"),
}
RUNNER_REQUIREMENTS = Path(__file__).with_name("requirements-runner.txt")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    # --- model ---
    # Checkpoint or run folder, gpt2 to gpt2-xl, or a Hugging Face Hub id; None is the best
    # checkpoint of the newest run in out/.
    checkpoint: str | None = None
    # PEFT adapter (LoRA) to merge into the checkpoint, a folder or a Hub id. An adapter that names
    # its base can also be passed as --checkpoint.
    adapter: str | None = None

    # --- output ---
    # What to write: hf is a folder for the Hugging Face Hub, gguf a file for llama.cpp and Ollama,
    # nanogpt its ckpt.pt; torchscript and torch_export are PyTorch programs, and adapter is LoRA
    # weights without their base.
    format: Literal["hf", "onnx", "gguf", "nanogpt", "torchscript", "torch_export", "adapter"] = (
        "onnx"
    )
    out: Path | None = None  # folder to write; None is exported/FORMAT
    # Precision of the weights: float32, float16 or bfloat16 with --format=hf; float32, float16 or
    # q8_0 (8 bits, with a scale for every 32 weights) with --format=gguf.
    dtype: Literal["float32", "float16", "bfloat16", "q8_0"] = "float32"
    int8: bool = True  # with --format=onnx, also write 8-bit weights as model_int8.onnx

    # --- evaluation ---
    # Prepared folder on which to measure what 8-bit weights cost; None does not measure.
    data: Path | None = None
    records: int = 50  # validation records to measure on, from the start

    def __post_init__(self) -> None:
        allowed = PRECISIONS.get(self.format)
        settings.check(
            allowed is not None or self.dtype == "float32",
            "--dtype is only for --format=hf and --format=gguf",
        )
        settings.check(
            self.dtype in (allowed or [self.dtype]),
            f"--format={self.format} has no --dtype={self.dtype}; choose from "
            f"{', '.join(allowed or [])}",
        )
        settings.check(
            self.data is None or (self.format == "onnx" and self.int8),
            "--data applies only to --format=onnx with --int8",
        )
        settings.check_range(self, "records", at_least=1)


def parse_flags() -> ExportConfig:
    for name, ours in OTHER_NAMES.items():
        settings.check(
            f"--format={name}" not in sys.argv, f"--format={name} is called --format={ours} here"
        )
    return settings.parse(ExportConfig, sys.argv[1:], prog="export.py", description=__doc__ or "")


if __name__ == "__main__":
    # Answer --help and refuse mistaken flags before the imports below, which take seconds.
    console.run(parse_flags, requirements="requirements-export.txt")

from clingpt.data.prepared import trained_tasks
from clingpt.evaluation import calibration, terms
from clingpt.evaluation.measure import open_data
from clingpt.export import formats, gguf_file, gguf_folder, nanogpt
from clingpt.export.onnx_cost import onnx_section
from clingpt.export.plain import check_activation, gelu_note
from clingpt.export.verify import Difference, check, compare
from clingpt.nn.checkpoint import (
    CARD,
    FORMAT,
    HUB_ID,
    Loaded,
    identity,
    load_to_use,
    newest_best,
    run_name,
    write_card,
)
from clingpt.nn.lora import ADAPTER_WEIGHTS
from clingpt.reports import DISCLAIMER
from clingpt.reports.report import Int8Section, from_json
from clingpt.reports.tables import as_text, int8_table
from clingpt.text.tasks import PROMPTED
from model import SIZES

HEADING = "A model exported by clinGPT"
# Formats of one file with all that a model needs, which our own commands do not read.
SELF_CONTAINED = ("gguf", "nanogpt")
COMPANIONS = ("README.md", CARD, calibration.FILE, terms.FILE)  # copied if the checkpoint has them
SNAPSHOT = re.compile(r"[0-9a-f]{40}")  # the name of a Hub repository's copy: its commit
LICENSE = re.compile(r"---\n(?:.*\n)*?license: *(\S+)")  # in the metadata of a model card


@dataclass(frozen=True)
class Written:
    """What was written and how it compares with the model."""

    differences: dict[str, list[Difference]] = field(default_factory=dict)  # by file
    verified: list[tuple[str, str]] = field(default_factory=list)  # how, and the result


def main() -> None:
    cfg = parse_flags()
    out = cfg.out or Path("exported") / cfg.format
    with one_writer(out):
        export(cfg, out)


def export(cfg: ExportConfig, out: Path) -> None:
    """Write a checkpoint to a new folder, which appears once it is complete and verified."""
    if out.exists():
        raise CheckpointError(f"{out} already exists; remove it or choose another --out")
    if cfg.format == "onnx":
        formats.import_onnx()
    if cfg.format == "gguf":
        import gguf  # noqa: F401  a missing package is named before any work is done
    source = cfg.checkpoint or newest_best(Path("out"))
    loaded = load_to_use(source, adapter=cfg.adapter)
    data = open_data(loaded, source, cfg.data, split="val") if cfg.data else None
    loaded.model.eval()
    console.note(f"exporting {source} to {cfg.format} and comparing it with the model")
    nothing = "nothing was written; run the same command to start again"
    with console.on_interrupt(lambda: nothing), written_whole(out) as scratch:
        if cfg.format not in ("adapter", *SELF_CONTAINED):  # an adapter has its base's
            loaded.model.save_pretrained(scratch, weights=False, ends=loaded.tokenizer.ends)
        if cfg.format not in SELF_CONTAINED:
            write_companions(loaded, source, scratch, adapter=cfg.format == "adapter")
        elif (loaded.folder / "README.md").exists():
            # Without its last section, which is about the folder of a checkpoint.
            card, _, _ = (loaded.folder / "README.md").read_text("utf-8").partition("\n## Use\n")
            (scratch / "README.md").write_text(card, "utf-8")
        if cfg.format == "hf" and not (scratch / "README.md").exists():
            (scratch / "README.md").write_text(hub_card(loaded, source), "utf-8")
        if cfg.format == "onnx":
            explain_runner(scratch / "README.md")
        written = write(cfg, loaded, source, scratch)
    summarize(out, written)
    if data is not None:
        cost = onnx_section(out, data, n_records=cfg.records)
        console.say(as_text([int8_table(from_json(Int8Section, cost))]))
    first, *others = next_steps(cfg, out, run_name(source))
    console.say("\n".join([f"Next:  {first}", *(f"       {line}" for line in others)]))


def next_steps(cfg: ExportConfig, out: Path, name: str) -> list[str]:
    """Return commands, or a line of Python, that use the export of a model with this name."""
    if cfg.format == "torchscript":
        return [f"import torch; torch.jit.load({str(out / formats.TORCHSCRIPT)!r})  # in Python"]
    if cfg.format == "torch_export":
        return [
            f"import torch; torch.export.load({str(out / formats.TORCH_EXPORT)!r})  # in Python"
        ]
    if cfg.format == "onnx":
        runner = ("-m", "clingpt.export.onnx_runner")
        return [console.command(*runner, f"--model={out}", "--prompt=Metformin is")]
    if cfg.format == "nanogpt":
        flags = [f"--out_dir={out.absolute()}", "--device=cpu", "--start=Metformin is"]
        return [shlex.join(["python", "sample.py", *flags]) + "  # in nanoGPT's folder"]
    if cfg.format == "gguf":
        return gguf_folder.commands(out, name)
    steps = [console.command("sample.py", f"--checkpoint={out}")]
    if cfg.format == "hf":
        hub_id = f"USER/{name.rpartition('/')[2]}"
        steps.append(f"{shlex.join(['hf', 'upload', hub_id, str(out)])}  # publishes it")
    return steps


def write_companions(loaded: Loaded, source: str, folder: Path, *, adapter: bool) -> None:
    """Write the tokenizer and the COMPANIONS of a checkpoint.

    The card of an adapter keeps its paths, because the adapter is merged into the base that its
    card names.
    """
    loaded.tokenizer.save(folder)
    for name in COMPANIONS:
        if (loaded.folder / name).exists():
            shutil.copyfile(loaded.folder / name, folder / name)
    if not (folder / CARD).exists():  # its presence makes our commands check the hashes
        known = trained_tasks(loaded.card, source)
        write_card(folder, {"format": FORMAT, **(known.to_card() if known else {})})
    elif not adapter and (card := without_paths(loaded.card)) != loaded.card:
        write_card(folder, card)


def without_paths(value: Any) -> Any:
    """Return a card's content with the last part of each absolute path, for other machines."""
    if isinstance(value, dict):
        return {key: without_paths(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_paths(each) for each in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def hub_card(loaded: Loaded, source: str) -> str:
    """Return a model card for a checkpoint that eval.py has not written one for."""
    from huggingface_hub import ModelCardData

    metadata = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["clingpt", "gpt2", "medical"],
        base_model=origin(loaded, source).get("base_model"),
    )
    return f"""\
---
{metadata.to_yaml().strip()}
---

# {run_name(source)}

A GPT-2 model exported by clinGPT. It has not been evaluated: `eval.py` writes a card with results.

**{DISCLAIMER}**
"""


def add_section(readme: Path, section: str) -> None:
    """Add a section to a model card, or begin one."""
    card = readme.read_text("utf-8") if readme.exists() else f"# {HEADING}\n\n**{DISCLAIMER}**\n"
    readme.write_text(f"{card.rstrip()}\n\n{section}", "utf-8")


def explain_runner(readme: Path) -> None:
    """Add to the model card how to run an ONNX export where torch is not installed."""
    lines = RUNNER_REQUIREMENTS.read_text("utf-8").splitlines()
    pins = " ".join(line for line in lines if line and not line.startswith("#"))
    section = f"""\
## Run it without PyTorch

```
pip install {pins}
python -m clingpt.export.onnx_runner --model=FOLDER --prompt="Metformin is"
```

FOLDER is this folder. Run the second command in clinGPT's repository, of which it needs only the
folder `clingpt`. It runs the tasks too (`--task=answer --input=note.json`), and with `--int8` the
8-bit weights.
"""
    add_section(readme, section)


def write(cfg: ExportConfig, loaded: Loaded, source: str, folder: Path) -> Written:
    """Write the weights; return how each file compares with the model."""
    model = loaded.model
    if cfg.format == "gguf":
        return write_gguf(cfg, loaded, source, folder)
    if cfg.format == "nanogpt":
        return write_nanogpt(loaded, source, folder)
    if cfg.format == "hf":
        assert cfg.dtype != "q8_0"
        name, step = (
            "model.safetensors",
            formats.write_hf(model, folder, precision=cfg.dtype, ends=loaded.tokenizer.ends),
        )
    elif cfg.format == "adapter":
        name, step = ADAPTER_WEIGHTS, formats.write_adapter(loaded.folder, folder)
    elif cfg.format == "torchscript":
        console.note("TorchScript is deprecated; torch_export and onnx replace it")
        name, step = formats.TORCHSCRIPT, formats.write_torchscript(model, folder)
    elif cfg.format == "torch_export":
        name, step = formats.TORCH_EXPORT, formats.write_torch_export(model, folder)
    else:
        name = formats.ONNX
        step = formats.write_onnx(model, folder, facts=origin(loaded, source))
    found = {name: check(step, model)}
    if cfg.format == "onnx" and cfg.int8:  # rounded on purpose: shown but not checked
        found[formats.ONNX_INT8] = list(compare(formats.write_onnx_int8(folder), model))
    return Written(differences=found)


def write_gguf(cfg: ExportConfig, loaded: Loaded, source: str, folder: Path) -> Written:
    """Write and verify the GGUF file, its Modelfiles and its model card."""
    known = trained_tasks(loaded.card, source)
    tasks = [task for task in known.latest if task in PROMPTED] if known else []
    kind = gguf_file.KINDS[cfg.dtype]
    facts = origin(loaded, source) | {"general.name": run_name(source)}
    facts["general.description"] = DISCLAIMER
    card = folder / "README.md"
    if card.exists() and (found := LICENSE.match(card.read_text("utf-8"))):
        facts["general.license"] = found[1]
    verified = gguf_folder.write(
        loaded.model, loaded.tokenizer, folder, kind=kind, tasks=tasks, facts=facts
    )
    add_section(card, gguf_folder.readme_section(kind, tasks))
    return Written(verified=verified)


def write_nanogpt(loaded: Loaded, source: str, folder: Path) -> Written:
    """Write and verify nanoGPT's ckpt.pt."""
    model, path = loaded.model, folder / nanogpt.FILE
    check_activation(model, "nanoGPT")
    nanogpt.check_shape(model)
    nanogpt.write(model, path, facts=origin(loaded, source))
    verified = [("read again", f"{nanogpt.verify(model, path)} tensors, equal to the model's")]
    if note := gelu_note(model, "nanoGPT", "gelu"):
        verified.append(("activation", note))
    if note := nanogpt.tokenizer_note(loaded.tokenizer):
        verified.append(("tokenizer", note))
    return Written(verified=verified)


def origin(loaded: Loaded, source: str) -> dict[str, str]:
    """Return what is known about the weights' origin: checkpoint, model on the Hub, our commit."""
    facts = {"clingpt.checkpoint": identity(loaded.folder)}
    began = loaded.card.get("settings", {}).get("init_from") or source
    name = f"openai-community/{began}" if began in SIZES else began
    if HUB_ID.fullmatch(name) and not Path(began).exists():  # a local path means nothing elsewhere
        facts["base_model"] = name
        # A Hub repository's copy in the cache is a folder named by its commit.
        if began == source and SNAPSHOT.fullmatch(loaded.folder.name):
            facts["base_model_revision"] = loaded.folder.name
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    # Without git, or outside a checkout, there is no commit.
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        found = subprocess.run(git, capture_output=True, text=True, check=True)
        facts["clingpt.commit"] = found.stdout.strip()
    return facts


def summarize(out: Path, written: Written) -> None:
    """Print the differences from the model, and the files with their sizes."""
    found = written.differences
    if found:
        columns = ["rows, past, new tokens"]
        columns += [f"{name}, relative to the largest logit" for name in found]
        rows = [
            [each[0].shape, *(f"{one.relative:.1e}" for one in each)]
            for each in zip(*found.values(), strict=True)
        ]
        console.say(console.table("Largest difference from the model", columns, rows))
    for how, result in written.verified:
        console.say(console.paragraph(f"{how}: {result}"))
    sizes = [(path.name, console.size(path.stat().st_size)) for path in sorted(out.iterdir())]
    console.say(console.key_values(f"\nWrote {out}", sizes))
    if formats.ONNX_INT8 in found:
        whole, small = (out / name for name in (formats.ONNX_WEIGHTS, formats.ONNX_INT8))
        share = small.stat().st_size / whole.stat().st_size
        console.say(f"8-bit weights: {share:.0%} of the size; speed: python -m benchmarks export")


if __name__ == "__main__":
    console.run(main, requirements="requirements-export.txt")
