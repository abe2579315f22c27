//! This module counts requests and measures how long they take, per interaction and status.

use std::sync::OnceLock;
use std::time::Duration;

use http::StatusCode;
use metrics::{Counter, Histogram, counter, histogram};

/// What kind of request is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    VersionRead,
    History,
    Conflicts,
    Search,
    Create,
    Update,
    Patch,
    Delete,
    Bundle,
    Metadata,
    Validate,
    /// Not understood.
    Other,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::Read,
        Self::VersionRead,
        Self::History,
        Self::Conflicts,
        Self::Search,
        Self::Create,
        Self::Update,
        Self::Patch,
        Self::Delete,
        Self::Bundle,
        Self::Metadata,
        Self::Validate,
        Self::Other,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::VersionRead => "vread",
            Self::History => "history",
            Self::Conflicts => "conflicts",
            Self::Search => "search",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::Bundle => "bundle",
            Self::Metadata => "metadata",
            Self::Validate => "validate",
            Self::Other => "other",
        }
    }
}

/// Status codes are counted one by one from 100 to this.
const STATUSES: usize = 500;

/// The counters, each made when it is first used, so that counting is one atomic addition.
#[derive(Debug)]
pub(crate) struct Account {
    requests: Vec<OnceLock<Counter>>,
    seconds: Vec<Histogram>,
    panics: Counter,
}

impl Account {
    /// The counters of the recorder that is installed now.
    pub(crate) fn new() -> Self {
        let seconds = Kind::ALL
            .map(|kind| histogram!("chartmesh_request_seconds", "interaction" => kind.name()));
        Self {
            requests: (0..Kind::ALL.len() * STATUSES).map(|_| OnceLock::new()).collect(),
            seconds: seconds.into(),
            panics: counter!("chartmesh_request_panics_total"),
        }
    }

    /// Counts one request.
    pub(crate) fn note(&self, kind: Kind, status: StatusCode, took: Duration) {
        let column = usize::from(status.as_u16()).saturating_sub(100);
        if let Some(cell) = self.requests.get(kind as usize * STATUSES + column.min(STATUSES - 1)) {
            let counter = cell.get_or_init(|| {
                let status = status.as_u16().to_string();
                counter!("chartmesh_requests_total", "interaction" => kind.name(), "status" => status)
            });
            counter.increment(1);
        }
        self.seconds[kind as usize].record(took);
    }

    /// Counts a request that ended in a panic.
    pub(crate) fn note_panic(&self) {
        self.panics.increment(1);
    }
}
