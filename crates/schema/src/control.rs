//! What services say of themselves: the value of `wikipedia-control`, JSON.
//!
//! One each second, and one at each change. Nothing that is stored depends on them: one that is lost is followed by the
//! next.

use serde::{Deserialize, Serialize};

use crate::{Reason, Rejection};

/// A service's word about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Word {
    /// Of a sink.
    Sink(SinkStatus),
    /// Of the acting ingest.
    Source(SourceStatus),
}

impl Word {
    /// The value of its record.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a record's value; fields that are added later are stepped over.
    ///
    /// # Errors
    /// A [`Rejection`] where it is none.
    pub fn from_json(value: &[u8]) -> Result<Self, Rejection> {
        serde_json::from_slice(value).map_err(|error| Rejection::new(Reason::WrongShape, error.to_string()))
    }
}

/// The acting ingest's word about its stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// The replica's name, for people.
    pub replica: String,
    /// Host of the stream.
    pub host: String,
    /// Since when it is connected, Unix milliseconds; null where it is not.
    pub connected_at_ms: Option<i64>,
    /// What keeps it from reading; empty where nothing does.
    pub trouble: String,
    /// Open entries of the gap ledger.
    #[serde(default)]
    pub gaps: u64,
}

/// A sink's word about itself, at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkStatus {
    /// Its name, for people; another process may go by it later.
    pub replica: String,
    /// One life of one process.
    pub run: String,
    /// Counts the words of a run from 0.
    pub number: u64,
    /// When it started, Unix milliseconds of its own clock: the later run of a name is the living one.
    pub started_at_ms: i64,
    /// Why it speaks.
    pub moment: Moment,
    /// The coordinator's name for it; empty before it has one.
    pub member: String,
    /// The consumer group's generation, or the member's epoch (KIP-848); negative before it has one.
    pub generation: i32,
    /// The rebalancing protocol: `cooperative`, `eager`, `consumer`.
    pub protocol: String,
    /// What it owns, itself sure of it.
    pub owned: Vec<OwnedPartition>,
    /// The partitions that the moment is about.
    pub moving: Vec<i32>,
    /// Edits that it stored since its start.
    pub stored: u64,
    /// Edits that wait for their write.
    pub buffered: u64,
    /// How many may wait at most.
    pub buffer_limit: u64,
    /// What keeps it from storing; empty where nothing does.
    pub trouble: String,
    /// It stores slowly on purpose.
    pub is_slowed: bool,
}

/// A partition as its owner sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedPartition {
    /// Its number.
    pub partition: i32,
    /// Offset behind the last edit stored.
    pub next_offset: i64,
    /// Records behind the end, as the last fetch saw it.
    pub lag: i64,
}

/// Why a sink speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Time has passed, or edits were stored.
    Heartbeat,
    /// The group gave it partitions, and it has taken them on.
    Assigned,
    /// The group asks for partitions back; it still owns them.
    Revoking,
    /// It has given them back.
    Revoked,
    /// The group gave its partitions to others without asking.
    Lost,
    /// It ends in order.
    Leaving,
}

impl SinkStatus {
    /// Whether it says that it owns the partition.
    #[must_use]
    pub fn owns(&self, partition: i32) -> bool {
        self.owned.iter().any(|owned| owned.partition == partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_comes_back_as_it_went_and_knows_what_is_owned() {
        let status = SinkStatus {
            replica: "sink-1".to_owned(),
            run: "r".to_owned(),
            number: 3,
            started_at_ms: 1,
            moment: Moment::Revoking,
            member: "m".to_owned(),
            generation: 7,
            protocol: "eager".to_owned(),
            owned: vec![OwnedPartition { partition: 4, next_offset: 1 << 40, lag: 2 }],
            moving: vec![4],
            stored: 9,
            buffered: 1,
            buffer_limit: 2_000,
            trouble: String::new(),
            is_slowed: false,
        };
        assert!(status.owns(4) && !status.owns(5));
        let source = SourceStatus {
            replica: "ingest-1".to_owned(),
            host: "stream.wikimedia.org".to_owned(),
            connected_at_ms: Some(5),
            trouble: String::new(),
            gaps: 1,
        };
        for word in [Word::Sink(status), Word::Source(source)] {
            assert_eq!(Word::from_json(&word.to_json()).unwrap(), word);
        }
        assert!(Word::from_json(b"{}").is_err(), "a record of another kind is none");
    }
}
