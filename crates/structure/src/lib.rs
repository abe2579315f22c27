//! Whether `fhir-sdk` can read a resource.
//!
//! This crate is a leaf below `record`, apart for one reason: it instantiates the readers of all
//! resource types of `fhir-sdk`, which takes minutes to compile and never changes. It knows R4B
//! (4.3.0); what its objections mean for R4 is for `record` to say.

use fhir_sdk::r4b::resources;
use serde::de::DeserializeOwned;

/// `fhir-sdk` cannot read the resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// The line where it stopped, from 1.
    pub line: usize,
    /// The byte of that line, from 1.
    pub column: usize,
    /// What it says.
    pub reason: String,
}

/// Tries to read the JSON text of a resource of this type. Types that R4B has dropped or redefined
/// are not tried.
///
/// # Errors
/// With the first thing that `fhir-sdk` objects to.
pub fn check(kind: &str, text: &str) -> Result<(), Objection> {
    let Some(reader) = reader(kind) else { return Ok(()) };
    reader(text).map_err(|error| Objection {
        line: error.line(),
        column: error.column(),
        reason: error.to_string(),
    })
}

fn read<T: DeserializeOwned>(text: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<T>(text).map(drop)
}

macro_rules! readers {
    ($($name:ident),* $(,)?) => {
        /// What reads resources of a type; `None` for types that R4B has dropped or redefined.
        fn reader(kind: &str) -> Option<fn(&str) -> Result<(), serde_json::Error>> {
            match kind {
                $(stringify!($name) => Some(read::<resources::$name>),)*
                _ => None,
            }
        }
    };
}

readers! {
    Account, ActivityDefinition, AdverseEvent, AllergyIntolerance, Appointment,
    AppointmentResponse, AuditEvent, Basic, Binary, BiologicallyDerivedProduct,
    BodyStructure, Bundle, CapabilityStatement, CarePlan, CareTeam, CatalogEntry,
    ChargeItem, ChargeItemDefinition, Claim, ClaimResponse, ClinicalImpression, CodeSystem,
    Communication, CommunicationRequest, CompartmentDefinition, Composition, ConceptMap,
    Condition, Consent, Contract, Coverage, CoverageEligibilityRequest,
    CoverageEligibilityResponse, DetectedIssue, Device, DeviceDefinition, DeviceMetric,
    DeviceRequest, DeviceUseStatement, DiagnosticReport, DocumentManifest,
    DocumentReference, Encounter, Endpoint, EnrollmentRequest, EnrollmentResponse,
    EpisodeOfCare, EventDefinition, ExampleScenario, ExplanationOfBenefit,
    FamilyMemberHistory, Flag, Goal, GraphDefinition, Group, GuidanceResponse,
    HealthcareService, ImagingStudy, Immunization, ImmunizationEvaluation,
    ImmunizationRecommendation, ImplementationGuide, InsurancePlan, Invoice, Library,
    Linkage, List, Location, Measure, MeasureReport, Media, Medication,
    MedicationAdministration, MedicationDispense, MedicationKnowledge, MedicationRequest,
    MedicationStatement, MessageDefinition, MessageHeader, MolecularSequence, NamingSystem,
    NutritionOrder, Observation, ObservationDefinition, OperationDefinition,
    OperationOutcome, Organization, OrganizationAffiliation, Parameters, Patient,
    PaymentNotice, PaymentReconciliation, Person, PlanDefinition, Practitioner,
    PractitionerRole, Procedure, Provenance, Questionnaire, QuestionnaireResponse,
    RelatedPerson, RequestGroup, ResearchDefinition, ResearchElementDefinition,
    ResearchStudy, ResearchSubject, RiskAssessment, Schedule, SearchParameter,
    ServiceRequest, Slot, Specimen, SpecimenDefinition, StructureDefinition, StructureMap,
    Subscription, Substance, SupplyDelivery, SupplyRequest, Task, TerminologyCapabilities,
    TestReport, TestScript, ValueSet, VerificationResult, VisionPrescription,
}
