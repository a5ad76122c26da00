//! What stands in topics, where others may write too.

use enricher::position::{Logs, Position};
use ingest::position::IngestState;
use schema::backfill::Backfill;
use schema::control::Word;
use schema::gap::Gap;
use schema::record::{EventHeaders, HeaderSource, RawHeaders, SeqBase};
use schema::{Edit, Mapping};
use sink::step::Input;
use uuid::Uuid;

/// Maps a raw record, and reads the edit that it gives.
///
/// # Panics
/// Where an edit that was written is read as another.
pub fn edit(bytes: &[u8]) {
    assert!(schema::mapping::agree(bytes), "the quick reader accepts what the full parser does not");
    let mapping = Mapping::new(&["edit".to_owned()]);
    if let Ok(Some(edit)) = mapping.enrich(bytes) {
        let json = edit.to_json();
        // One that holds what no table takes is refused.
        if let Ok(again) = Edit::from_json(&json) {
            assert_eq!(again, edit);
        }
        let _ = edit.into_owned();
    }
    if let Ok(edit) = Edit::from_json(bytes) {
        let again = edit.to_json();
        assert_eq!(Edit::from_json(&again).ok(), Some(edit));
    }
    let place = schema::event::without_place(bytes);
    assert!(place.len() <= bytes.len());
    let _ = schema::event::content_id(bytes);
}

/// Headers as a stranger would write them: `name=value` a line.
struct Headers<'a>(Vec<(&'a str, &'a [u8])>);

impl HeaderSource for Headers<'_> {
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
    }
}

/// Reads headers, and continues behind the record that has them.
///
/// # Panics
/// Where they cannot be written as they were read.
pub fn headers(bytes: &[u8]) {
    let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| {
        let at = line.iter().position(|byte| *byte == b'=')?;
        Some((std::str::from_utf8(&line[..at]).ok()?, &line[at + 1..]))
    });
    let headers = Headers(lines.collect());
    let _ = SeqBase::of(&headers);
    let _ = RawHeaders::read(&headers);
    let input = Input::read(5, b"{}", &headers);
    let _ = sink::step::judge(None, &input);
    let Ok(event) = EventHeaders::read(&headers) else { return };
    let mut position = Position::recover(Some(&event), None, Logs { input_start: 0, output_end: 0 });
    position.pass(event.raw_offset, Some(event.raw_seq), true);
    event.with_headers(|written| {
        let text = |value: &Option<&[u8]>| value.unwrap_or_default().to_vec();
        let owned: Vec<(&str, Vec<u8>)> = written.iter().map(|(name, value)| (*name, text(value))).collect();
        let again = Headers(owned.iter().map(|(name, value)| (*name, value.as_slice())).collect());
        assert_eq!(EventHeaders::read(&again).ok().as_ref(), Some(&event));
    });
}

/// Metadata of committed offsets: ingest's state, the enricher's note.
///
/// # Panics
/// Where what was read is written as something else.
pub fn metadata(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(mut state) = IngestState::parse(text) {
        assert_eq!(IngestState::parse(&state.to_text()), Some(state.clone()));
        let _ = state.to_metadata();
        for at in 0..state.sources.len() {
            let source = &state.sources[at];
            let _ = (source.needed_from(), source.reach(30_000), source.time(), source.name());
        }
        let _ = state.take_seq("wikipedia-raw", 0);
        state.summarise();
    }
    let _ = IngestState::is_in_record(text);
    let logs = Logs { input_start: 3, output_end: 4 };
    let mut position = Position::recover(None, Some((7, text)), logs);
    position.pass(9, Some(9), true);
    if let Some(topic) = Position::topic_of(text) {
        assert_eq!(Position::topic_of(&position.to_metadata(topic)), Some(topic));
    }
    let _ = position.to_metadata(Uuid::nil());
}

/// Words on the control topic, gaps and requests for backfill.
///
/// # Panics
/// Where what was read is written as something else.
pub fn words(bytes: &[u8]) {
    if let Ok(word) = Word::from_json(bytes) {
        assert!(Word::from_json(&word.to_json()).is_ok());
    }
    if let Ok(gap) = serde_json::from_slice::<Gap>(bytes) {
        let _ = gap.holds("eqiad.mediawiki.recentchange", 5, 5);
        let json = serde_json::to_vec(&gap).unwrap_or_default();
        assert_eq!(serde_json::from_slice::<Gap>(&json).ok(), Some(gap));
    }
    if let Ok(backfill) = serde_json::from_slice::<Backfill>(bytes) {
        let json = serde_json::to_vec(&backfill).unwrap_or_default();
        assert_eq!(serde_json::from_slice::<Backfill>(&json).ok(), Some(backfill));
    }
}
