"""HEALTHCHECK's question: does the container's server answer /health? Exit status 0 or 1.

The port is the one in serve.py's own flags, which no variable need repeat.
"""

import re
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from clingpt.base import console
from clingpt.base.errors import ServingError

SERVE = Path(__file__).resolve().with_name("serve.py")
PATIENCE_S = 5.0


def main() -> None:
    connection = HTTPConnection("localhost", serving_port(), timeout=PATIENCE_S)
    with closing(connection):
        try:
            connection.request("GET", "/health")
            status = connection.getresponse().status
        except (OSError, HTTPException) as error:
            raise ServingError(f"/health does not answer: {error}") from error
    if status != 200:
        raise ServingError(f"/health answers {status}")


def serving_port() -> int:
    """That of the process which runs this folder's serve.py, be it the first one or an init's."""
    flag = re.compile(re.escape(bytes(SERVE)) + rb"\0.*?--port[=\0](\d+)\0", re.DOTALL)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            if found := flag.search(path.read_bytes()):
                return int(found[1])
    raise ServingError("serve.py does not run")


if __name__ == "__main__":
    console.run(main)
