//! `sluiced` in the router's namespace, and `sluice` asked there.

use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::lab::{Lab, Process, text, until};
use crate::metrics::Metrics;

/// The system file of a test; [`SystemFile::default`] is the laboratory's router with one worker.
#[derive(Clone, Debug)]
pub struct SystemFile {
    /// `workers.count`.
    pub workers: usize,
    /// The `interfaces` section's lines, each with two blanks in front.
    pub interfaces: String,
    /// Further top-level sections.
    pub more: String,
    /// `memory.mbufs`.
    pub mbufs: u32,
    /// Further keys of `control`, with a comma in front.
    pub control: String,
}

impl Default for SystemFile {
    fn default() -> SystemFile {
        SystemFile {
            workers: 1,
            interfaces: "  lan: {device: \"kernel:lan0\", addresses: [10.1.0.1/24, \"fd00:1::1/64\"]}\n  \
                         wan: {device: \"kernel:wan0\", addresses: [10.2.0.1/24, \"fd00:2::1/64\"]}\n"
                .into(),
            more: String::new(),
            mbufs: 16384,
            control: String::new(),
        }
    }
}

impl SystemFile {
    /// The default with this many workers.
    pub fn workers(workers: usize) -> SystemFile {
        SystemFile { workers, ..SystemFile::default() }
    }

    /// The text of the file for a laboratory.
    pub fn text(&self, lab: &Lab) -> String {
        let dir = lab.dir().display();
        format!(
            "workers: {{count: {}, idle: yield}}\nmemory: {{hugepages: off, mbufs: {}}}\ninterfaces:\n{}\
             control: {{api: {dir}/api.sock, metrics: \"127.0.0.1:9843\"{}}}\npolicy: {dir}/policy.yaml\nstate: {dir}/state\n{}",
            self.workers, self.mbufs, self.interfaces, self.control, self.more
        )
    }
}

/// A running `sluiced`.
pub struct Daemon<'a> {
    lab: &'a Lab,
    process: Process,
}

impl<'a> Daemon<'a> {
    /// Starts it and waits until it is ready; panics with its log if it does not get there.
    pub fn start(lab: &'a Lab, system: &SystemFile, policy: &str) -> Daemon<'a> {
        let mut daemon = Daemon::launch(lab, system, policy);
        let mut ended = None;
        let ready = until(Duration::from_secs(30), || {
            ended = daemon.process.wait(Duration::ZERO);
            ended.is_some() || daemon.log().lines().any(|l| l.ends_with("ready"))
        });
        assert!(
            ready && ended.is_none(),
            "sluiced did not get ready (exit code {ended:?}):\n{}",
            daemon.log()
        );
        daemon
    }

    /// Starts it and does not wait.
    pub fn launch(lab: &'a Lab, system: &SystemFile, policy: &str) -> Daemon<'a> {
        lab.write("policy.yaml", policy);
        let config = lab.write("sluice.yaml", &system.text(lab));
        let _ = std::fs::remove_file(lab.dir().join("router-sluiced.log"));
        let process = lab.spawn("router", &[&program("sluiced"), "--config", &config.to_string_lossy()]);
        Daemon { lab, process }
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Runs `sluice` against it.
    pub fn sluice(&self, argv: &[&str]) -> Output {
        let socket = self.lab.dir().join("api.sock");
        let (bin, socket) = (program("sluice"), socket.to_string_lossy().into_owned());
        let mut all = vec![bin.as_str(), "--socket", &socket];
        all.extend_from_slice(argv);
        self.lab.run("router", &all)
    }

    /// Runs `sluice`, which must succeed; its standard output.
    pub fn ask(&self, argv: &[&str]) -> String {
        let out = self.sluice(argv);
        assert!(out.status.success(), "sluice {argv:?}: {}\n{}\n{}", out.status, text(&out), self.log());
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Applies a policy, which must be accepted.
    pub fn apply(&self, policy: &str) {
        let path = self.lab.write("next.yaml", policy);
        self.ask(&["apply", &path.to_string_lossy()]);
    }

    /// All metrics now.
    pub fn metrics(&self) -> Metrics {
        Metrics::parse(
            &self.lab.must("router", &["curl", "-sSf", "-m", "5", "http://127.0.0.1:9843/metrics"]),
        )
    }

    /// Every packet received ends in exactly one place. Counters are read while packets come, so a sum that is off is
    /// read again before it counts.
    pub fn assert_adds_up(&self) {
        let mut sums = (0, 0);
        let equal = until(Duration::from_secs(3), || {
            sums = self.metrics().received_and_ended();
            sums.0 == sums.1
        });
        assert!(equal, "received {}, ended {}:\n{}", sums.0, sums.1, self.ask(&["show", "drops"]));
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for its end; its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        self.process.wait(Duration::from_secs(20))
    }

    /// SIGTERM, which must end it with exit code 0.
    pub fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        assert_eq!(self.wait(), Some(0), "exit code after SIGTERM\n{}", self.log());
    }

    /// Polls its log for a line that contains `words`; panics after ten seconds.
    pub fn wait_for_log(&self, words: &str) {
        self.wait_until(|| self.log().contains(words));
    }

    /// Polls until `done`; panics with the log after ten seconds.
    pub fn wait_until(&self, done: impl FnMut() -> bool) {
        assert!(until(Duration::from_secs(10), done), "it did not come to that:\n{}", self.log());
    }
}

/// Path of one of the project's programs: the release profile's folder, or what SLUICE_BIN says.
pub fn program(name: &str) -> String {
    let dir = std::env::var_os("SLUICE_BIN").map(PathBuf::from).unwrap_or_else(|| {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        target.join("release")
    });
    let path = dir.join(name);
    assert!(path.exists(), "{} is missing: cargo build --release first", path.display());
    path.to_string_lossy().into_owned()
}
