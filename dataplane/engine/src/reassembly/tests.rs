//! Random fragmentations in random orders come out whole; and whatever comes, memory is bounded and given back.

use proptest::prelude::*;
use sluice_wire::split::Split;
use sluice_wire::{LinkCast, Parsed, Protocol, build, parse, parse_datagram};

use super::*;
use crate::frame::Frame;
use crate::testing::{CLI, between, built, with_frame};

const TIMEOUT: Millis = Millis::from_secs(30);

/// What a test collects with.
struct Bench {
    reassembly: Reassembly,
    assembly: Assembly,
    now: Tick,
}

impl Bench {
    fn new(limit: u32) -> Bench {
        Bench { reassembly: Reassembly::new(limit, 7), assembly: Assembly::new(), now: Tick(1000) }
    }

    fn collect(&mut self, bytes: &[u8]) -> Collected {
        let packet = match parse(bytes) {
            Ok(Parsed::Ip(packet)) => packet,
            other => panic!("{other:?}"),
        };
        let key = Key::of(&packet, Some(CLI), false).unwrap();
        let part = Part::of(&packet, bytes).unwrap();
        let arrived = with_frame(bytes, |frame: &mut Frame<'_>| Arrived::of(frame, packet.vlan, packet.cast));
        self.reassembly.collect((self.now, TIMEOUT), key, &packet, part, arrived, &mut self.assembly)
    }

    /// The datagram that was put together.
    fn whole(&self) -> &[u8] {
        let start = usize::from(Assembly::START);
        &self.assembly.buffer[start..start + usize::from(self.assembly.shape.length)]
    }

    /// Whether there is nothing left that takes memory.
    fn is_empty(&self) -> bool {
        let Reassembly { blocks, ages, held, chains, .. } = &self.reassembly;
        blocks.taken() == 0
            && ages.iter().all(|ages| ages.oldest == NONE && ages.newest == NONE)
            && *held == Lost::default()
            && chains.iter().all(|head| *head == NONE)
    }
}

/// A whole datagram of that much payload, Ethernet header included.
fn datagram(v6: bool, id: u16, payload: usize) -> Vec<u8> {
    let (src, dst) = if v6 { ("fd00:1::2", "fd00:2::2") } else { ("10.1.0.2", "10.2.0.2") };
    let headers = build::Datagram { ttl: 9, ..between(CLI, src, dst) };
    let bytes: Vec<u8> = (0..payload).map(|at| (at * 7 + usize::from(id)) as u8).collect();
    let mut room = vec![0; 70_000];
    let length = build::other(&mut room, &headers, Protocol(99), &bytes).unwrap();
    room.truncate(length);
    if !v6 {
        room[18..20].copy_from_slice(&id.to_be_bytes());
        seal(&mut room);
    }
    room
}

fn seal(frame: &mut [u8]) {
    frame[24..26].fill(0);
    let sum = sluice_wire::checksum::plain(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum);
}

/// The fragments of a datagram, cut at these multiples of eight.
fn cut(frame: &[u8], cuts: &[usize], id: u32) -> Vec<Vec<u8>> {
    let packet = parsed_of(frame);
    let split = Split::of(&packet, frame, id).unwrap();
    let end = usize::from(split.payload());
    let mut starts: Vec<usize> = cuts.iter().map(|cut| cut * 8).filter(|at| *at < end).collect();
    starts.extend([0, end]);
    starts.sort_unstable();
    starts.dedup();
    let pieces = starts.windows(2).map(|pair| (pair[0] as u16, (pair[1] - pair[0]) as u16));
    let one = |piece| {
        let mut room = vec![0; 70_000];
        let length = split.write(&mut room, piece).unwrap();
        [&frame[..14], &room[..length]].concat()
    };
    pieces.map(one).collect()
}

fn parsed_of(frame: &[u8]) -> Packet {
    match parse(frame) {
        Ok(Parsed::Ip(packet)) => packet,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_longest_datagram() {
    // What `ping -s 65507` sends: 65535 bytes with its header, so that a frame would be longer than 65535.
    let mut bench = Bench::new(1 << 20);
    let short = datagram(false, 5, 65_501);
    let mut parts = cut(&short, &(1..50).map(|n| n * 180).collect::<Vec<_>>(), 0);
    // Fourteen bytes more than what fits a frame.
    let mut last = parts.pop().unwrap();
    last.extend([0xee; 14]);
    let total = (last.len() - 14) as u16;
    last[16..18].copy_from_slice(&total.to_be_bytes());
    seal(&mut last);
    parts.push(last);
    let (last, others) = parts.split_last().unwrap();
    assert!(others.iter().all(|part| bench.collect(part) == Collected::Kept));
    assert_eq!(bench.collect(last), Collected::Whole);
    let mut packet = Packet::NONE;
    let link = (None, LinkCast::Unicast);
    parse_datagram(bench.whole(), Family::V4, link, &mut packet).unwrap();
    assert_eq!(packet.length(), 65_535);
    assert_eq!(packet.segment(bench.whole())[..65_501], short[34..]);
    assert!(bench.is_empty());
}

#[test]
fn time_takes_the_oldest() {
    let mut bench = Bench::new(1 << 20);
    for (id, at) in [(1, 0), (2, 10_000), (3, 20_000)] {
        bench.now = Tick(at);
        let part = &cut(&datagram(false, id, 100), &[3], 0)[usize::from(id == 2)];
        assert_eq!(bench.collect(part), Collected::Kept);
    }
    let mut expired = Vec::new();
    for second in 0..60 {
        let now = Tick(second * 1000);
        while let Some(gone) = bench.reassembly.expire(now, &mut bench.assembly) {
            expired.push((second, gone.key.id, gone.fragments, gone.first));
        }
    }
    assert_eq!(expired, [(30, 1, 1, true), (40, 2, 1, false), (50, 3, 1, true)]);
    assert!(bench.is_empty());
    let first = &cut(&datagram(false, 3, 100), &[3], 0)[0];
    assert_eq!(bench.whole(), &first[14..], "as it came, for an error to quote");
}

#[test]
fn a_flood_takes_no_more_than_it_may_and_ends_nothing_that_is_quick() {
    let mut bench = Bench::new(256 << 10);
    let mut lost = 0;
    for id in 0..20_000u16 {
        assert_eq!(bench.collect(&cut(&datagram(false, id, 700), &[60], 0)[0]), Collected::Kept);
        if id % 1000 == 999 {
            let [first, last] = &cut(&datagram(true, 0, 900), &[60], u32::from(id))[..] else { panic!() };
            assert_eq!(bench.collect(first), Collected::Kept);
            assert_eq!(bench.collect(last), Collected::Whole);
        }
        lost += bench.reassembly.take_evicted().received;
        assert!(bench.reassembly.blocks.taken() <= 256);
    }
    assert_eq!(lost + bench.reassembly.held().received, 20_000);
    while bench.reassembly.expire(Tick(100_000), &mut bench.assembly).is_some() {}
    assert!(bench.is_empty());
}

#[test]
fn no_memory_at_all() {
    let mut bench = Bench::new(0);
    let part = &cut(&datagram(false, 1, 100), &[3], 0)[0];
    let dropped = Collected::Dropped { reason: DropReason::FragmentMemory, others: 0 };
    assert_eq!(bench.collect(part), dropped);
}

/// As `nf_ct_frag6_queue` and `ip_frag_queue` of Linux 6.18 have it.
#[test]
fn a_last_fragment_without_bytes_tells_where_a_datagram_of_ipv6_ends() {
    for (v6, then) in [(true, Collected::Whole), (false, Collected::Kept)] {
        let mut bench = Bench::new(1 << 20);
        let told = bench.collect(&fragment(v6, 1, 8, 0, false));
        assert_eq!(told, Collected::Dropped { reason: DropReason::FragmentInvalid, others: 0 });
        assert_eq!(bench.collect(&fragment(v6, 1, 0, 8, true)), then);
        assert_eq!(bench.is_empty(), v6);
    }
    let mut bench = Bench::new(1 << 20);
    bench.collect(&fragment(true, 1, 8, 0, false));
    bench.now = bench.now.after(TIMEOUT);
    let expired = bench.reassembly.expire(bench.now, &mut bench.assembly);
    assert!(expired.is_some_and(|expired| expired.fragments == 0 && !expired.first));
    assert!(bench.is_empty(), "nor does it stay for ever");
}

#[test]
fn too_many_fragments_are_no_datagram() {
    let mut bench = Bench::new(1 << 20);
    let parts = cut(&datagram(false, 1, 9000), &(1..1125).collect::<Vec<_>>(), 0);
    let fates: Vec<_> = parts.iter().map(|part| bench.collect(part)).collect();
    assert!(fates[..1024].iter().all(|fate| *fate == Collected::Kept));
    let dropped = Collected::Dropped { reason: DropReason::FragmentInvalid, others: 1024 };
    assert_eq!(fates[1024], dropped);
}

/// Fragments that may or may not be of use: which eighths of a datagram, of which, and how they lie.
fn any_fragment() -> impl Strategy<Value = (bool, u16, usize, usize, bool)> {
    (any::<bool>(), 0..3u16, 0..30usize, 0..400usize, any::<bool>())
}

proptest! {
    #[test]
    fn any_cuts_in_any_order_come_out_whole(
        v6 in any::<bool>(),
        payload in 16..6000usize,
        cuts in proptest::collection::vec(1..700usize, 1..30),
        order in any::<u64>(),
        repeat in any::<prop::sample::Index>(),
    ) {
        let frame = datagram(v6, 9, payload);
        let mut parts = cut(&frame, &cuts, 77);
        prop_assume!(parts.len() > 1);
        let lengths: Vec<u16> = parts.iter().map(|bytes| Part::of(&parsed_of(bytes), bytes).unwrap().payload.len() as u16).collect();
        let mut seed = order;
        for at in (1..parts.len()).rev() {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            parts.swap(at, (seed >> 33) as usize % (at + 1));
        }
        let mut bench = Bench::new(64 << 10);
        let (last, others) = parts.split_last().unwrap();
        for part in others {
            prop_assert_eq!(bench.collect(part), Collected::Kept);
        }
        let again = repeat.get(others);
        let duplicate = Collected::Dropped { reason: DropReason::FragmentDuplicate, others: 0 };
        prop_assert_eq!(bench.collect(again), duplicate);
        prop_assert_eq!(bench.collect(last), Collected::Whole);
        let before = parsed_of(&frame);
        let mut expected = frame[14..usize::from(before.end)].to_vec();
        if !v6 {
            expected[6] = bench.whole()[6];
            expected[10..12].copy_from_slice(&bench.whole()[10..12]);
        }
        prop_assert_eq!(bench.whole(), &expected[..]);
        prop_assert_eq!(&bench.assembly.shape.lengths, &lengths);
        prop_assert!(bench.is_empty());
    }

    /// Overlaps, holes, odd lengths and what else there is.
    #[test]
    fn whatever_comes_memory_is_given_back(list in proptest::collection::vec(any_fragment(), 1..80)) {
        let mut bench = Bench::new(8 << 10);
        for (v6, id, unit, length, more) in list {
            let part = fragment(v6, id, unit * 8, length, more);
            bench.now = Tick(bench.now.0 + 1);
            let _ = bench.collect(&part);
            prop_assert!(bench.reassembly.blocks.taken() <= 8);
        }
        while bench.reassembly.expire(Tick(1_000_000), &mut bench.assembly).is_some() {}
        prop_assert!(bench.is_empty());
    }
}

/// A fragment of nothing in particular.
fn fragment(v6: bool, id: u16, offset: usize, length: usize, more: bool) -> Vec<u8> {
    let word = offset as u16;
    if v6 {
        let mut body = vec![99, 0];
        body.extend((word | u16::from(more)).to_be_bytes());
        body.extend(u32::from(id).to_be_bytes());
        body.extend(vec![7; length]);
        let headers = between(CLI, "fd00:1::2", "fd00:2::2");
        return built(|room| build::other(room, &headers, Protocol::FRAGMENT, &body));
    }
    let mut frame = datagram(false, id, length);
    let flags = if more { 0x2000 } else { 0 };
    frame[20..22].copy_from_slice(&(flags | (word / 8)).to_be_bytes());
    seal(&mut frame);
    if offset == 0 && !more {
        // Not a fragment at all.
        frame[20..22].copy_from_slice(&0x2000u16.to_be_bytes());
        seal(&mut frame);
    }
    frame
}
