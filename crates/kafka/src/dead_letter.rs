//! Headers of a dead letter: Kafka Connect's names, which every Kafka tool knows.

use schema::{Reason, Rejection};

/// Where a dead letter comes from.
#[derive(Clone, Debug)]
pub struct Origin<'a> {
    /// Topic, or the stream's name for what never was a record.
    pub topic: &'a str,
    /// Partition; −1 for what never was a record.
    pub partition: i32,
    /// Offset; −1 for what never was a record.
    pub offset: i64,
    /// The service that set it aside.
    pub service: &'a str,
    /// Which step could not read it.
    pub stage: &'a str,
}

/// The headers that say where a dead letter comes from and why; the original's own are kept beside them.
#[must_use]
pub fn headers(origin: &Origin<'_>, rejection: &Rejection) -> Vec<(&'static str, String)> {
    let Origin { topic, partition, offset, service, stage } = origin;
    vec![
        ("__connect.errors.topic", (*topic).to_owned()),
        ("__connect.errors.partition", partition.to_string()),
        ("__connect.errors.offset", offset.to_string()),
        ("__connect.errors.connector.name", (*service).to_owned()),
        ("__connect.errors.stage", (*stage).to_owned()),
        (REASON, rejection.reason.as_str().to_owned()),
        ("__connect.errors.exception.message", rejection.detail.clone()),
    ]
}

/// The header with the closed reason.
pub const REASON: &str = "__connect.errors.exception.class.name";

/// Every reason, as label values.
#[must_use]
pub fn reasons() -> [&'static str; Reason::ALL.len()] {
    Reason::ALL.map(Reason::as_str)
}
