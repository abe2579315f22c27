//! This module says where work runs that takes long.

/// Where work runs that takes long, such as the application of a big change set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocking {
    /// On a thread that the runtime gives up for it (needs the multi-threaded runtime).
    Pool,
    /// Where it stands: for a simulation on one thread.
    Inline,
}

impl Blocking {
    /// Runs work that takes long.
    pub fn run<T>(self, work: impl FnOnce() -> T) -> T {
        match self {
            Self::Pool => tokio::task::block_in_place(work),
            Self::Inline => work(),
        }
    }
}
