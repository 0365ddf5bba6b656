//! A flood of SYNs from random sources, as fast as the router takes them: flows that were there go on, the router can be
//! reached, new flows find a place, and the table is itself again within the SYN timeout.
//!
//! The flood comes from DPDK's pcap driver, which repeats a file for ever and needs no sender's CPU, so that the worker
//! always finds a full burst. It is let in, and shut out again, by policy. `SLUICE_FLOOD_SECONDS` says how long (5
//! unless given; `scripts/flood` asks for 60, and then all timeouts are the kernel's).

use std::time::{Duration, Instant};

use sluice_tests::{Daemon, Lab, Metrics, Process, SystemFile};

/// `conntrack.max`, less than half as many as the flood has sources.
const MAX: u32 = 16_384;
const SOURCES: u32 = 40_000;

/// Lets the flood into the table, or does not.
fn policy(floods: bool) -> String {
    let raw = if floods { "" } else { "raw: {prerouting: [{in: flood, action: drop}]}\n" };
    format!(
        "{raw}zones: {{inside: [lan], outside: [wan, flood]}}\n\
         filter:\n  input:\n    policy: drop\n    rules:\n      - {{ct: [established, related], action: accept}}\n      \
         - {{in: inside, proto: [tcp, icmp], action: accept}}\n  forward:\n    policy: accept\n    rules:\n      \
         - {{ct: invalid, action: drop}}\n"
    )
}

#[test]
fn a_flood_of_syns_harms_nobody_else() {
    let seconds = std::env::var("SLUICE_FLOOD_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(5u64);
    let syn_timeout = if seconds < 60 { 5 } else { 120 };
    let lab = Lab::new();
    let _nginx = [lab.nginx("server"), lab.nginx("router")];
    let _iperf3 = lab.iperf3("server");
    let daemon = Daemon::start(&lab, &system(&lab, syn_timeout), &policy(false));
    let all = (seconds + 5).to_string();
    let tcp = lab.spawn("client", &["iperf3", "-c", "10.2.0.2", "-t", &all, "-b", "20M"]);
    let stream = lab.spawn("client", &["ping", "-q", "-i", "0.2", "-W", "2", "-w", &all, "10.2.0.2"]);
    // Long enough for both connections of iperf3 to be established.
    std::thread::sleep(Duration::from_millis(2500));
    let assured = daemon.ask(&["conntrack", "list", "-p", "tcp", "--dport", "5201", "-o", "id"]);
    assert_eq!(assured.matches("[ASSURED]").count(), 2, "{assured}");

    let before = daemon.metrics();
    daemon.apply(&policy(true));
    let began = Instant::now();
    let (mut asked, mut slowest) = (0, Duration::ZERO);
    while began.elapsed() < Duration::from_secs(seconds) {
        let asking = Instant::now();
        for argv in [
            &["curl", "-sSf", "-m", "5", "http://10.1.0.1/"][..],
            &["curl", "-sSf", "-m", "5", "http://10.2.0.2/"],
            &["ping", "-q", "-c", "1", "-W", "3", "10.1.0.1"],
        ] {
            lab.must("client", argv);
        }
        (asked, slowest) = (asked + 3, slowest.max(asking.elapsed()));
        std::thread::sleep(Duration::from_millis(200));
    }
    let during = daemon.metrics();
    let took = began.elapsed();
    daemon.apply(&policy(false));
    let drained = Instant::now();
    let limit = Duration::from_secs(syn_timeout + 2);
    while daemon.metrics().sum("sluice_conntrack_entries", &[]) > 200 {
        assert!(drained.elapsed() < limit, "the table is not itself again after {limit:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let drained = drained.elapsed();

    for ending in ["drops_total", "rx_missed_total", "rx_nombuf_total", "rx_errors_total", "tx_errors_total"]
    {
        for (name, rise) in during.rises(&before, ending) {
            println!("{rise} × {name}");
        }
    }
    report(&before, &during, took);
    println!("management and new flows: {asked} asked, all answered, three at once in {slowest:?} at most");
    println!("the table was itself again after {drained:?} (SYN timeout {syn_timeout} s)");
    let rose = |name: &str, labels: &[&str]| during.sum(name, labels) - before.sum(name, labels);
    assert!(rose("sluice_conntrack_early_drop_total", &[]) > 10_000, "the table was full");
    // As in the kernel, a SYN of the flood may look for something to evict in vain, but hardly ever.
    let refused = rose("sluice_drops_total", &["reason=\"conntrack_full\""]);
    let flood = rose("sluice_rx_packets_total", &["interface=\"flood\""]);
    assert!(refused < flood / 100, "{refused} of {flood} refused");
    for reason in ["conntrack_clash", "conntrack_drop", "conntrack_quota"] {
        assert_eq!(rose("sluice_drops_total", &[&format!("reason=\"{reason}\"")]), 0, "{reason}");
    }
    // The same flows, and not others of the same tuple.
    let still = daemon.ask(&["conntrack", "list", "-p", "tcp", "--dport", "5201", "-o", "id"]);
    let ids = |list: &str| {
        let mut ids: Vec<String> =
            list.split_whitespace().filter(|w| w.starts_with("id=")).map(str::to_owned).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&still), ids(&assured), "{still}\n{assured}");
    println!("{}\n{}", finish(tcp), finish(stream));
    // Not asked: whether all packets add up. The flood does not stop while the sums are read.
    daemon.stop();
}

fn report(before: &Metrics, during: &Metrics, took: Duration) {
    let rate = |name: &str, labels: &[&str]| {
        (during.sum(name, labels) - before.sum(name, labels)) as f64 / took.as_secs_f64() / 1e6
    };
    println!(
        "{:.1} s of flood: {:.2} M SYNs/s received, {:.2} M new flows/s, {:.2} M evicted/s, {} of {MAX} entries",
        took.as_secs_f64(),
        rate("sluice_rx_packets_total", &["interface=\"flood\""]),
        rate("sluice_conntrack_new_flows_total", &[]),
        rate("sluice_conntrack_early_drop_total", &[]),
        during.sum("sluice_conntrack_entries", &[]),
    );
}

/// The last words of a program that ends by itself.
fn finish(mut process: Process) -> String {
    process.wait(Duration::from_secs(20));
    let log = process.log();
    let last: Vec<&str> =
        log.lines().filter(|line| line.contains("receiver") || line.contains("loss")).collect();
    assert!(!last.is_empty(), "{log}");
    last.join("\n")
}

fn system(lab: &Lab, syn_timeout: u64) -> SystemFile {
    let pcap = lab.dir().join("flood.pcap");
    std::fs::write(&pcap, flood()).expect("writing the flood");
    let usual = SystemFile::default();
    SystemFile {
        interfaces: format!(
            "{}  flood: {{device: \"vdev:net_pcap7,rx_pcap={},infinite_rx=1\", mac: \"02:00:00:00:07:01\", \
             addresses: [203.0.113.1/24]}}\n  \
             sink: {{device: \"vdev:net_null7,no-rx=1\", mac: \"02:00:00:00:08:01\", addresses: [198.51.100.1/24]}}\n",
            usual.interfaces,
            pcap.display()
        ),
        more: format!(
            "neighbours: [{{address: 198.51.100.9, mac: \"02:00:00:00:08:09\"}}]\n\
             conntrack: {{max: {MAX}, timeouts: {{tcp_syn_sent: {syn_timeout}}}}}\n"
        ),
        mbufs: 98_304,
        ..usual
    }
}

/// SYNs of 60 bytes from sources by chance, to a host behind the router; every sixteenth to the router itself.
fn flood() -> Vec<u8> {
    let mut file = Vec::with_capacity(SOURCES as usize * 76 + 24);
    file.extend(0xa1b2_c3d4_u32.to_le_bytes());
    file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 1, 0, 0, 0]);
    let mut random = 88_172_645_463_325_252_u64;
    for n in 0..SOURCES {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let target = if n % 16 == 0 { [203, 0, 113, 1] } else { [198, 51, 100, 9] };
        file.extend([0; 8]);
        file.extend([60, 0, 0, 0, 60, 0, 0, 0]);
        file.extend(syn(random, target));
    }
    file
}

fn syn(random: u64, target: [u8; 4]) -> [u8; 60] {
    let [a, b, c, d, e, f, ..] = random.to_be_bytes();
    let mut frame = [0; 60];
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 7, 1, 2, 0, 0, 0, 7, 2, 8, 0]);
    frame[14..26].copy_from_slice(&[0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
    // Unicast addresses that are nobody's here: 20.0.0.0 to 83.255.255.255.
    frame[26..30].copy_from_slice(&[20 + (a & 63), b, c, d]);
    frame[30..34].copy_from_slice(&target);
    frame[34..38].copy_from_slice(&[e | 4, f, 0, 80]);
    frame[38..42].copy_from_slice(&[e, f, c, d]);
    frame[46..50].copy_from_slice(&[0x50, 2, 0xff, 0xff]);
    let header = checksum(&frame[14..34], 0);
    frame[24..26].copy_from_slice(&header.to_be_bytes());
    let pseudo = checksum_of(&frame[26..34]) + 6 + 20;
    let segment = checksum(&frame[34..54], pseudo);
    frame[50..52].copy_from_slice(&segment.to_be_bytes());
    frame
}

fn checksum_of(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum()
}

fn checksum(bytes: &[u8], sum: u32) -> u16 {
    let sum = sum + checksum_of(bytes);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}

#[test]
fn the_flood_has_good_checksums() {
    let frame = syn(0x0102_0304_0506_0708, [198, 51, 100, 9]);
    assert_eq!(checksum(&frame[14..34], 0), 0);
    assert_eq!(checksum(&frame[34..54], checksum_of(&frame[26..34]) + 26), 0);
}
