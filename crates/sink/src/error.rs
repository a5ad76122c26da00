//! What can go wrong with a write, by what the sink must do.

/// A failure of a destination.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Try the same again later: nothing was written.
    #[error("{doing}: {source}")]
    Retry {
        /// What was being done.
        doing: &'static str,
        /// What the destination said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It took too long: try less at once.
    #[error("{doing}: {source}")]
    TooSlow {
        /// What was being done.
        doing: &'static str,
        /// What the destination said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The table refuses rows that it was made for: nothing was written, and nothing set aside. Its owner must mend it.
    #[error("the table refuses rows that it was made for: {0}")]
    Refused(String),
    /// Another sink owns these partitions by now: nothing was written; forget them.
    #[error("partitions {partitions:?} have another owner")]
    Fenced {
        /// The partitions.
        partitions: Vec<i32>,
    },
    /// A person must act.
    #[error("{0}")]
    Stop(String),
}
