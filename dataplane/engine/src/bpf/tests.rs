//! Programs as libpcap 1.10 compiles them (`tcpdump -y EN10MB -ddd`), run on frames; programs that must not be taken.

use proptest::prelude::*;
use sluice_wire::TcpFlags;

use super::*;
use crate::testing::{CLI, between, echo, tcp, udp};

/// A program in the words of `tcpdump -ddd`, the count in front left out.
fn program(text: &str) -> Vec<Instruction> {
    let number = |word: Option<&str>| word.and_then(|word| word.parse::<u32>().ok()).unwrap();
    let instruction = |line: &str| {
        let mut words = line.split(' ');
        let mut next = || number(words.next());
        Instruction { code: next() as u16, jt: next() as u8, jf: next() as u8, k: next() }
    };
    text.split(';').map(instruction).collect()
}

const ALL: &str = "6 0 0 262144";
const SSH: &str = "40 0 0 12;21 13 0 34525;21 0 12 2048;48 0 0 23;21 0 10 6;40 0 0 20;69 8 0 8191;177 0 0 14;\
    72 0 0 16;21 0 5 22;32 0 0 26;21 2 0 167837698;32 0 0 30;21 0 1 167837698;6 0 0 262144;6 0 0 0";
const DNS6: &str = "40 0 0 12;21 0 7 34525;48 0 0 20;21 0 5 17;40 0 0 54;21 2 0 53;40 0 0 56;21 0 1 53;\
    6 0 0 262144;6 0 0 0";
const ECHO: &str = "40 0 0 12;21 0 8 2048;48 0 0 23;21 0 6 1;40 0 0 20;69 4 0 8191;177 0 0 14;80 0 0 14;\
    21 0 1 8;6 0 0 262144;6 0 0 0";
const PAYLOAD: &str = "128 0 0 0;37 0 12 100;40 0 0 12;21 0 10 2048;40 0 0 16;2 0 0 2;48 0 0 14;84 0 0 15;\
    100 0 0 2;7 0 0 6;96 0 0 2;28 0 0 0;37 0 1 20;6 0 0 262144;6 0 0 0";

/// A filter, its program, frames that match, and others.
type Case<'f> = (&'f str, &'f str, &'f [&'f [u8]], &'f [&'f [u8]]);

#[test]
fn what_libpcap_compiles_matches_what_tcpdump_would_show() {
    let four = between(CLI, "10.1.0.2", "10.2.0.2");
    let six = between(CLI, "fd00:1::2", "fd00:2::2");
    let ssh = tcp(&four, (40000, 22), TcpFlags::SYN, (1, 0));
    let dns = udp(&six, (5000, 53), b"query");
    let large = udp(&four, (5000, 53), &[0; 90]);
    let ping = echo(&four, 7);
    let cases: [Case<'_>; 5] = [
        ("", ALL, &[&ssh, &dns, &ping, b""], &[]),
        ("tcp dst port 22 and host 10.1.0.2", SSH, &[&ssh], &[&dns, &ping, &large, &ssh[..30], b""]),
        ("ip6 and udp port 53", DNS6, &[&dns], &[&ssh, &large, &dns[..55]]),
        ("icmp[icmptype] = icmp-echo", ECHO, &[&ping], &[&ssh, &dns]),
        ("len > 100 and ip[2:2] - ((ip[0]&0xf)<<2) > 20", PAYLOAD, &[&large], &[&ssh, &ping, &dns]),
    ];
    for (filter, text, matching, others) in cases {
        let program = Program::new(&program(text)).unwrap();
        assert!(matching.iter().all(|frame| program.matches(frame)), "{filter}");
        assert!(!others.iter().any(|frame| program.matches(frame)), "{filter}");
    }
}

#[test]
fn what_might_not_end_or_reads_elsewhere_is_refused() {
    let long = vec!["6 0 0 1"; Program::LONGEST + 1].join(";");
    let cases = [
        ("goes on behind its end", "40 0 0 12", BpfError::End),
        ("jumps behind its end", "21 0 5 1;6 0 0 1", BpfError::Jump(0)),
        ("jumps right behind its end", "21 1 0 1;6 0 0 1", BpfError::Jump(0)),
        ("jumps back, as 32 bits wrap", "6 0 0 1;5 0 0 4294967294;6 0 0 1", BpfError::Jump(1)),
        ("writes beyond the memory", "2 0 0 16;6 0 0 1", BpfError::Memory { at: 0, place: 16 }),
        ("reads beyond the memory", "97 0 0 4294967295;6 0 0 1", BpfError::Memory { at: 0, place: u32::MAX }),
        ("divides by zero", "52 0 0 0;6 0 0 1", BpfError::Zero(0)),
        ("has an unknown code", "6 0 0 1;23 0 0 0;6 0 0 1", BpfError::Code { at: 1, code: 23 }),
        ("is too long", &long, BpfError::Length(Program::LONGEST + 1)),
    ];
    for (name, text, error) in cases {
        assert_eq!(Program::new(&program(text)), Err(error), "{name}");
    }
    assert_eq!(Program::new(&[]), Err(BpfError::End));
}

#[test]
fn arithmetic_is_that_of_32_bits() {
    let returns = |text: &str| Program::new(&program(text)).unwrap().matches(&[0xff; 20]);
    assert!(returns("0 0 0 1;132 0 0 0;21 0 1 4294967295;6 0 0 1;6 0 0 0"), "negation wraps");
    assert!(returns("0 0 0 1;100 0 0 32;21 0 1 0;6 0 0 1;6 0 0 0"), "all bits are shifted out");
    assert!(!returns("0 0 0 7;60 0 0 0;6 0 0 1"), "X is zero, and a divisor");
    assert!(!returns("1 0 0 4294967295;64 0 0 1;6 0 0 1"), "an index that wraps is outside of the frame");
    assert!(!returns("96 0 0 3;22 0 0 0"), "memory begins with zeros");
}

proptest! {
    /// Whatever is taken ends, without a panic, on whatever frame. Codes are drawn so that many programs are taken.
    #[test]
    fn whatever_is_taken_ends(
        body in prop::collection::vec(
            (prop::sample::select(vec![
                0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x07, 0x0c, 0x14, 0x15, 0x1d, 0x20, 0x24, 0x28, 0x2c, 0x30, 0x34,
                0x35, 0x3c, 0x40, 0x45, 0x48, 0x50, 0x54, 0x5c, 0x60, 0x61, 0x64, 0x6c, 0x74, 0x80, 0x81, 0x84, 0x87,
                0x94, 0x9c, 0xa4, 0xb1,
            ]), 0_u8..3, 0_u8..3, prop_oneof![0_u32..16, any::<u32>()]), 0..40),
        frame in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut all: Vec<Instruction> =
            body.into_iter().map(|(code, jt, jf, k)| Instruction { code, jt, jf, k: if code == 5 { k & 3 } else { k } }).collect();
        all.extend([Instruction { code: 6, jt: 0, jf: 0, k: 1 }; 4]);
        if let Ok(program) = Program::new(&all) {
            program.matches(&frame);
        }
    }
}
