//! Consecutive events, written together with the position behind them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka::group::offsets_of;
use kafka::{Error, FencedWriter, GroupMember, Outgoing, TopicPartition};

use crate::metrics::IngestMetrics;
use crate::position::IngestState;

/// A transaction is committed at this many events,
const MAX_EVENTS: u32 = 500;
/// or this many bytes,
const MAX_BYTES: usize = 512 << 10;
/// or this long after its first record, whichever comes first.
const MAX_OPEN: Duration = Duration::from_millis(100);
/// The position is committed this often, records or not: hours without an edit must not cost a long replay.
const STATE_EVERY: Duration = Duration::from_secs(60);

/// The writer and what is open on it.
#[derive(Debug)]
pub struct Transaction {
    writer: FencedWriter,
    member: Arc<GroupMember>,
    position: TopicPartition,
    metrics: Arc<IngestMetrics>,
    opened: Option<Instant>,
    events: u32,
    bytes: usize,
    produced: BTreeMap<String, u64>,
    state_committed: Instant,
}

impl Transaction {
    /// Takes a fenced writer; `ingest_topic` is where the position is committed.
    #[must_use]
    pub fn new(
        writer: FencedWriter,
        member: Arc<GroupMember>,
        ingest_topic: &str,
        metrics: Arc<IngestMetrics>,
    ) -> Self {
        Self {
            writer,
            member,
            position: TopicPartition { topic: ingest_topic.to_owned(), partition: 0 },
            metrics,
            opened: None,
            events: 0,
            bytes: 0,
            produced: BTreeMap::new(),
            state_committed: Instant::now(),
        }
    }

    /// Writes a record, opening a transaction if none is open.
    ///
    /// # Errors
    /// [`Error::Doubt`]: end the term.
    pub fn send(&mut self, record: &Outgoing<'_>) -> Result<(), Error> {
        self.writer.begin()?;
        self.opened.get_or_insert_with(Instant::now);
        self.writer.send(record)?;
        self.bytes += record.value.len();
        *self.produced.entry(record.topic.to_owned()).or_default() += 1;
        Ok(())
    }

    /// Counts an event that was handled, whatever became of it.
    pub const fn handled(&mut self) {
        self.events += 1;
    }

    /// How long the next event may be waited for.
    #[must_use]
    pub fn patience(&self, now: Instant, idle: Duration) -> Duration {
        self.opened.map_or(idle, |opened| (opened + MAX_OPEN).saturating_duration_since(now).min(idle))
    }

    /// Whether a commit is due.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        let full = self.events >= MAX_EVENTS || self.bytes >= MAX_BYTES;
        match self.opened {
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
        // The topic is empty: the offset means nothing, the metadata is the point.
        let offsets = offsets_of(&[(self.position.clone(), 0, state.to_metadata())])?;
        let committed = self
            .member
            .identity()
            .and_then(|identity| self.writer.send_offsets(offsets, identity))
            .and_then(|()| self.writer.commit());
        if committed.is_err() {
            self.metrics.produce_errors.with_label_values(&["doubt"]).inc();
        }
        committed?;
        self.metrics.backpressure.inc_by(self.writer.take_waited().as_secs_f64());
        let now = Instant::now();
        for (topic, count) in std::mem::take(&mut self.produced) {
            self.metrics.produced.with_label_values(&[topic.as_str()]).inc_by(count);
            if let Some(opened) = self.opened {
                let seconds = now.duration_since(opened).as_secs_f64();
                self.metrics.produce_seconds.with_label_values(&[topic.as_str()]).observe(seconds);
            }
        }
        (self.opened, self.events, self.bytes) = (None, 0, 0);
        self.state_committed = now;
        Ok(())
    }
}
