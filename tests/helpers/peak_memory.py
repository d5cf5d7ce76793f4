r"""Compare the memory that train.py estimates on a CPU with the peak of the process.

    python tests/helpers/peak_memory.py --data=data/quickstart --init_from=scratch \
        --n_layer=2 --n_head=2 --n_embd=32

The flags are those of train.py; it trains one step into a temporary folder.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = """
import atexit, re, runpy, sys
def show():
    print(re.search(r"VmHWM.*", open("/proc/self/status").read())[0], file=sys.stderr)
atexit.register(show)
sys.argv = sys.argv[1:]
runpy.run_path("train.py", run_name="__main__")
"""


def peak(*flags: str) -> tuple[float, float]:
    """Train one step; return the estimate and the peak, in GB."""
    with tempfile.TemporaryDirectory() as folder:
        run = ["--device=cpu", "--steps=1", "--sample=False"]
        done = subprocess.run(
            [sys.executable, "-c", CODE, "train.py", *run, f"--out={folder}/run", *flags],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    estimate = re.search(r"memory: about ([\d.]+) ([MG])B", done.stderr)
    found = re.search(r"VmHWM:\s+(\d+) kB", done.stderr)
    assert estimate and found, done.stderr
    return float(estimate[1]) / {"M": 1000, "G": 1}[estimate[2]], int(found[1]) * 1024 / 1e9


if __name__ == "__main__":
    estimate, measured = peak(*sys.argv[1:])
    sys.stdout.write(f"estimated {estimate:.2f} GB, measured {measured:.2f} GB\n")
