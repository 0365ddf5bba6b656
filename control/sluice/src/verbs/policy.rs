//! `sluice check`, `apply` and `reload`: policies before and while they run.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use sluice_api::{ApplyReply, ApplyRequest, FlowHandling, Interface, ReloadReply};
use sluice_config::{Diagnostics, InterfaceNames, Policy, System};

use crate::client::{Client, refused};
use crate::print::{print_json, print_line};
use crate::{Failure, Outcome};

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

impl From<Flows> for FlowHandling {
    fn from(flows: Flows) -> FlowHandling {
        match flows {
            Flows::Keep => FlowHandling::Keep,
            Flows::Recheck => FlowHandling::Recheck,
            Flows::Flush => FlowHandling::Flush,
        }
    }
}

/// Parses, compiles and runs the policy's own tests, offline.
pub(crate) fn check(args: &CheckArgs, json: bool) -> Outcome {
    readable(&args.policy)?;
    let mut found = Diagnostics::new();
    let mut passed = None;
    match judge(args, &mut found) {
        Ok(tests) => passed = Some(tests),
        Err(errors) => found.append(errors),
    }
    let refused = found.has_errors() || (args.strict && !found.is_empty()) || passed.is_none();
    let (errors, warnings) = (found.errors().count(), found.warnings().count());
    if json {
        print_json(&serde_json::json!({"valid": !refused, "tests": passed, "diagnostics": found}))?;
    } else {
        found.iter().for_each(|d| eprintln!("{d}"));
    }
    if refused {
        return Err(Failure::No(Some(format!(
            "{}: {errors} errors, {warnings} warnings",
            args.policy.display()
        ))));
    }
    if args.config.is_none() && !json {
        eprintln!("sluice: interface names are taken as given; --config FILE checks them");
    }
    let tests = passed.filter(|n| *n > 0).map(|n| format!(", {n} tests passed")).unwrap_or_default();
    if json { Ok(()) } else { print_line(&format!("{}: valid{tests}", args.policy.display())) }
}

/// Warnings go to `found`; the number of tests that passed.
fn judge(args: &CheckArgs, found: &mut Diagnostics) -> Result<usize, Diagnostics> {
    let system = match &args.config {
        Some(path) => {
            let (system, warnings) = System::load(path)?;
            found.append(warnings);
            Some(system)
        }
        None => None,
    };
    let names = system.as_ref().map(System::interface_names);
    let (policy, warnings) = Policy::load(&args.policy, names.as_ref())?;
    found.append(warnings);
    let compiled = sluice_compiler::check(&policy, system.as_ref(), 1)?;
    found.append(compiled.warnings);
    Ok(compiled.tests)
}

/// Sends a policy with all the files that it refers to; the daemon checks it again, against what it runs on.
pub(crate) async fn apply(client: &Client, args: &ApplyArgs, json: bool) -> Outcome {
    readable(&args.policy)?;
    // With the daemon's interface names, so that every error comes at once.
    let interfaces: Vec<Interface> = client.get("/v1/interfaces").await?;
    let names = InterfaceNames::new(interfaces.into_iter().map(|i| i.name));
    let (policy, _) = Policy::load(&args.policy, Some(&names)).map_err(|found| {
        found.iter().for_each(|d| eprintln!("{d}"));
        Failure::No(Some(format!("{}: refused, what runs stays", args.policy.display())))
    })?;
    let request = ApplyRequest {
        name: policy.source.name,
        text: policy.source.text,
        files: policy.source.files,
        flows: args.flows.into(),
        confirm: None,
        strict: args.strict,
    };
    let reply: ApplyReply = client.post("/v1/policy/apply", &request).await?.map_err(|e| refused(&e))?;
    if json {
        return print_json(&reply);
    }
    for w in &reply.warnings {
        eprintln!("{}", w.rendered.trim_end());
    }
    print_line(&format!(
        "applied as generation {}: {} rules, compiled in {:.3} s; {} flows kept, {} deleted",
        reply.generation, reply.rules, reply.compile_seconds, reply.flows_kept, reply.flows_deleted
    ))
}

/// A file that cannot be read is no answer about its contents: exit code 2.
fn readable(path: &Path) -> Outcome {
    match std::fs::File::open(path) {
        Ok(_) => Ok(()),
        Err(e) => Err(Failure::CouldNotAsk(format!("cannot read {}: {e}", path.display()))),
    }
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
