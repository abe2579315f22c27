//! Every message between processes, and the canonical bytes of a change set.
//!
//! This crate is the only one that knows prost. It turns `record` types into protobuf and back, and
//! what it decodes is valid: names, ids, ranges and limits are checked here, once. [`Canonical`] is
//! a change set together with the one encoding that everybody keeps, sends and hashes.
//!
//! Called by `store`, `region` and `node`. It neither sends nor stores anything.

mod change_set;
mod command;
mod error;
mod limits;
mod link;
mod outcome;
pub mod proto;
pub mod raft;
pub mod region;
mod statement;
#[cfg(test)]
mod testing;

pub use change_set::{Canonical, decode_piece, header_request, piece_content};
pub use command::{decode_command, encode_command};
pub use error::WireError;
pub use limits::{MAX_CHANGE_SET_BYTES, MAX_COMMAND_BYTES};
pub use link::{Links, OPERATOR, PeerIdentity, Purpose};
pub use outcome::{decode_outcome, encode_outcome};
pub use statement::{
    decode_aged, decode_note, decode_statement, encode_aged, encode_note, encode_statement,
};
