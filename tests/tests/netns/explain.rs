//! What `explain` and `simulate` say, against what the router did.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use sluice_tests::{Daemon, Lab, SystemFile, text};

const POLICY: &str = r"
zones: {inside: [lan], outside: [wan]}
nat: {postrouting: [{out: outside, dst: 10.2.0.9, action: masquerade}]}
filter:
  forward:
    policy: drop
    rules:
      - {ct: established, action: accept, name: answers}
      - {in: inside, proto: tcp, dport: 81, action: {reject: tcp-reset}, name: refused}
      - {in: inside, out: outside, ct: new, action: accept, name: outbound}
";

/// Packets of each rule that has a name.
fn counted(rules: &Value, name: &str, packets: &str) -> Vec<(String, u64)> {
    let rules = rules.as_array().expect("rules");
    let of = |rule: &Value| Some((rule[name].as_str()?.to_owned(), rule[packets].as_u64()?));
    let named = ["answers", "refused", "outbound"];
    rules.iter().filter_map(of).filter(|(name, _)| named.contains(&name.as_str())).collect()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn a_capture_simulated_counts_as_the_router_did() {
    let lab = Lab::new();
    let _nginx = lab.nginx("server");
    let daemon = Daemon::start(&lab, &SystemFile::default(), POLICY);
    let capture = lab.dir().join("seen.pcap");
    let path = capture.to_string_lossy();
    let tcpdump = [
        "tcpdump",
        "-Z",
        "root",
        "-U",
        "--immediate-mode",
        "-i",
        "eth0",
        "-w",
        &path,
        "tcp or icmp or icmp6",
    ];
    let mut capturing = lab.spawn("client", &tcpdump);
    daemon.wait_until(|| capturing.log().contains("listening on"));
    for server in ["10.2.0.2", "fd00:2::2"] {
        lab.must("client", &["ping", "-q", "-c", "3", "-i", "0.1", server]);
        lab.run("client", &["nc", "-n", "-w", "1", "-z", server, "81"]);
    }
    lab.must("client", &["curl", "-sSf", "-o", "/dev/null", "http://10.2.0.2/"]);
    std::thread::sleep(Duration::from_millis(500));
    capturing.signal(Signal::SIGINT);
    capturing.wait(Duration::from_secs(5));

    let router = counted(&json(&daemon.ask(&["--json", "show", "rules"])), "name", "packets");
    assert!(router.iter().all(|(_, packets)| *packets > 0), "{router:?}");
    let (policy, config) = (lab.dir().join("policy.yaml"), lab.dir().join("sluice.yaml"));
    let (policy, config) = (policy.to_string_lossy(), config.to_string_lossy());
    let told = daemon.ask(&["--json", "simulate", &policy, &path, "--config", &config]);
    assert_eq!(counted(&json(&told)["rules"], "rule", "packets"), router, "{told}");
    daemon.stop();
}

#[test]
fn a_packet_of_a_live_flow_is_explained_as_one_of_it() {
    let lab = Lab::new();
    lab.must("server", &["ip", "address", "add", "10.2.0.9/24", "dev", "eth0"]);
    let daemon = Daemon::start(&lab, &SystemFile::workers(2), POLICY);
    let _listening = lab.spawn("server", &["nc", "-l", "-k", "-n", "10.2.0.9", "5000"]);
    lab.wait_for("server", 5000);
    let _open = lab.spawn("client", &["nc", "-n", "-d", "-p", "4000", "10.2.0.9", "5000"]);
    daemon.wait_until(|| daemon.ask(&["conntrack", "count"]).trim() == "1");
    let end = ["--proto", "tcp", "--tcp-flags", "ack"];
    let explain = |packet: &[&str]| daemon.ask(&[&["explain"], packet, &end].concat());
    let there = explain(&[
        "--in", "lan", "--src", "10.1.0.2", "--sport", "4000", "--dst", "10.2.0.9", "--dport", "5000",
    ]);
    for expected in [
        "tracked: established",
        "(original direction)",
        "source becomes 10.2.0.1, as the flow has it",
        "rule answers",
    ] {
        assert!(there.contains(expected), "{expected}: {there}");
    }
    let back = explain(&[
        "--in", "wan", "--src", "10.2.0.9", "--sport", "5000", "--dst", "10.2.0.1", "--dport", "4000",
    ]);
    for expected in [
        "(reply direction)",
        "destination becomes 10.1.0.2",
        "routed: forward, out by lan",
        "verdict: accept",
    ] {
        assert!(back.contains(expected), "{expected}: {back}");
    }
    let other = explain(&[
        "--in", "lan", "--src", "10.1.0.2", "--sport", "4001", "--dst", "10.2.0.2", "--dport", "81",
    ]);
    assert!(other.contains("tracked: new") && other.contains("verdict: reject, by rule refused"), "{other}");
    let wrong = daemon.sluice(&["explain", "--in", "lna", "--dst", "10.2.0.2"]);
    assert!(
        wrong.status.code() == Some(1) && text(&wrong).contains("did you mean `lan`?"),
        "{}",
        text(&wrong)
    );
    daemon.stop();
}
