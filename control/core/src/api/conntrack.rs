//! Flows: listed, deleted and changed as they come from the workers, a batch at a time, so that memory does not grow with
//! the table; and watched. Who does not read is waited for, and cut off in the end ([`crate::connection`]).

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sluice_api as api;
use sluice_engine::conntrack::{EventKind, EventKinds, FlowFilter};
use tokio::time::{Instant, timeout_at};

use super::record::{self, recorded};
use super::{Answer, By, Json, Refusal, Shared, decode};
use crate::control::Control;
use crate::flows::{self, Task, Walk};
use crate::watch::{Item, Told, Watcher};
use crate::workers::WorkerError;

/// A watcher hears something at least so often, so that a connection over which nothing moves is a dead one.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// Bytes of events that are sent at once.
const CHUNK: usize = 32 << 10;

pub(super) async fn list(State(control): Shared, body: Bytes) -> Result<Response, Refusal> {
    let filter = read(&body)?;
    walk(&control, Task::List, &filter)
}

pub(super) async fn delete(
    State(control): Shared,
    Extension(by): By,
    body: Bytes,
) -> Result<Response, Refusal> {
    let filter = read(&body)?;
    record::log(&by, "conntrack delete", "begun");
    walk(&control, Task::Delete, &filter)
}

pub(super) async fn update(
    State(control): Shared,
    Extension(by): By,
    body: Bytes,
) -> Result<Response, Refusal> {
    let request: api::UpdateRequest = decode(&body)?;
    let change = flows::change(&request.change).map_err(bad_request)?;
    record::log(&by, "conntrack update", "begun");
    walk(&control, Task::Change(change), &request.filter)
}

pub(super) async fn watch(State(control): Shared, body: Bytes) -> Result<Response, Refusal> {
    let request: api::WatchRequest = read(&body)?;
    let (filter, kinds) =
        (flows::filter(&request.filter).map_err(bad_request)?, flows::kinds(&request.events));
    let watcher = control.watchers.join(kinds).await?;
    let tell = move |lines: &mut Vec<u8>, item| tell_flow(lines, item, &filter, kinds);
    Ok(lines(stream::unfold(Watching::new(watcher, tell), next_events)))
}

pub(crate) async fn count(State(control): Shared) -> Json<api::FlowCount> {
    Json(api::FlowCount { count: control.flow_count(), max: max(&control) })
}

/// `conntrack.max` as the kernel shows it: 0 is no limit.
fn max(control: &Control) -> u64 {
    Some(control.budget.max()).filter(|max| *max != u64::MAX).unwrap_or(0)
}

pub(super) async fn flush(State(control): Shared, Extension(by): By) -> Answer<api::Deleted> {
    let work = flows::delete(&control.workers, FlowFilter::default());
    Ok(Json(api::Deleted { deleted: recorded(&by, "conntrack flush".to_owned(), work).await? }))
}

pub(crate) async fn stats(State(control): Shared) -> Json<Vec<api::ConntrackStats>> {
    let stats = (0..).zip(&control.counters).zip(&control.cores).map(|((worker, counters), &core)| {
        let counters = &counters.conntrack;
        api::ConntrackStats {
            worker,
            core,
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

/// A body; none means all flows.
pub(super) fn read<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Refusal> {
    if body.is_empty() { Ok(T::default()) } else { decode(body) }
}

pub(super) fn bad_request(error: String) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, error)
}

/// Does something with the flows that match, and tells them as they come.
fn walk(control: &Control, task: Task, filter: &api::FlowFilter) -> Result<Response, Refusal> {
    let filter = flows::filter(filter).map_err(bad_request)?;
    let walk = Walk::new(Arc::clone(&control.workers), task, filter);
    Ok(lines(stream::try_unfold(Some((walk, 0)), next_flows)))
}

pub(super) fn lines<S>(lines: S) -> Response
where
    S: Stream<Item = Result<Bytes, WorkerError>> + Send + 'static,
{
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

type Progress = Option<(Walk, u64)>;

/// The next batch as lines, and how many flows there were so far; behind the last, the line that says so.
async fn next_flows(progress: Progress) -> Result<Option<(Bytes, Progress)>, WorkerError> {
    let Some((mut walk, mut told)) = progress else { return Ok(None) };
    let mut lines = Vec::new();
    loop {
        let Some((worker, batch)) = walk.next().await? else {
            push_line(&mut lines, &api::ListEnd { flows: told });
            return Ok(Some((lines.into(), None)));
        };
        for flow in batch {
            push_line(&mut lines, &flows::describe(flow, worker));
        }
        told += batch.len() as u64;
        // A filter may leave nothing of a batch.
        if !lines.is_empty() {
            return Ok(Some((lines.into(), Some((walk, told)))));
        }
    }
}

/// One who watches, and what becomes of what it hears.
pub(super) struct Watching<F> {
    watcher: Watcher,
    /// Adds a line, if what happened is wanted.
    tell: F,
    /// When a line is due, be it an empty one.
    next_sign: Instant,
}

impl<F: Fn(&mut Vec<u8>, Item)> Watching<F> {
    pub(super) fn new(watcher: Watcher, tell: F) -> Watching<F> {
        Watching { watcher, tell, next_sign: Instant::now() }
    }
}

/// The next events as lines; an empty line where there are none for long.
pub(super) async fn next_events<F: Fn(&mut Vec<u8>, Item)>(
    mut watching: Watching<F>,
) -> Option<(Result<Bytes, WorkerError>, Watching<F>)> {
    let mut lines = Vec::new();
    while lines.is_empty() {
        match timeout_at(watching.next_sign, watching.watcher.next()).await {
            Err(_) => lines.push(b'\n'),
            Ok(item) => (watching.tell)(&mut lines, item?),
        }
    }
    while lines.len() < CHUNK
        && let Some(item) = watching.watcher.ready()
    {
        (watching.tell)(&mut lines, item);
    }
    watching.next_sign = Instant::now() + SIGN_OF_LIFE;
    Some((Ok(lines.into()), watching))
}

/// Adds a line about a flow, if what happened is wanted.
fn tell_flow(lines: &mut Vec<u8>, item: Item, filter: &FlowFilter, kinds: EventKinds) {
    let (worker, time, event) = match item {
        Item::Lost(lost) => return push_line(lines, &api::Lost { lost }),
        Item::Event(worker, time, Told::Flow(event)) => (worker, time, event),
        Item::Event(_, _, Told::Expectation(_)) => return,
    };
    if kinds.contains(event.kind) && filter.matches(&event.flow) {
        let line = api::FlowEvent {
            event: match event.kind {
                EventKind::New => api::EventKind::New,
                EventKind::Update => api::EventKind::Update,
                EventKind::Destroy => api::EventKind::Destroy,
            },
            by_user: event.by_user,
            time,
            flow: flows::describe(&event.flow, worker),
        };
        push_line(lines, &line);
    }
}

pub(super) fn push_line(lines: &mut Vec<u8>, value: &impl Serialize) {
    // Plain values always serialise.
    if serde_json::to_writer(&mut *lines, value).is_ok() {
        lines.push(b'\n');
    }
}
