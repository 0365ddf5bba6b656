//! IRC: what a client offers to another one over the server (DCC), who then connects to it from anywhere.
//!
//! One offer a segment is read, in a `PRIVMSG` that begins it. Only a line that ends in the segment counts.
//!
//! Source: "A description of the DCC protocol" (Klaus Zeuge et al., 1995); Linux `nf_conntrack_irc.c`, as observed on 6.18.

use std::io::{Cursor, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use super::text::{self, Read};
use super::{Announced, Said};

/// The commands that make someone connect.
const COMMANDS: [&[u8]; 5] = [b"SEND ", b"CHAT ", b"MOVE ", b"TSEND ", b"SCHAT "];

/// Bytes of a segment that are looked at.
const SEARCHED: usize = 4095;

/// What an address and a port take at most.
pub const LONGEST: usize = 16;

/// An offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Where the offerer listens.
    pub announced: Announced,
    /// Where address and port stand in the payload, as `167837698 5000`.
    pub at: Range<usize>,
}

/// Reads the client's payload.
pub fn read(payload: &[u8]) -> Said<Offer> {
    let payload = payload.get(..SEARCHED).unwrap_or(payload);
    offer(payload).map_or(Said::Nothing, Said::Found)
}

fn offer(payload: &[u8]) -> Option<Offer> {
    let start = payload.iter().position(|byte| *byte != b' ')?;
    text::begins_with(payload.get(start..)?, b"PRIVMSG ").then_some(())?;
    let line = payload.get(..payload.iter().position(|byte| *byte == b'\n')?)?;
    let says = line.windows(2).position(|pair| pair == b" :")? + 2;
    let rest = line.get(says..)?.strip_prefix(b"\x01DCC ")?;
    let rest = COMMANDS.iter().find_map(|command| rest.strip_prefix(*command))?;
    let name = rest.iter().position(|byte| *byte == b' ')?;
    let numbers = rest.get(name + 1..)?;
    let from = line.len() - numbers.len();
    let Read::Found(address, length) = text::number(numbers) else { return None };
    let blanks = numbers.get(length..)?.iter().take_while(|byte| **byte == b' ').count();
    let Read::Found(port, digits) = text::number(numbers.get(length + blanks..)?) else { return None };
    let port = u16::try_from(port).ok().filter(|port| *port != 0 && blanks > 0)?;
    let address = Some(IpAddr::V4(Ipv4Addr::from_bits(address)));
    Some(Offer { announced: Announced { address, port }, at: from..from + length + blanks + digits })
}

/// Writes an address and a port into `room`; the length.
pub fn write(address: IpAddr, port: u16, room: &mut [u8; LONGEST]) -> Option<usize> {
    let IpAddr::V4(address) = address else { return None };
    let mut out = Cursor::new(&mut room[..]);
    write!(out, "{} {port}", address.to_bits()).ok()?;
    usize::try_from(out.position()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers() {
        let own = Some(Ipv4Addr::new(10, 1, 0, 2).into());
        let found = |at| Said::Found(Offer { announced: Announced { address: own, port: 5000 }, at });
        let cases: Vec<(&[u8], Said<Offer>)> = vec![
            (b"PRIVMSG bob :\x01DCC CHAT chat 167837698 5000\x01\r\n", found(28..42)),
            (b" privmsg bob :\x01DCC SEND f 167837698  5000 12345\x01\n", found(26..41)),
            (b"PRIVMSG bob :\x01DCC SEND f 167837698 5000 1\x01", Said::Nothing),
            (b"PRIVMSG bob :\x01DCC SEND f 167837698 0 1\x01\n", Said::Nothing),
            (b"PRIVMSG bob :\x01DCC SEND f 167837698 65536 1\x01\n", Said::Nothing),
            (b"PRIVMSG bob :\x01DCC SEND f 4294967296 5000 1\x01\n", Said::Nothing),
            (b"PRIVMSG bob :\x01DCC RESUME f 167837698 5000\x01\n", Said::Nothing),
            (b"PRIVMSG bob :hello \x01DCC SEND f 167837698 5000\x01\n", Said::Nothing),
            (b"NOTICE bob :\x01DCC SEND f 167837698 5000\x01\n", Said::Nothing),
            (b"", Said::Nothing),
        ];
        for (payload, expected) in cases {
            assert_eq!(read(payload), expected, "{:?}", String::from_utf8_lossy(payload));
        }
        let mut room = [0; LONGEST];
        let length = write("255.255.255.255".parse().unwrap(), 65535, &mut room).unwrap();
        assert_eq!(&room[..length], b"4294967295 65535");
    }
}
