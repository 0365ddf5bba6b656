//! The control side: conntrack, show, reload, the socket, the metrics.

use std::os::unix::fs::PermissionsExt as _;

use nix::sys::signal::Signal;
use sluice_tests::{Daemon, Lab, SystemFile, text};

use crate::{ACCEPT, BORDER};

#[test]
fn conntrack_verbs() {
    let lab = Lab::new();
    let _nginx = lab.nginx("server");
    let daemon = Daemon::start(&lab, &SystemFile::workers(2), ACCEPT);
    lab.must("client", &["ping", "-q", "-c", "2", "-i", "0.05", "10.2.0.2"]);
    lab.must("client", &["ping", "-q", "-c", "2", "-i", "0.05", "fd00:2::2"]);
    for _ in 0..5 {
        lab.must("client", &["curl", "-sSf", "-o", "/dev/null", "http://10.2.0.2/"]);
    }
    assert_eq!(daemon.ask(&["conntrack", "count"]).trim(), "7");
    let all = daemon.sluice(&["conntrack", "list", "-o", "extended"]);
    assert_eq!(String::from_utf8_lossy(&all.stdout).lines().count(), 7, "{}", text(&all));
    assert!(String::from_utf8_lossy(&all.stderr).contains("7 flow entries have been shown"));
    let icmp = daemon.ask(&["conntrack", "list", "-p", "icmp"]);
    assert!(
        icmp.starts_with("icmp     1 ") && icmp.contains("src=10.1.0.2 dst=10.2.0.2 type=8 code=0 id="),
        "{icmp}"
    );
    assert_eq!(daemon.ask(&["conntrack", "list", "-f", "ipv6"]).lines().count(), 1);
    assert_eq!(
        daemon
            .ask(&["conntrack", "list", "-p", "tcp", "-d", "10.2.0.0/24", "--state", "TIME_WAIT"])
            .lines()
            .count(),
        5
    );
    assert_eq!(daemon.ask(&["conntrack", "list", "--dport", "81"]), "");
    assert_eq!(daemon.ask(&["conntrack", "delete", "-p", "tcp"]).lines().count(), 5);
    assert_eq!(daemon.sluice(&["conntrack", "delete", "-p", "tcp"]).status.code(), Some(1));
    assert_eq!(daemon.ask(&["conntrack", "count"]).trim(), "2");
    daemon.ask(&["conntrack", "flush"]);
    assert_eq!(daemon.ask(&["conntrack", "count"]).trim(), "0");
    let stats = daemon.ask(&["conntrack", "stats"]);
    assert_eq!(stats.lines().count(), 2, "{stats}");
    assert!(stats.contains("insert_failed=0"), "{stats}");
    let json = daemon.ask(&["--json", "conntrack", "count"]);
    assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok_and(|v| v["count"] == 0), "{json}");
    assert_eq!(daemon.sluice(&["conntrack", "list", "-p", "nonsense"]).status.code(), Some(1));
    daemon.stop();
}

#[test]
fn show_everything() {
    let lab = Lab::new();
    let system = SystemFile {
        more:
            "routes:\n  - {to: 198.51.100.0/24, via: 10.2.0.254}\n  - {to: 203.0.113.0/24, type: blackhole}\n\
               neighbours:\n  - {address: 10.2.0.254, mac: \"02:00:00:00:00:09\"}\n"
                .into(),
        ..SystemFile::default()
    };
    let daemon = Daemon::start(&lab, &system, BORDER);
    lab.must("client", &["ping", "-q", "-c", "3", "-i", "0.05", "10.2.0.2"]);
    let cases = [
        ("policy", "inside: [lan]"),
        ("rules", "outbound"),
        ("interfaces", "address 10.1.0.1/24"),
        ("routes", "198.51.100.0/24 via 10.2.0.254 dev wan"),
        ("routes", "blackhole 203.0.113.0/24"),
        ("neighbours", "02:00:00:00:00:09"),
        ("neighbours", "reachable"),
        ("workers", "FAST PATH"),
        ("drops", "REASON"),
        ("sets", "SET"),
        ("config", "interfaces:"),
    ];
    for (what, expected) in cases {
        let out = daemon.ask(&["show", what]);
        assert!(out.contains(expected), "show {what}: expected '{expected}':\n{out}");
        let json = daemon.ask(&["show", what, "--json"]);
        assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "show {what} --json: {json}");
    }
    let mode = std::fs::metadata(lab.dir().join("api.sock")).expect("socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    assert_eq!(daemon.sluice(&["--socket", "/nonexistent", "show", "rules"]).status.code(), Some(2));
    daemon.stop();
}

#[test]
fn reload_takes_what_it_can_and_names_the_rest() {
    let lab = Lab::new();
    let system = SystemFile::default();
    let daemon = Daemon::start(&lab, &system, ACCEPT);
    // Settings, routes and the policy file change while running.
    let next = SystemFile {
        more: "conntrack: {timeouts: {icmp: 7}}\nroutes: [{to: 192.0.2.0/24, via: 10.2.0.2}]\n".into(),
        ..system.clone()
    };
    lab.write("sluice.yaml", &next.text(&lab));
    daemon.ask(&["reload"]);
    assert!(daemon.ask(&["show", "routes"]).contains("192.0.2.0/24 via 10.2.0.2 dev wan"));
    lab.must("client", &["ping", "-q", "-c", "1", "10.2.0.2"]);
    let flow = daemon.ask(&["conntrack", "list", "-p", "icmp"]);
    let timeout: u32 = flow.split_whitespace().nth(2).and_then(|t| t.parse().ok()).expect("timeout");
    assert!(timeout <= 7, "{flow}");
    // SIGHUP is the same.
    lab.write("policy.yaml", "filter: {forward: {policy: drop, rules: []}}\n");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_until(|| daemon.ask(&["show", "policy"]).contains("policy: drop"));
    assert!(
        !lab.run("client", &["ping", "-q", "-c", "2", "-i", "0.5", "-W", "1", "10.2.0.2"]).status.success()
    );
    // The number of workers does not.
    lab.write("sluice.yaml", &SystemFile::workers(2).text(&lab));
    let out = daemon.sluice(&["reload"]);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out));
    assert!(text(&out).contains("workers"), "{}", text(&out));
    daemon.stop();
}

#[test]
fn metrics_have_the_names_of_the_contract() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &SystemFile::default(), BORDER);
    lab.must("client", &["ping", "-q", "-c", "10", "-i", "0.02", "10.2.0.2"]);
    lab.run("client", &["ping", "-q", "-c", "3", "-i", "0.02", "-W", "1", "-t", "1", "10.2.0.2"]);
    let m = daemon.metrics();
    for name in [
        "sluice_rx_packets_total",
        "sluice_forwarded_packets_total",
        "sluice_delivered_packets_total",
        "sluice_answered_packets_total",
        "sluice_consumed_packets_total",
        "sluice_drops_total",
        "sluice_held_packets",
        "sluice_local_tx_packets_total",
        "sluice_conntrack_packets_total",
        "sluice_rule_packets_total",
        "sluice_rule_bytes_total",
        "sluice_conntrack_entries",
        "sluice_conntrack_max",
    ] {
        assert!(m.has(name), "{name}");
    }
    assert_eq!(m.sum("sluice_answered_packets_total", &["interface=\"lan\""]), 3);
    assert_eq!(m.sum("sluice_forwarded_packets_total", &["interface=\"lan\""]), 10);
    assert_eq!(m.sum("sluice_forwarded_packets_total", &["interface=\"wan\""]), 10);
    assert_eq!(m.sum("sluice_rule_packets_total", &["rule=\"outbound\""]), 1);
    daemon.assert_adds_up();
    daemon.stop();
}

/// The page beside the metrics: on loopback, by its own name alone, and with nothing from elsewhere.
#[test]
fn the_page_shows_what_the_router_does_to_who_may_see_it() {
    let lab = Lab::new();
    let rule = "filter: {forward: {policy: drop, rules: [{proto: icmp, action: accept, name: pings}]}}\n";
    let daemon = Daemon::start(&lab, &SystemFile::default(), rule);
    lab.must("client", &["ping", "-q", "-c", "3", "-i", "0.2", "10.2.0.2"]);
    let get = |arguments: &[&str]| {
        let base = ["curl", "-sS", "-m", "5", "-i"];
        lab.must("router", &[&base[..], arguments].concat())
    };
    let page = get(&["http://127.0.0.1:9843/"]);
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("default-src 'none'"), "{page}");
    assert!(get(&["http://127.0.0.1:9843/page.js"]).contains("textContent"));
    let state = get(&["http://127.0.0.1:9843/page/state"]);
    for words in ["\"pings\"", "\"lan\"", "10.1.0.2", "\"drops\"", "\"busy_cycles\""] {
        assert!(state.contains(words), "{words} in {state}");
    }
    // Another name may be somebody's who has it point here.
    let strange = get(&["-H", "Host: evil.example", "http://127.0.0.1:9843/page/state"]);
    assert!(strange.starts_with("HTTP/1.1 421") && !strange.contains("10.1.0.2"), "{strange}");
    daemon.stop();
}
