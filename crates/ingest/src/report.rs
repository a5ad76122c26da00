//! What the acting replica says of its stream, to whoever watches.

use std::time::{Duration, Instant};

use kafka::{Error, Reporter};
use reqwest::Url;
use schema::control::{SourceStatus, Word};

use crate::context::Context;

/// A word at least this often.
pub const EVERY: Duration = Duration::from_secs(1);

/// Tells of one term.
#[derive(Debug)]
pub struct Report {
    reporter: Reporter,
    status: SourceStatus,
    told: Instant,
}

impl Report {
    /// A term that begins now, without a connection.
    ///
    /// # Errors
    /// [`Error::Stop`] where a setting is refused.
    pub fn new(context: &Context) -> Result<Self, Error> {
        let status = SourceStatus {
            replica: context.service.replica.clone(),
            host: host_of(&context.config.stream.stream_url),
            connected_at_ms: None,
            trouble: String::new(),
            gaps: 0,
        };
        Ok(Self {
            reporter: context.kafka.reporter(&context.config.kafka.topics().control)?,
            status,
            told: Instant::now(),
        })
    }

    /// The stream is connected.
    pub fn connected(&mut self, now_ms: i64) {
        (self.status.connected_at_ms, self.status.trouble) = (Some(now_ms), String::new());
        self.tell();
    }

    /// It is connected no more; the server's own end is no trouble.
    pub fn ended(&mut self, trouble: &str) {
        (self.status.connected_at_ms, self.status.trouble) = (None, trouble.to_owned());
        self.tell();
    }

    /// So many gaps are open.
    pub fn gaps(&mut self, open: usize) {
        let open = u64::try_from(open).unwrap_or(u64::MAX);
        if std::mem::replace(&mut self.status.gaps, open) != open {
            self.tell();
        }
    }

    /// Time has passed.
    pub fn passed(&mut self) {
        if self.told.elapsed() >= EVERY {
            self.tell();
        }
    }

    fn tell(&mut self) {
        self.told = Instant::now();
        self.reporter.tell("ingest", &Word::Source(self.status.clone()).to_json());
    }
}

/// Host of a URL, with its port where that is not the usual one.
fn host_of(url: &str) -> String {
    let Ok(url) = Url::parse(url) else { return String::new() };
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_named_by_its_host() {
        assert_eq!(host_of("https://stream.wikimedia.org/v2/stream/recentchange"), "stream.wikimedia.org");
        assert_eq!(host_of("http://127.0.0.1:8400/v2/stream/a"), "127.0.0.1:8400");
    }
}
