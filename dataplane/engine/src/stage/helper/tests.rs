//! Helpers at work, as stories: data connections let in, lies found out, payloads written anew, and all of it with several
//! workers.

mod pptp;
mod sip;

use sluice_wire::build::{self, Tcp};
use sluice_wire::{Protocol, TcpFlags};

use crate::conntrack::{ExpectationFilter, ExpectationRecord, NatRange};
use crate::helper::{Assigned, Helper};
use crate::ids::{InterfaceId, Now};
use crate::message::Cursor;
use crate::ruleset::{Action, Hook, MarkSet, Match, Policy, PortMatch, PortSet, StateSet, Test, Translate};
use crate::testing::{CLI, Fate, Router, SRV, between, built, ip, udp};
use crate::verdict::{DropReason, Verdict};

const CLIENT: &str = "10.1.0.2";
const SERVER: &str = "10.2.0.2";
const OUTER: &str = "10.2.0.100";

fn to_port(port: u16) -> Test {
    Test::is(Match::DestinationPort(PortMatch {
        own: PortSet::new(vec![(port, port)]),
        sets: Box::default(),
    }))
}

fn states(list: &[crate::conntrack::CtState]) -> Test {
    let states = list.iter().fold(StateSet::default(), |all, state| all.with(*state));
    Test::is(Match::Ct { states, status: crate::conntrack::Status::default() })
}

/// Only what belongs to something passes the filter, and what opens a control connection; `helper` listens on `port`.
fn guarded(router: Router, helper: Assigned, port: u16) -> Router {
    use crate::conntrack::CtState::{Established, Related};
    router
        .rule(Hook::ManglePrerouting, vec![to_port(port)], Action::Helper(helper))
        .rule(Hook::FilterForward, vec![states(&[Established, Related])], Action::Accept)
        .rule(Hook::FilterForward, vec![to_port(port)], Action::Accept)
        .policy(Hook::FilterForward, Policy::Drop)
}

const FTP: Assigned = Assigned { helper: Helper::Ftp, loose: false };

fn snat(router: Router) -> Router {
    let range = NatRange::address(ip(OUTER));
    router.rule(Hook::NatPostrouting, vec![Test::is(Match::Egress(Box::new([SRV])))], translate(range))
}

fn translate(range: NatRange) -> Action {
    Action::Translate(Translate::Snat(range))
}

fn segment(
    (from, src, dst): (InterfaceId, &str, &str),
    ports: (u16, u16),
    flags: TcpFlags,
    (seq, ack): (u32, u32),
    payload: &[u8],
) -> Vec<u8> {
    let tcp = Tcp { flags, seq, ack, window: 65535 };
    built(|room| build::tcp(room, &between(from, src, dst), ports, tcp, payload))
}

const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;
const PUSH: TcpFlags = ACK.union(TcpFlags::PSH);

fn payload(fate: &Fate) -> String {
    let packet = fate.packet();
    let segment = sluice_wire::tcp::Segment::of(&packet, &fate.bytes).unwrap();
    String::from_utf8(segment.payload.to_vec()).unwrap()
}

fn numbers(fate: &Fate) -> (u32, u32) {
    let segment = sluice_wire::tcp::Segment::of(&fate.packet(), &fate.bytes).unwrap();
    (segment.seq, segment.ack)
}

fn expectations(router: &mut Router) -> Vec<ExpectationRecord> {
    let (now, mut batch) = (Now::from_nanos(router.nanos), Vec::with_capacity(16));
    let all = ExpectationFilter::default();
    router.engine.conntrack().expectations(now, Cursor::default(), &all, false, &mut batch);
    batch
}

/// A control connection, and where its two streams stand.
struct Session {
    ends: (&'static str, &'static str),
    /// As the server has the client.
    outer: &'static str,
    port: u16,
    client: u32,
    server: u32,
}

impl Session {
    /// A handshake, and a line each, as a login has them.
    fn open(
        router: &mut Router,
        ends: (&'static str, &'static str),
        outer: &'static str,
        port: u16,
    ) -> Session {
        let mut session = Session { ends, outer, port, client: 1000, server: 5000 };
        let up = (CLI, ends.0, ends.1);
        let down = (SRV, ends.1, outer);
        router.receive(CLI, &segment(up, (port, 21), SYN, (1000, 0), b""));
        router.receive(SRV, &segment(down, (21, port), SYN.union(ACK), (5000, 1001), b""));
        router.receive(CLI, &segment(up, (port, 21), ACK, (1001, 5001), b""));
        (session.client, session.server) = (1001, 5001);
        session.answer(router, "220 ready\r\n");
        session.say(router, "USER a\r\n");
        session.answer(router, "331 pass\r\n");
        session
    }

    /// The client's, not retransmitted and not yet counted as sent.
    fn command(&self, text: &str) -> Vec<u8> {
        let up = (CLI, self.ends.0, self.ends.1);
        segment(up, (self.port, 21), PUSH, (self.client, self.server), text.as_bytes())
    }

    fn say(&mut self, router: &mut Router, text: &str) -> Fate {
        let fate = router.receive(CLI, &self.command(text));
        self.client += text.len() as u32;
        fate
    }

    fn answer(&mut self, router: &mut Router, text: &str) -> Fate {
        let down = (SRV, self.ends.1, self.outer);
        let numbers = (self.server, self.client);
        let bytes = segment(down, (21, self.port), PUSH, numbers, text.as_bytes());
        self.server += text.len() as u32;
        router.receive(SRV, &bytes)
    }
}

/// The server's data connection to a port of the client.
fn data(router: &mut Router, to: &str, port: u16) -> Verdict {
    router.receive(SRV, &segment((SRV, SERVER, to), (20, port), SYN, (1, 0), b"")).verdict
}

fn passes(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Transmit(_))
}

#[test]
fn a_data_connection_is_let_in_once() {
    let mut router = guarded(Router::new(), FTP, 21).ready();
    let mut session = Session::open(&mut router, (CLIENT, SERVER), CLIENT, 40000);
    assert_eq!(data(&mut router, CLIENT, 50000), Verdict::Drop(DropReason::PolicyForward));
    assert!(passes(session.say(&mut router, "PORT 10,1,0,2,195,80\r\n").verdict));
    let [waiting] = expectations(&mut router)[..] else { panic!("one is expected") };
    assert_eq!((waiting.dport, waiting.src, waiting.protocol), (50000, Some(ip(SERVER)), Protocol::TCP));
    assert!(passes(data(&mut router, CLIENT, 50000)));
    assert!(expectations(&mut router).is_empty());
    let again = segment((SRV, SERVER, CLIENT), (21, 50000), SYN, (1, 0), b"");
    assert_eq!(router.receive(SRV, &again).verdict, Verdict::Drop(DropReason::PolicyForward));
}

#[test]
fn what_is_announced_must_be_the_announcers_own_unless_loose() {
    for (loose, expected) in [(false, 0), (true, 1)] {
        let mut router = guarded(Router::new(), Assigned { loose, ..FTP }, 21).ready();
        let mut session = Session::open(&mut router, (CLIENT, SERVER), CLIENT, 40000);
        assert!(passes(session.say(&mut router, "PORT 10,1,0,3,195,80\r\n").verdict));
        assert_eq!(expectations(&mut router).len(), expected, "loose: {loose}");
        assert_eq!(passes(data(&mut router, "10.1.0.3", 50000)), loose);
    }
}

#[test]
fn a_command_that_is_cut_comes_again() {
    let mut router = guarded(Router::new(), FTP, 21).ready();
    let mut session = Session::open(&mut router, (CLIENT, SERVER), CLIENT, 40000);
    let cut = session.command("PORT 10,1,0,2,19");
    assert_eq!(router.receive(CLI, &cut).verdict, Verdict::Drop(DropReason::HelperPart));
    assert!(passes(session.say(&mut router, "PORT 10,1,0,2,195,80\r\n").verdict));
    assert_eq!(expectations(&mut router).len(), 1);
}

#[test]
fn only_lines_count_and_only_their_beginnings() {
    let mut router = guarded(Router::new(), FTP, 21).ready();
    let mut session = Session::open(&mut router, (CLIENT, SERVER), CLIENT, 40000);
    session.say(&mut router, "STOR x");
    session.say(&mut router, "PORT 10,1,0,2,195,80\r\n");
    assert!(expectations(&mut router).is_empty(), "that was the end of a file's name");
    session.say(&mut router, "NOOP\r\nPORT 10,1,0,2,195,80\r\n");
    assert!(expectations(&mut router).is_empty(), "as in the kernel, the second line of a segment is none");
    session.say(&mut router, "PORT 10,1,0,2,195,80\r\n");
    assert_eq!(expectations(&mut router).len(), 1);
}

/// The master of one client expects what another client's of the same address would.
#[test]
fn what_another_expects_drops_the_packet_that_asks() {
    let mut router = guarded(Router::new(), FTP, 21).ready();
    let mut first = Session::open(&mut router, (CLIENT, SERVER), CLIENT, 40000);
    let mut second = Session::open(&mut router, (CLIENT, SERVER), CLIENT, 40001);
    assert!(passes(first.say(&mut router, "PORT 10,1,0,2,195,80\r\n").verdict));
    let asks = second.say(&mut router, "PORT 10,1,0,2,195,80\r\n");
    assert_eq!(asks.verdict, Verdict::Drop(DropReason::HelperExpectation));
}

#[test]
fn an_expectation_ends_with_its_time_and_with_its_master() {
    let mut router = guarded(Router::new(), FTP, 21).ready();
    let mut session = Session::open(&mut router, (CLIENT, SERVER), CLIENT, 40000);
    session.say(&mut router, "PORT 10,1,0,2,195,80\r\n");
    session.answer(&mut router, "200 ok\r\n");
    let up = (CLI, CLIENT, SERVER);
    router.receive(CLI, &segment(up, (40000, 21), ACK, (session.client, session.server), b""));
    router.wait(301);
    assert_eq!(data(&mut router, CLIENT, 50000), Verdict::Drop(DropReason::PolicyForward));
    session.say(&mut router, "PORT 10,1,0,2,195,81\r\n");
    assert_eq!(expectations(&mut router).len(), 1);
    let now = Now::from_nanos(router.nanos);
    let all = crate::conntrack::FlowFilter::default();
    router.engine.conntrack().delete(now, Cursor::default(), &all, 10, &mut Vec::new());
    assert!(expectations(&mut router).is_empty());
    assert_eq!(router.counters.conntrack.expectations.get(), 0);
}

#[test]
fn a_child_inherits_the_mark_and_is_known_by_its_helper() {
    let helper = Test::is(Match::Helper(Box::new([Helper::Ftp])));
    let mark = Action::CtMark(MarkSet { value: 7, mask: u32::MAX });
    let mut router = Router::new()
        .rule(Hook::ManglePrerouting, vec![to_port(21)], Action::Helper(FTP))
        .rule(Hook::ManglePrerouting, vec![to_port(21)], mark)
        .rule(Hook::FilterForward, vec![helper], Action::Accept)
        .rule(Hook::FilterForward, vec![to_port(21)], Action::Accept)
        .rule(Hook::FilterForward, vec![Test::is(Match::SourcePort(source(21)))], Action::Accept)
        .policy(Hook::FilterForward, Policy::Drop)
        .ready();
    let mut session = Session::open(&mut router, (CLIENT, SERVER), CLIENT, 40000);
    session.say(&mut router, "PORT 10,1,0,2,195,80\r\n");
    assert!(passes(data(&mut router, CLIENT, 50000)));
    let answer = segment((CLI, CLIENT, SERVER), (50000, 20), SYN.union(ACK), (9, 2), b"");
    assert!(passes(router.receive(CLI, &answer).verdict), "also from the stored answer on");
    assert!(passes(router.receive(CLI, &answer).verdict));
    let (now, mut flows) = (Now::from_nanos(router.nanos), Vec::with_capacity(8));
    let all = crate::conntrack::FlowFilter::default();
    router.engine.conntrack().list(now, Cursor::default(), &all, &mut flows);
    assert!(flows.iter().all(|flow| flow.mark == 7), "{flows:?}");
    assert_eq!(flows.iter().filter(|flow| flow.announced_by == Some(Helper::Ftp)).count(), 1);
}

fn source(port: u16) -> PortMatch {
    PortMatch { own: PortSet::new(vec![(port, port)]), sets: Box::default() }
}

#[test]
fn addresses_are_written_anew_and_numbers_follow() {
    let mut router = snat(guarded(Router::new(), FTP, 21)).ready();
    let mut session = Session::open(&mut router, (CLIENT, SERVER), OUTER, 40000);
    let seq = session.client;
    let asks = session.say(&mut router, "PORT 10,1,0,2,195,80\r\n");
    assert_eq!(payload(&asks), "PORT 10,2,0,100,195,80\r\n");
    assert_eq!(numbers(&asks).0, seq);
    let again = Session { client: seq, ..session };
    let again = router.receive(CLI, &again.command("PORT 10,1,0,2,195,80\r\n"));
    assert_eq!(payload(&again), "PORT 10,2,0,100,195,80\r\n", "a retransmission");
    // The server acknowledges two bytes more than the client sent, and the client hears of its own.
    let down =
        segment((SRV, SERVER, OUTER), (21, 40000), PUSH, (session.server, session.client + 2), b"200 ok\r\n");
    assert_eq!(numbers(&router.receive(SRV, &down)), (session.server, session.client));
    session.server += 8;
    assert_eq!(numbers(&session.say(&mut router, "LIST\r\n")), (session.client - 6 + 2, session.server));
    let opened = router.receive(SRV, &segment((SRV, SERVER, OUTER), (20, 50000), SYN, (1, 0), b""));
    assert_eq!(opened.packet().addrs.dst(), ip(CLIENT));
    let fin = segment(
        (CLI, CLIENT, SERVER),
        (40000, 21),
        TcpFlags::FIN.union(ACK),
        (session.client, session.server),
        b"",
    );
    assert_eq!(numbers(&router.receive(CLI, &fin)), (session.client + 2, session.server));
}

#[test]
fn two_behind_one_address_get_different_ports() {
    let mut router = snat(guarded(Router::new(), FTP, 21)).ready();
    let mut first = Session::open(&mut router, (CLIENT, SERVER), OUTER, 40000);
    let mut second = Session::open(&mut router, ("10.1.0.3", SERVER), OUTER, 41000);
    assert_eq!(
        payload(&first.say(&mut router, "EPRT |1|10.1.0.2|50000|\r\n")),
        "EPRT |1|10.2.0.100|50000|\r\n"
    );
    let written = payload(&second.say(&mut router, "EPRT |1|10.1.0.3|50000|\r\n"));
    let port: u16 = written.split('|').nth(3).unwrap().parse().unwrap();
    assert!(port >= 1024 && port != 50000, "{written}");
    for (outer, client) in [(50000, CLIENT), (port, "10.1.0.3")] {
        let opened = router.receive(SRV, &segment((SRV, SERVER, OUTER), (20, outer), SYN, (1, 0), b""));
        assert_eq!((opened.packet().addrs.dst(), opened.packet().ports()), (ip(client), Some((20, 50000))));
    }
}

/// There is no room behind the packet for what is to be put in.
#[test]
fn what_cannot_be_written_is_dropped_and_not_expected() {
    let mut router = snat(guarded(Router::new(), FTP, 21)).ready();
    let mut session = Session::open(&mut router, (CLIENT, SERVER), OUTER, 40000);
    let command = session.command("PORT 10,1,0,2,195,80\r\n");
    let verdict = router.receive_tight(CLI, &command);
    assert_eq!(verdict, Verdict::Drop(DropReason::HelperRewrite));
    assert!(expectations(&mut router).is_empty());
    assert_eq!(payload(&session.say(&mut router, "PORT 10,1,0,2,195,80\r\n")), "PORT 10,2,0,100,195,80\r\n");
}

const TFTP: Assigned = Assigned { helper: Helper::Tftp, loose: false };

#[test]
fn an_answer_from_another_port_of_the_server_is_related() {
    for (nat, outer) in [(false, CLIENT), (true, OUTER)] {
        let router = guarded(Router::new(), TFTP, 69);
        let mut router = if nat { snat(router) } else { router }.ready();
        let request = udp(&between(CLI, CLIENT, SERVER), (5000, 69), b"\0\x01f\0octet\0");
        assert!(passes(router.receive(CLI, &request).verdict));
        let answer = udp(&between(SRV, SERVER, outer), (6000, 5000), b"\0\x03\0\x01A");
        let fate = router.receive(SRV, &answer);
        assert_eq!((fate.packet().addrs.dst(), fate.packet().ports()), (ip(CLIENT), Some((6000, 5000))));
        let stranger = udp(&between(SRV, "10.2.0.3", outer), (6000, 5000), b"\0\x03\0\x01A");
        assert!(!passes(router.receive(SRV, &stranger).verdict));
    }
}

/// Amanda 3 waits on four ports. What a second answer announces replaces them, as on Linux 6.18.
#[test]
fn a_backup_has_four_streams() {
    let amanda = Assigned { helper: Helper::Amanda, loose: false };
    let mut router = guarded(Router::new(), amanda, 10080).ready();
    router.receive(CLI, &udp(&between(CLI, CLIENT, SERVER), (846, 10080), b"SERVICE sendbackup"));
    for first in [50_080, 50_090] {
        let ports = [first, first + 1, first + 2, first + 3];
        let [data, messages, index, state] = ports;
        let answer = format!("REP\nCONNECT DATA {data} MESG {messages} INDEX {index} STATE {state}\n\n");
        let answer = udp(&between(SRV, SERVER, CLIENT), (10080, 846), answer.as_bytes());
        assert!(passes(router.receive(SRV, &answer).verdict));
        let mut expected: Vec<_> = expectations(&mut router).iter().map(|one| one.dport).collect();
        expected.sort_unstable();
        assert_eq!(expected, ports);
    }
    for (port, passed) in [(50_080, false), (50_090, true), (50_091, true), (50_092, true), (50_093, true)] {
        let opens = segment((CLI, CLIENT, SERVER), (50_000, port), SYN, (1, 0), b"");
        assert_eq!(passes(router.receive(CLI, &opens).verdict), passed, "{port}");
    }
}

#[test]
fn a_helper_understands_its_own_protocol_alone() {
    let mut router = guarded(Router::new(), FTP, 69).ready();
    let request = udp(&between(CLI, CLIENT, SERVER), (5000, 69), b"\0\x01f\0octet\0");
    router.receive(CLI, &request);
    assert!(expectations(&mut router).is_empty());
}

/// Hands a packet over as the worker would; who judged it in the end, and how.
fn give<const N: usize>(team: &mut [Router; N], at: usize, from: InterfaceId, bytes: &[u8]) -> (usize, Fate) {
    let fate = team[at].receive(from, bytes);
    match fate.verdict {
        Verdict::HandOver(owner) => {
            let owner = usize::from(owner.0);
            (owner, team[owner].receive_handed_over(from, bytes))
        }
        _ => (at, fate),
    }
}

/// Whatever worker a packet of the data connection comes to, it reaches that of the control connection, both ways.
#[test]
fn every_worker_finds_what_one_expects() {
    for nat in [false, true] {
        let outer = if nat { OUTER } else { CLIENT };
        let mut team = Router::team::<4>().map(|router| {
            let router = guarded(router, FTP, 21);
            if nat { snat(router) } else { router }.ready()
        });
        for n in 0..16u16 {
            let (up, down) = ((CLI, CLIENT, SERVER), (SRV, SERVER, outer));
            let port = 40000 + n;
            let at = usize::from(n) % 4;
            let mut send = |from, bytes: Vec<u8>| give(&mut team, at, from, &bytes);
            let (owner, _) = send(CLI, segment(up, (port, 21), SYN, (1000, 0), b""));
            send(SRV, segment(down, (21, port), SYN.union(ACK), (5000, 1001), b""));
            send(CLI, segment(up, (port, 21), PUSH, (1001, 5001), b"USER a\r\n"));
            let (low, data_port) = (n.to_be_bytes()[1], 0xc300 + n);
            let command = format!("PORT 10,1,0,2,195,{low}\r\n");
            let (by, fate) = send(CLI, segment(up, (port, 21), PUSH, (1009, 5001), command.as_bytes()));
            assert!(passes(fate.verdict) && by == owner);
            for at in 0..4 {
                let syn = segment(down, (20, data_port), SYN, (1, 0), b"");
                let (by, fate) = give(&mut team, at, SRV, &syn);
                assert_eq!((by, passes(fate.verdict)), (owner, true), "{n} at {at}");
                let answer = segment(up, (data_port, 20), SYN.union(ACK), (7, 2), b"");
                let (by, fate) = give(&mut team, at, CLI, &answer);
                assert_eq!((by, passes(fate.verdict)), (owner, true), "answer to {n} at {at}");
            }
            let stranger = segment((SRV, "10.2.0.3", outer), (20, data_port), SYN, (1, 0), b"");
            assert!(!passes(give(&mut team, at, SRV, &stranger).1.verdict));
        }
    }
}
