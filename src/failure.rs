//! The error that ends a program: what happened, what to do about it, and the exit code.

/// An error with a hint and an exit code.
#[derive(Debug)]
pub struct Failure {
    /// What happened, with its causes.
    pub error: anyhow::Error,
    /// What to do about it.
    pub hint: Option<String>,
    /// 1 for a failure, 2 for a wrong flag or configuration.
    pub exit_code: u8,
}

impl Failure {
    /// A failure at work: exit code 1.
    pub fn at_work(error: impl Into<anyhow::Error>, hint: impl Into<Option<String>>) -> Self {
        Self { error: error.into(), hint: hint.into(), exit_code: 1 }
    }

    /// A wrong flag, variable or file: exit code 2.
    pub fn configuration(error: impl Into<anyhow::Error>, hint: impl Into<Option<String>>) -> Self {
        Self { error: error.into(), hint: hint.into(), exit_code: 2 }
    }
}
