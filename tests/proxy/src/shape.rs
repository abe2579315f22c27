//! This module says what a link does to what passes over it.

use std::num::NonZeroU64;
use std::time::Duration;

/// What a link does. By default bytes pass at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkShape {
    /// The direction from who dials.
    pub forth: Flow,
    /// The direction to who dials.
    pub back: Flow,
    /// Whether the link is cut: no connection stands, and new ones are refused.
    pub cut: bool,
}

/// What a link does in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// How long each byte is on its way.
    pub delay: Duration,
    /// How many bytes pass in a second, over all connections of the link together; `None`: as many as come.
    pub rate: Option<NonZeroU64>,
    /// Whether nothing passes: bytes are taken until there is no room for more, and go on when this ends.
    pub stalled: bool,
}

/// One of the two directions of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Forth,
    Back,
}

impl LinkShape {
    /// Every byte is on its way for so long, in each direction.
    #[must_use]
    pub fn delayed(one_way: Duration) -> Self {
        let flow = Flow { delay: one_way, ..Flow::default() };
        Self { forth: flow, back: flow, cut: false }
    }

    /// The same with so many bytes in a second, in each direction.
    #[must_use]
    pub fn rated(mut self, bytes_per_second: Option<NonZeroU64>) -> Self {
        self.forth.rate = bytes_per_second;
        self.back.rate = bytes_per_second;
        self
    }

    /// The same, but nothing passes in either direction.
    #[must_use]
    pub fn stalled(mut self) -> Self {
        self.forth.stalled = true;
        self.back.stalled = true;
        self
    }

    /// The same, but cut.
    #[must_use]
    pub fn cut(self) -> Self {
        Self { cut: true, ..self }
    }

    /// The same without cut and stall: delay and rate stay.
    #[must_use]
    pub fn healed(mut self) -> Self {
        self.forth.stalled = false;
        self.back.stalled = false;
        Self { cut: false, ..self }
    }

    /// Whether bytes pass in both directions.
    #[must_use]
    pub fn passes(&self) -> bool {
        !self.cut && !self.forth.stalled && !self.back.stalled
    }

    /// How long a question and its answer are on their way together.
    #[must_use]
    pub fn round_trip(&self) -> Duration {
        self.forth.delay + self.back.delay
    }

    pub(crate) fn flow(&self, direction: Direction) -> Flow {
        match direction {
            Direction::Forth => self.forth,
            Direction::Back => self.back,
        }
    }

    pub(crate) fn passes_in(&self, direction: Direction) -> bool {
        !self.cut && !self.flow(direction).stalled
    }
}
