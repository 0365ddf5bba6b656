//! Starting, stopping, crashing: the interfaces end as they were.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use sluice_tests::{Daemon, Lab, SystemFile, program, text, until};

use crate::{ACCEPT, BORDER};

/// What the kernel says of the device under `lan`, without what counts or changes by itself.
fn device_state(lab: &Lab) -> String {
    let address = lab.must("router", &["ip", "-o", "addr", "show", "dev", "lan0"]);
    let offload = lab.must("router", &["ethtool", "-k", "lan0"]);
    let filters = lab.must("router", &["tc", "qdisc", "show", "dev", "lan0"]);
    let rules = text(&lab.run("router", &["nft", "list", "ruleset"]));
    let v6 = lab.must("router", &["sysctl", "-n", "net.ipv6.conf.lan0.disable_ipv6"]);
    let promiscuous = lab.must("router", &["ip", "-d", "-o", "link", "show", "dev", "lan0"]);
    let promiscuous = promiscuous
        .split("promiscuity")
        .nth(1)
        .unwrap_or_default()
        .split_whitespace()
        .next()
        .unwrap_or_default();
    let address: String =
        address.split_inclusive("valid_lft").map(|s| s.trim_start_matches(" forever").to_string()).collect();
    format!("{address}\n{offload}\n{filters}\n{rules}\n{v6}\n{promiscuous}")
}

/// A router whose device has an address of its own before sluiced takes it.
fn lab_with_address() -> Lab {
    let lab = Lab::new();
    lab.must("router", &["ip", "addr", "add", "10.1.0.1/24", "dev", "lan0"]);
    lab
}

#[test]
fn sigterm_leaves_the_interfaces_as_they_were() {
    let lab = lab_with_address();
    let before = device_state(&lab);
    let daemon = Daemon::start(&lab, &SystemFile::default(), ACCEPT);
    assert_ne!(device_state(&lab), before, "sluiced changes the device while it runs");
    assert!(lab.must("router", &["ip", "-o", "link"]).contains("lan:"), "the tap has the interface's name");
    lab.must("client", &["ping", "-q", "-c", "1", "10.1.0.1"]);
    daemon.stop();
    assert_eq!(device_state(&lab), before);
    assert!(!lab.must("router", &["ip", "-o", "link"]).contains(" lan:"), "the tap is gone");
    // The kernel has its interface back, and answers there.
    lab.must("client", &["ping", "-q", "-c", "2", "-W", "2", "10.1.0.1"]);
}

#[test]
fn after_a_crash_the_next_start_mends_and_stops_clean() {
    let lab = lab_with_address();
    let before = device_state(&lab);
    let mut daemon = Daemon::start(&lab, &SystemFile::default(), BORDER);
    daemon.signal(Signal::SIGKILL);
    let _ = daemon.wait();
    drop(daemon);
    let daemon = Daemon::start(&lab, &SystemFile::default(), BORDER);
    lab.must("client", &["ping", "-q", "-c", "2", "-W", "2", "10.2.0.2"]);
    daemon.stop();
    assert_eq!(device_state(&lab), before);
}

#[test]
fn the_last_applied_policy_is_what_starts() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &SystemFile::default(), ACCEPT);
    daemon.apply(BORDER);
    daemon.stop();
    // The file is as it was when it was last read: what was applied since then goes on.
    let daemon = Daemon::start(&lab, &SystemFile::default(), ACCEPT);
    assert!(daemon.ask(&["show", "policy"]).contains("inside"), "{}", daemon.log());
    daemon.stop();
    // The file is bad now: the last applied one runs, and the log says so.
    let daemon = Daemon::start(&lab, &SystemFile::default(), "filter: {forwrd: {policy: drop}}\n");
    assert!(daemon.ask(&["show", "policy"]).contains("inside"));
    assert!(daemon.log().contains("forwrd"), "{}", daemon.log());
    daemon.stop();
}

/// One line that says what is wrong, exit code 1.
fn start_fails(lab: &Lab, system: &SystemFile, policy: &str, expected: &str) {
    // Nothing that was applied before may start instead.
    let _ = std::fs::remove_dir_all(lab.dir().join("state"));
    let mut daemon = Daemon::launch(lab, system, policy);
    assert_eq!(daemon.wait(), Some(1), "{}", daemon.log());
    let log = daemon.log();
    assert!(log.contains(expected), "expected '{expected}':\n{log}");
    assert!(!log.contains("panicked") && !log.contains("EAL:"), "{log}");
}

#[test]
fn start_errors_are_clear() {
    let lab = Lab::new();
    let with = |device: &str| SystemFile {
        interfaces: format!("  lan: {{device: \"{device}\", addresses: [10.1.0.1/24]}}\n"),
        ..SystemFile::default()
    };
    start_fails(&lab, &with("kernel:nosuch0"), ACCEPT, "nosuch0");
    start_fails(&lab, &with("pci:0000:ff:1f.7"), ACCEPT, "0000:ff:1f.7");
    start_fails(&lab, &with("carrier-pigeon:1"), ACCEPT, "carrier-pigeon");
    start_fails(&lab, &with("vdev:net_nosuch0"), ACCEPT, "net_nosuch0");
    start_fails(&lab, &SystemFile::default(), "filter: {forwrd: {policy: drop}}\n", "forward");
    start_fails(
        &lab,
        &SystemFile { more: "intrfaces: {}\n".into(), ..SystemFile::default() },
        ACCEPT,
        "interfaces",
    );
    let taken = SystemFile {
        interfaces: SystemFile::default().interfaces.replace("lan:", "wan0:"),
        ..SystemFile::default()
    };
    start_fails(&lab, &taken, ACCEPT, "wan0");
    let much = SystemFile { more: String::new(), ..SystemFile::default() }
        .text(&lab)
        .replace("hugepages: off", "hugepages: required");
    if std::fs::read_to_string("/proc/sys/vm/nr_hugepages").is_ok_and(|n| n.trim() == "0") {
        lab.write("policy.yaml", ACCEPT);
        let config = lab.write("huge.yaml", &much);
        let mut p =
            lab.spawn("router", &[&sluice_tests::program("sluiced"), "--config", &config.to_string_lossy()]);
        assert_eq!(p.wait(Duration::from_secs(20)), Some(1), "{}", p.log());
        assert!(p.log().contains("huge"), "{}", p.log());
    }
}

/// What the unit gives it: a user of its own with three capabilities, and a watchdog that wants to be told.
#[test]
fn an_unprivileged_user_runs_it_confined_and_systemd_is_told() {
    const RIGHTS: &str = "+net_admin,+net_raw,+ipc_lock";
    let lab = Lab::new();
    let folder = |name: &str| lab.dir().join(name).to_string_lossy().into_owned();
    let listen = "import socket,sys\ns=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)\ns.bind(sys.argv[1])\n\
                  print('listening')\nwhile True: print(s.recv(999).decode())\n";
    let systemd = lab.spawn("router", &["python3", "-u", "-c", listen, &folder("notify")]);
    assert!(until(Duration::from_secs(10), || systemd.log().contains("listening")));
    lab.write("policy.yaml", ACCEPT);
    let config = lab.write("sluice.yaml", &SystemFile::default().text(&lab));
    lab.must("router", &["cp", &program("sluiced"), &folder("sluiced")]);
    lab.must("router", &["chown", "-R", "nobody", &lab.dir().to_string_lossy()]);
    let (bounds, inherited, ambient) = (
        format!("--bounding-set=-all,{RIGHTS}"),
        format!("--inh-caps=-all,{RIGHTS}"),
        format!("--ambient-caps=-all,{RIGHTS}"),
    );
    let (socket, runtime) =
        (format!("NOTIFY_SOCKET={}", folder("notify")), format!("XDG_RUNTIME_DIR={}", folder("state")));
    let mut router = lab.spawn(
        "router",
        &[
            "setpriv",
            "--reuid=nobody",
            "--regid=nogroup",
            "--clear-groups",
            "--no-new-privs",
            &bounds,
            &inherited,
            &ambient,
            "env",
            &socket,
            &runtime,
            "WATCHDOG_USEC=400000",
            &folder("sluiced"),
            "--config",
            &config.to_string_lossy(),
        ],
    );
    let told = |words: &str| systemd.log().matches(words).count();
    assert!(
        until(Duration::from_secs(30), || told("WATCHDOG=1") >= 3),
        "{}\n{}",
        systemd.log(),
        router.log()
    );
    assert_eq!(told("READY=1"), 1);
    let status = std::fs::read_to_string(format!("/proc/{}/status", router.id())).unwrap();
    let says = |key: &str| {
        status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim().to_owned()
    };
    // CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK; SECCOMP_MODE_FILTER.
    assert_eq!((says("CapEff:").as_str(), says("Seccomp:").as_str()), ("0000000000007000", "2"), "{status}");
    assert_ne!(says("Uid:").split_whitespace().next(), Some("0"));
    let cores = |thread: Pid| {
        let set = sched_getaffinity(thread).unwrap();
        (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap()).collect::<Vec<_>>()
    };
    let (worker, all) = (cores(thread(router.id(), "worker-0")), cores(Pid::from_raw(0)));
    assert_eq!(worker.len(), 1);
    if all.len() > 1 {
        let others: Vec<_> = all.into_iter().filter(|core| !worker.contains(core)).collect();
        assert_eq!(cores(Pid::from_raw(router.id() as i32)), others, "control keeps off the worker's core");
    }
    lab.must("client", &["ping", "-q", "-c", "2", "-i", "0.2", "-W", "2", "10.2.0.2"]);
    router.signal(Signal::SIGTERM);
    assert_eq!(router.wait(Duration::from_secs(20)), Some(0), "{}", router.log());
    assert_eq!(told("STOPPING=1"), 1);
    // What it had taken it could give back.
    assert!(!lab.must("router", &["ip", "-o", "link"]).contains(" lan:"), "the tap is gone");
}

/// The thread of a process that has this name.
fn thread(process: u32, name: &str) -> Pid {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let named = threads.map(|thread| thread.unwrap()).find(|thread| {
        std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    });
    Pid::from_raw(named.unwrap().file_name().to_str().unwrap().parse().unwrap())
}

/// The test is the manager of services; a debugger that holds one worker stands for what makes it hang.
#[test]
fn the_watchdog_hears_nothing_while_a_worker_hangs() {
    let lab = Lab::new();
    lab.write("policy.yaml", ACCEPT);
    let config = lab.write("sluice.yaml", &SystemFile::workers(2).text(&lab));
    let socket = lab.dir().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let told = |what: &str| {
        let mut message = [0; 256];
        manager.recv(&mut message).map(|len| String::from_utf8_lossy(&message[..len]).contains(what))
    };
    let (notify, config) = (format!("NOTIFY_SOCKET={}", socket.display()), config.to_string_lossy());
    let argv = ["env", &notify, "WATCHDOG_USEC=2000000", &program("sluiced"), "--config", &config];
    let mut sluiced = lab.spawn("router", &argv);
    assert!(until(Duration::from_secs(30), || told("READY=1").is_ok_and(|told| told)), "{}", sluiced.log());
    assert!(told("WATCHDOG=1").unwrap(), "{}", sluiced.log());

    let worker = thread(sluiced.id(), "worker-1");
    ptrace::seize(worker, ptrace::Options::empty()).unwrap();
    ptrace::interrupt(worker).unwrap();
    waitpid(worker, Some(WaitPidFlag::__WALL)).unwrap();
    assert!(until(Duration::from_secs(5), || told("").is_err()), "the manager's patience never ends");
    assert!(
        sluiced.log().contains("do not poll") && sluiced.log().contains("workers=[1]"),
        "{}",
        sluiced.log()
    );

    ptrace::detach(worker, None).unwrap();
    assert!(told("WATCHDOG=1").unwrap(), "the worker goes on, and is seen to");
    sluiced.signal(Signal::SIGTERM);
    assert_eq!(sluiced.wait(Duration::from_secs(20)), Some(0), "{}", sluiced.log());
}
