//! Policies as text, in and out.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sluice_config::{Policy, System};

use crate::{Compiled, Names, check, compile};

fn policy(text: &str) -> Policy {
    Policy::parse("policy.yaml", text, None).unwrap_or_else(|errors| panic!("{errors}")).0
}

fn checked(text: &str) -> Result<Compiled, String> {
    check(&policy(text), None, 2).map_err(|errors| errors.to_string())
}

/// One rule in `filter.forward`, as `show rules` prints it.
fn shown(rule: &str) -> String {
    let policy = policy(&format!(
        "sets: {{s: {{type: net, elements: [10.0.0.1]}}, p: {{type: port, elements: [1]}}}}\nchains: {{c: []}}\nfilter: {{forward: [{{{rule}}}]}}"
    ));
    let compiled = compile(&policy, &Names::as_given(&policy), 1).unwrap_or_else(|errors| panic!("{errors}"));
    compiled.ruleset.rules()[0].text.clone()
}

const SAMPLE: &str = r#"
zones: {inside: [lan0, lan1], outside: [wan]}
sets:
  mgmt:    {type: net, elements: [192.0.2.0/24, "2001:db8:5::/48"]}
  torrent: {type: port, elements: [33333, 6881-6889]}
chains:
  tcp_in:
    - {dport: 22, src: "@mgmt", action: accept, name: ssh}
    - {dport: "@torrent", action: accept}
raw:
  prerouting:
    - {dport: "@torrent", action: notrack}
    - {sport: "@torrent", action: notrack}
filter:
  input:
    policy: drop
    rules:
      - {ct: [established, related], action: accept}
      - {ct: invalid, action: drop}
      - {proto: tcp, tcp_flags: "syn/fin,syn,rst,ack", ct: new, action: {jump: tcp_in}}
  forward: {policy: accept, rules: []}
tests:
  - {name: ssh from mgmt, packet: {in: lan0, src: 192.0.2.7, dst: 10.0.0.1, proto: tcp, dport: 22}, expect: accept, rule: ssh}
"#;

#[test]
fn the_sample_policy_passes_its_test() {
    let compiled = checked(SAMPLE).unwrap();
    assert_eq!(compiled.tests, 1);
    assert_eq!(compiled.ruleset.rules().len(), 7);
    let ssh = compiled.ruleset.rules().iter().find(|rule| rule.name.as_deref() == Some("ssh")).unwrap();
    assert_eq!((ssh.table, &*ssh.chain, ssh.index, ssh.exported), ("chains", "tcp_in", 1, true));
    assert_eq!(ssh.text, "src: \"@mgmt\", dport: 22, action: accept");
}

#[test]
fn a_failing_test_says_where_and_why() {
    for (test, expected) in [
        (
            "{name: a, packet: {in: lan0, src: 192.0.3.7, dst: 10.0.0.1, proto: tcp, dport: 22}, expect: accept, rule: ssh}",
            "test `a`: expected accept by rule ssh, but the policy of filter.input says drop",
        ),
        (
            "{name: b, packet: {in: lan0, dst: 10.0.0.1, proto: tcp, dport: 22, ct: established}, expect: drop, rule: ssh}",
            "test `b`: expected drop by rule ssh, but at filter.input the rule in line 18 says accept",
        ),
        (
            "{name: c, packet: {in: lan0, src: 192.0.2.7, dst: 10.0.0.1, proto: tcp, dport: 22}, expect: drop, rule: ssh}",
            "test `c`: expected drop by rule ssh, but at filter.input rule ssh in line 8 says accept",
        ),
    ] {
        let errors = checked(&format!("{SAMPLE}  - {test}\n")).unwrap_err();
        assert!(errors.contains(expected), "{errors}");
        assert!(errors.starts_with("policy.yaml:24:5: "), "{errors}");
    }
}

#[test]
fn tests_take_the_way_that_their_words_say() {
    let rules = "filter:\n  input: {policy: drop, rules: [{src: 10.9.0.1, action: reject, name: in}]}\n  \
                 forward: {policy: accept, rules: [{dport: 25, proto: tcp, action: {reject: tcp-reset}, name: mail}]}\n  \
                 output: [{proto: udp, action: drop, name: udp}]\nmangle: {prerouting: [{to: local, dport: 99, action: drop}]}\n";
    for (packet, expect, warning) in [
        ("{in: a, out: b, dst: 10.0.0.1}", "accept", ""),
        ("{in: a, out: b, dst: 10.0.0.1, dport: 25}", "reject, rule: mail", ""),
        ("{in: a, dst: 10.0.0.1, dport: 25}", "reject, rule: mail", ""),
        ("{in: a, src: 10.9.0.1, dst: 10.0.0.1}", "reject, rule: in", ""),
        ("{in: a, dst: 224.0.0.5}", "drop", ""),
        ("{out: b, proto: udp, dport: 53}", "drop, rule: udp", ""),
        ("{out: b, icmp: echo-request}", "accept", ""),
        ("{in: a, dst: 10.0.0.1}", "accept", "unknown whether 10.0.0.1 is the router's own"),
    ] {
        let compiled = checked(&format!("{rules}tests: [{{packet: {packet}, expect: {expect}}}]")).unwrap();
        assert_eq!(compiled.tests, usize::from(warning.is_empty()), "{packet}");
        assert!(compiled.warnings.to_string().contains(warning), "{packet}: {}", compiled.warnings);
    }
}

#[test]
fn a_test_states_whose_helper_announced_its_packet() {
    let rules = "filter: {forward: {policy: drop, rules: [{ct: related, ct_helper: ftp, dport: 1024-65535, action: accept, name: data}]}}\n";
    for (packet, expect) in [
        ("{in: a, out: b, ct_helper: ftp, dport: 2000}", "accept, rule: data"),
        ("{in: a, out: b, ct_helper: ftp, dport: 20}", "drop"),
        ("{in: a, out: b, ct_helper: tftp, dport: 2000}", "drop"),
        ("{in: a, out: b, ct_helper: ftp, ct: established, dport: 2000}", "drop"),
        ("{in: a, out: b, ct: related, dport: 2000}", "drop"),
    ] {
        let compiled = checked(&format!("{rules}tests: [{{packet: {packet}, expect: {expect}}}]"));
        assert_eq!(compiled.unwrap_or_else(|errors| panic!("{packet}: {errors}")).tests, 1);
    }
}

#[test]
fn with_a_system_file_addresses_and_routes_say_the_way() {
    let system = "workers: {count: 1}\ninterfaces:\n  lan: {device: \"kernel:e0\", addresses: [10.0.0.1/24]}\n  \
                  wan: {device: \"kernel:e1\", addresses: [192.0.2.2/24]}\nroutes: [{to: 198.51.100.0/24, via: 192.0.2.1}]\n\
                  policy: /p\nstate: /s\n";
    let system = System::parse("sluice.yaml", system).unwrap_or_else(|errors| panic!("{errors}")).0;
    let rules = "filter:\n  input: {policy: drop}\n  forward: {policy: drop, rules: [{out: wan, action: accept, name: out}]}\n";
    for (packet, expect) in [
        ("{in: lan, dst: 198.51.100.9}", "accept, rule: out"),
        ("{in: lan, dst: 192.0.2.77}", "accept, rule: out"),
        ("{in: wan, dst: 10.0.0.9}", "drop"),
        ("{in: lan, dst: 10.0.0.1}", "drop"),
        ("{in: lan, dst: 10.0.0.255}", "drop"),
        ("{dst: 198.51.100.9}", "accept"),
        ("{in: lan, dst: 203.0.113.1}", "drop"),
    ] {
        let policy = policy(&format!("{rules}tests: [{{packet: {packet}, expect: {expect}}}]"));
        let compiled = check(&policy, Some(&system), 1).unwrap_or_else(|errors| panic!("{packet}: {errors}"));
        assert_eq!(compiled.tests, 1);
    }
}

#[test]
fn each_test_begins_with_full_limits_and_the_workers_too() {
    let policy = "filter: {forward: {policy: drop, rules: [{limit: {rate: 1/day, burst: 1}, action: accept}]}}\n\
                  tests:\n  - {packet: {in: a, out: b}, expect: accept}\n  - {packet: {in: a, out: b}, expect: accept}\n";
    let compiled = checked(policy).unwrap();
    assert_eq!(compiled.tests, 2);
    assert_eq!(compiled.ruleset.rule_counters(sluice_engine::ruleset::RuleId(0)), (0, 0));
}

#[test]
fn what_the_data_plane_cannot_do_is_refused_with_every_place() {
    let errors = checked(
        "raw:\n  output: [{connlimit: {above: 5}, action: drop}]\n  prerouting: [{connlimit: {above: 5}, action: drop}]\n",
    )
    .unwrap_err();
    for expected in [
        "policy.yaml:2:",
        "policy.yaml:3:",
        "connlimit counts flows, which packets in raw do not have yet: it belongs into filter",
    ] {
        assert!(errors.contains(expected), "{expected} not in:\n{errors}");
    }
}

#[test]
fn translations_are_compiled_with_what_they_presuppose() {
    let compiled = checked(
        "nat:\n  prerouting: [{in: wan, dport: 80, action: {dnat: \"10.0.0.9:8080\"}}]\n  postrouting:\n    - {out: wan, action: masquerade, name: hide}\n",
    )
    .unwrap();
    assert!(compiled.ruleset.translates());
    let kinds = [0, 1].map(|n| compiled.ruleset.translation(sluice_engine::ruleset::RuleId(n)).is_some());
    assert_eq!(kinds, [true, true]);
    assert!(checked("nat: {postrouting: []}").unwrap().ruleset.translates(), "an empty chain is one too");
    assert!(!checked("filter: {input: []}").unwrap().ruleset.translates());
}

#[test]
fn tests_of_published_servers_follow_the_translation() {
    let policy = "nat:\n  prerouting: [{in: wan, proto: tcp, dport: 8080, action: {dnat: \"10.0.0.9:80\"}}]\n\
                  filter:\n  forward: {policy: drop, rules: [{dst: 10.0.0.9, dport: 80, ct: dnat, action: accept, name: published}]}\n\
                  tests:\n  - {packet: {in: wan, out: lan, src: 192.0.2.9, dst: 203.0.113.2, proto: tcp, dport: 8080}, expect: accept, rule: published}\n\
                  \x20 - {packet: {in: wan, out: lan, src: 192.0.2.9, dst: 203.0.113.2, proto: tcp, dport: 80}, expect: drop}\n";
    assert_eq!(checked(policy).unwrap().tests, 2);
}

#[test]
fn rules_are_shown_as_they_are_written() {
    for rule in [
        "action: accept",
        "in: lan0, out: [a, b], action: drop",
        "to: local, origin: [broadcast, multicast], action: return",
        "family: ipv6, proto: udp, src: \"2001:db8::/32\", dst: [\"2001:db8::1\", \"@s\"], action: count",
        "proto: tcp, sport: 1024-65535, dport: [22, \"@p\"], action: {reject: tcp-reset}",
        "proto: tcp, tcp_flags: \"syn/fin,syn,rst,ack\", action: {jump: c}",
        "proto: tcp, tcp_flags: \"none/fin,syn\", action: {goto: c}",
        "family: ipv4, action: {reject: {icmp: net-unreachable}}",
        "family: ipv6, action: {reject: {icmpv6: addr-unreachable}}",
        "ct: [new, snat], ct_dir: reply, ct_mark: 7, mark: 0x10/0xf0, action: {ct_mark: 0x1/0xff}",
        "ct_orig: {dst: 10.0.0.1, dport: 80}, ct_status: [assured, seen-reply], action: {mark: 5}",
        "fragment: true, length: 100-200, ttl: 1, dscp: 46, action: reject",
        "limit: {rate: 10/second, burst: 20, per: src}, action: {log: {prefix: \"a b\", limit: 3/minute}}",
        "not: {src: 10.0.0.0/8, in: lan0}, action: {reject: host-unreachable}",
    ] {
        let text = shown(rule);
        let expected = rule.replace("not: {src: 10.0.0.0/8, in: lan0}", "not: {in: lan0, src: 10.0.0.0/8}");
        assert_eq!(text, expected);
    }
}

#[test]
fn nat64_is_shown_with_what_goes_without_saying() {
    let policy = policy("nat: {prerouting: [{in: a, action: {nat64: 192.0.2.1}}]}");
    let compiled = compile(&policy, &Names::as_given(&policy), 1).unwrap_or_else(|errors| panic!("{errors}"));
    let action = "action: {nat64: {to: 192.0.2.1, port: 1024-65535, prefix: \"64:ff9b::/96\"}}";
    let text = &compiled.ruleset.rules()[0].text;
    assert!(text.ends_with(action), "{text}");
    assert_eq!(compiled.ruleset.nat64().len(), 1);
    assert!(compiled.ruleset.lends_endpoints());
}

#[test]
fn translations_are_shown_as_they_are_written() {
    for action in [
        "masquerade",
        "{masquerade: {mapping: endpoint-independent}}",
        "{masquerade: {port: 1024-2048, mapping: endpoint-independent}}",
        "{snat: {to: 192.0.2.1, mapping: endpoint-independent}}",
        "{snat: {to: 192.0.2.0-192.0.2.3, port: 1024-65535, blocks: {of: 100.64.0.0-100.64.0.255, size: 1000}}}",
    ] {
        let policy = policy(&format!("nat: {{postrouting: [{{action: {action}}}]}}"));
        let compiled =
            compile(&policy, &Names::as_given(&policy), 1).unwrap_or_else(|errors| panic!("{errors}"));
        let text = &compiled.ruleset.rules()[0].text;
        assert!(text.ends_with(&format!("action: {action}")), "{text}");
        assert_eq!(compiled.ruleset.lends_endpoints(), action.contains("endpoint"));
    }
}

fn value(key: &'static str) -> BoxedStrategy<String> {
    let some = |list: &'static [&'static str]| prop::sample::select(list).prop_map(str::to_owned).boxed();
    match key {
        "in" | "out" => some(&["a", "b", "z", "[a, z]"]),
        "family" => some(&["ipv4", "ipv6", "[ipv4, ipv6]"]),
        "proto" => some(&["tcp", "udp", "[tcp, udp]", "icmp", "icmpv6", "47"]),
        "src" | "dst" => some(&["10.0.0.0/8", "\"@n\"", "[\"::/0\", 1.2.3.4]", "1.1.1.1-1.1.1.9", "\"@e\""]),
        "sport" | "dport" => some(&["22", "1-5", "\"@p\"", "[1, \"@p\", 7-9]"]),
        "to" | "origin" => some(&["local", "[broadcast, routed]"]),
        "ct" => some(&["new", "[established, related]", "untracked", "snat"]),
        "icmp" | "icmpv6" => some(&["echo-request", "[1, 3/1]"]),
        "tcp_flags" => some(&["\"syn/fin,syn\"", "\"none/all\""]),
        "limit" => some(&["{rate: 1/day}", "{rate: 9/second, burst: 3, per: dst}"]),
        "mark" | "ct_mark" => some(&["1", "[2, 0x10/0xf0]"]),
        "ct_orig" => some(&["{src: 10.0.0.1}", "{dport: 5, dst: \"::/8\"}"]),
        "ct_status" => some(&["assured", "[snat, confirmed]"]),
        _ => some(&["true", "1-5", "reply"]),
    }
}

const KEYS: [&str; 20] = [
    "in",
    "out",
    "family",
    "proto",
    "src",
    "dst",
    "sport",
    "dport",
    "to",
    "origin",
    "ct",
    "icmp",
    "icmpv6",
    "tcp_flags",
    "limit",
    "mark",
    "ct_mark",
    "ct_orig",
    "ct_status",
    "ttl",
];

fn rule() -> impl Strategy<Value = String> {
    let field = prop::sample::select(&KEYS[..]).prop_flat_map(|key| value(key).prop_map(move |v| (key, v)));
    let fields = prop::collection::btree_map(prop::sample::select(&KEYS[..]), Just(()), 0..4);
    let actions = &[
        "accept",
        "drop",
        "reject",
        "return",
        "notrack",
        "count",
        "{jump: c}",
        "{goto: d}",
        "{mark: 1}",
        "{ct_mark: 2}",
        "{log: {prefix: x}}",
        "{reject: tcp-reset}",
        "{reject: {icmp: 1}}",
        "masquerade",
    ];
    let negated = prop::option::of(field);
    let matches = fields.prop_flat_map(|keys| {
        keys.into_keys().map(|key| value(key).prop_map(move |v| format!("{key}: {v}, "))).collect::<Vec<_>>()
    });
    (matches, negated, prop::sample::select(&actions[..])).prop_map(|(matches, negated, action)| {
        let not = negated.map_or(String::new(), |(key, v)| format!("not: {{{key}: {v}}}, "));
        format!("{{{}{not}action: {action}}}", matches.concat())
    })
}

/// Where a rule can be put.
const PLACES: [&str; 8] = [
    "chains c",
    "chains d",
    "raw prerouting",
    "raw output",
    "mangle prerouting",
    "filter input",
    "filter forward",
    "filter output",
];

/// A policy of these rules, each in its place; those that the file's own checks refuse are left out.
fn policy_of(rules: &[(&str, String)]) -> Option<Policy> {
    let mut chains: BTreeMap<&str, Vec<&str>> = PLACES.iter().map(|place| (*place, Vec::new())).collect();
    let mut accepted = None;
    for (place, rule) in rules {
        chains.get_mut(place)?.push(rule);
        let mut text = String::from(PREAMBLE);
        for table in ["chains", "raw", "mangle", "filter"] {
            let own = chains.iter().filter_map(|(place, rules)| Some((place.strip_prefix(table)?, rules)));
            let own = own.map(|(chain, rules)| format!("{chain}: [{}]", rules.join(", ")));
            text += &format!("{table}: {{{}}}\n", own.collect::<Vec<_>>().join(", "));
        }
        match Policy::parse("p", &text, None) {
            Ok((policy, _)) => accepted = Some(policy),
            Err(_) => drop(chains.get_mut(place)?.pop()),
        }
    }
    accepted
}

const PREAMBLE: &str = r#"
zones: {z: [a, b]}
sets:
  n: {type: net, elements: [10.0.0.0/8, "fe80::/10"]}
  e: {type: net, elements: []}
  p: {type: port, elements: [1-9]}
tests:
  - {packet: {in: a, out: b, dst: 10.0.0.1, dport: 22}, expect: drop}
  - {packet: {in: a, icmpv6: 128}, expect: accept}
  - {packet: {src: 1.2.3.4, proto: 47, fragment: true}, expect: accept}
"#;

proptest! {
    #[test]
    fn what_parses_never_panics(
        rules in prop::collection::vec((prop::sample::select(&PLACES[..]), rule()), 1..20),
    ) {
        if let Some(policy) = policy_of(&rules) {
            let _ = check(&policy, None, 1);
        }
    }
}

/// What people start from compiles, passes its own tests, and says nothing.
#[test]
fn the_examples_are_valid_to_the_last_warning() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/examples");
    let mut seen = 0;
    for example in std::fs::read_dir(folder).unwrap() {
        let example = example.unwrap().path();
        let (system, warnings) = System::load(&example.join("sluice.yaml")).unwrap_or_else(|e| panic!("{e}"));
        assert!(warnings.is_empty(), "{warnings}");
        let names = system.interface_names();
        let policy = Policy::load(&example.join("policy.yaml"), Some(&names));
        let (policy, warnings) = policy.unwrap_or_else(|e| panic!("{e}"));
        assert!(warnings.is_empty(), "{warnings}");
        let compiled = check(&policy, Some(&system), 1).unwrap_or_else(|e| panic!("{e}"));
        assert!(
            compiled.warnings.is_empty() && compiled.tests > 0,
            "{}: {}",
            example.display(),
            compiled.warnings
        );
        seen += 1;
    }
    assert!(seen >= 3);
}
