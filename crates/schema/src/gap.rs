//! An entry of the gap ledger: a stretch of the stream that could not be proven whole.

use serde::{Deserialize, Serialize};

/// One gap; the record's key is its `id`, so that a compacted topic keeps its latest state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Stable over its life: `from` and `to` as text.
    pub id: String,
    /// The source topics that were asked for.
    pub source_topics: Vec<String>,
    /// Last instant that is known to be whole, Unix milliseconds of log time.
    pub from_ms: i64,
    /// First instant that is known to be whole again.
    pub to_ms: i64,
    /// What happened.
    pub reason: GapReason,
    /// About how many events lie in it, at 35 a second.
    pub estimated_events: u64,
    /// What became of it.
    pub status: GapStatus,
}

/// Why a stretch is not proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// A replay showed no event that was known already: the stream no longer holds them, or skipped some.
    NoWitness,
    /// The stream refused the position.
    PositionRefused,
}

/// What became of a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapStatus {
    /// Nobody has filled it.
    Open,
    /// A later replay covered it.
    Healed,
    /// An operator accepted the loss.
    Accepted,
}

/// Events a second that the public stream averages; only for estimates.
const EVENTS_PER_SECOND: u64 = 35;

impl Gap {
    /// Opens a gap between two instants of log time.
    #[must_use]
    pub fn open(source_topics: Vec<String>, from_ms: i64, to_ms: i64, reason: GapReason) -> Self {
        let seconds = u64::try_from(to_ms.saturating_sub(from_ms)).unwrap_or(0).div_ceil(1000);
        Self {
            id: format!("{from_ms}-{to_ms}"),
            source_topics,
            from_ms,
            to_ms,
            reason,
            estimated_events: seconds.saturating_mul(EVENTS_PER_SECOND),
            status: GapStatus::Open,
        }
    }
}
