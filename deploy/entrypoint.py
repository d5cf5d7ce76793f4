"""The container's entry point: translate the platform's environment into flags of serve.py.

    python entrypoint.py [serve] [--rows=16 …]

SageMaker passes `serve`. Explicit flags take precedence over those derived here; platforms without
a place for flags can set CLINGPT_FLAGS. serve.py replaces this process, so that it becomes the
container's process 1 and receives SIGTERM.
"""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from clingpt.base import console
from clingpt.base.errors import ConfigError
from clingpt.base.files import followed

SERVE = Path(__file__).resolve().with_name("serve.py")
MODEL_FOLDERS = (Path("/opt/ml/model"), Path("/model"))  # SageMaker's, ours
SPACE_PORT, SAGEMAKER_PORT, PORT = "7860", "8080", "8000"
# Shutdown must end within the 10 s that Docker and Cloud Run leave between SIGTERM and SIGKILL.
SHUTDOWN_S = "4"


def main() -> None:
    words = shlex.split(os.environ.get("CLINGPT_FLAGS", "")) + sys.argv[1:]
    os.execv(sys.executable, [sys.executable, str(SERVE), *serve_flags(words, os.environ)])


def serve_flags(words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Return the flags that the platform implies, followed by the explicit ones."""
    given = [word for word in words if word != "serve"]
    names = {word.partition("=")[0].replace("-", "_").strip("_") for word in given}
    if not {"help", "h"}.isdisjoint(names):
        return given
    found = {"host": "0.0.0.0", "port": port(environment, on_sagemaker="serve" in words)}
    if "serve" not in words:  # SageMaker allows 30 s, for which serve.py's default is made
        found["shutdown_timeout"] = SHUTDOWN_S
    if "SPACE_ID" in environment:
        found["frame_ancestors"] = "https://huggingface.co"  # the Hub shows a Space in a frame
    if "checkpoint" not in names:
        found["checkpoint"] = str(model_folder(environment.get("MODEL_DIR")))
    return [*(f"--{name}={text}" for name, text in found.items() if name not in names), *given]


def port(environment: Mapping[str, str], *, on_sagemaker: bool) -> str:
    """Return the port that the environment sets, or else the one that the platform expects."""
    expected = SAGEMAKER_PORT if on_sagemaker else SPACE_PORT if "SPACE_ID" in environment else PORT
    return environment.get("AIP_HTTP_PORT") or environment.get("PORT") or expected


def model_folder(named: str | None) -> Path:
    """Return the first folder with a checkpoint or a run; raise ConfigError if there is none."""
    folders = (Path(named),) if named else MODEL_FOLDERS
    for folder in folders:
        if (folder / "config.json").is_file() or followed(folder / "best").is_dir():
            return folder
    raise ConfigError(
        f"no model in {' or '.join(map(str, folders))}; mount a checkpoint's folder at /model "
        "(-v FOLDER:/model:ro), or set MODEL_DIR"
    )


if __name__ == "__main__":
    console.run(main)
