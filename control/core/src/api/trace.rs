//! A trace, a packet a line, for as long as the client reads it.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::stream;
use sluice_api as api;

use super::conntrack::{lines, push_line, read};
use super::{Refusal, Shared};
use crate::trace::{TraceError, Tracing};

pub(super) async fn trace(State(control): Shared, body: Bytes) -> Result<Response, Refusal> {
    let request: api::TraceRequest = read(&body)?;
    let tracing = Tracing::begin(&control, &request).await?;
    Ok(lines(stream::unfold(tracing, |mut tracing| async {
        let mut text = Vec::new();
        for line in tracing.next().await {
            push_line(&mut text, &line);
        }
        if text.is_empty() {
            text.push(b'\n');
        }
        Some((Ok(text.into()), tracing))
    })))
}

impl From<TraceError> for Refusal {
    fn from(error: TraceError) -> Refusal {
        match error {
            TraceError::Another => Refusal::new(StatusCode::CONFLICT, error.to_string()),
            TraceError::Filter(error) => error.into(),
            TraceError::Worker(error) => error.into(),
        }
    }
}
