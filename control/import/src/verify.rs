//! The policy is held against the parser and the compiler that will read it; what they refuse has no translation.

use sluice_compiler::Names;
use sluice_config::{Diagnostics, Policy};

use crate::Imported;
use crate::emit::{self, Written};
use crate::hooks;
use crate::model::{Rule, Ruleset};
use crate::report::{Place, Report};

/// Rounds in which rules may turn out to be refused: errors come all at once, so few are ever needed.
const ROUNDS: usize = 16;

/// Writes the policy, leaving out rules until it is accepted.
///
/// # Errors
/// What is wrong with it cannot be put down to rules.
pub(crate) fn translate(mut ruleset: Ruleset, report: Report) -> Result<Imported, String> {
    let mut last = String::new();
    for _ in 0..ROUNDS {
        let mut report = report.clone();
        let draft = hooks::draft(&ruleset, &mut report);
        let (untranslated, notes) = report.finish();
        let written = emit::write(&draft, &heading(untranslated.len()));
        let Err(found) = check(&written.text) else {
            return Ok(Imported { policy: written.text, untranslated, notes });
        };
        last = found.to_string();
        if !refuse(&mut ruleset, &written, &found) {
            break;
        }
    }
    Err(format!("no valid policy can be made of this:\n{last}"))
}

fn heading(untranslated: usize) -> Vec<String> {
    let mut lines = vec![
        "Made by `sluice import`. Interfaces have the names that they had: the system file's may be others."
            .to_owned(),
    ];
    match untranslated {
        0 => {}
        1 => lines.push("One line has no translation.".to_owned()),
        n => lines.push(format!("{n} lines have no translation.")),
    }
    lines
}

fn check(text: &str) -> Result<(), Diagnostics> {
    let (policy, _) = Policy::parse("policy.yaml", text, None)?;
    sluice_compiler::compile(&policy, &Names::as_given(&policy), 1)?;
    Ok(())
}

/// Marks the rules that errors are placed at; false if there is none.
fn refuse(ruleset: &mut Ruleset, written: &Written, found: &Diagnostics) -> bool {
    let mut any = false;
    for error in found.errors() {
        let line = usize::try_from(error.line).ok().and_then(|line| line.checked_sub(1));
        let Some(Some(place)) = line.and_then(|line| written.places.get(line)) else { continue };
        let why = match &error.hint {
            Some(hint) => format!("{}: {hint}", error.message),
            None => error.message.clone(),
        };
        for rule in of(ruleset, place).filter(|rule| rule.refused.is_none()) {
            rule.refuse(why.clone());
            any = true;
        }
    }
    any
}

fn of<'a>(ruleset: &'a mut Ruleset, place: &'a Place) -> impl Iterator<Item = &'a mut Rule> {
    let chains = ruleset.tables.iter_mut().flat_map(|table| &mut table.chains);
    chains.flat_map(|chain| &mut chain.rules).filter(move |rule| rule.place == *place)
}
