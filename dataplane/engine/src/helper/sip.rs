//! SIP: which message it is, the media that its body announces (SDP), and where a registered telephone waits for calls.
//!
//! Reads whole messages alone: what a datagram, or a segment, does not hold to its end says nothing. Header names count in
//! their long and compact forms; folded lines do not.
//!
//! Source: RFC 3261 sections 7 and 20, RFC 4566; Linux `nf_conntrack_sip.c`, as observed on 6.18.

use std::net::IpAddr;

use sluice_wire::Family;

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

/// Media of one message that are read.
const MEDIA: usize = 8;

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

/// A message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The method, of an answer that which it answers.
    pub method: Method,
    /// Its code, if it is an answer.
    pub answer: Option<u16>,
    /// The number of the request.
    pub sequence: u32,
    headers: &'a [u8],
    body: &'a [u8],
    /// Bytes of all of it.
    pub length: usize,
}

/// Where a telephone waits for calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The address is always there.
    pub at: Announced,
    /// For how many seconds, if it says so.
    pub expires: Option<u32>,
}

/// Reads the message that a payload begins with; None if there is none that matters. Of a datagram (`alone`), the body
/// is all that follows the headers; of a stream, what its length says.
pub fn read(payload: &[u8], alone: bool) -> Option<Message<'_>> {
    const END: &[u8] = b"\r\n\r\n";
    let head = payload.windows(END.len()).position(|window| window == END)?;
    let (head, rest) = (payload.get(..head + 2)?, payload.get(head + END.len()..)?);
    let first = head.windows(2).position(|window| window == b"\r\n")?;
    let (start, headers) = (head.get(..first)?, head.get(first + 2..)?);
    let announced = match header(headers, b"Content-Length", Some(b'l')).map(text_number) {
        Some(length) => usize::try_from(length?).ok()?,
        None if alone => rest.len(),
        None => return None,
    };
    let body = rest.get(..announced.min(if alone { rest.len() } else { announced }))?;
    let (sequence, name) = sequence(headers)?;
    let method = METHODS.iter().find(|(text, _)| *text == name)?.1;
    let answer = match start.strip_prefix(b"SIP/2.0 ") {
        Some(code) => Some(u16::try_from(text_number(code)?).ok()?),
        None if start.starts_with(name) && start.ends_with(b" SIP/2.0") => None,
        None => return None,
    };
    let length = head.len() + 2 + body.len();
    Some(Message { method, answer, sequence, headers, body, length })
}

/// `CSeq: 314159 INVITE`.
fn sequence(headers: &[u8]) -> Option<(u32, &[u8])> {
    let value = header(headers, b"CSeq", None)?;
    let Read::Found(number, digits) = text::number(value) else { return None };
    Some((number, value.get(digits..)?.trim_ascii()))
}

/// The value of the first header of a name, or of its compact form.
fn header<'a>(headers: &'a [u8], name: &[u8], compact: Option<u8>) -> Option<&'a [u8]> {
    lines(headers).find_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let found = line.get(..colon)?.trim_ascii_end();
        let short = compact.is_some_and(|short| found.eq_ignore_ascii_case(&[short]));
        (short || found.eq_ignore_ascii_case(name)).then(|| line.get(colon + 1..))?.map(<[u8]>::trim_ascii)
    })
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// A number up to what is no digit, or to the end.
fn text_number(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(bytes.get(..digits)?).ok()?.parse().ok()
}

/// An address up to what cannot be in one, or to the end; how long it is.
fn address(bytes: &[u8], family: Family) -> Option<(IpAddr, usize)> {
    let part = |byte: &u8| match family {
        Family::V4 => byte.is_ascii_digit() || *byte == b'.',
        Family::V6 => byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'),
    };
    let length = bytes.iter().take_while(|byte| part(byte)).count();
    let text = std::str::from_utf8(bytes.get(..length)?).ok()?;
    let address = match family {
        Family::V4 => IpAddr::V4(text.parse().ok()?),
        Family::V6 => IpAddr::V6(text.parse().ok()?),
    };
    Some((address, length))
}

impl Message<'_> {
    /// The media that the body announces, with their classes. An address that does not stand with the medium is the
    /// session's; one without either, or of the other family, is none.
    pub fn media(&self, family: Family) -> impl Iterator<Item = (Class, Announced)> {
        let connection = move |line: &[u8]| {
            let kind: &[u8] = if family == Family::V4 { b"c=IN IP4 " } else { b"c=IN IP6 " };
            address(line.strip_prefix(kind)?, family).map(|(address, _)| address)
        };
        let all = lines(self.body).enumerate();
        let media = all.filter(|(_, line)| line.starts_with(b"m=")).take(MEDIA);
        let session = lines(self.body).take_while(|line| !line.starts_with(b"m=")).find_map(connection);
        media.filter_map(move |(at, line)| {
            let (class, port) = medium(line)?;
            let own = lines(self.body).skip(at + 1).take_while(|line| !line.starts_with(b"m="));
            let address = Some(own.into_iter().find_map(connection).or(session)?);
            Some((class, Announced { address, port }))
        })
    }

    /// Where a telephone says that it waits, of the connection's own family.
    pub fn contact(&self, family: Family) -> Option<Contact> {
        let value = header(self.headers, b"Contact", Some(b'm'))?;
        let uri = value.get(text::find(value, b"sip:")? + 4..)?;
        let end = uri.iter().position(|byte| matches!(byte, b'>' | b';' | b'?')).unwrap_or(uri.len());
        let place = uri.get(..end)?;
        let place = place.get(place.iter().position(|byte| *byte == b'@').map_or(0, |at| at + 1)..)?;
        let place = place.strip_prefix(b"[").unwrap_or(place);
        let (host, length) = address(place, family)?;
        let rest = place.get(length..)?;
        let rest = rest.strip_prefix(b"]").unwrap_or(rest);
        let port = match rest.strip_prefix(b":") {
            Some(port) => u16::try_from(text_number(port)?).ok().filter(|port| *port != 0)?,
            None => PORT,
        };
        let parameter = text::find(value, b";expires=").and_then(|at| text_number(value.get(at + 9..)?));
        let expires = parameter.or_else(|| text_number(header(self.headers, b"Expires", None)?));
        Some(Contact { at: Announced { address: Some(host), port }, expires })
    }
}

/// `m=audio 49170 RTP/AVP 0`: what, and on which port. A port below 1024 is refused, as in the kernel.
fn medium(line: &[u8]) -> Option<(Class, u16)> {
    let kinds: [(&[u8], Class); 3] = [(b"m=audio ", AUDIO), (b"m=video ", VIDEO), (b"m=image ", IMAGE)];
    let (class, port) =
        kinds.into_iter().find_map(|(name, class)| Some((class, line.strip_prefix(name)?)))?;
    let port = u16::try_from(text_number(port)?).ok()?;
    (port >= 1024).then_some((class, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &str = "v=0\r\nc=IN IP4 10.1.0.2\r\nt=0 0\r\nm=audio 49170 RTP/AVP 0\r\nm=video 50000 RTP/AVP 31\r\n\
                       c=IN IP4 10.1.0.3\r\nm=audio 0 RTP/AVP 0\r\nm=image 53 udptl t38\r\n";

    fn invite(start: &str, body: &str) -> String {
        format!(
            "{start}\r\nVia: SIP/2.0/UDP 10.1.0.2\r\nCSeq: 7 INVITE\r\nm: <sip:a@10.1.0.2:5062>;expires=60\r\n\
             l: {}\r\n\r\n{body}",
            body.len()
        )
    }

    #[test]
    fn requests_and_answers() {
        let request = invite("INVITE sip:b@10.2.0.2 SIP/2.0", SDP);
        let message = read(request.as_bytes(), true).unwrap();
        assert_eq!((message.method, message.answer, message.sequence), (Method::Invite, None, 7));
        assert_eq!(message.length, request.len());
        let media: Vec<_> =
            message.media(Family::V4).map(|(class, at)| (class, at.address, at.port)).collect();
        let address = |last| Some(IpAddr::from([10, 1, 0, last]));
        assert_eq!(media, [(AUDIO, address(2), 49170), (VIDEO, address(3), 50000)]);
        assert_eq!(message.media(Family::V6).count(), 0);
        let contact = message.contact(Family::V4).unwrap();
        assert_eq!((contact.at.address, contact.at.port, contact.expires), (address(2), 5062, Some(60)));
        let answer = invite("SIP/2.0 200 OK", SDP);
        assert_eq!(read(answer.as_bytes(), true).unwrap().answer, Some(200));
    }

    #[test]
    fn what_is_no_message_says_nothing() {
        let whole = invite("INVITE sip:b@10.2.0.2 SIP/2.0", SDP);
        for (name, payload, alone) in [
            ("empty", "", true),
            ("no end of headers", &whole[..100], true),
            ("of a stream, cut", &whole[..whole.len() - 1], false),
            ("another method", &whole.replace("7 INVITE", "7 OPTIONS"), true),
            ("a start that is none", &whole.replace("SIP/2.0\r\nVia", "SIP/3.0\r\nVia"), true),
            ("no CSeq", &whole.replace("CSeq", "XSeq"), true),
        ] {
            assert!(read(payload.as_bytes(), alone).is_none(), "{name}");
        }
    }

    #[test]
    fn contacts_of_both_families() {
        for (value, family, expected) in [
            ("<sip:a@10.1.0.2>", Family::V4, Some(("10.1.0.2", 5060))),
            ("sip:10.1.0.2:6000;transport=udp", Family::V4, Some(("10.1.0.2", 6000))),
            ("<sip:a@[fd00:1::2]:5070>", Family::V6, Some(("fd00:1::2", 5070))),
            ("<sip:a@10.1.0.2>", Family::V6, None),
            ("<sip:a@example.org>", Family::V4, None),
            ("<sip:a@10.1.0.2:0>", Family::V4, None),
            ("*", Family::V4, None),
        ] {
            let text = format!("REGISTER sip:x SIP/2.0\r\nCSeq: 1 REGISTER\r\nContact: {value}\r\n\r\n");
            let contact = read(text.as_bytes(), true).unwrap().contact(family);
            let found = contact.map(|contact| (contact.at.address.unwrap().to_string(), contact.at.port));
            assert_eq!(found, expected.map(|(host, port)| (host.to_owned(), port)), "{value}");
        }
    }
}
