//! The resume position, and the state that travels in the commits. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a commit carries beside its records: enough to go on without them.
///
/// It is the metadata of the committed offset of `wikipedia-ingest`, which is written in the same transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngestState {
    /// Form of this state.
    pub v: u32,
    /// Greatest log time of the events handled so far, Unix milliseconds. At a first start: where it begins.
    pub t: i64,
    /// Where the first start began: no resume goes back further while nothing that is kept was seen.
    pub start: i64,
    /// Whether any event that is kept was ever seen: before it there is nothing to witness a resume.
    pub seen: bool,
    /// Per raw topic: the next sequence number of each partition.
    pub seq: BTreeMap<String, Vec<i64>>,
}

/// The form that this code writes.
const FORM: u32 = 1;

impl IngestState {
    /// The state before anything was read, at a first start.
    #[must_use]
    pub fn first(start_ms: i64, topics: &BTreeMap<String, i32>) -> Self {
        let zeros = |count: &i32| vec![0; usize::try_from(*count).unwrap_or(0)];
        let seq = topics.iter().map(|(topic, partitions)| (topic.clone(), zeros(partitions))).collect();
        Self { v: FORM, t: start_ms, start: start_ms, seen: false, seq }
    }

    /// Reads what a commit carries; `None` where it is not of this form.
    #[must_use]
    pub fn parse(metadata: &str) -> Option<Self> {
        serde_json::from_str(metadata).ok().filter(|state: &Self| state.v == FORM)
    }

    /// The metadata of a commit.
    #[must_use]
    pub fn to_metadata(&self) -> String {
        // Strings and integers only: this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The next sequence number of a partition.
    #[must_use]
    pub fn next_seq(&self, topic: &str, partition: i32) -> i64 {
        let index = usize::try_from(partition).ok();
        self.seq.get(topic).zip(index).and_then(|(seqs, index)| seqs.get(index)).copied().unwrap_or(0)
    }

    /// Takes the next sequence number of a partition.
    pub fn take_seq(&mut self, topic: &str, partition: i32) -> i64 {
        let seq = self.next_seq(topic, partition);
        self.raise_seq(topic, partition, seq + 1);
        seq
    }

    /// The next sequence number is at least `next`: metadata and records may each know more.
    pub fn raise_seq(&mut self, topic: &str, partition: i32, next: i64) {
        let Ok(index) = usize::try_from(partition) else { return };
        let seqs = self.seq.entry(topic.to_owned()).or_default();
        if seqs.len() <= index {
            seqs.resize(index + 1, 0);
        }
        if let Some(seq) = seqs.get_mut(index) {
            *seq = (*seq).max(next);
        }
    }

    /// An event of this log time was handled.
    pub fn pass(&mut self, log_time_ms: i64) {
        self.t = self.t.max(log_time_ms);
    }
}

/// Where a connection begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResumeAt {
    /// `Last-Event-ID` with a timestamp for every source topic.
    LogTime(i64),
    /// `since`: where the server refuses the id.
    Since(i64),
    /// The present: where it refuses that too. A gap is declared.
    Latest,
    /// An id exactly as received. Loses edits; kept as the contrast.
    AsReceived(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_survives_its_metadata() {
        let mut state = IngestState::first(7, &BTreeMap::from([("raw".to_owned(), 2)]));
        assert_eq!(state.take_seq("raw", 1), 0);
        assert_eq!(state.take_seq("raw", 1), 1);
        state.pass(5);
        assert_eq!(state.t, 7, "time never goes back");
        assert_eq!(IngestState::parse(&state.to_metadata()), Some(state));
    }

    #[test]
    fn metadata_of_another_form_is_never_trusted() {
        for metadata in ["", "{}", "note", r#"{"v":2,"t":0,"start":0,"seen":false,"seq":{}}"#] {
            assert_eq!(IngestState::parse(metadata), None, "{metadata}");
        }
    }

    #[test]
    fn sequences_only_rise() {
        let mut state = IngestState::first(0, &BTreeMap::new());
        state.raise_seq("raw", 3, 9);
        state.raise_seq("raw", 3, 4);
        assert_eq!(state.next_seq("raw", 3), 9);
        assert_eq!(state.next_seq("raw", 0), 0);
        assert_eq!(state.next_seq("other", 0), 0);
    }

    #[test]
    fn the_metadata_of_many_partitions_fits_into_kafkas_limit() {
        let mut state =
            IngestState::first(i64::from(i32::MAX) * 1000, &BTreeMap::from([("wikipedia-raw".to_owned(), 250)]));
        for partition in 0..250 {
            state.raise_seq("wikipedia-raw", partition, 1_000_000_000_000);
        }
        assert!(state.to_metadata().len() < 4096, "{}", state.to_metadata().len());
    }
}
