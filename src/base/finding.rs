//! What a check found.

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// It is as it should be.
    Good,
    /// It works, but may not be intended.
    Warning,
    /// It must be fixed.
    Problem,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// How bad it is.
    pub(crate) severity: Severity,
    /// What was checked, in a word or two.
    pub(crate) subject: &'static str,
    /// What was found.
    pub(crate) what: String,
    /// Why it matters; empty when it is good.
    pub(crate) why: String,
    /// What to do: a command, a variable or a Dashboard page; empty when there is nothing to do.
    pub(crate) next: String,
    /// The case of the runbook that it belongs to; empty when there is none.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) runbook: &'static str,
    /// Whether `serve` would not start because of it.
    #[serde(skip)]
    stops_a_start: bool,
}

impl Finding {
    /// All is well.
    #[must_use]
    pub(crate) fn good(subject: &'static str, what: impl Into<String>) -> Finding {
        Finding::new(Severity::Good, subject, what, "", "")
    }

    /// Something to look at.
    #[must_use]
    pub(crate) fn warning(
        subject: &'static str,
        what: impl Into<String>,
        why: impl Into<String>,
        next: impl Into<String>,
    ) -> Finding {
        Finding::new(Severity::Warning, subject, what, why, next)
    }

    /// Something to fix.
    #[must_use]
    pub(crate) fn problem(
        subject: &'static str,
        what: impl Into<String>,
        why: impl Into<String>,
        next: impl Into<String>,
    ) -> Finding {
        Finding::new(Severity::Problem, subject, what, why, next)
    }

    /// The same, with the case of the runbook that it belongs to.
    #[must_use]
    pub(crate) fn in_runbook(self, runbook: &'static str) -> Finding {
        Finding { runbook, ..self }
    }

    /// The same, of which `serve` would not start.
    #[must_use]
    pub(crate) fn stopping_a_start(self) -> Finding {
        Finding {
            stops_a_start: true,
            ..self
        }
    }

    /// The same as it counts before a restart: a problem that would not stop it is a warning.
    #[must_use]
    pub(crate) fn before_a_restart(self) -> Finding {
        let severity = match self.severity {
            Severity::Problem if !self.stops_a_start => Severity::Warning,
            severity @ (Severity::Good | Severity::Warning | Severity::Problem) => severity,
        };
        Finding { severity, ..self }
    }

    fn new(
        severity: Severity,
        subject: &'static str,
        what: impl Into<String>,
        why: impl Into<String>,
        next: impl Into<String>,
    ) -> Finding {
        Finding {
            severity,
            subject,
            what: what.into(),
            why: why.into(),
            next: next.into(),
            runbook: "",
            stops_a_start: false,
        }
    }
}
