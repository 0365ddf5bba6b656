//! Helpers under real programs: vsftpd with curl and lftp, tftpd-hpa with its client; both families, with NAT and without,
//! one and two workers.

use sluice_tests::{Daemon, Lab, Process, SystemFile, text};

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
