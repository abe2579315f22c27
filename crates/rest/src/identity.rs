//! This module gives each write its identity, by which a retry is told from a new request.

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

/// The id of a request: that of its key, or else a new one.
pub(crate) fn request_id(
    headers: &HeaderMap,
    random: &dyn Random,
) -> Result<RequestId, InvalidHeader> {
    let invalid = |reason| InvalidHeader { name: "Idempotency-Key", reason };
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
        let bits = (u128::from(random.bits()) << 64) | u128::from(random.bits());
        return Ok(RequestId(bits.to_be_bytes()));
    };
    let text = value.to_str().map_err(|_| invalid("it is not plain ASCII"))?.trim();
    let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let key = quoted.unwrap_or(text);
    match key.len() {
        0 => Err(invalid("it is empty")),
        1..=Limits::IDEMPOTENCY_KEY_BYTES => {
            Ok(RequestId(short_hash(&[b"key", SCOPE.as_bytes(), key.as_bytes()])))
        }
        _ => Err(invalid("it is too long")),
    }
}

/// The digest of all that a request says.
pub(crate) fn digest(
    method: &str,
    target: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> RequestDigest {
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
    /// The identity of one entry of a batch: a retry of the batch derives the same.
    pub(crate) fn entry(&self, index: usize) -> Self {
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
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Debug, Default)]
    struct Counting(AtomicU64);

    impl Random for Counting {
        fn bits(&self) -> u64 {
            self.0.fetch_add(1, Ordering::Relaxed)
        }
    }

    fn keyed(key: &str) -> HeaderMap {
        HeaderMap::from_iter([(IDEMPOTENCY_KEY, key.parse().unwrap())])
    }

    #[test]
    fn a_key_names_one_request_and_no_key_a_new_one() {
        let random = Counting::default();
        let id = |headers: &HeaderMap| request_id(headers, &random);
        assert_eq!(id(&keyed("a")), id(&keyed("\"a\"")));
        assert_ne!(id(&keyed("a")), id(&keyed("b")));
        assert_ne!(id(&HeaderMap::new()), id(&HeaderMap::new()));
        assert!(id(&keyed("")).is_err());
        assert!(id(&keyed(&"k".repeat(Limits::IDEMPOTENCY_KEY_BYTES + 1))).is_err());
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
        let random = Counting::default();
        let request = request_id(&keyed("a"), &random).unwrap();
        let identity = Identity { request, digest: digest("POST", "", &HeaderMap::new(), b"") };
        assert_eq!(identity.entry(0), identity.entry(0));
        assert_ne!(identity.entry(0).request, identity.entry(1).request);
        assert_ne!(identity.entry(0).request, request);
    }
}
