//! What the kernel's tracker did with the same packets: recordings (`testdata/tracker.txt`) replayed, packet by
//! packet, with every entry of the table compared behind each.
//!
//! Rules are not evaluated: whether a first packet's flow is confirmed is read from the recording. Other recordings
//! made by `testdata/tracker.py` can be named in the environment variable `TRACKER_RECORDINGS`.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_wire::{Parsed, parse};

use super::*;
use crate::counters::WorkerCounters;
use crate::ids::{Millis, WorkerId};
use crate::message::Cursor;

const RECORDINGS: &str = include_str!("../../testdata/tracker.txt");

/// Seconds that a recorded timeout may differ: the recorder took its time too.
const TOLERANCE: u32 = 2;

struct Replay {
    conntrack: Conntrack,
    settings: Settings,
    budget: Arc<FlowBudget>,
    now: Now,
}

impl Replay {
    fn new() -> Replay {
        let budget = Arc::new(FlowBudget::new(100_000));
        let config = EngineConfig {
            worker: WorkerId(0),
            workers: 1,
            flow_capacity: 4096,
            seed: 0x5eed,
            budget: Arc::clone(&budget),
            counters: Arc::new(WorkerCounters::new(0)),
            reservations: None,
        };
        let settings = Settings::default();
        Replay { conntrack: Conntrack::new(&config), settings, budget, now: Now::default() }
    }

    fn wait(&mut self, ms: u64) {
        self.now = Now::from_nanos(self.now.nanos + ms * 1_000_000);
        self.conntrack.expire(self.now, &self.settings, usize::MAX);
    }

    fn set(&mut self, name: &str, value: u32) {
        let seconds = Millis::from_secs(value);
        let timeouts = &mut self.settings.timeouts;
        let tcp = &mut timeouts.tcp;
        match name {
            "checksum" => self.settings.checksum = value != 0,
            "conntrack_max" => {
                self.budget.set_max(value);
                self.budget.set_buckets(65_536);
            }
            "tcp_loose" => self.settings.tcp_loose = value != 0,
            "tcp_be_liberal" => self.settings.tcp_be_liberal = value != 0,
            "tcp_ignore_invalid_rst" => self.settings.tcp_ignore_invalid_rst = value != 0,
            "tcp_max_retrans" => self.settings.tcp_max_retrans = value as u8,
            "tcp_timeout_syn_sent" => tcp.syn_sent = seconds,
            "tcp_timeout_syn_recv" => tcp.syn_recv = seconds,
            "tcp_timeout_established" => tcp.established = seconds,
            "tcp_timeout_close" => tcp.close = seconds,
            "tcp_timeout_time_wait" => tcp.time_wait = seconds,
            "tcp_timeout_unacknowledged" => tcp.unacknowledged = seconds,
            "tcp_timeout_max_retrans" => tcp.max_retrans = seconds,
            "icmp_timeout" => timeouts.icmp = seconds,
            "icmpv6_timeout" => timeouts.icmpv6 = seconds,
            "udp_timeout" => timeouts.udp = seconds,
            "udp_timeout_stream" => timeouts.udp_stream = seconds,
            "generic_timeout" => timeouts.generic = seconds,
            _ => panic!("unknown parameter {name}"),
        }
    }

    /// Judges a datagram; `confirmed` says whether the recording has an entry of this tuple afterwards.
    fn packet(&mut self, datagram: &[u8], hook: TrackHook, entries: &[Entry]) -> &'static str {
        let ethertype: [u8; 2] = if datagram[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] };
        let frame = [&[2; 12][..], &ethertype[..], datagram].concat();
        let Ok(Parsed::Ip(packet)) = parse(&frame) else { return "-" };
        let key = self.conntrack.key(&packet, Zone::default());
        let hint = key.as_ref().and_then(|key| self.conntrack.candidate(key));
        let checksum = RxChecksum::Unknown;
        let settings = self.settings.clone();
        let tracked = self.conntrack.track(
            self.now,
            &settings,
            &packet,
            &frame,
            hook,
            checksum,
            Template::default(),
            key.as_ref(),
            hint,
        );
        match tracked {
            Tracked::Flow { state: CtState::New, .. } => "new",
            Tracked::Flow { .. } => "established",
            Tracked::Related { .. } | Tracked::RelatedUntracked(_) => "related",
            Tracked::Untracked => "untracked",
            Tracked::Invalid => "invalid",
            Tracked::Drop(_) => "-",
            Tracked::New(pending) => {
                let original = pending.info().original;
                let tuple = format!("{} {}", original.src, original.dst);
                let ports = format!("{} {}", original.sport, original.dport);
                let entered = entries.iter().any(|entry| entry.is_of(&tuple, &ports));
                if entered {
                    self.conntrack
                        .confirm(self.now, &settings, pending)
                        .expect("no other flow has that tuple");
                } else {
                    self.conntrack.abandon(pending);
                }
                "new"
            }
        }
    }

    fn close(&mut self, datagram: &[u8]) {
        let ethertype: [u8; 2] = if datagram[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] };
        let frame = [&[2; 12][..], &ethertype[..], datagram].concat();
        let Ok(Parsed::Ip(packet)) = parse(&frame) else { return };
        if let Some(found) =
            self.conntrack.key(&packet, Zone::default()).and_then(|key| self.conntrack.find(self.now, &key))
        {
            self.conntrack.close(self.now, &self.settings, found.flow);
        }
    }

    fn entries(&self) -> Vec<Entry> {
        let mut batch = Vec::with_capacity(1000);
        let mut cursor = Some(Cursor::default());
        while let Some(at) = cursor {
            cursor = self.conntrack.list(self.now, at, &FlowFilter::default(), &mut batch);
        }
        batch.iter().map(Entry::of).collect()
    }
}

/// An entry, as the recording writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    proto: String,
    state: String,
    timeout: u32,
    flags: String,
    original: Vec<String>,
    reply: Vec<String>,
}

impl Entry {
    fn read(line: &str) -> Entry {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let [proto, state, timeout, flags, tuples @ ..] = &words[..] else { panic!("{line}") };
        Entry {
            proto: proto.clone(),
            state: state.clone(),
            timeout: timeout.parse().unwrap(),
            flags: flags.clone(),
            original: tuples[..5].to_vec(),
            reply: match &tuples[5..] {
                [inverse] if inverse == "inverse" => [1, 0, 3, 2, 4].map(|at| tuples[at].clone()).to_vec(),
                reply => reply.to_vec(),
            },
        }
    }

    fn of(record: &FlowRecord) -> Entry {
        let tuple = |tuple: &TupleRecord| {
            let [a, b, c] = match tuple.transport {
                TupleTransport::Ports { sport, dport } => {
                    [sport.to_string(), dport.to_string(), "0".to_owned()]
                }
                TupleTransport::Icmp { kind, code, id } => {
                    [kind.to_string(), code.to_string(), id.to_string()]
                }
                TupleTransport::Gre { srckey, dstkey } => {
                    [format!("0x{srckey:x}"), format!("0x{dstkey:x}"), "0".to_owned()]
                }
                TupleTransport::None => ["0", "0", "0"].map(str::to_owned),
            };
            vec![tuple.src.to_string(), tuple.dst.to_string(), a, b, c]
        };
        let mark = |set, letter| if set { letter } else { "-" };
        Entry {
            proto: match record.protocol_name() {
                "unknown" => record.protocol.0.to_string(),
                name => name.to_owned(),
            },
            state: record.state.unwrap_or("-").to_owned(),
            timeout: record.timeout.0 / 1000,
            flags: mark(record.status.contains(Status::ASSURED), "A").to_owned()
                + mark(!record.status.contains(Status::SEEN_REPLY), "U"),
            original: tuple(&record.original),
            reply: tuple(&record.reply),
        }
    }

    /// ICMP's ports are its identifier and type, which the recorder left out: by addresses alone, then.
    fn is_of(&self, addresses: &str, ports: &str) -> bool {
        let of = |tuple: &[String]| {
            tuple[..2].join(" ") == addresses
                && (tuple[2..4].join(" ") == ports || tuple[4] == "*" || self.proto == "gre")
        };
        of(&self.original)
    }

    fn is_like(&self, other: &Entry) -> bool {
        let same = |a: &[String], b: &[String]| a.iter().zip(b).all(|(a, b)| a == b || a == "*" || b == "*");
        self.proto == other.proto
            && self.state == other.state
            && self.flags == other.flags
            && self.timeout.abs_diff(other.timeout) <= TOLERANCE
            && same(&self.original, &other.original)
            && same(&self.reply, &other.reply)
    }
}

/// What differs: both ways, entry by entry.
fn difference(recorded: &[Entry], mut ours: Vec<Entry>) -> Vec<String> {
    let mut out = Vec::new();
    for entry in recorded {
        match ours.iter().position(|other| entry.is_like(other)) {
            Some(at) => {
                ours.swap_remove(at);
            }
            None => out.push(format!("kernel alone: {entry:?}")),
        }
    }
    out.extend(ours.iter().map(|entry| format!("here alone:   {entry:?}")));
    out
}

/// Hexadecimal digits, and `+LENGTH` for the recorder's usual payload.
fn bytes(text: &str) -> Vec<u8> {
    let (hex, payload) = text.split_once('+').unwrap_or((text, "0"));
    let digits: Vec<u8> = hex.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
    let header = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]);
    header.chain((0..payload.parse().unwrap()).map(|i: usize| (i * 7 + 13) as u8)).collect()
}

/// Replays one scenario; what differed.
fn replay(lines: &[&str]) -> Vec<String> {
    let mut replay = Replay::new();
    let (mut all, mut differences) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < lines.len() {
        // A step ends with the table as it was then.
        let end = at
            + lines[at..]
                .iter()
                .position(|line| line.starts_with("end") || line.starts_with("count"))
                .unwrap();
        let entries: Vec<Entry> =
            lines[at..end].iter().filter_map(|line| line.strip_prefix("entry ")).map(Entry::read).collect();
        for line in &lines[at..end] {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["param", name, value] => replay.set(name, value.parse().unwrap()),
                ["wait", ms] => replay.wait(ms.parse().unwrap()),
                ["flush"] => {
                    let mut cursor = Some(Cursor::default());
                    while let Some(from) = cursor {
                        cursor = replay
                            .conntrack
                            .delete(replay.now, from, &FlowFilter::default(), 100, &mut Vec::new())
                            .1;
                    }
                }
                ["in", state, hex] => {
                    let judged = replay.packet(&bytes(hex), TrackHook::Prerouting, &entries);
                    if judged != state {
                        differences.push(format!("{judged} is {state} for the kernel: {hex}"));
                    }
                }
                ["out", _, hex] => {
                    replay.packet(&bytes(hex), TrackHook::Output, &entries);
                }
                ["reset", _, hex] => replay.close(&bytes(hex)),
                ["entry", ..] => {}
                _ => panic!("{line}"),
            }
        }
        let ours = replay.entries();
        match lines[end].strip_prefix("count ") {
            Some(count) if ours.len().to_string() != count => {
                differences.push(format!("{count}: {}", ours.len()))
            }
            Some(_) => {}
            None => differences.extend(difference(&entries, ours)),
        }
        at = end + 1;
        if differences.is_empty() {
            replay.wait(20);
            continue;
        }
        // What follows would differ too, up to where the table is empty again.
        all.push(format!("in line {end} of the scenario: {}", differences.join("\n    ")));
        differences.clear();
        at += lines[at..].iter().position(|line| *line == "flush").unwrap_or(lines.len() - at);
    }
    all
}

#[test]
fn the_kernel_did_the_same() {
    let other = std::env::var("TRACKER_RECORDINGS").map(|path| std::fs::read_to_string(path).unwrap());
    let recordings = other.as_deref().unwrap_or(RECORDINGS);
    let mut scenarios: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut name = "";
    for line in recordings.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        match line.strip_prefix("scenario ") {
            Some(scenario) => name = scenario,
            None => scenarios.entry(name).or_default().push(line),
        }
    }
    let mut failed = 0;
    for (name, lines) in &scenarios {
        let differences = replay(lines);
        if !differences.is_empty() {
            failed += 1;
            println!("{name}\n  {}", differences.join("\n  "));
        }
    }
    assert_eq!(failed, 0, "of {} scenarios", scenarios.len());
}
