//! What this sink says of itself, to whoever watches.

use std::time::{Duration, Instant};

use kafka::{Membership, Reporter};
use schema::control::{Moment, OwnedPartition, SinkStatus, Word};
use uuid::Uuid;

use crate::Config;

/// A sink that says nothing for longer is taken for silent.
const EVERY: Duration = Duration::from_secs(1);
/// While it stores, it says so this often at most: edits appear where they are watched.
const STORING_EVERY: Duration = Duration::from_millis(250);
/// How long the last word may take.
const FAREWELL_LIMIT: Duration = Duration::from_millis(500);

/// The state that a word tells of.
#[derive(Debug)]
pub struct State {
    /// Its place in the consumer group.
    pub membership: Membership,
    /// What it owns.
    pub owned: Vec<OwnedPartition>,
    /// Edits that wait for their write.
    pub buffered: usize,
    /// What keeps it from storing.
    pub trouble: Option<String>,
    /// Whether it stores slowly on purpose.
    pub is_slowed: bool,
}

/// Tells of one run of a sink.
#[derive(Debug)]
pub struct Report {
    reporter: Reporter,
    replica: String,
    protocol: &'static str,
    buffer_limit: u64,
    run: String,
    number: u64,
    started_at_ms: i64,
    stored: u64,
    told: Instant,
    told_stored: u64,
}

impl Report {
    /// A run that begins now.
    #[must_use]
    pub fn new(reporter: Reporter, config: &Config, now_ms: i64) -> Self {
        Self {
            reporter,
            replica: config.sink_name.clone(),
            protocol: config.rebalance.as_str(),
            buffer_limit: config.batch_rows.into(),
            run: Uuid::new_v4().to_string(),
            number: 0,
            started_at_ms: now_ms,
            stored: 0,
            told: Instant::now(),
            told_stored: 0,
        }
    }

    /// Edits became durable.
    pub const fn stored(&mut self, edits: u64) {
        self.stored += edits;
    }

    /// Whether it is time for a word.
    #[must_use]
    pub fn is_due(&self) -> bool {
        let since = self.told.elapsed();
        since >= EVERY || (self.stored != self.told_stored && since >= STORING_EVERY)
    }

    /// Says it.
    pub fn tell(&mut self, moment: Moment, moving: Vec<i32>, state: State) {
        let State { membership, owned, buffered, trouble, is_slowed } = state;
        let status = SinkStatus {
            replica: self.replica.clone(),
            run: self.run.clone(),
            number: self.number,
            started_at_ms: self.started_at_ms,
            moment,
            member: membership.member,
            generation: membership.generation,
            protocol: self.protocol.to_owned(),
            owned,
            moving,
            stored: self.stored,
            buffered: buffered as u64,
            buffer_limit: self.buffer_limit,
            trouble: trouble.unwrap_or_default(),
            is_slowed,
        };
        self.number += 1;
        (self.told, self.told_stored) = (Instant::now(), self.stored);
        self.reporter.tell(&self.replica, &Word::Sink(status).to_json());
        if moment == Moment::Leaving {
            self.reporter.finish(FAREWELL_LIMIT);
        }
    }
}
