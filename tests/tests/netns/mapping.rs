//! What peers behind the router see of each other: one mapping for all destinations, and blocks of ports.

use std::collections::BTreeSet;

use sluice_tests::{Daemon, Lab, SystemFile, text};

/// Says to everybody on sixteen ports which address and port he has.
const MIRROR: &str = r#"
import select, socket
sockets = []
for port in range(7000, 7016):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("10.2.0.2", port))
    sockets.append(s)
while True:
    for s in select.select(sockets, [], [])[0]:
        _, peer = s.recvfrom(100)
        s.sendto(("%s:%d" % peer).encode(), peer)
"#;

/// Asks all sixteen from port 5000 of each address, in turn; prints address and answer.
const ASK: &str = r#"
import socket
sockets = []
for address in ["10.1.0.2", "10.1.0.3", "10.1.0.4"]:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((address, 5000))
    s.settimeout(5)
    sockets.append((address, s))
for port in range(7000, 7016):
    for address, s in sockets:
        for attempt in range(5):
            s.sendto(b"?", ("10.2.0.2", port))
            try:
                print(address, s.recvfrom(100)[0].decode())
                break
            except socket.timeout:
                pass
"#;

/// Of each inner address, what the server saw.
fn seen(lab: &Lab) -> Vec<BTreeSet<String>> {
    for extra in ["10.1.0.3/24", "10.1.0.4/24"] {
        lab.run("client", &["ip", "addr", "add", extra, "dev", "eth0"]);
    }
    lab.must("server", &["ip", "-4", "route", "del", "default"]);
    let _mirror = lab.spawn("server", &["python3", "-c", MIRROR]);
    std::thread::sleep(std::time::Duration::from_millis(500));
    let told = lab.python("client", ASK);
    assert_eq!(told.lines().count(), 48, "everybody is answered: {told}");
    let of = |address: &str| {
        let lines = told.lines().filter_map(|line| line.strip_prefix(address)?.strip_prefix(' '));
        lines.map(str::to_owned).collect()
    };
    ["10.1.0.2", "10.1.0.3", "10.1.0.4"].map(of).into()
}

#[test]
fn an_endpoint_is_the_same_to_all_with_two_workers() {
    let lab = Lab::new();
    let policy = "nat: {postrouting: [{out: wan, action: {masquerade: {mapping: endpoint-independent}}}]}\n";
    let daemon = Daemon::start(&lab, &SystemFile::workers(2), policy);
    let seen = seen(&lab);
    assert!(seen.iter().all(|mappings| mappings.len() == 1), "{seen:?}");
    assert_eq!(seen.iter().flatten().collect::<BTreeSet<_>>().len(), 3, "none is two's: {seen:?}");
    assert!(seen.iter().flatten().any(|mapping| mapping == "10.2.0.1:5000"), "the first one keeps its port");
    daemon.assert_adds_up();
    daemon.stop();
}

#[test]
fn subscribers_have_their_ports_and_a_line_in_the_log() {
    let lab = Lab::new();
    let policy = "nat: {postrouting: [{out: wan, action: {snat: {to: 10.2.0.1, port: 20000-20999, \
                  blocks: {of: 10.1.0.0/29, size: 100}}}}]}\n";
    let daemon = Daemon::start(&lab, &SystemFile::workers(2), policy);
    for (n, mappings) in (2..5u16).zip(seen(&lab)) {
        let ports = 20_000 + 100 * n..20_100 + 100 * n;
        for mapping in &mappings {
            let port = mapping.strip_prefix("10.2.0.1:").and_then(|port| port.parse().ok());
            assert!(port.is_some_and(|port| ports.contains(&port)), "10.1.0.{n}: {mapping}");
        }
        let line = format!("nat_block: 10.1.0.{n} has 10.2.0.1 ports {}-{} ", ports.start, ports.end - 1);
        daemon.wait_for_log(&line);
        assert_eq!(daemon.log().matches(&line).count(), 1, "once for both workers");
    }
    let told =
        daemon.ask(&["explain", "--in", "lan", "--src", "10.1.0.3", "--dst", "10.2.0.2", "--proto", "icmp"]);
    assert!(told.contains("source becomes 10.2.0.1, a port of 20300-20399"), "{told}");
    let told = daemon.ask(&["show", "nat", "--owner", "10.2.0.1:20345"]);
    assert_eq!(told, "10.1.0.3 has 10.2.0.1 ports 20300-20399 by nat.postrouting 1\n");
    let told = daemon.ask(&["show", "nat", "--owner", "10.2.0.1:20345", "--json"]);
    assert!(told.contains(r#""subscriber":"10.1.0.3","first":20300,"last":20399"#), "{told}");
    let nobody = daemon.sluice(&["show", "nat", "--owner", "10.2.0.1:80"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text(&nobody).contains("no block has 10.2.0.1:80"), "{}", text(&nobody));
    daemon.stop();
}
