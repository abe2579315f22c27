//! This module judges that each acknowledged write is held at every node, as the version it was
//! acknowledged as, unless the disks are lost that its durability names.

use crate::history::{Answered, Evidence, Operation, Register, Told, VersionId};

pub(super) fn check(evidence: &Evidence) -> Vec<String> {
    let mut proofs = Vec::new();
    for operation in &evidence.operations {
        let Some(answer) = &operation.answer else { continue };
        let Told::Written(versions) = &answer.told else { continue };
        for (register, version) in versions {
            proofs.extend(check_one(evidence, operation, answer, (register, version)));
        }
    }
    proofs
}

fn check_one(
    evidence: &Evidence,
    operation: &Operation,
    answer: &Answered,
    (register, version): (&Register, &VersionId),
) -> Vec<String> {
    let mark = &operation.mark;
    let excused = evidence.may_be_lost(&version.orderer(), answer.at, answer.durability);
    let mut proofs = Vec::new();
    for (node, state) in &evidence.nodes {
        let held = state.registers.get(register).into_iter().flatten();
        match held.clone().find(|held| held.version == *version) {
            Some(held) if held.mark == *mark => {}
            Some(held) => proofs.push(format!(
                "{register:?} {version:?} was acknowledged to {mark:?} and is {:?} at {node:?}",
                held.mark
            )),
            None if excused => {}
            None => proofs.push(format!(
                "{register:?} {version:?} was acknowledged to {mark:?} ({:?}) and is lost at {node:?}",
                answer.durability
            )),
        }
    }
    proofs
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::history::NodeName;
    use crate::invariants::fixture::{evidence, journaled, place, written};

    #[test]
    fn a_lost_write_and_one_under_anothers_name_are_violations() {
        let acknowledged = vec![written("m", "1-x", (0, 1)), written("n", "2-x", (1, 2))];

        let held = evidence(acknowledged.clone(), &[("r", &[("1-x", "m"), ("2-x", "n")])]);
        let lost = evidence(acknowledged.clone(), &[("r", &[("1-x", "m")])]);
        let swapped = evidence(acknowledged, &[("r", &[("1-x", "n"), ("2-x", "m")])]);

        assert_eq!(check(&held), Vec::<String>::new());
        assert_eq!(check(&lost).len(), 1);
        assert_eq!(check(&swapped).len(), 2);
    }

    #[test]
    fn a_write_that_one_node_lacks_is_a_violation() {
        let mut evidence = evidence(vec![written("m", "1-x", (0, 1))], &[("r", &[("1-x", "m")])]);
        evidence.nodes.insert(NodeName("b".to_owned()), Default::default());

        assert_eq!(check(&evidence).len(), 1);
    }

    #[test]
    fn a_journal_may_be_lost_with_the_disk_that_it_was_on_and_with_no_other() {
        let acknowledged = vec![journaled(written("m", "1-pac-1.t", (0, 1)), "pac-1")];
        let mut evidence = evidence(acknowledged, &[("r", &[])]);
        evidence.places = [place("pac-1"), place("pac-2")].into();
        let mut lose = |node: &str| {
            evidence.lost_disks = vec![(NodeName(node.to_owned()), Duration::from_secs(5))];
            check(&evidence).len()
        };

        assert_eq!(lose("pac-2"), 1);
        assert_eq!(lose("pac-1"), 0);
    }
}
