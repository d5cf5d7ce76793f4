"""Write a checkpoint in the format of another engine, and verify it.

    python export.py --checkpoint=out/pubmedqa/best --format=onnx
    python export.py --data=data/pubmedqa  # measure what 8-bit weights cost
    python export.py --format=hf --dtype=bfloat16  # half the size
    python export.py --format=torch_export  # a .pt2 program
    python export.py --format=torchscript  # deprecated by PyTorch
    python export.py --format=adapter  # the LoRA weights without their base

The ONNX model takes and returns keys and values under optimum's names; a second
one has 8-bit weights. clingpt/export/onnx_runner.py runs them without torch.
Every format is loaded again and compared with the model on a grid of shapes; if
it differs by more than rounding, nothing is kept. The folder also contains the
tokenizer, the model card, calibration.json, terms.json and SHA256SUMS.

Not intended to inform diagnosis, treatment or patient management.
"""

import contextlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clingpt.base import console, settings
from clingpt.base.errors import CheckpointError
from clingpt.base.files import one_writer, written_whole

OTHER_NAMES = {  # of formats, in other tools
    **dict.fromkeys(("hub", "huggingface", "transformers", "safetensors"), "hf"),
    **dict.fromkeys(("jit", "script"), "torchscript"),
    **dict.fromkeys(("pt2", "exported_program"), "torch_export"),
    **dict.fromkeys(("lora", "peft"), "adapter"),
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
    # What to write: hf is a folder for the Hugging Face Hub, torchscript and torch_export are
    # PyTorch programs, adapter is LoRA weights without their base.
    format: Literal["hf", "onnx", "torchscript", "torch_export", "adapter"] = "onnx"
    out: Path | None = None  # folder to write; None is exported/FORMAT
    # Precision of the weights, with --format=hf.
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    int8: bool = True  # with --format=onnx, also write 8-bit weights as model_int8.onnx

    # --- evaluation ---
    # Prepared folder on which to measure what 8-bit weights cost; None does not measure.
    data: Path | None = None
    records: int = 50  # validation records to measure on, from the start

    def __post_init__(self) -> None:
        settings.check(
            self.dtype == "float32" or self.format == "hf", "--dtype is only for --format=hf"
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
from clingpt.export import formats
from clingpt.export.onnx_cost import onnx_section
from clingpt.export.verify import Difference, check, compare
from clingpt.nn.checkpoint import CARD, FORMAT, HUB_ID, Loaded, identity, load_to_use, newest_best
from clingpt.nn.lora import ADAPTER_WEIGHTS
from clingpt.reports import DISCLAIMER
from clingpt.reports.report import Int8Section, from_json
from clingpt.reports.tables import as_text, int8_table
from model import SIZES

HEADING = "A model exported by clinGPT"
COMPANIONS = ("README.md", CARD, calibration.FILE, terms.FILE)  # copied if the checkpoint has them


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
    source = cfg.checkpoint or newest_best(Path("out"))
    loaded = load_to_use(source, adapter=cfg.adapter)
    data = open_data(loaded, source, cfg.data, split="val") if cfg.data else None
    loaded.model.eval()
    console.note(f"exporting {source} to {cfg.format} and comparing it with the model")
    nothing = "nothing was written; run the same command to start again"
    with console.on_interrupt(lambda: nothing), written_whole(out) as scratch:
        if cfg.format != "adapter":  # an adapter has its base's configuration
            loaded.model.save_pretrained(scratch, weights=False, ends=loaded.tokenizer.ends)
        write_companions(loaded, source, scratch)
        if cfg.format == "onnx":
            explain_runner(scratch / "README.md")
        differences = write(cfg, loaded, source, scratch)
    summarize(cfg, out, differences)
    if data is not None:
        cost = onnx_section(out, data, n_records=cfg.records)
        console.say(as_text([int8_table(from_json(Int8Section, cost))]))
    console.say(f"Next:  {next_step(cfg.format, out)}")


def next_step(kind: str, out: Path) -> str:
    """Return a command, or a line of Python, that opens the export."""
    if kind == "torchscript":
        return f"import torch; torch.jit.load({str(out / formats.TORCHSCRIPT)!r})  # in Python"
    if kind == "torch_export":
        return f"import torch; torch.export.load({str(out / formats.TORCH_EXPORT)!r})  # in Python"
    if kind == "onnx":
        runner = ("-m", "clingpt.export.onnx_runner")
        return console.command(*runner, f"--model={out}", "--prompt=Metformin is")
    return console.command("sample.py", f"--checkpoint={out}")


def write_companions(loaded: Loaded, source: str, folder: Path) -> None:
    """Write the tokenizer and the COMPANIONS of a checkpoint."""
    loaded.tokenizer.save(folder)
    for name in COMPANIONS:
        if (loaded.folder / name).exists():
            shutil.copyfile(loaded.folder / name, folder / name)
    if not (folder / CARD).exists():  # its presence makes our commands check the hashes
        known = trained_tasks(loaded.card, source)
        (folder / CARD).write_text(
            json.dumps({"format": FORMAT, **(known.to_card() if known else {})})
        )


def explain_runner(readme: Path) -> None:
    """Add to the model card how to run an ONNX export where torch is not installed."""
    card = readme.read_text("utf-8") if readme.exists() else f"# {HEADING}\n\n**{DISCLAIMER}**\n"
    lines = RUNNER_REQUIREMENTS.read_text("utf-8").splitlines()
    pins = " ".join(line for line in lines if line and not line.startswith("#"))
    readme.write_text(
        f"""{card.rstrip()}

## Run it without PyTorch

```
pip install {pins}
python -m clingpt.export.onnx_runner --model=FOLDER --prompt="Metformin is"
```

FOLDER is this folder. Run the second command in clinGPT's repository, of which it needs only the
folder `clingpt`. It runs the tasks too (`--task=answer --input=note.json`), and with `--int8` the
8-bit weights.
""",
        "utf-8",
    )


def write(
    cfg: ExportConfig, loaded: Loaded, source: str, folder: Path
) -> dict[str, list[Difference]]:
    """Write the weights; return the differences of each file from the model."""
    model = loaded.model
    if cfg.format == "hf":
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
    return found


def origin(loaded: Loaded, source: str) -> dict[str, str]:
    """Return what is known about the weights' origin: checkpoint, model on the Hub, our commit."""
    facts = {"clingpt.checkpoint": identity(loaded.folder)}
    began = loaded.card.get("settings", {}).get("init_from") or source
    name = f"openai-community/{began}" if began in SIZES else began
    if HUB_ID.fullmatch(name) and not Path(began).exists():  # a local path means nothing elsewhere
        facts["base_model"] = name
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    # Without git, or outside a checkout, there is no commit.
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        found = subprocess.run(git, capture_output=True, text=True, check=True)
        facts["clingpt.commit"] = found.stdout.strip()
    return facts


def summarize(cfg: ExportConfig, out: Path, found: dict[str, list[Difference]]) -> None:
    """Print the files, their sizes, and the differences from the model."""
    columns = ["rows, past, new tokens"]
    columns += [f"{name}, relative to the largest logit" for name in found]
    rows = [
        [each[0].shape, *(f"{one.relative:.1e}" for one in each)]
        for each in zip(*found.values(), strict=True)
    ]
    console.say(console.table("Largest difference from the model", columns, rows))
    sizes = [(path.name, console.size(path.stat().st_size)) for path in sorted(out.iterdir())]
    console.say(console.key_values(f"\nWrote {out}", sizes))
    if formats.ONNX_INT8 in found:
        whole, small = (out / name for name in (formats.ONNX_WEIGHTS, formats.ONNX_INT8))
        share = small.stat().st_size / whole.stat().st_size
        console.say(f"8-bit weights: {share:.0%} of the size; speed: python -m benchmarks export")


if __name__ == "__main__":
    console.run(main, requirements="requirements-export.txt")
