//! `sluice trace`: live packets on their way, stage by stage, as `nft monitor trace` shows them.

use clap::Args;
use sluice_api::{Trace, TraceLine, TraceMissing, TraceRequest, TraceRule};

use super::conntrack::line::{Style, line};
use crate::client::Client;
use crate::packet_filter::FilterArgs;
use crate::print::Printer;
use crate::{Failure, Outcome};

#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// End after so many packets.
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
    /// Follow so many packets a second at the most.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Prints packets' ways until interrupted, or until there are enough.
pub(crate) async fn trace(client: &Client, args: &TraceArgs, json: bool) -> Outcome {
    let request = TraceRequest { filter: args.filter.compile()?, rate: args.rate };
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut printer = Printer::new();
    let (mut begun, mut limit_told) = (false, false);
    let done = |_| Failure::No(None);
    let outcome = client
        .lines("/v1/trace", &request, |text| {
            if !std::mem::replace(&mut begun, true) {
                eprintln!("following up to {} packets a second", args.rate);
            }
            if left == 0 {
                return Err(Failure::No(None));
            }
            let Some(text) = text else { return printer.flush() };
            let told: TraceLine = serde_json::from_slice(text)
                .map_err(|e| Failure::CouldNotAsk(format!("the daemon's answer is not understood: {e}")))?;
            match told {
                TraceLine::Trace(trace) => {
                    if json {
                        printer.line(text)?;
                    } else {
                        printer.line(render(&trace).as_bytes())?;
                    }
                    // Where it is handed over, its way goes on.
                    left = left.saturating_sub(u64::from(!trace.verdict.starts_with("handed over")));
                }
                TraceLine::Missing(missing) if json => {
                    let _ = missing;
                    printer.line(text)?;
                }
                TraceLine::Missing(TraceMissing { lost, limited }) => {
                    if lost > 0 {
                        eprintln!("{lost} packets were lost on their way here");
                    }
                    if limited && !limit_told {
                        limit_told = true;
                        eprintln!("more than {} packets a second: some are left out", args.rate);
                    }
                }
            }
            if left == 0 { printer.flush().map_err(done).and(Err(Failure::No(None))) } else { Ok(()) }
        })
        .await;
    match outcome {
        Err(Failure::No(None)) if left == 0 => Ok(()),
        other => other,
    }
}

/// A packet's way, a line a step.
fn render(trace: &Trace) -> String {
    let from = match &trace.ingress {
        Some(interface) => format!("in {interface}"),
        None => "from the box".into(),
    };
    let over = if trace.handed_over { ", handed over" } else { "" };
    let time = jiff::Timestamp::from_microsecond(i64::try_from(trace.time).unwrap_or(0)).unwrap_or_default();
    let time = time.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S.%6f");
    let mut out = format!("{:08x} {time} worker {}: {from}{over}: {}", trace.id, trace.worker, trace.packet);
    let mut row = |stage: &str, text: &str| out.push_str(&format!("\n  {stage:<20} {text}"));
    for step in &trace.steps {
        for rule in &step.rules {
            row(&step.stage, &rendered(rule, &step.stage));
        }
        row(&step.stage, &step.text);
    }
    if trace.more {
        row("", "and more than is told here");
    }
    if let Some(flow) = &trace.flow {
        row("flow", &line(flow, Style::default(), 0));
    }
    row("verdict", &trace.verdict);
    out
}

/// A rule in the words of `nft monitor trace`: chain and place, where they are not those of the stage.
fn rendered(rule: &TraceRule, stage: &str) -> String {
    let chain = if rule.chain == stage { String::new() } else { format!("{} ", rule.chain) };
    let name = rule.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    match rule.index {
        0 => format!("{chain}{}", rule.text),
        index => format!("rule {chain}{index}{name}: {}", rule.text),
    }
}

#[cfg(test)]
mod tests {
    use sluice_api::TraceStep;

    use super::*;

    #[test]
    fn a_way_is_told_line_by_line() {
        let rule = |chain: &str, index, name: Option<&str>, text: &str| TraceRule {
            chain: chain.into(),
            index,
            name: name.map(str::to_owned),
            line: 0,
            text: text.into(),
        };
        let step =
            |stage: &str, text: &str, rules| TraceStep { stage: stage.into(), text: text.into(), rules };
        let trace = Trace {
            id: 0xbeef,
            worker: 1,
            ingress: Some("lan".into()),
            packet: "udp 10.1.0.2:5 > 10.2.0.2:9 ttl 64 length 29".into(),
            steps: vec![
                step("tracked", "new, original direction, begins a flow", Vec::new()),
                step(
                    "filter.forward",
                    "drop",
                    vec![
                        rule("filter.forward", 2, None, "proto: udp, action: {jump: udp_in}"),
                        rule("udp_in", 1, Some("discard"), "dport: 9, action: drop"),
                    ],
                ),
                step("stored", "as before", vec![rule("filter.forward", 0, None, "policy: drop")]),
            ],
            verdict: "dropped: policy_forward (because)".into(),
            ..Trace::default()
        };
        let text = render(&trace);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("0000beef "), "{text}");
        assert!(
            lines[0].ends_with(" worker 1: in lan: udp 10.1.0.2:5 > 10.2.0.2:9 ttl 64 length 29"),
            "{text}"
        );
        assert_eq!(
            lines[1..],
            [
                "  tracked              new, original direction, begins a flow",
                "  filter.forward       rule 2: proto: udp, action: {jump: udp_in}",
                "  filter.forward       rule udp_in 1 (discard): dport: 9, action: drop",
                "  filter.forward       drop",
                "  stored               filter.forward policy: drop",
                "  stored               as before",
                "  verdict              dropped: policy_forward (because)",
            ]
        );
    }
}
