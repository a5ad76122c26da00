//! Topic names, in one place.

/// The topics of one pipeline; all begin with the same prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    prefix: String,
    /// Events as received.
    pub raw: String,
    /// Enriched edits.
    pub events: String,
    /// Holding its one partition makes an ingest replica the acting one.
    pub ingest: String,
    /// The gap ledger.
    pub gaps: String,
    /// What sinks say of themselves.
    pub control: String,
}

impl Topics {
    /// Names the topics of one pipeline.
    #[must_use]
    pub fn new(prefix: &str, raw: &str, events: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            raw: format!("{prefix}{raw}"),
            events: format!("{prefix}{events}"),
            ingest: format!("{prefix}wikipedia-ingest"),
            gaps: format!("{prefix}wikipedia-gaps"),
            control: format!("{prefix}wikipedia-control"),
        }
    }

    /// A topic of the operator's own, such as a route's.
    #[must_use]
    pub fn prefixed(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Where what could not be read from, or into, `topic` is set aside.
    #[must_use]
    pub fn dead_letters_of(&self, topic: &str) -> String {
        let bare = topic.strip_prefix(&self.prefix).unwrap_or(topic);
        format!("{}dlq.{bare}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_stands_before_every_topic() {
        let topics = Topics::new("t1-", "wikipedia-raw", "wikipedia-events");
        assert_eq!(topics.raw, "t1-wikipedia-raw");
        assert_eq!(topics.dead_letters_of(&topics.raw), "t1-dlq.wikipedia-raw");
        assert_eq!(topics.prefixed("raw-log"), "t1-raw-log");
    }
}
