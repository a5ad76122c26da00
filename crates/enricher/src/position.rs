//! Where a partition stands: which input comes next, which sequence number the next output has. Pure.

use schema::record::{EventHeaders, is_counted};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The position of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Offset of the next input.
    pub next_input: i64,
    /// Sequence number of the next output.
    pub next_seq: i64,
    /// Sequence number that the next input must have; `None` where the first one found is the base.
    pub expected_raw_seq: Option<i64>,
    /// The output's log was emptied and nothing is known: the next output says that its sequence continues behind it.
    pub is_base: bool,
}

/// Where the logs of a partition begin and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logs {
    /// First offset of the input.
    pub input_start: i64,
    /// Offset behind the last output.
    pub output_end: i64,
}

/// What stands in the metadata of a committed offset; one without it was set by someone else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    v: u32,
    seq: i64,
    raw_seq: Option<i64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    base: bool,
    /// The id of the raw topic: its offsets mean nothing in another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topic_id: Option<Uuid>,
}

const FORM: u32 = 1;

impl Note {
    /// Whether it is of this form, and its numbers can be counted on from: others may commit too.
    fn is_sound(&self) -> bool {
        self.v == FORM && is_counted(self.seq) && self.raw_seq.is_none_or(is_counted)
    }
}

impl Position {
    /// Works out the position from what is durable: the last output, and the committed offset with its metadata.
    /// The further one counts. Without either, the input begins at its log's start, and the output's sequence continues at
    /// the end of its own log: offsets only rise, so that it is above whatever the old one reached.
    ///
    /// A position before the input's start is set to it: what was deleted there may have been markers of transactions.
    /// The sequence number of the next input shows whether records are missing.
    #[must_use]
    pub fn recover(last_output: Option<&EventHeaders<'_>>, committed: Option<(i64, &str)>, logs: Logs) -> Self {
        let from_output = last_output.map(|last| Self {
            next_input: last.raw_offset + 1,
            next_seq: last.seq + 1,
            expected_raw_seq: Some(last.raw_seq + 1),
            is_base: false,
        });
        let from_offset = committed.and_then(|(offset, metadata)| {
            let note: Note = serde_json::from_str(metadata).ok().filter(Note::is_sound)?;
            let Note { seq: next_seq, raw_seq: expected_raw_seq, base: is_base, .. } = note;
            Some(Self { next_input: offset, next_seq, expected_raw_seq, is_base })
        });
        let beginning = Self {
            next_input: logs.input_start,
            next_seq: logs.output_end,
            // A log that is whole begins with 0; an aged one with whatever is left.
            expected_raw_seq: (logs.input_start == 0).then_some(0),
            is_base: logs.output_end > 0,
        };
        let found = match (from_output, from_offset) {
            (Some(output), Some(offset)) if offset.next_input > output.next_input => offset,
            (Some(output), _) => output,
            (None, Some(offset)) => offset,
            (None, None) => beginning,
        };
        Self { next_input: found.next_input.max(logs.input_start), ..found }
    }

    /// The id of the raw topic that the metadata of a committed offset names.
    #[must_use]
    pub fn topic_of(metadata: &str) -> Option<Uuid> {
        serde_json::from_str::<Note>(metadata).ok().filter(|note| note.v == FORM)?.topic_id
    }

    /// The metadata of a committed offset of the raw topic with this id.
    #[must_use]
    pub fn to_metadata(self, topic_id: Uuid) -> String {
        let (seq, raw_seq, base) = (self.next_seq, self.expected_raw_seq, self.is_base);
        let note = Note { v: FORM, seq, raw_seq, base, topic_id: Some(topic_id) };
        // Integers only: this cannot fail.
        serde_json::to_string(&note).unwrap_or_default()
    }

    /// The input at `offset` was handled; it gave an output or not.
    pub const fn pass(&mut self, offset: i64, raw_seq: Option<i64>, gave_output: bool) {
        // A repeat may lie far behind: it is done already, and says nothing new of the position.
        if offset >= self.next_input {
            self.next_input = offset + 1;
        }
        if let Some(raw_seq) = raw_seq {
            self.expected_raw_seq = Some(raw_seq + 1);
        }
        if gave_output {
            self.next_seq += 1;
            self.is_base = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC_ID: Uuid = Uuid::from_u128(7);
    const FRESH: Logs = Logs { input_start: 0, output_end: 0 };
    const AGED: Logs = Logs { input_start: 700, output_end: 0 };

    fn output(seq: i64, raw_offset: i64, raw_seq: i64) -> EventHeaders<'static> {
        EventHeaders { id: "e".into(), seq, raw_offset, raw_seq, received_at_ms: 0, base: None, mapping: 1 }
    }

    #[test]
    fn the_last_output_tells_where_to_go_on() {
        let position = Position::recover(Some(&output(9, 40, 12)), None, FRESH);
        assert_eq!(position, Position { next_input: 41, next_seq: 10, expected_raw_seq: Some(13), is_base: false });
    }

    #[test]
    fn inputs_without_output_are_told_by_the_committed_offset() {
        let mut position = Position::recover(Some(&output(9, 40, 12)), None, FRESH);
        position.pass(42, Some(13), false);
        let note = position.to_metadata(TOPIC_ID);
        assert_eq!(Position::recover(Some(&output(9, 40, 12)), Some((43, &note)), FRESH), position);
        // An older one than the last output counts for nothing.
        assert_eq!(Position::recover(Some(&output(30, 90, 44)), Some((43, &note)), FRESH).next_input, 91);
    }

    #[test]
    fn the_metadata_names_the_raw_topic_and_an_older_releases_does_not() {
        let note = Position::recover(None, None, FRESH).to_metadata(TOPIC_ID);
        assert_eq!(Position::topic_of(&note), Some(TOPIC_ID));
        let older = r#"{"v":1,"seq":10,"raw_seq":13}"#;
        assert_eq!((Position::topic_of(older), Position::topic_of("by hand")), (None, None));
        assert_eq!(Position::recover(None, Some((43, older)), FRESH).next_seq, 10);
    }

    #[test]
    fn an_operators_offset_is_never_trusted() {
        for metadata in ["", "{}", "reset by hand", r#"{"v":9,"seq":1,"raw_seq":1}"#] {
            let position = Position::recover(Some(&output(9, 40, 12)), Some((99, metadata)), FRESH);
            assert_eq!(position.next_input, 41, "{metadata}");
        }
    }

    #[test]
    fn a_whole_log_begins_with_0_and_an_aged_one_with_what_is_left() {
        assert_eq!(Position::recover(None, None, FRESH).expected_raw_seq, Some(0));
        let aged = Position::recover(None, None, AGED);
        assert_eq!((aged.next_input, aged.expected_raw_seq), (700, None));
        let note = aged.to_metadata(TOPIC_ID);
        let later = Position::recover(None, Some((700, &note)), AGED);
        assert_eq!(later.expected_raw_seq, None, "a note keeps it unknown");
    }

    #[test]
    fn a_repeat_does_not_set_the_position_back() {
        let mut position = Position::recover(None, None, FRESH);
        position.pass(0, Some(0), true);
        position.pass(7, Some(1), true);
        position.pass(0, None, false);
        assert_eq!((position.next_input, position.expected_raw_seq), (8, Some(2)));
    }

    #[test]
    fn behind_an_emptied_output_the_sequence_goes_on_at_its_end_and_says_so_once() {
        let emptied = Logs { input_start: 0, output_end: 90 };
        let mut position = Position::recover(None, None, emptied);
        assert_eq!((position.next_input, position.next_seq, position.is_base), (0, 90, true));
        position.pass(0, Some(0), false);
        let note = position.to_metadata(TOPIC_ID);
        assert!(Position::recover(None, Some((1, &note)), emptied).is_base, "no output has said it yet");
        position.pass(1, Some(1), true);
        assert_eq!((position.next_seq, position.is_base), (91, false));
    }

    #[test]
    fn a_position_before_the_inputs_start_is_set_to_it_and_the_sequence_tells_what_was_lost() {
        let emptied = Logs { input_start: 60, output_end: 90 };
        let position = Position::recover(Some(&output(9, 40, 12)), None, emptied);
        assert_eq!((position.next_input, position.expected_raw_seq), (60, Some(13)));
    }
}
