//! This module unpacks bodies that come compressed and packs those of answers (RFC 9110, 8.4): gzip, br, zstd.

use std::convert::Infallible;

use axum::body::Body;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use http::{HeaderMap, Request, Response};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use tower_http::decompression::{DecompressionBody, RequestDecompressionLayer};

use crate::limits::Limits;

/// Whether a request comes compressed, or its answer may be.
pub(crate) fn concerns(headers: &HeaderMap) -> bool {
    headers.contains_key(ACCEPT_ENCODING) || headers.contains_key(CONTENT_ENCODING)
}

/// Serves a request with both. A body that is compressed in a way that is not known stays as it is: who
/// reads it refuses it.
pub(crate) async fn around<F: Future<Output = Response<Body>>>(
    request: Request<Body>,
    serve: impl Fn(Request<Body>) -> F,
) -> Response<Body> {
    let packing = CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(SizeAbove::new(Limits::COMPRESSED_BYTES).and(NotForContentType::IMAGES));
    let unpacking = RequestDecompressionLayer::new().pass_through_unaccepted(true);
    let serve = service_fn(|request: Request<DecompressionBody<Body>>| {
        let answering = serve(request.map(Body::new));
        async { Ok::<_, Infallible>(answering.await) }
    });
    let service = ServiceBuilder::new().layer(packing).layer(unpacking).service(serve);
    let Ok(answer) = service.oneshot(request).await;
    answer.map(Body::new)
}
