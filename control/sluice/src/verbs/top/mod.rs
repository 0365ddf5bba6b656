//! `sluice top`: what the router is doing now. Counters are asked for twice, and the difference is shown for a second.

mod view;

use std::time::{Duration, Instant};

use clap::Args;
use sluice_api::{ConntrackStats, Drop, FlowCount, Interface, Rule, Status, Top, TopRequest, Worker};

use crate::client::{Client, refused};
use crate::print::{print_json, print_line};
use crate::screen::{Refresh, Screen, seconds};
use crate::{Failure, Outcome};
use view::View;

/// Flows that are looked at for who has most of them: a few milliseconds of the workers' time, in small steps.
const SAMPLE: u64 = 20_000;

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Seconds between two looks.
    #[arg(short, long, default_value = "2", value_parser = seconds, value_name = "SECONDS")]
    delay: Duration,
    /// Look once and end.
    #[arg(long)]
    once: bool,
    /// Busiest rules, drop reasons and talkers to show, each.
    #[arg(short, default_value_t = 5, value_name = "ROWS")]
    n: usize,
}

/// Everything that is counted, at one moment.
pub(super) struct Snapshot {
    at: Instant,
    status: Status,
    interfaces: Vec<Interface>,
    workers: Vec<Worker>,
    drops: Vec<Drop>,
    rules: Vec<Rule>,
    flows: FlowCount,
    conntrack: Vec<ConntrackStats>,
}

/// Looks and prints until told to end.
pub(crate) async fn top(client: &Client, args: &TopArgs, json: bool) -> Outcome {
    let mut screen = Screen::open(json || args.once)?;
    let mut before = Snapshot::take(client).await?;
    // The first look is a short one, so that there is something to see.
    let mut wait = if args.once { args.delay } else { args.delay.min(Duration::from_secs(1)) };
    loop {
        if screen.wait(wait).await? == Refresh::Quit {
            return Ok(());
        }
        wait = args.delay;
        let (now, talkers) = (Snapshot::take(client).await?, talkers(client, args.n).await?);
        let view = View::between(&before, &now, talkers, args.n);
        match (json, args.once) {
            (true, _) => print_json(&view)?,
            (false, true) => view.lines().iter().try_for_each(|line| print_line(line))?,
            (false, false) => screen.draw(&view.lines())?,
        }
        if args.once {
            return Ok(());
        }
        before = now;
    }
}

impl Snapshot {
    async fn take(client: &Client) -> Result<Snapshot, Failure> {
        Ok(Snapshot {
            status: client.get("/v1/status").await?,
            interfaces: client.get("/v1/interfaces").await?,
            workers: client.get("/v1/workers").await?,
            drops: client.get("/v1/drops").await?,
            rules: client.get("/v1/rules").await?,
            flows: client.get("/v1/conntrack/count").await?,
            conntrack: client.get("/v1/conntrack/stats").await?,
            at: Instant::now(),
        })
    }
}

async fn talkers(client: &Client, n: usize) -> Result<Top, Failure> {
    let request = TopRequest { n, sample: Some(SAMPLE), ..TopRequest::default() };
    client.post("/v1/conntrack/top", &request).await?.map_err(|e| refused(&e))
}
