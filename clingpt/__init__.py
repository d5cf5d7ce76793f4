"""The parts that the commands share, in packages; docs/architecture.md shows the house."""

import sys

# Checked here because every command imports this package first: further on, an older Python would
# stop at newer syntax with a traceback.
if sys.version_info < (3, 11):  # noqa: UP036
    raise SystemExit(
        f"error: clinGPT needs Python 3.11 or newer, but {sys.executable} is "
        f"{sys.version_info[0]}.{sys.version_info[1]}"
    )
