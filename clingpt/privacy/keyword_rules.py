"""Identifiers after a keyword: "MRN 00123456", "Tel. 555-0100", "aged 93", "lives in Ames".

A pattern is tried only where one of its keywords occurs, so that many patterns cost little.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

STATE_CODES = (
    "AL|AK|AZ|AR|CA|CO|CT|DE|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|NM|NY"
    "|NC|ND|OH|OK|OR|PA|RI|SC|SD|TN|TX|UT|VT|VA|WA|WV|WI|WY|DC|PR"
)
STATES = (
    "Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|Hawaii"
    "|Idaho|Illinois|Indiana|Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|Michigan"
    "|Minnesota|Mississippi|Missouri|Montana|Nebraska|Nevada|New Hampshire|New Jersey|New Mexico"
    "|New York|North Carolina|North Dakota|Ohio|Oklahoma|Oregon|Pennsylvania|Rhode Island"
    "|South Carolina|South Dakota|Tennessee|Texas|Utah|Vermont|Virginia|Washington|West Virginia"
    "|Wisconsin|Wyoming"
)
STATE = rf"(?:{STATE_CODES}|(?i:{STATES}))"
CITY = r"(?:(?:St|Ft|Mt)\.\s)?[A-Z][\w'’-]{1,20}(?:\s[A-Z][\w'’-]{1,20}){0,2}"
# Prefixes of trial registers and article databases, whose numbers are public.
PUBLIC = tuple(
    "NCT ISRCTN ACTRN UMIN PMID PMC CRD CTRI JPRN DRKS CHICTR EUDRACT IRCT NTR KCT".split()
)

# All repetitions are bounded: otherwise "id id id …" would be read to its end from each word.
_NUMBER = r"(?:\s?(?:numbers?|num|no|nr|ids?|identifier)\b\.?|\s?#)"
_SIGN = r"\s?(?:(?:is|was|of)\s|[:=#]{1,2}\s?#?)?\s?"
_VALUE = (
    r"(?P<value>\d{3}[\s-]\d{3}[\s-]\d{4}(?!\d)|[A-Z]{0,5}[-/]?\d\w{0,30}(?:[-/]\w{1,20}){0,6})"
    r"(?!\w|%|\.\d)"
)
_NAMED = rf"{_NUMBER}{{0,2}}{_SIGN}{_VALUE}"  # after an unambiguous keyword
_NUMBERED = rf"(?:{_NUMBER}{{1,2}}{_SIGN}|\s?[:=]\s?){_VALUE}"  # "account no. 12", "case: 12"
_DATE = re.compile(r"(?:\d{1,2}|\d{4})[/-]\d{1,2}[/-]\d{1,4}|(?:19|20)\d\d")
US_PHONE = r"(?:\+?1[\s.-]{0,2})?\(?[2-9]\d\d\)?[\s./-]{0,2}\d{3}[\s.-]?\d{4}(?!\d)"
_PHONE = (
    rf"(?P<value>(?:{US_PHONE}|\d{{3}}[\s.-]\d{{4}}(?!\d)|\+?\(?\d{{1,5}}\)?"
    r"(?:[\s./-]{1,2}\(?\d{2,5}\)?){1,5}(?!\d)|\+?\d{7,15}(?!\d))"
    r"(?:,?\s?(?:x|ext\.?|extension)\s?\d{1,6})?)"
)
_NINETIES = r"(?P<value>9\d|1[0-2]\d)(?![\d%]|[.,]\d)"
_BEYOND = r"(?!\s?\+|\s?(?:or|and)\s(?:older|over|above|up)|\s?(?:-|–|to|or|and)\s?\d)"
_OLD = (
    r"(?=[\s-]{0,2}(?:years?|yrs?)[\s-]{0,2}(?:old|of\sage)|[\s-]?y\.?\s?/?o\b"
    r"|\syrs?\b(?!\.?\s(?:ago|later|before|after)))"
)
_UNITS = "one two three four five six seven eight nine ten".split()
_UNIT = f"(?:{'|'.join(_UNITS)})"


@dataclass(frozen=True)
class _Rule:
    """A pattern to match where one of its keywords starts; its group `value` is the identifier."""

    kind: str
    words: str  # the keywords, in lower case
    pattern: str
    digits: int = 0  # minimum number of digits in the value
    flags: re.RegexFlag = re.IGNORECASE


_RULES = (
    _Rule(
        "ssn",
        "ssn ss social",
        rf"(?:ssns?|ss|social\ssecurity){_NUMBER}{{0,2}}{_SIGN}(?:(?:last\sfour|ending)\s(?:in\s)?)?"
        r"(?P<value>(?:\d{3}|[x*]{3})[\s-]?(?:\d\d|[x*]{2})[\s-]?\d{4}|\d{4})(?!\d)",
        digits=4,
    ),
    _Rule(
        "vehicle",
        "vin license licence plate registration vehicle tag",
        r"(?:vin|(?:(?:licen[cs]e|registration|vehicle|number)\s)?plate|(?<!skin\s)tag|vehicle\sid)"
        rf"{_NUMBER}{{0,2}}{_SIGN}(?P<value>(?=\w*[\s-]?\w*\d)(?-i:[A-Z0-9]{{1,17}}(?:[\s-][A-Z0-9]{{2,4}})?))\b",
        digits=2,
    ),
    _Rule(
        "licence",
        "license licence lic cdl driver's drivers driver dl dea npi certificate passport",
        r"(?:(?:driver['’]?s?'?\s)?licen[cs]e|lic\.?|c?dl|dea|npi|certificate|passport)"
        rf"(?:{_NUMBER}{{1,2}}{_SIGN}|\s?[:=]\s?|\s(?=\S{{0,8}}\d{{3}})){_VALUE}",
        digits=4,
    ),
    _Rule(
        "device",
        "serial sn s imei udi device implant pacemaker",
        r"(?:(?:device\s|implant\s|pacemaker\s)?(?:serial|id)\b|sn|s/n|imei|udi)"
        rf"{_NUMBER}{{0,2}}(?:\s?[:=#]{{1,2}}\s?|\s(?:is\s)?(?=\S{{0,12}}\d)){_VALUE}",
        digits=3,
    ),
    _Rule(
        "record_number",
        "mrn mrns medical med accession acct nhs hicn mbi csn fin har hospital health",
        r"(?:mrns?|med(?:ical|\.)?\srec(?:ord|\.)?\b|hospital\srecord|accession|acct\.?|nhs|hicn|mbi"
        rf"|csn|fin|har|health\s(?:plan|card|insurance|record)){_NAMED}",
        digits=4,
    ),
    _Rule(
        "record_number",
        "mr account policy case claim chart file record member subscriber beneficiary medicare "
        "medicaid insurance patient pt id encounter visit admission specimen requisition order "
        "reference ref hospital hosp unit group registration episode enrollee plan certificate "
        "incident inmate booking student employee invoice donor recipient ticket complaint "
        "grievance appeal authorization referral chi study exam run event prison",
        r"\w{2,14}\.?(?:\s(?:plan|record))?" + _NUMBERED,
        digits=4,
    ),
    _Rule(  # "cultures S14-08715": a shape that no count or measurement has
        "record_number",
        "culture cultures specimen specimens sample samples slide slides study film films",
        r"\w{4,9}\s(?P<value>(?-i:[A-Z]{1,2}\d\d-\d{4,7}|[A-Z]{1,3}\d{6,10}))(?!\w|-|\.\d)",
        digits=6,
    ),
    _Rule(
        "record_number",
        "id number no run event incident claim account acct chart file",
        r"\w{2,8}\.?\s(?P<value>\d{6,10}|\d{2,3}-\d{6}|\d{3}-\d\d-\d\d)(?![\w%-]|[.,]\d)",
        digits=6,
    ),
    _Rule("record_number", "mr", r"(?-i:MR)\s(?P<value>\d[\d-]{4,12})(?![\w%]|\.\d)", digits=5),
    _Rule(
        "phone",
        "tel telephone phone ph fax cell cellphone mobile pager beeper phones",
        rf"\w{{2,9}}\.?{_NUMBER}{{0,2}}(?:\s(?:at|on|is)\b)?{_SIGN}{_PHONE}",
        digits=7,
    ),
    _Rule(
        "phone",
        "call called contact reached reach home work office ring emergency",
        rf"(?:\w{{4,9}})(?:\s(?:him|her|them|us|me))?(?:\s(?:at|on)\s|\s?:\s?){_PHONE}",
        digits=7,
    ),
    _Rule(
        "phone",
        "pager beeper ext extension bleep bleeped paged",
        rf"\w{{3,9}}\.?{_NUMBER}{{0,2}}{_SIGN}\(?(?P<value>\d{{3,6}})(?![\w/-]|\.\d)",
        digits=3,
    ),
    _Rule(
        "age",
        "age aged ages",
        rf"(?<!to\s)(?<!over\s)(?<!than\s)(?<!after\s)age[ds]?\s?(?:of|is|was|at)?\s?[:=]?\s?{_NINETIES}{_BEYOND}",
    ),
    _Rule(
        "phone",
        "page paged pages call called dial phone tel text",
        r"(?:page|call|dial|phone|tel|text)(?:ed|s|d)?\.?\s(?:(?:me|us|him|her|[A-Z][\w'’-]{1,20})\s)?"
        r"(?:(?:on|at)\s)?x?(?P<value>\d{5})"
        r"(?![\w%/-]|[.,]\d|\s\w+s\b)",
        digits=5,
    ),
    _Rule(  # "Ann Lee, ninety-one, found"
        "age",
        " ".join(f"ninety-{unit}" for unit in _UNITS),
        rf"(?<=[A-Za-z],\s)(?P<value>ninety-{_UNIT})(?=[,.;])",
    ),
    _Rule(
        "age",
        "turned turning",
        rf"turn(?:ed|ing)\s(?P<value>ninety(?:[\s-]{_UNIT})?|9\d|10\d)\b(?!\s?[%°])",
    ),
    _Rule(
        "age",
        "ninety " + " ".join(f"ninety-{unit}" for unit in _UNITS),
        rf"(?P<value>ninety(?:[\s-]{_UNIT})?){_OLD}",
    ),
    _Rule(
        "age",
        "hundred one",
        rf"(?P<value>(?:one[\s-])?hundred(?:(?:[\s-]and)?[\s-]{_UNIT})?){_OLD}",
    ),
    _Rule("address", "po p post", r"(?P<value>(?:p\.?\s?o\.?|post\soffice)\sbox\s?#?\d{1,7})\b"),
    _Rule(
        "address", "zip zipcode postcode", r"\w{3,8}(?:\scode)?\s?:?\s(?P<value>\d{5}(?:-\d{4})?)\b"
    ),
    _Rule(
        "address",
        "lives lived living resides resided residing resident moved born native from",
        rf"\w{{4,8}}\s(?:(?:in|at|to|from|of)\s)?(?P<value>{CITY}),\s{STATE}\b",
        flags=re.NOFLAG,
    ),
    _Rule(
        "address",
        "female male man woman gentleman lady veteran resident pt patient",
        rf"\w{{2,9}}\s(?:\w{{3,12}}\s)?from\s(?:outside\s|near\s)?(?!(?i:the|an?)\b)(?P<value>{CITY})",
        flags=re.NOFLAG,
    ),
    _Rule(
        "address",
        "lives lived resides resided",
        rf"\w{{5,7}}\s(?:alone\s|independently\s|at\shome\s)?in\s(?!(?i:the|an?)\b)(?P<value>{CITY})",
        flags=re.NOFLAG,
    ),
)


@cache
def _rules_by_word() -> dict[str, tuple[tuple[_Rule, re.Pattern[str]], ...]]:
    by_word: dict[str, tuple[tuple[_Rule, re.Pattern[str]], ...]] = {}
    for rule in _RULES:
        pattern = re.compile(rule.pattern, rule.flags)
        for word in rule.words.split():
            by_word[word] = (*by_word.get(word, ()), (rule, pattern))
    return by_word


def find_by_keyword(
    text: str, words: Sequence[re.Match[str]], small: Sequence[str]
) -> Iterator[tuple[str, int, int]]:
    """Yield (kind, start, end) of identifiers that start at a keyword or follow it.

    `words` are the matches of the text's words, `small` the same words in lower case.
    """
    rules = _rules_by_word()
    for place, word in enumerate(small):
        for rule, pattern in rules.get(word, ()):
            match = pattern.match(text, words[place].start())
            if match and _is_number(match["value"], rule):
                yield rule.kind, *match.span("value")


def _is_number(value: str, rule: _Rule) -> bool:
    """Whether a value is plausible: long enough, and not a year, a date or a trial's number."""
    if not rule.digits:
        return True
    if rule.kind != "ssn" and (_DATE.fullmatch(value) or value.upper().startswith(PUBLIC)):
        return False
    return rule.digits <= sum(map(str.isdigit, value)) <= 22
