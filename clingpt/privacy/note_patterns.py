"""Regular expressions and tables for note_structure.py, each with examples of what it matches.

Longer lists of words are in note_words.txt. All repetitions are bounded, and what must not precede
a match is checked after its first character, so that the search takes linear time; see
identifiers.py.
"""

import re

from clingpt.privacy.keyword_rules import STATE

# Notes, labels, codes, footers and HL7

FEWEST_POINTS = 3  # published abstracts have at most 1, annotated notes at least 4 (see is_note)
TERSE = 0.22  # share of function words below which a text is telegraphic
TERSE_WORDS = 20  # shorter texts are not judged by their share of function words
LONGEST_LABEL = 36  # characters
FUNCTION_WORDS = frozenset(
    "the of and in to a an was were with is are for that on by from as at be this which or has have"
    " had we not".split()
)
RESEARCH_WORDS = frozenset(
    "study studies patients methods results conclusion conclusions significantly significant cohort"
    " compared association associated analysis data outcomes participants randomized retrospective"
    " prospective evaluated investigated trial hypothesis groups subjects determine whether"
    " surveyed questionnaire literature".split()
)
# s/p, c/o, h/o: the search starts at the slash, which is rare.
SLASHED = re.compile(r"/(?<=(?<![^\W\d_])[A-Za-z]/)[opcuewvalt]?(?![^\W\d_])", re.IGNORECASE)
CLINICAL = re.compile(
    r"\b(?:(?:MSH|PID)\||(?:D|BP|HR|RR):?\s?\d|\d{2}\s?(?:yo|y/o|[MF])\b"
    r"|(?:Dr|Mrs?|Ms)\.?\s[A-Z]|[Ss]incerely\b)|/es/|\ADear\b"
)
LABEL_KINDS = ("name", "code", "date", "phone", "place", "no", "org")
LABEL_SIGN = re.compile(
    r"[ \t]?(?:[:=|]+|#)(?:[ \t]{0,4}#)?[ \t]{0,6}|[ \t](?:no|nos|nr|num"
    r"|number)\b\.?[ \t]?[:#]?[ \t]{0,3}"
    r"|\.:[ \t]{0,3}",
    re.IGNORECASE,
)
LABEL_WORD = re.compile(r"[^\W\d_][\w./'’&-]*")
UNITS = (
    r"(?:%|[mkµμn]?g|m?cg|[mdµu]?l|ml|[mkc]m|mm|cc|units?|iu|u|meq|mmol|mol|cells?|copies|/"
    r"|x\s?10|bpm|mmhg|kcal|cal|hours?|hrs?|h|min|mins|sec|days?|weeks?|wks?|months?|mos?|years?"
    r"|yrs?|y|yo|y/o|lbs?|kg|oz|fr|g|ga|gauge|j|mgy|hz|bq|mci|mbq|mcg|times|th|st|nd|rd|am|pm|hpf"
    r"|ppm|watts?|steps|feet|ft)"
)
NO_UNIT = rf"(?!\s?{UNITS}(?![\w]))(?![%/]|[.,:]\d|\s?[×x]\s?\d)"
NOT_MEASURED = re.compile(NO_UNIT, re.IGNORECASE)
SURE_DIGITS = 7  # a number this long is not an amount
CODE_GROUPS = r"\d{1,6}(?:[ ]\d{1,6}(?![\w/:.,%-]\d)){1,4}(?:[ ]/[ ]\d)?"  # 5310 6642 9087
CODE_TOKEN = (
    r"(?:[A-Z]{1,5}[. ]{1,2}(?=\d|[A-Z]\d))?(?=[\w./*-]{0,28}\d)[A-Za-z0-9](?:[\w./*-]{0,28}\w)?"
)
CODE_VALUE = re.compile(
    rf"[(#]?(?P<value>{CODE_GROUPS}(?![\w/:.-])"
    rf"|{CODE_TOKEN}(?:[ ]\d{{2,6}}(?![\w/:%-]|[.,]\d)){{0,3}})"
)
DATE_LIKE = re.compile(
    r"\d{1,2}[/.-]\d{1,2}(?:[/.-]\d{2,4})?\.?|\d{4}-\d\d-\d\d(?:T.*)?|(?:19|20)\d\d"
)
MEASURED = re.compile(  # times, decimals, ages, ranges, fractions, blood pressures, counts of days
    r"\d{1,2}:\d\d.*|\d+\.\d+|\d{1,3}-?(?:[mfyM F]|yo|yrs?|y/o|[a-z]{1,3})"
    r"|\d{1,3}[-/–]\d{1,3}(?:/\d{1,3})?"
    r"|\d{1,4}h|[<>]\d.*|\d{1,3}/\w{1,2}|[A-Z]\d{1,2}(?:-\d)?|\d{1,3}(?:mg|ml|mcg|cm|mm|kg|lb"
    r"|units?|[xX]\d*)"
    r"|\d{1,3}(?:,\d{3})+|\d+(?:st|nd|rd|th)",
    re.IGNORECASE,
)
# Labels that are also common words: their values need more digits.
COMMON_LABELS = frozenset(
    "case order exam run unit group file op ip reg ref plan id no key record card visit study film"
    " image sample block conf bill token bag lot model room locker subject participant certificate"
    " pin ic fin enc acc pr an har din cad job claim doc auth p.o tag band booking member insurance"
    " policy user trans".split()
)
AFTER_LABEL_WORD = re.compile(r"[ \t]{0,3}(?:(?:no|number|num|id)\b\.?|#)?[ \t:#.]{0,3}")
WEAK_LABELS = frozenset(
    "op ip id no key pin fin acc enc an ic case record file order exam run plan user portal unit"
    " block film image sample study subject participant room locker bag token bill member model"
    " claim card reg folder lot band tag tin sn u h&c cr ins ref sin tfn die cad mr".split()
)
PLATE = re.compile(
    r"\b(?:reg|rego|registration|plate|tag|vehicle|car|van|truck|suv|lic)\b[ :#(]{1,3}"
    r"(?:(?:no|number|reg|plate|registration)\b[ .:#]{1,3})?(?:[A-Z]{2}[ :]{1,2})?"
    r"(?P<value>(?-i:(?=[A-Z0-9 -]{0,8}\d)(?=[A-Z0-9 -]{0,8}[A-Z])[A-Z0-9]{2,4}[ -]?[A-Z0-9]{2,4}"
    r"|[A-Z]{2}\d\d[ ]?[A-Z]{3}))\b",
    re.IGNORECASE,
)
FILE = re.compile(
    r"(?<![\w/@.])[\w.()-]{3,60}\.(?:jpe?g|png|gif|bmp|tiff?|pdf|dcm|docx?|xlsx?|csv|txt|rtf|xml"
    r"|zip|mp[34]|mov|wav|heic|hl7|dss|m4a)\b|\b(?:IMG|DSC|DSCN|PXL|VID|SCAN|DOC|WAV"
    r"|REC)_?-?\d{4,8}(?:_\d{3,8})?\b",
    re.IGNORECASE,
)
MOST_DIGITS_OF_A_CODE = 24
# Codes that need no label.
BARE_CODES = tuple(
    map(
        re.compile,
        (
            # ACC-RAD-508214, KX-52-70316
            r"[A-Z0-9](?<![\w./-].)[A-Z0-9]{0,7}(?:-[A-Z0-9]{1,8}){1,4}(?![\w-])",
            # 5310 6642 9087, 943 476 5919
            r"\d(?<![\w./+(-].)\d{2,3} \d{3,4} \d{4}(?![\w%-]|[.,/ ]\d)",
            # IP/22/19904, WPH/77120/jt, AB123/45678
            r"[A-Z](?<![\w./-].)[A-Z0-9]{1,7}(?:/[A-Za-z0-9]{1,8}){1,3}(?![\w/-])",
            # 22-40-71, 345-678-912, 123-45-67-8
            r"\d(?<![\w./+(-].)\d{1,4}(?:[-.]\d{2,6}){1,3}(?:-[A-Z\d]{1,2})?(?![\w%-]|[./]\d)",
            # S22LK841907, K0731946, 7ABC123X
            r"[A-Z0-9](?<![\w./+-].)[A-Z0-9]{5,19}(?![\w%-]|[.,]\d)",
            # #4471
            r"#(?<![\w#].)\d{4,10}(?![\w%-]|\.\d)",
        ),
    )
)
WEB = (  # pages without www, and user names
    re.compile(
        r"(?<![\w@./-])(?:[a-z0-9][\w-]{1,40}\.){1,4}(?:com|org|net|edu|gov|io|info|health"
        r"|nhs\.uk|co\.uk"
        r"|ac\.uk|example|app|[a-z]{2,7}(?=/\w))(?:/[\w./?=&%#-]{1,80})?(?<![.])(?!\w|@)"
    ),
    re.compile(r"(?<![\w@.])@(?=[\w.-]{0,29}[_\d.-]\w)[A-Za-z][\w.-]{2,29}(?<![.-])"),
    re.compile(
        r"(?<![\w@.])(?![cgpm]\.)(?=[\w.]{0,30}[a-z]{3})[A-Za-z][A-Za-z0-9.]{1,24}_\w{1,24}(?!\w)"
    ),
    re.compile(r"(?<![\w@.])[a-z][\w.-]{2,29}@[a-z]{3,20}(?![\w.@])"),
    re.compile(
        r"(?i:\b(?:ig|insta|instagram|twitter|tiktok|facebook|fb|venmo|snap|snapchat|handle"
        r"|user(?:name)?|login|skype)"
        r"[\s:]{1,2})(?P<value>@?(?=\w{0,25}[._\d])[A-Za-z][\w.-]{2,29}\w)\b"
    ),
)
NO_CODE_BEFORE = re.compile(
    r"(?:[$£€₹≥≤<>~+=]|\b(?:cpt|icd|icd-?10|hcpcs|drg|ndc|rs|wbc|plt|plts|platelets?|rbc|count"
    r"|cd4|vl|load|copies|titer|score|units|dose|bhcg|hcg|ferritin|ck|cpk|ldh|bnp|amylase|lipase"
    r"|afp|psa|covid|dsm"
    r"|bp|model|lot|batch|size|type|catalog|part|[cgp]\.))[\s:]{0,2}\Z",
    re.IGNORECASE,
)
KNOWN_CODES = re.compile(
    r"(?:COVID|SARS|HLA|ICD|DSM|PHQ|GAD|AUDIT|CHA|H\d|HSV|HPV|HHV|EBV|CMV|RSV|MRSA|HER|CD|IL|TNF"
    r"|BRCA|JAK|EGFR|KRAS|BRAF|MSH|MLH|PMS|CYP|ANA|ASA|GP|GLP|SGLT|CA|PD|TSH|FT|T|N|M|L|C|S|V|Y|Z"
    r"|MIB|CK|LE|G|P|R|A|B|D|E|O)"
    r"-?\d{1,3}[A-Z]?(?:[-/][A-Z]?\d{0,3}[A-Z]?){0,3}|(?:BP|HR|RR|WBC|RBC|HGB|HCT|PLT|NA|INR|PTT|BUN|SAO|PO|FIO)\d+(?:/\d+)?|\d{1,3}[A-Z]{1,3}\d{0,3}|\d+X\d+"
    r"|G\d+P\d+(?:A\d+)?(?:L\d+)?|E\dV\dM\d|S\dQ\dT\d|T\dN\dM\d|.*(?:MG|ML|MCG|CM|MM|KG)"
)
DATE_VALUE = re.compile(
    r"(?P<value>\d{1,2}[/-]\d{1,2}(?:[/-]\d{2,4})?|\d{1,2}\.\d{1,2}\.(?:\d{2,4})?"
    r"|\d{1,2}[ ]\d{1,2}[ ]\d{2,4}"
    r"|[01]?\d\d{2}\d{2,4}|(?:19|20)\d{6}(?:\d{4,6})?)(?![\w%]|[./]\d)"
)
LAST_FOUR = re.compile(  # last 4: 4471, xxx-xx-4471
    r"\blast\s?(?:4|four)\b\W{0,3}(?:of\s\w{2,6}\s)?(?P<value>\d{4})\b"
    r"|(?P<masked>(?:(?<!\w)xxx-xx|\*{3}-\*\*)-\d{4})(?!\w)",
    re.IGNORECASE,
)
NAME_CELL = re.compile(r"[^\W\d_](?:[^\W\d_]|['’.,-]|\s(?=[^\W\d_])){1,40}")
ADDRESS_WORD = re.compile(r"\b(?:Address|ADDRESS|Addr|ADDR|addr)\.?\s(?=[A-Z\d])")
BORN_AFTER_WORD = re.compile(
    r"\b(?:DOB|D\.O\.B\.?|dob|born)\s{1,2}(?P<value>\d{8}|\d{6})(?!\w|[./-]\d)"
)
BORN = frozenset(
    "dob d.o.b date_of_birth birth_date birthdate birthday bday b-day born dob/age".split()
)
PHONE_VALUE = re.compile(r"(?P<value>[x#+(]?\d(?:[ ().-]{0,2}\d){2,14})(?![\w%/]|\.\d)")
CLINICAL_PAIRS = frozenset(
    "ap/lat pa/lat po/iv iv/po im/iv n/v/d bid/tid am/pm ot/pt pt/ot rn/md md/rn np/pa od/os rr/hr"
    " bp/hr na/k hb/hct ast/alt ca/mg cv/resp gi/gu ms/neuro us/ct ct/mri ent/eyes tv/rr".split()
)
RATE = re.compile(r"(?:[mµ]?[cdkµ]?g|m?[ldu]|mcg|i?u|meq|mmol|cm|mm|l|hr?|min)/", re.IGNORECASE)
TYPIST = re.compile(
    r"(?<![\w/])(?P<value>(?:[A-Z]{2,4}|[a-z]{2,3})[:/][a-z]{2,12}(?:[:/][a-z]{2,12})?\d?)(?![\w/])"
)
FOOTER = re.compile(
    r"\b(?:dictated|dict|transcribed|trans|typed|typist|signed|job|doc|dd|dt|td|tr|cc|sincerely"
    r"|regards"
    r"|m\.?d|d\.?o|ph\.?d|np|pa-c)\b|\b[DT]:",
    re.IGNORECASE,
)
FOOTER_CODE = re.compile(
    r"\b[A-Z]{2}\d{2,3}(?:/\d{4,6})?(?=[ \t]{1,3}(?:[A-Z]{2}\d{2,3}\b|D(?:D|T)?:|T(?:D|R)?:))"
)
HL7_SEGMENT = re.compile(
    r"(?<![\w|])(?:MSH|EVN|PID|PD1|NK1|PV1|PV2|IN1|GT1|ORC|OBR|TXA|ROL|PRT|AL1|DG1|OBX|NTE)\|"
)
# Kinds of identifiers in the fields of each segment; other fields identify nobody.
HL7_FIELDS: dict[str, dict[int, str]] = {
    "MSH": {6: "date", 9: "code"},
    "EVN": {2: "date", 5: "person", 6: "date"},
    "PID": {
        **dict.fromkeys((2, 3, 4, 18, 19, 20), "code"),
        **dict.fromkeys((5, 6, 9), "person"),
        7: "date",
        11: "place",
        12: "place",
        13: "phone",
        14: "phone",
        23: "place",
        29: "date",
    },
    "PD1": {4: "person"},
    "NK1": {2: "person", 4: "place", 5: "phone", 6: "phone", 30: "person", 31: "phone", 33: "code"},
    "PV1": {
        5: "code",
        7: "person",
        8: "person",
        9: "person",
        17: "person",
        19: "code",
        44: "date",
        45: "date",
    },
    "IN1": {
        2: "code",
        3: "code",
        5: "place",
        7: "phone",
        8: "code",
        12: "date",
        13: "date",
        16: "person",
        18: "date",
        19: "place",
        36: "code",
        49: "code",
    },
    "GT1": {2: "code", 3: "person", 5: "place", 6: "phone", 8: "date", 12: "code"},
    "ORC": {2: "code", 3: "code", 9: "date", 10: "person", 11: "person", 12: "person", 15: "date"},
    "OBR": {
        2: "code",
        3: "code",
        6: "date",
        7: "date",
        8: "date",
        10: "person",
        14: "date",
        16: "person",
        22: "date",
        28: "person",
        32: "person",
        33: "person",
        34: "person",
        35: "person",
    },
    "TXA": {4: "date", 5: "person", 6: "date", 9: "person", 11: "person", 12: "code", 22: "person"},
    "ROL": {4: "person"},
    "PRT": {5: "person"},
    "OBX": {14: "date", 16: "person"},
}
HL7_PART = {
    "code": re.compile(r"[\w/-]*\d[\w/-]*\d[\w/-]*"),
    "date": re.compile(r"(?:19|20)\d{6}(?:\d{2,6})?(?:[+-]\d{4})?"),
    "phone": re.compile(r"\d{3}\^\d{7}|[(+]?\d[\d ()-]{5,20}\d(?:[xX]\d{1,5})?"),
}
HL7_NAME = re.compile(r"[^\W\d_](?:[^\W\d_]|['’. -])*")
HL7_PLACE = re.compile(r"[^^|~]{2,60}")
HL7_CODED = frozenset(
    "MR PI MD DO DR MRS MS MISS RN NP PA XX SS AN PT VN L D M F H C B N USA US PRN CP".split()
)

# Addresses and towns

MOST_WORDS_OF_A_TOWN = 4  # "San Luis Río Colorado"
LONGEST_ADDRESS = 100  # characters after its label
CAP = r"(?:[^\W\d_a-zß-ÿ](?:[^\W\d_]|['’-]){1,20}|[A-Z]\.)"
STREET_KINDS = (
    "Street|St|Road|Rd|Avenue|Ave|Av|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Terrace|Terr?|Circle"
    "|Cir|Parkway|Pkwy|Highway|Hwy|Square|Sq|Trail|Trl|Crescent|Cres|Close|Way|Rise|Grove|Gdns|Gardens|Mews"
    "|Hill|Row|Walk|Green|View|Park|Broadway|Pike|Loop|Run|Path|Alley|Esplanade|Quay|Wharf|Turnpike|Tpke"
    "|Plaza|Plz|Hollow|Knoll|Glen|Meadows?|Trace|Cove|Causeway|Croft|Bank|Vale|Gate|Fold|Chase|Village|Point|Pt|Ridge|Bend|Pass|Landing|Crossing|Commons|Heights|Hts|Manor|Estate|Estates|Parade|Pde"
    "|Expressway|Fwy|Route|Rte|Nagar|Marg|Chowk|Colony|Layout|Enclave|Vihar|Cross|Main|Jalan|Lorong"
)
STREET_FULL_KINDS = (  # these need no house number
    "Street|Road|Avenue|Boulevard|Lane|Crescent|Terrace|Parkway|Mews|Gardens|Grove|Close|Nagar|Marg|Chowk|Blvd|Rd|Ave|St"
)
STREET_UPPER_KINDS = STREET_KINDS.upper()
STREET_UNIT = (
    r"(?:,?\s(?:(?i:apt|apartment|unit|suite|ste|flat|floor|fl|bldg|lot|rm|trlr|spc)\.?\s?#?|#)"
    r"\s?\w{1,6}\b)?"
)
STREETS = tuple(
    map(
        re.compile,
        (
            # 5 Liberty Way, 221B N. Baker St Apt 4, 12-14 HILL RD
            rf"\d(?<![\w.,:/-].)\d{{0,5}}[A-Za-z]?(?:[-/]\d{{1,5}})?\s(?:[NSEW]{{1,2}}\.?\s)?(?:{CAP}\s|\d{{1,3}}(?:st|nd|rd|th)\s){{1,3}}?"
            rf"(?:{STREET_KINDS}|{STREET_UPPER_KINDS})\b\.?{STREET_UNIT}",
            # Flat 2, The Old Maltings; Plot 17, Sector 4; Blk 214 Toa Payoh Lor 8 #09-331
            rf"\b(?:Flat|Apt|Plot|Block|Blk|House|Villa|Shop|Door|Suite|Stand|Erf"
            rf"|Purok)\s(?:No\.?\s?)?#?\d{{1,5}}[A-Za-z]?\b"
            rf"(?:,?\s(?:{CAP}|\d{{1,5}}[A-Za-z]?|#\d\d-\d{{1,4}}|of|the)(?![\w:])){{0,8}}",
            # 5th and Market, Main & 3rd
            rf"\b(?:\d{{1,3}}(?:st|nd|rd|th)\s(?:and|&)\s{CAP}|{CAP}\s(?:and|&)\s\d{{1,3}}(?:st|nd"
            rf"|rd|th))(?!\s[a-z]{{0,3}}day)\b",
            # Am Schlossberg 12, Hauptstraße 5, Rue du Bac 7
            r"\b(?:Am|An der|Im|Auf der|Rue|Via|Calle|Rua|Av\."
            r"|Avenida)\s(?:d[eu]\s(?:la\s)?)?[A-ZÄÖÜ][\w-]{2,20}\s\d{1,4}\b",
            r"\b[A-ZÄÖÜ][a-zäöü-]{2,20}(?:stra(?:ß|ss)e|str\.|weg|gasse|platz|allee|straat|laan|gade"
            r"|vej(?:en)?|gatan|vägen|veien|plein|kade|gracht)\s\d{1,4}[a-z]?\b",
            # Fore Street, Creek Rd; The Lindens, Skegness Road
            rf"(?:(?:The\s)?{CAP}(?:\s{CAP})?,\s){{0,2}}(?:{CAP}\s){{1,2}}(?:{STREET_FULL_KINDS})\b(?!\s(?:Hospital|Clinic|Surgery|Medical|Practice|Health|Centre|Center|Pharmacy|School))",
            # M.C. ROAD
            r"\b(?:[A-Z][A-Z.'’-]{1,15}\s){1,3}(?:ROAD|STREET|LANE|AVENUE|MARG|NAGAR|COLONY)\b",
            # PO Box 4412, RR 2 Box 18, RFD 3
            r"\b(?i:p\.?\s?o\.?\s?box|post(?:al)?\sbox|box(?=\s\d{2,5},\s[A-Z])|rr\s?\d{1,3}\sbox"
            r"|rural\sroute|private\sbag|locked\sbag)\s#?[A-Z]?\s?\d{1,6}\b",
        ),
    )
)
CORNER = 2  # position in STREETS of "5th and Market", which no town follows
# Words that show that a phrase shaped like a street is something else.
NOT_A_STREET = re.compile(
    r"\b(?:on|in|of|to|at|by|per|with|for|off|from|their|his|her|mg|ml|mcg|units?|tabs?|weeks?"
    r"|days?|PM|AM|Dr\.?\s|Attending|TO|OF|IN|AT|AND|MM|CM|MG|ML|BID|TID|QD|EKG|ECG"
    r"|CT|MRI|Chest|Right|Left|Bilateral|Heart|Brain|Main|Care|Rate|Plan|Date|Time|Point of"
    r"|Follow|Physical)\b"
)
# Post codes that are recognised without a town or a label.
POSTCODES = tuple(
    map(
        re.compile,
        (
            r"\b[A-Z]{1,2}\d[A-Z\d]?\s\d[ABD-HJLNP-UW-Z]{2}\b",  # LS29 8AA
            r"\b[ABCEGHJ-NPR-TVXY]\d[A-Z]\s\d[A-Z]\d\b",  # K1A 0B6
            r"\b(?:[AC-FHKNPRTV-Y]\d\d|D6W)\s[0-9AC-FHKNPRTV-Y]{4}\b(?<=\d.{3}|.\d.{2}|..\d."
            r"|...\d)",  # H62 XY04
            r"\b\d{4}\s(?:[A-RT-Z][A-Z]|S[BCE-RT-Z])\b(?=,?\s[A-Z][a-z])",  # 1234 AB Amsterdam
            rf"\b(?:NSW|VIC|QLD|WA|TAS|ACT|NT)\s\d{{4}}\b|\b{STATE},?\s\d{{5}}(?:-\d{{4}})?\b",
            r"\bS\(\d{6}\)|\b(?:Singapore|SINGAPORE)\s\d{6}\b",
            r"(?<=[^\W\d_][ ,-]\s)\d{3}\s\d{3}\b(?!\s?\d|\s?m[lg])|(?<=-\s)\d{3}\s?\d{3}\b"
            r"|(?<=[^\W\d_]-)\d{6}\b",
        ),
    )
)
BEFORE_CODE = re.compile(rf"(?<![\w'’-])(?:{CAP},?\s){{1,3}}-?\s?\Z")
CODE_BEFORE_TOWN = re.compile(  # 72379 Hechingen
    rf"(?:(?<=,\s)|(?<=[,\n]))(?!(?:19|20)\d\d\s)\d{{4,5}}\s(?P<town>{CAP})(?!\w)"
)
TOWN_STATE = re.compile(  # Culver City, CA 90230
    rf"(?<![\w'’-])(?P<town>{CAP}(?:\s{CAP}){{0,2}}),\s?{STATE}\b(?:\s\d{{5}}(?:-\d{{4}})?)?"
)
DISTRICT = re.compile(  # vill. Rurka Kalan
    r"\b(?:vill(?:age)?|teh(?:sil)?|dist(?:ri?c?t|t)?|taluka?|mandal|brgy|barangay|purok|sitio|LGA"
    r"|kampung|township|Twp|borough|hamlet|Kreis)\b\.?\s"
    rf"(?P<place>(?-i:{CAP})(?:\s(?-i:{CAP}))?)",
    re.IGNORECASE,
)
AFTER_ORGANISATION = re.compile(  # Elm Clinic, Ballinasloe
    r"\b(?:Hospital|HOSPITAL|Clinic|CLINIC|Surgery|SURGERY|Infirmary|Centre|Center|CENTRE|CENTER"
    r"|Pharmacy|Practice"
    rf"|Hospice|Home|Lodge|Legevakt|Klinikum|Eyecare|Dept\.? of {CAP}),\s"
    rf"(?P<place>{CAP}(?:\s{CAP})?(?:,\s(?:Co\.?\s)?{CAP}){{0,2}})(?![\w:])"
)
IRISH_COUNTIES = (
    "Antrim|Armagh|Carlow|Cavan|Clare|Cork|Derry|Donegal|Down|Dublin|Durham|Fermanagh|Galway|Kerry"
    "|Kildare|Kilkenny|Laois|Leitrim|Limerick|Longford|Louth|Mayo|Meath|Monaghan|Offaly|Roscommon"
    "|Sligo|Tipperary|Tyrone|Waterford|Westmeath|Wexford|Wicklow"
)
COUNTY = re.compile(  # Cook County, Co. Galway; but not "Cook County Hospital"
    rf"(?P<place>{CAP}(?:\s{CAP})?\s(?:County|Parish|Township|Borough)"
    rf"|(?:{CAP},?\s)?Co\.?\s(?:{IRISH_COUNTIES}))\b"
    r"(?!\s(?:Hospital|General|Memorial|Medical|Jail|Health|Sheriff|Clinic|EMS|Fire))"
)
# Words before a listed town.
BEFORE_TOWN = frozenset(
    "in from near outside around toward towards visiting live lives living lived resides moved"
    " relocated born raised home native office clinic".split()
)
# Phrases before a town that need not be listed.
SURE_BEFORE_TOWN = re.compile(
    r"\b(?:liv(?:es?|ed|ing)\s(?:\w{3,14}\s){0,2}(?:in|near|at|outside)|resid(?:es?|ed|ing"
    r"|ent)\s(?:in|of|at|near)"
    r"|(?:grew\sup|born|raised|brought\sup|settled|retired|stays?|staying|vacation(?:ing)?|home"
    r"|house|farm|job|works?|working)\s(?:in|near|at|outside)"
    r"|(?:moved|moving|relocat\w+|returned|travel\w*|trip|flew|drove|flight|drive|drives"
    r"|commutes?)\s(?:back\s)?(?:to|from)"
    r"|(?:native|resident)\sof|originally\sfrom|hails\sfrom|(?:came|comes|coming|visiting"
    r"|arrived|transferred|taxi|rang|ambulance|mi|miles|train|bus|refugee|here|man|woman|lady|gentleman|male|female|pt|patient|family|daughter"
    r"|son|sister|brother|aunt|uncle|[MF])\s(?:over\s|up\s|down\s)?from"
    r"|(?:aunt|uncle|sister|brother|son|daughter|mother|father|parents|family|cousin|friend"
    r"|relatives?)\s(?:is\s|are\s|lives?\s)?in)\s\Z",
    re.IGNORECASE,
)
ORG_AFTER = re.compile(
    r"\s(?:(?:General|Regional|County|Memorial|Community|Medical|University|City|Valley|Base"
    r"|District|Children)\W{1,3}){0,3}"
    r"(?:Hospital|Hosp|Clinic|Infirmary|Medical|Med|Health|Healthcare|Surgery|Practice|Centre"
    r"|Center|Ctr|University|College|School|Pharmacy"
    r"|Police|Fire|EMS|Nursing|Rehab|Hospice|Memorial|General|Regional|Manor|House|Lodge|Home"
    r"|disease|syndrome|virus|sign|score|scale|criteria)\b"
)
LABEL_END = re.compile(  # where the value of a label without a line break ends
    r"\n|\t|\||;|\0|[ ]{2,}|\.\s(?=[A-Z])|,?\s(?=(?:Tel|Ph|Phone|Mob|Cell|Fax|GSM|DOB|Age|Sex|MRN"
    r"|SSN|Email|NHS|PCP|GP|DOA|Ref|Insurance|Emergency|Occupation|Hosp|Hospital|Patient|Account|Acct"
    r"|Policy|Medicare|Attending|Seen|Referred|Contact|Next of kin|NOK)\b"
    r"|[A-Z][\w/. ]{1,18}:|[A-Z]\w{1,14}\s(?:[Nn]o|NO|[Nn]umber|#|ID)\b)"
)
NEXT_TOWN = re.compile(  # after a street: ", Whanganui 4500"
    rf",\s(?:{CAP}(?:\s{CAP})?)(?![\w:])(?:,\s(?:{CAP}(?:\s{CAP})?)(?![\w:]))?"
    r"(?:[ ,-]{1,3}\d{4,6}(?![\w/.-]))?"
)

# Telephone numbers

# Regions whose national layouts are tried; numbers with a country code need no region.
REGIONS = "US GB IN AU IE NG PH ZA NZ KE PK DE FR".split()
FEWEST_DIGITS = 7  # of a telephone number
MOST_DIGITS = 15
# Each step takes one digit, so that a failed match takes linear time.
PHONE = r"[+(\d](?<![\w./+(-].)(?:[ .()/*–-]{0,3}\d){6,15}(?![\w%]|[.,/]\d)"
PHONE_EXTENSION = r"(?:,?\s?(?:x|ext\.?|extn\.?|extension|opt(?:ion)?)\s?\d{1,6})?"
PHONE_CANDIDATE = re.compile(PHONE + PHONE_EXTENSION)
PHONE_WORDS = (
    r"tel|telephone|phone|ph|mob|mobile|cell|fax|gsm|whatsapp|viber|landline|hotline|helpline|did"
    r"|call|called|ring|rang|rung|text|texted|contact|contacts|dial|reach|reachable|callback|cb"
    r"|h|w|c|m|t|f"
)
PHONE_INTRODUCED = re.compile(
    rf"\b(?:{PHONE_WORDS})\b(?:\s(?:no|number|nr|num|me|him|her|them|us|back|is|at|on|home|work|cell"
    rf"|clinic))?"
    r"(?:\s(?:no|number|is|at|on))?[\s.,:#()=-]{0,4}\Z",
    re.IGNORECASE,
)
# Layouts of national numbers that rows of measured values do not have.
PHONE_LAYOUTS = (
    re.compile(r"\(?[2-9]\d\d\)?[ .-]{0,2}\d{3}[.-]\d{4}"),  # (614)555-0171
    re.compile(r"\(?0\d{1,4}\)?[ .-]{1,2}\d{2,4}[ .-]?\d{3,4}(?:[ .-]\d{2,4})?"),  # 0803 555 9172
    re.compile(r"0[1-9]\d{8,9}"),  # 07700900642
    re.compile(r"[6-9]\d{4} \d{5}"),  # 98140 55527
    re.compile(r"[2-9]\d\d(?:[./*-]\d{3}[./*-]\d{4}|[.-]\d{7})"),  # 585*555*0129, 808.5550137
    re.compile(r"0\d(?:[ .]\d\d){4}"),  # 01 23 45 67 89
)
PHONE_LOCAL = re.compile(
    r"[2-9]\d\d(?<![\w./+(-]...)-\d{4}(?![\w%/-]|\.\d|\s?(?:m[gl]|units|cells)\b)"
)
# Short numbers inside a hospital: "bleep #0846", "p27614", "BEEPER 7-3345", "ext. 4409".
PHONE_SHORT = re.compile(
    r"\b(?:pager|pgr|beeper|bleep(?:ed|ing)?|blp|ext|extn|extension|dect|ascom|vocera"
    r"|spectralink|spectra|cordless|portable|hotline|switchboard|voicemail|vm|desk|direct|did|paged"
    r"|page)"
    r"(?:\s(?:no|number|is|at|on|me|id))?[\s.:#(=]{0,4}#?(?P<value>\d[\d-]{2,7}\d"
    r"|\d{3})(?![\w/%]|\.\d|-\d)"
    r"|(?<![\w./+-])(?P<glued>(?:[px]\s?|bp\s?)\d-?\d{3,4}|\*\d{4}|\d-\d{4}(?!-)(?<![\d./-]......))(?![\w%/]|[.,]\d|\s?(?:mg|ml)\b)"
    r"|\b(?:ph|phone|tel|call|cell|fax)(?:\s(?:no|is|at|on"
    r"|me))?[\s.:#(=]{0,3}#?(?P<desk>\d-?\d{3,5}(?:-\d{4})?)"
    r"(?![\w/%]|\.\d|-\d|\s\d)",
    re.IGNORECASE,
)
