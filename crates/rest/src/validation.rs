//! This module answers `$validate` (FHIR R4, resource-operation-validate): whether a resource would be taken
//! by a create or an update, by the structure that R4 gives its type. Profiles are not looked at, and the
//! answer says so where one is asked for.

use bytes::Bytes;
use chartmesh_record::{FieldName, Invalid, Resource, ResourceKey, ResourceType, Tree};

use crate::answer::{Answer, note, problems};
use crate::document::{Issue, OperationOutcome, render};

/// What is to be validated as what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Validating {
    pub(crate) kind: ResourceType,
    /// The resource that it would be an update of.
    pub(crate) key: Option<ResourceKey>,
    /// Whether profiles are named in the URL.
    pub(crate) profile: Option<String>,
}

/// What is said about a resource, or about the one in a Parameters resource.
pub(crate) fn answer(validating: &Validating, body: &[u8]) -> Answer {
    let tree = Tree::parse(body);
    let parameters = tree.as_ref().and_then(|tree| {
        let named = tree.root().member(&FieldName::new("resourceType"))?.text()?;
        let is_asked = named == "Parameters" && validating.kind.as_str() != "Parameters";
        is_asked.then(|| tree.root())
    });
    let Some(parameters) = parameters else {
        let profile = validating.profile.clone();
        return of(validating, Resource::parse(body), profile);
    };
    let name = |text: &str| FieldName::new(text);
    let list = parameters.member(&name("parameter"));
    let (mut resource, mut profile) = (None, None);
    for parameter in list.into_iter().flat_map(|list| list.items()) {
        let value = |names: &[&str]| {
            names.iter().find_map(|it| parameter.member(&name(it))?.text().map(String::from))
        };
        match parameter.member(&name("name")).and_then(|it| it.text()).as_deref() {
            Some("resource") => resource = parameter.member(&name("resource")),
            Some("profile") => profile = value(&["valueUri", "valueCanonical", "valueUrl"]),
            _ => {}
        }
    }
    match resource {
        Some(resource) => {
            // Places would be those within the resource alone.
            let parsed = Resource::parse(resource.source().as_bytes());
            of(
                validating,
                parsed.map_err(Invalid::unplaced),
                profile.or(validating.profile.clone()),
            )
        }
        None => {
            let text = "the Parameters have no parameter \"resource\" to validate".to_owned();
            said(vec![note("error", "required", text)])
        }
    }
}

fn of(
    validating: &Validating,
    resource: Result<Resource, Invalid>,
    profile: Option<String>,
) -> Answer {
    let mut issues = match resource {
        Err(invalid) => problems(&invalid),
        Ok(resource) if resource.kind() != validating.kind => {
            let text = format!("this is a {}, not a {}", resource.kind(), validating.kind);
            vec![note("error", "value", text)]
        }
        Ok(resource) => match &validating.key {
            Some(key) if resource.id() != Some(&key.id) => {
                let text = format!("an update of {key} must have its id");
                vec![note("error", "value", text)]
            }
            _ => {
                let text = format!("as a {} of R4 it would be taken", resource.kind());
                vec![note("information", "informational", text)]
            }
        },
    };
    if let Some(profile) = profile {
        let text = format!("whether it is as the profile {profile} says was not looked at");
        issues.push(note("warning", "not-supported", text));
    }
    said(issues)
}

fn said(issues: Vec<Issue>) -> Answer {
    Answer::document(Bytes::from(render(&OperationOutcome { issue: issues })))
}
