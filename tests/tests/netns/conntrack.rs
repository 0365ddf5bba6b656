//! `sluice conntrack` beside the kernel's own `conntrack`: the same traffic through both, and what they print of it.

use sluice_tests::{Daemon, Lab, Process, SystemFile, program};

use crate::ACCEPT;

/// What servers do: an answer to each connection and datagram, on ports that are known.
const SERVER: &str = r"
import socket, threading, time
def tcp(port):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('', port)); s.listen()
    while True:
        c, _ = s.accept(); c.send(b'hello'); c.recv(9); time.sleep(.1); c.close()
def udp(port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', port))
    while True:
        data, peer = s.recvfrom(99); s.sendto(data, peer)
threading.Thread(target=tcp, args=(80,), daemon=True).start()
udp(53)
";

/// What clients do, from ports that are known, so that both trackers see the same flows: a connection from its handshake
/// to its end, one that nobody answers, one that is refused, a question over UDP, and a conversation.
const CLIENT: &str = r"
import socket, time
def tcp(sport, dport):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('', sport)); s.settimeout(1)
    try:
        s.connect(('10.2.0.2', dport)); s.recv(9); time.sleep(.1); s.shutdown(socket.SHUT_WR); s.recv(9)
    except OSError: pass
    s.close(); time.sleep(.1)
tcp(40001, 80); tcp(40002, 99)
for sport, wait in (40003, 0), (40004, 2.1):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', sport)); s.connect(('10.2.0.2', 53)); s.settimeout(1)
    s.send(b'q'); s.recv(9); time.sleep(wait); s.send(b'q'); s.recv(9)
";

#[test]
fn what_is_printed_is_what_conntrack_prints() {
    let lab = Lab::new();
    let server = lab.spawn("server", &["python3", "-c", SERVER]);
    lab.wait_for("server", 80);

    let daemon = Daemon::start(&lab, &SystemFile::workers(2), ACCEPT);
    let (sluice, socket) = (program("sluice"), lab.dir().join("api.sock"));
    let sluice = [sluice.as_str(), "--socket", &socket.to_string_lossy(), "conntrack"].map(str::to_owned);
    let ours = seen(&lab, &sluice);
    daemon.stop();

    make_router(&lab);
    let theirs = seen(&lab, &["conntrack".to_owned()]);
    drop(server);

    for (ours, theirs) in [(&ours.events, &theirs.events), (&ours.lists, &theirs.lists)] {
        let same = ours.len() == theirs.len() && std::iter::zip(ours, theirs).all(|(a, b)| alike(a, b));
        assert!(same, "{ours:#?}\n{theirs:#?}");
    }
    assert!(theirs.events.len() > 16 && theirs.lists.len() == 3 * 4, "{theirs:#?}");
}

/// Whether two lines are the same, but for a second that passed between the packet and its line.
fn alike(ours: &str, theirs: &str) -> bool {
    let (ours, theirs): (Vec<_>, Vec<_>) = (ours.split(' ').collect(), theirs.split(' ').collect());
    let close = |a: &str, b: &str| match (a.parse::<u32>(), b.parse::<u32>()) {
        (Ok(a), Ok(b)) => a.abs_diff(b) <= 1,
        _ => a == b,
    };
    // The first number is the protocol's.
    ours.len() == theirs.len()
        && std::iter::zip(&ours, &theirs)
            .enumerate()
            .all(|(at, (a, b))| if at < 3 { a == b } else { close(a, b) })
}

/// What a tracker's tool printed.
#[derive(Debug)]
struct Seen {
    events: Vec<String>,
    /// By style.
    lists: Vec<String>,
}

/// Sends the traffic through the router, and asks its tracker by `tool`.
fn seen(lab: &Lab, tool: &[String]) -> Seen {
    let with = |arguments: &[&str]| -> Vec<String> {
        tool.iter().cloned().chain(arguments.iter().map(|argument| (*argument).to_owned())).collect()
    };
    let run = |arguments: &[&str]| {
        let argv = with(arguments);
        lab.must("router", &argv.iter().map(String::as_str).collect::<Vec<_>>())
    };
    lab.must("client", &["ping", "-q", "-c", "1", "10.2.0.2"]);
    run(&["-F"]);
    let argv = with(&["-E"]);
    let watch = lab.spawn("router", &argv.iter().map(String::as_str).collect::<Vec<_>>());
    // It says nothing when it begins to watch: pings are sent until it does.
    while !watch.log().contains("[NEW]") {
        lab.must("client", &["ping", "-q", "-c", "1", "-e", "7", "10.2.0.2"]);
        run(&["-F"]);
    }
    lab.must("client", &["ping", "-q", "-c", "1", "-e", "8", "10.2.0.2"]);
    lab.python("client", CLIENT);
    let mut lists = Vec::new();
    for style in ["extended", "save", "timestamp"] {
        let list = run(&["-L", "-o", style, "-f", "ipv4"]);
        let mut list: Vec<String> = list.lines().map(|line| without_time(line, style)).collect();
        list.sort_unstable();
        lists.extend(list);
    }
    run(&["-U", "-p", "udp", "-s", "10.1.0.2", "--sport", "40003", "-m", "5"]);
    run(&["-D", "-p", "udp", "-s", "10.1.0.0/24", "--orig-port-src", "40003"]);
    run(&["-D", "-p", "icmp"]);
    // Pings that only sounded out whether it watches are of no interest, nor is what others say.
    let is_event = |line: &&str| line.contains("src=10.1.0.2") && !line.contains(" id=7 ");
    let events = || watch.log().lines().filter(is_event).map(told).collect::<Vec<_>>();
    wait_for_last(&watch, "[DESTROY] icmp");
    Seen { events: events(), lists }
}

fn wait_for_last(watch: &Process, words: &str) {
    for _ in 0..100 {
        if watch.log().lines().any(|line| line.contains(words) && line.contains(" id=8 ")) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("no {words}:\n{}", watch.log());
}

/// A line of a list without the seconds that are left, which another second changes.
fn without_time(line: &str, style: &str) -> String {
    let at = match style {
        "extended" => 4,
        _ => 2,
    };
    let words = line.split_whitespace().enumerate();
    words.map(|(nth, word)| if nth == at { "TIME" } else { word }).collect::<Vec<_>>().join(" ")
}

/// An event without what depends on the second, and without who did it.
fn told(line: &str) -> String {
    let (line, by) = line.split_once(" [USERSPACE]").map_or((line, ""), |(line, _)| (line, " [USERSPACE]"));
    let words: Vec<&str> = line.split_whitespace().collect();
    // What begins or changes by a packet has its whole timeout; what ends has what is left of it.
    let timed = by.is_empty() && !line.starts_with("[DESTROY]");
    let words = words.iter().enumerate().map(|(nth, word)| if nth == 3 && !timed { "TIME" } else { word });
    words.collect::<Vec<_>>().join(" ") + by
}

/// Makes a router of the kernel in the same place, tracking everything.
fn make_router(lab: &Lab) {
    let router = |argv: &[&str]| lab.must("router", argv);
    for (n, leg, host) in [("1", "lan0", "client"), ("2", "wan0", "server")] {
        router(&["ip", "addr", "add", &format!("10.{n}.0.1/24"), "dev", leg]);
        router(&["ip", "link", "set", leg, "up"]);
        lab.must(host, &["ip", "neigh", "flush", "all"]);
    }
    router(&["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
    router(&[
        "nft",
        "add table t; add chain t f { type filter hook forward priority 0; }; add rule t f ct state new accept",
    ]);
}
