//! This module gives each write its identity, by which a retry is told from a new request.

use std::sync::atomic::{AtomicU64, Ordering};

use chartmesh_record::{Random, RequestDigest, RequestId};
use http::header::{HeaderMap, HeaderName, IF_MATCH, IF_NONE_MATCH};
use sha2::{Digest, Sha256};

use crate::condition::InvalidHeader;
use crate::limits::Limits;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(crate) const IF_NONE_EXIST: HeaderName = HeaderName::from_static("if-none-exist");

/// Without authentication all clients share one scope of keys.
const SCOPE: &str = "anyone";

/// The headers that change what a write does.
const MEANT: [HeaderName; 3] = [IF_MATCH, IF_NONE_MATCH, IF_NONE_EXIST];

/// Who a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) request: RequestId,
    pub(crate) digest: RequestDigest,
}

/// Draws ids for requests without a key: a random part for the process (8 bytes), a count (5), and
/// the place of an entry in a batch (3), so that those of one process are much alike and take little
/// when they are compressed.
#[derive(Debug)]
pub(crate) struct Draw {
    process: u64,
    count: AtomicU64,
}

impl Draw {
    pub(crate) fn new(random: &dyn Random) -> Self {
        Self { process: random.bits(), count: AtomicU64::new(0) }
    }

    fn next(&self) -> RequestId {
        let count = self.count.fetch_add(1, Ordering::Relaxed) & 0xff_ffff_ffff;
        let bits = (u128::from(self.process) << 64) | (u128::from(count) << 24);
        RequestId(bits.to_be_bytes())
    }
}

/// The id of a request by its key, if it has one.
fn keyed(headers: &HeaderMap) -> Result<Option<RequestId>, InvalidHeader> {
    let invalid = |reason| InvalidHeader { name: "Idempotency-Key", reason };
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let text = value.to_str().map_err(|_| invalid("it is not plain ASCII"))?.trim();
    let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let key = quoted.unwrap_or(text);
    match key.len() {
        0 => Err(invalid("it is empty")),
        1..=Limits::IDEMPOTENCY_KEY_BYTES => {
            Ok(Some(RequestId(short_hash(&[b"key", SCOPE.as_bytes(), key.as_bytes()]))))
        }
        _ => Err(invalid("it is too long")),
    }
}

/// The digest of all that a request says.
fn digest(method: &str, target: &str, headers: &HeaderMap, body: &[u8]) -> RequestDigest {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(method.as_bytes());
    part(target.as_bytes());
    for name in &MEANT {
        for value in headers.get_all(name) {
            part(name.as_str().as_bytes());
            part(value.as_bytes());
        }
    }
    part(body);
    RequestDigest(hash.finalize().into())
}

impl Identity {
    /// Who a request is: by its key, or else a new one.
    pub(crate) fn of(
        method: &str,
        target: &str,
        headers: &HeaderMap,
        body: &[u8],
        draw: &Draw,
    ) -> Result<Self, InvalidHeader> {
        Ok(match keyed(headers)? {
            Some(request) => Self { request, digest: digest(method, target, headers, body) },
            None => Self { request: draw.next(), digest: RequestDigest::DRAWN },
        })
    }

    /// The identity of one entry of a batch: a retry of the batch derives the same.
    pub(crate) fn entry(&self, index: usize) -> Self {
        if self.digest == RequestDigest::DRAWN {
            let place = (index as u128 + 1) & 0xff_ffff;
            let request = RequestId((u128::from_be_bytes(self.request.0) | place).to_be_bytes());
            return Self { request, ..*self };
        }
        let index = (index as u64).to_be_bytes();
        Self {
            request: RequestId(short_hash(&[b"entry", &self.request.0, &index])),
            digest: self.digest,
        }
    }
}

fn short_hash(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let full: [u8; 32] = hash.finalize().into();
    full.first_chunk().copied().expect("32 bytes hold 16")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw() -> Draw {
        Draw { process: 7, count: AtomicU64::new(0) }
    }

    fn key(key: &str) -> HeaderMap {
        HeaderMap::from_iter([(IDEMPOTENCY_KEY, key.parse().unwrap())])
    }

    #[test]
    fn a_key_names_one_request_and_no_key_a_new_one() {
        let draw = draw();
        let of = |headers: &HeaderMap| Identity::of("PUT", "Patient/1", headers, b"{}", &draw);
        let id = |headers: &HeaderMap| of(headers).map(|identity| identity.request);
        assert_eq!(id(&key("a")), id(&key("\"a\"")));
        assert_ne!(id(&key("a")), id(&key("b")));
        assert_ne!(id(&HeaderMap::new()), id(&HeaderMap::new()));
        assert_eq!(of(&HeaderMap::new()).unwrap().digest, RequestDigest::DRAWN);
        assert!(id(&key("")).is_err());
        assert!(id(&key(&"k".repeat(Limits::IDEMPOTENCY_KEY_BYTES + 1))).is_err());
    }

    #[test]
    fn a_digest_differs_with_everything_that_is_said() {
        let none = HeaderMap::new();
        let conditional = HeaderMap::from_iter([(IF_MATCH, "\"1\"".parse().unwrap())]);
        let digests = [
            digest("PUT", "Patient/1", &none, b"{}"),
            digest("POST", "Patient/1", &none, b"{}"),
            digest("PUT", "Patient/2", &none, b"{}"),
            digest("PUT", "Patient/1", &conditional, b"{}"),
            digest("PUT", "Patient/1", &none, b"{ }"),
        ];
        for (place, digest) in digests.iter().enumerate() {
            assert!(!digests[..place].contains(digest), "{place}");
        }
        let prefer = HeaderMap::from_iter([(http::header::ACCEPT, "*/*".parse().unwrap())]);
        assert_eq!(digests[0], digest("PUT", "Patient/1", &prefer, b"{}"));
    }

    #[test]
    fn entries_of_a_batch_have_ids_of_their_own_that_a_retry_derives_again() {
        for headers in [key("a"), HeaderMap::new()] {
            let draw = draw();
            let one = Identity::of("POST", "", &headers, b"", &draw).unwrap();
            let next = Identity::of("POST", "", &headers, b"", &draw).unwrap();
            let ids = [one.request, one.entry(0).request, one.entry(1).request];
            assert_eq!(one.entry(0), one.entry(0));
            assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
            assert!(headers.is_empty() != ids.contains(&next.request));
        }
    }
}
