//! What can go wrong with Kafka, by what the caller must do.

use rdkafka::error::KafkaError;

/// A failure of a Kafka operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The outcome is unknown or the client is unusable: drop it, initialise again, read the durable state again.
    #[error("{doing}")]
    Doubt {
        /// What was being done.
        doing: String,
        /// What the client said.
        #[source]
        source: KafkaError,
    },
    /// Nobody answered in time; as doubtful as the other.
    #[error("{doing}: no answer within {seconds} s")]
    TimedOut {
        /// What was being done.
        doing: String,
        /// The time given, in seconds.
        seconds: u64,
    },
    /// The cluster is not as it must be, or a setting is wrong: a person must act.
    #[error("{0}")]
    Stop(String),
}

impl Error {
    /// Wraps what the client said.
    pub fn doubt(doing: impl Into<String>) -> impl FnOnce(KafkaError) -> Self {
        let doing = doing.into();
        move |source| Self::Doubt { doing, source }
    }

    /// The whole chain as one sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::Doubt { doing, source } => format!("{doing}: {source}"),
            Self::TimedOut { .. } | Self::Stop(_) => self.to_string(),
        }
    }
}
