"""Write a checkpoint for other engines; it counts once it was compared with the model.

    python export.py --checkpoint=out/pubmedqa/best --format=onnx --out=exported/onnx
    python export.py --data=data/pubmedqa                    and what 8-bit weights cost there
    python export.py --format=hf --dtype=bfloat16 --out=exported/hf      half the size
    python export.py --format=torch_export                              a .pt2 program
    python export.py --format=torchscript                               deprecated by PyTorch
    python export.py --format=adapter                   what LoRA trained, without its base

onnx, with keys and values as inputs and outputs by optimum's names, also as 8-bit weights;
clingpt/export/onnx_runner.py answers with it and needs no torch. Every format is loaded again and
compared on a grid of shapes; where it differs by more than rounding, nothing is kept. The folder
holds the tokenizer, the card, the calibration and SHA256SUMS too. Not intended to inform
diagnosis, treatment or patient management."""

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
from clingpt.base.files import written_whole


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    checkpoint: str | None = None  # folder, gpt2 … gpt2-xl or a Hub id; None: newest run's best
    format: Literal["hf", "onnx", "torchscript", "torch_export", "adapter"] = "onnx"
    out: Path | None = None  # folder to write; None: exported/ and the format's name
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"  # of the weights of --format=hf
    int8: bool = True  # with --format=onnx: 8-bit weights too, in model_int8.onnx
    data: Path | None = None  # prepared folder to measure on what 8 bits cost; None: not measured
    records: int = 50  # of its validation records, the first ones

    def __post_init__(self) -> None:
        settings.check(
            self.dtype == "float32" or self.format == "hf", "--dtype is for --format=hf alone"
        )
        settings.check(
            self.data is None or (self.format == "onnx" and self.int8),
            "--data is for --format=onnx with --int8",
        )
        settings.check_range(self, "records", at_least=1)


def parse_flags() -> ExportConfig:
    return settings.parse(ExportConfig, sys.argv[1:], prog="export.py", description=__doc__ or "")


if __name__ == "__main__":
    # Answer --help and refuse mistaken flags before the imports below, which take seconds.
    console.run(parse_flags)

from clingpt.evaluation import calibration
from clingpt.evaluation.measure import open_data
from clingpt.export import formats
from clingpt.export.onnx_cost import onnx_section
from clingpt.export.verify import Difference, check, compare
from clingpt.nn.checkpoint import (
    CARD,
    FORMAT,
    HUB_ID,
    Loaded,
    identity,
    load_to_use,
    newest_best,
)
from clingpt.nn.lora import ADAPTER_WEIGHTS
from clingpt.reports.report import Int8Section, from_json
from clingpt.reports.tables import as_text, int8_table
from model import SIZES

NEXT = {
    "hf": "python sample.py --checkpoint={out}",
    "adapter": "python sample.py --checkpoint={out}",
    "onnx": "python -m clingpt.export.onnx_runner --model={out} --task=answer --input=note.json",
    "torchscript": "torch.jit.load('{out}/model.ts')",
    "torch_export": "torch.export.load('{out}/model.pt2')",
}
COMPANIONS = ("README.md", CARD, calibration.FILE)  # of a checkpoint, where it has them


def main() -> None:
    cfg = parse_flags()
    out = cfg.out or Path("exported") / cfg.format
    if out.exists():
        raise CheckpointError(f"{out} exists already; remove it or choose another --out")
    if cfg.format == "onnx":
        formats.import_onnx()
    source = cfg.checkpoint or newest_best(Path("out"))
    loaded = load_to_use(source)
    data = open_data(loaded, source, cfg.data, split="val") if cfg.data else None
    loaded.model.eval()
    console.note(f"{source} as {cfg.format}: writing, reading back, comparing")
    with written_whole(out) as scratch:
        if cfg.format != "adapter":  # whose configuration is its base's
            loaded.model.save_pretrained(scratch, weights=False)
        write_companions(loaded, scratch)
        differences = write(cfg, loaded, source, scratch)
    summarize(cfg, out, differences)
    if data is not None:
        cost = onnx_section(out, data, n_records=cfg.records)
        console.say(as_text([int8_table(from_json(Int8Section, cost))]))
    console.say(f"Next:  {NEXT[cfg.format].format(out=out)}")


def write_companions(loaded: Loaded, folder: Path) -> None:
    """The tokenizer, and what the checkpoint says about itself."""
    loaded.tokenizer.save(folder)
    for name in COMPANIONS:
        if (loaded.folder / name).exists():
            shutil.copyfile(loaded.folder / name, folder / name)
    if not (folder / CARD).exists():  # by which our commands know that the hashes are whole
        (folder / CARD).write_text(json.dumps({"format": FORMAT}))


def write(
    cfg: ExportConfig, loaded: Loaded, source: str, folder: Path
) -> dict[str, list[Difference]]:
    """The weights in the format; how far each file is from the model."""
    model = loaded.model
    if cfg.format == "hf":
        return {
            "model.safetensors": check(formats.write_hf(model, folder, precision=cfg.dtype), model)
        }
    if cfg.format == "adapter":
        return {ADAPTER_WEIGHTS: check(formats.write_adapter(loaded.folder, folder), model)}
    if cfg.format == "torchscript":
        console.note("TorchScript is deprecated; torch_export and onnx are what replaces it")
        return {formats.TORCHSCRIPT: check(formats.write_torchscript(model, folder), model)}
    if cfg.format == "torch_export":
        return {formats.TORCH_EXPORT: check(formats.write_torch_export(model, folder), model)}
    step = formats.write_onnx(model, folder, facts=origin(loaded, source))
    found = {formats.ONNX: check(step, model)}
    if cfg.int8:  # rounded on purpose: shown, not judged
        found[formats.ONNX_INT8] = list(compare(formats.write_onnx_int8(folder), model))
    return found


def origin(loaded: Loaded, source: str) -> dict[str, str]:
    """Whose weights these are, what on the Hub they come from, and our commit: what is known."""
    facts = {"clingpt.checkpoint": identity(loaded.folder)}
    began = loaded.card.get("settings", {}).get("init_from") or source
    name = f"openai-community/{began}" if began in SIZES else began
    if HUB_ID.fullmatch(name) and not Path(began).exists():  # a folder's says nothing elsewhere
        facts["base_model"] = name
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):  # no git, or no checkout
        found = subprocess.run(git, capture_output=True, text=True, check=True)
        facts["clingpt.commit"] = found.stdout.strip()
    return facts


def summarize(cfg: ExportConfig, out: Path, found: dict[str, list[Difference]]) -> None:
    """What was written, how large it is and how far from the model."""
    columns = ["rows, past, new tokens", *(f"{name}: of the highest logit" for name in found)]
    shapes = [one.shape for one in next(iter(found.values()))]
    rows = [
        [shape, *(f"{differences[n].relative:.1e}" for differences in found.values())]
        for n, shape in enumerate(shapes)
    ]
    console.say(console.table("Largest difference from the model", columns, rows))
    sizes = [(path.name, console.size(path.stat().st_size)) for path in sorted(out.iterdir())]
    console.say(console.key_values(f"\nWrote {out}", sizes))
    if formats.ONNX_INT8 in found:
        whole, small = (out / name for name in (formats.ONNX_WEIGHTS, formats.ONNX_INT8))
        share = small.stat().st_size / whole.stat().st_size
        console.say(f"8-bit weights: {share:.0%} of the size; speed: python -m benchmarks export")


if __name__ == "__main__":
    console.run(main)
