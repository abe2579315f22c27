//! This module says whether clients should be sent to this node.

use chartmesh_region::State;

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotReady {
    #[error("the region is not founded yet, as far as this node knows")]
    NotFounded,
    #[error("this node takes no part in its region: {reason}")]
    Refused { reason: String },
}

/// Whether the node belongs to a founded region. That its store is open is given: without one there
/// is no server. Isolated it still serves reads, and takes writes into its journal.
pub(crate) fn readiness(state: &State) -> Result<(), NotReady> {
    match state {
        State::Starting { founded: false } => Err(NotReady::NotFounded),
        State::Refused { reason } => Err(NotReady::Refused { reason: reason.clone() }),
        State::Starting { founded: true } | State::Region | State::Isolated { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chartmesh_record::Timestamp;

    #[test]
    fn a_node_is_ready_once_its_region_is_founded_isolated_or_not() {
        let check = |state: State, expect: bool| {
            assert_eq!(readiness(&state).is_ok(), expect, "{state:?}");
        };
        check(State::Starting { founded: false }, false);
        check(State::Starting { founded: true }, true);
        check(State::Region, true);
        check(State::Isolated { since: Timestamp(0) }, true);
        check(State::Refused { reason: "its disk is empty".to_owned() }, false);
    }
}
