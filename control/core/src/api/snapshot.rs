//! What the built-in page shows, from the same places as the endpoints' answers, but bounded: a page that is open on a wall
//! must not cost what a listing costs.

use std::sync::Arc;

use sluice_api as api;
use sluice_engine::ruleset::RuleId;

pub(crate) use super::conntrack::{count, stats};
use super::show::describe_rule;
pub(crate) use super::show::{drops, interfaces, status, workers};
use super::top;
use crate::control::Control;

/// The sources of most flows, from a sample.
///
/// # Errors
/// A worker does not answer.
pub(crate) async fn talkers(control: &Arc<Control>, n: usize, sample: u64) -> Result<api::Top, String> {
    let request = api::TopRequest { n, sample: Some(sample), ..api::TopRequest::default() };
    top::look(control, &request).await.map_err(|refusal| refusal.error.error)
}

/// The rules that matched most packets, the busiest first. Only these are described.
pub(crate) fn busiest_rules(control: &Control, n: usize) -> Vec<api::Rule> {
    let ruleset = Arc::clone(&control.publisher.world().ruleset);
    let ids = (0..).map(RuleId).zip(ruleset.rules());
    let mut counted: Vec<_> = ids.map(|(id, rule)| (ruleset.rule_counters(id).0, id, rule)).collect();
    counted.retain(|(packets, _, _)| *packets > 0);
    counted.sort_unstable_by_key(|(packets, id, _)| (std::cmp::Reverse(*packets), id.0));
    counted.truncate(n);
    counted.into_iter().map(|(_, id, rule)| describe_rule(&ruleset, id, rule)).collect()
}
