//! Traffic as pcap files, one for each queue of a NIC that would have received it.
//!
//! Source: the pcap file format (draft-ietf-opsawg-pcap).

use std::fs::File;
use std::io::{BufWriter, Write};

use crate::flows::{LONGEST, Way};
use crate::{Options, flows};

/// DPDK's bursts are of 32, so a file with less would not fill one.
const LEAST: usize = 64;

/// Writes the first packet of each flow, then a reply of each; prints how many packets are in each file.
pub(crate) fn write(options: &Options) {
    let mut random = Random(1);
    let mut packets = Vec::with_capacity(2 * options.flows as usize);
    for way in [Way::There, Way::Back] {
        let begin = packets.len();
        packets.extend((0..options.flows).map(|flow| (flow, way)));
        random.shuffle(&mut packets[begin..]);
    }
    let queues = options.files.len();
    let mut by_queue = vec![Vec::new(); queues];
    for packet in packets {
        by_queue[options.traffic.owner(packet.0, queues)].push(packet);
    }
    for (path, packets) in options.files.iter().zip(by_queue) {
        println!("{}", write_file(path, &options.traffic, &packets));
    }
}

fn write_file(path: &str, traffic: &flows::Traffic, packets: &[(u64, Way)]) -> usize {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).expect("a place for the file"));
    let mut put = |bytes: &[u8]| out.write_all(bytes).expect("room for the file");
    // Magic, version 2.4, no time zone, longest packet, Ethernet.
    [0xa1b2_c3d4_u32, 4 << 16 | 2, 0, 0, 65535, 1].iter().for_each(|word| put(&word.to_le_bytes()));
    let mut frame = [0; LONGEST];
    let times = if packets.is_empty() { 0 } else { LEAST.div_ceil(packets.len()) };
    for (flow, way) in packets.iter().cycle().take(times * packets.len()) {
        let length = traffic.write(*flow, *way, 0, &mut frame);
        [0, 0, length as u32, length as u32].iter().for_each(|word| put(&word.to_le_bytes()));
        put(&frame[..length]);
    }
    times * packets.len()
}

/// Chance that is the same each time.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `bound`.
    #[inline]
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(self.0) * u128::from(bound)) >> 64) as u64
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at as u64 + 1) as usize);
        }
    }
}
