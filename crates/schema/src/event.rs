//! An event as the stream sends it: just enough of it to know its kind, its id and its key.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::{Deserialize, Deserializer, de};
use sha2::{Digest, Sha256};

use crate::json::{self, Object, Quick, Reader, Unusual, put};
use crate::rejection::{MAX_NAME_BYTES, MAX_TITLE_BYTES, Rejection, bounded};

/// The domain of the artificial events that prove a data centre alive.
pub(crate) const CANARY_DOMAIN: &str = "canary";

/// A text of the source, borrowed where it holds no escape.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(transparent)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

#[derive(Debug, Default, Deserialize, PartialEq)]
struct Meta<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    domain: Option<Text<'a>>,
    #[serde(borrow)]
    stream: Option<Text<'a>>,
    #[serde(borrow)]
    dt: Option<Text<'a>>,
    offset: Option<i64>,
    partition: Option<i32>,
    #[serde(borrow)]
    topic: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
struct Source<'a> {
    #[serde(borrow)]
    meta: Meta<'a>,
    #[serde(borrow, default, rename = "type", deserialize_with = "event_type")]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    wiki: Option<Text<'a>>,
    #[serde(borrow)]
    title: Option<Text<'a>>,
}

impl<'a> Object<'a> for Meta<'a> {
    fn field(&mut self, name: &str, json: &mut Reader<'a>) -> Quick<Option<u32>> {
        Ok(Some(match name {
            "id" => put(&mut self.id, json.text_or_null()?.map(Text), 0),
            "domain" => put(&mut self.domain, json.text_or_null()?.map(Text), 1),
            "stream" => put(&mut self.stream, json.text_or_null()?.map(Text), 2),
            "dt" => put(&mut self.dt, json.text_or_null()?.map(Text), 3),
            "offset" => put(&mut self.offset, json.integer_or_null()?, 4),
            "partition" => {
                let partition = json.integer_or_null()?.map(i32::try_from).transpose();
                put(&mut self.partition, partition.map_err(|_| Unusual)?, 5)
            }
            "topic" => put(&mut self.topic, json.text_or_null()?.map(Text), 6),
            _ => return Ok(None),
        }))
    }
}

impl<'a> Object<'a> for Source<'a> {
    const REQUIRED: u64 = 1;

    fn field(&mut self, name: &str, json: &mut Reader<'a>) -> Quick<Option<u32>> {
        Ok(Some(match name {
            "meta" => put(&mut self.meta, json.object()?, 0),
            "type" => put(&mut self.kind, json.text_or_null()?.map(Text), 1),
            "wiki" => put(&mut self.wiki, json.text_or_null()?.map(Text), 2),
            "title" => put(&mut self.title, json.text_or_null()?.map(Text), 3),
            _ => return Ok(None),
        }))
    }
}

/// What the ingest service needs to know of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `meta.id`, or the hash of the bytes where there is none.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// `meta.dt` as received, empty where absent.
    pub dt: String,
    /// `meta.domain`, empty where absent.
    pub domain: String,
    /// `meta.stream`, empty where absent.
    pub stream: String,
    /// `meta.topic`, empty where absent.
    pub source_topic: String,
    /// `meta.partition`, 0 where absent.
    pub source_partition: i32,
    /// `meta.offset`: rises by 1 per source topic within one connection.
    pub offset: Option<i64>,
}

/// What an event is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A heartbeat of a data centre: `meta.domain` is `canary`. It has neither type nor title.
    Canary,
    /// A change, with its type and its record key.
    Change {
        /// `type` (`edit`, `new`, `log`, `categorize`, `142`, …); for streams without it, `meta.stream`.
        change_type: String,
        /// `wiki:title`.
        key: String,
    },
}

/// Reads an event's kind, id and key from its bytes.
///
/// # Errors
/// A [`Rejection`] where the bytes are not JSON of this shape; its id is [`content_id`] of the bytes.
pub fn read(bytes: &[u8]) -> Result<Event, Rejection> {
    let source: Source<'_> = json::read(bytes)?;
    let text = |field: Option<Text<'_>>| field.map_or_else(String::new, |text| text.0.into_owned());
    let Meta { id, domain, stream, dt, offset, partition, topic } = source.meta;
    let (domain, stream, topic, dt) = (text(domain), text(stream), text(topic), text(dt));
    let names = [("meta.domain", &domain), ("meta.stream", &stream), ("meta.topic", &topic), ("meta.dt", &dt)];
    names.into_iter().try_for_each(|(field, text)| bounded(field, text, MAX_NAME_BYTES))?;
    let short = [("meta.id", id.as_ref()), ("type", source.kind.as_ref()), ("wiki", source.wiki.as_ref())];
    let short = short.into_iter().filter_map(|(field, text)| Some((field, text?)));
    short.into_iter().try_for_each(|(field, text)| bounded(field, &text.0, MAX_NAME_BYTES))?;
    source.title.as_ref().map_or(Ok(()), |title| bounded("title", &title.0, MAX_TITLE_BYTES))?;
    let id = match id {
        Some(id) if !id.0.is_empty() => id.0.into_owned(),
        _ => content_id(bytes),
    };
    let kind = if domain == CANARY_DOMAIN {
        Kind::Canary
    } else {
        let wiki = source.wiki.as_ref().map_or(domain.as_str(), |wiki| &wiki.0);
        let title = source.title.as_ref().map_or("", |title| &title.0);
        let key = format!("{wiki}:{title}");
        let change_type = source.kind.map_or_else(|| stream.clone(), |kind| kind.0.into_owned());
        Kind::Change { change_type, key }
    };
    Ok(Event { id, kind, dt, domain, stream, source_topic: topic, source_partition: partition.unwrap_or(0), offset })
}

/// Whether the quick reader and the full parser agree on these bytes, as they have to: for tests.
#[must_use]
pub fn agree(bytes: &[u8]) -> bool {
    json::agree::<Source<'_>>(bytes)
}

/// An id made from the bytes themselves, for what has no `meta.id`.
///
/// What the server adds to `meta` is left out, so that one event has one id in every replay and every cluster.
#[must_use]
pub fn content_id(bytes: &[u8]) -> String {
    hash_id(&Sha256::digest(without_place(bytes)))
}

/// The id made of a SHA-256 of content.
#[must_use]
pub fn hash_id(digest: &[u8]) -> String {
    let mut id = String::with_capacity(71);
    id.push_str("sha256:");
    for byte in digest {
        // Writing to a String cannot fail.
        let _ = write!(id, "{byte:02x}");
    }
    id
}

/// An event's bytes without the place that the server wrote into `meta`: topic, partition, offset, key.
///
/// Inside a JSON string a quote is escaped, so that this sequence of fields is never a part of somebody's text.
#[must_use]
pub fn without_place(bytes: &[u8]) -> Cow<'_, [u8]> {
    let Some((start, end)) = place_in(bytes) else { return Cow::Borrowed(bytes) };
    let (before, behind) = (bytes.get(..start).unwrap_or_default(), bytes.get(end..).unwrap_or_default());
    Cow::Owned([before, behind].concat())
}

/// Where `"topic":"…","partition":N,"offset":N` begins, with its comma, and ends.
fn place_in(bytes: &[u8]) -> Option<(usize, usize)> {
    const TOPIC: &[u8] = b"\"topic\":\"";
    let mut from = 0;
    while let Some(at) = memchr::memmem::find(bytes.get(from..)?, TOPIC).map(|at| at + from) {
        from = at + TOPIC.len();
        let Some(end) = end_of_place(bytes, from) else { continue };
        let start = if at > 0 && bytes.get(at - 1) == Some(&b',') { at - 1 } else { at };
        return Some((start, end));
    }
    None
}

fn end_of_place(bytes: &[u8], topic: usize) -> Option<usize> {
    let after = |at: usize, text: &[u8]| bytes.get(at..)?.starts_with(text).then_some(at + text.len());
    let number = |at: usize| {
        let digits = bytes.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'-').count();
        (digits > 0).then_some(at + digits)
    };
    let quote = memchr::memchr(b'"', bytes.get(topic..)?)? + topic;
    let partition = number(after(quote, b"\",\"partition\":")?)?;
    let offset = number(after(partition, b",\"offset\":")?)?;
    // A key follows where the source record has one: a flat object or a text.
    match after(offset, b",\"key\":") {
        Some(key) => match bytes.get(key)? {
            b'{' => Some(memchr::memchr(b'}', bytes.get(key..)?)? + key + 1),
            b'"' => Some(memchr::memchr(b'"', bytes.get(key + 1..)?)? + key + 2),
            _ => Some(offset),
        },
        None => Some(offset),
    }
}

/// Reads `type`, which the schema of 2023 allows to be a number.
pub(crate) fn event_type<'de: 'a, 'a, D>(deserializer: D) -> Result<Option<Text<'a>>, D::Error>
where
    D: Deserializer<'de>,
{
    struct TypeVisitor;

    impl<'de> de::Visitor<'de> for TypeVisitor {
        type Value = Option<Text<'de>>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a string or an integer")
        }

        fn visit_borrowed_str<E: de::Error>(self, value: &'de str) -> Result<Self::Value, E> {
            Ok(Some(Text(Cow::Borrowed(value))))
        }

        fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
            Ok(Some(Text(Cow::Owned(value.to_owned()))))
        }

        fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
            Ok(Some(Text(Cow::Owned(value.to_string()))))
        }

        fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
            Ok(Some(Text(Cow::Owned(value.to_string()))))
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
    }

    deserializer.deserialize_any(TypeVisitor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reason;

    fn change(change_type: &str, key: &str) -> Kind {
        Kind::Change { change_type: change_type.into(), key: key.into() }
    }

    #[test]
    fn a_change_is_keyed_by_wiki_and_title() {
        let event = read(br#"{"meta":{"id":"a","domain":"d"},"type":"edit","wiki":"enwiki","title":"A:B"}"#);
        assert_eq!(event.unwrap().kind, change("edit", "enwiki:A:B"));
    }

    #[test]
    fn a_numeric_type_is_its_digits_and_null_is_none() {
        let event = read(br#"{"meta":{"id":"a","domain":"d"},"type":142,"wiki":"w","title":"t"}"#);
        assert_eq!(event.unwrap().kind, change("142", "w:t"));
        let event = read(br#"{"meta":{"id":"a","domain":"d","stream":"s"},"type":null}"#);
        assert_eq!(event.unwrap().kind, change("s", "d:"));
    }

    #[test]
    fn a_canary_needs_only_its_domain() {
        let event = read(br#"{"$schema":"x","meta":{"domain":"canary","stream":"s","id":"c"}}"#).unwrap();
        assert_eq!(event.kind, Kind::Canary);
    }

    #[test]
    fn without_an_id_the_bytes_name_themselves() {
        let bytes = br#"{"meta":{"domain":"d"},"type":"edit"}"#;
        let first = read(bytes).unwrap().id;
        assert!(first.starts_with("sha256:") && first.len() == 71, "{first}");
        assert_eq!(first, read(bytes).unwrap().id);
    }

    #[test]
    fn an_id_of_content_is_the_same_wherever_the_server_read_the_event() {
        let event =
            |place: &str| format!(r#"{{"meta":{{"domain":"d"{place}}},"type":"edit","title":"\"topic\":\"x"}}"#);
        let id = |place: &str| content_id(event(place).as_bytes());
        let bare = id("");
        assert_eq!(id(r#","topic":"eqiad.s","partition":0,"offset":7"#), bare);
        assert_eq!(id(r#","topic":"codfw.s","partition":1,"offset":-1,"key":{"wiki_id":"a"}"#), bare);
        assert_ne!(id(r#","topic":"codfw.s","partition":1"#), bare, "another shape is content");
    }

    #[test]
    fn what_cannot_be_read_has_a_reason() {
        let reason = |bytes: &[u8]| read(bytes).unwrap_err().reason;
        assert_eq!(reason(b"\xff"), Reason::InvalidUtf8);
        assert_eq!(reason(b"{\"meta\":"), Reason::InvalidJson);
        assert_eq!(reason(b"[]"), Reason::WrongShape);
        assert_eq!(reason(br#"{"meta":{"id":5}}"#), Reason::WrongShape);
        assert_eq!(reason(br#"{"meta":{},"title":"\ud800"}"#), Reason::InvalidJson);
        assert_eq!(reason(br#"{"meta":{},"title":"a","title":"b"}"#), Reason::WrongShape);
        assert_eq!(reason("[".repeat(100_000).as_bytes()), Reason::TooDeep);
    }
}
