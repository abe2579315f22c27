//! This module shows the versions of a resource, newest first: by generation, then by origin.
//!
//! The link to the next page names the last version of this one, so it holds at every node and
//! after a restart.

use chartmesh_record::{Effect, ResourceKey, VersionId};
use chartmesh_store::{Store, StoredVersion};

use crate::answer::{Answer, history_status};
use crate::base::Base;
use crate::document::{BundleHead, BundleWriter, EntryHead, EntryRequest, EntryResponse, Link};
use crate::path::Page;
use crate::refusal::Refusal;

/// `GET [type]/[id]/_history`
pub(crate) fn instance(
    store: &Store,
    key: &ResourceKey,
    page: &Page<VersionId>,
    base: &Base<'_>,
) -> Result<Answer, Refusal> {
    // One more than is shown: whether there are more, and what was there before.
    let versions = store.history(key, page.after.as_ref(), page.count + 1)?;
    if versions.is_empty() && page.after.is_none() {
        return Err(Refusal::Unknown { key: key.clone() });
    }
    let more = versions.len() > page.count;

    let mut links = vec![link("self", key, page, base)];
    let last = page.count.checked_sub(1).and_then(|place| versions.get(place));
    if let Some(last) = last.filter(|_| more) {
        let next = Page { after: Some(last.version.clone()), ..page.clone() };
        links.push(link("next", key, &next, base));
    }
    // How many there are is known only if they are all here.
    let whole = !more && page.after.is_none();
    let total = whole.then_some(versions.len());
    let mut bundle = BundleWriter::new(&BundleHead { sort: "history", total, link: links });
    for (place, stored) in versions.iter().take(page.count).enumerate() {
        let head = head(key, stored, versions.get(place + 1), base);
        bundle.entry(&head, stored.content.as_deref());
    }
    Ok(Answer::document(bundle.finish()))
}

/// What the request of a version was is not kept: it is shown as the PUT or DELETE that has the
/// same result.
fn head(
    key: &ResourceKey,
    stored: &StoredVersion,
    before: Option<&StoredVersion>,
    base: &Base<'_>,
) -> EntryHead {
    let existed = before.is_some_and(|before| before.content.is_some());
    let (method, effect) = match (&stored.content, existed) {
        (None, _) => ("DELETE", Effect::Deleted),
        (Some(_), false) => ("PUT", Effect::Created),
        (Some(_), true) => ("PUT", Effect::Updated),
    };
    EntryHead {
        full_url: Some(format!("{}/{key}", base.url())),
        request: Some(EntryRequest { method, url: key.to_string() }),
        response: EntryResponse {
            status: history_status(effect).to_owned(),
            etag: Some(format!("W/\"{}\"", stored.version)),
            last_modified: Some(stored.at.to_string()),
            ..EntryResponse::default()
        },
    }
}

fn link(
    relation: &'static str,
    key: &ResourceKey,
    page: &Page<VersionId>,
    base: &Base<'_>,
) -> Link {
    let mut url = format!("{}/{key}/_history?_count={}", base.url(), page.count);
    if let Some(after) = &page.after {
        url = format!("{url}&page={after}");
    }
    Link { relation, url }
}
