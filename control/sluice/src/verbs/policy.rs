//! `sluice check`, `diff`, `apply` and `reload`: policies before and while they run.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use sluice_api::{
    ApplyReply, ApplyRequest, FlowHandling, FlowsAhead, Interface, PolicyChange, PolicyDiff, ReloadReply,
};
use sluice_config::{Diagnostics, InterfaceNames, Policy, PolicySource, System};

use crate::client::{Client, refused};
use crate::print::{print_json, print_line};
use crate::verbs::stats::Stats;
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
    /// Say where compile time and memory go.
    #[arg(long)]
    stats: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// The policy file.
    policy: PathBuf,
    /// What becomes of live flows.
    #[arg(long, value_enum, default_value_t = Flows::Keep)]
    flows: Flows,
    /// Go back by itself after this time unless `sluice confirm` comes, also after a crash or a restart.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    confirm: Option<u64>,
    /// Say what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask before flows are cut. Nobody is asked where input is no terminal.
    #[arg(short, long)]
    yes: bool,
    /// Warnings are errors.
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Flows {
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
    let (mut passed, mut stats) = (None, None);
    match judge(args, &mut found) {
        Ok((tests, of)) => (passed, stats) = (Some(tests), args.stats.then_some(of)),
        Err(errors) => found.append(errors),
    }
    let refused = found.has_errors() || (args.strict && !found.is_empty()) || passed.is_none();
    let (errors, warnings) = (found.errors().count(), found.warnings().count());
    if json {
        let mut reply = serde_json::json!({"valid": !refused, "tests": passed, "diagnostics": found});
        if let (Some(stats), Some(fields)) = (&stats, reply.as_object_mut()) {
            fields.insert("stats".into(), serde_json::json!(stats));
        }
        print_json(&reply)?;
    } else {
        found.iter().for_each(|d| eprintln!("{d}"));
        stats.iter().try_for_each(Stats::print)?;
    }
    if refused {
        return Err(Failure::No(Some(format!(
            "{}: {}, {}",
            args.policy.display(),
            number_of(errors, "error"),
            number_of(warnings, "warning")
        ))));
    }
    if args.config.is_none() && !json {
        eprintln!("sluice: interface names are taken as given; --config FILE checks them");
    }
    let tests = passed.filter(|n| *n > 0).map(|n| format!(", {n} tests passed")).unwrap_or_default();
    if json { Ok(()) } else { print_line(&format!("{}: valid{tests}", args.policy.display())) }
}

/// `1 error`, `2 errors`.
fn number_of(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Warnings go to `found`; the number of tests that passed, and what it all took.
fn judge(args: &CheckArgs, found: &mut Diagnostics) -> Result<(usize, Stats), Diagnostics> {
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
    let mut compiled = sluice_compiler::check(&policy, system.as_ref(), 1)?;
    let stats = Stats::of(&policy, &compiled);
    found.append(std::mem::take(&mut compiled.warnings));
    let tests = compiled.tests;
    // The process is about to end: to take a hundred thousand rules apart first would only be waited for.
    std::mem::forget((policy, compiled));
    Ok((tests, stats))
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The policy file.
    policy: PathBuf,
}

/// Says what a policy would change if it were applied.
pub(crate) async fn diff(client: &Client, args: &DiffArgs, json: bool) -> Outcome {
    let request = read(client, &args.policy).await?;
    tell(&ahead(client, &request).await?, json)
}

/// Sends a policy with all the files that it refers to; the daemon checks it again, against what it runs on. Flows that
/// will be cut are counted first.
pub(crate) async fn apply(client: &Client, args: &ApplyArgs, json: bool) -> Outcome {
    let mut request = read(client, &args.policy).await?;
    (request.flows, request.strict, request.confirm) = (args.flows.into(), args.strict, args.confirm);
    if args.dry_run {
        return tell(&ahead(client, &request).await?, json);
    }
    if args.flows != Flows::Keep {
        let diff = ahead(client, &request).await?;
        may_cut(args, &diff.flows)?;
    }
    let reply: ApplyReply = client.post("/v1/policy/apply", &request).await?.map_err(|e| refused(&e))?;
    applied(&reply, json)
}

/// Prints how a policy was put in force.
pub(crate) fn applied(reply: &ApplyReply, json: bool) -> Outcome {
    if json {
        return print_json(reply);
    }
    for w in &reply.warnings {
        eprintln!("{}", w.rendered.trim_end());
    }
    sets_reset(&reply.sets_reset, "are");
    print_line(&format!(
        "applied as generation {}: {} rules, compiled in {:.3} s; {} flows kept, {} deleted",
        reply.generation, reply.rules, reply.compile_seconds, reply.flows_kept, reply.flows_deleted
    ))?;
    match reply.confirm {
        Some(seconds) => print_line(&format!("goes back in {seconds} s unless you `sluice confirm`")),
        None => Ok(()),
    }
}

/// Says whose elements are no longer those that `sluice set` put there.
fn sets_reset(names: &[String], are: &str) {
    if !names.is_empty() {
        eprintln!(
            "sets {are} as the policy defines them, and not as they were changed: {}",
            names.join(", ")
        );
    }
}

/// A time as in the system file, in seconds.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    let time = sluice_config::rate::parse_duration(text).map_err(|e| e.to_string())?;
    Ok(time.as_secs())
}

/// A policy as it is sent, with all the files that it refers to.
async fn read(client: &Client, path: &Path) -> Result<ApplyRequest, Failure> {
    readable(path)?;
    // With the daemon's interface names, so that every error comes at once.
    let interfaces: Vec<Interface> = client.get("/v1/interfaces").await?;
    let names = InterfaceNames::new(interfaces.into_iter().map(|i| i.name));
    let (policy, _) = Policy::load(path, Some(&names)).map_err(|found| {
        found.iter().for_each(|d| eprintln!("{d}"));
        Failure::No(Some(format!("{}: refused, what runs stays", path.display())))
    })?;
    let PolicySource { name, text, files } = policy.source;
    Ok(ApplyRequest { name, text, files, ..ApplyRequest::default() })
}

/// What the policy would change.
async fn ahead(client: &Client, request: &ApplyRequest) -> Result<PolicyDiff, Failure> {
    client.post("/v1/policy/diff", request).await?.map_err(|e| refused(&e))
}

fn tell(diff: &PolicyDiff, json: bool) -> Outcome {
    if json {
        return print_json(diff);
    }
    for w in &diff.warnings {
        eprintln!("{}", w.rendered.trim_end());
    }
    sets_reset(&diff.sets_reset, "would be");
    let mut place = "";
    for change in &diff.changes {
        if change.place != place {
            place = &change.place;
            print_line(place)?;
        }
        change_lines(change).iter().try_for_each(|line| print_line(line))?;
    }
    if diff.changes.is_empty() {
        print_line("no rule, set or zone differs")?;
    }
    let flows = &diff.flows;
    print_line(&format!(
        "{}: the next packets of {} would be dropped, --flows recheck would delete {}",
        counted(flows),
        flows.stopped,
        flows.refused
    ))
}

/// `+` came, `-` went, `>` moved; what changed went and came.
fn change_lines(change: &PolicyChange) -> Vec<String> {
    let number = |at: Option<usize>| at.map(|at| format!("{at:>4} ")).unwrap_or_default();
    let (from, to, text) = (number(change.from), number(change.to), &change.text);
    match (change.kind.as_str(), &change.before) {
        ("added", _) => vec![format!("  + {to}{text}")],
        ("removed", _) => vec![format!("  - {from}{text}")],
        ("moved", _) => vec![format!("  > {to}{text}, was {}", from.trim())],
        (_, Some(before)) => vec![format!("  - {to}{before}"), format!("  + {to}{text}")],
        (kind, None) => vec![format!("  {kind} {text}")],
    }
}

fn counted(flows: &FlowsAhead) -> String {
    if flows.examined < flows.live {
        format!("{} flows, of which {} were looked at", flows.live, flows.examined)
    } else {
        format!("{} flows", flows.live)
    }
}

/// Says how many flows will be cut, and asks whoever sits at a terminal.
fn may_cut(args: &ApplyArgs, flows: &FlowsAhead) -> Outcome {
    let count = if args.flows == Flows::Flush { flows.live } else { flows.refused };
    eprintln!("{}: {count} will be deleted", counted(flows));
    if count == 0 || args.yes || !std::io::stdin().is_terminal() {
        return Ok(());
    }
    eprint!("go on? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::No(Some("nothing was changed".into()))),
    }
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
