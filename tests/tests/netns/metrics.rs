//! Metrics tell the truth: traffic of known number and size through the router, and every family compared with what was
//! sent, or with what the kernel counted at the other ends of the same wires. A family that is not compared fails the test.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use sluice_tests::{Daemon, Lab, Metrics, SystemFile};

/// Answers on 5000, as a TFTP server on 69 from another port, and is silent on the others; 5004 is closed.
const SERVER: &str = r#"
import select, socket
def udp(port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("10.2.0.2", port)); return s
echo, tftp = udp(5000), udp(69)
silent = [udp(port) for port in (7000, 9000, 9001, 9002)]
up = socket.create_server(("10.2.0.2", 5999))
while True:
    for s in select.select([echo, tftp], [], [])[0]:
        data, peer = s.recvfrom(2000)
        (s if s is echo else udp(0)).sendto(data, peer)
"#;

/// What the client sends, by name: numbers and sizes are those that the test expects.
const CLIENT: &str = r#"
import socket, struct, sys, time
SERVER = "10.2.0.2"
def udp():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("10.1.0.2", 0)); s.settimeout(3); return s
def answered():
    s = udp()
    for n in range(200):
        s.sendto(bytes(100), (SERVER, 5000)); s.recv(2000)
def many(port, count):
    s = udp()
    for n in range(count):
        s.sendto(bytes(100), (SERVER, port))
        if n % 16 == 15: time.sleep(0.001)
def flows(port, count):
    all = [udp() for n in range(count)]
    for s in all: s.sendto(bytes(100), (SERVER, port))
def tftp():
    s = udp(); s.sendto(b"\0\1name\0octet\0", (SERVER, 69)); s.recv(2000)
def invalid(count):
    # An echo reply that nobody asked for.
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    for n in range(count): s.sendto(struct.pack("!BBHHH", 0, 0, 0xffff, 0, 0), (SERVER, 0))
def frames(count):
    # Gratuitous ARP, and a protocol that no router knows.
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("eth0", 0))
    me = s.getsockname()[4]
    arp = struct.pack("!HHBBH", 1, 0x800, 6, 4, 2) + me + bytes([10, 1, 0, 2]) + me + bytes([10, 1, 0, 2])
    for n in range(count):
        s.send(b"\xff" * 6 + me + b"\x08\x06" + arp)
        s.send(b"\xff" * 6 + me + b"\x88\xb5" + bytes(46))
def unknown(count):
    s = udp()
    for n in range(count): s.sendto(bytes(100), ("10.2.0.99", 5005))
"#;

const POLICY: &str = r#"
raw:
  prerouting: [{proto: udp, dport: 7000, action: notrack}, {proto: udp, sport: 7000, action: notrack}]
mangle:
  prerouting: [{proto: udp, dport: 69, action: {helper: tftp}}]
nat:
  postrouting:
    - {out: wan, proto: udp, dport: 9000, action: {snat: {to: 10.2.0.50-10.2.0.51, port: 20000-20099}}, name: pool}
    - {out: wan, proto: udp, dport: 9001, action: masquerade, name: lent}
    - {out: wan, proto: udp, dport: 9002, action: {snat: {to: 10.2.0.52, port: 30000-30002}}}
filter:
  forward:
    policy: drop
    rules:
      - {ct: [established, related], action: accept, name: answers}
      - {ct: untracked, action: accept, name: plain}
      - {proto: udp, dport: [69, 5000, 5004, 5005, 9000, 9001, 9002], action: accept, name: sent}
      - {proto: udp, dport: 5001, action: reject, name: refused}
      - {proto: udp, dport: 5006, action: drop}
  output:
    rules: [{proto: udp, dport: 5003, action: drop}]
"#;

/// Bytes of an IP datagram with 100 bytes of UDP payload.
const DATAGRAM: u64 = 128;

/// Comparisons of metrics with what is so, and of which families there were any.
struct Truth<'a, 'b> {
    daemon: &'a Daemon<'b>,
    before: Metrics,
    now: Metrics,
    seen: &'a mut BTreeSet<String>,
}

impl<'a, 'b> Truth<'a, 'b> {
    fn new(daemon: &'a Daemon<'b>, seen: &'a mut BTreeSet<String>) -> Truth<'a, 'b> {
        Truth { daemon, before: daemon.metrics(), now: daemon.metrics(), seen }
    }

    /// What rises from here on is counted from here on.
    fn mark(&mut self) {
        self.before = self.daemon.metrics();
    }

    /// A metric rose by so much since the mark; packets that are on their way are waited for.
    fn rose(&mut self, name: &str, labels: &[&str], by: u64) {
        self.holds(name, labels, |now, before| now - before == by as f64, &format!("+{by}"));
    }

    /// A metric has this value.
    fn is(&mut self, name: &str, labels: &[&str], value: f64) {
        self.holds(name, labels, |now, _| (now - value).abs() < 1e-9, &value.to_string());
    }

    /// A metric lies between two values.
    fn lies(&mut self, name: &str, labels: &[&str], within: RangeInclusive<f64>) {
        self.holds(name, labels, |now, _| within.contains(&now), &format!("{within:?}"));
    }

    fn holds(&mut self, name: &str, labels: &[&str], right: impl Fn(f64, f64) -> bool, expected: &str) {
        self.seen.insert(family(name));
        let name = format!("sluice_{name}");
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let (now, before) = (self.now.total(&name, labels), self.before.total(&name, labels));
            if right(now, before) {
                return;
            }
            assert!(Instant::now() < end, "{name} {labels:?}: {before}, then {now}, expected {expected}");
            std::thread::sleep(Duration::from_millis(50));
            self.now = self.daemon.metrics();
        }
    }

    /// How much a metric rose, as it was read last.
    fn rise(&self, name: &str) -> f64 {
        let name = format!("sluice_{name}");
        self.now.total(&name, &[]) - self.before.total(&name, &[])
    }
}

/// The family that a sample belongs to: of a histogram it has the name without its last word.
fn family(sample: &str) -> String {
    let cut = ["_bucket", "_count", "_sum"].iter().find_map(|end| sample.strip_suffix(end));
    format!("sluice_{}", cut.filter(|name| name.ends_with("_seconds")).unwrap_or(sample))
}

/// Packets and bytes that the kernel counted at an interface: received, sent.
fn counted(lab: &Lab, host: &str, dev: &str) -> [u64; 4] {
    let text = lab.must(host, &["ip", "-j", "-s", "link", "show", "dev", dev]);
    let json: Value = serde_json::from_str(&text).expect("JSON of ip");
    let of = |way: &str, what: &str| json[0]["stats64"][way][what].as_u64().expect("a counter");
    [of("rx", "packets"), of("rx", "bytes"), of("tx", "packets"), of("tx", "bytes")]
}

fn send(lab: &Lab, call: &str) {
    lab.python("client", &format!("{CLIENT}\n{call}"));
}

/// A laboratory without noise: nobody speaks IPv6, and everybody knows everybody's MAC address.
fn quiet(more: &str, workers: usize) -> (Lab, SystemFile) {
    let lab = Lab::new();
    let mut neighbours = String::new();
    for (n, host, leg) in [(1, "client", "lan0"), (2, "server", "wan0")] {
        lab.must(host, &["sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1"]);
        let address = |host: &str, dev: &str| {
            let path = format!("/sys/class/net/{dev}/address");
            lab.must(host, &["cat", &path]).trim().to_owned()
        };
        let router = address("router", leg);
        let via = format!("10.{n}.0.1");
        lab.must(
            host,
            &["ip", "neigh", "replace", &via, "lladdr", &router, "dev", "eth0", "nud", "permanent"],
        );
        neighbours += &format!("  - {{address: 10.{n}.0.2, mac: \"{}\"}}\n", address(host, "eth0"));
    }
    let system = SystemFile {
        interfaces: "  lan: {device: \"kernel:lan0\", addresses: [10.1.0.1/24]}\n  \
                     wan: {device: \"kernel:wan0\", addresses: [10.2.0.1/24]}\n"
            .into(),
        more: format!("neighbours:\n{neighbours}{more}"),
        ..SystemFile::workers(workers)
    };
    (lab, system)
}

#[test]
fn every_metric_is_true() {
    let mut seen = BTreeSet::new();
    let (lab, system) = quiet("conntrack: {max: 4096, reserve_local: 64}\n", 2);
    let _server = lab.spawn("server", &["python3", "-c", SERVER]);
    lab.wait_for("server", 5999);
    let begun = Instant::now();
    let daemon = Daemon::start(&lab, &system, POLICY);
    let mut truth = Truth::new(&daemon, &mut seen);
    packets(&lab, &mut truth);
    tracking(&lab, &mut truth);
    translations(&lab, &mut truth);
    waiting(&lab, &mut truth);
    workers(&mut truth, begun);
    policies(&lab, &mut truth);
    let families: Vec<String> = daemon.metrics().families().map(str::to_owned).collect();
    daemon.assert_adds_up();
    daemon.stop();

    full_table(&mut seen);
    // Those of remote control are compared where there is some: in remote.rs.
    seen.extend(families.iter().filter(|family| family.starts_with("sluice_remote_")).cloned());
    let missing: Vec<&String> = families.iter().filter(|family| !seen.contains(*family)).collect();
    assert!(missing.is_empty(), "not compared with anything: {missing:?}");
}

/// What interfaces and rules count, against what was sent and what the kernel counted at the other ends.
fn packets(lab: &Lab, truth: &mut Truth<'_, '_>) {
    let ends = [("client", "lan"), ("server", "wan")];
    let wires = ends.map(|(host, _)| counted(lab, host, "eth0"));
    let taps = ends.map(|(_, tap)| counted(lab, "router", tap));
    truth.mark();
    send(lab, "answered()\nmany(7000, 2560)\nflows(5001, 25)\nflows(5002, 30)\nframes(9)");
    lab.must("client", &["ping", "-q", "-c", "5", "-i", "0.02", "10.1.0.1"]);
    lab.python(
        "router",
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
                          for n in range(3): s.sendto(b'x', ('10.2.0.2', 5003))",
    );

    truth.rose("forwarded_packets_total", &["interface=\"lan\""], 200 + 2560);
    truth.rose("forwarded_packets_total", &["interface=\"wan\""], 200);
    truth.rose("answered_packets_total", &[], 25);
    truth.rose("delivered_packets_total", &["interface=\"lan\""], 5);
    truth.rose("consumed_packets_total", &["interface=\"lan\""], 9);
    truth.rose("drops_total", &["reason=\"policy_forward\""], 30);
    truth.rose("drops_total", &["reason=\"unknown_ethertype\""], 9);
    truth.rose("drops_total", &[], 39);
    truth.rose("local_drops_total", &["reason=\"policy_output\""], 3);
    truth.rose("local_drops_total", &[], 3);
    for (rule, count) in [("answers", 399), ("plain", 2560), ("sent", 1), ("refused", 25)] {
        let rule = format!("rule=\"{rule}\"");
        truth.rose("rule_packets_total", &["table=\"filter\"", "chain=\"forward\"", &rule], count);
        truth.rose("rule_bytes_total", &[&rule], count * DATAGRAM);
    }
    for (state, count) in
        [("new", 1 + 25 + 30 + 1), ("established", 399 + 4), ("untracked", 2560), ("invalid", 0)]
    {
        truth.rose("conntrack_packets_total", &[&format!("state=\"{state}\"")], count);
    }
    for (((host, interface), wire), tap) in ends.into_iter().zip(wires).zip(taps) {
        let label = format!("interface=\"{interface}\"");
        let now = counted(lab, host, "eth0");
        let rises = [2, 3, 0, 1].map(|at: usize| now[at] - wire[at]);
        let names = ["rx_packets_total", "rx_bytes_total", "tx_packets_total", "tx_bytes_total"];
        for (name, by) in names.into_iter().zip(rises) {
            truth.rose(name, &[&label], by);
        }
        // What the box sent into the tap, but for what the policy kept back, and the router's own errors.
        let (dropped, errors) = if interface == "wan" { (3, 0) } else { (0, 25) };
        let of_box = counted(lab, "router", interface)[2] - tap[2];
        truth.rose("local_tx_packets_total", &[&label], of_box - dropped + errors);
        truth.is("device_up", &[&label], 1.0);
    }
    for losses in [
        "device_rx_missed_total",
        "device_rx_nombuf_total",
        "device_rx_errors_total",
        "device_tx_errors_total",
    ] {
        truth.is(losses, &[], 0.0);
    }
    let fast = truth.rise("worker_fast_path_packets_total");
    assert!((390.0..=403.0).contains(&fast), "but for the first of each kind, of the tracked: {fast}");
    truth.lies("worker_fast_path_packets_total", &[], 390.0..=450.0);
}

/// What the tracker counts: states, helpers, statistics and gauges.
fn tracking(lab: &Lab, truth: &mut Truth<'_, '_>) {
    truth.mark();
    send(lab, "invalid(7)\nmany(5004, 3)\ntftp()");
    truth.rose("conntrack_packets_total", &["state=\"invalid\""], 7);
    // Three errors of the server, and the first packet of the announced flow.
    truth.rose("conntrack_packets_total", &["state=\"related\""], 3 + 1);
    truth.rose("conntrack_new_flows_total", &[], 3);
    truth.rose("conntrack_insert_total", &[], 3);
    truth.rose("conntrack_invalid_total", &[], 7);
    for what in ["create", "new", "delete"] {
        truth.rose(&format!("conntrack_expect_{what}_total"), &[], 1);
    }
    truth.is("conntrack_expectations", &[], 0.0);
    for nothing in [
        "insert_failed",
        "drop",
        "early_drop",
        "error",
        "search_restart",
        "swept",
        "reserved",
        "quota_uncounted",
    ] {
        truth.is(&format!("conntrack_{nothing}_total"), &[], 0.0);
    }
    let listed = truth.daemon.ask(&["conntrack", "list"]);
    let udp = listed.lines().filter(|line| line.starts_with("udp")).count();
    truth.is("conntrack_entries", &[], listed.lines().count() as f64);
    truth.is("conntrack_flows", &[], listed.lines().count() as f64);
    truth.is("conntrack_flows", &["protocol=\"udp\""], udp as f64);
    truth.is("conntrack_max", &[], 4096.0);
    truth.is("conntrack_reserve", &[], 64.0);
    truth.is("conntrack_timeout_factor", &[], 1.0);
    let found = truth.daemon.ask(&["conntrack", "stats"]);
    let found =
        found.split_whitespace().filter_map(|word| word.strip_prefix("found=")?.parse::<f64>().ok()).sum();
    truth.is("conntrack_found_total", &[], found);
}

/// Pools of addresses and ports: 40 flows take as many ports of two hundred; of three, five flows get three.
fn translations(lab: &Lab, truth: &mut Truth<'_, '_>) {
    truth.mark();
    send(lab, "flows(9000, 40)\nflows(9001, 10)\nflows(9002, 5)");
    truth.rose("drops_total", &["reason=\"nat_exhausted\""], 2);
    truth.is("nat_pool_exhausted_total", &["pool=\"postrouting 3\""], 2.0);
    truth.is("nat_pool_exhausted_total", &[], 2.0);
    let cases = [("pool", 40.0, 200.0), ("lent", 10.0, 64_512.0), ("postrouting 3", 3.0, 3.0)];
    for (pool, used, ports) in cases {
        let pool = format!("pool=\"{pool}\"");
        let labels = [pool.as_str(), "family=\"ipv4\"", "protocol=\"udp\""];
        truth.is("nat_pool_ports_used", &labels, used);
        truth.is("nat_pool_ports", &labels, ports);
    }
    truth.is("nat_pool_ports_used", &["interface=\"wan\"", "protocol=\"tcp\""], 0.0);
    truth.is("nat_uncounted_flows", &[], 0.0);
    // All flows, those that no rule translates too; the announced one perhaps for both directions.
    let flows: f64 = truth.daemon.ask(&["conntrack", "count"]).trim().parse().expect("a number");
    truth.lies("nat_reservations", &[], flows..=flows + 1.0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
    truth.lies("nat_counted_timestamp_seconds", &[], now - 10.0..=now + 10.0);
}

/// Packets that wait for a next hop, and then are answered.
fn waiting(lab: &Lab, truth: &mut Truth<'_, '_>) {
    truth.mark();
    truth.is("neighbours", &["state=\"permanent\""], 2.0);
    send(lab, "unknown(2)");
    truth.is("held_packets", &[], 2.0);
    truth.is("neighbours", &["state=\"incomplete\""], 1.0);
    truth.is("held_packets", &[], 0.0);
    truth.rose("answered_packets_total", &["interface=\"lan\""], 2);
    truth.is("neighbours", &["state=\"failed\""], 1.0);
}

/// What workers count of themselves; since the daemon's start at `begun`.
fn workers(truth: &mut Truth<'_, '_>, begun: Instant) {
    let sum = |metrics: &Metrics, name: &str| metrics.total(&format!("sluice_{name}"), &[]);
    truth.now = truth.daemon.metrics();
    let now = truth.now.clone();
    let [received, sent, local] =
        ["rx_packets_total", "tx_packets_total", "local_tx_packets_total"].map(|name| sum(&now, name));
    let handed_over = sum(&now, "worker_handed_over_packets_total");
    assert!(handed_over > 0.0, "two workers, and devices that do not know who owns what");
    // Beside the wire's packets polls return those of taps, also those that are dropped, and each other's. The router's own
    // errors come from no poll.
    let local = local + sum(&now, "local_drops_total") - sum(&now, "answered_packets_total");
    truth.lies("worker_handed_over_packets_total", &[], 1.0..=received + local);
    let all = received + local + handed_over;
    truth.lies("worker_packets_total", &[], all..=all + 20.0);
    truth.is("worker_device_hashed_packets_total", &[], 0.0);

    let hertz = sum(&now, "cycles_per_second");
    truth.lies("cycles_per_second", &[], 1e8..=1e11);
    let (busy, idle) = (sum(&now, "worker_busy_cycles_total"), sum(&now, "worker_idle_cycles_total"));
    let whole = begun.elapsed().as_secs_f64() * 2.0;
    let time = (busy + idle) / hertz;
    assert!((whole * 0.5..=whole).contains(&time), "two workers in {whole} s: {time} s");
    truth.lies("worker_busy_cycles_total", &[], 1.0..=hertz * whole);
    truth.lies("worker_idle_cycles_total", &[], 1.0..=hertz * whole);
    let polls = sum(&now, "worker_busy_polls_total") + sum(&now, "worker_idle_polls_total");
    truth.lies("worker_busy_polls_total", &[], 1.0..=all);
    truth.lies("worker_idle_polls_total", &[], 1.0..=polls * 2.0);
    // The first poll of each worker is left out; counters move on while they are read.
    let polled = sum(&now, "worker_poll_seconds_count");
    assert!((polled + 2.0 - polls).abs() <= polls * 0.01 + 5.0, "{polled} of {polls} polls");
    truth.lies("worker_poll_seconds_bucket", &["le=\"+Inf\""], polled..=polled * 2.0);
    let spent = sum(&now, "worker_poll_seconds_sum");
    assert!(spent > 0.0 && spent <= time, "{spent} of {time} s");
    truth.lies("worker_longest_poll_seconds", &[], 1e-7..=spent);

    // One in 128 of what workers had in hand, handed-over packets twice; only those that were sent are followed.
    let followed = sum(&now, "worker_latency_seconds_count");
    let expected = sent / 128.0 * 0.5 - 2.0..=sum(&now, "worker_packets_total") / 128.0 + 2.0;
    assert!(expected.contains(&followed), "{followed} of {sent} packets");
    truth.lies("worker_latency_seconds_sum", &[], followed * 1e-7..=spent);

    for worker in ["worker=\"0\"", "worker=\"1\""] {
        let of = |name: &str| now.total(&format!("sluice_worker_{name}"), &[worker]);
        for (ratio, above, below) in [
            ("cycles_per_packet", "busy_cycles_total", "packets_total"),
            ("packets_per_poll", "packets_total", "busy_polls_total"),
        ] {
            let (told, expected) = (of(ratio), of(above) / of(below));
            assert!((told / expected - 1.0).abs() < 0.05, "{ratio}: {told}, by the counters {expected}");
            truth.lies(&format!("worker_{ratio}"), &[worker], 0.1..=1e9);
        }
    }
    truth.is("packet_buffers", &[], 16384.0);
    truth.lies("packet_buffers_used", &[], 1.0..=16384.0);
    let uptime = begun.elapsed().as_secs_f64();
    truth.lies("uptime_seconds", &[], uptime - 10.0..=uptime + 5.0);
    truth.is("build_info", &[&format!("version=\"{}\"", env!("CARGO_PKG_VERSION"))], 1.0);
}

/// What becomes of policies: applied, refused, waiting.
fn policies(lab: &Lab, truth: &mut Truth<'_, '_>) {
    truth.mark();
    truth.is("policy_generation", &[], 1.0);
    truth.is("policy_rules", &[], 12.0);
    truth.lies("policy_compile_seconds", &[], 1e-6..=10.0);
    truth.is("policy_last_reload_success", &[], 1.0);
    // `sluice apply` would find the error before anything is tried.
    lab.write("policy.yaml", "filter: {forwards: []}\n");
    assert_eq!(truth.daemon.sluice(&["reload"]).status.code(), Some(1));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
    truth.is("policy_last_reload_success", &[], 0.0);
    truth.lies("policy_last_reload_timestamp_seconds", &[], now - 5.0..=now + 5.0);
    truth.is("policy_generation", &[], 1.0);
    truth.is("policy_confirm_pending", &[], 0.0);
    truth.is("policy_confirm_remaining_seconds", &[], 0.0);
    let fewer =
        lab.write("fewer.yaml", "filter: {forward: [{ct: established, action: accept, name: answers}]}\n");
    truth.daemon.ask(&["apply", "--confirm", "60s", &fewer.display().to_string()]);
    truth.is("policy_confirm_pending", &[], 1.0);
    truth.lies("policy_confirm_remaining_seconds", &[], 1.0..=60.0);
    truth.is("policy_rules", &[], 1.0);
    truth.is("policy_last_reload_success", &[], 1.0);
    truth.is("policy_generation", &[], 2.0);
    truth.rose("rule_packets_total", &["rule=\"answers\""], 0);
    truth.daemon.ask(&["confirm"]);
    truth.is("policy_confirm_pending", &[], 0.0);
}

/// A table of eight places, and one that is kept for the box itself: each further flow takes another's place or finds none, which
/// depends on where it hashes to.
fn full_table(seen: &mut BTreeSet<String>) {
    const FLOWS: u64 = 500;
    let (lab, system) = quiet("conntrack: {max: 9, reserve_local: 1}\n", 1);
    let daemon = Daemon::start(&lab, &system, crate::ACCEPT);
    let mut truth = Truth::new(&daemon, seen);
    send(&lab, &format!("flows(5000, {FLOWS})"));
    truth.rose("rx_packets_total", &["interface=\"lan\""], FLOWS);
    let refused = truth.rise("conntrack_drop_total") as u64;
    // Who is refused is not behind the tracker.
    truth.rose("conntrack_packets_total", &["state=\"new\""], FLOWS - refused);
    truth.rose("forwarded_packets_total", &["interface=\"lan\""], FLOWS - refused);
    truth.rose("drops_total", &["reason=\"conntrack_full\""], refused);
    truth.rose("conntrack_insert_total", &[], FLOWS - refused);
    truth.rose("conntrack_early_drop_total", &[], FLOWS - refused - 8);
    truth.rose("conntrack_drop_total", &[], refused);
    truth.is("conntrack_entries", &[], 8.0);
    lab.must("client", &["ping", "-q", "-c", "1", "10.1.0.1"]);
    // It takes the kept place, unless its hash leads it to one that it may take from another flow.
    truth.rose("delivered_packets_total", &["interface=\"lan\""], 1);
    truth.lies("conntrack_reserved_total", &[], 0.0..=1.0);
    truth.is("conntrack_entries", &[], 8.0 + truth.rise("conntrack_reserved_total"));
    daemon.assert_adds_up();
    daemon.stop();
}
