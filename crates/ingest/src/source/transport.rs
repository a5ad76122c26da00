//! The bounded transport that the SSE client is given: `reqwest` with limits, no redirects, no compression.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::stream;
use launchdarkly_sdk_transport::{ByteStream, HttpTransport, Request, Response, ResponseFuture, TransportError};
use prometheus::IntCounter;
use reqwest::header::{
    CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use service::text::{cut, visible};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::reach::Reach;
use super::refusal::Refusal;
use super::{End, EndReason, Limits};
use crate::framer::{Beside, Endless, Framer, Frames, MAX_ENDLESS_BYTES, Unreadable};

/// Pieces on their way to the parser.
const PIECES: usize = 8;
/// What travels beside the parser: behind that the socket is read no further.
const BESIDE: usize = 16;
/// Longest body of a refusal that is read.
const MAX_REFUSAL_BYTES: usize = 16 << 10;
/// A server is not waited for longer than this, whatever it asks for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);
/// Longest time from an event's first byte to its last.
const EVENT_LIMIT: Duration = Duration::from_secs(30);

/// What the transport itself gives up over.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StreamFailure {
    /// Another status than 200.
    #[error("status {status}")]
    Refused {
        /// The status.
        status: u16,
        /// `Retry-After`.
        retry_after: Option<Duration>,
        /// What it says of the position.
        refusal: Option<Refusal>,
    },
    /// 200, and something else than a stream of events.
    #[error("no stream of events: {0}")]
    NoEventStream(String),
    /// A redirect: an EventStreams URL never has one.
    #[error("redirect")]
    Redirected,
    /// No connection.
    #[error("{0}")]
    Unreachable(String),
    /// No byte, or no event, for too long.
    #[error("no event for {0:?}")]
    Idle(Duration),
    /// The connection broke, or was cut by the server.
    #[error("{0}")]
    Broken(String),
    /// No end of an event.
    #[error("an event without end")]
    Endless,
    /// An event that comes too slowly.
    #[error("an event that takes too long")]
    Dripping,
}

impl StreamFailure {
    /// The end of the connection that it makes.
    #[must_use]
    pub fn end(&self) -> End {
        match self {
            Self::Refused { status, retry_after, refusal } => End {
                reason: EndReason::Refused,
                sentence: refusal.as_ref().map_or_else(|| sentence(*status), |_| position_sentence(*status)),
                status: Some(*status),
                retry_after: *retry_after,
                refusal: refusal.clone(),
            },
            Self::NoEventStream(what) => End::new(
                EndReason::Refused,
                format!(
                    "the stream answers with {what} instead of text/event-stream: a login page, or another service? check \
                     WIKI_STREAM_URL"
                ),
            ),
            Self::Redirected => End::new(
                EndReason::Refused,
                "the stream answers with a redirect, which is not followed: check WIKI_STREAM_URL",
            ),
            Self::Unreachable(why) => End::new(EndReason::Unreachable, format!("the stream cannot be reached: {why}")),
            Self::Idle(limit) => End::new(
                EndReason::Idle,
                format!("the stream sent no event for {:.0} s, so the connection was cut", limit.as_secs_f64()),
            ),
            Self::Broken(why) => End::new(
                EndReason::ServerClose,
                format!("the stream cut the connection, as it does every 15 minutes ({why})"),
            ),
            Self::Dripping => End::new(
                EndReason::Idle,
                format!(
                    "an event of the stream did not end within {} s, so the connection was cut",
                    EVENT_LIMIT.as_secs()
                ),
            ),
            Self::Endless => End::new(
                EndReason::Parse,
                format!("the stream sent {} MiB without the end of an event", MAX_ENDLESS_BYTES >> 20),
            ),
        }
    }
}

fn position_sentence(status: u16) -> String {
    format!("the stream refused the position ({status})")
}

fn sentence(status: u16) -> String {
    match status {
        403 => "the stream refused this client (403): set WIKI_CONTACT to an address where Wikimedia can reach you"
            .to_owned(),
        429 => {
            "the stream refused one more connection from this address (429): another client holds the places".to_owned()
        }
        400 | 404 => format!("the stream refused the request ({status}): check the stream's name in WIKI_STREAM_URL"),
        500.. => format!("the stream is out of order ({status})"),
        _ => format!("the stream refused the connection ({status})"),
    }
}

/// Makes requests; cheap to clone.
#[derive(Clone, Debug)]
pub struct Transport {
    client: reqwest::Client,
    limits: Limits,
    bytes: IntCounter,
    /// Where what is no event goes, and the response's own time; both of one connection.
    beside: mpsc::Sender<(u64, Unreadable)>,
    server_ms: Arc<OnceLock<i64>>,
}

impl Transport {
    /// A client with limits, and a User-Agent that names whom to ask. For this machine no proxy is asked.
    ///
    /// # Errors
    /// One sentence where the contact cannot stand in a header, or no client can be made.
    pub fn new(contact: &str, limits: Limits, bytes: IntCounter, reach: Reach) -> Result<Self, String> {
        // Another part of the process may have chosen the same provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let version = env!("CARGO_PKG_VERSION");
        let contact = if contact.is_empty() { "no contact given" } else { contact };
        let agent = format!("wikipedia-events/{version} ({contact}) reqwest")
            .parse()
            .map_err(|_| "--contact (or WIKI_CONTACT) cannot stand in a header: plain text, please".to_owned())?;
        let builder = reqwest::Client::builder();
        let builder = if reach.is_here() { builder.no_proxy() } else { builder.dns_resolver(Arc::new(reach)) };
        let client = builder
            .default_headers(HeaderMap::from_iter([(USER_AGENT, agent)]))
            .connect_timeout(limits.connect)
            .redirect(reqwest::redirect::Policy::none())
            // One connection per client's life: nothing is kept for the next.
            .pool_max_idle_per_host(0)
            .http1_only()
            .build()
            .map_err(|error| format!("no HTTP client can be made: {error}"))?;
        Ok(Self { client, limits, bytes, beside: mpsc::channel(BESIDE).0, server_ms: Arc::default() })
    }

    /// The same for one connection, and what travels beside its parser.
    #[must_use]
    pub fn of_connection(&self) -> (Self, mpsc::Receiver<(u64, Unreadable)>) {
        let (beside, receiver) = mpsc::channel(BESIDE);
        (Self { beside, server_ms: Arc::default(), ..self.clone() }, receiver)
    }

    /// The time of the server's clock in its answer, once there is one.
    #[must_use]
    pub fn server_ms(&self) -> Arc<OnceLock<i64>> {
        Arc::clone(&self.server_ms)
    }

    async fn send(self, request: Request<Option<Bytes>>) -> Result<Response<ByteStream>, StreamFailure> {
        let mut headers = request.headers().clone();
        // Ours says whom to ask.
        headers.remove(USER_AGENT);
        let asked = self.client.get(request.uri().to_string()).headers(headers).send();
        // The headers come at once or not at all: the same limit as for silence.
        let response = match timeout(self.limits.connect + self.limits.idle, asked).await {
            Err(_) => return Err(StreamFailure::Idle(self.limits.idle)),
            // Without the URL: a token may stand in it.
            Ok(Err(error)) => return Err(StreamFailure::Unreachable(chain(&error.without_url()))),
            Ok(Ok(response)) => response,
        };
        let status = response.status();
        if status.is_redirection() {
            return Err(StreamFailure::Redirected);
        }
        if status.as_u16() != 200 {
            let retry_after = retry_after(response.headers(), SystemTime::now());
            let refusal = match status.as_u16() {
                400 | 404 => refusal_of(response, self.limits.idle).await,
                _ => None,
            };
            return Err(StreamFailure::Refused { status: status.as_u16(), retry_after, refusal });
        }
        if let Some(what) = no_event_stream(response.headers()) {
            return Err(StreamFailure::NoEventStream(what));
        }
        if let Some(server_ms) = date_of(response.headers().get(DATE)).and_then(unix_ms) {
            // One answer a connection.
            let _ = self.server_ms.set(server_ms);
        }
        let headers = response.headers().clone();
        let (pieces, body) = mpsc::channel(PIECES);
        tokio::spawn(pump(response, self.limits.idle, self.bytes, pieces, self.beside));
        let body = stream::unfold(body, |mut body| async move {
            let piece: Result<Bytes, StreamFailure> = body.recv().await?;
            Some((piece.map_err(TransportError::new), body))
        });
        let mut answer = Response::new(Box::pin(body) as ByteStream);
        *answer.headers_mut() = headers;
        Ok(answer)
    }
}

impl HttpTransport for Transport {
    fn request(&self, request: Request<Option<Bytes>>) -> ResponseFuture {
        let task = tokio::spawn(self.clone().send(request));
        Box::pin(async move {
            match task.await {
                Ok(sent) => sent.map_err(TransportError::new),
                Err(error) => Err(TransportError::new(error)),
            }
        })
    }
}

/// What an answer is instead of a stream of events.
fn no_event_stream(headers: &HeaderMap) -> Option<String> {
    let of = |name: HeaderName| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let encoding = of(CONTENT_ENCODING).filter(|encoding| !encoding.eq_ignore_ascii_case("identity"));
    if let Some(encoding) = encoding {
        return Some(cut(&visible(&format!("content encoding {encoding}")), 100).into_owned());
    }
    let kind = of(CONTENT_TYPE).unwrap_or_else(|| "no content type".to_owned());
    let is_stream = kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/event-stream");
    (!is_stream).then(|| cut(&visible(&kind), 100).into_owned())
}

/// Reads the body through the framer until it ends or the reader leaves.
async fn pump(
    mut response: reqwest::Response,
    idle: Duration,
    bytes: IntCounter,
    pieces: mpsc::Sender<Result<Bytes, StreamFailure>>,
    beside: mpsc::Sender<(u64, Unreadable)>,
) {
    let mut framer = Framer::new();
    // Both are taken when what came was handed on: a reader that is held up is no fault of the stream.
    let (mut event_begun, mut last_event) = (Instant::now(), Instant::now());
    loop {
        let chunk = tokio::select! {
            chunk = timeout(idle, response.chunk()) => chunk,
            () = pieces.closed() => return,
        };
        let mut frames = Frames::default();
        let failure = match chunk {
            Err(_) => Some(StreamFailure::Idle(idle)),
            Ok(Err(error)) => Some(StreamFailure::Broken(chain(&error.without_url()))),
            Ok(Ok(None)) => return,
            Ok(Ok(Some(chunk))) => {
                bytes.inc_by(chunk.len() as u64);
                if !framer.is_inside() {
                    event_begun = Instant::now();
                }
                match framer.push(&chunk, &mut frames) {
                    Err(Endless) => Some(StreamFailure::Endless),
                    Ok(()) if frames.has_any() => None,
                    Ok(()) if event_begun.elapsed() > EVENT_LIMIT => Some(StreamFailure::Dripping),
                    // Comments alone are no stream of events.
                    Ok(()) if !framer.is_inside() && last_event.elapsed() > idle => Some(StreamFailure::Idle(idle)),
                    Ok(()) => None,
                }
            }
        };
        let has_event = frames.has_any();
        // In their order: the reader gets what lies between two events before it gets the second one.
        let mut events = Bytes::from(frames.events);
        let mut sent = 0;
        for Beside { behind, at, what } in frames.beside {
            let before = events.split_to(at - std::mem::replace(&mut sent, at));
            if (!before.is_empty() && pieces.send(Ok(before)).await.is_err())
                || beside.send((behind, what)).await.is_err()
            {
                return;
            }
        }
        if !events.is_empty() && pieces.send(Ok(events)).await.is_err() {
            return;
        }
        if has_event {
            (event_begun, last_event) = (Instant::now(), Instant::now());
        }
        if let Some(failure) = failure {
            // Nobody listens: nobody needs to know.
            let _ = pieces.send(Err(failure)).await;
            return;
        }
    }
}

/// Reads what a 400 or 404 says of the position; `None` where somebody else answered.
async fn refusal_of(mut response: reqwest::Response, limit: Duration) -> Option<Refusal> {
    let mut body = Vec::new();
    while let Ok(Ok(Some(chunk))) = timeout(limit, response.chunk()).await {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_REFUSAL_BYTES {
            return None;
        }
    }
    Refusal::read(&body)
}

fn date_of(header: Option<&HeaderValue>) -> Option<SystemTime> {
    httpdate::parse_http_date(header?.to_str().ok()?.trim()).ok()
}

fn unix_ms(time: SystemTime) -> Option<i64> {
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// `Retry-After`, in seconds or as a date, at most [`MAX_RETRY_AFTER`].
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let header = headers.get(RETRY_AFTER)?;
    let wait = match header.to_str().ok()?.trim().parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => date_of(Some(header))?.duration_since(now).unwrap_or_default(),
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_when_to_come_again_in_seconds_or_as_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let wait = |value: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(value).unwrap())]);
            retry_after(&headers, now).map(|wait| wait.as_secs())
        };
        assert_eq!(wait("12"), Some(12));
        assert_eq!(wait(&httpdate::fmt_http_date(now + Duration::from_secs(12))), Some(12));
        assert_eq!(wait(&httpdate::fmt_http_date(now - Duration::from_secs(12))), Some(0));
        assert_eq!(wait("86400"), Some(600), "a typing error there must not stop this for a day");
        assert_eq!(wait("soon"), None);
    }
}
