//! `sluice show`: the running state, as tables.

use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use sluice_api::{ConfigView, Drop, Interface, Nat, Neighbour, PolicyView, Port, Route, Rule, Set, Worker};

use crate::client::Client;
use crate::print::{print_json, print_line};
use crate::table::Table;
use crate::verbs::owner;
use crate::{Failure, Outcome};

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// What to show.
    what: What,
    /// Zeros too, where they are left out otherwise.
    #[arg(long)]
    all: bool,
    /// Of `nat`: whose a port of a block is.
    #[arg(long, value_name = "ADDRESS:PORT")]
    owner: Option<SocketAddrV4>,
    /// With --owner: by this policy, without a daemon.
    #[arg(long, value_name = "FILE", requires = "owner")]
    policy: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// The running policy's text.
    Policy,
    /// Rules with packet and byte counters.
    Rules,
    /// Interfaces, their devices and counters.
    Interfaces,
    /// The routing table.
    Routes,
    /// Next hops and their MAC addresses.
    Neighbours,
    /// Workers, their cores and load.
    Workers,
    /// Dropped packets by reason.
    Drops,
    /// Translated flows: ports in use of each address, and published destinations.
    Nat,
    /// Sets of the policy.
    Sets,
    /// The system file in force.
    Config,
}

/// Asks and prints.
pub(crate) async fn show(client: &Client, args: &ShowArgs, json: bool) -> Outcome {
    if let Some(of) = args.owner {
        return match args.what {
            What::Nat => owner::owner(client, of, args.policy.as_deref(), json).await,
            _ => Err(Failure::CouldNotAsk("--owner is of `show nat`".into())),
        };
    }
    match args.what {
        What::Policy => print(json, client.get("/v1/policy").await?, |p: &PolicyView| policy(p)),
        What::Rules => print(json, client.get("/v1/rules").await?, |r: &Vec<Rule>| rules(r)),
        What::Interfaces => {
            print(json, client.get("/v1/interfaces").await?, |i: &Vec<Interface>| interfaces(i))
        }
        What::Routes => print(json, client.get("/v1/routes").await?, |r: &Vec<Route>| routes(r)),
        What::Neighbours => {
            print(json, client.get("/v1/neighbours").await?, |n: &Vec<Neighbour>| neighbours(n))
        }
        What::Workers => print(json, client.get("/v1/workers").await?, |w: &Vec<Worker>| workers(w)),
        What::Drops => print(json, client.get("/v1/drops").await?, |d: &Vec<Drop>| drops(d, args.all)),
        What::Nat => print(json, client.get("/v1/nat").await?, nat),
        What::Sets => print(json, client.get("/v1/sets").await?, |s: &Vec<Set>| sets(s, args.all)),
        What::Config => print(json, client.get("/v1/config").await?, |c: &ConfigView| config(c)),
    }
}

fn print<T: serde::Serialize>(
    json: bool,
    value: T,
    lines: impl Fn(&T) -> Vec<String>,
) -> Result<(), Failure> {
    if json {
        return print_json(&value);
    }
    lines(&value).iter().try_for_each(|l| print_line(l))
}

fn policy(p: &PolicyView) -> Vec<String> {
    let since = SystemTime::UNIX_EPOCH + Duration::from_secs(p.applied);
    let ago = since.elapsed().unwrap_or_default().as_secs();
    let mut out = vec![format!(
        "# {}, generation {}, sha256 {}, applied {ago} s ago",
        p.name,
        p.generation,
        p.digest.get(..12).unwrap_or(&p.digest)
    )];
    out.extend(p.text.lines().map(str::to_string));
    out
}

fn rules(list: &[Rule]) -> Vec<String> {
    let mut t = Table::new(&["CHAIN", ">#", ">PACKETS", ">BYTES", "NAME", "RULE"]);
    for r in list {
        let chain = if r.table == "chains" { r.chain.clone() } else { format!("{}.{}", r.table, r.chain) };
        let name = r.name.clone().unwrap_or_default();
        t.row(vec![
            chain,
            r.index.to_string(),
            r.packets.to_string(),
            r.bytes.to_string(),
            name,
            r.text.clone(),
        ]);
    }
    t.lines()
}

fn nat(nat: &Nat) -> Vec<String> {
    let mut sources = Table::new(&["SOURCE", "PROTO", ">FLOWS", ">PORTS", ">OF ALL"]);
    for s in &nat.sources {
        let (ports, share) = match s.ports {
            0 => (String::new(), String::new()),
            ports => (ports.to_string(), format!("{:.1} %", f64::from(ports) / 655.36)),
        };
        sources.row(vec![s.address.clone(), s.protocol.clone(), s.flows.to_string(), ports, share]);
    }
    let mut destinations = Table::new(&["DESTINATION", "PROTO", "BECOMES", ">FLOWS"]);
    for d in &nat.destinations {
        destinations.row(vec![d.asked.clone(), d.protocol.clone(), d.given.clone(), d.flows.to_string()]);
    }
    let mut out = sources.lines();
    out.push(String::new());
    out.extend(destinations.lines());
    let told = [
        (nat.left_out, "flows of further addresses are not shown"),
        (nat.no_address, "packets were dropped because there was no address (nat_no_address)"),
        (nat.exhausted, "packets were dropped because no port was free (nat_exhausted)"),
    ];
    let told = told.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    out.extend(told);
    let pools = nat.exhausted_pools.iter().map(|of| format!("    {} of {}", of.packets, of.pool));
    out.extend(pools);
    out
}

/// What the device does towards finding a packet's worker.
fn rss(port: &Port) -> &'static str {
    match (port.rss_queue, port.rss_hash) {
        (true, true) => "queue and hash",
        (true, false) => "queue",
        (false, true) => "hash",
        (false, false) => "none",
    }
}

fn interfaces(list: &[Interface]) -> Vec<String> {
    let mut out = Vec::new();
    for i in list {
        let vlan = i.vlan.map(|v| format!(" vlan {v}")).unwrap_or_default();
        let speed = if i.port.speed > 0 { format!(" {} Mbit/s", i.port.speed) } else { String::new() };
        let link = if i.port.link_up { "up" } else { "down" };
        out.push(format!(
            "{}: {} ({}){vlan}, link {link}{speed}, mac {}, mtu {}, rp_filter {}, queues {} rx {} tx, rss {}",
            i.name,
            i.port.device,
            i.port.driver,
            i.mac,
            i.mtu,
            i.rp_filter,
            i.port.rx_queues,
            i.port.tx_queues,
            rss(&i.port)
        ));
        out.extend(i.addresses.iter().map(|a| format!("    address {a}")));
        out.push(format!(
            "    rx {} packets {} bytes, tx {} packets {} bytes",
            i.rx_packets, i.rx_bytes, i.tx_packets, i.tx_bytes
        ));
        out.push(format!(
            "    forwarded {}, delivered {}, answered {}, consumed {}; device: missed {}, no buffer {}, rx errors {}, tx errors {}",
            i.forwarded,
            i.delivered,
            i.answered,
            i.consumed,
            i.port.rx_missed,
            i.port.rx_nombuf,
            i.port.rx_errors,
            i.port.tx_errors
        ));
    }
    out
}

/// Routes in the words of `ip route`.
fn routes(list: &[Route]) -> Vec<String> {
    let mut out = Vec::new();
    for r in list {
        let mut line = if r.kind == "unicast" { r.to.clone() } else { format!("{} {}", r.kind, r.to) };
        let several = r.hops.len() > 1;
        for h in &r.hops {
            line.push_str(if several { " nexthop" } else { "" });
            if let Some(via) = &h.via {
                line.push_str(&format!(" via {via}"));
            }
            line.push_str(&format!(" dev {}", h.dev));
            if several {
                line.push_str(&format!(" weight {}", h.weight));
            }
        }
        line.push_str(&format!(" proto {}", r.source));
        if r.metric > 0 {
            line.push_str(&format!(" metric {}", r.metric));
        }
        out.push(line);
    }
    out
}

fn neighbours(list: &[Neighbour]) -> Vec<String> {
    let seconds = |s: Option<u64>| s.map_or_else(|| "-".to_string(), |s| format!("{s} s"));
    let mut t = Table::new(&["ADDRESS", "DEV", "MAC", "STATE", ">CONFIRMED", ">USED"]);
    for n in list {
        let mac = n.mac.clone().unwrap_or_else(|| "-".to_string());
        t.row(vec![
            n.address.clone(),
            n.dev.clone(),
            mac,
            n.state.clone(),
            seconds(n.confirmed),
            seconds(n.used),
        ]);
    }
    t.lines()
}

fn workers(list: &[Worker]) -> Vec<String> {
    let mut t = Table::new(&[
        ">WORKER",
        ">CORE",
        ">GENERATION",
        ">PACKETS",
        ">CYCLES/PACKET",
        ">FAST PATH",
        ">HANDED OVER",
        ">HELD",
        ">FLOWS",
        ">BUSY",
    ]);
    let percent = |part: u64, whole: u64| {
        if whole == 0 { "-".to_string() } else { format!("{:.1} %", part as f64 * 100.0 / whole as f64) }
    };
    for w in list {
        let cycles = if w.packets == 0 {
            "-".to_string()
        } else {
            (w.busy_cycles.checked_div(w.packets).unwrap_or(0)).to_string()
        };
        t.row(vec![
            w.worker.to_string(),
            w.core.to_string(),
            w.generation.to_string(),
            w.packets.to_string(),
            cycles,
            percent(w.fast_path, w.packets),
            w.handed_over.to_string(),
            w.held.to_string(),
            w.flows.to_string(),
            percent(w.busy_cycles, w.busy_cycles + w.idle_cycles),
        ]);
    }
    t.lines()
}

fn drops(list: &[Drop], all: bool) -> Vec<String> {
    let mut t = Table::new(&["REASON", ">RECEIVED", ">OWN"]);
    let sums = |d: &Drop| (d.received.iter().sum::<u64>(), d.local.iter().sum::<u64>());
    let shown: Vec<&Drop> = list.iter().filter(|d| all || sums(d) != (0, 0)).collect();
    for d in &shown {
        let (received, own) = sums(d);
        t.row(vec![d.reason.clone(), received.to_string(), own.to_string()]);
    }
    let mut rows = t.lines().into_iter();
    let mut out: Vec<String> = rows.next().into_iter().collect();
    for (row, d) in rows.zip(shown) {
        out.extend([row, format!("    {}", d.meaning), format!("    {}", d.advice)]);
    }
    out
}

fn sets(list: &[Set], all: bool) -> Vec<String> {
    const SHOWN: usize = 8;
    let mut t = Table::new(&["SET", "TYPE", ">ELEMENTS", ""]);
    for s in list {
        let shown = if all { s.elements.len() } else { SHOWN };
        let mut text = s.elements.iter().take(shown).cloned().collect::<Vec<_>>().join(", ");
        if s.count > shown.min(s.elements.len()) {
            text.push_str(", ...");
        }
        if s.changed {
            text.push_str(" (changed since the policy was applied)");
        }
        t.row(vec![s.name.clone(), s.kind.clone(), s.count.to_string(), text]);
    }
    t.lines()
}

fn config(c: &ConfigView) -> Vec<String> {
    let mut out = vec![format!("# {}", c.path)];
    out.extend(c.text.lines().map(str::to_string));
    out
}
