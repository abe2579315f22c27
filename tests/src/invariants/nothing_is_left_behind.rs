//! This module judges that nothing is left behind once all is calm: no feed waits to be carried, no
//! change is held back, no node is unheard of.

use crate::history::Evidence;

pub(super) fn check(evidence: &Evidence) -> Vec<String> {
    let nodes = evidence.nodes.iter();
    nodes
        .flat_map(|(node, state)| state.unrest.iter().map(move |what| format!("{node:?}: {what}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::fixture::evidence;

    #[test]
    fn what_is_pending_in_the_end_is_a_violation() {
        let mut evidence = evidence(Vec::new(), &[]);
        let state = evidence.nodes.values_mut().next().expect("one node");
        state.unrest.push("2 changes of pac-1.t are pending".to_owned());

        assert_eq!(check(&evidence).len(), 1);
    }
}
