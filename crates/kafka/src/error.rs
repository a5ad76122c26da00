//! What can go wrong with Kafka, by what the caller must do.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

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
    /// Wraps what the client said; missing rights are no doubt, but a person's to give.
    pub fn doubt(doing: impl Into<String>) -> impl FnOnce(KafkaError) -> Self {
        let doing = doing.into();
        move |source| if lacks_rights(&source) { refused(&doing, &source) } else { Self::Doubt { doing, source } }
    }

    /// Whether an offset was asked for that retention took, or that was never there.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Doubt { source, .. } if is_gone(source))
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

/// An error that a consumer met while it was polled.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ClientError(pub(crate) KafkaError);

impl ClientError {
    /// Whether an offset is asked for that retention took, or that was never there.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        is_gone(&self.0)
    }

    /// The doubt that it is for what was being done.
    pub fn doubt(self, doing: impl Into<String>) -> Error {
        Error::doubt(doing)(self.0)
    }

    /// The sentence for an error after which a consumer does not continue by itself: a fatal one, or missing rights.
    #[must_use]
    pub fn fatal(&self) -> Option<String> {
        let Self(error) = self;
        if lacks_rights(error) {
            return Some(refused("read in the consumer group", error).sentence());
        }
        matches!(error, KafkaError::MessageConsumptionFatal(_)).then(|| {
            format!("the consumer cannot continue: {error}; check WIKI_REBALANCE against what the cluster offers")
        })
    }
}

/// Whether librdkafka only tells of it and goes on by itself: a broker is away, and others may do its work.
#[must_use]
pub fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::Resolve)
    )
}

/// Whether an offset is asked for that retention took, or that was never there.
#[must_use]
pub(crate) fn is_gone(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    matches!(code, Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange))
}

/// Whether a partition's leader is about to be another one: whoever asks again soon is answered.
pub(crate) fn is_moving(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            // The broker that was asked left the cluster's list of brokers meanwhile.
            RDKafkaErrorCode::DestroyBroker
                | RDKafkaErrorCode::FencedLeaderEpoch
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::OffsetNotAvailable
                | RDKafkaErrorCode::UnknownLeaderEpoch
                | RDKafkaErrorCode::UnknownPartition
        )
    )
}

/// Whether the cluster refuses for lack of rights.
pub(crate) fn lacks_rights(error: &KafkaError) -> bool {
    let code = match error {
        // The binding gives no code for these.
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    };
    matches!(
        code,
        Some(
            RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
                | RDKafkaErrorCode::SaslAuthenticationFailed
        )
    )
}

/// The sentence for it.
pub(crate) fn refused(doing: &str, source: &KafkaError) -> Error {
    Error::Stop(format!("{doing}: Kafka refuses it: {source}; give this service's principal the right (an ACL)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_is_a_persons_to_give_whoever_was_asked() {
        let code = RDKafkaErrorCode::GroupAuthorizationFailed;
        for error in [KafkaError::AdminOp(code), KafkaError::MessageConsumption(code), KafkaError::Global(code)] {
            assert!(matches!(Error::doubt("ask")(error), Error::Stop(_)));
        }
        assert!(matches!(Error::doubt("ask")(KafkaError::Canceled), Error::Doubt { .. }));
    }
}
