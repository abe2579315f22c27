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
    let Some(Current { stored, in_conflict }) = store.read(key)? else {
        return Err(Refusal::Unknown { key: key.clone() });
    };
    let answer = version_answer(key, stored, cached)?;
    if !in_conflict {
        return Ok(answer);
    }
    let heads: Heads = store.heads(key)?;
    Ok(answer.with_conflict(heads.distinct().map(|head| &head.version)))
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

fn version_answer(
    key: &ResourceKey,
    stored: StoredVersion,
    cached: &Cached,
) -> Result<Answer, Refusal> {
    let StoredVersion { version, at, content } = stored;
    let Some(content) = content else {
        return Err(Refusal::Gone { key: key.clone(), version, at });
    };
    let stamp = Stamp { version, at: Some(at) };
    if cached.holds(&stamp.version, at) {
        return Ok(Answer::not_modified(stamp));
    }
    Ok(Answer::resource(stamp, content))
}
