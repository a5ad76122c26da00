//! What can go wrong with a look, by what the console must do.

/// A look at a group that failed: the last picture stands, and is said to be old.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LookError(String);

impl From<kafka::Error> for LookError {
    fn from(error: kafka::Error) -> Self {
        Self(error.sentence())
    }
}
