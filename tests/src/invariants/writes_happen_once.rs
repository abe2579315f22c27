//! This module judges that no write happens twice, none that was refused happens at all, and each
//! version is the work of a write.
//!
//! A client that does not know what became of its write repeats it, perhaps at a node that is cut off from
//! where it happened. So it may happen once per orderer: what comes of it are twins. A journal that arrived
//! twice would show here.

use std::collections::BTreeMap;

use crate::history::{Evidence, Told};

pub(super) fn check(evidence: &Evidence) -> Vec<String> {
    let operations: BTreeMap<_, _> =
        evidence.operations.iter().map(|operation| (&operation.mark, operation)).collect();
    let mut proofs = Vec::new();
    for (register, versions) in evidence.registers() {
        let mut times = BTreeMap::new();
        for held in &versions {
            *times.entry((&held.mark, held.version.orderer())).or_insert(0) += 1;
        }
        for ((mark, orderer), times) in times {
            let Some(operation) = operations.get(mark) else {
                proofs.push(format!("nobody asked for {mark:?} in {register:?}"));
                continue;
            };
            if times > 1 {
                proofs.push(format!(
                    "{mark:?} was written {times} times to {register:?} by {orderer:?}"
                ));
            }
            if !operation.writes().contains(&register) {
                proofs.push(format!("{mark:?} was not meant for {register:?}"));
            }
            let refused = operation.answer.as_ref().filter(|answer| answer.told == Told::Refused);
            // Another orderer may have carried out an earlier attempt of which the client heard nothing.
            if refused.is_some_and(|answer| {
                evidence.decider(answer).is_none_or(|refuser| refuser == orderer)
            }) {
                proofs.push(format!("{mark:?} was refused and is held in {register:?}"));
            }
        }
    }
    proofs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Wish;
    use crate::invariants::fixture::{evidence, operation, register, unanswered, version, written};

    #[test]
    fn a_doubled_a_refused_and_an_unknown_write_are_violations() {
        let refused = Wish::Replace(register("r"), version("1-x"));
        let asked = vec![
            written("m", "1-x", (0, 1)),
            operation("no", refused, (0, 1), Told::Refused),
            unanswered("lost", Wish::Write(register("r")), 0),
        ];
        let check = |held: &[(&str, &str)]| check(&evidence(asked.clone(), &[("r", held)])).len();

        assert_eq!(check(&[("1-x", "m"), ("2-x", "lost")]), 0);
        assert_eq!(check(&[("1-x", "m"), ("2-x", "m")]), 1);
        assert_eq!(check(&[("1-pac.t", "m"), ("1-pac-1.t", "m")]), 0);
        assert_eq!(check(&[("1-pac-1.t", "m"), ("1-pac-1.u", "m")]), 1);
        assert_eq!(check(&[("1-x", "m"), ("2-x", "no")]), 1);
        assert_eq!(check(&[("1-x", "m"), ("2-x", "whose")]), 1);
    }
}
