//! This module says why bytes are not a message of this mesh.

use std::fmt::Display;
use std::str::FromStr;

/// Why bytes cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// They are not protobuf of this shape.
    #[error("not a message: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// They were written by a newer software version.
    #[error("format {format} is newer than this software knows")]
    Format {
        /// The format they name.
        format: u32,
    },
    /// A field is missing or says what it must not.
    #[error("{field} is not valid: {reason}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// They mean a change set but are not its canonical bytes.
    #[error("not the canonical encoding")]
    NotCanonical,
    /// They are more than is allowed.
    #[error("{bytes} bytes, {limit} are allowed")]
    TooLarge {
        /// How many there are.
        bytes: usize,
        /// How many may be.
        limit: usize,
    },
}

pub(crate) fn invalid(field: &'static str, reason: impl Display) -> WireError {
    WireError::Invalid { field, reason: reason.to_string() }
}

/// A field that must be there.
pub(crate) fn required<T>(value: Option<T>, field: &'static str) -> Result<T, WireError> {
    value.ok_or_else(|| invalid(field, "it is missing"))
}

/// A field that is the text of a name, an id or the like.
pub(crate) fn parse<T>(text: &str, field: &'static str) -> Result<T, WireError>
where
    T: FromStr<Err: Display>,
{
    text.parse().map_err(|reason| invalid(field, reason))
}

/// A field of a fixed length.
pub(crate) fn array<const N: usize>(
    bytes: &[u8],
    field: &'static str,
) -> Result<[u8; N], WireError> {
    bytes
        .try_into()
        .map_err(|_| invalid(field, format_args!("{} bytes instead of {N}", bytes.len())))
}
