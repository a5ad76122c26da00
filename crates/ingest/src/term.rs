//! The acting replica: recover, then read, write, commit until something ends it.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kafka::dead_letter::{self, Origin};
use kafka::group_metrics::seconds_since;
use kafka::{FencedWriter, GroupMember, Outgoing};
use schema::event::{self, Event, Kind};
use schema::gap::{Gap, GapReason};
use schema::record::{CE_ID, Header, RECEIVED_AT, RawHeaders, SSE_ID, partition_of};
use schema::{Reason, Rejection, Topics};
use service::{CancellationToken, Failure};

use crate::backoff::Backoff;
use crate::error::TermEnd;
use crate::gaps::Gaps;
use crate::leader::Context;
use crate::metrics::IngestMetrics;
use crate::position::{IngestState, ResumeAt};
use crate::recovery::{self, WINDOW_MARGINS, log_time};
use crate::report::{self, Report};
use crate::source::gate::Quoted;
use crate::source::{End, EndReason, Item, Source};
use crate::transaction::Transaction;
use crate::window::Window;
use crate::witness::{Reach, Verdict, Witness};

/// Longest wait for an item: how soon a stop is noticed.
const TURN: Duration = Duration::from_millis(50);
/// Older events are replays: their age is no delay of ours.
const LIVE_SECONDS: f64 = 3600.0;

/// Runs one term. Blocks.
pub fn act(context: &Context, member: &Arc<GroupMember>, stop: &CancellationToken) -> TermEnd {
    let transactional_id = context.config.kafka.prefixed("wiki-ingest");
    // In this order: fence, then read. What the predecessor still sends can no longer be committed.
    let writer = match context.kafka.fenced_writer(&transactional_id) {
        Ok(writer) => writer,
        Err(error) => return error.into(),
    };
    let ended = Term::begin(context, member, writer).and_then(|mut term| term.run(stop));
    ended.err().unwrap_or(TermEnd::Stopped)
}

struct Term<'a> {
    context: &'a Context,
    metrics: &'a IngestMetrics,
    report: Report,
    topics: Topics,
    topic_of_type: BTreeMap<String, String>,
    source: Source,
    transaction: Transaction,
    state: IngestState,
    window: Window,
    partitions: BTreeMap<String, i32>,
    gaps: Gaps,
    newest_known_ms: Option<i64>,
    known_from_ms: Option<i64>,
    last_sse_id: Option<String>,
    backoff: Backoff,
    /// Which attempt at proving the resume this is.
    attempt: u32,
    /// The server refused the position: how far to fall back.
    refused: u32,
    witness: Witness,
    replay_from_ms: i64,
    offsets: BTreeMap<String, i64>,
}

/// What an item asks for.
enum Flow {
    Continue,
    /// The connection is over.
    Ended(End),
    /// The resume is not proven: connect again, further back.
    FurtherBack,
}

impl<'a> Term<'a> {
    fn begin(context: &'a Context, member: &Arc<GroupMember>, writer: FencedWriter) -> Result<Self, TermEnd> {
        let config = &context.config;
        let tail = context.kafka.tail()?;
        let recovered = recovery::recover(config, member, &tail, now_ms())?;
        let topics = config.kafka.topics();
        let metrics = context.metrics.as_ref();
        let mut transaction =
            Transaction::new(writer, Arc::clone(member), &topics.ingest, Arc::clone(&context.metrics));
        if recovered.is_first_start {
            // Before connecting: a kill before the first event then loses nothing.
            transaction.commit(&recovered.state)?;
        }
        let source = Source::new(config, &metrics.bytes, context.runtime.clone())
            .map_err(|sentence| TermEnd::Failed(Failure::Config(sentence)))?;
        metrics.gaps_open.set(i64::try_from(recovered.gaps.len()).unwrap_or(i64::MAX));
        tracing::info!(
            position_ms = recovered.state.t,
            known_ids = recovered.window.len(),
            first_start = recovered.is_first_start,
            "acting replica of ingest"
        );
        Ok(Self {
            context,
            metrics,
            report: Report::new(context)?,
            topics,
            topic_of_type: config.topic_of_type(),
            source,
            transaction,
            state: recovered.state,
            window: recovered.window,
            partitions: recovered.partitions,
            gaps: recovered.gaps,
            newest_known_ms: recovered.newest_known_ms,
            known_from_ms: recovered.known_from_ms,
            last_sse_id: recovered.last_sse_id,
            backoff: Backoff::new(
                Duration::from_millis(config.backoff_min_ms),
                Duration::from_millis(config.backoff_max_ms),
            ),
            attempt: 0,
            refused: 0,
            witness: Witness::Needed,
            replay_from_ms: 0,
            offsets: BTreeMap::new(),
        })
    }

    /// Connection after connection.
    fn run(&mut self, stop: &CancellationToken) -> Result<(), TermEnd> {
        loop {
            let at = self.resume_at();
            let flow = self.connection(&at, stop)?;
            self.transaction.commit(&self.state)?;
            self.metrics.stream.connected.set(0);
            match flow {
                Flow::Continue => return Err(TermEnd::Stopped),
                Flow::FurtherBack => {
                    tracing::info!("the replay showed no known event first; connecting again, further back");
                    self.attempt += 1;
                }
                Flow::Ended(end) => {
                    self.after_end(&end);
                    if !self.wait(&end, stop) {
                        return Err(TermEnd::Stopped);
                    }
                }
            }
        }
    }

    fn reach(&self) -> Reach {
        Reach {
            t_ms: self.state.t,
            margin_ms: self.context.config.margin_ms(),
            newest_known_ms: self.newest_known_ms,
            known_from_ms: self.known_from_ms,
        }
    }

    /// Where the next connection begins, and what it has to prove.
    fn resume_at(&mut self) -> ResumeAt {
        self.offsets.clear();
        let config = &self.context.config;
        if config.naive_resume
            && let Some(id) = self.last_sse_id.clone()
        {
            self.witness = Witness::Seen;
            return ResumeAt::AsReceived(id);
        }
        if !self.state.seen {
            // Nothing that is kept was ever seen: nothing can be known, and nothing before the start is wanted.
            self.witness = Witness::Seen;
            self.replay_from_ms = self.state.start.max(self.state.t - config.margin_ms());
            self.metrics.stream.resumes.with_label_values(&["first_start"]).inc();
            return ResumeAt::LogTime(self.replay_from_ms);
        }
        self.witness = Witness::Needed;
        let position = self.reach().position(self.attempt).unwrap_or(self.state.t - config.margin_ms());
        self.replay_from_ms = position;
        #[expect(clippy::cast_precision_loss, reason = "a span of milliseconds fits a float well")]
        self.metrics.stream.resume_gap.observe((self.state.t - position) as f64 / 1000.0);
        match self.refused {
            0 => ResumeAt::LogTime(position),
            1 => ResumeAt::Since(position),
            _ => ResumeAt::Latest,
        }
    }

    /// Reads one connection to its end.
    fn connection(&mut self, at: &ResumeAt, stop: &CancellationToken) -> Result<Flow, TermEnd> {
        let mut connection = self.source.connect(at);
        let mut last_event = Instant::now();
        while !stop.is_cancelled() {
            let now = Instant::now();
            let item = connection.next(&self.context.runtime, self.transaction.patience(now, TURN));
            if item.as_ref().is_some_and(|item| matches!(item, Item::Event { .. } | Item::Quoted { .. })) {
                last_event = now;
                self.backoff.reset();
                self.refused = 0;
                self.context.service.metrics.progressed();
            }
            self.report.passed();
            self.metrics.stream.idle_seconds.set(now.duration_since(last_event).as_secs_f64());
            match item.map_or(Ok(Flow::Continue), |item| self.item(item, at))? {
                Flow::Continue => {}
                flow @ (Flow::Ended(_) | Flow::FurtherBack) => return Ok(flow),
            }
            if self.transaction.is_due(Instant::now()) {
                self.commit()?;
            }
        }
        Ok(Flow::Continue)
    }

    fn commit(&mut self) -> Result<(), TermEnd> {
        if self.witness == Witness::Seen {
            for gap in self.gaps.heal(self.replay_from_ms, self.state.t) {
                tracing::info!(gap = gap.id, "a gap is healed: a later replay covered it");
                self.write_gap(&gap)?;
            }
        }
        self.transaction.commit(&self.state)?;
        let newest = self.newest_known_ms.unwrap_or(self.state.t).min(self.state.t);
        self.window.forget_before(newest - WINDOW_MARGINS * self.context.config.margin_ms());
        self.metrics.window_ids.set(i64::try_from(self.window.len()).unwrap_or(i64::MAX));
        if let Some(oldest) = self.window.oldest_ms() {
            #[expect(clippy::cast_precision_loss, reason = "a span of milliseconds fits a float well")]
            self.metrics.window_seconds.set((self.state.t - oldest) as f64 / 1000.0);
        }
        if self.window.is_alarming() {
            tracing::error!(known_ids = self.window.len(), "more known ids than there should ever be");
        }
        Ok(())
    }

    fn item(&mut self, item: Item, at: &ResumeAt) -> Result<Flow, TermEnd> {
        match item {
            Item::Connected => {
                self.metrics.stream.connected.set(1);
                self.report.connected(now_ms());
                self.metrics.stream.connects.with_label_values(&["ok"]).inc();
                self.context.readiness.ok("connected to the stream");
                tracing::info!(?at, "connected to the stream");
                if *at == ResumeAt::Latest {
                    self.declare_gap(now_ms(), GapReason::PositionRefused)?;
                    self.witness = Witness::Waived;
                }
                Ok(Flow::Continue)
            }
            Item::Event { sse_id, data } => self.event(&sse_id, &data),
            Item::Quoted { sse_id, quoted } => self.quoted(&sse_id, &quoted),
            Item::Ended(end) => Ok(Flow::Ended(end)),
        }
    }

    /// Every event ends as exactly one of: produced, dead-lettered, filtered, canary, repeat.
    fn event(&mut self, sse_id: &str, data: &[u8]) -> Result<Flow, TermEnd> {
        let time = log_time(sse_id).unwrap_or(self.state.t);
        let event = match event::read(data) {
            Ok(event) => event,
            Err(rejection) => {
                self.metrics.received.with_label_values(&["other"]).inc();
                return self.set_aside(event::content_id(data), sse_id, data, &rejection, time);
            }
        };
        self.observe(&event, time);
        let (change_type, key) = match &event.kind {
            Kind::Canary => return Ok(self.passed(&event.id, "canary", time)),
            Kind::Change { change_type, key } => (change_type, key),
        };
        let Some(topic) = self.topic_of_type.get(change_type).cloned() else {
            return Ok(self.passed(&event.id, "filtered", time));
        };
        if let Some(flow) = self.is_handled(&event.id, time)? {
            return Ok(flow);
        }
        let partition = partition_of(key.as_bytes(), self.partitions.get(&topic).copied().unwrap_or(1));
        let headers = RawHeaders {
            id: event.id.as_str().into(),
            seq: self.state.take_seq(&topic, partition),
            sse_id: sse_id.into(),
            received_at_ms: now_ms(),
            backfill: false,
        };
        let headers = headers.to_headers(&event.domain, &event.stream, change_type, &event.dt);
        self.transaction.send(&Outgoing {
            topic: &topic,
            partition,
            key: key.as_bytes(),
            value: data,
            headers: &borrowed(&headers),
        })?;
        self.kept(event.id, sse_id, time);
        Ok(Flow::Continue)
    }

    /// What no event can be made of: not UTF-8, or too long.
    fn quoted(&mut self, sse_id: &str, quoted: &Quoted) -> Result<Flow, TermEnd> {
        self.metrics.received.with_label_values(&["other"]).inc();
        let time = log_time(sse_id).unwrap_or(self.state.t);
        let rejection = if quoted.oversized {
            let detail = format!("{} bytes, SHA-256 {}; the value is its beginning", quoted.length, quoted.sha256);
            Rejection::new(Reason::Oversized, detail)
        } else {
            Rejection::new(Reason::InvalidUtf8, format!("the event is not UTF-8; SHA-256 {}", quoted.sha256))
        };
        self.set_aside(format!("sha256:{}", quoted.sha256), sse_id, &quoted.head(), &rejection, time)
    }

    /// Writes a dead letter, unless it was written before.
    fn set_aside(
        &mut self,
        id: String,
        sse_id: &str,
        value: &[u8],
        rejection: &Rejection,
        time: i64,
    ) -> Result<Flow, TermEnd> {
        if let Some(flow) = self.is_handled(&id, time)? {
            return Ok(flow);
        }
        let topic = self.topics.dead_letters_of(&self.topics.raw);
        let stream = self.context.config.streams();
        let origin = Origin { topic: &stream, partition: -1, offset: -1, service: "ingest", stage: "read" };
        let mut headers: Vec<Header> =
            vec![(CE_ID, id.clone()), (SSE_ID, sse_id.to_owned()), (RECEIVED_AT, now_ms().to_string())];
        headers.extend(dead_letter::headers(&origin, rejection));
        self.transaction.send(&Outgoing {
            topic: &topic,
            partition: 0,
            key: id.as_bytes(),
            value,
            headers: &borrowed(&headers),
        })?;
        tracing::warn!(reason = rejection.reason.as_str(), "an event was set aside as a dead letter");
        self.metrics.dropped.with_label_values(&["dead_lettered"]).inc();
        self.kept(id, sse_id, time);
        Ok(Flow::Continue)
    }

    fn observe(&mut self, event: &Event, time: i64) {
        let kind = match &event.kind {
            Kind::Canary => {
                #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit a float well")]
                self.metrics
                    .stream
                    .canary_time
                    .with_label_values(&[event.source_topic.as_str()])
                    .set(time as f64 / 1000.0);
                "canary"
            }
            Kind::Change { change_type, .. } => IngestMetrics::kind(change_type),
        };
        self.metrics.received.with_label_values(&[kind]).inc();
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit a float well")]
        self.metrics.last_event.set(time as f64 / 1000.0);
        let age = seconds_since(time);
        if age < LIVE_SECONDS {
            self.metrics.source_delay.observe(age);
        }
        if let Some(offset) = event.offset {
            let last = self.offsets.insert(event.source_topic.clone(), offset);
            if last.is_some_and(|last| offset != last + 1) {
                self.metrics.stream.offset_jumps.inc();
                tracing::debug!(source_topic = event.source_topic, offset, ?last, "the source's offset jumps");
            }
        }
    }

    /// An event that is not kept. In this process its id is a witness all the same.
    fn passed(&mut self, id: &str, why: &'static str, time: i64) -> Flow {
        if self.window.contains(id) {
            self.witness.known();
        }
        self.metrics.dropped.with_label_values(&[why]).inc();
        self.transaction.handled();
        // Before the connection is proven it must not become a witness of the next attempt, nor move the position.
        if self.witness != Witness::Needed {
            self.window.insert(id.to_owned(), time);
            self.state.pass(time);
        }
        Flow::Continue
    }

    /// A repeat ends here; an unknown event only goes on where the connection is proven.
    fn is_handled(&mut self, id: &str, time: i64) -> Result<Option<Flow>, TermEnd> {
        if self.window.contains(id) {
            if self.witness == Witness::Needed {
                self.metrics.stream.resumes.with_label_values(&["seen"]).inc();
                self.attempt = 0;
            }
            self.witness.known();
            self.metrics.duplicates.inc();
            self.metrics.dropped.with_label_values(&["duplicate"]).inc();
            self.transaction.handled();
            return Ok(Some(Flow::Continue));
        }
        match self.witness.unknown() {
            Verdict::Proven => Ok(None),
            Verdict::Unproven if self.reach().position(self.attempt + 1).is_some() => Ok(Some(Flow::FurtherBack)),
            Verdict::Unproven => {
                self.metrics.stream.resumes.with_label_values(&["missing"]).inc();
                self.declare_gap(time, GapReason::NoWitness)?;
                self.witness = Witness::Waived;
                self.attempt = 0;
                Ok(None)
            }
        }
    }

    fn kept(&mut self, id: String, sse_id: &str, time: i64) {
        self.newest_known_ms = self.newest_known_ms.max(Some(time));
        self.last_sse_id = Some(sse_id.to_owned());
        self.window.insert(id, time);
        self.state.seen = true;
        self.state.pass(time);
        self.transaction.handled();
    }

    fn declare_gap(&mut self, to_ms: i64, reason: GapReason) -> Result<(), TermEnd> {
        let from_ms = self.newest_known_ms.unwrap_or(self.state.t);
        let gap = self.gaps.declare(self.source.source_topics(), from_ms, to_ms, reason);
        tracing::error!(
            from_ms,
            to_ms,
            estimated_events = gap.estimated_events,
            "the stream could not be proven whole: a gap is in the ledger"
        );
        self.write_gap(&gap)
    }

    fn write_gap(&mut self, gap: &Gap) -> Result<(), TermEnd> {
        // Strings and integers only: this cannot fail.
        let value = serde_json::to_vec(gap).unwrap_or_default();
        self.metrics.gaps_open.set(i64::try_from(self.gaps.len()).unwrap_or(i64::MAX));
        let record =
            Outgoing { topic: &self.topics.gaps, partition: 0, key: gap.id.as_bytes(), value: &value, headers: &[] };
        Ok(self.transaction.send(&record)?)
    }

    /// Counts the end, and falls back where the server refused the position itself.
    fn after_end(&mut self, end: &End) {
        self.metrics.stream.disconnects.with_label_values(&[end.reason.as_str()]).inc();
        if let Some(outcome) = end.connect_outcome() {
            self.metrics.stream.connects.with_label_values(&[outcome]).inc();
            self.context.readiness.failing(&end.sentence);
        }
        if matches!(end.status, Some(400 | 404)) && self.state.seen {
            self.refused += 1;
        }
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
            self.report.passed();
            let left = deadline.saturating_duration_since(Instant::now()).min(report::EVERY);
            // A stop or the time: either is looked at above.
            let _ = self.context.runtime.block_on(async { tokio::time::timeout(left, stop.cancelled()).await });
        }
        !stop.is_cancelled()
    }
}

/// Headers as the writer takes them.
fn borrowed(headers: &[Header]) -> Vec<(&str, Option<&[u8]>)> {
    headers.iter().map(|(name, value)| (*name, Some(value.as_bytes()))).collect()
}

/// Unix milliseconds.
fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}
