//! Where the demo's edits come from.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::{Ipv4Addr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ingest::config::Start;
use service::text::shown_url;
use service::{CancellationToken, Failure, Service};
use simulator::Simulator;
use simulator::config::Rate;
use tokio::net::{TcpListener, TcpStream};

use super::Options;
use crate::audit::Made;

/// The public stream.
const LIVE_URL: &str = "https://stream.wikimedia.org/v2/stream/recentchange";
const LIVE_HOST: (&str, u16) = ("stream.wikimedia.org", 443);
/// How long the public stream may take to be reached.
const PROBE_LIMIT: Duration = Duration::from_secs(1);

/// What `--source` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SourceChoice {
    Auto,
    Live,
    Generated,
    Url(String),
    File(PathBuf),
}

impl FromStr for SourceChoice {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "auto" => Self::Auto,
            "live" => Self::Live,
            "generated" => Self::Generated,
            url if url.starts_with("http://") || url.starts_with("https://") => Self::Url(url.to_owned()),
            file => Self::File(PathBuf::from(file)),
        })
    }
}

/// An open source.
#[derive(Debug)]
pub(crate) struct Source {
    url: String,
    described: String,
    start: Start,
    simulator: Option<Simulator>,
}

impl Source {
    /// Opens what was chosen.
    pub(crate) async fn open(options: &Options, parts: &CancellationToken) -> Result<Self, Failure> {
        let outside =
            |url: &str, described: String| Self { url: url.to_owned(), described, start: Start::Now, simulator: None };
        match &options.source {
            SourceChoice::Live => Ok(outside(LIVE_URL, "live edits from Wikimedia".to_owned())),
            SourceChoice::Url(url) => Ok(outside(url, format!("the stream at {}", shown_url(url)))),
            SourceChoice::Auto if is_reachable().await => Ok(outside(LIVE_URL, "live edits from Wikimedia".to_owned())),
            SourceChoice::Auto => {
                Self::generated(options, parts, "generated, since Wikimedia's stream cannot be reached from here").await
            }
            SourceChoice::Generated => Self::generated(options, parts, "generated").await,
            SourceChoice::File(path) => {
                let config =
                    simulator::Config { events: Some(path.clone()), rate: Rate::Max, ..simulator::Config::default() };
                let described = format!("the recording {}, replayed at full speed", path.display());
                Self::simulated(&config, parts, described, Start::Earliest).await
            }
        }
    }

    async fn generated(options: &Options, parts: &CancellationToken, why: &str) -> Result<Self, Failure> {
        let config = simulator::Config { seed: Some(options.seed), ..simulator::Config::default() };
        let described = format!("{why}: a seeded simulator, 35 events a second, no real people or pages");
        Self::simulated(&config, parts, described, Start::Earliest).await
    }

    async fn simulated(
        config: &simulator::Config,
        parts: &CancellationToken,
        described: String,
        start: Start,
    ) -> Result<Self, Failure> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(|error| Failure::Runtime(format!("the simulator cannot listen: {error}")))?;
        let simulator = Simulator::start(config, &Service::new("simulator", parts.child_token()), listener)?;
        let streams = streams_of(&simulator.topics());
        let url = format!("http://{}/v2/stream/{streams}", simulator.address);
        Ok(Self { url, described, start, simulator: Some(simulator) })
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// The host of a URL that was given.
    pub(crate) fn host(&self) -> Option<String> {
        let url = reqwest::Url::parse(&self.url).ok()?;
        Some(url.host_str()?.to_owned())
    }

    pub(crate) fn describe(&self) -> &str {
        &self.described
    }

    pub(crate) const fn start(&self) -> Start {
        self.start
    }

    /// Makes no more events; false where they are not made here.
    pub(crate) fn stop(&self) -> bool {
        if let Some(simulator) = &self.simulator {
            simulator.stop_growing();
        }
        self.simulator.is_some()
    }

    /// The edits that were made, where it can be known.
    pub(crate) fn made(&self) -> Option<Made> {
        let simulator = self.simulator.as_ref()?;
        Some(simulator.made("edit")?.into_iter().map(|made| (made.id.clone(), made)).collect())
    }
}

/// The stream names whose source topics a recording holds.
fn streams_of(topics: &[String]) -> String {
    let names: BTreeSet<&str> = topics.iter().filter_map(|topic| Some(topic.split_once('.')?.1)).collect();
    let names: Vec<&str> = names.into_iter().collect();
    names.join(",")
}

/// Whether the public stream's port answers in time.
async fn is_reachable() -> bool {
    let probe = async {
        let (host, port) = LIVE_HOST;
        let looked_up = tokio::task::spawn_blocking(move || (host, port).to_socket_addrs()).await;
        let Ok(Ok(addresses)) = looked_up else { return false };
        for address in addresses {
            if TcpStream::connect(address).await.is_ok() {
                return true;
            }
        }
        false
    };
    tokio::time::timeout(PROBE_LIMIT, probe).await.unwrap_or(false)
}
