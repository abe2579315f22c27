//! This module judges that no answer claims to be fresher than it is.
//!
//! An answer that knows a region as of `age` ago shows at least what the region had acknowledged by then,
//! and what its nodes had acknowledged into their journals by then, except those nodes that the answer
//! lists on their own: of these it shows what they had acknowledged by their own age. And where all clocks
//! are true, an age is no smaller than the time since the instant beside it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::freshness::Known;
use crate::history::{
    Answered, Evidence, Instant, NodeName, Operation, Register, Told, VersionId, Wish,
};

/// Simulated time goes on in steps.
const STEP: Duration = Duration::from_millis(5);

/// A version that was acknowledged.
struct Acknowledged<'e> {
    version: &'e VersionId,
    at: Instant,
    /// The region in which it was.
    region: &'e str,
    /// The node whose journal it is in; `None`: the region's feed.
    journal: Option<&'e str>,
    /// Whether it is held in the end: what was lost with its disk need not be shown.
    stands: bool,
}

pub(super) fn check(evidence: &Evidence) -> Vec<String> {
    let acknowledged = acknowledged(evidence);
    let mut proofs = Vec::new();
    for operation in &evidence.operations {
        let Some(answer) = &operation.answer else { continue };
        proofs.extend(smaller_ages(evidence, operation, answer));
        if let (Wish::Read(register), Told::Holds(version)) = (&operation.wish, &answer.told) {
            for missed in acknowledged.get(register).into_iter().flatten() {
                proofs.extend(check_one(operation, answer, version.as_ref(), missed));
            }
        }
    }
    proofs
}

fn acknowledged(evidence: &Evidence) -> BTreeMap<&Register, Vec<Acknowledged<'_>>> {
    let held = evidence.registers();
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for operation in &evidence.operations {
        let Some(answer) = &operation.answer else { continue };
        let Told::Written(versions) = &answer.told else { continue };
        for (register, version) in versions {
            let orderer = version.orderer();
            let place = evidence.places.get_key_value(&NodeName(orderer.0.clone()));
            let by = evidence.places.get(&answer.by);
            let (region, journal) = match (place, by) {
                (Some((node, standing)), _) => (standing.region.as_str(), Some(node.0.as_str())),
                // A region's feed: who answered was a node of the region.
                (None, Some(standing)) => (standing.region.as_str(), None),
                (None, None) => continue,
            };
            let mut versions = held.get(register).into_iter().flatten();
            let stands = versions.any(|held| held.version == *version);
            all.entry(register).or_default().push(Acknowledged {
                version,
                at: answer.at,
                region,
                journal,
                stands,
            });
        }
    }
    all
}

/// Whether a read missed a version that it must have known by what it says of itself.
fn check_one(
    operation: &Operation,
    answer: &Answered,
    shown: Option<&VersionId>,
    missed: &Acknowledged<'_>,
) -> Option<String> {
    let entries = &answer.as_of.0;
    let own = missed.journal.and_then(|node| entries.get(node));
    let claim = own.or_else(|| entries.get(missed.region))?;
    let Known::Until { age, .. } = claim else { return None };
    // The answer was made after it was asked for: so it claims to know at least what was until then.
    let known_until = operation.asked.checked_sub(*age)?;
    let rank = |version: &VersionId| (version.generation(), origin(version).to_owned());
    // What a node shows is never of a lower rank than anything it holds.
    let shows_less = shown.is_none_or(|shown| rank(shown) < rank(missed.version));
    (missed.stands && missed.at < known_until && shows_less).then(|| {
        format!(
            "{:?} read {shown:?} at {:?} as of {known_until:?}; {:?} was acknowledged at {:?}",
            operation.mark, answer.by, missed.version, missed.at
        )
    })
}

fn origin(version: &VersionId) -> &str {
    version.0.split_once('-').map_or("", |(_, origin)| origin)
}

fn smaller_ages(evidence: &Evidence, operation: &Operation, answer: &Answered) -> Vec<String> {
    let Some(epoch_ms) = evidence.epoch_ms else { return Vec::new() };
    let asked_ms = epoch_ms + i64::try_from(operation.asked.as_millis()).unwrap_or(i64::MAX);
    let mut proofs = Vec::new();
    for (name, known) in &answer.as_of.0 {
        let Known::Until { instant_ms, age } = *known else { continue };
        let least = u64::try_from(asked_ms - instant_ms).unwrap_or_default();
        if age + STEP < Duration::from_millis(least) {
            proofs.push(format!(
                "{:?} knows {name} as of {age:?} ago at {:?}; the instant was {least} ms before",
                operation.mark, answer.by
            ));
        }
    }
    proofs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::freshness::AsOf;
    use crate::invariants::fixture::{
        by, evidence, journaled, operation, place, register, version, written,
    };

    const HELD: &[(&str, &[(&str, &str)])] =
        &[("r", &[("1-pac.t", "l"), ("2-pac.t", "m"), ("3-pac-1.t", "n")])];

    fn until(instant_ms: i64, age_ms: u64) -> Known {
        Known::Until { instant_ms, age: Duration::from_millis(age_ms) }
    }

    /// A read at the tenth second that shows this version, and says this of its freshness.
    fn read(shows: &str, as_of: &[(&str, Known)]) -> Operation {
        let told = Told::Holds(Some(version(shows)));
        let read = operation("read", Wish::Read(register("r")), (10_000, 10_010), told);
        let mut read = by(read, "pac-2");
        let entries = as_of.iter().map(|&(name, known)| (name.to_owned(), known)).collect();
        read.answer.as_mut().expect("it was answered").as_of = AsOf(entries);
        read
    }

    fn check_read(read: Operation) -> usize {
        let operations = vec![
            by(written("l", "1-pac.t", (0, 1_000)), "pac-2"),
            by(written("m", "2-pac.t", (7_000, 8_000)), "pac-2"),
            journaled(written("n", "3-pac-1.t", (8_000, 8_500)), "pac-1"),
            read,
        ];
        let mut evidence = evidence(operations, HELD);
        evidence.places = [place("pac-1"), place("pac-2")].into();
        check(&evidence).len()
    }

    #[test]
    fn an_answer_misses_nothing_that_was_acknowledged_before_its_instant() {
        assert_eq!(check_read(read("1-pac.t", &[("pac", until(0, 2_500))])), 0);
        assert_eq!(check_read(read("1-pac.t", &[("pac", until(0, 1_800))])), 1);
        assert_eq!(check_read(read("1-pac.t", &[("pac", Known::Never)])), 0);
    }

    #[test]
    fn a_journal_is_missed_only_by_who_says_that_its_node_is_silent() {
        let silent = |age_ms| [("pac", until(0, 1_000)), ("pac-1", until(0, age_ms))];

        assert_eq!(check_read(read("2-pac.t", &[("pac", until(0, 1_000))])), 1);
        assert_eq!(check_read(read("2-pac.t", &silent(2_000))), 0);
        assert_eq!(check_read(read("2-pac.t", &silent(1_000))), 1);
    }

    #[test]
    fn an_age_is_no_smaller_than_the_time_since_its_instant() {
        let check = |age_ms| {
            let read = read("2-pac.t", &[("pac", until(1_000_000 + 7_000, age_ms))]);
            let mut evidence = evidence(vec![read], HELD);
            evidence.epoch_ms = Some(1_000_000);
            check(&evidence).len()
        };

        assert_eq!(check(3_000), 0);
        assert_eq!(check(2_500), 1);
    }
}
