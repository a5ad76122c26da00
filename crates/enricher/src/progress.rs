//! Where a partition stands: which input comes next, which sequence number the next output has. Pure.

use schema::record::EventHeaders;
use serde::{Deserialize, Serialize};

/// The position of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Offset of the next input.
    pub next_input: i64,
    /// Sequence number of the next output.
    pub next_seq: i64,
    /// Sequence number that the next input must have; `None` where the first one found is the base.
    pub expected_raw_seq: Option<i64>,
}

/// What stands in the metadata of a committed offset; one without it was set by someone else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    v: u32,
    seq: i64,
    raw_seq: Option<i64>,
}

const FORM: u32 = 1;

/// What to do with an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is the next one.
    Take,
    /// It was handled before.
    Repeat,
    /// Some are missing before it.
    Hole,
}

impl Progress {
    /// Works out the position from what is durable: the last output, and the committed offset with its metadata.
    /// The further one counts. Without either, the partition begins at the log's start.
    #[must_use]
    pub fn recover(last_output: Option<&EventHeaders<'_>>, committed: Option<(i64, &str)>, log_start: i64) -> Self {
        let from_output = last_output.map(|last| Self {
            next_input: last.raw_offset + 1,
            next_seq: last.seq + 1,
            expected_raw_seq: Some(last.raw_seq + 1),
        });
        let from_offset = committed.and_then(|(offset, metadata)| {
            let note: Note = serde_json::from_str(metadata).ok().filter(|note: &Note| note.v == FORM)?;
            Some(Self { next_input: offset, next_seq: note.seq, expected_raw_seq: note.raw_seq })
        });
        let beginning = Self {
            next_input: log_start,
            next_seq: 0,
            // A log that is whole begins with 0; an aged one with whatever is left.
            expected_raw_seq: (log_start == 0).then_some(0),
        };
        match (from_output, from_offset) {
            (Some(output), Some(offset)) if offset.next_input > output.next_input => offset,
            (Some(output), _) => output,
            (None, Some(offset)) => offset,
            (None, None) => beginning,
        }
    }

    /// The metadata of a committed offset.
    #[must_use]
    pub fn to_metadata(self) -> String {
        let note = Note { v: FORM, seq: self.next_seq, raw_seq: self.expected_raw_seq };
        // Integers only: this cannot fail.
        serde_json::to_string(&note).unwrap_or_default()
    }

    /// What to do with an input of this sequence number.
    #[must_use]
    pub const fn step(&self, raw_seq: i64) -> Step {
        match self.expected_raw_seq {
            Some(expected) if raw_seq < expected => Step::Repeat,
            Some(expected) if raw_seq > expected => Step::Hole,
            Some(_) | None => Step::Take,
        }
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(seq: i64, raw_offset: i64, raw_seq: i64) -> EventHeaders<'static> {
        EventHeaders { id: "e".into(), seq, raw_offset, raw_seq, received_at_ms: 0 }
    }

    #[test]
    fn the_last_output_tells_where_to_go_on() {
        let progress = Progress::recover(Some(&output(9, 40, 12)), None, 0);
        assert_eq!(progress, Progress { next_input: 41, next_seq: 10, expected_raw_seq: Some(13) });
    }

    #[test]
    fn inputs_without_output_are_told_by_the_committed_offset() {
        let mut progress = Progress::recover(Some(&output(9, 40, 12)), None, 0);
        progress.pass(42, Some(13), false);
        let note = progress.to_metadata();
        assert_eq!(Progress::recover(Some(&output(9, 40, 12)), Some((43, &note)), 0), progress);
        // An older one than the last output counts for nothing.
        assert_eq!(Progress::recover(Some(&output(30, 90, 44)), Some((43, &note)), 0).next_input, 91);
    }

    #[test]
    fn an_operators_offset_is_never_trusted() {
        for metadata in ["", "{}", "reset by hand", r#"{"v":9,"seq":1,"raw_seq":1}"#] {
            let progress = Progress::recover(Some(&output(9, 40, 12)), Some((99, metadata)), 0);
            assert_eq!(progress.next_input, 41, "{metadata}");
        }
    }

    #[test]
    fn a_whole_log_begins_with_0_and_an_aged_one_with_what_is_left() {
        assert_eq!(Progress::recover(None, None, 0).step(1), Step::Hole);
        let aged = Progress::recover(None, None, 700);
        assert_eq!((aged.next_input, aged.step(650)), (700, Step::Take));
        let note = aged.to_metadata();
        assert_eq!(Progress::recover(None, Some((700, &note)), 700).step(650), Step::Take, "a note keeps it unknown");
    }

    #[test]
    fn lower_is_a_repeat_and_higher_a_hole() {
        let mut progress = Progress::recover(None, None, 0);
        assert_eq!(progress.step(0), Step::Take);
        progress.pass(0, Some(0), true);
        assert_eq!((progress.step(0), progress.step(1), progress.step(2)), (Step::Repeat, Step::Take, Step::Hole));
        assert_eq!(progress.next_seq, 1);
    }

    #[test]
    fn a_repeat_does_not_set_the_position_back() {
        let mut progress = Progress::recover(None, None, 0);
        progress.pass(0, Some(0), true);
        progress.pass(7, Some(1), true);
        progress.pass(0, None, false);
        assert_eq!((progress.next_input, progress.expected_raw_seq), (8, Some(2)));
    }
}
