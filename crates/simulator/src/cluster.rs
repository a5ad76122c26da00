//! The clusters that may serve a connection: the same events, numbered otherwise.

/// How far apart two clusters number the same event.
const CLUSTER_SHIFT: i64 = 1_000_000_000;

/// The cluster that serves a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// It numbers the same events otherwise than the first one.
    pub is_second: bool,
    /// It lacks so many of the last events of each topic.
    pub lag: u64,
    /// It no longer holds what is older than this.
    pub held_seconds: Option<u32>,
}

impl Cluster {
    /// The offset that this cluster gives to an event.
    #[must_use]
    pub const fn offset(self, offset: i64) -> i64 {
        if self.is_second { offset + CLUSTER_SHIFT } else { offset }
    }

    /// The log time of the first events that it still holds.
    #[must_use]
    pub fn oldest_ms(self, now_ms: i64) -> i64 {
        self.held_seconds.map_or(i64::MIN, |seconds| now_ms - i64::from(seconds) * 1000)
    }
}
