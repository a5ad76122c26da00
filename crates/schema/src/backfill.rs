//! A request to read a stretch of the stream again; it stands in the gap ledger.

use serde::{Deserialize, Serialize};

/// One request. The record's key is its `backfill`, so that a compacted topic keeps how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backfill {
    /// Its name: `backfill:` and the two times.
    pub backfill: String,
    /// Log time at which the stretch begins, Unix milliseconds.
    pub from_ms: i64,
    /// Log time before which it ends, Unix milliseconds.
    pub to_ms: i64,
    /// How far it is.
    pub status: BackfillStatus,
    /// Everything before this log time is done, Unix milliseconds: another replica continues here.
    pub reached_ms: i64,
    /// Events that were missing and are published now.
    pub published: u64,
    /// Why it was refused, or what is still missing: a sentence, or nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackfillStatus {
    /// The acting replica of ingest carries it out, or will.
    Requested,
    /// All that the stream holds of the stretch is published.
    Done,
    /// It could not be carried out.
    Refused,
}

impl Backfill {
    /// A new request.
    #[must_use]
    pub fn request(from_ms: i64, to_ms: i64) -> Self {
        Self {
            backfill: format!("backfill:{from_ms}-{to_ms}"),
            from_ms,
            to_ms,
            status: BackfillStatus::Requested,
            reached_ms: from_ms,
            published: 0,
            detail: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gap::Gap;

    #[test]
    fn readers_of_gaps_do_not_take_a_request_for_one_and_the_other_way_round() {
        let request = Backfill::request(1, 2);
        let text = serde_json::to_string(&request).unwrap();
        assert!(serde_json::from_str::<Gap>(&text).is_err());
        assert_eq!(serde_json::from_str::<Backfill>(&text).unwrap(), request);
        let gap = r#"{"id":"1-2","source_topics":["a"],"from_ms":1,"to_ms":2,"reason":"no_witness","estimated_events":35,"status":"open"}"#;
        assert!(serde_json::from_str::<Backfill>(gap).is_err());
    }
}
