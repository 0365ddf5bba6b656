//! SIP: which message it is, the addresses that its headers name, and the media that its body announces (SDP).
//!
//! A datagram is one message, whatever its length says. Of a stream, a message is read that ends in the segment in which it
//! begins; what does not says nothing. Header names count in their long and compact forms, and may be continued on the
//! next line. Where something stands is told in bytes from the message's beginning, so that it can be written anew.
//!
//! | file | what |
//! |---|---|
//! | `headers` | fields, addresses in them, and their parameters |
//! | `sdp` | the body's media |
//!
//! What it does not do: find messages that begin in the middle of a segment, or bodies of several parts.
//!
//! Source: RFC 3261 sections 7, 18.2 and 20, RFC 3581; Linux `nf_conntrack_sip.c`, as observed on 6.18.

mod headers;
mod sdp;

use std::ops::Range;

use sluice_wire::Family;

use self::headers::{Fields, text_number};
pub use self::headers::{Parameter, Uri, Via};
pub use self::sdp::{Medium, Sdp};
use super::text::{self, Read};
use super::{Announced, Class};

/// Registered telephones: calls to them.
pub const SIGNALLING: Class = Class(0);
/// Speech.
pub const AUDIO: Class = Class(1);
/// Pictures that move.
pub const VIDEO: Class = Class(2);
/// Facsimile.
pub const IMAGE: Class = Class(3);

/// The port where none is named.
const PORT: u16 = 5060;

/// What is shorter is none: the kernel's "SIP/2.0 200".
const SHORTEST: usize = 11;

/// Where something stands in a message: bytes from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// Its first byte.
    pub start: u16,
    /// The one behind its last.
    pub end: u16,
}

impl Span {
    /// None for what no packet has.
    fn of(range: &Range<usize>) -> Option<Span> {
        Some(Span { start: range.start.try_into().ok()?, end: range.end.try_into().ok()? })
    }
}

/// The methods that mean something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Begins a call, or changes it.
    Invite,
    /// Changes a call that is not answered yet.
    Update,
    /// Confirms an answer.
    Ack,
    /// Confirms a provisional answer.
    Prack,
    /// Ends a call.
    Bye,
    /// Says where a telephone is.
    Register,
}

const METHODS: [(&[u8], Method); 6] = [
    (b"INVITE", Method::Invite),
    (b"UPDATE", Method::Update),
    (b"ACK", Method::Ack),
    (b"PRACK", Method::Prack),
    (b"BYE", Method::Bye),
    (b"REGISTER", Method::Register),
];

/// How answers begin.
const VERSION: &[u8] = b"SIP/2.0 ";

/// A message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The method, of an answer that which it answers; None for those that mean nothing here, and where the message's number
    /// does not go with its first line.
    pub method: Option<Method>,
    /// Its code, if it is an answer.
    pub answer: Option<u16>,
    /// The number of the request; 0 without a method.
    pub sequence: u32,
    /// Bytes of all of it.
    pub length: usize,
    text: &'a [u8],
    /// Where the first line ends, and where the headers do.
    first: usize,
    head: usize,
    body: usize,
}

/// Where a telephone waits for calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The address is always there.
    pub at: Announced,
    /// Where it stands.
    pub place: Span,
    /// For how many seconds, if it says so.
    pub expires: Option<u32>,
}

/// Reads the message that a payload begins with; None if there is none. Of a datagram (`alone`), the body is all that
/// follows the headers, and the headers may lack their end; of a stream, it is as long as it says.
pub fn read(payload: &[u8], alone: bool) -> Option<Message<'_>> {
    const END: &[u8] = b"\r\n\r\n";
    if payload.len() < SHORTEST {
        return None;
    }
    let end = payload.windows(END.len()).position(|window| window == END);
    let (head, body) = match end {
        Some(at) => (at + 2, at + END.len()),
        None if alone => (payload.len(), payload.len()),
        None => return None,
    };
    let first = payload.get(..head)?.windows(2).position(|window| window == b"\r\n")?;
    let whole = Message {
        method: None,
        answer: None,
        sequence: 0,
        length: payload.len(),
        text: payload,
        first,
        head,
        body,
    };
    let announced = whole.content_length().map(|(length, _)| length);
    let length = match announced {
        _ if alone => payload.len(),
        Some(length) => body.checked_add(usize::try_from(length).ok()?)?,
        None => return None,
    };
    let text = payload.get(..length)?;
    Some(Message { length, text, ..whole }.understood())
}

impl<'a> Message<'a> {
    /// Adds what the first line and the number say, if they go together.
    fn understood(self) -> Message<'a> {
        let start = self.text.get(..self.first).unwrap_or_default();
        let answer = start.strip_prefix(VERSION).map(text_number);
        let known = self.sequence_and_method().filter(|(_, name, _)| match answer {
            Some(_) => true,
            None => start.starts_with(name) && start.get(name.len()) == Some(&b' '),
        });
        let code = answer.map(|code| code.and_then(|code| u16::try_from(code).ok()));
        match (known, code) {
            // An answer without a code.
            (_, Some(None)) | (None, _) => Message { answer: code.flatten(), ..self },
            (Some((sequence, _, method)), _) => {
                Message { method: Some(method), answer: code.flatten(), sequence, ..self }
            }
        }
    }

    /// `CSeq: 314159 INVITE`.
    fn sequence_and_method(&self) -> Option<(u32, &'static [u8], Method)> {
        let value = self.text.get(self.field(b"CSeq", None)?)?;
        let Read::Found(number, digits) = text::number(value) else { return None };
        let name = value.get(digits..)?.trim_ascii();
        METHODS.iter().find(|(text, _)| *text == name).map(|(text, method)| (number, *text, *method))
    }

    /// Where its body begins.
    pub const fn body(&self) -> usize {
        self.body
    }

    /// Whether it answers a request.
    pub fn is_answer(&self) -> bool {
        self.text.starts_with(VERSION)
    }

    /// The value of the first header of a name, or of its compact form.
    fn field(&self, name: &[u8], compact: Option<u8>) -> Option<Range<usize>> {
        self.fields(name, compact).next()
    }

    /// The values of all headers of a name.
    fn fields(&self, name: &[u8], compact: Option<u8>) -> impl Iterator<Item = Range<usize>> {
        Fields::new(self.text.get(..self.head).unwrap_or_default(), self.first + 2)
            .filter(move |field| field.is(name, compact))
            .map(|field| field.value)
    }

    /// How long the body is said to be, and where that stands.
    pub fn content_length(&self) -> Option<(u32, Span)> {
        let value = self.field(b"Content-Length", Some(b'l'))?;
        let digits = self.text.get(value.clone())?.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let at = value.start..value.start + digits;
        Some((text_number(self.text.get(at.clone())?)?, Span::of(&at)?))
    }

    /// The address that a request is for.
    pub fn request(&self, family: Family) -> Option<Uri> {
        if self.is_answer() {
            return None;
        }
        headers::uri(self.text, 0..self.first, family)
    }

    /// Who the message comes from at last, as the topmost `Via` has it.
    pub fn via(&self, family: Family, alone: bool) -> Option<Via> {
        headers::via(self.text, self.field(b"Via", Some(b'v'))?, family, alone)
    }

    /// All addresses of `Contact` headers that are numbers.
    pub fn contacts(&self, family: Family) -> impl Iterator<Item = Uri> {
        let text = self.text;
        self.fields(b"Contact", Some(b'm')).flat_map(move |value| headers::uris(text, value, family))
    }

    /// The addresses of `From` and `To`, if they are numbers.
    pub fn parties(&self, family: Family) -> impl Iterator<Item = Uri> {
        let names: [(&[u8], u8); 2] = [(b"From", b'f'), (b"To", b't')];
        let values = names.map(|(name, compact)| self.field(name, Some(compact)));
        let text = self.text;
        values.into_iter().flatten().filter_map(move |value| headers::uri(text, value, family))
    }

    /// The media that the body announces.
    pub fn sdp(&self, family: Family) -> Sdp {
        sdp::read(self.text, self.body, family)
    }

    /// Where a telephone says that it waits, of the connection's own family, over the connection's own protocol
    /// (`alone`: UDP).
    pub fn contact(&self, family: Family, alone: bool) -> Option<Contact> {
        let value = self.field(b"Contact", Some(b'm'))?;
        let uri = headers::uri(self.text, value.clone(), family)?;
        let rest = self.text.get(usize::from(uri.at.end)..value.end)?;
        let own: &[u8] = if alone { b"udp" } else { b"tcp" };
        match headers::parameter(rest, b"transport=") {
            Some(at) if !text::begins_with(rest.get(at..)?, own) => return None,
            _ => {}
        }
        let expires = match headers::parameter(rest, b"expires=") {
            // A time that is no number is no registration.
            Some(at) => Some(text_number(rest.get(at..)?)?),
            None => self.field(b"Expires", None).and_then(|value| text_number(self.text.get(value)?)),
        };
        let at = Announced { address: Some(uri.address), port: uri.port };
        Some(Contact { at, place: uri.at, expires })
    }
}

#[cfg(test)]
mod tests;
