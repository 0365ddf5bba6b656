//! The poll loop: each round takes a burst from every queue and ring, has the engine judge it, and sends on the outcome.

use arrayvec::ArrayVec;
use crossbeam_channel::Receiver;
use sluice_engine::counters::DURATION_BOUNDS;
use sluice_engine::ids::{InterfaceId, PortId, Tick, WorkerId};
use sluice_engine::message::Command;
use sluice_engine::{DropReason, Engine, Frame, Origin, RxChecksum, Verdict};
use sluice_rte::{BURST, Burst, Mbuf, Place, RingConsumer, RxQueue, tsc};

use crate::clock::Clock;
use crate::idle::Idler;
use crate::latency::Sampler;
use crate::shell::{Fate, Fates, Keys, Shell};
use crate::source::{Source, Tag};

/// A receive queue of this worker's own.
pub(crate) struct Input {
    pub(crate) queue: RxQueue,
    pub(crate) source: Source,
    /// Frames longer than this, in bytes, may have been cut by the device.
    pub(crate) longest: usize,
}

/// One worker: an engine, what feeds it, and what it feeds.
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) engine: Engine,
    pub(crate) shell: Shell,
    pub(crate) inputs: Vec<Input>,
    /// From the other workers: packets that belong to this one.
    pub(crate) rings: Vec<RingConsumer>,
    pub(crate) commands: Receiver<Command>,
    pub(crate) clock: Clock,
    pub(crate) idler: Idler,
    /// The port of each interface, for packets from its tap.
    pub(crate) interface_ports: Box<[PortId]>,
    pub(crate) burst: Burst,
    /// Follows a packet now and then.
    pub(crate) sampler: Sampler,
    /// Next hops became known, and packets on hold have not been looked at since.
    pub(crate) unsettled: bool,
    /// When packets on hold were last looked at for their timeout.
    pub(crate) swept: Tick,
}

/// The packets of a burst as the engine sees them.
type Frames<'a> = ArrayVec<Frame<'a>, { Burst::CAPACITY }>;

/// And what of them is written when they were judged.
type Places<'a> = ArrayVec<Place<'a>, { Burst::CAPACITY }>;

/// How the packets of a burst arrived.
#[derive(Clone, Copy)]
enum Arrival {
    /// At a queue of this worker's own, all from one source.
    Here(Source),
    /// Over a ring, from the worker whose queue they arrived at.
    HandedOver,
}

impl Arrival {
    /// Where all of them came from, if it is one place.
    fn source(self) -> Option<Source> {
        match self {
            Arrival::Here(source) => Some(source),
            Arrival::HandedOver => None,
        }
    }
}

impl Worker {
    /// Polls until [`Command::Stop`]; calls `polling` after the first round.
    pub(crate) fn run(&mut self, polling: impl FnOnce()) {
        let mut polling = Some(polling);
        let bounds = DURATION_BOUNDS.map(|micros| self.clock.ticks(micros));
        let mut then = tsc();
        loop {
            self.shell.now = self.clock.at(then);
            self.shell.captures.tick(self.shell.now);
            let packets = self.round();
            let go_on = self.mailbox();
            let moved = self.shell.flush();
            let end = tsc();
            if let Some(cycles) = self.sampler.arrived(&self.shell.ports, end) {
                self.shell.account.counters.latency.note(cycles, &bounds);
            }
            match polling.take() {
                Some(polling) => polling(),
                None => self.shell.account.counters.polls.note(end.wrapping_sub(then), &bounds),
            }
            if !go_on {
                self.shell.drain();
                return;
            }
            let end = if packets + moved > 0 {
                self.idler.busy();
                end
            } else {
                self.idler.empty();
                tsc()
            };
            self.count_round(end.wrapping_sub(then), packets);
            then = end;
        }
    }

    /// Takes a burst from each queue and ring; returns how many packets there were.
    fn round(&mut self) -> usize {
        let mut packets = 0;
        for at in 0..self.inputs.len() {
            packets += self.poll_input(at);
        }
        for at in 0..self.rings.len() {
            packets += self.poll_ring(at);
        }
        self.engine.tick(self.shell.now);
        self.engine.expire_fragments(self.shell.now, &mut self.shell);
        self.tend_hold();
        packets
    }

    #[inline]
    fn poll_input(&mut self, at: usize) -> usize {
        let Some(input) = self.inputs.get_mut(at) else { return 0 };
        let count = input.queue.receive(&mut self.burst);
        if count == 0 {
            return 0;
        }
        let (mut fit, mut hashed, longest, source) = (true, 0, input.longest, input.source);
        for mbuf in self.burst.iter_mut() {
            hashed += u64::from(mbuf.rss_hash().is_some());
            source.mark(mbuf);
            mbuf.prefetch();
            fit &= unfit(mbuf, longest).is_none();
        }
        if hashed > 0 {
            self.shell.account.counters.device_hashed.add(hashed);
        }
        if !fit {
            self.sort_out(longest);
        }
        self.judge(Arrival::Here(source));
        count
    }

    #[inline]
    fn poll_ring(&mut self, at: usize) -> usize {
        let Some(ring) = self.rings.get_mut(at) else { return 0 };
        let count = ring.dequeue(&mut self.burst);
        if count > 0 {
            for mbuf in self.burst.iter() {
                mbuf.prefetch();
            }
            self.judge(Arrival::HandedOver);
        }
        count
    }

    /// Drops packets that are cut or not in one piece; the others stay, in order.
    #[cold]
    fn sort_out(&mut self, longest: usize) {
        let mut fit = Burst::new();
        for mbuf in self.burst.drain() {
            match unfit(&mbuf, longest) {
                Some(reason) => self.shell.unfit(&mbuf, reason),
                // As much room as the burst has.
                None => drop(fit.push(mbuf)),
            }
        }
        self.burst = fit;
    }

    /// Has the engine judge the burst, and does what it says; the burst is empty afterwards.
    fn judge(&mut self, arrival: Arrival) {
        let since = self.sampler.count(self.burst.len()).then(tsc);
        let ports = &self.interface_ports;
        if self.shell.captures.are_running() {
            self.shell.captures.stage(&self.burst, arrival.source());
        }
        let (mut frames, mut places) = (Frames::new(), Places::new());
        let packets = self.burst.iter_mut();
        // As many slots as the burst has.
        let mut keep = |place| drop(places.try_push(place));
        match arrival {
            Arrival::Here(source) => {
                let (origin, port) = (arrived(source), port(source, ports));
                frames.extend(packets.map(|mbuf| split(mbuf, origin, port, &mut keep)));
            }
            Arrival::HandedOver => frames.extend(packets.map(|mbuf| {
                let source = Source::of(mbuf);
                split(mbuf, handed_over(source), port(source, ports), &mut keep)
            })),
        }
        self.engine.process(self.shell.now, &mut frames, &mut self.shell);
        if self.shell.captures.are_running() {
            self.shell.captures.judged(&frames);
        }
        let last = frames.last().map(|frame| frame.verdict);
        if let Some(port) = sent_together(&frames)
            && frames.iter().zip(&mut places).fold(true, |ok, (frame, place)| ok & put(frame, place))
        {
            drop((frames, places));
            self.shell.transmit_all(port, &mut self.burst);
        } else {
            let (mut fates, mut keys) = (Fates::new(), Keys::new());
            fates.extend(frames.iter().map(|frame| Fate::of(frame, &mut keys)));
            drop((frames, places));
            self.shell.dispatch_all(&mut self.burst, &fates, &keys);
        }
        if let (Some(since), Some(Verdict::Transmit(port))) = (since, last) {
            self.sampler.follow(&self.shell.ports, port, since);
        }
    }

    /// Counts a round of `cycles` TSC cycles, and the pause behind it.
    #[inline]
    fn count_round(&self, cycles: u64, packets: usize) {
        let counters = &self.shell.account.counters;
        if packets > 0 {
            counters.busy_polls.add(1);
            counters.busy_cycles.add(cycles);
            counters.polled_packets.add(packets as u64);
        } else {
            counters.idle_polls.add(1);
            counters.idle_cycles.add(cycles);
        }
    }
}

/// Why a packet is not for the engine to see, if it is not.
#[inline]
fn unfit(mbuf: &Mbuf, longest: usize) -> Option<DropReason> {
    if mbuf.is_multi_segment() {
        Some(DropReason::FrameSegmented)
    } else if mbuf.len() > longest {
        Some(DropReason::FrameTruncated)
    } else {
        None
    }
}

/// The port that all frames leave by, if it is one: most bursts are so, and are moved whole.
#[inline]
fn sent_together(frames: &Frames<'_>) -> Option<PortId> {
    let Verdict::Transmit(port) = frames.first()?.verdict else { return None };
    frames.iter().all(|frame| frame.verdict == Verdict::Transmit(port)).then_some(port)
}

/// Writes a frame's new place, and the interfaces it was counted at, to its buffer. False where the place is not within the
/// buffer, which the engine never says.
#[inline]
fn put(frame: &Frame<'_>, place: &mut Place<'_>) -> bool {
    Tag::new(frame.ingress, frame.egress).mark_place(place);
    place.set_range(frame.start, frame.len)
}

/// A packet's frame for the engine, over its buffer.
#[inline]
pub(crate) fn frame(mbuf: &mut Mbuf, origin: Origin, port: PortId) -> Frame<'_> {
    split(mbuf, origin, port, &mut drop)
}

/// The same; `keep` is given what of the packet is written when it was judged.
#[inline(always)]
fn split<'a>(
    mbuf: &'a mut Mbuf,
    origin: Origin,
    port: PortId,
    keep: &mut impl FnMut(Place<'a>),
) -> Frame<'a> {
    let found_out = mbuf.offloads();
    let (buffer, start, len, place) = mbuf.split_mut();
    keep(place);
    Frame {
        buffer,
        start,
        len,
        port,
        origin,
        ingress: None,
        egress: None,
        rss: found_out.rss_hash,
        ip_checksum: checksum(found_out.ip_checksum),
        l4_checksum: checksum(found_out.l4_checksum),
        verdict: Verdict::Pending,
    }
}

/// The port that a packet came from; of the box's own packets, the port of the tap's interface.
#[inline]
pub(crate) fn port(source: Source, interface_ports: &[PortId]) -> PortId {
    match source {
        Source::Wire(port) => port,
        Source::Local(InterfaceId(at)) => interface_ports.get(usize::from(at)).copied().unwrap_or(PortId(0)),
        Source::Made => PortId(0),
    }
}

/// The origin of a packet that arrived at this worker.
#[inline]
fn arrived(source: Source) -> Origin {
    match source {
        Source::Wire(_) => Origin::Wire,
        Source::Local(interface) => Origin::Local(interface),
        // The engine's own packets are never received or handed over.
        Source::Made => Origin::LocalHandedOver(InterfaceId(0)),
    }
}

/// The origin of a packet that arrived at another worker, which counted it.
#[inline]
fn handed_over(source: Source) -> Origin {
    match source {
        Source::Wire(_) => Origin::HandedOver,
        Source::Local(interface) => Origin::LocalHandedOver(interface),
        Source::Made => Origin::LocalHandedOver(InterfaceId(0)),
    }
}

#[inline]
fn checksum(of_device: sluice_rte::RxChecksum) -> RxChecksum {
    match of_device {
        sluice_rte::RxChecksum::Unknown => RxChecksum::Unknown,
        sluice_rte::RxChecksum::Good => RxChecksum::Good,
        sluice_rte::RxChecksum::Bad => RxChecksum::Bad,
    }
}

// A burst of the device fits into a burst of ours, with nothing left over from before.
const _: () = assert!(BURST <= Burst::CAPACITY);
