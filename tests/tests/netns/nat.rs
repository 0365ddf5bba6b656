//! Address translation under real programs: both families, one and two workers.

use sluice_tests::{Daemon, Lab, SystemFile, text};

/// Inside speaks by the router's outer address; its web server is published on port 8080, from inside too; what goes to
/// port 8081 anywhere comes to the router's own web server.
const NAT: &str = r#"
zones: {inside: [lan], outside: [wan]}
nat:
  prerouting:
    - {dst: 10.2.0.1, proto: tcp, dport: 8080, action: {dnat: "10.1.0.2:80"}, name: publish}
    - {dst: "fd00:2::1", proto: tcp, dport: 8080, action: {dnat: "[fd00:1::2]:80"}}
    - {in: inside, proto: tcp, dport: 8081, action: {redirect: 80}}
  postrouting:
    - {out: outside, action: masquerade, name: outbound}
    - {in: inside, out: inside, action: masquerade, name: hairpin}
filter:
  input:
    policy: drop
    rules:
      - {ct: [established, related], action: accept}
      - {proto: [icmp, icmpv6], action: accept}
      - {in: inside, proto: tcp, dport: 80, action: accept}
  forward:
    policy: drop
    rules:
      - {ct: [established, related], action: accept}
      - {ct: invalid, action: drop}
      - {in: inside, ct: new, action: accept}
      - {ct: dnat, action: accept}
"#;

/// Of each family: the server's address, the router's on the outer side.
const FAMILIES: [(&str, &str); 2] = [("10.2.0.2", "10.2.0.1"), ("fd00:2::2", "fd00:2::1")];

/// A laboratory whose server knows no way to the inside.
fn lab() -> Lab {
    let lab = Lab::new();
    for family in ["-4", "-6"] {
        lab.must("server", &["ip", family, "route", "del", "default"]);
    }
    lab
}

fn get(lab: &Lab, from: &str, address: &str, port: u16) {
    let url = match address.contains(':') {
        true => format!("http://[{address}]:{port}/"),
        false => format!("http://{address}:{port}/"),
    };
    assert_eq!(lab.must(from, &["curl", "-sSf", "-m", "5", &url]), "hello\n", "{url} from {from}");
}

/// The lines of `sluice show nat`, with one blank between words.
fn shown(daemon: &Daemon<'_>) -> Vec<String> {
    let lines = daemon.ask(&["show", "nat"]);
    lines.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn outbound(workers: usize) {
    let lab = lab();
    let _nginx = lab.nginx("server");
    let _iperf3 = lab.iperf3("server");
    let daemon = Daemon::start(&lab, &SystemFile::workers(workers), NAT);
    for (server, router) in FAMILIES {
        lab.must("client", &["ping", "-q", "-c", "5", "-i", "0.05", "-W", "2", server]);
        for _ in 0..8 {
            get(&lab, "client", server, 80);
        }
        let flows = daemon.ask(&["conntrack", "list", "-p", "tcp", "--dport", "80"]);
        assert!(flows.contains(&format!("src={server} dst={router} sport=80")), "{flows}");
        for more in [&["-P", "4"][..], &["-u", "-b", "20M"]] {
            lab.transfer("client", server, &[&["-t", "1"], more].concat());
        }
    }
    let used = shown(&daemon);
    for beginning in ["10.2.0.1 tcp", "10.2.0.1 icmp 1 1", "fd00:2::1 udp"] {
        assert!(used.iter().any(|line| line.starts_with(beginning)), "{beginning}: {used:?}");
    }
    // Errors about translated packets find who asked: nobody is at this address, and nobody knows the way on.
    let seen = text(&lab.run("client", &["ping", "-c", "1", "-W", "6", "10.2.0.99"]));
    assert!(seen.contains("Destination Host Unreachable"), "{seen}");
    daemon.assert_adds_up();
    daemon.stop();
}

#[test]
fn outbound_with_one_worker() {
    outbound(1);
}

#[test]
fn outbound_with_two_workers() {
    outbound(2);
}

fn inbound(workers: usize) {
    let lab = lab();
    let _inside = lab.nginx("client");
    let daemon = Daemon::start(&lab, &SystemFile::workers(workers), NAT);
    let _own = lab.nginx("router");
    for (server, router) in FAMILIES {
        for _ in 0..8 {
            get(&lab, "server", router, 8080);
            // By the outer address from inside, and to a port that the router answers itself.
            get(&lab, "client", router, 8080);
            get(&lab, "client", server, 8081);
        }
        let closed = lab.run("server", &["curl", "-sS", "-m", "1", &format!("http://{router}:8082/")]);
        assert!(!closed.status.success(), "{}", text(&closed));
    }
    let rules = daemon.ask(&["show", "rules"]);
    assert!(rules.contains("publish") && rules.contains("hairpin"), "{rules}");
    let used = shown(&daemon);
    assert!(used.contains(&"10.2.0.1:8080 tcp 10.1.0.2:80 16".to_owned()), "{used:?}");
    daemon.assert_adds_up();
    daemon.stop();
}

#[test]
fn inbound_with_one_worker() {
    inbound(1);
}

#[test]
fn inbound_with_two_workers() {
    inbound(2);
}
