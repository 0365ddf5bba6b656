//! `sluice conntrack`: conntrack-tools' -L, -C, -E, -D, -U, -F and -S, with its option names, its line formats and its
//! exit codes where they say something: 1 where nothing was deleted or changed.

mod expect;
mod filter;
pub(super) mod line;
mod stream;
pub(crate) mod top;

use std::time::SystemTime;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sluice_api::{
    ConntrackStats, Deleted, EventKind, Flow, FlowChange, FlowCount, FlowFilter, UpdateRequest, WatchLine,
    WatchRequest,
};

use crate::client::{Client, refused};
use crate::print::{print_json, print_line};
use crate::{Failure, Outcome};
use filter::{Filter, Flows};
use line::{Style, event, line};
use stream::{Listing, Told};

/// What conntrack-tools put before each count.
const NAME: &str = concat!("conntrack v", env!("CARGO_PKG_VERSION"), " (sluice)");

/// What `list`, `delete` and `update` print.
const FLOWS: Listing = Listing { what: "flows", end: b"{\"flows\":" };

#[derive(Debug, Args)]
pub(crate) struct ConntrackArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List flows; the count goes to standard error.
    #[command(short_flag = 'L', long_flag = "dump")]
    List(ListArgs),
    /// Print how many flows there are.
    #[command(short_flag = 'C', long_flag = "count")]
    Count,
    /// Print what happens to flows as it happens, until interrupted.
    #[command(short_flag = 'E', long_flag = "event")]
    Watch(WatchArgs),
    /// Delete flows that match, and print them; at least one filter is needed.
    #[command(short_flag = 'D', long_flag = "delete")]
    Delete(ListArgs),
    /// Change mark, timeout or status of flows that match, and print them; at least one filter is needed.
    #[command(short_flag = 'U', long_flag = "update")]
    Update(UpdateArgs),
    /// Delete all flows.
    #[command(short_flag = 'F', long_flag = "flush")]
    Flush,
    /// Print the tracker's statistics, a line a worker.
    #[command(short_flag = 'S', long_flag = "stats")]
    Stats,
    /// Show who fills the table: addresses, prefixes, ports, protocols or states with most flows.
    Top(top::TopArgs),
    /// List, watch or delete expectations: connections that helpers announced.
    Expect(expect::ExpectArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct WatchArgs {
    /// Which events: ALL, NEW, UPDATES, DESTROY; several with commas.
    #[arg(short, long, value_delimiter = ',', ignore_case = true, value_name = "EVENT")]
    event_mask: Vec<EventMask>,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct UpdateArgs {
    /// New mark; with a mask, its bits are cleared and those of the mark flipped.
    #[arg(short, long, value_parser = filter::mark, help_heading = "What to change (at least one of these)")]
    mark: Option<(u32, u32)>,
    /// New timeout in seconds; the flow's next packet sets it anew.
    #[arg(short, long, help_heading = "What to change (at least one of these)")]
    timeout: Option<u32>,
    /// Status to set: ASSURED, SEEN_REPLY, FIXED_TIMEOUT (packets leave the timeout alone); several with commas.
    #[arg(short = 'u', long, value_delimiter = ',', help_heading = "What to change (at least one of these)")]
    status: Vec<String>,
    #[command(flatten)]
    flows: Flows,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct Output {
    /// How to print; several with commas.
    #[arg(short, long, value_delimiter = ',', value_name = "STYLE")]
    output: Vec<OutputStyle>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OutputStyle {
    /// With the network protocol.
    Extended,
    /// With the flow's id.
    Id,
    /// With the time, of events.
    Timestamp,
    /// With the time that the flow began, where `conntrack.timestamp` is on.
    Ktimestamp,
    /// With its labels; no flow has any.
    Labels,
    /// Whether someone asked for it, of events; always shown.
    Userspace,
    /// As options, for `conntrack -R` of a Linux machine.
    Save,
    /// As XML: not done, there is --json.
    Xml,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EventMask {
    /// All of them.
    All,
    /// Flows that begin.
    New,
    /// Flows that are answered or assured, or whose state or mark changes.
    Updates,
    /// Flows that end.
    Destroy,
}

impl Output {
    fn style(&self) -> Result<Style, Failure> {
        let has = |style| self.output.contains(&style);
        if has(OutputStyle::Xml) {
            return Err(Failure::CouldNotAsk("there is no XML output: use --json".into()));
        }
        Ok(Style {
            extended: has(OutputStyle::Extended),
            id: has(OutputStyle::Id),
            timestamp: has(OutputStyle::Timestamp),
            ktimestamp: has(OutputStyle::Ktimestamp),
            save: has(OutputStyle::Save),
        })
    }
}

impl WatchArgs {
    fn events(&self) -> Vec<EventKind> {
        let kind = |mask: &EventMask| match mask {
            EventMask::All => None,
            EventMask::New => Some(EventKind::New),
            EventMask::Updates => Some(EventKind::Update),
            EventMask::Destroy => Some(EventKind::Destroy),
        };
        // None of them is all of them.
        self.event_mask.iter().map(kind).collect::<Option<_>>().unwrap_or_default()
    }
}

/// Asks and prints.
pub(crate) async fn conntrack(client: &Client, args: ConntrackArgs, json: bool) -> Outcome {
    match args.verb {
        Verb::List(a) => {
            let style = a.output.style()?;
            let shown = flows(client, "list", &a.filter.request(), Some(style), json).await?;
            eprintln!("{NAME}: {shown} flow entries have been shown.");
            Ok(())
        }
        Verb::Count => {
            let count: FlowCount = client.get("/v1/conntrack/count").await?;
            if json { print_json(&count) } else { print_line(&count.count.to_string()) }
        }
        Verb::Watch(a) => watch(client, a, json).await,
        Verb::Delete(a) => delete(client, a, json).await,
        Verb::Update(a) => update(client, a, json).await,
        Verb::Flush => {
            let deleted: Deleted = ask(client, "/v1/conntrack/flush", &FlowFilter::default()).await?;
            if json {
                return print_json(&deleted);
            }
            eprintln!("{NAME}: connection tracking table has been emptied.");
            Ok(())
        }
        Verb::Stats => {
            let stats: Vec<ConntrackStats> = client.get("/v1/conntrack/stats").await?;
            if json {
                return print_json(&stats);
            }
            stats.iter().try_for_each(|s| print_line(&stats_line(s)))
        }
        Verb::Top(a) => top::top(client, a, json).await,
        Verb::Expect(a) => expect::expect(client, a, json).await,
    }
}

/// As `conntrack -D`: exit code 1 where nothing matched, so that scripts can tell.
async fn delete(client: &Client, args: ListArgs, json: bool) -> Outcome {
    let (filter, style) = (args.filter.request(), args.output.style()?);
    if filter == FlowFilter::default() {
        return Err(Failure::CouldNotAsk("delete needs a filter; `conntrack flush` deletes all".into()));
    }
    let deleted = flows(client, "delete", &filter, (!json).then_some(style), false).await?;
    if json {
        print_json(&Deleted { deleted })?;
    } else {
        eprintln!("{NAME}: {deleted} flow entries have been deleted.");
    }
    if deleted == 0 { Err(Failure::No(None)) } else { Ok(()) }
}

/// As `conntrack -U`: exit code 1 where nothing was changed.
async fn update(client: &Client, args: UpdateArgs, json: bool) -> Outcome {
    let (filter, style) = (args.flows.request(), args.output.style()?);
    if filter == FlowFilter::default() {
        return Err(Failure::CouldNotAsk("update needs a filter, such as --family ipv4".into()));
    }
    let status = args.status.iter().map(|name| filter::status(name)).collect();
    let request =
        UpdateRequest { filter, change: FlowChange { mark: args.mark, timeout: args.timeout, status } };
    let updated = flows(client, "update", &request, (!json).then_some(style), false).await?;
    if json {
        print_json(&serde_json::json!({ "updated": updated }))?;
    } else {
        eprintln!("{NAME}: {updated} flow entries have been updated.");
    }
    if updated == 0 { Err(Failure::No(None)) } else { Ok(()) }
}

/// Prints flows as they come, so that a table of any size takes no memory here; how many there were. Without a style,
/// they are only counted.
async fn flows(
    client: &Client,
    verb: &str,
    request: &impl Serialize,
    style: Option<Style>,
    json: bool,
) -> Result<u64, Failure> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let path = format!("/v1/conntrack/{verb}");
    stream::list(client, &path, request, &FLOWS, |out, text| match style {
        None => Ok(()),
        Some(_) if json => out.line(text),
        Some(style) => out.line(line(&understand::<Flow>(text)?, style, now).as_bytes()),
    })
    .await
}

/// As `conntrack -E`.
async fn watch(client: &Client, args: WatchArgs, json: bool) -> Outcome {
    let style = args.output.style()?;
    let request = WatchRequest { events: args.events(), filter: args.filter.request() };
    let read = |text: &[u8]| {
        Ok(match understand::<WatchLine>(text)? {
            WatchLine::Lost(lost) => Told::Lost(lost.lost),
            WatchLine::Event(told) => Told::Event(told),
        })
    };
    let what = ("flow events", json);
    stream::watch(client, "/v1/conntrack/watch", &request, what, read, |told| event(told, style)).await
}

fn understand<T: DeserializeOwned>(text: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(text)
        .map_err(|e| Failure::CouldNotAsk(format!("the daemon's answer is not understood: {e}")))
}

async fn ask<T: DeserializeOwned>(client: &Client, path: &str, body: &impl Serialize) -> Result<T, Failure> {
    client.post(path, body).await?.map_err(|e| refused(&e))
}

/// Two counters of the kernel's count what cannot happen here: a clash of two first packets on two cores, and a bucket
/// that is full.
fn stats_line(s: &ConntrackStats) -> String {
    format!(
        "cpu={:<4}\tfound={} invalid={} insert={} insert_failed={} drop={} early_drop={} error={} search_restart={} \
         clash_resolve=0 chaintoolong=0 ",
        s.core,
        s.found,
        s.invalid,
        s.insert,
        s.insert_failed,
        s.drop,
        s.early_drop,
        s.error,
        s.search_restart
    )
}
