//! A one-node, in-memory Kafka broker for one machine without Docker or Java.
//!
//! It speaks the real protocol over TCP, on loopback only: transactions with fencing, `read_committed`,
//! classic groups (eager and cooperative) and KIP-848 groups. It is not Apache Kafka: one copy, in memory,
//! the oldest records dropped past a cap, everything gone when it stops. Exactly-once holds across crashes of
//! its clients, not across its own.
//!
//! ```
//! let broker = broker::Broker::start(broker::Config::default()).unwrap();
//! assert!(broker.address().ip().is_loopback());
//! ```
//!
//! One thread per connection, one lock over all state, one condition variable that wakes whoever waits. The
//! single lock is what makes the end of a transaction (markers on many partitions, offsets of many groups)
//! atomic.
//!
//! | module | what |
//! | --- | --- |
//! | [`net`] | connections, frames, the version table; a malformed frame closes its connection |
//! | [`frame`] | checks every length in a request before anything is allocated for it |
//! | [`limits`], [`connections`], [`work`] | what it takes of its clients: bytes, time, connections, names |
//! | [`batch`], [`log`] | a record batch's bytes; a partition's log |
//! | [`catalog`] | the topics, and retention over all of them |
//! | [`group`] | both group protocols, committed offsets |
//! | [`transactions`] | producer ids, fencing, what a transaction touched |
//! | [`state`] | all that the lock covers |
//! | [`requests`] | what is answered to each request |
//! | [`settings`] | the settings of topics |
//! | [`command`] | its command line |

mod batch;
mod catalog;
pub mod command;
mod connections;
mod frame;
mod group;
mod limits;
mod log;
mod net;
mod requests;
mod settings;
mod state;
mod text;
mod time;
mod transactions;
mod work;

use std::net::SocketAddr;
use std::time::Duration;

pub use limits::LABELS as LIMITS;

/// Said at every start, because it is easy to forget.
pub const NOTICE: &str = "Embedded development broker: one node, in memory, loopback only, not Apache Kafka. Topics, offsets and \
     transactions are lost when it stops; oldest records are dropped past the cap. Exactly-once holds across \
     crashes of the services, not across a crash of this broker.";

/// Longest request frame that is no Produce, in bytes.
pub const MAX_OTHER_FRAME_BYTES: usize = 8 << 20;

/// How the broker runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Loopback port; 0 takes a free one.
    pub port: u16,
    /// Bytes of records kept over all partitions; the oldest go first.
    pub max_bytes: usize,
    /// Longest request frame, in bytes; of anything but Produce at most [`MAX_OTHER_FRAME_BYTES`].
    pub max_frame_bytes: usize,
    /// Session time-out of KIP-848 groups, which the broker decides.
    pub session_timeout: Duration,
    /// Heartbeat interval of KIP-848 groups.
    pub heartbeat_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            port: 0,
            max_bytes: 512 << 20,
            max_frame_bytes: 16 << 20,
            session_timeout: Duration::from_secs(6),
            heartbeat_interval: Duration::from_millis(500),
        }
    }
}

/// Whether a request is read: what stands behind its header, as it comes over the network.
#[must_use]
pub fn reads(key: i16, version: i16, body: &[u8]) -> bool {
    let Some(api) = frame::find(key, version) else { return false };
    let mut bytes = bytes::Bytes::copy_from_slice(body);
    frame::elements(api, version, body).is_some()
        && kafka_protocol::messages::RequestKind::decode(api.key, &mut bytes, version).is_ok()
}

/// A running broker; it stops when dropped.
#[derive(Debug)]
pub struct Broker {
    server: net::Server,
}

impl Broker {
    /// Starts the broker on a loopback port.
    ///
    /// # Errors
    /// The port cannot be listened on.
    pub fn start(config: Config) -> std::io::Result<Self> {
        Ok(Self { server: net::Server::start(config)? })
    }

    /// Where it listens: give this to a client as its bootstrap server.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// How often clients were refused, by limit, in the order of [`LIMITS`].
    #[must_use]
    pub fn refused(&self) -> Vec<u64> {
        self.server.refused()
    }

    /// Closes every connection and ends the threads.
    pub fn stop(&self) {
        self.server.stop();
    }
}
