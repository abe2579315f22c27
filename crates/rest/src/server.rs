//! This module takes requests in and gives answers out.
//!
//! ```text
//! request -> place among those under way -> path: Interaction -> what the client takes and wants
//!         -> read | history | write | bundle | metadata -> Answer or Refusal -> response
//! ```
//!
//! Every request under the base ends here with an answer that says how fresh it is, a panic included.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::body::{Body, HttpBody as _};
use bytes::Bytes;
use chartmesh_region::Blocking;
use futures::FutureExt;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{Method, Request, Response};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::account::{Account, Kind};
use crate::answer::Answer;
use crate::api::Api;
use crate::base::Base;
use crate::condition::Cached;
use crate::freshness::Freshness;
use crate::limits::Limits;
use crate::media;
use crate::metadata::{self, About};
use crate::path::{self, Interaction, Misdirected, Query};
use crate::preference::Preferences;
use crate::refusal::Refusal;
use crate::room::Room;
use crate::{history, read};

/// The parts that serve a node's clients.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) api: Api,
    pub(crate) big_bodies: Semaphore,
    pub(crate) room: Room,
    in_flight: Semaphore,
    freshness: Freshness,
    account: Account,
    statement: Bytes,
}

/// One request, its body aside.
#[derive(Debug)]
pub(crate) struct Asked<'r> {
    pub(crate) parts: &'r Parts,
    pub(crate) base: &'r Base<'r>,
    pub(crate) preferences: Preferences,
}

impl Server {
    pub(crate) fn new(api: Api) -> Self {
        let about = About {
            software: &api.software,
            place: &api.place,
            region: &api.region_name,
            since: api.clock.wall(),
        };
        Self {
            statement: metadata::statement(&about),
            in_flight: Semaphore::new(api.limits.in_flight),
            big_bodies: Semaphore::new(api.limits.big_bodies),
            room: Room::default(),
            freshness: Freshness::default(),
            account: Account::new(),
            api,
        }
    }

    /// Answers a request, whatever happens.
    pub(crate) async fn serve(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        let started = self.api.clock.monotonic();
        let (parts, body) = request.into_parts();
        let base = Base::of(&parts);
        let mut kind = Kind::Other;
        let result = self.guarded(&parts, body, &base, &mut kind).await;
        let answer = result.unwrap_or_else(|refusal| {
            if let Refusal::Store(corrupt) = &refusal {
                tracing::error!(%corrupt, "the store cannot be read");
            }
            refusal.answer()
        });
        let mut response = answer.into_response(&base);
        if parts.method == Method::HEAD {
            response = without_body(response);
        }
        let Api { region, region_name, clock, .. } = &self.api;
        let look = || (region.status().state, region.as_of());
        self.freshness.stamp(response.headers_mut(), &**clock, region_name, look);
        let took = clock.monotonic().saturating_sub(started);
        let status = response.status();
        self.account.note(kind, status, took);
        tracing::debug!(method = %parts.method, path = parts.uri.path(), %status, ?took, "answered");
        response
    }

    /// Within the limits of number and time, and with panics caught.
    async fn guarded(
        &self,
        parts: &Parts,
        body: Body,
        base: &Base<'_>,
        kind: &mut Kind,
    ) -> Result<Answer, Refusal> {
        let _place = self.in_flight.try_acquire().map_err(|_| Refusal::Overloaded)?;
        let limit = self.api.limits.request_time;
        let work = AssertUnwindSafe(self.answer(parts, body, base, kind)).catch_unwind();
        let result = timeout(limit, work).await.map_err(|_| Refusal::TooSlow { limit })?;
        result.unwrap_or_else(|panic| {
            self.account.note_panic();
            tracing::error!(method = %parts.method, path = parts.uri.path(), panic = said(&*panic),
                "a request has met a panic");
            Err(Refusal::Fault)
        })
    }

    async fn answer(
        &self,
        parts: &Parts,
        body: Body,
        base: &Base<'_>,
        kind: &mut Kind,
    ) -> Result<Answer, Refusal> {
        let query = Query::new(parts.uri.query());
        let preferences = Preferences::of(&parts.headers)?;
        let interaction = interaction(parts, &query, preferences.strict)?;
        *kind = interaction.kind();
        media::accepts(&parts.headers, query.value("_format").as_deref())?;
        let asked = Asked { parts, base, preferences };
        match interaction {
            Interaction::Metadata => Ok(Answer::document(self.statement.clone())),
            Interaction::Bundle => Box::pin(self.bundle(&asked, body)).await,
            Interaction::Read(_) | Interaction::VersionRead(..) | Interaction::History(..) => {
                self.await_freshness(preferences).await?;
                self.read(interaction, &Cached::of(&parts.headers)?, base)
            }
            Interaction::Create(_)
            | Interaction::Update(_)
            | Interaction::UpdateWhere(_)
            | Interaction::Delete(_)
            | Interaction::DeleteWhere(_) => Box::pin(self.write(&asked, body, interaction)).await,
        }
    }

    /// Reads from the node's own store.
    ///
    /// # Panics
    /// If it is not to read.
    pub(crate) fn read(
        &self,
        interaction: Interaction,
        cached: &Cached,
        base: &Base<'_>,
    ) -> Result<Answer, Refusal> {
        let store = &self.api.store;
        match interaction {
            Interaction::Read(key) => read::current(store, &key, cached),
            Interaction::VersionRead(key, version) => read::version(store, &key, &version, cached),
            Interaction::History(key, page) => {
                self.beside(|| history::instance(store, &key, &page, base))
            }
            Interaction::Metadata => Ok(Answer::document(self.statement.clone())),
            other => unreachable!("{other:?} does not read"),
        }
    }

    /// Waits until the store is as fresh as the client demands, or says that it is not.
    pub(crate) async fn await_freshness(&self, preferences: Preferences) -> Result<(), Refusal> {
        if preferences.linearizable {
            Box::pin(self.api.region.linearize()).await?;
        }
        let Some(limit) = preferences.max_staleness else { return Ok(()) };
        let age = self.api.region.as_of().map(|as_of| as_of.age);
        if age.is_some_and(|age| age <= limit) {
            Ok(())
        } else {
            Err(Refusal::Stale { age, limit })
        }
    }

    /// Runs what takes long where it keeps no other request waiting.
    pub(crate) fn beside<T>(&self, work: impl FnOnce() -> T) -> T {
        match self.api.blocking {
            Blocking::Pool => tokio::task::block_in_place(work),
            Blocking::Inline => work(),
        }
    }

    /// Runs work on so many bytes, beside the other requests if they are many.
    pub(crate) fn sized<T>(&self, bytes: usize, work: impl FnOnce() -> T) -> T {
        if bytes > Limits::PARSE_INLINE_BYTES { self.beside(work) } else { work() }
    }
}

fn interaction(parts: &Parts, query: &Query<'_>, strict: bool) -> Result<Interaction, Refusal> {
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    if target.len() > Limits::TARGET_BYTES {
        return Err(Refusal::UrlTooLong { limit: Limits::TARGET_BYTES });
    }
    let path = parts.uri.path();
    let below = path.strip_prefix("/fhir").filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let Some(below) = below else {
        return Err(Misdirected::Nowhere { path: path.to_owned() }.into());
    };
    let below = below.strip_prefix('/').unwrap_or(below);
    Ok(path::interaction(&parts.method, below, query, strict)?)
}

/// The answer to a HEAD: all but the body, whose length is told.
fn without_body(response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        head.headers.insert(CONTENT_LENGTH, length.into());
    }
    Response::from_parts(head, Body::empty())
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("?")
}

impl Interaction {
    fn kind(&self) -> Kind {
        match self {
            Self::Read(_) => Kind::Read,
            Self::VersionRead(..) => Kind::VersionRead,
            Self::History(..) => Kind::History,
            Self::Create(_) => Kind::Create,
            Self::Update(_) | Self::UpdateWhere(_) => Kind::Update,
            Self::Delete(_) | Self::DeleteWhere(_) => Kind::Delete,
            Self::Bundle => Kind::Bundle,
            Self::Metadata => Kind::Metadata,
        }
    }
}
