//! `sluice explain`: what would happen to a packet, rule by rule, on the running router or offline.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;
use sluice_api::{ExplainRequest, ExplainedChain, ExplainedMatch, ExplainedRule, Explanation, Step};
use sluice_compiler::{Explain, Names, Surroundings, topology};
use sluice_config::policy::TestPacket;
use sluice_config::{Diagnostics, Policy, System};
use sluice_engine::world::Interfaces;

use crate::client::{Client, refused};
use crate::print::{print_json, print_line};
use crate::{Failure, Outcome};

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    packet: PacketArgs,
    /// By this policy, without a daemon.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// With --policy: the system file, for addresses, routes and names of interfaces.
    #[arg(long, value_name = "FILE", requires = "policy")]
    config: Option<PathBuf>,
    /// Leave out rules that did not match.
    #[arg(long)]
    matched: bool,
}

/// The packet, as in a policy's test; the first one of a flow unless said otherwise.
#[derive(Debug, Args)]
struct PacketArgs {
    /// Interface that it comes in by; without, the router itself sends it.
    #[arg(long = "in", value_name = "INTERFACE")]
    ingress: Option<String>,
    /// Interface that it leaves by, in place of what the routing table says.
    #[arg(long, value_name = "INTERFACE")]
    out: Option<String>,
    /// Source address.
    #[arg(long, short, value_name = "ADDRESS")]
    src: Option<String>,
    /// Destination address.
    #[arg(long, short, value_name = "ADDRESS")]
    dst: Option<String>,
    /// ipv4 or ipv6, where no address says so.
    #[arg(long)]
    family: Option<String>,
    /// Protocol, by name or number.
    #[arg(long, short)]
    proto: Option<String>,
    /// Source port.
    #[arg(long, value_name = "PORT")]
    sport: Option<String>,
    /// Destination port.
    #[arg(long, value_name = "PORT")]
    dport: Option<String>,
    /// TCP flags that are on: syn,ack.
    #[arg(long, value_name = "FLAGS")]
    tcp_flags: Option<String>,
    /// ICMP type or type/code.
    #[arg(long, value_name = "TYPE")]
    icmp: Option<String>,
    /// ICMPv6 type or type/code.
    #[arg(long, value_name = "TYPE")]
    icmpv6: Option<String>,
    /// State; without, the live flow's, or new.
    #[arg(long, value_name = "STATE")]
    ct: Option<String>,
    /// original or reply.
    #[arg(long, value_name = "DIRECTION")]
    ct_dir: Option<String>,
    /// The helper that announced the flow.
    #[arg(long, value_name = "HELPER")]
    ct_helper: Option<String>,
    /// Mark of the flow.
    #[arg(long, value_name = "MARK")]
    ct_mark: Option<String>,
    /// Mark of the packet.
    #[arg(long)]
    mark: Option<String>,
    /// Length of the IP packet in bytes.
    #[arg(long, value_name = "BYTES")]
    length: Option<String>,
    /// TTL or hop limit.
    #[arg(long)]
    ttl: Option<String>,
    /// Differentiated services code point, by name or number.
    #[arg(long)]
    dscp: Option<String>,
    /// It is a fragment other than the first.
    #[arg(long)]
    fragment: bool,
}

impl PacketArgs {
    /// By the keys of a policy's test.
    fn keys(&self) -> BTreeMap<String, Value> {
        let given = [
            ("in", &self.ingress),
            ("out", &self.out),
            ("src", &self.src),
            ("dst", &self.dst),
            ("family", &self.family),
            ("proto", &self.proto),
            ("sport", &self.sport),
            ("dport", &self.dport),
            ("tcp_flags", &self.tcp_flags),
            ("icmp", &self.icmp),
            ("icmpv6", &self.icmpv6),
            ("ct", &self.ct),
            ("ct_dir", &self.ct_dir),
            ("ct_helper", &self.ct_helper),
            ("ct_mark", &self.ct_mark),
            ("mark", &self.mark),
            ("length", &self.length),
            ("ttl", &self.ttl),
            ("dscp", &self.dscp),
        ];
        let value = |text: &String| match text.parse::<u64>() {
            Ok(number) => Value::from(number),
            Err(_) => Value::from(text.as_str()),
        };
        let given = given.into_iter().filter_map(|(key, text)| Some((key.to_owned(), value(text.as_ref()?))));
        given.chain(self.fragment.then(|| ("fragment".to_owned(), Value::from(true)))).collect()
    }
}

/// Asks and prints.
pub(crate) async fn explain(client: &Client, args: &ExplainArgs, json: bool) -> Outcome {
    let packet = args.packet.keys();
    let told = match &args.policy {
        Some(policy) => offline(policy, args.config.as_deref(), &packet)?,
        None => {
            let request = ExplainRequest { packet };
            client.post("/v1/explain", &request).await?.map_err(|e| refused(&e))?
        }
    };
    if json {
        return print_json(&told);
    }
    lines(&told, args.matched).iter().try_for_each(|line| print_line(line))
}

fn offline(
    path: &Path,
    config: Option<&Path>,
    packet: &BTreeMap<String, Value>,
) -> Result<Explanation, Failure> {
    let refused = |found: Diagnostics| {
        found.iter().for_each(|d| eprintln!("{d}"));
        Failure::No(Some("nothing to explain".into()))
    };
    let text = serde_json::to_string(packet).map_err(|e| Failure::CouldNotAsk(e.to_string()))?;
    let packet = TestPacket::parse("packet", &text).map_err(refused)?;
    let system = config.map(System::load).transpose().map_err(refused)?.map(|(system, _)| system);
    let known = system.as_ref().map(System::interface_names);
    let (mut policy, _) = Policy::load(path, known.as_ref()).map_err(refused)?;
    // Names that the packet alone has are names too, where there is no system file to know them.
    policy.tests.push(sluice_config::policy::PolicyTest {
        name: "explain".into(),
        packet: packet.clone(),
        expect: sluice_config::policy::TestVerdict::Accept,
        rule: None,
        span: sluice_config::Span::default(),
    });
    let names = system.as_ref().map_or_else(|| Names::as_given(&policy), Names::of);
    let compiled = sluice_compiler::compile(&policy, &names, 1).map_err(refused)?;
    let around = system.as_ref().map(Surroundings::new);
    let as_given: Interfaces = topology::as_given(&names, None);
    let explain = Explain {
        ruleset: &compiled.ruleset,
        names: &names,
        interfaces: around.as_ref().map_or(&as_given, |around| &around.interfaces),
        fib: around.as_ref().map(|around| &around.fib),
    };
    explain.packet(&packet, None).map_err(|why| Failure::No(Some(why)))
}

fn lines(told: &Explanation, matched: bool) -> Vec<String> {
    let mut out = vec![told.packet.clone()];
    for step in &told.steps {
        match step {
            Step::Chain(chain) => chain_lines(chain, matched, &mut out),
            Step::Track { state, flow } => {
                out.push(format!("tracked: {state}"));
                out.extend(flow.iter().map(|flow| format!("    {flow}")));
            }
            Step::Nat { what } => out.push(format!("translated: {what}")),
            Step::Route { way, out: interface, via } => {
                let interface = interface.as_ref().map(|name| format!(", out by {name}")).unwrap_or_default();
                let via = via.as_ref().map(|via| format!(" via {via}")).unwrap_or_default();
                out.push(format!("routed: {way}{interface}{via}"));
            }
        }
    }
    out.push(format!("verdict: {}, by {}", told.verdict, told.by));
    out.extend(told.notes.iter().map(|note| format!("# {note}")));
    out
}

fn chain_lines(chain: &ExplainedChain, matched: bool, out: &mut Vec<String>) {
    let policy = if chain.policy { ", by its policy" } else { "" };
    out.push(format!("{}.{}: {}{policy}", chain.table, chain.chain, chain.decision));
    for rule in chain.rules.iter().filter(|rule| rule.matched || !matched) {
        let name = rule.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        let mark = if rule.matched { "yes" } else { "no " };
        out.push(format!("    {mark} {} {}{name}: {}", rule.chain, rule.index, rule.text));
        if !rule.matched {
            out.push(format!("        {}", why(rule)));
        }
    }
    if chain.left_out > 0 && !matched {
        out.push(format!("    and {} more that did not match", chain.left_out));
    }
}

/// The matches that did not hold, with what the packet has.
fn why(rule: &ExplainedRule) -> String {
    let one = |asked: &ExplainedMatch| {
        let not = if asked.negated { "not." } else { "" };
        match &asked.has {
            Some(has) => format!("{not}{} is {has}", asked.field),
            None => format!("{not}{}: the packet has none", asked.field),
        }
    };
    rule.asked.iter().filter(|asked| !asked.holds).map(one).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_did_not_match_says_what_the_packet_has() {
        let asked = |field: &str, negated, holds, has: Option<&str>| ExplainedMatch {
            field: field.into(),
            negated,
            holds,
            has: has.map(str::to_owned),
        };
        let rule = ExplainedRule {
            chain: "forward".into(),
            index: 3,
            text: "dport: 80, action: accept".into(),
            asked: vec![
                asked("in", false, true, Some("lan")),
                asked("dport", false, false, None),
                asked("src", true, false, Some("10.0.0.1")),
            ],
            ..ExplainedRule::default()
        };
        let chain = ExplainedChain {
            table: "filter".into(),
            chain: "forward".into(),
            rules: vec![rule],
            left_out: 2,
            decision: "drop".into(),
            policy: true,
        };
        let told = Explanation {
            packet: "p".into(),
            steps: vec![Step::Chain(chain)],
            verdict: "drop".into(),
            by: "x".into(),
            notes: vec![],
        };
        let expected = [
            "p",
            "filter.forward: drop, by its policy",
            "    no  forward 3: dport: 80, action: accept",
            "        dport: the packet has none; not.src is 10.0.0.1",
            "    and 2 more that did not match",
            "verdict: drop, by x",
        ];
        assert_eq!(lines(&told, false), expected);
        assert_eq!(lines(&told, true).len(), 3);
    }
}
