//! This module reads resources from the node's own store: the current version, or one by name.
//!
//! Nothing here waits for the network, and stored bytes go out as they are.

use chartmesh_record::{Heads, ResourceKey, VersionId};
use chartmesh_store::{Current, Store, StoredVersion};

use crate::answer::{Answer, Stamp};
use crate::condition::Cached;
use crate::refusal::Refusal;

/// `GET [type]/[id]`
pub(crate) fn current(
    store: &Store,
    key: &ResourceKey,
    cached: &Cached,
) -> Result<Answer, Refusal> {
    loop {
        let Some(Current { stored, in_conflict }) = store.read(key)? else {
            return Err(Refusal::Unknown { key: key.clone() });
        };
        if !in_conflict {
            return version_answer(key, stored, cached);
        }
        let heads = store.heads(key)?;
        if heads.in_conflict() && is_current(&heads, &stored.version) {
            return conflict_answer(key, stored, cached, &heads);
        }
        // It was written between the two looks.
    }
}

/// Whether plain reads return this version.
pub(crate) fn is_current(heads: &Heads, version: &VersionId) -> bool {
    heads.current().is_some_and(|head| head.version == *version)
}

/// `GET [type]/[id]/_history/[vid]`
pub(crate) fn version(
    store: &Store,
    key: &ResourceKey,
    version: &VersionId,
    cached: &Cached,
) -> Result<Answer, Refusal> {
    match store.vread(key, version)? {
        Some(stored) => version_answer(key, stored, cached),
        None => Err(Refusal::UnknownVersion { key: key.clone(), version: version.clone() }),
    }
}

fn conflict_answer(
    key: &ResourceKey,
    stored: StoredVersion,
    cached: &Cached,
    heads: &Heads,
) -> Result<Answer, Refusal> {
    match version_answer(key, stored, cached) {
        Ok(answer) => Ok(answer.in_conflict(heads)),
        // Beside a deletion stands what has not arrived.
        Err(Refusal::Gone { key, version, at, .. }) => {
            Err(Refusal::Gone { key, version, at, conflict: Some(heads.clone()) })
        }
        Err(refusal) => Err(refusal),
    }
}

fn version_answer(
    key: &ResourceKey,
    stored: StoredVersion,
    cached: &Cached,
) -> Result<Answer, Refusal> {
    let StoredVersion { version, at, content } = stored;
    let Some(content) = content else {
        return Err(Refusal::Gone { key: key.clone(), version, at, conflict: None });
    };
    let stamp = Stamp { version, at: Some(at) };
    if cached.holds(&stamp.version, at) {
        return Ok(Answer::not_modified(stamp));
    }
    Ok(Answer::resource(stamp, content))
}
