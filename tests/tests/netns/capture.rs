//! `sluice capture`: files that tcpdump reads, with what was seen and what was dropped.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use sluice_tests::{Daemon, Lab, Process, SystemFile, program, text};

/// Drops what is for the discard port.
const POLICY: &str = "filter: {forward: {policy: accept, rules: [{proto: udp, dport: 9, action: drop}]}}\n";

/// Starts a capture and waits until it is under way.
fn capture(lab: &Lab, daemon: &Daemon<'_>, file: &Path, options: &[&str]) -> Process {
    let (bin, socket) = (program("sluice"), lab.dir().join("api.sock"));
    let mut argv = vec![bin.as_str(), "--socket", socket.to_str().expect("path"), "capture", "-w"];
    argv.push(file.to_str().expect("path"));
    argv.extend_from_slice(options);
    let process = lab.spawn("router", &argv);
    daemon.wait_until(|| std::fs::metadata(file).is_ok_and(|file| file.len() > 0));
    process
}

/// What tcpdump makes of a file, a line a packet.
fn read(lab: &Lab, file: &Path, filter: &str) -> Vec<String> {
    let out = lab.run("router", &["tcpdump", "--nano", "-n", "-r", file.to_str().expect("path"), filter]);
    assert!(out.status.success(), "{}", text(&out));
    String::from_utf8_lossy(&out.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn a_capture_has_what_was_seen_and_why_the_rest_was_dropped() {
    for workers in [1, 2] {
        let lab = Lab::new();
        let daemon = Daemon::start(&lab, &SystemFile::workers(workers), POLICY);
        let (seen, drops) = (lab.dir().join("seen.pcapng"), lab.dir().join("drops.pcapng"));
        let mut all = capture(&lab, &daemon, &seen, &["-c", "8", "icmp"]);
        let mut lost = capture(&lab, &daemon, &drops, &["--drops", "-s", "50", "-i", "lan", "udp"]);
        lab.must("client", &["ping", "-q", "-c", "2", "-i", "0.1", "10.2.0.2"]);
        lab.python(
            "client",
            "import socket\n\
             s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
             for port in (9, 10, 9, 10, 9): s.sendto(b'x' * 100, ('10.2.0.2', port))",
        );
        assert_eq!(all.wait(Duration::from_secs(10)), Some(0), "{}", all.log());
        let lines = read(&lab, &seen, "icmp");
        assert_eq!(lines.len(), 8, "{lines:#?}");
        let requests =
            lines.iter().filter(|line| line.contains("10.1.0.2 > 10.2.0.2: ICMP echo request")).count();
        assert_eq!(requests, 4, "in and out, twice: {lines:#?}");
        assert!(all.log().contains("8 packets captured of 8 that matched, 0 lost"), "{}", all.log());

        daemon.wait_until(|| read(&lab, &drops, "udp").len() == 3);
        lost.signal(Signal::SIGINT);
        assert_eq!(lost.wait(Duration::from_secs(10)), Some(0), "{}", lost.log());
        let bytes = std::fs::read(&drops).expect("capture");
        let comment = b"dropped: policy_forward (";
        assert_eq!(bytes.windows(comment.len()).filter(|window| window == comment).count(), 3);
        assert!(bytes.windows(3).any(|window| window == b"wan") && bytes.len() < 1500, "{}", bytes.len());
        daemon.stop();
    }
}

#[test]
fn captures_are_refused_with_a_reason_and_end_with_their_client() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &SystemFile::default(), POLICY);
    let refused = |options: &[&str]| {
        let mut argv = vec!["capture", "-w", "/dev/null"];
        argv.extend_from_slice(options);
        let out = daemon.sluice(&argv);
        assert_eq!(out.status.code(), Some(1), "{options:?}: {}", text(&out));
        text(&out)
    };
    assert!(refused(&["host", "and"]).contains("filter \"host and\""));
    assert!(refused(&["-i", "nonsense"]).contains("there is no interface \"nonsense\""));
    let files: Vec<_> = (0..4).map(|n| lab.dir().join(format!("{n}.pcapng"))).collect();
    let running: Vec<_> = files.iter().map(|file| capture(&lab, &daemon, file, &[])).collect();
    assert!(refused(&[]).contains("4 captures are under way"));
    running.iter().for_each(|process| process.signal(Signal::SIGKILL));
    daemon.wait_until(|| daemon.sluice(&["capture", "-w", "/dev/null", "-c", "0"]).status.success());
    daemon.stop();
}
