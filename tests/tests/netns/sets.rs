//! Elements of sets, changed under a running policy: what clients see of it, restarts, a million prefixes.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sluice_tests::{Daemon, Lab, SystemFile, text};

const BLOCKED: &str = r"
sets: {blocked: {type: net, elements: [192.0.2.0/24]}, ports: {type: port, elements: [22]}}
filter:
  forward:
    policy: accept
    rules: [{src: '@blocked', action: drop, name: blocked}]
";

fn passes(lab: &Lab) -> bool {
    lab.run("client", &["ping", "-q", "-c", "1", "-W", "1", "10.2.0.2"]).status.success()
}

#[test]
fn elements_change_at_once_and_survive_a_kill() {
    let lab = Lab::new();
    let mut daemon = Daemon::start(&lab, &SystemFile::workers(2), BLOCKED);
    assert!(passes(&lab));
    let said = daemon.ask(&["set", "add", "blocked", "10.1.0.0/24", "fd00:1::/64"]);
    assert!(said.starts_with("blocked: 3 elements, 2 added, 0 removed"), "{said}");
    assert!(!passes(&lab));
    for wrong in [
        &["set", "add", "blocked", "10.1.0.256"][..],
        &["set", "del", "ports", "23"],
        &["set", "add", "none", "1"],
    ] {
        let out = daemon.sluice(wrong);
        assert_eq!(out.status.code(), Some(1), "{}", text(&out));
        assert!(
            text(&out).contains(wrong.last().unwrap()) || text(&out).contains("no set none"),
            "{}",
            text(&out)
        );
    }
    let counted = daemon.metrics().sum("sluice_rule_packets_total", &["rule=\"blocked\""]);
    assert!(counted >= 1, "{counted}");

    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    let daemon = Daemon::start(&lab, &SystemFile::workers(2), BLOCKED);
    assert_eq!(daemon.ask(&["set", "list", "@blocked"]), "192.0.2.0/24\n10.1.0.0/24\nfd00:1::/64\n");
    assert!(daemon.ask(&["show", "sets"]).contains("changed since"));
    assert!(!passes(&lab), "changed before the kill");
    daemon.apply(&BLOCKED.replace("policy: accept", "policy: accept # the set is as it was defined"));
    assert!(!passes(&lab));
    let path = lab.write("other.yaml", &BLOCKED.replace("192.0.2.0/24", "198.51.100.0/24"));
    let path = path.to_string_lossy();
    for verb in ["diff", "apply"] {
        let out = daemon.sluice(&[verb, &path]);
        assert!(
            out.status.success() && text(&out).contains("not as they were changed: blocked"),
            "{}",
            text(&out)
        );
    }
    assert!(passes(&lab), "defined differently");
    daemon.stop();
}

#[test]
fn a_million_prefixes_are_in_force_within_seconds_and_no_ping_is_lost() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &SystemFile::default(), BLOCKED);
    let mut list = String::from("# addresses of nobody\n");
    for n in 0..1_000_000u32 {
        let _ = writeln!(list, "{}/32", std::net::Ipv4Addr::from_bits(0x6400_0000 + n * 3));
    }
    let mut ping = lab.spawn("client", &["ping", "-q", "-c", "400", "-i", "0.01", "10.2.0.2"]);
    let began = Instant::now();
    let path = lab.write("list.txt", &list);
    let said = daemon.ask(&["set", "replace", "blocked", "--file", &path.to_string_lossy()]);
    let took = began.elapsed();
    assert!(said.starts_with("blocked: 1000000 elements, 1000000 added, 1 removed"), "{said}");
    // A few seconds where the machine has nothing else to do.
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert_eq!(ping.wait(Duration::from_secs(30)), Some(0), "{}", ping.log());
    assert!(ping.log().contains(" 0% packet loss"), "{}", ping.log());
    let said = daemon.ask(&["set", "add", "blocked", "10.1.0.2"]);
    assert!(said.starts_with("blocked: 1000001 elements, 1 added"), "{said}");
    assert!(!passes(&lab));
    let listed = daemon.ask(&["set", "list", "blocked"]);
    assert_eq!(listed.lines().count(), 1_000_001);
    let out = daemon.sluice(&[
        "set",
        "add",
        "blocked",
        "--file",
        &lab.write("bad.txt", "10.0.0.1\nx\n").to_string_lossy(),
    ]);
    assert!(out.status.code() == Some(1) && text(&out).contains("bad.txt:2: `x`"), "{}", text(&out));
    daemon.stop();
}
