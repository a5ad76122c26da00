//! The ids of all that was published of a piece, read back from the topics. Blocks.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use kafka::{Kafka, Tail};
use schema::record::{CE_ID, HeaderSource as _, SSE_ID};
use schema::sse_id;

use crate::window::IdKey;

/// How far a broker's clock may be behind the stream's.
const CLOCK_SLACK_MS: i64 = 300_000;
/// Ids that are held at most; about 40 bytes each.
const MOST_IDS: usize = 250_000;

/// What to read.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Log time of the first events, Unix milliseconds.
    pub from_ms: i64,
    /// Log time behind the last events, Unix milliseconds.
    pub to_ms: i64,
    /// Raw topics that were ever written.
    pub raw: BTreeSet<String>,
    /// The dead letters.
    pub dead_letters: String,
}

/// What was found.
#[derive(Debug)]
pub enum Known {
    /// All ids.
    Whole(HashSet<IdKey>),
    /// More than are held: ask for less.
    TooMany,
    /// Records of the piece are gone; the sentence says where.
    NotWhole(String),
}

/// Reads the ids. A record is written after its event was made: older ones need not be looked at.
///
/// # Errors
/// [`kafka::Error`] where the cluster does not answer.
pub fn read(kafka: &Kafka, wanted: &Wanted, mut beat: impl FnMut()) -> Result<Known, kafka::Error> {
    let tail = kafka.tail()?;
    let mut ids = HashSet::new();
    let since_ms = (wanted.from_ms - CLOCK_SLACK_MS).max(0);
    for topic in wanted.raw.iter().chain([&wanted.dead_letters]) {
        let Some(starts) = starts(&tail, topic, since_ms)? else { continue };
        // Dead letters are few: a topic of them that retention has emptied is no sign of loss.
        if !starts.is_whole && *topic != wanted.dead_letters {
            return Ok(Known::NotWhole(format!("{topic} no longer holds all that was published of it")));
        }
        tail.scan_from(topic, &starts.offsets, |record| {
            beat();
            let text = |name| record.header(name).and_then(|value| std::str::from_utf8(value).ok());
            let (Some(id), Some(position)) = (text(CE_ID), text(SSE_ID)) else { return };
            if ids.len() <= MOST_IDS && may_be_of(position, wanted) {
                ids.insert(IdKey::of(id));
            }
        })?;
        if ids.len() > MOST_IDS {
            return Ok(Known::TooMany);
        }
    }
    Ok(Known::Whole(ids))
}

/// Where to begin in each partition.
struct Starts {
    offsets: BTreeMap<i32, i64>,
    /// All that was written since is still there.
    is_whole: bool,
}

/// `None` where there is no such topic.
fn starts(tail: &Tail, topic: &str, since_ms: i64) -> Result<Option<Starts>, kafka::Error> {
    let Some(partitions) = tail.partitions(topic)? else { return Ok(None) };
    let mut starts = Starts { offsets: BTreeMap::new(), is_whole: true };
    for (partition, offset) in tail.offsets_since(topic, partitions, since_ms)? {
        let bounds = tail.bounds(topic, partition)?;
        let start = offset.unwrap_or(bounds.end);
        starts.is_whole &= bounds.start == 0 || start > bounds.start;
        starts.offsets.insert(partition, start);
    }
    Ok(Some(starts))
}

/// Whether the event of a record may lie in the piece: its own entry is one of these.
fn may_be_of(position: &str, wanted: &Wanted) -> bool {
    let entries = sse_id::parse(position).unwrap_or_default();
    let mut times = entries.iter().filter_map(|entry| entry.timestamp).map(|time| time - 1);
    // Without a time it may be anywhere.
    entries.is_empty() || times.any(|time| (wanted.from_ms..wanted.to_ms).contains(&time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_may_be_of_a_piece_by_any_entry_of_its_id() {
        let wanted = Wanted { from_ms: 100, to_ms: 200, raw: BTreeSet::new(), dead_letters: String::new() };
        let position = |a, b| sse_id::to_header(&[sse_id::by_time("a.s", 0, a), sse_id::by_time("b.s", 0, b)]);
        assert!(may_be_of(&position(150, 900), &wanted) && may_be_of(&position(5, 101), &wanted));
        assert!(!may_be_of(&position(100, 201), &wanted));
        assert!(may_be_of("", &wanted), "without a position it may be anywhere");
    }
}
