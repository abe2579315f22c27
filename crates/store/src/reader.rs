//! This module reads rows as what they mean, of what is held now or of what was held at one moment.

use bytes::Bytes;
use chartmesh_record::{ChainHash, Origin, RequestId, ResourceKey, Seq, Timestamp};
use chartmesh_wire::{Canonical, header_request, piece_content};
use rocksdb::{DBPinnableSlice, ReadOptions};

use crate::error::Corrupt;
use crate::keys::{
    FeedKey, FeedPlace, HeadRow, HeaderRow, OriginCode, PiecePlace, RequestRow, VersionKey,
    VersionRow,
};
use crate::store::{FEED, HEADS, Inner, REQUESTS, VERSIONS};
use crate::tables::KeyAndValue;

/// Reads a store.
pub(crate) struct Reader<'s> {
    pub(crate) inner: &'s Inner,
    /// The moment that is read, with the options for single rows; without it, whatever is there.
    moment: Option<(rocksdb::Snapshot<'s>, ReadOptions)>,
}

impl<'s> Reader<'s> {
    /// Reads what is held whenever it is asked.
    pub(crate) fn live(inner: &'s Inner) -> Self {
        Self { inner, moment: None }
    }

    /// Reads what is held now, whatever is applied later.
    pub(crate) fn at_this_moment(inner: &'s Inner) -> Self {
        let snapshot = inner.tables.db().snapshot();
        let mut options = ReadOptions::default();
        options.set_snapshot(&snapshot);
        Self { inner, moment: Some((snapshot, options)) }
    }

    /// Options for a scan.
    pub(crate) fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        if let Some((snapshot, _)) = &self.moment {
            options.set_snapshot(snapshot);
        }
        options
    }

    pub(crate) fn get(
        &self,
        table: &str,
        key: &[u8],
    ) -> Result<Option<DBPinnableSlice<'s>>, Corrupt> {
        let options = self.moment.as_ref().map(|(_, options)| options);
        self.inner.tables.get(table, key, options)
    }

    /// Several rows at once.
    pub(crate) fn get_several(
        &self,
        table: &str,
        keys: &[Vec<u8>],
    ) -> Result<Vec<Option<DBPinnableSlice<'s>>>, Corrupt> {
        match &self.moment {
            Some((_, options)) => self.inner.tables.get_several(table, keys, options),
            None => self.inner.tables.get_several(table, keys, &ReadOptions::default()),
        }
    }

    pub(crate) fn scan(
        &self,
        table: &str,
        from: &[u8],
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<KeyAndValue, Corrupt>> + use<'s> {
        self.inner.tables.scan(table, from, prefix, self.options())
    }

    pub(crate) fn origin(&self, code: OriginCode) -> Option<Origin> {
        self.inner.origins.read().expect("no holder panics").origin(code)
    }

    /// The heads of a resource and where they stand.
    pub(crate) fn head_row(&self, resource: &ResourceKey) -> Result<HeadRow, Corrupt> {
        let key = HeadRow::key(resource);
        let Some(row) = self.get(HEADS, &key)? else { return Ok(HeadRow::default()) };
        self.decode_head_row(&key, &row)
    }

    pub(crate) fn decode_head_row(&self, key: &[u8], row: &[u8]) -> Result<HeadRow, Corrupt> {
        HeadRow::decode(row, |code| self.origin(code))
            .ok_or_else(|| self.inner.tables.bad_row(HEADS, key))
    }

    pub(crate) fn version_row(&self, key: &VersionKey) -> Result<Option<VersionRow>, Corrupt> {
        let key = key.encode();
        let Some(row) = self.get(VERSIONS, &key)? else { return Ok(None) };
        let row = VersionRow::decode(&row);
        row.map(Some).ok_or_else(|| self.inner.tables.bad_row(VERSIONS, &key))
    }

    pub(crate) fn request_row(&self, request: &RequestId) -> Result<RequestRow, Corrupt> {
        let key = RequestRow::key(request);
        let Some(row) = self.get(REQUESTS, &key)? else { return Ok(RequestRow::default()) };
        RequestRow::decode(&row).ok_or_else(|| self.inner.tables.bad_row(REQUESTS, &key))
    }

    /// The bytes of a version that another row says is there.
    pub(crate) fn piece(&self, place: PiecePlace) -> Result<DBPinnableSlice<'s>, Corrupt> {
        let key = FeedKey::Piece(place).encode();
        self.get(FEED, &key)?.ok_or_else(|| self.inner.tables.no_row(FEED, &key))
    }

    /// The resource in a version that another row says is there; `None` for a deletion. This is the
    /// one copy that a read makes.
    pub(crate) fn content(&self, place: PiecePlace) -> Result<Option<Bytes>, Corrupt> {
        let piece = self.piece(place)?;
        let content =
            piece_content(&piece).map_err(|error| self.bad_change(place.change, error))?;
        Ok(content.map(|range| Bytes::copy_from_slice(&piece[range])))
    }

    /// The resources in versions that are no deletions, in their order.
    pub(crate) fn contents(&self, places: &[PiecePlace]) -> Result<Vec<Bytes>, Corrupt> {
        let keys: Vec<_> = places.iter().map(|place| FeedKey::Piece(*place).encode()).collect();
        let pieces = self.get_several(FEED, &keys)?;
        let content = |((place, key), piece): ((&PiecePlace, &Vec<u8>), Option<_>)| {
            let piece: DBPinnableSlice<'_> =
                piece.ok_or_else(|| self.inner.tables.no_row(FEED, key))?;
            let range = piece_content(&piece).map_err(|error| self.bad_change(place.change, error));
            let range = range?.ok_or_else(|| {
                self.bad_change(place.change, "it does not say what its entries say")
            })?;
            Ok(Bytes::copy_from_slice(&piece[range]))
        };
        places.iter().zip(&keys).zip(pieces).map(content).collect()
    }

    /// The chain up to and with a change set; `None` if it is not held.
    pub(crate) fn hash(&self, place: FeedPlace) -> Result<Option<ChainHash>, Corrupt> {
        let key = FeedKey::Header(place).encode();
        let Some(row) = self.get(FEED, &key)? else { return Ok(None) };
        let row = HeaderRow::decode(&row).ok_or_else(|| self.inner.tables.bad_row(FEED, &key))?;
        Ok(Some(row.hash))
    }

    /// The request that became a change set, and when it was decided.
    /// `None`: it is lost.
    pub(crate) fn request_of(
        &self,
        place: FeedPlace,
    ) -> Result<Option<(RequestId, Timestamp)>, Corrupt> {
        let key = FeedKey::Header(place).encode();
        let row = self.get(FEED, &key)?.ok_or_else(|| self.inner.tables.no_row(FEED, &key))?;
        let row = HeaderRow::decode(&row).ok_or_else(|| self.inner.tables.bad_row(FEED, &key))?;
        if row.header.is_empty() {
            return Ok(None);
        }
        let request = header_request(row.header);
        request.map(Some).map_err(|error| self.bad_change(place, error))
    }

    /// A change set that another row says is there.
    pub(crate) fn change(&self, place: FeedPlace) -> Result<Canonical, Corrupt> {
        let missing = || self.bad_change(place, "it is missing");
        let (change, _) = self.changes(place).next().ok_or_else(missing)??;
        let change = change.ok_or_else(missing)?;
        if change.change_set().seq == place.seq { Ok(change) } else { Err(missing()) }
    }

    /// The change sets of a feed from this place on, put together from their rows, each with the
    /// chain that is kept with it; `None` for one that is lost.
    pub(crate) fn changes(
        &self,
        from: FeedPlace,
    ) -> impl Iterator<Item = Result<(Option<Canonical>, ChainHash), Corrupt>> + use<'_, 's> {
        let first = FeedKey::Header(from).encode();
        let mut rows = self.scan(FEED, &first, &first[..4]).peekable();
        let mut expected = from.seq;
        std::iter::from_fn(move || {
            let place = FeedPlace { seq: expected, ..from };
            expected = expected.next();
            let (key, value) = match rows.next()? {
                Ok(row) => row,
                Err(error) => return Some(Err(error)),
            };
            let header = HeaderRow::decode(&value)
                .filter(|_| FeedKey::decode(&key) == Some(FeedKey::Header(place)));
            let Some(HeaderRow { hash, header }) = header else {
                return Some(Err(self.bad_change(place, "its header is missing")));
            };
            if header.is_empty() {
                return Some(Ok((None, hash)));
            }
            let mut bytes = header.to_vec();
            for index in 0.. {
                let key = FeedKey::Piece(PiecePlace { change: place, index }).encode();
                let next = rows.next_if(|row| row.as_ref().map_or(true, |row| *row.0 == key[..]));
                match next {
                    Some(Ok((_, piece))) => bytes.extend_from_slice(&piece),
                    Some(Err(error)) => return Some(Err(error)),
                    None => break,
                }
            }
            Some(self.parse(place, bytes.into()).map(|change| (Some(change), hash)))
        })
    }

    pub(crate) fn bad_change(&self, place: FeedPlace, why: impl ToString) -> Corrupt {
        let origin = self.origin(place.origin);
        let origin = origin.map_or_else(|| "an unknown origin".to_owned(), |it| it.to_string());
        let Seq(seq) = place.seq;
        self.inner.tables.corrupt(format_args!(
            "change set {seq} of {origin} cannot be read: {}",
            why.to_string()
        ))
    }

    fn parse(&self, place: FeedPlace, bytes: Bytes) -> Result<Canonical, Corrupt> {
        let change = Canonical::parse(bytes).map_err(|error| self.bad_change(place, error))?;
        let set = change.change_set();
        if set.seq != place.seq || self.origin(place.origin).as_ref() != Some(&set.origin) {
            return Err(self.bad_change(place, "another one stands in its place"));
        }
        Ok(change)
    }
}
