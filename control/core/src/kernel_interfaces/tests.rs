//! Against the kernel of the machine, each in a network namespace of its own; nothing is tested without root.

use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use sluice_config::system::{self, Interface, NextHop, Route, RouteTarget};
use sluice_config::{IpPrefix, Span, System};

use super::*;

/// Runs `test` in a thread with a namespace of its own, with a veth pair `dev0`–`peer0` in it.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let body = || {
        if unshare(CloneFlags::CLONE_NEWNET).is_err() {
            eprintln!("not root: skipped");
            return;
        }
        ip("link add name dev0 mtu 1600 type veth peer name peer0");
        ip("link set lo up");
        test();
    };
    thread::spawn(body).join().unwrap();
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn program(name: &str, arguments: &str) -> String {
    let output = Command::new(name).args(arguments.split(' ')).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn prefix(text: &str) -> IpPrefix {
    let (address, len) = text.split_once('/').unwrap();
    IpPrefix::new(address.parse().unwrap(), len.parse().unwrap()).unwrap()
}

/// A system with one interface `lan0` on `kernel:dev0`, and its state folder.
fn a_system(addresses: &[&str]) -> (System, StateFolder) {
    let state = StateFolder::new();
    let span = Span::default();
    let lan0 = Interface {
        name: "lan0".into(),
        device: Device::Kernel("dev0".into()),
        addresses: addresses.iter().map(|text| prefix(text)).collect(),
        mtu: 1500,
        kernel_addresses: false,
        rp_filter: system::RpFilter::Off,
        vlan: None,
        mac: None,
        span,
    };
    let system = System {
        workers: system::Workers { placement: system::Placement::Count(1), idle: system::Idle::Yield },
        memory: system::Memory { hugepages: system::Hugepages::Off, mbufs: 1024 },
        interfaces: vec![lan0],
        routes: Vec::new(),
        kernel_routes: false,
        neighbours: Vec::new(),
        conntrack: system::Conntrack::default(),
        icmp: system::Icmp { ratelimit: None, burst: 50, redirects: false },
        ipfix: None,
        control: system::Control { api: "/nowhere".into(), metrics: None, page: None, remote: None },
        policy: "/nowhere".into(),
        state: state.0.clone(),
    };
    (system, state)
}

/// What a user sees of dev0, without counters and times.
fn looks() -> String {
    let features = program("ethtool", "-k dev0");
    let gro = features.lines().find(|line| line.starts_with("generic-receive-offload")).unwrap();
    let routes = ip("route show dev dev0") + &ip("-6 route show dev dev0");
    ip("-o addr show dev dev0").replace("dynamic ", "") + gro + &routes
}

#[test]
fn a_device_is_taken_over_and_comes_back_as_it_was() {
    in_namespace(|| {
        ip("addr add 10.0.0.1/24 dev dev0");
        ip("addr add 2001:db8::1/64 dev dev0 nodad");
        ip("link set dev0 up");
        ip("link set peer0 up");
        ip("route add 192.0.2.0/24 via 10.0.0.254 metric 7");
        ip("-6 route add 2001:db8:9::/48 via 2001:db8::254");
        wait_for_link_local("dev0");
        program("ethtool", "-K dev0 gro on");
        let before = looks();
        assert!(before.contains("receive-offload: on") && before.contains("metric 7"), "{before}");
        let (system, state) = a_system(&["10.0.0.1/24"]);

        let taken = KernelInterfaces::prepare(&system, false).unwrap();
        let during = looks();
        assert!(!during.contains("inet ") && !during.contains("inet6"), "{during}");
        assert!(during.contains("receive-offload: off"), "{during}");
        assert!(program("nft", "list ruleset").contains("policy drop"));
        assert!(state.0.join("interfaces.json").exists());

        drop(taken);
        wait_for_link_local("dev0");
        assert_eq!(looks(), before);
        assert_eq!(program("nft", "list ruleset"), "");
        assert!(!state.0.join("interfaces.json").exists());
    });
}

#[test]
fn what_a_killed_daemon_left_is_mended_at_the_next_start() {
    in_namespace(|| {
        ip("addr add 10.0.0.1/24 dev dev0");
        let (system, _state) = a_system(&[]);
        std::mem::forget(KernelInterfaces::prepare(&system, false).unwrap());
        assert!(!ip("-o addr show dev dev0").contains("10.0.0.1"));

        // Killed: the chain of the forgotten one is still there here, for its socket is.
        let mut again = KernelInterfaces {
            links: Links::open().unwrap(),
            offload: Offload::open().ok(),
            saved: Vec::new(),
            file: SavedFile::new(&system.state),
            ingress: None,
        };
        again.mend();
        assert!(ip("-o addr show dev dev0").contains("10.0.0.1/24"));
        assert!(!ip("-o link show dev dev0").contains("state UP"));
    });
}

#[test]
fn what_is_in_the_way_is_said() {
    in_namespace(|| {
        let (mut system, _state) = a_system(&["10.0.0.1/24"]);
        ip("link add name lan0 type veth peer name tap-peer");
        let refused = |system: &System| KernelInterfaces::prepare(system, false).err().unwrap().to_string();
        assert_eq!(refused(&system), "interface lan0: a link of that name exists already");
        ip("link del lan0");
        system.interfaces[0].device = Device::Kernel("dev9".into());
        assert_eq!(refused(&system), "interface lan0: no such kernel interface: dev9");
    });
}

#[test]
fn a_tap_follows_the_system_file() {
    in_namespace(|| {
        let (mut system, _state) = a_system(&["10.0.0.1/24", "2001:db8::1/64"]);
        let gateway = NextHop { address: "10.0.0.254".parse().unwrap(), dev: "lan0".into(), weight: 1 };
        let other = NextHop { address: "10.0.0.253".parse().unwrap(), dev: "lan0".into(), weight: 3 };
        let target = RouteTarget::Via(vec![gateway.clone()]);
        system.routes.push(Route { to: prefix("0.0.0.0/0"), target, metric: 0, span: Span::default() });
        let mut kernel = KernelInterfaces::prepare(&system, false).unwrap();
        // A veth stands for the tap.
        ip("link add name lan0 address 02:00:00:00:00:01 type veth peer name tap-peer");
        ip("link set tap-peer up");
        kernel.configure_taps(&system).unwrap();
        wait_for_link_local("lan0");
        let seen = ip("-o addr show dev lan0");
        for address in ["10.0.0.1/24 brd 10.0.0.255", "2001:db8::1/64", "fe80::ff:fe00:1/64"] {
            assert!(seen.contains(address), "{address} in {seen}");
        }
        assert!(ip("link show dev lan0").contains("NOARP,UP"));
        assert!(ip("route show").contains("default via 10.0.0.254 dev lan0 proto 83"));

        ip("route add 198.51.100.0/24 via 10.0.0.254");
        system.interfaces[0].addresses = vec![prefix("10.0.0.1/24"), prefix("10.0.1.1/24")];
        system.routes[0].target = RouteTarget::Via(vec![gateway, other]);
        system.routes[0].to = prefix("203.0.113.0/24");
        kernel.configure_taps(&system).unwrap();
        let seen = ip("-o addr show dev lan0");
        assert!(
            seen.contains("10.0.1.1/24") && !seen.contains("2001:db8::1") && seen.contains("fe80::"),
            "{seen}"
        );
        let routes = ip("route show");
        assert!(!routes.contains("default") && routes.contains("198.51.100.0/24"), "{routes}");
        assert!(routes.contains("nexthop via 10.0.0.253 dev lan0 weight 3"), "{routes}");
    });
}

/// The kernel makes link-local addresses a little after a link is up, and they are tentative for a second.
fn wait_for_link_local(device: &str) {
    for _ in 0..100 {
        let seen = ip(&format!("-o -6 addr show dev {device}"));
        if seen.contains("fe80::") && !seen.contains("tentative") {
            return;
        }
        thread::sleep(std::time::Duration::from_millis(50));
    }
}

struct StateFolder(std::path::PathBuf);

impl StateFolder {
    fn new() -> StateFolder {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("sluice-kernel-{}-{next}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        StateFolder(path)
    }
}

impl Drop for StateFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
