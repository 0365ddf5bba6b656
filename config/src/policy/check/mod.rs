//! Checks of a policy that need more than one entry: names, jumps, and what is allowed where.

mod jumps;
mod names;
mod places;

use super::{Policy, nat64};
use crate::decode::Reader;
use crate::system::InterfaceNames;

/// Checks the entries against each other and against the interfaces, if those are known. Finds the hooks that each user
/// chain is used by.
pub(super) fn policy(
    reader: &mut Reader<'_>,
    mut policy: Policy,
    interfaces: Option<&InterfaceNames>,
) -> Policy {
    names::check(reader, &policy, interfaces);
    jumps::loops(reader, &policy);
    jumps::resolve(&mut policy);
    places::check(reader, &policy);
    nat64::check(reader, &policy);
    reader.rule = None;
    policy
}
