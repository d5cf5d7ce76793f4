"""A folder for llama.cpp and Ollama: the verified GGUF file, and Modelfiles for its tasks."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from clingpt.export import gguf_file, llama_cpp, ollama
from clingpt.export.plain import check_activation, gelu_note
from clingpt.reports import DISCLAIMER
from clingpt.text.tokenizer import Tokenizer
from model import GPT

UNKNOWN_LICENCE = "The licence of the weights is not recorded; ask whoever made them."


def write(
    model: GPT,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    kind: gguf_file.Kind,
    tasks: Sequence[str],
    facts: Mapping[str, str],
) -> list[tuple[str, str]]:
    """Write the files; return how they were verified and with what result.

    `tasks` are those the model was trained on, `facts` as in gguf_file.write. Raises
    CheckpointError if the format cannot represent the model, or if the file differs from it.
    """
    check_activation(model, "llama.cpp")
    gguf_file.check_tokenizer(tokenizer)
    if kind == "Q8_0":
        gguf_file.check_blocks(model)
    path = folder / gguf_file.file_name(kind)
    gguf_file.write(model, tokenizer, path, kind=kind, facts=facts)
    license_text = facts.get("general.license")
    notice = (DISCLAIMER, f"Licence: {license_text}" if license_text else UNKNOWN_LICENCE)
    ends = [tokenizer.decode([end]) for end in tokenizer.ends]
    for name, task in ollama.file_names(tasks).items():
        text = ollama.modelfile(task, path.name, model.config, ends, notice)
        (folder / name).write_text(text, "utf-8")
    rounding = gguf_file.verify(model, path, kind)
    exact = "equal to the model's weights"
    rounded = f"rounded by up to {rounding:.1e} of the largest weight nearby"
    verified = [("read again", exact if kind == "F32" else rounded)]
    if note := gelu_note(model, "llama.cpp", "gelu_new"):
        verified.append(("activation", note))
    if note := gguf_file.ends_note(tokenizer):
        verified.append(("ends of text", note))
    if llama_cpp.is_installed():
        found = gguf_file.compare_with_llama_cpp(model, tokenizer, path, kind)
    else:
        found = f"not compared here: pip install -r {llama_cpp.REQUIREMENTS}, and export again"
    return [*verified, ("llama.cpp", found)]


def commands(folder: Path, name: str) -> list[str]:
    """Return commands that run the file: Ollama's for every task, llama.cpp's for the first."""
    model = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._") or "clingpt"
    modelfiles = sorted(path.name for path in folder.glob("Modelfile*"))
    found = []
    for file in modelfiles:
        suffix = file.removeprefix("Modelfile").replace(".", "-")
        create = shlex.join(["ollama", "create", model + suffix, "-f", str(folder / file)])
        found.append(f"{create} && {shlex.join(['ollama', 'run', model + suffix])}")
    [path] = folder.glob("*.gguf")
    server = ["llama-server", "-m", str(path), "--temp", "0", "--port", "8080"]
    return [*found, f"{shlex.join(server)}  # then POST to /v1/completions"]


def readme_section(kind: gguf_file.Kind, tasks: Sequence[str]) -> str:
    """Describe for the model card how to run the file, and what to type."""
    names = ollama.file_names(tasks)
    name, task = next(iter(names.items()))
    before, after, typed = ollama.around(task) if task else ("", "", "Metformin is")
    shown = f"{before}{typed}{after}"
    others = "" if len(names) == 1 else f" (other tasks: {', '.join(list(names)[1:])})"
    return f"""\
## Run it in llama.cpp or Ollama

```
llama-server -m {gguf_file.file_name(kind)} --temp 0   # serves /v1/completions on this machine
ollama create NAME -f {name} && ollama run NAME
```

With llama.cpp, send the whole prompt, without a space or a line end after it. With Ollama, type
only what the template of the Modelfile leaves open{others}:

```
{shown}
```

Tools that exchange chat messages, such as llama-cli, put other words around a prompt, which the
model has never seen.
"""
