//! The entries of `interfaces:`: names, devices and addresses.

use std::net::IpAddr;
use std::path::Path;

use sluice_wire::MacAddr;

use super::decode::items;
use super::{Device, Interface, RpFilter, VlanId};
use crate::addr::IpPrefix;
use crate::decode::{Reader, nearest};
use crate::diagnostics::ValueError;
use crate::yaml::{Key, Node, Value};

pub(super) const INTERFACE_KEYS: [&str; 6] = ["device", "addresses", "mtu", "rp_filter", "vlan", "mac"];

/// Reads `interfaces:`. Paths of devices are resolved against `folder`.
pub(super) fn interfaces<'a>(reader: &mut Reader<'a>, node: &Node<'a>, folder: &Path) -> Vec<Interface> {
    let Some(entries) = reader.map(node, "`interfaces`") else { return Vec::new() };
    if entries.is_empty() {
        reader.error(node.span, "`interfaces` is empty: a router needs at least one");
    }
    entries.iter().filter_map(|(key, node)| interface(reader, key, node, folder)).collect()
}

fn interface<'a>(
    reader: &mut Reader<'a>,
    key: &Key<'a>,
    node: &Node<'a>,
    folder: &Path,
) -> Option<Interface> {
    let name = key.text.to_string();
    if let Err(error) = link_name(&name) {
        reader.error(key.span, error.to_string());
    }
    let fields = reader.fields(node, &format!("interface `{name}`"), &INTERFACE_KEYS)?;
    let device = fields
        .require(reader, &format!("interface `{name}`"), "device")
        .and_then(|node| reader.parsed(node, "`device`", |text| device(text, folder)));
    let kernel_addresses = fields.get("addresses").is_some_and(is_kernel);
    let listed = fields.get("addresses").filter(|_| !kernel_addresses);
    let addresses = listed.map(|node| addresses(reader, node)).unwrap_or_default();
    let mtu = fields.get("mtu").and_then(|node| mtu(reader, node, &addresses));
    let rp_filter = fields.get("rp_filter").and_then(|node| {
        let words = [("off", RpFilter::Off), ("loose", RpFilter::Loose), ("strict", RpFilter::Strict)];
        reader.keyword(node, "`rp_filter`", &words)
    });
    let vlan =
        fields.get("vlan").and_then(|node| reader.number16(node, "`vlan`", 1, 4094)).and_then(VlanId::new);
    let mac = fields.get("mac").and_then(|node| mac(reader, node));
    Some(Interface {
        name,
        device: device?,
        addresses,
        kernel_addresses,
        mtu: mtu.unwrap_or(1500),
        rp_filter: rp_filter.unwrap_or_default(),
        vlan,
        mac,
        span: key.span,
    })
}

/// The smallest MTU is RFC 791's, the largest what NICs carry as jumbo frames; IPv6 needs 1280 (RFC 8200 section 5).
fn mtu<'a>(reader: &mut Reader<'a>, node: &Node<'a>, addresses: &[IpPrefix]) -> Option<u16> {
    let mtu = reader.number16(node, "`mtu`", 68, 9600)?;
    if mtu < 1280 && addresses.iter().any(|a| a.addr().is_ipv6()) {
        reader
            .error(node.span, format!("mtu {mtu} is too small for an interface with IPv6 addresses (1280)"));
    }
    Some(mtu)
}

fn is_kernel(node: &Node<'_>) -> bool {
    matches!(&node.value, Value::Scalar(scalar) if scalar.text == "kernel")
}

fn addresses<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Vec<IpPrefix> {
    if matches!(&node.value, Value::Scalar(_)) {
        let hint =
            "`kernel`: those that a DHCP client or another program on the box puts on the tap".to_string();
        reader.error_with(node.span, "`addresses` must be a list, or `kernel`", Some(hint));
        return Vec::new();
    }
    items(reader, Some(node), "`addresses`", |reader, node| {
        reader.parsed(node, "an address", |text| {
            let prefix: IpPrefix = text.parse()?;
            let addr = prefix.addr();
            let broadcast = addr == IpAddr::from([255, 255, 255, 255]);
            if addr.is_multicast() || addr.is_unspecified() || addr.is_loopback() || broadcast {
                return Err(ValueError::new(format!("`{text}` cannot be an interface's address")));
            }
            Ok(prefix)
        })
    })
}

/// A unicast MAC address.
pub(super) fn mac<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<MacAddr> {
    reader.parsed(node, "`mac`", |text| {
        let mac: MacAddr = text
            .parse()
            .map_err(|_| ValueError::new(format!("`{text}` is no MAC address (02:00:00:00:00:01)")))?;
        if mac.is_multicast() || mac == MacAddr::ZERO {
            return Err(ValueError::new(format!("`{text}` is no unicast MAC address")));
        }
        Ok(mac)
    })
}

/// A name that the kernel would accept for a link. Source: Linux `dev_valid_name`.
fn link_name(name: &str) -> Result<(), ValueError> {
    if name.len() > 15 {
        return Err(ValueError::new(format!("interface name `{name}` is longer than 15 characters")));
    }
    let graphic = name.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '@' | '%'));
    if name.is_empty() || name == "." || name == ".." || !graphic {
        return Err(ValueError::new(format!("`{name}` is no interface name")));
    }
    Ok(())
}

const DEVICES: [&str; 7] = ["pci", "kernel", "xdp", "tap", "memif", "pcap", "vdev"];

fn device(text: &str, folder: &Path) -> Result<Device, ValueError> {
    let unknown = |kind: &str| {
        let hint = nearest(kind, DEVICES.into_iter()).map_or_else(String::new, |hint| format!("; {hint}"));
        ValueError::new(format!(
            "`{text}` is no device: pci:, kernel:, xdp:, tap:, memif:, pcap: or vdev:{hint}"
        ))
    };
    let (kind, rest) = text.split_once(':').ok_or_else(|| unknown(text))?;
    if !DEVICES.contains(&kind) {
        return Err(unknown(kind));
    }
    if rest.is_empty() {
        return Err(ValueError::new(format!("`{text}` names no device")));
    }
    let link = || link_name(rest).map(|()| rest.to_string());
    Ok(match kind {
        "pci" => Device::Pci(pci_address(rest)?),
        "kernel" => Device::Kernel(link()?),
        "xdp" => Device::Xdp(link()?),
        "tap" => Device::Tap(link()?),
        "memif" => Device::Memif(folder.join(rest)),
        "pcap" => match rest.split_once(',') {
            Some((input, output)) if !input.is_empty() && !output.is_empty() => {
                Device::Pcap { input: folder.join(input), output: Some(folder.join(output)) }
            }
            Some(_) => return Err(ValueError::new(format!("`{text}` must be pcap:IN or pcap:IN,OUT"))),
            None => Device::Pcap { input: folder.join(rest), output: None },
        },
        _ => Device::Vdev(rest.to_string()),
    })
}

/// `0000:3b:00.0`, or without the domain.
fn pci_address(text: &str) -> Result<String, ValueError> {
    let full = if text.matches(':').count() == 1 { format!("0000:{text}") } else { text.to_string() };
    let hex = |part: Option<&str>, digits: usize| {
        part.is_some_and(|p| p.len() == digits && p.chars().all(|c| c.is_ascii_hexdigit()))
    };
    let mut parts = full.split([':', '.']);
    let valid = hex(parts.next(), 4) && hex(parts.next(), 2) && hex(parts.next(), 2) && hex(parts.next(), 1);
    if !valid || parts.next().is_some() || !full.get(7..).is_some_and(|tail| tail.contains('.')) {
        return Err(ValueError::new(format!("`{text}` is no PCI address (0000:3b:00.0)")));
    }
    Ok(full.to_lowercase())
}
