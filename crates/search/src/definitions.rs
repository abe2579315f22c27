//! This module holds the search parameters of FHIR R4 (4.0.1), its compartments, and the systems of its
//! codes.
//!
//! They come from `definitions/*.txt`, made from the official definitions by `definitions/generate.py`.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use chartmesh_record::ResourceType;

use crate::parameter::{Parameter, Source};

static PARAMETERS: &str = include_str!("../definitions/parameters.txt");
static COMPARTMENTS: &str = include_str!("../definitions/compartments.txt");
static SYSTEMS: &str = include_str!("../definitions/systems.txt");

static SYSTEM_OF: LazyLock<HashMap<&'static str, &'static str>> =
    LazyLock::new(|| SYSTEMS.lines().filter_map(|line| line.split_once(' ')).collect());

/// The system of the codes of a value set, if they are all of one.
pub(crate) fn system_of(value_set: &str) -> Option<&'static str> {
    SYSTEM_OF.get(value_set).copied()
}

/// The parameters of R4 for resources of a type, those of every type included.
pub(crate) fn parameters(kind: ResourceType) -> Vec<Parameter> {
    let everybody = ["Resource", "DomainResource"];
    let is_meant = |base: &str| base == kind.as_str() || everybody.contains(&base);
    let paragraphs = PARAMETERS.split("\n\n").filter_map(|paragraph| paragraph.split_once('\n'));
    let lines = paragraphs.filter(|(base, _)| is_meant(base)).flat_map(|(_, lines)| lines.lines());
    // `Bundle`, `Binary` and `Parameters` are no DomainResource and lack nothing of what those have.
    let parameters = lines.map(|line| source(line).compile(kind));
    parameters.map(|parameter| parameter.expect("a parameter of R4 can be compiled")).collect()
}

fn source(line: &'static str) -> Source {
    let mut columns = line.split('\t').map(str::to_owned);
    let mut next = || columns.next().expect("a line has five columns");
    let (code, sort, id) = (next(), next(), next());
    let targets = next().split(',').filter_map(|name| name.parse().ok()).collect();
    let expression = next();
    let components = columns
        .map(|column| {
            let (sort, expression) = column.split_once('=').expect("a component has a type");
            (sort.to_owned(), expression.to_owned())
        })
        .collect();
    let url = format!("http://hl7.org/fhir/SearchParameter/{id}");
    Source { code, sort, url, targets, expression, components }
}

/// The compartments: by their type and the type of a resource, the parameters by which the resource
/// belongs to one. The one that is called `{def}` is the resource itself.
pub(crate) fn compartments() -> BTreeMap<(ResourceType, ResourceType), Vec<&'static str>> {
    let mut compartments = BTreeMap::new();
    for paragraph in COMPARTMENTS.trim_end().split("\n\n") {
        let (compartment, lines) = paragraph.split_once('\n').expect("a compartment has types");
        let compartment = compartment.parse().expect("a type");
        for line in lines.lines() {
            let mut words = line.split(' ');
            let kind = words.next().and_then(|kind| kind.parse().ok()).expect("a type");
            compartments.insert((compartment, kind), words.collect());
        }
    }
    compartments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_of_every_type_can_be_compiled() {
        let everybodys = 6;
        let count: usize =
            ResourceType::all().map(|kind| parameters(kind).len() - everybodys).sum();
        let lines = PARAMETERS.lines().filter(|line| line.contains('\t')).count();

        assert_eq!(lines, 1_703);
        assert_eq!(count + everybodys, lines);
    }

    #[test]
    fn every_parameter_has_a_path_to_values_of_its_sort() {
        for kind in ResourceType::all() {
            for parameter in parameters(kind) {
                assert!(!parameter.paths().is_empty(), "{kind} {}", parameter.code());
                assert!(parameter.components_have_values(), "{kind} {}", parameter.code());
            }
        }
    }

    #[test]
    fn compartments_name_parameters_that_there_are() {
        for ((compartment, kind), codes) in compartments() {
            let known = parameters(kind);
            for code in codes.into_iter().filter(|code| *code != "{def}") {
                let parameter = known.iter().find(|parameter| parameter.code() == code);
                assert!(parameter.is_some(), "{compartment}: {kind} has no {code}");
            }
        }
    }

    #[test]
    fn codes_of_required_bindings_have_their_system() {
        assert_eq!(
            system_of("administrative-gender"),
            Some("http://hl7.org/fhir/administrative-gender")
        );
        assert_eq!(system_of("nonsense"), None);
    }
}
