//! What can go wrong with a look, by what the console must do.

/// A look at a group that failed.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The last picture stands, and is said to be old.
    #[error("{0}")]
    Again(String),
    /// A person must act.
    #[error("{0}")]
    Stop(String),
}

impl From<kafka::Error> for LookError {
    fn from(error: kafka::Error) -> Self {
        match error {
            kafka::Error::Stop(sentence) => Self::Stop(sentence),
            doubt @ (kafka::Error::Doubt { .. } | kafka::Error::TimedOut { .. }) => Self::Again(doubt.sentence()),
        }
    }
}
