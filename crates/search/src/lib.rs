//! What is found by a search: entries out of a resource, key ranges out of a query.
//!
//! This crate is pure: no I/O, no clock, no tokio. It is the only one that knows search parameters and
//! how their values are written down. A resource becomes a row of [`Entries`] and its [`postings`]; a
//! query becomes a [`Query`], whose conditions lead to candidates by their [`Seeds`] and decide over
//! each candidate's row.
//!
//! `store` keeps rows and postings and goes through them, `rest` reads queries.

mod added;
mod comparison;
mod condition;
mod date;
mod definitions;
mod entries;
mod fault;
pub mod limits;
mod names;
mod near;
mod number;
mod parameter;
mod path;
mod posting;
mod quantity;
mod query;
mod reference;
mod registry;
mod sorting;
mod string;
mod token;
mod uri;
mod value;
mod value_set;

pub use added::Added;
pub use comparison::Comparison;
pub use condition::{Candidate, Condition, Lookup, Sought, first_code, targets};
pub use date::{Almanac, DateSought, Span};
pub use entries::{Entries, FORMAT};
pub use near::NearSought;
pub use number::{Interval, NumberSought};
pub use parameter::{Parameter, Sort};
pub use posting::{IdKey, Seeds, after, postings};
pub use quantity::{Quantity, QuantitySought, UnitSought};
pub use query::{Ignored, Include, InvalidQuery, Query, Setting, Summary, Total};
pub use reference::{Reference, ReferenceSought};
pub use registry::Registry;
pub use sorting::{InvalidPageKey, PageKey, SortKey};
pub use string::{Manner, StringSought};
pub use token::{Token, TokenSought, TokenSystem};
pub use uri::{UriPlace, UriSought};
pub use value::Value;
pub use value_set::codes;
