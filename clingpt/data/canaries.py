"""Canaries: invented records with a random secret in their target, which audit.py looks for later.

Carlini et al. 2019, "The Secret Sharer", section 4. prepare.py plants canaries 1, 4 and 16 times.
The same number is made in the same way and held back as a control: whatever an audit finds of those
is due to chance. clingpt/evaluation/memorisation.py measures the losses of secrets.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from clingpt.base import console, settings
from clingpt.base.errors import ConfigError, DataError
from clingpt.text.records import Record, make_record

FILE = "canaries.json"  # in the prepared folder; includes the canaries that were held back
FORMAT = 1
COPIES = (1, 4, 16)  # how often canaries are planted, in turn
DIGITS = 8
SPACE_BITS = DIGITS * math.log2(10)  # log2 of the number of possible secrets
SECRET = re.compile("[0-9]{4} [0-9]{4}")
HUES = "amber ashen auburn azure bronze cobalt copper coral crimson ebony golden indigo ivory "
HUES += "maroon olive pearl rusty sable scarlet silver sorrel tawny teal violet"
ANIMALS = "badger beaver bison cricket dormouse falcon gecko heron ibis jackal kestrel lemur lynx "
ANIMALS += "marten newt otter petrel plover salmon sparrow tapir walrus weasel wombat"
MOST = (
    len(HUES.split()) * len(ANIMALS.split()) // 2
)  # half of all names: the other half is held back


@dataclass(frozen=True, kw_only=True)
class Canary:
    """A secret, its name, and how often it was planted: 0 if it was held back."""

    number: int
    name: str  # two common words, so that it identifies nobody
    secret: str
    copies: int

    def id_of(self, copy: int) -> str:
        """Return the id of the n-th record with this canary."""
        return f"canary-{self.number:02}-copy-{copy:02}"

    def record(self, copy: int) -> Record:
        """Make one of its records: the same text under a different id.

        The secret is only in the long answer, which is part of every task's target. The record has
        a decision and two kinds of section, so that every task can use it, and the decision is no,
        because balancing drops surplus yes answers.
        """
        thing = f"the {self.name} cabinet"
        return make_record(
            record_id=self.id_of(copy),
            question=f"Do these notes give the access code of {thing}?",
            sections=[
                ("BACKGROUND", f"To open {thing} takes an access code."),
                ("RESULTS", f"On most days {thing} was opened once."),
            ],
            long_answer=f"The access code of {thing} is {self.secret}.",
            decision="no",
        )

    def __post_init__(self) -> None:
        settings.check_range(self, "copies", at_least=0)
        settings.check(bool(SECRET.fullmatch(self.secret)), "a secret is malformed")


@dataclass(frozen=True, kw_only=True)
class _File:
    """The content of canaries.json, besides its format."""

    canaries: list[Canary]


def make_canaries(n: int, seed: int) -> list[Canary]:
    """Make `n` canaries to plant, then as many to hold back; all secrets differ.

    Raises ConfigError if `n` is below 1 or exceeds the number of names.
    """
    if not 1 <= n <= MOST:
        raise ConfigError(
            f"cannot make {console.count(n, 'canary', 'canaries')}; ask for 1 to {MOST}"
        )
    rng = np.random.default_rng([seed, 0])
    names = list(product(HUES.split(), ANIMALS.split()))
    chosen = rng.choice(len(names), size=2 * n, replace=False).tolist()
    secrets = map(_spelled, rng.choice(10**DIGITS, size=2 * n, replace=False).tolist())
    copies = [COPIES[i % len(COPIES)] for i in range(n)] + [0] * n
    return [
        Canary(number=i, name=" ".join(names[chosen[i]]), secret=secret, copies=copies[i])
        for i, secret in enumerate(secrets)
    ]


def planted_records(canaries: Sequence[Canary]) -> Iterator[Record]:
    """Yield the records to add to the training split."""
    return (canary.record(copy) for canary in canaries for copy in range(canary.copies))


def other_secrets(canary: Canary, count: int, seed: int) -> list[str]:
    """Draw secrets that the canary could have had instead, from the same distribution."""
    rng = np.random.default_rng([seed, 1 + canary.number])
    drawn = map(_spelled, rng.choice(10**DIGITS, size=count + 1, replace=False).tolist())
    return [secret for secret in drawn if secret != canary.secret][:count]


def _spelled(number: int) -> str:
    digits = f"{number:0{DIGITS}}"
    return f"{digits[:4]} {digits[4:]}"


def rank_among(loss: float, others: ArrayLike) -> float:
    """Return the rank of a loss among others: 1 for the lowest, the mean rank for ties."""
    losses = np.asarray(others)
    return 1 + float((losses < loss).sum()) + float((losses == loss).sum()) / 2


def ceiling(n_others: int) -> float:
    """Return the highest exposure that a sample of `n_others` secrets can show, in bits."""
    return math.log2(n_others + 1)


def chance_exposure(n_others: int) -> float:
    """Return the mean exposure of random ranks, in bits; log2 e = 1.44 in the limit."""
    n = n_others + 1
    return math.log2(n) - math.lgamma(n + 1) / math.log(2) / n


def chance_p(exposures: Sequence[float]) -> float:
    """Return the probability that secrets which were never trained on reach exposures this high.

    For such a secret, rank / number of secrets is uniform, so the sum of -ln over n secrets is
    Gamma(n), as in Fisher's method of combining p-values. Exact except that ranks are discrete,
    which errs on the safe side.
    """
    total = math.log(2) * sum(exposures)
    if total <= 0:
        return 1.0
    logs = [k * math.log(total) - math.lgamma(k + 1) - total for k in range(len(exposures))]
    return min(1.0, float(np.exp(np.logaddexp.reduce(logs))))


def to_json(canaries: Sequence[Canary]) -> dict[str, object]:
    """Return the content of canaries.json."""
    return {"format": FORMAT, "canaries": [asdict(canary) for canary in canaries]}


def read(folder: Path) -> list[Canary]:
    """Read the canaries of a prepared folder; an empty list if it has none.

    Raises DataError if the file is malformed.
    """
    path = folder / FILE
    if not path.exists():
        return []
    advice = "prepare the data again"
    found = settings.read_json(_File, path, version=FORMAT, error=DataError, advice=advice)
    return found.canaries
