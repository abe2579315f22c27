//! This module says which heads an operation supersedes: exactly what its client has seen.
//!
//! With ETags: those heads, all of which must stand. Without: the current head, which is what plain
//! reads return; all heads if all are deletions, which nobody can tell apart.

use super::RejectionReason;
use crate::ancestry::Heads;
use crate::command::{EntityTag, Operation, Precondition};
use crate::kind::ResourceKey;
use crate::version::{Origin, VersionId};

/// Why an operation cannot be carried out on what stands.
pub(super) enum Unmet {
    /// It is the client's fault.
    Refused(RejectionReason),
    /// It names a version that was never held here, of another origin than ours.
    Lacking(VersionId),
}

/// Whether the resource exists, as plain reads find it.
pub(super) fn is_live(heads: &Heads) -> bool {
    heads.current().is_some_and(|head| !head.deleted)
}

/// The heads that an operation supersedes; `None` if it deletes what is not there.
pub(super) fn given_up(
    operation: &Operation,
    key: &ResourceKey,
    heads: &Heads,
    origin: &Origin,
) -> Result<Option<Vec<VersionId>>, Unmet> {
    let (precondition, deletes) = match operation {
        Operation::Create { .. } | Operation::Read { .. } => (&Precondition::None, false),
        Operation::Update { precondition, .. } | Operation::UpdateWhere { precondition, .. } => {
            (precondition, false)
        }
        Operation::Delete { precondition, .. } => (precondition, true),
        Operation::DeleteWhere { .. } => (&Precondition::None, true),
    };
    let live = is_live(heads);
    let names = match precondition {
        Precondition::Match(tags) => named(tags, key, heads, origin)?,
        Precondition::Exists if !live => return Err(unseen(key, heads)),
        Precondition::Absent if live => return Err(unseen(key, heads)),
        _ if deletes && live && several_live(heads) => {
            let (key, heads) = (key.clone(), heads.clone());
            return Err(Unmet::Refused(RejectionReason::ConflictedDelete { key, heads }));
        }
        _ if live => heads.current().map(|head| head.version.clone()).into_iter().collect(),
        _ => heads.iter().map(|head| head.version.clone()).collect(),
    };
    let deleted = |name| heads.head(name).is_some_and(|head| head.deleted);
    Ok(if deletes && names.iter().all(deleted) { None } else { Some(names) })
}

/// The versions that the client says it has seen, if all of them are heads.
fn named(
    tags: &[EntityTag],
    key: &ResourceKey,
    heads: &Heads,
    origin: &Origin,
) -> Result<Vec<VersionId>, Unmet> {
    let names: Vec<Option<VersionId>> = tags.iter().map(|tag| tag.0.parse().ok()).collect();
    let lacking = |name: &&VersionId| name.origin != *origin && !heads.covers(name);
    if let Some(name) = names.iter().flatten().find(lacking) {
        return Err(Unmet::Lacking(name.clone()));
    }
    let names: Option<Vec<VersionId>> = names.into_iter().collect();
    names
        .filter(|names| !names.is_empty() && names.iter().all(|name| heads.stands(name)))
        .ok_or_else(|| unseen(key, heads))
}

/// A head that has not arrived counts as live.
fn several_live(heads: &Heads) -> bool {
    let live = heads.distinct().filter(|head| !head.deleted).count();
    live + heads.absent().len() > 1
}

fn unseen(key: &ResourceKey, heads: &Heads) -> Unmet {
    let (key, heads) = (key.clone(), heads.clone());
    Unmet::Refused(RejectionReason::Precondition { key, heads })
}
