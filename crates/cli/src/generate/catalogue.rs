//! This module holds the codes that the records use, with their displays.

/// SNOMED CT.
pub(super) const SNOMED: &str = "http://snomed.info/sct";
/// LOINC.
pub(super) const LOINC: &str = "http://loinc.org";
/// RxNorm.
pub(super) const RXNORM: &str = "http://www.nlm.nih.gov/research/umls/rxnorm";
/// Vaccines administered (CVX).
pub(super) const CVX: &str = "http://hl7.org/fhir/sid/cvx";
/// ICD-10-CM.
pub(super) const ICD10: &str = "http://hl7.org/fhir/sid/icd-10-cm";
/// UCUM.
pub(super) const UCUM: &str = "http://unitsofmeasure.org";

/// A code and what it means.
pub(super) type Code = (&'static str, &'static str);

/// A medication as it is ordered.
#[derive(Debug)]
pub(super) struct Medication {
    /// RxNorm.
    pub(super) code: Code,
    /// What is taken at a time.
    pub(super) dose: f64,
    /// The unit of the dose.
    pub(super) unit: &'static str,
    /// How often a day.
    pub(super) times_a_day: u32,
    /// How it is taken: SNOMED CT.
    pub(super) route: Code,
}

/// By mouth.
pub(super) const ORAL: Code = ("26643006", "Oral route");
/// Under the skin.
pub(super) const SUBCUTANEOUS: Code = ("34206005", "Subcutaneous route");
/// Into a vein.
pub(super) const INTRAVENOUS: Code = ("47625008", "Intravenous route");
/// Into a muscle.
pub(super) const INTRAMUSCULAR: Code = ("78421000", "Intramuscular route");
/// Breathed in.
pub(super) const INHALED: Code = ("447694001", "Respiratory tract route");

const fn tablet(code: Code, times_a_day: u32) -> Medication {
    Medication { code, dose: 1.0, unit: "tablet", times_a_day, route: ORAL }
}

static LISINOPRIL: Medication = tablet(("314076", "lisinopril 10 MG Oral Tablet"), 1);
static METFORMIN: Medication =
    tablet(("860975", "24 HR metformin hydrochloride 500 MG Extended Release Oral Tablet"), 1);
static SIMVASTATIN: Medication = tablet(("312961", "simvastatin 20 MG Oral Tablet"), 1);
static IBUPROFEN: Medication = tablet(("310965", "ibuprofen 200 MG Oral Tablet"), 3);
static NAPROXEN: Medication = tablet(("849574", "naproxen sodium 220 MG Oral Tablet"), 2);
static ACETAMINOPHEN: Medication = tablet(("198440", "acetaminophen 500 MG Oral Tablet"), 3);
static PENICILLIN: Medication = tablet(("834061", "penicillin V potassium 250 MG Oral Tablet"), 4);
static AMOXICILLIN: Medication =
    Medication { unit: "capsule", ..tablet(("308182", "amoxicillin 250 MG Oral Capsule"), 3) };
static FLUOXETINE: Medication =
    Medication { unit: "capsule", ..tablet(("310385", "fluoxetine 20 MG Oral Capsule"), 1) };
static ALBUTEROL: Medication = Medication {
    code: ("2123111", "NDA020503 200 ACTUAT albuterol 0.09 MG/ACTUAT Metered Dose Inhaler"),
    dose: 2.0,
    unit: "actuation",
    times_a_day: 4,
    route: INHALED,
};

/// Given in hospital: against thrombosis, infection and fluid.
pub(super) static HOSPITAL_MEDICATIONS: [Medication; 3] = [
    Medication {
        code: ("854235", "0.4 ML enoxaparin sodium 100 MG/ML Prefilled Syringe"),
        dose: 40.0,
        unit: "mg",
        times_a_day: 1,
        route: SUBCUTANEOUS,
    },
    Medication {
        code: ("1659131", "piperacillin 2000 MG / tazobactam 250 MG Injection"),
        dose: 2.25,
        unit: "g",
        times_a_day: 3,
        route: INTRAVENOUS,
    },
    Medication {
        code: ("1719286", "10 ML furosemide 10 MG/ML Injection"),
        dose: 20.0,
        unit: "mg",
        times_a_day: 1,
        route: INTRAVENOUS,
    },
];

/// What a patient is treated for.
#[derive(Debug)]
pub(super) struct Problem {
    /// SNOMED CT.
    pub(super) snomed: Code,
    /// ICD-10-CM.
    pub(super) icd10: Code,
    /// From which age.
    pub(super) from_age: i64,
    /// Up to which age.
    pub(super) to_age: i64,
    /// What is prescribed.
    pub(super) medication: Option<&'static Medication>,
}

const fn problem(
    snomed: Code,
    icd10: Code,
    ages: (i64, i64),
    medication: Option<&'static Medication>,
) -> Problem {
    Problem { snomed, icd10, from_age: ages.0, to_age: ages.1, medication }
}

/// Problems that stay.
pub(super) static CHRONIC: [Problem; 11] = [
    problem(
        ("59621000", "Essential hypertension (disorder)"),
        ("I10", "Essential (primary) hypertension"),
        (30, 120),
        Some(&LISINOPRIL),
    ),
    problem(
        ("44054006", "Diabetes mellitus type 2 (disorder)"),
        ("E11.9", "Type 2 diabetes mellitus without complications"),
        (35, 120),
        Some(&METFORMIN),
    ),
    problem(
        ("55822004", "Hyperlipidemia (disorder)"),
        ("E78.5", "Hyperlipidemia, unspecified"),
        (30, 120),
        Some(&SIMVASTATIN),
    ),
    problem(
        ("195967001", "Asthma (disorder)"),
        ("J45.909", "Unspecified asthma, uncomplicated"),
        (3, 60),
        Some(&ALBUTEROL),
    ),
    problem(
        ("278860009", "Chronic low back pain (finding)"),
        ("M54.50", "Low back pain, unspecified"),
        (20, 120),
        Some(&NAPROXEN),
    ),
    problem(
        ("35489007", "Depressive disorder (disorder)"),
        ("F32.A", "Depression, unspecified"),
        (16, 90),
        Some(&FLUOXETINE),
    ),
    problem(
        ("47505003", "Posttraumatic stress disorder (disorder)"),
        ("F43.10", "Post-traumatic stress disorder, unspecified"),
        (20, 80),
        Some(&FLUOXETINE),
    ),
    problem(
        ("60862001", "Tinnitus (finding)"),
        ("H93.19", "Tinnitus, unspecified ear"),
        (20, 90),
        None,
    ),
    problem(
        ("235595009", "Gastroesophageal reflux disease (disorder)"),
        ("K21.9", "Gastro-esophageal reflux disease without esophagitis"),
        (25, 90),
        None,
    ),
    problem(
        ("37796009", "Migraine (disorder)"),
        ("G43.909", "Migraine, unspecified, not intractable, without status migrainosus"),
        (12, 60),
        Some(&NAPROXEN),
    ),
    problem(("414916001", "Obesity (disorder)"), ("E66.9", "Obesity, unspecified"), (18, 80), None),
];

/// Problems that pass, seen in a clinic.
pub(super) static ACUTE: [Problem; 7] = [
    problem(
        ("54150009", "Upper respiratory infection (disorder)"),
        ("J06.9", "Acute upper respiratory infection, unspecified"),
        (0, 120),
        Some(&ACETAMINOPHEN),
    ),
    problem(
        ("10509002", "Acute bronchitis (disorder)"),
        ("J20.9", "Acute bronchitis, unspecified"),
        (5, 120),
        Some(&ACETAMINOPHEN),
    ),
    problem(
        ("65363002", "Otitis media (disorder)"),
        ("H66.90", "Otitis media, unspecified, unspecified ear"),
        (0, 12),
        Some(&AMOXICILLIN),
    ),
    problem(
        ("43878008", "Streptococcal sore throat (disorder)"),
        ("J02.0", "Streptococcal pharyngitis"),
        (4, 40),
        Some(&PENICILLIN),
    ),
    problem(
        ("444814009", "Viral sinusitis (disorder)"),
        ("J01.90", "Acute sinusitis, unspecified"),
        (8, 120),
        None,
    ),
    problem(
        ("44465007", "Sprain of ankle (disorder)"),
        ("S93.409A", "Sprain of unspecified ligament of unspecified ankle, initial encounter"),
        (10, 60),
        Some(&IBUPROFEN),
    ),
    problem(
        (
            "840539006",
            "Disease caused by severe acute respiratory syndrome coronavirus 2 (disorder)",
        ),
        ("U07.1", "COVID-19"),
        (0, 120),
        Some(&ACETAMINOPHEN),
    ),
];

/// What brings people to an emergency department.
pub(super) static EMERGENCIES: [Problem; 4] = [
    problem(
        ("29857009", "Chest pain (finding)"),
        ("R07.9", "Chest pain, unspecified"),
        (25, 120),
        None,
    ),
    problem(
        ("284549007", "Laceration of hand (disorder)"),
        ("S61.419A", "Laceration without foreign body of unspecified hand, initial encounter"),
        (3, 120),
        Some(&ACETAMINOPHEN),
    ),
    problem(
        ("62106007", "Concussion with no loss of consciousness (disorder)"),
        ("S06.0X0A", "Concussion without loss of consciousness, initial encounter"),
        (3, 70),
        Some(&ACETAMINOPHEN),
    ),
    problem(
        ("21522001", "Abdominal pain (finding)"),
        ("R10.9", "Unspecified abdominal pain"),
        (3, 120),
        None,
    ),
];

/// What brings people into hospital.
pub(super) static ADMISSIONS: [Problem; 3] = [
    problem(
        ("233604007", "Pneumonia (disorder)"),
        ("J18.9", "Pneumonia, unspecified organism"),
        (0, 120),
        None,
    ),
    problem(
        ("74400008", "Appendicitis (disorder)"),
        ("K35.80", "Unspecified acute appendicitis"),
        (5, 70),
        None,
    ),
    problem(
        ("128045006", "Cellulitis (disorder)"),
        ("L03.90", "Cellulitis, unspecified"),
        (10, 120),
        None,
    ),
];

/// An allergy: what to, the category, how dangerous, and what happens.
pub(super) static ALLERGIES: [(Code, &str, &str, Code); 6] = [
    (("91936005", "Allergy to penicillin"), "medication", "high", RASH),
    (("91935009", "Allergy to peanuts"), "food", "high", ANAPHYLAXIS),
    (("300913006", "Shellfish allergy"), "food", "low", HIVES),
    (("300916003", "Latex allergy"), "environment", "low", RASH),
    (("424213003", "Allergy to bee venom"), "environment", "high", ANAPHYLAXIS),
    (("418689008", "Allergy to grass pollen"), "environment", "low", SNEEZING),
];
const RASH: Code = ("271807003", "Eruption of skin (disorder)");
const ANAPHYLAXIS: Code = ("39579001", "Anaphylaxis (disorder)");
const HIVES: Code = ("126485001", "Urticaria (disorder)");
const SNEEZING: Code = ("76067001", "Sneezing (finding)");

/// Vaccines of childhood with the age in days at which they are given.
pub(super) static CHILDHOOD_VACCINES: [(Code, i64); 9] = [
    (("08", "Hep B, adolescent or pediatric"), 1),
    (("20", "DTaP"), 61),
    (("10", "IPV"), 62),
    (("133", "Pneumococcal conjugate PCV 13"), 122),
    (("03", "MMR"), 370),
    (("21", "varicella"), 371),
    (("83", "Hep A, ped/adol, 2 dose"), 400),
    (("115", "Tdap"), 4050),
    (("114", "meningococcal MCV4P"), 4051),
];

/// Vaccines of those who are posted abroad.
pub(super) static SERVICE_VACCINES: [Code; 4] = [
    ("52", "Hep A, adult"),
    ("101", "typhoid, ViCPs"),
    ("134", "Japanese Encephalitis IM"),
    ("113", "Td (adult), 5 Lf tetanus toxoid, preservative free, adsorbed"),
];

/// The vaccine of every autumn.
pub(super) const INFLUENZA: Code =
    ("150", "Influenza, injectable, quadrivalent, preservative free");

/// A laboratory value.
#[derive(Debug)]
pub(super) struct Analyte {
    /// LOINC.
    pub(super) code: Code,
    /// UCUM.
    pub(super) unit: &'static str,
    /// The lowest value of healthy people.
    pub(super) low: f64,
    /// The highest.
    pub(super) high: f64,
    /// Digits after the point.
    pub(super) digits: u32,
}

const fn analyte(code: Code, unit: &'static str, (low, high): (f64, f64), digits: u32) -> Analyte {
    Analyte { code, unit, low, high, digits }
}

/// A laboratory panel.
#[derive(Debug)]
pub(super) struct Panel {
    /// LOINC.
    pub(super) code: Code,
    /// What is measured.
    pub(super) analytes: &'static [Analyte],
}

/// The panels that are ordered.
pub(super) static PANELS: [Panel; 3] = [
    Panel {
        code: ("24321-2", "Basic metabolic 2000 panel - Serum or Plasma"),
        analytes: &[
            analyte(
                ("2345-7", "Glucose [Mass/volume] in Serum or Plasma"),
                "mg/dL",
                (70.0, 99.0),
                0,
            ),
            analyte(
                ("3094-0", "Urea nitrogen [Mass/volume] in Serum or Plasma"),
                "mg/dL",
                (7.0, 20.0),
                0,
            ),
            analyte(
                ("2160-0", "Creatinine [Mass/volume] in Serum or Plasma"),
                "mg/dL",
                (0.6, 1.3),
                2,
            ),
            analyte(
                ("17861-6", "Calcium [Mass/volume] in Serum or Plasma"),
                "mg/dL",
                (8.5, 10.2),
                1,
            ),
            analyte(
                ("2951-2", "Sodium [Moles/volume] in Serum or Plasma"),
                "mmol/L",
                (135.0, 145.0),
                0,
            ),
            analyte(
                ("2823-3", "Potassium [Moles/volume] in Serum or Plasma"),
                "mmol/L",
                (3.5, 5.1),
                1,
            ),
            analyte(
                ("2075-0", "Chloride [Moles/volume] in Serum or Plasma"),
                "mmol/L",
                (98.0, 107.0),
                0,
            ),
            analyte(
                ("2028-9", "Carbon dioxide, total [Moles/volume] in Serum or Plasma"),
                "mmol/L",
                (22.0, 29.0),
                0,
            ),
        ],
    },
    Panel {
        code: ("58410-2", "CBC panel - Blood by Automated count"),
        analytes: &[
            analyte(
                ("6690-2", "Leukocytes [#/volume] in Blood by Automated count"),
                "10*3/uL",
                (4.0, 11.0),
                1,
            ),
            analyte(
                ("789-8", "Erythrocytes [#/volume] in Blood by Automated count"),
                "10*6/uL",
                (4.1, 5.6),
                2,
            ),
            analyte(("718-7", "Hemoglobin [Mass/volume] in Blood"), "g/dL", (12.0, 17.0), 1),
            analyte(
                ("4544-3", "Hematocrit [Volume Fraction] of Blood by Automated count"),
                "%",
                (36.0, 50.0),
                1,
            ),
            analyte(
                ("787-2", "MCV [Entitic mean volume] in Red Blood Cells by Automated count"),
                "fL",
                (80.0, 100.0),
                1,
            ),
            analyte(
                ("777-3", "Platelets [#/volume] in Blood by Automated count"),
                "10*3/uL",
                (150.0, 400.0),
                0,
            ),
        ],
    },
    Panel {
        code: ("57698-3", "Lipid panel with direct LDL - Serum or Plasma"),
        analytes: &[
            analyte(
                ("2093-3", "Cholesterol [Mass/volume] in Serum or Plasma"),
                "mg/dL",
                (125.0, 200.0),
                0,
            ),
            analyte(
                ("2571-8", "Triglyceride [Mass/volume] in Serum or Plasma"),
                "mg/dL",
                (40.0, 150.0),
                0,
            ),
            analyte(
                ("18262-6", "Cholesterol in LDL [Mass/volume] in Serum or Plasma by Direct assay"),
                "mg/dL",
                (50.0, 130.0),
                0,
            ),
            analyte(
                ("2085-9", "Cholesterol in HDL [Mass/volume] in Serum or Plasma"),
                "mg/dL",
                (40.0, 80.0),
                0,
            ),
        ],
    },
];

/// Given names of women.
pub(super) static WOMEN: [&str; 24] = [
    "Aisha", "Amelia", "Ana", "Carmen", "Chloe", "Danielle", "Elena", "Grace", "Hana", "Imani",
    "Jasmine", "Kiara", "Leilani", "Linh", "Maria", "Mei", "Naomi", "Olivia", "Priya", "Rachel",
    "Sofia", "Tamara", "Victoria", "Yuki",
];

/// Given names of men.
pub(super) static MEN: [&str; 24] = [
    "Aaron", "Andre", "Benjamin", "Carlos", "Daniel", "David", "Ethan", "Gabriel", "Hiro", "Isaac",
    "Jamal", "Jose", "Kai", "Kevin", "Luis", "Marcus", "Minh", "Noah", "Omar", "Rafael", "Samuel",
    "Terrence", "William", "Xavier",
];

/// Family names.
pub(super) static FAMILIES: [&str; 36] = [
    "Adams", "Alvarez", "Bailey", "Baker", "Castillo", "Chang", "Cruz", "Daniels", "Diaz",
    "Edwards", "Flores", "Foster", "Garcia", "Gomez", "Hall", "Harris", "Ito", "Jackson", "Kalani",
    "Kim", "Lee", "Lopez", "Martin", "Morales", "Nguyen", "Okafor", "Patel", "Ramirez", "Rivera",
    "Santos", "Singh", "Tanaka", "Torres", "Walker", "White", "Young",
];
