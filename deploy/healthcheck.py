"""The container's HEALTHCHECK: exit with 0 if the server answers /health, else with 1.

It reads the port from the flags of the running serve.py, so no variable has to repeat it.
"""

import re
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from clingpt.base import console
from clingpt.base.errors import ServingError

SERVE = Path(__file__).resolve().with_name("serve.py")
TIMEOUT_S = 5.0


def main() -> None:
    connection = HTTPConnection("localhost", serving_port(), timeout=TIMEOUT_S)
    with closing(connection):
        try:
            connection.request("GET", "/health")
            status = connection.getresponse().status
        except (OSError, HTTPException) as error:
            raise ServingError(f"/health did not answer: {error}") from error
    if status != 200:
        raise ServingError(f"/health answered {status}")


def serving_port() -> int:
    """Return the port of the process that runs this folder's serve.py, whatever its process id."""
    flag = re.compile(re.escape(bytes(SERVE)) + rb"\0.*?--port[=\0](\d+)\0", re.DOTALL)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # the process has ended meanwhile
            if found := flag.search(path.read_bytes()):
                return int(found[1])
    raise ServingError("serve.py is not running")


if __name__ == "__main__":
    console.run(main)
