//! This module reads SearchParameter resources (FHIR R4): parameters beside those of R4.
//!
//! One is used if it is active, its expression is in the subset that this crate understands, and R4 has
//! no parameter of that name for the type: what R4 says stands.

use std::collections::BTreeMap;

use chartmesh_record::{FieldName, Node, ResourceType, Tree};
use sha2::{Digest, Sha256};

use crate::definitions;
use crate::limits;
use crate::parameter::{Parameter, Sort, Source};

/// Parameters that SearchParameter resources define, by type and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Added(BTreeMap<(ResourceType, String), Source>);

impl Added {
    /// Takes in what a stored SearchParameter defines. Of two with one name the first counts.
    ///
    /// # Errors
    /// Says why it is not used.
    pub fn take(&mut self, stored: &[u8]) -> Result<(), String> {
        let tree = Tree::parse(stored).ok_or("it is not a resource")?;
        let root = tree.root();
        if text(root, "status").as_deref() != Some("active") {
            return Err("it is not active".to_owned());
        }
        let need = |name| text(root, name).ok_or_else(|| format!("it has no {name}"));
        let (code, sort, url) = (need("code")?, need("type")?, need("url")?);
        let expression = need("expression")?;
        if matches!(Sort::parse(&sort), None | Some(Sort::Composite | Sort::Special)) {
            return Err(format!("parameters of type {sort} cannot be added"));
        }
        if expression.len() > limits::EXPRESSION_BYTES {
            return Err("its expression is too long".to_owned());
        }
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if code.is_empty() || !code.bytes().all(letters) {
            return Err(format!("{code:?} is not the name of a parameter"));
        }
        let targets = items(root, "target").filter_map(|it| it.text()?.parse().ok()).collect();
        let source = Source { code, sort, url, targets, expression, components: Vec::new() };
        for base in items(root, "base") {
            let base = base.text().unwrap_or_default();
            let kind: ResourceType =
                base.parse().map_err(|_| format!("{base} is not a type of resource"))?;
            if definitions::parameters(kind).iter().any(|known| known.code() == source.code) {
                continue;
            }
            let parameter = source.clone().compile(kind).map_err(|invalid| invalid.to_string())?;
            if parameter.paths().is_empty() {
                return Err(format!("its expression leads to no {} values", source.sort));
            }
            if self.0.len() == limits::ADDED_PARAMETERS {
                return Err("there are as many added parameters as there may be".to_owned());
            }
            self.0.entry((kind, source.code.clone())).or_insert_with(|| source.clone());
        }
        Ok(())
    }

    /// A line for each: its type, its name, and a hash of what it is.
    #[must_use]
    pub fn lines(&self) -> String {
        let line = |((kind, code), source): (&(ResourceType, String), &Source)| {
            let digest: [u8; 32] = Sha256::digest(format!("{source:?}")).into();
            let digest: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{kind} {code} {digest}\n")
        };
        self.0.iter().map(line).collect()
    }

    /// Type and name of each.
    pub(crate) fn names(&self) -> impl Iterator<Item = &(ResourceType, String)> {
        self.0.keys()
    }

    /// Those of a type.
    pub(crate) fn of(&self, kind: ResourceType) -> Vec<Parameter> {
        let own = self.0.iter().filter(|((of, _), _)| *of == kind);
        own.map(|(_, source)| source.clone().compile(kind).expect("it was compiled before"))
            .collect()
    }
}

fn text(node: Node<'_>, name: &str) -> Option<String> {
    Some(node.member(&FieldName::new(name))?.text()?.into_owned())
}

fn items<'t>(node: Node<'t>, name: &str) -> impl Iterator<Item = Node<'t>> {
    node.member(&FieldName::new(name)).into_iter().flat_map(Node::items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    const RACE: &str = r#"{"resourceType":"SearchParameter","id":"race","status":"active","code":"race","type":"token","url":"http://hl7.org/fhir/us/core/SearchParameter/us-core-race","base":["Patient"],"expression":"Patient.extension.where(url = 'http://hl7.org/fhir/us/core/StructureDefinition/us-core-race').extension.value.code"}"#;

    fn kind(name: &str) -> ResourceType {
        name.parse().expect("a type")
    }

    #[test]
    fn what_r4_lacks_is_added_and_what_it_has_stands() {
        let mut added = Added::default();
        added.take(RACE.as_bytes()).expect("usable");
        let own = RACE.replace("\"race\"", "\"birthdate\"").replace("token", "date");
        added.take(own.as_bytes()).expect("usable");

        let registry = Registry::of_r4(0).with(added.clone(), "");

        assert_eq!(added.lines().lines().count(), 1);
        assert!(registry.parameter(kind("Patient"), "race").is_none(), "it is not indexed yet");
        assert!(registry.is_unindexed(kind("Patient"), "race"));
        let registry = Registry::of_r4(0).with(added.clone(), &added.lines());
        assert!(registry.parameter(kind("Patient"), "race").is_some());
        let birthdate = registry.parameter(kind("Patient"), "birthdate").expect("R4 has it");
        assert_eq!(birthdate.url(), "http://hl7.org/fhir/SearchParameter/individual-birthdate");
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_a_reason() {
        let check = |from: &str, to: &str, expected: &str| {
            let text = RACE.replace(from, to);
            let reason = Added::default().take(text.as_bytes()).expect_err(&text);
            assert!(reason.contains(expected), "{reason}");
        };

        check("active", "draft", "not active");
        check("\"token\"", "\"composite\"", "composite");
        check("[\"Patient\"]", "[\"Nonsense\"]", "Nonsense");
        check("Patient.extension.where", "Patient.nonsense.where", "nonsense");
        check("\"code\":\"race\"", "\"code\":\"a b\"", "a b");
        check(".extension.value.code", ".extension.value.iif(x)", "expression");
    }
}
