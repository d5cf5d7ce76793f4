"""In clinical notes, identifiers are also found by structure and shape; in abstracts they are not.

Expected findings are marked as ⟦identifier⟧; HEADER makes every passage a note.
"""

import re

import pytest

from clingpt.privacy.annotated import read_marked, score
from clingpt.privacy.identifiers import find_identifiers
from tests.helpers.phi_corpus import assert_linear
from tests.helpers.shared import PUBMEDQA, official_items, shared_file

HEADER = "Pt c/o SOB, hx DM, NKDA. Plan: f/u prn. "

FOUND = [
    # Headers and labels
    "PAT: ⟦NOWICKA,HALINA⟧ AUTHOR: ⟦QUINN,BETTY A⟧ EXP COSIGNER: ⟦SATO,R⟧",
    "MRN: ⟦MRN-KX-52-70316⟧ Accession: ⟦ACC-RAD-508214⟧ Account: ⟦ACC-QT-310955⟧",
    "U #: ⟦QX551200⟧ SPEC #⟦1191:C00332S⟧",
    "Job #: ⟦5582913⟧ Doc# ⟦882299-14⟧",
    "MRN is #⟦QB-61234⟧, HBN: ⟦345-678-912⟧, License: ⟦OH K7654321⟧",
    "UHID ⟦KNH/2021/004417⟧, Aadhaar ⟦5310 6642 9087⟧, GMC ⟦6098712⟧, Reg. No. ⟦DMC 2012/07/2203⟧",
    "Medicare ⟦2FH7-QR8-LN41⟧. HPCSA ⟦MP0788213⟧. Folder ⟦EC 0093 3381⟧. SSN last 4 ⟦4471⟧",
    "Attending: ⟦Tran⟧ RN: ⟦K. Nowak⟧ NOK: ⟦Pilar Ocampo⟧",
    "Address: ⟦12 Pinecrest Hollow, Elkton⟧ Tel: ⟦4471 220⟧",
    # Footers
    "Jane Q. ⟦Roe⟧, M.D. ⟦JQR:smith⟧",
    "Signed, M.D. ⟦JQR/miller/jones⟧ ⟦AB123/45678⟧ ⟦JR59⟧ D:⟦07/20/83⟧ T:⟦07/21/83⟧",
    # Dates
    "CABG in ⟦5/92⟧, ⟦9/91⟧-- better, on ⟦6-14-91⟧, who",
    "Intubated ⟦6/23⟧, proned (last ⟦6/26⟧); NOTE ⟦6/28⟧ HD#6",
    "fell on ⟦3/14⟧ and again ⟦3/22⟧. TEE ⟦11/09⟧ SHOWED. ADMITTED ON ⟦11-07⟧ WITH",
    "DOB ⟦5.28.41⟧, issued ⟦9.7.20⟧, from ⟦26.04.⟧ to ⟦03.05.2019⟧",
    "Holter ⟦4/11⟧-⟦4/13⟧, cert ⟦10/12/22⟧-⟦12/10/22⟧, COLL: ⟦05/09/23-0710⟧",
    "since ⟦November⟧, in ⟦October⟧, on ⟦the 19th⟧, ⟦Mar 14, '22⟧, Tetanus ⟦8/19⟧, ⟦Christmas Eve⟧",
    "Lines placed ⟦6/14/2020⟧: RIJ ⟦6/15⟧, L rad ⟦6/20⟧",
    # Telephone numbers
    "⟦(614)555-0171⟧, ⟦07700 900 245⟧, call ⟦6145550171⟧, ⟦98300 00781⟧, ⟦808.5550137⟧",
    "PGY3 ⟦p27614⟧, BEEPER ⟦7-3345⟧, bleep #⟦0846⟧, DID ⟦6555 4418⟧, fax ⟦0481-2555 019⟧",
    # Codes by their shape
    "file ⟦portrait-2019-05-21.jpg⟧ and ⟦IMG_20220908_0117⟧, car reg ⟦LD21 QRM⟧, ⟦@roe_moon42⟧",
    "acc ⟦SM-550913⟧, ⟦22-40-71⟧, ⟦123-45-67-8⟧, ⟦IP/22/19904⟧, ⟦K0731946⟧",
    # Names
    "This is Baby ⟦Alvarez⟧, with grandma ⟦Inez⟧, FOB ⟦Miguel⟧, ex-partner ⟦Dwight⟧",
    "Called to RN ⟦B. SIMS⟧ at noon; reg ⟦R. Thiagarajan⟧ to see; report from ⟦keisha⟧",
    "news from ⟦Thuy⟧ (wife); seen by ⟦p.quill⟧ rn; (⟦A. Roe⟧); (⟦A.R.⟧)",
    "Smt. ⟦Sunita Rani⟧, Sr ⟦Nomvula⟧, mrs ⟦hargreaves⟧; ⟦Vern K⟧, seen",
    "8:15 ⟦Abruzzo, Philomena⟧; ⟦KAVANAGH, Dean Patrick⟧; 2 dtrs (⟦Tali⟧, ⟦Noa⟧)",
    "dw ⟦Nowak⟧/⟦Osei⟧ en route. Kind regards, ⟦M. Concannon⟧",
    # Places
    "Grew up in ⟦Dayton⟧, son in ⟦Culver City⟧, taxi from ⟦Ngqeleni⟧, moved to ⟦Waltham⟧",
    "⟦731 Elm Street, Tacoma⟧. ⟦5 Liberty Way⟧; ⟦5th and Market⟧; ⟦Box 214, Ames⟧",
    "⟦Flat 2, 9 Beacon Rise, Ilkley LS29 8AA⟧",
    "⟦Am Schlossberg 12, 72379 Hechingen⟧; ⟦Loughrea, Co Galway H62 XY04⟧; vill. ⟦Rurka Kalan⟧",
    # Ages and pages
    "M/⟦94⟧. Jet, who is ⟦101⟧; app ⟦fysio-in-balans.example/u/pvdo88⟧",
]

NOTHING = [
    "strength 5/5, 2/6 SEM, pain 6/10, GCS 14/15, MMSE 24/30, VA 6/9, Apgars 8/9, BP 120/80",
    "5/7 of abx, 6/12 history, r/v in 2/52, f/u 6-8 wks, 1-0-1, 30/70, 10/500, 22-0-14, 4-0 nylon",
    "T1c N0 M0, pT3N1, L4/5, C5-6, 20G cannula, 16 Fr Foley, 7.0 ETT, bed 7, room 412, POD #3",
    "Foley, Babinski, Murphy's, McBurney's, Glasgow, Wells, Hoffman, Lachman, Weber B. Talar shift",
    "B12 low, HbA1c 7.1, CD4 512, HLA-B27, COVID-19, IL-6, PHQ-9 of 12, G3P1102, E4V5M6, T15.01XA",
    "WBC 12000, PLT 61000, VL 120000 copies/mL, heparin 5000 units, 1.5 x 10, 7.38/44/78, Na 140",
    "lot C5218 model 5076, CPT 99213, ICD-10 J45.909, mg/kg, ml/hr, AP/lat, N/v, 3-4 wks, 2/2 sets",
    "ED TRIAGE NOTE. EMS Triage RN. X-Ray chest. RN Assessment. Mother: Melanoma. RT AXILLA.",
    "at 3:51 PM. Attending Dr. 311 EKG TO DR. 3 MM ST ELEVATION",
    "treated with Macrobid, switched from Cytoxan to Imuran, Bier block, Masterson retractor",
    "fracture of the 2nd and 3rd toes, the 4th digit, a 2nd opinion, may return, march in place",
    "seen by XXXX, MRN: XXXX, X-XXXX, [**Name 12**] [**2151-7-16**], ___, [NAME], <DATE>, ***",
]


def marked(text: str) -> list[str]:
    return re.findall(r"⟦(.*?)⟧", text)


def found(text: str) -> list[str]:
    return [text[one.start : one.end] for one in find_identifiers(text)]


@pytest.mark.parametrize("passage", FOUND, ids=lambda passage: passage[:30])
def test_identifiers_of_notes_are_found(passage: str) -> None:
    note = read_marked(HEADER + re.sub(r"⟦(.*?)⟧", r"[[name|\1]]", passage))
    counts = score([note])
    missed = [each.text[mark.start : mark.end] for each, mark in counts.missed_at]
    alarms = [each.text[one.start : one.end] for each, one in counts.alarms_at]
    assert (missed, alarms) == ([], [])


@pytest.mark.parametrize("passage", NOTHING, ids=lambda passage: passage[:30])
def test_look_alikes_in_notes_are_not_found(passage: str) -> None:
    assert found(HEADER + passage) == []


ABSTRACT = "Methods: patients in this retrospective study were compared; results were significant. "


@pytest.mark.parametrize(
    "passage",
    ["in 5/92 and 6/23", "on 6-14-91", "since November", "the 19th", "sample SM-550913 was used"],
)
def test_abstracts_keep_the_strict_rules(passage: str) -> None:
    assert found(HEADER + passage) != []
    assert found(ABSTRACT + passage) == []


def test_published_abstracts_are_not_notes() -> None:
    items = list(official_items(shared_file(PUBMEDQA)).values())[:300]
    texts = [" ".join([one["QUESTION"], *one["CONTEXTS"], one["LONG_ANSWER"]]) for one in items]
    # A bare code is found in notes only, so it tells which texts are taken for notes.
    assert not [text for text in texts if "QX-551200-7" in found(f"{text} QX-551200-7")]


def test_hl7_messages_are_read_by_field() -> None:
    message = (
        "MSH|^~\\&|ADT1|ELM|LAB|ELM|202103141030||ADT^A01|MSG0048812|P|2.3\r"
        "PID|1||7710225^^^XYZ^MR||ROE^JANE^L||19551103|F|||12 HILL RD^^AMES^IA^50010||"
        "(515)555-0162\r"
        "OBX|1|NM|2951-2^Na^LN||128|mmol/L|136-145|L||||F"
    )
    expected = "202103141030 MSG0048812 7710225 ROE JANE L 19551103 12 HILL RD AMES 50010 0162"
    for text in (message, message.replace("\r", "\n"), message.replace("\r", " ")):
        covered = " ".join(found(text))
        assert all(part in covered for part in expected.split())
        assert not {"128", "136", "2951"} & set(re.findall(r"\d+", covered))


def test_tables_are_read_by_column() -> None:
    table = (
        "Pt list, NKDA all\n"
        "Bed | Name | MRN | DOB | Hgb\n"
        "12 | Wulf, Odd | 771022 | 5-28-41 | 12.5\n"
        "14 | Umeh A | 771023 | 6-14-91 | 9.8\n"
    )
    assert found(table) == ["Wulf, Odd", "771022", "5-28-41", "Umeh A", "771023", "6-14-91"]


def test_placeholders_do_not_hide_their_neighbours() -> None:
    text = (
        HEADER + "Dr. XXXX and Dr. Smith, [**Hospital1 18**], MRN ___, xxx-xx-4471, 3/4/2019 XXXX"
    )
    assert found(text) == ["Smith", "xxx-xx-4471", "3/4/2019"]


HOSTILE = [
    *("6/", "6/1 ", "6-1-", "1.1.", "the 1st ", "May ", "MRN: ", "MRN: A-1-", "#", "id no ", "| "),
    *("A-1-", "A/1/", "1 1 ", "555-", "(614)", "p2", "@a.", "a_", "a.a/", "IMG_1", "PID|1|^", "X"),
    *(
        "RN ",
        "RN A. ",
        "Dr. A",
        "8:15 A, B ",
        "A, B ",
        "LEE,ANN ",
        "dtrs (A, ",
        "bed 1 a",
        "a.b rn ",
    ),
    *(
        "12 Oak ",
        "Flat 2, ",
        "from Ames ",
        "in Lee, ",
        "Address: ",
        "Lee, IA ",
        "LS29 ",
        "JQR:a/",
        "***",
    ),
    *("[**", "[NAME", "<DATE", "____", "XXXX-", "W-H-", "12:00 ", "mrs ", "/es/ A "),
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_notes_take_linear_time(piece: str) -> None:
    assert_linear(find_identifiers, HEADER, piece)
