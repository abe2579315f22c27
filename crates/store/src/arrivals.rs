//! This module lists versions in the order in which they arrived at this node, the newest first.
//!
//! A change that was decided long ago and arrives now stands at the head of the list: whoever asks
//! again for what came since misses nothing. An apply has one instant, later than those before it.

use std::collections::{BinaryHeap, HashSet};
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use chartmesh_record::{ResourceKey, ResourceType, Timestamp, VersionId};
use chartmesh_wire::decode_piece;
use rocksdb::WriteBatch;

use crate::error::{Corrupt, OpenError};
use crate::keys::{ArrivalPlace, ArrivalRow, ArrivalsRow, MetaKey, VersionKey, VersionRow};
use crate::limits::ARRIVAL_LOOKS;
use crate::read::StoredVersion;
use crate::reader::Reader;
use crate::store::{ARRIVALS, Inner, META, Store, VERSIONS};

/// Which arrivals are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Of this type, or of all.
    pub kind: Option<ResourceType>,
    /// Since this instant, included.
    pub since: Option<Timestamp>,
    /// What was there at some point between these instants, both included, for all that had arrived.
    pub during: Option<(Timestamp, Timestamp)>,
    /// What arrived before this place; without it, up to now.
    pub before: Option<ArrivalPlace>,
    /// How many at the most.
    pub limit: usize,
}

/// A part of what arrived.
#[derive(Clone, Debug)]
pub struct Arrivals {
    /// The newest first.
    pub arrivals: Vec<Arrival>,
    /// Whether earlier ones are wanted too.
    pub more: bool,
    /// When the very first version arrived: with the node's name, this names the order.
    pub first: Timestamp,
    /// When the very last one did.
    pub last: Timestamp,
}

/// A version that arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Where it stands in the order.
    pub place: ArrivalPlace,
    /// The resource.
    pub key: ResourceKey,
    /// The version.
    pub stored: StoredVersion,
}

/// Why there is no list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArrivalsError {
    /// The disk does not hold what it should.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// It would take too long.
    #[error("more than {looks} versions are older than what is asked for: ask for a later time")]
    TooCostly {
        /// How many are looked at.
        looks: usize,
    },
}

impl Store {
    /// What arrived at this node.
    ///
    /// # Errors
    /// When the disk does not hold what it should, or too much has to be looked at.
    pub fn arrivals(&self, wanted: Wanted) -> Result<Arrivals, ArrivalsError> {
        Reader::at_this_moment(&self.inner).arrivals(wanted)
    }
}

impl Reader<'_> {
    fn arrivals(&self, wanted: Wanted) -> Result<Arrivals, ArrivalsError> {
        let (mut arrivals, mut seen, mut more) = (Vec::new(), HashSet::new(), false);
        let row = self.arrivals_row()?;
        let until = wanted.during.map(|(_, to)| ArrivalPlace { at: to, ..ArrivalPlace::END });
        // What was there at a time may have come after where the page begins.
        let from = until.or(wanted.before).unwrap_or(ArrivalPlace::END);
        let mut looks = 0;
        for arrival in self.backwards(wanted.kind, from)? {
            let (place, row) = arrival?;
            if wanted.since.is_some_and(|since| place.at < since) {
                break;
            }
            looks += 1;
            if looks > ARRIVAL_LOOKS {
                return Err(ArrivalsError::TooCostly { looks: ARRIVAL_LOOKS });
            }
            let arrival = self.arrival(place, row)?;
            if wanted.during.is_some_and(|(from, _)| place.at < from) {
                // Of what had come before, the last one of each was there.
                let is_last = seen.insert(arrival.key.clone());
                if !is_last || arrival.stored.content.is_none() {
                    continue;
                }
            }
            if wanted.before.is_some_and(|before| place >= before) {
                continue;
            }
            if arrivals.len() == wanted.limit {
                more = true;
                break;
            }
            arrivals.push(arrival);
        }
        let (first, last) = row.map_or_else(Default::default, |row| (row.first, row.last));
        Ok(Arrivals { arrivals, more, first, last })
    }

    /// Between when everything has arrived; `None`: nothing has.
    pub(crate) fn arrivals_row(&self) -> Result<Option<ArrivalsRow>, Corrupt> {
        let key = MetaKey::Arrivals.key();
        let Some(row) = self.get(META, key)? else { return Ok(None) };
        let row = ArrivalsRow::decode(&row);
        row.map(Some).ok_or_else(|| self.inner.tables.bad_row(META, key))
    }

    /// The rows of a type, or of all, from a place back.
    fn backwards(
        &self,
        kind: Option<ResourceType>,
        from: ArrivalPlace,
    ) -> Result<impl Iterator<Item = Result<(ArrivalPlace, ArrivalRow), Corrupt>>, Corrupt> {
        let tables = &self.inner.tables;
        let all = || self.inner.totals.read().expect("no holder panics").counts.types.clone();
        let kinds = kind.map_or_else(|| all().into_keys().collect(), |kind| vec![kind]);
        let of_kind = |kind: ResourceType| {
            let prefix = [kind.code()];
            let rows = tables.scan_back(ARRIVALS, &from.key(kind), &prefix, self.options());
            rows.map(|row| {
                let (key, value) = row?;
                let place = ArrivalPlace::of_key(&key).map(|(_, place)| place);
                place.zip(ArrivalRow::decode(&value)).ok_or_else(|| tables.bad_row(ARRIVALS, &key))
            })
        };
        let mut streams: Vec<_> = kinds.into_iter().map(of_kind).collect();
        let mut heads = BinaryHeap::new();
        for (number, stream) in streams.iter_mut().enumerate() {
            if let Some((place, row)) = stream.next().transpose()? {
                heads.push((place, number, row));
            }
        }
        Ok(std::iter::from_fn(move || {
            let (place, number, row) = heads.pop()?;
            match streams[number].next().transpose() {
                Ok(next) => heads.extend(next.map(|(place, row)| (place, number, row))),
                Err(error) => return Some(Err(error)),
            }
            Some(Ok((place, row)))
        }))
    }

    fn arrival(&self, place: ArrivalPlace, row: ArrivalRow) -> Result<Arrival, Corrupt> {
        let bad = |why: String| self.bad_change(row.place().change, why);
        let piece = Bytes::copy_from_slice(&self.piece(row.place())?);
        let version = decode_piece(piece).map_err(|error| bad(error.to_string()))?;
        let origin = self.origin(row.origin);
        let origin = origin.ok_or_else(|| bad("its origin is not known".to_owned()))?;
        let name = VersionId { generation: version.generation, origin };
        let stored = StoredVersion { version: name, at: row.version.at, content: version.content };
        Ok(Arrival { place, key: version.key, stored })
    }
}

/// Lists what a store holds that was written before arrivals were listed: each version as if it had
/// arrived when it was decided.
pub(crate) fn check_arrivals(inner: &Inner) -> Result<(), OpenError> {
    let reader = Reader::live(inner);
    if reader.arrivals_row()?.is_some() {
        return Ok(());
    }
    let (mut batch, mut number) = (WriteBatch::default(), 0_u32);
    let mut all: Option<ArrivalsRow> = None;
    for row in reader.scan(VERSIONS, b"", b"") {
        let (key, value) = row?;
        let (key, version) = VersionKey::decode(&key)
            .zip(VersionRow::decode(&value))
            .ok_or_else(|| inner.tables.bad_row(VERSIONS, &key))?;
        let at = Timestamp(version.at.0.max(0));
        let known = all.get_or_insert(ArrivalsRow { first: at, last: at });
        *known = ArrivalsRow { first: known.first.min(at), last: known.last.max(at) };
        let place = ArrivalPlace { at, number };
        number = number.wrapping_add(1);
        let row = ArrivalRow { origin: key.origin, version };
        let table = inner.tables.table(ARRIVALS);
        batch.put_cf(table, place.key(key.resource.kind), row.encode());
        if batch.size_in_bytes() > BATCH_BYTES {
            inner.tables.write(std::mem::take(&mut batch), false)?;
        }
    }
    if let Some(all) = all {
        batch.put(MetaKey::Arrivals.key(), all.encode());
    }
    Ok(inner.tables.write(batch, false)?)
}

/// Bytes of rows that are written at once.
const BATCH_BYTES: usize = 4 << 20;

impl fmt::Display for ArrivalPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.at.0, self.number)
    }
}

/// A text that is no place in the order of arrivals.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no place in the order of arrivals")]
pub struct InvalidArrivalPlace {
    /// The text.
    pub text: String,
}

impl FromStr for ArrivalPlace {
    type Err = InvalidArrivalPlace;

    fn from_str(text: &str) -> Result<Self, InvalidArrivalPlace> {
        let parse = || {
            let (at, number) = text.split_once('.')?;
            let at = at.parse().ok().filter(|at| *at >= 0)?;
            Some(Self { at: Timestamp(at), number: number.parse().ok()? })
        };
        parse().ok_or_else(|| InvalidArrivalPlace { text: text.to_owned() })
    }
}
