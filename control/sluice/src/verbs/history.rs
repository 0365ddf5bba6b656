//! `sluice confirm`, `history` and `rollback`: keeping a policy, and going back.

use clap::Args;
use sluice_api::{ApplyReply, ConfirmReply, HistoryEntry, PolicyView, RollbackRequest};

use super::policy::{Flows, applied, seconds};
use crate::Outcome;
use crate::client::{Client, refused};
use crate::print::{print_json, print_line};
use crate::table::Table;

#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// Which one, by its number in `sluice history`; else the latest that was confirmed and does not run.
    index: Option<usize>,
    /// What becomes of live flows.
    #[arg(long, value_enum, default_value_t = Flows::Keep)]
    flows: Flows,
    /// Go forward again by itself after this time unless `sluice confirm` comes.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    confirm: Option<u64>,
}

/// Has the policy stay that waits for it.
pub(crate) async fn confirm(client: &Client, json: bool) -> Outcome {
    let asked = client.post("/v1/policy/confirm", &serde_json::Value::Null).await?;
    let reply: ConfirmReply = asked.map_err(|e| refused(&e))?;
    if json {
        return print_json(&reply);
    }
    print_line(&format!("policy {} stays, {} s were left", short(&reply.digest), reply.left))
}

/// Lists the last policies, the running one first.
pub(crate) async fn history(client: &Client, json: bool) -> Outcome {
    let entries: Vec<HistoryEntry> = client.get("/v1/history").await?;
    if json {
        return print_json(&entries);
    }
    let running: PolicyView = client.get("/v1/policy").await?;
    let mut table = Table::new(&[">#", "APPLIED (UTC)", "DIGEST", "BY", "POLICY", ""]);
    for entry in &entries {
        let note = match (entry.index, running.confirm) {
            (0, Some(left)) => format!("runs, goes back in {left} s unless confirmed"),
            (0, None) => "runs".into(),
            _ if !entry.confirmed => "was not confirmed".into(),
            _ => String::new(),
        };
        table.row(vec![
            entry.index.to_string(),
            utc(entry.applied),
            short(&entry.digest).into(),
            entry.by.clone().unwrap_or_default(),
            entry.name.clone(),
            note,
        ]);
    }
    table.lines().iter().try_for_each(|line| print_line(line))
}

/// Puts an earlier policy in force.
pub(crate) async fn rollback(client: &Client, args: &RollbackArgs, json: bool) -> Outcome {
    let request = RollbackRequest { index: args.index, flows: args.flows.into(), confirm: args.confirm };
    let reply: ApplyReply = client.post("/v1/policy/rollback", &request).await?.map_err(|e| refused(&e))?;
    applied(&reply, json)
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// Seconds since 1970 as RFC 3339 has them, without zone. Source: the civil calendar counted in eras of 400 years of
/// 146,097 days that begin in March.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + carry;
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02}", second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_date() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_763_773_384, "2025-11-22 01:03:04"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(utc(seconds), expected);
        }
    }
}
