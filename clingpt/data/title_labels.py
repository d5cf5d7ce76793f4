"""Make noisy yes/no labels from titles of abstracts, by the recipe of PubMedQA's PQA-A subset.

PQA-A (Jin et al. 2019, section 3.2) takes titles that are statements in the present tense, turns
each into a question by moving or adding an auxiliary verb, and answers it by negation: "no" if the
verb was negated, else "yes":

    Statins reduce atrial fibrillation          Do statins reduce atrial fibrillation?   yes
    The drug does not improve survival          Does the drug improve survival?          no
    Smoking is associated with pain: a cohort   Is smoking associated with pain?         yes

The authors found the verb (VBP or VBZ) with a part-of-speech tagger. Here it is found without one:
by a list of verbs that titles use, by whether a noun has the same form, by the words beside it, and
by whether the subject is plural. A title that these rules do not understand is left out.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

from clingpt.text.records import Record

TITLES = ("title", "Title", "TITLE", "article_title")  # columns that may have it


class Labelled(NamedTuple):
    """A title as a question, and its answer."""

    question: str
    decision: str  # yes or no


class Unlabelled(Exception):
    """A title that gets no label; the message is the reason, one of those below."""


# Reasons why the title of a record is not used.
NO_TITLE = "no title"
HAS_LABEL = "it has a label already"
HAS_QUESTION = "it has a question already"
NO_CONCLUSION = "no conclusion, or no text before it"
# Reasons why a title gets no label.
ASKS = "it asks a question already"
IN_CAPITALS = "it is in capitals"
PROTOCOL = "it announces a study protocol"
NOT_STATED = "it starts like a question or a clause (How, Why, When …)"
NO_VERB = "no verb in the present tense was found"
MODAL = "a modal verb (may, can, should …)"
NEGATED_ELSEWHERE = "negated in part, or by another word than not and no"
CLAUSES = "several clauses or verbs"

# Verbs of titles whose forms are hardly ever nouns.
VERBS = """
    abolish accelerate accompany achieve activate adapt adsorb affect aggravate alleviate
    allow alter ameliorate amplify antagonize appear arise attenuate attract augment avoid
    become bind carry catalyze characterize coexist coincide compensate compete complicate
    comprise confer confirm confound constitute contain contribute convert correspond
    counteract decide define demonstrate depend deplete derive deserve deteriorate determine
    develop differ differentiate diminish disappear discriminate disrupt distinguish
    down-regulate downregulate elevate elicit eliminate emerge enable encode encourage enhance
    enrich ensure entail establish evoke evolve exacerbate exceed exert exhibit exist expand
    explain express extend facilitate fail foster generate hasten hinder identify illustrate
    impair impede implicate imply improve include incorporate indicate induce infect inform
    inhibit initiate interact interfere invade involve lack lead lengthen localize maintain
    mediate mimic minimize mitigate modify modulate necessitate negate normalize obviate occur offer
    originate outperform outweigh overcome overestimate penetrate perform permit perpetuate
    persist pose possess potentiate precede preclude predict predispose preserve prevent
    produce prolong promote protect prove provide provoke raise reactivate receive recognize
    reduce reflect regulate reinforce relate relieve rely remain remove render replace
    represent repress require resemble resist resolve respond restore retain retard reveal
    save seem sensitize serve shorten simplify stabilize stimulate strengthen subserve suffice
    suggest suppress surpass survive sustain synergize tend tolerate transform underestimate
    undergo underlie up-regulate upregulate vary weaken widen worsen
""".split()
# Verbs whose forms are nouns or adjectives as well: "dose increases", "pain control".
NOUNS_TOO = """
    account act aid assist associate benefit block boost cause change compromise contrast
    control correlate cut damage decline decrease delay display drive experience favor favour
    form gain guide harm help host impact increase infiltrate influence limit link lower mark
    mask match measure merit mirror moderate need offset parallel play precipitate present
    profit prompt reach rescue result reverse rise shape share shift show signal slow spare
    speed spread stop stress substitute support target transport treat trigger underscore use
    warrant work yield
""".split()

AUXILIARIES = {"is": "Is", "are": "Are", "has": "Has", "have": "Have", "does": "Does", "do": "Do"}
MODALS = frozenset("may might can could cannot should must will would shall can't".split())
QUESTION_WORDS = frozenset("how why what which who whose whether where when".split())
CLAUSE_STARTS = frozenset("if although though while whereas because since as once unless".split())
RELATIVES = frozenset(
    "that which who whom whose where when while whether if because how what".split()
)
DENIALS = frozenset("no none neither nor not few little lack absence failure without".split())
NEGATED_OTHERWISE = frozenset("never neither nor rarely seldom hardly scarcely barely".split())
PREPOSITIONS = frozenset(
    """about above across after against along among amongst around at before behind below between by
    despite during following for from in into of off on onto over per regarding through throughout
    to toward towards under until up upon versus via vs vs. with within without than""".split()
)
# What follows a noun rather than a verb.
AFTER_NOUNS = PREPOSITIONS | {"and", "or", "is", "are", "was", "were", "but", ""}
AFTER_RESULTS = frozenset("the patients children adults women men".split())
# Verbs that are taken for nouns unless one of these words follows.
FOLLOWED_BY = {
    "result": "in from",
    "correlate": "with inversely positively negatively significantly strongly",
    "associate": "with",
    "account": "for",
    "act": "as on through via",
    "benefit": "from patients",
    "contrast": "with",
    "substitute": "for",
    "work": "as by in",
}
# Titles that start with these words are seldom statements.
NOMINAL = frozenset(
    """analysis assessment comparison design effect effects efficacy effectiveness evaluation
    feasibility impact influence protocol rationale role safety study trial""".split()
)
PLURALS = frozenset(
    """women men children people data bacteria criteria mice feet teeth media phenomena hypotheses
    analyses diagnoses metastases prostheses stimuli fungi nuclei loci alveoli bronchi both
    they we these those""".split()
)
DETERMINERS = frozenset("a an the its their this these".split())
PARTICIPLES = frozenset("been become had shown led made given taken found failed lost gone".split())

_SUBTITLE = re.compile(
    r"\s*:\s|\s[-\u2013]+\s|\s*\u2014\s*|-\s+(?=an? |the |results )|(?<=[a-z)\d])\.\s+(?=[A-Z])"
)
_ORDINARY = re.compile(r"[A-Z][a-z]+(?:[-\u2010][A-Z]?[a-z]+)*[,;:]?")  # not H. pylori's, nor DNA


class _Verb(NamedTuple):
    base: str
    plural: bool  # the form that a plural subject takes
    noun_too: bool


def _third_person(base: str) -> str:
    if re.search("[^aeiou]y$", base):
        return f"{base[:-1]}ies"
    return f"{base}es" if re.search("(s|x|z|ch|sh|[^o]o)$", base) else f"{base}s"


@cache
def verb_forms() -> Mapping[str, _Verb]:
    """Map each form of a verb to it, in American and in British spelling."""
    forms = {}
    for words, noun_too in ((VERBS, False), (NOUNS_TOO, True)):
        british = (re.sub("([iy])ze$", r"\1se", word) for word in words)
        for base in (*words, *british):
            forms[base] = _Verb(base, plural=True, noun_too=noun_too)
            forms[_third_person(base)] = _Verb(base, plural=False, noun_too=noun_too)
    return MappingProxyType(forms)


def label_record(record: Record, row: Mapping[str, object]) -> tuple[Record, str]:
    """Add a question and a label to a record by the title in its row, if that can be done.

    Also returns yes, no, or the reason why the record stays as it is.
    """
    title = next((text for name in TITLES if isinstance(text := row.get(name), str)), "")
    for reason, applies in (
        (HAS_LABEL, record.decision),
        (HAS_QUESTION, record.question),
        (NO_TITLE, not title.strip()),
        (NO_CONCLUSION, not (record.sections and record.long_answer)),
    ):
        if applies:
            return record, reason
    try:
        question, decision = label(title)
    except Unlabelled as reason:
        return record, str(reason)
    return replace(record, question=question, decision=decision), decision


def label(title: str) -> Labelled:
    """Turn a title into a question and its answer; raise Unlabelled with the reason if not."""
    title = " ".join(title.split()).strip(" .")
    if "?" in title:
        raise Unlabelled(ASKS)
    if "protocol" in title.lower().split():
        raise Unlabelled(PROTOCOL)
    statement = _SUBTITLE.split(title)[0].strip(" .,")
    words = statement.split()
    if statement.upper() == statement and len(words) > 1:
        raise Unlabelled(IN_CAPITALS)
    lower = [word.lower().strip(",;()\"'\u201c\u201d") for word in words]
    if not words or lower[0] in QUESTION_WORDS | CLAUSE_STARTS | AUXILIARIES.keys():
        raise Unlabelled(NOT_STATED if words else NO_VERB)
    at = _find_verb(words, lower)
    subject, rest = words[:at], words[at + 1 :]
    _check_subject(lower[:at])
    verb = lower[at]
    if verb in AUXILIARIES:
        auxiliary, rest, negated = _after_auxiliary(verb, rest)
    else:
        form = verb_forms()[verb]
        auxiliary = "Do" if form.plural else "Does"
        negated = bool(rest) and rest[0].lower() == "no"
        rest = [form.base, *(["any", *rest[1:]] if negated else rest)]
    rest = _joined_verbs(rest, auxiliary)
    return Labelled(_question(auxiliary, subject, rest), "no" if negated else "yes")


def _find_verb(words: Sequence[str], lower: Sequence[str]) -> int:
    """Return the place of the title's verb, which is the first one in the present tense.

    Raises Unlabelled if there is none, or a modal verb comes first.
    """
    depth = 0  # of brackets
    for at, word in enumerate(lower):
        depth += words[at].count("(") - words[at].count(")")
        if at == 0 or depth or ")" in words[at] or words[at].isupper():  # IS and HAS are names
            continue
        if word in MODALS:
            raise Unlabelled(MODAL)
        if word in AUXILIARIES and at + 1 < len(words):
            if word not in ("do", "does") or lower[at + 1] == "not":
                return at
        if word in verb_forms() and _is_verb(verb_forms()[word], lower, at):
            return at
    raise Unlabelled(NO_VERB)


def _is_verb(form: _Verb, lower: Sequence[str], at: int) -> bool:
    """Return whether a word that may be a verb is one, by the words around it."""
    before, after = lower[at - 1], lower[at + 1] if at + 1 < len(lower) else ""
    if before in PREPOSITIONS | DETERMINERS | {"and", "or"}:
        return False  # "to improve", "the needs"
    plural = _is_plural(lower[:at])
    if form.plural and not plural:
        return False  # "to predict", "pain control"
    if not form.noun_too:
        return bool(after)
    if NOMINAL.intersection(lower[:2]) or after[:1].isdigit():
        return False
    if form.base in FOLLOWED_BY:
        if after not in FOLLOWED_BY[form.base].split():
            return False
        if AFTER_RESULTS.intersection(lower[at + 2 : at + 3]):  # "results in the trial"
            return False
    elif after in AFTER_NOUNS or after.endswith("ed"):
        return False
    if form.plural:  # nothing is between the subject and its verb: "drugs increase"
        return _is_plural([before]) and not PREPOSITIONS.intersection(lower[:at])
    return not plural


def _is_plural(subject: Sequence[str]) -> bool:
    """Return whether the head of a noun phrase is plural: the last word before a preposition."""
    end = next((at for at, word in enumerate(subject) if at and word in PREPOSITIONS), len(subject))
    head = subject[end - 1]
    if "and" in subject[:end] or head in PLURALS:
        return True
    return head.endswith("s") and not head.endswith(("ss", "us", "is", "ous", "itis"))


def _check_subject(subject: Sequence[str]) -> None:
    if subject[0] in DENIALS or "not" in subject or "neither" in subject:
        raise Unlabelled(NEGATED_ELSEWHERE)
    if RELATIVES.intersection(subject):
        raise Unlabelled(CLAUSES)


def _after_auxiliary(verb: str, rest: list[str]) -> tuple[str, list[str], bool]:
    """Return the first word of the question, the words after the verb, and the negation."""
    lower = [word.lower() for word in rest]
    negated = "not" in lower[:2] or lower[0] == "no" or lower[:2] == ["of", "no"]
    if "not" in lower[:2]:
        at = lower.index("not")
        if lower[at + 1 : at + 2] == ["only"]:
            raise Unlabelled(NEGATED_ELSEWHERE)
        del rest[at], lower[at]
    elif lower[0] == "no":
        if lower[1:2] == ["longer"]:
            raise Unlabelled(NEGATED_ELSEWHERE)
        rest = ["any", *rest[1:]]
    elif negated:
        rest = ["of", "any", *rest[2:]]
    if not rest:
        raise Unlabelled(NO_VERB)
    if verb in ("has", "have") and not _is_perfect(lower):
        return ("Does" if verb == "has" else "Do"), ["have", *rest], negated
    return AUXILIARIES[verb], rest, negated


def _is_perfect(after: Sequence[str]) -> bool:
    """Return whether has or have is followed by a participle: "has been", "has improved in".

    In "have increased levels", the participle belongs to the noun.
    """
    if PARTICIPLES.intersection(after[:2]):
        return True
    beside = after[1] if len(after) > 1 else ""
    return after[0].endswith("ed") and beside in PREPOSITIONS | DETERMINERS | {""}


def _joined_verbs(rest: list[str], auxiliary: str) -> list[str]:
    """Put a second verb, after "and" or "or", into the form that the question needs."""
    lower = [word.lower().strip(",") for word in rest]
    if NEGATED_OTHERWISE.intersection(lower) or "not" in lower:
        raise Unlabelled(NEGATED_ELSEWHERE)
    for at in range(1, len(lower)):
        joined = lower[at - 1] in ("and", "or", "but", "then", "yet")
        form = verb_forms().get(lower[at])
        if lower[at] in ("is", "are", "does", "do", "has", "have") or lower[at] in MODALS:
            raise Unlabelled(CLAUSES)
        if joined and form and not form.plural and _is_verb(form, ["it", *lower[at:]], 1):
            if auxiliary not in ("Does", "Do"):
                raise Unlabelled(CLAUSES)
            rest[at] = form.base
    return rest


def _question(auxiliary: str, subject: Sequence[str], rest: Sequence[str]) -> str:
    """Join the parts; a capital that only the title gave to a word is dropped."""
    words = [*subject, *rest]
    capitals = sum(bool(_ORDINARY.fullmatch(word)) for word in words)
    lowered = len(words) if 2 * capitals > len(words) else 1  # Each Word of Some Titles
    for at, word in enumerate(words[:lowered]):
        if word == "A" or _ORDINARY.fullmatch(word):
            words[at] = word.lower()
    return " ".join([auxiliary, *words]).rstrip(" .,;:") + "?"
