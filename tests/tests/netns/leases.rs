//! Addresses and routes that programs on the box put on a tap (`addresses: kernel`, `kernel_routes`): a real DHCP client
//! and server, router advertisements, `ip route`, FRR's BGP.

use std::time::Duration;

use sluice_tests::{Daemon, Lab, Process, SystemFile, text, until};

/// Nothing comes in that was not asked for: what DHCP needs is not a matter of rules, router advertisements are.
const POLICY: &str = r"
nat: {postrouting: [{out: wan, action: masquerade}]}
filter:
  input:
    policy: drop
    rules:
      - {ct: established, action: accept}
      - {proto: icmpv6, action: accept}
  forward: {policy: drop, rules: [{ct: [established, related], action: accept}, {in: lan, out: wan, action: accept}]}
";

/// What a distribution's script does, without touching the machine's resolver.
const SCRIPT: &str = r#"#!/bin/sh
case "$reason" in
BOUND | RENEW | REBIND | REBOOT)
    [ "$old_ip_address" = "$new_ip_address" ] || ip -4 addr flush dev "$interface" scope global
    ip addr replace "$new_ip_address/$new_subnet_mask" dev "$interface"
    ip route replace default via "$new_routers" dev "$interface"
    ;;
RELEASE | EXPIRE | STOP) ip -4 addr flush dev "$interface" scope global ;;
esac
"#;

fn from_the_kernel(workers: usize) -> SystemFile {
    SystemFile {
        interfaces: "  lan: {device: \"kernel:lan0\", addresses: [10.1.0.1/24, \"fd00:1::1/64\"]}\n  \
                     wan: {device: \"kernel:wan0\", addresses: kernel}\n"
            .into(),
        ..SystemFile::workers(workers)
    }
}

/// A DHCP server that gives this one address, and advertises a prefix.
fn dnsmasq(lab: &Lab, address: &str) -> Process {
    let leases = format!("--dhcp-leasefile={}", lab.dir().join(address).display());
    let range = format!("--dhcp-range={address},{address},255.255.255.0,1h");
    lab.spawn(
        "server",
        &[
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--port=0",
            "--interface=eth0",
            "--bind-interfaces",
            "--dhcp-authoritative",
            "--no-ping",
            "--pid-file=",
            "--user=root",
            "--enable-ra",
            &leases,
            &range,
            "--dhcp-option=option:router,10.2.0.2",
            "--dhcp-range=fd00:2::,ra-only",
            "--ra-param=eth0,4,1800",
        ],
    )
}

/// A client on the router's tap.
fn dhclient(lab: &Lab) -> Process {
    let script = lab.write("dhclient-script", SCRIPT);
    lab.must("router", &["chmod", "+x", &script.to_string_lossy()]);
    let folder = |name: &str| lab.dir().join(name).to_string_lossy().into_owned();
    let (leases, pid) = (folder("dhclient.leases"), folder("dhclient.pid"));
    let _ = std::fs::remove_file(&leases);
    lab.spawn(
        "router",
        &[
            "dhclient",
            "-4",
            "-d",
            "-cf",
            "/dev/null",
            "-sf",
            &script.to_string_lossy(),
            "-lf",
            &leases,
            "-pf",
            &pid,
            "wan",
        ],
    )
}

fn leased(workers: usize) {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &from_the_kernel(workers), POLICY);
    let has = |address: &str| daemon.ask(&["show", "interfaces"]).contains(address);
    let server = dnsmasq(&lab, "10.2.0.77");
    let client = dhclient(&lab);
    daemon.wait_until(|| has("10.2.0.77/24"));
    daemon.wait_until(|| daemon.ask(&["show", "routes"]).contains("10.2.0.2"));
    // The server knows of nobody behind the router: it answers what the router borrows its address for.
    lab.must("server", &["ip", "route", "del", "default"]);
    lab.must("client", &["ping", "-c", "2", "-i", "0.2", "-W", "2", "10.2.0.2"]);
    let flows = daemon.ask(&["conntrack", "list", "-p", "icmp"]);
    assert!(flows.contains("dst=10.2.0.77"), "{flows}");
    // The prefix that the server advertises.
    daemon.wait_until(|| has("fd00:2::"));
    lab.must("router", &["ping", "-c", "2", "-i", "0.2", "-W", "2", "fd00:2::2"]);

    // Another address: what had borrowed the old one ends.
    drop((client, server));
    let _server = dnsmasq(&lab, "10.2.0.99");
    let _client = dhclient(&lab);
    daemon.wait_until(|| has("10.2.0.99/24") && !has("10.2.0.77"));
    daemon.wait_until(|| !daemon.ask(&["conntrack", "list", "-p", "icmp"]).contains("10.2.0.77"));
    lab.must("client", &["ping", "-c", "2", "-i", "0.2", "-W", "2", "10.2.0.2"]);
    daemon.assert_adds_up();
    daemon.stop();
}

#[test]
fn a_dhcp_client_on_the_box_gives_the_router_its_address_and_route() {
    leased(2);
}

#[test]
fn routes_of_the_kernel_are_followed_where_the_system_file_says_so() {
    let lab = Lab::new();
    let system = SystemFile { more: "kernel_routes: true\n".into(), ..SystemFile::default() };
    let daemon = Daemon::start(&lab, &system, super::ACCEPT);
    lab.must("server", &["ip", "addr", "add", "192.0.2.1/24", "dev", "lo"]);
    let ping = || lab.run("client", &["ping", "-c", "1", "-W", "2", "192.0.2.1"]);
    let shown = |words: &str| daemon.ask(&["show", "routes"]).lines().any(|line| line.contains(words));
    assert!(!ping().status.success());
    lab.must("router", &["ip", "route", "add", "192.0.2.0/24", "via", "10.2.0.2", "metric", "7"]);
    daemon.wait_until(|| shown("192.0.2.0/24"));
    let answer = ping();
    assert!(answer.status.success(), "{}", text(&answer));
    lab.must("router", &["ip", "route", "add", "unreachable", "192.0.2.0/25"]);
    daemon.wait_until(|| shown("192.0.2.0/25"));
    assert!(text(&ping()).contains("Unreachable"));
    for route in ["192.0.2.0/25", "192.0.2.0/24"] {
        lab.must("router", &["ip", "route", "del", route]);
    }
    daemon.wait_until(|| !shown("192.0.2.0"));
    daemon.stop();
}

/// FRR's zebra and bgpd on a host, with a folder and sockets of their own. `networks` are announced.
fn frr(
    lab: &Lab,
    host: &str,
    (own, system): (&str, u32),
    (peer, other): (&str, u32),
    networks: &[&str],
) -> [Process; 2] {
    let dir = lab.dir().join(host);
    std::fs::create_dir_all(&dir).unwrap();
    let networks: String = networks.iter().map(|network| format!("  network {network}\n")).collect();
    let text = format!(
        "router bgp {system}\n bgp router-id {own}\n no bgp ebgp-requires-policy\n neighbor {peer} remote-as {other}\n \
         neighbor {peer} timers 1 3\n neighbor {peer} timers connect 1\n address-family ipv4 unicast\n{networks} \
         exit-address-family\n"
    );
    std::fs::write(dir.join("bgpd.conf"), text).unwrap();
    std::fs::write(dir.join("zebra.conf"), "").unwrap();
    lab.must(host, &["chown", "-R", "frr:frr", &dir.to_string_lossy()]);
    ["zebra", "bgpd"].map(|name| {
        let of = |name: &str| dir.join(name).to_string_lossy().into_owned();
        let (program, folder) = (format!("/usr/lib/frr/{name}"), of(""));
        let (file, pid, zebra) = (of(&format!("{name}.conf")), of(&format!("{name}.pid")), of("zserv"));
        let process = lab.spawn(
            host,
            &[
                &program,
                "-f",
                &file,
                "-i",
                &pid,
                "-z",
                &zebra,
                "--vty_socket",
                &folder,
                "-P",
                "0",
                "-u",
                "frr",
                "-g",
                "frr",
            ],
        );
        // bgpd asks for zebra once, and then again only after a while.
        until(Duration::from_secs(5), || name == "bgpd" || dir.join("zserv").exists());
        process
    })
}

#[test]
fn routes_that_bgp_learns_are_followed() {
    let lab = Lab::new();
    let system = SystemFile { more: "kernel_routes: true\n".into(), ..SystemFile::default() };
    let daemon = Daemon::start(&lab, &system, super::ACCEPT);
    lab.must("server", &["ip", "addr", "add", "192.0.2.1/24", "dev", "lo"]);
    lab.must("server", &["ip", "route", "del", "default"]);
    let ping = || lab.run("client", &["ping", "-c", "1", "-W", "2", "192.0.2.1"]);
    let shown = || {
        daemon.ask(&["show", "routes"]).lines().any(|line| line.contains("192.0.2.0/24 via 10.2.0.2 dev wan"))
    };
    let (router, server) = (("10.2.0.1", 65001), ("10.2.0.2", 65002));
    let _of_router = frr(&lab, "router", router, server, &["10.1.0.0/24"]);
    let of_server = frr(&lab, "server", server, router, &["192.0.2.0/24"]);
    daemon.wait_until(shown);
    // There is a way back only since the server learned it from the router.
    let answered = until(Duration::from_secs(5), || ping().status.success());
    assert!(answered, "{}\n{}", text(&ping()), lab.must("server", &["ip", "route"]));
    drop(of_server);
    daemon.wait_until(|| !shown());
    assert!(text(&ping()).contains("Unreachable"));
    daemon.stop();
}
