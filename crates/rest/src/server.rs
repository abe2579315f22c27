//! This module takes requests in and gives answers out.
//!
//! ```text
//! request -> place among those under way -> path: Interaction -> what the client takes and wants
//!         -> read at once | wait: write, bundle -> Answer or Refusal -> response
//! ```
//!
//! A plain read is answered where it is understood, without an asynchronous step: it is what most
//! requests are.
//! Every request under the base ends here with an answer that says how fresh it is, a panic included.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use bytes::Bytes;
use chartmesh_record::{Patch, PatchTarget, Timestamp};
use chartmesh_region::Blocking;
use chartmesh_search::Registry;
use futures::FutureExt;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderName, Method, Request, Response};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::account::{Account, Kind};
use crate::answer::Answer;
use crate::api::Api;
use crate::base::Base;
use crate::body::receive;
use crate::condition::Cached;
use crate::freshness::{Look, Looks};
use crate::identity::Draw;
use crate::limits::Limits;
use crate::media;
use crate::metadata::{self, About};
use crate::path::{self, Interaction, Misdirected, Mode, Reading, Writing};
use crate::preference::Preferences;
use crate::query::Query;
use crate::refusal::Refusal;
use crate::room::Room;
use crate::{binary, conflicts, history, meta, read, validation};

/// What a client calls its request; it is said back.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The parts that serve a node's clients.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) api: Api,
    pub(crate) big_bodies: Semaphore,
    pub(crate) room: Room,
    pub(crate) draw: Draw,
    in_flight: Semaphore,
    looks: Looks,
    account: Account,
    /// What the server can do, by the search parameters that there were.
    statement: Mutex<(Arc<Registry>, Bytes)>,
    since: Timestamp,
}

/// One request, its body aside.
#[derive(Debug)]
pub(crate) struct Asked<'r> {
    pub(crate) parts: &'r Parts,
    pub(crate) base: &'r Base<'r>,
    pub(crate) preferences: Preferences,
}

/// How far a request comes without waiting.
enum Begun<'r> {
    Answered(Answer),
    Waits(Asked<'r>, Interaction),
}

impl Server {
    pub(crate) fn new(api: Api) -> Self {
        let (since, registry) = (api.clock.wall(), api.store.registry());
        let statement = statement(&api, since, &registry);
        Self {
            statement: Mutex::new((registry, statement)),
            since,
            in_flight: Semaphore::new(api.limits.in_flight),
            big_bodies: Semaphore::new(api.limits.big_bodies),
            room: Room::default(),
            draw: Draw::new(&*api.random),
            looks: Looks::new(api.region_name.clone()),
            account: Account::new(),
            api,
        }
    }

    /// Answers a request, whatever happens.
    pub(crate) async fn serve(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        let clock = &self.api.clock;
        let started = clock.monotonic();
        let mut look = self.look(started);
        let (parts, body) = request.into_parts();
        let base = Base::of(&parts);
        let mut kind = Kind::Other;
        let result = match self.in_flight.try_acquire() {
            Err(_) => Err(Refusal::Overloaded),
            Ok(_place) => match self.begin(&parts, &base, &mut kind) {
                Ok(Begun::Answered(answer)) => Ok(answer),
                Ok(Begun::Waits(asked, interaction)) => {
                    Box::pin(self.go_on(asked, interaction, body, &mut look)).await
                }
                Err(refusal) => Err(refusal),
            },
        };
        let answer = result.unwrap_or_else(|refusal| {
            if let Refusal::Store(corrupt) = &refusal {
                tracing::error!(%corrupt, "the store cannot be read");
            }
            refusal.answer()
        });
        let query = parts.uri.query().filter(|query| query.contains("_pretty"));
        let is_pretty = query.is_some_and(|query| {
            Query::new(Some(query)).value("_pretty").is_some_and(|value| value == "true")
        });
        let mut response = answer.into_response(&base, is_pretty);
        if parts.method == Method::HEAD {
            response = without_body(response);
        }
        let now = clock.monotonic();
        look.stamp(response.headers_mut(), now);
        let name = parts.headers.get(REQUEST_ID).filter(|it| it.len() <= Limits::REQUEST_ID_BYTES);
        response.headers_mut().extend(name.map(|name| (REQUEST_ID, name.clone())));
        let took = now.saturating_sub(started);
        let status = response.status();
        self.account.note(kind, status, took);
        tracing::debug!(method = %parts.method, path = parts.uri.path(), %status, ?took, "answered");
        response
    }

    /// Where the node stands at this time.
    fn look(&self, now: Duration) -> Arc<Look> {
        let Api { region, mirror, .. } = &self.api;
        self.looks.look(now, || (region.status().state, mirror.freshness()))
    }

    /// Where the node stands now: before what is read next is read.
    pub(crate) fn look_again(&self, look: &mut Arc<Look>) {
        *look = self.look(self.api.clock.monotonic());
    }

    /// Answers what can be answered without waiting, with panics caught.
    fn begin<'r>(
        &self,
        parts: &'r Parts,
        base: &'r Base<'r>,
        kind: &mut Kind,
    ) -> Result<Begun<'r>, Refusal> {
        let work = AssertUnwindSafe(|| {
            let query = Query::new(parts.uri.query());
            let preferences = Preferences::of(&parts.headers)?;
            let interaction = interaction(parts, &query, preferences.strict)?;
            *kind = interaction.kind();
            if !interaction.reads_binary() {
                media::accepts(&parts.headers, query.value("_format").as_deref())?;
            }
            match &interaction {
                Interaction::Read(reading) if !preferences.waits() => {
                    self.answer(reading, parts, base).map(Begun::Answered)
                }
                _ => Ok(Begun::Waits(Asked { parts, base, preferences }, interaction)),
            }
        });
        catch_unwind(work).unwrap_or_else(|panic| self.fault(parts, &*panic))
    }

    /// Answers what has to wait, within the limit of time and with panics caught. The look is taken
    /// again after each wait, before anything is read.
    async fn go_on(
        &self,
        asked: Asked<'_>,
        interaction: Interaction,
        body: Body,
        look: &mut Arc<Look>,
    ) -> Result<Answer, Refusal> {
        let work = async {
            match interaction {
                Interaction::Read(reading) => {
                    self.await_freshness(asked.preferences, look).await?;
                    let answer = self.answer(&reading, asked.parts, asked.base)?;
                    Ok(answer.applying(asked.preferences.of_reads()))
                }
                Interaction::Write(writing) => {
                    let written = self.write(&asked, body, writing).await;
                    self.look_again(look);
                    written
                }
                Interaction::Patch(target) => {
                    let headers = &asked.parts.headers;
                    let read = |bytes: &[u8]| media::patch(headers, bytes);
                    let patched = self.patch(&asked, body, target, read).await;
                    self.look_again(look);
                    patched
                }
                Interaction::ChangeMeta { key, adds } => {
                    media::sends_json(&asked.parts.headers)?;
                    let read = |bytes: &[u8]| Ok(Patch::meta(adds, bytes)?);
                    let target = PatchTarget::Resource(key);
                    let told = Preferences { echo: None, ..asked.preferences };
                    let asked = Asked { preferences: told, ..asked };
                    let patched = self.patch(&asked, body, target, read).await;
                    self.look_again(look);
                    Ok(meta::answer(patched?))
                }
                Interaction::Validate(validating) => {
                    let headers = &asked.parts.headers;
                    media::sends_json(headers)?;
                    let received =
                        receive(body, headers, &self.api.limits, &self.big_bodies).await?;
                    let bytes = &received.bytes;
                    Ok(self.sized(bytes.len(), || validation::answer(&validating, bytes)))
                }
                Interaction::SearchForm(mut searching) => {
                    self.add_form(&asked, body, &mut searching).await?;
                    self.await_freshness(asked.preferences, look).await?;
                    let answer = self.search(&searching, asked.base)?;
                    Ok(answer.applying(asked.preferences.of_reads()))
                }
                Interaction::Bundle => self.bundle(&asked, body, look).await,
            }
        };
        let limit = self.api.limits.request_time;
        match timeout(limit, AssertUnwindSafe(work).catch_unwind()).await {
            Ok(result) => result.unwrap_or_else(|panic| self.fault(asked.parts, &*panic)),
            Err(_) => Err(Refusal::TooSlow { limit }),
        }
    }

    /// A panic is counted and written down.
    fn fault<T>(&self, parts: &Parts, panic: &(dyn Any + Send)) -> Result<T, Refusal> {
        self.account.note_panic();
        tracing::error!(method = %parts.method, path = parts.uri.path(), panic = said(panic),
            "a request has met a panic");
        Err(Refusal::Fault)
    }

    /// Answers a read: a Binary as the client would rather have it.
    fn answer(&self, reading: &Reading, parts: &Parts, base: &Base<'_>) -> Result<Answer, Refusal> {
        let cached = Cached::of(&parts.headers)?;
        let answer = self.read(reading, &cached, base)?;
        if !reading.is_of_binary() {
            return Ok(answer);
        }
        let format = Query::new(parts.uri.query()).value("_format");
        let bytes = answer.resource_bytes().map_or(0, Bytes::len);
        self.sized(bytes, || binary::shown(answer, &parts.headers, format.as_deref()))
    }

    /// Reads from the node's own store.
    pub(crate) fn read(
        &self,
        reading: &Reading,
        cached: &Cached,
        base: &Base<'_>,
    ) -> Result<Answer, Refusal> {
        let store = &self.api.store;
        match reading {
            Reading::Current(key) => read::current(store, key, cached),
            Reading::Version(key, version) => read::version(store, key, version, cached),
            Reading::History(key, page) => {
                self.beside(|| history::instance(store, key, page, base))
            }
            Reading::Arrivals(kind, past) => {
                let node = &self.api.place.node;
                self.beside(|| history::arrivals(store, node, *kind, past, base))
            }
            Reading::Conflicts(scope, page) => {
                self.beside(|| conflicts::list(store, scope, page, base))
            }
            Reading::Search(searching) => self.search(searching, base),
            Reading::Meta(key) => Ok(meta::answer(read::current(store, key, cached)?)),
            Reading::Metadata(Mode::Full) => Ok(Answer::document(self.statement())),
            Reading::Metadata(mode) => {
                let about = about(&self.api, self.since);
                let registry = store.registry();
                Ok(Answer::document(match mode {
                    Mode::Terminology => metadata::terminology(&about),
                    _ => metadata::normative(&about, &registry),
                }))
            }
        }
    }

    /// What the server can do.
    fn statement(&self) -> Bytes {
        let registry = self.api.store.registry();
        let mut known = self.statement.lock().expect("no holder panics");
        if !Arc::ptr_eq(&known.0, &registry) {
            let made = statement(&self.api, self.since, &registry);
            *known = (registry, made);
        }
        known.1.clone()
    }

    /// Waits until the store is as fresh as the client demands, or says that it is not.
    pub(crate) async fn await_freshness(
        &self,
        preferences: Preferences,
        look: &mut Arc<Look>,
    ) -> Result<(), Refusal> {
        if preferences.linearizable {
            Box::pin(self.api.region.linearize()).await?;
        }
        self.look_again(look);
        match preferences.staleness {
            Some(staleness) => Ok(look.suffices(staleness)?),
            None => Ok(()),
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

fn statement(api: &Api, since: Timestamp, registry: &Registry) -> Bytes {
    metadata::statement(&about(api, since), registry)
}

fn about(api: &Api, since: Timestamp) -> About<'_> {
    let Api { software, place, region_name, .. } = api;
    About { software, place, region: region_name, since }
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

impl Reading {
    /// Whether one Binary is read, or a version of it.
    fn is_of_binary(&self) -> bool {
        matches!(self, Self::Current(key) | Self::Version(key, _) if key.kind.as_str() == "Binary")
    }
}

impl Interaction {
    fn reads_binary(&self) -> bool {
        matches!(self, Self::Read(reading) if reading.is_of_binary())
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Read(Reading::Current(_)) => Kind::Read,
            Self::Read(Reading::Version(..)) => Kind::VersionRead,
            Self::Read(Reading::History(..) | Reading::Arrivals(..)) => Kind::History,
            Self::Read(Reading::Conflicts(..)) => Kind::Conflicts,
            Self::Read(Reading::Search(_)) | Self::SearchForm(_) => Kind::Search,
            Self::Read(Reading::Metadata(_)) => Kind::Metadata,
            Self::Read(Reading::Meta(_)) => Kind::Read,
            Self::ChangeMeta { .. } => Kind::Patch,
            Self::Validate(_) => Kind::Validate,
            Self::Write(Writing::Create(_) | Writing::CreateUnless(_)) => Kind::Create,
            Self::Write(Writing::Update(_) | Writing::UpdateWhere(_)) => Kind::Update,
            Self::Write(Writing::Delete(_) | Writing::DeleteWhere(_)) => Kind::Delete,
            Self::Patch(_) => Kind::Patch,
            Self::Bundle => Kind::Bundle,
        }
    }
}
