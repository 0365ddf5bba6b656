//! A client that has IPv6 alone, and a server that has IPv4 alone: real programs by NAT64, with one worker and two.

use sluice_tests::{Daemon, Lab, SystemFile};

/// What the client calls 10.2.0.2.
const CALLED: &str = "64:ff9b:1::a02:2";

/// The router's own address is the pool. What IPv4 hosts inside would speak from has other ports.
const NAT64: &str = r#"
zones: {inside: [lan], outside: [wan]}
nat:
  prerouting:
    - {in: inside, action: {nat64: {to: 10.2.0.1, port: 40000-65535, prefix: "64:ff9b:1::/96"}}, name: to-ipv4}
  postrouting:
    - {out: outside, family: ipv4, action: {masquerade: {port: 1024-39999}}}
filter:
  input:
    policy: drop
    rules:
      - {ct: [established, related], action: accept}
      - {proto: icmpv6, action: accept}
  forward:
    policy: drop
    rules:
      - {ct: [established, related], action: accept}
      - {in: inside, out: inside, dst: "64:ff9b:1::10.2.0.1", ct: new, action: accept}
      - {in: inside, out: outside, src: "fd00:1::/64", dst: "64:ff9b:1::10.2.0.0/120", ct: new, action: accept}
"#;

/// Says how much it got, and sends it all back.
const ECHO: &str = r#"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("10.2.0.2", 7000))
while True:
    data, peer = s.recvfrom(65535)
    s.sendto(str(peer[1]).encode() if data == b"who?" else data, peer)
"#;

/// Two hosts that the server tells of their ports of the pool, and that send to each other's until both have heard of the
/// other: whoever sends first is not let in.
const MEET: &str = r#"
import socket
POOL = "64:ff9b:1::a02:1"
def host(address):
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.bind((address, 0))
    s.settimeout(5)
    s.sendto(b"who?", ("64:ff9b:1::a02:2", 7000))
    port = int(s.recv(100))
    s.settimeout(0.3)
    return s, port
def hears(s, port):
    try:
        data, peer = s.recvfrom(100)
    except socket.timeout:
        return False
    assert data == b"hello" and peer[:2] == (POOL, port), (data, peer)
    return True
for n in range(4):
    (a, port_a), (b, port_b) = host("fd00:1::2"), host("fd00:1::3")
    for attempt in range(10):
        a.sendto(b"hello", (POOL, port_b))
        b.sendto(b"hello", (POOL, port_a))
        if hears(a, port_b) and hears(b, port_a):
            print("met")
            break
"#;

/// Datagrams whole and in fragments, there and back; then, as flows of any worker, some to a port where nobody is.
const ASK: &str = r#"
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.settimeout(3)
for length in [1, 1400, 1452, 1453, 4000, 30000]:
    data = bytes(n % 251 for n in range(length))
    for attempt in range(5):
        s.sendto(data, ("64:ff9b:1::a02:2", 7000))
        try:
            assert s.recvfrom(65535)[0] == data, length
            print("same", length)
            break
        except socket.timeout:
            pass
for n in range(5):
    c = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    c.settimeout(3)
    c.connect(("64:ff9b:1::a02:2", 9))
    try:
        c.send(b"?")
        c.recv(100)
    except ConnectionRefusedError:
        print("refused")
"#;

fn speaks(workers: usize) {
    let lab = Lab::new();
    lab.must("client", &["ip", "-4", "addr", "flush", "dev", "eth0"]);
    lab.must("server", &["ip", "-6", "addr", "flush", "dev", "eth0"]);
    lab.must("server", &["ip", "-4", "route", "del", "default"]);
    let _nginx = lab.nginx("server");
    let _iperf3 = lab.iperf3("server");
    let _echo = lab.spawn("server", &["python3", "-c", ECHO]);
    let daemon = Daemon::start(&lab, &SystemFile::workers(workers), NAT64);
    lab.must("client", &["ping", "-q", "-c", "5", "-i", "0.05", "-W", "2", CALLED]);
    let url = format!("http://[{CALLED}]/");
    for _ in 0..8 {
        assert_eq!(lab.must("client", &["curl", "-sSf", "-m", "5", &url]), "hello\n");
    }
    let way = if workers == 1 { "-R" } else { "-P4" };
    lab.transfer("client", CALLED, &["-t", "1", way]);
    let told = lab.python("client", ASK);
    let expected = [1, 1400, 1452, 1453, 4000, 30000].map(|length| format!("same {length}\n")).concat();
    assert_eq!(told, expected + &"refused\n".repeat(5));

    lab.must("client", &["ip", "addr", "add", "fd00:1::3/64", "dev", "eth0", "nodad"]);
    assert_eq!(lab.python("client", MEET), "met\n".repeat(4));
    let refused = daemon.metrics().sum("sluice_drops_total", &[r#"reason="nat64_unmapped""#]);
    assert!(refused >= 1, "{refused}");

    let flows = daemon.ask(&["conntrack", "list", "-f", "ipv6", "-p", "tcp", "--dport", "80"]);
    assert!(flows.contains(&format!("dst={CALLED} ")) && flows.contains("dst=64:ff9b:1::a02:1 "), "{flows}");
    assert!(daemon.ask(&["show", "nat"]).contains("10.2.0.1"), "as IPv4 hosts see it");
    let asked =
        ["explain", "--in", "lan", "--src", "fd00:1::2", "--dst", CALLED, "--proto", "udp", "--dport", "53"];
    let told = daemon.ask(&asked);
    assert!(told.contains("it becomes IPv4 to 10.2.0.2, source 10.2.0.1, a port of 40000-65535"), "{told}");
    // What no flow has is the router's own: nothing listens there, and the policy drops it.
    let refused = lab.run("server", &["curl", "-m", "1", "http://10.2.0.1:50000/"]);
    assert!(!refused.status.success());
    let dropped = daemon.metrics().sum("sluice_drops_total", &[r#"reason="policy_input""#]);
    assert!(dropped >= 1, "{dropped}");
    daemon.assert_adds_up();
    daemon.stop();
}

#[test]
fn ipv6_hosts_speak_to_ipv4_hosts() {
    speaks(1);
}

#[test]
fn ipv6_hosts_speak_to_ipv4_hosts_with_two_workers() {
    speaks(2);
}
