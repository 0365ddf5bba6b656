//! Header fields of SIP, the addresses in them, and what stands behind those.
//!
//! Source: RFC 3261 sections 7.3, 19.1 and 20.42, RFC 3581.

use std::net::IpAddr;
use std::ops::Range;

use sluice_wire::Family;

use super::super::text;
use super::{PORT, Span};

/// Ports below are no telephone's: such an address is left alone, as in the kernel.
const LOWEST_PORT: u32 = 1024;

/// A field, continued lines included.
pub(super) struct Field<'a> {
    name: &'a [u8],
    /// Where its value stands, without white space around it.
    pub(super) value: Range<usize>,
}

impl Field<'_> {
    /// Whether that is its name, or the compact form of it.
    pub(super) fn is(&self, name: &[u8], compact: Option<u8>) -> bool {
        let short = compact.is_some_and(|short| self.name.eq_ignore_ascii_case(&[short]));
        short || self.name.eq_ignore_ascii_case(name)
    }
}

/// The fields of a message's head.
pub(super) struct Fields<'a> {
    head: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    /// Of a message's `head`, from `at` on.
    pub(super) fn new(head: &'a [u8], at: usize) -> Fields<'a> {
        Fields { head, at }
    }

    /// The next line, with those that continue it.
    fn line(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        let rest = self.head.get(start..).filter(|rest| !rest.is_empty())?;
        let ends = |(n, byte): (usize, &u8)| {
            let continued = matches!(rest.get(n + 1), Some(b' ' | b'\t'));
            (*byte == b'\n' && !continued).then_some(n + 1)
        };
        let length = rest.iter().enumerate().find_map(ends).unwrap_or(rest.len());
        self.at = start + length;
        Some(start..self.at)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        loop {
            let line = self.line()?;
            let text = self.head.get(line.clone())?;
            let Some(colon) = text.iter().position(|byte| *byte == b':') else { continue };
            let (name, rest) = (text.get(..colon)?.trim_ascii(), text.get(colon + 1..)?);
            let before = rest.len() - rest.trim_ascii_start().len();
            let start = line.start + colon + 1 + before;
            let value = start..start + rest.trim_ascii().len();
            return Some(Field { name, value });
        }
    }
}

/// An address and port in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uri {
    /// The address.
    pub address: IpAddr,
    /// The port, that of SIP where none is named.
    pub port: u16,
    /// Where both stand, brackets included.
    pub at: Span,
}

/// The topmost `Via`: where the answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via {
    /// The sender.
    pub uri: Uri,
    /// `maddr=`: answers go there in its place.
    pub maddr: Option<Parameter<IpAddr>>,
    /// `received=`: whence the request really came.
    pub received: Option<Parameter<IpAddr>>,
    /// `rport=`: from which port it really came.
    pub rport: Option<Parameter<u16>>,
}

/// A parameter's value, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub at: Span,
}

/// The first address of a value that is a `sip:` one with numbers.
pub(super) fn uri(text: &[u8], value: Range<usize>, family: Family) -> Option<Uri> {
    let start = value.start + text::find(text.get(value.clone())?, b"sip:")? + b"sip:".len();
    let rest = text.get(start..value.end)?;
    // A name in front of the host may have anything but what ends the address.
    let end = rest.iter().position(|byte| matches!(byte, b'>' | b',' | b' ' | b'\t' | b'\r'));
    let rest = rest.get(..end.unwrap_or(rest.len()))?;
    let host = start + rest.iter().position(|byte| *byte == b'@').map_or(0, |at| at + 1);
    host_and_port(text, host..value.end, family)
}

/// The first address of each of a value's parts between commas.
pub(super) fn uris(text: &[u8], value: Range<usize>, family: Family) -> impl Iterator<Item = Uri> {
    let mut at = value.start;
    std::iter::from_fn(move || {
        let rest = text.get(at..value.end).filter(|rest| !rest.is_empty())?;
        let length = rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len());
        let part = at..at + length;
        at = (part.end + 1).min(value.end.max(part.end + 1));
        Some(uri(text, part, family))
    })
    .flatten()
}

/// `SIP/2.0/UDP 10.1.0.2:5060;branch=…`, of the transport that the message itself came by.
pub(super) fn via(text: &[u8], value: Range<usize>, family: Family, alone: bool) -> Option<Via> {
    let transport: &[u8] = if alone { b"UDP " } else { b"TCP " };
    let start = value.start + text::find(text.get(value.clone())?, transport)? + transport.len();
    let uri = host_and_port(text, start..value.end, family)?;
    let from = usize::from(uri.at.end);
    let rest = text.get(from..value.end)?;
    // Another `Via` may stand behind a comma.
    let rest = rest.get(..rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len()))?;
    let addresses = |name| {
        let at = parameter(rest, name)?;
        let (value, length) = address(rest.get(at..)?, family)?;
        Some(Parameter { value, at: Span::of(&(from + at..from + at + length))? })
    };
    let port = || {
        let at = parameter(rest, b"rport=")?;
        let digits = rest.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let value = u16::try_from(text_number(rest.get(at..at + digits)?)?).ok()?;
        Some(Parameter { value, at: Span::of(&(from + at..from + at + digits))? })
    };
    Some(Via { uri, maddr: addresses(b"maddr="), received: addresses(b"received="), rport: port() })
}

/// Where the value of a parameter begins behind an address, in what stands there.
pub(super) fn parameter(rest: &[u8], name: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += rest.get(at..)?.iter().position(|byte| *byte == b';')? + 1;
        let blank = rest.get(at..)?.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        if text::begins_with(rest.get(at + blank..)?, name) {
            return Some(at + blank + name.len());
        }
    }
}

fn host_and_port(text: &[u8], at: Range<usize>, family: Family) -> Option<Uri> {
    let rest = text.get(at.clone())?;
    let (address, length) = match rest.strip_prefix(b"[") {
        Some(inner) => {
            let (address, length) = address(inner, family)?;
            (inner.get(length) == Some(&b']')).then_some((address, length + 2))?
        }
        None => address(rest, family).filter(|_| family == Family::V4)?,
    };
    let rest = rest.get(length..)?;
    let (port, digits) = match rest.strip_prefix(b":") {
        Some(digits) => {
            (text_number(digits)?, digits.iter().take_while(|byte| byte.is_ascii_digit()).count() + 1)
        }
        None => (u32::from(PORT), 0),
    };
    let port = u16::try_from(port).ok().filter(|_| port >= LOWEST_PORT)?;
    Some(Uri { address, port, at: Span::of(&(at.start..at.start + length + digits))? })
}

/// A number up to what is no digit, or to the end.
pub(super) fn text_number(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(bytes.get(..digits)?).ok()?.parse().ok()
}

/// An address up to what cannot be in one, or to the end; how long it is.
pub(super) fn address(bytes: &[u8], family: Family) -> Option<(IpAddr, usize)> {
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
