//! What the console knows now, and who is told of it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use kafka::KafkaConfig;
use schema::Topics;
use schema::control::{Moment, SinkStatus, SourceStatus};
use schema::record::RAW_SEQ;
use serde::{Deserialize, Serialize};
use service::CancellationToken;
use tokio::sync::broadcast;

use crate::around::{Alert, Around, AroundView};
use crate::board::rebalances::Cause;
use crate::board::view::BoardView;
use crate::board::{Board, Outcome};
use crate::edits::{EditView, Edits, EditsView, RecordView};
use crate::flow::{Flow, FlowView, Point};
use crate::metrics::ConsoleMetrics;
use crate::picture::Picture;

/// Events that a slow page may be behind before it gets a snapshot instead.
const QUEUE: usize = 64;
/// Between two turns of the teller.
const TURN: Duration = Duration::from_millis(100);
/// Edits go out every so many turns, figures every so many.
const EDITS_TURNS: u64 = 3;
const RATES_TURNS: u64 = 10;
/// Edits that a page begins with.
const RECENT: usize = 20;

/// Everything a page needs to begin.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Snapshot {
    /// Number of the last event that is in it.
    pub seq: u64,
    /// When it was taken, Unix milliseconds.
    pub ts: i64,
    /// The board.
    pub board: BoardView,
    /// The pipeline in figures.
    pub flow: FlowView,
    /// What stands around the sinks.
    pub around: AroundView,
    /// Ten minutes of them.
    pub points: Vec<Point>,
    /// The last edits.
    pub edits: EditsView,
}

/// Figures that change each second.
#[derive(Clone, Debug, Serialize)]
struct Rates {
    board: BoardView,
    flow: FlowView,
    around: AroundView,
    point: Option<Point>,
}

/// An event for every page.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its number.
    pub seq: u64,
    /// Its name on the wire.
    pub name: &'static str,
    /// Its data, JSON.
    pub data: String,
}

#[derive(Debug)]
struct Known {
    board: Board,
    edits: Edits,
    flow: Flow,
    around: Around,
    alerts: Vec<Alert>,
    /// The last edits that were told: what a page that comes now begins with.
    recent: VecDeque<EditView>,
    is_changed: bool,
    /// The words of the last minutes are read: only then the broker's word of now may be laid beside them.
    has_caught_up: bool,
    over: Vec<String>,
    seq: u64,
}

impl Known {
    fn remember(&mut self, told: EditsView) {
        self.recent.extend(told.edits);
        while self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }

    fn recent(&self) -> EditsView {
        EditsView { seen: 0, shown: self.recent.len() as u64, edits: self.recent.iter().cloned().collect() }
    }
}

/// The console's knowledge, shared by its threads and its pages.
#[derive(Debug)]
pub struct Live {
    known: Mutex<Known>,
    events: broadcast::Sender<Arc<Event>>,
    topics: Topics,
    watcher: OnceLock<Thread>,
    metrics: ConsoleMetrics,
    group: String,
    run: String,
}

/// Unix milliseconds.
#[must_use]
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

impl Live {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(kafka: &KafkaConfig, group: &str, metrics: &ConsoleMetrics) -> Self {
        let topics = kafka.topics();
        let known = Known {
            board: Board::new(topics.events.clone()),
            edits: Edits::default(),
            flow: Flow::default(),
            around: Around::default(),
            alerts: Vec::new(),
            recent: VecDeque::new(),
            is_changed: false,
            has_caught_up: false,
            over: Vec::new(),
            seq: 0,
        };
        Self {
            known: Mutex::new(known),
            events: broadcast::channel(QUEUE).0,
            topics,
            watcher: OnceLock::new(),
            metrics: metrics.clone(),
            group: kafka.prefixed(group),
            run: uuid::Uuid::new_v4().to_string(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells this start of the console from any other: its numbers begin anew.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Who looks at the broker; it is woken when a sink says that something moves.
    pub fn watched_by(&self, thread: Thread) {
        // There is one.
        let _ = self.watcher.set(thread);
    }

    /// A sink said something.
    pub fn heard(&self, status: SinkStatus, at_ms: i64) {
        let is_moving = status.moment != Moment::Heartbeat;
        let mut known = self.known();
        let outcome = known.board.heard(status, at_ms);
        self.took(&mut known, outcome);
        drop(known);
        if let (true, Some(watcher)) = (is_moving, self.watcher.get()) {
            watcher.unpark();
        }
    }

    /// Ingest said something.
    pub fn heard_source(&self, status: SourceStatus, at_ms: i64) {
        self.known().around.heard(status, at_ms);
    }

    /// A dead letter was read.
    pub fn set_aside(&self, reason: String, at_ms: i64) {
        self.known().around.set_aside(reason, at_ms);
    }

    /// The broker said something about the group that reads a topic.
    pub fn looked(&self, topic: &str, picture: &Picture, at_ms: i64) {
        let mut known = self.known();
        known.around.counted(picture.brokers, at_ms);
        if topic == self.topics.events && known.has_caught_up {
            let outcome = known.board.looked(picture.clone(), at_ms);
            self.took(&mut known, outcome);
        }
    }

    /// Every word that was there at the start is read.
    pub fn caught_up(&self) {
        self.known().has_caught_up = true;
    }

    /// A record of the edits' topic was read.
    pub fn read(&self, partition: i32, record: RecordView) {
        let number = record.headers.iter().find(|(name, _)| name == RAW_SEQ).and_then(|(_, value)| value.parse().ok());
        let mut known = self.known();
        known.flow.read_edit(partition, number.unwrap_or(0));
        known.edits.read(partition, record);
    }

    /// A record of the raw topic was read.
    pub fn read_raw(&self, partition: i32, number: i64) {
        self.known().flow.read_raw(partition, number);
    }

    fn took(&self, known: &mut Known, outcome: Outcome) {
        known.is_changed |= outcome.is_changed;
        for (pause, protocol) in outcome.pauses {
            #[expect(clippy::cast_precision_loss, reason = "milliseconds of a pause fit a float well")]
            self.metrics
                .words
                .handover
                .with_label_values(&[protocol.as_str()])
                .observe(pause.milliseconds as f64 / 1_000.0);
        }
        for cause in outcome.causes {
            match cause {
                Cause::Left(_) => self.metrics.words.leaves.with_label_values(&[self.group.as_str()]).inc(),
                Cause::Lost(_) => self.metrics.words.losses.with_label_values(&[self.group.as_str()]).inc(),
                Cause::Joined(_) | Cause::ProtocolChanged(_) | Cause::TopicChanged(_) => {}
            }
        }
        if let Some(over) = outcome.over {
            let view = crate::board::view::RebalanceView::from(&over);
            known.over.push(serde_json::to_string(&view).unwrap_or_default());
        }
    }

    /// Everything, as it stands.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let now_ms = now_ms();
        let mut known = self.known();
        let board = known.board.view(now_ms);
        let (flow, around) = (self.flow(&known, &board), known.around.view(&board, now_ms));
        Snapshot { seq: known.seq, ts: now_ms, flow, around, points: known.flow.points(), edits: known.recent(), board }
    }

    fn flow(&self, known: &Known, board: &BoardView) -> FlowView {
        let sink_lag = board.partitions.iter().map(|partition| partition.lag).sum();
        known.flow.view(&known.edits, sink_lag)
    }

    /// Every rebalance that is known, one JSON object a line.
    #[must_use]
    pub fn rebalances(&self) -> String {
        let known = self.known();
        let rebalances = known.board.rebalances();
        rebalances.map(|rebalance| serde_json::to_string(&rebalance).unwrap_or_default() + "\n").collect()
    }

    /// The last records of a partition.
    #[must_use]
    pub fn records(&self, partition: i32) -> Vec<RecordView> {
        self.known().edits.records(partition).cloned().collect()
    }

    /// A page that wants every event from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    /// Tells pages what changed, until shutdown.
    pub async fn tell(self: Arc<Self>, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(TURN);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut turn = 0_u64;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.cancelled() => return,
            }
            turn += 1;
            self.turn(turn);
        }
    }

    fn turn(&self, turn: u64) {
        let now_ms = now_ms();
        let mut known = self.known();
        if known.has_caught_up {
            let outcome = known.board.passed(now_ms);
            self.took(&mut known, outcome);
        }
        if turn.is_multiple_of(EDITS_TURNS) {
            let Known { board, edits, .. } = &mut *known;
            edits.release(board, now_ms);
            if let Some(edits) = edits.take() {
                self.send(&mut known, "edits", &edits);
                known.remember(edits);
            }
        }
        for over in std::mem::take(&mut known.over) {
            self.publish(&mut known, "rebalance", over);
        }
        let with_rates = turn.is_multiple_of(RATES_TURNS);
        if with_rates || known.is_changed {
            self.tell_board(&mut known, with_rates, now_ms);
        }
    }

    fn tell_board(&self, known: &mut Known, with_rates: bool, now_ms: i64) {
        let mut board = known.board.view(now_ms);
        if std::mem::take(&mut known.is_changed) {
            self.send(known, "group", &board);
        }
        if with_rates {
            let Known { edits, flow, .. } = &mut *known;
            let points = flow.points().len();
            flow.passed(edits, now_ms);
            let point = flow.points().last().copied().filter(|point| point.at_ms == now_ms || points == 0);
            let flow = self.flow(known, &board);
            self.metrics.words.generation.with_label_values(&[self.group.as_str()]).set(board.group.generation.into());
            let conflicts = known.board.conflicts(now_ms);
            self.metrics
                .words
                .conflicts
                .with_label_values(&[self.group.as_str()])
                .set(i64::try_from(conflicts).unwrap_or(0));
            let around = known.around.view(&board, now_ms);
            if around.alerts != known.alerts {
                known.alerts.clone_from(&around.alerts);
                self.send(known, "alert", &around.alerts);
            }
            // What changes rarely goes out when it does.
            (board.timeline, board.rebalances) = (Vec::new(), Vec::new());
            self.send(known, "rates", &Rates { board, flow, around, point });
        }
    }

    fn send<T: Serialize>(&self, known: &mut Known, name: &'static str, value: &T) {
        if self.events.receiver_count() > 0 {
            let data = serde_json::to_string(value).unwrap_or_default();
            self.publish(known, name, data);
        }
    }

    fn publish(&self, known: &mut Known, name: &'static str, data: String) {
        known.seq += 1;
        // Without a page nobody is told.
        let _ = self.events.send(Arc::new(Event { seq: known.seq, name, data }));
    }
}
