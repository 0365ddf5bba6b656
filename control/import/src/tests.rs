//! Lines and whole rulesets, and what becomes of them.

use std::path::Path;

use super::*;

fn source(format: Format, text: &str) -> Source {
    Source { format, name: "rules".to_owned(), text: text.to_owned() }
}

fn imported(sources: &[Source]) -> Imported {
    let mut options = Options::default();
    options.rename.insert("ppp+".to_owned(), vec!["ppp0".to_owned(), "ppp1".to_owned()]);
    import(sources, &options).unwrap_or_else(|why| panic!("{why}"))
}

/// The rules of a policy, or the first reason why there is none.
fn rules(imported: &Imported) -> String {
    if let Some(finding) = imported.untranslated.first() {
        return format!("refused: {}", finding.reason);
    }
    let rules = imported.policy.lines().filter_map(|line| line.trim().strip_prefix("- "));
    let rules: Vec<&str> = rules.filter(|rule| !rule.contains("no rules for IPv")).collect();
    if rules.is_empty() && !imported.notes.is_empty() { "left out".to_owned() } else { rules.join(" ") }
}

/// A line of a table of iptables that has a chain `own`.
fn line(table: &str, line: &str) -> String {
    let own = "-A own -p tcp -j DROP";
    let own = if line.contains("own") { own } else { "" };
    rules(&imported(&[source(Format::Iptables, &format!("*{table}\n:own - [0:0]\n{own}\n{line}\nCOMMIT\n"))]))
}

#[test]
fn matches_of_iptables() {
    let cases = [
        ("-p tcp -m tcp --dport 22 -j ACCEPT", "{family: ipv4, proto: tcp, dport: 22, action: accept}"),
        (
            "-s 10.0.0.0/8 ! -d 10.1.0.0/255.255.0.0 -j DROP",
            "{src: 10.0.0.0/8, not: {dst: 10.1.0.0/16}, action: drop}",
        ),
        ("-s 0.0.0.0/0 -i eth0 -j DROP", "{family: ipv4, in: eth0, action: drop}"),
        ("! -s 0.0.0.0/0 -j DROP", "left out"),
        ("-i lo -j ACCEPT", "left out"),
        ("! -i lo -s 127.0.0.0/8 -j DROP", "{src: 127.0.0.0/8, action: drop}"),
        ("-i + -p 47 -j ACCEPT", "{family: ipv4, proto: gre, action: accept}"),
        ("-i ppp+ -s 192.0.2.1 -j ACCEPT", "{in: [ppp0, ppp1], src: 192.0.2.1, action: accept}"),
        (
            "-i eth+ -j ACCEPT",
            "refused: interfaces eth+ are a pattern: say which ones with `--rename 'eth+=eth0,eth1'`",
        ),
        (
            "-p udp -m multiport ! --dports 53,123:124 -j DROP",
            "{family: ipv4, proto: udp, not: {dport: [53, 123-124]}, action: drop}",
        ),
        (
            "-s 192.0.2.1 -p tcp -m multiport --ports 25 -j DROP",
            "{src: 192.0.2.1, proto: tcp, sport: 25, action: drop} {src: 192.0.2.1, proto: tcp, dport: 25, not: {sport: 25}, action: drop}",
        ),
        (
            "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP",
            "{family: ipv4, proto: tcp, tcp_flags: \"syn/fin,syn,rst,ack\", action: drop}",
        ),
        (
            "-p tcp -m tcp ! --syn -m state --state NEW -j DROP",
            "{family: ipv4, proto: tcp, ct: new, not: {tcp_flags: \"syn/fin,syn,rst,ack\"}, action: drop}",
        ),
        (
            "-p tcp -m tcp --tcp-flags ALL NONE -j DROP",
            "{family: ipv4, proto: tcp, tcp_flags: none/all, action: drop}",
        ),
        ("-p icmp -m icmp --icmp-type 3/4 -j ACCEPT", "{icmp: 3/4, action: accept}"),
        ("-p icmp -m icmp --icmp-type any -j ACCEPT", "{family: ipv4, proto: icmp, action: accept}"),
        (
            "-m conntrack --ctstate RELATED,DNAT --ctdir ORIGINAL -j ACCEPT",
            "{family: ipv4, ct: [related, dnat], ct_dir: original, action: accept}",
        ),
        (
            "-m conntrack --ctstatus SEEN_REPLY -j ACCEPT",
            "{family: ipv4, ct_status: seen-reply, action: accept}",
        ),
        (
            "-m conntrack --ctorigdst 192.0.2.1 --ctorigdstport 80 -j ACCEPT",
            "{family: ipv4, ct_orig: {dst: 192.0.2.1, dport: 80}, action: accept}",
        ),
        (
            "-m addrtype ! --dst-type LOCAL,UNICAST -j DROP",
            "{family: ipv4, not: {to: [local, routed]}, action: drop}",
        ),
        (
            "-m hashlimit --hashlimit-upto 10/sec --hashlimit-burst 20 --hashlimit-mode dstip --hashlimit-name x -j ACCEPT",
            "{family: ipv4, limit: {rate: 10/second, burst: 20, per: dst}, action: accept}",
        ),
        (
            "-m hashlimit --hashlimit-above 1/hour --hashlimit-mode srcip,srcport --hashlimit-name x -j DROP",
            "refused: a limit is for each source or each destination, not by srcip,srcport; what it stopped goes on to the next rule",
        ),
        (
            "-m mark --mark 0x1/0xff -m connmark ! --mark 2 -j DROP",
            "{family: ipv4, mark: 0x1/0xff, not: {ct_mark: 0x2}, action: drop}",
        ),
        (
            "-m length --length 100: -m ttl --ttl-lt 5 -m dscp --dscp-class EF -j DROP",
            "{family: ipv4, length: 100-65535, ttl: 0-4, dscp: ef, action: drop}",
        ),
        (
            "-m mac --mac-source 02:00:00:00:00:01 -j ACCEPT",
            "refused: match mac: MAC addresses are not matched: a neighbour is where the route to it leads",
        ),
        ("-m owner --uid-owner 0 -j own", "refused: match owner: which process sends is not seen"),
        (
            "-m set --match-set gone src -j DROP",
            "refused: set gone is in none of the files: add what `ipset save` writes; what it stopped goes on to the next rule",
        ),
        (
            "-p tcp -m comment --comment \"a: b\" -j DROP",
            "{family: ipv4, proto: tcp, action: drop, comment: \"a: b\"}",
        ),
        ("[1:2] -A INPUT -p tcp -j DROP", "{family: ipv4, proto: tcp, action: drop}"),
        (
            "-p tcp -m string --string x --algo bm -j DROP",
            "refused: match string: contents of packets are not matched; what it stopped goes on to the next rule",
        ),
    ];
    for (rule, expected) in cases {
        let text = if rule.starts_with('[') { rule.to_owned() } else { format!("-A INPUT {rule}") };
        assert_eq!(line("filter", &text), expected, "{rule}");
    }
}

#[test]
fn what_takes_two_rules_has_a_chain_of_its_own() {
    for (rule, ends) in [
        (
            "-m iprange --src-range 10.0.0.1-10.0.0.9 -s 10.0.0.0/8 -j DROP",
            "{src: 10.0.0.1-10.0.0.9, action: {jump: INPUT-part}}",
        ),
        (
            "-m limit --limit 3/min --limit-burst 5 -m state --state NEW -j DROP",
            "{ct: new, action: drop} {family: ipv4, limit: 3/minute, action: {jump: INPUT-part}}",
        ),
    ] {
        let found = line("filter", &format!("-A INPUT {rule}"));
        assert!(found.ends_with(ends), "{rule}: {found}");
    }
}

/// Table, chain and rule of iptables, and the rule that comes of it.
fn becomes<const N: usize>(cases: [(&str, &str, &str, &str); N]) {
    for (table, chain, rule, expected) in cases {
        assert_eq!(line(table, &format!("-A {chain} {rule}")), expected, "{rule}");
    }
}

#[test]
fn targets_of_iptables_that_judge() {
    becomes([
        (
            "filter",
            "INPUT",
            "-j REJECT --reject-with icmp-port-unreachable",
            "{family: ipv4, action: reject}",
        ),
        (
            "filter",
            "INPUT",
            "-j REJECT --reject-with icmp-admin-prohibited",
            "{family: ipv4, action: {reject: admin-prohibited}}",
        ),
        (
            "filter",
            "INPUT",
            "-j REJECT --reject-with icmp-host-prohibited",
            "{family: ipv4, action: {reject: {icmp: host-prohibited}}}",
        ),
        (
            "filter",
            "INPUT",
            "-p tcp -j REJECT --reject-with tcp-reset",
            "{family: ipv4, proto: tcp, action: {reject: tcp-reset}}",
        ),
        (
            "filter",
            "INPUT",
            "-j LOG --log-prefix \"[x] \" --log-level 6",
            "{family: ipv4, action: {log: {prefix: \"[x] \"}}}",
        ),
        ("filter", "INPUT", "-p udp", "{family: ipv4, proto: udp, action: count}"),
        ("filter", "INPUT", "-j own", "{proto: tcp, action: drop} {family: ipv4, action: {jump: own}}"),
        ("filter", "FORWARD", "-g own", "{proto: tcp, action: drop} {family: ipv4, action: {goto: own}}"),
        ("filter", "INPUT", "-j elsewhere", "refused: there is no chain and no target elsewhere"),
        (
            "filter",
            "INPUT",
            "-j NFLOG --nflog-group 1",
            "refused: target NFLOG: there are no log groups: `{log: {prefix: …}}` writes to the service's log",
        ),
        (
            "raw",
            "PREROUTING",
            "-j CT --zone 7 --notrack",
            "{family: ipv4, action: {zone: 7}} {family: ipv4, action: notrack}",
        ),
        ("raw", "PREROUTING", "-j CT --zone-orig 7", "{family: ipv4, action: {zone: {original: 7}}}"),
        (
            "raw",
            "PREROUTING",
            "-j CT --timeout short",
            "refused: timeout policy short is not in this text: write it as `ct_timeout`",
        ),
        (
            "raw",
            "PREROUTING",
            "-j TRACE",
            "refused: target TRACE: `sluice explain` says what becomes of a packet",
        ),
    ]);
}

#[test]
fn targets_of_iptables_that_mark_and_translate() {
    becomes([
        ("mangle", "PREROUTING", "-j MARK --set-xmark 0x1/0xffffffff", "{family: ipv4, action: {mark: 0x1}}"),
        ("mangle", "PREROUTING", "-j MARK --or-mark 0x4", "{family: ipv4, action: {mark: 0x4/0x4}}"),
        (
            "mangle",
            "PREROUTING",
            "-j MARK --set-xmark 0x3/0x1",
            "refused: --set-xmark 0x3/0x1 turns bits of a mark over: a rule sets or clears them",
        ),
        (
            "mangle",
            "PREROUTING",
            "-j CONNMARK --save-mark --nfmask 0xff --ctmask 0xff",
            "{family: ipv4, action: {ct_mark: mark/0xff}}",
        ),
        (
            "mangle",
            "PREROUTING",
            "-j CONNMARK --set-xmark 0x1/0xff",
            "{family: ipv4, action: {ct_mark: 0x1/0xff}}",
        ),
        (
            "mangle",
            "FORWARD",
            "-p tcp -j TCPMSS --clamp-mss-to-pmtu",
            "refused: target TCPMSS: TCP options are not changed",
        ),
        (
            "nat",
            "PREROUTING",
            "-p tcp -j DNAT --to-destination 10.0.0.1-10.0.0.9:80-90",
            "{family: ipv4, proto: tcp, action: {dnat: {to: 10.0.0.1-10.0.0.9, port: 80-90}}}",
        ),
        (
            "nat",
            "POSTROUTING",
            "-j SNAT --to-source 192.0.2.1 --random",
            "{family: ipv4, action: {snat: 192.0.2.1}}",
        ),
        (
            "nat",
            "POSTROUTING",
            "-p tcp -j MASQUERADE --to-ports 1024-2048",
            "{family: ipv4, proto: tcp, action: {masquerade: {port: 1024-2048}}}",
        ),
        (
            "nat",
            "PREROUTING",
            "-p tcp -j REDIRECT --to-ports 3128",
            "{family: ipv4, proto: tcp, action: {redirect: 3128}}",
        ),
        (
            "nat",
            "INPUT",
            "-j SNAT --to-source 192.0.2.1",
            "refused: there is no chain nat.input: sources are translated in nat.postrouting",
        ),
        (
            "nat",
            "POSTROUTING",
            "-j NETMAP --to 10.0.0.0/8",
            "{family: ipv4, action: {snat: {prefix: 10.0.0.0/8}}}",
        ),
        (
            "nat",
            "PREROUTING",
            "-d 192.0.2.0/24 -j NETMAP --to 10.0.0.0/24",
            "{dst: 192.0.2.0/24, action: {dnat: {prefix: 10.0.0.0/24}}}",
        ),
        (
            "nat",
            "OUTPUT",
            "-d 192.0.2.0/24 -j NETMAP --to 10.0.0.0/24",
            "{dst: 192.0.2.0/24, action: {dnat: {prefix: 10.0.0.0/24}}}",
        ),
    ]);
}

#[test]
fn both_families_make_one_policy() {
    let v4 = "*filter\n:INPUT DROP\n-A INPUT -m state --state ESTABLISHED -j ACCEPT\n-A INPUT -p icmp -j ACCEPT\n-A INPUT -p tcp --dport 22 -j ACCEPT\nCOMMIT\n";
    let v6 = "*filter\n:INPUT DROP\n-A INPUT -m state --state ESTABLISHED -j ACCEPT\n-A INPUT -p ipv6-icmp -j ACCEPT\n-A INPUT -p tcp --dport 22 -j ACCEPT\nCOMMIT\n";
    let both = imported(&[source(Format::Iptables, v4), source(Format::Ip6tables, v6)]);
    assert_eq!(
        rules(&both),
        "{ct: established, action: accept} {family: ipv4, proto: icmp, action: accept} \
         {family: ipv6, proto: icmpv6, action: accept} {proto: tcp, dport: 22, action: accept}"
    );
    assert!(both.policy.contains("policy: drop"));
    // With other policies the chains stay apart, and each packet goes to that of its family.
    let open =
        imported(&[source(Format::Iptables, v4), source(Format::Ip6tables, &v6.replace("DROP", "ACCEPT"))]);
    assert!(rules(&open).contains("{family: ipv6, action: {goto: INPUT}}"), "{}", open.policy);
    let alone = imported(&[source(Format::Iptables, v4)]);
    assert!(alone.policy.contains("{family: ipv6, action: accept, comment: \"no rules for IPv6 were given"));
}

#[test]
fn several_chains_at_a_hook_come_one_after_the_other() {
    let text = "*mangle\n-A FORWARD -d 192.0.2.1 -j ACCEPT\n-A FORWARD -d 192.0.2.0/24 -j DROP\nCOMMIT\n\
                *filter\n:FORWARD DROP\n-A FORWARD -p tcp -j ACCEPT\nCOMMIT\n";
    let found = rules(&imported(&[source(Format::Iptables, text)]));
    assert_eq!(
        found,
        "{proto: tcp, action: accept} {action: drop} {dst: 192.0.2.1, action: {goto: FORWARD}} \
         {dst: 192.0.2.0/24, action: drop} {action: {goto: FORWARD}}"
    );
}

#[test]
fn interfaces_that_a_hook_does_not_know_are_answered() {
    let text = "*nat\n:own -\n-A PREROUTING -j own\n-A OUTPUT -j own\n-A own ! -i eth1 -p tcp -j DNAT --to-destination 192.0.2.1\n\
                -A own -i eth2 -p udp -j DNAT --to-destination 192.0.2.2\nCOMMIT\n";
    let found = imported(&[source(Format::Iptables, text)]).policy;
    assert!(found.contains("{proto: tcp, not: {in: eth1}, action: {dnat: 192.0.2.1}}"), "{found}");
    assert!(found.contains("    - {proto: tcp, action: {dnat: 192.0.2.1}}"), "{found}");
    assert_eq!(found.matches("192.0.2.2").count(), 1, "{found}");
}

#[test]
fn sets_of_ipset() {
    let sets = "create nets hash:net family inet\nadd nets 10.0.0.0/8\nadd nets 192.0.2.1 timeout 30\nadd nets 10.1.0.0/16 nomatch\n\
                create all list:set\nadd all nets\ncreate ports bitmap:port range 0-65535\nadd ports 80-90\n";
    let rules = "*filter\n-A INPUT -m set ! --match-set all src -p tcp -m set --match-set ports dst -j DROP\nCOMMIT\n";
    let found = imported(&[source(Format::Iptables, rules), source(Format::Ipset, sets)]);
    assert!(
        found.policy.contains("nets: {type: net, elements: [10.0.0.0/8, 192.0.2.1]}"),
        "{}",
        found.policy
    );
    assert!(
        found
            .policy
            .contains("{family: ipv4, proto: tcp, dport: \"@ports\", not: {src: \"@nets\"}, action: drop}")
    );
    let reasons: Vec<_> = found.untranslated.iter().map(|finding| finding.line).collect();
    assert_eq!(reasons, [3, 4]);
}

#[test]
fn addresses_with_ports_are_a_rule_each() {
    let sets =
        "create pairs hash:ip,port family inet\nadd pairs 10.0.0.1,tcp:80\nadd pairs 10.0.0.2,udp:53\n";
    let text = "*filter\n-A INPUT -i eth0 -m set --match-set pairs src,dst -j DROP\nCOMMIT\n";
    let found = rules(&imported(&[source(Format::Iptables, text), source(Format::Ipset, sets)]));
    assert_eq!(
        found,
        "{in: eth0, src: 10.0.0.1, proto: tcp, dport: 80, action: drop} \
         {in: eth0, src: 10.0.0.2, proto: udp, dport: 53, action: drop}"
    );
}

/// What the data plane may not be able to do yet is refused by the compiler, not by import.
#[test]
fn helpers_and_connlimit() {
    let cases = [
        (
            "raw",
            "-A PREROUTING -p udp --dport 69 -j CT --helper tftp",
            "{family: ipv4, proto: udp, dport: 69, action: {helper: tftp}}",
        ),
        (
            "filter",
            "-A INPUT -p tcp -m connlimit --connlimit-above 20 --connlimit-mask 32 --connlimit-saddr -j DROP",
            "{family: ipv4, proto: tcp, connlimit: {above: 20, per: src}, action: drop}",
        ),
        (
            "filter",
            "-A INPUT -p tcp -m connlimit --connlimit-upto 20 --connlimit-mask 0 -j ACCEPT",
            "{family: ipv4, proto: tcp, not: {connlimit: {above: 20}}, action: accept}",
        ),
    ];
    for (table, rule, expected) in cases {
        let found = line(table, rule);
        assert!(found == expected || found.contains("supported by this version"), "{rule}: {found}");
    }
}

#[test]
fn what_the_parser_refuses_has_no_translation() {
    // A helper that Sluice does not have is known to nobody but the parser of policies.
    let found = line("raw", "-A PREROUTING -p udp --dport 137 -j CT --helper netbios-ns");
    assert!(found.starts_with("refused: a helper must be one of"), "{found}");
}

#[test]
fn text_of_another_format_is_refused() {
    for (format, text) in [
        (Format::Iptables, "table inet filter {\n}\n"),
        (Format::Nft, "*filter\nCOMMIT\n"),
        (Format::Nft, "{}"),
        (Format::Ipset, "*filter\n"),
    ] {
        assert!(import(&[source(format, text)], &Options::default()).is_err(), "{text}");
    }
}

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/rulesets").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// What programs made, and how many lines of it have no translation.
#[test]
fn rulesets_of_programs() {
    let cases: [(&[&str], usize); 9] = [
        (&["ufw.v4", "ufw.v6"], 7),
        (&["firewalld.v4", "firewalld.v6", "firewalld.ipset"], 2),
        (&["firewalld.json"], 3),
        (&["docker.v4"], 0),
        (&["fail2ban.v4", "fail2ban.v6"], 0),
        (&["fail2ban.json"], 0),
        (&["fail2ban-set.v4", "fail2ban-set.ipset"], 0),
        (&["workstation.v4", "workstation.v6"], 0),
        (&["gateway.json"], 2),
    ];
    for (files, untranslated) in cases {
        let sources: Vec<_> = files
            .iter()
            .map(|name| {
                let format = match name.rsplit('.').next() {
                    Some("v4") => Format::Iptables,
                    Some("v6") => Format::Ip6tables,
                    Some("ipset") => Format::Ipset,
                    _ => Format::Nft,
                };
                Source { format, name: (*name).to_owned(), text: file(name) }
            })
            .collect();
        let found = imported(&sources);
        let reasons: Vec<_> = found.untranslated.iter().map(ToString::to_string).collect();
        assert_eq!(reasons.len(), untranslated, "{files:?}: {}", reasons.join("\n"));
    }
}

/// The example that people start from is what import writes, with tests behind it.
#[test]
fn the_example_is_what_import_writes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/examples/from-iptables");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("the example");
    let options = Options {
        rename: [("eth0", "wan"), ("eth1", "lan")]
            .map(|(old, new)| (old.to_owned(), vec![new.to_owned()]))
            .into(),
    };
    let sources = [source(Format::Iptables, &read("rules.v4")), source(Format::Ip6tables, &read("rules.v6"))];
    let found = import(&sources, &options).expect("a policy");
    assert!(found.untranslated.is_empty());
    assert!(read("policy.yaml").starts_with(&found.policy), "\n{}", found.policy);
}

/// Each kind of line of nft once.
#[test]
fn a_ruleset_of_nft_line_by_line() {
    let source = Source { format: Format::Nft, name: "gateway.json".to_owned(), text: file("gateway.json") };
    let found = imported(&[source]).policy;
    assert_eq!(found, file("gateway.yaml"), "\n{found}");
}

/// As nft 1.0.6 prints them.
#[test]
fn translations_of_nft_to_prefixes_and_by_maps() {
    let daddr = r#"{"payload":{"protocol":"ip","field":"daddr"}}"#;
    for (hook, statement, expected) in [
        (
            "postrouting",
            r#"{"snat":{"addr":{"prefix":{"addr":"192.0.2.0","len":24}},"flags":"netmap","type_flags":"prefix"}}"#.to_owned(),
            "{family: ipv4, action: {snat: {prefix: 192.0.2.0/24}}}",
        ),
        (
            "prerouting",
            r#"{"dnat":{"addr":{"prefix":{"addr":"10.1.0.0","len":28}},"flags":"persistent"}}"#.to_owned(),
            "{family: ipv4, action: {dnat: 10.1.0.0/28}}",
        ),
        (
            "prerouting",
            format!(r#"{{"dnat":{{"addr":{{"map":{{"key":{daddr},"data":{{"set":[["192.0.2.1","10.0.0.1"],["192.0.2.2","10.0.0.2"]]}}}}}}}}}}"#),
            "{dst: 192.0.2.1, action: {dnat: 10.0.0.1}} {dst: 192.0.2.2, action: {dnat: 10.0.0.2}}",
        ),
        (
            "prerouting",
            format!(r#"{{"dnat":{{"addr":{{"map":{{"key":{daddr},"data":{{"set":[[{{"prefix":{{"addr":"192.0.2.0","len":24}}}},{{"prefix":{{"addr":"10.1.0.0","len":24}}}}]]}}}}}},"flags":"netmap","type_flags":"prefix"}}}}"#),
            "{dst: 192.0.2.0/24, action: {dnat: {prefix: 10.1.0.0/24}}}",
        ),
    ] {
        let text = format!(
            r#"{{"nftables":[{{"table":{{"family":"ip","name":"t","handle":1}}}},
            {{"chain":{{"family":"ip","table":"t","name":"c","handle":1,"type":"nat","hook":"{hook}","prio":0,"policy":"accept"}}}},
            {{"rule":{{"family":"ip","table":"t","chain":"c","handle":3,"expr":[{statement}]}}}}]}}"#
        );
        assert_eq!(rules(&imported(&[source(Format::Nft, &text)])), expected, "{statement}");
    }
}

/// A chain that both hooks jump to is two.
#[test]
fn netmap_is_of_sources_or_destinations_by_its_hook() {
    let text = "*nat\n:own - [0:0]\n-A PREROUTING -d 192.0.2.0/24 -j own\n-A POSTROUTING -s 10.0.0.0/24 -j own\n\
                -A own -j NETMAP --to 198.51.100.0/24\nCOMMIT\n";
    let found = rules(&imported(&[source(Format::Iptables, text)]));
    assert!(found.contains("{snat: {prefix: 198.51.100.0/24}}"), "{found}");
    assert!(found.contains("{dnat: {prefix: 198.51.100.0/24}}"), "{found}");
}
