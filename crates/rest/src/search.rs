//! This module answers searches (FHIR R4, http, 3.1.0.9 and search): over a type, over several, within a
//! compartment.
//!
//! Results of several types come type by type. A link to another page carries the query and the last
//! place of this page, so it holds at every node and after a restart.

use std::borrow::Cow;
use std::fmt::Write;

use axum::body::Body;
use chartmesh_record::{ResourceKey, ResourceType, Token, TokenSystem};
use chartmesh_search::{
    Condition, Include, PageKey, Query, Registry, Setting, Sought, Summary, Total,
};
use chartmesh_store::{Current, Found, Search};
use http::header::CONTENT_TYPE;

use crate::answer::{Answer, search_warning};
use crate::base::Base;
use crate::body::receive;
use crate::conflict::tagged;
use crate::document::{BundleHead, BundleWriter, Link, Match, render};
use crate::limits::Limits;
use crate::media::UnsupportedMediaType;
use crate::path::{self, Misdirected, SearchScope, Searching, encode};
use crate::refusal::Refusal;
use crate::server::{Asked, Server};

const FORM: &str = "application/x-www-form-urlencoded";
/// What sorts results of several types.
const OF_ALL_TYPES: [&str; 2] = ["_id", "_lastUpdated"];

/// A search over types, one after the other.
struct Plan {
    queries: Vec<Query>,
    /// The place of the type that the page begins with among them, and where in its results.
    start: usize,
    after: Option<PageKey>,
    count: usize,
}

/// A page of results.
#[derive(Default)]
struct Page {
    matches: Vec<(ResourceKey, Current)>,
    included: Vec<(ResourceKey, Current)>,
    included_more: bool,
    /// Where the next page begins.
    next: Option<String>,
    total: Option<u64>,
}

impl Server {
    /// Adds the parameters in the body of a search.
    pub(crate) async fn add_form(
        &self,
        asked: &Asked<'_>,
        body: Body,
        searching: &mut Searching,
    ) -> Result<(), Refusal> {
        let headers = &asked.parts.headers;
        let sent = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_form =
            sent.is_none_or(|sent| sent.split(';').next().is_some_and(|it| it.trim() == FORM));
        if !is_form {
            let sent = sent.unwrap_or_default().to_owned();
            return Err(UnsupportedMediaType { sent }.into());
        }
        let received = receive(body, headers, &self.api.limits, &self.big_bodies).await?;
        if received.bytes.len() > Limits::FORM_BYTES {
            return Err(Refusal::UrlTooLong { limit: Limits::FORM_BYTES });
        }
        let text = String::from_utf8_lossy(&received.bytes);
        searching.add(&path::Query::new(Some(&text)));
        Ok(())
    }

    /// Answers a search from the node's own store.
    pub(crate) fn search(&self, searching: &Searching, base: &Base<'_>) -> Result<Answer, Refusal> {
        let plan = self.plan(searching, base)?;
        let first = &plan.queries[0];
        if searching.strict && !first.ignored.is_empty() {
            return Err(Refusal::Ignored(first.ignored.clone()));
        }
        let page = self.page(&plan)?;
        let mut links = vec![link("self", searching, first, &plan, None, base)];
        if let Some(next) = &page.next {
            links.push(link("first", searching, first, &plan, None, base));
            links.push(link("next", searching, first, &plan, Some(next), base));
        } else if searching.page.is_some() {
            links.push(link("first", searching, first, &plan, None, base));
        }
        let total = page.total.and_then(|total| usize::try_from(total).ok());
        let mut bundle = BundleWriter::new(&BundleHead { sort: "searchset", total, link: links });
        let url = |key: &ResourceKey| format!("{}/{key}", base.url());
        for (key, current) in &page.matches {
            put(&mut bundle, &Match::found(url(key)), current);
        }
        for (key, current) in &page.included {
            put(&mut bundle, &Match::included(url(key)), current);
        }
        let ignored = first.ignored.iter().map(ToString::to_string);
        let cut = page.included_more.then(|| {
            "more resources belong to these matches than one page holds: ask for fewer matches"
                .to_owned()
        });
        let mut warnings = ignored.chain(cut).peekable();
        if warnings.peek().is_some() {
            let outcome = render(&search_warning(warnings));
            bundle.entry(&Match::outcome(), Some(&outcome));
        }
        Ok(Answer::document(bundle.finish()))
    }

    /// Reads the query for each type that is searched.
    fn plan(&self, searching: &Searching, base: &Base<'_>) -> Result<Plan, Refusal> {
        let registry = self.api.store.registry();
        let kinds = kinds(registry, searching)?;
        let now = self.api.clock.wall().0;
        let setting = Setting { registry, now, base: Some(base.url()) };
        let mut queries = Vec::with_capacity(kinds.len());
        for kind in &kinds {
            let parameters = searching.parameters.iter().filter(|(name, _)| {
                name != "_type" || matches!(searching.scope, SearchScope::Type(_))
            });
            let parameters = parameters.map(|(name, value)| (&**name, &**value));
            let mut query = Query::parse(setting, *kind, parameters)?;
            if let SearchScope::Compartment(key, _) = &searching.scope {
                query.conditions.push(in_compartment(registry, key, *kind));
            }
            queries.push(query);
        }
        let several = queries.len() > 1;
        let sorts = |(name, value): &(String, String)| {
            name == "_sort"
                && value.split(',').any(|key| !OF_ALL_TYPES.contains(&key.trim_start_matches('-')))
        };
        if several && searching.parameters.iter().any(sorts) {
            let value = "_sort".to_owned();
            return Err(Misdirected::Value { name: "_sort", value }.into());
        }
        let bad = |text: &str| Misdirected::Value { name: "page", value: text.to_owned() };
        let (mut start, mut after) = (0, None);
        if let Some(text) = &searching.page {
            let (kind, place) = text.split_once('~').ok_or_else(|| bad(text))?;
            start = kinds.iter().position(|it| it.as_str() == kind).ok_or_else(|| bad(text))?;
            if !place.is_empty() {
                let place: PageKey = place.parse().map_err(|_| bad(text))?;
                if place.keys.len() != queries[start].sort.len() {
                    return Err(bad(text).into());
                }
                after = Some(place);
            }
        }
        let count = queries[0].count.unwrap_or(Limits::PAGE_ENTRIES).min(Limits::PAGE_ENTRIES_MAX);
        let count = if queries[0].summary == Summary::Count { 0 } else { count };
        Ok(Plan { queries, start, after, count })
    }

    /// The results that are asked for.
    fn page(&self, plan: &Plan) -> Result<Page, Refusal> {
        let (mut page, after) = (Page::default(), plan.after.as_ref());
        let first = &plan.queries[0];
        let counts = plan.count == 0 || first.total != Total::None;
        let mut total = Some(0_u64);
        for (number, query) in plan.queries.iter().enumerate() {
            let skipped = number < plan.start;
            let left = plan.count - page.matches.len();
            if skipped && !counts {
                total = None;
                continue;
            }
            if left == 0 && plan.count > 0 && page.next.is_none() && !skipped {
                page.next = Some(format!("{}~", query.kind));
            }
            if (left == 0 || page.next.is_some()) && !counts {
                total = None;
                break;
            }
            let show = !skipped && page.next.is_none();
            let limit = if show { left } else { 0 };
            let found = self.found(query, after.filter(|_| number == plan.start), limit, counts)?;
            total = total.zip(found.total).map(|(all, more)| all + more);
            if !show {
                continue;
            }
            if let Some(last) = found.matches.last().filter(|_| found.more) {
                page.next = Some(format!("{}~{}", query.kind, last.place));
            }
            page.matches.extend(found.matches.into_iter().map(|it| (it.key, it.current)));
            page.included.extend(found.included);
            page.included_more |= found.included_more;
        }
        Ok(Page { total, ..page })
    }

    fn found(
        &self,
        query: &Query,
        after: Option<&PageKey>,
        limit: usize,
        count: bool,
    ) -> Result<Found, Refusal> {
        let (sort, includes): (_, &[Include]) = (&query.sort[..], &query.includes);
        let search = Search {
            kind: query.kind,
            conditions: &query.conditions,
            sort,
            includes,
            after,
            limit,
            count,
        };
        Ok(self.api.store.search(search)?)
    }
}

/// The types that are searched, in the order of their codes.
fn kinds(registry: &Registry, searching: &Searching) -> Result<Vec<ResourceType>, Refusal> {
    let mut wanted = Vec::new();
    for (_, value) in searching.parameters.iter().filter(|(name, _)| name == "_type") {
        for name in value.split(',') {
            wanted.push(name.parse().map_err(Misdirected::from)?);
        }
    }
    let among = |kind: &ResourceType| wanted.is_empty() || wanted.contains(kind);
    let kinds: Vec<_> = match &searching.scope {
        SearchScope::Type(kind) => vec![*kind],
        SearchScope::All => ResourceType::all().filter(among).collect(),
        SearchScope::Compartment(key, Some(kind)) => {
            if registry.compartment(key.kind, *kind).is_empty() {
                return Err(Refusal::NoCompartment { kind: key.kind });
            }
            vec![*kind]
        }
        SearchScope::Compartment(key, None) => {
            registry.in_compartment(key.kind).filter(among).collect()
        }
    };
    match (&searching.scope, kinds.is_empty()) {
        (_, false) => Ok(kinds),
        (SearchScope::Compartment(key, _), true) => Err(Refusal::NoCompartment { kind: key.kind }),
        (_, true) => Err(Misdirected::Value { name: "_type", value: String::new() }.into()),
    }
}

/// That a resource of a type belongs to a compartment.
fn in_compartment(registry: &Registry, key: &ResourceKey, kind: ResourceType) -> Condition {
    let codes = registry.compartment(key.kind, kind).iter();
    let refers = codes.filter_map(|code| {
        let parameter = registry.parameter(kind, code)?;
        Some(Condition::refers_to(parameter.clone(), key))
    });
    // The resource that a compartment is about belongs to it.
    let itself = registry.parameter(kind, "_id").filter(|_| key.kind == kind).map(|parameter| {
        let token = Token { system: TokenSystem::Any, value: Some(key.id.to_string()) };
        Condition::Is(parameter.clone(), vec![Sought::Token(token)])
    });
    Condition::Either(itself.into_iter().chain(refers).collect())
}

fn put(bundle: &mut BundleWriter, head: &Match, current: &Current) {
    let Some(content) = &current.stored.content else { return };
    if current.in_conflict {
        bundle.entry(head, Some(&tagged(content)));
    } else {
        bundle.entry(head, Some(content));
    }
}

/// A link to a page: the parameters that were understood, then the place.
fn link(
    relation: &'static str,
    searching: &Searching,
    query: &Query,
    plan: &Plan,
    page: Option<&str>,
    base: &Base<'_>,
) -> Link {
    let above: Cow<'_, str> = match &searching.scope {
        SearchScope::All => "".into(),
        SearchScope::Type(kind) => format!("/{kind}").into(),
        SearchScope::Compartment(key, Some(kind)) => format!("/{key}/{kind}").into(),
        SearchScope::Compartment(key, None) => format!("/{key}/*").into(),
    };
    let mut url = format!("{}{above}", base.url());
    let types = searching.parameters.iter().filter(|(name, _)| name == "_type");
    let used = query.used.iter().filter(|(name, _)| name != "_count" && name != "_type");
    let mut separator = '?';
    let mut add = |name: &str, value: &str| {
        write!(url, "{separator}{}={}", encode(name), encode(value)).expect("strings take all");
        separator = '&';
    };
    for (name, value) in types.chain(used) {
        add(name, value);
    }
    if query.summary != Summary::Count {
        add("_count", &plan.count.to_string());
    }
    let page = if relation == "self" { searching.page.as_deref() } else { page };
    if let Some(page) = page {
        add("page", page);
    }
    Link { relation, url }
}
