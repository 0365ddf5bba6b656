//! Flows: listed as they come from the workers, a batch at a time, so that memory does not grow with the table.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;
use sluice_api as api;
use sluice_engine::conntrack::FlowFilter;

use super::{Answer, Json, Refusal, Shared, decode};
use crate::flows::{self, Listing};
use crate::workers::WorkerError;

pub(super) async fn list(State(control): Shared, body: Bytes) -> Result<Response, Refusal> {
    let filter = read_filter(&body)?;
    let listing = Listing::new(control.workers.clone(), filter);
    let lines = stream::try_unfold(Some((listing, 0)), next_lines);
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

pub(super) async fn count(State(control): Shared) -> Json<api::FlowCount> {
    Json(api::FlowCount { count: control.flow_count(), max: control.budget.max() })
}

pub(super) async fn delete(State(control): Shared, body: Bytes) -> Answer<api::Deleted> {
    let filter = read_filter(&body)?;
    Ok(Json(api::Deleted { deleted: flows::delete(&control.workers, filter).await? }))
}

pub(super) async fn flush(State(control): Shared) -> Answer<api::Deleted> {
    Ok(Json(api::Deleted { deleted: flows::delete(&control.workers, FlowFilter::default()).await? }))
}

pub(super) async fn stats(State(control): Shared) -> Json<Vec<api::ConntrackStats>> {
    let stats = (0..).zip(&control.counters).map(|(worker, counters)| {
        let counters = &counters.conntrack;
        api::ConntrackStats {
            worker,
            found: counters.found.get(),
            invalid: counters.invalid.get(),
            insert: counters.insert.get(),
            insert_failed: counters.insert_failed.get(),
            drop: counters.drop.get(),
            early_drop: counters.early_drop.get(),
            error: counters.error.get(),
            search_restart: counters.search_restart.get(),
            entries: counters.entries.get(),
        }
    });
    Json(stats.collect())
}

/// No body means all flows.
fn read_filter(body: &[u8]) -> Result<FlowFilter, Refusal> {
    let filter: api::FlowFilter = if body.is_empty() { api::FlowFilter::default() } else { decode(body)? };
    flows::filter(&filter).map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error))
}

type Progress = Option<(Listing, u64)>;

/// The next batch as lines, and how many flows there were so far; behind the last, the line that says so.
async fn next_lines(progress: Progress) -> Result<Option<(Bytes, Progress)>, WorkerError> {
    let Some((mut listing, mut listed)) = progress else { return Ok(None) };
    let mut lines = Vec::new();
    loop {
        let Some((worker, batch)) = listing.next().await? else {
            push_line(&mut lines, &api::ListEnd { flows: listed });
            return Ok(Some((lines.into(), None)));
        };
        for flow in batch {
            push_line(&mut lines, &flows::describe(flow, worker));
        }
        listed += batch.len() as u64;
        // A filter may leave nothing of a batch.
        if !lines.is_empty() {
            return Ok(Some((lines.into(), Some((listing, listed)))));
        }
    }
}

fn push_line(lines: &mut Vec<u8>, value: &impl Serialize) {
    // Plain values always serialise.
    if serde_json::to_writer(&mut *lines, value).is_ok() {
        lines.push(b'\n');
    }
}
