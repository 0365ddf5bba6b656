//! Any sequence of packets, waiting and commands through one shard of the connection tracker.
//!
//! The input is a list of steps of eight bytes each: few hosts and ports, so that packets meet, and small differences in
//! sequence numbers, so that segments lie in and around their windows. Whatever happens: the limit holds, a flow that
//! was confirmed is found in both directions, an ICMP error begins none, and in the end all flows run out.
#![no_main]

use std::net::IpAddr;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use sluice_engine::conntrack::{
    Adaptive, ConnLimit, Conntrack, Direction, FlowBudget, FlowChange, FlowFilter, FlowHandle, LineOptions,
    Pending, Settings, SourceQuota, Status, Template, TrackHook, Tracked, Zone, ZoneId,
};
use sluice_engine::counters::WorkerCounters;
use sluice_engine::engine::EngineConfig;
use sluice_engine::frame::RxChecksum;
use sluice_engine::ids::{Millis, Now, WorkerId};
use sluice_engine::limit::LimitPer;
use sluice_engine::message::Cursor;
use sluice_wire::build::{self, Datagram, IcmpError, Link, Tcp};
use sluice_wire::{Family, Packet, Parsed, Protocol, TcpFlags, parse};

/// `conntrack.max`, and what each family has memory for.
const MAX: u32 = 24;
const CAPACITY: u32 = 20;
/// What counts flows of each source.
const LIMIT: ConnLimit = ConnLimit { rule: 1, above: MAX, per: LimitPer::Source };
/// Longer than any flow lives without a packet, in milliseconds; established connections live ten minutes here, not five
/// days, so that an input need not pass over millions of empty slots of the timing wheel.
const FOREVER: u64 = 1300 * 1000;
/// The longest timeout that is given by hand.
const LONGEST: u32 = 1200 * 1000;
/// As many polls as it takes to pass over twice that.
const POLLS: u32 = 64;

type Step = [u8; 8];

fuzz_target!(|bytes: &[u8]| {
    let (steps, _) = bytes.as_chunks::<8>();
    let mut world = World::new();
    for step in steps.iter().take(256) {
        world.step(step);
        world.check();
    }
    world.run_out();
});

struct World {
    conntrack: Conntrack,
    settings: Settings,
    budget: Arc<FlowBudget>,
    milliseconds: u64,
    /// When the wheel had last come up with the time.
    polled: u64,
    /// The last packet that was no error: what the next error quotes.
    last: Vec<u8>,
    /// A flow that was there once.
    flow: Option<FlowHandle>,
}

impl World {
    fn new() -> Self {
        let budget = Arc::new(FlowBudget::new(MAX));
        budget.count_sources(CAPACITY);
        budget.count_connections(CAPACITY);
        budget.set_reserve(1);
        let config = EngineConfig {
            worker: WorkerId(0),
            workers: 1,
            flow_capacity: CAPACITY,
            seed: 1,
            budget: Arc::clone(&budget),
            counters: Arc::new(WorkerCounters::new(1)),
            reservations: None,
        };
        let mut settings = Settings { acct: true, timestamp: true, ..Settings::default() };
        settings.timeouts.tcp.established = Millis::from_secs(600);
        let conntrack = Conntrack::new(&config);
        Self { conntrack, settings, budget, milliseconds: 1, polled: 1, last: Vec::new(), flow: None }
    }

    fn now(&self) -> Now {
        Now::from_nanos(self.milliseconds * 1_000_000)
    }

    fn step(&mut self, step: &Step) {
        let [operation, a, b, ..] = *step;
        match operation % 16 {
            0..=9 => self.packet(step),
            10 => self.wait(u64::from(a) << (b % 14)),
            11 => {
                self.conntrack.expire(self.now(), &self.settings, usize::from(a));
            }
            12 => self.delete(a, b),
            13 => self.update(a, b),
            14 => self.settings = self.other_settings(a),
            _ => self.use_stale(a),
        }
    }

    /// Up to half an hour passes without a poll, and no more than hours: a tick wraps after 49 days, and no worker leaves
    /// the wheel alone for half of that.
    fn wait(&mut self, milliseconds: u64) {
        self.milliseconds += milliseconds;
        if self.milliseconds - self.polled > FOREVER {
            self.poll_all();
        }
    }

    fn poll_all(&mut self) {
        for _ in 0..POLLS {
            self.conntrack.expire(self.now(), &self.settings, 64);
        }
        self.polled = self.milliseconds;
    }

    fn packet(&mut self, step: &Step) {
        let error = step[1] % 12 == 11 && !self.last.is_empty();
        let frame = if error { self.error(step) } else { Some(frame_of(step)) };
        let Some(frame) = frame else { return };
        // Of any protocol number in IPv6 some are extension headers that are not there.
        let Ok(Parsed::Ip(packet)) = parse(&frame) else { return };
        self.track(&packet, &frame, step);
        if !error {
            self.last = frame;
        }
    }

    fn track(&mut self, packet: &Packet, frame: &[u8], step: &Step) {
        let now = self.now();
        let before = self.conntrack.len();
        let zone = match step[7] & 0x30 {
            0x10 => Zone::both(ZoneId(1)),
            0x20 => Zone::original(ZoneId(1)),
            0x30 => Zone::reply(ZoneId(2)),
            _ => Zone::default(),
        };
        let template = Template { zone, ..Template::default() };
        let key = self.conntrack.key(packet, zone);
        let hint = key.as_ref().and_then(|key| self.conntrack.candidate(key));
        let hook = if step[7] & 0x40 != 0 { TrackHook::Output } else { TrackHook::Prerouting };
        let checksum = RxChecksum::Good;
        let settings = &self.settings;
        let tracked =
            self.conntrack.track(now, settings, packet, frame, hook, checksum, template, key.as_ref(), hint);
        match tracked {
            Tracked::New(mut pending) => {
                self.count(None, Some(&mut pending), packet);
                if step[7] & 0x80 != 0 {
                    return self.conntrack.abandon(pending);
                }
                let settings = &self.settings;
                let key = key.expect("what begins a flow has a key");
                if let Ok(flow) = self.conntrack.confirm(now, settings, pending) {
                    let found = self.conntrack.find(now, &key).expect("confirmed just now");
                    // A packet to its own source has one tuple for both directions.
                    let to_itself = packet.addrs == packet.addrs.reversed();
                    assert!(found.direction == Direction::Original || to_itself);
                    assert_eq!(found.flow, flow);
                    self.flow = Some(flow);
                }
            }
            Tracked::Flow { flow, direction, state } => {
                let info = self.conntrack.info(flow, direction, state).expect("a flow has something to show");
                assert_eq!((info.state, info.direction), (state, direction));
                self.count(Some(flow), None, packet);
                self.flow = Some(flow);
            }
            Tracked::Related { flow, .. } => {
                assert_eq!(self.conntrack.len(), before, "an error began a flow");
                self.flow = Some(flow);
            }
            Tracked::RelatedUntracked(_) => unreachable!("the tracker never says so by itself"),
            Tracked::Untracked | Tracked::Invalid | Tracked::Drop(_) => {}
        }
    }

    /// Has a rule count a packet's flow, with others of its source.
    fn count(&mut self, flow: Option<FlowHandle>, pending: Option<&mut Pending>, packet: &Packet) {
        let tally = self.conntrack.tally(flow, pending.as_deref()).expect("there is room to count");
        assert!(!tally.exceeds(&LIMIT, packet.addrs.src(), packet.addrs.dst()), "more flows than there can be");
        let charges = tally.charges();
        self.conntrack.keep_charges(flow, pending, charges);
    }

    /// An ICMP error about the last packet, cut short, perhaps to the wrong host.
    fn error(&self, step: &Step) -> Option<Vec<u8>> {
        let Ok(Parsed::Ip(about)) = parse(&self.last) else { return None };
        let mut out = vec![0; 1400];
        let error = IcmpError { kind: step[4] % 20, code: step[5] % 16, rest: 0 };
        let source = if step[7] & 1 == 0 { about.addrs.dst() } else { about.addrs.src() };
        let link = Link::answering(&about, &self.last);
        let length = build::icmp_error(&mut out, link, source, error, (&about, &self.last)).ok()?;
        out.truncate(length);
        Some(out)
    }

    fn delete(&mut self, a: u8, b: u8) {
        let filter = FlowFilter {
            protocol: (a & 1 != 0).then_some(if b & 1 == 0 { Protocol::TCP } else { Protocol::UDP }),
            status: if a & 2 != 0 { Status::ASSURED } else { Status::default() },
            status_clear: if a & 4 != 0 { Status::SEEN_REPLY } else { Status::default() },
            state: (a & 8 != 0).then(|| "ESTABLISHED".to_owned()),
            ..FlowFilter::default()
        };
        let (mut cursor, mut deleted) = (Cursor::default(), 0);
        for _ in 0..64 {
            let mut gone = Vec::with_capacity(usize::from(a % 8));
            let budget = usize::from(b % 8) + 1;
            let (some, next) = self.conntrack.delete(self.now(), cursor, &filter, budget, &mut gone);
            assert!(gone.len() as u64 <= some);
            deleted += some;
            match next {
                Some(next) => cursor = next,
                None => break,
            }
        }
        assert!(deleted <= u64::from(2 * CAPACITY));
    }

    fn update(&mut self, a: u8, b: u8) {
        let mut batch = Vec::with_capacity(64);
        self.conntrack.list(self.now(), Cursor::default(), &FlowFilter::default(), &mut batch);
        let Some(record) = batch.get(usize::from(a) % batch.len().max(1)) else { return };
        let one = FlowFilter { id: Some(record.id), ..FlowFilter::default() };
        let cursor = match record.family {
            Family::V4 => Cursor::default(),
            Family::V6 => Cursor(1 << 32),
        };
        if b % 3 == 0 {
            let delete = |all: &mut Self| all.conntrack.delete(all.now(), cursor, &one, 2, &mut Vec::new()).0;
            assert_eq!(delete(self), 1, "a flow that was listed");
            assert_eq!(delete(self), 0, "a flow that was deleted");
            return;
        }
        let change = FlowChange {
            mark: (b % 3 == 1).then_some((b.into(), 0xff)),
            timeout: (b % 3 == 2).then_some(Millis((u32::from(b) << (a % 14)).min(LONGEST))),
            status: if a & 0x80 != 0 { FlowChange::STATUS } else { Status::default() },
        };
        let mut changed = Vec::with_capacity(2);
        self.conntrack.change(self.now(), cursor, &one, &change, &mut changed);
        assert!(changed.len() <= 1, "one flow was meant");
    }

    fn other_settings(&self, a: u8) -> Settings {
        Settings {
            acct: a & 1 == 0,
            tcp_loose: a & 2 == 0,
            tcp_be_liberal: a & 4 != 0,
            tcp_ignore_invalid_rst: a & 8 != 0,
            tcp_max_retrans: a >> 6,
            adaptive: (a & 16 != 0).then_some(Adaptive { start: 2, end: 20 }),
            source_quota: (a & 32 != 0).then_some(SourceQuota { max: 3, prefix_v4: 24, prefix_v6: 64 }),
            ..self.settings.clone()
        }
    }

    /// Whoever holds a flow for too long gets nothing worse than another flow.
    fn use_stale(&mut self, a: u8) {
        let Some(flow) = self.flow else { return };
        self.conntrack.prefetch_flow(flow);
        self.conntrack.set_mark(flow, a.into());
        let _ = self.conntrack.stored(flow, Direction::Reply);
        if a & 1 != 0 {
            self.conntrack.close(self.now(), &self.settings, flow);
        }
    }

    /// What must hold at any time.
    fn check(&self) {
        let flows = self.conntrack.len();
        assert!(flows <= MAX, "{flows} flows of {MAX}");
        assert!(self.budget.leased() <= MAX.into());
        assert!(u64::from(flows) <= self.budget.leased());
    }

    fn list(&self) {
        let mut batch = Vec::with_capacity(128);
        let mut cursor = Some(Cursor::default());
        while let Some(at) = cursor {
            cursor = self.conntrack.list(self.now(), at, &FlowFilter::default(), &mut batch);
        }
        assert!(batch.len() <= self.conntrack.len() as usize);
        for record in &batch {
            let line = record.line(LineOptions { extended: true, id: true }).to_string();
            assert!(line.contains("src="), "{line}");
        }
    }

    /// Without a packet, nothing stays, and all that was leased is given back.
    fn run_out(mut self) {
        self.list();
        self.milliseconds += FOREVER;
        self.poll_all();
        assert_eq!(self.conntrack.len(), 0, "flows that never run out");
        assert_eq!(self.budget.leased(), 0, "leased and never given back");
        let tally = self.conntrack.tally(None, None).expect("there is room to count");
        for source in (0..8).map(address) {
            assert!(!tally.exceeds(&ConnLimit { above: 1, ..LIMIT }, source, source), "counted for ever");
        }
    }
}

/// Four hosts of IPv4, and from 4 on four of IPv6.
fn address(host: u8) -> IpAddr {
    match host & 4 {
        0 => IpAddr::from([10, 0, 0, host & 3]),
        _ => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(host & 3)]),
    }
}

/// A packet with a good checksum between four hosts of either family.
fn frame_of(step: &Step) -> Vec<u8> {
    let [_, kind, hosts, ports, flags, seq, ack, rest] = *step;
    let host = |host: u8| address(host & 3 | kind >> 5 & 4);
    let datagram = Datagram::between(host(hosts), host(hosts >> 2)).expect("one family");
    let ports = (1000 + u16::from(ports & 3), 1000 + u16::from(ports >> 2 & 3));
    let payload = vec![0x11; usize::from(rest & 0x3f)];
    let mut out = vec![0; 256];
    let length = match kind % 12 {
        0..=4 => {
            // Around one number, and around the edge of a window.
            let number = |byte: u8| 1000_u32.wrapping_add((i32::from(byte as i8) << (byte & 1) * 10) as u32);
            let segment = Tcp {
                flags: TcpFlags::from_bits(flags & 0x3f),
                seq: number(seq),
                ack: number(ack),
                window: u16::from(flags >> 6) * 1000,
            };
            build::tcp(&mut out, &datagram, ports, segment, &payload)
        }
        5 | 6 => build::udp(&mut out, &datagram, ports, &payload),
        7 => {
            let echo = if kind & 0x80 == 0 { [8, 0, 13, 14] } else { [128, 129, 135, 139] };
            let message = (echo[usize::from(flags & 3)], 0);
            build::icmp_echo(&mut out, &datagram, message, (ports.0, 1), &payload)
        }
        8 => {
            let mut sctp = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
            sctp.extend([0, 0, 0, ack & 1, 0, 0, 0, 0, flags % 16, seq, 0, 4 + (rest & 0xf)]);
            sctp.extend_from_slice(&payload);
            let crc = sluice_wire::checksum::sctp(&sctp);
            sctp[8..12].copy_from_slice(&crc);
            build::other(&mut out, &datagram, Protocol::SCTP, &sctp)
        }
        9 => {
            build::other(&mut out, &datagram, Protocol::GRE, &[0x30, flags & 1, 0x88, 0x0b, 0, 4, 0, seq & 3])
        }
        _ => build::other(&mut out, &datagram, Protocol(flags), &payload),
    };
    out.truncate(length.expect("room for a small packet"));
    out
}
