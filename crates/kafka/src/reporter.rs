//! A producer for words that may be lost: it waits for nobody, and drops what it cannot send.

use std::time::{Duration, Instant};

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::context::Context;

/// How long one poll for delivery reports may take.
const POLL: Duration = Duration::from_millis(10);
/// Long enough to serve all that came since the last word; a poll of no time at all serves one event.
const SERVE: Duration = Duration::from_millis(1);

/// Sends words to one topic, at most once each.
pub struct Reporter {
    producer: BaseProducer<Context>,
    topic: String,
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reporter").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Reporter {
    pub(crate) const fn new(producer: BaseProducer<Context>, topic: String) -> Self {
        Self { producer, topic }
    }

    /// Hands a word over; it is dropped where the client's queue is full.
    pub fn tell(&self, key: &str, value: &[u8]) {
        // Reports of what was not delivered are taken out of the queue here; nothing follows from them.
        self.producer.poll(SERVE);
        if let Err((error, _)) = self.producer.send(BaseRecord::to(&self.topic).key(key).payload(value)) {
            tracing::debug!(%error, topic = self.topic, "a word about ourselves was dropped");
        }
    }

    /// Waits until what was handed over is sent, at most `limit`. Blocks.
    pub fn finish(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            self.producer.poll(POLL);
        }
    }
}
