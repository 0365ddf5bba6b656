//! Whose a port was: by the policy alone, since blocks of ports are dealt out by arithmetic (RFC 7422).

use std::net::Ipv4Addr;

use sluice_api::PortOwner;
use sluice_engine::ruleset::{Ruleset, Translate};

/// Who has a port of an outer address, by each rule with `blocks` that deals it out.
pub fn port_owners(ruleset: &Ruleset, address: Ipv4Addr, port: u16) -> Vec<PortOwner> {
    let owners = ruleset.source_translations().filter_map(|(rule, how)| {
        let Translate::Blocks(blocks) = how else { return None };
        let subscriber = blocks.owner(address, port)?;
        let block = blocks.of(subscriber)?;
        let info = ruleset.rules().get(rule.0 as usize)?;
        let place = || format!("{}.{} {}", info.table, info.chain, info.index);
        Some(PortOwner {
            rule: info.name.as_deref().map_or_else(place, str::to_owned),
            subscriber: subscriber.to_string(),
            first: block.ports.0,
            last: block.ports.1,
        })
    });
    owners.collect()
}

#[cfg(test)]
mod tests {
    use sluice_config::Policy;

    use super::*;
    use crate::{Names, compile};

    #[test]
    fn a_port_has_one_owner_for_each_rule_that_deals_it_out() {
        let text = "nat: {postrouting: [\
            {out: a, action: {snat: {to: 203.0.113.0/28, blocks: {of: 100.64.0.0/22, size: 1000}}}, name: cgn},\
            {out: b, action: {snat: {to: 203.0.113.1, blocks: {of: 10.0.0.0/29, size: 100}}}}]}";
        let (policy, _) = Policy::parse("policy.yaml", text, None).unwrap();
        let ruleset = compile(&policy, &Names::as_given(&policy), 1).unwrap().ruleset;
        let of = |port: u16| {
            let owners = port_owners(&ruleset, Ipv4Addr::new(203, 0, 113, 1), port);
            owners.into_iter().map(|one| (one.rule, one.subscriber, one.first, one.last)).collect::<Vec<_>>()
        };
        let line = |rule: &str, who: &str, first, last| (rule.to_owned(), who.to_owned(), first, last);
        assert_eq!(of(2500), [line("cgn", "100.64.0.65", 2024, 3023)], "as docs/nat.md reckons");
        let both =
            [line("cgn", "100.64.0.64", 1024, 2023), line("nat.postrouting 2", "10.0.0.1", 1124, 1223)];
        assert_eq!(of(1200), both);
        assert_eq!(of(80), []);
    }
}
