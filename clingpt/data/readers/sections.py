"""Recognise the conclusion of a report or an abstract, and divide a text at labels inside it."""

import re
from collections.abc import Iterable, Sequence

Sections = list[tuple[str, str]]

_CONCLUSION = re.compile(r"\b(CONCLU\w*|IMPRESSIONS?|INTERPRETATIONS?)\b")
_OTHER_PARTS = re.compile(r"\b(RESULTS?|FINDINGS?|METHODS?|BACKGROUND|OBJECTIVES?)\b")

# A label inside a text, at its start or after a sentence: "… (P = 0.02). CONCLUSIONS: …".
_LABEL = re.compile(r"(?:^|(?<=[.?!;)\]%] ))([A-Z][A-Z/&,'() -]{2,60}[A-Z)]):(?= )")
_LABEL_WORDS = re.compile(
    r"\b(BACKGROUND|INTRODUCTION|CONTEXT|IMPORTANCE|RATIONALE|HYPOTHES[IE]S|AIMS?|GOALS?|PURPOSE"
    r"|OBJECTIVES?|QUESTIONS?|PROBLEM|METHODS?|METHODOLOGY|MATERIALS?|DESIGN|SETTINGS?|PATIENTS?"
    r"|PARTICIPANTS?|SUBJECTS?|ANIMALS|POPULATION|SAMPLE|INTERVENTIONS?|EXPOSURES?|MEASUREMENTS?"
    r"|MEASURES?|OUTCOMES?|DATA|SOURCES?|SELECTION|EXTRACTION|SYNTHESIS|ANALYSIS|STUDY|TRIAL|CASE"
    r"|PRESENTATION|DIAGNOSIS|EVIDENCE|RESULTS?|FINDINGS?|DISCUSSION|LIMITATIONS?|CONCLUSIONS?"
    r"|INTERPRETATION|SIGNIFICANCE|RELEVANCE|IMPLICATIONS?|SUMMARY|COMMENTS?|REGISTRATION|FUNDING"
    r"|REVIEWERS?|RECOMMENDATIONS?|PRACTICE|KEY|MAIN)\b"
)


def is_conclusion(label: str) -> bool:
    """Return whether a label names only the conclusion, not "RESULTS AND CONCLUSIONS"."""
    label = label.upper()
    return bool(_CONCLUSION.search(label)) and not _OTHER_PARTS.search(label)


def set_apart(sections: Iterable[tuple[str, str]], is_target: Sequence[bool]) -> dict[str, object]:
    """Return the columns `sections` and `target`; a text that is all conclusion has no target."""
    pairs = list(zip(sections, is_target, strict=True))
    if all(is_target):
        return {"sections": [section for section, _ in pairs], "target": None}
    return {
        "sections": [section for section, wanted in pairs if not wanted],
        "target": " ".join(text for (_, text), wanted in pairs if wanted) or None,
    }


def divide(text: str) -> Sections:
    """Divide an abstract at the labels inside it; without any, return it under no label.

    Labels are in capitals, end with a colon, contain a word that abstracts use as a label, and
    start a sentence. Where the text does not start with one, there must be two: a single one may
    be a heading within prose.
    """
    found = [label for label in _LABEL.finditer(text) if _LABEL_WORDS.search(label[1])]
    if not found or found[0].start() and len(found) == 1:
        return [("", text)]
    ends = [*(label.start() for label in found[1:]), len(text)]
    parts = [("", text[: found[0].start()])]
    parts += [(label[1], text[label.end() : end]) for label, end in zip(found, ends, strict=True)]
    return [(label, part.strip()) for label, part in parts if part.strip()]
