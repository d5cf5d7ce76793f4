"""Start a script on two ranks with torchrun, and wait for its output."""

import os
import subprocess
import sys
from typing import Any

from tests.helpers.commands import ROOT
from tests.helpers.patience import PATIENCE


def torchrun(
    *args: object, env: dict[str, str] | None = None, **options: Any
) -> "subprocess.Popen[str]":
    """Start two ranks of a script, offline."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return subprocess.Popen(
        [*command, *map(str, args)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | (env or {}),
        **options,
    )


def stderr_of(process: "subprocess.Popen[str]", *, within_s: float) -> str:
    """Wait for a process to end and return its standard error; terminate it if it takes too long.

    The limit is multiplied by PATIENCE.
    """
    try:
        return process.communicate(timeout=within_s * PATIENCE)[1]
    except subprocess.TimeoutExpired:
        process.terminate()  # torchrun then ends its ranks
        process.communicate()
        raise
