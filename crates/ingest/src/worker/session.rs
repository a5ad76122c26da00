//! One connection, from its opening to its end.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kafka::group_metrics::seconds_since;
use schema::gap::{Gap, GapStatus};
use service::CancellationToken;

use super::{ITEM_TIMEOUT, Over, Worker, now_ms, seconds};
use crate::arrival::{Arrival, Reader, What};
use crate::error::TermEnd;
use crate::metrics::IngestMetrics;
use crate::output::Read;
use crate::position::ResumeAt;
use crate::source::{Connection, End, Item};
use crate::step::{Next, Outcome};

/// Older events are replays: their age is no delay of ours.
const LIVE_SECONDS: f64 = 3600.0;
/// Events of a connection that were all filtered before it is said.
const ALL_FILTERED: u64 = 100;
/// What health says while the stream is read.
const CONNECTED: &str = "connected to the stream";

/// What is known of the connection that is read.
struct Session {
    last_event: Instant,
    /// How far the server's clock is ahead of ours.
    ahead_ms: i64,
    is_fruitless: bool,
    filtered: Filtered,
}

/// Changes that were filtered, while nothing was kept.
#[derive(Default)]
struct Filtered {
    count: u64,
    types: BTreeSet<String>,
    is_over: bool,
}

impl Filtered {
    /// Takes what an event was; the types once so many were filtered and none was kept.
    fn note(&mut self, what: &What) -> Option<&BTreeSet<String>> {
        match what {
            What::Filtered(kind) if !self.is_over => {
                self.count += 1;
                if self.types.len() < 20 {
                    self.types.insert(kind.chars().take(60).collect());
                }
                self.is_over = self.count == ALL_FILTERED;
                self.is_over.then_some(&self.types)
            }
            What::Keep(_) => {
                self.is_over = true;
                None
            }
            _ => None,
        }
    }
}

impl Worker<'_> {
    /// Reads one connection to its end.
    pub(super) fn connection(&mut self, at: &ResumeAt, stop: &CancellationToken) -> Result<Over, TermEnd> {
        let reader = Reader::new(self.stream.routes.clone());
        let mut connection: Connection = self.stream.source.connect(at, reader);
        let mut session =
            Session { last_event: Instant::now(), ahead_ms: 0, is_fruitless: true, filtered: Filtered::default() };
        while !stop.is_cancelled() {
            self.heartbeat.beat();
            let now = Instant::now();
            let patience = if self.backfill.is_reading() { Duration::ZERO } else { ITEM_TIMEOUT };
            let item = connection.next(&self.context.runtime, self.output.patience(now, patience));
            self.report.passed();
            let idle = now.duration_since(session.last_event).as_secs_f64();
            self.context.metrics.stream.idle_seconds.set(idle);
            let next = match item {
                None => Next::Read,
                Some(Item::Ended(end)) => {
                    self.ended(&end, session.is_fruitless);
                    return Ok(Over::Ended(end));
                }
                Some(Item::Connected { server_ms }) => {
                    session.ahead_ms = server_ms.map_or(0, |server| (server - now_ms()).max(0));
                    self.connected(at)
                }
                Some(Item::Arrived(arrival)) => self.arrived(*arrival, &mut session)?,
            };
            if next == Next::Reconnect {
                return Ok(Over::Reconnect);
            }
            self.backfill_turn()?;
            if self.output.is_due(Instant::now()) {
                self.commit()?;
            } else if self.output.is_empty() && self.ledger.read_again(&mut self.step) {
                self.show();
            }
        }
        Ok(Over::Stopped)
    }

    fn connected(&mut self, at: &ResumeAt) -> Next {
        self.context.metrics.stream.connected.set(1);
        self.context.metrics.stream.connects.with_label_values(&["ok"]).inc();
        self.report.connected(now_ms());
        if !self.is_fruitless {
            self.context.readiness.ok(CONNECTED);
        }
        tracing::info!(?at, "connected to the stream");
        self.step.connected()
    }

    /// A connection that brought no event: the next one is healthy once it brings one.
    fn ended(&mut self, end: &End, is_fruitless: bool) {
        self.is_fruitless = is_fruitless;
        if is_fruitless {
            self.context.readiness.failing(&end.sentence);
        }
    }

    fn event_came(&mut self, session: &mut Session) {
        session.last_event = Instant::now();
        if std::mem::take(&mut session.is_fruitless) && std::mem::take(&mut self.is_fruitless) {
            self.context.readiness.ok(CONNECTED);
        }
    }

    /// Every event ends as exactly one of: produced, dead-lettered, filtered, canary, repeat, unproven.
    fn arrived(&mut self, arrival: Arrival, session: &mut Session) -> Result<Next, TermEnd> {
        self.event_came(session);
        self.context.service.metrics.progressed();
        self.observe(&arrival);
        if let Some(types) = session.filtered.note(&arrival.what) {
            tracing::warn!(
                kept = ?self.stream.routes.topic_of_type.keys().collect::<Vec<_>>(),
                seen = ?types,
                "the first {ALL_FILTERED} changes were all of types that are not kept: check --event-types"
            );
        }
        if self.context.config.stream.naive_resume {
            self.last_sse_id = Some(arrival.sse_id.clone());
        }
        let mut outcomes = Vec::with_capacity(1);
        let next = self.step.judge(arrival, now_ms() + session.ahead_ms, &mut outcomes);
        self.output.handled();
        for outcome in outcomes {
            self.carry_out(outcome, false)?;
        }
        if self.step.has_new() {
            self.backoff.reset();
        }
        Ok(next)
    }

    /// Writes and counts what became of an event of the stream, or of a `backfill`.
    pub(super) fn carry_out(&mut self, outcome: Outcome, backfill: bool) -> Result<(), TermEnd> {
        let metrics = &self.context.metrics;
        let dropped = |reason: &str| metrics.dropped.with_label_values(&[reason]).inc();
        match outcome {
            Outcome::Emit(arrival, seq) => {
                if let What::Keep(keep) = &arrival.what {
                    self.output.raw(&arrival, keep, seq, Read { at_ms: now_ms(), backfill })?;
                }
            }
            Outcome::Reject(arrival) => {
                if let What::Reject(rejection) = &arrival.what {
                    tracing::warn!(reason = rejection.reason.as_str(), "an event was set aside as a dead letter");
                    dropped("dead_lettered");
                    self.output.dead_letter(&arrival, rejection, now_ms())?;
                }
            }
            Outcome::Skip(What::Canary) => dropped("canary"),
            Outcome::Skip(_) => dropped("filtered"),
            Outcome::Repeat => {
                metrics.known.duplicates.inc();
                dropped("duplicate");
            }
            Outcome::Held => {}
            Outcome::Proven => metrics.stream.resumes.with_label_values(&["seen"]).inc(),
            Outcome::Unproven => metrics.stream.resumes.with_label_values(&["missing"]).inc(),
            Outcome::OddTime => metrics.stream.odd_times.inc(),
            Outcome::Jump => metrics.stream.offset_jumps.inc(),
            Outcome::Gap(gap) => self.gap(&gap)?,
        }
        Ok(())
    }

    fn gap(&mut self, gap: &Gap) -> Result<(), TermEnd> {
        let Gap { id, from_ms, to_ms, estimated_events, reason, .. } = gap;
        match gap.status {
            GapStatus::Open => tracing::error!(
                gap = id,
                from_ms,
                to_ms,
                estimated_events,
                reason = reason.as_str(),
                "events of the stream may be missing: a gap was added to the ledger; run wiki gaps list"
            ),
            GapStatus::Healed | GapStatus::Accepted => {
                tracing::info!(gap = id, "a gap is closed: a later replay showed what was missing");
            }
        }
        Ok(self.output.gap(gap)?)
    }

    /// Counts what came, live or again.
    pub(super) fn count(&self, arrival: &Arrival) {
        let kind = match &arrival.what {
            What::Canary => "canary",
            What::Keep(keep) => IngestMetrics::kind(&keep.change_type),
            What::Filtered(kind) => IngestMetrics::kind(kind),
            What::Reject(_) => "other",
        };
        self.context.metrics.received.with_label_values(&[kind]).inc();
    }

    fn observe(&self, arrival: &Arrival) {
        self.count(arrival);
        let metrics = &self.context.metrics;
        let Some(time_ms) = arrival.place.time_ms else { return };
        if arrival.what == What::Canary {
            metrics.stream.canary_time.with_label_values(&[&arrival.place.topic]).set(seconds(time_ms));
        }
        metrics.last_event.set(seconds(time_ms));
        let age = seconds_since(time_ms);
        if age < LIVE_SECONDS {
            metrics.source_delay.observe(age);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_without_a_wanted_type_gives_one_warning_with_the_types_that_came() {
        let mut filtered = Filtered::default();
        let warned: Vec<bool> =
            (0..300).map(|_| filtered.note(&What::Filtered("page-create".into())).is_some()).collect();
        assert_eq!(warned.iter().filter(|warned| **warned).count(), 1);
        assert!(warned[99] && filtered.types.contains("page-create"));
    }
}
