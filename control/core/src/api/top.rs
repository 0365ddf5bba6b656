//! Who fills the table: all flows, or a sample of them, counted as they come from the workers.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use sluice_api as api;
use sluice_engine::conntrack::protocol_name;
use sluice_wire::Protocol;

use super::{Answer, Json, Refusal, Shared, decode};
use crate::control::Control;
use crate::flows::{self, By, Count, Key, Talkers, Task, Walk};

/// Rows at the most.
const ROWS: usize = 1000;

pub(super) async fn top(State(control): Shared, body: Bytes) -> Answer<api::Top> {
    let request: api::TopRequest = if body.is_empty() { Default::default() } else { decode(&body)? };
    Ok(Json(look(&control, &request).await?))
}

/// Counts as it was asked.
pub(super) async fn look(control: &Control, request: &api::TopRequest) -> Result<api::Top, Refusal> {
    let filter =
        flows::filter(&request.filter).map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error))?;
    let total = control.flow_count();
    let one_in = request.sample.map_or(1, |sample| total.div_ceil(sample.max(1)).max(1));
    let mut walk = Walk::new(Arc::clone(&control.workers), Task::List, filter)
        .one_in(u32::try_from(one_in).unwrap_or(u32::MAX));
    let mut talkers = Talkers::new(By::new(request));
    while let Some((_, batch)) = walk.next().await? {
        batch.iter().for_each(|flow| talkers.count(flow));
    }
    let rows = talkers.top(request.n.min(ROWS)).into_iter().map(row).collect();
    Ok(api::Top { total, counted: talkers.flows(), sampled: one_in > 1, rows })
}

fn row((key, count): (Key, Count)) -> api::TopRow {
    let key = match key {
        Key::Net(address, len) if len == if address.is_ipv4() { 32 } else { 128 } => address.to_string(),
        Key::Net(address, len) => format!("{address}/{len}"),
        Key::Service(protocol, port) => with(&protocol_text(protocol), port),
        Key::State(protocol, state) => with(&protocol_text(protocol), state),
    };
    let Count { flows, error, unreplied, assured, packets, bytes } = count;
    api::TopRow { key, flows, error, unreplied, assured, packets, bytes }
}

/// A protocol's name, or its number where it has none.
pub(super) fn protocol_text(protocol: Protocol) -> String {
    match protocol_name(protocol) {
        "unknown" => protocol.0.to_string(),
        name => name.to_owned(),
    }
}

fn with(protocol: &str, more: Option<impl std::fmt::Display>) -> String {
    more.map_or_else(|| protocol.to_owned(), |more| format!("{protocol} {more}"))
}
