//! What the API's filters and changes mean: text into the engine's own types.

use std::net::IpAddr;

use sluice_api as api;
use sluice_engine::conntrack::{
    EventKind, EventKinds, FlowChange, FlowFilter, FlowId, Prefix, Status, TupleFilter, ZoneId,
};
use sluice_engine::ids::Millis;
use sluice_wire::{Family, Protocol};

use super::describe::STATUS;

/// What the API's filter means.
///
/// # Errors
/// The value that means nothing, in one line.
pub(crate) fn filter(from: &api::FlowFilter) -> Result<FlowFilter, String> {
    let prefix = |text: &Option<String>| text.as_deref().map(prefix).transpose();
    let mut filter = FlowFilter {
        id: from.id.map(FlowId),
        family: from.family.as_deref().map(family).transpose()?,
        protocol: from.proto.as_deref().map(protocol).transpose()?,
        state: from.state.as_ref().map(|state| state.to_ascii_uppercase()),
        original: TupleFilter {
            src: prefix(&from.src)?,
            dst: prefix(&from.dst)?,
            sport: from.sport,
            dport: from.dport,
            icmp_type: from.icmp_type,
            icmp_code: from.icmp_code,
            icmp_id: from.icmp_id,
            srckey: from.srckey,
            dstkey: from.dstkey,
            zone: from.orig_zone.map(ZoneId),
        },
        reply: TupleFilter {
            src: prefix(&from.reply_src)?,
            dst: prefix(&from.reply_dst)?,
            sport: from.reply_sport,
            dport: from.reply_dport,
            srckey: from.reply_srckey,
            dstkey: from.reply_dstkey,
            zone: from.reply_zone.map(ZoneId),
            ..TupleFilter::default()
        },
        mark: from.mark,
        zone: from.zone.map(ZoneId),
        ..FlowFilter::default()
    };
    for name in &from.status {
        let name = canonical(name);
        if name == "unset" || name == "unreplied" {
            filter.status_clear = filter.status_clear.with(Status::SEEN_REPLY);
        } else {
            filter.status = filter.status.with(status(&name)?);
        }
    }
    if from.any_nat {
        filter.status_any = Status::SNAT.with(Status::DNAT);
    }
    Ok(filter)
}

/// What is to be changed.
///
/// # Errors
/// The value that means nothing, or that nobody may change, in one line.
pub(crate) fn change(from: &api::FlowChange) -> Result<FlowChange, String> {
    let mut bits = Status::default();
    for name in &from.status {
        let bit = status(&canonical(name))?;
        if !FlowChange::STATUS.contains(bit) {
            return Err(format!("status {name} cannot be set: assured, seen-reply and fixed-timeout can"));
        }
        bits = bits.with(bit);
    }
    let change = FlowChange { mark: from.mark, timeout: from.timeout.map(Millis::from_secs), status: bits };
    if change == FlowChange::default() {
        return Err("nothing to change: mark, timeout or status is needed".into());
    }
    Ok(change)
}

/// Which events are wanted; none named: all.
pub(crate) fn kinds(from: &[api::EventKind]) -> EventKinds {
    if from.is_empty() {
        return EventKinds::ALL;
    }
    from.iter().fold(EventKinds::default(), |kinds, kind| {
        kinds.with(match kind {
            api::EventKind::New => EventKind::New,
            api::EventKind::Update => EventKind::Update,
            api::EventKind::Destroy => EventKind::Destroy,
        })
    })
}

fn canonical(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

fn status(name: &str) -> Result<Status, String> {
    let known = STATUS.iter().find(|(known, _)| *known == name);
    known.map(|(_, bit)| *bit).ok_or_else(|| {
        let names: Vec<&str> = STATUS.iter().map(|(known, _)| *known).collect();
        format!("status {name}: one of unset, {}", names.join(", "))
    })
}

pub(super) fn family(text: &str) -> Result<Family, String> {
    match text {
        "ipv4" => Ok(Family::V4),
        "ipv6" => Ok(Family::V6),
        _ => Err(format!("family {text}: ipv4 or ipv6")),
    }
}

pub(super) fn protocol(text: &str) -> Result<Protocol, String> {
    let by_name = Protocol::from_name(&text.to_ascii_lowercase());
    by_name.or_else(|| text.parse().ok().map(Protocol)).ok_or_else(|| format!("unknown protocol {text}"))
}

pub(super) fn prefix(text: &str) -> Result<Prefix, String> {
    let invalid = || format!("{text} is neither an address nor a prefix");
    let (address, len) = match text.split_once('/') {
        Some((address, len)) => (address, Some(len)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| invalid())?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let len = match len.map(|len| len.parse::<IpAddr>().map_err(|_| len)) {
        None => bits,
        Some(Ok(mask)) if mask.is_ipv4() == address.is_ipv4() => {
            length_of(mask).ok_or_else(|| format!("{text}: the ones of a mask must stand in front"))?
        }
        Some(Ok(_)) => return Err(invalid()),
        Some(Err(len)) => len.parse().ok().filter(|len| *len <= bits).ok_or_else(invalid)?,
    };
    Ok(Prefix { address, len })
}

/// Leading ones of a mask; None if there are others.
fn length_of(mask: IpAddr) -> Option<u8> {
    let (ones, len) = match mask {
        IpAddr::V4(mask) => (mask.to_bits().count_ones(), mask.to_bits().leading_ones()),
        IpAddr::V6(mask) => (mask.to_bits().count_ones(), mask.to_bits().leading_ones()),
    };
    u8::try_from(len).ok().filter(|_| ones == len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_means_what_conntrack_means() {
        let from = api::FlowFilter {
            family: Some("ipv6".into()),
            proto: Some("17".into()),
            src: Some("2001:db8::/32".into()),
            state: Some("established".into()),
            status: vec!["ASSURED".into(), "UNSET".into()],
            ..api::FlowFilter::default()
        };
        let meant = filter(&from).unwrap();
        assert_eq!(meant.family, Some(Family::V6));
        assert_eq!(meant.protocol, Some(Protocol::UDP));
        assert_eq!(meant.original.src.unwrap().len, 32);
        assert_eq!(meant.state.as_deref(), Some("ESTABLISHED"));
        assert_eq!((meant.status, meant.status_clear), (Status::ASSURED, Status::SEEN_REPLY));
    }

    #[test]
    fn a_mask_is_as_good_as_a_length() {
        for (text, len) in [
            ("10.0.0.0/255.255.0.0", 16),
            ("10.0.0.0/0.0.0.0", 0),
            ("2001:db8::/ffff:ffff::", 32),
            ("::1", 128),
        ] {
            assert_eq!(prefix(text).map(|prefix| prefix.len), Ok(len), "{text}");
        }
    }

    #[test]
    fn only_what_the_kernel_lets_be_set_can_be_set() {
        let set = |status: &[&str]| {
            let status = status.iter().map(|name| (*name).to_owned()).collect();
            change(&api::FlowChange { mark: None, timeout: None, status }).map(|change| change.status)
        };
        assert_eq!(set(&["ASSURED", "SEEN_REPLY"]), Ok(Status::ASSURED.with(Status::SEEN_REPLY)));
        assert!(set(&["CONFIRMED"]).is_err());
        assert!(set(&["UNSET"]).is_err());
        assert!(set(&[]).is_err(), "nothing to change");
    }

    #[test]
    fn what_means_nothing_is_refused() {
        let none = api::FlowFilter::default;
        let cases = [
            api::FlowFilter { family: Some("ip".into()), ..none() },
            api::FlowFilter { proto: Some("tpc".into()), ..none() },
            api::FlowFilter { proto: Some("256".into()), ..none() },
            api::FlowFilter { src: Some("10.0.0.0/33".into()), ..none() },
            api::FlowFilter { src: Some("10.0.0.0/255.0.255.0".into()), ..none() },
            api::FlowFilter { src: Some("10.0.0.0/ffff::".into()), ..none() },
            api::FlowFilter { dst: Some("ten".into()), ..none() },
            api::FlowFilter { status: vec!["gone".into()], ..none() },
        ];
        for case in cases {
            assert!(filter(&case).is_err(), "{case:?}");
        }
    }
}
