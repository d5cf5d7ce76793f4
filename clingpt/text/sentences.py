"""Split English text into sentences with a small fixed rule, so that results never change.

This is deliberately not a trained model: models need a download and change between versions. A
sentence ends at `.`, `?` or `!`, optionally followed by a closing quote or bracket, if white space
and then a capital or a digit follow, optionally after an opening quote or bracket. A few
abbreviations never end a sentence.
"""

import re

CLOSING = "\"'”’)]"
OPENING = "\"'“‘(["
LONGEST = 12  # characters to look at on either side of a space; more than any abbreviation below
END = re.compile(rf"[.?!][{re.escape(CLOSING)}]*$")
# Abbreviations, but not initials: in clinical text, "hepatitis C. Patients …" is more common than
# "J. Smith".
NEVER_LAST = re.compile(
    r"(?:^|[\s(\[\"'“‘])"
    r"(?:e\.g|i\.e|cf|vs|viz|al|[Aa]pprox|ca|resp|Drs?|Mrs?|Ms|Prof|St|[Ff]igs?|[Ee]qs?|Refs?|Vol)\.$"
)
NUMBER_SIGN = re.compile(r"(?:^|[\s(\[])[Nn]os?\.$")  # "no. 5", but "The answer is no."
LIST_NUMBER = re.compile(r"^\d{1,2}\.$")  # "2. Rest."
WHITE_SPACE = re.compile(r"\s+")


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text, in order and unaltered.

    Only white space between sentences is lost: joining the sentences of a cleaned text with single
    spaces restores it.
    """
    text = text.strip()
    sentences, start = [], 0
    for gap in WHITE_SPACE.finditer(text):
        # Look at only a few characters: on a long text without sentence ends, passing everything
        # since the last end would take quadratic time.
        before = text[max(start, gap.start() - LONGEST) : gap.start()]
        if ends_sentence(before, following=text[gap.end() : gap.end() + LONGEST]):
            sentences.append(text[start : gap.start()])
            start = gap.end()
    return [*sentences, text[start:]] if text else []


def ends_sentence(before: str, *, following: str) -> bool:
    """Whether a sentence ends at the white space between two pieces of text."""
    first = following.lstrip(OPENING)[:1]
    if not (first.isupper() or first.isdigit()) or not END.search(before):
        return False
    if NUMBER_SIGN.search(before):
        return not first.isdigit()
    return not (NEVER_LAST.search(before) or LIST_NUMBER.search(before))
