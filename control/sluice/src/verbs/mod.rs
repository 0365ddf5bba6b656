//! One file a group of verbs.

pub(crate) mod capture;
pub(crate) mod cert;
pub(crate) mod conntrack;
pub(crate) mod explain;
pub(crate) mod history;
pub(crate) mod import;
pub(crate) mod manual;
pub(crate) mod owner;
pub(crate) mod policy;
pub(crate) mod schema;
pub(crate) mod set;
pub(crate) mod show;
pub(crate) mod simulate;
pub(crate) mod stats;
pub(crate) mod top;
pub(crate) mod trace;
