"""How well generated documents keep to their references' sections; not whether what they say holds.

A document is lines of `HEADING: text` under the headings that the task `document` asks for (see
clingpt.text.tasks). A line without one of them continues the section above.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from statistics import fmean

from clingpt.evaluation.metrics import ROUGE_TYPES, check_pairs, rouge_scores
from clingpt.text.documents import HEADINGS, Sections, parse_document


@dataclass(frozen=True, kw_only=True)
class Structure:
    """Outputs' sections against those of their references; shares are 0 to 1, of nothing 0.

    Of the documents whose reference has one of HEADINGS: those of one's own, under other headings
    or none, are counted and no more. A heading counts once a document in `present` and `spurious`.
    An output without headings is neither in order nor complete.
    """

    documents: int
    unheaded: int  # references without any of HEADINGS, left out of all that follows
    present: float  # of the references' headings, those that the output has
    spurious: float  # of the outputs' headings, those that the reference lacks
    in_order: float  # of the outputs, those with their headings in the order of HEADINGS, each once
    complete: float  # of the outputs, those with the reference's headings and no other, in order
    section_rougeL: dict[str, float]  # 0 to 100
    signature: str


def structure(outputs: Sequence[str], references: Sequence[str]) -> Structure:
    """Compare each document with its reference; DataError if the lists do not pair up."""
    check_pairs(references, outputs, of="outputs")
    found = [
        (parse_document(output), parse_document(reference))
        for output, reference in zip(outputs, references, strict=True)
    ]
    pairs = [(ours, theirs) for ours, theirs in found if theirs]
    names = [([name for name, _ in ours], [name for name, _ in theirs]) for ours, theirs in pairs]
    n_shared = sum(len({*ours} & {*theirs}) for ours, theirs in names)
    n_ours = sum(len({*ours}) for ours, _ in names)
    n_theirs = sum(len({*theirs}) for _, theirs in names)
    scores, signature = score_sections(pairs)
    return Structure(
        documents=len(pairs),
        unheaded=len(found) - len(pairs),
        present=n_shared / n_theirs if n_theirs else 0.0,
        spurious=(n_ours - n_shared) / n_ours if n_ours else 0.0,
        in_order=sum(is_in_order(ours) for ours, _ in names) / max(1, len(pairs)),
        complete=sum(ours == theirs for ours, theirs in names) / max(1, len(pairs)),
        section_rougeL=scores,
        signature=signature,
    )


def is_in_order(names: Sequence[str]) -> bool:
    """Whether there are headings, each once and in the order of HEADINGS."""
    places = [HEADINGS.index(name) for name in names]
    return bool(places) and all(one < other for one, other in pairwise(places))


def score_sections(pairs: Sequence[tuple[Sections, Sections]]) -> tuple[dict[str, float], str]:
    """Mean ROUGE-L F1 × 100 of each heading, and the settings behind it.

    The mean is over the documents whose reference has the heading, in the order of HEADINGS; a
    section that the output lacks counts 0, and the texts of a repeated heading are joined.
    """
    scores = defaultdict(list)
    for ours, theirs in pairs:
        said, wanted = join_sections(ours), join_sections(theirs)
        for name, text in wanted.items():
            found = rouge_scores(said.get(name, ""), text)
            scores[name].append(found[ROUGE_TYPES.index("rougeL")])
    means = {name: fmean(scores[name]) for name in HEADINGS if name in scores}
    settings = "rougeL|f1|stemmer:porter|mean of documents"
    return means, f"rouge-score:{version('rouge-score')}|{settings}"


def join_sections(sections: Sections) -> dict[str, str]:
    """The text under each heading."""
    texts: dict[str, str] = {}
    for name, text in sections:
        texts[name] = f"{texts[name]}\n{text}" if name in texts else text
    return texts
