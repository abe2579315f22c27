//! This module numbers the changes of what this node holds, so that each peer is told only what is new
//! to it.

use std::collections::BTreeMap;

use chartmesh_record::{Cursor, Origin, Seq};
use chartmesh_store::Store;
use chartmesh_wire::proto;
use chartmesh_wire::raft::encode_cursor;

/// What this node holds, with the revision at which each feed last changed.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Revisions of another life mean nothing.
    pub(crate) life: u64,
    pub(crate) revision: u64,
    rows: BTreeMap<Origin, Row>,
}

#[derive(Debug)]
struct Row {
    cursor: Cursor,
    synced: Seq,
    revision: u64,
}

impl Ledger {
    pub(crate) fn new(life: u64) -> Self {
        // Life 0 is what an asker names that has heard nothing.
        Self { life: life.max(1), revision: 0, rows: BTreeMap::new() }
    }

    /// Notes what the store holds now.
    pub(crate) fn refresh(&mut self, store: &Store) {
        for (origin, cursor) in store.horizon() {
            let synced = store.synced(&origin);
            let same = |row: &Row| row.cursor.seq == cursor.seq && row.synced == synced;
            if self.rows.get(&origin).is_some_and(same) {
                continue;
            }
            self.revision += 1;
            self.rows.insert(origin, Row { cursor, synced, revision: self.revision });
        }
    }

    /// What is newer than a revision; everything if it is of another life.
    pub(crate) fn since(&self, life: u64, revision: u64) -> proto::Report {
        let whole = life != self.life || revision > self.revision;
        let holdings = self
            .rows
            .values()
            .filter(|row| whole || row.revision > revision)
            .map(|row| proto::Holding {
                feed: Some(encode_cursor(&row.cursor)),
                synced: row.synced.0,
            })
            .collect();
        proto::Report { whole, holdings }
    }
}
