//! This module judges that each acknowledged write is held, as the version it was acknowledged as.

use crate::history::{Evidence, Told};

pub(super) fn check(evidence: &Evidence) -> Vec<String> {
    let registers = evidence.registers();
    let mut proofs = Vec::new();
    for operation in &evidence.operations {
        let Some(Told::Written(versions)) = operation.told() else { continue };
        for (register, version) in versions {
            let held = registers.get(register).into_iter().flatten();
            let found = held.clone().find(|held| held.version == *version);
            match found {
                Some(held) if held.mark == operation.mark => {}
                Some(held) => proofs.push(format!(
                    "{register:?} {version:?} was acknowledged to {:?} and is {:?}",
                    operation.mark, held.mark
                )),
                None => proofs.push(format!(
                    "{register:?} {version:?} was acknowledged to {:?} and is lost",
                    operation.mark
                )),
            }
        }
    }
    proofs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::fixture::{evidence, written};

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
}
