//! `sluice conntrack top`: who fills the table.

use std::time::Duration;

use clap::{Args, ValueEnum};
use sluice_api::{Top, TopKey, TopRequest, TopRow};

use super::filter::Filter;
use crate::Outcome;
use crate::client::{Client, refused};
use crate::print::{print_json, print_line};
use crate::screen::{Refresh, Screen};
use crate::table::Table;

#[derive(Debug, Args)]
pub(super) struct TopArgs {
    /// Rows to show.
    #[arg(short = 'c', long, default_value_t = 10)]
    rows: usize,
    /// What flows are counted by.
    #[arg(short, long, value_enum, default_value_t = By::Src)]
    by: By,
    /// Bits of IPv4 addresses that count; for `src-prefix` and `dst-prefix`.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u8).range(..=32), value_name = "BITS")]
    prefix4: u8,
    /// Bits of IPv6 addresses that count.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u8).range(..=128), value_name = "BITS")]
    prefix6: u8,
    /// Look at about so many flows, spread over the table; at all if not given.
    #[arg(long, value_name = "FLOWS")]
    sample: Option<u64>,
    /// Show it anew, every two seconds if no --delay is given.
    #[arg(long)]
    watch: bool,
    /// Seconds between two; implies --watch.
    #[arg(long, value_parser = crate::screen::seconds, value_name = "SECONDS")]
    delay: Option<Duration>,
    #[command(flatten)]
    filter: Filter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// Source address.
    Src,
    /// Destination address.
    Dst,
    /// Protocol and destination port.
    Dport,
    /// Protocol.
    Proto,
    /// Protocol and state.
    State,
    /// Prefix of the source address.
    SrcPrefix,
    /// Prefix of the destination address.
    DstPrefix,
}

impl TopArgs {
    fn request(self) -> TopRequest {
        let (by, whole) = match self.by {
            By::Src => (TopKey::Src, true),
            By::Dst => (TopKey::Dst, true),
            By::Dport => (TopKey::Dport, true),
            By::Proto => (TopKey::Proto, true),
            By::State => (TopKey::State, true),
            By::SrcPrefix => (TopKey::Src, false),
            By::DstPrefix => (TopKey::Dst, false),
        };
        let (prefix4, prefix6) = if whole { (32, 128) } else { (self.prefix4, self.prefix6) };
        TopRequest { by, n: self.rows, prefix4, prefix6, filter: self.filter.request(), sample: self.sample }
    }
}

/// Asks and prints, once or again and again.
pub(super) async fn top(client: &Client, args: TopArgs, json: bool) -> Outcome {
    let every = args.delay.or(args.watch.then_some(Duration::from_secs(2)));
    let request = args.request();
    let Some(every) = every else {
        let top = ask(client, &request).await?;
        return if json {
            print_json(&top)
        } else {
            lines(&top).iter().try_for_each(|line| print_line(line))
        };
    };
    let mut screen = Screen::open(json)?;
    loop {
        let top = ask(client, &request).await?;
        if json {
            print_json(&top)?
        } else {
            screen.draw(&lines(&top))?
        }
        if screen.wait(every).await? == Refresh::Quit {
            return Ok(());
        }
    }
}

async fn ask(client: &Client, request: &TopRequest) -> Result<Top, crate::Failure> {
    client.post("/v1/conntrack/top", request).await?.map_err(|e| refused(&e))
}

fn lines(top: &Top) -> Vec<String> {
    let mut lines = vec![match (top.sampled, top.counted == top.total) {
        (true, _) => format!("{} flows; of a sample of {}:", top.total, top.counted),
        (false, true) => format!("{} flows", top.total),
        (false, false) => format!("{} flows; of {} that match:", top.total, top.counted),
    }];
    lines.extend(table(&top.rows, top.counted, "KEY").lines());
    lines
}

/// Rows with their share of `counted` flows. Columns of which there is nothing to say are left out.
pub(crate) fn table(rows: &[TopRow], counted: u64, title: &'static str) -> Table {
    let (accounted, inexact) = (rows.iter().any(|r| r.packets > 0), rows.iter().any(|r| r.error > 0));
    let mut header = vec![title, ">FLOWS", ">SHARE", ">UNREPLIED", ">ASSURED"];
    header.extend(accounted.then_some([">PACKETS", ">BYTES"]).into_iter().flatten());
    header.extend(inexact.then_some(">TOO MANY BY"));
    let mut table = Table::new(&header);
    for row in rows {
        let share = row.flows as f64 * 100.0 / counted.max(1) as f64;
        let numbers = [row.unreplied, row.assured].into_iter();
        let numbers = numbers.chain(accounted.then_some([row.packets, row.bytes]).into_iter().flatten());
        let mut cells = vec![row.key.clone(), row.flows.to_string(), format!("{share:.1} %")];
        cells.extend(numbers.map(|n| n.to_string()));
        cells.extend(inexact.then(|| format!("≤ {}", row.error)));
        table.row(cells);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_has_no_column() {
        let row = |key: &str, flows, packets, error| TopRow {
            key: key.into(),
            flows,
            error,
            unreplied: 1,
            assured: flows - 1,
            packets,
            bytes: packets * 100,
        };
        let bare = Top { total: 4, counted: 4, sampled: false, rows: vec![row("10.0.0.1", 3, 0, 0)] };
        assert_eq!(
            lines(&bare),
            [
                "4 flows",
                "KEY       FLOWS   SHARE  UNREPLIED  ASSURED",
                "10.0.0.1      3  75.0 %          1        2"
            ]
        );
        let all = Top { total: 9, sampled: true, rows: vec![row("10.0.0.1", 3, 7, 1)], ..bare };
        assert_eq!(lines(&all)[0], "9 flows; of a sample of 4:");
        assert!(lines(&all)[1].ends_with("PACKETS  BYTES  TOO MANY BY"), "{:?}", lines(&all));
    }
}
