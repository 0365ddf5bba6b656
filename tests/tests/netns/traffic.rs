//! Ping, HTTP, iperf3, local traffic: both families, one and two workers.

use sluice_tests::{Daemon, Lab, SystemFile, text};

use crate::{ACCEPT, BORDER};

/// Families by an address of the server, the router's address on the client's side, and a far one that nobody has.
const FAMILIES: [(&str, &str); 2] = [("10.2.0.2", "10.1.0.1"), ("fd00:2::2", "fd00:1::1")];

fn url(address: &str) -> String {
    if address.contains(':') { format!("http://[{address}]/") } else { format!("http://{address}/") }
}

fn ping_and_http(workers: usize) {
    let lab = Lab::new();
    let _nginx = lab.nginx("server");
    let daemon = Daemon::start(&lab, &SystemFile::workers(workers), BORDER);
    for (server, router) in FAMILIES {
        lab.must("client", &["ping", "-q", "-c", "5", "-i", "0.05", "-W", "2", server]);
        lab.must("client", &["ping", "-q", "-c", "2", "-i", "0.05", "-W", "2", router]);
        for _ in 0..8 {
            assert_eq!(lab.must("client", &["curl", "-sSf", "-m", "5", &url(server)]), "hello\n");
        }
    }
    let flows = daemon.ask(&["conntrack", "list", "-p", "tcp", "--dport", "80"]);
    assert_eq!(flows.lines().filter(|l| l.contains("[ASSURED]")).count(), 16, "{flows}");
    daemon.assert_adds_up();
    daemon.stop();
}

#[test]
fn ping_and_http_with_one_worker() {
    ping_and_http(1);
}

#[test]
fn ping_and_http_with_two_workers() {
    ping_and_http(2);
}

fn iperf3(workers: usize) {
    let lab = Lab::new();
    let _server = lab.iperf3("server");
    let daemon = Daemon::start(&lab, &SystemFile::workers(workers), BORDER);
    for (server, _) in FAMILIES {
        for more in [&["-P", "4"][..], &["-R"], &["-u", "-b", "20M"]] {
            lab.transfer("client", server, &[&["-t", "2"], more].concat());
        }
    }
    let metrics = daemon.metrics();
    daemon.assert_adds_up();
    if workers > 1 {
        let shares: Vec<u64> = (0..workers)
            .map(|w| metrics.sum("sluice_worker_packets_total", &[&format!("worker=\"{w}\"")]))
            .collect();
        assert!(shares.iter().all(|s| *s > 0), "every worker gets packets: {shares:?}");
    }
    daemon.stop();
}

#[test]
fn iperf3_with_one_worker() {
    iperf3(1);
}

#[test]
fn iperf3_with_two_workers() {
    iperf3(2);
}

#[test]
fn the_box_itself_serves_and_asks() {
    let lab = Lab::new();
    let _on_server = lab.nginx("server");
    let daemon = Daemon::start(&lab, &SystemFile::default(), BORDER);
    let _on_router = lab.nginx("router");
    for (server, router) in FAMILIES {
        // In: a server on the router's own sockets; out: a client there.
        assert_eq!(lab.must("client", &["curl", "-sSf", "-m", "5", &url(router)]), "hello\n");
        assert_eq!(lab.must("router", &["curl", "-sSf", "-m", "5", &url(server)]), "hello\n");
        lab.must("router", &["ping", "-q", "-c", "2", "-i", "0.05", "-W", "2", server]);
        // The policy stands in between: the server's side may not reach it.
        let refused = lab.run("server", &["curl", "-sS", "-m", "1", &url(router)]);
        assert!(!refused.status.success(), "{}", text(&refused));
    }
    assert!(daemon.metrics().sum("sluice_local_tx_packets_total", &[]) > 0);
    daemon.stop();
}

#[test]
fn ssh_out_of_the_box() {
    let lab = Lab::new();
    let dir = lab.dir().display().to_string();
    for key in ["host", "user"] {
        lab.must("server", &["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", &format!("{dir}/{key}")]);
    }
    std::fs::create_dir_all("/run/sshd").expect("/run/sshd");
    let conf = lab.write(
        "sshd_config",
        &format!(
            "Port 22\nHostKey {dir}/host\nAuthorizedKeysFile {dir}/user.pub\nPermitRootLogin yes\nStrictModes no\n\
             PidFile {dir}/sshd.pid\nUsePAM no\n"
        ),
    );
    let _sshd = lab.spawn("server", &["/usr/sbin/sshd", "-D", "-e", "-f", &conf.to_string_lossy()]);
    lab.wait_for("server", 22);
    let daemon = Daemon::start(&lab, &SystemFile::default(), BORDER);
    let key = format!("{dir}/user");
    for server in ["root@10.2.0.2", "root@fd00:2::2"] {
        let argv = [
            "ssh",
            "-i",
            &key,
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "ConnectTimeout=5",
            server,
            "echo",
            "over",
            "ssh",
        ];
        assert_eq!(lab.must("router", &argv), "over ssh\n");
    }
    daemon.stop();
}

#[test]
fn errors_of_a_router() {
    let lab = Lab::new();
    let system = SystemFile {
        interfaces: "  lan: {device: \"kernel:lan0\", addresses: [10.1.0.1/24, \"fd00:1::1/64\"]}\n  \
                     wan: {device: \"kernel:wan0\", mtu: 1280, addresses: [10.2.0.1/24, \"fd00:2::1/64\"]}\n"
            .into(),
        more: "routes:\n  - {to: 203.0.113.0/24, type: prohibit}\n".into(),
        ..SystemFile::default()
    };
    let daemon = Daemon::start(&lab, &system, ACCEPT);
    let ping = |argv: &[&str]| {
        let mut all = vec!["ping", "-c", "1", "-W", "6"];
        all.extend_from_slice(argv);
        text(&lab.run("client", &all))
    };
    let cases: [(&[&str], &str); 8] = [
        (&["-t", "1", "10.2.0.2"], "Time to live exceeded"),
        (&["-t", "1", "fd00:2::2"], "Hop limit"),
        (&["-M", "do", "-s", "1400", "10.2.0.2"], "mtu = 1280"),
        (&["-M", "do", "-s", "1400", "fd00:2::2"], "mtu=1280"),
        (&["10.9.9.9"], "Destination Net Unreachable"),
        (&["fd00:9::9"], "No route"),
        (&["203.0.113.1"], "Packet filtered"),
        (&["10.2.0.99"], "Destination Host Unreachable"),
    ];
    for (argv, expected) in cases {
        let seen = ping(argv);
        assert!(seen.contains(expected), "ping {argv:?}: expected '{expected}':\n{seen}");
    }
    // What is too big and may be fragmented is: the server's own stack puts it together again.
    let seen = ping(&["-M", "dont", "-s", "1400", "10.2.0.2"]);
    assert!(!seen.contains("mtu ="), "{seen}");
    assert!(daemon.ask(&["show", "neighbours"]).contains("10.2.0.99"), "the failed neighbour is listed");
    daemon.stop();
}
