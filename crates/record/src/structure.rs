//! This module takes a second opinion on a resource: what `fhir-sdk` objects to.
//!
//! `fhir-sdk` knows FHIR R4B (4.3.0). Where that differs from R4, and where it asks for more than the
//! specification does, its objection is set aside: the table of R4 has decided already.

use chartmesh_structure::Objection;

use crate::json::Value;
use crate::kind::ResourceType;

/// What the second opinion objects to, and the value in the resource at which it stopped reading.
pub(crate) fn objection(kind: ResourceType, resource: Value<'_>) -> Option<(Value<'_>, String)> {
    let text = resource.text();
    let objection = chartmesh_structure::check(kind.as_str(), text).err()?;
    if is_set_aside(&objection.reason) {
        return None;
    }
    let place = resource.span().start + byte(text, &objection);
    Some((resource.at(place), objection.reason))
}

/// Whether an objection is about something that the table of R4 decides: a required primitive, alone
/// or in a choice, that is given by its extensions; a code that R4B does not have; a type that R4B
/// has dropped; a decimal that no `f64` holds.
fn is_set_aside(reason: &str) -> bool {
    [
        "missing field",
        "no variant of enum",
        "Unknown value",
        "unknown variant",
        "number out of range",
    ]
    .iter()
    .any(|beginning| reason.starts_with(beginning))
}

/// The byte of the text at which reading stopped.
fn byte(text: &str, objection: &Objection) -> usize {
    let lines_before = text.split_inclusive('\n').take(objection.line.saturating_sub(1));
    let start: usize = lines_before.map(str::len).sum();
    start + objection.column.saturating_sub(1)
}

#[cfg(test)]
mod tests;
