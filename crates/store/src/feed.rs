//! This module gives feeds out, in the bytes in which they came.

use chartmesh_record::{ChainHash, Cursor, Origin, Seq, Timestamp};
use chartmesh_wire::Canonical;

use crate::error::{ApplyError, Corrupt, FeedError};
use crate::keys::FeedPlace;
use crate::reader::Reader;
use crate::store::Store;
use crate::writing::Writing;

impl Store {
    /// The change sets that follow a place of a feed, each with the chain up to and with it: as
    /// many as fit `max_bytes`, but one at the least if there is one.
    ///
    /// # Errors
    /// When other bytes are held up to that place, or the disk does not hold what it should.
    pub fn feed(
        &self,
        after: &Cursor,
        max_bytes: usize,
    ) -> Result<Vec<(Canonical, ChainHash)>, FeedError> {
        let reader = Reader::live(&self.inner);
        let code = self.inner.origins.read().expect("no holder panics").code(&after.origin);
        let Some(origin) = code else { return Ok(Vec::new()) };
        let place = FeedPlace { origin, seq: after.seq };
        let held = match after.seq.0 {
            0 => Some(ChainHash::start(&after.origin)),
            _ => reader.hash(place)?,
        };
        match held {
            None => return Ok(Vec::new()),
            Some(hash) if hash != after.hash => {
                return Err(FeedError::Forked { held: Cursor { hash, ..after.clone() } });
            }
            Some(_) => {}
        }
        let mut room = max_bytes;
        let mut given = Vec::new();
        for change in reader.changes(FeedPlace { seq: after.seq.next(), ..place }) {
            let (change, hash) = change?;
            let Some(change) = change else {
                if given.is_empty() {
                    return Err(FeedError::Lost {
                        origin: after.origin.clone(),
                        seq: after.seq.next(),
                    });
                }
                break;
            };
            let length = change.bytes().len();
            if length > room && !given.is_empty() {
                break;
            }
            room = room.saturating_sub(length);
            given.push((change, hash));
        }
        Ok(given)
    }

    /// Passes over a change set that no node can give any more, the next of its feed; `at` has the chain
    /// as others hold it there. What follows on it can be taken then. It is lost, and stays on the
    /// list. Says whether it was the next one.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn skip(&self, at: &Cursor, arrived: Timestamp) -> Result<bool, ApplyError> {
        let _turn = self.inner.turn.lock().expect("no holder panics");
        let mut writing = Writing::begin(&self.inner, 0);
        if writing.cursor(&at.origin).seq.next() != at.seq {
            return Ok(false);
        }
        writing.lose(at);
        if let Err(error) = writing.write(None, arrived) {
            writing.give_up();
            return Err(error);
        }
        self.inner.lost.write().expect("no holder panics").push(at.clone());
        self.sync()?;
        Ok(true)
    }

    /// The change sets that were passed over.
    #[must_use]
    pub fn lost(&self) -> Vec<Cursor> {
        self.inner.lost.read().expect("no holder panics").clone()
    }

    /// The chain of a feed up to and with a change set; `None` if the feed is not held up to there.
    ///
    /// # Errors
    /// When the disk does not hold what it should.
    pub fn chain(&self, origin: &Origin, seq: Seq) -> Result<Option<ChainHash>, Corrupt> {
        if seq.0 == 0 {
            return Ok(Some(ChainHash::start(origin)));
        }
        let code = self.inner.origins.read().expect("no holder panics").code(origin);
        let Some(origin) = code else { return Ok(None) };
        Reader::live(&self.inner).hash(FeedPlace { origin, seq })
    }
}
