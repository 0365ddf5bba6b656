//! Findings of the compiler, placed in the policy file.

use sluice_config::policy::Rule;
use sluice_config::{Diagnostic, Diagnostics, Policy, Severity, Span};

/// Collects findings about one policy.
pub(crate) struct Problems<'a> {
    file: &'a str,
    lines: Vec<&'a str>,
    found: Diagnostics,
}

impl<'a> Problems<'a> {
    pub(crate) fn new(policy: &'a Policy) -> Problems<'a> {
        let source = &policy.source;
        Problems { file: &source.name, lines: source.text.lines().collect(), found: Diagnostics::new() }
    }

    /// What makes the policy one that cannot be run.
    pub(crate) fn error(&mut self, span: Span, rule: Option<&Rule>, message: impl Into<String>) {
        self.push(Severity::Error, span, rule, message.into());
    }

    /// What cannot do what its author meant.
    pub(crate) fn warning(&mut self, span: Span, rule: Option<&Rule>, message: impl Into<String>) {
        self.push(Severity::Warning, span, rule, message.into());
    }

    /// The warnings, or, if there is an error, everything.
    pub(crate) fn finish(self) -> Result<Diagnostics, Diagnostics> {
        if self.found.has_errors() { Err(self.found) } else { Ok(self.found) }
    }

    fn push(&mut self, severity: Severity, span: Span, rule: Option<&Rule>, message: String) {
        let line = usize::try_from(span.line).unwrap_or(0);
        let source_line = line.checked_sub(1).and_then(|line| self.lines.get(line));
        self.found.push(Diagnostic {
            severity,
            file: self.file.to_owned(),
            line: span.line,
            column: span.column,
            message,
            hint: None,
            rule: rule.and_then(|rule| rule.name.as_ref()).map(|name| name.value.clone()),
            source_line: source_line.map(|line| (*line).to_owned()),
        });
    }
}
