"""Reading receipts: cheap to import, strict about the format."""

import subprocess
import sys

import pytest

from clingpt.data.prepared import HARMLESS, identifiers_found, searched_with
from clingpt.privacy.identifiers import REPORTED_ONLY
from tests.helpers.commands import ROOT

LOADED = "import sys, {}; print(*[name for name in sys.modules if name.startswith({!r})])"


@pytest.mark.parametrize("command", ["train", "sample", "eval", "serve", "export"])
def test_reading_receipts_does_not_load_the_identifier_detectors(command: str) -> None:
    code = LOADED.format(command, "clingpt.privacy")
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == []


def test_receipts_and_detectors_agree_on_harmless_kinds() -> None:
    assert HARMLESS == REPORTED_ONLY


def test_a_receipt_says_which_detectors_searched() -> None:
    used = {"rules": "ab", "tagger": "cd", "roster": True, "engine": "a.b:c"}
    assert searched_with({"detectors": used}) == "rules, tagger, a list of known names, a.b:c"
    assert searched_with({"format": 1}) == "rules"  # written before receipts named them
    assert identifiers_found({"format": 1, "done": "none", "identifiers": {}}) == 0
