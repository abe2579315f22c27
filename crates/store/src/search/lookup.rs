//! This module looks up what conditions depend on beside a candidate: other resources, value sets, lists.

use std::sync::Arc;

use chartmesh_record::{ResourceId, ResourceKey, ResourceType};
use chartmesh_search::{
    Condition, Entries, Lookup, Sought, TokenSought, UriPlace, UriSought, codes, targets,
};

use super::{Go, SearchError, Searcher};
use crate::index::entries_key;
use crate::limits::SEARCH_ROWS_KEPT;
use crate::store::ENTRIES;

impl Lookup for Searcher<'_> {
    type Error = SearchError;

    fn entries(&self, key: &ResourceKey) -> Result<Option<Arc<[u8]>>, SearchError> {
        if let Some(known) = self.rows.borrow().get(key) {
            return Ok(known.clone());
        }
        self.look()?;
        let name = entries_key(key);
        let row: Option<Arc<[u8]>> = match self.shelved(&name) {
            Some(shelved) => shelved.map(|shelved| shelved.entries[..].into()),
            None => match self.reader.get(ENTRIES, &name)? {
                Some(row) => Some(self.row(&name, &row)?.entries.as_bytes().into()),
                None => None,
            },
        };
        let mut rows = self.rows.borrow_mut();
        if rows.len() < SEARCH_ROWS_KEPT {
            rows.insert(key.clone(), row.clone());
        }
        Ok(row)
    }

    fn content(&self, key: &ResourceKey) -> Result<Option<Arc<[u8]>>, SearchError> {
        self.look()?;
        if let Some(shelved) = self.shelved(&entries_key(key)) {
            return Ok(shelved.map(|shelved| shelved.content[..].into()));
        }
        let current = self.reader.current(key)?;
        let content = current.and_then(|current| current.stored.content);
        Ok(content.map(|content| content[..].into()))
    }

    fn in_conflict(&self, key: &ResourceKey) -> Result<bool, SearchError> {
        self.look()?;
        Ok(self.reader.conflict(key)?.is_some())
    }

    fn value_set(&self, name: &str) -> Result<Arc<[TokenSought]>, SearchError> {
        if let Some(known) = self.value_sets.borrow().get(name) {
            return Ok(known.clone());
        }
        let refuse = |reason| SearchError::ValueSet { name: name.to_owned(), reason };
        let kind: ResourceType = "ValueSet".parse().expect("it is a type of R4");
        let mut found = Vec::new();
        match name.strip_prefix("ValueSet/").map(str::parse) {
            Some(id) => found.push(id.map_err(|_| refuse("that is no id"))?),
            None => {
                let url = self.registry.parameter(kind, "url");
                let url = url.expect("R4 has it").clone();
                let sought = UriSought { uri: name.to_owned(), place: UriPlace::Same };
                let is_it = Condition::Is(url, vec![Sought::Uri(sought)]);
                self.each_match(kind, &[&is_it], None, &mut |id, _| {
                    found.extend(id.id());
                    Ok(Go::On)
                })?;
            }
        }
        let [id] = &found[..] else {
            let several = "several are stored here: name one as ValueSet/id";
            return Err(refuse(if found.is_empty() { "it is not stored here" } else { several }));
        };
        let content = self.content(&ResourceKey { kind, id: id.clone() })?;
        let content = content.ok_or_else(|| refuse("it is not stored here"))?;
        let codes: Arc<[TokenSought]> = codes(&content).map_err(refuse)?.into();
        self.value_sets.borrow_mut().insert(name.to_owned(), codes.clone());
        Ok(codes)
    }

    fn listed(&self, list: &ResourceId) -> Result<Arc<[ResourceKey]>, SearchError> {
        if let Some(known) = self.lists.borrow().get(list) {
            return Ok(known.clone());
        }
        let kind: ResourceType = "List".parse().expect("it is a type of R4");
        let row = self.entries(&ResourceKey { kind, id: list.clone() })?;
        let item = self.registry.parameter(kind, "item").expect("R4 has it");
        let keys = row.map(|row| targets(item, Entries::read(&row))).unwrap_or_default();
        let keys: Arc<[ResourceKey]> = keys.into();
        self.lists.borrow_mut().insert(list.clone(), keys.clone());
        Ok(keys)
    }

    fn any(&self, kind: ResourceType, conditions: &[&Condition]) -> Result<bool, SearchError> {
        let whole = self.each_match(kind, conditions, None, &mut |_, _| Ok(Go::Stop))?;
        Ok(!whole)
    }
}
