//! The words of a rule, and values as iptables writes them.

use std::net::IpAddr;

use sluice_config::{IpPrefix, IpRange};
use sluice_wire::Protocol;

/// The words of a line, quotes taken off.
pub(super) struct Words {
    words: std::vec::IntoIter<String>,
}

impl Words {
    /// Splits a line as iptables-restore does: at spaces, but for those in double quotes.
    ///
    /// # Errors
    /// A quote without an end.
    pub(super) fn split(line: &str) -> Result<Self, String> {
        let (mut words, mut word, mut quoted, mut begun) = (Vec::new(), String::new(), false, false);
        let mut chars = line.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => (quoted, begun) = (!quoted, true),
                '\\' if quoted => word.extend(chars.next()),
                c if c.is_whitespace() && !quoted => {
                    if begun {
                        words.push(std::mem::take(&mut word));
                    }
                    begun = false;
                }
                c => {
                    word.push(c);
                    begun = true;
                }
            }
        }
        if quoted {
            return Err("a quote has no end".to_owned());
        }
        if begun {
            words.push(word);
        }
        Ok(Self { words: words.into_iter() })
    }

    /// The value of an option.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn value(&mut self, option: &str) -> Result<String, String> {
        self.words.next().ok_or_else(|| format!("{option} has no value"))
    }

    /// The next word, if it is no option: values that may be left out.
    pub(super) fn optional(&mut self) -> Option<String> {
        let next = self.words.as_slice().first()?;
        if next.starts_with('-') || next == "!" { None } else { self.words.next() }
    }

    /// The next word is this one, which is taken.
    pub(super) fn take(&mut self, word: &str) -> bool {
        let is = self.words.as_slice().first().is_some_and(|next| next == word);
        if is {
            self.words.next();
        }
        is
    }
}

impl Iterator for Words {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        self.words.next()
    }
}

/// An address, prefix or address with a mask; None for all addresses.
///
/// # Errors
/// No address, or a mask with holes.
pub(super) fn address(text: &str) -> Result<Option<String>, String> {
    let (addr, len) = text.split_once('/').unwrap_or((text, ""));
    let addr: IpAddr =
        addr.parse().map_err(|_| format!("`{text}` is no address: names have to be looked up first"))?;
    let bits = if addr.is_ipv4() { 32 } else { 128 };
    let len = match (len, len.parse::<u8>()) {
        ("", _) => bits,
        (_, Ok(len)) if len <= bits => len,
        _ => mask_length(len).ok_or_else(|| format!("the mask of {text} is no prefix"))?,
    };
    let prefix = IpPrefix::new(addr, len).ok_or_else(|| format!("`{text}` is no prefix"))?.masked();
    Ok(match prefix.len() {
        0 => None,
        _ if prefix.is_host() => Some(prefix.addr().to_string()),
        _ => Some(prefix.to_string()),
    })
}

/// The length of a mask written as an address, if its ones are in front.
fn mask_length(text: &str) -> Option<u8> {
    let (bits, ones, zeros) = match text.parse::<IpAddr>().ok()? {
        IpAddr::V4(mask) => (32, mask.to_bits().leading_ones(), mask.to_bits().trailing_zeros()),
        IpAddr::V6(mask) => (128, mask.to_bits().leading_ones(), mask.to_bits().trailing_zeros()),
    };
    if ones + zeros >= bits { u8::try_from(ones).ok() } else { None }
}

/// `a-b`.
///
/// # Errors
/// No range.
pub(super) fn address_range(text: &str) -> Result<String, String> {
    text.parse::<IpRange>().map(|_| text.to_owned()).map_err(|why| why.to_string())
}

/// Ports and ranges of ports, `80,1024:2048`, in the policy's way of writing them.
///
/// # Errors
/// Something else, such as a service's name.
pub(super) fn ports(text: &str) -> Result<Vec<String>, String> {
    text.split(',').map(|part| range(part, u16::MAX)).collect()
}

/// A number or a range `a:b`, either end of which may be left out.
///
/// # Errors
/// No such thing.
pub(super) fn range(text: &str, max: u16) -> Result<String, String> {
    let error = || format!("`{text}` is no number and no range from 0 to {max}");
    let number = |text: &str, default| match text {
        "" => Some(default),
        _ => text.parse::<u16>().ok().filter(|number| *number <= max),
    };
    match text.split_once(':') {
        _ if text.is_empty() => Err(error()),
        None => number(text, 0).map(|number| number.to_string()).ok_or_else(error),
        Some((first, last)) => match (number(first, 0), number(last, max)) {
            (Some(first), Some(last)) if first == last => Ok(first.to_string()),
            (Some(first), Some(last)) if first < last => Ok(format!("{first}-{last}")),
            _ => Err(error()),
        },
    }
}

/// A protocol as the policy calls it; None for all.
///
/// # Errors
/// An unknown name.
pub(super) fn protocol(text: &str) -> Result<Option<String>, String> {
    if matches!(text, "all" | "0") {
        return Ok(None);
    }
    let by_number = || text.parse::<u8>().ok().map(Protocol);
    let protocol = Protocol::from_name(text).or_else(by_number);
    protocol.map(|protocol| Some(protocol.to_string())).ok_or_else(|| format!("unknown protocol {text}"))
}

/// `10/min` with the whole word for the unit.
///
/// # Errors
/// Bytes, or no rate.
pub(super) fn rate(text: &str) -> Result<String, String> {
    let error = || format!("`{text}` is no rate of packets");
    let (count, unit) = text.split_once('/').ok_or_else(error)?;
    let units = ["second", "minute", "hour", "day"];
    let unit =
        units.into_iter().find(|known| !unit.is_empty() && known.starts_with(unit)).ok_or_else(error)?;
    count.parse::<u32>().map(|count| format!("{count}/{unit}")).map_err(|_| error())
}

/// A number in decimal or hexadecimal.
pub(super) fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// `value/mask`; all bits if there is no mask.
///
/// # Errors
/// No such thing.
pub(super) fn masked(text: &str) -> Result<(u32, u32), String> {
    let (value, mask) = text.split_once('/').map_or((text, None), |(value, mask)| (value, Some(mask)));
    match (number(value), mask.map_or(Some(u32::MAX), number)) {
        (Some(value), Some(mask)) => Ok((value, mask)),
        _ => Err(format!("`{text}` is no mark")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_words_together() {
        let words: Vec<_> = Words::split(r#"-A a --log-prefix "[UFW \"x\"] " -j B"#).unwrap().collect();
        assert_eq!(words, ["-A", "a", "--log-prefix", "[UFW \"x\"] ", "-j", "B"]);
        assert!(Words::split("-A \"a").is_err());
    }

    #[test]
    fn values_become_the_policys() {
        let ok = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(address("10.1.2.3/8"), ok("10.0.0.0/8"));
        assert_eq!(address("10.0.0.0/255.255.0.0"), ok("10.0.0.0/16"));
        assert_eq!(address("192.0.2.1/32"), ok("192.0.2.1"));
        assert_eq!(address("::/0"), Ok(None));
        assert!(address("10.0.0.0/255.0.0.255").is_err());
        assert_eq!(ports("22,1024:2048,:80,60000:").unwrap(), ["22", "1024-2048", "0-80", "60000-65535"]);
        assert!(ports("ssh").is_err() && ports("9:1").is_err() && ports("").is_err());
        assert_eq!(rate("3/min").unwrap(), "3/minute");
        assert!(rate("512kb/s").is_err());
        assert_eq!(masked("0x1/0xff"), Ok((1, 255)));
    }
}
