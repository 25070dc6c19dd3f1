//! What operators are told about the environment: mistakes and warnings.

use std::fmt;

/// A mistake that keeps the process from starting. Its `Display` is a message of two lines for the
/// operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The variable to change.
    pub variable: &'static str,
    /// What is wrong with it, as the end of a sentence that begins with its name.
    pub problem: String,
    /// Why it matters.
    pub why: &'static str,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConfigError {
            variable,
            problem,
            why,
            remedy,
        } = self;
        write!(f, "{variable} {problem}. {why}\n  {remedy}")
    }
}

/// Something that is allowed but may not be meant. Its `Display` is a message of two lines for the
/// operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigWarning {
    /// The variable to look at.
    pub variable: String,
    /// What is odd about it, as the end of a sentence that begins with its name.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}.\n  {}", self.variable, self.problem, self.remedy)
    }
}
