//! This module holds the search parameters of every type of resource.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, LazyLock, OnceLock};

use chartmesh_record::ResourceType;

use crate::added::Added;
use crate::definitions;
use crate::parameter::{Parameter, Way};

/// The parameters that searches may name, and the zone in which dates are read that have none.
#[derive(Debug)]
pub struct Registry {
    zone: i32,
    types: Vec<OnceLock<TypeParameters>>,
    added: Added,
    /// Those of them that not all resources are indexed by yet.
    unindexed: BTreeSet<(ResourceType, String)>,
}

/// Those of one type.
struct TypeParameters {
    parameters: BTreeMap<String, Arc<Parameter>>,
    /// The ways to all their values, each once.
    ways: Vec<Way>,
}

static COMPARTMENTS: LazyLock<BTreeMap<(ResourceType, ResourceType), Vec<&'static str>>> =
    LazyLock::new(definitions::compartments);

impl Registry {
    /// The parameters of R4. `zone` is seconds east of Greenwich.
    #[must_use]
    pub fn of_r4(zone: i32) -> Self {
        let types = ResourceType::all().map(|_| OnceLock::new()).collect();
        Self { zone, types, added: Added::default(), unindexed: BTreeSet::new() }
    }

    /// The same with other added parameters. `indexed` has the [lines](Added::lines) of those that all
    /// resources are indexed by.
    #[must_use]
    pub fn with(&self, added: Added, indexed: &str) -> Self {
        let lines = added.lines();
        let names = added.names().zip(lines.lines());
        let unindexed = names.filter(|(_, line)| !indexed.lines().any(|known| known == *line));
        let unindexed = unindexed.map(|(name, _)| name.clone()).collect();
        Self { added, unindexed, ..Self::of_r4(self.zone) }
    }

    /// The parameters beside those of R4.
    #[must_use]
    pub fn added(&self) -> &Added {
        &self.added
    }

    /// Whether there is such a parameter that not all resources are indexed by yet.
    #[must_use]
    pub fn is_unindexed(&self, kind: ResourceType, code: &str) -> bool {
        !self.unindexed.is_empty() && self.unindexed.contains(&(kind, code.to_owned()))
    }

    /// The zone of dates that have none: seconds east of Greenwich.
    #[must_use]
    pub fn zone(&self) -> i32 {
        self.zone
    }

    /// The parameter of this name.
    #[must_use]
    pub fn parameter(&self, kind: ResourceType, code: &str) -> Option<&Arc<Parameter>> {
        self.of(kind).parameters.get(code).filter(|_| !self.is_unindexed(kind, code))
    }

    /// All parameters of a type, by name.
    pub fn parameters(&self, kind: ResourceType) -> impl Iterator<Item = &Arc<Parameter>> {
        let all = self.of(kind).parameters.values();
        all.filter(move |parameter| !self.is_unindexed(kind, parameter.code()))
    }

    /// The parameters by which resources of a type belong to compartments of another; `{def}` is the
    /// resource itself. Empty: they never do (FHIR R4, compartmentdefinition).
    #[must_use]
    pub fn compartment(&self, compartment: ResourceType, kind: ResourceType) -> &[&'static str] {
        COMPARTMENTS.get(&(compartment, kind)).map_or(&[], Vec::as_slice)
    }

    /// The types of resources that compartments of a type can have.
    pub fn in_compartment(&self, compartment: ResourceType) -> impl Iterator<Item = ResourceType> {
        let all = COMPARTMENTS.keys().filter(move |(name, _)| *name == compartment);
        all.map(|(_, kind)| *kind)
    }

    pub(crate) fn ways(&self, kind: ResourceType) -> &[Way] {
        &self.of(kind).ways
    }

    fn of(&self, kind: ResourceType) -> &TypeParameters {
        self.types[usize::from(kind.code())].get_or_init(|| {
            let mut all = definitions::parameters(kind);
            all.extend(self.added.of(kind));
            TypeParameters::new(all)
        })
    }
}

impl TypeParameters {
    fn new(all: Vec<Parameter>) -> Self {
        let mut parameters = BTreeMap::new();
        for parameter in all {
            parameters.insert(parameter.code().to_owned(), Arc::new(parameter));
        }
        let mut known = BTreeSet::new();
        let ways = parameters.values().flat_map(|parameter| parameter.ways());
        let ways = ways.filter(|way| known.insert(way.id)).cloned().collect();
        Self { parameters, ways }
    }
}

impl fmt::Debug for TypeParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.parameters.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameter::Sort;

    #[test]
    fn what_leads_to_a_composite_is_kept_for_another_parameter() {
        let registry = Registry::of_r4(0);
        let mut led = 0;
        for kind in ResourceType::all() {
            let composites = registry.parameters(kind).filter(|it| it.sort() == Sort::Composite);
            for parameter in composites {
                for path in parameter.seed_paths() {
                    let kept = registry.ways(kind).iter().any(|way| way.id == path);
                    assert!(kept, "{kind} {} begins with what nothing leads to", parameter.code());
                    led += 1;
                }
            }
        }
        assert!(led > 40, "{led}");
    }

    #[test]
    fn paths_of_a_type_have_ids_of_their_own() {
        let registry = Registry::of_r4(0);
        for kind in ResourceType::all() {
            let ways: BTreeSet<_> = registry.ways(kind).iter().map(|way| way.id).collect();
            assert_eq!(ways.len(), registry.ways(kind).len(), "{kind}");
        }
    }
}
