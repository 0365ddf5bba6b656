//! Captures and traces: which packets.

use serde::{Deserialize, Serialize};

/// Which packets are wanted: a program in classic BPF on Ethernet frames, as libpcap compiles one from tcpdump's language.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PacketFilter {
    /// What was compiled, for people to read; may be empty.
    pub expression: String,
    /// Its instructions; none: all packets.
    pub program: Vec<BpfInstruction>,
    /// Only packets that came in, or leave, by this interface.
    pub interface: Option<String>,
}

/// An instruction of classic BPF: `[code, jt, jf, k]`, as `tcpdump -ddd` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BpfInstruction(pub u16, pub u8, pub u8, pub u32);

/// What to capture.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CaptureRequest {
    /// Which packets.
    pub filter: PacketFilter,
    /// Only those that are dropped, or dropped and answered.
    pub drops: bool,
    /// Bytes of each that are wanted; 0: as many as there are.
    pub snaplen: u32,
}
