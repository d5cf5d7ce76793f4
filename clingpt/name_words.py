"""The words that clingpt/names.py goes by, all but the names themselves: what introduces a person,
and what follows or precedes that which only looks like one.
"""


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


TITLES = _set("dr drs doctor mr mrs ms miss mx prof professor sr sra srta nurse sister rev")
WEAK_TITLES = _set("ms mr miss sr nurse sister doctor professor rev")  # units, words, diseases too
LABELS = _set(
    """patient pt name attending physician provider surgeon anesthesiologist anaesthetist assistant
    resident radiologist pathologist cardiologist oncologist consultant author pcp gp by to from kin
    contact guarantor guardian caregiver carer interpreter witness signature signed re subscriber
    insured client nurse midwife technologist therapist dietitian surname forename referring doctor
    dr clinician examiner caller ordering dictated"""
)
# What stands behind these is as often no name at all.
DOUBTFUL_LABELS = _set("patient pt name to from re contact client insured by witness signature")
PLAIN_LABELS = _set(
    "dear sincerely regards cc hello hi thanks"
)  # a comma or nothing may stand behind them
RELATIONS = _set(
    """wife husband son daughter mother father brother sister spouse partner niece nephew aunt uncle
    friend neighbor neighbour grandson granddaughter grandmother grandfather girlfriend boyfriend
    fiance fiancee roommate cousin stepson stepdaughter stepmother stepfather named mom mum dad"""
)
BEFORE_BY = _set(
    """seen signed dictated transcribed reviewed performed interpreted read referred verified
    witnessed evaluated examined ordered authored cosigned approved accompanied prepared attested
    completed admitted entered recorded supervised spoke spoken discussed met
    talked conferred lives"""
)
INTRODUCERS = _set("referring regarding seeing caller patient pt client of")
FIELDS = _set("mrn mrns dob ssn acct accession mr date is was")
# "King was told": no word begins a sentence so.
VERBS = _set("was is has had will denies reports states presented lives underwent asked felt")
DEGREES = _set(
    """MD DO RN NP PA PA-C PhD DDS DMD FACS FACP FACC FRCS FRCP FRCA CRNA DPM PharmD LPN LVN LCSW
    MSW MBBS BSN MSN APRN CNM DNP PsyD DPT ARNP MBChB FAAP RPh CNP FNP FNP-C"""
)
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
    sequence proportional hazards police department mission centers cancer"""
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
    carolina dakota montana florida california monte
    france ireland israel jordan india kenya chad china america england holland germany
    victoria christian"""
)
# Who had one of these as a surname may be missed where it stands alone.
EPONYMS = _set("parkinson alzheimer crohn hodgkin down addison cushing graves huntington bell cox")
PLACES = _set("st saint san santa los las mount mt fort lake port new hôpital hospital mother")
PARTICLES = _set("van von de der den del della di da dos du la le el al bin ibn ter st abu")
