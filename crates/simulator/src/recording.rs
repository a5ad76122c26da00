//! Replay of a recording: `.sse` frames byte for byte, or `.jsonl` events in frames of our own.

use std::path::Path;

use bytes::Bytes;
use schema::sse_id;
use serde_json::Value;

use crate::generator::TOPICS;

/// Event time between two lines of a `.jsonl` file, which carries no log times: 35 a second.
const LINE_INTERVAL_US: i64 = 28_571;

/// One event of a recording.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Source topic.
    pub topic: String,
    /// Log time, Unix milliseconds.
    pub log_time_ms: i64,
    /// `meta.offset`, where it can be read.
    pub offset: Option<i64>,
    /// `meta.id`, where it can be read.
    pub id: Option<String>,
    /// `type`, `canary`, or empty where it cannot be read.
    pub kind: String,
    /// The event.
    pub data: Bytes,
    /// The frame as recorded, its blank line included.
    pub frame: Option<Bytes>,
}

/// Reads a recording.
///
/// # Errors
/// One sentence that names the file.
pub fn read(path: &Path) -> Result<Vec<Recorded>, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let events = match path.extension().and_then(|extension| extension.to_str()) {
        Some("sse") => frames(&Bytes::from(bytes)),
        Some("jsonl" | "ndjson") => lines(&Bytes::from(bytes)),
        _ => return Err(format!("{} is neither .sse nor .jsonl", path.display())),
    };
    if events.is_empty() {
        return Err(format!("{} holds no events", path.display()));
    }
    Ok(events)
}

/// The frames of an `.sse` recording; comments such as `:ok` are not frames.
#[must_use]
pub fn frames(recording: &Bytes) -> Vec<Recorded> {
    let mut events: Vec<Recorded> = Vec::new();
    let mut start = 0;
    while start < recording.len() {
        let rest = recording.slice(start..);
        let end = rest.windows(2).position(|pair| pair == b"\n\n").map(|at| at + 2);
        // A last frame without its blank line was cut: a client must not see it as whole.
        let Some(end) = end else { break };
        let frame = rest.slice(..end);
        start += end;
        let field = |name: &[u8]| {
            let mut values = Vec::new();
            for line in frame.split(|byte| *byte == b'\n') {
                if let Some(value) = line.strip_prefix(name) {
                    values.push(value.strip_prefix(b" ").unwrap_or(value));
                }
            }
            values.join(&b'\n')
        };
        let data = Bytes::from(field(b"data:"));
        if data.is_empty() {
            continue;
        }
        let position = std::str::from_utf8(&field(b"id:")).ok().and_then(sse_id::parse).unwrap_or_default();
        let described = Described::of(&data);
        let timed = position.iter().find(|entry| entry.timestamp.is_some()).map(|entry| entry.topic.clone());
        let topic = described.topic.clone().or(timed).unwrap_or_else(|| TOPICS[0].to_owned());
        let previous = events.last().map_or(0, |event| event.log_time_ms);
        let log_time_ms = sse_id::log_time(&position, Some(&topic)).unwrap_or(previous);
        events.push(described.recorded(topic, log_time_ms, data, Some(frame)));
    }
    events
}

/// The events of a `.jsonl` file.
#[must_use]
pub fn lines(recording: &Bytes) -> Vec<Recorded> {
    let mut events: Vec<Recorded> = Vec::new();
    let mut epoch_ms = None;
    for line in recording.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let data = recording.slice_ref(line);
        let described = Described::of(&data);
        let first_ms = *epoch_ms.get_or_insert(described.dt_ms.unwrap_or(0));
        let passed_us = i64::try_from(events.len()).unwrap_or(0) * LINE_INTERVAL_US;
        let topic = described.topic.clone().unwrap_or_else(|| TOPICS[0].to_owned());
        events.push(described.recorded(topic, first_ms + passed_us / 1000, data, None));
    }
    events
}

/// What can be read of an event that may be anything.
struct Described {
    topic: Option<String>,
    offset: Option<i64>,
    id: Option<String>,
    kind: String,
    dt_ms: Option<i64>,
}

impl Described {
    fn of(data: &[u8]) -> Self {
        let value: Value = serde_json::from_slice(data).unwrap_or_default();
        let text = |field: &Value| field.as_str().map(str::to_owned);
        let meta = value.get("meta").cloned().unwrap_or_default();
        let stream = meta.get("stream").and_then(Value::as_str);
        let kind = if meta.get("domain").and_then(Value::as_str) == Some("canary") {
            "canary".to_owned()
        } else {
            value.get("type").and_then(text).unwrap_or_default()
        };
        let dt = meta.get("dt").and_then(Value::as_str).and_then(|dt| dt.parse::<jiff::Timestamp>().ok());
        Self {
            topic: meta.get("topic").and_then(text).or_else(|| stream.map(|stream| format!("eqiad.{stream}"))),
            offset: meta.get("offset").and_then(Value::as_i64),
            id: meta.get("id").and_then(text),
            kind,
            dt_ms: dt.map(|dt| dt.as_millisecond()),
        }
    }

    fn recorded(self, topic: String, log_time_ms: i64, data: Bytes, frame: Option<Bytes>) -> Recorded {
        Recorded { topic, log_time_ms, offset: self.offset, id: self.id, kind: self.kind, data, frame }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_keep_their_bytes_and_a_cut_one_is_none() {
        let text = ":ok\n\nevent: message\nid: [{\"topic\":\"eqiad.s\",\"partition\":0,\"timestamp\":1001}]\ndata: {\"meta\":{\"id\":\"a\"}}\n\nevent: message\ndata: {\"cut\"";
        let events = frames(&Bytes::from(text));
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].topic.as_str(), events[0].log_time_ms), ("eqiad.s", 1000));
        assert!(events[0].frame.as_ref().unwrap().ends_with(b"}}\n\n"));
    }

    #[test]
    fn what_cannot_be_parsed_is_replayed_all_the_same() {
        let events = frames(&Bytes::from_static(b"data: {\"meta\":\xff\n\ndata: [[[\n\n"));
        assert_eq!(events.len(), 2);
        assert_eq!(events[0].id, None);
    }
}
