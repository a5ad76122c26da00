//! What the broker takes of any client: bytes, time, connections, names. What goes past a bound is
//! refused with an error of the protocol where there is one, else its connection is closed; each is counted.
//!
//! With all of them reached at once the broker stays within 256 MiB beside the records that it was told to keep.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kafka_protocol::ResponseError;

/// Connections at once. Of more, the one that has been idle longest is closed.
pub(crate) const CONNECTIONS: usize = 1_000;
/// From a frame's length to its last byte.
pub(crate) const FRAME_TIME: Duration = Duration::from_secs(30);
/// Without taking a byte of an answer.
pub(crate) const ANSWER_TIME: Duration = Duration::from_secs(30);
/// Requests and answers of more than [`SMALL_BYTES`] in memory, over all connections.
pub(crate) const WORK_BYTES: usize = 48 << 20;
/// What a connection may always have in work.
pub(crate) const SMALL_BYTES: usize = 16 << 10;
/// What an element of a request's arrays costs, decoded and answered, at least.
pub(crate) const ELEMENT_BYTES: usize = 512;
/// Bytes of one answer.
pub(crate) const ANSWER_BYTES: usize = 32 << 20;
/// Records of one fetch, but for a single batch that is longer.
pub(crate) const FETCH_BYTES: usize = 4 << 20;
/// Partitions of one topic.
pub(crate) const PARTITIONS_OF_A_TOPIC: i32 = 1_000;
/// Partitions of all topics.
pub(crate) const PARTITIONS: usize = 10_000;
/// Bytes of a value of a topic's setting.
pub(crate) const SETTING_BYTES: usize = 1_024;
/// Bytes of the id of a group or of a transactional producer.
pub(crate) const ID_BYTES: usize = 1_024;
/// Consumer groups; one without members and offsets makes room for another.
pub(crate) const GROUPS: usize = 1_000;
/// What the members of one group cost: their names, subscriptions, assignments.
pub(crate) const GROUP_BYTES: usize = 1 << 20;
/// The same of all groups.
pub(crate) const GROUPS_BYTES: usize = 32 << 20;
/// What a member or an offset costs beside its texts.
pub(crate) const ENTRY_BYTES: usize = 256;
/// Longest session of a member: Apache Kafka's `group.max.session.timeout.ms`.
pub(crate) const SESSION: Duration = Duration::from_secs(30 * 60);
/// Committed offsets with their metadata, of all groups, and those that transactions hold.
pub(crate) const OFFSETS_BYTES: usize = 32 << 20;
/// Transactional ids.
pub(crate) const TRANSACTIONAL_IDS: usize = 10_000;
/// Longest transaction: Apache Kafka's `transaction.max.timeout.ms`.
pub(crate) const TRANSACTION: Duration = Duration::from_secs(15 * 60);
/// Producers whose last batches are remembered, over all partitions.
pub(crate) const PRODUCERS: usize = 100_000;

/// What was refused, closed or cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Connections,
    Frame,
    FrameTime,
    AnswerTime,
    Work,
    Answer,
    Partitions,
    Ids,
    Groups,
    Sessions,
    Offsets,
    TransactionTime,
    OpenTransactions,
}

/// The names of the limits in the log and in metrics.
// In the order of `Refused`.
pub const LABELS: [&str; 13] = [
    "connections",
    "frame",
    "frame_time",
    "answer_time",
    "work",
    "answer",
    "partitions",
    "ids",
    "groups",
    "sessions",
    "offsets",
    "transaction_time",
    "open_transactions",
];

impl Refused {
    /// The code that the client gets, where a request is answered with one.
    pub(crate) const fn error(self) -> ResponseError {
        match self {
            Self::Sessions => ResponseError::InvalidSessionTimeout,
            Self::TransactionTime => ResponseError::InvalidTransactionTimeout,
            Self::Groups => ResponseError::GroupMaxSizeReached,
            _ => ResponseError::PolicyViolation,
        }
    }
}

/// How often each bound was met.
#[derive(Debug, Default)]
pub(crate) struct Counts([AtomicU64; LABELS.len()]);

impl Counts {
    /// In the order of [`LABELS`].
    pub(crate) fn met(&self) -> Vec<u64> {
        self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Counts one, and says it in the log: the first, the tenth, the hundredth, ….
    pub(crate) fn add(&self, refused: Refused) {
        let (Some(met), Some(limit)) = (self.0.get(refused as usize), LABELS.get(refused as usize)) else { return };
        let times = met.fetch_add(1, Ordering::Relaxed) + 1;
        if 10_u64.pow(times.ilog10()) == times {
            tracing::warn!(limit, times, "a client went past a limit of this broker and was refused");
        }
    }

    /// The same, and the error to answer with.
    pub(crate) fn refuse(&self, refused: Refused) -> ResponseError {
        self.add(refused);
        refused.error()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stand_in_the_order_of_what_they_name() {
        let counts = Counts::default();
        counts.add(Refused::OpenTransactions);
        assert_eq!(counts.refuse(Refused::Groups), ResponseError::GroupMaxSizeReached);
        let all = LABELS.into_iter().zip(counts.met());
        let met: Vec<_> = all.filter(|(_, times)| *times > 0).collect();
        assert_eq!(met, [("groups", 1), ("open_transactions", 1)]);
    }
}
