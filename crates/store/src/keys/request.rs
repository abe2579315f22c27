//! This module holds the row of a remembered request: the change sets that it became.
//!
//! ```text
//! request id (16) -> (origin (4) seq (8))...
//! ```
//! There is more than one only where a request was decided in several origins.

use chartmesh_record::{RequestId, Seq};

use super::{FeedPlace, OriginCode};
use crate::codec::Fields;

/// The change sets that a request became, each once, in the order of their rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestRow(pub(crate) Vec<FeedPlace>);

impl RequestRow {
    pub(crate) fn key(request: &RequestId) -> [u8; 16] {
        request.0
    }

    pub(crate) fn insert(&mut self, place: FeedPlace) {
        if let Err(at) = self.0.binary_search(&place) {
            self.0.insert(at, place);
        }
    }

    pub(crate) fn remove(&mut self, place: FeedPlace) {
        self.0.retain(|&other| other != place);
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(12 * self.0.len());
        for place in &self.0 {
            row.extend_from_slice(&place.origin.0.to_be_bytes());
            row.extend_from_slice(&place.seq.0.to_be_bytes());
        }
        row
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let mut fields = Fields(row);
        let mut places = Vec::with_capacity(row.len() / 12);
        while !fields.rest().is_empty() {
            let origin = OriginCode(fields.fixed_u32()?);
            places.push(FeedPlace { origin, seq: Seq(fields.fixed_u64()?) });
        }
        Some(Self(places))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_row_survives_its_bytes(places: Vec<(u32, u64)>) {
            let places = places.into_iter();
            let row = RequestRow(places.map(|(origin, seq)| FeedPlace {
                origin: OriginCode(origin), seq: Seq(seq),
            }).collect());
            prop_assert_eq!(RequestRow::decode(&row.encode()), Some(row));
        }

        #[test]
        fn a_key_sorts_as_its_request(a: [u8; 16], b: [u8; 16]) {
            let (a, b) = (RequestId(a), RequestId(b));
            prop_assert_eq!(RequestRow::key(&a).cmp(&RequestRow::key(&b)), a.cmp(&b));
        }

        #[test]
        fn other_bytes_are_no_row(row: Vec<u8>) {
            if let Some(decoded) = RequestRow::decode(&row) {
                prop_assert_eq!(decoded.encode(), row);
            }
        }
    }
}
