//! This module makes searches of the operations that are searches: `$everything` (FHIR R4, patient and
//! encounter) and `$lastn` (observation).

use std::collections::BTreeSet;

use chartmesh_record::{ResourceKey, ResourceType};
use chartmesh_search::{Condition, Ignored, Include, Query, Registry, Setting, Sort};
use chartmesh_store::Newest;

use super::{Page, Plan, in_compartment};
use crate::path::{Misdirected, Searching};
use crate::refusal::Refusal;
use crate::server::Server;

/// The parameters that say when care was given, the first that a type has.
const CARE_DATES: [&str; 8] = [
    "date",
    "effective-time",
    "authoredon",
    "onset-date",
    "authored",
    "occurrence",
    "created",
    "period",
];

/// Of one type, what belongs to a patient or an encounter, with what that refers to outside of it.
pub(super) fn everything<'p>(
    setting: Setting<'_>,
    parameters: impl Iterator<Item = (&'p str, &'p str)>,
    key: &ResourceKey,
    kind: ResourceType,
) -> Result<Query, Refusal> {
    let registry = setting.registry;
    let mut query = Query::parse(setting, kind, [])?;
    for (name, value) in parameters {
        match name {
            "_type" => continue,
            "_count" => query.count = Query::parse(setting, kind, [(name, value)])?.count,
            "_summary" => query.summary = Query::parse(setting, kind, [(name, value)])?.summary,
            "_elements" => {
                query.elements.extend(Query::parse(setting, kind, [(name, value)])?.elements);
            }
            "_since" => {
                let value = format!("ge{value}");
                let since = Query::parse(setting, kind, [("_lastUpdated", &*value)])?;
                query.conditions.extend(since.conditions);
            }
            "start" => query.conditions.extend(cared_for(setting, kind, "ge", value)?),
            "end" => query.conditions.extend(cared_for(setting, kind, "le", value)?),
            _ => {
                let reason =
                    "$everything takes start, end, _since, _type, _count, _summary and _elements"
                        .to_owned();
                query.ignored.push(Ignored { name: name.to_owned(), reason });
                continue;
            }
        }
        query.used.push((name.to_owned(), value.to_owned()));
    }
    query.conditions.push(in_compartment(registry, key, kind));
    query.includes = outside(registry, key.kind, kind);
    Ok(query)
}

/// That care was given then, or at no known time.
fn cared_for(
    setting: Setting<'_>,
    kind: ResourceType,
    prefix: &str,
    date: &str,
) -> Result<Option<Condition>, Refusal> {
    let known = CARE_DATES.iter().filter_map(|code| setting.registry.parameter(kind, code));
    let Some(parameter) = known.into_iter().find(|it| it.sort() == Sort::Date) else {
        return Ok(None);
    };
    let value = format!("{prefix}{date}");
    let then = Query::parse(setting, kind, [(parameter.code(), &*value)])?.conditions;
    let never = Condition::Missing(parameter.clone(), true);
    Ok(Some(Condition::Either(then.into_iter().chain([never]).collect())))
}

/// The types that resources of a type refer to and that are not part of a compartment.
fn outside(registry: &Registry, compartment: ResourceType, kind: ResourceType) -> Vec<Include> {
    let within: BTreeSet<_> = registry.in_compartment(compartment).chain([compartment]).collect();
    let references = registry.parameters(kind).filter(|it| it.sort() == Sort::Reference);
    let targets: BTreeSet<_> = references.flat_map(|it| it.targets().iter().copied()).collect();
    let targets = targets.difference(&within).copied();
    let include = |target| Include {
        source: kind,
        parameter: None,
        target: Some(target),
        iterate: false,
        reverse: false,
    };
    targets.map(include).collect()
}

impl Server {
    /// The newest observations of each code.
    pub(super) fn newest(&self, searching: &Searching, plan: &Plan) -> Result<Page, Refusal> {
        let query = &plan.queries[0];
        let named = |names: &[&str]| {
            let code = |name: &str| name.split([':', '.']).next().unwrap_or_default().to_owned();
            query.used.iter().any(|(name, _)| names.contains(&&*code(name)))
        };
        if !named(&["patient", "subject"]) {
            return Err(Refusal::Incomplete("a patient or subject"));
        }
        if !named(&["category", "code", "combo-code"]) {
            return Err(Refusal::Incomplete("a category or code"));
        }
        let mut most = 1;
        if let Some((_, text)) = searching.parameters.iter().find(|(name, _)| name == "max") {
            let bad = || Misdirected::Value { name: "max", value: text.clone() };
            most = text.parse().ok().filter(|max| *max > 0).ok_or_else(bad)?;
        }
        let registry = self.api.store.registry();
        let now = self.api.clock.wall().0;
        let setting = Setting { registry: &registry, now, base: None };
        let order = Query::parse(setting, query.kind, [("_sort", "-date")])?;
        let by = registry.parameter(query.kind, "code").expect("R4 has it");
        let newest = Newest {
            kind: query.kind,
            conditions: &query.conditions,
            sort: &order.sort,
            by,
            most,
            looks: plan.looks,
        };
        let matches = self.api.store.newest(newest)?;
        let total = u64::try_from(matches.len()).ok();
        Ok(Page { matches, total, ..Page::default() })
    }
}
