//! One connection's bytes: `:ok`, then frames, until something ends it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use schema::sse_id::SourcePosition;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::Faults;
use crate::log::{Entry, Log};
use crate::recording;
use crate::request::Plan;

/// Entries taken from the log at once.
const TAKE: usize = 64;
/// Pieces waiting for a slow reader; behind that the log is read no further.
const PIECES: usize = 16;

/// What every connection shares.
#[derive(Debug)]
pub struct Shared {
    log: Mutex<Log>,
    /// Rings when the log grew.
    pub grown: Notify,
    /// The faults in force.
    pub faults: Mutex<Faults>,
    /// Whether the reader's demand makes the log grow.
    pub on_demand: bool,
    /// Ends every connection.
    pub shutdown: CancellationToken,
}

impl Shared {
    /// Shares a log among connections.
    #[must_use]
    pub fn new(log: Log, faults: Faults, on_demand: bool, shutdown: CancellationToken) -> Self {
        Self { log: Mutex::new(log), grown: Notify::new(), faults: Mutex::new(faults), on_demand, shutdown }
    }

    /// Takes the log.
    pub fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The faults in force now.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How long the server may take to write out what it was given.
const FLUSH_TIME: Duration = Duration::from_millis(10);

/// A piece of the body, or the cut that ends it without its last chunk.
pub type Piece = Result<Bytes, std::io::Error>;

/// Starts a connection; what it gives is the body.
pub fn open(shared: Arc<Shared>, plan: Plan) -> mpsc::Receiver<Piece> {
    let (pieces, body) = mpsc::channel(PIECES);
    tokio::spawn(async move {
        let shutdown = shared.shutdown.clone();
        let mut connection = Connection { faults: shared.faults(), shared, plan, pieces, sent: 0, batch: Vec::new() };
        // Ends when the reader leaves, when a fault says so, or with the simulator.
        tokio::select! {
            _ = connection.run() => {}
            () = shutdown.cancelled() => {}
        }
    });
    body
}

struct Connection {
    shared: Arc<Shared>,
    faults: Faults,
    plan: Plan,
    pieces: mpsc::Sender<Piece>,
    sent: u64,
    batch: Vec<u8>,
}

/// The connection ended.
struct Ended;

impl Connection {
    async fn run(&mut self) -> Result<(), Ended> {
        let opening: &'static [u8] = if self.plan.json { b"\n" } else { b":ok\n\n" };
        if self.shared.log().has_mark() {
            self.send(Bytes::from_static(recording::MARK)).await?;
        }
        self.send(Bytes::from_static(opening)).await?;
        if self.faults.silent {
            self.pieces.closed().await;
            return Err(Ended);
        }
        let until = Instant::now() + Duration::from_millis(self.faults.lifetime_ms);
        let idle = Duration::from_millis(self.faults.idle_ms);
        let mut idle_until = Instant::now() + idle;
        let shared = Arc::clone(&self.shared);
        loop {
            // Made before the log is read: what arrives in between still rings.
            let grown = shared.grown.notified();
            let entries = self.next_entries();
            if entries.is_empty() {
                let deadline = until.min(idle_until);
                let left = deadline.saturating_duration_since(Instant::now());
                let leaves = self.pieces.closed();
                tokio::select! {
                    woken = timeout(left, grown) => if woken.is_err() { return self.end(until).await; },
                    () = leaves => return Err(Ended),
                }
                continue;
            }
            for entry in entries {
                self.entry(&entry).await?;
            }
            self.flush().await?;
            if Instant::now() >= until {
                return self.end(until).await;
            }
            idle_until = Instant::now() + idle;
        }
    }

    /// At its lifetime's end the edge cuts inside a frame; an idle connection just ends.
    async fn end(&mut self, until: Instant) -> Result<(), Ended> {
        if Instant::now() >= until { self.cut(b"event: message\nid: [{\"top").await } else { Err(Ended) }
    }

    fn next_entries(&mut self) -> Vec<Entry> {
        let cluster = self.faults.cluster();
        let mut log = self.shared.log();
        let mut entries = log.read(&mut self.plan.cursor, TAKE, cluster);
        if entries.is_empty() && self.shared.on_demand && log.grow(TAKE) > 0 {
            entries = log.read(&mut self.plan.cursor, TAKE, cluster);
        }
        entries
    }

    async fn entry(&mut self, entry: &Entry) -> Result<(), Ended> {
        if self.shared.log().is_over(entry) {
            return Ok(());
        }
        let topic = self.shared.log().topics().get(entry.topic).cloned().unwrap_or_default();
        advance(&mut self.plan.id, &topic, entry.log_time_ms);
        let data = entry.data_in(self.faults.cluster());
        let frame = if self.plan.json {
            [&data[..], b"\n"].concat()
        } else {
            entry.frame.as_ref().map_or_else(|| frame(&self.plan.id, &data), |frame| frame.to_vec())
        };
        if self.faults.cut_after == Some(self.sent) {
            self.flush().await?;
            let middle = frame.get(..frame.len() / 2).unwrap_or_default().to_vec();
            return self.cut(&middle).await;
        }
        if self.faults.error_after == Some(self.sent) {
            let id = serde_json::to_string(&self.plan.id).unwrap_or_default();
            let error = "{\"message\":\"Local: Broker transport failure\",\"origin\":\"kafka\",\"name\":\"Error\"}";
            self.batch.extend_from_slice(format!("event: error\nid: {id}\ndata: {error}\n\n").as_bytes());
            self.flush().await?;
            return Err(Ended);
        }
        self.sent += 1;
        self.shared.log().mark_served(entry);
        self.batch.extend_from_slice(&frame);
        Ok(())
    }

    async fn cut(&mut self, half: &[u8]) -> Result<(), Ended> {
        self.send(Bytes::copy_from_slice(half)).await?;
        // What was sent before the cut arrives: the server writes it out once the body has nothing more to give.
        drop(self.pieces.reserve_many(PIECES).await.map_err(|_| Ended)?);
        tokio::time::sleep(FLUSH_TIME).await;
        let error = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "cut");
        // A reader that left needs no cut.
        let _ = self.pieces.send(Err(error)).await;
        Err(Ended)
    }

    async fn flush(&mut self) -> Result<(), Ended> {
        let batch = Bytes::from(std::mem::take(&mut self.batch));
        if batch.is_empty() {
            return Ok(());
        }
        match self.faults.piece_bytes.filter(|size| *size > 0) {
            None => self.send(batch).await,
            Some(size) => {
                for piece in batch.chunks(size) {
                    self.send(batch.slice_ref(piece)).await?;
                }
                Ok(())
            }
        }
    }

    async fn send(&self, piece: Bytes) -> Result<(), Ended> {
        self.pieces.send(Ok(piece)).await.map_err(|_| Ended)
    }
}

/// A frame as the service writes it.
fn frame(id: &[SourcePosition], data: &[u8]) -> Vec<u8> {
    let id = serde_json::to_string(id).unwrap_or_default();
    let mut frame = Vec::with_capacity(data.len() + id.len() + 32);
    frame.extend_from_slice(b"event: message\nid: ");
    frame.extend_from_slice(id.as_bytes());
    frame.extend_from_slice(b"\ndata: ");
    frame.extend_from_slice(data);
    frame.extend_from_slice(b"\n\n");
    frame
}

/// The id of a connection after an event: its topic's entry holds the log time + 1.
fn advance(id: &mut [SourcePosition], topic: &str, log_time_ms: i64) {
    if let Some(entry) = id.iter_mut().find(|entry| entry.topic == topic) {
        entry.offset = None;
        entry.timestamp = Some(log_time_ms + 1);
    }
}
