//! Why a service ended, and its exit code.

use std::process::ExitCode;

/// A failure that ends a process: one sentence that says what, why and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The command line is not understood.
    #[error("{0}")]
    Usage(String),
    /// A value, of a flag or the environment, cannot be right.
    #[error("{0}")]
    Config(String),
    /// Something that the process needs does not answer.
    #[error("{0}")]
    Unavailable(String),
    /// It went wrong while running.
    #[error("{0}")]
    Runtime(String),
}

impl Failure {
    /// The exit code: 2 usage, 78 configuration, 69 unavailable, 1 otherwise.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Config(_) => 78,
            Self::Unavailable(_) => 69,
            Self::Runtime(_) => 1,
        }
    }

    /// Prints the sentence on stderr and gives the exit code.
    #[must_use]
    pub fn report(&self, name: &str) -> ExitCode {
        // A sentence may quote a name that others gave.
        eprintln!("{name}: {}", crate::text::visible_lines(&self.to_string()));
        ExitCode::from(self.code())
    }
}
