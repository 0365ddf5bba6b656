//! Expectations of helpers: listed and deleted as they come from the workers, a batch at a time; and watched.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use futures_util::stream;
use sluice_api as api;
use sluice_engine::conntrack::{EventKinds, ExpectationFilter};

use super::conntrack::{Watching, bad_request, lines, next_events, push_line, read};
use super::{By, Refusal, Shared, record};
use crate::control::Control;
use crate::flows::{ExpectationWalk, describe_expectation, expectation_filter};
use crate::watch::{Item, Told};
use crate::workers::WorkerError;

pub(super) async fn list(State(control): Shared, body: Bytes) -> Result<Response, Refusal> {
    walk(&control, &body, false)
}

pub(super) async fn delete(
    State(control): Shared,
    Extension(by): By,
    body: Bytes,
) -> Result<Response, Refusal> {
    record::log(&by, "conntrack expect delete", "begun");
    walk(&control, &body, true)
}

pub(super) async fn watch(State(control): Shared, body: Bytes) -> Result<Response, Refusal> {
    let filter = filter(&body)?;
    let watcher = control.watchers.join(EventKinds::EXPECTATIONS).await?;
    let tell = move |lines: &mut Vec<u8>, item| tell(lines, item, &filter);
    Ok(lines(stream::unfold(Watching::new(watcher, tell), next_events)))
}

fn filter(body: &[u8]) -> Result<ExpectationFilter, Refusal> {
    expectation_filter(&read(body)?).map_err(bad_request)
}

fn walk(control: &Control, body: &[u8], delete: bool) -> Result<Response, Refusal> {
    let walk = ExpectationWalk::new(Arc::clone(&control.workers), filter(body)?, delete);
    Ok(lines(stream::try_unfold(Some((walk, 0)), next)))
}

type Progress = Option<(ExpectationWalk, u64)>;

/// The next batch as lines, and how many there were so far; behind the last, the line that says so.
async fn next(progress: Progress) -> Result<Option<(Bytes, Progress)>, WorkerError> {
    let Some((mut walk, mut told)) = progress else { return Ok(None) };
    let mut lines = Vec::new();
    loop {
        let Some((worker, batch)) = walk.next().await? else {
            push_line(&mut lines, &api::ExpectationsEnd { expectations: told });
            return Ok(Some((lines.into(), None)));
        };
        for expectation in batch {
            push_line(&mut lines, &describe_expectation(expectation, worker));
        }
        told += batch.len() as u64;
        if !lines.is_empty() {
            return Ok(Some((lines.into(), Some((walk, told)))));
        }
    }
}

/// Adds a line, if what happened is wanted.
fn tell(lines: &mut Vec<u8>, item: Item, filter: &ExpectationFilter) {
    let (worker, time, event) = match item {
        Item::Lost(lost) => return push_line(lines, &api::Lost { lost }),
        Item::Event(worker, time, Told::Expectation(event)) => (worker, time, event),
        Item::Event(_, _, Told::Flow(_)) => return,
    };
    if filter.matches(&event.expectation) {
        let line = api::ExpectationEvent {
            event: if event.begins { api::EventKind::New } else { api::EventKind::Destroy },
            by_user: event.by_user,
            time,
            expectation: describe_expectation(&event.expectation, worker),
        };
        push_line(lines, &line);
    }
}
