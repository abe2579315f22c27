//! This module changes parts of a resource as a patch says: JSON Patch (RFC 6902), JSON Merge Patch
//! (RFC 7396), FHIRPath Patch (FHIR R4, fhirpatch).
//!
//! ```text
//! body -> Patch -- apply to a stored resource --> JSON -> checked as any resource that is sent
//! ```
//! What a patch does not touch stays to the letter. All of a patch is applied or nothing.

mod edit;
mod fhirpath;
mod parameters;
mod steps;

use bytes::Bytes;

use crate::invalid::{Invalid, Problem, ProblemSort};
use crate::json::{Document, Kind, Value};
use crate::kind::ResourceType;
use crate::limits;
use crate::resource::Resource;
use edit::Json;
use steps::JsonStep;

/// What is to be changed in a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch(Sort);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Sort {
    Json(Vec<JsonStep>),
    Merge(Json),
    Fhir(Vec<parameters::Operation>),
    /// Adds what is in a `meta`, or takes it away.
    Meta {
        adds: bool,
        meta: Json,
    },
}

/// The parts of `meta` that are lists, and the members by which their items are the same.
const META_LISTS: [(&str, &[&str]); 3] =
    [("profile", &[]), ("security", &["system", "code"]), ("tag", &["system", "code"])];

/// Why a patch does not go with a resource as it is (422).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", place(*step))]
pub struct Unpatchable {
    /// The operation of the patch, counted from 0; `None` if it is the whole.
    pub step: Option<usize>,
    /// Why not.
    pub reason: String,
}

fn place(step: Option<usize>) -> String {
    step.map_or_else(String::new, |step| format!("operation {step}: "))
}

impl Patch {
    /// Reads a JSON Patch: an array of operations.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(bytes: &[u8]) -> Result<Self, Invalid> {
        let document = Document::parse(bytes)?;
        steps::read(document.root()).map(Sort::Json).map(Self)
    }

    /// Reads a JSON Merge Patch: an object.
    ///
    /// # Errors
    /// When it is none.
    pub fn merge(bytes: &[u8]) -> Result<Self, Invalid> {
        Self::of_merge(Document::parse(bytes)?.root())
    }

    /// Reads whichever it is: an array is a JSON Patch, a Parameters resource a FHIRPath Patch, any
    /// other object a JSON Merge Patch.
    ///
    /// # Errors
    /// When it is none.
    pub fn any(bytes: &[u8]) -> Result<Self, Invalid> {
        let document = Document::parse(bytes)?;
        let root = document.root();
        let kind = root.member("resourceType").and_then(Value::string);
        match (root.kind(), kind.as_deref()) {
            (Kind::Array, _) => steps::read(root).map(Sort::Json).map(Self),
            (_, Some("Parameters")) => {
                Resource::parse(bytes)?;
                Self::of_parameters(root)
            }
            _ => Self::of_merge(root),
        }
    }

    /// Reads the Parameters of `$meta-add` or `$meta-delete` (FHIR R4, resource-operation-meta-add): what
    /// profiles, tags and security labels are added or taken away.
    ///
    /// # Errors
    /// When they hold no `meta`.
    pub fn meta(adds: bool, bytes: &[u8]) -> Result<Self, Invalid> {
        Resource::parse(bytes)?;
        let document = Document::parse(bytes)?;
        let root = document.root();
        let parameters = root.member("parameter").into_iter().flat_map(Value::children);
        let metas = parameters.filter_map(|parameter| parameter.member("valueMeta"));
        let meta = metas.into_iter().next();
        let meta =
            meta.ok_or_else(|| malformed(root, "a parameter with a valueMeta is missing"))?;
        Ok(Self(Sort::Meta { adds, meta: Json::of(meta) }))
    }

    fn of_merge(root: Value<'_>) -> Result<Self, Invalid> {
        if root.kind() != Kind::Object {
            return Err(malformed(root, "a JSON Merge Patch is an object"));
        }
        Ok(Self(Sort::Merge(Json::of(root))))
    }

    /// Of a Parameters resource that was checked.
    pub(crate) fn of_parameters(root: Value<'_>) -> Result<Self, Invalid> {
        parameters::read(root).map(Sort::Fhir).map(Self)
    }

    /// The resource as it is after the patch, as JSON. It may be no valid one: that is not looked at.
    ///
    /// # Errors
    /// When the patch does not go with it.
    pub fn apply(&self, kind: ResourceType, stored: &[u8]) -> Result<Bytes, Unpatchable> {
        let whole = |reason: String| Unpatchable { step: None, reason };
        let document = Document::parse(stored).map_err(|invalid| whole(invalid.to_string()))?;
        let mut resource = Json::of(document.root());
        match &self.0 {
            Sort::Json(all) => steps::apply(all, &mut resource)?,
            Sort::Merge(patch) => resource.merge(patch),
            Sort::Fhir(operations) => parameters::apply(operations, kind, &mut resource)?,
            Sort::Meta { adds, meta } => change_meta(&mut resource, *adds, meta),
        }
        let mut out = Vec::with_capacity(stored.len() + 256);
        resource.write(&mut out);
        if out.len() > limits::MAX_JSON_BYTES {
            return Err(whole(format!("it gets longer than {} bytes", limits::MAX_JSON_BYTES)));
        }
        Ok(out.into())
    }
}

/// Adds to `meta` what is not there, or takes away what is.
fn change_meta(resource: &mut Json, adds: bool, change: &Json) {
    if resource.member("meta").is_none() {
        resource.put("meta", Json::Object(Vec::new()));
    }
    let Some(meta) = resource.member_mut("meta") else { return };
    for (list, keys) in META_LISTS {
        let Some(Json::Array(changes)) = change.member(list) else { continue };
        let mut items = match meta.take(list) {
            Some(Json::Array(items)) => items,
            _ => Vec::new(),
        };
        let same = |one: &Json, other: &Json| match keys {
            [] => one == other,
            keys => keys.iter().all(|key| one.member(key) == other.member(key)),
        };
        for change in changes {
            items.retain(|item| adds || !same(item, change));
            if adds && !items.iter().any(|item| same(item, change)) {
                items.push(change.clone());
            }
        }
        if !items.is_empty() {
            meta.put(list, Json::Array(items));
        }
    }
}

/// What is sent is no patch.
fn malformed(value: Value<'_>, reason: impl Into<String>) -> Invalid {
    Invalid::new(vec![Problem::with(value, ProblemSort::Structure, reason.into())])
}

#[cfg(test)]
mod tests;
