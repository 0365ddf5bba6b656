//! Lint.
use super::Policy;
use crate::decode::Reader;
pub(super) fn policy(_reader: &mut Reader<'_>, _policy: &Policy) {}
