//! TFTP: a read or write request, whose answer comes from another port of the server.
//!
//! Source: RFC 1350 section 4; Linux `nf_conntrack_tftp.c`, as observed on 6.18.

/// Opcodes of the two requests.
const REQUESTS: [u16; 2] = [1, 2];

/// Whether a payload is a request. Of a datagram it takes no more than the opcode, as in the kernel.
pub fn is_request(payload: &[u8]) -> bool {
    payload.first_chunk().is_some_and(|opcode| REQUESTS.contains(&u16::from_be_bytes(*opcode)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_read_and_write_are_requests() {
        for (payload, expected) in
            [(&b"\0\x01f\0octet\0"[..], true), (b"\0\x02", true), (b"\0\x03\0\x01", false), (b"\x01", false)]
        {
            assert_eq!(is_request(payload), expected, "{payload:?}");
        }
    }
}
