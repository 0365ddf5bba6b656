//! `sluice`: the command line tool. Talks to `sluiced` over its unix socket, or from another host over mutual TLS;
//! `check`, `import`, `simulate` and `cert` work offline.
//!
//! Exit code 0: done; 1: the answer is no (a policy is refused, a test failed); 2: could not ask.

mod client;
mod packet_filter;
mod print;
mod screen;
mod server;
mod table;
mod verbs;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use client::Client;
use server::Address;
use verbs::{
    capture, cert, conntrack, explain, history, import, manual, policy, schema, set, show, simulate, top,
    trace,
};

/// Look at and steer the Sluice firewall router.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, max_term_width = 110)]
struct Args {
    #[command(flatten)]
    address: Address,
    /// Print JSON, for programs.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Parse and compile a policy and run its own tests, without a daemon.
    Check(policy::CheckArgs),
    /// Check a policy, then swap it in: all workers or none, no packet lost.
    Apply(policy::ApplyArgs),
    /// Say what a policy would change, rules and live flows, and change nothing.
    Diff(policy::DiffArgs),
    /// Keep the policy that `apply --confirm` put in force.
    Confirm,
    /// List the last policies with time and digest.
    History,
    /// Go back to an earlier policy, or from one that waits to be confirmed.
    Rollback(history::RollbackArgs),
    /// Read both files again, as SIGHUP does.
    Reload,
    /// List and change elements of a set, without a new policy.
    Set(set::SetArgs),
    /// Translate rulesets of iptables, ip6tables, nft and ipset to a policy, without a daemon.
    Import(import::ImportArgs),
    /// Tell what would happen to a packet, rule by rule.
    Explain(Box<explain::ExplainArgs>),
    /// Run a capture through a policy, without a daemon: what becomes of each packet and each rule.
    Simulate(simulate::SimulateArgs),
    /// Make and revoke the certificates of remote control, without a daemon.
    Cert(cert::CertArgs),
    /// Print the JSON Schema of the policy file and the system file, for editors.
    Schema(schema::SchemaArgs),
    /// Print a script that completes the command line.
    Completions(manual::CompletionsArgs),
    /// Write man pages into a folder.
    #[command(hide = true)]
    Manual(manual::ManualArgs),
    /// Print the running state.
    Show(show::ShowArgs),
    /// Look at and change tracked connections, with the options of conntrack-tools.
    Conntrack(Box<conntrack::ConntrackArgs>),
    /// Follow live packets, stage by stage: tracking, translation, route, rules that matched, verdict.
    Trace(trace::TraceArgs),
    /// Write packets seen or dropped to a file for tcpdump and Wireshark, with the reason of each drop.
    Capture(capture::CaptureArgs),
    /// Show what the router is doing now: interfaces, workers, flows, drops, busiest rules and talkers.
    Top(top::TopArgs),
}

/// Why a verb ended without doing what it was asked.
#[derive(Debug)]
enum Failure {
    /// Exit code 1: the answer is no. What is to be said was said already, or is here.
    No(Option<String>),
    /// Exit code 2: could not ask.
    CouldNotAsk(String),
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Failure {
        Failure::CouldNotAsk(e.to_string())
    }
}

type Outcome = Result<(), Failure>;

fn main() -> ExitCode {
    let matches = Args::command().get_matches();
    let mut args = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    args.address.settle(&matches);
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(run(args)));
    let _ = std::io::stdout().flush();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::No(message)) => {
            if let Some(m) = message {
                eprintln!("sluice: {m}");
            }
            ExitCode::from(1)
        }
        Err(Failure::CouldNotAsk(message)) => {
            eprintln!("sluice: {message}");
            ExitCode::from(2)
        }
    }
}

async fn run(args: Args) -> Outcome {
    let client = Client::new(args.address.place());
    match args.verb {
        Verb::Check(a) => policy::check(&a, args.json),
        Verb::Apply(a) => policy::apply(&client, &a, args.json).await,
        Verb::Diff(a) => policy::diff(&client, &a, args.json).await,
        Verb::Confirm => history::confirm(&client, args.json).await,
        Verb::History => history::history(&client, args.json).await,
        Verb::Rollback(a) => history::rollback(&client, &a, args.json).await,
        Verb::Reload => policy::reload(&client, args.json).await,
        Verb::Set(a) => set::set(&client, a, args.json).await,
        Verb::Explain(a) => explain::explain(&client, &a, args.json).await,
        Verb::Completions(a) => manual::completions(&a, Args::command()),
        Verb::Manual(a) => manual::manual(&a, Args::command()),
        Verb::Show(a) => show::show(&client, &a, args.json).await,
        Verb::Conntrack(a) => conntrack::conntrack(&client, *a, args.json).await,
        Verb::Trace(a) => trace::trace(&client, &a, args.json).await,
        Verb::Capture(a) => capture::capture(&client, &a, args.json).await,
        Verb::Top(a) => top::top(&client, &a, args.json).await,
        Verb::Import(a) => import::import(&a, args.json),
        Verb::Simulate(a) => simulate::simulate(&a, args.json),
        Verb::Schema(a) => schema::schema(&a),
        Verb::Cert(a) => cert::cert(a, args.json),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn no_two_options_have_one_name() {
        super::Args::command().debug_assert();
    }
}
