//! FTP: `PORT` and `EPRT` of the client, the answers 227 to `PASV` and 229 to `EPSV` of the server.
//!
//! Reads one segment that begins a line (`lines`), and only the first line of it. A command that is cut by the
//! end of the segment is [`Said::Part`]; one that cannot be what it says it is (a number over 255, no port) is nonsense
//! and opens nothing, where the kernel would take the number modulo 65,536 or drop the segment.
//!
//! Source: RFC 959 sections 4.1.2 and 4.2, RFC 2428; Linux `nf_conntrack_ftp.c`, as observed on 6.18.

use std::io::{Cursor, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use sluice_wire::Family;

use super::text::{self, Read};
use super::{Announced, Said};
use crate::conntrack::Direction;

/// How an address and a port are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `10,1,0,2,195,80`: `PORT`, 227.
    Commas,
    /// `|1|10.1.0.2|50000|`, `|2|fd00::2|50000|`: `EPRT`.
    Extended,
    /// `|||50000|`: 229.
    PortAlone,
}

/// A command, or an answer, that announces a data connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// What it announces.
    pub announced: Announced,
    /// How that is written.
    pub form: Form,
    /// Where, in the payload.
    pub at: Range<usize>,
}

/// What the longest address and port take in any form.
pub const LONGEST: usize = 64;

/// Reads the line that a payload begins with. Which commands count depends on the direction: the client's in the
/// original one, the server's answers in the other.
pub fn read(payload: &[u8], direction: Direction, family: Family) -> Said<Command> {
    type Reader = fn(&[u8], Family) -> Said<Command>;
    let known: [(&[u8], Reader); 2] = match direction {
        Direction::Original => [(b"PORT", port), (b"EPRT", eprt)],
        Direction::Reply => [(b"227 ", pasv), (b"229 ", epsv)],
    };
    for (name, reader) in known {
        if payload.len() <= name.len() {
            if !payload.is_empty() && text::begins_with(name, payload) {
                return Said::Part;
            }
        } else if text::begins_with(payload, name) {
            let rest = payload.get(name.len()..).unwrap_or_default();
            return match reader(rest, family) {
                Said::Found(found) => {
                    let at = found.at.start + name.len()..found.at.end + name.len();
                    Said::Found(Command { at, ..found })
                }
                other => other,
            };
        }
    }
    Said::Nothing
}

/// What stands behind the first byte that `is_start` says yes to, and where; None if the line ends before.
fn behind(rest: &[u8], is_start: impl Fn(u8) -> bool) -> Option<Said<usize>> {
    match rest.iter().position(|byte| is_start(*byte) || *byte == b'\n') {
        None => Some(Said::Part),
        Some(at) if rest.get(at) == Some(&b'\n') => None,
        Some(at) => Some(Said::Found(at)),
    }
}

/// Reads what begins at a place.
fn from(
    rest: &[u8],
    start: Option<Said<usize>>,
    reader: impl FnOnce(&[u8]) -> Read<(Announced, Form)>,
) -> Said<Command> {
    let start = match start {
        None => return Said::Nothing,
        Some(Said::Found(start)) => start,
        Some(_) => return Said::Part,
    };
    match reader(rest.get(start..).unwrap_or_default()) {
        Read::Found((announced, form), length) => {
            Said::Found(Command { announced, form, at: start..start + length })
        }
        Read::Cut => Said::Part,
        Read::Other => Said::Nothing,
    }
}

/// `PORT h1,h2,h3,h4,p1,p2`, up to the line's end.
fn port(rest: &[u8], family: Family) -> Said<Command> {
    let start = match behind(rest, |byte| byte == b' ') {
        Some(Said::Found(at)) => Some(Said::Found(at + 1)),
        other => other,
    };
    from(rest, start, |bytes| match commas(bytes, family) {
        Read::Found(_, length) if !matches!(bytes.get(length), Some(b'\r' | b'\n')) => Read::Other,
        found => found,
    })
}

/// `227 Entering Passive Mode (h1,h2,h3,h4,p1,p2).`: servers differ in all but the numbers (RFC 1123 section 4.1.2.6).
fn pasv(rest: &[u8], family: Family) -> Said<Command> {
    from(rest, behind(rest, |byte| byte.is_ascii_digit()), |bytes| commas(bytes, family))
}

fn commas(bytes: &[u8], family: Family) -> Read<(Announced, Form)> {
    let (host, port, length) = match text::octets::<6>(bytes, b',') {
        Read::Found([a, b, c, d, high, low], length) => {
            (Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]), length)
        }
        Read::Cut => return Read::Cut,
        Read::Other => return Read::Other,
    };
    if port == 0 || family != Family::V4 {
        return Read::Other;
    }
    Read::Found((Announced { address: Some(host.into()), port }, Form::Commas), length)
}

/// `EPRT |1|10.1.0.2|50000|`, of the connection's own family.
fn eprt(rest: &[u8], family: Family) -> Said<Command> {
    let start = match behind(rest, |byte| byte == b' ') {
        Some(Said::Found(at)) => Some(Said::Found(at + 1)),
        other => other,
    };
    from(rest, start, |bytes| {
        let &[mark, kind, again, ..] = bytes else { return Read::Cut };
        let kind = match kind {
            b'1' => Family::V4,
            b'2' => Family::V6,
            _ => return Read::Other,
        };
        if !is_delimiter(mark) || again != mark || kind != family {
            return Read::Other;
        }
        let from = bytes.get(3..).unwrap_or_default();
        let (address, length) = match (kind, text::v4(from), text::v6(from)) {
            (Family::V4, Read::Found(address, length), _) => (IpAddr::V4(address), length),
            (Family::V6, _, Read::Found(address, length)) => (IpAddr::V6(address), length),
            (Family::V4, Read::Cut, _) | (Family::V6, _, Read::Cut) => return Read::Cut,
            _ => return Read::Other,
        };
        if from.get(length) != Some(&mark) {
            return Read::Other;
        }
        let behind = 3 + length + 1;
        port_before(bytes, behind, mark, Some(address), Form::Extended)
    })
}

/// `229 Entering Extended Passive Mode (|||6446|)`.
fn epsv(rest: &[u8], _: Family) -> Said<Command> {
    let start = match behind(rest, |byte| byte == b'(') {
        Some(Said::Found(at)) => Some(Said::Found(at + 1)),
        other => other,
    };
    from(rest, start, |bytes| {
        let &[mark, second, third, ..] = bytes else { return Read::Cut };
        if !is_delimiter(mark) || second != mark || third != mark {
            return Read::Other;
        }
        port_before(bytes, 3, mark, None, Form::PortAlone)
    })
}

fn port_before(
    bytes: &[u8],
    at: usize,
    mark: u8,
    address: Option<IpAddr>,
    form: Form,
) -> Read<(Announced, Form)> {
    match text::port(bytes.get(at..).unwrap_or_default(), mark) {
        Read::Found(port, length) => Read::Found((Announced { address, port }, form), at + length),
        Read::Cut => Read::Cut,
        Read::Other => Read::Other,
    }
}

/// RFC 2428 section 2: any printable character; a digit would be taken for a number.
fn is_delimiter(byte: u8) -> bool {
    byte.is_ascii_graphic() && !byte.is_ascii_digit()
}

/// Writes an address and a port in a form into `room`; the length. None if that form cannot have such an address.
pub fn write(form: Form, address: IpAddr, port: u16, room: &mut [u8; LONGEST]) -> Option<usize> {
    let mut out = Cursor::new(&mut room[..]);
    match (form, address) {
        (Form::Commas, IpAddr::V4(v4)) => {
            let ([a, b, c, d], [high, low]) = (v4.octets(), port.to_be_bytes());
            write!(out, "{a},{b},{c},{d},{high},{low}")
        }
        (Form::Commas, IpAddr::V6(_)) => return None,
        (Form::Extended, IpAddr::V4(v4)) => write!(out, "|1|{v4}|{port}|"),
        // In full, as the kernel writes it.
        (Form::Extended, IpAddr::V6(v6)) => {
            let [a, b, c, d, e, f, g, h] = v6.segments();
            write!(out, "|2|{a:04x}:{b:04x}:{c:04x}:{d:04x}:{e:04x}:{f:04x}:{g:04x}:{h:04x}|{port}|")
        }
        (Form::PortAlone, _) => write!(out, "|||{port}|"),
    }
    .ok()?;
    usize::try_from(out.position()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(address: Option<&str>, port: u16, form: Form, at: Range<usize>) -> Said<Command> {
        let address = address.map(|text| text.parse().unwrap());
        Said::Found(Command { announced: Announced { address, port }, form, at })
    }

    #[test]
    fn commands_and_answers() {
        use Direction::{Original, Reply};
        use Family::{V4, V6};
        let own = Some("10.1.0.2");
        let cases: Vec<(&[u8], Direction, Family, Said<Command>)> = vec![
            (b"PORT 10,1,0,2,195,80\r\n", Original, V4, found(own, 50000, Form::Commas, 5..20)),
            (b"port 10,1,0,2,195,80\n", Original, V4, found(own, 50000, Form::Commas, 5..20)),
            (b"EPRT |1|10.1.0.2|50000|\r\n", Original, V4, found(own, 50000, Form::Extended, 5..23)),
            (
                b"EPRT !2!fd00:1::2!50000!\r\n",
                Original,
                V6,
                found(Some("fd00:1::2"), 50000, Form::Extended, 5..24),
            ),
            (
                b"227 Entering Passive Mode (10,1,0,2,156,64).\r\n",
                Reply,
                V4,
                found(own, 40000, Form::Commas, 27..42),
            ),
            (b"227 =10,1,0,2,156,64\r\n", Reply, V4, found(own, 40000, Form::Commas, 5..20)),
            (
                b"229 Entering Extended Passive Mode (|||40000|)\r\n",
                Reply,
                V6,
                found(None, 40000, Form::PortAlone, 36..45),
            ),
            // Cut by the end of a segment.
            (b"P", Original, V4, Said::Part),
            (b"PORT", Original, V4, Said::Part),
            (b"PORT ", Original, V4, Said::Part),
            (b"PORT 10,1,0,2,195,8", Original, V4, Said::Part),
            (b"EPRT |1|10.1.0.2|5000", Original, V4, Said::Part),
            (b"EPRT |2|fd00:1::", Original, V6, Said::Part),
            (b"227 Entering Passive Mode (10,1", Reply, V4, Said::Part),
            (b"229 Entering Extended", Reply, V4, Said::Part),
            (b"229 x (|||4", Reply, V4, Said::Part),
            // Nonsense.
            (b"PORT 10,1,0,2,999,80\r\n", Original, V4, Said::Nothing),
            (b"PORT 10,1,0,2,195\r\n", Original, V4, Said::Nothing),
            (b"PORT 10,1,0,2,0,0\r\n", Original, V4, Said::Nothing),
            (b"PORT 10,1,0,2,195,80,1\r\n", Original, V4, Said::Nothing),
            (b"PORT\r\n", Original, V4, Said::Nothing),
            (b"PORT 10,1,0,2,195,80\r\n", Original, V6, Said::Nothing),
            (b"EPRT |1|10.1.0.2|50000|\r\n", Original, V6, Said::Nothing),
            (b"EPRT |3|10.1.0.2|50000|\r\n", Original, V4, Said::Nothing),
            (b"EPRT |1|10.1.0.2|65536|\r\n", Original, V4, Said::Nothing),
            (b"EPRT 010010.1.0.2|50000|\r\n", Original, V4, Said::Nothing),
            (b"229 no port\r\n", Reply, V4, Said::Nothing),
            (b"229 (|||0|)\r\n", Reply, V4, Said::Nothing),
            // Of the other side.
            (b"227 Entering Passive Mode (10,1,0,2,156,64).\r\n", Original, V4, Said::Nothing),
            (b"PORT 10,1,0,2,195,80\r\n", Reply, V4, Said::Nothing),
            (b"USER a\r\n", Original, V4, Said::Nothing),
            (b"", Original, V4, Said::Nothing),
        ];
        for (payload, direction, family, expected) in cases {
            let text = String::from_utf8_lossy(payload);
            assert_eq!(read(payload, direction, family), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let v6 = "2001:db8:1111:2222:3333:4444:5555:6666";
        for (form, address, text) in [
            (Form::Commas, "10.2.0.100", "10,2,0,100,195,80"),
            (Form::Extended, "10.2.0.100", "|1|10.2.0.100|50000|"),
            (Form::Extended, v6, "|2|2001:0db8:1111:2222:3333:4444:5555:6666|50000|"),
            (Form::PortAlone, v6, "|||50000|"),
        ] {
            let mut room = [0; LONGEST];
            let length = write(form, address.parse().unwrap(), 50000, &mut room).unwrap();
            assert_eq!(&room[..length], text.as_bytes());
        }
        assert_eq!(write(Form::Commas, v6.parse().unwrap(), 50000, &mut [0; LONGEST]), None);
    }
}
