//! This module shows versions: of a resource by generation, then by origin; of a type or of everything by
//! when they arrived at this node (FHIR R4, http, 3.1.0.7). The newest comes first.
//!
//! The link to the next page of a resource's history names the last version of this one, so it holds at
//! every node and after a restart. The order of arrival is another one at every node: a link to a page of it
//! holds where it was given, and elsewhere is refused (410). `meta.lastUpdated` of such a history is the
//! `_since` from which on nothing is missed and nothing seen twice.

use std::borrow::Cow;
use std::str::FromStr;

use chartmesh_record::{
    Effect, Generation, NodeName, ResourceKey, ResourceType, Timestamp, VersionId,
};
use chartmesh_search::Span;
use chartmesh_store::{ArrivalPlace, Arrivals, ArrivalsError, Store, StoredVersion, Wanted};

use crate::answer::{Answer, history_status};
use crate::base::Base;
use crate::document::{
    BundleHead, BundleMeta, BundleWriter, EntryHead, EntryRequest, EntryResponse, Link,
};
use crate::limits::Limits;
use crate::path::{self, Misdirected};
use crate::query::{Query, encode};
use crate::refusal::Refusal;

/// Which part of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Past {
    /// How many entries.
    pub(crate) count: usize,
    /// `_since`: from this instant on.
    pub(crate) since: Option<String>,
    /// `_at`: what was there then.
    pub(crate) at: Option<String>,
    /// Where the page begins.
    pub(crate) page: Option<String>,
}

impl Past {
    /// The newest entries, as many as a page usually has.
    pub(crate) fn newest() -> Self {
        Self { count: Limits::PAGE_ENTRIES, since: None, at: None, page: None }
    }

    /// What a query asks for.
    pub(crate) fn of(query: &Query<'_>) -> Result<Self, Misdirected> {
        let value = |name: &str| query.value(name).map(Cow::into_owned);
        Ok(Self {
            count: path::count(query)?,
            since: value("_since"),
            at: value("_at"),
            page: value("page"),
        })
    }

    /// Where the page begins, read as what its list has.
    fn begins<P: FromStr>(&self) -> Result<Option<P>, Misdirected> {
        let bad = |text: &String| Misdirected::Value { name: "page", value: text.clone() };
        self.page.as_ref().map(|text| text.parse().map_err(|_| bad(text))).transpose()
    }
}

/// `GET [type]/[id]/_history`
pub(crate) fn instance(
    store: &Store,
    key: &ResourceKey,
    past: &Past,
    base: &Base<'_>,
) -> Result<Answer, Refusal> {
    let bounds = Bounds::of(store, past)?;
    let mut after: Option<VersionId> = past.begins()?;
    if after.is_none() && store.read(key)?.is_none() {
        return Err(Refusal::Unknown { key: key.clone() });
    }
    let first_page = after.is_none();
    // One more than is shown: whether there are more. With each, what was there before it.
    let wanted = past.count + 1;
    let mut shown: Vec<(StoredVersion, Option<StoredVersion>)> = Vec::new();
    let mut replaced_at = match &after {
        Some(last) => store.vread(key, last)?.map(|last| last.at),
        None => None,
    };
    loop {
        let versions = store.history(key, after.as_ref(), wanted + 1)?;
        let whole = versions.len() <= wanted;
        let count = if whole { versions.len() } else { wanted };
        for (version, before) in (0..count).map(|at| (&versions[at], versions.get(at + 1))) {
            if bounds.meet(version, replaced_at) && shown.len() < wanted {
                shown.push((version.clone(), before.cloned()));
            }
            replaced_at = Some(version.at);
        }
        after = count.checked_sub(1).map(|last| versions[last].version.clone());
        if whole || shown.len() == wanted {
            break;
        }
    }
    let more = shown.len() > past.count;
    shown.truncate(past.count);

    let of = format!("/{key}");
    let mut links = vec![link("self", &of, past, past.page.as_deref(), base)];
    if let Some((last, _)) = shown.last().filter(|_| more) {
        links.push(link("next", &of, past, Some(&last.version.to_string()), base));
    }
    // How many there are is known only if they are all here.
    let total = (!more && first_page).then_some(shown.len());
    let head = BundleHead { total, link: links, ..BundleHead::new("history") };
    let mut bundle = BundleWriter::new(&head);
    for (stored, before) in &shown {
        let existed = before.as_ref().is_some_and(|before| before.content.is_some());
        bundle.entry(&entry(key, stored, existed, base), stored.content.as_deref());
    }
    Ok(Answer::document(bundle.finish()))
}

/// `GET [type]/_history` and `GET _history`
pub(crate) fn arrivals(
    store: &Store,
    node: &NodeName,
    kind: Option<ResourceType>,
    past: &Past,
    base: &Base<'_>,
) -> Result<Answer, Refusal> {
    let bounds = Bounds::of(store, past)?;
    let page: Option<Page> = past.begins()?;
    let wanted = Wanted {
        kind,
        since: bounds.since,
        during: bounds.during,
        before: page.as_ref().map(|page| page.before),
        limit: past.count,
    };
    let Arrivals { arrivals, more, first, last } = store.arrivals(wanted)?;
    if page.as_ref().is_some_and(|page| page.node != *node || page.first != first) {
        return Err(Refusal::ForeignPage);
    }
    // All pages say where the first one has begun.
    let next = page.as_ref().map_or(Timestamp(last.0 + 1), |page| page.next);

    let of = kind.map_or_else(String::new, |kind| format!("/{kind}"));
    let mut links = vec![link("self", &of, past, past.page.as_deref(), base)];
    if let Some(last) = arrivals.last().filter(|_| more) {
        let page = Page { node: node.clone(), first, next, before: last.place };
        links.push(link("next", &of, past, Some(&page.to_string()), base));
    }
    let total = (!more && page.is_none()).then_some(arrivals.len());
    let meta = Some(BundleMeta { last_updated: next.to_string() });
    let head = BundleHead { meta, total, link: links, ..BundleHead::new("history") };
    let mut bundle = BundleWriter::new(&head);
    for arrival in &arrivals {
        let (key, stored) = (&arrival.key, &arrival.stored);
        let existed = stored.version.generation > Generation(1);
        bundle.entry(&entry(key, stored, existed, base), stored.content.as_deref());
    }
    Ok(Answer::document(bundle.finish()))
}

/// Between which instants versions are shown.
struct Bounds {
    since: Option<Timestamp>,
    during: Option<(Timestamp, Timestamp)>,
}

impl Bounds {
    fn of(store: &Store, past: &Past) -> Result<Self, Refusal> {
        let zone = store.registry().zone();
        let span = |name: &'static str, text: &Option<String>| {
            let bad = |text: &String| Misdirected::Value { name, value: text.clone() };
            text.as_ref().map(|text| Span::parse(text, zone).ok_or_else(|| bad(text))).transpose()
        };
        let during = span("_at", &past.at)?.map(|at| (Timestamp(at.from), Timestamp(at.to)));
        let since = span("_since", &past.since)?.map(|since| Timestamp(since.from));
        Ok(Self { since, during })
    }

    /// Whether a version of one resource is shown, which was replaced then.
    fn meet(&self, version: &StoredVersion, replaced_at: Option<Timestamp>) -> bool {
        let is_since = self.since.is_none_or(|since| version.at >= since);
        let was_there = self.during.is_none_or(|(from, to)| {
            let was_meanwhile = replaced_at.is_none_or(|replaced| replaced >= from);
            let is_there = version.content.is_some() || version.at >= from;
            version.at <= to && was_meanwhile && is_there
        });
        is_since && was_there
    }
}

/// A page of the order of arrival at one node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Page {
    node: NodeName,
    /// When the first version arrived there: an emptied disk begins another order.
    first: Timestamp,
    /// The next `_since`.
    next: Timestamp,
    /// The last place of the page before.
    before: ArrivalPlace,
}

impl std::fmt::Display for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}~{}~{}~{}", self.node, self.first.0, self.next.0, self.before)
    }
}

impl FromStr for Page {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('~');
        let mut part = || parts.next().ok_or(());
        let node = part()?.parse().map_err(drop)?;
        let mut instant = || part()?.parse().map(Timestamp).map_err(drop);
        let (first, next) = (instant()?, instant()?);
        let before = part()?.parse().map_err(drop)?;
        parts.next().map_or(Ok(Self { node, first, next, before }), |_| Err(()))
    }
}

/// What the request of a version was is not kept: it is shown as the PUT or DELETE that has the
/// same result.
fn entry(key: &ResourceKey, stored: &StoredVersion, existed: bool, base: &Base<'_>) -> EntryHead {
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
    of: &str,
    past: &Past,
    page: Option<&str>,
    base: &Base<'_>,
) -> Link {
    let mut url = format!("{}{of}/_history?_count={}", base.url(), past.count);
    let parameters =
        [("_since", past.since.as_deref()), ("_at", past.at.as_deref()), ("page", page)];
    for (name, value) in parameters {
        if let Some(value) = value {
            url = format!("{url}&{name}={}", encode(value));
        }
    }
    Link { relation, url }
}

impl From<ArrivalsError> for Refusal {
    fn from(error: ArrivalsError) -> Self {
        match error {
            ArrivalsError::Corrupt(corrupt) => Self::Store(corrupt),
            ArrivalsError::TooCostly { .. } => Self::LongAgo(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_back_from_its_link() {
        let page = Page {
            node: "pac-1".parse().unwrap(),
            first: Timestamp(5),
            next: Timestamp(1_700_000_000_001),
            before: "1700000000000.3".parse().unwrap(),
        };
        assert_eq!(page.to_string().parse(), Ok(page));
        for bad in ["", "pac-1", "pac-1~5~6", "pac-1~5~6~7", "pac-1~5~6~7.1~8", "~5~6~7.1"] {
            assert_eq!(bad.parse::<Page>(), Err(()), "{bad}");
        }
    }
}
