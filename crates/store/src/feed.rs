//! This module gives feeds out, in the bytes in which they came.

use chartmesh_record::{ChainHash, Cursor};
use chartmesh_wire::Canonical;

use crate::error::FeedError;
use crate::store::Store;

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
        let _ = (after, max_bytes);
        unimplemented!()
    }
}
