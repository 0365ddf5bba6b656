//! The kernel's side: a router in a namespace, with another namespace at each leg, whose packets are written and read raw.
//!
//! A rule behind all others of the hook input counts what the box itself would get; what its stack answers is left alone.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

use crate::policy::{ADDRESSES, LEGS, NUMBERS, ROUTES};
use crate::words::say;

/// Counts packets as they come in, and those that reach the box.
const PROBE: &str = "table inet probe {
    counter seen { }
    counter local { }
    chain first { type filter hook prerouting priority -500; iifname != \"lo\" counter name seen; }
    chain last { type filter hook input priority 2000; counter name local; }
}";

/// The router; its namespaces go with it.
pub struct Kernel {
    name: String,
    legs: Vec<Leg>,
    /// Packets seen, and those for the box.
    counted: (u64, u64),
}

struct Leg {
    out: OwnedFd,
    address: LinkAddr,
    hear: [OwnedFd; 2],
}

impl Kernel {
    /// Makes the router. Panics where that fails, since nothing can go on.
    pub fn new() -> Kernel {
        let mut kernel =
            Kernel { name: format!("sluice-i{}", std::process::id()), legs: Vec::new(), counted: (0, 0) };
        let mut batch = String::new();
        for name in LEGS.into_iter().chain(["router"]) {
            batch += &format!("netns add {}-{name}\n", kernel.name);
        }
        run("ip", &["-batch", "-"], &batch);
        for (leg, number) in LEGS.into_iter().zip(NUMBERS) {
            kernel.enter(leg);
            write("net/ipv6/conf/default/disable_ipv6", "1");
            kernel.enter("router");
            write("net/ipv6/conf/default/accept_dad", "0");
            let far = format!("{}-{leg}", kernel.name);
            run(
                "ip",
                &[
                    "link",
                    "add",
                    leg,
                    "address",
                    &format!("02:00:00:00:{number:02x}:01"),
                    "type",
                    "veth",
                    "peer",
                    "name",
                    "far",
                    "netns",
                    &far,
                    "address",
                    &format!("02:00:00:00:{number:02x}:02"),
                ],
                "",
            );
            kernel.enter(leg);
            kernel.legs.push(Leg::new());
        }
        kernel.enter("router");
        kernel.configure();
        kernel
    }

    /// Addresses, neighbours, routes: in the router's namespace.
    fn configure(&self) {
        let mut batch = "link set lo up\n".to_owned();
        for (leg, [v4, v6, near4, near6]) in LEGS.into_iter().zip(ADDRESSES) {
            run("ethtool", &["-K", leg, "tx", "off", "rx", "off", "gso", "off", "gro", "off"], "");
            let number = NUMBERS[LEGS.iter().position(|known| *known == leg).unwrap_or(0)];
            batch += &format!("addr add {v4} dev {leg}\naddr add {v6} dev {leg} nodad\nlink set {leg} up\n");
            for near in [near4, near6] {
                batch += &format!(
                    "neigh replace {near} lladdr 02:00:00:00:{number:02x}:02 dev {leg} nud permanent\n"
                );
            }
        }
        for (to, via) in ROUTES {
            batch += &format!("route add {to} via {via}\n");
        }
        run("ip", &["-batch", "-"], &batch);
        for key in LEGS.into_iter().chain(["all"]) {
            write(&format!("net/ipv4/conf/{key}/rp_filter"), "0");
        }
        for (key, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/ipv4/icmp_ratelimit", "0"),
            ("net/ipv6/icmp/ratelimit", "0"),
        ] {
            write(key, value);
        }
    }

    /// Puts the files of a ruleset in force, and nothing else.
    pub fn load(&mut self, files: &[(&str, String)]) {
        run("nft", &["flush", "ruleset"], "");
        // Sets of sets use those; the rules that use a set are gone a little later.
        run("ipset", &["flush"], "");
        let destroyed =
            || Command::new("ipset").arg("destroy").output().is_ok_and(|out| out.status.success());
        let gone = (0..100).any(|_| {
            destroyed() || {
                std::thread::sleep(Duration::from_millis(20));
                false
            }
        });
        assert!(gone, "sets stay in use");
        // Rules name sets, whatever the order of the files.
        for (_, text) in files.iter().filter(|(name, _)| name.ends_with(".ipset")) {
            run("ipset", &["restore"], text);
        }
        for (name, text) in files {
            match name.rsplit('.').next() {
                Some("v4") => drop(run("iptables-restore", &[], text)),
                Some("v6") => drop(run("ip6tables-restore", &[], text)),
                // nft reads its own JSON only in a better order than it writes it.
                Some("nft") => drop(run("nft", &["-f", "-"], text)),
                _ => {}
            }
        }
        run("nft", &["-f", "-"], PROBE);
        run("conntrack", &["-F"], "");
        self.counted = (0, 0);
    }

    /// What becomes of a datagram.
    pub fn receive(&mut self, leg: usize, datagram: &[u8]) -> Vec<String> {
        self.heard();
        let kind = if datagram[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] };
        let number = NUMBERS[leg];
        let frame = [&[2, 0, 0, 0, number, 1, 2, 0, 0, 0, number, 2][..], &kind, datagram].concat();
        let to = &self.legs[leg];
        sendto(to.out.as_raw_fd(), &frame, &to.address, MsgFlags::empty()).expect("sending a frame");
        let (seen, local) = self.counted;
        for _ in 0..200 {
            self.counted = (counter("seen"), counter("local"));
            if self.counted.0 > seen {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(self.counted.0 > seen, "the router saw no packet");
        std::thread::sleep(Duration::from_millis(2));
        if self.counted.1 > local {
            self.heard();
            return vec!["delivered".to_owned()];
        }
        self.heard()
    }

    fn heard(&self) -> Vec<String> {
        let (mut heard, mut frame) = (Vec::new(), [0; 4096]);
        for (leg, sockets) in self.legs.iter().enumerate() {
            for socket in &sockets.hear {
                while let Ok(length) = recv(socket.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT) {
                    // What goes to a group is the router's own discovery of its neighbours.
                    if frame[..6] == [2, 0, 0, 0, NUMBERS[leg], 2] {
                        heard.push(say(leg, frame.get(14..length).unwrap_or_default()));
                    }
                }
            }
        }
        heard
    }

    fn enter(&self, name: &str) {
        let file = File::open(format!("/run/netns/{}-{name}", self.name)).expect("namespace");
        setns(file, CloneFlags::CLONE_NEWNET).expect("setns");
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.legs.clear();
        for name in LEGS.into_iter().chain(["router"]) {
            let _ = Command::new("ip").args(["netns", "del", &format!("{}-{name}", self.name)]).output();
        }
    }
}

impl Leg {
    /// In the namespace of the thread, whose link is `far`.
    fn new() -> Leg {
        run("ethtool", &["-K", "far", "tx", "off", "rx", "off", "gso", "off", "gro", "off"], "");
        run("ip", &["link", "set", "far", "arp", "off", "up"], "");
        let packets = |protocol| {
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), protocol).expect("raw socket")
        };
        let hear = [SockProtocol::EthIp, SockProtocol::EthIpv6].map(packets);
        let all = nix::ifaddrs::getifaddrs().expect("getifaddrs");
        let mut links = all.filter(|one| one.interface_name == "far").filter_map(|one| one.address);
        let address = links.find_map(|address| address.as_link_addr().copied()).expect("far");
        let out = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None).expect("raw socket");
        Leg { out, address, hear }
    }
}

fn counter(name: &str) -> u64 {
    let text = run("nft", &["list", "counter", "inet", "probe", name], "");
    let mut words = text.split_whitespace().skip_while(|word| *word != "packets");
    words.nth(1).and_then(|count| count.parse().ok()).expect("a counter")
}

fn write(key: &str, value: &str) {
    std::fs::write(format!("/proc/sys/{key}"), value).unwrap_or_else(|why| panic!("{key}: {why}"));
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
