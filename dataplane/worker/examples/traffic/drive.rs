//! Traffic sent to one device and, if wanted, received from another, by one core.
//!
//! It says `ready` once its devices are there, makes the flows known (a packet of each, then a reply of each), says `known`,
//! and goes on with packets of flows and directions of chance. A line on its standard input is a wish:
//!
//! - `rate N`: so many packets a second from now on, evenly; 0: as many as the device takes
//! - `measure S`: for so many seconds, counts what is sent, what comes back, and how long it was away; answers with a line of JSON
//! - its end: to end

use std::io::BufRead;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use sluice_rte::vdev::Vdev;
use sluice_rte::{
    BURST, Burst, Eal, EalConfig, HEADROOM, Mempool, Port, PortConfig, RxQueue, SocketId, StartedPort,
    TxQueue, memory_needed, tsc,
};

use crate::file::Random;
use crate::flows::{self, LONGEST, Traffic, Way};
use crate::latency::Histogram;
use crate::{Options, number};

const BUFFERS: u32 = 16_383;
const ROOM: u16 = 2048 + HEADROOM;
/// Rounds between two looks at the wishes.
const LOOK: u32 = 256;

/// Sends until standard input ends.
pub(crate) fn run(options: Options) {
    let megabytes = memory_needed(BUFFERS, ROOM) / (1 << 20) + 64;
    let eal = Eal::init(EalConfig { memory_mb: megabytes as u32, ..EalConfig::default() }).expect("DPDK");
    if let Some(core) = options.core {
        assert!(core_affinity::set_for_current(core_affinity::CoreId { id: core }), "no core {core}");
    }
    let _registered = eal.register_thread().expect("one thread more");
    let pool = Mempool::new(&eal, "traffic", BUFFERS, 256, ROOM, SocketId::ANY).expect("buffers");
    let (_to, mut rx, tx) = open(&eal, &options.to, &pool);
    let back = options.from.as_deref().filter(|from| *from != options.to).map(|from| open(&eal, from, &pool));
    let from = match back {
        Some((port, mut rx, _)) => Some((rx.remove(options.queue), port)),
        None => options.from.is_some().then(|| (rx.remove(options.queue), _to)),
    };
    println!("ready");
    let order = Order { known: 0, random: Random(1), options: &options };
    let mut driver = Driver {
        pool,
        tx: tx.into_iter().next().expect("a queue"),
        from,
        traffic: &options.traffic,
        order,
        burst: Burst::new(),
        received: Burst::new(),
        pace: Pace { rate: 0, began: tsc(), due: 0 },
        hertz: eal.tsc_hz(),
        window: None,
    };
    driver.run(&wishes());
}

fn open(eal: &Eal, text: &str, pool: &Mempool) -> (StartedPort, Vec<RxQueue>, Vec<TxQueue>) {
    let vdev = Vdev::parse(text).expect("a device");
    let index = eal.create_vdev(&vdev.name, &vdev.args).expect("a device");
    // Who connects to a memif may bring several queues, as OVS does; it is refused where there are fewer.
    let rx_queues = if vdev.name.starts_with("net_memif") { 2 } else { 1 };
    let config = PortConfig { rx_queues, rss: false, ..PortConfig::default() };
    Port::configure(eal, index, config, pool).and_then(Port::start).expect("a device that starts")
}

/// Lines of standard input, read by a thread of its own.
fn wishes() -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        std::io::stdin().lock().lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    receiver
}

/// Which packet comes next.
struct Order<'a> {
    /// Packets sent so that flows are known.
    known: u64,
    random: Random,
    options: &'a Options,
}

impl Order<'_> {
    #[inline]
    fn next(&mut self) -> (u64, Way) {
        let flows = self.options.flows;
        let place = self.known;
        self.known += 1;
        if self.options.new || place < flows {
            return (place, Way::First);
        }
        if place < 2 * flows {
            return (place - flows, Way::Back);
        }
        let flow = self.random.below(self.options.shrink.unwrap_or(flows));
        (flow, if self.random.below(2) == 0 { Way::There } else { Way::Back })
    }

    fn all_known(&self) -> bool {
        self.options.new || self.known >= 2 * self.options.flows
    }
}

/// How many packets may be sent by now.
struct Pace {
    /// A second; 0: as many as are taken.
    rate: u64,
    /// TSC.
    began: u64,
    /// Packets sent since.
    due: u64,
}

impl Pace {
    #[inline]
    fn allowed(&self, now: u64, hertz: u64) -> usize {
        if self.rate == 0 {
            return BURST;
        }
        let until_now = u128::from(now.wrapping_sub(self.began)) * u128::from(self.rate) / u128::from(hertz);
        (until_now as u64).saturating_sub(self.due).min(BURST as u64) as usize
    }
}

/// What is counted between two moments.
struct Window {
    /// TSC.
    began: u64,
    ends: u64,
    sent: u64,
    back: u64,
    away: Histogram,
}

struct Driver<'a> {
    pool: Mempool,
    tx: TxQueue,
    from: Option<(RxQueue, StartedPort)>,
    traffic: &'a Traffic,
    order: Order<'a>,
    burst: Burst,
    received: Burst,
    pace: Pace,
    hertz: u64,
    window: Option<Window>,
}

impl Driver<'_> {
    fn run(&mut self, wishes: &Receiver<String>) {
        let mut said = false;
        loop {
            for _ in 0..LOOK {
                self.send();
                self.receive();
            }
            if !said && self.order.all_known() {
                said = true;
                println!("known");
            }
            if let Some(window) = self.window.take_if(|window| tsc() >= window.ends) {
                self.report(&window);
            }
            match wishes.try_recv() {
                Ok(wish) => self.fulfil(&wish),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }

    /// Sends what is due, and first what the device did not take before.
    #[inline]
    fn send(&mut self) {
        let now = tsc();
        if self.burst.is_empty() {
            let count = self.pace.allowed(now, self.hertz);
            if count == 0 || !self.pool.alloc_bulk(&mut self.burst, count) {
                return;
            }
            for mbuf in self.burst.iter_mut() {
                let (flow, way) = self.order.next();
                let (buffer, start, _) = mbuf.buffer_mut();
                let place = &mut buffer[usize::from(start)..usize::from(start) + LONGEST];
                let length = self.traffic.write(flow, way, now, place);
                assert!(mbuf.set_range(start, length as u16), "a buffer holds every frame");
            }
        }
        let sent = self.tx.transmit(&mut self.burst) as u64;
        self.pace.due += sent;
        if let Some(window) = &mut self.window {
            window.sent += sent;
        }
    }

    #[inline]
    fn receive(&mut self) {
        let Some((rx, _)) = &mut self.from else { return };
        if rx.receive(&mut self.received) == 0 {
            return;
        }
        if let Some(window) = &mut self.window {
            let now = tsc();
            for mbuf in self.received.iter() {
                let stamp = flows::stamp(mbuf.data());
                if stamp != 0 {
                    window.back += 1;
                    window.away.note(now.saturating_sub(stamp));
                }
            }
        }
        self.received.clear();
    }

    fn fulfil(&mut self, wish: &str) {
        let now = tsc();
        match wish.split_once(' ') {
            Some(("rate", rate)) => self.pace = Pace { rate: number(rate), began: now, due: 0 },
            Some(("measure", seconds)) => {
                let seconds: f64 = seconds.parse().expect("seconds");
                let ends = now + (seconds * self.hertz as f64) as u64;
                self.window = Some(Window { began: now, ends, sent: 0, back: 0, away: Histogram::new() });
            }
            _ => panic!("{wish} is no wish"),
        }
    }

    /// Prints a window as a line of JSON; times in microseconds.
    fn report(&self, window: &Window) {
        let micros = |cycles: u64| cycles as f64 * 1e6 / self.hertz as f64;
        let seconds = micros(tsc() - window.began) / 1e6;
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|part| micros(window.away.quantile(part)));
        println!(
            r#"{{"seconds": {seconds}, "sent": {}, "back": {}, "p50": {p50}, "p99": {p99}, "p999": {p999}, "longest": {}}}"#,
            window.sent,
            window.back,
            micros(window.away.longest()),
        );
    }
}
