//! `sluice trace`: live packets on their way, with one worker and with two.

use std::time::Duration;

use sluice_tests::{Daemon, Lab, SystemFile, program, text};

const POLICY: &str = r"
chains:
  udp_in:
    - {dport: 9, action: drop, name: discard}
raw: {prerouting: [{dport: 33333, action: notrack}, {sport: 33333, action: notrack}]}
nat: {postrouting: [{out: wan, action: masquerade, name: out}]}
filter:
  forward:
    policy: accept
    rules:
      - {ct: [established, related], action: accept, name: known}
      - {proto: udp, action: {jump: udp_in}}
";

/// The lines of what a trace printed while `traffic` went.
fn traced(lab: &Lab, daemon: &Daemon<'_>, options: &[&str], traffic: impl Fn()) -> String {
    let (bin, socket) = (program("sluice"), lab.dir().join("api.sock"));
    let mut argv = vec![bin.as_str(), "--socket", socket.to_str().expect("path"), "trace"];
    argv.extend_from_slice(options);
    let _ = std::fs::remove_file(lab.dir().join("router-sluice.log"));
    let mut process = lab.spawn("router", &argv);
    daemon.wait_until(|| process.log().contains("following up to"));
    let another = daemon.sluice(&["trace", "-n", "1"]);
    assert_eq!(another.status.code(), Some(1));
    assert!(text(&another).contains("under way already"), "{}", text(&another));
    traffic();
    assert_eq!(process.wait(Duration::from_secs(10)), Some(0), "{}", process.log());
    // It ends with its client, a moment later.
    daemon.wait_until(|| daemon.sluice(&["trace", "-n", "0"]).status.success());
    process.log()
}

#[test]
fn a_trace_tells_what_happens_to_live_packets() {
    for workers in [1, 2] {
        let lab = Lab::new();
        let daemon = Daemon::start(&lab, &SystemFile::workers(workers), POLICY);
        let send = |ports: &str| {
            lab.python(
                "client",
                &format!(
                    "import socket\n\
                     s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
                     s.bind(('10.1.0.2', 5000))\n\
                     for port in {ports}: s.sendto(b'x' * 100, ('10.2.0.2', port))"
                ),
            );
        };
        // The next hop's address is known from here on.
        lab.must("client", &["ping", "-q", "-c", "1", "10.2.0.2"]);
        let dropped = traced(&lab, &daemon, &["-n", "1", "udp port 9"], || send("[9]"));
        for line in [
            "in lan",
            "udp 10.1.0.2:5000 > 10.2.0.2:9 ttl 64 length 128",
            "  tracked              new, original direction, begins a flow",
            "  route                out by wan, next hop 10.2.0.2",
            "  filter.forward       rule 2: proto: udp, action: {jump: udp_in}",
            "  filter.forward       rule udp_in 1 (discard): dport: 9, action: drop",
            "  verdict              dropped: policy_forward",
        ] {
            assert!(dropped.contains(line), "{line}\n{dropped}");
        }
        assert_eq!(
            dropped.contains("handed over to worker"),
            dropped.contains("in lan, handed over"),
            "{dropped}"
        );
        let sent = traced(&lab, &daemon, &["-n", "1", "udp port 10"], || send("[10]"));
        for line in
            ["rule 1 (out): out: wan, action: masquerade", "now 10.2.0.1:5000 > 10.2.0.2:10", "sent, by wan"]
        {
            assert!(sent.contains(line), "{line}\n{sent}");
        }
        let ping = || drop(lab.must("client", &["ping", "-q", "-c", "5", "-i", "0.05", "10.2.0.2"]));
        let stored = traced(&lab, &daemon, &["-n", "5", "-i", "lan", "icmp"], ping);
        assert!(stored.contains("stored") && stored.contains("rule 1 (known)"), "{stored}");
        assert!(stored.contains("  flow                 icmp     1 "), "{stored}");
        let untracked = traced(&lab, &daemon, &["-n", "2", "udp port 33333"], || send("[33333, 33333]"));
        assert!(untracked.contains("untracked") || untracked.contains("stateless"), "{untracked}");
        let json = traced(&lab, &daemon, &["-n", "1", "--json", "udp port 9"], || send("[9]"));
        let last = json.lines().rfind(|line| line.starts_with('{')).expect("a line");
        let told: serde_json::Value = serde_json::from_str(last).expect("JSON");
        assert_eq!(told["reason"], "policy_forward", "{told}");
        daemon.assert_adds_up();
        daemon.stop();
    }
}
