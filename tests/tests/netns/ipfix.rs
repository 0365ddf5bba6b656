//! Flows told to a collector: nfdump's nfcapd hears of their beginnings and ends, and of translations.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use sluice_tests::{Daemon, Lab, SystemFile};

const POLICY: &str = "nat: {postrouting: [{out: wan, proto: tcp, action: {masquerade: {port: 7000-7001}}}]}\n\
    filter: {forward: {policy: accept, rules: []}}\n";

#[test]
fn a_collector_hears_of_flows_as_they_begin_and_end() {
    let lab = Lab::new();
    let _nginx = lab.nginx("server");
    let folder = lab.dir().join("flows");
    std::fs::create_dir(&folder).expect("folder");
    let flows = folder.to_string_lossy().into_owned();
    let mut collector = lab.spawn("server", &["nfcapd", "-w", &flows, "-p", "4739", "-t", "3600"]);
    let system = SystemFile {
        more: "ipfix: {collector: \"10.2.0.2:4739\", domain: 7, templates: 1}\n\
               conntrack: {acct: true, timestamp: true}\n"
            .into(),
        ..SystemFile::workers(2)
    };
    let daemon = Daemon::start(&lab, &SystemFile::workers(2), POLICY);
    lab.write("sluice.yaml", &system.text(&lab));
    assert!(daemon.ask(&["reload"]).contains("ipfix"), "{}", daemon.log());
    let told = |name: &str| daemon.metrics().sum(&format!("sluice_ipfix_{name}_total"), &[]);
    // The collector's address is found, and it has the templates.
    daemon.wait_until(|| told("messages") >= 3);
    lab.must("client", &["curl", "-sSf", "-m", "5", "-o", "/dev/null", "http://10.2.0.2/"]);
    lab.must("client", &["ping", "-q", "-c", "1", "10.2.0.2"]);
    daemon.ask(&["conntrack", "delete", "-p", "tcp"]);
    daemon.ask(&["conntrack", "delete", "-p", "icmp"]);
    // Two beginnings, two ends; whether that of the flow to the collector is told too depends on what came first.
    daemon.wait_until(|| told("records") >= 4);
    // A fourth may have been that one, and what was sent is there a moment later.
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(told("lost"), 0);
    collector.signal(Signal::SIGTERM);
    assert_eq!(collector.wait(Duration::from_secs(10)), Some(0), "{}", collector.log());
    assert!(!collector.log().contains("Sequence failures: 1"), "{}", collector.log());

    let text = lab.must("server", &["nfdump", "-q", "-R", &flows, "-o", "json"]);
    let all: Vec<Value> =
        serde_json::from_str(&format!("[{text}]")).unwrap_or_else(|e| panic!("{e}: {text}"));
    let of = |proto: u64| {
        let events: Vec<&Value> = all.iter().filter(|flow| flow["proto"] == proto).collect();
        assert!(events.len() >= 2, "protocol {proto}: {text}");
        events
    };
    for event in of(6) {
        assert_eq!(event["src4_addr"], "10.1.0.2", "{event}");
        assert_eq!(event["dst4_addr"], "10.2.0.2", "{event}");
        assert_eq!(event["dst_port"], 80, "{event}");
        assert_eq!(event["src4_xlt_ip"], "10.2.0.1", "{event}");
        assert!(["7000", "7001"].iter().any(|port| event["src_xlt_port"] == *port), "{event}");
    }
    let pings = of(1);
    assert!(pings.iter().all(|event| event["icmp_type"] == 8 && event["nat_event_id"] != "4"), "{text}");
    let counted = of(6).iter().any(|event| event["nat_event_id"] == "5" && event["in_packets"] != 0);
    assert!(counted, "an end with packets: {text}");
    lab.write("sluice.yaml", &SystemFile::workers(2).text(&lab));
    daemon.ask(&["reload"]);
    assert!(!daemon.metrics().has("sluice_ipfix_records_total"), "nobody is told any more");
    daemon.stop();
}
