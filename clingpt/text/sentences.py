"""Where English sentences end: a small, fixed rule, so that trimming and scores never shift.

Not a linguistic model: trained splitters need a download and change between versions. A sentence
ends at `.`, `?` or `!` (a closing quote or bracket may follow), then blank space, then a capital or
a digit (an opening quote or bracket may precede). A few abbreviations never end one.
"""

import re

CLOSING = "\"'”’)]"
OPENING = "\"'“‘(["
LONGEST = 12  # characters before a blank that decide; longer than any abbreviation below
END = re.compile(rf"[.?!][{re.escape(CLOSING)}]*$")
# Initials are not among them: "hepatitis C. Patients …" is commoner in this text than "J. Smith".
NEVER_LAST = re.compile(
    r"(?:^|[\s(\[\"'“‘])"
    r"(?:e\.g|i\.e|cf|vs|viz|al|[Aa]pprox|ca|resp|Drs?|Mrs?|Ms|Prof|St|[Ff]igs?|[Ee]qs?|Refs?|Vol)\.$"
)
NUMBER_SIGN = re.compile(r"(?:^|[\s(\[])[Nn]os?\.$")  # "no. 5", but "The answer is no."
LIST_NUMBER = re.compile(r"^\d{1,2}\.$")  # "2. Rest."
BLANKS = re.compile(r"\s+")


def split_sentences(text: str) -> list[str]:
    """The sentences of `text`, in order, unaltered.

    Only the blanks between two sentences go: joined by one blank, the sentences give back every
    text that has single blanks inside and none outside.
    """
    text = text.strip()
    sentences, start = [], 0
    for blanks in BLANKS.finditer(text):
        # A slice, not the whole sentence: a long text without any end would take quadratic time.
        before = text[max(start, blanks.start() - LONGEST) : blanks.start()]
        if ends_sentence(before, following=text[blanks.end() : blanks.end() + LONGEST]):
            sentences.append(text[start : blanks.start()])
            start = blanks.end()
    return [*sentences, text[start:]] if text else []


def ends_sentence(before: str, *, following: str) -> bool:
    """Whether a sentence ends between two pieces of text that a blank separates."""
    first = following.lstrip(OPENING)[:1]
    if not (first.isupper() or first.isdigit()) or not END.search(before):
        return False
    if NUMBER_SIGN.search(before):
        return not first.isdigit()
    return not (NEVER_LAST.search(before) or LIST_NUMBER.search(before))
