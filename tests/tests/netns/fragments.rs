//! Datagrams in fragments, by real programs: both families, one and two workers, through the router and to it.

use sluice_tests::{Daemon, Lab, SystemFile};

use crate::BORDER;

/// Servers, the router's own address, and what `ping` puts into a datagram of 65535 bytes, by family.
const FAMILIES: [(&str, &str, &str); 2] =
    [("10.2.0.2", "10.1.0.1", "65507"), ("fd00:2::2", "fd00:1::1", "65487")];

fn fragments(workers: usize) {
    let lab = Lab::new();
    let _server = lab.iperf3("server");
    let daemon = Daemon::start(&lab, &SystemFile::workers(workers), BORDER);
    for (server, router, largest) in FAMILIES {
        for size in ["8000", largest] {
            let ping = ["ping", "-q", "-c", "3", "-i", "0.05", "-W", "2", "-s", size, server];
            lab.must("client", &ping);
        }
        lab.must("client", &["ping", "-q", "-c", "3", "-i", "0.05", "-W", "2", "-s", "8000", router]);
        lab.must("router", &["ping", "-q", "-c", "3", "-i", "0.05", "-W", "2", "-s", "8000", server]);
        for more in [&["-b", "10M"][..], &["-b", "10M", "-R"]] {
            let options = ["-u", "-l", "8192", "-t", "1", "-J"];
            let said = lab.transfer("client", server, &[&options, more].concat());
            let report: serde_json::Value = serde_json::from_str(&said).expect("iperf3's report");
            let lost = report["end"]["sum"]["lost_percent"].as_f64();
            assert!(lost.is_some_and(|percent| percent < 20.0), "{more:?}: {said}");
        }
    }
    let flows = daemon.ask(&["conntrack", "list", "-p", "udp", "--dport", "5201"]);
    assert_eq!(flows.lines().count(), 4, "{flows}");
    assert_eq!(daemon.metrics().sum("sluice_held_packets", &[]), 0);
    daemon.assert_adds_up();
    daemon.stop();
}

#[test]
fn fragments_with_one_worker() {
    fragments(1);
}

#[test]
fn fragments_with_two_workers() {
    fragments(2);
}

/// The kernel below the device must not put them together: the last fragment of three is lost, and nothing may arrive.
#[test]
fn an_unfinished_datagram_goes_nowhere() {
    let lab = Lab::new();
    let system = SystemFile { more: "conntrack: {timeouts: {frag: 1}}\n".into(), ..SystemFile::default() };
    let daemon = Daemon::start(&lab, &system, BORDER);
    lab.must("client", &["ping", "-q", "-c", "1", "-W", "2", "10.2.0.2"]);
    lab.python(
        "client",
        "import socket, struct\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)\n\
         for off in (0, 1000):\n\
        \x20   ip = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 0, 7, 0x2000 | off // 8, 64, 17, 0,\n\
        \x20                    socket.inet_aton('10.1.0.2'), socket.inet_aton('10.2.0.2'))\n\
        \x20   s.sendto(ip + bytes(1000), ('10.2.0.2', 0))\n",
    );
    let reason = ["reason=\"fragment_timeout\""];
    daemon.wait_until(|| daemon.metrics().sum("sluice_drops_total", &reason) == 2);
    daemon.assert_adds_up();
    daemon.stop();
}
