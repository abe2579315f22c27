//! This module reads the body of a request into memory, within limits of size, time and number.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::limits::Limits;

/// The body did not arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error(
        "a body compressed as {encoding:?} cannot be read: send it plain, or as gzip, br or zstd"
    )]
    Encoded { encoding: String },
    #[error("the body is longer than {limit} bytes")]
    TooLong { limit: usize },
    #[error("the body stopped arriving")]
    Stalled,
    #[error("the body cannot be read: {0}")]
    Broken(axum::Error),
}

/// A body, and the place among the big ones that it takes while it is in use.
#[derive(Debug)]
pub(crate) struct Received<'s> {
    pub(crate) bytes: Bytes,
    pub(crate) _place: Option<SemaphorePermit<'s>>,
}

/// Reads the whole body, which is not compressed any more. One that comes in one piece is not copied.
pub(crate) async fn receive<'s>(
    body: Body,
    headers: &HeaderMap,
    limits: &Limits,
    big: &'s Semaphore,
) -> Result<Received<'s>, BodyError> {
    let encoding = headers.get(CONTENT_ENCODING).map(|name| name.to_str().unwrap_or("?"));
    if let Some(encoding) = encoding.filter(|name| !name.eq_ignore_ascii_case("identity")) {
        return Err(BodyError::Encoded { encoding: encoding.to_owned() });
    }
    let limit = limits.body_bytes;
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > limit) {
        return Err(BodyError::TooLong { limit });
    }
    let (mut body, mut place) = (body, None);
    let (mut first, mut whole) = (Bytes::new(), BytesMut::new());
    loop {
        let frame = timeout(limits.body_stall, body.frame()).await;
        let Some(frame) = frame.map_err(|_| BodyError::Stalled)? else { break };
        let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() else { continue };
        let length = first.len().max(whole.len()) + data.len();
        if length > limit {
            return Err(BodyError::TooLong { limit });
        }
        if length > Limits::BIG_BODY_BYTES && place.is_none() {
            place = big.acquire().await.ok();
            whole.reserve(announced.unwrap_or(length).saturating_sub(whole.len()));
        }
        if first.is_empty() {
            first = data;
            continue;
        }
        if whole.is_empty() {
            whole.extend_from_slice(&first);
        }
        whole.extend_from_slice(&data);
    }
    let bytes = if whole.is_empty() { first } else { whole.freeze() };
    Ok(Received { bytes, _place: place })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn receive_chunks(chunks: &[&'static str], limit: usize) -> Result<Bytes, BodyError> {
        let chunks = chunks.iter().map(|&chunk| Ok::<_, std::io::Error>(chunk)).collect::<Vec<_>>();
        let body = Body::from_stream(futures::stream::iter(chunks));
        let limits = Limits { body_bytes: limit, ..Limits::default() };
        let big = Semaphore::new(1);
        let received = receive(body, &HeaderMap::new(), &limits, &big).await;
        received.map(|received| received.bytes)
    }

    #[tokio::test]
    async fn pieces_are_put_together_in_order() {
        for (chunks, expect) in
            [(&[][..], ""), (&["ab"], "ab"), (&["ab", "c", "", "de"], "abcde"), (&["", "a"], "a")]
        {
            assert_eq!(receive_chunks(chunks, 5).await.unwrap(), expect);
        }
    }

    #[tokio::test]
    async fn a_body_that_is_still_compressed_is_refused() {
        for (encoding, expect) in [("identity", true), ("compress", false), ("gzip", false)] {
            let headers = HeaderMap::from_iter([(CONTENT_ENCODING, encoding.parse().unwrap())]);
            let big = Semaphore::new(1);
            let result = receive(Body::empty(), &headers, &Limits::default(), &big).await;
            assert_eq!(result.is_ok(), expect, "{encoding}");
        }
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_announced_or_not() {
        let result = receive_chunks(&["abc", "def"], 5).await;
        assert!(matches!(result, Err(BodyError::TooLong { limit: 5 })));

        let headers = HeaderMap::from_iter([(CONTENT_LENGTH, 6.into())]);
        let limits = Limits { body_bytes: 5, ..Limits::default() };
        let big = Semaphore::new(1);
        let result = receive(Body::empty(), &headers, &limits, &big).await;
        assert!(matches!(result, Err(BodyError::TooLong { limit: 5 })));
    }
}
