//! Helpers under real programs: vsftpd with curl and lftp, tftpd-hpa with its client; both families, with NAT and without,
//! one and two workers.

use std::time::Duration;

use nix::sys::signal::Signal;
use sluice_tests::{Daemon, Lab, Process, SystemFile, program, text};

/// Nothing comes in but what the helpers announced, and that as narrow as they can say it.
const GUARDED: &str = r"
mangle:
  prerouting:
    - {in: lan, proto: tcp, dport: 21, ct: new, action: {helper: ftp}}
    - {in: lan, proto: udp, dport: 69, ct: new, action: {helper: tftp}}
filter:
  forward:
    policy: drop
    rules:
      - {ct: established, action: accept}
      - {ct: related, ct_helper: ftp, proto: tcp, dport: 1024-65535, action: accept, name: data}
      - {ct: related, ct_helper: tftp, proto: udp, action: accept, name: blocks}
      - {in: lan, proto: tcp, dport: 21, ct: new, action: accept}
      - {in: lan, proto: udp, dport: 69, ct: new, action: accept}
      - {ct: related, proto: [icmp, icmpv6], action: accept}
";

const MASQUERADE: &str = "nat: {postrouting: [{out: wan, action: masquerade}]}\n";

const SERVERS: [&str; 2] = ["10.2.0.2", "[fd00:2::2]"];

/// What the servers have: more than one segment or block.
fn file() -> String {
    "a line of the file\n".repeat(4000)
}

/// Starts vsftpd on the server, with one file.
fn vsftpd(lab: &Lab) -> Process {
    let (root, empty) = (lab.dir().join("ftp"), lab.dir().join("empty"));
    std::fs::create_dir_all(&root).unwrap();
    std::fs::create_dir_all(&empty).unwrap();
    std::fs::write(root.join("file"), file()).unwrap();
    let conf = format!(
        "listen=NO\nlisten_ipv6=YES\nbackground=NO\nanonymous_enable=YES\nlocal_enable=NO\nanon_root={}\n\
         secure_chroot_dir={}\nseccomp_sandbox=NO\nno_anon_password=YES\nxferlog_enable=NO\n\
         connect_from_port_20=YES\nport_promiscuous=NO\n",
        root.display(),
        empty.display()
    );
    let conf = lab.write("vsftpd.conf", &conf);
    let process = lab.spawn("server", &["vsftpd", &conf.to_string_lossy()]);
    lab.wait_for("server", 21);
    process
}

/// Fetches the file by curl, with these options.
fn curl(lab: &Lab, server: &str, options: &[&str]) {
    let url = format!("ftp://{server}/file");
    let mut argv = vec!["curl", "-sS", "-m", "10"];
    argv.extend_from_slice(options);
    argv.push(&url);
    let out = lab.run("client", &argv);
    assert!(out.status.success(), "{argv:?}: {}", text(&out));
    assert_eq!(String::from_utf8_lossy(&out.stdout), file(), "{argv:?}");
}

fn ftp(policy: &str, workers: usize) {
    let lab = Lab::new();
    let _vsftpd = vsftpd(&lab);
    let daemon = Daemon::start(&lab, &SystemFile::workers(workers), policy);
    for server in SERVERS {
        // EPSV, EPRT; several times, so that connections come to every worker.
        for _ in 0..3 {
            curl(&lab, server, &[]);
            curl(&lab, server, &["-P", "-"]);
        }
        for mode in ["on", "off"] {
            let script = format!(
                "set net:timeout 5; set net:max-retries 1; set ftp:passive-mode {mode}; open ftp://{server}; cat file; \
                 cls; cat file; bye"
            );
            let got = lab.must("client", &["lftp", "-c", &script]);
            assert_eq!(got.matches("a line of the file\n").count(), 8000, "{server} passive {mode}");
        }
    }
    for options in [&["--disable-epsv"][..], &["--disable-eprt", "-P", "-"]] {
        curl(&lab, SERVERS[0], options);
    }
    let flows = daemon.ask(&["conntrack", "list", "-p", "tcp", "--dport", "21"]);
    assert!(flows.lines().all(|line| line.contains("helper=ftp")), "{flows}");
    assert_eq!(daemon.ask(&["conntrack", "expect"]), "", "all that was announced came");
    daemon.assert_adds_up();
    daemon.stop();
}

#[test]
fn ftp_with_one_worker() {
    ftp(GUARDED, 1);
}

#[test]
fn ftp_with_two_workers_and_masquerade() {
    ftp(&format!("{GUARDED}{MASQUERADE}"), 2);
}

/// What is announced and does not come is listed, told, and deleted.
#[test]
fn expectations_are_shown_and_deleted() {
    let lab = Lab::new();
    let _vsftpd = vsftpd(&lab);
    let daemon = Daemon::start(&lab, &SystemFile::default(), GUARDED);
    // Asks for a data connection, and opens none.
    let client = "import socket,time\ns=socket.create_connection(('10.2.0.2',21))\n\
                  def line(t=None):\n  if t: s.sendall(t.encode()+b'\\r\\n')\n  return s.recv(999)\n\
                  line(); line('USER anonymous'); line('PASS x'); print(line('EPSV').decode()); time.sleep(5)\n";
    let talking = lab.spawn("client", &["python3", "-u", "-c", client]);
    let mut listed = String::new();
    daemon.wait_until(|| {
        listed = daemon.ask(&["conntrack", "expect", "list", "--helper", "ftp"]);
        !listed.is_empty()
    });
    let port = talking.log().split('|').nth(3).unwrap_or_default().to_owned();
    let expected = format!(
        "proto=6 src=10.1.0.2 dst=10.2.0.2 sport=0 dport={port} mask-src=255.255.255.255 mask-dst=255.255.255.255 \
         sport=0 dport=65535 master-src=10.1.0.2 master-dst=10.2.0.2"
    );
    assert!(listed.contains(&expected) && listed.trim_end().ends_with("class=0 helper=ftp"), "{listed}");
    let deleted = daemon.sluice(&["conntrack", "expect", "delete", "-d", "10.2.0.2"]);
    assert!(deleted.status.success(), "{}", text(&deleted));
    assert_eq!(daemon.ask(&["conntrack", "expect"]), "");
    let none = daemon.sluice(&["conntrack", "expect", "delete", "-d", "10.2.0.2"]);
    assert_eq!(none.status.code(), Some(1), "nothing was deleted");
    drop(talking);
    daemon.stop();
}

fn tftp(policy: &str, workers: usize) {
    let lab = Lab::new();
    let root = lab.dir().join("tftp");
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(root.join("file"), file()).unwrap();
    lab.must("server", &["chmod", "-R", "a+rX", &lab.dir().to_string_lossy()]);
    let _tftpd = lab.spawn("server", &["in.tftpd", "-L", "-s", &root.to_string_lossy()]);
    let daemon = Daemon::start(&lab, &SystemFile::workers(workers), policy);
    for server in ["10.2.0.2", "fd00:2::2"] {
        for n in 0..4 {
            let got = lab.dir().join(format!("got{n}"));
            let got = got.to_string_lossy();
            lab.must("client", &["tftp", "-m", "octet", server, "-c", "get", "file", &got]);
            assert_eq!(std::fs::read_to_string(&*got).unwrap(), file(), "{server}");
        }
    }
    daemon.assert_adds_up();
    daemon.stop();
}

#[test]
fn tftp_with_two_workers() {
    tftp(GUARDED, 2);
}

#[test]
fn tftp_with_masquerade() {
    tftp(&format!("{GUARDED}{MASQUERADE}"), 1);
}

/// Expectations as they come and go, in the lines of `conntrack -E expect`.
#[test]
fn expectations_are_told_as_they_come_and_go() {
    let lab = Lab::new();
    let _vsftpd = vsftpd(&lab);
    let daemon = Daemon::start(&lab, &SystemFile::workers(2), &format!("{GUARDED}{MASQUERADE}"));
    let (bin, socket) = (program("sluice"), lab.dir().join("api.sock"));
    let argv = [&bin, "--socket", &socket.to_string_lossy(), "conntrack", "expect", "watch"];
    let mut watch = lab.spawn("router", &argv);
    // It says nothing when it begins to watch: files are fetched until it does.
    daemon.wait_until(|| {
        curl(&lab, SERVERS[0], &["-P", "-"]);
        !watch.log().is_empty()
    });
    let before = watch.log().len();
    curl(&lab, SERVERS[0], &["--disable-epsv"]);
    curl(&lab, SERVERS[0], &["-P", "-"]);
    // As `conntrack -E expect` tells them; ports and what is left of the time are of the moment.
    let told = || without_numbers(watch.log().get(before..).unwrap_or_default());
    daemon.wait_until(|| told().len() >= 4);
    let lines = |ends: &str| {
        ["[NEW]", "[DESTROY]"].map(|kind| {
            format!(
                "{kind} # proto=6 {ends} sport=0 dport=# mask-src=255.255.255.255 mask-dst=255.255.255.255 sport=0 \
                 dport=65535 master-src=10.1.0.2 master-dst=10.2.0.2 sport=# dport=21 class=0 helper=ftp"
            )
        })
    };
    let (passive, active) = (lines("src=10.1.0.2 dst=10.2.0.2"), lines("src=10.2.0.2 dst=10.2.0.1"));
    assert_eq!(told(), [passive, active].concat());
    watch.signal(Signal::SIGINT);
    assert_eq!(watch.wait(Duration::from_secs(3)), Some(0));
    assert!(watch.log().contains("expectation events have been shown."), "{}", watch.log());
    daemon.stop();
}

/// Lines of events without ports and times that nobody chose.
fn without_numbers(lines: &str) -> Vec<String> {
    let word = |word: &str| match word.split_once('=') {
        Some((name @ ("sport" | "dport"), port))
            if port.parse::<u16>().is_ok_and(|port| port > 21 && port < 65535) =>
        {
            format!("{name}=#")
        }
        None if word.parse::<u32>().is_ok() => "#".to_owned(),
        _ => word.to_owned(),
    };
    lines.lines().map(|line| line.split_whitespace().map(word).collect::<Vec<_>>().join(" ")).collect()
}
