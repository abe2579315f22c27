//! This module holds one value of a resource by which it can be found.

use std::borrow::Cow;

use crate::date::Span;
use crate::number::Interval;
use crate::quantity::Quantity;
use crate::reference::Reference;
use crate::token::Token;

/// A value, of one sort.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'v> {
    /// A code, identifier or flag.
    Token(Token<'v>),
    /// A text.
    String(Cow<'v, str>),
    /// What another resource is named by.
    Reference(Reference<'v>),
    /// A span of time.
    Date(Span),
    /// A number.
    Number(Interval),
    /// A number of a unit.
    Quantity(Quantity<'v>),
    /// A URI.
    Uri(Cow<'v, str>),
    /// Values that belong together: of each component at least one.
    Composite(Vec<Vec<Self>>),
    /// A place on earth: latitude and longitude, degrees.
    Position(f64, f64),
}
