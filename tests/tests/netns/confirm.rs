//! The life of a policy: to be confirmed, gone back from, through kill -9 and a full disk.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sluice_tests::{Daemon, Lab, SystemFile, text};

const OPEN: &str = "filter: {forward: {policy: accept, rules: []}}\n";
const CLOSED: &str = "filter: {forward: {policy: drop, rules: []}}\n";

fn is_open(lab: &Lab) -> bool {
    lab.run("client", &["ping", "-q", "-c", "1", "-W", "1", "10.2.0.2"]).status.success()
}

/// Applies a policy that is to be confirmed; when its time is over.
fn apply(lab: &Lab, daemon: &Daemon<'_>, policy: &str, time: Duration) -> Instant {
    let path = lab.write("next.yaml", policy);
    let said = daemon.ask(&["apply", &path.to_string_lossy(), "--confirm", &time.as_secs().to_string()]);
    assert!(said.contains("unless you `sluice confirm`"), "{said}");
    Instant::now() + time
}

fn kill(mut daemon: Daemon<'_>) {
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
}

fn sleep_until(time: Instant) {
    std::thread::sleep(time.saturating_duration_since(Instant::now()));
}

#[test]
fn a_policy_that_nobody_confirms_goes_and_one_that_is_confirmed_stays() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &SystemFile::default(), OPEN);
    assert!(is_open(&lab));
    apply(&lab, &daemon, CLOSED, Duration::from_secs(2));
    assert!(!is_open(&lab));
    let other = daemon.sluice(&["apply", &lab.write("other.yaml", OPEN).to_string_lossy()]);
    assert!(
        other.status.code() == Some(1) && text(&other).contains("waits to be confirmed"),
        "{}",
        text(&other)
    );
    daemon.wait_for_log("back to the one before");
    assert!(is_open(&lab));
    let late = daemon.sluice(&["confirm"]);
    assert!(late.status.code() == Some(1) && text(&late).contains("no policy waits"), "{}", text(&late));
    let history = daemon.ask(&["history"]);
    assert!(history.lines().nth(1).is_some_and(|line| line.ends_with("runs")), "{history}");
    assert!(history.lines().nth(2).is_some_and(|line| line.ends_with("was not confirmed")), "{history}");

    let over = apply(&lab, &daemon, CLOSED, Duration::from_secs(2));
    assert!(daemon.ask(&["confirm"]).contains("stays"));
    sleep_until(over + Duration::from_millis(200));
    assert!(!is_open(&lab), "confirmed");
    daemon.ask(&["rollback"]);
    assert!(is_open(&lab), "the latest other one that was confirmed");
    daemon.stop();
}

#[test]
fn confirmation_outlives_a_kill() {
    let lab = Lab::new();
    let start = |file: &str| Daemon::start(&lab, &SystemFile::default(), file);
    let daemon = start(OPEN);
    // The file under `policy:` is the one that is applied: it must not count as news afterwards.
    let over = apply(&lab, &daemon, CLOSED, Duration::from_secs(4));
    kill(daemon);
    sleep_until(over);
    let daemon = start(CLOSED);
    assert!(is_open(&lab), "{}", daemon.log());
    assert!(daemon.log().contains("not confirmed in time"), "{}", daemon.log());

    apply(&lab, &daemon, CLOSED, Duration::from_secs(60));
    kill(daemon);
    let daemon = start(CLOSED);
    assert!(!is_open(&lab), "there is time left");
    daemon.ask(&["confirm"]);
    kill(daemon);
    let daemon = start(CLOSED);
    assert!(!is_open(&lab) && daemon.sluice(&["confirm"]).status.code() == Some(1), "confirmed for good");
    daemon.stop();
}

#[test]
fn a_kill_at_any_time_leaves_one_policy_or_the_other() {
    let lab = Lab::new();
    let policies = [OPEN, CLOSED];
    for delay in [0, 3, 6, 9, 15] {
        let daemon = Daemon::start(&lab, &SystemFile::default(), OPEN);
        let next = lab.write("next.yaml", policies[delay % 2]).to_string_lossy().into_owned();
        std::thread::scope(|scope| {
            scope.spawn(|| daemon.sluice(&["apply", &next]));
            std::thread::sleep(Duration::from_millis(delay as u64));
            daemon.signal(Signal::SIGKILL);
        });
        drop(daemon);
        let daemon = Daemon::start(&lab, &SystemFile::default(), OPEN);
        let running = daemon.ask(&["show", "policy"]);
        let of = |policy: &str| running.contains(policy.trim_end());
        assert!(of(OPEN) != of(CLOSED), "{running}");
        assert_eq!(is_open(&lab), of(OPEN), "{running}");
        daemon.stop();
    }
}

/// A small file system that goes with its value.
struct SmallDisk(String);

impl SmallDisk {
    fn mount(path: &std::path::Path) -> SmallDisk {
        let path = path.to_string_lossy().into_owned();
        let mount = ["-t", "tmpfs", "-o", "size=256k", "tmpfs", &path];
        assert!(std::process::Command::new("mount").args(mount).status().is_ok_and(|s| s.success()));
        SmallDisk(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").args(["-l", &self.0]).status();
    }
}

#[test]
fn a_full_disk_changes_nothing_and_keeps_nobody_from_confirming() {
    let lab = Lab::new();
    let state = lab.dir().join("state");
    let _disk = SmallDisk::mount(&state);
    let daemon = Daemon::start(&lab, &SystemFile::default(), OPEN);
    apply(&lab, &daemon, CLOSED, Duration::from_secs(60));
    let mut ballast = vec![0u8; 4096];
    while std::fs::write(state.join("ballast"), &ballast).is_ok() {
        ballast.resize(ballast.len() + 4096, 0);
    }
    daemon.ask(&["confirm"]);
    let open = lab.write("open.yaml", OPEN).to_string_lossy().into_owned();
    let refused = daemon.sluice(&["apply", &open]);
    assert!(
        refused.status.code() == Some(1) && text(&refused).contains("No space left"),
        "{}",
        text(&refused)
    );
    assert!(!is_open(&lab), "what ran runs on");
    kill(daemon);
    let daemon = Daemon::start(&lab, &SystemFile::default(), OPEN);
    assert!(!is_open(&lab), "{}", daemon.log());
    std::fs::remove_file(state.join("ballast")).unwrap();
    daemon.ask(&["apply", &open]);
    assert!(is_open(&lab));
    daemon.stop();
}
