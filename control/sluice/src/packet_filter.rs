//! Which packets are to be captured or traced: tcpdump's language, compiled by libpcap here in the client. The daemon gets
//! instructions and verifies them; it has no parser of that language.

use clap::Args;
use sluice_api::{BpfInstruction, PacketFilter};

use crate::Failure;

#[derive(Debug, Args)]
pub(crate) struct FilterArgs {
    /// Only packets that come in or leave by this interface.
    #[arg(short, long, value_name = "IF")]
    interface: Option<String>,
    /// Only packets that match, in tcpdump's language (pcap-filter(7)): host 10.0.0.9 and tcp port 80
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
}

impl FilterArgs {
    /// Compiles the filter.
    pub(crate) fn compile(&self) -> Result<PacketFilter, Failure> {
        let expression = self.filter.join(" ");
        let program = if expression.trim().is_empty() { Vec::new() } else { compile(&expression)? };
        Ok(PacketFilter { expression, program, interface: self.interface.clone() })
    }
}

fn compile(expression: &str) -> Result<Vec<BpfInstruction>, Failure> {
    let no = |error: &dyn std::fmt::Display| Failure::No(Some(format!("filter {expression:?}: {error}")));
    let capture = pcap::Capture::dead(pcap::Linktype::ETHERNET).map_err(|error| no(&error))?;
    let program = capture.compile(expression, true).map_err(|error| no(&error))?;
    // The numbers of an instruction are not to be had but by the words of `tcpdump -ddd`.
    let parsed: Option<Vec<BpfInstruction>> =
        program.get_instructions().iter().map(|instruction| parse(&instruction.to_string())).collect();
    parsed.ok_or_else(|| no(&"libpcap's answer is not understood"))
}

/// Reads an instruction: `40 0 0 12`.
fn parse(text: &str) -> Option<BpfInstruction> {
    let mut words = text.split_ascii_whitespace();
    let instruction = BpfInstruction(
        words.next()?.parse().ok()?,
        words.next()?.parse().ok()?,
        words.next()?.parse().ok()?,
        words.next()?.parse().ok()?,
    );
    words.next().is_none().then_some(instruction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libpcap_compiles_it() {
        let args = |filter: &str| FilterArgs { interface: None, filter: vec![filter.into()] };
        let arp = args("arp").compile().unwrap().program;
        let expected = [(0x28, 0, 0, 12), (0x15, 0, 1, 0x806), (6, 0, 0, 65535), (6, 0, 0, 0)];
        let same = |(got, want): (&BpfInstruction, &(u16, u8, u8, u32))| {
            (got.0, got.1, got.2) == (want.0, want.1, want.2) && (got.0 == 6 || got.3 == want.3)
        };
        assert_eq!(arp.len(), expected.len());
        assert!(arp.iter().zip(&expected).all(same), "{arp:?}");
        assert_eq!(args("").compile().unwrap().program, []);
        let Err(Failure::No(Some(error))) = args("port nonsense").compile() else { panic!("it is nonsense") };
        assert!(error.contains("port nonsense"), "{error}");
    }
}
