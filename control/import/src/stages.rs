//! Tests in netfilter's order as maps of the policy language, in which each match stands once and limits come last.
//!
//! Where that takes more than one map (two sets of addresses asked for, a test behind a limit), a rule becomes several
//! that jump from one to the next: its stages.

use crate::model::{Asked, Test};
use crate::yaml::Value;

/// The matches of one rule of the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stage {
    pub(crate) is: Vec<(&'static str, Asked)>,
    pub(crate) not: Vec<(&'static str, Asked)>,
}

impl Stage {
    /// Asks for something that is used up by asking.
    pub(crate) fn is_limited(&self) -> bool {
        self.is.iter().chain(&self.not).any(|(key, _)| matches!(*key, "limit" | "connlimit"))
    }

    /// Asks for this.
    pub(crate) fn asks(&self, key: &str) -> bool {
        self.is.iter().chain(&self.not).any(|(known, _)| *known == key)
    }

    /// Holds for one family only, by what it asks.
    pub(crate) fn implies_family(&self) -> bool {
        self.is.iter().any(|(key, asked)| match (*key, asked) {
            ("src" | "dst", Asked::Any(values)) => values.iter().all(|value| !value.starts_with('@')),
            ("icmp" | "icmpv6", _) => true,
            _ => false,
        })
    }

    /// As entries of a rule.
    pub(crate) fn entries(&self) -> Vec<(&'static str, Value)> {
        let value = |asked: &Asked| match asked {
            Asked::Any(values) => Value::values(values.clone()),
            Asked::Set(name) => Value::Text(format!("@{name}")),
            Asked::Other(value) => value.clone(),
        };
        let plain = |(key, asked): &(&'static str, Asked)| (*key, value(asked));
        let mut entries: Vec<_> = self.is.iter().map(plain).collect();
        // Where a rule can be read from left to right: where from, where to, what, in which state.
        entries.sort_by_key(|(key, _)| rank(key));
        if !self.not.is_empty() {
            entries.push(("not", Value::Map(self.not.iter().map(plain).collect())));
        }
        entries
    }
}

fn rank(key: &str) -> usize {
    let order =
        ["family", "in", "out", "src", "dst", "origin", "to", "proto", "sport", "dport", "tcp_flags", "icmp"];
    order.iter().position(|known| *known == key).unwrap_or(order.len())
}

/// Words of which a packet has one.
const EXCLUSIVE: [&str; 6] = ["proto", "family", "in", "out", "to", "origin"];

/// The stages of tests; None if they hold for no packet.
pub(crate) fn stages(tests: &[Test]) -> Option<Vec<Stage>> {
    let (mut done, mut stage) = (Vec::new(), Stage::default());
    for test in tests {
        let fits = match test {
            Test::Never => return None,
            _ if stage.is_limited() => false,
            Test::Is(key, asked) => match stage.is.iter_mut().find(|(known, _)| known == key) {
                None => {
                    stage.is.push((*key, asked.clone()));
                    continue;
                }
                Some((_, known)) => narrow(key, known, asked)?,
            },
            Test::Not(key, asked) => match stage.not.iter_mut().find(|(known, _)| known == key) {
                None => {
                    stage.not.push((*key, asked.clone()));
                    continue;
                }
                Some((_, known)) => widen(known, asked),
            },
        };
        if !fits {
            done.push(std::mem::take(&mut stage));
            match test {
                Test::Is(key, asked) => stage.is.push((*key, asked.clone())),
                Test::Not(key, asked) => stage.not.push((*key, asked.clone())),
                Test::Never => {}
            }
        }
    }
    done.push(stage);
    for stage in &mut done {
        tidy(stage);
    }
    Some(done)
}

/// Both must hold: true if `known` says it now, None if they cannot.
fn narrow(key: &str, known: &mut Asked, asked: &Asked) -> Option<bool> {
    match (known, asked) {
        (known, asked) if *known == *asked => Some(true),
        (Asked::Any(known), Asked::Any(asked)) if EXCLUSIVE.contains(&key) => {
            known.retain(|word| asked.contains(word));
            (!known.is_empty()).then_some(true)
        }
        // All that is given in `ct_orig` must hold.
        (Asked::Other(Value::Map(known)), Asked::Other(Value::Map(asked))) if key == "ct_orig" => {
            let other = asked.iter().all(|(key, _)| known.iter().all(|(known, _)| known != key));
            if other {
                known.extend(asked.iter().cloned());
            }
            Some(other)
        }
        _ => Some(false),
    }
}

/// Neither may hold: true if `known` says it now.
fn widen(known: &mut Asked, asked: &Asked) -> bool {
    match (known, asked) {
        (known, asked) if *known == *asked => true,
        (Asked::Any(known), Asked::Any(asked)) => {
            known.extend(asked.iter().cloned());
            true
        }
        _ => false,
    }
}

/// Leaves out a protocol that another match implies.
fn tidy(stage: &mut Stage) {
    for (key, protocols) in [("icmp", &["icmp"][..]), ("icmpv6", &["icmpv6", "ipv6-icmp"])] {
        if stage.is.iter().any(|(known, _)| *known == key) {
            stage.is.retain(|(known, asked)| {
                let implied = |asked: &Asked| {
                    matches!(asked, Asked::Any(words) if words.iter().all(|word| protocols.contains(&word.as_str())))
                };
                *known != "proto" || !implied(asked)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(key: &'static str, values: &[&str]) -> Test {
        Test::Is(key, Asked::Any(values.iter().map(ToString::to_string).collect()))
    }

    fn not(key: &'static str, values: &[&str]) -> Test {
        Test::Not(key, Asked::Any(values.iter().map(ToString::to_string).collect()))
    }

    fn limit() -> Test {
        Test::Is("limit", Asked::Other(Value::text("1/second")))
    }

    #[test]
    fn each_match_stands_once() {
        type Case<'c> = (&'c str, &'c [Test], Option<&'c [&'c str]>);
        let cases: [Case<'_>; 8] = [
            ("one map", &[is("proto", &["tcp"]), is("dport", &["22"])], Some(&["{proto: tcp, dport: 22}"])),
            (
                "protocols meet",
                &[is("proto", &["tcp", "udp"]), is("proto", &["tcp"])],
                Some(&["{proto: tcp}"]),
            ),
            ("protocols do not", &[is("proto", &["udp"]), is("proto", &["tcp"])], None),
            (
                "two sources",
                &[is("src", &["@a"]), is("src", &["@b"])],
                Some(&["{src: \"@a\"}", "{src: \"@b\"}"]),
            ),
            (
                "none of both",
                &[not("src", &["@a"]), not("src", &["@b"])],
                Some(&["{not: {src: [\"@a\", \"@b\"]}}"]),
            ),
            (
                "a limit comes last",
                &[limit(), is("proto", &["tcp"])],
                Some(&["{limit: 1/second}", "{proto: tcp}"]),
            ),
            ("icmp is icmp", &[is("proto", &["icmp"]), is("icmp", &["8"])], Some(&["{icmp: 8}"])),
            ("never", &[is("proto", &["tcp"]), Test::Never], None),
        ];
        for (name, tests, expected) in cases {
            let stages = stages(tests).map(|list| {
                list.iter().map(|stage| Value::Map(stage.entries()).to_string()).collect::<Vec<_>>()
            });
            assert_eq!(stages, expected.map(|list| list.iter().map(ToString::to_string).collect()), "{name}");
        }
    }
}
