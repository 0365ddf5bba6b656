//! Rulesets of netfilter to policies: what `sluice import` does.
//!
//! Read are the texts of `iptables-save` and `ip6tables-save`, the JSON of `nft -j list ruleset`, and `ipset save`; all
//! that is given becomes one policy, which [`sluice_config`] and the compiler accept. What has no translation is left out,
//! stands as a comment in its place, and is listed with its reason ([`Imported::untranslated`]): nothing is lost in silence.
//!
//! How: a reader for each format makes the same model of tables, chains and rules, in which matches and actions are
//! already those of the policy language; `merge` puts the tables of both families together, `hooks` finds for
//! each base chain its place in Sluice, `lower` makes rules of rules, `emit` writes YAML, which is then checked.
//!
//! Not here: the system file. Interfaces keep their names unless [`Options::rename`] says otherwise.

mod emit;
mod hooks;
mod ipset;
mod iptables;
mod lower;
mod merge;
mod model;
mod names;
mod nft;
mod report;
mod sets;
mod stages;
mod survey;
mod verify;
mod yaml;

use std::collections::BTreeMap;

pub use report::Finding;

use model::Ruleset;
use report::Report;

/// What a text was written by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `iptables-save`; one that says of itself to be by `ip6tables-save` is taken as that.
    Iptables,
    /// `ip6tables-save`.
    Ip6tables,
    /// `nft -j list ruleset`.
    Nft,
    /// `ipset save`.
    Ipset,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Iptables, Self::Ip6tables, Self::Nft, Self::Ipset];

    /// The word for it on the command line: the program's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables-save",
            Self::Ip6tables => "ip6tables-save",
            Self::Nft => "nft",
            Self::Ipset => "ipset",
        }
    }
}

/// A text to import.
#[derive(Clone, Debug)]
pub struct Source {
    /// What wrote it.
    pub format: Format,
    /// Its file's name, as findings show it.
    pub name: String,
    /// The text.
    pub text: String,
}

/// What only the operator knows.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Names of interfaces, or patterns such as `eth+` and `eth*`, and the interfaces of the system file that they are.
    pub rename: BTreeMap<String, Vec<String>>,
}

/// A policy, and what is not in it.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The policy file's text; [`sluice_config::Policy::parse`] accepts it.
    pub policy: String,
    /// What has no translation, in the order of the files.
    pub untranslated: Vec<Finding>,
    /// What is left out because it means nothing here, or differs in a way that changes no verdict.
    pub notes: Vec<Finding>,
}

/// Translates rulesets to one policy.
///
/// # Errors
/// A text that is not of its format, or a policy that cannot be made valid by leaving rules out: one line that says why.
pub fn import(sources: &[Source], options: &Options) -> Result<Imported, String> {
    let mut report = Report::default();
    let mut ruleset = Ruleset::default();
    for source in sources {
        match source.format {
            Format::Iptables | Format::Ip6tables => {
                iptables::read(source, options, &mut ruleset, &mut report)?
            }
            Format::Nft => nft::read(source, options, &mut ruleset, &mut report)?,
            Format::Ipset => ipset::read(source, &mut ruleset, &mut report)?,
        }
    }
    sets::settle(&mut ruleset, &mut report);
    merge::families(&mut ruleset);
    verify::translate(ruleset, report)
}

#[cfg(test)]
mod tests;
