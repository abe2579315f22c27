//! This module keeps change sets of a newer format as they came, and gives them out: a node that cannot
//! read them yet holds and passes them on all the same. They are applied once the software knows them.
//!
//! A feed is applied up to some place and held back from there on; nothing else that is told of a
//! store (horizon, digest, what reads see) goes beyond what is applied.

use std::collections::BTreeMap;

use bytes::Bytes;
use chartmesh_record::{ChainHash, Cursor, Origin, Seq, Timestamp};
use chartmesh_wire::Canonical;
use rocksdb::{ReadOptions, WriteBatch};

use crate::apply::{Apply, Run, RunOutcome};
use crate::error::{ApplyError, Corrupt, FeedError};
use crate::keys::HeldBackRow;
use crate::store::{META, Store};
use crate::tables::Tables;

/// Change sets that are applied in one go, once they can be.
const RELEASED: usize = 256;

/// Up to where each feed is held back, of those that are.
pub(crate) fn held_back(tables: &Tables) -> Result<BTreeMap<Origin, Cursor>, Corrupt> {
    let mut ends = BTreeMap::new();
    for row in tables.scan(META, HeldBackRow::PREFIX, HeldBackRow::PREFIX, ReadOptions::default()) {
        let (key, value) = row?;
        let row = HeldBackRow::decode(&key, &value).ok_or_else(|| tables.bad_row(META, &key))?;
        ends.insert(row.at.origin.clone(), row.at);
    }
    Ok(ends)
}

impl Store {
    /// How far a feed is held, applied or not: the end of what is held back, or else its cursor.
    #[must_use]
    pub fn furthest(&self, origin: &Origin) -> Cursor {
        let applied = self.cursor(origin);
        let ends = self.inner.held_back.read().expect("no holder panics");
        ends.get(origin).filter(|end| end.seq > applied.seq).cloned().unwrap_or(applied)
    }

    /// Whether anything of a feed is held and not applied.
    #[must_use]
    pub fn is_held_back(&self, origin: &Origin) -> bool {
        self.furthest(origin).seq > self.cursor(origin).seq
    }

    /// Keeps change sets that follow on [the furthest](Self::furthest) of their feed, on the disk when
    /// it returns. `None`: they do not follow on it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn hold_back(
        &self,
        after: &Cursor,
        changes: &[Bytes],
    ) -> Result<Option<Cursor>, ApplyError> {
        let _turn = self.inner.turn.lock().expect("no holder panics");
        if self.furthest(&after.origin) != *after {
            return Ok(None);
        }
        let (mut batch, mut at) = (WriteBatch::default(), after.clone());
        for bytes in changes {
            at = at.extend(bytes);
            let row = HeldBackRow { at: at.clone(), bytes: bytes.clone() };
            batch.put(row.key(), row.encode());
        }
        self.inner.tables.write(batch, true)?;
        let mut ends = self.inner.held_back.write().expect("no holder panics");
        ends.insert(after.origin.clone(), at.clone());
        drop(ends);
        self.inner.revision.send_modify(|revision| *revision += 1);
        Ok(Some(at))
    }

    /// The change sets that follow a place of a feed, applied or held back, as bytes, each with the
    /// chain up to and with it: as many as fit `max_bytes`, but one at the least if there is one.
    ///
    /// # Errors
    /// When other bytes are held up to that place, or the disk does not hold what it should.
    pub fn feed_as_held(
        &self,
        after: &Cursor,
        max_bytes: usize,
    ) -> Result<Vec<(Bytes, ChainHash)>, FeedError> {
        let applied = self.cursor(&after.origin);
        if after.seq < applied.seq || !self.is_held_back(&after.origin) {
            let given = self.feed(after, max_bytes)?.into_iter();
            return Ok(given.map(|(change, hash)| (change.bytes().clone(), hash)).collect());
        }
        let at_end = after.seq == applied.seq;
        let held = if at_end {
            Some(applied)
        } else {
            self.row(&after.origin, after.seq)?.map(|it| it.at)
        };
        match held {
            None => return Ok(Vec::new()),
            Some(held) if held.hash != after.hash => return Err(FeedError::Forked { held }),
            Some(_) => {}
        }
        let (mut given, mut room) = (Vec::new(), max_bytes);
        for row in self.rows(&after.origin, after.seq.next()) {
            let row = row?;
            if row.bytes.len() > room && !given.is_empty() {
                break;
            }
            room = room.saturating_sub(row.bytes.len());
            given.push((row.bytes, row.at.hash));
        }
        Ok(given)
    }

    /// Applies what was held back and can be read now. Returns what still cannot: where each feed goes
    /// on, and why it does not.
    ///
    /// # Errors
    /// When the disk does not hold what it should, or refuses.
    pub fn release(&self, arrived: Timestamp) -> Result<Vec<(Origin, Seq, String)>, ApplyError> {
        let ends = self.inner.held_back.read().expect("no holder panics");
        let origins: Vec<Origin> = ends.keys().cloned().collect();
        drop(ends);
        let mut kept = Vec::new();
        for origin in origins {
            if let Some((seq, reason)) = self.release_feed(&origin, arrived)? {
                kept.push((origin, seq, reason));
            }
        }
        Ok(kept)
    }

    fn release_feed(
        &self,
        origin: &Origin,
        arrived: Timestamp,
    ) -> Result<Option<(Seq, String)>, ApplyError> {
        loop {
            let extends = self.cursor(origin);
            let rows = self.rows(origin, extends.seq.next()).take(RELEASED);
            let rows = rows.collect::<Result<Vec<_>, Corrupt>>()?;
            let (mut changes, mut stop) = (Vec::new(), None);
            for row in &rows {
                match Canonical::parse(row.bytes.clone()) {
                    Ok(change) => changes.push(change),
                    Err(error) => {
                        stop = Some((row.at.seq, error.to_string()));
                        break;
                    }
                }
            }
            let count = changes.len();
            if count > 0 {
                let run = Run { extends: extends.clone(), changes };
                let apply = Apply { runs: vec![run], applied: None, arrived };
                let applied = self.apply(apply)?;
                if !matches!(applied.runs[..], [RunOutcome::Held { .. }]) {
                    let reason = "it does not follow on what is held".to_owned();
                    return Ok(Some((extends.seq.next(), reason)));
                }
                self.sync()?;
            }
            let mut batch = WriteBatch::default();
            rows.iter().take(count).for_each(|row| batch.delete(row.key()));
            self.inner.tables.write(batch, false)?;
            if stop.is_some() {
                return Ok(stop);
            }
            if count == 0 {
                self.inner.held_back.write().expect("no holder panics").remove(origin);
                return Ok(None);
            }
        }
    }

    fn row(&self, origin: &Origin, seq: Seq) -> Result<Option<HeldBackRow>, Corrupt> {
        let key = HeldBackRow::key_of(origin, seq);
        let Some(value) = self.inner.tables.get(META, &key, None)? else { return Ok(None) };
        let row = HeldBackRow::decode(&key, &value);
        row.map(Some).ok_or_else(|| self.inner.tables.bad_row(META, &key))
    }

    /// What is held back of a feed, from a place on.
    fn rows(
        &self,
        origin: &Origin,
        from: Seq,
    ) -> impl Iterator<Item = Result<HeldBackRow, Corrupt>> + use<'_> {
        let (first, prefix) = (HeldBackRow::key_of(origin, from), HeldBackRow::of_origin(origin));
        let tables = &self.inner.tables;
        tables.scan(META, &first, &prefix, ReadOptions::default()).map(|row| {
            let (key, value) = row?;
            HeldBackRow::decode(&key, &value).ok_or_else(|| tables.bad_row(META, &key))
        })
    }
}
