//! Whether one match takes in all that another does, and whether two can meet at all.
//!
//! Both answers err to the safe side: `covers` and `disjoint` are true only if that is certain, field by field.

use crate::addr::IpRange;
use crate::policy::matches::{AddrMatch, CtOrig, IcmpMatch, InterfaceMatch, Matches, NumberRange, PortMatch};
use crate::policy::{Policy, Rule};
use crate::source::Spanned;

/// True if every packet for which `narrow` holds is one for which `wide` holds.
pub(super) fn covers(policy: &Policy, wide: &Rule, narrow: &Rule) -> bool {
    // A rule that holds for some packets only, at random, takes in nothing whole.
    let steady = wide.matches.limit.is_none()
        && wide.matches.connlimit.is_none()
        && wide.unwanted().limit.is_none()
        && wide.unwanted().connlimit.is_none();
    steady
        && matches_cover(policy, &wide.matches, &narrow.matches)
        && compare(policy, wide.unwanted(), narrow.unwanted(), true)
}

/// True if `wide` holds for every packet for which `narrow` holds, as far as the fields tell one by one.
pub(super) fn matches_cover(policy: &Policy, wide: &Matches, narrow: &Matches) -> bool {
    compare(policy, wide, narrow, false)
}

/// Compares the fields that `wide` has. `exact`: the values must be the same, not only taken in; so it is for negated
/// fields, which say also that the packet has the field.
fn compare(policy: &Policy, wide: &Matches, narrow: &Matches, exact: bool) -> bool {
    let by = Lists { exact };
    let interface = |w: &_, n: &_| interface_covers(policy, w, n);
    let icmp = |w: &IcmpMatch, n: &IcmpMatch| w.kind == n.kind && (w.code.is_none() || w.code == n.code);
    by.cover(&wide.in_interface, &narrow.in_interface, interface)
        && by.cover(&wide.out_interface, &narrow.out_interface, interface)
        && by.cover(&wide.to, &narrow.to, equal)
        && by.cover(&wide.origin, &narrow.origin, equal)
        && by.cover(&wide.family, &narrow.family, equal)
        && by.cover(&wide.proto, &narrow.proto, equal)
        && by.cover(&wide.src, &narrow.src, address_covers)
        && by.cover(&wide.dst, &narrow.dst, address_covers)
        && by.cover(&wide.sport, &narrow.sport, port_covers)
        && by.cover(&wide.dport, &narrow.dport, port_covers)
        && match (wide.tcp_flags, narrow.tcp_flags) {
            (Some(w), Some(n)) if exact => w == n,
            (Some(w), Some(n)) => w.mask & n.mask == w.mask && n.set & w.mask == w.set,
            (wide, _) => wide.is_none(),
        }
        && by.cover(&wide.icmp, &narrow.icmp, icmp)
        && by.cover(&wide.icmpv6, &narrow.icmpv6, icmp)
        && by.cover(&wide.ct, &narrow.ct, equal)
        && by.cover(&wide.ct_dir, &narrow.ct_dir, equal)
        && by.cover(&wide.ct_helper, &narrow.ct_helper, equal)
        && by.cover(&wide.ct_mark, &narrow.ct_mark, equal)
        && by.cover(&wide.mark, &narrow.mark, equal)
        && by.orig(wide.ct_orig.as_ref(), narrow.ct_orig.as_ref())
        && by.cover(&wide.ct_status, &narrow.ct_status, equal)
        && (wide.fragment.is_none() || wide.fragment == narrow.fragment)
        && by.cover(&wide.length, &narrow.length, number_covers)
        && by.cover(&wide.ttl, &narrow.ttl, number_covers)
        && by.cover(&wide.dscp, &narrow.dscp, number_covers)
        && (wide.limit.is_none() || wide.limit == narrow.limit)
        && (wide.connlimit.is_none() || wide.connlimit == narrow.connlimit)
}

/// Two lists longer than this together are not compared.
const MAX_COMPARISONS: usize = 1 << 12;

struct Lists {
    exact: bool,
}

impl Lists {
    fn cover<T>(
        &self,
        wide: &Option<Vec<T>>,
        narrow: &Option<Vec<T>>,
        covers: impl Fn(&T, &T) -> bool,
    ) -> bool {
        let (wide, narrow) = match (wide, narrow) {
            (None, _) => return true,
            (Some(_), None) => return false,
            (Some(wide), Some(narrow)) => (wide, narrow),
        };
        wide.len().saturating_mul(narrow.len()) <= MAX_COMPARISONS
            && narrow.iter().all(|n| wide.iter().any(|w| covers(w, n)))
            && (!self.exact || wide.iter().all(|w| narrow.iter().any(|n| covers(n, w))))
    }

    fn orig(&self, wide: Option<&CtOrig>, narrow: Option<&CtOrig>) -> bool {
        match (wide, narrow) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(w), Some(n)) => {
                self.cover(&w.src, &n.src, address_covers)
                    && self.cover(&w.dst, &n.dst, address_covers)
                    && self.cover(&w.sport, &n.sport, port_covers)
                    && self.cover(&w.dport, &n.dport, port_covers)
            }
        }
    }
}

/// True if no packet can hold for both.
pub(super) fn disjoint(policy: &Policy, a: &Matches, b: &Matches) -> bool {
    let both = |w: &Spanned<InterfaceMatch>, n: &Spanned<InterfaceMatch>| {
        policy.interfaces(std::slice::from_ref(w)).is_disjoint(&policy.interfaces(std::slice::from_ref(n)))
    };
    apart(&a.in_interface, &b.in_interface, both)
        || apart(&a.to, &b.to, |a, b| a != b)
        || apart(&a.origin, &b.origin, |a, b| a != b)
        || apart(&a.family, &b.family, |a, b| a != b)
        || apart(&a.proto, &b.proto, |a, b| a != b)
        || apart(&a.src, &b.src, addresses_apart)
        || apart(&a.dst, &b.dst, addresses_apart)
        || apart(&a.sport, &b.sport, ports_apart)
        || apart(&a.dport, &b.dport, ports_apart)
}

fn apart<T>(a: &Option<Vec<T>>, b: &Option<Vec<T>>, apart: impl Fn(&T, &T) -> bool) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.iter().all(|a| b.iter().all(|b| apart(a, b))),
        _ => false,
    }
}

fn addresses_apart(a: &Spanned<AddrMatch>, b: &Spanned<AddrMatch>) -> bool {
    match (range_of(a), range_of(b)) {
        (Some(a), Some(b)) => a.family() != b.family() || a.last() < b.first() || b.last() < a.first(),
        _ => false,
    }
}

fn ports_apart(a: &Spanned<PortMatch>, b: &Spanned<PortMatch>) -> bool {
    match (&a.value, &b.value) {
        (PortMatch::Range(a), PortMatch::Range(b)) => a.last < b.first || b.last < a.first,
        _ => false,
    }
}

fn equal<T: PartialEq>(wide: &T, narrow: &T) -> bool {
    wide == narrow
}

fn interface_covers(
    policy: &Policy,
    wide: &Spanned<InterfaceMatch>,
    narrow: &Spanned<InterfaceMatch>,
) -> bool {
    if wide.value == narrow.value {
        return true;
    }
    match &wide.value {
        InterfaceMatch::Interface(name) => {
            policy.interfaces(std::slice::from_ref(narrow)).iter().all(|member| member == name)
        }
        InterfaceMatch::Zone(_) => {
            let members = policy.interfaces(std::slice::from_ref(wide));
            policy.interfaces(std::slice::from_ref(narrow)).is_subset(&members)
        }
    }
}

fn range_of(entry: &Spanned<AddrMatch>) -> Option<IpRange> {
    match &entry.value {
        AddrMatch::Prefix(prefix) => Some(prefix.range()),
        AddrMatch::Range(range) => Some(*range),
        AddrMatch::Set(_) => None,
    }
}

fn address_covers(wide: &Spanned<AddrMatch>, narrow: &Spanned<AddrMatch>) -> bool {
    match (range_of(wide), range_of(narrow)) {
        (Some(wide), Some(narrow)) => wide.covers(narrow),
        _ => wide.value == narrow.value,
    }
}

fn port_covers(wide: &Spanned<PortMatch>, narrow: &Spanned<PortMatch>) -> bool {
    match (&wide.value, &narrow.value) {
        (PortMatch::Range(w), PortMatch::Range(n)) => w.first <= n.first && n.last <= w.last,
        (wide, narrow) => wide == narrow,
    }
}

fn number_covers(wide: &NumberRange, narrow: &NumberRange) -> bool {
    wide.first <= narrow.first && narrow.last <= wide.last
}
