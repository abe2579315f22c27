//! This module judges that conditional creates of one name make one resource, which all later ones
//! find.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Evidence, Operation, Told, Wish};

pub(super) fn check(evidence: &Evidence) -> Vec<String> {
    let mut names: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in &evidence.operations {
        if let Wish::CreateOnce(name) = &operation.wish {
            names.entry(name).or_default().push(operation);
        }
    }
    names.into_iter().flat_map(|(name, operations)| check_name(name, &operations)).collect()
}

fn check_name(name: &str, operations: &[&Operation]) -> Vec<String> {
    let mut ids = BTreeSet::new();
    let mut creators = Vec::new();
    for operation in operations {
        if let Some(Told::Stands { id, created }) = operation.told() {
            ids.insert(id);
            creators.extend(created.then_some(*operation));
        }
    }
    let unknown = operations.iter().any(|operation| operation.answer.is_none());
    let mut proofs = Vec::new();
    if ids.len() > 1 {
        proofs.push(format!("{name} stands as {ids:?}"));
    }
    if creators.len() > 1 {
        let marks: Vec<_> = creators.iter().map(|operation| &operation.mark).collect();
        proofs.push(format!("{name} was created by {marks:?}"));
    }
    if creators.is_empty() && !ids.is_empty() && !unknown {
        proofs.push(format!("{name} was found, and nobody created it"));
    }
    proofs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::fixture::{evidence, operation};

    #[test]
    fn two_creators_two_ids_and_no_creator_are_violations() {
        let check = |answers: &[(&str, bool)]| {
            let operations = answers.iter().enumerate().map(|(mark, &(id, created))| {
                let told = Told::Stands { id: id.to_owned(), created };
                operation(&mark.to_string(), Wish::CreateOnce("n".to_owned()), (0, 1), told)
            });
            check(&evidence(operations.collect(), &[])).len()
        };

        assert_eq!(check(&[("1", true), ("1", false)]), 0);
        assert_eq!(check(&[("1", true), ("1", true)]), 1);
        assert_eq!(check(&[("1", true), ("2", false)]), 1);
        assert_eq!(check(&[("1", false)]), 1);
    }
}
