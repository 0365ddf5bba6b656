//! Captures made here, run through small policies.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};

use super::*;

const SYSTEM: &str = "
interfaces:
  lan: {device: 'kernel:a', addresses: [10.0.0.1/24]}
  wan: {device: 'kernel:b', addresses: [192.0.2.1/24]}
routes: [{to: default, via: 192.0.2.254}]
policy: p
state: s
";

const POLICY: &str = "
nat: {postrouting: [{out: wan, action: masquerade}]}
filter:
  input: {policy: drop, rules: []}
  forward:
    policy: drop
    rules:
      - {ct: established, action: accept, name: answers}
      - {in: lan, proto: udp, dport: 53, action: accept, name: dns}
      - {in: lan, proto: tcp, action: reject}
";

/// IPv4 with eight bytes of UDP, or of a TCP header that is completed.
fn packet(protocol: u8, src: [u8; 4], dst: [u8; 4], sport: u16, dport: u16) -> Vec<u8> {
    let ports = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
    let rest: Vec<u8> = match protocol {
        17 => vec![0, 8, 0, 0],
        _ => [&[0; 8], &[0x50, 2, 0xff, 0xff, 0, 0, 0, 0][..]].concat(),
    };
    let total = 20 + ports.len() + rest.len();
    let mut ip = vec![0x45, 0, 0, total as u8, 0, 1, 0, 0, 64, protocol, 0, 0];
    ip.extend(src);
    ip.extend(dst);
    [ip, ports, rest].concat()
}

const CLIENT: [u8; 4] = [10, 0, 0, 2];
const SERVER: [u8; 4] = [198, 51, 100, 9];
const OWN: [u8; 4] = [192, 0, 2, 1];

/// A question, its answer to the router's address, a connection, a packet to the router, and one from nowhere.
fn capture() -> Vec<Vec<u8>> {
    vec![
        packet(17, CLIENT, SERVER, 5000, 53),
        packet(17, SERVER, OWN, 53, 5000),
        packet(6, CLIENT, SERVER, 5001, 80),
        packet(17, SERVER, OWN, 9, 9),
    ]
}

/// Files of a test, gone behind it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("sluice-simulate-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let folder = Folder(path);
        folder.write("system.yaml", SYSTEM.as_bytes());
        folder.write("policy.yaml", POLICY.as_bytes());
        folder
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn args(&self, capture: &Path) -> SimulateArgs {
        SimulateArgs {
            policy: self.0.join("policy.yaml"),
            capture: capture.to_owned(),
            config: Some(self.0.join("system.yaml")),
            ingress: None,
            out: None,
            packets: true,
            all: false,
            checksums: false,
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Of raw IP, a packet each 100 ms.
fn pcap(packets: &[Vec<u8>]) -> Vec<u8> {
    let header = PcapHeader { datalink: DataLink::RAW, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
    for (n, bytes) in (0..).zip(packets) {
        let packet = PcapPacket::new(Duration::from_millis(1000 + n * 100), bytes.len() as u32, bytes);
        writer.write_packet(&packet).unwrap();
    }
    writer.into_writer()
}

/// What became of each packet, in a line.
fn lines(args: &SimulateArgs) -> (Vec<String>, Summary) {
    let (system, compiled) = prepare(args).map_err(|e| format!("{e:?}")).unwrap();
    let mut router = Router::new(&system, compiled, true);
    let (mut lines, mut summary) = (Vec::new(), Summary::default());
    let stopped = capture::read(&args.capture, |packet| {
        let known = packet.interface.and_then(|name| router.interface(name)).map(From::Wire);
        if let Some(fate) = judge(&mut router, packet, known, args.checksums, &mut summary) {
            lines.push(line(0, 0.0, &fate, false));
        }
    });
    summary.stopped = stopped.unwrap();
    summary.flows = router.flows();
    summary.rules = rules(&router, args.all);
    (lines, summary)
}

#[test]
fn each_packet_and_each_rule_is_told() {
    let folder = Folder::new("told");
    let args = folder.args(&folder.write("a.pcap", &pcap(&capture())));
    let (told, summary) = lines(&args);
    assert_eq!(
        told,
        [
            "0 0.000000 lan udp 10.0.0.2:5000 > 198.51.100.9:53, new: accept to wan as udp 192.0.2.1:5000 > 198.51.100.9:53 [nat.postrouting 1, dns]",
            "0 0.000000 wan udp 198.51.100.9:53 > 192.0.2.1:5000, established: accept to lan as udp 198.51.100.9:53 > 10.0.0.2:5000 [answers]",
            "0 0.000000 lan tcp 10.0.0.2:5001 > 198.51.100.9:80, flags syn, new: answered [filter.forward 3]",
            "0 0.000000 wan udp 198.51.100.9:9 > 192.0.2.1:9, new: drop (policy_input)",
        ]
    );
    let counted: Vec<_> = summary.rules.iter().map(|rule| (rule.rule.as_str(), rule.packets)).collect();
    assert_eq!(counted, [("nat.postrouting 1", 1), ("answers", 1), ("dns", 1), ("filter.forward 3", 1)]);
    assert_eq!((summary.flows, summary.verdicts["accept"]), (1, 2));
    assert!(simulate(&args, true).is_ok());
}

#[test]
fn a_capture_that_is_cut_off_is_read_as_far_as_it_goes() {
    let folder = Folder::new("cut");
    let whole = pcap(&capture());
    let (told, summary) = lines(&folder.args(&folder.write("a.pcap", &whole[..whole.len() - 5])));
    assert_eq!((told.len(), summary.stopped.as_deref()), (3, Some("the capture is cut off")));
    for (name, bytes) in [("empty", vec![]), ("text", b"not a capture at all".to_vec())] {
        let args = folder.args(&folder.write(name, &bytes));
        assert!(matches!(simulate(&args, false), Err(Failure::CouldNotAsk(_))), "{name}");
    }
}

#[test]
fn pcapng_names_interfaces_and_says_what_a_tick_is() {
    let folder = Folder::new("ng");
    let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
    let options = vec![
        InterfaceDescriptionOption::IfName(Cow::Borrowed("wan")),
        InterfaceDescriptionOption::IfTsResol(3),
    ];
    let link = InterfaceDescriptionBlock { linktype: DataLink::RAW, snaplen: 0, options };
    writer.write_pcapng_block(link).unwrap();
    for (ticks, bytes) in [(0, &capture()[0]), (40_000, &capture()[1])] {
        let block = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: Duration::from_nanos(ticks),
            original_len: bytes.len() as u32,
            data: Cow::Borrowed(bytes),
            options: vec![],
        };
        writer.write_pcapng_block(block).unwrap();
    }
    let (told, summary) = lines(&folder.args(&folder.write("a.pcapng", &writer.into_inner())));
    assert!(told[0].starts_with("0 0.000000 wan udp 10.0.0.2:5000"), "{told:?}");
    assert_eq!((summary.verdicts.get("accept"), summary.flows), (None, 0), "{told:?}");
}

#[test]
fn without_a_system_file_addresses_are_put_on_two_sides() {
    let folder = Folder::new("sides");
    let (there, back) = (packet(17, CLIENT, SERVER, 5000, 53), packet(17, SERVER, CLIENT, 53, 5000));
    let late = pcap(&[there, back]);
    let mut args = folder.args(&folder.write("a.pcap", &late));
    args.config = None;
    assert!(matches!(simulate(&args, false), Err(Failure::No(_))), "no interfaces said");
    (args.ingress, args.out) = (Some("lan".into()), Some("wan".into()));
    folder.write(
        "policy.yaml",
        POLICY.lines().filter(|l| !l.contains("nat:")).collect::<Vec<_>>().join("\n").as_bytes(),
    );
    let (told, summary) = lines(&args);
    assert!(told[1].contains("established: accept to lan"), "{told:?}");
    assert_eq!(summary.verdicts["accept"], 2);
}
