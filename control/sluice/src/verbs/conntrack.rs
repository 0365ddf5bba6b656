//! `sluice conntrack`: conntrack-tools' -L, -C, -D, -F and -S, with its option names.

use std::time::SystemTime;

use clap::{Args, Subcommand, ValueEnum};
use sluice_api::{ConntrackStats, Deleted, Flow, FlowCount, FlowFilter, ListLine};

use crate::client::{Client, refused};
use crate::conntrack_line::{Style, line};
use crate::{Failure, Outcome, print_json, print_line};

/// What conntrack-tools put before each count.
const NAME: &str = concat!("conntrack v", env!("CARGO_PKG_VERSION"), " (sluice)");

#[derive(Debug, Args)]
pub(crate) struct ConntrackArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List flows; the count goes to standard error.
    List(ListArgs),
    /// Print how many flows there are.
    Count,
    /// Delete flows that match, and print them; at least one filter is needed.
    Delete(ListArgs),
    /// Delete all flows.
    Flush,
    /// Print the tracker's statistics, a line a worker.
    Stats,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    filter: Filter,
    /// How to print: extended, id, timestamp, labels; several with commas.
    #[arg(short, long, value_delimiter = ',')]
    output: Vec<Output>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// With the network protocol.
    Extended,
    /// With the flow's id.
    Id,
    /// With the time it began, where timestamps are on.
    Timestamp,
    /// With its labels, where it has any.
    Labels,
}

#[derive(Debug, Args)]
struct Filter {
    /// Protocol, name or number.
    #[arg(short, long)]
    proto: Option<String>,
    /// Source of the original direction: address or prefix.
    #[arg(short, long, alias = "orig-src")]
    src: Option<String>,
    /// Destination of the original direction: address or prefix.
    #[arg(short, long, alias = "orig-dst")]
    dst: Option<String>,
    /// Source of the reply direction.
    #[arg(short, long)]
    reply_src: Option<String>,
    /// Destination of the reply direction.
    #[arg(short = 'q', long)]
    reply_dst: Option<String>,
    /// Source port of the original direction.
    #[arg(long, alias = "orig-port-src")]
    sport: Option<u16>,
    /// Destination port of the original direction.
    #[arg(long, alias = "orig-port-dst")]
    dport: Option<u16>,
    /// Protocol state, such as ESTABLISHED.
    #[arg(long)]
    state: Option<String>,
    /// Mark, or mark/mask.
    #[arg(short, long, value_parser = mark)]
    mark: Option<(u32, u32)>,
    /// Zone of both directions.
    #[arg(short = 'w', long)]
    zone: Option<u16>,
    /// Zone of the original direction alone.
    #[arg(long)]
    orig_zone: Option<u16>,
    /// Zone of the reply direction alone.
    #[arg(long)]
    reply_zone: Option<u16>,
    /// Family: ipv4 or ipv6; both if not given.
    #[arg(short, long)]
    family: Option<String>,
    /// Status: ASSURED, SEEN_REPLY, UNSET and others, several with commas.
    #[arg(short = 'u', long, value_delimiter = ',')]
    status: Vec<String>,
    /// One flow by its id.
    #[arg(long)]
    id: Option<u64>,
}

impl Filter {
    fn request(self) -> FlowFilter {
        FlowFilter {
            family: self.family.map(|f| f.to_ascii_lowercase()),
            proto: self.proto.map(|p| p.to_ascii_lowercase()),
            src: self.src,
            dst: self.dst,
            sport: self.sport,
            dport: self.dport,
            reply_src: self.reply_src,
            reply_dst: self.reply_dst,
            state: self.state.map(|s| s.to_ascii_uppercase()),
            mark: self.mark,
            zone: self.zone,
            orig_zone: self.orig_zone,
            reply_zone: self.reply_zone,
            status: self.status.iter().map(|s| s.to_ascii_lowercase().replace('_', "-")).collect(),
            id: self.id,
        }
    }
}

/// `N` or `N/MASK`, each decimal or 0x hexadecimal.
fn mark(text: &str) -> Result<(u32, u32), String> {
    let number = |s: &str| match s.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => s.parse(),
    };
    let (value, mask) = match text.split_once('/') {
        Some((v, m)) => (number(v), number(m)),
        None => (number(text), Ok(u32::MAX)),
    };
    match (value, mask) {
        (Ok(v), Ok(m)) => Ok((v, m)),
        _ => Err("not a mark: a number, or number/mask".into()),
    }
}

/// Asks and prints.
pub(crate) async fn conntrack(client: &Client, args: ConntrackArgs, json: bool) -> Outcome {
    match args.verb {
        Verb::List(a) => {
            let n = list(client, &a.filter.request(), &a.output, json).await?;
            eprintln!("{NAME}: {n} flow entries have been shown.");
            Ok(())
        }
        Verb::Count => {
            let count: FlowCount = client.get("/v1/conntrack/count").await?;
            if json { print_json(&count) } else { print_line(&count.count.to_string()) }
        }
        Verb::Delete(a) => delete(client, a, json).await,
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
    }
}

/// Prints flows as they come, so that a table of any size takes no memory here.
async fn list(client: &Client, filter: &FlowFilter, output: &[Output], json: bool) -> Result<u64, Failure> {
    let style = Style {
        extended: output.contains(&Output::Extended),
        id: output.contains(&Output::Id),
        timestamp: output.contains(&Output::Timestamp),
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (mut shown, mut end) = (0, None);
    client
        .lines("/v1/conntrack/list", filter, |text| {
            let parsed: ListLine = serde_json::from_slice(text)
                .map_err(|e| Failure::CouldNotAsk(format!("the daemon's answer is not understood: {e}")))?;
            match parsed {
                ListLine::End(e) => end = Some(e.flows),
                ListLine::Flow(flow) => {
                    shown += 1;
                    print_flow(&flow, style, now, json)?;
                }
            }
            Ok(())
        })
        .await?;
    match end {
        Some(_) => Ok(shown),
        None => Err(Failure::CouldNotAsk(format!("the listing was cut short after {shown} flows"))),
    }
}

fn print_flow(flow: &Flow, style: Style, now: u64, json: bool) -> Outcome {
    if json { print_json(flow) } else { print_line(&line(flow, style, now)) }
}

/// As `conntrack -D`: exit code 1 where nothing matched, so that scripts can tell.
async fn delete(client: &Client, args: ListArgs, json: bool) -> Outcome {
    let filter = args.filter.request();
    if filter == FlowFilter::default() {
        return Err(Failure::CouldNotAsk("delete needs a filter; `conntrack flush` deletes all".into()));
    }
    if !json {
        list(client, &filter, &args.output, false).await?;
    }
    let deleted: Deleted = ask(client, "/v1/conntrack/delete", &filter).await?;
    if json {
        print_json(&deleted)?;
    } else {
        eprintln!("{NAME}: {} flow entries have been deleted.", deleted.deleted);
    }
    if deleted.deleted == 0 { Err(Failure::No(None)) } else { Ok(()) }
}

async fn ask<T: serde::de::DeserializeOwned>(
    client: &Client,
    path: &str,
    body: &FlowFilter,
) -> Result<T, Failure> {
    client.post(path, body).await?.map_err(|e| refused(&e))
}

fn stats_line(s: &ConntrackStats) -> String {
    format!(
        "worker={} \tfound={} invalid={} insert={} insert_failed={} drop={} early_drop={} error={} search_restart={}",
        s.worker,
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

#[cfg(test)]
mod tests {
    use super::mark;

    #[test]
    fn marks_are_numbers_with_an_optional_mask() {
        assert_eq!(mark("7"), Ok((7, u32::MAX)));
        assert_eq!(mark("0x10/0xff"), Ok((16, 255)));
        assert!(mark("x").is_err());
        assert!(mark("1/").is_err());
    }
}
