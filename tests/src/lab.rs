//! Namespaces, their links, and the processes in them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

static LABS: AtomicU32 = AtomicU32::new(0);

/// Client, router and server in namespaces of their own, connected, with addresses and default routes.
pub struct Lab {
    name: String,
    dir: PathBuf,
}

impl Lab {
    /// Makes the namespaces and links. Panics where that fails, since no test can go on.
    pub fn new() -> Lab {
        let name = format!("sluice-t{}-{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(dir.join("state")).expect("temporary folder");
        let lab = Lab { name, dir };
        for ns in ["client", "router", "server"] {
            ip(&["netns", "add", &lab.ns(ns)]);
            ip(&["-n", &lab.ns(ns), "link", "set", "lo", "up"]);
        }
        for (n, host, leg) in [(1, "client", "lan0"), (2, "server", "wan0")] {
            let (h, r) = (lab.ns(host), lab.ns("router"));
            ip(&["link", "add", leg, "netns", &r, "type", "veth", "peer", "name", "eth0", "netns", &h]);
            // veth hands over packets whose checksums nobody filled in; a real cable does not.
            lab.run(host, &["ethtool", "-K", "eth0", "tx", "off"]);
            ip(&["-n", &h, "addr", "add", &format!("10.{n}.0.2/24"), "dev", "eth0"]);
            ip(&["-n", &h, "addr", "add", &format!("fd00:{n}::2/64"), "dev", "eth0", "nodad"]);
            ip(&["-n", &h, "link", "set", "eth0", "up"]);
            ip(&["-n", &h, "route", "add", "default", "via", &format!("10.{n}.0.1")]);
            ip(&["-n", &h, "route", "add", "default", "via", &format!("fd00:{n}::1")]);
            ip(&["-n", &r, "link", "set", leg, "up"]);
        }
        lab
    }

    /// The full name of the namespace of `client`, `router` or `server`.
    pub fn ns(&self, host: &str) -> String {
        format!("{}-{host}", self.name)
    }

    /// A folder that goes with the laboratory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a file into the laboratory's folder.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.join(name);
        std::fs::write(&path, text).expect("writing a file of the laboratory");
        path
    }

    /// Runs a program in a host's namespace and waits for it.
    pub fn run(&self, host: &str, argv: &[&str]) -> Output {
        self.command(host, argv).stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{argv:?}: {e}"))
    }

    /// Runs a program in a host's namespace, which must succeed; its standard output.
    pub fn must(&self, host: &str, argv: &[&str]) -> String {
        let out = self.run(host, argv);
        assert!(out.status.success(), "{argv:?} on {host}: {}\n{}", out.status, text(&out));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Starts a program in a host's namespace; it is ended with the value.
    pub fn spawn(&self, host: &str, argv: &[&str]) -> Process {
        let log = self.dir.join(format!("{}-{}.log", host, argv[0].rsplit('/').next().unwrap_or("x")));
        let file = File::options().create(true).append(true).open(&log).expect("log file");
        let err = file.try_clone().expect("log file");
        let child = self.command(host, argv).stdin(Stdio::null()).stdout(file).stderr(err).spawn();
        Process { child: child.unwrap_or_else(|e| panic!("{argv:?}: {e}")), log }
    }

    /// Runs a Python 3 program (raw frames are easiest there) in a host's namespace; its standard output.
    pub fn python(&self, host: &str, program: &str) -> String {
        self.must(host, &["python3", "-c", program])
    }

    /// Starts nginx on port 80 of both families on `host`, with one small page.
    pub fn nginx(&self, host: &str) -> Process {
        let dir = self.dir.join(format!("nginx-{host}"));
        std::fs::create_dir_all(dir.join("www")).expect("folder");
        std::fs::write(dir.join("www/index.html"), "hello\n").expect("page");
        let d = dir.display();
        let conf = format!(
            "daemon off; master_process off; pid {d}/pid; error_log {d}/error.log;\nevents {{}}\n\
             http {{ access_log off; client_body_temp_path {d}/b; proxy_temp_path {d}/p; fastcgi_temp_path {d}/f;\n\
             uwsgi_temp_path {d}/u; scgi_temp_path {d}/s;\n\
             server {{ listen 80; listen [::]:80; root {d}/www; }} }}\n"
        );
        let conf = self.write(&format!("nginx-{host}.conf"), &conf);
        let process = self.spawn(host, &["nginx", "-c", &conf.to_string_lossy()]);
        self.wait_for(host, 80);
        process
    }

    /// Starts an iperf3 server on port 5201 of `host`.
    pub fn iperf3(&self, host: &str) -> Process {
        let process = self.spawn(host, &["iperf3", "-s"]);
        self.wait_for(host, 5201);
        process
    }

    /// Runs an iperf3 client on `host`, which must succeed; its standard output. The server serves one at a time, and turns away
    /// whoever comes while it ends a test: it is asked again then.
    pub fn transfer(&self, host: &str, server: &str, options: &[&str]) -> String {
        let argv = [&["iperf3", "-c", server, "--connect-timeout", "3000"], options].concat();
        let mut out = self.run(host, &argv);
        let served = until(Duration::from_secs(10), || {
            let said = text(&out);
            let turned_away =
                ["the server is busy", "unable to connect to server"].iter().any(|w| said.contains(w));
            if turned_away {
                out = self.run(host, &argv);
            }
            !turned_away
        });
        assert!(served && out.status.success(), "{argv:?} on {host}: {}\n{}", out.status, text(&out));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Waits until something listens on a TCP port of `host`.
    pub fn wait_for(&self, host: &str, port: u16) {
        let listens = || {
            text(&self.run(host, &["ss", "-Htln", &format!("sport = :{port}")])).contains(&format!(":{port}"))
        };
        assert!(until(Duration::from_secs(10), listens), "nothing listens on port {port} of {host}");
    }

    fn command(&self, host: &str, argv: &[&str]) -> Command {
        let mut c = Command::new("ip");
        c.args(["netns", "exec", &self.ns(host)]).args(argv);
        c
    }
}

impl Default for Lab {
    fn default() -> Lab {
        Lab::new()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for host in ["client", "router", "server"] {
            let _ = Command::new("ip").args(["netns", "del", &self.ns(host)]).output();
        }
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// A running program; ended when dropped.
pub struct Process {
    pub(crate) child: Child,
    pub(crate) log: PathBuf,
}

impl Process {
    /// What it printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(i32::try_from(self.child.id()).expect("process id")), signal);
    }

    /// Its exit code once it ended; None if it did not within `limit`, or was killed by a signal.
    pub fn wait(&mut self, limit: Duration) -> Option<i32> {
        let mut status = None;
        until(limit, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        });
        status.and_then(|s| s.code())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::SIGTERM);
        if self.wait(Duration::from_secs(5)).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Standard output and error of a program, as text.
pub fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// Polls until `done` or the time is over; whether it was done.
pub fn until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if done() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ip(argv: &[&str]) {
    let out = Command::new("ip").args(argv).output().expect("ip (iproute2)");
    assert!(out.status.success(), "ip {argv:?}: {}", text(&out));
}
