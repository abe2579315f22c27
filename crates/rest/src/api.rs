//! This module puts the FHIR interface together: what it is made of, and its router.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::routing::get;
use chartmesh_mirror::Mirror;
use chartmesh_record::{Clock, Place, Random, RegionName};
use chartmesh_region::{Blocking, Region};
use chartmesh_store::Store;

use crate::answer::{self, Page};
use crate::compression;
use crate::cors::Origins;
use crate::limits::Limits;
use crate::readiness::readiness;
use crate::server::Server;

/// What the interface is made of.
#[derive(Debug)]
pub struct Api {
    /// The node's state.
    pub store: Store,
    /// Where writes are decided.
    pub region: Region,
    /// How fresh what the node holds is.
    pub mirror: Mirror,
    /// The region's name.
    pub region_name: RegionName,
    /// The node, and its site.
    pub place: Place,
    /// The version of the software.
    pub software: String,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Where work runs that takes long.
    pub blocking: Blocking,
    /// A user's numbers.
    pub limits: Limits,
    /// The web pages of other origins that may ask.
    pub origins: Origins,
    /// The pages outside FHIR.
    pub pages: Pages,
}

/// Pages outside FHIR that others write: ports that `node` fills.
pub struct Pages {
    /// `/status`: a JSON document, or why there is none.
    pub status: PageSource,
    /// `/metrics`: text for Prometheus.
    pub metrics: PageSource,
}

/// Writes a page.
pub type PageSource = Box<dyn Fn() -> String + Send + Sync>;

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pages")
    }
}

/// All that a node serves its clients: FHIR REST under `/fhir`, and `/health/live`,
/// `/health/ready`, `/status` and `/metrics`.
pub fn router(api: Api) -> Router {
    let cors = api.origins.layer();
    let server = Arc::new(Server::new(api));
    let router = Router::new()
        .route("/health/live", get(async || answer::page(Page::Live)))
        .route("/health/ready", get(ready))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .fallback(fhir)
        .with_state(server);
    match cors {
        Some(cors) => router.layer(cors),
        None => router,
    }
}

type Answered = axum::response::Response;

async fn fhir(State(server): State<Arc<Server>>, request: Request) -> Answered {
    if compression::concerns(request.headers()) {
        return compression::around(request, |request| Arc::clone(&server).serve(request)).await;
    }
    server.serve(request).await
}

async fn ready(State(server): State<Arc<Server>>) -> Answered {
    answer::page(match readiness(&server.api.region.status().state) {
        Ok(()) => Page::Ready,
        Err(not_ready) => Page::NotReady(not_ready.to_string()),
    })
}

async fn status(State(server): State<Arc<Server>>) -> Answered {
    answer::page(Page::Status((server.api.pages.status)()))
}

async fn metrics(State(server): State<Arc<Server>>) -> Answered {
    answer::page(Page::Metrics((server.api.pages.metrics)()))
}
