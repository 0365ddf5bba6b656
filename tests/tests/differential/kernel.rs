//! The kernel's side: a router in a namespace between two others, whose packets are written and read raw.
//!
//! ```text
//! cli eth0 ──── cli0 router srv0 ──── eth0 srv
//! ```
//!
//! The thread is bound to one processor. A packet that is sent then goes through the router's hooks in that very system
//! call, and has come out, or not, when the call returns: no waiting, some hundred thousand packets a second. What the
//! router thinks of a packet is told by the packet itself: a rule for each class sets its DSCP. Where the kernel puts
//! work off after all, a packet's identification tells whose answer it is.

use std::cell::Cell;
use std::fmt::Display;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::unistd::Pid;

use crate::packet::{MTU, seal_v4};
use crate::rules;
use crate::seen::{Seen, told};
use crate::sequence::{Settings, TIMEOUTS};

/// MAC addresses of the router's legs.
pub const ROUTER_MAC: [[u8; 6]; 2] = [[2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 2, 1]];
/// MAC addresses behind them.
pub const HOST_MAC: [[u8; 6]; 2] = [[2, 0, 0, 0, 1, 2], [2, 0, 0, 0, 2, 2]];

const LEGS: [&str; 2] = ["cli", "srv"];
const NAMES: [&str; 3] = ["cli", "srv", "router"];
/// Room for what comes out before it is read.
const RECEIVE_BUFFER: usize = 64 << 20;
/// Longer than this no packet is on its way.
const PATIENCE: Duration = Duration::from_secs(5);

/// The router; its namespaces go with it.
pub struct Kernel {
    name: String,
    legs: Vec<Leg>,
    started: Instant,
    /// Where the identifications of the next play begin.
    identification: Cell<u16>,
}

/// One leg from outside.
struct Leg {
    out: OwnedFd,
    address: LinkAddr,
    /// IPv4 and IPv6 apart: only sockets for one protocol do not hear what they send.
    hear: [OwnedFd; 2],
}

impl Kernel {
    /// Makes the router. Panics where that fails, since nothing can go on.
    pub fn new() -> Kernel {
        let name = format!("sluice-d{}", std::process::id());
        let kernel = Kernel { legs: Vec::new(), name, started: Instant::now(), identification: Cell::new(1) };
        kernel.make_links();
        let mut kernel = kernel;
        for leg in LEGS {
            kernel.enter(leg);
            kernel.legs.push(Leg::new());
        }
        kernel.enter("router");
        kernel.configure();
        let mut one = CpuSet::new();
        one.set(usize::from(std::process::id().is_multiple_of(2) && processors() > 1)).expect("a processor");
        sched_setaffinity(Pid::from_raw(0), &one).expect("sched_setaffinity");
        kernel
    }

    fn make_links(&self) {
        let mut batch = String::new();
        for name in NAMES {
            batch += &format!("netns add {}-{name}\n", self.name);
        }
        run("ip", &["-batch", "-"], &batch);
        for name in NAMES {
            self.enter(name);
            write("net/ipv6/conf/default/disable_ipv6", u8::from(name != "router"));
            write("net/ipv6/conf/default/accept_dad", 0);
        }
        let mut batch = String::new();
        for (leg, name) in LEGS.iter().enumerate() {
            batch += &format!(
                "link add {name}0 netns {n}-router address {} type veth peer name eth0 netns {n}-{name} address {}\n",
                mac(ROUTER_MAC[leg]),
                mac(HOST_MAC[leg]),
                n = self.name,
            );
        }
        run("ip", &["-batch", "-"], &batch);
    }

    /// Addresses, routes, rules: in the router's namespace.
    fn configure(&self) {
        let off = ["tx", "off", "rx", "off", "sg", "off", "tso", "off", "gso", "off", "gro", "off"];
        let mut batch = String::new();
        for (leg, name) in LEGS.iter().enumerate() {
            run("ethtool", &[&["-K", &format!("{name}0")], &off[..]].concat(), "");
            let (v4, v6) = [("192.0.2", "fd0a::"), ("198.51.100", "fd0b::")][leg];
            let (half, side, mac, mtu) = (leg * 128, leg + 1, mac(HOST_MAC[leg]), MTU[leg]);
            batch += &format!(
                "link set {name}0 mtu {mtu}\naddr add {v4}.1/30 dev {name}0\naddr add {v6}1/64 dev {name}0 nodad\nlink set {name}0 up\n\
                 neigh replace {v4}.2 lladdr {mac} dev {name}0 nud permanent\n\
                 neigh replace {v6}2 lladdr {mac} dev {name}0 nud permanent\n\
                 route add 10.{half}.0.0/9 via {v4}.2\nroute add fd0{side}::/16 via {v6}2\n"
            );
        }
        run("ip", &["-batch", "-"], &batch);
        for (key, value) in [
            ("net/ipv4/ip_forward", 1),
            ("net/ipv6/conf/all/forwarding", 1),
            ("net/ipv4/conf/all/rp_filter", 0),
            ("net/ipv4/conf/cli0/rp_filter", 0),
            ("net/ipv4/conf/srv0/rp_filter", 0),
            ("net/ipv4/icmp_ratelimit", 0),
            ("net/ipv6/icmp/ratelimit", 0),
            ("net/ipv4/ipfrag_high_thresh", 1 << 28),
            ("net/netfilter/nf_conntrack_frag6_high_thresh", 1 << 28),
            ("net/ipv4/ipfrag_max_dist", 0),
            // What lacks fragments is gone before another sequence has the same addresses and identifications.
            ("net/ipv4/ipfrag_time", 1),
            ("net/netfilter/nf_conntrack_frag6_timeout", 1),
            ("net/ipv4/icmp_msgs_per_sec", 1_000_000),
            ("net/ipv4/icmp_msgs_burst", 1_000_000),
        ] {
            write(key, value);
        }
        run("nft", &["-f", "-"], &rules::nft());
    }

    /// Sets the tracker and empties its table.
    pub fn reset(&self, settings: &Settings) {
        for (key, value) in [
            ("tcp_loose", u8::from(settings.tcp_loose)),
            ("tcp_be_liberal", u8::from(settings.tcp_be_liberal)),
            ("tcp_ignore_invalid_rst", u8::from(settings.tcp_ignore_invalid_rst)),
            ("tcp_max_retrans", settings.tcp_max_retrans),
            ("checksum", u8::from(settings.checksum)),
            ("acct", u8::from(settings.acct)),
        ] {
            write(&format!("net/netfilter/nf_conntrack_{key}"), value);
        }
        for (key, usual, short) in TIMEOUTS {
            write(&format!("net/netfilter/nf_conntrack_{key}"), if settings.time { short } else { usual });
        }
        run("conntrack", &["-F"], "");
    }

    /// The first of so many identifications, none of which was used lately.
    pub fn identifications(&self, count: usize) -> u16 {
        let count = u16::try_from(count).expect("few enough steps for 16 bits");
        let first = self.identification.get();
        let (first, next) =
            first.checked_add(count).map_or((1, count.saturating_add(1)), |next| (first, next));
        self.identification.set(next);
        first
    }

    /// Nanoseconds since the router was made.
    pub fn nanos(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// Sends a datagram to the router from a leg.
    pub fn send(&self, leg: usize, datagram: &[u8]) {
        let kind = if datagram[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] };
        let frame = [&ROUTER_MAC[leg][..], &HOST_MAC[leg], &kind, datagram].concat();
        let leg = &self.legs[leg];
        sendto(leg.out.as_raw_fd(), &frame, &leg.address, MsgFlags::empty()).expect("sending a frame");
    }

    /// What came out since the last call, with each packet's identification.
    pub fn heard(&self) -> Vec<(u16, Seen)> {
        let mut heard = Vec::new();
        let mut frame = [0; 4096];
        for (number, leg) in self.legs.iter().enumerate() {
            for (v6, socket) in [false, true].into_iter().zip(&leg.hear) {
                while let Ok(length) = recv(socket.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT) {
                    let datagram = frame.get(14..length).unwrap_or_default();
                    // What goes to a group is the router's own discovery of its neighbours.
                    let to_us = frame[..6] == HOST_MAC[number] && frame[6..12] == ROUTER_MAC[number];
                    if to_us && datagram.len() >= if v6 { 40 } else { 20 } {
                        heard.push(told(number, datagram));
                    }
                }
            }
        }
        heard
    }

    /// Waits until everything that was sent has come out, and returns it.
    pub fn settle(&self) -> Vec<(u16, Seen)> {
        let mut all = Vec::new();
        for leg in 0..2 {
            let fence = fence(leg);
            self.send(leg, &fence);
            let end = Instant::now() + PATIENCE;
            let mut through = false;
            while !through {
                assert!(Instant::now() < end, "the router does not forward");
                let heard = self.heard();
                let is_fence =
                    |(_, seen): &(u16, Seen)| seen.bytes[12..16] == fence[12..16] && seen.bytes[9] == 253;
                through = heard.iter().any(is_fence);
                all.extend(heard.into_iter().filter(|one| !is_fence(one)));
            }
        }
        all
    }

    /// The table, both families.
    pub fn flows(&self) -> Vec<String> {
        let list = |family| run("conntrack", &["-L", "-o", "extended", "-f", family], "");
        let text = list("ipv4") + &list("ipv6");
        text.lines().map(str::to_string).collect()
    }

    fn enter(&self, name: &str) {
        let file = File::open(format!("/run/netns/{}-{name}", self.name)).expect("namespace");
        setns(file, CloneFlags::CLONE_NEWNET).expect("setns");
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.legs.clear();
        for name in NAMES {
            let _ = Command::new("ip").args(["netns", "del", &format!("{}-{name}", self.name)]).output();
        }
    }
}

impl Leg {
    /// In the namespace of the thread, whose only link is `eth0`.
    fn new() -> Leg {
        run(
            "ethtool",
            &["-K", "eth0", "tx", "off", "rx", "off", "sg", "off", "tso", "off", "gso", "off", "gro", "off"],
            "",
        );
        run("ip", &["link", "set", "eth0", "arp", "off", "up"], "");
        let packets = |protocol| {
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), protocol).expect("raw socket")
        };
        let hear = [SockProtocol::EthIp, SockProtocol::EthIpv6].map(packets);
        for socket in &hear {
            setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).expect("SO_RCVBUFFORCE");
        }
        let all = nix::ifaddrs::getifaddrs().expect("getifaddrs");
        let mut links = all.filter(|one| one.interface_name == "eth0").filter_map(|one| one.address);
        let address = links.find_map(|address| address.as_link_addr().copied()).expect("eth0");
        let out = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None).expect("raw socket");
        Leg { out, address, hear }
    }
}

/// A datagram between nobody, which is not tracked.
fn fence(leg: usize) -> Vec<u8> {
    let mut datagram = vec![0x45, 0, 0, 20, 0, 0, 0, 0, 64, 253, 0, 0, 10, 127, 255, 1, 10, 255, 255, 1];
    if leg == 1 {
        datagram[12..].rotate_left(4);
    }
    seal_v4(&mut datagram);
    datagram
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn mac(mac: [u8; 6]) -> String {
    sluice_wire::MacAddr(mac).to_string()
}

/// Writes a setting of the thread's namespace; one that this kernel does not have is left.
fn write(key: &str, value: impl Display) {
    match std::fs::write(format!("/proc/sys/{key}"), value.to_string()) {
        Err(error) if error.kind() != ErrorKind::NotFound => panic!("{key}: {error}"),
        _ => {}
    }
}

/// Runs a program that must succeed; its standard output.
fn run(program: &str, argv: &[&str], input: &str) -> String {
    let mut command = Command::new(program);
    command.args(argv).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
    child.stdin.take().expect("stdin").write_all(input.as_bytes()).expect("writing to a program");
    let out = child.wait_with_output().expect("waiting for a program");
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {argv:?}: {}\n{errors}", out.status);
    String::from_utf8_lossy(&out.stdout).into_owned()
}
