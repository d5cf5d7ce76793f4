"""Reading receipt.json, the report that prepare.py writes on identifiers and duplicates.

Whatever loads a prepared folder or a checkpoint reads receipts. This module therefore imports no
detector: the rules that find identifiers (clingpt/privacy) take most of a second to load, and only
prepare.py, which writes receipts with clingpt/data/hygiene.py, needs them.
"""

from collections.abc import Mapping
from typing import Any, Literal

from clingpt.base.errors import DataError

FILE = "receipt.json"
FORMAT = 1

# What was done about the identifiers that were found.
Done = Literal["none", "published", "allowed", "tags", "surrogates"]
DONE = {
    "none": "no identifiers were allowed",
    "published": "the texts are published and were left unchanged",
    "allowed": "identifiers were allowed to stay",
    "tags": "identifiers were replaced by tags",
    "surrogates": "identifiers were replaced by surrogates",
}
# Kinds that a receipt counts but that identify nobody: privacy.identifiers.REPORTED_ONLY, repeated
# here because the receipt's format must be readable without the rules.
HARMLESS = frozenset({"month_year"})


def identifiers_found(receipt: Mapping[str, Any]) -> int:
    """Count the identifiers that the training split still contains, according to its receipt.

    Returns 0 if they were replaced or if all texts are published, since most names in published
    abstracts are not patients'. Raises DataError if the receipt has another format.
    """
    if receipt.get("format") != FORMAT or receipt.get("done") not in DONE:
        raise DataError(
            f"{FILE} is not a receipt of format {FORMAT}; prepare the data again with this version"
        )
    if receipt["done"] in ("published", "tags", "surrogates"):
        return 0
    kinds = receipt["identifiers"].items()
    return sum(row["by_split"].get("train", 0) for kind, row in kinds if kind not in HARMLESS)


def warning(card: Mapping[str, Any]) -> str | None:
    """Return a warning if a model's training data contained identifiers, else None."""
    if not (found := sum(map(identifiers_found, card.get("receipts", [])))):
        return None
    return (
        f"the training data contained {found:,} likely identifiers (names, dates, numbers; "
        "prepared with --allow_phi). The model may reproduce them: keep it wherever that data "
        "must be kept"
    )
