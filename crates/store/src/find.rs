//! This module finds the resources whose current version matches criteria.

use std::collections::BTreeSet;

use chartmesh_record::{Criteria, ResourceId, ResourceKey, ResourceType, Term, Token, TokenSystem};

use crate::error::Corrupt;
use crate::keys::{CurrentHead, HeadRow, IdentifierKey};
use crate::reader::Reader;
use crate::store::{HEADS, IDENTIFIERS};

impl Reader<'_> {
    /// The ids of what matches, in order, `limit` at the most.
    pub(crate) fn find(
        &self,
        criteria: &Criteria,
        limit: usize,
    ) -> Result<Vec<ResourceId>, Corrupt> {
        let mut matches: Option<BTreeSet<ResourceId>> = None;
        for term in criteria.terms() {
            let these = self.matching(criteria.kind(), term)?;
            matches = Some(match matches {
                None => these,
                Some(so_far) => so_far.intersection(&these).cloned().collect(),
            });
        }
        Ok(matches.into_iter().flatten().take(limit).collect())
    }

    fn matching(&self, kind: ResourceType, term: &Term) -> Result<BTreeSet<ResourceId>, Corrupt> {
        let mut found = BTreeSet::new();
        match term {
            Term::Id(ids) => {
                for id in ids {
                    if self.is_live(&ResourceKey { kind, id: id.clone() })? {
                        found.insert(id.clone());
                    }
                }
            }
            Term::Identifier(tokens) => {
                for token in tokens {
                    self.with_identifier(kind, token, &mut found)?;
                }
            }
        }
        Ok(found)
    }

    fn is_live(&self, resource: &ResourceKey) -> Result<bool, Corrupt> {
        let key = HeadRow::key(resource);
        let Some(row) = self.get(HEADS, &key)? else { return Ok(false) };
        let head = CurrentHead::decode(&row);
        head.map(|head| !head.deleted).ok_or_else(|| self.inner.tables.bad_row(HEADS, &key))
    }

    fn with_identifier(
        &self,
        kind: ResourceType,
        token: &Token,
        found: &mut BTreeSet<ResourceId>,
    ) -> Result<(), Corrupt> {
        let system = match &token.system {
            TokenSystem::Any => None,
            TokenSystem::Absent => Some(None),
            TokenSystem::Is(system) => Some(Some(system.as_str())),
        };
        let prefix = match (&token.value, system) {
            (Some(value), Some(system)) => {
                let identifier = (system.map(str::to_owned), value.clone());
                IdentifierKey::of_identifier(kind, &identifier)
            }
            (Some(value), None) => IdentifierKey::of_value(kind, value),
            // Values come first in the keys: a system alone is looked for in all of them.
            (None, _) => IdentifierKey::of_type(kind),
        };
        for row in self.scan(IDENTIFIERS, prefix.as_bytes(), prefix.as_bytes()) {
            let (key, _) = row?;
            let (id, same) = IdentifierKey::decode(&key, system.flatten())
                .ok_or_else(|| self.inner.tables.bad_row(IDENTIFIERS, &key))?;
            if same || system.is_none() {
                found.insert(id);
            }
        }
        Ok(())
    }
}
