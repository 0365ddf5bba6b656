//! Policies seen by real clients: refusals, NOTRACK, changes under traffic, bad files.

use std::time::Duration;

use sluice_tests::{Daemon, Lab, SystemFile, text};

use crate::BORDER;

#[test]
fn refusals_as_clients_see_them() {
    let lab = Lab::new();
    let _nginx = lab.nginx("server");
    let cases = [
        ("{reject: tcp-reset}", "Connection refused"),
        ("reject", "Connection refused"),
        ("{reject: host-unreachable}", "No route to host"),
        ("{reject: admin-prohibited}", "No route to host|Permission denied"),
        ("drop", "timed out|Timeout"),
    ];
    let policy = |action: &str| {
        format!(
            "filter: {{forward: {{policy: accept, rules: [{{proto: tcp, dport: 80, ct: new, action: {action}}}]}}}}\n"
        )
    };
    let daemon = Daemon::start(&lab, &SystemFile::default(), &policy("drop"));
    for (action, expected) in cases {
        daemon.apply(&policy(action));
        for server in ["10.2.0.2", "fd00:2::2"] {
            let seen = text(&lab.run("client", &["nc", "-v", "-n", "-w", "1", "-z", server, "80"]));
            assert!(
                expected.split('|').any(|e| seen.contains(e)),
                "{action} to {server}: expected '{expected}': {seen}"
            );
        }
    }
    assert_eq!(
        daemon.ask(&["conntrack", "list", "--dport", "80"]),
        "",
        "a refused connection leaves no flow"
    );
    daemon.stop();
}

#[test]
fn notrack_leaves_no_flow() {
    let lab = Lab::new();
    let _server = lab.iperf3("server");
    let policy = r"
raw:
  prerouting:
    - {dport: 5201, action: notrack, name: there}
    - {sport: 5201, action: notrack, name: back}
filter:
  forward:
    policy: drop
    rules: [{ct: untracked, action: accept, name: untracked}]
";
    let daemon = Daemon::start(&lab, &SystemFile::default(), policy);
    let out = lab.run("client", &["iperf3", "-c", "10.2.0.2", "-t", "1", "-P", "4"]);
    assert!(out.status.success(), "{}", text(&out));
    assert_eq!(daemon.ask(&["conntrack", "count"]).trim(), "0");
    let metrics = daemon.metrics();
    let untracked = metrics.sum("sluice_conntrack_packets_total", &["state=\"untracked\""]);
    let counted = |rule: &str| metrics.sum("sluice_rule_packets_total", &[&format!("rule=\"{rule}\"")]);
    let counted = counted("there") + counted("back");
    // Neighbour discovery and multicast listener reports are untracked as well, and no rule of `raw` speaks of them.
    assert!(
        counted > 100 && (counted..counted + 50).contains(&untracked),
        "untracked {untracked}, counted {counted}"
    );
    daemon.stop();
}

#[test]
fn a_change_under_traffic_loses_nothing() {
    let lab = Lab::new();
    let _server = lab.iperf3("server");
    let daemon = Daemon::start(&lab, &SystemFile::workers(2), BORDER);
    let mut ping = lab.spawn("client", &["ping", "-q", "-c", "1000", "-i", "0.003", "10.2.0.2"]);
    let mut changes = 0;
    while ping.wait(Duration::from_millis(50)).is_none() {
        daemon.apply(&format!("# change {changes}\n{BORDER}"));
        changes += 1;
    }
    assert!(changes > 10, "{changes} changes");
    assert!(ping.log().contains(" 0% packet loss"), "{}", ping.log());
    let metrics = daemon.metrics();
    daemon.assert_adds_up();
    assert!(
        metrics.sum("sluice_rule_packets_total", &["rule=\"outbound\""]) > 0,
        "named rules keep their counters"
    );
    daemon.stop();
}

#[test]
fn flows_outlive_a_policy_and_are_judged_by_the_next() {
    let lab = Lab::new();
    let _server = lab.nginx("server");
    let daemon = Daemon::start(&lab, &SystemFile::default(), BORDER);
    lab.must("client", &["ping", "-q", "-c", "1", "10.2.0.2"]);
    assert_eq!(daemon.ask(&["conntrack", "count"]).trim(), "1");
    daemon.apply("filter: {forward: {policy: drop, rules: []}}\n");
    assert_eq!(daemon.ask(&["conntrack", "count"]).trim(), "1");
    assert!(!lab.run("client", &["ping", "-q", "-c", "1", "-W", "1", "10.2.0.2"]).status.success());
    daemon.apply(BORDER);
    lab.must("client", &["ping", "-q", "-c", "1", "10.2.0.2"]);
    let path = lab.write("flush.yaml", BORDER);
    daemon.ask(&["apply", &path.to_string_lossy(), "--flows", "flush"]);
    assert_eq!(daemon.ask(&["conntrack", "count"]).trim(), "0");
    daemon.stop();
}

#[test]
fn a_bad_policy_is_refused_whole() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &SystemFile::default(), BORDER);
    let bad = BORDER.replace("in: inside", "in: insde").replace("dport: 80", "dport: 80000");
    let path = lab.write("bad.yaml", &bad);
    let out = daemon.sluice(&["apply", &path.to_string_lossy()]);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out));
    let said = text(&out);
    assert!(said.contains("bad.yaml:") && said.contains("insde") && said.contains("inside"), "{said}");
    assert!(said.contains("80000"), "all errors at once: {said}");
    lab.must("client", &["ping", "-q", "-c", "1", "10.2.0.2"]);
    // What one version cannot do yet is said, and refused: never half applied.
    let nat = format!("{BORDER}nat: {{postrouting: [{{out: outside, action: masquerade}}]}}\n");
    let path = lab.write("nat.yaml", &nat);
    let out = daemon.sluice(&["apply", &path.to_string_lossy()]);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out));
    assert!(text(&out).contains("nat"), "{}", text(&out));
    daemon.stop();
}

#[test]
fn log_and_limit() {
    let lab = Lab::new();
    let policy = r#"
filter:
  forward:
    policy: accept
    rules:
      - {proto: icmp, icmp: echo-request, limit: {rate: 1/second, burst: 3}, action: {log: {prefix: "ping "}}}
"#;
    let daemon = Daemon::start(&lab, &SystemFile::default(), policy);
    lab.must("client", &["ping", "-q", "-c", "20", "-i", "0.01", "10.2.0.2"]);
    daemon.wait_for_log("ping IN=lan OUT=wan");
    let lines = daemon.log().lines().filter(|l| l.contains("ping IN=lan")).count();
    assert!((3..=4).contains(&lines), "{lines} lines:\n{}", daemon.log());
    assert!(daemon.log().contains("SRC=10.1.0.2 DST=10.2.0.2"), "{}", daemon.log());
    daemon.stop();
}
