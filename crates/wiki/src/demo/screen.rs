//! The demo in the terminal: edits as they come, rates, and who owns which partition.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kafka::Kafka;
use rdkafka::consumer::Consumer as _;
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use rusqlite::{Connection, OpenFlags};
use schema::Edit;
use service::CancellationToken;

use crate::consume::pretty;

/// Edits shown a second at most; the rest is counted.
const SHOWN_PER_SECOND: u32 = 10;
/// Between two lines of figures.
const FIGURES_EVERY: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(100);

/// The running screen.
pub(crate) struct Screen {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Screen {
    /// Starts printing.
    pub(crate) fn start(kafka: Kafka, table: PathBuf, started: Instant, stop: CancellationToken) -> Self {
        let stopped = stop.clone();
        let task = tokio::task::spawn_blocking(move || {
            if let Err(error) = show(&kafka, &table, started, &stopped) {
                tracing::warn!(error = error.sentence(), "edits cannot be shown");
            }
        });
        Self { stop, task }
    }

    /// Prints nothing more.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        // It ends within one poll; what it had to say is said.
        let _ = self.task.await;
    }
}

fn show(kafka: &Kafka, table: &Path, started: Instant, stop: &CancellationToken) -> Result<(), kafka::Error> {
    let topic = kafka.config().topics().events;
    let tail = kafka.tail()?;
    let partitions = loop {
        if stop.is_cancelled() {
            return Ok(());
        }
        match tail.partitions(&topic)? {
            Some(partitions) => break partitions,
            None => std::thread::park_timeout(Duration::from_millis(50)),
        }
    };
    let consumer = kafka.console(None, true)?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        let added = assignment.add_partition_offset(&topic, partition, Offset::Beginning);
        added.map_err(kafka::Error::doubt("show edits"))?;
    }
    consumer.assign(&assignment).map_err(kafka::Error::doubt("show edits"))?;
    let mut counts = Counts::new(started);
    while !stop.is_cancelled() {
        if let Some(Ok(record)) = consumer.poll(POLL)
            && let Some(edit) = record.payload().and_then(|value| Edit::from_json(value).ok())
        {
            counts.edit(&edit, record.partition());
        }
        counts.figures(table);
    }
    Ok(())
}

struct Counts {
    started: Instant,
    total: u64,
    at_figures: u64,
    figures_at: Instant,
    second: Instant,
    shown: u32,
}

impl Counts {
    fn new(started: Instant) -> Self {
        let now = Instant::now();
        Self { started, total: 0, at_figures: 0, figures_at: now, second: now, shown: 0 }
    }

    fn edit(&mut self, edit: &Edit<'_>, partition: i32) {
        if self.total == 0 {
            println!("first edit after {:.1} s", self.started.elapsed().as_secs_f64());
        }
        self.total += 1;
        if self.second.elapsed() >= Duration::from_secs(1) {
            (self.second, self.shown) = (Instant::now(), 0);
        }
        if self.shown < SHOWN_PER_SECOND {
            self.shown += 1;
            println!("{}", pretty(edit, partition));
        }
    }

    fn figures(&mut self, table: &Path) {
        let since = self.figures_at.elapsed();
        if since < FIGURES_EVERY {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a number of edits fits a float well")]
        let rate = (self.total - self.at_figures) as f64 / since.as_secs_f64();
        (self.figures_at, self.at_figures) = (Instant::now(), self.total);
        let owners = owners(table).unwrap_or_else(|_| "not known yet".to_owned());
        println!("── {} edits, {rate:.1} a second · owners: {owners}", self.total);
    }
}

/// Which sink owns which partition, as the table itself says.
fn owners(table: &Path) -> rusqlite::Result<String> {
    let connection = Connection::open_with_flags(table, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(Duration::from_secs(1))?;
    let mut query = connection.prepare("SELECT owner, partition FROM sink_progress ORDER BY owner, partition")?;
    let mut by_owner: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i32>(1)?)))? {
        let (owner, partition) = row?;
        by_owner.entry(owner).or_default().push(format!("p{partition}"));
    }
    let owners: Vec<String> =
        by_owner.into_iter().map(|(owner, partitions)| format!("{owner} {}", partitions.join(" "))).collect();
    Ok(owners.join(" · "))
}
