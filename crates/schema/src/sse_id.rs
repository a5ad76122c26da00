//! The position that EventStreams puts into each SSE `id:` line and reads from `Last-Event-ID`.

use serde::{Deserialize, Serialize};

/// One source topic's entry in an SSE id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePosition {
    /// Source topic, such as `eqiad.mediawiki.recentchange`.
    pub topic: String,
    /// Source partition; 0 in every recording.
    pub partition: i32,
    /// Source offset, or −1 for "latest".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// Log time in Unix milliseconds; after an event its own log time + 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<i64>,
}

/// Reads an SSE id; `None` where it is not one.
///
/// The entries' order carries no meaning: it changes after a resume.
#[must_use]
pub fn parse(id: &str) -> Option<Vec<SourcePosition>> {
    serde_json::from_str(id).ok()
}

/// The log time of the event of `source_topic` that carries this id; without a topic, the greatest time in it.
///
/// The server writes "last log time + 1" into its topic's entry.
#[must_use]
pub fn log_time(id: &[SourcePosition], source_topic: Option<&str>) -> Option<i64> {
    let times = |wanted: Option<&str>| {
        id.iter()
            .filter(|entry| wanted.is_none_or(|topic| entry.topic == topic))
            .filter_map(|entry| entry.timestamp)
            .max()
    };
    times(source_topic).or_else(|| times(None)).map(|time| time.saturating_sub(1))
}

/// A `Last-Event-ID` of these positions.
#[must_use]
pub fn to_header(positions: &[SourcePosition]) -> String {
    // Strings and integers only: this cannot fail.
    serde_json::to_string(positions).unwrap_or_default()
}

/// The position of one source topic by log time: what its log took in at `at_ms` or later.
///
/// On a topic with nothing newer it means "latest", so it costs nothing.
#[must_use]
pub fn by_time(topic: &str, partition: i32, at_ms: i64) -> SourcePosition {
    SourcePosition { topic: topic.to_owned(), partition, offset: None, timestamp: Some(at_ms.max(0)) }
}

/// The position of one source topic by offset, which belongs to one cluster.
#[must_use]
pub fn by_offset(topic: &str, partition: i32, offset: i64) -> SourcePosition {
    SourcePosition { topic: topic.to_owned(), partition, offset: Some(offset), timestamp: None }
}

/// The source topics of a stream path such as `recentchange` or `recentchange,page-create`: one per data centre.
#[must_use]
pub fn source_topics(streams: &str) -> Vec<String> {
    let full_names = streams.split(',').filter(|name| !name.is_empty()).map(full_name);
    full_names.flat_map(|name| DATA_CENTRES.map(|centre| format!("{centre}.{name}"))).collect()
}

/// The data centres whose topics make up a stream.
pub const DATA_CENTRES: [&str; 2] = ["eqiad", "codfw"];

/// Short names that the service accepts.
pub const ALIASES: [&str; 8] = [
    "page-create",
    "page-delete",
    "page-links-change",
    "page-move",
    "page-properties-change",
    "page-undelete",
    "recentchange",
    "revision-create",
];

/// The full name of a stream: its alias behind `mediawiki.`, or itself.
#[must_use]
pub fn full_name(stream: &str) -> String {
    if stream == "test" {
        return "eventgate-main.test.event".to_owned();
    }
    if ALIASES.contains(&stream) {
        return format!("mediawiki.{stream}");
    }
    stream.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = r#"[{"topic":"eqiad.mediawiki.recentchange","partition":0,"offset":-1},{"topic":"codfw.mediawiki.recentchange","partition":0,"timestamp":1630070417001}]"#;

    #[test]
    fn the_log_time_is_one_less_than_the_ids() {
        let id = parse(ID).unwrap();
        assert_eq!(log_time(&id, Some("codfw.mediawiki.recentchange")), Some(1_630_070_417_000));
        assert_eq!(log_time(&id, None), Some(1_630_070_417_000));
        assert_eq!(log_time(&id, Some("eqiad.mediawiki.recentchange")), Some(1_630_070_417_000));
    }

    #[test]
    fn a_header_names_times_and_offsets() {
        let header = to_header(&[by_time("eqiad.s", 0, -5), by_offset("codfw.s", 1, 7)]);
        assert_eq!(
            header,
            r#"[{"topic":"eqiad.s","partition":0,"timestamp":0},{"topic":"codfw.s","partition":1,"offset":7}]"#
        );
    }

    #[test]
    fn streams_without_an_alias_keep_their_name() {
        assert_eq!(full_name("mediawiki.page_change.v1"), "mediawiki.page_change.v1");
        assert_eq!(full_name("test"), "eventgate-main.test.event");
        assert_eq!(source_topics("recentchange,test").len(), 4);
    }

    #[test]
    fn nonsense_is_not_an_id() {
        for nonsense in ["", "latest", "{}", "[1]", r#"[{"topic":5}]"#] {
            assert_eq!(parse(nonsense), None, "{nonsense}");
        }
    }
}
