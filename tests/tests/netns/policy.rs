//! Policies seen by real clients: refusals, NOTRACK, changes under traffic and what becomes of flows, bad files.

use std::time::Duration;

use sluice_tests::{Daemon, Lab, SystemFile, text};

use crate::BORDER;

#[test]
fn refusals_as_clients_see_them() {
    let lab = Lab::new();
    let _nginx = lab.nginx("server");
    let cases = [
        ("{reject: tcp-reset}", "Connection refused"),
        ("reject", "Connection refused"),
        ("{reject: host-unreachable}", "No route to host"),
        ("{reject: admin-prohibited}", "No route to host|Permission denied"),
        ("drop", "timed out|Timeout"),
    ];
    let policy = |action: &str| {
        format!(
            "filter: {{forward: {{policy: accept, rules: [{{proto: tcp, dport: 80, ct: new, action: {action}}}]}}}}\n"
        )
    };
    let daemon = Daemon::start(&lab, &SystemFile::default(), &policy("drop"));
    for (action, expected) in cases {
        daemon.apply(&policy(action));
        for server in ["10.2.0.2", "fd00:2::2"] {
            let seen = text(&lab.run("client", &["nc", "-v", "-n", "-w", "1", "-z", server, "80"]));
            assert!(
                expected.split('|').any(|e| seen.contains(e)),
                "{action} to {server}: expected '{expected}': {seen}"
            );
        }
    }
    assert_eq!(
        daemon.ask(&["conntrack", "list", "--dport", "80"]),
        "",
        "a refused connection leaves no flow"
    );
    daemon.stop();
}

#[test]
fn notrack_leaves_no_flow() {
    let lab = Lab::new();
    let _server = lab.iperf3("server");
    let policy = r"
raw:
  prerouting:
    - {dport: 5201, action: notrack, name: there}
    - {sport: 5201, action: notrack, name: back}
filter:
  forward:
    policy: drop
    rules: [{ct: untracked, action: accept, name: untracked}]
";
    let daemon = Daemon::start(&lab, &SystemFile::default(), policy);
    lab.transfer("client", "10.2.0.2", &["-t", "1", "-P", "4"]);
    assert_eq!(daemon.ask(&["conntrack", "count"]).trim(), "0");
    let metrics = daemon.metrics();
    let untracked = metrics.sum("sluice_conntrack_packets_total", &["state=\"untracked\""]);
    let counted = |rule: &str| metrics.sum("sluice_rule_packets_total", &[&format!("rule=\"{rule}\"")]);
    let counted = counted("there") + counted("back");
    // Neighbour discovery and multicast listener reports are untracked as well, and no rule of `raw` speaks of them.
    assert!(
        counted > 100 && (counted..counted + 50).contains(&untracked),
        "untracked {untracked}, counted {counted}"
    );
    daemon.stop();
}

#[test]
fn a_change_under_traffic_loses_nothing() {
    let lab = Lab::new();
    let _server = lab.iperf3("server");
    let daemon = Daemon::start(&lab, &SystemFile::workers(2), BORDER);
    let mut ping = lab.spawn("client", &["ping", "-q", "-c", "1000", "-i", "0.003", "10.2.0.2"]);
    let mut changes = 0;
    while ping.wait(Duration::from_millis(50)).is_none() {
        daemon.apply(&format!("# change {changes}\n{BORDER}"));
        changes += 1;
    }
    assert!(changes > 10, "{changes} changes");
    assert!(ping.log().contains(" 0% packet loss"), "{}", ping.log());
    let metrics = daemon.metrics();
    daemon.assert_adds_up();
    assert!(
        metrics.sum("sluice_rule_packets_total", &["rule=\"outbound\""]) > 0,
        "named rules keep their counters"
    );
    daemon.stop();
}

/// Rules that none of the packets matches, between a mark and a rule for packets that another policy marked. As many as
/// `SLUICE_RULES` says, or 20,000.
fn many_rules(mark: u32) -> String {
    let count = std::env::var("SLUICE_RULES").ok().and_then(|count| count.parse().ok()).unwrap_or(20_000u32);
    let mut policy = format!(
        "mangle: {{prerouting: [{{action: {{mark: {mark}}}}}]}}\nfilter:\n  forward:\n    policy: drop\n    rules:\n"
    );
    for n in 0..count {
        let (high, low) = (n >> 8 & 255, n & 255);
        let port = 1024 + n % 40_000 + mark;
        policy += &format!(
            "      - {{src: 10.{high}.{low}.0/24, dst: 172.{}.{low}.{high}, proto: udp, dport: {port}, action: drop}}\n",
            n >> 16
        );
    }
    policy
        + &format!(
            "      - {{not: {{mark: {mark}}}, action: drop, name: mixed}}\n      - {{action: accept}}\n"
        )
}

#[test]
fn many_rules_change_under_traffic_and_no_packet_meets_two_policies() {
    let lab = Lab::new();
    let policies = [1, 2].map(many_rules);
    let daemon = Daemon::start(&lab, &SystemFile::workers(2), &policies[0]);
    let mut ping = lab.spawn("client", &["ping", "-q", "-c", "2000", "-i", "0.003", "10.2.0.2"]);
    let mut changes = 0;
    while ping.wait(Duration::ZERO).is_none() {
        changes += 1;
        daemon.apply(&policies[changes % 2]);
    }
    assert!(changes > 1, "{changes} changes");
    assert!(ping.log().contains(" 0% packet loss"), "{}", ping.log());
    assert_eq!(daemon.metrics().sum("sluice_rule_packets_total", &["rule=\"mixed\""]), 0);
    daemon.assert_adds_up();
    daemon.stop();
}

#[test]
fn flows_outlive_a_policy_and_are_judged_by_the_next() {
    let lab = Lab::new();
    let _server = lab.nginx("server");
    let daemon = Daemon::start(&lab, &SystemFile::default(), BORDER);
    lab.must("client", &["ping", "-q", "-c", "1", "10.2.0.2"]);
    assert_eq!(daemon.ask(&["conntrack", "count"]).trim(), "1");
    daemon.apply("filter: {forward: {policy: drop, rules: []}}\n");
    assert_eq!(daemon.ask(&["conntrack", "count"]).trim(), "1");
    assert!(!lab.run("client", &["ping", "-q", "-c", "1", "-W", "1", "10.2.0.2"]).status.success());
    daemon.apply(BORDER);
    lab.must("client", &["ping", "-q", "-c", "1", "10.2.0.2"]);
    let path = lab.write("flush.yaml", BORDER);
    daemon.ask(&["apply", &path.to_string_lossy(), "--flows", "flush"]);
    assert_eq!(daemon.ask(&["conntrack", "count"]).trim(), "0");
    daemon.stop();
}

#[test]
fn a_bad_policy_is_refused_whole() {
    let lab = Lab::new();
    let daemon = Daemon::start(&lab, &SystemFile::default(), BORDER);
    let bad = BORDER.replace("in: inside", "in: insde").replace("dport: 80", "dport: 80000");
    let path = lab.write("bad.yaml", &bad);
    let out = daemon.sluice(&["apply", &path.to_string_lossy()]);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out));
    let said = text(&out);
    assert!(said.contains("bad.yaml:") && said.contains("insde") && said.contains("inside"), "{said}");
    assert!(said.contains("80000"), "all errors at once: {said}");
    lab.must("client", &["ping", "-q", "-c", "1", "10.2.0.2"]);
    // What there is not is said, and refused: never half applied.
    let helper =
        format!("{BORDER}mangle: {{prerouting: [{{proto: tcp, dport: 1720, action: {{helper: h323}}}}]}}\n");
    let path = lab.write("helper.yaml", &helper);
    let out = daemon.sluice(&["apply", &path.to_string_lossy()]);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out));
    assert!(text(&out).contains("helper"), "{}", text(&out));
    daemon.stop();
}

#[test]
fn log_and_limit() {
    let lab = Lab::new();
    let policy = r#"
filter:
  forward:
    policy: accept
    rules:
      - {proto: icmp, icmp: echo-request, limit: {rate: 1/second, burst: 3}, action: {log: {prefix: "ping "}}}
"#;
    let daemon = Daemon::start(&lab, &SystemFile::default(), policy);
    lab.must("client", &["ping", "-q", "-c", "20", "-i", "0.01", "10.2.0.2"]);
    daemon.wait_for_log("ping IN=lan OUT=wan");
    let lines = daemon.log().lines().filter(|l| l.contains("ping IN=lan")).count();
    assert!((3..=4).contains(&lines), "{lines} lines:\n{}", daemon.log());
    assert!(daemon.log().contains("SRC=10.1.0.2 DST=10.2.0.2"), "{}", daemon.log());
    daemon.stop();
}

#[test]
fn live_flows_are_kept_or_rechecked() {
    let lab = Lab::new();
    let _server = lab.iperf3("server");
    let daemon = Daemon::start(&lab, &SystemFile::workers(2), BORDER);
    lab.must("client", &["ping", "-q", "-c", "1", "10.2.0.2"]);
    let mut transfer = lab.spawn("client", &["iperf3", "-c", "10.2.0.2", "-t", "30"]);
    let live = || daemon.ask(&["conntrack", "list", "-p", "tcp", "--dport", "5201", "-u", "ASSURED"]);
    daemon.wait_until(|| live().lines().count() == 2);
    let next = r"
filter:
  forward:
    policy: drop
    rules: [{ct: established, action: accept}, {proto: icmp, action: accept}]
";
    let next = lab.write("established.yaml", next).to_string_lossy().into_owned();
    let ahead = daemon.ask(&["diff", &next]);
    let expected = "3 flows: the next packets of 0 would be dropped, --flows recheck would delete 2";
    assert!(ahead.contains(expected), "{ahead}");
    daemon.ask(&["apply", &next]);
    assert_eq!(live().lines().count(), 2, "kept, and going on");
    assert_eq!(transfer.wait(Duration::from_millis(300)), None);
    let out = daemon.sluice(&["apply", &next, "--flows", "recheck"]);
    let said = text(&out);
    assert!(
        said.contains("3 flows: 2 will be deleted") && said.contains("1 flows kept, 2 deleted"),
        "{said}"
    );
    assert_eq!(live(), "", "cut, and not picked up again");
    assert_eq!(daemon.ask(&["conntrack", "count"]).trim(), "1", "the ping's flow is left");
    let nothing = lab.write("nothing.yaml", "filter: {forward: {policy: drop, rules: []}}\n");
    let ahead = daemon.ask(&["--json", "apply", "--dry-run", &nothing.to_string_lossy()]);
    assert!(ahead.contains(r#""flows":{"live":1,"examined":1,"refused":1,"stopped":1}"#), "{ahead}");
    daemon.stop();
}

/// A web server whose port 80 is NOTRACK sends to a host behind a narrow link, beyond the client.
#[test]
fn path_mtu_discovery_without_tracking() {
    let lab = Lab::new();
    let _far = Far::new(&lab);
    let _nginx = lab.nginx("server");
    std::fs::write(lab.dir().join("nginx-server/www/big"), vec![b'x'; 1 << 20]).unwrap();
    let policy = |action: &str| {
        format!(
            r"
raw:
  prerouting:
    - {{dport: 80, action: {action}}}
    - {{sport: 80, action: {action}}}
filter:
  forward:
    policy: drop
    rules:
      - {{ct: invalid, action: drop, name: invalid}}
      - {{ct: related, action: accept, name: related}}
      - {{ct: untracked, dport: 80, in: lan, action: accept}}
      - {{ct: untracked, sport: 80, in: wan, action: accept}}
"
        )
    };
    let more =
        "routes:\n  - {to: 10.9.0.0/24, via: 10.1.0.2}\n  - {to: \"fd00:9::/64\", via: \"fd00:1::2\"}\n";
    let system = SystemFile { more: more.into(), ..SystemFile::workers(2) };
    let daemon = Daemon::start(&lab, &system, &policy("notrack"));
    let fetched = |url: &str| {
        let out = lab.run(
            "client",
            &["ip", "netns", "exec", &Far::ns(&lab), "curl", "-sgm", "2", url, "-o", "/dev/null"],
        );
        out.status.success()
    };
    let urls = ["http://10.2.0.2/big", "http://[fd00:2::2]/big"];
    for url in urls {
        assert!(!fetched(url), "{url}: as with netfilter, errors about NOTRACK packets are INVALID");
    }
    let rule = |rule: &str| daemon.metrics().sum("sluice_rule_packets_total", &[&format!("rule=\"{rule}\"")]);
    assert!(rule("invalid") > 0 && rule("related") == 0);
    daemon.apply(&policy("{notrack: {related: true}}"));
    for url in urls {
        assert!(fetched(url), "{url}: {}", daemon.ask(&["show", "rules"]));
    }
    assert!(rule("related") > 0);
    assert_eq!(daemon.ask(&["conntrack", "list", "-p", "tcp"]), "");
    daemon.stop();
}

/// A host behind the client, whose link there takes 1400 bytes in the direction of the host.
struct Far(String);

impl Far {
    fn ns(lab: &Lab) -> String {
        lab.ns("far")
    }

    fn new(lab: &Lab) -> Far {
        let (far, client) = (Far::ns(lab), lab.ns("client"));
        let run = |line: &str| {
            let argv: Vec<&str> = line.split_whitespace().collect();
            let out = std::process::Command::new("ip").args(&argv).output().expect("ip (iproute2)");
            assert!(out.status.success(), "ip {line}: {}", text(&out));
        };
        run(&format!("netns add {far}"));
        let guard = Far(far.clone());
        run(&format!("link add far0 netns {client} mtu 1400 type veth peer name eth0 netns {far}"));
        for (ns, dev, host) in [(&client, "far0", 1), (&far, "eth0", 2)] {
            run(&format!("-n {ns} addr add 10.9.0.{host}/24 dev {dev}"));
            run(&format!("-n {ns} addr add fd00:9::{host}/64 dev {dev} nodad"));
            run(&format!("-n {ns} link set {dev} up"));
        }
        run(&format!("-n {far} link set eth0 mtu 1500"));
        run(&format!("-n {far} route add default via 10.9.0.1"));
        run(&format!("-n {far} route add default via fd00:9::1"));
        for switch in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
            lab.must("client", &["sysctl", "-qw", switch]);
        }
        guard
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

/// Opens connections to the web server, closes one of those it gets, and opens two more.
const CONNECTIONS: &str = r#"
import socket, time
def opened(address):
    s = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET)
    s.settimeout(2)
    try:
        s.connect((address, 80))
        return s
    except ConnectionRefusedError:
        return None
def answers(s):
    s.sendall(b'HEAD / HTTP/1.1\r\nHost: x\r\n\r\n')
    return s.recv(99).startswith(b'HTTP/1.1 200')
for address in ('10.2.0.2', 'fd00:2::2'):
    have = [opened(address) for _ in range(5)]
    print([s is not None for s in have])
    have = [s for s in have if s]
    have.pop().close()
    time.sleep(0.3)
    have += [opened(address), opened(address)]
    print([s is not None for s in have], [answers(s) for s in have if s])
"#;

#[test]
fn a_client_has_as_many_connections_as_connlimit_lets_it() {
    let lab = Lab::new();
    let _nginx = lab.nginx("server");
    let limit = "{name: few, proto: tcp, dport: 80, ct: new, connlimit: {above: 3, per: src}, action: {reject: tcp-reset}}";
    let policy = |rules: &str| format!("filter: {{forward: [{rules}{limit}]}}\n");
    let daemon = Daemon::start(&lab, &SystemFile::workers(2), &policy(""));
    let three = "[True, True, True, False, False]\n[True, True, True, False] [True, True, True]\n";
    assert_eq!(lab.python("client", CONNECTIONS), three.repeat(2));
    assert_eq!(daemon.metrics().sum("sluice_rule_packets_total", &["rule=\"few\""]), 6);
    // What it closed is not counted; what it has open is, also by another policy with the same rule.
    let hold = "import socket, time\ns = socket.create_connection(('10.2.0.2', 80))\ntime.sleep(60)";
    let _open = lab.spawn("client", &["python3", "-c", hold]);
    let established = ["conntrack", "list", "-p", "tcp", "--state", "ESTABLISHED"];
    daemon.wait_until(|| daemon.ask(&established).contains("dport=80"));
    daemon.apply(&policy("{action: count}, "));
    let opened = lab.python("client", CONNECTIONS);
    assert!(opened.starts_with("[True, True, False, False, False]\n"), "{opened}");
    daemon.assert_adds_up();
    daemon.stop();
}
