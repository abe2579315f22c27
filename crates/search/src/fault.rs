//! This module names why a value of a search cannot be used.

use std::borrow::Cow;

/// Why not, in words.
pub(crate) type Fault = Cow<'static, str>;
