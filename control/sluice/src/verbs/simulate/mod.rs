//! `sluice simulate`: a capture through a policy, offline. Each packet goes through the engine that the workers run, at the
//! time that the capture says; told is what became of each, and of each rule.
//!
//! Not here: devices, neighbours (every next hop is known) and what the router would send by itself.

mod capture;
mod router;
mod sides;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use sluice_compiler::Names;
use sluice_config::{Diagnostics, Policy, System};
use sluice_engine::ruleset::RuleId;
use sluice_wire::Addrs;

use self::capture::Captured;
use self::router::{Fate, From, Router};
use self::sides::Sides;
use crate::print::{Printer, print_json, print_line};
use crate::table::Table;
use crate::{Failure, Outcome};

#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// The policy file.
    policy: PathBuf,
    /// The capture: pcap or pcapng, of Ethernet, Linux cooked or raw IP.
    capture: PathBuf,
    /// The system file, for addresses, routes and settings of the tracker.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Interface that packets come in by. With --config: all of them, in place of the capture's name for it or the route to
    /// each source. Without: those that are first between two addresses.
    #[arg(long = "in", value_name = "INTERFACE")]
    ingress: Option<String>,
    /// Without --config: the interface on the other side.
    #[arg(long, value_name = "INTERFACE", conflicts_with = "config")]
    out: Option<String>,
    /// Tell what became of each packet.
    #[arg(long)]
    packets: bool,
    /// Rules that matched no packet, too.
    #[arg(long)]
    all: bool,
    /// Verify checksums, which captures of sent packets often have not filled in.
    #[arg(long)]
    checksums: bool,
}

/// All in all.
#[derive(Debug, Default, Serialize)]
struct Summary {
    /// Packets in the capture.
    packets: u64,
    /// Seconds from the first to the last.
    seconds: f64,
    /// Packets by what became of them.
    verdicts: BTreeMap<&'static str, u64>,
    /// Dropped ones by the reason.
    drops: BTreeMap<&'static str, u64>,
    /// What the tracker said.
    states: BTreeMap<&'static str, u64>,
    /// Packets that are no IP, and were left out.
    not_ip: u64,
    /// Packets whose source no interface leads to, and were left out.
    nowhere: u64,
    /// Packets that were captured in part.
    cut: u64,
    /// Flows at the end.
    flows: u64,
    /// Why the capture was not read to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<String>,
    /// Rules with the packets and bytes that they matched.
    rules: Vec<RuleCount>,
}

/// A rule and what it matched.
#[derive(Debug, Serialize)]
struct RuleCount {
    rule: String,
    line: u32,
    packets: u64,
    bytes: u64,
    text: String,
}

/// Simulates and prints.
pub(crate) fn simulate(args: &SimulateArgs, json: bool) -> Outcome {
    let (system, compiled) = prepare(args)?;
    let mut router = Router::new(&system, compiled, args.packets);
    let fixed = match (&args.ingress, &args.config) {
        (Some(name), Some(_)) => {
            let known = router.interface(name);
            Some(known.ok_or_else(|| Failure::No(Some(format!("there is no interface {name}"))))?)
        }
        _ => None,
    };
    let (mut summary, mut first) = (Summary::default(), None);
    let mut printer = Printer::new();
    let mut printed = Ok(());
    let stopped = capture::read(&args.capture, |packet| {
        summary.packets += 1;
        let began = *first.get_or_insert(packet.nanos);
        let time = packet.nanos.saturating_sub(began) as f64 / 1e9;
        summary.seconds = summary.seconds.max(time);
        let named = packet.interface.and_then(|name| router.interface(name));
        let Some(fate) =
            judge(&mut router, packet, fixed.or(named).map(From::Wire), args.checksums, &mut summary)
        else {
            return;
        };
        if args.packets && printed.is_ok() {
            printed = printer.line(line(summary.packets, time, &fate, json).as_bytes());
        }
    });
    printed?;
    summary.stopped = stopped.map_err(|why| unread(args, &why))?;
    printer.flush()?;
    drop(printer);
    summary.flows = router.flows();
    summary.rules = rules(&router, args.all);
    if json { print_json(&summary) } else { tell(&summary) }
}

/// The system and the policy compiled for it.
fn prepare(args: &SimulateArgs) -> Result<(System, sluice_compiler::Compiled), Failure> {
    let refused = |found: Diagnostics| {
        found.iter().for_each(|d| eprintln!("{d}"));
        Failure::No(Some("nothing to simulate".into()))
    };
    let system = match &args.config {
        Some(path) => System::load(path).map_err(refused)?.0,
        None => two_sided(args)?,
    };
    let (policy, _) = Policy::load(&args.policy, Some(&system.interface_names())).map_err(refused)?;
    let compiled = sluice_compiler::compile(&policy, &Names::of(&system), 1).map_err(refused)?;
    Ok((system, compiled))
}

/// Without a system file: two interfaces, and the addresses of the capture on either side.
fn two_sided(args: &SimulateArgs) -> Result<System, Failure> {
    let (Some(inner), Some(outer)) = (&args.ingress, &args.out) else {
        let hint = "say --config FILE for addresses and routes, or --in INTERFACE and --out INTERFACE";
        return Err(Failure::No(Some(format!("it is not known where packets come in and go: {hint}"))));
    };
    let mut sides = Sides::default();
    let read = capture::read(&args.capture, |packet| {
        if let Some(addrs) = packet.datagram.as_deref().and_then(addresses) {
            sides.saw(addrs.src(), addrs.dst());
        }
    });
    read.map_err(|why| unread(args, &why))?;
    sides.system(inner, outer).map_err(|why| Failure::No(Some(why)))
}

fn unread(args: &SimulateArgs, why: &str) -> Failure {
    Failure::CouldNotAsk(format!("{}: {why}", args.capture.display()))
}

/// None if the packet is left out.
fn judge(
    router: &mut Router,
    packet: &Captured<'_>,
    known: Option<From>,
    checksums: bool,
    summary: &mut Summary,
) -> Option<Fate> {
    let Some(datagram) = packet.datagram.as_deref() else {
        summary.not_ip += 1;
        return None;
    };
    let by_route = || router.origin(&addresses(datagram)?);
    let Some(from) = known.or_else(by_route) else {
        summary.nowhere += 1;
        return None;
    };
    summary.cut += u64::from(packet.cut);
    let fate = router.judge(packet.nanos, from, datagram, packet.cut || !checksums);
    *summary.verdicts.entry(fate.verdict).or_default() += 1;
    if let Some(reason) = fate.reason {
        *summary.drops.entry(reason).or_default() += 1;
    }
    if let Some(state) = fate.state {
        *summary.states.entry(state).or_default() += 1;
    }
    Some(fate)
}

/// The addresses of a datagram, whatever else is wrong with it.
fn addresses(datagram: &[u8]) -> Option<Addrs> {
    let v4 = |at: usize| Some(<[u8; 4]>::try_from(datagram.get(at..at + 4)?).ok()?.into());
    let v6 = |at: usize| Some(<[u8; 16]>::try_from(datagram.get(at..at + 16)?).ok()?.into());
    match datagram.first()? >> 4 {
        4 => Some(Addrs::V4 { src: v4(12)?, dst: v4(16)? }),
        6 => Some(Addrs::V6 { src: v6(8)?, dst: v6(24)? }),
        _ => None,
    }
}

fn rules(router: &Router, all: bool) -> Vec<RuleCount> {
    let ruleset = router.ruleset();
    let counts = (0..).map(RuleId).zip(ruleset.rules()).map(|(id, info)| {
        let (packets, bytes) = ruleset.rule_counters(id);
        RuleCount { rule: router::place(info), line: info.line, packets, bytes, text: info.text.clone() }
    });
    counts.filter(|rule| all || rule.packets > 0).collect()
}

/// A packet in a line.
fn line(number: u64, time: f64, fate: &Fate, json: bool) -> String {
    if json {
        #[derive(Serialize)]
        struct Numbered<'a> {
            number: u64,
            time: f64,
            #[serde(flatten)]
            fate: &'a Fate,
        }
        // These values have no form that JSON lacks.
        return serde_json::to_string(&Numbered { number, time, fate }).unwrap_or_default();
    }
    let mut text = format!("{number} {time:.6} {} {}", fate.ingress.as_deref().unwrap_or("own"), fate.packet);
    if let Some(state) = fate.state {
        text.push_str(&format!(", {state}"));
    }
    text.push_str(&format!(": {}", fate.verdict));
    if let Some(reason) = fate.reason {
        text.push_str(&format!(" ({reason})"));
    }
    if let Some(out) = &fate.out {
        text.push_str(&format!(" to {out}"));
    }
    if let Some(left) = &fate.left {
        text.push_str(&format!(" as {left}"));
    }
    if !fate.rules.is_empty() {
        text.push_str(&format!(" [{}]", fate.rules.join(", ")));
    }
    text
}

fn tell(summary: &Summary) -> Outcome {
    let list = |counts: &BTreeMap<&str, u64>| {
        counts.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
    };
    print_line(&format!(
        "{} packets in {:.3} s: {}; {} flows at the end",
        summary.packets,
        summary.seconds,
        list(&summary.verdicts),
        summary.flows
    ))?;
    for (what, counts) in [("tracked", &summary.states), ("dropped", &summary.drops)] {
        if !counts.is_empty() {
            print_line(&format!("{what}: {}", list(counts)))?;
        }
    }
    for (count, what) in [
        (summary.not_ip, "are no IP, and were left out"),
        (summary.nowhere, "have a source that no interface leads to, and were left out"),
        (summary.cut, "were captured in part; what is missing was taken to be zeros"),
    ] {
        if count > 0 {
            print_line(&format!("{count} {what}"))?;
        }
    }
    if let Some(why) = &summary.stopped {
        eprintln!("sluice: {why}; this is what was read");
    }
    let mut table = Table::new(&[">PACKETS", ">BYTES", ">LINE", "RULE", ""]);
    for rule in &summary.rules {
        let (packets, bytes) = (rule.packets.to_string(), rule.bytes.to_string());
        table.row(vec![packets, bytes, rule.line.to_string(), rule.rule.clone(), rule.text.clone()]);
    }
    if table.is_empty() { Ok(()) } else { table.lines().iter().try_for_each(|line| print_line(line)) }
}

#[cfg(test)]
mod tests;
