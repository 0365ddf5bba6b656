//! SIP: the media of calls, and calls to registered telephones.
//!
//! Media go between the two ends of the signalling alone (the kernel's `sip_direct_media`), calls come from the registrar
//! alone (`sip_direct_signalling`). The end of a call, or of an attempt, forgets the media that have not come.
//!
//! What it does not do: write messages anew. Signalling that is translated is not read at all, and opens nothing.
//! Source: RFC 3261, RFC 3264; Linux `nf_conntrack_sip.c`, as observed on 6.18.

use std::ops::{ControlFlow, Range};

use sluice_wire::{Protocol, Transport};

use super::{Control, expect};
use crate::conntrack::Ask;
use crate::helper::sip::{self, Message, Method, SIGNALLING};
use crate::helper::{Class, Helper};
use crate::ids::Millis;
use crate::pipeline::Step;
use crate::transit::Transit;

/// How long signalling lives behind a message: the kernel's `sip_timeout`.
const PATIENCE: Millis = Millis::from_secs(3600);

/// Messages of one segment that are read.
const MESSAGES: usize = 16;

/// Media of one message, and what each is.
type Media = [Option<(Class, u16)>; 8];

/// What is to be done about a message, without the message.
#[derive(Clone, Copy)]
enum Deed {
    /// Expect media, and forget those before, if the call is begun anew.
    Media {
        anew: bool,
    },
    /// The call is over.
    Forget,
    /// A telephone asks to be registered at a port.
    Register {
        port: u16,
        sequence: u32,
    },
    /// It is, for so many seconds.
    Registered {
        port: u16,
        expires: u32,
    },
    /// It is not.
    Unregister,
    Nothing,
}

/// Looks at a datagram or a segment of signalling.
pub(super) fn look(t: &mut Transit<'_, '_, '_>, control: &Control, payload: Range<usize>) -> Step {
    if control.translated {
        return ControlFlow::Continue(());
    }
    let alone = matches!(t.packet.transport, Transport::Udp { .. });
    t.bench.conntrack.extend(t.bench.now, control.flow, PATIENCE);
    let mut from = payload.start;
    for _ in 0..MESSAGES {
        let Some(message) = t.frame.bytes().get(from..payload.end).and_then(|rest| sip::read(rest, alone))
        else {
            break;
        };
        from += message.length;
        let (deed, media) = understand(control, t.packet.family(), &message);
        if let (Method::Invite, None) = (message.method, message.answer) {
            remember(t, control, 0, message.sequence);
        }
        act(t, control, deed, &media)?;
    }
    ControlFlow::Continue(())
}

fn understand(control: &Control, family: sluice_wire::Family, message: &Message<'_>) -> (Deed, Media) {
    let mut media: Media = [None; 8];
    let own = Some(control.here().src);
    let announced = message.media(family).filter(|(_, at)| at.address == own);
    for (place, (class, at)) in media.iter_mut().zip(announced) {
        *place = Some((class, at.port));
    }
    let [invited, registered, _] = control.help.memory;
    let deed = match (message.method, message.answer) {
        (Method::Invite, None) => Deed::Media { anew: true },
        (Method::Update | Method::Ack | Method::Prack, None) => Deed::Media { anew: false },
        (Method::Bye, None) => Deed::Forget,
        (Method::Register, None) => match message.contact(family) {
            Some(contact) if contact.at.address == own && contact.expires != Some(0) => {
                Deed::Register { port: contact.at.port, sequence: message.sequence }
            }
            _ => Deed::Nothing,
        },
        (Method::Invite | Method::Update | Method::Prack, Some(100..=299)) => Deed::Media { anew: false },
        (Method::Invite | Method::Update | Method::Prack, Some(_)) if message.sequence == invited => {
            Deed::Forget
        }
        (Method::Register, Some(200..=299)) if message.sequence == registered => {
            let there = Some(control.there().src);
            match message.contact(family).filter(|contact| contact.at.address == there) {
                Some(contact) => match contact.expires.unwrap_or(PATIENCE.0 / 1000) {
                    0 => Deed::Unregister,
                    expires => Deed::Registered { port: contact.at.port, expires },
                },
                None => Deed::Unregister,
            }
        }
        (Method::Register, Some(300..)) if message.sequence == registered => Deed::Unregister,
        _ => Deed::Nothing,
    };
    (deed, media)
}

fn act(t: &mut Transit<'_, '_, '_>, control: &Control, deed: Deed, media: &Media) -> Step {
    let conntrack = &mut t.bench.conntrack;
    match deed {
        Deed::Nothing => {}
        Deed::Forget => conntrack.unexpect_classes(control.flow, |class| class != SIGNALLING),
        Deed::Unregister => conntrack.unexpect_classes(control.flow, |class| class == SIGNALLING),
        Deed::Registered { port, expires } => {
            conntrack.wake(t.bench.now, control.flow, port, Millis::from_secs(expires));
        }
        Deed::Register { port, sequence } => {
            remember(t, control, 1, sequence);
            return register(t, control, port);
        }
        Deed::Media { anew } => {
            if anew {
                conntrack.unexpect_classes(control.flow, |class| class != SIGNALLING);
            }
            for (class, port) in media.iter().flatten() {
                // RTP on the even port, RTCP on the odd one behind it (RFC 3550 section 11).
                for port in [port & !1, port | 1] {
                    expect_medium(t, control, *class, port)?;
                }
            }
        }
    }
    ControlFlow::Continue(())
}

fn expect_medium(t: &mut Transit<'_, '_, '_>, control: &Control, class: Class, port: u16) -> Step {
    let ask = Ask::from_anyone(Protocol::UDP, control.here().src, port);
    expect(t, control, &Ask { src: Some(control.there().src), class, ..ask })
}

/// Calls to a telephone, once its registrar agrees.
fn register(t: &mut Transit<'_, '_, '_>, control: &Control, port: u16) -> Step {
    let ask = Ask::from_anyone(t.packet.protocol, control.here().src, port);
    let src = Some(control.there().src);
    expect(t, control, &Ask { src, class: SIGNALLING, helper: Some(Helper::Sip), lasting: true, ..ask })
}

/// Keeps the number of a request, by which its answer is known.
fn remember(t: &mut Transit<'_, '_, '_>, control: &Control, at: usize, sequence: u32) {
    if let Some(mut help) = t.bench.conntrack.help(control.flow) {
        if let Some(place) = help.memory.get_mut(at) {
            *place = sequence;
        }
        t.bench.conntrack.set_help(control.flow, &help);
    }
}
