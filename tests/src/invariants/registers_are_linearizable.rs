//! This module judges that each register is linearizable: its versions, in their order, can each be
//! given an instant between the asking and the answering of the write that made it, such that every
//! read of the newest state and every refusal fits in between.
//!
//! The order of the versions is known, so one pass from the oldest on, which gives each the earliest
//! instant that is left, finds such instants if there are any.
//!
//! In a mesh that is promised of what a region has agreed on, in the registers that only its clients write.
//! Where journals took part, each of the region's versions was still current once it was decided, since it
//! was above all that was held; but what a writer was refused for, or had replaced, may be a journal's.

use std::collections::BTreeMap;

use crate::history::{Evidence, Held, Instant, Mark, Operation, Register, Told, VersionId, Wish};

pub(super) fn check(evidence: &Evidence) -> Vec<String> {
    let operations: BTreeMap<&Mark, &Operation> =
        evidence.operations.iter().map(|operation| (&operation.mark, operation)).collect();
    evidence
        .registers()
        .iter()
        .filter(|(register, _)| !evidence.shared.contains(*register))
        .flat_map(|(register, versions)| {
            let agreed = |held: &&Held| !evidence.is_journal(&held.version.orderer());
            let alone = versions.iter().all(|held| agreed(&held)) && !evidence.was_isolated();
            let sightings = Sightings::of(register, &evidence.operations, alone);
            let (now, standing, proofs) = (Instant::ZERO, None, Vec::new());
            let operations = &operations;
            let mut walk = Walk { register, operations, sightings, alone, now, standing, proofs };
            walk.read();
            for held in versions.iter().filter(agreed) {
                walk.enter(held);
                walk.read();
            }
            walk.finish()
        })
        .collect()
}

/// What operations without effects say of one register.
#[derive(Default)]
struct Sightings<'e> {
    /// Reads of the newest state, by what they returned.
    reads: BTreeMap<Option<&'e VersionId>, Vec<&'e Operation>>,
    /// Refused replacements, by the version that no longer stood.
    refusals: BTreeMap<&'e VersionId, Vec<&'e Operation>>,
}

impl<'e> Sightings<'e> {
    /// `alone`: the region's versions are all there ever were.
    fn of(register: &Register, operations: &'e [Operation], alone: bool) -> Self {
        let mut sightings = Self::default();
        for operation in operations {
            match (&operation.wish, operation.told()) {
                // Before the region's first version a journal's may stand, and be lost with its disk.
                (Wish::ReadNewest(of), Some(Told::Holds(version)))
                    if of == register && (alone || version.is_some()) =>
                {
                    sightings.reads.entry(version.as_ref()).or_default().push(operation);
                }
                (Wish::Replace(of, version), Some(Told::Refused)) if alone && of == register => {
                    sightings.refusals.entry(version).or_default().push(operation);
                }
                _ => {}
            }
        }
        sightings
    }
}

/// One register on its way from its oldest version to its newest.
struct Walk<'e> {
    register: &'e Register,
    operations: &'e BTreeMap<&'e Mark, &'e Operation>,
    sightings: Sightings<'e>,
    alone: bool,
    /// The earliest instant that is left.
    now: Instant,
    /// The version that stands then.
    standing: Option<&'e VersionId>,
    proofs: Vec<String>,
}

impl<'e> Walk<'e> {
    /// Goes on to the next version.
    fn enter(&mut self, held: &'e Held) {
        // A version that nobody asked for is another invariant's violation.
        let Some(write) = self.operations.get(&held.mark) else { return };
        let Walk { register, standing, .. } = *self;
        if self.alone
            && let Wish::Replace(_, named) = &write.wish
            && Some(named) != standing
        {
            let (mark, version) = (&held.mark, &held.version);
            self.proofs.push(format!(
                "{mark:?} replaced {named:?} of {register:?} with {version:?}; {standing:?} stood"
            ));
        }
        let refused = standing.and_then(|version| self.sightings.refusals.get(version));
        let refused = refused.into_iter().flatten().map(|operation| operation.deadline());
        let until = refused.chain([write.deadline()]).min().expect("one at least");
        self.now = self.now.max(write.asked);
        let now = self.now;
        if now > until {
            let version = &held.version;
            self.proofs
                .push(format!("{version:?} of {register:?} began after {now:?} and by {until:?}"));
        }
        self.standing = Some(&held.version);
    }

    /// Puts the reads of the standing version in front of the next one.
    fn read(&mut self) {
        let Walk { register, standing, .. } = *self;
        for read in self.sightings.reads.get(&standing).into_iter().flatten() {
            self.now = self.now.max(read.asked);
            let (now, until, mark) = (self.now, read.deadline(), &read.mark);
            if now > until {
                self.proofs.push(format!(
                    "{mark:?} read {standing:?} of {register:?} by {until:?}, begun after {now:?}"
                ));
            }
        }
    }

    /// Nobody may have been refused because of the newest version's successor: there is none.
    fn finish(mut self) -> Vec<String> {
        let Walk { register, standing, .. } = self;
        let refused = standing.and_then(|version| self.sightings.refusals.get(version));
        for operation in refused.into_iter().flatten() {
            let mark = &operation.mark;
            self.proofs
                .push(format!("{mark:?} was refused, but {standing:?} of {register:?} stands"));
        }
        self.proofs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::fixture::{evidence, operation, register, unanswered, version, written};

    const HELD: &[(&str, &[(&str, &str)])] = &[("r", &[("1-x", "m"), ("2-x", "n")])];

    fn check_all(operations: Vec<Operation>) -> usize {
        check(&evidence(operations, HELD)).len()
    }

    fn read(version_id: Option<&str>, window: (u64, u64)) -> Operation {
        let told = Told::Holds(version_id.map(version));
        operation("read", Wish::ReadNewest(register("r")), window, told)
    }

    fn refused(version_id: &str, window: (u64, u64)) -> Operation {
        let wish = Wish::Replace(register("r"), version(version_id));
        operation("refused", wish, window, Told::Refused)
    }

    #[test]
    fn writes_keep_the_order_in_which_they_were_answered() {
        assert_eq!(check_all(vec![written("m", "1-x", (0, 1)), written("n", "2-x", (2, 3))]), 0);
        assert_eq!(check_all(vec![written("m", "1-x", (0, 3)), written("n", "2-x", (1, 2))]), 0);
        assert_eq!(check_all(vec![written("m", "1-x", (2, 3)), written("n", "2-x", (0, 1))]), 1);
    }

    #[test]
    fn a_write_of_unknown_fate_may_happen_late_but_not_early() {
        let late = || unanswered("n", Wish::Write(register("r")), 5);

        assert_eq!(
            check_all(vec![written("m", "1-x", (0, 9)), late(), read(Some("2-x"), (6, 7))]),
            0
        );
        assert_eq!(
            check_all(vec![written("m", "1-x", (0, 9)), late(), read(Some("2-x"), (3, 4))]),
            1
        );
    }

    #[test]
    fn a_read_of_the_newest_state_is_neither_old_nor_early() {
        let writes = || vec![written("m", "1-x", (0, 1)), written("n", "2-x", (5, 6))];
        let check = |version, window| {
            let mut operations = writes();
            operations.push(read(version, window));
            check_all(operations)
        };

        assert_eq!(check(Some("1-x"), (2, 3)), 0);
        assert_eq!(check(Some("1-x"), (5, 9)), 0);
        assert_eq!(check(Some("1-x"), (7, 9)), 1);
        assert_eq!(check(None, (2, 3)), 1);
        assert_eq!(check(None, (0, 1)), 0);
        assert_eq!(check(Some("2-x"), (2, 3)), 1);
    }

    #[test]
    fn a_refusal_needs_a_version_that_came_in_between() {
        let writes = || vec![written("m", "1-x", (0, 1)), written("n", "2-x", (5, 6))];
        let check = |version, window| {
            let mut operations = writes();
            operations.push(refused(version, window));
            check_all(operations)
        };

        assert_eq!(check("1-x", (5, 7)), 0);
        assert_eq!(check("1-x", (7, 8)), 0);
        assert_eq!(check("1-x", (2, 3)), 1);
        assert_eq!(check("2-x", (7, 8)), 1);
    }

    #[test]
    fn a_replacement_follows_the_version_that_it_names() {
        let replace = |named| {
            let told = Told::Written([(register("r"), version("2-x"))].into());
            operation("n", Wish::Replace(register("r"), version(named)), (2, 3), told)
        };

        assert_eq!(check_all(vec![written("m", "1-x", (0, 1)), replace("1-x")]), 0);
        assert_eq!(check_all(vec![written("m", "1-x", (0, 1)), replace("0-x")]), 1);
    }
}
