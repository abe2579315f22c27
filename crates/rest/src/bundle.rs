//! This module carries out batches and transactions.

use axum::body::Body;

use crate::answer::Answer;
use crate::refusal::Refusal;
use crate::server::{Asked, Server};

impl Server {
    /// `POST [base]`
    pub(crate) async fn bundle(&self, asked: &Asked<'_>, body: Body) -> Result<Answer, Refusal> {
        let _ = (asked, body);
        Err(Refusal::Fault)
    }
}
