//! One rule of netfilter as rules of a policy.
//!
//! A policy's rule has one action. What does several things becomes several rules with the same matches, or, where asking twice
//! would not be the same (limits, a mark that is both asked for and set), one rule that jumps to a chain of its own.

use crate::emit::Line;
use crate::model::{Asked, Families, Rule, Test, Verdict};
use crate::names;
use crate::stages::{Stage, stages};
use crate::yaml::Value;

/// What a rule needs to know of the chain that it stands in.
pub(crate) trait Surroundings {
    /// The families whose packets come here.
    fn families(&self) -> Families;
    /// Whether packets here have an ingress (`in`) or an egress interface (`out`).
    fn knows(&self, key: &str) -> bool;
    /// Whether NAT here is of sources, not of destinations.
    fn translates_sources(&self) -> bool;
    /// What accepting means: on to the next chain at this hook, if there is one.
    fn accept(&self) -> Value;
    /// The name of a chain in the policy; None if it does nothing.
    fn chain(&mut self, name: &str) -> Option<String>;
    /// A new chain of these rules; its name.
    fn helper(&mut self, lines: Vec<Line>) -> String;
}

/// What a rule became.
pub(crate) enum Lowered {
    /// These rules.
    Lines(Vec<Line>),
    /// Nothing: no packet is like that.
    Never,
    /// Nothing: it does nothing.
    Nothing,
}

/// Translates a rule.
///
/// # Errors
/// Why it cannot be.
pub(crate) fn rule(rule: &Rule, around: &mut impl Surroundings) -> Result<Lowered, String> {
    if let Some(why) = &rule.refused {
        return Err(why.clone());
    }
    let families = rule.families.and(around.families());
    let asked = rule.alternatives.iter().filter_map(|tests| stages(&answered(tests, around)));
    let mut alternatives: Vec<Vec<Stage>> = asked.collect();
    if alternatives.is_empty() || families.is_none() {
        return Ok(Lowered::Never);
    }
    let limited = alternatives.iter().flatten().any(Stage::is_limited);
    if limited && alternatives.len() > 1 {
        return Err("a limit cannot be shared by rules for source and for destination ports".to_owned());
    }
    if let Some(word) = families.word().filter(|_| families != around.families()) {
        for first in alternatives.iter_mut().filter_map(|list| list.first_mut()) {
            if !first.implies_family() {
                first.is.insert(0, ("family", Asked::Any(vec![word.to_owned()])));
            }
        }
    }
    let Some(actions) = actions(rule, around) else { return Ok(Lowered::Nothing) };
    let mut lines = Vec::new();
    for stages in alternatives {
        lines.extend(rules(rule, stages, &actions, around)?);
    }
    if let (Some(comment), Some(Line::Rule { entries, .. })) = (&rule.comment, lines.first_mut()) {
        entries.push(("comment", Value::text(comment.chars().take(120).collect::<String>())));
    }
    Ok(Lowered::Lines(lines))
}

/// The tests with those answered that ask for an interface where packets have none: to netfilter such a packet has another
/// interface than any that is named.
fn answered(tests: &[Test], around: &impl Surroundings) -> Vec<Test> {
    let answer = |test: &Test| match test {
        Test::Is(key @ ("in" | "out"), _) if !around.knows(key) => Some(Test::Never),
        Test::Not(key @ ("in" | "out"), _) if !around.knows(key) => None,
        other => Some(other.clone()),
    };
    tests.iter().filter_map(answer).collect()
}

/// The rule's actions in order, a verdict last; None if there is none.
fn actions(rule: &Rule, around: &mut impl Surroundings) -> Option<Vec<Value>> {
    let mut actions: Vec<Value> = rule.effects.iter().map(|effect| effect.action.clone()).collect();
    let named = |key, name| Value::of(key, Value::Text(name));
    match &rule.verdict {
        Verdict::None if actions.is_empty() => actions.push(Value::text("count")),
        Verdict::None => {}
        Verdict::Accept => actions.push(around.accept()),
        Verdict::Drop => actions.push(Value::text("drop")),
        Verdict::Return => actions.push(Value::text("return")),
        Verdict::Jump(name) => actions.extend(around.chain(name).map(|name| named("jump", name))),
        Verdict::Goto(name) => {
            let to = around.chain(name).map(|name| named("goto", name));
            actions.push(to.unwrap_or_else(|| Value::text("return")));
        }
        Verdict::Other(action) => actions.push(action.clone()),
        Verdict::Netmap(prefix) => {
            let key = if around.translates_sources() { "snat" } else { "dnat" };
            actions.push(names::nat_prefix(key, prefix));
        }
    }
    (!actions.is_empty()).then_some(actions)
}

fn rules(
    rule: &Rule,
    mut stages: Vec<Stage>,
    actions: &[Value],
    around: &mut impl Surroundings,
) -> Result<Vec<Line>, String> {
    // Behind a jump, returning leads to the next rule instead of out of the chain.
    let leaves = matches!(rule.verdict, Verdict::Return | Verdict::Goto(_));
    if leaves && stages.len() > 1 {
        return Err("several tests of one kind before leaving the chain cannot be told apart".to_owned());
    }
    let last = stages.pop().unwrap_or_default();
    let line = |stage: &Stage, action: Value| {
        let mut entries = stage.entries();
        entries.push(("action", action));
        Line::Rule { entries, place: Some(rule.place.clone()) }
    };
    let changed = rule.effects.iter().any(|effect| effect.changes.is_some_and(|key| last.asks(key)));
    let twice = actions.len() > 1 && (last.is_limited() || changed || actions.len() > 2);
    let mut lines: Vec<Line> = if twice {
        let body = actions.iter().filter(|action| !leaves || **action != Value::text("return"));
        let body = body.map(|action| line(&Stage::default(), action.clone())).collect();
        let name = Value::Text(around.helper(body));
        vec![line(&last, Value::of(if leaves { "goto" } else { "jump" }, name))]
    } else {
        actions.iter().map(|action| line(&last, action.clone())).collect()
    };
    for stage in stages.iter().rev() {
        let name = Value::Text(around.helper(lines));
        lines = vec![line(stage, Value::of("jump", name))];
    }
    Ok(lines)
}
