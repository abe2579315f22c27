//! This module judges that reads at one node never go back: not behind a write or a read that the
//! node has answered before, while it was not started again in between.

use std::collections::BTreeMap;

use crate::history::{
    Answered, Durability, Evidence, Instant, NodeName, Operation, Register, Told, VersionId, Wish,
};

/// At a node, at an instant, a register was known to be at this place of its versions.
struct Sight<'e> {
    node: &'e NodeName,
    register: &'e Register,
    asked: Instant,
    answered: Instant,
    place: usize,
    is_read: bool,
}

pub(super) fn check(evidence: &Evidence) -> Vec<String> {
    let registers = evidence.registers();
    let places: BTreeMap<_, _> = registers
        .iter()
        .flat_map(|(register, versions)| {
            let named = versions.iter().enumerate();
            named.map(move |(place, held)| ((register, &held.version), place + 1))
        })
        .collect();
    let mut sights: Vec<Sight<'_>> = Vec::new();
    let mut proofs = Vec::new();
    for operation in &evidence.operations {
        let Some(answer) = &operation.answer else { continue };
        for (register, version) in versions(operation, answer) {
            let place = match version {
                Some(version) => places.get(&(register, version)).copied(),
                None => Some(0),
            };
            let Some(place) = place else {
                // A journal may be lost with the disk that it was on.
                let lost = |version: &VersionId| {
                    let orderer = version.orderer();
                    evidence.is_journal(&orderer)
                        && evidence.may_be_lost(&orderer, answer.at, Durability::Node)
                };
                if version.is_some_and(lost) {
                    continue;
                }
                proofs.push(format!("{:?} saw {version:?}, which never was", operation.mark));
                continue;
            };
            let is_read = matches!(answer.told, Told::Holds(_));
            let (node, asked, answered) = (&answer.by, operation.asked, answer.at);
            sights.push(Sight { node, register, asked, answered, place, is_read });
        }
    }
    proofs.extend(steps_back(&sights, &evidence.restarts));
    proofs
}

fn versions<'e>(
    operation: &'e Operation,
    answer: &'e Answered,
) -> Vec<(&'e Register, Option<&'e VersionId>)> {
    match (&operation.wish, &answer.told) {
        (Wish::Read(register) | Wish::ReadNewest(register), Told::Holds(version)) => {
            vec![(register, version.as_ref())]
        }
        (_, Told::Written(versions)) if answer.applied => {
            versions.iter().map(|(register, version)| (register, Some(version))).collect()
        }
        _ => Vec::new(),
    }
}

fn steps_back(sights: &[Sight<'_>], restarts: &[(NodeName, Instant)]) -> Vec<String> {
    let mut by_place: BTreeMap<_, Vec<&Sight<'_>>> = BTreeMap::new();
    for sight in sights {
        by_place.entry((sight.node, sight.register)).or_default().push(sight);
    }
    let restarted = |node: &NodeName, from: Instant, to: Instant| {
        restarts.iter().any(|(which, at)| which == node && from <= *at && *at <= to)
    };
    let mut proofs = Vec::new();
    for ((node, register), mut sights) in by_place {
        sights.sort_by_key(|sight| sight.answered);
        for (number, later) in sights.iter().enumerate().filter(|(_, sight)| sight.is_read) {
            let newest = sights[..number]
                .iter()
                .filter(|sight| sight.answered < later.asked)
                .filter(|sight| !restarted(node, sight.answered, later.answered))
                .map(|sight| sight.place)
                .max();
            if newest > Some(later.place) {
                proofs.push(format!(
                    "{node:?} showed version {} of {register:?} at {:?}, after version {}",
                    later.place,
                    later.answered,
                    newest.unwrap_or_default()
                ));
            }
        }
    }
    proofs
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::invariants::fixture::{evidence, operation, register, version, written};

    fn read(mark: &str, name: &str, window: (u64, u64)) -> Operation {
        let told = Told::Holds(Some(version(name)));
        operation(mark, Wish::Read(register("r")), window, told)
    }

    #[test]
    fn a_read_behind_a_write_or_a_read_at_the_same_node_is_a_violation() {
        let held: &[(&str, &[(&str, &str)])] = &[("r", &[("1-x", "m"), ("2-x", "n")])];
        let check = |operations| check(&evidence(operations, held)).len();

        assert_eq!(check(vec![written("m", "1-x", (0, 1)), read("a", "1-x", (2, 3))]), 0);
        assert_eq!(check(vec![written("n", "2-x", (0, 1)), read("a", "1-x", (2, 3))]), 1);
        assert_eq!(check(vec![read("a", "2-x", (0, 1)), read("b", "1-x", (2, 3))]), 1);
        assert_eq!(check(vec![read("a", "2-x", (0, 2)), read("b", "1-x", (1, 3))]), 0);
        assert_eq!(check(vec![read("a", "9-x", (0, 1))]), 1);
    }

    #[test]
    fn a_node_that_was_started_again_may_catch_up() {
        let operations = vec![read("a", "2-x", (0, 1)), read("b", "1-x", (9, 10))];
        let mut evidence = evidence(operations, &[("r", &[("1-x", "m"), ("2-x", "n")])]);
        evidence.restarts.push((NodeName("a".to_owned()), Duration::from_millis(5)));

        assert_eq!(check(&evidence), Vec::<String>::new());
    }
}
