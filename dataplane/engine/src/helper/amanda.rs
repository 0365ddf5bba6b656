//! Amanda: the ports on which a backed-up host waits for its backup server, as its answer tells them.
//!
//! Source: Amanda's protocol notes ("CONNECT" line); Linux `nf_conntrack_amanda.c`, as observed on 6.18.

use std::ops::Range;

use super::text::{self, Read};

/// What a port is for.
const NAMES: [&[u8]; 4] = [b"DATA ", b"MESG ", b"INDEX ", b"STATE "];

/// A port, and where it stands in the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Never 0.
    pub port: u16,
    /// Its digits.
    pub at: Range<usize>,
}

/// Reads the ports of a `CONNECT` line, one of each name at most, in no more than the names' order.
pub fn read(payload: &[u8]) -> [Option<Port>; NAMES.len()] {
    NAMES.map(|name| port(payload, name))
}

fn port(payload: &[u8], name: &[u8]) -> Option<Port> {
    const LINE: &[u8] = b"CONNECT ";
    let start = payload.windows(LINE.len()).position(|window| window == LINE)? + LINE.len();
    let length = payload.get(start..)?.iter().position(|byte| *byte == b'\n')?;
    let line = payload.get(start..=start + length)?;
    let at = line.windows(name.len()).position(|window| window == name)? + name.len();
    let Read::Found(port, digits) = text::number(line.get(at..)?) else { return None };
    let port = u16::try_from(port).ok().filter(|port| *port != 0)?;
    Some(Port { port, at: start + at..start + at + digits })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_the_connect_line() {
        let ports = |payload: &[u8]| read(payload).map(|port| port.map_or(0, |port| port.port));
        let answer = b"Amanda 2.4 REP HANDLE\nCONNECT DATA 11001 MESG 11002 INDEX 11003\nOPTIONS ;\n";
        assert_eq!(ports(answer), [11001, 11002, 11003, 0]);
        assert_eq!(&answer[read(answer)[0].clone().unwrap().at], b"11001");
        assert_eq!(ports(b"CONNECT DATA 0 MESG 65536 INDEX x\n"), [0; 4]);
        assert_eq!(ports(b"CONNECT DATA 11001"), [0; 4], "no end of line");
        assert_eq!(ports(b"DATA 11001\n"), [0; 4]);
    }
}
