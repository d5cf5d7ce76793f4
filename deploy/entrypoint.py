"""How a container starts: what its platform's environment means, as flags of serve.py.

    python entrypoint.py [serve] [--rows=16 …]

`serve` is what SageMaker says. A flag that is given wins over one that is found here; where a
platform has no place for flags, they stand in CLINGPT_FLAGS. serve.py replaces this process, so
that it is the container's first one and hears SIGTERM.
"""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from clingpt.base import console
from clingpt.base.errors import ConfigError

SERVE = Path(__file__).resolve().with_name("serve.py")
MODEL_FOLDERS = (Path("/opt/ml/model"), Path("/model"))  # SageMaker's, ours
SPACE_PORT, SAGEMAKER_PORT, PORT = "7860", "8080", "8000"
# With what ends behind it, less than the 10 s from SIGTERM to SIGKILL of Docker and Cloud Run.
SHUTDOWN_S = "4"


def main() -> None:
    words = shlex.split(os.environ.get("CLINGPT_FLAGS", "")) + sys.argv[1:]
    os.execv(sys.executable, [sys.executable, str(SERVE), *serve_flags(words, os.environ)])


def serve_flags(words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The flags that were given, behind those that the platform asks for."""
    given = [word for word in words if word != "serve"]
    names = {word.partition("=")[0].replace("-", "_").strip("_") for word in given}
    if not {"help", "h"}.isdisjoint(names):
        return given
    found = {"host": "0.0.0.0", "port": port(environment, on_sagemaker="serve" in words)}
    if "serve" not in words:  # SageMaker gives the 30 s that serve.py itself reckons with
        found["shutdown_timeout"] = SHUTDOWN_S
    if "SPACE_ID" in environment:
        found["frame_ancestors"] = "https://huggingface.co"  # which shows a Space in a frame
    if "checkpoint" not in names:
        found["checkpoint"] = str(model_folder(environment.get("MODEL_DIR")))
    return [*(f"--{name}={text}" for name, text in found.items() if name not in names), *given]


def port(environment: Mapping[str, str], *, on_sagemaker: bool) -> str:
    """Vertex AI's, Cloud Run's, or the one that a platform expects without saying so."""
    said = environment.get("AIP_HTTP_PORT") or environment.get("PORT")
    expected = SAGEMAKER_PORT if on_sagemaker else SPACE_PORT if "SPACE_ID" in environment else PORT
    return said or expected


def model_folder(named: str | None) -> Path:
    """The first place that holds a checkpoint, or a run with its best; ConfigError if none does."""
    folders = (Path(named),) if named else MODEL_FOLDERS
    for folder in folders:
        if (folder / "config.json").is_file() or (folder / "best").is_dir():
            return folder
    raise ConfigError(
        f"no model in {' or '.join(map(str, folders))}; mount a checkpoint's folder at /model "
        "(-v FOLDER:/model:ro), or set MODEL_DIR"
    )


if __name__ == "__main__":
    console.run(main)
