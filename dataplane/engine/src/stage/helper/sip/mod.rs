//! SIP: the media of calls, calls to registered telephones, and both through NAT.
//!
//! Media go between the two ends of the signalling alone (the kernel's `sip_direct_media`), calls come from the registrar
//! alone (`sip_direct_signalling`). The end of a call, or of an attempt, forgets the media that have not come.
//!
//! Through NAT, addresses of the signalling's own ends are written anew wherever they stand (`letter`), and so are those of
//! media (`media`). A message that does not end in its segment passes as it is.
//!
//! | file | what |
//! |---|---|
//! | `media` | what a body announces |
//! | `letter` | addresses in headers |
//!
//! Source: RFC 3261, RFC 3264, RFC 3581; Linux `nf_conntrack_sip.c`, `nf_nat_sip.c`, as observed on 6.18.

mod letter;
mod media;

use std::ops::{ControlFlow, Range};

use sluice_wire::{Family, Transport};

use super::edits::{Edits, InUri};
use super::{Control, drop};
use crate::conntrack::{Ask, Direction, Follow, Refused};
use crate::helper::Helper;
use crate::helper::sip::{self, Contact, Message, Method, SIGNALLING, Sdp, Span};
use crate::ids::Millis;
use crate::pipeline::Step;
use crate::transit::Transit;
use crate::verdict::DropReason;

/// How long signalling lives behind a message: the kernel's `sip_timeout`.
const PATIENCE: Millis = Millis::from_secs(3600);

/// Messages of one segment that are read.
const MESSAGES: usize = 16;

/// Ports that are tried for what is announced through NAT.
const ATTEMPTS: u16 = 128;

/// Where the flow's memory has what.
const INVITED: usize = 0;
const REGISTERED: usize = 1;
/// The port that a telephone listens on, if it sends from another one; 0: none.
const LISTENS: usize = 2;

/// What is to be done about a message, without the message.
#[derive(Clone, Copy)]
enum Deed {
    /// Expect media, and forget those before, if the call is begun anew.
    Media {
        anew: bool,
    },
    /// The call is over.
    Forget,
    /// A telephone asks to be registered.
    Register {
        contact: Contact,
        sequence: u32,
    },
    /// A telephone takes its registration back.
    Leave {
        sequence: u32,
    },
    /// It is registered, for so many seconds.
    Registered {
        port: u16,
        expires: u32,
    },
    /// It is not registered, or no more.
    Unregister,
    Nothing,
}

/// Looks at a datagram or a segment of signalling.
pub(super) fn look(t: &mut Transit<'_, '_, '_>, control: &Control, payload: Range<usize>) -> Step {
    let alone = matches!(t.packet.transport, Transport::Udp { .. });
    t.bench.conntrack.extend(t.bench.now, control.flow, PATIENCE);
    // The kernel cuts signalling anew even where it changes nothing.
    t.recut = true;
    let (mut edits, mut from) = (Edits::new(), payload.start);
    for _ in 0..MESSAGES {
        let rest = t.frame.bytes().get(from..payload.end).unwrap_or_default();
        // Lines in front of a message keep connections open (RFC 5626 section 3.5.1).
        let blank = rest.iter().take_while(|byte| !alone && matches!(byte, b'\r' | b'\n')).count();
        let begin = from + blank;
        let Some(message) = rest.get(blank..).and_then(|rest| sip::read(rest, alone)) else { break };
        from = begin + message.length;
        each(t, control, begin, alone, &mut edits)?;
    }
    edits.apply(t, control)?;
    answer_to_listener(t, control);
    ControlFlow::Continue(())
}

/// One message, which begins at `begin` in the frame.
fn each(
    t: &mut Transit<'_, '_, '_>,
    control: &Control,
    begin: usize,
    alone: bool,
    edits: &mut Edits,
) -> Step {
    let family = t.packet.family();
    let Some(message) = t.frame.bytes().get(begin..).and_then(|rest| sip::read(rest, alone)) else {
        return ControlFlow::Continue(());
    };
    let (deed, sdp) = (understand(control, family, alone, &message), message.sdp(family));
    let body = begin + message.body()..begin + message.length;
    let (length, invites) = (message.content_length(), (message.method, message.answer));
    let listens = listens_on(control, family, alone, &message);
    if control.translated {
        let listens = listens.or_else(|| remembered(control, LISTENS));
        letter::write(edits, control, begin, (family, alone), listens, &message);
    }
    let sequence = message.sequence;
    if let (Some(Method::Invite), None) = invites {
        remember(t, control, INVITED, sequence);
    }
    if let Some(port) = listens {
        remember(t, control, LISTENS, port.into());
    }
    act(t, control, deed, &sdp, begin, edits)?;
    let growth = edits.growth(&body);
    if let Some((length, place)) = length.filter(|_| growth != 0) {
        edits.put(place.within(begin), length.saturating_add_signed(growth));
    }
    ControlFlow::Continue(())
}

/// What it means. A number is that of the request that is answered.
fn understand(control: &Control, family: Family, alone: bool, message: &Message<'_>) -> Deed {
    let [invited, registered, _] = control.help.memory;
    let (Some(method), answer) = (message.method, message.answer) else { return Deed::Nothing };
    if message.is_answer() && answer.is_none() {
        return Deed::Nothing;
    }
    match (method, answer) {
        (Method::Invite, None) => Deed::Media { anew: true },
        (Method::Update | Method::Ack | Method::Prack, None) => Deed::Media { anew: false },
        (Method::Bye, None) => Deed::Forget,
        (Method::Register, None) => register_request(control, family, alone, message),
        (Method::Invite | Method::Update | Method::Prack, Some(100..=299)) => Deed::Media { anew: false },
        (Method::Invite | Method::Update | Method::Prack, Some(_)) if message.sequence == invited => {
            Deed::Forget
        }
        (Method::Register, Some(200..=299)) if message.sequence == registered => {
            // Through NAT, the registrar has the telephone's outer address.
            let there = Some(control.here().dst);
            match message.contact(family, alone).filter(|contact| contact.at.address == there) {
                Some(contact) => match contact.expires.unwrap_or(PATIENCE.0 / 1000) {
                    0 => Deed::Unregister,
                    expires => Deed::Registered { port: contact.at.port, expires },
                },
                None => Deed::Unregister,
            }
        }
        (Method::Register, Some(300..)) if message.sequence == registered => Deed::Unregister,
        _ => Deed::Nothing,
    }
}

/// A telephone registers itself, and no other; what was announced itself cannot.
fn register_request(control: &Control, family: Family, alone: bool, message: &Message<'_>) -> Deed {
    let (own, sequence) = (Some(control.here().src), message.sequence);
    match message.contact(family, alone) {
        _ if control.help.announced_by.is_some() => Deed::Nothing,
        Some(contact) if contact.at.address != own => Deed::Nothing,
        Some(contact) if contact.expires == Some(0) => Deed::Leave { sequence },
        Some(contact) => Deed::Register { contact, sequence },
        None => Deed::Nothing,
    }
}

fn act(
    t: &mut Transit<'_, '_, '_>,
    control: &Control,
    deed: Deed,
    sdp: &Sdp,
    begin: usize,
    edits: &mut Edits,
) -> Step {
    let conntrack = &mut t.bench.conntrack;
    match deed {
        Deed::Nothing => {}
        Deed::Forget => conntrack.unexpect_classes(control.flow, |class| class != SIGNALLING),
        Deed::Unregister => conntrack.unexpect_classes(control.flow, |class| class == SIGNALLING),
        Deed::Leave { sequence } => remember(t, control, REGISTERED, sequence),
        Deed::Registered { port, expires } => {
            conntrack.wake(t.bench.now, control.flow, port, Millis::from_secs(expires));
        }
        Deed::Register { contact, sequence } => {
            remember(t, control, REGISTERED, sequence);
            return register(t, control, &contact, begin, edits);
        }
        Deed::Media { anew } => {
            if anew {
                conntrack.unexpect_classes(control.flow, |class| class != SIGNALLING);
            }
            return media::announce(t, control, sdp, begin, edits);
        }
    }
    ControlFlow::Continue(())
}

/// Calls to a telephone, once its registrar agrees.
fn register(
    t: &mut Transit<'_, '_, '_>,
    control: &Control,
    contact: &Contact,
    begin: usize,
    edits: &mut Edits,
) -> Step {
    let (here, there) = (control.here(), control.there());
    let own = contact.at.port;
    let sends_from = remembered(control, LISTENS).unwrap_or(here.sport);
    let wanted = if control.translated && own == sends_from { there.dport } else { own };
    let ask = Ask {
        src: Some(there.src),
        class: SIGNALLING,
        helper: Some(Helper::Sip),
        lasting: true,
        follow: control
            .translated
            .then_some(Follow { source: (here.dst, None), destination: (here.src, Some(own)) }),
        ..Ask::from_anyone(t.packet.protocol, there.dst, wanted)
    };
    let attempts = if control.translated { ATTEMPTS } else { 1 };
    let settings = &t.bench.world.settings.conntrack;
    for n in 0..attempts {
        let Some(dport) = wanted.checked_add(n) else { break };
        match t.bench.conntrack.expect(t.bench.now, settings, control.flow, &Ask { dport, ..ask }) {
            Ok(()) => {
                if (there.dst, dport) != (here.src, own) {
                    edits.put(contact.place.within(begin), InUri(there.dst, dport));
                }
                return ControlFlow::Continue(());
            }
            Err(Refused::Full) => break,
            Err(Refused::Busy | Refused::Same) => {}
        }
    }
    drop(DropReason::HelperExpectation)
}

/// The port of a telephone that sends from another one than it gives for answers, as its `Via` says.
fn listens_on(control: &Control, family: Family, alone: bool, message: &Message<'_>) -> Option<u16> {
    let (here, applies) = (control.here(), alone && control.direction == Direction::Original);
    let via = message.via(family, alone).filter(|_| applies && !message.is_answer())?;
    (via.uri.address == here.src && via.uri.port != here.sport).then_some(via.uri.port)
}

/// Has an answer go to the port that the telephone listens on.
fn answer_to_listener(t: &mut Transit<'_, '_, '_>, control: &Control) {
    let port = remembered(control, LISTENS).filter(|_| control.direction == Direction::Reply);
    let (Some(port), true) = (port, control.translated) else { return };
    if let Transport::Udp { sport, dport } = t.packet.transport {
        let addrs = t.packet.addrs;
        let translation =
            sluice_wire::rewrite::Translation::new((addrs, (sport, dport)), (addrs, (sport, port)));
        translation.apply(t.frame.bytes_mut(), t.packet);
    }
}

/// A port in the flow's memory.
fn remembered(control: &Control, at: usize) -> Option<u16> {
    let word = control.help.memory.get(at).copied().unwrap_or_default();
    u16::try_from(word).ok().filter(|port| *port != 0)
}

/// Keeps a number in the flow's memory.
fn remember(t: &mut Transit<'_, '_, '_>, control: &Control, at: usize, word: u32) {
    if let Some(mut help) = t.bench.conntrack.help(control.flow) {
        if let Some(place) = help.memory.get_mut(at) {
            *place = word;
        }
        t.bench.conntrack.set_help(control.flow, &help);
    }
}

impl Span {
    /// Where it lies in a frame whose message begins at `begin`.
    fn within(self, begin: usize) -> Range<usize> {
        begin + usize::from(self.start)..begin + usize::from(self.end)
    }
}
