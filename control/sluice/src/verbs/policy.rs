//! `sluice check`, `apply` and `reload`: policies before and while they run.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sluice_api::{ApplyReply, FlowHandling, ReloadReply};

use crate::client::{Client, refused};
use crate::{Failure, Outcome, print_json, print_line};

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The policy file.
    policy: PathBuf,
    /// The system file, for the names of interfaces and for routes; without it names are taken as given.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Warnings are errors.
    #[arg(long)]
    strict: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// The policy file.
    policy: PathBuf,
    /// What becomes of live flows.
    #[arg(long, value_enum, default_value_t = Flows::Keep)]
    flows: Flows,
    /// Warnings are errors.
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Flows {
    /// Entries and marks stay; every packet is judged by the new rules with its true state.
    Keep,
    /// As keep, and flows whose first packet the new policy would not accept are deleted.
    Recheck,
    /// All are deleted.
    Flush,
}

/// Parses and compiles offline.
pub(crate) fn check(args: &CheckArgs, json: bool) -> Outcome {
    let _ = (args, json);
    Err(Failure::No(None))
}

/// Sends a policy with all the files that it refers to; the daemon checks it again.
pub(crate) async fn apply(client: &Client, args: &ApplyArgs, json: bool) -> Outcome {
    let _ = (client, args, json, FlowHandling::Keep, print_line as fn(&str) -> Outcome);
    let _: Option<ApplyReply> = None;
    Err(Failure::No(None))
}

/// Has the daemon read both files again.
pub(crate) async fn reload(client: &Client, json: bool) -> Outcome {
    let reply: ReloadReply =
        client.post("/v1/reload", &serde_json::Value::Null).await?.map_err(|e| refused(&e))?;
    if json {
        return print_json(&reply);
    }
    for w in &reply.warnings {
        eprintln!("{}", w.rendered.trim_end());
    }
    let policy = if reply.policy_applied { "policy applied" } else { "policy unchanged" };
    let changed =
        if reply.changed.is_empty() { "no setting changed".to_string() } else { reply.changed.join(", ") };
    print_line(&format!("generation {}: {policy}; {changed}", reply.generation))
}
