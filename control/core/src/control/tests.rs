//! The daemon without a data plane: workers that answer as real ones do, asked over the API's socket.

use std::collections::BTreeSet;
use std::fs;
use std::thread;

use crossbeam_channel::{Sender, bounded, unbounded};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use sluice_api as api;
use sluice_engine::conntrack::{FlowId, FlowRecord, Status, TupleRecord, TupleTransport, Zone};
use sluice_engine::ids::Millis;
use sluice_engine::message::Cursor;
use sluice_engine::world::World;
use sluice_wire::{Family, Protocol};
use tokio::net::UnixStream;

use super::*;
use crate::api::ApiSocket;

mod remote;

const WORKERS: usize = 2;
const FLOWS: u64 = 150;
const ACCEPT: &str = "filter: {forward: [{proto: tcp, action: accept, name: web}]}\n";
const DROP: &str = "filter: {forward: {policy: drop, rules: [{proto: tcp, action: accept, name: web}]}}\n";

/// A worker with `FLOWS` flows that runs on what it is sent.
fn worker(id: WorkerId, mut world: Arc<World>, events: Sender<Event>) -> Sender<Command> {
    let (sender, commands) = bounded(4);
    thread::spawn(move || {
        let mut flows = FLOWS;
        for command in commands {
            let event = match command {
                Command::Adopt(new) => {
                    let generation = new.generation;
                    Event::Adopted { worker: id, generation, old: std::mem::replace(&mut world, new) }
                }
                Command::List { request, cursor, mut batch, .. } => {
                    let end = (cursor.0 + batch.capacity() as u64).min(flows);
                    batch.extend((cursor.0..end).map(flow));
                    let next = (end < flows).then_some(Cursor(end));
                    Event::Listed { request, worker: id, next, batch }
                }
                Command::Delete { request, cursor, batch, .. } => {
                    let deleted = flows.min(100);
                    flows -= deleted;
                    let next = (flows > 0).then_some(Cursor(cursor.0 + deleted));
                    Event::Deleted { request, worker: id, next, deleted, batch }
                }
                Command::DeleteListed { request, flows: listed } => {
                    let deleted = listed.len() as u64;
                    flows -= deleted;
                    Event::Deleted { request, worker: id, next: None, deleted, batch: Vec::new() }
                }
                _ => continue,
            };
            if events.send(event).is_err() {
                return;
            }
        }
    });
    sender
}

pub(crate) fn flow(id: u64) -> FlowRecord {
    let tuple = TupleRecord {
        src: [10, 0, 0, 9].into(),
        dst: [192, 0, 2, 7].into(),
        transport: TupleTransport::Ports { sport: 1000, dport: 80 },
    };
    FlowRecord {
        zone: Zone::default(),
        id: FlowId(id),
        family: Family::V4,
        protocol: Protocol::TCP,
        state: Some("ESTABLISHED"),
        timeout: Millis::from_secs(432_000),
        original: tuple,
        reply: tuple,
        status: Status::ASSURED,
        mark: 0,
        helper: None,
        announced_by: None,
        ingress: None,
        accounting: None,
        start: None,
        age: None,
    }
}

struct SilentDevice;

impl Devices for SilentDevice {
    fn ports(&self) -> Vec<api::Port> {
        vec![api::Port::default()]
    }

    fn buffers(&self) -> (u32, u32) {
        (1, 2)
    }

    fn nanos(&self) -> u64 {
        0
    }

    fn cycles_per_second(&self) -> u64 {
        1
    }
}

/// A daemon in a folder of its own.
struct Daemon {
    folder: PathBuf,
    control: Arc<Control>,
}

impl Daemon {
    /// Must be called on a runtime that runs local tasks: what it spawns ends with it.
    fn start(name: &str) -> Daemon {
        let folder = std::env::temp_dir().join(format!("sluice-control-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        write_system(&folder, "[10.0.0.1/24]", "workers: {count: 2}");
        fs::write(folder.join("policy.yaml"), ACCEPT).unwrap();

        let mut boot = Boot::load(&folder.join("sluice.yaml")).unwrap();
        boot.remember();
        let kernel = Arc::new(Mutex::new(KernelInterfaces::prepare(boot.system(), false).unwrap()));
        let macs = vec![MacAddr([2, 0, 0, 0, 0, 1])];
        let launch = boot.launch(&macs, WORKERS);
        let (sender, events) = unbounded();
        let id = |worker: usize| WorkerId(worker as u8);
        let mailboxes = (0..WORKERS).map(|w| worker(id(w), launch.world.clone(), sender.clone())).collect();
        let cores = vec![0, 1];
        let control = Control::new(Parts {
            boot,
            launch,
            mailboxes,
            cores,
            macs,
            devices: Box::new(SilentDevice),
            kernel,
        });
        let socket = ApiSocket::open(&folder.join("api.sock")).unwrap();
        tokio::spawn(crate::api::serve(Arc::clone(&control), socket));
        tokio::spawn(Arc::clone(&control).serve_workers(events));
        Daemon { folder, control }
    }

    /// Status and body of an answer; a body to send makes it a POST.
    async fn ask(&self, path: &str, body: Option<&str>) -> (StatusCode, String) {
        let stream = UnixStream::connect(self.folder.join("api.sock")).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let method = if body.is_some() { "POST" } else { "GET" };
        let body = Full::new(Bytes::from(body.unwrap_or_default().to_owned()));
        let request = Request::builder().method(method).uri(path).header("host", "x").body(body).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    async fn apply(&self, text: &str, flows: api::FlowHandling) -> (StatusCode, String) {
        let name = "policy.yaml".to_owned();
        let request =
            api::ApplyRequest { name, text: text.to_owned(), flows, ..api::ApplyRequest::default() };
        self.ask("/v1/policy/apply", Some(&serde_json::to_string(&request).unwrap())).await
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn write_system(folder: &std::path::Path, addresses: &str, more: &str) {
    write_system_with(folder, addresses, "", more);
}

/// With further keys of `control`.
fn write_system_with(folder: &std::path::Path, addresses: &str, control: &str, more: &str) {
    let text = format!(
        "interfaces: {{null0: {{device: \"vdev:net_null0\", addresses: {addresses}}}}}\n\
         control: {{api: api.sock, metrics: off{control}}}\npolicy: policy.yaml\nstate: state\n{more}\n"
    );
    fs::write(folder.join("sluice.yaml"), text).unwrap();
}

fn decode<T: serde::de::DeserializeOwned>(answer: &(StatusCode, String)) -> T {
    serde_json::from_str(&answer.1).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

#[tokio::test]
async fn a_policy_is_applied_whole_or_not_at_all() {
    let daemon = Daemon::start("apply");
    let refused = daemon.apply("filter: {forwards: []}", api::FlowHandling::Keep).await;
    assert_eq!(refused.0, StatusCode::UNPROCESSABLE_ENTITY);
    let error: api::ApiError = decode(&refused);
    assert_eq!((error.diagnostics[0].line, error.diagnostics[0].column), (1, 10));
    assert_eq!(daemon.control.publisher.world().generation, Generation(1));

    let applied: api::ApplyReply = decode(&daemon.apply(DROP, api::FlowHandling::Keep).await);
    assert_eq!((applied.generation, applied.rules, applied.flows_deleted), (2, 1, 0));
    let progress = daemon.control.publisher.progress();
    assert!(progress.iter().all(|adopted| adopted.generation == Generation(2)), "{progress:?}");
    let policy: api::PolicyView = decode(&daemon.ask("/v1/policy", None).await);
    assert_eq!((policy.text.as_str(), policy.digest), (DROP, applied.digest));
    let history: Vec<api::HistoryEntry> = decode(&daemon.ask("/v1/history", None).await);
    assert_eq!(history.len(), 2);

    let applied: api::ApplyReply = decode(&daemon.apply(ACCEPT, api::FlowHandling::Flush).await);
    assert_eq!((applied.generation, applied.flows_deleted), (3, WORKERS as u64 * FLOWS));
}

#[tokio::test]
async fn flows_are_counted_before_a_policy_and_cut_behind_it() {
    const NO_TCP: &str = "filter: {forward: {policy: drop, rules: [{proto: udp, action: accept}]}}\n";
    const OLD_TCP: &str =
        "filter: {forward: {policy: drop, rules: [{proto: tcp, ct: established, action: accept}]}}\n";
    let daemon = Daemon::start("recheck");
    let live = WORKERS as u64 * FLOWS;
    for (policy, refused, stopped) in [(ACCEPT, 0, 0), (NO_TCP, live, live), (OLD_TCP, live, live)] {
        let request = api::ApplyRequest { text: policy.to_owned(), ..api::ApplyRequest::default() };
        let request = serde_json::to_string(&request).unwrap();
        let diff: api::PolicyDiff = decode(&daemon.ask("/v1/policy/diff", Some(&request)).await);
        let flows = api::FlowsAhead { live, examined: live, refused, stopped };
        assert_eq!(diff.flows, flows, "{policy}: a flow that was never answered is NEW for ever");
    }
    assert_eq!(daemon.control.publisher.world().generation, Generation(1));
    for (policy, deleted) in [(ACCEPT, 0), (NO_TCP, live)] {
        let applied: api::ApplyReply = decode(&daemon.apply(policy, api::FlowHandling::Recheck).await);
        assert_eq!(applied.flows_deleted, deleted, "{policy}");
    }
}

#[tokio::test]
async fn a_diff_says_what_differs() {
    let daemon = Daemon::start("diff");
    let request = api::ApplyRequest { text: DROP.to_owned(), ..api::ApplyRequest::default() };
    let request = serde_json::to_string(&request).unwrap();
    let diff: api::PolicyDiff = decode(&daemon.ask("/v1/policy/diff", Some(&request)).await);
    let [change] = diff.changes.as_slice() else { panic!("{diff:?}") };
    assert_eq!((change.place.as_str(), change.kind.as_str()), ("filter.forward", "changed"));
    assert_eq!((change.before.as_deref(), change.text.as_str()), (Some("policy: accept"), "policy: drop"));
}

#[tokio::test]
async fn a_policy_is_confirmed_or_gone_back_from() {
    let daemon = Daemon::start("confirm");
    let ask = |path: &'static str, body: &'static str| daemon.ask(path, Some(body));
    let text = async || decode::<api::PolicyView>(&daemon.ask("/v1/policy", None).await).text;
    let with = |confirm: u64| {
        let name = "policy.yaml".to_owned();
        let confirm = Some(confirm);
        let request = api::ApplyRequest { name, text: DROP.to_owned(), confirm, ..Default::default() };
        serde_json::to_string(&request).unwrap()
    };
    for (confirm, status) in
        [(0, StatusCode::UNPROCESSABLE_ENTITY), (86_401, StatusCode::UNPROCESSABLE_ENTITY)]
    {
        assert_eq!(daemon.ask("/v1/policy/apply", Some(&with(confirm))).await.0, status);
    }
    assert_eq!(ask("/v1/policy/confirm", "").await.0, StatusCode::CONFLICT);

    let applied: api::ApplyReply = decode(&daemon.ask("/v1/policy/apply", Some(&with(1))).await);
    assert_eq!((applied.confirm, text().await.as_str()), (Some(1), DROP));
    assert_eq!(daemon.apply(ACCEPT, api::FlowHandling::Keep).await.0, StatusCode::CONFLICT, "one waits");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(text().await, ACCEPT, "by itself");

    daemon.ask("/v1/policy/apply", Some(&with(600))).await;
    let back: api::ApplyReply = decode(&ask("/v1/policy/rollback", "{}").await);
    assert_eq!((back.confirm, text().await.as_str()), (None, ACCEPT), "without waiting");

    daemon.ask("/v1/policy/apply", Some(&with(600))).await;
    let confirmed: api::ConfirmReply = decode(&ask("/v1/policy/confirm", "").await);
    assert!((590..=600).contains(&confirmed.left));
    let history: Vec<api::HistoryEntry> = decode(&daemon.ask("/v1/history", None).await);
    let list: Vec<bool> = history.iter().map(|entry| entry.confirmed).collect();
    assert_eq!(list, [true, true, false, true, false, true]);
    ask("/v1/policy/rollback", "{}").await;
    assert_eq!(text().await, ACCEPT, "the latest other one that was confirmed");
    ask("/v1/policy/rollback", r#"{"index": 1}"#).await;
    assert_eq!(text().await, DROP);
    assert_eq!(ask("/v1/policy/rollback", r#"{"index": 99}"#).await.0, StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_set_changes_without_a_policy_until_one_defines_it_differently() {
    let daemon = Daemon::start("set");
    let of = async || decode::<api::Set>(&daemon.ask("/v1/sets/m", None).await).elements;
    let change = async |action, elements: &[&str]| {
        let elements = elements.iter().map(ToString::to_string).collect();
        let change = api::SetChange { name: "m".into(), action, elements };
        daemon.ask("/v1/sets", Some(&serde_json::to_string(&change).unwrap())).await
    };
    let no = StatusCode::UNPROCESSABLE_ENTITY;
    assert_eq!(change(api::SetAction::Add, &["10.0.0.9"]).await.0, no, "no such set");
    assert_eq!(daemon.ask("/v1/sets/m", None).await.0, StatusCode::NOT_FOUND);
    daemon.apply(&with_set("10.0.0.1, 10.1.0.0/16", ""), api::FlowHandling::Keep).await;

    let added: api::SetReply = decode(&change(api::SetAction::Add, &["10.0.0.9", "10.0.0.1"]).await);
    assert_eq!(added, api::SetReply { generation: 3, elements: 3, added: 1, removed: 0 });
    for wrong in ["10.0.0.300", "10.0.0.7"] {
        let refused = change(api::SetAction::Del, &["10.0.0.1", wrong]).await;
        assert!(refused.0 == no && refused.1.contains(wrong), "{refused:?}");
    }
    let gone: api::SetReply = decode(&change(api::SetAction::Del, &["10.1.0.0-10.1.255.255"]).await);
    assert_eq!((gone.elements, gone.removed), (2, 1));
    assert_eq!(of().await, ["10.0.0.1", "10.0.0.9"]);
    let list: Vec<api::Set> = decode(&daemon.ask("/v1/sets", None).await);
    assert!(list[0].changed && list[0].count == 2);

    daemon.apply(&with_set("10.1.0.0/16, 10.0.0.1", "# the same\n"), api::FlowHandling::Keep).await;
    assert_eq!(of().await.len(), 2, "defined as before: what was changed stays");
    let other: api::ApplyReply =
        decode(&daemon.apply(&with_set("10.0.0.1", ""), api::FlowHandling::Keep).await);
    assert_eq!((of().await, other.sets_reset), (vec!["10.0.0.1".to_owned()], vec!["m".to_owned()]));
    daemon.apply(&with_set("10.1.0.0/16, 10.0.0.1", ""), api::FlowHandling::Keep).await;
    assert_eq!(of().await, ["10.1.0.0/16", "10.0.0.1"], "and what was changed is forgotten");
}

#[tokio::test]
async fn a_set_is_as_it_was_changed_behind_the_way_back() {
    let daemon = Daemon::start("set-back");
    let of = async || decode::<api::Set>(&daemon.ask("/v1/sets/m", None).await).elements;
    daemon.apply(&with_set("10.0.0.1", ""), api::FlowHandling::Keep).await;
    let change = async |element: &str| {
        let change =
            api::SetChange { name: "m".into(), action: api::SetAction::Add, elements: vec![element.into()] };
        let changed: api::SetReply =
            decode(&daemon.ask("/v1/sets", Some(&serde_json::to_string(&change).unwrap())).await);
        assert_eq!(changed.added, 1);
    };
    change("10.0.0.2").await;
    let text = with_set("10.9.0.1", "");
    let request = api::ApplyRequest { text, confirm: Some(600), ..Default::default() };
    let request = serde_json::to_string(&request).unwrap();
    daemon.ask("/v1/policy/apply", Some(&request)).await;
    assert_eq!(of().await, ["10.9.0.1"]);
    change("10.9.0.2").await;
    daemon.ask("/v1/policy/rollback", Some("{}")).await;
    assert_eq!(of().await, ["10.0.0.1", "10.0.0.2"], "the change waited for the way back");
    daemon.ask("/v1/policy/apply", Some(&request)).await;
    assert_eq!(of().await, ["10.9.0.1"], "what was changed in what nobody confirmed is gone");
    daemon.ask("/v1/policy/confirm", Some("")).await;
    daemon.apply(&with_set("10.0.0.1", ""), api::FlowHandling::Keep).await;
    assert_eq!(of().await, ["10.0.0.1"], "confirmed: the change ended");
}

#[tokio::test]
async fn a_packet_is_explained_by_the_policy_that_runs() {
    let daemon = Daemon::start("explain");
    daemon.apply(&with_set("10.0.0.1", ""), api::FlowHandling::Keep).await;
    let interfaces: Vec<api::Interface> = decode(&daemon.ask("/v1/interfaces", None).await);
    let name = &interfaces[0].name;
    let ask = |packet: serde_json::Value| {
        let packet = packet.as_object().unwrap().clone().into_iter().collect();
        serde_json::to_string(&api::ExplainRequest { packet }).unwrap()
    };
    let packet =
        serde_json::json!({"in": name, "out": name, "src": "10.0.0.1", "dst": "10.9.0.1", "proto": "udp"});
    let told: api::Explanation = decode(&daemon.ask("/v1/explain", Some(&ask(packet))).await);
    assert_eq!((told.verdict.as_str(), told.by.as_str()), ("drop", "rule in line 2 at filter.forward"));
    for (packet, named) in [
        (serde_json::json!({"in": "nowhere", "dst": "10.0.0.1"}), "there is no interface nowhere"),
        (serde_json::json!({"in": name, "dport": "x"}), "dport"),
        (serde_json::json!({"inn": name}), "`in`"),
    ] {
        let refused = daemon.ask("/v1/explain", Some(&ask(packet))).await;
        assert!(refused.0 == StatusCode::UNPROCESSABLE_ENTITY && refused.1.contains(named), "{refused:?}");
    }
}

/// A policy that drops what comes from a set.
fn with_set(elements: &str, rest: &str) -> String {
    format!(
        "sets: {{m: {{type: net, elements: [{elements}]}}}}\nfilter: {{forward: [{{src: \"@m\", action: drop}}]}}\n{rest}"
    )
}

#[tokio::test]
async fn flows_of_all_workers_are_listed_line_by_line() {
    let daemon = Daemon::start("list");
    let (status, text) = daemon.ask("/v1/conntrack/list", Some("{}")).await;
    assert_eq!(status, StatusCode::OK);
    let lines: Vec<api::ListLine> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (end, flows) = lines.split_last().unwrap();
    let all = WORKERS * FLOWS as usize;
    assert_eq!((end, flows.len()), (&api::ListLine::End(api::ListEnd { flows: all as u64 }), all));
    let api::ListLine::Flow(last) = &flows[all - 1] else { panic!("{flows:?}") };
    assert_eq!((last.worker, last.proto.as_str(), last.original.dport), (1, "tcp", Some(80)));

    let (status, text) = daemon.ask("/v1/conntrack/list", Some(r#"{"proto": "tpc"}"#)).await;
    assert_eq!((status, text.contains("tpc")), (StatusCode::BAD_REQUEST, true));
    let deleted: api::Deleted = decode(&daemon.ask("/v1/conntrack/flush", Some("")).await);
    assert_eq!(deleted.deleted, all as u64);
}

#[tokio::test]
async fn a_reload_takes_what_can_change_and_names_what_cannot() {
    let daemon = Daemon::start("reload");
    let nothing: api::ReloadReply = decode(&daemon.ask("/v1/reload", Some("")).await);
    assert_eq!((nothing.changed.len(), nothing.policy_applied, nothing.generation), (0, false, 1));

    write_system(&daemon.folder, "[10.0.0.1/24, 10.0.1.1/24]", "workers: {count: 2}");
    fs::write(daemon.folder.join("policy.yaml"), DROP).unwrap();
    let reply: api::ReloadReply = decode(&daemon.ask("/v1/reload", Some("")).await);
    assert_eq!((reply.changed, reply.policy_applied), (vec!["interfaces.null0.addresses".to_owned()], true));
    let interfaces: Vec<api::Interface> = decode(&daemon.ask("/v1/interfaces", None).await);
    assert!(interfaces[0].addresses.contains(&"10.0.1.1/24".to_owned()));

    write_system(&daemon.folder, "[10.0.0.1/24]", "workers: {count: 1}");
    let refused = daemon.ask("/v1/reload", Some("")).await;
    assert_eq!(refused.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.1.contains("workers cannot change while running"), "{}", refused.1);

    fs::write(daemon.folder.join("sluice.yaml"), "interfaces: 7").unwrap();
    let refused: api::ApiError = decode(&daemon.ask("/v1/reload", Some("")).await);
    assert!(!refused.diagnostics.is_empty());
    assert_eq!(daemon.control.publisher.world().interfaces.iter().next().unwrap().1.addresses.len(), 2);
}

#[tokio::test]
async fn every_question_is_answered() {
    let daemon = Daemon::start("show");
    let paths = "status policy history rules interfaces routes neighbours workers drops sets config conntrack/count \
                 conntrack/stats";
    for path in paths.split_whitespace() {
        let (status, text) = daemon.ask(&format!("/v1/{path}"), None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
    }
    let rules: Vec<api::Rule> = decode(&daemon.ask("/v1/rules", None).await);
    assert_eq!((rules[0].chain.as_str(), rules[0].name.as_deref()), ("forward", Some("web")));
    assert_eq!((rules.len(), rules[1].text.as_str(), rules[1].index), (2, "policy: accept", 2));
    let (status, text) = daemon.ask("/v1/nothing", None).await;
    assert_eq!((status, text.contains("no such endpoint")), (StatusCode::NOT_FOUND, true));
    let (status, _) = daemon.ask("/v1/policy/apply", Some("not json")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_socket_is_for_root_and_its_group_and_takes_the_place_of_a_stale_one() {
    use std::os::unix::fs::PermissionsExt;

    let daemon = Daemon::start("socket");
    let path = daemon.folder.join("api.sock");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    assert!(ApiSocket::open(&path).err().unwrap().to_string().ends_with("in use by another sluiced"));
    let stale = daemon.folder.join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(ApiSocket::open(&stale).is_ok());
    let file = daemon.folder.join("sluice.yaml");
    assert!(ApiSocket::open(&file).err().unwrap().to_string().ends_with("that is no socket"));
}

#[tokio::test]
async fn metrics_have_the_names_that_dashboards_hold_on_to() {
    let daemon = Daemon::start("metrics");
    let counters = &daemon.control.counters[1];
    counters.interfaces[0].rx_packets.add(7);
    counters.states.new.add(3);
    let text = crate::metrics::text(&daemon.control).unwrap();
    let expected = [
        "sluice_rx_packets_total{interface=\"null0\",queue=\"1\"} 7",
        "sluice_forwarded_packets_total{interface=\"null0\",worker=\"0\"} 0",
        "sluice_delivered_packets_total{interface=\"null0\",worker=\"0\"} 0",
        "sluice_answered_packets_total{interface=\"null0\",worker=\"0\"} 0",
        "sluice_consumed_packets_total{interface=\"null0\",worker=\"0\"} 0",
        "sluice_local_tx_packets_total{interface=\"null0\",worker=\"0\"} 0",
        "sluice_drops_total{reason=\"policy_forward\",worker=\"0\"} 0",
        "sluice_held_packets{worker=\"0\"} 0",
        "sluice_conntrack_packets_total{state=\"new\"} 3",
        "sluice_conntrack_packets_total{state=\"untracked\"} 0",
        "sluice_rule_packets_total{table=\"filter\",chain=\"forward\",rule=\"web\"} 0",
        "sluice_rule_bytes_total{table=\"filter\",chain=\"forward\",rule=\"web\"} 0",
        "sluice_conntrack_entries 0",
        "sluice_conntrack_max 262144",
        "sluice_conntrack_early_drop_total{worker=\"1\"} 0",
        "sluice_conntrack_search_restart_total{worker=\"0\"} 0",
        "sluice_conntrack_flows{protocol=\"tcp\",state=\"established\"} 0",
        "sluice_conntrack_new_flows_total 0",
        "sluice_worker_busy_cycles_total{worker=\"0\"} 0",
        "sluice_worker_idle_cycles_total{worker=\"0\"} 0",
        "sluice_worker_cycles_per_packet{worker=\"0\"} 0",
        "sluice_worker_packets_per_poll{worker=\"0\"} 0",
        "sluice_worker_handed_over_packets_total{worker=\"0\"} 0",
        "sluice_policy_generation 1",
        "sluice_policy_last_reload_success 1",
    ];
    let lines: Vec<&str> = text.lines().collect();
    for line in expected {
        assert!(lines.contains(&line), "{line} is not in\n{text}");
    }
    for name in ["sluice_policy_last_reload_timestamp_seconds ", "sluice_policy_compile_seconds "] {
        assert!(lines.iter().any(|line| line.starts_with(name)), "{name}");
    }
}

#[tokio::test]
async fn every_metric_is_in_the_documentation_and_the_other_way_round() {
    let daemon = Daemon::start("documented");
    daemon.apply("nat: {postrouting: [{action: masquerade, name: out}]}", api::FlowHandling::Keep).await;
    let pool = |protocol| crate::nat_pools::Used { protocol, ..crate::nat_pools::Used::default() };
    locked(&daemon.control.pool_use).pools = vec![pool("tcp"), pool("udp")];
    let told = crate::metrics::text(&daemon.control).unwrap();
    let told: BTreeSet<&str> =
        told.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let page = fs::read_to_string(path).unwrap();
    // The first column of each table.
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let described: BTreeSet<&str> =
        rows.flat_map(|row| row.split(['`', ' '])).filter(|w| !w.is_empty()).collect();
    // These are told only while there is a collector, and compared where a test has one.
    let described: BTreeSet<&str> =
        described.into_iter().filter(|name| !name.starts_with("sluice_ipfix_")).collect();
    assert_eq!(told, described);
}

#[tokio::test]
async fn a_neighbour_that_workers_miss_is_asked_for_and_published() {
    use sluice_engine::world::{NeighbourKey, NeighbourState};
    use sluice_wire::build::arp_reply;
    use sluice_wire::{Arp, ArpOperation, LinkCast};

    let daemon = Daemon::start("neighbour");
    let key = NeighbourKey { interface: sluice_engine::ids::InterfaceId(0), address: [10, 0, 0, 9].into() };
    daemon.control.handle(Event::Resolve(key));
    let asked = Arp {
        vlan: None,
        cast: LinkCast::Broadcast,
        operation: ArpOperation::Request,
        sender_mac: daemon.control.macs[0],
        sender: [10, 0, 0, 1].into(),
        target_mac: MacAddr::ZERO,
        target: [10, 0, 0, 9].into(),
    };
    let host = MacAddr([2, 0, 0, 0, 0, 9]);
    let mut frame = [0; 64];
    let len = arp_reply(&mut frame, host, &asked).unwrap();
    let frame = sluice_engine::message::PuntedFrame::new(&frame[..len]).unwrap();
    daemon.control.handle(Event::Punted { interface: key.interface, frame });
    daemon.control.neighbour_work();
    let known = async {
        loop {
            let world = daemon.control.publisher.world();
            if world.neighbours.get(&key).is_some_and(|n| n.state == NeighbourState::Reachable(host)) {
                return world.generation;
            }
            tokio::task::yield_now().await;
        }
    };
    let generation = tokio::time::timeout(Duration::from_secs(5), known).await.unwrap();
    assert_eq!(generation, Generation(1), "flows need not be judged again for a MAC address");
}
