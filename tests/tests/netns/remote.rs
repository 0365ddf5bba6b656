//! Remote control: another host pushes a policy with the real client, and all that must be refused, with other people's.

use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

use sluice_tests::{Daemon, Lab, SystemFile, program, text};

const POLICY: &str = "sets: {bad: {type: net, file: bad.txt}}\n\
                      filter: {forward: [{src: \"@bad\", action: drop, name: bad}, {proto: icmp, action: accept}]}\n";
const URL: &str = "https://10.1.0.1:9844";

/// An authority in the laboratory's folder, with a box, a writer and a reader.
struct Remote<'a> {
    lab: &'a Lab,
    dir: PathBuf,
}

impl<'a> Remote<'a> {
    fn new(lab: &'a Lab) -> Remote<'a> {
        let remote = Remote { lab, dir: lab.dir().join("ca") };
        remote.cert(&["init", &remote.path("")]);
        remote.issue(&["server", "--name", "box", "--address", "10.1.0.1"]);
        remote.issue(&["client", "--name", "alice", "--role", "write"]);
        remote.issue(&["client", "--name", "bob", "--role", "read"]);
        remote
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_string_lossy().into_owned()
    }

    fn cert(&self, argv: &[&str]) {
        let program = program("sluice");
        self.lab.must("client", &[&[program.as_str(), "cert"], argv].concat());
    }

    fn issue(&self, argv: &[&str]) {
        self.cert(&[argv, &["--dir", &self.path("")]].concat());
    }

    fn system(&self) -> SystemFile {
        let [crt, key, ca, crl] = ["box.crt", "box.key", "ca.crt", "revoked.crl"].map(|name| self.path(name));
        let remote = format!(
            ", remote: {{listen: \"10.1.0.1:9844\", certificate: {crt}, key: {key}, ca: {ca}, revoked: {crl}}}"
        );
        SystemFile { control: remote, ..SystemFile::default() }
    }

    /// The real client, from the other host.
    fn sluice(&self, name: &str, argv: &[&str]) -> Output {
        let program = program("sluice");
        let [crt, key, ca] =
            [format!("{name}.crt"), format!("{name}.key"), "ca.crt".into()].map(|n| self.path(&n));
        let options = [program.as_str(), "--server", URL, "--cert", &crt, "--key", &key, "--ca", &ca];
        self.lab.run("client", &[&options, argv].concat())
    }

    fn ask(&self, name: &str, argv: &[&str]) -> String {
        let out = self.sluice(name, argv);
        assert!(out.status.success(), "{name}: sluice {argv:?}: {}\n{}", out.status, text(&out));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Asked in vain: what is said about it, with the exit code.
    fn refused(&self, name: &str, argv: &[&str], code: i32, expected: &str) {
        let out = self.sluice(name, argv);
        assert!(
            out.status.code() == Some(code) && text(&out).contains(expected),
            "{name}: sluice {argv:?}: expected exit code {code} and '{expected}': {}\n{}",
            out.status,
            text(&out)
        );
    }

    /// curl with a certificate; the HTTP status that it prints, or 000.
    fn curl(&self, name: &str, argv: &[&str]) -> String {
        let [crt, key, ca] =
            [format!("{name}.crt"), format!("{name}.key"), "ca.crt".into()].map(|n| self.path(&n));
        let options = [
            "curl",
            "-sS",
            "-m",
            "10",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--cacert",
            &ca,
            "--cert",
            &crt,
        ];
        let out = self.lab.run("client", &[&options, ["--key", key.as_str()].as_slice(), argv].concat());
        String::from_utf8_lossy(&out.stdout).into_owned()
    }
}

#[test]
fn a_policy_is_pushed_from_another_host_with_the_files_it_names() {
    let lab = Lab::new();
    let remote = Remote::new(&lab);
    let daemon = Daemon::start(&lab, &remote.system(), crate::ACCEPT);
    let folder = lab.dir().join("pushed");
    std::fs::create_dir_all(&folder).expect("folder");
    std::fs::write(folder.join("bad.txt"), "192.0.2.0/24 # nobody\n198.51.100.7\n").expect("set file");
    std::fs::write(folder.join("policy.yaml"), POLICY).expect("policy");
    let policy = folder.join("policy.yaml").to_string_lossy().into_owned();

    remote.refused("bob", &["apply", &policy], 1, "bob may not change anything");
    assert!(remote.ask("bob", &["diff", &policy]).contains("sets.bad"));
    assert!(remote.ask("alice", &["apply", &policy]).contains("applied as generation 2: 2 rules"));
    assert!(remote.ask("bob", &["set", "list", "bad"]).contains("198.51.100.7"));
    let more = lab.write("more.txt", "203.0.113.1\n203.0.113.9\n").to_string_lossy().into_owned();
    assert!(remote.ask("alice", &["set", "replace", "bad", "--file", &more]).contains("2 elements"));
    let history = remote.ask("bob", &["history"]);
    assert!(history.contains("alice at 10.1.0.2") && history.contains("policy file, at start"), "{history}");
    let log = daemon.log();
    for line in [
        "change who=\"alice\" from=\"10.1.0.2:",
        &format!("what=\"apply {policy}\" result=\"done\""),
        "what=\"set replace bad (2 elements)\" result=\"done\"",
        "who=\"bob\"",
        "result=\"refused: bob may not change anything: its certificate has the role read\"",
    ] {
        assert!(log.contains(line), "expected '{line}':\n{log}");
    }
    // A question whose answer is long, and one whose answer never ends.
    lab.must("client", &["ping", "-q", "-c", "1", "10.2.0.2"]);
    assert!(remote.ask("bob", &["conntrack", "list"]).contains("src=10.1.0.2 dst=10.2.0.2"));
    let watch = format!(
        "timeout 3 {} --server {URL} --cert {} --key {} --ca {} conntrack watch",
        program("sluice"),
        remote.path("bob.crt"),
        remote.path("bob.key"),
        remote.path("ca.crt")
    );
    let watching = lab.spawn("client", &["sh", "-c", &watch]);
    let ping = ["ping", "-q", "-c", "1", "-W", "1", "10.2.0.2"];
    daemon.wait_until(|| lab.run("client", &ping).status.success() && watching.log().contains("[NEW] icmp"));

    assert!(remote.ask("alice", &["reload"]).contains("policy unchanged"));
    remote.issue(&["revoke", "alice"]);
    assert!(daemon.ask(&["reload"]).contains("policy unchanged"));
    remote.refused("alice", &["show", "rules"], 2, "alice.crt: it is revoked");
    remote.ask("bob", &["show", "rules"]);
    daemon.ask(&["show", "rules"]);
    daemon.stop();
}

#[test]
fn what_must_be_refused_is_refused_and_counted() {
    let lab = Lab::new();
    let remote = Remote::new(&lab);
    let daemon = Daemon::start(&lab, &remote.system(), crate::ACCEPT);
    let url = |path: &str| format!("{URL}{path}");
    let (status, flush) = (url("/v1/status"), url("/v1/conntrack/flush"));

    assert_eq!(remote.curl("alice", &[&status]), "200");
    let none = lab.run("client", &["curl", "-sS", "-m", "5", "--cacert", &remote.path("ca.crt"), &status]);
    assert!(!none.status.success(), "without a certificate: {}", text(&none));
    let old = lab.run("client", &["sh", "-c", "openssl s_client -connect 10.1.0.1:9844 -tls1_2 </dev/null"]);
    assert!(text(&old).contains("alert"), "TLS 1.2: {}", text(&old));
    // A role comes from an authority that the box trusts, and from nobody else.
    let own = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=mallory \
               -addext subjectAltName=URI:sluice:role:write -addext extendedKeyUsage=clientAuth";
    let (crt, key) = (remote.path("mallory.crt"), remote.path("mallory.key"));
    lab.must("client", &["sh", "-c", &format!("{own} -keyout {key} -out {crt} && chmod 600 {key}")]);
    assert_eq!(remote.curl("mallory", &[&status]), "000");
    remote.refused("mallory", &["show", "rules"], 2, "mallory.crt: it is no client's certificate");
    assert_eq!(remote.curl("bob", &["-X", "POST", &flush]), "403");
    assert_eq!(remote.curl("alice", &["-X", "POST", &flush]), "400", "no stamp");
    let now = lab.must("client", &["date", "+%s"]);
    let (now, late) = (format!("sluice-time: {}", now.trim()), "sluice-time: 1000000000");
    let id = "sluice-id: 00112233445566778899aabbccddeeff";
    assert_eq!(remote.curl("alice", &["-X", "POST", "-H", late, "-H", id, &flush]), "409", "too old");
    assert_eq!(remote.curl("alice", &["-X", "POST", "-H", &now, "-H", id, &flush]), "200");
    assert_eq!(remote.curl("alice", &["-X", "POST", "-H", &now, "-H", id, &flush]), "409", "a second time");
    let diff = url("/v1/policy/diff");
    let large = ["-X", "POST", "-H", "content-length: 999999999", "-H", "expect:", "-d", "{", &diff];
    assert_eq!(remote.curl("bob", &large), "413");
    // Strangers that hold on to their places leave those of others alone, and the unix socket answers.
    let idle = "import socket,time\ns=[socket.create_connection(('10.1.0.1',9844)) for _ in range(40)]\nprint('there',flush=True)\ntime.sleep(30)";
    let strangers = lab.spawn("client", &["python3", "-c", idle]);
    daemon.wait_until(|| strangers.log().contains("there"));
    let asked = Instant::now();
    daemon.ask(&["show", "rules"]);
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    drop(strangers);
    daemon.wait_until(|| remote.sluice("bob", &["show", "rules"]).status.success());

    let metrics = daemon.metrics();
    for (reason, at_least) in [
        ("no_certificate", 1),
        ("handshake", 1),
        ("bad_certificate", 2),
        ("role", 1),
        ("unstamped", 1),
        ("stale", 1),
        ("replay", 1),
        ("oversized", 1),
        ("connections", 32),
    ] {
        let counted = metrics.sum("sluice_remote_refused_total", &[&format!("reason=\"{reason}\"")]);
        assert!(counted >= at_least, "{reason}: {counted}");
    }
    assert!(metrics.sum("sluice_remote_requests_total", &["role=\"write\""]) >= 4);
    assert_eq!(metrics.sum("sluice_remote_up", &[]), 1);
    assert_eq!(metrics.sum("sluice_remote_connections", &["state=\"open\""]), 0);
    let (expiry, day) = (metrics.sum("sluice_remote_certificate_expiry_timestamp_seconds", &[]), 86_400);
    let now: u64 = lab.must("client", &["date", "+%s"]).trim().parse().expect("seconds");
    assert!((now + 364 * day..=now + 365 * day).contains(&expiry), "{expiry}");
    daemon.stop();
}
