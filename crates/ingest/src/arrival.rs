//! One event as it arrived: what it is, its source topic, and its log time. Pure.

use std::collections::BTreeMap;

use schema::event::{self, Kind};
use schema::record::partition_of;
use schema::sse_id::{self, SourcePosition};
use schema::{Reason, Rejection};

use crate::framer::Unreadable;
use crate::window::IdKey;

/// The place of an event in the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Source topic; empty where it is unknown.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// `meta.offset`.
    pub offset: Option<i64>,
    /// Log time in Unix milliseconds, from the source's own entry in the SSE id.
    pub time_ms: Option<i64>,
}

/// What becomes of an event that is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A raw record.
    Keep(Keep),
    /// A dead letter.
    Reject(Rejection),
    /// A heartbeat of a data centre.
    Canary,
    /// A change of a type that is not kept.
    Filtered(String),
}

/// What a raw record is made of, beside the event's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Raw topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Record key.
    pub key: String,
    /// `type`.
    pub change_type: String,
    /// `meta.domain`, `meta.stream` and `meta.dt`.
    pub meta: [String; 3],
}

/// An event of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// `meta.id`, or the hash of the content.
    pub id: String,
    /// The same in 16 bytes.
    pub key: IdKey,
    /// Its place.
    pub place: Place,
    /// What becomes of it.
    pub what: What,
    /// The SSE id as received.
    pub sse_id: String,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// Which types go where.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// Raw topic of each type that is kept.
    pub topic_of_type: BTreeMap<String, String>,
    /// Partitions of each raw topic.
    pub partitions: BTreeMap<String, i32>,
    /// Bytes of the longest event that each raw topic takes.
    pub most_bytes: BTreeMap<String, usize>,
}

/// Reads the events of one connection.
#[derive(Clone, Debug)]
pub struct Reader {
    routes: Routes,
    /// The id before: the server changes the entry of the event's own topic.
    previous: Vec<SourcePosition>,
}

impl Reader {
    /// At the beginning of a connection.
    #[must_use]
    pub const fn new(routes: Routes) -> Self {
        Self { routes, previous: Vec::new() }
    }

    /// Reads an event.
    pub fn read(&mut self, sse_id: String, data: Vec<u8>) -> Arrival {
        let ids = sse_id::parse(&sse_id).unwrap_or_default();
        let (id, named, offset, what) = match event::read(&data) {
            Ok(event) => {
                let what = self.what(&event, data.len());
                (event.id, Some((event.source_topic, event.source_partition)), event.offset, what)
            }
            Err(rejection) => (event::content_id(&data), None, None, What::Reject(rejection)),
        };
        let place = self.place(ids, named, offset);
        Arrival { key: IdKey::of(&id), id, place, what, sse_id, data }
    }

    /// Takes what no event can be made of: too long, or not UTF-8.
    pub fn unreadable(&mut self, unreadable: Unreadable) -> Arrival {
        let sse_id = unreadable.sse_id();
        let Unreadable { oversized, length, id, head } = unreadable;
        let rejection = if oversized {
            Rejection::new(Reason::Oversized, format!("{length} bytes, {id}; the value is its beginning"))
        } else {
            Rejection::new(Reason::InvalidUtf8, format!("the event is not UTF-8; {id}"))
        };
        let place = self.place(sse_id::parse(&sse_id).unwrap_or_default(), None, None);
        Arrival { key: IdKey::of(&id), id, place, what: What::Reject(rejection), sse_id, data: head }
    }

    fn what(&self, event: &event::Event, length: usize) -> What {
        let (change_type, key) = match &event.kind {
            Kind::Canary => return What::Canary,
            Kind::Change { change_type, key } => (change_type, key),
        };
        let Some(topic) = self.routes.topic_of_type.get(change_type) else {
            return What::Filtered(change_type.clone());
        };
        let most = self.routes.most_bytes.get(topic).copied().unwrap_or(usize::MAX);
        if length > most {
            let why = format!("{length} bytes, and {topic} takes {most} (max.message.bytes, without headers)");
            return What::Reject(Rejection::new(Reason::Oversized, why));
        }
        let partitions = self.routes.partitions.get(topic).copied().unwrap_or(1);
        What::Keep(Keep {
            topic: topic.clone(),
            partition: partition_of(key.as_bytes(), partitions),
            key: key.clone(),
            change_type: change_type.clone(),
            meta: [event.domain.clone(), event.stream.clone(), event.dt.clone()],
        })
    }

    /// The event names its topic itself. Otherwise it belongs to the topic whose entry in the id changed.
    fn place(&mut self, ids: Vec<SourcePosition>, named: Option<(String, i32)>, offset: Option<i64>) -> Place {
        let own = named.as_ref().and_then(|(topic, partition)| {
            ids.iter().find(|entry| entry.topic == *topic && entry.partition == *partition)
        });
        let entry = own.or_else(|| self.changed(&ids));
        let place = entry.map(|entry| Place {
            topic: entry.topic.clone(),
            partition: entry.partition,
            offset: own.and(offset),
            time_ms: entry.timestamp.map(|time| time.saturating_sub(1)),
        });
        self.previous = ids;
        place.unwrap_or_default()
    }

    /// The one entry that could have changed with this event.
    fn changed<'a>(&self, ids: &'a [SourcePosition]) -> Option<&'a SourcePosition> {
        let timed = || ids.iter().filter(|entry| entry.timestamp.is_some());
        let mut candidates = timed().filter(|entry| !self.previous.contains(entry));
        match (candidates.next(), candidates.next()) {
            (Some(one), None) => Some(one),
            _ if timed().count() == 1 => timed().next(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader() -> Reader {
        let topic_of_type = BTreeMap::from([("edit".to_owned(), "raw".to_owned())]);
        let partitions = BTreeMap::from([("raw".to_owned(), 6)]);
        Reader::new(Routes { topic_of_type, partitions, most_bytes: BTreeMap::from([("raw".to_owned(), 1_000)]) })
    }

    fn id(a: i64, b: i64) -> String {
        sse_id::to_header(&[sse_id::by_time("a.s", 0, a), sse_id::by_time("b.s", 0, b)])
    }

    #[test]
    fn an_event_has_the_topic_of_its_own_meta_and_the_time_of_its_own_entry() {
        let data =
            br#"{"meta":{"id":"x","topic":"b.s","partition":0,"offset":7},"type":"edit","wiki":"w","title":"t"}"#;
        let arrival = reader().read(id(900, 51), data.to_vec());
        assert_eq!(
            arrival.place,
            Place { topic: "b.s".into(), partition: 0, offset: Some(7), time_ms: Some(50) },
            "the other data centre's later time is not its own"
        );
        assert!(matches!(arrival.what, What::Keep(keep) if keep.topic == "raw" && keep.key == "w:t"));
    }

    #[test]
    fn an_event_that_names_no_topic_has_the_topic_whose_entry_changed() {
        let mut reader = reader();
        reader.read(id(10, 20), b"{".to_vec());
        let arrival = reader.read(id(10, 21), b"{".to_vec());
        assert_eq!((arrival.place.topic.as_str(), arrival.place.time_ms), ("b.s", Some(20)));
        let arrival = reader.read(id(10, 21), b"{".to_vec());
        assert_eq!(arrival.place, Place::default(), "no entry changed: the topic is unknown");
    }

    #[test]
    fn an_event_that_its_topic_does_not_take_is_rejected() {
        let event = |bytes: usize| {
            let start = r#"{"meta":{"id":"x"},"type":"edit","wiki":"w","title":"t","pad":""#;
            let pad = "x".repeat(bytes - start.len() - 2);
            reader().read(id(1, 2), format!("{start}{pad}\"}}").into_bytes()).what
        };
        assert!(matches!(event(1_000), What::Keep(_)));
        assert!(matches!(event(1_001), What::Reject(Rejection { reason: Reason::Oversized, .. })));
    }

    #[test]
    fn what_is_not_kept_says_why() {
        let what = |data: &str| reader().read(id(1, 2), data.as_bytes().to_vec()).what;
        assert_eq!(what(r#"{"meta":{"domain":"canary"}}"#), What::Canary);
        assert_eq!(what(r#"{"meta":{},"type":"log"}"#), What::Filtered("log".into()));
        assert!(matches!(what("{"), What::Reject(_)));
    }
}
