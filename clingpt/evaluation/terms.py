"""Unsupported terms: medical words of a generated text that are not in its source.

A term is a word that names something rather than links other words: an abbreviation (COPD), a word
with an ending of medical Greek or of drug names (nephropathy, lisinopril), or a word learned from
the training texts. Learned terms are those that a text repeats once it has them (Church 2000,
"Empirical estimates of adaptation") and that references do not bring in by themselves. They are
what finds "epilepsy" or "cancer"; eval.py stores them as terms.json next to the weights. Without
that file only abbreviations and endings are looked at.

A term is supported if the source has it in any spelling: inflected, British or American, hyphenated
or joined, or as the abbreviation of a longer name or the other way round. So a supported term can
still be used wrongly: this check does not see that a text says the opposite, or that it swaps the
drug and the comparator of the source. Needs no torch and nothing outside the standard
library, because the ONNX runner uses it.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import pairwise
from os.path import commonprefix
from pathlib import Path
from typing import Any, Self

from clingpt.base.errors import CheckpointError
from clingpt.base.files import write_json
from clingpt.base.settings import check_range, read_json
from clingpt.evaluation.unsupported import Flag, find_flags
from clingpt.text.records import Record
from clingpt.text.tasks import source_text

FILE, FORMAT = "terms.json", 1  # written by eval.py, so SHA256SUMS does not cover it

# A training text is a record with its reference. These three limits were chosen on PubMedQA's
# training and validation records (docs/results.md).
FEWEST_TEXTS = 10  # that have a learned term
REPEATED = 0.7  # of them have it more than once
BROUGHT_IN = 0.02  # at most: share of the references with it whose source lacks it
COMMON = 0.5  # a word in more of the texts, such as "patients", does not tell them apart
SHORTEST = 4  # letters of a learned term; shorter words are mostly function words

WORD = re.compile(r"[^\W\d_](?:[^\W_]|['’](?=[^\W_]))*")
ABBREVIATION = re.compile(r"(?=.*[A-Z].*[A-Z])[A-Z][A-Za-z0-9]{1,5}")
# General to research, so any text may use them whatever its source.
GENERAL = frozenset("ci eu gp hr iv mesh or rct rr sd uk us usa who".split())
FUNCTION_WORDS = frozenset("a an and at by for from in of on or the to with".split())  # of names

DISEASES = """
    algia cardia cele dynia ectasia ectasis edema emia iasis itis malacia megaly oma omata osis
    paresis pathies pathy penia phagia phasia phobia phrenia plasia plegia pnea rrhage rrhagia rrhea
    spasm thorax thyroidism trophy uria
"""
PROCEDURES = """
    centesis desis ectomies ectomy ostomies ostomy otomies otomy pexy plasties plasty rrhaphy
    scopies scopy
"""
# Stems of international nonproprietary names, where no everyday word ends alike.
DRUGS = """
    asone azepam azepine azine azolam barbital buvir caine ciclib ciclovir cillin citabine conazole
    coxib cycline dipine dronate farin fibrate formin gatran glitazone gliflozin gliptin glutide
    grastim grel isone lukast mab micin mycin navir nidazole olimus olol oxacin oxetine oxicam parin
    platin poetin prazole pril profen rubicin sartan semide setron solone statin taxel tegravir
    thiazide thyroxine tinib tocin trexate triptan triptyline tropium vudine xaban zodone zosin
"""
ENDINGS = "|".join(f"{DISEASES} {PROCEDURES} {DRUGS}".split())
MEDICAL = re.compile(
    rf"(?!diagnosis|prognosis|stroma|diploma)\w{{2,}}(?:{ENDINGS})s?"
    "|atrophy|edema|hypertension|hypotension"
)

# From British to American spelling, on lower-case words.
SPELLINGS = (
    (re.compile("ae|oe"), "e"),
    (re.compile("our"), "or"),
    (re.compile("sulph"), "sulf"),
    (re.compile("yse"), "yze"),
    (re.compile("is(?=(?:e[sd]?|ing|ations?)$)"), "iz"),
    (re.compile("tre(?=s?$)"), "ter"),
)
LONGEST_ENDING = 3  # letters in which two forms of a word differ: epilep|sy, epilep|tic
SHARED = 5  # letters that they have in common; 4 if one continues the other: obes(e), obes|ity


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Terms learned from the training texts of a checkpoint, stored next to its weights."""

    texts: int  # that they were learned from
    fingerprint: str  # of the prepared data
    words: tuple[str, ...]  # base forms, sorted

    def __post_init__(self) -> None:
        check_range(self, "texts", at_least=0)

    def save(self, folder: Path) -> None:
        """Write terms.json atomically."""
        write_json(folder / FILE, {"format": FORMAT, **asdict(self)})

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Read what `save` wrote, or return None; raise CheckpointError for any other content."""
        if not (folder / FILE).exists():
            return None
        advice = "write it again by running eval.py, or remove it"
        return read_json(cls, folder / FILE, version=FORMAT, error=CheckpointError, advice=advice)


def learned_terms(folder: Path) -> frozenset[str]:
    """Return the terms stored next to a checkpoint's weights; none before eval.py was run."""
    found = Terms.load(folder)
    return frozenset(found.words if found else ())


def find_terms(output: str, source: str, learned: Collection[str] = ()) -> list[Flag]:
    """Return the terms of `output` that `source` does not have, neighbours as one, in order."""
    words = [word for word in WORD.finditer(output) if is_term(output, word, learned)]
    if not words:
        return []
    known = Words(source)
    spelled_out = known.spelled_out(output)
    found: list[tuple[int, int]] = []
    for word in words:
        start, end = word.span()
        if start in spelled_out or known.support(word[0]):
            continue
        if found and re.fullmatch(r"[\s-]", output[found[-1][1] : start]):
            start = found.pop()[0]
        found.append((start, end))
    return [Flag("term", start, end, output[start:end]) for start, end in found]


def is_term(text: str, word: re.Match[str], learned: Collection[str]) -> bool:
    """Return whether the word at a match is an abbreviation, medical or learned."""
    if ABBREVIATION.fullmatch(word[0]):
        # Not a heading, nor a word of a line in capitals.
        around = text[max(0, word.start() - 24) : word.start()], text[word.end() : word.end() + 24]
        shouted = re.search(r"[A-Z]{2}\s*$", around[0]) or re.match(r":|\s*[A-Z]{2}", around[1])
        is_name = len({*word[0]}) > 1 and word[0].removesuffix("s").lower() not in GENERAL
        return is_name and not shouted
    return bool(MEDICAL.fullmatch(american(word[0]))) or base_form(word[0]) in learned


class Words:
    """The words of a source, in the forms in which a text may use them."""

    def __init__(self, text: str) -> None:
        words = WORD.findall(text)
        forms = [base_form(word) for word in words]
        self._forms = {*forms, *map("".join, pairwise(forms))}
        self._long = {form for form in self._forms if len(form) >= SHARED}
        self._abbreviations = {one.lower() for one in words if ABBREVIATION.fullmatch(one)}
        self._initials = list(initials(words))

    def support(self, word: str) -> bool:
        """Return whether the source has a word, a form or a part of it, or its long name."""
        form = base_form(word)
        if form in self._forms or any(agree(form, other) for other in self._forms):
            return True
        if len(form) >= SHARED and any(form in other or other in form for other in self._long):
            return True  # compounds: neoadjuvant and adjuvant
        letters = re.sub(r"[^a-z]", "", word.rstrip("s").lower())
        is_short = ABBREVIATION.fullmatch(word) and len(letters) > 1
        return bool(is_short) and any(letters in row for row, _ in self._initials)

    def spelled_out(self, text: str) -> set[int]:
        """Return where words start that spell out an abbreviation of the source."""
        words, starts = WORD.findall(text), [word.start() for word in WORD.finditer(text)]
        found = set()
        for row, places in initials(words):
            for short in self._abbreviations:
                at = row.find(short)
                while at >= 0:
                    found |= {starts[place] for place in places[at : at + len(short)]}
                    at = row.find(short, at + 1)
        return found


def initials(words: list[str]) -> Iterator[tuple[str, list[int]]]:
    """Yield the first letters of all words, then without function words, with their places."""
    for skipped in (frozenset[str](), FUNCTION_WORDS):
        places = [i for i, word in enumerate(words) if word.lower() not in skipped]
        yield "".join(words[i][0].lower() for i in places), places


def agree(one: str, other: str) -> bool:
    """Return whether two base forms are the same word with different endings."""
    shared = len(commonprefix((one, other)))
    is_longer = shared == min(len(one.rstrip("e")), len(other.rstrip("e")))
    endings = max(len(one), len(other)) - shared
    return shared >= (SHARED - 1 if is_longer else SHARED) and endings <= LONGEST_ENDING


@lru_cache(1 << 16)
def base_form(word: str) -> str:
    """Return a word in lower case, in American spelling and in the singular.

    The singular is formed by the rules of Harman 1991, "How effective is suffixing?".
    """
    form = american(word)
    if re.search("[^ae]ies$", form):
        return form[:-3] + "y"
    return form[:-1] if re.search("[^ius]s$", form) else form


@lru_cache(1 << 16)
def american(word: str) -> str:
    """Return a word in lower case and in American spelling, without a possessive 's."""
    form = word.lower().replace("’", "'").removesuffix("'s")
    for british, spelling in SPELLINGS:
        form = british.sub(spelling, form)
    return form


def learn_terms(texts: Iterable[tuple[str, str]], *, fingerprint: str) -> Terms:
    """Learn terms from training texts, each a source and a reference."""
    n_texts = 0
    having, repeating = Counter[str](), Counter[str]()  # of the texts
    written, brought_in = Counter[str](), Counter[str]()  # by references
    for source, reference in texts:
        n_texts += 1
        of_source = Counter(map(base_form, WORD.findall(source)))
        of_reference = Counter(map(base_form, WORD.findall(reference)))
        whole = of_source + of_reference
        having.update(whole.keys())
        repeating.update(word for word, n in whole.items() if n > 1)
        written.update(of_reference.keys())
        brought_in.update(of_reference.keys() - of_source.keys())
    words = sorted(
        word
        for word, n in having.items()
        if FEWEST_TEXTS <= n <= COMMON * n_texts
        and len(word) >= SHORTEST
        and repeating[word] >= REPEATED * n
        and brought_in[word] <= BROUGHT_IN * written[word]
    )
    return Terms(texts=n_texts, fingerprint=fingerprint, words=tuple(words))


def find_warnings(
    output: str, record: Record, task: str, learned: Collection[str]
) -> list[Flag] | None:
    """Return what a reply says and its record does not: numbers etc. and terms, in order.

    Returns None if the record has no source to compare the reply with. A term may also come from
    the question.
    """
    source = source_text(record, task)
    if source is None:
        return None
    terms = find_terms(output, f"{record.question}\n{source}", learned)
    return sorted([*find_flags(output, source), *terms], key=lambda flag: (flag.start, flag.end))


def warnings_json(
    output: str, record: Record, task: str, learned: Collection[str]
) -> list[dict[str, Any]] | None:
    """Return `find_warnings` as the `warnings` of a reply in JSON; offsets are in characters."""
    found = find_warnings(output, record, task, learned)
    if found is None:
        return None
    return [{**asdict(flag), "message": flag.message} for flag in found]
