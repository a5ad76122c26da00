//! Why a term of the acting replica ended.

use service::Failure;

/// The end of a term, by what comes next.
#[derive(Debug)]
pub enum TermEnd {
    /// Asked to end, or no longer the acting replica.
    Stopped,
    /// Something is in doubt: begin a new term.
    Doubt(kafka::Error),
    /// A person must act.
    Failed(Failure),
}

impl From<kafka::Error> for TermEnd {
    fn from(error: kafka::Error) -> Self {
        match error {
            kafka::Error::Stop(sentence) => Self::Failed(Failure::Runtime(sentence)),
            doubt @ (kafka::Error::Doubt { .. } | kafka::Error::TimedOut { .. }) => Self::Doubt(doubt),
        }
    }
}
