//! How the connection tracking table is shared out as it fills: places kept for the router itself, quotas of sources,
//! timeouts that shrink. What the kernel does not have; all of it follows `max` when that changes.

use crate::decode::{Reader, number};
use crate::diagnostics::ValueError;
use crate::source::Span;
use crate::yaml::Node;

/// A number of flows, or a part of `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// So many flows.
    Flows(u32),
    /// So many hundredths of `max`, which may be more than a hundred.
    Percent(u16),
}

/// Hundredths of `max` that make sense.
const MAX_PERCENT: u16 = 1000;

/// Places kept for the router itself if the file says nothing: `max` through this, and no more than the other.
const RESERVE_PART: u32 = 128;
const RESERVE_MOST: u32 = 4096;

impl Share {
    /// So many flows of `max`.
    pub fn of(self, max: u32) -> u64 {
        match self {
            Self::Flows(flows) => flows.into(),
            Self::Percent(percent) => u64::from(max) * u64::from(percent) / 100,
        }
    }

    fn parse(text: &str) -> Result<Self, ValueError> {
        let value = match text.strip_suffix('%') {
            Some(percent) => number(percent.trim_end())
                .and_then(|n| u16::try_from(n).ok())
                .filter(|n| *n <= MAX_PERCENT)
                .map(Self::Percent),
            None => number(text).map(Self::Flows),
        };
        value.ok_or_else(|| {
            ValueError::new(format!("`{text}` is neither a number of flows nor a part of `max` such as 60%"))
        })
    }
}

/// `quota.per_source`: most flows of one source prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceQuota {
    /// So many.
    pub max: u32,
    /// Length of the prefix that counts as one source, of IPv4.
    pub prefix_v4: u8,
    /// The same of IPv6.
    pub prefix_v6: u8,
}

/// `adaptive`: timeouts shrink from `start` on, and nothing would be left of them at `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adaptive {
    /// Flows up to which timeouts are whole.
    pub start: Share,
    /// Flows at which nothing is left of them.
    pub end: Share,
}

/// As pf has them unless told otherwise.
const ADAPTIVE: Adaptive = Adaptive { start: Share::Percent(60), end: Share::Percent(120) };

/// Places that are kept for flows to and from the router itself, of a table for `max`.
pub(super) fn reserve(reserve_local: Option<Share>, max: u32) -> u32 {
    match reserve_local {
        Some(share) => u32::try_from(share.of(max)).unwrap_or(u32::MAX),
        None => (max / RESERVE_PART).min(RESERVE_MOST),
    }
}

/// Reads `reserve_local`, in a table for `max`.
pub(super) fn reserve_local<'a>(reader: &mut Reader<'a>, node: &Node<'a>, max: u32) -> Option<Share> {
    let share = reader.parsed(node, "`reserve_local`", Share::parse)?;
    let places = share.of(max);
    if max > 0 && places >= u64::from(max) {
        let message = format!("`reserve_local` keeps {places} of {max} places: none is left for other flows");
        reader.error(node.span, message);
    }
    Some(share)
}

/// Reads `quota`.
pub(super) fn quota<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<SourceQuota> {
    if reader.is_off(node) {
        return None;
    }
    let fields = reader.fields(node, "`quota`", &["per_source"])?;
    let node = fields.get("per_source")?;
    if reader.is_off(node) {
        return None;
    }
    let fields = reader.fields(node, "`per_source`", &["max", "prefix_v4", "prefix_v6"])?;
    let max = fields.require(reader, "`per_source`", "max");
    let max = max.and_then(|node| reader.number(node, "`max`", 1, u32::MAX));
    let mut prefix = |key: &str, longest: u8| {
        let length = fields.get(key).map_or(Some(longest.into()), |node| {
            let bits = if key == "prefix_v4" { 32 } else { 128 };
            reader.number(node, &format!("`{key}`"), 1, bits)
        });
        length.and_then(|length| u8::try_from(length).ok())
    };
    let (prefix_v4, prefix_v6) = (prefix("prefix_v4", 32), prefix("prefix_v6", 64));
    Some(SourceQuota { max: max?, prefix_v4: prefix_v4?, prefix_v6: prefix_v6? })
}

/// Reads `adaptive`, in a table for `max`.
pub(super) fn adaptive<'a>(reader: &mut Reader<'a>, node: &Node<'a>, max: u32) -> Option<Adaptive> {
    if reader.is_off(node) {
        return None;
    }
    let fields = reader.fields(node, "`adaptive`", &["start", "end"])?;
    let mut share = |key: &str, default| match fields.get(key) {
        Some(node) => reader.parsed(node, &format!("`{key}`"), Share::parse),
        None => Some(default),
    };
    let (start, end) = (share("start", ADAPTIVE.start)?, share("end", ADAPTIVE.end)?);
    check_range(reader, node.span, max, Adaptive { start, end })
}

fn check_range(reader: &mut Reader<'_>, span: Span, max: u32, adaptive: Adaptive) -> Option<Adaptive> {
    let Adaptive { start, end } = adaptive;
    let is_part = matches!(start, Share::Percent(_)) || matches!(end, Share::Percent(_));
    if max == 0 && is_part {
        reader.error(span, "`adaptive` is a part of `max`, which is no limit here: give numbers of flows");
        return None;
    }
    if start.of(max) >= end.of(max) {
        let message =
            format!("`start` is {} flows, and must be less than `end`, {}", start.of(max), end.of(max));
        reader.error(span, message);
        return None;
    }
    Some(adaptive)
}
