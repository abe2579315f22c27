//! This module judges that all nodes end in the same state: horizons, digests, histories, heads, and
//! the conflicts that they list.

use crate::history::Evidence;

pub(super) fn check(evidence: &Evidence) -> Vec<String> {
    let mut nodes = evidence.nodes.iter();
    let Some((first, expected)) = nodes.next() else { return vec!["no node was asked".to_owned()] };
    let mut proofs = Vec::new();
    for (node, found) in nodes {
        if found.horizon != expected.horizon {
            let (one, other) = (&expected.horizon, &found.horizon);
            proofs.push(format!("{first:?} is at {one}, {node:?} at {other}"));
        }
        if found.digest != expected.digest {
            let (one, other) = (&expected.digest, &found.digest);
            proofs.push(format!("the digest of {first:?} is {one}, that of {node:?} {other}"));
        }
        for (register, versions) in &expected.registers {
            if found.registers.get(register) != Some(versions) {
                proofs.push(format!("{first:?} and {node:?} differ in {register:?}"));
            }
        }
        if found.heads != expected.heads {
            let (one, other) = (&expected.heads, &found.heads);
            proofs.push(format!("{first:?} has the heads {one:?}, {node:?} {other:?}"));
        }
        if found.conflicts != expected.conflicts {
            let (one, other) = (&expected.conflicts, &found.conflicts);
            proofs.push(format!("{first:?} lists conflicts of {one:?}, {node:?} of {other:?}"));
        }
    }
    proofs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::NodeName;
    use crate::invariants::fixture::evidence;

    #[test]
    fn a_node_that_lacks_a_version_or_has_another_digest_is_a_violation() {
        let mut evidence = evidence(Vec::new(), &[("r", &[("1-x", "m"), ("2-x", "n")])]);
        let mut other = evidence.nodes.values().next().expect("one").clone();
        evidence.nodes.insert(NodeName("b".to_owned()), other.clone());
        assert_eq!(check(&evidence), Vec::<String>::new());

        other.registers.values_mut().for_each(|versions| versions.truncate(1));
        other.digest.push('1');
        evidence.nodes.insert(NodeName("c".to_owned()), other);

        assert_eq!(check(&evidence).len(), 2);
    }
}
