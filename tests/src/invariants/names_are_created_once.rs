//! This module judges that conditional creates of one name make one resource, which all later ones
//! find. Where an isolated node took part, or may have, its result stands beside the region's, and a
//! later create may find two: then only the region is held to its own.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Answered, Durability, Evidence, Operation, Told, Wish};

pub(super) fn check(evidence: &Evidence) -> Vec<String> {
    let mut names: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in &evidence.operations {
        if let Wish::CreateOnce(name) = &operation.wish {
            names.entry(name).or_default().push(operation);
        }
    }
    let mut answers = evidence.operations.iter().filter_map(|operation| operation.answer.as_ref());
    let may_be_isolated = answers.any(is_journaled);
    let check = |(name, operations): (&str, Vec<_>)| check_name(name, &operations, may_be_isolated);
    names.into_iter().flat_map(check).collect()
}

/// Whether an isolated node took part.
fn is_journaled(answer: &Answered) -> bool {
    answer.isolated || answer.durability != Durability::Region
}

fn check_name(name: &str, operations: &[&Operation], may_be_isolated: bool) -> Vec<String> {
    let mut ids = BTreeSet::new();
    let mut creators = Vec::new();
    let answers = || operations.iter().filter_map(|operation| operation.answer.as_ref());
    for operation in operations {
        if let Some(Told::Stands { id, created }) = operation.told() {
            ids.insert(id);
            let by_region = operation.answer.as_ref().is_some_and(|answer| !is_journaled(answer));
            creators.extend((*created && by_region).then_some(*operation));
        }
    }
    let unknown = operations.iter().any(|operation| operation.answer.is_none());
    let by_others = answers().any(is_journaled) || (unknown && may_be_isolated);
    let of_one_orderer = !by_others;
    let mut proofs = Vec::new();
    if of_one_orderer && answers().any(|answer| answer.told == Told::Refused) {
        proofs.push(format!("{name} was found more than once"));
    }
    if of_one_orderer && ids.len() > 1 {
        proofs.push(format!("{name} stands as {ids:?}"));
    }
    if creators.len() > 1 {
        let marks: Vec<_> = creators.iter().map(|operation| &operation.mark).collect();
        proofs.push(format!("{name} was created by {marks:?}"));
    }
    if of_one_orderer && creators.is_empty() && !ids.is_empty() && !unknown {
        proofs.push(format!("{name} was found, and nobody created it"));
    }
    proofs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::fixture::{evidence, journaled, operation};

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

    #[test]
    fn what_an_isolated_node_creates_stands_beside_what_the_region_does() {
        let create = |mark: &str, id: &str| {
            let told = Told::Stands { id: id.to_owned(), created: true };
            operation(mark, Wish::CreateOnce("n".to_owned()), (0, 1), told)
        };
        let twice = || operation("o", Wish::CreateOnce("n".to_owned()), (2, 3), Told::Refused);
        let check = |operations| check(&evidence(operations, &[])).len();

        assert_eq!(check(vec![create("m", "1"), journaled(create("n", "2"), "pac-1"), twice()]), 0);
        assert_eq!(check(vec![create("m", "1"), twice()]), 1);
    }
}
