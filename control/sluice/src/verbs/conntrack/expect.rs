//! `sluice conntrack expect`: conntrack-tools' -L, -E and -D of the table `expect`, with its line format.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use sluice_api::{
    EventKind, Expectation, ExpectationFilter, ExpectationWatchLine, ExpectationsEnd, FlowTuple,
};

use super::stream::{self, Listing, Told};
use super::{NAME, understand};
use crate::client::Client;
use crate::print::print_json;
use crate::{Failure, Outcome};

/// What `list` and `delete` print.
const EXPECTATIONS: Listing = Listing { what: "expectations", end: b"{\"expectations\":" };

#[derive(Debug, Args)]
pub(super) struct ExpectArgs {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    filter: Filter,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List expectations; what is done without a verb.
    List(Filter),
    /// Print what happens to expectations as it happens, until interrupted.
    Watch(Filter),
    /// Delete expectations that match, and print them; at least one filter is needed.
    Delete(Filter),
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Which expectations (all that is given must hold)")]
struct Filter {
    /// Protocol of what is expected, by name or number.
    #[arg(short, long)]
    proto: Option<String>,
    /// Source of the master: address or prefix.
    #[arg(short, long, visible_alias = "orig-src", value_name = "ADDR")]
    src: Option<String>,
    /// Destination of the master.
    #[arg(short, long, visible_alias = "orig-dst", value_name = "ADDR")]
    dst: Option<String>,
    /// Source of what is expected; one from anyone is from there too.
    #[arg(long, value_name = "ADDR")]
    tuple_src: Option<String>,
    /// Destination of what is expected.
    #[arg(long, value_name = "ADDR")]
    tuple_dst: Option<String>,
    /// Destination port of what is expected.
    #[arg(long, value_name = "PORT")]
    tuple_port_dst: Option<u16>,
    /// Family: ipv4 or ipv6; both if not given.
    #[arg(short, long)]
    family: Option<String>,
    /// The helper.
    #[arg(long, value_name = "NAME")]
    helper: Option<String>,
    /// One expectation by its id, as --json shows it.
    #[arg(short, long)]
    id: Option<u64>,
}

impl Filter {
    fn request(self) -> ExpectationFilter {
        ExpectationFilter {
            family: self.family.map(|f| f.to_ascii_lowercase()),
            proto: self.proto.map(|p| p.to_ascii_lowercase()),
            src: self.tuple_src,
            dst: self.tuple_dst,
            dport: self.tuple_port_dst,
            master_src: self.src,
            master_dst: self.dst,
            helper: self.helper,
            id: self.id,
        }
    }
}

pub(super) async fn expect(client: &Client, args: ExpectArgs, json: bool) -> Outcome {
    match args.verb.unwrap_or(Verb::List(args.filter)) {
        Verb::List(filter) => {
            let shown = expectations(client, "list", &filter.request(), json).await?;
            if !json {
                eprintln!("{NAME}: {shown} expectations have been shown.");
            }
            Ok(())
        }
        Verb::Delete(filter) => delete(client, &filter.request(), json).await,
        Verb::Watch(filter) => watch(client, &filter.request(), json).await,
    }
}

/// As `conntrack -D expect`: exit code 1 where nothing matched, so that scripts can tell.
async fn delete(client: &Client, filter: &ExpectationFilter, json: bool) -> Outcome {
    if *filter == ExpectationFilter::default() {
        return Err(Failure::CouldNotAsk("delete needs a filter, such as --family ipv4".into()));
    }
    let deleted = expectations(client, "delete", filter, json).await?;
    if json {
        print_json(&ExpectationsEnd { expectations: deleted })?;
    } else {
        eprintln!("{NAME}: {deleted} expectations have been deleted.");
    }
    if deleted == 0 { Err(Failure::No(None)) } else { Ok(()) }
}

/// Prints expectations as they come; how many there were.
async fn expectations(
    client: &Client,
    verb: &str,
    filter: &ExpectationFilter,
    json: bool,
) -> Result<u64, Failure> {
    let path = format!("/v1/conntrack/expect/{verb}");
    stream::list(client, &path, filter, &EXPECTATIONS, |out, text| match json {
        true => out.line(text),
        false => out.line(line(&understand::<Expectation>(text)?).as_bytes()),
    })
    .await
}

/// As `conntrack -E expect`.
async fn watch(client: &Client, filter: &ExpectationFilter, json: bool) -> Outcome {
    let read = |text: &[u8]| {
        Ok(match understand::<ExpectationWatchLine>(text)? {
            ExpectationWatchLine::Lost(lost) => Told::Lost(lost.lost),
            ExpectationWatchLine::Event(told) => Told::Event(told),
        })
    };
    let what = ("expectation events", json);
    stream::watch(client, "/v1/conntrack/expect/watch", filter, what, read, |told| {
        let kind = if told.event == EventKind::New { "[NEW]" } else { "[DESTROY]" };
        format!("{kind:>9} {}", line(&told.expectation))
    })
    .await
}

/// An expectation as one line, no line end.
fn line(found: &Expectation) -> String {
    let mut out = format!("{} proto={} ", found.timeout, found.protonum);
    for (prefix, tuple) in [("", &found.tuple), ("mask-", &found.mask), ("master-", &found.master)] {
        ends(&mut out, prefix, tuple);
    }
    if let Some(zone) = found.zone {
        // Writing to a String cannot fail.
        let _ = write!(out, "zone={zone} ");
    }
    let _ = write!(out, "class={} helper={}", found.class, found.helper);
    out
}

fn ends(out: &mut String, prefix: &str, tuple: &FlowTuple) {
    let _ = write!(out, "{prefix}src={} {prefix}dst={} ", tuple.src, tuple.dst);
    if let (Some(sport), Some(dport)) = (tuple.sport, tuple.dport) {
        let _ = write!(out, "sport={sport} dport={dport} ");
    }
    if let (Some(src), Some(dst)) = (tuple.srckey, tuple.dstkey) {
        let _ = write!(out, "srckey=0x{src:x} dstkey=0x{dst:x} ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As conntrack-tools 1.4.7 prints it.
    #[test]
    fn lines_are_those_of_conntrack() {
        let tuple = |src: &str, dst: &str, sport, dport| FlowTuple {
            src: src.into(),
            dst: dst.into(),
            sport: Some(sport),
            dport: Some(dport),
            ..FlowTuple::default()
        };
        let found = Expectation {
            timeout: 299,
            protonum: 6,
            tuple: tuple("10.2.0.2", "10.1.0.2", 0, 50000),
            mask: tuple("255.255.255.255", "255.255.255.255", 0, 65535),
            master: tuple("10.1.0.2", "10.2.0.2", 40000, 21),
            helper: "ftp".into(),
            ..Expectation::default()
        };
        assert_eq!(
            line(&found),
            "299 proto=6 src=10.2.0.2 dst=10.1.0.2 sport=0 dport=50000 mask-src=255.255.255.255 \
             mask-dst=255.255.255.255 sport=0 dport=65535 master-src=10.1.0.2 master-dst=10.2.0.2 sport=40000 \
             dport=21 class=0 helper=ftp"
        );
    }
}
