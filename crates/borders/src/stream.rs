//! Bytes of the stream.

use std::collections::BTreeMap;

use ingest::arrival::{Reader, Routes, What};
use ingest::framer::{Framer, Frames};
use schema::record::{HeaderSource, RawHeaders};
use schema::sse_id;

/// Cuts the bytes at once and in pieces: what comes out is the same.
///
/// # Panics
/// Where it is not.
pub fn framer(bytes: &[u8]) {
    let (first, bytes) = bytes.split_first().map_or((0, bytes), |(first, rest)| (*first, rest));
    let mut whole = Frames::default();
    let mut framer = Framer::new();
    let ended = framer.push(bytes, &mut whole).is_err();
    let mut pieces = Frames::default();
    let mut other = Framer::new();
    let size = usize::from(first % 13) + 1;
    let cut = bytes.chunks(size).try_for_each(|piece| other.push(piece, &mut pieces)).is_err();
    assert_eq!(ended, cut);
    assert_eq!(whole.events, pieces.events);
    let beside = |frames: &Frames| frames.beside.iter().map(|beside| beside.what.clone()).collect::<Vec<_>>();
    assert_eq!(beside(&whole), beside(&pieces));
    assert_eq!(framer.is_inside(), other.is_inside());
    // What passes is safe for the parser behind it.
    assert!(std::str::from_utf8(&whole.events).is_ok());
    for unreadable in &whole.beside {
        let _ = unreadable.what.sse_id();
    }
}

/// Reads an event with the id before it: a place and a fate, whatever it is.
///
/// # Panics
/// Where what is kept could not be published, or not be read again.
pub fn event(bytes: &[u8]) {
    let (id, data) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (&[][..], bytes),
    };
    assert!(schema::event::agree(data), "the quick reader accepts what the full parser does not");
    let Ok(id) = std::str::from_utf8(id) else { return };
    let topic = "wikipedia-raw".to_owned();
    let routes = Routes {
        topic_of_type: BTreeMap::from([("edit".to_owned(), topic.clone())]),
        partitions: BTreeMap::from([(topic.clone(), 6)]),
        most_bytes: BTreeMap::from([(topic, 1 << 20)]),
    };
    let mut reader = Reader::new(routes);
    for _ in 0..2 {
        let arrival = reader.read(id.to_owned(), data.to_vec());
        assert!(!arrival.id.is_empty() && arrival.id.len() <= 256, "{}", arrival.id);
        let What::Keep(keep) = arrival.what else { continue };
        assert!((0..6).contains(&keep.partition));
        let headers = RawHeaders {
            id: arrival.id.as_str().into(),
            seq: 1,
            sse_id: arrival.sse_id.as_str().into(),
            received_at_ms: 2,
            backfill: false,
            base: None,
        };
        let written = Written(headers.to_headers("d", "s", "edit", "t"));
        assert_eq!(RawHeaders::read(&written).ok().as_ref(), Some(&headers));
    }
}

struct Written(Vec<schema::record::Header>);

impl HeaderSource for Written {
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_bytes())
    }
}

/// Reads an SSE id, its times, and writes it again.
///
/// # Panics
/// Where it is then another.
pub fn sse_id(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some(positions) = sse_id::parse(text) else { return };
    let _ = sse_id::log_time(&positions, None);
    for position in &positions {
        let _ = sse_id::log_time(&positions, Some(&position.topic));
    }
    assert_eq!(sse_id::parse(&sse_id::to_header(&positions)), Some(positions));
    let _ = sse_id::source_topics(text);
}
