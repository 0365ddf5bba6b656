//! Remote control: who is let in, what they may do then, and what becomes of those who are not.

use std::net::SocketAddr;

use rustls::pki_types::ServerName;
use sluice_certificates::{Authority, ClientFiles, Identity, Kind, Lifetime, Role, client_config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::actor::Peer;
use crate::api::remote::client;
use crate::api::{router, serve_remote};
use crate::remote::Arrived;

const YEAR: Lifetime = Lifetime(365);

impl Daemon {
    /// A client whose certificate was found good, before control.
    fn connect(&self, role: Option<Role>) -> DuplexStream {
        let identity =
            Identity { name: "alice".into(), role, serial: "01".into(), not_before: 0, not_after: i64::MAX };
        let peer = Peer { identity, address: SocketAddr::from(([192, 0, 2, 7], 1)) };
        let (ours, theirs) = duplex(1 << 20);
        let refusals = Arc::clone(&locked(&self.control.remote).limits.refusals);
        let arrived = Arrived { peer: Arc::new(peer), stream: theirs };
        tokio::spawn(client(router(Arc::clone(&self.control)), arrived, refusals));
        ours
    }

    /// What comes back for these bytes, to the end.
    async fn send(&self, role: Option<Role>, bytes: &[u8]) -> String {
        let mut stream = self.connect(role);
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn refused(&self, reason: &str) -> u64 {
        let limits = Arc::clone(&locked(&self.control.remote).limits);
        limits.refusals.all().find(|(label, _)| *label == reason).map(|(_, count)| count).unwrap()
    }
}

fn request(path: &str, headers: &str, body: Option<&str>) -> Vec<u8> {
    let method = if body.is_some() { "POST" } else { "GET" };
    let body = body.unwrap_or_default();
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

fn stamped(time: u64, number: u128) -> String {
    format!("sluice-time: {time}\r\nsluice-id: {number:032x}\r\n")
}

#[tokio::test]
async fn a_role_says_what_may_be_asked_and_a_change_is_made_once() {
    let daemon = Daemon::start("remote-roles");
    let apply =
        serde_json::to_string(&api::ApplyRequest { text: DROP.into(), ..Default::default() }).unwrap();
    let now = unix_seconds() + 1;
    let (read, write) = (Some(Role::Read), Some(Role::Write));
    let (first, second) = (stamped(now, 1), stamped(now, 2));
    let late = stamped(now - 301, 3);
    // What it shows; by whom, what and with which headers and body it is asked; status, and the reason if it is refused.
    type Case<'a> = (&'a str, Option<Role>, &'a str, &'a str, Option<&'a str>, u16, &'a str);
    let cases: [Case<'_>; 12] = [
        ("who has no role asks nothing", None, "/v1/status", "", None, 403, "no_role"),
        ("and changes nothing", None, "/v1/reload", &first, Some(""), 403, "no_role"),
        ("a reader asks", read, "/v1/rules", "", None, 200, ""),
        ("also what a policy would do", read, "/v1/policy/diff", "", Some(&apply), 200, ""),
        ("and changes nothing", read, "/v1/policy/apply", &first, Some(&apply), 403, "role"),
        ("not even flows", read, "/v1/conntrack/delete", &first, Some("{}"), 403, "role"),
        ("a change has a stamp", write, "/v1/policy/apply", "", Some(&apply), 400, "unstamped"),
        ("of now", write, "/v1/policy/apply", &late, Some(&apply), 409, "stale"),
        ("a writer changes", write, "/v1/policy/apply", &first, Some(&apply), 200, ""),
        ("once", write, "/v1/policy/apply", &first, Some(&apply), 409, "replay"),
        ("and again when asked again", write, "/v1/policy/apply", &second, Some(&apply), 200, ""),
        ("and asks", write, "/v1/status", "", None, 200, ""),
    ];
    for (what, role, path, headers, body, status, reason) in cases {
        let before = if reason.is_empty() { 0 } else { daemon.refused(reason) };
        let answer = daemon.send(role, &request(path, headers, body)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
        assert!(reason.is_empty() || daemon.refused(reason) == before + 1, "{what}: counted as {reason}");
    }
    let history: Vec<api::HistoryEntry> = decode(&daemon.ask("/v1/history", None).await);
    let by: Vec<_> = history.iter().map(|entry| entry.by.as_deref().unwrap()).collect();
    assert_eq!(by, ["alice at 192.0.2.7", "alice at 192.0.2.7", "policy file, at start"]);
    let me = nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap().name;
    daemon.apply(ACCEPT, api::FlowHandling::Keep).await;
    let history: Vec<api::HistoryEntry> = decode(&daemon.ask("/v1/history", None).await);
    assert_eq!(history[0].by.as_deref(), Some(me.as_str()));
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_before_it_is_read() {
    let daemon = Daemon::start("remote-large");
    let head = format!(
        "POST /v1/policy/diff HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        api::BODY_LIMIT + 1
    );
    let answer = daemon.send(Some(Role::Read), head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // One that does not say how large it is.
    let mut stream = daemon.connect(Some(Role::Read));
    let head = "POST /v1/policy/diff HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = [b"100000\r\n".as_slice(), &[b' '; 1 << 20], b"\r\n"].concat();
    let mut sent = 0;
    while stream.write_all(&chunk).await.is_ok() && sent < 100 {
        sent += 1;
    }
    assert!((96..100).contains(&sent), "{sent} MiB");
    assert_eq!(daemon.refused("oversized"), 2);
    let answer = daemon.send(Some(Role::Read), b"nonsense\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && daemon.refused("malformed") == 1, "{answer}");
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_is_cut_off_and_others_are_served_meanwhile() {
    let daemon = Daemon::start("remote-slow");
    let mut head = daemon.connect(Some(Role::Read));
    head.write_all(b"GET /v1/status HTT").await.unwrap();
    let mut body = daemon.connect(Some(Role::Read));
    body.write_all(b"POST /v1/policy/diff HTTP/1.1\r\nhost: x\r\ncontent-length: 90000\r\n\r\n{")
        .await
        .unwrap();
    // A second large one of the same role waits for the first, but not for long; a small one does not wait.
    let mut second = daemon.connect(Some(Role::Read));
    second
        .write_all(b"POST /v1/policy/diff HTTP/1.1\r\nhost: x\r\ncontent-length: 90000\r\n\r\n{")
        .await
        .unwrap();
    let answer = daemon.send(Some(Role::Read), &request("/v1/status", "", None)).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let mut answers = [String::new(), String::new(), String::new()];
    let [of_head, of_body, of_second] = &mut answers;
    head.read_to_string(of_head).await.unwrap();
    assert_eq!((of_head.as_str(), daemon.refused("slow")), ("", 1));
    body.read_to_string(of_body).await.unwrap();
    second.read_to_string(of_second).await.unwrap();
    assert!(of_body.starts_with("HTTP/1.1 408 "), "{of_body}");
    assert!(of_second.starts_with("HTTP/1.1 503 "), "{of_second}");
    assert_eq!((daemon.refused("slow"), daemon.refused("busy")), (2, 1));
}

/// Certificates of everyone, and a daemon that is served with them.
struct Certified {
    daemon: Daemon,
    authority: Authority,
}

impl Certified {
    async fn start(name: &str) -> Certified {
        let daemon = Daemon::start(name);
        let folder = daemon.folder.join("tls");
        let authority = Authority::init(&folder, "Test", YEAR).unwrap();
        authority.issue("server", &Kind::Server(vec!["127.0.0.1".into()]), YEAR).unwrap();
        for (name, role) in [("alice", Role::Write), ("bob", Role::Read)] {
            authority.issue(name, &Kind::Client(role), YEAR).unwrap();
        }
        tokio::spawn(serve_remote(Arc::clone(&daemon.control)));
        let remote = ", remote: {listen: \"127.0.0.1:0\"}";
        write_system_with(&daemon.folder, "[10.0.0.1/24]", remote, "workers: {count: 2}");
        let reply: api::ReloadReply = decode(&daemon.ask("/v1/reload", Some("")).await);
        assert_eq!(reply.changed, ["control.remote"], "switched on while running");
        Certified { daemon, authority }
    }

    fn address(&self) -> SocketAddr {
        locked(&self.daemon.control.remote).address().unwrap()
    }

    /// The client's end of a handshake, as far as it can tell: it is over before the box has judged its certificate.
    async fn connect(&self, folder: &std::path::Path, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let files = ClientFiles {
            certificate: folder.join(format!("{name}.crt")),
            key: folder.join(format!("{name}.key")),
            ca: self.daemon.folder.join("tls/ca.crt"),
        };
        // Its own end of time is not what is tested here.
        let config = client_config(&files, unix_seconds().cast_signed() - 60).unwrap();
        let stream = TcpStream::connect(self.address()).await?;
        TlsConnector::from(config).connect(ServerName::try_from("127.0.0.1").unwrap(), stream).await
    }

    /// Waits until so many were refused for this reason, on the other thread.
    async fn counted(&self, reason: &str, count: u64, what: &str) {
        for _ in 0..200 {
            if self.daemon.refused(reason) == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{what}: {reason}: {}", self.daemon.refused(reason));
    }

    async fn status(&self, folder: &std::path::Path, name: &str) -> String {
        let Ok(mut stream) = self.connect(folder, name).await else { return String::new() };
        let mut answer = Vec::new();
        let _ = stream.write_all(&request("/v1/status", "", None)).await;
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

#[tokio::test]
async fn only_good_certificates_come_to_control() {
    let certified = Certified::start("remote-tls").await;
    let folder = certified.daemon.folder.join("tls");
    let answer = certified.status(&folder, "bob").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("policy_digest"), "{answer}");

    let other = certified.daemon.folder.join("other");
    let stranger = Authority::init(&other, "Test", YEAR).unwrap();
    stranger.issue("mallory", &Kind::Client(Role::Write), YEAR).unwrap();
    certified.authority.issue("late", &Kind::Client(Role::Write), Lifetime(0)).unwrap();
    certified.authority.issue("gone", &Kind::Client(Role::Write), YEAR).unwrap();
    certified.authority.revoke("gone").unwrap();
    certified.daemon.ask("/v1/reload", Some("")).await;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    for (what, folder, name, reason) in [
        ("of another authority with the same name", &other, "mallory", "bad_certificate"),
        ("a box's", &folder, "server", "bad_certificate"),
        ("expired", &folder, "late", "expired"),
        ("revoked", &folder, "gone", "revoked"),
    ] {
        assert_eq!(certified.status(folder, name).await, "", "{what}");
        certified.counted(reason, u64::from(name == "server") + 1, what).await;
    }
    let mut plain = TcpStream::connect(certified.address()).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    certified.counted("handshake", 1, "no TLS").await;
    assert_eq!(certified.daemon.refused("no_role"), 0, "none of them came as far as that");
}

#[tokio::test]
async fn a_reload_cuts_off_who_was_revoked_and_nobody_else() {
    let certified = Certified::start("remote-revoked").await;
    let folder = certified.daemon.folder.join("tls");
    let watch = request("/v1/conntrack/watch", "", Some("{}"));
    let mut streams = Vec::new();
    for name in ["alice", "bob"] {
        let mut stream = certified.connect(&folder, name).await.unwrap();
        stream.write_all(&watch).await.unwrap();
        let mut head = [0; 15];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        streams.push(stream);
    }
    certified.authority.revoke("alice").unwrap();
    let reply: api::ReloadReply = decode(&certified.daemon.ask("/v1/reload", Some("")).await);
    assert_eq!(reply.changed, Vec::<String>::new());
    let mut rest = Vec::new();
    let ended = timeout(Duration::from_secs(5), streams[0].read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "cut off");
    certified.counted("revoked", 1, "cut off").await;
    let goes_on = timeout(Duration::from_millis(300), streams[1].read_to_end(&mut rest)).await;
    assert!(goes_on.is_err(), "still there");

    // A file that cannot be used is named, and what runs stays.
    fs::remove_file(folder.join("server.key")).unwrap();
    let refused = certified.daemon.ask("/v1/reload", Some("")).await;
    assert!(
        refused.0 == StatusCode::UNPROCESSABLE_ENTITY && refused.1.contains("server.key: No such"),
        "{refused:?}"
    );
    assert!(certified.status(&folder, "bob").await.starts_with("HTTP/1.1 200 "));

    write_system(&certified.daemon.folder, "[10.0.0.1/24]", "workers: {count: 2}");
    certified.daemon.ask("/v1/reload", Some("")).await;
    let ended = timeout(Duration::from_secs(5), streams[1].read_to_end(&mut rest)).await;
    assert!(ended.is_ok() && locked(&certified.daemon.control.remote).address().is_none(), "switched off");
}

#[tokio::test]
async fn unfinished_handshakes_of_one_host_leave_room_and_the_socket_answers() {
    let certified = Certified::start("remote-many").await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(TcpStream::connect(certified.address()).await.unwrap());
    }
    let status = certified.daemon.ask("/v1/status", None).await;
    assert_eq!(status.0, StatusCode::OK);
    certified.counted("connections", 12, "more than 8").await;
    assert_eq!(locked(&certified.daemon.control.remote).connections(), (0, 8));
    drop(idle);
    certified.counted("handshake", 8, "given up").await;
    let folder = certified.daemon.folder.join("tls");
    assert!(certified.status(&folder, "alice").await.starts_with("HTTP/1.1 200 "));
}
