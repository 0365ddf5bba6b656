//! The tracker as an operator sees it: the lines that conntrack would print, zones, timeouts and settings.

use std::time::Duration;

use sluice_tests::{Daemon, Lab, SystemFile};

use crate::ACCEPT;

/// The client's own kernel tracks what it sends: the same packets, seen one hop earlier.
const MIRROR: &str = "table inet mirror {
  chain out {
    type filter hook output priority 0
    ct state new accept
  }
}
";

/// One packet of each protocol that the tracker knows, without an answer, beside what real programs send.
const ODD_ONES: &str = r#"
import socket, struct
def raw(family, protocol, data, to):
    s = socket.socket(family, socket.SOCK_RAW, protocol)
    s.sendto(data, (to, 0))
def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff
def sctp(sport):
    chunk = struct.pack('!BBHIIHHI', 1, 0, 20, 0x11111111, 0x10000, 1, 1, 1)
    head = struct.pack('!HHI', sport, 2905, 0)
    return head + struct.pack('<I', crc32c(head + b'\0\0\0\0' + chunk)) + chunk
for family, to in ((socket.AF_INET, '10.2.0.2'), (socket.AF_INET6, 'fd00:2::2')):
    raw(family, 132, sctp(4001), to)
    raw(family, 253, b'x', to)
    raw(family, 33, bytes(16), to)
    raw(family, 47, bytes.fromhex('0000080045'), to)
    raw(family, 47, bytes.fromhex('3001880b000000070000000000000000'), to)
    s = socket.socket(family, socket.SOCK_DGRAM, 136)
    s.bind(('', 4003)); s.sendto(b'x', (to, 4004))
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.bind(('', 4005)); s.sendto(b'x', (to, 4006))
"#;

/// A listing's lines in order, without what differs from one tracker to another: ids, and seconds that pass between.
fn comparable(listing: &str) -> Vec<String> {
    let mut lines: Vec<String> = listing
        .lines()
        .map(|line| {
            let words =
                line.split_whitespace().enumerate().filter_map(|(at, word)| match word.split_once('=') {
                    None if at == 4 => Some(if word.parse::<u32>().is_ok() { "SECONDS" } else { word }),
                    Some(("delta-time" | "use", _)) => None,
                    _ => Some(word),
                });
            words.collect::<Vec<_>>().join(" ")
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn lines_are_those_of_the_kernel() {
    let lab = Lab::new();
    let _nginx = lab.nginx("server");
    lab.must("client", &["nft", MIRROR]);
    lab.must("client", &["sysctl", "-qw", "net.netfilter.nf_conntrack_acct=1"]);
    // The client verifies nothing of what it sends; in prerouting, UDP-Lite as hosts send it is INVALID, as on Linux.
    let more = "conntrack: {acct: true, checksum: false}\n".into();
    let system = SystemFile { more, ..SystemFile::default() };
    let daemon = Daemon::start(&lab, &system, ACCEPT);
    // Whoever asks for neighbours first: their packets are held, and counted when they are sent.
    for server in ["10.2.0.2", "fd00:2::2"] {
        lab.must("client", &["ping", "-q", "-c", "2", "-i", "0.05", server]);
    }
    lab.must("client", &["conntrack", "-F"]);
    daemon.ask(&["conntrack", "flush"]);
    for server in ["10.2.0.2", "fd00:2::2"] {
        lab.must("client", &["ping", "-q", "-c", "2", "-i", "0.05", server]);
        let at = if server.contains(':') { format!("[{server}]") } else { server.to_owned() };
        lab.must("client", &["curl", "-sSf", "-o", "/dev/null", &format!("http://{at}/")]);
    }
    lab.python("client", ODD_ONES);
    let kernel = || {
        let both =
            ["ipv4", "ipv6"].map(|f| lab.must("client", &["conntrack", "-L", "-f", f, "-o", "extended"]));
        comparable(&both.concat())
    };
    let ours = || comparable(&daemon.ask(&["conntrack", "list", "-o", "extended"]));
    // The last packets of a connection may still be on their way.
    let mut seen = (kernel(), ours());
    for _ in 0..20 {
        if seen.0 == seen.1 {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
        seen = (kernel(), ours());
    }
    assert!(seen.0 == seen.1, "kernel:\n{}\nhere:\n{}", seen.0.join("\n"), seen.1.join("\n"));
    assert!(seen.0.len() >= 18, "{} flows", seen.0.len());
    daemon.stop();
}

#[test]
fn zones_keep_flows_of_one_tuple_apart() {
    let lab = Lab::new();
    let policy = r"
timeouts: {short: {udp: 5s, udp_stream: 9s}}
raw:
  prerouting:
    - {proto: udp, dport: 4010, ttl: 33, action: {zone: 7}}
    - {proto: udp, dport: 4010, action: {ct_timeout: short}}
    - {proto: udp, dport: 4011, action: {zone: {original: 8}}}
";
    let daemon = Daemon::start(&lab, &SystemFile::default(), policy);
    lab.python(
        "client",
        "import socket\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         s.bind(('', 4009))\n\
         s.sendto(b'x', ('10.2.0.2', 4010)); s.sendto(b'x', ('10.2.0.2', 4011))\n\
         s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 33); s.sendto(b'x', ('10.2.0.2', 4010))\n",
    );
    daemon.wait_until(|| daemon.ask(&["conntrack", "count"]).trim() == "3");
    let listed = |options: &[&str]| daemon.ask(&[&["conntrack", "list"], options].concat());
    let zone = listed(&["-w", "7"]);
    assert!(zone.lines().count() == 1 && zone.contains(" mark=0 zone=7 use=1"), "{zone}");
    let request = listed(&["--orig-zone", "8"]);
    assert!(
        request.lines().count() == 1 && request.contains("dport=4011 zone-orig=8 [UNREPLIED]"),
        "{request}"
    );
    assert!(listed(&["-w", "0"]).contains("dport=4010 [UNREPLIED]"));
    let timeout =
        |line: &str| line.split_whitespace().nth(2).and_then(|t| t.parse::<u32>().ok()).unwrap_or(0);
    assert!(
        timeout(&listed(&["-w", "0"])) <= 5 && timeout(&zone) <= 5 && timeout(&request) > 20,
        "{zone}{request}"
    );
    daemon.ask(&["conntrack", "delete", "-w", "7"]);
    assert_eq!(daemon.ask(&["conntrack", "count"]).trim(), "2");
    daemon.stop();
}

#[test]
fn settings_change_while_running() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &SystemFile::default(), ACCEPT);
    let send = |port: u16| {
        lab.python(
            "client",
            &format!(
                "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
                 s.bind(('', {port})); s.sendto(b'x', ('10.2.0.2', 4020))\n"
            ),
        )
    };
    let line = |port: u16| daemon.ask(&["conntrack", "list", "--sport", &port.to_string()]);
    send(4021);
    daemon.wait_until(|| !line(4021).is_empty());
    assert!(!line(4021).contains("packets="));
    let settings = "conntrack: {acct: true, timestamp: true, log_invalid: 6, timeouts: {udp: 200}}\n";
    let system = SystemFile { more: settings.into(), ..SystemFile::default() };
    lab.write("sluice.yaml", &system.text(&lab));
    assert!(daemon.ask(&["reload"]).contains("conntrack"));
    send(4021);
    send(4022);
    daemon.wait_until(|| line(4022).contains("packets=1 bytes=29"));
    assert!(line(4022).contains(" delta-time="), "{}", line(4022));
    assert!(!line(4021).contains("packets="), "a flow that began uncounted stays so: {}", line(4021));
    let timeout =
        |line: String| line.split_whitespace().nth(2).and_then(|t| t.parse::<u32>().ok()).unwrap_or(0);
    assert!(timeout(line(4021)) > 150, "the next packet has the new timeout: {}", line(4021));
    lab.python(
        "client",
        "import socket, struct\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)\n\
         s.sendto(struct.pack('!HHIIBBHHH', 4023, 80, 1, 0, 0x50, 4, 0, 0, 0), ('10.2.0.2', 0))\n",
    );
    daemon.wait_for_log("nf_ct_proto_6: bad checksum IN=lan OUT= MAC=");
    daemon.stop();
}
