"""Write the hygiene receipt: which identifiers and duplicates a data set contains.

    receipt = Receipt(done="none", held_out=the postings of the held-out records)
    for each record, in order:   receipt.see(split, source, record.id, inspect(record), hits=…)
    receipt.to_json()            receipt.json, which travels with the data and with its checkpoints

`inspect` does the slow part and can run in other processes. A receipt contains no text of a record,
only a few identifiers that are masked beyond recognition, and the ids that it is given: if records
are redacted, pass the ids of the redacted ones. clingpt/data/prepared.py reads receipts.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from clingpt.data.overlap import (
    MEASURES,
    Duplicates,
    Fingerprint,
    HeldOut,
    Measure,
    Positions,
    Postings,
    SharedRuns,
    fingerprint,
)
from clingpt.data.prepared import HELD_OUT, RECEIPT_FORMAT, Done
from clingpt.privacy.detectors import for_record
from clingpt.privacy.identifiers import KINDS, REPORTED_ONLY, Detector, find_identifiers, masked
from clingpt.privacy.redaction import joined_text, may_identify
from clingpt.text.records import Record

N_EXAMPLES = 3  # masked identifiers shown of each kind


@dataclass(frozen=True)
class Inspection:
    """What was found in one record."""

    counts: dict[str, int]  # kind of identifier -> how many
    examples: tuple[tuple[str, str], ...]  # (kind, masked)
    id_may_identify: bool
    fingerprint: Fingerprint


def inspect(record: Record, detect: Detector = find_identifiers) -> Inspection:
    """Search one record for identifiers and compute its fingerprint; the same in any process."""
    text = joined_text(record)
    found = for_record(detect, record)(text)
    examples: list[tuple[str, str]] = []
    seen = Counter[str]()
    for one in found:
        seen[one.kind] += 1
        if seen[one.kind] <= N_EXAMPLES:
            examples.append((one.kind, masked(text, one)))
    return Inspection(
        counts=dict(seen),
        examples=tuple(examples),
        id_may_identify=may_identify(record.id),
        fingerprint=fingerprint(record.full_text(), record.long_answer or record.document),
    )


class Receipt:
    """Counts over the records of a data set; they depend only on the records and their order."""

    def __init__(
        self,
        done: Done,
        held_out: Postings | None = None,
        detectors: Mapping[str, Any] | None = None,
    ) -> None:
        """Start without records. Without `held_out`, only near-duplicates count as copies.

        `detectors` describes what the records are searched with (privacy.detectors.detectors_used).
        """
        self.done = done
        self.detectors = dict(detectors or {})
        self.records = Counter[str]()  # split -> records
        self._with_any = Counter[str]()
        self._ids = 0
        self._identifiers = Counter[tuple[str, str, str]]()  # (kind, split, source)
        self._holders = Counter[str]()  # kind -> records
        self._examples: dict[str, list[dict[str, str]]] = {}
        self._replaced = Counter[str]()
        self._duplicates = Duplicates()
        self._held_out = held_out or HeldOut().postings()
        self.shared_runs = SharedRuns(self._held_out)
        # Held-out split -> places of the training records with one of its texts, or articles.
        self._same_text: dict[str, list[int]] = {split: [] for split in HELD_OUT}
        self._same_article: dict[str, list[int]] = {split: [] for split in HELD_OUT}
        self._copies: tuple[int, dict[str, dict[int, Measure]]] = 0, {}  # cached, with the records

    def see(
        self,
        split: str,
        source: str,
        record_id: str,
        inspection: Inspection,
        *,
        replaced: Mapping[str, int] | None = None,
        hits: Positions | None = None,
        articles: Collection[str] = (),
    ) -> None:
        """Count one record. Records must come in the order of their source.

        `replaced` counts, by kind, the identifiers that redaction replaced in it. `hits` are the
        held-out runs that a training record repeats, `articles` those that it comes from.
        """
        place = self.records.total()
        if hits is not None:
            self.shared_runs.see(place, hits)
            for each in self._held_out.texts.get(inspection.fingerprint.text, ()):
                self._same_text[each].append(place)
            found = (self._held_out.articles.get(number, set()) for number in articles)
            for each in set().union(*found):
                self._same_article[each].append(place)
        self._replaced.update(replaced or {})
        self.records[split] += 1
        self._with_any[split] += bool(inspection.counts.keys() - REPORTED_ONLY)
        self._ids += inspection.id_may_identify
        for kind, n in inspection.counts.items():
            self._identifiers[kind, split, source] += n
            self._holders[kind] += 1
        for kind, hidden in inspection.examples:
            examples = self._examples.setdefault(kind, [])
            if len(examples) < N_EXAMPLES:
                examples.append({"record": record_id, "masked": hidden})
        self._duplicates.add(
            inspection.fingerprint, split=split, source=source, record_id=record_id
        )

    def refusable(self, sources: Collection[str]) -> int:
        """Count the identifiers in all splits for which these sources are refused."""
        return sum(
            n
            for (kind, _, source), n in self._identifiers.items()
            if source in sources and kind not in REPORTED_ONLY
        )

    def copies(self, held_out: str) -> dict[str, Measure]:
        """Return the ids of training records that copy a record of a held-out split, and why.

        The ids are in the order of the records; of several reasons, the strongest is returned.
        """
        ids = self._duplicates.ids
        return {ids[place]: why for place, why in self._copied_places()[held_out].items()}

    def _copied_places(self) -> dict[str, dict[int, Measure]]:
        if self._copies[0] != self.records.total():
            shared, found = self.shared_runs.copies(), {}
            for split in HELD_OUT:
                why: dict[int, Measure] = dict.fromkeys(self._same_article[split], "article")
                why |= shared.get(split, {})
                why |= dict.fromkeys(self._same_text[split], "near")
                why |= dict.fromkeys(self._duplicates.like(split, "train"), "near")
                found[split] = dict(sorted(why.items()))
            self._copies = self.records.total(), found
        return self._copies[1]

    def to_json(self) -> dict[str, Any]:
        """Return the content of receipt.json (docs/formats.md)."""
        return {
            "format": RECEIPT_FORMAT,
            "done": self.done,
            "detectors": self.detectors,
            "records": dict(sorted(self.records.items())),
            "records_with_identifiers": dict(sorted(self._with_any.items())),
            "ids_that_may_identify": self._ids,
            "identifiers_replaced": {k: n for k in KINDS if (n := self._replaced[k])},
            "identifiers": {kind: self._kind(kind) for kind in KINDS if self._holders[kind]},
            "copies": {
                split: {"records": len(why)} | {m: n for m in MEASURES if (n := counts[m])}
                for split, why in self._copied_places().items()
                if (counts := Counter(why.values())) or split in self.records
            },
            "duplicates": {
                name: self._duplicates.summary(groups)
                | {"examples": [[self._duplicates.ids[at] for at in g[:4]] for g in groups[:3]]}
                for name, groups in (
                    ("same_text", self._duplicates.same_text()),
                    ("near_text", self._duplicates.near_text()),
                    ("same_answer", self._duplicates.same_answer()),
                )
            },
        }

    def _kind(self, kind: str) -> dict[str, Any]:
        by_split, by_source = Counter[str](), Counter[str]()
        for (each, split, source), n in self._identifiers.items():
            if each == kind:
                by_split[split] += n
                by_source[source] += n
        return {
            "count": by_split.total(),
            "records": self._holders[kind],
            "by_split": dict(sorted(by_split.items())),
            "by_source": dict(sorted(by_source.items())),
            "examples": self._examples[kind],
        }
