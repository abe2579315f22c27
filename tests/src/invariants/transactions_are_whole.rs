//! This module judges that a transaction is held in all its registers or in none, and that two
//! transactions of one orderer with two registers in common follow each other in the same order in both.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Evidence, Held, Mark, Operation, Orderer, Register, Wish};

/// Per register, the place of each mark among its versions.
type Places<'e> = BTreeMap<&'e Register, BTreeMap<&'e Mark, usize>>;

pub(super) fn check(evidence: &Evidence) -> Vec<String> {
    let registers = evidence.registers();
    let places = places_of(&registers, None);
    let transactions: Vec<&Operation> = evidence
        .operations
        .iter()
        .filter(|operation| matches!(operation.wish, Wish::WriteTogether(_)))
        .collect();
    let torn = transactions.iter().filter_map(|operation| torn(operation, &places));
    let mut proofs: Vec<String> = torn.collect();
    for orderer in orderers(&registers) {
        proofs.extend(crossed(&transactions, &places_of(&registers, Some(&orderer))));
    }
    proofs
}

fn orderers(registers: &BTreeMap<Register, Vec<Held>>) -> BTreeSet<Orderer> {
    registers.values().flatten().map(|held| held.version.orderer()).collect()
}

/// The places among all versions, of those of one orderer or of all.
fn places_of<'e>(
    registers: &'e BTreeMap<Register, Vec<Held>>,
    orderer: Option<&Orderer>,
) -> Places<'e> {
    registers
        .iter()
        .map(|(register, versions)| {
            let of = |held: &Held| orderer.is_none_or(|orderer| held.version.orderer() == *orderer);
            let versions = versions.iter().enumerate().filter(|(_, held)| of(held));
            (register, versions.map(|(place, held)| (&held.mark, place)).collect())
        })
        .collect()
}

fn torn(operation: &Operation, places: &Places<'_>) -> Option<String> {
    let together = operation.writes();
    let held = together
        .iter()
        .filter(|register| {
            places.get(*register).is_some_and(|marks| marks.contains_key(&operation.mark))
        })
        .count();
    let all = together.len();
    (held != 0 && held != all)
        .then(|| format!("{:?} is held in {held} of {all} registers", operation.mark))
}

/// Two registers, as one transaction wrote them.
type Pair<'a> = (&'a Register, &'a Register);

/// Transactions that are in one order in one register, and in another in another.
fn crossed(transactions: &[&Operation], places: &Places<'_>) -> Vec<String> {
    let mut shared: BTreeMap<Pair<'_>, Vec<(usize, usize, &Mark)>> = BTreeMap::new();
    for transaction in transactions {
        let place = |register| Some((register, *places.get(register)?.get(&transaction.mark)?));
        let held: Vec<(&Register, usize)> =
            transaction.writes().into_iter().filter_map(place).collect();
        for (number, &(one, at)) in held.iter().enumerate() {
            for &(other, there) in &held[number + 1..] {
                shared.entry((one, other)).or_default().push((at, there, &transaction.mark));
            }
        }
    }
    let mut proofs = Vec::new();
    for ((one, other), mut held) in shared {
        held.sort();
        for pair in held.windows(2).filter(|pair| pair[0].1 > pair[1].1) {
            let (first, second) = (pair[0].2, pair[1].2);
            proofs
                .push(format!("{first:?} is before {second:?} in {one:?}, after it in {other:?}"));
        }
    }
    proofs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::fixture::{evidence, register, unanswered};

    #[test]
    fn a_torn_transaction_and_two_crossed_ones_are_violations() {
        let both = || Wish::WriteTogether([register("r"), register("s")].into());
        let asked = vec![unanswered("m", both(), 0), unanswered("n", both(), 0)];
        let check = |r: &[(&str, &str)], s: &[(&str, &str)]| {
            check(&evidence(asked.clone(), &[("r", r), ("s", s)])).len()
        };

        assert_eq!(check(&[("1-x", "m"), ("2-x", "n")], &[("1-x", "m"), ("2-x", "n")]), 0);
        assert_eq!(check(&[("1-x", "m")], &[("1-x", "m")]), 0);
        assert_eq!(check(&[("1-x", "m")], &[]), 1);
        assert_eq!(check(&[("1-x", "m"), ("2-x", "n")], &[("1-x", "n"), ("2-x", "m")]), 1);
        assert_eq!(check(&[("1-x.t", "m"), ("2-y.t", "n")], &[("1-y.t", "n"), ("2-x.t", "m")]), 0);
    }
}
