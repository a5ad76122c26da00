//! What a request asks for, and how the real service refuses it: same order of checks, same words.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schema::sse_id::{self, ALIASES, SourcePosition};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::log::{Cursor, Log};

/// Streams without a short name.
const FULL_ONLY: [&str; 5] = [
    "eventgate-main.test.event",
    "mediawiki.page_change.v1",
    "mediawiki.revision-tags-change",
    "mediawiki.revision-visibility-change",
    "test",
];
/// Beginnings of the User-Agents that the edge refuses.
const LIBRARY_AGENTS: [&str; 7] =
    ["python-requests/", "okhttp/", "Go-http-client/", "curl/", "Java/", "axios/", "node-fetch"];

/// A refusal, as the service words it.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// By the edge: no descriptive User-Agent.
    Forbidden,
    /// By the service: status, type, title, detail.
    Service(u16, &'static str, &'static str, String),
    /// By its Kafka client: status, name, message, extra fields.
    Kafka(u16, &'static str, String, Value),
}

impl Refusal {
    /// Too many connections of one address.
    #[must_use]
    pub fn too_many() -> Self {
        Self::Service(
            429,
            "too_many_requests",
            "Too Many Concurrent Connections From Your Client IP",
            "Your HTTP client is likely opening too many concurrent connections.".to_owned(),
        )
    }

    /// The response, for a request to `uri`.
    #[must_use]
    pub fn response(&self, uri: &str) -> Response {
        let status = |code: u16| StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        match self {
            Self::Forbidden => {
                (StatusCode::FORBIDDEN, "Please set a user-agent and respect our robot policy.\n").into_response()
            }
            Self::Service(code, kind, title, detail) => {
                let words = |text: &str| serde_json::to_string(text).unwrap_or_default();
                let body = format!(
                    "{{\"status\":{code},\"type\":{},\"title\":{},\"detail\":{},\"method\":\"get\",\"uri\":{}}}",
                    words(kind),
                    words(title),
                    words(detail),
                    words(uri)
                );
                (status(*code), [(header::CONTENT_TYPE, "application/json; charset=utf-8")], body).into_response()
            }
            Self::Kafka(code, name, message, extra) => {
                let mut body = json!({"message": message, "origin": "KafkaSSE", "name": name});
                if let (Some(fields), Some(extra)) = (body.as_object_mut(), extra.as_object()) {
                    fields.extend(extra.clone());
                    fields.insert("statusCode".into(), (*code).into());
                }
                (status(*code), format!("{body}\n")).into_response()
            }
        }
    }
}

/// A connection that is granted.
#[derive(Debug)]
pub struct Plan {
    /// Where it begins.
    pub cursor: Cursor,
    /// The id before the first event.
    pub id: Vec<SourcePosition>,
    /// Newline-delimited JSON instead of server-sent events.
    pub json: bool,
}

/// Checks a User-Agent as the edge does: there must be one, and it must not be a library's own.
///
/// # Errors
/// [`Refusal::Forbidden`].
pub fn check_agent(headers: &HeaderMap) -> Result<(), Refusal> {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or("");
    let is_library = LIBRARY_AGENTS.iter().any(|library| agent.starts_with(library));
    if agent.is_empty() || is_library { Err(Refusal::Forbidden) } else { Ok(()) }
}

/// Resolves what a request asks for.
///
/// # Errors
/// A [`Refusal`] in the service's order: stream names, `since`, `Last-Event-ID`.
pub fn plan(
    streams: &str,
    since: Option<&str>,
    headers: &HeaderMap,
    log: &Log,
    (cluster, connection): (Cluster, u64),
) -> Result<Plan, Refusal> {
    let unknown: Vec<&str> = streams.split(',').filter(|name| !is_known(name)).collect();
    if !unknown.is_empty() {
        let detail = format!("Invalid streams: {}", unknown.join(","));
        return Err(Refusal::Service(400, "not_found", "Stream Not Found", detail));
    }
    let since = since_ms(since)?;
    let wanted = sse_id::source_topics(streams);
    let json = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.starts_with("application/json"));
    let positions = match headers.get("last-event-id") {
        Some(id) => last_event_id(id.to_str().unwrap_or(""), &wanted)?,
        None => wanted.iter().map(|topic| position(topic, since)).collect(),
    };
    let mut from = vec![None; log.topics().len()];
    let mut id = Vec::new();
    for asked in positions {
        let index = log.topics().iter().position(|topic| *topic == asked.topic);
        let place = index.map(|index| match (asked.offset, asked.timestamp) {
            (Some(offset), _) => log.place_for_offset(index, offset, cluster),
            (None, Some(time)) => log.place_for_time(index, time, cluster),
            (None, None) => log.latest(index),
        });
        let offset = match (index, place) {
            // What was asked for by time starts with a real offset; the latest is −1.
            (Some(index), Some(place)) if asked.offset != Some(-1) => log.offset_at(index, place, cluster),
            _ => -1,
        };
        if let (Some(slot), Some(place)) = (index.and_then(|index| from.get_mut(index)), place) {
            *slot = Some(place);
        }
        id.push(SourcePosition { topic: asked.topic, partition: 0, offset: Some(offset), timestamp: None });
    }
    Ok(Plan { cursor: log.cursor(from, connection), id, json })
}

fn position(topic: &str, since: Option<i64>) -> SourcePosition {
    let offset = if since.is_some() { None } else { Some(-1) };
    SourcePosition { topic: topic.to_owned(), partition: 0, offset, timestamp: since }
}

fn is_known(stream: &str) -> bool {
    let full = ALIASES.iter().any(|alias| stream.strip_prefix("mediawiki.") == Some(alias));
    full || ALIASES.contains(&stream) || FULL_ONLY.contains(&stream)
}

/// `since`: a number is milliseconds, else ISO 8601; empty means the latest.
fn since_ms(since: Option<&str>) -> Result<Option<i64>, Refusal> {
    let Some(text) = since.filter(|text| !text.is_empty()) else { return Ok(None) };
    if let Ok(ms) = text.parse::<i64>() {
        return Ok(Some(ms));
    }
    let day = format!("{text}T00:00:00Z");
    let parsed = text.parse::<jiff::Timestamp>().or_else(|_| day.parse::<jiff::Timestamp>());
    parsed.map(|time| Some(time.as_millisecond())).map_err(|_| {
        let detail = format!("since timestamp is not a UTC milliseconds unix epoch and was not parseable: '{text}'");
        Refusal::Service(400, "invalid_timestamp", "Invalid timestamp", detail)
    })
}

/// Reads `Last-Event-ID`: a non-empty array of topic names or positions, all within the requested streams.
fn last_event_id(header: &str, available: &[String]) -> Result<Vec<SourcePosition>, Refusal> {
    let invalid = |message: &str| Refusal::Kafka(400, "InvalidAssignmentError", message.to_owned(), json!({}));
    let value: Value =
        serde_json::from_str(header).map_err(|_| invalid("Failed parsing assignments from Last-Event-ID header"))?;
    let entries = value
        .as_array()
        .filter(|entries| !entries.is_empty())
        .ok_or_else(|| invalid("Must provide a non empty array"))?;
    let mut positions = Vec::new();
    for entry in entries {
        let found = match entry {
            Value::String(topic) => position(topic, None),
            _ => {
                let parsed: SourcePosition = serde_json::from_value(entry.clone())
                    .map_err(|_| invalid("Must provide topic, partition and offset or timestamp"))?;
                if parsed.offset.is_none() && parsed.timestamp.is_none() {
                    return Err(invalid("Must provide topic, partition and offset or timestamp"));
                }
                parsed
            }
        };
        if !available.contains(&found.topic) {
            let message = format!("Topics {} are not available for consumption.", found.topic);
            return Err(Refusal::Kafka(404, "TopicNotAvailableError", message, json!({"availableTopics": available})));
        }
        positions.push(found);
    }
    Ok(positions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::{Generator, Making};

    const FIRST: (Cluster, u64) = (Cluster { is_second: false, lag: 0, held_seconds: None }, 0);

    fn log() -> Log {
        let mut log = Log::generated(Generator::new(1, 1_700_000_000_000, Making::default()), None, 3600);
        log.grow(200);
        log
    }

    fn headers(id: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("last-event-id", id.parse().unwrap());
        headers
    }

    fn code(result: Result<Plan, Refusal>) -> u16 {
        match result {
            Ok(_) => 200,
            Err(Refusal::Forbidden) => 403,
            Err(Refusal::Service(code, ..) | Refusal::Kafka(code, ..)) => code,
        }
    }

    #[test]
    fn refusals_have_the_services_codes() {
        let (log, none) = (log(), HeaderMap::new());
        assert_eq!(code(plan("recentchange", None, &none, &log, FIRST)), 200);
        assert_eq!(code(plan("recentchange,nonsense", None, &none, &log, FIRST)), 400);
        assert_eq!(code(plan("recentchange", Some("yesterday"), &none, &log, FIRST)), 400);
        assert_eq!(code(plan("recentchange", Some("2023-11-14"), &none, &log, FIRST)), 200);
        for bad in ["", "{}", "[]", "[5]", r#"[{"topic":"eqiad.mediawiki.recentchange","partition":0}]"#] {
            assert_eq!(code(plan("recentchange", None, &headers(bad), &log, FIRST)), 400, "{bad}");
        }
        let elsewhere = r#"[{"topic":"eqiad.x","partition":0,"timestamp":5}]"#;
        assert_eq!(code(plan("recentchange", None, &headers(elsewhere), &log, FIRST)), 404);
    }

    #[test]
    fn without_a_position_nothing_is_replayed() {
        let log = log();
        let granted = plan("recentchange", None, &HeaderMap::new(), &log, FIRST).unwrap();
        assert!(log.read(&mut granted.cursor.clone(), 10, FIRST.0).is_empty());
        assert!(granted.id.iter().all(|entry| entry.offset == Some(-1)));
    }

    #[test]
    fn a_topic_that_is_not_listed_is_not_served() {
        let log = log();
        let only_codfw = r#"[{"topic":"codfw.mediawiki.recentchange","partition":0,"timestamp":0}]"#;
        let granted = plan("recentchange", None, &headers(only_codfw), &log, FIRST).unwrap();
        let entries = log.read(&mut granted.cursor.clone(), 500, FIRST.0);
        assert!(!entries.is_empty() && entries.iter().all(|entry| entry.topic == 1));
    }
}
