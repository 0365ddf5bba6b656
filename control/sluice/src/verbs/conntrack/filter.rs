//! Which flows are meant: the options of conntrack-tools, by their names there.

use std::net::IpAddr;

use clap::Args;
use sluice_api::FlowFilter;

/// Options that say which flows, whatever is done with them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which flows (all that is given must hold)")]
pub(super) struct Flows {
    /// Protocol, by name or number.
    #[arg(short, long)]
    proto: Option<String>,
    /// Source of the original direction: address, prefix, or address/mask.
    #[arg(short, long, visible_alias = "orig-src", value_name = "ADDR")]
    src: Option<String>,
    /// Destination of the original direction.
    #[arg(short, long, visible_alias = "orig-dst", value_name = "ADDR")]
    dst: Option<String>,
    /// Source of the reply direction.
    #[arg(short, long, value_name = "ADDR")]
    reply_src: Option<String>,
    /// Destination of the reply direction.
    #[arg(short = 'q', long, value_name = "ADDR")]
    reply_dst: Option<String>,
    /// Mask of --src, where it has none of its own.
    #[arg(long, requires = "src", value_name = "MASK")]
    mask_src: Option<IpAddr>,
    /// Mask of --dst, where it has none of its own.
    #[arg(long, requires = "dst", value_name = "MASK")]
    mask_dst: Option<IpAddr>,
    /// Source port of the original direction.
    #[arg(long, visible_alias = "orig-port-src", value_name = "PORT")]
    sport: Option<u16>,
    /// Destination port of the original direction.
    #[arg(long, visible_alias = "orig-port-dst", value_name = "PORT")]
    dport: Option<u16>,
    /// Source port of the reply direction.
    #[arg(long, value_name = "PORT")]
    reply_port_src: Option<u16>,
    /// Destination port of the reply direction.
    #[arg(long, value_name = "PORT")]
    reply_port_dst: Option<u16>,
    /// ICMP type of the original direction, by number.
    #[arg(long, value_name = "TYPE")]
    icmp_type: Option<u8>,
    /// ICMP code of the original direction, by number.
    #[arg(long, value_name = "CODE")]
    icmp_code: Option<u8>,
    /// ICMP identifier.
    #[arg(long, value_name = "ID")]
    icmp_id: Option<u16>,
    /// GRE key of the original direction's source, decimal or 0x hexadecimal.
    #[arg(long, visible_alias = "orig-key-src", value_parser = key, value_name = "KEY")]
    srckey: Option<u16>,
    /// GRE key of the original direction's destination.
    #[arg(long, visible_alias = "orig-key-dst", value_parser = key, value_name = "KEY")]
    dstkey: Option<u16>,
    /// GRE key of the reply direction's source.
    #[arg(long, value_parser = key, value_name = "KEY")]
    reply_key_src: Option<u16>,
    /// GRE key of the reply direction's destination.
    #[arg(long, value_parser = key, value_name = "KEY")]
    reply_key_dst: Option<u16>,
    /// State of TCP or SCTP, such as ESTABLISHED.
    #[arg(long)]
    state: Option<String>,
    /// Family: ipv4 or ipv6; both if not given.
    #[arg(short, long)]
    family: Option<String>,
    /// Zone of both directions.
    #[arg(short = 'w', long)]
    zone: Option<u16>,
    /// Zone of the original direction alone.
    #[arg(long, value_name = "ZONE")]
    orig_zone: Option<u16>,
    /// Zone of the reply direction alone.
    #[arg(long, value_name = "ZONE")]
    reply_zone: Option<u16>,
    /// One flow by its id, as `-o id` prints it.
    #[arg(short, long)]
    id: Option<u64>,
    /// Source is translated, to this address if one is given.
    #[arg(short = 'n', long, num_args = 0..=1, default_missing_value = "", value_name = "ADDR")]
    src_nat: Option<String>,
    /// Destination is translated, to this address if one is given.
    #[arg(short = 'g', long, num_args = 0..=1, default_missing_value = "", value_name = "ADDR")]
    dst_nat: Option<String>,
    /// Source or destination is translated.
    #[arg(short = 'j', long)]
    any_nat: bool,
}

/// Options that say which flows where they are not about a change.
#[derive(Debug, Args)]
pub(super) struct Filter {
    #[command(flatten)]
    flows: Flows,
    /// Mark, or mark/mask; decimal or 0x hexadecimal.
    #[arg(short, long, value_parser = mark)]
    mark: Option<(u32, u32)>,
    /// Status: ASSURED, SEEN_REPLY, UNSET (no reply seen), CONFIRMED, EXPECTED, SRC_NAT, DST_NAT, FIXED_TIMEOUT;
    /// several with commas.
    #[arg(short = 'u', long, value_delimiter = ',')]
    status: Vec<String>,
}

impl Filter {
    pub(super) fn request(self) -> FlowFilter {
        let mut filter = self.flows.request();
        filter.mark = self.mark;
        filter.status.extend(self.status.iter().map(|name| status(name)));
        filter
    }
}

impl Flows {
    pub(super) fn request(self) -> FlowFilter {
        let translated = |by: &Option<String>| by.clone().filter(|address| !address.is_empty());
        let with_mask = |address: Option<String>, mask: Option<IpAddr>| match (address, mask) {
            (Some(address), Some(mask)) if !address.contains('/') => Some(format!("{address}/{mask}")),
            (address, _) => address,
        };
        let nat = [("snat", &self.src_nat), ("dnat", &self.dst_nat)];
        FlowFilter {
            status: nat.iter().filter(|(_, by)| by.is_some()).map(|(name, _)| (*name).to_owned()).collect(),
            family: self.family.map(|f| f.to_ascii_lowercase()),
            proto: self.proto.map(|p| p.to_ascii_lowercase()),
            // Answers go to where the source was translated to, and come from where the destination was.
            reply_src: self.reply_src.or_else(|| translated(&self.dst_nat)),
            reply_dst: self.reply_dst.or_else(|| translated(&self.src_nat)),
            src: with_mask(self.src, self.mask_src),
            dst: with_mask(self.dst, self.mask_dst),
            sport: self.sport,
            dport: self.dport,
            reply_sport: self.reply_port_src,
            reply_dport: self.reply_port_dst,
            icmp_type: self.icmp_type,
            icmp_code: self.icmp_code,
            icmp_id: self.icmp_id,
            srckey: self.srckey,
            dstkey: self.dstkey,
            reply_srckey: self.reply_key_src,
            reply_dstkey: self.reply_key_dst,
            state: self.state.map(|s| s.to_ascii_uppercase()),
            zone: self.zone,
            orig_zone: self.orig_zone,
            reply_zone: self.reply_zone,
            id: self.id,
            any_nat: self.any_nat,
            mark: None,
        }
    }
}

/// A status by its name in the API.
pub(super) fn status(name: &str) -> String {
    match name.to_ascii_lowercase().replace('_', "-").as_str() {
        "src-nat" => "snat".into(),
        "dst-nat" => "dnat".into(),
        other => other.to_owned(),
    }
}

/// `N` or `N/MASK`, each decimal or 0x hexadecimal.
pub(super) fn mark(text: &str) -> Result<(u32, u32), String> {
    let (value, mask) = match text.split_once('/') {
        Some((value, mask)) => (number(value), number(mask)),
        None => (number(text), Some(u32::MAX)),
    };
    value.zip(mask).ok_or_else(|| "not a mark: a number, or number/mask".into())
}

fn key(text: &str) -> Result<u16, String> {
    number(text).and_then(|key| key.try_into().ok()).ok_or_else(|| "not a key: a number of 16 bits".into())
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        filter: Filter,
    }

    fn parse(line: &str) -> FlowFilter {
        Line::try_parse_from(["x"].into_iter().chain(line.split_whitespace())).unwrap().filter.request()
    }

    #[test]
    fn marks_and_keys_are_numbers() {
        assert_eq!(mark("7"), Ok((7, u32::MAX)));
        assert_eq!(mark("0x10/0xff"), Ok((16, 255)));
        assert!(mark("x").is_err());
        assert!(mark("1/").is_err());
        assert_eq!(key("0xffff"), Ok(0xffff));
        assert!(key("0x10000").is_err());
    }

    #[test]
    fn options_mean_what_they_mean_to_conntrack() {
        let all = FlowFilter::default;
        let cases = [
            ("", all()),
            ("--orig-src 10.0.0.0/8", FlowFilter { src: Some("10.0.0.0/8".into()), ..all() }),
            (
                "-d 10.1.2.3 --mask-dst 255.255.0.0",
                FlowFilter { dst: Some("10.1.2.3/255.255.0.0".into()), ..all() },
            ),
            ("-p TCP --orig-port-dst 80", FlowFilter { proto: Some("tcp".into()), dport: Some(80), ..all() }),
            (
                "-n 192.0.2.1",
                FlowFilter { status: vec!["snat".into()], reply_dst: Some("192.0.2.1".into()), ..all() },
            ),
            ("-g", FlowFilter { status: vec!["dnat".into()], ..all() }),
            ("-j", FlowFilter { any_nat: true, ..all() }),
            (
                "-u SEEN_REPLY,SRC_NAT",
                FlowFilter { status: vec!["seen-reply".into(), "snat".into()], ..all() },
            ),
            ("--srckey 0x7a", FlowFilter { srckey: Some(0x7a), ..all() }),
        ];
        for (line, expected) in cases {
            assert_eq!(parse(line), expected, "{line}");
        }
    }
}
