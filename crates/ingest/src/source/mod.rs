//! The connection to the stream: one client per connection, bounded in bytes and time, no reconnect of its own.

mod queue;
pub mod reach;
pub mod refusal;
pub mod transport;

use std::sync::Arc;
use std::time::Duration;

use eventsource_client::{Client as _, ClientBuilder, Error as SseError, ReconnectOptions, SSE};
use futures_util::StreamExt as _;
use prometheus::IntCounter;
use service::text::{cut, visible};
use tokio::runtime::Handle;

use crate::arrival::{Arrival, Reader};
use crate::framer::Unreadable;
use crate::position::ResumeAt;
use reach::Reach;
use refusal::Refusal;
use transport::{StreamFailure, Transport};

/// The bounds of one connection in time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest time to connect.
    pub connect: Duration,
    /// Longest time without a byte.
    pub idle: Duration,
}

/// What a connection gives.
#[derive(Debug)]
pub enum Item {
    /// The server answered 200, at this time of its own clock. It proves nothing yet.
    Connected {
        /// `Date` of the response, Unix milliseconds.
        server_ms: Option<i64>,
    },
    /// An event, or something that no event can be made of.
    Arrived(Box<Arrival>),
    /// The connection is over; the last item.
    Ended(End),
}

/// Why a connection ended: a closed set, a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The server closed or cut it, as it does every 15 minutes.
    ServerClose,
    /// No byte for too long.
    Idle,
    /// The network failed.
    Io,
    /// What came is not server-sent events, or an event without end.
    Parse,
    /// The server said `event: error`.
    ServerError,
    /// The server refused the connection.
    Refused,
    /// It could not be reached.
    Unreachable,
}

impl EndReason {
    /// Every reason, for metrics that start at 0.
    pub const ALL: [Self; 7] =
        [Self::ServerClose, Self::Idle, Self::Io, Self::Parse, Self::ServerError, Self::Refused, Self::Unreachable];

    /// The reason as a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ServerClose => "server_close",
            Self::Idle => "idle",
            Self::Io => "io",
            Self::Parse => "parse",
            Self::ServerError => "server_error",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
        }
    }
}

/// The end of a connection, and what to tell people.
#[derive(Clone, Debug)]
pub struct End {
    /// Why.
    pub reason: EndReason,
    /// One sentence, without what happens next.
    pub sentence: String,
    /// Status of a refusal.
    pub status: Option<u16>,
    /// When the server wants to be asked again.
    pub retry_after: Option<Duration>,
    /// Its refusal of the position itself.
    pub refusal: Option<Refusal>,
}

impl End {
    fn new(reason: EndReason, sentence: impl Into<String>) -> Self {
        Self { reason, sentence: sentence.into(), status: None, retry_after: None, refusal: None }
    }

    /// The label of the attempt, where it never became a connection.
    #[must_use]
    pub fn connect_outcome(&self) -> Option<&'static str> {
        match (self.reason, self.status) {
            (EndReason::Refused, Some(500..)) => Some("http_5xx"),
            (EndReason::Refused, _) => Some("http_4xx"),
            (EndReason::Unreachable, _) if self.sentence.contains("dns") => Some("dns"),
            (EndReason::Unreachable, _) if self.sentence.contains("certificate") => Some("tls"),
            (EndReason::Unreachable, _) => Some("timeout"),
            _ => None,
        }
    }
}

/// Opens connections to one stream.
#[derive(Clone, Debug)]
pub struct Source {
    url: String,
    transport: Transport,
    runtime: Handle,
}

/// One connection; it ends when dropped.
#[derive(Debug)]
pub struct Connection {
    items: queue::Receiver,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// The next item within `limit`; `None` where nothing came. Blocks.
    pub fn next(&mut self, runtime: &Handle, limit: Duration) -> Option<Item> {
        if let Some(item) = self.items.try_recv() {
            return Some(item);
        }
        if limit.is_zero() {
            return None;
        }
        match runtime.block_on(async { tokio::time::timeout(limit, self.items.recv()).await }) {
            Ok(Some(item)) => Some(item),
            Ok(None) => Some(Item::Ended(End::new(EndReason::Io, "the connection's task ended"))),
            Err(_) => None,
        }
    }
}

impl Source {
    /// Prepares connections to a stream.
    ///
    /// # Errors
    /// One sentence where no client can be made.
    pub fn new(
        url: &str,
        contact: &str,
        reach: Reach,
        limits: Limits,
        bytes: &IntCounter,
        runtime: Handle,
    ) -> Result<Self, String> {
        let transport = Transport::new(contact, limits, bytes.clone(), reach)?;
        Ok(Self { url: url.to_owned(), transport, runtime })
    }

    /// Opens a connection. Its own task reads the events, also while a commit is under way.
    #[must_use]
    pub fn connect(&self, at: &ResumeAt, reader: Reader) -> Connection {
        let (sender, items) = queue::queue();
        let url = match at {
            ResumeAt::Since(ms) => with_since(&self.url, *ms),
            ResumeAt::Positions(_) | ResumeAt::Latest | ResumeAt::AsReceived(_) => self.url.clone(),
        };
        let id = at.header();
        let transport = self.transport.clone();
        let task = self.runtime.spawn(async move {
            let end = read(&url, id, (transport, reader), &sender).await;
            // The reader is gone where it does not listen any more.
            let _ = sender.send(Item::Ended(end)).await;
        });
        Connection { items, task }
    }
}

fn with_since(url: &str, ms: i64) -> String {
    let joint = if url.contains('?') { '&' } else { '?' };
    format!("{url}{joint}since={ms}")
}

fn client(url: &str, id: Option<String>, transport: Transport) -> Result<impl eventsource_client::Client, SseError> {
    let once = ReconnectOptions::reconnect(false).retry_initial(false).build();
    let builder = ClientBuilder::for_url(url)?.header("Accept-Encoding", "identity")?;
    let builder = builder.reconnect(once).redirect_limit(0);
    let builder = match id {
        Some(id) => builder.last_event_id(id),
        None => builder,
    };
    Ok(builder.build_with_transport(transport))
}

async fn read(
    url: &str,
    id: Option<String>,
    (transport, mut reader): (Transport, Reader),
    items: &queue::Sender,
) -> End {
    let (transport, mut beside) = transport.of_connection();
    let server_ms = transport.server_ms();
    let client = match client(url, id, transport) {
        Ok(client) => client,
        Err(error) => return End::new(EndReason::Unreachable, format!("the stream cannot be asked: {error}")),
    };
    let mut events = client.stream();
    let mut order = Order::default();
    loop {
        if let Some(unreadable) = order.due() {
            if items.send(Item::Arrived(Box::new(reader.unreadable(unreadable)))).await.is_err() {
                return End::new(EndReason::ServerClose, "the reader left");
            }
            continue;
        }
        let next = tokio::select! {
            biased;
            Some(unreadable) = beside.recv(), if order.waiting.is_none() => {
                order.waiting = Some(unreadable);
                continue;
            }
            next = events.next() => next,
        };
        let item = match next {
            Some(Ok(SSE::Connected(_))) => Item::Connected { server_ms: server_ms.get().copied() },
            Some(Ok(SSE::Comment(_))) => continue,
            Some(Ok(SSE::Event(event))) if event.event_type == "error" => {
                return End::new(
                    EndReason::ServerError,
                    format!("the stream reports an error: {}", cut(&visible(&event.data), 200)),
                );
            }
            Some(Ok(SSE::Event(event))) => {
                order.passed += 1;
                Item::Arrived(Box::new(reader.read(event.id.unwrap_or_default(), event.data.into_bytes())))
            }
            Some(Err(error)) => return end_of(&error),
            None => return End::new(EndReason::ServerClose, "the stream closed the connection"),
        };
        if items.send(item).await.is_err() {
            return End::new(EndReason::ServerClose, "the reader left");
        }
    }
}

/// Puts what travels beside the parser back between the events that it stood between.
#[derive(Default)]
struct Order {
    passed: u64,
    waiting: Option<(u64, Unreadable)>,
}

impl Order {
    fn due(&mut self) -> Option<Unreadable> {
        let is_due = self.waiting.as_ref().is_some_and(|(behind, _)| *behind <= self.passed);
        if is_due { self.waiting.take().map(|(_, unreadable)| unreadable) } else { None }
    }
}

fn end_of(error: &SseError) -> End {
    match error {
        SseError::Eof | SseError::UnexpectedEof => {
            End::new(EndReason::ServerClose, "the stream closed the connection, as it does every 15 minutes")
        }
        SseError::InvalidLine(_) | SseError::InvalidEvent => {
            End::new(EndReason::Parse, format!("the stream sent what is no event: {error}"))
        }
        SseError::Transport(inner) => failure_in(inner.inner())
            .unwrap_or_else(|| End::new(EndReason::Unreachable, format!("the stream cannot be reached: {inner}"))),
        SseError::HttpStream(inner) => failure_in(inner.as_ref())
            .unwrap_or_else(|| End::new(EndReason::ServerClose, format!("the connection broke: {inner}"))),
        _ => End::new(EndReason::Io, format!("the connection broke: {error}")),
    }
}

/// What our own transport said, wherever in the chain it stands.
fn failure_in(error: &(dyn std::error::Error + 'static)) -> Option<End> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(failure) = error.downcast_ref::<Arc<StreamFailure>>() {
            return Some(failure.end());
        }
        if let Some(failure) = error.downcast_ref::<StreamFailure>() {
            return Some(failure.end());
        }
        next = error.source();
    }
    None
}
