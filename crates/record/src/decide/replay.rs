//! This module knows a command again that was carried out before and is no longer remembered: an id
//! exists that only this command derives.
//!
//! All of it was done then, so nothing is done now, and what stands now is the answer.

use super::{FindError, View};
use crate::ancestry::Heads;
use crate::change_set::{Effect, EntryOutcome, Outcome};
use crate::command::{Command, Operation};
use crate::kind::ResourceKey;
use crate::timestamp::Timestamp;

/// The answer to a command that was carried out before; `None` if it was not.
pub(super) fn replay<V: View>(
    held: &V,
    command: &Command,
    at: Timestamp,
) -> Result<Option<Outcome>, V::Error> {
    for key in (0..command.operations().len()).filter_map(|place| derived_key(command, place)) {
        if held.heads(&key)?.current().is_some() {
            return standing(held, command, at).map(Some);
        }
    }
    Ok(None)
}

/// The resource that an operation creates under an id derived from the request, if it creates one.
fn derived_key(command: &Command, place: usize) -> Option<ResourceKey> {
    match &command.operations()[place] {
        Operation::Create { draft, .. } | Operation::UpdateWhere { draft, .. } => {
            Some(ResourceKey { kind: draft.resource.kind(), id: command.derived_id(place) })
        }
        _ => None,
    }
}

/// What stands now of what the command did.
fn standing<V: View>(held: &V, command: &Command, at: Timestamp) -> Result<Outcome, V::Error> {
    let mut entries = Vec::with_capacity(command.operations().len());
    for (place, operation) in command.operations().iter().enumerate() {
        let (effect, key) = match operation {
            Operation::Create { .. } | Operation::UpdateWhere { .. } => {
                let key = derived_key(command, place).expect("both create");
                match operation.criteria() {
                    // It found something then; most likely it still does.
                    Some(criteria) if held.heads(&key)?.current().is_none() => {
                        let updates = matches!(operation, Operation::UpdateWhere { .. });
                        let effect = if updates { Effect::Updated } else { Effect::Found };
                        let found = match held.find(criteria, &[], 1) {
                            Ok(mut found) => found.pop(),
                            Err(FindError::Unusable(_)) => None,
                            Err(FindError::Unreadable(error)) => return Err(error),
                        };
                        (effect, found.map(|id| ResourceKey { kind: criteria.kind(), id }))
                    }
                    _ => (Effect::Created, Some(key)),
                }
            }
            Operation::Update { key, .. } => (Effect::Updated, Some(key.clone())),
            Operation::Delete { key, .. } => (Effect::Deleted, Some(key.clone())),
            Operation::DeleteWhere { .. } => (Effect::NothingToDelete, None),
            Operation::Read { key } => (Effect::Read, Some(key.clone())),
        };
        let heads = key.as_ref().map(|key| held.heads(key)).transpose()?;
        let version = heads.as_ref().and_then(Heads::current).map(|head| head.version.clone());
        entries.push(EntryOutcome { effect, key, version });
    }
    Ok(Outcome { at, change: None, entries })
}
