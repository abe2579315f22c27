//! This module fetches what comes along with matches: what they refer to, and what refers to them.

use std::collections::BTreeSet;
use std::sync::Arc;

use chartmesh_record::ResourceKey;
use chartmesh_search::{Condition, Entries, Include, Lookup, Parameter, Sort, targets};

use super::{Go, Match, SearchError, Searcher};
use crate::limits::SEARCH_INCLUDED;
use crate::read::Current;

impl Searcher<'_> {
    /// What comes along with matches, each once, and whether there would be more.
    pub(super) fn included(
        &self,
        includes: &[Include],
        matches: &[Match],
    ) -> Result<(Vec<(ResourceKey, Current)>, bool), SearchError> {
        let mut known: BTreeSet<_> = matches.iter().map(|it| it.key.clone()).collect();
        let mut order = Vec::new();
        let mut round: Vec<_> = matches.iter().map(|it| it.key.clone()).collect();
        let mut first = true;
        while !round.is_empty() {
            let mut next = Vec::new();
            for include in includes.iter().filter(|include| first || include.iterate) {
                for key in &round {
                    // Without `:iterate` only the matches themselves are looked at.
                    if !include.reverse && include.source != key.kind {
                        continue;
                    }
                    if include.reverse && include.target.is_some_and(|target| target != key.kind) {
                        continue;
                    }
                    for found in self.along(include, key)? {
                        if known.insert(found.clone()) {
                            next.push(found);
                        }
                    }
                    if order.len() + next.len() > SEARCH_INCLUDED {
                        next.truncate(SEARCH_INCLUDED - order.len());
                        order.extend(next);
                        return Ok((self.contents(order)?, true));
                    }
                }
            }
            order.extend(next.iter().cloned());
            round = next;
            first = false;
        }
        Ok((self.contents(order)?, false))
    }

    /// What comes along with one resource.
    fn along(&self, include: &Include, key: &ResourceKey) -> Result<Vec<ResourceKey>, SearchError> {
        let of_source = self.registry.parameters(include.source);
        let references = of_source.filter(|it| it.sort() == Sort::Reference);
        let named = |it: &&Arc<Parameter>| {
            include.parameter.as_ref().is_none_or(|named| named.code() == it.code())
        };
        let parameters = references.filter(named);
        let mut found = Vec::new();
        if include.reverse {
            let refers = parameters.map(|it| Condition::refers_to(it.clone(), key));
            let refers = Condition::Either(refers.collect());
            self.each_match(include.source, &[&refers], None, &mut |id, _| {
                let id = id.id();
                found.extend(id.map(|id| ResourceKey { kind: include.source, id }));
                Ok(if found.len() > SEARCH_INCLUDED { Go::Stop } else { Go::On })
            })?;
            return Ok(found);
        }
        let Some(row) = self.entries(key)? else { return Ok(found) };
        for parameter in parameters {
            let keys = targets(parameter, Entries::read(&row)).into_iter();
            found.extend(keys.filter(|it| include.target.is_none_or(|target| target == it.kind)));
        }
        Ok(found)
    }

    /// The current versions of those that are live.
    fn contents(&self, keys: Vec<ResourceKey>) -> Result<Vec<(ResourceKey, Current)>, SearchError> {
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            let current = self.reader.current(&key)?;
            let current = current.filter(|current| current.stored.content.is_some());
            found.extend(current.map(|current| (key, current)));
        }
        Ok(found)
    }
}
