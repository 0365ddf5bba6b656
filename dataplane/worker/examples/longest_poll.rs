//! How long the longest poll of a worker with millions of flows takes: while the table fills, with steady traffic, while
//! all flows are listed, while a new world is adopted, also with 100,000 other rules, while all are flushed, while all of them end in the same second,
//! and while a full table refuses new ones.
//!
//! usage: cargo run --release -p sluice-worker --example `longest_poll` -- [FLOWS]
//!
//! A poll is what a worker does between two looks at its queue: 32 packets through the engine, its timers, a command.
//! Without devices, so that it runs anywhere; with the allocator of sluiced, and memory touched beforehand as there. Time
//! that other programs had the CPU is taken off, as far as the kernel tells (`/proc/thread-self/schedstat`). What it does not
//! tell, interrupts and a hypervisor that takes the CPU away, is seen in the line of polls that do nothing but reckon: what is
//! over the goal there, the machine does. What a new world costs comes right behind it: of polls over the goal, those are
//! counted apart that do. `chrt -f 50` keeps the scheduler out.

#[path = "../../engine/tests/shapes/mod.rs"]
mod shapes;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use shapes::Shape;
use sluice_engine::conntrack::{FlowBudget, FlowFilter};
use sluice_engine::counters::WorkerCounters;
use sluice_engine::engine::EngineConfig;
use sluice_engine::ids::{Generation, InterfaceId, Now, PortId, WorkerId};
use sluice_engine::message::{Cursor, DELETE_STEP, LogRecord};
use sluice_engine::ruleset::Ruleset;
use sluice_engine::world::{
    Fib, Interface, Interfaces, Neighbour, NeighbourKey, NeighbourState, Neighbours, RpFilter, Settings,
    World,
};
use sluice_engine::{DropReason, Engine, Frame, Origin, Outbox, Outlet, RxChecksum, Verdict};
use sluice_wire::MacAddr;

#[global_allocator]
static ALLOCATOR: sluice_rte::LargePageAllocator = sluice_rte::LargePageAllocator;

const BURST: usize = 32;
const HEADROOM: usize = 64;
const FRAME: usize = 60;
/// Flows that control has a worker copy out at once.
const BATCH: usize = 64;
/// Multiplications that take some 40 µs.
const RECKONING: usize = 30_000;
/// Rules of the policies that take turns.
const RULES: usize = 100_000;
/// What a poll must not exceed.
const GOAL: Duration = Duration::from_micros(200);
/// Polls that may still pay for a new world: memory that they are the first to read.
const FRESH: usize = 50;

fn main() {
    let flows: u32 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(4_000_000);
    // Before everything, as control compiles on another core.
    let policies = [Shape::Acl, Shape::Fw].map(policy);
    let mut bench = Bench::new(flows);
    println!("{flows} flows, {BURST} packets a poll; microseconds");
    println!(
        "{:<44} {:>9} {:>7} {:>7} {:>8} {:>7} {:>7}",
        "", "polls", "median", "99.9 %", "longest", "> 200", "behind"
    );
    let rounds = flows as usize / BURST;
    let mut nth = 0u32;
    let mut fresh = move || {
        nth += 1;
        nth
    };

    bench.phase("the table fills", rounds, &mut fresh, |_| {});
    bench.steady("steady traffic of known flows", rounds, |_| {});
    let mut cursor = Some(Cursor::default());
    let mut batch = Vec::with_capacity(BATCH);
    let all = FlowFilter::default();
    bench.until("all flows are listed, with traffic", flows, |bench| {
        batch.clear();
        let at = cursor?;
        cursor = bench.engine.conntrack().list(bench.now, at, &all, &mut batch);
        Some(())
    });
    bench.reckon("the same, and nothing but reckoning", rounds);
    bench.steady("a new world for each thousand polls", rounds, |bench| {
        if bench.polls % 1000 == 0 {
            bench.adopt();
        }
    });
    bench.swap_rules(&policies, rounds);
    let mut fresh_again = fresh;
    bench.phase("new flows into a full table (early drop)", rounds / 4, &mut fresh_again, |_| {});
    let mut cursor = Some(Cursor::default());
    bench.until("all flows are flushed, with traffic", 1024, |bench| {
        let at = cursor?;
        cursor = bench.engine.conntrack().delete(bench.now, at, &all, DELETE_STEP, &mut Vec::new()).1;
        Some(())
    });
    bench.phase("the table fills again", rounds, &mut fresh, |_| {});
    bench.nanos += 40_000_000_000;
    bench.until("all flows end in the same second, with traffic", 1024, |bench| {
        (bench.engine.conntrack().len() > 1024).then_some(())
    });
    for (reason, dropped) in DropReason::ALL.iter().zip(&bench.counters.drops).filter(|(_, n)| n.get() > 0) {
        println!("{} packets dropped: {}", dropped.get(), reason.label());
    }
}

struct Bench {
    counters: Arc<WorkerCounters>,
    engine: Engine,
    world: World,
    now: Now,
    nanos: u64,
    flows: u32,
    polls: usize,
    /// Polls when the last new world came, if one did.
    adopted: Option<usize>,
    buffers: Vec<Vec<u8>>,
    waited: Waited,
    random: u64,
}

/// How long a poll took, and whether it was among the first with a new world.
type Poll = (Duration, bool);

impl Bench {
    fn new(flows: u32) -> Bench {
        let link = |name: &str, id: u16| Interface {
            name: name.into(),
            port: PortId(id),
            vlan: None,
            mac: MacAddr([2, 0, 0, 0, 0, id as u8 + 1]),
            mtu: 1500,
            addresses: vec![(format!("10.{}.0.1", 200 + id).parse().expect("an address"), 24)],
            groups: vec![],
            kernel_addresses: false,
            rp_filter: RpFilter::Off,
        };
        let interfaces = Interfaces::new(vec![link("lan", 0), link("wan", 1)]);
        let next =
            NeighbourKey { interface: InterfaceId(1), address: "10.201.0.2".parse().expect("an address") };
        let known = NeighbourState::Reachable(MacAddr([2, 0, 0, 0, 0, 9]));
        let world = World {
            generation: Generation(1),
            fib: Arc::new(Fib::new(&[], &interfaces)),
            interfaces: Arc::new(interfaces),
            neighbours: Arc::new(Neighbours::new(
                1,
                [(next, Neighbour::new(known, Arc::new(AtomicU32::new(0))))],
            )),
            ruleset: Arc::default(),
            settings: Arc::new(Settings::default()),
        };
        let counters = Arc::new(WorkerCounters::new(2));
        let config = EngineConfig {
            worker: WorkerId(0),
            workers: 1,
            flow_capacity: flows,
            seed: 7,
            budget: Arc::new(FlowBudget::new(flows)),
            reservations: None,
            counters: Arc::clone(&counters),
        };
        let mut engine = Engine::new(config, Arc::new(world.clone()));
        engine.conntrack().memory(flows).for_each(|range| assert!(sluice_rte::populate(range), "Linux 5.14"));
        let buffers = vec![vec![0; HEADROOM + 256]; BURST];
        let (now, waited) = (Now::from_nanos(1 << 40), Waited::new());
        Bench {
            counters,
            engine,
            world,
            now,
            nanos: 1 << 40,
            flows,
            polls: 0,
            adopted: None,
            buffers,
            waited,
            random: 1,
        }
    }

    /// Polls with packets of the flows that `next` names; `then` comes after the packets of each poll.
    fn phase(
        &mut self,
        name: &str,
        polls: usize,
        next: &mut impl FnMut() -> u32,
        mut then: impl FnMut(&mut Bench),
    ) {
        let mut times = Vec::with_capacity(polls);
        for _ in 0..polls {
            times.push(self.poll(&mut *next, &mut then));
        }
        report(name, times);
    }

    /// Polls with packets of flows that are there.
    fn steady(&mut self, name: &str, polls: usize, mut then: impl FnMut(&mut Bench)) {
        let mut times = Vec::with_capacity(polls);
        for _ in 0..polls {
            let (flows, mut random) = (self.flows, self.random);
            times.push(self.poll(&mut || known(&mut random, flows), &mut then));
            self.random = random;
        }
        report(name, times);
    }

    /// Polls with packets of known flows that many rules judge anew, since two policies take turns.
    fn swap_rules(&mut self, policies: &[Arc<Ruleset>], polls: usize) {
        let mut turns = policies.iter().cycle();
        let before = Arc::clone(&self.world.ruleset);
        self.steady("100,000 other rules for each thousand polls", polls, |bench| {
            if let (0, Some(policy)) = (bench.polls % 1000, turns.next()) {
                bench.world.ruleset = Arc::clone(policy);
                bench.adopt();
            }
        });
        self.world.ruleset = before;
        self.adopt();
    }

    fn adopt(&mut self) {
        self.world.generation.0 += 1;
        self.adopted = Some(self.polls);
        drop(self.engine.adopt(Arc::new(self.world.clone())));
    }

    /// Polls that touch no memory, about as long as those with packets.
    fn reckon(&mut self, name: &str, polls: usize) {
        let mut times = Vec::with_capacity(polls);
        for _ in 0..polls {
            let waited = self.waited.nanos();
            let began = Instant::now();
            let mut random = self.random;
            (0..RECKONING).for_each(|_| _ = known(&mut random, 1));
            self.random = std::hint::black_box(random);
            let took = began.elapsed();
            times.push((took.saturating_sub(Duration::from_nanos(self.waited.nanos() - waited)), false));
        }
        report(name, times);
    }

    /// Polls with packets of some `flows`, until `step` has no more to do.
    fn until(&mut self, name: &str, flows: u32, mut step: impl FnMut(&mut Bench) -> Option<()>) {
        let mut times = Vec::with_capacity(1 << 20);
        let mut more = true;
        while more {
            let mut random = self.random;
            let mut then = |bench: &mut Bench| more = step(bench).is_some();
            times.push(self.poll(&mut || known(&mut random, flows), &mut then));
            self.random = random;
        }
        report(name, times);
    }

    fn poll(&mut self, next: &mut impl FnMut() -> u32, then: &mut impl FnMut(&mut Bench)) -> Poll {
        self.polls += 1;
        let is_fresh = self.adopted.is_some_and(|at| self.polls - at <= FRESH);
        self.nanos += 2000;
        self.now = Now::from_nanos(self.nanos);
        let mut buffers = std::mem::take(&mut self.buffers);
        for buffer in &mut buffers {
            write(&mut buffer[HEADROOM..HEADROOM + FRAME], next());
        }
        let waited = self.waited.nanos();
        let began = Instant::now();
        let mut frames: Vec<Frame<'_>> = buffers.iter_mut().map(|buffer| frame(buffer)).collect();
        self.engine.process(self.now, &mut frames, &mut Nowhere);
        self.engine.tick(self.now);
        then(self);
        let took = began.elapsed();
        drop(frames);
        self.buffers = buffers;
        (took.saturating_sub(Duration::from_nanos(self.waited.nanos() - waited)), is_fresh)
    }
}

/// Many rules about the network that the packets come from.
fn policy(shape: Shape) -> Arc<Ruleset> {
    let mut rules = shapes::rules(shape, RULES);
    rules.iter_mut().for_each(|rule| rule.src.0 = 10 << 24 | rule.src.0 & 0x00ff_ffff);
    Arc::new(shapes::builder(&rules).build(1).expect("rules"))
}

fn known(random: &mut u64, flows: u32) -> u32 {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    (*random >> 33) as u32 % flows + 1
}

fn report(name: &str, mut polls: Vec<Poll>) {
    polls.sort_unstable();
    let at = |part: f64| polls[((polls.len() - 1) as f64 * part) as usize].0.as_secs_f64() * 1e6;
    let over: Vec<_> = polls.iter().filter(|(took, _)| *took > GOAL).collect();
    let fresh = over.iter().filter(|(_, is_fresh)| *is_fresh).count();
    println!(
        "{name:<44} {:>9} {:>7.1} {:>7.1} {:>8.1} {:>7} {fresh:>7}",
        polls.len(),
        at(0.5),
        at(0.999),
        at(1.0),
        over.len()
    );
}

/// The first packet of the `n`th flow: UDP, from 10.0.0.0/9.
fn write(frame: &mut [u8], n: u32) {
    let source = (10 << 24 | n & 0x7f_ffff).to_be_bytes();
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 8, 8, 0]);
    frame[14..26].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame[26..30].copy_from_slice(&source);
    frame[30..34].copy_from_slice(&[10, 201, 0, 2]);
    let sum: u32 =
        frame[14..34].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    frame[24..26].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    frame[34..42].copy_from_slice(&[(n >> 23) as u8, 53, 0, 53, 0, 26, 0, 0]);
}

fn frame(buffer: &mut [u8]) -> Frame<'_> {
    Frame {
        buffer,
        start: HEADROOM as u16,
        len: FRAME as u16,
        port: PortId(0),
        origin: Origin::Wire,
        ingress: None,
        egress: None,
        rss: None,
        ip_checksum: RxChecksum::Good,
        l4_checksum: RxChecksum::Good,
        verdict: Verdict::Pending,
    }
}

/// How long this thread waited for a CPU.
struct Waited(File);

impl Waited {
    fn new() -> Waited {
        Waited(File::open("/proc/thread-self/schedstat").expect("Linux"))
    }

    fn nanos(&self) -> u64 {
        let mut text = [0; 64];
        let length = self.0.read_at(&mut text, 0).unwrap_or(0);
        let text = std::str::from_utf8(&text[..length]).unwrap_or_default();
        text.split(' ').nth(1).and_then(|field| field.parse().ok()).unwrap_or(0)
    }
}

struct Nowhere;

impl Outbox for Nowhere {
    fn frame(&mut self, _: Outlet, _: usize) -> Option<&mut [u8]> {
        None
    }

    fn resolve(&mut self, _: NeighbourKey) {}

    fn log(&mut self, _: &LogRecord) {}

    fn punt(&mut self, _: InterfaceId, _: &[u8]) -> bool {
        true
    }
}
