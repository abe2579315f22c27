//! Links between nodes that can be made slow, narrow, silent or cut, without privileges: TCP proxies on
//! loopback.
//!
//! ```text
//!   a --dials--> [ Link a -> b ] --dials--> b      one link per directed pair: who dials, and whom
//!                    forth  a => b : delay, rate, stall
//!                    back   a <= b : delay, rate, stall
//!                    both          : cut, reset
//! ```
//!
//! A link knows nothing of what passes over it. It keeps bounded memory: what it may not pass on yet waits
//! in a queue of limited size, and beyond that the sender waits. It neither loses nor reorders bytes,
//! because TCP does not either: loss is for the simulation.
//!
//! The demo and the suites run every link of a mesh through this crate. No node knows of it.

mod flow;
mod limits;
mod link;
mod net;
mod place;
mod round_trip;
mod shape;

pub use link::{Link, Passed};
pub use net::{Member, Net, UnknownName};
pub use round_trip::RoundTripError;
pub use shape::{Flow, LinkShape};
