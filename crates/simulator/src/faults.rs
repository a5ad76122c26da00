//! What goes wrong, and when. Set by flags, changed while it runs by `PUT /faults`.

use serde::{Deserialize, Serialize};

use crate::cluster::Cluster;

/// The faults in force. Everything off is a healthy service.
#[derive(clap::Args, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// End each connection after this many milliseconds; the real service does at 15 minutes.
    #[arg(long, env = "WIKI_SIMULATOR_LIFETIME_MS", value_name = "MS", default_value_t = 900_000)]
    pub lifetime_ms: u64,
    /// End a connection that has had no event for this long; the real service does at about 60 seconds.
    #[arg(long, env = "WIKI_SIMULATOR_IDLE_MS", value_name = "MS", default_value_t = 60_000)]
    pub idle_ms: u64,
    /// Cut each connection after this many events, in the middle of the next frame.
    #[arg(long, env = "WIKI_SIMULATOR_CUT_AFTER", value_name = "EVENTS")]
    pub cut_after: Option<u64>,
    /// Send nothing behind `:ok`, and keep the connection open.
    #[arg(long, env = "WIKI_SIMULATOR_SILENT")]
    pub silent: bool,
    /// Answer the next connections with this status instead (403, 429, 502, 503, …).
    #[arg(long, env = "WIKI_SIMULATOR_STATUS", value_name = "CODE")]
    pub status: Option<u16>,
    /// How many connections get that status.
    #[arg(long, env = "WIKI_SIMULATOR_STATUS_TIMES", value_name = "N", default_value_t = 1)]
    pub status_times: u32,
    /// `Retry-After` of that status, in seconds.
    #[arg(long, env = "WIKI_SIMULATOR_RETRY_AFTER", value_name = "SECONDS")]
    pub retry_after: Option<u32>,
    /// Write `Retry-After` as a date.
    #[arg(long, env = "WIKI_SIMULATOR_RETRY_AFTER_DATE")]
    pub retry_after_date: bool,
    /// Send every frame in pieces of this many bytes.
    #[arg(long, env = "WIKI_SIMULATOR_PIECE_BYTES", value_name = "BYTES")]
    pub piece_bytes: Option<usize>,
    /// Send an `event: error` after this many events and end the response.
    #[arg(long, env = "WIKI_SIMULATOR_ERROR_AFTER", value_name = "EVENTS")]
    pub error_after: Option<u64>,
    /// Answer with a redirect to this place.
    #[arg(long, env = "WIKI_SIMULATOR_REDIRECT", value_name = "URL")]
    pub redirect: Option<String>,
    /// Make no new events; what is there is served on.
    #[arg(long, env = "WIKI_SIMULATOR_FROZEN")]
    pub frozen: bool,
    /// Serve from a second cluster, which numbers the same events otherwise.
    #[arg(long, env = "WIKI_SIMULATOR_SECOND_CLUSTER")]
    pub second_cluster: bool,
    /// How many of the last events of each topic the second cluster lacks.
    #[arg(long, env = "WIKI_SIMULATOR_CLUSTER_LAG", value_name = "EVENTS", default_value_t = 0)]
    pub cluster_lag: u64,
    /// Serve nothing that is older than this, as if it were forgotten.
    #[arg(long, env = "WIKI_SIMULATOR_HELD_SECONDS", value_name = "SECONDS")]
    pub held_seconds: Option<u32>,
    /// Make new events in the other data centre.
    #[arg(long, env = "WIKI_SIMULATOR_SWITCHED")]
    pub switched: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            lifetime_ms: 900_000,
            idle_ms: 60_000,
            cut_after: None,
            silent: false,
            status: None,
            status_times: 1,
            retry_after: None,
            retry_after_date: false,
            piece_bytes: None,
            error_after: None,
            redirect: None,
            frozen: false,
            second_cluster: false,
            cluster_lag: 0,
            held_seconds: None,
            switched: false,
        }
    }
}

impl Faults {
    /// The cluster that serves.
    #[must_use]
    pub const fn cluster(&self) -> Cluster {
        Cluster { is_second: self.second_cluster, lag: self.cluster_lag, held_seconds: self.held_seconds }
    }
}
