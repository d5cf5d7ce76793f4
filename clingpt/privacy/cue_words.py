"""The words that clingpt/privacy/names.py goes by, all but the names themselves: what introduces
a person, and what follows or precedes that which only looks like one."""

import re


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


TITLES = _set("dr drs doctor mr mrs ms miss mx prof professor sr sra srta nurse sister rev")
WEAK_TITLES = _set("ms mr miss sr nurse sister doctor professor rev")  # units, words, diseases too
LABELS = _set(
    """patient pt name attending physician provider surgeon anesthesiologist anaesthetist assistant
    resident radiologist pathologist cardiologist oncologist consultant author pcp gp by to from
    kin contact guarantor guardian caregiver carer interpreter witness signature signed re
    subscriber insured client nurse midwife technologist therapist dietitian surname forename
    referring doctor dr clinician examiner caller ordering dictated sonographer technician tech
    counselor counsellor adjuster pharmacist dentist hygienist physiotherapist paramedic emt
    phlebotomist prescriber requester operator perfusionist teacher secretary coordinator
    supervisor chaplain crew claimant beneficiary proband applicant employee student pupil inmate
    prisoner donor recipient member exposed informant notified parent attn attention traveller
    traveler complainant present apologies reviewer collector officer chair charge operating req
    relative candidate pic names surnames forenames scribe trainer instructor examinee
    chiropractor psychologist pediatrician paediatrician escort driver custodian enrollee
    appellant"""
)
PARTS_OF_NAMES = _set("surname forename")  # do without a colon
# What stands behind these is as often no name at all.
DOUBTFUL_LABELS = _set(
    """patient pt name to from re contact client insured by witness signature crew claimant
    beneficiary proband applicant employee student pupil inmate prisoner donor recipient member
    exposed informant notified parent attn attention traveller traveler present apologies chair
    candidate names"""
)
PLAIN_LABELS = _set(
    "dear sincerely regards cc hello hi thanks wishes cheers"
)  # a comma or nothing may stand behind them
CLOSINGS = _set("lot much again advance soon love best yours")
RELATIONS = _set(
    """wife husband son daughter mother father brother sister spouse partner niece nephew aunt uncle
    friend neighbor neighbour grandson granddaughter grandmother grandfather girlfriend boyfriend
    fiance fiancee dtr dau hubby roommate cousin stepson stepdaughter stepmother stepfather named
    mom mum dad parent guardian caregiver carer"""
)
_MET = _set(
    """seen signed dictated transcribed reviewed performed interpreted read referred verified
    witnessed evaluated examined ordered authored cosigned approved accompanied prepared attested
    completed admitted entered recorded supervised spoke spoken discussed met
    talked conferred lives"""
)
BEFORE_BY = _MET | _set(
    """treated given administered requested reported called phoned notified informed consented
    brought filed sent faxed logged charted scribed drawn collected taken escorted"""
)
CALLED = _set(
    """called phoned reported handed handover given telephoned communicated relayed conveyed call
    message email letter referral referred"""
)
PAGED = _set("paged bleeped texted messaged notified informed updated")
ABOUT = _set("at re about for of with that regarding who via by")
GOES_ON = _set("via by at on and who in")  # behind who was called
MEETS = _set("with as record see")
TO = _set("to from")
BEFORE_WITH = _MET | _set("appointment appt meeting")  # "treated with" is a drug's
AFTER_SLASH = _set("w u")  # d/w, s/w, f/u
DOCUMENTS = _set("instructions letter summary report note form results plan referral order care")
CLIENTS = _set(
    """patient pt client beneficiary claimant member proband subscriber inmate student infant baby
    employee"""
)
INTRODUCERS = CLIENTS | _set("referring regarding seeing caller of")
FIELDS = _set(
    """a an ninety ninety-one ninety-two ninety-three ninety-four ninety-five ninety-six ninety-
    seven ninety-eight ninety-nine med mrn mrns dob d ssn ss acct accession hicn nhs chi mr date
    is was bday birthday born b id dea npi fin hosp hospital prison inmate unit patient chart
    number"""
)
# What only a person has, so that one name before it will do.
OWN = _set("dob ssn mrn prison bday nhs date born")
# A field of a form, or what a note says of a patient first.
FIELD = re.compile(
    r"(?:mrns?|dob|ssn|acct|accession|hicn|nhs|chi|b-?day|birthday|dea|npi)\b|d\.o\.b|ss#|mr\b\s?#?\d"
    r"|(?:id|b|born|number)\b\.?\s?[#:]?\s?\d|date\sof\sbirth"
    r"|fin\b|med(?:ical)?\srec|an?\s(?:\d{1,3}[\s-]?y|ninety)|ninety\b"
    r"|(?:hosp(?:ital)?|prison|inmate|unit|patient|chart)\s(?:id|no|number|#)"
    r"|(?:is|was)\s(?:an?\s)?(?:\d{1,3}[\s-]?(?:y|m\b|f\b)|ninety)",
    re.IGNORECASE,
)
OLD = _set("y yo year years yr yrs m f aged")  # behind a number that stands behind a name
# What people alone do, behind a name that no list has.
SAYING = _set(
    "lives dictating denies voiced verbalized verbalised wrote"
)  # whose subject is a person for sure
DOINGS = SAYING | _set("attended attends phoned asked agrees agreed consents complains walked")
# Who a letter or a list says that somebody is, behind the name and a comma.
ROLES = _set(
    """consultant registrar specialist senior staff charge clinical ward attending secretary manager
    therapist nurse midwife physiotherapist pharmacist dietitian psychologist resident fellow intern
    physician surgeon practitioner coordinator counselor paramedic technologist clerk"""
)
# Whose doctor may stand in brackets behind.
SPECIALTIES = _set(
    """gi id ent ortho cards cardiology neuro neurology nephrology oncology onc heme hematology
    haematology urology ir psych psychiatry pulm palliative rheum rheumatology endo derm dermatology
    vascular ob obgyn peds pcp icu micu sicu trauma anesthesia hospitalist"""
)
# "King was told": no word begins a sentence so.
VERBS = _set("was is has had will denies reports states presented lives underwent asked felt")
DEGREES = _set(
    """MD DO RN NP PA PA-C PNP PhD DDS DMD FACS FACP FACC FRCS FRCP FRCA CRNA DPM PharmD LPN LVN
    LCSW MSW MBBS BSN MSN APRN CNM DNP PsyD DPT ARNP MBChB FAAP RPh CNP FNP FNP-C CGC RDCS RDMS
    RVT LMFT OTR RDN EMT EMT-P BDS MRCP MRCGP MRCPsych FRCOG FRCPath RGN RMN CCC-SLP BChD NRP
    CCHT MLS MLT COTA OTA PTA CMA RMA HHA STNA CPhT RRT CRT RPSGT LMSW LICSW LCPC LMHC LPC BCBA
    CDE CDCES IBCLC OCN CCRN CEN CWOCN AuD FACOG FACEP FAAN FRCPC FRCSC FRCR FRCEM MRCS MRCOG ST1
    SpR SHO HCA ODP SLP rn lpn np"""
)
BESIDE_DEGREE = DEGREES | _set("MS MA BA BS MSc BSc MPH BM Med")  # no degree for sure, alone
# What follows tells that these are no persons: "Mary Washington Hospital", "Down syndrome".
NOT_PERSONS = _set(
    """hospital university clinic institute college foundation school center centre medical memorial
    health healthcare county church pharmacy laboratory laboratories society association inc corp
    ltd park river lake valley city island beach heights springs registry trial study group cohort
    disease syndrome test tests sign scale score scores index criteria classification inventory
    method model models procedure operation technique stain tumor tumour palsy lymphoma regression
    correction analysis plot estimate estimates coefficient ratio phenomenon law effect reflex
    fracture anomaly malformation disorder virus bacillus reaction maneuver manoeuvre position
    incision repair clamp catheter tube drain needle retractor forceps questionnaire contracture
    hernia node nodes cell cells body bodies ring stage grade grading type protocol regimen equation
    formula distribution approach graft shunt valve ulcer sarcoma diet exact rank curve curves
    sequence proportional hazards police department mission centers cancer
    hallucinations nodule nodules equiv equivocal facies gait"""
)
# Labels and terms that stand in capitals beside a name, and states that are first names too.
NEVER = _set(
    """dob mrn ssn date age sex male female admission discharge diagnosis history room bed unit ward
    phone tel fax mobile email address street account acct record number id dos doa dx hx rx pmh hpi
    ros cc er ed icu ccu or pacu opd mri ct xr us ekg ecg the a an and of in on at to for with from
    by was were is are has had will would can could may this that these those he she they his her
    their him them it its we our you your who which when where while since after before during not
    no yes new both all any other each also patient patients pt pts service department division
    january february march april june july august september october november december jan feb mar
    apr jun jul aug sep sept oct nov dec monday tuesday wednesday thursday friday saturday sunday am
    pm md do rn np dr mr mrs ms miss prof exam report findings impression plan assessment surgery
    emergency general internal family medicine radiology attending physician surgeon provider
    dictated signed electronically transcribed dear sincerely regards encounter visit status race
    ethnicity gender insurance referring reason indication comparison allergies medications labs
    vitals vs hiv aids unknown deceased self na nka nkda tbd pending doctor nurse per via re fin csn
    bp hr rr temp wt ht bmi none texas virginia georgia
    carolina dakota montana florida california nevada maryland alberta
    monte
    france ireland israel jordan india kenya chad china america england holland germany
    victoria christian
    hicn nhs npi dea vin csn american indian african asian hispanic caucasian islander latino i'm"""
)
# Who had one of these as a surname may be missed where it stands alone.
EPONYMS = _set("parkinson alzheimer crohn hodgkin down addison cushing graves huntington bell cox")
PLACES = _set(
    "st saint san santa los las mount mt fort lake port new hôpital buenos south hospital mother"
)
PARTICLES = _set("van von de der den del della di da dos du la le el al bin ibn ter st abu")
