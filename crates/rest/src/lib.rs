//! FHIR REST in and out.
//!
//! This crate is the only one that knows HTTP and axum. [`router`] serves a node's clients over its
//! [`Api`]: it reads from the node's own store and hands writes to the node's region. It keeps no
//! state of its own, and it knows neither what a record means (that is `record`'s) nor who decides
//! about it (that is `region`'s).

mod account;
mod answer;
mod api;
mod base;
mod binary;
mod body;
mod bundle;
mod compression;
mod condition;
mod conflict;
mod conflicts;
mod cors;
mod document;
mod freshness;
mod history;
mod http_date;
mod identity;
mod limits;
mod media;
mod meta;
mod metadata;
mod patch;
mod path;
mod preference;
mod pretty;
mod query;
mod read;
mod readiness;
mod refusal;
mod room;
mod search;
mod server;
mod validation;
mod write;

pub use api::{Api, PageSource, Pages, router};
pub use cors::{InvalidOrigin, Origins};
pub use limits::Limits;
