//! This module states what the server can do (FHIR R4, CapabilityStatement): what works, no more.

use bytes::Bytes;
use chartmesh_record::{Place, RegionName, ResourceType, Timestamp};
use chartmesh_search::{Registry, Sort};
use serde::Serialize;

use crate::document::render;
use crate::media;

/// The software that answers, and where it runs.
pub(crate) struct About<'a> {
    pub(crate) software: &'a str,
    pub(crate) place: &'a Place,
    pub(crate) region: &'a RegionName,
    pub(crate) since: Timestamp,
}

#[derive(Serialize)]
#[serde(tag = "resourceType", rename = "CapabilityStatement", rename_all = "camelCase")]
struct CapabilityStatement<'a> {
    status: &'static str,
    date: String,
    kind: &'static str,
    software: Software<'a>,
    implementation: Implementation,
    fhir_version: &'static str,
    format: [&'static str; 2],
    patch_format: [&'static str; 3],
    rest: [Rest; 1],
}

#[derive(Serialize)]
struct Software<'a> {
    name: &'static str,
    version: &'a str,
}

#[derive(Serialize)]
struct Implementation {
    description: String,
}

#[derive(Serialize)]
struct Rest {
    mode: &'static str,
    documentation: &'static str,
    resource: Vec<Served>,
    interaction: [Interaction; 4],
    operation: [Operation; 1],
}

/// An operation, at the level at which it stands.
#[derive(Serialize)]
struct Operation {
    name: &'static str,
    /// What identifies it. There is no OperationDefinition to be fetched.
    definition: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    documentation: Option<&'static str>,
}

/// What is served of one type.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Served {
    #[serde(rename = "type")]
    kind: &'static str,
    interaction: [Interaction; 9],
    versioning: &'static str,
    read_history: bool,
    update_create: bool,
    conditional_create: bool,
    conditional_read: &'static str,
    conditional_update: bool,
    conditional_delete: &'static str,
    reference_policy: [&'static str; 3],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    search_include: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    search_rev_include: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    search_param: Vec<SearchParam>,
    operation: Vec<Operation>,
}

/// A search parameter.
#[derive(Serialize)]
struct SearchParam {
    name: String,
    definition: String,
    #[serde(rename = "type")]
    sort: &'static str,
}

#[derive(Serialize)]
struct Interaction {
    code: &'static str,
}

/// The types whose definitions are normative in R4.
const NORMATIVE: [&str; 11] = [
    "Binary",
    "Bundle",
    "CapabilityStatement",
    "CodeSystem",
    "Observation",
    "OperationDefinition",
    "OperationOutcome",
    "Parameters",
    "Patient",
    "StructureDefinition",
    "ValueSet",
];

/// What a terminology server would state more of (FHIR R4, TerminologyCapabilities).
#[derive(Serialize)]
#[serde(tag = "resourceType", rename = "TerminologyCapabilities", rename_all = "camelCase")]
struct TerminologyCapabilities<'a> {
    status: &'static str,
    date: String,
    description: &'static str,
    kind: &'static str,
    software: Software<'a>,
    implementation: Implementation,
    code_search: &'static str,
}

/// The statement about terminologies: what searches make of value sets.
pub(crate) fn terminology(about: &About<'_>) -> Bytes {
    let description = "Searches with :in and :not-in take value sets that are stored here and expanded, \
        or list their codes. There are no operations on terminologies.";
    render(&TerminologyCapabilities {
        status: "active",
        date: about.since.to_string(),
        description,
        kind: "instance",
        software: Software { name: "chartmesh", version: about.software },
        implementation: about.implementation(),
        code_search: "explicit",
    })
    .into()
}

/// The statement of this server.
pub(crate) fn statement(about: &About<'_>, registry: &Registry) -> Bytes {
    statement_of(about, registry, ResourceType::all())
}

/// The statement of this server about what is normative in R4.
pub(crate) fn normative(about: &About<'_>, registry: &Registry) -> Bytes {
    let kinds = ResourceType::all().filter(|kind| NORMATIVE.contains(&kind.as_str()));
    statement_of(about, registry, kinds)
}

impl About<'_> {
    fn implementation(&self) -> Implementation {
        let Place { node, site } = self.place;
        let description = format!("node {node} at site {site}, region {}", self.region);
        Implementation { description }
    }
}

fn statement_of(
    about: &About<'_>,
    registry: &Registry,
    kinds: impl Iterator<Item = ResourceType>,
) -> Bytes {
    render(&CapabilityStatement {
        status: "active",
        date: about.since.to_string(),
        kind: "instance",
        software: Software { name: "chartmesh", version: about.software },
        implementation: about.implementation(),
        fhir_version: "4.0.1",
        format: ["application/fhir+json", "json"],
        patch_format: media::PATCHES,
        rest: [Rest {
            mode: "server",
            documentation: DOCUMENTATION,
            resource: kinds.map(|kind| served(kind, registry)).collect(),
            interaction: ["transaction", "batch", "search-system", "history-system"]
                .map(|code| Interaction { code }),
            operation: [conflicts(Some(CONFLICTS))],
        }],
    })
    .into()
}

fn served(kind: ResourceType, registry: &Registry) -> Served {
    let interaction = [
        "read",
        "vread",
        "create",
        "update",
        "patch",
        "delete",
        "history-instance",
        "history-type",
        "search-type",
    ];
    Served {
        kind: kind.as_str(),
        interaction: interaction.map(|code| Interaction { code }),
        // If-Match is honoured, but not demanded.
        versioning: "versioned",
        read_history: true,
        update_create: true,
        conditional_create: true,
        conditional_read: "full-support",
        conditional_update: true,
        conditional_delete: "single",
        // References are kept as they are sent and not followed; those between the entries of a
        // transaction are rewritten.
        reference_policy: ["literal", "logical", "local"],
        search_include: includes(kind, registry),
        search_rev_include: ResourceType::all()
            .flat_map(|source| refer_to(source, kind, registry))
            .collect(),
        search_param: registry
            .parameters(kind)
            .map(|parameter| SearchParam {
                name: parameter.code().to_owned(),
                definition: parameter.url().to_owned(),
                sort: parameter.sort().as_str(),
            })
            .collect(),
        operation: operations(kind),
    }
}

/// The operations on a type and its resources.
fn operations(kind: ResourceType) -> Vec<Operation> {
    let of_r4 = |name, definition| Operation { name, definition, documentation: None };
    let own = match kind.as_str() {
        "Patient" => {
            Some(of_r4("everything", "http://hl7.org/fhir/OperationDefinition/Patient-everything"))
        }
        "Encounter" => Some(of_r4(
            "everything",
            "http://hl7.org/fhir/OperationDefinition/Encounter-everything",
        )),
        "Observation" => {
            Some(of_r4("lastn", "http://hl7.org/fhir/OperationDefinition/Observation-lastn"))
        }
        _ => None,
    };
    let of_all = [
        of_r4("meta", "http://hl7.org/fhir/OperationDefinition/Resource-meta"),
        of_r4("meta-add", "http://hl7.org/fhir/OperationDefinition/Resource-meta-add"),
        of_r4("meta-delete", "http://hl7.org/fhir/OperationDefinition/Resource-meta-delete"),
        of_r4("validate", "http://hl7.org/fhir/OperationDefinition/Resource-validate"),
    ];
    [conflicts(None)].into_iter().chain(of_all).chain(own).collect()
}

/// What resources of a type may bring along.
fn includes(kind: ResourceType, registry: &Registry) -> Vec<String> {
    let references = registry.parameters(kind).filter(|it| it.sort() == Sort::Reference);
    references.map(|parameter| format!("{kind}:{}", parameter.code())).collect()
}

/// The parameters by which resources of a type refer to those of another.
fn refer_to(source: ResourceType, kind: ResourceType, registry: &Registry) -> Vec<String> {
    let references = registry.parameters(source).filter(|it| it.targets().contains(&kind));
    references.map(|parameter| format!("{source}:{}", parameter.code())).collect()
}

fn conflicts(documentation: Option<&'static str>) -> Operation {
    let definition = "urn:chartmesh:operation:conflicts";
    Operation { name: "conflicts", definition, documentation }
}

const DOCUMENTATION: &str = "Every node of the mesh answers from its own copy; the headers \
    Chartmesh-State and Chartmesh-As-Of say how fresh it is. Reads of what the region has committed: \
    Prefer: chartmesh-consistency=linearizable; reads of what is not too old: Prefer: \
    chartmesh-max-staleness=SECONDS. What a write survives: Chartmesh-Durability. Where versions \
    stand beside each other, reads carry the tag urn:chartmesh|conflict and the header \
    Chartmesh-Conflict, which names them: sent back as If-Match it resolves the conflict. Retries \
    that write once: Idempotency-Key. Searches know the parameters listed here and those of active \
    SearchParameter resources, with their modifiers, chains and _has; and _list, _sort, _count, _total, \
    _summary, _elements, _include, _revinclude (:iterate) and, over all types, _type; not _text, _content, \
    _filter, _query and contained resources. :in and :not-in take value sets that are stored here and \
    expanded, or list their codes. Criteria of conditional interactions are any search, and strict. Pages \
    are linked forwards and backwards; a link holds at every node. Histories of a type and of the system \
    are in the order of arrival at this node: meta.lastUpdated of the answer is the next _since, and links \
    to pages hold here alone. Patches: JSON Patch, JSON Merge Patch and FHIRPath Patch, in bundles as a \
    Binary or as Parameters. Clients are not authenticated.";

const CONFLICTS: &str = "GET [base]/$conflicts, [base]/[type]/$conflicts and \
    [base]/[type]/[id]/$conflicts: what is in conflict, oldest first, as a searchset of Parameters, \
    one per conflict. Parameters: _count.";

#[cfg(test)]
mod tests {
    use super::*;
    use chartmesh_record::Resource;
    use serde_json::{Value, json};

    #[test]
    fn every_type_of_r4_is_listed_with_what_works() {
        let place = Place { node: "pac-1".parse().unwrap(), site: "yokota".parse().unwrap() };
        let region = "pac".parse().unwrap();
        let about =
            About { software: "1.2.3", place: &place, region: &region, since: Timestamp(0) };

        let registry = Registry::of_r4(0);

        let bytes = statement(&about, &registry);

        Resource::parse(&bytes).unwrap();
        let statement: Value = serde_json::from_slice(&bytes).unwrap();

        let resources = statement["rest"][0]["resource"].as_array().unwrap();
        let named: Vec<&str> = resources.iter().map(|r| r["type"].as_str().unwrap()).collect();
        let all: Vec<&str> = ResourceType::all().map(ResourceType::as_str).collect();
        assert_eq!(named, all);
        assert_eq!(statement["fhirVersion"], "4.0.1");
        let patient = resources.iter().find(|it| it["type"] == "Patient").unwrap();
        let birthdate = json!({
            "name": "birthdate",
            "definition": "http://hl7.org/fhir/SearchParameter/individual-birthdate",
            "type": "date",
        });
        assert!(patient["searchParam"].as_array().unwrap().contains(&birthdate));
        assert!(
            patient["searchRevInclude"].as_array().unwrap().contains(&json!("Observation:patient"))
        );
        let parameters = |it: &Value| it["searchParam"].as_array().unwrap().len();
        assert!(resources.iter().map(parameters).sum::<usize>() > 1_700);
    }
}
