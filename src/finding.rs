//! What a check found, in words for people and for machines.

use std::io::{self, Write};

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It is as it should be.
    Good,
    /// It works, and may not be meant.
    Warning,
    /// It must be repaired.
    Problem,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was looked at, in a word or two.
    pub subject: &'static str,
    /// What was found.
    pub what: String,
    /// Why it matters; empty when it is good.
    pub why: String,
    /// What to do: a command, a variable or a Dashboard page; empty when nothing is.
    pub next: String,
}

impl Finding {
    /// All is well.
    #[must_use]
    pub fn good(subject: &'static str, what: impl Into<String>) -> Finding {
        let what = what.into();
        Finding {
            severity: Severity::Good,
            subject,
            what,
            why: String::new(),
            next: String::new(),
        }
    }

    /// Something to look at.
    #[must_use]
    pub fn warning(
        subject: &'static str,
        what: impl Into<String>,
        why: impl Into<String>,
        next: impl Into<String>,
    ) -> Finding {
        Finding {
            severity: Severity::Warning,
            subject,
            what: what.into(),
            why: why.into(),
            next: next.into(),
        }
    }

    /// Something to repair.
    #[must_use]
    pub fn problem(
        subject: &'static str,
        what: impl Into<String>,
        why: impl Into<String>,
        next: impl Into<String>,
    ) -> Finding {
        Finding {
            severity: Severity::Problem,
            ..Finding::warning(subject, what, why, next)
        }
    }
}

/// Whether anything must be repaired.
#[must_use]
pub fn has_problems(findings: &[Finding]) -> bool {
    findings
        .iter()
        .any(|finding| finding.severity == Severity::Problem)
}

/// Writes the findings: one JSON object a line, or a paragraph each.
///
/// # Errors
/// Those of `out`.
pub fn write(findings: &[Finding], json: bool, out: &mut dyn Write) -> io::Result<()> {
    for finding in findings {
        if json {
            writeln!(out, "{}", serde_json::to_string(finding)?)?;
            continue;
        }
        let mark = match finding.severity {
            Severity::Good => "ok     ",
            Severity::Warning => "warning",
            Severity::Problem => "PROBLEM",
        };
        writeln!(out, "{mark}  {}: {}", finding.subject, finding.what)?;
        for more in [&finding.why, &finding.next]
            .into_iter()
            .filter(|more| !more.is_empty())
        {
            for line in more.lines() {
                writeln!(out, "         {}", line.trim_start())?;
            }
        }
    }
    Ok(())
}
