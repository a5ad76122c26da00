//! Where reading continues: what the log says. Read after the writer is fenced, so that nothing can change under it.

use std::collections::{BTreeMap, BTreeSet};

use kafka::{Accepted, GroupMember, OwnedRecord, Tail, TopicPartition};
use schema::event;
use schema::record::{CE_ID, HeaderSource as _, RawHeaders, SSE_ID, SeqBase};
use schema::sse_id;
use service::{Failure, Heartbeat};

use crate::config::{Config, Start};
use crate::error::TermEnd;
use crate::gaps::Gaps;
use crate::position::IngestState;
use crate::rebuild::{Seen, rebuild, upgrade};
use crate::step::{Rules, Step};
use crate::window::RawPartition;

/// Dead letters that must all be older than what is needed, before no older one is looked at.
const OLD_DEAD_LETTERS: usize = 8;

/// Everything a term begins with.
#[derive(Debug)]
pub struct Recovered {
    /// Position, sequences, known ids, open gaps.
    pub step: Step,
    /// The id of the newest raw record, as received.
    pub last_sse_id: Option<String>,
    /// Partitions of each raw topic.
    pub partitions: BTreeMap<String, i32>,
    /// Raw partitions whose log was emptied: their next record says so.
    pub emptied: BTreeMap<RawPartition, SeqBase>,
    /// The state is not what was committed: it has to be, before connecting.
    pub is_new_state: bool,
}

/// Reads position, sequences and known ids. Blocks.
///
/// # Errors
/// [`TermEnd::Doubt`] where the cluster does not answer; [`TermEnd::Failed`] where a log once held records and
/// nothing tells where it ended.
pub fn recover(
    config: &Config,
    member: &GroupMember,
    tail: &Tail,
    now_ms: i64,
    heartbeat: &Heartbeat,
) -> Result<Recovered, TermEnd> {
    let topics = config.kafka.topics();
    let committed = committed_state(member, tail, &topics.ingest)?;
    let mut names: BTreeSet<String> = config.raw_topics();
    names.extend(committed.iter().flat_map(|state| state.seq.keys().cloned()));
    let partitions = partition_counts(tail, &names, &config.raw_topics())?;
    let start_ms = match config.start {
        Start::Now => now_ms,
        Start::Earliest => 0,
        Start::At(ms) => ms,
    };
    let had_state = committed.is_some();
    let before = committed.clone();
    let mut state = committed.unwrap_or_else(|| IngestState::first(start_ms, &partitions));
    let lasts = last_records(config, tail, &partitions, had_state, &mut state)?;
    heartbeat.beat();
    let source_topics = sse_id::source_topics(&config.streams());
    let needs_upgrade = state.sources.is_empty();
    if needs_upgrade {
        upgrade(&mut state, &source_topics, &lasts.records, &config.rules());
    }
    for topic in &source_topics {
        // A stream that was added to the URL begins as a first start does.
        state.source_or_new(topic, 0, start_ms);
    }
    let raw = known_raw(tail, &state, &partitions, config, heartbeat)?;
    let dead = dead_letters(tail, &topics.dead_letters_of(&topics.raw), &state, config)?;
    let (window, known_from_ms) = rebuild(&state, raw.seen, &dead, &raw.cut, now_ms);
    let gaps = open_gaps(tail, &topics.gaps)?;
    let is_new_state = before.as_ref() != Some(&state);
    let step = Step::new(state, window, gaps, config.rules(), &known_from_ms);
    let last_sse_id = lasts.records.iter().max_by_key(|seen| seen.received_at_ms);
    let last_sse_id = last_sse_id.map(|seen| seen.sse_id.clone());
    Ok(Recovered { step, last_sse_id, partitions, emptied: lasts.emptied, is_new_state })
}

/// Reads the gap ledger. Blocks.
///
/// # Errors
/// As [`Tail::scan`].
pub fn open_gaps(tail: &Tail, topic: &str) -> Result<Gaps, kafka::Error> {
    let mut gaps = Gaps::default();
    tail.scan(topic, |record| gaps.learn(record.value()))?;
    Ok(gaps)
}

/// The state of the last commit, whole from one place: the metadata, or the record that it names.
fn committed_state(member: &GroupMember, tail: &Tail, ingest_topic: &str) -> Result<Option<IngestState>, TermEnd> {
    let at = TopicPartition { topic: ingest_topic.to_owned(), partition: 0 };
    let Some((_, _, metadata)) = member.committed(&[at])?.into_iter().next() else { return Ok(None) };
    if !IngestState::is_in_record(&metadata) {
        return Ok(IngestState::parse(&metadata));
    }
    let last = tail.last_records(ingest_topic, &[0])?;
    let value = last.get(&0).and_then(|record| std::str::from_utf8(record.value()).ok());
    value.and_then(IngestState::parse).map(Some).ok_or_else(|| {
        TermEnd::Failed(Failure::Config(format!(
            "{ingest_topic} ends without the position that its committed offset names: restore the topic, or delete the \
             offsets of wiki-ingest and start once with --accept-lost-history"
        )))
    })
}

fn partition_counts(
    tail: &Tail,
    names: &BTreeSet<String>,
    needed: &BTreeSet<String>,
) -> Result<BTreeMap<String, i32>, TermEnd> {
    let mut partitions = BTreeMap::new();
    for name in names {
        // The topic of a former route may have been deleted: it knows nothing.
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

/// The last record of each raw partition that ingest wrote.
#[derive(Default)]
struct Lasts {
    records: Vec<Seen>,
    /// Partitions whose log was emptied: their next record says so.
    emptied: BTreeMap<RawPartition, SeqBase>,
}

/// They raise the sequences.
fn last_records(
    config: &Config,
    tail: &Tail,
    partitions: &BTreeMap<String, i32>,
    had_state: bool,
    state: &mut IngestState,
) -> Result<Lasts, TermEnd> {
    let mut lasts = Lasts::default();
    let mut lost = Vec::new();
    for (topic, count) in partitions {
        let all: Vec<i32> = (0..*count).collect();
        // What others wrote there is stepped over.
        let last = tail.last_own_records(topic, &all, |record| seen(topic, record).is_ok())?;
        for partition in all {
            if let Some(seen) = last.get(&partition).and_then(|record| seen(topic, record).ok()) {
                state.raise_seq(topic, partition, seen.seq + 1);
                state.seen = true;
                lasts.records.push(seen);
                continue;
            }
            let end = tail.bounds(topic, partition)?.end;
            if end == 0 {
                continue;
            }
            let base = if had_state { SeqBase::Emptied } else { SeqBase::Unknown };
            lasts.emptied.insert((topic.clone(), partition), base);
            if had_state {
                continue;
            }
            // Offsets only rise: the new sequence is above whatever the old one reached.
            state.raise_seq(topic, partition, end);
            if !config.accept_lost_history.cover(topic, partition, end) {
                lost.push(Accepted::place(topic, partition, end));
            }
        }
    }
    if lost.is_empty() { Ok(lasts) } else { Err(TermEnd::Failed(history_lost(&lost))) }
}

/// The raw records whose ids are still needed, and the partitions whose log begins behind the first of them.
struct KnownRaw {
    seen: Vec<Seen>,
    cut: BTreeSet<(String, i32)>,
}

fn known_raw(
    tail: &Tail,
    state: &IngestState,
    partitions: &BTreeMap<String, i32>,
    config: &Config,
    heartbeat: &Heartbeat,
) -> Result<KnownRaw, TermEnd> {
    let (mut seen_all, mut cut) = (Vec::new(), BTreeSet::new());
    let reach_ms = reach(state, config);
    for (topic, count) in partitions {
        heartbeat.beat();
        let floor = |partition: i32| state.floor(topic, partition);
        let enough = |records: &[OwnedRecord]| {
            records.first().is_some_and(|first| match floor(first.partition()) {
                Some(floor) => seen(topic, first).is_ok_and(|seen| seen.seq <= floor),
                // No commit says from where on: by time, as older releases did.
                None => time_of(first).is_some_and(|time| time < reach_ms),
            })
        };
        let needed: Vec<i32> =
            (0..*count).filter(|partition| floor(*partition) != Some(state.next_seq(topic, *partition))).collect();
        for (partition, records) in tail.back_to(topic, &needed, enough)? {
            if !enough(&records) && tail.bounds(topic, partition)?.start > 0 {
                cut.insert((topic.clone(), partition));
            }
            let seen = records.iter().filter_map(|record| seen(topic, record).ok());
            seen_all.extend(seen.filter(|seen| floor(partition).is_none_or(|floor| seen.seq >= floor)));
        }
    }
    Ok(KnownRaw { seen: seen_all, cut })
}

fn dead_letters(
    tail: &Tail,
    topic: &str,
    state: &IngestState,
    config: &Config,
) -> Result<Vec<(String, String)>, TermEnd> {
    let reach_ms = reach(state, config);
    let is_old = |record: &OwnedRecord| time_of(record).is_some_and(|time| time < reach_ms);
    let enough = |records: &[OwnedRecord]| {
        records.len() >= OLD_DEAD_LETTERS && records.iter().take(OLD_DEAD_LETTERS).all(is_old)
    };
    let all: Vec<i32> = (0..tail.partitions(topic)?.unwrap_or(0)).collect();
    let mut found = Vec::new();
    for record in tail.back_to(topic, &all, enough)?.into_values().flatten() {
        let text = |name| record.header(name).and_then(|value| std::str::from_utf8(value).ok()).map(str::to_owned);
        if let (Some(id), Some(sse_id)) = (text(CE_ID), text(SSE_ID)) {
            found.push((id, sse_id));
        }
    }
    Ok(found)
}

/// Log time before which no id is needed.
fn reach(state: &IngestState, config: &Config) -> i64 {
    let margin_ms = config.margin_ms();
    state.sources.iter().map(|source| source.reach(margin_ms)).min().unwrap_or(state.t)
}

fn seen(topic: &str, record: &OwnedRecord) -> Result<Seen, schema::Rejection> {
    let headers = RawHeaders::read(record)?;
    let named = event::read(record.value()).ok();
    Ok(Seen {
        topic: topic.to_owned(),
        partition: record.partition(),
        seq: headers.seq,
        id: headers.id.into_owned(),
        sse_id: headers.sse_id.into_owned(),
        received_at_ms: headers.received_at_ms,
        source: named.map(|event| (event.source_topic, event.source_partition)),
        backfill: headers.backfill,
    })
}

/// The greatest time in a record's SSE id.
fn time_of(record: &OwnedRecord) -> Option<i64> {
    let id = record.header(SSE_ID).and_then(|id| std::str::from_utf8(id).ok())?;
    sse_id::log_time(&sse_id::parse(id)?, None)
}

fn history_lost(places: &[String]) -> Failure {
    let places = places.join(",");
    Failure::Config(format!(
        "these partitions once held records, and neither a record nor a committed position says where their sequences \
         ended: restore them, or continue at their logs' ends with --accept-lost-history {places} (or \
         WIKI_ACCEPT_LOST_HISTORY)"
    ))
}

impl Config {
    /// The settings that decide what becomes of an event.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules {
            margin_ms: self.margin_ms(),
            retention_ms: i64::from(self.stream.stream_retention_hours) * 3_600_000,
            most_ids: crate::window::MOST_IDS,
            types: self.topic_of_type().into_keys().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Context;
    use crate::testing::{Rig, on_thread};
    use kafka::Outgoing;
    use std::sync::Arc;

    const RAW: &str = "wikipedia-raw";

    fn recovered(
        rig: &Rig,
        context: &Context,
        member: &GroupMember,
        heartbeat: &Heartbeat,
    ) -> Result<Recovered, TermEnd> {
        recover(&rig.config, member, &context.kafka.tail().unwrap(), 1_000_000, heartbeat)
    }

    /// Commits records to partition 2 of the raw topic, each with these headers.
    fn write(context: &Context, headers: &[Vec<(&'static str, String)>]) {
        let mut writer = context.kafka.fenced_writer("somebody").unwrap();
        writer.begin().unwrap();
        for headers in headers {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, Some(value.as_bytes()))).collect();
            writer.send(&Outgoing { topic: RAW, partition: 2, key: b"k", value: b"{}", headers: &headers }).unwrap();
        }
        writer.commit().unwrap();
    }

    fn ours(seq: i64) -> Vec<(&'static str, String)> {
        let headers = RawHeaders {
            id: format!("id-{seq}").into(),
            seq,
            sse_id: r#"[{"topic":"eqiad.mediawiki.recentchange","partition":0,"timestamp":900001}]"#.into(),
            received_at_ms: 7,
            backfill: false,
            base: None,
        };
        headers.to_headers("d", "s", "edit", "2026-01-01T00:00:00Z")
    }

    /// Runs the body with the member that holds the partition.
    async fn with_rig(
        arguments: &[&str],
        body: impl FnOnce(Rig, Context, Arc<GroupMember>, &Heartbeat) + Send + 'static,
    ) {
        let rig = Rig::start(arguments).await;
        let context = rig.replica("a");
        let parts = context.clone();
        on_thread(&context, move |heartbeat| {
            let member = rig.acting_member(&parts);
            body(rig, parts, member, heartbeat);
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_first_start_begins_where_it_is_configured_to_and_commits_that_before_it_connects() {
        with_rig(&["--start", "1970-01-01T00:00:05Z"], |rig, context, member, heartbeat| {
            let recovered = recovered(&rig, &context, &member, heartbeat).unwrap();
            assert!(recovered.is_new_state);
            assert_eq!((recovered.step.state().start, recovered.step.state().next_seq(RAW, 2)), (5_000, 0));
            assert_eq!(recovered.partitions[RAW], 6);
            assert!(recovered.emptied.is_empty());
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn records_raise_the_sequence_and_what_others_wrote_is_stepped_over() {
        with_rig(&[], |rig, context, member, heartbeat| {
            write(&context, &[ours(0), ours(1), vec![("who", "somebody else".to_owned())]]);
            let recovered = recovered(&rig, &context, &member, heartbeat).unwrap();
            assert_eq!(recovered.step.state().next_seq(RAW, 2), 2);
            assert!(recovered.emptied.is_empty(), "the log holds records of ours");
            assert!(recovered.last_sse_id.unwrap().contains("eqiad"));
            for seq in 0..2 {
                assert!(recovered.step.knows(crate::window::IdKey::of(&format!("id-{seq}"))));
            }
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_log_that_ends_above_0_and_of_which_nothing_is_known_is_not_continued_without_a_persons_word() {
        with_rig(&[], |mut rig, context, member, heartbeat| {
            write(&context, &[vec![("who", "somebody else".to_owned())]]);
            let end = context.kafka.tail().unwrap().bounds(RAW, 2).unwrap().end;
            let place = Accepted::place(RAW, 2, end);
            let Err(TermEnd::Failed(Failure::Config(sentence))) = recovered(&rig, &context, &member, heartbeat) else {
                panic!("it has to stop");
            };
            assert!(sentence.contains(&format!("--accept-lost-history {place}")), "{sentence}");
            rig.config.accept_lost_history = format!("{RAW}/2@{}", end + 5).parse().unwrap();
            assert!(recovered(&rig, &context, &member, heartbeat).is_err(), "another place was accepted");
            rig.config.accept_lost_history = place.parse().unwrap();
            let recovered = recovered(&rig, &context, &member, heartbeat).unwrap();
            assert_eq!(recovered.step.state().next_seq(RAW, 2), end, "above whatever there was");
            assert_eq!(recovered.emptied, BTreeMap::from([((RAW.to_owned(), 2), SeqBase::Unknown)]));
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_topic_that_a_broker_does_not_know_yet_is_a_doubt_and_nothing_is_written() {
        with_rig(&[], |mut rig, context, member, heartbeat| {
            rig.config.raw.routes = vec!["log=not-there-yet".parse().unwrap()];
            let doubt = recovered(&rig, &context, &member, heartbeat).unwrap_err();
            assert!(matches!(doubt, TermEnd::Doubt(error) if error.sentence().contains("not-there-yet")));
        })
        .await;
    }
}
