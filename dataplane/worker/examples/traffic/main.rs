//! Packets of as many flows as wanted, for benchmarks (`scripts/bench`): into files that a pcap device repeats, or live into a
//! device, at a rate, with the time of sending in each, so that what comes back tells how long it was away.
//!
//! usage: traffic file [KEY VALUE]… FILE…      every flow's first packet, then a reply of each, both in an order of chance
//!        traffic drive [KEY VALUE]…           until its standard input ends; see `drive.rs` for what it is asked there
//!
//! - `flows N`: how many; `kind udp|tcp|imix|udp6`: what packets (`flows.rs`); `translated ADDRESS`: replies go there
//! - of `file`: several files are what so many queues of a NIC that hashes as Sluice does would receive
//! - of `drive`: `to VDEV`, `from VDEV`, `queue N`: the devices of DPDK, and the queue that packets come back by; `core N`; `only new`: each packet begins a flow;
//!   `shrink N`: once all flows are known, go on with the first so many
//!
//! No packet is kept: ten million flows take no more memory than one.

mod drive;
mod file;
mod flows;
mod latency;

use std::net::Ipv4Addr;

use flows::{Kind, Traffic};

/// What was asked for on the command line.
pub(crate) struct Options {
    traffic: Traffic,
    flows: u64,
    /// Each packet begins a flow.
    new: bool,
    /// Once all flows are known, the first so many stay.
    shrink: Option<u64>,
    to: String,
    from: Option<String>,
    /// Where packets come back, of the queues of `from`.
    queue: usize,
    core: Option<usize>,
    files: Vec<String>,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let verb = arguments.next().unwrap_or_default();
    let options = options(arguments);
    match verb.as_str() {
        "file" => file::write(&options),
        "drive" => drive::run(options),
        _ => panic!("usage: traffic file|drive [KEY VALUE]… [FILE]…"),
    }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Options {
    let (mut kind, mut translated) = (Kind::Udp, None);
    let (mut flows, mut new, mut shrink) = (1, false, None);
    let (mut to, mut from, mut queue) = (String::new(), None, 0);
    let (mut core, mut files) = (None, Vec::new());
    while let Some(key) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{key} needs a value"));
        match key.as_str() {
            "flows" => flows = number(&value()),
            "kind" => kind = Kind::named(&value()),
            "translated" => translated = Some(value().parse::<Ipv4Addr>().expect("an IPv4 address")),
            "only" => new = value() == "new",
            "shrink" => shrink = Some(number(&value())),
            "to" => to = value(),
            "from" => from = Some(value()),
            "queue" => queue = number(&value()) as usize,
            "core" => core = Some(number(&value()) as usize),
            _ => files.push(key),
        }
    }
    Options { traffic: Traffic::new(kind, translated), flows, new, shrink, to, from, queue, core, files }
}

pub(crate) fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{text} is no number"))
}
