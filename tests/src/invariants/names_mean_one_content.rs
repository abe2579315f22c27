//! This module judges that no version id ever names two contents: not in what was acknowledged, not in
//! what was read, not at any node in the end; though disks were emptied or set back meanwhile.

use std::collections::BTreeMap;

use crate::history::{Evidence, Mark, Register, Told, VersionId, Wish};

pub(super) fn check(evidence: &Evidence) -> Vec<String> {
    let mut meant: BTreeMap<(&Register, &VersionId), &Mark> = BTreeMap::new();
    let mut proofs = Vec::new();
    for (register, version, mark) in sightings(evidence) {
        let first = *meant.entry((register, version)).or_insert(mark);
        if first != mark {
            proofs.push(format!("{version:?} of {register:?} is {first:?} and {mark:?}"));
        }
    }
    proofs
}

/// Who was seen under which name.
fn sightings(evidence: &Evidence) -> Vec<(&Register, &VersionId, &Mark)> {
    let mut sightings = Vec::new();
    for operation in &evidence.operations {
        let Some(answer) = &operation.answer else { continue };
        match (&operation.wish, &answer.told, &answer.shown) {
            (_, Told::Written(versions), _) => {
                let mark = &operation.mark;
                sightings
                    .extend(versions.iter().map(|(register, version)| (register, version, mark)));
            }
            (
                Wish::Read(register) | Wish::ReadNewest(register),
                Told::Holds(Some(version)),
                Some(mark),
            ) => sightings.push((register, version, mark)),
            _ => {}
        }
    }
    for state in evidence.nodes.values() {
        for (register, versions) in &state.registers {
            sightings.extend(versions.iter().map(|held| (register, &held.version, &held.mark)));
        }
    }
    sightings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Operation;
    use crate::invariants::fixture::{evidence, operation, register, version, written};

    fn read(name: &str, shows: &str) -> Operation {
        let told = Told::Holds(Some(version(name)));
        let mut read = operation("read", Wish::Read(register("r")), (2, 3), told);
        read.answer.as_mut().expect("it was answered").shown = Some(Mark(shows.to_owned()));
        read
    }

    #[test]
    fn a_name_with_two_contents_is_a_violation_even_if_one_is_gone() {
        let check = |second: Operation, held: &str| {
            let operations = vec![written("m", "1-x", (0, 1)), second];
            check(&evidence(operations, &[("r", &[("1-x", held)])])).len()
        };

        assert_eq!(check(read("1-x", "m"), "m"), 0);
        assert_eq!(check(read("1-x", "n"), "m"), 1);
        assert_eq!(check(read("1-x", "m"), "n"), 1);
        assert_eq!(check(written("n", "1-x", (1, 2)), "m"), 1);
    }
}
