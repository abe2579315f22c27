//! The FHIR interface over a real store and a real region of one voter, called in process.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected stops")]

mod arrivals;
mod bad_input;
mod bundles;
mod client;
mod conditions;
mod conflicts;
mod downtime;
mod foreign;
mod freshness;
mod limits;
mod node;
mod pages;
mod patches;
mod ports;
mod protocol;
mod reads;
mod search;
mod writes;
