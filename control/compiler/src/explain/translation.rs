//! What `nat` makes of a packet, in words.

use std::net::IpAddr;

use sluice_engine::conntrack::NatRange;
use sluice_engine::ruleset::Translate;
use sluice_wire::{Addrs, Packet};

/// What a rule does to a packet. The interfaces that it comes in by and leaves by have these addresses of its family.
pub(super) fn told(
    how: &Translate,
    packet: &Packet,
    ingress: Option<IpAddr>,
    egress: Option<IpAddr>,
) -> String {
    const NO_ADDRESS: &str = "would become an address of the interface, which has none";
    match how {
        Translate::Snat(range) => format!("source becomes {}", pool(range)),
        Translate::Masquerade(range) => match egress {
            Some(own) => {
                format!("source becomes {}", pool(&NatRange { addresses: Some((own, own)), ..*range }))
            }
            None => format!("source {NO_ADDRESS}"),
        },
        Translate::Blocks(blocks) => match blocks.range(packet.addrs.src()) {
            Some(range) => format!("source becomes {}", pool(&range)),
            None => "the sender is no subscriber: it is dropped".to_owned(),
        },
        Translate::Nat64(nat64) => {
            let Addrs::V6 { src, dst } = packet.addrs else { return String::new() };
            let range = nat64.range(src);
            let address = range.addresses.and_then(|(address, _)| nat64.lent(address)).map(IpAddr::V4);
            let range = NatRange { addresses: address.map(|own| (own, own)), ..range };
            match nat64.prefix().extract(dst).filter(|host| nat64.reaches(*host)) {
                Some(host) => format!("it becomes IPv4 to {host}, source {}", pool(&range)),
                None => format!("{dst} stands for no IPv4 host that is spoken to: it is dropped"),
            }
        }
        Translate::Dnat(range) => format!("destination becomes {}", pool(range)),
        Translate::Redirect(ports) => match ingress {
            Some(own) => {
                let range = NatRange { ports: *ports, ..NatRange::address(own) };
                format!("destination becomes {}", pool(&range))
            }
            None => format!("destination {NO_ADDRESS}"),
        },
    }
}

fn pool(range: &NatRange) -> String {
    let addresses =
        range.addresses.map(
            |(first, last)| {
                if first == last { first.to_string() } else { format!("one of {first}-{last}") }
            },
        );
    let ports = range.ports.map(|(first, last)| match first == last {
        true => format!("port {first}"),
        false => format!("a port of {first}-{last}"),
    });
    let lasting = range.endpoint_independent.then(|| "the same for all destinations".to_owned());
    let all = [addresses, ports, lasting].into_iter().flatten().collect::<Vec<_>>();
    all.join(", ")
}
