//! The system file: the contract's sample, and a table of what is refused and where.

use super::*;

/// As in the contract (PRODUCT.md), word for word.
const SAMPLE: &str = r#"workers: {cores: [2, 3], idle: poll}  # one poll-mode worker pinned to each, or {count: 2}; idle: poll | yield (shared cores)
memory: {hugepages: auto, mbufs: 65536}   # auto | required | off (off: runs anywhere, slower)
interfaces:                         # ≤ 15 characters; no existing link, and no zone, has that name
  wan: {device: "pci:0000:3b:00.0", addresses: [203.0.113.2/24, "2001:db8::2/64"], mtu: 1500, rp_filter: strict}
  lan0: {device: "kernel:eth1", addresses: [10.0.0.1/24]}
routes:
  - {to: default, via: 203.0.113.1}
neighbours:                         # optional static entries; all others are resolved by ARP and ND
  - {address: 10.0.0.9, mac: "02:00:00:00:00:09"}
conntrack: {max: 1048576, tcp_loose: true, checksum: true, timeouts: {udp: 30s, tcp_established: 5d}}
icmp: {ratelimit: 1000/second, burst: 50, redirects: false}   # errors made by the router; ratelimit 0: no limit
control: {api: /run/sluice/sluice.sock, metrics: "127.0.0.1:9843"}
policy: /etc/sluice/policy.yaml
state: /var/lib/sluice              # policy history, pending confirm
"#;

/// A file with two interfaces in three lines, and more.
fn with_two(rest: &str) -> String {
    format!(
        "interfaces:\n  a: {{device: 'kernel:e0', addresses: [10.0.0.1/24]}}\n  b: {{device: 'kernel:e1'}}\n{rest}"
    )
}

fn good(text: &str) -> System {
    let (system, warnings) = System::parse("dir/sluice.yaml", text).unwrap_or_else(|e| panic!("{e}"));
    assert!(warnings.is_empty(), "{warnings}");
    system
}

#[test]
fn the_contracts_sample_loads() {
    let system = good(SAMPLE);
    assert_eq!(system.workers.placement, Placement::Cores(vec![2, 3]));
    assert_eq!(system.interfaces[0].device, Device::Pci("0000:3b:00.0".into()));
    assert_eq!(system.interfaces[0].rp_filter, RpFilter::Strict);
    assert_eq!(system.interfaces[1].addresses[0].to_string(), "10.0.0.1/24");
    let RouteTarget::Via(hops) = &system.routes[0].target else { panic!() };
    assert_eq!((hops[0].dev.as_str(), hops[0].weight), ("wan", 1));
    assert_eq!(system.routes[0].to.to_string(), "0.0.0.0/0");
    assert_eq!(system.neighbours[0].dev, "lan0");
    assert_eq!(system.conntrack.max, 1_048_576);
    assert_eq!(system.conntrack.timeouts.tcp_established.as_secs(), 432_000);
    assert_eq!(system.icmp.ratelimit.unwrap().count, 1000);
    assert!(system.interface_names().contains("lan0"));
}

#[test]
fn the_least_system_has_defaults_and_paths_by_its_folder() {
    let system = good("interfaces: {a: {device: 'kernel:eth0'}}\npolicy: p.yaml\nstate: ../s\n");
    assert_eq!(system.workers, Workers { placement: Placement::Count(1), idle: Idle::Poll });
    assert_eq!(system.conntrack, Conntrack::default());
    assert_eq!(system.policy, PathBuf::from("dir/p.yaml"));
    assert_eq!(system.state, PathBuf::from("dir/../s"));
    assert_eq!(system.control.api, PathBuf::from("/run/sluice/sluice.sock"));
}

#[test]
fn off_no_and_false_are_one_thing() {
    for off in ["off", "no", "false", "'off'", "No"] {
        let text = format!(
            "interfaces: {{a: {{device: 'kernel:e', rp_filter: {off}}}}}\nmemory: {{hugepages: {off}}}\n\
             conntrack: {{tcp_loose: {off}, log_invalid: {off}}}\ncontrol: {{metrics: {off}, page: {off}, remote: {off}}}\nicmp: {{ratelimit: {off}}}\n"
        );
        let system = good(&text);
        assert_eq!(system.interfaces[0].rp_filter, RpFilter::Off);
        assert_eq!(system.memory.hugepages, Hugepages::Off);
        assert!(!system.conntrack.tcp_loose);
        assert_eq!(
            (system.control.metrics, system.control.page, system.control.remote),
            (None, Some(false), None)
        );
        assert_eq!(system.icmp.ratelimit, None);
    }
}

#[test]
fn remote_control_has_its_files_beside_the_system_file() {
    let system = |remote: &str| good(&with_two(&format!("control: {{remote: {remote}}}")));
    let remote = system("{listen: \"[::1]:9844\"}").control.remote.unwrap();
    assert_eq!(remote.listen, "[::1]:9844".parse().unwrap());
    assert!(remote.key.ends_with("tls/server.key") && remote.ca.ends_with("tls/ca.crt"));
    assert!(remote.revoked.is_some_and(|path| path.ends_with("tls/revoked.crl")));
    let remote =
        system("{listen: \"0.0.0.0:1\", revoked: off, certificate: /a/b.crt}").control.remote.unwrap();
    assert_eq!((remote.revoked, remote.certificate), (None, "/a/b.crt".into()));
}

#[test]
fn routes_take_weights_devices_metrics_and_types() {
    let system = good(
        "interfaces:\n  a: {device: 'kernel:e0', addresses: [10.0.0.1/24, 'fd00::1/64']}\n  \
         b: {device: 'kernel:e1', addresses: [10.1.0.1/24]}\nroutes:\n  \
         - {to: 192.0.2.0/24, via: [10.0.0.2, {address: 10.1.0.2, weight: 3}]}\n  \
         - {to: default, via: 'fe80::1', dev: a, metric: 5}\n  - {to: 198.51.100.1, dev: b}\n  \
         - {to: 203.0.113.0/24, type: blackhole}\n",
    );
    let RouteTarget::Via(hops) = &system.routes[0].target else { panic!() };
    let hops: Vec<_> = hops.iter().map(|hop| (hop.dev.as_str(), hop.weight)).collect();
    assert_eq!(hops, [("a", 1), ("b", 3)]);
    assert_eq!((system.routes[1].to.to_string().as_str(), system.routes[1].metric), ("::/0", 5));
    assert_eq!(system.routes[2].target, RouteTarget::Dev("b".into()));
    assert_eq!(system.routes[3].target, RouteTarget::Blackhole);
}

#[test]
fn addresses_and_routes_may_be_the_kernels() {
    let system = good(
        "interfaces:\n  wan: {device: 'kernel:e0', addresses: kernel}\n  \
         lan: {device: 'kernel:e1', addresses: [10.1.0.1/24]}\n  trunk: {device: 'kernel:e2'}\nroutes:\n  \
         - {to: 192.0.2.0/24, via: 203.0.113.9, dev: wan}\nkernel_routes: true\n",
    );
    let taps = system.interfaces.iter().map(|i| (i.kernel_addresses, i.has_tap()));
    assert!(taps.eq([(true, true), (false, true), (false, false)]));
    let RouteTarget::Via(hops) = &system.routes[0].target else { panic!() };
    assert_eq!(hops[0].dev, "wan");
    assert!(system.kernel_routes);
}

/// Each text has this one error, at this place.
fn refused(cases: Vec<(String, &str)>) {
    for (text, expected) in cases {
        let found = System::parse("s.yaml", &text).expect_err(&text);
        let shown: Vec<String> = found.iter().map(brief).collect();
        assert_eq!(shown, [expected], "{text}");
    }
}

#[test]
fn wrong_keys_and_workers_are_refused_and_placed() {
    refused(vec![
        ("".into(), "the file is empty; write `{}` if that is meant"),
        ("{}".into(), "1:1: the system file needs `interfaces`"),
        ("interfaces: {}".into(), "1:13: `interfaces` is empty: a router needs at least one"),
        (with_two("workrs: {}"), "4:1: unknown key `workrs` in the system file / did you mean `workers`?"),
        (with_two("workers: {cores: [1], count: 2}"), "4:30: `workers` takes `cores` or `count`, not both"),
        (with_two("workers: {cores: [1, 1]}"), "4:22: core 1 is given twice"),
        (with_two("workers: {cores: [x]}"), "4:19: `x` is no core number (0 to 1023)"),
        (with_two("workers: {count: 0}"), "4:18: `count` must be a number from 1 to 128, not `0`"),
        (
            with_two("workers: {idle: yeild}"),
            "4:17: `idle` must be one of `poll`, `yield`, not `yeild` / did you mean `yield`?",
        ),
        (
            with_two("memory: {mbufs: many}"),
            "4:17: `mbufs` must be a number from 1024 to 67108864, not `many`",
        ),
    ]);
}

#[test]
fn wrong_interfaces_are_refused_and_placed() {
    refused(vec![
        (
            "interfaces: {a: {device: 'kernal:e'}}".into(),
            "1:26: `kernal:e` is no device: pci:, kernel:, xdp:, tap:, memif:, pcap: or vdev:; did you mean `kernel`?",
        ),
        ("interfaces: {a: {device: 'pci:3b'}}".into(), "1:26: `3b` is no PCI address (0000:3b:00.0)"),
        ("interfaces: {a: {}}".into(), "1:17: interface `a` needs `device`"),
        (
            "interfaces: {a23456789012345x: {device: 'kernel:e'}}".into(),
            "1:14: interface name `a23456789012345x` is longer than 15 characters",
        ),
        ("interfaces: {a/b: {device: 'kernel:e'}}".into(), "1:14: `a/b` is no interface name"),
        (
            "interfaces: {e: {device: 'kernel:e'}}".into(),
            "1:14: interface `e` needs another name: a link named `e` is there",
        ),
        (
            "interfaces: {a: {device: 'kernel:e'}, b: {device: 'kernel:e'}}".into(),
            "1:39: interfaces `a` and `b` are both on kernel:e / give each its own `vlan`",
        ),
        (
            "interfaces: {a: {device: 'kernel:e', addresses: kernel}}\nroutes: [{to: default, via: 192.0.2.1}]".into(),
            "2:29: 192.0.2.1 is on no interface's link / if it is behind `a`, say `dev: a`",
        ),
        (
            "interfaces: {a: {device: 'kernel:e', addresses: dhcp}}".into(),
            "1:49: `addresses` must be a list, or `kernel` / `kernel`: those that a DHCP client or another program on the \
             box puts on the tap",
        ),
        (with_two("kernel_routes: maybe"), "4:16: `kernel_routes` must be true or false, not `maybe`"),
        (
            "interfaces: {a: {device: 'kernel:e', addresses: [10.0.0.1/33]}}".into(),
            "1:50: `10.0.0.1/33` has no valid prefix length (0 to 32)",
        ),
        (
            "interfaces: {a: {device: 'kernel:e', addresses: [224.0.0.1/24]}}".into(),
            "1:50: `224.0.0.1/24` cannot be an interface's address",
        ),
        (
            "interfaces: {a: {device: 'kernel:e', mtu: 1000, addresses: ['fd00::1/64']}}".into(),
            "1:43: mtu 1000 is too small for an interface with IPv6 addresses (1280)",
        ),
        (
            "interfaces: {a: {device: 'kernel:e', addresses: [10.0.0.1/24, 10.0.0.1/16]}}".into(),
            "1:14: interface `a` has address 10.0.0.1 twice",
        ),
    ]);
}

#[test]
fn wrong_routes_and_neighbours_are_refused_and_placed() {
    refused(vec![
        (with_two("routes: [{to: 10.1.0.0/16, via: 10.9.0.1}]"), "4:33: 10.9.0.1 is on no interface's link"),
        (
            with_two("routes: [{to: 10.1.0.0/16, via: 10.0.0.1}]"),
            "4:33: 10.0.0.1 is one of the router's own addresses",
        ),
        (
            with_two("routes: [{to: 10.1.0.1/16, via: 10.0.0.2}]"),
            "4:15: `10.1.0.1/16` has bits set behind its prefix / did you mean `10.1.0.0/16`?",
        ),
        (
            with_two("routes: [{to: 'fd00::/8', via: 10.0.0.2}]"),
            "4:15: route to fd00::/8 via 10.0.0.2 mixes IPv4 and IPv6",
        ),
        (
            with_two("routes: [{to: default, dev: a}]"),
            "4:15: `default` without `via` could be either family: write 0.0.0.0/0 or ::/0",
        ),
        (with_two("routes: [{to: 10.1.0.0/16}]"), "4:10: a route needs `via`, `dev` or `type`"),
        (with_two("routes: [{to: 10.1.0.0/16, dev: c}]"), "4:10: unknown interface `c`"),
        (
            with_two("routes: [{to: 10.1.0.0/16, dev: a}, {to: 10.1.0.0/16, dev: b}]"),
            "4:37: a second route to 10.1.0.0/16 with metric 0 / \
             the first is at 4:10; for several next hops give `via` a list",
        ),
        (
            with_two("routes: [{to: 'fd00::/8', via: 'fe80::1'}]"),
            "4:32: link-local address fe80::1 needs `dev`",
        ),
        (with_two("neighbours: [{address: 10.0.0.2}]"), "4:14: a neighbour needs `mac`"),
        (
            with_two("neighbours: [{address: 10.0.0.2, mac: 01:00:5e:00:00:01}]"),
            "4:39: `01:00:5e:00:00:01` is no unicast MAC address",
        ),
    ]);
}

#[test]
fn wrong_settings_are_refused_and_placed() {
    refused(vec![
        (
            with_two("conntrack: {timeouts: {tcp_establishd: 5d}}"),
            "4:24: unknown key `tcp_establishd` in `timeouts` / did you mean `tcp_established`?",
        ),
        (
            with_two("conntrack: {timeouts: {udp: 5x}}"),
            "4:29: `5x` is no duration; write it as 30s, 10m, 1h30m or 5d, or in seconds",
        ),
        (with_two("conntrack: {max: -1}"), "4:18: `max` must be a number from 0 to 268435456, not `-1`"),
        (
            with_two("conntrack: {reserve_local: 2x}"),
            "4:28: `2x` is neither a number of flows nor a part of `max` such as 60%",
        ),
        (
            with_two("conntrack: {max: 100, reserve_local: 100%}"),
            "4:38: `reserve_local` keeps 100 of 100 places: none is left for other flows",
        ),
        (with_two("conntrack: {quota: {per_source: {prefix_v4: 24}}}"), "4:33: `per_source` needs `max`"),
        (
            with_two("conntrack: {quota: {per_source: {max: 9, prefix_v4: 33}}}"),
            "4:53: `prefix_v4` must be a number from 1 to 32, not `33`",
        ),
        (
            with_two("conntrack: {max: 1000, adaptive: {start: 90%, end: 800}}"),
            "4:34: `start` is 900 flows, and must be less than `end`, 800",
        ),
        (
            with_two("conntrack: {max: 0, adaptive: {start: 90%}}"),
            "4:31: `adaptive` is a part of `max`, which is no limit here: give numbers of flows",
        ),
        (
            with_two("icmp: {ratelimit: 5/fortnight}"),
            "4:19: `5/fortnight` is no rate; write it as 10/second (or minute, hour, day)",
        ),
        (with_two("control: {remote: {listen: box}}"), "4:28: `box` is no ADDRESS:PORT (192.0.2.1:9844)"),
        (with_two("control: {remote: {certificate: x}}"), "4:19: `remote` needs `listen`"),
        (
            with_two("control: {metrics: localhost}"),
            "4:20: `localhost` is no ADDRESS:PORT (127.0.0.1:9843) and not off",
        ),
        (with_two("state: [x]"), "4:8: state must be a single value, not a list"),
        (with_two("state: x\nstate: y"), "5:1: `state` is given twice"),
    ]);
}

#[test]
fn the_table_is_shared_out_as_the_file_says() {
    let conntrack = |text: &str| {
        let text = format!("interfaces: {{a: {{device: \"kernel:eth0\"}}}}\nconntrack: {text}\n");
        System::parse("s.yaml", &text).unwrap_or_else(|errors| panic!("{errors}")).0.conntrack
    };
    let reserves = [
        ("{}", 2048),
        ("{max: 100}", 0),
        ("{max: 10000000}", 4096),
        ("{max: 1000, reserve_local: 2%}", 20),
        ("{max: 1000, reserve_local: 7}", 7),
        ("{reserve_local: 0}", 0),
    ];
    for (text, reserve) in reserves {
        assert_eq!(conntrack(text).reserve(), reserve, "{text}");
    }
    let off = conntrack("{quota: off, adaptive: no}");
    assert_eq!((off.source_quota, off.adaptive), (None, None));
    assert_eq!(conntrack("{quota: {per_source: off}}").source_quota, None);
    let quota = conntrack("{quota: {per_source: {max: 200}}}").source_quota;
    assert_eq!(quota, Some(SourceQuota { max: 200, prefix_v4: 32, prefix_v6: 64 }));
    let adaptive = conntrack("{max: 1000, adaptive: {end: 2000}}").adaptive.unwrap();
    assert_eq!((adaptive.start.of(1000), adaptive.end.of(1000)), (600, 2000));
}

/// A finding without its file: `line:col: message / hint`.
fn brief(d: &crate::Diagnostic) -> String {
    let hint = d.hint.as_ref().map(|hint| format!(" / {hint}")).unwrap_or_default();
    let place = if d.line > 0 { format!("{}:{}: ", d.line, d.column) } else { String::new() };
    format!("{place}{}{hint}", d.message)
}

#[test]
fn all_errors_come_at_once() {
    let text = "workers: {idle: x}\ninterfaces: {a: {device: y}}\nroutes: 5\nicmp: {burst: no}\n";
    let lines: Vec<u32> = System::parse("s", text).unwrap_err().iter().map(|d| d.line).collect();
    assert_eq!(lines, [1, 2, 3, 4]);
}

#[test]
fn a_file_that_cannot_be_read_is_one_line() {
    let found = System::load(Path::new("/nonexistent/sluice.yaml")).unwrap_err();
    assert_eq!(
        found.to_string(),
        "/nonexistent/sluice.yaml: cannot be read: No such file or directory (os error 2)"
    );
}

/// `ls /proc/sys/net/netfilter` of Linux 6.18 with what each says by default, without what is common to all names.
const SYSCTLS: [(&str, &str); 41] = [
    ("acct", "0"),
    ("buckets", "262144"),
    ("checksum", "1"),
    ("count", "0"),
    ("events", "2"),
    ("expect_max", "4096"),
    ("frag6_high_thresh", "4194304"),
    ("frag6_low_thresh", "3145728"),
    ("frag6_timeout", "60"),
    ("generic_timeout", "600"),
    ("gre_timeout", "30"),
    ("gre_timeout_stream", "180"),
    ("icmp_timeout", "30"),
    ("icmpv6_timeout", "30"),
    ("log_invalid", "0"),
    ("max", "262144"),
    ("sctp_timeout_closed", "10"),
    ("sctp_timeout_cookie_echoed", "3"),
    ("sctp_timeout_cookie_wait", "3"),
    ("sctp_timeout_established", "210"),
    ("sctp_timeout_heartbeat_sent", "30"),
    ("sctp_timeout_shutdown_ack_sent", "3"),
    ("sctp_timeout_shutdown_recd", "3"),
    ("sctp_timeout_shutdown_sent", "3"),
    ("tcp_be_liberal", "0"),
    ("tcp_ignore_invalid_rst", "0"),
    ("tcp_loose", "1"),
    ("tcp_max_retrans", "3"),
    ("tcp_timeout_close", "10"),
    ("tcp_timeout_close_wait", "60"),
    ("tcp_timeout_established", "432000"),
    ("tcp_timeout_fin_wait", "120"),
    ("tcp_timeout_last_ack", "30"),
    ("tcp_timeout_max_retrans", "300"),
    ("tcp_timeout_syn_recv", "60"),
    ("tcp_timeout_syn_sent", "120"),
    ("tcp_timeout_time_wait", "120"),
    ("tcp_timeout_unacknowledged", "300"),
    ("timestamp", "0"),
    ("udp_timeout", "30"),
    ("udp_timeout_stream", "120"),
];

#[test]
fn every_sysctl_of_the_tracker_is_a_setting_with_its_default() {
    let conntrack =
        |text: &str| System::parse("sluice.yaml", &with_two(text)).map(|(system, _)| system.conntrack);
    for (name, default) in SYSCTLS {
        let timeout = name.replacen("_timeout", "", 1);
        let text = if timeout == name {
            format!("conntrack: {{{name}: {default}}}")
        } else {
            format!("conntrack: {{timeouts: {{{timeout}: {default}}}}}")
        };
        match (name, conntrack(&text)) {
            ("count", Err(errors)) => assert!(errors.to_string().contains("only read"), "{errors}"),
            // The hash is another one, and takes this as a hint; expectations follow from it.
            ("buckets", Ok(settings)) => assert_eq!(settings.buckets, Some(262_144)),
            ("expect_max", Ok(settings)) => assert_eq!(settings.expect_max, Some(4096)),
            // Of reassembly, which has settings of its own.
            ("frag6_high_thresh" | "frag6_low_thresh", _) => {}
            (_, Ok(settings)) => assert_eq!(settings, Conntrack::default(), "{name}"),
            (_, Err(errors)) => panic!("{errors}"),
        }
        // Its full name, as it stands in sysctl.conf, is answered with what to write.
        let full = format!("conntrack: {{nf_conntrack_{name}: {default}}}");
        let told = conntrack(&full).expect_err("it is no setting's name").to_string();
        let known = !matches!(name, "frag6_high_thresh" | "frag6_low_thresh");
        assert!(!known || told.contains("write it") || told.contains("only read"), "{told}");
    }
}

#[test]
fn settings_have_the_kernels_ranges() {
    let conntrack =
        |text: &str| System::parse("sluice.yaml", &with_two(text)).map(|(system, _)| system.conntrack);
    let good = [
        "tcp_max_retrans: 255",
        "tcp_max_retrans: 0",
        "log_invalid: 255",
        "log_invalid: 6",
        "log_invalid: off",
        "events: 0",
        "events: 2",
        "acct: 1",
        "timeouts: {generic: 2147483647}",
        "timeouts: {udp: 0}",
    ];
    for text in good {
        let found = conntrack(&format!("conntrack: {{{text}}}"));
        assert!(found.is_ok(), "{text}: {}", found.err().unwrap_or_default());
    }
    let bad = [
        "tcp_max_retrans: 256",
        "log_invalid: 256",
        "events: 3",
        "acct: 2",
        "tcp_loose: 2",
        "timestamp: -1",
        "expect_max: 0",
        "timeouts: {generic: 2147483648}",
        "timeouts: {udp: -1}",
        "dccp_loose: 1",
    ];
    for text in bad {
        assert!(conntrack(&format!("conntrack: {{{text}}}")).is_err(), "{text}");
    }
}
