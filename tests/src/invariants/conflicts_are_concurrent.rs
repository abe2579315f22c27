//! This module judges that a register is in conflict exactly where its heads are concurrent, by what
//! those who wrote them had seen.
//!
//! Who named versions superseded those and no others. Who named none superseded the version that was
//! current where it was decided: which one that was is not seen from outside, but it was one, of a lower
//! generation. So a version that is no head needs a write of its own that can have superseded it; and a
//! version on which its orderer directly went on is no head.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Evidence, Held, Mark, Operation, Register, VersionId, Wish};

/// The writes, by their marks.
type Writes<'e> = BTreeMap<&'e Mark, &'e Operation>;

pub(super) fn check(evidence: &Evidence) -> Vec<String> {
    let writes: Writes<'_> =
        evidence.operations.iter().map(|operation| (&operation.mark, operation)).collect();
    let mut proofs = Vec::new();
    for (node, state) in &evidence.nodes {
        for (register, heads) in &state.heads {
            let versions = state.registers.get(register).map(Vec::as_slice).unwrap_or_default();
            let case = Case { register, versions, heads, writes: &writes };
            let whole = evidence.lost_disks.is_empty();
            let found = case.check(whole, heads.len() > 1, state.conflicts.contains(register));
            proofs.extend(found.into_iter().map(|proof| format!("{node:?}: {proof}")));
        }
    }
    proofs
}

/// One register at one node.
struct Case<'e> {
    register: &'e Register,
    versions: &'e [Held],
    heads: &'e BTreeSet<VersionId>,
    writes: &'e Writes<'e>,
}

impl<'e> Case<'e> {
    /// `whole`: no disk was lost, so that nothing was ever held that is not held now.
    fn check(&self, whole: bool, is_conflict: bool, is_listed: bool) -> Vec<String> {
        let mut proofs = Vec::new();
        let register = self.register;
        if is_conflict != is_listed {
            proofs.push(format!(
                "{register:?} has the heads {:?}; $conflicts names it: {is_listed}",
                self.heads
            ));
        }
        for version in self.named() {
            if self.heads.contains(version) {
                proofs.push(format!("{version:?} of {register:?} was replaced and is a head"));
            }
        }
        if whole {
            proofs.extend(self.false_heads());
        }
        proofs.extend(self.dropped_heads());
        proofs
    }

    /// The versions that held writes have named, and so superseded.
    fn named(&self) -> BTreeSet<&'e VersionId> {
        let writes = self.versions.iter().filter_map(|held| self.writes.get(&held.mark));
        writes
            .flat_map(|write| match &write.wish {
                Wish::Replace(_, version) => vec![version],
                Wish::Resolve(_, versions) => versions.iter().collect(),
                _ => Vec::new(),
            })
            .collect()
    }

    fn names_none(&self, held: &Held) -> bool {
        let wish = self.writes.get(&held.mark).map(|write| &write.wish);
        matches!(wish, Some(Wish::Write(_) | Wish::WriteTogether(_)))
    }

    /// Heads on which their own orderer went on: it held them, and nothing newer or as new.
    fn false_heads(&self) -> Vec<String> {
        let mut per_orderer: BTreeMap<_, Vec<&Held>> = BTreeMap::new();
        for held in self.versions {
            per_orderer.entry(held.version.orderer()).or_default().push(held);
        }
        let alone = |generation: u64| {
            self.versions.iter().filter(|held| held.version.generation() == generation).count() == 1
        };
        let mut proofs = Vec::new();
        for versions in per_orderer.values_mut() {
            versions.sort_by_key(|held| held.version.generation());
            for pair in versions.windows(2) {
                let (earlier, later) = (&pair[0].version, &pair[1].version);
                let goes_on = later.generation() == earlier.generation() + 1;
                if goes_on
                    && alone(earlier.generation())
                    && self.names_none(pair[1])
                    && self.heads.contains(earlier)
                {
                    let register = self.register;
                    proofs.push(format!("{earlier:?} of {register:?} is a head beside {later:?}"));
                }
            }
        }
        proofs
    }

    /// Versions that are no heads although nothing can have superseded them.
    fn dropped_heads(&self) -> Vec<String> {
        let named = self.named();
        // Twins count as one: where one of them stands, both do; what supersedes one supersedes both.
        let mut twins: BTreeMap<&Mark, Vec<&VersionId>> = BTreeMap::new();
        for held in self.versions {
            twins.entry(&held.mark).or_default().push(&held.version);
        }
        let mut gone: Vec<u64> = twins
            .values()
            .filter(|twins| !twins.iter().any(|version| self.heads.contains(*version)))
            .filter(|twins| !twins.iter().any(|version| named.contains(version)))
            .filter_map(|twins| twins.iter().map(|version| version.generation()).min())
            .collect();
        gone.sort_unstable();
        let blind = self.versions.iter().filter(|held| self.names_none(held));
        let blind: Vec<u64> = blind.map(|held| held.version.generation()).collect();
        let mut proofs = Vec::new();
        for (number, generation) in gone.iter().enumerate() {
            let need = gone.len() - number;
            let there = blind.iter().filter(|later| *later > generation).count();
            if there < need {
                let (register, heads) = (self.register, self.heads);
                proofs.push(format!(
                    "{need} versions of {register:?} from generation {generation} on are no heads, and \
                     {there} writes can have superseded them; heads: {heads:?}"
                ));
            }
        }
        proofs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::fixture::{evidence, register, unanswered, version};

    fn blind(mark: &str) -> Operation {
        unanswered(mark, Wish::Write(register("r")), 0)
    }

    fn replace(mark: &str, named: &str) -> Operation {
        unanswered(mark, Wish::Replace(register("r"), version(named)), 0)
    }

    fn check_heads(asked: &[Operation], held: &[(&str, &str)], heads: &[&str]) -> usize {
        let mut evidence = evidence(asked.to_vec(), &[("r", held)]);
        let state = evidence.nodes.values_mut().next().expect("one node");
        state.heads = [(register("r"), heads.iter().map(|head| version(head)).collect())].into();
        if heads.len() > 1 {
            state.conflicts.insert(register("r"));
        }
        check(&evidence).len()
    }

    #[test]
    fn a_concurrent_head_that_is_dropped_is_a_violation() {
        let asked = [blind("l"), blind("m"), blind("n")];
        let held = [("1-a.t", "l"), ("2-a.t", "m"), ("2-b.t", "n")];

        assert_eq!(check_heads(&asked, &held, &["2-a.t", "2-b.t"]), 0);
        assert!(check_heads(&asked, &held, &["2-b.t"]) > 0);
    }

    #[test]
    fn a_version_that_was_replaced_or_gone_on_from_is_no_head() {
        let held = [("1-a.t", "l"), ("2-a.t", "m")];

        for second in [blind("m"), replace("m", "1-a.t")] {
            let asked = [blind("l"), second];
            assert_eq!(check_heads(&asked, &held, &["2-a.t"]), 0);
            assert!(check_heads(&asked, &held, &["1-a.t", "2-a.t"]) > 0);
        }
    }

    #[test]
    fn a_resolution_supersedes_all_that_it_names() {
        let heads = [version("2-a.t"), version("2-b.t")].into();
        let resolve = unanswered("o", Wish::Resolve(register("r"), heads), 0);
        let asked = [blind("l"), blind("m"), blind("n"), resolve];
        let held = [("1-a.t", "l"), ("2-a.t", "m"), ("2-b.t", "n"), ("3-a.t", "o")];

        assert_eq!(check_heads(&asked, &held, &["3-a.t"]), 0);
        assert!(check_heads(&asked, &held, &["2-b.t", "3-a.t"]) > 0);
    }

    #[test]
    fn twins_count_as_one() {
        let asked = [blind("l"), blind("m")];
        let held = [("1-a.t", "l"), ("2-a.t", "m"), ("2-b.t", "m")];

        assert_eq!(check_heads(&asked, &held, &["2-b.t"]), 0);
    }

    #[test]
    fn a_conflict_that_is_not_listed_is_a_violation() {
        let asked = vec![blind("m"), blind("n")];
        let mut evidence = evidence(asked, &[("r", &[("1-a.t", "m"), ("1-b.t", "n")])]);
        let state = evidence.nodes.values_mut().next().expect("one node");
        let heads = [version("1-a.t"), version("1-b.t")].into();
        state.heads = [(register("r"), heads)].into();

        assert_eq!(check(&evidence).len(), 1);
    }
}
