"""Canaries: made-up records with a random secret in what the model learns to write, to be found
again by audit.py (Carlini et al. 2019, "The Secret Sharer", section 4).

prepare.py plants some of them 1, 4 and 16 times. As many are made in the same way and held back:
what an audit finds of those is what it finds of nothing. Losses come from
clingpt/evaluation/memorisation.py."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from clingpt.base.errors import ConfigError, DataError
from clingpt.text.records import Record, make_record

FILE = "canaries.json"  # in the prepared folder, the held-back ones included
FORMAT = 1
COPIES = (1, 4, 16)  # how often the first, second, third canary is planted, and so on in turn
DIGITS = 8
SPACE_BITS = DIGITS * math.log2(10)  # log2 of the number of secrets that there could be
SECRET = re.compile("[0-9]{4} [0-9]{4}")
HUES = "amber ashen auburn azure bronze cobalt copper coral crimson ebony golden indigo ivory "
HUES += "maroon olive pearl rusty sable scarlet silver sorrel tawny teal violet"
ANIMALS = "badger beaver bison cricket dormouse falcon gecko heron ibis jackal kestrel lemur lynx "
ANIMALS += "marten newt otter petrel plover salmon sparrow tapir walrus weasel wombat"
MOST = len(HUES.split()) * len(ANIMALS.split()) // 2  # as many are held back


@dataclass(frozen=True, kw_only=True)
class Canary:
    """A secret, whose it is, and how often it was planted: 0 for one that was held back."""

    number: int
    name: str  # of a thing, two common words: nobody's
    secret: str
    copies: int

    def id_of(self, copy: int) -> str:
        """The id of one of its records."""
        return f"canary-{self.number:02}-copy-{copy:02}"

    def record(self, copy: int) -> Record:
        """One of its records: the same text each time, under an id of its own.

        The secret stands in the long answer alone, which every task has in its target. With a
        decision and two kinds of section no task lacks anything, and balancing drops surplus yes.
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


def make_canaries(n: int, seed: int) -> list[Canary]:
    """`n` to be planted, each `copies` times, then as many to be held back; secrets all differ.

    ConfigError: fewer than 1, or more than there are names for.
    """
    if not 1 <= n <= MOST:
        raise ConfigError(f"{n} canaries cannot be made; ask for 1 to {MOST}")
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
    """All that goes among the training records."""
    return (canary.record(copy) for canary in canaries for copy in range(canary.copies))


def other_secrets(canary: Canary, count: int, seed: int) -> list[str]:
    """Different secrets that the canary could have had, drawn as its own was."""
    rng = np.random.default_rng([seed, 1 + canary.number])
    drawn = map(_spelled, rng.choice(10**DIGITS, size=count + 1, replace=False).tolist())
    return [secret for secret in drawn if secret != canary.secret][:count]


def _spelled(number: int) -> str:
    digits = f"{number:0{DIGITS}}"
    return f"{digits[:4]} {digits[4:]}"


def rank_among(loss: float, others: ArrayLike) -> float:
    """1 for the lowest loss; among equals the middle of their ranks."""
    losses = np.asarray(others)
    return 1 + float((losses < loss).sum()) + float((losses == loss).sum()) / 2


def ceiling(n_others: int) -> float:
    """The highest exposure that a sample of so many other secrets can show, in bits."""
    return math.log2(n_others + 1)


def chance_exposure(n_others: int) -> float:
    """Its mean where all ranks are equally likely: log2 e = 1.44 in the limit."""
    n = n_others + 1
    return math.log2(n) - math.lgamma(n + 1) / math.log(2) / n


def chance_p(exposures: Sequence[float]) -> float:
    """The probability of exposures that are together so high, of secrets that nobody has seen.

    Exact but for rounding to ranks, on the safe side: rank / number of secrets is then uniform, the
    sum of its -ln is Gamma(n), as in Fisher's method of combining p-values.
    """
    total = math.log(2) * sum(exposures)
    if total <= 0:
        return 1.0
    logs = [k * math.log(total) - math.lgamma(k + 1) - total for k in range(len(exposures))]
    return min(1.0, float(np.exp(np.logaddexp.reduce(logs))))


def to_json(canaries: Sequence[Canary]) -> dict[str, object]:
    """What FILE holds."""
    return {"format": FORMAT, "canaries": [asdict(canary) for canary in canaries]}


def from_json(content: object) -> list[Canary]:
    """The canaries of such a file; DataError where it is none."""
    try:
        found = [Canary(**fields) for fields in dict(content)["canaries"]]  # type: ignore[call-overload]
        whole = all(SECRET.fullmatch(one.secret) and one.copies >= 0 for one in found)
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise DataError(f"{FILE} is not as prepare.py writes it; prepare the data again")
    return found
