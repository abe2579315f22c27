//! This module carries out batches and transactions (FHIR R4, http, 3.1.0.11).
//!
//! A transaction is one command: all of it or nothing. The entries of a batch are requests of their
//! own, under ids derived from the batch's; those about one resource keep their order, others run
//! side by side.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use chartmesh_record::{
    BatchEntry, BundledRead, BundledWrite, Invalid, Operation, PatchRequest, PatchTarget,
    PostedBundle, ReadTarget, ResourceKey,
};
use futures::{StreamExt, stream};
use http::Method;

use crate::answer::Answer;
use crate::body::{Received, receive};
use crate::condition::Cached;
use crate::document::{BundleHead, BundleWriter};
use crate::freshness::Look;
use crate::history::Past;
use crate::identity::Identity;
use crate::limits::Limits;
use crate::media;
use crate::patch::Unity;
use crate::path::{self, Interaction, Misdirected, Reading};
use crate::preference::Echo;
use crate::query::Query;
use crate::refusal::Refusal;
use crate::server::{Asked, Server};
use crate::write::Mark;

/// What one entry of a batch asks for.
#[derive(Debug)]
enum Step {
    Write(BundledWrite),
    Read(Reading, Cached),
}

/// An entry of a batch, counted from 0, and what it asks for.
type Queued = (usize, Result<Step, Refusal>);

/// What keeps entries of a batch in order: those of one lane follow each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Resource(ResourceKey),
    Criteria(String),
    Alone(usize),
}

impl Server {
    /// `POST [base]`
    pub(crate) async fn bundle(
        &self,
        asked: &Asked<'_>,
        body: Body,
        look: &mut Arc<Look>,
    ) -> Result<Answer, Refusal> {
        let headers = &asked.parts.headers;
        media::sends_json(headers)?;
        let Received { bytes, _place } =
            receive(body, headers, &self.api.limits, &self.big_bodies).await?;
        let (bundle, identity) = self.sized(bytes.len(), || {
            let bundle = PostedBundle::parse(&bytes)?;
            Ok::<_, Refusal>((bundle, self.identity(asked, &bytes)?))
        })?;
        drop(bytes);
        match bundle {
            PostedBundle::Transaction(writes) => {
                self.look_again(look);
                self.transaction(asked, identity, writes).await
            }
            PostedBundle::Batch(entries) => {
                self.await_freshness(asked.preferences, look).await?;
                self.batch(asked, identity, entries).await
            }
        }
    }

    async fn transaction(
        &self,
        asked: &Asked<'_>,
        identity: Identity,
        writes: Vec<BundledWrite>,
    ) -> Result<Answer, Refusal> {
        let accepted = self.carry_out(identity, writes, Unity::Transaction).await?;
        let outcome = &accepted.outcome;
        let echo = asked.preferences.echo.unwrap_or(Echo::Minimal);
        let response = self.beside(|| {
            let told = outcome.entries.iter().map(|entry| self.tell(entry, outcome.at, echo));
            Ok::<_, Refusal>(respond(
                "transaction-response",
                asked,
                told.collect::<Result<_, _>>()?,
            ))
        })?;
        let answer = Answer::document(response).applying(asked.preferences.of_writes());
        Ok(Mark::of(&accepted).put_on(answer))
    }

    async fn batch(
        &self,
        asked: &Asked<'_>,
        identity: Identity,
        entries: Vec<Result<BatchEntry, Invalid>>,
    ) -> Result<Answer, Refusal> {
        let mut lanes: BTreeMap<Lane, Vec<Queued>> = BTreeMap::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let step = entry.map_err(Refusal::from).and_then(Step::of);
            let lane = step.as_ref().map_or(Lane::Alone(index), |step| step.lane(index));
            lanes.entry(lane).or_default().push((index, step));
        }
        let mut lanes: Vec<_> = lanes.into_values().collect();
        lanes.sort_by_key(|lane| lane[0].0);
        let done = stream::iter(lanes)
            .map(|lane| Box::pin(self.lane(asked, identity, lane)))
            .buffer_unordered(Limits::BATCH_PARALLEL);
        let mut done: Vec<_> = done.concat().await;
        done.sort_by_key(|(index, ..)| *index);

        let mark = done.iter().filter_map(|(_, _, mark)| *mark).reduce(Mark::and);
        let answers = done.into_iter().map(|(_, answer, _)| answer).collect();
        let answer = Answer::document(respond("batch-response", asked, answers));
        Ok(match mark {
            Some(mark) => mark.put_on(answer).applying(asked.preferences),
            None => answer.applying(asked.preferences.of_reads()),
        })
    }

    /// Carries out entries one after the other.
    async fn lane(
        &self,
        asked: &Asked<'_>,
        identity: Identity,
        steps: Vec<Queued>,
    ) -> Vec<(usize, Answer, Option<Mark>)> {
        let mut done = Vec::with_capacity(steps.len());
        for (index, step) in steps {
            let result = match step {
                Ok(step) => self.step(asked, identity.entry(index), step).await,
                Err(refusal) => Err(refusal),
            };
            let (answer, mark) =
                result.unwrap_or_else(|refusal| (refusal.answer_at(Some(index)), None));
            done.push((index, answer, mark));
        }
        done
    }

    async fn step(
        &self,
        asked: &Asked<'_>,
        identity: Identity,
        step: Step,
    ) -> Result<(Answer, Option<Mark>), Refusal> {
        let write = match step {
            Step::Write(write) => write,
            Step::Read(reading, cached) => {
                let answer = self.read(&reading, &cached, asked.base)?;
                return Ok((answer, None));
            }
        };
        let accepted = self.carry_out(identity, vec![write], Unity::One).await?;
        let entry = accepted.outcome.entries.first().expect("one outcome per operation");
        let echo = asked.preferences.echo.unwrap_or(Echo::Minimal);
        let answer = self.tell(entry, accepted.outcome.at, echo)?;
        Ok((answer, Some(Mark::of(&accepted))))
    }
}

fn respond(sort: &'static str, asked: &Asked<'_>, answers: Vec<Answer>) -> Bytes {
    let mut bundle = BundleWriter::new(&BundleHead::new(sort));
    for answer in answers {
        let (head, resource) = answer.into_entry(asked.base);
        bundle.entry(&head, resource.as_deref());
    }
    bundle.finish()
}

impl Step {
    fn of(entry: BatchEntry) -> Result<Self, Refusal> {
        let read: BundledRead = match entry {
            BatchEntry::Write(write) => return Ok(Self::Write(write)),
            BatchEntry::Read(read) => read,
        };
        let cached = Cached::of_entry(&read)?;
        let reading = match read.what {
            ReadTarget::Resource(key) => Reading::Current(key),
            ReadTarget::History(key) => Reading::History(key, Past::newest()),
            ReadTarget::Url(url) => {
                let (path, query) = url.split_once('?').unwrap_or((&url, ""));
                match path::interaction(&Method::GET, path, &Query::new(Some(query)), false)? {
                    Interaction::Read(reading) => reading,
                    _ => unreachable!("a GET reads"),
                }
            }
            ReadTarget::Version(key, text) => match text.parse() {
                Ok(version) => Reading::Version(key, version),
                Err(_) => return Err(Misdirected::NoSuchVersion { text }.into()),
            },
        };
        Ok(Self::Read(reading, cached))
    }

    fn lane(&self, index: usize) -> Lane {
        match self {
            Self::Read(
                Reading::Current(key) | Reading::Version(key, _) | Reading::History(key, _),
                _,
            )
            | Self::Write(BundledWrite::Operation(
                Operation::Update { key, .. }
                | Operation::Delete { key, .. }
                | Operation::Read { key },
            ))
            | Self::Write(BundledWrite::Patch(PatchRequest {
                target: PatchTarget::Resource(key),
                ..
            })) => Lane::Resource(key.clone()),
            Self::Write(BundledWrite::Operation(operation)) => match operation.criteria() {
                Some(criteria) => Lane::Criteria(criteria.to_string()),
                None => Lane::Alone(index),
            },
            Self::Write(BundledWrite::Patch(PatchRequest {
                target: PatchTarget::Match(criteria),
                ..
            })) => Lane::Criteria(criteria.to_string()),
            Self::Read(..) => Lane::Alone(index),
        }
    }
}
