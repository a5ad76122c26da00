//! Flags of the ingest service.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::time::Duration;

use kafka::{AcceptedPlaces, KafkaConfig};
use service::Failure;

use crate::source::reach::Reach;

/// Where the very first start begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the present.
    Now,
    /// As far back as the stream holds.
    Earliest,
    /// At an instant, Unix milliseconds.
    At(i64),
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "now" => Ok(Self::Now),
            "earliest" => Ok(Self::Earliest),
            _ => text
                .parse::<jiff::Timestamp>()
                .map(|time| Self::At(time.as_millisecond()))
                .map_err(|_| "a start is now, earliest, or an instant such as 2026-01-31T12:00:00Z".to_owned()),
        }
    }
}

/// A type of change and the topic that it goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `type` of the event.
    pub change_type: String,
    /// Topic, without the prefix.
    pub topic: String,
}

impl FromStr for Route {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((kind, topic)) if !kind.is_empty() && !topic.is_empty() => {
                Ok(Self { change_type: kind.to_owned(), topic: topic.to_owned() })
            }
            _ => Err("a route is TYPE=TOPIC, such as log=wikipedia-raw-log".to_owned()),
        }
    }
}

/// What the ingest service can be told.
#[derive(clap::Args, Clone, Debug)]
pub struct Config {
    /// The cluster and its topics.
    #[command(flatten)]
    pub kafka: KafkaConfig,
    /// The stream.
    #[command(flatten)]
    pub stream: StreamConfig,
    /// What goes where.
    #[command(flatten)]
    pub raw: RawConfig,
    /// Where the very first start begins: now, earliest, or an instant.
    #[arg(long, env = "WIKI_START", value_name = "START", default_value = "now")]
    pub start: Start,
    /// End where Kafka does not answer at the start, instead of waiting for it.
    #[arg(long, env = "WIKI_REQUIRE_HEALTHY")]
    pub require_healthy: bool,
    /// Continue a sequence at this place, as the service prints it when it stops; its end is not known.
    #[arg(long, env = "WIKI_ACCEPT_LOST_HISTORY", value_name = "TOPIC/PARTITION@POSITION,…", default_value = "")]
    pub accept_lost_history: AcceptedPlaces,
}

/// The stream, and how its connections are made.
#[derive(clap::Args, Clone, Debug)]
pub struct StreamConfig {
    /// The stream.
    #[arg(
        long,
        env = "WIKI_STREAM_URL",
        hide_env_values = true,
        value_name = "URL",
        default_value = "https://stream.wikimedia.org/v2/stream/recentchange",
        value_parser = stream_url
    )]
    pub stream_url: String,
    /// Hosts that a stream may come from without TLS, and from an address inside a network; besides this machine.
    #[arg(long, env = "WIKI_STREAM_ALLOWED_HOSTS", value_name = "HOST,…", value_delimiter = ',')]
    pub stream_allowed_hosts: Vec<String>,
    /// Where Wikimedia can reach you, for the User-Agent: an e-mail address or a page.
    #[arg(long, env = "WIKI_CONTACT", value_name = "CONTACT", default_value = "")]
    pub contact: String,
    /// How far behind the last event a resume begins, in seconds of log time.
    #[arg(long, env = "WIKI_RESUME_MARGIN_SECONDS", value_name = "SECONDS", default_value_t = 30)]
    pub resume_margin_seconds: u32,
    /// How far back the stream keeps events, in hours. A first start that asks for more and gets less is recorded as a gap.
    #[arg(long, env = "WIKI_STREAM_RETENTION_HOURS", value_name = "HOURS", default_value_t = 168)]
    pub stream_retention_hours: u32,
    /// A connection without an event for this long is cut, in milliseconds.
    #[arg(long, env = "WIKI_STREAM_IDLE_MS", value_name = "MS", default_value_t = 45_000)]
    pub stream_idle_ms: u64,
    /// Longest time to connect, in milliseconds.
    #[arg(long, env = "WIKI_STREAM_CONNECT_MS", value_name = "MS", default_value_t = 10_000)]
    pub stream_connect_ms: u64,
    /// Shortest wait before connecting again, in milliseconds.
    #[arg(long, env = "WIKI_BACKOFF_MIN_MS", value_name = "MS", default_value_t = 1_000)]
    pub backoff_min_ms: u64,
    /// Longest wait before connecting again, in milliseconds.
    #[arg(long, env = "WIKI_BACKOFF_MAX_MS", value_name = "MS", default_value_t = 60_000)]
    pub backoff_max_ms: u64,
    /// Send the id back as received when resuming. It loses edits; for teaching and for the test that counts them.
    #[arg(long, env = "WIKI_NAIVE_RESUME", hide = true)]
    pub naive_resume: bool,
}

impl StreamConfig {
    /// What is allowed of the stream's host.
    ///
    /// # Errors
    /// A sentence, where the URL asks for more.
    pub fn reach(&self) -> Result<Reach, String> {
        let url = reqwest::Url::parse(&self.stream_url).map_err(|error| error.to_string())?;
        let reach = Reach::of(&url, &self.stream_allowed_hosts);
        reach.check(&url).map(|()| reach)
    }
}

/// The changes that are kept, and the topics that they go to.
#[derive(clap::Args, Clone, Debug)]
pub struct RawConfig {
    /// Types of changes that go to the raw topic.
    #[arg(long, env = "WIKI_EVENT_TYPES", value_name = "TYPE,…", value_delimiter = ',', default_value = "edit")]
    pub event_types: Vec<String>,
    /// Types of changes that go to topics of their own.
    #[arg(long, env = "WIKI_ROUTES", value_name = "TYPE=TOPIC,…", value_delimiter = ',')]
    pub routes: Vec<Route>,
    /// Partitions of the topics, where they have to be made.
    #[arg(long, env = "WIKI_PARTITIONS", default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..=1000))]
    pub partitions: i32,
    /// Copies of the topics, where they have to be made.
    #[arg(long, env = "WIKI_REPLICATION_FACTOR", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=100))]
    pub replication_factor: i32,
}

impl Config {
    /// Checks what one option alone cannot.
    ///
    /// # Errors
    /// [`Failure::Config`] in one sentence.
    pub fn check(&self) -> Result<(), Failure> {
        if self.stream.backoff_min_ms > self.stream.backoff_max_ms {
            return Err(Failure::Config(
                "--backoff-min-ms (or WIKI_BACKOFF_MIN_MS) cannot be above --backoff-max-ms".to_owned(),
            ));
        }
        self.stream.reach().map(drop).map_err(Failure::Config)
    }

    /// The names of the streams in the URL.
    #[must_use]
    pub fn streams(&self) -> String {
        streams_of(&self.stream.stream_url)
    }

    /// The topic of each type of change that is kept.
    #[must_use]
    pub fn topic_of_type(&self) -> BTreeMap<String, String> {
        let topics = self.kafka.topics();
        let mut routes: BTreeMap<String, String> =
            self.raw.event_types.iter().map(|kind| (kind.clone(), topics.raw.clone())).collect();
        routes.extend(self.raw.routes.iter().map(|route| (route.change_type.clone(), topics.prefixed(&route.topic))));
        routes
    }

    /// The topics that changes go to; the raw topic is always one.
    #[must_use]
    pub fn raw_topics(&self) -> BTreeSet<String> {
        let mut topics: BTreeSet<String> = self.topic_of_type().into_values().collect();
        topics.insert(self.kafka.topics().raw);
        topics
    }

    /// The resume margin in milliseconds.
    #[must_use]
    pub fn margin_ms(&self) -> i64 {
        i64::from(self.stream.resume_margin_seconds) * 1000
    }

    /// The bounds of one connection.
    #[must_use]
    pub const fn limits(&self) -> crate::source::Limits {
        crate::source::Limits {
            connect: Duration::from_millis(self.stream.stream_connect_ms),
            idle: Duration::from_millis(self.stream.stream_idle_ms),
        }
    }
}

fn streams_of(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    path.split_once("/v2/stream/").map_or_else(String::new, |(_, streams)| streams.trim_matches('/').to_owned())
}

fn stream_url(text: &str) -> Result<String, String> {
    let url = reqwest::Url::parse(text).map_err(|error| error.to_string())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a stream's URL holds no user and no password: it stands in logs".to_owned());
    }
    if matches!(url.scheme(), "http" | "https") && !streams_of(text).is_empty() {
        return Ok(text.to_owned());
    }
    Err("a stream's URL is http(s)://HOST/v2/stream/NAME".to_owned())
}
