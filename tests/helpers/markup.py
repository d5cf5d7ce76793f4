"""Strings that try to become markup, reports full of them, and the style sheet of report.html."""

from itertools import count
from pathlib import Path
from typing import Any

from clingpt import reports
from clingpt.base import console

HOSTILE = (
    "</td></script><script>alert(1)</script><img src=http://a.example onerror=alert(1)> | a \" b '"
    " &amp; --><!-- </style><b>*x*</b> [l](http://a.example) `c` ~~s~~ www.a.example \x1b[31m\u202e"
    "\ud800 \\"
)
SHOWN = console.visible(HOSTILE)
# Fields whose keys come from data: names of systems, texts, settings and so on.
FREE = {"systems", "perplexity", "texts", "settings", "versions", "probabilities", "spread"}
FREE |= {"section_rougeL"}
TEMPLATE = (Path(reports.__file__).with_name("templates") / "report.html").read_text("utf-8")
STYLE = TEMPLATE.partition("<style>")[2].partition("</style>")[0]


def hostile(value: Any, *, free: bool = False, numbers: Any = None) -> Any:
    """Return a report in which every string is HOSTILE, including the keys that come from data."""
    numbers = numbers or count()
    if isinstance(value, dict):
        return {
            f"{HOSTILE} {next(numbers)}"
            if free and key not in ("model", "reference")
            else key: hostile(inner, free=key in FREE, numbers=numbers)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [hostile(inner, numbers=numbers) for inner in value]
    return HOSTILE if isinstance(value, str) else value
