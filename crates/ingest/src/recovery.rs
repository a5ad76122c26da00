//! What the log says about where to go on. Read after the writer is fenced, so that nothing can change under it.

use std::collections::{BTreeMap, BTreeSet};

use kafka::{GroupMember, Tail, TopicPartition};
use rdkafka::message::{Message as _, OwnedMessage};
use schema::record::{CE_ID, HeaderSource as _, RawHeaders, SSE_ID};
use schema::sse_id;
use service::Failure;

use crate::config::{Config, Start};
use crate::error::TermEnd;
use crate::gaps::Gaps;
use crate::position::IngestState;
use crate::window::Window;

/// Margins that the window reaches behind the position: one for the resume, one for its second attempt, one for
/// events that stand behind a position in the log with an older time.
pub const WINDOW_MARGINS: i64 = 3;

/// Everything a term begins with.
#[derive(Debug)]
pub struct Recovered {
    /// Position and sequences.
    pub state: IngestState,
    /// Known ids.
    pub window: Window,
    /// Log time of the newest kept event.
    pub newest_known_ms: Option<i64>,
    /// The id of the newest raw record, as received.
    pub last_sse_id: Option<String>,
    /// Nothing before this is known; `None` where everything ever written still is.
    pub known_from_ms: Option<i64>,
    /// Partitions of each raw topic.
    pub partitions: BTreeMap<String, i32>,
    /// The gap ledger.
    pub gaps: Gaps,
    /// Nothing was ever committed: the start has to be, before connecting.
    pub is_first_start: bool,
}

/// Reads position, sequences and known ids. Blocks.
///
/// # Errors
/// [`TermEnd::Doubt`] where the cluster does not answer; [`TermEnd::Failed`] where a log once held records and
/// nothing tells where it ended.
pub fn recover(config: &Config, member: &GroupMember, tail: &Tail, now_ms: i64) -> Result<Recovered, TermEnd> {
    let topics = config.kafka.topics();
    let committed = committed_state(member, &topics.ingest)?;
    let mut names: BTreeSet<String> = config.raw_topics();
    names.extend(committed.iter().flat_map(|state| state.seq.keys().cloned()));
    let partitions = partition_counts(tail, &names, &config.raw_topics())?;
    let start_ms = match config.start {
        Start::Now => now_ms,
        Start::Earliest => 0,
        Start::At(ms) => ms,
    };
    let had_state = committed.is_some();
    let mut state = committed.unwrap_or_else(|| IngestState::first(start_ms, &partitions));
    let mut newest: Option<(i64, String)> = None;
    for (topic, count) in &partitions {
        let all: Vec<i32> = (0..*count).collect();
        let last = tail.last_records(topic, &all)?;
        for partition in all {
            match last.get(&partition) {
                Some(record) => {
                    let source = kafka::Headers(record);
                    let headers = RawHeaders::read(&source).map_err(|rejection| foreign(topic, &rejection))?;
                    state.raise_seq(topic, partition, headers.seq + 1);
                    state.seen = true;
                    if !headers.backfill
                        && let Some(time) = log_time(&headers.sse_id)
                    {
                        state.pass(time);
                        newest = newest.max(Some((time, headers.sse_id.into_owned())));
                    }
                }
                None if !had_state && !config.accept_lost_history && tail.bounds(topic, partition)?.end > 0 => {
                    return Err(lost(topic, partition));
                }
                // Offsets only rise: the new sequence is above whatever the old one reached.
                None if !had_state => state.raise_seq(topic, partition, tail.bounds(topic, partition)?.end),
                None => {}
            }
        }
    }
    let newest_known_ms = newest.as_ref().map(|(time, _)| *time);
    let reach_ms = newest_known_ms.unwrap_or(state.t).min(state.t) - WINDOW_MARGINS * config.margin_ms();
    let dead_letters = topics.dead_letters_of(&topics.raw);
    let (window, known_from_ms) = known_ids(tail, &partitions, &dead_letters, reach_ms)?;
    let mut gaps = Gaps::default();
    tail.scan(&topics.gaps, |record| gaps.learn(record.payload().unwrap_or_default()))?;
    Ok(Recovered {
        is_first_start: !had_state && newest.is_none(),
        state,
        window,
        newest_known_ms,
        last_sse_id: newest.map(|(_, id)| id),
        known_from_ms,
        partitions,
        gaps,
    })
}

fn committed_state(member: &GroupMember, ingest_topic: &str) -> Result<Option<IngestState>, TermEnd> {
    let at = TopicPartition { topic: ingest_topic.to_owned(), partition: 0 };
    let committed = member.committed(&[at])?;
    Ok(committed.into_iter().find_map(|(_, _, metadata)| IngestState::parse(&metadata)))
}

fn partition_counts(
    tail: &Tail,
    names: &BTreeSet<String>,
    needed: &BTreeSet<String>,
) -> Result<BTreeMap<String, i32>, TermEnd> {
    let mut partitions = BTreeMap::new();
    for name in names {
        // A route of the past whose topic is deleted has nothing to tell.
        match tail.partitions(name)? {
            Some(count) => drop(partitions.insert(name.clone(), count)),
            // A broker that has just started may not know it yet: look again, and write nothing meanwhile.
            None if needed.contains(name) => {
                let doing = format!("find topic {name}");
                return Err(TermEnd::Doubt(kafka::Error::TimedOut { doing, seconds: 0 }));
            }
            None => {}
        }
    }
    Ok(partitions)
}

/// The ids at the ends of the raw topics and of the dead letters, and how far back they are whole.
fn known_ids(
    tail: &Tail,
    partitions: &BTreeMap<String, i32>,
    dead_letters: &str,
    reach_ms: i64,
) -> Result<(Window, Option<i64>), TermEnd> {
    let mut window = Window::default();
    let mut known_from_ms: Option<i64> = None;
    let reaches_back = |records: &[OwnedMessage]| records.first().and_then(time_of).is_some_and(|time| time < reach_ms);
    let dead = (dead_letters.to_owned(), tail.partitions(dead_letters)?.unwrap_or(0));
    for (topic, count) in partitions.iter().map(|(topic, count)| (topic.clone(), *count)).chain([dead]) {
        let all: Vec<i32> = (0..count).collect();
        for (partition, records) in tail.back_to(&topic, &all, reaches_back)? {
            let oldest = records.first().and_then(time_of);
            let is_cut = tail.bounds(&topic, partition)?.start > 0;
            if is_cut
                && topic != dead_letters
                && let Some(oldest) = oldest.filter(|oldest| *oldest >= reach_ms)
            {
                known_from_ms = Some(known_from_ms.map_or(oldest, |from| from.max(oldest)));
            }
            for record in &records {
                let headers = kafka::Headers(record);
                let id = headers.header(CE_ID).and_then(|id| std::str::from_utf8(id).ok());
                if let (Some(id), Some(time)) = (id, time_of(record)) {
                    window.insert(id.to_owned(), time);
                }
            }
        }
    }
    Ok((window, known_from_ms))
}

fn time_of(record: &OwnedMessage) -> Option<i64> {
    let headers = kafka::Headers(record);
    headers.header(SSE_ID).and_then(|id| std::str::from_utf8(id).ok()).and_then(log_time)
}

/// The log time that an SSE id tells.
#[must_use]
pub fn log_time(sse_id: &str) -> Option<i64> {
    sse_id::log_time(&sse_id::parse(sse_id)?, None)
}

fn foreign(topic: &str, rejection: &schema::Rejection) -> TermEnd {
    TermEnd::Failed(Failure::Config(format!(
        "topic {topic} ends with a record that this service did not write ({}): give it a topic of its own with \
         WIKI_RAW_TOPIC or WIKI_TOPIC_PREFIX",
        rejection.detail
    )))
}

fn lost(topic: &str, partition: i32) -> TermEnd {
    TermEnd::Failed(Failure::Config(format!(
        "{topic} partition {partition} once held records, and neither a record nor a committed position tells where \
         its sequence ended: restore them, or start once with --accept-lost-history to begin its sequence anew"
    )))
}
