//! The body of a call: which media are to come, at which address and on which port.
//!
//! Source: RFC 4566 sections 5.2, 5.7 and 5.14.

use std::net::IpAddr;
use std::ops::Range;

use sluice_wire::Family;

use super::headers::{address, text_number};
use super::{AUDIO, IMAGE, Span, VIDEO};
use crate::helper::Class;

/// Media of one message that are read.
const MEDIA: usize = 8;

/// Ports below are no medium's; 0 says that there is none.
const LOWEST_PORT: u32 = 1024;

/// An address, and where it stands.
pub type Place = (IpAddr, Span);

/// A medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Medium {
    /// What it is.
    pub class: Class,
    /// Its port, 1024 at least.
    pub port: u16,
    /// Where that stands.
    pub port_at: Span,
    /// Its address: its own, or the session's.
    pub address: IpAddr,
    /// Where its own stands, if it has one.
    pub address_at: Option<Span>,
}

/// What a body announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Sdp {
    /// Who made it (`o=`).
    pub owner: Option<Place>,
    /// The address of media that have none of their own (`c=`).
    pub connection: Option<Place>,
    /// The media, those without an address or of the other family left out.
    pub media: [Option<Medium>; MEDIA],
}

/// Reads the body of a message, which begins at `body`.
pub(super) fn read(text: &[u8], body: usize, family: Family) -> Sdp {
    let mut sdp = Sdp::default();
    let mut count = 0;
    let mut current: Option<(Medium, bool)> = None;
    let keep = |sdp: &mut Sdp, medium: Option<(Medium, bool)>, count: &mut usize| {
        if let (Some((medium, true)), Some(place)) = (medium, sdp.media.get_mut(*count)) {
            *place = Some(medium);
            *count += 1;
        }
    };
    let mut begun = false;
    for line in lines(text, body) {
        let bytes = text.get(line.clone()).unwrap_or_default();
        if bytes.starts_with(b"m=") {
            keep(&mut sdp, current.take(), &mut count);
            begun = true;
            let session = sdp.connection.map(|(address, _)| address);
            current = medium(text, line, session).map(|medium| (medium, session.is_some()));
        } else if let Some(place) = connection(text, &line, family) {
            match &mut current {
                Some((medium, known)) => {
                    (medium.address, medium.address_at, *known) = (place.0, Some(place.1), true);
                }
                // Of a medium that is not read.
                None if begun => {}
                None => sdp.connection = sdp.connection.or(Some(place)),
            }
        } else if !begun && sdp.owner.is_none() {
            sdp.owner = owner(text, &line, family);
        }
    }
    keep(&mut sdp, current, &mut count);
    sdp
}

fn lines(text: &[u8], from: usize) -> impl Iterator<Item = Range<usize>> {
    let mut at = from;
    std::iter::from_fn(move || {
        let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
        let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let line = at..at + length;
        at = line.end + 1;
        let bare = text.get(line.clone())?;
        let end = line.end - usize::from(bare.ends_with(b"\r"));
        Some(line.start..end)
    })
}

const fn network(family: Family) -> &'static [u8] {
    match family {
        Family::V4 => b"IN IP4 ",
        Family::V6 => b"IN IP6 ",
    }
}

/// `c=IN IP4 10.1.0.2`.
fn connection(text: &[u8], line: &Range<usize>, family: Family) -> Option<Place> {
    let rest = text.get(line.clone())?.strip_prefix(b"c=")?.strip_prefix(network(family))?;
    place(text, line.end - rest.len()..line.end, family)
}

/// `o=alice 1 1 IN IP4 10.1.0.2`.
fn owner(text: &[u8], line: &Range<usize>, family: Family) -> Option<Place> {
    let bytes = text.get(line.clone())?.strip_prefix(b"o=")?;
    let network = network(family);
    let at = bytes.windows(network.len()).position(|window| window == network)? + network.len();
    place(text, line.end - bytes.len() + at..line.end, family)
}

fn place(text: &[u8], at: Range<usize>, family: Family) -> Option<Place> {
    let (found, length) = address(text.get(at.clone())?, family)?;
    Some((found, Span::of(&(at.start..at.start + length))?))
}

/// `m=audio 49170 RTP/AVP 0`. Its address is set where that is known.
fn medium(text: &[u8], line: Range<usize>, session: Option<IpAddr>) -> Option<Medium> {
    let kinds: [(&[u8], Class); 3] = [(b"m=audio ", AUDIO), (b"m=video ", VIDEO), (b"m=image ", IMAGE)];
    let bytes = text.get(line.clone())?;
    let (class, rest) =
        kinds.into_iter().find_map(|(name, class)| Some((class, bytes.strip_prefix(name)?)))?;
    let start = line.end - rest.len();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let port = text_number(rest).filter(|port| *port >= LOWEST_PORT)?;
    Some(Medium {
        class,
        port: u16::try_from(port).ok()?,
        port_at: Span::of(&(start..start + digits))?,
        address: session.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)),
        address_at: None,
    })
}
