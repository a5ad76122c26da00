//! What is written: raw records, dead letters and gaps, together with the position behind them, in one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka::dead_letter::{self, Origin, Quotation};
use kafka::group::offsets_of;
use kafka::{Error, FencedWriter, GroupMember, Outgoing, TopicPartition};
use schema::Rejection;
use schema::backfill::Backfill;
use schema::gap::Gap;
use schema::record::{CE_ID, Header, RECEIVED_AT, RawHeaders, SSE_ID, SeqBase};

use crate::arrival::{Arrival, Keep};
use crate::metrics::IngestMetrics;
use crate::position::IngestState;
use crate::window::RawPartition;

/// A transaction is committed at this many events,
const MAX_EVENTS: u32 = 20_000;
/// or this many bytes,
const MAX_BYTES: usize = 4 << 20;
/// or this long after its first record, whichever comes first.
const MAX_OPEN: Duration = Duration::from_millis(100);
/// The position is committed this often, records or not: hours without an edit must not cost a long replay.
const STATE_EVERY: Duration = Duration::from_secs(60);

/// Key of a state that is a record.
const STATE_KEY: &[u8] = b"state";

/// Where records go that are no edits.
#[derive(Clone, Debug)]
pub struct Places {
    /// The topic whose committed offset carries the position.
    pub ingest: String,
    /// Dead letters.
    pub dead_letters: String,
    /// The gap ledger.
    pub gaps: String,
    /// Names of the streams, for a dead letter's origin.
    pub streams: String,
}

/// How an event was read.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// After the fact: its record is marked.
    pub backfill: bool,
}

/// What is open.
#[derive(Debug, Default)]
struct Open {
    since: Option<Instant>,
    events: u32,
    bytes: usize,
    produced: BTreeMap<String, u64>,
}

/// The writer and what is open on it.
#[derive(Debug)]
pub struct Output {
    writer: FencedWriter,
    member: Arc<GroupMember>,
    places: Places,
    /// Raw partitions whose log was emptied, until their next record has said so.
    emptied: BTreeMap<RawPartition, SeqBase>,
    metrics: Arc<IngestMetrics>,
    open: Open,
    state_committed: Instant,
}

impl Output {
    /// Takes a fenced writer.
    #[must_use]
    pub fn new(writer: FencedWriter, member: Arc<GroupMember>, places: Places, metrics: Arc<IngestMetrics>) -> Self {
        let emptied = BTreeMap::new();
        Self { writer, member, places, emptied, metrics, open: Open::default(), state_committed: Instant::now() }
    }

    /// Names the raw partitions whose log was emptied: the next record of each says that its sequence continues behind it.
    #[must_use]
    pub fn behind_emptied(self, emptied: BTreeMap<RawPartition, SeqBase>) -> Self {
        Self { emptied, ..self }
    }

    /// Writes a record, opening a transaction if none is open.
    fn send(&mut self, record: &Outgoing<'_>) -> Result<(), Error> {
        self.writer.begin()?;
        self.open.since.get_or_insert_with(Instant::now);
        self.writer.send(record)?;
        self.open.bytes += record.value.len();
        *self.open.produced.entry(record.topic.to_owned()).or_default() += 1;
        Ok(())
    }

    /// Writes a raw record.
    ///
    /// # Errors
    /// [`Error::Doubt`]: end the term.
    pub fn raw(&mut self, arrival: &Arrival, keep: &Keep, seq: i64, read: Read) -> Result<(), Error> {
        let headers = RawHeaders {
            id: arrival.id.as_str().into(),
            seq,
            sse_id: arrival.sse_id.as_str().into(),
            received_at_ms: read.at_ms,
            backfill: read.backfill,
            base: if self.emptied.is_empty() {
                None
            } else {
                self.emptied.remove(&(keep.topic.clone(), keep.partition))
            },
        };
        let [domain, stream, dt] = &keep.meta;
        let headers = headers.to_headers(domain, stream, &keep.change_type, dt);
        self.send(&Outgoing {
            topic: &keep.topic,
            partition: keep.partition,
            key: keep.key.as_bytes(),
            value: &arrival.data,
            headers: &borrowed(&headers),
        })
    }

    /// Writes a dead letter.
    ///
    /// # Errors
    /// [`Error::Doubt`]: end the term.
    pub fn dead_letter(&mut self, arrival: &Arrival, rejection: &Rejection, now_ms: i64) -> Result<(), Error> {
        let Places { dead_letters, streams, .. } = self.places.clone();
        let origin = Origin { topic: &streams, partition: -1, offset: -1, service: "ingest", stage: "read" };
        let mut headers: Vec<Header> =
            vec![(CE_ID, arrival.id.clone()), (SSE_ID, arrival.sse_id.clone()), (RECEIVED_AT, now_ms.to_string())];
        headers.extend(dead_letter::headers(&origin, rejection));
        let (key, value) = (arrival.id.as_bytes(), arrival.data.as_slice());
        let cuts = dead_letter::cuts(key, value);
        let Quotation { key, value, headers } = dead_letter::quote(key, value, borrowed(&headers).into_iter(), &cuts);
        self.send(&Outgoing { topic: &dead_letters, partition: 0, key, value, headers: &headers })
    }

    /// Writes an entry of the gap ledger.
    ///
    /// # Errors
    /// [`Error::Doubt`]: end the term.
    pub fn gap(&mut self, gap: &Gap) -> Result<(), Error> {
        self.ledger(&gap.id, gap)
    }

    /// Writes how far a backfill is, into the same ledger.
    ///
    /// # Errors
    /// [`Error::Doubt`]: end the term.
    pub fn backfill(&mut self, backfill: &Backfill) -> Result<(), Error> {
        self.ledger(&backfill.backfill, backfill)
    }

    fn ledger(&mut self, key: &str, entry: &impl serde::Serialize) -> Result<(), Error> {
        // Strings and integers only: this cannot fail.
        let value = serde_json::to_vec(entry).unwrap_or_default();
        let topic = self.places.gaps.clone();
        self.send(&Outgoing { topic: &topic, partition: 0, key: key.as_bytes(), value: &value, headers: &[] })
    }

    /// Whether nothing is open.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.open.since.is_none()
    }

    /// Counts an event that was handled, whatever became of it.
    pub const fn handled(&mut self) {
        self.open.events += 1;
    }

    /// How long the next event may be waited for.
    #[must_use]
    pub fn patience(&self, now: Instant, idle: Duration) -> Duration {
        self.open.since.map_or(idle, |opened| (opened + MAX_OPEN).saturating_duration_since(now).min(idle))
    }

    /// Whether a commit is due.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        let full = self.open.events >= MAX_EVENTS || self.open.bytes >= MAX_BYTES;
        match self.open.since {
            Some(opened) => full || now >= opened + MAX_OPEN,
            None => now >= self.state_committed + STATE_EVERY,
        }
    }

    /// Commits what is open, and the state with it.
    ///
    /// # Errors
    /// [`Error::Doubt`]: it may be committed or not; end the term.
    pub fn commit(&mut self, state: &IngestState) -> Result<(), Error> {
        self.writer.begin()?;
        let topic = self.places.ingest.clone();
        let (metadata, record) = state.to_metadata();
        if let Some(text) = record {
            let value = text.as_bytes();
            self.writer.send(&Outgoing { topic: &topic, partition: 0, key: STATE_KEY, value, headers: &[] })?;
        }
        // Nobody reads the topic from an offset: the metadata is the point.
        let offsets = offsets_of(&[(TopicPartition { topic, partition: 0 }, 0, metadata)])?;
        let committed = self
            .member
            .identity()
            .and_then(|identity| self.writer.send_offsets(offsets, identity))
            .and_then(|()| self.writer.commit());
        if committed.is_err() {
            self.metrics.write.produce_errors.with_label_values(&["doubt"]).inc();
        }
        committed?;
        self.metrics.write.backpressure.inc_by(self.writer.take_waited().as_secs_f64());
        let now = Instant::now();
        let open = std::mem::take(&mut self.open);
        for (topic, count) in open.produced {
            self.metrics.write.produced.with_label_values(&[topic.as_str()]).inc_by(count);
            if let Some(since) = open.since {
                let seconds = now.duration_since(since).as_secs_f64();
                self.metrics.write.produce_seconds.with_label_values(&[topic.as_str()]).observe(seconds);
            }
        }
        self.state_committed = now;
        Ok(())
    }
}

/// Headers as the writer takes them.
fn borrowed(headers: &[Header]) -> Vec<(&str, Option<&[u8]>)> {
    headers.iter().map(|(name, value)| (*name, Some(value.as_bytes()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Context;
    use crate::testing::{Rig, on_thread};
    use crate::worker::places;
    use kafka::OwnedRecord;
    use schema::record::HeaderSource as _;

    const READ: Read = Read { at_ms: 5, backfill: false };

    /// Runs the body with the output of an acting replica.
    async fn with_output(body: impl FnOnce(Rig, Context, Output) + Send + 'static) {
        let rig = Rig::start(&[]).await;
        let context = rig.replica("a");
        let parts = context.clone();
        on_thread(&context, move |_| {
            let member = rig.acting_member(&parts);
            let writer = parts.kafka.fenced_writer("wiki-ingest").unwrap();
            let output = Output::new(writer, member, places(&parts.config), Arc::clone(&parts.metrics));
            body(rig, parts, output);
        })
        .await;
    }

    fn state() -> IngestState {
        let mut state = IngestState::first(7, &BTreeMap::from([("wikipedia-raw".to_owned(), 6)]));
        state.raise_seq("wikipedia-raw", 2, 1);
        state
    }

    fn keep() -> Keep {
        Keep {
            topic: "wikipedia-raw".into(),
            partition: 2,
            key: "w:t".into(),
            change_type: "edit".into(),
            meta: ["d", "s", "2026-01-01T00:00:00Z"].map(String::from),
        }
    }

    fn arrival(id: &str) -> Arrival {
        let mut reader = crate::arrival::Reader::new(crate::arrival::Routes::default());
        reader.read("[]".to_owned(), format!(r#"{{"meta":{{"id":"{id}"}},"type":"edit"}}"#).into_bytes())
    }

    fn header(record: &OwnedRecord, name: &str) -> Option<String> {
        record.header(name).and_then(|value| String::from_utf8(value.to_vec()).ok())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn records_and_the_state_are_committed_together() {
        with_output(|rig, parts, mut output| {
            let topics = parts.config.kafka.topics();
            let rejection = Rejection::new(schema::Reason::WrongShape, "why".to_owned());
            output.raw(&arrival("one"), &keep(), 0, READ).unwrap();
            output.dead_letter(&arrival("two"), &rejection, 6).unwrap();
            let dead_letters = topics.dead_letters_of(&topics.raw);
            assert!(!output.is_empty());
            assert!(rig.raw().values().all(Vec::is_empty), "nothing is seen before the commit");
            assert_eq!(rig.committed(&output.member), None);
            output.commit(&state()).unwrap();
            assert!(output.is_empty());
            assert_eq!(rig.raw()[&2], [(0, "one".to_owned())]);
            assert_eq!(rig.committed(&output.member), Some(state()));
            let letters = &rig.records(&dead_letters)[&0];
            assert_eq!((letters.len(), header(&letters[0], CE_ID)), (1, Some("two".to_owned())));
            assert_eq!(letters[0].value(), arrival("two").data);
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_fenced_output_commits_neither_records_nor_its_state() {
        with_output(|rig, parts, mut output| {
            output.raw(&arrival("one"), &keep(), 0, READ).unwrap();
            let _successor = parts.kafka.fenced_writer("wiki-ingest").unwrap();
            assert!(matches!(output.commit(&state()), Err(Error::Doubt { .. })));
            assert!(rig.raw().values().all(Vec::is_empty));
            assert_eq!(rig.committed(&output.member), None);
            assert_eq!(parts.metrics.write.produce_errors.with_label_values(&["doubt"]).get(), 1);
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_first_record_behind_an_emptied_log_says_so_and_the_next_does_not() {
        with_output(|rig, _, output| {
            let emptied = BTreeMap::from([(("wikipedia-raw".to_owned(), 2), SeqBase::Emptied)]);
            let mut output = output.behind_emptied(emptied);
            output.raw(&arrival("one"), &keep(), 40, READ).unwrap();
            output.raw(&arrival("two"), &keep(), 41, Read { at_ms: 5, backfill: true }).unwrap();
            output.commit(&state()).unwrap();
            let records = &rig.records("wikipedia-raw")[&2];
            let read: Vec<_> = records
                .iter()
                .map(|record| {
                    let headers = RawHeaders::read(record).unwrap();
                    (headers.seq, headers.base, headers.backfill)
                })
                .collect();
            assert_eq!(read, [(40, Some(SeqBase::Emptied), false), (41, None, true)]);
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_commit_is_due_by_events_by_time_and_without_records_after_a_minute() {
        with_output(|_rig, _, mut output| {
            let idle = Duration::from_secs(9);
            let now = Instant::now();
            assert!(!output.is_due(now) && output.is_due(now + STATE_EVERY));
            assert_eq!(output.patience(now, idle), idle);
            output.raw(&arrival("one"), &keep(), 0, READ).unwrap();
            let opened = Instant::now();
            assert!(!output.is_due(now) && output.is_due(opened + MAX_OPEN));
            assert!(output.patience(opened, idle) <= MAX_OPEN);
            (0..MAX_EVENTS).for_each(|_| output.handled());
            assert!(output.is_due(now), "it is full");
        })
        .await;
    }
}
