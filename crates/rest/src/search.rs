//! This module answers searches (FHIR R4, http, 3.1.0.9 and search): over a type, over several, within a
//! compartment; and the operations that are searches, `$everything` and `$lastn`.
//!
//! Results of several types come type by type. A link to another page carries the query and a place in
//! its results, so it holds at every node and after a restart: `Type~place` is what follows the place,
//! `-Type~place` what ends before it; without a place, from the type's beginning or up to its end.

mod operations;

use std::borrow::Cow;
use std::fmt::Write;

use axum::body::Body;
use chartmesh_record::{ResourceKey, ResourceType, Subset};
use chartmesh_search::{
    Condition, Ignored, PageKey, Query, Registry, Setting, Sought, Summary, TokenSought,
    TokenSystem, Total,
};
use chartmesh_store::{Current, Found, Match, Part, SEARCH_LOOKS, Search};
use http::header::CONTENT_TYPE;

use crate::answer::{Answer, search_warning};
use crate::base::Base;
use crate::body::receive;
use crate::condition::Cached;
use crate::conflict::tagged;
use crate::document::{self, BundleHead, BundleWriter, Link, render};
use crate::limits::Limits;
use crate::media::UnsupportedMediaType;
use crate::path::{Misdirected, SearchScope, Searching};
use crate::query::{self, encode};
use crate::read;
use crate::refusal::Refusal;
use crate::server::{Asked, Server};

const FORM: &str = "application/x-www-form-urlencoded";
/// What sorts results of several types.
const OF_ALL_TYPES: [&str; 2] = ["_id", "_lastUpdated"];

/// A search over types, one after the other.
struct Plan {
    queries: Vec<Query>,
    /// The place of the type that the page begins, or ends, with among them.
    at: usize,
    /// Where in its results; `None`: at their beginning, or at their end.
    place: Option<PageKey>,
    /// Whether the page ends there.
    backwards: bool,
    count: usize,
    /// How many entries may be looked at for each type.
    looks: usize,
}

/// A page of results.
#[derive(Default)]
struct Page {
    matches: Vec<Match>,
    included: Vec<(ResourceKey, Current)>,
    included_more: bool,
    /// Where the next page begins, and the one before ends.
    next: Option<String>,
    previous: Option<String>,
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
        searching.add(&query::Query::new(Some(&text)));
        Ok(())
    }

    /// Answers a search from the node's own store: at once if it is brief, else beside other requests.
    pub(crate) fn search(&self, searching: &Searching, base: &Base<'_>) -> Result<Answer, Refusal> {
        if let SearchScope::Everything(key) = &searching.scope {
            read::current(&self.api.store, key, &Cached::default())?;
        }
        let one_type = !matches!(
            searching.scope,
            SearchScope::All | SearchScope::Compartment(_, None) | SearchScope::Everything(_)
        );
        if one_type {
            match self.search_within(searching, base, Limits::BRIEF_LOOKS) {
                Err(Refusal::TooCostly(_)) => {}
                answered => return answered,
            }
        }
        self.beside(|| self.search_within(searching, base, SEARCH_LOOKS))
    }

    fn search_within(
        &self,
        searching: &Searching,
        base: &Base<'_>,
        looks: usize,
    ) -> Result<Answer, Refusal> {
        let plan = Plan { looks, ..self.plan(searching, base)? };
        let first = &plan.queries[0];
        if searching.strict && !first.ignored.is_empty() {
            return Err(Refusal::Ignored(first.ignored.clone()));
        }
        let page = if matches!(searching.scope, SearchScope::Newest) {
            self.newest(searching, &plan)?
        } else if plan.backwards {
            self.page_before(&plan)?
        } else {
            self.page(&plan)?
        };
        let to = |relation, page: Option<&str>| link(relation, searching, first, &plan, page, base);
        let mut links = vec![to("self", searching.page.as_deref())];
        if page.next.is_some() || searching.page.is_some() {
            links.push(to("first", None));
        }
        links.extend(page.previous.as_deref().map(|page| to("prev", Some(page))));
        links.extend(page.next.as_deref().map(|page| to("next", Some(page))));
        let total = page.total.and_then(|total| usize::try_from(total).ok());
        let mut bundle =
            BundleWriter::new(&BundleHead { total, link: links, ..BundleHead::new("searchset") });
        let url = |key: &ResourceKey| format!("{}/{key}", base.url());
        let subset = subset(first);
        for Match { key, current, .. } in &page.matches {
            put(&mut bundle, &document::Match::found(url(key)), key, current, subset);
        }
        for (key, current) in &page.included {
            put(&mut bundle, &document::Match::included(url(key)), key, current, subset);
        }
        let ignored = first.ignored.iter().map(ToString::to_string);
        let cut = page.included_more.then(|| {
            "more resources belong to these matches than one page holds: ask for fewer matches"
                .to_owned()
        });
        let mut warnings = ignored.chain(cut).peekable();
        if warnings.peek().is_some() {
            let outcome = render(&search_warning(warnings));
            bundle.entry(&document::Match::outcome(), Some(&outcome));
        }
        Ok(Answer::document(bundle.finish()))
    }

    /// Reads the query for each type that is searched.
    fn plan(&self, searching: &Searching, base: &Base<'_>) -> Result<Plan, Refusal> {
        let registry = self.api.store.registry();
        let kinds = kinds(&registry, searching)?;
        let now = self.api.clock.wall().0;
        let setting = Setting { registry: &registry, now, base: Some(base.url()) };
        let read = |searching: &Searching| {
            let queries = kinds.iter().map(|kind| query(setting, searching, *kind));
            queries.collect::<Result<Vec<_>, Refusal>>()
        };
        let mut queries = read(searching)?;
        // What one of the types lacks is left out for all: a page means the same for each of them.
        let mut ignored: Vec<Ignored> = Vec::new();
        for lacking in queries.iter().skip(1).flat_map(|query| &query.ignored) {
            let known = queries[0].ignored.iter().chain(&ignored);
            if !known.into_iter().any(|known| known.name == lacking.name) {
                ignored.push(lacking.clone());
            }
        }
        ignored.splice(0..0, queries[0].ignored.iter().cloned());
        if queries.len() > 1 && !ignored.is_empty() {
            let mut common = searching.clone();
            common.parameters.retain(|(name, _)| !ignored.iter().any(|it| it.name == *name));
            queries = read(&common)?;
            queries[0].ignored = ignored;
        }
        let sorts = |(name, value): &(String, String)| {
            name == "_sort"
                && value.split(',').any(|key| !OF_ALL_TYPES.contains(&key.trim_start_matches('-')))
        };
        if queries.len() > 1 && searching.parameters.iter().any(sorts) {
            let value = "_sort".to_owned();
            return Err(Misdirected::Value { name: "_sort", value }.into());
        }
        let bad = |text: &str| Misdirected::Value { name: "page", value: text.to_owned() };
        let (mut at, mut place, mut backwards) = (0, None, false);
        if let Some(text) = &searching.page {
            let (kind, key) = text.split_once('~').ok_or_else(|| bad(text))?;
            let name = kind.strip_prefix('-');
            backwards = name.is_some();
            let name = name.unwrap_or(kind);
            at = kinds.iter().position(|it| it.as_str() == name).ok_or_else(|| bad(text))?;
            if !key.is_empty() {
                let key: PageKey = key.parse().map_err(|_| bad(text))?;
                if key.keys.len() != queries[at].sort.len() {
                    return Err(bad(text).into());
                }
                place = Some(key);
            }
        }
        let count = queries[0].count.unwrap_or(Limits::PAGE_ENTRIES).min(Limits::PAGE_ENTRIES_MAX);
        let count = if queries[0].summary == Summary::Count { 0 } else { count };
        Ok(Plan { queries, at, place, backwards, count, looks: SEARCH_LOOKS })
    }

    /// The results from a place on.
    fn page(&self, plan: &Plan) -> Result<Page, Refusal> {
        let mut page = Page::default();
        let first = &plan.queries[0];
        let counts = plan.count == 0 || first.total != Total::None;
        let mut total = Some(0_u64);
        for (number, query) in plan.queries.iter().enumerate() {
            let skipped = number < plan.at;
            let left = plan.count - page.matches.len();
            if skipped && !counts {
                total = None;
                continue;
            }
            let show = !skipped && page.next.is_none() && plan.count > 0;
            if !show && !counts {
                total = None;
                break;
            }
            // Of the type after a page that is full, one says whether another page follows.
            let limit = if show { left.max(1) } else { 0 };
            let part = match &plan.place {
                Some(place) if number == plan.at => Part::After(place),
                _ => Part::First,
            };
            let found = self.found(plan, query, part, limit, counts)?;
            total = total.zip(found.total).map(|(all, more)| all + more);
            if !show {
                continue;
            }
            if left == 0 {
                page.next = (!found.matches.is_empty()).then(|| format!("{}~", query.kind));
                continue;
            }
            if let Some(last) = found.matches.last().filter(|_| found.more) {
                page.next = Some(format!("{}~{}", query.kind, last.place));
            }
            page.take(found);
        }
        if plan.at > 0 || plan.place.is_some() {
            page.previous = Some(match page.matches.first() {
                Some(first) => format!("-{}~{}", first.key.kind, first.place),
                None => format!("-{}~", plan.queries[plan.at].kind),
            });
        }
        Ok(Page { total, ..page })
    }

    /// The results up to a place.
    fn page_before(&self, plan: &Plan) -> Result<Page, Refusal> {
        let mut page = Page::default();
        for (number, query) in plan.queries.iter().enumerate().take(plan.at + 1).rev() {
            let left = plan.count - page.matches.len();
            let end = plan.place.as_ref().filter(|_| number == plan.at);
            let mut found = self.found(plan, query, Part::Before(end), left.max(1), false)?;
            if left == 0 {
                page.previous = (!found.matches.is_empty()).then(|| format!("-{}~", query.kind));
                if page.previous.is_some() {
                    break;
                }
                continue;
            }
            let first = found.matches.first().filter(|_| found.more);
            page.previous = first.map(|first| format!("-{}~{}", query.kind, first.place));
            let later = std::mem::take(&mut page.matches);
            found.matches.extend(later);
            page.take(found);
            if page.previous.is_some() {
                break;
            }
        }
        page.next = page.matches.last().map(|last| format!("{}~{}", last.key.kind, last.place));
        if plan.queries[0].total != Total::None {
            let mut total = 0;
            for query in &plan.queries {
                total += self.found(plan, query, Part::First, 0, true)?.total.unwrap_or_default();
            }
            page.total = Some(total);
        }
        Ok(page)
    }

    fn found(
        &self,
        plan: &Plan,
        query: &Query,
        part: Part<'_>,
        limit: usize,
        count: bool,
    ) -> Result<Found, Refusal> {
        let search = Search {
            kind: query.kind,
            conditions: &query.conditions,
            sort: &query.sort,
            includes: &query.includes,
            part,
            limit,
            count,
            looks: plan.looks,
        };
        Ok(self.api.store.search(search)?)
    }
}

impl Page {
    fn take(&mut self, found: Found) {
        self.matches.extend(found.matches);
        self.included.extend(found.included);
        self.included_more |= found.included_more;
    }
}

/// The query for one type.
fn query(
    setting: Setting<'_>,
    searching: &Searching,
    kind: ResourceType,
) -> Result<Query, Refusal> {
    let registry = setting.registry;
    let parameters = searching.parameters.iter().map(|(name, value)| (&**name, &**value));
    match &searching.scope {
        SearchScope::Type(_) => Ok(Query::parse(setting, kind, parameters)?),
        SearchScope::All => {
            let others = parameters.filter(|(name, _)| *name != "_type");
            Ok(Query::parse(setting, kind, others)?)
        }
        SearchScope::Compartment(key, _) => {
            let others = parameters.filter(|(name, _)| *name != "_type");
            let mut query = Query::parse(setting, kind, others)?;
            query.conditions.push(in_compartment(registry, key, kind));
            Ok(query)
        }
        SearchScope::Everything(key) => operations::everything(setting, parameters, key, kind),
        SearchScope::Newest => {
            let others = parameters.filter(|(name, _)| *name != "max");
            Ok(Query::parse(setting, kind, others)?)
        }
    }
}

/// What of each resource is in the answer, if not all.
fn subset(query: &Query) -> Option<Subset<'_>> {
    match query.summary {
        Summary::True => Some(Subset::Summary),
        Summary::Text => Some(Subset::Text),
        Summary::Data => Some(Subset::Data),
        Summary::False | Summary::Count if query.elements.is_empty() => None,
        Summary::False | Summary::Count => Some(Subset::Elements(&query.elements)),
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
        SearchScope::Newest => vec!["Observation".parse().expect("it is a type of R4")],
        SearchScope::Everything(key) => {
            let others = registry.in_compartment(key.kind).filter(|kind| *kind != key.kind);
            std::iter::once(key.kind).chain(others).filter(among).collect()
        }
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
        let token = TokenSought { system: TokenSystem::Any, value: Some(key.id.to_string()) };
        Condition::Is(parameter.clone(), vec![Sought::Token(token)])
    });
    Condition::Either(itself.into_iter().chain(refers).collect())
}

fn put(
    bundle: &mut BundleWriter,
    head: &document::Match,
    key: &ResourceKey,
    current: &Current,
    subset: Option<Subset<'_>>,
) {
    let Some(content) = &current.stored.content else { return };
    let content =
        if current.in_conflict { Cow::Owned(tagged(content)) } else { Cow::Borrowed(content) };
    match subset.and_then(|subset| subset.of(key.kind, &content)) {
        Some(part) => bundle.entry(head, Some(&part)),
        None => bundle.entry(head, Some(&content)),
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
        SearchScope::Everything(key) => format!("/{key}/$everything").into(),
        SearchScope::Newest => "/Observation/$lastn".into(),
    };
    let mut url = format!("{}{above}", base.url());
    let own = searching.parameters.iter().filter(|(name, _)| match searching.scope {
        SearchScope::Newest => name == "max",
        SearchScope::Type(_) => false,
        _ => name == "_type",
    });
    let used = query.used.iter().filter(|(name, _)| name != "_count");
    let mut separator = '?';
    let mut add = |name: &str, value: &str| {
        write!(url, "{separator}{}={}", encode(name), encode(value)).expect("strings take all");
        separator = '&';
    };
    for (name, value) in own.chain(used) {
        add(name, value);
    }
    if query.summary != Summary::Count {
        add("_count", &plan.count.to_string());
    }
    if let Some(page) = page {
        add("page", page);
    }
    Link { relation, url }
}
