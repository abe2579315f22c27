//! This module holds the one canonical encoding of a change set.
//!
//! ```text
//! bytes = header, piece 0, piece 1, ...
//! ```
//! The header and every piece are the encoding of a `proto::ChangeSet` that has only these fields:
//! protobuf messages are merged by concatenation, so the parts can be kept apart and put together
//! again. Bytes are accepted only if they are what encoding their meaning gives: an unknown field, a
//! default written out or another order is refused, and whatever is hashed has one meaning.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use chartmesh_record::{
    ChangeSet, EntryOutcome, Generation, Origin, Place, RequestId, ResourceKey, Seq, Timestamp,
    Version,
};
use prost::Message;

use crate::command::{digest_from, digest_to};
use crate::error::{WireError, array, invalid, parse};
use crate::limits::MAX_CHANGE_SET_BYTES;
use crate::outcome::{ancestry_from, ancestry_to, entry_from, found, key_from, made};
use crate::proto;

/// The format written, and the newest that is read.
const FORMAT: u32 = 1;

/// A change set with its canonical bytes, of which the contents of its versions are slices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical {
    change: ChangeSet,
    bytes: Bytes,
    /// Where each piece begins.
    pieces: Vec<usize>,
}

impl Canonical {
    /// Encodes a change set that was decided here.
    #[must_use]
    pub fn encode(mut change: ChangeSet) -> Self {
        let content: usize = change.versions.iter().map(estimate).sum();
        let mut buffer = BytesMut::with_capacity(content + 256 + 12 * change.entries.len());
        let mut put = |message: proto::ChangeSet| {
            message.encode(&mut buffer).expect("a buffer that grows has room");
            buffer.len()
        };
        let mut end = put(header_to(&change));
        let mut pieces = Vec::with_capacity(change.versions.len());
        for version in &change.versions {
            pieces.push(end);
            end = put(piece_to(version));
        }
        let bytes = buffer.freeze();
        for (place, version) in change.versions.iter_mut().enumerate() {
            let end = pieces.get(place + 1).copied().unwrap_or(bytes.len());
            if let Some(content) = &mut version.content {
                *content = bytes.slice(end - content.len()..end);
            }
        }
        Self { change, bytes, pieces }
    }

    /// Takes bytes that came from elsewhere.
    ///
    /// # Errors
    /// When they are of a newer format, or not the canonical bytes of a valid change set.
    pub fn parse(bytes: Bytes) -> Result<Self, WireError> {
        if bytes.len() > MAX_CHANGE_SET_BYTES {
            return Err(WireError::TooLarge { bytes: bytes.len(), limit: MAX_CHANGE_SET_BYTES });
        }
        let message = proto::ChangeSet::decode(bytes.clone())?;
        if message.format > FORMAT {
            return Err(WireError::Format { format: message.format });
        }
        let encoded = Self::encode(change_from(&message)?);
        if encoded.bytes == bytes { Ok(encoded) } else { Err(WireError::NotCanonical) }
    }

    /// What they mean.
    #[must_use]
    pub fn change_set(&self) -> &ChangeSet {
        &self.change
    }

    /// What they mean, without the bytes.
    #[must_use]
    pub fn into_change_set(self) -> ChangeSet {
        self.change
    }

    /// All bytes: the header's, then the pieces'.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes of everything but the versions.
    #[must_use]
    pub fn header(&self) -> Bytes {
        self.bytes.slice(..self.pieces.first().copied().unwrap_or(self.bytes.len()))
    }

    /// The bytes of each version, in the change set's order.
    pub fn pieces(&self) -> impl ExactSizeIterator<Item = Bytes> + '_ {
        self.pieces.iter().enumerate().map(|(place, &start)| {
            let end = self.pieces.get(place + 1).copied().unwrap_or(self.bytes.len());
            self.bytes.slice(start..end)
        })
    }
}

/// The request in the bytes of a header, and when it was decided.
///
/// # Errors
/// When the bytes are no header.
pub fn header_request(header: &[u8]) -> Result<(RequestId, Timestamp), WireError> {
    let message = proto::ChangeSet::decode(header)?;
    let request = RequestId(array(&message.request, "ChangeSet.request")?);
    Ok((request, Timestamp(message.at)))
}

/// The version in the bytes of a piece.
///
/// # Errors
/// When the bytes are no piece.
pub fn decode_piece(piece: Bytes) -> Result<Version, WireError> {
    let message = proto::ChangeSet::decode(piece)?;
    match message.versions.as_slice() {
        [version] => version_from(version),
        _ => Err(invalid("piece", "it does not hold one version")),
    }
}

/// Where the content of a version lies in the bytes of its piece; nowhere for a deletion. It is
/// found without decoding the rest.
///
/// # Errors
/// When the bytes are no piece.
pub fn piece_content(piece: &[u8]) -> Result<Option<Range<usize>>, WireError> {
    let torn = || invalid("piece", "it ends within a field");
    let mut at = 0;
    let mut piece_begun = false;
    while at < piece.len() {
        let key = varint(piece, &mut at).ok_or_else(torn)?;
        let value = varint(piece, &mut at).ok_or_else(torn)?;
        if key & 7 == 0 {
            continue;
        }
        let length = usize::try_from(value).map_err(|_| torn())?;
        let end = at.checked_add(length).filter(|&end| end <= piece.len()).ok_or_else(torn)?;
        match key {
            LAST_FIELD if piece_begun && end == piece.len() => return Ok(Some(at..end)),
            LAST_FIELD if !piece_begun && end == piece.len() => piece_begun = true,
            _ if piece_begun && key & 7 == 2 => at = end,
            _ => return Err(invalid("piece", "it holds more than one version")),
        }
    }
    if piece_begun { Ok(None) } else { Err(torn()) }
}

/// The key of field 15 with a length: `versions` in a change set, `content` in a version.
const LAST_FIELD: u64 = 15 << 3 | 2;

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// About as many bytes as a version takes.
fn estimate(version: &Version) -> usize {
    let names = version.ancestry.seen.len() + version.ancestry.kept.len();
    let texts = version.content.as_ref().map_or(0, Bytes::len)
        + version.criteria.as_ref().map_or(0, String::len);
    128 + 48 * names + texts
}

fn header_to(change: &ChangeSet) -> proto::ChangeSet {
    let places: HashMap<&ResourceKey, usize> =
        change.versions.iter().enumerate().map(|(place, version)| (&version.key, place)).collect();
    let entry_to = |entry: &EntryOutcome| {
        let place = entry.key.as_ref().and_then(|key| places.get(key)).filter(|&&place| {
            entry.version.as_ref() == Some(&change.versions[place].id(&change.origin))
        });
        place.map_or_else(
            || found(entry),
            |&place| made(entry.effect, u32::try_from(place).expect("versions fit 64 MiB")),
        )
    };
    proto::ChangeSet {
        format: FORMAT,
        origin: change.origin.to_string(),
        seq: change.seq.0,
        at: change.at.0,
        request: Bytes::copy_from_slice(&change.request.0),
        digest: digest_to(change.digest),
        client: change.client.clone(),
        node: change.place.node.to_string(),
        site: change.place.site.to_string(),
        entries: change.entries.iter().map(entry_to).collect(),
        versions: Vec::new(),
    }
}

fn piece_to(version: &Version) -> proto::ChangeSet {
    let ancestry = (version.ancestry != Default::default()).then(|| ancestry_to(&version.ancestry));
    let version = proto::Version {
        r#type: version.key.kind.to_string(),
        id: version.key.id.to_string(),
        generation: version.generation.0,
        ancestry,
        criteria: version.criteria.clone(),
        content: version.content.clone(),
    };
    proto::ChangeSet { versions: vec![version], ..proto::ChangeSet::default() }
}

fn change_from(message: &proto::ChangeSet) -> Result<ChangeSet, WireError> {
    let origin: Origin = parse(&message.origin, "ChangeSet.origin")?;
    if message.seq == 0 {
        return Err(invalid("ChangeSet.seq", "feeds begin at 1"));
    }
    let versions =
        message.versions.iter().map(version_from).collect::<Result<Vec<Version>, WireError>>()?;
    let keys: BTreeSet<&ResourceKey> = versions.iter().map(|version| &version.key).collect();
    if keys.len() < versions.len() {
        return Err(invalid("ChangeSet.versions", "two versions of one resource"));
    }
    let named = |place: u32| {
        let version = versions.get(usize::try_from(place).ok()?)?;
        Some((version.key.clone(), version.id(&origin)))
    };
    let entries = message.entries.iter().map(|entry| entry_from(entry, named));
    Ok(ChangeSet {
        seq: Seq(message.seq),
        at: Timestamp(message.at),
        request: RequestId(array(&message.request, "ChangeSet.request")?),
        digest: digest_from(&message.digest, "ChangeSet.digest")?,
        client: message.client.clone(),
        place: Place {
            node: parse(&message.node, "ChangeSet.node")?,
            site: parse(&message.site, "ChangeSet.site")?,
        },
        entries: entries.collect::<Result<_, _>>()?,
        origin,
        versions,
    })
}

fn version_from(message: &proto::Version) -> Result<Version, WireError> {
    if message.generation == 0 {
        return Err(invalid("Version.generation", "generations begin at 1"));
    }
    let ancestry = message.ancestry.as_ref().map(ancestry_from).transpose()?;
    if message.content.as_ref().is_some_and(|content| std::str::from_utf8(content).is_err()) {
        return Err(invalid("Version.content", "not UTF-8"));
    }
    Ok(Version {
        key: key_from(&message.r#type, &message.id)?,
        generation: Generation(message.generation),
        ancestry: ancestry.unwrap_or_default(),
        criteria: message.criteria.clone(),
        content: message.content.clone(),
    })
}

#[cfg(test)]
mod tests {
    use chartmesh_record::{Ancestry, Effect};
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{change_sets, hex, sample};

    proptest! {
        #[test]
        fn a_change_set_survives_its_bytes(change in change_sets()) {
            let encoded = Canonical::encode(change.clone());

            prop_assert_eq!(encoded.change_set(), &change);
            prop_assert_eq!(Canonical::parse(encoded.bytes().clone()), Ok(encoded));
        }

        #[test]
        fn the_parts_kept_apart_give_the_bytes_back(change in change_sets()) {
            let encoded = Canonical::encode(change.clone());
            let mut bytes = encoded.header().to_vec();
            for (piece, version) in encoded.pieces().zip(&change.versions) {
                bytes.extend_from_slice(&piece);
                let content = piece_content(&piece).unwrap().map(|range| piece.slice(range));
                prop_assert_eq!(&content, &version.content);
                prop_assert_eq!(&decode_piece(piece).unwrap(), version);
            }

            prop_assert_eq!(encoded.bytes(), &bytes);
            prop_assert_eq!(header_request(&encoded.header()), Ok((change.request, change.at)));
        }

        #[test]
        fn other_bytes_are_refused_or_are_canonical_themselves(
            change in change_sets(), place: prop::sample::Index, byte: u8, cut: prop::sample::Index,
        ) {
            let mut bytes = Canonical::encode(change).bytes().to_vec();
            let place = place.index(bytes.len());
            bytes[place] = byte;
            bytes.truncate(cut.index(bytes.len()) + 1);
            let bytes = Bytes::from(bytes);
            if let Ok(parsed) = Canonical::parse(bytes.clone()) {
                let again = Canonical::encode(parsed.into_change_set());
                prop_assert_eq!(again.bytes(), &bytes);
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = (piece_content(&bytes), header_request(&bytes));
            let _ = (decode_piece(bytes.clone().into()), Canonical::parse(bytes.into()));
        }
    }

    #[test]
    fn the_bytes_of_format_1_stay_as_they_are() {
        let golden = include_str!("../golden/change_set.1.hex");
        let encoded = Canonical::encode(sample());
        assert_eq!(hex(encoded.bytes()), golden.split_whitespace().collect::<String>());
    }

    #[test]
    fn refuses_what_is_valid_protobuf_but_not_canonical() {
        let good = Canonical::encode(sample());
        let (header, pieces) = (good.header(), good.pieces().collect::<Vec<_>>());
        let check = |parts: &[&[u8]]| Canonical::parse(parts.concat().into());

        assert!(check(&[&header, &pieces[0], &pieces[1]]).is_ok());
        // A version before the header, an unknown field, a default written out.
        assert_eq!(check(&[&pieces[0], &header, &pieces[1]]), Err(WireError::NotCanonical));
        assert_eq!(
            check(&[&header, &[0xf8, 1, 1], &pieces[0], &pieces[1]]),
            Err(WireError::NotCanonical)
        );
        assert_eq!(
            check(&[&header, &[24, 5], &pieces[0], &pieces[1]]),
            Err(WireError::NotCanonical)
        );
        // A resource twice; an entry about a version that is not there.
        assert!(matches!(
            check(&[&header, &pieces[0], &pieces[0]]),
            Err(WireError::Invalid { .. })
        ));
        assert!(matches!(check(&[&header]), Err(WireError::Invalid { .. })));
        // A version named in full where its place would do.
        let mut message = proto::ChangeSet::decode(good.bytes().clone()).unwrap();
        let set = good.change_set();
        message.entries[0] = found(&EntryOutcome {
            effect: Effect::Created,
            key: Some(set.versions[0].key.clone()),
            version: Some(set.versions[0].id(&set.origin)),
        });
        assert_eq!(Canonical::parse(message.encode_to_vec().into()), Err(WireError::NotCanonical));
    }

    #[test]
    fn says_that_a_format_is_newer_whatever_else_it_holds() {
        let mut message =
            proto::ChangeSet::decode(Canonical::encode(sample()).bytes().clone()).unwrap();
        message.format = 2;
        message.node = "Not a name".to_owned();
        let bytes = [message.encode_to_vec(), vec![0xf8, 1, 1]].concat();
        assert_eq!(Canonical::parse(bytes.into()), Err(WireError::Format { format: 2 }));
    }

    #[test]
    fn refuses_names_numbers_and_contents_that_cannot_be() {
        let check = |change: &dyn Fn(&mut proto::ChangeSet)| {
            let bytes = Canonical::encode(sample()).bytes().clone();
            let mut message = proto::ChangeSet::decode(bytes).unwrap();
            change(&mut message);
            let parsed = Canonical::parse(message.encode_to_vec().into());
            assert!(matches!(parsed, Err(WireError::Invalid { .. })), "{parsed:?}");
        };
        check(&|it| it.origin = "pac".to_owned());
        check(&|it| it.seq = 0);
        check(&|it| it.request.truncate(15));
        check(&|it| it.digest.truncate(31));
        check(&|it| it.site = String::new());
        check(&|it| it.entries[0].effect = 99);
        check(&|it| it.versions[0].r#type = "patient".to_owned());
        check(&|it| it.versions[0].id = "a/b".to_owned());
        check(&|it| it.versions[0].generation = 0);
        check(&|it| it.versions[0].content = Some(Bytes::from_static(b"\xff")));
        check(&|it| it.versions[1].ancestry.as_mut().unwrap().kept[0] = "x".to_owned());
        check(&|it| it.versions[1].ancestry.as_mut().unwrap().seen[0].generation = 0);
    }

    #[test]
    fn an_empty_ancestry_takes_no_bytes() {
        let mut change = sample();
        change.versions.truncate(1);
        change.versions[0].ancestry = Ancestry::default();
        change.entries.truncate(1);
        let bytes = Canonical::encode(change).bytes().clone();
        assert_eq!(proto::ChangeSet::decode(bytes).unwrap().versions[0].ancestry, None);
    }
}
