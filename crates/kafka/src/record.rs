//! A consumed record: place, key, value, headers.

use rdkafka::message::{BorrowedMessage, Headers as _, Message, OwnedMessage};
use schema::record::HeaderSource;

/// A record as it was consumed.
#[derive(Debug)]
pub struct Record<M>(pub(crate) M);

/// A record in the client's memory, until the next one is asked for.
pub type BorrowedRecord<'a> = Record<BorrowedMessage<'a>>;

/// A record that is kept.
pub type OwnedRecord = Record<OwnedMessage>;

impl<M: Message> Record<M> {
    /// Its topic.
    pub fn topic(&self) -> &str {
        self.0.topic()
    }

    /// When it was written, Unix milliseconds.
    pub fn timestamp_ms(&self) -> Option<i64> {
        self.0.timestamp().to_millis()
    }

    /// Its partition.
    pub fn partition(&self) -> i32 {
        self.0.partition()
    }

    /// Its offset.
    pub fn offset(&self) -> i64 {
        self.0.offset()
    }

    /// Its key; empty where it is null.
    pub fn key(&self) -> &[u8] {
        self.0.key().unwrap_or_default()
    }

    /// Its value; empty where it is null.
    pub fn value(&self) -> &[u8] {
        self.0.payload().unwrap_or_default()
    }

    /// Its headers in their order; a null value is `None`.
    pub fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.0.headers().into_iter().flat_map(|all| all.iter().map(|header| (header.key, header.value)))
    }
}

impl<M: Message> From<M> for Record<M> {
    fn from(message: M) -> Self {
        Self(message)
    }
}

impl BorrowedRecord<'_> {
    /// Copies it.
    #[must_use]
    pub fn detach(&self) -> OwnedRecord {
        Record(self.0.detach())
    }
}

impl<M: Message> HeaderSource for Record<M> {
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.0.headers()?.iter().find(|header| header.key == name)?.value
    }
}
