//! The acting replica: recover, then read, judge, write, commit until something ends it. Here the rooms meet.

mod backfill;
mod session;

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kafka::{FencedWriter, GroupMember, Tail};
use service::{CancellationToken, Failure, Heartbeat};

use crate::arrival::Routes;
use crate::backoff::Backoff;
use crate::config::Config;
use crate::context::Context;
use crate::error::TermEnd;
use crate::output::{Output, Places};
use crate::position::{ResumeAt, SourceState};
use crate::recovery;
use crate::report::{self, Report};
use crate::source::{End, EndReason, Source};
use crate::step::Step;
use backfill::Backfilling;

/// Longest wait for an item: how soon a stop is noticed.
const ITEM_TIMEOUT: Duration = Duration::from_millis(50);

/// How often it is asked whether somebody else wrote into the gap ledger.
const LEDGER_EVERY: Duration = Duration::from_secs(2);

/// Runs one term. Blocks.
pub fn act(context: &Context, member: &Arc<GroupMember>, stop: &CancellationToken, heartbeat: &Heartbeat) -> TermEnd {
    let transactional_id = context.config.kafka.prefixed("wiki-ingest");
    // In this order: fence, then read. What the predecessor still sends can no longer be committed.
    let writer = match context.kafka.fenced_writer(&transactional_id) {
        Ok(writer) => writer,
        Err(error) => return error.into(),
    };
    heartbeat.beat();
    let ended = Worker::begin(context, member, writer, heartbeat).and_then(|mut worker| worker.run(stop));
    ended.err().unwrap_or(TermEnd::Stopped)
}

struct Worker<'a> {
    context: &'a Context,
    heartbeat: &'a Heartbeat,
    report: Report,
    stream: Stream,
    output: Output,
    step: Step,
    ledger: Ledger,
    backfill: Backfilling,
    backoff: Backoff,
    /// Whether the last connection ended without an event: then being connected is no health.
    is_fruitless: bool,
    /// For the contrast: the newest id as received.
    last_sse_id: Option<String>,
}

/// Where connections go, and where what they bring goes.
struct Stream {
    source: Source,
    routes: Routes,
}

/// Reads the gap ledger again where somebody else wrote into it: an operator accepts a gap.
struct Ledger {
    tail: Tail,
    topic: String,
    end: Option<i64>,
    read: Instant,
}

impl Ledger {
    /// True where there was something new.
    fn read_again(&mut self, step: &mut Step) -> bool {
        if self.read.elapsed() < LEDGER_EVERY {
            return false;
        }
        self.read = Instant::now();
        let read = self.tail.bounds(&self.topic, 0).and_then(|bounds| {
            if self.end == Some(bounds.end) {
                return Ok(false);
            }
            *step.gaps() = recovery::open_gaps(&self.tail, &self.topic)?;
            self.end = Some(bounds.end);
            Ok(true)
        });
        read.unwrap_or_else(|error| {
            tracing::debug!(error = error.sentence(), "the gap ledger could not be read: trying again later");
            false
        })
    }
}

/// Where the output goes that is no edit.
pub(crate) fn places(config: &Config) -> Places {
    let topics = config.kafka.topics();
    Places {
        dead_letters: topics.dead_letters_of(&topics.raw),
        ingest: topics.ingest,
        gaps: topics.gaps,
        streams: config.streams(),
    }
}

/// Why a connection is over.
enum Over {
    /// The service or the term ends.
    Stopped,
    /// Another way to ask is due.
    Reconnect,
    /// The stream ended it.
    Ended(End),
}

impl<'a> Worker<'a> {
    fn begin(
        context: &'a Context,
        member: &Arc<GroupMember>,
        writer: FencedWriter,
        heartbeat: &'a Heartbeat,
    ) -> Result<Self, TermEnd> {
        let config = &context.config;
        let tail = context.kafka.tail()?;
        let topics = config.kafka.topics();
        let recovered = recovery::recover(config, member, &tail, now_ms(), heartbeat)?;
        let metrics = context.metrics.as_ref();
        let mut step = recovered.step;
        let output = Output::new(writer, Arc::clone(member), places(config), Arc::clone(&context.metrics));
        let mut output = output.behind_emptied(recovered.emptied);
        if recovered.is_new_state {
            // Before connecting: a kill before the first event then loses nothing.
            step.prepare_commit();
            output.commit(step.state())?;
        }
        let (url, runtime) = (&config.stream.stream_url, context.runtime.clone());
        let failed = |sentence| TermEnd::Failed(Failure::Config(sentence));
        let reach = config.stream.reach().map_err(failed)?;
        let source = Source::new(url, &config.stream.contact, reach, config.limits(), &metrics.bytes, runtime)
            .map_err(failed)?;
        let positions: BTreeMap<String, i64> =
            step.sources().iter().map(|source| (source.name(), source.time())).collect();
        tracing::info!(?positions, known_ids = step.window().len(), "acting replica of ingest");
        let mut worker = Self {
            context,
            heartbeat,
            report: Report::new(context)?,
            stream: Stream {
                source,
                routes: Routes {
                    topic_of_type: config.topic_of_type(),
                    partitions: recovered.partitions,
                    most_bytes: context.most_bytes.as_ref().clone(),
                },
            },
            output,
            step,
            ledger: Ledger { tail, topic: topics.gaps, end: None, read: Instant::now() },
            backfill: Backfilling::default(),
            backoff: Backoff::new(
                Duration::from_millis(config.stream.backoff_min_ms),
                Duration::from_millis(config.stream.backoff_max_ms),
            ),
            is_fruitless: false,
            last_sse_id: recovered.last_sse_id,
        };
        worker.show();
        Ok(worker)
    }

    /// Connection after connection.
    fn run(&mut self, stop: &CancellationToken) -> Result<(), TermEnd> {
        loop {
            let at = self.resume_at();
            let over = self.connection(&at, stop)?;
            let ended = self.step.ended(!matches!(over, Over::Ended(_)));
            let unproven = u64::try_from(ended.forgotten).unwrap_or(0);
            self.context.metrics.dropped.with_label_values(&["unproven"]).inc_by(unproven);
            self.commit()?;
            self.context.metrics.stream.connected.set(0);
            match over {
                Over::Stopped => return Err(TermEnd::Stopped),
                Over::Reconnect => tracing::info!(
                    "the connection did not show the last handled event: asking the stream in another way"
                ),
                Over::Ended(end) => {
                    self.after_end(&end, ended.stuck);
                    if !self.wait(&end, stop) {
                        return Err(TermEnd::Stopped);
                    }
                }
            }
        }
    }

    /// Where the next connection begins.
    fn resume_at(&mut self) -> ResumeAt {
        let at = self.step.plan(now_ms());
        if self.context.config.stream.naive_resume
            && let Some(id) = self.last_sse_id.clone()
        {
            return ResumeAt::AsReceived(id);
        }
        at
    }

    fn commit(&mut self) -> Result<(), TermEnd> {
        if self.step.prepare_commit() {
            tracing::error!(known_ids = self.step.window().len(), "too many known ids: the oldest are forgotten early");
        }
        self.output.commit(self.step.state())?;
        // Only here, with nothing open: the ledger holds all that this replica knows.
        self.ledger.read_again(&mut self.step);
        self.show();
        Ok(())
    }

    fn show(&mut self) {
        let open = self.step.gaps().open().len();
        self.report.gaps(open);
        let metrics = &self.context.metrics;
        metrics.gaps_open.set(i64::try_from(open).unwrap_or(i64::MAX));
        let window = self.step.window();
        metrics.known.window_ids.set(i64::try_from(window.len()).unwrap_or(i64::MAX));
        let newest = self.step.sources().iter().map(SourceState::time).max();
        if let Some((oldest, newest)) = window.oldest_ms().zip(newest) {
            metrics.known.window_seconds.set(seconds(newest - oldest));
        }
        for source in self.step.sources() {
            metrics.stream.position.with_label_values(&[&source.name()]).set(seconds(source.time()));
        }
    }

    /// Counts the end, and says what is known of its cause.
    fn after_end(&mut self, end: &End, stuck: u32) {
        let metrics = &self.context.metrics.stream;
        metrics.disconnects.with_label_values(&[end.reason.as_str()]).inc();
        if let Some(outcome) = end.connect_outcome() {
            metrics.connects.with_label_values(&[outcome]).inc();
            self.context.readiness.failing(&end.sentence);
        }
        if let Some(refusal) = &end.refusal {
            let has_next = self.step.refused(refusal);
            tracing::error!(
                ?refusal,
                left_out = ?self.step.excluded(),
                has_next,
                "the stream refuses the position: edits may be missing until it is accepted"
            );
        }
        if stuck == 1 {
            tracing::warn!(
                margin_seconds = self.context.config.stream.resume_margin_seconds,
                "the connection ended before it showed anything new: asking by offset from here on"
            );
        }
        metrics.stuck.inc_by(u64::from(stuck > 0));
    }

    /// Waits before the next connection; false where the term should end.
    fn wait(&mut self, end: &End, stop: &CancellationToken) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "a random number needs no exact value")]
        let jitter = RandomState::new().hash_one(now_ms()) as f64 / u64::MAX as f64;
        let wait = self.backoff.next(jitter, end.retry_after);
        let seconds = wait.as_secs_f64();
        self.report.ended(if end.reason == EndReason::ServerClose { "" } else { &end.sentence });
        match end.reason {
            EndReason::ServerClose => tracing::info!("{}; connecting again in {seconds:.1} s", end.sentence),
            _ => tracing::warn!("{}; trying again in {seconds:.1} s", end.sentence),
        }
        let deadline = Instant::now() + wait;
        while !stop.is_cancelled() && Instant::now() < deadline {
            self.heartbeat.beat();
            self.report.passed();
            let left = deadline.saturating_duration_since(Instant::now()).min(report::EVERY);
            // A stop or the time: either is looked at above.
            let _ = self.context.runtime.block_on(async { tokio::time::timeout(left, stop.cancelled()).await });
        }
        !stop.is_cancelled()
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit a float well")]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

/// Unix milliseconds.
fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Rig, Stream, on_thread, wait_until};

    /// Runs a term until the raw topic holds so many edits; gives how it ended.
    async fn term(rig: Arc<Rig>, name: &str, edits: usize) -> TermEnd {
        let context = rig.replica(name);
        let stop = CancellationToken::new();
        let (parts, stopped, judge) = (context.clone(), stop.clone(), Arc::clone(&rig));
        let acting = on_thread(&context, move |heartbeat| {
            let member = rig.acting_member(&parts);
            act(&parts, &member, &stopped, heartbeat)
        });
        let watched = tokio::task::spawn_blocking(move || {
            // Also where it panics: the term would never end.
            let _stop = stop.drop_guard();
            wait_until("the raw topic holds the edits", || judge.raw_ids().len() >= edits);
        });
        let ended = acting.await;
        watched.await.unwrap();
        ended
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_term_continues_where_the_last_one_stopped_across_cuts_and_each_edit_is_there_once() {
        let stream = Stream::start(&["--rate", "max", "--edits", "3000", "--seed", "5", "--cut-after", "700"]).await;
        let url = stream.url();
        let rig = Arc::new(Rig::start(&["--stream-url", &url, "--start", "earliest"]).await);
        assert!(matches!(term(Arc::clone(&rig), "a", 500).await, TermEnd::Stopped));
        assert!(matches!(term(Arc::clone(&rig), "b", 3000).await, TermEnd::Stopped));
        let raw = tokio::task::spawn_blocking(move || rig.raw_ids()).await.unwrap();
        assert_eq!(raw, stream.made());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stop_is_noticed_while_the_stream_refuses_everybody() {
        let stream = Stream::start(&["--status", "503", "--status-times", "1000000", "--retry-after", "3600"]).await;
        let url = stream.url();
        let rig = Arc::new(Rig::start(&["--stream-url", &url]).await);
        let context = rig.replica("a");
        let stop = CancellationToken::new();
        let (parts, stopped) = (context.clone(), stop.clone());
        let acting = on_thread(&context, move |heartbeat| act(&parts, &rig.acting_member(&parts), &stopped, heartbeat));
        let metrics = Arc::clone(&context.metrics);
        let watched = tokio::task::spawn_blocking(move || {
            let _stop = stop.drop_guard();
            wait_until("a connection was refused", || {
                metrics.stream.connects.with_label_values(&["http_5xx"]).get() > 0
            });
            Instant::now()
        });
        assert!(matches!(acting.await, TermEnd::Stopped));
        let stopped_for = watched.await.unwrap().elapsed();
        assert!(stopped_for < Duration::from_secs(10), "{stopped_for:?}");
    }
}
