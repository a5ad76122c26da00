//! An entry of the gap ledger: a stretch of a source topic that could not be proven whole.

use serde::{Deserialize, Serialize};

/// One gap; the record's key is its `id`, so that a compacted topic keeps its latest state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Stable over its life, also where it becomes smaller: the source topic and the times it was declared with.
    pub id: String,
    /// The source topic; entries of older releases name every topic of the stream.
    pub source_topics: Vec<String>,
    /// Log time of the last event before the gap, Unix milliseconds. For people: `after` decides.
    pub from_ms: i64,
    /// Log time of the first event behind the gap, at least `from_ms` + 1.
    pub to_ms: i64,
    /// What happened.
    pub reason: GapReason,
    /// How many events lie in it: counted by offsets where both are known, else estimated at 35 a second.
    pub estimated_events: u64,
    /// What became of it.
    pub status: GapStatus,
    /// The last event that was handled before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Edge>,
    /// The first event that was read behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Edge>,
}

/// The event at one side of a gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// The event's id.
    pub id: String,
    /// Its offset in the source topic, of the cluster that served it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// Its log time, Unix milliseconds.
    pub time_ms: i64,
}

impl Edge {
    /// An instant at which no event is known.
    #[must_use]
    pub const fn at(time_ms: i64) -> Self {
        Self { id: String::new(), offset: None, time_ms }
    }

    /// Whether an event at this offset stands right behind it: nothing can lie between.
    #[must_use]
    pub fn is_followed_by(&self, offset: Option<i64>) -> bool {
        self.offset.and_then(|own| own.checked_add(1)).is_some_and(|next| offset == Some(next))
    }
}

/// Why a stretch is not proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// A replay did not show the last event that was handled: the stream no longer holds it.
    NoWitness,
    /// The stream refused the position, so that reading went on at its end.
    PositionRefused,
    /// The stream skipped offsets, twice at the same place.
    OffsetJump,
    /// A first start asked for more than the stream holds.
    BeyondRetention,
}

impl GapReason {
    /// The reason in a few words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoWitness => "no_witness",
            Self::PositionRefused => "position_refused",
            Self::OffsetJump => "offset_jump",
            Self::BeyondRetention => "beyond_retention",
        }
    }
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
    /// Opens a gap of a source topic between two events.
    #[must_use]
    pub fn between(source_topic: &str, after: Edge, before: Edge, reason: GapReason) -> Self {
        let (from_ms, to_ms) = (after.time_ms, before.time_ms.max(after.time_ms.saturating_add(1)));
        let counted = after
            .offset
            .zip(before.offset)
            .and_then(|(after, before)| u64::try_from(before.checked_sub(after)?.checked_sub(1)?).ok());
        let seconds = u64::try_from(to_ms.saturating_sub(from_ms)).unwrap_or(0).div_ceil(1000);
        Self {
            id: format!("{source_topic}:{from_ms}-{to_ms}"),
            source_topics: vec![source_topic.to_owned()],
            from_ms,
            to_ms,
            reason,
            estimated_events: counted.unwrap_or_else(|| seconds.saturating_mul(EVENTS_PER_SECOND)),
            status: GapStatus::Open,
            after: Some(after),
            before: Some(before),
        }
    }

    /// Whether an event of this source topic lies between its sides: by offset where both are known, else by log time.
    #[must_use]
    pub fn holds(&self, source_topic: &str, offset: i64, time_ms: i64) -> bool {
        let side = |edge: Option<&Edge>| edge.and_then(|edge| edge.offset);
        let is_between = match (side(self.after.as_ref()), side(self.before.as_ref())) {
            (Some(after), Some(before)) => after < offset && offset < before,
            _ => self.from_ms < time_ms && time_ms < self.to_ms,
        };
        self.is_of(source_topic) && is_between
    }

    /// Whether it is a gap of this source topic.
    #[must_use]
    pub fn is_of(&self, source_topic: &str) -> bool {
        self.source_topics.iter().any(|topic| topic == source_topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(offset: Option<i64>, time_ms: i64) -> Edge {
        Edge { id: "e".to_owned(), offset, time_ms }
    }

    #[test]
    fn a_gap_names_its_topic_and_ends_after_it_begins() {
        let gap = Gap::between("eqiad.s", edge(Some(4), 500), edge(Some(9), 400), GapReason::NoWitness);
        assert_eq!((gap.id.as_str(), gap.from_ms, gap.to_ms, gap.estimated_events), ("eqiad.s:500-501", 500, 501, 4));
        assert!(gap.is_of("eqiad.s") && !gap.is_of("codfw.s"));
        let gap = Gap::between("eqiad.s", edge(None, 0), edge(Some(9), 2000), GapReason::NoWitness);
        assert_eq!(gap.estimated_events, 70);
    }

    #[test]
    fn only_the_next_offset_follows() {
        let followed = |own, next| edge(own, 0).is_followed_by(next);
        assert!(followed(Some(4), Some(5)));
        assert!(!followed(Some(4), Some(6)) && !followed(Some(4), None) && !followed(None, Some(5)));
    }

    #[test]
    fn what_lies_between_its_sides_is_held_by_a_gap() {
        let gap = Gap::between("eqiad.s", edge(Some(4), 500), edge(Some(9), 900), GapReason::NoWitness);
        let held: Vec<i64> = (3..11).filter(|offset| gap.holds("eqiad.s", *offset, 0)).collect();
        assert_eq!(held, [5, 6, 7, 8]);
        assert!(!gap.holds("codfw.s", 5, 600));
        let gap = Gap::between("eqiad.s", edge(None, 500), edge(Some(9), 900), GapReason::NoWitness);
        assert!(gap.holds("eqiad.s", 0, 501) && !gap.holds("eqiad.s", 0, 500) && !gap.holds("eqiad.s", 0, 900));
    }

    #[test]
    fn entries_of_older_releases_are_read() {
        let old = r#"{"id":"1-2","source_topics":["a","b"],"from_ms":1,"to_ms":2,"reason":"no_witness","estimated_events":35,"status":"open"}"#;
        let gap: Gap = serde_json::from_str(old).unwrap();
        assert_eq!((gap.after, gap.status), (None, GapStatus::Open));
    }
}
