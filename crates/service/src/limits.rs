//! What an HTTP server takes of its clients: bytes, time and connections. Who goes past a bound is counted.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};

/// The bounds of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Of them, from one address.
    pub connections_of_an_address: usize,
    /// Connections from this machine beyond these two bounds, which are answered for their health and nothing else.
    pub reserved: usize,
    /// Bytes of a request's line and headers.
    pub head_bytes: usize,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// How long things may take.
    pub times: Times,
}

/// How long a client may take for each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// From the first byte of a request to the end of its headers.
    pub head: Duration,
    /// For the body.
    pub body: Duration,
    /// Between two requests, or before the first one.
    pub idle: Duration,
    /// Without taking a byte of an answer.
    pub write: Duration,
}

/// What was refused or cut, as the metric's label has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There are [`Limits::connections`].
    Connections,
    /// There are [`Limits::connections_of_an_address`].
    ConnectionsOfAnAddress,
    /// A connection that was asking nothing made room for another.
    MadeRoom,
    /// Headers longer than [`Limits::head_bytes`], or more than 100 of them.
    HeadBytes,
    /// Headers that did not end in time.
    HeadTime,
    /// A body longer than [`Limits::body_bytes`].
    BodyBytes,
    /// A body that did not end in time.
    BodyTime,
    /// An answer that is not read.
    WriteTime,
    /// A `Host` that is not ours, or none.
    Host,
    /// More pages than a console shows itself to.
    Pages,
    /// Of them, from one address.
    PagesOfAnAddress,
}

impl Refused {
    /// Every one, by its label.
    pub(crate) const LABELS: [&str; 11] = [
        "connections",
        "connections_of_an_address",
        "made_room",
        "head_bytes",
        "head_time",
        "body_bytes",
        "body_time",
        "write_time",
        "host",
        "pages",
        "pages_of_an_address",
    ];

    /// As the metric's label has it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        Self::LABELS[self as usize]
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            connections_of_an_address: 32,
            reserved: 8,
            head_bytes: 64 << 10,
            body_bytes: 64 << 10,
            times: Times {
                head: Duration::from_secs(10),
                body: Duration::from_secs(10),
                idle: Duration::from_secs(60),
                write: Duration::from_secs(30),
            },
        }
    }
}

impl Limits {
    /// With no more connections than a quarter of the descriptors that this process may have: Kafka, the database and
    /// the stream need theirs.
    #[must_use]
    pub(crate) fn within_descriptors(self) -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.and_then(|most| usize::try_from(most).ok());
        let most = descriptors.map_or(usize::MAX, |descriptors| (descriptors / 4).max(1));
        Self { connections: self.connections.min(most), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stand_in_the_order_of_what_they_name() {
        assert_eq!(Refused::Connections.label(), "connections");
        assert_eq!(Refused::HeadTime.label(), "head_time");
        assert_eq!(Refused::Host.label(), "host");
        assert_eq!(Refused::PagesOfAnAddress.label(), "pages_of_an_address");
        assert_eq!(Refused::LABELS.len(), Refused::PagesOfAnAddress as usize + 1);
    }
}
