//! This module is the yardstick for reads by id: axum over a RocksDB get, and nothing else.
//!
//! `bare [VALUES] [BYTES] [PORT]` fills a database in a temporary directory with so many values of
//! so many bytes, prints its address, and answers `GET /NUMBER` until it is ended. Measure it with
//! the same client as a node: `chartmesh bench --to http://127.0.0.1:PORT --get '/{}' --resources VALUES`.

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use rocksdb::DB;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let [values, bytes, port] = arguments([2000, 1000, 0])?;
    let dir = tempfile::tempdir()?;
    let db = DB::open_default(dir.path()).context("cannot open a database")?;
    let value = vec![b'x'; usize::try_from(bytes)?];
    for number in 0..values {
        db.put(number.to_be_bytes(), &value)?;
    }
    db.flush()?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", u16::try_from(port)?)).await?;
    println!("http://{}", listener.local_addr()?);
    let app = Router::new().route("/{number}", get(read)).with_state(Arc::new(db));
    axum::serve(listener, app).await?;
    Ok(())
}

/// What the command line says, or these.
fn arguments(mut defaults: [u64; 3]) -> anyhow::Result<[u64; 3]> {
    for (place, text) in defaults.iter_mut().zip(std::env::args().skip(1)) {
        *place = text.parse().with_context(|| format!("{text:?} is no number"))?;
    }
    Ok(defaults)
}

async fn read(State(db): State<Arc<DB>>, Path(number): Path<u64>) -> Response {
    match db.get(number.to_be_bytes()) {
        Ok(Some(value)) => {
            ([(header::CONTENT_TYPE, "application/fhir+json")], Bytes::from(value)).into_response()
        }
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
