"""The parts that the commands share, in packages; docs/architecture.md shows the house."""

import sys

# Here, because every command imports this first, and newer syntax would end in a traceback.
if sys.version_info < (3, 11):  # noqa: UP036
    raise SystemExit(
        f"error: clinGPT needs Python 3.11 or newer, but {sys.executable} is "
        f"{sys.version_info[0]}.{sys.version_info[1]}"
    )
