//! Replay of a recording: `.sse` frames byte for byte, or `.jsonl` events in frames of our own.

use std::path::Path;

use bytes::Bytes;
use schema::sse_id;
use serde_json::Value;

use crate::generator::TOPICS;

/// Event time between two lines of a `.jsonl` file, which carries no log times: 35 a second.
const LINE_INTERVAL_US: i64 = 28_571;

/// The kind of an `event: error`: it ends a connection, and is sent once.
pub const ERROR: &str = "error";

/// A byte order mark in UTF-8.
pub const MARK: &[u8] = b"\xef\xbb\xbf";

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
    /// `type`, `canary`, `error` of an `event: error`, or empty where it cannot be read.
    pub kind: String,
    /// The event.
    pub data: Bytes,
    /// The frame as recorded, its blank line included.
    pub frame: Option<Bytes>,
}

/// What a file holds.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Its events.
    pub events: Vec<Recorded>,
    /// It begins with a byte order mark, and so does every connection.
    pub has_mark: bool,
}

/// Reads a recording.
///
/// # Errors
/// One sentence that names the file.
pub fn read(path: &Path) -> Result<Recording, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let has_mark = bytes.starts_with(MARK);
    let events = match path.extension().and_then(|extension| extension.to_str()) {
        Some("sse") => frames(&Bytes::from(bytes)),
        Some("jsonl" | "ndjson") => lines(&Bytes::from(bytes)),
        _ => return Err(format!("{} is neither .sse nor .jsonl", path.display())),
    };
    if events.is_empty() {
        return Err(format!("{} holds no events", path.display()));
    }
    Ok(Recording { events, has_mark })
}

/// A block of an `.sse` recording, by the rules of the standard.
#[derive(Default)]
struct Block {
    event: Vec<u8>,
    id: Vec<u8>,
    data: Vec<Vec<u8>>,
}

impl Block {
    /// Takes a line: a field, a comment, or something that is stepped over.
    fn line(&mut self, line: &[u8]) {
        let at = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, rest) = line.split_at(at);
        let value = rest.strip_prefix(b":").unwrap_or(rest);
        let value = value.strip_prefix(b" ").unwrap_or(value).to_vec();
        match name {
            b"event" => self.event = value,
            b"id" => self.id = value,
            b"data" => self.data.push(value),
            _ => {}
        }
    }
}

/// The frames of an `.sse` recording as a client dispatches them: a byte order mark, CR, LF and CRLF, several data
/// lines, comments and unknown fields are what the standard makes of them. Each frame keeps its bytes.
#[must_use]
pub fn frames(recording: &Bytes) -> Vec<Recorded> {
    let mut events: Vec<Recorded> = Vec::new();
    let mut block = Block::default();
    let mut at = if recording.starts_with(MARK) { MARK.len() } else { 0 };
    let mut frame_start = at;
    // A last frame without its blank line was cut: a client must not see it as whole.
    while let Some(length) =
        recording.get(at..).and_then(|rest| rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')))
    {
        let line = recording.slice(at..at + length);
        let rest = recording.get(at + length..).unwrap_or_default();
        at += length + if rest.starts_with(b"\r\n") { 2 } else { 1 };
        if !line.is_empty() {
            block.line(&line);
            continue;
        }
        let frame = recording.slice(frame_start..at);
        frame_start = at;
        events.extend(recorded(std::mem::take(&mut block), frame, events.last()));
    }
    events
}

/// The event of a block; none without data.
fn recorded(block: Block, frame: Bytes, previous: Option<&Recorded>) -> Option<Recorded> {
    let data = Bytes::from(block.data.join(&b'\n'));
    if data.is_empty() {
        return None;
    }
    let position = std::str::from_utf8(&block.id).ok().and_then(sse_id::parse).unwrap_or_default();
    let mut described = Described::of(&data);
    if block.event == b"error" {
        described = Described { kind: ERROR.to_owned(), id: None, ..described };
    }
    let timed = position.iter().find(|entry| entry.timestamp.is_some()).map(|entry| entry.topic.clone());
    let topic = described.topic.clone().or(timed).unwrap_or_else(|| TOPICS[0].to_owned());
    let previous_ms = previous.map_or(0, |event| event.log_time_ms);
    let log_time_ms = sse_id::log_time(&position, Some(&topic)).unwrap_or(previous_ms);
    Some(described.recorded(topic, log_time_ms, data, Some(frame)))
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
    fn a_recording_is_read_by_the_rules_of_the_standard_and_keeps_its_bytes() {
        for end in ["\n", "\r\n", "\r"] {
            let lines = [
                "\u{feff}:ok",
                "",
                "unknown: x",
                "data: {\"meta\":",
                "data:{\"id\":\"a\"}}",
                "id: 1",
                "",
                "data",
                "",
                "data: y",
                "",
            ];
            let text = format!("{}{end}", lines.join(end));
            let events = frames(&Bytes::from(text.clone()));
            assert_eq!(events.len(), 2, "{end:?}");
            assert_eq!(
                (&events[0].data[..], events[0].id.as_deref()),
                (&b"{\"meta\":\n{\"id\":\"a\"}}"[..], Some("a"))
            );
            let bytes: Vec<u8> = events.iter().flat_map(|event| event.frame.clone().unwrap()).collect();
            assert!(text.as_bytes().windows(bytes.len()).any(|window| window == bytes) || bytes.len() < text.len());
        }
    }

    #[test]
    fn an_error_event_is_told_from_an_event() {
        let events =
            frames(&Bytes::from_static(b"event: error\ndata: {\"meta\":{\"id\":\"a\"},\"type\":\"edit\"}\n\n"));
        assert_eq!((events[0].kind.as_str(), &events[0].id), (ERROR, &None));
    }

    #[test]
    fn what_cannot_be_parsed_is_replayed_all_the_same() {
        let events = frames(&Bytes::from_static(b"data: {\"meta\":\xff\n\ndata: [[[\n\n"));
        assert_eq!(events.len(), 2);
        assert_eq!(events[0].id, None);
    }
}
