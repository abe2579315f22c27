//! This module lists what is in conflict: `$conflicts` of everything, of a type, of one resource.
//!
//! The answer is a searchset, oldest first, of one Parameters resource per conflict:
//!
//! | parameter | value |
//! |---|---|
//! | `kind` | code: `update`; `delete` if a head is a deletion; `duplicate`: see below |
//! | `resource` | Reference; of duplicates one per resource |
//! | `criteria` | of duplicates: what both makers have asked for |
//! | `since` | instant at which this node first held it |
//! | `sibling` | Reference: another resource that was written together with a head; any number |
//! | `head` | one per head, the current one first, with these parts |
//! | `head.versionId`, `head.origin` | its name, and what decided it: a region, or a node on its own |
//! | `head.absent` | whether it is known by its name only; if so there are no further parts |
//! | `head.deleted`, `head.lastUpdated` | whether it is a deletion, and when it was decided |
//! | `head.node`, `head.site` | where the request was taken |
//! | `head.request`, `head.client` | which request it was, and whose, where that is known |
//!
//! Duplicates are resources that conditional creates with equal criteria have made in different origins,
//! none of which is deleted; they are listed once, and at each of them. Their heads are their current
//! versions, in the order of the resources.
//!
//! Parameters: `_count` (50 if absent, 1000 at the most), and `page` in the link to the next page,
//! which names the last conflict of this one. Others are refused.

use chartmesh_record::ResourceKey;
use chartmesh_store::{Conflict, ConflictHead, ConflictKind, ConflictScope, Store};

use crate::answer::Answer;
use crate::base::Base;
use crate::document::{
    BundleHead, BundleWriter, Link, Match, Parameter, ParameterValue, Parameters, Reference, render,
};
use crate::path::Page;
use crate::query::encode;
use crate::refusal::Refusal;

/// `GET $conflicts`
pub(crate) fn list(
    store: &Store,
    scope: &ConflictScope,
    page: &Page,
    base: &Base<'_>,
) -> Result<Answer, Refusal> {
    if let ConflictScope::Resource(key) = scope
        && store.heads(key)?.current().is_none()
    {
        return Err(Refusal::Unknown { key: key.clone() });
    }
    // One more than is shown: whether there are more.
    let conflicts = store.conflicts(scope, page.after.as_ref(), page.count + 1)?;
    let more = conflicts.len() > page.count;

    let mut links = vec![link("self", scope, page, base)];
    let last = page.count.checked_sub(1).and_then(|place| conflicts.get(place));
    if let Some(last) = last.filter(|_| more) {
        let next = Page { count: page.count, after: Some(last.key()) };
        links.push(link("next", scope, &next, base));
    }
    let total = total(store, scope, page, &conflicts)?;
    let mut bundle =
        BundleWriter::new(&BundleHead { total, link: links, ..BundleHead::new("searchset") });
    for conflict in conflicts.into_iter().take(page.count) {
        bundle.entry(&Match::default(), Some(&render(&parameters(conflict))));
    }
    Ok(Answer::document(bundle.finish()))
}

/// How many there are: of all this is kept, of fewer it is known only if they are all here.
fn total(
    store: &Store,
    scope: &ConflictScope,
    page: &Page,
    found: &[Conflict],
) -> Result<Option<usize>, Refusal> {
    if page.after.is_none() && found.len() <= page.count {
        return Ok(Some(found.len()));
    }
    Ok(match scope {
        ConflictScope::All => usize::try_from(store.conflict_count()).ok(),
        ConflictScope::Type(_) | ConflictScope::Resource(_) => None,
    })
}

fn link(relation: &'static str, scope: &ConflictScope, page: &Page, base: &Base<'_>) -> Link {
    let above = match scope {
        ConflictScope::All => String::new(),
        ConflictScope::Type(kind) => format!("/{kind}"),
        ConflictScope::Resource(key) => format!("/{key}"),
    };
    let mut url = format!("{}{above}/$conflicts?_count={}", base.url(), page.count);
    if let Some(after) = &page.after {
        url = format!("{url}&page={}", encode(&after.to_string()));
    }
    Link { relation, url }
}

/// One conflict.
fn parameters(conflict: Conflict) -> Parameters {
    let Conflict { kind, resource, duplicates, criteria, since, siblings, heads, .. } = conflict;
    let kind = match kind {
        ConflictKind::Update => "update",
        ConflictKind::Delete => "delete",
        ConflictKind::Duplicate => "duplicate",
    };
    let mut parameter =
        vec![value("kind", ParameterValue::Code(kind)), value("resource", reference(&resource))];
    parameter.extend(duplicates.iter().map(|other| value("resource", reference(other))));
    parameter.extend(criteria.map(|text| value("criteria", ParameterValue::Text(text))));
    parameter.push(value("since", ParameterValue::Instant(since.to_string())));
    parameter.extend(siblings.iter().map(|sibling| value("sibling", reference(sibling))));
    parameter.extend(heads.into_iter().map(head));
    Parameters { parameter }
}

/// One head. Of an absent one nothing is known but its name.
fn head(head: ConflictHead) -> Parameter {
    let ConflictHead { version, made } = head;
    let text = |text: String| ParameterValue::Text(text);
    let mut part = vec![
        value("versionId", ParameterValue::Id(version.to_string())),
        value("origin", text(version.origin.to_string())),
        value("absent", ParameterValue::Boolean(made.is_none())),
    ];
    if let Some(made) = made {
        part.extend([
            value("deleted", ParameterValue::Boolean(made.deleted)),
            value("lastUpdated", ParameterValue::Instant(made.at.to_string())),
            value("node", text(made.place.node.to_string())),
            value("site", text(made.place.site.to_string())),
            value("request", text(made.request.to_string())),
        ]);
        part.extend(made.client.map(|client| value("client", text(client))));
    }
    Parameter { name: "head", value: None, part }
}

fn reference(key: &ResourceKey) -> ParameterValue {
    ParameterValue::Reference(Reference { reference: key.to_string() })
}

fn value(name: &'static str, value: ParameterValue) -> Parameter {
    Parameter { name, value: Some(value), part: Vec::new() }
}
