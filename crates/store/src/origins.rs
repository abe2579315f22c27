//! This module keeps, in memory, which origins are known, by which code, and how far they are held.

use std::collections::HashMap;

use chartmesh_record::{Name, Origin, Timestamp};

use crate::keys::{OriginCode, OriginRow};
use crate::limits::REQUESTS_ARE_REMEMBERED_FOR;

/// All origins, by code. One that was given a code keeps it.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    rows: Vec<OriginRow>,
    codes: HashMap<Origin, OriginCode>,
    names: HashMap<Name, Named>,
}

/// The origins of one region or node.
#[derive(Debug)]
struct Named {
    newest: Timestamp,
    codes: Vec<OriginCode>,
}

impl Origins {
    /// The origins of these rows, if their codes are those that were given out: 0, 1, 2, ...
    pub(crate) fn of(rows: impl IntoIterator<Item = (OriginCode, OriginRow)>) -> Option<Self> {
        let mut origins = Self::default();
        for (code, row) in rows {
            if origins.add(row) != code {
                return None;
            }
        }
        Some(origins)
    }

    pub(crate) fn code(&self, origin: &Origin) -> Option<OriginCode> {
        self.codes.get(origin).copied()
    }

    pub(crate) fn row(&self, code: OriginCode) -> Option<&OriginRow> {
        self.rows.get(usize::try_from(code.0).ok()?)
    }

    pub(crate) fn origin(&self, code: OriginCode) -> Option<Origin> {
        self.row(code).map(|row| row.cursor.origin.clone())
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = (OriginCode, &OriginRow)> {
        (0..).map(OriginCode).zip(&self.rows)
    }

    /// The origins of one region or node.
    pub(crate) fn named(&self, name: &Name) -> &[OriginCode] {
        self.names.get(name).map_or(&[], |named| &named.codes)
    }

    /// When the newest change set of this region or node was decided.
    pub(crate) fn newest(&self, name: &Name) -> Timestamp {
        self.names.get(name).map_or(Timestamp(0), |named| named.newest)
    }

    /// When the newest change set of all was decided.
    pub(crate) fn newest_of_all(&self) -> Timestamp {
        self.names.values().map(|named| named.newest).max().unwrap_or_default()
    }

    /// Gives an origin of which nothing is held a code.
    pub(crate) fn add(&mut self, row: OriginRow) -> OriginCode {
        let code = OriginCode(u32::try_from(self.rows.len()).expect("fewer than 2^32 origins"));
        let origin = row.cursor.origin.clone();
        let named = self
            .names
            .entry(origin.name())
            .or_insert_with(|| Named { newest: row.newest, codes: Vec::new() });
        named.newest = named.newest.max(row.newest);
        named.codes.push(code);
        self.codes.insert(origin, code);
        self.rows.push(row);
        code
    }

    /// Puts how far an origin is held now.
    pub(crate) fn set(&mut self, code: OriginCode, row: OriginRow) {
        if let Some(named) = self.names.get_mut(&row.cursor.origin.name()) {
            named.newest = named.newest.max(row.newest);
        }
        self.rows[code.0 as usize] = row;
    }

    /// Takes the codes back that were given out after there were this many.
    pub(crate) fn truncate(&mut self, count: usize) {
        for row in self.rows.drain(count..) {
            let code = self.codes.remove(&row.cursor.origin);
            if let Some(named) = self.names.get_mut(&row.cursor.origin.name()) {
                named.codes.retain(|&other| Some(other) != code);
            }
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.rows.len()
    }
}

/// Whether a request decided at this instant is forgotten once its region's or node's newest change
/// set was decided at `newest`.
pub(crate) fn is_forgotten(at: Timestamp, newest: Timestamp) -> bool {
    let kept = i64::try_from(REQUESTS_ARE_REMEMBERED_FOR.as_millis()).expect("a day fits");
    newest.0.saturating_sub(at.0) > kept
}
