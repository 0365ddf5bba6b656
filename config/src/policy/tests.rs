//! The policy file: the contract's sample, what its words mean, and a table of what is refused and where.

use sluice_wire::{Family, Protocol};

use super::*;
use crate::diagnostics::Diagnostic;

/// As in the contract (PRODUCT.md), word for word, but for the set file, which is empty there.
const SAMPLE: &str = r#"zones: {inside: [lan0, lan1], outside: [wan]} # groups of interfaces; `in:` and `out:` take either
sets:
  mgmt:    {type: net, elements: [192.0.2.0/24, "2001:db8:5::/48"]}
  torrent: {type: port, elements: [33333, 6881-6889]}
  drop:    {type: net, file: lists/drop.txt}  # one element a line, `#` comments
chains:                                       # user chains
  tcp_in:
    - {dport: 22, src: "@mgmt", action: accept, name: ssh}
    - {dport: "@torrent", action: accept}
raw:                                          # before tracking, every packet
  prerouting:
    - {dport: "@torrent", action: notrack}    # both directions, or the replies would be tracked
    - {sport: "@torrent", action: notrack}
    # a router that tracks only what concerns itself: [{to: [local, broadcast, multicast], action: accept}, {action: notrack}];
    # for a service on the box itself: the same pair in raw.output too
mangle:                                       # after tracking, before NAT: helpers, marks
  prerouting:
    - {in: inside, proto: tcp, dport: 21, ct: new, action: {helper: ftp}}  # never assigned by itself
nat:
  prerouting:
    - {in: wan, proto: tcp, dport: 8080, action: {dnat: "10.0.0.9:80"}}
  postrouting:
    - {out: outside, src: 10.0.0.0/24, action: masquerade}
filter:
  input:
    policy: drop
    rules:
      - {ct: [established, related], action: accept}
      - {ct: invalid, action: drop}
      - {proto: tcp, tcp_flags: "syn/fin,syn,rst,ack", ct: new, action: {jump: tcp_in}}
  forward: {policy: accept, rules: []}
tests:                                        # run by `sluice check` and before every `apply`
  - {name: ssh from mgmt, packet: {in: lan0, src: 192.0.2.7, dst: 10.0.0.1, proto: tcp, dport: 22}, expect: accept, rule: ssh}
"#;

fn source(text: &str, files: &[(&str, &str)]) -> PolicySource {
    let files = files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect();
    PolicySource { name: "policy.yaml".into(), text: text.into(), files }
}

fn names() -> InterfaceNames {
    InterfaceNames::new(["lan0", "lan1", "wan"].map(String::from))
}

fn read(text: &str) -> (Policy, Diagnostics) {
    Policy::parse("policy.yaml", text, Some(&names())).unwrap_or_else(|e| panic!("{e}"))
}

/// The only rule of a policy whose `filter.forward` is one rule.
fn rule(text: &str) -> Rule {
    let (policy, _) = read(&format!("filter: {{forward: [{text}]}}"));
    policy.hooks[0].rules[0].clone()
}

/// A finding without its file: `line:col: message / hint`.
fn brief(d: &Diagnostic) -> String {
    let hint = d.hint.as_ref().map(|hint| format!(" / {hint}")).unwrap_or_default();
    let place = if d.line > 0 { format!("{}:{}: ", d.line, d.column) } else { String::new() };
    format!("{place}{}{hint}", d.message)
}

fn errors(text: &str) -> Vec<String> {
    let found = Policy::parse("policy.yaml", text, Some(&names())).expect_err(text);
    found.iter().map(brief).collect()
}

#[test]
fn the_contracts_sample_loads() {
    let sample = source(SAMPLE, &[("lists/drop.txt", "# none yet\n198.51.100.0/24 # a bad one\n\n")]);
    let (policy, warnings) = Policy::from_source(&sample, Some(&names())).unwrap_or_else(|e| panic!("{e}"));
    assert!(warnings.is_empty(), "{warnings}");
    assert_eq!(policy.zones["inside"].interfaces[1].value, "lan1");
    assert_eq!(policy.sets["drop"].elements.len(), 1);
    assert_eq!(policy.source, sample);
    let order: Vec<_> = policy.hooks.iter().map(|chain| (chain.table, chain.hook)).collect();
    let expected = [
        (Table::Raw, Hook::Prerouting),
        (Table::Mangle, Hook::Prerouting),
        (Table::Nat, Hook::Prerouting),
        (Table::Nat, Hook::Postrouting),
        (Table::Filter, Hook::Input),
        (Table::Filter, Hook::Forward),
    ];
    assert_eq!(order, expected);
    assert_eq!(policy.chains["tcp_in"].used_by, [(Table::Filter, Hook::Input)]);
    let input = policy.hook(Table::Filter, Hook::Input).unwrap();
    assert_eq!(input.policy, ChainPolicy::Drop);
    assert_eq!(input.rules[2].matches.tcp_flags, Some(TcpFlagsMatch { set: 2, mask: 0x17 }));
    assert_eq!(input.rules[2].span, Span::new(30, 9));
    let nat = policy.hook(Table::Nat, Hook::Prerouting).unwrap();
    let Action::Dnat(target) = nat.rules[0].action.value else { panic!() };
    assert_eq!(target.addr.unwrap().first().to_string(), "10.0.0.9");
    assert_eq!(target.ports, Some(PortRange { first: 80, last: 80 }));
    let mangle = &policy.hook(Table::Mangle, Hook::Prerouting).unwrap().rules[0];
    let interfaces = policy.interfaces(mangle.matches.in_interface.as_ref().unwrap());
    assert_eq!(interfaces.into_iter().collect::<Vec<_>>(), ["lan0", "lan1"]);
    assert_eq!(policy.tests[0].rule.as_ref().unwrap().value, "ssh");
}

#[test]
fn matches_take_one_value_or_a_list() {
    let m = rule(
        "{proto: [tcp, 17, IPv6-ICMP], length: [40-60, 1500], dscp: ef, ct_mark: 0x10/0xf0, action: drop}",
    )
    .matches;
    assert_eq!(m.proto, Some(vec![Protocol::TCP, Protocol::UDP, Protocol::ICMPV6]));
    let range = |first, last| NumberRange { first, last };
    assert_eq!(m.length, Some(vec![range(40, 60), range(1500, 1500)]));
    assert_eq!(m.dscp, Some(vec![range(46, 46)]));
    assert_eq!(m.ct_mark, Some(vec![MarkMatch { value: 16, mask: 0xf0 }]));
    let m = rule("{src: 10.0.0.5/8, dst: 192.0.2.1-192.0.2.9, action: drop}").matches;
    let AddrMatch::Prefix(prefix) = m.src.unwrap()[0].value else { panic!() };
    assert_eq!(prefix.to_string(), "10.0.0.0/8");
    let AddrMatch::Range(range) = m.dst.unwrap()[0].value else { panic!() };
    assert_eq!(range.to_string(), "192.0.2.1-192.0.2.9");
    let m = rule("{limit: {rate: 10/second, burst: 20, per: src}, fragment: no, action: accept}").matches;
    assert_eq!(
        (m.limit.unwrap().burst, m.limit.unwrap().per, m.fragment),
        (20, Some(LimitPer::Src), Some(false))
    );
    assert_eq!(
        rule("{tcp_flags: none/all, action: drop}").matches.tcp_flags,
        Some(TcpFlagsMatch { set: 0, mask: 255 })
    );
    let m = rule("{ct_orig: {dst: 192.0.2.1, dport: 80}, not: {src: 10.0.0.0/8}, action: drop}");
    assert!(m.unwanted().src.is_some() && m.matches.ct_orig.unwrap().dport.is_some());
}

#[test]
fn icmp_goes_by_name_and_number() {
    let kinds = |text: &str| {
        let list = rule(&format!("{{icmp: {text}, action: accept}}")).matches.icmp.unwrap();
        list.iter().map(|m| (m.kind, m.code)).collect::<Vec<_>>()
    };
    assert_eq!(kinds("[echo-request, 3/1, 11]"), [(8, None), (3, Some(1)), (11, None)]);
    assert_eq!(kinds("destination-unreachable/host-unreachable"), [(3, Some(1))]);
    assert_eq!(kinds("[fragmentation-needed, ping]"), [(3, Some(4)), (8, None)]);
    let v6 = rule("{icmpv6: [nd-neighbor-solicit, 1/4], action: accept}").matches.icmpv6.unwrap();
    assert_eq!(v6, [IcmpMatch { kind: 135, code: None }, IcmpMatch { kind: 1, code: Some(4) }]);
}

#[test]
fn rejects_take_every_form() {
    let reject = |text: &str| match rule(&format!("{{action: {text}}}")) {
        Rule { action: Spanned { value: Action::Reject(reject), .. }, matches, .. } => {
            (reject.icmp_code(), reject.icmpv6_code(), matches.family, matches.proto)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(reject("reject"), (Some(3), Some(4), None, None));
    assert_eq!(reject("{reject: no-route}"), (Some(0), Some(0), None, None));
    assert_eq!(reject("{reject: admin-prohibited}"), (Some(13), Some(1), None, None));
    assert_eq!(reject("{reject: host-unreachable}"), (Some(1), Some(3), None, None));
    assert_eq!(reject("{reject: tcp-reset}"), (None, None, None, Some(vec![Protocol::TCP])));
    assert_eq!(reject("{reject: {icmp: net-unreachable}}"), (Some(0), None, Some(vec![Family::V4]), None));
    assert_eq!(reject("{reject: {icmpv6: addr-unreachable}}"), (None, Some(3), Some(vec![Family::V6]), None));
}

#[test]
fn translations_take_short_and_long_forms() {
    let target = |text: &str| {
        let text = format!("nat: {{prerouting: [{{proto: tcp, action: {{dnat: {text}}}}}]}}");
        let (policy, _) = read(&text);
        let Action::Dnat(NatTarget { addr, ports, prefix, .. }) = policy.hooks[0].rules[0].action.value
        else {
            panic!()
        };
        let show = |o: Option<String>| o.unwrap_or("-".into());
        if let Some(prefix) = prefix {
            return prefix.to_string();
        }
        format!("{} {}", show(addr.map(|a| a.to_string())), show(ports.map(|p| p.to_string())))
    };
    assert_eq!(target("10.0.0.9"), "10.0.0.9-10.0.0.9 -");
    assert_eq!(target("'10.0.0.9:80'"), "10.0.0.9-10.0.0.9 80");
    assert_eq!(target("'10.0.0.8-10.0.0.9:80-90'"), "10.0.0.8-10.0.0.9 80-90");
    assert_eq!(target("'2001:db8::80'"), "2001:db8::80-2001:db8::80 -");
    assert_eq!(target("'[2001:db8::1]:80'"), "2001:db8::1-2001:db8::1 80");
    assert_eq!(target("{to: 10.0.0.8-10.0.0.9, port: 1-2}"), "10.0.0.8-10.0.0.9 1-2");
    assert_eq!(target("{port: 8080}"), "- 8080");
    assert_eq!(target("{prefix: 10.9.0.0/16}"), "10.9.0.0/16");
    let (policy, _) = read(
        "nat: {postrouting: [{action: masquerade}, {proto: tcp, action: {masquerade: {port: 1024-2048}}}]}",
    );
    assert_eq!(policy.hooks[0].rules[0].action.value, Action::Masquerade(Masquerade::default()));
    let ports = Some(PortRange { first: 1024, last: 2048 });
    let masquerade = Action::Masquerade(Masquerade { ports, ..Masquerade::default() });
    assert_eq!(policy.hooks[0].rules[1].action.value, masquerade);
    let (policy, _) = read("nat: {output: [{proto: tcp, dport: 80, action: {redirect: 3128}}]}");
    let ports = PortRange { first: 3128, last: 3128 };
    assert_eq!(policy.hooks[0].rules[0].action.value, Action::Redirect(Some(ports)));
}

/// Each text has this one error, at this place.
fn refused(cases: Vec<(String, &str)>) {
    let mut wrong = String::new();
    for (text, expected) in cases {
        let found = errors(&text);
        if found != [expected] {
            wrong += &format!("{text}\n  expected {expected:?}\n  found {found:?}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn forward(rule: &str) -> String {
    format!("filter: {{forward: [{rule}]}}")
}

#[test]
fn wrong_shapes_keys_and_actions_are_refused_and_placed() {
    refused(vec![
        ("".into(), "the file is empty; write `{}` if that is meant"),
        ("fitler: {}".into(), "1:1: unknown key `fitler` in the policy file / did you mean `filter`?"),
        ("filter: {forwrd: []}".into(), "1:10: `filter` has no chain `forwrd` / did you mean `forward`?"),
        ("raw: {input: []}".into(), "1:7: `raw` has no chain `input` / it has prerouting, output"),
        (
            "filter: {input: {policy: deny}}".into(),
            "1:26: `policy` must be one of `accept`, `drop`, not `deny`",
        ),
        (forward("5"), "1:20: a rule must be a map, not a single value"),
        (forward("{}"), "1:20: a rule needs `action`"),
        (
            forward("{dprot: 5, action: accept}"),
            "1:21: unknown key `dprot` in a rule / did you mean `dport`?",
        ),
        (forward("{action: acept}"), "1:29: unknown action `acept` / did you mean `accept`?"),
        (forward("{action: jump}"), "1:29: `jump` needs a value: {jump: …}"),
        (forward("{action: {drop: true}}"), "1:30: `drop` takes no value; write `action: drop`"),
        (forward("{action: {mark: 1, log: {}}}"), "1:39: one action a rule: `log` is a second one"),
        (forward("{action: {jump: nowhere}}"), "1:36: unknown chain `nowhere`"),
    ]);
}

#[test]
fn wrong_values_of_matches_are_refused_and_placed() {
    refused(vec![
        (
            forward("{src: 10.0.0.0/33, action: drop}"),
            "1:26: `10.0.0.0/33` has no valid prefix length (0 to 32)",
        ),
        (forward("{src: example.com, action: drop}"), "1:26: `example.com` is no IP address"),
        (forward("{src: 10.0.0.9-10.0.0.1, action: drop}"), "1:26: range `10.0.0.9-10.0.0.1` runs backwards"),
        (forward("{src: '@nets', action: drop}"), "1:26: unknown set `nets`"),
        (forward("{src: [], action: drop}"), "1:26: `src` is an empty list"),
        (
            forward("{dport: 65536, action: drop}"),
            "1:28: `65536` is no port (0 to 65535) and no range of ports",
        ),
        (
            forward("{proto: tpc, action: drop}"),
            "1:28: `tpc` is no protocol's name and no number from 0 to 255 / did you mean `tcp`?",
        ),
        (
            forward("{in: lan9, action: drop}"),
            "1:25: unknown interface or zone `lan9` / did you mean `lan0`?",
        ),
        (
            forward("{ct: establishd, action: drop}"),
            "1:25: `ct` must be one of `new`, `established`, `related`, `invalid`, `untracked`, `snat`, `dnat`, not `establishd` / did you mean `established`?",
        ),
        (
            forward("{tcp_flags: syn, action: drop}"),
            "1:32: `syn` must be \"set/mask\", such as \"syn/fin,syn,rst,ack\"",
        ),
        (
            forward("{tcp_flags: syn/ack, action: drop}"),
            "1:32: `syn/ack` can never hold: a flag is set that the mask leaves out",
        ),
        (forward("{icmp: echo, action: drop}"), "1:27: `echo` is no ICMP type"),
        (
            forward("{icmp: echo-requst, action: drop}"),
            "1:27: `echo-requst` is no ICMP type / did you mean `echo-request`?",
        ),
        (
            forward("{limit: 5, action: drop}"),
            "1:28: `5` is no rate; write it as 10/second (or minute, hour, day)",
        ),
        (
            forward("{ct_mark: 3/1, action: drop}"),
            "1:30: `3/1` has bits set in the value that the mask leaves out",
        ),
        (forward("{fragment: maybe, action: drop}"), "1:31: `fragment` must be true or false, not `maybe`"),
        (
            forward("{ttl: 256, action: drop}"),
            "1:26: `ttl` must be a number or a range from 0 to 255, not `256`",
        ),
        (forward("{not: {action: drop}, action: drop}"), "1:27: unknown key `action` in `not`"),
    ]);
}

#[test]
fn wrong_matches_that_cannot_go_together_are_refused_and_placed() {
    refused(vec![
        (
            forward("{proto: udp, tcp_flags: syn/all, action: drop}"),
            "1:33: `tcp_flags` and `proto` can never hold together: no protocol has both",
        ),
        (
            forward("{icmp: 8, proto: tcp, action: drop}"),
            "1:21: `icmp` and `proto` can never hold together: no protocol has both",
        ),
        (
            forward("{icmpv6: 128, family: ipv4, action: drop}"),
            "1:21: `icmpv6` and `family` can never hold together: they are of different address families",
        ),
        (
            forward("{dport: 5, proto: icmp, action: drop}"),
            "1:21: `dport` and `proto` can never hold together: no protocol has both",
        ),
        (
            forward("{src: 10.0.0.1, dst: 'fd00::1', action: drop}"),
            "1:36: `dst` and `src` can never hold together: they are of different address families",
        ),
        (
            forward("{dport: 5, not: {proto: [tcp, udp, udplite, sctp, dccp]}, action: drop}"),
            "1:31: `not` and `dport` can never hold together: no protocol has both",
        ),
        (
            forward("{proto: icmp, not: {dport: 5}, action: drop}"),
            "1:34: `not` and `proto` can never hold together: no protocol has both",
        ),
        (
            forward("{ct: untracked, ct_status: assured, action: drop}"),
            "1:36: `ct_status` and `ct` can never hold together: an invalid or untracked packet has no flow",
        ),
        (
            forward("{fragment: true, dport: 5, action: drop}"),
            "1:37: `dport` and `fragment` can never hold together: a later fragment has no such header",
        ),
        (
            forward("{proto: udp, action: {reject: tcp-reset}}"),
            "1:42: a TCP reset can answer `proto: tcp` only",
        ),
        (
            forward("{family: ipv6, action: {reject: {icmp: net-unreachable}}}"),
            "1:35: `action` and `family` can never hold together: they are of different address families",
        ),
        (
            forward("{action: {reject: {icmp: addr-unreachable}}}"),
            "1:45: `icmp` must be one of `net-unreachable`, `host-unreachable`, `prot-unreachable`, `port-unreachable`, `net-prohibited`, `host-prohibited`, `admin-prohibited`, not `addr-unreachable` / did you mean `net-unreachable`?",
        ),
    ]);
}

#[test]
fn wrong_rules_in_the_wrong_place_are_refused_and_placed() {
    refused(vec![
        (
            forward("{action: notrack}"),
            "1:29: `notrack` is not allowed in filter.forward / it belongs into raw, before tracking",
        ),
        (
            forward("{action: masquerade}"),
            "1:29: `masquerade` is not allowed in filter.forward / it belongs into nat.postrouting",
        ),
        (
            forward("{action: {helper: ftp}}"),
            "1:30: `helper` is not allowed in filter.forward / it belongs into raw or mangle",
        ),
        (
            "nat: {prerouting: [{action: {snat: 10.0.0.1}}]}".into(),
            "1:30: `snat` is not allowed in nat.prerouting / it belongs into nat.postrouting",
        ),
        (
            "chains: {a: [{action: notrack}]}\nfilter: {input: [{action: {jump: a}}]}".into(),
            "1:23: `notrack` is not allowed in filter.input / it belongs into raw, before tracking",
        ),
        (
            "filter: {input: [{out: wan, action: drop}]}".into(),
            "1:24: `out` is not known in filter.input: the route is not chosen, or local",
        ),
        (
            "filter: {output: [{in: wan, action: drop}]}".into(),
            "1:24: `in` is not known in filter.output: the packet came from the router itself",
        ),
        ("chains: {a: [{action: {jump: b}}], b: [{action: {goto: a}}]}".into(), "1:56: jump loop: a → b → a"),
        ("chains: {a: [{action: {jump: a}}]}".into(), "1:30: jump loop: a → a"),
        ("chains: {a: {policy: drop, rules: []}}".into(), "1:14: unknown key `policy` in chain `a`"),
    ]);
}

#[test]
fn wrong_sets_zones_names_and_tests_are_refused_and_placed() {
    refused(vec![
        ("sets: {a: {type: net}}".into(), "1:11: set `a` needs `elements` or `file`"),
        ("sets: {a: {type: net, elements: [80]}}".into(), "1:34: `80` is no IP address"),
        (
            "sets: {a: {type: port, elements: [http]}}".into(),
            "1:35: `http` is no port (0 to 65535) and no range of ports",
        ),
        (
            "sets: {a: {type: net, file: /nonexistent}}".into(),
            "1:29: set file `/nonexistent` cannot be read: No such file or directory (os error 2)",
        ),
        (
            "sets: {a: {type: port, elements: [1]}}\nfilter: {input: [{src: '@a', action: drop}]}".into(),
            "2:24: set `a` holds ports, not addresses",
        ),
        (
            "sets: {nets: {type: net, elements: [10.0.0.1]}}\nfilter: {input: [{src: '@net', action: drop}]}"
                .into(),
            "2:24: unknown set `net` / did you mean `nets`?",
        ),
        ("zones: {wan: [lan0]}".into(), "1:9: zone `wan` has the name of an interface"),
        ("zones: {a: [lan7]}".into(), "1:13: unknown interface `lan7` / did you mean `lan0`?"),
        ("zones: {a: [lan0, lan0]}".into(), "1:19: `lan0` is twice in zone `a`"),
        (
            "filter: {input: [{name: a, action: drop}, {name: a, dport: 1, action: drop}]}".into(),
            "1:50: rule name `a` is used twice / the first is at 1:25",
        ),
        ("tests: [{packet: {dport: 1}}]".into(), "1:9: a test needs `expect`"),
        (
            "tests: [{packet: {src: 10.0.0.1, dst: '::1'}, expect: drop}]".into(),
            "1:18: a test's packet mixes IPv4 and IPv6",
        ),
        (
            "zones: {a: [lan0]}\ntests: [{packet: {in: a}, expect: drop}]".into(),
            "2:23: `a` is a zone; a packet comes by one interface",
        ),
        ("tests: [{packet: {}, expect: drop, rule: x}]".into(), "1:42: unknown rule `x`"),
        (
            "filter: {input: [{action: drop}, {action: drop}".into(),
            "2:1: while parsing a flow sequence, expected ',' or ']'",
        ),
    ]);
}

#[test]
fn all_errors_come_at_once_in_order_and_with_the_rules_name() {
    let text = "filter:\n  forward:\n    - {src: x, dport: y, name: one, action: drop}\n    - {action: z}\nzones: {a: [b]}\n";
    let found = Policy::parse("p", text, Some(&names())).unwrap_err();
    let shown: Vec<_> = found.iter().map(|d| (d.line, d.rule.as_deref())).collect();
    assert_eq!(shown, [(3, Some("one")), (3, Some("one")), (4, None), (5, None)]);
}

#[test]
fn errors_of_a_set_file_are_placed_in_it() {
    let text = "sets: {a: {type: net, file: lists/a.txt}}";
    let found = Policy::from_source(&source(text, &[("lists/a.txt", "10.0.0.1\n  10.0.0.300 # ?\n")]), None)
        .unwrap_err();
    let expected = "lists/a.txt:2:3: `10.0.0.300` is no IP address\n      10.0.0.300 # ?\n      ^";
    assert_eq!(found.to_string(), expected);
    let found = Policy::from_source(&source(text, &[]), None).unwrap_err();
    let expected = "1:29: set file `lists/a.txt` cannot be read: it did not come with the policy";
    assert_eq!(found.iter().map(brief).collect::<Vec<_>>(), [expected]);
}

#[test]
fn without_a_system_file_interfaces_are_taken_as_given() {
    let text = "zones: {a: [x]}\nfilter: {forward: [{in: [a, y], action: drop}]}";
    let (policy, _) = Policy::parse("p", text, None).unwrap();
    let matches = policy.hooks[0].rules[0].matches.in_interface.clone().unwrap();
    assert_eq!(matches[0].value, InterfaceMatch::Zone("a".into()));
    assert_eq!(matches[1].value, InterfaceMatch::Interface("y".into()));
}

#[test]
fn what_cannot_do_what_its_author_meant_is_a_warning() {
    let raw = |rules: &str, rest: &str| format!("raw: {{prerouting: [{rules}]}}\n{rest}");
    let both = "{proto: tcp, dport: 80, action: notrack}, {proto: tcp, sport: 80, action: notrack}";
    let one_way = "NOTRACK of one direction only: no rule untracks the answers, which will be tracked";
    let shadowed =
        |at: &str, by: &str| vec![format!("{at}: rule never applies: the one at {by} takes all its packets")];
    let dead = |at: &str, what: &str, by: &str| {
        vec![format!("{at}: {what} for traffic that the rule at {by} marks NOTRACK does nothing")]
    };
    let forward = |rules: &str| format!("filter: {{forward: [{rules}]}}");
    let cases: Vec<(String, Vec<String>)> = vec![
        ("sets: {a: {type: net, elements: []}}".into(), vec!["1:8: set `a` is empty".into()]),
        ("chains: {a: [], b: [{action: {jump: a}}]}".into(), vec![
            "1:10: nothing jumps to chain `a`".into(),
            "1:17: nothing jumps to chain `b`".into(),
        ]),
        (raw("{dport: 80, action: notrack}", ""), vec![format!("1:20: {one_way}")]),
        (raw("{in: wan, action: notrack}", ""), vec![format!("1:20: {one_way}")]),
        (raw("{in: wan, dport: 80, action: notrack}, {in: lan0, sport: 80, action: notrack}", ""), vec![]),
        (raw("{in: [wan, lan0], action: notrack}", ""), vec![]),
        (raw(both, ""), vec![]),
        (raw("{to: [local, broadcast, multicast], action: accept}, {action: notrack}", ""), vec![]),
        ("raw: {prerouting: [{to: local, dport: 53, action: notrack}], output: [{sport: 53, action: notrack}]}".into(), vec![]),
        (raw("{src: 10.0.0.0/8, dst: 192.0.2.1, action: notrack}, {src: 192.0.2.0/24, dst: 10.0.0.0/8, action: notrack}", ""),
            vec![format!("1:72: {one_way}")]),
        (raw("{ct: new, action: accept}", ""), vec!["1:20: rule never applies: in raw no packet has a flow yet".into()]),
        (raw(both, "nat: {prerouting: [{in: wan, proto: tcp, dport: 80, action: {dnat: 10.0.0.9}}]}"), dead("2:20", "NAT", "1:20")),
        (raw(both, "mangle: {prerouting: [{proto: tcp, dport: 80, action: {helper: ftp}}]}"), dead("2:23", "a helper", "1:20")),
        (raw(both, "nat: {prerouting: [{in: wan, proto: tcp, dport: 81, action: {dnat: 10.0.0.9}}]}"), vec![]),
        (raw("{to: local, action: accept}, {action: notrack}", "nat: {postrouting: [{out: wan, action: masquerade}]}"),
            dead("2:21", "NAT", "1:49")),
        (raw("{in: lan0, action: accept}, {action: notrack}", "nat: {postrouting: [{out: wan, action: masquerade}]}"), vec![]),
        ("mangle: {prerouting: [{proto: udp, dport: 21, action: {helper: ftp}}]}".into(),
            vec!["1:23: helper `ftp` is for tcp alone: this rule gives it to no flow".into()]),
        ("mangle: {prerouting: [{icmp: echo-request, action: {helper: sip}}, {proto: [udp, tcp], action: {helper: tftp}}]}".into(),
            vec!["1:23: helper `sip` is for tcp and udp alone: this rule gives it to no flow".into()]),
        ("raw: {prerouting: [{not: {proto: [udp, icmp]}, action: {helper: amanda}}]}".into(),
            vec!["1:20: helper `amanda` is for udp alone: this rule gives it to no flow".into()]),
        (forward("{dport: 80, action: drop}, {proto: tcp, dport: 80, action: accept}"), shadowed("1:47", "1:20")),
        (forward("{action: drop}, {dport: 80, action: accept, name: x}"), shadowed("1:36", "1:20")),
        (forward("{src: 10.0.0.0/8, action: drop}, {src: [10.1.0.0/16, 10.2.0.1-10.2.0.9], action: accept}"), shadowed("1:53", "1:20")),
        (forward("{dport: [1-99, 200], action: drop}, {dport: [200, 5], action: accept}"), shadowed("1:56", "1:20")),
        (forward("{tcp_flags: syn/syn, action: drop}, {tcp_flags: 'syn/syn,ack', action: accept}"), shadowed("1:56", "1:20")),
        (forward("{limit: 1/s, action: accept}, {dport: 80, action: accept}, {action: count}, {dport: 81, action: drop}"), vec![]),
        (forward("{dport: 80, not: {src: 10.0.0.1}, action: drop}, {dport: 80, action: accept}"), vec![]),
        (forward("{not: {src: 10.0.0.1}, action: drop}, {dport: 80, not: {src: 10.0.0.1}, action: accept}"), shadowed("1:58", "1:20")),
        (format!("zones: {{in: [lan0, lan1]}}\n{}", forward("{in: in, action: drop}, {in: lan1, action: accept}")), shadowed("2:44", "2:20")),
    ];
    let mut wrong = String::new();
    for (text, expected) in cases {
        let (_, warnings) = read(&text);
        let found: Vec<String> = warnings.iter().map(brief).collect();
        if found != expected {
            wrong += &format!("{text}\n  expected {expected:?}\n  found {found:?}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn marks_are_taken_over_from_one_to_the_other() {
    let chain = |table: &str, action: &str| format!("{table}: {{prerouting: [{{action: {action}}}]}}");
    let cases = [
        ("{ct_mark: mark}", Action::SaveMark(u32::MAX)),
        ("{ct_mark: mark/0xff}", Action::SaveMark(0xff)),
        ("{mark: ct_mark}", Action::RestoreMark(u32::MAX)),
        ("{mark: ct_mark/0xf0}", Action::RestoreMark(0xf0)),
    ];
    for (text, expected) in cases {
        let (policy, _) =
            Policy::parse("policy.yaml", &chain("mangle", text), None).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(policy.rules().next().map(|rule| rule.action.value.clone()), Some(expected), "{text}");
        let errors = Policy::parse("policy.yaml", &chain("raw", text), None).expect_err(text).to_string();
        assert!(errors.contains("in raw there is no flow yet"), "{errors}");
    }
    for text in ["{ct_mark: mark/}", "{ct_mark: mask}", "{mark: ct_mark/x}", "{mark: mark}"] {
        assert!(Policy::parse("policy.yaml", &chain("mangle", text), None).is_err(), "{text}");
    }
}

#[test]
fn zones_and_timeouts_of_flows() {
    let text = "timeouts: {short: {udp: 5s, tcp: {established: 1h, retrans: 2m}, gre: {replied: 9}}}
raw:
  prerouting:
    - {action: {zone: 5}}
    - {action: {zone: {original: 0xffff}}}
    - {action: {zone: {reply: 7}}}
    - {action: {ct_timeout: short}}
    - {action: {ct_timeout: {udp: {unreplied: 5, replied: 10}}}}
";
    let (policy, _) = Policy::parse("policy.yaml", text, None).unwrap_or_else(|errors| panic!("{errors}"));
    let actions: Vec<_> = policy.rules().map(|rule| rule.action.value.clone()).collect();
    let zones = [CtZone::Both(5), CtZone::Original(0xffff), CtZone::Reply(7)].map(Action::Zone);
    assert_eq!(actions[..3], zones);
    assert_eq!(actions[3], Action::CtTimeout(CtTimeout::Named("short".into())));
    let Action::CtTimeout(CtTimeout::Own(own)) = &actions[4] else { panic!("{:?}", actions[4]) };
    assert_eq!(own.to_string(), "{udp: 5, udp_stream: 10}");
    let short = &policy.timeouts["short"];
    assert_eq!(short.to_string(), "{gre_stream: 9, tcp_established: 3600, tcp_max_retrans: 120, udp: 5}");
    let all = short.over(&crate::system::Timeouts::default());
    assert_eq!((all.udp.as_secs(), all.udp_stream.as_secs(), all.tcp_established.as_secs()), (5, 120, 3600));

    let raw = |action: &str| format!("raw: {{prerouting: [{{action: {action}}}]}}\n");
    let cases = [
        (raw("{zone: 65536}"), "a zone must be a number from 0 to 65535"),
        (raw("{zone: {forward: 5}}"), "unknown key `forward` in `zone`"),
        (raw("{zone: {original: 5, reply: 6}}"), "`zone` takes one of"),
        (raw("zone"), "`zone` needs a value"),
        (raw("{ct_timeout: shrot}"), "unknown timeouts `shrot`"),
        (raw("{ct_timeout: {}}"), "`ct_timeout` gives no timeout"),
        (raw("{ct_timeout: {udp: 5, udp: {unreplied: 6}}}"), "twice"),
        (raw("{ct_timeout: {frag: 5}}"), "unknown key `frag`"),
        (raw("{ct_timeout: {tcp: {establishd: 5}}}"), "did you mean `established`?"),
        ("filter: {input: [{action: {zone: 5}}]}".to_owned(), "`zone` is not allowed in filter.input"),
        ("mangle: {prerouting: [{action: {ct_timeout: {udp: 1}}}]}".to_owned(), "it belongs into raw"),
    ];
    for (text, expected) in cases {
        let text = format!("timeouts: {{short: {{udp: 1}}}}\n{text}");
        let errors = Policy::parse("policy.yaml", &text, None).expect_err(&text).to_string();
        assert!(errors.contains(expected), "{text}\n{errors}");
    }
}

#[test]
fn sources_have_mappings_and_blocks() {
    let of = |action: &str| {
        read(&format!("nat: {{postrouting: [{{action: {action}}}]}}")).0.hooks[0].rules[0].clone()
    };
    let snat = |action: &str| match of(action).action.value {
        Action::Snat(target) => target,
        other => panic!("{other:?}"),
    };
    let target = snat("{snat: {to: 192.0.2.1, mapping: endpoint-independent}}");
    assert_eq!(target.mapping, NatMapping::EndpointIndependent);
    let masquerade = of("{masquerade: {mapping: endpoint-independent}}").action.value;
    assert_eq!(
        masquerade,
        Action::Masquerade(Masquerade { ports: None, mapping: NatMapping::EndpointIndependent })
    );
    let target = snat("{snat: {to: 192.0.2.0/30, blocks: {of: 100.64.0.0/24, size: 1000}}}");
    assert_eq!(target.ports, Some(PortRange { first: 1024, last: 65535 }), "unless given");
    let rule = of("{snat: {to: 192.0.2.0/30, blocks: {of: 100.64.0.0/24, size: 1000}}}");
    let src = rule.matches.src.unwrap();
    assert_eq!(src[0].value, AddrMatch::Range("100.64.0.0/24".parse().unwrap()), "it is for its subscribers");
}

#[test]
fn blocks_that_cannot_be_are_refused() {
    let snat = |fields: &str| format!("nat: {{postrouting: [{{action: {{snat: {{{fields}}}}}}}]}}");
    let src = |src: &str| {
        format!(
            "nat: {{postrouting: [{{src: {src}, action: {{snat: {{to: 192.0.2.0/30, blocks: {{of: 100.64.0.0/24, size: 1000}}}}}}}}]}}"
        )
    };
    for (text, expected) in [
        (
            snat("to: 192.0.2.1, blocks: {of: 100.64.0.0/24, size: 1000}"),
            "256 subscribers get 64 blocks: 1 addresses have 64 of 1000 ports each in 1024-65535, for which 4 addresses are needed",
        ),
        (
            snat("to: 192.0.2.1, port: 1-9, blocks: {of: 100.64.0.0/24, size: 10}"),
            "256 subscribers get 0 blocks: 1 addresses have 0 of 10 ports each in 1-9, and none fits",
        ),
        (
            snat("port: 1-9, blocks: {of: 100.64.0.0/24, size: 10}"),
            "`blocks` needs `to`: the addresses whose ports are dealt out",
        ),
        (
            snat("to: 192.0.2.1, blocks: {of: 'fd00::/120', size: 10}"),
            "`blocks` deal out ports of IPv4 addresses to IPv4 addresses",
        ),
        (
            snat("to: 192.0.2.1, blocks: {of: 10.0.0.0/7, size: 1}"),
            "`blocks` of 33554432 subscribers (limit 16777216)",
        ),
        (snat("to: 192.0.2.1, blocks: {of: 100.64.0.0/24}"), "`blocks` needs `size`"),
        (
            snat("prefix: 192.0.2.0/24, mapping: endpoint-independent"),
            "`snat` has `prefix`, which keeps ports and stands alone",
        ),
        (
            src("100.64.0.0/23"),
            "`blocks` are of 100.64.0.0-100.64.0.255: `src` must lie in it, or be left out",
        ),
    ] {
        let found = errors(&text);
        assert!(found.iter().any(|found| found.contains(expected)), "{text}\n  {found:?}");
    }
    read(&src("100.64.0.128/25"));
}
