"""Templates of clinical notes: where a field in braces stands, phi_corpus.py puts an identifier.

The rules were developed with `OWN`, whose last thirty were written by who wrote the rules, ten at a
time, after the rules: 0.897, 0.934 and 0.940 of what they held was found at first. `OTHERS` are of
four writers who knew none of the rules, one after another: at first 0.806 of 484, 0.889 of 828,
0.911 of 772 and 0.908 of 972 were found; each was then worked on. `HELD_OUT` is of a fifth; no
rule was changed for it.
"""

OWN = (
    """DISCHARGE SUMMARY Patient: {PATIENT_REVERSED} MRN# {number} DOB {us_date} Admission Date:
    {us_date} Discharge Date: {us_date} Attending: {doctor}, MD. HISTORY OF PRESENT ILLNESS: Mr.
    {patient_last} is a {old_age}-year-old man with CHF, EF 30%, who presented on {long_date}
    with dyspnea. BP 142/88, HR 96, strength 5/5, troponin 0.04. He was seen by Dr. {other_last}
    from cardiology; Kaplan-Meier survival was not discussed. Lasix 40 mg b.i.d. was started.
    {patient_last} will follow up with Dr. {doctor_last} at {phone}. Call {phone} with
    questions. Dictated by: {doctor} {us_date} {clock}""",
    """RADIOLOGY REPORT EXAM: CT CHEST WITH CONTRAST Accession: {accession} Patient Name:
    {patient_reversed} Medical Record Number: {number} Date of exam: {iso_date}. COMPARISON:
    {dashed_date}. FINDINGS: There is a 1.2 x 0.8 cm nodule in the right upper lobe, unchanged.
    Heart size is normal, C/T ratio 0.5. No effusion. IMPRESSION: 1. Stable nodule. 2. Mild
    emphysema, GOLD 2. Findings were discussed with {doctor} on {short_date}. Electronically
    signed by {other}, M.D. at {iso_time}""",
    """Dear Dr. {doctor_last}, Thank you for referring {patient}, date of birth {uk_date}, NHS
    number {nhs}, who lives at {uk_address}. She is accompanied by her daughter
    {relative_first}, whose telephone is {uk_phone}. I reviewed her in clinic on {ordinal_date}.
    She takes ramipril 5 mg and has Parkinson's disease, Hoehn and Yahr 2. Mrs {patient_last}
    scored 26/30 on the MMSE. I plan to see her in 6 months. Yours sincerely, {other}, FRCP.
    Tel: {uk_phone} Email: {email}""",
    """pt: {patient_small_reversed} dob {us_date} mrn {number}. 67 yo f c/o n/v x3 days. seen by dr
    {doctor_small_last} {us_date}, spoke w/ husband {relative_small_first}, cell {phone}. no
    fever, t 98.6, bp 118/76. labs wnl. f/u in 2 wks w/ dr. {doctor_small_last}. lives at
    {small_address}. ins policy # {policy}, ssn {ssn}.""",
    """INSURANCE AND REGISTRATION Name: {patient} Address: {address} Home phone: {phone} Cell:
    {phone} E-mail: {email} SSN: {ssn} Member ID: {policy} Account number: {account} Driver's
    license: {licence} License plate: {plate} Emergency contact: {relative}, wife, {phone}.
    Patient portal: {url} last login from {ip}.""",
    """OPERATIVE NOTE PATIENT: {PATIENT} MR# {number} SURGEON: {DOCTOR}, M.D. ASSISTANT: {OTHER},
    PA-C DATE OF PROCEDURE: {dashed_date} IMPLANT: dual chamber pacemaker, serial number
    {serial}. The Foley catheter and two Jackson-Pratt drains were placed. Blood loss 150 mL.
    DR. {DOCTOR_LAST} WAS PRESENT THROUGHOUT. The old device, S/N {serial}, was returned on
    {long_date}.""",
    """SOCIAL WORK: Ms. {patient_last} is {old_age} y.o. and lives alone in {town_state}. Her son
    {relative} (phone {plus_phone}) holds power of attorney. She receives mail at {po_box},
    {town_zip}. She was in a motor vehicle accident {short_date}; vehicle VIN {vin}. Case
    number: {account}. Nurse: {other}, RN. The plan was reviewed with {patient_first}
    {patient_last} on {dotted_date}.""",
    """Neurology consult. Requesting physician: {doctor}. The patient, aged {old_age}, has Bell's
    palsy and a history of Hodgkin lymphoma. Her mother, {relative_first}, had Huntington
    disease. MRI of {slashed_iso_date} showed 3 lesions. I spoke with {relative} at
    {paren_phone}. Fax the report to {phone}. Web: {url} {other}, MD, NPI {npi} DEA# {dea}""",
    """PATHOLOGY Specimen #: {accession} Collected: {us_date} {clock} Received: {us_date}
    Submitting physician: {DOCTOR_REVERSED} Patient {patient}, sex F, age {old_age}. DIAGNOSIS:
    Breast, left, core biopsy: invasive ductal carcinoma, Nottingham grade 2 (3+2+1), ER 95%, PR
    80%, Ki-67 15%. COMMENT: Called to Dr. {doctor_last} on {written_date}. Pathologist: {other}
    MD""",
    """TELEPHONE ENCOUNTER {us_date} {clock}. Caller: {relative}, daughter of {patient}. Callback
    {dotted_phone}. Reports that dad, who is {age_words} years old, fell on {weekday}
    {short_date}. No LOC. Advised ED. Message routed to {doctor}, NP, and to Dr. {other_last}
    (pager {pager}). Uploaded from {ip} to {url}; confirmation sent to {email}.""",
    """EMERGENCY DEPARTMENT NOTE {PATIENT} MRN: {number} Arrived {us_date} {clock} by ambulance.
    CC: chest pain. {patient_first} {patient_last} is a 54M with HTN who was last well on
    {long_date}. His girlfriend {relative} called 911. ECG: sinus tachycardia. Case discussed
    with Dr. {doctor_last}, cardiology on call, ext {pager}. Heparin drip at 12 units/kg/h.
    Signed: {other}, PA-C""",
    """nursing note {us_date}: mr. {patient_small_last} resting comfortably, spo2 96% on 2 l nc.
    daughter {relative} at bedside, her number is {phone}. dr. {doctor_small_last} notified of k
    5.9 at 0430. foley draining clear urine. pt states he wants to go home to {town_state}. will
    continue to monitor. {other} rn""",
    """FAX COVER SHEET To: {doctor} Fax: {phone} From: {other}, Medical Records Phone:
    {paren_phone} Date: {written_date} Re: {patient}, DOB {dashed_date}, SSN {ssn}. Pages: 7. If
    received in error, please call us or write to {email}, {address}.""",
    """PSYCHIATRIC EVALUATION Patient's name: {patient_reversed}. Date of evaluation:
    {ordinal_date}. The patient is a {old_age} year old widow, retired teacher, born in
    {town_zip}. Her late husband {relative_first} died on {short_date}. PHQ-9 was 14, Beck
    Depression Inventory 22. She denies SI. Her case manager, {other}, can be reached at
    {dotted_phone}. Medicare number: {policy}.""",
    """To whom it may concern: {patient} (date of birth: {iso_date}) has been under my care since
    {uk_date}. Vehicle registration plate {plate}, driving licence number {licence}. In my
    opinion, Mr {patient_last} is fit to drive. Should you need more, ring my secretary on
    {uk_phone}. {doctor}, MBBS, {uk_address}""",
    """ICU TRANSFER NOTE. NAME: {PATIENT_REVERSED} ACCT: {account} DATE: {dashed_date}. THIS
    {old_age} Y/O FEMALE WAS TRANSFERRED FROM THE FLOOR ON {us_date} FOR HYPOTENSION. MAP 58 ON
    NOREPINEPHRINE 0.1 MCG/KG/MIN. DR. {OTHER_LAST} PLACED A RIGHT IJ LINE. FAMILY: SON
    {RELATIVE} UPDATED BY PHONE {phone}. CODE STATUS FULL. LACTATE 4.2.""",
    """Cardiac device clinic. {patient} attended on {slashed_iso_date}. Generator: dual chamber
    ICD, serial no. {serial}, implanted {long_date} by Dr {doctor_last}. Remote monitor uploads
    from {ip} to {url}. Battery 4.1 years. No shocks. Next check in 3 months. Physiologist:
    {other}. Questions? {email} or {plus_phone}""",
    """Well child visit. Mom ({relative}) brings {patient_first} for her 4-month check.
    Pediatrician: {doctor}. Weight 6.4 kg, 50th centile. Immunizations given {dotted_date}. Home
    address on file: {address}. Insurance ID {policy}. Twin brother has Down syndrome. Next
    visit {short_date}.""",
    """Addendum {iso_time}: I have reviewed the films of {patient} (accession number {accession})
    with Dr. {other_last}. Compared with {long_date}, the Colles fracture shows callus.
    {patient_last} was told by telephone. Licence NPI: {npi}. {DOCTOR}, MD""",
    """Geriatrics home visit at {small_address}. Mrs. {patient_last}, who turned {old_age} years
    old in spring, was with her nephew {relative}. Timed up and go 22 s. Mailing address
    {po_box}, {town_zip}. Car, VIN: {vin}, no longer used. Lifeline unit S/N {serial}. Visit
    date {uk_date}; nurse {other_last} will return {short_date}.""",
    """PROGRESS NOTE - CARDIOLOGY Name: {PATIENT_REVERSED} Hosp #: {number} Adm: {us_date} Day 3.
    S: Slept well, no angina. O: T 36.8, P 72, BP 128/70, I/O 1500/1700. Echo {us_date}: EF 45%,
    mild MR. A/P: NSTEMI, TIMI 3, day 2 after PCI. Continue aspirin, ticagrelor 90 mg bid. Spoke
    to {relative} (brother) on {short_date}. D/w Dr. {doctor_last}. Pager {pager}. {other}, MD
    PGY-2""",
    """ONCOLOGY LETTER. {ordinal_date}. RE: {patient}, {uk_address}, DOB {uk_date}. Diagnosis:
    Hodgkin lymphoma stage IIA, Deauville 2. Dear Dr {doctor_last}, I saw this pleasant lady
    together with her husband {relative_first}. ABVD cycle 4 begins on {short_date}. Karnofsky
    90. Please check a full blood count. Kind regards, {other}, Consultant Oncologist.
    Secretary: {uk_phone}. NHS no: {nhs}""",
    """triage note. {us_date} {clock}. pt {patient_small_reversed}, mrn {number}, here w/ wife
    {relative}. fell off ladder approx 6 ft, l wrist deformity, nv intact. gcs 15. pain 7/10.
    tetanus utd. allergies pcn. pcp dr. {doctor_small_last}, ph {phone}. address
    {small_address}. insurance id {policy}.""",
    """PHYSICAL THERAPY EVALUATION Patient: {patient} Referred by: {doctor}, DO Onset:
    {written_date} Dx: adhesive capsulitis. {patient_first} is a retired engineer. Flexion 95
    deg, Neer and Hawkins-Kennedy tests positive. Home program emailed to {email}. Video at
    {url}. Therapist: {other}, DPT License # {licence}. Next: {long_date}.""",
    """DEATH SUMMARY The patient, Mr. {patient_last}, a {old_age} yo man, expired on {long_date} at
    {clock}. Next of kin: {relative}, {phone}. Medical examiner case number {account}. Attending
    {doctor} and chaplain notified. Remains released to funeral home at {address}. SSN {ssn}.
    Certifier NPI {npi}.""",
    """SLEEP STUDY REPORT {PATIENT} DOB: {dashed_date} Study date: {iso_date} Referring: {DOCTOR}.
    AHI 32, nadir SpO2 81%, Epworth 14. CPAP 9 cm H2O. Unit serial # {serial} issued; data sent
    from {ip}. Tech: {other}, RPSGT. Interpreted by {doctor} {slashed_iso_date}.""",
    """SOCIAL HISTORY: {patient_first} lives in {town_state} with her niece, {relative}. Widow
    since {short_date}. No alcohol. Drives a car (license plate {plate}, VIN {vin}). ADVANCE
    DIRECTIVE: proxy is {relative}, reachable at {paren_phone}. Mail: {po_box}, {town_zip}.
    Reviewed by {other} LCSW on {dotted_date}.""",
    """ANESTHESIA PREOP. Pt {patient}, age {old_age}, for hip fracture repair with Dr.
    {doctor_last} {dashed_date}. ASA 3, Mallampati 2. Warfarin held, INR 1.3. Daughter
    ({relative}, cell {dotted_phone}) consents. Accession {accession} chest film clear. DEA
    {dea}. Signed {other} CRNA {iso_time}""",
    """PATIENT PORTAL MESSAGE From: {patient} Sent: {long_date} {clock} To: Dr. {doctor_last} My
    new number is {phone} and I moved to {address}. My mother {relative} turned {age_words}
    years old. Can we talk on {short_date}? Thanks, {patient_first}. Reply: Hello
    {patient_first}, please call {plus_phone}. {other}, RN""",
    """CT ABDOMEN W CONTRAST {PATIENT_REVERSED} MR {number} {us_date} ORDERING: {DOCTOR_LAST}.
    HISTORY: Crohn's disease, Whipple procedure. FINDINGS: Liver 15.2 cm. No abscess.
    IMPRESSION: NO ACUTE FINDINGS. DICTATED: {OTHER} {us_date}. CC: DR. {RELATIVE_LAST}, FAX
    {phone}.""",
    """HOME HEALTH CERTIFICATION. Beneficiary {patient_reversed}, HICN {policy}, sex M, age
    {old_age}. Start of care {us_date}. Agency address {address}, telephone {paren_phone}.
    Primary diagnosis: COPD. Functional limits: walks 50 feet with walker. I certify that
    {patient_last} is homebound. {doctor}, M.D. {us_date}. Verbal order taken by {other}, RN.""",
    """Ophthalmology clinic letter {written_date}. {patient} ({uk_date}) came with her partner,
    {relative}. Visual acuity 6/9 right, 6/12 left; IOP 15 and 17. Fuchs dystrophy is stable.
    Lens implant serial number {serial}. I explained this to Mrs {patient_last} and will write
    to Dr {doctor_last} again. Mr {other}, FRCS. Appointments: {uk_phone}, {email}""",
    """dc note {us_date} mr {patient_small_last} 58m s/p cabg x3 on {short_date}. doing well,
    afebrile, hgb 9.2. ct out. f/u {doctor} 2 wks, call {phone}. son {relative} will drive him
    home to {small_address}. mrn {number}""",
    """GENETIC COUNSELING. Proband: {patient}. Referring provider: Dr. {doctor_last}. Seen on
    {long_date} with mother, {relative}. Family history: maternal aunt with Lynch syndrome,
    grandfather died at {old_age} years of age. Specimen number {accession} sent {iso_date}.
    Report at {url}. Counselor: {other}, MS, CGC, {phone}""",
    """WORKERS COMPENSATION FORM. Claim number: {account}. Claimant: {patient}. SSN: {ssn}. DOB:
    {us_date}. Employer address: {po_box}, {town_zip}. Date of injury: {long_date}. Driver
    license no. {licence}. Vehicle VIN {vin}, plate {plate}. Attending: {doctor}, DO, NPI {npi}.
    Adjuster: {other}, fax {dotted_phone}.""",
    """ECHO REPORT PATIENT NAME: {PATIENT} STUDY DATE: {dotted_date} MRN: {number} REFERRING
    PHYSICIAN: DR. {DOCTOR_LAST} SONOGRAPHER: {OTHER} LVEF 55-60%. MILD AR. E/A 0.8. READ BY:
    {RELATIVE}, MD ON {dashed_date} AT {clock}.""",
    """Hospice visit. {patient_first} {patient_last} is a {age_words} year old man with ALS. His
    wife {relative_first} is exhausted. Morphine 5 mg q4h prn. Chaplain visited {short_date}.
    Nurse {other} will call {plus_phone} tomorrow. DEA {dea} on file for Dr. {doctor_last}. Next
    visit {slashed_iso_date}.""",
    """INFECTION CONTROL LINE LIST. Case 1: {patient}, {old_age} y/o, room 12, onset {us_date}.
    Contact tracing by {other}; exposed: {relative} (neighbor), {phone}. Cultures {accession}.
    Workstation {ip} uploaded the list on {iso_time}. Norovirus GII.4 by PCR.""",
    """Dear {patient}, Your appointment with {doctor} is on {long_date} at {clock}. Please bring
    your NHS number ({nhs}). If you can't come, ring {uk_phone} or e-mail {email}. The clinic is
    at {uk_address}. Yours sincerely, {other}, Appointments Office, {ordinal_date}""",
    """DISCHARGE INSTRUCTIONS for {patient}. You were treated for pneumonia by {doctor} and
    {other}. Take amoxicillin 500 mg three times a day for 7 days. Your pacemaker (S/N {serial})
    was checked on {short_date}. Questions? Nurse line {phone}. Follow-up: {written_date}
    {clock}, {address}. Account # {account}""",
)
OTHERS = (
    """EMS PATIENT CARE REPORT Run no. {account}. Disp {us_date} {clock}, priority 2, fall. U/A at
    {address} found {old_age} YOF supine on kitchen floor, A&Ox3, GCS 15. L leg shortened and
    externally rotated, good PMS. Granddaughter {relative} on scene IDs pt as {patient}, hx AFib
    on Eliquis, Alzheimer's. VS 158/92, 88 irreg, 18, 95% RA, BGL 134. Fentanyl 50 mcg IN, pain
    8 to 4. Txp code 1 to {town_state} General, care to ED RN. PIC: {other}, NRP""",
    """Dental Surgery, {uk_address}. {written_date}. Dear Colleague, re: {patient}, d.o.b.
    {uk_date}, NHS {nhs}. I would be grateful for your opinion on this gentleman's impacted
    lower left eight. He has had three episodes of pericoronitis and, in his twenties, Ludwig's
    angina. BPE 2 1 2 / 3 2 3. He takes alendronic acid 70 mg weekly and is allergic to
    penicillin. Mr {patient_last} works shifts and is best reached on his mobile, {uk_phone}. A
    DPT will follow by secure mail from {email}. Yours faithfully, {doctor}, BDS""",
    """school health office log {us_date} - {patient_small_reversed}, gr 3, sent down from recess
    wheezing. sats 94, peak flow 180 (best is 260). gave albuterol 2 puffs w/ spacer per asthma
    plan signed by dr {doctor_small_last}, exp {short_date}. better after 15 min, pf 230. tried
    mom {relative_first} x2 at {phone}, no answer, emailed {email}. neighbor picked up {clock},
    took home to {small_address}. epi pen not needed""",
    """HEMODIALYSIS TREATMENT RECORD Pt {patient_reversed} ID {number} Tx {dashed_date} On {clock}
    Off {clock} Station 9 Machine SN {serial}. Optiflux F180, 2K/2.5Ca, Qb 400, Qd 700. Pre wt
    81.4 kg, EDW 78.5, UF goal 2.9 L. L AVF, 15 g x2. Heparin 3000 u bolus, Epogen 6000 u. Hour
    3: cramps, BP 92/50, Trendelenburg, NS 200 mL. Dr. {doctor_last} paged ({pager}), UF off.
    Post wt 79.0. Kt/V 1.42. HBsAg neg {us_date}. Next labs {short_date}. {other}, CCHT""",
    """TRANSPLANT SELECTION COMMITTEE. Meeting of {iso_date}. Candidate: {patient}, SS# {ssn}, ABO
    O, cPRA 84%, Alport syndrome, on peritoneal dialysis since {long_date}, EPTS 38%. Potential
    living donor: sister, {relative}, declined for BMI 41. Coverage: Medicare ID {policy}. Lives
    3 h away in {town_zip}. Cardiac cath: nonobstructive CAD. Decision: list as status 7 pending
    dental clearance. Coordinator to call candidate at {paren_phone}. Chair: {doctor}, MD""",
    """Rx clarification, {us_date} {clock}. Rec'd call from {other}, PharmD, store at
    {small_address}, cb {dotted_phone}. Has script for oxycodone/APAP 5/325 #60 for {patient},
    bday {us_date}, but sig is illegible and no DEA on it. Gave DEA {dea}, NPI {npi}. PDMP
    reviewed: MME 30, gabapentin 300 mg tid from pain clinic, no overlapping opioid fills.
    Corrected sig to 1 tab q6h prn, #28. Verbal ok per Dr {doctor_last}. Narcan sent too.""",
    """CONSENT FORM 1: PATIENT AGREEMENT TO INVESTIGATION OR TREATMENT. Surname, first names:
    {PATIENT_REVERSED}. Date of birth: {dotted_date}. NHS number (or other identifier): {nhs}.
    Responsible health professional: {doctor}. Proposed procedure: laparoscopic Nissen
    fundoplication. Intended benefit: relief of reflux (DeMeester score 41). Serious risks:
    bleeding, perforation 1%, dysphagia, conversion to open. Contact for sister, who is abroad:
    {plus_phone}. Signed: {other}, ST5, bleep {pager}. Date {uk_date}""",
    """SAFETY EVENT {account}. What happened: on {weekday}, {long_date}, about {clock}, the lift of
    the wheelchair van (tag {plate}, VIN {vin}) dropped roughly 8 inches with {patient} on it.
    Resident is {age_words} years old and on Xarelto 15 mg. Assessed by nurse: abrasion left
    elbow 2 x 3 cm, no Battle sign, PERRL, neuro checks q15 min. Morse Fall Scale 75. CT head in
    ED negative. Who was told: daughter {relative}, medical director Dr. {doctor_last}. Harm
    level: minor. Van out of service.""",
    """Upper GI MDT minutes, {ordinal_date}. Chair: {doctor}. Apologies: Dr {other_last}. Item 4.
    {patient}, hospital no {number}, NHS No. {nhs}. 71M, Siewert II adenocarcinoma on Barrett's,
    histology {accession} reported {dotted_date}. EUS T3 N1, PET-CT no mets, WHO PS 1, HER2
    negative. CPEX: AT 11.2 mL/kg/min. Outcome: FLOT x4, restage, then Ivor Lewis
    oesophagectomy. CNS to inform pt; clinic {uk_date}. Breach date noted.""",
    """Appeals and Grievances, {po_box}, {town_zip}. Re: first level appeal of denial dated
    {us_date}. Member: {patient}. Subscriber ID: {policy}. Reference no. {account}. To the
    Medical Director: I am writing to ask that you overturn your denial of ustekinumab 90 mg
    every 8 weeks. {patient_first} has fistulizing Crohn's disease, Harvey-Bradshaw Index 11,
    CRP 48 mg/L, and has failed azathioprine, infliximab and adalimumab. Step therapy has been
    met. I am available for peer-to-peer review at {paren_phone}. Sincerely, {doctor}, MD""",
    """From: {email} Sent: {weekday}, {long_date} {clock} Subject: can you see this one? Hi
    {doctor_first}, would you have a slot for {patient} ({slashed_iso_date})? 38F, Raynaud's and
    dry eyes x 2 yrs, Schirmer 3 mm, ANA 1:640 speckled, SSA pos, RF 88, C3 low-normal. On
    Plaquenil 200 bid from her PCP. Notes and labs are at {url}. Easiest to schedule through her
    partner {relative_first}, {phone}. No rush but before the summer would be great. Thanks a
    lot, {other_first}""",
    """CRITICAL VALUE NOTIFICATION SAMPLE {accession} {PATIENT} {number} LOC 5E COLL
    {slashed_iso_date} {clock}. WBC 84.2 *C*, HGB 7.1, PLT 9 *C*, FIBRINOGEN 88 *C*. BLASTS 76%
    WITH AUER RODS, WRIGHT-GIEMSA, PATH REVIEW PENDING. K 6.8, NOT HEMOLYZED. Called to
    {doctor_last}, read back OK, x{pager}. First attempt unanswered. Filed {iso_time} from
    {ip} by {OTHER}, MLS(ASCP)""",
    """SPEECH-LANGUAGE PATHOLOGY, clinical swallow evaluation. Ms. {patient_last} is a {old_age} yo
    RH female from {town_state} s/p L MCA stroke {short_date}, NIHSS 14, with Broca's aphasia and
    dysphagia. Failed Yale 3 oz water test. Delayed cough with thin by straw, none with nectar.
    Rec: IDDSI 5 and mildly thick liquids, Mendelsohn maneuver, MBSS. WAB-R AQ 42.6. Goals
    agreed with son, {relative}. Re-eval by {written_date}. {other}, MS, CCC-SLP, lic
    {licence}""",
    """Reception health screen, HMP. {PATIENT_LAST}, prison number {number}, in from court
    {uk_date} {clock}. NFA, previously {town_state}. Heroin 0.5 g/day smoked, last use
    yesterday, COWS 11, AUDIT 22, UDS pos opiates/benzos. Methadone 40 ml confirmed with
    community team, {uk_phone}. Hep C PCR pos, Child-Pugh A. Old Boxer's fracture R hand. Denies
    TSH, ACCT not opened. NOK: {relative} (mum). GP: {uk_address}. Second screen {short_date}.
    Nurse {other}, Band 6""",
    """Discharge Summary - Hospital Medicine. {patient_reversed} (MRN {number}). Admit: {us_date}.
    Disch: {us_date}. Disposition: SNF. PCP of record: {doctor}. Brief course: 74F with T2DM, HFpEF
    and a left Charcot foot who came in with urosepsis (E. coli, lactate 3.1, qSOFA 2). Ceftriaxone
    2 g daily, stepped down to cefpodoxime 200 mg q12h with last dose {short_date}. AKI resolved, Cr
    2.4 to 1.1. Foley out, voiding. Metformin resumed. Health care agent is her sister {relative},
    {paren_phone}, who is aware of the plan. More than 30 minutes spent on discharge.""",
    """{us_date} {clock} Medicine Team B, HD 4. 61M etoh cirrhosis, MELD-Na 22, here w HE. More
    awake this am, A&Ox3, asterixis gone, CIWA 2. Lactulose 30 ml tid, 4 BMs. Dx para {short_date}:
    3.2 L off, SAAG 1.6, PMN 90, no SBP. Na 128, plt 61. GI ({other_last}) wants EGD, last one
    {us_date} had gr 2 varices. Updated brother {relative_first} at {phone}, he gets in {weekday}.
    Mr {patient_last} ok w/ that. Xcover: pls page {pager} if Na <125 or any bleeding.""",
    """INFECTIOUS DISEASES INITIAL CONSULTATION. Consult requested by {doctor}, orthopedics, for
    prosthetic joint infection. Chart {number}. {patient} is a 69-year-old male farmer from outside
    {town_state} who underwent left TKA on {iso_date} and did well until the knee swelled while
    haying. Arthrocentesis {iso_date}: WBC 48,000, 93% PMN, MSSA. PMH: Lyme disease, Gilbert's
    syndrome. Amoxicillin caused rash; has tolerated cefazolin. Recommend DAIR, cefazolin 2 g q8h
    with rifampin 300 mg bid, PICC, TTE for modified Duke criteria. OPAT labs weekly, to our office
    by fax, {dotted_phone}. Appreciate the chance to help with Mr. {patient_last}'s care.""",
    """HISTORY AND PHYSICAL. NAME: {PATIENT_REVERSED} ACCT NO: {account} DATE OF ADMISSION:
    {dashed_date}. CHIEF COMPLAINT: BELLY PAIN. HPI: THIS 33-YEAR-OLD WELDER HAS HAD 18 HOURS OF
    PERIUMBILICAL PAIN MIGRATING TO THE RLQ, WITH EMESIS X2. PMH: OSGOOD-SCHLATTER AS A TEEN. MEDS:
    NONE. EXAM: T 38.1, MCBURNEY POINT TENDERNESS, ROVSING POSITIVE, PSOAS NEGATIVE. WBC 15.8.
    ALVARADO 8. CT {accession}: 11 MM APPENDIX, NO PERFORATION. PLAN: ZOSYN 3.375 G, LAPAROSCOPIC
    APPENDECTOMY. RISKS REVIEWED WITH HIM AND WIFE {RELATIVE}. D: {us_date} {DOCTOR}, MD.
    Authenticated {iso_time}, terminal {ip}""",
    """Trauma theatre 2, operation note. {patient}, hosp. no. {number}, born {uk_date}. Date of
    surgery {written_date}. Consultant in charge: {doctor}. Operating: {other}, ST6. Spinal + fascia
    iliaca block. Dx: displaced intracapsular # L NOF, Garden IV. Op: cemented Exeter
    hemiarthroplasty, anterolateral (Hardinge) approach, lateral position. Head 46 mm, stem size 1,
    44 offset, implant serial {serial}. Charnley retractor, pulse lavage, no cement reaction, 2 g
    TXA given. Stable at 90 flexion. Vicryl, clips. EBL 250. Post-op: FWB, check XR, dalteparin 5000
    units for 28/7, bone health bloods. Clips out {short_date} by DN.""",
    """MRI BRAIN WITHOUT AND WITH GADOLINIUM | {PATIENT} | {number} | Performed {slashed_iso_date}
    {clock} | Acc {accession} | Req: {DOCTOR_REVERSED} INDICATION: 52F, new-onset focal seizure, h/o
    migraine. TECHNIQUE: 3T, 7 mL Gadavist. FINDINGS: Since the outside study dated {long_date}, the
    extra-axial mass along the left sphenoid wing has grown from 14 to 21 mm, with a dural tail.
    Meckel's cave and Dorello's canal are spared. Fazekas 1. Incidental Chiari I, tonsils 6 mm. Flow
    voids of the circle of Willis are preserved. IMPRESSION: Enlarging meningioma. Non-urgent
    finding communicated to {other_last} via secure chat {iso_time}.""",
    """HISTOPATHOLOGY Lab ref {accession} Surname {PATIENT_LAST} Forename {patient_first} NHS No
    {nhs} Taken {uk_date} Received {uk_date} Authorised {dotted_date} Requester: {doctor},
    Dermatology. CLINICAL DETAILS: changing mole, L scapula, ?MM. MACROSCOPY: Skin ellipse 32 x 14 x
    9 mm bearing an irregular brown lesion 11 x 8 mm. MICROSCOPY: Superficial spreading melanoma,
    Breslow 1.1 mm, Clark level III, mitoses 1/mm2, no ulceration, Melan-A and SOX10 positive. Clear
    by 2.4 mm peripherally. pT2a (TNM 8). For skin MDT. Consultant Histopathologist {other}""",
    """{us_date} nights. bed 14-2 {patient_small_first} {patient_small_last} pod 2 hartmanns. a+o,
    pca dilaudid 0.2/10/1.2, pain 3-4. vss, tmax 37.9, using is to 1250. ngt lis 350 out. stoma
    dusky at 2am, dr {doctor_small_last} called on {pager}, came to see, ok for now, recheck q2. jp
    60 serosang. braden 16, heels floated. son phones every nite from overseas, wants to be called w
    any change, {plus_phone}. pt from {town_state}, no one local. ostomy nurse consult put in for
    {weekday}. lost hearing aid L, report filed {account}""",
    """Utilization Management, {po_box}, {town_zip}. {long_date}. Member: {patient}. Member ID:
    {policy}. Authorization number: {account}. Requesting provider: {doctor_reversed}. Dear Member:
    We have approved 12 visits of outpatient physical therapy (CPT 97110, 97140) for lumbar
    radiculopathy, ICD-10 M54.16, through {us_date}. The request for MRI lumbar spine without
    contrast could not be approved because six weeks of conservative treatment (for example NSAIDs,
    McKenzie exercises) is not documented. You or your provider may ask for reconsideration at
    {paren_phone}, TTY 711.""",
    """ED PROVIDER NOTE. Date of service {us_date}, time seen {clock}, bed 11. HPI: {patient_first}
    {patient_last} is a 27 y.o. female, restrained driver, T-boned on the passenger side at about 35
    mph, airbags deployed, self-extricated. Police on scene, tag {plate}, insurance claim already
    opened, {account}. Neck soreness, no LOC. FAST neg, C-collar cleared by NEXUS and Canadian
    C-spine. Snuffbox tender on R, films neg, thumb spica. hCG neg. Toradol 15 mg IM. MDM: moderate.
    Ride home with fiance {relative}, {phone}. Ortho hand, Dr. {doctor_last}, within 10 days.
    Imaging {accession}.""",
    """Our ref: {number}/RHEUM. Clinic {ordinal_date}. Typed {written_date}. Diagnoses: seropositive
    rheumatoid arthritis; secondary Sjogren's; Baker's cyst L knee. Dear {doctor_first}, I caught up
    with {patient} today. The hands are no better on methotrexate 20 mg weekly: DAS28 5.3, CRP 31,
    Schober's 15 to 20 cm, and Finkelstein's was positive on the right. She meets NICE criteria for
    a biologic, so Quantiferon and hepatitis serology were sent and I hope to start adalimumab.
    Deliveries will go to {uk_address}. She has the advice line on {uk_phone}. Best wishes, {other},
    Consultant Rheumatologist. (dob {uk_date})""",
    """{written_date} Gastroenterology Associates, attn new patient scheduling, fax {dotted_phone}.
    RE: {patient} DOB: {us_date} Dear {other_first}: I would value your opinion on a 45-year-old
    teacher with Hashimoto's thyroiditis and two years of bloating. Hgb 10.4, ferritin 6, tTG-IgA 88
    U/mL, total IgA normal, FIT negative. No NSAIDs. She takes Synthroid 112 mcg and Slow Fe. Please
    consider EGD with duodenal biopsies for Marsh staging; I have not started a gluten-free diet.
    Prior records are posted at {url}. She'd like letters sent to {po_box}. Many thanks, {doctor},
    MD NPI {npi}""",
    """ONC TRIAGE LINE {weekday} {short_date} {clock}. Call from {relative} re: spouse {patient},
    chart #{number}, rectal ca, FOLFOX C5, pump d/c'd {us_date}. T 101.2 x 1 hr, shaking chills, no
    cough, stool x2, port site ok per caller. No Tylenol yet. Last ANC 0.9 on {us_date}. Advised ED
    now, say "chemo + fever" at the desk, no rectal temps. MASCC to be done there. Notified on-call
    onc, beeper {pager}. Callback to {phone} at {clock}: they are en route. Note cc'd to Dr.
    {doctor_last}, no further action.""",
    """Staff Message. Pt: {patient_reversed}. From: {other_reversed}, LPN. Rcvd: {us_date} {clock}.
    Hi, pt needs Adderall XR 20 mg, #30. Old pharmacy is out so she wants it at the one by her new
    apt, {address}. They say they don't have you in their system and need the DEA, I gave {dea},
    hope ok? PDMP clean, UDS {us_date} approp, BP 124/78, ASRS updated. She never got the Vanderbilt
    forms for her son either, send to {email}. -- Done, and pls make f/u before {short_date}. thx,
    Dr {doctor_last}""",
    """MSW Psychosocial / Discharge Planning {iso_date}. Mrs. {patient_last} is a {old_age} y.o.
    widow, retired postal clerk, in a one-story house at {small_address}, 2 STE. Daughter {relative}
    is HCPOA and does the shopping. PLOF: rollator, Katz 4/6; now mod A x1 after R pelvic ring
    fracture. GDS-15 6, SLUMS 19. Medicare A/B {policy}. Long-term Medicaid application begun; per
    county, assets include a paid-off sedan (VIN {vin}) and a burial policy. SS# verified from card,
    {ssn}. SNF list given, three referrals sent. PASRR done. {other}, LCSW""",
    """IRF OT WEEKLY SUMMARY, week ending {us_date}. Pt: {patient}. Onset of R MCA CVA: {us_date}.
    Adm to rehab {short_date}. L neglect improving, Albert's test 3 missed, Bells test 9 omissions;
    Fugl-Meyer UE 31/66, Modified Ashworth 1+ elbow flexors, Berg 38/56. GG scores: UB dressing 4,
    LB dressing 3, toileting 3. {patient_first} would like to cook for the grandkids again; made
    grilled cheese with min A and cues. Home eval scheduled at {address}; husband {relative_first}
    measured doorways at 29 in. Baclofen 5 mg tid. ELOS 9 days. Signed {iso_time}, OTR/L, state lic.
    {licence}""",
    """CMHT care plan review held {uk_date}. Present: {patient}, care coordinator {other}, mum. NHS
    number {nhs}. Current address {uk_address} (supported tenancy). Diagnosis F25.0 schizoaffective
    disorder; Asperger's raised in childhood, not pursued. Clozapine 350 mg nocte, level 0.42 mg/L,
    FBC green, hyoscine for drooling. HoNOS 14. Still hears the neighbours commenting but is less
    bothered by it, no TSH, no command hallucinations. Nearest relative: {relative}, mobile
    {uk_phone}. Relapse signature reviewed, copy given. Next CPA {ordinal_date}, same venue.
    Dictated and not signed to avoid delay.""",
    """DELIVERY NOTE. 29yo G3P1011 at 39w4d, EDD {us_date}, GBS neg, Rh pos, presented {us_date} in
    active labor, 6/90/-1. Epidural (Dr. {other_last}). AROM clear, Pitocin to 8 mU. NSVD of
    liveborn male {us_date} {clock}, LOA, 40 sec shoulder dystocia relieved with McRoberts and
    suprapubic pressure, nuchal x1 reduced. Apgars 8/9, 3540 g, no Erb's palsy. Placenta Schultze,
    intact, 3VC. 2nd degree repaired 3-0 Vicryl. QBL 280 mL. Mom {patient} and baby both banded,
    {number}. FOB cut cord. Peds aware, {pager}. {doctor}, CNM""",
    """Children's outpatients, {dotted_date}. Re {patient}, DOB {uk_date}, hospital number {number}.
    To the parents. It was a pleasure to see you all again eight weeks after Kawasaki disease.
    {patient_first} has been well, the peeling has stopped and today's echo shows both coronaries
    normal (LAD z-score +0.8). Weight 14.2 kg, 50th centile. Heart sounds normal apart from a
    Still's murmur, which is innocent. Please stop the aspirin. Live vaccines should wait 11 months
    after immunoglobulin, so MMR falls due after {ordinal_date}. Ring our nurses on {uk_phone} with
    any worries. {doctor}, Consultant Paediatrician""",
    """Heme/Onc VIDEO VISIT {slashed_iso_date}. Location of patient: home, {town_state}; joined
    {url} from {ip}. ONC HX: L mastectomy and SLNB ({other_last}): IDC 2.6 cm, pT2 N1a, ER 95, PR
    60, HER2 0, Oncotype RS 24. ddAC x4, Taxol x12 finished {long_date}, then PMRT 50 Gy. INTERVAL:
    Hot flashes, aching hands on letrozole. Loose stools since Verzenio 150 mg bid, 3/day, Imodium
    helps. ECOG 1. CA 27.29 22. A/P: Reduce to 100 mg bid, Zometa q6mo, DXA. {patient_first} voiced
    understanding. Port S/N {serial} to be removed. Time 27 min. {doctor}, MD""",
    """SN visit {dashed_date}, time in {clock}, time out {clock}. Client {patient_last}, {age_words}
    yrs, lives w/ dtr {relative_first} at {small_address}, side door, small dog. BP 112/60 sitting
    98/54 standing, HR 68 irreg, wt 121 lb (up 3). Sacral stage 3 4.1 x 2.8 x 0.6, 20% slough,
    Dakin's 1/4 strength then Aquacel Ag; NPWT pump {serial} d/c'd and ready for pickup. LLE Unna
    boot changed. MAHC-10 6. Lasix 20 to 40 x3 days, VO from Dr {doctor_last} office {phone}.
    Teaching on low Na. Next SN visit {short_date}. Recert due.""",
    """Hospice IDG, benefit period 2. Pt: {patient_reversed}, {old_age} y/o, Lewy body dementia,
    FAST 7c, PPS 30%, MAC 21 cm (was 23). SOC {us_date}. Sleeping 20 h/day, Cheyne-Stokes noted
    overnight, intake bites and sips. Roxanol 5 mg q4h prn used x6, Ativan gel x2, no Haldol
    (parkinsonism). PCG: son {relative}, tearful, Zarit 41; aide 5x/wk. Out of area grandson
    {plus_phone} wants a call at time of death, any hour. Turned {age_words} last year per chart,
    discrepancy with facesheet noted. CTI due {short_date}. Refill script {doctor}, DEA {dea}""",
    """Anticoag Clinic, PharmD visit {us_date}. {patient}, goal INR 2.5-3.5 (St. Jude mitral, AF,
    Virchow triad counseling given). Today POC 4.1, meter {serial}, venous 3.9. Last INR 2.8. TTR
    58%, HAS-BLED 3. Urgent care gave Bactrim DS x5 d for UTI, two days left; no bleeding, no greens
    change. Hold tonight, then Coumadin 2.5 mg MWF, 5 mg other days until off Bactrim. Recheck
    {short_date}. Calendar sent to {email}. Managed under CPA with {doctor}, NPI {npi}. Charted
    remotely from {ip}. {other}, PharmD, BCACP""",
    """DRIVER MEDICAL EVALUATION, physician section. Applicant: {patient}. DL/ID no. {licence}. SSN:
    {ssn}. Residence: {town_zip}. Date of birth: {us_date}. 1. Condition: focal epilepsy with one
    focal to bilateral tonic-clonic seizure, date of last episode {long_date}; postictal Todd's
    paresis, resolved. 2. Medication: Keppra 1000 mg bid, level 24 mcg/mL. 3. MoCA 27/30, Trails B
    82 s, Snellen 20/25 OU, fields full. 4. Adaptive equipment: left-foot accelerator, installed in
    VIN {vin}, plate {plate}. 5. Opinion: may drive, review in 12 months. Signature on file,
    {doctor}""",
    """DISCHARGE SUMMARY, Vascular Surgery. Pt name {patient}, med rec {number}. In: {dashed_date}.
    Out: {dashed_date}. Staff surgeon {doctor}. Principal diagnosis: critical limb ischemia, right,
    Rutherford 5. Secondary: DM2 (A1c 8.9), CKD 3b, Buerger's excluded. Procedure: R fem-to-BK-pop
    bypass with reversed GSV. Post-op ABI 0.88 from 0.31. Wagner 2 ulcer at the hallux is clean.
    Meds at discharge: ASA 81, rivaroxaban 2.5 mg BID, atorvastatin 80, Lantus 18 units qHS. Staples
    stay in until {short_date}. He was discharged to the care of his stepson, {relative}, who lives
    with him. Wound concerns: vascular clinic {dotted_phone}, press 2.""",
    """GENERAL MEDICINE PROGRESS NOTE. Seen and examined {us_date} at {clock} with intern {other}.
    Overnight: one run of NSVT, 6 beats, asymptomatic; Mg 1.6 repleted. Says the breathing is "about
    80 percent". Tm 37.4, 118/64, 84, 20, 93% on 3 L. JVP 9, bibasilar crackles, trace edema. BNP
    1140 (from 2210), Cr 1.4, K 3.7. Imp: 1) acute on chronic HFrEF, net -1.8 L, continue IV Bumex 2
    mg BID, GDMT as tolerated. 2) COPD, GOLD 3, prednisone day 4/5. 3) Goals: {relative} (the eldest
    daughter and proxy) flew in on {short_date}; full code for now. Dr. {doctor_last} to take over
    the service {weekday}. Team phone {pager}.""",
    """NEPHROLOGY CONSULTATION REPORT Patient: {PATIENT_REVERSED} Billing no.: {account} Consulted
    by: Dr. {DOCTOR_LAST} Date of consultation: {long_date} Reason: rising creatinine. Thank you for
    asking us to see this 66-year-old man with multiple myeloma (ISS II, kappa) whose creatinine
    rose from 1.3 on {us_date} to 3.8 today after IV contrast. No NSAIDs. Home lisinopril 20 mg was
    held. UA: SG 1.010, 2+ protein, Bence Jones positive, muddy brown casts. FENa 2.8%. Kidneys 11.4
    and 11.1 cm on ultrasound. Impression: KDIGO stage 3 AKI, ATN versus cast nephropathy, no
    Fanconi picture. Suggest: LR 100 mL/h, free light chains, avoid gadolinium, no urgent RRT. Will
    follow with you. {other}, MD, Renal fellow, beeper {pager}.""",
    """H&P (dictated) This is an admission history and physical on {patient}, date of birth
    {long_date}, dictated by {doctor} on {us_date}. The patient is a very pleasant 58-year-old
    long-haul truck driver from {town_state}, who presented with melena for two days. He takes
    Goody's powders daily for back pain. Past history: Zenker's diverticulum repair, hypertension.
    Social: quit smoking 10 years ago, married to {relative_first}. Family: father had colon cancer
    at 61. Exam: pale, pulse 112, BP 98/60, abdomen soft, rectal heme positive. Hemoglobin 6.9, BUN
    48, Glasgow-Blatchford 13. Two units PRBC, pantoprazole 80 mg then 8 mg/h, EGD in the morning by
    GI. Mallory-Weiss and Dieulafoy are also considered. Copies to the family physician, fax
    {paren_phone}.""",
    """OPERATIVE REPORT Name: {patient_reversed} Medical record no: {number} Surgery date:
    {iso_date} Surgeon: {doctor} First assistant: none. Anesthesia: general, LMA. Preop dx: cervical
    spondylotic myelopathy, mJOA 12, Hoffmann's positive. Procedure: C5-6 and C6-7 ACDF, allograft,
    anterior plate. Description: After time-out the patient was positioned supine with Gardner-Wells
    tongs at 10 lb. A Smith-Robinson approach was taken on the left. Caspar pins were placed,
    discectomy done, PLL opened. Stimulator battery encountered at the left chest (old vagus device,
    ser. no. {serial}) was not disturbed. MEPs stable. EBL 40 mL. Counts correct x2. The family,
    represented by {relative}, was informed in the waiting room at {clock}. Transcribed {iso_date},
    job {account}.""",
    """ULTRASOUND RIGHT UPPER QUADRANT, {us_date} {clock}. {PATIENT} / MRN {number} / order
    {accession}. Reason for exam: 41F, RUQ pain after meals, Murphy sign? Prior: CT of {us_date}.
    Technologist: {other_first}. Findings: Gallbladder holds several mobile stones to 9 mm, wall 2
    mm, no pericholecystic fluid, sonographic Murphy negative. CBD 4 mm. Liver 16.1 cm, mildly
    echogenic; Riedel lobe. Main portal vein hepatopetal. R kidney 10.8 cm, no hydro. Conclusion:
    Cholelithiasis without cholecystitis. Hepatic steatosis. Prelim read by resident, I have
    personally reviewed the images and agree. Final, {doctor}, {iso_time}.""",
    """SURGICAL PATHOLOGY FINAL REPORT. Case {accession}. Patient {patient_reversed}. DOB {us_date}.
    Procedure date {us_date}. Physician(s): {doctor}. A. PROSTATE, RADICAL PROSTATECTOMY: Acinar
    adenocarcinoma, Gleason score 4+3=7 (Grade Group 3), involving 18% of gland. Extraprostatic
    extension focal, right posterolateral. Margins negative. Seminal vesicles free. B. LYMPH NODES,
    RIGHT OBTURATOR: 0/6. pT3a pN0. Perineural invasion present; PIN4 cocktail supports. Gross: 52
    g, 4.6 x 4.2 x 3.8 cm, inked, serially sectioned A1-A22. Intradepartmental consultation: Dr.
    {relative_last} concurs. Slides from the biopsy, {accession}, were reviewed for comparison.
    Verified electronically {slashed_iso_date}.""",
    """{clock} RN note. Rec'd pt {patient_first} {patient_last} from PACU via stretcher s/p lap
    chole, drowsy but arousable, Aldrete 9. VS q15 x4 then q30, 132/74 80 16 97% RA. 4 port sites w/
    Dermabond CDI. Zofran 4 mg IV given for nausea w/ relief. IS teaching done, 1000 mL. Voided 300.
    Belongings incl. glasses, cell phone, upper denture given to pt's brother, {phone}. Allergy band
    latex. Has implanted loop recorder, card says {serial}, MD aware. Paged {doctor_last} at {pager}
    re: pain 8/10, new order oxycodone 5 mg. Report given at change of shift {us_date}.""",
    """ed note -- {us_date} -- pt is {patient_small_first} {patient_small_last}, 19 m, college
    student, bib roommate for 1 d ha, fever, photophobia. no rash. no travel. mmr + menacwy utd per
    mom by phone ({phone}). t 39.2 hr 118 bp 110/60. neck stiff, kernig +, brudzinski +, fundi nl.
    ct head neg. lp: op 31, wbc 1400 90% pmn, glu 22, prot 210, gram stain pending, tube 4 to lab
    {accession}. ceftriaxone 2 g, vanc 25 mg/kg, dex 10 mg in before ct. d/w {doctor} icu, accepts.
    health dept called. lives in dorm, home is {small_address}. student ins {policy}""",
    """Department of Respiratory Medicine. Seen on the {ordinal_date}. Date typed: {uk_date}. NHS:
    {nhs}. Dr {doctor_last}, The Surgery, {uk_address}. Dear Doctor, {patient}. Diagnosis:
    idiopathic pulmonary fibrosis, GAP stage II. Current medication: nintedanib 150 mg bd,
    omeprazole 20 mg od, lansoprazole stopped. I was pleased to see this retired joiner with his
    wife. He is MRC dyspnoea 3. FVC is 2.31 L (68%), TLCO 44%. There is Velcro crackling to the mid
    zones and he is clubbed, with no features of Sjögren's or scleroderma. His 6MWT was 310 m, nadir
    86%. I have asked the oxygen nurses to assess him at home, and he can reach them on {uk_phone}.
    Review in four months with lung function. With best wishes, {other}, Locum Consultant.""",
    """URGENT SUSPECTED CANCER REFERRAL (2WW) - LOWER GI. Date of decision to refer {dotted_date}.
    Patient details: {patient}, NHS {nhs} Tel (home) {uk_phone} Tel (mob) {uk_phone} Email {email}
    Interpreter required: no. Referring GP: {doctor}. Reason: change in bowel habit six weeks, FIT
    86, Hb 108, ferritin 9. WHO performance status 0. PR: no mass. Known Peutz-Jeghers: no.
    Anticoagulants: apixaban 5 mg bd. eGFR 71. Patient is aware this is to rule out cancer and is
    free to attend except {short_date}.""",
    """PHONE NOTE. {short_date}, {clock}. Spoke with {patient_first}'s mother. Baby 5 wks,
    projectile spit-ups after every feed since {weekday}, wet diapers down to 3. On Similac, 3 oz
    q3h. No fever, no bile. Birth wt 3.4 kg. Told her pyloric stenosis has to be ruled out and to go
    to Children's in {town_state} tonight for an ultrasound. I called ahead to the ED charge nurse
    at {paren_phone}. Mom = {relative}, cell is {dotted_phone}, she repeated the plan back. Chart
    {number}. Will check in w/ her tomorrow. - {doctor_first}, PNP""",
    """MyHealth secure message. Subject: Test results. {patient} wrote on {long_date}: Hello, I saw
    that my TSH came back 7.9 and now I am worried about the Levothyroxine. I take 88 mcg in the
    morning with my coffee. Also could you mail the lab slip to {address} instead of the old place.
    You can leave a voicemail, {phone}. Answered {us_date} by {other}, CMA, on behalf of Dr.
    {doctor_last}: Good morning! Please take it on an empty stomach with water only, and repeat TSH
    and free T4 in 6 weeks. The Hashimoto's handout is at {url}. Do not reply to this message if it
    is an emergency.""",
    """SOCIAL WORK ASSESSMENT. Referral from {doctor}, received {us_date}. Client is a
    {old_age}-year-old veteran admitted after a syncopal episode. He has been residing at {address}
    since the death of his wife. Informal supports: granddaughter {relative} (works nights, best
    time after 2, {phone}); church. Formal: Meals on Wheels M-F. Income: VA pension and Social
    Security ({ssn}). Insurance: Humana, member no. {policy}. Cognition: SLUMS 23, GDS 3. ADLs
    independent, IADLs need help with finances and transport. He declined placement. Plan: LIFELINE,
    home safety eval, caregiver respite. Will remain available. {other}, MSW.""",
    """OUTPATIENT PT DAILY NOTE. {patient_reversed}. DOS {us_date}. Visit 7 of 12, auth # {account}
    good thru {us_date}. Dx: s/p R ACL reconstruction (BTB), surgeon {doctor}. S: "Stairs are
    easier." Pain 2/10. O: ROM 0-124, quad lag none, Lachman 1+ firm end feel, Thomas test neg,
    mid-patella girth 1.5 cm > L. There ex x 30: SLR 3x10 w/ 3 lb, mini squats to 60, BOSU balance,
    Russian stim 10/50 x 10 min. KOOS 62, LEFS 48/80. A: progressing per Noyes protocol, brace
    unlocked. P: cont 2x/wk. Wants to return to softball. Cancelled {weekday}. {other}, PTA, lic.
    no. {licence}""",
    """Community Occupational Therapy, home visit {written_date}. Client: {patient}, aged {old_age}.
    Address visited: {uk_address}, key safe to left of door. Also present: neighbour and informal
    carer {relative}. Reason: two falls in the bathroom, GP request. Transfers: bed 46 cm,
    independent; toilet 38 cm, effortful; bath not used since {short_date}. Barthel 15/20, TUG 28 s,
    clock drawing 3/5. Heberden's nodes both hands, cannot turn taps. Equipment ordered: Mowbray
    frame, bath board, perching stool, second banister rail. She would like to carry on cooking. The
    neighbour will be in for the delivery, tel. {uk_phone}. Follow-up call in 2/52. {other}, OT,
    Intermediate Care.""",
    """PSYCHIATRY C-L FOLLOW UP. Identifying data: {patient_last}, {patient_first}, 44 y.o. M, MRN
    {number}, hospital day 6. Interval: No PRN Haldol since {us_date}. Oriented to self, place,
    "{weekday}". CAM negative today for the first time. Denies AVH/SI/HI. Collateral: partner
    {relative}, {phone}, confirms a fifth of vodka daily, last drink {short_date}, prior DTs x1, no
    firearms. MSE: disheveled, linear, affect constricted. QTc 462. Dx: alcohol withdrawal delirium,
    resolving; r/o Wernicke's (thiamine 500 mg IV TID day 4 of 5), no Korsakoff confabulation. Rec:
    taper Ativan to 0.5 mg BID, start naltrexone 50 mg if LFTs < 3x. Capacity present for SNF
    decision. Discussed with primary team. Attending {doctor} agrees.""",
    """PRENATAL VISIT 32w1d. {patient}, 24 y.o. G2P1001, EDC {us_date} by LMP {us_date} c/w 9 wk
    scan. Feels well, +FM, no VB/LOF/ctx. Wt 71.2 kg (+10.4), BP 112/68, FH 31 cm, FHT 144, vertex
    by Leopold. 1 h GTT 128. Hgb 10.9, start Fe. Rh neg, RhoGAM given {us_date}, lot in chart. Tdap
    today. Braxton Hicks reviewed. Partner {relative_first} will be at the birth, also a doula.
    Desires BTL, Medicaid form signed, ID {policy}. Moving next month, will still deliver here; new
    mailing address {po_box}, {town_zip}. NST weekly from 36. RTC 2 wk w/ Dr. {doctor_last}.""",
    """NICU DISCHARGE. Infant {patient_last}, twin B, born {us_date} {clock} at 33 2/7 wk to
    {relative}, a 31-year-old G1, GBS unknown, betamethasone x2. BW 1890 g (AGA, Fenton 42nd), Apgar
    6 and 8, Ballard 33 wk. Resp: CPAP 36 h, Curosurf none, caffeine off {short_date}. A/B free x 7
    d. GI: full PO Neosure 22 since {short_date}. Heme: bili peak 11.3, photo 2 d. HUS: no IVH
    (Papile). ROP exam: zone III. CCHD pass, hearing pass, car seat pass. Hep B given. Newborn
    screen {accession}. D/c wt 2245 g, HC 31.5 cm. Pediatrician: {doctor}, first visit arranged,
    office {phone}. Parents roomed in, CPR taught. WIC form mailed to {town_zip}.""",
    """MEDICAL ONCOLOGY RETURN VISIT, {long_date}. {PATIENT} (MR#{number}). Dx: Stage IIIB NSCLC,
    adenocarcinoma, KRAS G12C, PD-L1 60%, TP53 mut. Rx: carboplatin/pemetrexed with RT to 60 Gy,
    completed {long_date}; durvalumab 1500 mg q4w, here for C6. Interval: dry cough, no pneumonitis
    symptoms. Walks the dog a mile. ROS else negative. PS 1. SpO2 96%. TSH 3.1, AST 28. CT
    {accession}: partial response, RECIST -38%, no nodes. No Horner's. Plan: proceed with C6, Grade
    1 rash, hydrocortisone 1%. Dr. {other_last} (rad onc) copied. Trial nurse will upload scans to
    {url}. RTC 4 weeks. Signed {doctor}, NPI {npi}.""",
    """HOME CARE COMMUNICATION NOTE. To: Dr. {doctor_last} office, fx {phone}. From: {other}, LPN.
    Patient {patient_reversed}. FYI: FSBS 342 and 361 this AM fasting, on Basaglar 24 u. States she
    ran out of Jardiance on {short_date}. Non-healing L great toe 0.8 x 0.6 cm, Santyl daily, pedal
    pulses by Doppler. No Kussmaul breathing, ketones neg. Pt is {age_words} y/o and legally blind,
    insulin is drawn up by her niece. Tele-monitor unit {serial} not transmitting, gateway {ip},
    vendor notified. Please advise on sliding scale and sign PRN visit x2.""",
    """HOSPICE BEREAVEMENT / DEATH VISIT. Called to home at {clock} by {relative}, son. {patient},
    {age_words}, found without pulse or respirations, pupils fixed; pronounced {us_date}. Terminal
    dx: pancreatic ca w/ Trousseau syndrome, PPS 10 on last visit. Wife, daughter and pastor at
    bedside; calm. Hydromorphone 1 mg/mL 22 mL and lorazepam 14 tabs wasted w/ witness. Notified:
    Dr. {doctor_last} (will sign DC), coroner not required, DME pick up of concentrator {serial},
    funeral home. Family van blocked drive, plate {plate}, moved. Son lives abroad, reach at
    {plus_phone} until the service. 13 mo. f/u by bereavement, mail to {small_address}.""",
    """PHARMACY PRIOR AUTHORIZATION REQUEST. Patient: {patient}. Cardholder ID {policy}. DOB
    {us_date}. Drug: Ozempic 1 mg/dose, 3 mL per 28 days. Prescriber: {doctor} NPI {npi} DEA {dea}
    Return fax {dotted_phone}. Dx: E11.65, A1c 9.4% on metformin ER 2000 mg and glipizide 10 mg; BMI
    37.2; no MEN 2 or medullary thyroid ca; no gastroparesis. Tried/failed: Januvia (no response),
    Actos (edema). Framingham 10-yr risk 22%. Expedited? no. Form completed by {other} and e-faxed
    from {ip}.""",
    """INDEPENDENT MEDICAL EXAMINATION. Examinee: {patient}. Date of loss: {long_date}. Date of
    exam: {written_date}. Identity confirmed by driver's license {licence}; Social Security number
    {ssn}. History as given: the examinee was the belted driver of a pickup, VIN {vin}, struck from
    behind at a light. He noted neck pain that evening. EMS records and the police report were
    available, as were notes of his chiropractor, {other}. Examination: Spurling negative, Tinel
    positive at both wrists, Waddell 3/5, Jamar grip 32/30/31 kg right. NDI 44%. Opinion: cervical
    strain, WAD II, MMI reached; carpal tunnel syndrome is unrelated. AMA Guides 6th ed., 1% WPI.
    Respectfully, {doctor}, MD, FAAOS. Invoice queries: {email}.""",
    """Inpatient Discharge Summary. Name {patient_reversed}. Hospital record {number}. Birthdate
    {us_date}. Admitted {us_date}, discharged {us_date} home with services. Physician at discharge:
    {doctor}. Hospital course by problem. # Inferior STEMI: Killip II on arrival, DES x2 to the
    RCA, peak hs-troponin 14,200, LVEF 48%, Dressler's explained as a late possibility. # New AF:
    CHA2DS2-VASc 4, Eliquis 5 mg BID plus clopidogrel, aspirin dropped after day 7. # DM2: A1c 7.6,
    metformin held 48 h. Weight on the day of leaving 88.4 kg. Results outstanding: Lp(a). Cardiac
    rehab intake is {short_date} at {clock}; to change it call {phone}. Person to contact:
    {relative}, spouse.""",
    """ELECTRONIC DISCHARGE LETTER. GP: Dr {doctor_last}. This patient, {PATIENT_LAST}
    {patient_first}, NHS Number {nhs}, was under our care on the Acute Frailty Unit between
    {uk_date} and {uk_date}. Presenting complaint: off legs, new confusion. Diagnoses: CAP (CURB-65
    3), hyponatraemia 124, hyperactive delirium, 4AT 8 on arrival and 2 on leaving. Rockwood 6.
    Treated with co-amoxiclav 1.2 g IV tds then oral doxycycline. Bendroflumethiazide STOPPED. GP
    to kindly: U&E in 1/52, CXR in 6/52. QDS package of care restarted. NOK (daughter) informed and
    content. Ward direct line {uk_phone}. NOK has consent for a copy by email ({email}). TTOs
    supplied 14/7.""",
    """{us_date} Gen Surg Gold, am rounds. {patient_last} 7W-22. POD 4 lap sigmoid for divertic,
    Hinchey II. Hates the NGT, 150 out overnight, + gas since midnight. AF, 128/76, 88, UOP 0.6
    cc/kg/h. Softly distended, incisions c/d/i, drain serous 20. WBC 12.4 from 15.1, K 3.3 (40 PO +
    20 IV). A/P clamp trial, if <200 pull it and give clears. LR @ 75. SQH, IS, OOB x3. Path d/w
    {other_last}, no malignancy. Son wants a call w/ the plan, {phone}. Chief in OR til noon, text
    me {pager}. Poss home {short_date}.""",
    """MICU DAILY NOTE / ICU day 9 / {PATIENT} / FIN {account}. Service date {iso_date}. Attending
    of record {doctor}. 57F influenza A, ARDS (Berlin moderate), tubed {iso_date}. NEURO: propofol
    30, fentanyl 75, RASS -2. RESP: AC 24/360/10/0.50, plateau 27, P/F 148, proned x2 so far. CV:
    levo 4 mcg, lactate 1.4, Swan pulled. RENAL: CRRT, even. ID: Tamiflu d5, cefepime d3, BAL
    Candida only. Access: R IJ Trialysis placed {dashed_date}, L radial a-line. SOFA 9. PPX:
    famotidine, SQH. Family: {relative}, the legal spouse, is overseas and gets the daily call on
    {plus_phone}. Full code. CC time 45 min.""",
    """ENDOCRINOLOGY INPATIENT CONSULT. I was asked by Dr. {doctor_last} of the hospitalist service
    to see {patient} for thyrotoxicosis. She is a 38-year-old pastry chef from {town_state}, whom I
    had last seen in the office on {long_date}. She ran out of methimazole and came in with
    palpitations, HR 138, T 38.4, loose stools. Burch-Wartofsky score 35. Exam: lid lag, CAS 3/7,
    smooth goiter with bruit, no Pemberton sign. TSH <0.01, free T4 5.9, TRAb 14.2. Impression:
    Graves' disease, impending storm. Suggest PTU 200 mg q4h, SSKI five drops q6h starting one hour
    later, hydrocortisone 100 mg q8h, propranolol 60 mg q6h. Her cousin sat in. I am on pager
    {pager}. {other}, MD, {us_date} {clock}""",
    """ADMISSION H&P. Informant: daughter, reliable; pt HOH. {old_age} yo Mrs. {patient_last}, an
    assisted living resident, was found down by the bed this a.m., R leg short and rotated. No
    prodrome recalled. PMH: AS (moderate), SSS with a dual lead PPM (ser# {serial}), Meniere's,
    osteoporosis on Prolia, last shot {us_date}. Meds: metoprolol succ 25, Synthroid 75, Tylenol.
    NKDA. SH: retired seamstress, no tob. 148/70, 62, 95% RA. III/VI SEM RUSB. XR: R intertroch fx,
    AO 31-A2. Hgb 10.8, CK 410. RCRI 1. Plan: fascia iliaca block, CMN in am w/ {other_last}, hold
    SQH 12 h before. DNR/DNI on MOLST, {us_date}. PCP {doctor} was called, {phone}.""",
    """OPERATIVE DICTATION. This is {DOCTOR} dictating on {PATIENT_REVERSED}, hospital number
    {number}. DATE OF OPERATION: {us_date}. PREOPERATIVE DIAGNOSIS: Gross hematuria, bladder mass.
    POSTOPERATIVE DIAGNOSIS: Same. OPERATION: Cystoscopy, transurethral resection of bladder tumor,
    3.5 cm, left stent exchange. DETAILS: The 26 French resectoscope was passed with the Timberlake
    obturator. The tumor overlay the left orifice. It was resected to muscle with the bipolar loop
    and evacuated with the Ellik. A 6 x 26 double-J was placed over a Glidewire. Gemcitabine 2 g
    was instilled for one hour. The prior stent dated from {us_date}. A 22 French 3-way Foley was
    left. I SPOKE WITH THE PATIENT'S SISTER, {RELATIVE}, AFTERWARD. DD: {us_date} {clock}.""",
    """BILATERAL DIAGNOSTIC MAMMOGRAM WITH TOMOSYNTHESIS, LEFT BREAST ULTRASOUND. Pt:
    {patient_reversed}. MRN/Acc: {number} / {accession}. Exam dt {us_date}. Ordering: {doctor}.
    HISTORY: 49-year-old, palpable lump left 2:00, Tyrer-Cuzick lifetime 22%. PRIORS: {us_date} and
    older, outside. Density C. FINDINGS: At the marker there is an irregular 14 mm high density
    mass with spiculation. US: hypoechoic, taller than wide, 2:00, 5 cm FN. Left axilla: one node,
    cortex 4 mm. Right: benign, unchanged. ASSESSMENT: BI-RADS 5 left, 2 right. Biopsy of mass and
    node was booked with our navigator for {short_date}; pt was told in person. Dictated by
    {other}, MD.""",
    """XR Left ankle AP/Lat. {PATIENT} Hosp ID {number} Exam ref {accession} Requested by:
    {doctor}, ENP, Minor Injuries. Performed {uk_date} {clock}. Clin info: inversion, Ottawa +ve
    lat mal. ?#. Report: Oblique undisplaced fracture of the distal fibula at the level of the
    syndesmosis, Weber B. Talar shift not seen. Soft tissue swelling. Incidental os trigonum, small
    Haglund deformity. Compared with the foot film of {uk_date}. Suggest fracture clinic follow up.
    Reported by {other} (reporting radiographer) {slashed_iso_date}. Alert sent to requester by
    {email}.""",
    """BONE MARROW REPORT. {patient_reversed}. Hematopathology no. {accession}. Biopsy done
    {us_date} at bedside; received {us_date} {clock}. For: Dr. {doctor_last}. Indication:
    71-year-old, pancytopenia, r/o MDS. CBC: WBC 2.1, Hgb 8.3, MCV 108, plt 44. Aspirate
    (Wright-Giemsa): 7% blasts, pseudo-Pelger-Huet neutrophils, no Auer rods, M:E 1.1. Core: 60%
    cellular, reticulin MF-1. Perls iron: ring sideroblasts 3%. Flow: CD34 6.2%, aberrant CD7.
    Cytogenetics 46,XY,del(5q)[11]/46,XY[9]. DX: MDS-IB1. IPSS-R 5.5, high. Telephoned to
    {relative}, RN, in clinic on {dashed_date}. Images can be viewed at {url}.""",
    """MICROBIOLOGY FINAL. Lab no {accession}. Pt {PATIENT}, {old_age} Y F. Loc: 4 East. Coll
    {iso_time}, rec'd {iso_time}. Source: blood, L antecubital, set 2 of 2. GRAM: GNR, aerobic and
    anaerobic bottles, time to positivity 9.4 h. CRITICAL RESULT called to {other} RN, read back,
    ext {pager}. CULTURE: Klebsiella pneumoniae, ESBL. MIC: meropenem <=0.25 S, ceftriaxone >=64 R,
    gentamicin <=1 S, cipro >=4 R, pip/tazo 32 I. Kirby-Bauer ertapenem 24 mm. Ordering provider
    {DOCTOR_REVERSED}. Client acct {account}.""",
    """behavioral health rn shift note {us_date} 3-11. {patient_small_first} {patient_small_last}
    on q15s, rm 9b. up for dinner, ate 75%. attended wrap up group, said "im good" then left early.
    affect blunted, muttering at times, denies ah/vh. took zyprexa 15 + depakote 1000 after some
    coaxing, cheeked x1 so mouth checks. vpa level due {weekday}. c-ssrs neg. barnes 1, no cogentin
    needed. girlfriend visited, brought clothes, no contraband. pt asks when court is, told
    {short_date} per dr {doctor_small_last}. wants his phone to call lawyer at {phone}, used unit
    phone. no prns. chart {number} reviewed w/ oncoming. {other} rn""",
    """PEDIATRIC ED VISIT. {patient_first} is a 3 y.o. girl BIB mom with barky cough since last
    night, worse at {clock}. Triage {us_date}. Chart # {number}. Immunized except flu, in daycare,
    PMH Duane syndrome. T 38.3, RR 34, sat 97. Stridor at rest, mild retractions, Westley 4. No
    drool. Dex 0.6 mg/kg PO, racemic epi neb x1. Watched 3 h, no rebound, Westley 1, popsicle down.
    Dx croup. Mom ({relative_first}) comfortable going home, they live 5 min off at {address}. She
    asked us to copy their pediatrician {doctor}, office {paren_phone}. Seen with the PNP, I was
    available.""",
    """Emergency Department Discharge Letter to General Practitioner. Attended {uk_date} {clock}.
    Patient {patient} Address {uk_address} Attendance no. {number}. Seen by: Dr {other_last} (F2).
    Complaint: fall on outstretched hand. Investigations: XR wrist. Diagnosis: Left distal radius
    fracture, dorsally angulated (Colles'). Treatment: haematoma block 10 ml 1% lidocaine,
    manipulated, backslab. NV intact after, Kanavel not relevant. Tetanus in date. Analgesia:
    co-codamol 30/500. Outcome: VFC will phone on the number given, {uk_phone}. GP action: FRAX and
    DEXA please, on prednisolone for PMR since {ordinal_date}. Accompanied by a friend.""",
    """Cardiology Outpatients. Dictated {written_date}, not signed. Our reference {number}. Dear
    {doctor_first}, Re: {patient}, d.o.b. {dotted_date}. Thanks for asking me to look again at this
    55-year-old postman. Wenckebach on the 72-hour tape is nocturnal and of no consequence. The
    echo shows LVH with septum 17 mm and SAM, resting gradient 22 rising to 68 mmHg on Valsalva,
    and so I believe we have hypertrophic cardiomyopathy rather than a hypertensive heart. HCM
    Risk-SCD 3.1%. I have swapped amlodipine for bisoprolol 2.5 mg. Would you stop the doxazosin?
    His brother ought to be screened, I enclose a form. Mr {patient_last} must tell the DVLA. My
    secretary is best reached at {email}. All good wishes, {other}""",
    """NEUROLOGY CLINIC FOLLOW-UP VISIT. DOS: {us_date}. Patient: {patient}. CC: migraine, tremor.
    Since the visit of {us_date} he had 9 headache days a month, down from 18, on Aimovig 70 mg.
    MIDAS 14. Nurtec works in an hour. Tremor: postural, 6-8 Hz, better with wine, father had it;
    Archimedes spiral wavy. No cogwheeling, Myerson absent, Froment negative. DaTscan not needed.
    MRI from outside on a CD labelled {accession}, read by me: a few white matter dots. A/P: 1.
    raise Aimovig to 140, PA in process under ID {policy}. 2. primidone 25 mg at night. RTC 4 mo.
    Ask questions by message at {url}. {other}, MD. Rendering NPI {npi}""",
    """Dear Colleague, please see {patient} about wisdom teeth. DOB {us_date}. Phone {paren_phone}.
    Ins: {policy}, group dental. #17 and #32 mesioangular, Pell and Gregory IIB, roots near the
    canal on pano taken {us_date}. Pericoronitis x2, the second treated with Augmentin 875.
    Medical: von Willebrand type 1, sees hematology, who want Stimate beforehand; asthma,
    albuterol. Allergic to codeine. Patient is a minor until {short_date}, so {relative} (father)
    must sign. Films were e-mailed to {email}. Thanks as always, {doctor} DDS""",
    """TELEPHONE CONSULT (GP). {uk_date}, {clock}. Caller: {relative}, wife. Pt {patient} 81M T2DM,
    MI, CKD3. Vomiting and loose stool 36 h, managing sips. Sugar 14.1. No blood, no chest pain,
    passing some urine. Taking metformin, dapagliflozin, ramipril, furosemide still! Sick day rules
    given: stop all four. Ketones 0.9 on own meter. Safety netted re rigors, drowsiness, 999. D/N
    bloods {weekday}. Confirmed mob {uk_phone} and that they are staying at daughter's,
    {uk_address}. Texted summary. Will ring back {short_date}. Discussed at coffee with
    {doctor_last}.""",
    """In Basket: Rx Request. Pool: IM Refill. Re {patient_reversed}. From pharmacy tech, {us_date}
    {clock}. Patient calling for Ambien 10 mg and Norco 10/325. Only 3 tabs left, leaves for
    {town_state} {weekday}. Last filled {us_date}. PMP checked, no overlap. Narcan on list. She'd
    like mail order from now on: {po_box}. Please include DEA on the hard copy, they've bounced
    {dea} as unreadable. >> Reply from {doctor}: Norco ok #60. Ambien no, 5 mg max for women,
    trazodone 50 instead, I told {patient_first} this at the visit. Needs UDS + agreement. Store
    phone {paren_phone}.""",
    """Case Management / SW Note. LOS 11. Writer met w/ pt and niece at bedside {us_date}.
    {patient}, 63, unhoused, most recently sleeping in a vehicle (plate {plate}) behind the feed
    store in {town_state}. L BKA, needs IV Ancef until {short_date}. No PICC at shelter. Income
    SSI, SS# {ssn}. Mail goes to {po_box}. Medical respite has a bed if TB neg: Quantiferon sent.
    AUDIT-C 7, Narcan kit given, declines Suboxone. Niece, {phone}, can't house pt but will hold
    belongings. Team aware. Braden 19, Hanger for prosthesis. SW following. {other} MSW""",
    """PHYSICAL THERAPY DISCHARGE NOTE, SWING BED. Resident: {patient}. SOC {slashed_iso_date} EOC
    {slashed_iso_date}, 14 visits. Ordering: {doctor}. Med dx: Guillain-Barre, AIDP variant, post
    IVIG x5. PLOF: I, dairy farming. Initial -> now: Tinetti 9 -> 22; 5xSTS unable -> 19 s; gait 10
    ft mod A II -> 240 ft FWW SBA; MMT hip flex 2+ -> 4-, DF 1 -> 3. Bilateral AFOs ({serial} on
    the right) fit well. Stairs x4 w/ one rail CGA, husband return demo'd guarding. Goals 5/6 met.
    HEP given, Borg 11-13. D/C home {weekday}, OP PT closer to {town_zip}. {other}, PT, License
    {licence}""",
    """OUTPATIENT PSYCHIATRY INTAKE. Date: {long_date}. Client name: {patient}. In weekly therapy
    since {us_date}. Referred by PCP, Dr. {doctor_last}. Chief complaint: "I can't turn my head
    off." 31-year-old paralegal, engaged. Checks locks 20-30 times, washes to the elbows, 3 h/day;
    Y-BOCS 27. Tourette's in childhood, outgrown. Zoloft to 100 in college, stopped. One panic
    attack. PHQ-9 11, GAD-7 16, MDQ negative, no SI, C-SSRS 0. No alcohol, one gummy at night. MSE:
    neat, hands chapped, linear, insight good. Dx F42.2. Plan: fluvoxamine 50 qhs, up by 50 weekly;
    ERP. No caffeine. 988 reviewed. Telehealth consent signed electronically from {ip}; preferred
    contact {email}, backup {phone}.""",
    """L&D OPERATIVE NOTE. {patient}, MRN {number}, 35yo G4P2012 @ 38w6d, prior CS x2, EDD
    {us_date}. Date {us_date}. Surgeon {doctor}. Proc: RLTCS + bilateral salpingectomy. Spinal.
    Pfannenstiel through old scar, Bandl's ring no. Adhesions omentum to fundus, lysed. Kerr
    hysterotomy, vtx, vacuum x1, viable F at {clock}, 3390 g, Apgars 8/9. Couvelaire no. Placenta
    manual. Atony: Pitocin 40, Methergine 0.2 IM, TXA 1 g; B-Lynch not needed. Monocryl x2 layers.
    QBL 940. Bladder intact, UOP 200 clear. FOB present, held baby skin to skin. Tubes to path
    {accession}. Ancef 2 g + azithro 500. Staples n/a, wound check {short_date}.""",
    """SPECIALIST CHILDREN'S SERVICES, ASTHMA & ALLERGY. Letter to parent of {patient},
    {uk_address}. Seen {uk_date}. Unit number {number}. Dear {relative}, Thank you for bringing
    {patient_first} to see us. Skin prick tests: cashew 8 mm, pistachio 6 mm, egg 0 mm, house dust
    mite 5 mm. We talked about stopping all tree nuts for now and carrying two Jext 150 pens.
    Asthma: ACT score 18, so Clenil 100 twice a day by spacer, FEV1 91%. Eczema is mild (POEM 5),
    Dennie-Morgan folds. A baked egg challenge is offered for {ordinal_date}; please no cetirizine
    for five days before. School form attached for the head. Any worries, ring our allergy nurses
    on {uk_phone}. Yours, {doctor}""",
    """GYN ONC CHEMO VISIT. {us_date}. {patient_reversed}, C3D1 carbo AUC 5 / Taxol 175 / bev. Dx
    HGSOC, FIGO IIIC, BRCA1 mut, s/p NACT x3 and IDS (R0) by Dr. {doctor_last} {us_date}. CA-125
    1,840 > 212 > 31. Gr 1 neuropathy, Gr 2 alopecia, eating. ECOG 0. ANC 1.9, plt 134, Cr 0.7
    (Cockcroft-Gault 84). UPC 0.2. BP 146/88, home log worse, start Norvasc 5. Abd soft, no Sister
    Mary Joseph nodule. Port {serial} draws well. OK to treat. Will do Lynparza after. Daughter is
    thinking of cascade testing, gave genetics number {dotted_phone}. FMLA papers done for her,
    mailed to {address}. {other} NP / NPI {npi}""",
    """HOME HEALTH OASIS RECERT VISIT. Pt {patient}, {age_words} y.o., MBI {policy}. Current 60-day
    cert ends {us_date}. Lives with spouse in ranch home, {small_address}, ramp. CHF, NYHA III,
    A-fib, Charles Bonnet hallucinations. Wt 163 (163), 1+ edema to shins, rales bases clear w/
    cough. BP 116/64 P 70 R 18 O2 94% 2L (concentrator s/n {serial}). Pillbox filled x 2wks,
    Entresto 24/26, torsemide 20, Xarelto 15. No falls, TUG 24. M1860 = 3. Freq: SN 1w9, HHA 2w9.
    MD agrees by phone {paren_phone}. Caregiver {relative_first} strained, SW eval added. The scale
    tablet keeps dropping its connection. e-signed {other}, RN""",
    """HOSPICE ADMISSION NARRATIVE. {patient_reversed}, {old_age}, retired organist, admitted
    {long_date} with a terminal diagnosis of end-stage cardiac amyloidosis. Hospice physician
    narrative: over 6 months she has had three hospital stays, albumin 2.4, weight 131 to 109 lb,
    Karnofsky 40, NYHA IV with Kussmaul's sign, refractory to Bumex 2 mg bid. She stopped
    tafamidis. Her ICD ({serial}) was deactivated by the rep at the house on {short_date}. DPOA-HC:
    {relative}, {phone}. Comfort kit delivered to {address}. I confirm that I composed this
    narrative from my review. {doctor}, MD. Attending of choice: the PCP.""",
    """Specialty Pharmacy Clinical Call. Pt: {patient}. Rx: Stelara 90 mg q8w, Crohn's (Montreal
    A2L3B1). Spoke with pt on {us_date} at {clock}, verified name + address ({address}). Last dose
    {us_date}, on time. HBI 3. No infections, no shingles, TB neg. Missed doses 0. Copay card:
    {account}. New insurance eff {us_date}: ID {policy}. Says injection stings; counseled 30 min at
    room temp. Delivery {weekday}, sig req, roommate may sign. Prescriber: {doctor}. Next outreach
    per SOP.""",
    """EXPLANATION OF BENEFITS - THIS IS NOT A BILL. {long_date}. {PATIENT}, {po_box}, {town_zip}.
    Member no. {policy}. Claim {account}. Provider: {doctor}. Date of service {dotted_date}. 99214
    Office visit: billed $248.00, plan discount $91.15, you owe $30.00. 83036 Hemoglobin A1c:
    billed $42.00, plan paid $13.29. 20610 Injection, knee (Kenalog 40 mg): denied, remark N130,
    Kellgren-Lawrence grade not on file. Appeals must be in writing. To view this online go to
    {url} or call 711 for TTY.""",
    """OCCUPATIONAL MEDICINE - MVA AT WORK. Employee {patient}. Seen {us_date}. Incident: pt, a
    courier, swerved for a deer {weekday} {short_date}, rolled the company van (VIN {vin}, tag
    {plate}) into a ditch. Walked out. CDL {licence}; SSN for the comp carrier {ssn}. C/o L
    shoulder. Exam: abrasion from belt, AC joint step, Rockwood II, cross-arm +, O'Brien's equiv,
    Spurling neg. Canadian CT head rule neg. DOT drug screen collected, specimen {accession}.
    Sling, ibuprofen 600, no lifting > 5 lb. Supervisor notified by the front desk. Recheck 1 wk,
    {doctor}, MD, MRO.""",
)
DEVELOPED = (*OWN, *OTHERS)
HELD_OUT = (
    """HOSPITALIST DISCHARGE SUMMARY. {PATIENT_REVERSED}. Encounter {account}. Came in {us_date},
    went home {us_date}, length of stay 5 days. Final diagnoses: gallstone pancreatitis (BISAP 1,
    Ranson 2), cholangitis with E. coli bacteremia, obesity (BMI 38.1). What happened: Ms.
    {patient_last} presented with epigastric pain and a lipase of 4,100. Charcot's triad was
    complete by the next morning, so GI took her for ERCP with sphincterotomy on {short_date}.
    Bilirubin fell from 6.2 to 1.9. She tolerated a low fat diet and was switched from Zosyn to
    cefuroxime 500 mg BID x 4 more days. Surgery will remove the gallbladder electively. Pending at
    discharge: final blood culture sensitivities. Handed off by voicemail to {doctor}, who is her
    primary, at {phone}. Condition: good. 35 minutes were spent on this discharge.""",
    """Stroke Unit - Transfer of Care Document. Consultant: {doctor}. Patient: {patient} Hosp No.
    {number} NHS {nhs}. Date of admission {uk_date}, date of transfer to Community Stroke Team
    {uk_date}. Narrative: 74-year-old right handed lady found by husband with left sided weakness
    and neglect, last seen well at {clock}. NIHSS 14, ASPECTS 8, BP 178/94. Thrombolysed with
    alteplase 0.9 mg/kg at 2 h 40; CTA showed an M1 occlusion and she went for thrombectomy (TICI
    2b). NIHSS at 24 h was 5. Paroxysmal AF on telemetry, edoxaban 60 mg from day 6. Modified
    Rankin 3 at transfer. Swallow: Level 4 diet, slightly thick fluids. Mood: HADS 7/5. Social:
    husband has been shown hoist-free transfers and can be contacted on {uk_phone}. Stroke nurse
    appointment {ordinal_date}. No driving for one month.""",
    """{us_date} ortho pn. {patient_small_last} pod#2 l tha (anterior). c/o groin soreness 4/10 on
    oxy 5, no cp/sob. slept ok. afvss. drsg dry, aquacel. ta/ehl/gs 5/5, silt, calves soft homans
    neg. h/h 9.4/28 (11.2). walked 120 ft w/ fww yest per pt. plan: wbat, asa 81 bid x 4 wk, dc
    foley done, dc home today w hh if stairs ok, else {weekday}. rx sent. postop visit {short_date}
    w/ dr {doctor_small_last} - call {dotted_phone} if drainage. spoke w/ his daughter
    {relative_small_first}, she is ok w/ plan""",
    """LIVER TRANSPLANT PROGRESS NOTE. {patient} / {number} / POD 11 DDLT {dashed_date}.
    Indication: PBC with refractory ascites, MELD-Na 27. Events: low grade temp 37.9, blood
    cultures x2 sent. Tac level 11.2 (goal 8-10), held PM dose. AST 48, ALT 77, ALP 210, T bili 1.8
    down from 2.4. Doppler: HA RI 0.68, PV patent. Cr 1.3. JP output 180 cc, serous, no bile. On
    MMF 1 g BID, pred taper 15, Bactrim, Valcyte 450, fluconazole. Exam: Mercedes incision healing.
    Banff RAI 3/9 on bx {accession}, no treatment. Plan: tac 3 mg BID tomorrow, repeat labs 0500,
    diet advance, walk. Teaching: meds reviewed with caregiver {relative}, who will stay with the
    patient in the apartment in {town_state}. Discharge target {short_date}. Seen with the
    hepatology fellow. Coordinator line for questions: {paren_phone}.""",
    """INFECTIOUS DISEASES - INITIAL CONSULT. Requested by: {doctor} (Orthopedics). Question:
    duration of antibiotics. Date seen: {long_date}. HPI: {patient} is a 62-year-old plumber with a
    right TKA (placed {written_date}) who noticed warmth and swelling for nine days after a dental
    cleaning. Arthrocentesis: 68,000 WBC, 94% PMN, no crystals, MSSA. DAIR with poly exchange
    yesterday. No Janeway lesions, Osler nodes or Roth spots; TTE without vegetation, meets 1 minor
    Duke criterion. He keeps parakeets. Allergies: sulfa (rash). Assessment/Recs: 1. Acute
    hematogenous PJI. Cefazolin 2 g IV q8h, add rifampin 300 mg BID when the wound is dry. 2.
    Weekly CBC, CMP, CRP faxed to our OPAT office at {phone}. 3. PICC is OK, last positive culture
    {us_date}. His spouse will do the infusions. Thank you for involving us. The fellow carries
    beeper {pager}.""",
    """Gastroenterology inpatient consultation ({us_date}, {clock}). Pt: {PATIENT}. Consulting
    provider: {OTHER}, MD. Referring: {DOCTOR}, MD. This is a {old_age} y.o. nursing home resident
    with painless hematochezia since last night, two large maroon stools. On Plavix for a carotid
    stent. Oakland score 21. Colonoscopy from {us_date} at an outside place: pancolonic
    diverticulosis, one 6 mm tubular adenoma. HR 92, BP 108/57. Abd benign. Hgb 8.1, plt 210, INR
    1.1. CTA without blush. Impression: diverticular bleed, likely stopped. Heyde syndrome thought
    of, murmur is soft. Recommendation: supportive, Hgb goal > 7, Plavix held 5 days after talking
    with vascular, no scope unless rebleeds. Health care agent is a niece, who prefers a
    conservative course. Please page with questions.""",
    """MEDICINE ADMISSION NOTE. Source: pt and old chart ({number}). Admit date {us_date}. CC:
    "legs blew up." HPI: Mr. {patient_last} is a 51 y/o M w/ cirrhosis 2/2 HCV + EtOH (Child-Pugh
    C, MELD 22), esophageal varices banded {us_date}, p/w 2 wk of incr abd girth, leg edema, SOB
    lying flat. Out of Aldactone since he lost his job. Last EtOH {weekday}. No hematemesis/melena.
    SHx: crashes on a friend's couch in {town_state}, mail goes to {address}. ROS as above. PE:
    icteric, spiders, + asterixis, tense ascites w/ fluid wave, caput, 3+ edema. Na 126, Cr 1.6, T
    bili 7.4, INR 2.0, NH3 88. Dx para: 380 PMN, SAAG 1.6. A/P: SBP - CTX 2 g, albumin 1.5 g/kg. HE
    grade 2 - lactulose to 3 BM. Maddrey 41, hold steroids. CIWA. Contact: mother, {phone}.
    Hepatology following. {other}, MD, PGY1""",
    """PEDIATRIC HISTORY AND PHYSICAL. Admitting: {doctor}. Name: {patient}. Birth date: {us_date}.
    Informants: both parents. Chief complaint: fever for six days. HPI: Previously healthy
    2-year-old boy with T max 40.1, red eyes without discharge, cracked lips, a truncal rash, and
    swollen hands. Seen by his regular pediatrician on {short_date}, strep negative, Amoxil begun.
    Immunizations are current. Development: runs, two-word phrases. Lives with parents and a baby
    sister; {relative_first}, the father, is a line cook. Exam: irritable, HR 152, strawberry
    tongue, 1.8 cm right cervical node, Koplik spots absent. CRP 14, ESR 78, ALT 66, plt 512,
    pyuria. Echo LAD Z score 1.9. Impression: Kawasaki disease, complete, day 6. Plan: IVIG 2 g/kg
    over 12 h, aspirin 40 mg/kg/day, cardiology, no live vaccines for 11 months. Social security
    card copied by registration, {ssn}; plan no. {policy}.""",
    """Operative Note. Date of service: {iso_date}. Patient: {patient_last}, {patient_first}
    ({number}). Pre/post-op diagnosis: tricompartmental osteoarthritis, left knee,
    Kellgren-Lawrence 4, valgus. Procedure performed: left total knee arthroplasty, cemented, PS.
    Surgeon: {doctor}. Assistant: PA-C, whose help with retraction was essential. Anesthesia:
    spinal plus adductor canal. Tourniquet 62 min at 275 mmHg. Findings: bone on bone laterally,
    Outerbridge IV. Technique: medial parapatellar arthrotomy; Whiteside's line and the epicondylar
    axis set rotation; 9 mm distal cut, lateral release of the ITB. Femur size 5, tibial baseplate
    size 4 (lot/serial {serial}), 11 mm poly, 35 mm patella. ROM 0-125, tracks centrally.
    Vancomycin powder 1 g, Vicryl, Monocryl, Prineo. EBL 75. Complications: none apparent.
    Electronic attestation {iso_time}.""",
    """THEATRE RECORD. {uk_date}. Mr {doctor_last} / Miss {other_last}. Anaes: GA, RSI. Pt
    {PATIENT_REVERSED}, Unit no {number}. Emergency, CEPOD 1b. Operation: laparotomy, Hartmann's
    procedure. Indication: perforated sigmoid, Hinchey III, P-POSSUM mortality 9.8%, consent form 1
    signed, NELA entered. Findings: purulent fluid all four quadrants, 2 cm perforation with
    phlegmon, normal appendix, no Meckel's. Lloyd-Davies position. Midline. Sigmoid mobilised along
    the white line of Toldt, ureter seen, IMA branches taken close. Rectal stump stapled, blue load
    x2, tagged with Prolene. Washout 6 L. End colostomy LIF. Robinson drain pelvis. Mass closure,
    loop PDS, 4:1. Blood loss 300. Post op: HDU, NBM, tazocin 4.5 g tds 5/7, Clexane 40 mg from
    {clock}. Histo pot sent, form {accession}. Son updated by me, {uk_phone}.""",
    """MRI BRAIN WITHOUT AND WITH CONTRAST. Patient {patient}; exam no. {accession}; performed
    {iso_date}. Referring service: Neurology. Indication: 44-year-old with new left facial
    numbness, Lhermitte's sign, optic neuritis in the past. Technique: 3T, sagittal FLAIR, DWI,
    axial T2, SWI, post Gadavist 7.5 mL. Comparison is made with the outside study dated
    {iso_date}. Findings: Eleven T2 hyperintense lesions, several perpendicular to the ventricles
    (Dawson fingers); two are new, one of them in the left pons measuring 7 mm and enhancing. No
    black holes. Virchow-Robin spaces are normal for age. Pituitary 5 mm. Flow voids preserved.
    Opinion: Dissemination in time and space as per the McDonald criteria. These results were
    relayed by secure chat to {other_first} {other_last}, NP, {us_date} at {clock}. Finalized
    {iso_time}.""",
    """Chest X-ray (PA). Name: {PATIENT} ID: {number} Exam date: {uk_date} Referred by: AMU.
    Clinical details: SOB, smoker 40/day, haemoptysis ?ca ?TB. Report: There is a 3.4 cm rounded
    opacity projected over the left hilum with volume loss in the left upper lobe (no Golden S
    sign). Kerley B lines at both bases. Cardiothoracic ratio 14.5/28. Old healed rib fractures 6
    and 7 on the left. Degenerative change in the thoracic spine. Conclusion: Suspicious for
    bronchogenic carcinoma. Lung nodule pathway code CX3. Urgent CT chest and upper abdomen with
    contrast has been vetted for {written_date}. Report also copied to the lung cancer CNS
    ({email}, ext. {pager}). Dr {other}, Consultant Radiologist.""",
    """DERMATOPATHOLOGY. Accession {accession}. Patient: {patient_reversed}. Age/Sex: 68/M. Date of
    biopsy: {us_date}. Date reported: {us_date}. Provider: {doctor}, MD. Account: {account}.
    Clinical: A. changing mole, r/o MM. B. pearly papule, BCC? Diagnosis: A. Skin, left upper back,
    shave: Malignant melanoma, superficial spreading, Breslow thickness 1.1 mm, Clark level IV,
    non-ulcerated, mitoses 2/mm2, deep margin positive focally; pT2a at least. SOX10 and PRAME
    positive. Spitz features are not seen. B. Skin, right ala, shave: Basal cell carcinoma,
    nodular, to the base. Note: Wide excision with sentinel node is advised for A and Mohs for B.
    Findings telephoned to the office, {dotted_phone}. Clinical and microscopic photographs at
    {url}.""",
    """CYTOPATHOLOGY - FINE NEEDLE ASPIRATION. Patient Name: {PATIENT_REVERSED} Med. Rec. No.:
    {number} Case No.: {accession} Requesting MD: {DOCTOR} Taken: {dashed_date} Accessioned:
    {dashed_date}. SOURCE: THYROID, RIGHT LOWER POLE, US GUIDED, 25 G, 4 PASSES. CLINICAL HISTORY:
    2.3 CM SOLID NODULE, TI-RADS 5. TSH 1.4. STATEMENT OF ADEQUACY: SATISFACTORY, ASSESSED ON SITE.
    INTERPRETATION: BETHESDA CATEGORY VI, PAPILLARY THYROID CARCINOMA, CLASSIC. DIFF-QUIK AND
    PAPANICOLAOU SMEARS SHOW CROWDED SHEETS, GROOVES, INTRANUCLEAR PSEUDOINCLUSIONS AND ORPHAN
    ANNIE NUCLEI. HURTHLE CELLS FEW. BRAF V600E PENDING. ENDOCRINE SURGERY INFORMED
    {short_date}.""",
    """Nsg note. Assumed care of Ms {patient_last} at {clock}. {old_age}F, A&Ox2 (thinks it's
    {weekday} and that she is in {town_state}), HOH, pleasant. 1:1 sitter dc'd. Tele SR 70s w/
    PACs. LS dim bases, 2L. Tol puree/nectar, ate 40%, meds crushed in pudding. Purewick to sxn
    450. Sacral stage 2 1x1, Mepilex changed. Braden 14, Morse 65, bed alarm on. IV L FA 20g
    flushes. BG 212, 4 u Humalog. Granddaughter visited, brought hearing aids and a sweater, wants
    a call before any procedure - {phone}. Dr {doctor_last} in to see, aware of K 3.2, KCl 40
    given. Consent for PEG still not signed, GI following {short_date}. Safety maintained, call
    light in reach. {other} RN, charge aware.""",
    """ED Provider Note. Time seen: {clock}, {us_date}. HPI: {patient} is a 29 yo F hx of
    endometriosis, G1P0, LMP about 6 wks ago, here with sharp RLQ pain and spotting since this
    morning. Drove herself. No fever. Takes Lexapro. PSH: lap excision {us_date}. Vitals: 99.0 104
    106/64 18 100%. Abd: RLQ TTP, no Rovsing, no McBurney. Pelvic w/ chaperone: CMT mild, no POC at
    os. Labs: hCG 3,212, Rh neg, Hgb 11.9. TVUS ({accession}): no IUP, 2.1 cm R adnexal ring, small
    free fluid. MDM: ectopic until proven otherwise. OB/GYN on call evaluated at bedside;
    methotrexate 50 mg/m2 vs OR, pt picks OR. RhoGAM 300 ordered. Fiance {relative_first} on his
    way, {phone}. Dispo: to OR stable. CC time 32 min exclusive of procedures.""",
    """Rheumatology. Clinic of {ordinal_date}, typed {uk_date}. The Group Practice, {uk_address}.
    Dear Dr {doctor_last}, I reviewed {patient} whose hospital number is {number}. Problems:
    seropositive rheumatoid arthritis; secondary Sjögren's; Raynaud's; osteopenia. Treatment:
    methotrexate 20 mg sc weekly, folic acid 5 mg, hydroxychloroquine 200 mg od, rituximab last
    given before the summer. Mrs {patient_last} tells me she is managing in the garden again, early
    morning stiffness 15 minutes, and a DAS28 of 2.4 agrees with her. There were no tender joints,
    one swollen, fixed Boutonnière deformity of the left ring finger, and a Schirmer's of 3 mm. Her
    ALT was 31 and eGFR 77. I would be grateful if you would continue her monthly bloods. My nurse
    specialist can be emailed at {email} for flares. I shall see her in nine months. Kind
    regards""",
    """{long_date}. RE: {patient_reversed}, born {us_date}. Dear {doctor_first}: I had the pleasure
    of meeting your patient in my otolaryngology office this week. As you know, he is a 47-year-old
    high school band director with eighteen months of episodic spinning that lasts hours, roaring
    in the right ear and fullness. Dix-Hallpike was negative, Rinne positive on both sides, and
    Weber goes to the left. The audiogram shows a 45 dB low-tone loss on the right with 88%
    discrimination. I believe that this is definite Ménière's disease by the Bárány criteria. I
    suggested a 1500 mg sodium diet, triamterene/HCTZ 37.5/25 and, should these fail, intratympanic
    dexamethasone. MRI of the IACs is set for {short_date}. He and his wife had good questions. If
    I can be of more help, my private line is {dotted_phone}. Warmest regards, {other}, MD,
    FACS""",
    """REFERRAL TO HOSPITAL EYE SERVICE (GOS18). Optometrist: {other}, practice telephone
    {uk_phone}. Patient: {patient}. D.O.B. {uk_date}. Address: {uk_address}. NHS no. {nhs}. Date of
    sight test {uk_date}. Rx R +1.75/-0.50 x 90 6/9, L +2.00/-0.75 x 85 6/7.5. IOP (Goldmann) R 27
    L 26 at {clock}. Van Herick grade 2 both eyes. C:D R 0.7 L 0.6, ISNT rule broken R inferiorly.
    Humphrey 24-2: R superior arcuate, MD -5.8; L full. Amsler normal. Father had glaucoma and was
    registered. Asthmatic on Fostair, so mind beta-blockers. Urgency: routine, soon please. Patient
    prefers mornings and gets a lift from a friend.""",
    """TC {us_date} {clock}. {patient_last}'s husband called - {patient_first} has temp 101.3,
    chills since noon. She's day 9 s/p FOLFOX #4, port site OK, no cough, some mouth sores. Took
    Tylenol x1. Instructed to go to closest ER now, do not wait for {weekday} appt. He states they
    are at the lake, nearest one is in {town_state}. Phoned the triage desk there with hx and ANC
    from {us_date} (1.1). Provider informed + agrees. Husband's name {relative}, best # {phone}.
    Neulasta OnPro lot noted. Will call in am. RN, OCN""",
    """PATIENT MESSAGE (non-urgent medical question). Submitted {iso_time} from mobile app. "Hi
    {doctor_first} and team, this is {patient}. The lisinopril cough is driving me crazy, my wife
    sleeps in the other room now!! Can I go back on losartan? BP at home 138/84, 141/88, 129/79.
    Also I never got the A1c kit, I think it went to my old house, the new place is {address}. And
    is it OK to have the shingles shot (Shingrix) with my Humira? I'm away from {short_date}, so
    text {paren_phone}. Thx." -- Staff reply {us_date}: Losartan 50 mg sent, stop lisinopril, BMP
    in 2 weeks. Shingrix is fine. The instructions are posted for you at {url}. {other}, LPN""",
    """Psychosocial assessment (inpatient rehab). Completed {us_date} with patient and sister.
    {patient} is a 37-year-old left-handed roofer, T6 ASIA B paraplegia after a fall from height on
    {long_date}. Household: sister {relative}, her two kids, a dog; second floor walk-up at
    {small_address}. Marital: divorced. Education: GED. Legal: workers' comp claim {account},
    adjuster reachable at {phone}; no attorney yet. Finances: weekly comp benefit; SSDI application
    submitted, SSN on the form {ssn}. Substance use: cannabis daily, DAST-10 3. Mood: "pissed off,
    but I'm here", PHQ-9 13, no SI. Trauma screen PC-PTSD-5 2. Faith: none. Strengths: humor,
    union. Barriers: stairs, no accessible vehicle. Plan: ramped rental search, peer visit,
    vocational rehab, hand controls. Team told in rounds. {other}, LICSW""",
    """SPEECH-LANGUAGE PATHOLOGY: MODIFIED BARIUM SWALLOW. Pt {patient_reversed}. Visit #
    {account}. Date of study: {slashed_iso_date}. Ordered by {doctor}. Radiologist present. Hx:
    {age_words}-year-old male, Parkinson's (Hoehn & Yahr 4), pneumonia twice since {us_date}, 14 lb
    weight loss, on Sinemet 25/100. Consistencies given by tsp/cup/straw: IDDSI 0, 2, 4, 7. Oral:
    lingual pumping, premature spill to pyriforms. Pharyngeal: delayed trigger 3 s, reduced
    hyolaryngeal excursion, residue in valleculae 50%. Penetration-Aspiration Scale 7 with thin by
    cup, 2 with mildly thick. Chin tuck no help; Mendelsohn not able. Zenker's none, CP bar at
    C5-6. DIGEST grade 3. Recs: IDDSI 5 / 2, meds whole in puree, oral care QID, EMST. Daughter
    watched the playback and is weighing a feeding tube. {other}, MS, CCC-SLP, state license
    {licence}""",
    """Community Mental Health Team. Outpatient review {uk_date}. Present: {patient}, care
    coordinator, myself. Diagnosis: F20.0 paranoid schizophrenia. Depot: paliperidone 100 mg
    monthly, next due {ordinal_date}. Clozapine stopped previously (neutrophils 1.3). Section 117
    applies; CTO lapsed. {patient_first} reports that the voices are "background radio" now.
    Sleeping 9 hours. Sees mother on Sundays, plays five-a-side. Cannabis at weekends, 10
    cigarettes. MSE: kempt, fair rapport, no FTD, no Schneiderian symptoms volunteered, partial
    insight. HoNOS 9, GASS 12, no EPSE, Simpson-Angus 1. Weight 96 kg, QTc 418, prolactin 640.
    Risk: low to self and others at present. Plan: aripiprazole 5 mg added for prolactin, GP to
    repeat lipids, review 3/12. Crisis line given ({uk_phone}). Dictated by Dr {doctor}, ST6, and
    sent to the patient at {uk_address}.""",
    """MATERNITY BOOKING APPOINTMENT. Named midwife: {other}. Woman: {patient} NHS: {nhs} Booked at
    9+4 on {uk_date}. EDD by dates {uk_date}. G3P1, previous ventouse, 3a tear; one missed
    miscarriage. BMI 31.4, BP 112/70, CO 2 ppm, EPDS 6, Whooley neg. Family origins questionnaire
    done, sickle and thal sent. Medical: hypothyroid, levothyroxine 75 mcg; Gilbert's. Partner
    supportive, no consanguinity. Aspirin 150 mg nocte advised, GTT 26/40, consultant care.
    Combined screening accepted, NT scan {short_date}. Booster pertussis later. Routine enquiry re
    DA: safe. Phone (own) {uk_phone}, app login emailed to {email}. Leaflets: kick counts, Anti-D
    n/a, Healthy Start. Next CMW 16/40.""",
    """DEVELOPMENTAL-BEHAVIORAL PEDIATRICS, FOLLOW-UP (video). Visit date {us_date}. {patient} (DOB
    {us_date}, chart {number}) is a 6 y 2 mo boy followed for autism level 1 and ADHD combined.
    Seen from home with his mother, {relative}. Mom describes first grade as "a roller coaster":
    bit a classmate on {weekday}, then read a whole book to the class. IEP meeting {short_date}.
    Concerta 18 mg helps until about 2, appetite down, weight 19.8 kg (24th %ile). Melatonin 3 mg.
    Vanderbilt parent 7/9 inattentive. ADOS-2 comparison 6 previously. No Tourette tics. Fragile X
    negative. Plan: Ritalin 5 mg after school, OT for sensory needs, ABA auth (member {policy}),
    sleep log. Family prefers e-mail: {email}. Return 3 months. Video link joined from {ip}.""",
    """RADIATION ONCOLOGY COMPLETION SUMMARY. Patient: {PATIENT}. Med rec: {number}. Treating
    physician: {doctor}. Diagnosis: squamous cell carcinoma of the left tonsil, p16+, cT2N1M0 (AJCC
    8), ex-smoker 8 pack-years. Concurrent weekly cisplatin 40 mg/m2 x 6 by medical oncology.
    Course: IMRT/VMAT 6 MV, 70 Gy in 35 fractions, first fraction {iso_date}, last {iso_date}, 49
    elapsed days, one day lost to machine service. Tolerance: grade 3 mucositis, grade 2 dermatitis
    (Silvadene, Aquaphor), weight 92 to 83.5 kg, PEG in place since {dotted_date}. KPS 70. Pain
    managed with fentanyl 25 mcg and Magic mouthwash. Plan: PET-CT at 12 weeks, TSH q6 mo, dental,
    trismus exercises with TheraBite. He will recuperate at his brother's, {town_zip}. Physics
    file: {url}""",
    """HOSPICE IDG / RECERTIFICATION VISIT. Seen at residence, {address}. Pt {patient_last},
    {age_words} yrs old, benefit period 3 begins {us_date}. MBI {policy}. Dx Alzheimer's, FAST 7d,
    PPS 30. MUAC 19.5 (21), eating bites, 2 UTIs, one fall off low bed. Hoyer for transfers.
    Roxanol 5 mg SL used x4/wk, Senna S, Ativan gel d/c'd. Cheyne-Stokes at night per private aide.
    Pacer ({serial}) left on, family declines magnet. Dtr abroad rings daily and wants weekly
    updates, {plus_phone}. Son-in-law holds the key and meds lock box code. Volunteer starts
    {weekday}. F2F done by NP today at {clock}. Attending Dr {doctor_last} gave verbal for oxygen 2
    L PRN, NPI {npi}. Chaplain and HHA 3x/wk continue.""",
    """UTILIZATION MANAGEMENT - NOTICE OF ADVERSE DETERMINATION. {written_date}. To: {patient},
    {po_box}, {town_zip}. cc: treating physician. Identification number: {policy}. Dear Member: We
    received a request on {iso_date} for spinal cord stimulator trial, CPT 63650 x2. Our medical
    director, {other}, MD, board certified in physical medicine, looked at the records. You have
    complex regional pain syndrome (Budapest criteria met), pain 7 of 10, and an ODI of 54. You
    tried gabapentin 2400 mg, Cymbalta 60 mg and three stellate blocks. The plan requires a
    psychological evaluation, and none was sent. For this reason we cannot approve it. Your doctor
    may ask for a peer-to-peer talk within 14 days by calling {phone}. You have 180 days to appeal.
    Case opened via provider portal, session address {ip}.""",
    """Pharmacy note: controlled substance clarification. {us_date} {clock}. Called prescriber's
    office re {patient_reversed}, Adderall XR 30 mg #60 written by {doctor}, DEA on rx reads {dea},
    doesn't pass check digit. Spoke to MA: she'll have a new e-script sent. Also early: last fill
    {us_date} at our other store, 30 ds. Pt says bottle was stolen from his truck ({plate}, VIN
    {vin}), police report to follow. PDMP run: 1 prescriber, 2 pharmacies, no benzos. ID shown,
    driver lic {licence}. Pt calm, no withdrawal, BP 136/84 at kiosk. Partial of 7 OK'd by RPh once
    script is in. Callback for pt {phone}. Concerta ER not equivalent, insurer rejects Vyvanse w/o
    PA.""",
)
