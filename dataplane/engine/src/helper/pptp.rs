//! PPTP: the messages of a control connection, and how far the session and its call are.
//!
//! A client (the PAC's user, here the side that opened the connection) and a server each name a call by an id of their own;
//! the tunnel's packets (GRE version 1) carry the id of who receives them. Only what keeps to the protocol's order counts, so
//! that a forged answer opens nothing. A message is read where a segment begins with it and holds all of it.
//!
//! Not done: several calls in one session. The kernel's helper knows one, and so does this.
//!
//! Source: RFC 2637 sections 2 and 3; Linux `nf_conntrack_pptp.c`, as observed on 6.18 (recordings `helper-pptp/`).

use std::ops::Range;

use crate::conntrack::Direction;

/// What one side calls a call by. In host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CallId(pub u16);

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The client begins a session.
    StartRequest,
    /// The server agrees, or does not.
    StartReply,
    /// The client ends the session.
    StopRequest,
    /// The server agrees.
    StopReply,
    /// A question whether the other one is there, or its answer.
    Echo,
    /// The client makes a call.
    OutgoingRequest,
    /// The server has made it, or not.
    OutgoingReply,
    /// The server announces a call.
    IncomingRequest,
    /// The client takes it, or not.
    IncomingReply,
    /// The server has connected it.
    IncomingConnected,
    /// The client ends the call.
    Clear,
    /// The server tells that it has ended.
    Disconnected,
    /// The server tells of errors on the line.
    LineErrors,
    /// Options of the link.
    LinkInfo,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Of an answer: whether it says yes.
    pub agrees: bool,
    /// The sender's own id of the call; 0 where the message has none.
    pub call: CallId,
    /// The receiver's id of it; 0 where the message has none.
    pub peer: CallId,
    /// Where the client's id stands in the payload, if the message has it.
    pub client_at: Option<Range<usize>>,
}

/// Where a kind of message has what; offsets from its beginning.
struct Layout {
    number: u16,
    kind: Kind,
    length: usize,
    call: Option<usize>,
    peer: Option<usize>,
    result: Option<usize>,
}

const fn layout(number: u16, kind: Kind, length: usize, [call, peer, result]: [Option<usize>; 3]) -> Layout {
    Layout { number, kind, length, call, peer, result }
}

/// Source: RFC 2637 sections 2.1 to 2.15.
#[rustfmt::skip]
const LAYOUTS: [Layout; 15] = [
    layout(1,  Kind::StartRequest,      156, [None,     None,     None]),
    layout(2,  Kind::StartReply,        156, [None,     None,     Some(14)]),
    layout(3,  Kind::StopRequest,       16,  [None,     None,     None]),
    layout(4,  Kind::StopReply,         16,  [None,     None,     Some(12)]),
    layout(5,  Kind::Echo,              16,  [None,     None,     None]),
    layout(6,  Kind::Echo,              20,  [None,     None,     None]),
    layout(7,  Kind::OutgoingRequest,   168, [Some(12), None,     None]),
    layout(8,  Kind::OutgoingReply,     32,  [Some(12), Some(14), Some(16)]),
    layout(9,  Kind::IncomingRequest,   220, [Some(12), None,     None]),
    layout(10, Kind::IncomingReply,     24,  [Some(12), Some(14), Some(16)]),
    layout(11, Kind::IncomingConnected, 28,  [None,     Some(12), None]),
    layout(12, Kind::Clear,             16,  [Some(12), None,     None]),
    layout(13, Kind::Disconnected,      148, [Some(12), None,     None]),
    layout(14, Kind::LineErrors,        40,  [None,     Some(12), None]),
    layout(15, Kind::LinkInfo,          24,  [None,     Some(12), None]),
];

const MESSAGE_TYPE: usize = 2;
/// The only type of message that there is.
const CONTROL: u16 = 1;
const COOKIE: usize = 4;
const MAGIC: [u8; 4] = [0x1a, 0x2b, 0x3c, 0x4d];
const CONTROL_TYPE: usize = 8;
/// What a result says that is none of the errors.
const AGREED: u8 = 1;

/// Reads the message that a segment's payload begins with, which goes in `direction`; None if it is none, or is cut. The
/// length that it gives for itself is not looked at.
pub fn read(payload: &[u8], direction: Direction) -> Option<Message> {
    let word = |at: usize| payload.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
    if word(MESSAGE_TYPE)? != CONTROL || payload.get(COOKIE..)?.first_chunk() != Some(&MAGIC) {
        return None;
    }
    let number = word(CONTROL_TYPE)?;
    let layout = LAYOUTS.iter().find(|layout| layout.number == number)?;
    if payload.len() < layout.length {
        return None;
    }
    let id = |at: Option<usize>| CallId(at.and_then(word).unwrap_or_default());
    let client = match direction {
        Direction::Original => layout.call,
        Direction::Reply => layout.peer,
    };
    Some(Message {
        kind: layout.kind,
        agrees: layout.result.is_none_or(|at| payload.get(at) == Some(&AGREED)),
        call: id(layout.call),
        peer: id(layout.peer),
        client_at: client.map(|at| at..at + size_of::<CallId>()),
    })
}

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
enum Stage {
    #[default]
    None = 0,
    Refused = 1,
    Ending = 2,
    Requested = 3,
    Running = 4,
}

/// How far its call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
enum Call {
    #[default]
    None = 0,
    /// The client asked for it.
    Asked = 1,
    /// The server made it: the tunnel is up.
    Made = 2,
    /// The server announced it.
    Announced = 3,
    /// The client took it.
    Taken = 4,
    /// The server connected it: the tunnel is up.
    Connected = 5,
}

impl Stage {
    const ALL: [Stage; 5] = [Stage::None, Stage::Refused, Stage::Ending, Stage::Requested, Stage::Running];
}

impl Call {
    const ALL: [Call; 6] =
        [Call::None, Call::Asked, Call::Made, Call::Announced, Call::Taken, Call::Connected];
}

/// What is to be done about a message that is in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Nothing.
    Nothing,
    /// The tunnel's packets are to be expected, both ways.
    Open,
    /// The call is over, and the tunnel with it.
    Close,
}

/// A message in its place: who sends it, with which answer, at which stages; and what follows.
struct Row {
    kind: Kind,
    from: Direction,
    agrees: Option<bool>,
    stages: &'static [Stage],
    calls: &'static [Call],
    stage: Option<Stage>,
    call: Option<Call>,
    deed: Deed,
}

const CLIENT: Direction = Direction::Original;
const SERVER: Direction = Direction::Reply;
const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);

#[allow(clippy::too_many_arguments)] // a row of the table
const fn row(
    kind: Kind,
    from: Direction,
    agrees: Option<bool>,
    stages: &'static [Stage],
    calls: &'static [Call],
    stage: Option<Stage>,
    call: Option<Call>,
    deed: Deed,
) -> Row {
    Row { kind, from, agrees, stages, calls, stage, call, deed }
}

/// Checked against the kernel's by the recordings `helper-pptp/`. An empty list is any.
#[rustfmt::skip]
const ROWS: [Row; 16] = [
    row(Kind::StartRequest, CLIENT, None, &[Stage::None], &[], Some(Stage::Requested), None, Deed::Nothing),
    row(Kind::StartReply, SERVER, YES, &[Stage::Requested, Stage::Running], &[], Some(Stage::Running), None, Deed::Nothing),
    row(Kind::StartReply, SERVER, NO, &[Stage::Requested, Stage::Running], &[], Some(Stage::Refused), None, Deed::Nothing),
    // The tunnel goes on until the call is cleared, or the control connection is gone.
    row(Kind::StopRequest, CLIENT, None, &[], &[], Some(Stage::Ending), None, Deed::Nothing),
    row(Kind::StopReply, SERVER, YES, &[Stage::None, Stage::Refused, Stage::Ending], &[], Some(Stage::None), None, Deed::Nothing),
    row(Kind::StopReply, SERVER, NO, &[Stage::None, Stage::Refused, Stage::Ending], &[], Some(Stage::Refused), None, Deed::Nothing),
    row(Kind::OutgoingRequest, CLIENT, None, &[Stage::Running], &[], None, Some(Call::Asked), Deed::Nothing),
    row(Kind::OutgoingReply, SERVER, YES, &[Stage::Running], &[Call::Asked, Call::Made], None, Some(Call::Made), Deed::Open),
    row(Kind::OutgoingReply, SERVER, NO, &[Stage::Running], &[Call::Asked, Call::Made], None, Some(Call::None), Deed::Nothing),
    row(Kind::IncomingRequest, SERVER, None, &[Stage::Running], &[], None, Some(Call::Announced), Deed::Nothing),
    row(Kind::IncomingReply, CLIENT, YES, &[], &[Call::Announced, Call::Taken], None, Some(Call::Taken), Deed::Nothing),
    row(Kind::IncomingReply, CLIENT, NO, &[], &[Call::Announced, Call::Taken], None, Some(Call::None), Deed::Nothing),
    row(Kind::IncomingConnected, SERVER, None, &[Stage::Running], &[Call::Taken, Call::Connected], None, Some(Call::Connected), Deed::Open),
    // The server still has to agree, and ends the tunnel by that.
    row(Kind::Clear, CLIENT, None, &[Stage::Running], &[], None, Some(Call::None), Deed::Nothing),
    row(Kind::Disconnected, SERVER, None, &[], &[], None, Some(Call::None), Deed::Close),
    row(Kind::LineErrors, SERVER, None, &[], &[], None, None, Deed::Nothing),
];

/// The tunnel of a call: what its packets are known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The client's own id of the call.
    pub client: CallId,
    /// The server's.
    pub server: CallId,
    /// Whether the server knows the client's by the port of the control connection.
    pub translated: bool,
}

/// A session and its call, as they are kept with the control connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Session {
    stage: Stage,
    call: Call,
    /// The client's id of the call.
    pub client: CallId,
    /// The server's id of the call.
    pub server: CallId,
    /// What was opened, and has not ended.
    pub tunnel: Option<Tunnel>,
}

/// Bits of what is kept.
const OPENED: u8 = 1;
const TRANSLATED: u8 = 2;

impl Session {
    /// Goes on by a message; what is to be done about it, None if it is out of place. `outer` is what the server knows the
    /// client's id by, if that is another one.
    pub fn step(&mut self, message: &Message, direction: Direction, outer: Option<CallId>) -> Option<Deed> {
        if matches!(message.kind, Kind::Echo | Kind::LinkInfo) {
            return Some(Deed::Nothing);
        }
        let row = ROWS.iter().find(|row| self.is_at(row, message, direction))?;
        match message.kind {
            Kind::OutgoingReply | Kind::IncomingConnected if message.peer != outer.unwrap_or(self.client) => {
                return None;
            }
            Kind::IncomingReply if message.peer != self.server => return None,
            _ => {}
        }
        (self.stage, self.call) = (row.stage.unwrap_or(self.stage), row.call.unwrap_or(self.call));
        match (message.kind, message.agrees) {
            (Kind::OutgoingRequest | Kind::IncomingReply, true) => self.client = message.call,
            (Kind::OutgoingReply | Kind::IncomingRequest, true) => self.server = message.call,
            _ => {}
        }
        Some(row.deed)
    }

    /// The same with another tunnel open, or none.
    pub(crate) fn with_tunnel(self, tunnel: Option<Tunnel>) -> Session {
        Session { tunnel, ..self }
    }

    fn is_at(&self, row: &Row, message: &Message, direction: Direction) -> bool {
        row.kind == message.kind
            && row.from == direction
            && row.agrees.is_none_or(|agrees| agrees == message.agrees)
            && (row.stages.is_empty() || row.stages.contains(&self.stage))
            && (row.calls.is_empty() || row.calls.contains(&self.call))
    }

    /// As it is kept.
    pub(crate) fn to_words(self) -> [u32; 3] {
        let pair = |client: CallId, server: CallId| u32::from(client.0) << 16 | u32::from(server.0);
        let bits = self.tunnel.map_or(0, |tunnel| OPENED | if tunnel.translated { TRANSLATED } else { 0 });
        [
            u32::from_ne_bytes([self.stage as u8, self.call as u8, bits, 0]),
            pair(self.client, self.server),
            self.tunnel.map_or(0, |tunnel| pair(tunnel.client, tunnel.server)),
        ]
    }

    /// What was kept; of nothing, a session that has not begun.
    pub(crate) fn from_words([first, ids, opened]: [u32; 3]) -> Session {
        let halves = |word: u32| (CallId((word >> 16) as u16), CallId(word as u16));
        let [stage, call, bits, _] = first.to_ne_bytes();
        let ((client, server), (of_tunnel, of_server)) = (halves(ids), halves(opened));
        let translated = bits & TRANSLATED != 0;
        Session {
            stage: Stage::ALL.get(usize::from(stage)).copied().unwrap_or_default(),
            call: Call::ALL.get(usize::from(call)).copied().unwrap_or_default(),
            client,
            server,
            tunnel: (bits & OPENED != 0).then_some(Tunnel {
                client: of_tunnel,
                server: of_server,
                translated,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of a type, its first four words behind the header, and zeroes.
    fn message(number: u16, words: [u16; 3]) -> Vec<u8> {
        let layout = LAYOUTS.iter().find(|layout| layout.number == number).unwrap();
        let mut bytes = vec![0; layout.length];
        bytes[..2].copy_from_slice(&(layout.length as u16).to_be_bytes());
        bytes[2..4].copy_from_slice(&CONTROL.to_be_bytes());
        bytes[4..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&number.to_be_bytes());
        for (place, word) in bytes[12..].chunks_exact_mut(2).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn fields_of_messages() {
        let read = |number, words, direction| read(&message(number, words), direction).unwrap();
        let reply = read(8, [7, 9, 0x0100], SERVER);
        assert_eq!((reply.kind, reply.agrees), (Kind::OutgoingReply, true));
        assert_eq!((reply.call, reply.peer, reply.client_at), (CallId(7), CallId(9), Some(14..16)));
        assert!(!read(8, [7, 9, 0x0400], SERVER).agrees);
        assert!(read(2, [0x100, 0x0100, 0], SERVER).agrees);
        assert!(!read(4, [0x0200, 0, 0], SERVER).agrees);
        assert_eq!(read(12, [7, 0, 0], CLIENT).client_at, Some(12..14));
        assert_eq!(read(13, [7, 0, 0], SERVER).client_at, None, "that is the server's own");
    }

    #[test]
    fn what_is_no_message() {
        let whole = message(7, [7, 0, 0]);
        for (name, change) in [
            ("no cookie", Box::new(|bytes: &mut Vec<u8>| bytes[4] = 0) as Box<dyn Fn(&mut Vec<u8>)>),
            ("no control message", Box::new(|bytes| bytes[3] = 2)),
            ("a type that is none", Box::new(|bytes| bytes[9] = 16)),
            ("a byte short", Box::new(|bytes| bytes.truncate(bytes.len() - 1))),
            ("nothing", Box::new(Vec::clear)),
        ] {
            let mut bytes = whole.clone();
            change(&mut bytes);
            assert_eq!(read(&bytes, CLIENT), None, "{name}");
        }
    }

    /// Plays messages; what the last one says is to be done.
    fn play(messages: &[(Direction, u16, [u16; 3])], outer: Option<CallId>) -> (Session, Option<Deed>) {
        let (mut session, mut deed) = (Session::default(), None);
        for &(direction, number, words) in messages {
            let message = read(&message(number, words), direction).unwrap();
            deed = session.step(&message, direction, outer);
            session = Session::from_words(session.to_words());
        }
        (session, deed)
    }

    const BEGUN: [(Direction, u16, [u16; 3]); 2] =
        [(CLIENT, 1, [0x100, 0, 0]), (SERVER, 2, [0x100, 0x0100, 0])];

    #[test]
    fn calls_open_when_both_have_agreed() {
        let outgoing = [(CLIENT, 7, [5, 0, 0]), (SERVER, 8, [6, 5, 0x100])];
        let incoming = [(SERVER, 9, [6, 0, 0]), (CLIENT, 10, [5, 6, 0x100]), (SERVER, 11, [5, 0, 0])];
        for (name, call) in [("outgoing", &outgoing[..]), ("incoming", &incoming)] {
            let (session, deed) = play(&[&BEGUN, call].concat(), None);
            assert_eq!(deed, Some(Deed::Open), "{name}");
            assert_eq!((session.client, session.server), (CallId(5), CallId(6)), "{name}");
            assert_eq!(play(call, None).1, None, "{name} without a session");
        }
        let translated = [(CLIENT, 7, [5, 0, 0]), (SERVER, 8, [6, 400, 0x100])];
        let (session, deed) = play(&[&BEGUN, &translated[..]].concat(), Some(CallId(400)));
        assert_eq!((deed, session.client), (Some(Deed::Open), CallId(5)));
    }

    #[test]
    fn what_is_kept_comes_back() {
        let tunnel = Tunnel { client: CallId(1), server: CallId(u16::MAX), translated: true };
        for tunnel in [None, Some(tunnel), Some(Tunnel { translated: false, ..tunnel })] {
            let (stage, call) = (Stage::Running, Call::Connected);
            let session = Session { stage, call, client: CallId(3), server: CallId(4), tunnel };
            assert_eq!(Session::from_words(session.to_words()), session);
        }
        assert_eq!(Session::from_words([0; 3]), Session::default());
    }

    #[test]
    fn what_is_out_of_place_counts_for_nothing() {
        for (name, messages) in [
            ("an answer to nothing", vec![(SERVER, 8, [6, 0, 0x100])]),
            ("an answer to another call", vec![(CLIENT, 7, [5, 0, 0]), (SERVER, 8, [6, 4, 0x100])]),
            ("a request of the server", vec![(SERVER, 7, [5, 0, 0])]),
            ("an answer of the client", vec![(CLIENT, 7, [5, 0, 0]), (CLIENT, 8, [6, 5, 0x100])]),
            ("connected, and not taken", vec![(SERVER, 9, [6, 0, 0]), (SERVER, 11, [0, 0, 0])]),
            (
                "an answer after a refusal",
                vec![(CLIENT, 7, [5, 0, 0]), (SERVER, 8, [6, 5, 0x400]), (SERVER, 8, [6, 5, 0x100])],
            ),
        ] {
            assert_eq!(play(&[&BEGUN[..], &messages].concat(), None).1, None, "{name}");
        }
    }
}
