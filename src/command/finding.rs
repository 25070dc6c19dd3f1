//! What a check found, in words for people and for machines.

use std::io::{self, Write};

pub(crate) use crate::base::finding::{Finding, Severity};
use crate::command::exit::Exit;
use crate::command::screen::{Tone, painted};

/// How a command ends that has found this.
#[must_use]
pub(crate) fn exit(findings: &[Finding]) -> Exit {
    if findings
        .iter()
        .any(|finding| finding.severity == Severity::Problem)
    {
        Exit::Problems
    } else {
        Exit::Done
    }
}

/// Writes the findings: one JSON object a line, or a paragraph each.
///
/// # Errors
/// Those of `out`.
pub(crate) fn write(findings: &[Finding], json: bool, out: &mut dyn Write) -> io::Result<()> {
    for finding in findings {
        if json {
            writeln!(out, "{}", serde_json::to_string(finding)?)?;
            continue;
        }
        let mark = match finding.severity {
            Severity::Good => painted("ok", Tone::Good) + "     ",
            Severity::Warning => painted("warning", Tone::Warning),
            Severity::Problem => painted("PROBLEM", Tone::Problem),
        };
        writeln!(out, "{mark}  {}: {}", finding.subject, finding.what)?;
        let runbook = match finding.runbook {
            "" => String::new(),
            case => format!("Runbook: {case}"),
        };
        for more in [&finding.why, &finding.next, &runbook]
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
