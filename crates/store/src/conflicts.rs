//! This module lists what is in conflict, oldest first.

use std::fmt;
use std::str::FromStr;

use chartmesh_record::{Place, RequestId, ResourceKey, ResourceType, Timestamp, VersionId};

use crate::error::Corrupt;
use crate::keys::{ConflictRow, CriteriaHash, FeedPlace, HeadRow};
use crate::reader::Reader;
use crate::store::{META, Store};

/// Which conflicts are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConflictScope {
    /// All.
    All,
    /// Those of one type.
    Type(ResourceType),
    /// That of one resource.
    Resource(ResourceKey),
}

/// Where a conflict stands in the list: since when, at this node, and of which resource. Its text is
/// what a page's link carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConflictKey(ConflictRow);

/// A resource with several heads, at least one of them not a deletion; or duplicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// What sort.
    pub kind: ConflictKind,
    /// The resource; of duplicates the first.
    pub resource: ResourceKey,
    /// The others, where they are duplicates: made by conditional creates with equal criteria in
    /// different origins.
    pub duplicates: Vec<ResourceKey>,
    /// The criteria, where they are duplicates.
    pub criteria: Option<String>,
    /// Since when it is in conflict at this node.
    pub since: Timestamp,
    /// Other resources that were written together with one of its heads.
    pub siblings: Vec<ResourceKey>,
    /// Its heads, one for all twins, the current one first, then those known by name only. Of
    /// duplicates the current version of each, in their order.
    pub heads: Vec<ConflictHead>,
    key: ConflictKey,
}

/// What sort of conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConflictKind {
    /// Updates beside each other.
    Update,
    /// A deletion beside an update.
    Delete,
    /// Several resources where each of their makers would have made one.
    Duplicate,
}

/// One of the heads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConflictHead {
    /// Its name.
    pub version: VersionId,
    /// What is known of it; `None` while it is absent.
    pub made: Option<Made>,
}

/// How a head came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Whether it is a deletion.
    pub deleted: bool,
    /// When it was decided.
    pub at: Timestamp,
    /// Who took the request.
    pub place: Place,
    /// The request.
    pub request: RequestId,
    /// Who asked, where that is known.
    pub client: Option<String>,
}

/// Siblings that are told of one conflict.
const SIBLINGS: usize = 100;

impl Store {
    /// The conflicts of a scope that follow `after`, oldest first, `limit` at the most.
    ///
    /// # Errors
    /// When the disk does not hold what it should.
    pub fn conflicts(
        &self,
        scope: &ConflictScope,
        after: Option<&ConflictKey>,
        limit: usize,
    ) -> Result<Vec<Conflict>, Corrupt> {
        let reader = Reader::at_this_moment(&self.inner);
        let rows = match scope {
            ConflictScope::Resource(resource) => {
                let mut rows = reader.duplicates_of(resource)?;
                rows.extend(reader.conflict(resource)?);
                rows.sort_by_key(ConflictRow::by_age);
                rows.retain(|row| after.is_none_or(|after| after.precedes(row)));
                rows
            }
            ConflictScope::All => reader.oldest(None, after, limit)?,
            ConflictScope::Type(kind) => reader.oldest(Some(*kind), after, limit)?,
        };
        rows.into_iter().take(limit).map(|row| reader.describe(row)).collect()
    }

    /// How many conflicts there are, of all kinds.
    #[must_use]
    pub fn conflict_count(&self) -> u64 {
        self.totals().conflicts
    }
}

impl Reader<'_> {
    /// Since when a resource is in conflict, if it is.
    pub(crate) fn conflict(&self, resource: &ResourceKey) -> Result<Option<ConflictRow>, Corrupt> {
        let key = ConflictRow::by_resource(resource);
        let Some(value) = self.get(META, &key)? else { return Ok(None) };
        let row = ConflictRow::decode(&key, &value);
        row.map(Some).ok_or_else(|| self.inner.tables.bad_row(META, &key))
    }

    fn oldest(
        &self,
        kind: Option<ResourceType>,
        after: Option<&ConflictKey>,
        limit: usize,
    ) -> Result<Vec<ConflictRow>, Corrupt> {
        let from = after.map_or_else(|| ConflictRow::BY_AGE.to_vec(), |after| after.0.by_age());
        let rows = self.scan(META, &from, ConflictRow::BY_AGE).map(|row| {
            let (key, _) = row?;
            ConflictRow::decode_by_age(&key).ok_or_else(|| self.inner.tables.bad_row(META, &key))
        });
        let wanted = |row: &ConflictRow| {
            kind.is_none_or(|kind| row.resource.kind == kind)
                && after.is_none_or(|after| after.precedes(row))
        };
        rows.filter(|row| row.as_ref().map_or(true, wanted)).take(limit).collect()
    }

    fn describe(&self, row: ConflictRow) -> Result<Conflict, Corrupt> {
        let key = ConflictKey(row.clone());
        let ConflictRow { since, resource, criteria } = row;
        if let Some(criteria) = criteria {
            return self.describe_duplicates(key, criteria);
        }
        let held = self.head_row(&resource)?;
        let heads = held.heads();
        let (mut siblings, mut told) = (Vec::new(), Vec::new());
        for head in heads.distinct() {
            let made = self.made(&held, &head.version, &resource, &mut siblings)?;
            told.push(ConflictHead { version: head.version.clone(), made: Some(made) });
        }
        let absent = heads.absent().into_iter();
        told.extend(absent.map(|version| ConflictHead { version: version.clone(), made: None }));
        let deletes = heads.iter().any(|head| head.deleted);
        let kind = if deletes { ConflictKind::Delete } else { ConflictKind::Update };
        let (duplicates, criteria) = (Vec::new(), None);
        Ok(Conflict { kind, resource, duplicates, criteria, since, siblings, heads: told, key })
    }

    fn describe_duplicates(
        &self,
        key: ConflictKey,
        criteria: CriteriaHash,
    ) -> Result<Conflict, Corrupt> {
        let makers = self.makers(criteria)?;
        let (mut siblings, mut told) = (Vec::new(), Vec::new());
        for resource in makers.keys().take(SIBLINGS) {
            let held = self.head_row(resource)?;
            let Some(current) = held.current() else { continue };
            let version = current.head.version.clone();
            let made = self.made(&held, &version, resource, &mut siblings)?;
            told.push(ConflictHead { version, made: Some(made) });
        }
        let made_under = self.made_under(&key.0.resource)?;
        let text = made_under.into_iter().find(|(made, _)| made.criteria == criteria);
        let mut duplicates: Vec<ResourceKey> = makers.into_keys().take(SIBLINGS).collect();
        siblings.retain(|sibling| !duplicates.contains(sibling));
        duplicates.retain(|resource| *resource != key.0.resource);
        Ok(Conflict {
            kind: ConflictKind::Duplicate,
            resource: key.0.resource.clone(),
            duplicates,
            criteria: text.map(|(_, text)| text),
            since: key.0.since,
            siblings,
            heads: told,
            key,
        })
    }

    fn made(
        &self,
        held: &HeadRow,
        version: &VersionId,
        resource: &ResourceKey,
        siblings: &mut Vec<ResourceKey>,
    ) -> Result<Made, Corrupt> {
        let head = held.0.iter().find(|held| held.head.version == *version);
        let head = head.expect("it was read from this row");
        let code = self.inner.origins.read().expect("no holder panics").code(&version.origin);
        let origin = code.expect("its head was read");
        let set = self.change(FeedPlace { origin, seq: head.seq })?.into_change_set();
        for written in &set.versions {
            let known = written.key == *resource || siblings.contains(&written.key);
            if !known && siblings.len() < SIBLINGS {
                siblings.push(written.key.clone());
            }
        }
        let deleted = head.head.deleted;
        Ok(Made { deleted, at: set.at, place: set.place, request: set.request, client: set.client })
    }
}

impl Conflict {
    /// Where it stands in the list.
    #[must_use]
    pub fn key(&self) -> ConflictKey {
        self.key.clone()
    }
}

impl ConflictKey {
    fn precedes(&self, row: &ConflictRow) -> bool {
        self.0.by_age() < row.by_age()
    }
}

impl fmt::Display for ConflictKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0.since.0, self.0.resource)?;
        let criteria = self.0.criteria.iter().flat_map(|criteria| criteria.0);
        for (place, byte) in criteria.enumerate() {
            write!(f, "{}{byte:02x}", if place == 0 { "~" } else { "" })?;
        }
        Ok(())
    }
}

/// Criteria in hexadecimal digits.
fn criteria_of(text: &str) -> Option<CriteriaHash> {
    let all = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32)?;
    Some(CriteriaHash(all.to_be_bytes()))
}

/// A text that is no conflict's place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the place of a conflict")]
pub struct InvalidConflictKey {
    /// The text.
    pub text: String,
}

impl FromStr for ConflictKey {
    type Err = InvalidConflictKey;

    fn from_str(text: &str) -> Result<Self, InvalidConflictKey> {
        let parse = || {
            let (since, resource) = text.split_once('.')?;
            let (resource, criteria) = match resource.split_once('~') {
                Some((resource, criteria)) => (resource, Some(criteria_of(criteria)?)),
                None => (resource, None),
            };
            let (kind, id) = resource.split_once('/')?;
            let resource = ResourceKey { kind: kind.parse().ok()?, id: id.parse().ok()? };
            let since = Timestamp(since.parse().ok()?);
            Some(Self(ConflictRow { since, resource, criteria }))
        };
        parse().ok_or_else(|| InvalidConflictKey { text: text.to_owned() })
    }
}
