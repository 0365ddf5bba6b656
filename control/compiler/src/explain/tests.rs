//! Explanations as lines, of a router with two links.

use sluice_config::{Policy, System};

use super::*;
use crate::{Surroundings, check};

const SYSTEM: &str = "
interfaces:
  lan: {device: \"kernel:e1\", addresses: [10.0.0.1/24]}
  wan: {device: \"kernel:e2\", addresses: [192.0.2.1/24]}
routes: [{to: 198.51.100.0/24, via: 192.0.2.254}]
policy: p.yaml
state: s
";

/// Each step in a line, rules with what did not hold, then the verdict.
fn lines(policy: &str, packet: &str) -> Vec<String> {
    let (system, _) = System::parse("s.yaml", SYSTEM).unwrap();
    let (policy, _) = Policy::parse("p.yaml", policy, Some(&system.interface_names())).unwrap();
    let compiled = check(&policy, Some(&system), 1).unwrap();
    let around = Surroundings::new(&system);
    let names = Names::of(&system);
    let (interfaces, fib) = (&around.interfaces, Some(&around.fib));
    let explain = Explain { ruleset: &compiled.ruleset, names: &names, interfaces, fib };
    let packet = TestPacket::parse("packet", packet).unwrap();
    let told = explain.packet(&packet, None).unwrap();
    let mut lines = Vec::new();
    for step in &told.steps {
        match step {
            Step::Chain(chain) => {
                for rule in &chain.rules {
                    let failed = rule.asked.iter().filter(|asked| !asked.holds);
                    let why: Vec<String> = failed
                        .map(|asked| format!("{} {}", asked.field, asked.has.as_deref().unwrap_or("-")))
                        .collect();
                    let why = if rule.matched { "matched".to_owned() } else { why.join(", ") };
                    lines.push(format!("{}.{} {}: {why}", rule.table, rule.chain, rule.index));
                }
                lines.push(format!("{}.{} {}", chain.table, chain.chain, chain.decision));
            }
            Step::Track { state, .. } => lines.push(state.clone()),
            Step::Nat { what } => lines.push(what.clone()),
            Step::Route { way, out, via } => lines.push(format!("{way} {out:?} {via:?}")),
        }
    }
    lines.push(format!("{} by {}", told.verdict, told.by));
    lines
}

#[test]
fn each_rule_says_which_of_its_matches_did_not_hold() {
    let policy = "
sets: {m: {type: net, elements: [10.0.0.7]}}
chains:
  web:
    - {src: '@m', action: drop}
    - {not: {dport: [80, 443]}, action: return}
    - {action: accept, name: web}
filter:
  forward:
    policy: drop
    rules:
      - {in: wan, proto: udp, action: accept}
      - {icmp: 8, action: accept}
      - {tcp_flags: syn/syn, ct: new, dst: 198.51.100.0/24, action: {jump: web}}
";
    let packet = "{in: lan, src: 10.0.0.2, dst: 198.51.100.9, proto: tcp, dport: 80}";
    assert_eq!(
        lines(policy, packet),
        [
            "new",
            "forward Some(\"wan\") Some(\"192.0.2.254\")",
            "filter.forward 1: in lan, proto tcp",
            "filter.forward 2: proto tcp, icmp -",
            "filter.forward 3: matched",
            "chains.web 1: src 10.0.0.2",
            "chains.web 2: dport 80",
            "chains.web 3: matched",
            "filter.forward accept",
            "accept by rule web in line 7 at filter.forward (chain web)",
        ]
    );
    let last = |packet| lines(policy, packet).pop().unwrap();
    assert_eq!(
        last("{in: lan, dst: 203.0.113.1, proto: udp}"),
        "drop by the routing table: no route to 203.0.113.1"
    );
    assert_eq!(last("{in: lan, dst: 198.51.100.9, proto: udp}"), "drop by the policy of filter.forward");
    assert_eq!(last("{in: lan, dst: 192.0.2.1, proto: udp}"), "accept by the policy of filter.input");
}

#[test]
fn tracking_and_translation_are_steps_of_their_own() {
    let policy = "
raw: {prerouting: [{dport: 53, action: notrack}]}
nat:
  prerouting: [{in: wan, proto: tcp, dport: 8080, action: {dnat: '10.0.0.9:80'}}]
  postrouting: [{out: wan, action: masquerade}]
filter: {forward: {policy: drop, rules: [{dst: 10.0.0.9, dport: 80, action: accept}, {out: wan, action: accept}]}}
";
    let steps = lines(policy, "{in: wan, src: 198.51.100.9, dst: 192.0.2.1, proto: tcp, dport: 8080}");
    assert_eq!(
        steps[1..],
        [
            "raw.prerouting accept",
            "new",
            "nat.prerouting 1: matched",
            "nat.prerouting translate",
            "destination becomes 10.0.0.9, port 80",
            "forward Some(\"lan\") None",
            "filter.forward 1: matched",
            "filter.forward accept",
            "nat.postrouting 1: out lan",
            "nat.postrouting accept",
            "accept by rule in line 6 at filter.forward",
        ]
    );
    let steps = lines(policy, "{in: lan, src: 10.0.0.2, dst: 198.51.100.9, proto: udp, dport: 53}");
    assert!(
        steps.contains(&"untracked".to_owned()) && !steps.iter().any(|step| step.starts_with("nat")),
        "{steps:?}"
    );
    let steps = lines(policy, "{in: lan, src: 10.0.0.2, dst: 198.51.100.9, proto: udp, dport: 5}");
    assert!(steps.contains(&"source becomes 192.0.2.1".to_owned()), "{steps:?}");
}
